//! Why what passes cannot be followed as SFTP.

use super::limits::{
    HANDLE_BYTES_MAX, HANDLES_MAX, KEPT_BYTES_MAX, PACKET_BYTES_MAX, REQUESTS_MAX, VERSION,
};

/// Why a channel can no longer be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SftpError {
    /// A packet without a type, or longer than any that servers take.
    #[error("packet of {bytes} bytes is not in 1 to {PACKET_BYTES_MAX}")]
    PacketLength {
        /// Its length field.
        bytes: usize,
    },
    /// A field reaches beyond the end of its packet.
    #[error("field at byte {offset} reaches beyond the packet of {bytes} bytes")]
    Truncated {
        /// Where the field begins.
        offset: usize,
        /// Length of the packet with its length field.
        bytes: usize,
    },
    /// A request of a type that version 3 does not have.
    #[error("request has unknown type {0}")]
    UnknownRequest(u8),
    /// An answer of a type that version 3 does not have.
    #[error("answer has unknown type {0}")]
    UnknownAnswer(u8),
    /// The first packet is not what begins a channel, or a later one is.
    #[error("packet of type {0} comes at the wrong time")]
    OutOfTurn(u8),
    /// The peers agreed on a version that has other packets.
    #[error("server chose version {0}, which is not 1 to {VERSION}")]
    Version(u32),
    /// The client does not read its answers.
    #[error("more than {REQUESTS_MAX} requests wait for an answer")]
    TooManyRequests,
    /// A request has the number of one that waits for its answer.
    #[error("request {id} is there twice")]
    Repeated {
        /// The number.
        id: u32,
    },
    /// An answer to nothing.
    #[error("answer to request {id}, which was not made")]
    Unasked {
        /// The number.
        id: u32,
    },
    /// An answer that its request cannot have.
    #[error("answer of type {kind} does not fit request {id}")]
    Unfit {
        /// The answer's type.
        kind: u8,
        /// The number.
        id: u32,
    },
    /// The server did something else with a refused request than to refuse it too.
    #[error("server carried out request {id}, which was refused")]
    CarriedOut {
        /// The number.
        id: u32,
    },
    /// More files are open than can be told apart.
    #[error("more than {HANDLES_MAX} files are open")]
    TooManyHandles,
    /// Paths of requests without an answer, or of open files, are more than are kept.
    #[error("paths to be remembered exceed {KEPT_BYTES_MAX} bytes")]
    TooManyPaths,
    /// A handle that is longer than the protocol has them.
    #[error("handle of more than {HANDLE_BYTES_MAX} bytes")]
    HandleLength,
    /// The server gave a handle that it has given already.
    #[error("server gave a handle that is in use")]
    HandleInUse,
}
