//! Delivery: into this host's stack, through the bridge, or back to the client as a reset.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT, TCX_PASS};
use aya_ebpf::helpers::bpf_csum_diff;
use steering_common::flow::Family;
use steering_common::layout::Settings;
use steering_common::parse::{ACK, Bytes as _, RST, Segment};
use steering_common::stats::Reason;

use crate::account::{count, discard};
use crate::maps::{PORTS, SETTINGS};
use crate::packet::Frame;
use crate::sock::{self, Assigned, Held};

/// Sends the packet into this host's stack: the policy routing rule finds the mark. No program
/// after this one sees it, such as one of another version whose daemon is gone.
#[inline(always)]
pub(crate) fn to_host(frame: &Frame<'_>, settings: &Settings) -> i32 {
    frame.claim(settings.route_mark);
    TCX_PASS
}

/// Sends the frame up through the bridge: addressed to its port, the bridge keeps it.
#[inline(always)]
pub(crate) fn to_bridge(frame: &Frame<'_>, settings: &Settings) -> i32 {
    // SAFETY: the element is copied at once; the daemon replaces elements, it never frees the map.
    let Some(port) = (unsafe { PORTS.get(frame.ifindex()) }) else {
        return discard(Reason::PortUnknown);
    };
    let address = port.address;
    if !frame.write(0, &address) {
        return discard(Reason::PortFailed);
    }
    to_host(frame, settings)
}

/// Assigns the listener to a packet that a port handed up. It is done here and not on the port
/// because bridge netfilter drops a packet's socket on the way.
#[inline(always)]
pub(crate) fn on_bridge(frame: &Frame<'_>) -> i32 {
    let Some(settings) = SETTINGS.get(0) else {
        return TCX_NEXT;
    };
    if frame.mark() & settings.route_mark == 0 {
        return TCX_NEXT;
    }
    let mut segment = Segment::EMPTY;
    if frame.headers(&mut segment).is_err() {
        return TCX_NEXT;
    }
    if !segment.opens() && !segment.may_end_handshake()
        || sock::held(frame, &segment.flow, settings.socket_mark) != Held::Nothing
    {
        return TCX_NEXT;
    }
    if sock::assign_listener(frame, segment.flow.family) == Assigned::Yes {
        return TCX_PASS;
    }
    count(Reason::AssignFailed);
    TCX_DROP
}

/// Offset of the TCP header's word with the flags.
const TCP_FLAGS: u32 = 12;

/// Makes a SYN that meets what remains of a closed connection one that no listener can take: it
/// gets an ACK, out of place in a handshake. The kernel answers as it answers any SYN out of its
/// window, the client resets what remains (RFC 9293 section 3.5.1), and its next SYN meets nothing.
///
/// Left as it is, the kernel would look for a listener of the destination, and find a server of
/// this host that listens on every address. Given to the proxy's listener, it would be lost: the
/// kernel makes no second connection of these addresses and ports.
#[inline(always)]
pub(crate) fn close_to_listeners(frame: &Frame<'_>, segment: &Segment) -> bool {
    let word = segment.tcp_offset + TCP_FLAGS;
    let Some(before) = frame.read::<4>(word) else {
        return false;
    };
    let [data_offset, flags, w0, w1] = before;
    let after = [data_offset, flags | ACK, w0, w1];
    let Some(difference) = sum_difference(before, after) else {
        return false;
    };
    frame.write(word, &after) && frame.fix_checksum(segment.tcp_offset + TCP_CHECKSUM, difference)
}

/// Time to live of a reset we send, the usual default of hosts.
const RESET_HOPS: u8 = 64;
/// Offsets in the IPv4 header: time to live with the protocol behind it, checksum, addresses.
const V4_HOPS: u32 = 8;
const V4_CHECKSUM: u32 = 10;
const V4_SOURCE: u32 = 12;
const V4_DESTINATION: u32 = 16;
/// Offsets in the IPv6 header: hop limit, addresses.
const V6_HOPS: u32 = 7;
const V6_SOURCE: u32 = 8;
const V6_DESTINATION: u32 = 24;
/// Offset of the checksum in the TCP header.
const TCP_CHECKSUM: u32 = 16;
/// Length of a hardware address.
const HARDWARE_BYTES: u32 = 6;

/// Turns a SYN into the reset that answers it (RFC 9293 section 3.10.7.1) and sends it back.
/// The length of the packet stays: options become padding.
///
/// A function of its own, so that its copies of headers take no place on the stack of the others.
#[inline(never)]
pub(crate) fn reset(frame: &Frame<'_>, segment: &Segment) -> i32 {
    if turn_link(frame).is_none() || turn_ip(frame, segment).is_none() {
        return discard(Reason::ResetFailed);
    }
    if turn_tcp(frame, segment).is_none() {
        return discard(Reason::ResetFailed);
    }
    count(Reason::DownReset);
    frame.send_back()
}

