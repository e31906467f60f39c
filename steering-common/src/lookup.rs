//! The table walk: the first rule of a connection, from whatever holds a compiled table.
//!
//! The same code runs in the kernel, over maps, and in tests, over what the compiler made. Every
//! loop has a constant bound.

use crate::action::Verdict;
use crate::flow::{Family, Flow, Words};
use crate::limits::NODES_DEEP_MAX;
use crate::table::{AGGREGATES, Class, Engine, HOST, Ipv4Engine, Layout, Node, Outcome, POINTER};

/// A compiled table. Numbers come from its own entries; one that is not there ends the lookup
/// without a verdict.
pub trait Table {
    /// Where lookups begin.
    fn layout(&self) -> Option<&Layout>;
    /// An entry of a block.
    fn block_entry(&self, block: u32, octet: u8) -> Option<u32>;
    /// A node.
    fn node(&self, number: u32) -> Option<&Node>;
    /// The term of a port.
    fn port(&self, port: u16) -> Option<u32>;
    /// The row of an interface; 0 for those that no rule names.
    fn interface_row(&self, ifindex: u32) -> u32;
    /// The column of a VLAN; 0 for those that no rule names.
    fn vlan_column(&self, vlan: u16) -> Option<u32>;
    /// The term of a pair of row and column.
    fn link(&self, number: u32) -> Option<u32>;
    /// A cell: the number of a rule plus 1, or 0.
    fn cell(&self, number: u32) -> Option<u16>;
    /// A class.
    fn class(&self, number: u32) -> Option<&Class>;
    /// A word of rules.
    fn word(&self, number: u32) -> Option<u64>;
    /// What a rule does.
    fn outcome(&self, rule: u32) -> Option<Outcome>;

    /// [`by_nodes`], where the kernel's verifier wants it as a function of its own.
    fn by_nodes(&self, root: u32, upper: u64, lower: u64) -> Option<u32>
    where
        Self: Sized,
    {
        by_nodes(self, root, upper, lower)
    }

    /// Steps until the search is at its end, where the kernel wants a loop of its own.
    fn run(&self, search: &mut Search<'_>)
    where
        Self: Sized,
    {
        for _ in 0..Search::STEPS_MAX {
            if !search.step(self) {
                return;
            }
        }
    }

    /// [`first_common`], where the kernel's verifier wants it as a function of its own.
    fn first_common(&self, source: u32, destination: u32, port: u32, link: u32) -> Option<u32>
    where
        Self: Sized,
    {
        first_common(self, source, destination, port, link)
    }
}

/// Whether a packet shows its ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ports {
    /// They stand in the flow.
    Known,
    /// Another fragment has them.
    Hidden,
}

/// The verdict of the first rule that matches.
///
/// With hidden ports, of the first rule that might redirect or drop the packet, unless a rule
/// before forwards its addresses on every port.
#[inline(always)]
pub fn classify<T: Table>(table: &T, flow: &Flow, ports: Ports) -> Option<Verdict> {
    let layout = table.layout()?;
    let (source, destination) = addresses(table, layout, flow)?;
    let port = match ports {
        Ports::Known => table.port(flow.destination_port)?,
        Ports::Hidden => layout.hidden_port,
    };
    let link = if layout.by_link == 0 { layout.any_link } else { link(table, layout, flow)? };
    let to_host = destination & HOST != 0;
    let destination = destination & !HOST;
    let rule = if layout.engine == Engine::Direct as u32 {
        let sum = source.wrapping_add(destination).wrapping_add(port).wrapping_add(link);
        u32::from(table.cell(sum)?).checked_sub(1)?
    } else {
        table.first_common(source, destination, port, link)?
    };
    table.outcome(rule)?.verdict(to_host)
}

#[inline(always)]
fn addresses<T: Table>(table: &T, layout: &Layout, flow: &Flow) -> Option<(u32, u32)> {
    match flow.family {
        Family::V4 if layout.ipv4_engine == Ipv4Engine::Blocks as u32 => Some((
            by_blocks(table, layout.source_v4, &flow.source)?,
            by_blocks(table, layout.destination_v4, &flow.destination)?,
        )),
        Family::V4 | Family::V6 => {
            let (roots, bits) = match flow.family {
                Family::V4 => (
                    (layout.source_v4, layout.destination_v4),
                    (bits_v4(&flow.source), bits_v4(&flow.destination)),
                ),
                Family::V6 => (
                    (layout.source_v6, layout.destination_v6),
                    (bits_v6(&flow.source), bits_v6(&flow.destination)),
                ),
            };
            let ([upper, lower], [to_upper, to_lower]) = bits;
            Some((
                table.by_nodes(roots.0, upper, lower)?,
                table.by_nodes(roots.1, to_upper, to_lower)?,
            ))
        }
    }
}

#[inline(always)]
fn by_blocks<T: Table>(table: &T, root: u32, address: &Words) -> Option<u32> {
    if root & POINTER == 0 {
        return Some(root);
    }
    let [_, _, _, address] = *address;
    let [first, second, third, fourth] = address.to_ne_bytes();
    let entry = table.block_entry((root & !POINTER) + u32::from(first), second)?;
    if entry & POINTER == 0 {
        return Some(entry);
    }
    let entry = table.block_entry(entry & !POINTER, third)?;
    if entry & POINTER == 0 {
        return Some(entry);
    }
    table.block_entry(entry & !POINTER, fourth)
}

