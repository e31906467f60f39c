//! The channels of a connection, found by the number of either peer.

use std::collections::HashMap;

use super::ledger::Ledger;
use super::replies::Replies;
use super::{ChannelId, RelayError, Side};
use crate::limits::CHANNELS_MAX;

/// How far a channel has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nobody has confirmed it.
    Opening,
    /// A session is open; no program was started on it, so no data may pass.
    Idle,
    /// Data may pass: a program was started, or the channel is no session.
    Started,
}

/// What a channel is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Programs (RFC 4254 section 6).
    Session,
    /// A forwarded connection, to an agent or a display too.
    Forward,
}

/// What an answer to a request on a channel means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// Nothing here.
    Plain,
    /// A program runs.
    Start,
    /// The server may open channels to the client's agent.
    Agent,
    /// The server may open channels to the client's display.
    X11,
}

/// Channels to the client's display that the server may open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Display {
    /// None.
    Closed,
    /// One.
    Once,
    /// Any number.
    Open,
}

/// One channel.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its number in the record; never used twice on a connection.
    pub id: ChannelId,
    /// Who opened it.
    pub opener: Side,
    /// What it is for.
    pub kind: Kind,
    /// How far it has come.
    pub stage: Stage,
    /// The number that each peer gave it; that of the confirming peer counts from then on.
    pub numbers: PerSide<u32>,
    /// The number by which the client knows the server's end, where that is one of ours.
    pub alias: Option<u32>,
    /// Credit towards each peer.
    pub towards: PerSide<Ledger>,
    /// Requests of each peer that have no reply yet.
    pub replies: PerSide<Replies<Asked>>,
    /// What each peer has ended.
    pub ended: PerSide<Ended>,
    /// Whether a request of the client waits for its verdict, and so does what comes after it.
    pub waits: bool,
    /// Whether the server may open channels to the client's agent.
    pub agent: bool,
    /// Whether the server may open channels to the client's display.
    pub display: Display,
}

/// What one peer will not send any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Ended {
    /// It may send anything.
    #[default]
    Nothing,
    /// It sent EOF: no more data.
    Data,
    /// It sent CLOSE: nothing at all.
    Everything,
}

/// One value for each peer.
#[derive(Debug, Default)]
pub(super) struct PerSide<T> {
    /// The client's.
    pub client: T,
    /// The server's.
    pub server: T,
}

impl<T> PerSide<T> {
    /// The value of `side`.
    pub(super) const fn of(&mut self, side: Side) -> &mut T {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }
}

impl Channel {
    /// The number by which `side` knows the channel.
    #[must_use]
    pub(super) const fn number(&self, side: Side) -> u32 {
        match side {
            Side::Client => self.numbers.client,
            Side::Server => self.numbers.server,
        }
    }
}

/// All channels, with a way from the number of either peer.
#[derive(Debug, Default)]
pub(super) struct Table {
    channels: HashMap<ChannelId, Channel>,
    by_number: PerSide<HashMap<u32, ChannelId>>,
    opened: u32,
}

