//! The read and the write buffer of a leg: small while idle, large under load.

use std::ops::Range;

use crate::limits::{READ_BYTES_IDLE, READ_BYTES_LOADED, SENT_BYTES_KEPT};

/// Bytes that were read and not yet taken.
pub(super) struct Input {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes to read at a time.
    size: usize,
    /// Bytes that the packet now arriving needs.
    needed: usize,
}

impl Input {
    /// Empty; takes its memory when something is read.
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0, end: 0, size: READ_BYTES_IDLE, needed: 0 }
    }

    /// Where to read into; empty only while a whole buffer waits to be taken.
    pub(super) fn space(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        let size = self.size.max(self.needed);
        if self.bytes.len() < size {
            self.bytes.reserve_exact(size - self.bytes.len());
            self.bytes.resize(size, 0);
        }
        // What is left is part of one packet; it moves down while there is less room behind it than
        // before.
        if self.start > 0 && self.bytes.len() - self.end < self.bytes.len() / 2 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Counts `bytes` as read into [`Self::space`]; a read that fills it makes the next one larger.
    pub(super) fn filled(&mut self, bytes: usize) {
        self.end = self.end.saturating_add(bytes).min(self.bytes.len());
        if self.end == self.bytes.len() {
            self.size = self.size.saturating_mul(GROWTH).min(READ_BYTES_LOADED);
        }
    }

    /// What was read and not taken.
    pub(super) fn unread(&self) -> &[u8] {
        self.bytes.get(self.start..self.end).unwrap_or_default()
    }

    /// Whether [`Self::space`] has room.
    pub(super) const fn has_space(&self) -> bool {
        self.end - self.start < READ_BYTES_IDLE || self.end - self.start < self.needed
    }

    /// Makes room for a packet of `bytes`, which the caller has checked against its limit.
    pub(super) const fn need(&mut self, bytes: usize) {
        self.needed = bytes;
    }

    /// Takes `bytes` from the front, as a range for [`Self::part`]; they stay until the next
    /// [`Self::space`].
    pub(super) fn take(&mut self, bytes: usize) -> Range<usize> {
        let start = self.start;
        self.start = start.saturating_add(bytes).min(self.end);
        self.needed = 0;
        start..self.start
    }

    /// A range that was taken.
    pub(super) fn part(&self, range: Range<usize>) -> &[u8] {
        self.bytes.get(range).unwrap_or_default()
    }

    /// A range that was taken, to change in place.
    pub(super) fn part_mut(&mut self, range: Range<usize>) -> &mut [u8] {
        self.bytes.get_mut(range).unwrap_or_default()
    }

    /// Gives a large buffer back, if nothing in it waits.
    pub(super) fn shrink(&mut self) {
        if self.start == self.end && self.bytes.len() > READ_BYTES_IDLE {
            *self = Self::new();
        }
    }
}

/// Bytes that wait to be written.
pub(super) struct Output {
    bytes: Vec<u8>,
    start: usize,
}

impl Output {
    /// Empty, without memory.
    pub(super) const fn new() -> Self {
        Self { bytes: Vec::new(), start: 0 }
    }

    /// Where to append.
    pub(super) fn tail(&mut self) -> &mut Vec<u8> {
        if self.start >= SENT_BYTES_KEPT {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        &mut self.bytes
    }

    /// What waits.
    pub(super) fn unsent(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }

    /// Counts `bytes` as written.
    pub(super) fn sent(&mut self, bytes: usize) {
        self.start = self.start.saturating_add(bytes).min(self.bytes.len());
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        }
    }

    /// Gives the buffer back, if nothing in it waits.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            *self = Self::new();
        }
    }
}

/// How much larger a buffer gets that a read has filled: from idle to loaded in three reads.
const GROWTH: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads as much of `from` as there is room for.
    fn fill(input: &mut Input, from: &[u8]) -> usize {
        let space = input.space();
        let count = space.len().min(from.len());
        space[..count].copy_from_slice(&from[..count]);
        input.filled(count);
        count
    }

    #[test]
    fn grows_while_reads_fill_it_and_shrinks_when_drained() {
        let mut input = Input::new();
        let mut sizes = Vec::new();
        for _ in 0..5 {
            let size = input.space().len();
            sizes.push(size);
            input.filled(size);
            input.take(size);
        }
        assert_eq!(sizes, [4096, 16384, 65536, 131_072, 131_072]);
        input.shrink();
        assert_eq!(input.space().len(), READ_BYTES_IDLE);
    }

    #[test]
    fn what_is_not_taken_keeps_its_buffer_and_its_bytes() {
        let mut input = Input::new();
        fill(&mut input, &[1; READ_BYTES_IDLE]);
        fill(&mut input, &[2; 100]);
        let taken = input.take(4000);
        assert_eq!(input.part(taken), [1; 4000]);
        input.shrink();
        assert_eq!(input.unread(), [[1; 96].as_slice(), &[2; 100]].concat());
    }

    #[test]
    fn bytes_stay_in_order_over_many_partial_takes() {
        let mut input = Input::new();
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(100_000).collect();
        let mut seen = Vec::new();
        let mut rest = sent.as_slice();
        for round in 0.. {
            let count = fill(&mut input, &rest[..rest.len().min(1 + round * 37 % 6000)]);
            rest = &rest[count..];
            let size = input.unread().len() * (round % 3 + 1) / 3;
            let taken = input.take(size);
            seen.extend_from_slice(input.part(taken));
            if rest.is_empty() && input.unread().is_empty() {
                break;
            }
        }
        assert!(seen == sent);
    }

    #[test]
    fn a_packet_larger_than_the_buffer_gets_room() {
        let mut input = Input::new();
        input.need(300_000);
        assert_eq!(input.space().len(), 300_000);
        assert!(input.has_space());
    }

    #[test]
    fn output_is_sent_in_order() {
        let mut output = Output::new();
        output.tail().extend_from_slice(&[1; SENT_BYTES_KEPT + 10]);
        output.sent(SENT_BYTES_KEPT + 5);
        output.tail().extend_from_slice(&[2; 5]);
        assert_eq!(output.unsent(), [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
        output.sent(usize::MAX);
        assert!(output.unsent().is_empty());
    }
}
