//! What no policy names passes at packet level: every frame, and every byte of it but those that
//! routing changes.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread;

use e2e::capture::Capture;
use e2e::peer::sshd::Sshd;
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, Mode, World};

use crate::stage::{Auditor, LIMIT, OPEN, Records, checksum, connection, library, pattern};

/// A port that no policy names.
const OTHER_PORT: u16 = 7000;

/// The port that the policy names, for TCP to the server.
const POLICY_PORT: u16 = 22;

/// Bytes that a TCP flow carries each way: enough for segments of every size.
const FLOW_BYTES: usize = 200_000;

/// Bytes of an Ethernet header: two addresses and the type.
const ETHERNET_BYTES: usize = 14;

const ARP: u16 = 0x0806;
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;

#[test]
fn through_a_router() {
    everything_else(Mode::Router);
}

#[test]
fn through_a_bridge() {
    everything_else(Mode::Bridge);
}

fn everything_else(mode: Mode) {
    let world = World::new(mode).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    everything_else_passes(&world, &proxyd);
}

/// Sends all kinds of traffic that the policy "open" does not name, and compares every frame.
pub(crate) fn everything_else_passes(world: &World, proxyd: &Proxyd<'_>) {
    let mode = world.mode();
    let _server = Sshd::start(world).unwrap();
    // Whoever wants to talk has to ask for addresses first.
    for namespace in [&world.client, &world.gateway, &world.server] {
        namespace.ip("neigh flush all").unwrap();
    }
    let at_client = Capture::start(&world.client).unwrap();
    let at_server = Capture::start(&world.server).unwrap();
    for family in Family::ALL {
        traffic(world, family);
    }
    let (at_client, at_server) = (at_client.stop().unwrap(), at_server.stop().unwrap());
    let peers = Peers::of(world);
    for (name, is_of_kind) in KINDS {
        for (from, to) in [(&peers.client, &peers.server), (&peers.server, &peers.client)] {
            let select = |frames: &[Vec<u8>]| -> Vec<Vec<u8>> {
                let sent = |frame: &&Vec<u8>| passes(frame, from, to) && is_of_kind(frame);
                frames.iter().filter(sent).cloned().collect()
            };
            let (client, server) = (select(&at_client), select(&at_server));
            let (sent, received) = match from.is_client {
                true => (client, server),
                false => (server, client),
            };
            let is_local = mode == Mode::Router && matches!(*name, "ARP" | "neighbour discovery");
            if is_local {
                // A router asks for itself.
                continue;
            }
            assert!(!sent.is_empty(), "{mode:?}: no {name} was sent");
            let mut expected: Vec<_> = sent.iter().map(|frame| after(mode, frame)).collect();
            let mut received: Vec<_> =
                received.iter().map(|frame| without_link(mode, frame)).collect();
            // Two processors that send at the same time are captured in either order.
            expected.sort();
            received.sort();
            assert_eq!(expected.len(), received.len(), "{mode:?} {name}: count of frames");
            assert!(expected == received, "{mode:?} {name}: bytes were changed");
        }
    }
    neighbours_are_real(world, mode);
    assert_eq!(Records::new(proxyd).all(), Vec::new(), "something was taken for a session");
    assert_eq!(steered(proxyd), Vec::<String>::new());
    // The same look sees what is steered.
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), POLICY_PORT);
    drop(world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap());
    assert_eq!(steered(proxyd), ["1", "0", "0", "0", "0"]);
}

/// The counters of the policy: connections redirected, out of pace, forwarded, dropped, met by no
/// proxy; empty where nothing was counted.
fn steered(proxyd: &Proxyd<'_>) -> Vec<String> {
    let config = proxyd.config();
    let status = proxyd.command("steering status --config", &[&config]).unwrap().ok().unwrap();
    let text = status.text();
    let line = text.lines().find(|line| line.starts_with("open")).unwrap_or_default();
    line.split_whitespace().skip(1).map(str::to_owned).collect()
}

/// All that passes between hosts, as far as no policy names it.
fn traffic(world: &World, family: Family) {
    let (server, other) =
        (world.address(Host::Server, family), world.address(Host::OtherServer, family));
    // Another port of the same host, and the same port of another host.
    tcp(world, SocketAddr::new(server, OTHER_PORT));
    banner(world, SocketAddr::new(other, POLICY_PORT));
    // The very port of the policy, but not by TCP.
    udp(world, SocketAddr::new(server, POLICY_PORT));
    udp(world, SocketAddr::new(server, OTHER_PORT));
    for size in ["56", "1400", "4000"] {
        let to = server.to_string();
        output(world.client.command("ping").args(["-c", "3", "-i", "0.01", "-s", size, &to]))
            .unwrap();
    }
}

/// A flow that carries data both ways, and is closed by both.
pub(crate) fn tcp(world: &World, to: SocketAddr) {
    let listener = world.server.inside(|| TcpListener::bind(to)).unwrap().unwrap();
    let sent = pattern(FLOW_BYTES);
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _peer) = listener.accept().unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            stream.write_all(&all).unwrap();
        });
        let mut stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(&sent).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        back
    });
    assert!(sent == received, "{to}");
}

/// What the SSH server says by itself, on an address that no policy names.
fn banner(world: &World, to: SocketAddr) {
    let mut stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut said = [0; 21];
    stream.read_exact(&mut said).unwrap();
    assert!(said.starts_with(b"SSH-2.0-OpenSSH_"), "{said:?}");
    // The gateway calls itself otherwise.
    assert!(!String::from_utf8_lossy(&said).contains("proxyd"));
}

