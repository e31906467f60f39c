//! Reads the fields of a packet whose end may not have arrived.

use super::error::SftpError;
use super::limits::PACKET_BYTES_MAX;

/// Bytes of a packet's length field.
pub(super) const LENGTH_BYTES: usize = 4;

/// Why a packet could not be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// More has to arrive: this many bytes in all.
    Need(usize),
    /// It is no packet.
    Bad(SftpError),
}

/// Reads from the start of a packet, its length field included.
#[derive(Debug)]
pub(super) struct Cursor<'a> {
    head: &'a [u8],
    at: usize,
    /// Where the packet ends.
    end: usize,
    cut: bool,
}

impl<'a> Cursor<'a> {
    /// Reads the length field.
    pub(super) fn new(head: &'a [u8]) -> Result<Self, Stop> {
        let mut cursor = Self { head, at: 0, end: LENGTH_BYTES, cut: false };
        let bytes = usize::try_from(cursor.u32()?).unwrap_or(usize::MAX);
        if !(1..=PACKET_BYTES_MAX).contains(&bytes) {
            return Err(Stop::Bad(SftpError::PacketLength { bytes }));
        }
        cursor.end += bytes;
        Ok(cursor)
    }

    /// Bytes of the packet, its length field included.
    pub(super) const fn packet_bytes(&self) -> usize {
        self.end
    }

    /// Bytes of the packet that are behind what was read.
    pub(super) const fn left_bytes(&self) -> usize {
        self.end.saturating_sub(self.at)
    }

    /// Whether a string was longer than what was kept; nothing behind it is read.
    pub(super) const fn is_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn u8(&mut self) -> Result<u8, Stop> {
        self.array::<1>().map(|[byte]| byte)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        self.array().map(u64::from_be_bytes)
    }

    /// A string of which at most `bytes_max` are kept; empty behind one that was cut.
    pub(super) fn string(&mut self, bytes_max: usize) -> Result<&'a [u8], Stop> {
        if self.cut {
            return Ok(&[]);
        }
        let length = usize::try_from(self.u32()?).unwrap_or(usize::MAX);
        let end = self.check(length)?;
        let kept = length.min(bytes_max);
        let Some(string) = self.head.get(self.at..self.at + kept) else {
            return Err(Stop::Need(self.at + kept));
        };
        self.cut |= kept < length;
        self.at = end;
        Ok(string)
    }

    /// The bytes of a number; zeros behind a string that was cut.
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        if self.cut {
            return Ok([0; N]);
        }
        let end = self.check(N)?;
        let bytes = self.head.get(self.at..).and_then(<[u8]>::first_chunk);
        let bytes = *bytes.ok_or(Stop::Need(end))?;
        self.at = end;
        Ok(bytes)
    }

    /// Where a field of `length` bytes ends, which is within the packet.
    fn check(&self, length: usize) -> Result<usize, Stop> {
        match self.at.checked_add(length).filter(|end| *end <= self.end) {
            Some(end) => Ok(end),
            None => Err(Stop::Bad(SftpError::Truncated { offset: self.at, bytes: self.end })),
        }
    }
}
