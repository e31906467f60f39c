//! The relay by tables of messages: what goes on, what is answered, what ends the connection.

mod forwards;
mod model;

use super::tap::Stream;
use super::*;
use crate::cursor::Writer;
use crate::message::channel::data;

fn relay() -> Relay {
    Relay::new(Rules { environment: vec!["LANG".to_owned(), "LC_*".to_owned()] })
}

fn open(kind: &[u8], sender: u32, packet_bytes_max: u32) -> Vec<u8> {
    open_with(kind, sender, packet_bytes_max, b"")
}

fn open_with(kind: &[u8], sender: u32, packet_bytes_max: u32, details: &[u8]) -> Vec<u8> {
    Open { kind, sender, window_bytes: 100, packet_bytes_max, details }.encode()
}

fn address(host: &[u8], port: u32) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.string(host).u32(port);
    writer.into_bytes()
}

/// Where a connection goes, or came in, and where it comes from.
fn two_addresses() -> Vec<u8> {
    [address(b"10.9.9.9", 80), address(b"127.0.0.1", 5000)].concat()
}

fn confirm(recipient: u32, sender: u32) -> Vec<u8> {
    Confirmation { recipient, sender, window_bytes: 50, packet_bytes_max: 40, details: b"" }
        .encode()
}

fn request(recipient: u32, kind: &[u8], want_reply: bool, details: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(number::CHANNEL_REQUEST);
    writer.u32(recipient).string(kind).bool(want_reply).raw(details);
    writer.into_bytes()
}

fn text(value: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.string(value);
    writer.into_bytes()
}

fn plain(number: u8, recipient: u32) -> Vec<u8> {
    let mut writer = Writer::message(number);
    writer.u32(recipient);
    writer.into_bytes()
}

/// A relay with one confirmed session: 7 is the client's number, 9 the server's.
fn with_session() -> Relay {
    let mut relay = relay();
    let message = open(b"session", 7, 60);
    let step = relay.receive(Side::Client, &message).unwrap();
    assert!(matches!(step, Step::Forward(Seen::Nothing)), "{step:?}");
    let message = confirm(7, 9);
    let step = relay.receive(Side::Server, &message).unwrap();
    assert!(matches!(step, Step::Forward(Seen::Opened { open: true, .. })), "{step:?}");
    relay
}

fn started() -> Relay {
    let mut relay = with_session();
    let message = request(9, b"shell", true, b"");
    let step = relay.receive(Side::Client, &message).unwrap();
    let Step::Judge(case) = step else { panic!("{step:?}") };
    assert_eq!(case.wish, Wish::Program(Program::Shell));
    relay.allow(&case.docket, &message).unwrap();
    relay
}

#[test]
fn data_passes_once_a_program_runs() {
    let mut relay = started();
    let message = data(9, b"typed");
    let step = relay.receive(Side::Client, &message).unwrap();
    let channel = ChannelId(0);
    let expected = Seen::Data { channel, stream: Stream::Stdin, bytes: b"typed" };
    assert!(matches!(step, Step::Forward(seen) if seen == expected), "{step:?}");
    let message = channel::stderr(7, b"shown");
    let step = relay.receive(Side::Server, &message).unwrap();
    let expected = Seen::Data { channel, stream: Stream::Stderr, bytes: b"shown" };
    assert!(matches!(step, Step::Forward(seen) if seen == expected), "{step:?}");
}

#[test]
fn data_before_a_program_goes_nowhere() {
    let mut relay = with_session();
    let message = data(9, b"early");
    let step = relay.receive(Side::Client, &message).unwrap();
    assert!(matches!(step, Step::Drop), "{step:?}");
    assert_eq!(relay.answers(Side::Client), [channel::adjust(7, 5)]);
    let error = relay.receive(Side::Server, &data(7, b"early")).unwrap_err();
    assert!(matches!(error, RelayError::NotStarted), "{error}");
}

