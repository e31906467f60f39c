//! Counter slots: a policy keeps its own as long as it keeps its name, whatever becomes of the
//! others.

use std::collections::{HashMap, HashSet};

use super::maps::Name;

/// The slot of a policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Slot {
    /// Which one.
    pub(crate) number: u16,
    /// Whether another policy had it before, or none: its counts start from 0.
    pub(crate) is_new: bool,
}

/// A slot for each of `wanted`, given the names that all slots have now, empty where none.
///
/// Slots that were never used are given before those of policies that are gone, whose counts can
/// still be read. `None` when there are more policies than slots.
pub(crate) fn assign(names: &[Name], wanted: &[Name]) -> Option<Vec<Slot>> {
    let numbered = || (0_u16..).zip(names);
    let is_unused = |name: &Name| name.iter().all(|byte| *byte == 0);
    let mut owned: HashMap<&Name, u16> =
        numbered().filter(|(_, name)| !is_unused(name)).map(|(slot, name)| (name, slot)).collect();
    // Of two policies with the same name, as far as it is kept, the first owns the slot.
    let own: Vec<Option<u16>> = wanted.iter().map(|name| owned.remove(name)).collect();
    let taken: HashSet<u16> = own.iter().copied().flatten().collect();
    let free = |unused: bool| {
        let taken = &taken;
        numbered()
            .filter(move |(slot, name)| is_unused(name) == unused && !taken.contains(slot))
            .map(|(slot, _)| slot)
    };
    let mut next = free(true).chain(free(false));
    own.into_iter()
        .map(|own| match own {
            Some(number) => Some(Slot { number, is_new: false }),
            None => next.next().map(|number| Slot { number, is_new: true }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{Slot, assign};
    use crate::steering::maps::to_name;

    #[test]
    fn policies_keep_their_slots() {
        let kept = |number| Slot { number, is_new: false };
        let new = |number| Slot { number, is_new: true };
        for (name, names, wanted, expected) in [
            ("the first ones", ["", "", ""], vec!["a", "b"], Some(vec![new(0), new(1)])),
            ("the same", ["a", "b", ""], vec!["a", "b"], Some(vec![kept(0), kept(1)])),
            ("another order", ["a", "b", ""], vec!["b", "a"], Some(vec![kept(1), kept(0)])),
            ("one before", ["a", "b", ""], vec!["c", "a"], Some(vec![new(2), kept(0)])),
            ("of one that is gone", ["a", "b", "c"], vec!["d", "c"], Some(vec![new(0), kept(2)])),
            ("one name twice", ["a", "", ""], vec!["a", "a"], Some(vec![kept(0), new(1)])),
            ("more than fit", ["a", "", ""], vec!["b", "c", "d", "e"], None),
            ("none", ["a", "", ""], vec![], Some(vec![])),
        ] {
            let (names, wanted) = (names.map(to_name), wanted.into_iter().map(to_name));
            assert_eq!(assign(&names, &wanted.collect::<Vec<_>>()), expected, "{name}");
        }
    }
}
