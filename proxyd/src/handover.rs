//! What two daemons say to each other while one takes over from the other: one JSON line each way.
//!
//! The new one asks by a request at the control socket; then "offer", "ready", "yours". Until the
//! old one has said "yours" it goes on as if nothing had been, whatever becomes of the new one.

use std::io;
use std::net::TcpListener;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use socket2::SockRef;
use thiserror::Error as ThisError;
use tokio::net::UnixStream;

use crate::net::descriptors::{receive_line, send_line};

/// The version of this protocol.
pub const VERSION: u32 = 1;

/// What the old daemon says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Reply {
    /// With it come the listeners of IPv4 and IPv6 and the lock of the spool.
    Offer {
        /// The version it speaks.
        version: u32,
    },
    /// The old daemon has stopped accepting and lets go; the new one serves.
    Yours,
    /// There is no hand-over.
    Refused {
        /// Why.
        error: String,
    },
}

/// What the new daemon says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// It steers, and accepts as soon as it may.
    Ready,
}

/// Why a hand-over failed.
#[derive(Debug, ThisError)]
pub enum HandoverError {
    /// The other daemon cannot be talked to.
    #[error("the other daemon cannot be talked to")]
    Io(#[from] io::Error),
    /// It has closed the connection.
    #[error("the other daemon is gone")]
    Gone,
    /// The other daemon said no.
    #[error("the running daemon refused: {0}")]
    Refused(String),
    /// What it said has no place here.
    #[error("the other daemon said {0:?}, which has no place here")]
    Unexpected(String),
    /// It speaks another version.
    #[error("the other daemon speaks version {version} of the hand-over, this one {VERSION}")]
    Version {
        /// The other's.
        version: u32,
    },
    /// It took too long.
    #[error("the other daemon said nothing for {} s", limit.as_secs())]
    Silent {
        /// How long it was waited for.
        limit: Duration,
    },
    /// What came with the offer is not what belongs to it.
    #[error(
        "the offer came with {count} descriptors, or with others than two listeners and a lock"
    )]
    Descriptors {
        /// How many.
        count: usize,
    },
}

/// What is handed over.
#[derive(Debug)]
pub struct Handed {
    /// The listeners, IPv4 first.
    pub listeners: [TcpListener; 2],
    /// The lock of the spool.
    pub lock: OwnedFd,
}

/// The connection between the two.
#[derive(Debug)]
pub struct Link {
    stream: UnixStream,
}

impl Link {
    /// Over this connection; nothing that was received may wait unread elsewhere.
    #[must_use]
    pub const fn new(stream: UnixStream) -> Self {
        Self { stream }
    }

    /// Says something.
    pub async fn say(&mut self, what: &(impl Serialize + Sync)) -> Result<(), HandoverError> {
        self.send(what, &[]).await
    }

