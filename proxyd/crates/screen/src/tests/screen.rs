//! What a screen shows, whatever it is fed.

use avt::Terminal;

use crate::{Screen, Size};

fn show(columns: u32, rows: u32, text: &str) -> Vec<String> {
    let mut screen = Screen::new(columns, rows);
    screen.feed(text.as_bytes());
    screen.text()
}

/// A screen shows what its keyframe does.
fn copy(screen: &Screen) -> Screen {
    let size = screen.size();
    let mut copy = Screen::new(size.columns.into(), size.rows.into());
    copy.feed(screen.keyframe().as_bytes());
    assert_eq!(copy.text(), screen.text());
    assert_eq!(copy.keyframe(), screen.keyframe());
    copy
}

const SHOWN: [(&str, &str, [&str; 3]); 30] = [
    ("nothing", "", ["", "", ""]),
    ("lines", "a\r\nb\r\nc", ["a", "b", "c"]),
    ("scrolled", "a\r\nb\r\nc\r\nd", ["b", "c", "d"]),
    ("wrapped", "0123456789ab", ["0123456789", "ab", ""]),
    ("backspace", "abc\x08\x08\x08xyz", ["xyz", "", ""]),
    ("tabs", "a\tb", ["a       b", "", ""]),
    ("wide", "a日本b", ["a日本b", "", ""]),
    ("wide that does not fit", "012345678日", ["012345678", "日", ""]),
    ("half of a wide one overwritten", "日本\r x", [" x本", "", ""]),
    ("erased to the end", "abcdef\r\x1b[2C\x1b[K", ["ab", "", ""]),
    ("cursor addressed", "\x1b[2;3Hx\x1b[Hy", ["y", "  x", ""]),
    ("inserted", "abc\r\x1b[@X", ["Xabc", "", ""]),
    ("deleted", "abc\r\x1b[P", ["bc", "", ""]),
    ("scroll region", "a\r\nb\r\nc\x1b[1;2r\x1b[2;1H\nd", ["b", "d", "c"]),
    ("scrolled down", "a\r\nb\x1b[H\x1bM", ["", "a", "b"]),
    ("colours", "\x1b[1;31;48;5;9ma\x1b[mb", ["ab", "", ""]),
    ("title", "\x1b]0;title\x07a\x1b]2;title\x1b\\b", ["ab", "", ""]),
    ("clipboard", "\x1b]52;c;c2VjcmV0\x07a", ["a", "", ""]),
    ("link", "\x1b]8;;http://x\x07a\x1b]8;;\x07", ["a", "", ""]),
    ("picture", "\x1bPq#0;2;0;0;0~\x1b\\a", ["a", "", ""]),
    ("privacy message", "\x1b^hidden\x1b\\a\x1b_hidden\x1b\\b", ["ab", "", ""]),
    ("line drawing", "\x1b(0lqk\x1b(Bq", ["┌─┐q", "", ""]),
    ("combining", "e\u{301}a\u{308}x", ["eax", "", ""]),
    ("directions", "a\u{202e}b\u{2066}c\u{200f}\u{200b}\u{feff}d", ["abcd", "", ""]),
    ("right to left", "שלום x", ["שלום x", "", ""]),
    ("deleted characters", "a\x7fb", ["ab", "", ""]),
    ("bells and nothings", "a\x07\0\x05b", ["ab", "", ""]),
    ("repeated", "a\x1b[3b", ["aaaa", "", ""]),
    ("repeated at most for a row", "a\x1b[9999b", ["aaaaaaaaaa", "a", ""]),
    ("no test pattern", "a\x1b#8b", ["ab", "", ""]),
];

#[test]
fn a_screen_shows_what_a_terminal_does() {
    for (name, text, rows) in SHOWN {
        assert_eq!(show(10, 3, text), rows, "{name}");
    }
}

