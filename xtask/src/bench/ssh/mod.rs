//! SSH through the gateway, beside a direct connection and beside others that stand between.
//!
//! `docs/benchmarks.md` says how it is measured and how to read it.

mod bulk;
mod files;
mod idle;
mod latency;
mod piped;
mod soak;
mod ssh_j;
mod ssh_mitm;
mod stage;
mod stalled;
mod subject;
mod turns;

use anyhow::Result;
use e2e::world::World;

pub(super) use self::soak::soak;
use self::stage::Stage;
use super::report::Report;

/// The user, on the server.
const USER: &str = "alice";

/// The key exchange of all. OpenSSH's own choice takes it tens of milliseconds, and the gateway
/// would look fast for choosing another.
const KEX: &str = "curve25519-sha256";

/// The same by the name that some peers know it by.
const KEX_OTHER_NAME: &str = "curve25519-sha256@libssh.org";

/// Sessions at one time that the daemon takes where its memory is not measured.
const SESSIONS_MAX: u16 = 400;

/// What versions of the gateway are compared by.
const SUMMARY: [&str; 14] = [
    "gcm_down_ratio",
    "gcm_up_ratio",
    "chacha_down_ratio",
    "chacha_up_ratio",
    "recorded_gcm_down_ratio",
    "cpu_s_per_gib_gcm",
    "cpu_s_per_gib_gcm_recorded",
    "rss_idle_kb",
    "rss_idle_recorded_kb",
    "echo_extra_us",
    "stalled_channel_delay_ms",
    "two_way_bulk_ratio",
    "connects_per_s",
    "gcm_down_over_ssh_j",
];

/// Measures everything; what was found before a failure is in the report all the same.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    for key in SUMMARY {
        report.summarize(key, None);
    }
    {
        let world = World::router()?;
        let mut stage = Stage::start(&world, SESSIONS_MAX)?;
        stage.add_peers()?;
        bulk::measure(&stage, report)?;
        files::measure(&stage, report)?;
        latency::measure(&stage, report)?;
        stalled::measure(&stage, report)?;
        stage.proxyd.stop()?;
    }
    idle::measure(report)
}
