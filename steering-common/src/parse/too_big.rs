//! ICMP errors that say a packet was too big for the path: "fragmentation needed" (RFC 792, RFC
//! 1191) and `ICMPv6` "packet too big" (RFC 4443 section 3.2), and the connection they are about.

use super::{
    Bytes, IPV4_BYTES, IPV4_MORE, IPV4_OFFSET, IPV6_BYTES, PROTOCOL_TCP, Segment, ports_of,
};
use crate::flow::{Family, words_v4, words_v6};

const PROTOCOL_ICMP: u8 = 1;
const NEXT_ICMPV6: u8 = 58;
/// Type and code of "destination unreachable, fragmentation needed".
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
/// Type of "packet too big"; receivers ignore the code.
const PACKET_TOO_BIG: u8 = 2;
/// Type, code, checksum, and the four bytes that hold the size that fits.
const ICMP_BYTES: u32 = 8;

/// Reads the connection of the packet that was too big into `segment`, turned round: as its
/// segments arrive here. `segment` is what [`super::parse`] left of a frame that is not TCP.
///
/// `None` when the frame is no such error, or not about a TCP segment. One whose own packet has
/// extension headers is not read: hosts and routers send none.
#[inline(always)]
pub fn too_big<B: Bytes>(frame: &B, segment: &mut Segment) -> Option<()> {
    match (segment.flow.family, segment.protocol) {
        (Family::V4, PROTOCOL_ICMP) => ipv4(frame, segment),
        (Family::V6, NEXT_ICMPV6) => ipv6(frame, segment),
        _ => None,
    }
}

#[inline(always)]
fn ipv4<B: Bytes>(frame: &B, segment: &mut Segment) -> Option<()> {
    let outer = frame.read::<20>(segment.ip_offset)?;
    let (outer_bytes, protocol) = header_v4(&outer)?;
    let [_, _, _, _, _, _, f0, f1, ..] = outer;
    let is_fragment = u16::from_be_bytes([f0, f1]) & (IPV4_MORE | IPV4_OFFSET) != 0;
    let icmp = segment.ip_offset + outer_bytes;
    if protocol != PROTOCOL_ICMP || is_fragment || frame.read(icmp)? != FRAGMENTATION_NEEDED {
        return None;
    }
    let inner_offset = icmp + ICMP_BYTES;
    let inner = frame.read::<20>(inner_offset)?;
    let (inner_bytes, protocol) = header_v4(&inner)?;
    let [_, _, _, _, _, _, f0, f1, _, _, _, _, s0, s1, s2, s3, d0, d1, d2, d3] = inner;
    if protocol != PROTOCOL_TCP || u16::from_be_bytes([f0, f1]) & IPV4_OFFSET != 0 {
        return None;
    }
    segment.flow.source = words_v4([d0, d1, d2, d3]);
    segment.flow.destination = words_v4([s0, s1, s2, s3]);
    turned_ports(frame, segment, inner_offset + inner_bytes)
}

/// Length in bytes and protocol, when the header is one of IPv4.
#[inline(always)]
fn header_v4(header: &[u8; 20]) -> Option<(u32, u8)> {
    let [version_length, _, _, _, _, _, _, _, _, protocol, ..] = *header;
    let bytes = u32::from(version_length & 0x0f) * 4;
    if version_length >> 4 == 4 && bytes >= IPV4_BYTES { Some((bytes, protocol)) } else { None }
}

#[inline(always)]
fn ipv6<B: Bytes>(frame: &B, segment: &mut Segment) -> Option<()> {
    let [_, _, _, _, _, _, next, _] = frame.read::<8>(segment.ip_offset)?;
    let icmp = segment.ip_offset + IPV6_BYTES;
    let [icmp_type] = frame.read(icmp)?;
    if next != NEXT_ICMPV6 || icmp_type != PACKET_TOO_BIG {
        return None;
    }
    let inner = icmp + ICMP_BYTES;
    let [version, _, _, _, _, _, next, _] = frame.read::<8>(inner)?;
    if version >> 4 != 6 || next != PROTOCOL_TCP {
        return None;
    }
    segment.flow.source = words_v6(frame.read(inner + 24)?);
    segment.flow.destination = words_v6(frame.read(inner + 8)?);
    turned_ports(frame, segment, inner + IPV6_BYTES)
}

#[inline(always)]
fn turned_ports<B: Bytes>(frame: &B, segment: &mut Segment, tcp: u32) -> Option<()> {
    let (source_port, destination_port) = ports_of(frame.read(tcp)?);
    segment.flow.source_port = destination_port;
    segment.flow.destination_port = source_port;
    Some(())
}
