//! Content keys, their shares, and the compression and encryption of chunks.
use std::io::Cursor;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;
use zstd::bulk::Compressor;
use zstd::zstd_safe;

use crate::error::TrailError;
use crate::frame::ChunkContext;

/// Bytes of a content key and of each of its shares (AES-256).
pub(crate) const KEY_BYTES: usize = 32;

/// Bytes of the authentication tag at the end of a ciphertext (AES-GCM).
pub(crate) const TAG_BYTES: usize = 16;

/// One member's part of a content key; wiped when dropped.
pub(crate) type Share = Zeroizing<[u8; KEY_BYTES]>;

/// The key of the chunks of one class of streams; wiped when dropped.
pub(crate) struct ContentKey(Share);

impl ContentKey {
    /// A new random key.
    pub(crate) fn generate() -> Result<Self, TrailError> {
        random_share().map(Self)
    }

    /// As many shares as there are members, whose exclusive-or is the key; fewer tell nothing.
    pub(crate) fn split(&self, members: usize) -> Result<Vec<Share>, TrailError> {
        let mut last = self.0.clone();
        // The capacity is exact: growing would leave copies of shares behind.
        let mut shares = Vec::with_capacity(members);
        for _ in 1..members {
            let share = random_share()?;
            xor_into(&mut last, &share);
            shares.push(share);
        }
        shares.push(last);
        Ok(shares)
    }

    /// The key of all shares of a group.
    pub(crate) fn join(shares: &[Share]) -> Self {
        let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
        for share in shares {
            xor_into(&mut key, share);
        }
        Self(key)
    }

    /// The cipher of this key.
    pub(crate) fn cipher(&self) -> Result<ChunkCipher, TrailError> {
        match UnboundKey::new(&AES_256_GCM, self.0.as_slice()) {
            Ok(key) => Ok(ChunkCipher(LessSafeKey::new(key))),
            Err(source) => Err(TrailError::Encrypt { source }),
        }
    }
}

/// What compresses chunks; takes some hundred KiB, and time to set up.
pub(crate) fn compressor() -> Result<Compressor<'static>, TrailError> {
    Compressor::new(ZSTD_LEVEL).map_err(|source| TrailError::Compress { source })
}

/// Compresses and encrypts chunks, or the reverse.
pub(crate) struct ChunkCipher(LessSafeKey);

impl ChunkCipher {
    /// Appends the ciphertext of encoded records, and its tag; after an error what is behind the
    /// old end of `out` means nothing.
    pub(crate) fn encrypt(
        &self,
        context: &ChunkContext,
        records: &[u8],
        compressor: &mut Compressor<'_>,
        out: &mut Vec<u8>,
    ) -> Result<(), TrailError> {
        let start = out.len();
        out.reserve(zstd_safe::compress_bound(records.len()) + TAG_BYTES);
        let mut end = Cursor::new(&mut *out);
        end.set_position(u64::try_from(start).unwrap_or(u64::MAX));
        compressor
            .compress_to_buffer(records, &mut end)
            .map_err(|source| TrailError::Compress { source })?;
        let tag = self
            .0
            .seal_in_place_separate_tag(
                nonce(context.sequence),
                Aad::from(context.associated_data()),
                out.get_mut(start..).unwrap_or_default(),
            )
            .map_err(|source| TrailError::Encrypt { source })?;
        out.extend_from_slice(tag.as_ref());
        Ok(())
    }

    /// Ciphertext and tag to encoded records; memory is bounded by the size the chunk states, which
    /// [`ChunkContext`] keeps within the limit.
    pub(crate) fn decrypt(
        &self,
        context: &ChunkContext,
        mut ciphertext: Vec<u8>,
    ) -> Result<Vec<u8>, TrailError> {
        let sequence = context.sequence;
        let limit = context.clear.record_bytes as usize;
        let compressed = self
            .0
            .open_in_place(nonce(sequence), Aad::from(context.associated_data()), &mut ciphertext)
            .map_err(|source| TrailError::Decrypt { sequence, source })?;
        let records = zstd::bulk::decompress(compressed, limit)
            .map_err(|source| TrailError::Decompress { sequence, limit, source })?;
        if records.len() != limit {
            let length = records.len();
            return Err(TrailError::ChunkLength { sequence, length, expected: limit });
        }
        Ok(records)
    }
}

