//! The composition root: configuration → handles → listeners → sessions → drain.

use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::stat::{Mode, umask};
use proxyd_policy::DenyReason;
use proxyd_policy::admit::{Flow, PolicySet};
use steering_common::limits::{HEARTBEAT_PERIOD_MS, SOCKET_MARK};
use tokio::net::{TcpListener, TcpStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use crate::clock::Clock;
use crate::config::Config;
use crate::control;
use crate::ctx::Ctx;
use crate::dial::Dialer;
use crate::gateway::Gateways;
use crate::hostkeys::HostKeys;
use crate::line::serve::serve;
use crate::net::accept::{Accepted, prepare};
use crate::net::socket::{AddressFamily, original_destination, transparent_listener};
use crate::protocols::ssh::{Ssh, SshLimits};
use crate::recording::{Recordings, hexadecimal};
use crate::session::Session;
use crate::session::registry::{Live, Registry, SessionLimits};
use crate::steering::{self, HeldPairs, Listeners, Steering};
use crate::store::Store;
use crate::task::Group;

/// Connections that the kernel completes before we accept them; above it answers with SYN
/// cookies.
const BACKLOG: i32 = 4_096;

/// Interval of the sign of life that the packet program looks for.
const HEARTBEAT: Duration = Duration::from_millis(HEARTBEAT_PERIOD_MS);

/// Interval at which hooks and routes are brought back to what they should be.
const RECONCILE: Duration = Duration::from_secs(5);

/// How long sessions that were told to end may take to seal their trails.
const SEAL_LIMIT: Duration = Duration::from_secs(10);

/// Runs the daemon until a signal ends it.
pub async fn run(config: Config) -> anyhow::Result<()> {
    // What the daemon writes (keys, sessions, trails, its socket) is for nobody else.
    umask(Mode::from_bits_truncate(0o077));
    let mut stops = Stops::listen()?;
    let clock = Clock::start();
    let tasks = Group::new();
    let (setup, rules) = steering::plan::plan(&config.steering, &config.policy)?;
    let listeners = [
        transparent_listener(AddressFamily::V4, config.steering.listen_port, SOCKET_MARK, BACKLOG)?,
        transparent_listener(AddressFamily::V6, config.steering.listen_port, SOCKET_MARK, BACKLOG)?,
    ];
    let pairs = HeldPairs::default();
    let gateway = Gateway::build(&config, clock, &tasks, pairs.clone()).await?;
    let (stop, drained) = (CancellationToken::new(), CancellationToken::new());
    let operators = Group::new();
    let socket = &config.storage.control_socket;
    control::start(socket, clock, &gateway.registry, &operators, drained.clone())
        .context("the control socket cannot be opened")?;
    let [v4, v6] = &listeners;
    let sockets = Listeners { v4: Some(v4.as_fd()), v6: Some(v6.as_fd()) };
    let started = Steering::start(setup, &rules, sockets, pairs).await;
    let mut steered = started.context("steering cannot be started")?;
    let services = Group::new();
    let mut heartbeat = steered.heartbeat().context("steering cannot be kept alive")?;
    let beating = stop.clone();
    services.start("heartbeat", async move {
        while !beating.is_cancelled() {
            if let Err(error) = heartbeat.beat() {
                error!(%error, "The packet program cannot be told that the daemon is alive");
            }
            pause(clock, HEARTBEAT, &beating).await;
        }
        if let Err(error) = heartbeat.stop() {
            error!(%error, "The packet program cannot be told that the daemon stops");
        }
    });
    for listener in listeners {
        let listener = TcpListener::from_std(listener).context("a listener cannot be used")?;
        let (gateway, stop) = (Arc::clone(&gateway), stop.clone());
        services.start("listener", async move { gateway.accept_all(listener, &stop).await });
    }
    info!(policies = config.policy.connection_policies.len(), "Ready");
    gateway.keep_up(clock, &mut steered, &mut stops).await;
    info!(sessions = gateway.registry.list().len(), "Stopping");
    stop.cancel();
    services.join().await;
    gateway.drain(clock, config.limits.drain_timeout, tasks, &mut stops).await;
    drained.cancel();
    operators.join().await;
    steered.stop().await.context("steering cannot be removed")?;
    info!("Stopped");
    Ok(())
}

/// What an accepted connection needs to become a session.
struct Gateway {
    ctx: Ctx,
    ssh: Ssh,
    policies: Arc<PolicySet>,
    /// Between whom there are connections.
    pairs: HeldPairs,
    registry: Registry,
    handshakes: Arc<Semaphore>,
    /// Connections refused before they became sessions, since it was last told.
    refused: AtomicU64,
    sessions: Group,
}

impl Gateway {
    async fn build(
        config: &Config,
        clock: Clock,
        tasks: &Group,
        pairs: HeldPairs,
    ) -> anyhow::Result<Arc<Self>> {
        let (limits, storage) = (&config.limits, &config.storage);
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
        let ssh = Ssh {
            clock,
            host_keys: HostKeys::new(store.clone(), clock),
            limits: SshLimits {
                handshake: limits.handshake_timeout,
                authentication: limits.authentication_timeout,
                question: limits.question_timeout,
                idle: limits.idle_timeout,
                attempts: limits.authentication_attempts,
            },
        };
        let ctx = Ctx {
            clock,
            store,
            gateways: Gateways::default(),
            dialer: Dialer::new(limits.connect_timeout, pairs.clone()),
            recordings,
            resolve_limit: limits.connect_timeout,
        };
        let registry = Registry::new(SessionLimits {
            sessions: limits.sessions,
            sessions_per_client: limits.sessions_per_client,
        });
        Ok(Arc::new(Self {
            ctx,
            ssh,
            policies: Arc::clone(&config.policy),
            pairs,
            registry,
            handshakes: Arc::new(Semaphore::new(limits.handshakes)),
            refused: AtomicU64::new(0),
            sessions: Group::new(),
        }))
    }

    /// Accepts connections until the daemon stops.
    async fn accept_all(self: Arc<Self>, listener: TcpListener, stop: &CancellationToken) {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, _peer)) => self.start(stream),
                Err(error) => {
                    // Out of descriptors, most likely: the connection waits in the backlog.
                    error!(%error, "A connection cannot be accepted");
                    pause(self.ctx.clock, ACCEPT_PAUSE, stop).await;
                }
            }
        }
    }

    /// Starts the session of an accepted connection, or drops it where a limit is reached.
    fn start(self: &Arc<Self>, stream: TcpStream) {
        let (Ok(client), Ok(original_destination)) =
            (stream.peer_addr(), original_destination(&stream))
        else {
            return;
        };
        let flow = Flow { client, original_destination };
        // A flood must not fill the log: how many there were is told every few seconds.
        let refuse = |reason: DenyReason| {
            self.refused.fetch_add(1, Ordering::Relaxed);
            let (client_addr, original_dst) = (client, original_destination);
            debug!(%client_addr, %original_dst, reason = reason.code(), "Refused a connection");
        };
        let Ok(handshake) = Arc::clone(&self.handshakes).try_acquire_owned() else {
            return refuse(DenyReason::TooManyHandshakes);
        };
        if let Err(error) = prepare(&stream) {
            debug!(%error, "A connection was lost at once");
            return;
        }
        let live = Live {
            id: Uuid::now_v7(),
            started_ns: self.ctx.clock.wall_ns(),
            client,
            original_destination,
            policy: String::new(),
            gateway_user: String::new(),
            remote_user: String::new(),
            target: String::new(),
            step: "handshake".to_owned(),
        };
        let admitted = match self.policies.admit(&flow) {
            Ok(admitted) => admitted,
            Err(reason) => return refuse(reason),
        };
        let entry = match self.registry.enter(live.clone()) {
            Ok(entry) => entry,
            Err(reason) => return refuse(reason),
        };
        let policies = Arc::clone(&self.policies);
        let session = Session::new(self.ctx.clock, flow, policies, entry, &live);
        let gateway = Arc::clone(self);
        let pair = self.pairs.hold(client.ip(), original_destination.ip());
        self.sessions.start("session", async move {
            let accepted = Accepted { stream, handshake };
            serve(&gateway.ctx, &gateway.ssh, session, admitted, accepted).await;
            drop(pair);
        });
    }

    /// Lets running sessions end, then ends them, then waits until their trails are stored.
    async fn drain(&self, clock: Clock, limit: Duration, tasks: Group, stops: &mut Stops) {
        let ended = tokio::select! {
            () = self.sessions.clone().join() => true,
            () = clock.sleep_until(clock.now().saturating_add(limit)) => false,
            // Whoever asks twice does not want to wait.
            () = stops.next() => false,
        };
        let left = if ended { Vec::new() } else { self.registry.list() };
        for live in left {
            // A session that has just ended is no longer there to be ended.
            let _found = self.registry.terminate(live.id, "the gateway's stop");
        }
        let sealed = async {
            self.sessions.clone().join().await;
            tasks.join().await;
        };
        tokio::select! {
            () = sealed => {}
            () = clock.sleep_until(clock.now().saturating_add(SEAL_LIMIT)) => {
                error!("Sessions did not end in time; their trails are closed at the next start");
            }
        }
    }

    /// Keeps the data plane as it should be until a signal asks for the end.
    async fn keep_up(&self, clock: Clock, steered: &mut Steering, stops: &mut Stops) {
        loop {
            tokio::select! {
                () = stops.next() => return,
                () = clock.sleep_until(clock.now().saturating_add(RECONCILE)) => {}
            }
            if let Err(error) = steered.reconcile().await {
                error!(%error, "Steering is not as it should be");
            }
            let refused = self.refused.swap(0, Ordering::Relaxed);
            if refused > 0 {
                warn!(refused, "Connections were refused; the level debug tells which and why");
            }
        }
    }
}

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Waits `time`, or until `stop`.
async fn pause(clock: Clock, time: Duration, stop: &CancellationToken) {
    tokio::select! {
        () = clock.sleep_until(clock.now().saturating_add(time)) => {}
        () = stop.cancelled() => {}
    }
}

/// The signals that ask for the end; listened to from the start, so that none is missed.
struct Stops {
    terminate: Signal,
    interrupt: Signal,
}

impl Stops {
    fn listen() -> anyhow::Result<Self> {
        let terminate = signal(SignalKind::terminate())?;
        Ok(Self { terminate, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one. Cancel-safe.
    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
