//! Ciphers that encrypt and authenticate in one.

use aws_lc_rs::aead::chacha20_poly1305_openssh as chacha;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::error::Unspecified;

use crate::error::Error;
use crate::transport::protect::{KeyMaterial, LENGTH_BYTES};

/// A cipher that authenticates by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Aead {
    Aes128Gcm,
    Aes256Gcm,
    ChaCha20Poly1305,
}

impl Aead {
    /// Bytes of key that it takes.
    pub(super) const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
            // Two keys of 32: one for the payload, one for the length.
            Self::ChaCha20Poly1305 => chacha::KEY_LEN,
        }
    }

    /// Bytes of the initial nonce of AES-GCM; chacha20 takes the sequence number.
    pub(super) const fn nonce_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm | Self::Aes256Gcm => NONCE_BYTES,
            Self::ChaCha20Poly1305 => 0,
        }
    }
}

/// Seals a packet of AES-GCM in place, its length field first; gives the tag.
pub(super) fn seal_gcm(
    gcm: &mut Gcm,
    sequence: u32,
    packet: &mut [u8],
) -> Result<[u8; TAG_BYTES], Error> {
    let Some((length, body)) = packet.split_first_chunk_mut::<LENGTH_BYTES>() else {
        return Err(Error::Integrity { sequence });
    };
    let nonce = gcm.next_nonce();
    let tag = gcm
        .key
        .seal_in_place_separate_tag(nonce, Aad::from(*length), body)
        .map_err(|source| Error::Crypto { operation: "packet encryption", source })?;
    let mut out = [0; TAG_BYTES];
    out.copy_from_slice(tag.as_ref());
    Ok(out)
}

/// Opens a packet of AES-GCM in place, its length field first and its tag last; whether it is
/// genuine.
pub(super) fn open_gcm(gcm: &mut Gcm, packet: &mut [u8]) -> bool {
    let Some((sealed, tag)) = packet.split_last_chunk_mut::<TAG_BYTES>() else { return false };
    let Some((length, body)) = sealed.split_first_chunk_mut::<LENGTH_BYTES>() else {
        return false;
    };
    let (nonce, aad) = (gcm.next_nonce(), Aad::from(*length));
    gcm.key.open_in_place_separate_tag(nonce, aad, tag, body).is_ok()
}

/// Seals a packet of chacha20-poly1305 in place; gives the tag.
pub(super) fn seal_chacha20(
    key: &chacha::SealingKey,
    sequence: u32,
    packet: &mut [u8],
) -> [u8; TAG_BYTES] {
    let mut out = [0; TAG_BYTES];
    key.seal_in_place(sequence, packet, &mut out);
    out
}

/// Opens a packet of chacha20-poly1305 in place, its tag last; whether it is genuine.
pub(super) fn open_chacha20(key: &chacha::OpeningKey, sequence: u32, packet: &mut [u8]) -> bool {
    let Some((sealed, tag)) = packet.split_last_chunk_mut::<TAG_BYTES>() else { return false };
    key.open_in_place(sequence, sealed, tag).is_ok()
}

/// The two keys of chacha20-poly1305; fails if the material has the wrong length.
pub(super) fn chacha20_key(material: &KeyMaterial) -> Result<&[u8; chacha::KEY_LEN], Error> {
    material.key.as_slice().try_into().map_err(bad_key)
}

/// AES-GCM with the nonce of RFC 5647 section 7.1: 4 fixed bytes, then a counter of packets.
pub(in crate::transport) struct Gcm {
    key: LessSafeKey,
    fixed: [u8; NONCE_FIXED_BYTES],
    counter: u64,
}

impl Gcm {
    /// Takes key material into use; fails if it has the wrong length.
    pub(super) fn new(cipher: Aead, material: &KeyMaterial) -> Result<Self, Error> {
        let algorithm = if cipher == Aead::Aes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, &material.key)
            .map_err(|source| Error::Crypto { operation: TAKING_KEY, source })?;
        let nonce: [u8; NONCE_BYTES] = material.nonce.as_slice().try_into().map_err(bad_key)?;
        let [a, b, c, d, counter @ ..] = nonce;
        let counter = u64::from_be_bytes(counter);
        Ok(Self { key: LessSafeKey::new(key), fixed: [a, b, c, d], counter })
    }

    /// The nonce of the next packet; every one is given out once.
    fn next_nonce(&mut self) -> Nonce {
        let mut nonce = [0; NONCE_BYTES];
        let (fixed, counter) = nonce.split_at_mut(NONCE_FIXED_BYTES);
        fixed.copy_from_slice(&self.fixed);
        counter.copy_from_slice(&self.counter.to_be_bytes());
        // Starts at a random value and may pass zero; it cannot repeat within the packets that one
        // key lives.
        self.counter = self.counter.wrapping_add(1);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Bytes of the tag.
pub(super) const TAG_BYTES: usize = 16;

/// Block of AES.
pub(super) const GCM_BLOCK_BYTES: usize = 16;

/// Bytes of the nonce of AES-GCM.
const NONCE_BYTES: usize = 12;

/// Bytes of that nonce that stay the same.
const NONCE_FIXED_BYTES: usize = 4;

const TAKING_KEY: &str = "taking a cipher key";

/// That a key or a nonce has the wrong length, which is all that can be wrong with it.
const fn bad_key(_length: std::array::TryFromSliceError) -> Error {
    Error::Crypto { operation: TAKING_KEY, source: Unspecified }
}
