//! Hostile peers that are logged in, or that let others log in: what they send ends their own
//! connection or changes nothing, and the record says why. Rows are those of the table of attacks
//! in `docs/ssh.md`.

use std::io::Read as _;
use std::thread;

use e2e::wait::Stopwatch;
use e2e::world::World;
use proxyd_ssh::auth::acceptor::{Acceptor, Attempt, Incoming};
use proxyd_ssh::auth::connector::Connector;
use proxyd_ssh::cursor::Writer;
use proxyd_ssh::message::channel::{Confirmation, Open, adjust, close, data, reply};
use proxyd_ssh::message::{global, number, userauth};
use proxyd_ssh::transport::RekeyLimits;

use crate::raw::Peer;
use crate::siege::{HANDSHAKE_LIMIT, SOON, Siege};

/// Messages of a flood.
const FLOOD: usize = 100_000;

/// The longest banner that reaches a user, with the other fields of its message.
const BANNER_MESSAGE_BYTES_MAX: usize = 16 * 1024 + 9;

/// The client's number of its channel, and the hostile server's.
const CLIENT_CHANNEL: u32 = 5;
const SERVER_CHANNEL: u32 = 7;

/// What peers of this file grant, and the largest packet they take.
const WINDOW_BYTES: u32 = 1_000;
const PACKET_BYTES_MAX: u32 = 500;

/// More than OpenSSH's server grants, which is 2 MiB.
const BEYOND_WINDOW: usize = 3 * 1024 * 1024;

/// As large as OpenSSH's server takes.
const SERVER_PACKET_BYTES: usize = 32 * 1024;

