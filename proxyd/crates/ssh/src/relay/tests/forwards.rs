//! Forwarded connections, agents and displays: only what was granted, and in the right order.

use super::*;

fn global(kind: &[u8], want_reply: bool, details: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(number::GLOBAL_REQUEST);
    writer.string(kind).bool(want_reply).raw(details);
    writer.into_bytes()
}

fn success(details: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(number::REQUEST_SUCCESS);
    writer.raw(details);
    writer.into_bytes()
}

/// The case that a message gives rise to.
fn judged<'m>(relay: &mut Relay, from: Side, message: &'m [u8]) -> Case<'m> {
    let step = relay.receive(from, message).unwrap();
    let Step::Judge(case) = step else { panic!("{step:?}") };
    case
}

fn passes(relay: &mut Relay, from: Side, message: &[u8]) -> bool {
    matches!(relay.receive(from, message).unwrap(), Step::Forward(_))
}

fn is_refused(relay: &mut Relay, from: Side, message: &[u8]) -> bool {
    matches!(relay.receive(from, message).unwrap(), Step::Refused(_))
}

#[test]
fn a_connection_through_the_server_is_judged_before_the_server_hears_of_it() {
    for allowed in [true, false] {
        let mut relay = relay();
        let message = open_with(b"direct-tcpip", 3, 60, &two_addresses());
        let asked = judged(&mut relay, Side::Client, &message);
        let to = Endpoint::Tcp(Address { host: b"10.9.9.9", port: 80 });
        let originator = Some(Address { host: b"127.0.0.1", port: 5000 });
        assert_eq!(asked.wish, Wish::Connect { to, originator });
        if allowed {
            assert_eq!(*relay.allow(&asked.docket, &message).unwrap(), message);
            assert!(passes(&mut relay, Side::Server, &confirm(3, 8)));
            assert!(passes(&mut relay, Side::Client, &data(8, b"GET /")));
            assert!(passes(&mut relay, Side::Server, &data(3, b"200")));
            assert!(passes(&mut relay, Side::Server, &plain(number::CHANNEL_EOF, 3)));
        } else {
            relay.refuse(&asked.docket, "no").unwrap();
            let refusal = channel::open_failure(3, OpenFailure::Prohibited, "no");
            assert_eq!(relay.answers(Side::Client), [refusal]);
            assert!(relay.receive(Side::Server, &confirm(3, 8)).is_err(), "nobody asked it");
        }
    }
}

#[test]
fn a_forwarded_channel_runs_no_programs() {
    let mut relay = relay();
    let message = open_with(b"direct-tcpip", 3, 60, &two_addresses());
    let asked = judged(&mut relay, Side::Client, &message);
    relay.allow(&asked.docket, &message).unwrap();
    relay.receive(Side::Server, &confirm(3, 8)).unwrap();
    for kind in [b"shell".as_slice(), b"exec", b"pty-req", b"auth-agent-req@openssh.com"] {
        let message = request(8, kind, true, &text(b"id"));
        assert!(is_refused(&mut relay, Side::Client, &message), "{kind:?}");
    }
    assert!(passes(&mut relay, Side::Client, &request(8, b"eow@openssh.com", false, b"")));
}

#[test]
fn the_server_listens_where_it_was_let_and_nowhere_else() {
    let forwarded = |host: &[u8], port| {
        let details = [address(host, port), address(b"192.0.2.1", 4000)].concat();
        open_with(b"forwarded-tcpip", 20, 60, &details)
    };
    let mut relay = relay();
    let ask = global(b"tcpip-forward", true, &address(b"localhost", 8080));
    let asked = judged(&mut relay, Side::Client, &ask);
    let at = Endpoint::Tcp(Address { host: b"localhost", port: 8080 });
    assert_eq!((asked.channel, &asked.wish), (None, &Wish::Listen { at }));
    assert!(is_refused(&mut relay, Side::Server, &forwarded(b"localhost", 8080)), "not yet");
    relay.allow(&asked.docket, &ask).unwrap();
    assert!(is_refused(&mut relay, Side::Server, &forwarded(b"localhost", 8080)), "no answer yet");
    assert!(passes(&mut relay, Side::Server, &success(b"")));
    assert!(is_refused(&mut relay, Side::Server, &forwarded(b"localhost", 8081)));
    let message = forwarded(b"127.0.0.1", 8080);
    let came = judged(&mut relay, Side::Server, &message);
    assert!(
        matches!(came.wish, Wish::Accepted { originator: Some(from), .. } if from.port == 4000)
    );
    relay.allow(&came.docket, &message).unwrap();
    assert!(passes(&mut relay, Side::Client, &confirm(20, 5)));
    assert!(passes(&mut relay, Side::Server, &data(5, b"hello")));
    assert!(passes(&mut relay, Side::Client, &data(20, b"hello")));
    let cancel = global(b"cancel-tcpip-forward", true, &address(b"localhost", 8080));
    assert!(passes(&mut relay, Side::Client, &cancel));
    assert!(passes(&mut relay, Side::Server, &success(b"")));
    assert!(is_refused(&mut relay, Side::Server, &forwarded(b"localhost", 8080)), "cancelled");
    assert!(is_refused(&mut relay, Side::Client, &cancel), "there is nothing to cancel");
}

