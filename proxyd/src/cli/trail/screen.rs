//! What a recorded program may do to the terminal of whoever replays it: draw, nothing else.

/// Bytes of one control sequence; the longest that programs send have about 60.
const SEQUENCE_BYTES_MAX: usize = 256;

/// Passes text, line control and drawing sequences (ECMA-48), and leaves out what acts on the
/// terminal or makes it answer: strings to it (clipboard, titles, downloads), reports, printing,
/// its answerback.
#[derive(Debug, Default)]
pub(super) struct ScreenFilter {
    state: State,
    sequence: Vec<u8>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text.
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte, such as a character set's designation.
    Intermediate,
    /// In a control sequence, after `ESC [`.
    Control,
    /// In a string for the terminal, until its end.
    String,
    /// In such a string, after ESC.
    StringEscape,
}

impl ScreenFilter {
    /// What of `bytes` may be shown; sequences may be split between calls.
    pub(super) fn pass(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut shown = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            self.step(byte, &mut shown);
        }
        shown
    }

    fn step(&mut self, byte: u8, shown: &mut Vec<u8>) {
        match (self.state, byte) {
            (State::String, ESC) => self.state = State::StringEscape,
            (State::String, BEL) | (State::StringEscape, b'\\') => self.state = State::Ground,
            (State::String, _) => {}
            (State::StringEscape, _) => self.state = State::String,
            (_, ESC) => {
                self.state = State::Escape;
                self.sequence = vec![ESC];
            }
            (State::Ground, b'\t' | b'\n' | b'\r' | BACKSPACE | SHIFT_OUT | SHIFT_IN | b' '..) => {
                shown.push(byte);
            }
            (State::Ground, _) => {}
            (State::Escape, b'[') => self.go_on(State::Control, byte),
            (State::Escape, b']' | b'P' | b'X' | b'^' | b'_') => self.state = State::String,
            (State::Escape, b' '..=b'/') => self.go_on(State::Intermediate, byte),
            // ESC Z asks who the terminal is; ESC c resets it, settings of its owner included.
            (State::Escape, b'Z' | b'c') => self.state = State::Ground,
            (State::Escape | State::Intermediate, _) => self.end(byte, shown),
            (State::Control, b' '..=b'?') => self.go_on(State::Control, byte),
            (State::Control, _) if draws(byte, &self.sequence) => self.end(byte, shown),
            (State::Control, _) => self.state = State::Ground,
        }
    }

    fn go_on(&mut self, state: State, byte: u8) {
        self.sequence.push(byte);
        let fits = self.sequence.len() < SEQUENCE_BYTES_MAX;
        self.state = if fits { state } else { State::Ground };
    }

    fn end(&mut self, byte: u8, shown: &mut Vec<u8>) {
        shown.append(&mut self.sequence);
        shown.push(byte);
        self.state = State::Ground;
    }
}

/// Whether a control sequence with this final byte only draws.
fn draws(last: u8, sequence: &[u8]) -> bool {
    let private = sequence.get(2).copied();
    match last {
        // Reports (c, n, x), window operations (t), printing (i), keyboard lights (q without a
        // space before it is harmless, but answers with `>`), and checksum requests (y).
        b'c' | b'n' | b'x' | b't' | b'i' | b'y' | b'q' => false,
        // Modes: screens, the cursor and wrapping draw; mouse and paste reports answer.
        b'h' | b'l' if private == Some(b'?') => {
            let parameters = sequence.get(3..).unwrap_or_default();
            parameters.split(|&byte| byte == b';').all(|mode| DRAWING_MODES.contains(&mode))
        }
        b'p' | b'u' if private.is_some_and(|byte| b"!$?<=>".contains(&byte)) => false,
        b'@'..=b'~' => true,
        _ => false,
    }
}

/// Private modes that only draw (DEC, xterm): cursor keys are left out, they change the keyboard.
const DRAWING_MODES: [&[u8]; 10] =
    [b"3", b"5", b"6", b"7", b"12", b"25", b"47", b"1047", b"1048", b"1049"];

const BEL: u8 = 0x07;
const BACKSPACE: u8 = 0x08;
const SHIFT_OUT: u8 = 0x0e;
const SHIFT_IN: u8 = 0x0f;
const ESC: u8 = 0x1b;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawing_passes_and_nothing_else() {
        let cases: [(&str, &[u8], &[u8]); 15] = [
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
