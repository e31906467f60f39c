//! Ed25519 keys that sign a trail and prove it, and SHA-256.
use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};
use zeroize::Zeroizing;

use crate::error::TrailError;

/// Bytes of an Ed25519 public key (RFC 8032 section 5.1.5).
pub(crate) const PUBLIC_KEY_BYTES: usize = 32;

/// Bytes of an Ed25519 signature (RFC 8032 section 5.1.6).
pub(crate) const SIGNATURE_BYTES: usize = 64;

/// Bytes of a key id: enough to tell the keys of one site apart; the whole key is compared.
pub(crate) const KEY_ID_BYTES: usize = 8;

/// Bytes of a SHA-256 digest.
pub(crate) const HASH_BYTES: usize = 32;

/// A SHA-256 digest.
pub(crate) type Hash = [u8; HASH_BYTES];

/// SHA-256 over the parts, one after the other.
pub(crate) fn sha256(parts: &[&[u8]]) -> Hash {
    let mut context = Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let mut hash = [0; HASH_BYTES];
    // INVARIANT: a SHA-256 digest has exactly `HASH_BYTES` bytes.
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// The first bytes of a hash, at most all of them.
pub(crate) fn hash_start<const N: usize>(hash: &Hash) -> [u8; N] {
    let mut start = [0; N];
    for (to, from) in start.iter_mut().zip(hash) {
        *to = *from;
    }
    start
}

/// The private key that signs trails.
#[derive(Clone)]
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: VerifyingKey,
}

impl SigningKey {
    /// A new random key; fails if the library cannot make one.
    pub fn generate() -> Result<Self, TrailError> {
        Ed25519KeyPair::generate()
            .map(Self::from_pair)
            .map_err(|source| TrailError::Signing { doing: "generate", source })
    }

    /// Reads an unencrypted PKCS#8 document (RFC 8410 section 7), version 1 or 2.
    pub fn from_pkcs8(document: &[u8]) -> Result<Self, TrailError> {
        Ed25519KeyPair::from_pkcs8(document)
            .map(Self::from_pair)
            .map_err(|source| TrailError::SigningKey { source })
    }

    /// The key as a PKCS#8 version 1 document, which `openssl pkey` reads.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, TrailError> {
        match self.pair.to_pkcs8v1() {
            Ok(document) => Ok(Zeroizing::new(document.as_ref().to_vec())),
            Err(source) => Err(TrailError::Signing { doing: "encode", source }),
        }
    }

    /// The public half.
    #[must_use]
    pub const fn public(&self) -> VerifyingKey {
        self.public
    }

    /// Signs a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Result<[u8; SIGNATURE_BYTES], TrailError> {
        match self.pair.try_sign(message) {
            Ok(signature) => {
                let mut bytes = [0; SIGNATURE_BYTES];
                // INVARIANT: an Ed25519 signature has exactly `SIGNATURE_BYTES` bytes.
                bytes.copy_from_slice(signature.as_ref());
                Ok(bytes)
            }
            Err(source) => Err(TrailError::Signing { doing: "sign with", source }),
        }
    }

    /// Keeps the public half at hand.
    fn from_pair(pair: Ed25519KeyPair) -> Self {
        let mut public = [0; PUBLIC_KEY_BYTES];
        // INVARIANT: an Ed25519 public key has exactly `PUBLIC_KEY_BYTES` bytes.
        public.copy_from_slice(pair.public_key().as_ref());
        Self { pair, public: VerifyingKey(public) }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public)
    }
}

/// The public key that proves a trail; as text `ed25519:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VerifyingKey([u8; PUBLIC_KEY_BYTES]);

impl VerifyingKey {
    /// The key of 32 raw bytes; bytes that are no point of the curve verify nothing.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; PUBLIC_KEY_BYTES]) -> Self {
        Self(bytes)
    }

    /// The 32 raw bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; PUBLIC_KEY_BYTES] {
        &self.0
    }

    /// The first 8 bytes of the key's SHA-256.
    #[must_use]
    pub fn key_id(&self) -> KeyId {
        KeyId(hash_start(&sha256(&[&self.0])))
    }

    /// Whether the signature is this key's over the message.
    pub(crate) fn verifies(&self, message: &[u8], signature: &[u8; SIGNATURE_BYTES]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.0).verify(message, signature).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(TEXT_PREFIX)?;
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VerifyingKey({self})")
    }
}

impl FromStr for VerifyingKey {
    type Err = TrailError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_key(text).map(Self).ok_or_else(|| TrailError::VerifyingKey { text: text.to_owned() })
    }
}

/// A short name of a signing key; as text 16 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyId([u8; KEY_ID_BYTES]);

impl KeyId {
    /// The 8 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; KEY_ID_BYTES] {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

/// Writes two lower-case digits a byte.
fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    for byte in bytes {
        write!(f, "{byte:02x}")?;
    }
    Ok(())
}

/// The bytes of a verifying key's text; none if it is not one.
fn parse_key(text: &str) -> Option<[u8; PUBLIC_KEY_BYTES]> {
    let (pairs, rest) = text.strip_prefix(TEXT_PREFIX)?.as_bytes().as_chunks::<2>();
    if pairs.len() != PUBLIC_KEY_BYTES || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; PUBLIC_KEY_BYTES];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

/// The value of one lower-case hexadecimal digit.
const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// What the text of a verifying key starts with: the algorithm.
const TEXT_PREFIX: &str = "ed25519:";
