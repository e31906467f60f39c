//! The asciicast of a trail.
use super::super::{CREATED_NS, Site, batch, header, identities};
use crate::{
    CastVersion, Reader, Record, Sealing, Source, Stream, TrailError, Writer, export_asciicast,
    keygen,
};

/// A trail whose second channel has a terminal; the client's bytes have recipients of their own.
fn trail(site: &Site, upstream_recipient: String) -> Vec<u8> {
    let data = |channel, source, bytes| Record::Data { channel, source, bytes };
    let recipients = [vec![site.recipient.clone()]];
    let upstream = [vec![upstream_recipient]];
    let sealing = Sealing::new(&recipients, &upstream, site.signing_key.clone()).unwrap();
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, &header(), &sealing).unwrap();
    let mut chunk = |stream, records: &[(u64, Record<'_>)]| {
        let taken = batch(records);
        writer.chunk(stream, &taken.records, taken.first_t_ns).unwrap();
    };
    let second = 1_000_000_000;
    chunk(
        Stream::Meta,
        &[
            (0, Record::Note { text: "no terminal on channel 0" }),
            (second, Record::Pty { channel: 1, term: "xterm\"", columns: 100, rows: 30 }),
            (4 * second, Record::Resize { channel: 1, columns: 120, rows: 40 }),
            (6 * second + 999, Record::ExitStatus { channel: 1, status: 3 }),
        ],
    );
    chunk(
        Stream::Downstream,
        &[
            (5, data(0, Source::Stdout, b"exec output")),
            (second + 1_500_000, data(1, Source::Stdout, b"caf\xc3")),
            (second + 2_000_000, data(1, Source::Stderr, b"\x1b[1m\"\\")),
            (2 * second, data(1, Source::Stdout, b"\xa9\r\n\xff!")),
            (2 * second, Record::Keyframe { channel: 1, columns: 9, rows: 9, screen: "no" }),
            (5 * second, data(1, Source::Stdout, b"\xe2\x82")),
        ],
    );
    chunk(Stream::Upstream, &[(3 * second, data(1, Source::Stdin, b"ls\r"))]);
    writer.end("done", CREATED_NS).unwrap();
    file
}

const LINES: [&str; 8] = [
    "{\"version\":2,\"width\":100,\"height\":30,\"timestamp\":1700000001,\
     \"env\":{\"TERM\":\"xterm\\\"\"}}",
    r#"[0.001500, "o", "caf"]"#,
    r#"[0.002000, "o", "\u001b[1m\"\\"]"#,
    "[1.000000, \"o\", \"é\\r\\n\u{fffd}!\"]",
    r#"[2.000000, "i", "ls\r"]"#,
    r#"[3.000000, "r", "120x40"]"#,
    "[4.000000, \"o\", \"\u{fffd}\"]",
    "",
];

#[test]
fn first_terminal_is_exported() {
    let site = Site::new();
    let (upstream_identity, upstream_recipient) = keygen();
    let file = trail(&site, upstream_recipient);
    let both = identities(&[site.identity.as_str(), upstream_identity.as_str()]);
    let cases = [
        ("with input", both, LINES.to_vec()),
        ("without input", site.identities(), {
            let mut lines = LINES.to_vec();
            lines.remove(4);
            lines
        }),
    ];
    for (name, identities, lines) in cases {
        let mut reader = Reader::open(file.as_slice(), &identities, None).unwrap();
        let mut out = Vec::new();
        let exported = export_asciicast(&mut reader, CastVersion::V2, None, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"), "{name}");
        assert_eq!(exported.channel, 1, "{name}");
        assert_eq!(exported.events, lines.len() as u64 - 2, "{name}");
    }
}

#[test]
fn channel_without_terminal_is_exported_when_asked_for() {
    let site = Site::new();
    let file = trail(&site, site.recipient.clone());
    let mut reader = Reader::open(file.as_slice(), &site.identities(), None).unwrap();
    let mut out = Vec::new();
    export_asciicast(&mut reader, CastVersion::V2, Some(0), &mut out).unwrap();
    let expected = "{\"version\":2,\"width\":80,\"height\":24,\"timestamp\":1700000000}\n\
                    [0.000000, \"o\", \"exec output\"]\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);

    let mut reader = Reader::open(file.as_slice(), &site.identities(), None).unwrap();
    let exported = export_asciicast(&mut reader, CastVersion::V2, Some(7), Vec::<u8>::new());
    assert!(matches!(exported, Err(TrailError::NoTerminal)), "{exported:?}");
}

#[test]
fn version_3_counts_from_event_to_event() {
    let site = Site::new();
    let file = trail(&site, site.recipient.clone());
    let mut reader = Reader::open(file.as_slice(), &site.identities(), None).unwrap();
    let mut out = Vec::new();
    let exported = export_asciicast(&mut reader, CastVersion::V3, None, &mut out).unwrap();
    let lines = [
        "{\"version\":3,\"term\":{\"cols\":100,\"rows\":30,\"type\":\"xterm\\\"\"},\
         \"timestamp\":1700000001}",
        r#"[0.001500, "o", "caf"]"#,
        r#"[0.000500, "o", "\u001b[1m\"\\"]"#,
        "[0.998000, \"o\", \"é\\r\\n\u{fffd}!\"]",
        r#"[1.000000, "i", "ls\r"]"#,
        r#"[1.000000, "r", "120x40"]"#,
        "[1.000000, \"o\", \"\u{fffd}\"]",
        r#"[1.000000, "x", "3"]"#,
        "",
    ];
    assert_eq!(String::from_utf8(out).unwrap(), lines.join("\n"));
    assert_eq!(exported.events, 7);

    let mut reader = Reader::open(file.as_slice(), &site.identities(), None).unwrap();
    let mut out = Vec::new();
    export_asciicast(&mut reader, CastVersion::V3, Some(0), &mut out).unwrap();
    let expected = "{\"version\":3,\"term\":{\"cols\":80,\"rows\":24},\"timestamp\":1700000000}\n\
                    [0.000000, \"o\", \"exec output\"]\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}
