//! Writes sessions: those that wait together are written in one transaction.
//!
//! A transaction costs several hops to the thread of the database and one flush of the disk,
//! however much is in it. With one for each session, a few dozen logins per second would wait for
//! each other on a busy machine.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::any::AnyArguments;
use sqlx::query::Query;
use sqlx::{Any, AnyConnection, AssertSqlSafe};
use tokio::sync::oneshot;
use tracing::error;
use uuid::Uuid;

use super::{Store, StoreError, content, failed, parameters, to_i64};
use crate::session::event::Timed;
use crate::session::row::SessionRow;
use crate::task::Group;

/// Sessions in one transaction: a thousand variables, far below `SQLite`'s 32,766.
const SAVES_MAX: usize = 64;

/// Events of one statement.
const EVENTS_MAX: usize = 1_024;

/// Values of an event.
const EVENT_COLUMNS: usize = 4;

/// Values of a session's row.
const SESSION_COLUMNS: usize = 16;

/// Events after which a transaction takes no further session: other writers have their turn.
const EVENTS_OF_SAVES_MAX: usize = 4_096;

/// What is being done, for errors.
const DOING: &str = "write the session";

/// Writes the sessions of one daemon; a clone is the same one.
#[derive(Debug, Clone)]
pub struct Saver {
    store: Store,
    /// Whose sessions they are.
    daemon: Arc<str>,
    tasks: Group,
    waiting: Arc<Mutex<Waiting>>,
}

/// What is to be written. A session waits for its save before it has another, unless it is ended
/// meanwhile, so there are at most two for each session.
#[derive(Debug, Default)]
struct Waiting {
    saves: Vec<Save>,
    /// Whether there is a task that writes.
    is_written: bool,
}

/// One session's save.
#[derive(Debug)]
struct Save {
    row: SessionRow,
    events: Vec<Timed>,
    done: oneshot::Sender<Result<(), StoreError>>,
}

impl Store {
    /// Writes sessions to this database as `daemon`, by tasks of this group.
    #[must_use]
    pub fn saver(&self, daemon: Uuid, tasks: Group) -> Saver {
        let daemon = daemon.to_string().into();
        Saver { store: self.clone(), daemon, tasks, waiting: Arc::default() }
    }
}

impl Saver {
    /// Enters a session or brings its row up to date, and adds events to it; all or nothing.
    ///
    /// It is written even if nobody waits for that any more.
    pub async fn save(&self, row: SessionRow, events: Vec<Timed>) -> Result<(), StoreError> {
        let (done, written) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting();
            waiting.saves.push(Save { row, events, done });
            !std::mem::replace(&mut waiting.is_written, true)
        };
        if is_first {
            let writing = Writing { saver: self.clone(), is_over: false };
            self.tasks.start("save sessions", async move { writing.write_all().await });
        }
        written.await.unwrap_or(Err(StoreError::Interrupted { doing: DOING }))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one task that writes, for as long as something waits.
#[derive(Debug)]
struct Writing {
    saver: Saver,
    is_over: bool,
}

impl Drop for Writing {
    /// Nobody waits for a task that has panicked.
    fn drop(&mut self) {
        if !self.is_over {
            *self.saver.waiting() = Waiting::default();
        }
    }
}

impl Writing {
    async fn write_all(mut self) {
        loop {
            let saves: Vec<Save> = {
                let mut waiting = self.saver.waiting();
                if waiting.saves.is_empty() {
                    waiting.is_written = false;
                    self.is_over = true;
                    return;
                }
                take_batch(&mut waiting.saves)
            };
            match self.write(&saves).await {
                Ok(()) => saves.into_iter().for_each(|save| tell(save, Ok(()))),
                // One that cannot be written must not take the others with it.
                Err(error) if error.is_about_the_data() && saves.len() > 1 => {
                    self.write_each(saves).await;
                }
                Err(error) => self.fail(saves, error),
            }
        }
    }

    async fn write_each(&self, saves: Vec<Save>) {
        let mut saves = saves.into_iter();
        while let Some(save) = saves.next() {
            match self.write(std::slice::from_ref(&save)).await {
                Err(error) if !error.is_about_the_data() => {
                    self.fail(std::iter::once(save).chain(saves.by_ref()).collect(), error);
                }
                result => tell(save, result),
            }
        }
    }

    /// The database does not work: everybody who waits is told at once, or they would be one after
    /// the other, each after another limit.
    fn fail(&self, saves: Vec<Save>, error: StoreError) {
        let waiting = std::mem::take(&mut self.saver.waiting().saves);
        let mut saves = saves.into_iter().chain(waiting);
        if let Some(first) = saves.next() {
            tell(first, Err(error));
        }
        saves.for_each(|save| tell(save, Err(StoreError::Unavailable { doing: DOING })));
    }

