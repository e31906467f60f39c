//! The driver of the relay: one task, both legs, until one of them ends.
//!
//! A direction whose receiver is slow stops being read; the other goes on. The same holds for
//! both while the recorder is behind: what is not recorded does not pass.

use std::io;
use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::connection::OnRecordingFailure;
use proxyd_ssh::relay::tap::Seen;
use proxyd_ssh::relay::{Refused, Relay, Rules, Side, Start, Step};
use proxyd_ssh::transport::{Event as LegEvent, Leg};
use proxyd_trail::{Record, Stream};
use thiserror::Error as ThisError;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::channels::Channels;
use super::client::Client;
use super::link::{Link, LinkError};
use super::login::Server;
use super::{Ssh, record};
use crate::clock::Clock;
use crate::recording::{Recorder, RecordingError};
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::{Blame, Failure, Stop, chain};
use crate::usermapping::Authorized;

/// Bytes that may wait for a slow receiver; above, its sender is not read.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Bytes that may wait while the sender is in a key exchange: what was under way when it began has
/// to be read, or its end never comes.
const EXCHANGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes of answers that may wait for a peer that asks and does not listen.
const ANSWERS_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages of one peer passed on at a time; then the other peer, timers and operators have their
/// turn, however fast this one sends.
const MESSAGES_PER_TURN: usize = 256;

/// Rounds after which other sessions get their turn, however busy this one is.
const ROUNDS_BEFORE_YIELD: u32 = 64;

/// How often a quiet session looks at its clock: for rekeying and for giving memory back.
const TICK: Duration = Duration::from_secs(2);

/// RFC 4253 section 11.1.
const BY_APPLICATION: u32 = 11;
/// RFC 4253 section 11.1.
const PROTOCOL_ERROR: u32 = 2;

pub(super) async fn relay(
    ssh: &Ssh,
    session: &mut Session,
    admitted: &Admitted,
    authorized: &Authorized,
    (client, server): (Client, Server),
    recorder: &mut Option<Recorder>,
) -> Result<(), Stop> {
    let environment = &admitted.policy().settings.environment;
    let environment = environment.iter().map(|pattern| pattern.as_str().to_owned()).collect();
    let token = session.token().clone();
    let mut driver = Driver {
        clock: ssh.clock,
        idle_limit: ssh.limits.idle,
        handshake_limit: ssh.limits.handshake,
        on_recording_failure: admitted.policy().on_recording_failure,
        client: client.admit()?,
        server: server.link,
        relay: Relay::new(Rules { environment }),
        channels: Channels::new(ssh.clock, admitted, authorized),
        session,
        recorder,
        last_message: ssh.clock.now(),
    };
    let result = driver.run(&token).await;
    let text = match &result {
        Ok(()) => "the session has ended".to_owned(),
        Err(stop) => stop.text(),
    };
    driver.part(&result, &text).await;
    result
}

/// What a session's relay holds.
struct Driver<'s> {
    clock: Clock,
    idle_limit: Option<Duration>,
    handshake_limit: Duration,
    on_recording_failure: OnRecordingFailure,
    client: Link,
    server: Link,
    relay: Relay,
    channels: Channels<'s>,
    session: &'s mut Session,
    recorder: &'s mut Option<Recorder>,
    last_message: Duration,
}

/// Whether a leg goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// Nothing to do until something arrives.
    Quiet,
    /// Something was done; there may be more.
    Busy,
    /// The peer has ended the connection.
    Ended,
}

