//! The compiled table in its maps, for `steering_common::lookup`.

use aya_ebpf::helpers::bpf_loop;
use core::ffi::{c_long, c_void};
use core::ptr;
use steering_common::lookup::{self, Search, Table};
use steering_common::table::{CELLS_PER_ELEMENT, Class, Layout, Node, Outcome, WORDS_PER_ELEMENT};

use crate::maps::{
    BLOCKS, CELLS, CLASSES, INTERFACE_ROWS, LAYOUT, LINKS, NODES, OUTCOMES, PORT_TERMS,
    VLAN_COLUMNS, WORDS,
};

/// The table that was loaded with these programs.
pub(crate) struct Loaded;

impl Table for Loaded {
    #[inline(always)]
    fn layout(&self) -> Option<&Layout> {
        LAYOUT.get(0)
    }

    #[inline(always)]
    fn block_entry(&self, block: u32, octet: u8) -> Option<u32> {
        BLOCKS.get(block)?.get(usize::from(octet)).copied()
    }

    #[inline(always)]
    fn node(&self, number: u32) -> Option<&Node> {
        NODES.get(number)
    }

    #[inline(always)]
    fn port(&self, port: u16) -> Option<u32> {
        PORT_TERMS.get(0)?.get(usize::from(port)).copied()
    }

    #[inline(always)]
    fn interface_row(&self, ifindex: u32) -> u32 {
        // SAFETY: nothing writes the map once the programs run.
        unsafe { INTERFACE_ROWS.get(ifindex) }.copied().unwrap_or(0)
    }

    #[inline(always)]
    fn vlan_column(&self, vlan: u16) -> Option<u32> {
        VLAN_COLUMNS.get(0)?.get(usize::from(vlan)).copied()
    }

    #[inline(always)]
    fn link(&self, number: u32) -> Option<u32> {
        LINKS.get(number).copied()
    }

    #[inline(always)]
    fn cell(&self, number: u32) -> Option<u16> {
        let element = CELLS.get(number / CELLS_PER_ELEMENT)?;
        element.get((number % CELLS_PER_ELEMENT) as usize).copied()
    }

    #[inline(always)]
    fn class(&self, number: u32) -> Option<&Class> {
        CLASSES.get(number)
    }

    #[inline(always)]
    fn word(&self, number: u32) -> Option<u64> {
        let element = WORDS.get(number / WORDS_PER_ELEMENT)?;
        element.get((number % WORDS_PER_ELEMENT) as usize).copied()
    }

    #[inline(always)]
    fn outcome(&self, rule: u32) -> Option<Outcome> {
        OUTCOMES.get(rule).copied()
    }

    #[inline(always)]
    fn by_nodes(&self, root: u32, upper: u64, lower: u64) -> Option<u32> {
        some(steer_by_nodes(root, upper, lower))
    }

    #[inline(always)]
    fn run(&self, search: &mut Search<'_>) {
        let context = ptr::from_mut(search).cast::<c_void>();
        // SAFETY: `step` has the signature that the helper calls, and `search` outlives the loop.
        let _steps = unsafe { bpf_loop(Search::STEPS_MAX, step as *mut c_void, context, 0) };
    }

    #[inline(always)]
    fn first_common(&self, source: u32, destination: u32, port: u32, link: u32) -> Option<u32> {
        some(steer_first_common(source, destination, port, link))
    }
}

/// Goes on with the loop.
const NEXT: c_long = 0;
/// Ends the loop.
const STOP: c_long = 1;

unsafe extern "C" fn step(_index: u32, context: *mut c_void) -> c_long {
    // SAFETY: the helper hands over the pointer that `run` gave it, and nothing else uses it.
    let search = unsafe { &mut *context.cast::<Search<'_>>() };
    if search.step(&Loaded) { NEXT } else { STOP }
}

/// What a function below returns for "none"; no term and no rule has this number.
const NONE: u32 = u32::MAX;

#[inline(always)]
const fn some(number: u32) -> Option<u32> {
    if number == NONE { None } else { Some(number) }
}

// Global functions, which take and return numbers: the verifier reads each once, and not again for
// every way that leads to it.

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn steer_by_nodes(root: u32, upper: u64, lower: u64) -> u32 {
    lookup::by_nodes(&Loaded, root, upper, lower).unwrap_or(NONE)
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn steer_first_common(source: u32, destination: u32, port: u32, link: u32) -> u32 {
    lookup::first_common(&Loaded, source, destination, port, link).unwrap_or(NONE)
}
