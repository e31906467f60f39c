//! Four eyes: what waits for the approval of somebody else than its user.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use uuid::Uuid;

/// Requests of one session that wait at a time; people decide one after the other.
pub const REQUESTS_MAX: usize = 16;

/// A channel that waits, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The request; good for one decision.
    pub id: Uuid,
    /// The session.
    pub session: Uuid,
    /// Wall clock since which it waits, in nanoseconds since 1970.
    pub since_ns: u64,
    /// Wall clock from which it is refused.
    pub expires_ns: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// The gateway user; empty where there is none.
    pub gateway_user: String,
    /// The user on the server.
    pub remote_user: String,
    /// The server.
    pub target: String,
    /// What is to be opened.
    pub wish: Wish,
}

/// What is to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wish {
    /// The type of the channel.
    pub kind: String,
    /// The command, the address or the path, cleaned.
    pub detail: String,
}

/// What somebody has decided.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether it may be opened.
    pub approved: bool,
    /// Who, as they say themselves.
    pub by: String,
    /// Why, for the record; may be empty.
    pub reason: String,
}

/// What became of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The session has it.
    Taken,
    /// No such request waits.
    Unknown,
    /// The gateway user may not decide about their own request.
    SameUser,
}

/// Where a session has its decisions from.
#[derive(Debug)]
pub(super) struct Inbox {
    /// Given out with each request.
    pub(super) sender: mpsc::Sender<(Uuid, Decision)>,
    /// Read by the session.
    pub(super) receiver: mpsc::Receiver<(Uuid, Decision)>,
}

impl Inbox {
    /// An empty one.
    pub(super) fn new() -> Self {
        let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
        Self { sender, receiver }
    }
}
