//! The algorithms that one side allows: what is recommended towards clients and towards servers,
//! and what old servers need.

use crate::transport::kex::KexMethod;
use crate::transport::protect::{Cipher, Mac};
use crate::transport::signature::KeyAlgorithm;

/// The algorithms one side allows, each list in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    /// Key exchange methods.
    pub kex: Vec<KexMethod>,
    /// Host key algorithms: what a server may sign with, or a client accepts.
    pub host_keys: Vec<KeyAlgorithm>,
    /// Host key algorithms whose key comes in a certificate, preferred to plain keys. A driver
    /// that allows some has to check the certificate of [`crate::transport::HostKeyOffer`].
    pub host_certificates: Vec<KeyAlgorithm>,
    /// Ciphers, for both directions.
    pub ciphers: Vec<Cipher>,
    /// MACs, for both directions; for the ciphers that need one.
    pub macs: Vec<Mac>,
}

impl Algorithms {
    /// What clients are offered.
    ///
    /// Not the NIST curves in key exchange, which nobody needs who has one of the others, and not
    /// the group of 8192 bits, which costs a server more than it gives.
    #[must_use]
    pub fn recommended() -> Self {
        Self {
            kex: vec![
                KexMethod::MlKem768X25519,
                KexMethod::Curve25519,
                KexMethod::Curve25519LibSsh,
                KexMethod::Group16Sha512,
                KexMethod::GroupExchangeSha256,
                KexMethod::Group14Sha256,
            ],
            ..Self::for_servers()
        }
    }

    /// What servers are offered: everything that is safe.
    #[must_use]
    pub fn for_servers() -> Self {
        Self {
            kex: KexMethod::ALL.into_iter().filter(|method| !method.is_legacy()).collect(),
            host_keys: KeyAlgorithm::ALL.to_vec(),
            host_certificates: Vec::new(),
            ciphers: Cipher::ALL.into_iter().filter(|cipher| !cipher.is_legacy()).collect(),
            macs: Mac::ALL.into_iter().filter(|mac| !mac.is_legacy()).collect(),
        }
    }

    /// Everything a server may show, preferred first.
    pub(super) fn shows(&self) -> Vec<Shown> {
        let certified = self.host_certificates.iter().copied().map(Shown::Certificate);
        certified.chain(self.host_keys.iter().copied().map(Shown::Key)).collect()
    }

    /// Appends what only old servers need: SHA-1, groups of 1024 bits, and ciphers in CBC mode.
    #[must_use]
    pub fn with_legacy(mut self) -> Self {
        append(&mut self.kex, KexMethod::ALL.into_iter().filter(|method| method.is_legacy()));
        append(&mut self.host_keys, [KeyAlgorithm::RsaSha1].into_iter());
        append(&mut self.ciphers, Cipher::ALL.into_iter().filter(|cipher| cipher.is_legacy()));
        append(&mut self.macs, Mac::ALL.into_iter().filter(|mac| mac.is_legacy()));
        self
    }
}

/// What a server shows, and what it signs with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// A plain key.
    Key(KeyAlgorithm),
    /// A certificate for a key.
    Certificate(KeyAlgorithm),
}

impl Shown {
    /// The name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Key(algorithm) => algorithm.name(),
            Self::Certificate(algorithm) => algorithm.certificate_name(),
        }
    }

    /// The algorithm of the signature.
    pub(super) const fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::Key(algorithm) | Self::Certificate(algorithm) => algorithm,
        }
    }
}

/// Appends what is not in the list yet.
fn append<T: PartialEq>(list: &mut Vec<T>, more: impl Iterator<Item = T>) {
    for item in more {
        if !list.contains(&item) {
            list.push(item);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weak_algorithms_are_in_the_legacy_list_alone_and_at_its_end() {
        for safe in [Algorithms::recommended(), Algorithms::for_servers()] {
            let legacy = safe.clone().with_legacy();
            assert!(!safe.kex.iter().any(|method| method.is_legacy()));
            assert!(!safe.ciphers.iter().any(|cipher| cipher.is_legacy()));
            assert!(!safe.macs.iter().any(|mac| mac.is_legacy()));
            assert!(!safe.host_keys.contains(&KeyAlgorithm::RsaSha1));
            assert!(legacy.kex.starts_with(&safe.kex) && legacy.kex.len() == safe.kex.len() + 3);
            assert_eq!(legacy.ciphers.len(), safe.ciphers.len() + 4);
            assert_eq!(legacy.macs.len(), safe.macs.len() + 2);
            assert_eq!(legacy.host_keys.last(), Some(&KeyAlgorithm::RsaSha1));
            assert_eq!(legacy.clone().with_legacy(), legacy);
        }
    }
}
