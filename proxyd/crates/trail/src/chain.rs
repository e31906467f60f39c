//! The hash chain over a trail's frames, as the writer builds it and every reader follows it.
use crate::cursor::length_u32;
use crate::error::TrailError;
use crate::frame::{
    ChunkClear, ChunkContext, End, HEAD_BYTES, Head, Kind, Outcome, Seal, TrailTag, bounded_reason,
};
use crate::header::SignedHeader;
use crate::places::Place;
use crate::sign::{HASH_BYTES, Hash, SigningKey, hash_start, sha256};
use crate::stream::Counts;

/// The state after a number of frames: enough to write or check the next one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    session_id: [u8; 16],
    header_hash: Hash,
    /// The chain hash of the last frame; of the header before the first.
    pub(crate) hash: Hash,
    /// Number of the next frame.
    pub(crate) sequence: u64,
    /// Where the next frame starts in the file.
    pub(crate) offset_bytes: u64,
    /// Chunks and bytes so far.
    pub(crate) counts: Counts,
}

impl Chain {
    /// Before the first frame.
    pub(crate) fn start(header: &SignedHeader) -> Self {
        Self {
            session_id: header.header.session_id,
            header_hash: header.hash,
            hash: header.hash,
            sequence: 0,
            offset_bytes: header.length_bytes,
            counts: Counts::default(),
        }
    }

    /// At a place of the same trail, behind a frame that ends with this hash.
    pub(crate) const fn at(self, place: &Place, hash: Hash) -> Self {
        Self {
            hash,
            sequence: place.sequence,
            offset_bytes: place.offset_bytes,
            counts: place.counts,
            ..self
        }
    }

    /// The tag of this trail's frames.
    pub(crate) fn trail(&self) -> TrailTag {
        hash_start(&self.header_hash)
    }

    /// What a chunk at this place is bound to.
    pub(crate) const fn chunk_context(&self, clear: ChunkClear) -> ChunkContext {
        ChunkContext {
            header_hash: self.header_hash,
            previous: self.hash,
            sequence: self.sequence,
            clear,
        }
    }

    /// The chain hash after a frame of this head and body.
    pub(crate) fn next_hash(&self, head: &[u8], body: &[u8]) -> Hash {
        sha256(&[&self.hash, head, body])
    }

    /// Steps over a frame of this length in the file.
    pub(crate) const fn advance(&mut self, hash: Hash, frame_bytes: usize) {
        self.hash = hash;
        self.sequence += 1;
        self.offset_bytes += frame_bytes as u64;
    }

    /// Builds the next frame and steps over it.
    pub(crate) fn frame(&mut self, kind: Kind, body: &[u8]) -> Result<Vec<u8>, TrailError> {
        let mut frame = Vec::with_capacity(HEAD_BYTES + body.len() + HASH_BYTES);
        frame.resize(HEAD_BYTES, 0);
        frame.extend_from_slice(body);
        self.complete(kind, &mut frame)?;
        Ok(frame)
    }

    /// Makes the next frame of a body that stands behind [`HEAD_BYTES`] of room, and steps over
    /// it.
    pub(crate) fn complete(&mut self, kind: Kind, frame: &mut Vec<u8>) -> Result<(), TrailError> {
        let limit = kind.body_bytes_max() as usize;
        let room_bytes = HEAD_BYTES.min(frame.len());
        let (room, body) = frame.split_at_mut(room_bytes);
        let head = Head {
            kind: kind.code(),
            trail: self.trail(),
            sequence: self.sequence,
            body_bytes: length_u32("frame body", body.len(), limit)?,
        };
        let head = head.encode();
        let hash = self.next_hash(&head, body);
        for (to, from) in room.iter_mut().zip(head) {
            *to = from;
        }
        frame.extend_from_slice(&hash);
        self.advance(hash, frame.len());
        Ok(())
    }

    /// Builds a seal at this place and steps over it.
    pub(crate) fn seal_frame(
        &mut self,
        key: &SigningKey,
        wall_ns: u64,
    ) -> Result<Vec<u8>, TrailError> {
        let signature = key.sign(&self.seal_message(wall_ns))?;
        self.frame(Kind::Seal, &Seal { wall_ns, signature }.encode())
    }

    /// Builds the end at this place and steps over it; a reason above its limit is shortened.
    pub(crate) fn end_frame(
        &mut self,
        key: &SigningKey,
        outcome: Outcome,
        reason: &str,
        wall_ns: u64,
    ) -> Result<Vec<u8>, TrailError> {
        let end = End {
            outcome,
            wall_ns,
            counts: self.counts,
            final_hash: self.hash,
            reason: bounded_reason(reason),
        };
        let mut body = end.encode()?;
        let signature = key.sign(&self.end_message(&body))?;
        body.extend_from_slice(&signature);
        self.frame(Kind::End, &body)
    }

    /// What a seal's signature at this place is made over.
    pub(crate) fn seal_message(&self, wall_ns: u64) -> Vec<u8> {
        self.message(SEAL_LABEL, &wall_ns.to_be_bytes())
    }

    /// What an end's signature at this place is made over; `fields` is its body so far.
    pub(crate) fn end_message(&self, fields: &[u8]) -> Vec<u8> {
        self.message(END_LABEL, fields)
    }

    /// Label, session, place in the chain, and what else is signed.
    fn message(&self, label: &[u8], fields: &[u8]) -> Vec<u8> {
        [label, &self.session_id, &self.sequence.to_be_bytes(), &self.hash, fields].concat()
    }
}

/// Keeps a seal's signature from being taken for one of another kind.
const SEAL_LABEL: &[u8] = b"proxyd trail seal 1\0";

/// Keeps an end's signature from being taken for one of another kind.
const END_LABEL: &[u8] = b"proxyd trail end 1\0";
