//! The signed header: what session the trail is of, who signs it and who can open it.
use std::io::Read;

use crate::cursor::{Cursor, length_u32, put_blob, put_text, read_up_to};
use crate::error::{FieldError, TrailError};
use crate::sealing::{GROUPS_MAX, MEMBERS_MAX};
use crate::sign::{
    Hash, KEY_ID_BYTES, PUBLIC_KEY_BYTES, SIGNATURE_BYTES, SigningKey, VerifyingKey, hash_start,
    sha256,
};
use crate::stream::Stream;

/// What the trail says about its session, in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The session's id, such as the bytes of a UUID.
    pub session_id: [u8; 16],
    /// Wall clock at record time 0, in nanoseconds since 1970-01-01 UTC.
    pub created_ns: u64,
    /// The protocol, such as `ssh`.
    pub protocol: String,
    /// Name of the connection policy that admitted the session.
    pub connection_policy: String,
}

/// One member's share of a content key, wrapped to that member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedShare {
    /// The age recipient.
    pub recipient: String,
    /// An age file (<https://age-encryption.org/v1>) that holds the share's 32 bytes.
    pub wrapped: Vec<u8>,
}

/// A header whose signature was checked.
#[derive(Clone, Debug)]
pub struct SignedHeader {
    /// What it says about the session.
    pub header: Header,
    /// The key it is signed with; whether that key is to be trusted is the caller's question.
    pub signer: VerifyingKey,
    /// Groups that open the meta and downstream chunks.
    pub recipients: Vec<Vec<WrappedShare>>,
    /// Groups that open the upstream chunks.
    pub upstream_recipients: Vec<Vec<WrappedShare>>,
    /// SHA-256 of the header without its signature.
    pub(crate) hash: Hash,
    /// Length of the header in the file, signature included.
    pub(crate) length_bytes: u64,
}

impl SignedHeader {
    /// The groups that open a stream: any one of them, all members of it together.
    #[must_use]
    pub fn groups(&self, stream: Stream) -> &[Vec<WrappedShare>] {
        match stream {
            Stream::Meta | Stream::Downstream => &self.recipients,
            Stream::Upstream => &self.upstream_recipients,
        }
    }

    /// Builds and signs a header; also gives its bytes for the file.
    pub(crate) fn sign(
        header: &Header,
        recipients: Vec<Vec<WrappedShare>>,
        upstream_recipients: Vec<Vec<WrappedShare>>,
        key: &SigningKey,
    ) -> Result<(Self, Vec<u8>), TrailError> {
        let signer = key.public();
        let mut body = Vec::new();
        body.extend_from_slice(&header.session_id);
        body.extend_from_slice(&header.created_ns.to_be_bytes());
        put_text(&mut body, "protocol", &header.protocol)?;
        put_text(&mut body, "connection policy", &header.connection_policy)?;
        body.extend_from_slice(signer.as_bytes());
        body.extend_from_slice(signer.key_id().as_bytes());
        put_groups(&mut body, &recipients)?;
        put_groups(&mut body, &upstream_recipients)?;
        let length = length_u32("header", body.len(), HEADER_BODY_BYTES_MAX)?;

        let mut bytes = Vec::with_capacity(PREFIX_BYTES + body.len() + SIGNATURE_BYTES);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&VERSION.to_be_bytes());
        bytes.extend_from_slice(&length.to_be_bytes());
        let check = prefix_check(&bytes);
        bytes.extend_from_slice(&check);
        bytes.extend_from_slice(&body);
        let hash = sha256(&[&bytes]);
        bytes.extend_from_slice(&key.sign(&signed_message(&hash))?);
        let signed = Self {
            header: header.clone(),
            signer,
            recipients,
            upstream_recipients,
            hash,
            length_bytes: bytes.len() as u64,
        };
        Ok((signed, bytes))
    }

    /// Reads a header and checks its signature and, if one is given, that `expected` signed it.
    pub(crate) fn read(
        source: &mut impl Read,
        expected: Option<&VerifyingKey>,
    ) -> Result<Self, TrailError> {
        let failed = |source| TrailError::Read { source };
        let prefix = read_up_to(source, PREFIX_BYTES).map_err(failed)?;
        let length = parse_prefix(&prefix)?;
        let body = read_up_to(source, length).map_err(failed)?;
        let signature = read_up_to(source, SIGNATURE_BYTES).map_err(failed)?;
        let Some(signature) = signature.first_chunk::<SIGNATURE_BYTES>() else {
            let offset = prefix.len() + body.len() + signature.len();
            return Err(TrailError::HeaderCut { offset });
        };
        let hash = sha256(&[&prefix, &body]);
        let header = parse_body(&body, hash).map_err(|source| TrailError::Header { source })?;
        if !header.signer.verifies(&signed_message(&hash), signature) {
            return Err(TrailError::HeaderSignature);
        }
        match expected {
            Some(expected) if *expected != header.signer => {
                Err(TrailError::Signer { expected: *expected, found: header.signer })
            }
            Some(_) | None => Ok(header),
        }
    }
}

