//! Captured frames, read as the host would that gets them.

use std::net::{IpAddr, SocketAddr};

use crate::frame::{ACK, DESTINATION, FRAGMENT, IPV4, IPV6, ROUTING, SERVICE_TAG, SYN, TAG, TCP};

/// A TCP segment, or a fragment of one, behind whatever headers it stands.
#[derive(Debug)]
pub struct Seen {
    /// Source address.
    pub source: IpAddr,
    /// Destination address of the IP header.
    pub destination: IpAddr,
    /// Where the fragment begins in its packet, in bytes; 0 where it is none.
    pub offset: u16,
    /// The segment, or the bytes of the fragment.
    pub tcp: Vec<u8>,
}

impl Seen {
    /// Reads a frame; nothing where it carries no TCP.
    #[must_use]
    pub fn read(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        loop {
            match u16::from_be_bytes(bytes(frame, at)?) {
                TAG | SERVICE_TAG => at += 4,
                IPV4 => return Self::read_v4(frame.get(at + 2..)?),
                IPV6 => return Self::read_v6(frame.get(at + 2..)?),
                // A length, then LLC and SNAP.
                0..1536 => at += 8,
                _ => return None,
            }
        }
    }

    /// Whether a host that gets this from `source` could take it, or what it becomes with other
    /// fragments, for a SYN that opens a connection.
    #[must_use]
    pub fn may_open(frame: &[u8], source: IpAddr) -> bool {
        let Some(seen) = Self::read(frame).filter(|seen| seen.source == source) else {
            return false;
        };
        match (seen.offset, seen.flags()) {
            (0, Some(flags)) => flags & (SYN | ACK) == SYN,
            // The flags are still to come, or are in here.
            (0, None) | (8, _) => true,
            _ => false,
        }
    }

    /// The flags, if they are in this segment or fragment.
    #[must_use]
    pub fn flags(&self) -> Option<u8> {
        self.tcp.get(13).copied()
    }

    /// The source port.
    #[must_use]
    pub fn source_port(&self) -> Option<u16> {
        bytes(&self.tcp, 0).map(u16::from_be_bytes)
    }

    /// The destination port.
    #[must_use]
    pub fn destination_port(&self) -> Option<u16> {
        bytes(&self.tcp, 2).map(u16::from_be_bytes)
    }

    /// Whether it goes from one of these to the other.
    #[must_use]
    pub fn is_between(&self, from: SocketAddr, to: SocketAddr) -> bool {
        let source = self.source_port().map(|port| SocketAddr::new(self.source, port));
        let destination = self.destination_port();
        let destination = destination.map(|port| SocketAddr::new(self.destination, port));
        (source, destination) == (Some(from), Some(to))
    }

    /// The sequence number that follows its data.
    #[must_use]
    pub fn next_sequence(&self) -> Option<u32> {
        let header = usize::from(self.tcp.get(12)? >> 4) * 4;
        let payload = u32::try_from(self.tcp.len().checked_sub(header)?).ok()?;
        Some(u32::from_be_bytes(bytes(&self.tcp, 4)?).wrapping_add(payload))
    }

    fn read_v4(ip: &[u8]) -> Option<Self> {
        let header = usize::from(ip.first()? & 0x0f) * 4;
        let end = usize::from(u16::from_be_bytes(bytes(ip, 2)?));
        let offset = (u16::from_be_bytes(bytes(ip, 6)?) & 0x1fff) * 8;
        let (source, destination) = (bytes::<4>(ip, 12)?.into(), bytes::<4>(ip, 16)?.into());
        let tcp = ip.get(header..end)?.to_vec();
        (*ip.get(9)? == TCP).then_some(Self { source, destination, offset, tcp })
    }

    fn read_v6(ip: &[u8]) -> Option<Self> {
        let end = 40 + usize::from(u16::from_be_bytes(bytes(ip, 4)?));
        let (source, destination) = (bytes::<16>(ip, 8)?.into(), bytes::<16>(ip, 24)?.into());
        let (mut next, mut at, mut offset) = (*ip.get(6)?, 40, 0);
        // What follows in a later fragment is not known.
        while next != TCP && offset == 0 {
            let [following, length, f0, f1] = bytes(ip, at)?;
            at += match next {
                FRAGMENT => {
                    offset = u16::from_be_bytes([f0, f1]) & 0xfff8;
                    8
                }
                HOP_BY_HOP | ROUTING | DESTINATION => (usize::from(length) + 1) * 8,
                _ => return None,
            };
            next = following;
        }
        let tcp = ip.get(at..end)?.to_vec();
        Some(Self { source, destination, offset, tcp })
    }
}

/// The number of the hop-by-hop options header (RFC 8200 section 4.3).
const HOP_BY_HOP: u8 = 0;

/// So many bytes at an offset.
fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..at.checked_add(N)?)?.try_into().ok()
}
