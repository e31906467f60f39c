//! Nanoseconds of one packet in the program that is attached to an interface
//! (`BPF_PROG_TEST_RUN`), less those of a program that does nothing.

use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramFd, SchedClassifier, TcAttachType};
use nix::net::if_::if_nametoindex;

use super::assemble;
use super::bpf::{self, Kind, Program, TestRun};
use super::frames::Frame;
use super::topology::{CLIENT_INTERFACE, Lab, pin, working_cpu};

/// Runs of one frame in one system call.
const REPEAT: u32 = 50_000;

/// Measurements, of which the shortest counts: everything else that happens makes them longer.
const ATTEMPTS: usize = 5;

/// Where `struct __sk_buff` keeps the interface, and its size.
const IFINDEX_AT: usize = 40;
const CONTEXT_BYTES: usize = 192;

/// Goes on as if the program were not there, as the kernel gives it back.
const NEXT: u32 = u32::MAX;

/// What one packet takes in the program that steers.
#[derive(Debug)]
pub(super) struct Measured<'l> {
    lab: &'l Lab,
    /// The program on the client's side of the gateway.
    program: ProgramFd,
    /// Does nothing.
    twin: Program,
}

impl<'l> Measured<'l> {
    /// The program that is attached first on the client's side of the gateway.
    pub(super) fn of(lab: &'l Lab) -> Result<Self> {
        let program = lab.gateway.inside(|| {
            let (_revision, programs) =
                SchedClassifier::query_tcx(CLIENT_INTERFACE, TcAttachType::Ingress)?;
            let first = programs.into_iter().next().context("no program is attached")?;
            Ok(first.fd()?)
        })?;
        let twin = Program::load(Kind::Classifier, &assemble::empty_classifier())?;
        Ok(Self { lab, program, twin })
    }

    /// Nanoseconds that steering adds to one packet of one flow, which it passes on.
    pub(super) fn added_ns(&self, frame: &Frame) -> Result<f64> {
        self.inside(|context| {
            let mut shortest = Shortest::default();
            for _ in 0..ATTEMPTS {
                shortest.twin(run(self.twin.descriptor(), frame, context, REPEAT)?);
                shortest.own(run(self.program.as_fd(), frame, context, REPEAT)?);
            }
            Ok(shortest.difference())
        })
    }

    /// The same for packets of many flows, one after the other: each run finds the caches as the
    /// other flows left them.
    pub(super) fn added_ns_of_many(&self, frames: &[Frame]) -> Result<f64> {
        ensure!(!frames.is_empty(), "no flow to measure");
        self.inside(|context| {
            let mut shortest = Shortest::default();
            for _ in 0..ATTEMPTS {
                shortest.twin(each(self.twin.descriptor(), frames, context)?);
                shortest.own(each(self.program.as_fd(), frames, context)?);
            }
            Ok(shortest.difference())
        })
    }

    fn inside(&self, work: impl FnOnce(&[u8]) -> Result<f64> + Send) -> Result<f64> {
        self.lab.gateway.inside(|| {
            pin(working_cpu())?;
            let mut context = vec![0; CONTEXT_BYTES];
            let ifindex = if_nametoindex(CLIENT_INTERFACE)?.to_ne_bytes();
            for (to, from) in context.iter_mut().skip(IFINDEX_AT).zip(ifindex) {
                *to = from;
            }
            work(&context)
        })
    }
}

/// The shortest measurements.
#[derive(Debug)]
struct Shortest {
    twin: f64,
    own: f64,
}

impl Default for Shortest {
    fn default() -> Self {
        Self { twin: f64::INFINITY, own: f64::INFINITY }
    }
}

impl Shortest {
    const fn twin(&mut self, ns: f64) {
        self.twin = self.twin.min(ns);
    }

    const fn own(&mut self, ns: f64) {
        self.own = self.own.min(ns);
    }

    fn difference(&self) -> f64 {
        self.own - self.twin
    }
}

/// The mean over frames that are run once each, in nanoseconds.
fn each(program: BorrowedFd<'_>, frames: &[Frame], context: &[u8]) -> Result<f64> {
    let mut sum_ns = 0.0;
    for frame in frames {
        sum_ns += run(program, frame, context, 1)?;
    }
    let count = u32::try_from(frames.len())?;
    Ok(sum_ns / f64::from(count))
}

/// The mean over the runs of one frame, in nanoseconds.
fn run(program: BorrowedFd<'_>, frame: &Frame, context: &[u8], repeat: u32) -> Result<f64> {
    let run = TestRun { frame: &frame.bytes, context, repeat, live_batch: None };
    let outcome = bpf::test_run(program, run)?;
    ensure!(outcome.returned == NEXT, "the program returned {}", outcome.returned);
    Ok(f64::from(outcome.mean_ns))
}
