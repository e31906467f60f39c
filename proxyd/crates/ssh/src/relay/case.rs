//! What a policy has to judge, and what becomes of it afterwards.

use std::borrow::Cow;

use super::ledger::Ledger;
use super::listeners::Listener;
use super::table::{Asked, Display, Stage};
use super::{ChannelId, GlobalAsked, Held, Relay, RelayError, Side, to_channel};
use crate::message::channel::{self, Open, OpenFailure};
use crate::message::global;

/// Something that a peer wants and the policy has to judge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case<'m> {
    /// The channel that it is about; none where the server shall listen.
    pub channel: Option<ChannelId>,
    /// What.
    pub wish: Wish<'m>,
    /// What the verdict is given with.
    pub docket: Docket,
}

/// What a peer wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish<'m> {
    /// The client starts a program.
    Program(Program<'m>),
    /// The client lets the server use its agent (OpenSSH's PROTOCOL.agent).
    Agent,
    /// The client lets the server use its display (RFC 4254 section 6.3.1).
    X11,
    /// The client connects through the server (RFC 4254 section 7.2).
    Connect {
        /// To where.
        to: Endpoint<'m>,
        /// From where, as the client says; none for sockets.
        originator: Option<Address<'m>>,
    },
    /// The client asks the server to listen (RFC 4254 section 7.1).
    Listen {
        /// Where.
        at: Endpoint<'m>,
    },
    /// The server passes on a connection that it has taken where it was asked to listen.
    Accepted {
        /// Where.
        at: Endpoint<'m>,
        /// From where, as the server says; none for sockets.
        originator: Option<Address<'m>>,
    },
    /// The server uses the client's agent.
    AgentUse,
    /// The server uses the client's display.
    X11Use {
        /// From where, as the server says.
        originator: Address<'m>,
    },
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

/// One end of a connection, as a peer writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Endpoint<'m> {
    /// Of TCP.
    Tcp(Address<'m>),
    /// A Unix socket, by its path.
    Socket(&'m [u8]),
}

/// An address or a name, and a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address<'m> {
    /// The address or name; empty for all of them.
    pub host: &'m [u8],
    /// The port; 0 where the server shall choose one.
    pub port: u32,
}

/// Where the verdict about a case takes effect; good for one verdict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Docket {
    pub(super) place: Place,
    pub(super) want_reply: bool,
}

/// Where a verdict takes effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// At a request on a channel.
    Request(ChannelId, Asked),
    /// At a request for the client's display, for one channel or for any number.
    Display(ChannelId, Display),
    /// At the opening of a channel.
    Open(ChannelId),
    /// At a request to listen.
    Listen(Listener),
}

impl Relay {
    /// The policy allows it: gives the message that goes to the other peer now.
    pub fn allow<'m>(
        &mut self,
        docket: &Docket,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, RelayError> {
        match &docket.place {
            Place::Request(id, asked) => {
                return self.request_goes_on(*id, *asked, docket.want_reply, message);
            }
            Place::Display(id, display) => {
                if let Some(channel) = self.table.get(*id) {
                    channel.display = *display;
                }
                return self.request_goes_on(*id, Asked::X11, docket.want_reply, message);
            }
            Place::Open(_id) => {
                let open = Open::parse(message)?;
                let packet_bytes_max =
                    Ledger::open(open.window_bytes, open.packet_bytes_max)?.packet_bytes_max();
                if packet_bytes_max != open.packet_bytes_max {
                    return Ok(Cow::Owned(Open { packet_bytes_max, ..open }.encode()));
                }
            }
            Place::Listen(listener) => {
                if docket.want_reply {
                    self.globals.client.expect(GlobalAsked::Listen(listener.clone()))?;
                } else {
                    self.listeners.add(listener.clone());
                }
            }
        }
        Ok(Cow::Borrowed(message))
    }

