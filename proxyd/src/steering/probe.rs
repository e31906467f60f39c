//! The check of a table before it is put in force: the programs loaded with it judge SYNs that the
//! kernel runs through them, and have to answer as the rules read one by one.

use std::net::IpAddr;

use aya::programs::{SchedClassifier, TestRun as _, TestRunOptions};
use steering_common::action::Verdict;
use steering_common::decide::{Connection, decide};
use steering_common::rule::{PortRange, Prefix, Rule};

use super::SteeringError;

/// Rules that are tried, spread evenly, the first and the last among them: enough to meet every
/// part of a table, few enough to take no time that anybody waits for.
const RULES_TRIED_MAX: usize = 256;

/// Test runs arrive on the loopback interface.
const IFINDEX: u32 = 1;

/// Tries `judge` with a connection that each of some rules matches, and some that are near misses.
pub(crate) fn check(
    judge: &SchedClassifier,
    rules: &[Rule],
    host: &[IpAddr],
) -> Result<(), SteeringError> {
    let step = rules.len().div_ceil(RULES_TRIED_MAX).max(1);
    let tried = rules.iter().step_by(step).chain(rules.last());
    for connection in tried.flat_map(samples) {
        let expected = Verdict::pack(decide(rules, host, &connection));
        let found = run(judge, &syn(&connection))?;
        if found != expected {
            return Err(SteeringError::WrongVerdict { connection, expected, found });
        }
    }
    Ok(())
}

fn run(judge: &SchedClassifier, frame: &[u8]) -> Result<u32, SteeringError> {
    let options = TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() };
    let result = judge.test_run(options);
    result
        .map(|result| result.return_value)
        .map_err(|source| SteeringError::TestRun { source: Box::new(source) })
}

/// Connections at the edges of a rule: within, and one port beside.
fn samples(rule: &Rule) -> Vec<Connection> {
    let ends = |prefixes: &[Prefix], is_v4: bool| {
        let of_version = prefixes.iter().filter(|prefix| prefix.address().is_ipv4() == is_v4);
        let last = of_version.clone().next_back().map(last_address);
        let first = of_version.map(Prefix::address).next();
        first.zip(last).map(|(first, last)| [first, last])
    };
    let some =
        |is_v4| if is_v4 { IpAddr::from([192, 0, 2, 1]) } else { IpAddr::from(DOCUMENTATION) };
    let mut samples = Vec::new();
    for is_v4 in [true, false] {
        let sources = ends(&rule.sources, is_v4).unwrap_or([some(is_v4); 2]);
        let destinations = ends(&rule.destinations, is_v4).unwrap_or([some(is_v4); 2]);
        let range = rule.ports.first().copied().unwrap_or(PortRange::ALL);
        let ports = [range.first(), range.last(), range.last().wrapping_add(1)];
        let vlan = rule.vlans.first().copied().unwrap_or(0);
        for ((source, destination), port) in
            sources.into_iter().zip(destinations).flat_map(|pair| ports.map(|port| (pair, port)))
        {
            samples.push(Connection { source, destination, port, ifindex: IFINDEX, vlan });
        }
    }
    samples
}

/// An address that nobody has (RFC 3849).
const DOCUMENTATION: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];

fn last_address(prefix: &Prefix) -> IpAddr {
    let length = u32::from(prefix.length());
    match prefix.address() {
        IpAddr::V4(v4) => {
            IpAddr::V4((v4.to_bits() | u32::MAX.checked_shr(length).unwrap_or(0)).into())
        }
        IpAddr::V6(v6) => {
            IpAddr::V6((v6.to_bits() | u128::MAX.checked_shr(length).unwrap_or(0)).into())
        }
    }
}

/// A SYN as a frame. No checksum is set: nothing looks at one.
fn syn(connection: &Connection) -> Vec<u8> {
    let mut frame = vec![0; 12];
    if connection.vlan != 0 {
        frame.extend([0x81, 0x00]);
        frame.extend(connection.vlan.to_be_bytes());
    }
    match (connection.source, connection.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            // Version and length, 40 bytes in all, not fragmented, TCP.
            frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend(source.octets());
            frame.extend(destination.octets());
        }
        (source, destination) => {
            // Version, 20 bytes follow, TCP.
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
            for address in [source, destination] {
                match address {
                    IpAddr::V4(v4) => frame.extend(v4.to_ipv6_mapped().octets()),
                    IpAddr::V6(v6) => frame.extend(v6.octets()),
                }
            }
        }
    }
    // From any port; a header of five words; SYN.
    frame.extend([0x9c, 0x40]);
    frame.extend(connection.port.to_be_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 0x02, 0xff, 0xff, 0, 0, 0, 0]);
    frame
}
