//! The live sessions: listed, counted per client, ended by an operator.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proxyd_policy::DenyReason;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

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

/// A live session, and how it is told to end.
#[derive(Debug)]
struct Place {
    live: Live,
    token: CancellationToken,
    ended_by: &'static str,
}

#[derive(Debug, Default)]
struct Sessions {
    live: HashMap<Uuid, Place>,
    per_client: HashMap<IpAddr, usize>,
}

/// All live sessions of this daemon; a clone is the same registry.
#[derive(Debug, Clone)]
pub struct Registry {
    limits: SessionLimits,
    sessions: Arc<Mutex<Sessions>>,
}

impl Registry {
    /// A registry without sessions.
    #[must_use]
    pub fn new(limits: SessionLimits) -> Self {
        Self { limits, sessions: Arc::default() }
    }

    /// Enters a session, unless a limit is reached; it leaves when the entry is dropped.
    pub fn enter(&self, live: Live) -> Result<Entry, DenyReason> {
        let mut sessions = self.lock();
        if sessions.live.len() >= self.limits.sessions {
            return Err(DenyReason::TooManySessions);
        }
        let client = live.client.ip();
        let count = sessions.per_client.entry(client).or_default();
        if *count >= self.limits.sessions_per_client {
            return Err(DenyReason::TooManySessionsFromClient);
        }
        *count += 1;
        let (id, token) = (live.id, CancellationToken::new());
        let place = Place { live, token: token.clone(), ended_by: "" };
        sessions.live.insert(id, place);
        Ok(Entry { registry: self.clone(), id, client, token })
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
        place.ended_by = by;
        place.token.cancel();
        true
    }

    fn lock(&self) -> MutexGuard<'_, Sessions> {
        // Nothing that runs under the lock can panic half way through a change.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session's place in the registry.
#[derive(Debug)]
pub struct Entry {
    registry: Registry,
    id: Uuid,
    client: IpAddr,
    token: CancellationToken,
}

impl Entry {
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
    use super::*;

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

    #[test]
    fn limits_hold_and_places_come_back() {
        let registry = Registry::new(SessionLimits { sessions: 3, sessions_per_client: 2 });
        let first = registry.enter(live("10.1.0.1:1")).unwrap();
        let _second = registry.enter(live("10.1.0.1:2")).unwrap();
        let full = registry.enter(live("10.1.0.1:3")).unwrap_err();
        assert_eq!(full, DenyReason::TooManySessionsFromClient);
        let _third = registry.enter(live("10.1.0.2:1")).unwrap();
        let full = registry.enter(live("10.1.0.3:1")).unwrap_err();
        assert_eq!(full, DenyReason::TooManySessions);
        drop(first);
        registry.enter(live("10.1.0.1:3")).unwrap();
        assert_eq!(registry.list().len(), 2);
    }

    #[test]
    fn an_operator_ends_one_session() {
        let registry = Registry::new(SessionLimits { sessions: 2, sessions_per_client: 2 });
        let entry = registry.enter(live("10.1.0.1:1")).unwrap();
        assert!(!registry.terminate(Uuid::now_v7(), "a test"));
        assert!(!entry.token().is_cancelled());
        assert!(registry.terminate(registry.list()[0].id, "a test"));
        assert!(entry.token().is_cancelled());
        assert_eq!(entry.ended_by(), "a test");
    }
}
