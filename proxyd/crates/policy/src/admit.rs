//! From a steered connection to the connection policy that decides about it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::connection::ConnectionPolicy;
use crate::gateway::User;
use crate::reason::DenyReason;

/// The addresses of a connection as the client meant it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the client connects from.
    pub client: SocketAddr,
    /// Where the client connected to, before steering.
    pub original_destination: SocketAddr,
}

/// The policies in force at one moment; a session keeps the set it started with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySet {
    /// In order: the first that matches decides.
    pub connection_policies: Vec<Arc<ConnectionPolicy>>,
    /// The local user database, by name.
    pub users: BTreeMap<String, Arc<User>>,
}

/// Proof that a connection policy matched a flow.
#[derive(Clone, Debug)]
pub struct Admitted {
    policy: Arc<ConnectionPolicy>,
    flow: Flow,
}

impl Admitted {
    /// The policy that matched.
    #[must_use]
    pub const fn policy(&self) -> &Arc<ConnectionPolicy> {
        &self.policy
    }

    /// The flow, with canonical addresses (no IPv4-mapped form).
    #[must_use]
    pub const fn flow(&self) -> Flow {
        self.flow
    }
}

/// A field in which a connection does not match a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch {
    /// The client's address is not in `from`.
    Client,
    /// The destination address is not in `to`.
    Destination,
    /// The destination port is not in `ports`.
    Port,
}

/// What one policy says to a flow.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The policy asked.
    pub policy: Arc<ConnectionPolicy>,
    /// Why it does not match; empty when it does.
    pub mismatches: Vec<Mismatch>,
}

impl PolicySet {
    /// Finds the first connection policy that matches.
    ///
    /// # Errors
    /// [`DenyReason::NoConnectionPolicy`] when none does.
    pub fn admit(&self, flow: &Flow) -> Result<Admitted, DenyReason> {
        let flow = flow.canonical();
        self.connection_policies
            .iter()
            .find(|policy| policy.matches(flow.client, flow.original_destination))
            .map(|policy| Admitted { policy: Arc::clone(policy), flow })
            .ok_or(DenyReason::NoConnectionPolicy)
    }

    /// Asks the policies one by one, up to and including the first that matches.
    #[must_use]
    pub fn explain(&self, flow: &Flow) -> Vec<Explanation> {
        let flow = flow.canonical();
        let mut explanations = Vec::new();
        for policy in &self.connection_policies {
            let mismatches = policy.mismatches(flow.client, flow.original_destination);
            let matched = mismatches.is_empty();
            explanations.push(Explanation { policy: Arc::clone(policy), mismatches });
            if matched {
                break;
            }
        }
        explanations
    }

    /// The local user of this name.
    #[must_use]
    pub fn user(&self, name: &str) -> Option<&Arc<User>> {
        self.users.get(name)
    }
}

