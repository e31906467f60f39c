//! What holds for whatever a terminal is sent.

use proptest::collection::vec;
use proptest::prelude::{
    BoxedStrategy, Just, Strategy as _, any, prop_assert, prop_assert_eq, proptest,
};
use proptest::prop_oneof;

use super::{MS, seen};
use crate::{Screen, Transcript};

/// Output that does much.
fn output() -> BoxedStrategy<Vec<u8>> {
    let csi = ("[0-9?;]{0,5}", "[@-~]").prop_map(|(params, end)| format!("\x1b[{params}{end}"));
    let scrolls = ("[0-9]?", "[LMSTABHJKPX@]").prop_map(|(n, end)| format!("\x1b[{n}{end}"));
    let region = (0_u8..8, 0_u8..8).prop_map(|(top, bottom)| format!("\x1b[{top};{bottom}r"));
    let place = (0_u8..8, 0_u8..12).prop_map(|(row, column)| format!("\x1b[{row};{column}H"));
    let modes = "(4|20|\\?6|\\?7|\\?1047|\\?1049)";
    let mode = (modes, "[hl]").prop_map(|(mode, end)| format!("\x1b[{mode}{end}"));
    let fixed = prop_oneof![
        Just("\n"),
        Just("\r\n"),
        Just("\r"),
        Just("\x08"),
        Just("\t"),
        Just("\x1bM"),
        Just("\x1bE"),
        Just("\x1bD"),
        Just("\x1bc"),
        Just("\x1b[!p"),
        Just("\x1b7"),
        Just("\x1b8"),
        Just("\x1b(0"),
        Just("\x1b]133;A\x07"),
        Just("\x1b]133;B\x07"),
        Just("\x1b]133;C\x07"),
        Just("$ "),
    ];
    let piece = prop_oneof![
        4 => "[a-z ]{1,12}".prop_map(String::into_bytes),
        1 => "[日本é\u{301}\u{fffd}]{1,6}".prop_map(String::into_bytes),
        4 => fixed.prop_map(|text| text.as_bytes().to_vec()),
        2 => scrolls.prop_map(String::into_bytes),
        1 => csi.prop_map(String::into_bytes),
        1 => region.prop_map(String::into_bytes),
        1 => place.prop_map(String::into_bytes),
        1 => mode.prop_map(String::into_bytes),
        1 => vec(any::<u8>(), 1..8),
    ];
    vec(piece, 0..40).prop_map(|pieces| pieces.concat()).boxed()
}

proptest! {
    #[test]
    fn pieces_and_keyframes_show_the_same(
        columns in 1_u32..12,
        rows in 1_u32..7,
        before in output(),
        after in output(),
        piece in 1_usize..5,
        new in (1_u32..12, 1_u32..7),
    ) {
        let mut whole = Screen::new(columns, rows);
        let mut pieces = Screen::new(columns, rows);
        whole.feed(&before);
        before.chunks(piece).for_each(|piece| pieces.feed(piece));
        prop_assert_eq!(whole.text(), pieces.text());
        let mut copy = Screen::new(columns, rows);
        copy.feed(whole.keyframe().as_bytes());
        prop_assert_eq!(copy.text(), whole.text());
        if !whole.is_within_character() {
            for screen in [&mut whole, &mut pieces, &mut copy] {
                screen.feed(&after);
                screen.resize(new.0, new.1);
                screen.feed(&after);
            }
            prop_assert_eq!(whole.text(), pieces.text());
            prop_assert_eq!(copy.text(), whole.text());
        }
    }

    #[test]
    fn a_transcript_never_loses_its_place(
        columns in 1_u32..12,
        rows in 1_u32..7,
        parts in vec((0_u64..200, output(), 0_u32..12, 0_u32..7), 1..6),
    ) {
        let mut transcript = Transcript::new(columns, rows);
        let mut t_ns = 0;
        for (ms, bytes, columns, rows) in parts {
            t_ns += ms * MS;
            transcript.feed(t_ns, &bytes);
            transcript.assert_follows();
            transcript.resize(t_ns, columns, rows);
            transcript.assert_follows();
        }
    }

    #[test]
    fn the_pieces_of_a_moment_change_no_transcript(
        parts in vec((0_u64..200, output()), 1..6),
        piece in 1_usize..5,
    ) {
        let mut whole = Transcript::new(11, 5);
        let mut pieces = Transcript::new(11, 5);
        let (mut t_ns, mut one, mut other) = (0, vec![], vec![]);
        for (ms, bytes) in parts {
            t_ns += ms * MS;
            one.extend(whole.feed(t_ns, &bytes));
            bytes.chunks(piece).for_each(|piece| other.extend(pieces.feed(t_ns, piece)));
        }
        one.extend(whole.finish(t_ns));
        other.extend(pieces.finish(t_ns));
        prop_assert_eq!(one, other);
    }

    #[test]
    fn lines_that_scroll_are_all_told_once(
        lines in vec("[a-z]{1,30}", 1..40),
        cuts in vec(1_usize..60, 1..10),
        step in 0_u64..200,
    ) {
        let mut transcript = Transcript::new(10, 4);
        let output = lines.join("\r\n");
        let (mut rest, mut t_ns, mut entries) = (output.as_bytes(), 0, vec![]);
        for cut in cuts.iter().cycle() {
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            entries.extend(transcript.feed(t_ns, piece));
            t_ns += step * MS;
            rest = after;
            if rest.is_empty() {
                break;
            }
        }
        entries.extend(transcript.finish(t_ns));
        let texts: Vec<_> = seen(&entries).into_iter().map(|(_, text)| text).collect();
        prop_assert_eq!(texts, lines);
    }

    #[test]
    fn what_stands_is_told(
        columns in 1_u32..12,
        rows in 1_u32..7,
        parts in vec((0_usize..4, output()), 1..12),
    ) {
        let mut transcript = Transcript::new(columns, rows);
        let (mut t_ms, mut entries, mut shown) = (0, vec![], vec![]);
        for (step, bytes) in parts {
            t_ms += [1, 30, 60, 150][step];
            entries.extend(transcript.feed(t_ms * MS, &bytes));
            shown.push((t_ms, transcript.screen().text()));
        }
        entries.extend(transcript.finish((t_ms + 1) * MS));
        let texts = seen(&entries);
        for row in 0..rows as usize {
            for (at, (since_ms, text)) in shown.iter().enumerate() {
                // What stands at the end counts anyway.
                let after = shown[at..].iter().find(|(_, rows)| rows[row] != text[row]);
                if after.is_some_and(|(t_ms, _)| t_ms - since_ms < 100) {
                    continue;
                }
                for word in text[row].split_whitespace() {
                    let is_told = texts.iter().any(|(_, text)| text.contains(word));
                    prop_assert!(is_told, "{word} at {since_ms}: {texts:?}");
                }
            }
        }
    }
}
