//! The compiled table: what the programs look up to find the first rule of a connection.
//!
//! Each field of a connection is looked up by itself and gives a *term*. Few combinations: the
//! terms are summands, and their sum is the number of a cell that names the rule (a cross-product
//! table). Many: a term is the number of a [`Class`], the set of rules that the field satisfies,
//! and the first rule common to all fields is the answer (an aggregated bit vector). Which of the
//! two, [`Layout::engine`] says. How much is read has a bound that does not depend on how many
//! rules and prefixes there are.

use crate::action::{Action, OnDown, Verdict};

/// Entries of a block: one octet of an IPv4 address.
pub const BLOCK_ENTRIES: usize = 256;

/// What 256 values of an octet lead to: a term, or with [`POINTER`] the number of the next block.
pub type Block = [u32; BLOCK_ENTRIES];

/// Blocks of the first octet; the second is the entry within, so that a root is as good as one
/// array of 65,536.
pub const ROOT_BLOCKS: u32 = 256;

/// Marks an entry that is no term but the number of a block or node.
pub const POINTER: u32 = 1 << 31;

/// Marks the term of a destination that is an address of this host.
pub const HOST: u32 = 1 << 30;

/// Entries of a node: four bits of an address.
pub const NODE_ENTRIES: usize = 16;

/// A place where prefixes part, in a trie whose chains are compressed: all bits before it are
/// compared at once. IPv4 addresses stand in the upper 32 of the 128 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Node {
    /// The bits before the node, upper and lower 64; the others are zero.
    pub expect: [u64; 2],
    /// Which bits those are.
    pub mask: [u64; 2],
    /// What the four bits at the node lead to: a term, or with [`POINTER`] a node.
    pub children: [u32; NODE_ENTRIES],
    /// The term of an address whose earlier bits differ.
    pub otherwise: u32,
    /// How far to shift the upper or lower 64 bits right to get the four bits.
    pub shift: u16,
    /// 0 for the upper 64 bits, 1 for the lower.
    pub half: u16,
}

const _: () = assert!(size_of::<Node>() == 104);

/// Terms of every port.
pub type PortTerms = [u32; 1 << 16];

/// Columns of every VLAN identifier, 0 for untagged frames.
pub type VlanColumns = [u32; 1 << 12];

/// Cells in an element of their map; a cell holds the number of a rule plus 1, or 0.
pub const CELLS_PER_ELEMENT: u32 = 512;

/// An element of the cross-product table.
pub type Cells = [u16; CELLS_PER_ELEMENT as usize];

/// Aggregate words of a class: one bit for each of 256 words of 64 rules.
pub const AGGREGATES: u32 = 4;

/// The same, as the length of an array.
pub const AGGREGATE_WORDS: usize = AGGREGATES as usize;

/// A set of rules: which of its words of 64 rules are not zero, and where those stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Class {
    /// Bit `n % 64` of word `n / 64` is set when word `n` of the set is not zero.
    pub aggregate: [u64; AGGREGATE_WORDS],
    /// Number of the first of those words, for each word of the aggregate; they stand in order.
    pub first: [u32; AGGREGATE_WORDS],
}

const _: () = assert!(size_of::<Class>() == 48);

/// Words of rules in an element of their map.
pub const WORDS_PER_ELEMENT: u32 = 64;

/// An element of the words of rules.
pub type Words64 = [u64; WORDS_PER_ELEMENT as usize];

/// What a rule does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Outcome {
    /// Counter slot of the policy.
    pub policy: u16,
    /// [`Action`] as a number.
    pub action: u8,
    /// [`OnDown`] as a number.
    pub on_down: u8,
    /// 1 when connections to this host pass, whatever the action says.
    pub spares_host: u8,
    /// Fills up to eight bytes.
    pub reserved: [u8; 3],
}

const _: () = assert!(size_of::<Outcome>() == 8);

impl Outcome {
    /// The verdict for a connection, `to_host` when it goes to an address of this host. `None` for
    /// numbers that no compiler writes.
    #[inline(always)]
    #[must_use]
    pub const fn verdict(&self, to_host: bool) -> Option<Verdict> {
        let (Some(action), Some(on_down)) =
            (Action::from_u8(self.action), OnDown::from_u8(self.on_down))
        else {
            return None;
        };
        let spared = to_host && self.spares_host != 0;
        let action = if spared { Action::Forward } else { action };
        Some(Verdict { action, on_down, policy: self.policy })
    }
}

/// How terms are combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Engine {
    /// Their sum is the number of a cell.
    Direct = 0,
    /// They are classes of rules, whose first common one is looked for.
    Vectors = 1,
}

/// How the term of an IPv4 address is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Ipv4Engine {
    /// By blocks: at most three reads.
    Blocks = 0,
    /// By the trie: less memory, more reads.
    Trie = 1,
}

/// Where a lookup begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Layout {
    /// Root of IPv4 sources: a term; with [`POINTER`], its first block or its node.
    pub source_v4: u32,
    /// Root of IPv4 destinations.
    pub destination_v4: u32,
    /// Root of IPv6 sources: a term, or with [`POINTER`] a node.
    pub source_v6: u32,
    /// Root of IPv6 destinations.
    pub destination_v6: u32,
    /// The term of a packet whose port cannot be seen.
    pub hidden_port: u32,
    /// Whether any rule names interfaces or VLANs: 0 or 1.
    pub by_link: u32,
    /// The term of every link, where no rule names any.
    pub any_link: u32,
    /// Columns of the table of links.
    pub link_columns: u32,
    /// [`Engine`] as a number.
    pub engine: u32,
    /// [`Ipv4Engine`] as a number.
    pub ipv4_engine: u32,
}

const _: () = assert!(size_of::<Layout>() == 40);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "marker for types that may be copied into maps byte by byte")]
mod pod {
    use super::{Class, Layout, Node, Outcome};

    // SAFETY: `repr(C)`, only integers, no padding: sizes are asserted above.
    unsafe impl aya::Pod for Node {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Class {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Outcome {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Layout {}
}
