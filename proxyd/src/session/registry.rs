//! The live sessions: listed, counted per client, ended by an operator.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proxyd_policy::DenyReason;
use proxyd_policy::admit::PolicySet;
use proxyd_policy::connection::{ConnectionPolicy, OnReload};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::allowed::{is_allowed, is_logging_in};
use super::approval::{Decision, Inbox, Outcome, REQUESTS_MAX, Waiting, Wish};

/// What an operator sees of a live session.
#[derive(Debug, Clone, Serialize, Deserialize, PartialEq, Eq)]
pub struct Live {
    /// The session.
    pub id: Uuid,
    /// Wall clock of its start, in nanoseconds since 1970.
    pub started_ns: u64,
    /// The client's address.
    pub client: SocketAddr,
    /// Where the client connected to.
    pub original_destination: SocketAddr,
    /// The connection policy; empty until it is found.
    pub policy: String,
    /// The gateway user; empty until authenticated, or where there is none.
    pub gateway_user: String,
    /// The user on the server; empty until mapped.
    pub remote_user: String,
    /// The server; empty until chosen.
    pub target: String,
    /// How far the session has come.
    pub step: String,
}

/// How many sessions may live at a time.
#[derive(Debug, Clone, Copy)]
pub struct SessionLimits {
    /// In all.
    pub sessions: usize,
    /// Of one client address.
    pub sessions_per_client: usize,
}

/// What a session was admitted by.
#[derive(Debug, Clone)]
pub struct Admission {
    /// The policies of that moment.
    pub policies: Arc<PolicySet>,
    /// The one of them that matched.
    pub policy: Arc<ConnectionPolicy>,
}

/// A live session, and how it is told to end.
#[derive(Debug)]
struct Place {
    live: Live,
    policy: Arc<ConnectionPolicy>,
    /// The last policies that it was held against, once they could be asked about its user.
    checked: Arc<PolicySet>,
    token: CancellationToken,
    ended_by: &'static str,
}

#[derive(Debug)]
struct Sessions {
    limits: SessionLimits,
    live: HashMap<Uuid, Place>,
    per_client: HashMap<IpAddr, usize>,
    waiting: HashMap<Uuid, Open>,
}

/// A request for approval that is open, and where its decision goes.
#[derive(Debug)]
struct Open {
    waiting: Waiting,
    decisions: mpsc::Sender<(Uuid, Decision)>,
}

/// All live sessions of this daemon; a clone is the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    sessions: Arc<Mutex<Sessions>>,
}

