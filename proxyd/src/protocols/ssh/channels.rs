//! Channels of an SSH session: what is wanted, in the words of the channel policy, and the verdict.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::channel::{ChannelGrant, ChannelKind, Detail};
use proxyd_ssh::message::text::one_line;
use proxyd_ssh::relay::{Address, Case, ChannelId, Endpoint, Program, Side, Wish};
use proxyd_wire::scp::Command;

use super::files::Files;
use crate::channel;
use crate::clock::Clock;
use crate::session::event::Event;
use crate::usermapping::Authorized;

/// Bytes of a command, an address or a path that an event keeps; the trail has whole commands.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Kinds of refusals that one session leaves on record; there are a dozen that mean anything.
const REFUSALS_MAX: usize = 64;

/// Events about files that one session leaves beside its trail: half of what it may leave at all,
/// so that copying many files pushes no verdict out.
const FILE_EVENTS_MAX: usize = 2_048;

/// Judges the channels of one session, and remembers which are recorded.
#[derive(Debug)]
pub(super) struct Channels<'s> {
    clock: Clock,
    admitted: &'s Admitted,
    authorized: &'s Authorized,
    open: HashMap<ChannelId, Open>,
    file_events: usize,
    /// Rules under which somebody has approved.
    approved: HashSet<usize>,
    refused: HashSet<String>,
}

/// What becomes of an event about files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileEvent {
    /// It is kept.
    Kept,
    /// In its place it is said that no more are.
    Last,
    /// It is in the trail alone.
    Left,
}

/// How the two directions of a forwarded connection start.
#[derive(Debug, Default)]
struct Starts {
    client: Vec<u8>,
    server: Vec<u8>,
}

/// A channel that may carry data.
#[derive(Debug)]
struct Open {
    /// Whether it is recorded.
    record: bool,
    /// Whether a recording has its data.
    record_data: bool,
    /// Of a forwarded connection, how each direction starts, as long as that could be SSH.
    starts: Option<Starts>,
    /// What is known of the files that it copies.
    files: Option<Files>,
}

/// Something that is wanted, in the words of the channel policy.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'m> {
    /// The type of channel.
    pub(super) kind: ChannelKind,
    /// What for.
    pub(super) detail: Detail<'m>,
    /// Whether it is the channel itself that is opened, or started, by this.
    opens: Opens,
}

/// What a verdict opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opens {
    /// A program's channel.
    Program,
    /// A forwarded connection.
    Forward,
    /// Nothing yet: a forwarded connection may come later.
    Nothing,
}

impl<'s> Channels<'s> {
    pub(super) fn new(clock: Clock, admitted: &'s Admitted, authorized: &'s Authorized) -> Self {
        Self {
            clock,
            admitted,
            authorized,
            open: HashMap::new(),
            file_events: 0,
            approved: HashSet::new(),
            refused: HashSet::new(),
        }
    }

    /// The verdict of the channel policy.
    pub(super) fn judge(&self, wanted: &Wanted<'_>) -> Result<ChannelGrant, DenyReason> {
        let Wanted { kind, detail, .. } = *wanted;
        wanted.check()?;
        channel::admit(&self.clock, self.admitted, self.authorized, kind, detail)
    }

    /// Somebody has approved of what a rule allowed.
    pub(super) fn approved(&mut self, grant: ChannelGrant) {
        self.approved.insert(grant.rule);
    }

    /// What a server opens for a grant needs no further approval, but one there must have been.
    pub(super) fn check_approved(&self, grant: ChannelGrant) -> Result<ChannelGrant, DenyReason> {
        match grant.four_eyes && !self.approved.contains(&grant.rule) {
            true => Err(DenyReason::FourEyesMissing),
            false => Ok(grant),
        }
    }

