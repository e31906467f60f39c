//! The control socket: what `proxyd ctl` asks a running daemon. One JSON line each way.
//!
//! Each daemon has a socket of its own. The path that operators use is a link to the one that
//! serves, which also asks those that it took over from.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::Uid;
use proxyd_ssh::message::text::clean;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::clock::Clock;
use crate::session::approval::{Decision, Outcome, Waiting};
use crate::session::registry::{Live, Registry};
use crate::task::Group;

/// Operators that are heard at a time; the others wait.
const OPERATORS_MAX: usize = 16;

/// Bytes of a request; the longest names a file (4,096 bytes, each of which may be escaped).
const REQUEST_BYTES_MAX: u64 = 16 * 1024;

/// How long an operator's program may take to ask and to listen.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// How long a reload may take: reading, compiling and publishing the largest configuration takes
/// some seconds on a slow machine.
const RELOAD_LIMIT: Duration = Duration::from_secs(120);

/// How long an earlier daemon may take to answer anything; the daemon that serves waits for it.
const EARLIER_LIMIT: Duration = Duration::from_secs(20);

/// After a failed accept, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Only the daemon's own user may connect, and root.
const SOCKET_MODE: u32 = 0o600;

/// The part of a daemon's id that its socket is named by: 48 random bits, since paths of sockets
/// are short (108 bytes, unix(7)).
const NAME_MASK: u128 = 0xffff_ffff_ffff;

/// Bytes of a name or a reason that an operator gives.
const WORDS_BYTES_MAX: usize = 256;

/// Who ends a session by this socket.
const BY_OPERATOR: &str = "an operator";

/// What may be asked. With `own`, the daemon does not ask those that it took over from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// The live sessions.
    Sessions {
        /// Only this daemon's.
        #[serde(default)]
        own: bool,
    },
    /// End a session.
    Terminate {
        /// Which.
        id: Uuid,
        /// Only if it is this daemon's.
        #[serde(default)]
        own: bool,
    },
    /// What waits for somebody's approval.
    Requests {
        /// Only of this daemon's sessions.
        #[serde(default)]
        own: bool,
    },
    /// Decide about what waits.
    Decide {
        /// The request.
        id: Uuid,
        /// What about it.
        decision: Decision,
        /// Only if it is of a session of this daemon.
        #[serde(default)]
        own: bool,
    },
    /// Read the configuration file again.
    Reload,
    /// End, after the sessions had their time: the daemon that has taken over stops.
    Retire,
    /// Hand over to the daemon that asks; what follows is between the two.
    TakeOver {
        /// The version of the hand-over that it speaks.
        version: u32,
        /// The configuration file that it has read.
        config: PathBuf,
    },
}

impl Request {
    /// How long its answer may take.
    const fn limit(&self) -> Duration {
        match self {
            Self::Sessions { .. }
            | Self::Terminate { .. }
            | Self::Requests { .. }
            | Self::Decide { .. }
            | Self::Retire
            | Self::TakeOver { .. } => REQUEST_LIMIT,
            Self::Reload => RELOAD_LIMIT,
        }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// The live sessions, oldest first.
    Sessions {
        /// Each of them.
        sessions: Vec<Live>,
    },
    /// Whether there was such a session, which is ending now.
    Terminated {
        /// Whether there was.
        found: bool,
    },
    /// What waits for somebody's approval, oldest first.
    Requests {
        /// Each of them.
        requests: Vec<Waiting>,
    },
    /// What became of a decision.
    Decided {
        /// That.
        outcome: Outcome,
    },
    /// The daemon ends.
    Retiring,
    /// The configuration file is in force.
    Reloaded {
        /// What changed, in one line.
        summary: String,
    },
    /// Nothing was changed.
    Unchanged {
        /// Everything that is wrong.
        problem: String,
    },
    /// The request was not understood, or came at a wrong time.
    Refused {
        /// Why.
        error: String,
    },
}

/// What only the daemon as a whole can do.
#[derive(Debug)]
pub enum Order {
    /// Read the configuration file again; answered by what changed, or by what is wrong.
    Reload(oneshot::Sender<Result<String, String>>),
    /// End, once the sessions had their time.
    Retire,
    /// Hand over to another daemon.
    TakeOver(TakeOver),
}

/// Another daemon that wants to take over.
#[derive(Debug)]
pub struct TakeOver {
    /// The connection to it.
    pub stream: UnixStream,
    /// The version of the hand-over that it speaks.
    pub version: u32,
    /// The configuration file that it has read.
    pub config: PathBuf,
}

/// The sockets of the daemons that this one took over from and that still have sessions.
#[derive(Debug, Clone, Default)]
pub struct Earlier {
    sockets: Arc<Mutex<Vec<PathBuf>>>,
}

impl Earlier {
    /// From now on these.
    pub fn set(&self, sockets: Vec<PathBuf>) {
        // Nothing that runs under the lock can panic half way through a change.
        *self.sockets.lock().unwrap_or_else(PoisonError::into_inner) = sockets;
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What each of them answers; one that does not answer is left out.
    pub async fn ask(&self, request: &Request) -> Vec<Answer> {
        let sockets = self.sockets.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut answers = Vec::new();
        for socket in sockets {
            match ask_other(&socket, request).await {
                Ok(answer) => answers.push(answer),
                // Most likely it has just ended.
                Err(error) => {
                    warn!(%error, socket = %socket.display(), "An earlier daemon does not answer");
                }
            }
        }
        answers
    }
}

/// What the socket's tasks work with.
#[derive(Debug, Clone)]
pub struct Desk {
    /// The clock.
    pub clock: Clock,
    /// The live sessions.
    pub registry: Registry,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
    /// The daemons before this one.
    pub earlier: Earlier,
}

/// A daemon's own socket, and the path by which operators find the daemon that serves.
#[derive(Debug, Clone)]
pub struct Place {
    public: PathBuf,
    own: PathBuf,
}

impl Place {
    /// The place of `daemon`, beside the path that the configuration names.
    #[must_use]
    pub fn of(daemon: Uuid, public: &Path) -> Self {
        let mut own = public.as_os_str().to_owned();
        own.push(format!(".{:012x}", daemon.as_u128() & NAME_MASK));
        Self { public: public.to_owned(), own: own.into() }
    }