impl Registry {
    /// A registry without sessions.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        let sessions = Sessions {
            limits,
            live: HashMap::new(),
            per_client: HashMap::new(),
            waiting: HashMap::new(),
        };
        Self { sessions: Arc::new(Mutex::new(sessions)) }
    }

    /// Changes the limits for sessions to come.
    pub fn set_limits(&self, limits: SessionLimits) {
        self.lock().limits = limits;
    }

    /// Enters a session, unless a limit is reached; it leaves when the entry is dropped.
    pub fn enter(&self, live: Live, admission: Admission) -> Result<Entry, DenyReason> {
        let mut sessions = self.lock();
        let limits = sessions.limits;
        if sessions.live.len() >= limits.sessions {
            return Err(DenyReason::TooManySessions);
        }
        let client = live.client.ip();
        let count = sessions.per_client.entry(client).or_default();
        if *count >= limits.sessions_per_client {
            return Err(DenyReason::TooManySessionsFromClient);
        }
        *count += 1;
        let (id, token) = (live.id, CancellationToken::new());
        let Admission { policies: checked, policy } = admission;
        let place = Place { live, policy, checked, token: token.clone(), ended_by: "" };
        sessions.live.insert(id, place);
        Ok(Entry { registry: self.clone(), id, client, token, inbox: Inbox::new() })
    }

    /// The live sessions, oldest first.
    #[must_use]
    pub fn list(&self) -> Vec<Live> {
        let mut list: Vec<_> = self.lock().live.values().map(|place| place.live.clone()).collect();
        list.sort_by_key(|live| live.started_ns);
        list
    }

    /// Ends a session, `by` whom it says; false if there is none of this id.
    #[must_use]
    pub fn terminate(&self, id: Uuid, by: &'static str) -> bool {
        let mut sessions = self.lock();
        let Some(place) = sessions.live.get_mut(&id) else { return false };
        place.end(by);
        true
    }

    /// The requests that wait for approval, oldest first.
    #[must_use]
    pub fn waiting(&self) -> Vec<Waiting> {
        let mut list: Vec<_> =
            self.lock().waiting.values().map(|open| open.waiting.clone()).collect();
        list.sort_by_key(|waiting| waiting.since_ns);
        list
    }

    /// Decides about a request, once.
    #[must_use]
    pub fn decide(&self, id: Uuid, decision: Decision) -> Outcome {
        let mut sessions = self.lock();
        let Some(open) = sessions.waiting.get(&id) else { return Outcome::Unknown };
        if open.waiting.gateway_user == decision.by {
            return Outcome::SameUser;
        }
        let Some(open) = sessions.waiting.remove(&id) else { return Outcome::Unknown };
        // There is room for as many decisions as a session has requests.
        match open.decisions.try_send((id, decision)) {
            Ok(()) => Outcome::Taken,
            Err(_gone) => Outcome::Unknown,
        }
    }

    /// Ends the sessions that `newest` no longer allows and whose policy says "terminate" to that;
    /// gives how many.
    ///
    /// Of a session that is logging in, it is not known yet who the user is: the next call asks
    /// about it again.
    pub fn recheck(&self, newest: &Arc<PolicySet>, by: &'static str) -> usize {
        // Judged without the lock: with many sessions and policies that takes a while.
        let judged: Vec<_> = self
            .unchecked(newest)
            .into_iter()
            .map(|(live, policy)| (is_allowed(newest, &live, &policy.name), live))
            .collect();
        let mut sessions = self.lock();
        let mut ended = 0;
        for (is_allowed, live) in judged {
            let Some(place) = sessions.live.get_mut(&live.id) else { continue };
            if !is_allowed {
                ended += usize::from(!place.token.is_cancelled());
                place.end(by);
            }
            if !is_logging_in(&live) {
                place.checked = Arc::clone(newest);
            }
        }
        ended
    }

    /// The sessions that `newest` has to be asked about.
    fn unchecked(&self, newest: &Arc<PolicySet>) -> Vec<(Live, Arc<ConnectionPolicy>)> {
        let sessions = self.lock();
        let asks = |place: &&Place| {
            place.policy.on_reload == OnReload::Terminate && !Arc::ptr_eq(&place.checked, newest)
        };
        let unchecked = sessions.live.values().filter(asks);
        unchecked.map(|place| (place.live.clone(), Arc::clone(&place.policy))).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Nothing that runs under the lock can panic half way through a change.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// Tells the session to end; who was first stays on record.
    fn end(&mut self, by: &'static str) {
        if !self.token.is_cancelled() {
            self.ended_by = by;
            self.token.cancel();
        }
    }
}

/// A session's place in the registry.
#[derive(Debug)]
pub struct Entry {
    registry: Registry,
    id: Uuid,
    client: IpAddr,
    token: CancellationToken,
    inbox: Inbox,
}

impl Entry {
    /// Asks for approval of `wish` from `since_ns` to `expires_ns`; none where too many requests of
    /// the session wait already.
    pub(super) fn ask(&self, wish: Wish, since_ns: u64, expires_ns: u64) -> Option<Uuid> {
        let mut sessions = self.registry.lock();
        let own = sessions.waiting.values().filter(|open| open.waiting.session == self.id);
        if own.count() >= REQUESTS_MAX {
            return None;
        }
        let live = &sessions.live.get(&self.id)?.live;
        let id = Uuid::now_v7();
        let waiting = Waiting {
            id,
            session: self.id,
            since_ns,
            expires_ns,
            client: live.client,
            gateway_user: live.gateway_user.clone(),
            remote_user: live.remote_user.clone(),
            target: live.target.clone(),
            wish,
        };
        let decisions = self.inbox.sender.clone();
        sessions.waiting.insert(id, Open { waiting, decisions });
        Some(id)
    }

