//! Two simulated peers that keep to the protocol, on any schedule: nothing is lost, nothing
//! overtakes, credit is neither made nor destroyed.

use std::collections::HashMap;

use proptest::prelude::{any, proptest};
use proptest::sample::Index;

use super::*;
use crate::message::channel::Request;

const CHANNELS: usize = 3;
const WINDOW: u32 = 64;

/// What one peer knows of one channel.
#[derive(Default)]
struct End {
    /// The other end's number, once it is known.
    other: Option<u32>,
    /// Bytes that may be sent.
    credit: u32,
    /// Bytes sent, in order.
    sent: Vec<u8>,
    /// Bytes received, in order.
    received: Vec<u8>,
    /// Requests whose reply has not come.
    open_requests: VecDeque<bool>,
    /// Whether the data is at its end.
    ended: bool,
    /// Whether the other peer's is.
    other_ended: bool,
}

/// One peer, and what is on its way to it.
#[derive(Default)]
struct Peer {
    inbox: VecDeque<Vec<u8>>,
    ends: HashMap<u32, End>,
}

struct Model {
    relay: Relay,
    client: Peer,
    server: Peer,
    next_byte: u8,
}

impl Model {
    fn new() -> Self {
        let (client, server) = (Peer::default(), Peer::default());
        let mut model = Self { relay: relay(), client, server, next_byte: 0 };
        for number in 0..CHANNELS {
            let number = u32::try_from(number).unwrap();
            let open = Open {
                kind: b"session",
                sender: number,
                window_bytes: WINDOW,
                packet_bytes_max: 16,
                details: b"",
            };
            model.client.ends.insert(number, End::default());
            model.send(Side::Client, open.encode());
        }
        for _channel in 0..CHANNELS {
            model.deliver(Side::Server);
            model.deliver(Side::Client);
        }
        for number in 0..CHANNELS {
            let number = u32::try_from(number).unwrap();
            model.request(Side::Client, number, b"shell");
        }
        model
    }

    fn peer(&mut self, side: Side) -> &mut Peer {
        match side {
            Side::Client => &mut self.client,
            Side::Server => &mut self.server,
        }
    }

    /// `from` sends a message through the relay.
    fn send(&mut self, from: Side, message: Vec<u8>) {
        let forwarded = match self.relay.receive(from, &message).unwrap() {
            Step::Forward(_) => Some(message),
            Step::Replace(replaced, _) => Some(replaced),
            Step::Judge(case) => {
                Some(self.relay.allow(&case.docket, &message).unwrap().into_owned())
            }
            Step::Drop | Step::Refused(_) => None,
            step @ (Step::Hold(_) | Step::Unknown) => panic!("{step:?}"),
        };
        if let Some(message) = forwarded {
            self.peer(from.other()).inbox.push_back(message);
        }
        for side in [Side::Client, Side::Server] {
            let answers = self.relay.answers(side);
            self.peer(side).inbox.extend(answers);
        }
    }

    /// A request that expects a reply; one that the relay refuses has its reply all the same.
    fn request(&mut self, from: Side, own: u32, kind: &[u8]) {
        let Some(end) = self.peer(from).ends.get_mut(&own) else { return };
        let Some(other) = end.other else { return };
        end.open_requests.push_back(kind == b"nonsense");
        self.send(from, request(other, kind, true, b""));
    }

    fn data(&mut self, from: Side, own: u32, bytes: u32) {
        let first = self.next_byte;
        let Some(end) = self.peer(from).ends.get_mut(&own) else { return };
        let Some(other) = end.other else { return };
        let count = u8::try_from(bytes.min(end.credit).min(16)).unwrap();
        if end.ended || count == 0 {
            return;
        }
        end.credit -= u32::from(count);
        let bytes: Vec<u8> = (0..count).map(|at| first.wrapping_add(at)).collect();
        end.sent.extend(&bytes);
        self.next_byte = self.next_byte.wrapping_add(count);
        self.send(from, data(other, &bytes));
    }

    fn grant(&mut self, from: Side, own: u32, bytes: u32) {
        let Some(end) = self.peer(from).ends.get_mut(&own) else { return };
        let Some(other) = end.other else { return };
        self.send(from, channel::adjust(other, bytes));
    }

    fn eof(&mut self, from: Side, own: u32) {
        let Some(end) = self.peer(from).ends.get_mut(&own) else { return };
        let (Some(other), false) = (end.other, end.ended) else { return };
        end.ended = true;
        self.send(from, plain(number::CHANNEL_EOF, other));
    }