    /// The daemon's own socket.
    #[must_use]
    pub fn own(&self) -> &Path {
        &self.own
    }

    /// Lets operators find this daemon, and no longer the one before.
    pub fn publish(&self) -> io::Result<()> {
        let mut link = self.own.as_os_str().to_owned();
        link.push(".link");
        let link = PathBuf::from(link);
        remove_if_there(&link)?;
        symlink(self.own.file_name().unwrap_or_default(), &link)?;
        fs::rename(&link, &self.public)
    }

    /// Removes what a daemon that is gone has left; operators find another one still.
    pub fn clear(&self) -> io::Result<()> {
        let target = fs::read_link(&self.public);
        if target.is_ok_and(|target| Some(target.as_os_str()) == self.own.file_name()) {
            remove_if_there(&self.public)?;
        }
        remove_if_there(&self.own)
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Opens the daemon's own socket and answers until `stop`.
pub fn start(place: Place, desk: Desk, tasks: &Group, stop: CancellationToken) -> io::Result<()> {
    let listener = UnixListener::bind(&place.own)?;
    fs::set_permissions(&place.own, Permissions::from_mode(SOCKET_MODE))?;
    let operators = tasks.clone();
    tasks.start("control", async move {
        tokio::select! {
            () = hear_all(&listener, &desk, &operators) => {}
            () = stop.cancelled() => {}
        }
        if let Err(error) = place.clear() {
            warn!(%error, "The control socket could not be removed");
        }
    });
    Ok(())
}

async fn hear_all(listener: &UnixListener, desk: &Desk, tasks: &Group) {
    let places = Arc::new(Semaphore::new(OPERATORS_MAX));
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _address)) => {
                let desk = desk.clone();
                tasks.start("operator", async move {
                    let _place = place;
                    if let Err(error) = hear(stream, &desk).await {
                        warn!(%error, "A control request failed");
                    }
                });
            }
            Err(error) => {
                warn!(%error, "The control socket failed");
                desk.clock.sleep_until(desk.clock.now().saturating_add(ACCEPT_PAUSE)).await;
            }
        }
    }
}

async fn hear(mut stream: UnixStream, desk: &Desk) -> io::Result<()> {
    let uid = Uid::from_raw(stream.peer_cred()?.uid());
    if !uid.is_root() && uid != Uid::effective() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, format!("user {uid} asks")));
    }
    let mut line = String::new();
    {
        let mut reader = BufReader::new((&mut stream).take(REQUEST_BYTES_MAX));
        within_limit(reader.read_line(&mut line)).await?;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(Request::TakeOver { version, config }) => {
            // Where there is nobody to take the order, closing the connection says so.
            drop(desk.orders.send(Order::TakeOver(TakeOver { stream, version, config })).await);
            return Ok(());
        }
        Ok(Request::Sessions { own }) => desk.sessions(own).await,
        Ok(Request::Terminate { id, own }) => desk.terminate(id, own).await,
        Ok(Request::Requests { own }) => desk.requests(own).await,
        Ok(Request::Decide { id, decision, own }) => desk.decide(id, decision, own).await,
        Ok(Request::Reload) => desk.reload().await,
        Ok(Request::Retire) => desk.retire().await,
        Err(error) => Answer::Refused { error: error.to_string() },
    };
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    within_limit(stream.write_all(line.as_bytes())).await
}

