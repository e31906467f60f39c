//! Bounded header walk: Ethernet, 802.1Q, IPv4 with options, IPv6 with extension headers, TCP.
//!
//! The same code runs in the kernel and in tests, over whatever can give bytes by offset.

mod extensions;
mod options;
mod too_big;
mod udp;

use self::extensions::extension_headers;
use self::options::source_route;
use crate::flow::{Family, Flow, words_v4, words_v6};
use crate::limits::INLINE_TAGS_MAX;
use crate::stats::Reason;

pub use self::too_big::too_big;
pub use self::udp::{V4_PLAIN, udp};

/// A frame that gives its bytes by offset.
pub trait Bytes {
    /// The `N` bytes at `offset`, or `None` when the frame ends before.
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]>;

    /// Length of the frame in bytes.
    fn length(&self) -> u32;

    /// Steps until the walk is at its end, where the kernel wants a loop of its own.
    fn run<W: Walk>(&self, walk: &mut W)
    where
        Self: Sized,
    {
        for _ in 0..W::STEPS_MAX {
            if !walk.step(self) {
                return;
            }
        }
    }
}

/// A walk over headers or options of variable length.
pub trait Walk {
    /// After so many steps it is at its end.
    const STEPS_MAX: u32;

    /// Goes one step on; whether there may be another.
    fn step<B: Bytes>(&mut self, frame: &B) -> bool;
}

/// How a frame arrived; what cannot be read from its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// Interface index.
    pub ifindex: u32,
    /// Tag control information of the tag the kernel took out of the frame.
    pub tag: Option<u16>,
}

/// A TCP segment; offsets and counts are in bytes.
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
    /// What the IP headers say that follows them, where that is not TCP.
    pub protocol: u8,
    /// Whether this is the first fragment of a larger packet.
    pub fragment: bool,
    /// Whether the packet stands behind an LLC and SNAP header (IEEE 802.2).
    pub snap: bool,
    /// Offsets of the first and the last address that the packet is routed by after the one in its
    /// header; 0 where it is not.
    pub route: [u32; 2],
}

