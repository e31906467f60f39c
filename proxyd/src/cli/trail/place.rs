//! Where a trail is: in a file that is named, or by its session where this machine's gateway has
//! it.

use std::fs::{File, TryLockError};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use uuid::Uuid;

use crate::config;
use crate::recording::trail_name;

/// Between two looks at a trail that is being written.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A trail's file, or the session that it is of.
#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The trail's file, or the id of a session of the gateway on this machine.
    #[arg(value_name = "FILE|SESSION")]
    trail: PathBuf,
    /// The configuration file of the gateway, to find a session's trail.
    #[arg(long, value_name = "FILE", default_value = crate::cli::DEFAULT_CONFIG)]
    config: PathBuf,
}

impl Place {
    /// A trail in this file.
    #[cfg(test)]
    pub(super) fn of(file: &Path) -> Self {
        Self { trail: file.to_owned(), config: PathBuf::new() }
    }

    /// As it was named.
    pub(super) fn name(&self) -> String {
        self.trail.display().to_string()
    }

    /// The file: a session's is in the spool while it is written.
    pub(super) fn file(&self) -> anyhow::Result<PathBuf> {
        let id = self.trail.to_str().and_then(|text| text.parse::<Uuid>().ok());
        let Some(session) = id.filter(|_id| !self.trail.exists()) else {
            return Ok(self.trail.clone());
        };
        let storage = config::load(&self.config)
            .with_context(|| format!("cannot look for the trail of session {session}"))?
            .storage;
        let name = trail_name(session);
        let places = [storage.spool.join(&name), storage.trails.join(&name)];
        let [spooled, stored] = places;
        Ok(if spooled.exists() { spooled } else { stored })
    }
}

/// A trail as it grows: at its end, reading waits for more until nobody writes it any longer.
pub(super) struct Growing {
    file: File,
}

impl Growing {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        File::open(path).map(|file| Self { file })
    }

    /// Whoever writes a trail holds its lock.
    fn is_written(&self) -> io::Result<bool> {
        match self.file.try_lock_shared() {
            Ok(()) => self.file.unlock().map(|()| false),
            Err(TryLockError::WouldBlock) => Ok(true),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl Read for Growing {
    #[expect(clippy::disallowed_methods, reason = "a command that follows a file has to wait")]
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            // Asked before reading, so that nothing written in between is missed.
            let is_written = self.is_written()?;
            let count = self.file.read(into)?;
            if count > 0 || into.is_empty() || !is_written {
                return Ok(count);
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
