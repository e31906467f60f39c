//! The header walk over hand-made frames, whole and cut at every byte.

use alloc::vec;
use alloc::vec::Vec;

use super::{Arrival, Bytes, Segment, parse, too_big, udp};
use crate::flow::{Family, Flow, words_v4, words_v6};
use crate::stats::Reason;
use proptest::prelude::*;

struct Slice<'a>(&'a [u8]);

impl Bytes for Slice<'_> {
    fn read<const N: usize>(&self, offset: u32) -> Option<[u8; N]> {
        let start = offset as usize;
        self.0.get(start..start.checked_add(N)?)?.try_into().ok()
    }

    fn length(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap()
    }
}

const UNTAGGED: Arrival = Arrival { ifindex: 7, tag: None };
const SOURCE_V6: [u8; 16] = [0xfd, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
const DESTINATION_V6: [u8; 16] = [0xfd, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];

fn read(frame: &[u8], arrival: &Arrival) -> Result<Segment, Reason> {
    let mut segment = Segment::EMPTY;
    parse(&Slice(frame), arrival, &mut segment).map(|()| segment)
}

fn ethernet(tags: &[(u16, u16)], ether_type: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for (tag_type, tag) in tags {
        frame.extend(tag_type.to_be_bytes());
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(body);
    frame
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap().to_be_bytes()
}

/// A TCP segment to port 22; `options` counts words of four bytes.
fn tcp(flags: u8, options: u8, payload: usize) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0, 22, 0, 0, 0, 1, 0, 0, 0, 0];
    header.push((5 + options) << 4);
    header.extend([flags, 0xff, 0xff, 0, 0, 0, 0]);
    header.extend(vec![1; usize::from(options) * 4 + payload]);
    header
}

fn ipv4(options: u8, fragment: u16, protocol: u8, body: &[u8]) -> Vec<u8> {
    let option_bytes = usize::from(options) * 4;
    let mut packet = vec![0x45 + options, 0];
    packet.extend(length(20 + option_bytes + body.len()));
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([64, protocol, 0, 0, 10, 1, 0, 2, 10, 2, 0, 9]);
    packet.extend(vec![1; option_bytes]);
    packet.extend(body);
    packet
}

fn ipv6(next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length(body.len()));
    packet.extend([next, 64]);
    packet.extend(SOURCE_V6);
    packet.extend(DESTINATION_V6);
    packet.extend(body);
    packet
}

/// An extension header of 8 bytes.
fn extension(next: u8, length: u8, field: u16, body: &[u8]) -> Vec<u8> {
    let mut header = vec![next, length];
    header.extend(field.to_be_bytes());
    header.extend([0; 4]);
    header.extend(vec![0; usize::from(length) * 8]);
    header.extend(body);
    header
}

/// What the table expects of a frame: VLAN, offsets of IP and TCP, payload, first fragment or not.
type Expected = Result<(u16, u32, u32, u32, bool), Reason>;
type Case = (&'static str, Vec<u8>, Expected);

const SYN_FLAG: u8 = 0x02;
const ACK_FLAG: u8 = 0x10;

fn v4(body: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x0800, body)
}

fn v6(next: u8, body: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x86dd, &ipv6(next, body))
}

/// `frame` with the byte at `index` replaced.
fn with(mut frame: Vec<u8>, index: usize, byte: u8) -> Vec<u8> {
    frame[index] = byte;
    frame
}

fn cases() -> Vec<Case> {
    [link_cases(), ipv4_cases(), ipv4_fragment_cases(), ipv6_cases(), ipv6_fragment_cases()]
        .concat()
}

