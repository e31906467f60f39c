//! From ordered rules to the compiled table.
//!
//! Every field is cut into classes: values that the same rules accept. A rule costs one bit of each
//! class it is in, whatever its lists hold, and is never multiplied out.

mod blocks;
mod combine;
mod fields;
mod prefixes;
mod sets;
mod trie;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::net::IpAddr;

use self::blocks::Blocks;
use self::combine::{Combined, Scale, combine};
use self::fields::{Links, PortClasses};
use self::prefixes::{Named, Placed};
use self::sets::Sets;
use self::trie::Trie;
use crate::flow::Family;
use crate::limits::{POLICIES_MAX, RULES_MAX};
use crate::rule::{CompileError, Rule, VLAN_MAX};
use crate::table::{
    Block, Cells, Class, HOST, Ipv4Engine, Layout, Node, Outcome, PortTerms, VlanColumns, Words64,
};

/// A compiled table: what goes into each of its maps.
#[derive(Debug, Clone)]
pub struct Compiled {
    /// Where lookups begin.
    pub layout: Layout,
    /// Blocks of IPv4 addresses.
    pub blocks: Vec<Block>,
    /// Nodes of the trie.
    pub nodes: Vec<Node>,
    /// One element: the terms of ports.
    pub ports: Vec<PortTerms>,
    /// Rows of the interfaces that rules name.
    pub interfaces: BTreeMap<u32, u32>,
    /// One element: the columns of VLANs.
    pub vlans: Vec<VlanColumns>,
    /// Terms of links, row by row.
    pub links: Vec<u32>,
    /// The cross-product table.
    pub cells: Vec<Cells>,
    /// Classes.
    pub classes: Vec<Class>,
    /// Words of rules.
    pub words: Vec<Words64>,
    /// What each rule does, in order.
    pub outcomes: Vec<Outcome>,
    /// Different address prefixes, of both sides.
    pub prefixes: u32,
}

impl Compiled {
    /// What the maps of the table take, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        size_of_val(self.blocks.as_slice())
            + size_of_val(self.nodes.as_slice())
            + size_of_val(self.ports.as_slice())
            + size_of_val(self.vlans.as_slice())
            + size_of_val(self.links.as_slice())
            + size_of_val(self.cells.as_slice())
            + size_of_val(self.classes.as_slice())
            + size_of_val(self.words.as_slice())
            + size_of_val(self.outcomes.as_slice())
    }
}

/// What a table may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes of all its maps. Where blocks of IPv4 addresses would take more than half of that,
    /// they are left out and the trie has those addresses too.
    pub bytes: usize,
    /// Cells of a cross-product table; where more are needed, sets of rules are compared.
    pub cells: u32,
}

/// Compiles `rules`; `host` are the addresses of this host.
///
/// # Errors
/// When a rule names a slot or VLAN that cannot exist, or the table would be too large.
pub fn compile(rules: &[Rule], host: &[IpAddr], room: Room) -> Result<Compiled, CompileError> {
    check(rules)?;
    let mut fields = Fields::of(rules, host);
    let combined = combine(&fields, room)?;
    let Combined { engine, scales, cells, classes, words } = combined;
    fields.scale(&scales);
    let (blocks, roots_v4) = match fields.blocks(room.bytes / 2) {
        Some((blocks, roots)) => (blocks, Some(roots)),
        None => (Vec::new(), None),
    };
    let mut trie = Trie::default();
    let [source_v6, destination_v6] =
        [&fields.source_v6, &fields.destination_v6].map(|side| trie.add(side.root, &side.placed));
    let ipv4_engine = if roots_v4.is_some() { Ipv4Engine::Blocks } else { Ipv4Engine::Trie };
    let [source_v4, destination_v4] = roots_v4.unwrap_or_else(|| {
        [&fields.source_v4, &fields.destination_v4].map(|side| trie.add(side.root, &side.placed))
    });
    let prefixes: usize = fields.sides().iter().map(|side| side.placed.len()).sum();
    let compiled = Compiled {
        layout: Layout {
            source_v4,
            destination_v4,
            source_v6,
            destination_v6,
            hidden_port: scales.port.term(fields.ports.hidden),
            by_link: u32::from(fields.links.is_used()),
            any_link: scales.link.term(0),
            link_columns: fields.links.columns,
            engine: engine as u32,
            ipv4_engine: ipv4_engine as u32,
        },
        blocks,
        nodes: trie.finish(),
        ports: elements(&scales.port.terms(&fields.ports.classes)),
        interfaces: fields.links.rows,
        vlans: elements(&fields.links.vlans),
        links: scales.link.terms(&fields.links.classes),
        cells,
        classes,
        words,
        outcomes: rules.iter().map(outcome).collect(),
        prefixes: u32::try_from(prefixes).unwrap_or(u32::MAX),
    };
    let bytes = compiled.bytes();
    if bytes > room.bytes {
        return Err(CompileError::TooLarge { bytes, limit: room.bytes });
    }
    Ok(compiled)
}