    /// A channel is opened, unless it copies files in a way that cannot be judged.
    pub(super) fn open(
        &mut self,
        id: ChannelId,
        wanted: &Wanted<'_>,
        grant: ChannelGrant,
    ) -> Result<(), DenyReason> {
        let starts = match wanted.opens {
            Opens::Program => None,
            Opens::Forward => Some(Starts::default()),
            Opens::Nothing => return Ok(()),
        };
        let rule = self.admitted.policy().channels.rules.get(grant.rule);
        let policy = rule.and_then(|rule| rule.files.clone());
        let files = match (wanted.kind, wanted.detail) {
            (ChannelKind::SessionSftp, _) => Some(Files::sftp(policy)),
            (ChannelKind::SessionExecScp, Detail::Command(command)) => {
                // It is certain, or it would be of another kind.
                let files = Files::scp(command, policy);
                Some(files.map_err(|_error| DenyReason::CommandNotAllowed)?)
            }
            _ => None,
        };
        let has_content = files.is_none() || rule.is_none_or(|rule| rule.file_content);
        let record_data = grant.record && has_content;
        self.open.insert(id, Open { record: grant.record, record_data, starts, files });
        Ok(())
    }

    /// Whether this is refused for the first time: what a client repeats is told of once.
    pub(super) fn is_new_refusal(&mut self, what: &str) -> bool {
        self.refused.len() < REFUSALS_MAX && self.refused.insert(what.to_owned())
    }

    /// Whether a channel is recorded.
    pub(super) fn records(&self, channel: ChannelId) -> bool {
        self.open.get(&channel).is_some_and(|open| open.record)
    }

    /// Whether the data of a channel is recorded.
    pub(super) fn records_data(&self, channel: ChannelId) -> bool {
        self.open.get(&channel).is_some_and(|open| open.record_data)
    }

    /// What is known of the files that a channel copies; none for one that copies none.
    pub(super) fn files(&mut self, channel: ChannelId) -> Option<&mut Files> {
        self.open.get_mut(&channel)?.files.as_mut()
    }

    /// Whether a forwarded connection turns out to carry SSH, whose programs nobody sees.
    pub(super) fn is_nested_ssh(&mut self, channel: ChannelId, from: Side, bytes: &[u8]) -> bool {
        let Some(open) = self.open.get_mut(&channel) else { return false };
        let Some(starts) = &mut open.starts else { return false };
        let start = match from {
            Side::Client => &mut starts.client,
            Side::Server => &mut starts.server,
        };
        let missing = SSH_PREFIX.len().saturating_sub(start.len());
        start.extend(bytes.iter().take(missing));
        let found = start == SSH_PREFIX;
        let done = |start: &[u8]| !SSH_PREFIX.starts_with(start);
        if found || (done(&starts.client) && done(&starts.server)) {
            open.starts = None;
        }
        found
    }

    /// The channels whose files are followed.
    pub(super) fn followed(&self) -> Vec<ChannelId> {
        let followed = self.open.iter().filter(|(_id, open)| open.files.is_some());
        followed.map(|(id, _open)| *id).collect()
    }

    /// Whether one more event about files is kept, the last of which says so.
    pub(super) fn keeps_file_event(&mut self) -> FileEvent {
        self.file_events += 1;
        match self.file_events.cmp(&FILE_EVENTS_MAX) {
            Ordering::Less => FileEvent::Kept,
            Ordering::Equal => FileEvent::Last,
            Ordering::Greater => FileEvent::Left,
        }
    }

    /// Forgets a channel that is closed.
    pub(super) fn closed(&mut self, channel: ChannelId) {
        self.open.remove(&channel);
    }
}

/// How an SSH connection starts (RFC 4253 section 4.2).
const SSH_PREFIX: &[u8] = b"SSH-";

