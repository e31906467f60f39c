//! The packets of a trail, read by a parser of the test's own.
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::super::{CREATED_NS, Site, batch, header, identities};
use crate::{
    ExportedPackets, Reader, Record, Sealing, Source, Stream, TrailError, Writer, export_pcapng,
    keygen,
};

/// A packet as the parser finds it.
#[derive(Debug)]
struct Packet {
    wall_ns: u64,
    comment: Option<String>,
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    data: Vec<u8>,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const PSH: u8 = 8;
const ACK: u8 = 16;

fn u16_le(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_le(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u16_be(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

fn u32_be(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The blocks of a file: type and body.
fn blocks(mut file: &[u8]) -> Vec<(u32, &[u8])> {
    let mut blocks = Vec::new();
    while !file.is_empty() {
        let length = u32_le(file, 4) as usize;
        assert_eq!(length % 4, 0);
        assert_eq!(u32_le(file, length - 4) as usize, length);
        blocks.push((u32_le(file, 0), &file[8..length - 4]));
        file = &file[length..];
    }
    blocks
}

/// The options at the end of a block.
fn options(mut bytes: &[u8]) -> BTreeMap<u16, Vec<u8>> {
    let mut options = BTreeMap::new();
    while !bytes.is_empty() {
        let (code, length) = (u16_le(bytes, 0), usize::from(u16_le(bytes, 2)));
        if code == 0 {
            assert_eq!((length, bytes.len()), (0, 4), "nothing follows the last option");
            break;
        }
        options.insert(code, bytes[4..4 + length].to_vec());
        bytes = &bytes[4 + length.next_multiple_of(4)..];
    }
    options
}

/// The checksum of RFC 1071: 0xffff over what has a right one in it.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let mut sum = 0_u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap()
}

/// Source, destination and payload of an IP packet of TCP, whose checksums are right.
fn parse_ip(packet: &[u8]) -> (IpAddr, IpAddr, &[u8]) {
    if packet[0] >> 4 == 4 {
        assert_eq!(packet[0], 0x45);
        assert_eq!(usize::from(u16_be(packet, 2)), packet.len());
        assert_eq!(packet[9], 6);
        assert_eq!(sum(&[&packet[..20]]), 0xffff, "checksum of IPv4");
        let tcp = &packet[20..];
        let length = u16::try_from(tcp.len()).unwrap().to_be_bytes();
        assert_eq!(sum(&[&packet[12..20], &[0, 6], &length, tcp]), 0xffff, "checksum of TCP");
        let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&packet[at..at + 4]).unwrap());
        return (address(12), address(16), tcp);
    }
    assert_eq!(packet[0] >> 4, 6);
    assert_eq!(packet[6], 6);
    let tcp = &packet[40..];
    assert_eq!(usize::from(u16_be(packet, 4)), tcp.len());
    let length = u32::try_from(tcp.len()).unwrap().to_be_bytes();
    assert_eq!(sum(&[&packet[8..40], &length, &[0, 0, 0, 6], tcp]), 0xffff, "checksum of TCP");
    let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&packet[at..at + 16]).unwrap());
    (address(8), address(24), tcp)
}

fn parse_packet(body: &[u8]) -> Packet {
    assert_eq!(u32_le(body, 0), 0, "interface");
    let wall_ns = u64::from(u32_le(body, 4)) << 32 | u64::from(u32_le(body, 8));
    let length = u32_le(body, 12) as usize;
    assert_eq!(u32_le(body, 16) as usize, length);
    let (packet, rest) = body[20..].split_at(length.next_multiple_of(4));
    let comment = options(rest).remove(&1).map(|text| String::from_utf8(text).unwrap());
    let (source, destination, tcp) = parse_ip(&packet[..length]);
    assert_eq!(tcp[12] >> 4, 5, "no options");
    assert_eq!(u16_be(tcp, 14), 65_535, "window");
    Packet {
        wall_ns,
        comment,
        from: (source, u16_be(tcp, 0)).into(),
        to: (destination, u16_be(tcp, 2)).into(),
        sequence: u32_be(tcp, 4),
        acknowledged: u32_be(tcp, 8),
        flags: tcp[13],
        data: tcp[20..].to_vec(),
    }
}

