//! UDP (RFC 768), for whoever forwards datagrams.

use super::{
    Bytes, IPV4_BYTES, IPV4_MORE, IPV4_OFFSET, IPV6_BYTES, PROTOCOL_UDP, Segment, ports_of,
};
use crate::flow::Family;

/// First byte of an IPv4 header: version 4, no options.
pub const V4_PLAIN: u8 = 0x45;

/// Reads the ports of a datagram into `segment`, which is what [`super::parse`] left of a frame
/// that is not TCP.
///
/// `None` when the frame is no UDP datagram that stands right behind a plain IP header: behind
/// options and in fragments nothing is read.
#[inline(always)]
pub fn udp<B: Bytes>(frame: &B, segment: &mut Segment) -> Option<()> {
    let ip = segment.ip_offset;
    let (protocol, offset) = match segment.flow.family {
        Family::V4 => {
            let [first, _, _, _, _, _, f0, f1, _, protocol] = frame.read::<10>(ip)?;
            if first != V4_PLAIN || u16::from_be_bytes([f0, f1]) & (IPV4_MORE | IPV4_OFFSET) != 0 {
                return None;
            }
            (protocol, ip + IPV4_BYTES)
        }
        Family::V6 => {
            let [_, _, _, _, _, _, next] = frame.read::<7>(ip)?;
            (next, ip + IPV6_BYTES)
        }
    };
    if protocol != PROTOCOL_UDP {
        return None;
    }
    let (source_port, destination_port) = ports_of(frame.read(offset)?);
    (segment.flow.source_port, segment.flow.destination_port) = (source_port, destination_port);
    Some(())
}
