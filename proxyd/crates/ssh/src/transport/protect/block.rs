//! Block ciphers that need a MAC beside them: AES in counter mode (RFC 4344), and AES and 3DES in
//! CBC mode (RFC 4253 section 6.3), for old servers.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, Algorithm, DecryptingKey, DecryptionContext, EncryptingKey,
    EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::error::Unspecified;
use aws_lc_rs::iv::FixedLength;

use crate::error::Error;
use crate::transport::protect::KeyMaterial;

/// A cipher that does not authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BlockCipher {
    Aes128Ctr,
    Aes192Ctr,
    Aes256Ctr,
    Aes128Cbc,
    Aes192Cbc,
    Aes256Cbc,
    TripleDesCbc,
}

impl BlockCipher {
    /// Bytes of key that it takes.
    pub(super) const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Ctr | Self::Aes128Cbc => 16,
            Self::Aes192Ctr | Self::Aes192Cbc | Self::TripleDesCbc => 24,
            Self::Aes256Ctr | Self::Aes256Cbc => 32,
        }
    }

    /// Bytes of a block, and of the initial vector.
    pub(super) const fn block_bytes(self) -> usize {
        match self {
            Self::TripleDesCbc => DES_BLOCK_BYTES,
            Self::Aes128Ctr
            | Self::Aes192Ctr
            | Self::Aes256Ctr
            | Self::Aes128Cbc
            | Self::Aes192Cbc
            | Self::Aes256Cbc => AES_BLOCK_BYTES,
        }
    }

    /// Whether a block is mixed into the next one, so that what an altered length does to a
    /// connection tells something about what is encrypted (CVE-2008-5161).
    pub(super) const fn is_cbc(self) -> bool {
        match self {
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc | Self::TripleDesCbc => true,
            Self::Aes128Ctr | Self::Aes192Ctr | Self::Aes256Ctr => false,
        }
    }

    fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Aes128Ctr | Self::Aes128Cbc => &AES_128,
            Self::Aes192Ctr | Self::Aes192Cbc => &AES_192,
            Self::Aes256Ctr | Self::Aes256Cbc => &AES_256,
            Self::TripleDesCbc => triple_des(),
        }
    }
}

#[expect(deprecated, reason = "3DES, for servers that have nothing better; never by default")]
fn triple_des() -> &'static Algorithm {
    &aws_lc_rs::cipher::DES_EDE3_FOR_LEGACY_USE_ONLY
}

/// Encrypts or decrypts the blocks of one direction, one stretch after the other.
pub(super) struct Stream {
    key: Key,
    chain: Chain,
}

impl Stream {
    /// Takes key material into use for sending; fails if it has the wrong length.
    pub(super) fn encrypting(cipher: BlockCipher, material: &KeyMaterial) -> Result<Self, Error> {
        let key = unbound(cipher, material)?;
        let key = if cipher.is_cbc() { EncryptingKey::cbc(key) } else { EncryptingKey::ctr(key) };
        let key = Key::Encrypting(key.map_err(bad_key)?);
        Ok(Self { key, chain: Chain::new(cipher, material)? })
    }

    /// Takes key material into use for receiving; fails if it has the wrong length.
    pub(super) fn decrypting(cipher: BlockCipher, material: &KeyMaterial) -> Result<Self, Error> {
        if !cipher.is_cbc() {
            // In counter mode both directions are the same.
            return Self::encrypting(cipher, material);
        }
        let key = DecryptingKey::cbc(unbound(cipher, material)?).map_err(bad_key)?;
        Ok(Self { key: Key::Decrypting(key), chain: Chain::new(cipher, material)? })
    }

    /// Encrypts or decrypts whole blocks in place; fails if they are not whole.
    pub(super) fn apply(&mut self, blocks: &mut [u8]) -> Result<(), Error> {
        let failed = |source| Error::Crypto { operation: "packet encryption", source };
        let next = match &self.key {
            Key::Encrypting(key) => {
                key.less_safe_encrypt(blocks, self.chain.encryption()).map_err(failed)?;
                self.chain.after(blocks)
            }
            Key::Decrypting(key) => {
                let next = self.chain.after(blocks);
                key.decrypt(blocks, self.chain.decryption()).map_err(failed)?;
                next
            }
        };
        self.chain = next.ok_or_else(|| failed(Unspecified))?;
        Ok(())
    }
}

enum Key {
    Encrypting(EncryptingKey),
    Decrypting(DecryptingKey),
}

/// What the next block depends on beside the key.
#[derive(Clone, Copy)]
enum Chain {
    /// The next counter.
    Counter(u128),
    /// The last encrypted block of AES.
    Aes([u8; AES_BLOCK_BYTES]),
    /// The last encrypted block of 3DES.
    Des([u8; DES_BLOCK_BYTES]),
}

impl Chain {
    fn new(cipher: BlockCipher, material: &KeyMaterial) -> Result<Self, Error> {
        let chain = match (cipher.is_cbc(), cipher.block_bytes()) {
            (false, _) => material
                .nonce
                .as_slice()
                .try_into()
                .ok()
                .map(u128::from_be_bytes)
                .map(Self::Counter),
            (true, DES_BLOCK_BYTES) => material.nonce.as_slice().try_into().ok().map(Self::Des),
            (true, _) => material.nonce.as_slice().try_into().ok().map(Self::Aes),
        };
        chain.ok_or_else(|| bad_key(Unspecified))
    }

    fn encryption(self) -> EncryptionContext {
        match self {
            Self::Counter(counter) => {
                EncryptionContext::Iv128(FixedLength::from(counter.to_be_bytes()))
            }
            Self::Aes(block) => EncryptionContext::Iv128(FixedLength::from(block)),
            Self::Des(block) => EncryptionContext::Iv64(FixedLength::from(block)),
        }
    }

    fn decryption(self) -> DecryptionContext {
        self.encryption().into()
    }

    /// After these blocks as they are on the wire; none if they are not whole.
    fn after(self, encrypted: &[u8]) -> Option<Self> {
        Some(match self {
            Self::Counter(counter) => {
                let blocks = encrypted.len() / AES_BLOCK_BYTES;
                let whole = encrypted.len().is_multiple_of(AES_BLOCK_BYTES);
                let blocks = u128::try_from(blocks).ok().filter(|_blocks| whole)?;
                Self::Counter(counter.wrapping_add(blocks))
            }
            Self::Aes(_) => Self::Aes(*encrypted.last_chunk()?),
            Self::Des(_) => Self::Des(*encrypted.last_chunk()?),
        })
    }
}

/// Bytes of a block of AES.
const AES_BLOCK_BYTES: usize = 16;

/// Bytes of a block of 3DES.
const DES_BLOCK_BYTES: usize = 8;

fn unbound(cipher: BlockCipher, material: &KeyMaterial) -> Result<UnboundCipherKey, Error> {
    UnboundCipherKey::new(cipher.algorithm(), &material.key).map_err(bad_key)
}

const fn bad_key(source: Unspecified) -> Error {
    Error::Crypto { operation: "taking a cipher key", source }
}
