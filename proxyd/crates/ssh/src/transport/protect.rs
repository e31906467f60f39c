//! Packet protection: the AEAD ciphers, each of which encrypts and authenticates.
//!
//! There is no cipher without integrity protection here, so no choice of a peer can lead to one.

use aws_lc_rs::aead::chacha20_poly1305_openssh as chacha;
use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::error::Error;

/// A cipher that can be negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// `aes128-gcm@openssh.com` (RFC 5647, as OpenSSH negotiates it)
    Aes128Gcm,
    /// `aes256-gcm@openssh.com`
    Aes256Gcm,
    /// `chacha20-poly1305@openssh.com` (OpenSSH's PROTOCOL.chacha20poly1305)
    ChaCha20Poly1305,
}

impl Cipher {
    /// All, fastest first.
    pub const ALL: [Self; 3] = [Self::Aes128Gcm, Self::Aes256Gcm, Self::ChaCha20Poly1305];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
        }
    }

    /// Bytes of key that it takes.
    pub(super) const fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
            // Two keys of 32: one for the payload, one for the length.
            Self::ChaCha20Poly1305 => chacha::KEY_LEN,
        }
    }
}

/// Key, and initial nonce where the cipher has one, for one direction; wiped when dropped.
pub(super) struct KeyMaterial {
    /// As many bytes as the cipher takes.
    pub(super) key: Zeroizing<Vec<u8>>,
    /// The initial nonce of AES-GCM; chacha20 takes the sequence number.
    pub(super) nonce: [u8; NONCE_BYTES],
}

/// Seals packets of one direction.
pub(super) enum SealKey {
    AesGcm(Gcm),
    ChaCha20(chacha::SealingKey),
}

impl SealKey {
    /// Takes key material into use; fails if it has the wrong length.
    pub(super) fn new(cipher: Cipher, material: &KeyMaterial) -> Result<Self, Error> {
        match cipher {
            Cipher::ChaCha20Poly1305 => {
                Ok(Self::ChaCha20(chacha::SealingKey::new(chacha_key(material)?)))
            }
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Ok(Self::AesGcm(Gcm::new(cipher, material)?)),
        }
    }

    /// Bytes that the padded part of a packet is a multiple of.
    pub(super) const fn block_bytes(&self) -> usize {
        match self {
            Self::AesGcm(_) => GCM_BLOCK_BYTES,
            Self::ChaCha20(_) => STREAM_BLOCK_BYTES,
        }
    }

    /// Encrypts a packet, length field first, in place; gives the tag to send after it.
    pub(super) fn seal(
        &mut self,
        sequence: u32,
        packet: &mut [u8],
    ) -> Result<[u8; TAG_BYTES], Error> {
        let mut out = [0; TAG_BYTES];
        match self {
            Self::AesGcm(gcm) => {
                let Some((length, body)) = packet.split_first_chunk_mut::<LENGTH_BYTES>() else {
                    return Err(Error::Integrity { sequence });
                };
                let nonce = gcm.next_nonce();
                let tag = gcm
                    .key
                    .seal_in_place_separate_tag(nonce, Aad::from(*length), body)
                    .map_err(|source| Error::Crypto { operation: "packet encryption", source })?;
                out.copy_from_slice(tag.as_ref());
            }
            Self::ChaCha20(key) => key.seal_in_place(sequence, packet, &mut out),
        }
        Ok(out)
    }
}

/// Opens packets of one direction.
pub(super) enum OpenKey {
    AesGcm(Gcm),
    ChaCha20(chacha::OpeningKey),
}

impl OpenKey {
    /// Takes key material into use; fails if it has the wrong length.
    pub(super) fn new(cipher: Cipher, material: &KeyMaterial) -> Result<Self, Error> {
        match cipher {
            Cipher::ChaCha20Poly1305 => {
                Ok(Self::ChaCha20(chacha::OpeningKey::new(chacha_key(material)?)))
            }
            Cipher::Aes128Gcm | Cipher::Aes256Gcm => Ok(Self::AesGcm(Gcm::new(cipher, material)?)),
        }
    }

    /// Bytes that the padded part of a packet is a multiple of.
    pub(super) const fn block_bytes(&self) -> usize {
        match self {
            Self::AesGcm(_) => GCM_BLOCK_BYTES,
            Self::ChaCha20(_) => STREAM_BLOCK_BYTES,
        }
    }

    /// The length field, which is not authenticated before the packet is opened.
    pub(super) fn length(&self, sequence: u32, field: [u8; LENGTH_BYTES]) -> u32 {
        u32::from_be_bytes(match self {
            Self::AesGcm(_) => field,
            Self::ChaCha20(key) => key.decrypt_packet_length(sequence, field),
        })
    }

    /// Checks and decrypts a packet, length field first and tag last, in place.
    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), Error> {
        let Some((sealed, tag)) = packet.split_last_chunk_mut::<TAG_BYTES>() else {
            return Err(Error::Integrity { sequence });
        };
        let opened = match self {
            Self::AesGcm(gcm) => {
                let Some((length, body)) = sealed.split_first_chunk_mut::<LENGTH_BYTES>() else {
                    return Err(Error::Integrity { sequence });
                };
                let (nonce, aad) = (gcm.next_nonce(), Aad::from(*length));
                gcm.key.open_in_place_separate_tag(nonce, aad, tag, body).is_ok()
            }
            Self::ChaCha20(key) => key.open_in_place(sequence, sealed, tag).is_ok(),
        };
        if opened { Ok(()) } else { Err(Error::Integrity { sequence }) }
    }
}

