//! Where a fast path can be: it goes around the kernel's stack, and must not go around what the
//! stack would do for the packets.

use std::fs;
use std::io;
use std::path::Path;

use super::interface::Interface;
use super::{SteeringError, netlink};

/// Tables of the old iptables in this namespace; there is a line for each.
const OLD_TABLES: [&str; 2] = ["/proc/self/net/ip_tables_names", "/proc/self/net/ip6_tables_names"];

/// Why an interface cannot have the fast path at the driver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Its frames are the bridge's or the bond's.
    #[error("it is a port of a bridge or bond, which is to get its frames")]
    Port,
    /// It is made by the kernel, as veth, bridges, bonds and VLANs are.
    #[error(
        "it needs a network card: senders on interfaces of the kernel's own (veth, bridge, bond, \
         VLAN) leave checksums to hardware that is not there; use \"tc\""
    )]
    NoCard,
    /// Programs at the driver do not see the VLAN of a frame.
    #[error(
        "its card takes VLAN tags out of frames, so that those of every VLAN look alike: \
         `ethtool -K INTERFACE rxvlan off rx-vlan-stag-hw-parse off`"
    )]
    StripsTags,
    /// It has no address that frames for this host carry.
    #[error("it has no hardware address of 6 bytes")]
    NoAddress,
    /// Its driver receives for XDP programs, and does not send.
    #[error("its driver does not send frames that are redirected to it; use \"tc\"")]
    SendsNothing,
    /// The kernel does not tell what the driver does.
    #[error("the kernel does not tell the features of its driver")]
    Unknown(#[source] io::Error),
}

/// Checks, before a program is there, that an interface can have the fast path at the driver.
pub(crate) fn check(interface: &Interface) -> Result<(), SteeringError> {
    let unfit = if interface.controller.is_some() {
        Unfit::Port
    } else if !interface.is_card {
        Unfit::NoCard
    } else {
        match netlink::strips_tags(interface.index) {
            Ok(false) => return Ok(()),
            Ok(true) => Unfit::StripsTags,
            Err(error) => Unfit::Unknown(error),
        }
    };
    Err(because(interface, unfit))
}

/// Checks, once a program is there, that the driver sends what is redirected to the interface:
/// many drivers do only then.
pub(crate) fn check_sending(interface: &Interface) -> Result<(), SteeringError> {
    match netlink::takes_redirected(interface.index) {
        Ok(true) => Ok(()),
        Ok(false) => Err(because(interface, Unfit::SendsNothing)),
        Err(error) => Err(because(interface, Unfit::Unknown(error))),
    }
}

/// The error that an interface is unfit.
pub(crate) fn because(interface: &Interface, why: Unfit) -> SteeringError {
    SteeringError::Unfit { interface: interface.name.clone(), source: why }
}

/// Says in the log that there are netfilter rules, which forwarded packets no longer meet.
pub(crate) fn warn_of_netfilter() {
    let is_used = |path: &&str| fs::read_to_string(path).is_ok_and(|text| !text.is_empty());
    // A kernel without nftables does not know the question.
    if netlink::has_nft_tables().unwrap_or(false) || OLD_TABLES.iter().any(is_used) {
        tracing::warn!(
            "This host has netfilter rules; packets that the fast path forwards do not meet them"
        );
    }
}

/// Checks that no interface validates source addresses strictly, which a fast path does not: the
/// larger of its own setting and that of "all" is 1 (RFC 3704; 0 is off, 2 is loose).
pub(crate) fn check_reverse_path(interfaces: &[&str]) -> Result<(), SteeringError> {
    let setting = |name| Path::new("/proc/sys/net/ipv4/conf").join(name).join("rp_filter");
    let read = |path: &Path| -> u8 {
        fs::read_to_string(path).ok().and_then(|value| value.trim().parse().ok()).unwrap_or(0)
    };
    let all = setting("all");
    for interface in interfaces {
        let own = setting(interface);
        match (read(&own), read(&all)) {
            (1, 0 | 1) => return Err(SteeringError::ReversePath { path: own }),
            (0, 1) => return Err(SteeringError::ReversePath { path: all }),
            _ => {}
        }
    }
    Ok(())
}
