//! What an attacker would send to get around the proxy, end to end: none of it opens a connection
//! to the server, and the same packets pass where no policy names the server.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;

use e2e::capture::Capture;
use e2e::frame::{
    ACK, DESTINATION, FIN, FRAGMENT, Ipv4, MORE, ROUTING, RST, SERVICE_TAG, SYN, Segment, TAG, TCP,
    checksum, ethernet, ipv6,
};
use e2e::inject::{Injector, hardware_address};
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::seen::Seen;
use e2e::terminal::{Size, Terminal};
use e2e::wait::{wait_for, wait_until};
use e2e::world::{
    BRIDGE, CLIENT_INTERFACE, Family, Host, Mode, PEER_INTERFACE, SERVER_INTERFACE, World,
};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, connect, setsockopt, socket, sockopt,
};
use steering_common::stats::Reason;

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, library};

/// The port of the policy; the real server listens on it at all of its addresses.
const PORT: u16 = sshd::PORT;

/// The client's port of the first case; each case has its own, to be told by.
const FIRST_PORT: u16 = 20_000;

/// The sequence number of a SYN.
const SEQUENCE: u32 = 0x0102_0304;

/// A further address of the server's host, by which packets can be routed to another of them.
const VIA: u8 = 5;

/// An address of the client's subnet that is nobody's: no host resets what is answered to it.
const GHOST: u8 = 66;

#[test]
fn nothing_gets_around_a_router() {
    nothing_gets_around(Mode::Router);
}

#[test]
fn nothing_gets_around_a_bridge() {
    nothing_gets_around(Mode::Bridge);
}

fn nothing_gets_around(mode: Mode) {
    let world = World::new(mode).unwrap();
    make_it_easy(&world);
    let _server = Sshd::start(&world).unwrap();
    let proxyd = start(&world);
    let field = Field::new(&world);
    for family in Family::ALL {
        field.attack(family);
        field.spare_the_others(family);
    }
    assert_eq!(Records::new(&proxyd).all(), Vec::new(), "{mode:?}: something became a session");
    // The proxy serves as before.
    let client = Client::new(&world, "alice").unwrap();
    for family in Family::ALL {
        let call = client.ssh().arg(format!("alice@{}", world.address(Host::Server, family)));
        let run = call.arg("exit 3").reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!(run.code(), 3, "{mode:?} {family:?}: {}", run.stderr);
    }
}

/// A daemon with a policy for the client's whole subnet.
fn start(world: &World) -> Proxyd<'_> {
    let auditor = Auditor::new(world, "auditor");
    let policy = connection(world, "open", OPEN);
    let policy = policy.replace("10.77.1.2/32", "10.77.1.0/24");
    let policy = policy.replace("fd77:1::2/128", "fd77:1::/64");
    let policies = policy + &library(&auditor, &[]);
    Proxyd::start(world, Settings { policies: &policies, ..Settings::default() }).unwrap()
}

/// Lets every host on the way do what an attacker could hope for: follow source routes, and take
/// data in a SYN.
fn make_it_easy(world: &World) {
    let gateway: &[&str] = match world.mode() {
        Mode::Router => &["all", CLIENT_INTERFACE, SERVER_INTERFACE],
        Mode::Bridge => &["all", BRIDGE],
    };
    for (namespace, interfaces) in
        [(&world.gateway, gateway), (&world.server, &["all", PEER_INTERFACE])]
    {
        for interface in interfaces {
            namespace.set(&format!("ipv4/conf/{interface}/accept_source_route"), "1").unwrap();
            namespace.set(&format!("ipv6/conf/{interface}/seg6_enabled"), "1").unwrap();
        }
    }
    for family in Family::ALL {
        let (address, bits) = (last_octet(world.address(Host::Server, family), VIA), bits(family));
        let flags = if family == Family::V6 { "nodad" } else { "" };
        let add = format!("addr add {address}/{bits} dev {PEER_INTERFACE} {flags}");
        world.server.ip(&add).unwrap();
    }
    // A client sends data without a cookie (0x1, 0x4), servers take it without one (0x2, 0x200) at
    // every listener (0x400); `ip-sysctl` in the kernel's documentation.
    for (namespace, value) in
        [(&world.client, "5"), (&world.server, "1538"), (&world.gateway, "1538")]
    {
        namespace.set("ipv4/tcp_fastopen", value).unwrap();
    }
}