    /// Nobody has to decide about a request any more.
    pub(super) fn withdraw(&self, id: Uuid) {
        self.registry.lock().waiting.remove(&id);
    }

    /// The next decision about a request of the session; cancel-safe.
    pub(super) async fn decision(&mut self) -> (Uuid, Decision) {
        match self.inbox.receiver.recv().await {
            Some(decision) => decision,
            // The inbox holds a sender of its own.
            None => std::future::pending().await,
        }
    }

    /// Cancelled when an operator ends the session.
    #[must_use]
    pub const fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// Changes what operators see.
    pub fn update(&self, change: impl FnOnce(&mut Live)) {
        if let Some(place) = self.registry.lock().live.get_mut(&self.id) {
            change(&mut place.live);
        }
    }

    /// Who ended the session, once its token is cancelled.
    #[must_use]
    pub fn ended_by(&self) -> &'static str {
        self.registry.lock().live.get(&self.id).map_or("", |place| place.ended_by)
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut sessions = self.registry.lock();
        sessions.live.remove(&self.id);
        sessions.waiting.retain(|_id, open| open.waiting.session != self.id);
        if let Some(count) = sessions.per_client.get_mut(&self.client) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                sessions.per_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    fn live(client: &str) -> Live {
        Live {
            id: Uuid::now_v7(),
            started_ns: 1,
            client: client.parse().unwrap(),
            original_destination: "10.2.0.9:22".parse().unwrap(),
            policy: String::new(),
            gateway_user: String::new(),
            remote_user: String::new(),
            target: String::new(),
            step: String::new(),
        }
    }

    /// Two policies that differ in what becomes of their sessions.
    fn set(port: u16) -> Arc<PolicySet> {
        let policy = |name: &str, client: &str, on_reload: &str| {
            format!(
                "[[connection_policy]]\nname = \"{name}\"\nprotocol = \"ssh\"\n\
                 from = [\"{client}\"]\nto = [\"10.2.0.9\"]\nports = [\"{port}\"]\n\
                 authentication = \"open\"\nchannels = \"all\"\non_reload = \"{on_reload}\"\n"
            )
        };
        let text = [
            "[steering]\nclient_interfaces = [\"lan0\"]\nserver_interfaces = [\"wan0\"]\n",
            &policy("kept", "10.1.0.1", "keep"),
            &policy("ended", "10.1.0.2", "terminate"),
            "[[authentication_policy]]\nname = \"open\"\ngateway = \"none\"\n\
             [[channel_policy]]\nname = \"all\"\n\
             rule = [{ type = \"session-shell\", record = false }]\n",
        ];
        let checked = config::check(Path::new("proxyd.toml"), text.concat());
        checked.unwrap_or_else(|report| panic!("{report}")).policy
    }

    fn by(policies: &Arc<PolicySet>, policy: usize) -> Admission {
        let policy = Arc::clone(&policies.connection_policies[policy]);
        Admission { policies: Arc::clone(policies), policy }
    }

    #[test]
    fn limits_hold_and_places_come_back() {
        let registry = Registry::new(SessionLimits { sessions: 3, sessions_per_client: 2 });
        let policies = set(22);
        let enter = |client: &str| registry.enter(live(client), by(&policies, 0));
        let first = enter("10.1.0.1:1").unwrap();
        let _second = enter("10.1.0.1:2").unwrap();
        let full = enter("10.1.0.1:3").unwrap_err();
        assert_eq!(full, DenyReason::TooManySessionsFromClient);
        let _third = enter("10.1.0.2:1").unwrap();
        let full = enter("10.1.0.3:1").unwrap_err();
        assert_eq!(full, DenyReason::TooManySessions);
        drop(first);
        enter("10.1.0.1:3").unwrap();
        assert_eq!(registry.list().len(), 2);
        registry.set_limits(SessionLimits { sessions: 2, sessions_per_client: 2 });
        assert_eq!(enter("10.1.0.4:1").unwrap_err(), DenyReason::TooManySessions);
    }

