//! The control socket: what `proxyd ctl` asks a running daemon. One JSON line each way.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::clock::Clock;
use crate::session::registry::{Live, Registry};
use crate::task::Group;

/// Operators that are heard at a time; the others wait.
const OPERATORS_MAX: usize = 16;

/// Bytes of a request; the longest has about 80.
const REQUEST_BYTES_MAX: u64 = 4_096;

/// How long an operator's program may take to ask and to listen.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// How long a reload may take: reading, compiling and publishing the largest configuration takes
/// some seconds on a slow machine.
const RELOAD_LIMIT: Duration = Duration::from_secs(120);

/// After a failed accept, most likely for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// Only root may connect.
const SOCKET_MODE: u32 = 0o600;

/// Who ends a session by this socket.
const BY_OPERATOR: &str = "an operator";

/// What may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// The live sessions.
    Sessions,
    /// End a session.
    Terminate {
        /// Which.
        id: Uuid,
    },
    /// Read the configuration file again.
    Reload,
}

impl Request {
    /// How long its answer may take.
    const fn limit(self) -> Duration {
        match self {
            Self::Sessions | Self::Terminate { .. } => REQUEST_LIMIT,
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
}

/// Opens the socket and answers until `stop`; a socket that a killed daemon left is replaced.
pub fn start(path: &Path, desk: Desk, tasks: &Group, stop: CancellationToken) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    let (path, operators) = (path.to_owned(), tasks.clone());
    tasks.start("control", async move {
        tokio::select! {
            () = hear_all(&listener, &desk, &operators) => {}
            () = stop.cancelled() => {}
        }
        if let Err(error) = std::fs::remove_file(&path) {
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
    let mut line = String::new();
    {
        let mut reader = BufReader::new((&mut stream).take(REQUEST_BYTES_MAX));
        within_limit(reader.read_line(&mut line)).await?;
    }
    let answer = match serde_json::from_str(&line) {
        Ok(request) => desk.answer(request).await,
        Err(error) => Answer::Refused { error: error.to_string() },
    };
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    within_limit(stream.write_all(line.as_bytes())).await
}

impl Desk {
    async fn answer(&self, request: Request) -> Answer {
        match request {
            Request::Sessions => Answer::Sessions { sessions: self.registry.list() },
            Request::Terminate { id } => {
                Answer::Terminated { found: self.registry.terminate(id, BY_OPERATOR) }
            }
            Request::Reload => self.reload().await,
        }
    }

    async fn reload(&self) -> Answer {
        let (answer, answered) = oneshot::channel();
        let given = self.orders.send(Order::Reload(answer)).await;
        match (given, answered.await) {
            (Ok(()), Ok(Ok(summary))) => Answer::Reloaded { summary },
            (Ok(()), Ok(Err(problem))) => Answer::Unchanged { problem },
            _ => Answer::Refused { error: "this daemon takes no more orders".to_owned() },
        }
    }
}

/// What an operator's program does has a limit in time.
async fn within_limit<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(REQUEST_LIMIT, work).await {
        Ok(result) => result,
        Err(_elapsed) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// Asks the daemon behind the socket at `path`; blocks.
pub fn ask(path: &Path, request: Request) -> io::Result<Answer> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(request.limit()))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
