//! The fast path: a packet that is not steered goes straight to the interface its route leads to.
//!
//! The kernel's own routing table decides. Whatever is not plain (options, fragments to make, a hop
//! count at its end, a neighbour that is not known yet) is left to the kernel's stack.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_SUCCESS, bpf_fib_lookup, bpf_fib_lookup__bindgen_ty_1,
    bpf_fib_lookup__bindgen_ty_2, bpf_fib_lookup__bindgen_ty_3, bpf_fib_lookup__bindgen_ty_4,
    bpf_fib_lookup__bindgen_ty_5,
};
use aya_ebpf::helpers;
use core::ffi::{c_int, c_void};
use steering_common::flow::Family;
use steering_common::parse::{
    Bytes, ETHERNET_BYTES, IPV4_MORE, IPV4_OFFSET, PROTOCOL_TCP, PROTOCOL_UDP, Segment, V4_PLAIN,
};

/// A frame that can be sent on.
pub(crate) trait Forward: Bytes {
    /// The context, as helpers want it.
    fn context(&self) -> *mut c_void;

    /// Overwrites bytes of the frame.
    fn put<const N: usize>(&self, offset: u32, bytes: &[u8; N]) -> bool;

    /// Length of the longest IP packet that the frame becomes on the wire, which `said` is the
    /// length in its header of. `None` where that is not known.
    fn packet_bytes(&self, segment: &Segment, said: u16) -> Option<u16>;

    /// Whether a frame can leave by the interface with this index. All can where the kernel's stack
    /// sends it.
    #[inline(always)]
    fn can_leave_by(&self, _ifindex: u32) -> bool {
        true
    }
}

/// What became of a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is not changed; the kernel's stack forwards it.
    Kernel,
    /// It is ready to leave by the interface with this index.
    Leaves(u32),
    /// It could not be changed as a whole.
    Broken,
}

const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const V6_BYTES: u16 = 40;
/// Offsets in the IP headers.
const V4_HOPS: u32 = 8;
const V6_NEXT: u32 = 6;

/// In the first octet of a hardware address: of a group or of all.
const LINK_GROUP: u8 = 1;
/// First octets of IPv4 addresses: "this net", loopback, groups and all above.
const NET_THIS: u8 = 0;
const NET_LOOPBACK: u8 = 127;
const NET_GROUPS_MIN: u8 = 224;

/// What a router changes in the IP header, with what stands in between.
enum Change {
    /// Hop count, protocol and checksum.
    V4([u8; 4]),
    /// Next header and hop count.
    V6([u8; 2]),
}

/// Looks up the route of a TCP or UDP packet, and makes the frame ready to leave by it.
#[inline(always)]
pub(crate) fn forward<F: Forward>(frame: &F, segment: &Segment) -> Fate {
    let Some((mut route, change)) = route_of(frame, segment) else {
        return Fate::Kernel;
    };
    let (at, length) = (&raw mut route, size_of::<bpf_fib_lookup>() as c_int);
    // SAFETY: a whole structure on the stack, of the length that is told.
    let found = unsafe { helpers::bpf_fib_lookup(frame.context(), at, length, 0) };
    if found != i64::from(BPF_FIB_LKUP_RET_SUCCESS) || route.ifindex == segment.flow.ifindex {
        return Fate::Kernel;
    }
    // Before the frame is changed: the kernel has to get it as it came.
    if !frame.can_leave_by(route.ifindex) {
        return Fate::Kernel;
    }
    let written = match change {
        Change::V4(changed) => frame.put(ETHERNET_BYTES + V4_HOPS, &changed),
        Change::V6(changed) => frame.put(ETHERNET_BYTES + V6_NEXT, &changed),
    };
    let [d0, d1, d2, d3, d4, d5] = route.dmac;
    let [s0, s1, s2, s3, s4, s5] = route.smac;
    if written && frame.put(0, &[d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5]) {
        Fate::Leaves(route.ifindex)
    } else {
        Fate::Broken
    }
}

