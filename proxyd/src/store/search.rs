//! Finds sessions by their facts, and places in them by what was there.
//!
//! A text is found where its words stand one after the other; words are runs of letters and digits,
//! and the last one may go on. Of what the database finds by its words, a line counts if it has the
//! text as it was given, capital letters aside: `rm -rf` does not find `rm, rf`.

use std::fmt::Write as _;
use std::net::{IpAddr, SocketAddr};

use serde::Serialize;
use sqlx::any::{AnyArguments, AnyRow};
use sqlx::query::Query;
use sqlx::{Any, AssertSqlSafe, Row as _};
use uuid::Uuid;

use super::connect::Kind;
use super::sessions::session_row;
use super::{Store, StoreError, failed, to_i64, to_u64};
use crate::session::row::SessionRow;

/// Rows of one page that the database finds by words.
const PAGE: i64 = 200;

/// Pages read for one search: a text whose words are in more places, but never as they were given,
/// is not looked for any further.
const PAGES_MAX: usize = 50;

/// Characters of a line that are told.
const LINE_CHARS_MAX: usize = 300;

/// Words of a text.
const WORDS_MAX: usize = 32;

/// What is being done, for errors.
const DOING: &str = "search";

/// What sessions are looked for; all of it has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// The gateway user or the user on the server.
    pub user: Option<String>,
    /// The client's address.
    pub client: Option<String>,
    /// The server's address, with or without a port.
    pub target: Option<String>,
    /// The connection policy.
    pub policy: Option<String>,
    /// The protocol.
    pub protocol: Option<String>,
    /// How it ended, or "active".
    pub outcome: Option<String>,
    /// Started at this wall clock or later.
    pub since_ns: Option<u64>,
    /// Started before this wall clock.
    pub until_ns: Option<u64>,
}

/// A place in a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hit {
    /// The session.
    pub session: Uuid,
    /// When it started, in nanoseconds since 1970.
    pub started_ns: u64,
    /// The gateway user.
    pub gateway_user: String,
    /// The user on the server.
    pub remote_user: String,
    /// The server.
    pub target: String,
    /// Nanoseconds since the session's start.
    pub at_ns: u64,
    /// "screen", "command", or the name of an event.
    pub kind: String,
    /// The channel, where the place has one.
    pub channel: Option<u32>,
    /// The exit status of a command, where known.
    pub exit_status: Option<i64>,
    /// The line with the text.
    pub line: String,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The places, those of the newest sessions first; of more than were asked for, those that came
    /// to the database last.
    pub hits: Vec<Hit>,
    /// Whether there may be more than these.
    pub is_cut: bool,
}

/// Why a text cannot be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// No letter and no digit.
    #[error("a text to search for needs a letter or a digit")]
    NoWords,
    /// Too long.
    #[error("a text to search for has at most {WORDS_MAX} words")]
    TooLong,
}

/// A text to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// In lower case.
    literal: String,
    words: Vec<String>,
    /// Whether the last word may go on.
    is_open: bool,
}

impl Text {
    /// The text as somebody gave it.
    pub fn new(text: &str) -> Result<Self, TextError> {
        let literal = text.to_lowercase();
        let words = literal.split(|character: char| !character.is_alphanumeric());
        let words: Vec<String> = words.filter(|word| !word.is_empty()).map(str::to_owned).collect();
        match words.len() {
            0 => Err(TextError::NoWords),
            1..=WORDS_MAX => {
                let is_open = literal.ends_with(char::is_alphanumeric);
                Ok(Self { literal, words, is_open })
            }
            _ => Err(TextError::TooLong),
        }
    }

    /// The words as the full-text search of a kind of database takes them. They are letters and
    /// digits only, so nothing in them means anything to it.
    fn expression(&self, kind: Kind) -> String {
        let star = if self.is_open { "*" } else { "" };
        match kind {
            Kind::Sqlite => format!("\"{}\" {star}", self.words.join(" ")),
            Kind::Postgres => {
                let prefix = if self.is_open { ":*" } else { "" };
                let words: Vec<String> =
                    self.words.iter().map(|word| format!("'{word}'")).collect();
                format!("{}{prefix}", words.join(" <-> "))
            }
        }
    }

