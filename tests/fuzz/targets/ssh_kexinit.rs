//! A peer's algorithm lists, and the messages of a key exchange after good ones, for both roles.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use proxyd_ssh::transport::{
    Algorithms, ClientConfig, HostKey, KexMethod, KeyAlgorithm, Leg, RekeyLimits, ServerConfig,
    Version,
};

/// A leg with one method, or with all there are.
fn leg(server: bool, method: Option<KexMethod>) -> Leg {
    let version = Version::new("SSH-2.0-fuzz").expect("a version");
    let mut algorithms = Algorithms::for_servers().with_legacy();
    if let Some(method) = method {
        algorithms.kex = vec![method];
    }
    let rekey = RekeyLimits::recommended();
    if !server {
        return Leg::client(ClientConfig { version, algorithms, rekey }, Duration::ZERO);
    }
    let key = HostKey::from_ed25519_seed(&[7; 32]).expect("a seed is a key");
    let (host_keys, sig_algs) = (vec![Arc::new(key)], KeyAlgorithm::ALL.to_vec());
    let config = ServerConfig { version, host_keys, algorithms, sig_algs, rekey };
    Leg::server(config, Duration::ZERO)
}

/// A packet in the clear.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 4 + (8 - (4 + 1 + payload.len() + 4) % 8) % 8;
    let length = 1 + payload.len() + padding;
    let mut packet = u32::try_from(length).expect("inputs are short").to_be_bytes().to_vec();
    packet.push(u8::try_from(padding).expect("at most 11"));
    packet.extend_from_slice(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}

/// Feeds a leg; whether it goes on.
fn feed(leg: &mut Leg, bytes: &[u8]) -> bool {
    let mut rest = bytes;
    while !rest.is_empty() {
        let space = leg.read_space();
        let taken = space.len().min(rest.len());
        if taken == 0 {
            return false;
        }
        space[..taken].copy_from_slice(&rest[..taken]);
        leg.filled(taken);
        rest = &rest[taken..];
        loop {
            match leg.next(Duration::ZERO) {
                Ok(Some(_event)) => {}
                Ok(None) => break,
                Err(_refused) => return false,
            }
        }
    }
    true
}

/// `SSH_MSG_KEXINIT` (RFC 4253 section 7.1).
const KEXINIT: u8 = 20;

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let server = first & 1 == 0;
    let method = KexMethod::ALL.get(usize::from(first >> 1)).copied();
    let mut leg = leg(server, method);
    if !feed(&mut leg, b"SSH-2.0-x\r\n") {
        return;
    }
    match method {
        // Lists of the peer's own making.
        None => {
            feed(&mut leg, &packet(&[&[KEXINIT], rest].concat()));
        }
        // Good lists, then whatever comes, one message after each length byte.
        Some(method) => {
            let mut peer = self::leg(!server, Some(method));
            feed(&mut peer, b"SSH-2.0-y\r\n");
            let hello = peer.out().iter().position(|&byte| byte == b'\n').map_or(0, |end| end + 1);
            if !feed(&mut leg, &peer.out()[hello..]) {
                return;
            }
            let mut rest = rest;
            while let Some((&length, tail)) = rest.split_first() {
                let (message, tail) = tail.split_at(usize::from(length).min(tail.len()));
                if message.is_empty() || !feed(&mut leg, &packet(message)) {
                    return;
                }
                rest = tail;
            }
        }
    }
});
