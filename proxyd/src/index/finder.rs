//! From the records of a session to what can be searched.

use std::collections::BTreeMap;

use proxyd_screen::{Command, CommandSource, Entry, Seen, Transcript};
use proxyd_trail::{Record, Source};

use crate::store::content::{Piece, PieceKind};

/// Bytes of lines that make a piece.
const PIECE_BYTES: usize = 4_096;

/// Time between the first and the last line of a piece, in nanoseconds: a minute.
const PIECE_NS: u64 = 60_000_000_000;

/// Bytes of a line that a command without a terminal has printed; a longer one is cut there.
const LINE_BYTES_MAX: usize = 4_096;

/// Channels whose output is text for people, unless it turns out to be something else.
const TEXT_CHANNELS: [&str; 2] = ["session-shell", "session-exec"];

/// What is found as records come.
pub(super) struct Finder {
    channels: BTreeMap<u32, Channel>,
    pieces: Vec<Piece>,
    last_ns: u64,
    /// Bytes of text that may still be found.
    room: usize,
}

/// A channel that is open.
struct Channel {
    shown: Shown,
    block: Block,
    /// A command that was requested and has not ended.
    requested: Option<(u64, String, Option<i64>)>,
}

/// Where a channel's output is shown.
enum Shown {
    /// On a terminal.
    Terminal(Box<Transcript>),
    /// As it comes: there is no terminal.
    Plain(Vec<u8>),
    /// Nowhere: it is no text.
    Nowhere,
}

/// What stands in the place of text that is left out.
const FULL: &str = "(from here on more was shown than the index holds of one session)";

/// Lines that become a piece.
#[derive(Default)]
struct Block {
    lines: Vec<(u64, String)>,
    bytes: usize,
}

impl Finder {
    /// Nothing has come yet; at most `bytes_max` of text are found.
    pub(super) const fn new(bytes_max: usize) -> Self {
        Self { channels: BTreeMap::new(), pieces: Vec::new(), last_ns: 0, room: bytes_max }
    }

    /// Looks at the next record.
    pub(super) fn record(&mut self, t_ns: u64, record: &Record<'_>) {
        self.last_ns = self.last_ns.max(t_ns);
        if let Record::Event { kind: "channel", fields } = record {
            self.open(t_ns, fields);
        } else if let Record::ChannelClose { channel } = record {
            self.close(*channel);
        } else if let Record::Pty { channel, columns, rows, .. } = record {
            // A terminal is asked for before what is to run on it.
            let transcript = Box::new(Transcript::new(*columns, *rows));
            self.channels.insert(*channel, Channel::new(Shown::Terminal(transcript)));
        } else if let Some(number) = record.channel()
            && let Some(channel) = self.channels.get_mut(&number)
        {
            channel.record(number, t_ns, record, &mut self.pieces);
        }
    }

    /// A channel was allowed or refused. What it was opened for is told as far as it is on record;
    /// the whole command is in what the client sent.
    fn open(&mut self, t_ns: u64, fields: &[(&str, &str)]) {
        let field = |wanted: &str| {
            fields.iter().find_map(|(name, value)| (*name == wanted).then_some(*value))
        };
        let Some(number) = field("channel").and_then(|number| number.parse().ok()) else { return };
        let is_text = field("kind").is_some_and(|kind| TEXT_CHANNELS.contains(&kind));
        let channel = self.channels.entry(number).or_insert_with(Channel::plain);
        if !is_text || field("denied").is_some() {
            channel.shown = Shown::Nowhere;
        } else if let Some(command) = field("detail").filter(|command| !command.is_empty()) {
            channel.requested = Some((t_ns, command.to_owned(), None));
        }
    }

    /// How many pieces there are.
    pub(super) fn count(&self) -> usize {
        self.pieces.len()
    }

    /// Gives the pieces there are.
    pub(super) fn take(&mut self) -> Vec<Piece> {
        let mut kept = Vec::new();
        for mut piece in std::mem::take(&mut self.pieces) {
            if self.room == 0 {
                break;
            }
            self.room = self.room.saturating_sub(piece.text.len());
            if self.room == 0 {
                FULL.clone_into(&mut piece.text);
                (piece.kind, piece.line_ms) = (PieceKind::Screen, vec![0]);
            }
            kept.push(piece);
        }
        kept
    }

