//! Choosing the server of a session, and refusing addresses no session may be sent to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use ipnet::IpNet;

use crate::net::{Host, HostName, HostPattern, NetError, PortRange, any_contains, is_mapped};
use crate::reason::DenyReason;

/// How the server of a session is chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPolicy {
    /// The address the client connected to.
    Original,
    /// Always the same server.
    Fixed {
        /// The server.
        host: Host,
        /// Its port.
        port: u16,
    },
    /// The server that the user names in the user name.
    Inband(InbandTargets),
}

/// Which servers a user may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InbandTargets {
    /// The servers and ports that may be named; never empty.
    pub allowed: Vec<AllowedTarget>,
    /// Servers that may not, whatever `allowed` says.
    pub exceptions: Vec<HostPattern>,
    /// Loopback, link-local and own addresses that may be named all the same.
    pub reserved: Vec<IpNet>,
    /// Tried in order after a name of a single label.
    pub dns_suffixes: Vec<HostName>,
    /// The port when the user names none.
    pub default_port: u16,
}

/// Servers a user may name, and the ports on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedTarget {
    /// The servers.
    pub host: HostPattern,
    /// The ports; absent: the default port of the protocol only.
    pub ports: Option<PortRange>,
}

/// A server as the user named it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedTarget {
    /// The server.
    pub host: Host,
    /// The interface behind which an IPv6 link-local address is meant (RFC 4007 section 11).
    pub zone: Option<String>,
    /// The port, if one was named.
    pub port: Option<u16>,
}

/// The outcome of [`TargetPolicy::choose`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// This address, checked.
    Address(SocketAddr),
    /// The first of `names` that resolves; each of its addresses still needs
    /// [`TargetPolicy::check_resolved`].
    Names {
        /// Names in the order in which they are resolved; never empty.
        names: Vec<HostName>,
        /// The port on the server.
        port: u16,
    },
}

impl TargetPolicy {
    /// Chooses the server as far as that is possible without resolving names.
    ///
    /// `original` is where the client connected to, `requested` what the user named, and `own`
    /// lists the gateway's own addresses.
    ///
    /// # Errors
    /// [`DenyReason::NoTarget`] when the user had to name a server,
    /// [`DenyReason::TargetNotAllowed`] when the policy does not allow the named one or lets nobody
    /// name one, and [`DenyReason::TargetAddressRefused`] when no session may be sent there.
    pub fn choose(
        &self,
        original: SocketAddr,
        requested: Option<&RequestedTarget>,
        own: &[IpAddr],
    ) -> Result<Choice, DenyReason> {
        match (self, requested) {
            (Self::Inband(targets), Some(requested)) => targets.choose(requested, own),
            (Self::Inband(_), None) => Err(DenyReason::NoTarget),
            (Self::Original | Self::Fixed { .. }, Some(_)) => Err(DenyReason::TargetNotAllowed),
            (Self::Original, None) => {
                let original = SocketAddr::new(original.ip().to_canonical(), original.port());
                check_address(original.ip(), own, &[])?;
                Ok(Choice::Address(original))
            }
            (Self::Fixed { host, port }, None) => match host {
                Host::Address(address) => {
                    check_address(*address, own, &[])?;
                    Ok(Choice::Address(SocketAddr::new(*address, *port)))
                }
                Host::Name(name) => Ok(Choice::Names { names: vec![name.clone()], port: *port }),
            },
        }
    }

    /// Checks an address that `name` resolved to; connect to exactly this address.
    ///
    /// # Errors
    /// As for [`TargetPolicy::choose`].
    pub fn check_resolved(
        &self,
        name: &HostName,
        address: SocketAddr,
        own: &[IpAddr],
    ) -> Result<SocketAddr, DenyReason> {
        // A resolver does not say which link a link-local address is on.
        if needs_zone(address.ip()) {
            return Err(DenyReason::TargetAddressRefused);
        }
        match self {
            Self::Original => Err(DenyReason::TargetNotAllowed),
            Self::Fixed { .. } => {
                check_address(address.ip(), own, &[])?;
                Ok(address)
            }
            Self::Inband(targets) => {
                check_address(address.ip(), own, &targets.reserved)?;
                targets.check(Some(name), Some(address.ip()), address.port())?;
                Ok(address)
            }
        }
    }
}

