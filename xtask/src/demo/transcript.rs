//! What a terminal showed, as plain lines.

/// What `proxyd trail replay` sets back when it ends: colours, and the line.
pub(super) const REPLAY_END: &[u8] = b"\x1b[0m\r\n";

/// The printable text of a terminal's bytes: no control characters but line ends, no empty lines.
///
/// Meant for a terminal of the kind "dumb", to which programs send no sequences.
pub(super) fn text(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines = text.lines().map(|line| line.replace(char::is_control, ""));
    lines.filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_text_is_left() {
        let cases: [(&str, &[u8], &str); 4] = [
            ("line ends", b"one\r\ntwo\r\n", "one\ntwo"),
            ("empty lines", b"\r\none\r\n \r\n", "one"),
            ("bell and escape", b"a\x07b\x1bc", "abc"),
            ("not UTF-8", b"a\xffb", "a\u{fffd}b"),
        ];
        for (case, bytes, expected) in cases {
            assert_eq!(text(bytes), expected, "{case}");
        }
    }
}
