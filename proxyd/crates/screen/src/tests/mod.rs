//! Tests of screens and transcripts from the outside.

mod commands;
mod laws;
mod screen;
mod seen;

use crate::{Entry, Transcript};

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// Plays output that comes at times in milliseconds, and ends 1 s after the last.
fn play_on(columns: u32, rows: u32, output: &[(u64, &str)]) -> Vec<Entry> {
    let mut transcript = Transcript::new(columns, rows);
    let mut entries = vec![];
    let mut end = 0;
    for (t_ms, text) in output {
        entries.extend(transcript.feed(t_ms * MS, text.as_bytes()));
        end = t_ms + 1_000;
    }
    entries.extend(transcript.finish(end * MS));
    entries
}

/// The texts among entries, with times in milliseconds, by time.
fn seen(entries: &[Entry]) -> Vec<(u64, &str)> {
    let mut seen: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            Entry::Seen(seen) => Some((seen.t_ns / MS, seen.text.as_str())),
            Entry::Command(_) => None,
        })
        .collect();
    seen.sort_by_key(|&(t_ms, _)| t_ms);
    seen
}
