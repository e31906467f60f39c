//! The control socket: what `proxyd ctl` asks a running daemon. One JSON line each way.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;
use tracing::warn;
use uuid::Uuid;

use crate::clock::Clock;
use crate::session::registry::{Live, Registry};
use crate::task::Group;

/// Bytes of a request; the longest has about 80.
const REQUEST_BYTES_MAX: u64 = 4_096;

/// How long an operator's program may take to ask and to listen.
const REQUEST_LIMIT: Duration = Duration::from_secs(5);

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
    /// The request was not understood.
    Refused {
        /// Why.
        error: String,
    },
}

/// Opens the socket and answers until `stop`; a socket that a killed daemon left is replaced.
pub fn start(
    path: &Path,
    clock: Clock,
    registry: &Registry,
    tasks: &Group,
    stop: CancellationToken,
) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
    let (registry, path) = (registry.clone(), path.to_owned());
    tasks.start("control", async move {
        loop {
            // One at a time: each is bounded in time, and operators are few.
            tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _address)) => serve(stream, &registry).await,
                    Err(error) => {
                        warn!(%error, "The control socket failed");
                        tokio::select! {
                            () = clock.sleep_until(clock.now().saturating_add(ACCEPT_PAUSE)) => {}
                            () = stop.cancelled() => {}
                        }
                    }
                },
                () = stop.cancelled() => break,
            }
        }
        if let Err(error) = std::fs::remove_file(&path) {
            warn!(%error, "The control socket could not be removed");
        }
    });
    Ok(())
}

async fn serve(stream: UnixStream, registry: &Registry) {
    match tokio::time::timeout(REQUEST_LIMIT, answer(stream, registry)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => warn!(%error, "A control request failed"),
        Err(_elapsed) => warn!("A control request took too long"),
    }
}

async fn answer(stream: UnixStream, registry: &Registry) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut line = String::new();
    BufReader::new(reader.take(REQUEST_BYTES_MAX)).read_line(&mut line).await?;
    let answer = match serde_json::from_str(&line) {
        Ok(Request::Sessions) => Answer::Sessions { sessions: registry.list() },
        Ok(Request::Terminate { id }) => {
            Answer::Terminated { found: registry.terminate(id, BY_OPERATOR) }
        }
        Err(error) => Answer::Refused { error: error.to_string() },
    };
    let mut line = serde_json::to_string(&answer)?;
    line.push('\n');
    writer.write_all(line.as_bytes()).await
}

/// Asks the daemon behind the socket at `path`; blocks.
pub fn ask(path: &Path, request: Request) -> io::Result<Answer> {
    use std::io::{BufRead as _, Write as _};
    let mut stream = std::os::unix::net::UnixStream::connect(path)?;
    stream.set_read_timeout(Some(REQUEST_LIMIT))?;
    let mut line = serde_json::to_string(&request)?;
    line.push('\n');
    stream.write_all(line.as_bytes())?;
    let mut answer = String::new();
    io::BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