/// Checks the first bytes of a file; the length of the header's body that follows.
fn parse_prefix(prefix: &[u8]) -> Result<usize, TrailError> {
    if prefix.iter().zip(MAGIC).any(|(found, wanted)| found != wanted) {
        return Err(TrailError::NotTrail);
    }
    if prefix.len() < PREFIX_BYTES {
        return Err(TrailError::HeaderCut { offset: prefix.len() });
    }
    let mut cursor = Cursor::new(prefix);
    let malformed = |source| TrailError::Header { source };
    cursor.take("magic", MAGIC.len()).map_err(malformed)?;
    let found = cursor.u16("version").map_err(malformed)?;
    if found != VERSION {
        return Err(TrailError::Version { found, supported: VERSION });
    }
    let length = cursor.length("header length", HEADER_BODY_BYTES_MAX).map_err(malformed)?;
    let check = cursor.array::<PREFIX_CHECK_BYTES>("header check").map_err(malformed)?;
    let fields = prefix.split_last_chunk::<PREFIX_CHECK_BYTES>().map(|(fields, _)| fields);
    if fields.map(prefix_check) != Some(check) {
        return Err(TrailError::HeaderPrefix);
    }
    Ok(length)
}

/// The start of the SHA-256 over the prefix's other fields: tells a changed length from a cut.
fn prefix_check(fields: &[u8]) -> [u8; PREFIX_CHECK_BYTES] {
    hash_start(&sha256(&[fields]))
}

/// Reads the body of a header.
fn parse_body(body: &[u8], hash: Hash) -> Result<SignedHeader, FieldError> {
    let mut cursor = Cursor::new(body);
    let header = Header {
        session_id: cursor.array("session id")?,
        created_ns: cursor.u64("creation time")?,
        protocol: cursor.text("protocol")?.to_owned(),
        connection_policy: cursor.text("connection policy")?.to_owned(),
    };
    let signer = VerifyingKey::from_bytes(cursor.array::<PUBLIC_KEY_BYTES>("signing key")?);
    let offset = cursor.offset();
    if cursor.array::<KEY_ID_BYTES>("signing key id")? != *signer.key_id().as_bytes() {
        return Err(FieldError::KeyId { field: "signing key id", offset });
    }
    let recipients = parse_groups(&mut cursor)?;
    let upstream_recipients = parse_groups(&mut cursor)?;
    cursor.finish("header")?;
    let length_bytes = (PREFIX_BYTES + body.len() + SIGNATURE_BYTES) as u64;
    Ok(SignedHeader { header, signer, recipients, upstream_recipients, hash, length_bytes })
}

/// Reads the groups of one content key; each count is at least 1, or nobody's share would do.
fn parse_groups(cursor: &mut Cursor<'_>) -> Result<Vec<Vec<WrappedShare>>, FieldError> {
    let group_count = count(cursor, "group count", GROUPS_MAX)?;
    let mut groups = Vec::with_capacity(group_count);
    for _ in 0..group_count {
        let member_count = count(cursor, "member count", MEMBERS_MAX)?;
        let mut group = Vec::with_capacity(member_count);
        for _ in 0..member_count {
            group.push(WrappedShare {
                recipient: cursor.text("recipient")?.to_owned(),
                wrapped: cursor.blob("wrapped share", WRAPPED_BYTES_MAX)?.to_vec(),
            });
        }
        groups.push(group);
    }
    Ok(groups)
}

/// Reads a one-byte count from 1 to `limit`.
fn count(cursor: &mut Cursor<'_>, field: &'static str, limit: usize) -> Result<usize, FieldError> {
    let offset = cursor.offset();
    let count = usize::from(cursor.u8(field)?);
    if (1..=limit).contains(&count) {
        return Ok(count);
    }
    Err(FieldError::Count { field, offset, count, limit })
}

/// Appends the groups of one content key.
fn put_groups(out: &mut Vec<u8>, groups: &[Vec<WrappedShare>]) -> Result<(), TrailError> {
    put_count(out, "groups", groups.len())?;
    for group in groups {
        put_count(out, "group members", group.len())?;
        for share in group {
            put_text(out, "recipient", &share.recipient)?;
            put_blob(out, "wrapped share", &share.wrapped, WRAPPED_BYTES_MAX)?;
        }
    }
    Ok(())
}

/// Appends a one-byte count.
fn put_count(out: &mut Vec<u8>, field: &'static str, count: usize) -> Result<(), TrailError> {
    let Ok(narrow) = u8::try_from(count) else {
        return Err(TrailError::TooLong { field, length: count, limit: usize::from(u8::MAX) });
    };
    out.push(narrow);
    Ok(())
}

/// What the header's signature is made over.
fn signed_message(hash: &Hash) -> Vec<u8> {
    [HEADER_LABEL, hash].concat()
}

/// The first bytes of a trail: not text, and broken by a transfer that rewrites line ends.
const MAGIC: &[u8; 8] = b"\x89proxyd\n";

/// The version of the whole format.
const VERSION: u16 = 1;

/// 8 magic + 2 version + 4 length of the body + 4 check.
const PREFIX_BYTES: usize = 8 + 2 + 4 + PREFIX_CHECK_BYTES;

/// Bytes of the prefix's check: catches damage; what is forged is caught by the signature.
const PREFIX_CHECK_BYTES: usize = 4;

/// The longest body: the 512 wrapped shares of two full lists take about 260 KiB, two names of
/// 65535 bytes come on top.
const HEADER_BODY_BYTES_MAX: usize = 512 * 1024;

/// The longest wrapped share: an age file of 32 bytes for one X25519 recipient takes 230 to 450.
const WRAPPED_BYTES_MAX: usize = 2048;

/// Keeps a header's signature from being taken for one of another kind.
const HEADER_LABEL: &[u8] = b"proxyd trail header 1\0";
