//! The relay: each message of one peer becomes at most one message for the other.
//!
//! Window credit, requests, their replies, EOF and CLOSE pass end to end; the relay buffers
//! nothing. It decides nothing either: where a policy has to judge, it hands out a [`Case`].

mod case;
mod filter;
mod flow;
mod ledger;
mod listeners;
mod replies;
mod table;
pub mod tap;

use std::collections::VecDeque;

use thiserror::Error as ThisError;

use self::case::Place;
pub use self::case::{Address, Case, Docket, Endpoint, Program, Wish};
pub use self::filter::Rules;
use self::filter::{Listening, Opening};
use self::flow::Flow;
use self::ledger::Ledger;
use self::listeners::{Listener, Listeners};
use self::replies::{Replied, Replies};
use self::table::{Ended, Kind, PerSide, Table};
use self::tap::Seen;
use crate::error::DecodeError;
use crate::limits::EARLY_PACKET_BYTES_MAX;
use crate::message::channel::{self, Confirmation, Open, OpenFailure};
use crate::message::{global, number};

/// One of the two peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The one that logs in.
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
    /// The policy has to judge; the answer is [`Relay::allow`], after which the message goes on,
    /// [`Relay::refuse`], after which it does not, or [`Relay::wait`] where that takes time.
    Judge(Case<'m>),
    /// It comes after something that waits for its verdict, and is to be received again after it.
    Hold(Held),
    /// Refused without a question; the requester has its answer among [`Relay::answers`].
    Refused(Refused),
    /// It goes nowhere.
    Drop,
    /// Its number is not known here; the peer is told so by the transport.
    Unknown,
}

/// Behind what a message waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Held {
    /// Behind a request on this channel.
    Channel(ChannelId),
    /// Behind a request to listen.
    Global,
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
    /// The server refuses a channel that was confirmed to the client before the server was there.
    #[error("the server refused the session")]
    EarlyRefused,
    /// The server takes smaller packets on such a channel than the client was told.
    #[error("the server takes packets of {limit} bytes, fewer than {needed}")]
    SmallPackets {
        /// What it takes.
        limit: u32,
        /// What it has to take.
        needed: u32,
    },
    /// A message that is never legal from this peer once users are authenticated.
    #[error("message {number} is not legal here")]
    Illegal {
        /// The message's number.
        number: u8,
    },
}

/// What the answer to a global request means.
#[derive(Debug, Clone, PartialEq, Eq)]
enum GlobalAsked {
    /// Nothing here.
    Plain,
    /// The server listens.
    Listen(Listener),
    /// It listens no more.
    Cancel(Listener),
}

/// The state between two authenticated peers.
#[derive(Debug)]
pub struct Relay {
    rules: Rules,
    table: Table,
    globals: PerSide<Replies<GlobalAsked>>,
    listeners: Listeners,
    /// Whether a request to listen waits for its verdict.
    global_waits: bool,
    answers: PerSide<Vec<Vec<u8>>>,
    /// Channels whose refusal the client reads before it is told that it failed, oldest first.
    reading: VecDeque<ChannelId>,
}

