//! What becomes of one message of a peer: it is judged, recorded and passed on, or not.

use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::connection::OnRecordingFailure;
use proxyd_ssh::message::channel;
use proxyd_ssh::relay::tap::{self, Seen};
use proxyd_ssh::relay::{Case, ChannelId, Program, Refused, Relay, Side, Step, Wish};
use proxyd_ssh::transport::Leg;
use proxyd_trail::{Record, Stream};
use tracing::error;
use uuid::Uuid;

use super::channels::{Channels, FileEvent, Wanted};
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
            Step::Forward(seen) => self.go_on(from, message, &seen, receiver)?,
            Step::Replace(replaced, seen) => self.go_on(from, &replaced, &seen, receiver)?,
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

    /// A message that passes is recorded, then sent on; what copies files, as far as that may.
    fn go_on(
        &mut self,
        from: Side,
        message: &[u8],
        seen: &Seen<'_>,
        receiver: &mut Leg,
    ) -> Result<(), Stop> {
        self.record(from, seen)?;
        let mut buffer = Vec::new();
        let rewritten = self.follow(from, seen, &mut buffer)?;
        if let Seen::Eof { channel, .. } | Seen::Closed { channel, .. } = *seen {
            self.pass_held(from, channel, message, receiver)?;
        }
        match rewritten {
            Some(bytes) => send_data(from, message, bytes, receiver),
            None => forward(from, message, receiver),
        }?;
        if let Seen::Closed { channel, last: true, .. } = *seen {
            self.finish_files(channel)?;
            self.channels.closed(channel);
        }
        if let Seen::Opened { channel, open: false } = *seen {
            self.channels.closed(channel);
        }
        Ok(())
    }

    /// The session is at its end, and with it every channel that is open: what was not finished on
    /// it goes on record.
    pub(super) fn finish(&mut self) -> Result<(), Stop> {
        self.channels.followed().into_iter().try_for_each(|channel| self.finish_files(channel))
    }

    fn finish_files(&mut self, channel: ChannelId) -> Result<(), Stop> {
        if let Some(files) = self.channels.files(channel) {
            files.finish();
        }
        self.note_files(channel)
    }

    /// Follows data of a channel that copies files; gives what goes on in its place, if anything
    /// else does.
    fn follow<'b>(
        &mut self,
        from: Side,
        seen: &Seen<'b>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<Option<&'b [u8]>, Stop> {
        let Seen::Data { channel, stream, bytes } = *seen else { return Ok(None) };
        let Some(files) = self.channels.files(channel) else { return Ok(None) };
        if stream == tap::Stream::Stderr {
            return Ok(None);
        }
        let passed = files.pass(from, bytes, buffer);
        self.note_files(channel)?;
        let passed = passed.map_err(|error| broken(from, error))?;
        let same = passed.as_ptr() == bytes.as_ptr() && passed.len() == bytes.len();
        Ok((!same).then_some(passed))
    }

    /// What was held back of a peer's data goes on before its end, which `message` is.
    fn pass_held(
        &mut self,
        from: Side,
        channel: ChannelId,
        message: &[u8],
        receiver: &mut Leg,
    ) -> Result<(), Stop> {
        let held = self.channels.files(channel).map(|files| files.end(from)).unwrap_or_default();
        send_data(from, message, &held, receiver)
    }

    /// What was done to files goes on record: what matters in the database, everything in the
    /// trail.
    fn note_files(&mut self, channel: ChannelId) -> Result<(), Stop> {
        let Some(files) = self.channels.files(channel) else { return Ok(()) };
        let operations: Vec<_> = files.operations().collect();
        let in_trail = self.channels.records(channel);
        for operation in &operations {
            if operation.matters() {
                let fields = match self.channels.keeps_file_event() {
                    FileEvent::Kept => Some(operation.fields()),
                    FileEvent::Last => Some(vec![("operation", "more, in the trail".to_owned())]),
                    FileEvent::Left => None,
                };
                if let Some(fields) = fields {
                    self.session.note(Event::File { channel: channel.0, fields });
                }
            }
            if let Some(recorder) = self.recorder.as_mut().filter(|_recorder| in_trail) {
                recorder.record(Stream::Meta, &operation.record(channel.0));
            }
        }
        self.recorded()
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
        match (from, decided, verdict) {
            (Side::Client, Decided::Not, Ok(grant)) if grant.four_eyes => {
                match self.ask_for_approval(&wanted) {
                    Ok(request) => return self.wait(request, message, case, &wanted),
                    Err(reason) => verdict = Err(reason),
                }
            }
            (Side::Client, Decided::Approved, Ok(grant)) => self.channels.approved(grant),
            (Side::Server, _, Ok(grant)) => verdict = self.channels.check_approved(grant),
            (Side::Client, ..) | (Side::Server, _, Err(_)) => {}
        }
        if let (Ok(grant), Some(channel)) = (verdict, case.channel) {
            verdict = self.channels.open(channel, &wanted, grant).map(|()| grant);
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
                if grant.record {
                    self.command(case);
                    self.recorded()?;
                }
                let allowed = self.relay.allow(&case.docket, message);
                let allowed = allowed.map_err(|error| broken(from, error))?;
                forward(from, &allowed, receiver)
            }
            Err(reason) => {
                let text = format!("proxyd: {reason}\r\n");
                self.relay.refuse(&case.docket, &text).map_err(|error| broken(from, error))
            }
        }
    }

    fn ask_for_approval(&self, wanted: &Wanted<'_>) -> Result<Uuid, DenyReason> {
        // Whoever approves has to see what.
        if wanted.is_cut() {
            return Err(DenyReason::FourEyesTooLong);
        }
        let wish = approval::Wish { kind: wanted.kind.to_string(), detail: wanted.text() };
        let asked = self.session.ask_for_approval(wish, self.four_eyes_limit);
        asked.ok_or(DenyReason::FourEyesBusy)
    }

    /// The message, and what must not overtake it, wait until somebody has decided.
    fn wait(
        &mut self,
        request: Uuid,
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
        let held = self.relay.wait(&case.docket);
        let until = self.clock.now().saturating_add(self.four_eyes_limit);
        self.waits.push(Wait::new(request, case.docket.clone(), message.to_vec(), held, until));
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

    fn record(&mut self, from: Side, seen: &Seen<'_>) -> Result<(), Stop> {
        if let Seen::Data { channel, bytes, .. } = seen
            && self.channels.is_nested_ssh(*channel, from, bytes)
        {
            self.note(Event::NestedSsh { channel: channel.0 });
        }
        if let Some(recorder) = self.recorder.as_mut() {
            let wanted = match seen {
                Seen::Data { channel, .. } => self.channels.records_data(*channel),
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

/// Sends data in the place of `message`, which names the channel as the other peer knows it, in
/// packets no longer than the receiver has taken so far.
fn send_data(from: Side, message: &[u8], bytes: &[u8], receiver: &mut Leg) -> Result<(), Stop> {
    let number = channel::recipient(message).map_err(|error| broken(from, error))?;
    for bytes in bytes.chunks(REWRITTEN_BYTES_MAX) {
        forward(from, &channel::data(number, bytes), receiver)?;
    }
    Ok(())
}

/// Data packet, in bytes, that every receiver takes: RFC 4253 section 6.1 asks for 32,768 bytes of
/// payload, but for small devices with less; those have no files to copy.
const REWRITTEN_BYTES_MAX: usize = 16 * 1024;

fn forward(from: Side, message: &[u8], receiver: &mut Leg) -> Result<(), Stop> {
    receiver.send(&[message]).map_err(|error| broken(from.other(), error))
}
