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

/// Marks routes as the daemon's own, so that they are found again after a crash. The numbers up
/// to 192 in `rtnetlink(7)` that nobody took.
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
pub(crate) async fn reconcile(handle: &Handle, routing: &Routing) -> Result<(), SteeringError> {
    for family in families() {
        if own_rules(handle, routing, family).await?.is_empty() {
            add_rule(handle, routing, family).await?;
        }
        add_route(handle, local_route(routing, family), "add the local route").await?;
    }
    Ok(())
}

/// Removes rules, local routes and on-link routes that the daemon added.
pub(crate) async fn remove(handle: &Handle, routing: &Routing) -> Result<(), SteeringError> {
    for family in families() {
        for rule in own_rules(handle, routing, family).await? {
            let removed = handle.rule().del(rule).execute().await;
            removed.or_else(unless_absent).map_err(during("remove the policy routing rule"))?;
        }
        for route in routes(handle, family).await? {
            if route.header.protocol == PROTOCOL {
                let removed = handle.route().del(route).execute().await;
                removed.or_else(unless_absent).map_err(during("remove a route"))?;
            }
        }
    }
    Ok(())
}

/// Makes the subnets that a bridge serves reachable through it: adds an on-link route for each
/// prefix that no route through the bridge covers. Gives those that stay unreachable: prefixes
/// of length 0, whose hosts cannot all be on the link.
pub(crate) async fn reach_through_bridge(
    handle: &Handle,
    bridge: u32,
    prefixes: &[Prefix],
) -> Result<Vec<Prefix>, SteeringError> {
    let mut unreachable = Vec::new();
    for family in families() {
        let through: Vec<_> = routes(handle, family)
            .await?
            .into_iter()
            .filter(|route| table(route) == u32::from(RouteHeader::RT_TABLE_MAIN))
            .filter(|route| route.attributes.contains(&RouteAttribute::Oif(bridge)))
            .filter_map(|route| destination(&route, family))
            .collect();
        for prefix in prefixes.iter().filter(|prefix| prefix.family() == family) {
            if through.iter().any(|route| covers(route, prefix)) {
                continue;
            }
            if prefix.length() == 0 {
                unreachable.push(*prefix);
                continue;
            }
            add_route(handle, on_link_route(*prefix, bridge), "add an on-link route").await?;
        }
    }
    Ok(unreachable)
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

async fn own_rules(
    handle: &Handle,
    routing: &Routing,
    family: Family,
) -> Result<Vec<RuleMessage>, SteeringError> {
    let version = match family {
        Family::V4 => IpVersion::V4,
        Family::V6 => IpVersion::V6,
    };
    let rules = handle.rule().get(version).execute().try_collect::<Vec<_>>().await;
    let rules = rules.map_err(during("list policy routing rules"))?;
    Ok(rules.into_iter().filter(|rule| is_own_rule(rule, routing)).collect())
}

fn is_own_rule(rule: &RuleMessage, routing: &Routing) -> bool {
    let has = |attribute| rule.attributes.contains(&attribute);
    let mark = has(RuleAttribute::FwMark(routing.route_mark));
    let mask = has(RuleAttribute::FwMask(routing.route_mark));
    let table =
        u32::from(rule.header.table) == routing.table || has(RuleAttribute::Table(routing.table));
    mark && mask && table
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
    message.header.family = address_family(family);
    let added = request.execute().await;
    added.or_else(unless_present).map_err(during("add the policy routing rule"))
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
    let added = handle.route().add(route).execute().await;
    added.or_else(unless_present).map_err(during(what))
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

fn covers(outer: &Prefix, inner: &Prefix) -> bool {
    outer.length() <= inner.length()
        && Prefix::new(inner.address(), outer.length()).is_ok_and(|cut| cut == *outer)
}

const fn address_family(family: Family) -> AddressFamily {
    match family {
        Family::V4 => AddressFamily::Inet,
        Family::V6 => AddressFamily::Inet6,
    }
}

fn unless_present(error: rtnetlink::Error) -> Result<(), rtnetlink::Error> {
    unless(error, libc::EEXIST)
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
    use super::covers;
    use steering_common::rule::Prefix;

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
            assert_eq!(covers(&outer, &inner), expected, "{name}");
        }
    }
}