impl Table {
    /// Whether no further channel fits.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.channels.len() >= CHANNELS_MAX
    }

    /// A channel that `opener` opens under its own number, with the credit it gives.
    pub(super) fn open(
        &mut self,
        opener: Side,
        number: u32,
        kind: Kind,
        credit: Ledger,
    ) -> Result<ChannelId, RelayError> {
        if self.by_number.of(opener).contains_key(&number) {
            return Err(RelayError::NumberInUse { number });
        }
        let id = ChannelId(self.opened);
        self.opened = self.opened.saturating_add(1);
        let channel = Channel {
            id,
            opener,
            kind,
            stage: Stage::Opening,
            numbers: PerSide { client: number, server: number },
            alias: None,
            // The other side's credit is put in place by its confirmation.
            towards: PerSide { client: credit, server: credit },
            replies: PerSide::default(),
            ended: PerSide::default(),
            waits: false,
            agent: false,
            display: Display::Closed,
        };
        self.channels.insert(id, channel);
        self.by_number.of(opener).insert(number, id);
        Ok(id)
    }

    /// The client knows the server's end of a channel that it opens by this number of ours already.
    pub(super) fn set_alias(&mut self, client: u32, alias: u32) -> Result<(), RelayError> {
        let id = self.opening(Side::Server, client)?;
        if let Some(channel) = self.channels.get_mut(&id) {
            channel.alias = Some(alias);
        }
        self.by_number.server.insert(alias, id);
        Ok(())
    }

    /// `from` confirmed a channel of the other peer under its own number.
    pub(super) fn confirm(
        &mut self,
        from: Side,
        recipient: u32,
        number: u32,
        credit: Ledger,
    ) -> Result<&mut Channel, RelayError> {
        if self.by_number.of(from).contains_key(&number) {
            return Err(RelayError::NumberInUse { number });
        }
        let id = self.opening(from, recipient)?;
        let Some(channel) = self.channels.get_mut(&id) else {
            return Err(RelayError::UnknownChannel { number: recipient });
        };
        channel.stage = match channel.kind {
            Kind::Session => Stage::Idle,
            Kind::Forward => Stage::Started,
        };
        *channel.numbers.of(from) = number;
        *channel.towards.of(from) = credit;
        if channel.alias.is_none() {
            self.by_number.of(from).insert(number, id);
        }
        Ok(channel)
    }

    /// `from` refused a channel of the other peer.
    pub(super) fn refused(&mut self, from: Side, recipient: u32) -> Result<Channel, RelayError> {
        let id = self.opening(from, recipient)?;
        self.remove(id).ok_or(RelayError::UnknownChannel { number: recipient })
    }

    /// The confirmed channel that a message from `from` names by the other peer's number.
    pub(super) fn named(&mut self, from: Side, number: u32) -> Result<&mut Channel, RelayError> {
        let found = match self.by_number.of(from.other()).get(&number) {
            Some(id) => self.channels.get_mut(id),
            None => None,
        };
        match found {
            Some(channel) if channel.stage != Stage::Opening || channel.waits => Ok(channel),
            Some(_) | None => Err(RelayError::UnknownChannel { number }),
        }
    }

    /// The channel with this number in the record, while it is there.
    pub(super) fn get(&mut self, id: ChannelId) -> Option<&mut Channel> {
        self.channels.get_mut(&id)
    }

    /// Whether the server may open a channel to the client's agent.
    #[must_use]
    pub(super) fn has_agent(&self) -> bool {
        self.channels.values().any(|channel| channel.agent)
    }

    /// Takes leave for one channel to the client's display, if there is any.
    pub(super) fn take_display(&mut self) -> bool {
        let open = |channel: &&mut Channel| channel.display != Display::Closed;
        let Some(channel) = self.channels.values_mut().find(open) else { return false };
        if channel.display == Display::Once {
            channel.display = Display::Closed;
        }
        true
    }

    /// Forgets a channel.
    pub(super) fn remove(&mut self, id: ChannelId) -> Option<Channel> {
        let channel = self.channels.remove(&id)?;
        for (side, number) in [
            (Side::Client, channel.numbers.client),
            (Side::Server, channel.alias.unwrap_or(channel.numbers.server)),
        ] {
            // The opener's number stands for both until there is a confirmation.
            if self.by_number.of(side).get(&number) == Some(&id) {
                self.by_number.of(side).remove(&number);
            }
        }
        Some(channel)
    }

    /// The channel that waits for `from` to confirm it.
    fn opening(&mut self, from: Side, recipient: u32) -> Result<ChannelId, RelayError> {
        let unknown = RelayError::UnknownChannel { number: recipient };
        let Some(&id) = self.by_number.of(from.other()).get(&recipient) else {
            return Err(unknown);
        };
        match self.channels.get(&id) {
            Some(channel) if channel.stage == Stage::Opening && channel.opener != from => Ok(id),
            Some(_) | None => Err(unknown),
        }
    }
}
