//! Packets per second through the gateway: frames made in the kernel (`BPF_F_TEST_XDP_LIVE_FRAMES`)
//! leave the client's interface, cross the gateway and are dropped at the server's, all of it on
//! one processor.

use anyhow::{Result, bail};
use nix::net::if_::if_nametoindex;

use super::assemble;
use super::bpf::{self, Kind, Link, Outcome, Program, TestRun};
use super::frames::Frame;
use super::topology::{CLIENT_INTERFACE, Lab, PEER_INTERFACE, SERVER_INTERFACE, pin, working_cpu};
use crate::bench::report::{Report, median};

/// Frames that the kernel makes at one time; the queue of a veth holds 256.
const BATCH: u32 = 64;

/// How long one measurement is to take: long against the kernel's own ticks.
const MEASURE_NS: f64 = 150e6;

/// Most packets of one measurement, so that counts stay far from their limits.
const PACKETS_MAX: f64 = 2e6;

/// Pairs of measurements; their median counts.
const ROUNDS: usize = 7;

/// The part of the packets that may get lost.
const LOSS_MAX: f64 = 0.001;

/// Attempts at one measurement. When others want the processor, the kernel may put off what comes
/// after the client's interface, whose queue then overflows: such a measurement is not one.
const ATTEMPTS: usize = 10;

/// A lab whose packets are taken away at the end of their way.
#[derive(Debug)]
pub(super) struct Track {
    /// The hosts.
    pub(super) lab: Lab,
    /// The program at the server's interface.
    _sink: Link,
}

impl Track {
    /// Every interface polls (NAPI), as those of real network cards do: a veth takes frames of XDP
    /// programs only then. Checksums are made at once, since such frames cannot put them off.
    pub(super) fn new() -> Result<Self> {
        let lab = Lab::new()?;
        for (namespace, interfaces) in [
            (&lab.client, [PEER_INTERFACE].as_slice()),
            (&lab.gateway, &[CLIENT_INTERFACE, SERVER_INTERFACE]),
            (&lab.server, &[PEER_INTERFACE]),
        ] {
            for interface in interfaces {
                namespace.run("ethtool", &format!("-K {interface} gro on tx off"))?;
            }
        }
        let sink = Program::load(Kind::Xdp, &assemble::sink())?;
        let sink = lab.server.inside(|| sink.attach(if_nametoindex(PEER_INTERFACE)?))?;
        Ok(Self { lab, _sink: sink })
    }
}

/// Sends frames of one kind, from any lab.
pub(super) struct Injector {
    program: Program,
    frame: Frame,
}

/// Two subjects, measured in turns.
#[derive(Debug, Clone, Copy)]
pub(super) struct Compared {
    /// Nanoseconds of a packet of the baseline's.
    pub(super) baseline_ns: f64,
    /// Nanoseconds of a packet of the subject's.
    pub(super) subject_ns: f64,
    /// What the subject takes longer than the baseline's measurements before and after it.
    pub(super) added_ns: f64,
}

impl Injector {
    /// Sends `frame`, to as many flows as `flows_mask` and 1 says.
    pub(super) fn new(frame: Frame, flows_mask: i32) -> Result<Self> {
        let program = Program::load(Kind::Xdp, &assemble::injector(&frame, flows_mask)?)?;
        Ok(Self { program, frame })
    }

    /// Measures a baseline and a subject in turns, and reports it.
    pub(super) fn report(
        &self,
        case: &str,
        subject: &str,
        (baseline, track): (&Track, &Track),
        report: &mut Report,
    ) -> Result<Compared> {
        let compared = self.compare(baseline, track)?;
        let Compared { baseline_ns, subject_ns, added_ns } = compared;
        println!("forwarding, {case}: {subject}: {added_ns:.0} ns added to {baseline_ns:.0} ns");
        let mut rows = report.case(format!("forwarding, {case}"));
        let metric = ("time per packet", "ns");
        rows.row(&format!("kernel, beside {subject}"), metric, baseline_ns);
        rows.compared(subject, metric, subject_ns, baseline_ns);
        rows.row(subject, ("added per packet", "ns"), added_ns);
        Ok(compared)
    }

    /// Measures a baseline and a subject in turns: A, B, A, B, …, A.
    fn compare(&self, baseline: &Track, subject: &Track) -> Result<Compared> {
        let counts = [self.packets(baseline)?, self.packets(subject)?];
        let mut before = self.run(baseline, counts[0])?;
        let (mut baselines, mut subjects, mut added) = (vec![before], Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let own = self.run(subject, counts[1])?;
            let after = self.run(baseline, counts[0])?;
            added.push(own - f64::midpoint(before, after));
            subjects.push(own);
            baselines.push(after);
            before = after;
        }
        Ok(Compared {
            baseline_ns: median(&baselines)?,
            subject_ns: median(&subjects)?,
            added_ns: median(&added)?,
        })
    }

    /// As many packets as take [`MEASURE_NS`], found by a few; they warm the caches, too.
    fn packets(&self, track: &Track) -> Result<u32> {
        self.run(track, BATCH * 4)?;
        let ns = self.run(track, BATCH * 4)?;
        let batches = (MEASURE_NS / ns).min(PACKETS_MAX) / f64::from(BATCH);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "limited above"
        )]
        let batches = batches.ceil() as u32;
        Ok(batches.max(4) * BATCH)
    }

    /// Nanoseconds of each of `count` packets.
    ///
    /// # Errors
    /// When packets get lost in every attempt.
    fn run(&self, track: &Track, count: u32) -> Result<f64> {
        let mut arrived = 0;
        for _ in 0..ATTEMPTS {
            let before = track.lab.server.received(PEER_INTERFACE)?;
            let took = self.send(track, count)?;
            arrived = track.lab.server.received(PEER_INTERFACE)? - before;
            #[expect(clippy::cast_precision_loss, reason = "far below 2 to the 52nd")]
            let part = arrived as f64 / f64::from(count);
            if part >= 1.0 - LOSS_MAX {
                return Ok(f64::from(took.mean_ns) / part.min(1.0));
            }
        }
        bail!("{arrived} of {count} packets arrived at the server, at the last of {ATTEMPTS} tries")
    }

    fn send(&self, track: &Track, count: u32) -> Result<Outcome> {
        track.lab.client.inside(|| {
            pin(working_cpu())?;
            let context = context(&self.frame, if_nametoindex(PEER_INTERFACE)?)?;
            let run = TestRun {
                frame: &self.frame.bytes,
                context: &context,
                repeat: count,
                live_batch: Some(BATCH),
            };
            bpf::test_run(self.program.descriptor(), run)
        })
    }
}

/// `struct xdp_md` for a frame that comes in on an interface: its length, and the interface.
fn context(frame: &Frame, ifindex: u32) -> Result<Vec<u8>> {
    let data_end = u32::try_from(frame.bytes.len())?;
    let fields = [0, data_end, 0, ifindex, 0, 0];
    Ok(fields.into_iter().flat_map(u32::to_ne_bytes).collect())
}
