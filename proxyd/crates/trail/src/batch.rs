//! Collects the encoded records of one stream until they are written as a chunk.
use crate::error::TrailError;
use crate::frame::CHUNK_RECORD_BYTES_MAX;
use crate::record::Record;

/// The records of one stream that wait for their chunk, at most [`CHUNK_RECORD_BYTES_MAX`] bytes.
#[derive(Debug, Default)]
pub struct Batch {
    records: Vec<u8>,
    first_t_ns: u64,
}

/// What became of a pushed record.
#[must_use = "a record that found the batch full is not recorded"]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Push {
    /// The record is in the batch.
    Added,
    /// The batch is unchanged: write it as a chunk, then push the record again.
    Full,
}

/// What a batch held, as [`crate::Writer::chunk`] wants it.
#[derive(Debug, PartialEq, Eq)]
pub struct Taken {
    /// Encoded records, never empty.
    pub records: Vec<u8>,
    /// Time of the first record in nanoseconds since the session's start.
    pub first_t_ns: u64,
}

impl Batch {
    /// An empty batch; takes no memory until the first record.
    #[must_use]
    pub const fn new() -> Self {
        Self { records: Vec::new(), first_t_ns: 0 }
    }

    /// Adds a record with its time since the session's start; fails if a field of the record is
    /// above its limit. An empty batch has room for every record.
    pub fn push(&mut self, t_ns: u64, record: &Record<'_>) -> Result<Push, TrailError> {
        let before = self.records.len();
        record.encode(t_ns, &mut self.records)?;
        if self.records.len() > CHUNK_RECORD_BYTES_MAX {
            self.records.truncate(before);
            return Ok(Push::Full);
        }
        if before == 0 {
            self.first_t_ns = t_ns;
        }
        Ok(Push::Added)
    }

    /// Bytes of encoded records.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no record.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Time of the first record in nanoseconds since the session's start; none if empty.
    #[must_use]
    pub fn first_t_ns(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.first_t_ns)
    }

    /// Uses this memory for the records to come; does nothing unless the batch is empty.
    pub fn reuse(&mut self, mut memory: Vec<u8>) {
        if self.is_empty() {
            memory.clear();
            self.records = memory;
        }
    }

    /// Takes all records and gives their memory away with them; none if empty.
    pub fn take(&mut self) -> Option<Taken> {
        let first_t_ns = self.first_t_ns()?;
        Some(Taken { records: std::mem::take(&mut self.records), first_t_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::{Batch, Push, Taken};
    use crate::{CHUNK_RECORD_BYTES_MAX, DATA_BYTES_MAX, Record, Records, Source, TrailError};

    #[test]
    fn full_batch_keeps_what_it_has() {
        let bytes = vec![7; DATA_BYTES_MAX];
        let data = Record::Data { channel: 1, source: Source::Stdout, bytes: &bytes };
        let mut batch = Batch::new();
        assert_eq!(batch.first_t_ns(), None);
        assert_eq!(batch.push(5, &data).unwrap(), Push::Added);
        let length = batch.len();
        // Two of the longest records exceed a chunk by their heads.
        assert_eq!(batch.push(6, &data).unwrap(), Push::Full);
        assert_eq!((batch.len(), batch.first_t_ns()), (length, Some(5)));

        let note = Record::Note { text: "fits" };
        assert_eq!(batch.push(7, &note).unwrap(), Push::Added);
        let Taken { records, first_t_ns } = batch.take().unwrap();
        assert_eq!(first_t_ns, 5);
        assert!(records.len() <= CHUNK_RECORD_BYTES_MAX);
        let times: Vec<u64> = Records::new(&records).map(|record| record.unwrap().0).collect();
        assert_eq!(times, [5, 7]);
        assert!(batch.is_empty());
        assert_eq!(batch.take(), None);
    }

    #[test]
    fn memory_goes_round_without_what_was_in_it() {
        let mut batch = Batch::new();
        let note = Record::Note { text: "again" };
        assert_eq!(batch.push(1, &note).unwrap(), Push::Added);
        let first = batch.take().unwrap();
        batch.reuse(first.records.clone());
        assert!(batch.is_empty());
        assert_eq!(batch.push(1, &note).unwrap(), Push::Added);
        batch.reuse(vec![9; 9]);
        assert_eq!(batch.take(), Some(first), "a batch with records keeps them");
    }

    #[test]
    fn refused_record_leaves_the_batch_alone() {
        let mut batch = Batch::new();
        let bytes = vec![0; DATA_BYTES_MAX + 1];
        let command = Record::Command { channel: 1, command: &bytes };
        let refused = batch.push(1, &command);
        assert!(matches!(refused, Err(TrailError::TooLong { field: "command", .. })));
        assert!(batch.is_empty());
    }
}
