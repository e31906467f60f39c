//! Follows the rows of a screen while it changes.

use std::collections::VecDeque;
use std::mem;
use std::ops::Range;

use avt::parser::{DecMode, Function};
use avt::{Observation, Observer, Operation, ScreenKind, Terminal};

use super::commands::{Commands, REST_NS_MIN};
use super::line::{Joiner, Piece};
use super::row::{Lost, Row};
use super::{Entry, STAND_NS_MIN, reflow};
use crate::mark::Mark;
use crate::screen::Watch;

/// What is known of a screen.
#[derive(Debug)]
pub(super) struct Tracker {
    /// When the last output came.
    now_ns: u64,
    kind: ScreenKind,
    columns: usize,
    /// Those that are shown, top to bottom.
    rows: VecDeque<Row>,
    /// Those of the primary screen, while the alternate one is shown.
    hidden: VecDeque<Row>,
    /// Rows that scroll.
    region: Range<usize>,
    /// The line that scrolled out in part.
    scrolled: Joiner,
    commands: Commands,
    touched: Touched,
    /// Room for the characters of a row.
    shown: Vec<char>,
    found: Vec<Entry>,
}

/// What an operation says that it changed.
#[derive(Debug, Default)]
struct Touched {
    count: usize,
    /// From the first to the last row of all.
    all: Range<usize>,
    last: Range<usize>,
    /// Where the cursor was.
    row: usize,
}

impl Tracker {
    pub(super) fn new(terminal: &Terminal) -> Self {
        let (columns, count) = terminal.size();
        Self {
            now_ns: 0,
            kind: ScreenKind::Primary,
            columns,
            rows: (0..count).map(|_| Row::default()).collect(),
            hidden: VecDeque::new(),
            region: 0..count,
            scrolled: Joiner::default(),
            commands: Commands::default(),
            touched: Touched::default(),
            shown: Vec::new(),
            found: Vec::new(),
        }
    }

    /// Gives what was found so far.
    pub(super) fn take(&mut self) -> Vec<Entry> {
        mem::take(&mut self.found)
    }

    /// Time goes on: what the screen shows now was shown until then.
    pub(super) fn advance(&mut self, terminal: &Terminal, t_ns: u64) {
        if t_ns <= self.now_ns {
            return;
        }
        self.look(terminal);
        if t_ns - self.now_ns >= REST_NS_MIN {
            self.commands.rest(terminal, &mut self.rows, &mut self.found);
        }
        self.now_ns = t_ns;
        self.settle(STAND_NS_MIN);
    }

    /// Ends: all that is on the screen counts.
    pub(super) fn finish(&mut self, terminal: &Terminal) {
        self.look(terminal);
        self.settle(0);
        let scrolled = mem::take(&mut self.scrolled);
        let rows = mem::take(&mut self.rows);
        self.tell_rows(scrolled, &rows, 0);
        let hidden = mem::take(&mut self.hidden);
        self.tell_rows(Joiner::default(), &hidden, 0);
        self.commands.finish(&mut self.found);
    }

    pub(super) fn before_resize(&mut self, terminal: &Terminal) {
        self.look(terminal);
        self.settle(0);
    }

    pub(super) fn after_resize(&mut self, terminal: &Terminal) {
        let (columns, count) = terminal.size();
        if (columns, count) == (self.columns, self.rows.len()) {
            return;
        }
        if count != self.rows.len() {
            self.region = 0..count;
        }
        self.columns = columns;
        let rows = mem::take(&mut self.rows);
        self.rows = self.carry(rows, terminal.screen());
        if self.kind == ScreenKind::Alternate {
            let rows = mem::take(&mut self.hidden);
            self.hidden = self.carry(rows, terminal.primary_screen());
        }
    }

    /// Makes rows of lines; tells what was in the rows before and is not in these.
    fn carry(&mut self, before: VecDeque<Row>, screen: avt::Screen<'_>) -> VecDeque<Row> {
        let mut rows = screen.visible_lines().map(|line| Row::new(line, self.now_ns)).collect();
        let cut = reflow::carry(before, &mut rows);
        self.tell_rows(Joiner::default(), &cut, STAND_NS_MIN);
        rows
    }

    /// Looks at all rows that changed.
    fn look(&mut self, terminal: &Terminal) {
        let mut lost = Vec::new();
        for (index, line) in terminal.screen().visible_lines().enumerate() {
            if let Some(row) = self.rows.get_mut(index)
                && row.is_dirty
                && let Some(before) = row.look(line, self.now_ns, &mut self.shown)
            {
                lost.push((index, before));
            }
        }
        if lost.is_empty() {
            return;
        }
        self.follow(&mut lost);
        for (index, before) in lost {
            self.keep(index, before);
        }
    }

