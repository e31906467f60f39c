//! The fast paths: what no policy names is forwarded around the kernel's stack as the stack would
//! forward it, and what is not plain by the stack itself; what a policy names meets the proxy.

use std::io::Read as _;
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use aya::programs::{Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use e2e::capture::Capture;
use e2e::netns::Namespace;
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::{Stopwatch, wait_until};
use e2e::world::{CLIENT_INTERFACE, Family, Host, Mode, PEER_INTERFACE, SERVER_INTERFACE, World};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, SockaddrIn6, sendto,
    socket,
};
use proxyd::steering::{FastPath, HeldPairs, OBJECT, Steering, SteeringSetup, status};
use steering_common::stats::Reason;

use crate::stage::{Auditor, LIMIT, OPEN, Records, checksum, connection, connection_on, library};
use crate::steering_setup::{NOBODY, on_gateway, setup};
use crate::unmatched::{everything_else_passes, tcp};

/// A port that no policy names.
const OTHER_PORT: u16 = 7000;

/// A connection that has come about by then did so without its SYN being sent again, which hosts do
/// after a second.
const AT_ONCE: Duration = Duration::from_millis(900);

/// A connection that has not come about by then is taken for dropped.
const DROPPED_AFTER: Duration = Duration::from_millis(300);

/// The MTU behind the gateway where it is smaller: the least of IPv6.
const SMALL_MTU: usize = 1280;

const TC: &str = "fast_path = \"tc\"";
/// Interfaces of namespaces are not fit for it; [`Native`] makes them so.
const XDP: &str = "fast_path = \"xdp\"\nfast_path_unchecked = true";

/// Makes the client and the server send and receive as network cards do: checksums that are
/// complete, segments that nobody joins, and interfaces that take frames from the driver.
struct Native {
    _programs: Vec<Ebpf>,
}

impl Native {
    fn of(world: &World) -> Self {
        Self { _programs: [&world.client, &world.server].map(Self::peer).into() }
    }

    /// Veth polls, and so takes frames, while there is a program, which here passes everything: no
    /// interface is the gateway's.
    fn peer(namespace: &Namespace) -> Ebpf {
        let features = ["-K", PEER_INTERFACE, "tx", "off", "gro", "off", "tso", "off"];
        output(namespace.command("ethtool").args(features)).unwrap();
        let mut programs = EbpfLoader::new().load(OBJECT).unwrap();
        let program: &mut Xdp = programs.program_mut("fast").unwrap().try_into().unwrap();
        program.load().unwrap();
        namespace.inside(|| program.attach(PEER_INTERFACE, XdpMode::Driver)).unwrap().unwrap();
        programs
    }
}

/// A gateway with a policy for SSH and a fast path.
fn policies(world: &World) -> String {
    let auditor = Auditor::new(world, "auditor");
    connection(world, "open", OPEN) + &library(&auditor, &[])
}

fn forwarded(world: &World) -> u64 {
    status(&world.pin_directory()).unwrap().count(Reason::FastPath)
}

#[test]
fn everything_else_by_tc() {
    let world = World::router().unwrap();
    everything_else(&world, TC);
}

#[test]
fn everything_else_by_xdp() {
    let world = World::router().unwrap();
    let _native = Native::of(&world);
    everything_else(&world, XDP);
}

fn everything_else(world: &World, steering: &str) {
    let policies = policies(world);
    let settings = Settings { policies: &policies, steering, ..Settings::default() };
    let proxyd = Proxyd::start(world, settings).unwrap();
    everything_else_passes(world, &proxyd);
    let status = status(&world.pin_directory()).unwrap();
    let fast = status.count(Reason::FastPath);
    // A few packets of each connection wait for neighbours to be found.
    let by_tcp = status.count(Reason::NotOurs);
    assert!(fast * 10 > by_tcp * 9, "{fast} of {by_tcp} packets took the fast path");
    assert_eq!(status.count(Reason::FastPathFailed), 0);
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It reaches the server as a router passes it on.
    Arrives,
    /// The client is told that its hop count ran out.
    TimeExceeded,
    /// The client is told that it does not fit.
    TooBig,
    /// Nobody gets anything.
    Vanishes,
}