impl<'m> Wanted<'m> {
    /// What a case is about.
    pub(super) fn of(case: &Case<'m>) -> Self {
        let (kind, detail, opens) = match case.wish {
            Wish::Program(program) => {
                let (kind, detail) = of_program(program);
                (kind, detail, Opens::Program)
            }
            Wish::Agent => (ChannelKind::Agent, Detail::Nothing, Opens::Nothing),
            Wish::X11 => (ChannelKind::X11, Detail::Nothing, Opens::Nothing),
            Wish::Connect { to, originator } => {
                (ChannelKind::LocalForward, of_endpoint(to, originator), Opens::Forward)
            }
            Wish::Listen { at } => {
                (ChannelKind::RemoteForward, of_endpoint(at, None), Opens::Nothing)
            }
            Wish::Accepted { at, originator } => {
                (ChannelKind::RemoteForward, of_endpoint(at, originator), Opens::Forward)
            }
            Wish::AgentUse => (ChannelKind::Agent, Detail::Nothing, Opens::Forward),
            Wish::X11Use { originator } => {
                (ChannelKind::X11, Detail::From(originator.host), Opens::Forward)
            }
        };
        Self { kind, detail, opens }
    }

    /// Refuses what a server may read as something shorter: many take text up to a zero byte.
    fn check(&self) -> Result<(), DenyReason> {
        let (text, reason) = match self.detail {
            Detail::Nothing => return Ok(()),
            Detail::Command(command) => (command, DenyReason::CommandNotAllowed),
            Detail::Subsystem(name) => (name, DenyReason::SubsystemNotAllowed),
            Detail::Socket(path) => (path, DenyReason::EndpointNotAllowed),
            Detail::Tcp { host, .. } => (host, DenyReason::EndpointNotAllowed),
            Detail::From(from) => (from, DenyReason::OriginatorNotAllowed),
        };
        if text.contains(&0) { Err(reason) } else { Ok(()) }
    }

    /// Whether a record has less than the whole of it.
    pub(super) fn is_cut(&self) -> bool {
        match self.detail {
            Detail::Nothing => false,
            Detail::Command(bytes)
            | Detail::Subsystem(bytes)
            | Detail::Socket(bytes)
            | Detail::From(bytes) => bytes.len() > DETAIL_BYTES_MAX,
            Detail::Tcp { host, .. } => host.len() > DETAIL_BYTES_MAX,
        }
    }

    /// The command, address or path, fit for a record; empty where there is none.
    pub(super) fn text(&self) -> String {
        let text = |bytes: &[u8]| one_line(bytes, DETAIL_BYTES_MAX);
        match self.detail {
            Detail::Nothing => String::new(),
            Detail::Command(bytes)
            | Detail::Subsystem(bytes)
            | Detail::Socket(bytes)
            | Detail::From(bytes) => text(bytes),
            Detail::Tcp { host, port, originator } => {
                let host = match host {
                    b"" => "*".to_owned(),
                    host if host.contains(&b':') => format!("[{}]", text(host)),
                    host => text(host),
                };
                match originator {
                    Some(originator) => format!("{host}:{port} from {}", text(originator)),
                    None => format!("{host}:{port}"),
                }
            }
        }
    }

    /// The event that a verdict leaves; it has no channel where the server shall listen.
    pub(super) fn event(
        &self,
        channel: Option<ChannelId>,
        verdict: Result<ChannelGrant, DenyReason>,
    ) -> Event {
        Event::Channel {
            channel: channel.map(|id| id.0),
            kind: self.kind.to_string(),
            detail: self.text(),
            verdict: verdict.map(|grant| grant.rule),
        }
    }
}

fn of_program(program: Program<'_>) -> (ChannelKind, Detail<'_>) {
    match program {
        Program::Shell => (ChannelKind::SessionShell, Detail::Nothing),
        Program::Exec(command) if copies(command) => {
            (ChannelKind::SessionExecScp, Detail::Command(command))
        }
        Program::Exec(command) => (ChannelKind::SessionExec, Detail::Command(command)),
        Program::Subsystem(b"sftp") => (ChannelKind::SessionSftp, Detail::Subsystem(b"sftp")),
        Program::Subsystem(name) => (ChannelKind::SessionSubsystem, Detail::Subsystem(name)),
    }
}

