//! Transparent sockets: listeners that take connections addressed to others, and connections made
//! from an address that is not ours. The only module that may set a raw socket option.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpSocket, TcpStream};

/// The IP version of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6, without IPv4-mapped addresses.
    V6,
}

/// The address a connection to a server is made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The client's address, and its port where that is free.
    Client(SocketAddr),
    /// Whatever address of the gateway the route to the server prefers.
    Gateway,
    /// This address, from any port.
    Fixed(IpAddr),
}

/// Why a socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The socket could not be made or an option not set; transparency needs `CAP_NET_ADMIN`.
    #[error("cannot set {what} on a TCP socket")]
    Option {
        /// The option, as the manual pages name it.
        what: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The address is taken, or the kernel does not allow it.
    #[error("cannot bind a TCP socket to {address}")]
    Bind {
        /// The address asked for.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The socket cannot become a listener.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address bound to.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The server did not accept the connection.
    #[error("cannot connect to {target}")]
    Connect {
        /// The server's address.
        target: SocketAddr,
        /// What the kernel or the server said.
        #[source]
        source: io::Error,
    },
    /// The client's address and the server's are of two IP versions.
    #[error("cannot connect to {target} from {source_address}: different IP versions")]
    Versions {
        /// The server's address.
        target: SocketAddr,
        /// The address to connect from.
        source_address: IpAddr,
    },
}

/// A non-blocking transparent listener on the loopback address; port 0 lets the kernel choose.
///
/// It is not `SO_REUSEPORT`: the packet program assigns connections to this very socket. Accepted
/// sockets inherit `mark`, which is how the program knows their packets.
///
/// # Errors
/// Without `CAP_NET_ADMIN`, or when the port is taken.
pub fn transparent_listener(
    family: AddressFamily,
    port: u16,
    mark: u32,
    backlog: i32,
) -> Result<TcpListener, SocketError> {
    let address = match family {
        AddressFamily::V4 => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        AddressFamily::V6 => SocketAddr::from((Ipv6Addr::LOCALHOST, port)),
    };
    let socket = tcp_socket(address)?;
    if address.is_ipv6() {
        option("IPV6_V6ONLY", socket.set_only_v6(true))?;
    }
    // A daemon that starts again finds the port free although old connections linger.
    option("SO_REUSEADDR", socket.set_reuse_address(true))?;
    option("SO_MARK", socket.set_mark(mark))?;
    set_transparent(&socket, address)?;
    bind(&socket, address)?;
    socket.listen(backlog).map_err(|source| SocketError::Listen { address, source })?;
    Ok(socket.into())
}

/// Connects to `target` from `source`, marked with `mark` so that the packet program knows the
/// answers. The mark must not be the one that the policy routing rule looks for.
///
/// Not limited in time: the caller is. Dropping the future closes the socket.
///
/// # Errors
/// When the source address cannot be used, or the server does not answer or refuses.
pub async fn connect_from(
    source: Source,
    target: SocketAddr,
    mark: u32,
) -> Result<TcpStream, SocketError> {
    match source {
        Source::Gateway => connect(marked(target, mark)?, target).await,
        Source::Fixed(address) => {
            connect(bound(SocketAddr::new(address, 0), target, mark)?, target).await
        }
        Source::Client(client) => {
            let same_port = match bound(client, target, mark) {
                Ok(socket) => connect(socket, target).await,
                Err(error) => Err(error),
            };
            match same_port {
                // The port is in use by another connection of the client, or one just closed.
                Err(error) if is_taken(&error) => {
                    let any_port = SocketAddr::new(client.ip(), 0);
                    connect(bound(any_port, target, mark)?, target).await
                }
                outcome => outcome,
            }
        }
    }
}

/// Where the client wanted to go: the local address of a connection that a transparent listener
/// accepted. The listener's own address, when the client connected to it directly.
///
/// # Errors
/// When the connection is gone.
pub fn original_destination(stream: &TcpStream) -> io::Result<SocketAddr> {
    stream.local_addr()
}

fn tcp_socket(address: SocketAddr) -> Result<Socket, SocketError> {
    let domain = Domain::for_address(address);
    let socket = option("SOCK_STREAM", Socket::new(domain, Type::STREAM, Some(Protocol::TCP)))?;
    option("O_NONBLOCK", socket.set_nonblocking(true))?;
    Ok(socket)
}

fn marked(target: SocketAddr, mark: u32) -> Result<Socket, SocketError> {
    let socket = tcp_socket(target)?;
    option("SO_MARK", socket.set_mark(mark))?;
    Ok(socket)
}

/// A socket for `target` bound to `source`, which need not be an address of this host.
fn bound(source: SocketAddr, target: SocketAddr, mark: u32) -> Result<Socket, SocketError> {
    if source.is_ipv4() != target.is_ipv4() {
        return Err(SocketError::Versions { target, source_address: source.ip() });
    }
    let socket = marked(target, mark)?;
    set_transparent(&socket, target)?;
    if source.port() == 0 {
        // The port is chosen at connect, when the target is known: one per target and not one
        // per address.
        let set = setsockopt(&socket, sockopt::IpBindAddressNoPort, &true);
        option("IP_BIND_ADDRESS_NO_PORT", set.map_err(io::Error::from))?;
    } else {
        // The client may use one port towards several servers, and so must we.
        option("SO_REUSEADDR", socket.set_reuse_address(true))?;
    }
    bind(&socket, source)?;
    Ok(socket)
}

fn bind(socket: &Socket, address: SocketAddr) -> Result<(), SocketError> {
    socket.bind(&address.into()).map_err(|source| SocketError::Bind { address, source })
}

async fn connect(socket: Socket, target: SocketAddr) -> Result<TcpStream, SocketError> {
    TcpSocket::from_std_stream(socket.into())
        .connect(target)
        .await
        .map_err(|source| SocketError::Connect { target, source })
}

fn is_taken(error: &SocketError) -> bool {
    match error {
        SocketError::Bind { source, .. } | SocketError::Connect { source, .. } => {
            matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable)
        }
        SocketError::Option { .. } | SocketError::Listen { .. } | SocketError::Versions { .. } => {
            false
        }
    }
}

fn set_transparent(socket: &Socket, address: SocketAddr) -> Result<(), SocketError> {
    match address {
        SocketAddr::V4(_) => option("IP_TRANSPARENT", socket.set_ip_transparent_v4(true)),
        SocketAddr::V6(_) => option("IPV6_TRANSPARENT", socket.set_ip_transparent_v6(true)),
    }
}

fn option<T>(what: &'static str, result: io::Result<T>) -> Result<T, SocketError> {
    result.map_err(|source| SocketError::Option { what, source })
}

#[cfg(test)]
mod tests {
    use super::{SocketError, Source, connect_from};

    #[tokio::test]
    async fn ip_versions_must_agree() {
        let source = Source::Client("[2001:db8::1]:40000".parse().unwrap());
        let target = "192.0.2.1:22".parse().unwrap();
        let error = connect_from(source, target, 1).await.unwrap_err();
        assert!(matches!(error, SocketError::Versions { .. }), "{error}");
    }
}
