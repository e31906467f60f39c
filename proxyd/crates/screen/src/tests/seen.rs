//! Text that could be read, and when.

use super::{MS, play_on, seen};
use crate::{Entry, Transcript};

/// Plays on a screen of 20 by 4.
fn play(output: &[(u64, &str)]) -> Vec<(u64, String)> {
    let entries = play_on(20, 4, output);
    seen(&entries).into_iter().map(|(t_ms, text)| (t_ms, text.to_owned())).collect()
}

type Case<'a> = (&'a str, &'a [(u64, &'a str)], &'a [(u64, &'a str)]);

fn check(cases: &[Case<'_>]) {
    for (name, output, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|&(t, text)| (t, text.to_owned())).collect();
        assert_eq!(play(output), expected, "{name}");
        // However a moment's output is cut, it shows the same.
        for piece in [1, 2, 3] {
            let mut transcript = Transcript::new(20, 4);
            let (mut entries, mut end) = (vec![], 0);
            for (t_ms, text) in *output {
                for bytes in text.as_bytes().chunks(piece) {
                    entries.extend(transcript.feed(t_ms * MS, bytes));
                }
                end = t_ms + 1_000;
            }
            entries.extend(transcript.finish(end * MS));
            let pieces: Vec<_> =
                seen(&entries).into_iter().map(|(t, text)| (t, text.to_owned())).collect();
            assert_eq!(pieces, expected, "{name} in pieces of {piece}");
        }
    }
}

#[test]
fn what_stands_is_seen_and_what_does_not_is_not() {
    check(&[
        ("nothing", &[], &[]),
        ("blanks", &[(5, "   \r\n \t")], &[]),
        ("at the end", &[(5, "hello")], &[(5, "hello")]),
        ("after blanks", &[(5, "  a b  ")], &[(5, "  a b")]),
        ("cleared after 50 ms", &[(0, "gone"), (50, "\x1b[2J\x1b[H")], &[]),
        ("cleared after 99 ms", &[(0, "gone"), (99, "\x1b[2J\x1b[H")], &[]),
        ("cleared after 100 ms", &[(0, "seen"), (100, "\x1b[2J\x1b[H")], &[(0, "seen")]),
        ("cleared after 150 ms", &[(7, "seen"), (157, "\x1b[H\x1b[J")], &[(7, "seen")]),
        ("reset after 150 ms", &[(7, "seen"), (157, "\x1bc")], &[(7, "seen")]),
        ("overwritten at once", &[(0, "abc\x08\x08\x08xyz")], &[(0, "xyz")]),
        ("overwritten soon", &[(0, "abc"), (50, "\x08\x08\x08xyz")], &[(50, "xyz")]),
        ("overwritten later", &[(0, "abc"), (150, "\x08\x08\x08xyz")], &[(0, "abc"), (150, "xyz")]),
        ("grows", &[(0, "l"), (200, "s"), (400, " -l")], &[(400, "ls -l")]),
        ("grows slowly from a short one", &[(0, "a"), (500, "b"), (501, "\r\x1b[K")], &[(0, "a")]),
        ("in part", &[(0, "keep "), (500, "short"), (550, "\r\x1b[K")], &[(0, "keep")]),
        ("same line twice", &[(0, "hi\r\n"), (1_000, "hi\r\n")], &[(0, "hi"), (1_000, "hi")]),
        (
            "same place twice",
            &[(0, "hi"), (500, "\x1b[2J"), (1_000, "\rhi")],
            &[(0, "hi"), (1_000, "hi")],
        ),
        ("time that stands still", &[(9, "abc"), (9, "\r"), (3, "xyz")], &[(9, "xyz")]),
        ("wide", &[(0, "日本"), (200, "\r語")], &[(0, "日本"), (200, "語本")]),
        ("no title", &[(0, "\x1b]0;title\x07\x1b]52;c;c2VjcmV0\x1b\\text")], &[(0, "text")]),
        ("hidden password", &[(0, "Password: "), (3_000, "\r\n")], &[(0, "Password:")]),
    ]);
}

