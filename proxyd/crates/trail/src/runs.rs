//! Reads a trail run by run: decrypts chunks and puts their records in the order of their times.
use std::io::{Read, Seek};

use crate::crypt::ChunkCipher;
use crate::error::TrailError;
use crate::header::{SignedHeader, WrappedShare};
use crate::identities::Identities;
use crate::places::Place;
use crate::record::{Record, Records};
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

/// A walk whose chunks are opened; of three chunks at most the contents are held.
pub(crate) struct Runs<R> {
    walk: Walk<R>,
    session: Option<ChunkCipher>,
    upstream: Option<ChunkCipher>,
    run: Vec<OpenChunk>,
    order: Vec<Spot>,
    next: usize,
    /// The stream of the run's last chunk, opened or not.
    last: Option<Stream>,
    /// The chunk that ended the last run, because its stream begins another one.
    held: Option<Chunk>,
    skipped_chunks: u64,
    verdict: Option<Verdict>,
}

impl<R: Read> Runs<R> {
    /// Unwraps the content keys; fails if the identities complete no group of either key.
    pub(crate) fn new(walk: Walk<R>, identities: &Identities) -> Result<Self, TrailError> {
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
            last: None,
            held: None,
            skipped_chunks: 0,
            verdict: None,
        })
    }

    /// The walk, wherever it is.
    pub(crate) const fn walk(&self) -> &Walk<R> {
        &self.walk
    }

    /// The cipher of a stream's chunks, if it could be opened.
    pub(crate) const fn cipher(&self, stream: Stream) -> Option<&ChunkCipher> {
        match stream {
            Stream::Meta | Stream::Downstream => self.session.as_ref(),
            Stream::Upstream => self.upstream.as_ref(),
        }
    }

    /// What the walk found at its end, once it was there.
    pub(crate) const fn verdict(&self) -> Option<&Verdict> {
        self.verdict.as_ref()
    }

    /// Chunks passed over so far because the identities do not open their stream.
    pub(crate) const fn skipped_chunks(&self) -> u64 {
        self.skipped_chunks
    }

    /// The next record; none after the last one, also where the file is cut.
    pub(crate) fn next_record(&mut self) -> Result<Option<Entry<'_>>, TrailError> {
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
        let spot = self.order.get(self.next);
        self.next += 1;
        let Some((spot, chunk)) = spot.and_then(|spot| Some((spot, self.run.get(spot.chunk)?)))
        else {
            return Ok(None);
        };
        let sequence = chunk.sequence;
        let malformed = |source| TrailError::Record { sequence, source };
        let mut records = Records::at(&chunk.records, spot.offset).map_err(malformed)?;
        let record = records.next().transpose().map_err(malformed)?;
        Ok(record.map(|(t_ns, record)| Entry { t_ns, stream: chunk.stream, sequence, record }))
    }

    /// Reads the next run of chunks and orders its records.
    fn load_run(&mut self) -> Result<(), TrailError> {
        self.run.clear();
        self.order.clear();
        self.next = 0;
        self.last = None;
        if let Some(chunk) = self.held.take() {
            self.add(chunk)?;
        }
        loop {
            match self.walk.step()? {
                Step::Chunk(chunk) => {
                    let stream = chunk.context.clear.stream;
                    if self.last.is_some_and(|last| !stream.follows(last)) {
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
        self.order.sort_by_key(|spot| spot.t_ns);
        Ok(())
    }

    /// Decrypts a chunk into the run, if its stream can be opened.
    fn add(&mut self, chunk: Chunk) -> Result<(), TrailError> {
        let Chunk { context, ciphertext } = chunk;
        self.last = Some(context.clear.stream);
        let Some(cipher) = self.cipher(context.clear.stream) else {
            self.skipped_chunks += 1;
            return Ok(());
        };
        let sequence = context.sequence;
        let bytes = cipher.decrypt(&context, ciphertext)?;
        let mut records = Records::new(&bytes);
        let mut spots = Vec::new();
        loop {
            let offset = records.offset();
            let Some(record) = records.next() else {
                break;
            };
            let (t_ns, _) = record.map_err(|source| TrailError::Record { sequence, source })?;
            spots.push(Spot { t_ns, chunk: self.run.len(), offset });
        }
        self.order.append(&mut spots);
        self.run.push(OpenChunk { stream: context.clear.stream, sequence, records: bytes });
        Ok(())
    }
}

impl<R: Read + Seek> Runs<R> {
    /// Goes on at the run that starts at `place`.
    pub(crate) fn jump(&mut self, place: &Place) -> Result<(), TrailError> {
        self.walk.jump(place)?;
        self.run.clear();
        self.order.clear();
        self.next = 0;
        self.held = None;
        self.verdict = None;
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
struct Spot {
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
            // The file may be anybody's: nothing of it drives a terminal.
            let members = group.iter().map(|share| share.recipient.escape_debug().to_string());
            members.collect::<Vec<_>>().join(" and ")
        })
        .collect();
    groups.join(", or ")
}
