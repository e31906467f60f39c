//! What a replay writes to the terminal.

use std::fs;

use proxyd_trail::Stream;

use super::super::sample::{Part, Site};
use super::*;

const SECOND: u64 = 1_000_000_000;

/// All at once, from the start.
fn pace() -> Pace {
    Pace { speed: 0.0, at: 0, until: None, search: None, idle_limit: 3, channel: None }
}

fn data(channel: u32, source: Source, bytes: &[u8]) -> Record<'_> {
    Record::Data { channel, source, bytes }
}

/// Output at 1 to 5 s and a keyframe at 3.5 s on channel 2; others on channel 1.
fn parts() -> [Part<'static>; 4] {
    let keyframe = |channel, screen| Record::Keyframe { channel, columns: 80, rows: 24, screen };
    [
        (Stream::Upstream, vec![(0, data(2, Source::Stdin, b"typed"))]),
        (
            Stream::Downstream,
            vec![
                (SECOND, data(2, Source::Stdout, b"one\x1b]52;c;AAAA\x07 ")),
                (2 * SECOND, data(2, Source::Stderr, b"two ")),
                (2 * SECOND, data(1, Source::Stdout, b"other ")),
            ],
        ),
        (
            Stream::Downstream,
            vec![
                (3 * SECOND, data(2, Source::Stdout, b"thr\x1b[1mee \x1b[3")),
                (3 * SECOND + SECOND / 2, keyframe(2, "\x1b[1mscreen\x1b[6n \x1b[3")),
                (3 * SECOND + SECOND / 2, keyframe(1, "no")),
                (4 * SECOND, data(2, Source::Stdout, b"1mfour ")),
            ],
        ),
        (Stream::Downstream, vec![(5 * SECOND, data(2, Source::Stdout, b"fi\xff \x1b[5n"))]),
    ]
}

fn played(source: &super::super::Source, pace: &Pace) -> anyhow::Result<String> {
    let mut out = Vec::new();
    replay(source, pace, &mut out)?;
    Ok(String::from_utf8(out)?)
}

#[test]
fn it_starts_and_stops_where_it_is_told() {
    let site = Site::new();
    let source = site.write(&parts());
    let whole = "one two thr\x1b[1mee \x1b[31mfour fi\u{fffd} \x1b[0m\r\n";
    let from_keyframe = "\x1b[0m\x1b[r\x1b[H\x1b[2J\
                         \x1b[1mscreen \x1b[31mfour fi\u{fffd} \x1b[0m\r\n\
                         not verified before 00:00:03.500; `proxyd trail verify` does\n";
    let stopped = "\x1b[0m\x1b[r\x1b[H\x1b[2J\x1b[1mscreen \x1b[31mfour \x1b[0m\r\n\
                   not verified before 00:00:03.500; `proxyd trail verify` does\n";
    let from_start = || pace();
    let at = |at| Pace { at, ..pace() };
    let search = |text: &str, at| Pace { at, search: Some(text.to_owned()), ..pace() };
    let cases = [
        ("from the start", from_start(), whole),
        ("before the keyframe", at(3 * SECOND), whole),
        ("at the keyframe", at(3 * SECOND + SECOND / 2), from_keyframe),
        ("behind it", at(4 * SECOND), from_keyframe),
        ("behind the end", at(1_000 * SECOND), from_keyframe),
        ("up to a time", Pace { until: Some(2 * SECOND), ..pace() }, "one two \x1b[0m\r\n"),
        ("a part", Pace { until: Some(4 * SECOND), ..at(4 * SECOND) }, stopped),
        ("text before the keyframe", search("E THREE", 0), whole),
        ("text behind it", search("four", 0), from_keyframe),
        ("text at a time", search(" ", 4 * SECOND), from_keyframe),
        ("another channel", Pace { channel: Some(1), ..pace() }, "other \x1b[0m\r\n"),
    ];
    for (name, pace, expected) in cases {
        assert_eq!(played(&source, &pace).unwrap(), expected, "{name}");
    }
}

#[test]
fn what_cannot_be_played_is_said() {
    let site = Site::new();
    let source = site.write(&parts());
    let search = |text: &str| Pace { search: Some(text.to_owned()), ..pace() };
    let late = |pace: Pace| Pace { at: 4 * SECOND, ..pace };
    let cases = [
        ("order", Pace { until: Some(1), ..late(pace()) }, "--until is before --at"),
        ("no text", search("six"), "the output has no \"six\" there"),
        ("text before", late(search("three")), "the output has no \"three\" there"),
        ("text typed", search("typed"), "the output has no \"typed\" there"),
        (
            "text behind the end",
            Pace { until: Some(SECOND), ..search("two") },
            "the output has no \"two\" there",
        ),
        ("no output", Pace { channel: Some(3), ..pace() }, NOTHING_SHOWN),
        ("no output there", Pace { channel: Some(3), ..late(pace()) }, NOTHING_SHOWN),
    ];
    for (name, pace, expected) in cases {
        assert_eq!(played(&source, &pace).unwrap_err().to_string(), expected, "{name}");
    }
}

#[test]
fn damage_before_the_keyframe_is_not_noticed_and_a_whole_replay_says_so() {
    let site = Site::new();
    let source = site.write(&parts());
    let mut bytes = fs::read(source.place.file().unwrap()).unwrap();
    // In the first frame, which is behind a header of a few kilobytes.
    let body_bytes = u32::from_be_bytes(bytes[10..14].try_into().unwrap()) as usize;
    bytes[18 + body_bytes + 64 + 21 + 15] ^= 1;
    fs::write(source.place.file().unwrap(), bytes).unwrap();
    let at = |at| Pace { at, channel: Some(2), ..pace() };
    let played_late = played(&source, &at(4 * SECOND)).unwrap();
    assert!(played_late.contains("screen \x1b[31mfour"), "{played_late}");

    let mut out = Vec::new();
    let error = replay(&source, &pace(), &mut out).unwrap_err();
    assert!(error.to_string().starts_with("the trail was altered at frame 0"), "{error}");
    // The terminal is set back all the same.
    assert_eq!(out, b"\x1b[0m\r\n");
}