/// Name, packet, fate, and whether it takes the fast path by tc and by xdp.
type Case = (&'static str, Vec<u8>, Fate, [bool; 2]);

#[test]
fn each_packet_by_tc() {
    let world = World::router().unwrap();
    each_packet(&world, TC, 0);
}

#[test]
fn each_packet_by_xdp() {
    let world = World::router().unwrap();
    let _native = Native::of(&world);
    each_packet(&world, XDP, 1);
}

fn each_packet(world: &World, steering: &str, path: usize) {
    let policies = policies(world);
    let settings = Settings { policies: &policies, steering, ..Settings::default() };
    let _proxyd = Proxyd::start(world, settings).unwrap();
    world.gateway.ip(&format!("link set {SERVER_INTERFACE} mtu {SMALL_MTU}")).unwrap();
    // A neighbour that answers nothing: the server is no router.
    let shown = world.server.ip(&format!("link show {PEER_INTERFACE}")).unwrap();
    let link = shown.split_whitespace().skip_while(|word| *word != "link/ether").nth(1).unwrap();
    for address in [silent(Family::V4), silent(Family::V6)] {
        let neighbour = format!("neigh replace {address} lladdr {link} dev {SERVER_INTERFACE}");
        world.gateway.ip(&neighbour).unwrap();
    }
    for family in Family::ALL {
        let client = world.address(Host::Client, family);
        for (name, packet, fate, fast) in cases(client, family) {
            let name = format!("{family:?} {name}");
            let before = forwarded(world);
            let at_client = Capture::start(&world.client).unwrap();
            let at_server = Capture::start(&world.server).unwrap();
            send(world, &packet);
            let (at_client, at_server) = (at_client.stop().unwrap(), at_server.stop().unwrap());
            let arrived = at_server.iter().filter(|frame| frame[14..] == routed(&packet)[..]);
            let arrived = arrived.count();
            let found = match arrived {
                0 => told(&at_client, family),
                1 => Fate::Arrives,
                more => panic!("{name}: arrived {more} times"),
            };
            assert_eq!(found, fate, "{name}");
            assert_eq!(forwarded(world) - before, u64::from(fast[path]), "{name}: fast path");
        }
    }
}

/// What the gateway tells the client in these frames.
fn told(frames: &[Vec<u8>], family: Family) -> Fate {
    let icmp = frames.iter().filter_map(|frame| match family {
        Family::V4 if frame[12..14] == [8, 0] && frame[23] == 1 => Some([frame[34], frame[35]]),
        Family::V6 if frame[12..14] == [0x86, 0xdd] && frame[20] == 58 => {
            Some([frame[54], frame[55]])
        }
        Family::V4 | Family::V6 => None,
    });
    for message in icmp {
        match (family, message) {
            (Family::V4, [11, 0]) | (Family::V6, [3, 0]) => return Fate::TimeExceeded,
            (Family::V4, [3, 4]) | (Family::V6, [2, 0]) => return Fate::TooBig,
            _ => {}
        }
    }
    Fate::Vanishes
}

/// An address behind the gateway whose owner says nothing.
fn silent(family: Family) -> IpAddr {
    match family {
        Family::V4 => "10.77.2.99".parse().unwrap(),
        Family::V6 => "fd77:2::99".parse().unwrap(),
    }
}

const ACK: u8 = 0x10;
const SYN: u8 = 0x02;
const PROTOCOL_TCP: u8 = 6;
const PROTOCOL_UDP: u8 = 17;
const NEXT_DESTINATION: u8 = 60;
const NEXT_FRAGMENT: u8 = 44;

/// The fast paths that a packet takes.
const NEITHER: [bool; 2] = [false, false];
const BOTH: [bool; 2] = [true, true];

fn cases(client: IpAddr, family: Family) -> Vec<Case> {
    let plain = |flags, payload| Packet::new(client, PROTOCOL_TCP, tcp_segment(flags, payload));
    let udp = |payload| Packet::new(client, PROTOCOL_UDP, udp_datagram(payload));
    let fits = fitting(family);
    let mut cases = vec![
        ("SYN", plain(SYN, 0).bytes(), Fate::Arrives, BOTH),
        ("ACK", plain(ACK, 0).bytes(), Fate::Arrives, BOTH),
        ("ACK with data", plain(ACK, 700).bytes(), Fate::Arrives, BOTH),
        ("UDP", udp(100).bytes(), Fate::Arrives, BOTH),
        ("empty UDP", udp(0).bytes(), Fate::Arrives, BOTH),
        ("two hops left", plain(ACK, 10).hops(2).bytes(), Fate::Arrives, BOTH),
        ("one hop left", plain(ACK, 10).hops(1).bytes(), Fate::TimeExceeded, NEITHER),
        ("UDP with one hop left", udp(10).hops(1).bytes(), Fate::TimeExceeded, NEITHER),
        ("as long as fits", plain(ACK, fits).bytes(), Fate::Arrives, BOTH),
        ("a byte too long", plain(ACK, fits + 1).bytes(), Fate::TooBig, NEITHER),
        ("UDP a byte too long", udp(fits + 13).bytes(), Fate::TooBig, NEITHER),
    ];
    cases.extend(match family {
        Family::V4 => cases_v4(client),
        Family::V6 => cases_v6(client),
    });
    cases
}

fn cases_v4(client: IpAddr) -> Vec<Case> {
    let tcp = |payload| Packet::new(client, PROTOCOL_TCP, tcp_segment(ACK, payload));
    let udp = |payload| Packet::new(client, PROTOCOL_UDP, udp_datagram(payload));
    let mut cases = vec![
        ("options", tcp(9).options().bytes(), Fate::Arrives, NEITHER),
        ("first fragment", tcp(12).fragment(0x2000).bytes(), Fate::Arrives, NEITHER),
        ("later fragment", tcp(12).fragment(0x0009).bytes(), Fate::Arrives, NEITHER),
        ("first fragment of UDP", udp(12).fragment(0x2000).bytes(), Fate::Arrives, NEITHER),
        ("later fragment of UDP", udp(12).fragment(0x0003).bytes(), Fate::Arrives, NEITHER),
    ];
    // Checksums from one carry to the next, and those where there is one.
    let with_id = |id| tcp(3).id(id).bytes();
    let spread = (0..=u16::MAX).step_by(0x3fff).map(with_id);
    cases.extend(spread.map(|packet| ("a checksum", packet, Fate::Arrives, BOTH)));
    let carry = (0..=u16::MAX).map(with_id).filter(|packet| packet[10] == 0xff).take(3);
    cases.extend(carry.map(|packet| ("a checksum with carry", packet, Fate::Arrives, BOTH)));
    for (name, source) in [
        ("from loopback", "127.0.0.1"),
        ("from a group", "224.0.0.5"),
        ("from all", "255.255.255.255"),
    ] {
        let source = source.parse().unwrap();
        let packet = Packet::new(source, PROTOCOL_TCP, tcp_segment(ACK, 1)).bytes();
        cases.push((name, packet, Fate::Vanishes, NEITHER));
        let packet = Packet::new(source, PROTOCOL_UDP, udp_datagram(1)).bytes();
        cases.push((name, packet, Fate::Vanishes, NEITHER));
    }
    cases
}

fn cases_v6(client: IpAddr) -> Vec<Case> {
    let (options, fragment) =
        ([PROTOCOL_TCP, 0, 1, 4, 0, 0, 0, 0], [PROTOCOL_TCP, 0, 0, 1, 0, 0, 0, 9]);
    let behind = |header: [u8; 8]| [&header[..], &tcp_segment(ACK, 16)].concat();
    let options = Packet::new(client, NEXT_DESTINATION, behind(options));
    let fragment = Packet::new(client, NEXT_FRAGMENT, behind(fragment));
    let loopback = Packet::new("::1".parse().unwrap(), PROTOCOL_TCP, tcp_segment(ACK, 1));
    vec![
        ("options", options.bytes(), Fate::Arrives, NEITHER),
        ("first fragment", fragment.bytes(), Fate::Arrives, NEITHER),
        ("from loopback", loopback.bytes(), Fate::Vanishes, NEITHER),
    ]
}

/// Bytes after a TCP header that fit behind the gateway.
const fn fitting(family: Family) -> usize {
    match family {
        Family::V4 => SMALL_MTU - 20 - 20,
        Family::V6 => SMALL_MTU - 40 - 20,
    }
}

fn tcp_segment(flags: u8, payload: usize) -> Vec<u8> {
    let [p0, p1] = OTHER_PORT.to_be_bytes();
    let mut segment =
        vec![0x9c, 0x40, p0, p1, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, flags, 1, 0, 0, 0, 0, 0];
    segment.extend(vec![7; payload]);
    segment
}

fn udp_datagram(payload: usize) -> Vec<u8> {
    let [p0, p1] = OTHER_PORT.to_be_bytes();
    let [l0, l1] = u16::try_from(8 + payload).unwrap().to_be_bytes();
    // Without a checksum, which routers do not look at.
    let mut datagram = vec![0x9c, 0x40, p0, p1, l0, l1, 0, 0];
    datagram.extend(vec![7; payload]);
    datagram
}

/// A packet to [`silent`].
struct Packet {
    source: IpAddr,
    protocol: u8,
    body: Vec<u8>,
    hops: u8,
    id: u16,
    fragment: u16,
    options: Vec<u8>,
}

impl Packet {
    const fn new(source: IpAddr, protocol: u8, body: Vec<u8>) -> Self {
        // "Don't fragment" (RFC 791).
        Self { source, protocol, body, hops: 64, id: 1, fragment: 0x4000, options: Vec::new() }
    }

    fn hops(self, hops: u8) -> Self {
        Self { hops, ..self }
    }

    fn id(self, id: u16) -> Self {
        Self { id, ..self }
    }

    fn fragment(self, fragment: u16) -> Self {
        Self { fragment, ..self }
    }

    /// Three times "no operation", and the end.
    fn options(self) -> Self {
        Self { options: vec![1, 1, 1, 0], ..self }
    }

    fn bytes(&self) -> Vec<u8> {
        let [protocol, hops] = [self.protocol, self.hops];
        let length = |bytes: usize| u16::try_from(bytes).unwrap().to_be_bytes();
        let mut packet;
        match (self.source, silent_like(self.source)) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header_bytes = 20 + self.options.len();
                packet = vec![0x40 | u8::try_from(header_bytes / 4).unwrap(), 0];
                packet.extend(length(header_bytes + self.body.len()));
                packet.extend(self.id.to_be_bytes());
                packet.extend(self.fragment.to_be_bytes());
                packet.extend([hops, protocol, 0, 0]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
                packet.extend(&self.options);
                let sum = checksum(&packet);
                packet[10..12].copy_from_slice(&sum);
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                packet = vec![0x60, 0, 0, 0];
                packet.extend(length(self.body.len()));
                packet.extend([protocol, hops]);
                packet.extend(source.octets());
                packet.extend(destination.octets());
            }
            _ => panic!("two IP versions"),
        }
        packet.extend(&self.body);
        packet
    }
}

