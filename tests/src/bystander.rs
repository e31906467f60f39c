//! Traffic that no policy names, running beside whatever happens to the gateway.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;

use crate::netns::Namespace;
use crate::process::Process;
use crate::wait::wait_until;
use crate::world::World;

/// The port of the flow; no policy of the tests names it.
pub const PORT: u16 = 7_000;

/// Between two pings, in seconds.
const PING_INTERVAL_S: &str = "0.02";

/// Between two messages of the flow.
const MESSAGE_INTERVAL: Duration = Duration::from_millis(2);

/// Bytes of a message: a few segments.
const MESSAGE_BYTES: usize = 4_000;

/// How long an answer may take. A segment that is lost comes back within a second; this is for a
/// machine that is busy.
const ANSWER_LIMIT: Duration = Duration::from_secs(20);

/// How long ping may take to count and go.
const PING_LIMIT: Duration = Duration::from_secs(20);

/// Messages that make a flow worth watching.
const MESSAGES_MIN: u64 = 20;

/// A TCP flow that is echoed, and pings, from a namespace to an address of the server's.
#[derive(Debug)]
pub struct Bystander {
    ping: Process,
    done: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    flow: JoinHandle<anyhow::Result<()>>,
    echo: JoinHandle<anyhow::Result<()>>,
}

impl Bystander {
    /// Starts both; they run until [`Self::finish`].
    pub fn start(world: &World, from: &Namespace, to: IpAddr) -> anyhow::Result<Self> {
        let to = SocketAddr::new(to, PORT);
        let mut ping = from.command("ping");
        ping.args(["-i", PING_INTERVAL_S, &to.ip().to_string()]);
        let ping = Process::start(&mut ping, "ping", world.directory())?;
        let listener = world.server.inside(|| TcpListener::bind(to))??;
        let stream = from.inside(|| TcpStream::connect_timeout(&to, ANSWER_LIMIT))??;
        let echo = thread::spawn(move || echo(&listener));
        let (done, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (told, counter) = (Arc::clone(&done), Arc::clone(&answered));
        let flow = thread::spawn(move || talk(stream, &told, &counter));
        Ok(Self { ping, done, answered, flow, echo })
    }

    /// Waits until more messages have come back, as a sign that time has passed for the flow too.
    pub fn await_answers(&self) -> anyhow::Result<()> {
        let enough = self.answered.load(Ordering::Acquire) + MESSAGES_MIN;
        wait_until("answers to a bystander", ANSWER_LIMIT, || {
            self.answered.load(Ordering::Acquire) >= enough || self.flow.is_finished()
        })
    }

    /// Ends both; fails where a byte of the flow or one ping was lost.
    pub fn finish(self) -> anyhow::Result<()> {
        self.await_answers()?;
        self.done.store(true, Ordering::Release);
        for (name, thread) in [("sender", self.flow), ("echo", self.echo)] {
            let ended = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            ended.with_context(|| format!("the {name} of a flow that no policy names"))?;
        }
        self.ping.signal(Signal::SIGINT)?;
        let said = self.ping.finish(PING_LIMIT)?.text();
        ensure!(said.contains(" 0% packet loss"), "pings were lost: {said}");
        Ok(())
    }
}

/// Sends back what arrives, until the end of the stream.
fn echo(listener: &TcpListener) -> anyhow::Result<()> {
    let (stream, _peer) = listener.accept()?;
    let (mut reader, mut writer) = (&stream, &stream);
    std::io::copy(&mut reader, &mut writer)?;
    Ok(())
}

/// Sends messages and compares what comes back, until `done`.
fn talk(mut stream: TcpStream, done: &AtomicBool, answered: &AtomicU64) -> anyhow::Result<()> {
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_nodelay(true)?;
    let mut back = vec![0; MESSAGE_BYTES];
    while !done.load(Ordering::Acquire) {
        let number = answered.load(Ordering::Acquire);
        let message: Vec<u8> =
            number.to_be_bytes().iter().copied().cycle().take(MESSAGE_BYTES).collect();
        stream.write_all(&message)?;
        stream.read_exact(&mut back).with_context(|| format!("no answer to message {number}"))?;
        ensure!(back == message, "the answer to message {number} is another");
        answered.fetch_add(1, Ordering::AcqRel);
        thread::park_timeout(MESSAGE_INTERVAL);
    }
    Ok(())
}