/// Checks the blocks before the packets; gives the comment about the file, and the packets.
fn parse(file: &[u8]) -> (String, Vec<Packet>) {
    let blocks = blocks(file);
    let (kind, section) = blocks[0];
    assert_eq!((kind, u32_le(section, 0)), (0x0a0d_0d0a, 0x1a2b_3c4d));
    assert_eq!((u16_le(section, 4), u16_le(section, 6)), (1, 0));
    assert_eq!(section[8..16], [0xff; 8]);
    let comment = String::from_utf8(options(&section[16..]).remove(&1).unwrap()).unwrap();
    let (kind, interface) = blocks[1];
    assert_eq!((kind, u16_le(interface, 0), u32_le(interface, 4)), (1, 101, 0));
    assert_eq!(options(&interface[8..])[&9], [9]);
    let packets = blocks[2..].iter().map(|(kind, body)| {
        assert_eq!(*kind, 6);
        parse_packet(body)
    });
    (comment, packets.collect())
}

/// What each end sent on each connection, by sender and receiver. Fails unless each connection
/// begins with a handshake, no byte is left out or sent twice, no segment is too long, more than a
/// window is never on its way, and all is acknowledged.
fn reassemble(packets: &[Packet]) -> BTreeMap<(SocketAddr, SocketAddr), Vec<u8>> {
    let mut next: BTreeMap<(SocketAddr, SocketAddr), u32> = BTreeMap::new();
    let mut acknowledged: BTreeMap<(SocketAddr, SocketAddr), u32> = BTreeMap::new();
    let mut sent: BTreeMap<(SocketAddr, SocketAddr), Vec<u8>> = BTreeMap::new();
    for packet in packets {
        let (there, back) = ((packet.from, packet.to), (packet.to, packet.from));
        match packet.flags {
            SYN => assert!(!next.contains_key(&there) && packet.acknowledged == 0),
            flags if flags == SYN | ACK => assert!(next[&back] == 1 && !next.contains_key(&there)),
            _ => assert_eq!(packet.sequence, next[&there], "{packet:?}"),
        }
        if packet.flags != SYN {
            assert!(packet.acknowledged <= next[&back], "{packet:?}");
            acknowledged.insert(back, packet.acknowledged);
        }
        let counted = u32::from(packet.flags & (SYN | FIN) != 0);
        let bytes = u32::try_from(packet.data.len()).unwrap() + counted;
        next.insert(there, packet.sequence.wrapping_add(bytes));
        assert!(packet.data.len() <= 1460);
        assert_eq!(packet.flags & PSH != 0, !packet.data.is_empty());
        let on_the_way = next[&there] - acknowledged.get(&there).copied().unwrap_or(0);
        assert!(on_the_way <= 65_535, "{on_the_way}");
        sent.entry(there).or_default().extend_from_slice(&packet.data);
    }
    assert_eq!(next, acknowledged);
    sent
}

fn data(channel: u32, source: Source, bytes: &[u8]) -> Record<'_> {
    Record::Data { channel, source, bytes }
}

fn target(address: &str) -> Record<'_> {
    Record::Event { kind: "target", fields: vec![("address", address)] }
}

type Part<'a> = (Stream, Vec<(u64, Record<'a>)>);

