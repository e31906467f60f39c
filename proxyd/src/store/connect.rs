//! Opens the database: a file of `SQLite`, or a database of a `PostgreSQL` server.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::{AnyPool, ConnectOptions as _, Executor as _};
use url::Url;
use zeroize::Zeroizing;

use super::{Store, StoreError};
use crate::config::Database;

/// The schema of each kind of database, as steps.
static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("src/store/migrations/postgres");

/// How long a statement may wait for another one's lock, and a task for a connection.
const BUSY_LIMIT: Duration = Duration::from_secs(10);

/// Connections for reading.
const READERS_MAX: u32 = 4;

/// Connections to a `PostgreSQL` server for writing. `SQLite` has one writer.
const POSTGRES_WRITERS_MAX: u32 = 4;

/// What every connection to `SQLite` begins with. A verdict that was written must outlive a power
/// cut: the write-ahead log is flushed with every transaction.
const SQLITE_SETTINGS: &str = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
     PRAGMA foreign_keys = ON; PRAGMA busy_timeout = 10000";

/// What every connection to `PostgreSQL` begins with; milliseconds.
const POSTGRES_SETTINGS: &str = "SET lock_timeout = 10000; SET statement_timeout = 60000";

/// Kinds of database, where their SQL differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A file.
    Sqlite,
    /// A server.
    Postgres,
}

impl Store {
    /// Opens the database, makes it where there is none (a file only), and brings its schema up to
    /// date.
    ///
    /// `node` is the name of this gateway among those that share it.
    pub async fn open(database: &Database, node: &str) -> Result<Self, StoreError> {
        sqlx::any::install_default_drivers();
        let node = node.into();
        let place = database.to_string();
        let opened = |source| StoreError::Open { place: place.clone(), source };
        match database {
            Database::Sqlite(path) => {
                let options = |mode| sqlite(path, mode);
                let writer = options("rwc").map_err(opened)?;
                let writer = pool(writer, SQLITE_SETTINGS, 1).await.map_err(opened)?;
                migrate(&SQLITE_MIGRATIONS, &writer, &place).await?;
                let readers = options("ro").map_err(opened)?;
                let readers = pool(readers, SQLITE_SETTINGS, READERS_MAX).await.map_err(opened)?;
                Ok(Self { writer, readers, kind: Kind::Sqlite, node })
            }
            Database::Postgres { url, password_file } => {
                let options = postgres(url, password_file.as_deref())?;
                let open = |count| pool(options.clone(), POSTGRES_SETTINGS, count);
                // A step may take as long as it takes, and wait for another node's.
                let migrator = pool(options.clone(), "SELECT 1", 1).await.map_err(opened)?;
                migrate(&POSTGRES_MIGRATIONS, &migrator, &place).await?;
                migrator.close().await;
                let writer = open(POSTGRES_WRITERS_MAX).await.map_err(opened)?;
                let readers = open(READERS_MAX).await.map_err(opened)?;
                Ok(Self { writer, readers, kind: Kind::Postgres, node })
            }
        }
    }
}

async fn migrate(steps: &Migrator, pool: &AnyPool, place: &str) -> Result<(), StoreError> {
    let refused = |source| StoreError::Migrate { place: place.to_owned(), source };
    steps.run(pool).await.map_err(refused)
}

async fn pool(
    options: AnyConnectOptions,
    settings: &'static str,
    connections: u32,
) -> Result<AnyPool, sqlx::Error> {
    AnyPoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_LIMIT)
        .after_connect(move |connection, _meta| {
            Box::pin(async move { connection.execute(settings).await.map(drop) })
        })
        .connect_with(options.disable_statement_logging())
        .await
}

/// A file of `SQLite`, whose path may have characters that mean something in a URL.
fn sqlite(path: &Path, mode: &str) -> Result<AnyConnectOptions, sqlx::Error> {
    let path = std::path::absolute(path).map_err(sqlx::Error::Io)?;
    let not_a_path = || sqlx::Error::Configuration("not a path in UTF-8".into());
    let path = path.to_str().ok_or_else(not_a_path)?;
    let escaped = utf8_percent_encode(path, NOT_IN_A_PATH);
    AnyConnectOptions::from_str(&format!("sqlite://{escaped}?mode={mode}"))
}

/// Characters of a path that a URL would take for something else.
const NOT_IN_A_PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');

/// A database of a server, with the password from its file.
fn postgres(url: &Url, password_file: Option<&Path>) -> Result<AnyConnectOptions, StoreError> {
    let mut whole = url.clone();
    if let Some(file) = password_file {
        let refused = |source| StoreError::Password { file: file.to_owned(), source };
        let password = Zeroizing::new(std::fs::read_to_string(file).map_err(refused)?);
        let password =
            utf8_percent_encode(password.trim_end_matches(['\r', '\n']), NON_ALPHANUMERIC);
        // INVARIANT: the configuration takes no URL that cannot have a user name.
        let _is_set = whole.set_password(Some(&Zeroizing::new(password.to_string())));
    }
    AnyConnectOptions::from_url(&whole)
        .map_err(|source| StoreError::Open { place: url.to_string(), source })
}
