//! Bounded header walk: Ethernet, 802.1Q, IPv4 with options, IPv6 with extension headers, TCP.
//!
//! The same code runs in the kernel and in tests, over whatever can give bytes by offset.

use crate::flow::{Family, Flow, words_v4, words_v6};
use crate::limits::{EXTENSION_HEADERS_MAX, INLINE_TAGS_MAX};
use crate::stats::Reason;

/// A frame that gives its bytes by offset.
pub trait Bytes {
    /// The `N` bytes at `offset`, or `None` when the frame ends before.
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// Length of the frame in bytes.
    fn length(&self) -> u32;
}

/// How a frame arrived; what cannot be read from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Interface index.
    pub ifindex: u32,
    /// Tag control information of the tag the kernel took out of the frame.
    pub tag: Option<u16>,
}

/// What a frame turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet {
    /// A TCP segment whose header is all there.
    Tcp(Segment),
    /// Could hide the start of a TCP connection: dropped for `Reason` when its addresses match a
    /// rule, passed otherwise. Ports in the flow are 0.
    Unsure(Flow, Reason),
    /// Nothing that is steered: passed for `Reason`.
    Other(Reason),
}

/// A TCP segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Addresses and ports.
    pub flow: Flow,
    /// Offset of the IP header in the frame.
    pub ip_offset: u32,
    /// Offset of the TCP header in the frame.
    pub tcp_offset: u32,
    /// Bytes after the TCP header, as the IP header counts them.
    pub payload_bytes: u32,
    /// Length of the TCP header in bytes, 20 to 60.
    pub header_bytes: u8,
    /// TCP flags, [`SYN`] and so on.
    pub flags: u8,
    /// Whether this is the first fragment of a larger packet.
    pub fragment: bool,
}

impl Segment {
    /// Whether the segment opens a connection: SYN without ACK, whatever else is set.
    #[inline(always)]
    #[must_use]
    pub const fn opens(&self) -> bool {
        self.flags & (SYN | ACK) == SYN
    }

    /// Whether the segment can end a handshake: ACK with neither SYN, RST nor FIN.
    #[inline(always)]
    #[must_use]
    pub const fn may_end_handshake(&self) -> bool {
        self.flags & (SYN | ACK | RST | FIN) == ACK
    }
}

/// TCP flags (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// Synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// The acknowledgement field counts.
pub const ACK: u8 = 0x10;

/// Two hardware addresses and the type.
const ETHERNET_BYTES: u32 = 14;
/// Tag control information and the type that follows it.
const TAG_BYTES: u32 = 4;
const TYPE_OFFSET: u32 = 12;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
/// 802.1Q and 802.1ad.
const TYPE_TAG: u16 = 0x8100;
const TYPE_SERVICE_TAG: u16 = 0x88a8;
/// The identifier in tag control information; priority and DEI stand above it.
const VLAN_MASK: u16 = 0x0fff;

const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
const TCP_BYTES: u32 = 20;
/// More fragments (RFC 791 section 3.1).
const IPV4_MORE: u16 = 0x2000;
/// Fragment offset, in units of 8 bytes.
const IPV4_OFFSET: u16 = 0x1fff;

const PROTOCOL_TCP: u8 = 6;
const NEXT_HOP_BY_HOP: u8 = 0;
const NEXT_ROUTING: u8 = 43;
const NEXT_FRAGMENT: u8 = 44;
const NEXT_AUTHENTICATION: u8 = 51;
const NEXT_DESTINATION: u8 = 60;
const NEXT_MOBILITY: u8 = 135;
const NEXT_HOST_IDENTITY: u8 = 139;
const NEXT_SHIM6: u8 = 140;

/// Reads the headers of a frame.
#[inline(always)]
pub fn parse<B: Bytes>(frame: &B, arrival: &Arrival) -> Packet {
    let Some((ether_type, vlan, offset)) = link(frame, arrival.tag) else {
        return Packet::Other(Reason::Malformed);
    };
    match ether_type {
        TYPE_IPV4 => ipv4(frame, offset, arrival.ifindex, vlan),
        TYPE_IPV6 => ipv6(frame, offset, arrival.ifindex, vlan),
        _ => Packet::Other(Reason::NotIp),
    }
}

