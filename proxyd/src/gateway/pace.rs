//! Slows down who guesses passwords, over all connections, and locks nobody out.
//!
//! `docs/decisions/0025-guessing-is-slowed.md` has the reasons for the numbers.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::clock::Clock;

/// Wrong passwords from one source that cost it nothing: more than one connection may try.
const SOURCE_FREE: u32 = 8;

/// Wrong passwords for one user name, from whatever sources, that cost nothing.
const NAME_FREE: u32 = 16;

/// The first wait; each wrong password more doubles it.
const WAIT_FIRST: Duration = Duration::from_millis(250);

/// The longest wait that a source brings on itself.
const SOURCE_WAIT_MAX: Duration = Duration::from_secs(8);

/// The longest wait that strangers can bring on a user name; short, for it meets the user too.
const NAME_WAIT_MAX: Duration = Duration::from_secs(4);

/// After this time one wrong password is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Sources and names are counted in this many slots each, by a secret hash: what guessers send
/// takes no memory, and who shares a slot with one waits like a name that is guessed at.
const SLOTS: usize = 16_384;

/// Bits of an IPv6 address that one customer of a provider cannot choose.
const V6_SOURCE_BITS: u32 = 64;

/// Wrong passwords of all connections, and where users have logged in from.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Clock,
    secret: RandomState,
    counts: Mutex<Counts>,
}

/// Where an attempt comes from, and whom it is for.
#[derive(Debug)]
pub(super) struct Tried {
    source: u64,
    name: u64,
    both: u64,
}

#[derive(Debug)]
struct Counts {
    sources: Vec<Count>,
    names: Vec<Count>,
    /// Hashes of a name and a source that it has logged in from.
    familiar: Vec<u64>,
}