#[test]
fn text_that_is_drawn_anew_is_the_same_text() {
    check(&[
        ("in place", &[(0, "same"), (500, "\rsame"), (900, "\r\x1b[Ksame")], &[(0, "same")]),
        (
            "erased for a moment",
            &[(0, "one\r\ntwo"), (500, "\x1b[H\x1b[J"), (520, "one\r\ntwo"), (2_000, "\x1b[2J")],
            &[(0, "one"), (0, "two")],
        ),
        (
            "erased for a moment, again and again",
            &[(0, "one"), (500, "\r\x1b[K"), (510, "one"), (900, "\r\x1b[K"), (910, "one")],
            &[(0, "one")],
        ),
        (
            "erased for longer",
            &[(0, "one"), (500, "\r\x1b[K"), (600, "one")],
            &[(0, "one"), (600, "one")],
        ),
        ("in colours", &[(0, "word"), (500, "\r\x1b[31mword")], &[(0, "word")]),
        (
            "a clock beside it",
            &[(0, "load 1"), (1_000, "\x08 2"), (2_000, "\x083")],
            &[(0, "load 1"), (1_000, "load  2"), (2_000, "load  3")],
        ),
        (
            "moved up, drawn anew",
            &[(0, "\x1b[Ha\r\nb\r\nc"), (60, "\x1b[Hb\r\nc\r\nd"), (120, "\x1b[Hc\r\nd\r\ne")],
            &[(0, "b"), (0, "c"), (60, "d"), (120, "e")],
        ),
        (
            "moved up, drawn anew in two pieces",
            &[
                (0, "\x1b[Haa\r\nbb\r\ncc"),
                (150, "\x1b[Hbb\r\n"),
                (160, "cc\r\ndd"),
                (500, "\x1b[2J"),
            ],
            &[(0, "aa"), (0, "bb"), (0, "cc"), (160, "dd")],
        ),
    ]);
}

#[test]
fn lines_are_edited() {
    check(&[
        (
            "backspace",
            &[(0, "$ lsx"), (300, "\x08\x1b[K"), (600, " -l")],
            &[(0, "$ lsx"), (600, "$ ls -l")],
        ),
        (
            "history",
            &[
                (0, "$ "),
                (1_000, "make test"),
                (1_500, "\r\x1b[2C\x1b[Kmake"),
                (2_000, "\r$ ls\x1b[K"),
                (2_500, "\r\n"),
            ],
            &[(1_000, "$ make test"), (2_000, "$ ls")],
        ),
        (
            "erased from the end by a held key",
            &[(0, "$ abc"), (500, "\x08\x1b[K"), (530, "\x08\x1b[K"), (560, "\x08\x1b[K")],
            &[(0, "$ abc")],
        ),
        (
            "inserted",
            &[(0, "$ cat fil.txt\x1b[4D"), (300, "\x1b[@e")],
            &[(0, "$ cat fil.txt"), (300, "$ cat file.txt")],
        ),
        (
            "wrapped while typed",
            &[(0, "$ echo one two three"), (300, "four"), (600, " five\r\n")],
            &[(600, "$ echo one two threefour five")],
        ),
    ]);
}

#[test]
fn a_progress_bar_is_seen_when_it_stands() {
    let fast: Vec<(u64, String)> =
        (0..100).map(|step| (step * 5, format!("\r{step}: {:x}", step * 7_919 + 65_536))).collect();
    let fast: Vec<(u64, &str)> = fast.iter().map(|(t, text)| (*t, text.as_str())).collect();
    assert_eq!(play(&fast), [(495, fast[99].1.trim_start().to_owned())]);
    let slow: Vec<(u64, String)> =
        (1..=4).map(|step| (step * 250, format!("\r{}%", step * 25))).collect();
    let slow: Vec<(u64, &str)> = slow.iter().map(|(t, text)| (*t, text.as_str())).collect();
    let expected = [(250, "25%"), (500, "50%"), (750, "75%"), (1_000, "100%")];
    assert_eq!(play(&slow), expected.map(|(t, text)| (t, text.to_owned())));
}

