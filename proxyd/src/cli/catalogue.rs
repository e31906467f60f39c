//! What the commands on the catalogue share: whose sessions, the database, times in words.

use std::path::Path;

use anyhow::{Context as _, bail};
use jiff::{Timestamp, Zoned};
use nix::sys::stat::{Mode, umask};

use crate::config;
use crate::store::Store;
use crate::store::search::Filter;

/// Which sessions; all of it has to hold.
#[derive(Debug, clap::Args)]
pub(super) struct Of {
    /// Of this gateway user, or of this user on the server.
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// From this client.
    #[arg(long, value_name = "ADDRESS")]
    client: Option<String>,
    /// To this server.
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    target: Option<String>,
    /// Under this connection policy.
    #[arg(long, value_name = "NAME")]
    policy: Option<String>,
    /// By this protocol.
    #[arg(long, value_name = "NAME")]
    protocol: Option<String>,
    /// That ended like this, such as "closed" or "denied"; "active" for live ones.
    #[arg(long, value_name = "OUTCOME")]
    outcome: Option<String>,
    /// That started then or later: a time ago (90s, 30m, 12h, 7d, 4w), a date, or a time (RFC
    /// 3339).
    #[arg(long, value_name = "WHEN")]
    since: Option<String>,
    /// That started before then.
    #[arg(long, value_name = "WHEN")]
    until: Option<String>,
}

impl Of {
    pub(super) fn filter(&self) -> anyhow::Result<Filter> {
        let Self { user, client, target, policy, protocol, outcome, since, until } = self;
        let when = |text: &Option<String>| text.as_deref().map(wall_ns).transpose();
        Ok(Filter {
            user: user.clone(),
            client: client.clone(),
            target: target.clone(),
            policy: policy.clone(),
            protocol: protocol.clone(),
            outcome: outcome.clone(),
            since_ns: when(since)?,
            until_ns: when(until)?,
        })
    }
}

/// Asks the database that a configuration file names.
pub(super) fn with<T>(
    config: &Path,
    ask: impl AsyncFnOnce(&Store) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    // A database that is made here is for its owner alone, as one that the gateway makes.
    umask(Mode::from_bits_truncate(0o077));
    let storage = config::load(config)?.storage;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    runtime.block_on(async {
        let store = Store::open(&storage.database, &storage.node).await?;
        ask(&store).await
    })
}

/// A time in words as a wall clock, in nanoseconds since 1970.
fn wall_ns(text: &str) -> anyhow::Result<u64> {
    let time = match ago_s(text) {
        Some(seconds) => Timestamp::now().as_nanosecond() - i128::from(seconds) * NS_PER_S,
        None => at(text)?.as_nanosecond(),
    };
    u64::try_from(time).with_context(|| format!("{text:?} is before 1970"))
}

/// Bytes of a text that are shown in a line.
const TEXT_BYTES_MAX: usize = 16 * 1024;

const NS_PER_S: i128 = 1_000_000_000;

/// Seconds of `90s`, `30m`, `12h`, `7d`, `4w`.
fn ago_s(text: &str) -> Option<u64> {
    let unit_at = text.len().checked_sub(1)?;
    let (count, unit) = text.split_at_checked(unit_at)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    count.parse::<u64>().ok()?.checked_mul(seconds)
}

/// A time with its offset, or a date or time of this machine's zone.
fn at(text: &str) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let Ok(time) = text.parse::<jiff::civil::DateTime>() else {
        bail!("{text:?} is no time: use 7d, 2026-11-24, 2026-11-24T18:00 or RFC 3339")
    };
    let zoned: Zoned = time.to_zoned(jiff::tz::TimeZone::system())?;
    Ok(zoned.timestamp())
}

/// A wall clock in UTC, as RFC 3339 writes it.
pub(super) fn wall_clock(ns: u64) -> String {
    Timestamp::from_nanosecond(i128::from(ns))
        .map_or_else(|_out_of_range| format!("{ns} ns"), |time| time.to_string())
}

/// Time since a session's start, as `trail replay --at` takes it.
pub(super) fn offset(ns: u64) -> String {
    let ms = ns / 1_000_000;
    let (hours, minutes) = (ms / 3_600_000, ms / 60_000 % 60);
    format!("{hours:02}:{minutes:02}:{:02}.{:03}", ms / 1_000 % 60, ms % 1_000)
}

/// A text of a peer's, without what would act on the terminal that shows it.
pub(super) fn shown(text: &str) -> String {
    proxyd_ssh::message::text::one_line(text.as_bytes(), TEXT_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(ago_s("7d"), Some(604_800));
        assert_eq!(ago_s("90s"), Some(90));
        for no_time_ago in ["", "d", "7", "7y", "-7d", "7é", "99999999999999999999w"] {
            assert_eq!(ago_s(no_time_ago), None, "{no_time_ago}");
        }
        assert_eq!(wall_ns("1970-01-01T00:00:01Z").unwrap(), 1_000_000_000);
        assert_eq!(wall_ns("2026-11-24T18:00:00+01:00").unwrap(), 1_795_539_600_000_000_000);
        wall_ns("2026-11-24").unwrap();
        for bad in ["yesterday", "1969-01-01T00:00:00Z", "99999999w"] {
            wall_ns(bad).unwrap_err();
        }
        assert_eq!(offset(3_661_001_000_000), "01:01:01.001");
    }
}
