//! Channels of an SSH session: what is wanted, in the words of the channel policy, and the verdict.

use std::collections::{HashMap, HashSet};

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::channel::{ChannelGrant, ChannelKind, Detail};
use proxyd_ssh::message::text::clean;
use proxyd_ssh::relay::{Address, Case, ChannelId, Endpoint, Program, Wish};

use crate::channel;
use crate::clock::Clock;
use crate::session::event::Event;
use crate::usermapping::Authorized;

/// Bytes of a command, an address or a path that an event keeps; the trail has whole commands.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Kinds of refusals that one session leaves on record; there are a dozen that mean anything.
const REFUSALS_MAX: usize = 64;

/// Judges the channels of one session, and remembers which are recorded.
#[derive(Debug)]
pub(super) struct Channels<'s> {
    clock: Clock,
    admitted: &'s Admitted,
    authorized: &'s Authorized,
    open: HashMap<ChannelId, Open>,
    refused: HashSet<String>,
}

/// A channel that may carry data.
#[derive(Debug)]
struct Open {
    record: bool,
    /// Whether it is a forwarded connection that no data has passed yet.
    fresh: bool,
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
        Self { clock, admitted, authorized, open, refused }
    }

    /// The verdict of the channel policy.
    pub(super) fn judge(&self, wanted: &Wanted<'_>) -> Result<ChannelGrant, DenyReason> {
        let Wanted { kind, detail, .. } = *wanted;
        channel::admit(&self.clock, self.admitted, self.authorized, kind, detail)
    }

    /// A channel is opened.
    pub(super) fn opened(&mut self, id: ChannelId, wanted: &Wanted<'_>, grant: ChannelGrant) {
        let open = match wanted.opens {
            Opens::Program => Open { record: grant.record, fresh: false },
            Opens::Forward => Open { record: grant.record, fresh: true },
            Opens::Nothing => return,
        };
        self.open.insert(id, open);
    }

    /// Whether this is refused for the first time: what a client repeats is told of once.
    pub(super) fn is_new_refusal(&mut self, what: &str) -> bool {
        self.refused.len() < REFUSALS_MAX && self.refused.insert(what.to_owned())
    }

    /// Whether the data of a channel is recorded.
    pub(super) fn records(&self, channel: ChannelId) -> bool {
        self.open.get(&channel).is_some_and(|open| open.record)
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
