//! Address ranges, policies and the frames that meet them: all made from numbers, so that every
//! subject is given the same.
//!
//! Range `i` of clients or servers lies in a slot of its own, of 65,536 that are spread over a
//! quarter of a billion IPv4 addresses (or a /32 of IPv6). It begins its slot and is smaller than
//! a /24 (a /60): whoever looks up an address beside it, in the same /24, has to look at all of it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use e2e::world::Family;

use super::topology::{CLIENT_MAC, CLIENT_V4, CLIENT_V6, GATEWAY_MAC};

/// Most flows of one measurement: 12 bits of the upper half of a server's IPv4 address.
pub(super) const FLOWS: u32 = 4096;

/// The bits that number flows.
pub(super) const FLOWS_MASK: i32 = 0xfff;

/// Ethernet, IPv4 and TCP headers: 14 + 20 + 20.
pub(super) const HEADER_BYTES: usize = 54;

/// Shortest Ethernet frame, without its checksum (IEEE 802.3).
const FRAME_BYTES_MIN: usize = 60;

/// The port of every policy.
pub(super) const PORT: u16 = 22;

/// Slots of ranges, a power of two.
const SLOTS: u32 = 1 << 16;

/// An odd number: multiplied by it, the numbers of slots come in another order, each once.
const SPREAD: u32 = 40_503;

/// The end of a link that a range is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Clients. Their first range is the client itself.
    Client,
    /// Servers.
    Server,
}

/// An address range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Range {
    /// Its first address.
    pub(super) address: IpAddr,
    /// Its length in bits.
    pub(super) length: u8,
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// Range `index` of one side.
pub(super) fn range(family: Family, side: Side, index: u32) -> Range {
    // Below 8, so that it fits.
    let more = u8::try_from(index % 8).unwrap_or(0);
    match (family, side, index) {
        (Family::V4, Side::Client, 0) => Range { address: CLIENT_V4.into(), length: 32 },
        (Family::V6, Side::Client, 0) => Range { address: CLIENT_V6.into(), length: 128 },
        (Family::V4, _, _) => {
            Range { address: in_slot_v4(side, slot(index), 0), length: 25 + more }
        }
        (Family::V6, _, _) => {
            Range { address: in_slot_v6(side, slot(index), 0), length: 61 + more % 4 }
        }
    }
}

/// The first `count` ranges of one side.
pub(super) fn ranges(family: Family, side: Side, count: u32) -> impl Iterator<Item = Range> {
    (0..count).map(move |index| range(family, side, index))
}

/// An address right beside range `index` of servers, which no range holds.
pub(super) fn beside(family: Family, index: u32) -> IpAddr {
    match family {
        Family::V4 => in_slot_v4(Side::Server, slot(index), BESIDE_V4),
        Family::V6 => in_slot_v6(Side::Server, slot(index), BESIDE_V6),
    }
}

/// The last part of an address that is in the same /24 (/60) as a range, and not in it.
const BESIDE_V4: u32 = 200;
const BESIDE_V6: u16 = 8;

/// The server of unmatched flow `number`, below [`FLOWS`]; flow 0 is beside range 0.
///
/// Flows lie in every 16th slot, so that only the upper half of an IPv4 address differs.
pub(super) fn unmatched_server(family: Family, number: u32) -> IpAddr {
    let slot = (number % FLOWS) * (SLOTS / FLOWS);
    match family {
        Family::V4 => in_slot_v4(Side::Server, slot, BESIDE_V4),
        Family::V6 => in_slot_v6(Side::Server, slot, BESIDE_V6),
    }
}

const fn slot(index: u32) -> u32 {
    index.wrapping_mul(SPREAD) % SLOTS
}

fn in_slot_v4(side: Side, slot: u32, last: u32) -> IpAddr {
    let first: u32 = match side {
        Side::Client => 0x1000_0000,
        Side::Server => 0x2000_0000,
    };
    // A slot is a /20.
    Ipv4Addr::from(first | slot << 12 | last).into()
}

