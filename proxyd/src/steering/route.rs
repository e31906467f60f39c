//! Policy routing: the rule that sends marked packets into this host, its table, the on-link
//! routes of a bridge, and the kernel settings that all of it needs.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::pin::pin;

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};
use steering_common::flow::Family;
use steering_common::rule::Prefix;

use super::{Routing, SteeringError};

/// Marks routes and rules as the daemon's own, so that they are found again after a crash,
/// whatever mark and table it was told to use. One of the numbers that nobody took in
/// `linux/rtnetlink.h`; rules have an attribute for the same numbers.
const PROTOCOL: RouteProtocol = RouteProtocol::Other(113);

/// The loopback interface; the kernel gives it this index in every namespace.
const LOOPBACK_IFINDEX: u32 = 1;

/// Runs `operation` with a netlink handle of the calling thread's network namespace.
pub(crate) async fn with_netlink<T, F>(
    operation: impl FnOnce(Handle) -> F,
) -> Result<T, SteeringError>
where
    F: Future<Output = Result<T, SteeringError>>,
{
    let (connection, handle, _) =
        rtnetlink::new_connection().map_err(SteeringError::NetlinkSocket)?;
    let operation = pin!(operation(handle));
    // The connection ends only when its handles are gone, and the operation holds one.
    tokio::select! {
        result = operation => result,
        () = connection => Err(SteeringError::NetlinkClosed),
    }
}

/// Adds the rules and local routes that are not there; what is there already stays.
pub(crate) async fn add(handle: &Handle, routing: &Routing) -> Result<(), SteeringError> {
    for family in families() {
        let has_rule = own_rules(handle, family).await?.iter().any(|rule| is_wanted(rule, routing));
        if !has_rule {
            add_rule(handle, routing, family).await?;
        }
        let in_table = |route: &RouteMessage| table(route) == routing.table;
        let (own, foreign): (Vec<_>, Vec<_>) =
            routes(handle, family).await?.into_iter().filter(in_table).partition(is_own);
        if !foreign.is_empty() {
            return Err(SteeringError::TableInUse { table: routing.table });
        }
        if !own.iter().any(|route| route.header.kind == RouteType::Local) {
            add_route(handle, local_route(routing, family), "add the local route").await?;
        }
    }
    Ok(())
}

/// Removes the rules and local routes of another mark, table or priority, which a daemon that was
/// killed leaves behind.
pub(crate) async fn remove_outdated(
    handle: &Handle,
    routing: &Routing,
) -> Result<(), SteeringError> {
    let mut outcome = Ok(());
    for family in families() {
        for rule in own_rules(handle, family).await? {
            if !is_wanted(&rule, routing) {
                outcome = outcome.and(remove_rule(handle, rule).await);
            }
        }
        for route in routes(handle, family).await? {
            if is_own(&route)
                && route.header.kind == RouteType::Local
                && table(&route) != routing.table
            {
                outcome = outcome.and(remove_route(handle, route).await);
            }
        }
    }
    outcome
}

/// Removes every rule and route of the daemon's: all are tried, the first failure is told.
pub(crate) async fn remove(handle: &Handle) -> Result<(), SteeringError> {
    let mut outcome = Ok(());
    for family in families() {
        for rule in own_rules(handle, family).await? {
            outcome = outcome.and(remove_rule(handle, rule).await);
        }
        for route in routes(handle, family).await? {
            if is_own(&route) {
                outcome = outcome.and(remove_route(handle, route).await);
            }
        }
    }
    outcome
}

/// Makes the subnets that a bridge serves reachable through it: adds an on-link route for each
/// prefix that no route of the administrator's covers, and removes those of prefixes no longer
/// served. Gives the prefixes that are not reached through the bridge: those that routes over
/// other interfaces cover, and those of length 0, whose hosts cannot all be on the link.
pub(crate) async fn reach_through_bridge(
    handle: &Handle,
    bridge: u32,
    prefixes: &[Prefix],
) -> Result<Vec<Prefix>, SteeringError> {
    let mut elsewhere = Vec::new();
    for family in families() {
        let in_main = |route: &RouteMessage| table(route) == u32::from(RouteHeader::RT_TABLE_MAIN);
        let (own, foreign): (Vec<_>, Vec<_>) =
            routes(handle, family).await?.into_iter().filter(in_main).partition(is_own);
        let foreign: Vec<_> = foreign.iter().filter_map(|route| reach(route, family)).collect();
        let mut wanted = Vec::new();
        for prefix in prefixes.iter().filter(|prefix| prefix.family() == family) {
            match way(&foreign, prefix, bridge) {
                Way::Bridge => {}
                Way::None if prefix.length() > 0 => wanted.push(*prefix),
                Way::None | Way::Elsewhere => elsewhere.push(*prefix),
            }
        }
        for route in own {
            let reach = reach(&route, family);
            if !reach.is_some_and(|(to, over)| over == bridge && wanted.contains(&to)) {
                remove_route(handle, route).await?;
            } else if let Some((to, _bridge)) = reach {
                wanted.retain(|prefix| *prefix != to);
            }
        }
        for prefix in wanted {
            add_route(handle, on_link_route(prefix, bridge), "add an on-link route").await?;
        }
    }
    Ok(elsewhere)
}

