//! The fast path at the driver: what the steering programs would only let pass is forwarded before
//! the kernel makes a packet of it. Whatever they would do something about is theirs.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS, XDP_REDIRECT};
use steering_common::lookup::Ports;
use steering_common::parse::{Segment, udp};
use steering_common::stats::Reason;

use crate::account::count;
use crate::classify::classify;
use crate::driver::DriverFrame;
use crate::forward::{Fate, forward};
use crate::pairs;
use crate::sock;

/// Forwards a frame, or leaves it to the kernel and to the programs that steer.
#[inline(always)]
pub(crate) fn forward_early(frame: &DriverFrame<'_>) -> u32 {
    if !frame.is_for_us() {
        return XDP_PASS;
    }
    let mut segment = Segment::EMPTY;
    let reason = match frame.headers(&mut segment) {
        Ok(()) if segment.opens() => Reason::NoRule,
        Ok(()) => Reason::NotOurs,
        // No chain of IPv6 headers is walked, so that any header but TCP's is one.
        Err(Reason::NotTcp | Reason::HeaderChain) if udp(frame, &mut segment).is_some() => {
            Reason::NotTcp
        }
        Err(_reason) => return XDP_PASS,
    };
    if reason != Reason::NotTcp && may_be_steered(frame, &segment) {
        return XDP_PASS;
    }
    send_on(frame, &segment, reason)
}

/// Whether the steering programs could do more about a TCP segment than let it pass.
#[inline(always)]
fn may_be_steered(frame: &DriverFrame<'_>, segment: &Segment) -> bool {
    if pairs::may_connect(&segment.flow) {
        let ends_handshake =
            || segment.may_end_handshake() && sock::ends_cookie_handshake(frame, segment);
        if sock::may_be_held(frame, &segment.flow) || ends_handshake() {
            return true;
        }
    }
    segment.opens() && classify(&segment.flow, Ports::Known).is_some()
}

/// A function of its own, so that what it looks up takes no place on the stack of the others.
#[inline(never)]
fn send_on(frame: &DriverFrame<'_>, segment: &Segment, reason: Reason) -> u32 {
    match forward(frame, segment) {
        Fate::Kernel => XDP_PASS,
        Fate::Leaves(_chosen) => {
            count(reason);
            count(Reason::FastPath);
            XDP_REDIRECT
        }
        Fate::Broken => {
            count(Reason::FastPathFailed);
            XDP_DROP
        }
    }
}
