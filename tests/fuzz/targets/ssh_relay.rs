//! The relay between two peers that send anything, in any order.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd_ssh::relay::{Relay, Rules, Side, Step};

fuzz_target!(|input: &[u8]| {
    let mut relay = Relay::new(Rules { environment: vec!["LC_*".to_owned()] });
    let mut waiting = Vec::new();
    let mut rest = input;
    // Each message comes after a byte with its sender, its verdict and its length.
    while let Some((&head, after)) = rest.split_first() {
        let length = usize::from(head >> 2).min(after.len());
        let (message, left) = after.split_at(length);
        rest = left;
        let from = if head & 1 == 0 { Side::Client } else { Side::Server };
        match relay.receive(from, message) {
            Ok(Step::Judge(case)) if head & 2 == 0 => {
                let _ = relay.allow(&case.docket, message);
            }
            Ok(Step::Judge(case)) if length & 1 == 0 => {
                let _ = relay.refuse(&case.docket, "no\r\n");
            }
            Ok(Step::Judge(case)) => {
                let _ = relay.wait(&case.docket);
                waiting.push(case.docket);
            }
            Ok(_step) => {}
            Err(_refused) => return,
        }
        if waiting.len() > 2 {
            waiting.drain(..).for_each(|docket| relay.resume(&docket));
        }
        let _ = relay.answers(Side::Client);
        let _ = relay.answers(Side::Server);
    }
});
