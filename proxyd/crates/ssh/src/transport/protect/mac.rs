//! Message authentication codes (RFC 4253 section 6.4, RFC 6668), and the order in which they are
//! applied.

use aws_lc_rs::hmac::{
    Algorithm, Context, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, HMAC_SHA512, Key, Tag,
};
use subtle::ConstantTimeEq as _;

/// A MAC that can be negotiated; ciphers that authenticate by themselves have none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mac {
    /// `hmac-sha2-256-etm@openssh.com`: over what is encrypted (OpenSSH's PROTOCOL, section 1.1)
    HmacSha256Etm,
    /// `hmac-sha2-512-etm@openssh.com`
    HmacSha512Etm,
    /// `hmac-sha2-256` (RFC 6668): over what is not encrypted yet
    HmacSha256,
    /// `hmac-sha2-512`
    HmacSha512,
    /// `hmac-sha1-etm@openssh.com`, for old servers
    HmacSha1Etm,
    /// `hmac-sha1` (RFC 4253 section 6.4), for old servers
    HmacSha1,
}

impl Mac {
    /// All, preferred first; those with SHA-1 are at the end.
    pub const ALL: [Self; 6] = [
        Self::HmacSha256Etm,
        Self::HmacSha512Etm,
        Self::HmacSha256,
        Self::HmacSha512,
        Self::HmacSha1Etm,
        Self::HmacSha1,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::HmacSha256Etm => "hmac-sha2-256-etm@openssh.com",
            Self::HmacSha512Etm => "hmac-sha2-512-etm@openssh.com",
            Self::HmacSha256 => "hmac-sha2-256",
            Self::HmacSha512 => "hmac-sha2-512",
            Self::HmacSha1Etm => "hmac-sha1-etm@openssh.com",
            Self::HmacSha1 => "hmac-sha1",
        }
    }

    /// Whether it is weak, and for servers that have nothing better.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        matches!(self, Self::HmacSha1Etm | Self::HmacSha1)
    }

    /// Whether it covers what is encrypted, so that the length is readable and a forged packet is
    /// never decrypted.
    pub(super) const fn covers_encrypted(self) -> bool {
        matches!(self, Self::HmacSha256Etm | Self::HmacSha512Etm | Self::HmacSha1Etm)
    }

    /// Bytes of the key, and of the tag.
    pub(super) const fn bytes(self) -> usize {
        match self {
            Self::HmacSha256Etm | Self::HmacSha256 => 32,
            Self::HmacSha512Etm | Self::HmacSha512 => 64,
            Self::HmacSha1Etm | Self::HmacSha1 => 20,
        }
    }

    const fn algorithm(self) -> Algorithm {
        match self {
            Self::HmacSha256Etm | Self::HmacSha256 => HMAC_SHA256,
            Self::HmacSha512Etm | Self::HmacSha512 => HMAC_SHA512,
            Self::HmacSha1Etm | Self::HmacSha1 => HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        }
    }
}

/// The key of a MAC, for one direction.
pub(super) struct MacKey(Key);

impl MacKey {
    /// Takes a key into use.
    pub(super) fn new(mac: Mac, key: &[u8]) -> Self {
        Self(Key::new(mac.algorithm(), key))
    }

    /// The tag of a packet, which its sequence number is part of.
    pub(super) fn tag(&self, sequence: u32, packet: &[u8]) -> Tag {
        let mut context = Context::with_key(&self.0);
        context.update(&sequence.to_be_bytes());
        context.update(packet);
        context.sign()
    }

    /// Whether a packet has this tag, in a time that does not depend on the answer.
    pub(super) fn verifies(&self, sequence: u32, packet: &[u8], tag: &[u8]) -> bool {
        self.tag(sequence, packet).as_ref().ct_eq(tag).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 2 of RFC 2202 section 3 and of RFC 4231 section 4.3: key "Jefe", and what a
    /// sequence number and a packet look like that make up its text.
    #[test]
    fn tags_are_what_others_compute() {
        let text = b"what do ya want for nothing?";
        let (sequence, packet) = text.split_first_chunk().unwrap();
        let cases = [
            (Mac::HmacSha1, [0xef, 0xfc, 0xdf, 0x6a, 0xe5, 0xeb, 0x2f, 0xa2]),
            (Mac::HmacSha256Etm, [0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e]),
            (Mac::HmacSha512, [0x16, 0x4b, 0x7a, 0x7b, 0xfc, 0xf8, 0x19, 0xe2]),
        ];
        for (mac, start) in cases {
            let key = MacKey::new(mac, b"Jefe");
            let tag = key.tag(u32::from_be_bytes(*sequence), packet);
            assert_eq!(tag.as_ref()[..8], start, "{}", mac.name());
            assert_eq!(tag.as_ref().len(), mac.bytes(), "{}", mac.name());
        }
    }

    #[test]
    fn another_tag_does_not_verify() {
        for mac in Mac::ALL {
            let key = MacKey::new(mac, &[1; 64]);
            let tag = key.tag(7, b"packet").as_ref().to_vec();
            assert!(key.verifies(7, b"packet", &tag));
            assert!(!key.verifies(8, b"packet", &tag), "{}: other number", mac.name());
            assert!(!key.verifies(7, b"Packet", &tag), "{}: other packet", mac.name());
            for length in 0..tag.len() {
                assert!(!key.verifies(7, b"packet", &tag[..length]), "{} cut", mac.name());
            }
        }
    }
}