/// What becomes of the peer's connection.
enum End {
    /// It ends soon, with these words in the reason.
    Ends(&'static str),
    /// It goes on: what is asked afterwards is answered.
    GoesOn,
    /// One or the other, whoever is faster: it is the gateway that has to hold.
    Either,
}

/// What a client does once it is in.
struct ClientCase {
    name: &'static str,
    attack: fn(&mut Peer),
    end: End,
}

/// Channels and windows (rows 9, 10, 13), malformed messages (row 5), messages out of their turn
/// (row 15) and floods (row 17).
const CLIENT_CASES: &[ClientCase] = &[
    ClientCase {
        name: "data on a channel that was never opened",
        attack: |peer| peer.send(&data(9, b"abc")),
        end: End::Ends("channel 9 is not open"),
    },
    ClientCase {
        name: "credit for a channel that was never opened",
        attack: |peer| peer.send(&adjust(0x8000_0000, 5)),
        end: End::Ends("is not open"),
    },
    ClientCase {
        name: "confirmation of what nobody opened",
        attack: |peer| peer.send(&confirmation(0, 0)),
        end: End::Ends("is not open"),
    },
    ClientCase {
        name: "more data than the window",
        attack: |peer| {
            let channel = started(peer, "sleep 20");
            for _packet in 0..BEYOND_WINDOW / SERVER_PACKET_BYTES {
                peer.send(&data(channel, &[b'x'; SERVER_PACKET_BYTES]));
            }
        },
        end: End::Ends("exceed the window"),
    },
    ClientCase {
        name: "a larger packet than the server takes",
        attack: |peer| {
            let channel = started(peer, "cat");
            peer.send(&data(channel, &[b'x'; SERVER_PACKET_BYTES + 1]));
        },
        end: End::Ends("exceeds"),
    },
    ClientCase {
        name: "a window beyond 2^32-1",
        attack: |peer| {
            let channel = started(peer, "cat");
            peer.send(&adjust(channel, u32::MAX));
        },
        end: End::Ends("window exceeds"),
    },
    ClientCase {
        name: "a flood of credit of nothing",
        attack: |peer| {
            let channel = started(peer, "cat");
            repeat(peer, &adjust(channel, 0));
        },
        end: End::GoesOn,
    },
    ClientCase {
        name: "data after the end of data",
        attack: |peer| {
            let channel = started(peer, "sleep 20");
            peer.send(&on_channel(number::CHANNEL_EOF, channel));
            peer.send(&data(channel, b"more"));
        },
        end: End::Ends("after the end of channel data"),
    },
    ClientCase {
        name: "data after the end of the channel",
        attack: |peer| {
            let channel = started(peer, "sleep 20");
            peer.send(&close(channel));
            peer.send(&data(channel, b"more"));
        },
        end: End::Ends("after the end of channel data"),
    },
    ClientCase {
        name: "a reply to no request",
        attack: |peer| {
            let channel = started(peer, "cat");
            peer.send(&reply(channel, true));
        },
        end: End::Ends("reply without a request"),
    },
    ClientCase {
        name: "a global reply to no request",
        attack: |peer| peer.send(&global::failure()),
        end: End::Ends("reply without a request"),
    },
    ClientCase {
        name: "a channel that takes packets of no size",
        attack: |peer| peer.send(&open(b"session", 0, 0)),
        end: End::Ends("maximum packet size is 0"),
    },
    ClientCase {
        name: "two channels of one number",
        attack: |peer| {
            peer.send(&open(b"session", 0, 100));
            peer.send(&open(b"session", 0, 100));
        },
        end: End::Ends("channel number 0 is in use"),
    },
    ClientCase {
        name: "an opening that ends early",
        attack: |peer| peer.send(&[number::CHANNEL_OPEN, 0, 0, 0, 200, b's']),
        end: End::Ends("malformed"),
    },
    ClientCase {
        name: "a request with more than belongs to it",
        attack: |peer| {
            let channel = opened(peer);
            let mut details = Writer::new();
            details.string(b"true").string(b"and more");
            peer.send(&request(channel, b"exec", true, details.as_bytes()));
        },
        end: End::Ends("malformed"),
    },
    ClientCase {
        name: "a service once more",
        attack: |peer| peer.send(&[number::SERVICE_REQUEST, 0, 0, 0, 1, b's']),
        end: End::Ends("message 5 is not legal"),
    },
    ClientCase {
        name: "a success",
        attack: |peer| peer.send(&[number::USERAUTH_SUCCESS]),
        end: End::Ends("message 52 is not legal"),
    },
    ClientCase {
        name: "a channel that only servers open",
        attack: |peer| {
            peer.send(&open(b"forwarded-tcpip", 3, 100));
            assert_eq!(peer.next().unwrap()[..5], [number::CHANNEL_OPEN_FAILURE, 0, 0, 0, 3]);
        },
        end: End::GoesOn,
    },
    ClientCase {
        name: "a flood of messages that mean nothing",
        attack: |peer| (0..FLOOD).for_each(|_message| peer.send_nothing()),
        end: End::GoesOn,
    },
    ClientCase {
        name: "a changed packet",
        attack: |peer| peer.send_changed(&global::keepalive()),
        end: End::Ends("integrity"),
    },
    ClientCase {
        name: "a flood of openings",
        attack: |peer| {
            let numbers = 0..u32::try_from(FLOOD).unwrap();
            flood(peer, numbers.map(|number| open(b"session", number, 100)));
        },
        end: End::Either,
    },
    ClientCase {
        name: "a flood of requests on a channel",
        attack: |peer| {
            let channel = started(peer, "cat");
            let asked = request(channel, b"window-change", true, &[0; 16]);
            flood(peer, std::iter::repeat_n(asked, FLOOD));
        },
        end: End::Either,
    },
    ClientCase {
        name: "a flood of global requests",
        attack: |peer| flood(peer, std::iter::repeat_n(global::keepalive(), FLOOD)),
        end: End::Either,
    },
    ClientCase {
        name: "a flood of messages that nobody knows",
        attack: |peer| flood(peer, std::iter::repeat_n(vec![127, 0, 0, 0, 0], FLOOD)),
        end: End::Either,
    },
];

/// What a server does that a client has logged in to; its connection comes first.
struct ServerCase {
    name: &'static str,
    attack: fn(&mut Peer, &mut Peer),
    end: End,
}

/// The same from the other side, and what a server must not ask of a client (rows 9, 10, 13, 15 and
/// 17).
const SERVER_CASES: &[ServerCase] = &[
    ServerCase {
        name: "channels that nobody asked for",
        attack: |server, _client| {
            let (mut address, mut socket) = (Writer::new(), Writer::new());
            address.string(b"127.0.0.1").u32(80).string(b"127.0.0.1").u32(5000);
            socket.string(b"a.sock").string(b"");
            let mut origin = Writer::new();
            origin.string(b"127.0.0.1").u32(5000);
            let openings: [(&[u8], &[u8]); 7] = [
                (b"forwarded-tcpip", address.as_bytes()),
                (b"forwarded-streamlocal@openssh.com", socket.as_bytes()),
                (b"auth-agent@openssh.com", b""),
                (b"x11", origin.as_bytes()),
                (b"session", b""),
                (b"direct-tcpip", address.as_bytes()),
                (b"tun@openssh.com", b""),
            ];
            for (kind, details) in openings {
                server.send(&opening(kind, details));
                let answer = server.next().unwrap();
                assert_eq!(answer[..5], [number::CHANNEL_OPEN_FAILURE, 0, 0, 0, 7], "{kind:?}");
            }
        },
        end: End::GoesOn,
    },
    ServerCase {
        name: "a flood of host keys",
        attack: |server, _client| {
            let mut keys = Writer::message(number::GLOBAL_REQUEST);
            keys.string(b"hostkeys-00@openssh.com").bool(false).string(b"not a key");
            for _message in 0..FLOOD {
                server.send(keys.as_bytes());
            }
        },
        end: End::GoesOn,
    },
    ServerCase {
        name: "data where no program was started",
        attack: |server, client| {
            let channel = opened_between(server, client);
            server.send(&data(channel, b"abc"));
        },
        end: End::Ends("data on a channel without a program"),
    },
    ServerCase {
        name: "more data than the window",
        attack: |server, client| {
            let channel = started_between(server, client);
            for _packet in 0..=WINDOW_BYTES / PACKET_BYTES_MAX {
                server.send(&data(channel, &[b'x'; PACKET_BYTES_MAX as usize]));
            }
        },
        end: End::Ends("exceed the window"),
    },
    ServerCase {
        name: "a larger packet than the client takes",
        attack: |server, client| {
            let channel = started_between(server, client);
            server.send(&data(channel, &[b'x'; PACKET_BYTES_MAX as usize + 1]));
        },
        end: End::Ends("exceeds"),
    },
    ServerCase {
        name: "a window beyond 2^32-1",
        attack: |server, client| {
            let channel = started_between(server, client);
            server.send(&adjust(channel, u32::MAX));
        },
        end: End::Ends("window exceeds"),
    },
    ServerCase {
        name: "a confirmation, twice",
        attack: |server, client| {
            let channel = opened_between(server, client);
            server.send(&confirmation(channel, SERVER_CHANNEL));
        },
        end: End::Ends("channel number 7 is in use"),
    },
    ServerCase {
        name: "a channel that takes packets of no size",
        attack: |server, client| {
            client.send(&open(b"session", CLIENT_CHANNEL, PACKET_BYTES_MAX));
            let opening = server.next().unwrap();
            let channel = Open::parse(&opening).unwrap().sender;
            let confirmation = Confirmation {
                recipient: channel,
                sender: 0,
                window_bytes: 0,
                packet_bytes_max: 0,
                details: b"",
            };
            server.send(&confirmation.encode());
        },
        end: End::Ends("maximum packet size is 0"),
    },
    ServerCase {
        name: "data on a channel that was never opened",
        attack: |server, _client| server.send(&data(9, b"abc")),
        end: End::Ends("is not open"),
    },
    ServerCase {
        name: "data after the end of data",
        attack: |server, client| {
            let channel = started_between(server, client);
            server.send(&on_channel(number::CHANNEL_EOF, channel));
            server.send(&data(channel, b"more"));
        },
        end: End::Ends("after the end of channel data"),
    },
    ServerCase {
        name: "a reply to no request",
        attack: |server, client| {
            let channel = started_between(server, client);
            server.send(&reply(channel, true));
        },
        end: End::Ends("reply without a request"),
    },
    ServerCase {
        name: "a success once more",
        attack: |server, _client| server.send(&[number::USERAUTH_SUCCESS]),
        end: End::Ends("message 52 is not legal"),
    },
    ServerCase {
        name: "a changed packet",
        attack: |server, _client| server.send_changed(&global::keepalive()),
        end: End::Ends("integrity"),
    },
    ServerCase {
        name: "a flood of messages that mean nothing",
        attack: |server, _client| (0..FLOOD).for_each(|_message| server.send_nothing()),
        end: End::GoesOn,
    },
    ServerCase {
        name: "a flood of openings",
        attack: |server, _client| {
            flood(server, std::iter::repeat_n(opening(b"session", b""), FLOOD));
        },
        end: End::Either,
    },
    ServerCase {
        name: "a farewell with control characters",
        attack: |server, client| {
            server.disconnect("\x1b]0;owned\x07\x1b[2Jbye");
            while client.next().is_some() {}
            let told = client.farewell().unwrap();
            assert!(told.contains("bye") && !told.contains(['\x1b', '\x07']), "{told:?}");
        },
        end: End::Either,
    },
];

/// What a server does while the user logs in to it.
struct LoginCase {
    name: &'static str,
    messages: fn() -> Vec<Vec<u8>>,
    reason: &'static str,
}

/// Questions and banners without end (rows 4, 6), and messages out of their turn (row 15).
const LOGIN_CASES: &[LoginCase] = &[
    LoginCase {
        name: "2^32-1 questions",
        messages: || vec![questions(u32::MAX)],
        reason: "4294967295 bytes exceed the limit of 32",
    },
    LoginCase {
        name: "a thousand questions",
        messages: || vec![questions(1_000)],
        reason: "1000 bytes exceed the limit of 32",
    },
    LoginCase {
        name: "a flood of banners",
        messages: || vec![userauth::banner("Welcome."); FLOOD],
        reason: "more than 2000 messages before authentication",
    },
    LoginCase {
        name: "a channel before the login",
        messages: || vec![opening(b"session", b"")],
        reason: "message 90 while an authentication reply was expected",
    },
    LoginCase {
        name: "a key that nobody offered",
        messages: || vec![userauth::key_ok(b"ssh-ed25519", b"blob")],
        reason: "malformed authentication message",
    },
    LoginCase {
        name: "an attempt to log in to the client",
        messages: || vec![userauth::none_request(b"alice")],
        reason: "message 50 while an authentication reply was expected",
    },
];

fn open(kind: &[u8], sender: u32, packet_bytes_max: u32) -> Vec<u8> {
    let window_bytes = WINDOW_BYTES;
    Open { kind, sender, window_bytes, packet_bytes_max, details: b"" }.encode()
}

/// An opening of the server's.
fn opening(kind: &[u8], details: &[u8]) -> Vec<u8> {
    let (window_bytes, packet_bytes_max) = (WINDOW_BYTES, PACKET_BYTES_MAX);
    Open { kind, sender: SERVER_CHANNEL, window_bytes, packet_bytes_max, details }.encode()
}

fn confirmation(recipient: u32, sender: u32) -> Vec<u8> {
    let (window_bytes, packet_bytes_max) = (WINDOW_BYTES, PACKET_BYTES_MAX);
    Confirmation { recipient, sender, window_bytes, packet_bytes_max, details: b"" }.encode()
}

fn on_channel(number: u8, channel: u32) -> Vec<u8> {
    let mut message = Writer::message(number);
    message.u32(channel);
    message.into_bytes()
}

fn request(channel: u32, kind: &[u8], want_reply: bool, details: &[u8]) -> Vec<u8> {
    let mut message = Writer::message(number::CHANNEL_REQUEST);
    message.u32(channel).string(kind).bool(want_reply).raw(details);
    message.into_bytes()
}

/// A round of so many questions, of which a few are there.
fn questions(count: u32) -> Vec<u8> {
    let mut message = Writer::message(number::USERAUTH_60);
    message.string(b"").string(b"").string(b"").u32(count);
    for _question in 0..count.min(1_000) {
        message.string(b"? ").bool(true);
    }
    message.into_bytes()
}

/// Opens a channel; gives the server's number for it.
fn opened(peer: &mut Peer) -> u32 {
    peer.send(&open(b"session", CLIENT_CHANNEL, PACKET_BYTES_MAX));
    let message = peer.next().unwrap();
    Confirmation::parse(&message).unwrap().sender
}

/// Opens a channel with a program in it.
fn started(peer: &mut Peer, command: &str) -> u32 {
    let channel = opened(peer);
    let mut details = Writer::new();
    details.string(command.as_bytes());
    peer.send(&request(channel, b"exec", true, details.as_bytes()));
    // The server grants more before it answers.
    while peer.next().unwrap().first() != Some(&number::CHANNEL_SUCCESS) {}
    channel
}

/// A channel from one to the other, without a program; gives the client's number as the server
/// knows it.
fn opened_between(server: &mut Peer, client: &mut Peer) -> u32 {
    client.send(&open(b"session", CLIENT_CHANNEL, PACKET_BYTES_MAX));
    let opening = server.next().unwrap();
    let channel = Open::parse(&opening).unwrap().sender;
    server.send(&confirmation(channel, SERVER_CHANNEL));
    let confirmed = client.next().unwrap();
    assert_eq!(Confirmation::parse(&confirmed).unwrap().recipient, CLIENT_CHANNEL);
    channel
}

/// The same with a program in it.
fn started_between(server: &mut Peer, client: &mut Peer) -> u32 {
    let channel = opened_between(server, client);
    let mut details = Writer::new();
    details.string(b"cat");
    client.send(&request(SERVER_CHANNEL, b"exec", true, details.as_bytes()));
    assert_eq!(server.next().unwrap().first(), Some(&number::CHANNEL_REQUEST));
    server.send(&reply(channel, true));
    assert_eq!(client.next().unwrap().first(), Some(&number::CHANNEL_SUCCESS));
    channel
}

/// Sends it many times; nothing is answered.
fn repeat(peer: &mut Peer, message: &[u8]) {
    for _message in 0..FLOOD {
        peer.send(message);
    }
}

/// Sends all of them, while what comes back is read and forgotten; then the connection is closed.
fn flood(peer: &mut Peer, messages: impl Iterator<Item = Vec<u8>>) {
    let mut answers = peer.stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut bytes = vec![0; 64 * 1024];
            while answers.read(&mut bytes).is_ok_and(|count| count > 0) {}
        });
        for message in messages {
            peer.send(&message);
        }
        // It may have been closed by the gateway.
        drop(peer.stream.shutdown(std::net::Shutdown::Both));
    });
}