impl Driver<'_> {
    async fn run(&mut self, token: &CancellationToken) -> Result<(), Stop> {
        let mut rounds = 0_u32;
        loop {
            let client = self.pump(Side::Client)?;
            let server = self.pump(Side::Server)?;
            let sent =
                flush(&mut self.client, Side::Client)? | flush(&mut self.server, Side::Server)?;
            if client == Flow::Ended || server == Flow::Ended {
                return Ok(());
            }
            if let Some(recorder) = self.recorder.as_mut() {
                recorder.flush_if_due();
            }
            rounds += 1;
            if token.is_cancelled() {
                return Err(self.session.terminated());
            }
            if !sent && client == Flow::Quiet && server == Flow::Quiet {
                self.wait(token).await?;
                rounds = 0;
            } else if rounds >= ROUNDS_BEFORE_YIELD {
                tokio::task::yield_now().await;
                rounds = 0;
            }
        }
    }

    /// Passes on what `from` has sent, as long as the other leg and the recorder keep up.
    fn pump(&mut self, from: Side) -> Result<Flow, Stop> {
        let mut flow = Flow::Quiet;
        for _message in 0..MESSAGES_PER_TURN {
            let behind = self.recorder.as_ref().is_some_and(Recorder::is_behind);
            let (sender, receiver) = legs(&mut self.client, &mut self.server, from);
            if behind || !has_room(sender, receiver) {
                return Ok(flow);
            }
            if sender.leg.pending() >= ANSWERS_BYTES_MAX {
                return Err(broken(from, DoesNotListen { limit: ANSWERS_BYTES_MAX }));
            }
            // Both exchanges at once would wait for each other's data.
            sender.leg.defer_rekey(receiver.leg.exchange_since().is_some());
            let now = self.clock.now();
            match sender.leg.next(now).map_err(|error| broken(from, error))? {
                Some(LegEvent::Message(message)) => {
                    self.last_message = now;
                    let mut passing = Passing {
                        channels: &mut self.channels,
                        session: self.session,
                        recorder: self.recorder,
                        on_recording_failure: self.on_recording_failure,
                        receiver: &mut receiver.leg,
                    };
                    let step = self.relay.receive(from, message);
                    let step = step.map_err(|error| broken(from, error))?;
                    let known = passing.step(&mut self.relay, from, message, step)?;
                    if !known {
                        sender.leg.unimplemented().map_err(|error| broken(from, error))?;
                    }
                    self.answer()?;
                }
                Some(LegEvent::Disconnected { reason, text }) => {
                    receiver.leg.disconnect(reason, &text);
                    return ended(from, LinkError::Disconnected { text });
                }
                Some(LegEvent::Rekeyed | LegEvent::Established | LegEvent::HostKey(_)) => {}
                None => match read(sender).map_err(|error| lost(from, error))? {
                    Flow::Quiet => return Ok(flow),
                    Flow::Ended => return ended(from, LinkError::Closed),
                    Flow::Busy => {}
                },
            }
            flow = Flow::Busy;
        }
        Ok(flow)
    }

    /// Sends the relay's own messages.
    fn answer(&mut self) -> Result<(), Stop> {
        for side in [Side::Client, Side::Server] {
            for message in self.relay.answers(side) {
                let (leg, _other) = legs(&mut self.client, &mut self.server, side);
                leg.leg.send(&[&message]).map_err(|error| broken(side, error))?;
            }
        }
        Ok(())
    }

    /// Waits until anything can go on.
    async fn wait(&mut self, token: &CancellationToken) -> Result<(), Stop> {
        let now = self.clock.now();
        self.check_limits(now)?;
        let mut until = now.saturating_add(TICK);
        let behind = self.recorder.as_ref().is_some_and(Recorder::is_behind);
        if let Some(flush_at) = self.recorder.as_ref().and_then(Recorder::flush_at)
            && !behind
        {
            until = until.min(flush_at);
        }
        let reads = |sender: &Link, receiver: &Link| {
            !behind && has_room(sender, receiver) && sender.leg.wants_read()
        };
        let (client, server) = (&self.client, &self.server);
        let caught_up = async {
            match self.recorder.as_mut() {
                Some(recorder) if behind => recorder.caught_up().await,
                _ => std::future::pending().await,
            }
        };
        let recorded = tokio::select! {
            () = token.cancelled() => Ok(()),
            ready = client.stream.readable(), if reads(client, server) => {
                return ready.map_err(|error| lost(Side::Client, error));
            }
            ready = server.stream.readable(), if reads(server, client) => {
                return ready.map_err(|error| lost(Side::Server, error));
            }
            ready = client.stream.writable(), if !client.leg.out().is_empty() => {
                return ready.map_err(|error| lost(Side::Client, error));
            }
            ready = server.stream.writable(), if !server.leg.out().is_empty() => {
                return ready.map_err(|error| lost(Side::Server, error));
            }
            result = caught_up => result,
            () = self.clock.sleep_until(until) => {
                self.client.leg.defer_rekey(self.server.leg.exchange_since().is_some());
                self.client.leg.tick(until).map_err(|error| broken(Side::Client, error))?;
                self.server.leg.defer_rekey(self.client.leg.exchange_since().is_some());
                self.server.leg.tick(until).map_err(|error| broken(Side::Server, error))?;
                Ok(())
            }
        };
        recorded.or_else(|error| {
            recording_failed(self.session, self.recorder, self.on_recording_failure, error)
        })
    }

    fn check_limits(&self, now: Duration) -> Result<(), Stop> {
        let idle = now.saturating_sub(self.last_message);
        if self.idle_limit.is_some_and(|limit| idle >= limit) {
            return Err(Stop::Terminated("its idle time limit"));
        }
        for (side, link) in [(Side::Client, &self.client), (Side::Server, &self.server)] {
            let since = link.leg.exchange_since();
            if since.is_some_and(|since| now.saturating_sub(since) >= self.handshake_limit) {
                return Err(broken(side, LinkError::Timeout));
            }
        }
        Ok(())
    }

    /// Says goodbye to both and lets the last bytes leave.
    async fn part(&mut self, result: &Result<(), Stop>, text: &str) {
        let reason = match result {
            Err(Stop::Failed(Failure { blame: Blame::Client | Blame::Server, .. })) => {
                PROTOCOL_ERROR
            }
            _ => BY_APPLICATION,
        };
        // Each goodbye has a limit of its own.
        tokio::join!(
            self.client.disconnect(reason, text),
            self.server.disconnect(reason, "session ended by the gateway"),
        );
    }
}

