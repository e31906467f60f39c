//! Ordered rules, as the policies say them, and their compilation into table entries.

use alloc::vec;
use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::action::{Action, OnDown};
use crate::flow::{Family, Words, words_v4, words_v6};
use crate::limits::{ENTRIES_MAX, POLICIES_MAX};
use crate::table::{ANY_FAMILY, ANY_INTERFACE, ANY_VLAN, Entry, Masked};

/// Largest VLAN identifier; 4095 is reserved (IEEE 802.1Q).
pub const VLAN_MAX: u16 = 4094;

/// An ordered rule; the first that matches a new connection decides.
///
/// An empty list matches everything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Client addresses.
    pub sources: Vec<Prefix>,
    /// Server addresses.
    pub destinations: Vec<Prefix>,
    /// Server ports.
    pub ports: Vec<PortRange>,
    /// Indices of the interfaces the SYN may arrive on.
    pub interfaces: Vec<u32>,
    /// Outermost VLAN identifiers, 0 for untagged.
    pub vlans: Vec<u16>,
    /// What to do.
    pub action: Action,
    /// What to do instead of a redirect while no proxy listens.
    pub on_down: OnDown,
    /// Counter slot of the policy; a slot keeps its counts when rules are replaced.
    pub policy: u16,
}

/// An address prefix; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

impl Prefix {
    /// The prefix of the first `length` bits of `address`; other bits are cleared.
    ///
    /// # Errors
    /// When `length` exceeds 32 (IPv4) or 128 (IPv6).
    pub fn new(address: IpAddr, length: u8) -> Result<Self, CompileError> {
        let address = match address {
            IpAddr::V4(v4) if length <= 32 => {
                let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
                IpAddr::from((u32::from(v4) & mask).to_be_bytes())
            }
            IpAddr::V6(v6) if length <= 128 => {
                let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
                IpAddr::from((u128::from(v6) & mask).to_be_bytes())
            }
            IpAddr::V4(_) | IpAddr::V6(_) => {
                return Err(CompileError::PrefixLength { address, length });
            }
        };
        Ok(Self { address, length })
    }

    /// First address of the prefix.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Length in bits.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// IP version.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// Whether every address of `inner` is one of this prefix.
    #[must_use]
    pub fn covers(&self, inner: &Self) -> bool {
        self.length <= inner.length
            && Self::new(inner.address, self.length).is_ok_and(|cut| cut == *self)
    }

    fn masked(&self) -> Masked {
        let bits = u32::from(self.length);
        match self.address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                Masked { network: words_v4(v4.octets()), mask: words_v4(mask.to_be_bytes()) }
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                Masked { network: words_v6(v6.octets()), mask: words_v6(mask.to_be_bytes()) }
            }
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

/// An inclusive range of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// The ports from `first` to `last`, both included.
    ///
    /// # Errors
    /// When `first` is larger than `last`.
    pub const fn new(first: u16, last: u16) -> Result<Self, CompileError> {
        if first > last {
            return Err(CompileError::PortRange { first, last });
        }
        Ok(Self { first, last })
    }

    /// First port.
    #[must_use]
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// Last port, inclusive.
    #[must_use]
    pub const fn last(&self) -> u16 {
        self.last
    }
}

/// Why rules cannot become a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CompileError {
    /// A prefix longer than its addresses.
    PrefixLength {
        /// The address given.
        address: IpAddr,
        /// The length given, in bits.
        length: u8,
    },
    /// A port range that runs backwards.
    PortRange {
        /// First port given.
        first: u16,
        /// Last port given.
        last: u16,
    },
    /// A VLAN identifier that no frame can carry.
    Vlan {
        /// Position of the rule, from 0.
        rule: usize,
        /// The identifier given.
        vlan: u16,
    },
    /// A counter slot that does not exist.
    PolicySlot {
        /// Position of the rule, from 0.
        rule: usize,
        /// The slot given.
        slot: u16,
    },
    /// More entries than a generation of the table holds.
    TooManyEntries {
        /// Position of the rule that no longer fits, from 0.
        rule: usize,
        /// Entries needed up to and with that rule.
        needed: usize,
    },
}