/// Asks something that the other side answers, through the gateway.
fn is_answered(from: &mut Peer) {
    from.send(&global::keepalive());
    while !matches!(from.next().unwrap()[0], number::REQUEST_FAILURE | number::REQUEST_SUCCESS) {}
}

/// Waits for the end of a connection that broke the protocol.
fn is_ended(peer: &mut Peer) {
    while peer.next().is_some() {}
}

#[test]
fn clients() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    for case in CLIENT_CASES {
        let name = case.name;
        let mut peer = Peer::client(siege.connect());
        peer.log_in("alice");
        (case.attack)(&mut peer);
        let ended = Stopwatch::start();
        match case.end {
            End::GoesOn => is_answered(&mut peer),
            End::Ends(_) => is_ended(&mut peer),
            End::Either => {}
        }
        assert!(ended.elapsed() < SOON, "{name}: {:?}", ended.elapsed());
        let client = peer.address();
        drop(peer);
        let row = siege.row(client, name);
        if let End::Ends(words) = case.end {
            assert!(row.outcome == "failed" && row.reason.contains(words), "{name}: {row:?}");
        }
        siege.holds(name);
    }
}

/// Serves a client up to its password, or until it asks to be asked.
fn let_in(server: &mut Peer) {
    let mut acceptor = Acceptor::new(&server.session_id(), 100);
    loop {
        match acceptor.receive(&server.next().unwrap()).unwrap() {
            Incoming::Reply(reply) => server.send(&reply),
            Incoming::Attempt(Attempt::Password(_) | Attempt::Interactive) => break,
            Incoming::Attempt(_) | Incoming::Answers(_) | Incoming::Kerberos(_) => {
                server.send(&acceptor.reject(&["password", "keyboard-interactive"]).unwrap());
            }
        }
    }
}

