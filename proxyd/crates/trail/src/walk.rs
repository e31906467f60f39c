//! Steps through a trail's frames and checks each: place, hash chain, signatures, counts.
use std::io::{self, BufReader, Read, Seek, SeekFrom};

use crate::chain::Chain;
use crate::cursor::read_up_to;
use crate::error::TrailError;
use crate::frame::{
    CHUNK_CLEAR_BYTES, ChunkClear, ChunkContext, End, HEAD_BYTES, Head, Kind, Seal,
};
use crate::header::SignedHeader;
use crate::places::Place;
use crate::sign::{HASH_BYTES, SIGNATURE_BYTES, VerifyingKey};
use crate::verify::{Damage, SealPoint, Verdict};

/// A trail read frame by frame. What a step returns has the right hash; it is proven only by a
/// seal or end after it.
pub(crate) struct Walk<R> {
    source: BufReader<R>,
    header: SignedHeader,
    chain: Chain,
    sealed: Option<SealPoint>,
    end: Option<End>,
}

/// What a step found.
pub(crate) enum Step {
    /// A chunk in its place.
    Chunk(Chunk),
    /// A seal or end with a good signature.
    Signed,
    /// There is nothing more to step over; further steps are of no use.
    Stopped(Verdict),
}

/// A chunk as the file holds it.
pub(crate) struct Chunk {
    /// Where it stands.
    pub(crate) context: ChunkContext,
    /// Ciphertext and tag.
    pub(crate) ciphertext: Vec<u8>,
}

impl<R: Read> Walk<R> {
    /// Reads and checks the header; `expected` is the key that has to have signed it, if given.
    pub(crate) fn open(source: R, expected: Option<&VerifyingKey>) -> Result<Self, TrailError> {
        let mut source = BufReader::new(source);
        let header = SignedHeader::read(&mut source, expected)?;
        let chain = Chain::start(&header);
        Ok(Self { source, header, chain, sealed: None, end: None })
    }

    /// The checked header.
    pub(crate) const fn header(&self) -> &SignedHeader {
        &self.header
    }

    /// The state after the intact frames stepped over.
    pub(crate) const fn chain(&self) -> &Chain {
        &self.chain
    }

    /// The last good seal stepped over.
    pub(crate) const fn sealed(&self) -> Option<SealPoint> {
        self.sealed
    }

    /// The end, once it was stepped over.
    pub(crate) const fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    /// Checks the next frame and steps over it if it is intact; fails only if the source does.
    pub(crate) fn step(&mut self) -> Result<Step, TrailError> {
        let (sequence, offset_bytes) = (self.chain.sequence, self.chain.offset_bytes);
        match self.frame() {
            Ok(step) => Ok(step),
            Err(Stop::Complete) => Ok(Step::Stopped(Verdict::Complete)),
            Err(Stop::Cut) => Ok(Step::Stopped(Verdict::Cut { sequence, offset_bytes })),
            Err(Stop::Altered(damage)) => {
                Ok(Step::Stopped(Verdict::Altered { sequence, offset_bytes, damage }))
            }
            Err(Stop::Unreadable(source)) => Err(TrailError::Read { source }),
        }
    }

    /// Reads one frame; `Stop` is what keeps it from being an intact one.
    fn frame(&mut self) -> Result<Step, Stop> {
        let head_bytes = read_up_to(&mut self.source, HEAD_BYTES)?;
        if self.end.is_some() {
            let at_end = head_bytes.is_empty();
            return Err(if at_end { Stop::Complete } else { Stop::Altered(Damage::AfterEnd) });
        }
        let Some(head_bytes) = head_bytes.first_chunk::<HEAD_BYTES>() else {
            return Err(Stop::Cut);
        };
        let Some(head) = Head::decode(head_bytes) else {
            return Err(self.broken_head(head_bytes)?);
        };
        let kind = self.check_place(&head)?;
        let body = read_up_to(&mut self.source, head.body_bytes as usize)?;
        let stored = read_up_to(&mut self.source, HASH_BYTES)?;
        let Some(stored) = stored.first_chunk::<HASH_BYTES>() else {
            return Err(Stop::Cut);
        };
        let hash = self.chain.next_hash(head_bytes, &body);
        if *stored != hash {
            return Err(Stop::Altered(Damage::Hash));
        }
        let frame_bytes = HEAD_BYTES + body.len() + HASH_BYTES;
        let step = match kind {
            Kind::Chunk => self.chunk(body)?,
            Kind::Seal => self.seal(&body)?,
            Kind::End => self.close(&body)?,
        };
        self.chain.advance(hash, frame_bytes);
        Ok(step)
    }

    /// A head that does not match its check. A file system may leave zeros where a crash kept data
    /// from being written, which is a cut.
    fn broken_head(&mut self, head: &[u8]) -> io::Result<Stop> {
        let mut block = head.to_vec();
        while block.iter().all(|byte| *byte == 0) {
            if block.is_empty() {
                return Ok(Stop::Cut);
            }
            block = read_up_to(&mut self.source, ZERO_BLOCK_BYTES)?;
        }
        Ok(Stop::Altered(Damage::Head))
    }

