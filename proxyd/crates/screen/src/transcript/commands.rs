//! Commands that are typed at prompts, by marks of shells or by what prompts look like.

use std::collections::VecDeque;
use std::mem;

use avt::{Line, Terminal};

use super::line::append;
use super::row::Row;
use super::{Command, CommandSource, Entry};
use crate::mark::{Dialect, Mark, MarkKind};
use crate::screen::{is_tail, text};

/// Bytes of a command that are kept.
pub(super) const COMMAND_BYTES_MAX: usize = 16 * 1024;

/// How long the cursor has to rest behind what looks like a prompt, in nanoseconds: 0.5 ms. Output
/// that happens to be cut there goes on at once; a user or a script on another host does not.
pub(super) const REST_NS_MIN: u64 = 500_000;

/// How long after a line was entered a mark of output is taken for its, in nanoseconds: 1 s.
const OUTPUT_NS_MAX: u64 = 1_000_000_000;

/// What a prompt ends in, before a space.
const PROMPT_ENDS: [char; 4] = ['$', '#', '%', '>'];

/// Where what is typed begins on a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Input {
    prompt: Prompt,
    source: CommandSource,
    pub(super) stage: Stage,
}

/// What stands before an input.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Prompt {
    text: String,
    /// Cells of the text.
    columns: usize,
}

/// What became of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It is being typed.
    Typing,
    /// The cursor left it. It may come back, as from a list of completions.
    Left,
    /// It was told.
    Told,
}

/// The commands of a terminal.
#[derive(Debug, Default)]
pub(super) struct Commands {
    /// The last prompt that is long enough to know it again.
    known: Option<Prompt>,
    /// A line that was left, and may be changed or become known better.
    left: Option<Command>,
    /// What the shell says the command line is.
    said: Option<String>,
    /// A command whose output is shown.
    running: Option<Command>,
    /// Whether the shell marks output, so that a line without is no command.
    marks_output: bool,
}

impl Commands {
    /// The cursor rests where it is: perhaps behind a prompt.
    pub(super) fn rest(
        &mut self,
        terminal: &Terminal,
        rows: &mut VecDeque<Row>,
        found: &mut Vec<Entry>,
    ) {
        let cursor = terminal.cursor();
        let (Some(line), Some(row)) =
            (terminal.screen().line(cursor.row), rows.get_mut(cursor.row))
        else {
            return;
        };
        if starts_within_line(terminal, cursor.row) {
            return;
        }
        let at = Prompt::before(line, cursor.col);
        if let Some(input) = &row.input
            && input.prompt.stands(line)
            && input.prompt.columns < at.columns
        {
            return;
        }
        let known = self.known.as_ref().filter(|known| known.stands(line));
        let prompt = match known {
            Some(known) => known.clone(),
            None if at.looks_like_one() && text(line).len() < at.text.len() => at,
            None => return,
        };
        if row.input.as_ref().is_none_or(|input| input.prompt != prompt) {
            row.input = Some(Input::new(prompt.clone(), CommandSource::Prompt));
        } else if let Some(input) = &mut row.input
            && cursor.col == prompt.columns
        {
            input.stage = Stage::Typing;
        }
        if prompt.text.chars().any(char::is_alphanumeric) {
            self.known = Some(prompt);
        }
        if self.left.as_ref().is_some_and(|left| left.source == CommandSource::Prompt) {
            tell(self.left.take(), found);
        }
    }

    /// The cursor leaves its row downwards.
    pub(super) fn leave(
        &mut self,
        terminal: &Terminal,
        rows: &mut VecDeque<Row>,
        now_ns: u64,
        found: &mut Vec<Entry>,
    ) {
        let Some((at, command)) = self.typed(terminal, rows, now_ns) else { return };
        let Some(input) = rows.get_mut(at).and_then(|row| row.input.as_mut()) else { return };
        let stage = mem::replace(&mut input.stage, Stage::Left);
        match &mut self.left {
            Some(left) if stage == Stage::Left => *left = command,
            // The shell did not mark it: a further line of the same command.
            Some(left)
                if left.source != CommandSource::Prompt
                    && command.source == CommandSource::Prompt =>
            {
                left.text.push('\n');
                left.text.push_str(&command.text);
                cut(&mut left.text);
            }
            Some(_) | None => {
                tell(self.left.replace(command), found);
                settle(rows, at);
            }
        }
    }

    /// A shell says something.
    pub(super) fn mark(
        &mut self,
        terminal: &Terminal,
        rows: &mut VecDeque<Row>,
        mark: Mark,
        now_ns: u64,
        found: &mut Vec<Entry>,
    ) {
        let source = match mark.dialect {
            Dialect::Osc133 => CommandSource::Osc133,
            Dialect::Osc633 => CommandSource::Osc633,
        };
        match mark.kind {
            MarkKind::Prompt => self.close(found),
            MarkKind::Input => {
                self.close(found);
                begin(terminal, rows, source);
            }
            MarkKind::CommandLine(line) => self.said = Some(line),
            MarkKind::Output(line) => {
                let said = self.said.take().or(line);
                let typed = self.entered(terminal, rows, now_ns, found);
                tell(self.running.take(), found);
                self.marks_output = true;
                self.running = start(typed, said, source, now_ns);
            }
            MarkKind::Done(exit_status) => {
                let running = self.running.take();
                tell(running.map(|command| Command { exit_status, ..command }), found);
            }
        }
    }

    /// The end of all.
    pub(super) fn finish(&mut self, found: &mut Vec<Entry>) {
        tell(self.running.take(), found);
        tell(self.left.take(), found);
    }

