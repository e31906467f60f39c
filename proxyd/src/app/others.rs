//! The daemons of this gateway beside this one: those that it took over from, and dead ones.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tracing::{info, warn};
use uuid::Uuid;

use crate::clock::Clock;
use crate::control::{Answer, Earlier, Place, Request};
use crate::presence::Presence;
use crate::recording::{Recordings, hexadecimal};
use crate::store::Store;

/// How long earlier daemons may take to end after their sessions' time is over: they seal trails.
pub(super) const RETIRED_LIMIT: Duration = Duration::from_secs(15);

/// Interval of looks at whether they have ended.
const LOOK: Duration = Duration::from_millis(100);

/// Looks after what daemons leave that die with sessions.
pub(super) struct Others {
    clock: Clock,
    presence: Presence,
    store: Store,
    recordings: Recordings,
    /// The path by which operators find the daemon that serves.
    public: PathBuf,
    earlier: Earlier,
}

impl Others {
    /// Beside the daemon of this `presence`.
    pub(super) fn new(
        clock: Clock,
        presence: Presence,
        store: Store,
        recordings: Recordings,
        public: &Path,
    ) -> Self {
        let (public, earlier) = (public.to_owned(), Earlier::default());
        Self { clock, presence, store, recordings, public, earlier }
    }

    /// This daemon's own socket.
    pub(super) fn place(&self) -> Place {
        self.place_of(self.presence.id())
    }

    /// The database.
    pub(super) const fn store(&self) -> &Store {
        &self.store
    }

    /// The living ones' sockets, for whoever asks them.
    pub(super) const fn earlier(&self) -> &Earlier {
        &self.earlier
    }

    /// Closes rows and trails that dead daemons left, whether or not the daemons are known.
    pub(super) async fn settle(&self) -> anyhow::Result<()> {
        let others = self.presence.others()?;
        self.meet(&others.living);
        let living = [&*others.living, &[self.presence.id()]].concat();
        let abandoned = self.store.end_abandoned(self.clock.wall_ns(), &living).await?;
        if abandoned > 0 {
            warn!(sessions = abandoned, "Sessions were cut off when a daemon died");
        }
        let recordings = self.recordings.clone();
        for recovered in tokio::task::spawn_blocking(move || recordings.recover()).await?? {
            let hash = hexadecimal(recovered.recovery.hash());
            self.store.keep_trail_hash(&recovered.name, &hash).await?;
        }
        for dead in others.dead {
            self.place_of(dead).clear()?;
            self.presence.forget(dead)?;
        }
        Ok(())
    }

    /// Does so if one has died since it was last called.
    pub(super) async fn look(&self) -> anyhow::Result<()> {
        let others = self.presence.others()?;
        self.meet(&others.living);
        if others.dead.is_empty() {
            return Ok(());
        }
        info!(daemons = others.dead.len(), "An earlier daemon is dead");
        self.settle().await
    }

    /// Lets earlier daemons hold their sessions against the changed file; what each says to that.
    pub(super) async fn reload(&self) -> Vec<String> {
        let answers = self.earlier.ask(&Request::Reload).await;
        let said = answers.into_iter().filter_map(|answer| match answer {
            Answer::Reloaded { summary } => Some(summary),
            Answer::Unchanged { problem } => Some(format!("its sessions go on, {problem}")),
            Answer::Refused { error } => Some(error),
            Answer::Sessions { .. }
            | Answer::Terminated { .. }
            | Answer::Requests { .. }
            | Answer::Decided { .. }
            | Answer::Retiring => None,
        });
        said.collect()
    }

    /// Tells earlier daemons to end.
    pub(super) async fn retire(&self) {
        let told = self.earlier.ask(&Request::Retire).await;
        if !told.is_empty() {
            info!(daemons = told.len(), "Earlier daemons end too");
        }
    }

    /// Waits until no other daemon lives. Cancel-safe.
    pub(super) async fn gone(&self) {
        while self.presence.others().is_ok_and(|others| !others.living.is_empty()) {
            self.clock.sleep_until(self.clock.now().saturating_add(LOOK)).await;
        }
    }

    /// This daemon ends, and leaves nothing to look after.
    pub(super) fn leave(self) -> std::io::Result<()> {
        self.presence.leave()
    }

    fn meet(&self, living: &[Uuid]) {
        self.earlier.set(living.iter().map(|id| self.place_of(*id).own().to_owned()).collect());
    }

    fn place_of(&self, daemon: Uuid) -> Place {
        Place::of(daemon, &self.public)
    }
}
