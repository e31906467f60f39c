//! Channels of an SSH session: what a program is called in the channel policy, and the verdict.

use std::collections::{HashMap, HashSet};

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::channel::{ChannelGrant, ChannelKind};
use proxyd_ssh::message::text::clean;
use proxyd_ssh::relay::{ChannelId, Program, Start};

use crate::channel;
use crate::clock::Clock;
use crate::session::event::Event;
use crate::usermapping::Authorized;

/// Bytes of a command or subsystem that an event keeps; the trail has the whole.
const DETAIL_BYTES_MAX: usize = 1_024;

/// Kinds of refusals that one session leaves on record; there are a dozen that mean anything.
const REFUSALS_MAX: usize = 64;

/// Judges the channels of one session, and remembers which are recorded.
#[derive(Debug)]
pub(super) struct Channels<'s> {
    clock: Clock,
    admitted: &'s Admitted,
    authorized: &'s Authorized,
    granted: HashMap<ChannelId, ChannelGrant>,
    refused: HashSet<String>,
}

impl<'s> Channels<'s> {
    pub(super) fn new(clock: Clock, admitted: &'s Admitted, authorized: &'s Authorized) -> Self {
        Self { clock, admitted, authorized, granted: HashMap::new(), refused: HashSet::new() }
    }

    /// The verdict about a program, and the event that it leaves.
    pub(super) fn judge(&mut self, start: &Start<'_>) -> (Result<ChannelGrant, DenyReason>, Event) {
        let (name, kind, detail) = describe(&start.program);
        let verdict = match kind {
            Some(kind) => channel::admit(&self.clock, self.admitted, self.authorized, kind),
            None => Err(DenyReason::ChannelTypeNotAllowed),
        };
        if let Ok(grant) = verdict {
            self.granted.insert(start.channel, grant);
        }
        let event = Event::Channel {
            channel: start.channel.0,
            kind: name.to_owned(),
            detail: clean(detail, DETAIL_BYTES_MAX),
            verdict: verdict.map(|grant| grant.rule),
        };
        (verdict, event)
    }

    /// Whether this is refused for the first time: what a client repeats is told of once.
    pub(super) fn is_new_refusal(&mut self, what: &str) -> bool {
        self.refused.len() < REFUSALS_MAX && self.refused.insert(what.to_owned())
    }

    /// Whether the data of a channel is recorded.
    pub(super) fn records(&self, channel: ChannelId) -> bool {
        self.granted.get(&channel).is_some_and(|grant| grant.record)
    }

    /// Forgets a channel that is closed.
    pub(super) fn closed(&mut self, channel: ChannelId) {
        self.granted.remove(&channel);
    }
}

/// The channel type of a program as policies and records name it, its kind where this version
/// knows one, and what it runs.
fn describe<'m>(program: &Program<'m>) -> (&'static str, Option<ChannelKind>, &'m [u8]) {
    let (kind, detail): (_, &[u8]) = match *program {
        Program::Shell => (ChannelKind::SessionShell, b""),
        Program::Exec(command) if is_scp(command) => return ("session-exec-scp", None, command),
        Program::Exec(command) => (ChannelKind::SessionExec, command),
        Program::Subsystem(b"sftp") => (ChannelKind::SessionSftp, b"sftp"),
        Program::Subsystem(name) => return ("session-subsystem", None, name),
    };
    (kind.as_str(), Some(kind), detail)
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
            assert_eq!(describe(&program).0, name, "{program:?}");
        }
    }
}