impl Desk {
    async fn sessions(&self, own: bool) -> Answer {
        let mut sessions = self.registry.list();
        if !own {
            for answer in self.earlier.ask(&Request::Sessions { own: true }).await {
                if let Answer::Sessions { sessions: others } = answer {
                    sessions.extend(others);
                }
            }
            sessions.sort_by_key(|live| live.started_ns);
        }
        Answer::Sessions { sessions }
    }

    async fn terminate(&self, id: Uuid, own: bool) -> Answer {
        let mut found = self.registry.terminate(id, BY_OPERATOR);
        if !found && !own {
            let answers = self.earlier.ask(&Request::Terminate { id, own: true }).await;
            found = answers.contains(&Answer::Terminated { found: true });
        }
        Answer::Terminated { found }
    }

    async fn requests(&self, own: bool) -> Answer {
        let mut requests = self.registry.waiting();
        if !own {
            for answer in self.earlier.ask(&Request::Requests { own: true }).await {
                if let Answer::Requests { requests: others } = answer {
                    requests.extend(others);
                }
            }
            requests.sort_by_key(|waiting| waiting.since_ns);
        }
        Answer::Requests { requests }
    }

    async fn decide(&self, id: Uuid, decision: Decision, own: bool) -> Answer {
        let decision = Decision {
            by: clean(decision.by.as_bytes(), WORDS_BYTES_MAX),
            reason: clean(decision.reason.as_bytes(), WORDS_BYTES_MAX),
            ..decision
        };
        if decision.by.is_empty() {
            return Answer::Refused { error: "it is not said who decides".to_owned() };
        }
        let mut outcome = self.registry.decide(id, decision.clone());
        if outcome == Outcome::Unknown && !own {
            let request = Request::Decide { id, decision, own: true };
            for answer in self.earlier.ask(&request).await {
                if let Answer::Decided { outcome: theirs } = answer
                    && theirs != Outcome::Unknown
                {
                    outcome = theirs;
                }
            }
        }
        Answer::Decided { outcome }
    }

    async fn retire(&self) -> Answer {
        match self.orders.send(Order::Retire).await {
            Ok(()) => Answer::Retiring,
            Err(_ended) => no_more_orders(),
        }
    }

    async fn reload(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        let given = self.orders.send(Order::Reload(answer)).await;
        match (given, answered.await) {
            (Ok(()), Ok(Ok(summary))) => Answer::Reloaded { summary },
            (Ok(()), Ok(Err(problem))) => Answer::Unchanged { problem },
            _ => no_more_orders(),
        }
    }
}

fn no_more_orders() -> Answer {
    Answer::Refused { error: "this daemon takes no more orders".to_owned() }
}

/// What an operator's program does has a limit in time.
async fn within_limit<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    within(REQUEST_LIMIT, work).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Asks another daemon.
async fn ask_other(socket: &Path, request: &Request) -> io::Result<Answer> {
    within(EARLIER_LIMIT, async {
        let mut stream = UnixStream::connect(socket).await?;
        let mut line = serde_json::to_string(request)?;
        line.push('\n');
        stream.write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).await?;
        Ok(serde_json::from_str(&answer)?)
    })
    .await
}

/// Asks the daemon behind the socket at `path`; blocks.
pub fn ask(path: &Path, request: &Request) -> io::Result<Answer> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(request.limit()))?;
    let mut line = serde_json::to_string(request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_find_the_daemon_that_serves() {
        let directory = tempfile::tempdir().unwrap();
        let public = directory.path().join("control.sock");
        let [old, new] = [Uuid::now_v7(), Uuid::now_v7()].map(|id| Place::of(id, &public));
        assert_ne!(old.own(), new.own());
        for place in [&old, &new] {
            fs::write(place.own(), place.own().to_str().unwrap()).unwrap();
        }
        let found = || fs::read_to_string(&public).ok();
        let of = |place: &Place| place.own().to_str().map(str::to_owned);
        // A socket that a daemon of an earlier version has left.
        fs::write(&public, "left").unwrap();
        old.publish().unwrap();
        assert_eq!(found(), of(&old));
        new.publish().unwrap();
        new.publish().unwrap();
        assert_eq!(found(), of(&new));
        old.clear().unwrap();
        assert_eq!(found(), of(&new), "the old one takes the link of the new one away");
        assert!(!old.own().exists());
        new.clear().unwrap();
        new.clear().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn requests_are_those_of_the_version_before() {
        let id = Uuid::nil();
        let cases = [
            (r#"{"command":"sessions"}"#.to_owned(), Request::Sessions { own: false }),
            (
                format!(r#"{{"command":"terminate","id":"{id}"}}"#),
                Request::Terminate { id, own: false },
            ),
            (r#"{"command":"reload"}"#.to_owned(), Request::Reload),
        ];
        for (line, expected) in cases {
            assert_eq!(serde_json::from_str::<Request>(&line).unwrap(), expected, "{line}");
        }
    }
}
