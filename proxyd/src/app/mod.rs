//! The composition root: configuration → handles → listeners → sessions → drain.

mod entrance;
mod gateway;
mod in_force;
mod pulse;
mod reload;
mod signals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::stat::{Mode, umask};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use self::entrance::Entrance;
use self::gateway::Gateway;
use self::pulse::Pulse;
use self::signals::{Asked, Signals};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{self, Order};
use crate::recording::{Recordings, hexadecimal};
use crate::steering::{self, Steering};
use crate::store::Store;
use crate::task::Group;

/// Interval at which hooks and routes are brought back to what they should be.
const RECONCILE: Duration = Duration::from_secs(5);

/// Orders of operators that wait; whoever gives more waits to be heard.
const ORDERS_WAITING_MAX: usize = 4;

/// Runs the daemon until a signal ends it; `file` is where `config` was read.
pub async fn run(file: &Path, config: Config) -> anyhow::Result<()> {
    // What the daemon writes (keys, sessions, trails, its socket) is for nobody else.
    umask(Mode::from_bits_truncate(0o077));
    let mut signals = Signals::listen()?;
    let clock = Clock::start();
    let tasks = Group::new();
    let (setup, rules) = steering::plan::plan(&config.steering, &config.policy)?;
    let mut entrance = Entrance::open(config.steering.listen_port)?;
    let gateway = Arc::new(build(&config, clock, &tasks).await?);
    let (drained, operators) = (CancellationToken::new(), Group::new());
    let (orders, given) = mpsc::channel(ORDERS_WAITING_MAX);
    let desk = control::Desk { clock, registry: gateway.registry().clone(), orders };
    control::start(&config.storage.control_socket, desk, &operators, drained.clone())
        .context("the control socket cannot be opened")?;
    let started = Steering::start(setup, &rules).await;
    let mut steered = started.context("steering cannot be started")?;
    let [v4, v6] = entrance.sockets();
    steered.register_listeners(Some(v4), Some(v6))?;
    let pulse = Pulse::start(clock, &steered)?;
    entrance.accept(&gateway)?;
    info!(policies = config.policy.connection_policies.len(), "Ready");
    let file = file.to_owned();
    let mut running = Running { file, config, clock, gateway, steered, orders: given };
    running.keep_up(&mut signals).await;
    let Running { gateway, config, steered, orders, .. } = running;
    // From now on operators are told that there is no reload.
    drop(orders);
    info!(sessions = gateway.registry().list().len(), "Stopping");
    pulse.stop().await;
    entrance.pause().await;
    gateway.drain(Some(config.limits.drain_timeout), tasks, &mut signals).await;
    drained.cancel();
    operators.join().await;
    steered.stop().await.context("steering cannot be removed")?;
    info!("Stopped");
    Ok(())
}

/// The gateway's state and evidence, as far as they last from one daemon to the next.
async fn build(config: &Config, clock: Clock, tasks: &Group) -> anyhow::Result<Gateway> {
    let storage = &config.storage;
    let files = [&storage.database, &storage.control_socket, &storage.signing_key_file];
    for directory in files.into_iter().filter_map(|file| file.parent()) {
        std::fs::create_dir_all(directory)
            .with_context(|| format!("cannot make the directory {}", directory.display()))?;
    }
    // First of all, so that a second daemon stops before it touches what a first one writes.
    let recordings = Recordings::open(
        clock,
        storage.spool.clone(),
        storage.trails.clone(),
        &storage.signing_key_file,
        tasks.clone(),
    )?;
    let store = Store::open(&storage.database).await?;
    let abandoned = store.end_abandoned(clock.wall_ns()).await?;
    if abandoned > 0 {
        warn!(sessions = abandoned, "Sessions were cut off when the daemon last ended");
    }
    let recover = recordings.clone();
    for recovered in tokio::task::spawn_blocking(move || recover.recover()).await?? {
        store.keep_trail_hash(&recovered.name, &hexadecimal(recovered.recovery.hash())).await?;
    }
    Ok(Gateway::new(clock, store, recordings, &config.limits, Arc::clone(&config.policy)))
}

/// The daemon while it serves.
struct Running {
    file: PathBuf,
    config: Config,
    clock: Clock,
    gateway: Arc<Gateway>,
    steered: Steering,
    orders: mpsc::Receiver<Order>,
}

impl Running {
    /// Obeys signals and operators, and keeps everything as it should be, until asked for the end.
    async fn keep_up(&mut self, signals: &mut Signals) {
        loop {
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => return,
                    Asked::Reload => drop(self.reload().await),
                },
                Some(order) = self.orders.recv() => match order {
                    // An operator who left does not read the answer.
                    Order::Reload(answer) => drop(answer.send(self.reload().await)),
                },
                () = self.clock.sleep_until(self.clock.now().saturating_add(RECONCILE)) => {}
            }
            self.tidy().await;
        }
    }

    async fn reload(&mut self) -> Result<String, String> {
        let Self { file, config, clock, gateway, steered, .. } = self;
        reload::reload(file, config, gateway, steered, *clock).await
    }

    async fn tidy(&mut self) {
        if let Err(error) = self.steered.reconcile().await {
            error!(%error, "Steering is not as it should be");
        }
        self.gateway.tell_refused();
        self.gateway.in_force().tidy(self.clock.now());
        let ended = self.gateway.registry().recheck(&self.config.policy, reload::BY_CHANGE);
        if ended > 0 {
            warn!(sessions = ended, "Sessions were ended that the last reload no longer allows");
        }
    }
}

/// Waits `time`, or until `stop`.
async fn pause(clock: Clock, time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = clock.sleep_until(clock.now().saturating_add(time)) => {}
        () = stop.cancelled() => {}
    }
}
