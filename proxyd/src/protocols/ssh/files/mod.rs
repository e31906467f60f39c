//! Files that are copied over a channel, by sftp or by scp: what is done to which of them, the
//! hash of what was carried, and what the file policy refuses.
//!
//! Without a policy every byte passes as it is, also when it cannot be followed. With one, requests
//! are judged before they reach the server, and what cannot be followed goes no further.

mod operation;
mod watcher;

use std::sync::Arc;

pub use proxyd_policy::files::FilePolicy;
pub use proxyd_ssh::relay::Side;
use proxyd_wire::files::{Mode, Peer};
use proxyd_wire::scp::{Command, CommandError, Scp, ScpError};
use proxyd_wire::sftp::{Sftp, SftpError};
use thiserror::Error as ThisError;

pub use self::operation::Operation;
use self::watcher::Watcher;

/// Why a channel cannot be followed.
#[derive(Debug, ThisError)]
pub enum FilesError {
    /// What passes is not sftp, or not of the version that is followed.
    #[error("sftp cannot be followed")]
    Sftp(#[source] SftpError),
    /// What passes is not the protocol of scp.
    #[error("scp cannot be followed")]
    Scp(#[source] ScpError),
    /// The command may do something else than copy files, or to other ones.
    #[error("command of scp cannot be judged")]
    Command(#[source] CommandError),
    /// It failed before.
    #[error("channel is no longer followed")]
    Unfollowed,
}

/// One channel that carries files.
#[derive(Debug)]
pub struct Files {
    machine: Machine,
    watcher: Watcher,
}

/// What follows the channel.
#[derive(Debug)]
enum Machine {
    Sftp(Box<Sftp>),
    Scp(Box<Scp>),
    /// Nothing any more.
    Unfollowed,
}

impl Files {
    /// A channel that starts sftp.
    #[must_use]
    pub fn sftp(policy: Option<Arc<FilePolicy>>) -> Self {
        let machine = Machine::Sftp(Box::new(Sftp::new(mode(policy.as_ref()))));
        Self { machine, watcher: Watcher::new(policy) }
    }

    /// A channel that starts `command`, the far end of a copy by scp.
    ///
    /// # Errors
    /// Fails when there is a policy and the command is not certain to copy what it says; it must
    /// not be started then.
    pub fn scp(command: &[u8], policy: Option<Arc<FilePolicy>>) -> Result<Self, FilesError> {
        let mode = mode(policy.as_ref());
        let mut files = Self { machine: Machine::Unfollowed, watcher: Watcher::new(policy) };
        let parsed = Command::parse(command).and_then(|(command, certain)| match mode {
            Mode::Observe => Ok(command),
            Mode::Enforce => certain.map(|()| command),
        });
        match (parsed, mode) {
            (Ok(command), _) => files.machine = Machine::Scp(Box::new(Scp::new(mode, command))),
            (Err(error), Mode::Observe) => files.watcher.lost(&FilesError::Command(error)),
            (Err(error), Mode::Enforce) => return Err(FilesError::Command(error)),
        }
        Ok(files)
    }

    /// Takes data that a peer sent and gives what is to be sent on in its place: the same bytes, or
    /// those of `buffer`, which may be fewer or more by the start of a request that is held back.
    ///
    /// # Errors
    /// Fails only when there is a policy: then the channel cannot be followed any more, nothing of
    /// `bytes` may be sent on, and the channel has to end.
    pub fn pass<'b>(
        &mut self,
        from: Side,
        bytes: &'b [u8],
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], FilesError> {
        let (peer, watcher) = (peer(from), &mut self.watcher);
        let passed = match &mut self.machine {
            Machine::Sftp(sftp) => {
                sftp.pass(peer, bytes, buffer, watcher).map_err(FilesError::Sftp)
            }
            Machine::Scp(scp) => scp.pass(peer, bytes, buffer, watcher).map_err(FilesError::Scp),
            Machine::Unfollowed => Err(FilesError::Unfollowed),
        };
        passed.or_else(|error| self.lose(error).map(|()| bytes))
    }

    /// What was held back of a peer's data; it goes on before the peer's end of file or close.
    pub fn end(&mut self, from: Side) -> Vec<u8> {
        match &mut self.machine {
            Machine::Sftp(sftp) => sftp.end(peer(from)),
            Machine::Scp(scp) => scp.end(peer(from)),
            Machine::Unfollowed => Vec::new(),
        }
    }

    /// The channel is closed: what it leaves open or without an answer becomes operations too.
    pub fn finish(&mut self) {
        match &mut self.machine {
            Machine::Sftp(sftp) => sftp.finish(&mut self.watcher),
            Machine::Scp(scp) => scp.finish(&mut self.watcher),
            Machine::Unfollowed => {}
        }
    }

    /// Whether operations are still told of; without a policy a channel passes also when not.
    #[must_use]
    pub const fn is_followed(&self) -> bool {
        !matches!(self.machine, Machine::Unfollowed)
    }

    /// What was done since the last call, in the order of its end.
    pub fn operations(&mut self) -> impl Iterator<Item = Operation> {
        std::mem::take(&mut self.watcher.operations).into_iter()
    }

    /// Tells once that the channel is followed no more, which is an error only under a policy.
    fn lose(&mut self, error: FilesError) -> Result<(), FilesError> {
        if self.is_followed() {
            self.finish();
            self.machine = Machine::Unfollowed;
            self.watcher.lost(&error);
        }
        match self.watcher.policy {
            Some(_) => Err(error),
            None => Ok(()),
        }
    }
}

const fn mode(policy: Option<&Arc<FilePolicy>>) -> Mode {
    match policy {
        Some(_) => Mode::Enforce,
        None => Mode::Observe,
    }
}

const fn peer(side: Side) -> Peer {
    match side {
        Side::Client => Peer::Client,
        Side::Server => Peer::Server,
    }
}

#[cfg(test)]
mod tests;
