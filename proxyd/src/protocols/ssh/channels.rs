//! Channels of an SSH session: what is wanted, in the words of the channel policy, and the verdict.

use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::channel::{ChannelGrant, ChannelKind, Detail};
use proxyd_ssh::message::text::clean;
use proxyd_ssh::relay::{Address, Case, ChannelId, Endpoint, Program, Wish};

use super::files::Files;
use crate::channel;
use crate::clock::Clock;
use crate::session::event::Event;
use crate::usermapping::Authorized;

/// Bytes of a command, an address or a path that an event keeps; the trail has whole commands.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Kinds of refusals that one session leaves on record; there are a dozen that mean anything.
const REFUSALS_MAX: usize = 64;

/// Events about files that one session leaves beside its trail: half of what it may leave at all, so
/// that copying many files pushes no verdict out.
const FILE_EVENTS_MAX: usize = 2_048;

/// Judges the channels of one session, and remembers which are recorded.
#[derive(Debug)]
pub(super) struct Channels<'s> {
    clock: Clock,
    admitted: &'s Admitted,
    authorized: &'s Authorized,
    open: HashMap<ChannelId, Open>,
    file_events: usize,
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

/// A channel that may carry data.
#[derive(Debug)]
struct Open {
    /// Whether it is recorded.
    record: bool,
    /// Whether a recording has its data.
    record_data: bool,
    /// Whether it is a forwarded connection that no data has passed yet.
    fresh: bool,
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
        let (open, refused) = (HashMap::new(), HashSet::new());
        Self { clock, admitted, authorized, open, file_events: 0, refused }
    }

    /// The verdict of the channel policy.
    pub(super) fn judge(&self, wanted: &Wanted<'_>) -> Result<ChannelGrant, DenyReason> {
        let Wanted { kind, detail, .. } = *wanted;
        wanted.check()?;
        channel::admit(&self.clock, self.admitted, self.authorized, kind, detail)
    }

    /// A channel is opened, unless it copies files in a way that cannot be judged.
    pub(super) fn open(
        &mut self,
        id: ChannelId,
        wanted: &Wanted<'_>,
        grant: ChannelGrant,
    ) -> Result<(), DenyReason> {
        let fresh = match wanted.opens {
            Opens::Program => false,
            Opens::Forward => true,
            Opens::Nothing => return Ok(()),
        };
        let rule = self.admitted.policy().channels.rules.get(grant.rule);
        let policy = rule.and_then(|rule| rule.files.clone());
        let files = match (wanted.kind, wanted.detail) {
            (ChannelKind::SessionSftp, _) => Some(Files::sftp(policy)),
            (ChannelKind::SessionExecScp, Detail::Command(command)) => {
                let files = Files::scp(command, policy);
                Some(files.map_err(|_error| DenyReason::CopyNotCertain)?)
            }
            _ => None,
        };
        let has_content = files.is_none() || rule.is_none_or(|rule| rule.file_content);
        let record_data = grant.record && has_content;
        self.open.insert(id, Open { record: grant.record, record_data, fresh, files });
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

    /// Whether the first data of a forwarded connection shows an SSH connection, whose programs
    /// nobody sees.
    pub(super) fn is_nested_ssh(&mut self, channel: ChannelId, bytes: &[u8]) -> bool {
        match self.open.get_mut(&channel) {
            Some(open) if open.fresh => {
                open.fresh = false;
                bytes.starts_with(SSH_PREFIX)
            }
            Some(_) | None => false,
        }
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

    /// The command, address or path, fit for a record; empty where there is none.
    pub(super) fn text(&self) -> String {
        let text = |bytes: &[u8]| clean(bytes, DETAIL_BYTES_MAX);
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
        Program::Exec(command) if is_scp(command) => {
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

/// Whether a command is the far end of a file copy: `scp` told to receive or to send.
///
/// It is a type of its own in channel policies, so that leave to run commands is no leave to
/// copy files by the client's own `scp`; a user with a shell has other ways.
fn is_scp(command: &[u8]) -> bool {
    let mut words = command.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    let program = words.next().and_then(|word| word.rsplit(|&byte| byte == b'/').next());
    program == Some(b"scp")
        && words
            .take_while(|word| word.starts_with(b"-"))
            .any(|word| word.contains(&b't') || word.contains(&b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_programs_are_called() {
        let cases: [(Program<'_>, &str); 9] = [
            (Program::Shell, "session-shell"),
            (Program::Exec(b"id"), "session-exec"),
            (Program::Exec(b"scp -t /tmp"), "session-exec-scp"),
            (Program::Exec(b"/usr/bin/scp -v -p -f a b"), "session-exec-scp"),
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
        let cases: [(Detail<'_>, &str); 6] = [
            (tcp(b"10.0.0.1", Some(b"192.0.2.1")), "10.0.0.1:80 from 192.0.2.1"),
            (tcp(b"fd00::1", None), "[fd00::1]:80"),
            (tcp(b"", None), "*:80"),
            (tcp(b"a\x1b[2Jb", None), "a\u{fffd}[2Jb:80"),
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
