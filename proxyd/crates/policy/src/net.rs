//! Addresses, prefixes, port ranges and host names as policies write them.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::limits::{HOST_LABEL_BYTES_MAX, HOST_NAME_BYTES_MAX};

/// Why a prefix, port range or host name was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// Neither an address nor a prefix.
    #[error("\"{0}\" is not an IP address or prefix")]
    NotAPrefix(String),
    /// Bits after the prefix length are set, so the author may have meant another prefix.
    #[error("\"{given}\" has bits set after the prefix length; the prefix is {prefix}")]
    HostBits {
        /// The text as it was given.
        given: String,
        /// The prefix that holds the given address.
        prefix: IpNet,
    },
    /// IPv4-mapped IPv6 addresses never appear in a policy; the IPv4 form does.
    #[error("\"{0}\" is IPv4-mapped; write it as IPv4")]
    Mapped(String),
    /// Neither a port nor a range of ports.
    #[error("\"{0}\" is not a port or a range of ports (1-65535)")]
    NotPorts(String),
    /// The range ends before it starts.
    #[error("port range {first}-{last} ends before it starts")]
    PortsReversed {
        /// The first port as given.
        first: u16,
        /// The last port as given.
        last: u16,
    },
    /// Not a DNS name as RFC 1123 section 2.1 allows, or one that looks like an address.
    #[error("\"{0}\" is not a host name")]
    NotAHostName(String),
}

/// Reads an address or prefix; an address is a prefix of full length.
///
/// # Errors
/// Fails on anything else, on set bits after the prefix length and on IPv4-mapped addresses.
pub fn parse_prefix(text: &str) -> Result<IpNet, NetError> {
    let prefix = match (text.parse::<IpAddr>(), text.parse::<IpNet>()) {
        (Ok(address), _) => IpNet::from(address),
        (Err(_), Ok(prefix)) => prefix,
        (Err(_), Err(_)) => return Err(NetError::NotAPrefix(text.to_owned())),
    };
    if is_mapped(prefix.addr()) {
        return Err(NetError::Mapped(text.to_owned()));
    }
    if prefix.trunc() != prefix {
        return Err(NetError::HostBits { given: text.to_owned(), prefix: prefix.trunc() });
    }
    Ok(prefix)
}

/// Says whether any of `prefixes` holds `address`; IPv4-mapped addresses count as IPv4.
#[must_use]
pub fn any_contains(prefixes: &[IpNet], address: IpAddr) -> bool {
    let address = address.to_canonical();
    prefixes.iter().any(|prefix| prefix.contains(&address))
}

/// Says whether `address` is an IPv4 address in IPv6 form (RFC 4291 section 2.5.5.2).
#[must_use]
pub fn is_mapped(address: IpAddr) -> bool {
    address.to_canonical() != address
}

/// An inclusive range of TCP ports; never empty, never holds port 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ANY: Self = Self { first: 1, last: u16::MAX };

    /// The range from `first` to `last`, both included.
    ///
    /// # Errors
    /// Fails when `first` is 0 or greater than `last`.
    pub fn new(first: u16, last: u16) -> Result<Self, NetError> {
        if first == 0 {
            return Err(NetError::NotPorts(first.to_string()));
        }
        if first > last {
            return Err(NetError::PortsReversed { first, last });
        }
        Ok(Self { first, last })
    }

    /// The lowest port of the range.
    #[must_use]
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The highest port of the range.
    #[must_use]
    pub const fn last(self) -> u16 {
        self.last
    }

    /// Says whether `port` lies in the range.
    #[must_use]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

impl FromStr for PortRange {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (parse_port(first), parse_port(last)) {
            (Some(first), Some(last)) => Self::new(first, last),
            (None, _) | (_, None) => Err(NetError::NotPorts(text.to_owned())),
        }
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "{}", self.first)
        } else {
            write!(f, "{}-{}", self.first, self.last)
        }
    }
}

/// Reads a port from 1 to 65535 in plain digits: no sign, no space.
#[must_use]
pub fn parse_port(text: &str) -> Option<u16> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|port| *port != 0)
}

/// A DNS name in lower case without its trailing dot (RFC 1123 section 2.1, plus `_`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct HostName(String);

impl HostName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Says whether the name has more than one label, so that no suffix is tried after it.
    #[must_use]
    pub fn is_qualified(&self) -> bool {
        self.0.contains('.')
    }

    /// The name with `suffix` appended.
    ///
    /// # Errors
    /// Fails when the result is longer than a DNS name may be.
    pub fn with_suffix(&self, suffix: &Self) -> Result<Self, NetError> {
        format!("{}.{}", self.0, suffix.0).parse()
    }
}

impl FromStr for HostName {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.strip_suffix('.').unwrap_or(text);
        let last = name.rsplit('.').next().unwrap_or(name);
        // Resolvers read "0x7f.1" and "127.1" as addresses (inet_aton), past every prefix check.
        let numeric = last.starts_with(|c: char| c.is_ascii_digit())
            && (last.bytes().all(|byte| byte.is_ascii_digit())
                || last.starts_with("0x")
                || last.starts_with("0X"));
        if name.len() > HOST_NAME_BYTES_MAX || numeric || !name.split('.').all(is_label) {
            return Err(NetError::NotAHostName(text.to_owned()));
        }
        Ok(Self(name.to_ascii_lowercase()))
    }
}

