//! The database: sessions, their events, host keys. SQL and its types stay in here.

pub mod content;
pub mod host_keys;
pub mod saver;
pub mod search;
pub mod sessions;

mod connect;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use sqlx::AnyPool;
use sqlx::migrate::MigrateError;
use thiserror::Error as ThisError;

use self::connect::Kind;

/// Why the database cannot be used.
#[derive(Debug, ThisError)]
pub enum StoreError {
    /// It cannot be opened.
    #[error("cannot open the database {place}")]
    Open {
        /// Its file or URL.
        place: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// Its schema is newer than this program, or a step failed.
    #[error("cannot bring the schema of the database {place} up to date")]
    Migrate {
        /// Its file or URL.
        place: String,
        /// Why.
        #[source]
        source: MigrateError,
    },
    /// The file with the password of the database cannot be used.
    #[error("cannot read the password of the database from {}", .file.display())]
    Password {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
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
                error.code().is_some_and(|code| is_about_the_data(&code))
            }
            Self::Damaged { .. } => true,
            Self::Statement { .. }
            | Self::Open { .. }
            | Self::Migrate { .. }
            | Self::Password { .. }
            | Self::Unavailable { .. }
            | Self::Interrupted { .. } => false,
        }
    }
}

/// Bytes of an `SQLSTATE`, as `PostgreSQL` tells it; codes of `SQLite` are shorter numbers.
const SQLSTATE_BYTES: usize = 5;

/// Classes of `SQLSTATE`: data exception, violation of a constraint.
const SQLSTATE_DATA: [&str; 2] = ["22", "23"];

/// The code of a violated constraint in `SQLite`; extended codes have it in their lowest byte.
const SQLITE_CONSTRAINT: u32 = 19;

fn is_about_the_data(code: &str) -> bool {
    if code.len() == SQLSTATE_BYTES {
        return SQLSTATE_DATA.iter().any(|class| code.starts_with(class));
    }
    code.parse::<u32>().is_ok_and(|code| code & 0xff == SQLITE_CONSTRAINT)
}

/// The database; a clone is the same one.
///
/// Statements are written in the SQL that both kinds of database know, with numbered parameters.
#[derive(Clone)]
pub struct Store {
    writer: AnyPool,
    readers: AnyPool,
    kind: Kind,
    /// Which of the nodes that share the database this one is.
    node: Arc<str>,
}

impl fmt::Debug for Store {
    /// Without the pools: their options hold the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("kind", &self.kind)
            .field("node", &self.node)
            .finish_non_exhaustive()
    }
}

/// An error of a statement that was `doing` something.
fn failed(doing: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Statement { doing, source }
}

/// The parameters of `rows` rows of `columns` values each: `($1, $2), ($3, $4)`.
fn parameters(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let first = row * columns + 1;
        let numbers: Vec<String> =
            (first..first + columns).map(|number| format!("${number}")).collect();
        format!("({})", numbers.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// Nanoseconds since 1970 fit until the year 2262; counts and sizes fit too.
fn to_i64(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number that was written by [`to_i64`].
fn to_u64(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
