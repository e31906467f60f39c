//! The listeners, and the tasks that accept from them.

use std::net::TcpListener as StdListener;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;

use anyhow::Context as _;
use steering_common::limits::SOCKET_MARK;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::gateway::Gateway;
use crate::net::socket::{AddressFamily, transparent_listener};
use crate::task::Group;

/// Connections that the kernel completes before we accept them; above it answers with SYN
/// cookies.
const BACKLOG: i32 = 4_096;

/// A listener for each IP version. Connections wait in them while nobody accepts.
pub(super) struct Entrance {
    v4: Arc<TcpListener>,
    v6: Arc<TcpListener>,
    accepting: Option<(CancellationToken, Group)>,
}

impl Entrance {
    /// New listeners on the loopback addresses.
    pub(super) fn open(port: u16) -> anyhow::Result<Self> {
        let v4 = transparent_listener(AddressFamily::V4, port, SOCKET_MARK, BACKLOG)?;
        let v6 = transparent_listener(AddressFamily::V6, port, SOCKET_MARK, BACKLOG)?;
        Self::of(v4, v6)
    }

    /// These listeners, which do not block.
    pub(super) fn of(v4: StdListener, v6: StdListener) -> anyhow::Result<Self> {
        let usable = |listener| {
            TcpListener::from_std(listener).map(Arc::new).context("a listener cannot be used")
        };
        Ok(Self { v4: usable(v4)?, v6: usable(v6)?, accepting: None })
    }

    /// The listeners, IPv4 first.
    pub(super) fn sockets(&self) -> [BorrowedFd<'_>; 2] {
        [self.v4.as_fd(), self.v6.as_fd()]
    }

    /// Accepts connections for `gateway` until [`Entrance::pause`].
    pub(super) fn accept(&mut self, gateway: &Arc<Gateway>) {
        let (stop, tasks) = (CancellationToken::new(), Group::new());
        for listener in [&self.v4, &self.v6] {
            let (gateway, listener, stop) =
                (Arc::clone(gateway), Arc::clone(listener), stop.clone());
            tasks.start("listener", async move { gateway.accept_all(&listener, &stop).await });
        }
        self.accepting = Some((stop, tasks));
    }

    /// Whether it accepts connections.
    pub(super) const fn is_open(&self) -> bool {
        self.accepting.is_some()
    }

    /// Stops accepting; returns when no connection is half way in.
    pub(super) async fn pause(&mut self) {
        if let Some((stop, tasks)) = self.accepting.take() {
            stop.cancel();
            tasks.join().await;
        }
    }
}
