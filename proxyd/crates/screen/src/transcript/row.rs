//! A row of the screen as it was last looked at, with the times of its characters.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::mem;

use avt::Line;

use super::commands::{Input, Stage};
use super::line::Piece;
use crate::screen::is_tail;

/// Stands in the second cell of a wide character.
const TAIL: char = '\0';

/// A cell of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) ch: char,
    /// Since when it shows this character.
    pub(super) since_ns: u64,
    /// Whether it was told as part of a text.
    pub(super) is_told: bool,
}

impl Cell {
    pub(super) const fn is_text(&self) -> bool {
        !matches!(self.ch, ' ' | TAIL)
    }

    /// Whether it shows the same since the same time.
    fn is_same(&self, other: &Self) -> bool {
        (self.ch, self.since_ns) == (other.ch, other.since_ns)
    }

    pub(super) const fn is_tail(&self) -> bool {
        matches!(self.ch, TAIL)
    }
}

/// A row.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    /// Its cells up to the last that is not blank.
    cells: Vec<Cell>,
    /// Whether the terminal wrapped its line into the next row.
    pub(super) is_wrapped: bool,
    /// Of the characters.
    hash: u64,
    /// When it last changed.
    changed_ns: u64,
    /// What was on it until lately.
    gone: Option<Gone>,
    /// Whether it may have changed since it was looked at.
    pub(super) is_dirty: bool,
    /// Where what is typed begins.
    pub(super) input: Option<Input>,
}

/// What was on a row, and may come back.
#[derive(Clone, Debug)]
struct Gone {
    cells: Vec<Cell>,
    at_ns: u64,
    is_wrapped: bool,
}

/// What a row showed before it changed.
#[derive(Debug)]
pub(super) struct Lost {
    cells: Vec<Cell>,
    hash: u64,
    is_wrapped: bool,
}

impl Row {
    /// A row as it appears.
    pub(super) fn new(line: &Line, now_ns: u64) -> Self {
        let mut row = Self::default();
        row.look(line, now_ns, &mut Vec::new());
        row
    }

    /// Looks at the row; gives what it showed if some of that is gone.
    pub(super) fn look(&mut self, line: &Line, now_ns: u64, shown: &mut Vec<char>) -> Option<Lost> {
        self.is_dirty = false;
        let was_wrapped = mem::replace(&mut self.is_wrapped, line.is_wrapped());
        read(line, shown);
        if self.cells.iter().map(|cell| &cell.ch).eq(shown.iter()) {
            return None;
        }
        let hash = mem::replace(&mut self.hash, hash(shown));
        let cells = shown.iter().enumerate().map(|(index, &ch)| self.cell(index, ch, now_ns));
        let cells = cells.collect();
        let old = mem::replace(&mut self.cells, cells);
        self.changed_ns = now_ns;
        let is_lost = |(index, cell): (usize, &Cell)| cell.is_text() && !self.shows(index, cell.ch);
        let lost = old.iter().enumerate().any(is_lost);
        if lost
            && let Some(input) = &mut self.input
            && input.stage == Stage::Told
        {
            input.stage = Stage::Typing;
        }
        lost.then_some(Lost { cells: old, hash, is_wrapped: was_wrapped })
    }

    /// A cell that shows a character now, perhaps as it did before.
    fn cell(&self, index: usize, ch: char, now_ns: u64) -> Cell {
        let gone = self.gone.as_ref().and_then(|gone| gone.cells.get(index));
        let mut known = self.cells.get(index).into_iter().chain(gone);
        let known = known.find(|cell| cell.ch == ch).copied();
        known.unwrap_or(Cell { ch, since_ns: now_ns, is_told: false })
    }

    fn shows(&self, index: usize, ch: char) -> bool {
        self.cells.get(index).is_some_and(|cell| cell.ch == ch)
    }

    /// Keeps what was lost, as it may come back; gives what was kept before, if that counts.
    pub(super) fn keep(&mut self, lost: Lost, now_ns: u64, stand_ns: u64) -> Option<Piece> {
        let stood =
            |cell: &&Cell| cell.is_text() && cell.since_ns.saturating_add(stand_ns) <= now_ns;
        let Lost { mut cells, is_wrapped, .. } = lost;
        if !cells.iter().any(|cell| stood(&cell)) || self.is_gone_already(&cells, stood) {
            return None;
        }
        let piece = self.settle_with(stand_ns, &mut cells);
        self.gone = Some(Gone { cells, at_ns: now_ns, is_wrapped });
        piece
    }

