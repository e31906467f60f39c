//! State and counters of the data plane, read from the pinned maps: works without a daemon.

use std::path::Path;
use std::time::Duration;

use steering_common::layout::InForce;
use steering_common::limits::{HEARTBEAT_LIMIT_NS, POLICIES_MAX};
use steering_common::stats::{PolicyCounts, Reason};

use super::SteeringError;
use super::load::Pins;
use super::maps::Counters;

/// What the data plane is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Hooks attached, as `program` on the interface with `ifindex`.
    pub hooks: Vec<Hook>,
    /// The table in force.
    pub table: InForce,
    /// How long ago the daemon reported; `None` when it never did or said that it leaves.
    pub silence: Option<Duration>,
    /// Packets by reason, in the order of the counters.
    pub reasons: Vec<(Reason, u64)>,
    /// SYNs by the name of the policy, of the policies that counted any; the name is cut to
    /// [`steering_common::limits::POLICY_NAME_BYTES`].
    pub policies: Vec<(String, PolicyCounts)>,
}

/// A program on an interface.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hook {
    /// Name of the program.
    pub program: String,
    /// Index of the interface.
    pub ifindex: u32,
}

impl Status {
    /// Whether the programs take the daemon for alive.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.silence.is_some_and(|silence| silence <= Duration::from_nanos(HEARTBEAT_LIMIT_NS))
    }

    /// Packets counted for `reason`.
    #[must_use]
    pub fn count(&self, reason: Reason) -> u64 {
        self.reasons.iter().find(|(one, _)| *one == reason).map_or(0, |(_, count)| *count)
    }
}

/// Reads the state of the data plane pinned under `pin_directory`.
///
/// # Errors
/// [`SteeringError::NotRunning`] when nothing is pinned there, [`SteeringError::NotReadable`]
/// without the right to read it, and when the maps cannot be read.
pub fn status(pin_directory: &Path) -> Result<Status, SteeringError> {
    let pins = Pins::new(pin_directory);
    let counters = Counters::open(pins.maps())?;
    let table = counters.in_force()?;
    let mut reasons = Vec::with_capacity(Reason::ALL.len());
    for reason in Reason::ALL {
        reasons.push((reason, counters.reason(reason as u32)?));
    }
    let mut policies = Vec::new();
    for slot in 0..POLICIES_MAX {
        let counts = counters.policy(slot)?;
        if counts != PolicyCounts::default() {
            policies.push((counters.name(slot)?, counts));
        }
    }
    let silence = counters.silence_ns()?.map(Duration::from_nanos);
    Ok(Status { hooks: pins.hooks()?, table, silence, reasons, policies })
}
