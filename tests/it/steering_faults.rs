//! Where steering could be got around, or get in the way: with real peers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use e2e::capture::Capture;
use e2e::peer::ssh::Client;
use e2e::peer::sshd::Sshd;
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::Size;
use e2e::wait::{wait_for, wait_until};
use e2e::world::{Family, Host, Mode, World};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, sendto, socket,
};
use tokio::net::TcpSocket;
use tokio::runtime::Builder;

use crate::stage::{Auditor, LIMIT, OPEN, connection, library};

/// A port of the client that nothing chooses by itself.
const CLIENT_PORT: u16 = 1022;

/// For a connection that has to wait for one SYN to be sent again, a second later.
const RECONNECT_LIMIT: Duration = Duration::from_secs(5);

#[test]
fn reconnecting_through_a_router() {
    reconnecting(Mode::Router);
}

#[test]
fn reconnecting_through_a_bridge() {
    reconnecting(Mode::Bridge);
}

/// A client that connects again from the same port, whoever closed first, gets the proxy and never
/// a server of the gateway's own that listens on every address.
fn reconnecting(mode: Mode) {
    let world = World::new(mode).unwrap();
    let _server = Sshd::start(&world).unwrap();
    let own = world.gateway.inside(|| TcpListener::bind("[::]:22")).unwrap().unwrap();
    own.set_nonblocking(true).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    // Lets the client use a port again that it closed itself.
    world.client.set("ipv4/tcp_tw_reuse", "1").unwrap();
    for family in Family::ALL {
        let to = SocketAddr::new(world.address(Host::Server, family), 22);
        let name = format!("{mode:?} {family:?}");
        let mut stream = connect(&world, to);
        assert_proxy_answers(&name, &mut stream);
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
        stream.read_to_end(&mut Vec::new()).unwrap();
        drop(stream);
        wait_until("what remains of the connection", LIMIT, || remains(&world, to)).unwrap();
        let mut stream = connect(&world, to);
        assert_proxy_answers(&format!("{name}: the proxy closed"), &mut stream);
        drop(stream);
        let mut stream = connect(&world, to);
        assert_proxy_answers(&format!("{name}: the client closed"), &mut stream);
        drop(stream);
    }
    let config = proxyd.config();
    let status = proxyd.command("steering status --config", &[&config]).unwrap().ok().unwrap();
    let reopened =
        status.text().lines().any(|line| line.starts_with("reopened ") && !line.ends_with(" 0"));
    assert!(reopened, "{mode:?}: no SYN met a closed connection: {}", status.text());
    let taken = own.accept().map_err(|error| error.kind());
    assert_eq!(taken.unwrap_err(), ErrorKind::WouldBlock, "{mode:?}: the gateway's own server");
}

/// Connects from [`CLIENT_PORT`], as soon as the client's own kernel allows.
fn connect(world: &World, to: SocketAddr) -> TcpStream {
    wait_for("the client's port to be free", LIMIT, || {
        match world.client.inside(|| connect_once(to))? {
            Ok(stream) => Ok(Some(stream)),
            Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Ok(None),
            Err(error) => Err(error.into()),
        }
    })
    .unwrap()
}

fn connect_once(to: SocketAddr) -> std::io::Result<TcpStream> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = if to.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        let from = if to.is_ipv4() { "0.0.0.0" } else { "::" };
        socket.bind(SocketAddr::new(from.parse().unwrap(), CLIENT_PORT))?;
        let stream = tokio::time::timeout(RECONNECT_LIMIT, socket.connect(to)).await??;
        let stream = stream.into_std()?;
        stream.set_nonblocking(false)?;
        Ok(stream)
    })
}

fn assert_proxy_answers(name: &str, stream: &mut TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    let mut banner = [0; 32];
    let read = stream.read(&mut banner).unwrap_or_else(|error| panic!("{name}: {error}"));
    let banner = String::from_utf8_lossy(&banner[..read]).into_owned();
    assert!(banner.starts_with("SSH-2.0-OpenSSH_9.2 proxyd"), "{name}: {banner}");
}

/// Whether the gateway keeps a connection to `to` in TIME-WAIT.
fn remains(world: &World, to: SocketAddr) -> bool {
    let mut command = world.gateway.command("ss");
    let listed = output(command.args(["-Htan", "state", "time-wait"])).unwrap();
    listed.contains(&to.to_string())
}

