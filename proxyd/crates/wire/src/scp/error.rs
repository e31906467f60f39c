//! Why what passes cannot be followed as a copy by `scp`, or its command cannot be understood.

use super::limits::{ENTERED_BYTES_MAX, LINE_BYTES_MAX, STEPS_MAX};

/// Why a channel can no longer be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScpError {
    /// A line without an end.
    #[error("line of more than {LINE_BYTES_MAX} bytes")]
    LineLength,
    /// A line that is none of the protocol.
    #[error("line that begins with byte {0:#04x} is not understood")]
    Line(u8),
    /// An answer that is none of the protocol.
    #[error("answer {0:#04x} is not understood")]
    Answer(u8),
    /// The sender goes on without an answer, so that nobody can tell content from lines.
    #[error("sender does not wait for an answer")]
    DidNotWait,
    /// An answer while no step waits for one, under a policy.
    #[error("answer comes before there is anything to answer")]
    Unasked,
    /// More is without an answer, or has one early, than any program leaves.
    #[error("more than {STEPS_MAX} steps wait for an answer, or have one early")]
    TooManySteps,
    /// A directory is left that was not entered.
    #[error("a directory is left that was not entered")]
    NotEntered,
    /// Directories in each other without end.
    #[error("directories in each other have names of more than {ENTERED_BYTES_MAX} bytes")]
    TooDeep,
    /// The sender goes on after it was refused.
    #[error("sender goes on after it was refused")]
    AfterRefusal,
}

/// Why it is not certain what a command does.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Another program, or one of this name in another place.
    #[error("program is not scp")]
    Program,
    /// An option that the far end of a copy does not have.
    #[error("option {:?} is not one of the far end of a copy", char::from(*.0))]
    Option(u8),
    /// Neither to receive nor to send, or both.
    #[error("neither -t nor -f, or both")]
    Direction,
    /// No path, several to receive at, or more than are followed.
    #[error("{0} paths")]
    Paths(usize),
    /// The shell gives a character a meaning that is not known here.
    #[error("the shell takes {:?} in a way that is not followed", char::from(*.0))]
    Shell(u8),
    /// A quotation without an end.
    #[error("quotation does not end")]
    Quotation,
}
