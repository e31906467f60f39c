//! What was found in trails, and the queue of trails in which nobody has looked yet.
//!
//! A node takes a trail from the queue for some time only. If it dies, the next one that looks
//! takes the trail after that time and begins anew: nothing is lost, nothing is there twice.

use sqlx::{AnyConnection, Row as _};
use uuid::Uuid;

use super::connect::Kind;
use super::{Store, StoreError, failed, parameters, to_i64};

/// Times that somebody begins to look into a trail before it is left alone.
const TRIES_MAX: i64 = 3;

/// Pieces that are removed at once: whoever else writes has to wait meanwhile.
const REMOVED_AT_ONCE: i64 = 256;

/// Values of a piece of content.
const CONTENT_COLUMNS: usize = 8;

/// Pieces of one statement.
const PIECES_MAX: usize = 256;

/// A trail in which to look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Its session.
    pub session: Uuid,
    /// Its file name.
    pub trail: String,
    /// The hash that it has to end with, in hexadecimal.
    pub hash: String,
}

/// How looking into a trail ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Indexed {
    /// All that is in it was found.
    Done,
    /// More is in it than is kept of one session.
    Cut,
    /// It is not sealed to this gateway's index key.
    Sealed,
    /// It cannot be read, or is not what the session's row says.
    Failed,
}

impl Indexed {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Cut => "cut",
            Self::Sealed => "sealed",
            Self::Failed => "failed",
        }
    }
}

/// Something that was found, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The channel's number in the record.
    pub channel: u32,
    /// When the first line was there, since the session's start.
    pub at_ns: u64,
    /// What it is.
    pub kind: PieceKind,
    /// Lines; a command is one.
    pub text: String,
    /// When each line was there, in milliseconds since the first.
    pub line_ms: Vec<u64>,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PieceKind {
    /// Lines that were on a screen, or that a command without one has printed.
    Screen,
    /// A command.
    Command {
        /// How it was found.
        found_by: &'static str,
        /// Its exit status, where known.
        exit_status: Option<i64>,
    },
}

impl Store {
    /// Takes a trail of this node from the queue, until `until_ns`; none where none waits.
    pub async fn lease(&self, now_ns: u64, until_ns: u64) -> Result<Option<Lease>, StoreError> {
        let doing = "take a trail from the queue of the index";
        let skip = match self.kind {
            Kind::Sqlite => "",
            Kind::Postgres => " FOR UPDATE SKIP LOCKED",
        };
        let statement = format!(
            "UPDATE indexing SET lease_ns = $1, tries = tries + 1 WHERE session = \
             (SELECT session FROM indexing WHERE state = 'waiting' AND lease_ns < $2 \
             AND tries < $3 AND (node = $4 OR node = '') ORDER BY lease_ns \
             LIMIT 1{skip}) RETURNING session"
        );
        let taken = sqlx::query(sqlx::AssertSqlSafe(statement))
            .bind(to_i64(until_ns))
            .bind(to_i64(now_ns))
            .bind(TRIES_MAX)
            .bind(&*self.node)
            .fetch_optional(&self.writer)
            .await
            .map_err(failed(doing))?;
        let Some(row) = taken else { return Ok(None) };
        let session: String = row.try_get("session").map_err(failed(doing))?;
        let row = sqlx::query("SELECT trail, trail_hash FROM session WHERE id = $1")
            .bind(&session)
            .fetch_one(&self.writer)
            .await
            .map_err(failed(doing))?;
        Ok(Some(Lease {
            session: session
                .parse()
                .map_err(|_damaged| StoreError::Damaged { what: "session id" })?,
            trail: row.try_get("trail").map_err(failed(doing))?,
            hash: row.try_get("trail_hash").map_err(failed(doing))?,
        }))
    }

    /// Marks those trails of this node as failed that were begun too often; gives their sessions.
    pub async fn give_up(&self, now_ns: u64) -> Result<Vec<Uuid>, StoreError> {
        let doing = "give trails up that cannot be indexed";
        let statement = "UPDATE indexing SET state = 'failed' WHERE state = 'waiting' \
             AND lease_ns < $1 AND tries >= $2 AND (node = $3 OR node = '') RETURNING session";
        let rows = sqlx::query(statement)
            .bind(to_i64(now_ns))
            .bind(TRIES_MAX)
            .bind(&*self.node)
            .fetch_all(&self.writer)
            .await
            .map_err(failed(doing))?;
        let session = |row: &sqlx::any::AnyRow| {
            let id: String = row.try_get("session").map_err(failed(doing))?;
            id.parse().map_err(|_damaged| StoreError::Damaged { what: "session id" })
        };
        rows.iter().map(session).collect()
    }

