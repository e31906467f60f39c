//! The daemon while it serves, and how it ends: stopped, or taken over from.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::entrance::Entrance;
use super::gateway::Gateway;
use super::hand_over::{HandOverError, Offer, hand_over, refuse};
use super::index::Index;
use super::others::Others;
use super::pulse::Pulse;
use super::signals::{Asked, Signals};
use super::{others, reload, steer};
use crate::clock::Clock;
use crate::config::Config;
use crate::control::{Order, TakeOver};
use crate::session::stop::chain;
use crate::steering::watch::Watch;
use crate::steering::{self, Steering, SteeringSetup};
use crate::task::Group;

/// Interval at which everything is brought back to what it should be.
const RECONCILE: Duration = Duration::from_secs(5);

/// The daemon while it serves.
pub(super) struct Running {
    /// Where the configuration was read.
    pub(super) file: PathBuf,
    /// The configuration in force.
    pub(super) config: Config,
    /// The clock.
    pub(super) clock: Clock,
    /// The sessions.
    pub(super) gateway: Arc<Gateway>,
    /// The other daemons of this gateway.
    pub(super) others: Others,
    /// The listeners.
    pub(super) entrance: Entrance,
    /// The data plane.
    pub(super) steered: Steering,
    /// Word of changes around it.
    pub(super) watch: Watch,
    /// The heartbeat.
    pub(super) pulse: Pulse,
    /// Who looks into finished trails.
    pub(super) index: Index,
    /// What operators and other daemons ask for.
    pub(super) orders: mpsc::Receiver<Order>,
}

/// The tasks of the control socket.
pub(super) struct Operators {
    /// The tasks.
    pub(super) tasks: Group,
    /// Cancelled when there is nothing left to ask about.
    pub(super) drained: CancellationToken,
}

impl Operators {
    async fn close(self) {
        self.drained.cancel();
        self.tasks.join().await;
    }
}

/// Why a daemon serves no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A signal asked for it.
    Stopped,
    /// Another daemon serves in its place.
    TakenOver,
}