fn link_cases() -> Vec<Case> {
    let plain = ipv4(0, 0x4000, 6, &tcp(SYN_FLAG, 5, 0));
    let tagged = |tags: &[(u16, u16)]| ethernet(tags, 0x0800, &plain);
    let outer = tagged(&[(0x88a8, 200), (0x8100, 100)]);
    let three = tagged(&[(0x88a8, 1), (0x8100, 2), (0x8100, 3)]);
    vec![
        ("untagged", tagged(&[]), Ok((0, 14, 34, 0, false))),
        ("802.1Q with a priority", tagged(&[(0x8100, 0x6064)]), Ok((100, 18, 38, 0, false))),
        ("QinQ gives the outer tag", outer, Ok((200, 22, 42, 0, false))),
        ("three tags in the frame", three, Err(Reason::NotIp)),
        ("ARP", ethernet(&[], 0x0806, &[0; 28]), Err(Reason::NotIp)),
        ("802.3 length", ethernet(&[], 46, &[0; 46]), Err(Reason::NotIp)),
    ]
}

fn ipv4_cases() -> Vec<Case> {
    let syn = tcp(SYN_FLAG, 5, 0);
    let plain = v4(&ipv4(0, 0x4000, 6, &syn));
    let joined = v4(&ipv4(0, 0, 6, &tcp(ACK_FLAG, 0, 9)));
    let padded = [v4(&ipv4(0, 0, 6, &[0; 10])), vec![0; 26]].concat();
    vec![
        ("data", v4(&ipv4(0, 0, 6, &tcp(0x18, 3, 100))), Ok((0, 14, 34, 100, false))),
        ("options", v4(&ipv4(10, 0, 6, &syn)), Ok((0, 14, 74, 0, false))),
        ("UDP", v4(&ipv4(0, 0, 17, &[0; 8])), Err(Reason::NotTcp)),
        ("header of 16 bytes", with(plain.clone(), 14, 0x44), Err(Reason::Malformed)),
        ("version 6", with(plain.clone(), 14, 0x65), Err(Reason::Malformed)),
        ("total length below the header", with(plain, 17, 19), Err(Reason::Malformed)),
        ("total length 0 of a joined segment", with(joined, 17, 0), Ok((0, 14, 34, 9, false))),
        ("padding is no header", padded, Err(Reason::Malformed)),
        (
            "TCP header of 16 bytes",
            v4(&ipv4(0, 0, 6, &with(syn.clone(), 12, 0x40))),
            Err(Reason::Malformed),
        ),
        ("TCP options beyond the packet", v4(&ipv4(0, 0, 6, &syn[..24])), Err(Reason::Malformed)),
    ]
}

fn ipv4_fragment_cases() -> Vec<Case> {
    let syn = tcp(SYN_FLAG, 5, 0);
    let first = |body: &[u8]| v4(&ipv4(0, 0x2000, 6, body));
    let at = |field, protocol| v4(&ipv4(0, field, protocol, &syn));
    vec![
        ("first, data", first(&tcp(ACK_FLAG, 0, 4)), Ok((0, 14, 34, 4, true))),
        ("first, SYN", first(&syn), Err(Reason::FragmentedSyn)),
        ("first, 8 bytes", first(&syn[..8]), Err(Reason::TinyFragment)),
        ("first, cuts options", first(&syn[..24]), Err(Reason::TinyFragment)),
        ("middle at 8", at(0x2001, 6), Err(Reason::OverlappingFragment)),
        ("last at 8", at(0x0001, 6), Err(Reason::OverlappingFragment)),
        ("later", at(0x0002, 6), Err(Reason::LaterFragment)),
        ("UDP at 8", at(0x0001, 17), Err(Reason::NotTcp)),
    ]
}

