//! Peers that break the rules, in both roles.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::{any, proptest};

use super::super::kexinit::{Round, compose};
use super::super::number::{
    EXT_INFO, GEX_GROUP, GEX_INIT, GEX_REQUEST, IGNORE, KEX_INIT, KEX_REPLY, KEXINIT, NEWKEYS, PING,
};
use super::super::*;
use super::harness::{
    Joined, Seen, carry, certified, client_config, configs, events, feed, inject, message,
    one_suite, server_config, suites, written,
};
use crate::limits::IDLE_MESSAGES_BEFORE_AUTH_MAX;

const NOW: Duration = Duration::ZERO;

/// Packets in the clear, one for each payload.
fn plain(payloads: &[&[u8]]) -> Vec<u8> {
    let (mut sealer, mut bytes) = (Sealer::default(), Vec::new());
    payloads.iter().for_each(|payload| sealer.seal(&[payload], &mut bytes).unwrap());
    bytes
}

/// A client's KEXINIT that offers one key exchange method.
fn kexinit(kex: KexMethod) -> Vec<u8> {
    let algorithms = Algorithms { kex: vec![kex], ..Algorithms::recommended() };
    compose(&algorithms, Side::Client, Round::First).unwrap()
}

fn share(bytes: &[u8]) -> Vec<u8> {
    let mut writer = Writer::message(KEX_INIT);
    writer.string(bytes);
    writer.into_bytes()
}

/// What a server makes of these packets after a client's version line.
fn server_after(payloads: &[&[u8]]) -> Result<Vec<Seen>, Error> {
    let mut server = Leg::server(server_config(), NOW);
    feed(&mut server, b"SSH-2.0-x\r\n", NOW)?;
    feed(&mut server, &plain(payloads), NOW)
}

#[test]
fn messages_before_there_are_keys() {
    let init = kexinit(KexMethod::Curve25519);
    let good_share = share(&KexMethod::Curve25519.scheme().unwrap().start().unwrap().0);
    let cut = &init[..40];
    type Case<'a> = (&'static str, &'a [&'a [u8]], Option<u8>);
    let cases: [Case<'_>; 14] = [
        ("service request first", &[&[5, 0, 0, 0, 0]], Some(5)),
        ("authentication first", &[&[50]], Some(50)),
        ("channel data first", &[&[94]], Some(94)),
        ("new keys first", &[&[NEWKEYS]], Some(NEWKEYS)),
        ("share first", &[&good_share], Some(KEX_INIT)),
        ("ping first", &[&[PING, 0, 0, 0, 0]], Some(PING)),
        ("reserved number first", &[&[0]], Some(0)),
        ("second kexinit", &[&init, &init], Some(KEXINIT)),
        ("new keys before the share", &[&init, &[NEWKEYS]], Some(NEWKEYS)),
        ("share twice", &[&init, &good_share, &good_share], Some(KEX_INIT)),
        ("a server's share", &[&init, &[KEX_REPLY]], Some(KEX_REPLY)),
        ("ignore within a strict exchange", &[&init, &[IGNORE]], Some(IGNORE)),
        ("service request before new keys", &[&init, &good_share, &[5]], Some(5)),
        ("a cut kexinit", &[cut], None),
    ];
    for (case, payloads, expected) in cases {
        let failure = server_after(payloads).unwrap_err();
        match expected {
            Some(expected) => {
                let illegal =
                    matches!(failure, Error::Unexpected { number, .. } if number == expected);
                assert!(illegal, "{case}: {failure}");
            }
            None => assert!(matches!(failure, Error::Decode(_)), "{case}: {failure}"),
        }
    }
}

#[test]
fn degenerate_shares_end_the_connection() {
    for (case, bytes) in [("zero", vec![0; 32]), ("short", vec![9; 31]), ("long", vec![9; 33])] {
        let payloads = [kexinit(KexMethod::Curve25519), share(&bytes)];
        let failure = server_after(&[&payloads[0], &payloads[1]]).unwrap_err();
        assert!(matches!(failure, Error::BadShare { .. }), "{case}: {failure}");
        assert_eq!(failure.reason(), number::REASON_KEY_EXCHANGE_FAILED);
    }
}

