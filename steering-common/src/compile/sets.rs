//! Sets of rules: sparse bit vectors, and a number for each different one.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Rules in a word of a set.
pub(super) const WORD_RULES: u32 = u64::BITS;

/// A set of rule numbers: its words of 64 rules that are not zero, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RuleSet {
    words: Vec<(u32, u64)>,
}

impl RuleSet {
    /// Adds a rule that is not below the last one added.
    pub(super) fn push(&mut self, rule: u32) {
        let (number, bit) = (rule / WORD_RULES, 1 << (rule % WORD_RULES));
        match self.words.last_mut() {
            Some((last, word)) if *last == number => *word |= bit,
            Some(_) | None => self.words.push((number, bit)),
        }
    }

    /// The set whose word `n` is `words[n]`.
    pub(super) fn from_words(words: &[u64]) -> Self {
        let words = (0..).zip(words.iter().copied());
        Self { words: words.filter(|(_, word)| *word != 0).collect() }
    }

    /// The rules of either set.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut words = Vec::with_capacity(self.words.len() + other.words.len());
        let (mut left, mut right) = (self.words.iter().peekable(), other.words.iter().peekable());
        while let (Some((a, one)), Some((b, two))) = (left.peek(), right.peek()) {
            let (take_left, take_right) = (a <= b, b <= a);
            let mut word = 0;
            let number = *a.min(b);
            if take_left {
                word |= one;
                left.next();
            }
            if take_right {
                word |= two;
                right.next();
            }
            words.push((number, word));
        }
        words.extend(left.chain(right));
        Self { words }
    }

    /// The rules of both sets.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        Self { words: common(self, other).collect() }
    }

    /// The first rule of both sets.
    pub(super) fn first_common(&self, other: &Self) -> Option<u32> {
        let (number, word) = common(self, other).next()?;
        Some(number * WORD_RULES + word.trailing_zeros())
    }

    /// Whether no rule is in it.
    pub(super) const fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words that are not zero, with their numbers, in order.
    pub(super) fn words(&self) -> impl Iterator<Item = (u32, u64)> {
        self.words.iter().copied()
    }

    /// How many words are not zero.
    pub(super) const fn word_count(&self) -> usize {
        self.words.len()
    }
}

impl FromIterator<u32> for RuleSet {
    /// A set of rules that come in order.
    fn from_iter<I: IntoIterator<Item = u32>>(rules: I) -> Self {
        let mut set = Self::default();
        for rule in rules {
            set.push(rule);
        }
        set
    }
}

/// The words of both sets that have rules in common.
fn common(left: &RuleSet, right: &RuleSet) -> impl Iterator<Item = (u32, u64)> {
    let (mut left, mut right) = (left.words.iter().peekable(), right.words.iter().peekable());
    core::iter::from_fn(move || {
        loop {
            let ((a, one), (b, two)) = (left.peek()?, right.peek()?);
            let (number, word) = (*a, one & two);
            let (take_left, take_right) = (a <= b, b <= a);
            if take_left {
                left.next();
            }
            if take_right {
                right.next();
            }
            if take_left && take_right && word != 0 {
                return Some((number, word));
            }
        }
    })
}

/// The different sets of one field, each with its number.
#[derive(Debug, Default)]
pub(super) struct Sets {
    numbers: BTreeMap<RuleSet, u32>,
    words: usize,
}

impl Sets {
    /// The number of a set, a new one where it has none yet.
    pub(super) fn number(&mut self, set: RuleSet) -> u32 {
        let next = u32::try_from(self.numbers.len()).unwrap_or(u32::MAX);
        let words = set.word_count();
        let number = *self.numbers.entry(set).or_insert(next);
        if number == next {
            self.words += words;
        }
        number
    }

    /// How many words of rules they have together.
    pub(super) const fn word_count(&self) -> usize {
        self.words
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        u32::try_from(self.numbers.len()).unwrap_or(u32::MAX)
    }

    /// The sets in the order of their numbers.
    pub(super) fn in_order(&self) -> Vec<&RuleSet> {
        let mut sets: Vec<_> = self.numbers.iter().collect();
        sets.sort_unstable_by_key(|(_, number)| **number);
        sets.into_iter().map(|(set, _)| set).collect()
    }
}

#[cfg(test)]
mod tests {
    use alloc::collections::BTreeSet;
    use alloc::vec::Vec;

    use super::RuleSet;
    use proptest::prelude::*;

    fn rules(set: &RuleSet) -> Vec<u32> {
        let bits = |(number, word): (u32, u64)| {
            (0..64).filter(move |bit| word >> bit & 1 == 1).map(move |bit| number * 64 + bit)
        };
        set.words().flat_map(bits).collect()
    }

    proptest! {
        #[test]
        fn sets_are_sets(
            left in prop::collection::btree_set(0_u32..300, 0..40),
            right in prop::collection::btree_set(0_u32..300, 0..40),
        ) {
            let as_set = |rules: &BTreeSet<u32>| rules.iter().copied().collect::<RuleSet>();
            let (one, two) = (as_set(&left), as_set(&right));
            let union: Vec<_> = left.union(&right).copied().collect();
            let both: Vec<_> = left.intersection(&right).copied().collect();
            let first = both.first().copied();
            prop_assert_eq!(rules(&one.union(&two)), union);
            prop_assert_eq!(one.first_common(&two), first);
            prop_assert_eq!(one.intersection(&two).is_empty(), both.is_empty());
            prop_assert_eq!(rules(&one.intersection(&two)), both);
        }
    }
}