/// Type, outermost VLAN identifier and offset of what follows the link header.
#[inline(always)]
fn link<B: Bytes>(frame: &B, tag: Option<u16>) -> Option<(u16, u16, u32)> {
    let mut ether_type = u16::from_be_bytes(frame.read(TYPE_OFFSET)?);
    let mut offset = ETHERNET_BYTES;
    let mut vlan = tag.map(|tag| tag & VLAN_MASK);
    for _ in 0..INLINE_TAGS_MAX {
        if ether_type != TYPE_TAG && ether_type != TYPE_SERVICE_TAG {
            break;
        }
        let [t0, t1, e0, e1] = frame.read(offset)?;
        vlan = vlan.or(Some(u16::from_be_bytes([t0, t1]) & VLAN_MASK));
        ether_type = u16::from_be_bytes([e0, e1]);
        offset += TAG_BYTES;
    }
    Some((ether_type, vlan.unwrap_or(0), offset))
}

/// The part of an IP packet that a TCP header may start in.
struct Body {
    ip_offset: u32,
    /// Offset of the TCP header in the frame.
    offset: u32,
    /// Bytes from `offset` to the end of the packet.
    bytes: u32,
    /// First fragment of a larger packet.
    fragment: bool,
}

#[inline(always)]
fn ipv4<B: Bytes>(frame: &B, offset: u32, ifindex: u32, vlan: u16) -> Packet {
    let Some(header) = frame.read::<20>(offset) else {
        return Packet::Other(Reason::Malformed);
    };
    let [version_length, _, l0, l1, _, _, f0, f1, _, protocol, _, _, rest @ ..] = header;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = rest;
    if protocol != PROTOCOL_TCP {
        return Packet::Other(Reason::NotTcp);
    }
    let flow = Flow {
        source: words_v4([s0, s1, s2, s3]),
        destination: words_v4([d0, d1, d2, d3]),
        ifindex,
        source_port: 0,
        destination_port: 0,
        vlan,
        family: Family::V4,
    };
    let header_bytes = u32::from(version_length & 0x0f) * 4;
    let packet_bytes = packet_bytes(frame, offset, u32::from(u16::from_be_bytes([l0, l1])));
    if version_length >> 4 != 4 || header_bytes < IPV4_BYTES || packet_bytes < header_bytes {
        return Packet::Other(Reason::Malformed);
    }
    let fragment = u16::from_be_bytes([f0, f1]);
    match fragment & IPV4_OFFSET {
        0 => {}
        1 => return Packet::Unsure(flow, Reason::OverlappingFragment),
        _ => return Packet::Other(Reason::LaterFragment),
    }
    let body = Body {
        ip_offset: offset,
        offset: offset + header_bytes,
        bytes: packet_bytes - header_bytes,
        fragment: fragment & IPV4_MORE != 0,
    };
    tcp(frame, flow, &body)
}

/// Length of the packet at `offset`: as its header says, or to the end of the frame where the
/// header says 0, as it does in segments the kernel has joined beyond 64 KiB.
#[inline(always)]
fn packet_bytes<B: Bytes>(frame: &B, offset: u32, said: u32) -> u32 {
    if said == 0 { frame.length().saturating_sub(offset) } else { said }
}

#[inline(always)]
fn ipv6<B: Bytes>(frame: &B, offset: u32, ifindex: u32, vlan: u16) -> Packet {
    let Some(start) = frame.read::<8>(offset) else {
        return Packet::Other(Reason::Malformed);
    };
    let (Some(source), Some(destination)) = (frame.read(offset + 8), frame.read(offset + 24))
    else {
        return Packet::Other(Reason::Malformed);
    };
    let [version, _, _, _, l0, l1, next, _] = start;
    if version >> 4 != 6 {
        return Packet::Other(Reason::Malformed);
    }
    let said = match u32::from(u16::from_be_bytes([l0, l1])) {
        0 => 0,
        payload => IPV6_BYTES + payload,
    };
    let flow = Flow {
        source: words_v6(source),
        destination: words_v6(destination),
        ifindex,
        source_port: 0,
        destination_port: 0,
        vlan,
        family: Family::V6,
    };
    let end = offset + packet_bytes(frame, offset, said);
    match extension_headers(frame, next, offset + IPV6_BYTES, end) {
        Chain::Tcp { offset: tcp_offset, fragment } => {
            let bytes = end.saturating_sub(tcp_offset);
            tcp(frame, flow, &Body { ip_offset: offset, offset: tcp_offset, bytes, fragment })
        }
        Chain::Unsure(reason) => Packet::Unsure(flow, reason),
        Chain::Other(reason) => Packet::Other(reason),
    }
}