#[test]
fn a_refused_program_is_told_in_order() {
    let mut relay = relay();
    let wide = Open {
        kind: b"session",
        sender: 7,
        window_bytes: 100_000,
        packet_bytes_max: 60,
        details: b"",
    };
    let message = wide.encode();
    let step = relay.receive(Side::Client, &message).unwrap();
    // Some of the credit is kept for what the relay says.
    let announced = Open { window_bytes: 98_976, ..wide }.encode();
    assert!(matches!(&step, Step::Replace(message, _) if *message == announced), "{step:?}");
    relay.receive(Side::Server, &confirm(7, 9)).unwrap();
    let pty = {
        let mut details = Writer::new();
        details.string(b"xterm").u32(80).u32(24).u32(0).u32(0).string(b"");
        request(9, b"pty-req", true, details.as_bytes())
    };
    let step = relay.receive(Side::Client, &pty).unwrap();
    assert!(matches!(step, Step::Forward(Seen::Terminal { .. })), "{step:?}");
    let exec = request(9, b"exec", true, &text(b"id"));
    let step = relay.receive(Side::Client, &exec).unwrap();
    let Step::Judge(case) = step else { panic!("{step:?}") };
    assert_eq!(case.wish, Wish::Program(Program::Exec(b"id")));
    relay.refuse(&case.docket, "no\n").unwrap();
    // The text comes at once, the refusal only after the reply to the terminal's request and after
    // the client has answered what was sent behind the text.
    let text = channel::stderr(7, b"no\n");
    assert_eq!(relay.answers(Side::Client), [text, global::keepalive()]);
    let answered = global::failure();
    let step = relay.receive(Side::Client, &answered).unwrap();
    assert!(matches!(step, Step::Drop), "{step:?}");
    assert!(relay.answers(Side::Client).is_empty());
    let message = plain(number::CHANNEL_SUCCESS, 7);
    let step = relay.receive(Side::Server, &message).unwrap();
    assert!(matches!(step, Step::Forward(Seen::Nothing)), "{step:?}");
    assert_eq!(relay.answers(Side::Client), [channel::reply(7, false)]);
    // The client's next credit makes good what the text took.
    let mut adjust = channel::adjust(9, 10);
    let step = relay.receive(Side::Client, &adjust).unwrap();
    assert!(matches!(&step, Step::Replace(message, _) if *message == channel::adjust(9, 7)));
    adjust = channel::adjust(9, 10);
    let step = relay.receive(Side::Client, &adjust).unwrap();
    assert!(matches!(step, Step::Forward(Seen::Nothing)), "{step:?}");
}

#[test]
fn what_a_channel_request_becomes() {
    let variable = |name: &[u8]| [text(name), text(b"value")].concat();
    let size = [80_u32, 24, 0, 0].map(u32::to_be_bytes).concat();
    let cases: [(&str, Side, &[u8], Vec<u8>, bool); 10] = [
        ("named variable", Side::Client, b"env", variable(b"LANG"), true),
        ("starred variable", Side::Client, b"env", variable(b"LC_ALL"), true),
        ("other variable", Side::Client, b"env", variable(b"LD_PRELOAD"), false),
        ("resize", Side::Client, b"window-change", size, true),
        ("signal", Side::Client, b"signal", text(b"INT"), true),
        ("second program", Side::Client, b"exec", text(b"id"), false),
        ("unheard of", Side::Client, b"teleport", Vec::new(), false),
        ("exit status", Side::Server, b"exit-status", vec![0, 0, 0, 3], true),
        ("keepalive", Side::Server, b"keepalive@openssh.com", Vec::new(), true),
        ("server asks for a program", Side::Server, b"exec", text(b"id"), false),
    ];
    for (case, from, kind, details, passes) in cases {
        let mut relay = started();
        let (named, own) = if from == Side::Client { (9, 7) } else { (7, 9) };
        // The reply to the shell request is out of the way.
        relay.receive(Side::Server, &plain(number::CHANNEL_SUCCESS, 7)).unwrap();
        let message = request(named, kind, true, &details);
        let step = relay.receive(from, &message).unwrap();
        if passes {
            assert!(matches!(step, Step::Forward(_)), "{case}: {step:?}");
            assert!(relay.answers(from).is_empty(), "{case}");
        } else {
            assert!(matches!(step, Step::Refused(Refused::Request(_))), "{case}: {step:?}");
            assert_eq!(relay.answers(from), [channel::reply(own, false)], "{case}");
        }
    }
}

#[test]
fn channels_that_nobody_granted_are_refused() {
    let cases: [(Side, &[u8], Vec<u8>, OpenFailure); 7] = [
        (Side::Client, b"tun@openssh.com", Vec::new(), OpenFailure::Prohibited),
        (Side::Client, b"nonsense", Vec::new(), OpenFailure::UnknownKind),
        (Side::Client, b"auth-agent@openssh.com", Vec::new(), OpenFailure::Prohibited),
        (Side::Server, b"session", Vec::new(), OpenFailure::Prohibited),
        (Side::Server, b"forwarded-tcpip", two_addresses(), OpenFailure::Prohibited),
        (Side::Server, b"x11", address(b"::1", 6010), OpenFailure::Prohibited),
        (Side::Server, b"auth-agent@openssh.com", Vec::new(), OpenFailure::Prohibited),
    ];
    for (from, kind, details, reason) in cases {
        let mut relay = relay();
        let message = open_with(kind, 3, 60, &details);
        let step = relay.receive(from, &message).unwrap();
        assert!(matches!(step, Step::Refused(Refused::Channel(_))), "{kind:?}: {step:?}");
        let answers = relay.answers(from);
        assert_eq!(answers[0][..9], channel::open_failure(3, reason, "")[..9], "{kind:?}");
    }
}

