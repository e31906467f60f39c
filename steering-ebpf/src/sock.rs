//! Sockets: whose segment is it, and the listener. Every reference taken is released here.

use aya_ebpf::bindings::{
    BPF_F_CURRENT_NETNS, bpf_sock, bpf_sock_tuple, bpf_sock_tuple__bindgen_ty_1,
    bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
};
use aya_ebpf::helpers::{
    bpf_get_listener_sock, bpf_map_lookup_elem, bpf_sk_assign, bpf_sk_fullsock, bpf_sk_release,
    bpf_skc_lookup_tcp, bpf_tcp_check_syncookie,
};
use core::ffi::c_void;
use core::ptr;
use steering_common::flow::{Family, Flow};
use steering_common::limits::{LISTENER_V4, LISTENER_V6};
use steering_common::parse::Segment;

use crate::forward::Forward;
use crate::maps::LISTENERS;
use crate::packet::Frame;

/// Socket states (`enum tcp_state` of the kernel's user interface).
const STATE_TIME_WAIT: u32 = 6;
const STATE_LISTEN: u32 = 10;
const STATE_NEW_SYN_RECV: u32 = 12;

/// Addresses and ports of an IPv4 socket lookup.
const TUPLE_V4_BYTES: u32 = 12;
/// Addresses and ports of an IPv6 socket lookup.
const TUPLE_V6_BYTES: u32 = 36;

/// What the kernel holds for the addresses and ports of a segment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// No connection of the proxy.
    Nothing,
    /// A handshake with the proxy's listener.
    Handshake,
    /// A connection of the proxy.
    Connection,
    /// What remains of a closed connection (TIME-WAIT, RFC 9293 section 3.6). It has no mark to
    /// read: on an address that is not this host's it can only be a transparent proxy's.
    Remains,
}

/// Asks the kernel for the connection of a segment.
///
/// `mark` is the bit that the proxy's sockets carry; accepted sockets inherit it from their
/// listener, and a connection still in its handshake is known by its listener.
#[inline(always)]
pub(crate) fn held(frame: &Frame<'_>, flow: &Flow, mark: u32) -> Held {
    let socket = find(frame, flow);
    if socket.is_null() {
        return Held::Nothing;
    }
    // SAFETY: not null, and held until the release below.
    let state = unsafe { (*socket).state };
    let ours = match state {
        STATE_LISTEN | STATE_TIME_WAIT => false,
        // SAFETY: the helper takes any socket that a lookup gave.
        STATE_NEW_SYN_RECV => has_mark(unsafe { bpf_get_listener_sock(socket) }, mark),
        // SAFETY: the helper takes any socket that a lookup gave.
        _ => has_mark(unsafe { bpf_sk_fullsock(socket) }, mark),
    };
    release(socket);
    match (ours, state) {
        (true, STATE_NEW_SYN_RECV) => Held::Handshake,
        (true, _) => Held::Connection,
        (false, STATE_TIME_WAIT) => Held::Remains,
        (false, _) => Held::Nothing,
    }
}

/// Whether the kernel has anything but a listener for a segment, the proxy's or not: where frames
/// are not packets yet, it does not tell the mark.
#[inline(always)]
pub(crate) fn may_be_held<F: Forward>(frame: &F, flow: &Flow) -> bool {
    let socket = find(frame, flow);
    if socket.is_null() {
        return false;
    }
    // SAFETY: not null, and held until the release below.
    let state = unsafe { (*socket).state };
    release(socket);
    state != STATE_LISTEN
}

#[inline(always)]
fn has_mark(socket: *mut bpf_sock, mark: u32) -> bool {
    // SAFETY: not null; the socket it was taken from is still held.
    !socket.is_null() && unsafe { (*socket).mark } & mark != 0
}

/// The socket of a segment, held; null where there is none.
#[inline(always)]
fn find<F: Forward>(frame: &F, flow: &Flow) -> *mut bpf_sock {
    match flow.family {
        Family::V4 => lookup_v4(frame, flow),
        Family::V6 => lookup_v6(frame, flow),
    }
}

// The two lookups stay apart: the verifier wants the length of the tuple as a constant.