#[test]
fn servers() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    for case in SERVER_CASES {
        let name = case.name;
        let (mut client, stream) = siege.connect_through();
        let mut server = Peer::server(stream, siege.key());
        let_in(&mut server);
        server.send(&[number::USERAUTH_SUCCESS]);
        assert_eq!(client.next().unwrap(), [number::USERAUTH_SUCCESS], "{name}");
        (case.attack)(&mut server, &mut client);
        let ended = Stopwatch::start();
        match case.end {
            End::GoesOn => {
                // What reaches the client next is this, and nothing of the attack.
                server.send(&global::keepalive());
                assert_eq!(client.next().unwrap(), global::keepalive(), "{name}");
            }
            End::Ends(_) => {
                is_ended(&mut server);
                is_ended(&mut client);
            }
            End::Either => {}
        }
        assert!(ended.elapsed() < SOON, "{name}: {:?}", ended.elapsed());
        let address = client.address();
        drop((client, server));
        let row = siege.row(address, name);
        if let End::Ends(words) = case.end {
            assert!(row.outcome == "failed" && row.reason.contains(words), "{name}: {row:?}");
        }
        siege.holds(name);
    }
}

#[test]
fn servers_at_login() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    for case in LOGIN_CASES {
        let name = case.name;
        let (mut client, stream) = siege.connect_by(Connector::interactive);
        let mut server = Peer::server(stream, siege.key());
        let_in(&mut server);
        let asked = Stopwatch::start();
        thread::scope(|scope| {
            scope.spawn(|| {
                for message in (case.messages)() {
                    server.send(&message);
                }
                is_ended(&mut server);
            });
            while let Some(message) = client.next() {
                assert_ne!(message, [number::USERAUTH_SUCCESS], "{name}");
            }
            // The gateway gives it time to read why, and lets the server go after that.
            drop(client.stream.shutdown(std::net::Shutdown::Both));
        });
        let row = siege.row(client.address(), name);
        assert!(asked.elapsed() < SOON, "{name}: {:?}", asked.elapsed());
        assert!(row.outcome == "failed" && row.reason.contains(case.reason), "{name}: {row:?}");
        siege.holds(name);
    }
}

