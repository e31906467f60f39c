//! What the listeners hand to the line.

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
