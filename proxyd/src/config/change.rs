//! What lies between two configurations, and which keys a running daemon cannot follow.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use proxyd_policy::PolicySet;
use proxyd_policy::connection::ConnectionPolicy;

use super::{Config, Steering, SteeringMode, Storage};

/// The keys that differ and are read at start only, as the file names them.
#[must_use]
pub fn fixed_keys(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut keys = steering_keys(&old.steering, &new.steering);
    keys.extend(storage_keys(&old.storage, &new.storage));
    keys
}

fn steering_keys(old: &Steering, new: &Steering) -> Vec<&'static str> {
    let mut keys = mode_keys(&old.mode, &new.mode);
    let checks = [
        ("steering.mark", old.mark == new.mark),
        ("steering.table", old.table == new.table),
        ("steering.fast_path", old.fast_path == new.fast_path),
        ("steering.fast_path_unchecked", old.fast_path_unchecked == new.fast_path_unchecked),
        ("steering.pin_directory", old.pin_directory == new.pin_directory),
        ("steering.table_memory_mib", old.table_memory_bytes == new.table_memory_bytes),
        ("steering.listen_port", old.listen_port == new.listen_port),
    ];
    keys.extend(differing(&checks));
    keys
}

fn mode_keys(old: &SteeringMode, new: &SteeringMode) -> Vec<&'static str> {
    match (old, new) {
        (
            SteeringMode::Router { client_interfaces, server_interfaces },
            SteeringMode::Router { client_interfaces: clients, server_interfaces: servers },
        ) => differing(&[
            ("steering.client_interfaces", client_interfaces == clients),
            ("steering.server_interfaces", server_interfaces == servers),
        ]),
        (SteeringMode::Bridge { bridge }, SteeringMode::Bridge { bridge: other }) => {
            differing(&[("steering.bridge", bridge == other)])
        }
        (SteeringMode::Router { .. }, SteeringMode::Bridge { .. })
        | (SteeringMode::Bridge { .. }, SteeringMode::Router { .. }) => vec!["steering.mode"],
    }
}

fn storage_keys(old: &Storage, new: &Storage) -> Vec<&'static str> {
    differing(&[
        ("storage.database", old.database == new.database),
        ("storage.node", old.node == new.node),
        ("storage.index_identity_file", old.index_identity_file == new.index_identity_file),
        ("storage.trails", old.trails == new.trails),
        ("storage.spool", old.spool == new.spool),
        ("storage.control_socket", old.control_socket == new.control_socket),
        ("storage.signing_key_file", old.signing_key_file == new.signing_key_file),
    ])
}

