//! Key exchanges after the first one, under load and out of order.

use super::super::number::{IGNORE, KEXINIT, PING};
use super::super::*;
use super::harness::{
    Joined, Seen, carry, client_config, events, inject, message, one_suite, server_config, written,
};
use crate::limits::HOLD_BYTES_MAX;

fn tiny() -> RekeyLimits {
    let interval = Duration::from_secs(3600);
    RekeyLimits { aes_bytes: 20_000, other_bytes: 10_000, interval }
}

/// Which messages came, by their first two bytes, and how many exchanges there were.
fn summary(seen: &[Seen]) -> (Vec<u8>, usize) {
    let order = seen.iter().filter_map(|seen| match seen {
        Seen::Message(payload) => Some(payload[1]),
        Seen::HostKey(..)
        | Seen::Certificate(..)
        | Seen::Established
        | Seen::Rekeyed
        | Seen::Disconnected(..) => None,
    });
    let rekeys = seen.iter().filter(|&seen| *seen == Seen::Rekeyed).count();
    (order.collect(), rekeys)
}

/// Sends 250 messages each way, and checks that all arrive in order; how often keys were exchanged.
fn exchanges_under_load(client: ClientConfig, server: ServerConfig, limit: usize) -> usize {
    let mut joined = Joined::authenticated(client, server);
    for round in 0..250 {
        joined.client.send(&[&message(round, 1000)]).unwrap();
        joined.server.send(&[&message(round, 3000)]).unwrap();
        carry(&mut joined.client, &mut joined.server, limit);
        carry(&mut joined.server, &mut joined.client, limit);
        joined.at_server.extend(events(&mut joined.server, joined.now).unwrap());
        joined.at_client.extend(events(&mut joined.client, joined.now).unwrap());
    }
    joined.run(usize::MAX);
    let expected: Vec<u8> = (0..250).collect();
    let (at_server, exchanges) = summary(&joined.at_server);
    let (at_client, same) = summary(&joined.at_client);
    assert_eq!(at_server, expected);
    assert_eq!(at_client, expected);
    assert_eq!(exchanges, same);
    exchanges
}

#[test]
fn either_side_or_both_exchange_keys_under_load() {
    let suites = [
        (Cipher::Aes128Gcm, None),
        (Cipher::ChaCha20Poly1305, None),
        (Cipher::Aes256Ctr, Some(Mac::HmacSha512Etm)),
        (Cipher::Aes128Ctr, Some(Mac::HmacSha256)),
        (Cipher::TripleDesCbc, Some(Mac::HmacSha1)),
    ];
    for suite in suites {
        let (cipher, _mac) = suite;
        for limit in [700, 4096, usize::MAX] {
            for (by_client, by_server) in [(true, false), (false, true), (true, true)] {
                let (mut client, mut server) = one_suite(suite);
                client.rekey = if by_client { tiny() } else { RekeyLimits::unlimited() };
                server.rekey = if by_server { tiny() } else { RekeyLimits::unlimited() };
                let exchanges = exchanges_under_load(client, server, limit);
                let case = format!("{} {limit} {by_client} {by_server}", cipher.name());
                assert!(exchanges >= 3, "{case}: {exchanges} exchanges");
            }
        }
    }
}

#[test]
fn keys_are_exchanged_after_a_time_but_not_before_authentication() {
    let hour = Duration::from_secs(3600);
    let mut joined = Joined::established(client_config(), server_config());
    joined.now += 2 * hour;
    joined.run(usize::MAX);
    assert!(!joined.at_client.contains(&Seen::Rekeyed));

    let mut joined = Joined::authenticated(client_config(), server_config());
    joined.now += hour.checked_sub(Duration::from_secs(1)).unwrap();
    joined.run(usize::MAX);
    assert_eq!((joined.at_client.len(), joined.at_server.len()), (0, 0));
    joined.now += Duration::from_secs(1);
    joined.server.tick(joined.now).unwrap();
    assert_eq!(joined.server.exchange_since(), None, "a quiet leg needs no new keys");
    joined.server.send(&[&[94]]).unwrap();
    joined.run(usize::MAX);
    joined.server.tick(joined.now).unwrap();
    joined.run(usize::MAX);
    assert!(joined.at_client.contains(&Seen::Rekeyed), "{:?}", joined.at_client);
    assert!(joined.at_server.contains(&Seen::Rekeyed), "{:?}", joined.at_server);
    assert_eq!(joined.server.exchange_since(), None);
}

#[test]
fn an_exchange_that_is_due_can_be_put_off() {
    let (client, mut server) = (client_config(), server_config());
    server.rekey = tiny();
    let mut joined = Joined::authenticated(client, server);
    joined.server.defer_rekey(true);
    let load = [94; 4096];
    for _message in 0..20 {
        joined.server.send(&[&load]).unwrap();
        joined.run(usize::MAX);
    }
    assert!(!joined.at_client.contains(&Seen::Rekeyed));
    joined.server.defer_rekey(false);
    joined.server.send(&[&load]).unwrap();
    joined.run(usize::MAX);
    joined.server.tick(joined.now).unwrap();
    joined.run(usize::MAX);
    assert!(joined.at_client.contains(&Seen::Rekeyed));
}

