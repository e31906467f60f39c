//! Classes of ports, and of interfaces with VLANs.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::vec;
use alloc::vec::Vec;

use super::sets::{RuleSet, Sets, WORD_RULES};
use super::{PORTS, VLANS};
use crate::action::Action;
use crate::rule::{PortRange, Rule};

/// The class of every port.
pub(super) struct PortClasses {
    /// By port.
    pub(super) classes: Vec<u32>,
    /// Of a packet that does not show its port: the rules that might act on it, and those that
    /// forward it whatever the port.
    pub(super) hidden: u32,
    pub(super) sets: Sets,
}

impl PortClasses {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let mut sets = Sets::default();
        let mut classes = Vec::with_capacity(PORTS);
        let mut open = Open::new(rules.len());
        let mut changes = changes(rules).into_iter().peekable();
        // Between two changes all ports are alike.
        while let Some((_port, changed)) = changes.next() {
            for (rule, change) in changed {
                open.change(rule, change);
            }
            let end = changes.peek().map_or(PORTS, |(port, _)| *port);
            classes.resize(end, sets.number(open.rules()));
        }
        classes.resize(PORTS, sets.number(open.rules()));
        let is_every = |rule: &Rule| rule.ports.is_empty() || rule.ports.contains(&PortRange::ALL);
        let might_act = |rule: &Rule| rule.action != Action::Forward || is_every(rule);
        let hidden = (0..).zip(rules).filter(|(_, rule)| might_act(rule)).map(|(number, _)| number);
        let hidden = sets.number(hidden.collect());
        Self { classes, hidden, sets }
    }
}

/// Whether a range of a rule begins or has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Begins,
    Ended,
}

/// The rules whose ranges begin or have ended at each port.
fn changes(rules: &[Rule]) -> BTreeMap<usize, Vec<(usize, Change)>> {
    let mut changes: BTreeMap<usize, Vec<_>> = BTreeMap::from([(0, Vec::new())]);
    for (number, rule) in rules.iter().enumerate() {
        let every = [PortRange::ALL];
        let ranges = if rule.ports.is_empty() { every.as_slice() } else { &rule.ports };
        for range in ranges {
            let (first, end) = (usize::from(range.first()), usize::from(range.last()) + 1);
            changes.entry(first).or_default().push((number, Change::Begins));
            if end < PORTS {
                changes.entry(end).or_default().push((number, Change::Ended));
            }
        }
    }
    changes
}

/// The rules that have a range open, and how many; ranges of a rule may overlap.
struct Open {
    counts: Vec<u32>,
    words: Vec<u64>,
}

impl Open {
    fn new(rules: usize) -> Self {
        Self { counts: vec![0; rules], words: vec![0; rules.div_ceil(WORD_RULES as usize)] }
    }

    fn change(&mut self, rule: usize, change: Change) {
        let word = self.words.get_mut(rule / WORD_RULES as usize);
        let (Some(count), Some(word)) = (self.counts.get_mut(rule), word) else { return };
        let bit = 1 << (rule % WORD_RULES as usize);
        match change {
            Change::Begins => *count += 1,
            Change::Ended => *count -= 1,
        }
        *word = if *count == 0 { *word & !bit } else { *word | bit };
    }

    fn rules(&self) -> RuleSet {
        RuleSet::from_words(&self.words)
    }
}

/// The class of every pair of interface and VLAN, where rules name any.
pub(super) struct Links {
    /// Row of each interface that a rule names; 0 is for the others.
    pub(super) rows: BTreeMap<u32, u32>,
    /// Column of each VLAN; 0 is for those that no rule names.
    pub(super) vlans: Vec<u32>,
    /// How many columns there are.
    pub(super) columns: u32,
    /// Row by row.
    pub(super) classes: Vec<u32>,
    pub(super) sets: Sets,
}

impl Links {
    pub(super) fn of(rules: &[Rule]) -> Self {
        let interfaces: BTreeSet<u32> =
            rules.iter().flat_map(|rule| rule.interfaces.iter().copied()).collect();
        let vlans: BTreeSet<u16> =
            rules.iter().flat_map(|rule| rule.vlans.iter().copied()).collect();
        let rows = lines(rules, |rule| &rule.interfaces, &interfaces);
        let columns = lines(rules, |rule| &rule.vlans, &vlans);
        let mut sets = Sets::default();
        let pairs = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
        let classes = pairs.map(|(row, column)| sets.number(row.intersection(column))).collect();
        let mut of_vlan = vec![0; VLANS];
        for (column, vlan) in (1..).zip(&vlans) {
            if let Some(place) = of_vlan.get_mut(usize::from(*vlan)) {
                *place = column;
            }
        }
        Self {
            rows: interfaces.into_iter().zip(1..).collect(),
            vlans: of_vlan,
            columns: u32::try_from(columns.len()).unwrap_or(u32::MAX),
            classes,
            sets,
        }
    }

    /// Whether any rule names an interface or VLAN.
    pub(super) const fn is_used(&self) -> bool {
        self.classes.len() > 1
    }
}

/// The rules that accept a value which none names, then those that accept each value.
fn lines<T: Copy + Ord>(
    rules: &[Rule],
    list: impl Fn(&Rule) -> &[T],
    values: &BTreeSet<T>,
) -> Vec<RuleSet> {
    let accepting = |value: Option<T>| -> RuleSet {
        let accepts = |rule: &Rule| {
            let list = list(rule);
            list.is_empty() || value.is_some_and(|value| list.contains(&value))
        };
        (0..).zip(rules).filter(|(_, rule)| accepts(rule)).map(|(number, _)| number).collect()
    };
    [None].into_iter().chain(values.iter().map(|value| Some(*value))).map(accepting).collect()
}
