//! The clock: the only place that asks the system for the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// A monotonic clock that starts at zero, and the wall clock beside it.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that shows zero now.
    #[must_use]
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.start.elapsed()
    }

    /// Wall clock in nanoseconds since 1970-01-01 UTC; 0 before that.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    #[must_use]
    pub fn wall_ns(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }

    /// Wall clock in seconds since 1970-01-01 UTC, as certificates count; 0 before that.
    #[must_use]
    pub fn wall_s(&self) -> u64 {
        Duration::from_nanos(self.wall_ns()).as_secs()
    }

    /// Waits until the clock shows `at`; at once if it has passed. Cancel-safe.
    pub async fn sleep_until(&self, at: Duration) {
        match self.start.checked_add(at) {
            Some(instant) => tokio::time::sleep_until(instant).await,
            // A time so far away that it cannot be expressed never comes.
            None => std::future::pending().await,
        }
    }
}