#[test]
fn the_session_keeps_its_identity_and_its_strictness() {
    let mut joined = Joined::authenticated(client_config(), server_config());
    let id = joined.client.session_id().unwrap().to_vec();
    let names = *joined.client.negotiated().unwrap();
    for _ in 0..3 {
        joined.client.start_exchange(joined.now).unwrap();
        joined.run(usize::MAX);
        // Both directions start at zero again, so nothing but a reset can have happened.
        assert_eq!(joined.client.opener.last_sequence(), u32::MAX);
        assert_eq!(joined.server.opener.last_sequence(), u32::MAX);
    }
    assert_eq!(joined.client.session_id(), Some(id.as_slice()));
    assert_eq!(joined.server.session_id(), Some(id.as_slice()));
    assert_eq!(*joined.client.negotiated().unwrap(), names);
}

#[test]
fn what_is_sent_meanwhile_follows_in_order() {
    let mut joined = Joined::authenticated(client_config(), server_config());
    joined.client.start_exchange(joined.now).unwrap();
    let before = joined.client.out().len();
    // Data, EOF and CLOSE of a channel.
    let messages: [&[u8]; 3] = [&[94, 1], &[96, 2], &[97, 3]];
    messages.iter().for_each(|message| joined.client.send(&[message]).unwrap());
    assert_eq!(joined.client.out().len(), before);
    assert_eq!(joined.client.pending(), before + 6);
    joined.run(usize::MAX);
    assert_eq!(joined.at_server[0], Seen::Rekeyed);
    assert_eq!(joined.at_server[1..], messages.map(|message| Seen::Message(message.to_vec())));
    assert_eq!(joined.client.pending(), 0);
}

#[test]
fn messages_that_were_on_their_way_still_arrive() {
    let mut joined = Joined::authenticated(client_config(), server_config());
    joined.client.start_exchange(joined.now).unwrap();
    joined.server.send(&[&message(7, 10)]).unwrap();
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    assert_eq!(events(&mut joined.client, joined.now).unwrap(), [Seen::Message(message(7, 10))]);
    joined.run(usize::MAX);
    assert_eq!(joined.at_client, [Seen::Rekeyed]);
}

#[test]
fn an_exchange_that_never_ends_holds_no_more_than_its_bound() {
    let mut joined = Joined::authenticated(client_config(), server_config());
    joined.client.start_exchange(joined.now).unwrap();
    let block = message(1, 32_768);
    let failure = (0..1000).find_map(|_| joined.client.send(&[&block]).err()).unwrap();
    assert!(matches!(failure, Error::HoldFull { limit: HOLD_BYTES_MAX }));
    assert!(joined.client.pending() < HOLD_BYTES_MAX + 2000);
}

#[test]
fn only_what_belongs_to_the_exchange_may_follow_a_kexinit() {
    let cases: [(&str, &[u8], bool); 8] = [
        ("channel data", &[94, 0, 0, 0, 0], false),
        ("service request", &[5, 0, 0, 0, 0], false),
        ("extensions", &[7, 0, 0, 0, 0], false),
        ("ping", &[PING, 0, 0, 0, 0], false),
        ("second kexinit", &[KEXINIT], false),
        ("new keys", &[21], false),
        ("server's share", &[31], false),
        ("ignore", &[IGNORE, 0, 0, 0, 0], true),
    ];
    for (case, payload, legal) in cases {
        let mut joined = Joined::authenticated(client_config(), server_config());
        joined.client.start_exchange(joined.now).unwrap();
        inject(&mut joined.client, payload);
        carry(&mut joined.client, &mut joined.server, usize::MAX);
        let outcome = events(&mut joined.server, joined.now);
        let illegal =
            matches!(outcome, Err(Error::Unexpected { number, .. }) if number == payload[0]);
        assert_eq!(illegal, !legal, "{case}: {outcome:?}");
        assert_eq!(outcome.is_ok(), legal, "{case}: {outcome:?}");
    }
}

#[test]
fn a_host_key_must_not_change_between_exchanges() {
    let mut joined = Joined::authenticated(client_config(), server_config());
    joined.server.role = Role::Server(server_config());
    joined.client.start_exchange(joined.now).unwrap();
    carry(&mut joined.client, &mut joined.server, usize::MAX);
    events(&mut joined.server, joined.now).unwrap();
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    events(&mut joined.client, joined.now).unwrap();
    carry(&mut joined.client, &mut joined.server, usize::MAX);
    events(&mut joined.server, joined.now).unwrap();
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    let failure = events(&mut joined.client, joined.now).unwrap_err();
    assert!(matches!(failure, Error::HostKeyChanged), "{failure}");
    // It goes out under keys that are in use, whatever the state of the exchange.
    joined.client.disconnect(failure.reason(), "host key changed");
    let mut packet = written(&mut joined.client);
    assert!(joined.server.opener.open(&mut packet).is_ok());
}
