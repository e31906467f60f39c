//! Nobody exhausts the gateway: silent connections, half-open ones, too many of one client, and
//! sessions in which nothing happens.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::{Stopwatch, wait_for, wait_until};
use e2e::world::{Family, Host, World};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, sendto, socket,
};

use crate::stage::{Auditor, LIMIT, OPEN, Records, checksum, connection, library};

/// Connections that may wait for their user's authentication.
const HANDSHAKES: usize = 20;

/// How long each of them may wait.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(3);

/// Half-open connections that are more than the kernel keeps for a listener (4096).
const HALF_OPEN: u16 = 6_000;

fn start<'w>(world: &'w World, limits: &str) -> Proxyd<'w> {
    let auditor = Auditor::new(world, "auditor");
    let anybody = connection(world, "open", OPEN).replace("\"10.77.1.2/32\"", "\"10.77.1.0/24\"");
    let policies = anybody + &library(&auditor, &[]);
    let settings = Settings { limits, policies: &policies, ..Settings::default() };
    Proxyd::start(world, settings).unwrap()
}

fn log_in<'c>(world: &World, client: &'c Client<'_>) -> Call<'c> {
    let to = world.address(Host::Server, Family::V4);
    client.ssh().arg(format!("alice@{to}")).reply(sshd::ASKS, sshd::PASSWORD)
}

/// Connections that say nothing keep a user out no longer than the handshake limit.
#[test]
fn silent_connections() {
    let world = World::router().unwrap();
    let limits =
        format!("handshakes = {HANDSHAKES}\nhandshake_timeout_s = {}\n", HANDSHAKE_LIMIT.as_secs());
    let proxyd = start(&world, &limits);
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), 22);
    let flood: Vec<_> = (0..3 * HANDSHAKES)
        .map(|_| world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap())
        .collect();
    let clock = Stopwatch::start();
    let refused = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(refused.code(), 255, "the limit does not hold: {}", refused.stderr);
    assert!(clock.elapsed() < HANDSHAKE_LIMIT, "{:?}", clock.elapsed());
    let run = wait_for("a user among the silent", LIMIT, || {
        let run = log_in(&world, &client).arg("exit 3").run(LIMIT)?;
        Ok((run.code() == 3).then_some(run))
    });
    run.unwrap();
    assert!(clock.elapsed() < HANDSHAKE_LIMIT + Duration::from_secs(3), "{:?}", clock.elapsed());
    drop(flood);
    let records = Records::new(&proxyd);
    wait_until("all to be on record", LIMIT, || {
        let rows = records.all();
        let silent = rows.iter().filter(|row| row.reason == "handshake-timeout").count();
        let completed = rows.iter().filter(|row| row.outcome == "completed").count();
        (silent, completed) == (HANDSHAKES, 1)
    })
    .unwrap();
}

/// More half-open connections than the kernel keeps do not keep a user out.
#[test]
fn half_open_connections() {
    let world = World::router().unwrap();
    let proxyd = start(&world, "");
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let to = world.address(Host::Server, Family::V4);
    let IpAddr::V4(to) = to else { panic!("{to}") };
    flood(&world, SocketAddrV4::new(to, 22));
    let cookies = || {
        // What is below /proc/net belongs to the process, not to the thread that is inside.
        let path = "/proc/thread-self/net/netstat";
        let stat = world.gateway.inside(|| std::fs::read_to_string(path));
        counter(&stat.unwrap().unwrap(), "SyncookiesSent")
    };
    assert!(cookies() > 0, "the kernel kept all of them: the flood is no flood");
    let clock = Stopwatch::start();
    let run = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
    assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
    let rows = Records::new(&proxyd).all();
    assert_eq!(rows.len(), 1, "a half-open connection became a session");
}

/// Sends SYNs from addresses of the client's subnet at which nobody answers.
fn flood(world: &World, to: SocketAddrV4) {
    let raw = world.client.inside(|| {
        let protocol = SockProtocol::Raw;
        socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)
    });
    let raw = raw.unwrap().unwrap();
    for number in 0..HALF_OPEN {
        let host = 100 + u8::try_from(number % 100).unwrap();
        let from = SocketAddrV4::new(Ipv4Addr::new(10, 77, 1, host), 10_000 + number);
        let packet = syn(from, to);
        sendto(raw.as_raw_fd(), &packet, &SockaddrIn::from(to), MsgFlags::empty()).unwrap();
    }
}