    /// Keeps a trail that was taken from the queue until `until_ns`.
    pub async fn renew(&self, session: Uuid, until_ns: u64) -> Result<(), StoreError> {
        sqlx::query("UPDATE indexing SET lease_ns = $1 WHERE session = $2")
            .bind(to_i64(until_ns))
            .bind(session.to_string())
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(failed("keep a trail that was taken from the queue"))
    }

    /// Begins to keep what is found in a trail: what an earlier try has left is removed.
    pub async fn forget_content(&self, session: Uuid) -> Result<(), StoreError> {
        let statement = "DELETE FROM content WHERE id IN \
             (SELECT id FROM content WHERE session = $1 LIMIT $2)";
        loop {
            let removed = sqlx::query(statement)
                .bind(session.to_string())
                .bind(REMOVED_AT_ONCE)
                .execute(&self.writer)
                .await
                .map_err(failed("remove what was found in a trail"))?;
            if i64::try_from(removed.rows_affected()).is_ok_and(|count| count < REMOVED_AT_ONCE) {
                return Ok(());
            }
        }
    }

    /// Keeps pieces that were found, all or none.
    pub async fn keep_content(&self, session: Uuid, pieces: &[Piece]) -> Result<(), StoreError> {
        let doing = "keep what was found in a trail";
        let mut transaction = self.writer.begin().await.map_err(failed(doing))?;
        for pieces in pieces.chunks(PIECES_MAX) {
            insert(&session.to_string(), pieces, &mut transaction).await.map_err(failed(doing))?;
        }
        transaction.commit().await.map_err(failed(doing))
    }

    /// Takes a trail off the queue for good.
    pub async fn indexed(&self, session: Uuid, how: Indexed) -> Result<(), StoreError> {
        sqlx::query("UPDATE indexing SET state = $1 WHERE session = $2")
            .bind(how.as_str())
            .bind(session.to_string())
            .execute(&self.writer)
            .await
            .map(drop)
            .map_err(failed("take a trail off the queue of the index"))
    }

    /// Where a session's trail stands in the queue; none while it is not there.
    pub async fn index_state(&self, session: Uuid) -> Result<Option<String>, StoreError> {
        let doing = "read the queue of the index";
        sqlx::query("SELECT state FROM indexing WHERE session = $1")
            .bind(session.to_string())
            .fetch_optional(&self.readers)
            .await
            .map_err(failed(doing))?
            .map(|row| row.try_get("state").map_err(failed(doing)))
            .transpose()
    }
}

/// Puts a session's trail into the queue, which has just been sealed.
pub(super) async fn enter(
    session: &str,
    connection: &mut AnyConnection,
) -> Result<(), sqlx::Error> {
    let statement = "INSERT INTO indexing (session, node, state, tries, lease_ns) \
         SELECT id, node, 'waiting', 0, 0 FROM session WHERE id = $1 ON CONFLICT DO NOTHING";
    sqlx::query(statement).bind(session).execute(connection).await.map(drop)
}

async fn insert(
    session: &str,
    pieces: &[Piece],
    connection: &mut AnyConnection,
) -> Result<(), sqlx::Error> {
    let mut statement = "INSERT INTO content (session, channel, at_ns, kind, found_by, text, \
         line_ms, exit_status) VALUES "
        .to_owned();
    statement.push_str(&parameters(pieces.len(), CONTENT_COLUMNS));
    let mut query = sqlx::query(sqlx::AssertSqlSafe(statement)).persistent(false);
    for Piece { channel, at_ns, kind, text, line_ms } in pieces {
        let (kind, found_by, exit_status) = match kind {
            PieceKind::Screen => ("screen", "", None),
            PieceKind::Command { found_by, exit_status } => ("command", *found_by, *exit_status),
        };
        let line_ms: Vec<String> = line_ms.iter().map(u64::to_string).collect();
        query = query.bind(session).bind(i64::from(*channel)).bind(to_i64(*at_ns));
        query = query.bind(kind).bind(found_by).bind(text.replace('\0', "\u{fffd}"));
        query = query.bind(line_ms.join(",")).bind(exit_status);
    }
    query.execute(connection).await.map(drop)
}
