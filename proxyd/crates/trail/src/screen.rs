//! What recorded output may do to the terminal of whoever reads it: draw, or only be text.

use crate::utf8::Utf8;

/// Bytes of one control sequence; the longest that programs send have about 60.
const SEQUENCE_BYTES_MAX: usize = 256;

/// Leaves out of recorded output what acts on the terminal or makes it answer: strings to it
/// (clipboard, titles, downloads), reports, printing, its answerback, and the 8-bit controls that
/// begin any of these (ECMA-48).
#[derive(Debug)]
pub struct ScreenFilter {
    passes: Passes,
    state: State,
    sequence: String,
    /// Whether a carriage return waits for what comes behind it.
    returned: bool,
    utf8: Utf8,
}

/// What goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Passes {
    /// Text, line control and sequences that draw.
    Drawing,
    /// Text, line ends and tabs.
    Text,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Text.
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
    /// Passes text, line control and drawing sequences.
    #[must_use]
    pub fn drawing() -> Self {
        Self::new(Passes::Drawing)
    }

    /// Passes text, tabs and line ends: a carriage return, a line feed, or both, are one line feed.
    /// Characters that change the direction of text are left out too.
    #[must_use]
    pub fn text() -> Self {
        Self::new(Passes::Text)
    }

    fn new(passes: Passes) -> Self {
        let (state, utf8) = (State::Ground, Utf8::default());
        Self { passes, state, sequence: String::new(), returned: false, utf8 }
    }

    /// What of `bytes` may be shown; characters and sequences may be split between calls. What is
    /// not UTF-8 becomes U+FFFD.
    pub fn pass(&mut self, bytes: &[u8]) -> String {
        let mut shown = String::new();
        for character in self.utf8.feed(bytes).chars() {
            self.step(character, &mut shown);
        }
        shown
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
            (State::Ground, _) => self.ground(character, shown),
            // A terminal acts on a control inside a sequence and then goes on with the sequence,
            // or ends it: two readings, of which neither is shown.
            (_, _) if character.is_control() || !character.is_ascii() => self.state = State::Ground,
            (State::Escape, '[') => self.go_on(State::Control, character),
            (State::Escape, ']' | 'P' | 'X' | '^' | '_') => self.state = State::String,
            (State::Escape, ' '..='/') => self.go_on(State::Intermediate, character),
            (State::Intermediate, ' '..='/') => self.go_on(State::Intermediate, character),
            (State::Control, ' '..='?') => self.go_on(State::Control, character),
            (State::Escape | State::Intermediate, _) => {
                self.end(character, escape_draws(character, &self.sequence), shown);
            }
            (State::Control, _) => {
                self.end(character, control_draws(character, &self.sequence), shown);
            }
        }
    }

    fn ground(&mut self, character: char, shown: &mut String) {
        match self.passes {
            Passes::Drawing => {
                let is_line_control = LINE_CONTROLS.contains(&character);
                if is_line_control || !character.is_control() {
                    shown.push(character);
                }
            }
            Passes::Text => {
                let returned = std::mem::replace(&mut self.returned, character == '\r');
                if returned && !matches!(character, '\r' | '\n') {
                    shown.push('\n');
                }
                let is_kept = matches!(character, '\t' | '\n') || !character.is_control();
                if is_kept && !turns_around(character) {
                    shown.push(character);
                }
            }
        }
    }

    fn go_on(&mut self, state: State, character: char) {
        self.sequence.push(character);
        let fits = self.sequence.len() < SEQUENCE_BYTES_MAX;
        self.state = if fits { state } else { State::Ground };
    }

    /// A sequence is over.
    fn end(&mut self, character: char, draws: bool, shown: &mut String) {
        if draws && self.passes == Passes::Drawing {
            shown.push_str(&self.sequence);
            shown.push(character);
        }
        self.sequence.clear();
        self.state = State::Ground;
    }
}

/// Whether an escape sequence with this final character only draws. One that changes the coding
/// would give the characters behind it another meaning.
fn escape_draws(last: char, sequence: &str) -> bool {
    match sequence.strip_prefix(ESC).unwrap_or_default() {
        "" => DRAWING_ESCAPES.contains(last),
        "(" | ")" | "*" | "+" => true,
        "#" => matches!(last, '3'..='6' | '8'),
        _ => false,
    }
}

