//! Writes a trail: header, chunks, seals, end.
use std::fs::File;
use std::io::{self, Write};

use zstd::bulk::Compressor;

use crate::chain::Chain;
use crate::crypt::{ChunkCipher, ContentKey, compressor};
use crate::cursor::length_u32;
use crate::error::TrailError;
use crate::frame::{CHUNK_RECORD_BYTES_MAX, ChunkClear, HEAD_BYTES, Kind, Outcome};
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
    /// The last frame, at most one.
    frame: Vec<u8>,
    /// Bytes of it that the sink has taken; all of them, but after an error.
    taken: usize,
    /// Set up with the first chunk.
    compressor: Option<Compressor<'static>>,
    sealed: bool,
    /// Bytes of records since the last seal.
    unsealed_bytes: usize,
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
            frame: bytes,
            taken: 0,
            compressor: None,
            sealed: true,
            unsealed_bytes: 0,
        };
        writer.write()?;
        writer.sync()?;
        Ok(writer)
    }

    /// Appends encoded records of one stream, 1 to [`CHUNK_RECORD_BYTES_MAX`] bytes, the first made
    /// at `first_t_ns`. Write the batches of all streams together, in the order of
    /// [`Stream::ALL`]: a reader orders records across streams only within such a run of chunks.
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
        let compressor = match &mut self.compressor {
            Some(compressor) => compressor,
            None => self.compressor.insert(compressor()?),
        };
        // Built where it is written from; after an error nothing of it is left to be written.
        self.frame.clear();
        self.taken = 0;
        let mut frame = std::mem::take(&mut self.frame);
        frame.resize(HEAD_BYTES, 0);
        frame.extend_from_slice(&clear.encode());
        cipher.encrypt(&self.chain.chunk_context(clear), records, compressor, &mut frame)?;
        self.chain.complete(Kind::Chunk, &mut frame)?;
        self.frame = frame;
        self.chain.counts.add(stream, record_bytes);
        self.sealed = false;
        self.unsealed_bytes = self.unsealed_bytes.saturating_add(records.len());
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
        let seal = self.chain.seal_frame(&self.signing_key, wall_ns)?;
        self.frame.clear();
        self.frame.extend_from_slice(&seal);
        self.taken = 0;
        self.write()?;
        self.sync()?;
        self.sealed = true;
        if std::mem::take(&mut self.unsealed_bytes) < LOADED_BYTES {
            self.release_memory();
        }
        Ok(())
    }

    /// Writes the bytes an earlier call left behind; does nothing if there are none.
    pub fn resume(&mut self) -> Result<(), TrailError> {
        self.unstall()
    }

    /// Whether much was added of late, which leaves memory behind that makes the next chunks
    /// cheaper.
    #[must_use]
    pub const fn holds_memory(&self) -> bool {
        self.compressor.is_some()
    }

    /// Gives that memory back, some hundred KiB: for whoever has added no chunk for a while.
    pub fn release_memory(&mut self) {
        self.compressor = None;
        if self.taken >= self.frame.len() {
            self.frame = Vec::new();
            self.taken = 0;
        }
    }

    /// Closes the trail with its counts and signature, and syncs the sink. `reason` is cut at 1024
    /// bytes. After an error the file is a cut trail, which [`crate::recover()`] can close.
    pub fn end(mut self, reason: &str, wall_ns: u64) -> Result<Summary, TrailError> {
        self.unstall()?;
        let outcome = Outcome::Closed;
        self.frame = self.chain.end_frame(&self.signing_key, outcome, reason, wall_ns)?;
        self.taken = 0;
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
        while let Some(pending @ [_, ..]) = self.frame.get(self.taken..) {
            match self.sink.write(pending) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(taken) => self.taken += taken.min(pending.len()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
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

/// Bytes of records between two seals from which on memory is kept for the next ones: above what
/// somebody types and reads.
const LOADED_BYTES: usize = 128 * 1024;
