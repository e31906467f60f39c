//! The real steering programs, run by the kernel on hand-made frames (`BPF_PROG_TEST_RUN`).
//!
//! No proxy listens in most of them, so that a redirecting rule shows itself by its `on_down`.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use aya::maps::{Array, HashMap, MapData, PerCpuArray, SockMap};
use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use proxyd::net::socket::{AddressFamily, transparent_listener};
use proxyd::steering::table;
use steering_common::action::{Action, OnDown};
use steering_common::compile::{Room, compile};
use steering_common::decide::{Connection, decide};
use steering_common::layout::{Port, Settings};
use steering_common::limits::{CELLS_MAX, LISTENER_V4};
use steering_common::pairs::Pairs;
use steering_common::rule::{PortRange, Prefix, Rule};
use steering_common::stats::{PolicyCounts, Reason};

/// What a program returns, as the kernel gives it back.
const NEXT: u32 = u32::MAX;
const PASS: u32 = 0;
const DROP: u32 = 2;
const SEND_BACK: u32 = 7;

/// Test runs arrive on the loopback interface.
const IFINDEX: u32 = 1;

/// Shortest frame that the kernel takes for a test run: an Ethernet header and one byte.
const FRAME_BYTES_MIN: usize = 15;

struct Programs {
    ebpf: Ebpf,
    reasons: PerCpuArray<MapData, u64>,
    policies: PerCpuArray<MapData, PolicyCounts>,
}

/// What one run of a program did.
struct Outcome {
    returned: u32,
    frame: Vec<u8>,
    /// The reasons that were counted.
    reasons: Vec<Reason>,
}

/// Room for a cross-product table and blocks, for sets of rules, and for hardly any blocks.
const ROOMS: [Room; 3] = [
    Room { bytes: 1 << 28, cells: CELLS_MAX },
    Room { bytes: 1 << 28, cells: 0 },
    Room { bytes: 700_000, cells: 0 },
];

impl Programs {
    fn load(rules: &[Rule]) -> Self {
        Self::load_within(ROOMS[0], rules, &[], &["classify", "return_path", "classify_port"])
    }

    /// With the table of `rules` on a host with these addresses; all programs, or the ones named.
    fn load_within(room: Room, rules: &[Rule], host: &[IpAddr], programs: &[&str]) -> Self {
        let table = compile(rules, host, room).unwrap();
        let mut loader = EbpfLoader::new();
        table::size(&mut loader, &table);
        let mut ebpf = loader.load(proxyd::steering::OBJECT).expect("root, and BPF");
        for name in programs {
            let program: &mut SchedClassifier = ebpf.program_mut(name).unwrap().try_into().unwrap();
            program.load().unwrap();
        }
        table::fill(&mut ebpf, &table).unwrap();
        let settings = Settings {
            socket_mark: 2,
            route_mark: 1,
            heartbeat_limit_ns: 1_000_000_000,
            fast_path: 0,
            reserved: 0,
        };
        let mut map: Array<_, Settings> = ebpf.take_map("SETTINGS").unwrap().try_into().unwrap();
        map.set(0, settings, 0).unwrap();
        // Whatever pair it is, the proxy may have a connection between the two.
        let mut pairs: Array<_, [u8; size_of::<Pairs>()]> =
            ebpf.take_map("PAIRS").unwrap().try_into().unwrap();
        pairs.set(0, [1; size_of::<Pairs>()], 0).unwrap();
        let mut take = |name| ebpf.take_map(name).unwrap();
        Self {
            reasons: take("REASON_COUNTS").try_into().unwrap(),
            policies: take("POLICY_COUNTS").try_into().unwrap(),
            ebpf,
        }
    }

    fn run(&self, program: &str, frame: &[u8]) -> Outcome {
        let program: &SchedClassifier = self.ebpf.program(program).unwrap().try_into().unwrap();
        let before = self.reason_counts();
        let mut out = vec![0; frame.len() + 64];
        let result = program
            .test_run(TestRunOptions {
                data_in: Some(frame),
                data_out: Some(&mut out),
                ..TestRunOptions::new()
            })
            .unwrap();
        out.truncate(usize::try_from(result.data_size_out).unwrap());
        let counted = self.reason_counts().into_iter().zip(before).zip(Reason::ALL);
        let reasons = counted.filter(|((after, before), _)| after > before);
        Outcome {
            returned: result.return_value,
            frame: out,
            reasons: reasons.map(|(_, reason)| reason).collect(),
        }
    }