/// A few datagrams there and back.
fn udp(world: &World, to: SocketAddr) {
    let unspecified: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let any = SocketAddr::new(unspecified, 0);
    let server = world.server.inside(|| UdpSocket::bind(to)).unwrap().unwrap();
    let client = world.client.inside(|| UdpSocket::bind(any)).unwrap().unwrap();
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(LIMIT)).unwrap();
    }
    let mut buffer = [0; 2048];
    for size in [0, 1, 1200] {
        let datagram = vec![0x5a; size];
        client.send_to(&datagram, to).unwrap();
        let (bytes, from) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(bytes, size);
        server.send_to(&buffer[..bytes], from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (size, to));
    }
}

/// One side of the wire.
struct Side {
    is_client: bool,
    hardware: Vec<u8>,
    addresses: Vec<IpAddr>,
}

struct Peers {
    client: Side,
    server: Side,
}

impl Peers {
    fn of(world: &World) -> Self {
        let addresses = |hosts: &[Host]| {
            let of = |host: &Host| Family::ALL.map(|family| world.address(*host, family));
            hosts.iter().flat_map(of).collect()
        };
        let client = Side {
            is_client: true,
            hardware: hardware(&world.client.ip("link show eth0").unwrap()),
            addresses: addresses(&[Host::Client]),
        };
        let server = Side {
            is_client: false,
            hardware: hardware(&world.server.ip("link show eth0").unwrap()),
            addresses: addresses(&[Host::Server, Host::OtherServer]),
        };
        Self { client, server }
    }
}

/// The address that `ip link show` prints.
fn hardware(shown: &str) -> Vec<u8> {
    let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
    let address = words.nth(1).unwrap();
    address.split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

type Kind = (&'static str, fn(&[u8]) -> bool);

const KINDS: &[Kind] = &[
    ("TCP over IPv4", |frame| kind(frame) == IPV4 && frame[23] == 6),
    ("UDP over IPv4", |frame| kind(frame) == IPV4 && frame[23] == 17),
    ("ICMP", |frame| kind(frame) == IPV4 && frame[23] == 1),
    ("TCP over IPv6", |frame| kind(frame) == IPV6 && frame[20] == 6),
    ("UDP over IPv6", |frame| kind(frame) == IPV6 && frame[20] == 17),
    ("ICMPv6 echo", |frame| {
        // The long ones are fragments.
        let whole = frame[20] == 58 && matches!(frame[54], 128 | 129);
        kind(frame) == IPV6 && (whole || frame[20] == 44)
    }),
    ("ARP", |frame| kind(frame) == ARP),
    ("neighbour discovery", |frame| {
        kind(frame) == IPV6 && frame[20] == 58 && matches!(frame[54], 135 | 136)
    }),
];

/// The Ethernet type.
fn kind(frame: &[u8]) -> u16 {
    u16::from_be_bytes([frame[12], frame[13]])
}

/// Whether a frame goes from one side to the other.
fn passes(frame: &[u8], from: &Side, to: &Side) -> bool {
    let between = |source: IpAddr, destination: IpAddr| {
        let multicast = destination.is_multicast() && kind(frame) == IPV6;
        let own = from.addresses.contains(&source) || is_link_local(source, frame, from);
        own && (to.addresses.contains(&destination) || multicast)
    };
    let v4 = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&frame[at..at + 4]).unwrap());
    let v6 = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    match kind(frame) {
        IPV4 => between(v4(26), v4(30)),
        IPV6 => between(v6(22), v6(38)),
        // Sender and target of the question or the answer.
        ARP => between(v4(28), v4(38)),
        _ => false,
    }
}

/// Hosts answer neighbours from addresses of the link too.
fn is_link_local(source: IpAddr, frame: &[u8], from: &Side) -> bool {
    let link = matches!(source, IpAddr::V6(v6) if v6.is_unicast_link_local());
    link && frame[6..12] == from.hardware[..]
}

/// What a frame has to look like on the other side.
fn after(mode: Mode, frame: &[u8]) -> Vec<u8> {
    let mut bytes = without_link(mode, frame);
    if mode == Mode::Router {
        match kind(frame) {
            IPV4 => {
                bytes[8] -= 1;
                let header = usize::from(bytes[0] & 0x0f) * 4;
                bytes[10..12].fill(0);
                let sum = checksum(&bytes[..header]);
                bytes[10..12].copy_from_slice(&sum);
            }
            IPV6 => bytes[7] -= 1,
            other => panic!("a frame of type {other:#x} is not routed"),
        }
    }
    bytes
}

/// A router has other Ethernet headers on both sides; a bridge has the same.
fn without_link(mode: Mode, frame: &[u8]) -> Vec<u8> {
    match mode {
        Mode::Router => frame[ETHERNET_BYTES..].to_vec(),
        Mode::Bridge => frame.to_vec(),
    }
}

/// The peers know each other, or the router, by true hardware addresses.
fn neighbours_are_real(world: &World, mode: Mode) {
    for family in Family::ALL {
        let (next_hop, expected) = match mode {
            Mode::Router => (Host::GatewayForClient, world.gateway.ip("link show lan0").unwrap()),
            Mode::Bridge => (Host::Server, world.server.ip("link show eth0").unwrap()),
        };
        let address = world.address(next_hop, family);
        let known = world.client.ip(&format!("neigh show to {address}")).unwrap();
        let known = known.replace("lladdr", "link/ether");
        assert_eq!(hardware(&known), hardware(&expected), "{mode:?} {family:?}");
    }
}
