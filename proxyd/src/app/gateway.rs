//! From an accepted connection to its session's task.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::{Flow, PolicySet};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, warn};
use uuid::Uuid;

use super::in_force::InForce;
use super::pause;
use crate::clock::Clock;
use crate::config::Limits;
use crate::ctx::Ctx;
use crate::dial::Dialer;
use crate::gateway::Gateways;
use crate::hostkeys::HostKeys;
use crate::kerberos::Kerberos;
use crate::line::serve::serve;
use crate::net::accept::{Accepted, prepare};
use crate::net::socket::original_destination;
use crate::protocols::ssh::{Ssh, SshLimits};
use crate::recording::Recordings;
use crate::session::Session;
use crate::session::registry::{Admission, Live, Registry, SessionLimits};
use crate::steering::HeldPairs;
use crate::store::Store;
use crate::store::saver::Saver;
use crate::task::Group;

/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long sessions that were told to end may take to seal their trails.
const SEAL_LIMIT: Duration = Duration::from_secs(10);

/// Who ends a session that a changed configuration no longer allows.
const BY_CHANGE: &str = "a change of the configuration, which no longer allows it";

/// What an accepted connection needs to become a session.
pub(super) struct Gateway {
    clock: Clock,
    means: RwLock<Arc<Means>>,
    in_force: InForce,
    /// Between whom there are connections.
    pairs: HeldPairs,
    registry: Registry,
    /// Connections refused before they became sessions, since it was last told.
    refused: AtomicU64,
    sessions: Group,
}

/// What the sessions share that start under the same limits.
struct Means {
    ctx: Ctx,
    ssh: Ssh,
    handshakes: Arc<Semaphore>,
}

impl Gateway {
    /// A gateway without sessions.
    pub(super) fn new(
        clock: Clock,
        (store, saver): (Store, Saver),
        recordings: Recordings,
        limits: &Limits,
        policies: Arc<PolicySet>,
        pairs: HeldPairs,
    ) -> Self {
        let host_keys = HostKeys::new(store, clock);
        let gateways = Arc::new(Gateways::new(clock));
        let dialer = Dialer::new(limits.connect_timeout, pairs.clone());
        let resolve_limit = limits.connect_timeout;
        let ctx = Ctx { clock, saver, gateways, dialer, recordings, resolve_limit };
        let kerberos = Kerberos::default();
        let ssh = Ssh { clock, host_keys, limits: ssh_limits(limits), kerberos };
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        Self {
            clock,
            means: RwLock::new(Arc::new(Means { ctx, ssh, handshakes })),
            in_force: InForce::new(policies),
            pairs,
            registry: Registry::new(session_limits(limits)),
            refused: AtomicU64::new(0),
            sessions: Group::new(),
        }
    }

    /// The policies in force.
    pub(super) const fn in_force(&self) -> &InForce {
        &self.in_force
    }

    /// The pairs of hosts that sessions have connections between.
    pub(super) const fn pairs(&self) -> &HeldPairs {
        &self.pairs
    }

    /// The live sessions.
    pub(super) const fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The trails.
    pub(super) fn recordings(&self) -> Recordings {
        self.means().ctx.recordings.clone()
    }

    /// Changes the limits for sessions to come. Connections that authenticate now do not count
    /// against the new limit of handshakes.
    pub(super) fn set_limits(&self, limits: &Limits) {
        self.registry.set_limits(session_limits(limits));
        let before = self.means();
        let mut ctx = before.ctx.clone();
        ctx.dialer = Dialer::new(limits.connect_timeout, self.pairs.clone());
        ctx.resolve_limit = limits.connect_timeout;
        let ssh = Ssh { limits: ssh_limits(limits), ..before.ssh.clone() };
        let handshakes = Arc::new(Semaphore::new(limits.handshakes));
        let means = Arc::new(Means { ctx, ssh, handshakes });
        *self.means.write().unwrap_or_else(PoisonError::into_inner) = means;
    }

    /// Ends the sessions that `newest` no longer allows and whose policy says "terminate" to that;
    /// gives how many.
    pub(super) fn recheck(&self, newest: &Arc<PolicySet>) -> usize {
        // Many sessions times many policies take seconds, in which others want to be served.
        tokio::task::block_in_place(|| self.registry.recheck(newest, BY_CHANGE))
    }

    /// Accepts connections until `stop`.
    pub(super) async fn accept_all(
        self: Arc<Self>,
        listener: &TcpListener,
        stop: &CancellationToken,
    ) {
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
                    pause(self.clock, ACCEPT_PAUSE, stop).await;
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
        let means = self.means();
        let Ok(handshake) = Arc::clone(&means.handshakes).try_acquire_owned() else {
            return refuse(DenyReason::TooManyHandshakes);
        };
        if let Err(error) = prepare(&stream) {
            debug!(%error, "A connection was lost at once");
            return;
        }
        let live = Live {
            id: Uuid::now_v7(),
            started_ns: self.clock.wall_ns(),
            client,
            original_destination,
            policy: String::new(),
            gateway_user: String::new(),
            remote_user: String::new(),
            target: String::new(),
            step: "handshake".to_owned(),
        };
        let (policies, admitted) = match self.in_force.admit(&flow, self.clock.now()) {
            Ok(judged) => judged,
            Err(reason) => return refuse(reason),
        };
        let policy = Arc::clone(admitted.policy());
        let admission = Admission { policies: Arc::clone(&policies), policy };
        let entry = match self.registry.enter(live.clone(), admission) {
            Ok(entry) => entry,
            Err(reason) => return refuse(reason),
        };
        let session = Session::new(self.clock, flow, policies, entry, &live);
        let pair = self.pairs.hold(client.ip(), original_destination.ip());
        self.sessions.start("session", async move {
            let accepted = Accepted { stream, handshake };
            serve(&means.ctx, &means.ssh, session, admitted, accepted).await;
            drop(pair);
        });
    }

    /// Tells how many connections were refused since it was last asked.
    pub(super) fn tell_refused(&self) {
        let refused = self.refused.swap(0, Ordering::Relaxed);
        if refused > 0 {
            warn!(refused, "Connections were refused; the level debug tells which and why");
        }
    }

    /// Lets running sessions end until it is `over`, then ends them, then waits until their trails
    /// are stored; false where some were not in time.
    pub(super) async fn drain(&self, over: impl Future<Output = ()>, tasks: Group) -> bool {
        let ended = tokio::select! {
            () = self.sessions.clone().join() => true,
            () = over => false,
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
            () = sealed => true,
            () = self.clock.sleep_until(self.clock.now().saturating_add(SEAL_LIMIT)) => {
                error!("Sessions did not end in time; their trails are closed at the next start");
                false
            }
        }
    }

    fn means(&self) -> Arc<Means> {
        // Nothing that runs under the lock can panic half way through a change.
        Arc::clone(&self.means.read().unwrap_or_else(PoisonError::into_inner))
    }
}

const fn session_limits(limits: &Limits) -> SessionLimits {
    SessionLimits { sessions: limits.sessions, sessions_per_client: limits.sessions_per_client }
}

const fn ssh_limits(limits: &Limits) -> SshLimits {
    SshLimits {
        handshake: limits.handshake_timeout,
        authentication: limits.authentication_timeout,
        question: limits.question_timeout,
        four_eyes: limits.four_eyes_timeout,
        idle: limits.idle_timeout,
        session: limits.session_timeout,
        attempts: limits.authentication_attempts,
    }
}
