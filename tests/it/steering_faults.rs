//! Where steering could be got around, or get in the way: with real peers.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use e2e::peer::sshd::Sshd;
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::{wait_for, wait_until};
use e2e::world::{Family, Host, Mode, World};
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
    let read = stream.read(&mut banner).unwrap();
    let banner = String::from_utf8_lossy(&banner[..read]).into_owned();
    assert!(banner.starts_with("SSH-2.0-OpenSSH_9.2 proxyd"), "{name}: {banner}");
}

/// Whether the gateway keeps a connection to `to` in TIME-WAIT.
fn remains(world: &World, to: SocketAddr) -> bool {
    let mut command = world.gateway.command("ss");
    let listed = output(command.args(["-Htan", "state", "time-wait"])).unwrap();
    listed.contains(&to.to_string())
}
