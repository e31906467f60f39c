//! Whether changed policies still allow a session that runs.

use proxyd_policy::admit::{Flow, PolicySet};
use proxyd_policy::gateway::GatewayAuthentication;
use proxyd_policy::usermapping::{self, GatewayIdentity};

use super::registry::Live;

/// Whether `newest` leads the session's connection to the policy of the same name, and still lets
/// its gateway user log in as its remote user.
///
/// Of a session that is logging in, only the connection can be judged. Targets and channels are
/// not judged again.
pub(super) fn is_allowed(newest: &PolicySet, live: &Live, policy: &str) -> bool {
    let flow = Flow { client: live.client, original_destination: live.original_destination };
    let Ok(admitted) = newest.admit(&flow) else { return false };
    let found = admitted.policy();
    if found.name != policy {
        return false;
    }
    if is_logging_in(live) {
        return true;
    }
    let user = match &found.authentication.gateway {
        GatewayAuthentication::None => None,
        GatewayAuthentication::AnyOf(_) | GatewayAuthentication::AllOf(_) => {
            match newest.user(&live.gateway_user) {
                Some(user) => Some(GatewayIdentity { name: &user.name, groups: &user.groups }),
                None => return false,
            }
        }
    };
    usermapping::map(found.usermapping.as_deref(), user, &live.remote_user).is_ok()
}

/// Whether it is still open who the user is.
pub(super) const fn is_logging_in(live: &Live) -> bool {
    live.remote_user.is_empty()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use uuid::Uuid;

    use super::*;
    use crate::config;

    const OPEN: &str = "authentication = \"open\"\n";
    const STAFF: &str = "authentication = \"staff\"\nusermapping = \"admins\"\n";
    const ALICE: &str = "[[user]]\nname = \"alice\"\ngroups = [\"admins\"]\n";

    fn set(name: &str, port: u16, lines: &str, users: &str) -> PolicySet {
        let text = format!(
            "[steering]\nclient_interfaces = [\"lan0\"]\nserver_interfaces = [\"wan0\"]\n\
             [[connection_policy]]\nname = \"{name}\"\nprotocol = \"ssh\"\n\
             from = [\"10.1.0.0/16\"]\nto = [\"10.2.0.0/16\"]\nports = [\"{port}\"]\n\
             channels = \"all\"\n{lines}\
             [[authentication_policy]]\nname = \"open\"\ngateway = \"none\"\n\
             [[authentication_policy]]\nname = \"staff\"\n\
             gateway = [{{ method = \"password\", backend = \"local\" }}]\n\
             [[usermapping_policy]]\nname = \"admins\"\n\
             rules = [{{ remote_user = \"root\", groups = [\"admins\"] }}]\n\
             [[channel_policy]]\nname = \"all\"\n\
             rule = [{{ type = \"session-shell\", record = false }}]\n{users}"
        );
        let checked = config::check(Path::new("proxyd.toml"), text);
        PolicySet::clone(&checked.unwrap_or_else(|report| panic!("{report}")).policy)
    }

    fn live(gateway_user: &str, remote_user: &str) -> Live {
        Live {
            id: Uuid::nil(),
            started_ns: 1,
            client: "10.1.0.5:40000".parse().unwrap(),
            original_destination: "10.2.0.9:22".parse().unwrap(),
            policy: "linux".to_owned(),
            gateway_user: gateway_user.to_owned(),
            remote_user: remote_user.to_owned(),
            target: String::new(),
            step: String::new(),
        }
    }

    #[test]
    fn what_a_new_set_says_of_a_session() {
        let other_group = ALICE.replace("admins", "guests");
        let cases = [
            ("same", set("linux", 22, OPEN, ""), live("", "root"), true),
            ("another port", set("linux", 23, OPEN, ""), live("", "root"), false),
            ("renamed", set("unix", 22, OPEN, ""), live("", "root"), false),
            ("logging in", set("linux", 22, STAFF, ""), live("", ""), true),
            ("known and mapped", set("linux", 22, STAFF, ALICE), live("alice", "root"), true),
            ("user gone", set("linux", 22, STAFF, ""), live("alice", "root"), false),
            ("group gone", set("linux", 22, STAFF, &other_group), live("alice", "root"), false),
            ("not mapped", set("linux", 22, STAFF, ALICE), live("alice", "oracle"), false),
            ("nobody asked before", set("linux", 22, STAFF, ALICE), live("", "root"), false),
            ("nobody asked now", set("linux", 22, OPEN, ALICE), live("alice", "root"), true),
        ];
        for (name, newest, live, expected) in cases {
            assert_eq!(is_allowed(&newest, &live, "linux"), expected, "{name}");
        }
        let none = PolicySet::default();
        assert!(!is_allowed(&none, &live("", "root"), "linux"), "no policies at all");
    }
}
