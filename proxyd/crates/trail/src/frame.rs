//! Frames: the head all of them share, and the bodies of chunk, seal and end.
use crate::crypt::TAG_BYTES;
use crate::cursor::{Cursor, put_text};
use crate::error::{FieldError, TrailError};
use crate::sign::{HASH_BYTES, Hash, SIGNATURE_BYTES, hash_start, sha256};
use crate::stream::{Counts, Stream, StreamCount};

/// The most bytes of encoded records in one chunk; bounds what a crash can lose and what a reader
/// has to hold.
pub const CHUNK_RECORD_BYTES_MAX: usize = 256 * 1024;

/// 1 kind + 4 trail tag + 8 sequence + 4 body length + 4 check.
pub(crate) const HEAD_BYTES: usize = 1 + 4 + 8 + 4 + HEAD_CHECK_BYTES;

/// The start of the header's hash: names the frames of another trail, which the chain then proves.
pub(crate) type TrailTag = [u8; 4];

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Records of one stream.
    Chunk,
    /// A signature over the chain so far.
    Seal,
    /// The signed close of the trail.
    End,
}

impl Kind {
    /// The kind's byte in a head.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Chunk => 1,
            Self::Seal => 2,
            Self::End => 3,
        }
    }

    /// The kind of a head's byte; none for an unknown one.
    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::Chunk),
            2 => Some(Self::Seal),
            3 => Some(Self::End),
            _ => None,
        }
    }

    /// The longest body of this kind.
    pub(crate) const fn body_bytes_max(self) -> u32 {
        match self {
            Self::Chunk => CHUNK_BODY_BYTES_MAX,
            Self::Seal => SEAL_BODY_BYTES,
            Self::End => END_BODY_BYTES_MAX,
        }
    }
}

/// The fixed start of every frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// A [`Kind`]'s code, or one that is not known.
    pub(crate) kind: u8,
    /// Which trail the frame belongs to.
    pub(crate) trail: TrailTag,
    /// Number of the frame in its trail, from 0.
    pub(crate) sequence: u64,
    /// Bytes of the body that follows.
    pub(crate) body_bytes: u32,
}

impl Head {
    /// The head's bytes, its check last.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.push(self.kind);
        bytes.extend_from_slice(&self.trail);
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.body_bytes.to_be_bytes());
        let check = head_check(&bytes);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Reads a head; none if its check does not match. Without the check a changed length at the
    /// end of a file would look like a cut.
    pub(crate) fn decode(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let (fields, check) = bytes.split_last_chunk::<HEAD_CHECK_BYTES>()?;
        if *check != head_check(fields) {
            return None;
        }
        let mut cursor = Cursor::new(fields);
        Some(Self {
            kind: cursor.u8("frame kind").ok()?,
            trail: cursor.array("trail tag").ok()?,
            sequence: cursor.u64("sequence").ok()?,
            body_bytes: cursor.u32("body length").ok()?,
        })
    }
}

/// The start of the SHA-256 over a head's other fields.
fn head_check(fields: &[u8]) -> [u8; HEAD_CHECK_BYTES] {
    hash_start(&sha256(&[fields]))
}

/// The fields of a chunk that are readable without a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChunkClear {
    /// What the records are of.
    pub(crate) stream: Stream,
    /// Time of the first record in nanoseconds since the session's start.
    pub(crate) first_t_ns: u64,
    /// Bytes of the encoded records, 1 to [`CHUNK_RECORD_BYTES_MAX`].
    pub(crate) record_bytes: u32,
}

impl ChunkClear {
    /// The fields' bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CHUNK_CLEAR_BYTES);
        bytes.push(self.stream.code());
        bytes.extend_from_slice(&self.first_t_ns.to_be_bytes());
        bytes.extend_from_slice(&self.record_bytes.to_be_bytes());
        bytes
    }

    /// Reads the fields at the start of a chunk's body; fails if no ciphertext can follow them.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut cursor = Cursor::new(body);
        let offset = cursor.offset();
        let code = cursor.u8("stream")?;
        let Some(stream) = Stream::from_code(code) else {
            return Err(FieldError::Unknown { field: "stream", offset, value: code });
        };
        let first_t_ns = cursor.u64("time of the first record")?;
        let offset = cursor.offset();
        let record_bytes = cursor.u32("record bytes")?;
        let (count, limit) = (record_bytes as usize, CHUNK_RECORD_BYTES_MAX);
        if !(1..=limit).contains(&count) {
            return Err(FieldError::Count { field: "record bytes", offset, count, limit });
        }
        cursor.take("authentication tag", TAG_BYTES)?;
        Ok(Self { stream, first_t_ns, record_bytes })
    }
}

/// Where a chunk stands: what its encryption is bound to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ChunkContext {
    /// SHA-256 of the header without its signature.
    pub(crate) header_hash: Hash,
    /// The chain hash of the frame before.
    pub(crate) previous: Hash,
    /// Number of the frame.
    pub(crate) sequence: u64,
    /// The chunk's clear fields.
    pub(crate) clear: ChunkClear,
}

