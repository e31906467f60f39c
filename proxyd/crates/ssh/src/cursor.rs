//! Bounds-checked reader and writer of the data types of SSH (RFC 4251 section 5).

use crate::error::{DecodeError, DecodeKind};
use crate::limits::{MPINT_BYTES_MAX, NAME_BYTES_MAX, NAME_LIST_BYTES_MAX, NAME_LIST_NAMES_MAX};

/// Reads fields from the front of a message; every read names its field, for the error.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
    offset: usize,
}

impl<'a> Reader<'a> {
    /// Starts at the first byte of `bytes`; offsets in errors count from there.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, offset: 0 }
    }

    /// One byte.
    pub fn u8(&mut self, field: &'static str) -> Result<u8, DecodeError> {
        self.array::<1>(field).map(|[byte]| byte)
    }

    /// One byte, of which every value but zero is true (RFC 4251 section 5).
    pub fn bool(&mut self, field: &'static str) -> Result<bool, DecodeError> {
        self.u8(field).map(|byte| byte != 0)
    }

    /// Four bytes, most significant first.
    pub fn u32(&mut self, field: &'static str) -> Result<u32, DecodeError> {
        self.array(field).map(u32::from_be_bytes)
    }

    /// Eight bytes, most significant first.
    pub fn u64(&mut self, field: &'static str) -> Result<u64, DecodeError> {
        self.array(field).map(u64::from_be_bytes)
    }

    /// Arbitrary bytes after their length as `u32`; bounded by the input, never copied.
    pub fn string(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let start = self.clone();
        let length = usize::try_from(self.u32(field)?).unwrap_or(usize::MAX);
        self.take(field, length).inspect_err(|_error| *self = start)
    }

    /// Comma-separated names as a string; empty names, long names and long lists are refused.
    pub fn name_list(&mut self, field: &'static str) -> Result<NameList<'a>, DecodeError> {
        let offset = self.offset;
        let text = self.string(field)?;
        NameList::parse(text).map_err(|kind| DecodeError { field, offset, kind })
    }

    /// A number that is not negative, in its shortest form; the bytes come without the sign byte.
    pub fn mpint(&mut self, field: &'static str) -> Result<&'a [u8], DecodeError> {
        let offset = self.offset;
        let bytes = self.string(field)?;
        unsigned(bytes).map_err(|kind| DecodeError { field, offset, kind })
    }

    /// Exactly `N` bytes.
    pub fn array<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], DecodeError> {
        let Some((head, rest)) = self.rest.split_first_chunk::<N>() else {
            return Err(self.truncated(field, N));
        };
        self.rest = rest;
        self.offset += N;
        Ok(*head)
    }

    /// Exactly `length` bytes.
    pub fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], DecodeError> {
        let Some((head, rest)) = self.rest.split_at_checked(length) else {
            return Err(self.truncated(field, length));
        };
        self.rest = rest;
        self.offset += length;
        Ok(head)
    }

    /// Everything that has not been read, which then counts as read.
    pub fn rest(&mut self) -> &'a [u8] {
        let rest = std::mem::take(&mut self.rest);
        self.offset += rest.len();
        rest
    }

    /// Bytes read so far, which is where the next field starts.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// Whether nothing is left to read.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Ends the message; fails if bytes are left.
    pub const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let kind = DecodeKind::Trailing { left: self.rest.len() };
        Err(DecodeError { field: "end of message", offset: self.offset, kind })
    }

    const fn truncated(&self, field: &'static str, needed: usize) -> DecodeError {
        let kind = DecodeKind::Truncated { needed, left: self.rest.len() };
        DecodeError { field, offset: self.offset, kind }
    }
}

/// A checked name-list (RFC 4251 section 5), in the order of preference of whoever sent it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameList<'a>(&'a [u8]);

impl<'a> NameList<'a> {
    /// Checks the text of a name-list, which comes without its length.
    ///
    /// One comma too many at the end is passed over: libssh 0.10 sends it.
    pub fn parse(text: &'a [u8]) -> Result<Self, DecodeKind> {
        if text.len() > NAME_LIST_BYTES_MAX {
            return Err(DecodeKind::TooLong { length: text.len(), limit: NAME_LIST_BYTES_MAX });
        }
        let text = text.strip_suffix(b",").unwrap_or(text);
        for (index, name) in Self(text).iter().enumerate() {
            if index >= NAME_LIST_NAMES_MAX {
                return Err(DecodeKind::TooManyNames { limit: NAME_LIST_NAMES_MAX });
            }
            let legal = (1..=NAME_BYTES_MAX).contains(&name.len());
            if !legal || !name.iter().all(u8::is_ascii_graphic) {
                return Err(DecodeKind::BadName { index });
            }
        }
        Ok(Self(text))
    }

