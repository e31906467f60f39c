//! Certificates of OpenSSH (its PROTOCOL.certkeys): a key, signed by a CA, for some users or hosts.
//!
//! A [`Certificate`] is well formed and signed by the CA that it names. Whether that CA is trusted,
//! and for whom and when the certificate is good, [`Certificate::check`] says.

mod check;
mod issue;
mod options;
mod parse;
#[cfg(test)]
mod tests;

use thiserror::Error as ThisError;

use crate::certificate::options::Critical;
use crate::error::{DecodeError, Error};

pub use check::{Purpose, Verified};
pub use issue::Request;

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Users log in with it.
    User,
    /// A server shows it instead of a host key.
    Host,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Host => "host",
        }
    }
}

/// A certificate that is well formed and signed by the CA it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    blob: Vec<u8>,
    key_blob: Vec<u8>,
    serial: u64,
    kind: Kind,
    key_id: Vec<u8>,
    principals: Vec<Vec<u8>>,
    valid_after_s: u64,
    valid_before_s: u64,
    critical: Critical,
    extensions: Vec<Vec<u8>>,
    ca_blob: Vec<u8>,
}

impl Certificate {
    /// The certificate as it is sent, type first.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The public key that it certifies, in the form of a plain key.
    #[must_use]
    pub fn key_blob(&self) -> &[u8] {
        &self.key_blob
    }

    /// The number that the CA gave it.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }

    /// What it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What the CA wants to be written in logs.
    #[must_use]
    pub fn key_id(&self) -> &[u8] {
        &self.key_id
    }

    /// The public key of the CA.
    #[must_use]
    pub fn ca_blob(&self) -> &[u8] {
        &self.ca_blob
    }
}

/// Why a certificate counts for nothing.
#[derive(Debug, ThisError)]
pub enum CertificateError {
    /// It is too large to be one.
    #[error("certificate of {bytes} bytes exceeds the limit of {limit}")]
    TooLong {
        /// Its size in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It does not have the form of one.
    #[error("malformed certificate")]
    Decode(#[from] DecodeError),
    /// It is of a type that is not known here.
    #[error("unknown type of certificate \"{name}\"")]
    Type {
        /// The type, escaped.
        name: String,
    },
    /// It is for neither users nor hosts.
    #[error("certificate is of kind {kind}, neither user (1) nor host (2)")]
    Kind {
        /// The kind it names.
        kind: u32,
    },
    /// It lists too much of something.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Options are out of order, or there twice.
    #[error("{what} are not in ascending order")]
    Order {
        /// Which options.
        what: &'static str,
    },
    /// It demands something that is not known here.
    #[error("unknown critical option \"{name}\"")]
    UnknownOption {
        /// The option, escaped.
        name: String,
    },
    /// Its list of client addresses is none.
    #[error("source-address holds \"{text}\", which is no address or prefix")]
    SourceAddress {
        /// The part that is none, escaped.
        text: String,
    },
    /// The CA's signature does not verify.
    #[error("signature of the ca does not verify")]
    Signature(#[source] Box<Error>),
    /// Nobody trusts the CA.
    #[error("certificate is signed by a ca that is not trusted")]
    Untrusted,
    /// It is for users where one for hosts is needed, or the other way round.
    #[error("certificate is for a {found} where one for a {wanted} is needed")]
    WrongKind {
        /// What it is for.
        found: &'static str,
        /// What it should be for.
        wanted: &'static str,
    },
    /// It is not valid yet.
    #[error("certificate is valid from {from_s} s on, and it is {now_s} s now")]
    NotYet {
        /// From when on it is valid, in seconds since 1970.
        from_s: u64,
        /// Now.
        now_s: u64,
    },
    /// It is valid no longer.
    #[error("certificate was valid until {until_s} s, and it is {now_s} s now")]
    Expired {
        /// Until when it was valid, in seconds since 1970.
        until_s: u64,
        /// Now.
        now_s: u64,
    },
    /// It is not for this user or host.
    #[error("certificate is not for \"{name}\"")]
    Principal {
        /// The user or host, escaped.
        name: String,
    },
    /// It is not for this client's address.
    #[error("certificate is not for clients at this address")]
    ClientAddress,
    /// It certifies another key than the one it is used with.
    #[error("certificate is for another key")]
    OtherKey,
    /// A new certificate could not be made.
    #[error("cannot make a certificate")]
    Issue(#[source] Box<Error>),
}