#[test]
fn pieces_change_nothing() {
    for (name, text, rows) in SHOWN {
        for cut in 0..=text.len() {
            let mut screen = Screen::new(10, 3);
            let (head, tail) = text.as_bytes().split_at(cut);
            screen.feed(head);
            let copied = (!screen.is_within_character()).then(|| copy(&screen));
            screen.feed(tail);
            assert_eq!(screen.text(), rows, "{name} at {cut}");
            if let Some(mut copied) = copied {
                copied.feed(tail);
                assert_eq!(copied.text(), rows, "{name} from a keyframe at {cut}");
            }
        }
        let mut screen = Screen::new(10, 3);
        text.as_bytes().chunks(1).for_each(|byte| screen.feed(byte));
        assert_eq!(screen.text(), rows, "{name} byte by byte");
        copy(&screen);
    }
}

#[test]
fn a_keyframe_holds_all_that_matters_for_what_follows() {
    let cases = [
        ("pending wrap", "0123456789", "x"),
        ("colours", "\x1b[1;32m", "x"),
        ("alternate screen", "shell\x1b[?1049hvim", "\x1b[?1049l"),
        ("saved cursor", "\x1b[2;2H\x1b7\x1b[H", "\x1b8x"),
        ("margins", "\x1b[2;3r\x1b[3;1H", "a\nb\nc"),
        ("tabs", "\x1b[3g\x1b[4G\x1bH\r", "\tx"),
        ("drawing", "\x1b(0", "q"),
        ("insert", "abc\r\x1b[4h", "x"),
        ("within a sequence", "abc\x1b[1;", "2Hx"),
        ("within an 8-bit sequence", "abc\u{9b}1;", "2Hx"),
        ("within a string", "abc\x1b]0;ti", "tle\x07x"),
        ("within a picture", "abc\x1bPq", "#0\x1b\\x"),
    ];
    for (name, before, after) in cases {
        let mut screen = Screen::new(10, 3);
        screen.feed(before.as_bytes());
        assert!(!screen.keyframe().chars().any(|c| ('\u{80}'..'\u{a0}').contains(&c)), "{name}");
        let mut copied = copy(&screen);
        screen.feed(after.as_bytes());
        copied.feed(after.as_bytes());
        assert_eq!(copied.text(), screen.text(), "{name}");
        assert_eq!(copied.keyframe(), screen.keyframe(), "{name}");
    }
}

#[test]
fn sizes_may_be_anything() {
    let sizes = [0, 1, 80, 65_535, u32::MAX];
    let mut screen = Screen::new(u32::MAX, u32::MAX);
    assert_eq!(screen.size(), Size { columns: 1_000, rows: 131 });
    for columns in sizes {
        for rows in sizes {
            let mut fresh = Screen::new(columns, rows);
            for screen in [&mut screen, &mut fresh] {
                screen.resize(columns, rows);
                screen.feed("日本語 text\x1b[999;999Hx\x1b[?1049h\r\n日\x1b[?1049l".as_bytes());
                copy(screen);
            }
        }
    }
    screen.resize(1, 1);
    assert_eq!(screen.text().len(), 1);
    screen.resize(0, 0);
    assert_eq!(screen.size(), Size { columns: 1, rows: 1 });
}

#[test]
fn a_screen_gets_narrow_in_steps_as_at_once() {
    let text = "one\r\n\x1b[41m\x1b[K\x1b[mtwo\r\nthree\x1b[999Cthe end";
    for columns in [500, 125, 100, 20, 3, 1] {
        for rows in 1..=4 {
            let mut screen = Screen::new(1_000, 4);
            screen.feed(text.as_bytes());
            screen.resize(columns, rows);
            let mut at_once = Terminal::new(1_000, 4).unwrap();
            at_once.feed(text);
            at_once.resize(columns as usize, rows as usize);
            let lines = at_once.screen().visible_lines();
            let lines: Vec<String> =
                lines.map(|line| line.text().trim_end_matches(' ').to_owned()).collect();
            assert_eq!(screen.text(), lines, "{columns} by {rows}");
        }
    }
}

#[test]
fn unfinished_strings_take_no_memory() {
    for start in ["\x1b]633;E;", "\x1bP", "\x1b^", "\x1b[", "\x1b]133;"] {
        let mut screen = Screen::new(10, 3);
        screen.feed(start.as_bytes());
        for _ in 0..1_000 {
            screen.feed(&[b'1'; 1_000]);
        }
        assert!(screen.keyframe().len() < 3_000, "{start:?}");
        screen.feed(b"\x18x");
        assert_eq!(screen.text(), ["x", "", ""], "{start:?}");
    }
}
