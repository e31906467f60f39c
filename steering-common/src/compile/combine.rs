//! How the classes of all fields are brought together: a cell for each combination where those are
//! few, else the sets of rules themselves.

use alloc::vec::Vec;

use super::sets::{RuleSet, Sets};
use super::{Fields, Room, Scales, elements};
use crate::rule::CompileError;
use crate::table::{AGGREGATE_WORDS, Cells, Class, Engine, Words64};

/// From the class of a field to its term.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale {
    base: u32,
    stride: u32,
}

impl Scale {
    /// The term of a class.
    pub(super) const fn term(self, class: u32) -> u32 {
        self.base + class * self.stride
    }

    /// The terms of classes.
    pub(super) fn terms(self, classes: &[u32]) -> Vec<u32> {
        classes.iter().map(|class| self.term(*class)).collect()
    }
}

/// The half of the table behind the terms.
pub(super) struct Combined {
    pub(super) engine: Engine,
    pub(super) scales: Scales,
    pub(super) cells: Vec<Cells>,
    pub(super) classes: Vec<Class>,
    pub(super) words: Vec<Words64>,
}

/// Combines all fields within `room`.
pub(super) fn combine(fields: &Fields, room: Room) -> Result<Combined, CompileError> {
    let sets = [&fields.sources, &fields.destinations, &fields.ports.sets, &fields.links.sets];
    let cells = sets.iter().map(|sets| u64::from(sets.count())).product::<u64>();
    if cells <= u64::from(room.cells) {
        return Ok(direct(sets));
    }
    let words = sets.iter().map(|sets| sets.word_count()).sum::<usize>();
    let bytes = words * size_of::<u64>();
    if bytes > room.bytes {
        return Err(CompileError::TooLarge { bytes, limit: room.bytes });
    }
    Ok(vectors(sets))
}

fn direct(sets: [&Sets; 4]) -> Combined {
    let [sources, destinations, ports, links] = sets;
    let (of_port, of_destination) = (links.count(), links.count() * ports.count());
    let scales = Scales {
        source: Scale { base: 0, stride: of_destination * destinations.count() },
        destination: Scale { base: 0, stride: of_destination },
        port: Scale { base: 0, stride: of_port },
        link: Scale { base: 0, stride: 1 },
    };
    let (ports, links) = (ports.in_order(), links.in_order());
    let mut cells = Vec::new();
    for source in sources.in_order() {
        for destination in destinations.in_order() {
            let both = source.intersection(destination);
            if both.is_empty() {
                cells.resize(cells.len() + ports.len() * links.len(), 0);
                continue;
            }
            for port in &ports {
                let three = both.intersection(port);
                cells.extend(links.iter().map(|link| cell(three.first_common(link))));
            }
        }
    }
    let (cells, classes, words) = (elements(&cells), Vec::new(), Vec::new());
    Combined { engine: Engine::Direct, scales, cells, classes, words }
}

/// The number of a rule plus 1, or 0; there are fewer rules than 65,535.
fn cell(rule: Option<u32>) -> u16 {
    rule.and_then(|rule| u16::try_from(rule + 1).ok()).unwrap_or(0)
}

fn vectors(sets: [&Sets; 4]) -> Combined {
    let (mut classes, mut words) = (Vec::new(), Vec::new());
    let [source, destination, port, link] = sets.map(|sets| {
        let base = u32::try_from(classes.len()).unwrap_or(u32::MAX);
        for set in sets.in_order() {
            classes.push(class(set, &mut words));
        }
        Scale { base, stride: 1 }
    });
    Combined {
        engine: Engine::Vectors,
        scales: Scales { source, destination, port, link },
        cells: Vec::new(),
        classes,
        words: elements(&words),
    }
}

/// A set as it stands in the table; its words are added to `words`.
fn class(set: &RuleSet, words: &mut Vec<u64>) -> Class {
    let here = u32::try_from(words.len()).unwrap_or(u32::MAX);
    let mut class = Class { aggregate: [0; AGGREGATE_WORDS], first: [here; AGGREGATE_WORDS] };
    for (number, word) in set.words() {
        let (index, bit) = ((number / u64::BITS) as usize, 1 << (number % u64::BITS));
        if let Some(aggregate) = class.aggregate.get_mut(index) {
            *aggregate |= bit;
        }
        words.push(word);
        // The words of later aggregates stand behind this one.
        let next = u32::try_from(words.len()).unwrap_or(u32::MAX);
        for first in class.first.iter_mut().skip(index + 1) {
            *first = next;
        }
    }
    class
}