fn silent_like(source: IpAddr) -> IpAddr {
    silent(if source.is_ipv4() { Family::V4 } else { Family::V6 })
}

/// A packet as it is behind a router: one hop less, and the checksum made anew.
fn routed(packet: &[u8]) -> Vec<u8> {
    let mut routed = packet.to_vec();
    if packet[0] >> 4 == 4 {
        routed[8] -= 1;
        let header_bytes = usize::from(packet[0] & 0x0f) * 4;
        routed[10..12].fill(0);
        let sum = checksum(&routed[..header_bytes]);
        routed[10..12].copy_from_slice(&sum);
    } else {
        routed[7] -= 1;
    }
    routed
}

/// Sends a whole packet from the client.
fn send(world: &World, packet: &[u8]) {
    let v4 = packet[0] >> 4 == 4;
    let family = if v4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let sent = world.client.inside(|| {
        let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Raw)?;
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
        match silent(if v4 { Family::V4 } else { Family::V6 }) {
            IpAddr::V4(to) => {
                sendto(fd, packet, &SockaddrIn::from(SocketAddrV4::new(to, 0)), flags)
            }
            IpAddr::V6(to) => {
                let to = SocketAddrV6::new(to, 0, 0, 0);
                sendto(fd, packet, &SockaddrIn6::from(to), flags)
            }
        }
    });
    assert_eq!(sent.unwrap().unwrap(), packet.len());
}

