//! Packet protection: ciphers that encrypt and authenticate, and ciphers with a MAC beside them.
//!
//! A [`Suite`] is one or the other: nothing here encrypts without integrity protection, so no
//! choice of a peer can lead to that.

mod aead;
mod block;
mod classic;
mod mac;

use aws_lc_rs::aead::chacha20_poly1305_openssh as chacha;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::transport::protect::aead::{
    Aead, GCM_BLOCK_BYTES, Gcm, TAG_BYTES, chacha20_key, open_chacha20, open_gcm, seal_chacha20,
    seal_gcm,
};
use crate::transport::protect::block::BlockCipher;
use crate::transport::protect::classic::Classic;

pub use mac::Mac;

/// A cipher that can be negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cipher {
    /// `aes128-gcm@openssh.com` (RFC 5647, as OpenSSH negotiates it)
    Aes128Gcm,
    /// `aes256-gcm@openssh.com`
    Aes256Gcm,
    /// `chacha20-poly1305@openssh.com` (OpenSSH's PROTOCOL.chacha20poly1305)
    ChaCha20Poly1305,
    /// `aes128-ctr` (RFC 4344); this and all that follow need a MAC
    Aes128Ctr,
    /// `aes192-ctr`
    Aes192Ctr,
    /// `aes256-ctr`
    Aes256Ctr,
    /// `aes128-cbc` (RFC 4253 section 6.3); this and all that follow are for old servers
    Aes128Cbc,
    /// `aes192-cbc`
    Aes192Cbc,
    /// `aes256-cbc`
    Aes256Cbc,
    /// `3des-cbc`
    TripleDesCbc,
}

impl Cipher {
    /// All, preferred first; those in CBC mode are at the end.
    pub const ALL: [Self; 10] = [
        Self::Aes128Gcm,
        Self::Aes256Gcm,
        Self::ChaCha20Poly1305,
        Self::Aes128Ctr,
        Self::Aes192Ctr,
        Self::Aes256Ctr,
        Self::Aes128Cbc,
        Self::Aes192Cbc,
        Self::Aes256Cbc,
        Self::TripleDesCbc,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "aes128-gcm@openssh.com",
            Self::Aes256Gcm => "aes256-gcm@openssh.com",
            Self::ChaCha20Poly1305 => "chacha20-poly1305@openssh.com",
            Self::Aes128Ctr => "aes128-ctr",
            Self::Aes192Ctr => "aes192-ctr",
            Self::Aes256Ctr => "aes256-ctr",
            Self::Aes128Cbc => "aes128-cbc",
            Self::Aes192Cbc => "aes192-cbc",
            Self::Aes256Cbc => "aes256-cbc",
            Self::TripleDesCbc => "3des-cbc",
        }
    }

    /// Whether it is weak, and for servers that have nothing better.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        matches!(self.family(), Family::Block(cipher) if cipher.is_cbc())
    }

    const fn family(self) -> Family {
        match self {
            Self::Aes128Gcm => Family::Aead(Aead::Aes128Gcm),
            Self::Aes256Gcm => Family::Aead(Aead::Aes256Gcm),
            Self::ChaCha20Poly1305 => Family::Aead(Aead::ChaCha20Poly1305),
            Self::Aes128Ctr => Family::Block(BlockCipher::Aes128Ctr),
            Self::Aes192Ctr => Family::Block(BlockCipher::Aes192Ctr),
            Self::Aes256Ctr => Family::Block(BlockCipher::Aes256Ctr),
            Self::Aes128Cbc => Family::Block(BlockCipher::Aes128Cbc),
            Self::Aes192Cbc => Family::Block(BlockCipher::Aes192Cbc),
            Self::Aes256Cbc => Family::Block(BlockCipher::Aes256Cbc),
            Self::TripleDesCbc => Family::Block(BlockCipher::TripleDesCbc),
        }
    }
}

enum Family {
    Aead(Aead),
    Block(BlockCipher),
}

/// What protects the packets of one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Suite {
    cipher: Cipher,
    protection: Protection,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protection {
    Aead(Aead),
    Classic(Classic),
}