impl fmt::Display for CompileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PrefixLength { address, length } => {
                write!(f, "prefix length {length} exceeds the length of {address}")
            }
            Self::PortRange { first, last } => write!(f, "port range {first}-{last} is empty"),
            Self::Vlan { rule, vlan } => {
                write!(f, "rule {rule}: VLAN {vlan} exceeds {VLAN_MAX}")
            }
            Self::PolicySlot { rule, slot } => {
                write!(f, "rule {rule}: counter slot {slot} is not below {POLICIES_MAX}")
            }
            Self::TooManyEntries { rule, needed } => write!(
                f,
                "rule {rule}: {needed} table entries needed, {ENTRIES_MAX} is the limit \
                 (a rule takes sources x destinations x port ranges x interfaces x VLANs)"
            ),
        }
    }
}

impl core::error::Error for CompileError {}

/// The entries of `rules`, in order.
///
/// # Errors
/// When a rule names a slot or VLAN that cannot exist, or the table would not fit.
pub fn compile(rules: &[Rule]) -> Result<Vec<Entry>, CompileError> {
    let mut entries = Vec::new();
    for (index, rule) in rules.iter().enumerate() {
        check(index, rule)?;
        expand(rule, |entry| {
            entries.push(entry);
            if entries.len() > ENTRIES_MAX as usize {
                return Err(CompileError::TooManyEntries { rule: index, needed: entries.len() });
            }
            Ok(())
        })?;
    }
    Ok(entries)
}

fn check(index: usize, rule: &Rule) -> Result<(), CompileError> {
    if u32::from(rule.policy) >= POLICIES_MAX {
        return Err(CompileError::PolicySlot { rule: index, slot: rule.policy });
    }
    match rule.vlans.iter().find(|vlan| **vlan > VLAN_MAX) {
        Some(vlan) => Err(CompileError::Vlan { rule: index, vlan: *vlan }),
        None => Ok(()),
    }
}

/// Calls `emit` with one entry per combination of fields that a packet can have.
fn expand<E>(rule: &Rule, mut emit: impl FnMut(Entry) -> Result<(), E>) -> Result<(), E> {
    for (family, source, destination) in address_pairs(rule) {
        for range in or_any(&rule.ports, PortRange::ALL) {
            for ifindex in or_any(&rule.interfaces, ANY_INTERFACE) {
                for vlan in or_any(&rule.vlans, ANY_VLAN) {
                    emit(Entry {
                        source,
                        destination,
                        ifindex,
                        port_first: range.first,
                        port_last: range.last,
                        vlan,
                        policy: rule.policy,
                        family,
                        action: rule.action as u8,
                        on_down: rule.on_down as u8,
                        reserved: 0,
                    })?;
                }
            }
        }
    }
    Ok(())
}

/// Pairs of one IP version; a pair of two versions matches no packet and is left out.
fn address_pairs(rule: &Rule) -> impl Iterator<Item = (u8, Masked, Masked)> {
    let sources = or_any(&prefixes(&rule.sources), (ANY_FAMILY, Masked::ANY));
    let destinations = or_any(&prefixes(&rule.destinations), (ANY_FAMILY, Masked::ANY));
    sources.into_iter().flat_map(move |(source_family, source)| {
        destinations.clone().into_iter().filter_map(move |(family, destination)| {
            match (source_family, family) {
                (ANY_FAMILY, family) | (family, ANY_FAMILY) => Some((family, source, destination)),
                (source, other) if source != other => None,
                (family, _) => Some((family, source, destination)),
            }
        })
    })
}

fn prefixes(list: &[Prefix]) -> Vec<(u8, Masked)> {
    list.iter().map(|prefix| (prefix.family() as u8, prefix.masked())).collect()
}

fn or_any<T: Copy>(list: &[T], any: T) -> Vec<T> {
    if list.is_empty() { vec![any] } else { list.to_vec() }
}

/// The words of an address, and its IP version.
#[must_use]
pub const fn words(address: IpAddr) -> (Family, Words) {
    match address {
        IpAddr::V4(v4) => (Family::V4, words_v4(v4.octets())),
        IpAddr::V6(v6) => (Family::V6, words_v6(v6.octets())),
    }
}

#[cfg(test)]
mod tests;
