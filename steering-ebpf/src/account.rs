//! Counters: every way out of the programs passes here.

use aya_ebpf::bindings::tcx_action_base::{TCX_DROP, TCX_NEXT};
use steering_common::stats::{PolicyCounts, Reason};

use crate::maps::{POLICY_COUNTS, REASON_COUNTS};

/// Counts `reason` and lets the packet go on.
#[inline(always)]
pub(crate) fn pass(reason: Reason) -> i32 {
    count(reason);
    TCX_NEXT
}

/// Counts `reason` and discards the packet.
#[inline(always)]
pub(crate) fn discard(reason: Reason) -> i32 {
    count(reason);
    TCX_DROP
}

/// Counts `reason`.
#[inline(always)]
pub(crate) fn count(reason: Reason) {
    if let Some(counter) = REASON_COUNTS.get_ptr_mut(reason as u32) {
        // SAFETY: a per-CPU element; programs of one hook do not interrupt each other on a CPU.
        unsafe { *counter += 1 };
    }
}

/// Changes the counts of a policy.
#[inline(always)]
pub(crate) fn count_policy(policy: u16, change: impl FnOnce(&mut PolicyCounts)) {
    if let Some(counts) = POLICY_COUNTS.get_ptr_mut(u32::from(policy)) {
        // SAFETY: a per-CPU element; programs of one hook do not interrupt each other on a CPU.
        change(unsafe { &mut *counts });
    }
}
