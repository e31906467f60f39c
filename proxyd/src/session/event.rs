//! What each step of a session leaves behind, typed.

use std::net::SocketAddr;
use std::time::Duration;

use proxyd_policy::DenyReason;
use uuid::Uuid;

/// One thing that a step did or decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The connection policy that decides about this session.
    Policy {
        /// Its name.
        name: String,
    },
    /// The client introduced itself.
    ClientHello {
        /// Its software version, cleaned.
        version: String,
        /// The user name as typed, cleaned.
        user_name: String,
    },
    /// One attempt to authenticate at the gateway.
    GatewayAuthentication {
        /// The gateway user tried.
        user: String,
        /// The method.
        method: &'static str,
        /// Whether it was right.
        accepted: bool,
    },
    /// The server was chosen.
    Target {
        /// Its address.
        address: SocketAddr,
    },
    /// The gateway user may be this user on the server.
    UserMapped {
        /// The user on the server.
        remote_user: String,
    },
    /// The server proved who it is.
    ServerIdentity {
        /// Fingerprint of its host key.
        fingerprint: String,
        /// Whether it was known, learned now, or not checked.
        trust: &'static str,
    },
    /// One attempt to log in to the server.
    ServerLogin {
        /// The method.
        method: &'static str,
        /// Whether the server took it.
        accepted: bool,
    },
    /// The verdict about one channel.
    Channel {
        /// The channel's number in the record; none where the server shall listen.
        channel: Option<u32>,
        /// What it was opened for.
        kind: String,
        /// The command, subsystem, address or path, cleaned; empty for a shell.
        detail: String,
        /// Index of the rule that allowed it, or why none did.
        verdict: Result<usize, DenyReason>,
    },
    /// A forwarded connection carries SSH, whose own channels nobody judges or records.
    NestedSsh {
        /// The forwarded connection's number in the record.
        channel: u32,
    },
    /// A channel waits for somebody's approval.
    ApprovalAsked {
        /// The request.
        request: Uuid,
        /// What is to be opened.
        kind: String,
        /// Its command, address or path, cleaned.
        detail: String,
    },
    /// Somebody has decided about a channel that waited.
    ApprovalDecided {
        /// The request.
        request: Uuid,
        /// Whether it may be opened.
        approved: bool,
        /// Who decided.
        by: String,
        /// Why.
        reason: String,
    },
    /// Something was refused that is never relayed.
    Refused {
        /// What.
        what: String,
    },
    /// The trail can no longer be written; what follows is not recorded.
    RecordingFailed {
        /// Why.
        error: String,
    },
    /// The session came to its end.
    Ended {
        /// How.
        outcome: &'static str,
        /// Why.
        reason: String,
    },
}

/// An event, and when it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timed {
    /// Time since the session's start.
    pub at: Duration,
    /// The event.
    pub event: Event,
}

impl Event {
    /// Its name in records.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Policy { .. } => "policy",
            Self::ClientHello { .. } => "client-hello",
            Self::GatewayAuthentication { .. } => "gateway-authentication",
            Self::Target { .. } => "target",
            Self::UserMapped { .. } => "user-mapped",
            Self::ServerIdentity { .. } => "server-identity",
            Self::ServerLogin { .. } => "server-login",
            Self::Channel { .. } => "channel",
            Self::NestedSsh { .. } => "nested-ssh",
            Self::ApprovalAsked { .. } => "approval-asked",
            Self::ApprovalDecided { .. } => "approval-decided",
            Self::Refused { .. } => "refused",
            Self::RecordingFailed { .. } => "recording-failed",
            Self::Ended { .. } => "ended",
        }
    }

    /// Its fields in records, by name.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let verdict = |accepted: &bool| if *accepted { "accepted" } else { "refused" }.to_owned();
        match self {
            Self::Policy { name } => vec![("name", name.clone())],
            Self::ClientHello { version, user_name } => {
                vec![("version", version.clone()), ("user_name", user_name.clone())]
            }
            Self::GatewayAuthentication { user, method, accepted } => vec![
                ("user", user.clone()),
                ("method", (*method).to_owned()),
                ("verdict", verdict(accepted)),
            ],
            Self::Target { address } => vec![("address", address.to_string())],
            Self::UserMapped { remote_user } => vec![("remote_user", remote_user.clone())],
            Self::ServerIdentity { fingerprint, trust } => {
                vec![("fingerprint", fingerprint.clone()), ("trust", (*trust).to_owned())]
            }
            Self::ServerLogin { method, accepted } => {
                vec![("method", (*method).to_owned()), ("verdict", verdict(accepted))]
            }
            Self::Channel { channel, kind, detail, verdict } => {
                let mut fields = vec![
                    ("kind", kind.clone()),
                    ("detail", detail.clone()),
                    match verdict {
                        Ok(rule) => ("rule", rule.to_string()),
                        Err(reason) => ("denied", reason.code().to_owned()),
                    },
                ];
                fields.extend(channel.map(|channel| ("channel", channel.to_string())));
                fields
            }
            Self::NestedSsh { channel } => vec![("channel", channel.to_string())],
            Self::ApprovalAsked { request, kind, detail } => vec![
                ("request", request.to_string()),
                ("kind", kind.clone()),
                ("detail", detail.clone()),
            ],
            Self::ApprovalDecided { request, approved, by, reason } => vec![
                ("request", request.to_string()),
                ("verdict", verdict(approved)),
                ("by", by.clone()),
                ("reason", reason.clone()),
            ],
            Self::Refused { what } => vec![("what", what.clone())],
            Self::RecordingFailed { error } => vec![("error", error.clone())],
            Self::Ended { outcome, reason } => {
                vec![("outcome", (*outcome).to_owned()), ("reason", reason.clone())]
            }
        }
    }
}