impl Pace {
    /// Nobody has tried anything yet.
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, secret: RandomState::new(), counts: Mutex::new(Counts::new()) }
    }

    /// Waits as long as a password for this name, from this address, has to.
    pub(super) async fn wait(&self, name: &str, client: IpAddr) -> Tried {
        let source = source(client);
        let tried = Tried {
            source: self.secret.hash_one(source),
            name: self.secret.hash_one(name),
            both: self.secret.hash_one((name, source)),
        };
        let now = self.clock.now();
        let wait = self.with(|counts| counts.wait(&tried, now));
        if !wait.is_zero() {
            self.clock.sleep_until(now.saturating_add(wait)).await;
        }
        tried
    }

    /// Notes whether the password was right.
    pub(super) fn judged(&self, tried: &Tried, is_right: bool) {
        let now = self.clock.now();
        self.with(|counts| if is_right { counts.right(tried) } else { counts.wrong(tried, now) });
    }

    fn with<T>(&self, look: impl FnOnce(&mut Counts) -> T) -> T {
        // Nothing that runs under the lock can panic half way through a change.
        look(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Counts {
    fn new() -> Self {
        Self {
            sources: vec![Count::default(); SLOTS],
            names: vec![Count::default(); SLOTS],
            familiar: vec![0; SLOTS],
        }
    }

    fn wait(&mut self, tried: &Tried, now: Duration) -> Duration {
        let wrong = |counts: &mut [Count], hash| slot(counts, hash).map_or(0, |c| c.wrong_at(now));
        let by_source = doubled(wrong(&mut self.sources, tried.source), SOURCE_FREE);
        let by_name = doubled(wrong(&mut self.names, tried.name), NAME_FREE);
        let is_familiar = slot(&mut self.familiar, tried.both).is_some_and(|s| *s == tried.both);
        // Strangers do not slow down a user at a place where the user has logged in before.
        let by_name = if is_familiar { Duration::ZERO } else { by_name.min(NAME_WAIT_MAX) };
        by_source.min(SOURCE_WAIT_MAX).max(by_name)
    }

    /// A right password forgives none that were wrong: a guesser may have an account too.
    fn right(&mut self, tried: &Tried) {
        if let Some(slot) = slot(&mut self.familiar, tried.both) {
            *slot = tried.both;
        }
    }

    fn wrong(&mut self, tried: &Tried, now: Duration) {
        let Self { sources, names, .. } = self;
        for (counts, hash) in [(sources, tried.source), (names, tried.name)] {
            if let Some(count) = slot(counts, hash) {
                let wrong = count.wrong_at(now).saturating_add(1);
                *count = Count { wrong, since: now };
            }
        }
    }
}

/// Wrong passwords, as of some time.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    wrong: u32,
    since: Duration,
}

impl Count {
    /// How many are not forgotten.
    fn wrong_at(self, now: Duration) -> u32 {
        let passed = now.saturating_sub(self.since).as_secs() / FORGOTTEN_AFTER.as_secs();
        self.wrong.saturating_sub(u32::try_from(passed).unwrap_or(u32::MAX))
    }
}

/// The slot of a hash.
fn slot<T>(slots: &mut [T], hash: u64) -> Option<&mut T> {
    let count = u64::try_from(slots.len()).ok()?;
    slots.get_mut(usize::try_from(hash.checked_rem(count)?).ok()?)
}

/// The wait after `wrong` passwords of which `free` cost nothing.
fn doubled(wrong: u32, free: u32) -> Duration {
    match wrong.checked_sub(free) {
        None | Some(0) => Duration::ZERO,
        Some(above) => WAIT_FIRST.saturating_mul(2_u32.saturating_pow(above - 1)),
    }
}

/// The addresses that count as one source: an IPv4 address, or an IPv6 network of 64 bits.
fn source(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(v6) => {
            let kept = u128::MAX << (Ipv6Addr::BITS - V6_SOURCE_BITS);
            Ipv6Addr::from_bits(v6.to_bits() & kept).into()
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(1_000);

    /// Numbers below [`SLOTS`] are their own slots.
    fn tried(source: u64, name: u64) -> Tried {
        Tried { source, name, both: source * 100 + name }
    }

    fn wrong(counts: &mut Counts, times: u32, tried: &Tried) {
        (0..times).for_each(|_| counts.wrong(tried, NOW));
    }

    #[test]
    fn a_source_waits_longer_and_longer_but_not_for_ever() {
        let mut counts = Counts::new();
        let mut waits = Vec::new();
        for name in 0..20 {
            waits.push(counts.wait(&tried(1, name), NOW).as_millis());
            counts.wrong(&tried(1, name), NOW);
        }
        assert_eq!(waits[..9], [0; 9]);
        assert_eq!(waits[9..15], [250, 500, 1_000, 2_000, 4_000, 8_000]);
        assert!(waits[15..].iter().all(|wait| *wait == 8_000), "{waits:?}");
        assert_eq!(counts.wait(&tried(2, 1), NOW), Duration::ZERO, "another source");
    }

    #[test]
    fn a_name_that_is_guessed_at_from_everywhere_is_slowed_and_stays_usable() {
        let mut counts = Counts::new();
        counts.right(&tried(1, 7));
        (100..10_100).for_each(|source| counts.wrong(&tried(source, 7), NOW));
        assert_eq!(counts.wait(&tried(50, 7), NOW), NAME_WAIT_MAX, "a new place");
        assert_eq!(counts.wait(&tried(1, 7), NOW), Duration::ZERO, "a familiar place");
        assert_eq!(counts.wait(&tried(50, 8), NOW), Duration::ZERO, "another name");
    }

    #[test]
    fn a_right_password_forgives_nothing_and_time_does() {
        let mut counts = Counts::new();
        wrong(&mut counts, SOURCE_FREE + 3, &tried(1, 7));
        counts.right(&tried(1, 8));
        for (after, expected_ms) in [(0, 1_000), (29, 1_000), (30, 500), (90, 0), (9_999, 0)] {
            let wait = counts.wait(&tried(1, 8), NOW + Duration::from_secs(after));
            assert_eq!(wait, Duration::from_millis(expected_ms), "after {after} s");
        }
    }

    #[test]
    fn counts_do_not_overflow() {
        let mut counts = Counts::new();
        counts.sources[1] = Count { wrong: u32::MAX, since: NOW };
        counts.wrong(&tried(1, 1), NOW);
        assert_eq!(counts.wait(&tried(1, 1), NOW), SOURCE_WAIT_MAX);
    }

    #[test]
    fn sources() {
        let cases = [
            ("10.1.0.5", "10.1.0.5"),
            ("::ffff:10.1.0.5", "10.1.0.5"),
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ];
        for (client, expected) in cases {
            assert_eq!(source(client.parse().unwrap()).to_string(), expected);
        }
    }
}
