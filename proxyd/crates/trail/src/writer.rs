//! Writes a trail: header, chunks, seals, end.
use std::fs::File;
use std::io::{self, Write};

use crate::chain::Chain;
use crate::crypt::{ChunkCipher, ContentKey};
use crate::cursor::length_u32;
use crate::error::TrailError;
use crate::frame::{CHUNK_RECORD_BYTES_MAX, ChunkClear, Kind, Outcome};
use crate::header::{Header, SignedHeader};
use crate::sealing::Sealing;
use crate::sign::{Hash, SigningKey};
use crate::stream::{Counts, Stream};

/// Where a trail is written to.
pub trait Sink: Write {
    /// Returns once every byte written so far is on stable storage.
    fn sync(&mut self) -> io::Result<()>;
}

impl Sink for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn sync(&mut self) -> io::Result<()> {
        (**self).sync()
    }
}

/// What a closed trail holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Frames, seals and end included.
    pub frames: u64,
    /// Length of the file.
    pub length_bytes: u64,
    /// Chunks and bytes of each stream.
    pub counts: Counts,
    /// The chain hash of the last frame: whoever keeps it notices a trail put in this one's place.
    pub hash: Hash,
}

/// An open trail.
///
/// The writer holds the content keys' ciphers only as long as it lives and never writes them, so
/// the process cannot read back what it wrote. Calls block on the sink; they read no clock.
pub struct Writer<W> {
    sink: W,
    chain: Chain,
    session: ChunkCipher,
    upstream: ChunkCipher,
    signing_key: SigningKey,
    /// Bytes of the last frame that the sink has not taken; at most one frame.
    pending: Vec<u8>,
    sealed: bool,
}

impl<W: Sink> Writer<W> {
    /// Writes and syncs the header of a new trail, with fresh content keys wrapped to the
    /// recipients. Fails if the sink does, or a name of the header is above 65535 bytes.
    pub fn create(sink: W, header: &Header, sealing: &Sealing) -> Result<Self, TrailError> {
        let session_key = ContentKey::generate()?;
        let upstream_key = ContentKey::generate()?;
        let (signed, bytes) = SignedHeader::sign(
            header,
            sealing.wrap_session_key(&session_key)?,
            sealing.wrap_upstream_key(&upstream_key)?,
            sealing.signing_key(),
        )?;
        let mut writer = Self {
            sink,
            chain: Chain::start(&signed),
            session: session_key.cipher()?,
            upstream: upstream_key.cipher()?,
            signing_key: sealing.signing_key().clone(),
            pending: bytes,
            sealed: true,
        };
        writer.write()?;
        writer.sync()?;
        Ok(writer)
    }

    /// Appends encoded records of one stream, 1 to [`CHUNK_RECORD_BYTES_MAX`] bytes, the first made
    /// at `first_t_ns`. Write the batches of all streams together: a reader orders records across
    /// streams only within a run of chunks in which no stream repeats.
    ///
    /// After [`TrailError::Write`] the chunk counts as added: its bytes are kept and go out with
    /// the next call. After any other error it was not added.
    pub fn chunk(
        &mut self,
        stream: Stream,
        records: &[u8],
        first_t_ns: u64,
    ) -> Result<(), TrailError> {
        self.unstall()?;
        if records.is_empty() {
            return Err(TrailError::EmptyChunk);
        }
        let record_bytes = length_u32("chunk", records.len(), CHUNK_RECORD_BYTES_MAX)?;
        let clear = ChunkClear { stream, first_t_ns, record_bytes };
        let cipher = match stream {
            Stream::Meta | Stream::Downstream => &self.session,
            Stream::Upstream => &self.upstream,
        };
        let ciphertext = cipher.encrypt(&self.chain.chunk_context(clear), records)?;
        let mut body = clear.encode();
        body.extend_from_slice(&ciphertext);
        self.pending = self.chain.frame(Kind::Chunk, &body)?;
        self.chain.counts.add(stream, record_bytes);
        self.sealed = false;
        self.write()
    }

    /// Signs the chain as of `wall_ns` (nanoseconds since 1970-01-01 UTC) and syncs the sink; does
    /// nothing if no chunk was added since the last seal. After an error the trail goes on and the
    /// next call seals again.
    pub fn seal(&mut self, wall_ns: u64) -> Result<(), TrailError> {
        self.unstall()?;
        if self.sealed {
            return Ok(());
        }
        self.pending = self.chain.seal_frame(&self.signing_key, wall_ns)?;
        self.write()?;
        self.sync()?;
        self.sealed = true;
        Ok(())
    }

    /// Writes the bytes an earlier call left behind; does nothing if there are none.
    pub fn resume(&mut self) -> Result<(), TrailError> {
        self.unstall()
    }

    /// Closes the trail with its counts and signature, and syncs the sink. `reason` is cut at 1024
    /// bytes. After an error the file is a cut trail, which [`crate::recover()`] can close.
    pub fn end(mut self, reason: &str, wall_ns: u64) -> Result<Summary, TrailError> {
        self.unstall()?;
        let outcome = Outcome::Closed;
        self.pending = self.chain.end_frame(&self.signing_key, outcome, reason, wall_ns)?;
        self.write()?;
        self.sync()?;
        Ok(Summary {
            frames: self.chain.sequence,
            length_bytes: self.chain.offset_bytes,
            counts: self.chain.counts,
            hash: self.chain.hash,
        })
    }

    /// Chunks and bytes of each stream so far.
    #[must_use]
    pub const fn counts(&self) -> Counts {
        self.chain.counts
    }

    /// Length of the file so far, bytes the sink has not taken included.
    #[must_use]
    pub const fn length_bytes(&self) -> u64 {
        self.chain.offset_bytes
    }

    /// Writes what an earlier call left behind, before anything new is taken.
    fn unstall(&mut self) -> Result<(), TrailError> {
        self.write_pending().map_err(|source| TrailError::Stalled { source })
    }

    /// Writes the frame just built.
    fn write(&mut self) -> Result<(), TrailError> {
        self.write_pending().map_err(|source| TrailError::Write { source })
    }

    /// Writes the pending bytes; on an error keeps those the sink did not take, so that the file
    /// never holds half a frame with another after it.
    fn write_pending(&mut self) -> io::Result<()> {
        while !self.pending.is_empty() {
            match self.sink.write(&self.pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => drop(self.pending.drain(..taken.min(self.pending.len()))),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // A large frame's memory is not held through a quiet hour.
        self.pending = Vec::new();
        Ok(())
    }

    /// Brings everything written to stable storage.
    fn sync(&mut self) -> Result<(), TrailError> {
        self.sink
            .flush()
            .and_then(|()| self.sink.sync())
            .map_err(|source| TrailError::Sync { source })
    }
}