    fn reason_counts(&self) -> Vec<u64> {
        let count = |reason| self.reasons.get(&(reason as u32), 0).unwrap().iter().sum();
        Reason::ALL.into_iter().map(count).collect()
    }

    fn policy_counts(&self, slots: usize) -> Vec<PolicyCounts> {
        let sum = |slot: usize| {
            let counts = self.policies.get(&u32::try_from(slot).unwrap(), 0).unwrap();
            counts.iter().fold(PolicyCounts::default(), |sum, one| PolicyCounts {
                forwarded: sum.forwarded + one.forwarded,
                redirected: sum.redirected + one.redirected,
                dropped: sum.dropped + one.dropped,
                down: sum.down + one.down,
                paced: sum.paced + one.paced,
            })
        };
        (0..slots).map(sum).collect()
    }

    /// A proxy that listens and lives for ever.
    fn put_proxy_up(&mut self) -> TcpListener {
        let listener = transparent_listener(AddressFamily::V4, 0, 2, 16).unwrap();
        let mut map: SockMap<_> = self.ebpf.take_map("LISTENERS").unwrap().try_into().unwrap();
        map.set(LISTENER_V4, &listener, 0).unwrap();
        let mut map: Array<_, u64> = self.ebpf.take_map("HEARTBEAT").unwrap().try_into().unwrap();
        map.set(0, u64::MAX, 0).unwrap();
        listener
    }
}

fn checksum(bytes: &[u8]) -> u16 {
    let sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !u16::try_from((folded & 0xffff) + (folded >> 16)).unwrap()
}