    /// Finds texts that moved to other rows.
    fn follow(&mut self, lost: &mut Vec<(usize, Lost)>) {
        let rows = self.rows.iter().enumerate();
        let key = |(index, row): (usize, &Row)| Some((row.key(self.now_ns, STAND_NS_MIN)?, index));
        let mut new: Vec<(u64, usize)> = rows.filter_map(key).collect();
        new.sort_unstable();
        lost.retain(|(_, before)| {
            let at = new.partition_point(|&(key, _)| key < before.key());
            let Some(&(key, index)) = new.get(at) else { return true };
            let row = self.rows.get_mut(index).filter(|_| key == before.key());
            let is_moved = row.is_some_and(|row| row.take_over(before));
            if is_moved {
                new.remove(at);
            }
            !is_moved
        });
    }

    /// Looks at one row, because it is about to go.
    fn look_at(&mut self, terminal: &Terminal, index: usize) {
        if let (Some(row), Some(line)) = (self.rows.get_mut(index), terminal.screen().line(index))
            && row.is_dirty
            && let Some(before) = row.look(line, self.now_ns, &mut self.shown)
        {
            self.keep(index, before);
        }
    }

    fn keep(&mut self, index: usize, before: Lost) {
        if let Some(row) = self.rows.get_mut(index) {
            let piece = row.keep(before, self.now_ns, STAND_NS_MIN);
            tell_one(piece, self.columns, &mut self.found);
        }
    }

    /// Tells what has been gone for some time.
    fn settle(&mut self, time_ns: u64) {
        let mut line = Joiner::default();
        for row in &mut self.rows {
            let is_gone = row.is_gone_for(self.now_ns, time_ns);
            let piece = if is_gone { row.settle(STAND_NS_MIN) } else { None };
            line.push(piece, self.columns, &mut self.found);
        }
        line.close(&mut self.found);
    }

    /// Tells what stood in rows, the first of which may end a line.
    fn tell_rows(&mut self, mut line: Joiner, rows: &VecDeque<Row>, stand_ns: u64) {
        for row in rows {
            line.push(row.tell(self.now_ns, stand_ns), self.columns, &mut self.found);
        }
        line.close(&mut self.found);
    }

    /// Before rows scroll up: those at the top go, and blank ones come at the bottom.
    fn scroll_up(&mut self, terminal: &Terminal, range: &Range<usize>, count: u16) {
        let count = usize::from(count.max(1)).min(range.len());
        for index in range.start..range.start + count {
            self.look_at(terminal, index);
        }
        if range.end < self.rows.len() {
            self.dirty_rows(range.end - 1..range.end);
        }
        self.dirty_above(range);
        for _ in 0..count {
            let Some(mut row) = self.rows.remove(range.start) else { return };
            tell_one(row.settle(STAND_NS_MIN), self.columns, &mut self.found);
            let piece = row.tell(self.now_ns, 0);
            self.scrolled.push(piece, self.columns, &mut self.found);
            self.rows.insert(range.end - 1, Row::default());
        }
    }

    /// Before rows scroll down: those at the bottom go, and blank ones come at the top.
    fn scroll_down(&mut self, terminal: &Terminal, range: &Range<usize>, count: u16) {
        let count = usize::from(count.max(1)).min(range.len());
        for index in range.end - count..range.end {
            self.look_at(terminal, index);
        }
        let mut line = Joiner::default();
        for index in range.end - count..range.end {
            let Some(mut row) = self.rows.remove(index) else { return };
            tell_one(row.settle(STAND_NS_MIN), self.columns, &mut self.found);
            line.push(row.tell(self.now_ns, 0), self.columns, &mut self.found);
            self.rows.insert(range.start, Row::default());
        }
        line.close(&mut self.found);
        self.dirty_above(range);
        self.dirty_rows(range.end - 1..range.end);
    }

    /// A line that goes on into rows that scroll does so no more.
    fn dirty_above(&mut self, range: &Range<usize>) {
        self.dirty_rows(range.start.saturating_sub(1)..range.start);
    }

    /// Another screen is shown.
    fn switch(&mut self, terminal: &Terminal) {
        self.settle(0);
        self.kind = terminal.active_screen_kind();
        let scrolled = mem::take(&mut self.scrolled);
        match self.kind {
            ScreenKind::Alternate => {
                let blank = (0..self.rows.len()).map(|_| Row::default()).collect();
                self.hidden = mem::replace(&mut self.rows, blank);
                self.tell_rows(scrolled, &VecDeque::new(), 0);
            }
            ScreenKind::Primary => {
                let primary = mem::take(&mut self.hidden);
                let rows = mem::replace(&mut self.rows, primary);
                self.tell_rows(scrolled, &rows, STAND_NS_MIN);
            }
        }
    }

    fn dirty_rows(&mut self, range: Range<usize>) {
        for index in range {
            if let Some(row) = self.rows.get_mut(index) {
                row.is_dirty = true;
            }
        }
    }
}

impl Observer for Tracker {
    type Output = ();

