//! Who can open a trail, and keys and recipients that are refused.
use super::{Site, identities, read_all, write_sample};
use crate::{Identities, Reader, Sealing, SigningKey, Stream, TrailError, VerifyingKey, keygen};

#[test]
fn group_opens_only_together() {
    let signing_key = SigningKey::generate().unwrap();
    let [(id_a, a), (id_b, b), (id_c, c), (id_d, _)] = [keygen(), keygen(), keygen(), keygen()];
    let sealing = Sealing::new(&[vec![a, b], vec![c]], &[], signing_key).unwrap();
    let mut file = Vec::new();
    write_sample(&mut file, &sealing).unwrap();
    let cases: [(&str, &[&str], bool); 7] = [
        ("first member alone", &[id_a.as_str()], false),
        ("second member alone", &[id_b.as_str()], false),
        ("first member twice", &[id_a.as_str(), id_a.as_str()], false),
        ("both members", &[id_b.as_str(), id_a.as_str()], true),
        ("other group", &[id_c.as_str()], true),
        ("stranger", &[id_d.as_str()], false),
        ("nobody", &[], false),
    ];
    for (name, secrets, opens) in cases {
        let read = read_all(&file, &identities(secrets));
        match read {
            Ok(entries) => assert!(opens && entries.len() == 7, "{name}"),
            Err(TrailError::NoIdentity { needed }) => {
                assert!(!opens && needed.contains(" and ") && needed.contains(", or "), "{name}");
            }
            Err(error) => panic!("{name}: {error}"),
        }
    }
}

#[test]
fn upstream_is_withheld_from_the_others() {
    let site = Site::new();
    let (upstream_identity, upstream_recipient) = keygen();
    let sealing = Sealing::new(
        &[vec![site.recipient.clone()]],
        &[vec![upstream_recipient]],
        site.signing_key.clone(),
    )
    .unwrap();
    let mut file = Vec::new();
    write_sample(&mut file, &sealing).unwrap();

    let mut reader = Reader::open(file.as_slice(), &site.identities(), None).unwrap();
    assert!(!reader.opens(Stream::Upstream));
    let mut records = 0;
    while let Some(entry) = reader.next_record().unwrap() {
        assert_ne!(entry.stream, Stream::Upstream);
        records += 1;
    }
    assert_eq!((records, reader.skipped_chunks()), (6, 1));

    let both = identities(&[site.identity.as_str(), upstream_identity.as_str()]);
    assert_eq!(read_all(&file, &both).unwrap().len(), 7);
    assert_eq!(read_all(&file, &identities(&[upstream_identity.as_str()])).unwrap().len(), 1);
}

#[test]
fn typed_bytes_do_not_stand_in_the_file() {
    let file = Site::new().sample();
    for secret in [b"192.0.2.1".as_slice(), b"motd", b"client_addr"] {
        assert!(!file.windows(secret.len()).any(|bytes| bytes == secret), "{secret:?}");
    }
}

#[test]
fn bad_recipients_are_refused_by_name() {
    let (identity, recipient) = keygen();
    let groups = |groups: &[&[&str]]| -> Vec<Vec<String>> {
        groups.iter().map(|group| group.iter().map(|text| (*text).to_owned()).collect()).collect()
    };
    let own = recipient.as_str();
    let one: &[&str] = &[own];
    let many = vec![one; 17];
    let none: &[&[&str]] = &[];
    let cases: [(&str, Vec<Vec<String>>, Vec<Vec<String>>, &str); 7] = [
        ("no group", groups(none), groups(none), "recipients holds no group of recipients"),
        (
            "empty group",
            groups(&[&[own], &[]]),
            groups(none),
            "recipients has 0 members in a group, outside 1 to 16",
        ),
        ("many groups", groups(&many), groups(none), "recipients has 17 groups, outside 1 to 16"),
        (
            "no recipient",
            groups(&[&["ssh-ed25519 AAAA"]]),
            groups(none),
            "recipient \"ssh-ed25519 AAAA\" in recipients is not an age recipient: \
             invalid Bech32 encoding",
        ),
        (
            "identity",
            groups(&[&[identity.as_str()]]),
            groups(none),
            "a member of recipients is a secret key: name its recipient (age1...) instead",
        ),
        (
            "twice in a group",
            groups(&[&[own, own]]),
            groups(none),
            "stands twice in one group of recipients",
        ),
        (
            "bad upstream",
            groups(&[&[own]]),
            groups(&[&["age1x"]]),
            "recipient \"age1x\" in upstream_recipients is not an age recipient",
        ),
    ];
    for (name, recipients, upstream, expected) in cases {
        let key = SigningKey::generate().unwrap();
        let error = Sealing::new(&recipients, &upstream, key).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
        assert!(!error.contains(identity.as_str()), "{name}");
    }
}

#[test]
fn identity_file_names_its_bad_line_and_does_not_show_it() {
    let (identity, recipient) = keygen();
    let mut identities = Identities::new();
    identities.add_file(&format!("# note\n\n  {}\r\n", *identity)).unwrap();
    assert!(!identities.is_empty());

    let mut empty = Identities::new();
    let error = empty.add_file(&format!("{}\n# x\n{recipient}\n", *identity)).unwrap_err();
    assert!(matches!(error, TrailError::Identity { line: 3, .. }), "{error}");
    assert!(!error.to_string().contains(&recipient));
    assert!(empty.is_empty());
}

#[test]
fn keys_keep_their_forms() {
    let key = SigningKey::generate().unwrap();
    let again = SigningKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
    assert_eq!(again.public(), key.public());
    let text = key.public().to_string();
    assert_eq!(text.len(), 72);
    assert_eq!(text.parse::<VerifyingKey>().unwrap(), key.public());
    assert_eq!(key.public().key_id().to_string().len(), 16);
    assert_eq!(format!("{key:?}"), format!("SigningKey({text})"));

    let bare = text.replace("ed25519:", "");
    let mut short = text.clone();
    short.pop();
    let long = format!("{text}00");
    let upper = format!("ed25519:{}", "A".repeat(64));
    for bad in ["", "ed25519:", "ed25519:é", bare.as_str(), &short, &long, &upper] {
        let parsed = bad.parse::<VerifyingKey>();
        assert!(matches!(parsed, Err(TrailError::VerifyingKey { .. })), "{bad}");
    }
    assert!(matches!(SigningKey::from_pkcs8(b"no key"), Err(TrailError::SigningKey { .. })));
}