/// Says whether `label` has the length and the characters of one DNS label.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.len() <= HOST_LABEL_BYTES_MAX
        && !label.starts_with('-')
        && !label.ends_with('-')
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A server as somebody names it: by address or by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Host {
    /// An address, not IPv4-mapped.
    Address(IpAddr),
    /// A name that still has to be resolved.
    Name(HostName),
}

impl FromStr for Host {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<IpAddr>() {
            Ok(address) if is_mapped(address) => Err(NetError::Mapped(text.to_owned())),
            Ok(address) => Ok(Self::Address(address)),
            Err(_) => text.parse().map(Self::Name),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => fmt::Display::fmt(address, f),
            Self::Name(name) => fmt::Display::fmt(name, f),
        }
    }
}

/// Which servers an entry means: a prefix, one name, or every name below a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostPattern {
    /// Every address of a prefix.
    Prefix(IpNet),
    /// Exactly this name.
    Name(HostName),
    /// Every name that ends in a dot and this domain, at any depth, but not the domain itself.
    Below(HostName),
}

impl HostPattern {
    /// Says whether `name` is meant; a prefix means no name.
    #[must_use]
    pub fn matches_name(&self, name: &HostName) -> bool {
        match self {
            Self::Prefix(_) => false,
            Self::Name(own) => own == name,
            Self::Below(domain) => name
                .as_str()
                .strip_suffix(domain.as_str())
                .is_some_and(|front| front.ends_with('.')),
        }
    }

    /// Says whether `address` is meant; a name means no address.
    #[must_use]
    pub fn matches_address(&self, address: IpAddr) -> bool {
        match self {
            Self::Prefix(prefix) => prefix.contains(&address.to_canonical()),
            Self::Name(_) | Self::Below(_) => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(domain) = text.strip_prefix("*.") {
            return domain.parse().map(Self::Below);
        }
        match parse_prefix(text) {
            Ok(prefix) => Ok(Self::Prefix(prefix)),
            Err(NetError::NotAPrefix(_)) => text.parse().map(Self::Name),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prefix(prefix) => fmt::Display::fmt(prefix, f),
            Self::Name(name) => fmt::Display::fmt(name, f),
            Self::Below(domain) => write!(f, "*.{domain}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let cases = [
            ("10.1.0.0/16", Ok("10.1.0.0/16")),
            ("10.1.0.5", Ok("10.1.0.5/32")),
            ("fd00:1::/48", Ok("fd00:1::/48")),
            ("::1", Ok("::1/128")),
            ("10.1.2.3/16", Err("has bits set after the prefix length; the prefix is 10.1.0.0/16")),
            ("::ffff:10.0.0.1", Err("is IPv4-mapped")),
            ("10.1.0.0/33", Err("is not an IP address or prefix")),
            ("lan", Err("is not an IP address or prefix")),
        ];
        for (text, expected) in cases {
            match (parse_prefix(text), expected) {
                (Ok(prefix), Ok(expected)) => assert_eq!(prefix.to_string(), expected),
                (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
                (got, _) => panic!("{text}: {got:?}"),
            }
        }
    }

    #[test]
    fn ports() {
        let cases = [
            ("22", Some((22, 22))),
            ("2200-2299", Some((2200, 2299))),
            ("65535", Some((65535, 65535))),
            ("0", None),
            ("0-10", None),
            ("65536", None),
            ("30-20", None),
            ("+22", None),
            ("", None),
            ("-", None),
            ("1-2-3", None),
        ];
        for (text, expected) in cases {
            let range = text.parse::<PortRange>().ok();
            assert_eq!(range.map(|range| (range.first(), range.last())), expected, "{text}");
        }
    }

    #[test]
    fn host_names() {
        for good in ["db", "DB.Example.com.", "a_b.example", "1.example", "3com"] {
            assert!(good.parse::<HostName>().is_ok(), "{good}");
        }
        let long = format!("{}.com", "a".repeat(64));
        for bad in ["", ".", "a..b", "-a", "a-", "127.1", "0x7f", "a.0x1", "a b", "é.com", &long] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn host_patterns() {
        let below: HostPattern = "*.example.com".parse().unwrap();
        for (name, expected) in [
            ("a.example.com", true),
            ("a.b.EXAMPLE.com", true),
            ("example.com", false),
            ("badexample.com", false),
            ("a.example.com.evil.org", false),
        ] {
            assert_eq!(below.matches_name(&name.parse().unwrap()), expected, "{name}");
        }
        let prefix: HostPattern = "10.0.0.0/8".parse().unwrap();
        assert!(prefix.matches_address("::ffff:10.1.1.1".parse().unwrap()));
        assert!(!prefix.matches_address("11.1.1.1".parse().unwrap()));
    }
}
