//! What shells say about their prompts: OSC 133 (semantic prompts, `FinalTerm`) and OSC 633.

/// Characters of an operating system command that are kept; one that is longer is ignored.
pub(crate) const STRING_CHARS_MAX: usize = 16 * 1024;

/// The two sequences by which shells mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// OSC 133.
    Osc133,
    /// OSC 633.
    Osc633,
}

/// One thing that a shell said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    /// In which sequence.
    pub(crate) dialect: Dialect,
    /// What.
    pub(crate) kind: MarkKind,
}

/// What a mark stands before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum MarkKind {
    /// `A`: a prompt.
    Prompt,
    /// `B`: what is typed behind the prompt.
    Input,
    /// `E` (OSC 633 alone): the command line, in words.
    CommandLine(String),
    /// `C`: the output of the command; the command line, where the shell gives it.
    Output(Option<String>),
    /// `D`: the next prompt; the exit status of the command, where the shell gives it.
    Done(Option<i32>),
}

/// Finds marks in a terminal's output, character by character.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    state: State,
    /// What came of an operating system command.
    string: String,
    /// How many characters that is.
    chars: usize,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Outside,
    /// Behind an escape character.
    Escape,
    /// In an operating system command.
    String,
}

impl Marks {
    /// Takes the next character; gives the mark that it ends.
    ///
    /// States change as in the parser of ANSI terminals by Paul Williams: escape, cancel,
    /// substitute and 8-bit controls end a string wherever they stand.
    pub(crate) fn scan(&mut self, c: char) -> Option<Mark> {
        if self.state == State::Outside && !matches!(c, '\u{1b}' | '\u{9d}') {
            return None;
        }
        match (self.state, c) {
            (State::String, '\u{7}' | '\u{9c}') => return self.end(State::Outside),
            (State::String, '\u{1b}') => return self.end(State::Escape),
            (State::Escape, ']') | (_, '\u{9d}') => {
                self.state = State::String;
                self.string.clear();
                self.chars = 0;
            }
            (_, '\u{1b}') => self.state = State::Escape,
            (_, '\u{18}' | '\u{1a}' | '\u{80}'..='\u{9f}') => self.state = State::Outside,
            (State::String, _) => self.push(c),
            // A control character is carried out and the sequence goes on.
            (State::Escape, '\0'..='\u{1f}') => {}
            (State::Escape | State::Outside, _) => self.state = State::Outside,
        }
        None
    }

    fn push(&mut self, c: char) {
        self.chars += 1;
        if self.chars <= STRING_CHARS_MAX {
            self.string.push(c);
        }
    }

    fn end(&mut self, next: State) -> Option<Mark> {
        self.state = next;
        if self.chars > STRING_CHARS_MAX { None } else { parse(&self.string) }
    }
}

/// Reads an operating system command.
fn parse(string: &str) -> Option<Mark> {
    let mut fields = string.split(';');
    let dialect = match fields.next()? {
        "133" => Dialect::Osc133,
        "633" => Dialect::Osc633,
        _ => return None,
    };
    let kind = match (fields.next()?, dialect) {
        ("A" | "N", _) => MarkKind::Prompt,
        ("B" | "I", _) => MarkKind::Input,
        ("C", _) => MarkKind::Output(fields.find_map(command_line)),
        ("D", _) => MarkKind::Done(fields.next().and_then(|status| status.parse().ok())),
        ("E", Dialect::Osc633) => MarkKind::CommandLine(unescape(fields.next()?)),
        _ => return None,
    };
    Some(Mark { dialect, kind })
}

/// The command line among the options of an output mark: as it is, or encoded as in a URL.
fn command_line(option: &str) -> Option<String> {
    let (name, value) = option.split_once('=')?;
    match name {
        "cmdline" => Some(value.to_owned()),
        "cmdline_url" => Some(decode(value, b"%")),
        _ => None,
    }
}

/// Undoes `\\` and `\xHH`, by which a command line in OSC 633 hides what would end it.
fn unescape(text: &str) -> String {
    let parts: Vec<String> = text.split("\\\\").map(|part| decode(part, b"\\x")).collect();
    parts.join("\\")
}

