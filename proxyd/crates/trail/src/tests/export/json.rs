//! The JSON of a trail.
use super::super::{CREATED_NS, Site, batch, header};
use crate::{ChannelVerdict, Reader, Record, Source, Stream, Writer, export_json};

/// A record of every kind.
fn records() -> [(Stream, Vec<(u64, Record<'static>)>); 3] {
    let channel = 1;
    let meta = vec![
        (1, Record::Fact { name: "client", value: "192.0.2.1:5" }),
        (2, Record::Event { kind: "target", fields: vec![("address", "a\u{1b}"), ("b", "")] }),
        (
            3,
            Record::ChannelOpen {
                channel,
                kind: "session-shell",
                verdict: ChannelVerdict::Refused,
                reason: "no",
            },
        ),
        (4, Record::Pty { channel, term: "xterm", columns: 80, rows: 24 }),
        (5, Record::Resize { channel, columns: 81, rows: 25 }),
        (7, Record::Eof { channel, source: Source::Stdin }),
        (8, Record::ExitStatus { channel, status: 255 }),
        (
            9,
            Record::ExitSignal { channel, signal: "KILL", core_dumped: false, message: "\u{202e}" },
        ),
        (
            10,
            Record::FileOperation {
                channel,
                operation: "rename",
                path: b"/a",
                new_path: b"/\xff",
                size: u64::MAX,
                sha256: Some([0xab; 32]),
                result: "ok",
            },
        ),
        (11, Record::ChannelClose { channel }),
        (12, Record::Note { text: "note" }),
        (13, Record::Gap { reason: "full", dropped_bytes: 7 }),
    ];
    let downstream = vec![
        (6, Record::Data { channel, source: Source::Stderr, bytes: b"\x00\xff" }),
        (6, Record::Keyframe { channel, columns: 80, rows: 24, screen: "screen" }),
    ];
    let upstream = vec![(6, Record::Command { channel: 2, command: b"ls \xc3" })];
    [(Stream::Meta, meta), (Stream::Downstream, downstream), (Stream::Upstream, upstream)]
}

/// What is written of [`records`].
const EXPECTED: &str = include_str!("expected.jsonl");

#[test]
fn every_record_is_a_line() {
    let site = Site::new();
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, &header(), &site.sealing()).unwrap();
    for (stream, records) in records() {
        let taken = batch(&records);
        writer.chunk(stream, &taken.records, taken.first_t_ns).unwrap();
    }
    writer.end("done", CREATED_NS).unwrap();
    let export = |channel| {
        let mut reader = Reader::open(file.as_slice(), &site.identities(), None).unwrap();
        let mut out = Vec::new();
        let count = export_json(&mut reader, channel, &mut out).unwrap();
        (String::from_utf8(out).unwrap(), count)
    };
    assert_eq!(export(None), (EXPECTED.to_owned(), 14));
    let command = EXPECTED.lines().find(|line| line.contains("\"command\"")).unwrap();
    assert_eq!(export(Some(2)), (format!("{command}\n"), 1));
    for line in export(None).0.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}
