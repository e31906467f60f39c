//! IPv4 prefixes as blocks of 256 entries, one for each octet that still matters.

use alloc::vec;
use alloc::vec::Vec;

use super::prefixes::Placed;
use crate::table::{BLOCK_ENTRIES, Block, POINTER, ROOT_BLOCKS};

/// Blocks under construction, of both sides.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: Vec<Block>,
}

/// More blocks than allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMany;

impl Blocks {
    /// Adds the prefixes of one side and gives its root: a term where there is none, else the
    /// pointer to its first block.
    pub(super) fn add(
        &mut self,
        root: u32,
        placed: &[Placed],
        blocks_max: usize,
    ) -> Result<u32, TooMany> {
        if placed.is_empty() {
            return Ok(root);
        }
        let first = self.blocks.len();
        self.blocks.extend(vec![[root; BLOCK_ENTRIES]; ROOT_BLOCKS as usize]);
        // Shorter prefixes first: a longer one lies inside what they filled, and overwrites it.
        let mut by_length: Vec<_> = placed.iter().collect();
        by_length.sort_by_key(|one| one.length);
        for one in by_length {
            if self.blocks.len() > blocks_max {
                return Err(TooMany);
            }
            self.fill(first, one);
        }
        Ok(POINTER | number(first))
    }

    /// The blocks, in the order of their numbers.
    pub(super) fn finish(self) -> Vec<Block> {
        self.blocks
    }

    fn fill(&mut self, root: usize, one: &Placed) {
        let [a, b, c, d, ..] = one.address.to_be_bytes();
        let length = usize::from(one.length);
        if length <= 16 {
            // Entries of the first two octets stand one after the other over the root's blocks.
            let start = usize::from(a) * BLOCK_ENTRIES + usize::from(b);
            for entry in start..start + (1 << (16 - length)) {
                self.set(root + entry / BLOCK_ENTRIES, entry % BLOCK_ENTRIES, one.class);
            }
            return;
        }
        let second = self.below(root + usize::from(a), usize::from(b));
        if length <= 24 {
            let start = usize::from(c);
            for entry in start..start + (1 << (24 - length)) {
                self.set(second, entry, one.class);
            }
            return;
        }
        let third = self.below(second, usize::from(c));
        let start = usize::from(d);
        for entry in start..start + (1 << (32 - length)) {
            self.set(third, entry, one.class);
        }
    }

    /// The block below an entry; made where there is none yet, full of what the entry was.
    fn below(&mut self, block: usize, entry: usize) -> usize {
        let next = self.blocks.len();
        let Some(value) = self.blocks.get_mut(block).and_then(|block| block.get_mut(entry)) else {
            return next;
        };
        if *value & POINTER != 0 {
            return (*value & !POINTER) as usize;
        }
        let filled = [*value; BLOCK_ENTRIES];
        *value = POINTER | number(next);
        self.blocks.push(filled);
        next
    }

    fn set(&mut self, block: usize, entry: usize, class: u32) {
        if let Some(value) = self.blocks.get_mut(block).and_then(|block| block.get_mut(entry)) {
            *value = class;
        }
    }
}

/// Blocks are far fewer than 2^31: their bytes are limited.
fn number(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX) & !POINTER
}
