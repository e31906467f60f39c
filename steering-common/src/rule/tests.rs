//! The compiled table against the reference, and the limits of compilation.

use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{CompileError, PortRange, Prefix, Rule, compile, words};
use crate::action::{Action, OnDown, Verdict};
use crate::decide::{Connection, decide, decide_without_ports};
use crate::flow::Flow;
use crate::table::Entry;
use proptest::prelude::*;

fn any_rule() -> Rule {
    Rule {
        sources: vec![],
        destinations: vec![],
        ports: vec![],
        interfaces: vec![],
        vlans: vec![],
        action: Action::Redirect,
        on_down: OnDown::Drop,
        policy: 0,
    }
}

fn flow(connection: &Connection) -> Flow {
    let (family, source) = words(connection.source);
    let (_, destination) = words(connection.destination);
    Flow {
        source,
        destination,
        ifindex: connection.ifindex,
        source_port: 40000,
        destination_port: connection.port,
        vlan: connection.vlan,
        family,
    }
}

fn walk(table: &[Entry], connection: &Connection) -> Option<Verdict> {
    let flow = flow(connection);
    table.iter().find_map(|entry| entry.verdict(&flow))
}

fn walk_without_ports(table: &[Entry], connection: &Connection) -> Option<Verdict> {
    let flow = flow(connection);
    table.iter().find_map(|entry| entry.verdict_without_ports(&flow))
}

/// Addresses of a small space, so that prefixes and connections meet often.
fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        (0_u8..4, 0_u8..8).prop_map(|(net, host)| IpAddr::from(Ipv4Addr::new(10, net, 0, host))),
        (0_u16..4, 0_u16..8)
            .prop_map(|(net, host)| IpAddr::from(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host))),
    ]
}

fn prefix() -> impl Strategy<Value = Prefix> {
    (address(), 0_u8..=128).prop_map(|(address, length)| {
        let length = if address.is_ipv4() { length % 33 } else { length };
        Prefix::new(address, length).unwrap()
    })
}

fn range() -> impl Strategy<Value = PortRange> {
    prop_oneof![
        1 => Just(PortRange::ALL),
        4 => (20_u16..26, 0_u16..3)
            .prop_map(|(first, more)| PortRange { first, last: first + more }),
    ]
}

fn rule() -> impl Strategy<Value = Rule> {
    let lists = (
        prop::collection::vec(prefix(), 0..3),
        prop::collection::vec(prefix(), 0..3),
        prop::collection::vec(range(), 0..3),
        prop::collection::vec(1_u32..4, 0..2),
        prop::collection::vec(0_u16..3, 0..2),
    );
    (lists, 0_u8..3, 0_u8..3, 0_u16..1024).prop_map(|(lists, action, on_down, policy)| Rule {
        sources: lists.0,
        destinations: lists.1,
        ports: lists.2,
        interfaces: lists.3,
        vlans: lists.4,
        action: Action::from_u8(action).unwrap(),
        on_down: OnDown::from_u8(on_down).unwrap(),
        policy,
    })
}

fn connection() -> impl Strategy<Value = Connection> {
    (address(), address(), 18_u16..30, 1_u32..4, 0_u16..3).prop_map(
        |(source, destination, port, ifindex, vlan)| {
            // Both addresses of one version: the destination takes the source's.
            let destination = match (source, destination) {
                (IpAddr::V4(_), IpAddr::V6(v6)) => {
                    let [.., host] = v6.octets();
                    IpAddr::from(Ipv4Addr::new(10, host % 4, 0, host))
                }
                (IpAddr::V6(_), IpAddr::V4(v4)) => {
                    let [_, net, _, host] = v4.octets();
                    let (net, host) = (u16::from(net), u16::from(host));
                    IpAddr::from(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, host))
                }
                (_, same) => same,
            };
            Connection { source, destination, port, ifindex, vlan }
        },
    )
}

proptest! {
    #[test]
    fn table_answers_as_the_reference(
        rules in prop::collection::vec(rule(), 0..12),
        connections in prop::collection::vec(connection(), 1..40),
    ) {
        let table = compile(&rules).unwrap();
        for connection in connections {
            prop_assert_eq!(walk(&table, &connection), decide(&rules, &connection));
            prop_assert_eq!(
                walk_without_ports(&table, &connection),
                decide_without_ports(&rules, &connection)
            );
        }
    }

    /// What a rule redirects or drops is found without ports too, unless a rule before forwards
    /// the addresses on every port.
    #[test]
    fn no_fragment_hides_a_steered_connection(
        rules in prop::collection::vec(rule(), 0..12),
        connection in connection(),
    ) {
        let steered = |verdict: Option<Verdict>| {
            verdict.is_some_and(|verdict| verdict.action != Action::Forward)
        };
        if steered(decide(&rules, &connection)) {
            prop_assert!(steered(decide_without_ports(&rules, &connection)));
        }
    }
}

