//! Rows of sessions, and of the events that their steps left behind.

use std::collections::BTreeMap;

use serde::Serialize;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use uuid::Uuid;

use super::{Store, StoreError, content, failed, to_i64, to_u64};
use crate::session::row::{ACTIVE, SessionRow};

/// An event as it is read back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EventRow {
    /// Nanoseconds since the session's start.
    pub at_ns: u64,
    /// The event's name.
    pub name: String,
    /// Its fields.
    pub fields: BTreeMap<String, String>,
}

impl Store {
    /// Keeps the hash that a trail ends with, found by the trail's file name.
    pub async fn keep_trail_hash(&self, trail: &str, hash: &str) -> Result<(), StoreError> {
        let doing = "keep the hash of a trail";
        let mut transaction = self.writer.begin().await.map_err(failed(doing))?;
        let statement = "UPDATE session SET trail_hash = $1 WHERE trail = $2 RETURNING id";
        let kept = sqlx::query(statement)
            .bind(hash)
            .bind(trail)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed(doing))?;
        for row in kept {
            let id: String = row.try_get("id").map_err(failed(doing))?;
            content::enter(&id, &mut transaction).await.map_err(failed(doing))?;
        }
        transaction.commit().await.map_err(failed(doing))
    }

    /// The events of a session, in order.
    pub async fn events(&self, session: Uuid) -> Result<Vec<EventRow>, StoreError> {
        let doing = "read the session's events";
        let rows = sqlx::query(
            "SELECT at_ns, name, fields FROM event WHERE session = $1 ORDER BY at_ns, id",
        )
        .bind(session.to_string())
        .fetch_all(&self.readers)
        .await
        .map_err(failed(doing))?;
        rows.iter()
            .map(|row| {
                let fields: String = row.try_get("fields").map_err(failed(doing))?;
                Ok(EventRow {
                    at_ns: to_u64(row.try_get("at_ns").map_err(failed(doing))?),
                    name: row.try_get("name").map_err(failed(doing))?,
                    fields: serde_json::from_str(&fields)
                        .map_err(|_damaged| StoreError::Damaged { what: "event" })?,
                })
            })
            .collect()
    }

    /// Ends the rows that dead daemons of this node left behind; gives how many there were.
    /// `living` are those that still have sessions, this one included.
    pub async fn end_abandoned(&self, ended_ns: u64, living: &[Uuid]) -> Result<u64, StoreError> {
        let doing = "end abandoned sessions";
        let statement = "SELECT DISTINCT daemon FROM session \
             WHERE outcome = $1 AND (node = $2 OR node = '')";
        let daemons = sqlx::query(statement)
            .bind(ACTIVE)
            .bind(&*self.node)
            .fetch_all(&self.writer)
            .await
            .map_err(failed(doing))?;
        let mut ended = 0;
        for row in daemons {
            let daemon: String = row.try_get("daemon").map_err(failed(doing))?;
            if !living.iter().any(|living| living.to_string() == daemon) {
                ended += self.end_all_of(&daemon, ended_ns).await?;
            }
        }
        Ok(ended)
    }

    async fn end_all_of(&self, daemon: &str, ended_ns: u64) -> Result<u64, StoreError> {
        let statement = "UPDATE session SET outcome = 'cut', ended_ns = $1, \
             reason = 'the daemon ended without closing the session' \
             WHERE outcome = $2 AND daemon = $3 AND (node = $4 OR node = '')";
        let result = sqlx::query(statement)
            .bind(to_i64(ended_ns))
            .bind(ACTIVE)
            .bind(daemon)
            .bind(&*self.node)
            .execute(&self.writer)
            .await
            .map_err(failed("end abandoned sessions"))?;
        Ok(result.rows_affected())
    }
}

