//! Waiting for a condition, with a limit: the only waiting there is.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::bail;

/// Between two looks at a condition: short against what is waited for, long against a look.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// A clock that was started.
#[derive(Debug, Clone, Copy)]
pub struct Stopwatch {
    started: Instant,
}

impl Stopwatch {
    /// A clock that starts now.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "real programs are timed by the real clock")]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Waits until `condition` gives something; fails after `limit`, naming `what` was waited for, and
/// at once where the condition itself fails.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let clock = Stopwatch::start();
    loop {
        if let Some(found) = condition()? {
            return Ok(found);
        }
        if clock.elapsed() >= limit {
            bail!("waited {} ms in vain: {what}", limit.as_millis());
        }
        thread::park_timeout(POLL_INTERVAL);
    }
}

/// Waits until `condition` holds; fails after `limit`, naming `what` was waited for.
pub fn wait_until(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    wait_for(what, limit, || Ok(condition().then_some(())))
}
