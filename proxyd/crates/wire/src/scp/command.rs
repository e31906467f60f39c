//! The command by which a client starts the far end of a copy: `scp -t path`, `scp -f path …`.

use super::error::CommandError;
use super::limits::PATHS_MAX;
use crate::files::parent;

/// Where systems have the program; elsewhere another one may have its name.
const PROGRAMS: &[&[u8]] = &[b"scp", b"/usr/bin/scp", b"/bin/scp", b"/usr/local/bin/scp"];

/// Which way content goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server (`-t`).
    ToServer,
    /// To the client (`-f`).
    ToClient,
}

/// A command, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Which way content goes.
    pub(super) direction: Direction,
    /// Whether the path is known to be a directory (`-d`).
    pub(super) is_directory: bool,
    /// The paths; those to be sent may have wildcards in their last name.
    pub(super) paths: Vec<Path>,
}

/// A path of a command, as the program sees it but for wildcards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) bytes: Vec<u8>,
    /// Whether the shell looks for names like it.
    pub(super) is_wild: bool,
}

impl Command {
    /// Takes a command apart. With it comes what makes it uncertain; then paths are as written.
    ///
    /// # Errors
    /// Fails when it is not even certain which way content goes, or there are more than
    /// [`PATHS_MAX`] paths.
    pub fn parse(command: &[u8]) -> Result<(Self, Result<(), CommandError>), CommandError> {
        let (words, doubt) = split(command);
        let mut words = words.into_iter();
        let program = words.next().unwrap_or_default();
        let is_program = PROGRAMS.contains(&program.bytes.as_slice());
        let mut options = Options::default();
        let mut paths = Vec::new();
        for word in words {
            // Options end at the first path.
            match word.bytes.as_slice() {
                [b'-', letters @ ..] if paths.is_empty() && !options.ended => {
                    options.take_word(letters);
                }
                _ => paths.push(word),
            }
        }
        let direction = match (options.to_server, options.to_client) {
            (true, false) => Direction::ToServer,
            (false, true) => Direction::ToClient,
            _ => return Err(CommandError::Direction),
        };
        if paths.len() > PATHS_MAX {
            return Err(CommandError::Paths(paths.len()));
        }
        let command = Self { direction, is_directory: options.is_directory, paths };
        let certain = match doubt.or(options.doubt) {
            Some(doubt) => Err(doubt),
            None if !is_program => Err(CommandError::Program),
            None => command.check(),
        };
        Ok((command, certain))
    }

    /// Checks the number of paths, and where they have wildcards.
    fn check(&self) -> Result<(), CommandError> {
        let count = self.paths.len();
        if count == 0 || (count > 1 && self.direction == Direction::ToServer) {
            return Err(CommandError::Paths(count));
        }
        // Names that the shell finds are told by the sender, but not the directories they are in.
        let hidden = |path: &Path| match self.direction {
            Direction::ToServer => path.bytes.iter().copied().find(|byte| is_wildcard(*byte)),
            Direction::ToClient => {
                parent(&path.bytes).iter().copied().find(|byte| is_wildcard(*byte))
            }
        };
        match self.paths.iter().filter(|path| path.is_wild).find_map(hidden) {
            Some(wildcard) => Err(CommandError::Shell(wildcard)),
            None => Ok(()),
        }
    }
}

/// The options of a command.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "an option is there or not")]
struct Options {
    to_server: bool,
    to_client: bool,
    is_directory: bool,
    /// Whether `--` ended them.
    ended: bool,
    doubt: Option<CommandError>,
}

impl Options {
    /// Takes a word of options, without its hyphen.
    fn take_word(&mut self, letters: &[u8]) {
        for letter in letters {
            match letter {
                b't' => self.to_server = true,
                b'f' => self.to_client = true,
                b'd' => self.is_directory = true,
                b'-' if letters.len() == 1 => self.ended = true,
                b'r' | b'p' | b'v' | b'q' => {}
                other => {
                    self.doubt.get_or_insert(CommandError::Option(*other));
                }
            }
        }
    }
}

const fn is_wildcard(byte: u8) -> bool {
    matches!(byte, b'*' | b'?' | b'[')
}

/// Whether an unquoted character has a meaning to some shell that is not followed here.
const fn is_special(byte: u8) -> bool {
    byte.is_ascii_control()
        || matches!(byte, b';' | b'&' | b'|' | b'<' | b'>' | b'(' | b')')
        || matches!(byte, b'$' | b'`' | b'{' | b'}' | b'!' | b'#' | b'^')
}

