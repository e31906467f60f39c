//! What two legs of ours do with each other.

use std::sync::Arc;

use super::super::number::{IGNORE, PING, PONG};
use super::super::*;
use super::harness::{
    Joined, Seen, carry, certified, client_config, configs, events, feed, inject, message,
    one_suite, server_config, suites, written,
};
use crate::limits::{READ_BYTES_IDLE, READ_BYTES_LOADED};

#[test]
fn both_sides_establish_and_agree() {
    let server = server_config();
    let blob = server.host_keys[0].public_blob().to_vec();
    let joined = Joined::established(client_config(), server);
    assert_eq!(joined.at_server, [Seen::Established]);
    assert_eq!(joined.at_client, [Seen::HostKey(KeyAlgorithm::Ed25519, blob), Seen::Established]);
    assert!(joined.client.session_id().is_some());
    assert_eq!(joined.client.session_id(), joined.server.session_id());
    assert_eq!(joined.client.negotiated(), joined.server.negotiated());
    let names = joined.client.negotiated().unwrap();
    assert_eq!(names.kex, "mlkem768x25519-sha256");
    assert_eq!(names.cipher_to_server, "aes128-gcm@openssh.com");
    assert!(names.strict);
    assert_eq!(joined.client.peer_version(), Some(b"SSH-2.0-OpenSSH_9.2p1 proxyd".as_slice()));
    assert_eq!(joined.server.peer_version(), Some(b"SSH-2.0-OpenSSH_9.2p1".as_slice()));
    assert!(joined.client.peer_sig_algs().unwrap().contains(b"rsa-sha2-512"));
    assert_eq!(joined.client.exchange_since(), None);
    assert_eq!(joined.client.pending() + joined.server.pending(), 0);
}

/// Messages of these sizes cross in both directions.
fn carries(joined: &mut Joined, sizes: &[usize], case: &str) {
    for &bytes in sizes {
        joined.at_server.clear();
        joined.at_client.clear();
        joined.client.send(&[&message(1, bytes)]).unwrap();
        joined.server.send(&[&[94], &vec![2; bytes]]).unwrap();
        joined.run(usize::MAX);
        assert_eq!(joined.at_server, [Seen::Message(message(1, bytes))], "{case} {bytes}");
        assert_eq!(joined.at_client, [Seen::Message(message(2, bytes))], "{case} {bytes}");
    }
}

#[test]
fn every_method_carries_messages_both_ways_and_again_after_an_exchange() {
    for kex in KexMethod::ALL {
        let (client, server) = configs(|algorithms| algorithms.kex = vec![kex]);
        let mut joined = Joined::authenticated(client, server);
        assert_eq!(joined.client.negotiated().unwrap().kex, kex.name());
        assert_eq!(joined.client.session_id(), joined.server.session_id());
        carries(&mut joined, &[0, 32_768], kex.name());
        joined.client.start_exchange(joined.now).unwrap();
        joined.run(usize::MAX);
        carries(&mut joined, &[1], kex.name());
    }
}

#[test]
fn session_identifiers_are_as_long_as_the_hash() {
    let cases = [
        (KexMethod::Group14Sha1, 20),
        (KexMethod::Curve25519, 32),
        (KexMethod::EcdhP384, 48),
        (KexMethod::Group16Sha512, 64),
    ];
    for (kex, bytes) in cases {
        let (client, server) = configs(|algorithms| algorithms.kex = vec![kex]);
        let joined = Joined::established(client, server);
        assert_eq!(joined.server.session_id().map(<[u8]>::len), Some(bytes), "{}", kex.name());
    }
}

#[test]
fn every_cipher_with_every_mac_carries_messages_both_ways() {
    for (cipher, mac) in suites() {
        let (client, server) = one_suite((cipher, mac));
        let mut joined = Joined::established(client, server);
        let names = *joined.server.negotiated().unwrap();
        assert_eq!(names.cipher_to_client, cipher.name());
        assert_eq!(names.mac_to_server, mac.map(Mac::name));
        let sizes = [0, 1, 7, 8, 15, 16, 100, 32_768, 262_000];
        carries(&mut joined, &sizes, &format!("{} {mac:?}", cipher.name()));
    }
}

