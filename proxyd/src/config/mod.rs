//! The configuration: one TOML file, checked as a whole before anything is used.

pub mod change;
pub mod doc;
pub mod report;

mod choice;
mod convert;
mod effective;
mod entries;
mod file;
mod files;
mod keys;
mod place;
mod resolve;
mod section;
mod semantic;
mod value;
mod words;

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proxyd_policy::PolicySet;
use proxyd_policy::connection::OnProxyDown;
use proxyd_policy::gateway::PublicKey;
use proxyd_policy::time::{LocalTime, Weekday};
use toml::de::DeTable;
use url::Url;

use report::Report;

/// Bytes of a configuration file: 16384 connection policies of 2 KiB each, and as much again.
const FILE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A checked configuration.
#[derive(Debug)]
pub struct Config {
    /// How connections are picked up.
    pub steering: Steering,
    /// Bounds on what this gateway takes on.
    pub limits: Limits,
    /// Where state and evidence go.
    pub storage: Storage,
    /// The policies.
    pub policy: Arc<PolicySet>,
    /// Problems that do not keep the file from being used.
    pub warnings: Report,
    /// The whole configuration as TOML, defaults written out, without secrets.
    pub effective: String,
}

/// How connections are picked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Steering {
    /// How the host stands between clients and servers.
    pub mode: SteeringMode,
    /// What becomes of matching new connections while no proxy listens.
    pub on_proxy_down: OnProxyDown,
    /// Where packets of other connections are forwarded; off in bridge mode.
    pub fast_path: FastPath,
    /// Whether it is put on interfaces that it does not fit.
    pub fast_path_unchecked: bool,
    /// The fwmark of steered packets, not 0.
    pub mark: u32,
    /// The routing table of steered packets, not 0.
    pub table: u32,
    /// Where programs and maps are pinned.
    pub pin_directory: PathBuf,
    /// What the compiled table may take, in bytes.
    pub table_memory_bytes: usize,
    /// The local port of the listeners, not 0.
    pub listen_port: u16,
}

/// Where packets that are not steered are forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastPath {
    /// In the kernel's stack, as ever.
    Off,
    /// By the programs that steer, in router mode.
    Tc,
    /// By a program at the driver of every interface, in router mode.
    Xdp,
}

/// How the host stands between clients and servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SteeringMode {
    /// It routes between these interfaces.
    Router {
        /// Where packets from clients arrive; not empty.
        client_interfaces: Vec<String>,
        /// Where packets from servers arrive; not empty when a policy keeps the client's address.
        server_interfaces: Vec<String>,
    },
    /// It bridges.
    Bridge {
        /// The bridge.
        bridge: String,
    },
}

/// Bounds on what this gateway takes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Sessions at one time.
    pub sessions: usize,
    /// Sessions at one time from one client address.
    pub sessions_per_client: usize,
    /// Connections at one time whose user has not authenticated yet.
    pub handshakes: usize,
    /// From the first packet to the first authentication request.
    pub handshake_timeout: Duration,
    /// From the first authentication request to the session.
    pub authentication_timeout: Duration,
    /// For the user to answer one question.
    pub question_timeout: Duration,
    /// For somebody to approve of a channel that needs four eyes.
    pub four_eyes_timeout: Duration,
    /// To connect to the server and agree on keys with it.
    pub connect_timeout: Duration,
    /// Without data in either direction; absent: no limit.
    pub idle_timeout: Option<Duration>,
    /// From the start of a session to its end; absent: no limit.
    pub session_timeout: Option<Duration>,
    /// Failed authentication attempts after which a connection ends.
    pub authentication_attempts: u32,
    /// For running sessions to end after a stop was asked for.
    pub drain_timeout: Duration,
    /// For running sessions to end after another daemon took over; absent: no limit.
    pub takeover_drain_timeout: Option<Duration>,
}

/// Where the database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Database {
    /// A file of `SQLite`.
    Sqlite(PathBuf),
    /// A database of a `PostgreSQL` server.
    Postgres {
        /// Its URL, which holds no password.
        url: Url,
        /// The file with the password.
        password_file: Option<PathBuf>,
    },
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "{}", path.display()),
            Self::Postgres { url, password_file: _ } => write!(f, "{url}"),
        }
    }
}