/// Whether a control sequence with this final character only draws. Of those with a character
/// between parameters and end none is known to: many make the terminal report.
fn control_draws(last: char, sequence: &str) -> bool {
    let parameters = sequence.strip_prefix("\x1b[").unwrap_or_default();
    let private = parameters.strip_prefix('?');
    match last {
        // Screens, the cursor, wrapping; other modes report the mouse or change the keyboard.
        'h' | 'l' => match private {
            Some(modes) => modes.split(';').all(|mode| DRAWING_MODES.contains(&mode)),
            None => parameters == INSERT_MODE,
        },
        'J' | 'K' => is_plain(private.unwrap_or(parameters)),
        // With several parameters it follows the mouse.
        'T' => is_plain(parameters) && !parameters.contains(';'),
        _ => is_plain(parameters) && DRAWING_CONTROLS.contains(last),
    }
}

/// Whether there are only numbers.
fn is_plain(parameters: &str) -> bool {
    parameters.chars().all(|c| c.is_ascii_digit() || matches!(c, ';' | ':'))
}

/// Private modes that only draw (DEC, xterm): cursor keys are left out, they change the keyboard.
const DRAWING_MODES: [&str; 10] = ["3", "5", "6", "7", "12", "25", "47", "1047", "1048", "1049"];

/// The mode in which characters are inserted.
const INSERT_MODE: &str = "4";

/// Final characters of escape sequences that save, move, set a tab or shift to a character set.
const DRAWING_ESCAPES: &str = "78DEHMNOno|}~";

/// Final characters of control sequences that move, erase, insert, scroll, set tabs and margins,
/// repeat or colour.
const DRAWING_CONTROLS: &str = "@ABCDEFGHILMPSWXZ`abdefgmrsu";

/// Whether a character changes the direction of text (Unicode Standard Annex 9, section 2).
pub(crate) fn turns_around(character: char) -> bool {
    BIDI_CONTROLS.iter().any(|range| range.contains(&character))
}

/// Characters that change the direction of text.
const BIDI_CONTROLS: [std::ops::RangeInclusive<char>; 4] = [
    '\u{061c}'..='\u{061c}',
    '\u{200e}'..='\u{200f}',
    '\u{202a}'..='\u{202e}',
    '\u{2066}'..='\u{2069}',
];

/// Controls that move on the line, or choose a character set.
const LINE_CONTROLS: [char; 6] = ['\t', '\n', '\r', BACKSPACE, SHIFT_OUT, SHIFT_IN];

const BEL: char = '\x07';
const BACKSPACE: char = '\x08';
const SHIFT_OUT: char = '\x0e';
const SHIFT_IN: char = '\x0f';
const ESC: char = '\x1b';