fn ethernet(tags: &[u16], ether_type: u16, body: &[u8]) -> Vec<u8> {
    // To the loopback interface, which has no address.
    let mut frame = vec![0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend([0x81, 0x00]);
        frame.extend(tag.to_be_bytes());
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(body);
    frame
}

/// A TCP segment with `options` words of options and the checksum that belongs to the addresses.
fn tcp(addresses: &[u8], port: u16, flags: u8, options: u8, payload: &[u8]) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40];
    segment.extend(port.to_be_bytes());
    segment.extend([0x01, 0x02, 0x03, 0xff, 0, 0, 0, 0, (5 + options) << 4, flags]);
    segment.extend([0xfa, 0xf0, 0, 0, 0, 0]);
    segment.extend((0..options * 4).map(|byte| byte + 2));
    segment.extend(payload);
    let sum = tcp_checksum(addresses, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

fn length(bytes: usize) -> [u8; 2] {
    u16::try_from(bytes).unwrap().to_be_bytes()
}

fn tcp_checksum(addresses: &[u8], segment: &[u8]) -> u16 {
    let mut pseudo = addresses.to_vec();
    pseudo.extend([0, 6]);
    pseudo.extend(length(segment.len()));
    pseudo.extend(segment);
    checksum(&pseudo)
}

fn ipv4(source: [u8; 4], destination: [u8; 4], fragment: u16, options: u8, body: &[u8]) -> Vec<u8> {
    let option_bytes = usize::from(options) * 4;
    let mut packet = vec![0x45 + options, 0];
    packet.extend(length(20 + option_bytes + body.len()));
    packet.extend([0, 1]);
    packet.extend(fragment.to_be_bytes());
    packet.extend([9, 6, 0, 0]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(vec![1; option_bytes]);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(body);
    packet
}

fn ipv6(source: [u8; 16], destination: [u8; 16], next: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(length(body.len()));
    packet.extend([next, 9]);
    packet.extend(source);
    packet.extend(destination);
    packet.extend(body);
    packet
}

/// A SYN, as a client would send it.
fn syn(connection: &Connection) -> Vec<u8> {
    let tags: &[u16] = if connection.vlan == 0 { &[] } else { &[connection.vlan] };
    match (connection.source, connection.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let body = tcp(&[source, destination].concat(), connection.port, 0x02, 5, &[]);
            ethernet(tags, 0x0800, &ipv4(source, destination, 0x4000, 0, &body))
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let (source, destination) = (source.octets(), destination.octets());
            let body = tcp(&[source, destination].concat(), connection.port, 0x02, 5, &[]);
            ethernet(tags, 0x86dd, &ipv6(source, destination, 6, &body))
        }
        _ => panic!("addresses of two IP versions: {connection:?}"),
    }
}

const CLIENT: [u8; 4] = [10, 1, 0, 2];
const SERVER: [u8; 4] = [10, 2, 0, 9];
const ELSEWHERE: [u8; 4] = [10, 3, 0, 9];

fn ssh_rule(on_down: OnDown) -> Rule {
    Rule {
        sources: vec![],
        destinations: vec![
            Prefix::new(IpAddr::from([10, 2, 0, 0]), 16).unwrap(),
            Prefix::new("fd00:2::".parse().unwrap(), 32).unwrap(),
        ],
        ports: vec![PortRange::new(22, 22).unwrap()],
        interfaces: vec![],
        vlans: vec![],
        action: Action::Redirect,
        on_down,
        policy: 0,
        spares_host: false,
    }
}

fn v4_frame(destination: [u8; 4], fragment: u16, options: u8, body: &[u8]) -> Vec<u8> {
    ethernet(&[], 0x0800, &ipv4(CLIENT, destination, fragment, options, body))
}

/// What an attacker might send to get around the proxy, and what must not be harmed by the care
/// taken: each frame, what the program returns, and why. Nothing changes a byte.
#[test]
fn frames_keep_their_bytes_and_get_their_verdict() {
    let programs = Programs::load(&[ssh_rule(OnDown::Drop)]);
    let frames = [v4_frames(), v6_frames(), link_frames()].concat();
    for (name, frame, returned, reason) in frames {
        let outcome = programs.run("classify", &frame);
        assert_eq!(outcome.returned, returned, "{name}");
        assert_eq!(outcome.reasons, [reason], "{name}");
        assert_eq!(outcome.frame, frame, "{name}");
        // The server side opens nothing, whatever the rules say.
        assert_eq!(programs.run("return_path", &frame).returned, NEXT, "{name}");
        // A port of a bridge judges alike, whomever the frame is for.
        let elsewhere = frame.tap(|frame| frame[0] = 2);
        let outcome = programs.run("classify_port", &elsewhere);
        assert_eq!((outcome.returned, outcome.reasons), (returned, vec![reason]), "port: {name}");
    }
}

type Case = (&'static str, Vec<u8>, u32, Reason);

fn v4_frames() -> Vec<Case> {
    let pair = [CLIENT, SERVER].concat();
    let ssh = tcp(&pair, 22, 0x02, 5, &[]);
    let web = tcp(&pair, 80, 0x02, 5, &[]);
    let data = tcp(&pair, 22, 0x18, 3, b"data");
    let with = |flags| v4_frame(SERVER, 0x4000, 0, &tcp(&pair, 22, flags, 5, &[]));
    let routed = |to, option: u8, last: [u8; 4]| {
        let option = [&[1, option, 7, 4], last.as_slice()].concat();
        v4_frame(to, 0, 2, &ssh).tap(|frame| frame[34..42].copy_from_slice(&option))
    };
    let route_last = |kind| {
        // A record route of one address before it.
        let options = [[7, 7, 4, 0, 0, 0, 0, 1], [kind, 7, 4, 10, 2, 0, 9, 0]].concat();
        v4_frame(ELSEWHERE, 0, 4, &ssh).tap(|frame| frame[34..50].copy_from_slice(&options))
    };
    vec![
        ("SYN", v4_frame(SERVER, 0x4000, 0, &ssh), DROP, Reason::DownDropped),
        ("SYN behind IPv4 options", v4_frame(SERVER, 0, 10, &ssh), DROP, Reason::DownDropped),
        ("SYN and FIN", with(0x03), DROP, Reason::DownDropped),
        ("SYN and RST", with(0x06), DROP, Reason::DownDropped),
        ("SYN, PSH and URG", with(0x2a), DROP, Reason::DownDropped),
        ("SYN and all but ACK", with(0xef), DROP, Reason::DownDropped),
        ("SYN, ECE and CWR", with(0xc2), DROP, Reason::DownDropped),
        (
            "SYN with data (RFC 7413)",
            v4_frame(SERVER, 0x4000, 0, &tcp(&pair, 22, 0x02, 3, &[7; 1000])),
            DROP,
            Reason::DownDropped,
        ),
        ("SYN that may live on", with(2).tap(|frame| frame[22] = 1), DROP, Reason::DownDropped),
        ("SYN at the end of its life", with(2).tap(|f| f[22] = 0), DROP, Reason::DownDropped),
        ("SYN, wrong IPv4 checksum", with(2).tap(|f| f[24] ^= 1), DROP, Reason::DownDropped),
        ("SYN, wrong TCP checksum", with(2).tap(|f| f[50] ^= 1), DROP, Reason::DownDropped),
        ("SYN, other sequence number", with(2).tap(|f| f[38] ^= 1), DROP, Reason::DownDropped),
        ("SYN from port 0", with(2).tap(|f| f[34..36].fill(0)), DROP, Reason::DownDropped),
        ("SYN, reserved bit of IPv4", v4_frame(SERVER, 0x8000, 0, &ssh), DROP, Reason::DownDropped),
        ("SYN and ACK", with(0x12), NEXT, Reason::NotOurs),
        ("RST", with(0x04), NEXT, Reason::NotOurs),
        ("FIN", with(0x11), NEXT, Reason::NotOurs),
        ("no flag", with(0), NEXT, Reason::NotOurs),
        ("other port", v4_frame(SERVER, 0, 0, &web), NEXT, Reason::NoRule),
        ("other address", v4_frame(ELSEWHERE, 0, 0, &ssh), NEXT, Reason::NoRule),
        ("data", v4_frame(SERVER, 0, 0, &data), NEXT, Reason::NotOurs),
        ("UDP", v4_frame(SERVER, 0, 0, &[0; 8]).tap(|frame| frame[23] = 17), NEXT, Reason::NotTcp),
        ("tiny fragment", v4_frame(SERVER, 0x2000, 0, &ssh[..8]), DROP, Reason::TinyFragment),
        ("fragment of 16", v4_frame(SERVER, 0x2000, 0, &ssh[..16]), DROP, Reason::TinyFragment),
        ("fragment at 8", v4_frame(SERVER, 1, 0, &ssh), DROP, Reason::OverlappingFragment),
        ("fragmented SYN", v4_frame(SERVER, 0x2000, 0, &ssh), DROP, Reason::FragmentedSyn),
        ("fragmented data", v4_frame(SERVER, 0x2000, 0, &data), NEXT, Reason::NotOurs),
        ("later fragment", v4_frame(SERVER, 2, 0, &ssh), NEXT, Reason::LaterFragment),
        (
            "tiny fragment to elsewhere",
            v4_frame(ELSEWHERE, 0x2000, 0, &ssh[..8]),
            NEXT,
            Reason::UnsurePassed,
        ),
        ("fragment at 8 to elsewhere", v4_frame(ELSEWHERE, 1, 0, &ssh), NEXT, Reason::UnsurePassed),
        ("loose route", routed(ELSEWHERE, 131, SERVER), DROP, Reason::SourceRouted),
        ("strict route", routed(ELSEWHERE, 137, SERVER), DROP, Reason::SourceRouted),
        ("route away", routed(SERVER, 131, ELSEWHERE), DROP, Reason::SourceRouted),
        ("route elsewhere", routed(ELSEWHERE, 131, ELSEWHERE), NEXT, Reason::UnsurePassed),
        ("recorded route", routed(ELSEWHERE, 7, SERVER), NEXT, Reason::NoRule),
        ("route behind another option", route_last(131), DROP, Reason::SourceRouted),
        ("no route behind another option", route_last(7), NEXT, Reason::NoRule),
    ]
}

fn v6(next: u8, body: &[u8], to: &str) -> Vec<u8> {
    let source = "fd00:1::2".parse::<Ipv6Addr>().unwrap().octets();
    let destination = to.parse::<Ipv6Addr>().unwrap().octets();
    ethernet(&[], 0x86dd, &ipv6(source, destination, next, body))
}

fn v6_frames() -> Vec<Case> {
    const TO: &str = "fd00:2::9";
    const AWAY: &str = "fd00:3::9";
    let addresses = ["fd00:1::2", TO].map(|one| one.parse::<Ipv6Addr>().unwrap().octets());
    let ssh = tcp(&addresses.concat(), 22, 0x02, 5, &[]);
    let behind = |header: &[u8]| [header, ssh.as_slice()].concat();
    let chain = |length: usize| {
        (0..length).fold((6, ssh.clone()), |(next, body), _| {
            (60, [&[next, 0, 0, 0, 0, 0, 0, 0], body.as_slice()].concat())
        })
    };
    let route = |kind: u8, left: u8, first: &str, last: &str| {
        let list = [first, last].map(|one| one.parse::<Ipv6Addr>().unwrap().octets()).concat();
        behind(&[&[6, 4, kind, left, 1, 0, 0, 0], list.as_slice()].concat())
    };
    vec![
        ("IPv6 SYN", v6(6, &ssh, TO), DROP, Reason::DownDropped),
        ("IPv6 SYN to elsewhere", v6(6, &ssh, AWAY), NEXT, Reason::NoRule),
        ("hop-by-hop", v6(0, &behind(&[6, 0, 0, 0, 0, 0, 0, 0]), TO), DROP, Reason::DownDropped),
        ("chain of 8", v6(60, &chain(8).1, TO), DROP, Reason::DownDropped),
        ("chain of 9", v6(60, &chain(9).1, TO), DROP, Reason::HeaderChain),
        ("chain of 9 to elsewhere", v6(60, &chain(9).1, AWAY), NEXT, Reason::UnsurePassed),
        ("fragmented", v6(44, &behind(&[6, 0, 0, 1, 0, 0, 0, 1]), TO), DROP, Reason::FragmentedSyn),
        ("atomic", v6(44, &behind(&[6, 0, 0, 0, 0, 0, 0, 1]), TO), DROP, Reason::DownDropped),
        (
            "fragment at 8",
            v6(44, &behind(&[6, 0, 0, 8, 0, 0, 0, 1]), TO),
            DROP,
            Reason::OverlappingFragment,
        ),
        (
            "later fragment",
            v6(44, &behind(&[6, 0, 0, 16, 0, 0, 0, 1]), TO),
            NEXT,
            Reason::LaterFragment,
        ),
        (
            "header behind the fragment's, which a later one could overwrite",
            v6(44, &behind(&[60, 0, 0, 1, 0, 0, 0, 1, 6, 0, 1, 4, 0, 0, 0, 0]), TO),
            DROP,
            Reason::TinyFragment,
        ),
        (
            "chain that ends in the next fragment",
            v6(44, &[60, 0, 0, 1, 0, 0, 0, 1], TO),
            DROP,
            Reason::TinyFragment,
        ),
        ("route of type 0", v6(43, &route(0, 1, AWAY, TO), AWAY), DROP, Reason::SourceRouted),
        ("route of segments", v6(43, &route(4, 1, TO, AWAY), AWAY), DROP, Reason::SourceRouted),
        ("route at its end", v6(43, &route(0, 0, AWAY, AWAY), TO), DROP, Reason::DownDropped),
        ("route elsewhere", v6(43, &route(0, 1, AWAY, AWAY), AWAY), NEXT, Reason::UnsurePassed),
        ("mapped IPv4", v6(6, &ssh, "::ffff:10.2.0.9"), NEXT, Reason::NoRule),
        ("UDP", v6(17, &[0; 8], TO), NEXT, Reason::NotTcp),
        ("nothing follows", v6(59, &[], TO), NEXT, Reason::NotTcp),
    ]
}

fn link_frames() -> Vec<Case> {
    let pair = [CLIENT, SERVER].concat();
    let packet = |to| ipv4(CLIENT, to, 0x4000, 0, &tcp(&pair, 22, 0x02, 5, &[]));
    let plain = packet(SERVER);
    let tagged = |kind: [u8; 2], tags: &[u16]| {
        ethernet(tags, 0x0800, &plain).tap(|frame| frame[12..14].copy_from_slice(&kind))
    };
    let snap = |header: &[u8], packet: &[u8]| {
        let body = [header, packet].concat();
        ethernet(&[], u16::try_from(body.len()).unwrap(), &body)
    };
    const SNAP_IPV4: &[u8] = &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
    vec![
        ("802.1Q", ethernet(&[100], 0x0800, &plain), DROP, Reason::DownDropped),
        ("802.1Q priority alone", ethernet(&[7 << 13], 0x0800, &plain), DROP, Reason::DownDropped),
        ("QinQ", ethernet(&[200, 100], 0x0800, &plain), DROP, Reason::DownDropped),
        ("802.1ad", tagged([0x88, 0xa8], &[200, 100]), DROP, Reason::DownDropped),
        ("QinQ of old", tagged([0x91, 0], &[200, 100]), DROP, Reason::DownDropped),
        ("SNAP", snap(SNAP_IPV4, &plain), DROP, Reason::Snap),
        ("SNAP to elsewhere", snap(SNAP_IPV4, &packet(ELSEWHERE)), NEXT, Reason::UnsurePassed),
        ("spanning tree", snap(&[0x42, 0x42, 3, 0, 0, 0, 0, 0], &[0; 30]), NEXT, Reason::NotIp),
        ("ARP", ethernet(&[], 0x0806, &[0; 28]), NEXT, Reason::NotIp),
        ("PPPoE", ethernet(&[], 0x8864, &plain), NEXT, Reason::NotIp),
    ]
}

/// In router mode a frame for another device of the link is none of ours: that device gets it too.
#[test]
fn frames_for_others_pass_a_router() {
    let programs = Programs::load(&[ssh_rule(OnDown::Drop)]);
    let pair = [CLIENT, SERVER].concat();
    let syn = v4_frame(SERVER, 0x4000, 0, &tcp(&pair, 22, 0x02, 5, &[])).tap(|frame| frame[0] = 2);
    for program in ["classify", "return_path"] {
        let outcome = programs.run(program, &syn);
        assert_eq!((outcome.returned, outcome.reasons), (NEXT, vec![Reason::OtherHost]));
    }
    assert_eq!(programs.run("classify_port", &syn).reasons, [Reason::DownDropped]);
}

/// Changes a value in place, inside an expression.
trait Tap: Sized {
    fn tap(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }
}

impl Tap for Vec<u8> {}

#[test]
fn frames_cut_at_every_length_pass_unchanged() {
    let programs = Programs::load(&[ssh_rule(OnDown::Drop)]);
    let v6 = Connection {
        source: "fd00:1::2".parse().unwrap(),
        destination: "fd00:2::9".parse().unwrap(),
        port: 22,
        ifindex: IFINDEX,
        vlan: 100,
    };
    let v4 = Connection { source: CLIENT.into(), destination: SERVER.into(), ..v6 };
    for (name, connection, header_bytes) in [("IPv4", v4, 18 + 20 + 20), ("IPv6", v6, 18 + 40 + 20)]
    {
        let frame = syn(&connection);
        for length in FRAME_BYTES_MIN..header_bytes {
            let outcome = programs.run("classify", &frame[..length]);
            assert_eq!(outcome.returned, NEXT, "{name} {length}");
            assert_eq!(outcome.reasons, [Reason::Malformed], "{name} {length}");
            assert_eq!(outcome.frame, frame[..length], "{name} {length}");
        }
        assert_eq!(programs.run("classify", &frame).returned, DROP, "{name}");
    }
}

#[test]
fn reset_answers_the_syn() {
    let programs = Programs::load(&[ssh_rule(OnDown::Reset)]);
    for (name, options, payload) in
        [("plain", 0, &b""[..]), ("options", 10, b""), ("data in the SYN", 3, b"early")]
    {
        let pair = [CLIENT, SERVER].concat();
        let frame = v4_frame(SERVER, 0x4000, 0, &tcp(&pair, 22, 0x02, options, payload));
        let outcome = programs.run("classify", &frame);
        assert_eq!(outcome.returned, SEND_BACK, "{name}");
        assert_eq!(outcome.reasons, [Reason::DownReset], "{name}");
        let reset = outcome.frame;
        assert_eq!(reset.len(), frame.len(), "{name}");
        assert_eq!(reset[..12], [&frame[6..12], &frame[..6]].concat(), "{name}: link addresses");
        assert_eq!(reset[26..34], [SERVER, CLIENT].concat(), "{name}: addresses");
        assert_eq!(checksum(&reset[14..34]), 0, "{name}: IPv4 checksum");
        assert_eq!(reset[34..38], [0, 22, 0x9c, 0x40], "{name}: ports");
        assert_eq!(reset[38..42], [0; 4], "{name}: sequence number");
        let acknowledged = 0x0102_03ff + 1 + u32::try_from(payload.len()).unwrap();
        assert_eq!(reset[42..46], acknowledged.to_be_bytes(), "{name}: acknowledgement");
        assert_eq!(reset[47], 0x14, "{name}: flags");
        assert_eq!(
            reset[54..54 + usize::from(options) * 4],
            vec![1; usize::from(options) * 4],
            "{name}: options"
        );
        let addresses = [SERVER, CLIENT].concat();
        assert_eq!(tcp_checksum(&addresses, &reset[34..]), 0, "{name}: TCP checksum");
    }
}

#[test]
fn port_hands_a_steered_frame_up_to_the_bridge() {
    let mut programs = Programs::load(&[ssh_rule(OnDown::Drop)]);
    let address = [2, 0, 0, 0, 0, 0xaa];
    let mut ports: HashMap<_, u32, Port> =
        programs.ebpf.take_map("PORTS").unwrap().try_into().unwrap();
    ports.insert(IFINDEX, Port { address, reserved: [0; 2] }, 0).unwrap();
    let _listener = programs.put_proxy_up();
    let pair = [CLIENT, SERVER].concat();
    let frame = v4_frame(SERVER, 0x4000, 0, &tcp(&pair, 22, 0x02, 5, &[]));
    let outcome = programs.run("classify_port", &frame);
    assert_eq!((outcome.returned, outcome.reasons), (PASS, vec![Reason::Redirected]));
    assert_eq!(outcome.frame, [&address, &frame[6..]].concat());
    let other = v4_frame(SERVER, 0x4000, 0, &tcp(&pair, 80, 0x02, 5, &[]));
    assert_eq!(programs.run("classify_port", &other).frame, other);
}

/// A router's word that a packet was too big goes to the host when the proxy sent that packet.
#[test]
fn packets_too_big_are_told_to_their_connection() {
    let programs = Programs::load(&[]);
    for (family, marked) in [
        (AddressFamily::V4, 2),
        (AddressFamily::V6, 2),
        (AddressFamily::V4, 4),
        (AddressFamily::V6, 4),
    ] {
        let listener = transparent_listener(family, 0, marked, 16).unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (_proxy, client) = listener.accept().unwrap();
        let own = listener.local_addr().unwrap();
        for (port, of_ours) in [(client.port(), marked == 2), (1, false)] {
            let frame = too_big(own, SocketAddr::new(client.ip(), port));
            let expected = if of_ours { Reason::TooBig } else { Reason::NotTcp };
            for program in ["classify", "return_path"] {
                let outcome = programs.run(program, &frame);
                let returned = if of_ours { PASS } else { NEXT };
                assert_eq!(outcome.returned, returned, "{family:?} {marked} {port}");
                assert_eq!(outcome.reasons, [expected], "{family:?} {marked} {port}");
                assert_eq!(outcome.frame, frame, "{family:?} {marked} {port}");
            }
        }
    }
}

/// An ICMP error about a segment from `from` to `to`; its checksum is the host's to check.
fn too_big(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
    let ports = [from.port().to_be_bytes(), to.port().to_be_bytes(), [0; 2], [0; 2]].concat();
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let cause = ipv4(from.octets(), to.octets(), 0x4000, 0, &ports);
            let body = [&[3, 4, 0, 0, 0, 0, 5, 0], cause.as_slice()].concat();
            v4_frame(from.octets(), 0, 0, &body).tap(|frame| frame[23] = 1)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let cause = ipv6(from.octets(), to.octets(), 6, &ports);
            let body = [&[2, 0, 0, 0, 0, 0, 5, 0], cause.as_slice()].concat();
            ethernet(&[], 0x86dd, &ipv6(to.octets(), from.octets(), 58, &body))
        }
        _ => panic!("addresses of two IP versions: {from} {to}"),
    }
}

