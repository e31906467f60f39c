//! Programs given as instructions: loaded, attached and run by `bpf(2)`. Aya loads ELF objects
//! only.
#![expect(
    unsafe_code,
    reason = "bpf(2) takes pointers as numbers; each block says why it is sound"
)]

use std::ffi::c_long;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};

use super::assemble::Instruction;

/// Commands of `bpf(2)`.
const PROG_LOAD: c_long = 5;
const PROG_TEST_RUN: c_long = 10;
const LINK_CREATE: c_long = 28;

/// Lets frames go where the program sends them (`BPF_F_TEST_XDP_LIVE_FRAMES`).
const LIVE_FRAMES: u32 = 1 << 1;

/// Room for the verifier's words about a program of some dozen instructions.
const LOG_BYTES: usize = 16 * 1024;

/// Helpers that the kernel reserves for free software may be called.
const LICENSE: &[u8] = b"GPL\0";

/// What a program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    /// `BPF_PROG_TYPE_SCHED_CLS`, on TCX ingress.
    Classifier = 3,
    /// `BPF_PROG_TYPE_XDP`.
    Xdp = 6,
}

impl Kind {
    /// `BPF_TCX_INGRESS` or `BPF_XDP`.
    const fn attach_type(self) -> u32 {
        match self {
            Self::Classifier => 46,
            Self::Xdp => 37,
        }
    }
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    kind: Kind,
    descriptor: OwnedFd,
}

/// A program on an interface, as long as this is kept.
#[derive(Debug)]
pub(super) struct Link(#[expect(dead_code, reason = "the descriptor holds the link")] OwnedFd);

impl Program {
    /// Loads one.
    ///
    /// # Errors
    /// With the verifier's log where the kernel refuses it.
    pub(super) fn load(kind: Kind, instructions: &[Instruction]) -> Result<Self> {
        let mut log = vec![0_u8; LOG_BYTES];
        let mut attributes = LoadAttributes {
            program_type: kind as u32,
            instruction_count: u32::try_from(instructions.len())?,
            instructions: address(instructions)?,
            license: address(LICENSE)?,
            log_level: 1,
            log_bytes: u32::try_from(log.len())?,
            log: u64::try_from(log.as_mut_ptr().expose_provenance())?,
            kernel_version: 0,
            flags: 0,
            name: [0; 16],
            ifindex: 0,
            attach_type: kind.attach_type(),
        };
        let descriptor = call(PROG_LOAD, &mut attributes).with_context(|| {
            let said = String::from_utf8_lossy(&log);
            format!("the kernel refuses a program: {}", said.trim_end_matches('\0'))
        })?;
        Ok(Self { kind, descriptor: owned(descriptor)? })
    }

    /// Puts it on an interface of the calling thread's namespace.
    pub(super) fn attach(&self, ifindex: u32) -> Result<Link> {
        let mut attributes = LinkAttributes {
            program: number(self.descriptor.as_fd())?,
            ifindex,
            attach_type: self.kind.attach_type(),
            flags: 0,
            relative: [0; 2],
            revision: 0,
        };
        let descriptor = call(LINK_CREATE, &mut attributes).context("cannot attach a program")?;
        Ok(Link(owned(descriptor)?))
    }

    /// Its descriptor.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// How a program is run without an interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct TestRun<'a> {
    /// The frame, from its Ethernet header.
    pub(super) frame: &'a [u8],
    /// `struct __sk_buff` or `struct xdp_md`.
    pub(super) context: &'a [u8],
    /// How often.
    pub(super) repeat: u32,
    /// Frames that really go out, made so many at one time; none stay where they are.
    pub(super) live_batch: Option<u32>,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Outcome {
    /// What the program returned at last.
    pub(super) returned: u32,
    /// Mean nanoseconds of a run, in whole numbers.
    pub(super) mean_ns: u32,
}

/// Runs a program (`BPF_PROG_TEST_RUN`) in the calling thread's namespace.
pub(super) fn test_run(program: BorrowedFd<'_>, run: TestRun<'_>) -> Result<Outcome> {
    let mut attributes = TestRunAttributes {
        program: number(program)?,
        returned: 0,
        frame_bytes: u32::try_from(run.frame.len())?,
        frame_out_bytes: 0,
        frame: address(run.frame)?,
        frame_out: 0,
        repeat: run.repeat,
        duration_ns: 0,
        context_bytes: u32::try_from(run.context.len())?,
        context_out_bytes: 0,
        context: address(run.context)?,
        context_out: 0,
        flags: if run.live_batch.is_some() { LIVE_FRAMES } else { 0 },
        cpu: 0,
        batch: run.live_batch.unwrap_or(0),
        reserved: 0,
    };
    call(PROG_TEST_RUN, &mut attributes).context("cannot run a program on a frame")?;
    Ok(Outcome { returned: attributes.returned, mean_ns: attributes.duration_ns })
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C)]
struct LoadAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_bytes: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    ifindex: u32,
    attach_type: u32,
}

/// The part that `BPF_LINK_CREATE` reads.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    ifindex: u32,
    attach_type: u32,
    flags: u32,
    relative: [u32; 2],
    revision: u64,
}

/// The part that `BPF_PROG_TEST_RUN` reads and writes.
#[repr(C)]
struct TestRunAttributes {
    program: u32,
    returned: u32,
    frame_bytes: u32,
    frame_out_bytes: u32,
    frame: u64,
    frame_out: u64,
    repeat: u32,
    duration_ns: u32,
    context_bytes: u32,
    context_out_bytes: u32,
    context: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    reserved: u32,
}

/// Where something stands in memory, as a number for the kernel.
fn address<T>(items: &[T]) -> Result<u64> {
    Ok(u64::try_from(items.as_ptr().expose_provenance())?)
}

fn number(descriptor: BorrowedFd<'_>) -> Result<u32> {
    Ok(u32::try_from(descriptor.as_raw_fd())?)
}

fn owned(descriptor: c_long) -> Result<OwnedFd> {
    let descriptor = i32::try_from(descriptor)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<T>(command: c_long, attributes: &mut T) -> io::Result<c_long> {
    let attributes: *mut T = attributes;
    // SAFETY: the structure is what the command reads and writes; all it points to is alive.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
