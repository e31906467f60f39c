//! Decrypts a trail and gives its records in the order of their times.
use std::io::Read;

use crate::crypt::ChunkCipher;
use crate::error::TrailError;
use crate::frame::End;
use crate::header::{SignedHeader, WrappedShare};
use crate::identities::Identities;
use crate::record::{Record, Records};
use crate::sign::VerifyingKey;
use crate::stream::Stream;
use crate::verify::Verdict;
use crate::walk::{Chunk, Step, Walk};

/// One record with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Nanoseconds since the session's start, see [`crate::Header::created_ns`].
    pub t_ns: u64,
    /// The stream it was written to.
    pub stream: Stream,
    /// Number of the frame that carried it.
    pub sequence: u64,
    /// The record.
    pub record: Record<'a>,
}

/// An opened trail, read from start to end.
///
/// Records are ordered by time across streams within each run of chunks in which no stream repeats
/// and no seal stands; of three chunks at most the contents are held. Chunks of a stream that the
/// identities do not open are passed over. Every frame is checked as by [`crate::verify()`].
pub struct Reader<R> {
    walk: Walk<R>,
    session: Option<ChunkCipher>,
    upstream: Option<ChunkCipher>,
    run: Vec<OpenChunk>,
    order: Vec<Place>,
    next: usize,
    /// The chunk that ended the last run, because its stream was in it already.
    held: Option<Chunk>,
    skipped_chunks: u64,
    verdict: Option<Verdict>,
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
        let session = open_cipher(identities, &walk.header().recipients)?;
        let upstream = open_cipher(identities, &walk.header().upstream_recipients)?;
        if session.is_none() && upstream.is_none() {
            return Err(TrailError::NoIdentity { needed: groups_text(walk.header()) });
        }
        Ok(Self {
            walk,
            session,
            upstream,
            run: Vec::new(),
            order: Vec::new(),
            next: 0,
            held: None,
            skipped_chunks: 0,
            verdict: None,
        })
    }

    /// The header, whose signature is good.
    #[must_use]
    pub const fn header(&self) -> &SignedHeader {
        self.walk.header()
    }

    /// Whether the identities open the chunks of a stream.
    #[must_use]
    pub const fn opens(&self, stream: Stream) -> bool {
        self.cipher(stream).is_some()
    }

    /// The next record; none after the last one, also where the file is cut. Fails where the trail
    /// is altered, after the records before that place, and if a chunk or record is malformed;
    /// what the reader gives after an error is not to be relied on.
    pub fn next_record(&mut self) -> Result<Option<Entry<'_>>, TrailError> {
        while self.next >= self.order.len() {
            match &self.verdict {
                None => self.load_run()?,
                Some(Verdict::Complete | Verdict::Cut { .. }) => return Ok(None),
                Some(Verdict::Altered { sequence, offset_bytes, damage }) => {
                    return Err(TrailError::Altered {
                        sequence: *sequence,
                        offset_bytes: *offset_bytes,
                        source: damage.clone(),
                    });
                }
            }
        }
        let place = self.order.get(self.next);
        self.next += 1;
        let Some((place, chunk)) = place.and_then(|p| Some((p, self.run.get(p.chunk)?))) else {
            return Ok(None);
        };
        let sequence = chunk.sequence;
        let malformed = |source| TrailError::Record { sequence, source };
        let mut records = Records::at(&chunk.records, place.offset).map_err(malformed)?;
        let record = records.next().transpose().map_err(malformed)?;
        Ok(record.map(|(t_ns, record)| Entry { t_ns, stream: chunk.stream, sequence, record }))
    }

    /// Whether the trail is whole; known once [`Self::next_record`] gave none.
    #[must_use]
    pub const fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// The end, once it was reached.
    #[must_use]
    pub const fn end(&self) -> Option<&End> {
        self.walk.end()
    }

    /// Chunks passed over so far because the identities do not open their stream.
    #[must_use]
    pub const fn skipped_chunks(&self) -> u64 {
        self.skipped_chunks
    }

    /// The cipher of a stream's chunks, if it could be opened.
    const fn cipher(&self, stream: Stream) -> Option<&ChunkCipher> {
        match stream {
            Stream::Meta | Stream::Downstream => self.session.as_ref(),
            Stream::Upstream => self.upstream.as_ref(),
        }
    }

    /// Reads the next run of chunks and orders its records.
    fn load_run(&mut self) -> Result<(), TrailError> {
        self.run.clear();
        self.order.clear();
        self.next = 0;
        if let Some(chunk) = self.held.take() {
            self.add(chunk)?;
        }
        loop {
            match self.walk.step()? {
                Step::Chunk(chunk) => {
                    let stream = chunk.context.clear.stream;
                    if self.run.iter().any(|open| open.stream == stream) {
                        self.held = Some(chunk);
                        break;
                    }
                    self.add(chunk)?;
                }
                Step::Signed => break,
                Step::Stopped(verdict) => {
                    self.verdict = Some(verdict);
                    break;
                }
            }
        }
        // Stable: records of the same time stay in the order they were written.
        self.order.sort_by_key(|place| place.t_ns);
        Ok(())
    }

    /// Decrypts a chunk into the run, if its stream can be opened.
    fn add(&mut self, chunk: Chunk) -> Result<(), TrailError> {
        let Chunk { context, ciphertext } = chunk;
        let Some(cipher) = self.cipher(context.clear.stream) else {
            self.skipped_chunks += 1;
            return Ok(());
        };
        let sequence = context.sequence;
        let bytes = cipher.decrypt(&context, ciphertext)?;
        let mut records = Records::new(&bytes);
        let mut places = Vec::new();
        loop {
            let offset = records.offset();
            let Some(record) = records.next() else {
                break;
            };
            let (t_ns, _) = record.map_err(|source| TrailError::Record { sequence, source })?;
            places.push(Place { t_ns, chunk: self.run.len(), offset });
        }
        self.order.append(&mut places);
        self.run.push(OpenChunk { stream: context.clear.stream, sequence, records: bytes });
        Ok(())
    }
}

/// A decrypted chunk.
struct OpenChunk {
    stream: Stream,
    sequence: u64,
    records: Vec<u8>,
}

/// Where a record of the run lies.
struct Place {
    t_ns: u64,
    chunk: usize,
    offset: usize,
}

/// The cipher of the content key wrapped to these groups, if the identities open it.
fn open_cipher(
    identities: &Identities,
    groups: &[Vec<WrappedShare>],
) -> Result<Option<ChunkCipher>, TrailError> {
    identities.open(groups)?.map(|key| key.cipher()).transpose()
}

/// The groups that open a trail's session key, as a sentence.
fn groups_text(header: &SignedHeader) -> String {
    let groups: Vec<String> = header
        .recipients
        .iter()
        .map(|group| {
            let members: Vec<&str> = group.iter().map(|share| share.recipient.as_str()).collect();
            members.join(" and ")
        })
        .collect();
    groups.join(", or ")
}