#[test]
fn a_port_that_the_server_chose_is_known_by_its_answer() {
    let mut relay = relay();
    let ask = global(b"tcpip-forward", true, &address(b"", 0));
    let asked = judged(&mut relay, Side::Client, &ask);
    relay.allow(&asked.docket, &ask).unwrap();
    relay.receive(Side::Server, &success(&40_123_u32.to_be_bytes())).unwrap();
    let details = [address(b"", 40_123), address(b"::1", 1)].concat();
    let message = open_with(b"forwarded-tcpip", 1, 60, &details);
    judged(&mut relay, Side::Server, &message);
    let mut cut = super::relay();
    let asked = judged(&mut cut, Side::Client, &ask);
    cut.allow(&asked.docket, &ask).unwrap();
    assert!(cut.receive(Side::Server, &success(b"")).is_err(), "a port must be named");
}

#[test]
fn a_refused_listener_is_answered_in_its_turn() {
    let mut relay = relay();
    let keepalive = global::keepalive();
    assert!(passes(&mut relay, Side::Client, &keepalive));
    let ask = global(b"tcpip-forward", true, &address(b"", 8080));
    let asked = judged(&mut relay, Side::Client, &ask);
    relay.refuse(&asked.docket, "no").unwrap();
    assert!(relay.answers(Side::Client).is_empty(), "the keepalive comes first");
    assert!(passes(&mut relay, Side::Server, &global::failure()));
    assert_eq!(relay.answers(Side::Client), [global::failure()]);
}

#[test]
fn sockets_are_forwarded_like_ports() {
    let mut relay = relay();
    let ask = global(b"streamlocal-forward@openssh.com", true, &text(b"/run/a"));
    let at = Endpoint::Socket(b"/run/a");
    let listen = judged(&mut relay, Side::Client, &ask);
    assert_eq!(listen.wish, Wish::Listen { at });
    relay.allow(&listen.docket, &ask).unwrap();
    relay.receive(Side::Server, &success(b"")).unwrap();
    let forwarded = |path: &[u8]| {
        let details = [text(path), text(b"")].concat();
        open_with(b"forwarded-streamlocal@openssh.com", 2, 60, &details)
    };
    assert!(is_refused(&mut relay, Side::Server, &forwarded(b"/run/b")));
    judged(&mut relay, Side::Server, &forwarded(b"/run/a"));
    let details = [text(b"/run/c"), text(b""), 0_u32.to_be_bytes().to_vec()].concat();
    let message = open_with(b"direct-streamlocal@openssh.com", 9, 60, &details);
    let to = Endpoint::Socket(b"/run/c");
    let connect = judged(&mut relay, Side::Client, &message);
    assert_eq!(connect.wish, Wish::Connect { to, originator: None });
}

