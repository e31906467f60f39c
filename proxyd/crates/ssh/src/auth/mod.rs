//! The authentication protocol as two small machines, one towards each peer.

pub mod acceptor;
pub mod connector;

use thiserror::Error as ThisError;

use crate::error::DecodeError;

/// Why the authentication of a connection cannot go on.
#[derive(Debug, ThisError)]
pub enum AuthError {
    /// A message does not have the form its specification gives.
    #[error("malformed authentication message")]
    Decode(#[from] DecodeError),
    /// A message that is not legal at this point.
    #[error("message {number} while {expected} was expected")]
    Unexpected {
        /// The message's number.
        number: u8,
        /// What would have been legal.
        expected: &'static str,
    },
    /// A service other than authentication, or after it than the connection protocol.
    #[error("service {name:?} is not offered")]
    Service {
        /// The service's name, cleaned.
        name: String,
    },
    /// The user name changed between two attempts (RFC 4252 section 5).
    #[error("the user name changed during authentication")]
    UserChanged,
    /// The user name is too long.
    #[error("user name of {length} bytes exceeds {limit} bytes")]
    UserTooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More attempts failed than are allowed.
    #[error("more than {limit} authentication attempts failed")]
    TooManyFailures {
        /// The limit in attempts.
        limit: u32,
    },
    /// The client asked about more keys than are allowed.
    #[error("more than {limit} public keys were offered")]
    TooManyKeys {
        /// The limit in keys.
        limit: u32,
    },
    /// The peer sent more tokens of GSS-API than a context takes.
    #[error("more than {limit} gss-api tokens")]
    TooManyTokens {
        /// The limit in tokens.
        limit: u32,
    },
    /// The server chose a mechanism of GSS-API that it was not offered.
    #[error("the server chose a mechanism that it was not offered")]
    Mechanism,
    /// The client sent more messages than authentication may take.
    #[error("more than {limit} messages before authentication")]
    TooManyMessages {
        /// The limit in messages.
        limit: u32,
    },
}