impl Segment {
    /// Nothing read yet.
    pub const EMPTY: Self = Self {
        flow: Flow {
            source: [0; 4],
            destination: [0; 4],
            ifindex: 0,
            source_port: 0,
            destination_port: 0,
            vlan: 0,
            family: Family::V4,
        },
        ip_offset: 0,
        tcp_offset: 0,
        payload_bytes: 0,
        header_bytes: 0,
        flags: 0,
        protocol: PROTOCOL_TCP,
        fragment: false,
        snap: false,
        route: [0; 2],
    };

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
pub const ETHERNET_BYTES: u32 = 14;
/// Tag control information and the type that follows it.
const TAG_BYTES: u32 = 4;
const TYPE_OFFSET: u32 = 12;
const TYPE_IPV4: u16 = 0x0800;
const TYPE_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and what switches used before that.
const TYPE_TAG: u16 = 0x8100;
const TYPE_SERVICE_TAG: u16 = 0x88a8;
const TYPE_OLD_SERVICE_TAG: u16 = 0x9100;
/// Below this a type is a length, and an LLC header follows (IEEE 802.3).
const TYPE_MIN: u16 = 1536;
/// LLC and SNAP headers of a packet with an Ethernet type (RFC 1042); the type follows.
const SNAP: [u8; 6] = [0xaa, 0xaa, 3, 0, 0, 0];
/// Those headers with the type.
const SNAP_BYTES: u32 = 8;
/// The identifier in tag control information; priority and DEI stand above it.
const VLAN_MASK: u16 = 0x0fff;

const IPV4_BYTES: u32 = 20;
const IPV6_BYTES: u32 = 40;
const TCP_BYTES: u32 = 20;
/// More fragments (RFC 791 section 3.1).
pub const IPV4_MORE: u16 = 0x2000;
/// Fragment offset, in units of 8 bytes.
pub const IPV4_OFFSET: u16 = 0x1fff;

/// TCP, as a protocol of IPv4 and a next header of IPv6.
pub const PROTOCOL_TCP: u8 = 6;
/// UDP, likewise.
pub const PROTOCOL_UDP: u8 = 17;

/// Reads the headers of a frame into `segment`.
///
/// The result is one number in every case and `segment` a place of its own, because the kernel's
/// verifier refuses values of which a branch set only a part.
///
/// # Errors
/// With the reason why the frame is no whole TCP segment. When [`Reason::is_unsure`] says so, the
/// addresses in `segment` are set, and the frame might hide the start of a connection.
#[inline(always)]
pub fn parse<B: Bytes>(frame: &B, arrival: &Arrival, segment: &mut Segment) -> Result<(), Reason> {
    segment.flow.ifindex = arrival.ifindex;
    let mut ether_type = link(frame, arrival.tag, segment)?;
    if ether_type < TYPE_MIN {
        ether_type = snap(frame, segment)?;
    }
    match ether_type {
        TYPE_IPV4 => ipv4(frame, segment),
        TYPE_IPV6 => ipv6(frame, segment),
        _ => Err(Reason::NotIp),
    }
}

/// Reads the link header: sets the outermost VLAN and the offset of what follows, gives its type.
#[inline(always)]
fn link<B: Bytes>(frame: &B, tag: Option<u16>, segment: &mut Segment) -> Result<u16, Reason> {
    let mut ether_type = u16::from_be_bytes(frame.read(TYPE_OFFSET).ok_or(Reason::Malformed)?);
    segment.ip_offset = ETHERNET_BYTES;
    let mut tagged = tag.is_some();
    segment.flow.vlan = tag.unwrap_or(0) & VLAN_MASK;
    for _ in 0..INLINE_TAGS_MAX {
        if !matches!(ether_type, TYPE_TAG | TYPE_SERVICE_TAG | TYPE_OLD_SERVICE_TAG) {
            break;
        }
        let bytes = frame.read::<4>(segment.ip_offset).ok_or(Reason::Malformed)?;
        let [t0, t1, e0, e1] = bytes;
        if !tagged {
            segment.flow.vlan = u16::from_be_bytes([t0, t1]) & VLAN_MASK;
            tagged = true;
        }
        ether_type = u16::from_be_bytes([e0, e1]);
        segment.ip_offset += TAG_BYTES;
    }
    Ok(ether_type)
}

/// Reads the headers between a length and an IP packet. This host does not take such packets, but
/// others do.
#[inline(always)]
fn snap<B: Bytes>(frame: &B, segment: &mut Segment) -> Result<u16, Reason> {
    let header = frame.read::<8>(segment.ip_offset).ok_or(Reason::NotIp)?;
    let [h0, h1, h2, h3, h4, h5, t0, t1] = header;
    if [h0, h1, h2, h3, h4, h5] != SNAP {
        return Err(Reason::NotIp);
    }
    segment.snap = true;
    segment.ip_offset += SNAP_BYTES;
    Ok(u16::from_be_bytes([t0, t1]))
}

#[inline(always)]
fn ipv4<B: Bytes>(frame: &B, segment: &mut Segment) -> Result<(), Reason> {
    let offset = segment.ip_offset;
    let header = frame.read::<20>(offset).ok_or(Reason::Malformed)?;
    let [version_length, _, l0, l1, _, _, f0, f1, _, protocol, _, _, rest @ ..] = header;
    let [s0, s1, s2, s3, d0, d1, d2, d3] = rest;
    segment.flow.family = Family::V4;
    segment.flow.source = words_v4([s0, s1, s2, s3]);
    segment.flow.destination = words_v4([d0, d1, d2, d3]);
    segment.protocol = protocol;
    if protocol != PROTOCOL_TCP {
        return Err(Reason::NotTcp);
    }
    let header_bytes = u32::from(version_length & 0x0f) * 4;
    let packet_bytes = packet_bytes(frame, offset, u32::from(u16::from_be_bytes([l0, l1])));
    if version_length >> 4 != 4 || header_bytes < IPV4_BYTES || packet_bytes < header_bytes {
        return Err(Reason::Malformed);
    }
    let fragment = u16::from_be_bytes([f0, f1]);
    match fragment & IPV4_OFFSET {
        0 => {}
        1 => return Err(Reason::OverlappingFragment),
        _ => return Err(Reason::LaterFragment),
    }
    segment.fragment = fragment & IPV4_MORE != 0;
    segment.tcp_offset = offset + header_bytes;
    if header_bytes > IPV4_BYTES {
        segment.route = source_route(frame, offset + IPV4_BYTES, segment.tcp_offset);
    }
    tcp(frame, segment, offset + packet_bytes)
}

/// Length of the packet at `offset`: as its header says, or to the end of the frame where the
/// header says 0, as it does in segments the kernel has joined beyond 64 KiB.
#[inline(always)]
fn packet_bytes<B: Bytes>(frame: &B, offset: u32, said: u32) -> u32 {
    if said == 0 { frame.length().saturating_sub(offset) } else { said }
}

#[inline(always)]
fn ipv6<B: Bytes>(frame: &B, segment: &mut Segment) -> Result<(), Reason> {
    let offset = segment.ip_offset;
    let [version, _, _, _, l0, l1, next, _] = frame.read(offset).ok_or(Reason::Malformed)?;
    if version >> 4 != 6 {
        return Err(Reason::Malformed);
    }
    segment.flow.family = Family::V6;
    segment.flow.source = words_v6(frame.read(offset + 8).ok_or(Reason::Malformed)?);
    segment.flow.destination = words_v6(frame.read(offset + 24).ok_or(Reason::Malformed)?);
    let said = match u32::from(u16::from_be_bytes([l0, l1])) {
        0 => 0,
        payload => IPV6_BYTES + payload,
    };
    let end = offset + packet_bytes(frame, offset, said);
    segment.tcp_offset = offset + IPV6_BYTES;
    // Most packets have none.
    if next != PROTOCOL_TCP {
        extension_headers(frame, next, segment, end)?;
    }
    tcp(frame, segment, end)
}

#[inline(always)]
fn tcp<B: Bytes>(frame: &B, segment: &mut Segment, end: u32) -> Result<(), Reason> {
    let bytes = end.saturating_sub(segment.tcp_offset);
    if bytes < TCP_BYTES {
        return Err(cut_off(segment));
    }
    let header = frame.read::<20>(segment.tcp_offset).ok_or_else(|| cut_off(segment))?;
    let [s0, s1, d0, d1, _, _, _, _, _, _, _, _, data_offset, flags, ..] = header;
    segment.header_bytes = (data_offset >> 4) * 4;
    segment.flags = flags;
    let header_bytes = u32::from(segment.header_bytes);
    if header_bytes < TCP_BYTES {
        return Err(Reason::Malformed);
    }
    if bytes < header_bytes {
        return Err(cut_off(segment));
    }
    segment.payload_bytes = bytes - header_bytes;
    if segment.fragment && segment.opens() {
        return Err(Reason::FragmentedSyn);
    }
    let [route, _] = segment.route;
    if route != 0 && segment.opens() {
        return Err(Reason::SourceRouted);
    }
    if segment.snap {
        return Err(Reason::Snap);
    }
    (segment.flow.source_port, segment.flow.destination_port) = ports_of([s0, s1, d0, d1]);
    Ok(())
}

/// Source and destination port, the first four bytes of a TCP header.
#[inline(always)]
const fn ports_of([s0, s1, d0, d1]: [u8; 4]) -> (u16, u16) {
    (u16::from_be_bytes([s0, s1]), u16::from_be_bytes([d0, d1]))
}

/// What a header that is not all there means: in a first fragment, that a later one holds the
/// rest, which can be a SYN (RFC 1858; RFC 7112 for IPv6).
#[inline(always)]
const fn cut_off(segment: &Segment) -> Reason {
    if segment.fragment { Reason::TinyFragment } else { Reason::Malformed }
}

#[cfg(test)]
mod tests;
