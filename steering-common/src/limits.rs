//! Table sizes and loop bounds, in one place.

/// Entries of one generation of the compiled table. A rule takes one entry per combination of its
/// source, destination, port range, interface and VLAN; a SYN walks them in order, so the bound
/// is also the bound of a lookup's time.
pub const ENTRIES_MAX: u32 = 4096;

/// Generations of the table: one is read while the other is filled.
pub const GENERATIONS: u32 = 2;

/// Counter slots, one per policy.
pub const POLICIES_MAX: u32 = 1024;

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
