//! One channel that carries files, followed as the gateway did while it passed.

use std::collections::BTreeMap;

use proxyd_ssh::message::text::one_line;
use proxyd_wire::files::{
    Access, Carried, FileId, Mode, Operation, Outcome, Peer, Unseen, Verdict, Watch,
};
use proxyd_wire::scp::{Command, CommandError, Scp, ScpError};
use proxyd_wire::sftp::{Sftp, SftpError};
use thiserror::Error as ThisError;

use super::output::{Content, Entry, Output};

/// Bytes of a peer's own words about why something failed.
const WORDS_BYTES_MAX: usize = 256;

/// Why a channel cannot be followed any more.
#[derive(Debug, ThisError)]
pub(super) enum FollowError {
    /// What passed is not sftp, or not of the version that is followed.
    #[error("sftp cannot be followed")]
    Sftp(#[source] SftpError),
    /// What passed is not the protocol of scp.
    #[error("scp cannot be followed")]
    Scp(#[source] ScpError),
    /// The command of scp is not one that copies, or is not recorded.
    #[error("command of scp cannot be understood")]
    Command(#[source] CommandError),
}

/// A channel as far as it was followed.
pub(super) struct Followed {
    machine: Machine,
    /// Content that is being carried: at most two for each file that is open, as the parsers bound
    /// them and tell of their end.
    contents: BTreeMap<FileId, Content>,
}

enum Machine {
    Sftp(Box<Sftp>),
    Scp(Box<Scp>),
}

impl Followed {
    /// A channel of sftp.
    pub(super) fn sftp() -> Self {
        let machine = Machine::Sftp(Box::new(Sftp::new(Mode::Observe)));
        Self { machine, contents: BTreeMap::new() }
    }

    /// A channel of scp, whose far end was started by `command`.
    pub(super) fn scp(command: &[u8]) -> Result<Self, FollowError> {
        let (command, _certain) = Command::parse(command).map_err(FollowError::Command)?;
        let machine = Machine::Scp(Box::new(Scp::new(Mode::Observe, command)));
        Ok(Self { machine, contents: BTreeMap::new() })
    }

    /// Takes what a peer sent. Fails if it cannot be written; the inner error is that it cannot be
    /// followed, after which [`Self::finish`] is all that may be called.
    pub(super) fn pass(
        &mut self,
        channel: u32,
        t_ns: u64,
        (from, bytes): (Peer, &[u8]),
        output: &mut Output,
    ) -> anyhow::Result<Result<(), FollowError>> {
        let (contents, failure) = (&mut self.contents, None);
        let mut writing = Writing { channel, t_ns, contents, output, failure };
        let mut unchanged = Vec::new();
        let passed = match &mut self.machine {
            Machine::Sftp(sftp) => sftp
                .pass(from, bytes, &mut unchanged, &mut writing)
                .map(|_same| ())
                .map_err(FollowError::Sftp),
            Machine::Scp(scp) => scp
                .pass(from, bytes, &mut unchanged, &mut writing)
                .map(|_same| ())
                .map_err(FollowError::Scp),
        };
        writing.failure.map_or(Ok(passed), Err)
    }

    /// The channel is over: what it left open is partial.
    pub(super) fn finish(
        mut self,
        channel: u32,
        t_ns: u64,
        output: &mut Output,
    ) -> anyhow::Result<()> {
        let (contents, failure) = (&mut self.contents, None);
        let mut writing = Writing { channel, t_ns, contents, output, failure };
        match &mut self.machine {
            Machine::Sftp(sftp) => sftp.finish(&mut writing),
            Machine::Scp(scp) => scp.finish(&mut writing),
        }
        writing.failure.map_or(Ok(()), Err)
    }
}

/// Writes what a parser hands out.
struct Writing<'a> {
    channel: u32,
    t_ns: u64,
    contents: &'a mut BTreeMap<FileId, Content>,
    output: &'a mut Output,
    /// Why something could not be written; nothing is after it.
    failure: Option<anyhow::Error>,
}

impl Writing<'_> {
    fn write(&mut self, file: FileId, bytes: &[u8]) -> anyhow::Result<()> {
        let content = match self.contents.entry(file) {
            std::collections::btree_map::Entry::Occupied(content) => content.into_mut(),
            std::collections::btree_map::Entry::Vacant(place) => place.insert(self.output.begin()?),
        };
        self.output.append(content, bytes)
    }

    fn close(&mut self, operation: &Operation<'_>, carried: Carried) -> anyhow::Result<()> {
        let mut content = self.contents.remove(&carried.file);
        let missing = carried.seen.err().map(Unseen::as_str);
        // Of an empty file there was nothing to hand out.
        if content.is_none() && missing.is_none() {
            content = Some(self.output.begin()?);
        }
        let entry = Entry {
            channel: self.channel,
            t_ns: self.t_ns,
            operation: operation.name,
            path: String::new(),
            path_base64: None,
            file: None,
            size: 0,
            sha256: None,
            carried: carried.bytes,
            complete: missing.is_none() && operation.outcome == Outcome::Done,
            missing,
            result: result(operation.outcome),
        };
        self.output.close(content, &operation.path, entry)
    }

    /// Does the next thing, unless one has failed.
    fn attempt(&mut self, next: impl FnOnce(&mut Self) -> anyhow::Result<()>) {
        if self.failure.is_none() {
            self.failure = next(self).err();
        }
    }
}

impl Watch for Writing<'_> {
    fn judge(&mut self, _access: &Access<'_>) -> Verdict {
        // INVARIANT: under `Mode::Observe` nothing is asked.
        Verdict::Refuse
    }

    fn home(&mut self, _path: &[u8]) {}

    fn content(&mut self, file: FileId, bytes: &[u8]) {
        self.attempt(|writing| writing.write(file, bytes));
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        if let Some(carried) = operation.carried {
            self.attempt(|writing| writing.close(operation, carried));
        }
    }
}

/// How an operation ended, in words.
fn result(outcome: Outcome<'_>) -> String {
    match outcome {
        Outcome::Done => "ok".to_owned(),
        Outcome::Failed(words) => one_line(words, WORDS_BYTES_MAX),
        Outcome::Status(status) => status.to_owned(),
        Outcome::Refused => "refused".to_owned(),
        Outcome::Unanswered => "unanswered".to_owned(),
    }
}
