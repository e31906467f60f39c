//! Keyframes: what a terminal shows, now and then, so that a replay need not begin at the
//! beginning.

use std::collections::BTreeMap;

use proxyd_screen::Screen;
use proxyd_trail::{Batch, Record, Records, Source, Stream, Taken};

/// Output after which a terminal has a keyframe, in bytes.
const OUTPUT_BYTES_MAX: u64 = 256 * 1024;

/// Time after which it has one, if there was some output, in nanoseconds: 10 s.
const OUTPUT_NS_MAX: u64 = 10_000_000_000;

/// Output that is worth a keyframe, in bytes: with less, it takes as much as what it saves to read.
const OUTPUT_BYTES_MIN: u64 = 4 * 1024;

/// The terminals of a session.
#[derive(Default)]
pub(super) struct Keyframes {
    terminals: BTreeMap<u32, Terminal>,
}

/// A terminal, and how long ago it had a keyframe.
struct Terminal {
    columns: u32,
    rows: u32,
    /// None while nothing happens: it takes 32 bytes for each cell.
    screen: Option<Box<Screen>>,
    /// What was on it then.
    quiet: String,
    output_bytes: u64,
    keyframe_ns: u64,
}

impl Keyframes {
    /// Follows what a block recorded; gives the keyframes that are due after it.
    pub(super) fn follow(&mut self, chunks: &[(Stream, Taken)]) -> Option<Taken> {
        let of = |wanted: Stream| {
            let chunk = chunks.iter().find(|(stream, _taken)| *stream == wanted);
            chunk.map(|(_stream, taken)| taken.records.as_slice()).unwrap_or_default()
        };
        let mut steps = Vec::new();
        for (t_ns, record) in records(of(Stream::Meta)) {
            if matches!(
                record,
                Record::Pty { .. } | Record::Resize { .. } | Record::ChannelClose { .. }
            ) {
                steps.push((t_ns, record));
            }
        }
        // Most of what is carried in bulk is on no terminal.
        if steps.is_empty() && self.terminals.is_empty() {
            return None;
        }
        steps.extend(records(of(Stream::Downstream)));
        steps.sort_by_key(|(t_ns, _record)| *t_ns);
        let last_ns = steps.last().map(|(t_ns, _record)| *t_ns)?;
        for (t_ns, record) in &steps {
            self.step(*t_ns, record);
        }
        self.due(last_ns)
    }

    /// Gives back the memory of screens on which nothing happens.
    pub(super) fn release_memory(&mut self) {
        for terminal in self.terminals.values_mut() {
            if let Some(screen) = terminal.screen.take_if(|screen| !screen.is_within_character()) {
                terminal.quiet = screen.keyframe();
            }
        }
    }

    fn step(&mut self, t_ns: u64, record: &Record<'_>) {
        if let Record::Pty { channel, columns, rows, .. } = *record {
            // Asked for again, it stays what it is: servers refuse that.
            let new = || Terminal::new(columns, rows, t_ns);
            self.terminals.entry(channel).or_insert_with(new);
        } else if let Record::ChannelClose { channel } = record {
            self.terminals.remove(channel);
        } else if let Some(channel) = record.channel()
            && let Some(terminal) = self.terminals.get_mut(&channel)
        {
            terminal.step(record);
        }
    }

    fn due(&mut self, t_ns: u64) -> Option<Taken> {
        let mut batch = Batch::new();
        for (&channel, terminal) in &mut self.terminals {
            let waited_ns = t_ns.saturating_sub(terminal.keyframe_ns);
            let is_due = terminal.output_bytes >= OUTPUT_BYTES_MAX
                || terminal.output_bytes >= OUTPUT_BYTES_MIN && waited_ns >= OUTPUT_NS_MAX;
            if !is_due || terminal.screen().is_within_character() {
                continue;
            }
            let screen = terminal.screen();
            let (size, text) = (screen.size(), screen.keyframe());
            let (columns, rows) = (u32::from(size.columns), u32::from(size.rows));
            let record = Record::Keyframe { channel, columns, rows, screen: &text };
            // One that is too long, or finds the batch full, is left out: the one before is there.
            if batch.push(t_ns, &record).is_ok() {
                terminal.output_bytes = 0;
                terminal.keyframe_ns = t_ns;
            }
        }
        batch.take()
    }
}

impl Terminal {
    fn new(columns: u32, rows: u32, t_ns: u64) -> Self {
        let quiet = String::new();
        Self { columns, rows, screen: None, quiet, output_bytes: 0, keyframe_ns: t_ns }
    }

    fn step(&mut self, record: &Record<'_>) {
        if let Record::Data { source: Source::Stdout | Source::Stderr, bytes, .. } = record {
            self.screen().feed(bytes);
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            self.output_bytes = self.output_bytes.saturating_add(length);
        } else if let Record::Resize { columns, rows, .. } = record {
            self.screen().resize(*columns, *rows);
            let size = self.screen().size();
            (self.columns, self.rows) = (size.columns.into(), size.rows.into());
        }
    }

    fn screen(&mut self) -> &mut Screen {
        let quiet = std::mem::take(&mut self.quiet);
        self.screen.get_or_insert_with(|| {
            let mut screen = Screen::new(self.columns, self.rows);
            screen.feed(quiet.as_bytes());
            Box::new(screen)
        })
    }
}

/// Records that this gateway has encoded itself.
fn records(encoded: &[u8]) -> impl Iterator<Item = (u64, Record<'_>)> {
    Records::new(encoded).map_while(Result::ok)
}