    /// Offers the listeners of IPv4 and IPv6 and the lock of the spool.
    pub async fn offer(&mut self, descriptors: &[BorrowedFd<'_>; 3]) -> Result<(), HandoverError> {
        self.send(&Reply::Offer { version: VERSION }, descriptors).await
    }

    /// Waits for an offer.
    pub async fn offered(&mut self, limit: Duration) -> Result<Handed, HandoverError> {
        let (reply, descriptors) = self.hear::<Reply>(limit).await?;
        match reply {
            Reply::Offer { version: VERSION } => handed(descriptors),
            Reply::Offer { version } => Err(HandoverError::Version { version }),
            Reply::Refused { error } => Err(HandoverError::Refused(error)),
            Reply::Yours => Err(HandoverError::Unexpected(format!("{reply:?}"))),
        }
    }

    /// Waits until the listeners are this daemon's alone. There is no limit: a new daemon that
    /// gives up at the moment in which the old one lets go would leave nobody to serve.
    pub async fn granted(&mut self) -> Result<(), HandoverError> {
        let (line, _descriptors) = self.receive().await?;
        match parsed(line)? {
            Reply::Yours => Ok(()),
            Reply::Refused { error } => Err(HandoverError::Refused(error)),
            reply @ Reply::Offer { .. } => Err(HandoverError::Unexpected(format!("{reply:?}"))),
        }
    }

    /// Waits until the new daemon is ready.
    pub async fn ready(&mut self, limit: Duration) -> Result<(), HandoverError> {
        let (Step::Ready, _descriptors) = self.hear(limit).await?;
        Ok(())
    }

    async fn send(
        &mut self,
        what: &(impl Serialize + Sync),
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), HandoverError> {
        let line = serde_json::to_string(what).map_err(io::Error::from)?;
        Ok(send_line(&mut self.stream, &line, descriptors).await?)
    }

    async fn receive(&self) -> Result<(String, Vec<OwnedFd>), HandoverError> {
        let is_end = |error: &io::Error| {
            matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
        };
        match receive_line(&self.stream).await {
            Err(error) if is_end(&error) => Err(HandoverError::Gone),
            received => Ok(received?),
        }
    }

    async fn hear<T: DeserializeOwned>(
        &self,
        limit: Duration,
    ) -> Result<(T, Vec<OwnedFd>), HandoverError> {
        match tokio::time::timeout(limit, self.receive()).await {
            Err(_elapsed) => Err(HandoverError::Silent { limit }),
            Ok(received) => {
                let (line, descriptors) = received?;
                Ok((parsed(line)?, descriptors))
            }
        }
    }
}

/// What a line says.
fn parsed<T: DeserializeOwned>(line: String) -> Result<T, HandoverError> {
    match serde_json::from_str(&line) {
        Ok(said) => Ok(said),
        Err(_other) => Err(HandoverError::Unexpected(line)),
    }
}

fn handed(descriptors: Vec<OwnedFd>) -> Result<Handed, HandoverError> {
    let count = descriptors.len();
    let wrong = HandoverError::Descriptors { count };
    let Ok([v4, v6, lock]) = <[OwnedFd; 3]>::try_from(descriptors) else { return Err(wrong) };
    let listeners = [TcpListener::from(v4), TcpListener::from(v6)];
    let listens = |listener| SockRef::from(listener).is_listener().unwrap_or_default();
    if listeners.iter().all(listens) { Ok(Handed { listeners, lock }) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;

    /// Enough for what has been said already.
    const LIMIT: Duration = Duration::from_secs(5);

    fn links() -> (Link, Link) {
        let (one, other) = UnixStream::pair().unwrap();
        (Link::new(one), Link::new(other))
    }

    #[tokio::test]
    async fn a_hand_over() {
        let (mut old, mut new) = links();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let lock = tempfile::tempfile().unwrap();
        old.offer(&[listener.as_fd(), listener.as_fd(), lock.as_fd()]).await.unwrap();
        let handed = new.offered(LIMIT).await.unwrap();
        let address = listener.local_addr().unwrap();
        assert!(handed.listeners.iter().all(|handed| handed.local_addr().unwrap() == address));
        new.say(&Step::Ready).await.unwrap();
        old.ready(LIMIT).await.unwrap();
        old.say(&Reply::Yours).await.unwrap();
        new.granted().await.unwrap();
    }

    #[tokio::test]
    async fn what_has_no_place_is_refused() {
        let lock = tempfile::tempfile().unwrap();
        let cases = [
            ("no offer", r#"{"answer":"yours"}"#, 0, "has no place"),
            ("no words", "hello", 0, "has no place"),
            ("refused", r#"{"answer":"refused","error":"later"}"#, 0, "refused: later"),
            ("another version", r#"{"answer":"offer","version":2}"#, 3, "speaks version 2"),
            ("no descriptors", r#"{"answer":"offer","version":1}"#, 0, "0 descriptors"),
            ("no listeners", r#"{"answer":"offer","version":1}"#, 3, "others than two listeners"),
        ];
        for (name, line, count, expected) in cases {
            let (mut old, mut new) = links();
            let descriptors = vec![lock.as_fd(); count];
            send_line(&mut old.stream, line, &descriptors).await.unwrap();
            let error = new.offered(LIMIT).await.unwrap_err().to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let (mut old, mut new) = links();
        let silent = old.ready(Duration::ZERO).await.unwrap_err();
        assert!(matches!(silent, HandoverError::Silent { .. }), "{silent}");
        new.say(&Reply::Yours).await.unwrap();
        let early = old.ready(LIMIT).await.unwrap_err();
        assert!(matches!(early, HandoverError::Unexpected(_)), "{early}");
        old.offer(&[lock.as_fd(); 3]).await.unwrap();
        let again = new.granted().await.unwrap_err();
        assert!(matches!(again, HandoverError::Unexpected(_)), "{again}");
        drop(old);
        let gone = new.granted().await.unwrap_err();
        assert!(matches!(gone, HandoverError::Gone), "{gone}");
    }
}