fn in_slot_v6(side: Side, slot: u32, last: u16) -> IpAddr {
    let second = match side {
        Side::Client => 0x1000,
        Side::Server => 0x2000,
    };
    let slot = u16::try_from(slot % SLOTS).unwrap_or(0);
    Ipv6Addr::new(0x2001, second, slot, last, 0, 0, 0, 0).into()
}

/// What kind of packet a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packet {
    /// A segment that opens a connection.
    Syn,
    /// A segment of a connection that is there.
    Ack,
    /// Not TCP.
    Udp,
    /// Not IP.
    Arp,
}

impl Packet {
    const fn tcp_flags(self) -> u8 {
        match self {
            Self::Syn => 0x02,
            Self::Ack | Self::Udp | Self::Arp => 0x10,
        }
    }
}

/// A frame of the client's, addressed to the gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Frame {
    /// All of it.
    pub(super) bytes: Vec<u8>,
    /// Where the upper half of an IPv4 server's address stands.
    pub(super) destination_at: i16,
    /// What that half is.
    pub(super) destination_upper: u16,
    /// Where the IPv4 identification stands.
    pub(super) identification_at: i16,
    /// Where the lower half of the TCP sequence number stands.
    pub(super) sequence_at: i16,
}

impl Frame {
    /// From the client (or the first address of another range) to a server.
    pub(super) fn new(packet: Packet, client: IpAddr, server: IpAddr) -> Self {
        let body = match packet {
            Packet::Syn | Packet::Ack => tcp(packet.tcp_flags()),
            Packet::Udp => udp(),
            Packet::Arp => Vec::new(),
        };
        let next: u8 = if packet == Packet::Udp { 17 } else { 6 };
        let (ether_type, payload) = match (packet, client, server) {
            (Packet::Arp, _, _) => (0x0806_u16, arp()),
            (_, IpAddr::V4(client), IpAddr::V4(server)) => {
                (0x0800, ipv4(client, server, next, body))
            }
            (_, client, server) => (0x86dd, ipv6(v6(client), v6(server), next, body)),
        };
        let mut bytes = [GATEWAY_MAC, CLIENT_MAC].concat();
        bytes.extend(ether_type.to_be_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().max(FRAME_BYTES_MIN), 0);
        let upper = match server {
            IpAddr::V4(server) => u32::from(server) >> 16,
            IpAddr::V6(_) => 0,
        };
        Self {
            bytes,
            destination_at: 14 + 16,
            destination_upper: u16::try_from(upper).unwrap_or(0),
            identification_at: 14 + 4,
            sequence_at: 14 + 20 + 6,
        }
    }
}

/// An IPv6 address; no frame is of two IP versions.
fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

/// A TCP header (RFC 9293 section 3.1) with the sum of its own words in place of the checksum.
fn tcp(flags: u8) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40];
    header.extend(PORT.to_be_bytes());
    // Sequence number 0xfff, acknowledgement 0.
    header.extend([0, 0, 0x0f, 0xff, 0, 0, 0, 0]);
    // Five words, a window, no urgent data.
    header.extend([5 << 4, flags, 0xfa, 0xf0, 0, 0, 0, 0]);
    header
}

/// A UDP header and no data (RFC 768); without a checksum.
fn udp() -> Vec<u8> {
    let mut header = vec![0x9c, 0x40];
    header.extend(PORT.to_be_bytes());
    header.extend([0, 8, 0, 0]);
    header
}

/// A request for the gateway's link address (RFC 826).
fn arp() -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
    packet.extend(CLIENT_MAC);
    packet.extend(CLIENT_V4.octets());
    packet.extend([0; 6]);
    packet.extend([10, 77, 1, 1]);
    packet
}

fn ipv4(client: Ipv4Addr, server: Ipv4Addr, next: u8, body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(20 + body.len()).unwrap_or(0).to_be_bytes();
    let addresses = [client.octets(), server.octets()].concat();
    // Version and words, type of service; length; identification 0xfff; may not be fragmented.
    let mut header = vec![0x45, 0, length[0], length[1], 0x0f, 0xff, 0x40, 0];
    header.extend([64, next, 0, 0]);
    header.extend(&addresses);
    put_checksum(&mut header, 10, 0);
    header.extend(transport(&addresses, next, body));
    header
}