fn differing(checks: &[(&'static str, bool)]) -> Vec<&'static str> {
    checks.iter().filter(|(_key, same)| !same).map(|(key, _same)| *key).collect()
}

/// How many entries differ between two configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Changes {
    /// Connection policies whose names are new.
    pub added: usize,
    /// Connection policies whose names are gone.
    pub removed: usize,
    /// Connection policies that differ, in themselves or in a policy that they name.
    pub changed: usize,
    /// Whether the policies that stay are in another order.
    pub are_reordered: bool,
    /// Local users that are new, gone or different.
    pub users: usize,
    /// Whether any limit differs.
    pub are_limits_changed: bool,
}

impl Changes {
    /// What differs in `new`.
    #[must_use]
    pub fn between(old: &Config, new: &Config) -> Self {
        let (before, after) = (by_name(&old.policy), by_name(&new.policy));
        let removed = before.keys().filter(|name| !after.contains_key(*name)).count();
        let stays = |policy: &&Arc<ConnectionPolicy>| before.contains_key(policy.name.as_str());
        let is_changed = |policy: &&Arc<ConnectionPolicy>| {
            before.get(policy.name.as_str()).is_some_and(|earlier| *earlier != *policy)
        };
        let kept =
            |set: &PolicySet, other: &HashMap<&str, &Arc<ConnectionPolicy>>| -> Vec<String> {
                let names = set.connection_policies.iter().map(|policy| policy.name.clone());
                names.filter(|name| other.contains_key(name.as_str())).collect()
            };
        let policies = &new.policy.connection_policies;
        Self {
            added: policies.iter().filter(|policy| !stays(policy)).count(),
            removed,
            changed: policies.iter().filter(is_changed).count(),
            are_reordered: kept(&old.policy, &after) != kept(&new.policy, &before),
            users: changed_users(&old.policy, &new.policy),
            are_limits_changed: old.limits != new.limits,
        }
    }
}

fn by_name(set: &PolicySet) -> HashMap<&str, &Arc<ConnectionPolicy>> {
    set.connection_policies.iter().map(|policy| (policy.name.as_str(), policy)).collect()
}

fn changed_users(old: &PolicySet, new: &PolicySet) -> usize {
    let gone = old.users.keys().filter(|name| new.user(name).is_none()).count();
    gone + new.users.iter().filter(|(name, user)| old.user(name) != Some(*user)).count()
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { added, removed, changed, users, .. } = self;
        write!(f, "connection policies: {added} added, {removed} removed, {changed} changed")?;
        if self.are_reordered {
            f.write_str(", reordered")?;
        }
        write!(f, "; users: {users} changed")?;
        if self.are_limits_changed {
            f.write_str("; limits changed")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::check;
    use super::*;

    const STEERING: &str = "[steering]\nclient_interfaces = [\"lan0\"]\n\
                            server_interfaces = [\"wan0\"]\n";

    const LIBRARY: &str = "[[authentication_policy]]\nname = \"open\"\ngateway = \"none\"\n\
                           [[channel_policy]]\nname = \"all\"\n\
                           rule = [{ type = \"session-shell\", record = false }]\n";

    fn policy(name: &str, port: u16) -> String {
        format!(
            "[[connection_policy]]\nname = \"{name}\"\nprotocol = \"ssh\"\n\
             from = [\"10.1.0.0/16\"]\nto = [\"10.2.0.0/16\"]\nports = [\"{port}\"]\n\
             authentication = \"open\"\nchannels = \"all\"\n"
        )
    }

    fn config(head: &str, policies: &[String], tail: &str) -> Config {
        let text = [head, &policies.concat(), tail].concat();
        check(Path::new("/etc/proxyd/proxyd.toml"), text)
            .unwrap_or_else(|report| panic!("{report}"))
    }

    #[test]
    fn keys_that_take_a_restart() {
        let old = config(STEERING, &[], "");
        let cases = [
            ("nothing", STEERING.to_owned(), ""),
            ("an answer while down", format!("{STEERING}on_proxy_down = \"reset\"\n"), ""),
            ("a limit", format!("{STEERING}[limits]\nsessions = 7\n"), ""),
            ("port", format!("{STEERING}listen_port = 7\n"), "steering.listen_port"),
            ("pins", format!("{STEERING}pin_directory = \"x\"\n"), "steering.pin_directory"),
            ("memory", format!("{STEERING}table_memory_mib = 7\n"), "steering.table_memory_mib"),
            ("mark", format!("{STEERING}mark = 64\n"), "steering.mark"),
            ("table", format!("{STEERING}table = 64\n"), "steering.table"),
            ("client side", STEERING.replace("lan0", "lan1"), "steering.client_interfaces"),
            ("server side", STEERING.replace("wan0", "wan1"), "steering.server_interfaces"),
            (
                "bridge",
                "[steering]\nmode = \"bridge\"\nbridge = \"br0\"\n".to_owned(),
                "steering.mode",
            ),
            ("spool", format!("{STEERING}[storage]\nspool = \"x\"\n"), "storage.spool"),
            (
                "two at once",
                format!(
                    "{STEERING}[storage]\ntrails = \"file://x\"\ncontrol_socket = \"x\"\n\
                     database = \"sqlite://x\"\nsigning_key_file = \"x\"\n"
                ),
                "storage.database storage.trails storage.control_socket storage.signing_key_file",
            ),
        ];
        for (name, text, expected) in cases {
            let keys = fixed_keys(&old, &config(&text, &[], ""));
            assert_eq!(keys.join(" "), expected, "{name}");
        }
    }

    #[test]
    fn what_changed_is_counted() {
        let (a, b, c) = (policy("a", 1), policy("b", 2), policy("c", 3));
        let user = "[[user]]\nname = \"u\"\ngroups = [\"g\"]\n";
        let old = config(STEERING, &[a.clone(), b.clone()], &[LIBRARY, user].concat());
        let none = "connection policies: 0 added, 0 removed, 0 changed";
        let both = [LIBRARY, user].concat();
        let limit = format!("{STEERING}[limits]\nsessions = 7\n");
        let recorded = both.replace("session-shell", "session-exec");
        let regrouped = both.replace("\"g\"", "\"h\"");
        let unchanged = |rest: &str| format!("{none}{rest}");
        let counted = |counts: &str| format!("connection policies: {counts}; users: 0 changed");
        let new = |policies: &[&String], tail: &str| {
            let policies: Vec<_> = policies.iter().map(|&policy| policy.clone()).collect();
            config(STEERING, &policies, tail)
        };
        let moved = policy("a", 9);
        let cases = [
            ("nothing", new(&[&a, &b], &both), unchanged("; users: 0 changed")),
            ("order", new(&[&b, &a], &both), unchanged(", reordered; users: 0 changed")),
            ("another", new(&[&c, &a], &both), counted("1 added, 1 removed, 0 changed")),
            ("a port", new(&[&moved, &b], &both), counted("0 added, 0 removed, 1 changed")),
            ("what both name", new(&[&a, &b], &recorded), counted("0 added, 0 removed, 2 changed")),
            ("a user gone", new(&[&a, &b], LIBRARY), unchanged("; users: 1 changed")),
            ("groups", new(&[&a, &b], &regrouped), unchanged("; users: 1 changed")),
            (
                "a limit",
                config(&limit, &[a.clone(), b.clone()], &both),
                unchanged("; users: 0 changed; limits changed"),
            ),
        ];
        for (name, new, expected) in cases {
            assert_eq!(Changes::between(&old, &new).to_string(), expected, "{name}");
        }
    }
}
