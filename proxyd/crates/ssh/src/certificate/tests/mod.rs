//! Certificates of OpenSSH and our own, good and bad.

mod vectors;

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use self::vectors::{
    ED25519_CA, ED25519_KEY, ED25519_USER, HOST_OPTION, NOBODY, P256_HOST, P384_HOST, P521_USER,
    RSA_CA, RSA_USER, SHA1, UNKNOWN_OPTION,
};
use super::{Certificate, CertificateError, Kind, Purpose, Request};
use crate::limits::{CERTIFICATE_BYTES_MAX, CERTIFICATE_OPTIONS_MAX, CERTIFICATE_PRINCIPALS_MAX};
use crate::transport::HostKey;

const GOOD: [&str; 6] = [ED25519_USER, P256_HOST, RSA_USER, P521_USER, P384_HOST, NOBODY];

/// 2020-01-01.
const FROM_S: u64 = 1_577_836_800;

/// 2040-01-01.
const UNTIL_S: u64 = 2_208_988_800;

fn decode(text: &str) -> Vec<u8> {
    STANDARD.decode(text).unwrap()
}

fn read(text: &str) -> Certificate {
    Certificate::parse(&decode(text)).unwrap()
}

fn user<'a>(principal: &'a str, client: &str) -> Purpose<'a> {
    let client: IpAddr = client.parse().unwrap();
    Purpose::User { principal: principal.as_bytes(), client }
}

fn host(name: &str) -> Purpose<'_> {
    Purpose::Host { name: name.as_bytes() }
}

#[test]
fn certificates_of_openssh_are_read() {
    let certificate = read(ED25519_USER);
    assert_eq!(certificate.key_blob(), decode(ED25519_KEY));
    assert_eq!(certificate.ca_blob(), decode(ED25519_CA));
    assert_eq!((certificate.serial(), certificate.kind()), (42, Kind::User));
    assert_eq!(certificate.key_id(), b"alice at work");
    assert_eq!(certificate.blob(), decode(ED25519_USER));
    assert_eq!(read(P256_HOST).kind(), Kind::Host);
}

#[test]
fn a_certificate_is_good_for_what_it_says_alone() {
    let cas = [decode(ED25519_CA), decode(RSA_CA)];
    type Refused = fn(&CertificateError) -> bool;
    let not_yet: Refused = |error| matches!(error, CertificateError::NotYet { .. });
    let expired: Refused = |error| matches!(error, CertificateError::Expired { .. });
    let principal: Refused = |error| matches!(error, CertificateError::Principal { .. });
    let address: Refused = |error| matches!(error, CertificateError::ClientAddress);
    let kind: Refused = |error| matches!(error, CertificateError::WrongKind { .. });
    let untrusted: Refused = |error| matches!(error, CertificateError::Untrusted);
    let within = "192.0.2.9";
    let cases: [(&str, &str, Purpose<'_>, u64, Option<Refused>); 18] = [
        ("first second", ED25519_USER, user("alice", within), FROM_S, None),
        ("last second", ED25519_USER, user("bob", "2001:db8::1"), UNTIL_S - 1, None),
        ("too early", ED25519_USER, user("alice", within), FROM_S - 1, Some(not_yet)),
        ("too late", ED25519_USER, user("alice", within), UNTIL_S, Some(expired)),
        ("time zero", ED25519_USER, user("alice", within), 0, Some(not_yet)),
        ("end of time", ED25519_USER, user("alice", within), u64::MAX, Some(expired)),
        ("somebody else", ED25519_USER, user("carol", within), FROM_S, Some(principal)),
        ("other case", ED25519_USER, user("Alice", within), FROM_S, Some(principal)),
        ("start of a name", ED25519_USER, user("ali", within), FROM_S, Some(principal)),
        ("no name", ED25519_USER, user("", within), FROM_S, Some(principal)),
        ("elsewhere", ED25519_USER, user("alice", "198.51.100.1"), FROM_S, Some(address)),
        ("mapped address", ED25519_USER, user("alice", "::ffff:192.0.2.1"), FROM_S, None),
        ("as a host", ED25519_USER, host("alice"), FROM_S, Some(kind)),
        ("host", P256_HOST, host("server.example"), FROM_S, None),
        ("host by address", P256_HOST, host("10.0.0.1"), FROM_S, None),
        ("other host", P256_HOST, host("x.server.example"), FROM_S, Some(principal)),
        ("host as a user", P256_HOST, user("server.example", within), FROM_S, Some(kind)),
        ("for nobody", NOBODY, user("alice", within), FROM_S, Some(principal)),
    ];
    for (case, text, purpose, now_s, refused) in cases {
        let certificate = read(text);
        match (certificate.check(purpose, now_s, &cas), refused) {
            (Ok(_), None) => {}
            (Err(error), Some(refused)) => assert!(refused(&error), "{case}: {error}"),
            (Ok(_), Some(_)) => panic!("{case} was taken"),
            (Err(error), None) => panic!("{case}: {error}"),
        }
    }
    let unknown = read(RSA_USER);
    let verdict = unknown.check(user("alice", within), FROM_S, &cas);
    assert!(untrusted(&verdict.unwrap_err()));
    // A CA certifies, and is not certified by having signed itself.
    let itself = unknown.check(user("alice", within), FROM_S, &[unknown.key_blob()]);
    assert!(untrusted(&itself.unwrap_err()));
    let forever = read(P521_USER);
    let cas = [forever.ca_blob().to_vec()];
    forever.check(user("alice", within), 0, &cas).unwrap();
    forever.check(user("alice", within), u64::MAX - 1, &cas).unwrap();
}

#[test]
fn what_a_good_certificate_allows() {
    let cas = [decode(ED25519_CA)];
    let certificate = read(ED25519_USER);
    let verified = certificate.check(user("alice", "192.0.2.1"), FROM_S, &cas).unwrap();
    assert_eq!(verified.force_command(), Some(b"/bin/true -x".as_slice()));
    assert!(verified.has_extension("permit-pty"));
    assert!(verified.has_extension("permit-agent-forwarding"));
    assert!(!verified.has_extension("permit-X11-forwarding"));
    assert!(!verified.has_extension("permit"));
    assert_eq!(verified.certificate().serial(), 42);
}

#[test]
fn what_is_not_understood_is_refused() {
    let unknown = Certificate::parse(&decode(UNKNOWN_OPTION)).unwrap_err();
    assert!(matches!(&unknown, CertificateError::UnknownOption { name } if name == "new-rule"));
    let host = Certificate::parse(&decode(HOST_OPTION)).unwrap_err();
    assert!(matches!(&host, CertificateError::UnknownOption { name } if name == "force-command"));
    let old = Certificate::parse(&decode(SHA1)).unwrap_err();
    assert!(matches!(old, CertificateError::Signature(_)), "{old}");
    let plain = Certificate::parse(&decode(ED25519_KEY)).unwrap_err();
    assert!(matches!(plain, CertificateError::Type { .. }), "{plain}");
}

#[test]
fn a_certificate_cut_or_changed_anywhere_is_refused() {
    for text in GOOD {
        let blob = decode(text);
        for index in 0..blob.len() {
            assert!(Certificate::parse(&blob[..index]).is_err(), "cut at {index}");
            let mut changed = blob.clone();
            changed[index] ^= 1;
            assert!(Certificate::parse(&changed).is_err(), "changed at {index}");
        }
        assert!(Certificate::parse(&[blob.as_slice(), &[0]].concat()).is_err());
    }
}

fn request(key: &HostKey) -> Request<'_> {
    Request {
        key_blob: key.public_blob(),
        kind: Kind::User,
        serial: 7,
        key_id: "session 7",
        principals: &["app1", "app2"],
        valid_after_s: FROM_S,
        valid_before_s: FROM_S + 60,
        force_command: None,
        source_address: Some("192.0.2.0/24"),
        extensions: &["permit-pty", "permit-agent-forwarding"],
    }
}

