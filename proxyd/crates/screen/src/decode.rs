//! Bytes to text: UTF-8 that arrives in any pieces.

use std::borrow::Cow;
use std::mem;

/// Makes text of bytes; what is not UTF-8 becomes U+FFFD.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decoder {
    /// The first bytes of a character whose others have not come; at most three.
    held: Vec<u8>,
}

impl Decoder {
    /// The text of the next bytes. How they are cut into pieces changes nothing in the whole.
    pub(crate) fn decode<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, str> {
        if self.held.is_empty()
            && let Ok(text) = str::from_utf8(bytes)
        {
            return Cow::Borrowed(text);
        }
        let mut whole = mem::take(&mut self.held);
        whole.extend_from_slice(bytes);
        let mut text = String::with_capacity(whole.len());
        let mut chunks = whole.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let invalid = chunk.invalid();
            if chunks.peek().is_none() && is_cut(invalid) {
                self.held = invalid.to_vec();
            } else if !invalid.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        Cow::Owned(text)
    }

    /// Whether bytes of an unfinished character are held.
    pub(crate) const fn is_within_character(&self) -> bool {
        !self.held.is_empty()
    }
}

/// Whether more bytes could make a character of these.
fn is_cut(bytes: &[u8]) -> bool {
    str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::Decoder;

    #[test]
    fn invalid_bytes_are_replaced() {
        let cases: [(&str, &[u8], &str); 8] = [
            ("nothing", b"", ""),
            ("plain", b"abc", "abc"),
            ("all lengths", "aé€😀".as_bytes(), "aé€😀"),
            ("no lead byte", b"a\x80b", "a\u{fffd}b"),
            ("unfinished inside", b"a\xe2\x82b", "a\u{fffd}b"),
            ("unfinished twice", b"\xe2\xe2\x82\xac", "\u{fffd}€"),
            ("surrogate", b"\xed\xa0\x80", "\u{fffd}\u{fffd}\u{fffd}"),
            ("overlong", b"\xc0\xaf", "\u{fffd}\u{fffd}"),
        ];
        for (name, bytes, expected) in cases {
            assert_eq!(Decoder::default().decode(bytes), expected, "{name}");
        }
    }

    #[test]
    fn a_character_waits_for_its_last_byte() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.decode(b"a\xf0\x9f"), "a");
        assert!(decoder.is_within_character());
        assert_eq!(decoder.decode(b"\x98"), "");
        assert_eq!(decoder.decode(b"\x80b"), "😀b");
        assert!(!decoder.is_within_character());
    }

    proptest! {
        #[test]
        fn pieces_make_the_same_text(bytes in vec(any::<u8>(), 0..64), cut in 1_usize..9) {
            let mut decoder = Decoder::default();
            let pieces = bytes.chunks(cut);
            let mut text: String = pieces.map(|piece| decoder.decode(piece)).collect();
            if decoder.is_within_character() {
                text.push('\u{fffd}');
            }
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }
    }
}
