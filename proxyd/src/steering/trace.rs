//! Verdicts about new connections as they are made, read from the ring that the programs write
//! while somebody looks.

use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use aya::maps::{Array, MapData, RingBuf};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use steering_common::flow::Family;
use steering_common::stats::Reason;
use steering_common::trace::{NO_POLICY, Traced};

use super::SteeringError;
use super::load::Pins;
use super::maps::{Counters, during, monotonic_ns, open};

/// How long the programs go on writing after the last word of whoever looks: it may be killed.
const HORIZON_NS: u64 = 3_000_000_000;

/// How often it gives its word.
const RENEWAL: Duration = Duration::from_secs(1);

/// A verdict about a packet that opens a connection, or may hide one that does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// How long ago.
    pub age: Duration,
    /// What became of the packet.
    pub reason: Reason,
    /// The policy, where one decided.
    pub policy: Option<String>,
    /// Client address and port; port 0 where the packet does not show it.
    pub source: (IpAddr, u16),
    /// Server address and port.
    pub destination: (IpAddr, u16),
    /// Index of the interface it arrived on.
    pub ifindex: u32,
    /// Outermost VLAN identifier, 0 for untagged.
    pub vlan: u16,
}

/// Somebody who looks; the programs stop writing when it is gone.
pub struct Tracer {
    tracing: Array<MapData, u64>,
    ring: RingBuf<MapData>,
    counters: Counters,
}

impl Tracer {
    /// Begins to look at the data plane pinned under `pin_directory`.
    ///
    /// # Errors
    /// [`SteeringError::Tracing`] while somebody else looks, [`SteeringError::NotRunning`] when
    /// nothing is pinned there, [`SteeringError::NotReadable`] without the right to.
    pub fn start(pin_directory: &Path) -> Result<Self, SteeringError> {
        let pins = Pins::new(pin_directory);
        let tracing: Array<_, u64> = open(pins.maps(), "TRACING")?;
        if tracing.get(&0, 0).map_err(during("TRACING"))? > monotonic_ns()? {
            return Err(SteeringError::Tracing);
        }
        let (ring, counters) = (open(pins.maps(), "TRACE")?, Counters::open(pins.maps())?);
        let mut tracer = Self { tracing, ring, counters };
        // What was written for whoever looked before.
        while tracer.ring.next().is_some() {}
        tracer.renew()?;
        Ok(tracer)
    }

    /// The next verdict, or none within a second.
    ///
    /// # Errors
    /// When the maps cannot be read or written, which is not expected.
    pub fn wait_for_next(&mut self) -> Result<Option<Verdict>, SteeringError> {
        self.renew()?;
        let mut traced = self.take();
        if traced.is_none() {
            self.wait().map_err(SteeringError::Poll)?;
            traced = self.take();
        }
        traced.map(|traced| self.verdict(&traced)).transpose()
    }

    /// Verdicts that were not written because the ring was full, since the programs were loaded.
    ///
    /// # Errors
    /// When the counters cannot be read, which is not expected.
    pub fn lost(&self) -> Result<u64, SteeringError> {
        self.counters.reason(Reason::TraceLost as u32)
    }

    fn take(&mut self) -> Option<Traced> {
        self.ring.next().and_then(|item| Traced::from_bytes(&item))
    }

    fn wait(&self) -> io::Result<()> {
        let timeout = PollTimeout::try_from(RENEWAL).map_err(io::Error::other)?;
        let mut ring = [PollFd::new(self.ring.as_fd(), PollFlags::POLLIN)];
        poll(&mut ring, timeout)?;
        Ok(())
    }

    fn renew(&mut self) -> Result<(), SteeringError> {
        let until_ns = monotonic_ns()? + HORIZON_NS;
        self.tracing.set(0, until_ns, 0).map_err(during("TRACING"))
    }

    fn verdict(&self, traced: &Traced) -> Result<Verdict, SteeringError> {
        let reason = usize::try_from(traced.reason).ok();
        let reason = reason.and_then(|reason| Reason::ALL.get(reason).copied());
        let policy = match traced.policy {
            NO_POLICY => None,
            slot => Some(self.counters.name(slot)?),
        };
        Ok(Verdict {
            age: Duration::from_nanos(monotonic_ns()?.saturating_sub(traced.at_ns)),
            reason: reason.unwrap_or(Reason::Malformed),
            policy,
            source: (address(&traced.source, traced.family), traced.source_port),
            destination: (address(&traced.destination, traced.family), traced.destination_port),
            ifindex: traced.ifindex,
            vlan: traced.vlan,
        })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // The programs would notice by themselves, a little later.
        let _soon_anyway = self.tracing.set(0, 0, 0);
    }
}

fn address(words: &[u32; 4], family: u8) -> IpAddr {
    let [a, b, c, d] = words.map(u32::to_ne_bytes);
    if family == Family::V4 as u8 {
        return IpAddr::from(d);
    }
    let mut octets = [0; 16];
    for (to, from) in octets.iter_mut().zip([a, b, c, d].concat()) {
        *to = from;
    }
    IpAddr::from(octets)
}
