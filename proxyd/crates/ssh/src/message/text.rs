//! Text that one peer wrote and another peer's terminal will show.

/// `text` as UTF-8 of at most `bytes_max` bytes, without what could drive a terminal.
///
/// Line ends and tabs stay; every other control character (C0, DEL, C1) and every byte that is
/// not UTF-8 becomes the replacement character.
#[must_use]
pub fn clean(text: &[u8], bytes_max: usize) -> String {
    let mut cleaned = String::new();
    for character in String::from_utf8_lossy(text).chars() {
        let harmless = matches!(character, '\n' | '\r' | '\t') || !character.is_control();
        let shown = if harmless { character } else { char::REPLACEMENT_CHARACTER };
        if cleaned.len() + shown.len_utf8() > bytes_max {
            break;
        }
        cleaned.push(shown);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::clean;

    #[test]
    fn escapes_do_not_reach_a_terminal() {
        let (long, cut) = ("é".repeat(40), "é".repeat(16));
        let cases: [(&str, &[u8], &str); 5] = [
            ("plain", b"Welcome\r\n\tto it", "Welcome\r\n\tto it"),
            ("escape", b"\x1b]52;c;AAAA\x07", "\u{fffd}]52;c;AAAA\u{fffd}"),
            ("c1", "\u{9b}31m".as_bytes(), "\u{fffd}31m"),
            ("not utf-8", b"a\xffb", "a\u{fffd}b"),
            ("long", long.as_bytes(), &cut),
        ];
        for (case, text, expected) in cases {
            assert_eq!(clean(text, 32), expected, "{case}");
        }
    }
}
