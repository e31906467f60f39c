//! The linear first-match reference: what every compiled form must answer.
//!
//! Written from the meaning of a rule, with real addresses, and sharing nothing with the
//! compiled table but the verdict: it is the oracle of the tests, and of the check that a table
//! passes before it is put in force.

use core::net::IpAddr;

use crate::action::{Action, Verdict};
use crate::rule::{PortRange, Prefix, Rule};

/// A new connection, as rules see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// Client address.
    pub source: IpAddr,
    /// Server address, of the same IP version.
    pub destination: IpAddr,
    /// Server port.
    pub port: u16,
    /// Index of the interface the SYN arrives on.
    pub ifindex: u32,
    /// Outermost VLAN identifier, 0 for untagged.
    pub vlan: u16,
}

/// The verdict of the first rule that matches, or `None`: the connection passes. `host` are the
/// addresses of this host.
#[must_use]
pub fn decide(rules: &[Rule], host: &[IpAddr], connection: &Connection) -> Option<Verdict> {
    let port = connection.port;
    rules
        .iter()
        .find(|rule| {
            matches_addresses(rule, connection)
                && any(&rule.ports, |range| range.first() <= port && port <= range.last())
        })
        .map(|rule| verdict(rule, host, connection))
}

/// The verdict for a packet whose ports cannot be seen: of the first rule that might redirect
/// or drop it, unless a rule before forwards these addresses on every port.
#[must_use]
pub fn decide_without_ports(
    rules: &[Rule],
    host: &[IpAddr],
    connection: &Connection,
) -> Option<Verdict> {
    rules
        .iter()
        .find(|rule| {
            matches_addresses(rule, connection)
                && (rule.action != Action::Forward
                    || any(&rule.ports, |range| *range == PortRange::ALL))
        })
        .map(|rule| verdict(rule, host, connection))
}

fn matches_addresses(rule: &Rule, connection: &Connection) -> bool {
    any(&rule.sources, |prefix| contains(prefix, connection.source))
        && any(&rule.destinations, |prefix| contains(prefix, connection.destination))
        && any(&rule.interfaces, |ifindex| *ifindex == connection.ifindex)
        && any(&rule.vlans, |vlan| *vlan == connection.vlan)
}

fn verdict(rule: &Rule, host: &[IpAddr], connection: &Connection) -> Verdict {
    let spared = rule.spares_host && host.contains(&connection.destination);
    let action = if spared { Action::Forward } else { rule.action };
    Verdict { action, on_down: rule.on_down, policy: rule.policy }
}

/// Whether an item satisfies `test`; an empty list matches everything.
fn any<T>(list: &[T], test: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(test)
}

fn contains(prefix: &Prefix, address: IpAddr) -> bool {
    let length = u32::from(prefix.length());
    match (prefix.address(), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            (network.to_bits() ^ address.to_bits()).leading_zeros() >= length
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            (network.to_bits() ^ address.to_bits()).leading_zeros() >= length
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}