/// Length of the hosts' prefixes.
const fn bits(family: Family) -> u8 {
    match family {
        Family::V4 => 24,
        Family::V6 => 64,
    }
}

/// The address that differs from `address` in its last byte.
fn last_octet(address: IpAddr, last: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Ipv4Addr::new(a, b, c, last).into()
        }
        IpAddr::V6(address) => {
            let mut octets = address.octets();
            octets[15] = last;
            Ipv6Addr::from(octets).into()
        }
    }
}

/// What a server makes of a case that reaches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It answers with SYN and ACK.
    Opens,
    /// It opens nothing.
    Arrives,
    /// It opens nothing, and a router has no such link: only a bridge passes it on.
    ArrivesByBridge,
}

/// What an attacker sends.
struct Case {
    name: &'static str,
    /// What the packet program counts where a policy names the server.
    reason: Reason,
    fate: Fate,
    frames: fn(&Aim<'_>) -> Vec<Vec<u8>>,
}

const fn case(
    name: &'static str,
    reason: Reason,
    fate: Fate,
    frames: fn(&Aim<'_>) -> Vec<Vec<u8>>,
) -> Case {
    Case { name, reason, fate, frames }
}

/// Cases of both IP versions.
const COMMON: &[Case] = &[
    case("SYN", Reason::Redirected, Fate::Opens, |aim| aim.segment(SYN, &[])),
    case("SYN with data", Reason::Redirected, Fate::Opens, |aim| aim.segment(SYN, b"early")),
    case("SYN and FIN", Reason::Redirected, Fate::Arrives, |aim| aim.segment(SYN | FIN, &[])),
    case("SYN and ACK", Reason::NotOurs, Fate::Arrives, |aim| aim.segment(SYN | ACK, &[])),
    case("ACK alone", Reason::NotOurs, Fate::Arrives, |aim| aim.segment(ACK, &[])),
    case("priority tag", Reason::Redirected, Fate::Opens, |aim| aim.tagged(&[(TAG, 7 << 13)])),
    case("QinQ", Reason::Redirected, Fate::ArrivesByBridge, |aim| {
        aim.tagged(&[(TAG, 200), (TAG, 100)])
    }),
    case("802.1ad", Reason::Redirected, Fate::ArrivesByBridge, |aim| {
        aim.tagged(&[(SERVICE_TAG, 200), (TAG, 100)])
    }),
    case("SNAP", Reason::Snap, Fate::ArrivesByBridge, |aim| aim.snap()),
];

const V4: &[Case] = &[
    case("options", Reason::Redirected, Fate::Opens, |aim| {
        vec![aim.v4(aim.to.ip(), 0, &[1; 8], &aim.syn(&[]))]
    }),
    case("fragments of 8 bytes", Reason::TinyFragment, Fate::Opens, |aim| {
        let parts = [(0, 8), (8, 16), (16, 24), (24, 28)];
        parts.map(|(begin, end)| aim.v4_fragment(&aim.syn(&[]), begin, end)).into()
    }),
    case("flags written by a second fragment", Reason::OverlappingFragment, Fate::Arrives, |aim| {
        let harmless = aim.tcp(ACK, &[0; 4]);
        vec![aim.v4_fragment(&harmless, 0, 24), aim.v4_fragment(&aim.syn(&[]), 8, 28)]
    }),
    case("data in a second fragment", Reason::FragmentedSyn, Fate::Opens, |aim| {
        let syn = aim.syn(&[7; 16]);
        vec![aim.v4_fragment(&syn, 0, 32), aim.v4_fragment(&syn, 32, 44)]
    }),
    case("loose source route", Reason::SourceRouted, Fate::Opens, |aim| {
        let IpAddr::V4(last) = aim.to.ip() else { panic!("{}", aim.to) };
        let option = [&[131, 7, 4][..], &last.octets(), &[0]].concat();
        vec![aim.v4(aim.via, 0, &option, &aim.syn(&[]))]
    }),
];

const V6: &[Case] = &[
    case("header in two fragments", Reason::TinyFragment, Fate::Opens, |aim| {
        let syn = aim.syn(&[]);
        vec![aim.v6_fragment(TCP, &syn, 0, 24), aim.v6_fragment(TCP, &syn, 24, 28)]
    }),
    case("flags written by a second fragment", Reason::OverlappingFragment, Fate::Arrives, |aim| {
        let (harmless, syn) = (aim.tcp(ACK, &[0; 4]), aim.syn(&[]));
        vec![aim.v6_fragment(TCP, &harmless, 0, 24), aim.v6_fragment(TCP, &syn, 8, 28)]
    }),
    case("fragments behind a header", Reason::FragmentedSyn, Fate::Opens, |aim| {
        let syn = aim.syn(&[7; 16]);
        let part = |begin, end| {
            let header = aim.fragment_header(TCP, syn.len(), begin, end);
            aim.v6(DESTINATION, &[&padding(FRAGMENT)[..], &header, &syn[begin..end]].concat())
        };
        vec![part(0, 32), part(32, 44)]
    }),
    case("header behind the fragment's", Reason::TinyFragment, Fate::Opens, |aim| {
        let body = [&padding(TCP)[..], &aim.syn(&[7; 16])].concat();
        vec![
            aim.v6_fragment(DESTINATION, &body, 0, 48),
            aim.v6_fragment(DESTINATION, &body, 48, 52),
        ]
    }),
    case("chain of nine headers", Reason::HeaderChain, Fate::Opens, |aim| {
        let headers = [[padding(DESTINATION); 8].concat(), padding(TCP).to_vec()].concat();
        vec![aim.v6(DESTINATION, &[headers, aim.syn(&[])].concat())]
    }),
    case("fragment that is whole", Reason::Redirected, Fate::Opens, |aim| {
        vec![aim.v6_fragment(TCP, &aim.syn(&[]), 0, 28)]
    }),
    case("segment routing", Reason::SourceRouted, Fate::Opens, |aim| {
        let (IpAddr::V6(last), IpAddr::V6(via)) = (aim.to.ip(), aim.via) else {
            panic!("{}", aim.to)
        };
        // Type 4, one segment left of two (RFC 8754 section 2); the list is read from its end.
        let header = [&[TCP, 4, 4, 1, 1, 0, 0, 0][..], &last.octets(), &via.octets()].concat();
        let IpAddr::V6(from) = aim.from.ip() else { panic!("{}", aim.from) };
        let packet = ipv6(from, via, ROUTING, &[header, aim.syn(&[])].concat());
        vec![aim.frame(aim.via, &[], &packet)]
    }),
];

/// Destination options that say nothing, before the header of this number.
const fn padding(next: u8) -> [u8; 8] {
    [next, 0, 1, 4, 0, 0, 0, 0]
}

/// One attempt to open a connection.
struct Aim<'f> {
    field: &'f Field<'f>,
    from: SocketAddr,
    to: SocketAddr,
    /// What source routes lead by.
    via: IpAddr,
    identification: u16,
}

impl Aim<'_> {
    /// A TCP segment of the connection.
    fn tcp(&self, flags: u8, payload: &[u8]) -> Vec<u8> {
        let (source, destination) = (self.from, self.to);
        let acknowledgement = if flags & ACK == 0 { 0 } else { 1 };
        let sequence = SEQUENCE;
        Segment { source, destination, sequence, acknowledgement, flags, payload }.bytes()
    }