const fn of_endpoint<'m>(at: Endpoint<'m>, originator: Option<Address<'m>>) -> Detail<'m> {
    match at {
        Endpoint::Tcp(Address { host, port }) => {
            let originator = match originator {
                Some(from) => Some(from.host),
                None => None,
            };
            Detail::Tcp { host, port, originator }
        }
        Endpoint::Socket(path) => Detail::Socket(path),
    }
}

/// Whether a command is the far end of a file copy, `scp` told to receive or to send, and certain
/// to be nothing else.
///
/// It is a type of its own in channel policies, so that leave to run commands is no leave to
/// copy files by the client's own `scp`, nor the other way round.
fn copies(command: &[u8]) -> bool {
    Command::parse(command).is_ok_and(|(_command, certain)| certain.is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_are_called() {
        let cases: [(Program<'_>, &str); 13] = [
            (Program::Shell, "session-shell"),
            (Program::Exec(b"id"), "session-exec"),
            (Program::Exec(b"scp -t /tmp"), "session-exec-scp"),
            (Program::Exec(b"/usr/bin/scp -v -p -f a b"), "session-exec-scp"),
            (Program::Exec(b"scp -f *.txt"), "session-exec-scp"),
            (Program::Exec(b"scp -t /tmp; id"), "session-exec"),
            (Program::Exec(b"scp -t `id`"), "session-exec"),
            (Program::Exec(b"/tmp/scp -t /tmp"), "session-exec"),
            (Program::Exec(b"scp a b"), "session-exec"),
            (Program::Exec(b"scp"), "session-exec"),
            (Program::Exec(b""), "session-exec"),
            (Program::Subsystem(b"sftp"), "session-sftp"),
            (Program::Subsystem(b"netconf"), "session-subsystem"),
        ];
        for (program, name) in cases {
            assert_eq!(of_program(program).0.as_str(), name, "{program:?}");
        }
    }

    #[test]
    fn text_with_a_zero_byte_is_refused() {
        let tcp = |host| Detail::Tcp { host, port: 80, originator: None };
        let cases: [(Detail<'_>, bool); 8] = [
            (Detail::Nothing, true),
            (Detail::Subsystem(b"sftp"), true),
            (Detail::Subsystem(b"sftp\0"), false),
            (Detail::Command(b"id\0"), false),
            (Detail::Command(b"\0id"), false),
            (Detail::Socket(b"/run/a\0"), false),
            (tcp(b"10.0.0.1\0"), false),
            (tcp(b"10.0.0.1"), true),
        ];
        for (detail, expected) in cases {
            let kind = ChannelKind::SessionSubsystem;
            let wanted = Wanted { kind, detail, opens: Opens::Nothing };
            assert_eq!(wanted.check().is_ok(), expected, "{detail:?}");
        }
    }

    #[test]
    fn what_records_say_of_details() {
        let tcp = |host, originator| Detail::Tcp { host, port: 80, originator };
        let cases: [(Detail<'_>, &str); 7] = [
            (tcp(b"10.0.0.1", Some(b"192.0.2.1")), "10.0.0.1:80 from 192.0.2.1"),
            (tcp(b"fd00::1", None), "[fd00::1]:80"),
            (tcp(b"", None), "*:80"),
            (tcp(b"a\x1b[2Jb", None), "a\u{fffd}[2Jb:80"),
            (Detail::Command(b"rm -rf /\rid\n\xe2\x80\xae"), "rm -rf /\u{fffd}id\u{fffd}\u{fffd}"),
            (Detail::Socket(b"/run/a"), "/run/a"),
            (Detail::Nothing, ""),
        ];
        for (detail, expected) in cases {
            let kind = ChannelKind::LocalForward;
            let wanted = Wanted { kind, detail, opens: Opens::Nothing };
            assert_eq!(wanted.text(), expected, "{detail:?}");
        }
    }
}
