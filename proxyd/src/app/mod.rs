//! The composition root: configuration → handles → listeners → sessions → drain.

mod entrance;
mod gateway;
mod hand_over;
mod in_force;
mod index;
mod others;
mod pulse;
mod reload;
mod running;
mod signals;
mod take_over;

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::stat::{Mode, umask};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use self::entrance::Entrance;
use self::gateway::Gateway;
use self::index::Index;
use self::others::Others;
use self::pulse::Pulse;
use self::running::{End, Operators, Running};
use self::signals::Signals;
use self::take_over::TakeOver;
use crate::clock::Clock;
use crate::config::{Config, Database};
use crate::control::{self, Desk};
use crate::handover::Handed;
use crate::presence::Presence;
use crate::recording::Recordings;
use crate::steering::plan::PolicyRule;
use crate::steering::watch::Watch;
use crate::steering::{self, HeldPairs, Listeners, Steering, SteeringSetup};
use crate::store::Store;
use crate::task::Group;

/// Orders of operators that wait; whoever gives more waits to be heard.
const ORDERS_WAITING_MAX: usize = 4;

/// The directory in the spool where daemons show that they live.
const DAEMONS: &str = ".daemons";

/// How the daemon comes to serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// No other daemon of this gateway serves.
    Fresh,
    /// It takes over from the one that does.
    TakeOver,
}

/// Runs the daemon until a signal ends it, or until another one has taken over and its sessions
/// have ended; `file` is where `config` was read.
pub async fn run(file: &Path, config: Config, start: Start) -> anyhow::Result<()> {
    // What the daemon writes (keys, sessions, trails, its socket) is for nobody else.
    umask(Mode::from_bits_truncate(0o077));
    let mut signals = Signals::listen()?;
    let clock = Clock::start();
    let tasks = Group::new();
    let (setup, rules) = steering::plan::plan(&config.steering, &config.policy)?;
    let (taken, mut entrance, lock) = enter(file, &config, start).await?;
    let pairs = HeldPairs::default();
    let (gateway, others) = build(&config, clock, lock, &tasks, pairs.clone()).await?;
    let operators = Operators { tasks: Group::new(), drained: CancellationToken::new() };
    let (orders, given) = mpsc::channel(ORDERS_WAITING_MAX);
    let (registry, earlier) = (gateway.registry().clone(), others.earlier().clone());
    let (place, desk) = (others.place(), Desk { clock, registry, orders, earlier });
    control::start(place.clone(), desk, &operators.tasks, operators.drained.clone())
        .context("the control socket cannot be opened")?;
    let unknown = "the control socket cannot be made known to operators";
    if taken.is_none() {
        place.publish().context(unknown)?;
    }
    let setup = SteeringSetup { takes_over: taken.is_some(), ..setup };
    let steered = steer(setup, &rules, &entrance, pairs).await?;
    let pulse = Pulse::start(clock, &steered)?;
    if let Some(taken) = taken {
        tokio::select! {
            finished = taken.finish() => finished.context("cannot take over")?,
            () = signals.stop() => bail!("stopped before it took over"),
        }
        if let Err(error) = place.publish() {
            error!(%error, "{unknown}");
        }
    }
    steered.replace_other_versions().context("the steering of another version stays")?;
    entrance.accept(&gateway);
    let index = Index::start(&config, clock, &others, &gateway)?;
    info!(policies = config.policy.connection_policies.len(), "Ready");
    let file = file.to_owned();
    let watch = Watch::start()?;
    let mut running = Running {
        file,
        config,
        clock,
        gateway,
        others,
        entrance,
        steered,
        watch,
        pulse,
        index,
        orders: given,
    };
    match running.keep_up(&mut signals).await {
        End::Stopped => running.stop(operators, tasks, &mut signals).await?,
        End::TakenOver => running.retire(operators, tasks, &mut signals).await?,
    }
    info!("Stopped");
    Ok(())
}

/// Steers by `rules` to the listeners of `entrance`.
async fn steer(
    setup: SteeringSetup,
    rules: &[PolicyRule],
    entrance: &Entrance,
    pairs: HeldPairs,
) -> anyhow::Result<Steering> {
    let [v4, v6] = entrance.sockets();
    let listeners = Listeners { v4: Some(v4), v6: Some(v6) };
    let started = Steering::start(setup, rules, listeners, pairs).await;
    started.context("steering cannot be started")
}

/// The listeners, with the daemon they were taken over from and the lock of its spool.
async fn enter(
    file: &Path,
    config: &Config,
    start: Start,
) -> anyhow::Result<(Option<TakeOver>, Entrance, Option<OwnedFd>)> {
    match start {
        Start::Fresh => Ok((None, Entrance::open(config.steering.listen_port)?, None)),
        Start::TakeOver => {
            let (taken, handed) = TakeOver::ask(&config.storage.control_socket, file).await?;
            let Handed { listeners: [v4, v6], lock } = handed;
            Ok((Some(taken), Entrance::of(v4, v6)?, Some(lock)))
        }
    }
}

/// The gateway's state and evidence, as far as they last from one daemon to the next.
async fn build(
    config: &Config,
    clock: Clock,
    lock: Option<OwnedFd>,
    tasks: &Group,
    pairs: HeldPairs,
) -> anyhow::Result<(Arc<Gateway>, Others)> {
    let storage = &config.storage;
    let database = match &storage.database {
        Database::Sqlite(file) => Some(file),
        Database::Postgres { .. } => None,
    };
    let files = [&storage.control_socket, &storage.signing_key_file].into_iter().chain(database);
    for directory in files.filter_map(|file| file.parent()) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    }
    // First of all, so that a second daemon stops before it touches what a first one writes.
    let recordings = Recordings::open(clock, storage, lock, tasks.clone())?;
    let presence = Presence::announce(&storage.spool.join(DAEMONS))
        .with_context(|| format!("cannot use the spool {}", storage.spool.display()))?;
    let store = Store::open(&storage.database, &storage.node).await?;
    let saver = store.saver(presence.id(), tasks.clone());
    let public = &storage.control_socket;
    let others = Others::new(clock, presence, store.clone(), recordings.clone(), public);
    others.settle().await?;
    let policies = Arc::clone(&config.policy);
    let gateway = Gateway::new(clock, (store, saver), recordings, &config.limits, policies, pairs);
    Ok((Arc::new(gateway), others))
}

/// Waits `time`, or until `stop`.
async fn pause(clock: Clock, time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = clock.sleep_until(clock.now().saturating_add(time)) => {}
        () = stop.cancelled() => {}
    }
}
