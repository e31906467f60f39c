//! A session: one connection from its first packet to its sealed trail.

mod allowed;
pub mod approval;
pub mod event;
pub mod registry;
pub mod row;
pub mod stop;

use std::sync::Arc;
use std::time::Duration;

use proxyd_policy::admit::{Flow, PolicySet};
use tokio_util::sync::CancellationToken;
use tracing::debug;
use uuid::Uuid;

use self::approval::{Decision, Wish};
use self::event::{Event, Timed};
use self::registry::{Entry, Live};
use self::row::{ACTIVE, SessionRow};
use self::stop::Stop;
use crate::clock::Clock;

/// Events of one session that are kept beside its trail; what a session leaves beyond is in its
/// trail alone, and the log says how much.
const EVENTS_MAX: usize = 4_096;

/// One session, and what its steps have left behind so far.
#[derive(Debug)]
pub struct Session {
    id: Uuid,
    clock: Clock,
    started: Duration,
    flow: Flow,
    policies: Arc<PolicySet>,
    entry: Entry,
    row: SessionRow,
    events: Vec<Timed>,
    /// Events that are in the database, or on their way.
    handed_out: usize,
    lost: u64,
    is_saved: bool,
}

impl Session {
    /// A session that starts now, with the policies of this moment.
    #[must_use]
    pub fn new(
        clock: Clock,
        flow: Flow,
        policies: Arc<PolicySet>,
        entry: Entry,
        live: &Live,
    ) -> Self {
        let row = SessionRow {
            id: live.id,
            started_ns: live.started_ns,
            ended_ns: None,
            protocol: String::new(),
            policy: String::new(),
            client: live.client.to_string(),
            original_destination: live.original_destination.to_string(),
            target: String::new(),
            gateway_user: String::new(),
            remote_user: String::new(),
            trail: String::new(),
            trail_hash: String::new(),
            outcome: ACTIVE.to_owned(),
            reason: String::new(),
        };
        let started = clock.now();
        Self {
            id: live.id,
            clock,
            started,
            flow,
            policies,
            entry,
            row,
            events: Vec::new(),
            handed_out: 0,
            lost: 0,
            is_saved: false,
        }
    }

    /// The session's id.
    #[must_use]
    pub const fn id(&self) -> Uuid {
        self.id
    }

    /// The connection as it arrived.
    #[must_use]
    pub const fn flow(&self) -> &Flow {
        &self.flow
    }

    /// The policies this session started with.
    #[must_use]
    pub const fn policies(&self) -> &Arc<PolicySet> {
        &self.policies
    }

    /// Wall clock of the start, in nanoseconds since 1970.
    #[must_use]
    pub const fn started_ns(&self) -> u64 {
        self.row.started_ns
    }

    /// Clock time of the start.
    #[must_use]
    pub const fn started(&self) -> Duration {
        self.started
    }

    /// Time since the start.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.clock.now().saturating_sub(self.started)
    }

    /// Cancelled when an operator ends the session.
    #[must_use]
    pub const fn token(&self) -> &CancellationToken {
        self.entry.token()
    }

    /// Asks operators for approval of `wish` for as long as `limit`; none where too many requests
    /// of the session wait already.
    pub fn ask_for_approval(&self, wish: Wish, limit: Duration) -> Option<Uuid> {
        let since_ns = self.clock.wall_ns();
        let limit_ns = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        self.entry.ask(wish, since_ns, since_ns.saturating_add(limit_ns))
    }

    /// Nobody has to approve of a request any more.
    pub fn withdraw(&self, request: Uuid) {
        self.entry.withdraw(request);
    }

    /// The next decision about a request for approval, if there is one already.
    pub fn try_decision(&mut self) -> Option<(Uuid, Decision)> {
        self.entry.try_decision()
    }

    /// The next decision about a request for approval; cancel-safe.
    pub async fn decision(&mut self) -> (Uuid, Decision) {
        self.entry.decision().await
    }

    /// Why the session has to end, once its token is cancelled.
    #[must_use]
    pub fn terminated(&self) -> Stop {
        Stop::Terminated(self.entry.ended_by())
    }

    /// Leaves an event behind, and gives it with its time.
    pub fn note(&mut self, event: Event) -> Timed {
        // The fields may hold what a user typed; they belong in the record, not in logs.
        debug!(session_id = %self.id, step = event.name(), "Session step");
        let timed = Timed { at: self.age(), event };
        // The end is always kept.
        if self.events.len() < EVENTS_MAX || matches!(timed.event, Event::Ended { .. }) {
            self.events.push(timed.clone());
        } else {
            self.lost += 1;
        }
        timed
    }

    /// Changes what operators see of the session, and what its row will say.
    pub fn update(&mut self, change: impl FnOnce(&mut Live)) {
        self.entry.update(|live| {
            change(live);
            self.row.policy.clone_from(&live.policy);
            self.row.target.clone_from(&live.target);
            self.row.gateway_user.clone_from(&live.gateway_user);
            self.row.remote_user.clone_from(&live.remote_user);
        });
    }

    /// Whether the session has a row in the database.
    #[must_use]
    pub const fn is_saved(&self) -> bool {
        self.is_saved
    }

    /// The session's row, to be written.
    pub const fn row(&mut self) -> &mut SessionRow {
        &mut self.row
    }

    /// What is known of it so far.
    #[must_use]
    pub const fn facts(&self) -> &SessionRow {
        &self.row
    }

    /// Everything the session has left behind so far.
    #[must_use]
    pub fn events(&self) -> &[Timed] {
        &self.events
    }

    /// The row, and the events that were not handed out for the database before.
    pub fn hand_out(&mut self) -> (SessionRow, Vec<Timed>) {
        let events = self.events.get(self.handed_out..).unwrap_or_default().to_vec();
        self.handed_out = self.events.len();
        (self.row.clone(), events)
    }

    /// What was handed out last is in the database; gives how many events were not kept.
    pub const fn saved(&mut self) -> u64 {
        self.is_saved = true;
        std::mem::replace(&mut self.lost, 0)
    }

    /// It is not: its events, of this number, are handed out again.
    pub const fn not_saved(&mut self, events: usize) {
        self.handed_out = self.handed_out.saturating_sub(events);
    }
}
