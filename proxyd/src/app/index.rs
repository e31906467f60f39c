//! The task that looks into finished trails, of the daemon that serves.

use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use super::gateway::Gateway;
use super::others::Others;
use crate::clock::Clock;
use crate::config::Config;
use crate::index::Indexer;
use crate::task::Group;

/// Its task; there is none where no identity is configured.
pub(super) struct Index {
    tasks: Group,
    stop: CancellationToken,
}

impl Index {
    /// Starts it.
    pub(super) fn start(
        config: &Config,
        clock: Clock,
        others: &Others,
        gateway: &Gateway,
    ) -> anyhow::Result<Self> {
        let (tasks, stop) = (Group::new(), CancellationToken::new());
        let storage = &config.storage;
        if let Some(file) = &storage.index_identity_file {
            let (store, key) = (others.store().clone(), gateway.recordings().public_key());
            Indexer::open(clock, store, &storage.trails, key, file)
                .context("trails cannot be indexed")?
                .start(&tasks, stop.clone());
        }
        Ok(Self { tasks, stop })
    }

    /// Ends it; a trail that it is looking into is taken again later.
    pub(super) async fn stop(self) {
        self.stop.cancel();
        self.tasks.join().await;
    }
}