    /// The part of a line with the text, if it has it.
    fn around(&self, line: &str) -> Option<String> {
        let lower = line.to_lowercase();
        let before = lower.get(..lower.find(&self.literal)?)?.chars().count();
        // In lower case some letters are two; then the part begins a little later.
        let skipped = before.saturating_sub(LINE_CHARS_MAX / 3);
        Some(line.chars().skip(skipped).take(LINE_CHARS_MAX).collect())
    }
}

/// Where the words are.
#[derive(Debug, Clone, Copy)]
enum Place {
    Content,
    Event,
}

impl Store {
    /// The newest sessions that `filter` lets through, at most `count`.
    pub async fn find_sessions(
        &self,
        filter: &Filter,
        count: u32,
    ) -> Result<Vec<SessionRow>, StoreError> {
        let mut statement = Statement::new("SELECT s.* FROM session s WHERE 1 = 1".to_owned());
        statement.filter(filter);
        statement.push(" ORDER BY s.started_ns DESC LIMIT ", Value::Number(i64::from(count)));
        let rows = statement.query().fetch_all(&self.readers).await.map_err(failed(DOING))?;
        rows.iter().map(session_row).collect()
    }

    /// One session.
    pub async fn session(&self, id: Uuid) -> Result<Option<SessionRow>, StoreError> {
        sqlx::query("SELECT * FROM session WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(failed("read a session's row"))?
            .as_ref()
            .map(session_row)
            .transpose()
    }

    /// The places in which `text` is, at most `count`.
    pub async fn search(
        &self,
        text: &Text,
        filter: &Filter,
        count: usize,
    ) -> Result<Found, StoreError> {
        let mut found = Found { hits: Vec::new(), is_cut: false };
        for place in [Place::Content, Place::Event] {
            self.search_in(place, text, filter, count, &mut found).await?;
        }
        found.hits.sort_by_key(|hit| (std::cmp::Reverse(hit.started_ns), hit.session, hit.at_ns));
        found.is_cut |= found.hits.len() > count;
        found.hits.truncate(count);
        Ok(found)
    }

    /// Commands of a session, in order.
    pub async fn commands(&self, session: Uuid) -> Result<Vec<Hit>, StoreError> {
        let mut statement = Statement::new(select(Place::Content, self.kind).to_owned());
        statement
            .push(" WHERE c.kind = 'command' AND c.session = ", Value::from(session.to_string()));
        statement.text.push_str(" ORDER BY c.at_ns, c.id");
        let rows = statement.query().fetch_all(&self.readers).await.map_err(failed(DOING))?;
        let mut hits = Vec::new();
        for row in &rows {
            let line: String = column(row, "text")?;
            hits.push(hit(row, Place::Content, to_u64(column(row, "at_ns")?), &line)?);
        }
        Ok(hits)
    }

    async fn search_in(
        &self,
        place: Place,
        text: &Text,
        filter: &Filter,
        count: usize,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        let enough = found.hits.len() + count;
        let mut before = i64::MAX;
        for _page in 0..PAGES_MAX {
            let mut statement = Statement::new(select(place, self.kind).to_owned());
            let (matches, order) = match (self.kind, place) {
                (Kind::Sqlite, Place::Content) => (" WHERE content_words MATCH ", "w.rowid"),
                (Kind::Sqlite, Place::Event) => (" WHERE event_words MATCH ", "w.rowid"),
                (Kind::Postgres, _) => (" WHERE c.words @@ to_tsquery('simple', ", "c.id"),
            };
            statement.push(matches, Value::from(text.expression(self.kind)));
            if self.kind == Kind::Postgres {
                statement.text.push(')');
            }
            statement.push(&format!(" AND {order} < "), Value::Number(before));
            statement.filter(filter);
            statement.push(&format!(" ORDER BY {order} DESC LIMIT "), Value::Number(PAGE));
            let rows = statement.query().fetch_all(&self.readers).await.map_err(failed(DOING))?;
            for row in &rows {
                before = column(row, "id")?;
                let lines = lines(row, place)?;
                let with_it =
                    lines.iter().filter_map(|(at_ns, line)| Some((at_ns, text.around(line)?)));
                for (at_ns, line) in with_it {
                    found.hits.push(hit(row, place, *at_ns, &line)?);
                }
                if found.hits.len() >= enough {
                    found.is_cut = true;
                    return Ok(());
                }
            }
            if i64::try_from(rows.len()).is_ok_and(|count| count < PAGE) {
                return Ok(());
            }
        }
        found.is_cut = true;
        Ok(())
    }
}

/// The columns of a hit, and where they are from.
const fn select(place: Place, kind: Kind) -> &'static str {
    match (place, kind) {
        (Place::Content, Kind::Sqlite) => {
            "SELECT c.id, c.session, c.channel, c.at_ns, c.kind, c.text, c.line_ms, \
             c.exit_status, s.started_ns, s.gateway_user, s.remote_user, s.target \
             FROM content_words w JOIN content c ON c.id = w.rowid \
             JOIN session s ON s.id = c.session \
             JOIN indexing i ON i.session = c.session AND i.state IN ('done', 'cut')"
        }
        (Place::Content, Kind::Postgres) => {
            "SELECT c.id, c.session, c.channel, c.at_ns, c.kind, c.text, c.line_ms, \
             c.exit_status, s.started_ns, s.gateway_user, s.remote_user, s.target \
             FROM content c JOIN session s ON s.id = c.session \
             JOIN indexing i ON i.session = c.session AND i.state IN ('done', 'cut')"
        }
        (Place::Event, Kind::Sqlite) => {
            "SELECT c.id, c.session, c.at_ns, c.name, c.fields, s.started_ns, s.gateway_user, \
             s.remote_user, s.target \
             FROM event_words w JOIN event c ON c.id = w.rowid JOIN session s ON s.id = c.session"
        }
        (Place::Event, Kind::Postgres) => {
            "SELECT c.id, c.session, c.at_ns, c.name, c.fields, s.started_ns, s.gateway_user, \
             s.remote_user, s.target FROM event c JOIN session s ON s.id = c.session"
        }
    }
}