/// More messages than the buffers on the way hold, with their answers.
const ENDLESS: usize = 1_000_000;

/// Why a peer is cut off that does not read what the gateway itself answers.
const DEAF: &str = "more than 5242880 bytes of answers wait to be read";

/// Who asks and never reads the answers is not read from for ever (row 17).
#[test]
fn who_does_not_listen() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    // The one is answered by the gateway, the other by the server, which may be ahead or behind.
    let cases: [(&str, Vec<u8>, &str); 2] = [
        ("a client of the gateway's", vec![127, 0, 0, 0, 0], DEAF),
        ("a client of the server's", global::keepalive(), ""),
    ];
    for (name, message, reason) in cases {
        let mut peer = Peer::client(siege.connect());
        peer.log_in("alice");
        let taken = peer.send_until_stuck(&message, ENDLESS);
        // A server that keeps what it answers may take all of it; the gateway keeps none of that.
        assert!(taken < ENDLESS || reason.is_empty(), "{name}: all was taken");
        siege.holds(name);
        let client = peer.address();
        drop(peer);
        let row = siege.row(client, name);
        assert!(row.outcome != "completed" && row.reason.contains(reason), "{name}: {row:?}");
    }
    let name = "a server";
    let (mut client, stream) = siege.connect_through();
    let mut server = Peer::server(stream, siege.key());
    let_in(&mut server);
    server.send(&[number::USERAUTH_SUCCESS]);
    assert_eq!(client.next().unwrap(), [number::USERAUTH_SUCCESS]);
    let taken = server.send_until_stuck(&opening(b"session", b""), ENDLESS);
    assert!(taken < ENDLESS, "{name}: all was taken");
    siege.holds(name);
    let address = client.address();
    drop((client, server));
    let row = siege.row(address, name);
    assert!(row.outcome == "failed" && row.reason.contains(DEAF), "{name}: {row:?}");
}

