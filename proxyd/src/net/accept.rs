//! What the listeners hand to the line.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

/// An accepted connection.
#[derive(Debug)]
pub struct Accepted {
    /// The client's socket; its local address is the one the client connected to.
    pub stream: TcpStream,
    /// The place among the connections that nobody has authenticated on yet.
    pub handshake: OwnedSemaphorePermit,
}

/// Quiet time after which a peer is asked whether it is still there.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);

/// Time between such questions; after the kernel's usual number of them the peer is gone.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);

/// Makes a peer's connection fit for a session.
///
/// Keystrokes do not wait for acknowledgements. A peer that vanished without a word is found: each
/// side's own keepalive ends here and would not reach the other.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(KEEPALIVE_AFTER).with_interval(KEEPALIVE_INTERVAL);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}
