//! Sizes of a terminal, as a client says them and as they are taken.

/// Columns of a screen. A terminal that is wider is taken as this wide.
pub const COLUMNS_MAX: u16 = 1_000;

/// Rows of a screen. A terminal that is higher is taken as this high.
pub const ROWS_MAX: u16 = 500;

/// Cells of a screen, columns times rows; rows beyond them are left out. A display of 3840 by 2160
/// pixels holds half of this in characters of 8 by 16.
pub const CELLS_MAX: u32 = 131_072;

/// The size of a terminal of which none is told.
const DEFAULT: Size = Size { columns: 80, rows: 24 };

/// Columns and rows of a screen, none of them 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// At most [`COLUMNS_MAX`].
    pub columns: u16,
    /// At most [`ROWS_MAX`], and [`CELLS_MAX`] by the columns.
    pub rows: u16,
}

impl Size {
    /// The size that is taken for what a client says at first.
    pub(crate) fn new(columns: u32, rows: u32) -> Self {
        DEFAULT.changed(columns, rows)
    }

    /// The size that is taken for a change. A 0 changes nothing (RFC 4254 section 6.2).
    pub(crate) fn changed(self, columns: u32, rows: u32) -> Self {
        let columns = clamp(columns, self.columns, COLUMNS_MAX);
        let fitting = u16::try_from(CELLS_MAX / u32::from(columns)).unwrap_or(ROWS_MAX);
        Self { columns, rows: clamp(rows, self.rows, ROWS_MAX.min(fitting)) }
    }
}

/// What is said, or what was before where nothing is said, within the limit.
fn clamp(said: u32, before: u16, max: u16) -> u16 {
    let wanted = if said == 0 { before } else { u16::try_from(said).unwrap_or(u16::MAX) };
    wanted.min(max)
}

#[cfg(test)]
mod tests {
    use super::Size;

    #[test]
    fn sizes_are_bounded() {
        let cases: [((u32, u32), (u16, u16)); 10] = [
            ((80, 24), (80, 24)),
            ((1, 1), (1, 1)),
            ((0, 0), (80, 24)),
            ((0, 50), (80, 50)),
            ((132, 0), (132, 24)),
            ((262, 500), (262, 500)),
            ((263, 500), (263, 498)),
            ((1_000, 500), (1_000, 131)),
            ((65_535, 65_535), (1_000, 131)),
            ((u32::MAX, u32::MAX), (1_000, 131)),
        ];
        for ((columns, rows), (width, height)) in cases {
            let size = Size { columns: width, rows: height };
            assert_eq!(Size::new(columns, rows), size, "{columns} by {rows}");
        }
        let before = Size { columns: 100, rows: 400 };
        assert_eq!(before.changed(0, 0), before);
        assert_eq!(before.changed(1_000, 0), Size { columns: 1_000, rows: 131 });
    }
}
