//! Frames built byte by byte: what an attacker would send.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// TCP flags (RFC 9293 section 3.1).
pub const FIN: u8 = 0x01;
/// Synchronize sequence numbers.
pub const SYN: u8 = 0x02;
/// Reset the connection.
pub const RST: u8 = 0x04;
/// The acknowledgement field counts.
pub const ACK: u8 = 0x10;

/// Ethernet types.
pub const IPV4: u16 = 0x0800;
/// Internet Protocol, version 6.
pub const IPV6: u16 = 0x86dd;
/// An 802.1Q tag follows.
pub const TAG: u16 = 0x8100;
/// An 802.1ad service tag follows.
pub const SERVICE_TAG: u16 = 0x88a8;

/// The number of TCP, in IPv4's protocol and IPv6's next header.
pub const TCP: u8 = 6;
/// The number of IPv6's routing header.
pub const ROUTING: u8 = 43;
/// The number of IPv6's fragment header.
pub const FRAGMENT: u8 = 44;
/// The number of IPv6's destination options header.
pub const DESTINATION: u8 = 60;

/// More fragments follow: the lowest bit of the three above IPv4's fragment offset.
pub const MORE: u16 = 0x2000;

/// Hops that a packet may go when it is sent.
const HOPS: u8 = 64;

/// Options of every segment: the largest segment (RFC 9293 section 3.2), and padding. With them a
/// header is longer than a fragment that holds all that a host insists on.
const OPTIONS: [u8; 8] = [2, 4, 0x05, 0xb4, 1, 1, 1, 1];

/// Bytes of a TCP header with [`OPTIONS`].
pub const HEADER_BYTES: usize = 28;

/// A TCP segment.
#[derive(Debug, Clone, Copy)]
pub struct Segment<'p> {
    /// Where it comes from.
    pub source: SocketAddr,
    /// Where it ends up, whatever its IP header says.
    pub destination: SocketAddr,
    /// The sequence number.
    pub sequence: u32,
    /// The acknowledgement number; [`ACK`] says whether it counts.
    pub acknowledgement: u32,
    /// The flags.
    pub flags: u8,
    /// Its data.
    pub payload: &'p [u8],
}

impl Segment<'_> {
    /// The header with its options and the right checksum, and the data.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let pseudo = self.pseudo_header();
        let sum = checksum(&[pseudo, self.with_checksum([0; 2])].concat());
        self.with_checksum(sum)
    }

    /// The IP packet that carries it, without options or extension headers.
    #[must_use]
    pub fn packet(&self) -> Vec<u8> {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ipv4 { source, destination, ..Ipv4::PLAIN }.packet(&self.bytes())
            }
            (source, destination) => ipv6(to_v6(source), to_v6(destination), TCP, &self.bytes()),
        }
    }

    fn with_checksum(&self, sum: [u8; 2]) -> Vec<u8> {
        let ports = [self.source.port().to_be_bytes(), self.destination.port().to_be_bytes()];
        let mut bytes = ports.concat();
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.acknowledgement.to_be_bytes());
        // Words of header, flags, and a window.
        bytes.extend([7 << 4, self.flags, 0xfa, 0xf0]);
        bytes.extend(sum);
        // The urgent pointer.
        bytes.extend([0; 2]);
        bytes.extend(OPTIONS);
        bytes.extend(self.payload);
        bytes
    }

    /// What the checksum covers beside the segment; that of IPv6 (RFC 8200 section 8.1) has the
    /// same fields in other places.
    fn pseudo_header(&self) -> Vec<u8> {
        let mut bytes = octets(self.source.ip());
        bytes.extend(octets(self.destination.ip()));
        bytes.extend([0, TCP]);
        bytes.extend(length(HEADER_BYTES + self.payload.len()));
        bytes
    }
}

/// What an IPv4 header says beside length and checksum.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'o> {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Tells the fragments of one packet from those of others.
    pub identification: u16,
    /// Flags and the offset, in units of 8 bytes.
    pub fragment: u16,
    /// Options, a multiple of four bytes.
    pub options: &'o [u8],
}

impl Ipv4<'_> {
    /// No fragment and no options; the addresses are to be set.
    pub const PLAIN: Self = Self {
        source: Ipv4Addr::UNSPECIFIED,
        destination: Ipv4Addr::UNSPECIFIED,
        identification: 0,
        fragment: 0,
        options: &[],
    };

    /// The packet that carries `body` by TCP.
    #[must_use]
    pub fn packet(&self, body: &[u8]) -> Vec<u8> {
        let sum = checksum(&self.header([0; 2], body.len()));
        let mut packet = self.header(sum, body.len());
        packet.extend(body);
        packet
    }

    fn header(&self, sum: [u8; 2], body_bytes: usize) -> Vec<u8> {
        let header_bytes = 20 + self.options.len();
        // Version, and words of header.
        let mut header = vec![0x40 | u8::try_from(header_bytes / 4).unwrap_or(0), 0];
        header.extend(length(header_bytes + body_bytes));
        header.extend(self.identification.to_be_bytes());
        header.extend(self.fragment.to_be_bytes());
        header.extend([HOPS, TCP]);
        header.extend(sum);
        header.extend(self.source.octets());
        header.extend(self.destination.octets());
        header.extend(self.options);
        header
    }
}

/// An IPv6 packet; `next` is the number of what `body` begins with.
#[must_use]
pub fn ipv6(source: Ipv6Addr, destination: Ipv6Addr, next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length(body.len()));
    packet.extend([next, HOPS]);
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend(body);
    packet
}

/// An Ethernet frame with the type that the version of `packet` asks for.
#[must_use]
pub fn ethernet(to: [u8; 6], from: [u8; 6], tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
    let is_v6 = packet.first().is_some_and(|first| first >> 4 == 6);
    let mut frame = [to, from].concat();
    for (kind, tag) in tags {
        frame.extend(kind.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(if is_v6 { IPV6 } else { IPV4 }.to_be_bytes());
    frame.extend(packet);
    frame
}

/// The checksum of the Internet protocols (RFC 1071).
#[must_use]
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| match *pair {
        [high, low] => u64::from(u16::from_be_bytes([high, low])),
        [high] => u64::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    };
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > u64::from(u16::MAX) {
        sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

/// The bytes of an address.
fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address as IPv6 writes it; one of IPv4 is mapped.
const fn to_v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// A length field; frames are far below 64 KiB.
fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes()
}
