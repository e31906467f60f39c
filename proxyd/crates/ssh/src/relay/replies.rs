//! Replies carry no number: each direction answers its requests in order (RFC 4254 section 4).

use std::collections::VecDeque;

use super::RelayError;
use crate::limits::REPLIES_MAX;

/// Who answers a request.
#[derive(Debug, PartialEq, Eq)]
enum Reply {
    /// The other peer; its reply has not come yet.
    Peer,
    /// We do, with this message, as soon as it is its turn.
    Own(Vec<u8>),
}

/// The requests of one direction that have no reply yet.
#[derive(Debug, Default)]
pub(super) struct Replies(VecDeque<Reply>);

impl Replies {
    /// A request went on to the other peer.
    pub(super) fn expect(&mut self) -> Result<(), RelayError> {
        self.push(Reply::Peer)
    }

    /// We answer a request; gives the replies whose turn it is.
    pub(super) fn answer(&mut self, message: Vec<u8>) -> Result<Vec<Vec<u8>>, RelayError> {
        self.push(Reply::Own(message))?;
        Ok(self.due())
    }

    /// The other peer replied; gives our own replies whose turn it is after that one.
    pub(super) fn replied(&mut self) -> Result<Vec<Vec<u8>>, RelayError> {
        match self.0.pop_front() {
            Some(Reply::Peer) => Ok(self.due()),
            Some(Reply::Own(_)) | None => Err(RelayError::UnsolicitedReply),
        }
    }

    fn push(&mut self, reply: Reply) -> Result<(), RelayError> {
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
        let mut replies = Replies::default();
        assert_eq!(replies.answer(vec![1]).unwrap(), [vec![1]]);
        replies.expect().unwrap();
        assert_eq!(replies.answer(vec![2]).unwrap(), Vec::<Vec<u8>>::new());
        replies.expect().unwrap();
        assert_eq!(replies.answer(vec![3]).unwrap(), Vec::<Vec<u8>>::new());
        assert_eq!(replies.replied().unwrap(), [vec![2]]);
        assert_eq!(replies.replied().unwrap(), [vec![3]]);
        assert!(matches!(replies.replied(), Err(RelayError::UnsolicitedReply)));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut replies = Replies::default();
        for _request in 0..REPLIES_MAX {
            replies.expect().unwrap();
        }
        assert!(matches!(replies.expect(), Err(RelayError::TooManyRequests { .. })));
    }
}
