//! A leg on its socket: whole messages with a deadline, until the relay takes over.

use std::time::Duration;

use proxyd_ssh::certificate::Certificate;
use proxyd_ssh::transport::{Event, KeyAlgorithm, Leg};
use thiserror::Error as ThisError;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tracing::warn;

use crate::ask::SecretBytes;
use crate::clock::Clock;

/// Why nothing more comes of a leg.
#[derive(Debug, ThisError)]
pub(super) enum LinkError {
    /// The peer broke the protocol, or no algorithm fits.
    #[error("the ssh connection failed")]
    Protocol(#[from] proxyd_ssh::Error),
    /// The socket failed.
    #[error("the connection was lost")]
    Socket(#[from] std::io::Error),
    /// The peer closed the socket.
    #[error("the connection was closed")]
    Closed,
    /// The peer said goodbye.
    #[error("disconnected: {text}")]
    Disconnected {
        /// Its text, cleaned.
        text: String,
    },
    /// The peer took too long.
    #[error("no answer in time")]
    Timeout,
}

/// What a leg brings.
#[derive(Debug)]
pub(super) enum Arrived {
    /// The first key exchange is complete.
    Established,
    /// The server's host key, to be judged.
    HostKey(HostKeyShown),
    /// A message above the transport layer; it may hold a password.
    Message(SecretBytes),
}

/// A server's host key that has signed the key exchange.
#[derive(Debug)]
pub(super) struct HostKeyShown {
    pub(super) algorithm: KeyAlgorithm,
    pub(super) blob: Vec<u8>,
    pub(super) certificate: Option<Box<Certificate>>,
}

/// A leg and its socket.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) leg: Leg,
    pub(super) stream: TcpStream,
    clock: Clock,
}

impl Link {
    pub(super) const fn new(leg: Leg, stream: TcpStream, clock: Clock) -> Self {
        Self { leg, stream, clock }
    }

    /// The next thing that comes, until the clock shows `deadline`.
    pub(super) async fn next(&mut self, deadline: Duration) -> Result<Arrived, LinkError> {
        let clock = self.clock;
        within(&clock, deadline, self.receive()).await
    }

    /// Tells operators of a peer that leaves the key exchange open to cutting (CVE-2023-48795).
    pub(super) fn warn_unless_strict(&self, side: &'static str) {
        if self.leg.negotiated().is_some_and(|negotiated| !negotiated.strict) {
            warn!(side, "A peer does not protect its key exchange (strict kex)");
        }
    }

    /// The next message above the transport layer.
    pub(super) async fn message(&mut self, deadline: Duration) -> Result<SecretBytes, LinkError> {
        match self.next(deadline).await? {
            Arrived::Message(message) => Ok(message),
            // Both come once, before any message, and are awaited by name.
            Arrived::Established | Arrived::HostKey(_) => Err(LinkError::Closed),
        }
    }

    /// Sends a message.
    pub(super) async fn send(
        &mut self,
        message: &[u8],
        deadline: Duration,
    ) -> Result<(), LinkError> {
        self.leg.send(&[message])?;
        let clock = self.clock;
        within(&clock, deadline, self.flush()).await
    }

    /// Says goodbye, as far as the peer lets us.
    pub(super) async fn disconnect(&mut self, reason: u32, text: &str) {
        self.leg.disconnect(reason, text);
        let deadline = self.clock.now().saturating_add(GOODBYE_LIMIT);
        let clock = self.clock;
        let goodbye = async {
            self.flush().await?;
            self.stream.shutdown().await?;
            // A socket that is closed with bytes unread is reset, and the text lost with it.
            let mut unread = vec![0; UNREAD_BYTES];
            while self.stream.read(&mut unread).await? > 0 {}
            Ok(())
        };
        // The session ends either way; a peer that does not listen misses the text.
        drop(within(&clock, deadline, goodbye).await);
    }

    /// Cancel-safe: what was read stays in the leg.
    async fn receive(&mut self) -> Result<Arrived, LinkError> {
        loop {
            let event = self.leg.next(self.clock.now()).map(|event| event.map(arrived));
            // Whatever the leg has to say about it, even about a failure, goes out first.
            let flushed = self.flush().await;
            match event? {
                Some(Next::Arrived(arrived)) => return Ok(arrived),
                Some(Next::Gone(text)) => return Err(LinkError::Disconnected { text }),
                Some(Next::Nothing) => continue,
                None => flushed?,
            }
            self.stream.readable().await?;
            match self.stream.try_read(self.leg.read_space()) {
                Ok(0) => return Err(LinkError::Closed),
                Ok(bytes) => self.leg.filled(bytes),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Cancel-safe: the leg is told of every byte that went out.
    async fn flush(&mut self) -> Result<(), LinkError> {
        while !self.leg.out().is_empty() {
            let sent = self.stream.write(self.leg.out()).await?;
            if sent == 0 {
                return Err(LinkError::Closed);
            }
            self.leg.sent(sent);
        }
        Ok(())
    }
}

/// Bytes that are thrown away at a time while a peer takes its leave.
const UNREAD_BYTES: usize = 4_096;

/// How long a goodbye may take.
const GOODBYE_LIMIT: Duration = Duration::from_secs(2);

enum Next {
    Arrived(Arrived),
    Gone(String),
    Nothing,
}

fn arrived(event: Event<'_>) -> Next {
    match event {
        Event::Established => Next::Arrived(Arrived::Established),
        Event::HostKey(offer) => {
            let (algorithm, blob) = (offer.algorithm, offer.key_blob.to_vec());
            let certificate = offer.certificate.cloned().map(Box::new);
            Next::Arrived(Arrived::HostKey(HostKeyShown { algorithm, blob, certificate }))
        }
        Event::Message(message) => {
            Next::Arrived(Arrived::Message(SecretBytes::new(message.to_vec())))
        }
        Event::Disconnected { text, .. } => Next::Gone(text),
        Event::Rekeyed => Next::Nothing,
    }
}

async fn within<T>(
    clock: &Clock,
    deadline: Duration,
    future: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::select! {
        result = future => result,
        () = clock.sleep_until(deadline) => Err(LinkError::Timeout),
    }
}