impl InbandTargets {
    /// Chooses among the addresses and names that users may name.
    fn choose(&self, requested: &RequestedTarget, own: &[IpAddr]) -> Result<Choice, DenyReason> {
        let port = requested.port.unwrap_or(self.default_port);
        match &requested.host {
            Host::Address(address) => {
                if requested.zone.is_some() != needs_zone(*address) {
                    return Err(DenyReason::TargetAddressRefused);
                }
                check_address(*address, own, &self.reserved)?;
                self.check(None, Some(*address), port)?;
                Ok(Choice::Address(SocketAddr::new(*address, port)))
            }
            Host::Name(name) => {
                let mut names = self.candidates(name);
                names.retain(|name| self.check(Some(name), None, port).is_ok());
                if names.is_empty() {
                    return Err(DenyReason::TargetNotAllowed);
                }
                Ok(Choice::Names { names, port })
            }
        }
    }

    /// The names to resolve for what the user typed.
    fn candidates(&self, name: &HostName) -> Vec<HostName> {
        if name.is_qualified() || self.dns_suffixes.is_empty() {
            return vec![name.clone()];
        }
        self.dns_suffixes.iter().filter_map(|suffix| name.with_suffix(suffix).ok()).collect()
    }

    /// Checks exceptions and allowed targets; `address` is absent while `name` is unresolved, and
    /// then a prefix may still come to allow it.
    fn check(
        &self,
        name: Option<&HostName>,
        address: Option<IpAddr>,
        port: u16,
    ) -> Result<(), DenyReason> {
        let meant = |host: &HostPattern| {
            name.is_some_and(|name| host.matches_name(name))
                || address.is_some_and(|address| host.matches_address(address))
        };
        let allowed = |target: &AllowedTarget| {
            let undecided = address.is_none() && matches!(target.host, HostPattern::Prefix(_));
            let port_fits = match target.ports {
                Some(ports) => ports.contains(port),
                None => port == self.default_port,
            };
            port_fits && (undecided || meant(&target.host))
        };
        if self.exceptions.iter().any(meant) || !self.allowed.iter().any(allowed) {
            return Err(DenyReason::TargetNotAllowed);
        }
        Ok(())
    }
}

/// Refuses addresses of no single server; and those of one link or of the gateway itself, unless
/// `reserved` has them.
fn check_address(address: IpAddr, own: &[IpAddr], reserved: &[IpNet]) -> Result<(), DenyReason> {
    let (is_nobody, is_link_local) = match address {
        IpAddr::V4(v4) => {
            // 0.0.0.0/8 is "this network" (RFC 1122 section 3.2.1.3); Linux takes it for itself.
            let this_network = v4.octets().first() == Some(&0);
            (this_network || v4.is_broadcast(), v4.is_link_local())
        }
        IpAddr::V6(v6) => (v6.is_unspecified(), v6.is_unicast_link_local()),
    };
    let is_own = own.iter().any(|own| own.to_canonical() == address);
    let is_reserved = is_link_local || address.is_loopback() || is_own;
    let is_refused = is_nobody || address.is_multicast() || is_mapped(address);
    if is_refused || (is_reserved && !any_contains(reserved, address)) {
        return Err(DenyReason::TargetAddressRefused);
    }
    Ok(())
}

/// Whether the address means a server only together with a link (RFC 4007 section 6).
const fn needs_zone(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

/// Reads "host", "host:ports", "prefix", "prefix:ports" or "[IPv6 prefix]:ports".
impl FromStr for AllowedTarget {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bracketed = text.strip_prefix('[').and_then(|rest| rest.split_once(']'));
        let (host, ports) = match bracketed {
            Some((host, "")) => (host, None),
            Some((host, rest)) => match rest.strip_prefix(':') {
                Some(ports) => (host, Some(ports)),
                None => return Err(NetError::NotAPrefix(text.to_owned())),
            },
            // More than one colon without brackets is IPv6 without a port.
            None => match text.split_once(':') {
                Some((host, ports)) if !ports.contains(':') => (host, Some(ports)),
                Some(_) | None => (text, None),
            },
        };
        Ok(Self { host: host.parse()?, ports: ports.map(str::parse).transpose()? })
    }
}