#[inline(always)]
fn lookup_v4<F: Forward>(frame: &F, flow: &Flow) -> *mut bpf_sock {
    let [_, _, _, source] = flow.source;
    let [_, _, _, destination] = flow.destination;
    let mut tuple = bpf_sock_tuple {
        __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 {
            ipv4: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
                saddr: source,
                daddr: destination,
                sport: flow.source_port.to_be(),
                dport: flow.destination_port.to_be(),
            },
        },
    };
    lookup(frame, &mut tuple, TUPLE_V4_BYTES)
}

#[inline(always)]
fn lookup_v6<F: Forward>(frame: &F, flow: &Flow) -> *mut bpf_sock {
    let mut tuple = bpf_sock_tuple {
        __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 {
            ipv6: bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
                saddr: flow.source,
                daddr: flow.destination,
                sport: flow.source_port.to_be(),
                dport: flow.destination_port.to_be(),
            },
        },
    };
    lookup(frame, &mut tuple, TUPLE_V6_BYTES)
}

#[inline(always)]
fn lookup<F: Forward>(frame: &F, tuple: &mut bpf_sock_tuple, bytes: u32) -> *mut bpf_sock {
    let context = frame.context();
    let namespace = BPF_F_CURRENT_NETNS as i64 as u64;
    // SAFETY: `tuple` holds `bytes` initialized bytes; the result is released by the caller.
    unsafe { bpf_skc_lookup_tcp(context, tuple, bytes, namespace, 0) }
}

/// What became of giving a packet to the listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Assigned {
    /// The listener will get the packet.
    Yes,
    /// No proxy listens.
    NoListener,
    /// The kernel refused.
    Refused,
}

/// Gives the packet to the listener of its IP version.
#[inline(always)]
pub(crate) fn assign_listener(frame: &Frame<'_>, family: Family) -> Assigned {
    let socket = listener(family);
    if socket.is_null() {
        return Assigned::NoListener;
    }
    // SAFETY: not null, and held until the release below.
    let result = unsafe { bpf_sk_assign(frame.raw().cast(), socket.cast(), 0) };
    release(socket);
    if result == 0 { Assigned::Yes } else { Assigned::Refused }
}

/// Whether a proxy listens for the IP version.
#[inline(always)]
pub(crate) fn listens(family: Family) -> bool {
    let socket = listener(family);
    if socket.is_null() {
        return false;
    }
    release(socket);
    true
}

/// Whether the segment ends a handshake that the listener keeps in a SYN cookie alone, because
/// its queue overflowed.
///
/// A function of its own, so that its copies of headers take no place on the stack of the others.
#[inline(never)]
pub(crate) fn ends_cookie_handshake<F: Forward>(frame: &F, segment: &Segment) -> bool {
    let Some(mut tcp) = frame.read::<20>(segment.tcp_offset) else {
        return false;
    };
    match segment.flow.family {
        Family::V4 => {
            let Some(mut ip) = frame.read::<20>(segment.ip_offset) else {
                return false;
            };
            cookie_is_valid(Family::V4, &mut ip, &mut tcp)
        }
        Family::V6 => {
            let Some(mut ip) = frame.read::<40>(segment.ip_offset) else {
                return false;
            };
            cookie_is_valid(Family::V6, &mut ip, &mut tcp)
        }
    }
}

#[inline(always)]
fn cookie_is_valid<const N: usize>(family: Family, ip: &mut [u8; N], tcp: &mut [u8; 20]) -> bool {
    let socket = listener(family);
    if socket.is_null() {
        return false;
    }
    let (ip, tcp) = (ip.as_mut_ptr().cast(), tcp.as_mut_ptr());
    // SAFETY: both headers are whole copies on the stack; the socket is held.
    let result = unsafe { bpf_tcp_check_syncookie(socket.cast(), ip, N as u32, tcp.cast(), 20) };
    release(socket);
    result == 0
}

/// The listener of an IP version, held; null when none listens.
#[inline(always)]
fn listener(family: Family) -> *mut bpf_sock {
    let slot = match family {
        Family::V4 => LISTENER_V4,
        Family::V6 => LISTENER_V6,
    };
    let map = (&raw const LISTENERS).cast_mut().cast::<c_void>();
    // SAFETY: a map of sockets looked up by its own key type; the caller releases the result.
    unsafe { bpf_map_lookup_elem(map, ptr::from_ref(&slot).cast()) }.cast()
}

#[inline(always)]
fn release(socket: *mut bpf_sock) {
    // SAFETY: only called with a socket that a lookup gave and nobody released yet.
    let _always_zero = unsafe { bpf_sk_release(socket.cast()) };
}
