//! From the configuration to what the data plane is told.

use std::net::IpAddr;

use proxyd_policy::admit::PolicySet;
use proxyd_policy::connection::{ConnectionPolicy, OnProxyDown};
use proxyd_policy::target::TargetPolicy;
use steering_common::action::{Action, OnDown};
use steering_common::limits::SOCKET_MARK;
use steering_common::rule::{self, CompileError, PortRange, Prefix, Rule};
use thiserror::Error as ThisError;

use super::{Mode, RULE_PRIORITY, Routing, SteeringSetup};
use crate::config;

/// Why a policy cannot be steered.
#[derive(Debug, ThisError)]
pub enum PlanError {
    /// One of its fields has no form in the table.
    #[error("connection policy {policy}: {error}")]
    Policy {
        /// The policy.
        policy: String,
        /// Why.
        error: CompileError,
    },
    /// Together they do not fit.
    #[error("the connection policies do not fit the steering table: {0}")]
    Table(CompileError),
    /// There are more policies than counters.
    #[error("{count} connection policies are more than can be counted apart")]
    TooMany {
        /// How many.
        count: usize,
    },
}

/// The rule of a connection policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The name of the policy, for whoever reads its counters.
    pub name: String,
    /// What the policy says.
    pub rule: Rule,
    /// Whether connections to this host's own addresses are left to it: where the policy leads to
    /// the address that the client named, the proxy would only refuse to connect to itself, and
    /// lock out whoever administers the host.
    pub spares_host: bool,
}

/// Fails where the policies do not fit the data plane's table, before anything is loaded.
pub fn check(steering: &config::Steering, policies: &PolicySet) -> Result<(), PlanError> {
    let (_setup, rules) = plan(steering, policies)?;
    // The addresses of this host are those of another where a file is only checked.
    let rules = on_host(&rules, &[]);
    rule::compile(&rules).map(|_entries| ()).map_err(PlanError::Table)
}

/// The rules as they are on a host with these addresses: before each rule that spares the host, one
/// that forwards what goes to an address of its own.
pub(crate) fn on_host(policies: &[PolicyRule], addresses: &[IpAddr]) -> Vec<Rule> {
    let mut rules = Vec::new();
    for PolicyRule { rule, spares_host, .. } in policies {
        if *spares_host {
            let destinations = addresses.iter().filter_map(|address| host_prefix(*address));
            let is_meant = |own: &Prefix| {
                rule.destinations.is_empty() || rule.destinations.iter().any(|to| to.covers(own))
            };
            let destinations: Vec<_> = destinations.filter(is_meant).collect();
            if !destinations.is_empty() {
                rules.push(Rule { destinations, action: Action::Forward, ..rule.clone() });
            }
        }
        rules.push(rule.clone());
    }
    rules
}

/// The prefix of one address.
fn host_prefix(address: IpAddr) -> Option<Prefix> {
    Prefix::new(address, if address.is_ipv4() { 32 } else { 128 }).ok()
}

/// The setup of the data plane, and one rule for each connection policy, in their order.
pub fn plan(
    steering: &config::Steering,
    policies: &PolicySet,
) -> Result<(SteeringSetup, Vec<PolicyRule>), PlanError> {
    let mode = match &steering.mode {
        config::SteeringMode::Router { client_interfaces, server_interfaces } => Mode::Router {
            client_interfaces: client_interfaces.clone(),
            server_interfaces: server_interfaces.clone(),
        },
        config::SteeringMode::Bridge { bridge } => Mode::Bridge { bridge: bridge.clone() },
    };
    let routing =
        Routing { route_mark: steering.mark, table: steering.table, rule_priority: RULE_PRIORITY };
    let pin_directory = steering.pin_directory.clone();
    let setup = SteeringSetup { mode, routing, socket_mark: SOCKET_MARK, pin_directory };
    let policies = &policies.connection_policies;
    let rules = policies.iter().enumerate().map(|(slot, policy)| {
        let slot =
            u16::try_from(slot).map_err(|_above| PlanError::TooMany { count: policies.len() })?;
        let rule = rule_of(policy, slot)
            .map_err(|error| PlanError::Policy { policy: policy.name.clone(), error })?;
        let spares_host = policy.target == TargetPolicy::Original;
        Ok(PolicyRule { name: policy.name.clone(), rule, spares_host })
    });
    Ok((setup, rules.collect::<Result<_, _>>()?))
}