#[inline(always)]
fn route_of<F: Forward>(frame: &F, segment: &Segment) -> Option<(bpf_fib_lookup, Change)> {
    let flow = &segment.flow;
    if segment.ip_offset != ETHERNET_BYTES || segment.snap || flow.vlan != 0 || segment.fragment {
        return None;
    }
    // A frame to all or to a group is no frame to this router, whoever it is addressed to in IP.
    let [first_octet, _] = frame.read::<2>(0)?;
    if first_octet & LINK_GROUP != 0 {
        return None;
    }
    let mut route = bpf_fib_lookup {
        family: AF_INET,
        l4_protocol: 0,
        sport: flow.source_port.to_be(),
        dport: flow.destination_port.to_be(),
        __bindgen_anon_1: bpf_fib_lookup__bindgen_ty_1 { tot_len: 0 },
        ifindex: flow.ifindex,
        __bindgen_anon_2: bpf_fib_lookup__bindgen_ty_2 { flowinfo: 0 },
        __bindgen_anon_3: bpf_fib_lookup__bindgen_ty_3 { ipv6_src: [0; 4] },
        __bindgen_anon_4: bpf_fib_lookup__bindgen_ty_4 { ipv6_dst: [0; 4] },
        __bindgen_anon_5: bpf_fib_lookup__bindgen_ty_5 { tbid: 0 },
        smac: [0; 6],
        dmac: [0; 6],
    };
    let (said, change) = match flow.family {
        Family::V4 => {
            let header = frame.read::<20>(ETHERNET_BYTES)?;
            let [first, tos, l0, l1, _, _, f0, f1, hops, protocol, c0, c1, ..] = header;
            let is_fragment = u16::from_be_bytes([f0, f1]) & (IPV4_MORE | IPV4_OFFSET) != 0;
            if first != V4_PLAIN || is_fragment {
                return None;
            }
            let [_, _, _, source] = flow.source;
            let [_, _, _, destination] = flow.destination;
            if !is_routed_v4(source) || !is_routed_v4(destination) {
                return None;
            }
            route.l4_protocol = protocol;
            route.__bindgen_anon_2.tos = tos;
            route.__bindgen_anon_3.ipv4_src = source;
            route.__bindgen_anon_4.ipv4_dst = destination;
            let (hops, [c0, c1]) = one_hop_less(hops, [c0, c1])?;
            (u16::from_be_bytes([l0, l1]), Change::V4([hops, protocol, c0, c1]))
        }
        Family::V6 => {
            let header = frame.read::<8>(ETHERNET_BYTES)?;
            let [v0, v1, v2, v3, l0, l1, next, hops] = header;
            // Addresses of the link and of groups are told by the look-up, this one is not.
            if flow.source == [0; 4] {
                return None;
            }
            route.family = AF_INET6;
            route.l4_protocol = next;
            // Traffic class and flow label, without the version.
            route.__bindgen_anon_2.flowinfo = u32::from_ne_bytes([v0 & 0x0f, v1, v2, v3]);
            route.__bindgen_anon_3.ipv6_src = flow.source;
            route.__bindgen_anon_4.ipv6_dst = flow.destination;
            let hops = hops.checked_sub(1).filter(|hops| *hops > 0)?;
            let payload = u16::from_be_bytes([l0, l1]);
            (payload.checked_add(V6_BYTES)?, Change::V6([next, hops]))
        }
    };
    if !matches!(route.l4_protocol, PROTOCOL_TCP | PROTOCOL_UDP) {
        return None;
    }
    route.__bindgen_anon_1.tot_len = frame.packet_bytes(segment, said)?;
    Some((route, change))
}

/// Whether a router may forward from and to an IPv4 address, which is given as it stands in a
/// packet (RFC 1812 section 5.3.7). The look-up of a route does not ask.
#[inline(always)]
const fn is_routed_v4(address: u32) -> bool {
    let [first, ..] = address.to_ne_bytes();
    !matches!(first, NET_THIS | NET_LOOPBACK | NET_GROUPS_MIN..)
}

/// The hop count of the next router, and the IPv4 header's checksum with it (RFC 1141).
#[inline(always)]
fn one_hop_less(hops: u8, checksum: [u8; 2]) -> Option<(u8, [u8; 2])> {
    let hops = hops.checked_sub(1).filter(|hops| *hops > 0)?;
    let (sum, carry) = u16::from_be_bytes(checksum).overflowing_add(0x0100);
    let sum = sum.wrapping_add(u16::from(carry));
    // Zero and its complement mean the same; the kernel writes the first.
    let sum = if sum == u16::MAX { 0 } else { sum };
    Some((hops, sum.to_be_bytes()))
}
