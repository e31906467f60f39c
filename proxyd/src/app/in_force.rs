//! The policies in force: the newest set, and beside it those that connections on their way were
//! steered by.

use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::{Admitted, Flow, PolicySet};

/// How long a set is kept after a newer one: the kernel tries 63 s to complete a handshake (five
/// times again, RFC 6298 section 5), a SYN cookie holds for 120 s.
const KEPT_TIME: Duration = Duration::from_secs(120);

/// Older sets that are kept; a reload beyond that gives up the oldest early.
const KEPT_MAX: usize = 4;

/// The policies in force.
///
/// A connection is judged by one set alone: the newest that has a policy for it.
#[derive(Debug)]
pub(super) struct InForce {
    sets: RwLock<Sets>,
}

#[derive(Debug)]
struct Sets {
    newest: Arc<PolicySet>,
    /// The set that is about to be the newest.
    staged: Option<Arc<PolicySet>>,
    /// The youngest first, each with the time at which it was replaced.
    older: Vec<(Arc<PolicySet>, Duration)>,
}

impl InForce {
    /// Only this set.
    pub(super) const fn new(policies: Arc<PolicySet>) -> Self {
        Self { sets: RwLock::new(Sets { newest: policies, staged: None, older: Vec::new() }) }
    }

    /// Judges a connection that was accepted at `now`; gives the set that did.
    pub(super) fn admit(
        &self,
        flow: &Flow,
        now: Duration,
    ) -> Result<(Arc<PolicySet>, Admitted), DenyReason> {
        let sets = self.read();
        let older = sets.older.iter().filter(|(_set, replaced)| is_kept(*replaced, now));
        let others = sets.staged.iter().chain(older.map(|(set, _replaced)| set));
        for set in std::iter::once(&sets.newest).chain(others) {
            if let Ok(admitted) = set.admit(flow) {
                return Ok((Arc::clone(set), admitted));
            }
        }
        Err(DenyReason::NoConnectionPolicy)
    }

    /// Lets `policies` judge what no set in force has a policy for: connections that are steered
    /// by a table which is about to change.
    pub(super) fn stage(&self, policies: Arc<PolicySet>) {
        self.write().staged = Some(policies);
    }

    /// Takes back what was staged.
    pub(super) fn withdraw(&self) {
        self.write().staged = None;
    }

    /// Makes what was staged the newest set, at `now`.
    pub(super) fn commit(&self, now: Duration) {
        let mut sets = self.write();
        let Some(staged) = sets.staged.take() else { return };
        let before = std::mem::replace(&mut sets.newest, staged);
        sets.older.insert(0, (before, now));
        sets.older.truncate(KEPT_MAX);
    }

    /// Lets go of sets that nothing can come by any more.
    pub(super) fn tidy(&self, now: Duration) {
        self.write().older.retain(|(_set, replaced)| is_kept(*replaced, now));
    }

    fn read(&self) -> RwLockReadGuard<'_, Sets> {
        // Nothing that runs under the lock can panic half way through a change.
        self.sets.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Sets> {
        self.sets.write().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_kept(replaced: Duration, now: Duration) -> bool {
    now.saturating_sub(replaced) <= KEPT_TIME
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config;

    /// A set with a policy for these ports, each of which is named like it and like the set.
    fn set(name: &str, ports: &[u16]) -> Arc<PolicySet> {
        let policy = |port: &u16| {
            format!(
                "[[connection_policy]]\nname = \"{name}{port}\"\nprotocol = \"ssh\"\n\
                 from = [\"10.1.0.1\"]\nto = [\"10.2.0.9\"]\nports = [\"{port}\"]\n\
                 authentication = \"open\"\nchannels = \"all\"\n"
            )
        };
        let policies: String = ports.iter().map(policy).collect();
        let text = format!(
            "[steering]\nclient_interfaces = [\"lan0\"]\nserver_interfaces = [\"wan0\"]\n{policies}\
             [[authentication_policy]]\nname = \"open\"\ngateway = \"none\"\n\
             [[channel_policy]]\nname = \"all\"\n\
             rule = [{{ type = \"session-shell\", record = false }}]\n"
        );
        let checked = config::check(Path::new("proxyd.toml"), text);
        checked.unwrap_or_else(|report| panic!("{report}")).policy
    }

    /// What judges a connection to each of the ports 1 to 3.
    fn judged(in_force: &InForce, now_s: u64) -> [String; 3] {
        [1, 2, 3].map(|port| {
            let flow = Flow {
                client: "10.1.0.1:40000".parse().unwrap(),
                original_destination: ([10, 2, 0, 9], port).into(),
            };
            match in_force.admit(&flow, Duration::from_secs(now_s)) {
                Ok((policies, admitted)) => {
                    assert!(policies.connection_policies.contains(admitted.policy()));
                    admitted.policy().name.clone()
                }
                Err(reason) => reason.code().to_owned(),
            }
        })
    }

    #[test]
    fn a_change_fails_no_connection_of_either_set() {
        let none = DenyReason::NoConnectionPolicy.code();
        let in_force = InForce::new(set("a", &[1, 2]));
        assert_eq!(judged(&in_force, 0), ["a1", "a2", none], "before");
        in_force.stage(set("b", &[2, 3]));
        assert_eq!(judged(&in_force, 0), ["a1", "a2", "b3"], "while the table changes");
        in_force.withdraw();
        assert_eq!(judged(&in_force, 0), ["a1", "a2", none], "the table did not change");
        in_force.stage(set("b", &[2, 3]));
        in_force.commit(Duration::from_secs(10));
        assert_eq!(judged(&in_force, 10), ["a1", "b2", "b3"], "the table changed");
        assert_eq!(judged(&in_force, 130), ["a1", "b2", "b3"], "the last that can come");
        assert_eq!(judged(&in_force, 131), [none, "b2", "b3"], "long after");
        in_force.tidy(Duration::from_secs(131));
        assert_eq!(judged(&in_force, 10), [none, "b2", "b3"], "let go");
    }

    #[test]
    fn older_sets_are_few() {
        let in_force = InForce::new(set("a", &[1]));
        for _ in 0..KEPT_MAX {
            assert_eq!(judged(&in_force, 0)[0], "a1");
            in_force.stage(set("b", &[2]));
            in_force.commit(Duration::ZERO);
        }
        assert_eq!(judged(&in_force, 0)[0], "a1");
        in_force.stage(set("b", &[2]));
        in_force.commit(Duration::ZERO);
        assert_eq!(judged(&in_force, 0)[0], DenyReason::NoConnectionPolicy.code());
        in_force.commit(Duration::ZERO);
        assert_eq!(judged(&in_force, 0)[1], "b2", "nothing was staged");
    }
}