/// The messages before the shares of a group exchange, out of order or with sizes that are none.
#[test]
fn group_exchanges_out_of_order_end_the_connection() {
    let init = kexinit(KexMethod::GroupExchangeSha256);
    let request = |sizes: [u32; 3]| {
        let mut writer = Writer::message(GEX_REQUEST);
        sizes.into_iter().for_each(|size| {
            writer.u32(size);
        });
        writer.into_bytes()
    };
    let good = request([2048, 2048, 8192]);
    let mut one = Writer::message(GEX_INIT);
    one.mpint(&[1]);
    let cut = good[..12].to_vec();
    let share = share(&[2]);
    type Case<'a> = (&'static str, &'a [&'a [u8]], fn(&Error) -> bool);
    let unexpected: fn(&Error) -> bool = |error| matches!(error, Error::Unexpected { .. });
    let cases: [Case<'_>; 7] = [
        ("share first", &[&init, &[GEX_INIT, 0, 0, 0, 1, 2]], unexpected),
        ("request of old", &[&init, &share], unexpected),
        ("request twice", &[&init, &good, &good], unexpected),
        ("share of another method", &[&init, &good, &share], unexpected),
        ("share of one", &[&init, &good, one.as_bytes()], |error| {
            matches!(error, Error::BadShare { .. })
        }),
        ("cut request", &[&init, &cut], |error| matches!(error, Error::Decode(_))),
        ("too small", &[&init, &request([512, 1024, 1024])], |error| {
            matches!(error, Error::NoGroup { .. })
        }),
    ];
    for (case, payloads, expected) in cases {
        let failure = server_after(payloads).unwrap_err();
        assert!(expected(&failure), "{case}: {failure}");
    }
}

/// A server whose group is one that a client can be cheated with.
#[test]
fn a_group_that_is_none_ends_the_connection() {
    let (config, server) = configs(|algorithms| {
        algorithms.kex = vec![KexMethod::GroupExchangeSha256];
    });
    let init = compose(&server.algorithms, Side::Server, Round::First).unwrap();
    let mut group = Writer::message(GEX_GROUP);
    group.mpint(&[0xff; 128]).mpint(&[2]);
    let mut client = Leg::client(config, NOW);
    feed(&mut client, b"SSH-2.0-x\r\n", NOW).unwrap();
    let failure = feed(&mut client, &plain(&[&init, group.as_bytes()]), NOW).unwrap_err();
    assert!(matches!(failure, Error::GroupSize { bits: 1024, .. }), "{failure}");
    assert_eq!(failure.reason(), number::REASON_KEY_EXCHANGE_FAILED);
}

#[test]
fn a_wrong_guess_is_dropped_and_a_right_one_used() {
    for (method, wrong) in [(KexMethod::Curve25519, true), (KexMethod::MlKem768X25519, false)] {
        let mut init = kexinit(method);
        // first_kex_packet_follows, before the reserved word
        let flag = init.len() - 5;
        init[flag] = 1;
        let good_share = share(&method.scheme().unwrap().start().unwrap().0);
        let mut server = Leg::server(server_config(), NOW);
        feed(&mut server, b"SSH-2.0-x\r\n", NOW).unwrap();
        let answered = |server: &Leg| matches!(server.exchange, Exchange::ExpectNewKeys(_));
        let first: &[u8] = if wrong { &[KEX_INIT, 1, 2, 3] } else { &good_share };
        feed(&mut server, &plain(&[&init, first]), NOW).unwrap();
        assert_eq!(answered(&server), !wrong);
        if wrong {
            feed(&mut server, &plain(&[&good_share]), NOW).unwrap();
            assert!(answered(&server));
        }
    }
}

#[test]
fn ignored_messages_before_authentication_have_a_bound() {
    let ignore: &[u8] = &[IGNORE, 0, 0, 0, 0];
    let failure = server_after(&vec![ignore; 20_000]).unwrap_err();
    assert!(matches!(failure, Error::TooManyIdle { .. }), "{failure}");

    for payload in [ignore, &[PING, 0, 0, 0, 0], &[19]] {
        let mut joined = Joined::established(client_config(), server_config());
        for _ in 0..IDLE_MESSAGES_BEFORE_AUTH_MAX {
            inject(&mut joined.client, payload);
        }
        joined.run(usize::MAX);
        inject(&mut joined.client, payload);
        carry(&mut joined.client, &mut joined.server, usize::MAX);
        let failure = events(&mut joined.server, NOW).unwrap_err();
        assert!(matches!(failure, Error::TooManyIdle { .. }), "{failure}");
    }

    let mut joined = Joined::authenticated(client_config(), server_config());
    for _ in 0..2 * IDLE_MESSAGES_BEFORE_AUTH_MAX {
        inject(&mut joined.client, ignore);
    }
    joined.run(usize::MAX);
}

