//! Bounds-checked reading and writing of the format's fields; every read names its field.
use std::io::{self, Read};

use crate::error::{FieldError, TrailError};

/// Reads big-endian fields from a byte slice and knows how far it came.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Cursor<'a> {
    /// Starts at byte 0 of `bytes`.
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// Bytes read so far, counted from the start of the outermost slice.
    pub(crate) const fn offset(&self) -> usize {
        self.offset
    }

    /// Whether all bytes were read.
    pub(crate) const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The next `count` bytes.
    pub(crate) fn take(
        &mut self,
        field: &'static str,
        count: usize,
    ) -> Result<&'a [u8], FieldError> {
        let Some((taken, rest)) = self.bytes.split_at_checked(count) else {
            return Err(self.truncated(field, count));
        };
        self.bytes = rest;
        self.offset += count;
        Ok(taken)
    }

    /// The next `count` bytes as a cursor of their own, whose offsets go on from this one's.
    pub(crate) fn nested(&mut self, field: &'static str, count: usize) -> Result<Self, FieldError> {
        let offset = self.offset;
        Ok(Self { bytes: self.take(field, count)?, offset })
    }

    /// The next `N` bytes.
    pub(crate) fn array<const N: usize>(
        &mut self,
        field: &'static str,
    ) -> Result<[u8; N], FieldError> {
        let Some((taken, rest)) = self.bytes.split_first_chunk::<N>() else {
            return Err(self.truncated(field, N));
        };
        self.bytes = rest;
        self.offset += N;
        Ok(*taken)
    }

    /// One byte.
    pub(crate) fn u8(&mut self, field: &'static str) -> Result<u8, FieldError> {
        self.array::<1>(field).map(u8::from_be_bytes)
    }

    /// Two bytes, big-endian.
    pub(crate) fn u16(&mut self, field: &'static str) -> Result<u16, FieldError> {
        self.array::<2>(field).map(u16::from_be_bytes)
    }

    /// Four bytes, big-endian.
    pub(crate) fn u32(&mut self, field: &'static str) -> Result<u32, FieldError> {
        self.array::<4>(field).map(u32::from_be_bytes)
    }

    /// Eight bytes, big-endian.
    pub(crate) fn u64(&mut self, field: &'static str) -> Result<u64, FieldError> {
        self.array::<8>(field).map(u64::from_be_bytes)
    }

    /// One byte that is 0 or 1.
    pub(crate) fn flag(&mut self, field: &'static str) -> Result<bool, FieldError> {
        let offset = self.offset;
        match self.u8(field)? {
            0 => Ok(false),
            1 => Ok(true),
            value => Err(FieldError::Unknown { field, offset, value }),
        }
    }

    /// A two-byte length and that many bytes of UTF-8.
    pub(crate) fn text(&mut self, field: &'static str) -> Result<&'a str, FieldError> {
        let length = self.u16(field)?;
        let offset = self.offset;
        let bytes = self.take(field, usize::from(length))?;
        str::from_utf8(bytes).map_err(|source| FieldError::NotUtf8 { field, offset, source })
    }

    /// A four-byte length of at most `limit` and that many bytes of UTF-8.
    pub(crate) fn long_text(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a str, FieldError> {
        let length = self.length(field, limit)?;
        let offset = self.offset;
        let bytes = self.take(field, length)?;
        str::from_utf8(bytes).map_err(|source| FieldError::NotUtf8 { field, offset, source })
    }

    /// A four-byte length of at most `limit` and that many bytes.
    pub(crate) fn blob(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<&'a [u8], FieldError> {
        let length = self.length(field, limit)?;
        self.take(field, length)
    }

    /// A four-byte length of at most `limit`.
    pub(crate) fn length(
        &mut self,
        field: &'static str,
        limit: usize,
    ) -> Result<usize, FieldError> {
        let offset = self.offset;
        let length = self.u32(field)? as usize;
        if length > limit {
            return Err(FieldError::TooLong { field, offset, length, limit });
        }
        Ok(length)
    }

    /// Fails unless all bytes were read.
    pub(crate) const fn finish(self, after: &'static str) -> Result<(), FieldError> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        Err(FieldError::Trailing { after, offset: self.offset, left: self.bytes.len() })
    }

    /// The error of a field that needs more bytes than are left.
    const fn truncated(&self, field: &'static str, needed: usize) -> FieldError {
        FieldError::Truncated { field, offset: self.offset, needed, left: self.bytes.len() }
    }
}

/// Appends a two-byte length and the text; fails above 65535 bytes.
pub(crate) fn put_text(
    out: &mut Vec<u8>,
    field: &'static str,
    text: &str,
) -> Result<(), TrailError> {
    let Ok(length) = u16::try_from(text.len()) else {
        let limit = usize::from(u16::MAX);
        return Err(TrailError::TooLong { field, length: text.len(), limit });
    };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Appends a four-byte length and the bytes; fails above `limit` bytes.
pub(crate) fn put_blob(
    out: &mut Vec<u8>,
    field: &'static str,
    bytes: &[u8],
    limit: usize,
) -> Result<(), TrailError> {
    let length = length_u32(field, bytes.len(), limit)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(bytes);
    Ok(())
}

/// A length as the four-byte field holds it; fails above `limit`.
pub(crate) fn length_u32(
    field: &'static str,
    length: usize,
    limit: usize,
) -> Result<u32, TrailError> {
    match u32::try_from(length) {
        Ok(narrow) if length <= limit => Ok(narrow),
        Ok(_) | Err(_) => Err(TrailError::TooLong { field, length, limit }),
    }
}

/// Reads `count` bytes, or fewer where the source ends; memory grows only with what is read.
pub(crate) fn read_up_to(source: &mut impl Read, count: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.by_ref().take(count as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