fn ipv6_cases() -> Vec<Case> {
    let syn = tcp(SYN_FLAG, 5, 0);
    let authentication = [vec![6, 4], vec![0; 22], syn.clone()].concat();
    let eight = (0..8).fold((6, syn.clone()), |(next, body), _| (60, extension(next, 0, 0, &body)));
    let nine = extension(60, 0, 0, &eight.1);
    vec![
        ("IPv6 SYN", v6(6, &syn), Ok((0, 14, 54, 0, false))),
        ("ICMPv6", v6(58, &[0; 8]), Err(Reason::NotTcp)),
        ("no next header", v6(59, &[]), Err(Reason::NotTcp)),
        ("options of 16 bytes", v6(0, &extension(6, 1, 0, &syn)), Ok((0, 14, 70, 0, false))),
        ("authentication header", v6(51, &authentication), Ok((0, 14, 78, 0, false))),
        ("eight extension headers", v6(60, &eight.1), Ok((0, 14, 118, 0, false))),
        ("nine extension headers", v6(60, &nine), Err(Reason::HeaderChain)),
        ("chain cut off", v6(60, &[6, 0, 0]), Err(Reason::Malformed)),
    ]
}

fn ipv6_fragment_cases() -> Vec<Case> {
    let syn = tcp(SYN_FLAG, 5, 0);
    let fragment = |field, body: &[u8]| v6(44, &extension(6, 0, field, body));
    let endless = v6(44, &extension(60, 0, 1, &[]));
    vec![
        ("IPv6 atomic", fragment(0, &syn), Ok((0, 14, 62, 0, false))),
        ("IPv6 first, SYN", fragment(1, &syn), Err(Reason::FragmentedSyn)),
        ("IPv6 first, data", fragment(1, &tcp(ACK_FLAG, 0, 4)), Ok((0, 14, 62, 4, true))),
        ("IPv6 chain goes on in a later one", endless, Err(Reason::TinyFragment)),
        ("IPv6 at 8", fragment(9, &syn), Err(Reason::OverlappingFragment)),
        ("IPv6 later", fragment(17, &syn), Err(Reason::LaterFragment)),
    ]
}

#[test]
fn frames() {
    for (name, frame, expected) in cases() {
        let got = read(&frame, &UNTAGGED).map(|segment| {
            let offsets = (segment.ip_offset, segment.tcp_offset);
            (segment.flow.vlan, offsets.0, offsets.1, segment.payload_bytes, segment.fragment)
        });
        assert_eq!(got, expected, "{name}");
    }
}

#[test]
fn addresses_and_ports() {
    let frame = ethernet(&[], 0x0800, &ipv4(0, 0, 6, &tcp(0x02, 0, 0)));
    let flow = read(&frame, &UNTAGGED).unwrap().flow;
    assert_eq!(flow.source, words_v4([10, 1, 0, 2]));
    assert_eq!(flow.destination, words_v4([10, 2, 0, 9]));
    assert_eq!((flow.source_port, flow.destination_port), (40000, 22));
    assert_eq!((flow.family, flow.ifindex), (Family::V4, 7));
    let frame = ethernet(&[], 0x86dd, &ipv6(6, &tcp(0x02, 0, 0)));
    let flow = read(&frame, &UNTAGGED).unwrap().flow;
    assert_eq!(flow.source, words_v6(SOURCE_V6));
    assert_eq!(flow.destination, words_v6(DESTINATION_V6));
    assert_eq!((flow.family, flow.source_port), (Family::V6, 40000));
}

#[test]
fn tag_that_the_kernel_took_out_is_the_outer_one() {
    let arrival = Arrival { ifindex: 7, tag: Some(0x6000 + 300) };
    let frame = ethernet(&[(0x8100, 100)], 0x0800, &ipv4(0, 0, 6, &tcp(0x02, 0, 0)));
    assert_eq!(read(&frame, &arrival).unwrap().flow.vlan, 300);
}

#[test]
fn frames_cut_at_every_byte_are_never_whole_segments() {
    for (name, frame, expected) in cases() {
        let Ok((_, _, tcp_offset, _, _)) = expected else { continue };
        for length in 0..(tcp_offset as usize + 20) {
            let got = read(&frame[..length], &UNTAGGED);
            let reason = got.expect_err(name);
            assert!(
                reason == Reason::Malformed || reason == Reason::TinyFragment,
                "{name} {length}"
            );
        }
    }
}

