//! Closes a trail that a crash left open.
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use crate::chain::Chain;
use crate::cursor::read_up_to;
use crate::error::TrailError;
use crate::frame::{HEAD_BYTES, Head, Kind, Outcome};
use crate::sign::{Hash, SigningKey};
use crate::verify::{Damage, SealPoint, Verdict};
use crate::walk::{Step, Walk};
use crate::writer::{Sink, Summary};

/// A trail's file after a crash.
pub trait Spool: Read + Seek + Sink {
    /// Cuts the file to `length_bytes`.
    fn truncate(&mut self, length_bytes: u64) -> io::Result<()>;
}

impl Spool for File {
    fn truncate(&mut self, length_bytes: u64) -> io::Result<()> {
        self.set_len(length_bytes)
    }
}

/// What was done to a trail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// It has its end already; nothing was done.
    Complete {
        /// Chain hash of its last frame.
        hash: Hash,
    },
    /// It was closed with [`Outcome::Recovered`].
    Closed {
        /// What the closed trail holds.
        summary: Summary,
        /// The last seal made while the session ran, if there was time for one.
        sealed: Option<SealPoint>,
        /// Bytes of a torn frame that were cut off.
        dropped_bytes: u64,
    },
}

impl Recovery {
    /// Chain hash that the trail ends with.
    #[must_use]
    pub const fn hash(&self) -> &Hash {
        match self {
            Self::Complete { hash } => hash,
            Self::Closed { summary, .. } => &summary.hash,
        }
    }
}

/// Closes a trail: cuts off a frame that was torn by the crash and appends a signed end that says
/// so. Intact frames after the last seal are kept.
///
/// Damage after the last seal counts as torn, for a crash may leave anything there. Fails without
/// touching the file if damage comes before a seal or after the end ([`TrailError::Altered`]), if
/// the header is cut (nothing was recorded then) or altered, or if another key signed it.
pub fn recover<S: Spool>(
    spool: &mut S,
    signing_key: &SigningKey,
    reason: &str,
    wall_ns: u64,
) -> Result<Recovery, TrailError> {
    let read_failed = |source| TrailError::Read { source };
    let file_bytes = spool.seek(SeekFrom::End(0)).map_err(read_failed)?;
    spool.seek(SeekFrom::Start(0)).map_err(read_failed)?;
    let (mut chain, sealed, verdict) = follow(spool, signing_key)?;
    match verdict {
        Verdict::Complete => return Ok(Recovery::Complete { hash: chain.hash }),
        Verdict::Cut { .. } => {}
        Verdict::Altered { sequence, offset_bytes, damage } => {
            if damage == Damage::AfterEnd || signed_frame_follows(spool, &chain)? {
                return Err(TrailError::Altered { sequence, offset_bytes, source: damage });
            }
        }
    }
    let offset_bytes = chain.offset_bytes;
    let dropped_bytes = file_bytes.saturating_sub(offset_bytes);
    // Built first: a failure must not leave a file that was cut for nothing.
    let end = chain.end_frame(signing_key, Outcome::Recovered, reason, wall_ns)?;
    spool
        .truncate(offset_bytes)
        .and_then(|()| spool.seek(SeekFrom::Start(offset_bytes)))
        .map_err(|source| TrailError::Truncate { offset_bytes, source })?;
    spool.write_all(&end).map_err(|source| TrailError::Write { source })?;
    spool.flush().and_then(|()| spool.sync()).map_err(|source| TrailError::Sync { source })?;
    let summary = Summary {
        frames: chain.sequence,
        length_bytes: chain.offset_bytes,
        counts: chain.counts,
        hash: chain.hash,
    };
    Ok(Recovery::Closed { summary, sealed, dropped_bytes })
}

/// Follows the intact frames; the state after them, the last seal, and why they stop.
fn follow<S: Spool>(
    spool: &mut S,
    signing_key: &SigningKey,
) -> Result<(Chain, Option<SealPoint>, Verdict), TrailError> {
    let mut walk = Walk::open(spool, Some(&signing_key.public()))?;
    loop {
        if let Step::Stopped(verdict) = walk.step()? {
            return Ok((*walk.chain(), walk.sealed(), verdict));
        }
    }
}

/// Whether the head of a seal or end of this trail stands anywhere after the first byte of the
/// damaged frame. What it covers was on disk when it was written, so the damage is no crash.
fn signed_frame_follows<S: Spool>(spool: &mut S, chain: &Chain) -> Result<bool, TrailError> {
    let read_failed = |source| TrailError::Read { source };
    spool.seek(SeekFrom::Start(chain.offset_bytes + 1)).map_err(read_failed)?;
    let mut window = Vec::new();
    loop {
        let mut block = read_up_to(spool, SCAN_BLOCK_BYTES).map_err(read_failed)?;
        if block.is_empty() {
            return Ok(false);
        }
        window.append(&mut block);
        if window.windows(HEAD_BYTES).any(|bytes| is_signed_head(bytes, chain)) {
            return Ok(true);
        }
        // A head may lie across two blocks.
        let scanned = window.len().saturating_sub(HEAD_BYTES - 1);
        drop(window.drain(..scanned));
    }
}

/// Whether the bytes are the head of a seal or end of the trail.
fn is_signed_head(bytes: &[u8], chain: &Chain) -> bool {
    // The cheap comparison first: the head's check costs a hash.
    let starts = |kind: Kind| bytes.first() == Some(&kind.code());
    if !(starts(Kind::Seal) || starts(Kind::End)) {
        return false;
    }
    let head = bytes.first_chunk::<HEAD_BYTES>().and_then(Head::decode);
    head.is_some_and(|head| head.trail == chain.trail())
}

/// How much of a damaged tail is looked at in one go.
const SCAN_BLOCK_BYTES: usize = 64 * 1024;
