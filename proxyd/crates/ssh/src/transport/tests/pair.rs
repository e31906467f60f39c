//! What two legs of ours do with each other.

use super::super::*;
use super::harness::{Joined, Seen, client_config, server_config};

/// A message of the connection layer.
fn message(fill: u8, bytes: usize) -> Vec<u8> {
    [&[94], vec![fill; bytes].as_slice()].concat()
}

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

#[test]
fn every_method_with_every_cipher_carries_messages_both_ways() {
    for kex in KexMethod::ALL {
        for cipher in Cipher::ALL {
            let mut client = client_config();
            client.algorithms.kex = vec![kex];
            client.algorithms.ciphers = vec![cipher];
            let mut joined = Joined::established(client, server_config());
            assert_eq!(joined.client.negotiated().unwrap().kex, kex.name());
            assert_eq!(joined.server.negotiated().unwrap().cipher_to_client, cipher.name());
            for bytes in [0, 1, 7, 8, 15, 16, 100, 32_768, 262_000] {
                joined.at_server.clear();
                joined.at_client.clear();
                joined.client.send(&[&message(1, bytes)]).unwrap();
                joined.server.send(&[&[94], &vec![2; bytes]]).unwrap();
                joined.run(usize::MAX);
                assert_eq!(joined.at_server, [Seen::Message(message(1, bytes))], "{bytes}");
                assert_eq!(joined.at_client, [Seen::Message(message(2, bytes))], "{bytes}");
            }
        }
    }
}