fn rule_of(policy: &ConnectionPolicy, slot: u16) -> Result<Rule, CompileError> {
    let prefixes = |nets: &[ipnet::IpNet]| -> Result<Vec<_>, _> {
        nets.iter().map(|net| Prefix::new(net.addr(), net.prefix_len())).collect()
    };
    let ports = policy.ports.iter().map(|range| PortRange::new(range.first(), range.last()));
    Ok(Rule {
        sources: prefixes(&policy.from)?,
        destinations: prefixes(&policy.to)?,
        ports: ports.collect::<Result<_, _>>()?,
        interfaces: Vec::new(),
        vlans: Vec::new(),
        action: Action::Redirect,
        on_down: match policy.on_proxy_down {
            OnProxyDown::Drop => OnDown::Drop,
            OnProxyDown::Reset => OnDown::Reset,
            OnProxyDown::Forward => OnDown::Forward,
        },
        policy: slot,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use steering_common::action::{Action, OnDown};
    use steering_common::decide::{Connection, decide};
    use steering_common::rule::{PortRange, Prefix, Rule};

    use super::{PolicyRule, on_host};

    fn policy(to: &[(&str, u8)], spares_host: bool) -> PolicyRule {
        let prefix =
            |&(address, length): &(&str, u8)| Prefix::new(address.parse().unwrap(), length);
        let rule = Rule {
            sources: vec![prefix(&("10.1.0.0", 16)).unwrap()],
            destinations: to.iter().map(|to| prefix(to).unwrap()).collect(),
            ports: vec![PortRange::new(22, 22).unwrap()],
            interfaces: vec![],
            vlans: vec![],
            action: Action::Redirect,
            on_down: OnDown::Drop,
            policy: 0,
        };
        PolicyRule { name: "p".to_owned(), rule, spares_host }
    }

    #[test]
    fn the_host_is_spared() {
        const NET: &[(&str, u8)] = &[("10.0.0.0", 8)];
        const OTHER: &[(&str, u8)] = &[("172.16.0.0", 12)];
        let own: [IpAddr; 3] = ["10.1.0.1", "10.2.0.1", "fe80::1"].map(|one| one.parse().unwrap());
        let one = vec![policy(NET, true)];
        let fixed = vec![policy(NET, false)];
        let any = vec![policy(&[], true)];
        let later = vec![policy(OTHER, true), policy(NET, false)];
        for (name, policies, count, to, port, expected) in [
            ("own address", &one, 2, "10.1.0.1", 22, Some(Action::Forward)),
            ("own address of the other side", &one, 2, "10.2.0.1", 22, Some(Action::Forward)),
            ("another host", &one, 2, "10.2.0.2", 22, Some(Action::Redirect)),
            ("another port of the host", &one, 2, "10.1.0.1", 23, None),
            ("a server of its own", &fixed, 1, "10.1.0.1", 22, Some(Action::Redirect)),
            ("every address", &any, 2, "10.1.0.1", 22, Some(Action::Forward)),
            ("a later policy with a server", &later, 2, "10.1.0.1", 22, Some(Action::Redirect)),
        ] {
            let rules = on_host(policies, &own);
            assert_eq!(rules.len(), count, "{name}");
            let connection = Connection {
                source: "10.1.0.9".parse().unwrap(),
                destination: to.parse().unwrap(),
                port,
                ifindex: 1,
                vlan: 0,
            };
            let action = decide(&rules, &connection).map(|verdict| verdict.action);
            assert_eq!(action, expected, "{name}");
        }
        assert_eq!(on_host(&one, &[]), vec![one[0].rule.clone()], "no addresses");
    }
}