    /// Gives the rest.
    pub(super) fn finish(mut self) -> Vec<Piece> {
        let numbers: Vec<u32> = self.channels.keys().copied().collect();
        numbers.into_iter().for_each(|number| self.close(number));
        self.take()
    }

    fn close(&mut self, number: u32) {
        if let Some(channel) = self.channels.remove(&number) {
            channel.close(number, self.last_ns, &mut self.pieces);
        }
    }
}

impl Channel {
    fn plain() -> Self {
        Self::new(Shown::Plain(Vec::new()))
    }

    fn new(shown: Shown) -> Self {
        Self { shown, block: Block::default(), requested: None }
    }

    fn record(&mut self, number: u32, t_ns: u64, record: &Record<'_>, pieces: &mut Vec<Piece>) {
        if let Record::Data { source: Source::Stdout | Source::Stderr, bytes, .. } = record {
            self.data(number, t_ns, bytes, pieces);
        } else if let Record::Resize { columns, rows, .. } = record {
            if let Shown::Terminal(transcript) = &mut self.shown {
                let entries = transcript.resize(t_ns, *columns, *rows);
                self.keep(number, entries, pieces);
            }
        } else if let Record::ExitStatus { status, .. } = record
            && let Some((_at, _text, exit_status)) = &mut self.requested
        {
            *exit_status = Some(i64::from(*status));
        }
    }

    fn data(&mut self, number: u32, t_ns: u64, bytes: &[u8], pieces: &mut Vec<Piece>) {
        match &mut self.shown {
            Shown::Terminal(transcript) => {
                let entries = transcript.feed(t_ns, bytes);
                self.keep(number, entries, pieces);
            }
            // Text for people has no zeros; an archive or an image has.
            Shown::Plain(_) if bytes.contains(&0) => self.shown = Shown::Nowhere,
            Shown::Plain(line) => {
                let mut lines = Vec::new();
                for byte in bytes {
                    if *byte == b'\n' || line.len() >= LINE_BYTES_MAX {
                        lines.push(std::mem::take(line));
                    }
                    if *byte != b'\n' {
                        line.push(*byte);
                    }
                }
                for line in lines {
                    self.block.add(number, t_ns, &plain(&line), pieces);
                }
            }
            Shown::Nowhere => {}
        }
    }

    fn keep(&mut self, number: u32, entries: Vec<Entry>, pieces: &mut Vec<Piece>) {
        for entry in entries {
            match entry {
                Entry::Seen(Seen { t_ns, text }) => {
                    self.block.add(number, t_ns, &text, pieces);
                }
                Entry::Command(Command { t_ns, text, exit_status, source }) => {
                    let found_by = match source {
                        CommandSource::Osc133 | CommandSource::Osc633 => "mark",
                        CommandSource::Prompt => "prompt",
                    };
                    let exit_status = exit_status.map(i64::from);
                    let kind = PieceKind::Command { found_by, exit_status };
                    pieces.push(command(number, t_ns, &text, kind));
                }
            }
        }
    }

    fn end_requested(&mut self, number: u32, pieces: &mut Vec<Piece>) {
        if let Some((at_ns, text, exit_status)) = self.requested.take() {
            let kind = PieceKind::Command { found_by: "request", exit_status };
            pieces.push(command(number, at_ns, &text, kind));
        }
    }

    fn close(mut self, number: u32, t_ns: u64, pieces: &mut Vec<Piece>) {
        match std::mem::replace(&mut self.shown, Shown::Nowhere) {
            Shown::Terminal(transcript) => {
                let entries = transcript.finish(t_ns);
                self.keep(number, entries, pieces);
            }
            Shown::Plain(line) => self.block.add(number, t_ns, &plain(&line), pieces),
            Shown::Nowhere => {}
        }
        self.block.flush(number, pieces);
        self.end_requested(number, pieces);
    }
}

