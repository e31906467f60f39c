//! The reader of certificates, with the key and the CA that the input names.
#![no_main]

use std::net::{IpAddr, Ipv4Addr};

use libfuzzer_sys::fuzz_target;
use proxyd_ssh::certificate::{Certificate, Purpose};

fuzz_target!(|input: &[u8]| {
    let Ok(certificate) = Certificate::parse(input) else { return };
    // What was taken is kept as it came, and whatever it says can be judged.
    assert_eq!(certificate.blob(), input);
    let purpose = Purpose::User { principal: b"root", client: IpAddr::V4(Ipv4Addr::LOCALHOST) };
    let _ = certificate.check(purpose, 0, &[certificate.ca_blob()]);
});
