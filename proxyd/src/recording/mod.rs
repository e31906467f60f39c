//! Recording: what a session writes its trail with, and where trails live.
//!
//! A trail is written to the spool while its session runs, and moved to the store once it is
//! sealed. The session holds a [`Recorder`]; a writer task behind it does the disk's work.

mod key;
mod keyframes;
mod recorder;
mod spool;
mod writer;

use std::os::fd::OwnedFd;
use std::path::PathBuf;

use proxyd_policy::audit::AuditPolicy;
use proxyd_policy::connection::ConnectionPolicy;
use proxyd_trail::{Header, Sealing, SigningKey, TrailError, VerifyingKey};
use thiserror::Error as ThisError;
use tracing::info;

pub use self::recorder::Recorder;
pub use self::spool::Recovered;
use self::spool::Spool;
pub use self::spool::trail_name;
use crate::clock::Clock;
use crate::config::Storage;
use crate::session::Session;
use crate::task::Group;

/// Why something is not recorded.
#[derive(Debug, ThisError)]
pub enum RecordingError {
    /// A file of the spool or the store cannot be used.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Another daemon serves with it.
    #[error("another proxyd uses the spool {path}; each needs its own")]
    Locked {
        /// The spool.
        path: PathBuf,
    },
    /// What was handed over is the lock of another spool.
    #[error("the lock that was handed over is not {path}")]
    OtherLock {
        /// The lock of this spool.
        path: PathBuf,
    },
    /// A batch was recorded into while the writer was behind, which is a bug.
    #[error("more was recorded than fits")]
    Overfull,
    /// The trail cannot be made or written.
    #[error("cannot write the trail {path}")]
    Trail {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TrailError,
    },
    /// A record has no valid form, which is a bug.
    #[error("cannot encode a record")]
    Record(#[source] TrailError),
    /// The key that signs trails cannot be used.
    #[error("the key that signs trails, {path}, {what}")]
    Key {
        /// Its file.
        path: PathBuf,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The recipients of the audit policy cannot be used.
    #[error("audit policy {policy}: recipients cannot be used")]
    Recipients {
        /// The audit policy.
        policy: String,
        /// Why.
        #[source]
        source: TrailError,
    },
    /// The writer ended before its session did.
    #[error("the trail's writer has stopped")]
    WriterGone,
}

/// Bytes as records write them: two lower-case digits each.
#[must_use]
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Makes recorders.
#[derive(Debug, Clone)]
pub struct Recordings {
    clock: Clock,
    spool: Spool,
    signing_key: SigningKey,
    tasks: Group,
}

impl Recordings {
    /// Recordings in the directories of `storage`, which are made where they are missing; fails
    /// where another daemon uses the spool and has not `handed` over its lock.
    ///
    /// The key that signs them is read from its file, and made where there neither is a key nor a
    /// trail that one has signed.
    pub fn open(
        clock: Clock,
        storage: &Storage,
        handed: Option<OwnedFd>,
        tasks: Group,
    ) -> Result<Self, RecordingError> {
        let spool = Spool::new(storage.spool.clone(), storage.trails.clone(), handed)?;
        let signing_key = key::read_or_make(&storage.signing_key_file, &spool)?;
        info!(key = %signing_key.public(), "Trails are signed");
        Ok(Self { clock, spool, signing_key, tasks })
    }

    /// The key by which its trails are proven.
    #[must_use]
    pub fn public_key(&self) -> VerifyingKey {
        self.signing_key.public()
    }

    /// The lock of the spool, to be handed over; fails once it was given up.
    pub fn share_lock(&self) -> Result<OwnedFd, RecordingError> {
        self.spool.share_lock()
    }

    /// Gives up the lock of the spool; trails that are being written can still be ended.
    pub fn give_up_lock(&self) {
        self.spool.give_up_lock();
    }

    /// Closes and stores the trails that dead daemons left open; blocks.
    pub fn recover(&self) -> Result<Vec<Recovered>, RecordingError> {
        self.spool.recover(&self.signing_key, self.clock.wall_ns())
    }

    /// Opens the trail of a session; its header is on the disk when this returns.
    ///
    /// The trail begins with everything the session has left behind so far.
    pub async fn start(
        &self,
        session: &Session,
        policy: &ConnectionPolicy,
        audit: &AuditPolicy,
    ) -> Result<Recorder, RecordingError> {
        let refused = |source| RecordingError::Recipients { policy: audit.name.clone(), source };
        let sealing =
            Sealing::new(&audit.recipients, &audit.upstream_recipients, self.signing_key.clone())
                .map_err(refused)?;
        let header = Header {
            session_id: *session.id().as_bytes(),
            created_ns: session.started_ns(),
            protocol: policy.protocol.as_str().to_owned(),
            connection_policy: policy.name.clone(),
        };
        let name = trail_name(session.id());
        let writer =
            writer::start(&self.spool, self.clock, &self.tasks, name.clone(), header, sealing)
                .await?;
        let mut recorder = Recorder::new(self.clock, session.started(), name, writer);
        let row = session.facts();
        for (name, value) in [
            ("client", &row.client),
            ("original-destination", &row.original_destination),
            ("target", &row.target),
            ("gateway-user", &row.gateway_user),
            ("remote-user", &row.remote_user),
        ] {
            recorder.fact(name, value);
        }
        for timed in session.events() {
            recorder.event(timed);
        }
        Ok(recorder)
    }
}