/// Replaces an introducer and two hexadecimal digits by the byte that they name.
fn decode(text: &str, introducer: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = rest.strip_prefix(introducer).and_then(<[u8]>::split_first_chunk::<2>);
        let decoded = digits.and_then(|(digits, after)| Some((hex(*digits)?, after)));
        let (byte, after) = decoded.unwrap_or((first, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The value of two hexadecimal digits.
fn hex(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high? * 16 + low?).ok()
}

#[cfg(test)]
mod tests {
    use super::{Dialect, Mark, MarkKind, Marks, STRING_CHARS_MAX};

    fn marks(text: &str) -> Vec<Mark> {
        let mut marks = Marks::default();
        text.chars().filter_map(|c| marks.scan(c)).collect()
    }

    #[test]
    fn marks_are_read() {
        let line = |text: &str| MarkKind::CommandLine(text.to_owned());
        let output = |text: &str| MarkKind::Output(Some(text.to_owned()));
        let cases: [(&str, &str, Option<(Dialect, MarkKind)>); 25] = [
            ("prompt", "\x1b]133;A\x07", Some((Dialect::Osc133, MarkKind::Prompt))),
            ("option", "\x1b]133;A;cl=m\x07", Some((Dialect::Osc133, MarkKind::Prompt))),
            ("string end", "\x1b]133;B\x1b\\", Some((Dialect::Osc133, MarkKind::Input))),
            ("8-bit", "\u{9d}133;C\u{9c}", Some((Dialect::Osc133, MarkKind::Output(None)))),
            ("status", "\x1b]133;D;127\x07", Some((Dialect::Osc133, MarkKind::Done(Some(127))))),
            ("options", "\x1b]133;D;1;aid=9\x07", Some((Dialect::Osc133, MarkKind::Done(Some(1))))),
            ("negative", "\x1b]133;D;-1\x07", Some((Dialect::Osc133, MarkKind::Done(Some(-1))))),
            ("no status", "\x1b]133;D\x07", Some((Dialect::Osc133, MarkKind::Done(None)))),
            ("bad", "\x1b]133;D;99999999999\x07", Some((Dialect::Osc133, MarkKind::Done(None)))),
            ("633", "\x1b]633;A\x07", Some((Dialect::Osc633, MarkKind::Prompt))),
            ("line", "\x1b]633;E;ls -l;no\x07", Some((Dialect::Osc633, line("ls -l")))),
            (
                "hex",
                "\x1b]633;E;a\\x3bb\\x0Ac\\\\x\x07",
                Some((Dialect::Osc633, line("a;b\nc\\x"))),
            ),
            ("bad hex", "\x1b]633;E;\\xg0\\x1\\\x07", Some((Dialect::Osc633, line("\\xg0\\x1\\")))),
            ("no UTF-8", "\x1b]633;E;\\xff\x07", Some((Dialect::Osc633, line("\u{fffd}")))),
            ("plain", "\x1b]133;C;cmdline=ls\x07", Some((Dialect::Osc133, output("ls")))),
            (
                "URL",
                "\x1b]133;C;a=b;cmdline_url=a%20%3b%\x07",
                Some((Dialect::Osc133, output("a ;%"))),
            ),
            (
                "no option",
                "\x1b]133;C;cmdline\x07",
                Some((Dialect::Osc133, MarkKind::Output(None))),
            ),
            ("line of 133", "\x1b]133;E;ls\x07", None),
            ("unknown", "\x1b]133;Z\x07", None),
            ("title", "\x1b]0;133;A\x07", None),
            ("clipboard", "\x1b]52;c;MTMzO0E=\x07", None),
            ("canceled", "\x1b]133;A\x18\x07", None),
            ("unended", "\x1b]133;A", None),
            ("device control", "\x1bP133;A\x1b\\", None),
            ("intermediate", "\x1b(]133;A\x07", None),
        ];
        for (name, text, expected) in cases {
            let expected: Vec<_> =
                expected.into_iter().map(|(dialect, kind)| Mark { dialect, kind }).collect();
            assert_eq!(marks(text), expected, "{name}");
            // What stands around a mark does not matter.
            assert_eq!(marks(&format!("x\x1b[1m{text}y")).len(), expected.len(), "{name}");
        }
    }

    #[test]
    fn an_escape_ends_one_string_and_begins_the_next() {
        let found = marks("\x1b]133;A\x1b]133;B\x1b\\\x1b\n]133;C\x07");
        let kinds: Vec<_> = found.into_iter().map(|mark| mark.kind).collect();
        assert_eq!(kinds, [MarkKind::Prompt, MarkKind::Input, MarkKind::Output(None)]);
    }

    #[test]
    fn a_long_string_is_not_kept() {
        let fits = format!("\x1b]633;E;{}\x07", "x".repeat(STRING_CHARS_MAX - 6));
        assert_eq!(marks(&fits).len(), 1);
        let mut long = Marks::default();
        let text = format!("\x1b]633;E;{}", "x".repeat(10 * STRING_CHARS_MAX));
        assert_eq!(text.chars().filter_map(|c| long.scan(c)).count(), 0);
        assert_eq!(long.string.len(), STRING_CHARS_MAX);
        assert_eq!(long.scan('\u{7}'), None);
        assert_eq!("\x1b]133;A\x07".chars().filter_map(|c| long.scan(c)).count(), 1);
    }
}