/// The nonce of a frame: its number, big-endian, after four zero bytes. A key serves one trail, in
/// which a number is used once.
fn nonce(sequence: u64) -> Nonce {
    let mut bytes = [0; NONCE_LEN];
    for (to, from) in bytes.iter_mut().rev().zip(sequence.to_be_bytes().into_iter().rev()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(bytes)
}

/// Random bytes for a key or a share.
fn random_share() -> Result<Share, TrailError> {
    let mut share = Zeroizing::new([0_u8; KEY_BYTES]);
    match aws_lc_rs::rand::fill(share.as_mut_slice()) {
        Ok(()) => Ok(share),
        Err(source) => Err(TrailError::Random { source }),
    }
}

/// Adds a share to a key, or takes it out again.
fn xor_into(key: &mut [u8; KEY_BYTES], share: &[u8; KEY_BYTES]) {
    for (key_byte, share_byte) in key.iter_mut().zip(share) {
        *key_byte ^= share_byte;
    }
}

/// Terminal output compresses well at the fastest level; more costs time on the data path.
const ZSTD_LEVEL: i32 = 1;

#[cfg(test)]
mod tests {
    use super::{ChunkCipher, ContentKey, compressor};
    use crate::frame::{CHUNK_RECORD_BYTES_MAX, ChunkClear, ChunkContext};
    use crate::{Stream, TrailError};

    fn cipher() -> ChunkCipher {
        ContentKey::generate().unwrap().cipher().unwrap()
    }

    fn encrypted(cipher: &ChunkCipher, context: &ChunkContext, records: &[u8]) -> Vec<u8> {
        let mut out = b"before".to_vec();
        cipher.encrypt(context, records, &mut compressor().unwrap(), &mut out).unwrap();
        assert!(out.starts_with(b"before"));
        out.split_off(6)
    }

    fn context(record_bytes: u32) -> ChunkContext {
        let clear = ChunkClear { stream: Stream::Meta, first_t_ns: 1, record_bytes };
        ChunkContext { header_hash: [1; 32], previous: [2; 32], sequence: 3, clear }
    }

    #[test]
    fn all_shares_and_only_all_give_the_key() {
        let key = ContentKey::generate().unwrap();
        for members in 1..=5 {
            let mut shares = key.split(members).unwrap();
            assert_eq!(shares.len(), members);
            assert_eq!(*ContentKey::join(&shares).0, *key.0, "{members}");
            shares.reverse();
            assert_eq!(*ContentKey::join(&shares).0, *key.0, "{members}");
            shares.pop();
            assert_ne!(*ContentKey::join(&shares).0, *key.0, "{members}");
        }
    }

    #[test]
    fn chunk_is_bound_to_its_place() {
        let cipher = cipher();
        let home = context(5);
        let mut elsewhere = [home; 6];
        elsewhere[0].header_hash[0] ^= 1;
        elsewhere[1].previous[31] ^= 1;
        elsewhere[2].sequence += 1;
        elsewhere[3].clear.stream = Stream::Downstream;
        elsewhere[4].clear.first_t_ns += 1;
        elsewhere[5].clear.record_bytes += 1;
        let ciphertext = encrypted(&cipher, &home, b"hello");
        assert_eq!(cipher.decrypt(&home, ciphertext.clone()).unwrap(), b"hello");
        for (index, place) in elsewhere.iter().enumerate() {
            let opened = cipher.decrypt(place, ciphertext.clone());
            assert!(matches!(opened, Err(TrailError::Decrypt { sequence: 3 | 4, .. })), "{index}");
        }
        let opened = ContentKey::generate().unwrap().cipher().unwrap().decrypt(&home, ciphertext);
        assert!(matches!(opened, Err(TrailError::Decrypt { .. })), "other key");
    }

    #[test]
    fn decompression_stops_at_the_stated_size() {
        let cipher = cipher();
        let bomb = vec![0; 64 * CHUNK_RECORD_BYTES_MAX];
        let stated = context(1024);
        let ciphertext = encrypted(&cipher, &stated, &bomb);
        assert!(ciphertext.len() < 8192, "{}", ciphertext.len());
        let opened = cipher.decrypt(&stated, ciphertext);
        assert!(matches!(opened, Err(TrailError::Decompress { limit: 1024, .. })), "{opened:?}");

        let stated = context(6);
        let ciphertext = encrypted(&cipher, &stated, b"hello");
        let opened = cipher.decrypt(&stated, ciphertext);
        assert!(
            matches!(opened, Err(TrailError::ChunkLength { length: 5, expected: 6, .. })),
            "{opened:?}"
        );
    }
}