    fn syn(&self, payload: &[u8]) -> Vec<u8> {
        self.tcp(SYN, payload)
    }

    /// The packet that carries `body`, by TCP, to the server.
    fn packet(&self, body: &[u8]) -> Vec<u8> {
        match (self.from.ip(), self.to.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                Ipv4 { source, destination, ..Ipv4::PLAIN }.packet(body)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => ipv6(source, destination, TCP, body),
            mixed => panic!("{mixed:?}"),
        }
    }

    /// A frame for `next`, or for the way to it.
    fn frame(&self, next: IpAddr, tags: &[(u16, u16)], packet: &[u8]) -> Vec<u8> {
        ethernet(self.field.hardware_of(next), self.field.client, tags, packet)
    }

    fn segment(&self, flags: u8, payload: &[u8]) -> Vec<Vec<u8>> {
        vec![self.frame(self.to.ip(), &[], &self.packet(&self.tcp(flags, payload)))]
    }

    fn tagged(&self, tags: &[(u16, u16)]) -> Vec<Vec<u8>> {
        vec![self.frame(self.to.ip(), tags, &self.packet(&self.syn(&[])))]
    }

    /// A SYN behind LLC and SNAP headers (RFC 1042).
    fn snap(&self) -> Vec<Vec<u8>> {
        let plain = self.frame(self.to.ip(), &[], &self.packet(&self.syn(&[])));
        let body = [&[0xaa, 0xaa, 3, 0, 0, 0][..], &plain[12..]].concat();
        let length = u16::try_from(body.len()).unwrap().to_be_bytes();
        vec![[&plain[..12], &length, &body].concat()]
    }

