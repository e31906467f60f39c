//! Errors of the SSH layer: one cause per variant.

use aws_lc_rs::error::{KeyRejected, Unspecified};
use thiserror::Error as ThisError;

use crate::certificate::CertificateError;
use crate::transport::number;

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

    /// The peer's first line is not the version line of SSH 2.
    #[error("peer does not speak ssh 2: first bytes are \"{start}\"")]
    NotSsh {
        /// The start of what it sent, escaped.
        start: String,
    },
    /// A line of the version exchange is longer than its limit.
    #[error("line of the version exchange exceeds {limit} bytes")]
    LineTooLong {
        /// The limit in bytes.
        limit: usize,
    },
    /// A version line holds something other than printable ASCII.
    #[error("version line holds the byte {byte:#04x}")]
    VersionByte {
        /// The byte.
        byte: u8,
    },
    /// A server sent too many lines before its version line.
    #[error("more than {limit} lines before the version line")]
    BannerTooLong {
        /// The limit in lines.
        limit: usize,
    },

    /// A packet's length is out of range, or no multiple of the block size.
    #[error("packet length {length} is not a multiple of the block size within {min}..={max}")]
    PacketLength {
        /// The `packet_length` field.
        length: usize,
        /// The smallest that is allowed.
        min: usize,
        /// The largest that is allowed.
        max: usize,
    },
    /// A packet's padding is too short or leaves no payload.
    #[error("padding of {padding} bytes does not fit a packet of length {length}")]
    Padding {
        /// The `padding_length` field.
        padding: usize,
        /// The `packet_length` field.
        length: usize,
    },
    /// A packet was altered, or sealed with another key.
    #[error("packet {sequence} fails its integrity check")]
    Integrity {
        /// Sequence number of the packet.
        sequence: u32,
    },
    /// So many packets were sealed or opened under one key that the sequence number would repeat.
    #[error("{limit} packets under one key without a new key exchange")]
    KeyExhausted {
        /// The limit in packets.
        limit: u64,
    },

    /// A message is not legal in the connection's current state.
    #[error("message {number} is not legal while {state}")]
    Unexpected {
        /// Message number.
        number: u8,
        /// What the connection was doing.
        state: &'static str,
    },
    /// Strict key exchange: something came before the peer's first `SSH_MSG_KEXINIT`.
    #[error("{packets} packets before the first key exchange message")]
    NotFirst {
        /// Packets before it.
        packets: u32,
    },
    /// Too many messages without meaning before authentication.
    #[error("more than {limit} ignorable messages before authentication")]
    TooManyIdle {
        /// The limit in messages.
        limit: usize,
    },
    /// Too many key exchanges before authentication.
    #[error("more than {limit} key exchanges before authentication")]
    TooManyExchanges {
        /// The limit in exchanges.
        limit: usize,
    },
    /// An extension message holds too many extensions.
    #[error("{count} extensions exceed the limit of {limit}")]
    TooManyExtensions {
        /// Declared number of extensions.
        count: u32,
        /// The limit.
        limit: usize,
    },

    /// The two sides have no algorithm in common.
    #[error("no common {what}: peer offers \"{offered}\"")]
    NoCommon {
        /// Kind of algorithm.
        what: &'static str,
        /// The peer's list.
        offered: String,
    },
    /// The peer's share has the wrong length, or is a degenerate value.
    #[error("invalid share of {bytes} bytes for key exchange {method}")]
    BadShare {
        /// Name of the key exchange method.
        method: &'static str,
        /// Length of the share in bytes.
        bytes: usize,
    },
    /// A server's group is too small or too large.
    #[error("diffie-hellman group of {bits} bits is outside {min}..={max}")]
    GroupSize {
        /// Bits of the modulus.
        bits: usize,
        /// The smallest that is allowed.
        min: usize,
        /// The largest that is allowed.
        max: usize,
    },
    /// A server's group cannot be one.
    #[error("diffie-hellman group of {bits} bits has an even modulus or a generator out of range")]
    GroupValues {
        /// Bits of the modulus.
        bits: usize,
    },
    /// A client takes none of our groups.
    #[error("no diffie-hellman group of {min} to {max} bits, {preferred} preferred")]
    NoGroup {
        /// The smallest it takes, in bits.
        min: u32,
        /// What it prefers.
        preferred: u32,
        /// The largest it takes.
        max: u32,
    },
    /// A server showed another host key in a later exchange than in the first.
    #[error("host key changed within the connection")]
    HostKeyChanged,

    /// A signature or key names an algorithm that is not known here.
    #[error("unknown or unsupported algorithm \"{name}\"")]
    UnknownAlgorithm {
        /// The name, escaped.
        name: String,
    },
    /// A key or a signature is of another algorithm than was agreed.
    #[error("{part} is of type \"{found}\" where {algorithm} was agreed")]
    WrongAlgorithm {
        /// Key or signature.
        part: &'static str,
        /// The type found, escaped.
        found: String,
        /// The algorithm agreed.
        algorithm: &'static str,
    },
    /// An RSA key is too short or too long.
    #[error("rsa key of {bits} bits is outside {min}..={max}")]
    RsaSize {
        /// Bits of the modulus.
        bits: usize,
        /// The smallest that is allowed.
        min: usize,
        /// The largest that is allowed.
        max: usize,
    },
    /// A signature does not verify.
    #[error("signature by {algorithm} does not verify")]
    BadSignature {
        /// The algorithm.
        algorithm: &'static str,
    },
    /// A server's certificate is none.
    #[error("host certificate refused")]
    Certificate(#[source] Box<CertificateError>),
    /// A stored private key cannot be read.
    #[error("private key refused")]
    PrivateKey(#[source] KeyRejected),

    /// Too much was sent during a key exchange that does not finish.
    #[error("more than {limit} bytes held back during a key exchange")]
    HoldFull {
        /// The limit in bytes.
        limit: usize,
    },
    /// A message to be sent is longer than a packet can be.
    #[error("message of {length} bytes exceeds the limit of {limit}")]
    MessageTooLong {
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A message to be sent is empty, or belongs to the transport layer.
    #[error("message {number:?} is not for the layers above to send")]
    NotSendable {
        /// Its number, if it is not empty.
        number: Option<u8>,
    },
    /// The connection has ended.
    #[error("connection has ended")]
    Ended,
    /// The crypto library failed.
    #[error("{operation} failed")]
    Crypto {
        /// What was being done.
        operation: &'static str,
        /// The library's error.
        #[source]
        source: Unspecified,
    },
}

impl Error {
    /// The reason code to disconnect with (RFC 4253 section 11.1).
    ///
    /// A bad length and a bad tag have one code: a peer must not learn which of the two it was.
    #[must_use]
    pub const fn reason(&self) -> u32 {
        let about_exchange = matches!(
            self,
            Self::NoCommon { .. }
                | Self::BadShare { .. }
                | Self::GroupSize { .. }
                | Self::GroupValues { .. }
                | Self::NoGroup { .. }
                | Self::Crypto { .. }
        );
        if about_exchange {
            return number::REASON_KEY_EXCHANGE_FAILED;
        }
        let about_host_key = matches!(
            self,
            Self::HostKeyChanged
                | Self::UnknownAlgorithm { .. }
                | Self::WrongAlgorithm { .. }
                | Self::RsaSize { .. }
                | Self::BadSignature { .. }
                | Self::Certificate(_)
        );
        if about_host_key {
            number::REASON_HOST_KEY_NOT_VERIFIABLE
        } else {
            number::REASON_PROTOCOL_ERROR
        }
    }
}

/// Text from a peer, made safe for a message: escaped, and cut after `limit` bytes.
pub(crate) fn printable(bytes: &[u8], limit: usize) -> String {
    bytes.get(..limit).unwrap_or(bytes).escape_ascii().to_string()
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
