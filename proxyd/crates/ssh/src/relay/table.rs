//! The channels of a connection, found by the number of either peer.

use std::collections::HashMap;

use super::ledger::Ledger;
use super::replies::Replies;
use super::{ChannelId, RelayError, Side};
use crate::limits::CHANNELS_MAX;

/// How far a channel's own session has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The server has not confirmed it.
    Opening,
    /// Open; no program was started on it, so no data may pass.
    Idle,
    /// A program was started by permission of the policy.
    Started,
}

/// One channel, opened by the client.
#[derive(Debug)]
pub(super) struct Channel {
    /// Its number in the record; never used twice on a connection.
    pub id: ChannelId,
    /// How far it has come.
    pub stage: Stage,
    /// The client's number.
    pub client: u32,
    /// The server's number, from its confirmation on.
    pub server: u32,
    /// Credit towards each peer.
    pub towards: PerSide<Ledger>,
    /// Requests of each peer that have no reply yet.
    pub replies: PerSide<Replies>,
    /// What each peer has ended.
    pub ended: PerSide<Ended>,
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
            Side::Client => self.client,
            Side::Server => self.server,
        }
    }
}

/// All channels, by the client's number, with a way from the server's.
#[derive(Debug, Default)]
pub(super) struct Table {
    channels: HashMap<u32, Channel>,
    by_server: HashMap<u32, u32>,
    opened: u32,
}

impl Table {
    /// Whether no further channel fits.
    #[must_use]
    pub(super) fn is_full(&self) -> bool {
        self.channels.len() >= CHANNELS_MAX
    }

    /// A channel the client opens under its number `client`, with its credit.
    pub(super) fn open(&mut self, client: u32, credit: Ledger) -> Result<ChannelId, RelayError> {
        if self.channels.contains_key(&client) {
            return Err(RelayError::NumberInUse { number: client });
        }
        let id = ChannelId(self.opened);
        self.opened = self.opened.saturating_add(1);
        let channel = Channel {
            id,
            stage: Stage::Opening,
            client,
            server: 0,
            // The server's side is put in place by its confirmation.
            towards: PerSide { client: credit, server: credit },
            replies: PerSide::default(),
            ended: PerSide::default(),
        };
        self.channels.insert(client, channel);
        Ok(id)
    }

    /// The server confirmed the channel under its own number.
    pub(super) fn confirm(
        &mut self,
        client: u32,
        server: u32,
        credit: Ledger,
    ) -> Result<ChannelId, RelayError> {
        if self.by_server.contains_key(&server) {
            return Err(RelayError::NumberInUse { number: server });
        }
        let channel = self.opening(client)?;
        channel.stage = Stage::Idle;
        channel.server = server;
        channel.towards.server = credit;
        let id = channel.id;
        self.by_server.insert(server, client);
        Ok(id)
    }

    /// The server refused the channel.
    pub(super) fn refused(&mut self, client: u32) -> Result<ChannelId, RelayError> {
        let id = self.opening(client)?.id;
        self.channels.remove(&client);
        Ok(id)
    }

    /// The confirmed channel that a message from `from` names by the other peer's number.
    pub(super) fn named(&mut self, from: Side, number: u32) -> Result<&mut Channel, RelayError> {
        let unknown = RelayError::UnknownChannel { number };
        let client = match from {
            Side::Server => number,
            Side::Client => match self.by_server.get(&number) {
                Some(client) => *client,
                None => return Err(unknown),
            },
        };
        match self.channels.get_mut(&client) {
            Some(channel) if channel.stage != Stage::Opening => Ok(channel),
            Some(_) | None => Err(unknown),
        }
    }

    /// The confirmed channel with this number of the client.
    pub(super) fn of_client(&mut self, client: u32) -> Result<&mut Channel, RelayError> {
        self.named(Side::Server, client)
    }

    /// Forgets a channel that both peers have closed.
    pub(super) fn remove(&mut self, client: u32) {
        if let Some(channel) = self.channels.remove(&client) {
            self.by_server.remove(&channel.server);
        }
    }

    fn opening(&mut self, client: u32) -> Result<&mut Channel, RelayError> {
        match self.channels.get_mut(&client) {
            Some(channel) if channel.stage == Stage::Opening => Ok(channel),
            Some(_) | None => Err(RelayError::UnknownChannel { number: client }),
        }
    }
}
