//! Finds what was on screens and which commands were run, in trails whose sessions are over.
//!
//! It reads trails as any other reader does: with an identity whose recipient the audit policy
//! names. Without one, nothing of a trail's content is in the database. What the client typed is
//! never looked at, also where the identity would open it: it holds passwords.

mod finder;

use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proxyd_trail::{Identities, Reader, Stream, TrailError, Verdict, VerifyingKey};
use thiserror::Error as ThisError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use self::finder::Finder;
use crate::clock::Clock;
use crate::recording::hexadecimal;
use crate::store::content::{Indexed, Lease, Piece};
use crate::store::{Store, StoreError};
use crate::task::Group;

/// Between two looks at the queue.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Before the next look after the database or a disk has failed.
const PAUSE: Duration = Duration::from_secs(30);

/// How long a trail is this node's; it is taken again with everything that is kept.
const LEASE: Duration = Duration::from_secs(600);

/// Pieces that are kept together.
const BATCH: usize = 64;

/// Lines of one session that are kept, in bytes: what a program prints without end is in the trail,
/// compressed, and must not fill the database.
const LINES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Commands of one session that are kept, in bytes.
const COMMANDS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Batches that wait for the database.
const BATCHES_WAITING_MAX: usize = 2;

/// Why the index cannot go on.
#[derive(Debug, ThisError)]
pub enum IndexError {
    /// The file with the identity cannot be read.
    #[error("cannot read the index's identity from {}", .file.display())]
    Identity {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It holds no identity.
    #[error("{} holds no identity for the index", .file.display())]
    NoIdentity {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: TrailError,
    },
    /// The database does not work.
    #[error("the index cannot use the database")]
    Store(#[from] StoreError),
    /// Reading ended without a word, which is a bug.
    #[error("reading a trail was interrupted, which is a bug")]
    Interrupted,
}

/// Why a trail cannot be indexed.
#[derive(Debug, ThisError)]
enum Unread {
    #[error("it cannot be opened")]
    Open(#[source] std::io::Error),
    #[error(transparent)]
    Trail(#[from] TrailError),
    #[error(
        "it does not end as the session's row says: another trail is in its place, or it is cut"
    )]
    Other,
    /// Whoever keeps what is found does not take more.
    #[error("what was found cannot be kept")]
    NotKept,
}

/// Looks into the trails of this node.
#[derive(Clone)]
pub struct Indexer {
    clock: Clock,
    store: Store,
    trails: PathBuf,
    identity: zeroize::Zeroizing<String>,
    key: VerifyingKey,
}

impl Indexer {
    /// Reads the identity in `file`; trails are in the directory `trails` and signed by `key`.
    pub fn open(
        clock: Clock,
        store: Store,
        trails: &Path,
        key: VerifyingKey,
        file: &Path,
    ) -> Result<Self, IndexError> {
        let read = std::fs::read_to_string(file);
        let identity =
            read.map_err(|source| IndexError::Identity { file: file.to_owned(), source })?;
        let identity = zeroize::Zeroizing::new(identity);
        let empty = |source| IndexError::NoIdentity { file: file.to_owned(), source };
        identities(&identity).map_err(empty)?;
        Ok(Self { clock, store, trails: trails.to_owned(), identity, key })
    }

    /// Starts to look, until `stop`.
    pub fn start(self, tasks: &Group, stop: CancellationToken) {
        tasks.start("index", async move {
            // INVARIANT: a trail that is left in the middle is taken again after its lease.
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.run(&stop) => {}
            }
        });
    }

    async fn run(&self, stop: &CancellationToken) {
        while !stop.is_cancelled() {
            let pause = match self.look().await {
                Ok(true) => continue,
                Ok(false) => LOOK_EVERY,
                Err(error) => {
                    error!(%error, source = ?error, "The index waits");
                    PAUSE
                }
            };
            self.clock.sleep_until(self.clock.now().saturating_add(pause)).await;
        }
    }

    /// Looks into one trail; false where none waits.
    async fn look(&self) -> Result<bool, IndexError> {
        let now_ns = self.clock.wall_ns();
        for session_id in self.store.give_up(now_ns).await? {
            error!(%session_id, "A trail was not indexed, however often it was tried");
            self.store.forget_content(session_id).await?;
        }
        let Some(lease) = self.store.lease(now_ns, now_ns.saturating_add(LEASE_NS)).await? else {
            return Ok(false);
        };
        let session_id = lease.session;
        self.store.forget_content(session_id).await?;
        let how = match self.find(&lease).await? {
            Ok(how) => how,
            Err(Unread::Trail(TrailError::NoIdentity { .. })) => Indexed::Sealed,
            Err(error @ (Unread::Open(_) | Unread::Trail(TrailError::Read { .. }))) => {
                // It may be another time; meanwhile others have their turn.
                warn!(%session_id, %error, source = ?error, "A trail cannot be read for the index");
                return Ok(true);
            }
            Err(error) => {
                error!(%session_id, %error, source = ?error, "A trail cannot be indexed");
                self.store.forget_content(session_id).await?;
                Indexed::Failed
            }
        };
        self.store.indexed(session_id, how).await?;
        Ok(true)
    }

    /// Keeps everything that is found in a trail.
    async fn find(&self, lease: &Lease) -> Result<Result<Indexed, Unread>, IndexError> {
        let (found, mut batches) = mpsc::channel(BATCHES_WAITING_MAX);
        let (reader, path) = (self.clone(), self.trails.join(&lease.trail));
        let hash = lease.hash.clone();
        let reading = tokio::task::spawn_blocking(move || reader.read(&path, &hash, &found));
        while let Some(batch) = batches.recv().await {
            // Sessions are saved by the same connection: each has to wait for a few pieces only.
            for pieces in batch.chunks(BATCH) {
                self.store.keep_content(lease.session, pieces).await?;
            }
            let until_ns = self.clock.wall_ns().saturating_add(LEASE_NS);
            self.store.renew(lease.session, until_ns).await?;
        }
        reading.await.map_err(|_panicked| IndexError::Interrupted)
    }

    /// Reads a trail to its end, which has to be the one that the session's row tells.
    fn read(
        &self,
        path: &Path,
        hash: &str,
        found: &mpsc::Sender<Vec<Piece>>,
    ) -> Result<Indexed, Unread> {
        let file = BufReader::new(File::open(path).map_err(Unread::Open)?);
        let mut reader = Reader::open(file, &identities(&self.identity)?, Some(&self.key))?;
        let mut finder = Finder::new(LINES_BYTES_MAX, COMMANDS_BYTES_MAX);
        while let Some(entry) = reader.next_record()? {
            if entry.stream == Stream::Upstream {
                continue;
            }
            finder.record(entry.t_ns, &entry.record);
            if finder.count() >= BATCH {
                let pieces = finder.take();
                if !pieces.is_empty() {
                    found.blocking_send(pieces).map_err(|_gone| Unread::NotKept)?;
                }
            }
        }
        let is_whole = matches!(reader.verdict(), Some(Verdict::Complete));
        if !is_whole || hexadecimal(&reader.hash()) != hash {
            return Err(Unread::Other);
        }
        found.blocking_send(finder.finish()).map_err(|_gone| Unread::NotKept)?;
        Ok(if finder.is_full() { Indexed::Cut } else { Indexed::Done })
    }
}

/// [`LEASE`] as the wall clock counts.
const LEASE_NS: u64 = LEASE.as_secs() * 1_000_000_000;

fn identities(text: &str) -> Result<Identities, TrailError> {
    let mut identities = Identities::new();
    identities.add_file(text)?;
    Ok(identities)
}
