//! The audit trail's file format: typed records in encrypted, hash-chained and signed frames.
//!
//! The life of a trail: [`Writer::create`] writes the signed header with the wrapped content keys;
//! [`Batch`] collects encoded [`Record`]s of one [`Stream`] and [`Writer::chunk`] appends them;
//! [`Writer::seal`] signs the chain; [`Writer::end`] closes the file. A trail left open by a crash
//! is closed by [`recover()`]. [`verify()`] needs no decryption key, [`Reader`] does.
//! [`SeekReader`] reads parts of a trail, and has verified those parts only.
//!
//! The byte layout is described in `docs/trail-format.md`. Nothing here reads a clock: times are
//! given by the caller, in nanoseconds.

mod batch;
mod chain;
mod channels;
mod crypt;
mod cursor;
mod error;
mod export;
mod frame;
mod header;
mod identities;
mod places;
mod reader;
mod record;
mod recover;
mod runs;
mod screen;
mod sealing;
mod seek;
mod sign;
mod stream;
mod utf8;
mod verify;
mod walk;
mod writer;

#[cfg(test)]
mod tests;

pub use batch::{Batch, Push, Taken};
pub use channels::ChannelKinds;
pub use error::{FieldError, TrailError};
pub use export::{
    CastVersion, ExportedCast, ExportedPackets, ExportedText, export_asciicast, export_json,
    export_pcapng, export_text, json_line,
};
pub use frame::{CHUNK_RECORD_BYTES_MAX, End, Outcome};
pub use header::{Header, SignedHeader, WrappedShare};
pub use identities::{Identities, keygen};
pub use places::Place;
pub use reader::Reader;
pub use record::{
    ChannelVerdict, DATA_BYTES_MAX, EVENT_FIELDS_MAX, RECORD_PAYLOAD_BYTES_MAX, Record, Records,
    Source,
};
pub use recover::{Recovery, Spool, recover};
pub use runs::Entry;
pub use screen::ScreenFilter;
pub use sealing::{GROUPS_MAX, MEMBERS_MAX, Sealing};
pub use seek::{KEYFRAME_SEARCH_BYTES_MAX, SeekReader};
pub use sign::{KeyId, SigningKey, VerifyingKey};
pub use stream::{Counts, Stream, StreamCount};
pub use verify::{Damage, Report, SealPoint, Verdict, verify};
pub use writer::{Sink, Summary, Writer};
