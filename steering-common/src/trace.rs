//! What is traced of a new connection: an element of the ring of traced verdicts.

use crate::flow::{Flow, Words, words_v6};

/// A verdict about a packet that opens a connection, or may hide one that does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Traced {
    /// When, in `CLOCK_MONOTONIC` nanoseconds.
    pub at_ns: u64,
    /// Client address.
    pub source: Words,
    /// Server address.
    pub destination: Words,
    /// Interface it arrived on.
    pub ifindex: u32,
    /// [`crate::stats::Reason`] as a number.
    pub reason: u32,
    /// Counter slot of the policy, or [`NO_POLICY`].
    pub policy: u32,
    /// TCP source port; 0 when the packet does not show it.
    pub source_port: u16,
    /// TCP destination port; 0 when the packet does not show it.
    pub destination_port: u16,
    /// Outermost VLAN identifier; 0 for an untagged frame.
    pub vlan: u16,
    /// 4 or 6.
    pub family: u8,
    /// Fills up to eight bytes.
    pub reserved: [u8; 5],
}

const _: () = assert!(size_of::<Traced>() == TRACED_BYTES);

/// Length of an element of the ring.
pub const TRACED_BYTES: usize = 64;

/// No rule matched.
pub const NO_POLICY: u32 = u32::MAX;

impl Traced {
    /// What is traced of a packet of `flow`.
    #[inline(always)]
    #[must_use]
    pub const fn new(at_ns: u64, flow: &Flow, reason: u32, policy: u32) -> Self {
        Self {
            at_ns,
            source: flow.source,
            destination: flow.destination,
            ifindex: flow.ifindex,
            reason,
            policy,
            source_port: flow.source_port,
            destination_port: flow.destination_port,
            vlan: flow.vlan,
            family: flow.family as u8,
            reserved: [0; 5],
        }
    }

    /// What the ring has of one; `None` for bytes of another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; TRACED_BYTES] = bytes.try_into().ok()?;
        let (at_ns, rest) = bytes.split_first_chunk::<8>()?;
        let (source, rest) = rest.split_first_chunk::<16>()?;
        let (destination, rest) = rest.split_first_chunk::<16>()?;
        let (numbers, rest) = rest.split_first_chunk::<12>()?;
        let [i0, i1, i2, i3, r0, r1, r2, r3, p0, p1, p2, p3] = *numbers;
        let (ports, rest) = rest.split_first_chunk::<6>()?;
        let [s0, s1, d0, d1, v0, v1] = *ports;
        Some(Self {
            at_ns: u64::from_ne_bytes(*at_ns),
            source: words_v6(*source),
            destination: words_v6(*destination),
            ifindex: u32::from_ne_bytes([i0, i1, i2, i3]),
            reason: u32::from_ne_bytes([r0, r1, r2, r3]),
            policy: u32::from_ne_bytes([p0, p1, p2, p3]),
            source_port: u16::from_ne_bytes([s0, s1]),
            destination_port: u16::from_ne_bytes([d0, d1]),
            vlan: u16::from_ne_bytes([v0, v1]),
            family: *rest.first()?,
            reserved: [0; 5],
        })
    }
}