#[test]
fn path_mtu_through_a_router() {
    path_mtu(Mode::Router);
}

#[test]
fn path_mtu_through_a_bridge() {
    path_mtu(Mode::Bridge);
}

/// What a router on the way says about the size of packets reaches the proxy, on both sides, where
/// the connection keeps the address of another host.
fn path_mtu(mode: Mode) {
    let world = World::new(mode).unwrap();
    let _server = Sshd::start(&world).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let _proxyd = Proxyd::start(&world, settings).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    for family in Family::ALL {
        let (near, far) =
            (world.address(Host::Client, family), world.address(Host::Server, family));
        let at_client = Capture::start(&world.client).unwrap();
        let at_server = Capture::start(&world.server).unwrap();
        // The question is asked in the terminal, where it stays unanswered.
        let call = client.ssh().args("-o StrictHostKeyChecking=no").arg(format!("alice@{far}"));
        let call = call.env("SSH_ASKPASS_REQUIRE", "never");
        let mut terminal = call.terminal(Size { rows: 24, columns: 80 }).unwrap();
        terminal.expect("assword:", LIMIT).unwrap();
        for (namespace, capture, from, to) in
            [(&world.client, at_client, far, near), (&world.server, at_server, near, far)]
        {
            let frames = capture.stop().unwrap();
            let cause = frames.iter().rev().find_map(|frame| last_segment(frame, from, to));
            let cause = cause.expect("a segment of the proxy's");
            namespace.inside(|| send_too_big(&cause, from)).unwrap();
            let is_told = || {
                let mut command = world.gateway.command("ss");
                let source = SocketAddr::new(from, 0).to_string();
                let source = source.strip_suffix(":0").unwrap();
                let legs = output(command.args(["-Htin", "src", source])).unwrap();
                legs.contains(&format!("pmtu:{NARROW_BYTES}"))
            };
            wait_until(&format!("{mode:?} {from} to {to} to be told"), LIMIT, is_told).unwrap();
        }
    }
}

/// The size that a narrow link carries; IPv6 has none below 1280.
const NARROW_BYTES: u16 = 1400;

/// Where the IP header begins in a captured frame.
const IP_OFFSET: usize = 14;

/// Headers of a TCP segment in `frame`, up to the sequence number: that of what it would send
/// next, which a host takes for its own.
fn last_segment(frame: &[u8], from: IpAddr, to: IpAddr) -> Option<Vec<u8>> {
    let ip = frame.get(IP_OFFSET..)?;
    let number = |at: usize| Some(u16::from_be_bytes([*ip.get(at)?, *ip.get(at + 1)?]));
    let (header, addresses, packet) = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            (20, (ip.get(12..20)?, [from.octets(), to.octets()].concat()), number(2)?)
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            (40, (ip.get(8..40)?, [from.octets(), to.octets()].concat()), number(4)? + 40)
        }
        _ => return None,
    };
    let protocol = *ip.get(if header == 20 { 9 } else { 6 })?;
    if addresses.0 != addresses.1 || protocol != 6 {
        return None;
    }
    let tcp_header = usize::from(*ip.get(header + 12)? >> 4) * 4;
    let payload = usize::from(packet) - header - tcp_header;
    let sequence = u32::from_be_bytes(ip.get(header + 4..header + 8)?.try_into().ok()?);
    let next = sequence.wrapping_add(u32::try_from(payload).ok()?);
    Some([ip.get(..header + 4)?, &next.to_be_bytes()].concat())
}

/// Says that `cause`, a packet from `to`, was too big.
fn send_too_big(cause: &[u8], to: IpAddr) {
    let [high, low] = NARROW_BYTES.to_be_bytes();
    let (kind, protocol, code) = match to {
        IpAddr::V4(_) => (AddressFamily::Inet, SockProtocol::Icmp, [3, 4]),
        IpAddr::V6(_) => (AddressFamily::Inet6, SockProtocol::IcmpV6, [2, 0]),
    };
    let mut message = [&code[..], &[0, 0, 0, 0, high, low], cause].concat();
    // The kernel writes the checksum of ICMPv6 itself.
    let sum: u32 = message.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let socket = socket(kind, SockType::Raw, SockFlag::empty(), protocol).unwrap();
    let to = SockaddrStorage::from(SocketAddr::new(to, 0));
    sendto(socket.as_raw_fd(), &message, &to, MsgFlags::empty()).unwrap();
}
