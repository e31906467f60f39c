//! What a hostile server sends to a terminal: pieces and keyframes show the same, nothing is
//! without bound.
#![no_main]

use libfuzzer_sys::fuzz_target;
use proxyd_screen::{CELLS_MAX, Screen, Transcript};

/// A size: columns and rows up to 255, or 257 times that.
fn size(columns: u8, rows: u8) -> (u32, u32) {
    let factor = if columns == rows { 257 } else { 1 };
    (u32::from(columns) * factor, u32::from(rows) * factor)
}

fuzz_target!(|input: &[u8]| {
    let [columns, rows, new_columns, new_rows, step, input @ ..] = input else { return };
    let (columns, rows) = size(*columns, *rows);
    let (new_columns, new_rows) = size(*new_columns, *new_rows);
    let mut whole = Screen::new(columns, rows);
    let mut pieces = Screen::new(columns, rows);
    let mut transcript = Transcript::new(columns, rows);
    let (mut t_ns, mut told) = (0, 0);
    for part in input.split_inclusive(|&byte| byte == b'\r') {
        whole.feed(part);
        part.chunks(1).for_each(|byte| pieces.feed(byte));
        told += transcript.feed(t_ns, part).len();
        t_ns += u64::from(*step) * 1_000_000;
    }
    assert_eq!(whole.text(), pieces.text());
    assert_eq!(whole.keyframe(), pieces.keyframe());
    assert_eq!(whole.text(), transcript.screen().text());

    let size = whole.size();
    assert!(u32::from(size.columns) * u32::from(size.rows) <= CELLS_MAX);
    let mut copy = Screen::new(size.columns.into(), size.rows.into());
    copy.feed(whole.keyframe().as_bytes());
    assert_eq!(copy.text(), whole.text());
    if !whole.is_within_character() {
        for screen in [&mut whole, &mut copy] {
            screen.feed(input);
            screen.resize(new_columns, new_rows);
            screen.feed(input);
        }
        assert_eq!(copy.text(), whole.text());
    }

    told += transcript.resize(t_ns, new_columns, new_rows).len();
    told += transcript.feed(t_ns + 200_000_000, input).len();
    told += transcript.finish(t_ns + 400_000_000).len();
    // No operation scrolls more rows than there are.
    assert!(told <= (input.len() + 1) * 3_000);
});