#[test]
fn host_certificates_are_shown_to_clients_that_take_them() {
    let ca = HostKey::generate_ed25519().unwrap();
    let keys = [
        (KeyAlgorithm::Ed25519, HostKey::generate_ed25519().unwrap()),
        (KeyAlgorithm::EcdsaP256, HostKey::generate_ecdsa().unwrap()),
        (KeyAlgorithm::RsaSha512, HostKey::generate_rsa().unwrap()),
    ];
    for (algorithm, key) in keys {
        let key = Arc::new(certified(key, &ca));
        let joined = Joined::established(client_config(), with_key(&key));
        let plain = Seen::HostKey(algorithm, key.public_blob().to_vec());
        assert_eq!(joined.at_client[0], plain, "{}", algorithm.name());

        let mut client = client_config();
        client.algorithms.host_certificates = vec![algorithm];
        client.algorithms.host_keys.clear();
        let mut joined = Joined::established(client, with_key(&key));
        let shown = Seen::Certificate(algorithm, key.certificate().unwrap().to_vec());
        assert_eq!(joined.at_client[0], shown, "{}", algorithm.name());
        assert_eq!(joined.client.negotiated().unwrap().host_key, algorithm.certificate_name());
        joined.client.start_exchange(joined.now).unwrap();
        joined.run(usize::MAX);
        assert!(joined.at_client.contains(&Seen::Rekeyed));
    }
}

fn with_key(key: &Arc<HostKey>) -> ServerConfig {
    ServerConfig { host_keys: vec![Arc::clone(key)], ..server_config() }
}

#[test]
fn a_server_without_a_certificate_offers_none() {
    let mut client = client_config();
    client.algorithms.host_certificates = KeyAlgorithm::ALL.to_vec();
    let joined = Joined::established(client, server_config());
    assert!(matches!(joined.at_client[0], Seen::HostKey(KeyAlgorithm::Ed25519, _)));
}

#[test]
fn input_may_be_cut_anywhere() {
    for limit in (1..40).chain([1000, 4095, 4096, 4097]) {
        let mut joined = Joined::new(client_config(), server_config());
        joined.run(limit);
        joined.client.send(&[&message(1, 500)]).unwrap();
        joined.server.send(&[&message(2, 500)]).unwrap();
        joined.run(limit);
        assert_eq!(joined.at_server, [Seen::Established, Seen::Message(message(1, 500))]);
        assert_eq!(joined.at_client[1..], [Seen::Established, Seen::Message(message(2, 500))]);
    }
}

#[test]
fn nothing_comes_before_the_host_key_is_accepted() {
    let now = Duration::ZERO;
    let mut client = Leg::client(client_config(), now);
    let mut server = Leg::server(server_config(), now);
    for _ in 0..4 {
        carry(&mut client, &mut server, usize::MAX);
        assert_eq!(events(&mut server, now).unwrap(), []);
        carry(&mut server, &mut client, usize::MAX);
        if client.session_id().is_none() && matches!(client.next(now), Ok(Some(_))) {
            break;
        }
    }
    client.send(&[&message(1, 1)]).unwrap();
    assert!(client.next(now).unwrap().is_none());
    assert!(client.out().is_empty());
    assert!(client.pending() > 0);
    assert!(client.exchange_since().is_some());
    client.accept_host_key();
    assert_eq!(events(&mut client, now).unwrap(), [Seen::Established]);
    carry(&mut client, &mut server, usize::MAX);
    let expected = [Seen::Established, Seen::Message(message(1, 1))];
    assert_eq!(events(&mut server, now).unwrap(), expected);
}

#[test]
fn a_client_chooses_among_the_keys_of_a_server() {
    let mut server = server_config();
    server.host_keys.push(Arc::new(HostKey::generate_rsa().unwrap()));
    server.host_keys.push(Arc::new(HostKey::generate_ecdsa().unwrap()));
    let orders = [
        (vec![KeyAlgorithm::RsaSha256, KeyAlgorithm::Ed25519], KeyAlgorithm::RsaSha256, 1),
        (vec![KeyAlgorithm::EcdsaP384, KeyAlgorithm::RsaSha512], KeyAlgorithm::RsaSha512, 1),
        (vec![KeyAlgorithm::EcdsaP256, KeyAlgorithm::RsaSha512], KeyAlgorithm::EcdsaP256, 2),
        (vec![KeyAlgorithm::Ed25519, KeyAlgorithm::RsaSha512], KeyAlgorithm::Ed25519, 0),
    ];
    for (order, expected, index) in orders {
        let mut client = client_config();
        client.algorithms.host_keys = order;
        let joined = Joined::established(client, server.clone());
        let blob = server.host_keys[index].public_blob().to_vec();
        assert_eq!(joined.at_client[0], Seen::HostKey(expected, blob));
    }
}

#[test]
fn a_server_without_a_fitting_key_and_a_client_part_with_a_reason() {
    let mut client = client_config();
    client.algorithms.host_keys = vec![KeyAlgorithm::EcdsaP256];
    let mut joined = Joined::new(client, server_config());
    carry(&mut joined.client, &mut joined.server, usize::MAX);
    events(&mut joined.server, joined.now).unwrap();
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    let failure = events(&mut joined.client, joined.now).unwrap_err();
    assert!(matches!(failure, Error::NoCommon { what: "host key algorithm", .. }));
    joined.client.disconnect(failure.reason(), &failure.to_string());
    carry(&mut joined.client, &mut joined.server, usize::MAX);
    let failure = events(&mut joined.server, joined.now).unwrap_err();
    assert!(matches!(failure, Error::NoCommon { .. }), "the server finds the same: {failure}");
}

