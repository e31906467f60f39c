//! Exchange hash and key derivation (RFC 4253 sections 7.2 and 8); every method here hashes with
//! SHA-256.

use aws_lc_rs::digest::{Context, SHA256};
use zeroize::Zeroizing;

use crate::cursor::Writer;
use crate::transport::kex::SharedSecret;
use crate::transport::protect::{Cipher, KeyMaterial, NONCE_BYTES};

/// Bytes of an exchange hash, and so of a session identifier.
pub(super) const HASH_BYTES: usize = 32;

/// An exchange hash; that of the first exchange identifies the session.
pub(super) type ExchangeHash = [u8; HASH_BYTES];

/// Everything that the exchange hash covers, but the shared secret, in its order (RFC 5656 section
/// 4).
pub(super) struct Transcript<'a> {
    /// The client's version line without its line end.
    pub(super) client_version: &'a [u8],
    /// The server's.
    pub(super) server_version: &'a [u8],
    /// The client's `SSH_MSG_KEXINIT`, with its number.
    pub(super) client_init: &'a [u8],
    /// The server's.
    pub(super) server_init: &'a [u8],
    /// The server's public host key.
    pub(super) host_key: &'a [u8],
    /// The client's share.
    pub(super) client_share: &'a [u8],
    /// The server's share.
    pub(super) server_share: &'a [u8],
}

impl Transcript<'_> {
    /// Hashes it all, with the shared secret at the end.
    pub(super) fn hash(&self, secret: &SharedSecret) -> ExchangeHash {
        let mut fields = Writer::new();
        fields
            .string(self.client_version)
            .string(self.server_version)
            .string(self.client_init)
            .string(self.server_init)
            .string(self.host_key)
            .string(self.client_share)
            .string(self.server_share);
        sha256(&[fields.as_bytes(), secret.encoded()])
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
    /// The shared secret.
    pub(super) secret: &'a SharedSecret,
    /// The hash of this exchange.
    pub(super) hash: &'a ExchangeHash,
    /// The hash of the first exchange.
    pub(super) session_id: &'a ExchangeHash,
}

impl Derivation<'_> {
    /// Key and nonce for `cipher` in one direction.
    pub(super) fn material(&self, cipher: Cipher, direction: Direction) -> KeyMaterial {
        let (nonce_letter, key_letter) = match direction {
            Direction::ToServer => (b'A', b'C'),
            Direction::ToClient => (b'B', b'D'),
        };
        let mut nonce = [0; NONCE_BYTES];
        nonce.copy_from_slice(&self.derive(nonce_letter, NONCE_BYTES));
        KeyMaterial { key: self.derive(key_letter, cipher.key_bytes()), nonce }
    }

    /// `bytes` bytes: HASH(K, H, letter, id), then HASH(K, H, all so far) as often as needed.
    fn derive(&self, letter: u8, bytes: usize) -> Zeroizing<Vec<u8>> {
        let secret = self.secret.encoded();
        // Room for the last block, so that no unwiped copy is left behind by growing.
        let mut key = Zeroizing::new(Vec::with_capacity(bytes + HASH_BYTES));
        let first = Zeroizing::new(sha256(&[secret, self.hash, &[letter], self.session_id]));
        key.extend_from_slice(first.as_slice());
        while key.len() < bytes {
            let next = Zeroizing::new(sha256(&[secret, self.hash, &key]));
            key.extend_from_slice(next.as_slice());
        }
        key.truncate(bytes);
        key
    }
}

/// SHA-256 of the concatenation of `parts`.
pub(super) fn sha256(parts: &[&[u8]]) -> [u8; HASH_BYTES] {
    let mut context = Context::new(&SHA256);
    parts.iter().for_each(|part| context.update(part));
    let mut hash = [0; HASH_BYTES];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hash and the derivation, spelled out from the RFC, for one set of inputs.
    #[test]
    fn derivation_follows_the_rfc() {
        let secret = SharedSecret::number(&[0x80; 32]);
        let (hash, session_id) = ([1; 32], [2; 32]);
        let derivation = Derivation { secret: &secret, hash: &hash, session_id: &session_id };
        let encoded = [&[0, 0, 0, 33, 0], [0x80; 32].as_slice()].concat();
        let first = sha256(&[&encoded, &hash, b"C", &session_id]);
        let second = sha256(&[&encoded, &hash, &first]);
        let material = derivation.material(Cipher::ChaCha20Poly1305, Direction::ToServer);
        assert_eq!(material.key.as_slice(), [first, second].concat());
        assert_eq!(material.nonce, sha256(&[&encoded, &hash, b"A", &session_id])[..12]);
        let material = derivation.material(Cipher::Aes128Gcm, Direction::ToClient);
        assert_eq!(material.key.as_slice(), &sha256(&[&encoded, &hash, b"D", &session_id])[..16]);
        assert_eq!(material.nonce, sha256(&[&encoded, &hash, b"B", &session_id])[..12]);
    }

    #[test]
    fn every_field_of_the_transcript_counts() {
        let secret = SharedSecret::string(&[7; 32]);
        let fields: [&[u8]; 7] = [b"a", b"b", b"c", b"d", b"e", b"f", b"g"];
        let hash = |fields: [&[u8]; 7], secret: &SharedSecret| {
            let [client_version, server_version, client_init, server_init, rest @ ..] = fields;
            let [host_key, client_share, server_share] = rest;
            Transcript {
                client_version,
                server_version,
                client_init,
                server_init,
                host_key,
                client_share,
                server_share,
            }
            .hash(secret)
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
        fields.iter().for_each(|field| {
            text.string(field);
        });
        text.string(&[7; 32]);
        assert_eq!(whole, sha256(&[text.as_bytes()]));
    }
}