#[test]
fn text_of_both_screens_is_seen() {
    check(&[
        (
            "editor",
            &[
                (0, "$ vim x\r\n"),
                (100, "\x1b[?1049h\x1b[H\x1b[2Jline one\r\n~\x1b[4;1H\"x\" 1L"),
                (900, "\x1b[1;6Htwo"),
                (1_500, "\x1b[?1049l$ "),
            ],
            &[
                (0, "$ vim x"),
                (100, "line one"),
                (100, "~"),
                (100, "\"x\" 1L"),
                (900, "line two"),
                (1_500, "$"),
            ],
        ),
        ("left within 100 ms", &[(0, "a\x1b[?1049h\x1b[Hb"), (60, "\x1b[?1049l")], &[(0, "a")]),
        (
            "shell goes on",
            &[(0, "a"), (500, "\x1b[?1047h\x1b[Hb"), (900, "\x1b[?1047l"), (950, "c")],
            &[(500, "b"), (950, "ac")],
        ),
        ("reset from it", &[(0, "a\x1b[?1049h\x1b[Hb"), (500, "\x1bc")], &[(0, "b"), (0, "a")]),
        ("never left", &[(0, "a\x1b[?1049h\x1b[Hb")], &[(0, "b"), (0, "a")]),
    ]);
}

#[test]
fn text_that_scrolls_is_seen() {
    check(&[
        (
            "out of the screen at once",
            &[(0, "1\r\n2\r\n3\r\n4\r\n5\r\n6\x1b[2J")],
            &[(0, "1"), (0, "2")],
        ),
        (
            "out of a region",
            &[(0, "head\x1b[2;3r\x1b[2;1H1\n\r2\n\r3\n\r4\x1b[r\x1b[2J")],
            &[(0, "1"), (0, "2")],
        ),
        (
            "out of a region of the other screen",
            &[(0, "\x1b[?1049h\x1b[1;3r\x1b[H1\n\r2\n\r3\n\r4"), (10, "\x1b[?1049l")],
            &[(0, "1")],
        ),
        ("out at the bottom", &[(0, "1\r\n2\r\n3\r\n4\x1b[H\x1bM0\x1b[2J")], &[(0, "4")]),
        ("deleted lines", &[(0, "1\r\n2\r\n3\x1b[H\x1b[2M\x1b[2J")], &[(0, "1"), (0, "2")]),
        ("inserted lines", &[(0, "1\r\n2\r\n3\r\n4\x1b[H\x1b[2L\x1b[2J")], &[(0, "3"), (0, "4")]),
        ("by sequences", &[(0, "1\r\n2\r\n3\x1b[2S\x1b[2J")], &[(0, "1"), (0, "2")]),
        ("down by sequences", &[(0, "1\r\n2\r\n3\x1b[2T\x1b[2J")], &[(0, "3")]),
        (
            "not told again",
            &[(0, "1\r\n2\r\n3\r\n4"), (500, "\r\n5"), (1_000, "\r\n6"), (1_500, "\x1b[2J")],
            &[(0, "1"), (0, "2"), (0, "3"), (0, "4"), (500, "5"), (1_000, "6")],
        ),
        ("by wrapping", &[(0, "1\r\n2\r\n3\r\n01234567890123456789ab\x1b[2J")], &[(0, "1")]),
    ]);
}

/// As `less` shows a file: a page, one line on, a page on, a line back.
#[test]
fn a_pager_hides_nothing() {
    let output = [
        (0, "\x1b[?1049h\x1b[?1h\x1b=\r1\r\n2\r\n3\r\n:\x1b[K"),
        (1_000, "\r\x1b[K4\r\n:\x1b[K"),
        (2_000, "\r\x1b[K5\r\n6\r\n7\r\n:\x1b[K"),
        (3_000, "\r\x1b[K\x1b[H\x1bM4\r\n\x1b[4;1H\r\x1b[K:\x1b[K"),
        (4_000, "\r\x1b[K\x1b[?1l\x1b>\x1b[?1049l"),
    ];
    let seen: Vec<String> = play(&output).into_iter().map(|(_, text)| text).collect();
    let mut lines: Vec<&str> =
        seen.iter().map(String::as_str).filter(|text| *text != ":").collect();
    lines.sort_unstable();
    // The fourth was scrolled out and came back.
    assert_eq!(lines, ["1", "2", "3", "4", "4", "5", "6", "7"]);
}