pub(super) fn session_row(row: &AnyRow) -> Result<SessionRow, StoreError> {
    let text =
        |column: &str| row.try_get::<String, _>(column).map_err(failed("read a session's row"));
    let number =
        |column: &str| row.try_get::<i64, _>(column).map_err(failed("read a session's row"));
    let ended_ns: Option<i64> = row.try_get("ended_ns").map_err(failed("read a session's row"))?;
    Ok(SessionRow {
        id: text("id")?.parse().map_err(|_damaged| StoreError::Damaged { what: "session id" })?,
        started_ns: to_u64(number("started_ns")?),
        ended_ns: ended_ns.map(to_u64),
        protocol: text("protocol")?,
        policy: text("policy")?,
        client: text("client")?,
        original_destination: text("original_destination")?,
        target: text("target")?,
        gateway_user: text("gateway_user")?,
        remote_user: text("remote_user")?,
        trail: text("trail")?,
        trail_hash: text("trail_hash")?,
        outcome: text("outcome")?,
        reason: text("reason")?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Database;
    use crate::session::event::{Event, Timed};
    use crate::store::search::Filter;
    use crate::task::Group;

    pub(in crate::store) async fn open_in(directory: &tempfile::TempDir) -> Store {
        let file = directory.path().join("test.db");
        Store::open(&Database::Sqlite(file), "test").await.unwrap()
    }

    pub(in crate::store) fn row() -> SessionRow {
        SessionRow {
            id: Uuid::now_v7(),
            started_ns: 7,
            ended_ns: None,
            protocol: "ssh".to_owned(),
            policy: "linux".to_owned(),
            client: "10.1.0.5:4711".to_owned(),
            original_destination: "10.2.0.9:22".to_owned(),
            target: String::new(),
            gateway_user: String::new(),
            remote_user: String::new(),
            trail: String::new(),
            trail_hash: String::new(),
            outcome: ACTIVE.to_owned(),
            reason: String::new(),
        }
    }

    #[tokio::test]
    async fn rows_and_events_are_read_back_over_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = open_in(&directory).await;
        let mut session = row();
        let saver = store.saver(Uuid::now_v7(), Group::new());
        saver.save(session.clone(), Vec::new()).await.unwrap();
        session.outcome = "denied".to_owned();
        session.target = "10.2.0.9:22".to_owned();
        session.ended_ns = Some(9);
        let event = Event::Target { address: "10.2.0.9:22".parse().unwrap() };
        let timed = Timed { at: Duration::from_nanos(5), event };
        saver.save(session.clone(), vec![timed]).await.unwrap();
        let left = row();
        saver.save(left.clone(), Vec::new()).await.unwrap();
        drop((store, saver));

        let store = open_in(&directory).await;
        assert_eq!(store.end_abandoned(11, &[]).await.unwrap(), 1);
        let rows = store.find_sessions(&Filter::default(), 10).await.unwrap();
        assert_eq!(rows.iter().find(|row| row.id == session.id), Some(&session));
        let cut = rows.iter().find(|row| row.id == left.id).unwrap();
        assert_eq!((cut.outcome.as_str(), cut.ended_ns), ("cut", Some(11)));
        let fields = BTreeMap::from([("address".to_owned(), "10.2.0.9:22".to_owned())]);
        let expected = EventRow { at_ns: 5, name: "target".to_owned(), fields };
        assert_eq!(store.events(session.id).await.unwrap(), [expected]);
    }
    #[tokio::test]
    async fn only_the_rows_of_dead_daemons_are_ended() {
        let directory = tempfile::tempdir().unwrap();
        let store = open_in(&directory).await;
        let (own, living, dead) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
        let mut rows = Vec::new();
        for daemon in [own, living, dead, dead] {
            let row = row();
            let saver = store.saver(daemon, Group::new());
            saver.save(row.clone(), Vec::new()).await.unwrap();
            rows.push(row);
        }
        // Written before there was more than one daemon.
        sqlx::query("UPDATE session SET daemon = '' WHERE id = $1")
            .bind(rows[2].id.to_string())
            .execute(&store.writer)
            .await
            .unwrap();
        let saver = store.saver(own, Group::new());
        // Whoever writes a row again does not make it its own.
        saver.save(rows[3].clone(), Vec::new()).await.unwrap();
        assert_eq!(store.end_abandoned(11, &[own, living]).await.unwrap(), 2);
        assert_eq!(store.end_abandoned(12, &[own, living]).await.unwrap(), 0);
        let all = store.find_sessions(&Filter::default(), 10).await.unwrap();
        let outcome = |of: &SessionRow| {
            all.iter().find(|row| row.id == of.id).map(|row| row.outcome.as_str())
        };
        let expected = [ACTIVE, ACTIVE, "cut", "cut"].map(Some);
        assert_eq!([0, 1, 2, 3].map(|index| outcome(&rows[index])), expected);
    }
}