    /// Whether what is kept holds all that stood of some cells: more of the same is lost.
    fn is_gone_already(&self, cells: &[Cell], stood: impl Fn(&&Cell) -> bool) -> bool {
        let Some(gone) = &self.gone else { return false };
        let mut standing = cells.iter().enumerate().filter(|(_, cell)| stood(cell));
        standing.all(|(index, cell)| gone.cells.get(index).is_some_and(|gone| gone.is_same(cell)))
    }

    /// Whether what is gone from the row has been so for some time.
    pub(super) fn is_gone_for(&self, now_ns: u64, time_ns: u64) -> bool {
        self.gone.as_ref().is_some_and(|gone| gone.at_ns.saturating_add(time_ns) <= now_ns)
    }

    /// Gives up what is gone; gives its text if some of it stood, and was never told as it was.
    pub(super) fn settle(&mut self, stand_ns: u64) -> Option<Piece> {
        self.settle_with(stand_ns, &mut [])
    }

    /// As [`settle`](Self::settle); marks further cells that are told by it.
    fn settle_with(&mut self, stand_ns: u64, others: &mut [Cell]) -> Option<Piece> {
        let gone = self.gone.take()?;
        let stood = |cell: &Cell| cell.since_ns.saturating_add(stand_ns) <= gone.at_ns;
        let is_back =
            |index: usize, old: &Cell| self.cells.get(index).is_some_and(|cell| cell.is_same(old));
        let standing = || {
            let cells = gone.cells.iter().enumerate();
            cells.filter(|(_, cell)| cell.is_text() && stood(cell))
        };
        // Characters that were all told may never have been so beside one another.
        if standing().all(|(_, cell)| cell.is_told)
            || standing().all(|(index, cell)| is_back(index, cell))
        {
            return None;
        }
        for cells in [&mut self.cells, others] {
            for (cell, old) in cells.iter_mut().zip(&gone.cells) {
                cell.is_told |= cell.is_same(old) && stood(old);
            }
        }
        Piece::new(&gone.cells, stood, gone.is_wrapped)
    }

    /// The text of the row, if some of it stood and was never told.
    pub(super) fn tell(&self, now_ns: u64, stand_ns: u64) -> Option<Piece> {
        let stood = |cell: &Cell| cell.since_ns.saturating_add(stand_ns) <= now_ns;
        self.cells.iter().find(|cell| cell.is_text() && stood(cell) && !cell.is_told)?;
        Piece::new(&self.cells, stood, self.is_wrapped)
    }

    /// By what a text that moved is looked for; none if the row has been as it is for some time.
    pub(super) fn key(&self, now_ns: u64, time_ns: u64) -> Option<u64> {
        let is_new = self.changed_ns.saturating_add(time_ns) > now_ns;
        (is_new && !self.cells.is_empty()).then_some(self.hash)
    }

    /// Takes over the times of a text that moved here; false if it is another text.
    pub(super) fn take_over(&mut self, lost: &Lost) -> bool {
        let is_same =
            self.cells.iter().map(|cell| cell.ch).eq(lost.cells.iter().map(|cell| cell.ch));
        if is_same {
            self.inherit(&mut lost.cells.iter().filter(|cell| cell.is_text()));
        }
        is_same
    }

    /// Takes over the times of as many characters as it has, which are the same.
    pub(super) fn inherit(&mut self, cells: &mut dyn Iterator<Item = &Cell>) {
        for cell in self.cells.iter_mut().filter(|cell| cell.is_text()) {
            let Some(old) = cells.next() else { return };
            cell.since_ns = cell.since_ns.min(old.since_ns);
            cell.is_told |= old.is_told;
        }
    }

    /// Its characters but blanks.
    pub(super) fn text_cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(|cell| cell.is_text())
    }
}

impl Lost {
    pub(super) const fn key(&self) -> u64 {
        self.hash
    }
}

/// The characters of a row, by cell, up to the last that is not blank.
fn read(line: &Line, shown: &mut Vec<char>) {
    shown.clear();
    let cells = line.cells();
    let blanks = cells.iter().rev().take_while(|cell| cell.char() == ' ' && !is_tail(cell)).count();
    let text = cells.iter().take(cells.len() - blanks);
    shown.extend(text.map(|cell| if is_tail(cell) { TAIL } else { cell.char() }));
}

fn hash(shown: &[char]) -> u64 {
    let mut hasher = DefaultHasher::new();
    shown.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
impl Row {
    pub(super) fn assert_shows(&self, line: &Line) {
        let mut shown = vec![];
        read(line, &mut shown);
        let cells: Vec<char> = self.cells.iter().map(|cell| cell.ch).collect();
        assert!(
            self.is_dirty || (cells, self.is_wrapped) == (shown, line.is_wrapped()),
            "{line:?}"
        );
    }
}