/// How the routes of others lead to a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Not at all.
    None,
    /// Through the bridge, on the link or to a router behind it.
    Bridge,
    /// Over another interface.
    Elsewhere,
}

/// The way of the narrowest of `routes`, each a destination and an interface, that covers
/// `prefix`; of equal ones, the bridge's.
fn way(routes: &[(Prefix, u32)], prefix: &Prefix, bridge: u32) -> Way {
    let covering = routes.iter().filter(|(to, _)| to.covers(prefix));
    match covering.max_by_key(|(to, over)| (to.length(), *over == bridge)) {
        None => Way::None,
        Some((_, over)) if *over == bridge => Way::Bridge,
        Some(_) => Way::Elsewhere,
    }
}

/// Checks that the kernel forwards, in router mode.
pub(crate) fn check_forwarding() -> Result<(), SteeringError> {
    const V4: &str = "/proc/sys/net/ipv4/ip_forward";
    const V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";
    let (v4, v6) = (is_set(V4), is_set(V6));
    match (v4, v6) {
        (false, false) => Err(SteeringError::ForwardingOff),
        (true, true) => Ok(()),
        (true, false) | (false, true) => {
            let off = if v4 { V6 } else { V4 };
            tracing::warn!(setting = off, "Forwarding is off for one IP version");
            Ok(())
        }
    }
}

/// Checks that the kernel does not use packet marks to validate sources: the marked packets of
/// clients would look as if they came from this host, and be dropped.
pub(crate) fn check_source_validation(interfaces: &[&str]) -> Result<(), SteeringError> {
    for interface in interfaces.iter().chain(&["all"]) {
        let path = format!("/proc/sys/net/ipv4/conf/{interface}/src_valid_mark");
        if is_set(&path) {
            return Err(SteeringError::SourceValidation { path });
        }
    }
    Ok(())
}

fn is_set(path: &str) -> bool {
    fs::read_to_string(path).is_ok_and(|value| value.trim() != "0")
}

/// The IP versions of this namespace; IPv6 can be absent from the kernel.
fn families() -> impl Iterator<Item = Family> {
    let v6 = Path::new("/proc/sys/net/ipv6").exists().then_some(Family::V6);
    [Family::V4].into_iter().chain(v6)
}

/// The rules that a daemon added, whatever mark and table it was told to use.
async fn own_rules(handle: &Handle, family: Family) -> Result<Vec<RuleMessage>, SteeringError> {
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    let rules = handle.rule().get(version).execute().try_collect::<Vec<_>>().await;
    let mut rules = rules.map_err(during("list policy routing rules"))?;
    rules.retain(|rule| rule.attributes.contains(&RuleAttribute::Protocol(PROTOCOL)));
    Ok(rules)
}

fn is_wanted(rule: &RuleMessage, routing: &Routing) -> bool {
    let has = |attribute| rule.attributes.contains(&attribute);
    let table =
        u32::from(rule.header.table) == routing.table || has(RuleAttribute::Table(routing.table));
    table
        && has(RuleAttribute::FwMark(routing.route_mark))
        && has(RuleAttribute::FwMask(routing.route_mark))
        && has(RuleAttribute::Priority(routing.rule_priority))
}

fn is_own(route: &RouteMessage) -> bool {
    route.header.protocol == PROTOCOL
}

async fn add_rule(handle: &Handle, routing: &Routing, family: Family) -> Result<(), SteeringError> {
    let mut request = handle
        .rule()
        .add()
        .table_id(routing.table)
        .priority(routing.rule_priority)
        .action(RuleAction::ToTable)
        .fw_mark(routing.route_mark);
    let message = request.message_mut();
    message.attributes.push(RuleAttribute::FwMask(routing.route_mark));
    message.attributes.push(RuleAttribute::Protocol(PROTOCOL));
    message.header.family = address_family(family);
    request.execute().await.map_err(during("add the policy routing rule"))
}

async fn remove_rule(handle: &Handle, rule: RuleMessage) -> Result<(), SteeringError> {
    let removed = handle.rule().del(rule).execute().await;
    removed.or_else(unless_absent).map_err(during("remove a policy routing rule"))
}

fn local_route(routing: &Routing, family: Family) -> RouteMessage {
    match family {
        Family::V4 => RouteMessageBuilder::<Ipv4Addr>::new()
            .table_id(routing.table)
            .kind(RouteType::Local)
            .scope(RouteScope::Host)
            .protocol(PROTOCOL)
            .output_interface(LOOPBACK_IFINDEX)
            .build(),
        Family::V6 => RouteMessageBuilder::<Ipv6Addr>::new()
            .table_id(routing.table)
            .kind(RouteType::Local)
            .protocol(PROTOCOL)
            .output_interface(LOOPBACK_IFINDEX)
            .build(),
    }
}