    fn v4(&self, to: IpAddr, fragment: u16, options: &[u8], body: &[u8]) -> Vec<u8> {
        let (IpAddr::V4(source), IpAddr::V4(destination)) = (self.from.ip(), to) else {
            panic!("{to}")
        };
        let identification = self.identification;
        let header = Ipv4 { source, destination, identification, fragment, options };
        self.frame(to, &[], &header.packet(body))
    }

    /// The bytes of `body` in this range, as a fragment.
    fn v4_fragment(&self, body: &[u8], begin: usize, end: usize) -> Vec<u8> {
        let more = if end < body.len() { MORE } else { 0 };
        let field = more | u16::try_from(begin / 8).unwrap();
        self.v4(self.to.ip(), field, &[], &body[begin..end])
    }

    fn v6(&self, next: u8, body: &[u8]) -> Vec<u8> {
        let (IpAddr::V6(from), IpAddr::V6(to)) = (self.from.ip(), self.to.ip()) else {
            panic!("{}", self.to)
        };
        self.frame(self.to.ip(), &[], &ipv6(from, to, next, body))
    }

    /// The bytes of `body` in this range, as a fragment; `next` is what `body` begins with.
    fn v6_fragment(&self, next: u8, body: &[u8], begin: usize, end: usize) -> Vec<u8> {
        let header = self.fragment_header(next, body.len(), begin, end);
        self.v6(FRAGMENT, &[&header[..], &body[begin..end]].concat())
    }

    fn fragment_header(&self, next: u8, length: usize, begin: usize, end: usize) -> [u8; 8] {
        let more = u16::from(end < length);
        let [f0, f1] = (u16::try_from(begin).unwrap() | more).to_be_bytes();
        let [i0, i1] = self.identification.to_be_bytes();
        [next, 0, f0, f1, 0, 0, i0, i1]
    }
}

/// The client's wire, and what the attacker knows of the hosts on it.
struct Field<'w> {
    world: &'w World,
    wire: Injector,
    client: [u8; 6],
    gateway: [u8; 6],
    server: [u8; 6],
}

impl<'w> Field<'w> {
    fn new(world: &'w World) -> Self {
        let near = if world.mode() == Mode::Router { CLIENT_INTERFACE } else { BRIDGE };
        Self {
            world,
            wire: Injector::new(&world.client, PEER_INTERFACE).unwrap(),
            client: hardware_address(&world.client, PEER_INTERFACE).unwrap(),
            gateway: hardware_address(&world.gateway, near).unwrap(),
            server: hardware_address(&world.server, PEER_INTERFACE).unwrap(),
        }
    }

    /// Where the client's host would send a packet for `to`.
    fn hardware_of(&self, to: IpAddr) -> [u8; 6] {
        let near = Family::ALL.map(|family| self.world.address(Host::GatewayForClient, family));
        match self.world.mode() {
            Mode::Router => self.gateway,
            Mode::Bridge if near.contains(&to) => self.gateway,
            Mode::Bridge => self.server,
        }
    }

    fn count(&self, reason: Reason) -> u64 {
        proxyd::steering::status(&self.world.pin_directory()).unwrap().count(reason)
    }

