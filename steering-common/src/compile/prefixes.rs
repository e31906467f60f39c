//! Prefixes of one side and IP version: which set of rules each address below them satisfies.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use super::sets::{RuleSet, Sets};
use crate::flow::Family;
use crate::rule::Prefix;
use crate::table::HOST;

/// The prefixes that rules name, and the rules that name none.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// By first address, then length: each stands after the prefixes that cover it.
    prefixes: BTreeMap<(u128, u8), Mark>,
    any: RuleSet,
}

#[derive(Debug, Default)]
struct Mark {
    rules: RuleSet,
    is_host: bool,
}

/// A prefix and what an address below it is, unless a longer one covers that too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// The first address; an IPv4 address stands in the upper 32 bits.
    pub(super) address: u128,
    /// Length in bits.
    pub(super) length: u8,
    /// Number of its set of rules, with [`HOST`].
    pub(super) class: u32,
}

impl Placed {
    /// Whether it covers `other`.
    pub(super) const fn covers(&self, other: &Self) -> bool {
        self.length <= other.length && cut(other.address, self.length) == self.address
    }
}

/// The first `length` bits of an address.
pub(super) const fn cut(address: u128, length: u8) -> u128 {
    match u128::MAX.checked_shl(128 - length as u32) {
        Some(mask) => address & mask,
        None => 0,
    }
}

impl Named {
    /// Adds the prefixes of a rule that belong to `family`; rules come in order.
    pub(super) fn add(&mut self, rule: u32, prefixes: &[Prefix], family: Family) {
        if prefixes.is_empty() {
            self.any.push(rule);
        }
        for prefix in prefixes.iter().filter(|prefix| prefix.family() == family) {
            self.mark(prefix.address(), prefix.length()).rules.push(rule);
        }
    }

    /// Adds an address of this host.
    pub(super) fn add_host(&mut self, address: IpAddr, family: Family) {
        match (address, family) {
            (IpAddr::V4(_), Family::V4) => self.mark(address, 32).is_host = true,
            (IpAddr::V6(_), Family::V6) => self.mark(address, 128).is_host = true,
            (IpAddr::V4(_), Family::V6) | (IpAddr::V6(_), Family::V4) => {}
        }
    }

    fn mark(&mut self, address: IpAddr, length: u8) -> &mut Mark {
        let address = match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        self.prefixes.entry((address, length)).or_default()
    }

    /// The class of addresses below no prefix, and of those below each, in order. An address has
    /// the rules of every prefix that covers it.
    pub(super) fn place(&self, sets: &mut Sets) -> (u32, Vec<Placed>) {
        let root = sets.number(self.any.clone());
        let mut placed = Vec::with_capacity(self.prefixes.len());
        let mut covering: Vec<(Placed, RuleSet)> = Vec::new();
        for ((address, length), mark) in &self.prefixes {
            let mut one = Placed { address: *address, length: *length, class: 0 };
            while covering.last().is_some_and(|(outer, _)| !outer.covers(&one)) {
                covering.pop();
            }
            let rules = covering.last().map_or(&self.any, |(_, rules)| rules).union(&mark.rules);
            one.class = sets.number(rules.clone()) | if mark.is_host { HOST } else { 0 };
            placed.push(one);
            covering.push((one, rules));
        }
        (root, placed)
    }
}
