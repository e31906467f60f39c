//! The database, on each kind that there is: `SQLite` in a file, and a real `PostgreSQL` server.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use e2e::peer::postgres::Postgres;
use futures_util::future::join_all;
use proxyd::config::Database;
use proxyd::session::event::{Event, Timed};
use proxyd::session::row::{ACTIVE, SessionRow};
use proxyd::store::host_keys::KnownKey;
use proxyd::store::search::Filter;
use proxyd::store::{Store, StoreError};
use proxyd::task::Group;
use tempfile::TempDir;
use uuid::Uuid;

/// More sessions than one transaction takes.
const MANY: usize = 200;

/// A database of each kind, with what keeps it.
struct Databases {
    _directory: TempDir,
    _server: Postgres,
    each: [Database; 2],
}

impl Databases {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Postgres::start().unwrap();
        let sqlite = Database::Sqlite(directory.path().join("with space & %41?.db"));
        let each = [sqlite, postgres(&server, server.password_file())];
        Self { _directory: directory, _server: server, each }
    }
}

fn postgres(server: &Postgres, password_file: PathBuf) -> Database {
    let url = server.url().parse().unwrap();
    Database::Postgres { url, password_file: Some(password_file) }
}

fn row(policy: &str) -> SessionRow {
    SessionRow {
        id: Uuid::now_v7(),
        started_ns: 7,
        ended_ns: None,
        protocol: "ssh".to_owned(),
        policy: policy.to_owned(),
        client: "10.1.0.5:4711".to_owned(),
        original_destination: "10.2.0.9:22".to_owned(),
        target: String::new(),
        gateway_user: "Zoë".to_owned(),
        remote_user: String::new(),
        trail: String::new(),
        trail_hash: String::new(),
        outcome: ACTIVE.to_owned(),
        reason: String::new(),
    }
}

fn event(name: &str) -> Timed {
    Timed { at: Duration::from_nanos(5), event: Event::Policy { name: name.to_owned() } }
}

fn key(algorithm: &str, number: u8) -> KnownKey {
    KnownKey { algorithm: algorithm.to_owned(), blob: vec![number, 0, 255] }
}

/// Writes [`MANY`] sessions at once; the one with index `n` has `n % 3` events.
async fn fill(store: &Store, daemon: Uuid) -> Vec<SessionRow> {
    let saver = store.saver(daemon, Group::new());
    let rows: Vec<SessionRow> = (0..MANY).map(|_index| row("linux")).collect();
    let save = |(index, row): (usize, &SessionRow)| {
        saver.save(row.clone(), vec![event(&index.to_string()); index % 3])
    };
    let saves = join_all(rows.iter().enumerate().map(save)).await;
    assert!(saves.iter().all(Result::is_ok), "{saves:?}");
    rows
}

/// What is written at the same time by two nodes is all there, also after each has left; and a node
/// ends the rows of its own dead daemons only.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_several_nodes() {
    let databases = Databases::new();
    for database in &databases.each {
        let (living, dead) = (Uuid::now_v7(), Uuid::now_v7());
        let mut rows = Vec::new();
        for node in ["one", "two"] {
            let store = Store::open(database, node).await.unwrap();
            for daemon in [living, dead] {
                rows.extend(fill(&store, daemon).await);
            }
        }
        let store = Store::open(database, "one").await.unwrap();
        assert_eq!(
            store.find_sessions(&Filter::default(), 10_000).await.unwrap().len(),
            4 * MANY,
            "{database}"
        );
        for (index, row) in rows.iter().enumerate().take(MANY) {
            let events = store.events(row.id).await.unwrap();
            assert_eq!(events.len(), index % 3, "{database}");
            assert!(events.iter().all(|event| event.fields["name"] == index.to_string()));
        }
        let ended = store.end_abandoned(11, &[living]).await.unwrap();
        assert_eq!(ended, u64::try_from(MANY).unwrap(), "{database}");
        let all = store.find_sessions(&Filter::default(), 10_000).await.unwrap();
        let cut = all.iter().filter(|row| row.outcome == "cut" && row.ended_ns == Some(11));
        assert_eq!(cut.count(), MANY, "{database}");
        assert!(all.iter().all(|row| row.gateway_user == "Zoë"));
    }
}