impl fmt::Display for AllowedTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.host, self.ports) {
            (host, None) => fmt::Display::fmt(host, f),
            (HostPattern::Prefix(prefix), Some(ports)) if prefix.addr().is_ipv6() => {
                write!(f, "[{prefix}]:{ports}")
            }
            (host, Some(ports)) => write!(f, "{host}:{ports}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOT_ALLOWED: Result<Choice, DenyReason> = Err(DenyReason::TargetNotAllowed);
    const REFUSED: Result<Choice, DenyReason> = Err(DenyReason::TargetAddressRefused);

    fn own() -> Vec<IpAddr> {
        vec!["10.2.0.1".parse().unwrap(), "fd00:2::1".parse().unwrap()]
    }

    fn original() -> SocketAddr {
        "10.2.0.9:22".parse().unwrap()
    }

    fn inband() -> TargetPolicy {
        let parse = |text: &str| text.parse().unwrap();
        TargetPolicy::Inband(InbandTargets {
            allowed: ["*.example.com:22", "10.2.0.0/16", "[fd00:2::/48]:2200-2299", "127.0.0.1"]
                .iter()
                .map(|text| parse(text))
                .collect(),
            exceptions: vec!["hr.example.com".parse().unwrap(), "10.2.7.0/24".parse().unwrap()],
            reserved: Vec::new(),
            dns_suffixes: vec!["example.com".parse().unwrap(), "example.org".parse().unwrap()],
            default_port: 22,
        })
    }

    fn address(text: &str) -> Result<Choice, DenyReason> {
        Ok(Choice::Address(text.parse().unwrap()))
    }

    fn names(names: &[&str], port: u16) -> Result<Choice, DenyReason> {
        Ok(Choice::Names { names: names.iter().map(|name| name.parse().unwrap()).collect(), port })
    }

    #[test]
    fn inband_table() {
        let cases = [
            ("address in a prefix", "10.2.0.9", None, address("10.2.0.9:22")),
            ("prefix, default port only", "10.2.0.9", Some(2222), NOT_ALLOWED),
            ("address outside", "10.3.0.9", None, NOT_ALLOWED),
            ("address in an exception", "10.2.7.9", None, NOT_ALLOWED),
            ("IPv6, port range", "fd00:2::9", Some(2201), address("[fd00:2::9]:2201")),
            ("IPv6, default port not in range", "fd00:2::9", None, NOT_ALLOWED),
            ("own address", "10.2.0.1", None, REFUSED),
            ("own IPv6 address", "fd00:2::1", Some(2200), REFUSED),
            ("loopback, though listed", "127.0.0.1", None, REFUSED),
            ("name below the domain", "db.example.com", None, names(&["db.example.com"], 22)),
            ("name by exception", "hr.example.com", None, NOT_ALLOWED),
            // A prefix may still allow what it resolves to.
            ("other name", "db.example.net", None, names(&["db.example.net"], 22)),
            ("other name, no prefix has the port", "db.example.net", Some(23), NOT_ALLOWED),
            ("single label", "db", None, names(&["db.example.com", "db.example.org"], 22)),
            ("single label, exception", "hr", None, names(&["hr.example.org"], 22)),
        ];
        for (case, host, port, expected) in cases {
            let requested = RequestedTarget { host: host.parse().unwrap(), zone: None, port };
            let got = inband().choose(original(), Some(&requested), &own());
            assert_eq!(got, expected, "{case}");
        }
        assert_eq!(inband().choose(original(), None, &own()), Err(DenyReason::NoTarget));
    }

    #[test]
    fn resolved_table() {
        let not_allowed = Err(DenyReason::TargetNotAllowed);
        let refused = Err(DenyReason::TargetAddressRefused);
        let cases = [
            ("by name", "db.example.com", "192.0.2.7:22", Ok(())),
            ("by prefix", "db.example.net", "10.2.0.9:22", Ok(())),
            ("neither", "db.example.net", "192.0.2.7:22", not_allowed),
            ("exception by address", "db.example.com", "10.2.7.1:22", not_allowed),
            ("rebound to loopback", "db.example.com", "127.0.0.1:22", refused),
            ("rebound to the gateway", "db.example.com", "10.2.0.1:22", refused),
            ("mapped", "db.example.com", "[::ffff:10.2.0.9]:22", refused),
        ];
        for (case, name, address, expected) in cases {
            let name = name.parse().unwrap();
            let got = inband().check_resolved(&name, address.parse().unwrap(), &own());
            assert_eq!(got.map(|_| ()), expected, "{case}");
        }
    }

    #[test]
    fn original_and_fixed() {
        let choose =
            |policy: &TargetPolicy, to: &str| policy.choose(to.parse().unwrap(), None, &own());
        let original_policy = TargetPolicy::Original;
        assert_eq!(choose(&original_policy, "10.2.0.9:22"), address("10.2.0.9:22"));
        assert_eq!(choose(&original_policy, "[::ffff:10.2.0.9]:22"), address("10.2.0.9:22"));
        assert_eq!(choose(&original_policy, "10.2.0.1:22"), REFUSED);
        let fixed = |host: &str| TargetPolicy::Fixed { host: host.parse().unwrap(), port: 2222 };
        assert_eq!(choose(&fixed("10.2.0.9"), "10.2.0.1:22"), address("10.2.0.9:2222"));
        assert_eq!(
            choose(&fixed("db.example.com"), "10.2.0.1:22"),
            names(&["db.example.com"], 2222)
        );
        assert_eq!(choose(&fixed("10.2.0.1"), "10.2.0.9:22"), REFUSED);
        let requested =
            RequestedTarget { host: "10.2.0.9".parse().unwrap(), zone: None, port: None };
        let named = original_policy.choose(original(), Some(&requested), &own());
        assert_eq!(named, NOT_ALLOWED);
    }

    #[test]
    fn addresses_of_no_server() {
        let every = ["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()];
        let never = [
            "0.0.0.0",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "ff02::1",
            "::ffff:10.1.1.1",
            "::ffff:127.0.0.1",
        ];
        for text in never {
            for reserved in [&[][..], &every] {
                let refused = check_address(text.parse().unwrap(), &[], reserved);
                assert_eq!(refused, Err(DenyReason::TargetAddressRefused), "{text}");
            }
        }
        for text in ["127.1.2.3", "169.254.1.1", "::1", "fe80::1", "10.2.0.1", "fd00:2::1"] {
            let address = text.parse().unwrap();
            let refused = check_address(address, &own(), &[]);
            assert_eq!(refused, Err(DenyReason::TargetAddressRefused), "{text}");
            assert_eq!(check_address(address, &own(), &every), Ok(()), "{text}");
        }
        for text in ["10.1.1.1", "192.0.2.1", "fd00::1", "2001:db8::1"] {
            assert_eq!(check_address(text.parse().unwrap(), &own(), &[]), Ok(()), "{text}");
        }
    }

    #[test]
    fn zones_go_with_link_local_addresses_alone() {
        let mut policy = inband();
        if let TargetPolicy::Inband(targets) = &mut policy {
            targets.allowed.extend(["fe80::/10", "fd00:2::9"].map(|text| text.parse().unwrap()));
            targets.reserved.push("fe80::/64".parse().unwrap());
        }
        let cases = [
            ("link-local", "fe80::9", Some("eth0"), address("[fe80::9]:22")),
            ("link-local on no link", "fe80::9", None, REFUSED),
            ("link-local, not let in", "fe80:0:0:1::9", Some("eth0"), REFUSED),
            ("global on a link", "fd00:2::9", Some("eth0"), REFUSED),
            ("global", "fd00:2::9", None, address("[fd00:2::9]:22")),
            ("loopback on a link", "::1", Some("lo"), REFUSED),
        ];
        for (case, host, zone, expected) in cases {
            let (host, zone) = (host.parse().unwrap(), zone.map(str::to_owned));
            let requested = RequestedTarget { host, zone, port: None };
            assert_eq!(policy.choose(original(), Some(&requested), &own()), expected, "{case}");
        }
        let name = "db.example.com".parse().unwrap();
        let resolved = policy.check_resolved(&name, "[fe80::9]:22".parse().unwrap(), &own());
        assert_eq!(resolved, Err(DenyReason::TargetAddressRefused));
    }

    #[test]
    fn allowed_targets_parse() {
        for text in [
            "*.example.com:22",
            "10.2.0.0/16",
            "10.2.0.0/16:22-30",
            "db.example.com",
            "fd00:2::/48",
            "[fd00:2::/48]:22",
        ] {
            let target: AllowedTarget = text.parse().unwrap();
            assert_eq!(target.to_string(), text);
        }
        for text in ["", ":22", "*", "*.:22", "10.2.0.0/16:0", "[fd00::1", "[fd00::1]22", "a b"] {
            assert!(text.parse::<AllowedTarget>().is_err(), "{text}");
        }
    }
}