impl Suite {
    /// A cipher, and the MAC that `mac` gives if the cipher needs one; fails as that does.
    pub(super) fn new<E>(cipher: Cipher, mac: impl FnOnce() -> Result<Mac, E>) -> Result<Self, E> {
        let protection = match cipher.family() {
            Family::Aead(aead) => Protection::Aead(aead),
            Family::Block(cipher) => Protection::Classic(Classic { cipher, mac: mac()? }),
        };
        Ok(Self { cipher, protection })
    }

    /// The cipher.
    pub(super) const fn cipher(self) -> Cipher {
        self.cipher
    }

    /// The MAC; none where the cipher authenticates by itself.
    pub(super) const fn mac(self) -> Option<Mac> {
        match self.protection {
            Protection::Aead(_) => None,
            Protection::Classic(classic) => Some(classic.mac),
        }
    }

    /// Bytes of the cipher's key.
    pub(super) const fn key_bytes(self) -> usize {
        match self.protection {
            Protection::Aead(aead) => aead.key_bytes(),
            Protection::Classic(classic) => classic.cipher.key_bytes(),
        }
    }

    /// Bytes of the initial nonce or vector.
    pub(super) const fn nonce_bytes(self) -> usize {
        match self.protection {
            Protection::Aead(aead) => aead.nonce_bytes(),
            Protection::Classic(classic) => classic.cipher.block_bytes(),
        }
    }

    /// Bytes of the key of the MAC.
    pub(super) const fn mac_key_bytes(self) -> usize {
        match self.protection {
            Protection::Aead(_) => 0,
            Protection::Classic(classic) => classic.mac.bytes(),
        }
    }
}

/// What a suite needs for one direction; wiped when dropped.
pub(super) struct KeyMaterial {
    /// The key of the cipher.
    pub(super) key: Zeroizing<Vec<u8>>,
    /// The initial nonce or vector.
    pub(super) nonce: Zeroizing<Vec<u8>>,
    /// The key of the MAC.
    pub(super) mac: Zeroizing<Vec<u8>>,
}

/// How packets are laid out under a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    /// Bytes that the padded part of a packet is a multiple of.
    pub(super) block_bytes: usize,
    /// Bytes of the length field that belong to the padded part: all of them, or none.
    pub(super) padded_length_bytes: usize,
    /// Bytes after the padded part.
    pub(super) tag_bytes: usize,
}

impl Layout {
    /// In the clear.
    pub(super) const PLAIN: Self =
        Self { block_bytes: STREAM_BLOCK_BYTES, padded_length_bytes: LENGTH_BYTES, tag_bytes: 0 };

    const GCM: Self =
        Self { block_bytes: GCM_BLOCK_BYTES, padded_length_bytes: 0, tag_bytes: TAG_BYTES };

    const CHACHA20: Self =
        Self { block_bytes: STREAM_BLOCK_BYTES, padded_length_bytes: 0, tag_bytes: TAG_BYTES };

    const fn classic(classic: Classic) -> Self {
        Self {
            block_bytes: classic.cipher.block_bytes(),
            padded_length_bytes: if classic.mac.covers_encrypted() { 0 } else { LENGTH_BYTES },
            tag_bytes: classic.mac.bytes(),
        }
    }
}

/// Seals packets of one direction.
pub(super) enum SealKey {
    AesGcm(Gcm),
    ChaCha20(Box<chacha::SealingKey>),
    Classic(Box<classic::SealKey>),
}

impl SealKey {
    /// Takes key material into use; fails if it has the wrong length.
    pub(super) fn new(suite: Suite, material: &KeyMaterial) -> Result<Self, Error> {
        Ok(match suite.protection {
            Protection::Aead(Aead::ChaCha20Poly1305) => {
                Self::ChaCha20(Box::new(chacha::SealingKey::new(chacha20_key(material)?)))
            }
            Protection::Aead(aead @ (Aead::Aes128Gcm | Aead::Aes256Gcm)) => {
                Self::AesGcm(Gcm::new(aead, material)?)
            }
            Protection::Classic(classic) => {
                Self::Classic(Box::new(classic::SealKey::new(classic, material)?))
            }
        })
    }