#[test]
fn what_breaks_the_protocol_ends_the_connection() {
    let exit = request(9, b"exit-status", false, b"");
    let cases: [(&str, Side, Vec<u8>); 15] = [
        ("standard error of a client", Side::Client, channel::stderr(9, b"x")),
        ("data above the window", Side::Client, data(9, &[0; 51])),
        ("packet above the maximum", Side::Client, data(9, &[0; 41])),
        ("data for a channel never opened", Side::Client, data(8, b"x")),
        ("data for the sender's own number", Side::Client, data(7, b"x")),
        ("data of the server elsewhere", Side::Server, data(9, b"x")),
        ("number in use", Side::Client, open(b"session", 7, 60)),
        ("no packets", Side::Client, open(b"session", 8, 0)),
        ("second confirmation", Side::Server, confirm(7, 10)),
        ("confirmation by the client", Side::Client, confirm(7, 10)),
        ("window overflow", Side::Client, channel::adjust(9, u32::MAX)),
        ("global reply to nothing", Side::Server, global::failure()),
        ("success of authentication", Side::Server, vec![number::USERAUTH_SUCCESS]),
        ("service request", Side::Client, vec![number::SERVICE_REQUEST]),
        ("request without details", Side::Client, exit[..7].to_vec()),
    ];
    for (case, from, message) in cases {
        let mut relay = started();
        let result = relay.receive(from, &message);
        assert!(result.is_err(), "{case}: {result:?}");
    }
}

#[test]
fn replies_need_requests() {
    let mut relay = started();
    relay.receive(Side::Server, &plain(number::CHANNEL_SUCCESS, 7)).unwrap();
    let error = relay.receive(Side::Server, &plain(number::CHANNEL_SUCCESS, 7)).unwrap_err();
    assert!(matches!(error, RelayError::UnsolicitedReply), "{error}");
}

#[test]
fn ends_of_a_channel() {
    let mut relay = started();
    relay.receive(Side::Client, &plain(number::CHANNEL_EOF, 9)).unwrap();
    assert!(relay.receive(Side::Client, &data(9, b"x")).is_err(), "data after eof");
    let mut relay = started();
    relay.receive(Side::Client, &plain(number::CHANNEL_EOF, 9)).unwrap();
    relay.receive(Side::Server, &data(7, b"half closed")).unwrap();
    relay.receive(Side::Server, &plain(number::CHANNEL_CLOSE, 7)).unwrap();
    assert!(relay.receive(Side::Server, &data(7, b"x")).is_err(), "data after close");
    relay.receive(Side::Client, &plain(number::CHANNEL_CLOSE, 9)).unwrap();
    let error = relay.receive(Side::Client, &plain(number::CHANNEL_CLOSE, 9)).unwrap_err();
    assert!(matches!(error, RelayError::UnknownChannel { number: 9 }), "{error}");
    // The numbers are free again, the record's number is not.
    relay.receive(Side::Client, &open(b"session", 7, 60)).unwrap();
    let message = confirm(7, 9);
    let step = relay.receive(Side::Server, &message).unwrap();
    let expected = Seen::Opened { channel: ChannelId(1), open: true };
    assert!(matches!(step, Step::Forward(seen) if seen == expected), "{step:?}");
}

#[test]
fn global_requests() {
    let ask = |kind: &[u8]| {
        let mut writer = Writer::message(number::GLOBAL_REQUEST);
        writer.string(kind).bool(true);
        writer.into_bytes()
    };
    let cases: [(Side, &[u8], bool); 5] = [
        (Side::Client, b"keepalive@openssh.com", true),
        (Side::Client, b"no-more-sessions@openssh.com", true),
        (Side::Client, b"hostkeys-prove-00@openssh.com", false),
        (Side::Server, b"keepalive@openssh.com", true),
        (Side::Server, b"hostkeys-00@openssh.com", false),
    ];
    for (from, kind, passes) in cases {
        let mut relay = relay();
        let message = ask(kind);
        let step = relay.receive(from, &message).unwrap();
        assert_eq!(matches!(step, Step::Forward(_)), passes, "{kind:?}: {step:?}");
        let answers = relay.answers(from);
        assert_eq!(answers.is_empty(), passes, "{kind:?}");
        let refusal = global::failure();
        let reply = relay.receive(from.other(), &refusal);
        assert_eq!(reply.is_ok(), passes, "{kind:?}: {reply:?}");
    }
}

