//! When keys are exchanged again, and what waits meanwhile (RFC 4253 section 9, RFC 4344 section
//! 3).

use std::collections::VecDeque;
use std::time::Duration;

use crate::error::Error;
use crate::limits::{HOLD_BYTES_MAX, PACKETS_PER_KEY_REKEY};
use crate::transport::packet::{Usage, message_bytes};
use crate::transport::protect::Cipher;

/// How long keys are used; whichever limit is reached first, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RekeyLimits {
    /// Bytes under one key of AES, in any mode.
    pub aes_bytes: u64,
    /// Bytes under one key of another cipher.
    pub other_bytes: u64,
    /// Time under one key.
    pub interval: Duration,
}

impl RekeyLimits {
    /// 4 GiB of AES or 1 GiB of another cipher (RFC 4253 section 9), or an hour, as OpenSSH has it.
    #[must_use]
    pub const fn recommended() -> Self {
        Self { aes_bytes: 4 * GIB, other_bytes: GIB, interval: Duration::from_secs(3600) }
    }

    /// Not before sequence numbers run out: for peers that cannot exchange keys again.
    #[must_use]
    pub const fn unlimited() -> Self {
        Self { aes_bytes: u64::MAX, other_bytes: u64::MAX, interval: Duration::MAX }
    }

    /// Whether a key for `cipher` has been used enough.
    pub(super) const fn reached(&self, cipher: Cipher, usage: Usage) -> bool {
        let bytes_max = match cipher {
            Cipher::ChaCha20Poly1305 | Cipher::TripleDesCbc => self.other_bytes,
            Cipher::Aes128Gcm
            | Cipher::Aes256Gcm
            | Cipher::Aes128Ctr
            | Cipher::Aes192Ctr
            | Cipher::Aes256Ctr
            | Cipher::Aes128Cbc
            | Cipher::Aes192Cbc
            | Cipher::Aes256Cbc => self.aes_bytes,
        };
        usage.bytes >= bytes_max || usage.packets >= PACKETS_PER_KEY_REKEY
    }
}

/// Messages that must not be sent before an exchange is done.
#[derive(Default)]
pub(super) struct Hold {
    messages: VecDeque<Vec<u8>>,
    bytes: usize,
}

impl Hold {
    /// Keeps a message given in parts; fails when more than [`HOLD_BYTES_MAX`] wait.
    pub(super) fn push(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let bytes = self.bytes + message_bytes(parts)?;
        if bytes > HOLD_BYTES_MAX {
            return Err(Error::HoldFull { limit: HOLD_BYTES_MAX });
        }
        self.bytes = bytes;
        self.messages.push_back(parts.concat());
        Ok(())
    }

    /// The oldest message.
    pub(super) fn pop(&mut self) -> Option<Vec<u8>> {
        let Some(message) = self.messages.pop_front() else {
            *self = Self::default();
            return None;
        };
        self.bytes -= message.len();
        Some(message)
    }

    /// Bytes that wait.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

const GIB: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_by_cipher() {
        let limits = RekeyLimits::recommended();
        let used = |bytes, packets| Usage { bytes, packets };
        let cases = [
            ("little", Cipher::ChaCha20Poly1305, used(GIB - 1, 1), false),
            ("a gibibyte of chacha20", Cipher::ChaCha20Poly1305, used(GIB, 1), true),
            ("a gibibyte of 3des", Cipher::TripleDesCbc, used(GIB, 1), true),
            ("a gibibyte of aes", Cipher::Aes128Gcm, used(GIB, 1), false),
            ("four of aes", Cipher::Aes256Ctr, used(4 * GIB, 1), true),
            ("many small packets", Cipher::Aes128Gcm, used(1, PACKETS_PER_KEY_REKEY), true),
        ];
        for (case, cipher, usage, expected) in cases {
            assert_eq!(limits.reached(cipher, usage), expected, "{case}");
        }
        assert!(!RekeyLimits::unlimited().reached(Cipher::Aes128Gcm, used(u64::MAX - 1, 1)));
        assert!(
            RekeyLimits::unlimited().reached(Cipher::Aes128Gcm, used(1, PACKETS_PER_KEY_REKEY))
        );
    }

    #[test]
    fn the_hold_keeps_order_and_has_a_bound() {
        let mut hold = Hold::default();
        hold.push(&[b"a", b"b"]).unwrap();
        hold.push(&[&vec![0; HOLD_BYTES_MAX / 64]]).unwrap();
        assert_eq!(hold.bytes(), HOLD_BYTES_MAX / 64 + 2);
        assert_eq!(hold.pop().unwrap(), b"ab");
        let full = std::iter::repeat_with(|| hold.push(&[&vec![0; HOLD_BYTES_MAX / 64]]));
        let failure = full.take(100).find_map(Result::err).unwrap();
        assert!(matches!(failure, Error::HoldFull { .. }));
        assert!(hold.bytes() <= HOLD_BYTES_MAX);
        while hold.pop().is_some() {}
        assert_eq!(hold.bytes(), 0);
    }
}
