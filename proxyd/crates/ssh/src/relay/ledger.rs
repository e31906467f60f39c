//! Window credit of one direction of a channel (RFC 4254 section 5.2).
//!
//! The credit itself passes end to end; the ledger only checks that both peers keep to it, and
//! keeps some of a session's for what we say in the server's place.

use super::RelayError;
use crate::limits::DATA_PACKET_BYTES_MAX;

/// Bytes of a session's credit that its server never hears of: for what we say in its place.
const RESERVE_BYTES: u32 = 1_024;

/// Credit that is too small to take a reserve from.
const SMALL_WINDOW_BYTES: u32 = 8 * RESERVE_BYTES;

/// What may still be sent towards one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ledger {
    window_bytes: u32,
    /// What is left of the reserve, and what it was.
    reserve: (u32, u32),
    packet_bytes_max: u32,
}

impl Ledger {
    /// The credit that a peer opens a channel with; a packet limit of zero is refused, since
    /// nobody could ever send to it.
    pub(super) fn open(window_bytes: u32, packet_bytes_max: u32) -> Result<Self, RelayError> {
        if packet_bytes_max == 0 {
            return Err(RelayError::NoPackets);
        }
        let packet_bytes_max = packet_bytes_max.min(DATA_PACKET_BYTES_MAX);
        Ok(Self { window_bytes, reserve: (0, 0), packet_bytes_max })
    }

    /// As [`Self::open`], with some of it kept for what we say, if there is enough.
    pub(super) fn with_reserve(
        window_bytes: u32,
        packet_bytes_max: u32,
    ) -> Result<Self, RelayError> {
        let reserve = if window_bytes < SMALL_WINDOW_BYTES { 0 } else { RESERVE_BYTES };
        let ledger = Self::open(window_bytes - reserve, packet_bytes_max)?;
        Ok(Self { reserve: (reserve, reserve), ..ledger })
    }

    /// The credit, as it is announced to the other peer.
    #[must_use]
    pub(super) const fn window_bytes(&self) -> u32 {
        self.window_bytes
    }

    /// The largest packet, as it is announced to the other peer.
    #[must_use]
    pub(super) const fn packet_bytes_max(&self) -> u32 {
        self.packet_bytes_max
    }

    /// More credit; returns what of it goes on to the other peer once the reserve is whole.
    pub(super) fn grant(&mut self, bytes: u32) -> Result<u32, RelayError> {
        let (left, whole) = self.reserve;
        let kept = bytes.min(whole - left);
        let passed = bytes - kept;
        self.window_bytes =
            self.window_bytes.checked_add(passed).ok_or(RelayError::WindowOverflow)?;
        self.reserve = (left + kept, whole);
        Ok(passed)
    }

    /// Data of the other peer; fails where it is more than was granted.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), RelayError> {
        let packet_bytes_max = self.packet_bytes_max;
        let overrun = RelayError::Overrun { bytes, window_bytes: self.window_bytes };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes > packet_bytes_max {
            return Err(RelayError::PacketTooLarge { bytes, limit: packet_bytes_max });
        }
        self.window_bytes = self.window_bytes.checked_sub(bytes).ok_or(overrun)?;
        Ok(())
    }

    /// Data of our own, from the reserve; false where that has not enough.
    pub(super) fn inject(&mut self, bytes: usize) -> bool {
        let (left, whole) = self.reserve;
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        match left.checked_sub(bytes) {
            Some(left) if bytes <= self.packet_bytes_max => {
                self.reserve = (left, whole);
                true
            }
            Some(_) | None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn credit_is_kept() {
        let mut ledger = Ledger::open(10, 8).unwrap();
        ledger.spend(8).unwrap();
        assert!(matches!(ledger.spend(3), Err(RelayError::Overrun { bytes: 3, window_bytes: 2 })));
        assert!(matches!(ledger.spend(9), Err(RelayError::PacketTooLarge { bytes: 9, limit: 8 })));
        assert_eq!(ledger.grant(5).unwrap(), 5);
        ledger.spend(7).unwrap();
        assert!(matches!(Ledger::open(1, 0), Err(RelayError::NoPackets)));
        ledger.grant(u32::MAX).unwrap();
        assert!(matches!(ledger.grant(1), Err(RelayError::WindowOverflow)));
    }

    #[test]
    fn what_we_say_comes_out_of_the_reserve() {
        let mut ledger = Ledger::with_reserve(100_000, 32_000).unwrap();
        assert_eq!(ledger.window_bytes(), 100_000 - RESERVE_BYTES);
        assert!(!ledger.inject(1_025));
        assert!(ledger.inject(1_000));
        assert!(!ledger.inject(25));
        assert!(ledger.inject(24));
        assert_eq!(ledger.grant(1_000).unwrap(), 0);
        assert_eq!(ledger.grant(100).unwrap(), 76);
        assert!(ledger.inject(1_024));
        assert!(!Ledger::with_reserve(SMALL_WINDOW_BYTES - 1, 100).unwrap().inject(1));
    }

    proptest! {
        /// What went on and what we said are never more than what was granted.
        #[test]
        fn nothing_is_lost(
            steps in proptest::collection::vec((any::<bool>(), 0_u32..1000), 0..50),
        ) {
            let mut ledger = Ledger::with_reserve(10_000, 2_000).unwrap();
            let (mut granted, mut passed, mut injected) = (0_u64, 0_u64, 0_u64);
            for (grant, bytes) in steps {
                if grant {
                    granted += u64::from(bytes);
                    passed += u64::from(ledger.grant(bytes).unwrap());
                } else if ledger.inject(bytes as usize) {
                    injected += u64::from(bytes);
                }
            }
            let used = u64::from(RESERVE_BYTES - ledger.reserve.0);
            assert_eq!(passed + injected, granted + used);
        }
    }
}