impl Block {
    fn add(&mut self, number: u32, t_ns: u64, line: &str, pieces: &mut Vec<Piece>) {
        if line.trim().is_empty() {
            return;
        }
        let is_long = self.bytes.saturating_add(line.len()) > PIECE_BYTES;
        let first_ns = self.lines.first().map_or(t_ns, |(first_ns, _line)| *first_ns);
        if is_long || t_ns.abs_diff(first_ns) > PIECE_NS {
            self.flush(number, pieces);
        }
        self.bytes += line.len();
        self.lines.push((t_ns, line.to_owned()));
    }

    fn flush(&mut self, number: u32, pieces: &mut Vec<Piece>) {
        let mut lines = std::mem::take(&mut self.lines);
        self.bytes = 0;
        lines.sort_by_key(|(t_ns, _line)| *t_ns);
        let Some(&(at_ns, _)) = lines.first() else { return };
        let line_ms = lines.iter().map(|(t_ns, _line)| t_ns.saturating_sub(at_ns) / NS_PER_MS);
        let line_ms = line_ms.collect();
        let lines: Vec<String> = lines.into_iter().map(|(_t_ns, line)| line).collect();
        let text = lines.join("\n");
        pieces.push(Piece { channel: number, at_ns, kind: PieceKind::Screen, text, line_ms });
    }
}

const NS_PER_MS: u64 = 1_000_000;

fn command(channel: u32, at_ns: u64, text: &str, kind: PieceKind) -> Piece {
    // A command may have several lines; it is one, so that it is found as a whole.
    let text = text.replace(['\n', '\r'], " ");
    Piece { channel, at_ns, kind, text, line_ms: vec![0] }
}

/// A line that a command has printed, without what a terminal would not show as text.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NUMBER: u32 = 7;

    fn open(finder: &mut Finder, kind: &str, detail: &str) {
        let number = NUMBER.to_string();
        let fields = vec![("kind", kind), ("detail", detail), ("rule", "0"), ("channel", &number)];
        finder.record(1, &Record::Event { kind: "channel", fields });
    }

    fn print(finder: &mut Finder, t_ns: u64, bytes: &[u8]) {
        finder.record(t_ns, &Record::Data { channel: NUMBER, source: Source::Stdout, bytes });
    }

    fn texts(pieces: &[Piece]) -> Vec<&str> {
        pieces.iter().map(|piece| piece.text.as_str()).collect()
    }

    #[test]
    fn a_command_without_a_terminal() {
        let mut finder = Finder::new(1_000);
        open(&mut finder, "session-exec", "make\nall");
        print(&mut finder, 5_000_000, b"one\r\ntw");
        print(&mut finder, 9_000_000, b"o\x1b[0m\n\n last \xff");
        finder.record(10_000_000, &Record::ExitStatus { channel: NUMBER, status: 2 });
        let pieces = finder.finish();
        assert_eq!(texts(&pieces), ["one \ntwo [0m\n last \u{fffd}", "make all"]);
        assert_eq!((pieces[0].at_ns, &pieces[0].line_ms), (5_000_000, &vec![0, 4, 5]));
        let kind = PieceKind::Command { found_by: "request", exit_status: Some(2) };
        assert_eq!(pieces[1].kind, kind);
    }

    #[test]
    fn what_is_no_text_is_left_out() {
        for (kind, bytes) in [
            ("session-exec", &b"PK\0\x01 archive\n"[..]),
            ("session-sftp", b"text\n"),
            ("session-exec-scp", b"C0644 4 name\ntext"),
        ] {
            let mut finder = Finder::new(1_000);
            open(&mut finder, kind, "");
            print(&mut finder, 2, bytes);
            assert_eq!(texts(&finder.finish()), Vec::<&str>::new(), "{kind}");
        }
    }

    #[test]
    fn text_without_end_is_bounded() {
        let mut finder = Finder::new(10_000);
        open(&mut finder, "session-exec", "yes");
        let (mut bytes, mut full) = (0, 0);
        for t_ns in 0..100 {
            print(&mut finder, t_ns, &[b"y\n".repeat(2_000), vec![b'x'; 10_000]].concat());
            for piece in finder.take() {
                bytes += piece.text.len();
                full += usize::from(piece.text == FULL);
            }
        }
        assert!(bytes < 20_000, "{bytes}");
        assert_eq!(full, 1);
        assert!(finder.finish().is_empty());
    }
}