/// What one message touches on its way.
struct Passing<'p, 's> {
    channels: &'p mut Channels<'s>,
    session: &'p mut Session,
    recorder: &'p mut Option<Recorder>,
    on_recording_failure: OnRecordingFailure,
    receiver: &'p mut Leg,
}

impl Passing<'_, '_> {
    /// Records what a step means, then sends it on; false for a message nobody knows.
    fn step(
        &mut self,
        relay: &mut Relay,
        from: Side,
        message: &[u8],
        step: Step<'_>,
    ) -> Result<bool, Stop> {
        match step {
            Step::Forward(seen) => {
                self.record(&seen)?;
                self.forward(from, message)?;
            }
            Step::Replace(replaced, seen) => {
                self.record(&seen)?;
                self.forward(from, &replaced)?;
            }
            Step::Judge(start) => self.judge(relay, from, message, &start)?,
            Step::Refused(refused) => {
                let what = match refused {
                    Refused::Channel(kind) => format!("channel {kind}"),
                    Refused::Request(kind) => format!("request {kind}"),
                    Refused::Global(kind) => format!("global request {kind}"),
                };
                if self.channels.is_new_refusal(&what) {
                    self.note(Event::Refused { what });
                    self.recorded()?;
                }
            }
            Step::Drop => {}
            Step::Unknown => return Ok(false),
        }
        Ok(true)
    }

    /// The verdict is on record before the program's first byte is.
    fn judge(
        &mut self,
        relay: &mut Relay,
        from: Side,
        message: &[u8],
        start: &Start<'_>,
    ) -> Result<(), Stop> {
        let (verdict, event) = self.channels.judge(start);
        self.note(event);
        self.recorded()?;
        match verdict {
            // INVARIANT: a policy that records has opened a trail before the relay began, and only
            // one that goes on without may have lost it since.
            Ok(grant)
                if grant.record
                    && self.recorder.is_none()
                    && self.on_recording_failure == OnRecordingFailure::Terminate =>
            {
                Err(Stop::gateway("recording", "a channel to be recorded has no trail"))
            }
            Ok(grant) => {
                relay.allow(start).map_err(|error| broken(from, error))?;
                if grant.record {
                    self.command(start);
                    self.recorded()?;
                }
                self.forward(from, message)
            }
            Err(reason) => {
                let text = refusal(reason);
                relay.refuse(start, &text).map_err(|error| broken(from, error))
            }
        }
    }

    /// Records the whole command of a program that starts.
    fn command(&mut self, start: &Start<'_>) {
        let command = match start.program {
            proxyd_ssh::relay::Program::Exec(command) => command,
            proxyd_ssh::relay::Program::Shell | proxyd_ssh::relay::Program::Subsystem(_) => return,
        };
        if let Some(recorder) = self.recorder.as_mut() {
            let record = Record::Command { channel: start.channel.0, command };
            recorder.record(Stream::Upstream, &record);
        }
    }

    fn record(&mut self, seen: &Seen<'_>) -> Result<(), Stop> {
        if let Some(recorder) = self.recorder.as_mut() {
            let wanted = match seen {
                Seen::Data { channel, .. } => self.channels.records(*channel),
                Seen::Nothing
                | Seen::Terminal { .. }
                | Seen::Resize { .. }
                | Seen::Variable { .. }
                | Seen::Signal { .. }
                | Seen::Opened { .. }
                | Seen::Eof { .. }
                | Seen::Closed { .. }
                | Seen::ExitStatus { .. }
                | Seen::ExitSignal { .. } => true,
            };
            if wanted {
                record::seen(recorder, seen);
            }
        }
        if let Seen::Closed { channel, from: Side::Server } = seen {
            self.channels.closed(*channel);
        }
        self.recorded()
    }

