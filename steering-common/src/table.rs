//! The compiled table: rules as a list of fixed-size entries, first match wins.
//!
//! An entry holds one combination of a rule's fields. The walk is linear and exact; whatever
//! replaces it must answer as [`crate::decide`] does.

use crate::action::{Action, OnDown, Verdict};
use crate::flow::{Flow, Words};

/// An address range: `address & mask == network`, word by word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Masked {
    /// The network's bits; zero where `mask` is zero.
    pub network: Words,
    /// The bits compared; all zero for any address.
    pub mask: Words,
}

impl Masked {
    /// Matches every address.
    pub const ANY: Self = Self { network: [0; 4], mask: [0; 4] };

    #[inline(always)]
    const fn contains(&self, address: &Words) -> bool {
        let [a0, a1, a2, a3] = *address;
        let [m0, m1, m2, m3] = self.mask;
        let [n0, n1, n2, n3] = self.network;
        // One expression: the compiler makes it straight code, which keeps the verifier's
        // paths through the table walk few.
        ((a0 & m0) ^ n0) | ((a1 & m1) ^ n1) | ((a2 & m2) ^ n2) | ((a3 & m3) ^ n3) == 0
    }
}

/// Value of [`Entry::ifindex`] that matches every interface; no interface has index 0.
pub const ANY_INTERFACE: u32 = 0;

/// Value of [`Entry::vlan`] that matches every frame; identifiers have 12 bits.
pub const ANY_VLAN: u16 = u16::MAX;

/// Value of [`Entry::family`] that matches both IP versions.
pub const ANY_FAMILY: u8 = 0;

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// Client addresses.
    pub source: Masked,
    /// Server addresses.
    pub destination: Masked,
    /// Interface index, or [`ANY_INTERFACE`].
    pub ifindex: u32,
    /// First destination port, host order.
    pub port_first: u16,
    /// Last destination port, inclusive.
    pub port_last: u16,
    /// VLAN identifier, 0 for untagged, or [`ANY_VLAN`].
    pub vlan: u16,
    /// Counter slot of the policy.
    pub policy: u16,
    /// [`crate::flow::Family`] as a number, or [`ANY_FAMILY`].
    pub family: u8,
    /// [`Action`] as a number.
    pub action: u8,
    /// [`OnDown`] as a number.
    pub on_down: u8,
    /// Fills up to four bytes.
    pub reserved: u8,
}

const _: () = assert!(size_of::<Entry>() == 80);

impl Entry {
    /// The outcome for a SYN of `flow`, when the entry matches it.
    #[inline(always)]
    #[must_use]
    pub const fn verdict(&self, flow: &Flow) -> Option<Verdict> {
        let port = flow.destination_port;
        if port < self.port_first || port > self.port_last || !self.matches_addresses(flow) {
            return None;
        }
        self.outcome()
    }

    /// The outcome for a packet of `flow` whose ports cannot be seen: whether it might be a
    /// connection that this entry redirects or drops, or is surely one that it forwards.
    #[inline(always)]
    #[must_use]
    pub const fn verdict_without_ports(&self, flow: &Flow) -> Option<Verdict> {
        if !self.matches_addresses(flow) {
            return None;
        }
        let every_port = self.port_first == 0 && self.port_last == u16::MAX;
        if self.action == Action::Forward as u8 && !every_port {
            return None;
        }
        self.outcome()
    }

    #[inline(always)]
    const fn matches_addresses(&self, flow: &Flow) -> bool {
        (self.family == ANY_FAMILY || self.family == flow.family as u8)
            && (self.ifindex == ANY_INTERFACE || self.ifindex == flow.ifindex)
            && (self.vlan == ANY_VLAN || self.vlan == flow.vlan)
            && self.source.contains(&flow.source)
            && self.destination.contains(&flow.destination)
    }

    #[inline(always)]
    const fn outcome(&self) -> Option<Verdict> {
        match (Action::from_u8(self.action), OnDown::from_u8(self.on_down)) {
            (Some(action), Some(on_down)) => Some(Verdict { action, on_down, policy: self.policy }),
            _ => None,
        }
    }
}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "marker for types that may be copied into maps byte by byte")]
// SAFETY: `repr(C)`, only integers, no padding: asserted above.
unsafe impl aya::Pod for Entry {}
