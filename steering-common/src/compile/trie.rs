//! Prefixes as a trie of four bits a node, in which a chain without branches takes no node.

use alloc::vec::Vec;

use super::prefixes::{Placed, cut};
use crate::table::{NODE_ENTRIES, Node, POINTER};

/// Bits of an address that a node looks at.
const NODE_BITS: u8 = 4;
/// Where the last node of an address can be.
const POSITION_MAX: u8 = 128 - NODE_BITS;
/// Bits in each half of an address.
const HALF_BITS: u8 = 64;

/// Nodes under construction, of both sides and IP versions.
#[derive(Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
}

impl Trie {
    /// Adds the prefixes of one side and IP version and gives its root: a term where there is none,
    /// else the pointer to its node. Prefixes come in order, each after those that cover it.
    pub(super) fn add(&mut self, root: u32, placed: &[Placed]) -> u32 {
        let (Some(first), Some(last)) = (placed.first(), placed.last()) else {
            return root;
        };
        // In order, what all have in common is what the first and the last have. A prefix shorter
        // than that covers all, and stands first.
        let common = (first.address ^ last.address).leading_zeros();
        let common = u8::try_from(common).unwrap_or(u8::MAX).min(first.length);
        let position = (common / NODE_BITS * NODE_BITS).min(POSITION_MAX);
        let number = self.nodes.len();
        let mut node = empty(cut(first.address, position), position, root);
        self.nodes.push(node);
        for (child, start) in node.children.iter_mut().zip(starts(first.address, position)) {
            *child = self.child(root, placed, start, position);
        }
        if let Some(place) = self.nodes.get_mut(number) {
            *place = node;
        }
        POINTER | u32::try_from(number).unwrap_or(u32::MAX)
    }

    /// What the node at `position` has for the addresses that begin with the bits of `start`.
    fn child(&mut self, root: u32, placed: &[Placed], start: u128, position: u8) -> u32 {
        let end = position + NODE_BITS;
        let covering = (position..=end).rev().find_map(|length| {
            let key = (cut(start, length), length);
            let found = placed.binary_search_by_key(&key, |one| (one.address, one.length));
            found.ok().and_then(|index| placed.get(index))
        });
        let term = covering.map_or(root, |one| one.class);
        let inside = placed.partition_point(|one| (one.address, one.length) <= (start, end));
        let inside = placed.get(inside..).unwrap_or_default();
        let behind = inside.partition_point(|one| cut(one.address, end) == start);
        self.add(term, inside.get(..behind).unwrap_or_default())
    }

    /// The nodes, in the order of their numbers.
    pub(super) fn finish(self) -> Vec<Node> {
        self.nodes
    }
}

/// The first address of each value of the four bits at `position`.
fn starts(address: u128, position: u8) -> impl Iterator<Item = u128> {
    let shift = u32::from(POSITION_MAX - position);
    (0..16_u128).map(move |four| cut(address, position) | four << shift)
}

/// A node that leads nowhere yet.
fn empty(expect: u128, position: u8, otherwise: u32) -> Node {
    let half = position / HALF_BITS;
    Node {
        expect: halves(expect),
        mask: halves(cut(u128::MAX, position)),
        children: [otherwise; NODE_ENTRIES],
        otherwise,
        shift: u16::from(HALF_BITS - NODE_BITS - position % HALF_BITS),
        half: u16::from(half),
    }
}

/// The upper and lower 64 bits.
fn halves(bits: u128) -> [u64; 2] {
    let bytes = bits.to_be_bytes();
    let [upper, lower] = [0, 8].map(|start: usize| {
        bytes.iter().skip(start).take(8).fold(0, |word, byte| word << 8 | u64::from(*byte))
    });
    [upper, lower]
}