/// A banner of the server reaches the user without what acts on a terminal.
#[test]
fn a_banner_with_control_characters() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    let (mut client, stream) = siege.connect_through();
    let mut server = Peer::server(stream, siege.key());
    let_in(&mut server);
    server.send(&userauth::banner("\x1b]52;c;aGk=\x07\x1b[31mHello\r\n\u{9b}2J"));
    server.send(&userauth::banner(&"Welcome. ".repeat(22_000)));
    server.send(&[number::USERAUTH_SUCCESS]);
    let banner = client.next().unwrap();
    assert_eq!(banner[0], number::USERAUTH_BANNER);
    // What follows the number and the length.
    let text = str::from_utf8(&banner[5..]).unwrap();
    assert!(text.contains("Hello"), "{text:?}");
    assert!(!text.contains(['\x1b', '\x07', '\u{9b}']), "{text:?}");
    let long = client.next().unwrap();
    assert!(long.len() <= BANNER_MESSAGE_BYTES_MAX, "{} bytes", long.len());
    assert_eq!(client.next().unwrap(), [number::USERAUTH_SUCCESS]);
    siege.holds("a banner with control characters");
}

/// Who asks for new keys and then goes no further is cut off in time, on either leg (row 17).
#[test]
fn exchanges_that_never_end() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    let at_once = RekeyLimits { aes_bytes: 1, ..RekeyLimits::recommended() };

    let mut client = Peer::client_that(siege.connect(), at_once);
    client.log_in("alice");
    let took = client.never_finish_exchange();
    assert!(took > HANDSHAKE_LIMIT / 2 && took < HANDSHAKE_LIMIT + SOON, "{took:?}");
    let row = siege.row(client.address(), "the client's exchange");
    assert!(row.outcome == "failed" && row.reason.contains("no answer in time"), "{row:?}");

    let (mut client, stream) = siege.connect_through();
    let mut server = Peer::server_that(stream, siege.key(), at_once);
    let_in(&mut server);
    server.send(&[number::USERAUTH_SUCCESS]);
    let took = server.never_finish_exchange();
    assert!(took > HANDSHAKE_LIMIT / 2 && took < HANDSHAKE_LIMIT + SOON, "{took:?}");
    is_ended(&mut client);
    let row = siege.row(client.address(), "the server's exchange");
    assert!(row.outcome == "failed" && row.reason.contains("no answer in time"), "{row:?}");
    siege.holds("exchanges that never end");
}
