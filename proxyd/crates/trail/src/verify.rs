//! Proves a trail with the public key alone: complete, cut, or altered and where.
use std::fmt;
use std::io::Read;

use crate::error::{FieldError, TrailError};
use crate::frame::{End, Outcome};
use crate::header::SignedHeader;
use crate::sign::{Hash, VerifyingKey};
use crate::stream::Counts;
use crate::walk::{Step, Walk};

/// Reads a whole trail and checks every frame. With `key` the trail has to be signed by it;
/// without, the report says only that the trail is consistent with the key it names itself.
///
/// Fails if the source does or if the header is cut, altered or signed by another key: nothing
/// after it can be trusted then. All other findings are in the report.
pub fn verify(source: impl Read, key: Option<&VerifyingKey>) -> Result<Report, TrailError> {
    let mut walk = Walk::open(source, key)?;
    loop {
        if let Step::Stopped(verdict) = walk.step()? {
            return Ok(Report {
                header: walk.header().clone(),
                verdict,
                frames: walk.chain().sequence,
                intact_bytes: walk.chain().offset_bytes,
                counts: walk.chain().counts,
                hash: walk.chain().hash,
                sealed: walk.sealed(),
                end: walk.end().cloned(),
            });
        }
    }
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// The header, whose signature is good.
    pub header: SignedHeader,
    /// Whether the trail is whole.
    pub verdict: Verdict,
    /// Intact frames, seals and end included.
    pub frames: u64,
    /// Bytes of the header and the intact frames.
    pub intact_bytes: u64,
    /// Chunks and bytes of each stream in the intact frames.
    pub counts: Counts,
    /// Chain hash of the last intact frame: of a complete trail, the one that was kept elsewhere.
    pub hash: Hash,
    /// The last good seal. In a trail that is not complete the frames after it are unproven: their
    /// hashes fit, but nobody signed them.
    pub sealed: Option<SealPoint>,
    /// The end, if there is one.
    pub end: Option<End>,
}

impl Report {
    /// Whether the trail has the end that its session gave it, and nothing is missing or changed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.ended_as(Outcome::Closed)
    }

    /// Whether the trail was cut by a crash and closed afterwards: what it holds is unchanged since
    /// then, but nothing proves what the session did behind the last seal, nor that the crash did
    /// not come in handy.
    #[must_use]
    pub fn is_recovered(&self) -> bool {
        self.ended_as(Outcome::Recovered)
    }

    fn ended_as(&self, outcome: Outcome) -> bool {
        let is_whole = matches!(self.verdict, Verdict::Complete);
        is_whole && self.end.as_ref().is_some_and(|end| end.outcome == outcome)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.verdict {
            Verdict::Complete if self.is_recovered() => {
                write!(f, "recovered: {} frames", self.frames)?;
            }
            Verdict::Complete => write!(f, "complete: {} frames", self.frames)?,
            Verdict::Cut { sequence, offset_bytes } => {
                write!(f, "cut at byte {offset_bytes}: {sequence} frames are intact")?;
            }
            Verdict::Altered { sequence, offset_bytes, damage } => {
                write!(f, "altered at frame {sequence}, byte {offset_bytes}: {damage}")?;
            }
        }
        match (&self.end, self.sealed) {
            (Some(end), _) if end.outcome == Outcome::Closed => Ok(()),
            (Some(_), Some(sealed)) => {
                write!(f, "; closed after a crash, sealed up to frame {}", sealed.sequence)
            }
            (Some(_), None) => f.write_str("; closed after a crash, nothing was sealed before"),
            (None, Some(sealed)) => write!(f, "; sealed up to frame {}", sealed.sequence),
            (None, None) => f.write_str("; nothing is sealed"),
        }
    }
}

/// A point up to which a trail is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealPoint {
    /// Number of the seal's frame; it covers all frames before.
    pub sequence: u64,
    /// Wall clock of the seal in nanoseconds since 1970-01-01 UTC.
    pub wall_ns: u64,
}

/// Whether a trail is whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything is there, up to a signed end.
    Complete,
    /// The file stops before the end of the trail; what is there is intact.
    Cut {
        /// Number of the first missing frame: that many are intact.
        sequence: u64,
        /// Where the first missing frame starts in the file.
        offset_bytes: u64,
    },
    /// A frame is not what was written.
    Altered {
        /// Number of the frame expected here: that many are intact.
        sequence: u64,
        /// Where it starts in the file.
        offset_bytes: u64,
        /// What is wrong.
        damage: Damage,
    },
}

/// What is wrong with a frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The head does not match its check: bytes of it were changed.
    #[error("bytes of the frame's head were changed")]
    Head,
    /// Body and stored hash do not follow from the frames before: bytes were changed.
    #[error("bytes of the frame were changed: wrong hash")]
    Hash,
    /// The frame's tag is another trail's.
    #[error("the frame belongs to another trail")]
    OtherTrail,
    /// The frame was here already.
    #[error("frame {found} is repeated")]
    Repeated {
        /// Number of the frame found.
        found: u64,
    },
    /// A later frame stands here and the expected one comes after it.
    #[error("frame {found} stands here, the expected frame comes later: frames were swapped")]
    Swapped {
        /// Number of the frame found.
        found: u64,
    },
    /// A later frame stands here and the expected one is not in the file.
    #[error("frame {found} stands here: the frames before it were removed")]
    Removed {
        /// Number of the frame found.
        found: u64,
    },
    /// The head names a kind this version does not know.
    #[error("the frame has the unknown kind {found}")]
    Kind {
        /// The kind's byte.
        found: u8,
    },
    /// The head states a body that is too long.
    #[error("the frame's body of {length} bytes exceeds the limit {limit}")]
    Length {
        /// The stated length.
        length: u32,
        /// The largest length allowed.
        limit: u32,
    },
    /// The hash is right but the body cannot be decoded.
    #[error("the frame's body is malformed")]
    Body(#[source] FieldError),
    /// The seal is not signed by the trail's key: it, or a frame since the last seal, was forged.
    #[error("the seal's signature is wrong: a frame since the seal before was forged")]
    SealSignature,
    /// The end is not signed by the trail's key: it, or a frame since the last seal, was forged.
    #[error("the end's signature is wrong: a frame since the last seal was forged")]
    EndSignature,
    /// The end is signed but names another hash.
    #[error("the end names another final hash than the frames have")]
    FinalHash,
    /// The end is signed but counts other chunks.
    #[error("the end counts other chunks or bytes than there are")]
    Counts,
    /// Something follows the end.
    #[error("bytes follow the end of the trail")]
    AfterEnd,
}
