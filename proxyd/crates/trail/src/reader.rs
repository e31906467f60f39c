//! Reads a whole trail from its start and checks every frame on the way.
use std::io::Read;

use crate::error::TrailError;
use crate::frame::End;
use crate::header::SignedHeader;
use crate::identities::Identities;
use crate::runs::{Entry, Runs};
use crate::sign::VerifyingKey;
use crate::stream::Stream;
use crate::verify::Verdict;
use crate::walk::Walk;

/// An opened trail, read from start to end.
///
/// Records are ordered by time across streams within each run of chunks: streams come in the order
/// of their codes, and no seal stands between. Of three chunks at most the contents are held.
/// Chunks of a stream that the identities do not open are passed over. Every frame is checked as by
/// [`crate::verify()`], which [`crate::SeekReader`] does not do.
pub struct Reader<R> {
    runs: Runs<R>,
}

impl<R: Read> Reader<R> {
    /// Reads the header and unwraps the content keys. With `key` the trail has to be signed by it.
    /// Fails as [`crate::verify()`] does, and if the identities complete no group of either key.
    pub fn open(
        source: R,
        identities: &Identities,
        key: Option<&VerifyingKey>,
    ) -> Result<Self, TrailError> {
        let walk = Walk::open(source, key)?;
        Ok(Self { runs: Runs::new(walk, identities)? })
    }

    /// The header, whose signature is good.
    #[must_use]
    pub const fn header(&self) -> &SignedHeader {
        self.runs.walk().header()
    }

    /// Whether the identities open the chunks of a stream.
    #[must_use]
    pub const fn opens(&self, stream: Stream) -> bool {
        self.runs.cipher(stream).is_some()
    }

    /// The next record; none after the last one, also where the file is cut. Fails where the trail
    /// is altered, after the records before that place, and if a chunk or record is malformed;
    /// what the reader gives after an error is not to be relied on.
    pub fn next_record(&mut self) -> Result<Option<Entry<'_>>, TrailError> {
        self.runs.next_record()
    }

    /// Whether the trail is whole; known once [`Self::next_record`] gave none.
    #[must_use]
    pub const fn verdict(&self) -> Option<&Verdict> {
        self.runs.verdict()
    }

    /// The end, once it was reached.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.runs.walk().end()
    }

    /// The chain hash of what was read; at the end of the trail, the one that it ends with.
    #[must_use]
    pub const fn hash(&self) -> [u8; 32] {
        self.runs.walk().chain().hash
    }

    /// Chunks passed over so far because the identities do not open their stream.
    #[must_use]
    pub const fn skipped_chunks(&self) -> u64 {
        self.runs.skipped_chunks()
    }
}
