//! The linear first-match reference: what every compiled form must answer.
//!
//! Written from the meaning of a rule, with real addresses, and sharing nothing with the
//! compiled table but the verdict: it is the oracle of the tests, and answers `proxyd explain`.

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

/// The verdict of the first rule that matches, or `None`: the connection passes.
#[must_use]
pub fn decide(rules: &[Rule], connection: &Connection) -> Option<Verdict> {
    let port = connection.port;
    rules
        .iter()
        .find(|rule| {
            matches_addresses(rule, connection)
                && any(&rule.ports, |range| range.first() <= port && port <= range.last())
        })
        .map(verdict)
}

/// The verdict for a packet whose ports cannot be seen: of the first rule that might redirect
/// or drop it, unless a rule before forwards these addresses on every port.
#[must_use]
pub fn decide_without_ports(rules: &[Rule], connection: &Connection) -> Option<Verdict> {
    rules
        .iter()
        .find(|rule| {
            matches_addresses(rule, connection)
                && (rule.action != Action::Forward
                    || any(&rule.ports, |range| *range == PortRange::ALL))
        })
        .map(verdict)
}

fn matches_addresses(rule: &Rule, connection: &Connection) -> bool {
    any(&rule.sources, |prefix| contains(prefix, connection.source))
        && any(&rule.destinations, |prefix| contains(prefix, connection.destination))
        && any(&rule.interfaces, |ifindex| *ifindex == connection.ifindex)
        && any(&rule.vlans, |vlan| *vlan == connection.vlan)
}

const fn verdict(rule: &Rule) -> Verdict {
    Verdict { action: rule.action, on_down: rule.on_down, policy: rule.policy }
}

/// Whether an item satisfies `test`; an empty list matches everything.
fn any<T>(list: &[T], test: impl Fn(&T) -> bool) -> bool {
    list.is_empty() || list.iter().any(test)
}

fn contains(prefix: &Prefix, address: IpAddr) -> bool {
    match (prefix.address(), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            same_bits(&network.octets(), &address.octets(), prefix.length())
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            same_bits(&network.octets(), &address.octets(), prefix.length())
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

fn same_bits(left: &[u8], right: &[u8], bits: u8) -> bool {
    let bit = |bytes: &[u8], index: u8| {
        bytes.get(usize::from(index / 8)).map(|byte| byte >> (7 - index % 8) & 1)
    };
    (0..bits).all(|index| bit(left, index) == bit(right, index))
}
