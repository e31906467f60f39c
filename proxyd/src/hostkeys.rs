//! Host keys: those that we show to clients, and those by which we know servers.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use proxyd_policy::DenyReason;
use proxyd_policy::settings::{HostKeyCheck, HostKeyType};
use proxyd_ssh::transport::HostKey;
use thiserror::Error as ThisError;
use tokio::sync::Semaphore;
use tracing::{info, warn};

use crate::clock::Clock;
use crate::store::host_keys::KnownKey;
use crate::store::{Store, StoreError};

/// Why there is no host key to show or to compare with.
#[derive(Debug, ThisError)]
pub enum HostKeysError {
    /// The database failed.
    #[error("host keys are not available")]
    Store(#[from] StoreError),
    /// A key cannot be made, or the one in the database is damaged.
    #[error("host key of {server} for clients cannot be used")]
    Key {
        /// The server for whose clients the key is.
        server: SocketAddr,
        /// Why.
        #[source]
        source: proxyd_ssh::Error,
    },
    /// The task that makes keys did not end well.
    #[error("making a host key for {server} was interrupted")]
    Interrupted {
        /// The server.
        server: SocketAddr,
    },
}

/// How a server's host key came to be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It is the key we know.
    Known,
    /// It is the first key of this server, and is known from now on.
    Learned,
    /// It comes with a certificate of a CA that the policy trusts.
    Certified,
    /// The policy does not ask.
    Unchecked,
}

impl Trust {
    /// The name in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Known => "known",
            Self::Learned => "learned",
            Self::Certified => "certified",
            Self::Unchecked => "unchecked",
        }
    }
}

/// Keys made at a time: each takes a core for a good part of a second, and those who wait for one
/// may find that it is the key they need.
const MAKING_MAX: usize = 1;

/// Keys for clients that are kept in memory, a few kB each; then all are forgotten.
const READ_MAX: usize = 4_096;

/// The host keys of this gateway and of the servers behind it.
#[derive(Debug, Clone)]
pub struct HostKeys {
    store: Store,
    clock: Clock,
    making: Arc<Semaphore>,
    /// Keys that clients are shown: they never change, and reading one costs the database and, for
    /// RSA, a check of its numbers.
    read: Arc<Mutex<HashMap<(SocketAddr, HostKeyType), HostKey>>>,
}

impl HostKeys {
    /// Host keys that live in `store`.
    #[must_use]
    pub fn new(store: Store, clock: Clock) -> Self {
        let making = Arc::new(Semaphore::new(MAKING_MAX));
        Self { store, clock, making, read: Arc::default() }
    }

    /// The keys that clients of `server` are shown: made once, then always the same.
    pub async fn shown(
        &self,
        server: SocketAddr,
        types: &[HostKeyType],
    ) -> Result<Vec<HostKey>, HostKeysError> {
        if let Some(keys) = self.read_before(server, types) {
            return Ok(keys);
        }
        let mut stored = self.stored(server, types).await?;
        if stored.contains(&None) {
            stored = self.make_shown_keys(server, types).await?;
        }
        let mut keys = Vec::new();
        for (kind, pkcs8) in types.iter().zip(stored) {
            let Some(pkcs8) = pkcs8 else { continue };
            let key = HostKey::from_pkcs8(&pkcs8);
            let key = key.map_err(|source| HostKeysError::Key { server, source })?;
            self.keep((server, *kind), &key);
            keys.push(key);
        }
        Ok(keys)
    }

    /// The keys of these types, if all of them were read before.
    fn read_before(&self, server: SocketAddr, types: &[HostKeyType]) -> Option<Vec<HostKey>> {
        let read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        types.iter().map(|kind| read.get(&(server, *kind)).cloned()).collect()
    }

    fn keep(&self, of: (SocketAddr, HostKeyType), key: &HostKey) {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if read.len() >= READ_MAX {
            read.clear();
        }
        read.insert(of, key.clone());
    }