    /// Every case with an attempt of its own at port 22 of `host`.
    fn aims(&self, family: Family, host: Host) -> Vec<(&'static Case, Aim<'_>)> {
        let own = if family == Family::V4 { V4 } else { V6 };
        let first = if host == Host::Server { FIRST_PORT } else { FIRST_PORT + 1_000 };
        let to = self.world.address(host, family);
        let via = match self.world.mode() {
            Mode::Router => self.world.address(Host::GatewayForClient, family),
            Mode::Bridge => last_octet(to, VIA),
        };
        let client = self.world.address(Host::Client, family);
        let aim = |port| Aim {
            field: self,
            from: SocketAddr::new(client, port),
            to: SocketAddr::new(to, PORT),
            via,
            identification: port,
        };
        COMMON.iter().chain(own).zip(first..).map(|(case, port)| (case, aim(port))).collect()
    }

    /// Sends every case to the server that the policy names: it must not see one that could open
    /// a connection.
    fn attack(&self, family: Family) {
        let at_server = Capture::start(&self.world.server).unwrap();
        for (case, aim) in self.aims(family, Host::Server) {
            let before = self.count(case.reason);
            for frame in (case.frames)(&aim) {
                self.wire.send(&frame).unwrap();
            }
            let what = format!("{family:?} {} to be counted as {:?}", case.name, case.reason);
            wait_until(&what, LIMIT, || self.count(case.reason) > before).unwrap();
        }
        let to = SocketAddr::new(self.world.address(Host::Server, family), PORT);
        let said = self.open_fast(to);
        assert!(said.contains("proxyd"), "{family:?}: {said}");
        let client = self.world.address(Host::Client, family);
        for frame in at_server.stop().unwrap() {
            assert!(!Seen::may_open(&frame, client), "{family:?}: the server got {frame:02x?}");
        }
    }

    /// Sends every case to an address that no policy names: it arrives as it was sent, and what
    /// opens a connection there does.
    fn spare_the_others(&self, family: Family) {
        let mode = self.world.mode();
        let at_server = Capture::start(&self.world.server).unwrap();
        let aims = self.aims(family, Host::OtherServer);
        for frame in aims.iter().flat_map(|(case, aim)| (case.frames)(aim)) {
            self.wire.send(&frame).unwrap();
        }
        let to = SocketAddr::new(self.world.address(Host::OtherServer, family), PORT);
        let said = self.open_fast(to);
        assert!(said.starts_with("SSH-2.0-OpenSSH_") && !said.contains("proxyd"), "{said}");
        let seen = at_server.stop().unwrap();
        let is_early = |frame: &Vec<u8>| {
            let found = Seen::read(frame).filter(|seen| seen.source == self.client_in(family));
            found.is_some_and(|seen| seen.flags() == Some(SYN) && seen.tcp.ends_with(EARLY))
        };
        assert!(seen.iter().any(is_early), "{family:?}: no data in a SYN reached the server");
        for (case, aim) in aims {
            let name = format!("{mode:?} {family:?} {}", case.name);
            let is_routed_by_gateway = mode == Mode::Router && case.reason == Reason::SourceRouted;
            let passes = mode == Mode::Bridge || case.fate != Fate::ArrivesByBridge;
            if passes && !is_routed_by_gateway {
                for frame in (case.frames)(&aim) {
                    let expected = after(mode, &frame);
                    let is_it = |frame: &Vec<u8>| frame.ends_with(&expected);
                    assert!(seen.iter().any(is_it), "{name}: no {expected:02x?}");
                }
            }
            let answered = seen.iter().any(|frame| answers(frame, &aim));
            assert_eq!(answered, case.fate == Fate::Opens, "{name}: the server answers");
        }
    }

    fn client_in(&self, family: Family) -> IpAddr {
        self.world.address(Host::Client, family)
    }

    /// Connects with data in the SYN (RFC 7413), and gives what the server says first.
    fn open_fast(&self, to: SocketAddr) -> String {
        let stream = self.world.client.inside(|| {
            let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
            let flags = SockFlag::SOCK_CLOEXEC;
            let fast = socket(family, SockType::Stream, flags, None).unwrap();
            setsockopt(&fast, sockopt::TcpFastOpenConnect, &true).unwrap();
            connect(fast.as_raw_fd(), &SockaddrStorage::from(to)).unwrap();
            TcpStream::from(fast)
        });
        let mut stream = stream.unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        // Only now the SYN is sent.
        stream.write_all(EARLY).unwrap();
        let mut said = [0; 64];
        let read = stream.read(&mut said).unwrap_or_else(|error| panic!("{to}: {error}"));
        String::from_utf8_lossy(&said[..read]).into_owned()
    }
}

