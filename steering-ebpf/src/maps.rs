//! Map definitions. Layouts are those of `steering-common`; the daemon pins every map.

use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, PerCpuArray, SockMap};
use steering_common::layout::{Port, Settings};
use steering_common::limits::{
    ENTRIES_MAX, GENERATIONS, INTERFACES_MAX, LISTENER_SLOTS, POLICIES_MAX, POLICY_NAME_BYTES,
};
use steering_common::stats::{PolicyCounts, REASONS};
use steering_common::table::Entry;

/// One element: marks and limits.
#[map]
pub(crate) static SETTINGS: Array<Settings> = Array::with_max_entries(1, 0);

/// One element: the generation in use, 0 or 1.
#[map]
pub(crate) static ACTIVE: Array<u32> = Array::with_max_entries(1, 0);

/// Entries in use, by generation.
#[map]
pub(crate) static LENGTHS: Array<u32> = Array::with_max_entries(GENERATIONS, 0);

/// Both generations of the table, one after the other.
#[map]
pub(crate) static ENTRIES: Array<Entry> = Array::with_max_entries(GENERATIONS * ENTRIES_MAX, 0);

/// Bridge ports by interface index.
#[map]
pub(crate) static PORTS: HashMap<u32, Port> = HashMap::with_max_entries(INTERFACES_MAX, 0);

/// The proxy's listeners; the kernel empties a slot when its socket closes.
#[map]
pub(crate) static LISTENERS: SockMap = SockMap::with_max_entries(LISTENER_SLOTS, 0);

/// One element: when the daemon last reported, in `CLOCK_MONOTONIC` nanoseconds.
#[map]
pub(crate) static HEARTBEAT: Array<u64> = Array::with_max_entries(1, 0);

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
