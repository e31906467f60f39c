//! Frames on the wire: what an interface of a namespace sends and receives.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;

use crate::netns::Namespace;

/// Kernel memory for frames that are not read yet: a burst of the tests is below 4 MiB.
const BUFFER_BYTES: usize = 32 * 1024 * 1024;

/// The longest frame there is: a segment of 64 KiB that no device has cut yet, and its headers.
const FRAME_BYTES_MAX: usize = 66 * 1024;

/// How long the capture goes on without a frame before it looks whether it shall end, in
/// microseconds.
const QUIET_US: i64 = 100_000;

/// A running capture of all interfaces of one namespace, in both directions.
#[derive(Debug)]
pub struct Capture {
    stop: Arc<AtomicBool>,
    reader: JoinHandle<anyhow::Result<Vec<Vec<u8>>>>,
}

impl Capture {
    /// Starts capturing; every frame from now on is in the capture.
    pub fn start(namespace: &Namespace) -> anyhow::Result<Self> {
        let socket = namespace.inside(open)?.context("cannot capture: is AF_PACKET missing?")?;
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        Ok(Self { stop, reader: thread::spawn(move || read(&socket, &told)) })
    }

    /// Ends it, once nothing has arrived for a while, and gives the frames in order.
    pub fn stop(self) -> anyhow::Result<Vec<Vec<u8>>> {
        self.stop.store(true, Ordering::Release);
        self.reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn open() -> nix::Result<OwnedFd> {
    let family = AddressFamily::Packet;
    let protocol = SockProtocol::EthAll;
    let socket = socket(family, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol)?;
    setsockopt(&socket, sockopt::RcvBufForce, &BUFFER_BYTES)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(0, QUIET_US))?;
    Ok(socket)
}

fn read(socket: &OwnedFd, stop: &AtomicBool) -> anyhow::Result<Vec<Vec<u8>>> {
    let mut frames = Vec::new();
    let mut buffer = vec![0; FRAME_BYTES_MAX];
    loop {
        let stopping = stop.load(Ordering::Acquire);
        match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(bytes) => frames.extend(buffer.get(..bytes).map(<[u8]>::to_vec)),
            Err(Errno::EAGAIN) if stopping => return Ok(frames),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error).context("cannot read captured frames"),
        }
    }
}