/// What a client of the fast open sends with its SYN.
const EARLY: &[u8] = b"SSH-2.0-early\r\n";

/// What a frame looks like behind the gateway, from where its bytes are comparable: a router
/// writes another Ethernet header, and the kernel keeps the outermost tag beside the frame.
fn after(mode: Mode, frame: &[u8]) -> Vec<u8> {
    let kind = u16::from_be_bytes([frame[12], frame[13]]);
    let begin = if matches!(kind, TAG | SERVICE_TAG) { 16 } else { 12 };
    if mode == Mode::Bridge {
        return frame[begin..].to_vec();
    }
    let mut packet = frame[begin + 2..].to_vec();
    if packet[0] >> 4 == 6 {
        packet[7] -= 1;
        return packet;
    }
    packet[8] -= 1;
    let header = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let sum = checksum(&packet[..header]);
    packet[10..12].copy_from_slice(&sum);
    packet
}

/// Whether this is the server's consent to a connection; a source route leads it back by others.
fn answers(frame: &[u8], aim: &Aim<'_>) -> bool {
    Seen::read(frame).is_some_and(|seen| {
        let ports = (seen.source_port(), seen.destination_port());
        let is_of_aim = seen.source == aim.to.ip() && ports == (Some(PORT), Some(aim.from.port()));
        is_of_aim && seen.flags().is_some_and(|flags| flags & (SYN | ACK) == SYN | ACK)
    })
}

#[test]
fn nobody_ends_a_session_through_a_router() {
    nobody_ends_a_session(Mode::Router);
}

#[test]
fn nobody_ends_a_session_through_a_bridge() {
    nobody_ends_a_session(Mode::Bridge);
}

/// Who can forge the addresses of a session but does not know its sequence numbers ends nothing.
fn nobody_ends_a_session(mode: Mode) {
    let world = World::new(mode).unwrap();
    let _server = Sshd::start(&world).unwrap();
    let _proxyd = start(&world);
    let field = Field::new(&world);
    for family in Family::ALL {
        let user = Client::new(&world, &format!("{family:?}")).unwrap();
        let to = world.address(Host::Server, family);
        let call = user.ssh().args("-o StrictHostKeyChecking=no").arg(format!("alice@{to}"));
        let call =
            call.arg("echo ready; exec sed -u s/^/back-/").env("SSH_ASKPASS_REQUIRE", "never");
        let mut terminal = call.terminal(Size { rows: 24, columns: 80 }).unwrap();
        terminal.expect("assword:", LIMIT).unwrap();
        terminal.send(&format!("{}\r", sshd::PASSWORD)).unwrap();
        terminal.expect("ready", LIMIT).unwrap();
        let captures =
            [&world.client, &world.server].map(|namespace| Capture::start(namespace).unwrap());
        round_trip(&mut terminal, "first");
        let [at_client, at_server] = captures.map(|capture| capture.stop().unwrap());
        let server = SocketAddr::new(to, PORT);
        for (side, frames, near) in [
            (
                "client's leg",
                at_client,
                leg(&world, server, |local, peer| (local == server).then_some(peer)),
            ),
            (
                "server's leg",
                at_server,
                leg(&world, server, |local, peer| (peer == server).then_some(local)),
            ),
        ] {
            for (from, to) in [(near, server), (server, near)] {
                let next = next_sequence(&frames, from, to);
                for (name, flags, distance) in FORGED {
                    let sequence = next.wrapping_add(distance);
                    field.forge(from, to, sequence, flags);
                    round_trip(&mut terminal, &format!("{name} on the {side} from {from}"));
                }
            }
        }
        terminal.send("\x04").unwrap();
        assert!(terminal.finish(LIMIT).unwrap().success(), "{mode:?} {family:?}");
    }
}

/// What is forged: flags, and how far from the right sequence number. Within the window a RST has
/// to be exact (RFC 5961 section 3); a FIN is forged out of it.
const FORGED: [(&str, u8, u32); 5] = [
    ("RST in the window", RST, 100),
    ("RST far off", RST, 0x4000_0000),
    ("RST and ACK behind", RST | ACK, 0xc000_0000),
    ("FIN far off", FIN | ACK, 0x4000_0000),
    ("SYN sent again with another number", SYN, 0x1234_5678),
];