/// An ICMP error with the packet that caused it.
fn icmp(kind: u8, code: u8, cause: &[u8]) -> Vec<u8> {
    [&[kind, code, 0, 0, 0, 0, 5, 0], cause].concat()
}

/// The connection that an error in `frame` is about, when it is one.
fn too_big_for(frame: &[u8]) -> Option<Flow> {
    let mut segment = Segment::EMPTY;
    assert_eq!(parse(&Slice(frame), &UNTAGGED, &mut segment), Err(Reason::NotTcp));
    too_big(&Slice(frame), &mut segment).map(|()| segment.flow)
}

/// Names, frames, and whether they say that a segment was too big.
fn icmp_cases() -> Vec<(&'static str, Vec<u8>, bool)> {
    let segment = tcp(ACK_FLAG, 0, 0);
    let cause = ipv4(0, 0x4000, 6, &segment[..8]);
    let cause_v6 = ipv6(6, &segment[..8]);
    let error = |kind, code, cause: &[u8]| v4(&ipv4(0, 0, 1, &icmp(kind, code, cause)));
    let error_v6 = |kind, code, cause: &[u8]| v6(58, &icmp(kind, code, cause));
    vec![
        ("fragmentation needed", error(3, 4, &cause), true),
        ("with options", v4(&ipv4(2, 0, 1, &icmp(3, 4, &ipv4(3, 0, 6, &segment)))), true),
        ("behind a tag", ethernet(&[(0x8100, 9)], 0x0800, &error(3, 4, &cause)[14..]), true),
        ("host unreachable", error(3, 1, &cause), false),
        ("time exceeded", error(11, 0, &cause), false),
        ("about UDP", error(3, 4, &ipv4(0, 0, 17, &segment)), false),
        ("about a later fragment", error(3, 4, &ipv4(0, 2, 6, &segment)), false),
        ("about another version", error(3, 4, &cause_v6), false),
        ("in a fragment", v4(&ipv4(0, 0x2000, 1, &icmp(3, 4, &cause))), false),
        ("UDP", v4(&ipv4(0, 0, 17, &icmp(3, 4, &cause))), false),
        ("packet too big", error_v6(2, 0, &cause_v6), true),
        ("packet too big with a code", error_v6(2, 7, &cause_v6), true),
        ("IPv6 unreachable", error_v6(1, 0, &cause_v6), false),
        ("IPv6 about UDP", error_v6(2, 0, &ipv6(17, &segment)), false),
        ("IPv6 about another version", error_v6(2, 0, &cause), false),
        ("IPv6 UDP", v6(17, &icmp(2, 0, &cause_v6)), false),
    ]
}

#[test]
fn packets_too_big_name_their_connection_turned_round() {
    for (name, frame, expected) in icmp_cases() {
        let flow = too_big_for(&frame);
        assert_eq!(flow.is_some(), expected, "{name}");
        let Some(flow) = flow else { continue };
        assert_eq!((flow.source_port, flow.destination_port), (22, 40000), "{name}");
        let (source, destination) = match flow.family {
            Family::V4 => (words_v4([10, 2, 0, 9]), words_v4([10, 1, 0, 2])),
            Family::V6 => (words_v6(DESTINATION_V6), words_v6(SOURCE_V6)),
        };
        assert_eq!((flow.source, flow.destination), (source, destination), "{name}");
    }
}

#[test]
fn packets_too_big_are_nothing_when_cut() {
    for (name, frame, expected) in icmp_cases() {
        // Up to the ports; the number behind them is the kernel's to check.
        let ports_end = frame.len() - if name == "with options" { 16 } else { 4 };
        for length in 0..ports_end {
            let mut segment = Segment::EMPTY;
            let frame = Slice(&frame[..length]);
            if parse(&frame, &UNTAGGED, &mut segment) == Err(Reason::NotTcp) {
                assert_eq!(too_big(&frame, &mut segment), None, "{name} {length} {expected}");
            }
        }
    }
}

