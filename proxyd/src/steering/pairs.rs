//! The filter of address pairs, as the daemon keeps it: what a session holds is set, and set again
//! after each rotation.
#![expect(unsafe_code, reason = "the map is used as memory; each block says why")]

use std::collections::HashMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, AsRawFd as _};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aya::maps::MapData;
use steering_common::flow::Words;
use steering_common::pairs::{Pairs, SLOTS, slot};
use steering_common::rule::words;

use super::SteeringError;
use super::maps::{PAIRS, during};

/// The pairs of hosts that this daemon has connections between.
///
/// A packet is taken for one of the proxy's only when its pair is in the filter, so a pair is held
/// from before the first packet of a connection to after the last. Pairs that are held before
/// steering has started are in the filter as soon as it has.
#[derive(Clone, Debug, Default)]
pub struct HeldPairs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    filter: Option<Filter>,
    held: HashMap<Pair, usize>,
}

type Pair = (Words, Words);

/// What is known of the connections that are there when a filter is first used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Past {
    /// The filter has them: it is the one of the daemon before.
    Kept,
    /// No daemon has any; what remains of closed ones, the kernel lists.
    Ended,
    /// A daemon with a filter of its own may have some, and make more: every pair is taken for one
    /// of the proxy's until the first rotation.
    Elsewhere,
}

/// Keeps a pair in the filter until it is dropped, and for a time after that.
#[derive(Debug)]
#[must_use = "the pair is given up when this is dropped"]
pub struct HeldPair {
    pairs: HeldPairs,
    pair: Pair,
}

impl HeldPairs {
    /// Holds the pair of two addresses, in either direction.
    pub fn hold(&self, one: IpAddr, other: IpAddr) -> HeldPair {
        let pair = (words(one).1, words(other).1);
        let mut state = self.lock();
        *state.held.entry(pair).or_default() += 1;
        state.set(&pair);
        drop(state);
        HeldPair { pairs: self.clone(), pair }
    }

    /// Sets every pair that is held again. To be called more often than pairs are rotated, by every
    /// daemon that holds some.
    pub fn refresh(&self) {
        let state = self.lock();
        state.held.keys().for_each(|pair| state.set(pair));
    }

    /// Uses the pinned filter, which has the pairs of connections that are there already as its
    /// `past` says.
    pub(crate) fn attach(&self, directory: &Path, past: Past) -> Result<(), SteeringError> {
        let filter = Filter::open(directory)?;
        match past {
            Past::Kept => {}
            Past::Ended => present_pairs().iter().for_each(|pair| filter.set(pair)),
            Past::Elsewhere => filter.fill(filter.current() ^ 1, 1),
        }
        self.lock().filter = Some(filter);
        self.refresh();
        Ok(())
    }

    /// Forgets the pairs that were last set before the rotation before this one.
    pub(crate) fn rotate(&self) {
        let state = self.lock();
        let Some(filter) = &state.filter else { return };
        let next = filter.current() ^ 1;
        filter.fill(next, 0);
        filter.set_current(next);
        state.held.keys().for_each(|pair| state.set(pair));
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Counts are right whatever happened to the one who held the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn set(&self, pair: &Pair) {
        if let Some(filter) = &self.filter {
            filter.set(pair);
        }
    }
}

impl Drop for HeldPair {
    fn drop(&mut self) {
        let mut state = self.pairs.lock();
        // What remains of the connection is looked for a little longer.
        state.set(&self.pair);
        if let Some(count) = state.held.get_mut(&self.pair) {
            *count -= 1;
            if *count == 0 {
                state.held.remove(&self.pair);
            }
        }
    }
}

/// Between whom this host has TCP connections, or what remains of them (TIME-WAIT).
fn present_pairs() -> Vec<Pair> {
    let lists = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| {
        // No list, no connections: IPv6 can be absent from the kernel.
        fs::read_to_string(path).unwrap_or_default()
    });
    lists.iter().flat_map(|list| list.lines()).filter_map(pair_of).collect()
}

/// The pair of a line of such a list (`proc_pid_net(5)`): number, local and remote address, the
/// rest.
fn pair_of(line: &str) -> Option<Pair> {
    let mut fields = line.split_whitespace().skip(1);
    Some((address(fields.next()?)?, address(fields.next()?)?))
}

/// One or four words, each as it stands in memory, and the port.
fn address(field: &str) -> Option<Words> {
    let (words, _port) = field.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(words.get(at * 8..at * 8 + 8)?, 16).ok();
    match words.len() {
        8 => Some([0, 0, 0, word(0)?]),
        32 => Some([word(0)?, word(1)?, word(2)?, word(3)?]),
        _ => None,
    }
}

