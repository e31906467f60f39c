//! Ordered rules, as the policies say them.

use alloc::vec::Vec;
use core::fmt;
use core::net::IpAddr;

use crate::action::{Action, OnDown};
use crate::flow::{Family, Words, words_v4, words_v6};
use crate::limits::{POLICIES_MAX, RULES_MAX};

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
    /// Whether connections to an address of this host pass, whatever the action says.
    pub spares_host: bool,
}

/// An address prefix; host bits are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
    /// More rules than a set of rules holds.
    TooManyRules {
        /// How many there are.
        count: usize,
    },
    /// More memory needed than the table may take.
    TooLarge {
        /// Bytes needed, or known to be needed so far.
        bytes: usize,
        /// Bytes allowed.
        limit: usize,
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
            Self::TooManyRules { count } => {
                write!(f, "{count} rules are more than {RULES_MAX}")
            }
            Self::TooLarge { bytes, limit } => write!(
                f,
                "the steering table would take {bytes} bytes, {limit} are allowed: merge address \
                 ranges, or raise steering.table_memory_mib"
            ),
        }
    }
}

impl core::error::Error for CompileError {}

/// The words of an address, and its IP version.
#[must_use]
pub const fn words(address: IpAddr) -> (Family, Words) {
    match address {
        IpAddr::V4(v4) => (Family::V4, words_v4(v4.octets())),
        IpAddr::V6(v6) => (Family::V6, words_v6(v6.octets())),
    }
}