#[cfg(test)]
mod tests {
    use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};
    use proptest::sample::Index;

    use super::*;

    #[test]
    fn drawing_passes_and_nothing_else() {
        let cases: [(&str, &[u8], &[u8]); 36] = [
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
            ("mode request", b"a\x1b[4$p\x1b[?7$pb", b"ab"),
            ("state request", b"a\x1b[1$u\x1b[2$w\x1b[1&ub", b"ab"),
            ("colours of the terminal", b"a\x1b[#R\x1b[?1;1;1Sb", b"ab"),
            ("locator", b"a\x1b[1'|\x1b[1;2'zb", b"ab"),
            ("other coding", b"a\x1b%@\x1b%Gb", b"ab"),
            ("8-bit answers", b"a\x1b Gb", b"ab"),
            ("reset", b"a\x1bc\x1b[!pb", b"ab"),
            ("keyboard", b"a\x1b[>4;2m\x1b[>1u\x1b[?1h\x1b=\x1b>\x1b[2h\x1b[20hb", b"ab"),
            ("mouse, followed", b"a\x1b[1;2;3;4;5Tb", b"ab"),
            ("scrolling", b"\x1b[3T\x1b[3S\x1b[1;5r", b"\x1b[3T\x1b[3S\x1b[1;5r"),
            ("inserting", b"\x1b[4h\x1b[2@\x1b[4l", b"\x1b[4h\x1b[2@\x1b[4l"),
            ("erasing", b"\x1b[?2J\x1b[?K\x1b[1X", b"\x1b[?2J\x1b[?K\x1b[1X"),
            ("tabs", b"\x1b[5W\x1bH\x1b[3g", b"\x1b[5W\x1bH\x1b[3g"),
            ("pattern", b"\x1b#8", b"\x1b#8"),
            ("not ascii in a sequence", "a\x1b[3\u{e9}mb".as_bytes(), b"amb"),
        ];
        for (case, bytes, expected) in cases {
            assert_passes(case, ScreenFilter::drawing, bytes, expected);
        }
    }

    #[test]
    fn text_is_what_is_left_of_output() {
        let cases: [(&str, &[u8], &[u8]); 13] = [
            ("text", b"ls\ta", b"ls\ta"),
            ("line ends", b"a\r\nb\nc\rd", b"a\nb\nc\nd"),
            ("two returns", b"a\r\r\nb", b"a\nb"),
            ("return at the end", b"a\r", b"a"),
            ("return, then a sequence", b"a\r\x1b[Kb", b"a\nb"),
            ("colour", b"\x1b[01;31mred\x1b[0m", b"red"),
            ("cursor", b"\x1b[2;3Ha\x1b7b\x1bMc", b"abc"),
            ("character set", b"\x1b(0q\x1b(B", b"q"),
            ("clipboard", b"a\x1b]52;c;AAAA\x07b", b"ab"),
            ("report", b"a\x1b[6nb", b"ab"),
            ("backspace and bell", b"ab\x08\x07c", b"abc"),
            ("turned around", "a\u{202e}b\u{200f}".as_bytes(), b"ab"),
            ("8-bit control sequence", "a\u{9b}6nb".as_bytes(), b"a6nb"),
        ];
        for (case, bytes, expected) in cases {
            assert_passes(case, ScreenFilter::text, bytes, expected);
        }
    }

    /// Fails unless this is what passes, of all bytes together and of one at a time.
    fn assert_passes(case: &str, filter: fn() -> ScreenFilter, bytes: &[u8], expected: &[u8]) {
        assert_eq!(filter().pass(bytes).as_bytes(), expected, "{case}");
        let mut split = filter();
        let bytewise: String = bytes.chunks(1).map(|one| split.pass(one)).collect();
        assert_eq!(bytewise.as_bytes(), expected, "{case}, byte by byte");
    }

    #[test]
    fn an_endless_sequence_is_dropped() {
        let mut filter = ScreenFilter::drawing();
        let mut bytes = b"\x1b[".to_vec();
        bytes.extend(std::iter::repeat_n(b'1', SEQUENCE_BYTES_MAX * 2));
        filter.pass(&bytes);
        assert!(filter.sequence.len() <= SEQUENCE_BYTES_MAX);
    }

    /// Failures are shown, not kept in files next to the sources.
    fn config() -> ProptestConfig {
        ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
    }

    proptest! {
        #![proptest_config(config())]

        #[test]
        fn of_any_bytes_only_text_is_text(bytes in any::<Vec<u8>>(), at in any::<Index>()) {
            let whole = ScreenFilter::text().pass(&bytes);
            prop_assert!(whole.chars().all(|c| !c.is_control() || matches!(c, '\t' | '\n')));
            let (first, second) = bytes.split_at(at.index(bytes.len() + 1));
            let mut split = ScreenFilter::text();
            prop_assert_eq!(split.pass(first) + &split.pass(second), whole);
        }

        #[test]
        fn of_any_sequences_none_makes_a_terminal_answer(
            parts in proptest::collection::vec(
                prop::sample::select(vec![
                    "\x1b", "\x1b[", "\x1b]", "\x1bP", "6n", "c", "?1000h", "x", "\x07", "\x1b\\",
                    "\u{9b}", "\0", "\x05", "\x18", "52;c;AAAA", ";", "\u{e9}", "Z",
                ]),
                0..12,
            ),
        ) {
            let text = parts.concat();
            let shown = ScreenFilter::drawing().pass(text.as_bytes());
            let again = ScreenFilter::drawing().pass(shown.as_bytes());
            prop_assert_eq!(&again, &shown, "what passed once passes as it is");
            for refused in ["\x1b[6n", "\x1b[c", "\x1b]", "\x1bP", "\x1bZ", "\x05", "\u{9b}"] {
                prop_assert!(!shown.contains(refused), "{refused:?} in {shown:?}");
            }
        }
    }
}