#[test]
fn flows_by_tc() {
    let world = World::router().unwrap();
    flows(&world, TC);
}

#[test]
fn flows_by_xdp() {
    let world = World::router().unwrap();
    let _native = Native::of(&world);
    flows(&world, XDP);
}

/// What a flow needs beyond single packets: neighbours that are not known yet, and a path that is
/// narrower than its ends.
fn flows(world: &World, steering: &str) {
    let policies = policies(world);
    let settings = Settings { policies: &policies, steering, ..Settings::default() };
    let _proxyd = Proxyd::start(world, settings).unwrap();
    for family in Family::ALL {
        let to = SocketAddr::new(world.address(Host::OtherServer, family), OTHER_PORT);
        world.gateway.ip("neigh flush all").unwrap();
        let listener = world.server.inside(|| TcpListener::bind(to)).unwrap().unwrap();
        let clock = Stopwatch::start();
        drop(world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap());
        assert!(clock.elapsed() < AT_ONCE, "{family:?}: the first SYN was lost");
        drop(listener);
        world.gateway.ip("neigh flush all").unwrap();
        one_datagram(world, to);
        let before = forwarded(world);
        tcp(world, to);
        assert!(forwarded(world) > before, "{family:?}");
    }
    for family in Family::ALL {
        let server = world.address(Host::OtherServer, family);
        let narrow = format!("route add {server} dev {SERVER_INTERFACE} mtu lock {SMALL_MTU}");
        world.gateway.ip(&narrow).unwrap();
        let at_client = Capture::start(&world.client).unwrap();
        tcp(world, SocketAddr::new(server, OTHER_PORT + 1));
        let at_client = at_client.stop().unwrap();
        assert_eq!(told(&at_client, family), Fate::TooBig, "{family:?}: the narrow path");
    }
}