#[test]
fn what_is_issued_is_good() {
    let cas = [
        HostKey::generate_ed25519().unwrap(),
        HostKey::generate_ecdsa().unwrap(),
        HostKey::generate_rsa().unwrap(),
    ];
    for ca in &cas {
        for key in &cas {
            let request = Request { force_command: Some("id"), ..request(key) };
            let certificate = Certificate::issue(&request, ca).unwrap();
            assert_eq!(certificate.key_blob(), key.public_blob());
            let trusted = [ca.public_blob()];
            let verified = certificate.check(user("app2", "192.0.2.1"), FROM_S, &trusted).unwrap();
            assert_eq!(verified.force_command(), Some(b"id".as_slice()));
            assert!(verified.has_extension("permit-pty"));
            let again = Certificate::issue(&request, ca).unwrap();
            assert_ne!(certificate.blob(), again.blob(), "the nonce is another one");
        }
    }
}

#[test]
fn what_would_not_be_read_is_not_issued() {
    let key = HostKey::generate_ed25519().unwrap();
    let good = request(&key);
    let many = vec!["name"; CERTIFICATE_PRINCIPALS_MAX + 1];
    let numbers: Vec<String> = (0..=CERTIFICATE_OPTIONS_MAX).map(|n| n.to_string()).collect();
    let numbers: Vec<&str> = numbers.iter().map(String::as_str).collect();
    let long = "x".repeat(CERTIFICATE_BYTES_MAX);
    let cases = [
        ("address that is none", Request { source_address: Some("10.0.0.1/8"), ..good }),
        ("extension twice", Request { extensions: &["permit-pty", "permit-pty"], ..good }),
        ("many principals", Request { principals: &many, ..good }),
        ("many extensions", Request { extensions: &numbers, ..good }),
        ("too long", Request { key_id: &long, ..good }),
        ("host with a user's option", Request { kind: Kind::Host, ..good }),
        ("key that is none", Request { key_blob: b"key", ..good }),
        ("cut key", Request { key_blob: &key.public_blob()[..40], ..good }),
    ];
    assert!(Certificate::issue(&good, &key).is_ok());
    for (case, request) in cases {
        assert!(Certificate::issue(&request, &key).is_err(), "{case}");
    }
}

#[test]
fn a_certificate_belongs_to_its_key() {
    let (key, other) = (HostKey::generate_ed25519().unwrap(), HostKey::generate_ed25519().unwrap());
    let certificate = Certificate::issue(&request(&key), &other).unwrap();
    assert_eq!(key.certificate(), None);
    let refused = other.with_certificate(&certificate).err().unwrap();
    assert!(matches!(refused, CertificateError::OtherKey), "{refused}");
    let certified = key.with_certificate(&certificate).unwrap();
    assert_eq!(certified.certificate(), Some(certificate.blob()));
}