#[test]
fn the_client_s_agent_and_display_are_open_while_they_are_granted() {
    let display = |single: bool| {
        let mut details = Writer::new();
        details.bool(single).string(b"MIT-MAGIC-COOKIE-1").string(b"00").u32(0);
        request(9, b"x11-req", true, details.as_bytes())
    };
    let agent = request(9, b"auth-agent-req@openssh.com", true, b"");
    let use_agent = |number| open(b"auth-agent@openssh.com", number, 60);
    let use_display = |number| open_with(b"x11", number, 60, &address(b"127.0.0.1", 6010));
    let mut relay = with_session();
    assert!(is_refused(&mut relay, Side::Server, &use_agent(30)));
    assert!(is_refused(&mut relay, Side::Server, &use_display(30)));
    for message in [&agent, &display(true)] {
        let asked = judged(&mut relay, Side::Client, message);
        relay.allow(&asked.docket, message).unwrap();
    }
    for number in [31, 32] {
        judged(&mut relay, Side::Server, &use_agent(number));
    }
    judged(&mut relay, Side::Server, &use_display(33));
    assert!(is_refused(&mut relay, Side::Server, &use_display(34)), "a single one was granted");
    // The server refuses the agent, in the end.
    relay.receive(Side::Server, &plain(number::CHANNEL_FAILURE, 7)).unwrap();
    assert!(is_refused(&mut relay, Side::Server, &use_agent(35)));
}

#[test]
fn what_was_granted_ends_with_its_channel() {
    let mut relay = with_session();
    let agent = request(9, b"auth-agent-req@openssh.com", false, b"");
    let asked = judged(&mut relay, Side::Client, &agent);
    relay.allow(&asked.docket, &agent).unwrap();
    relay.receive(Side::Client, &plain(number::CHANNEL_CLOSE, 9)).unwrap();
    relay.receive(Side::Server, &plain(number::CHANNEL_CLOSE, 7)).unwrap();
    assert!(is_refused(&mut relay, Side::Server, &open(b"auth-agent@openssh.com", 1, 60)));
}

#[test]
fn what_comes_after_a_case_that_waits_is_held() {
    let mut relay = with_session();
    let exec = request(9, b"exec", true, &text(b"id"));
    let asked = judged(&mut relay, Side::Client, &exec);
    let held = Held::Channel(ChannelId(0));
    assert_eq!(relay.wait(&asked.docket), Some(held));
    for message in [data(9, b"typed ahead"), plain(number::CHANNEL_EOF, 9), exec.clone()] {
        let step = relay.receive(Side::Client, &message).unwrap();
        assert!(matches!(step, Step::Hold(behind) if behind == held), "{step:?}");
    }
    assert!(passes(&mut relay, Side::Client, &channel::adjust(9, 1)), "credit does not wait");
    let ask = request(7, b"keepalive@openssh.com", true, b"");
    assert!(passes(&mut relay, Side::Server, &ask));
    let reply = plain(number::CHANNEL_FAILURE, 9);
    assert!(passes(&mut relay, Side::Client, &reply), "nor does what the server asked for");
    assert!(passes(&mut relay, Side::Client, &open(b"session", 8, 60)), "nor do other channels");
    relay.resume(&asked.docket);
    let asked = judged(&mut relay, Side::Client, &exec);
    relay.allow(&asked.docket, &exec).unwrap();
    assert!(passes(&mut relay, Side::Client, &data(9, b"typed ahead")));
}

#[test]
fn an_opening_that_waits_is_opened_when_it_is_received_again() {
    let mut relay = relay();
    let message = open_with(b"direct-tcpip", 3, 60, &two_addresses());
    let asked = judged(&mut relay, Side::Client, &message);
    assert_eq!(relay.wait(&asked.docket), None);
    assert!(relay.receive(Side::Server, &confirm(3, 8)).is_err(), "nobody asked the server");
    relay.resume(&asked.docket);
    let asked = judged(&mut relay, Side::Client, &message);
    relay.allow(&asked.docket, &message).unwrap();
    assert!(passes(&mut relay, Side::Server, &confirm(3, 8)));
}

#[test]
fn global_requests_wait_for_one_that_waits() {
    let mut relay = with_session();
    let ask = global(b"tcpip-forward", true, &address(b"", 8080));
    let asked = judged(&mut relay, Side::Client, &ask);
    assert_eq!(relay.wait(&asked.docket), Some(Held::Global));
    let later = global::keepalive();
    let step = relay.receive(Side::Client, &later).unwrap();
    assert!(matches!(step, Step::Hold(Held::Global)), "{step:?}");
    relay.resume(&asked.docket);
    let asked = judged(&mut relay, Side::Client, &ask);
    relay.refuse(&asked.docket, "no").unwrap();
    assert_eq!(relay.answers(Side::Client), [global::failure()]);
    assert!(passes(&mut relay, Side::Client, &global::keepalive()));
}