    async fn write(&self, saves: &[Save]) -> Result<(), StoreError> {
        let events = rows(saves)?;
        let mut transaction = self.saver.store.writer.begin().await.map_err(failed(DOING))?;
        self.upsert(saves, &mut transaction).await.map_err(failed(DOING))?;
        for events in events.chunks(EVENTS_MAX) {
            let mut statement =
                "INSERT INTO event (session, at_ns, name, fields) VALUES ".to_owned();
            statement.push_str(&parameters(events.len(), EVENT_COLUMNS));
            let mut insert = query(statement);
            for event in events {
                insert = insert.bind(&event.session).bind(event.at_ns);
                insert = insert.bind(event.name).bind(&event.fields);
            }
            insert.execute(&mut *transaction).await.map_err(failed(DOING))?;
        }
        for Save { row, .. } in saves.iter().filter(|save| !save.row.trail_hash.is_empty()) {
            let id = row.id.to_string();
            content::enter(&id, &mut transaction).await.map_err(failed(DOING))?;
        }
        transaction.commit().await.map_err(failed(DOING))
    }

    async fn upsert(
        &self,
        saves: &[Save],
        connection: &mut AnyConnection,
    ) -> Result<(), sqlx::Error> {
        let mut statement = "INSERT INTO session (id, started_ns, ended_ns, protocol, policy, \
             client, original_destination, target, gateway_user, remote_user, trail, trail_hash, \
             outcome, reason, daemon, node) VALUES "
            .to_owned();
        statement.push_str(&parameters(saves.len(), SESSION_COLUMNS));
        statement.push_str(
            " ON CONFLICT (id) DO UPDATE SET ended_ns = excluded.ended_ns, \
             policy = excluded.policy, target = excluded.target, \
             gateway_user = excluded.gateway_user, remote_user = excluded.remote_user, \
             trail = excluded.trail, trail_hash = CASE excluded.trail_hash WHEN '' \
             THEN session.trail_hash ELSE excluded.trail_hash END, \
             outcome = excluded.outcome, reason = excluded.reason",
        );
        let mut upsert = query(statement);
        for Save { row, .. } in saves {
            upsert = upsert.bind(row.id.to_string()).bind(to_i64(row.started_ns));
            upsert = upsert.bind(row.ended_ns.map(to_i64)).bind(&row.protocol);
            upsert = upsert.bind(&row.policy).bind(&row.client);
            upsert = upsert.bind(&row.original_destination).bind(&row.target);
            upsert = upsert.bind(&row.gateway_user).bind(&row.remote_user);
            upsert = upsert.bind(&row.trail).bind(&row.trail_hash);
            upsert = upsert.bind(&row.outcome).bind(&row.reason);
            upsert = upsert.bind(&*self.saver.daemon).bind(&*self.saver.store.node);
        }
        upsert.execute(connection).await.map(drop)
    }
}

/// A statement whose length depends on how much waits: one that is not kept.
fn query<'a>(statement: String) -> Query<'a, Any, AnyArguments> {
    sqlx::query(AssertSqlSafe(statement)).persistent(false)
}

/// The first of these, as many as one transaction takes; never none.
fn take_batch(saves: &mut Vec<Save>) -> Vec<Save> {
    let mut events = 0;
    let fits = |save: &&Save| {
        let has_room = events < EVENTS_OF_SAVES_MAX;
        events += save.events.len();
        has_room
    };
    let count = saves.iter().take(SAVES_MAX).take_while(fits).count();
    saves.drain(..count).collect()
}

fn tell(save: Save, result: Result<(), StoreError>) {
    let session_id = save.row.id;
    // A session that was ended meanwhile does not wait any more.
    if let Err(Err(error)) = save.done.send(result) {
        error!(%session_id, %error, "A part of a session could not be written");
    }
}

/// An event as it is written.
struct EventValues {
    session: String,
    at_ns: i64,
    name: &'static str,
    fields: String,
}

fn rows(saves: &[Save]) -> Result<Vec<EventValues>, StoreError> {
    let mut rows = Vec::new();
    for Save { row, events, .. } in saves {
        for timed in events {
            let fields: BTreeMap<_, _> = timed.event.fields().into_iter().collect();
            let fields = serde_json::to_string(&fields)
                .map_err(|_impossible| StoreError::Damaged { what: "event" })?;
            let at_ns = i64::try_from(timed.at.as_nanos()).unwrap_or(i64::MAX);
            rows.push(EventValues {
                session: row.id.to_string(),
                at_ns,
                name: timed.event.name(),
                fields,
            });
        }
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::session::event::Event;
    use crate::store::search::Filter;
    use crate::store::sessions::tests::{open_in, row};

    /// More than one transaction takes.
    const MANY: usize = 3 * SAVES_MAX;

    fn event(name: &str) -> Timed {
        let event = Event::Policy { name: name.to_owned() };
        Timed { at: Duration::from_nanos(1), event }
    }

    async fn open(directory: &tempfile::TempDir) -> (Store, Saver, Group) {
        let store = open_in(directory).await;
        let tasks = Group::new();
        let saver = store.saver(Uuid::now_v7(), tasks.clone());
        (store, saver, tasks)
    }

    /// Each gets its own answer, and everything is there when the group has ended, also what nobody
    /// waited for.
    #[tokio::test]
    async fn many_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let (store, saver, tasks) = open(&directory).await;
        let rows: Vec<SessionRow> = (0..MANY).map(|_index| row()).collect();
        let save = |(index, row): (usize, &SessionRow)| {
            let events = vec![event(&index.to_string()); index % 40];
            let (saver, row) = (saver.clone(), row.clone());
            async move { saver.save(row, events).await }
        };
        let saves = futures_util::future::join_all(rows.iter().enumerate().map(save));
        assert!(saves.await.iter().all(Result::is_ok));
        let unwaited = row();
        let future = saver.save(unwaited.clone(), vec![event("unwaited")]);
        assert!(futures_util::FutureExt::now_or_never(future).is_none());
        tasks.join().await;
        assert_eq!(store.find_sessions(&Filter::default(), 1_000).await.unwrap().len(), MANY + 1);
        for (index, row) in rows.iter().enumerate() {
            let events = store.events(row.id).await.unwrap();
            let name = index.to_string();
            assert_eq!(events.len(), index % 40, "{index}");
            assert!(events.iter().all(|event| event.fields["name"] == name), "{index}");
        }
        assert_eq!(store.events(unwaited.id).await.unwrap().len(), 1);
    }

    /// Nobody waits for others when the database does not work.
    #[tokio::test]
    async fn all_fail_at_once_when_it_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let (store, saver, _tasks) = open(&directory).await;
        sqlx::query("DROP TABLE event").execute(&store.writer).await.unwrap();
        let rows: Vec<SessionRow> = (0..MANY).map(|_index| row()).collect();
        let saves = rows.iter().map(|row| saver.save(row.clone(), vec![event("x")]));
        let results = futures_util::future::join_all(saves).await;
        let told = results.iter().filter(|result| {
            matches!(result, Err(StoreError::Statement { .. } | StoreError::Unavailable { .. }))
        });
        assert_eq!(told.count(), MANY);
        assert!(store.find_sessions(&Filter::default(), 1_000).await.unwrap().is_empty());
    }

