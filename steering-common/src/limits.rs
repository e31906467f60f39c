//! Table sizes and loop bounds, in one place.

/// Rules of a table: as many as the aggregate of a class has bits, times 64.
pub const RULES_MAX: u32 = 16_384;

/// Cells of the cross-product table. Above that, and the table would leave the processor's cache,
/// rules are found by their sets.
pub const CELLS_MAX: u32 = 1 << 21;

/// Nodes on the way to an address: one for each four bits of an IPv6 address.
pub const NODES_DEEP_MAX: u32 = 32;

/// Counter slots, one per policy.
pub const POLICIES_MAX: u32 = 16_384;

/// Bytes of a policy's name that are kept beside its counters; what is longer is cut.
pub const POLICY_NAME_BYTES: usize = 64;

/// Interfaces with a role: client side, server side, or port of the bridge.
pub const INTERFACES_MAX: u32 = 256;

/// 802.1Q tags read from the frame itself. The kernel takes the outermost out before the program
/// runs, so that three are understood in all; a frame with more is not read further.
pub const INLINE_TAGS_MAX: u32 = 2;

/// IPv6 extension headers walked. RFC 8200 section 4.1 names six, the second destination options
/// header and one spare make eight.
pub const EXTENSION_HEADERS_MAX: u32 = 8;

/// Bytes of the ring of traced verdicts, a power of two of whole pages.
pub const TRACE_BYTES: u32 = 256 * 1024;

/// How long the daemon may be silent before it counts as down. It reports every
/// [`HEARTBEAT_PERIOD_MS`]; six missed reports are a hang, not a busy moment.
pub const HEARTBEAT_LIMIT_NS: u64 = 3_000_000_000;

/// How often the daemon reports that it lives.
pub const HEARTBEAT_PERIOD_MS: u64 = 500;

/// `SO_MARK` of the proxy's own sockets, one bit: how the program knows them. Never the mark that
/// the policy routing rule looks for, or what the proxy sends would be routed back to it.
pub const SOCKET_MARK: u32 = 0x2000_0000;

/// Slot of the IPv4 listener in the map of listeners.
pub const LISTENER_V4: u32 = 0;

/// Slot of the IPv6 listener in the map of listeners.
pub const LISTENER_V6: u32 = 1;

/// Slots in the map of listeners.
pub const LISTENER_SLOTS: u32 = 2;
