//! The compiled table against the reference, and the limits of compilation.

use alloc::string::ToString as _;
use alloc::vec;
use alloc::vec::Vec;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Compiled, Room, compile};
use crate::action::{Action, OnDown, Verdict};
use crate::decide::{Connection, decide, decide_without_ports};
use crate::flow::Flow;
use crate::limits::{CELLS_MAX, POLICIES_MAX, RULES_MAX};
use crate::lookup::{Ports, Table, classify};
use crate::rule::{CompileError, PortRange, Prefix, Rule, words};
use crate::table::{
    CELLS_PER_ELEMENT, Class, Engine, Ipv4Engine, Layout, Node, Outcome, WORDS_PER_ELEMENT,
};
use proptest::prelude::*;

/// Room for every table that these tests make.
const PLENTY: Room = Room { bytes: 1 << 30, cells: CELLS_MAX };
/// Room for sets of rules only, and for hardly any blocks.
const NO_CELLS: Room = Room { cells: 0, ..PLENTY };
const LITTLE: Room = Room { bytes: 700_000, cells: 0 };

impl Table for Compiled {
    fn layout(&self) -> Option<&Layout> {
        Some(&self.layout)
    }

    fn block_entry(&self, block: u32, octet: u8) -> Option<u32> {
        Some(self.blocks.get(block as usize)?[usize::from(octet)])
    }

    fn node(&self, number: u32) -> Option<&Node> {
        self.nodes.get(number as usize)
    }

    fn port(&self, port: u16) -> Option<u32> {
        self.ports[0].get(usize::from(port)).copied()
    }

    fn interface_row(&self, ifindex: u32) -> u32 {
        self.interfaces.get(&ifindex).copied().unwrap_or(0)
    }

    fn vlan_column(&self, vlan: u16) -> Option<u32> {
        self.vlans[0].get(usize::from(vlan)).copied()
    }

    fn link(&self, number: u32) -> Option<u32> {
        self.links.get(number as usize).copied()
    }

    fn cell(&self, number: u32) -> Option<u16> {
        let element = self.cells.get((number / CELLS_PER_ELEMENT) as usize)?;
        Some(element[(number % CELLS_PER_ELEMENT) as usize])
    }

    fn class(&self, number: u32) -> Option<&Class> {
        self.classes.get(number as usize)
    }

    fn word(&self, number: u32) -> Option<u64> {
        let element = self.words.get((number / WORDS_PER_ELEMENT) as usize)?;
        Some(element[(number % WORDS_PER_ELEMENT) as usize])
    }

    fn outcome(&self, rule: u32) -> Option<Outcome> {
        self.outcomes.get(rule as usize).copied()
    }
}

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
        spares_host: false,
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

/// The verdicts with ports known and hidden.
fn verdicts(table: &Compiled, connection: &Connection) -> [Option<Verdict>; 2] {
    [Ports::Known, Ports::Hidden].map(|ports| classify(table, &flow(connection), ports))
}

