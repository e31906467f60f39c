//! Connecting on to the server.

use std::time::Duration;

use proxyd_policy::admit::Admitted;
use proxyd_policy::connection::SourcePolicy;
use steering_common::limits::SOCKET_MARK;
use thiserror::Error as ThisError;
use tokio::net::TcpStream;

use crate::net::accept::prepare;
use crate::net::socket::{self, SocketError, Source};
use crate::session::stop::Stop;
use crate::steering::{HeldPair, HeldPairs};
use crate::usermapping::Authorized;

/// A connection to the server that was authorized, before its first byte.
#[derive(Debug)]
pub struct TargetLink(TcpStream);

impl TargetLink {
    /// The socket.
    #[must_use]
    pub fn into_stream(self) -> TcpStream {
        self.0
    }
}

/// Why there is no connection to the server.
#[derive(Debug, ThisError)]
pub enum DialError {
    /// It refused, or nothing is there.
    #[error("cannot connect to the server {target}")]
    Connect {
        /// The server as the user knows it.
        target: String,
        /// Why.
        #[source]
        source: SocketError,
    },
    /// It did not answer in time.
    #[error("the server {target} did not answer within {} s", limit.as_secs())]
    Timeout {
        /// The server as the user knows it.
        target: String,
        /// The limit.
        limit: Duration,
    },
}

/// Connects to authorized targets.
#[derive(Debug, Clone)]
pub struct Dialer {
    limit: Duration,
    pairs: HeldPairs,
}

impl Dialer {
    /// A dialer that gives up after `limit`; `pairs` are those that the packet programs know.
    #[must_use]
    pub const fn new(limit: Duration, pairs: HeldPairs) -> Self {
        Self { limit, pairs }
    }

    /// Connects to the target, and to nothing else, from the address that the policy says.
    ///
    /// Where that is the client's, the server's answers are brought back as long as the pair is
    /// held.
    pub async fn connect(
        &self,
        admitted: &Admitted,
        authorized: &Authorized,
    ) -> Result<(TargetLink, Option<HeldPair>), Stop> {
        let (client, server) = (admitted.flow().client, authorized.target().address());
        let (source, pair) = match admitted.policy().source {
            SourcePolicy::Client => {
                (Source::Client(client), Some(self.pairs.hold(client.ip(), server.ip())))
            }
            SourcePolicy::Gateway => (Source::Gateway, None),
        };
        let target = || authorized.target().display();
        let connect = socket::connect_from(source, server, SOCKET_MARK);
        match tokio::time::timeout(self.limit, connect).await {
            Ok(Ok(stream)) => match prepare(&stream) {
                Ok(()) => Ok((TargetLink(stream), pair)),
                Err(error) => Err(Stop::server("connect", error)),
            },
            Ok(Err(source @ SocketError::Connect { .. })) => {
                Err(Stop::server("connect", DialError::Connect { target: target(), source }))
            }
            // A socket that cannot even be made or bound is our own fault.
            Ok(Err(error)) => Err(Stop::gateway("connect", error)),
            Err(_elapsed) => Err(Stop::server(
                "connect",
                DialError::Timeout { target: target(), limit: self.limit },
            )),
        }
    }
}
