//! What can go wrong with a trail: one cause per variant.
use std::io;
use std::str::Utf8Error;

use aws_lc_rs::error::{KeyRejected, Unspecified};

use crate::sign::VerifyingKey;
use crate::verify::Damage;

/// A field that cannot be decoded; offsets count from the start of the part named by the error
/// that carries this one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// The bytes end inside the field.
    #[error("{field} at byte {offset} needs {needed} bytes, {left} are left")]
    Truncated {
        /// Name of the field.
        field: &'static str,
        /// Where the field starts.
        offset: usize,
        /// Bytes the field takes.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// A text is not UTF-8.
    #[error("{field} at byte {offset} is not UTF-8")]
    NotUtf8 {
        /// Name of the field.
        field: &'static str,
        /// Where the text starts.
        offset: usize,
        /// Where in the text, and how.
        source: Utf8Error,
    },
    /// A length is above its limit.
    #[error("{field} at byte {offset} has length {length}, above the limit {limit}")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Where the length stands.
        offset: usize,
        /// The length.
        length: usize,
        /// The largest length allowed.
        limit: usize,
    },
    /// A count is zero or above its limit.
    #[error("{field} at byte {offset} is {count}, outside 1 to {limit}")]
    Count {
        /// Name of the field.
        field: &'static str,
        /// Where the count stands.
        offset: usize,
        /// The count.
        count: usize,
        /// The largest count allowed.
        limit: usize,
    },
    /// A code has no meaning in this version.
    #[error("{field} at byte {offset} has the unknown value {value}")]
    Unknown {
        /// Name of the field.
        field: &'static str,
        /// Where the code stands.
        offset: usize,
        /// The code.
        value: u8,
    },
    /// The signing key's id is not the id of the signing key.
    #[error("{field} at byte {offset} does not belong to the signing key")]
    KeyId {
        /// Name of the field.
        field: &'static str,
        /// Where the id stands.
        offset: usize,
    },
    /// Bytes follow the last field.
    #[error("{left} bytes follow {after} at byte {offset}")]
    Trailing {
        /// What should have been the last.
        after: &'static str,
        /// Where the surplus starts.
        offset: usize,
        /// Bytes too many.
        left: usize,
    },
}