    /// `to` takes the oldest message on its way.
    fn deliver(&mut self, to: Side) {
        let Some(message) = self.peer(to).inbox.pop_front() else { return };
        match message[0] {
            number::CHANNEL_OPEN => {
                let open = Open::parse(&message).unwrap();
                let (own, credit) = (open.sender + 100, open.window_bytes);
                let end = End { other: Some(open.sender), credit, ..End::default() };
                self.peer(to).ends.insert(own, end);
                let confirmation = Confirmation {
                    recipient: open.sender,
                    sender: own,
                    window_bytes: WINDOW,
                    packet_bytes_max: 16,
                    details: b"",
                };
                self.send(to, confirmation.encode());
            }
            number::CHANNEL_OPEN_CONFIRMATION => {
                let confirmation = Confirmation::parse(&message).unwrap();
                let end = self.peer(to).ends.get_mut(&confirmation.recipient).unwrap();
                end.other = Some(confirmation.sender);
                end.credit = confirmation.window_bytes;
            }
            _ => self.on_channel(to, &message),
        }
    }

    fn on_channel(&mut self, to: Side, message: &[u8]) {
        let own = channel::recipient(message).unwrap();
        let end = self.peer(to).ends.get_mut(&own).unwrap();
        match message[0] {
            number::CHANNEL_DATA => {
                assert!(!end.other_ended, "data after its end");
                end.received.extend(channel::parse_data(message).unwrap().1);
            }
            number::CHANNEL_WINDOW_ADJUST => end.credit += channel::parse_adjust(message).unwrap(),
            number::CHANNEL_EOF => end.other_ended = true,
            number::CHANNEL_SUCCESS => assert_eq!(end.open_requests.pop_front(), Some(false)),
            number::CHANNEL_FAILURE => assert_eq!(end.open_requests.pop_front(), Some(true)),
            number::CHANNEL_REQUEST => {
                assert!(Request::parse(message).unwrap().kind != b"nonsense");
                let other = end.other.unwrap();
                self.send(to, plain(number::CHANNEL_SUCCESS, other));
            }
            number => panic!("message {number}"),
        }
    }

    /// Everything arrives; then what one end sent is what the other received, and the credit at
    /// both ends is what was granted less what was sent.
    fn settle(mut self, granted: &HashMap<(bool, u32), u32>) {
        while !(self.client.inbox.is_empty() && self.server.inbox.is_empty()) {
            self.deliver(Side::Client);
            self.deliver(Side::Server);
        }
        for number in 0..u32::try_from(CHANNELS).unwrap() {
            let (client, server) = (&self.client.ends[&number], &self.server.ends[&(number + 100)]);
            assert_eq!(client.sent, server.received);
            assert_eq!(server.sent, client.received);
            assert!(client.open_requests.is_empty() && server.open_requests.is_empty());
            for (end, by_client, own) in [(client, false, number + 100), (server, true, number)] {
                let granted = granted.get(&(by_client, own)).copied().unwrap_or_default();
                let sent = u32::try_from(end.sent.len()).unwrap();
                assert_eq!(end.credit + sent, WINDOW + granted);
            }
            assert_eq!((client.ended, server.ended), (server.other_ended, client.other_ended));
        }
    }
}

proptest! {
    #[test]
    fn peers_that_keep_the_rules_notice_no_relay(
        steps in proptest::collection::vec(
            (any::<bool>(), 0_u8..12, any::<Index>(), 1_u32..40),
            0..400,
        ),
    ) {
        let mut model = Model::new();
        let mut granted: HashMap<(bool, u32), u32> = HashMap::new();
        for (by_client, what, channel, bytes) in steps {
            let side = if by_client { Side::Client } else { Side::Server };
            let number = u32::try_from(channel.index(CHANNELS)).unwrap();
            let own = if by_client { number } else { number + 100 };
            match what {
                0..=3 => model.data(side, own, bytes),
                4..=7 => model.deliver(side),
                8 => {
                    model.grant(side, own, bytes);
                    *granted.entry((by_client, own)).or_default() += bytes;
                }
                9 => model.request(side, own, b"keepalive@openssh.com"),
                10 => model.request(side, own, b"nonsense"),
                _ if bytes < 3 => model.eof(side, own),
                _ => {}
            }
        }
        model.settle(&granted);
    }
}
