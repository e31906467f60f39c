//! What a message that passes means, for whoever records it.

use super::{ChannelId, Side};
use crate::message::channel::Size;

/// One thing seen; nothing of it has been passed on yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen<'m> {
    /// Nothing that belongs in a record.
    Nothing,
    /// Data on a channel.
    Data {
        /// Where.
        channel: ChannelId,
        /// Of which stream.
        stream: Stream,
        /// The data.
        bytes: &'m [u8],
    },
    /// A terminal was asked for.
    Terminal {
        /// Where.
        channel: ChannelId,
        /// Its type, such as `xterm-256color`.
        kind: &'m [u8],
        /// Its size.
        size: Size,
    },
    /// The terminal's size changed.
    Resize {
        /// Where.
        channel: ChannelId,
        /// The new size.
        size: Size,
    },
    /// A variable of the program's environment.
    Variable {
        /// Where.
        channel: ChannelId,
        /// Its name.
        name: &'m [u8],
        /// Its value.
        value: &'m [u8],
    },
    /// A signal for the program.
    Signal {
        /// Where.
        channel: ChannelId,
        /// Its name without `SIG`; `BREAK` for a break (RFC 4335).
        name: &'m [u8],
    },
    /// The other peer confirmed or refused a channel.
    Opened {
        /// Which.
        channel: ChannelId,
        /// Whether it is open.
        open: bool,
    },
    /// A peer will send no more data.
    Eof {
        /// Where.
        channel: ChannelId,
        /// Who.
        from: Side,
    },
    /// A peer closed its side.
    Closed {
        /// Where.
        channel: ChannelId,
        /// Who.
        from: Side,
        /// Whether the other had closed its side before.
        last: bool,
    },
    /// The program ended by itself.
    ExitStatus {
        /// Where.
        channel: ChannelId,
        /// Its status.
        status: u32,
    },
    /// The program was ended by a signal.
    ExitSignal {
        /// Where.
        channel: ChannelId,
        /// The signal's name without `SIG`.
        name: &'m [u8],
    },
}

/// Which of a session's three streams data belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// From the client.
    Stdin,
    /// From the server.
    Stdout,
    /// From the server, extended data.
    Stderr,
}
