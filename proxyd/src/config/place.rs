//! Where the catalogue and the trails are kept: values that are URLs.

use std::path::{Path, PathBuf};

use url::Url;

use super::report::Problems;
use super::value::{Node, Value, quote};

/// The start of a URL of an `SQLite` file.
const SQLITE: &str = "sqlite://";

/// The start of a URL of a local file.
const FILE: &str = "file://";

/// The start of a URL of a `PostgreSQL` database.
const POSTGRES: &str = "postgres://";

/// The catalogue.
#[derive(Clone, Debug)]
pub(crate) enum DatabaseUrl {
    /// A file of `SQLite`.
    Sqlite(PathBuf),
    /// A database of a `PostgreSQL` server.
    Postgres(Url),
}

impl Value for DatabaseUrl {
    fn describe() -> String {
        "URL, \"sqlite://path\" or \"postgres://user@host/database\"".to_owned()
    }

    /// No error shows the URL, as somebody may have put a password there.
    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a URL (string): sqlite://… or postgres://…")?;
        if text.starts_with(POSTGRES) {
            return postgres(text, node, problems).map(Self::Postgres);
        }
        file(text, SQLITE, node, problems).map(Self::Sqlite)
    }

    fn write(&self) -> Option<String> {
        Some(match self {
            Self::Sqlite(path) => write_file(SQLITE, path),
            Self::Postgres(url) => quote(url.as_str()),
        })
    }
}

/// The directory of finished trails.
#[derive(Clone, Debug)]
pub(crate) struct TrailsUrl(pub(crate) PathBuf);

impl Value for TrailsUrl {
    fn describe() -> String {
        "URL, \"file://path\"".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a URL (string) that starts with file://")?;
        file(text, FILE, node, problems).map(Self)
    }

    fn write(&self) -> Option<String> {
        Some(write_file(FILE, &self.0))
    }
}

fn postgres(text: &str, node: &Node<'_>, problems: &mut Problems) -> Option<Url> {
    let Ok(url) = Url::parse(text) else {
        node.error(problems, format!("not a URL of the form {POSTGRES}user@host/database"));
        return None;
    };
    let has_password =
        url.password().is_some() || url.query_pairs().any(|(key, _value)| key == "password");
    if has_password {
        let help = "put the password into a file and name it in database_password_file";
        node.error(problems, format!("a password does not belong into this file; {help}"));
        return None;
    }
    if url.username().is_empty() || url.path().trim_matches('/').is_empty() {
        node.error(problems, format!("not a URL of the form {POSTGRES}user@host/database"));
        return None;
    }
    Some(url)
}

/// Reads the path behind `scheme`.
fn file(text: &str, scheme: &str, node: &Node<'_>, problems: &mut Problems) -> Option<PathBuf> {
    let path = text.strip_prefix(scheme).unwrap_or_default();
    if path.is_empty() || path.contains(['?', '#', '\0']) {
        node.error(problems, format!("not a URL of the form {scheme}path"));
        return None;
    }
    Some(PathBuf::from(path))
}

fn write_file(scheme: &str, path: &Path) -> String {
    quote(&format!("{scheme}{}", path.display()))
}
