//! What a recorded program may do to the terminal of whoever replays it: draw, nothing else.

/// Bytes of one control sequence; the longest that programs send have about 60.
const SEQUENCE_BYTES_MAX: usize = 256;

/// Passes text, line control and drawing sequences (ECMA-48), and leaves out what acts on the
/// terminal or makes it answer: strings to it (clipboard, titles, downloads), reports, printing,
/// its answerback, and the 8-bit controls that begin any of these.
#[derive(Debug, Default)]
pub(super) struct ScreenFilter {
    state: State,
    sequence: String,
    /// The start of a character whose rest has not come yet.
    partial: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text.
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate character, such as a character set's designation.
    Intermediate,
    /// In a control sequence, after `ESC [`.
    Control,
    /// In a string for the terminal, until its end.
    String,
    /// In such a string, after ESC.
    StringEscape,
}

impl ScreenFilter {
    /// What of `bytes` may be shown; characters and sequences may be split between calls.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut input = std::mem::take(&mut self.partial);
        input.extend_from_slice(bytes);
        let mut shown = String::new();
        let mut rest = input.as_slice();
        while !rest.is_empty() {
            let (valid, after) = match std::str::from_utf8(rest) {
                Ok(valid) => (valid, &[] as &[u8]),
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    (std::str::from_utf8(valid).unwrap_or_default(), after)
                }
            };
            for character in valid.chars() {
                self.step(character, &mut shown);
            }
            rest = match std::str::from_utf8(after).map_err(|error| error.error_len()) {
                // The rest of the character may still come.
                Err(None) => {
                    self.partial = after.to_vec();
                    break;
                }
                Err(Some(length)) => {
                    self.step(char::REPLACEMENT_CHARACTER, &mut shown);
                    after.get(length..).unwrap_or_default()
                }
                Ok(_) => after,
            };
        }
        shown.into_bytes()
    }

    fn step(&mut self, character: char, shown: &mut String) {
        match (self.state, character) {
            (State::String, ESC) => self.state = State::StringEscape,
            (State::String, BEL) | (State::StringEscape, '\\') => self.state = State::Ground,
            (State::String, _) => {}
            (State::StringEscape, _) => self.state = State::String,
            (_, ESC) => {
                self.state = State::Escape;
                self.sequence = ESC.to_string();
            }
            (State::Ground, '\t' | '\n' | '\r' | BACKSPACE | SHIFT_OUT | SHIFT_IN) => {
                shown.push(character);
            }
            (State::Ground, _) if character.is_control() => {}
            (State::Ground, _) => shown.push(character),
            // A terminal acts on a control inside a sequence and then goes on with the sequence,
            // or ends it: two readings, of which neither is shown.
            (_, _) if character.is_control() || !character.is_ascii() => self.state = State::Ground,
            (State::Escape, '[') => self.go_on(State::Control, character),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.state = State::String,
            (State::Escape, ' '..='/') => self.go_on(State::Intermediate, character),
            // ESC Z asks who the terminal is; ESC c resets it, settings of its owner included.
            (State::Escape, 'Z' | 'c') => self.state = State::Ground,
            (State::Escape | State::Intermediate, _) => self.end(character, shown),
            (State::Control, ' '..='?') => self.go_on(State::Control, character),
            (State::Control, _) if draws(character, &self.sequence) => self.end(character, shown),
            (State::Control, _) => self.state = State::Ground,
        }
    }

    fn go_on(&mut self, state: State, character: char) {
        self.sequence.push(character);
        let fits = self.sequence.len() < SEQUENCE_BYTES_MAX;
        self.state = if fits { state } else { State::Ground };
    }

    fn end(&mut self, character: char, shown: &mut String) {
        shown.push_str(&self.sequence);
        shown.push(character);
        self.sequence.clear();
        self.state = State::Ground;
    }
}