/// Types a line and waits for what the program on the server makes of it.
fn round_trip(terminal: &mut Terminal, line: &str) {
    terminal.send(&format!("{line}\r")).unwrap();
    terminal.expect(&format!("back-{line}"), LIMIT).unwrap();
}

/// The near end of the leg of which `choose` gives one.
fn leg(
    world: &World,
    server: SocketAddr,
    choose: impl Fn(SocketAddr, SocketAddr) -> Option<SocketAddr>,
) -> SocketAddr {
    wait_for("a leg of the session", LIMIT, || {
        let mut command = world.gateway.command("ss");
        let listed = output(command.args(["-Htn", "state", "established"]))?;
        let ends = listed.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(2);
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        });
        let mut legs = ends.filter(|(local, peer)| [local, peer].contains(&&server));
        Ok(legs.find_map(|(local, peer)| choose(local, peer)))
    })
    .unwrap()
}

/// The number after the last byte that was sent.
fn next_sequence(frames: &[Vec<u8>], from: SocketAddr, to: SocketAddr) -> u32 {
    let found = frames.iter().rev().find_map(|frame| {
        Seen::read(frame).filter(|seen| seen.is_between(from, to))?.next_sequence()
    });
    found.unwrap_or_else(|| panic!("no segment from {from} to {to}"))
}

impl Field<'_> {
    /// Sends a segment from the side that its source is on.
    fn forge(&self, source: SocketAddr, destination: SocketAddr, sequence: u32, flags: u8) {
        let acknowledgement = if flags & ACK == 0 { 0 } else { 1 };
        let payload = &[];
        let packet =
            Segment { source, destination, sequence, acknowledgement, flags, payload }.packet();
        if source.port() != PORT {
            let to = self.hardware_of(destination.ip());
            return self.wire.send(&ethernet(to, self.client, &[], &packet)).unwrap();
        }
        let far = hardware_address(&self.world.gateway, SERVER_INTERFACE).unwrap();
        let to = if self.world.mode() == Mode::Router { far } else { self.client };
        let wire = Injector::new(&self.world.server, PEER_INTERFACE).unwrap();
        wire.send(&ethernet(to, self.server, &[], &packet)).unwrap();
    }
}

#[test]
fn both_open_at_once_through_a_router() {
    both_open_at_once(Mode::Router);
}

#[test]
fn both_open_at_once_through_a_bridge() {
    both_open_at_once(Mode::Bridge);
}

/// A server that helps its client by opening the same connection from its side (RFC 9293 section
/// 3.5) gets nothing of it: whichever SYN comes first, the client's belongs to the proxy.
fn both_open_at_once(mode: Mode) {
    let world = World::new(mode).unwrap();
    let _proxyd = start(&world);
    let field = Field::new(&world);
    for family in Family::ALL {
        let client = last_octet(world.address(Host::Client, family), GHOST);
        let server = SocketAddr::new(world.address(Host::Server, family), PORT);
        let at_server = Capture::start(&world.server).unwrap();
        for (port, server_is_first) in [(FIRST_PORT, true), (FIRST_PORT + 1, false)] {
            let from = SocketAddr::new(client, port);
            if server_is_first {
                field.forge(server, from, SEQUENCE, SYN);
            }
            for (name, flags, sequence, reason) in [
                ("SYN", SYN, SEQUENCE, Reason::Redirected),
                ("SYN and ACK", SYN | ACK, SEQUENCE, Reason::Established),
                ("ACK", ACK, SEQUENCE + 1, Reason::Established),
            ] {
                let before = field.count(reason);
                field.forge(from, server, sequence, flags);
                let what = format!("{mode:?} {family:?} {name} to be counted as {reason:?}");
                wait_until(&what, LIMIT, || field.count(reason) > before).unwrap();
                if !server_is_first && flags == SYN {
                    field.forge(server, from, SEQUENCE, SYN);
                }
            }
        }
        for frame in at_server.stop().unwrap() {
            let is_of_client = Seen::read(&frame).is_some_and(|seen| seen.source == client);
            assert!(!is_of_client, "{mode:?} {family:?}: the server got {frame:02x?}");
        }
    }
}