    /// How packets are laid out.
    pub(super) const fn layout(&self) -> Layout {
        match self {
            Self::AesGcm(_) => Layout::GCM,
            Self::ChaCha20(_) => Layout::CHACHA20,
            Self::Classic(key) => Layout::classic(key.classic()),
        }
    }

    /// Encrypts the packet that starts at `start`, length field first, in place, and appends its
    /// tag.
    pub(super) fn seal(
        &mut self,
        sequence: u32,
        start: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Error> {
        let packet = out.get_mut(start..).unwrap_or_default();
        let tag = match self {
            Self::AesGcm(gcm) => seal_gcm(gcm, sequence, packet)?,
            Self::ChaCha20(key) => seal_chacha20(key, sequence, packet),
            Self::Classic(key) => return key.seal(sequence, start, out),
        };
        out.extend_from_slice(&tag);
        Ok(())
    }
}

/// Opens packets of one direction.
pub(super) enum OpenKey {
    AesGcm(Gcm),
    ChaCha20(Box<chacha::OpeningKey>),
    Classic(Box<classic::OpenKey>),
}

impl OpenKey {
    /// Takes key material into use; fails if it has the wrong length.
    pub(super) fn new(suite: Suite, material: &KeyMaterial) -> Result<Self, Error> {
        Ok(match suite.protection {
            Protection::Aead(Aead::ChaCha20Poly1305) => {
                Self::ChaCha20(Box::new(chacha::OpeningKey::new(chacha20_key(material)?)))
            }
            Protection::Aead(aead @ (Aead::Aes128Gcm | Aead::Aes256Gcm)) => {
                Self::AesGcm(Gcm::new(aead, material)?)
            }
            Protection::Classic(classic) => {
                Self::Classic(Box::new(classic::OpenKey::new(classic, material)?))
            }
        })
    }

    /// How packets are laid out.
    pub(super) const fn layout(&self) -> Layout {
        match self {
            Self::AesGcm(_) => Layout::GCM,
            Self::ChaCha20(_) => Layout::CHACHA20,
            Self::Classic(key) => Layout::classic(key.classic()),
        }
    }

    /// Whether the moment at which a forged packet is refused must not depend on its length: that
    /// would tell what is encrypted where the length should be.
    pub(super) const fn hides_length(&self) -> bool {
        match self {
            Self::AesGcm(_) | Self::ChaCha20(_) => false,
            Self::Classic(key) => {
                let classic = key.classic();
                classic.cipher.is_cbc() && !classic.mac.covers_encrypted()
            }
        }
    }

    /// The length field of the packet that `input` starts with, which is not authenticated before
    /// the packet is opened; none while too little of it is there.
    pub(super) fn length(&mut self, sequence: u32, input: &[u8]) -> Result<Option<u32>, Error> {
        let field = input.first_chunk::<LENGTH_BYTES>().copied();
        Ok(match self {
            Self::AesGcm(_) => field.map(u32::from_be_bytes),
            Self::ChaCha20(key) => {
                field.map(|field| u32::from_be_bytes(key.decrypt_packet_length(sequence, field)))
            }
            Self::Classic(key) => key.length(input)?,
        })
    }

