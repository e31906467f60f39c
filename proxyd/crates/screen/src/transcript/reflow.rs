//! Finds the lines of a screen again whose rows were made anew for another size.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::row::Row;

/// Gives rows the times of the lines that they had before; gives the rows of lines that are gone.
///
/// Lines are the same if they are without blanks, of which wrapping adds and drops some.
pub(super) fn carry(before: VecDeque<Row>, rows: &mut VecDeque<Row>) -> VecDeque<Row> {
    let mut known: BTreeMap<Vec<char>, VecDeque<Range<usize>>> = BTreeMap::new();
    for line in lines(&before) {
        known.entry(key(&before, &line)).or_default().push_back(line);
    }
    let mut is_found = vec![false; before.len()];
    for line in lines(rows) {
        let same = known.get_mut(&key(rows, &line)).and_then(VecDeque::pop_front);
        let Some(same) = same else { continue };
        let mut cells = before.range(same.clone()).flat_map(Row::text_cells);
        for row in rows.range_mut(line.clone()) {
            row.inherit(&mut cells);
        }
        if let (Some(row), Some(old)) = (rows.get_mut(line.start), before.get(same.start)) {
            row.input.clone_from(&old.input);
        }
        is_found.iter_mut().take(same.end).skip(same.start).for_each(|is_found| *is_found = true);
    }
    let gone = before.into_iter().zip(is_found).filter(|(_, is_found)| !is_found);
    gone.map(|(row, _)| row).collect()
}

/// The rows of each line.
fn lines(rows: &VecDeque<Row>) -> Vec<Range<usize>> {
    let mut lines = Vec::new();
    let mut start = 0;
    for (index, row) in rows.iter().enumerate() {
        if !row.is_wrapped || index + 1 == rows.len() {
            lines.push(start..index + 1);
            start = index + 1;
        }
    }
    lines
}

/// The characters of a line.
fn key(rows: &VecDeque<Row>, line: &Range<usize>) -> Vec<char> {
    rows.range(line.clone()).flat_map(Row::text_cells).map(|cell| cell.ch).collect()
}