/// Addresses and ports of a small space, so that rules and connections meet often.
fn connections() -> impl Strategy<Value = Connection> {
    (any::<bool>(), 0_u8..4, 0_u8..4, 20_u16..26, 0_u16..3).prop_map(
        |(v4, from, to, port, vlan)| {
            let address = |net: u8, host: u8| match v4 {
                true => IpAddr::from([10, net, 0, host]),
                false => IpAddr::from([0xfd00, u16::from(net), 0, 0, 0, 0, 0, u16::from(host)]),
            };
            Connection {
                source: address(1, from),
                destination: address(2, to),
                port,
                ifindex: IFINDEX,
                vlan,
            }
        },
    )
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let rule = (
        prop::collection::vec((connections(), 0_u8..=128), 0..3),
        prop::collection::vec((20_u16..26, 0_u16..3), 0..3),
        prop::collection::vec(0_u16..3, 0..2),
        prop::option::of(1_u32..3),
        0_u8..3,
        0_u8..3,
        any::<bool>(),
    );
    let rule =
        rule.prop_map(|(prefixes, ports, vlans, interface, action, on_down, spares_host)| {
            let prefix = |address: IpAddr, length: u8| {
                Prefix::new(address, if address.is_ipv4() { length / 4 } else { length }).unwrap()
            };
            Rule {
                sources: prefixes.iter().map(|(one, length)| prefix(one.source, *length)).collect(),
                destinations: prefixes
                    .iter()
                    .map(|(one, _)| prefix(one.destination, 128))
                    .collect(),
                ports: ports.iter().map(|(a, n)| PortRange::new(*a, a + n).unwrap()).collect(),
                interfaces: interface.into_iter().collect(),
                vlans,
                action: Action::from_u8(action).unwrap(),
                on_down: OnDown::from_u8(on_down).unwrap(),
                policy: 0,
                spares_host,
            }
        });
    prop::collection::vec(rule, 0..12).prop_map(|mut rules| {
        for (policy, rule) in (0..).zip(&mut rules) {
            rule.policy = policy;
        }
        rules
    })
}