    /// The stored keys of these types, in PKCS#8.
    async fn stored(
        &self,
        server: SocketAddr,
        types: &[HostKeyType],
    ) -> Result<Vec<Option<Vec<u8>>>, HostKeysError> {
        let mut stored = Vec::new();
        for kind in types {
            stored.push(self.store.shown_key(server, key_name(*kind)).await?);
        }
        Ok(stored)
    }

    /// Makes the keys that are missing, in one go, unless somebody else has while we waited for
    /// our turn.
    async fn make_shown_keys(
        &self,
        server: SocketAddr,
        types: &[HostKeyType],
    ) -> Result<Vec<Option<Vec<u8>>>, HostKeysError> {
        let interrupted = HostKeysError::Interrupted { server };
        let Ok(_turn) = self.making.acquire().await else { return Err(interrupted) };
        let mut stored = self.stored(server, types).await?;
        let pairs = types.iter().zip(&stored);
        let missing: Vec<_> =
            pairs.filter(|(_, stored)| stored.is_none()).map(|(kind, _)| *kind).collect();
        // An RSA key takes a good part of a second; other sessions must not wait for it.
        let making = tokio::task::spawn_blocking(move || {
            missing.into_iter().map(make_key).collect::<Result<Vec<_>, _>>()
        });
        let Ok(made) = making.await else { return Err(interrupted) };
        let made = made.map_err(|source| HostKeysError::Key { server, source })?;
        let mut made = made.into_iter();
        for (kind, slot) in types.iter().zip(&mut stored) {
            if slot.is_none()
                && let Some(pkcs8) = made.next()
            {
                let name = key_name(*kind);
                *slot = Some(self.store.keep_shown_key(server, name, &pkcs8).await?);
            }
        }
        Ok(stored)
    }

    /// The keys by which `server` is known. Those types have to be asked for first: a server with
    /// several keys must not look changed because it was asked for another one.
    pub async fn known(&self, server: SocketAddr) -> Result<Vec<KnownKey>, HostKeysError> {
        Ok(self.store.known_keys(server).await?)
    }

    /// Judges the key that `server` proved to hold, by those it is `known` by.
    pub async fn judge(
        &self,
        server: SocketAddr,
        check: HostKeyCheck,
        key: &KnownKey,
        known: Vec<KnownKey>,
    ) -> Result<Result<Trust, DenyReason>, HostKeysError> {
        if check == HostKeyCheck::Off {
            return Ok(Ok(Trust::Unchecked));
        }
        let mut known = known;
        let algorithm = key.algorithm.as_str();
        if known.is_empty() && check == HostKeyCheck::AcceptFirst {
            if self.store.learn_key(server, key, self.clock.wall_ns()).await? {
                info!(%server, algorithm, "Learned the first host key of a server");
                return Ok(Ok(Trust::Learned));
            }
            // Another connection was faster.
            known = self.store.known_keys(server).await?;
        }
        if known.contains(key) {
            return Ok(Ok(Trust::Known));
        }
        if known.is_empty() {
            return Ok(Err(DenyReason::HostKeyUnknown));
        }
        warn!(%server, algorithm, "Host key of a server has changed");
        Ok(Err(DenyReason::HostKeyChanged))
    }
}

/// The type of a key as its public blob names it.
const fn key_name(kind: HostKeyType) -> &'static str {
    match kind {
        HostKeyType::Ed25519 => "ssh-ed25519",
        HostKeyType::Ecdsa => "ecdsa-sha2-nistp256",
        HostKeyType::Rsa => "ssh-rsa",
    }
}

fn make_key(kind: HostKeyType) -> Result<Vec<u8>, proxyd_ssh::Error> {
    let key = match kind {
        HostKeyType::Ed25519 => HostKey::generate_ed25519()?,
        HostKeyType::Ecdsa => HostKey::generate_ecdsa()?,
        HostKeyType::Rsa => HostKey::generate_rsa()?,
    };
    Ok(key.to_pkcs8()?.to_vec())
}