#[test]
fn a_long_file_is_told_once_line_by_line() {
    let lines: Vec<String> =
        (0..10_000).map(|n| format!("line {n}{}", "x".repeat(n % 50))).collect();
    let output = lines.join("\r\n");
    for piece in [1_000, 4_096, usize::MAX] {
        let mut transcript = Transcript::new(80, 24);
        let (mut entries, mut t_ns) = (vec![], 0);
        for bytes in output.as_bytes().chunks(piece) {
            entries.extend(transcript.feed(t_ns, bytes));
            t_ns += MS / 10;
        }
        entries.extend(transcript.finish(t_ns));
        let texts: Vec<&str> = seen(&entries).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts.len(), lines.len(), "{piece}");
        assert!(texts == lines, "{piece}");
    }
}

#[test]
fn entries_come_as_they_become_certain() {
    let mut transcript = Transcript::new(20, 2);
    let told = |entries: Vec<Entry>| {
        seen(&entries).into_iter().map(|(t, text)| (t, text.to_owned())).collect::<Vec<_>>()
    };
    assert_eq!(told(transcript.feed(0, b"a\r\nb")), []);
    assert_eq!(told(transcript.feed(200 * MS, b"\r\nc")), [(0, "a".to_owned())]);
    assert_eq!(told(transcript.feed(400 * MS, b"\x1b[2J")), []);
    // It could come back for 100 ms.
    assert_eq!(told(transcript.feed(499 * MS, b"")), []);
    let gone = [(0, "b".to_owned()), (200, "c".to_owned())];
    assert_eq!(told(transcript.feed(500 * MS, b"")), gone);
    assert_eq!(told(transcript.finish(600 * MS)), []);
}

#[test]
fn a_change_of_size_hides_and_repeats_nothing() {
    let text = "one\r\n0123456789012345678901234567\r\ntwo";
    let sizes = [(10, 4), (40, 4), (20, 2), (20, 9), (5, 1), (0, 0), (1, 1), (u32::MAX, u32::MAX)];
    for sizes in [&sizes[..1], &sizes[1..2], &sizes[2..3], &sizes[3..4], &sizes[4..5], &sizes] {
        let mut transcript = Transcript::new(20, 4);
        let mut entries = transcript.feed(0, text.as_bytes());
        let mut t_ns = 500 * MS;
        for &(columns, rows) in sizes {
            entries.extend(transcript.resize(t_ns, columns, rows));
            t_ns += 500 * MS;
        }
        entries.extend(transcript.finish(t_ns));
        let all: Vec<&str> = seen(&entries).into_iter().map(|(_, text)| text).collect();
        for line in ["one", "0123456789012345678901234567", "two"] {
            assert!(all.contains(&line), "{line} of {sizes:?}: {all:?}");
        }
        // Two rows keep the second half of the long line, which is a text of its own then.
        let count = if sizes == [(20, 2)] { 4 } else { 3 };
        assert!(all.len() == count || sizes.len() > 1, "{sizes:?}: {all:?}");
    }
}

#[test]
fn the_hidden_screen_keeps_its_texts_through_changes_of_size() {
    let mut transcript = Transcript::new(20, 4);
    let mut entries = transcript.feed(0, b"shell text that is long\r\nnext");
    entries.extend(transcript.feed(500 * MS, b"\x1b[?1049h\x1b[Heditor text"));
    entries.extend(transcript.resize(900 * MS, 8, 6));
    entries.extend(transcript.feed(1_500 * MS, b"\x1b[?1049l"));
    entries.extend(transcript.finish(3_000 * MS));
    let expected = [
        (0, "shell text that is long"),
        (0, "next"),
        (500, "editor text"),
        // What was left of it on the narrower screen.
        (900, "editor t"),
    ];
    assert_eq!(seen(&entries), expected);
}

/// What was told before is told again beside what came later, as far as that stood too.
#[test]
fn a_text_of_old_and_new_characters_is_told() {
    let output = [(0, "! !a "), (150, "\x1b[L\x1b[2Taa aaaa a \"!"), (300, "   ")];
    let entries = play_on(5, 5, &output);
    let texts = seen(&entries);
    assert!(texts.iter().any(|(_, text)| text.contains("\"!!a")), "{texts:?}");
}