/// The lines of a row, each with its time since the session's start.
fn lines(row: &AnyRow, place: Place) -> Result<Vec<(u64, String)>, StoreError> {
    let at_ns = to_u64(column(row, "at_ns")?);
    match place {
        Place::Content => {
            let (text, line_ms): (String, String) = (column(row, "text")?, column(row, "line_ms")?);
            let mut offsets = line_ms.split(',').map(|ms| ms.parse::<u64>().unwrap_or_default());
            let at = |line: &str| {
                let offset_ns = offsets.next().unwrap_or_default().saturating_mul(NS_PER_MS);
                (at_ns.saturating_add(offset_ns), line.to_owned())
            };
            Ok(text.lines().map(at).collect())
        }
        Place::Event => {
            let fields: String = column(row, "fields")?;
            let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&fields)
                .map_err(|_damaged| StoreError::Damaged { what: "event" })?;
            let values: Vec<&str> = fields.values().filter_map(|value| value.as_str()).collect();
            Ok(values.into_iter().map(|value| (at_ns, value.to_owned())).collect())
        }
    }
}

const NS_PER_MS: u64 = 1_000_000;

fn hit(row: &AnyRow, place: Place, at_ns: u64, line: &str) -> Result<Hit, StoreError> {
    let session: String = column(row, "session")?;
    let (kind, channel, exit_status) = match place {
        Place::Content => {
            let channel: i64 = column(row, "channel")?;
            (column(row, "kind")?, u32::try_from(channel).ok(), column(row, "exit_status")?)
        }
        Place::Event => (column(row, "name")?, None, None),
    };
    Ok(Hit {
        session: session.parse().map_err(|_damaged| StoreError::Damaged { what: "session id" })?,
        started_ns: to_u64(column(row, "started_ns")?),
        gateway_user: column(row, "gateway_user")?,
        remote_user: column(row, "remote_user")?,
        target: column(row, "target")?,
        at_ns,
        kind,
        channel,
        exit_status,
        line: line.to_owned(),
    })
}

