//! The filter of address pairs: which two hosts the proxy may have a connection between.
//!
//! Looking for a socket costs several times as much as the filter, and most packets belong to
//! connections of others. A pair that was set answers "maybe" until two rotations later; the filter
//! never says "no" about a pair whose connections are set again between rotations.

use crate::flow::Words;

/// Slots of one generation of the filter: with 20,000 pairs, 4 of 100 packets of others are looked
/// for in vain.
pub const SLOTS: usize = 1 << SLOT_BITS;

/// Bits of the number of a slot.
const SLOT_BITS: u32 = 19;

/// The filter, as it stands in its map. A slot is a byte, so that setting one is a plain store.
#[repr(C)]
pub struct Pairs {
    /// Which generation is set, 0 or 1; both are read.
    pub current: u32,
    /// Fills up to eight bytes.
    pub reserved: u32,
    /// Slots of both generations; 0 for pairs that were not set.
    pub slots: [[u8; SLOTS]; 2],
}

const _: () = assert!(size_of::<Pairs>() == 8 + 2 * SLOTS);

/// The slot of a pair of addresses, the same in both directions; below [`SLOTS`].
#[inline(always)]
#[must_use]
pub const fn slot(one: &Words, other: &Words) -> usize {
    // A sum does not tell which address came first.
    let sum = mix(one).wrapping_add(mix(other));
    // The upper bits of a product depend on all bits of the factor.
    (sum.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - SLOT_BITS)) as usize & (SLOTS - 1)
}

/// Brings all bits of an address together.
#[inline(always)]
const fn mix(address: &Words) -> u64 {
    let [a, b, c, d] = *address;
    let upper = (a as u64) << 32 | b as u64;
    let lower = (c as u64) << 32 | d as u64;
    let folded =
        (upper.wrapping_mul(0xff51_afd7_ed55_8ccd) ^ lower).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    // Not linear, or the sums of neighbours would be the same.
    folded ^ folded >> 32
}

#[cfg(test)]
mod tests {
    use super::{SLOTS, slot};
    use crate::flow::words_v4;
    use alloc::collections::BTreeSet;

    #[test]
    fn pairs_have_no_direction() {
        let (one, other) = (words_v4([10, 1, 0, 2]), words_v4([10, 2, 0, 9]));
        assert_eq!(slot(&one, &other), slot(&other, &one));
        assert_ne!(slot(&one, &one), slot(&one, &other));
    }

    /// Neighbouring addresses, as they are in practice, spread like random ones: of 10,000 pairs
    /// random slots would share about 95.
    #[test]
    fn pairs_spread() {
        let pairs = (0..100_u8).flat_map(|a| (0..100_u8).map(move |b| (a, b)));
        let slots: BTreeSet<_> =
            pairs.map(|(a, b)| slot(&words_v4([10, 1, 0, a]), &words_v4([10, 2, 0, b]))).collect();
        assert!(slots.len() > 9_700, "{} different", slots.len());
        assert!(slots.iter().all(|slot| *slot < SLOTS));
    }
}