/// An IPv4 packet with a TCP SYN; the kernel fills in length and checksum of the IPv4 header.
fn syn(from: SocketAddrV4, to: SocketAddrV4) -> Vec<u8> {
    let mut tcp = Vec::new();
    tcp.extend(from.port().to_be_bytes());
    tcp.extend(to.port().to_be_bytes());
    tcp.extend([0, 0, 0, 1, 0, 0, 0, 0]);
    // Five words of header, SYN, a window, checksum and urgent pointer to come.
    tcp.extend([5 << 4, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    let mut pseudo = Vec::new();
    pseudo.extend(from.ip().octets());
    pseudo.extend(to.ip().octets());
    pseudo.extend([0, 6, 0, 20]);
    pseudo.extend(&tcp);
    tcp[16..18].copy_from_slice(&checksum(&pseudo));
    let mut packet = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    packet.extend(from.ip().octets());
    packet.extend(to.ip().octets());
    packet.extend(tcp);
    packet
}

/// A counter of `/proc/net/netstat`: a line of names, then a line of numbers.
fn counter(text: &str, name: &str) -> u64 {
    let lines: Vec<&str> = text.lines().collect();
    let pair = lines.chunks(2).find(|pair| pair[0].contains(name)).unwrap();
    let at = pair[0].split_whitespace().position(|word| word == name).unwrap();
    pair[1].split_whitespace().nth(at).unwrap().parse().unwrap()
}

/// One client has no more sessions than the limit; when one ends there is room for another.
#[test]
fn sessions_of_one_client() {
    let world = World::router().unwrap();
    let mut proxyd = start(&world, "sessions_per_client = 2\n");
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let open = || {
        let mut child = log_in(&world, &client).arg("echo up; cat").start_piped().unwrap();
        let mut up = [0; 3];
        std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut up).unwrap();
        child
    };
    let (mut first, mut second) = (open(), open());
    let refused = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(refused.code(), 255, "{}", refused.stderr);
    assert!(refused.took < Duration::from_secs(5), "{:?}", refused.took);
    assert!(proxyd.log().unwrap().contains("too-many-sessions-from-client"));
    assert_eq!(proxyd.live_sessions().unwrap().len(), 2);
    // Another client is not that client.
    world.client.ip("addr add 10.77.1.9/24 dev eth0").unwrap();
    let other = log_in(&world, &client).args("-b 10.77.1.9").arg("exit 4").run(LIMIT).unwrap();
    assert_eq!(other.code(), 4, "{}", other.stderr);
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success());
    wait_until("room for another session", LIMIT, || proxyd.live_sessions().unwrap().len() == 1)
        .unwrap();
    let run = log_in(&world, &client).arg("exit 5").run(LIMIT).unwrap();
    assert_eq!(run.code(), 5, "{}", run.stderr);
    drop(second.stdin.take());
    assert!(second.wait().unwrap().success());
    proxyd.stop().unwrap();
}

/// A session in which nothing happens ends, and a user who does not answer is sent away.
#[test]
fn nothing_happens() {
    let world = World::router().unwrap();
    let limits = "idle_timeout_s = 2\nauthentication_timeout_s = 2\n";
    let proxyd = start(&world, limits);
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut records = Records::new(&proxyd);
    let idle = log_in(&world, &client).arg("sleep 60").run(LIMIT).unwrap();
    assert_eq!(idle.code(), 255);
    assert!(idle.stderr.contains("idle"), "{}", idle.stderr);
    let row = records.next().row;
    assert_eq!(row.outcome, "terminated", "{}", row.reason);
    assert!(row.reason.contains("idle"), "{}", row.reason);
    // The terminal asks, and nobody types.
    let to = world.address(Host::Server, Family::V4);
    let silent = client.ssh().arg(format!("alice@{to}")).env("SSH_ASKPASS_REQUIRE", "never");
    let silent = silent.args("-o StrictHostKeyChecking=no");
    let mut terminal = silent.terminal(e2e::terminal::Size { rows: 24, columns: 80 }).unwrap();
    terminal.expect("assword:", LIMIT).unwrap();
    let clock = Stopwatch::start();
    let row = records.next().row;
    assert!(clock.elapsed() < Duration::from_secs(5), "{:?}", clock.elapsed());
    assert_eq!((row.outcome.as_str(), row.reason.as_str()), ("denied", "authentication-timeout"));
    terminal.process().kill().unwrap();
}

/// A session that is busy all the time ends at its limit all the same.
#[test]
fn a_session_has_an_end() {
    let world = World::router().unwrap();
    let proxyd = start(&world, "session_timeout_s = 3\n");
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut records = Records::new(&proxyd);
    let busy = log_in(&world, &client).arg("yes").run(LIMIT).unwrap();
    assert_eq!(busy.code(), 255);
    assert!(busy.stderr.contains("its time limit"), "{}", busy.stderr);
    let row = records.next().row;
    assert_eq!((row.outcome.as_str(), row.reason.as_str()), ("terminated", "its time limit"));
}
