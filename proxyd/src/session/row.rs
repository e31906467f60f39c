//! The row of a session: what is found of it first.

use serde::Serialize;
use uuid::Uuid;

/// What a session is called while it lives.
pub const ACTIVE: &str = "active";

/// The row of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionRow {
    /// The session.
    pub id: Uuid,
    /// Wall clock of its start, in nanoseconds since 1970.
    pub started_ns: u64,
    /// Wall clock of its end; none while it lives.
    pub ended_ns: Option<u64>,
    /// The protocol.
    pub protocol: String,
    /// The connection policy; empty where none matched.
    pub policy: String,
    /// The client's address and port.
    pub client: String,
    /// Address and port the client connected to.
    pub original_destination: String,
    /// Address and port of the server; empty until chosen.
    pub target: String,
    /// The gateway user; empty where there is none.
    pub gateway_user: String,
    /// The user on the server; empty until mapped.
    pub remote_user: String,
    /// File name of its trail; empty where nothing is recorded.
    pub trail: String,
    /// SHA-256 that the sealed trail ends with, in hexadecimal: whoever compares it notices a trail
    /// that was put in this one's place. Empty until then.
    pub trail_hash: String,
    /// [`ACTIVE`], then how it ended.
    pub outcome: String,
    /// Why it ended so.
    pub reason: String,
}
