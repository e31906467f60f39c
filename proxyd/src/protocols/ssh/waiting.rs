//! Four eyes: messages that wait until somebody has approved, and what waits behind them.

use std::collections::VecDeque;
use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_ssh::message::number;
use proxyd_ssh::relay::{Docket, Held};
use thiserror::Error as ThisError;
use uuid::Uuid;

/// Bytes that a session may send behind what waits: the windows of several channels.
const HELD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Messages likewise.
const HELD_MESSAGES_MAX: usize = 4_096;

/// How often a client that waits hears from us; OpenSSH's gives up after 45 s where it is told to
/// look every 15 s.
const SIGN_OF_LIFE_INTERVAL: Duration = Duration::from_secs(10);

/// A client that sends more behind what waits than is kept.
#[derive(Debug, ThisError)]
#[error(
    "more than {limit_bytes} bytes or {limit_messages} messages behind what waits for approval"
)]
pub(super) struct TooMuch {
    limit_bytes: usize,
    limit_messages: usize,
}

/// One message that waits.
#[derive(Debug)]
pub(super) struct Wait {
    /// The request for approval.
    pub(super) request: Uuid,
    /// Where the verdict takes effect.
    pub(super) docket: Docket,
    /// The message.
    pub(super) message: Vec<u8>,
    /// What the client has sent behind it, in order.
    pub(super) later: VecDeque<Vec<u8>>,
    /// What has to wait behind it; none where nothing can.
    held: Option<Held>,
    /// For how long.
    until: Duration,
    /// Whether the client has closed the channel.
    withdrawn: bool,
}

impl Wait {
    /// A message that waits until the clock shows `until`.
    pub(super) const fn new(
        request: Uuid,
        docket: Docket,
        message: Vec<u8>,
        held: Option<Held>,
        until: Duration,
    ) -> Self {
        let later = VecDeque::new();
        Self { request, docket, message, later, held, until, withdrawn: false }
    }
}

/// All messages of one session that wait.
#[derive(Debug, Default)]
pub(super) struct Waits {
    waits: Vec<Wait>,
    held_bytes: usize,
    held_messages: usize,
    last_sign: Duration,
}

impl Waits {
    /// Whether none waits.
    pub(super) const fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    /// One more waits.
    pub(super) fn push(&mut self, wait: Wait) {
        self.waits.push(wait);
    }

    /// Keeps a message behind the one it must not overtake.
    pub(super) fn hold(&mut self, held: Held, message: &[u8]) -> Result<(), TooMuch> {
        self.held_bytes = self.held_bytes.saturating_add(message.len());
        self.held_messages += 1;
        if self.held_bytes > HELD_BYTES_MAX || self.held_messages > HELD_MESSAGES_MAX {
            let (limit_bytes, limit_messages) = (HELD_BYTES_MAX, HELD_MESSAGES_MAX);
            return Err(TooMuch { limit_bytes, limit_messages });
        }
        if let Some(wait) = self.waits.iter_mut().find(|wait| wait.held == Some(held)) {
            wait.later.push_back(message.to_vec());
            wait.withdrawn |= message.first() == Some(&number::CHANNEL_CLOSE);
        }
        Ok(())
    }

    /// Takes out the message that a request is for, if it still waits.
    pub(super) fn take(&mut self, request: Uuid) -> Option<Wait> {
        let at = self.waits.iter().position(|wait| wait.request == request)?;
        let wait = self.waits.swap_remove(at);
        let bytes: usize = wait.later.iter().map(Vec::len).sum();
        self.held_bytes = self.held_bytes.saturating_sub(bytes);
        self.held_messages = self.held_messages.saturating_sub(wait.later.len());
        Some(wait)
    }

    /// A request that need not wait any more although nobody has decided, and why: its client has
    /// closed the channel, or it has waited for too long.
    pub(super) fn given_up(&self, now: Duration) -> Option<(Uuid, DenyReason)> {
        self.waits.iter().find_map(|wait| match () {
            () if wait.withdrawn => Some((wait.request, DenyReason::FourEyesWithdrawn)),
            () if wait.until <= now => Some((wait.request, DenyReason::FourEyesTimeout)),
            () => None,
        })
    }

    /// Whether it is time for a sign of life to the client.
    pub(super) fn wants_sign_of_life(&mut self, now: Duration) -> bool {
        let due = !self.is_empty() && now.saturating_sub(self.last_sign) >= SIGN_OF_LIFE_INTERVAL;
        if due {
            self.last_sign = now;
        }
        due
    }
}