/// A trail that cannot be written, read, verified or opened.
#[derive(Debug, thiserror::Error)]
pub enum TrailError {
    /// The sink refused bytes; what it refused is kept and goes out first with the next call.
    #[error("cannot write to the trail")]
    Write {
        /// The sink's error.
        source: io::Error,
    },
    /// Bytes of an earlier failed call are still refused; nothing new was taken.
    #[error("the trail is stalled on an earlier write, nothing was added")]
    Stalled {
        /// The sink's error.
        source: io::Error,
    },
    /// The sink could not bring its bytes to stable storage.
    #[error("cannot flush the trail to stable storage")]
    Sync {
        /// The sink's error.
        source: io::Error,
    },
    /// The source could not be read.
    #[error("cannot read the trail")]
    Read {
        /// The source's error.
        source: io::Error,
    },
    /// The spool file could not be positioned or shortened.
    #[error("cannot cut the trail at byte {offset_bytes}")]
    Truncate {
        /// Where it should have been cut.
        offset_bytes: u64,
        /// The file's error.
        source: io::Error,
    },
    /// An export could not be written.
    #[error("cannot write the export")]
    Export {
        /// The output's error.
        source: io::Error,
    },
    /// The random number generator failed.
    #[error("the random number generator failed")]
    Random {
        /// The library's error.
        source: Unspecified,
    },
    /// A recipient list holds no group.
    #[error("{list} holds no group of recipients")]
    NoRecipients {
        /// Name of the list.
        list: &'static str,
    },
    /// A recipient list holds too many groups, or one of its groups no or too many members.
    #[error("{list} has {count} {what}, outside 1 to {limit}")]
    RecipientCount {
        /// Name of the list.
        list: &'static str,
        /// What was counted.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A recipient is not an age X25519 recipient.
    #[error("recipient {text:?} in {list} is not an age recipient: {reason}")]
    Recipient {
        /// Name of the list.
        list: &'static str,
        /// The recipient as given.
        text: String,
        /// What the age library says.
        reason: &'static str,
    },
    /// A secret key stands where a recipient belongs; it is not shown.
    #[error("a member of {list} is a secret key: name its recipient (age1...) instead")]
    RecipientIsSecret {
        /// Name of the list.
        list: &'static str,
    },
    /// A recipient stands twice in one group, so one person could stand in for two.
    #[error("recipient {text:?} stands twice in one group of {list}")]
    RecipientTwice {
        /// Name of the list.
        list: &'static str,
        /// The recipient as given.
        text: String,
    },
    /// A key share could not be wrapped to a recipient.
    #[error("cannot wrap a key share to {recipient:?}")]
    Wrap {
        /// The recipient as given.
        recipient: String,
        /// The age library's error.
        source: Box<age::EncryptError>,
    },
    /// A key share in the header is broken.
    #[error("cannot unwrap the key share of {recipient:?}")]
    Unwrap {
        /// The recipient as the header names it.
        recipient: String,
        /// The age library's error.
        source: Box<age::DecryptError>,
    },
    /// A key share is longer than a content key.
    #[error("the key share of {recipient:?} is longer than {limit} bytes")]
    ShareLength {
        /// The recipient as the header names it.
        recipient: String,
        /// Bytes of a share.
        limit: usize,
    },
    /// A line of an identity file is no identity; the line itself is not shown.
    #[error("line {line} is not an age identity: {reason}")]
    Identity {
        /// Line number, from 1.
        line: usize,
        /// What the age library says.
        reason: &'static str,
    },
    /// The identities given complete no group of either content key.
    #[error("the identities given do not open this trail, which needs {needed}")]
    NoIdentity {
        /// The groups that would, as text.
        needed: String,
    },
    /// A PKCS#8 document is no Ed25519 private key.
    #[error("cannot use the signing key")]
    SigningKey {
        /// The library's reason.
        source: KeyRejected,
    },
    /// The cryptographic library could not generate, encode or use the signing key.
    #[error("cannot {doing} the signing key")]
    Signing {
        /// What was tried.
        doing: &'static str,
        /// The library's error.
        source: Unspecified,
    },
    /// A text is not `ed25519:` and 64 lower-case hexadecimal digits.
    #[error("{text:?} is not a verifying key (\"ed25519:\" and 64 lower-case hexadecimal digits)")]
    VerifyingKey {
        /// The text as given.
        text: String,
    },
    /// The cryptographic library refused a content key or a chunk to encrypt.
    #[error("cannot encrypt a chunk")]
    Encrypt {
        /// The library's error.
        source: Unspecified,
    },
    /// A chunk could not be compressed.
    #[error("cannot compress a chunk")]
    Compress {
        /// The library's error.
        source: io::Error,
    },
    /// A field to be written is above its limit.
    #[error("{field} of {length} bytes exceeds the limit {limit}")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The largest length allowed.
        limit: usize,
    },
    /// An event has too many fields.
    #[error("an event of {count} fields exceeds the limit {limit}")]
    EventFields {
        /// How many there are.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A chunk without records.
    #[error("a chunk needs at least one record")]
    EmptyChunk,
    /// The file does not start as a trail does.
    #[error("this is not a trail: it does not start with the trail's magic bytes")]
    NotTrail,
    /// The file is a trail of a version unknown here.
    #[error("trail version {found} is not supported, only {supported}")]
    Version {
        /// The file's version.
        found: u16,
        /// The version this code reads.
        supported: u16,
    },
    /// The file ends inside its header, so that nothing was recorded.
    #[error("the trail is cut inside its header, at byte {offset}")]
    HeaderCut {
        /// Length of the file.
        offset: usize,
    },
    /// The first bytes of the header do not match their check.
    #[error("the trail's header was altered: its first bytes do not match their check")]
    HeaderPrefix,
    /// The header cannot be decoded.
    #[error("the trail's header is malformed")]
    Header {
        /// Which field, and where in the header's body.
        source: FieldError,
    },
    /// The header is not what its signing key signed.
    #[error("the trail's header was altered: its signature does not match")]
    HeaderSignature,
    /// The trail is signed by another key than the one expected.
    #[error("the trail is signed by {found}, not by {expected}")]
    Signer {
        /// The key asked for.
        expected: VerifyingKey,
        /// The key in the header.
        found: VerifyingKey,
    },
    /// The trail was altered at a frame; all before it is intact.
    #[error("the trail was altered at frame {sequence}, byte {offset_bytes}")]
    Altered {
        /// Number of the frame, from 0.
        sequence: u64,
        /// Where the frame starts in the file.
        offset_bytes: u64,
        /// What is wrong with it.
        source: Damage,
    },
    /// A chunk in the right place does not decrypt: forged after the last seal.
    #[error("chunk {sequence} does not decrypt with the trail's content key")]
    Decrypt {
        /// Number of the frame, from 0.
        sequence: u64,
        /// The library's error.
        source: Unspecified,
    },
    /// A chunk does not decompress to what it promises.
    #[error("chunk {sequence} does not decompress into its {limit} bytes")]
    Decompress {
        /// Number of the frame, from 0.
        sequence: u64,
        /// The size the chunk states.
        limit: usize,
        /// The library's error.
        source: io::Error,
    },
    /// A chunk decompresses to less than it promises.
    #[error("chunk {sequence} decompresses to {length} bytes, its frame says {expected}")]
    ChunkLength {
        /// Number of the frame, from 0.
        sequence: u64,
        /// What came out.
        length: usize,
        /// The size the chunk states.
        expected: usize,
    },
    /// A record cannot be decoded.
    #[error("a record in chunk {sequence} is malformed")]
    Record {
        /// Number of the frame, from 0.
        sequence: u64,
        /// Which field, and where in the chunk's decompressed bytes.
        source: FieldError,
    },
    /// The trail holds no terminal, or not on the channel asked for.
    #[error("the trail holds no terminal session to export")]
    NoTerminal,
    /// More channels are open at once than an export keeps apart.
    #[error("more than {limit} channels are open at once")]
    TooManyChannels {
        /// How many may be.
        limit: usize,
    },
    /// More channels carry data than there are ports for them.
    #[error("more than {limit} channels carry data: export one of them")]
    TooManyPorts {
        /// How many may.
        limit: usize,
    },
    /// An address is not in the trail.
    #[error("the trail does not name the address of the {peer}")]
    NoAddress {
        /// The client or the server.
        peer: &'static str,
    },
    /// A packet could not be built.
    #[error("cannot build a packet")]
    Packet {
        /// The library's error.
        source: Box<etherparse::err::packet::BuildWriteError>,
    },
}