/// A session that the database refuses takes no other with it: `PostgreSQL` takes no text with a
/// zero in it, `SQLite` takes it as it is.
#[tokio::test(flavor = "multi_thread")]
async fn one_refused_among_many() {
    let databases = Databases::new();
    for (database, is_refused) in databases.each.iter().zip([false, true]) {
        let store = Store::open(database, "one").await.unwrap();
        let saver = store.saver(Uuid::now_v7(), Group::new());
        let mut rows: Vec<SessionRow> = (0..10).map(|_index| row("linux")).collect();
        "a\0b".clone_into(&mut rows[4].reason);
        let saves = join_all(rows.iter().map(|row| saver.save(row.clone(), vec![event("x")])));
        let failed: Vec<bool> = saves.await.iter().map(Result::is_err).collect();
        let expected: Vec<bool> = (0..10).map(|index| index == 4 && is_refused).collect();
        assert_eq!(failed, expected, "{database}");
    }
}

/// First connections race on two nodes: one key is learned.
#[tokio::test(flavor = "multi_thread")]
async fn host_keys_of_several_nodes() {
    let databases = Databases::new();
    for database in &databases.each {
        let nodes = [
            Store::open(database, "one").await.unwrap(),
            Store::open(database, "two").await.unwrap(),
        ];
        let server: SocketAddr = "[fd00::9]:22".parse().unwrap();
        let race = (0..20_u8).map(|number| {
            let store = nodes[usize::from(number % 2)].clone();
            // Keys of one type and of others: no second one is learned in either case.
            let key = key(["ssh-ed25519", "ssh-rsa"][usize::from(number / 10)], number);
            async move { (store.learn_key(server, &key, 1).await.unwrap(), key) }
        });
        let won: Vec<KnownKey> =
            join_all(race).await.into_iter().filter_map(|(won, key)| won.then_some(key)).collect();
        assert_eq!(won.len(), 1, "{database}");
        assert_eq!(nodes[0].known_keys(server).await.unwrap(), won, "{database}");
        let other: SocketAddr = "10.2.0.7:22".parse().unwrap();
        let imports = [(other, key("ssh-ed25519", 1)), (other, key("ssh-ed25519", 1))];
        assert_eq!(nodes[1].import_keys(&imports, 2).await.unwrap(), 1);
        nodes[0].import_keys(&[(other, key("ssh-ed25519", 2))], 2).await.unwrap_err();
        assert_eq!(nodes[0].kept_keys().await.unwrap().len(), 2);
        assert_eq!(nodes[0].forget_keys(other).await.unwrap(), 1);
        assert_eq!(nodes[0].keep_shown_key(server, "ssh-rsa", b"one").await.unwrap(), b"one");
        assert_eq!(nodes[1].keep_shown_key(server, "ssh-rsa", b"two").await.unwrap(), b"one");
        let shown = nodes[1].shown_key(server, "ssh-rsa").await.unwrap();
        assert_eq!(shown, Some(b"one".to_vec()), "{database}");
    }
}

/// While the server is away, nothing is held to be written; afterwards everything works again. What
/// is told of it names the database, and no password.
#[tokio::test(flavor = "multi_thread")]
async fn the_server_goes_away_and_comes_back() {
    let mut server = Postgres::start().unwrap();
    let database = postgres(&server, server.password_file());
    let store = Store::open(&database, "one").await.unwrap();
    let tasks = Group::new();
    let saver = store.saver(Uuid::now_v7(), tasks.clone());
    saver.save(row("before"), Vec::new()).await.unwrap();
    server.stop().unwrap();
    let rows: Vec<SessionRow> = (0..MANY).map(|_index| row("while")).collect();
    let saves = join_all(rows.iter().map(|row| saver.save(row.clone(), vec![event("x")])));
    let failed = saves.await;
    assert!(failed.iter().all(Result::is_err));
    let refused = Store::open(&database, "one").await.unwrap_err();
    assert!(matches!(refused, StoreError::Open { .. }), "{refused}");
    let mut told = refused.to_string();
    write!(told, "{refused:?}{store:?}{saver:?}").unwrap();
    assert!(told.contains("postgres://proxyd@localhost"), "{told}");
    for secret in ["base/pass", "base%2Fpass"] {
        assert!(!told.contains(secret), "{told}");
    }
    server.resume().unwrap();
    saver.save(row("after"), Vec::new()).await.unwrap();
    let rows = store.find_sessions(&Filter::default(), 1_000).await.unwrap();
    let mut policies: Vec<&str> = rows.iter().map(|row| row.policy.as_str()).collect();
    policies.sort_unstable();
    assert_eq!(policies, ["after", "before"]);
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), "another").unwrap();
    let refused = Store::open(&postgres(&server, other.path().to_owned()), "one").await;
    assert!(matches!(refused, Err(StoreError::Open { .. })), "another password");
}
