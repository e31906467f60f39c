//! A session in the formats of others: one file for each.
//!
//! Every export reads a trail to its end, through a [`crate::Reader`] that checks every frame, and
//! leaves out keyframes, which repeat what the data shows.
mod asciicast;
mod json;
mod line;
mod pcapng;
mod text;

pub use asciicast::{CastVersion, ExportedCast, export_asciicast};
pub use json::export_json;
pub use line::json_line;
pub use pcapng::{ExportedPackets, export_pcapng};
pub use text::{ExportedText, export_text};

/// Channels that may be open at once, and carry data; the gateway lets a client have 256.
const CHANNELS_OPEN_MAX: usize = 1024;
