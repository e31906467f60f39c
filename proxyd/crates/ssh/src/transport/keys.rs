//! Exchange hash and key derivation (RFC 4253 sections 7.2 and 8).

use aws_lc_rs::digest::Digest;
use zeroize::Zeroizing;

use crate::cursor::Writer;
use crate::transport::hash::Hash;
use crate::transport::kex::SharedSecret;
use crate::transport::protect::{KeyMaterial, Suite};

/// An exchange hash, as long as the hash of its method; that of the first exchange identifies the
/// session.
pub(super) type ExchangeHash = Digest;

/// Everything that the exchange hash covers, but the shared secret, in its order (RFC 5656 section
/// 4, RFC 4419 section 3).
pub(super) struct Transcript<'a> {
    /// The client's version line without its line end.
    pub(super) client_version: &'a [u8],
    /// The server's.
    pub(super) server_version: &'a [u8],
    /// The client's `SSH_MSG_KEXINIT`, with its number.
    pub(super) client_init: &'a [u8],
    /// The server's.
    pub(super) server_init: &'a [u8],
    /// The server's public host key or certificate.
    pub(super) host_key: &'a [u8],
    /// What a group exchange agreed on, as sent; empty in other methods.
    pub(super) group: &'a [u8],
    /// The client's share.
    pub(super) client_share: &'a [u8],
    /// The server's share.
    pub(super) server_share: &'a [u8],
}

impl Transcript<'_> {
    /// Hashes it all, with the shared secret at the end.
    pub(super) fn hash(&self, hash: Hash, secret: &SharedSecret) -> ExchangeHash {
        let mut fields = Writer::new();
        fields
            .string(self.client_version)
            .string(self.server_version)
            .string(self.client_init)
            .string(self.server_init)
            .string(self.host_key)
            .raw(self.group)
            .string(self.client_share)
            .string(self.server_share);
        hash.of(&[fields.as_bytes(), secret.encoded()])
    }
}

/// A direction of a connection, by who receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    ToServer,
    ToClient,
}

/// Derives the keys that one exchange leads to.
pub(super) struct Derivation<'a> {
    /// The hash function of the method.
    pub(super) function: Hash,
    /// The shared secret.
    pub(super) secret: &'a SharedSecret,
    /// The hash of this exchange.
    pub(super) hash: &'a ExchangeHash,
    /// The hash of the first exchange.
    pub(super) session_id: &'a ExchangeHash,
}

impl Derivation<'_> {
    /// What `suite` needs in one direction.
    pub(super) fn material(&self, suite: Suite, direction: Direction) -> KeyMaterial {
        let [nonce, key, mac] = match direction {
            Direction::ToServer => [b'A', b'C', b'E'],
            Direction::ToClient => [b'B', b'D', b'F'],
        };
        KeyMaterial {
            nonce: self.derive(nonce, suite.nonce_bytes()),
            key: self.derive(key, suite.key_bytes()),
            mac: self.derive(mac, suite.mac_key_bytes()),
        }
    }

    /// `bytes` bytes: HASH(K, H, letter, id), then HASH(K, H, all so far) as often as needed.
    fn derive(&self, letter: u8, bytes: usize) -> Zeroizing<Vec<u8>> {
        let (secret, hash) = (self.secret.encoded(), self.hash.as_ref());
        // Room for the last block, so that no unwiped copy is left behind by growing.
        let mut key = Zeroizing::new(Vec::with_capacity(bytes + hash.len()));
        let first = self.function.of(&[secret, hash, &[letter], self.session_id.as_ref()]);
        key.extend_from_slice(first.as_ref());
        while key.len() < bytes {
            let next = self.function.of(&[secret, hash, &key]);
            key.extend_from_slice(next.as_ref());
        }
        key.truncate(bytes);
        key
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::protect::{Cipher, Mac};

    /// The hash and the derivation, spelled out from the RFC, for one set of inputs.
    #[test]
    fn derivation_follows_the_rfc() {
        let secret = SharedSecret::number(&[0x80; 32]);
        let encoded = [&[0, 0, 0, 33, 0], [0x80; 32].as_slice()].concat();
        for function in [Hash::Sha1, Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let (hash, session_id) = (function.of(&[b"1"]), function.of(&[b"2"]));
            let derivation =
                Derivation { function, secret: &secret, hash: &hash, session_id: &session_id };
            let first = |letter: &[u8]| {
                let parts = [encoded.as_slice(), hash.as_ref(), letter, session_id.as_ref()];
                function.of(&parts).as_ref().to_vec()
            };
            let longer = |letter: &[u8], bytes: usize| {
                let mut key = first(letter);
                while key.len() < bytes {
                    let next = function.of(&[&encoded, hash.as_ref(), &key]);
                    key.extend_from_slice(next.as_ref());
                }
                key[..bytes].to_vec()
            };
            let suite = Suite::new(Cipher::ChaCha20Poly1305, || Err(())).unwrap();
            let material = derivation.material(suite, Direction::ToServer);
            assert_eq!(*material.key, longer(b"C", 64), "{function:?}");
            assert!(material.nonce.is_empty() && material.mac.is_empty());
            let suite = Suite::new(Cipher::Aes256Ctr, || Ok::<_, ()>(Mac::HmacSha512Etm)).unwrap();
            let material = derivation.material(suite, Direction::ToClient);
            assert_eq!(*material.nonce, first(b"B")[..16], "{function:?}");
            assert_eq!(*material.key, longer(b"D", 32), "{function:?}");
            assert_eq!(*material.mac, longer(b"F", 64), "{function:?}");
        }
    }

    #[test]
    fn every_field_of_the_transcript_counts() {
        let secret = SharedSecret::string(&[7; 32]);
        let fields: [&[u8]; 8] = [b"a", b"b", b"c", b"d", b"e", b"group", b"f", b"g"];
        let hash = |fields: [&[u8]; 8], secret: &SharedSecret| {
            let [client_version, server_version, client_init, server_init, rest @ ..] = fields;
            let [host_key, group, client_share, server_share] = rest;
            let transcript = Transcript {
                client_version,
                server_version,
                client_init,
                server_init,
                host_key,
                group,
                client_share,
                server_share,
            };
            transcript.hash(Hash::Sha384, secret).as_ref().to_vec()
        };
        let whole = hash(fields, &secret);
        for index in 0..fields.len() {
            let mut changed = fields;
            changed[index] = b"x";
            assert_ne!(hash(changed, &secret), whole, "field {index}");
        }
        assert_ne!(
            hash(fields, &SharedSecret::number(&[7; 32])),
            hash(fields, &SharedSecret::string(&[8; 32]))
        );
        let mut text = Writer::new();
        for (index, field) in fields.iter().enumerate() {
            // A group is part of the messages, and has its lengths in itself.
            if index == 5 {
                text.raw(field)
            } else {
                text.string(field)
            };
        }
        text.string(&[7; 32]);
        assert_eq!(whole, Hash::Sha384.of(&[text.as_bytes()]).as_ref());
    }
}