impl Flow {
    /// The flow with IPv4-mapped addresses as IPv4, which is how policies name them.
    fn canonical(self) -> Self {
        let canonical = |at: SocketAddr| SocketAddr::new(at.ip().to_canonical(), at.port());
        Self {
            client: canonical(self.client),
            original_destination: canonical(self.original_destination),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::channel::ChannelPolicy;
    use crate::connection::{OnProxyDown, OnRecordingFailure, OnReload, Protocol, SourcePolicy};
    use crate::gateway::{AuthenticationPolicy, GatewayAuthentication, ServerMethod};
    use crate::settings::{ClientSide, HostKeyCheck, Rekey, ServerSide, SshSettings};
    use crate::target::TargetPolicy;
    use ipnet::IpNet;
    use proptest::prelude::*;

    fn policy(name: &str, from: &[IpNet], to: &[IpNet], ports: &[&str]) -> Arc<ConnectionPolicy> {
        Arc::new(ConnectionPolicy {
            name: name.into(),
            protocol: Protocol::Ssh,
            from: from.to_vec(),
            to: to.to_vec(),
            ports: ports.iter().map(|ports| ports.parse().unwrap()).collect(),
            target: TargetPolicy::Original,
            source: SourcePolicy::Client,
            settings: Arc::new(SshSettings {
                name: "s".into(),
                pre_channel_check: false,
                banner: None,
                version: None,
                client_side: ClientSide::default(),
                server_side: ServerSide {
                    algorithms: crate::settings::Algorithms::default(),
                    legacy: false,
                    rekey: Rekey::On,
                    host_key_check: HostKeyCheck::AcceptFirst,
                    trusted_host_cas: vec![],
                },
                environment: vec![],
            }),
            authentication: Arc::new(AuthenticationPolicy {
                name: "a".into(),
                gateway: GatewayAuthentication::None,
                trusted_user_cas: vec![],
                kerberos: None,
                server: vec![ServerMethod::Password],
                user_ca_key_file: None,
            }),
            usermapping: None,
            credential_store: None,
            channels: Arc::new(ChannelPolicy { name: "c".into(), rules: vec![] }),
            audit: None,
            on_recording_failure: OnRecordingFailure::Terminate,
            on_proxy_down: OnProxyDown::Drop,
            on_reload: OnReload::Keep,
            new_connections_per_s: 0,
        })
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn flow(client: &str, original_destination: &str) -> Flow {
        Flow {
            client: client.parse().unwrap(),
            original_destination: original_destination.parse().unwrap(),
        }
    }

    #[test]
    fn explains_every_mismatch_up_to_the_match() {
        let set = PolicySet {
            connection_policies: vec![
                policy("none", &nets(&["10.9.0.0/16"]), &nets(&["10.8.0.0/16"]), &["23"]),
                policy("port", &nets(&["10.1.0.0/16"]), &nets(&["10.2.0.0/16"]), &["2200-2299"]),
                policy("fits", &nets(&["10.1.0.0/16"]), &nets(&["10.2.0.0/16"]), &["22"]),
                policy("also", &nets(&["0.0.0.0/0"]), &nets(&["0.0.0.0/0"]), &["1-65535"]),
            ],
            users: BTreeMap::new(),
        };
        let flow = flow("[::ffff:10.1.0.5]:40000", "10.2.0.9:22");
        let explained: Vec<_> = set
            .explain(&flow)
            .into_iter()
            .map(|explanation| (explanation.policy.name.clone(), explanation.mismatches))
            .collect();
        let all = vec![Mismatch::Client, Mismatch::Destination, Mismatch::Port];
        let expected = vec![
            ("none".to_owned(), all),
            ("port".to_owned(), vec![Mismatch::Port]),
            ("fits".to_owned(), vec![]),
        ];
        assert_eq!(explained, expected);
        let admitted = set.admit(&flow).unwrap();
        assert_eq!(admitted.policy().name, "fits");
        assert_eq!(admitted.flow().client, "10.1.0.5:40000".parse().unwrap());
    }

    #[test]
    fn an_empty_set_admits_nothing() {
        let refused = PolicySet::default().admit(&flow("10.1.0.5:1", "10.2.0.9:22"));
        assert_eq!(refused.err(), Some(DenyReason::NoConnectionPolicy));
    }

    /// Prefixes in a small space, so that policies overlap and some flows match none.
    fn any_net() -> impl Strategy<Value = IpNet> {
        (0_u8..4, 29_u8..=32)
            .prop_map(|(host, bits)| IpNet::new([10, 0, 0, host * 2].into(), bits).unwrap().trunc())
    }

    proptest! {
        #[test]
        fn first_match_wins(
            fields in proptest::collection::vec(
                (
                    proptest::collection::vec(any_net(), 1..3),
                    proptest::collection::vec(any_net(), 1..3),
                    20_u16..24,
                    0_u16..3,
                ),
                0..12,
            ),
            client in 0_u8..8,
            destination in 0_u8..8,
            port in 19_u16..28,
        ) {
            let mut set = PolicySet::default();
            let mut expected = None;
            let address = |host: u8| std::net::Ipv4Addr::new(10, 0, 0, host);
            // By membership in the list of addresses that each prefix stands for.
            let holds = |nets: &[IpNet], host: u8| nets.iter().any(|net| {
                let size = 1_u32 << (32 - u32::from(net.prefix_len()));
                let std::net::IpAddr::V4(first) = net.network() else { return false };
                (u32::from(first)..u32::from(first) + size).any(|a| a == u32::from(address(host)))
            });
            for (index, (from, to, first, more)) in fields.iter().enumerate() {
                let ports = format!("{first}-{}", first + more);
                set.connection_policies.push(policy(&index.to_string(), from, to, &[&ports]));
                let fits = holds(from, client)
                    && holds(to, destination)
                    && (*first..=first + more).any(|candidate| candidate == port);
                if fits && expected.is_none() {
                    expected = Some(index.to_string());
                }
            }
            let flow = Flow {
                client: (address(client), 40_000).into(),
                original_destination: (address(destination), port).into(),
            };
            let admitted = set.admit(&flow).ok().map(|admitted| admitted.policy().name.clone());
            let explained = set.explain(&flow).into_iter()
                .find(|explanation| explanation.mismatches.is_empty())
                .map(|explanation| explanation.policy.name.clone());
            prop_assert_eq!(&admitted, &expected);
            prop_assert_eq!(&explained, &expected);
        }
    }
}
