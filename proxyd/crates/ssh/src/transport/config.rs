//! What a leg is told before it starts: which side it plays, and how.

use std::sync::Arc;

use crate::transport::algorithms::{Algorithms, Shown};
use crate::transport::hostkey::HostKey;
use crate::transport::kexinit::Side;
use crate::transport::rekey::RekeyLimits;
use crate::transport::signature::KeyAlgorithm;
use crate::transport::version::Version;

/// What a leg needs to play the server.
#[derive(Clone)]
pub struct ServerConfig {
    /// Our version line.
    pub version: Version,
    /// Our host keys; an algorithm without a key is not offered, and the certificate of a key that
    /// has one is shown to clients that take it.
    pub host_keys: Vec<Arc<HostKey>>,
    /// What we allow.
    pub algorithms: Algorithms,
    /// The signature algorithms of client keys that we announce (`server-sig-algs`, RFC 8308
    /// section 3.1).
    pub sig_algs: Vec<KeyAlgorithm>,
    /// How long keys are used.
    pub rekey: RekeyLimits,
}

/// What a leg needs to play the client.
#[derive(Clone)]
pub struct ClientConfig {
    /// Our version line.
    pub version: Version,
    /// What we allow; the order of host key algorithms decides which key a server with several
    /// shows.
    pub algorithms: Algorithms,
    /// How long keys are used.
    pub rekey: RekeyLimits,
}

impl ServerConfig {
    fn host_key(&self, shown: Shown) -> Option<&Arc<HostKey>> {
        self.host_keys.iter().find(|key| {
            let signs = key.algorithms().contains(&shown.algorithm());
            signs && (matches!(shown, Shown::Key(_)) || key.certificate().is_some())
        })
    }
}

/// Which side we play, and how.
pub(super) enum Role {
    Server(ServerConfig),
    Client(ClientConfig),
}

impl Role {
    /// Our side.
    pub(super) const fn side(&self) -> Side {
        match self {
            Self::Server(_) => Side::Server,
            Self::Client(_) => Side::Client,
        }
    }

    /// Our version line.
    pub(super) const fn version(&self) -> &Version {
        match self {
            Self::Server(config) => &config.version,
            Self::Client(config) => &config.version,
        }
    }

    /// How long keys are used.
    pub(super) const fn rekey(&self) -> &RekeyLimits {
        match self {
            Self::Server(config) => &config.rekey,
            Self::Client(config) => &config.rekey,
        }
    }

    /// The algorithms to offer: as a server, host key algorithms only where there is a key.
    pub(super) fn algorithms(&self) -> Algorithms {
        match self {
            Self::Client(config) => config.algorithms.clone(),
            Self::Server(config) => {
                let mut algorithms = config.algorithms.clone();
                let has = |shown| config.host_key(shown).is_some();
                algorithms.host_certificates.clone_from(&algorithms.host_keys);
                algorithms
                    .host_certificates
                    .retain(|&algorithm| has(Shown::Certificate(algorithm)));
                algorithms.host_keys.retain(|&algorithm| has(Shown::Key(algorithm)));
                algorithms
            }
        }
    }

    /// The key that we sign with; a client has none.
    pub(super) fn host_key(&self, shown: Shown) -> Option<&Arc<HostKey>> {
        match self {
            Self::Server(config) => config.host_key(shown),
            Self::Client(_) => None,
        }
    }

    /// The signature algorithms to announce; a client announces none.
    pub(super) fn sig_algs(&self) -> &[KeyAlgorithm] {
        match self {
            Self::Server(config) => &config.sig_algs,
            Self::Client(_) => &[],
        }
    }
}