/// Splits a command as the shell would (POSIX, Shell Command Language, section 2.2); with the words
/// comes what makes them uncertain.
fn split(command: &[u8]) -> (Vec<Path>, Option<CommandError>) {
    let mut splitter = Splitter::default();
    for &byte in command {
        splitter.take(byte);
    }
    splitter.end_word();
    if splitter.quotation != Quotation::Bare {
        splitter.doubt(CommandError::Quotation);
    }
    (splitter.words, splitter.doubt)
}

/// How the shell takes the next character.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quotation {
    #[default]
    Bare,
    Escaped,
    Single,
    Double,
    DoubleEscaped,
}

#[derive(Debug, Default)]
struct Splitter {
    words: Vec<Path>,
    word: Option<Path>,
    /// Whether the word begins with a tilde that stands for a home directory.
    is_home: bool,
    quotation: Quotation,
    doubt: Option<CommandError>,
}

impl Splitter {
    fn take(&mut self, byte: u8) {
        match (self.quotation, byte) {
            (Quotation::Bare, _) => self.take_bare(byte),
            (Quotation::Single, b'\'') | (Quotation::Double, b'"') => {
                self.quotation = Quotation::Bare;
            }
            (Quotation::Double, b'\\') => self.quotation = Quotation::DoubleEscaped,
            (Quotation::Double, b'$' | b'`') => self.doubt_byte(byte),
            (Quotation::Single | Quotation::Double, _) => self.push(byte),
            (Quotation::Escaped, b'\n') => self.doubt_byte(byte),
            (Quotation::Escaped, _) => {
                self.quotation = Quotation::Bare;
                self.push(byte);
            }
            (Quotation::DoubleEscaped, _) => {
                self.quotation = Quotation::Double;
                // Before other characters the backslash stands for itself.
                if !matches!(byte, b'"' | b'\\' | b'$' | b'`') {
                    self.push(b'\\');
                }
                self.push(byte);
            }
        }
    }

    fn take_bare(&mut self, byte: u8) {
        match byte {
            b' ' | b'\t' => return self.end_word(),
            b'\\' => self.quote(Quotation::Escaped),
            b'\'' => self.quote(Quotation::Single),
            b'"' => self.quote(Quotation::Double),
            // zsh takes the word for the path of a program.
            b'=' if self.word.is_none() => self.doubt_byte(byte),
            // Some shells descend into directories, whose names the sender does not tell.
            b'*' if self.ends_with(b"*") => self.doubt_byte(byte),
            // bash takes what looks like the setting of a variable for one.
            b'~' if self.ends_with(b"=") || self.ends_with(b":") => self.doubt_byte(byte),
            b'~' if self.word.is_none() => {
                self.is_home = true;
                self.push(byte);
            }
            _ if is_special(byte) => self.doubt_byte(byte),
            _ => {
                self.push(byte);
                let is_wild = is_wildcard(byte);
                self.word.get_or_insert_default().is_wild |= is_wild;
            }
        }
        // A quotation makes a word, even if nothing is in it.
        self.word.get_or_insert_default();
    }

    /// Begins a quotation, which in the name before the first slash keeps a tilde as it is.
    fn quote(&mut self, quotation: Quotation) {
        let is_prefix = self.word.as_ref().is_some_and(|word| !word.bytes.contains(&b'/'));
        if self.is_home && is_prefix {
            self.doubt(CommandError::Shell(b'~'));
        }
        self.quotation = quotation;
    }

    fn ends_with(&self, end: &[u8]) -> bool {
        self.word.as_ref().is_some_and(|word| word.bytes.ends_with(end))
    }

    fn push(&mut self, byte: u8) {
        self.word.get_or_insert_default().bytes.push(byte);
    }

    /// Keeps a character that may mean something else.
    fn doubt_byte(&mut self, byte: u8) {
        self.doubt(CommandError::Shell(byte));
        self.push(byte);
    }

    /// The first doubt is the one that is told.
    fn doubt(&mut self, doubt: CommandError) {
        self.doubt.get_or_insert(doubt);
    }