    /// The names in order; an empty list has none.
    pub fn iter(self) -> impl Iterator<Item = &'a [u8]> {
        let some = !self.0.is_empty();
        self.0.split(|&byte| byte == b',').filter(move |_name| some)
    }

    /// Whether `name` is in the list.
    #[must_use]
    pub fn contains(self, name: &[u8]) -> bool {
        self.iter().any(|listed| listed == name)
    }

    /// The first name, which the sender prefers.
    #[must_use]
    pub fn first(self) -> Option<&'a [u8]> {
        self.iter().next()
    }

    /// The names joined by commas, as on the wire without the length.
    #[must_use]
    pub const fn as_bytes(self) -> &'a [u8] {
        self.0
    }
}

/// Builds a message field by field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writer(Vec<u8>);

impl Writer {
    /// An empty message.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// A message that starts with its number.
    #[must_use]
    pub fn message(number: u8) -> Self {
        Self(vec![number])
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) -> &mut Self {
        self.0.push(value);
        self
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) -> &mut Self {
        self.u8(u8::from(value))
    }

    /// Four bytes, most significant first.
    pub fn u32(&mut self, value: u32) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Eight bytes, most significant first.
    pub fn u64(&mut self, value: u64) -> &mut Self {
        self.raw(&value.to_be_bytes())
    }

    /// Bytes after their length as `u32`.
    pub fn string(&mut self, value: &[u8]) -> &mut Self {
        self.length(value.len()).raw(value)
    }

    /// Names joined by commas, as a string.
    pub fn name_list<N: AsRef<[u8]>>(&mut self, names: &[N]) -> &mut Self {
        let mut text = Vec::new();
        for (index, name) in names.iter().enumerate() {
            if index > 0 {
                text.push(b',');
            }
            text.extend_from_slice(name.as_ref());
        }
        self.string(&text)
    }

    /// An unsigned number given most significant byte first, in any length, as the shortest mpint.
    pub fn mpint(&mut self, magnitude: &[u8]) -> &mut Self {
        let zeros = magnitude.iter().take_while(|&&byte| byte == 0).count();
        let digits = magnitude.get(zeros..).unwrap_or_default();
        // A set top bit would read as a minus sign.
        if digits.first().is_some_and(|&byte| byte >= SIGN_BIT) {
            self.length(digits.len() + 1).u8(0).raw(digits)
        } else {
            self.string(digits)
        }
    }

    /// Bytes as they are, without a length.
    pub fn raw(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// What was written so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What was written.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    fn length(&mut self, bytes: usize) -> &mut Self {
        // Nothing of 4 GiB can be sent: the leg refuses such a message by its own, lower limit.
        self.u32(u32::try_from(bytes).unwrap_or(u32::MAX))
    }
}

/// The bit of an mpint's first byte that makes it negative (RFC 4251 section 5).
const SIGN_BIT: u8 = 0x80;