#[inline(always)]
const fn bits_v4(address: &Words) -> [u64; 2] {
    let [_, _, _, address] = *address;
    [(u32::from_be(address) as u64) << 32, 0]
}

#[inline(always)]
const fn bits_v6(address: &Words) -> [u64; 2] {
    let [a, b, c, d] = *address;
    [join(a, b), join(c, d)]
}

#[inline(always)]
const fn join(upper: u32, lower: u32) -> u64 {
    (u32::from_be(upper) as u64) << 32 | u32::from_be(lower) as u64
}

/// The term of an address, given as its upper and lower 64 bits, by the trie.
#[inline(always)]
pub fn by_nodes<T: Table>(table: &T, root: u32, upper: u64, lower: u64) -> Option<u32> {
    let mut entry = root;
    for _ in 0..NODES_DEEP_MAX {
        if entry & POINTER == 0 {
            return Some(entry);
        }
        let node = table.node(entry & !POINTER)?;
        let [expect_upper, expect_lower] = node.expect;
        let [mask_upper, mask_lower] = node.mask;
        let differs = (upper & mask_upper ^ expect_upper) | (lower & mask_lower ^ expect_lower);
        if differs != 0 {
            return Some(node.otherwise);
        }
        let half = if node.half == 0 { upper } else { lower };
        let four = (half >> (node.shift & 63)) & 15;
        entry = *node.children.get(four as usize)?;
    }
    if entry & POINTER == 0 { Some(entry) } else { None }
}

#[inline(always)]
fn link<T: Table>(table: &T, layout: &Layout, flow: &Flow) -> Option<u32> {
    let row = table.interface_row(flow.ifindex);
    let column = table.vlan_column(flow.vlan)?;
    table.link(row.wrapping_mul(layout.link_columns).wrapping_add(column))
}

/// The first rule that is in all four classes.
#[inline(always)]
pub fn first_common<T: Table>(
    table: &T,
    source: u32,
    destination: u32,
    port: u32,
    link: u32,
) -> Option<u32> {
    let mut search = Search {
        classes: [
            table.class(source)?,
            table.class(destination)?,
            table.class(port)?,
            table.class(link)?,
        ],
        candidates: 0,
        next: 0,
        found: None,
    };
    table.run(&mut search);
    search.found
}

/// A search for the first rule that is in all of some classes.
pub struct Search<'t> {
    classes: [&'t Class; FIELDS],
    /// Words of 64 rules that all classes have, of the present word of the aggregates.
    candidates: u64,
    /// The next word of the aggregates.
    next: u32,
    found: Option<u32>,
}

/// Source, destination, port, link.
const FIELDS: usize = 4;

impl Search<'_> {
    /// After so many steps a search is at its end: one for each word of the aggregates, and one for
    /// each of their bits.
    pub const STEPS_MAX: u32 = AGGREGATES * (u64::BITS + 1) + 1;

    /// Goes one step on; whether there is another.
    #[inline(always)]
    pub fn step<T: Table>(&mut self, table: &T) -> bool {
        if self.candidates == 0 {
            return self.next_word().is_some();
        }
        let lowest = self.candidates & self.candidates.wrapping_neg();
        self.candidates ^= lowest;
        let Some(rules) = self.rules(table, lowest) else { return false };
        if rules == 0 {
            return true;
        }
        let word = (self.next - 1) * u64::BITS + ones(lowest - 1);
        let first = rules & rules.wrapping_neg();
        self.found = Some(word * u64::BITS + ones(first - 1));
        false
    }

    #[inline(always)]
    fn next_word(&mut self) -> Option<()> {
        let [source, destination, port, link] = self.classes;
        self.candidates = source.aggregate.get(self.next as usize)?
            & destination.aggregate.get(self.next as usize)?
            & port.aggregate.get(self.next as usize)?
            & link.aggregate.get(self.next as usize)?;
        self.next += 1;
        Some(())
    }

    /// The rules that all classes have in the word that the bit `lowest` of the aggregates stands
    /// for.
    #[inline(always)]
    fn rules<T: Table>(&self, table: &T, lowest: u64) -> Option<u64> {
        let index = self.next.wrapping_sub(1) as usize;
        let word = |class: &Class| {
            let before = class.aggregate.get(index)? & (lowest - 1);
            table.word(class.first.get(index)?.wrapping_add(ones(before)))
        };
        let [source, destination, port, link] = self.classes;
        Some(word(source)? & word(destination)? & word(port)? & word(link)?)
    }
}

/// How many bits are set. BPF has no instruction for it; this is the usual sum by halves, in a
/// form that needs no call.
#[inline(always)]
const fn ones(bits: u64) -> u32 {
    let pairs = bits - (bits >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    let bytes = (fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f;
    (bytes.wrapping_mul(0x0101_0101_0101_0101) >> 56) as u32
}

#[cfg(test)]
mod tests {
    use super::ones;

    #[test]
    fn bits_are_counted() {
        for bits in [0, 1, 2, u64::MAX, 1 << 63, 0x8000_0000_0000_0001, 0x00ff_00ff_1234_5678] {
            assert_eq!(ones(bits), bits.count_ones(), "{bits:#x}");
        }
    }
}
