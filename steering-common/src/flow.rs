//! The flow of a packet: what rules look at and what finds a socket.

/// An IP address of either family: four words, each as loaded from network-order bytes.
///
/// An IPv4 address stands in the last word, the others are zero; the family is kept beside it.
pub type Words = [u32; 4];

/// The IP version of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Family {
    /// IPv4.
    V4 = 4,
    /// IPv6.
    V6 = 6,
}

/// Where a packet comes from and goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Source address.
    pub source: Words,
    /// Destination address.
    pub destination: Words,
    /// Interface the packet arrived on.
    pub ifindex: u32,
    /// TCP source port, host order; 0 when the packet does not show it.
    pub source_port: u16,
    /// TCP destination port, host order; 0 when the packet does not show it.
    pub destination_port: u16,
    /// Outermost VLAN identifier; 0 for an untagged frame.
    pub vlan: u16,
    /// IP version of both addresses.
    pub family: Family,
}

/// The words of an IPv4 address given as network-order bytes.
#[inline(always)]
#[must_use]
pub const fn words_v4(octets: [u8; 4]) -> Words {
    [0, 0, 0, u32::from_ne_bytes(octets)]
}

/// The words of an IPv6 address given as network-order bytes.
#[inline(always)]
#[must_use]
pub const fn words_v6(o: [u8; 16]) -> Words {
    [
        u32::from_ne_bytes([o[0], o[1], o[2], o[3]]),
        u32::from_ne_bytes([o[4], o[5], o[6], o[7]]),
        u32::from_ne_bytes([o[8], o[9], o[10], o[11]]),
        u32::from_ne_bytes([o[12], o[13], o[14], o[15]]),
    ]
}
