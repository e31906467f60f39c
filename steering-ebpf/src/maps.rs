//! Map definitions. Layouts are those of `steering-common`.
//!
//! The daemon pins what outlives a generation of the table; the table itself belongs to the
//! programs that were loaded with it, and goes with them. The sizes of its maps are the daemon's:
//! it sets them before it loads.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMapHash, HashMap, PerCpuArray, RingBuf, SockMap};
use steering_common::layout::{InForce, Port, Settings};
use steering_common::limits::{
    INTERFACES_MAX, LISTENER_SLOTS, POLICIES_MAX, POLICY_NAME_BYTES, TRACE_BYTES,
};
use steering_common::pace::Pace;
use steering_common::pairs::Pairs;
use steering_common::stats::{PolicyCounts, REASONS};
use steering_common::table::{
    Block, Cells, Class, Layout, Node, Outcome, PortTerms, VlanColumns, Words64,
};

/// One element: marks and limits.
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// One element: the table in force; the programs do not read it.
#[map]
pub(crate) static IN_FORCE: Array<InForce> = Array::with_max_entries(1, 0);

/// Bridge ports, and interfaces with the fast path at the driver, by interface index.
#[map]
pub(crate) static PORTS: HashMap<u32, Port> = HashMap::with_max_entries(INTERFACES_MAX, 0);

/// Interfaces that take frames from the fast path at the driver, by interface index.
#[map]
pub(crate) static DEVICES: DevMapHash = DevMapHash::with_max_entries(INTERFACES_MAX, 0);

/// The proxy's listeners; the kernel empties a slot when its socket closes.
#[map]
pub(crate) static LISTENERS: SockMap = SockMap::with_max_entries(LISTENER_SLOTS, 0);

/// One element: when the daemon last reported, in `CLOCK_MONOTONIC` nanoseconds.
#[map]
pub(crate) static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);

/// One element: the pairs of hosts that the proxy may have a connection between. The daemon sees
/// it as memory of its own.
#[map]
pub(crate) static PAIRS: Array<Pairs> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Packets by reason.
#[map]
pub(crate) static REASON_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(REASONS, 0);

/// SYNs by policy.
#[map]
pub(crate) static POLICY_COUNTS: PerCpuArray<PolicyCounts> =
    PerCpuArray::with_max_entries(POLICIES_MAX, 0);

/// Names of the policies, filled up with zeros; the programs do not read them, whoever reads the
/// counters does.
#[map]
pub(crate) static POLICY_NAMES: Array<[u8; POLICY_NAME_BYTES]> =
    Array::with_max_entries(POLICIES_MAX, 0);

/// How many new connections a policy takes, by slot.
#[map]
pub(crate) static PACES: Array<Pace> = Array::with_max_entries(POLICIES_MAX, 0);

/// One element: until when verdicts are traced, in `CLOCK_MONOTONIC` nanoseconds; 0 for not at all.
#[map]
pub(crate) static TRACING: Array<u64> = Array::with_max_entries(1, 0);

/// Traced verdicts.
#[map]
pub(crate) static TRACE: RingBuf = RingBuf::with_byte_size(TRACE_BYTES, 0);

/// One element: where a lookup begins.
#[map]
pub(crate) static LAYOUT: Array<Layout> = Array::with_max_entries(1, 0);

/// Blocks of IPv4 addresses.
#[map]
pub(crate) static BLOCKS: Array<Block> = Array::with_max_entries(1, 0);

/// Nodes of the trie.
#[map]
pub(crate) static NODES: Array<Node> = Array::with_max_entries(1, 0);

/// One element: the terms of all ports.
#[map]
pub(crate) static PORT_TERMS: Array<PortTerms> = Array::with_max_entries(1, 0);

/// Rows of the interfaces that rules name.
#[map]
pub(crate) static INTERFACE_ROWS: HashMap<u32, u32> = HashMap::with_max_entries(1, 0);

/// One element: the columns of all VLANs.
#[map]
pub(crate) static VLAN_COLUMNS: Array<VlanColumns> = Array::with_max_entries(1, 0);

/// Terms of links.
#[map]
pub(crate) static LINKS: Array<u32> = Array::with_max_entries(1, 0);

/// The cross-product table.
#[map]
pub(crate) static CELLS: Array<Cells> = Array::with_max_entries(1, 0);

/// Classes.
#[map]
pub(crate) static CLASSES: Array<Class> = Array::with_max_entries(1, 0);

/// Words of rules.
#[map]
pub(crate) static WORDS: Array<Words64> = Array::with_max_entries(1, 0);

/// What each rule does.
#[map]
pub(crate) static OUTCOMES: Array<Outcome> = Array::with_max_entries(1, 0);

/// The map can be seen as memory from user space (`linux/bpf.h`).
const BPF_F_MMAPABLE: u32 = 1 << 10;
