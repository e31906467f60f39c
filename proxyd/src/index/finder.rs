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

/// Programs whose output is text for people, as far as it is text.
const TEXT_CHANNELS: [&str; 2] = ["session-shell", "session-exec"];

/// Programs whose output is for other programs, and forwarded connections. An agent or a display is
/// neither: a session asks for it beside its program.
const SILENT_CHANNELS: [&str; 5] =
    ["session-exec-scp", "session-sftp", "session-subsystem", "local-forward", "remote-forward"];

/// What is found as records come.
pub(super) struct Finder {
    channels: BTreeMap<u32, Channel>,
    pieces: Vec<Piece>,
    last_ns: u64,
    /// Bytes of lines that may still be found.
    lines_room: usize,
    /// Bytes of commands that may.
    commands_room: usize,
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

/// Control characters that are in text: tab, carriage return, those that strike over, ring, feed,
/// and what begins colours.
const TEXT_CONTROLS: [u8; 6] = [b'\t', b'\r', 0x08, 0x07, 0x0c, 0x1b];

/// Lines that become a piece.
#[derive(Default)]
struct Block {
    lines: Vec<(u64, String)>,
    bytes: usize,
}

impl Finder {
    /// Nothing has come yet; at most so many bytes of lines, and of commands, are found.
    pub(super) const fn new(lines_bytes_max: usize, commands_bytes_max: usize) -> Self {
        Self {
            channels: BTreeMap::new(),
            pieces: Vec::new(),
            last_ns: 0,
            lines_room: lines_bytes_max,
            commands_room: commands_bytes_max,
        }
    }

    /// Whether something was left out.
    pub(super) const fn is_full(&self) -> bool {
        self.lines_room == 0 || self.commands_room == 0
    }

    /// Looks at the next record.
    pub(super) fn record(&mut self, t_ns: u64, record: &Record<'_>) {
        self.last_ns = self.last_ns.max(t_ns);
        if let Record::Event { kind: "channel", fields } = record {
            self.open(t_ns, fields);
        } else if let Record::ChannelClose { channel } = record {
            self.close(*channel);
        } else if let Record::Pty { channel, columns, rows, .. } = record {
            // A terminal is asked for before what is to run on it. Asked for again, it stays what
            // it is: servers refuse that.
            let opened = self.channels.entry(*channel).or_insert_with(Channel::plain);
            opened.terminal(*channel, t_ns, (*columns, *rows), &mut self.pieces);
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
        let Some(kind) = field("kind").filter(|_kind| field("denied").is_none()) else { return };
        let channel = self.channels.entry(number).or_insert_with(Channel::plain);
        if SILENT_CHANNELS.contains(&kind) {
            channel.silence(number, self.last_ns, &mut self.pieces);
        }
        let command = field("detail").filter(|command| !command.is_empty());
        if let Some(command) = command.filter(|_command| TEXT_CHANNELS.contains(&kind)) {
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
        for piece in std::mem::take(&mut self.pieces) {
            let room = match piece.kind {
                PieceKind::Screen => &mut self.lines_room,
                PieceKind::Command { .. } => &mut self.commands_room,
            };
            *room = room.saturating_sub(piece.text.len());
            if *room > 0 {
                kept.push(piece);
            }
        }
        kept
    }

    /// Gives the rest.
    pub(super) fn finish(&mut self) -> Vec<Piece> {
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
        let shown = Shown::Plain(Vec::new());
        Self { shown, block: Block::default(), requested: None }
    }

    fn terminal(
        &mut self,
        number: u32,
        t_ns: u64,
        (columns, rows): (u32, u32),
        pieces: &mut Vec<Piece>,
    ) {
        if !matches!(self.shown, Shown::Terminal(_)) {
            self.silence(number, t_ns, pieces);
            self.shown = Shown::Terminal(Box::new(Transcript::new(columns, rows)));
        }
    }

    /// What comes from now on is shown nowhere.
    fn silence(&mut self, number: u32, t_ns: u64, pieces: &mut Vec<Piece>) {
        match std::mem::replace(&mut self.shown, Shown::Nowhere) {
            Shown::Terminal(transcript) => {
                let entries = transcript.finish(t_ns);
                self.keep(number, entries, pieces);
            }
            Shown::Plain(line) => self.line(number, t_ns, &line, pieces),
            Shown::Nowhere => {}
        }
        self.block.flush(number, pieces);
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
                    self.line(number, t_ns, &line, pieces);
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

    /// A line that a command has printed. Archives and pictures have other controls than text.
    fn line(&mut self, number: u32, t_ns: u64, line: &[u8], pieces: &mut Vec<Piece>) {
        let is_text = |byte: &u8| *byte >= b' ' || TEXT_CONTROLS.contains(byte);
        if line.iter().all(is_text) {
            self.block.add(number, t_ns, &plain(line), pieces);
        }
    }

    fn end_requested(&mut self, number: u32, pieces: &mut Vec<Piece>) {
        if let Some((at_ns, text, exit_status)) = self.requested.take() {
            let kind = PieceKind::Command { found_by: "request", exit_status };
            pieces.push(command(number, at_ns, &text, kind));
        }
    }

    fn close(mut self, number: u32, t_ns: u64, pieces: &mut Vec<Piece>) {
        self.silence(number, t_ns, pieces);
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
        let mut finder = Finder::new(1_000, 1_000);
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
        for (kind, bytes, expected) in [
            ("session-exec", &b"PK\0\x01 archive\nbut this\n"[..], vec!["but this"]),
            ("session-sftp", b"text\n", vec![]),
            ("session-exec-scp", b"C0644 4 name\ntext", vec![]),
        ] {
            let mut finder = Finder::new(1_000, 1_000);
            open(&mut finder, kind, "");
            print(&mut finder, 2, bytes);
            assert_eq!(texts(&finder.finish()), expected, "{kind}");
        }
    }

    /// What a client asks for beside its program, or again, hides nothing.
    #[test]
    fn further_requests_hide_nothing() {
        let number = NUMBER.to_string();
        let denied = [("kind", "session-exec"), ("denied", "no-rule"), ("channel", &*number)];
        let terminal = Record::Pty { channel: NUMBER, term: "xterm", columns: 80, rows: 24 };
        for has_terminal in [false, true] {
            let mut finder = Finder::new(1_000, 1_000);
            finder.record(1, &Record::Event { kind: "channel", fields: denied.to_vec() });
            if has_terminal {
                finder.record(1, &terminal);
            }
            open(&mut finder, "session-exec", "first");
            print(&mut finder, 2, b"before\r\n");
            open(&mut finder, "agent", "");
            open(&mut finder, "x11", "");
            if has_terminal {
                finder.record(3, &terminal);
            }
            print(&mut finder, 1_000_000_000, b"after\r\n");
            let pieces = finder.finish();
            let all = texts(&pieces).join("|");
            for text in ["before", "after", "first"] {
                assert!(all.contains(text), "{has_terminal}: {text} in {all}");
            }
        }
    }

    #[test]
    fn text_without_end_is_bounded() {
        let mut finder = Finder::new(10_000, 1_000);
        open(&mut finder, "session-exec", "yes");
        let mut bytes = 0;
        for t_ns in 0..100 {
            print(&mut finder, t_ns, &[b"y\n".repeat(2_000), vec![b'x'; 10_000]].concat());
            bytes += finder.take().iter().map(|piece| piece.text.len()).sum::<usize>();
        }
        assert!((1..=10_000).contains(&bytes), "{bytes}");
        assert!(finder.is_full());
        assert_eq!(texts(&finder.finish()), ["yes"], "commands have room of their own");
    }
}