/// Where a chain of extension headers leads.
enum Chain {
    Tcp { offset: u32, fragment: bool },
    Unsure(Reason),
    Other(Reason),
}

#[inline(always)]
fn extension_headers<B: Bytes>(frame: &B, first: u8, start: u32, end: u32) -> Chain {
    let mut next = first;
    let mut offset = start;
    let mut fragment = false;
    for _ in 0..=EXTENSION_HEADERS_MAX {
        match next {
            PROTOCOL_TCP => return Chain::Tcp { offset, fragment },
            NEXT_HOP_BY_HOP | NEXT_ROUTING | NEXT_FRAGMENT | NEXT_AUTHENTICATION
            | NEXT_DESTINATION | NEXT_MOBILITY | NEXT_HOST_IDENTITY | NEXT_SHIM6 => {}
            _ => return Chain::Other(Reason::NotTcp),
        }
        let header = if offset + 8 > end { None } else { frame.read(offset) };
        let Some([following, length, f0, f1, ..]): Option<[u8; 8]> = header else {
            // A chain that goes on in a later fragment (RFC 7112) can end in a SYN.
            return if fragment {
                Chain::Unsure(Reason::TinyFragment)
            } else {
                Chain::Other(Reason::Malformed)
            };
        };
        offset += match next {
            NEXT_FRAGMENT => 8,
            NEXT_AUTHENTICATION => (u32::from(length) + 2) * 4,
            _ => (u32::from(length) + 1) * 8,
        };
        if next == NEXT_FRAGMENT {
            // Offset in units of 8 bytes, two reserved bits, more fragments (RFC 8200 section 4.5).
            let field = u16::from_be_bytes([f0, f1]);
            match field >> 3 {
                0 => fragment |= field & 1 != 0,
                1 => return Chain::Unsure(Reason::OverlappingFragment),
                _ => return Chain::Other(Reason::LaterFragment),
            }
        }
        next = following;
    }
    Chain::Unsure(Reason::HeaderChain)
}

#[inline(always)]
fn tcp<B: Bytes>(frame: &B, mut flow: Flow, body: &Body) -> Packet {
    let short = if body.fragment {
        Packet::Unsure(flow, Reason::TinyFragment)
    } else {
        Packet::Other(Reason::Malformed)
    };
    if body.bytes < TCP_BYTES {
        return short;
    }
    let Some([s0, s1, d0, d1, _, _, _, _, _, _, _, _, data_offset, flags, ..]) =
        frame.read::<20>(body.offset)
    else {
        return short;
    };
    let header_bytes = (data_offset >> 4) * 4;
    let Some(payload_bytes) = body.bytes.checked_sub(u32::from(header_bytes)) else {
        return short;
    };
    if u32::from(header_bytes) < TCP_BYTES {
        return Packet::Other(Reason::Malformed);
    }
    if body.fragment && flags & (SYN | ACK) == SYN {
        return Packet::Unsure(flow, Reason::FragmentedSyn);
    }
    flow.source_port = u16::from_be_bytes([s0, s1]);
    flow.destination_port = u16::from_be_bytes([d0, d1]);
    Packet::Tcp(Segment {
        flow,
        ip_offset: body.ip_offset,
        tcp_offset: body.offset,
        payload_bytes,
        header_bytes,
        flags,
        fragment: body.fragment,
    })
}

#[cfg(test)]
mod tests;
