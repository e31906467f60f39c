//! The table walk: the same answer as `steering_common::decide`.

use aya_ebpf::helpers::bpf_loop;
use core::ffi::{c_long, c_void};
use core::ptr;
use steering_common::action::Verdict;
use steering_common::flow::Flow;
use steering_common::limits::ENTRIES_MAX;

use crate::maps::{ACTIVE, ENTRIES, LENGTHS};

/// What a walk looks for, and what it found.
struct Walk<'a> {
    flow: &'a Flow,
    /// First entry of the generation.
    base: u32,
    ports: Ports,
    found: Option<Verdict>,
}

/// Whether the packet shows its ports.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ports {
    /// They stand in the flow.
    Known,
    /// Another fragment has them.
    Hidden,
}

/// The verdict of the first entry that matches, in the generation in use.
#[inline(always)]
pub(crate) fn classify(flow: &Flow, ports: Ports) -> Option<Verdict> {
    let generation = *ACTIVE.get(0)? & 1;
    let length = *LENGTHS.get(generation)?;
    let mut walk = Walk { flow, base: generation * ENTRIES_MAX, ports, found: None };
    let context = ptr::from_mut(&mut walk).cast::<c_void>();
    // SAFETY: `step` has the signature that the helper calls, and `walk` outlives the loop.
    let _steps = unsafe { bpf_loop(length.min(ENTRIES_MAX), step as *mut c_void, context, 0) };
    walk.found
}

/// Goes on to the next entry.
const NEXT: c_long = 0;
/// Ends the walk.
const STOP: c_long = 1;

unsafe extern "C" fn step(index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the helper hands over the pointer that `classify` gave it, and nothing else uses it.
    let walk = unsafe { &mut *context.cast::<Walk<'_>>() };
    let Some(entry) = ENTRIES.get(walk.base + index) else {
        return STOP;
    };
    let verdict = match walk.ports {
        Ports::Known => entry.verdict(walk.flow),
        Ports::Hidden => entry.verdict_without_ports(walk.flow),
    };
    if verdict.is_none() {
        return NEXT;
    }
    walk.found = verdict;
    STOP
}
