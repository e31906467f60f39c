//! What all sessions share; made when the daemon starts, and again when its limits change.

use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::dial::Dialer;
use crate::gateway::Gateways;
use crate::recording::Recordings;
use crate::store::saver::Saver;

/// Shared handles; only the line sees them together.
#[derive(Debug, Clone)]
pub struct Ctx {
    /// The clock.
    pub clock: Clock,
    /// Writes sessions to the database.
    pub saver: Saver,
    /// Gateway authentication.
    pub gateways: Arc<Gateways>,
    /// Connections to servers.
    pub dialer: Dialer,
    /// Trails.
    pub recordings: Recordings,
    /// How long a server's name may take to resolve.
    pub resolve_limit: Duration,
}
