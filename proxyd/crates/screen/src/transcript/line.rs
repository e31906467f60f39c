//! Texts of rows, and lines that the terminal wrapped over several.

use unicode_width::UnicodeWidthChar as _;

use super::row::Cell;
use super::{Entry, Seen};

/// Bytes of a line from which on it is told in parts.
pub(super) const LINE_BYTES_MAX: usize = 64 * 1024;

/// The text of one row.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// When the last of its characters appeared.
    t_ns: u64,
    text: String,
    /// Whether its line goes on in the next row.
    is_wrapped: bool,
}

impl Piece {
    /// The text of cells, with blanks for those that do not count; none if that is all.
    pub(super) fn new(
        cells: &[Cell],
        counts: impl Fn(&Cell) -> bool,
        is_wrapped: bool,
    ) -> Option<Self> {
        let (mut t_ns, mut text) = (0, String::with_capacity(cells.len()));
        for cell in cells {
            if cell.is_text() && counts(cell) {
                text.push(cell.ch);
                t_ns = t_ns.max(cell.since_ns);
            } else if !cell.is_tail() {
                text.push(' ');
            }
        }
        let is_blank = text.trim_start_matches(' ').is_empty();
        (!is_blank).then_some(Self { t_ns, text, is_wrapped })
    }
}

/// Makes lines of rows that are told one after the other.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    line: Option<Piece>,
}

impl Joiner {
    /// Takes the next row, none if there is nothing to tell of it.
    pub(super) fn push(&mut self, piece: Option<Piece>, columns: usize, found: &mut Vec<Entry>) {
        let Some(mut piece) = piece else {
            self.close(found);
            return;
        };
        if piece.is_wrapped {
            pad(&mut piece.text, columns);
        }
        let line = match self.line.take() {
            Some(line) => line.join(&piece),
            None => piece,
        };
        let goes_on = line.is_wrapped && line.text.len() < LINE_BYTES_MAX;
        self.line = Some(line);
        if !goes_on {
            self.close(found);
        }
    }

    /// Tells what there is, whether its line goes on or not.
    pub(super) fn close(&mut self, found: &mut Vec<Entry>) {
        let Some(Piece { t_ns, mut text, .. }) = self.line.take() else { return };
        text.truncate(text.trim_end_matches(' ').len());
        found.push(Entry::Seen(Seen { t_ns, text }));
    }
}

impl Piece {
    fn join(mut self, next: &Self) -> Self {
        append(&mut self.text, &next.text);
        Self { t_ns: self.t_ns.max(next.t_ns), text: self.text, is_wrapped: next.is_wrapped }
    }
}

/// Fills a row that is wrapped up to its last column.
fn pad(text: &mut String, columns: usize) {
    let width: usize = text.chars().filter_map(char::width).sum();
    text.extend(std::iter::repeat_n(' ', columns.saturating_sub(width)));
}

/// Joins the text of a row to that of the row before, which is wrapped.
pub(super) fn append(text: &mut String, next: &str) {
    // A wide character that does not fit into the last column leaves it blank.
    let is_wide = next.chars().next().and_then(char::width) == Some(2);
    if is_wide && text.ends_with(' ') {
        text.pop();
    }
    text.push_str(next);
}

#[cfg(test)]
mod tests {
    use super::{Entry, Joiner, LINE_BYTES_MAX, Piece, Seen};

    fn piece(t_ns: u64, text: &str, is_wrapped: bool) -> Option<Piece> {
        Some(Piece { t_ns, text: text.to_owned(), is_wrapped })
    }

    fn join(pieces: Vec<Option<Piece>>) -> Vec<(u64, String)> {
        let (mut joiner, mut found) = (Joiner::default(), vec![]);
        for piece in pieces {
            joiner.push(piece, 5, &mut found);
        }
        joiner.close(&mut found);
        let seen = found.into_iter().filter_map(|entry| match entry {
            Entry::Seen(Seen { t_ns, text }) => Some((t_ns, text)),
            Entry::Command(_) => None,
        });
        seen.collect()
    }

    #[test]
    fn wrapped_rows_are_one_line() {
        let cases = [
            ("one", vec![piece(1, "abc", false)], vec![(1, "abc")]),
            ("two", vec![piece(1, "abcde", true), piece(2, "f ", false)], vec![(2, "abcdef")]),
            ("latest", vec![piece(3, "abcde", true), piece(2, "f", false)], vec![(3, "abcdef")]),
            (
                "blank at the end",
                vec![piece(1, "a", true), piece(1, "b", false)],
                vec![(1, "a    b")],
            ),
            ("wide", vec![piece(1, "日本", true), piece(1, "語", false)], vec![(1, "日本語")]),
            (
                "cut",
                vec![piece(1, "abcde", true), None, piece(2, "f", false)],
                vec![(1, "abcde"), (2, "f")],
            ),
            ("unended", vec![piece(1, "abcde", true)], vec![(1, "abcde")]),
        ];
        for (name, pieces, expected) in cases {
            let expected: Vec<_> =
                expected.into_iter().map(|(t_ns, text)| (t_ns, text.to_owned())).collect();
            assert_eq!(join(pieces), expected, "{name}");
        }
    }

    #[test]
    fn a_line_has_an_end() {
        let rows = 3 * LINE_BYTES_MAX / 5;
        let lines = join((0..rows).map(|_| piece(0, "abcde", true)).collect());
        assert_eq!(lines.iter().map(|(_, text)| text.len()).sum::<usize>(), 5 * rows);
        assert!(lines.iter().all(|(_, text)| text.len() < LINE_BYTES_MAX + 5));
    }
}