fn column<'r, T: sqlx::Decode<'r, Any> + sqlx::Type<Any>>(
    row: &'r AnyRow,
    name: &str,
) -> Result<T, StoreError> {
    row.try_get(name).map_err(failed(DOING))
}

/// A statement that grows with what is asked for.
struct Statement {
    text: String,
    values: Vec<Value>,
}

/// A parameter.
enum Value {
    Text(String),
    Number(i64),
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl Statement {
    const fn new(text: String) -> Self {
        Self { text, values: Vec::new() }
    }

    /// Adds words of SQL and a parameter behind them.
    fn push(&mut self, sql: &str, value: Value) {
        self.values.push(value);
        let number = self.values.len();
        // INVARIANT: writing to a string does not fail.
        let _written = write!(self.text, "{sql}${number}");
    }

    fn filter(&mut self, filter: &Filter) {
        let Filter { user, client, target, policy, protocol, outcome, since_ns, until_ns } = filter;
        if let Some(user) = user {
            self.push(" AND (s.gateway_user = ", Value::from(user.clone()));
            self.push(" OR s.remote_user = ", Value::from(user.clone()));
            self.text.push(')');
        }
        for (column, value) in [("policy", policy), ("protocol", protocol), ("outcome", outcome)] {
            if let Some(value) = value {
                self.push(&format!(" AND s.{column} = "), Value::from(value.clone()));
            }
        }
        if let Some(client) = client {
            self.address("client", client);
        }
        if let Some(target) = target {
            self.address("target", target);
        }
        if let Some(since_ns) = since_ns {
            self.push(" AND s.started_ns >= ", Value::Number(to_i64(*since_ns)));
        }
        if let Some(until_ns) = until_ns {
            self.push(" AND s.started_ns < ", Value::Number(to_i64(*until_ns)));
        }
    }

    /// A column that holds an address and a port is this address, with or without the port.
    fn address(&mut self, column: &str, wanted: &str) {
        let Ok(address) = wanted.parse::<IpAddr>() else {
            return self.push(&format!(" AND s.{column} = "), Value::from(wanted.to_owned()));
        };
        // What stands before the port: an IPv6 address is in brackets.
        let mut begin = SocketAddr::new(address, 0).to_string();
        let _port = begin.pop();
        let length = i64::try_from(begin.len()).unwrap_or(i64::MAX);
        self.push(&format!(" AND substr(s.{column}, 1, CAST("), Value::Number(length));
        self.push(" AS INTEGER)) = ", Value::from(begin));
    }

    fn query(&self) -> Query<'_, Any, AnyArguments> {
        let mut query = sqlx::query(AssertSqlSafe(self.text.clone())).persistent(false);
        for value in &self.values {
            query = match value {
                Value::Text(text) => query.bind(text.replace('\0', "\u{fffd}")),
                Value::Number(number) => query.bind(*number),
            };
        }
        query
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let words = |text: &str| Text::new(text).map(|text| (text.words, text.is_open));
        let of = |list: &[&str]| list.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(words("rm -rf"), Ok((of(&["rm", "rf"]), true)));
        assert_eq!(words("'\"*) OR Zoë:"), Ok((of(&["or", "zoë"]), false)));
        assert_eq!(words(" && "), Err(TextError::NoWords));
        assert_eq!(words(""), Err(TextError::NoWords));
        assert_eq!(words(&"a ".repeat(WORDS_MAX + 1)), Err(TextError::TooLong));
        let around = |text: &str, line: &str| Text::new(text).unwrap().around(line);
        assert_eq!(around("RM -rf", "sudo rm -RF /"), Some("sudo rm -RF /".to_owned()));
        assert_eq!(around("rm -rf", "rm, rf"), None);
        let long = "x ".repeat(1_000) + "rm" + &" y".repeat(1_000);
        let part = around("rm", &long).unwrap();
        assert!(part.contains("rm") && part.chars().count() == LINE_CHARS_MAX, "{part}");
    }
}