/// One datagram, which is not sent again.
fn one_datagram(world: &World, to: SocketAddr) {
    let server = world.server.inside(|| UdpSocket::bind(to)).unwrap().unwrap();
    server.set_read_timeout(Some(LIMIT)).unwrap();
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let client = world.client.inside(|| UdpSocket::bind(any)).unwrap().unwrap();
    client.send_to(b"once", to).unwrap();
    let mut buffer = [0; 16];
    let (bytes, _from) = server.recv_from(&mut buffer).unwrap();
    assert_eq!(&buffer[..bytes], b"once", "{to}");
}

#[test]
fn steered_connections_by_tc() {
    let world = World::router().unwrap();
    steered_connections(&world, TC);
}

#[test]
fn steered_connections_by_xdp() {
    let world = World::router().unwrap();
    let _native = Native::of(&world);
    steered_connections(&world, XDP);
}

/// What a policy names meets the proxy, also when the policy is new, and never the server alone.
fn steered_connections(world: &World, steering: &str) {
    let policies = policies(world);
    let settings = Settings { policies: &policies, steering, ..Settings::default() };
    let mut proxyd = Proxyd::start(world, settings).unwrap();
    let _server = Sshd::start(world).unwrap();
    let mut records = Records::new(&proxyd);
    for family in Family::ALL {
        let client = Client::new(world, &format!("alice-{family:?}")).unwrap();
        let call = client.ssh().arg(format!("alice@{}", world.address(Host::Server, family)));
        let run = call.arg("exit 7").reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!(run.code(), 7, "{family:?}: {}", run.stderr);
        assert_eq!(records.next().row.outcome, "completed", "{family:?}");
    }
    // A flow that is forwarded until a policy names it.
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), OTHER_PORT);
    let before = forwarded(world);
    tcp(world, to);
    assert!(forwarded(world) > before);
    let more = connection_on(world, "more", OTHER_PORT, OPEN) + &policies;
    proxyd.configure(Settings { policies: &more, steering, ..Settings::default() }).unwrap();
    proxyd.reload().unwrap().ok().unwrap();
    assert_proxy_answers(world, to);
    // Another daemon exchanges the programs of every hook for its own.
    let before = forwarded(world);
    let _old = proxyd.take_over().unwrap();
    assert_proxy_answers(world, to);
    tcp(world, SocketAddr::new(world.address(Host::OtherServer, Family::V4), OTHER_PORT));
    assert!(forwarded(world) > before);
    // No proxy lives: a SYN is dropped, and all else goes on.
    proxyd.kill().unwrap();
    let pins = world.pin_directory();
    wait_until("the daemon to be taken for dead", LIMIT, || !status(&pins).unwrap().is_alive())
        .unwrap();
    let at_server = Capture::start(&world.server).unwrap();
    for family in Family::ALL {
        let to = SocketAddr::new(world.address(Host::Server, family), 22);
        let connected = world.client.inside(|| TcpStream::connect_timeout(&to, DROPPED_AFTER));
        connected.unwrap().unwrap_err();
        tcp(world, SocketAddr::new(world.address(Host::OtherServer, family), OTHER_PORT));
    }
    let to_policy = |frame: &&Vec<u8>| {
        let port = |at: usize| frame.get(at..at + 2) == Some(&22_u16.to_be_bytes()[..]);
        match frame[12..14] {
            [8, 0] => frame[23] == PROTOCOL_TCP && port(36),
            [0x86, 0xdd] => frame[20] == PROTOCOL_TCP && port(56),
            _ => false,
        }
    };
    let passed = at_server.stop().unwrap();
    assert!(!passed.is_empty());
    assert_eq!(passed.iter().filter(to_policy).count(), 0, "a SYN reached the server");
}