impl Relay {
    /// A relay without channels.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self {
            rules,
            table: Table::default(),
            globals: PerSide::default(),
            listeners: Listeners::default(),
            global_waits: false,
            answers: PerSide::default(),
            reading: VecDeque::new(),
        }
    }

    /// The client's channel of this number, which is being opened at the server, was confirmed to
    /// the client by ourselves, with `alias` as the server's number, no credit, and packets of at
    /// most [`EARLY_PACKET_BYTES_MAX`].
    ///
    /// Nothing more of the client may be received before the server has confirmed it.
    pub fn adopt(&mut self, client: u32, alias: u32) -> Result<(), RelayError> {
        self.table.set_alias(client, alias)
    }

    /// Whether no channel is open or being opened.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.table.is_empty()
    }

    /// Takes one message of `from`; an error ends the connection.
    pub fn receive<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        match message.first().copied().unwrap_or_default() {
            number::GLOBAL_REQUEST => self.global_request(from, message),
            number::REQUEST_SUCCESS | number::REQUEST_FAILURE => self.global_reply(from, message),
            number::CHANNEL_OPEN => self.open(from, message),
            number::CHANNEL_OPEN_CONFIRMATION => self.confirmation(from, message),
            number::CHANNEL_OPEN_FAILURE => self.open_failure(from, message),
            number @ number::CHANNEL_WINDOW_ADJUST..=number::CHANNEL_FAILURE => {
                self.on_channel(from, number, message)
            }
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

    fn global_request<'m>(
        &mut self,
        from: Side,
        message: &'m [u8],
    ) -> Result<Step<'m>, RelayError> {
        let request = global::Request::parse(message)?;
        if from == Side::Client && self.global_waits {
            return Ok(Step::Hold(Held::Global));
        }
        match filter::listening(from, &request)? {
            Some(Listening::Start(at)) => return self.listen(at, request.want_reply),
            Some(Listening::End(at)) => return self.listen_no_more(&at, request.want_reply),
            None => {}
        }
        if filter::passes_global(from, request.kind) {
            if request.want_reply {
                self.globals.of(from).expect(GlobalAsked::Plain)?;
            }
            return Ok(Step::Forward(Seen::Nothing));
        }
        self.fail_global(from, request.want_reply)?;
        // A server tells every client its keys; ours are not its keys, so it is told to nobody.
        if from == Side::Server {
            return Ok(Step::Drop);
        }
        Ok(Step::Refused(Refused::Global(filter::name(request.kind))))
    }

    /// The client wants the server to listen.
    fn listen<'m>(&mut self, at: Endpoint<'m>, want_reply: bool) -> Result<Step<'m>, RelayError> {
        if self.listeners.is_full() {
            self.fail_global(Side::Client, want_reply)?;
            return Ok(Step::Refused(Refused::Global("too many listeners".to_owned())));
        }
        let docket = Docket { place: Place::Listen(Listener::of(&at)), want_reply };
        Ok(Step::Judge(Case { channel: None, wish: Wish::Listen { at }, docket }))
    }

    /// The client wants the server to listen there no more.
    fn listen_no_more<'m>(
        &mut self,
        at: &Endpoint<'_>,
        want_reply: bool,
    ) -> Result<Step<'m>, RelayError> {
        let listener = Listener::of(at);
        if !self.listeners.has(&listener) {
            self.fail_global(Side::Client, want_reply)?;
            return Ok(Step::Refused(Refused::Global("end of listening".to_owned())));
        }
        if want_reply {
            self.globals.client.expect(GlobalAsked::Cancel(listener))?;
        } else {
            self.listeners.remove(&listener);
        }
        Ok(Step::Forward(Seen::Nothing))
    }

    fn fail_global(&mut self, from: Side, want_reply: bool) -> Result<(), RelayError> {
        if want_reply {
            let due = self.globals.of(from).answer(global::failure())?;
            self.answers.of(from).extend(due);
        }
        Ok(())
    }

    fn global_reply<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let to = from.other();
        let (replied, due) = self.globals.of(to).replied(message)?;
        self.answers.of(to).extend(due);
        let (asked, step) = match replied {
            Replied::Passes(asked) => (asked, Step::Forward(Seen::Nothing)),
            Replied::Waits(asked) => (asked, Step::Drop),
            Replied::ForUs => {
                self.refusal_read();
                return Ok(Step::Drop);
            }
        };
        let succeeded = message.first() == Some(&number::REQUEST_SUCCESS);
        match asked {
            GlobalAsked::Listen(listener) if succeeded => {
                self.listeners.add(filter::chosen(listener, message)?);
            }
            GlobalAsked::Cancel(listener) if succeeded => self.listeners.remove(&listener),
            GlobalAsked::Plain | GlobalAsked::Listen(_) | GlobalAsked::Cancel(_) => {}
        }
        Ok(step)
    }

    fn open<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let open = Open::parse(message)?;
        let opening = if self.table.is_full() {
            Opening::Refused(OpenFailure::Shortage, "too many channels are open")
        } else {
            self.opening(from, &open)?
        };
        let (kind, wish) = match opening {
            Opening::Session => (Kind::Session, None),
            Opening::Forward(wish) => (Kind::Forward, Some(wish)),
            Opening::Refused(reason, text) => {
                self.answers.of(from).push(channel::open_failure(open.sender, reason, text));
                return Ok(Step::Refused(Refused::Channel(filter::name(open.kind))));
            }
        };
        let credit = match kind {
            Kind::Session => Ledger::with_reserve(open.window_bytes, open.packet_bytes_max)?,
            Kind::Forward => Ledger::open(open.window_bytes, open.packet_bytes_max)?,
        };
        let id = self.table.open(from, open.sender, kind, credit)?;
        if let Some(wish) = wish {
            let docket = Docket { place: Place::Open(id), want_reply: true };
            return Ok(Step::Judge(Case { channel: Some(id), wish, docket }));
        }
        let announced = Open {
            window_bytes: credit.window_bytes(),
            packet_bytes_max: credit.packet_bytes_max(),
            ..open
        };
        if announced == open {
            return Ok(Step::Forward(Seen::Nothing));
        }
        Ok(Step::Replace(announced.encode(), Seen::Nothing))
    }

    /// What an opening is, by its type and by what the client was granted before.
    fn opening<'m>(&mut self, from: Side, open: &Open<'m>) -> Result<Opening<'m>, RelayError> {
        let opening = filter::opening(from, open)?;
        let granted = match &opening {
            Opening::Forward(Wish::Accepted { at, .. }) => self.listeners.allows(at),
            Opening::Forward(Wish::AgentUse) => self.table.has_agent(),
            Opening::Forward(Wish::X11Use { .. }) => self.table.take_display(),
            Opening::Session | Opening::Forward(_) | Opening::Refused(..) => true,
        };
        Ok(if granted { opening } else { filter::PROHIBITED })
    }

    fn confirmation<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let confirmation = Confirmation::parse(message)?;
        let credit = Ledger::open(confirmation.window_bytes, confirmation.packet_bytes_max)?;
        let Confirmation { recipient, sender, .. } = confirmation;
        let channel = self.table.confirm(from, recipient, sender, credit)?;
        let seen = Seen::Opened { channel: channel.id, open: true };
        if channel.alias.is_some() {
            // The client has had a confirmation; what it lacks is the credit.
            let (limit, needed) = (credit.packet_bytes_max(), EARLY_PACKET_BYTES_MAX);
            if limit < needed {
                return Err(RelayError::SmallPackets { limit, needed });
            }
            return Ok(Step::Replace(channel::adjust(recipient, confirmation.window_bytes), seen));
        }
        let packet_bytes_max = credit.packet_bytes_max();
        if packet_bytes_max == confirmation.packet_bytes_max {
            return Ok(Step::Forward(seen));
        }
        Ok(Step::Replace(Confirmation { packet_bytes_max, ..confirmation }.encode(), seen))
    }

    fn open_failure<'m>(&mut self, from: Side, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let channel = self.table.refused(from, channel::recipient(message)?)?;
        if channel.alias.is_some() {
            return Err(RelayError::EarlyRefused);
        }
        Ok(Step::Forward(Seen::Opened { channel: channel.id, open: false }))
    }

    /// A message that names a channel.
    fn on_channel<'m>(
        &mut self,
        from: Side,
        number: u8,
        message: &'m [u8],
    ) -> Result<Step<'m>, RelayError> {
        let channel = self.table.named(from, channel::recipient(message)?)?;
        let id = channel.id;
        if *channel.ended.of(from) == Ended::Everything {
            return Err(RelayError::AfterEnd { number });
        }
        // Credit and answers to the server overtake nothing.
        let overtakes = !matches!(
            number,
            number::CHANNEL_WINDOW_ADJUST | number::CHANNEL_SUCCESS | number::CHANNEL_FAILURE
        );
        if from == Side::Client && channel.waits && overtakes {
            return Ok(Step::Hold(Held::Channel(id)));
        }
        let real = channel.alias.filter(|_alias| from == Side::Client);
        let real = real.map(|_alias| channel.numbers.server);
        let mut flow = Flow { from, channel, answers: &mut self.answers };
        let step = match number {
            number::CHANNEL_WINDOW_ADJUST => flow.adjust(message),
            number::CHANNEL_DATA | number::CHANNEL_EXTENDED_DATA => flow.data(message),
            number::CHANNEL_EOF => flow.eof(),
            number::CHANNEL_REQUEST => flow.request(&self.rules, message),
            number::CHANNEL_CLOSE => {
                let step = flow.close();
                if flow.channel.ended.of(from.other()) == &Ended::Everything {
                    self.table.remove(id);
                }
                Ok(step)
            }
            _ => flow.reply(message),
        }?;
        Ok(match (step, real) {
            (Step::Forward(seen), Some(real)) => Step::Replace(to_channel(message, real), seen),
            (Step::Replace(message, seen), Some(real)) => {
                Step::Replace(to_channel(&message, real), seen)
            }
            (step, _) => step,
        })
    }
}

/// A channel message with another number of its channel.
fn to_channel(message: &[u8], number: u32) -> Vec<u8> {
    let mut renumbered = message.to_vec();
    if let Some(field) = renumbered.get_mut(RECIPIENT) {
        field.copy_from_slice(&number.to_be_bytes());
    }
    renumbered
}

/// Where a channel message names its channel (RFC 4254 section 5).
const RECIPIENT: std::ops::Range<usize> = 1..5;

#[cfg(test)]
mod tests;
