//! What a channel is opened for in detail, and the conditions that a rule sets on it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

use crate::net::{Host, NetError, PortRange, any_contains};
use crate::pattern::Pattern;
use crate::reason::DenyReason;
use crate::target::AllowedTarget;

/// What a channel is opened for, as the peer that opens it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail<'a> {
    /// Nothing more than its kind says.
    Nothing,
    /// A command, as it is given to the user's shell.
    Command(&'a [u8]),
    /// A subsystem, by name.
    Subsystem(&'a [u8]),
    /// A TCP connection or a TCP listener.
    Tcp {
        /// Where to, or where the server listens: an address or a name, empty for all addresses.
        host: &'a [u8],
        /// The port; 0 where the server chooses one.
        port: u32,
        /// Where the connection comes from; absent for a listener.
        originator: Option<&'a [u8]>,
    },
    /// A Unix socket, by its path.
    Socket(&'a [u8]),
    /// A connection that comes from there.
    From(&'a [u8]),
}

/// Conditions of a rule on details; an empty list sets none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// Commands.
    pub commands: Vec<CommandPattern>,
    /// Subsystems.
    pub subsystems: Vec<Pattern>,
    /// Where connections go, or where the server listens.
    pub endpoints: Vec<EndpointPattern>,
    /// Paths of Unix sockets.
    pub sockets: Vec<Pattern>,
    /// Where connections come from, as the peer that opens the channel says.
    pub originators: Vec<IpNet>,
}

impl Conditions {
    /// Whether the details fit; else which of them does not.
    pub(super) fn check(&self, detail: &Detail<'_>) -> Result<(), DenyReason> {
        match *detail {
            Detail::Nothing => Ok(()),
            Detail::Command(command) => fits(
                &self.commands,
                |pattern| pattern.matches(command),
                DenyReason::CommandNotAllowed,
            ),
            Detail::Subsystem(name) => fits(
                &self.subsystems,
                |pattern| std::str::from_utf8(name).is_ok_and(|name| pattern.matches(name)),
                DenyReason::SubsystemNotAllowed,
            ),
            Detail::Tcp { host, port, originator } => {
                // A rule that names sockets alone allows no addresses.
                let only_sockets = self.endpoints.is_empty() && !self.sockets.is_empty();
                let refused = DenyReason::EndpointNotAllowed;
                fits(&self.endpoints, |pattern| pattern.matches(host, port), refused)?;
                match originator {
                    _ if only_sockets => Err(refused),
                    Some(originator) => self.check_originator(originator),
                    None => Ok(()),
                }
            }
            Detail::Socket(path) => {
                let only_endpoints = self.sockets.is_empty() && !self.endpoints.is_empty();
                if only_endpoints {
                    return Err(DenyReason::EndpointNotAllowed);
                }
                fits(
                    &self.sockets,
                    |pattern| std::str::from_utf8(path).is_ok_and(|path| pattern.matches(path)),
                    DenyReason::EndpointNotAllowed,
                )
            }
            Detail::From(originator) => self.check_originator(originator),
        }
    }

    /// An originator that is no address fits no condition.
    fn check_originator(&self, originator: &[u8]) -> Result<(), DenyReason> {
        let address: Option<IpAddr> =
            std::str::from_utf8(originator).ok().and_then(|text| text.parse().ok());
        let known = address.is_some_and(|address| any_contains(&self.originators, address));
        let fits = self.originators.is_empty() || known;
        if fits { Ok(()) } else { Err(DenyReason::OriginatorNotAllowed) }
    }
}

fn fits<T>(
    list: &[T],
    matches: impl Fn(&T) -> bool,
    refused: DenyReason,
) -> Result<(), DenyReason> {
    if list.is_empty() || list.iter().any(matches) { Ok(()) } else { Err(refused) }
}

/// Commands: literal text in which `*` stands for any run of characters that mean nothing to a
/// shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandPattern(Pattern);

impl CommandPattern {
    /// Says whether the whole of `command` fits.
    ///
    /// The characters by which a shell starts another command, expands, redirects or quotes must
    /// be those of the pattern, in its order: a `*` stands for none of them.
    #[must_use]
    pub fn matches(&self, command: &[u8]) -> bool {
        let Ok(command) = std::str::from_utf8(command) else { return false };
        let means = |c: &char| SHELL_CHARACTERS.contains(*c) || c.is_control();
        let own = self.0.as_str().chars().filter(means);
        self.0.matches(command) && own.eq(command.chars().filter(means))
    }
}

/// Characters that mean something to a POSIX shell (XCU section 2.2), less `*`, which a command may
/// hold, as it only ever names more files.
const SHELL_CHARACTERS: &str = "|&;<>()$`\\\"'{}!#~=%";

impl FromStr for CommandPattern {
    type Err = <Pattern as FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl fmt::Display for CommandPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// Where connections go: hosts, and ports on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointPattern {
    /// Any host, by any name.
    AnyHost(Option<PortRange>),
    /// These hosts; without ports, any port.
    Hosts(AllowedTarget),
}

impl EndpointPattern {
    /// Says whether a host, by its address or name as a peer writes it, and a port fit.
    ///
    /// A name is not resolved: whoever connects does that later, and may come to another address.
    #[must_use]
    pub fn matches(&self, host: &[u8], port: u32) -> bool {
        let in_range = |ports: Option<PortRange>| match ports {
            Some(ports) => u16::try_from(port).is_ok_and(|port| ports.contains(port)),
            None => true,
        };
        match self {
            Self::AnyHost(ports) => in_range(*ports),
            Self::Hosts(hosts) => {
                let host: Option<Host> =
                    std::str::from_utf8(host).ok().and_then(|text| text.parse().ok());
                let named = match host {
                    Some(Host::Address(address)) => hosts.host.matches_address(address),
                    Some(Host::Name(name)) => hosts.host.matches_name(&name),
                    None => false,
                };
                named && in_range(hosts.ports)
            }
        }
    }
}

impl FromStr for EndpointPattern {
    type Err = NetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix('*') {
            Some("") => Ok(Self::AnyHost(None)),
            Some(ports) if ports.starts_with(':') => {
                let ports = ports.trim_start_matches(':').parse()?;
                Ok(Self::AnyHost(Some(ports)))
            }
            Some(_) | None => text.parse().map(Self::Hosts),
        }
    }
}

impl fmt::Display for EndpointPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AnyHost(None) => f.write_str("*"),
            Self::AnyHost(Some(ports)) => write!(f, "*:{ports}"),
            Self::Hosts(hosts) => fmt::Display::fmt(hosts, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        let cases: [(&str, &[u8], bool); 15] = [
            ("uptime", b"uptime", true),
            ("uptime", b"uptime ", false),
            ("systemctl status *", b"systemctl status sshd", true),
            ("systemctl status *", b"systemctl status sshd; id", false),
            ("systemctl status *", b"systemctl status sshd\nid", false),
            ("systemctl status *", b"systemctl status $(id)", false),
            ("systemctl status *", b"systemctl status `id`", false),
            ("systemctl status *", b"systemctl status a | tee b", false),
            ("systemctl status *", b"systemctl status a > /etc/passwd", false),
            ("systemctl status *", b"systemctl status a & id", false),
            ("sh -c 'ls *'", b"sh -c 'ls /tmp'", true),
            ("sh -c 'ls *'", b"sh -c 'ls '; id '", false),
            ("*", b"id", true),
            ("*", b"id; id", false),
            ("*", b"\xff\xfe", false),
        ];
        for (pattern, command, expected) in cases {
            let pattern: CommandPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(command), expected, "{pattern}: {command:?}");
        }
    }

    #[test]
    fn endpoints() {
        let cases: [(&str, &[u8], u32, bool); 16] = [
            ("*", b"anything at all", 1, true),
            ("*", b"", 0, true),
            ("*:80", b"10.0.0.1", 80, true),
            ("*:80", b"10.0.0.1", 81, false),
            ("*:80", b"", 0, false),
            ("*:1-65535", b"a", 65_616, false),
            ("10.0.0.0/8:80-90", b"10.1.2.3", 85, true),
            ("10.0.0.0/8:80-90", b"10.1.2.3", 91, false),
            ("10.0.0.0/8", b"11.1.2.3", 80, false),
            ("10.0.0.0/8", b"ten.example.com", 80, false),
            ("10.0.0.0/8", b"::ffff:10.1.2.3", 80, false),
            ("10.0.0.0/8", b"0x0a010203", 80, false),
            ("*.example.com:443", b"www.example.com", 443, true),
            ("*.example.com:443", b"www.example.com.evil.org", 443, false),
            ("[fd00::/8]:22", b"fd00::1", 22, true),
            ("localhost:22", b"\xff", 22, false),
        ];
        for (pattern, host, port, expected) in cases {
            let pattern: EndpointPattern = pattern.parse().unwrap();
            assert_eq!(pattern.matches(host, port), expected, "{pattern}: {host:?}:{port}");
        }
        for text in ["", "*:", "*:0", "*:a", "*x"] {
            assert!(text.parse::<EndpointPattern>().is_err(), "{text}");
        }
    }

    #[test]
    fn conditions() {
        let tcp = Detail::Tcp { host: b"10.0.0.1", port: 80, originator: Some(b"192.0.2.1") };
        let listener = Detail::Tcp { host: b"", port: 80, originator: None };
        let endpoints = vec!["10.0.0.0/8:80".parse().unwrap()];
        let by_endpoint = Conditions { endpoints, ..Conditions::default() };
        let sockets = vec!["/run/*".parse().unwrap()];
        let by_socket = Conditions { sockets, ..Conditions::default() };
        let originators = vec!["192.0.2.0/24".parse().unwrap()];
        let by_origin = Conditions { originators, ..Conditions::default() };
        let open = Conditions::default();
        let endpoint = Err(DenyReason::EndpointNotAllowed);
        let originator = Err(DenyReason::OriginatorNotAllowed);
        let cases = [
            ("open, tcp", &open, tcp, Ok(())),
            ("open, socket", &open, Detail::Socket(b"/run/a"), Ok(())),
            ("endpoint", &by_endpoint, tcp, Ok(())),
            ("another endpoint", &by_endpoint, listener, endpoint),
            ("a socket where addresses are named", &by_endpoint, Detail::Socket(b"/a"), endpoint),
            ("socket", &by_socket, Detail::Socket(b"/run/a"), Ok(())),
            ("another socket", &by_socket, Detail::Socket(b"/tmp/a"), endpoint),
            ("an address where sockets are named", &by_socket, tcp, endpoint),
            ("originator", &by_origin, tcp, Ok(())),
            ("another originator", &by_origin, Detail::From(b"10.0.0.1"), originator),
            ("no address", &by_origin, Detail::From(b"localhost"), originator),
        ];
        for (case, conditions, detail, expected) in cases {
            assert_eq!(conditions.check(&detail), expected, "{case}");
        }
    }
}
