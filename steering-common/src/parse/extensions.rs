//! IPv6 extension headers (RFC 8200 section 4).

use super::{Bytes, PROTOCOL_TCP, Segment, Walk, cut_off};
use crate::limits::EXTENSION_HEADERS_MAX;
use crate::stats::Reason;

/// Shortest extension header, and length of the fragment header.
const EXTENSION_BYTES: u32 = 8;
const ADDRESS_BYTES: u32 = 16;

const NEXT_HOP_BY_HOP: u8 = 0;
const NEXT_ROUTING: u8 = 43;
const NEXT_FRAGMENT: u8 = 44;
const NEXT_AUTHENTICATION: u8 = 51;
const NEXT_DESTINATION: u8 = 60;
const NEXT_MOBILITY: u8 = 135;
const NEXT_HOST_IDENTITY: u8 = 139;
const NEXT_SHIM6: u8 = 140;

/// A walk over the extension headers of a packet.
struct ExtensionWalk<'s> {
    segment: &'s mut Segment,
    /// Type of the header at the segment's offset of TCP.
    next: u8,
    end: u32,
    outcome: Result<(), Reason>,
}

/// Walks extension headers, `next` being the type of the first, until `segment` points to TCP.
#[inline(always)]
pub(super) fn extension_headers<B: Bytes>(
    frame: &B,
    next: u8,
    segment: &mut Segment,
    end: u32,
) -> Result<(), Reason> {
    let outcome = Err(Reason::HeaderChain);
    let mut walk = ExtensionWalk { segment, next, end, outcome };
    frame.run(&mut walk);
    walk.outcome
}

impl Walk for ExtensionWalk<'_> {
    const STEPS_MAX: u32 = EXTENSION_HEADERS_MAX + 1;

    #[inline(always)]
    fn step<B: Bytes>(&mut self, frame: &B) -> bool {
        let stop = match self.next {
            PROTOCOL_TCP => Some(Ok(())),
            NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_FRAGMENT | NEXT_AUTHENTICATION
            | NEXT_DESTINATION | NEXT_MOBILITY | NEXT_HOST_IDENTITY | NEXT_SHIM6 => {
                self.header(frame).err().map(Err)
            }
            other => {
                self.segment.protocol = other;
                Some(Err(Reason::NotTcp))
            }
        };
        if let Some(outcome) = stop {
            self.outcome = outcome;
        }
        stop.is_none()
    }
}

impl ExtensionWalk<'_> {
    #[inline(always)]
    fn header<B: Bytes>(&mut self, frame: &B) -> Result<(), Reason> {
        let segment = &mut *self.segment;
        // All headers have to stand in the first fragment (RFC 7112), but behind one that is not
        // TCP's a later fragment could change TCP's flags.
        if segment.fragment {
            return Err(Reason::TinyFragment);
        }
        let offset = segment.tcp_offset;
        if offset + EXTENSION_BYTES > self.end {
            return Err(cut_off(segment));
        }
        let header = frame.read::<4>(offset).ok_or_else(|| cut_off(segment))?;
        let [following, length, f0, f1] = header;
        segment.tcp_offset += match self.next {
            NEXT_FRAGMENT => EXTENSION_BYTES,
            NEXT_AUTHENTICATION => (u32::from(length) + 2) * 4,
            _ => (u32::from(length) + 1) * 8,
        };
        // Type and segments left follow the length (RFC 8200 section 4.4).
        if self.next == NEXT_ROUTING && f1 != 0 && length >= 2 {
            let addresses = u32::from(length) / 2;
            let first = offset + EXTENSION_BYTES;
            segment.route = [first, first + (addresses - 1) * ADDRESS_BYTES];
        }
        if self.next == NEXT_FRAGMENT {
            // Offset in units of 8 bytes, two reserved bits, more fragments (RFC 8200 section 4.5).
            let field = u16::from_be_bytes([f0, f1]);
            match field >> 3 {
                0 => segment.fragment |= field & 1 != 0,
                1 => return Err(Reason::OverlappingFragment),
                _ => return Err(Reason::LaterFragment),
            }
        }
        self.next = following;
        Ok(())
    }
}
