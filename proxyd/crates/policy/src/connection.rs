//! Connection policies: which connections are inspected, and what decides about them.

use std::net::SocketAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::admit::Mismatch;
use crate::audit::AuditPolicy;
use crate::channel::ChannelPolicy;
use crate::credential::CredentialStore;
use crate::gateway::AuthenticationPolicy;
use crate::net::{PortRange, any_contains};
use crate::settings::SshSettings;
use crate::target::TargetPolicy;
use crate::usermapping::UsermappingPolicy;

/// The protocol a connection policy inspects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Secure Shell (RFC 4251).
    Ssh,
}

impl Protocol {
    /// The name in policies and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ssh => "ssh",
        }
    }

    /// The port a server listens on when nothing else is said.
    #[must_use]
    pub const fn default_port(self) -> u16 {
        match self {
            // RFC 4253 section 4.1.
            Self::Ssh => 22,
        }
    }
}

/// Which source address the server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourcePolicy {
    /// The client's own.
    Client,
    /// The gateway's.
    Gateway,
}

/// What becomes of a session whose trail cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRecordingFailure {
    /// The session ends.
    Terminate,
    /// The session goes on; the gap is recorded.
    Continue,
}

/// What becomes of new connections that match while no proxy listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnProxyDown {
    /// Their packets are dropped.
    Drop,
    /// They are refused with a TCP reset.
    Reset,
    /// They go on to the server, uninspected.
    Forward,
}

/// What becomes of a session when changed policies no longer allow it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnReload {
    /// It goes on under the policies it started with.
    Keep,
    /// It ends.
    Terminate,
}

/// One connection policy with every reference resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionPolicy {
    /// The policy's name, unique in its set.
    pub name: String,
    /// What the connections carry.
    pub protocol: Protocol,
    /// Addresses of clients; never empty.
    pub from: Vec<IpNet>,
    /// Addresses that clients connect to; never empty.
    pub to: Vec<IpNet>,
    /// Ports that clients connect to; never empty.
    pub ports: Vec<PortRange>,
    /// How the server is chosen.
    pub target: TargetPolicy,
    /// Which source address the server sees.
    pub source: SourcePolicy,
    /// Algorithms, texts and checks.
    pub settings: Arc<SshSettings>,
    /// How users authenticate.
    pub authentication: Arc<AuthenticationPolicy>,
    /// Who may log in as whom; absent: only under the same name.
    pub usermapping: Option<Arc<UsermappingPolicy>>,
    /// Secrets for servers.
    pub credential_store: Option<Arc<CredentialStore>>,
    /// Which channels may be opened.
    pub channels: Arc<ChannelPolicy>,
    /// How trails are sealed; present whenever a channel rule records.
    pub audit: Option<Arc<AuditPolicy>>,
    /// What becomes of a session whose trail cannot be written.
    pub on_recording_failure: OnRecordingFailure,
    /// What becomes of new connections while no proxy listens.
    pub on_proxy_down: OnProxyDown,
    /// What becomes of its sessions when changed policies no longer allow them.
    pub on_reload: OnReload,
    /// New connections of all clients together that are taken per second; 0 is no limit.
    pub new_connections_per_s: u32,
}

impl ConnectionPolicy {
    /// Everything that keeps a connection from matching; empty when it matches.
    ///
    /// Both addresses have to be canonical (no IPv4-mapped form).
    #[must_use]
    pub(crate) fn mismatches(&self, client: SocketAddr, destination: SocketAddr) -> Vec<Mismatch> {
        let checks = [
            (any_contains(&self.from, client.ip()), Mismatch::Client),
            (any_contains(&self.to, destination.ip()), Mismatch::Destination),
            (self.has_port(destination.port()), Mismatch::Port),
        ];
        checks.into_iter().filter(|(fits, _)| !fits).map(|(_, mismatch)| mismatch).collect()
    }

    /// Says whether a connection matches in every field.
    pub(crate) fn matches(&self, client: SocketAddr, destination: SocketAddr) -> bool {
        any_contains(&self.from, client.ip())
            && any_contains(&self.to, destination.ip())
            && self.has_port(destination.port())
    }

    /// Says whether every connection that matches `later` matches this policy too, so that `later`
    /// can never be reached behind it.
    #[must_use]
    pub fn covers(&self, later: &Self) -> bool {
        // Most pairs already differ at the first address; a long list is compared in N^2 pairs.
        let holds_first = |outer: &[IpNet], inner: &[IpNet]| {
            inner.first().is_none_or(|prefix| any_contains(outer, prefix.addr()))
        };
        holds_first(&self.to, &later.to)
            && holds_first(&self.from, &later.from)
            && cover_prefixes(&self.from, &later.from)
            && cover_prefixes(&self.to, &later.to)
            && cover_ports(&self.ports, &later.ports)
    }

    fn has_port(&self, port: u16) -> bool {
        self.ports.iter().any(|range| range.contains(port))
    }
}

/// Says whether `outer` holds every address of `inner`.
fn cover_prefixes(outer: &[IpNet], inner: &[IpNet]) -> bool {
    // Once siblings are merged, a prefix inside a union of prefixes lies inside one of them.
    let merged = IpNet::aggregate(&outer.to_vec());
    inner.iter().all(|prefix| merged.iter().any(|outer| outer.contains(prefix)))
}

/// Says whether `outer` holds every port of `inner`.
fn cover_ports(outer: &[PortRange], inner: &[PortRange]) -> bool {
    let mut sorted = outer.to_vec();
    sorted.sort_unstable();
    inner.iter().all(|range| {
        // The lowest port of the range not covered so far; past u16 once the last one is.
        let mut next = u32::from(range.first());
        for outer in &sorted {
            if u32::from(outer.first()) <= next {
                next = next.max(u32::from(outer.last()) + 1);
            }
        }
        next > u32::from(range.last())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_cover() {
        let cases: [(&str, &[&str], &[&str], bool); 6] = [
            ("same", &["10.0.0.0/8"], &["10.0.0.0/8"], true),
            ("inside", &["10.0.0.0/8"], &["10.1.0.0/16", "10.2.0.5/32"], true),
            ("outside", &["10.0.0.0/8"], &["10.1.0.0/16", "11.0.0.0/8"], false),
            ("union", &["10.0.0.0/9", "10.128.0.0/9"], &["10.0.0.0/8"], true),
            ("hole", &["10.0.0.0/9", "10.128.0.0/10"], &["10.0.0.0/8"], false),
            ("families", &["0.0.0.0/0"], &["::/0"], false),
        ];
        for (case, outer, inner, expected) in cases {
            let parse = |texts: &[&str]| -> Vec<IpNet> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            assert_eq!(cover_prefixes(&parse(outer), &parse(inner)), expected, "{case}");
        }
    }

    #[test]
    fn ports_cover() {
        let cases: [(&str, &[&str], &[&str], bool); 6] = [
            ("same", &["22"], &["22"], true),
            ("inside", &["20-30"], &["22", "25-30"], true),
            ("union of neighbours", &["26-30", "20-25"], &["22-28"], true),
            ("hole", &["20-24", "26-30"], &["22-28"], false),
            ("end", &["1-65535"], &["65535"], true),
            ("below", &["22"], &["21-22"], false),
        ];
        for (case, outer, inner, expected) in cases {
            let parse = |texts: &[&str]| -> Vec<PortRange> {
                texts.iter().map(|text| text.parse().unwrap()).collect()
            };
            assert_eq!(cover_ports(&parse(outer), &parse(inner)), expected, "{case}");
        }
    }
}
