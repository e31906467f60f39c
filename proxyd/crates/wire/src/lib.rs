//! Codecs of what peers send outside SSH's own layer: no I/O, no clock, no allocation by a peer's
//! word alone.
//!
//! Every function takes bytes as a peer sent them, bounds what it reads, and names what it refuses.

pub mod files;
pub mod scp;
pub mod sftp;
pub mod user_name;