/// The digits of an mpint that is not negative and in its shortest form, given without its length.
pub(crate) fn unsigned(bytes: &[u8]) -> Result<&[u8], DecodeKind> {
    if bytes.len() > MPINT_BYTES_MAX {
        return Err(DecodeKind::TooLong { length: bytes.len(), limit: MPINT_BYTES_MAX });
    }
    match bytes {
        [0, digits @ ..] if digits.first().is_some_and(|&byte| byte >= SIGN_BIT) => Ok(digits),
        [0 | SIGN_BIT.., ..] => Err(DecodeKind::BadMpint),
        _ => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn numbers_are_read_in_network_order() {
        let bytes = [7, 2, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 9];
        let mut reader = Reader::new(&bytes);
        assert_eq!(reader.u8("a"), Ok(7));
        assert_eq!(reader.bool("b"), Ok(true));
        assert_eq!(reader.u32("c"), Ok(0x0102));
        assert_eq!(reader.u64("d"), Ok(0x0304));
        assert_eq!(reader.offset(), 14);
        assert_eq!(reader.rest(), [9]);
        assert_eq!(reader.finish(), Ok(()));
    }

    #[test]
    fn every_field_cut_at_every_byte_is_truncated_and_names_its_place() {
        let mut writer = Writer::message(1);
        writer.bool(true).u32(2).u64(3).string(b"four").name_list(&["five", "six"]).mpint(&[0xff]);
        let whole = writer.into_bytes();
        let read = |bytes: &[u8]| {
            let mut reader = Reader::new(bytes);
            reader.u8("u8")?;
            reader.bool("bool")?;
            reader.u32("u32")?;
            reader.u64("u64")?;
            reader.string("string")?;
            reader.name_list("names")?;
            reader.mpint("mpint")?;
            reader.finish()
        };
        assert_eq!(read(&whole), Ok(()));
        for length in 0..whole.len() {
            let error = read(&whole[..length]).unwrap_err();
            assert!(matches!(error.kind, DecodeKind::Truncated { .. }), "cut at {length}: {error}");
            assert!(error.offset <= length, "cut at {length}: {error}");
        }
        let longer = [whole.as_slice(), &[0]].concat();
        let trailing = DecodeKind::Trailing { left: 1 };
        assert_eq!(read(&longer).unwrap_err().kind, trailing);
    }

    #[test]
    fn a_string_longer_than_its_input_allocates_nothing_and_fails() {
        let error = Reader::new(&[0xff, 0xff, 0xff, 0xff, 1]).string("data").unwrap_err();
        let kind = DecodeKind::Truncated { needed: 0xffff_ffff, left: 1 };
        assert_eq!(error, DecodeError { field: "data", offset: 4, kind });
    }

    #[test]
    fn name_lists() {
        let long_name = "n".repeat(NAME_BYTES_MAX + 1);
        let many = vec!["a"; NAME_LIST_NAMES_MAX + 1].join(",");
        let long = vec!["n".repeat(NAME_BYTES_MAX); 200].join(",");
        let too_long = DecodeKind::TooLong { length: long.len(), limit: NAME_LIST_BYTES_MAX };
        let cases: [(&str, &str, Result<usize, DecodeKind>); 13] = [
            ("empty", "", Ok(0)),
            ("one", "zlib", Ok(1)),
            ("two", "zlib,none", Ok(2)),
            ("leading comma", ",a", Err(DecodeKind::BadName { index: 0 })),
            ("trailing comma", "a,", Ok(1)),
            ("lone comma", ",", Ok(0)),
            ("trailing commas", "a,,", Err(DecodeKind::BadName { index: 1 })),
            ("comma too many within", "a,,b", Err(DecodeKind::BadName { index: 1 })),
            ("nul", "a,b\0", Err(DecodeKind::BadName { index: 1 })),
            ("not ascii", "é", Err(DecodeKind::BadName { index: 0 })),
            ("long name", &long_name, Err(DecodeKind::BadName { index: 0 })),
            ("many names", &many, Err(DecodeKind::TooManyNames { limit: NAME_LIST_NAMES_MAX })),
            ("long list", &long, Err(too_long)),
        ];
        for (case, text, expected) in cases {
            let parsed = NameList::parse(text.as_bytes());
            assert_eq!(parsed.map(|list| list.iter().count()), expected, "{case}");
        }
        let list = NameList::parse(b"zlib,none").unwrap();
        assert!(list.contains(b"none") && !list.contains(b"non") && !list.contains(b""));
        assert_eq!(list.first(), Some(b"zlib".as_slice()));
    }

    /// The non-negative examples of RFC 4251 section 5, and what is not canonical.
    #[test]
    fn mpints() {
        type Case = (&'static str, &'static [u8], Result<&'static [u8], DecodeKind>);
        let cases: [Case; 9] = [
            ("zero", &[], Ok(&[])),
            ("positive", &[0x09, 0xa3, 0x78], Ok(&[0x09, 0xa3, 0x78])),
            ("top bit", &[0x00, 0x80], Ok(&[0x80])),
            ("zero as a byte", &[0x00], Err(DecodeKind::BadMpint)),
            ("padded", &[0x00, 0x7f], Err(DecodeKind::BadMpint)),
            ("padded twice", &[0x00, 0x00, 0x80], Err(DecodeKind::BadMpint)),
            ("negative", &[0xed, 0xcc], Err(DecodeKind::BadMpint)),
            ("smallest negative", &[0x80], Err(DecodeKind::BadMpint)),
            ("minus one", &[0xff], Err(DecodeKind::BadMpint)),
        ];
        for (case, body, expected) in cases {
            let mut writer = Writer::new();
            let bytes = writer.string(body).as_bytes().to_vec();
            let read = Reader::new(&bytes).mpint("n");
            assert_eq!(read.map_err(|error| error.kind), expected, "{case}");
            if let Ok(digits) = expected {
                assert_eq!(Writer::new().mpint(digits).as_bytes(), bytes, "{case}");
            }
        }
        let mut writer = Writer::new();
        let huge = writer.string(&[1; MPINT_BYTES_MAX + 1]).as_bytes().to_vec();
        let limit = DecodeKind::TooLong { length: MPINT_BYTES_MAX + 1, limit: MPINT_BYTES_MAX };
        assert_eq!(Reader::new(&huge).mpint("n").unwrap_err().kind, limit);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            number: u32,
            text in vec(any::<u8>(), 0..64),
            magnitude in vec(any::<u8>(), 0..64),
        ) {
            let mut writer = Writer::new();
            writer.u32(number).string(&text).mpint(&magnitude);
            let bytes = writer.into_bytes();
            let mut reader = Reader::new(&bytes);
            assert_eq!(reader.u32("number"), Ok(number));
            assert_eq!(reader.string("text"), Ok(text.as_slice()));
            let digits = reader.mpint("magnitude").unwrap();
            assert!(magnitude.ends_with(digits));
            assert!(magnitude[..magnitude.len() - digits.len()].iter().all(|&byte| byte == 0));
            assert_eq!(reader.finish(), Ok(()));
        }
    }
}