#[inline(always)]
fn turn_link(frame: &Frame<'_>) -> Option<()> {
    let to = frame.read::<6>(0)?;
    let from = frame.read::<6>(HARDWARE_BYTES)?;
    done(frame.write(0, &from) && frame.write(HARDWARE_BYTES, &to))
}

/// Exchanges the addresses, which leaves every checksum as it is, and renews the hop limit.
#[inline(always)]
fn turn_ip(frame: &Frame<'_>, segment: &Segment) -> Option<()> {
    let ip = segment.ip_offset;
    match segment.flow.family {
        Family::V4 => {
            let source = frame.read::<4>(ip + V4_SOURCE)?;
            let destination = frame.read::<4>(ip + V4_DESTINATION)?;
            let [hops, protocol] = frame.read::<2>(ip + V4_HOPS)?;
            let before = u16::from_be_bytes([hops, protocol]);
            let after = u16::from_be_bytes([RESET_HOPS, protocol]);
            done(
                frame.write(ip + V4_SOURCE, &destination)
                    && frame.write(ip + V4_DESTINATION, &source)
                    && frame.write(ip + V4_HOPS, &[RESET_HOPS])
                    && frame.fix_ip_checksum(ip + V4_CHECKSUM, before, after),
            )
        }
        Family::V6 => {
            let source = frame.read::<16>(ip + V6_SOURCE)?;
            let destination = frame.read::<16>(ip + V6_DESTINATION)?;
            done(
                frame.write(ip + V6_SOURCE, &destination)
                    && frame.write(ip + V6_DESTINATION, &source)
                    && frame.write(ip + V6_HOPS, &[RESET_HOPS]),
            )
        }
    }
}

#[inline(always)]
fn turn_tcp(frame: &Frame<'_>, segment: &Segment) -> Option<()> {
    let tcp = segment.tcp_offset;
    let before = frame.read::<20>(tcp)?;
    let [s0, s1, d0, d1, q0, q1, q2, q3, _, _, _, _, data_offset, _, _, _, c0, c1, _, _] = before;
    // The SYN takes one number, and data sent with it as many as it has bytes.
    let acknowledged =
        u32::from_be_bytes([q0, q1, q2, q3]).wrapping_add(segment.payload_bytes).wrapping_add(1);
    let [a0, a1, a2, a3] = acknowledged.to_be_bytes();
    let after = [
        d0,
        d1,
        s0,
        s1,
        0,
        0,
        0,
        0,
        a0,
        a1,
        a2,
        a3,
        data_offset & 0xf0,
        RST | ACK,
        0,
        0,
        c0,
        c1,
        0,
        0,
    ];
    let difference = sum_difference(before, after)?;
    if !frame.write(tcp, &after) || !frame.fix_checksum(tcp + TCP_CHECKSUM, difference) {
        return None;
    }
    clear_options(frame, segment)
}

/// Words of four bytes that options can take.
const OPTION_WORDS_MAX: u32 = 10;
/// Four options "no operation" (RFC 9293 section 3.2).
const PADDING: [u8; 4] = [1; 4];

#[inline(always)]
fn clear_options(frame: &Frame<'_>, segment: &Segment) -> Option<()> {
    let words = u32::from(segment.header_bytes).saturating_sub(20) / 4;
    for word in 0..OPTION_WORDS_MAX {
        if word >= words {
            break;
        }
        let offset = segment.tcp_offset + 20 + word * 4;
        let difference = sum_difference(frame.read::<4>(offset)?, PADDING)?;
        if !frame.write(offset, &PADDING)
            || !frame.fix_checksum(segment.tcp_offset + TCP_CHECKSUM, difference)
        {
            return None;
        }
    }
    Some(())
}

/// What replacing `before` by `after` adds to a ones' complement sum.
#[inline(always)]
fn sum_difference<const N: usize>(mut before: [u8; N], mut after: [u8; N]) -> Option<u64> {
    let (from, to) = (before.as_mut_ptr().cast(), after.as_mut_ptr().cast());
    // SAFETY: both point to `N` bytes on the stack, and `N` is a multiple of four.
    let difference = unsafe { bpf_csum_diff(from, N as u32, to, N as u32, 0) };
    u64::try_from(difference).ok()
}

#[inline(always)]
const fn done(written: bool) -> Option<()> {
    if written { Some(()) } else { None }
}
