//! The text of a trail.
use super::super::{CREATED_NS, Site, batch, header};
use crate::{Reader, Record, Source, Stream, TrailError, Writer, export_text};

fn data(channel: u32, source: Source, bytes: &[u8]) -> Record<'_> {
    Record::Data { channel, source, bytes }
}

fn opened(channel: &'static str, kind: &'static str) -> Record<'static> {
    let fields = vec![("kind", kind), ("detail", ""), ("rule", "0"), ("channel", channel)];
    Record::Event { kind: "channel", fields }
}

fn trail(site: &Site, streams: &[(Stream, &[(u64, Record<'_>)])]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut writer = Writer::create(&mut file, &header(), &site.sealing()).unwrap();
    for (stream, records) in streams {
        let taken = batch(records);
        writer.chunk(*stream, &taken.records, taken.first_t_ns).unwrap();
    }
    writer.end("done", CREATED_NS).unwrap();
    file
}

fn text(site: &Site, file: &[u8], channel: Option<u32>) -> Result<(String, u64), TrailError> {
    let mut reader = Reader::open(file, &site.identities(), None)?;
    let mut out = Vec::new();
    let exported = export_text(&mut reader, channel, &mut out)?;
    Ok((String::from_utf8(out).unwrap(), exported.records))
}

#[test]
fn shells_and_commands_are_text() {
    let site = Site::new();
    let meta = [
        (1, opened("0", "session-shell")),
        (1, opened("1", "session-exec")),
        (1, opened("2", "session-sftp")),
        (1, opened("4", "session-\u{1b}[m\u{9b}x\n")),
    ];
    let downstream = [
        (2, data(0, Source::Stdout, b"\x1b]0;title\x07$ l\x1b[")),
        (3, data(0, Source::Stdout, b"1ms\r\ncaf\xc3")),
        (4, data(1, Source::Stdout, b"out\n")),
        (5, data(2, Source::Stdout, b"\0\0\0\x05\x02\0\0\0\x03")),
        (6, data(1, Source::Stderr, b"err\n")),
        (7, data(3, Source::Stdout, b"of unknown kind")),
        (8, Record::Keyframe { channel: 0, columns: 80, rows: 24, screen: "keyframe" }),
        (9, data(0, Source::Stdout, b"\xa9\r")),
        (10, data(0, Source::Stdout, b"bell\x07")),
    ];
    let upstream = [(2, data(0, Source::Stdin, b"secret\r"))];
    let file = trail(
        &site,
        &[(Stream::Meta, &meta), (Stream::Downstream, &downstream), (Stream::Upstream, &upstream)],
    );
    let all = "== channel 0, session-shell ==\n$ ls\ncaf\n\
               == channel 1, session-exec ==\nout\nerr\n\
               == channel 3, unknown ==\nof unknown kind\n\
               == channel 0, session-shell ==\n\u{e9}\nbell\n";
    assert_eq!(text(&site, &file, None).unwrap(), (all.to_owned(), 7));
    // One that is asked for is shown, whatever it is.
    let cases = [(0, "$ ls\ncaf\u{e9}\nbell\n", 4), (1, "out\nerr\n", 2), (2, "", 1), (4, "", 0)];
    for (channel, expected, records) in cases {
        let found = text(&site, &file, Some(channel)).unwrap();
        assert_eq!(found, (expected.to_owned(), records), "{channel}");
    }
}

#[test]
fn channels_open_at_once_are_bounded() {
    let site = Site::new();
    let all: Vec<_> = (0..1025).map(|channel| (1, data(channel, Source::Stdout, b"x"))).collect();
    let file = trail(&site, &[(Stream::Downstream, &all)]);
    let refused = text(&site, &file, None);
    assert!(matches!(refused, Err(TrailError::TooManyChannels { limit: 1024 })), "{refused:?}");
    // Closed ones do not count.
    let one_by_one: Vec<_> = (0..1025)
        .flat_map(|channel| {
            let close = Record::ChannelClose { channel };
            [(1, data(channel, Source::Stdout, b"x")), (1, close)]
        })
        .collect();
    let file = trail(&site, &[(Stream::Downstream, &one_by_one)]);
    assert_eq!(text(&site, &file, None).unwrap().1, 1025);
}
