//! Errors of the SSH layer: one cause per variant.

use thiserror::Error as ThisError;

/// Why a connection cannot go on; none of these can be recovered from.
#[derive(Debug, ThisError)]
#[expect(
    clippy::error_impl_error,
    reason = "the one error of the crate, used as `proxyd_ssh::Error`"
)]
pub enum Error {
    /// A message does not have the form its specification gives.
    #[error("malformed message")]
    Decode(#[from] DecodeError),
}

/// One field of a message that could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
#[error("{field} at byte {offset}: {kind}")]
pub struct DecodeError {
    /// The field's name, as its specification spells it.
    pub field: &'static str,
    /// Where the field starts, in bytes from the start of what was being read.
    pub offset: usize,
    /// What is wrong with it.
    pub kind: DecodeKind,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ThisError)]
pub enum DecodeKind {
    /// The input ends before the field does.
    #[error("needs {needed} bytes, {left} are left")]
    Truncated {
        /// Bytes the field needs.
        needed: usize,
        /// Bytes that were there.
        left: usize,
    },
    /// Bytes follow the last field.
    #[error("{left} bytes follow the last field")]
    Trailing {
        /// Bytes after the last field.
        left: usize,
    },
    /// The field is longer than its limit.
    #[error("{length} bytes exceed the limit of {limit}")]
    TooLong {
        /// Declared length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A name-list holds more names than its limit.
    #[error("more than {limit} names")]
    TooManyNames {
        /// The limit in names.
        limit: usize,
    },
    /// A name-list holds an empty name, or one that is too long or not printable ASCII.
    #[error("name {index} is empty, too long or not printable ascii")]
    BadName {
        /// Index of the name in its list.
        index: usize,
    },
    /// An mpint is negative, or is not in its shortest form (RFC 4251 section 5).
    #[error("negative or not in shortest form")]
    BadMpint,
    /// The field holds a value that it must not have.
    #[error("value not allowed")]
    BadValue,
}