fn on_link_route(prefix: Prefix, bridge: u32) -> RouteMessage {
    match prefix.address() {
        IpAddr::V4(network) => RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(network, prefix.length())
            .scope(RouteScope::Link)
            .protocol(PROTOCOL)
            .output_interface(bridge)
            .build(),
        IpAddr::V6(network) => RouteMessageBuilder::<Ipv6Addr>::new()
            .destination_prefix(network, prefix.length())
            .protocol(PROTOCOL)
            .output_interface(bridge)
            .build(),
    }
}

async fn add_route(
    handle: &Handle,
    route: RouteMessage,
    what: &'static str,
) -> Result<(), SteeringError> {
    handle.route().add(route).execute().await.map_err(during(what))
}

async fn remove_route(handle: &Handle, route: RouteMessage) -> Result<(), SteeringError> {
    let removed = handle.route().del(route).execute().await;
    removed.or_else(unless_absent).map_err(during("remove a route"))
}

async fn routes(handle: &Handle, family: Family) -> Result<Vec<RouteMessage>, SteeringError> {
    let mut filter = RouteMessage::default();
    filter.header.address_family = address_family(family);
    let routes = handle.route().get(filter).execute().try_collect::<Vec<_>>().await;
    routes.map_err(during("list routes"))
}

/// The table of a route; numbers above 255 stand in an attribute.
fn table(route: &RouteMessage) -> u32 {
    let attribute = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Table(table) = attribute { Some(*table) } else { None }
    });
    attribute.unwrap_or_else(|| u32::from(route.header.table))
}

/// Destination and interface of a route; none where it has no interface, as a blackhole.
fn reach(route: &RouteMessage, family: Family) -> Option<(Prefix, u32)> {
    let interface = route.attributes.iter().find_map(|attribute| {
        if let RouteAttribute::Oif(index) = attribute {
            Some(*index)
        } else if let RouteAttribute::MultiPath(hops) = attribute {
            hops.first().map(|hop| hop.interface_index)
        } else {
            None
        }
    })?;
    Some((destination(route, family)?, interface))
}

fn destination(route: &RouteMessage, family: Family) -> Option<Prefix> {
    let attribute = route.attributes.iter().find_map(|attribute| {
        let RouteAttribute::Destination(address) = attribute else { return None };
        if let RouteAddress::Inet(v4) = address {
            Some(IpAddr::V4(*v4))
        } else if let RouteAddress::Inet6(v6) = address {
            Some(IpAddr::V6(*v6))
        } else {
            None
        }
    });
    // A default route names no destination.
    let address = attribute.unwrap_or(match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    });
    Prefix::new(address, route.header.destination_prefix_length).ok()
}

const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

/// The kernel says `ESRCH` or `ENOENT` for a route or rule that somebody else removed first.
fn unless_absent(error: rtnetlink::Error) -> Result<(), rtnetlink::Error> {
    unless(error, libc::ESRCH).or_else(|error| unless(error, libc::ENOENT))
}

fn unless(error: rtnetlink::Error, expected: i32) -> Result<(), rtnetlink::Error> {
    if let rtnetlink::Error::NetlinkError(message) = &error
        && message.raw_code() == -expected
    {
        return Ok(());
    }
    Err(error)
}

const fn during(what: &'static str) -> impl Fn(rtnetlink::Error) -> SteeringError {
    move |source| SteeringError::Netlink { what, source }
}

#[cfg(test)]
mod tests {
    use super::{Way, way};
    use steering_common::rule::Prefix;

    #[test]
    fn ways_to_a_prefix() {
        const BRIDGE: u32 = 7;
        const OTHER: u32 = 8;
        let prefix = |length| Prefix::new("10.1.0.0".parse().unwrap(), length).unwrap();
        let default = Prefix::new("0.0.0.0".parse().unwrap(), 0).unwrap();
        let served = prefix(24);
        for (name, routes, expected) in [
            ("no route", vec![], Way::None),
            ("narrower", vec![(prefix(25), OTHER)], Way::None),
            ("on the link", vec![(prefix(24), BRIDGE)], Way::Bridge),
            ("a router behind the bridge", vec![(default, BRIDGE)], Way::Bridge),
            ("default over another interface", vec![(default, OTHER)], Way::Elsewhere),
            ("equal over another interface", vec![(prefix(24), OTHER)], Way::Elsewhere),
            ("narrowest is the bridge", vec![(default, OTHER), (prefix(16), BRIDGE)], Way::Bridge),
            ("narrowest is not", vec![(prefix(16), OTHER), (default, BRIDGE)], Way::Elsewhere),
            ("equal over both", vec![(prefix(24), BRIDGE), (prefix(24), OTHER)], Way::Bridge),
        ] {
            assert_eq!(way(&routes, &served, BRIDGE), expected, "{name}");
        }
    }
}
