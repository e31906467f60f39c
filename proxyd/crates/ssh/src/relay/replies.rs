//! Replies carry no number: each direction answers its requests in order (RFC 4254 section 4).

use std::collections::VecDeque;

use super::RelayError;
use crate::limits::REPLIES_MAX;

/// Who answers a request.
#[derive(Debug, PartialEq, Eq)]
enum Reply<T> {
    /// The other peer; its reply has not come yet.
    Peer(T),
    /// We do, with this message, as soon as it is its turn.
    Own(Vec<u8>),
    /// We will, once it is time; what comes later waits for it.
    Held,
    /// The other peer, to a request of ours: its reply is for us.
    ForUs,
}

/// What becomes of a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Replied<T> {
    /// It goes on now.
    Passes(T),
    /// It is kept until those before it are due.
    Waits(T),
    /// It answers a request of ours and goes nowhere.
    ForUs,
}

/// The requests of one direction that have no reply yet, each with what its reply means.
#[derive(Debug)]
pub(super) struct Replies<T>(VecDeque<Reply<T>>);

impl<T> Default for Replies<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Replies<T> {
    /// A request went on to the other peer.
    pub(super) fn expect(&mut self, meaning: T) -> Result<(), RelayError> {
        self.push(Reply::Peer(meaning))
    }

    /// We answer a request; gives the replies whose turn it is.
    pub(super) fn answer(&mut self, message: Vec<u8>) -> Result<Vec<Vec<u8>>, RelayError> {
        self.push(Reply::Own(message))?;
        Ok(self.due())
    }

    /// We send a request of our own to the peer that answers this direction.
    pub(super) fn expect_for_us(&mut self) -> Result<(), RelayError> {
        self.push(Reply::ForUs)
    }

    /// We will answer a request with what [`Self::release`] brings.
    pub(super) fn hold(&mut self) -> Result<(), RelayError> {
        self.push(Reply::Held)
    }

    /// The oldest held reply is this; gives the replies whose turn it is now.
    pub(super) fn release(&mut self, message: Vec<u8>) -> Vec<Vec<u8>> {
        let is_held = |reply: &&mut Reply<T>| matches!(reply, Reply::Held);
        if let Some(held) = self.0.iter_mut().find(is_held) {
            *held = Reply::Own(message);
        }
        self.due()
    }

    /// The other peer replied; tells what becomes of that, and gives our own replies whose turn it
    /// is after it.
    pub(super) fn replied(
        &mut self,
        message: &[u8],
    ) -> Result<(Replied<T>, Vec<Vec<u8>>), RelayError> {
        // Peers know nothing of the replies that we hold: theirs may come before its turn.
        let is_theirs = |reply: &Reply<T>| matches!(reply, Reply::Peer(_) | Reply::ForUs);
        let at = self.0.iter().position(is_theirs).ok_or(RelayError::UnsolicitedReply)?;
        let replied = match self.0.remove(at) {
            Some(Reply::Peer(meaning)) if at > 0 => {
                self.0.insert(at, Reply::Own(message.to_vec()));
                return Ok((Replied::Waits(meaning), Vec::new()));
            }
            Some(Reply::Peer(meaning)) => Replied::Passes(meaning),
            Some(Reply::Own(_) | Reply::Held | Reply::ForUs) | None => Replied::ForUs,
        };
        Ok((replied, self.due()))
    }

    fn push(&mut self, reply: Reply<T>) -> Result<(), RelayError> {
        if self.0.len() >= REPLIES_MAX {
            return Err(RelayError::TooManyRequests { limit: REPLIES_MAX });
        }
        self.0.push_back(reply);
        Ok(())
    }

    fn due(&mut self) -> Vec<Vec<u8>> {
        let mut due = Vec::new();
        while let Some(Reply::Own(_)) = self.0.front() {
            if let Some(Reply::Own(message)) = self.0.pop_front() {
                due.push(message);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_replies_wait_for_their_turn() {
        let mut replies = Replies::<()>::default();
        assert_eq!(replies.answer(vec![1]).unwrap(), [vec![1]]);
        replies.expect(()).unwrap();
        assert_eq!(replies.answer(vec![2]).unwrap(), Vec::<Vec<u8>>::new());
        replies.expect(()).unwrap();
        assert_eq!(replies.answer(vec![3]).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(replies.replied(&[9]).unwrap(), (Replied::Passes(()), vec![vec![2]]));
        assert_eq!(replies.replied(&[9]).unwrap(), (Replied::Passes(()), vec![vec![3]]));
        assert!(matches!(replies.replied(&[9]), Err(RelayError::UnsolicitedReply)));
    }

    #[test]
    fn a_held_reply_holds_what_comes_later() {
        let mut replies = Replies::<()>::default();
        replies.hold().unwrap();
        replies.expect(()).unwrap();
        assert_eq!(replies.answer(vec![3]).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(replies.replied(&[2]).unwrap(), (Replied::Waits(()), Vec::new()));
        assert_eq!(replies.release(vec![1]), [vec![1], vec![2], vec![3]]);
        replies.expect_for_us().unwrap();
        assert_eq!(replies.replied(&[9]).unwrap(), (Replied::ForUs, Vec::new()));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut replies = Replies::<()>::default();
        for _request in 0..REPLIES_MAX {
            replies.expect(()).unwrap();
        }
        assert!(matches!(replies.expect(()), Err(RelayError::TooManyRequests { .. })));
    }
}