impl Running {
    /// Obeys signals and operators, and keeps everything as it should be, until the end.
    pub(super) async fn keep_up(&mut self, signals: &mut Signals) -> End {
        loop {
            let tick = self.clock.sleep_until(self.clock.now().saturating_add(RECONCILE));
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => return End::Stopped,
                    Asked::Reload => drop(self.reload().await),
                },
                Some(order) = self.orders.recv() => match order {
                    // An operator who left does not read the answer.
                    Order::Reload(answer) => drop(answer.send(self.reload().await)),
                    Order::Retire => warn!("A daemon that serves was told to retire"),
                    Order::TakeOver(asked) => {
                        if let Some(end) = self.hand_over(asked, signals).await {
                            return end;
                        }
                    }
                },
                () = self.watch.changed() => {
                    self.steer_on().await;
                    continue;
                }
                () = tick => {}
            }
            self.tidy().await;
        }
    }

    /// Steers what is there now.
    async fn steer_on(&mut self) {
        let is_alone = self.others.earlier().is_empty();
        if let Err(error) = self.steered.reconcile(is_alone).await {
            error!(%error, "Steering is not as it should be");
        }
    }

    /// Stops: new connections meet `on_proxy_down`, sessions get their time to end, also those of
    /// earlier daemons, and steering is removed.
    pub(super) async fn stop(
        self,
        operators: Operators,
        tasks: Group,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        info!(sessions = self.gateway.registry().list().len(), "Stopping");
        let Self {
            config,
            clock,
            gateway,
            others,
            mut entrance,
            steered,
            pulse,
            index,
            orders,
            ..
        } = self;
        // From now on operators are told that there is no reload.
        drop(orders);
        index.stop().await;
        pulse.stop().await;
        entrance.pause().await;
        others.retire().await;
        let limit = clock.now().saturating_add(config.limits.drain_timeout);
        let over = async {
            tokio::select! {
                () = clock.sleep_until(limit) => {}
                // Whoever asks twice does not want to wait.
                () = signals.stop() => {}
            }
        };
        let is_drained = gateway.drain(over, tasks).await;
        // Without steering, their sessions' packets would go astray.
        let limit = limit.saturating_add(others::RETIRED_LIMIT);
        tokio::select! {
            () = others.gone() => {}
            () = clock.sleep_until(limit) => error!("Earlier daemons still have sessions"),
            () = signals.stop() => {}
        }
        operators.close().await;
        leave(others, is_drained)?;
        steered.stop().await.context("steering cannot be removed")
    }

    /// Lets the sessions end that this daemon has, while another one serves.
    pub(super) async fn retire(
        self,
        operators: Operators,
        tasks: Group,
        signals: &mut Signals,
    ) -> anyhow::Result<()> {
        let Self {
            file,
            config,
            clock,
            gateway,
            others,
            entrance,
            steered,
            pulse,
            index,
            orders,
            ..
        } = self;
        index.stop().await;
        pulse.leave().await;
        // Programs, table and routes stay in place: they are the other daemon's now.
        drop((entrance, steered));
        gateway.recordings().give_up_lock();
        others.earlier().set(Vec::new());
        info!(sessions = gateway.registry().list().len(), "Another daemon has taken over");
        let limits = config.limits;
        let mut retired = Retired { file, config, clock, gateway: Arc::clone(&gateway), orders };
        let over = async {
            let limit =
                limits.takeover_drain_timeout.map(|limit| clock.now().saturating_add(limit));
            tokio::select! {
                () = retired.obey() => {}
                () = signals.stop() => {}
                () = sleep_until(clock, limit) => return,
            }
            let limit = clock.now().saturating_add(limits.drain_timeout);
            tokio::select! {
                () = clock.sleep_until(limit) => {}
                () = signals.stop() => {}
            }
        };
        let is_drained = gateway.drain(over, tasks).await;
        operators.close().await;
        leave(others, is_drained)
    }

    async fn reload(&mut self) -> Result<String, String> {
        let Self { file, config, clock, gateway, steered, .. } = self;
        let mut summary = reload::reload(file, config, gateway, steered, *clock).await?;
        for said in self.others.reload().await {
            summary.push_str("; an earlier daemon: ");
            summary.push_str(&said);
        }
        Ok(summary)
    }

    /// Hands over to the daemon that asks. Where this fails and no signal has asked for the end,
    /// everything is as it was before.
    async fn hand_over(&mut self, asked: TakeOver, signals: &mut Signals) -> Option<End> {
        info!("Another daemon asks to take over");
        let recordings = self.gateway.recordings();
        let Self { file, config, entrance, .. } = self;
        let offer = Offer { file, config, entrance, recordings: &recordings };
        let Err(failed) = hand_over(asked, offer, signals).await else {
            return Some(End::TakenOver);
        };
        warn!("Not taken over, this daemon goes on: {}", chain(&failed));
        if let Err(error) = self.resume().await {
            error!(error = format!("{error:#}"), "What was begun could not be taken back whole");
        }
        matches!(failed, HandOverError::Stopping).then_some(End::Stopped)
    }

    /// Accepts again, and puts back what the other daemon may have put in the place of ours.
    async fn resume(&mut self) -> anyhow::Result<()> {
        if !self.entrance.is_open() {
            self.entrance.accept(&self.gateway);
        }
        self.others.place().publish().context("the control socket cannot be made known")?;
        let (setup, rules) = steering::plan::plan(&self.config.steering, &self.config.policy)?;
        if let Err(error) = self.steered.publish(&rules).await {
            warn!(%error, "Steering has to be begun again");
            let pairs = self.gateway.pairs().clone();
            // From the one that this daemon has still.
            let setup = SteeringSetup { takes_over: true, ..setup };
            self.steered = steer(setup, &rules, &self.entrance, pairs).await?;
            let pulse = Pulse::start(self.clock, &self.steered)?;
            mem::replace(&mut self.pulse, pulse).leave().await;
        }
        // Programs of a new daemon whose maps have another layout run before ours.
        self.steered.replace_other_versions().context("the steering of another version stays")?;
        info!("Steering is in force again");
        Ok(())
    }

    async fn tidy(&mut self) {
        self.steer_on().await;
        if let Err(error) = self.others.look().await {
            error!(error = format!("{error:#}"), "What a dead daemon left cannot be looked after");
        }
        self.gateway.tell_refused();
        self.gateway.in_force().tidy(self.clock.now());
        let ended = self.gateway.recheck(&self.config.policy);
        if ended > 0 {
            warn!(sessions = ended, "Sessions were ended that the last reload no longer allows");
        }
    }
}

/// A daemon that another one has taken over from.
struct Retired {
    file: PathBuf,
    config: Config,
    clock: Clock,
    gateway: Arc<Gateway>,
    orders: mpsc::Receiver<Order>,
}

impl Retired {
    /// Obeys the daemon that serves, until that ends.
    async fn obey(&mut self) {
        loop {
            let tick = self.clock.sleep_until(self.clock.now().saturating_add(RECONCILE));
            tokio::select! {
                Some(order) = self.orders.recv() => match order {
                    Order::Reload(answer) => drop(answer.send(self.recheck().await)),
                    Order::Retire => return,
                    Order::TakeOver(asked) => refuse(asked, HandOverError::NotServing).await,
                },
                () = tick => {}
            }
            // The daemon that serves forgets pairs that nobody claims.
            self.gateway.pairs().refresh();
            self.gateway.recheck(&self.config.policy);
        }
    }

    /// Holds the sessions against the file as it is now.
    async fn recheck(&mut self) -> Result<String, String> {
        match reload::read(&self.file, &self.config).await {
            Ok(new) => {
                self.config = new;
                let ended = self.gateway.recheck(&self.config.policy);
                Ok(format!("sessions ended: {ended}"))
            }
            Err(problem) => Err(chain(&problem)),
        }
    }
}

/// Takes this daemon off the list, unless it leaves something that a living one has to close.
fn leave(others: Others, is_drained: bool) -> anyhow::Result<()> {
    if is_drained {
        others.leave().context("this daemon cannot be taken off the list")?;
    }
    Ok(())
}

/// Waits until then; without a time, for ever.
async fn sleep_until(clock: Clock, at: Option<Duration>) {
    match at {
        Some(at) => clock.sleep_until(at).await,
        None => std::future::pending().await,
    }
}