#[test]
fn flags_that_open_and_end_handshakes() {
    for (name, flags, opens, ends) in [
        ("SYN", 0x02, true, false),
        ("SYN with ECN", 0xc2, true, false),
        ("SYN and FIN", 0x03, true, false),
        ("SYN and ACK", 0x12, false, false),
        ("ACK", 0x10, false, true),
        ("ACK and PSH", 0x18, false, true),
        ("RST and ACK", 0x14, false, false),
        ("FIN and ACK", 0x11, false, false),
        ("nothing", 0x00, false, false),
    ] {
        let segment = Segment { flags, ..Segment::EMPTY };
        assert_eq!((segment.opens(), segment.may_end_handshake()), (opens, ends), "{name}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(frame in prop::collection::vec(any::<u8>(), 0..200)) {
        let _outcome = read(&frame, &UNTAGGED);
        for family in [Family::V4, Family::V6] {
            let mut segment = Segment::EMPTY;
            segment.flow.family = family;
            let _outcome = too_big(&Slice(&frame), &mut segment);
        }
    }

    /// Frames that look right up to a few bytes reach deeper than random ones.
    #[test]
    fn damaged_frames_stay_in_bounds(
        index in any::<prop::sample::Index>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let cases = cases();
        let (_, mut frame, _) = cases[index.index(cases.len())].clone();
        for (at, byte) in damage {
            let at = at.index(frame.len());
            frame[at] = byte;
        }
        if let Ok(segment) = read(&frame, &UNTAGGED) {
            prop_assert!(segment.tcp_offset as usize + 20 <= frame.len());
            prop_assert!(segment.header_bytes >= 20 && segment.header_bytes <= 60);
        }
    }
}

/// Ports of the frame, where it is a datagram that can be forwarded.
fn udp_ports(frame: &[u8]) -> Option<(u16, u16)> {
    let mut segment = Segment::EMPTY;
    let reason = parse(&Slice(frame), &UNTAGGED, &mut segment).err()?;
    assert!(matches!(reason, Reason::NotTcp | Reason::Malformed | Reason::NotIp), "{reason:?}");
    if reason != Reason::NotTcp {
        return None;
    }
    udp(&Slice(frame), &mut segment)?;
    Some((segment.flow.source_port, segment.flow.destination_port))
}

#[test]
fn datagrams() {
    let datagram = [0x9c, 0x40, 0, 53, 0, 8, 0, 0];
    let found = Some((40_000, 53));
    for (name, frame, expected) in [
        ("IPv4", v4(&ipv4(0, 0, 17, &datagram)), found),
        ("IPv4, not to be cut", v4(&ipv4(0, 0x4000, 17, &datagram)), found),
        ("IPv4 with options", v4(&ipv4(1, 0, 17, &datagram)), None),
        ("IPv4, first fragment", v4(&ipv4(0, 0x2000, 17, &datagram)), None),
        ("IPv4, later fragment", v4(&ipv4(0, 0x0001, 17, &datagram)), None),
        ("ICMP", v4(&ipv4(0, 0, 1, &datagram)), None),
        ("IPv6", v6(17, &datagram), found),
        ("IPv6 with options", v6(60, &extension(17, 0, 0, &datagram)), None),
        ("ICMPv6", v6(58, &datagram), None),
        ("tagged", ethernet(&[(0x8100, 5)], 0x0800, &ipv4(0, 0, 17, &datagram)), found),
    ] {
        assert_eq!(udp_ports(&frame), expected, "{name}");
        let ports_end = frame.len() - 4;
        for end in 0..ports_end {
            assert_eq!(udp_ports(&frame[..end]), None, "{name} cut at {end}");
        }
    }
}