fn expected(rules: &[Rule], host: &[IpAddr], connection: &Connection) -> [Option<Verdict>; 2] {
    [decide(rules, host, connection), decide_without_ports(rules, host, connection)]
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
            .prop_map(|(first, more)| PortRange::new(first, first + more).unwrap()),
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
    (lists, 0_u8..3, 0_u8..3, 0_u16..1024, any::<bool>()).prop_map(
        |(lists, action, on_down, policy, spares_host)| Rule {
            sources: lists.0,
            destinations: lists.1,
            ports: lists.2,
            interfaces: lists.3,
            vlans: lists.4,
            action: Action::from_u8(action).unwrap(),
            on_down: OnDown::from_u8(on_down).unwrap(),
            policy,
            spares_host,
        },
    )
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
        host in prop::collection::vec(address(), 0..3),
        connections in prop::collection::vec(connection(), 1..40),
    ) {
        for room in [PLENTY, NO_CELLS, LITTLE] {
            let table = compile(&rules, &host, room).unwrap();
            for connection in &connections {
                let expected = expected(&rules, &host, connection);
                prop_assert_eq!(verdicts(&table, connection), expected, "{:?}", room);
            }
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
        let [known, hidden] = expected(&rules, &[], &connection);
        prop_assert!(!steered(known) || steered(hidden));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn many_rules_answer_as_the_reference(
        rules in prop::collection::vec(rule(), 150..400),
        connections in prop::collection::vec(connection(), 100..200),
    ) {
        for room in [PLENTY, NO_CELLS, LITTLE] {
            let table = compile(&rules, &[], room).unwrap();
            for connection in &connections {
                let expected = expected(&rules, &[], connection);
                prop_assert_eq!(verdicts(&table, connection), expected, "{:?}", room);
            }
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
    for (name, rules, policy) in [
        ("wide rule first", vec![forward.clone(), redirect.clone()], 1),
        ("narrow rule first", vec![redirect, forward], 2),
    ] {
        let table = compile(&rules, &[], PLENTY).unwrap();
        let [known, _hidden] = verdicts(&table, &connection);
        assert_eq!(known.unwrap().policy, policy, "{name}");
        assert_eq!(decide(&rules, &[], &connection).unwrap().policy, policy, "{name}");
    }
}

#[test]
fn engines_follow_the_room() {
    let net = Prefix::new("10.2.0.0".parse().unwrap(), 24).unwrap();
    let rules = [Rule { destinations: vec![net], ..any_rule() }];
    for (name, room, engine, ipv4_engine) in [
        ("plenty", PLENTY, Engine::Direct, Ipv4Engine::Blocks),
        ("no cells", NO_CELLS, Engine::Vectors, Ipv4Engine::Blocks),
        ("little", LITTLE, Engine::Vectors, Ipv4Engine::Blocks),
        ("less", Room { bytes: 400_000, ..LITTLE }, Engine::Vectors, Ipv4Engine::Trie),
    ] {
        let layout = compile(&rules, &[], room).unwrap().layout;
        let found = (layout.engine, layout.ipv4_engine);
        assert_eq!(found, (engine as u32, ipv4_engine as u32), "{name}");
    }
}

#[test]
fn limits() {
    let rules_max = RULES_MAX as usize;
    let slot = u16::try_from(POLICIES_MAX).unwrap();
    let narrow = |count: u32| -> Vec<Rule> {
        let prefix = |n: u32| Prefix::new(Ipv4Addr::from(n << 8).into(), 32).unwrap();
        (0..count).map(|n| Rule { sources: vec![prefix(n)], ..any_rule() }).collect()
    };
    for (name, rules, room, expected) in [
        ("as many rules as fit", vec![any_rule(); rules_max], PLENTY, None),
        (
            "one more",
            vec![any_rule(); rules_max + 1],
            PLENTY,
            Some(CompileError::TooManyRules { count: rules_max + 1 }),
        ),
        (
            "slot",
            vec![Rule { policy: slot, ..any_rule() }],
            PLENTY,
            Some(CompileError::PolicySlot { rule: 0, slot }),
        ),
        (
            "VLAN",
            vec![any_rule(), Rule { vlans: vec![4095], ..any_rule() }],
            PLENTY,
            Some(CompileError::Vlan { rule: 1, vlan: 4095 }),
        ),
        (
            "addresses without room for blocks",
            narrow(2000),
            Room { bytes: 2 << 20, ..LITTLE },
            None,
        ),
    ] {
        assert_eq!(compile(&rules, &[], room).err(), expected, "{name}");
    }
    let error = compile(&narrow(2000), &[], Room { bytes: 300_000, ..PLENTY }).unwrap_err();
    assert!(matches!(error, CompileError::TooLarge { limit: 300_000, .. }), "{error}");
}

/// What the last bit of a set, a class and a table of its largest size say.
#[test]
fn the_last_of_many_rules_is_found() {
    let prefix = |number: u32| {
        let net = Ipv4Addr::from(0x0a00_0000 | number << 4);
        Prefix::new(net.into(), 28).unwrap()
    };
    let rules: Vec<_> = (0..RULES_MAX)
        .map(|number| Rule {
            destinations: vec![prefix(number)],
            ports: vec![PortRange::new(22, 22).unwrap()],
            policy: u16::try_from(number).unwrap(),
            ..any_rule()
        })
        .collect();
    let table = compile(&rules, &[], NO_CELLS).unwrap();
    for number in [0, 63, 64, 4095, 4096, 8191, RULES_MAX - 1] {
        let connection = Connection {
            source: "10.1.0.2".parse().unwrap(),
            destination: Ipv4Addr::from(0x0a00_0005 | number << 4).into(),
            port: 22,
            ifindex: 1,
            vlan: 0,
        };
        let [known, hidden] = verdicts(&table, &connection);
        assert_eq!(u32::from(known.unwrap().policy), number);
        assert_eq!(known, hidden);
        let other = Connection { port: 23, ..connection };
        assert_eq!(verdicts(&table, &other)[0], None, "{number}");
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
