//! The sign of life that the packet program looks for.

use std::time::Duration;

use anyhow::Context as _;
use steering_common::limits::HEARTBEAT_PERIOD_MS;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::pause;
use crate::clock::Clock;
use crate::steering::Steering;
use crate::task::Group;

/// Interval of the sign of life.
const HEARTBEAT: Duration = Duration::from_millis(HEARTBEAT_PERIOD_MS);

/// The heartbeat's task.
pub(super) struct Pulse {
    end: CancellationToken,
    /// Whether the programs are told at the end that no daemon is there any more.
    is_last: CancellationToken,
    task: Group,
}

impl Pulse {
    /// Beats from now on.
    pub(super) fn start(clock: Clock, steered: &Steering) -> anyhow::Result<Self> {
        let mut heartbeat = steered.heartbeat().context("steering cannot be kept alive")?;
        let (end, is_last, task) =
            (CancellationToken::new(), CancellationToken::new(), Group::new());
        let (ended, last) = (end.clone(), is_last.clone());
        task.start("heartbeat", async move {
            while !ended.is_cancelled() {
                if let Err(error) = heartbeat.beat() {
                    error!(%error, "The packet program cannot be told that the daemon is alive");
                }
                pause(clock, HEARTBEAT, &ended).await;
            }
            if last.is_cancelled()
                && let Err(error) = heartbeat.stop()
            {
                error!(%error, "The packet program cannot be told that the daemon stops");
            }
        });
        Ok(Self { end, is_last, task })
    }

    /// Tells the programs that the daemon stops.
    pub(super) async fn stop(self) {
        self.is_last.cancel();
        self.leave().await;
    }

    /// Beats no more, because another daemon does.
    pub(super) async fn leave(self) {
        self.end.cancel();
        self.task.join().await;
    }
}
