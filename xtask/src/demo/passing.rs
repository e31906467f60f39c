//! Flows that no policy names: a TCP connection and a ping.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result, ensure};
use e2e::process::output;
use e2e::wait::wait_for;
use e2e::world::{Family, Host, World};

use super::LIMIT;

/// The echo service (RFC 862).
const ECHO_PORT: u16 = 7;

/// What is sent to be echoed.
const MESSAGE: &[u8; 11] = b"not for you";

/// Packets of the ping, each way.
pub(super) const PINGS: u64 = 3;

/// A connection whose peer echoed what was sent.
pub(super) struct Echo {
    /// Where the client connected to.
    pub(super) to: SocketAddr,
    /// The client's address and port, as the peer saw them.
    pub(super) seen: SocketAddr,
}

/// Has the server echo a message; fails unless it sees the client's own address and port.
pub(super) fn tcp(world: &World) -> Result<Echo> {
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), ECHO_PORT);
    let listener = world.server.inside(|| TcpListener::bind(to))?.context("cannot listen")?;
    listener.set_nonblocking(true)?;
    let connected = world.client.inside(|| TcpStream::connect_timeout(&to, LIMIT))?;
    let mut client = connected.with_context(|| format!("cannot connect to {to}"))?;
    let (mut server, seen) =
        wait_for("the connection to arrive", LIMIT, || match listener.accept() {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            accepted => Ok(Some(accepted?)),
        })?;
    let own = client.local_addr()?;
    ensure!(seen == own, "the client is {own}, but the server saw {seen}");
    server.set_nonblocking(false)?;
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(LIMIT))?;
    }
    let mut received = [0; MESSAGE.len()];
    client.write_all(MESSAGE)?;
    server.read_exact(&mut received).context("the server received nothing")?;
    server.write_all(&received)?;
    received.fill(0);
    client.read_exact(&mut received).context("no echo came back")?;
    ensure!(&received == MESSAGE, "the echo is another: {received:?}");
    Ok(Echo { to, seen })
}

/// Pings the server; gives the line that counts the answers, which have to be all.
pub(super) fn ping(world: &World) -> Result<String> {
    let to = world.address(Host::Server, Family::V4);
    let count = PINGS.to_string();
    let options = ["-q", "-c", &count, "-i", "0.1", "-W", "5"];
    let said = output(world.client.command("ping").args(options).arg(to.to_string()))?;
    let received = format!("{PINGS} received");
    let summary = said.lines().find(|line| line.contains(&received));
    let summary = summary.with_context(|| format!("not every ping was answered: {said}"))?;
    Ok(format!("ping {to}: {summary}"))
}