#[test]
fn exchanges_before_authentication_have_a_bound() {
    let mut joined = Joined::established(client_config(), server_config());
    joined.client.start_exchange(NOW).unwrap();
    joined.run(usize::MAX);
    assert!(joined.at_server.ends_with(&[Seen::Rekeyed]));
    joined.client.start_exchange(NOW).unwrap();
    carry(&mut joined.client, &mut joined.server, usize::MAX);
    let failure = events(&mut joined.server, NOW).unwrap_err();
    assert!(matches!(failure, Error::TooManyExchanges { limit: 2 }), "{failure}");
}

/// Terrapin (CVE-2023-48795): a message put in before the keys hides the removal of one after them.
#[test]
fn a_prefix_cannot_be_cut() {
    let mut joined = Joined::new(client_config(), server_config());
    let version = written(&mut joined.client);
    feed(&mut joined.server, &version, NOW).unwrap();
    feed(&mut joined.server, &plain(&[&[IGNORE, 0, 0, 0, 0]]), NOW).unwrap();
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    events(&mut joined.client, NOW).unwrap();
    carry(&mut joined.client, &mut joined.server, usize::MAX);
    let failure = events(&mut joined.server, NOW).unwrap_err();
    assert!(matches!(failure, Error::NotFirst { packets: 1 }), "{failure}");
}

#[test]
fn no_byte_of_a_servers_exchange_can_be_changed() {
    let bytes = changed_anywhere(&client_config(), &server_config());
    assert!(bytes > 1200, "the reply was {bytes} bytes long");

    let (client, mut server) = configs(|algorithms| {
        algorithms.kex = vec![KexMethod::EcdhP256];
        algorithms.host_certificates = vec![KeyAlgorithm::Ed25519];
    });
    let ca = HostKey::generate_ecdsa().unwrap();
    server.host_keys = vec![Arc::new(certified(HostKey::generate_ed25519().unwrap(), &ca))];
    let bytes = changed_anywhere(&client, &server);
    assert!(bytes > 500, "the reply with a certificate was {bytes} bytes long");
}

/// Changes each byte of the server's answer in turn, which the client has to find out; how many
/// there are.
fn changed_anywhere(client: &ClientConfig, server: &ServerConfig) -> usize {
    let mut mutable = 0;
    for index in 0.. {
        let mut client = Leg::client(client.clone(), NOW);
        let mut server = Leg::server(server.clone(), NOW);
        let version = written(&mut server);
        feed(&mut client, &version, NOW).unwrap();
        let hello = written(&mut client);
        feed(&mut server, &hello, NOW).unwrap();
        let init = written(&mut server);
        feed(&mut client, &init, NOW).unwrap();
        let share = written(&mut client);
        feed(&mut server, &share, NOW).unwrap();
        let mut reply = written(&mut server);
        // The first packet is the answer to the share, the second NEWKEYS.
        let length = usize::try_from(u32::from_be_bytes(*reply.first_chunk().unwrap())).unwrap();
        let padding = usize::from(reply[4]);
        let position = 5 + index;
        if position >= 4 + length - padding {
            break;
        }
        reply[position] ^= 1;
        let outcome = feed(&mut client, &reply, NOW);
        assert!(outcome.is_err(), "byte {position} of the reply");
        mutable += 1;
    }
    mutable
}

/// What a man in the middle does to make both sides fall back.
#[test]
fn a_changed_kexinit_is_found_out() {
    for (from, to) in [("kex-strict-s", "kex-strixt-s"), ("aes128-gcm", "aes127-gcm")] {
        let mut joined = Joined::new(client_config(), server_config());
        carry(&mut joined.client, &mut joined.server, usize::MAX);
        events(&mut joined.server, NOW).unwrap();
        let mut bytes = written(&mut joined.server);
        let mut found = 0;
        for start in 0..bytes.len() - from.len() {
            if bytes[start..].starts_with(from.as_bytes()) {
                bytes[start..start + to.len()].copy_from_slice(to.as_bytes());
                found += 1;
            }
        }
        assert!(found > 0, "{from}");
        feed(&mut joined.client, &bytes, NOW).unwrap();
        carry(&mut joined.client, &mut joined.server, usize::MAX);
        events(&mut joined.server, NOW).unwrap();
        let reply = written(&mut joined.server);
        let failure = feed(&mut joined.client, &reply, NOW).unwrap_err();
        assert!(matches!(failure, Error::BadSignature { .. }), "{from}: {failure}");
    }
}

