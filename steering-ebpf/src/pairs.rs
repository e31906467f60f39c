//! The filter of address pairs: whether a packet can be one of the proxy's connections.

use core::ptr;
use steering_common::flow::Flow;
use steering_common::pairs::{SLOTS, slot};

use crate::maps::PAIRS;

/// Whether the proxy may have a connection between the two hosts of a packet. "No" is certain.
#[inline(always)]
pub(crate) fn may_connect(flow: &Flow) -> bool {
    let Some(pairs) = PAIRS.get_ptr(0) else {
        return true;
    };
    let slot = slot(&flow.source, &flow.destination);
    // SAFETY: the element is there as long as the program is.
    let slots = unsafe { &raw const (*pairs).slots };
    let slots = slots.cast::<u8>();
    // SAFETY: a slot is below the number of slots; volatile because the daemon writes meanwhile.
    let one = unsafe { ptr::read_volatile(slots.add(slot)) };
    // SAFETY: as above, in the second generation.
    let other = unsafe { ptr::read_volatile(slots.add(SLOTS + slot)) };
    one | other != 0
}

/// Says that the proxy may have a connection between the two hosts of a packet.
#[inline(always)]
pub(crate) fn set(flow: &Flow) {
    let Some(pairs) = PAIRS.get_ptr_mut(0) else {
        return;
    };
    let slot = slot(&flow.source, &flow.destination);
    // SAFETY: the element is there as long as the program is.
    let current = unsafe { ptr::read_volatile(&raw const (*pairs).current) } & 1;
    // SAFETY: as above.
    let slots = unsafe { &raw mut (*pairs).slots }.cast::<u8>();
    // SAFETY: a slot is below the number of slots, and there are two generations of them.
    unsafe { ptr::write_volatile(slots.add(current as usize * SLOTS + slot), 1) };
}