    #[test]
    fn an_operator_ends_one_session() {
        let registry = Registry::new(SessionLimits { sessions: 2, sessions_per_client: 2 });
        let entry = registry.enter(live("10.1.0.1:1"), by(&set(22), 0)).unwrap();
        assert!(!registry.terminate(Uuid::now_v7(), "a test"));
        assert!(!entry.token().is_cancelled());
        assert!(registry.terminate(registry.list()[0].id, "a test"));
        assert!(entry.token().is_cancelled());
        assert_eq!(entry.ended_by(), "a test");
        assert!(registry.terminate(registry.list()[0].id, "another"));
        assert_eq!(entry.ended_by(), "a test", "the first stays on record");
    }

    #[test]
    fn a_request_is_decided_once_and_by_somebody_else() {
        let registry = Registry::new(SessionLimits { sessions: 2, sessions_per_client: 2 });
        let mut entry = registry.enter(live("10.1.0.1:1"), by(&set(22), 0)).unwrap();
        entry.update(|live| "alice".clone_into(&mut live.gateway_user));
        let wish = Wish { kind: "session-shell".to_owned(), detail: String::new() };
        let id = entry.ask(wish.clone(), 1, 2).unwrap();
        let decision =
            |by: &str, approved| Decision { approved, by: by.to_owned(), reason: String::new() };
        assert_eq!(registry.waiting()[0].wish, wish);
        assert_eq!(registry.decide(Uuid::now_v7(), decision("bob", true)), Outcome::Unknown);
        assert_eq!(registry.decide(id, decision("alice", true)), Outcome::SameUser);
        assert_eq!(registry.decide(id, decision("bob", true)), Outcome::Taken);
        assert_eq!(registry.decide(id, decision("carol", false)), Outcome::Unknown);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        assert_eq!(runtime.block_on(entry.decision()), (id, decision("bob", true)));
        let withdrawn = entry.ask(wish.clone(), 1, 2).unwrap();
        entry.withdraw(withdrawn);
        assert_eq!(registry.decide(withdrawn, decision("bob", true)), Outcome::Unknown);
        for _request in 0..REQUESTS_MAX {
            entry.ask(wish.clone(), 1, 2).unwrap();
        }
        assert_eq!(entry.ask(wish, 1, 2), None);
        drop(entry);
        assert!(registry.waiting().is_empty(), "requests end with their session");
    }

    #[test]
    fn changed_policies_end_what_they_no_longer_allow() {
        let registry = Registry::new(SessionLimits { sessions: 9, sessions_per_client: 9 });
        let (old, same, other) = (set(22), set(22), set(23));
        let kept = registry.enter(live("10.1.0.1:1"), by(&old, 0)).unwrap();
        let ended = registry.enter(live("10.1.0.2:1"), by(&old, 1)).unwrap();
        assert_eq!(registry.recheck(&old, "nothing"), 0);
        assert_eq!(registry.recheck(&same, "an equal set"), 0);
        assert_eq!(registry.recheck(&other, "a change"), 1);
        assert!(!kept.token().is_cancelled() && ended.token().is_cancelled());
        assert_eq!(ended.ended_by(), "a change");
        assert_eq!(registry.recheck(&set(24), "another"), 0, "it has been told");
    }

    #[test]
    fn who_logs_in_is_asked_about_until_that_is_known() {
        let registry = Registry::new(SessionLimits { sessions: 9, sessions_per_client: 9 });
        let (old, newest) = (set(22), set(22));
        let entry = registry.enter(live("10.1.0.2:1"), by(&old, 1)).unwrap();
        assert_eq!(registry.recheck(&newest, "a test"), 0);
        assert_eq!(registry.unchecked(&newest).len(), 1);
        entry.update(|live| "root".clone_into(&mut live.remote_user));
        assert_eq!(registry.recheck(&newest, "a test"), 0);
        assert_eq!(registry.unchecked(&newest).len(), 0);
    }
}
