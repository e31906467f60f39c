//! Where the server listens because the client asked it to, and the policy let it.

use super::case::Endpoint;
use crate::limits::LISTENERS_MAX;

/// One place where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Listener {
    /// A TCP port, at an address as the client wrote it.
    Tcp {
        /// The address.
        host: Vec<u8>,
        /// The port; 0 until the server has chosen one.
        port: u32,
    },
    /// A Unix socket.
    Socket(Vec<u8>),
}

impl Listener {
    /// As it is written in a message.
    pub(super) fn of(at: &Endpoint<'_>) -> Self {
        match at {
            Endpoint::Tcp(address) => Self::Tcp { host: address.host.to_vec(), port: address.port },
            Endpoint::Socket(path) => Self::Socket(path.to_vec()),
        }
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Listeners(Vec<Listener>);

impl Listeners {
    /// Whether no further one fits.
    pub(super) const fn is_full(&self) -> bool {
        self.0.len() >= LISTENERS_MAX
    }

    /// The server listens there.
    pub(super) fn add(&mut self, listener: Listener) {
        if !self.is_full() {
            self.0.push(listener);
        }
    }

    /// The server listens there no more.
    pub(super) fn remove(&mut self, listener: &Listener) {
        if let Some(at) = self.0.iter().position(|known| known == listener) {
            self.0.swap_remove(at);
        }
    }

    /// Whether the server was let listen there: by its port, as servers name the address in more
    /// than one way, or by the path of its socket.
    pub(super) fn allows(&self, at: &Endpoint<'_>) -> bool {
        self.0.iter().any(|listener| match (listener, at) {
            (Listener::Tcp { port, .. }, Endpoint::Tcp(address)) => *port == address.port,
            (Listener::Socket(path), Endpoint::Socket(named)) => path == named,
            (Listener::Tcp { .. } | Listener::Socket(_), _) => false,
        })
    }

    /// Whether the client may ask to end this one.
    pub(super) fn has(&self, listener: &Listener) -> bool {
        self.0.contains(listener)
    }
}
