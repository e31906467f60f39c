//! Why a session ends before its user ends it.

use std::error::Error as StdError;
use std::fmt;

use proxyd_policy::DenyReason;

/// Why a step stopped the line.
#[derive(Debug)]
pub enum Stop {
    /// A verdict.
    Denied(DenyReason),
    /// A fault.
    Failed(Failure),
    /// An operator, or the end of the daemon, ended it.
    Terminated(&'static str),
    /// The client went away.
    ClientGone,
}

/// A fault of one step.
#[derive(Debug)]
pub struct Failure {
    /// The step, as in ARCHITECTURE.md.
    pub step: &'static str,
    /// Whose fault it is.
    pub blame: Blame,
    /// What happened.
    pub error: Box<dyn StdError + Send + Sync>,
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The client's.
    Client,
    /// The server's.
    Server,
    /// Our own, or our disk's.
    Gateway,
}

impl Blame {
    /// The name in records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
            Self::Gateway => "gateway",
        }
    }
}

impl Stop {
    /// A fault of the client in `step`.
    pub fn client(step: &'static str, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(Failure { step, blame: Blame::Client, error: error.into() })
    }

    /// A fault of the server in `step`.
    pub fn server(step: &'static str, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(Failure { step, blame: Blame::Server, error: error.into() })
    }

    /// A fault of our own in `step`.
    pub fn gateway(step: &'static str, error: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Failed(Failure { step, blame: Blame::Gateway, error: error.into() })
    }

    /// The outcome's name in the session's row.
    #[must_use]
    pub const fn outcome(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Failed(_) => "failed",
            Self::Terminated(_) => "terminated",
            Self::ClientGone => "client-gone",
        }
    }

    /// The reason in the session's row: a stable code, then details.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Denied(reason) => reason.code().to_owned(),
            Self::Failed(failure) => {
                format!("{}-{}: {}", failure.blame.as_str(), failure.step, chain(&*failure.error))
            }
            Self::Terminated(by) => (*by).to_owned(),
            Self::ClientGone => "the client closed the connection".to_owned(),
        }
    }

    /// What the user is told; a fault of our own is told without its details.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Denied(reason) => reason.text().to_owned(),
            Self::Terminated(by) => format!("the session was ended by {by}"),
            Self::ClientGone => "the connection was closed".to_owned(),
            Self::Failed(Failure { blame: Blame::Gateway, .. }) => {
                "the gateway cannot serve this session, please tell its operators".to_owned()
            }
            Self::Failed(failure) => chain(&*failure.error),
        }
    }
}

impl From<DenyReason> for Stop {
    fn from(reason: DenyReason) -> Self {
        Self::Denied(reason)
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason())
    }
}

/// An error and its causes, joined by colons.
pub fn chain(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