    fn before(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let Operation::Function(function) = operation else { return };
        let terminal = context.terminal();
        let cursor = terminal.cursor();
        self.touched = Touched { row: cursor.row, ..Touched::default() };
        match scroll(function, cursor.row, &self.region, self.rows.len()) {
            Some(Scroll::Feed(range)) => {
                let rows = &mut self.rows;
                self.commands.leave(terminal, rows, self.now_ns, &mut self.found);
                if let Some(range) = range {
                    self.scroll_up(terminal, &range, 1);
                }
            }
            Some(Scroll::Up(range, count)) => self.scroll_up(terminal, &range, count),
            Some(Scroll::Down(range, count)) => self.scroll_down(terminal, &range, count),
            // It may wrap, and with that scroll.
            None if is_print(function)
                && cursor.col + 1 >= self.columns
                && cursor.row + 1 == self.region.end =>
            {
                self.look_at(terminal, self.region.start);
            }
            None if is_switch(function) => self.look(terminal),
            None => {}
        }
    }

    fn dirty(&mut self, rows: Range<usize>) {
        let all = &self.touched.all;
        self.touched.all = if self.touched.count == 0 {
            rows.clone()
        } else {
            all.start.min(rows.start)..all.end.max(rows.end)
        };
        self.touched.count += 1;
        self.touched.last = rows;
    }

    fn after(&mut self, context: &mut Observation<'_>, operation: &Operation) {
        let Operation::Function(function) = operation else { return };
        let terminal = context.terminal();
        let row = self.touched.row;
        if is_print(function) {
            let mut changed = self.touched.last.clone();
            if self.touched.count > 1 {
                let region = self.region.clone();
                self.scroll_up(terminal, &region, 1);
                changed.start = changed.start.saturating_sub(1);
            }
            // The row before may be wrapped now.
            self.dirty_rows(changed.start.min(row)..changed.end);
            return;
        }
        if scroll(function, row, &self.region, self.rows.len()).is_some() {
            return;
        }
        if let &Function::Decstbm(top, bottom) = function {
            self.set_region(usize::from(top), usize::from(bottom));
        } else if matches!(function, Function::Decstr | Function::Ris) {
            self.region = 0..self.rows.len();
        }
        if terminal.active_screen_kind() != self.kind {
            self.switch(terminal);
        }
        self.dirty_rows(self.touched.all.clone());
    }

    fn end(&mut self, _context: &mut Observation<'_>) {}
}

impl Watch for Tracker {
    fn mark(&mut self, terminal: &Terminal, mark: Mark) {
        self.commands.mark(terminal, &mut self.rows, mark, self.now_ns, &mut self.found);
    }
}

impl Tracker {
    /// Sets the rows that scroll, counted from 1; a 0 is the first or the last (DECSTBM).
    fn set_region(&mut self, top: usize, bottom: usize) {
        let count = self.rows.len();
        let bottom = if bottom == 0 { count } else { bottom };
        if top.max(1) < bottom && bottom <= count {
            self.region = top.max(1) - 1..bottom;
        }
    }
}

/// How an operation scrolls.
#[derive(Debug)]
enum Scroll {
    /// A line feed, which scrolls rows up if the cursor is on the last of them.
    Feed(Option<Range<usize>>),
    /// So many rows go at the top.
    Up(Range<usize>, u16),
    /// So many rows go at the bottom.
    Down(Range<usize>, u16),
}

#[expect(clippy::wildcard_enum_match_arm, reason = "few of many functions scroll")]
fn scroll(function: &Function, row: usize, region: &Range<usize>, count: usize) -> Option<Scroll> {
    let below = row..if row < region.end { region.end } else { count };
    match *function {
        Function::Lf | Function::Nel => {
            Some(Scroll::Feed((row + 1 == region.end).then(|| region.clone())))
        }
        Function::Ri => (row == region.start).then(|| Scroll::Down(region.clone(), 1)),
        Function::Su(count) => Some(Scroll::Up(region.clone(), count)),
        Function::Sd(count) => Some(Scroll::Down(region.clone(), count)),
        Function::Dl(count) => Some(Scroll::Up(below, count)),
        Function::Il(count) => Some(Scroll::Down(below, count)),
        _ => None,
    }
}

const fn is_print(function: &Function) -> bool {
    matches!(function, Function::Print(_) | Function::Rep(_))
}

/// Whether an operation may show the other screen.
fn is_switch(function: &Function) -> bool {
    let (Function::Decset(modes) | Function::Decrst(modes)) = function else {
        return *function == Function::Ris;
    };
    let is_screen = |mode: &DecMode| {
        matches!(mode, DecMode::AltScreenBuffer | DecMode::SaveCursorAltScreenBuffer)
    };
    modes.as_slice().iter().any(is_screen)
}

/// Tells the text of a row that stands for itself.
fn tell_one(piece: Option<Piece>, columns: usize, found: &mut Vec<Entry>) {
    let mut line = Joiner::default();
    line.push(piece, columns, found);
    line.close(found);
}

#[cfg(test)]
impl Tracker {
    pub(super) fn assert_follows(&self, terminal: &Terminal) {
        let (columns, count) = terminal.size();
        assert_eq!((columns, count), (self.columns, self.rows.len()));
        assert_eq!(self.kind, terminal.active_screen_kind());
        assert!(self.hidden.is_empty() || self.hidden.len() == count);
        for (row, line) in self.rows.iter().zip(terminal.screen().visible_lines()) {
            row.assert_shows(line);
        }
    }
}
