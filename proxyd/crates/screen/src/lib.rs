//! What a terminal shows: keyframes, visible text, commands; no I/O, no clock.
//!
//! A [`Screen`] is made from what was sent to a terminal, as a terminal would make it. A
//! [`Transcript`] watches one over time and tells what could be read on it. Bytes come in any
//! pieces and may be anything: none of them panics, and memory has a bound.

mod decode;
mod mark;
mod screen;
mod size;
#[cfg(test)]
mod tests;
mod transcript;

pub use screen::Screen;
pub use size::{CELLS_MAX, COLUMNS_MAX, ROWS_MAX, Size};
pub use transcript::{Command, CommandSource, Entry, STAND_NS_MIN, Seen, Transcript};
