//! Messages on one channel: data, credit, its ends, requests and their replies.

use super::case::{Case, Docket};
use super::filter::{self, Rules};
use super::replies::Replied;
use super::table::{Asked, Channel, Display, Ended, Kind, PerSide, Stage};
use super::tap::{Seen, Stream};
use super::{Refused, RelayError, Side, Step};
use crate::message::channel::{self, Request};
use crate::message::number;

/// One message of `from` on a channel that it has not closed.
pub(super) struct Flow<'r> {
    /// Who sent it.
    pub(super) from: Side,
    /// Where.
    pub(super) channel: &'r mut Channel,
    /// Where messages of our own go.
    pub(super) answers: &'r mut PerSide<Vec<Vec<u8>>>,
}

impl Flow<'_> {
    /// Credit goes on, less what we owe.
    pub(super) fn adjust<'m>(&mut self, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let bytes = channel::parse_adjust(message)?;
        match self.channel.towards.of(self.from).grant(bytes)? {
            passed if passed == bytes => Ok(Step::Forward(Seen::Nothing)),
            0 => Ok(Step::Drop),
            passed => {
                let recipient = channel::recipient(message)?;
                Ok(Step::Replace(channel::adjust(recipient, passed), Seen::Nothing))
            }
        }
    }

    /// Data passes within its credit, once it may.
    pub(super) fn data<'m>(&mut self, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let (extended, bytes) = channel::parse_data(message)?;
        if self.from == Side::Client && extended.is_some() {
            // No type of it is defined in this direction: servers drop what a record would show.
            return Err(RelayError::Illegal { number: number::CHANNEL_EXTENDED_DATA });
        }
        if *self.channel.ended.of(self.from) != Ended::Nothing {
            return Err(RelayError::AfterEnd { number: number::CHANNEL_DATA });
        }
        self.channel.towards.of(self.from.other()).spend(bytes.len())?;
        if self.other_has_closed() {
            return Ok(Step::Drop);
        }
        if self.channel.stage != Stage::Started {
            return self.unstarted(bytes.len());
        }
        let stream = match (self.from, extended) {
            (Side::Client, _) => Stream::Stdin,
            (Side::Server, None) => Stream::Stdout,
            (Side::Server, Some(_)) => Stream::Stderr,
        };
        Ok(Step::Forward(Seen::Data { channel: self.channel.id, stream, bytes }))
    }

    /// Data on a channel whose program was refused, or not yet asked for: a client that did not
    /// wait for the reply loses it and has its credit back; a server has nothing to say there.
    fn unstarted<'m>(&mut self, bytes: usize) -> Result<Step<'m>, RelayError> {
        if self.from == Side::Server {
            return Err(RelayError::NotStarted);
        }
        let credit = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.channel.towards.server.grant(credit)?;
        self.answers.client.push(channel::adjust(self.channel.numbers.client, credit));
        Ok(Step::Drop)
    }

    /// A peer sends no more data.
    pub(super) fn eof<'m>(&mut self) -> Result<Step<'m>, RelayError> {
        let ended = self.channel.ended.of(self.from);
        if *ended != Ended::Nothing {
            return Err(RelayError::AfterEnd { number: number::CHANNEL_EOF });
        }
        *ended = Ended::Data;
        Ok(Step::Forward(Seen::Eof { channel: self.channel.id, from: self.from }))
    }

    /// A peer sends nothing any more.
    pub(super) fn close<'m>(&mut self) -> Step<'m> {
        *self.channel.ended.of(self.from) = Ended::Everything;
        let last = self.other_has_closed();
        Step::Forward(Seen::Closed { channel: self.channel.id, from: self.from, last })
    }

    /// A request is judged, passes, or is refused in its turn.
    pub(super) fn request<'m>(
        &mut self,
        rules: &Rules,
        message: &'m [u8],
    ) -> Result<Step<'m>, RelayError> {
        let request = Request::parse(message)?;
        // A server has nothing more to start; a client that has closed still waits for the exit
        // status, which may have crossed its CLOSE.
        if self.from == Side::Client && self.other_has_closed() {
            return Ok(Step::Drop);
        }
        let want_reply = request.want_reply;
        if self.from == Side::Client
            && self.channel.kind == Kind::Session
            && let Some((wish, place)) = filter::judged(self.channel, &request)?
        {
            let docket = Docket { place, want_reply };
            return Ok(Step::Judge(Case { channel: Some(self.channel.id), wish, docket }));
        }
        if let Some(seen) = rules.passes_request(self.from, self.channel, &request)? {
            if want_reply {
                self.channel.replies.of(self.from).expect(Asked::Plain)?;
            }
            return Ok(Step::Forward(seen));
        }
        if want_reply {
            let failure = channel::reply(self.channel.number(self.from), false);
            let due = self.channel.replies.of(self.from).answer(failure)?;
            self.answers.of(self.from).extend(due);
        }
        Ok(Step::Refused(Refused::Request(filter::name(request.kind))))
    }

    /// The reply to the oldest request of the other peer.
    pub(super) fn reply<'m>(&mut self, message: &'m [u8]) -> Result<Step<'m>, RelayError> {
        let to = self.from.other();
        let (replied, due) = self.channel.replies.of(to).replied(message)?;
        let (asked, step) = match replied {
            Replied::Passes(asked) => (asked, Step::Forward(Seen::Nothing)),
            Replied::Waits(asked) => (asked, Step::Drop),
            // No request of ours goes out on a channel.
            Replied::ForUs => return Err(RelayError::UnsolicitedReply),
        };
        if message.first() == Some(&number::CHANNEL_FAILURE) {
            match asked {
                // The client may ask for another, to be judged again.
                Asked::Start => self.channel.stage = Stage::Idle,
                Asked::Agent => self.channel.agent = false,
                Asked::X11 => self.channel.display = Display::Closed,
                Asked::Plain => {}
            }
        }
        self.answers.of(to).extend(due);
        Ok(step)
    }

    /// Whether the receiver will not take anything more but a CLOSE.
    fn other_has_closed(&mut self) -> bool {
        *self.channel.ended.of(self.from.other()) == Ended::Everything
    }
}