    fn end_word(&mut self) {
        let Some(mut word) = self.word.take() else { return };
        if std::mem::take(&mut self.is_home) {
            // Where the user's own home is, the server begins: the path is as good without.
            match word.bytes.as_slice() {
                b"~" | b"~/" => word.bytes = b".".to_vec(),
                [b'~', b'/', rest @ ..] => word.bytes = rest.to_vec(),
                _ => self.doubt(CommandError::Shell(b'~')),
            }
        }
        self.words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::Direction::{ToClient, ToServer};
    use super::*;

    #[test]
    fn what_is_certain() {
        let cases: [(&str, Direction, bool, &[&str]); 15] = [
            ("scp -t /tmp", ToServer, false, &["/tmp"]),
            ("/usr/bin/scp -v -p -f a b", ToClient, false, &["a", "b"]),
            ("scp -rdt -- -x", ToServer, true, &["-x"]),
            ("scp  -r\t-p -f  .", ToClient, false, &["."]),
            ("scp -t my\\ file", ToServer, false, &["my file"]),
            ("scp -t 'a;b'\"c \\\"d\\e\"", ToServer, false, &["a;bc \"d\\e"]),
            ("scp -t ''", ToServer, false, &[""]),
            ("scp -t ~", ToServer, false, &["."]),
            ("scp -f ~/a/*.log", ToClient, false, &["a/*.log"]),
            ("scp -f a~b", ToClient, false, &["a~b"]),
            ("scp -f \\~x", ToClient, false, &["~x"]),
            ("scp -f ~/'a b'", ToClient, false, &["a b"]),
            ("scp -f '=a' a=b \\=c", ToClient, false, &["=a", "a=b", "=c"]),
            ("scp -f 'a**' a\\*\\*", ToClient, false, &["a**", "a**"]),
            ("scp -f a -t", ToClient, false, &["a", "-t"]),
        ];
        for (text, direction, is_directory, paths) in cases {
            let (command, certain) = Command::parse(text.as_bytes()).unwrap();
            assert_eq!(certain, Ok(()), "{text}");
            assert_eq!((command.direction, command.is_directory), (direction, is_directory));
            let got: Vec<_> = command.paths.iter().map(|path| path.bytes.as_slice()).collect();
            assert_eq!(got, paths.iter().map(|path| path.as_bytes()).collect::<Vec<_>>(), "{text}");
        }
    }

    #[test]
    fn what_is_not() {
        use CommandError::{Option, Paths, Program, Quotation, Shell};
        let cases = [
            ("./scp -t /tmp", Program),
            ("cat -t /tmp", Program),
            ("scp -t -S /tmp/x y", Option(b'S')),
            ("scp -t", Paths(0)),
            ("scp -t a b", Paths(2)),
            ("scp -t a;id", Shell(b';')),
            ("scp -t $HOME", Shell(b'$')),
            ("scp -t \"`id`\"", Shell(b'`')),
            ("scp -f {a,b}", Shell(b'{')),
            ("scp -f a\nid", Shell(b'\n')),
            ("scp -f a\\\nb", Shell(b'\n')),
            ("scp -f ~root/a", Shell(b'~')),
            ("scp -f ~\"/a\"", Shell(b'~')),
            ("scp -f ~'root'/a", Shell(b'~')),
            ("scp -f ~\\/a", Shell(b'~')),
            ("scp -f ~''", Shell(b'~')),
            ("scp -f a=~/b", Shell(b'~')),
            ("scp -f a=/b:~/c", Shell(b'~')),
            ("scp -f =ls", Shell(b'=')),
            ("scp -f a =ls", Shell(b'=')),
            ("scp -f a**", Shell(b'*')),
            ("scp -f /srv/**", Shell(b'*')),
            ("scp -f /srv/*/a", Shell(b'*')),
            ("scp -t a*", Shell(b'*')),
            ("scp -f 'a", Quotation),
            ("scp -f a\\", Quotation),
        ];
        for (text, doubt) in cases {
            let (_, certain) = Command::parse(text.as_bytes()).unwrap();
            assert_eq!(certain, Err(doubt), "{text}");
        }
        for text in ["", "scp a b", "scp -t -f a", "scp -tf a"] {
            assert_eq!(Command::parse(text.as_bytes()), Err(CommandError::Direction), "{text}");
        }
        let many = format!("scp -f{}", " a".repeat(17));
        assert_eq!(Command::parse(many.as_bytes()), Err(Paths(17)));
    }

    #[test]
    fn every_cut_is_judged() {
        let text = b"scp -r -t \"a\\\"b\" 'c' d\\ e ~/f";
        for end in 0..text.len() {
            if let Ok((command, Ok(()))) = Command::parse(&text[..end]) {
                assert_eq!(command.paths.len(), 1, "cut at {end}");
            }
        }
    }
}