fn check(rules: &[Rule]) -> Result<(), CompileError> {
    if rules.len() > RULES_MAX as usize {
        return Err(CompileError::TooManyRules { count: rules.len() });
    }
    for (index, rule) in rules.iter().enumerate() {
        if u32::from(rule.policy) >= POLICIES_MAX {
            return Err(CompileError::PolicySlot { rule: index, slot: rule.policy });
        }
        if let Some(vlan) = rule.vlans.iter().find(|vlan| **vlan > VLAN_MAX) {
            return Err(CompileError::Vlan { rule: index, vlan: *vlan });
        }
    }
    Ok(())
}

const fn outcome(rule: &Rule) -> Outcome {
    Outcome {
        policy: rule.policy,
        action: rule.action as u8,
        on_down: rule.on_down as u8,
        spares_host: rule.spares_host as u8,
        reserved: [0; 3],
    }
}

/// The classes of addresses of one side and IP version.
struct Side {
    /// Of those below no prefix.
    root: u32,
    placed: Vec<Placed>,
}

/// All fields of a connection, cut into classes.
struct Fields {
    source_v4: Side,
    source_v6: Side,
    destination_v4: Side,
    destination_v6: Side,
    sources: Sets,
    destinations: Sets,
    ports: PortClasses,
    links: Links,
}

impl Fields {
    fn of(rules: &[Rule], host: &[IpAddr]) -> Self {
        let (mut sources, mut destinations) = (Sets::default(), Sets::default());
        let side = |sets: &mut Sets, family, is_destination: bool| {
            let mut named = Named::default();
            for (number, rule) in (0..).zip(rules) {
                let list = if is_destination { &rule.destinations } else { &rule.sources };
                named.add(number, list, family);
            }
            for address in host.iter().filter(|_| is_destination) {
                named.add_host(*address, family);
            }
            let (root, placed) = named.place(sets);
            Side { root, placed }
        };
        Self {
            source_v4: side(&mut sources, Family::V4, false),
            source_v6: side(&mut sources, Family::V6, false),
            destination_v4: side(&mut destinations, Family::V4, true),
            destination_v6: side(&mut destinations, Family::V6, true),
            sources,
            destinations,
            ports: PortClasses::of(rules),
            links: Links::of(rules),
        }
    }

    fn sides(&self) -> [&Side; 4] {
        [&self.source_v4, &self.source_v6, &self.destination_v4, &self.destination_v6]
    }

    /// Turns the classes of addresses into their terms.
    fn scale(&mut self, scales: &Scales) {
        for (side, scale) in [
            (&mut self.source_v4, scales.source),
            (&mut self.source_v6, scales.source),
            (&mut self.destination_v4, scales.destination),
            (&mut self.destination_v6, scales.destination),
        ] {
            let term = |class: u32| scale.term(class & !HOST) | class & HOST;
            side.root = term(side.root);
            for one in &mut side.placed {
                one.class = term(one.class);
            }
        }
    }

    /// The blocks of IPv4 addresses and the roots of both sides, unless they would take more than
    /// `bytes_max`.
    fn blocks(&self, bytes_max: usize) -> Option<(Vec<Block>, [u32; 2])> {
        let blocks_max = bytes_max / size_of::<Block>();
        let mut blocks = Blocks::default();
        let mut add = |side: &Side| blocks.add(side.root, &side.placed, blocks_max);
        let roots = [add(&self.source_v4).ok()?, add(&self.destination_v4).ok()?];
        Some((blocks.finish(), roots))
    }
}

/// How the classes of each field become terms.
#[derive(Debug, Clone, Copy)]
struct Scales {
    source: Scale,
    destination: Scale,
    port: Scale,
    link: Scale,
}

/// Values as elements of a map; the last element is filled up with zeros.
fn elements<T: Copy + Default, const N: usize>(values: &[T]) -> Vec<[T; N]> {
    let element = |chunk: &[T]| {
        let mut element = [T::default(); N];
        for (to, from) in element.iter_mut().zip(chunk) {
            *to = *from;
        }
        element
    };
    values.chunks(N).map(element).collect()
}

/// Entries of the table of ports.
const PORTS: usize = size_of::<PortTerms>() / size_of::<u32>();
/// Entries of the table of VLANs.
const VLANS: usize = size_of::<VlanColumns>() / size_of::<u32>();

#[cfg(test)]
mod tests;