#[test]
fn large_packets_are_announced_smaller() {
    let mut relay = relay();
    let message = open(b"session", 1, u32::MAX);
    let step = relay.receive(Side::Client, &message).unwrap();
    let Step::Replace(replaced, _) = step else { panic!("{step:?}") };
    let limit = crate::limits::DATA_PACKET_BYTES_MAX;
    assert_eq!(Open::parse(&replaced).unwrap().packet_bytes_max, limit);
}

#[test]
fn channels_are_counted() {
    let mut relay = relay();
    for number in 0..crate::limits::CHANNELS_MAX {
        let number = u32::try_from(number).unwrap();
        relay.receive(Side::Client, &open(b"session", number, 60)).unwrap();
    }
    let message = open(b"session", 9_999, 60);
    let step = relay.receive(Side::Client, &message).unwrap();
    assert!(matches!(step, Step::Refused(_)), "{step:?}");
}

#[test]
fn a_message_cut_at_any_byte_never_panics() {
    let messages = [
        open(b"session", 8, 60),
        confirm(7, 9),
        request(9, b"env", true, &[text(b"LANG"), text(b"C")].concat()),
        data(9, b"abc"),
        channel::adjust(9, 1),
        plain(number::CHANNEL_CLOSE, 9),
    ];
    for message in messages {
        for length in 1..message.len() {
            let mut relay = started();
            // Nothing to assert but that it returns: a cut field may end where an optional part
            // begins.
            drop(relay.receive(Side::Client, &message[..length]).map(|_step| ()));
        }
    }
}

#[test]
fn what_a_closed_peer_would_get_goes_nowhere() {
    let mut relay = started();
    relay.receive(Side::Server, &plain(number::CHANNEL_SUCCESS, 7)).unwrap();
    relay.receive(Side::Server, &plain(number::CHANNEL_CLOSE, 7)).unwrap();
    let late = [data(9, b"unrecorded"), request(9, b"exec", false, &text(b"id"))];
    for message in late {
        let step = relay.receive(Side::Client, &message).unwrap();
        assert!(matches!(step, Step::Drop), "{step:?}");
    }
    let close = plain(number::CHANNEL_CLOSE, 9);
    let step = relay.receive(Side::Client, &close).unwrap();
    assert!(matches!(step, Step::Forward(Seen::Closed { .. })), "{step:?}");
}

#[test]
fn an_exit_status_may_cross_the_close_of_the_client() {
    let mut relay = started();
    relay.receive(Side::Server, &plain(number::CHANNEL_SUCCESS, 7)).unwrap();
    relay.receive(Side::Client, &plain(number::CHANNEL_CLOSE, 9)).unwrap();
    let message = request(7, b"exit-status", false, &[0, 0, 0, 3]);
    let step = relay.receive(Side::Server, &message).unwrap();
    assert!(matches!(step, Step::Forward(Seen::ExitStatus { status: 3, .. })), "{step:?}");
}

#[test]
fn a_server_may_reply_before_a_refusal_was_read() {
    let mut relay = with_session();
    let refused = request(9, b"exec", true, &text(b"id"));
    let step = relay.receive(Side::Client, &refused).unwrap();
    let Step::Judge(case) = step else { panic!("{step:?}") };
    relay.refuse(&case.docket, "no\n").unwrap();
    relay.answers(Side::Client);
    let allowed = request(9, b"shell", true, b"");
    let step = relay.receive(Side::Client, &allowed).unwrap();
    let Step::Judge(case) = step else { panic!("{step:?}") };
    relay.allow(&case.docket, &allowed).unwrap();
    let success = plain(number::CHANNEL_SUCCESS, 7);
    let step = relay.receive(Side::Server, &success).unwrap();
    assert!(matches!(step, Step::Drop), "it waits: {step:?}");
    let read = global::failure();
    relay.receive(Side::Client, &read).unwrap();
    assert_eq!(relay.answers(Side::Client), [channel::reply(7, false), success]);
}

#[test]
fn a_program_that_the_server_lacks_may_be_followed_by_another() {
    let mut relay = with_session();
    for (kind, reply) in
        [(b"subsystem".as_slice(), number::CHANNEL_FAILURE), (b"exec", number::CHANNEL_SUCCESS)]
    {
        let message = request(9, kind, true, &text(b"sftp"));
        let step = relay.receive(Side::Client, &message).unwrap();
        let Step::Judge(case) = step else { panic!("{step:?}") };
        relay.allow(&case.docket, &message).unwrap();
        relay.receive(Side::Server, &plain(reply, 7)).unwrap();
    }
    let message = request(9, b"shell", true, b"");
    let step = relay.receive(Side::Client, &message).unwrap();
    assert!(matches!(step, Step::Refused(_)), "one runs: {step:?}");
}
