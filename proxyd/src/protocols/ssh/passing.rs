//! What becomes of one message of a peer: it is judged, recorded and passed on, or not.

use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::connection::OnRecordingFailure;
use proxyd_ssh::relay::tap::Seen;
use proxyd_ssh::relay::{Case, Program, Refused, Relay, Side, Step, Wish};
use proxyd_ssh::transport::Leg;
use proxyd_trail::{Record, Stream};
use tracing::error;

use super::channels::{Channels, Wanted};
use super::record;
use super::relay::broken;
use super::waiting::{Wait, Waits};
use crate::clock::Clock;
use crate::recording::{Recorder, RecordingError};
use crate::session::Session;
use crate::session::approval;
use crate::session::event::Event;
use crate::session::stop::{Stop, chain};

/// What messages touch on their way.
pub(super) struct Passing<'s> {
    /// The clock.
    pub(super) clock: Clock,
    /// How long somebody has to approve.
    pub(super) four_eyes_limit: Duration,
    /// What becomes of a session whose trail fails.
    pub(super) on_recording_failure: OnRecordingFailure,
    /// The relay.
    pub(super) relay: Relay,
    /// The session's channels.
    pub(super) channels: Channels<'s>,
    /// What waits for approval.
    pub(super) waits: Waits,
    /// The session.
    pub(super) session: &'s mut Session,
    /// Its recorder.
    pub(super) recorder: &'s mut Option<Recorder>,
}

/// What somebody has said to a message that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decided {
    /// Nobody was asked.
    Not,
    /// It may go on, if the policy still allows it.
    Approved,
    /// It may not.
    Refused(DenyReason),
}

impl Passing<'_> {
    /// Takes a message of `from` on its way to the other peer; false for one that nobody knows.
    pub(super) fn pass(
        &mut self,
        from: Side,
        message: &[u8],
        decided: Decided,
        receiver: &mut Leg,
    ) -> Result<bool, Stop> {
        let step = self.relay.receive(from, message).map_err(|error| broken(from, error))?;
        match step {
            Step::Forward(seen) => {
                self.record(&seen)?;
                forward(from, message, receiver)?;
            }
            Step::Replace(replaced, seen) => {
                self.record(&seen)?;
                forward(from, &replaced, receiver)?;
            }
            Step::Judge(case) => self.judge(from, message, &case, decided, receiver)?,
            Step::Hold(held) => {
                self.waits.hold(held, message).map_err(|error| broken(from, error))?;
            }
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

    /// The verdict is on record before the first byte is.
    fn judge(
        &mut self,
        from: Side,
        message: &[u8],
        case: &Case<'_>,
        decided: Decided,
        receiver: &mut Leg,
    ) -> Result<(), Stop> {
        let wanted = Wanted::of(case);
        let mut verdict = match decided {
            Decided::Refused(reason) => Err(reason),
            Decided::Not | Decided::Approved => self.channels.judge(&wanted),
        };
        // What a server opens was approved of when the client asked for it.
        let asks = from == Side::Client && decided == Decided::Not;
        if asks && verdict.is_ok_and(|grant| grant.four_eyes) {
            match self.ask_for_approval(&wanted) {
                Some(request) => return self.wait(request, message, case, &wanted),
                None => verdict = Err(DenyReason::FourEyesBusy),
            }
        }
        self.note(wanted.event(case.channel, verdict));
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
                if let Some(channel) = case.channel {
                    self.channels.opened(channel, &wanted, grant);
                }
                if grant.record {
                    self.command(case);
                    self.recorded()?;
                }
                let allowed = self.relay.allow(&case.ticket, message);
                let allowed = allowed.map_err(|error| broken(from, error))?;
                forward(from, &allowed, receiver)
            }
            Err(reason) => {
                let text = format!("proxyd: {reason}\r\n");
                self.relay.refuse(&case.ticket, &text).map_err(|error| broken(from, error))
            }
        }
    }

    fn ask_for_approval(&self, wanted: &Wanted<'_>) -> Option<uuid::Uuid> {
        let wish = approval::Wish { kind: wanted.kind.to_string(), detail: wanted.text() };
        self.session.ask_for_approval(wish, self.four_eyes_limit)
    }

    /// The message, and what must not overtake it, wait until somebody has decided.
    fn wait(
        &mut self,
        request: uuid::Uuid,
        message: &[u8],
        case: &Case<'_>,
        wanted: &Wanted<'_>,
    ) -> Result<(), Stop> {
        let (kind, detail) = (wanted.kind.to_string(), wanted.text());
        self.note(Event::ApprovalAsked { request, kind, detail });
        self.recorded()?;
        if let (Some(channel), Wish::Program(_)) = (case.channel, case.wish) {
            let text = format!("proxyd: request {request} waits for approval\r\n");
            self.relay.tell(channel, &text);
        }
        let held = self.relay.wait(&case.ticket);
        let until = self.clock.now().saturating_add(self.four_eyes_limit);
        self.waits.push(Wait::new(request, case.ticket.clone(), message.to_vec(), held, until));
        Ok(())
    }

    /// Records the whole command of a program that starts.
    fn command(&mut self, case: &Case<'_>) {
        if let (Some(recorder), Some(channel), Wish::Program(Program::Exec(command))) =
            (self.recorder.as_mut(), case.channel, case.wish)
        {
            let record = Record::Command { channel: channel.0, command };
            recorder.record(Stream::Upstream, &record);
        }
    }

    fn record(&mut self, seen: &Seen<'_>) -> Result<(), Stop> {
        if let Seen::Data { channel, bytes, .. } = seen
            && self.channels.is_nested_ssh(*channel, bytes)
        {
            self.note(Event::NestedSsh { channel: channel.0 });
        }
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
        if let Seen::Closed { channel, last: true, .. } = seen {
            self.channels.closed(*channel);
        }
        self.recorded()
    }

    /// What was given to the recorder is recorded, or the policy says that it need not be.
    pub(super) fn recorded(&mut self) -> Result<(), Stop> {
        match self.recorder.as_mut().and_then(Recorder::take_failure) {
            Some(error) => self.recording_failed(error),
            None => Ok(()),
        }
    }

    /// The session ends, or goes on unrecorded where its policy says so, with the gap on record.
    ///
    /// Only what the disk does is a reason to go on: a record that cannot be made is a bug, or a
    /// peer that provokes it.
    pub(super) fn recording_failed(&mut self, error: RecordingError) -> Result<(), Stop> {
        let is_bug = matches!(error, RecordingError::Record(_) | RecordingError::Overfull);
        if is_bug || self.on_recording_failure == OnRecordingFailure::Terminate {
            return Err(Stop::gateway("recording", error));
        }
        let session_id = self.session.id();
        error!(%session_id, %error, "A session goes on without its recording");
        self.session.note(Event::RecordingFailed { error: chain(&error) });
        // The writer has stopped; the trail it leaves in the spool is closed at the next start.
        *self.recorder = None;
        Ok(())
    }

    /// Leaves an event, in the trail too.
    pub(super) fn note(&mut self, event: Event) {
        let timed = self.session.note(event);
        if let Some(recorder) = self.recorder.as_mut() {
            recorder.event(&timed);
        }
    }
}

fn forward(from: Side, message: &[u8], receiver: &mut Leg) -> Result<(), Stop> {
    receiver.send(&[message]).map_err(|error| broken(from.other(), error))
}