#[test]
fn a_disconnect_ends_both_sides_and_its_text_is_cleaned() {
    let mut joined = Joined::established(client_config(), server_config());
    joined.at_client.clear();
    joined.server.disconnect(11, "bye \x1b[31mred\r\n\u{9b}x");
    joined.server.disconnect(12, "again");
    assert!(matches!(joined.server.send(&[&message(1, 1)]), Err(Error::Ended)));
    assert!(!joined.server.wants_read() && joined.server.read_space().is_empty());
    carry(&mut joined.server, &mut joined.client, usize::MAX);
    let seen = events(&mut joined.client, joined.now).unwrap();
    assert_eq!(seen, [Seen::Disconnected(11, "bye [31mredx".to_owned())]);
    assert!(!joined.client.wants_read());
    assert!(matches!(joined.client.send(&[&message(1, 1)]), Err(Error::Ended)));
}

#[test]
fn a_text_from_a_peer_is_cleaned_and_cut() {
    let mut joined = Joined::established(client_config(), server_config());
    let mut writer = Writer::message(DISCONNECT);
    writer.u32(2).string(&[b"\x07\xff\0".as_slice(), &[b'x'; 5000]].concat());
    inject(&mut joined.client, writer.as_bytes());
    let bytes = written(&mut joined.client);
    let seen = feed(&mut joined.server, &bytes, joined.now).unwrap();
    let expected = format!("\u{fffd}{}", "x".repeat(1021));
    assert_eq!(seen, [Seen::Disconnected(2, expected)]);
}

#[test]
fn pings_are_answered_and_unknown_numbers_too() {
    type Case = (&'static str, &'static [u8], Option<&'static [u8]>);
    let cases: [Case; 7] = [
        ("ping", &[PING, 0, 0, 0, 2, b'h', b'i'], Some(&[PONG, 0, 0, 0, 2, b'h', b'i'])),
        ("pong", &[PONG, 0, 0, 0, 0], None),
        ("ignore", &[2, 0, 0, 0, 0], None),
        ("debug", &[4, 1, 0, 0, 0, 0, 0, 0, 0, 0], None),
        ("unimplemented", &[3, 0, 0, 0, 0], None),
        ("reserved", &[19], Some(&[UNIMPLEMENTED, 0, 0, 0, 2])),
        ("local extension", &[200], Some(&[UNIMPLEMENTED, 0, 0, 0, 2])),
    ];
    for (case, payload, answer) in cases {
        let mut joined = Joined::authenticated(client_config(), server_config());
        // The client has sent EXT_INFO as packet 0 under this key; this fills packet 1.
        inject(&mut joined.client, &[IGNORE, 0, 0, 0, 0]);
        inject(&mut joined.client, payload);
        carry(&mut joined.client, &mut joined.server, usize::MAX);
        assert_eq!(events(&mut joined.server, joined.now).unwrap(), [], "{case}");
        let mut packet = written(&mut joined.server);
        let found = if packet.is_empty() {
            None
        } else {
            let range = joined.client.opener.open(&mut packet).unwrap().unwrap();
            Some(packet[range].to_vec())
        };
        assert_eq!(found.as_deref(), answer, "{case}");
    }
}

#[test]
fn messages_of_the_transport_layer_are_not_for_others_to_send() {
    let mut joined = Joined::established(client_config(), server_config());
    let numbers = [0, 1, 2, 3, 4, 7, 8, 19, 20, 21, 30, 31, 49, 128, 191, 192, 193, 255];
    for number in numbers {
        let failure = joined.client.send(&[&[], &[number]]).unwrap_err();
        assert!(matches!(failure, Error::NotSendable { number: Some(found) } if found == number));
    }
    assert!(matches!(joined.client.send(&[&[]]), Err(Error::NotSendable { number: None })));
    for number in [5, 6, 50, 127] {
        joined.client.send(&[&[number]]).unwrap();
    }
}

#[test]
fn buffers_grow_under_load_and_are_given_back() {
    let mut joined = Joined::authenticated(client_config(), server_config());
    for _ in 0..40 {
        for _ in 0..4 {
            joined.client.send(&[&message(1, 32_768)]).unwrap();
        }
        joined.run(usize::MAX);
    }
    assert_eq!(joined.server.read_space().len(), READ_BYTES_LOADED);
    joined.now += Duration::from_secs(1);
    joined.server.tick(joined.now).unwrap();
    assert_eq!(joined.server.read_space().len(), READ_BYTES_LOADED);
    joined.now += BUFFER_IDLE;
    joined.server.tick(joined.now).unwrap();
    assert_eq!(joined.server.read_space().len(), READ_BYTES_IDLE);
    assert!(size_of::<Leg>() < 2048, "a leg takes {} bytes", size_of::<Leg>());
}