impl ChunkContext {
    /// The associated data of the chunk's encryption.
    pub(crate) fn associated_data(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 * HASH_BYTES + 8 + CHUNK_CLEAR_BYTES);
        bytes.extend_from_slice(&self.header_hash);
        bytes.extend_from_slice(&self.previous);
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.clear.encode());
        bytes
    }
}

/// The body of a seal.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seal {
    /// Wall clock in nanoseconds since 1970-01-01 UTC.
    pub(crate) wall_ns: u64,
    /// Over the chain; see `Chain::seal_message`.
    pub(crate) signature: [u8; SIGNATURE_BYTES],
}

impl Seal {
    /// The body's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(8 + SIGNATURE_BYTES);
        bytes.extend_from_slice(&self.wall_ns.to_be_bytes());
        bytes.extend_from_slice(&self.signature);
        bytes
    }

    /// Reads the body.
    pub(crate) fn decode(body: &[u8]) -> Result<Self, FieldError> {
        let mut cursor = Cursor::new(body);
        let wall_ns = cursor.u64("wall clock")?;
        let signature = cursor.array("signature")?;
        cursor.finish("seal")?;
        Ok(Self { wall_ns, signature })
    }
}

/// How a trail was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By the writer, at the end of the session.
    Closed,
    /// After a crash, by [`crate::recover()`]: what follows the last seal was not signed in time.
    Recovered,
}

/// The signed close of a trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// How the trail was closed.
    pub outcome: Outcome,
    /// Wall clock in nanoseconds since 1970-01-01 UTC.
    pub wall_ns: u64,
    /// Chunks and bytes of each stream.
    pub counts: Counts,
    /// The chain hash of the frame before.
    pub final_hash: Hash,
    /// Why the session ended.
    pub reason: String,
}

impl End {
    /// The body's bytes without the signature, which is made over them.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, TrailError> {
        let mut bytes = vec![self.outcome.code()];
        bytes.extend_from_slice(&self.wall_ns.to_be_bytes());
        for stream in Stream::ALL {
            let count = self.counts.of(stream);
            bytes.extend_from_slice(&count.chunks.to_be_bytes());
            bytes.extend_from_slice(&count.bytes.to_be_bytes());
        }
        bytes.extend_from_slice(&self.final_hash);
        put_text(&mut bytes, "reason", &self.reason)?;
        Ok(bytes)
    }

    /// Reads the body without its signature.
    pub(crate) fn decode(fields: &[u8]) -> Result<Self, FieldError> {
        let mut cursor = Cursor::new(fields);
        let offset = cursor.offset();
        let outcome = match cursor.u8("outcome")? {
            0 => Outcome::Closed,
            1 => Outcome::Recovered,
            value => return Err(FieldError::Unknown { field: "outcome", offset, value }),
        };
        let wall_ns = cursor.u64("wall clock")?;
        let counts = Counts {
            meta: stream_count(&mut cursor)?,
            downstream: stream_count(&mut cursor)?,
            upstream: stream_count(&mut cursor)?,
        };
        let final_hash = cursor.array("final hash")?;
        let reason = cursor.text("reason")?.to_owned();
        cursor.finish("end")?;
        Ok(Self { outcome, wall_ns, counts, final_hash, reason })
    }
}

impl Outcome {
    /// The outcome's byte in an end.
    const fn code(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::Recovered => 1,
        }
    }
}

/// Reads the counts of one stream.
fn stream_count(cursor: &mut Cursor<'_>) -> Result<StreamCount, FieldError> {
    Ok(StreamCount { chunks: cursor.u64("chunk count")?, bytes: cursor.u64("byte count")? })
}

/// As much of a reason as an end may carry, cut between characters.
pub(crate) fn bounded_reason(reason: &str) -> String {
    let mut bounded = String::new();
    for character in reason.chars() {
        if bounded.len() + character.len_utf8() > REASON_BYTES_MAX {
            break;
        }
        bounded.push(character);
    }
    bounded
}

/// Bytes of a head's check: catches damage; what is forged is caught by the hash chain.
const HEAD_CHECK_BYTES: usize = 4;

/// 1 stream + 8 time of the first record + 4 record bytes.
pub(crate) const CHUNK_CLEAR_BYTES: usize = 1 + 8 + 4;

/// Clear fields and ciphertext. zstd grows [`CHUNK_RECORD_BYTES_MAX`] bytes that do not compress by
/// 1 KiB at most (`ZSTD_compressBound`), the tag adds 16.
const CHUNK_BODY_BYTES_MAX: u32 = (256 + 4) * 1024;

/// 8 wall clock + 64 signature.
const SEAL_BODY_BYTES: u32 = 8 + 64;

/// The longest reason: a line for a reader.
const REASON_BYTES_MAX: usize = 1024;

/// 1 outcome + 8 wall clock + 3 × 16 counts + 32 final hash + 2 + 1024 reason + 64 signature.
const END_BODY_BYTES_MAX: u32 = 1 + 8 + 3 * 16 + 32 + 2 + 1024 + 64;
