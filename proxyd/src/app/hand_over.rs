//! The old daemon's side of a hand-over: nothing is given up before the new one is ready.

use std::fs;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error as ThisError;

use super::entrance::Entrance;
use super::reload::{self, ReloadError};
use super::signals::Signals;
use crate::config::Config;
use crate::control::TakeOver;
use crate::handover::{HandoverError, Link, Reply, VERSION};
use crate::recording::{RecordingError, Recordings};
use crate::session::stop::chain;

/// How long the new daemon may take until it steers: it opens the database, and verifies and loads
/// programs and tables.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// Why the old daemon goes on.
#[derive(Debug, ThisError)]
pub(super) enum HandOverError {
    /// It runs with another file.
    #[error("the running daemon was started with {own}, not with {other}")]
    OtherFile {
        /// What this daemon reads.
        own: PathBuf,
        /// What the other has read.
        other: PathBuf,
    },
    /// The file cannot be found.
    #[error("cannot find {path}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file cannot be used by this daemon.
    #[error("the running daemon cannot use the configuration file")]
    Config(#[from] ReloadError),
    /// Connections that are steered by the new policies would meet the old ones.
    #[error("the policies in the file are not those in force: run `proxyd ctl reload` first")]
    Changed,
    /// The two did not agree, or one is gone.
    #[error(transparent)]
    Handover(#[from] HandoverError),
    /// The lock of the spool cannot be shared.
    #[error(transparent)]
    Lock(#[from] RecordingError),
    /// Another daemon was faster.
    #[error("another daemon has taken over already: ask that one")]
    NotServing,
    /// A signal asked for the end before the other daemon was ready.
    #[error("the running daemon stops")]
    Stopping,
}

/// What is handed over, and what that depends on.
pub(super) struct Offer<'a> {
    /// Where the configuration was read.
    pub(super) file: &'a PathBuf,
    /// The configuration in force.
    pub(super) config: &'a Config,
    /// The listeners.
    pub(super) entrance: &'a mut Entrance,
    /// Whoever holds the lock of the spool.
    pub(super) recordings: &'a Recordings,
}

/// Hands over to the daemon that asks. When this fails nothing was given up, but the entrance may
/// be closed, and the new daemon's programs may stand in the place of ours. A signal ends it only
/// as long as the other daemon is not ready.
pub(super) async fn hand_over(
    asked: TakeOver,
    offer: Offer<'_>,
    signals: &mut Signals,
) -> Result<(), HandOverError> {
    let TakeOver { stream, version, config } = asked;
    let mut link = Link::new(stream);
    let result = tokio::select! {
        ready = prepare(&mut link, version, config, &offer) => ready,
        () = signals.stop() => Err(HandOverError::Stopping),
    };
    let result = match result {
        Ok(()) => {
            // Whoever connects now waits in the listeners' queues.
            offer.entrance.pause().await;
            link.say(&Reply::Yours).await.map_err(HandOverError::from)
        }
        Err(error) => Err(error),
    };
    if let Err(error) = &result {
        say_no(&mut link, error).await;
    }
    result
}

/// Tells the daemon that asks why it gets nothing.
pub(super) async fn refuse(asked: TakeOver, error: HandOverError) {
    say_no(&mut Link::new(asked.stream), &error).await;
}

async fn say_no(link: &mut Link, error: &HandOverError) {
    let error = chain(error);
    // The other daemon may be gone.
    drop(link.say(&Reply::Refused { error }).await);
}

/// Offers everything, and waits until the other daemon is ready.
async fn prepare(
    link: &mut Link,
    version: u32,
    other: PathBuf,
    offer: &Offer<'_>,
) -> Result<(), HandOverError> {
    if version != VERSION {
        return Err(HandoverError::Version { version }.into());
    }
    let Offer { file, config, entrance, recordings } = offer;
    let lost = |source| HandOverError::File { path: (*file).clone(), source };
    let own = fs::canonicalize(file).map_err(lost)?;
    if own != other {
        return Err(HandOverError::OtherFile { own, other });
    }
    if reload::read(file, config).await?.policy != config.policy {
        return Err(HandOverError::Changed);
    }
    let lock = recordings.share_lock()?;
    let [v4, v6] = entrance.sockets();
    link.offer(&[v4, v6, lock.as_fd()]).await?;
    Ok(link.ready(READY_LIMIT).await?)
}