#[test]
fn listeners_are_counted() {
    let mut relay = relay();
    for port in 0..crate::limits::LISTENERS_MAX {
        let port = 1_000 + u32::try_from(port).unwrap();
        let ask = global(b"tcpip-forward", false, &address(b"", port));
        let asked = judged(&mut relay, Side::Client, &ask);
        relay.allow(&asked.docket, &ask).unwrap();
    }
    let ask = global(b"tcpip-forward", true, &address(b"", 9_999));
    assert!(is_refused(&mut relay, Side::Client, &ask));
    assert_eq!(relay.answers(Side::Client), [global::failure()]);
}

#[test]
fn openings_and_requests_must_have_their_form() {
    let display = [&[1_u8][..], &text(b"p"), &text(b"c"), &[0, 0, 0, 0]].concat();
    let socket = [text(b"/run/c"), text(b""), vec![0; 4]].concat();
    let cases: [(Side, Vec<u8>); 7] = [
        (Side::Client, open_with(b"direct-tcpip", 3, 60, &two_addresses())),
        (Side::Client, open_with(b"direct-streamlocal@openssh.com", 3, 60, &socket)),
        (Side::Server, open_with(b"forwarded-tcpip", 3, 60, &two_addresses())),
        (Side::Server, open_with(b"x11", 3, 60, &address(b"::1", 1))),
        (Side::Client, request(9, b"x11-req", true, &display)),
        (Side::Client, global(b"tcpip-forward", true, &address(b"", 1))),
        (Side::Client, global(b"streamlocal-forward@openssh.com", true, &text(b"/run/a"))),
    ];
    for (from, message) in cases {
        for length in message.len() - 5..message.len() {
            assert!(with_session().receive(from, &message[..length]).is_err(), "{message:?}");
        }
        let longer = [message.as_slice(), &[0]].concat();
        assert!(with_session().receive(from, &longer).is_err(), "{message:?}");
    }
}

#[test]
fn a_channel_that_was_confirmed_early_has_two_numbers_of_the_server() {
    const ALIAS: u32 = 0x8000_0000;
    let mut relay = relay();
    assert!(passes(&mut relay, Side::Client, &open(b"session", 7, 60)));
    relay.adopt(7, ALIAS).unwrap();
    let message = Confirmation {
        recipient: 7,
        sender: 9,
        window_bytes: 50,
        packet_bytes_max: 32_768,
        details: b"",
    }
    .encode();
    let step = relay.receive(Side::Server, &message).unwrap();
    let credit = channel::adjust(7, 50);
    assert!(matches!(&step, Step::Replace(message, _) if *message == credit), "{step:?}");
    let shell = request(ALIAS, b"shell", true, b"");
    let asked = judged(&mut relay, Side::Client, &shell);
    let allowed = relay.allow(&asked.docket, &shell).unwrap();
    assert_eq!(*allowed, request(9, b"shell", true, b""));
    let typed = data(ALIAS, b"typed");
    let step = relay.receive(Side::Client, &typed).unwrap();
    let renumbered = data(9, b"typed");
    assert!(matches!(&step, Step::Replace(message, _) if *message == renumbered), "{step:?}");
    assert!(passes(&mut relay, Side::Server, &data(7, b"shown")));
    let own = data(9, b"x");
    assert!(relay.receive(Side::Client, &own).is_err(), "the client never heard of 9");
    relay.receive(Side::Server, &plain(number::CHANNEL_CLOSE, 7)).unwrap();
    relay.receive(Side::Client, &plain(number::CHANNEL_CLOSE, ALIAS)).unwrap();
    assert!(relay.receive(Side::Client, &typed).is_err(), "it is closed");
}

#[test]
fn a_channel_that_was_confirmed_early_cannot_be_refused() {
    for message in [
        channel::open_failure(7, OpenFailure::Shortage, "no"),
        Confirmation {
            recipient: 7,
            sender: 9,
            window_bytes: 50,
            packet_bytes_max: 1_000,
            details: b"",
        }
        .encode(),
    ] {
        let mut relay = relay();
        assert!(passes(&mut relay, Side::Client, &open(b"session", 7, 60)));
        relay.adopt(7, 0x8000_0000).unwrap();
        assert!(relay.receive(Side::Server, &message).is_err());
    }
}
