//! A TCP connection that never was, around the data of a channel.
use std::net::{IpAddr, SocketAddr};

use etherparse::PacketBuilder;

use crate::error::TrailError;
use crate::record::Source;

/// One connection, as far as it is written.
pub(super) struct Flow {
    client: End,
    server: End,
}

/// One end of it.
#[derive(Clone, Copy)]
struct End {
    address: SocketAddr,
    /// The sequence number of the next byte that it sends.
    next: u32,
}

/// Who sends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Client,
    Server,
}

/// What a segment says, beside its acknowledgement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The connection's first, which acknowledges nothing.
    Syn,
    SynAck,
    Ack,
    Data,
    Fin,
}

/// A segment in its IP packet.
pub(super) struct Segment {
    /// From the IP header on.
    pub(super) packet: Vec<u8>,
    /// Whether it carries data of the channel.
    pub(super) has_data: bool,
}

impl Flow {
    /// A connection of which nothing is written.
    pub(super) fn new(client: SocketAddr, server: SocketAddr) -> Self {
        let end = |address| End { address, next: 0 };
        Self { client: end(client), server: end(server) }
    }

    /// The handshake.
    pub(super) fn open(&mut self) -> Result<Vec<Segment>, TrailError> {
        Ok(vec![
            self.segment(Sender::Client, Kind::Syn, b"")?,
            self.segment(Sender::Server, Kind::SynAck, b"")?,
            self.segment(Sender::Client, Kind::Ack, b"")?,
        ])
    }

    /// Data of the channel, in bursts that are acknowledged.
    pub(super) fn data(
        &mut self,
        source: Source,
        bytes: &[u8],
    ) -> impl Iterator<Item = Result<Vec<Segment>, TrailError>> {
        let (sender, receiver) = match source {
            Source::Stdin => (Sender::Client, Sender::Server),
            Source::Stdout | Source::Stderr => (Sender::Server, Sender::Client),
        };
        bytes.chunks(SEGMENT_BYTES_MAX * BURST_SEGMENTS).map(move |burst| {
            let data = burst.chunks(SEGMENT_BYTES_MAX);
            let mut segments = data
                .map(|data| self.segment(sender, Kind::Data, data))
                .collect::<Result<Vec<_>, _>>()?;
            segments.push(self.segment(receiver, Kind::Ack, b"")?);
            Ok(segments)
        })
    }

    /// The end, in both directions.
    pub(super) fn close(&mut self) -> Result<Vec<Segment>, TrailError> {
        Ok(vec![
            self.segment(Sender::Client, Kind::Fin, b"")?,
            self.segment(Sender::Server, Kind::Fin, b"")?,
            self.segment(Sender::Client, Kind::Ack, b"")?,
        ])
    }

    fn segment(&mut self, sender: Sender, kind: Kind, data: &[u8]) -> Result<Segment, TrailError> {
        let (from, to) = match sender {
            Sender::Client => (&mut self.client, self.server),
            Sender::Server => (&mut self.server, self.client),
        };
        let packet = build(*from, to, kind, data)?;
        // What begins and what ends a connection counts as a byte (RFC 9293 section 3.4).
        let is_counted = matches!(kind, Kind::Syn | Kind::SynAck | Kind::Fin);
        let bytes = u32::try_from(data.len()).unwrap_or_default() + u32::from(is_counted);
        from.next = from.next.wrapping_add(bytes);
        Ok(Segment { packet, has_data: kind == Kind::Data })
    }
}

/// Builds a packet with all its lengths and checksums.
fn build(from: End, to: End, kind: Kind, data: &[u8]) -> Result<Vec<u8>, TrailError> {
    let ip = match (from.address.ip(), to.address.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            PacketBuilder::ipv4(source.octets(), destination.octets(), HOPS)
        }
        (source, destination) => PacketBuilder::ipv6(v6(source), v6(destination), HOPS),
    };
    let tcp = ip.tcp(from.address.port(), to.address.port(), from.next, WINDOW_BYTES);
    let tcp = match kind {
        Kind::Syn => tcp.syn(),
        Kind::SynAck => tcp.syn().ack(to.next),
        Kind::Ack => tcp.ack(to.next),
        Kind::Data => tcp.psh().ack(to.next),
        Kind::Fin => tcp.fin().ack(to.next),
    };
    let mut packet = Vec::with_capacity(tcp.size(data.len()));
    match tcp.write(&mut packet, data) {
        Ok(()) => Ok(packet),
        Err(source) => Err(TrailError::Packet { source: Box::new(source) }),
    }
}

/// An address in IPv6; one of IPv4 is mapped (RFC 4291 section 2.5.5.2).
const fn v6(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// Data of one segment: what Ethernet's 1500 bytes leave beside the headers of IPv4 and TCP.
const SEGMENT_BYTES_MAX: usize = 1460;

/// Segments before the receiver acknowledges, at least; they fit into its window.
const BURST_SEGMENTS: usize = 32;

/// The window that both ends announce, the largest without scaling.
const WINDOW_BYTES: u16 = u16::MAX;

/// The hop limit; no packet was on any way.
const HOPS: u8 = 64;