fn ipv6(client: Ipv6Addr, server: Ipv6Addr, next: u8, body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(0).to_be_bytes();
    let addresses = [client.octets(), server.octets()].concat();
    let mut header = vec![0x60, 0, 0, 0, length[0], length[1], next, 64];
    header.extend(&addresses);
    header.extend(transport(&addresses, next, body));
    header
}

/// A TCP header with its checksum (RFC 9293 section 3.1); anything else as it is.
fn transport(addresses: &[u8], next: u8, mut body: Vec<u8>) -> Vec<u8> {
    if next == 6 {
        let length = u32::try_from(body.len()).unwrap_or(0);
        let pseudo_header = sum(addresses) + u32::from(next) + length;
        put_checksum(&mut body, 16, pseudo_header);
    }
    body
}

/// Writes the Internet checksum (RFC 1071) of `bytes` and what was summed before to `at`.
fn put_checksum(bytes: &mut [u8], at: usize, before: u32) {
    let sum = sum(bytes) + before;
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    // Folded twice, it has 16 bits.
    let checksum = !u16::try_from(folded).unwrap_or(0);
    for (to, from) in bytes.iter_mut().skip(at).zip(checksum.to_be_bytes()) {
        *to = from;
    }
}

fn sum(bytes: &[u8]) -> u32 {
    let words = bytes.chunks(2).map(|pair| match pair {
        [upper, lower] => u32::from(u16::from_be_bytes([*upper, *lower])),
        _ => 0,
    });
    words.sum()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Whether a range holds an address.
    fn holds(range: &Range, address: IpAddr) -> bool {
        match (range.address, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                (u32::from(first) ^ u32::from(address)).leading_zeros() >= range.length.into()
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                (u128::from(first) ^ u128::from(address)).leading_zeros() >= range.length.into()
            }
            _ => false,
        }
    }

    #[test]
    fn ranges_are_apart_and_unmatched_servers_in_none() {
        const COUNT: u32 = 50_000;
        for family in Family::ALL {
            for side in [Side::Client, Side::Server] {
                let first: BTreeSet<_> =
                    ranges(family, side, COUNT).map(|range| range.address).collect();
                assert_eq!(first.len(), usize::try_from(COUNT).unwrap(), "{family:?} {side:?}");
            }
            let near: BTreeSet<_> = (0..FLOWS).map(|flow| unmatched_server(family, flow)).collect();
            assert_eq!(near.len(), usize::try_from(FLOWS).unwrap(), "{family:?}");
            assert_eq!(unmatched_server(family, 0), beside(family, 0), "{family:?}");
            // A range lies in one slot, so that only ranges near an address can hold it.
            let servers: Vec<_> = ranges(family, Side::Server, COUNT).collect();
            for server in [0, 1, 77, FLOWS - 1].map(|flow| unmatched_server(family, flow)) {
                assert!(!servers.iter().any(|range| holds(range, server)), "{server}");
            }
        }
    }

    #[test]
    fn frames_have_right_sums() {
        let server = unmatched_server(Family::V4, 0);
        let frame = Frame::new(Packet::Syn, CLIENT_V4.into(), server);
        let ip = &frame.bytes[14..34];
        let pseudo_header = sum(&ip[12..20]) + 6 + 20;
        for (name, sum) in [("IPv4", sum(ip)), ("TCP", sum(&frame.bytes[34..54]) + pseudo_header)] {
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{name}");
        }
        assert_eq!(frame.bytes.len(), FRAME_BYTES_MIN);
        let v6 = Frame::new(Packet::Ack, CLIENT_V6.into(), unmatched_server(Family::V6, 0));
        let pseudo_header = sum(&v6.bytes[22..54]) + 6 + 20;
        let sum = sum(&v6.bytes[54..74]) + pseudo_header;
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "IPv6");
    }
}