    /// The policy does not allow it; `text` tells the user why, where the protocol has a place for
    /// it.
    ///
    /// A client that reads a failure may leave before it has shown what came with it. So for a
    /// program it gets the text on standard error and a keepalive request, and the failure only
    /// once it has answered that.
    pub fn refuse(&mut self, docket: &Docket, text: &str) -> Result<(), RelayError> {
        match &docket.place {
            Place::Request(id, Asked::Start) => self.refuse_program(*id, docket.want_reply, text),
            Place::Request(id, _) | Place::Display(id, _) => {
                let Some(channel) = self.table.get(*id) else { return Ok(()) };
                if docket.want_reply {
                    let failure = channel::reply(channel.numbers.client, false);
                    let due = channel.replies.client.answer(failure)?;
                    self.answers.client.extend(due);
                }
                Ok(())
            }
            Place::Open(id) => {
                if let Some(channel) = self.table.remove(*id) {
                    let number = channel.number(channel.opener);
                    let text = text.trim_end();
                    let refusal = channel::open_failure(number, OpenFailure::Prohibited, text);
                    self.answers.of(channel.opener).push(refusal);
                }
                Ok(())
            }
            Place::Listen(_) => {
                if docket.want_reply {
                    let due = self.globals.client.answer(global::failure())?;
                    self.answers.client.extend(due);
                }
                Ok(())
            }
        }
    }

    /// The verdict takes time: the message is to be received again after [`Self::resume`], and so
    /// is, after it, everything that is held from now on because it must not overtake it.
    pub fn wait(&mut self, docket: &Docket) -> Option<Held> {
        self.set_waiting(docket, true)
    }

    /// What waited can be received again.
    pub fn resume(&mut self, docket: &Docket) {
        self.set_waiting(docket, false);
    }

    /// Shows `text` on a channel's standard error, if there is credit for it.
    pub fn tell(&mut self, id: ChannelId, text: &str) {
        let Some(channel) = self.table.get(id) else { return };
        if channel.towards.client.inject(text.len()) {
            let number = channel.numbers.client;
            self.answers.client.push(channel::stderr(number, text.as_bytes()));
        }
    }

    fn set_waiting(&mut self, docket: &Docket, waits: bool) -> Option<Held> {
        match &docket.place {
            Place::Request(id, _) | Place::Display(id, _) => {
                self.table.get(*id)?.waits = waits;
                Some(Held::Channel(*id))
            }
            // Nobody else has heard of the channel; it is opened again when it is received again.
            Place::Open(id) => {
                self.table.remove(*id);
                None
            }
            Place::Listen(_) => {
                self.global_waits = waits;
                Some(Held::Global)
            }
        }
    }

    fn request_goes_on<'m>(
        &mut self,
        id: ChannelId,
        asked: Asked,
        want_reply: bool,
        message: &'m [u8],
    ) -> Result<Cow<'m, [u8]>, RelayError> {
        let Some(channel) = self.table.get(id) else { return Ok(Cow::Borrowed(message)) };
        match asked {
            Asked::Start => channel.stage = Stage::Started,
            Asked::Agent => channel.agent = true,
            Asked::Plain | Asked::X11 => {}
        }
        if want_reply {
            channel.replies.client.expect(asked)?;
        }
        Ok(match channel.alias {
            Some(_alias) => Cow::Owned(to_channel(message, channel.numbers.server)),
            None => Cow::Borrowed(message),
        })
    }

    fn refuse_program(
        &mut self,
        id: ChannelId,
        want_reply: bool,
        text: &str,
    ) -> Result<(), RelayError> {
        self.tell(id, text);
        let Some(channel) = self.table.get(id) else { return Ok(()) };
        if want_reply {
            channel.replies.client.hold()?;
            self.globals.server.expect_for_us()?;
            self.answers.client.push(global::keepalive());
            self.reading.push_back(id);
        }
        Ok(())
    }

    /// The client has read the text of its oldest refusal: now it may know that it failed.
    pub(super) fn refusal_read(&mut self) {
        let Some(id) = self.reading.pop_front() else { return };
        // A channel that was closed in the meantime needs no reply any more.
        if let Some(channel) = self.table.get(id) {
            let failure = channel::reply(channel.numbers.client, false);
            let due = channel.replies.client.release(failure);
            self.answers.of(Side::Client).extend(due);
        }
    }
}