fn trail(sealing: &Sealing, parts: &[Part<'_>]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, &header(), sealing).unwrap();
    for (stream, records) in parts {
        let taken = batch(records);
        writer.chunk(*stream, &taken.records, taken.first_t_ns).unwrap();
    }
    writer.end("done", CREATED_NS).unwrap();
    file
}

fn export(
    site: &Site,
    file: &[u8],
    client: Option<&str>,
    channel: Option<u32>,
) -> Result<(ExportedPackets, Vec<u8>), TrailError> {
    let mut reader = Reader::open(file, &site.identities(), None)?;
    let mut out = Vec::new();
    let client = client.map(|client| client.parse().unwrap());
    let exported = export_pcapng(&mut reader, client, channel, &mut out)?;
    Ok((exported, out))
}

fn address(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Channel 0, which is closed, and channel 7, which is not.
fn two_channels(long: &[u8]) -> [Part<'_>; 3] {
    let kind = vec![("kind", "session-shell"), ("rule", "0"), ("channel", "0")];
    [
        (
            Stream::Meta,
            vec![
                (1, Record::Fact { name: "client", value: "192.0.2.1:50000" }),
                (1, target("198.51.100.9:22")),
                (2, Record::Event { kind: "channel", fields: kind }),
                (90, Record::ChannelClose { channel: 0 }),
            ],
        ),
        (
            Stream::Downstream,
            vec![
                (10, data(0, Source::Stdout, b"$ ")),
                (12, Record::Keyframe { channel: 0, columns: 80, rows: 24, screen: "$ " }),
                (30, data(0, Source::Stderr, b"no\r\n")),
                (40, data(7, Source::Stdout, long)),
                (50, data(0, Source::Stdout, b"")),
            ],
        ),
        (Stream::Upstream, vec![(20, data(0, Source::Stdin, b"ls\r"))]),
    ]
}

#[test]
fn channels_are_connections() {
    let site = Site::new();
    let long: Vec<u8> = (0..131_072_u32).map(|index| (index % 251) as u8).collect();
    let parts = two_channels(&long);
    let file = trail(&site.sealing(), &parts);
    let (exported, out) = export(&site, &file, None, None).unwrap();
    let (comment, packets) = parse(&out);
    let expected = "proxyd trail, protocol ssh, connection policy admins: the data of its channels \
                    in clear";
    assert_eq!(comment, expected);
    assert_eq!((exported.channels, exported.packets), (2, packets.len() as u64));

    let (client, server) = (address("192.0.2.1:50000"), address("198.51.100.9:22"));
    let second = address("192.0.2.1:49152");
    let sent = reassemble(&packets);
    let expected = BTreeMap::from([
        ((client, server), b"ls\r".to_vec()),
        ((server, client), b"$ no\r\n".to_vec()),
        ((second, server), Vec::new()),
        ((server, second), long),
    ]);
    assert_eq!(sent, expected);

    let first: Vec<_> = packets
        .iter()
        .filter(|packet| packet.from == client || packet.to == client)
        .map(|packet| {
            let t_ns = packet.wall_ns - CREATED_NS;
            (t_ns, packet.flags, packet.comment.as_deref().unwrap_or_default())
        })
        .collect();
    let expected = [
        (10, SYN, "channel 0, session-shell"),
        (10, SYN | ACK, ""),
        (10, ACK, ""),
        (10, PSH | ACK, "channel 0, stdout"),
        (10, ACK, ""),
        (20, PSH | ACK, "channel 0, stdin"),
        (20, ACK, ""),
        (30, PSH | ACK, "channel 0, stderr"),
        (30, ACK, ""),
        (90, FIN | ACK, "channel 0 is closed"),
        (90, FIN | ACK, ""),
        (90, ACK, ""),
    ];
    assert_eq!(first, expected);
    let made_up = packets.iter().find(|packet| packet.from == second).unwrap();
    let comment = "channel 7, unknown, with a port that is made up";
    assert_eq!(made_up.comment.as_deref(), Some(comment));

    let (exported, out) = export(&site, &file, None, Some(7)).unwrap();
    assert_eq!(exported.channels, 1);
    // The only one has the client's own port.
    assert!(parse(&out).1.iter().all(|packet| [packet.from, packet.to].contains(&client)));
}

#[test]
fn addresses_come_from_the_trail_or_are_given() {
    let site = Site::new();
    let fact = |name, value| (1, Record::Fact { name, value });
    let mapped = |text: &str| {
        let address: SocketAddr = address(text);
        let IpAddr::V4(v4) = address.ip() else { panic!("{text}") };
        let ip: Ipv6Addr = v4.to_ipv6_mapped();
        SocketAddr::new(ip.into(), address.port())
    };
    let cases = [
        (
            "facts before what is given",
            vec![fact("client", "192.0.2.1:5"), fact("target", "192.0.2.2:22")],
            Some("192.0.2.9:9"),
            Ok((address("192.0.2.1:5"), address("192.0.2.2:22"))),
        ),
        (
            "client is given",
            vec![(1, target("[2001:db8::2]:2222"))],
            Some("[2001:db8::1]:7"),
            Ok((address("[2001:db8::1]:7"), address("[2001:db8::2]:2222"))),
        ),
        (
            "two families",
            vec![fact("client", "192.0.2.1:5"), (1, target("[2001:db8::2]:22"))],
            None,
            Ok((mapped("192.0.2.1:5"), address("[2001:db8::2]:22"))),
        ),
        (
            "scope",
            vec![fact("client", "[fe80::1%3]:5"), (1, target("[fe80::2%3]:22"))],
            None,
            Ok((address("[fe80::1]:5"), address("[fe80::2]:22"))),
        ),
        ("no client", vec![(1, target("192.0.2.2:22"))], None, Err("client")),
        ("bad client", vec![fact("client", "x"), (1, target("192.0.2.2:22"))], None, Err("client")),
        ("no server", vec![fact("client", "192.0.2.1:5")], None, Err("server")),
    ];
    for (name, meta, given, expected) in cases {
        let output = vec![(2, data(0, Source::Stdout, b"x"))];
        let parts = [(Stream::Meta, meta), (Stream::Downstream, output)];
        let file = trail(&site.sealing(), &parts);
        match (export(&site, &file, given, None), expected) {
            (Ok((_, out)), Ok((client, server))) => {
                let packets = parse(&out).1;
                assert_eq!((packets[0].from, packets[0].to), (client, server), "{name}");
                assert_eq!(reassemble(&packets)[&(server, client)], b"x", "{name}");
            }
            (Err(TrailError::NoAddress { peer }), Err(expected)) => {
                assert_eq!(peer, expected, "{name}");
            }
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn without_upstream_keys_the_client_says_nothing() {
    let site = Site::new();
    let (other_identity, other) = keygen();
    let (recipients, upstream) = ([vec![site.recipient.clone()]], [vec![other]]);
    let sealing = Sealing::new(&recipients, &upstream, site.signing_key.clone()).unwrap();
    let meta = vec![
        (1, Record::Fact { name: "client", value: "192.0.2.1:5" }),
        (1, Record::Fact { name: "target", value: "192.0.2.2:22" }),
    ];
    let parts = [
        (Stream::Meta, meta),
        (Stream::Downstream, vec![(2, data(0, Source::Stdout, b"password:"))]),
        (Stream::Upstream, vec![(3, data(0, Source::Stdin, b"secret\r"))]),
    ];
    let file = trail(&sealing, &parts);
    let (_, out) = export(&site, &file, None, None).unwrap();
    let (comment, packets) = parse(&out);
    assert!(comment.ends_with("; what the client sent is not open to this export"), "{comment}");
    let all: Vec<u8> = reassemble(&packets).into_values().flatten().collect();
    assert_eq!(all, b"password:");

    let both = identities(&[site.identity.as_str(), other_identity.as_str()]);
    let mut reader = Reader::open(file.as_slice(), &both, None).unwrap();
    let mut out = Vec::new();
    export_pcapng(&mut reader, None, None, &mut out).unwrap();
    let (comment, packets) = parse(&out);
    assert!(comment.ends_with("in clear"), "{comment}");
    assert_eq!(
        reassemble(&packets)[&(address("192.0.2.1:5"), address("192.0.2.2:22"))],
        b"secret\r"
    );
}

#[test]
fn ports_are_made_up_until_there_are_no_more() {
    let site = Site::new();
    let meta = vec![
        (1, Record::Fact { name: "client", value: "192.0.2.1:49153" }),
        (1, Record::Fact { name: "target", value: "192.0.2.2:22" }),
    ];
    let one_by_one = |count: u32| {
        let records = (0..count).flat_map(|channel| {
            [(2, data(channel, Source::Stdout, b"x")), (2, Record::ChannelClose { channel })]
        });
        records.collect::<Vec<_>>()
    };
    // 1 of its own and 16384, of which it is one, in chunks that hold them.
    let all = one_by_one(16_384);
    let mut parts = vec![(Stream::Meta, meta)];
    parts.extend(all.chunks(8_192).map(|records| (Stream::Downstream, records.to_vec())));
    let file = trail(&site.sealing(), &parts);
    let (exported, out) = export(&site, &file, None, None).unwrap();
    assert_eq!(exported.channels, 16_384);
    let packets = parse(&out).1;
    let begun: Vec<u16> = packets
        .iter()
        .filter(|packet| packet.flags == SYN)
        .map(|packet| packet.from.port())
        .collect();
    assert_eq!(begun[..4], [49_153, 49_152, 49_154, 49_155]);
    assert_eq!(begun.iter().collect::<std::collections::BTreeSet<_>>().len(), 16_384);

    parts.push((Stream::Downstream, vec![(3, data(99_999, Source::Stdout, b"x"))]));
    let file = trail(&site.sealing(), &parts);
    let refused = export(&site, &file, None, None);
    assert!(matches!(refused, Err(TrailError::TooManyPorts { limit: 16_384 })), "{refused:?}");
}