#[test]
fn extensions_come_at_their_time_only() {
    let none: &[u8] = &[EXT_INFO, 0, 0, 0, 0];
    // The client has already sent one of its own.
    let mut joined = Joined::established(client_config(), server_config());
    inject(&mut joined.client, none);
    carry(&mut joined.client, &mut joined.server, usize::MAX);
    let failure = events(&mut joined.server, NOW).unwrap_err();
    assert!(matches!(failure, Error::Unexpected { number: EXT_INFO, .. }), "{failure}");
    // A server may send a second one before it admits the client, and no third.
    let mut joined = Joined::established(client_config(), server_config());
    inject(&mut joined.server, none);
    joined.run(usize::MAX);
    inject(&mut joined.server, none);
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    let failure = events(&mut joined.client, NOW).unwrap_err();
    assert!(matches!(failure, Error::Unexpected { number: EXT_INFO, .. }), "{failure}");
    // Nor any after that.
    let mut joined = Joined::authenticated(client_config(), server_config());
    inject(&mut joined.server, none);
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    assert!(events(&mut joined.client, NOW).is_err());
}

#[test]
fn packets_with_a_wrong_length_end_the_connection_at_once() {
    for length in [0, 1, 13, 35_004, 0x7fff_ffff, u32::MAX] {
        let mut server = Leg::server(server_config(), NOW);
        feed(&mut server, b"SSH-2.0-x\r\n", NOW).unwrap();
        let failure = feed(&mut server, &length.to_be_bytes(), NOW).unwrap_err();
        assert!(matches!(failure, Error::PacketLength { .. }), "{length}: {failure}");
        assert!(!server.wants_read());
    }
    for suite in suites() {
        let (client, server) = one_suite(suite);
        let mut joined = Joined::established(client, server);
        // As much as is read of a packet whose length must not show.
        let failure = feed(&mut joined.server, &[0xff; 300_000], NOW).unwrap_err();
        assert!(matches!(failure, Error::PacketLength { .. } | Error::Integrity { .. }));
        assert_eq!(failure.reason(), number::REASON_PROTOCOL_ERROR);
    }
}

#[test]
fn a_changed_packet_ends_the_connection() {
    for suite in suites() {
        let (client, server) = one_suite(suite);
        let mut joined = Joined::established(client, server);
        joined.client.send(&[&message(1, 100)]).unwrap();
        let mut bytes = written(&mut joined.client);
        bytes[60] ^= 1;
        bytes.resize(300_000, 0);
        let failure = feed(&mut joined.server, &bytes, NOW).unwrap_err();
        assert!(matches!(failure, Error::Integrity { .. }), "{failure}");
        // What was not touched does not count any more either.
        joined.client.send(&[&message(1, 100)]).unwrap();
        let bytes = written(&mut joined.client);
        assert_eq!(feed(&mut joined.server, &bytes, NOW).unwrap(), []);
        assert!(joined.server.next(NOW).unwrap().is_none());
    }
}

/// A server that agrees on a certificate and shows a plain key.
#[test]
fn what_is_no_host_certificate_is_refused_where_one_was_agreed_on() {
    let (config, server) = configs(|algorithms| {
        algorithms.host_certificates = vec![KeyAlgorithm::Ed25519];
    });
    let scheme = KexMethod::MlKem768X25519.scheme().unwrap();
    let (client_share, _ephemeral) = scheme.start().unwrap();
    let (share, _secret) = scheme.answer(&client_share).unwrap().unwrap();
    let mut reply = Writer::message(KEX_REPLY);
    reply.string(server.host_keys[0].public_blob()).string(&share).string(b"");
    let init = compose(&server.algorithms, Side::Server, Round::First).unwrap();
    let mut client = Leg::client(config, NOW);
    feed(&mut client, b"SSH-2.0-x\r\n", NOW).unwrap();
    let failure = feed(&mut client, &plain(&[&init, reply.as_bytes()]), NOW).unwrap_err();
    let named = matches!(failure, Error::WrongAlgorithm { part: "certificate", .. });
    assert!(named, "{failure}");
    assert_eq!(failure.reason(), number::REASON_HOST_KEY_NOT_VERIFIABLE);
}

