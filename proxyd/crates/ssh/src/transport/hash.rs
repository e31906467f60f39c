//! The hash of a key exchange method, with which everything that the exchange leads to is derived.

use aws_lc_rs::digest::{Context, Digest, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};

/// A hash function; SHA-1 belongs to methods for old servers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The hash of the concatenation of `parts`, of 20 to 64 bytes.
    pub(crate) fn of(self, parts: &[&[u8]]) -> Digest {
        let mut context = Context::new(match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        });
        parts.iter().for_each(|part| context.update(part));
        context.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first bytes of the hashes of "abc" (FIPS 180-4, examples).
    #[test]
    fn hashes_are_what_others_compute() {
        let cases: [(Hash, usize, [u8; 4]); 4] = [
            (Hash::Sha1, 20, [0xa9, 0x99, 0x3e, 0x36]),
            (Hash::Sha256, 32, [0xba, 0x78, 0x16, 0xbf]),
            (Hash::Sha384, 48, [0xcb, 0x00, 0x75, 0x3f]),
            (Hash::Sha512, 64, [0xdd, 0xaf, 0x35, 0xa1]),
        ];
        for (hash, bytes, start) in cases {
            let digest = hash.of(&[b"a", b"", b"bc"]);
            assert_eq!(digest.as_ref().len(), bytes, "{hash:?}");
            assert_eq!(digest.as_ref()[..4], start, "{hash:?}");
        }
    }
}