/// AES-GCM with the nonce of RFC 5647 section 7.1: 4 fixed bytes, then a counter of packets.
pub(super) struct Gcm {
    key: LessSafeKey,
    fixed: [u8; NONCE_FIXED_BYTES],
    counter: u64,
}

impl Gcm {
    fn new(cipher: Cipher, material: &KeyMaterial) -> Result<Self, Error> {
        let algorithm = if cipher == Cipher::Aes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
        let key = UnboundKey::new(algorithm, &material.key)
            .map_err(|source| Error::Crypto { operation: "taking a cipher key", source })?;
        let [a, b, c, d, counter @ ..] = material.nonce;
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

/// Bytes of the `packet_length` field.
pub(super) const LENGTH_BYTES: usize = 4;

/// Bytes of the tag, of every cipher here.
pub(super) const TAG_BYTES: usize = 16;

/// Bytes of the nonce of AES-GCM.
pub(super) const NONCE_BYTES: usize = 12;

/// Bytes of that nonce that stay the same.
const NONCE_FIXED_BYTES: usize = 4;

/// Block of AES.
const GCM_BLOCK_BYTES: usize = 16;

/// What stream ciphers and packets in the clear are padded to (RFC 4253 section 6).
pub(super) const STREAM_BLOCK_BYTES: usize = 8;

fn chacha_key(material: &KeyMaterial) -> Result<&[u8; chacha::KEY_LEN], Error> {
    material.key.first_chunk().ok_or(Error::Crypto {
        operation: "taking a cipher key",
        source: aws_lc_rs::error::Unspecified,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(cipher: Cipher) -> (SealKey, OpenKey) {
        let key = Zeroizing::new((1..).take(cipher.key_bytes()).collect());
        // The counter passes its end within the test.
        let material = KeyMaterial { key, nonce: [0xff; NONCE_BYTES] };
        (SealKey::new(cipher, &material).unwrap(), OpenKey::new(cipher, &material).unwrap())
    }

    /// A packet of 32 bytes with its tag.
    fn sealed(key: &mut SealKey, sequence: u8) -> Vec<u8> {
        let mut packet = [&32_u32.to_be_bytes(), [sequence; 32].as_slice()].concat();
        let tag = key.seal(sequence.into(), &mut packet).unwrap();
        [packet.as_slice(), &tag].concat()
    }

    #[test]
    fn what_is_sealed_opens_in_order() {
        for cipher in Cipher::ALL {
            let (mut seal, mut open) = pair(cipher);
            for sequence in 0..5_u8 {
                let mut packet = sealed(&mut seal, sequence);
                assert!(!packet.windows(4).any(|four| four == [sequence; 4]));
                assert_eq!(open.length(sequence.into(), *packet.first_chunk().unwrap()), 32);
                open.open(sequence.into(), &mut packet).unwrap();
                assert_eq!(packet[4..36], [sequence; 32], "{}", cipher.name());
            }
        }
    }

    #[test]
    fn any_changed_bit_is_found() {
        for cipher in Cipher::ALL {
            let packet = sealed(&mut pair(cipher).0, 7);
            for bit in 0..packet.len() * 8 {
                let mut changed = packet.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let opened = pair(cipher).1.open(7, &mut changed);
                assert!(matches!(opened, Err(Error::Integrity { sequence: 7 })), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_packet_cut_anywhere_is_refused() {
        for cipher in Cipher::ALL {
            let packet = sealed(&mut pair(cipher).0, 0);
            for length in 0..packet.len() {
                let mut cut = packet[..length].to_vec();
                assert!(pair(cipher).1.open(0, &mut cut).is_err(), "{} {length}", cipher.name());
            }
        }
    }

    #[test]
    fn a_packet_repeated_or_left_out_is_refused() {
        for cipher in Cipher::ALL {
            let (mut seal, mut open) = pair(cipher);
            let first = sealed(&mut seal, 0);
            let _lost = sealed(&mut seal, 1);
            let mut third = sealed(&mut seal, 2);
            open.open(0, &mut first.clone()).unwrap();
            assert!(open.open(1, &mut third).is_err(), "left out: {}", cipher.name());
            let (_, mut open) = pair(cipher);
            open.open(0, &mut first.clone()).unwrap();
            assert!(open.open(1, &mut first.clone()).is_err(), "repeated: {}", cipher.name());
        }
    }

    /// Test case 4 of the GCM specification without its tail: AES-128, 96-bit nonce, with the
    /// counter split as in RFC 5647.
    #[test]
    fn aes_gcm_is_what_others_compute() {
        let material = KeyMaterial { key: Zeroizing::new(vec![0; 16]), nonce: [0; NONCE_BYTES] };
        let mut key = SealKey::new(Cipher::Aes128Gcm, &material).unwrap();
        let mut packet = [[0; 4].as_slice(), &[0; 16]].concat();
        key.seal(0, &mut packet).unwrap();
        let expected = [
            0x03, 0x88, 0xda, 0xce, 0x60, 0xb6, 0xa3, 0x92, 0xf3, 0x28, 0xc2, 0xb9, 0x71, 0xb2,
            0xfe, 0x78,
        ];
        assert_eq!(packet[4..], expected);
    }

    #[test]
    fn key_material_of_wrong_length_is_refused() {
        for cipher in Cipher::ALL {
            let material = KeyMaterial { key: Zeroizing::new(vec![0; 15]), nonce: [0; 12] };
            assert!(SealKey::new(cipher, &material).is_err(), "{}", cipher.name());
            assert!(OpenKey::new(cipher, &material).is_err(), "{}", cipher.name());
        }
    }
}