#[test]
fn first_match_wins() {
    let host = Prefix::new("10.2.0.9".parse().unwrap(), 32).unwrap();
    let forward = Rule { action: Action::Forward, policy: 1, ..any_rule() };
    let redirect = Rule { destinations: vec![host], policy: 2, ..any_rule() };
    let connection = Connection {
        source: "10.1.0.2".parse().unwrap(),
        destination: "10.2.0.9".parse().unwrap(),
        port: 22,
        ifindex: 1,
        vlan: 0,
    };
    for (name, rules, expected) in [
        ("wide rule first", vec![forward.clone(), redirect.clone()], 1),
        ("narrow rule first", vec![redirect, forward], 2),
    ] {
        let table = compile(&rules).unwrap();
        assert_eq!(walk(&table, &connection).unwrap().policy, expected, "{name}");
        assert_eq!(decide(&rules, &connection).unwrap().policy, expected, "{name}");
    }
}

#[test]
fn limits() {
    let prefixes = |count: u32| -> Vec<Prefix> {
        (0..count).map(|n| Prefix::new(Ipv4Addr::from(n).into(), 32).unwrap()).collect()
    };
    let ports: Vec<_> = (0..64).map(|port| PortRange { first: port, last: port }).collect();
    let full = Rule { sources: prefixes(64), ports, ..any_rule() };
    for (name, rules, expected) in [
        ("as many as fit", vec![full.clone()], Ok(4096)),
        (
            "one more",
            vec![full, any_rule()],
            Err(CompileError::TooManyEntries { rule: 1, needed: 4097 }),
        ),
        (
            "slot",
            vec![Rule { policy: 1024, ..any_rule() }],
            Err(CompileError::PolicySlot { rule: 0, slot: 1024 }),
        ),
        (
            "VLAN",
            vec![any_rule(), Rule { vlans: vec![4095], ..any_rule() }],
            Err(CompileError::Vlan { rule: 1, vlan: 4095 }),
        ),
        (
            "two IP versions match nothing",
            vec![Rule {
                sources: vec![Prefix::new(Ipv4Addr::LOCALHOST.into(), 32).unwrap()],
                destinations: vec![Prefix::new(Ipv6Addr::LOCALHOST.into(), 128).unwrap()],
                ..any_rule()
            }],
            Ok(0),
        ),
    ] {
        assert_eq!(compile(&rules).map(|table| table.len()), expected, "{name}");
    }
}

#[test]
fn prefixes_and_ranges_are_checked() {
    let v4: IpAddr = Ipv4Addr::new(10, 1, 2, 3).into();
    assert_eq!(Prefix::new(v4, 16).unwrap().to_string(), "10.1.0.0/16");
    assert_eq!(Prefix::new(v4, 0).unwrap().to_string(), "0.0.0.0/0");
    assert_eq!(Prefix::new(v4, 33), Err(CompileError::PrefixLength { address: v4, length: 33 }));
    let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
    assert_eq!(Prefix::new(v6, 127).unwrap().to_string(), "::/127");
    assert_eq!(Prefix::new(v6, 129), Err(CompileError::PrefixLength { address: v6, length: 129 }));
    assert_eq!(PortRange::new(9, 8), Err(CompileError::PortRange { first: 9, last: 8 }));
}

#[test]
fn covering_prefixes() {
    let prefix = |address: &str, length| Prefix::new(address.parse().unwrap(), length).unwrap();
    for (name, outer, inner, expected) in [
        ("same", prefix("10.1.0.0", 16), prefix("10.1.0.0", 16), true),
        ("wider", prefix("10.0.0.0", 8), prefix("10.1.2.0", 24), true),
        ("narrower", prefix("10.1.2.0", 24), prefix("10.0.0.0", 8), false),
        ("beside", prefix("10.2.0.0", 16), prefix("10.1.0.0", 24), false),
        ("default", prefix("0.0.0.0", 0), prefix("10.1.0.0", 24), true),
        ("other version", prefix("::", 0), prefix("10.1.0.0", 24), false),
        ("IPv6", prefix("fd00::", 16), prefix("fd00:1::", 32), true),
    ] {
        assert_eq!(outer.covers(&inner), expected, "{name}");
    }
}
