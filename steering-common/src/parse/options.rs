//! IPv4 options, as far as they say where a packet is to go (RFC 791 section 3.1).

use super::{Bytes, Walk};

const OPTION_END: u8 = 0;
const OPTION_NOTHING: u8 = 1;
const OPTION_LOOSE_ROUTE: u8 = 131;
const OPTION_STRICT_ROUTE: u8 = 137;
/// Type, length and pointer, and one address.
const ROUTE_BYTES_MIN: u32 = 7;
const ADDRESS_BYTES: u32 = 4;

/// A walk over the options of a header, in search of a source route.
struct OptionWalk {
    offset: u32,
    end: u32,
    /// Offset of the last address of the route; 0 where there is none.
    last: u32,
}

impl Walk for OptionWalk {
    /// Options take 40 bytes at most.
    const STEPS_MAX: u32 = 40;

    #[inline(always)]
    fn step<B: Bytes>(&mut self, frame: &B) -> bool {
        if self.offset + 2 > self.end {
            return false;
        }
        let Some([option, length]) = frame.read::<2>(self.offset) else { return false };
        let length = u32::from(length);
        if option == OPTION_NOTHING {
            self.offset += 1;
            return true;
        }
        let is_route = option == OPTION_LOOSE_ROUTE || option == OPTION_STRICT_ROUTE;
        if is_route && length >= ROUTE_BYTES_MIN {
            self.last = self.offset + length - ADDRESS_BYTES;
            return false;
        }
        self.offset += length;
        option != OPTION_END && length >= 2
    }
}

/// Where the last address of a source route stands between `start` and `end`, as the first and the
/// last address that a packet is routed by; 0 where there is none. Only the last can be the one
/// that takes the packet.
#[inline(always)]
pub(super) fn source_route<B: Bytes>(frame: &B, start: u32, end: u32) -> [u32; 2] {
    let mut walk = OptionWalk { offset: start, end, last: 0 };
    frame.run(&mut walk);
    [walk.last, walk.last]
}
