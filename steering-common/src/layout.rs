//! Small map values: the program's settings and the role of an interface.

/// What the program is told once, before it is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Settings {
    /// `SO_MARK` bit of the proxy's own sockets; how the program knows them.
    pub socket_mark: u32,
    /// Packet mark bit that the policy routing rule looks for.
    pub route_mark: u32,
    /// Silence of the daemon after which it counts as down, in nanoseconds.
    pub heartbeat_limit_ns: u64,
    /// 1 when packets that are not steered are forwarded before the kernel's stack, by the programs
    /// that steer.
    pub fast_path: u32,
    /// Fills up to eight bytes.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Settings>() == 24);

/// What the program needs to know of a bridge port, or of an interface with the fast path at the
/// driver, that it is attached to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Port {
    /// The interface's own hardware address: the destination that makes a bridge hand a frame up.
    pub address: [u8; 6],
    /// Fills up to eight bytes.
    pub reserved: [u8; 2],
}

const _: () = assert!(size_of::<Port>() == 8);

/// The table in force, for whoever asks what the programs do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct InForce {
    /// Number of the table, counted from 1; 0 before the first.
    pub generation: u64,
    /// What its maps take, in bytes.
    pub bytes: u64,
    /// How long it took to build, check and put in force, in nanoseconds.
    pub took_ns: u64,
    /// Rules.
    pub rules: u32,
    /// Different address prefixes, of sources and destinations.
    pub prefixes: u32,
    /// Blocks of IPv4 addresses.
    pub blocks: u32,
    /// Nodes of the trie.
    pub nodes: u32,
    /// Elements of the cross-product table.
    pub cells: u32,
    /// Classes, where sets of rules are compared.
    pub classes: u32,
    /// [`crate::table::Engine`] as a number.
    pub engine: u32,
    /// [`crate::table::Ipv4Engine`] as a number.
    pub ipv4_engine: u32,
}

const _: () = assert!(size_of::<InForce>() == 56);

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "marker for types that may be copied into maps byte by byte")]
// SAFETY: `repr(C)`, only integers, no padding: asserted above.
unsafe impl aya::Pod for InForce {}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "marker for types that may be copied into maps byte by byte")]
// SAFETY: `repr(C)`, only integers, no padding: asserted above.
unsafe impl aya::Pod for Settings {}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "marker for types that may be copied into maps byte by byte")]
// SAFETY: `repr(C)`, only integers, no padding: asserted above.
unsafe impl aya::Pod for Port {}