#[test]
fn programs_answer_as_the_reference() {
    let strategy = (rules(), prop::collection::vec(connections(), 1..40));
    let config = Config { cases: 24, failure_persistence: None, ..Config::default() };
    TestRunner::new(config)
        .run(&strategy, |(rules, connections)| {
            let host = [connections[0].destination];
            ROOMS.iter().try_for_each(|room| programs_match(*room, &rules, &host, &connections))
        })
        .unwrap();
}

fn programs_match(
    room: Room,
    rules: &[Rule],
    host: &[IpAddr],
    connections: &[Connection],
) -> Result<(), TestCaseError> {
    let programs = Programs::load_within(room, rules, host, &["classify"]);
    for connection in connections {
        let mut expected = programs.policy_counts(rules.len());
        let verdict = decide(rules, host, connection);
        let (returned, reason) = match verdict.map(|verdict| (verdict.action, verdict.on_down)) {
            None => (NEXT, Reason::NoRule),
            Some((Action::Forward, _)) => (NEXT, Reason::Forwarded),
            Some((Action::Drop, _)) => (DROP, Reason::Dropped),
            Some((Action::Redirect, OnDown::Forward)) => (NEXT, Reason::DownForwarded),
            Some((Action::Redirect, OnDown::Drop)) => (DROP, Reason::DownDropped),
            Some((Action::Redirect, OnDown::Reset)) => (SEND_BACK, Reason::DownReset),
        };
        if let Some(verdict) = verdict {
            let counts = &mut expected[usize::from(verdict.policy)];
            match verdict.action {
                Action::Forward => counts.forwarded += 1,
                Action::Drop => counts.dropped += 1,
                Action::Redirect => counts.down += 1,
            }
        }
        let outcome = programs.run("classify", &syn(connection));
        prop_assert_eq!(outcome.returned, returned, "{:?}", connection);
        prop_assert_eq!(outcome.reasons, vec![reason], "{:?}", connection);
        prop_assert_eq!(programs.policy_counts(rules.len()), expected, "{:?}", connection);
    }
    Ok(())
}