#[test]
fn greetings_of_a_server_have_a_bound() {
    let greet = |lines: usize| {
        let mut client = Leg::client(client_config(), NOW);
        let text = [b"notice\r\n".repeat(lines), b"SSH-2.0-x\r\n".to_vec()].concat();
        feed(&mut client, &text, NOW).map(|_| client.peer_version().map(<[u8]>::to_vec))
    };
    assert_eq!(greet(20).unwrap(), Some(b"SSH-2.0-x".to_vec()));
    assert!(matches!(greet(21), Err(Error::BannerTooLong { limit: 20 })));
    assert!(matches!(greet(10_000), Err(Error::BannerTooLong { limit: 20 })));
}

/// Sends the KEXINIT of a leg anew, without the marker of strict exchange.
fn forget_strict(leg: &mut Leg) {
    let Exchange::ExpectKexInit { ours } = &mut leg.exchange else { panic!("no kexinit sent") };
    let marker = b"kex-strict";
    let start = (0..ours.len()).find(|&start| ours[start..].starts_with(marker)).unwrap();
    ours[start] = b'x';
    let changed = ours.clone();
    written(leg);
    leg.sealer = Sealer::default();
    inject(leg, &changed);
}

#[test]
fn peers_without_strict_exchange_are_served_and_named_as_such() {
    let mut joined = Joined::new(client_config(), server_config());
    let (at_server, at_client) = (written(&mut joined.client), written(&mut joined.server));
    feed(&mut joined.server, &at_server, NOW).unwrap();
    feed(&mut joined.client, &at_client, NOW).unwrap();
    forget_strict(&mut joined.client);
    forget_strict(&mut joined.server);
    inject(&mut joined.client, &[IGNORE, 0, 0, 0, 0]);
    joined.run(usize::MAX);
    assert!(!joined.client.negotiated().unwrap().strict);
    assert!(!joined.server.negotiated().unwrap().strict);
    joined.server.send(&[&[USERAUTH_SUCCESS]]).unwrap();
    let sequence = joined.server.opener.last_sequence();
    assert!(sequence >= 4, "sequence numbers went on to {sequence}");
    for _ in 0..2 {
        joined.server.start_exchange(NOW).unwrap();
        joined.client.send(&[&message(1, 10)]).unwrap();
        joined.run(usize::MAX);
        assert_eq!(joined.at_server.pop(), Some(Seen::Rekeyed));
        assert_eq!(joined.at_server.pop(), Some(Seen::Message(message(1, 10))));
    }
    assert!(!joined.client.negotiated().unwrap().strict);
    assert!(joined.server.opener.last_sequence() > sequence);
}

proptest! {
    #[test]
    fn no_input_makes_a_leg_panic(bytes in vec(any::<u8>(), 0..600), cut in 0_usize..4) {
        let lead: [&[u8]; 2] = [b"", b"SSH-2.0-x\r\n"];
        for lead in lead {
            let input = [lead, &bytes].concat();
            let _outcome = feed(&mut Leg::server(server_config(), NOW), &input, NOW);
            let _outcome = feed(&mut Leg::client(client_config(), NOW), &input, NOW);
        }
        // The same bytes as messages under keys, in every state of an exchange.
        let mut joined = Joined::established(client_config(), server_config());
        if cut > 0 {
            joined.client.start_exchange(NOW).unwrap();
        }
        for _ in 1..cut {
            carry(&mut joined.client, &mut joined.server, usize::MAX);
            events(&mut joined.server, NOW).unwrap();
            carry(&mut joined.server, &mut joined.client, usize::MAX);
            events(&mut joined.client, NOW).unwrap();
        }
        if !bytes.is_empty() {
            inject(&mut joined.client, &bytes);
            inject(&mut joined.server, &bytes);
        }
        carry(&mut joined.client, &mut joined.server, usize::MAX);
        carry(&mut joined.server, &mut joined.client, usize::MAX);
        let _outcome = events(&mut joined.server, NOW);
        let _outcome = events(&mut joined.client, NOW);
    }
}