/// Whether a control sequence with this final character only draws.
fn draws(last: char, sequence: &str) -> bool {
    let parameters = sequence.strip_prefix("\x1b[").unwrap_or_default();
    let private = parameters.chars().next();
    match last {
        // Reports (c, n, x), window operations (t), printing (i), keyboard lights and versions
        // (q), and checksum requests (y).
        'c' | 'n' | 'x' | 't' | 'i' | 'y' | 'q' => false,
        // Modes: screens, the cursor and wrapping draw; mouse and paste reports answer.
        'h' | 'l' => match parameters.strip_prefix('?') {
            Some(modes) => modes.split(';').all(|mode| DRAWING_MODES.contains(&mode)),
            None => true,
        },
        'p' | 'u' if private.is_some_and(|first| "!$?<=>".contains(first)) => false,
        '@'..='~' => true,
        _ => false,
    }
}

/// Private modes that only draw (DEC, xterm): cursor keys are left out, they change the keyboard.
const DRAWING_MODES: [&str; 10] = ["3", "5", "6", "7", "12", "25", "47", "1047", "1048", "1049"];

const BEL: char = '\x07';
const BACKSPACE: char = '\x08';
const SHIFT_OUT: char = '\x0e';
const SHIFT_IN: char = '\x0f';
const ESC: char = '\x1b';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_passes_and_nothing_else() {
        let cases: [(&str, &[u8], &[u8]); 22] = [
            ("text", b"ls\r\n\tx\x08", b"ls\r\n\tx\x08"),
            ("utf-8", "é".as_bytes(), "é".as_bytes()),
            ("colour", b"\x1b[01;31mred\x1b[0m", b"\x1b[01;31mred\x1b[0m"),
            ("cursor", b"\x1b[2;3H\x1b7\x1b8\x1bM", b"\x1b[2;3H\x1b7\x1b8\x1bM"),
            ("other screen", b"\x1b[?1049h\x1b[?25l", b"\x1b[?1049h\x1b[?25l"),
            ("character set", b"\x1b(0q\x1b(B", b"\x1b(0q\x1b(B"),
            ("clipboard", b"a\x1b]52;c;AAAA\x07b", b"ab"),
            ("title", b"a\x1b]0;t\x1b\\b", b"ab"),
            ("device control", b"a\x1bP+q\x1b\\b", b"ab"),
            ("cursor report", b"a\x1b[6nb", b"ab"),
            ("attributes", b"a\x1b[c\x1b[>c\x1bZb", b"ab"),
            ("mouse", b"a\x1b[?1000h\x1b[?2004hb", b"ab"),
            ("window", b"a\x1b[8;999;999tb", b"ab"),
            ("answerback", b"a\x05b", b"ab"),
            ("printing", b"a\x1b[5ib", b"ab"),
            ("nul inside a sequence", b"a\x1b\0]52;c;AAAA\x07b", b"a]52;c;AAAAb"),
            ("report behind a nul", b"a\x1b\0[6nb", b"a[6nb"),
            ("answerback inside a sequence", b"a\x1b\x05b", b"ab"),
            ("8-bit string", "a\u{9d}52;c;AAAA\u{9c}b".as_bytes(), b"a52;c;AAAAb"),
            ("8-bit control sequence", "a\u{9b}6nb".as_bytes(), b"a6nb"),
            ("raw 8-bit control", b"a\x9b6nb", "a\u{fffd}6nb".as_bytes()),
            ("not ascii in a sequence", "a\x1b[3\u{e9}mb".as_bytes(), b"amb"),
        ];
        for (case, bytes, expected) in cases {
            assert_eq!(ScreenFilter::default().pass(bytes), expected, "{case}");
            let mut split = ScreenFilter::default();
            let bytewise: Vec<u8> = bytes.chunks(1).flat_map(|one| split.pass(one)).collect();
            assert_eq!(bytewise, expected, "{case}, byte by byte");
        }
    }

    #[test]
    fn an_endless_sequence_is_dropped() {
        let mut filter = ScreenFilter::default();
        let mut bytes = b"\x1b[".to_vec();
        bytes.extend(std::iter::repeat_n(b'1', SEQUENCE_BYTES_MAX * 2));
        filter.pass(&bytes);
        assert!(filter.sequence.len() <= SEQUENCE_BYTES_MAX);
    }
}