/// Where state and evidence go; every path is absolute if the path of the file was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storage {
    /// The database.
    pub database: Database,
    /// The name of this gateway among those that share the database.
    pub node: String,
    /// The identity with which finished trails are read for the index.
    pub index_identity_file: Option<PathBuf>,
    /// The directory of finished trails.
    pub trails: PathBuf,
    /// The directory of trails that are being written.
    pub spool: PathBuf,
    /// The Unix socket for administration.
    pub control_socket: PathBuf,
    /// The key that signs trails.
    pub signing_key_file: PathBuf,
}

/// Why a configuration was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened or read.
    #[error("cannot read {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// The file is larger than any configuration.
    #[error("{} exceeds {FILE_BYTES_MAX} bytes", .file.display())]
    TooLarge {
        /// The file.
        file: PathBuf,
    },
    /// The file is not UTF-8, as TOML has to be.
    #[error("{} is not UTF-8", .file.display())]
    NotUtf8 {
        /// The file.
        file: PathBuf,
        /// Where it stops being UTF-8.
        #[source]
        error: std::string::FromUtf8Error,
    },
    /// The file has errors, all of which are in the report.
    #[error("{0}")]
    Invalid(Report),
}

/// Loads and checks a configuration file.
///
/// # Errors
/// Fails when the file cannot be read, and when it has any error; then the report has them all.
pub fn load(file: &Path) -> Result<Config, LoadError> {
    check(file, read(file)?).map_err(LoadError::Invalid)
}

/// The control socket that a configuration file names, also where the rest of it has errors: the
/// daemon that runs was started with an earlier state of the file.
///
/// # Errors
/// Fails when the file cannot be read, and when it has errors and names no control socket.
pub fn control_socket(file: &Path) -> Result<PathBuf, LoadError> {
    let source = read(file)?;
    match named_socket(&source) {
        Some(path) => Ok(directory(file).join(path)),
        None => Ok(check(file, source).map_err(LoadError::Invalid)?.storage.control_socket),
    }
}

/// Reads a public key, `type base64 [comment]`, as keys of users are read.
///
/// # Errors
/// Says in words what is wrong with it.
pub fn public_key(line: &str) -> Result<PublicKey, String> {
    Ok(keys::parse_public_key(line)?.key)
}

/// The text of `storage.control_socket`, whatever else is there.
fn named_socket(source: &str) -> Option<String> {
    let (document, _broken) = DeTable::parse_recoverable(source);
    let storage = document.get_ref().get("storage")?.as_ref().as_table()?;
    storage.get("control_socket")?.as_ref().as_str().map(str::to_owned)
}

fn read(file: &Path) -> Result<String, LoadError> {
    let mut bytes = Vec::new();
    File::open(file)
        .and_then(|opened| opened.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| LoadError::Read { file: file.to_owned(), error })?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length > FILE_BYTES_MAX) {
        return Err(LoadError::TooLarge { file: file.to_owned() });
    }
    String::from_utf8(bytes).map_err(|error| LoadError::NotUtf8 { file: file.to_owned(), error })
}

/// Checks the text of a configuration file; `file` names it in the report, and relative paths
/// start at its directory.
///
/// # Errors
/// The report of all errors and warnings, when there is at least one error.
pub fn check(file: &Path, source: String) -> Result<Config, Report> {
    let (config, problems) = resolve::resolve(directory(file), &source);
    let report = problems.into_report(file.display().to_string(), source);
    match config {
        Some(resolved) if report.error_count() == 0 => Ok(Config {
            steering: resolved.steering,
            limits: resolved.limits,
            storage: resolved.storage,
            policy: Arc::new(resolved.policy),
            warnings: report,
            effective: resolved.effective,
        }),
        Some(_) | None => Err(report),
    }
}

/// Where relative paths of a file start.
fn directory(file: &Path) -> &Path {
    file.parent().unwrap_or_else(|| Path::new(""))
}

/// What the clock of a time zone shows at `at`; `None` when the zone is not known (any more), which
/// closes the windows of policies in that zone.
#[must_use]
pub fn local_time(zone: &str, at: jiff::Timestamp) -> Option<LocalTime> {
    let local = at.in_tz(zone).ok()?;
    let weekday = match local.weekday() {
        jiff::civil::Weekday::Monday => Weekday::Monday,
        jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
        jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
        jiff::civil::Weekday::Thursday => Weekday::Thursday,
        jiff::civil::Weekday::Friday => Weekday::Friday,
        jiff::civil::Weekday::Saturday => Weekday::Saturday,
        jiff::civil::Weekday::Sunday => Weekday::Sunday,
    };
    LocalTime::new(weekday, u8::try_from(local.hour()).ok()?, u8::try_from(local.minute()).ok()?)
}

#[cfg(test)]
mod tests;
