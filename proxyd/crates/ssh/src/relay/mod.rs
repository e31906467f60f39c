//! The relay: each message of one peer becomes at most one message for the other.
//!
//! Window credit, requests, their replies, EOF and CLOSE pass end to end; the relay buffers
//! nothing. It decides nothing either: where a policy has to judge, it hands out a [`Start`].

mod filter;
mod ledger;
mod replies;
mod table;
pub mod tap;

use std::collections::VecDeque;

use thiserror::Error as ThisError;

pub use self::filter::Rules;
use self::ledger::Ledger;
use self::replies::{Replied, Replies};
use self::table::{Channel, Ended, PerSide, Stage, Table};
use self::tap::{Seen, Stream};
use crate::error::DecodeError;
use crate::message::channel::{self, Confirmation, Open, OpenFailure, Request};
use crate::message::{global, number};

/// One of the two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that opens channels.
    Client,
    /// The one that runs programs.
    Server,
}

impl Side {
    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Client => Self::Server,
            Self::Server => Self::Client,
        }
    }
}

/// A channel's number in the record, counted from 0 in the order of opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub u32);

/// What becomes of a message.
#[derive(Debug)]
pub enum Step<'m> {
    /// It goes to the other peer as it is.
    Forward(Seen<'m>),
    /// This goes to the other peer in its place.
    Replace(Vec<u8>, Seen<'m>),
    /// The channel policy has to judge; the answer is [`Relay::allow`], after which the message
    /// goes on, or [`Relay::refuse`], after which it does not.
    Judge(Start<'m>),
    /// Refused without a question; the requester has its answer among [`Relay::answers`].
    Refused(Refused),
    /// It goes nowhere.
    Drop,
    /// Its number is not known here; the peer is told so by the transport.
    Unknown,
}

/// A client's wish to start a program on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start<'m> {
    /// Where.
    pub channel: ChannelId,
    /// What.
    pub program: Program<'m>,
    client: u32,
    want_reply: bool,
}

/// What a session channel may run (RFC 4254 section 6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program<'m> {
    /// The user's shell.
    Shell,
    /// A command.
    Exec(&'m [u8]),
    /// A subsystem, by name.
    Subsystem(&'m [u8]),
}

/// What was refused because this relay never passes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A channel of this type.
    Channel(String),
    /// A request of this type on a channel.
    Request(String),
    /// A global request of this type.
    Global(String),
}

/// Why a connection cannot be relayed any further: a peer broke the protocol.
#[derive(Debug, ThisError)]
pub enum RelayError {
    /// A message does not have the form its specification gives.
    #[error("malformed connection message")]
    Decode(#[from] DecodeError),
    /// A message names a channel that is not open.
    #[error("channel {number} is not open")]
    UnknownChannel {
        /// The number it gives.
        number: u32,
    },
    /// A peer gives a channel the number of another.
    #[error("channel number {number} is in use")]
    NumberInUse {
        /// The number.
        number: u32,
    },
    /// A peer announces that it takes no data packet of any size.
    #[error("maximum packet size is 0")]
    NoPackets,
    /// A window grew beyond what RFC 4254 section 5.2 allows.
    #[error("window exceeds 2^32-1 bytes")]
    WindowOverflow,
    /// More data than was granted.
    #[error("{bytes} bytes of data exceed the window of {window_bytes} bytes")]
    Overrun {
        /// Bytes sent.
        bytes: usize,
        /// Bytes that were allowed.
        window_bytes: u32,
    },
    /// A data packet larger than its receiver takes.
    #[error("data packet of {bytes} bytes exceeds {limit} bytes")]
    PacketTooLarge {
        /// Bytes sent.
        bytes: u32,
        /// The receiver's limit.
        limit: u32,
    },
    /// A message after EOF or CLOSE that may not follow it.
    #[error("message {number} after the end of channel data")]
    AfterEnd {
        /// The message's number.
        number: u8,
    },
    /// The server sends data on a channel on which nothing was started.
    #[error("data on a channel without a program")]
    NotStarted,
    /// A reply to no request.
    #[error("reply without a request")]
    UnsolicitedReply,
    /// More requests wait for their reply than are allowed.
    #[error("more than {limit} requests without a reply")]
    TooManyRequests {
        /// The limit.
        limit: usize,
    },
    /// A message that is never legal from this peer once users are authenticated.
    #[error("message {number} is not legal here")]
    Illegal {
        /// The message's number.
        number: u8,
    },
}

/// The state between two authenticated peers.
#[derive(Debug)]
pub struct Relay {
    rules: Rules,
    table: Table,
    globals: PerSide<Replies>,
    answers: PerSide<Vec<Vec<u8>>>,
    /// Channels whose refusal the client reads before it is told that it failed, oldest first.
    reading: VecDeque<u32>,
}

impl Relay {
    /// A relay without channels.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            table: Table::default(),
            globals: PerSide::default(),
            answers: PerSide::default(),
            reading: VecDeque::new(),
        }
    }

    /// Takes one message of `from`; an error ends the connection.
    pub fn receive<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        match message.first().copied().unwrap_or_default() {
            number::GLOBAL_REQUEST => self.global_request(from, message),
            number::REQUEST_SUCCESS | number::REQUEST_FAILURE => self.global_reply(from, message),
            number::CHANNEL_OPEN => self.open(from, message),
            number::CHANNEL_OPEN_CONFIRMATION => self.confirmation(from, message),
            number::CHANNEL_OPEN_FAILURE => self.open_failure(from, message),
            number::CHANNEL_WINDOW_ADJUST => self.adjust(from, message),
            number::CHANNEL_DATA | number::CHANNEL_EXTENDED_DATA => self.data(from, message),
            number::CHANNEL_EOF => self.eof(from, message),
            number::CHANNEL_CLOSE => self.close(from, message),
            number::CHANNEL_REQUEST => self.request(from, message),
            number::CHANNEL_SUCCESS | number::CHANNEL_FAILURE => self.reply(from, message),
            // RFC 4252 section 5.1: attempts after the success are ignored in silence; a banner
            // that crossed the success comes too late to be shown.
            number::USERAUTH_REQUEST if from == Side::Client => Ok(Step::Drop),
            number::USERAUTH_BANNER if from == Side::Server => Ok(Step::Drop),
            number @ number::SERVICE_REQUEST..=number::USERAUTH_LAST => {
                Err(RelayError::Illegal { number })
            }
            _ => Ok(Step::Unknown),
        }
    }

    /// Messages of our own for `to`, in order; to be sent right after the step's own message.
    pub fn answers(&mut self, to: Side) -> Vec<Vec<u8>> {
        std::mem::take(self.answers.of(to))
    }

    /// The policy lets the program start: the message goes on.
    pub fn allow(&mut self, start: &Start<'_>) -> Result<(), RelayError> {
        let channel = self.table.of_client(start.client)?;
        channel.stage = Stage::Started;
        if start.want_reply { channel.replies.client.expect_start() } else { Ok(()) }
    }

    /// The policy does not let the program start; `text` tells the user on standard error.
    ///
    /// A client that reads a failure may leave before it has shown what came with it. So it gets
    /// the text and a keepalive request, and the failure only once it has answered that.
    pub fn refuse(&mut self, start: &Start<'_>, text: &str) -> Result<(), RelayError> {
        let channel = self.table.of_client(start.client)?;
        if channel.towards.client.inject(text.len()) {
            self.answers.client.push(channel::stderr(start.client, text.as_bytes()));
        }
        if start.want_reply {
            channel.replies.client.hold()?;
            self.globals.server.expect_for_us()?;
            self.answers.client.push(global::keepalive());
            self.reading.push_back(start.client);
        }
        Ok(())
    }

    /// The client has read the text of its oldest refusal: now it may know that it failed.
    fn refusal_read(&mut self) {
        let Some(client) = self.reading.pop_front() else { return };
        // A channel that was closed in the meantime needs no reply any more.
        if let Ok(channel) = self.table.of_client(client) {
            let due = channel.replies.client.release(channel::reply(client, false));
            self.answers.client.extend(due);
        }
    }

    fn global_request<'m>(
        &mut self,
        from: Side,
        message: &'m [u8],
    ) -> Result<Step<'m>, RelayError> {
        let request = global::Request::parse(message)?;
        if filter::passes_global(from, request.kind) {
            if request.want_reply {
                self.globals.of(from).expect()?;
            }
            return Ok(Step::Forward(Seen::Nothing));
        }
        if request.want_reply {
            let due = self.globals.of(from).answer(global::failure())?;
            self.answers.of(from).extend(due);
        }
        // A server tells every client its keys; ours are not its keys, so it is told to nobody.
        if from == Side::Server {
            return Ok(Step::Drop);
        }
        Ok(Step::Refused(Refused::Global(filter::name(request.kind))))
    }

    fn global_reply<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let to = from.other();
        let (replied, due) = self.globals.of(to).replied(message)?;
        self.answers.of(to).extend(due);
        match replied {
            Replied::Passes => Ok(Step::Forward(Seen::Nothing)),
            Replied::Waits => Ok(Step::Drop),
            Replied::ForUs => {
                self.refusal_read();
                Ok(Step::Drop)
            }
        }
    }

    fn open<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let open = Open::parse(message)?;
        let refusal = match (from, open.kind) {
            (Side::Client, b"session") if self.table.is_full() => {
                Some((OpenFailure::Shortage, "too many channels are open"))
            }
            (Side::Client, b"session") => None,
            (_, kind) if filter::is_known_channel(kind) => {
                Some((OpenFailure::Prohibited, "not permitted by the gateway's channel policy"))
            }
            _ => Some((OpenFailure::UnknownKind, "unknown channel type")),
        };
        if let Some((reason, text)) = refusal {
            self.answers.of(from).push(channel::open_failure(open.sender, reason, text));
            return Ok(Step::Refused(Refused::Channel(filter::name(open.kind))));
        }
        let credit = Ledger::open(open.window_bytes, open.packet_bytes_max)?;
        self.table.open(open.sender, credit)?;
        let packet_bytes_max = credit.packet_bytes_max();
        if packet_bytes_max == open.packet_bytes_max {
            return Ok(Step::Forward(Seen::Nothing));
        }
        Ok(Step::Replace(Open { packet_bytes_max, ..open }.encode(), Seen::Nothing))
    }

    fn confirmation<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        only_server(from, number::CHANNEL_OPEN_CONFIRMATION)?;
        let confirmation = Confirmation::parse(message)?;
        let credit = Ledger::open(confirmation.window_bytes, confirmation.packet_bytes_max)?;
        let channel = self.table.confirm(confirmation.recipient, confirmation.sender, credit)?;
        let seen = Seen::Opened { channel, open: true };
        let packet_bytes_max = credit.packet_bytes_max();
        if packet_bytes_max == confirmation.packet_bytes_max {
            return Ok(Step::Forward(seen));
        }
        Ok(Step::Replace(Confirmation { packet_bytes_max, ..confirmation }.encode(), seen))
    }

    fn open_failure<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        only_server(from, number::CHANNEL_OPEN_FAILURE)?;
        let channel = self.table.refused(channel::recipient(message)?)?;
        Ok(Step::Forward(Seen::Opened { channel, open: false }))
    }

    fn adjust<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let recipient = channel::recipient(message)?;
        let bytes = channel::parse_adjust(message)?;
        let channel = self.table.named(from, recipient)?;
        not_closed(channel, from, number::CHANNEL_WINDOW_ADJUST)?;
        match channel.towards.of(from).grant(bytes)? {
            passed if passed == bytes => Ok(Step::Forward(Seen::Nothing)),
            0 => Ok(Step::Drop),
            passed => Ok(Step::Replace(channel::adjust(recipient, passed), Seen::Nothing)),
        }
    }

    fn data<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let recipient = channel::recipient(message)?;
        let (extended, bytes) = channel::parse_data(message)?;
        let channel = self.table.named(from, recipient)?;
        if *channel.ended.of(from) != Ended::Nothing {
            return Err(RelayError::AfterEnd { number: number::CHANNEL_DATA });
        }
        channel.towards.of(from.other()).spend(bytes.len())?;
        if has_closed(channel, from.other()) {
            return Ok(Step::Drop);
        }
        if channel.stage != Stage::Started {
            return self.unstarted(from, recipient, bytes.len());
        }
        let stream = match (from, extended) {
            (Side::Client, _) => Stream::Stdin,
            (Side::Server, None) => Stream::Stdout,
            (Side::Server, Some(_)) => Stream::Stderr,
        };
        Ok(Step::Forward(Seen::Data { channel: channel.id, stream, bytes }))
    }

    /// Data on a channel whose program was refused, or not yet asked for: a client that did not
    /// wait for the reply loses it and has its credit back; a server has nothing to say there.
    fn unstarted<'m>(
        &mut self,
        from: Side,
        recipient: u32,
        bytes: usize,
    ) -> Result<Step<'m>, RelayError> {
        let channel = self.table.named(from, recipient)?;
        if from == Side::Server {
            return Err(RelayError::NotStarted);
        }
        let credit = u32::try_from(bytes).unwrap_or(u32::MAX);
        channel.towards.server.grant(credit)?;
        self.answers.client.push(channel::adjust(channel.client, credit));
        Ok(Step::Drop)
    }

    fn eof<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let channel = self.table.named(from, channel::recipient(message)?)?;
        let ended = channel.ended.of(from);
        if *ended != Ended::Nothing {
            return Err(RelayError::AfterEnd { number: number::CHANNEL_EOF });
        }
        *ended = Ended::Data;
        Ok(Step::Forward(Seen::Eof { channel: channel.id, from }))
    }

    fn close<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let channel = self.table.named(from, channel::recipient(message)?)?;
        not_closed(channel, from, number::CHANNEL_CLOSE)?;
        *channel.ended.of(from) = Ended::Everything;
        let seen = Seen::Closed { channel: channel.id, from };
        if *channel.ended.of(from.other()) == Ended::Everything {
            let client = channel.client;
            self.table.remove(client);
        }
        Ok(Step::Forward(seen))
    }

    fn request<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let request = Request::parse(message)?;
        let channel = self.table.named(from, request.recipient)?;
        not_closed(channel, from, number::CHANNEL_REQUEST)?;
        if has_closed(channel, from.other()) {
            return Ok(Step::Drop);
        }
        if from == Side::Client
            && channel.stage != Stage::Started
            && let Some(program) = filter::program(&request)?
        {
            let (client, want_reply) = (channel.client, request.want_reply);
            return Ok(Step::Judge(Start { channel: channel.id, program, client, want_reply }));
        }
        if let Some(seen) = self.rules.passes_request(from, channel.id, &request)? {
            if request.want_reply {
                channel.replies.of(from).expect()?;
            }
            return Ok(Step::Forward(seen));
        }
        if request.want_reply {
            let failure = channel::reply(channel.number(from), false);
            let due = channel.replies.of(from).answer(failure)?;
            self.answers.of(from).extend(due);
        }
        Ok(Step::Refused(Refused::Request(filter::name(request.kind))))
    }

    fn reply<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let channel = self.table.named(from, channel::recipient(message)?)?;
        let to = from.other();
        let failed = message.first() == Some(&number::CHANNEL_FAILURE);
        if failed && channel.replies.of(to).next_is_start() {
            // The server did not start it; the client may ask for another, to be judged again.
            channel.stage = Stage::Idle;
        }
        let (replied, due) = channel.replies.of(to).replied(message)?;
        self.answers.of(to).extend(due);
        match replied {
            Replied::Passes => Ok(Step::Forward(Seen::Nothing)),
            Replied::Waits => Ok(Step::Drop),
            // No request of ours goes out on a channel.
            Replied::ForUs => Err(RelayError::UnsolicitedReply),
        }
    }
}

/// Channels are opened by clients alone, so only servers confirm or refuse them.
const fn only_server(from: Side, number: u8) -> Result<(), RelayError> {
    match from {
        Side::Server => Ok(()),
        Side::Client => Err(RelayError::Illegal { number }),
    }
}

/// Whether a peer will not take anything more on a channel but the other's CLOSE.
fn has_closed(channel: &mut Channel, side: Side) -> bool {
    *channel.ended.of(side) == Ended::Everything
}

fn not_closed(channel: &mut Channel, from: Side, number: u8) -> Result<(), RelayError> {
    match channel.ended.of(from) {
        Ended::Nothing | Ended::Data => Ok(()),
        Ended::Everything => Err(RelayError::AfterEnd { number }),
    }
}

#[cfg(test)]
mod tests;