    /// Whether the head belongs here; its kind if it does.
    fn check_place(&mut self, head: &Head) -> Result<Kind, Stop> {
        if head.trail != self.chain.trail() {
            return Err(Stop::Altered(Damage::OtherTrail));
        }
        let found = head.sequence;
        if found < self.chain.sequence {
            return Err(Stop::Altered(Damage::Repeated { found }));
        }
        if found > self.chain.sequence {
            let later = self.comes_later(head)?;
            let damage = if later { Damage::Swapped { found } } else { Damage::Removed { found } };
            return Err(Stop::Altered(damage));
        }
        let Some(kind) = Kind::from_code(head.kind) else {
            return Err(Stop::Altered(Damage::Kind { found: head.kind }));
        };
        let limit = kind.body_bytes_max();
        if head.body_bytes > limit {
            let length = head.body_bytes;
            return Err(Stop::Altered(Damage::Length { length, limit }));
        }
        Ok(kind)
    }

    /// Whether the frame expected here follows further down; reads to the end of what makes sense.
    fn comes_later(&mut self, head: &Head) -> io::Result<bool> {
        let mut rest_bytes = u64::from(head.body_bytes) + HASH_BYTES as u64;
        loop {
            let skipped = io::copy(&mut self.source.by_ref().take(rest_bytes), &mut io::sink())?;
            let bytes = read_up_to(&mut self.source, HEAD_BYTES)?;
            let head = bytes.first_chunk::<HEAD_BYTES>().and_then(Head::decode);
            let Some(head) = head.filter(|_| skipped == rest_bytes) else {
                return Ok(false);
            };
            if head.trail == self.chain.trail() && head.sequence == self.chain.sequence {
                return Ok(true);
            }
            rest_bytes = u64::from(head.body_bytes) + HASH_BYTES as u64;
        }
    }

    /// A chunk's body.
    fn chunk(&mut self, mut body: Vec<u8>) -> Result<Step, Stop> {
        let clear = ChunkClear::decode(&body).map_err(Damage::Body)?;
        let context = self.chain.chunk_context(clear);
        self.chain.counts.add(clear.stream, clear.record_bytes);
        // INVARIANT: `decode` found at least the clear fields.
        let ciphertext = body.split_off(CHUNK_CLEAR_BYTES);
        Ok(Step::Chunk(Chunk { context, ciphertext }))
    }

    /// A seal's body.
    fn seal(&mut self, body: &[u8]) -> Result<Step, Stop> {
        let seal = Seal::decode(body).map_err(Damage::Body)?;
        let message = self.chain.seal_message(seal.wall_ns);
        if !self.header.signer.verifies(&message, &seal.signature) {
            return Err(Stop::Altered(Damage::SealSignature));
        }
        self.sealed = Some(SealPoint { sequence: self.chain.sequence, wall_ns: seal.wall_ns });
        Ok(Step::Signed)
    }

    /// An end's body. The signature comes first: what differs under a good one is the writer's
    /// fault, not a forger's.
    fn close(&mut self, body: &[u8]) -> Result<Step, Stop> {
        let Some((fields, signature)) = body.split_last_chunk::<SIGNATURE_BYTES>() else {
            return Err(Stop::Altered(Damage::EndSignature));
        };
        let end = End::decode(fields).map_err(Damage::Body)?;
        if !self.header.signer.verifies(&self.chain.end_message(fields), signature) {
            return Err(Stop::Altered(Damage::EndSignature));
        }
        if end.final_hash != self.chain.hash {
            return Err(Stop::Altered(Damage::FinalHash));
        }
        if end.counts != self.chain.counts {
            return Err(Stop::Altered(Damage::Counts));
        }
        self.end = Some(end);
        Ok(Step::Signed)
    }
}

impl<R: Read + Seek> Walk<R> {
    /// Begins behind a header that was checked.
    pub(crate) fn resume(source: R, header: SignedHeader) -> Result<Self, TrailError> {
        let chain = Chain::start(&header);
        let mut walk =
            Self { source: BufReader::new(source), header, chain, sealed: None, end: None };
        walk.go_to(chain.offset_bytes)?;
        Ok(walk)
    }

    /// Goes to a place, which is not checked; from there on every frame has to follow it.
    pub(crate) fn jump(&mut self, place: &Place) -> Result<(), TrailError> {
        let start = Chain::start(&self.header);
        let before = if place.sequence == 0 {
            self.go_to(place.offset_bytes)?;
            start.hash
        } else {
            self.go_to(place.offset_bytes.saturating_sub(HASH_BYTES as u64))?;
            let mut hash = [0; HASH_BYTES];
            self.source.read_exact(&mut hash).map_err(|source| TrailError::Read { source })?;
            hash
        };
        self.chain = start.at(place, before);
        self.sealed = None;
        self.end = None;
        Ok(())
    }

    fn go_to(&mut self, offset_bytes: u64) -> Result<(), TrailError> {
        match self.source.seek(SeekFrom::Start(offset_bytes)) {
            Ok(_) => Ok(()),
            Err(source) => Err(TrailError::Read { source }),
        }
    }
}

/// Why there is no intact frame here.
enum Stop {
    Complete,
    Cut,
    Altered(Damage),
    Unreadable(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl From<Damage> for Stop {
    fn from(damage: Damage) -> Self {
        Self::Altered(damage)
    }
}

/// How much of a run of zeros is looked at in one go.
const ZERO_BLOCK_BYTES: usize = 64 * 1024;
