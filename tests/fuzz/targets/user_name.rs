//! User names as clients type them.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd_wire::user_name::{InbandMode, parse};

fuzz_target!(|name: &[u8]| {
    for mode in [InbandMode::Off, InbandMode::On] {
        if let Ok(user) = parse(name, mode) {
            let parts = [&user.gateway_user, &user.remote_user];
            assert!(parts.into_iter().flatten().all(|part| !part.chars().any(char::is_control)));
        }
    }
});
