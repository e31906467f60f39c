//! Recording: what a session writes its trail with, and where trails live.
//!
//! A trail is written to the spool while its session runs, and moved to the store once it is
//! sealed. The session holds a [`Recorder`]; a writer task behind it does the disk's work.

mod recorder;
mod spool;
mod writer;

use std::path::PathBuf;

use proxyd_policy::audit::AuditPolicy;
use proxyd_policy::connection::ConnectionPolicy;
use proxyd_trail::{Header, Sealing, SigningKey, TrailError};
use thiserror::Error as ThisError;

pub use self::recorder::Recorder;
pub use self::spool::Recovered;
use self::spool::Spool;
use crate::clock::Clock;
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

/// Makes recorders.
#[derive(Debug, Clone)]
pub struct Recordings {
    clock: Clock,
    spool: Spool,
    signing_key: SigningKey,
    tasks: Group,
}

impl Recordings {
    /// Recordings that are spooled in one directory and stored in another, both of which are made
    /// where they are missing.
    pub fn new(
        clock: Clock,
        spool: PathBuf,
        store: PathBuf,
        signing_key: SigningKey,
        tasks: Group,
    ) -> Result<Self, RecordingError> {
        let spool = Spool::new(spool, store)?;
        Ok(Self { clock, spool, signing_key, tasks })
    }

    /// Closes and stores the trails that an earlier daemon left open; blocks.
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
        let name = Spool::file_name(session.id());
        let writer =
            writer::start(&self.spool, self.clock, &self.tasks, name.clone(), header, sealing)
                .await?;
        let mut recorder = Recorder::new(self.clock, session.started(), name, writer);
        for timed in session.waiting() {
            recorder.event(timed);
        }
        Ok(recorder)
    }
}

/// A hash as it stands in rows.
fn hexadecimal(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