fn assert_proxy_answers(world: &World, to: SocketAddr) {
    let mut stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut said = [0; 26];
    stream.read_exact(&mut said).unwrap();
    assert!(String::from_utf8_lossy(&said).contains("proxyd"), "{said:?}");
}

/// Whether there is a program at the driver of an interface of this namespace.
fn has_fast(world: &World, interface: &str) -> bool {
    world.gateway.ip(&format!("link show {interface}")).unwrap().contains("prog/xdp")
}

#[test]
fn the_program_at_the_driver_comes_and_goes() {
    let world = World::router().unwrap();
    let _native = Native::of(&world);
    let with =
        SteeringSetup { fast_path: FastPath::Xdp, fast_path_unchecked: true, ..setup(&world) };
    on_gateway(&world, async || {
        let start = |setup| Steering::start(setup, &[], NOBODY, HeldPairs::default());
        let mut steering = start(with.clone()).await.unwrap();
        for interface in [CLIENT_INTERFACE, SERVER_INTERFACE] {
            assert!(has_fast(&world, interface), "{interface}");
        }
        // Another interface with the name and the number of one gone.
        let listed = world.gateway.ip(&format!("-o link show {CLIENT_INTERFACE}")).unwrap();
        let index = listed.split(':').next().unwrap();
        world.gateway.ip(&format!("link del {CLIENT_INTERFACE}")).unwrap();
        let again = format!("link add {CLIENT_INTERFACE} index {index} type veth peer name peer0");
        world.gateway.ip(&again).unwrap();
        world.gateway.ip("link set peer0 up").unwrap();
        output(world.gateway.command("ethtool").args(["-K", "peer0", "gro", "on"])).unwrap();
        assert!(!has_fast(&world, CLIENT_INTERFACE));
        steering.reconcile(true).await.unwrap();
        assert!(has_fast(&world, CLIENT_INTERFACE));
        // One that no driver sends for is told of, and steered all the same.
        output(world.gateway.command("ethtool").args(["-K", "peer0", "gro", "off"])).unwrap();
        let error = steering.reconcile(true).await.unwrap_err();
        assert!(error.to_string().contains(CLIENT_INTERFACE), "{error}");
        output(world.gateway.command("ethtool").args(["-K", "peer0", "gro", "on"])).unwrap();
        // A daemon that takes over without a fast path takes it down.
        drop(steering);
        let steering = start(setup(&world)).await.unwrap();
        for interface in [CLIENT_INTERFACE, SERVER_INTERFACE] {
            let gone = || !has_fast(&world, interface);
            wait_until("the program to be gone", LIMIT, gone).unwrap();
        }
        drop(steering);
        let steering = start(with).await.unwrap();
        assert!(has_fast(&world, SERVER_INTERFACE));
        steering.stop().await.unwrap();
        let gone = || !has_fast(&world, SERVER_INTERFACE);
        wait_until("the program to be gone", LIMIT, gone).unwrap();
    });
}

