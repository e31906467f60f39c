//! How many new connections a policy takes per second (a token bucket, in the form of the virtual
//! scheduling algorithm of ITU-T I.371).

/// What may be taken at once after a quiet time: as many as in one second.
const BURST_NS: u64 = SECOND_NS;
const SECOND_NS: u64 = 1_000_000_000;

/// The pace of one policy.
///
/// Processors change it without a lock: where two come together, one connection more is taken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pace {
    /// Time between two connections; 0 is no limit.
    pub interval_ns: u64,
    /// When the next would be due, in the nanoseconds of the clock that [`Self::take`] is given.
    pub next_ns: u64,
}

const _: () = assert!(size_of::<Pace>() == 16);

impl Pace {
    /// The time between two connections at a rate; 0 for no limit.
    #[must_use]
    pub const fn interval_ns(per_s: u32) -> u64 {
        match SECOND_NS.checked_div(per_s as u64) {
            Some(interval_ns) => interval_ns,
            None => 0,
        }
    }

    /// When the next connection is due once one is taken at `now_ns`; `None` where it must not be.
    #[inline(always)]
    #[must_use]
    pub const fn take(&self, now_ns: u64) -> Option<u64> {
        let due_ns = if self.next_ns > now_ns { self.next_ns } else { now_ns };
        if due_ns - now_ns >= BURST_NS { None } else { Some(due_ns + self.interval_ns) }
    }
}

#[cfg(feature = "user")]
#[expect(unsafe_code, reason = "marker for types that may be copied into maps byte by byte")]
// SAFETY: `repr(C)`, only integers, no padding: asserted above.
unsafe impl aya::Pod for Pace {}

#[cfg(test)]
mod tests {
    use super::{Pace, SECOND_NS};

    /// How many of `count` connections, `apart_ns` from each other, are taken.
    fn taken(pace: &mut Pace, from_ns: u64, count: u64, apart_ns: u64) -> u64 {
        let mut taken = 0;
        for number in 0..count {
            if let Some(next_ns) = pace.take(from_ns + number * apart_ns) {
                pace.next_ns = next_ns;
                taken += 1;
            }
        }
        taken
    }

    #[test]
    fn as_many_as_the_rate_are_taken() {
        let start = 1_000 * SECOND_NS;
        for (name, per_s, count, apart_ns, expected) in [
            ("all at once", 10, 100, 0, 10),
            ("slower than the rate", 10, 100, SECOND_NS / 5, 100),
            ("at the rate", 10, 100, SECOND_NS / 10, 100),
            ("twice the rate for ten seconds", 10, 200, SECOND_NS / 20, 110),
            ("one per second, at once", 1, 5, 0, 1),
            ("no limit", 0, 10_000, 0, 10_000),
        ] {
            let mut pace = Pace { interval_ns: Pace::interval_ns(per_s), next_ns: 0 };
            assert_eq!(taken(&mut pace, start, count, apart_ns), expected, "{name}");
        }
    }

    #[test]
    fn a_quiet_time_saves_no_more_than_a_second() {
        let mut pace = Pace { interval_ns: Pace::interval_ns(10), next_ns: 0 };
        assert_eq!(taken(&mut pace, SECOND_NS, 50, 0), 10);
        assert_eq!(taken(&mut pace, 100 * SECOND_NS, 50, 0), 10);
    }
}