    /// Checks and decrypts a packet, length field first and tag last, in place; its length has
    /// been asked for.
    pub(super) fn open(&mut self, sequence: u32, packet: &mut [u8]) -> Result<(), Error> {
        let genuine = match self {
            Self::AesGcm(gcm) => open_gcm(gcm, packet),
            Self::ChaCha20(key) => open_chacha20(key, sequence, packet),
            Self::Classic(key) => key.open(sequence, packet)?,
        };
        if genuine { Ok(()) } else { Err(Error::Integrity { sequence }) }
    }
}

/// Bytes of the `packet_length` field.
pub(super) const LENGTH_BYTES: usize = 4;

/// What stream ciphers and packets in the clear are padded to (RFC 4253 section 6).
const STREAM_BLOCK_BYTES: usize = 8;

/// Every suite there is, for tests.
#[cfg(test)]
pub(super) fn suites() -> Vec<Suite> {
    let mut suites = Vec::new();
    for cipher in Cipher::ALL {
        match Suite::new(cipher, || Err(())) {
            Ok(suite) => suites.push(suite),
            Err(()) => suites.extend(
                Mac::ALL.into_iter().filter_map(|mac| Suite::new(cipher, || Ok::<_, ()>(mac)).ok()),
            ),
        }
    }
    suites
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Suite {
        fn names(self) -> String {
            format!("{} {}", self.cipher.name(), self.mac().map_or("", Mac::name))
        }
    }

    fn pair(suite: Suite) -> (SealKey, OpenKey) {
        let fill = |bytes: usize| Zeroizing::new((1..).take(bytes).collect::<Vec<u8>>());
        let material = KeyMaterial {
            key: fill(suite.key_bytes()),
            // A counter passes its end within the test.
            nonce: vec![0xff; suite.nonce_bytes()].into(),
            mac: fill(suite.mac_key_bytes()),
        };
        (SealKey::new(suite, &material).unwrap(), OpenKey::new(suite, &material).unwrap())
    }

    /// A packet whose length field says `32` or `28`, so that it is padded to any block.
    fn sealed(key: &mut SealKey, sequence: u8) -> Vec<u8> {
        let body = 32 - key.layout().padded_length_bytes;
        let length = u32::try_from(body).unwrap().to_be_bytes();
        let mut packet = [length.as_slice(), &vec![sequence; body]].concat();
        key.seal(sequence.into(), 0, &mut packet).unwrap();
        packet
    }

    fn open(key: &mut OpenKey, sequence: u8, packet: &mut [u8]) -> Result<(), Error> {
        key.length(sequence.into(), packet)?;
        key.open(sequence.into(), packet)
    }

    #[test]
    fn what_is_sealed_opens_in_order() {
        for suite in suites() {
            let (mut seal, mut opening) = pair(suite);
            let body = 32 - seal.layout().padded_length_bytes;
            assert_eq!(seal.layout(), opening.layout());
            for sequence in 0..5_u8 {
                let mut packet = sealed(&mut seal, sequence);
                assert_eq!(packet.len(), 4 + body + seal.layout().tag_bytes);
                assert!(!packet.windows(4).any(|four| four == [sequence; 4]));
                let length = opening.length(sequence.into(), &packet).unwrap().unwrap();
                // Asking again changes nothing.
                assert_eq!(opening.length(sequence.into(), &packet).unwrap(), Some(length));
                assert_eq!(usize::try_from(length).unwrap(), body, "{}", suite.names());
                opening.open(sequence.into(), &mut packet).unwrap();
                assert_eq!(packet[4..4 + body], vec![sequence; body], "{}", suite.names());
            }
        }
    }

    #[test]
    fn any_changed_bit_is_found() {
        for suite in suites() {
            let packet = sealed(&mut pair(suite).0, 7);
            for bit in 0..packet.len() * 8 {
                let mut changed = packet.clone();
                changed[bit / 8] ^= 1 << (bit % 8);
                let opened = open(&mut pair(suite).1, 7, &mut changed);
                assert!(
                    matches!(opened, Err(Error::Integrity { sequence: 7 })),
                    "{} bit {bit}",
                    suite.names()
                );
            }
        }
    }

    #[test]
    fn a_packet_cut_anywhere_is_refused() {
        for suite in suites() {
            let packet = sealed(&mut pair(suite).0, 0);
            for length in 0..packet.len() {
                let mut cut = packet[..length].to_vec();
                assert!(open(&mut pair(suite).1, 0, &mut cut).is_err(), "{}", suite.names());
            }
        }
    }

    #[test]
    fn a_packet_repeated_or_left_out_is_refused() {
        for suite in suites() {
            let (mut seal, mut opening) = pair(suite);
            let first = sealed(&mut seal, 0);
            let _lost = sealed(&mut seal, 1);
            let mut third = sealed(&mut seal, 2);
            open(&mut opening, 0, &mut first.clone()).unwrap();
            assert!(open(&mut opening, 1, &mut third).is_err(), "left out: {}", suite.names());
            let (_, mut opening) = pair(suite);
            open(&mut opening, 0, &mut first.clone()).unwrap();
            let again = open(&mut opening, 1, &mut first.clone());
            assert!(again.is_err(), "repeated: {}", suite.names());
        }
    }

    #[test]
    fn a_cipher_without_integrity_needs_a_mac() {
        assert_eq!(suites().len(), 3 + 7 * Mac::ALL.len());
        for suite in suites() {
            let alone = Suite::new(suite.cipher(), || Err("no mac"));
            assert_eq!(alone.is_err(), suite.mac().is_some(), "{}", suite.names());
        }
    }

    /// Test case 4 of the GCM specification without its tail: AES-128, 96-bit nonce, with the
    /// counter split as in RFC 5647.
    #[test]
    fn aes_gcm_is_what_others_compute() {
        let material =
            KeyMaterial { key: vec![0; 16].into(), nonce: vec![0; 12].into(), mac: vec![].into() };
        let suite = Suite::new(Cipher::Aes128Gcm, || Err(())).unwrap();
        let mut key = SealKey::new(suite, &material).unwrap();
        let mut packet = [[0; 4].as_slice(), &[0; 16]].concat();
        key.seal(0, 0, &mut packet).unwrap();
        let expected = [
            0x03, 0x88, 0xda, 0xce, 0x60, 0xb6, 0xa3, 0x92, 0xf3, 0x28, 0xc2, 0xb9, 0x71, 0xb2,
            0xfe, 0x78,
        ];
        assert_eq!(packet[4..20], expected);
    }

    /// The key, vector and text of NIST SP 800-38A, sections F.2 and F.5, and the first block of
    /// each: CBC and counter mode of AES.
    #[test]
    fn aes_modes_are_what_others_compute() {
        let text = [
            0x6b, 0xc1, 0xbe, 0xe2, 0x2e, 0x40, 0x9f, 0x96, 0xe9, 0x3d, 0x7e, 0x11, 0x73, 0x93,
            0x17, 0x2a,
        ];
        let key = [
            0x2b, 0x7e, 0x15, 0x16, 0x28, 0xae, 0xd2, 0xa6, 0xab, 0xf7, 0x15, 0x88, 0x09, 0xcf,
            0x4f, 0x3c,
        ];
        let cases = [
            (
                Cipher::Aes128Cbc,
                (0..16).collect::<Vec<u8>>(),
                [0x76, 0x49, 0xab, 0xac, 0x81, 0x19, 0xb2, 0x46],
            ),
            (
                Cipher::Aes128Ctr,
                (0xf0..=0xff).collect::<Vec<u8>>(),
                [0x87, 0x4d, 0x61, 0x91, 0xb6, 0x20, 0xe3, 0x26],
            ),
        ];
        for (cipher, nonce, expected) in cases {
            let suite = Suite::new(cipher, || Ok::<_, ()>(Mac::HmacSha256Etm)).unwrap();
            let material =
                KeyMaterial { key: key.to_vec().into(), nonce: nonce.into(), mac: vec![].into() };
            let mut packet = [[0; 4].as_slice(), &text].concat();
            SealKey::new(suite, &material).unwrap().seal(0, 0, &mut packet).unwrap();
            assert_eq!(packet[4..12], expected, "{}", cipher.name());
        }
    }

    #[test]
    fn key_material_of_wrong_length_is_refused() {
        for suite in suites() {
            let (key, nonce) = (suite.key_bytes(), suite.nonce_bytes());
            for (key_bytes, nonce_bytes) in [(key - 1, nonce), (key + 1, nonce), (key, nonce + 1)] {
                // chacha20 has no nonce of its own.
                if nonce == 0 && nonce_bytes > 0 {
                    continue;
                }
                let material = KeyMaterial {
                    key: vec![1; key_bytes].into(),
                    nonce: vec![1; nonce_bytes].into(),
                    mac: vec![1; suite.mac_key_bytes()].into(),
                };
                assert!(SealKey::new(suite, &material).is_err(), "{}", suite.names());
                assert!(OpenKey::new(suite, &material).is_err(), "{}", suite.names());
            }
        }
    }
}