    /// Batches end at sessions and at events.
    #[test]
    fn batches() {
        let save = |events: usize| {
            let (done, _waits) = oneshot::channel();
            Save { row: row(), events: vec![event("x"); events], done }
        };
        let cases: [(&str, Vec<usize>, usize); 4] = [
            ("many", vec![1; MANY], SAVES_MAX),
            ("few", vec![1; 3], 3),
            ("one that is large", vec![2 * EVENTS_OF_SAVES_MAX, 1], 1),
            ("until it is enough", vec![EVENTS_OF_SAVES_MAX - 1, 1, 1], 2),
        ];
        for (case, events, expected) in cases {
            let mut saves: Vec<Save> = events.iter().map(|&events| save(events)).collect();
            assert_eq!(take_batch(&mut saves).len(), expected, "{case}");
            assert_eq!(saves.len(), events.len() - expected, "{case}");
        }
    }

    /// What cannot be written fails alone, and what comes later is written again.
    #[tokio::test]
    async fn one_that_fails() {
        let directory = tempfile::tempdir().unwrap();
        let (store, saver, _tasks) = open(&directory).await;
        let refuse = "CREATE TRIGGER refuse BEFORE INSERT ON session WHEN NEW.policy = 'bad' \
             BEGIN SELECT RAISE(ABORT, 'refused'); END";
        sqlx::query(refuse).execute(&store.writer).await.unwrap();
        let mut rows: Vec<SessionRow> = (0..10).map(|_index| row()).collect();
        for bad in [3, 7] {
            "bad".clone_into(&mut rows[bad].policy);
        }
        let saves = rows.iter().map(|row| saver.save(row.clone(), vec![event("x")]));
        let results = futures_util::future::join_all(saves).await;
        let failed: Vec<usize> = (0..10).filter(|&index| results[index].is_err()).collect();
        assert_eq!(failed, [3, 7]);
        for (index, row) in rows.iter().enumerate() {
            let events = store.events(row.id).await.unwrap().len();
            assert_eq!(events, usize::from(results[index].is_ok()), "{index}");
        }
        sqlx::query("DROP TRIGGER refuse").execute(&store.writer).await.unwrap();
        saver.save(rows[3].clone(), Vec::new()).await.unwrap();
    }
}
