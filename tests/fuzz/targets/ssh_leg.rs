//! Both roles of a leg, fed whatever a peer sends, in pieces whose sizes the input chooses.
#![no_main]

use std::sync::Arc;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use proxyd_ssh::transport::{
    Algorithms, ClientConfig, HostKey, KeyAlgorithm, Leg, RekeyLimits, ServerConfig, Version,
};

fn server() -> Leg {
    let key = HostKey::from_ed25519_seed(&[7; 32]).expect("a seed is a key");
    let config = ServerConfig {
        version: Version::new("SSH-2.0-fuzz").expect("a version"),
        host_keys: vec![Arc::new(key)],
        algorithms: Algorithms::recommended(),
        sig_algs: KeyAlgorithm::ALL.to_vec(),
        rekey: RekeyLimits::recommended(),
    };
    Leg::server(config, Duration::ZERO)
}

fn client() -> Leg {
    let config = ClientConfig {
        version: Version::new("SSH-2.0-fuzz").expect("a version"),
        algorithms: Algorithms::recommended(),
        rekey: RekeyLimits::recommended(),
    };
    Leg::client(config, Duration::ZERO)
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, bytes)) = input.split_first() else { return };
    let mut leg = if first & 1 == 0 { server() } else { client() };
    let piece = usize::from(first >> 1).max(1);
    for chunk in bytes.chunks(piece) {
        let space = leg.read_space();
        let taken = space.len().min(chunk.len());
        space[..taken].copy_from_slice(&chunk[..taken]);
        leg.filled(taken);
        loop {
            match leg.next(Duration::ZERO) {
                Ok(Some(_event)) => {}
                Ok(None) => break,
                Err(_refused) => return,
            }
        }
        let sent = leg.out().len();
        leg.sent(sent);
    }
});