/// The map, mapped into memory. The programs and other daemons write it at the same time.
#[derive(Debug)]
struct Filter {
    pairs: NonNull<Pairs>,
}

// SAFETY: the memory is the kernel's and stays mapped as long as this lives; all access is atomic.
unsafe impl Send for Filter {}
// SAFETY: as above.
unsafe impl Sync for Filter {}

impl Filter {
    fn open(directory: &Path) -> Result<Self, SteeringError> {
        let map = MapData::from_pin(directory.join(PAIRS)).map_err(during(PAIRS))?;
        let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
        let (length, descriptor) = (size_of::<Pairs>(), map.fd().as_fd().as_raw_fd());
        // SAFETY: a new mapping; the shape of the map was checked, and it is one element long.
        let memory = unsafe { libc::mmap(ptr::null_mut(), length, access, flags, descriptor, 0) };
        if memory == libc::MAP_FAILED {
            return Err(SteeringError::MapMemory {
                name: PAIRS,
                source: io::Error::last_os_error(),
            });
        }
        match NonNull::new(memory.cast()) {
            Some(pairs) => Ok(Self { pairs }),
            None => {
                Err(SteeringError::MapMemory { name: PAIRS, source: io::ErrorKind::Other.into() })
            }
        }
    }

    /// The generation that is set.
    fn current(&self) -> u32 {
        self.generation().load(Ordering::Relaxed) & 1
    }

    fn set_current(&self, generation: u32) {
        // The slots were cleared before.
        self.generation().store(generation, Ordering::Release);
    }

    /// Sets every slot of a generation to `value`.
    fn fill(&self, generation: u32, value: u8) {
        for slot in 0..SLOTS {
            self.slot(generation, slot).store(value, Ordering::Relaxed);
        }
    }

    fn set(&self, (one, other): &Pair) {
        self.slot(self.current(), slot(one, other)).store(1, Ordering::Relaxed);
    }

    fn generation(&self) -> &AtomicU32 {
        // SAFETY: within the mapping.
        let current = unsafe { &raw mut (*self.pairs.as_ptr()).current };
        // SAFETY: aligned, mapped as long as `self`, and written atomically only.
        unsafe { AtomicU32::from_ptr(current) }
    }

    fn slot(&self, generation: u32, slot: usize) -> &AtomicU8 {
        let index = (generation & 1) as usize * SLOTS + slot % SLOTS;
        // SAFETY: within the mapping.
        let slots = unsafe { &raw mut (*self.pairs.as_ptr()).slots }.cast::<u8>();
        // SAFETY: there are two generations of slots.
        let slot = unsafe { slots.add(index) };
        // SAFETY: mapped as long as `self`; everybody writes single bytes.
        unsafe { AtomicU8::from_ptr(slot) }
    }
}

impl Drop for Filter {
    fn drop(&mut self) {
        // SAFETY: mapped by `open` with this length, and not used after this.
        let _fails_only_on_wrong_arguments =
            unsafe { libc::munmap(self.pairs.as_ptr().cast(), size_of::<Pairs>()) };
    }
}

#[cfg(test)]
mod tests {
    use steering_common::rule::words;

    use super::pair_of;

    #[test]
    fn listed_connections() {
        let pair = |one: &str, other: &str| {
            Some((words(one.parse().unwrap()).1, words(other.parse().unwrap()).1))
        };
        let native = |octets: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(octets));
        let (client, server) = (native([10, 1, 0, 2]), native([10, 2, 0, 9]));
        let v6 = [[0xfd, 0, 0, 1], [0; 4], [0; 4], [0, 0, 0, 2]].map(native).concat();
        for (name, line, expected) in [
            ("heading", "  sl  local_address rem_address   st tx_queue".to_owned(), None),
            ("IPv4", format!("   0: {server}:0016 {client}:9C40 06"), pair("10.2.0.9", "10.1.0.2")),
            ("IPv6", format!("   1: {v6}:0016 {v6}:9C40 01"), pair("fd00:1::2", "fd00:1::2")),
            ("cut", format!("   1: {server}:0016"), None),
            ("odd", format!("   1: {server}0:0016 {client}:9C40 01"), None),
            ("nothing", String::new(), None),
        ] {
            assert_eq!(pair_of(&line), expected, "{name}");
        }
    }
}
