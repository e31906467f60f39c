//! Text that one peer wrote and another peer's terminal will show.

/// `text` as UTF-8 of at most `bytes_max` bytes, without what could drive a terminal, or turn text
/// around on it.
///
/// Line ends and tabs stay; every other control character (C0, DEL, C1, those of direction) and
/// every byte that is not UTF-8 becomes the replacement character.
#[must_use]
pub fn clean(text: &[u8], bytes_max: usize) -> String {
    let mut cleaned = String::new();
    for character in String::from_utf8_lossy(text).chars() {
        let is_line_control = matches!(character, '\n' | '\r' | '\t');
        let misleads = character.is_control() && !is_line_control || turns_around(character);
        let shown = if misleads { char::REPLACEMENT_CHARACTER } else { character };
        if cleaned.len() + shown.len_utf8() > bytes_max {
            break;
        }
        cleaned.push(shown);
    }
    cleaned
}

/// As [`clean`], on one line.
#[must_use]
pub fn one_line(text: &[u8], bytes_max: usize) -> String {
    let shown = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    clean(text, bytes_max).chars().map(shown).collect()
}

fn turns_around(character: char) -> bool {
    BIDI_CONTROLS.iter().any(|range| range.contains(&character))
}

/// Characters that change the direction of text (Unicode Standard Annex 9, section 2).
const BIDI_CONTROLS: [std::ops::RangeInclusive<char>; 4] = [
    '\u{061c}'..='\u{061c}',
    '\u{200e}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2066}'..='\u{2069}',
];

#[cfg(test)]
mod tests {
    use super::{clean, one_line};

    #[test]
    fn a_line_stays_one() {
        let line = one_line("a\r\n\tb\u{202e}c\u{9b}".as_bytes(), 64);
        assert_eq!(line, "a\u{fffd}\u{fffd}\u{fffd}b\u{fffd}c\u{fffd}");
    }

    #[test]
    fn escapes_do_not_reach_a_terminal() {
        let (long, cut) = ("é".repeat(40), "é".repeat(16));
        let cases: [(&str, &[u8], &str); 7] = [
            ("plain", b"Welcome\r\n\tto it", "Welcome\r\n\tto it"),
            ("escape", b"\x1b]52;c;AAAA\x07", "\u{fffd}]52;c;AAAA\u{fffd}"),
            ("c1", "\u{9b}31m".as_bytes(), "\u{fffd}31m"),
            ("turned around", "a\u{202e}b\u{2066}".as_bytes(), "a\u{fffd}b\u{fffd}"),
            ("from right to left", "שלום".as_bytes(), "שלום"),
            ("not utf-8", b"a\xffb", "a\u{fffd}b"),
            ("long", long.as_bytes(), &cut),
        ];
        for (case, text, expected) in cases {
            assert_eq!(clean(text, 32), expected, "{case}");
        }
    }
}
