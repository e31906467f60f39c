//! Two legs joined by byte queues, with a clock moved by hand.

use std::sync::Arc;

use super::super::*;
use crate::certificate;

/// An event that owns what it holds, for comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Seen {
    HostKey(KeyAlgorithm, Vec<u8>),
    Certificate(KeyAlgorithm, Vec<u8>),
    Established,
    Rekeyed,
    Message(Vec<u8>),
    Disconnected(u32, String),
}

impl From<Event<'_>> for Seen {
    fn from(event: Event<'_>) -> Self {
        match event {
            Event::HostKey(offer) => match offer.certificate {
                Some(certificate) => {
                    Self::Certificate(offer.algorithm, certificate.blob().to_vec())
                }
                None => Self::HostKey(offer.algorithm, offer.key_blob.to_vec()),
            },
            Event::Established => Self::Established,
            Event::Rekeyed => Self::Rekeyed,
            Event::Message(payload) => Self::Message(payload.to_vec()),
            Event::Disconnected { reason, text } => Self::Disconnected(reason, text),
        }
    }
}

pub(super) fn server_config() -> ServerConfig {
    ServerConfig {
        version: Version::new("SSH-2.0-OpenSSH_9.2p1 proxyd").unwrap(),
        host_keys: vec![Arc::new(HostKey::generate_ed25519().unwrap())],
        algorithms: Algorithms::recommended(),
        sig_algs: KeyAlgorithm::ALL.to_vec(),
        rekey: RekeyLimits::recommended(),
    }
}

pub(super) fn client_config() -> ClientConfig {
    ClientConfig {
        version: Version::new("SSH-2.0-OpenSSH_9.2p1").unwrap(),
        algorithms: Algorithms::recommended(),
        rekey: RekeyLimits::recommended(),
    }
}

/// Every suite there is, as a cipher and its MAC.
pub(super) fn suites() -> Vec<(Cipher, Option<Mac>)> {
    protect::suites().into_iter().map(|suite| (suite.cipher(), suite.mac())).collect()
}

/// Both sides with every algorithm there is, changed alike.
pub(super) fn configs(change: impl Fn(&mut Algorithms)) -> (ClientConfig, ServerConfig) {
    let (mut client, mut server) = (client_config(), server_config());
    for algorithms in [&mut client.algorithms, &mut server.algorithms] {
        *algorithms = Algorithms::for_servers().with_legacy();
        change(algorithms);
    }
    (client, server)
}

/// Both sides with one suite.
pub(super) fn one_suite((cipher, mac): (Cipher, Option<Mac>)) -> (ClientConfig, ServerConfig) {
    configs(|algorithms| {
        algorithms.ciphers = vec![cipher];
        algorithms.macs = mac.into_iter().collect();
    })
}

/// A key with a host certificate.
pub(super) fn certified(key: HostKey, ca: &HostKey) -> HostKey {
    let request = certificate::Request {
        key_blob: key.public_blob(),
        kind: certificate::Kind::Host,
        serial: 1,
        key_id: "host",
        principals: &["server.example"],
        valid_after_s: 0,
        valid_before_s: u64::MAX,
        force_command: None,
        source_address: None,
        extensions: &[],
    };
    let certificate = Certificate::issue(&request, ca).unwrap();
    key.with_certificate(&certificate).unwrap()
}

/// Moves up to `limit` bytes of output into the other leg; whether there were any.
pub(super) fn carry(from: &mut Leg, to: &mut Leg, limit: usize) -> bool {
    let space = to.read_space();
    let count = from.out().len().min(space.len()).min(limit);
    space[..count].copy_from_slice(&from.out()[..count]);
    from.sent(count);
    to.filled(count);
    count > 0
}

/// All events of what was read so far; accepts any host key.
pub(super) fn events(leg: &mut Leg, now: Duration) -> Result<Vec<Seen>, Error> {
    let mut seen = Vec::new();
    while let Some(event) = leg.next(now)?.map(Seen::from) {
        if matches!(event, Seen::HostKey(..) | Seen::Certificate(..)) {
            leg.accept_host_key();
        }
        seen.push(event);
    }
    Ok(seen)
}

/// Two legs and what each of them has told.
pub(super) struct Joined {
    pub(super) client: Leg,
    pub(super) server: Leg,
    pub(super) at_client: Vec<Seen>,
    pub(super) at_server: Vec<Seen>,
    pub(super) now: Duration,
}

impl Joined {
    pub(super) fn new(client: ClientConfig, server: ServerConfig) -> Self {
        let now = Duration::ZERO;
        let (client, server) = (Leg::client(client, now), Leg::server(server, now));
        Self { client, server, at_client: Vec::new(), at_server: Vec::new(), now }
    }

    /// Joined, with the first exchange done and nothing pending.
    pub(super) fn established(client: ClientConfig, server: ServerConfig) -> Self {
        let mut joined = Self::new(client, server);
        joined.run(usize::MAX);
        joined
    }

    /// The same, after authentication.
    pub(super) fn authenticated(client: ClientConfig, server: ServerConfig) -> Self {
        let mut joined = Self::established(client, server);
        joined.server.send(&[&[USERAUTH_SUCCESS]]).unwrap();
        joined.run(usize::MAX);
        joined.at_client.clear();
        joined.at_server.clear();
        joined
    }

    /// Moves bytes both ways, `limit` at a time, until both are quiet.
    pub(super) fn run(&mut self, limit: usize) {
        loop {
            let moved = carry(&mut self.client, &mut self.server, limit)
                | carry(&mut self.server, &mut self.client, limit);
            let at_client = events(&mut self.client, self.now).unwrap();
            let at_server = events(&mut self.server, self.now).unwrap();
            let quiet = !moved && at_client.is_empty() && at_server.is_empty();
            self.at_client.extend(at_client);
            self.at_server.extend(at_server);
            if quiet && self.client.out().is_empty() && self.server.out().is_empty() {
                return;
            }
        }
    }
}

/// Sends a message as a peer might that obeys no rule: in whatever state, of whatever number.
pub(super) fn inject(leg: &mut Leg, payload: &[u8]) {
    leg.sealer.seal(&[payload], leg.output.tail()).unwrap();
}

/// Reads `bytes` into a leg and takes its events, however many reads that needs.
pub(super) fn feed(leg: &mut Leg, mut bytes: &[u8], now: Duration) -> Result<Vec<Seen>, Error> {
    let mut seen = Vec::new();
    while !bytes.is_empty() && leg.wants_read() {
        let space = leg.read_space();
        let count = space.len().min(bytes.len());
        let (head, rest) = bytes.split_at(count);
        space[..count].copy_from_slice(head);
        leg.filled(count);
        bytes = rest;
        seen.extend(events(leg, now)?);
    }
    Ok(seen)
}

/// Takes all output of a leg, as if it had been written.
pub(super) fn written(leg: &mut Leg) -> Vec<u8> {
    let bytes = leg.out().to_vec();
    leg.sent(bytes.len());
    bytes
}

/// A message of the connection layer, of `bytes` bytes and its number.
pub(super) fn message(fill: u8, bytes: usize) -> Vec<u8> {
    [&[94], vec![fill; bytes].as_slice()].concat()
}
