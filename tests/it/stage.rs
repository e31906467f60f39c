//! What the tests share: policies as text, and what the gateway has on record.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use e2e::proxyd::{Proxyd, make_identity};
use e2e::wait::wait_for;
use e2e::world::{Family, Host, World};
use proxyd::config::Database;
use proxyd::session::row::{ACTIVE, SessionRow};
use proxyd::store::Store;
use proxyd::store::search::Filter;
use proxyd::store::sessions::EventRow;
use tokio::runtime::{Builder, Runtime};

/// For a program that has to answer at once, on a busy machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// The password of the gateway user `alice`.
pub(crate) const GATEWAY_PASSWORD: &str = "Gateway-pass-1";

/// [`GATEWAY_PASSWORD`], hashed with the least cost there is.
const GATEWAY_PASSWORD_HASH: &str = "\
    $argon2id$v=19$m=8,t=1,p=1$cHJveHlkLXRlc3Rz$aRjPYsmnsQKzea0o9lqe1XxaCC+U7vEg00kb7tfnFgg";

/// The password of the server's users, hashed likewise: `bob` has one password for both.
const SERVER_PASSWORD_HASH: &str = "\
    $argon2id$v=19$m=8,t=1,p=1$cHJveHlkLXRlc3Rz$Pnt8/lxupbTxaGtJUxzBL8jK+95UW1Vbp6Ry6MoDOQ0";

/// A connection policy that asks nothing at the gateway, allows everything and records it.
pub(crate) const OPEN: &str = "
authentication = \"open\"
channels = \"all\"
audit = \"sealed\"
";

/// A connection policy that asks for a gateway password or key.
pub(crate) const STAFF: &str = "
authentication = \"staff\"
usermapping = \"admins\"
channels = \"all\"
audit = \"sealed\"
";

/// Somebody who can open trails.
pub(crate) struct Auditor {
    /// The file with the identity.
    pub(crate) identity: PathBuf,
    /// What trails are sealed to.
    pub(crate) recipient: String,
}

impl Auditor {
    /// A new one.
    pub(crate) fn new(world: &World, name: &str) -> Self {
        let (identity, recipient) = make_identity(world, name).unwrap();
        Self { identity, recipient }
    }
}

/// A connection policy for SSH from the client to the server, with these further lines.
pub(crate) fn connection(world: &World, name: &str, lines: &str) -> String {
    let clients = both(world, Host::Client);
    let servers = both(world, Host::Server);
    format!(
        "[[connection_policy]]\nname = \"{name}\"\nprotocol = \"ssh\"\nfrom = [{clients}]\n\
         to = [{servers}]\nports = [\"22\"]\n{lines}\n"
    )
}

/// A connection policy for another port than the server's: what arrives there goes to the server.
pub(crate) fn connection_on(world: &World, name: &str, port: u16, lines: &str) -> String {
    let clients = both(world, Host::Client);
    let servers = both(world, Host::Server);
    let server = world.address(Host::Server, Family::V4);
    format!(
        "[[connection_policy]]\nname = \"{name}\"\nprotocol = \"ssh\"\nfrom = [{clients}]\n\
         to = [{servers}]\nports = [\"{port}\"]\n\
         target = {{ mode = \"fixed\", address = \"{server}\", port = 22 }}\n{lines}\n"
    )
}

/// The addresses of a host as a list of networks.
pub(crate) fn both(world: &World, host: Host) -> String {
    let (v4, v6) = (world.address(host, Family::V4), world.address(host, Family::V6));
    format!("\"{v4}/32\", \"{v6}/128\"")
}

/// The policies that connection policies of the tests name.
pub(crate) fn library(auditor: &Auditor, public_keys: &[&str]) -> String {
    let recipient = &auditor.recipient;
    let keys: Vec<_> = public_keys.iter().map(|key| format!("\"{key}\"")).collect();
    let keys = keys.join(", ");
    format!(
        r#"
[[authentication_policy]]
name = "open"
gateway = "none"

[[authentication_policy]]
name = "staff"
gateway = [
  {{ method = "password", backend = "local" }},
  {{ method = "publickey", backend = "local" }},
]

[[user]]
name = "alice"
password_hash = "{GATEWAY_PASSWORD_HASH}"
public_keys = [{keys}]
groups = ["admins"]

[[user]]
name = "bob"
password_hash = "{SERVER_PASSWORD_HASH}"

[[usermapping_policy]]
name = "admins"
allow_unmapped = true
rules = [{{ remote_user = "app*", groups = ["admins"] }}]

[[channel_policy]]
name = "all"
[[channel_policy.rule]]
type = "session-shell"
[[channel_policy.rule]]
type = "session-exec"
[[channel_policy.rule]]
type = "session-sftp"

[[audit_policy]]
name = "sealed"
recipients = [["{recipient}"]]
"#
    )
}

/// A session that is over, as the database has it.
#[derive(Debug)]
pub(crate) struct Closed {
    /// Its row.
    pub(crate) row: SessionRow,
    /// What its steps left behind.
    pub(crate) events: Vec<EventRow>,
}

impl Closed {
    /// The fields of its events of this name, one text each: `key=value` words in the order of
    /// the keys.
    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        let events = self.events.iter().filter(|event| event.name == name);
        events
            .map(|event| {
                let fields = event.fields.iter().map(|(key, value)| format!("{key}={value}"));
                fields.collect::<Vec<_>>().join(" ")
            })
            .collect()
    }
}

/// Reads the database of a gateway, one closed session after the other.
pub(crate) struct Records {
    runtime: Runtime,
    store: Store,
    seen: BTreeSet<String>,
}

impl Records {
    /// Of this gateway, which has run before, from its first session on.
    pub(crate) fn new(proxyd: &Proxyd<'_>) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let store =
            runtime.block_on(Store::open(&Database::Sqlite(proxyd.database()), "test")).unwrap();
        Self { runtime, store, seen: BTreeSet::new() }
    }

    /// Every session there is, the newest first.
    pub(crate) fn all(&self) -> Vec<SessionRow> {
        self.runtime.block_on(self.store.find_sessions(&Filter::default(), ROWS_MAX)).unwrap()
    }

    /// The oldest session that was not given before, once it has ended.
    pub(crate) fn next(&mut self) -> Closed {
        let closed = wait_for("a session on record to be closed", LIMIT, || {
            let is_new = |row: &SessionRow| !self.seen.contains(&row.id.to_string());
            let Some(row) = self.all().into_iter().rev().find(is_new) else { return Ok(None) };
            if row.outcome == ACTIVE {
                return Ok(None);
            }
            let events = self.events(&row);
            Ok(Some(Closed { row, events }))
        });
        let closed = closed.unwrap();
        self.seen.insert(closed.row.id.to_string());
        closed
    }

    /// What the steps of a session have left behind so far.
    pub(crate) fn events(&self, row: &SessionRow) -> Vec<EventRow> {
        self.runtime.block_on(self.store.events(row.id)).unwrap()
    }
}

/// More sessions than a test makes.
const ROWS_MAX: u32 = 1_000;

/// Bytes that repeat only after 251 of them, so that a lost or doubled block shows.
pub(crate) fn pattern(count: usize) -> Vec<u8> {
    (0..=250).cycle().take(count).collect()
}

/// The checksum of the Internet protocols (RFC 1071) over an even number of bytes.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum: u32 = words.sum();
    while sum > u32::from(u16::MAX) {
        sum = (sum & u32::from(u16::MAX)) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap()).to_be_bytes()
}
