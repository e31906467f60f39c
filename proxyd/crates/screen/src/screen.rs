//! A terminal's screen, made from what was sent to it.

use std::fmt;

use avt::parser::{Function, State};
use avt::{Cell, Line, Observer, Parser, Terminal};
use unicode_width::UnicodeWidthChar as _;

use crate::decode::Decoder;
use crate::mark::{Mark, Marks};
use crate::size::Size;

/// By how much a screen gets narrower in one step. A row that is cut into many leaves each of them
/// the memory of all that were behind it.
const NARROWING_MAX: u16 = 8;

/// Ends a control sequence without effect (CAN).
const CANCEL: char = '\u{18}';

/// The screen of a terminal of at most [`crate::CELLS_MAX`] cells.
///
/// It takes 32 bytes of memory for each cell, 4 MB at most. Changes of size can leave it with
/// 16 MB, and take as much again while they last. Unfinished control sequences take at most 70 kB.
/// An operation can touch every cell, which takes a quarter of a millisecond on the largest screen;
/// the shortest that does is 2 bytes long. Usual output is a thousand times cheaper.
///
/// It shows what a usual terminal shows, but for a few things that nobody needs and that would let
/// few bytes do much: a character is repeated (REP) for one row at most, and the test pattern of
/// DECALN is not drawn. Characters without width, such as combining accents and those that change
/// the direction of writing, and titles, pictures and the clipboard are left out.
pub struct Screen {
    terminal: Terminal,
    /// Follows control sequences beside the terminal, which tells of them too late.
    parser: Parser,
    marks: Marks,
    decoder: Decoder,
}

/// What looks on while a screen changes.
pub(crate) trait Watch: Observer<Output = ()> {
    /// Takes a mark, with the screen as it is at it.
    fn mark(&mut self, terminal: &Terminal, mark: Mark);
}

impl Watch for () {
    fn mark(&mut self, _terminal: &Terminal, _mark: Mark) {}
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen").field("size", &self.size()).finish_non_exhaustive()
    }
}

impl Screen {
    /// A blank screen. Sizes beyond the limits are cut to them; 0 is taken as 80 columns or 24
    /// rows.
    #[must_use]
    pub fn new(columns: u32, rows: u32) -> Self {
        Self {
            terminal: blank(Size::new(columns, rows)),
            parser: Parser::new(),
            marks: Marks::default(),
            decoder: Decoder::default(),
        }
    }

    /// The size that the screen was given, within the limits.
    #[must_use]
    pub fn size(&self) -> Size {
        let (columns, rows) = self.terminal.size();
        let count = |count| u16::try_from(count).unwrap_or(u16::MAX);
        Size { columns: count(columns), rows: count(rows) }
    }

    /// Shows the next bytes of output.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.feed_with(bytes, &mut ());
    }

    /// Changes the size. Text is wrapped anew on the primary screen, and cut on the alternate one.
    pub fn resize(&mut self, columns: u32, rows: u32) {
        let before = self.size();
        let size = before.changed(columns, rows);
        // Multiples of the columns wanted, so that lines which are cut are cut at the same places.
        let mut columns = size.columns;
        while columns.saturating_mul(NARROWING_MAX) < before.columns {
            columns *= NARROWING_MAX;
        }
        while columns > size.columns {
            self.terminal.resize(columns.into(), before.rows.min(size.rows).into());
            columns /= NARROWING_MAX;
        }
        self.terminal.resize(size.columns.into(), size.rows.into());
    }

    /// A text that makes a blank terminal of the same size show what this one does, and take what
    /// follows as this one would: it ends in a control sequence that is not finished here.
    ///
    /// It has about a byte for each character that is shown, but up to 60 where each has colours of
    /// its own.
    ///
    /// A character of which bytes have not come is not in it; see
    /// [`is_within_character`](Self::is_within_character).
    #[must_use]
    pub fn keyframe(&self) -> String {
        let dump = self.terminal.dump();
        // Only an unfinished sequence has 8-bit controls, which few terminals know as UTF-8.
        let mut text = String::with_capacity(dump.len());
        for c in dump.chars() {
            match c {
                '\u{80}'..='\u{9f}' => text.extend(['\u{1b}', to_seven_bits(c)]),
                _ => text.push(c),
            }
        }
        text
    }

    /// Whether the first bytes of a character have come and the others have not.
    #[must_use]
    pub const fn is_within_character(&self) -> bool {
        self.decoder.is_within_character()
    }

    /// The rows that are shown, top to bottom, without blanks at their ends.
    #[must_use]
    pub fn text(&self) -> Vec<String> {
        self.terminal.screen().visible_lines().map(text).collect()
    }

    pub(crate) const fn terminal(&self) -> &Terminal {
        &self.terminal
    }

    /// Shows the next bytes of output before the eyes of somebody.
    pub(crate) fn feed_with(&mut self, bytes: &[u8], watch: &mut impl Watch) {
        let text = self.decoder.decode(bytes);
        let mut rest: &str = &text;
        while !rest.is_empty() {
            let plain = if self.parser.state == State::Ground {
                rest.find(is_special).unwrap_or(rest.len())
            } else {
                0
            };
            let (run, after) = rest.split_at(plain);
            if !run.is_empty() {
                self.terminal.feed_with(run, &mut *watch);
            }
            let mut chars = after.chars();
            if let Some(c) = chars.next() {
                self.step(c, watch);
            }
            rest = chars.as_str();
        }
    }

    /// Takes a character of a control sequence, or one that is not shown.
    fn step(&mut self, c: char, watch: &mut impl Watch) {
        if self.parser.state == State::Ground && !is_control(c) {
            return;
        }
        if let Some(mark) = self.marks.scan(c) {
            watch.mark(&self.terminal, mark);
        }
        let function = self.parser.feed(c);
        if let Some(Function::Rep(count)) = function {
            self.terminal.feed(CANCEL);
            // One by one, so that each row that scrolls is seen.
            for _ in 0..count.clamp(1, self.size().columns) {
                self.terminal.execute_with(Function::Rep(1), &mut *watch);
            }
        } else if function == Some(Function::Decaln) {
            self.terminal.feed(CANCEL);
        } else {
            self.terminal.feed_with(c, &mut *watch);
        }
    }
}

/// The text of a row, without blanks at its end.
pub(crate) fn text(line: &Line) -> String {
    let mut text = line.text();
    text.truncate(text.trim_end_matches(' ').len());
    text
}

/// Whether a cell is the second of a wide character.
pub(crate) fn is_tail(cell: &Cell) -> bool {
    cell.width() == 0
}

#[expect(clippy::expect_used, reason = "the one error is a size of 0, which no `Size` has")]
fn blank(size: Size) -> Terminal {
    Terminal::new(size.columns.into(), size.rows.into()).expect("a size that is not 0")
}

/// Whether a character does something else than being shown.
fn is_special(c: char) -> bool {
    match c {
        '\u{1b}' | '\u{7f}' => true,
        // Other controls of ASCII are one operation each, as characters are.
        '\0'..='\u{7e}' => false,
        '\u{80}'..='\u{9f}' => true,
        _ => c.width() == Some(0),
    }
}

/// Whether a special character is a control and not one without width.
const fn is_control(c: char) -> bool {
    matches!(c, '\u{1b}' | '\u{80}'..='\u{9f}')
}

/// The character that makes the same control behind an escape (ECMA-35 section 13.2.1).
fn to_seven_bits(control: char) -> char {
    char::from_u32(u32::from(control) - 0x40).unwrap_or(CANCEL)
}