    /// Before a new prompt: nothing more comes of what is before it.
    fn close(&mut self, found: &mut Vec<Entry>) {
        self.said = None;
        tell(self.running.take(), found);
        let is_command =
            |left: &Command| !self.marks_output || left.source == CommandSource::Prompt;
        tell(self.left.take().filter(is_command), found);
    }

    /// What was typed on the line of the cursor, and on which row it begins.
    fn typed(
        &self,
        terminal: &Terminal,
        rows: &mut VecDeque<Row>,
        now_ns: u64,
    ) -> Option<(usize, Command)> {
        let last = terminal.cursor().row;
        let screen = terminal.screen();
        if screen.line(last)?.is_wrapped() {
            return None;
        }
        let at = self.input_row(terminal, rows, last)?;
        let input = rows.get(at)?.input.as_ref()?;
        if input.stage == Stage::Told {
            return None;
        }
        let mut typed = String::new();
        for (index, line) in screen.visible_lines().enumerate().take(last + 1).skip(at) {
            let columns = if index == at { input.prompt.columns } else { 0 };
            let cells = line.cells().iter().skip(columns).filter(|cell| !is_tail(cell));
            append(&mut typed, &cells.map(avt::Cell::char).collect::<String>());
        }
        let mut text = typed.trim_matches(' ').to_owned();
        cut(&mut text);
        let command = Command { t_ns: now_ns, text, exit_status: None, source: input.source };
        (!command.text.is_empty()).then_some((at, command))
    }

    /// The row on which the input of a line begins that ends on a row; makes one where the line
    /// begins with a known prompt.
    fn input_row(
        &self,
        terminal: &Terminal,
        rows: &mut VecDeque<Row>,
        last: usize,
    ) -> Option<usize> {
        let mut at = last;
        loop {
            let (line, row) = (terminal.screen().line(at)?, rows.get_mut(at)?);
            if row.input.as_ref().is_some_and(|input| input.prompt.stands(line)) {
                return Some(at);
            }
            if !starts_within_line(terminal, at) {
                let known = self.known.as_ref().filter(|known| known.stands(line))?;
                row.input = Some(Input::new(known.clone(), CommandSource::Prompt));
                return Some(at);
            }
            at -= 1;
        }
    }

    /// The line that was entered before its output began: one that was left, or that of the cursor.
    fn entered(
        &mut self,
        terminal: &Terminal,
        rows: &mut VecDeque<Row>,
        now_ns: u64,
        found: &mut Vec<Entry>,
    ) -> Option<Command> {
        let left = self.left.take();
        let recent = left.as_ref().is_some_and(|left| {
            left.source != CommandSource::Prompt || now_ns - left.t_ns <= OUTPUT_NS_MAX
        });
        let left = if recent {
            left
        } else {
            tell(left, found);
            None
        };
        if left.is_some() {
            settle(rows, usize::MAX);
            return left;
        }
        let (at, command) = self.typed(terminal, rows, now_ns)?;
        rows.get_mut(at)?.input.as_mut()?.stage = Stage::Told;
        Some(command)
    }
}

impl Input {
    const fn new(prompt: Prompt, source: CommandSource) -> Self {
        Self { prompt, source, stage: Stage::Typing }
    }
}

impl Prompt {
    /// What stands before a column.
    fn before(line: &Line, columns: usize) -> Self {
        let cells = line.cells().iter().take(columns).filter(|cell| !is_tail(cell));
        Self { text: cells.map(avt::Cell::char).collect(), columns }
    }

    fn stands(&self, line: &Line) -> bool {
        let cells = line.cells().iter().take(self.columns).filter(|cell| !is_tail(cell));
        cells.map(avt::Cell::char).eq(self.text.chars())
    }

    fn looks_like_one(&self) -> bool {
        self.text.strip_suffix(' ').is_some_and(|text| text.ends_with(PROMPT_ENDS))
    }
}

/// Whether the line of a row begins above it.
fn starts_within_line(terminal: &Terminal, row: usize) -> bool {
    let above = row.checked_sub(1).and_then(|above| terminal.screen().line(above));
    above.is_some_and(Line::is_wrapped)
}

/// The cursor stands where what is typed begins.
fn begin(terminal: &Terminal, rows: &mut VecDeque<Row>, source: CommandSource) {
    let cursor = terminal.cursor();
    if let (Some(line), Some(row)) = (terminal.screen().line(cursor.row), rows.get_mut(cursor.row))
    {
        row.input = Some(Input::new(Prompt::before(line, cursor.col), source));
    }
}

/// Lines that were left are told, but for one.
fn settle(rows: &mut VecDeque<Row>, but: usize) {
    for (_, row) in rows.iter_mut().enumerate().filter(|&(index, _)| index != but) {
        if let Some(input) = &mut row.input
            && input.stage == Stage::Left
        {
            input.stage = Stage::Told;
        }
    }
}

/// The command whose output begins: as the shell says it, else as it was typed.
fn start(
    typed: Option<Command>,
    said: Option<String>,
    source: CommandSource,
    t_ns: u64,
) -> Option<Command> {
    let mut command = match (typed, said) {
        (Some(typed), Some(text)) => Command { text, source, ..typed },
        (Some(typed), None) => Command { source, ..typed },
        (None, Some(text)) => Command { t_ns, text, exit_status: None, source },
        (None, None) => return None,
    };
    cut(&mut command.text);
    Some(command)
}

fn tell(command: Option<Command>, found: &mut Vec<Entry>) {
    found.extend(command.map(Entry::Command));
}

/// Cuts a text at its limit.
fn cut(text: &mut String) {
    text.truncate(text.floor_char_boundary(COMMAND_BYTES_MAX));
}
