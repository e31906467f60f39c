//! Target selection: which server a session goes to.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nix::net::if_::if_nametoindex;
use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::net::HostName;
use proxyd_policy::target::{Choice, RequestedTarget, TargetPolicy};

use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::Stop;

/// A server that the policy allows, at the address that was checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    address: SocketAddr,
    name: Option<HostName>,
}

impl Target {
    /// The address to connect to, and no other.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name it was chosen by, if it was.
    #[must_use]
    pub const fn name(&self) -> Option<&HostName> {
        self.name.as_ref()
    }

    /// What users call the server: its name where they gave one, else its address.
    #[must_use]
    pub fn display(&self) -> String {
        match &self.name {
            Some(name) => name.as_str().to_owned(),
            None => self.address.ip().to_string(),
        }
    }
}

/// Chooses the server of this session; `requested` is what the user name says.
pub async fn select(
    session: &mut Session,
    admitted: &Admitted,
    requested: Option<&RequestedTarget>,
    resolve_limit: Duration,
) -> Result<Target, Stop> {
    let own = own_addresses()?;
    let policy = &admitted.policy().target;
    let target = match policy.choose(admitted.flow().original_destination, requested, &own)? {
        Choice::Address(address) => {
            let zone = requested.and_then(|requested| requested.zone.as_deref());
            Target { address: on_link(address, zone)?, name: None }
        }
        Choice::Names { names, port } => resolve(policy, &names, port, &own, resolve_limit).await?,
    };
    session.note(Event::Target { address: target.address });
    session.update(|live| live.target = target.address.to_string());
    Ok(target)
}

/// The address on the link that `zone`, the name of an interface, says.
fn on_link(address: SocketAddr, zone: Option<&str>) -> Result<SocketAddr, DenyReason> {
    match (address, zone) {
        (SocketAddr::V6(mut v6), Some(zone)) => match if_nametoindex(zone) {
            Ok(index) => {
                v6.set_scope_id(index);
                Ok(v6.into())
            }
            Err(_unknown) => Err(DenyReason::TargetNotResolved),
        },
        (address, _) => Ok(address),
    }
}

/// The first address, of the first name that resolves, that the policy allows.
async fn resolve(
    policy: &TargetPolicy,
    names: &[HostName],
    port: u16,
    own: &[IpAddr],
    limit: Duration,
) -> Result<Target, Stop> {
    let mut denied = DenyReason::TargetNotResolved;
    for name in names {
        let lookup = tokio::net::lookup_host((name.as_str(), port));
        let Ok(Ok(addresses)) = tokio::time::timeout(limit, lookup).await else { continue };
        for address in addresses {
            match policy.check_resolved(name, address, own) {
                Ok(address) => {
                    return Ok(Target { address, name: Some(name.clone()) });
                }
                Err(reason) => denied = reason,
            }
        }
        // The first name that resolves is the one that is meant.
        if denied != DenyReason::TargetNotResolved {
            break;
        }
    }
    Err(denied.into())
}

/// The addresses of this host, none of which can be a target.
fn own_addresses() -> Result<Vec<IpAddr>, Stop> {
    let interfaces = nix::ifaddrs::getifaddrs()
        .map_err(|errno| Stop::gateway("target", std::io::Error::from(errno)))?;
    let addresses = interfaces.filter_map(|interface| interface.address).filter_map(|address| {
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    });
    Ok(addresses.collect())
}
