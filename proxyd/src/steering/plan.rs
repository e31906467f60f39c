//! From the configuration to what the data plane is told.

use proxyd_policy::admit::PolicySet;
use proxyd_policy::connection::{ConnectionPolicy, OnProxyDown};
use proxyd_policy::target::TargetPolicy;
use steering_common::action::{Action, OnDown};
use steering_common::compile::{Room, compile};
use steering_common::limits::{CELLS_MAX, SOCKET_MARK};
use steering_common::rule::{CompileError, PortRange, Prefix, Rule};
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
}

/// The rule of a connection policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyRule {
    /// The name of the policy, for whoever reads its counters.
    pub name: String,
    /// What the policy says; its counter slot is given when it is put in force.
    pub rule: Rule,
    /// New connections that are taken per second; 0 is no limit.
    pub new_connections_per_s: u32,
}

/// Fails where the policies do not fit the data plane's table, before anything is loaded.
pub fn check(steering: &config::Steering, policies: &PolicySet) -> Result<(), PlanError> {
    let (setup, rules) = plan(steering, policies)?;
    let rules: Vec<_> = rules.into_iter().map(|policy| policy.rule).collect();
    // The addresses of this host are those of another where a file is only checked.
    compile(&rules, &[], setup.room).map(|_table| ()).map_err(PlanError::Table)
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
    let room = Room { bytes: steering.table_memory_bytes, cells: CELLS_MAX };
    let setup = SteeringSetup {
        mode,
        routing,
        socket_mark: SOCKET_MARK,
        pin_directory,
        room,
        fast_path: steering.fast_path,
        takes_over: false,
        fast_path_unchecked: steering.fast_path_unchecked,
    };
    let rules = policies.connection_policies.iter().map(|policy| {
        let rule = rule_of(policy)
            .map_err(|error| PlanError::Policy { policy: policy.name.clone(), error })?;
        let (name, new_connections_per_s) = (policy.name.clone(), policy.new_connections_per_s);
        Ok(PolicyRule { name, rule, new_connections_per_s })
    });
    Ok((setup, rules.collect::<Result<_, _>>()?))
}

fn rule_of(policy: &ConnectionPolicy) -> Result<Rule, CompileError> {
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
        policy: 0,
        // The proxy would only refuse to connect to itself, and lock out whoever administers the
        // host.
        spares_host: policy.target == TargetPolicy::Original,
    })
}