#[test]
fn where_it_cannot_be() {
    let world = World::router().unwrap();
    let policies = policies(&world);
    let start = |steering| {
        let settings = Settings { policies: &policies, steering, ..Settings::default() };
        let started = Proxyd::start(&world, settings).map(drop);
        assert_eq!(world.pins().unwrap(), Vec::<std::path::PathBuf>::new(), "{steering}");
        format!("{:#}", started.unwrap_err())
    };
    let said = start("fast_path = \"xdp\"");
    assert!(said.contains("interface lan0 cannot have steering.fast_path"), "{said}");
    assert!(said.contains("it needs a network card"), "{said}");
    // The other end does not take frames from a driver.
    let said = start(XDP);
    assert!(said.contains("does not send frames that are redirected"), "{said}");
    world.gateway.set(&format!("ipv4/conf/{SERVER_INTERFACE}/rp_filter"), "1").unwrap();
    for steering in [TC, XDP] {
        let said = start(steering);
        assert!(said.contains("ipv4/conf/wan0/rp_filter is 1"), "{said}");
    }
    world.gateway.set(&format!("ipv4/conf/{SERVER_INTERFACE}/rp_filter"), "0").unwrap();
    world.gateway.set("ipv4/conf/all/rp_filter", "1").unwrap();
    let said = start(TC);
    assert!(said.contains("ipv4/conf/all/rp_filter is 1"), "{said}");
}

#[test]
fn never_on_a_bridge() {
    let world = World::new(Mode::Bridge).unwrap();
    let policies = policies(&world);
    for steering in [TC, XDP] {
        let settings = Settings { policies: &policies, steering, ..Settings::default() };
        let proxyd = Proxyd::new(&world, settings).unwrap();
        let checked = proxyd.command("check", &[&proxyd.config()]).unwrap();
        assert_ne!(checked.code(), 0, "{steering}");
        let said = checked.text() + &checked.stderr;
        assert!(said.contains("steering.fast_path: is for router mode"), "{said}");
    }
}