    /// What was given to the recorder is recorded, or the policy says that it need not be.
    fn recorded(&mut self) -> Result<(), Stop> {
        match self.recorder.as_mut().and_then(Recorder::take_failure) {
            Some(error) => {
                recording_failed(self.session, self.recorder, self.on_recording_failure, error)
            }
            None => Ok(()),
        }
    }

    fn note(&mut self, event: Event) {
        let timed = self.session.note(event);
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.event(&timed);
        }
    }

    fn forward(&mut self, from: Side, message: &[u8]) -> Result<(), Stop> {
        self.receiver.send(&[message]).map_err(|error| broken(from.other(), error))
    }
}

/// The session ends, or goes on unrecorded where its policy says so, with the gap on record.
///
/// Only what the disk does is a reason to go on: a record that cannot be made is a bug, or a peer
/// that provokes it.
fn recording_failed(
    session: &mut Session,
    recorder: &mut Option<Recorder>,
    on_recording_failure: OnRecordingFailure,
    error: RecordingError,
) -> Result<(), Stop> {
    let is_bug = matches!(error, RecordingError::Record(_) | RecordingError::Overfull);
    if is_bug || on_recording_failure == OnRecordingFailure::Terminate {
        return Err(Stop::gateway("recording", error));
    }
    error!(session_id = %session.id(), %error, "A session goes on without its recording");
    session.note(Event::RecordingFailed { error: chain(&error) });
    // The writer has stopped; the trail it leaves in the spool is closed at the next start.
    *recorder = None;
    Ok(())
}

/// Whether what `sender` sends may be read: what waits for `receiver` is little, or has to wait
/// because the sender is in a key exchange that only reading can end.
fn has_room(sender: &Link, receiver: &Link) -> bool {
    let limit = match sender.leg.exchange_since() {
        Some(_) => EXCHANGE_BYTES_MAX,
        None => WAITING_BYTES_MAX,
    };
    receiver.leg.pending() < limit
}

/// A peer that asks for answers and does not read them.
#[derive(Debug, ThisError)]
#[error("more than {limit} bytes of answers wait to be read")]
struct DoesNotListen {
    limit: usize,
}

/// What the user reads on standard error when a channel is refused.
fn refusal(reason: DenyReason) -> String {
    format!("proxyd: {reason}\r\n")
}

/// The links, the one of `from` first.
const fn legs<'l>(
    client: &'l mut Link,
    server: &'l mut Link,
    from: Side,
) -> (&'l mut Link, &'l mut Link) {
    match from {
        Side::Client => (client, server),
        Side::Server => (server, client),
    }
}

/// Reads what has arrived, without waiting.
fn read(link: &mut Link) -> io::Result<Flow> {
    if !link.leg.wants_read() {
        return Ok(Flow::Quiet);
    }
    match link.stream.try_read(link.leg.read_space()) {
        Ok(0) => Ok(Flow::Ended),
        Ok(bytes) => {
            link.leg.filled(bytes);
            Ok(Flow::Busy)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Flow::Quiet),
        Err(error) => Err(error),
    }
}

/// Writes what can be written without waiting; tells whether anything was.
fn flush(link: &mut Link, side: Side) -> Result<bool, Stop> {
    let mut sent = false;
    while !link.leg.out().is_empty() {
        match link.stream.try_write(link.leg.out()) {
            Ok(bytes) => link.leg.sent(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) => return Err(lost(side, error)),
        }
        sent = true;
    }
    Ok(sent)
}

/// A client may leave when it likes; a server that does has broken the session off.
fn ended(from: Side, how: LinkError) -> Result<Flow, Stop> {
    match from {
        Side::Client => Ok(Flow::Ended),
        Side::Server => Err(broken(from, how)),
    }
}

/// The peer of `side` broke the protocol.
fn broken(side: Side, error: impl std::error::Error + Send + Sync + 'static) -> Stop {
    match side {
        Side::Client => Stop::client("relay", error),
        Side::Server => Stop::server("relay", error),
    }
}

/// The connection of `side` was lost.
fn lost(side: Side, error: io::Error) -> Stop {
    match side {
        Side::Client => Stop::ClientGone,
        Side::Server => broken(side, LinkError::Socket(error)),
    }
}
