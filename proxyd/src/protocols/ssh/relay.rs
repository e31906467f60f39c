//! The driver of the relay: one task, both legs, until one of them ends.
//!
//! A direction whose receiver is slow stops being read; the other goes on. The same holds for
//! both while the recorder is behind: what is not recorded does not pass.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_ssh::message::number;
use proxyd_ssh::relay::{Relay, Rules, Side};
use proxyd_ssh::transport::Event as LegEvent;
use thiserror::Error as ThisError;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Ssh;
use super::agent::Early;
use super::channels::Channels;
use super::client::Client;
use super::link::{Link, LinkError};
use super::login::Server;
use super::passing::{Decided, Passing};
use super::waiting::Waits;
use crate::clock::Clock;
use crate::recording::Recorder;
use crate::session::Session;
use crate::session::approval::Decision;
use crate::session::event::Event;
use crate::session::stop::{Blame, Failure, Stop};
use crate::usermapping::Authorized;

/// Bytes that may wait for a slow receiver; above, its sender is not read.
const WAITING_BYTES_MAX: usize = 64 * 1024;

/// Bytes that may wait while the sender is in a key exchange: what was under way when it began has
/// to be read, or its end never comes.
const EXCHANGE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Bytes that may wait for a peer that asks and does not listen: answers, and what else waits for
/// it.
const ANSWERS_BYTES_MAX: usize = EXCHANGE_BYTES_MAX + 1024 * 1024;

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
    let (client, early) = client.admit()?;
    let mut driver = Driver {
        clock: ssh.clock,
        idle_limit: ssh.limits.idle,
        ends_at: ssh.limits.session.map(|limit| session.started().saturating_add(limit)),
        handshake_limit: ssh.limits.handshake,
        client,
        server: server.link,
        passing: Passing {
            clock: ssh.clock,
            four_eyes_limit: ssh.limits.four_eyes,
            on_recording_failure: admitted.policy().on_recording_failure,
            relay: Relay::new(Rules { environment }),
            channels: Channels::new(ssh.clock, admitted, authorized),
            waits: Waits::default(),
            session,
            recorder,
        },
        late: VecDeque::new(),
        last_message: ssh.clock.now(),
    };
    // Apart, so that sessions hold no room for it all their life.
    let result = match Box::pin(driver.adopt(early, &token)).await {
        Ok(()) => driver.run(&token).await,
        Err(stop) => Err(stop),
    };
    let finished = driver.passing.finish();
    // What has stopped the session says more than what failed then.
    let result = result.and(finished);
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
    ends_at: Option<Duration>,
    handshake_limit: Duration,
    client: Link,
    server: Link,
    passing: Passing<'s>,
    /// Messages of the client that had to wait, in order, before what it sends now.
    late: VecDeque<Vec<u8>>,
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
    /// Opens at the server what the client has opened before the server was there, and goes on with
    /// what it has sent since.
    async fn adopt(&mut self, early: Option<Early>, token: &CancellationToken) -> Result<(), Stop> {
        let Some((open, client, ours, messages)) = early.and_then(Early::into_parts) else {
            return Ok(());
        };
        self.pass_late(&open, Decided::Not)?;
        self.passing.relay.adopt(client, ours).map_err(|error| broken(Side::Client, error))?;
        let deadline = self.clock.now().saturating_add(self.handshake_limit);
        let mut confirmed = false;
        while !confirmed {
            let message = tokio::select! {
                message = self.server.message(deadline) => message,
                () = token.cancelled() => return Err(self.passing.session.terminated()),
            };
            let message = message.map_err(|error| broken(Side::Server, error))?;
            confirmed = message.first() == Some(&number::CHANNEL_OPEN_CONFIRMATION);
            let leg = &mut self.client.leg;
            if !self.passing.pass(Side::Server, &message, Decided::Not, leg)? {
                let told = self.server.leg.unimplemented();
                told.map_err(|error| broken(Side::Server, error))?;
            }
            self.answer()?;
            flush(&mut self.client, Side::Client)?;
            if self.client.leg.pending() >= ANSWERS_BYTES_MAX {
                return Err(broken(Side::Client, DoesNotListen { limit: ANSWERS_BYTES_MAX }));
            }
        }
        self.late.extend(messages);
        Ok(())
    }

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
            if let Some(recorder) = self.passing.recorder.as_mut() {
                recorder.flush_if_due();
            }
            self.look_at_waits()?;
            rounds += 1;
            // However busy it is.
            if self.ends_at.is_some_and(|at| at <= self.clock.now()) {
                return Err(Stop::Terminated("its time limit"));
            }
            if token.is_cancelled() {
                return Err(self.passing.session.terminated());
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
            let behind = self.passing.recorder.as_ref().is_some_and(Recorder::is_behind);
            let (sender, receiver) = legs(&mut self.client, &mut self.server, from);
            if behind || !has_room(sender, receiver) {
                return Ok(flow);
            }
            if sender.leg.pending() >= ANSWERS_BYTES_MAX {
                return Err(broken(from, DoesNotListen { limit: ANSWERS_BYTES_MAX }));
            }
            if let Some(message) = self.late.pop_front_if(|_message| from == Side::Client) {
                self.pass_late(&message, Decided::Not)?;
                flow = Flow::Busy;
                continue;
            }
            // Both exchanges at once would wait for each other's data.
            sender.leg.defer_rekey(receiver.leg.exchange_since().is_some());
            let now = self.clock.now();
            match sender.leg.next(now).map_err(|error| broken(from, error))? {
                Some(LegEvent::Message(message)) => {
                    self.last_message = now;
                    let leg = &mut receiver.leg;
                    if !self.passing.pass(from, message, Decided::Not, leg)? {
                        sender.leg.unimplemented().map_err(|error| broken(from, error))?;
                    }
                    self.answer()?;
                }
                Some(LegEvent::Disconnected { reason, text }) => {
                    receiver.leg.disconnect(reason, &text);
                    return self.ended(from, LinkError::Disconnected { text });
                }
                Some(LegEvent::Rekeyed | LegEvent::Established | LegEvent::HostKey(_)) => {}
                None => match read(sender).map_err(|error| lost(from, error))? {
                    Flow::Quiet => return Ok(flow),
                    Flow::Ended => return self.ended(from, LinkError::Closed),
                    Flow::Busy => {}
                },
            }
            flow = Flow::Busy;
        }
        Ok(flow)
    }

    /// A client may leave when it likes; a server that does with channels open has broken the
    /// session off.
    fn ended(&self, from: Side, how: LinkError) -> Result<Flow, Stop> {
        match from {
            Side::Server if !self.passing.relay.is_idle() => Err(broken(from, how)),
            Side::Client | Side::Server => Ok(Flow::Ended),
        }
    }

    /// Goes on with what need not wait any more.
    fn look_at_waits(&mut self) -> Result<(), Stop> {
        if self.passing.waits.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        // Who waits is not idle.
        self.last_message = now;
        while let Some((request, decision)) = self.passing.session.try_decision() {
            self.decided(request, decision)?;
        }
        while let Some((request, reason)) = self.passing.waits.given_up(now) {
            self.settle(request, Decided::Refused(reason))?;
        }
        if self.passing.waits.wants_sign_of_life(now) {
            self.client.leg.sign_of_life().map_err(|error| broken(Side::Client, error))?;
        }
        Ok(())
    }

    /// Somebody has decided about a request.
    fn decided(&mut self, request: Uuid, decision: Decision) -> Result<(), Stop> {
        let Decision { approved, by, reason } = decision;
        let event = Event::ApprovalDecided { request, approved, by, reason };
        self.passing.note(event);
        let refused = Decided::Refused(DenyReason::FourEyesRefused);
        self.settle(request, if approved { Decided::Approved } else { refused })
    }

    /// Goes on with a message that waited, and with what the client sent behind it.
    fn settle(&mut self, request: Uuid, decided: Decided) -> Result<(), Stop> {
        let Some(wait) = self.passing.waits.take(request) else { return Ok(()) };
        self.passing.session.withdraw(request);
        self.passing.relay.resume(&wait.docket);
        self.pass_late(&wait.message, decided)?;
        self.late.extend(wait.later);
        Ok(())
    }

    /// Passes on a message of the client that has waited.
    fn pass_late(&mut self, message: &[u8], decided: Decided) -> Result<(), Stop> {
        // A message that nobody knows is among them at most before the server was there.
        self.passing.pass(Side::Client, message, decided, &mut self.server.leg)?;
        self.answer()
    }

    /// Sends the relay's own messages.
    fn answer(&mut self) -> Result<(), Stop> {
        for side in [Side::Client, Side::Server] {
            for message in self.passing.relay.answers(side) {
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
        let mut until = now.saturating_add(TICK).min(self.ends_at.unwrap_or(Duration::MAX));
        let behind = self.passing.recorder.as_ref().is_some_and(Recorder::is_behind);
        if let Some(flush_at) = self.passing.recorder.as_ref().and_then(Recorder::flush_at)
            && !behind
        {
            until = until.min(flush_at);
        }
        let reads = |sender: &Link, receiver: &Link| {
            !behind && has_room(sender, receiver) && sender.leg.wants_read()
        };
        let (client, server) = (&self.client, &self.server);
        let caught_up = async {
            match self.passing.recorder.as_mut() {
                Some(recorder) if behind => recorder.caught_up().await,
                _ => std::future::pending().await,
            }
        };
        let waits = !self.passing.waits.is_empty();
        let recorded = tokio::select! {
            () = token.cancelled() => Ok(()),
            (request, decision) = self.passing.session.decision(), if waits => {
                return self.decided(request, decision);
            }
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
        recorded.or_else(|error| self.passing.recording_failed(error))
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

/// The peer of `side` broke the protocol.
pub(super) fn broken(side: Side, error: impl std::error::Error + Send + Sync + 'static) -> Stop {
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
