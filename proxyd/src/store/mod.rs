//! The database: sessions, their events, host keys. SQL and its types stay in here.

pub mod host_keys;
pub mod saver;
pub mod sessions;

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::ConnectOptions as _;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use thiserror::Error as ThisError;

/// The schema, as steps.
static MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");

/// How long a statement waits for another one's lock.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Connections for reading; `SQLite` has one writer however many there are.
const READERS_MAX: u32 = 4;

/// Why the database cannot be used.
#[derive(Debug, ThisError)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the database {path}")]
    Open {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Its schema is newer than this program, or a step failed.
    #[error("cannot bring the schema of the database {path} up to date")]
    Migrate {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// A statement failed.
    #[error("cannot {doing}")]
    Statement {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// It did not work for what was written before either.
    #[error("cannot {doing}: the database does not work")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
    },
    /// What was being done ended without a word.
    #[error("cannot {doing}: it was interrupted, which is a bug")]
    Interrupted {
        /// What was being done.
        doing: &'static str,
    },
    /// A value in the database is not what we wrote.
    #[error("the database holds a damaged {what}")]
    Damaged {
        /// What it should be.
        what: &'static str,
    },
}

impl StoreError {
    /// Whether the database refused what it was given, rather than to work at all.
    fn is_about_the_data(&self) -> bool {
        match self {
            Self::Statement { source: sqlx::Error::Database(error), .. } => {
                let code = error.code().and_then(|code| code.parse::<u32>().ok());
                code.is_some_and(|code| code & 0xff == SQLITE_CONSTRAINT)
            }
            Self::Damaged { .. } => true,
            Self::Statement { .. }
            | Self::Open { .. }
            | Self::Migrate { .. }
            | Self::Unavailable { .. }
            | Self::Interrupted { .. } => false,
        }
    }
}

/// The code of a constraint that was violated; extended codes have it in their lowest byte.
const SQLITE_CONSTRAINT: u32 = 19;

/// The database; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Store {
    writer: SqlitePool,
    readers: SqlitePool,
}

impl Store {
    /// Opens the database, makes it where there is none, and brings its schema up to date.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // A verdict that was written must outlive a power cut.
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_LIMIT)
            .disable_statement_logging();
        let writer = pool(path, options.clone(), 1).await?;
        MIGRATIONS
            .run(&writer)
            .await
            .map_err(|source| StoreError::Migrate { path: path.into(), source })?;
        let readers = pool(path, options.read_only(true), READERS_MAX).await?;
        Ok(Self { writer, readers })
    }
}

async fn pool(
    path: &Path,
    options: SqliteConnectOptions,
    connections: u32,
) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_LIMIT)
        .connect_with(options)
        .await
        .map_err(|source| StoreError::Open { path: path.to_owned(), source })
}

/// An error of a statement that was `doing` something.
fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { doing, source }
}
