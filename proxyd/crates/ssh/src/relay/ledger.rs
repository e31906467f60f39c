//! Window credit of one direction of a channel (RFC 4254 section 5.2).
//!
//! The credit itself passes end to end; the ledger only checks that both peers keep to it, and
//! pays back what we send in a peer's place.

use super::RelayError;
use crate::limits::DATA_PACKET_BYTES_MAX;

/// What may still be sent towards one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ledger {
    window_bytes: u32,
    debt_bytes: u32,
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
        Ok(Self { window_bytes, debt_bytes: 0, packet_bytes_max })
    }

    /// The largest packet, as it is announced to the other peer.
    #[must_use]
    pub(super) const fn packet_bytes_max(&self) -> u32 {
        self.packet_bytes_max
    }

    /// More credit; returns what of it goes on to the other peer once our debt is paid.
    pub(super) fn grant(&mut self, bytes: u32) -> Result<u32, RelayError> {
        self.window_bytes =
            self.window_bytes.checked_add(bytes).ok_or(RelayError::WindowOverflow)?;
        let paid = bytes.min(self.debt_bytes);
        self.debt_bytes -= paid;
        Ok(bytes - paid)
    }

    /// Data of the other peer; fails where it is more than was granted.
    pub(super) fn spend(&mut self, bytes: usize) -> Result<(), RelayError> {
        let packet_bytes_max = self.packet_bytes_max;
        let overrun = RelayError::Overrun { bytes, window_bytes: self.window_bytes };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        if bytes > packet_bytes_max {
            return Err(RelayError::PacketTooLarge { bytes, limit: packet_bytes_max });
        }
        let beyond = bytes.saturating_sub(self.window_bytes);
        // The sender knows nothing of what we sent in its place; that much it may go beyond.
        self.debt_bytes = self.debt_bytes.checked_sub(beyond).ok_or(overrun)?;
        self.window_bytes = self.window_bytes.saturating_sub(bytes);
        Ok(())
    }

    /// Data of our own; false where there is no credit for it.
    ///
    /// Only for a channel on which the other peer does not send yet: it believes that the credit
    /// is still whole until the debt is paid.
    pub(super) fn inject(&mut self, bytes: usize) -> bool {
        let Ok(bytes) = u32::try_from(bytes) else { return false };
        if bytes > self.packet_bytes_max || bytes > self.window_bytes {
            return false;
        }
        self.window_bytes -= bytes;
        self.debt_bytes = self.debt_bytes.saturating_add(bytes);
        true
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
    fn a_debt_is_paid_before_credit_goes_on() {
        let mut ledger = Ledger::open(10, 100).unwrap();
        assert!(!ledger.inject(11));
        assert!(ledger.inject(6));
        assert_eq!(ledger.grant(4).unwrap(), 0);
        assert_eq!(ledger.grant(4).unwrap(), 2);
    }

    #[test]
    fn a_debt_is_no_fault_of_the_sender() {
        let mut ledger = Ledger::open(10, 100).unwrap();
        assert!(ledger.inject(6));
        ledger.spend(10).unwrap();
        assert!(matches!(ledger.spend(1), Err(RelayError::Overrun { .. })));
        assert_eq!(ledger.grant(5).unwrap(), 5);
    }

    proptest! {
        /// What went on plus the debt is what was granted, whatever the order.
        #[test]
        fn nothing_is_lost(
            steps in proptest::collection::vec((any::<bool>(), 0_u32..1000), 0..50),
        ) {
            let mut ledger = Ledger::open(10_000, 2_000).unwrap();
            let (mut granted, mut passed, mut injected) = (0_u64, 0_u64, 0_u64);
            for (grant, bytes) in steps {
                if grant {
                    granted += u64::from(bytes);
                    passed += u64::from(ledger.grant(bytes).unwrap());
                } else if ledger.inject(bytes as usize) {
                    injected += u64::from(bytes);
                }
            }
            assert_eq!(passed + injected, granted + u64::from(ledger.debt_bytes));
        }
    }
}
