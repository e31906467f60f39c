//! Makes certificates.

use aws_lc_rs::rand;

use crate::certificate::options::{FORCE_COMMAND, SOURCE_ADDRESS};
use crate::certificate::parse::{HOST, USER, skip_key};
use crate::certificate::{Certificate, CertificateError, Kind};
use crate::cursor::{Reader, Writer};
use crate::error::{Error, printable};
use crate::limits::NAME_BYTES_MAX;
use crate::transport::{HostKey, KeyAlgorithm};

/// What a new certificate is to say.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The public key that it is for, type first.
    pub key_blob: &'a [u8],
    /// What it is for.
    pub kind: Kind,
    /// A number to know it by.
    pub serial: u64,
    /// What servers write to their logs.
    pub key_id: &'a str,
    /// The users or hosts that it is for; none is nobody.
    pub principals: &'a [&'a str],
    /// From when on it is valid, in seconds since 1970.
    pub valid_after_s: u64,
    /// Until when it is valid; this second is the first in which it is not.
    pub valid_before_s: u64,
    /// The only command that may be run.
    pub force_command: Option<&'a str>,
    /// Where clients may be: addresses and prefixes, with commas between them.
    pub source_address: Option<&'a str>,
    /// What else is allowed, `permit-pty` for one; the order does not matter.
    pub extensions: &'a [&'a str],
}

impl Certificate {
    /// Makes a certificate that `ca` signs.
    ///
    /// Fails on a key that is none, and on what [`Self::parse`] would refuse: it is read back.
    pub fn issue(request: &Request<'_>, ca: &HostKey) -> Result<Self, CertificateError> {
        let failed = |error| CertificateError::Issue(Box::new(error));
        let mut nonce = [0; NONCE_BYTES];
        rand::fill(&mut nonce)
            .map_err(|source| failed(Error::Crypto { operation: "drawing a nonce", source }))?;
        let (algorithm, fields) = split_key(request.key_blob)?;
        let mut writer = Writer::new();
        writer
            .string(algorithm.certificate_type().as_bytes())
            .string(&nonce)
            .raw(fields)
            .u64(request.serial)
            .u32(match request.kind {
                Kind::User => USER,
                Kind::Host => HOST,
            })
            .string(request.key_id.as_bytes())
            .string(&strings(request.principals))
            .u64(request.valid_after_s)
            .u64(request.valid_before_s)
            .string(&request.critical_options())
            .string(&request.flags())
            .string(b"")
            .string(ca.public_blob());
        let algorithm = ca.algorithms().first().copied();
        let algorithm = algorithm.unwrap_or(KeyAlgorithm::Ed25519);
        let signature = ca.sign(algorithm, writer.as_bytes()).map_err(failed)?;
        writer.string(&signature);
        Self::parse(writer.as_bytes())
    }
}

impl Request<'_> {
    /// In ascending order of their names.
    fn critical_options(&self) -> Vec<u8> {
        let options = [(FORCE_COMMAND, self.force_command), (SOURCE_ADDRESS, self.source_address)];
        let mut writer = Writer::new();
        for (name, value) in options {
            if let Some(value) = value {
                writer.string(name.as_bytes()).string(&strings(&[value]));
            }
        }
        writer.into_bytes()
    }

    fn flags(&self) -> Vec<u8> {
        let mut names = self.extensions.to_vec();
        names.sort_unstable();
        let mut writer = Writer::new();
        for name in names {
            writer.string(name.as_bytes()).string(b"");
        }
        writer.into_bytes()
    }
}

/// Bytes of the nonce that keeps a CA from signing what others chose (PROTOCOL.certkeys suggests
/// 16 or 32).
const NONCE_BYTES: usize = 32;

/// The algorithm of a public key, and its fields after the type.
fn split_key(blob: &[u8]) -> Result<(KeyAlgorithm, &[u8]), CertificateError> {
    let mut reader = Reader::new(blob);
    let name = reader.string("key type")?;
    let algorithm = KeyAlgorithm::ALL
        .into_iter()
        .find(|algorithm| algorithm.key_type().as_bytes() == name)
        .ok_or_else(|| CertificateError::Type { name: printable(name, NAME_BYTES_MAX) })?;
    let fields = blob.get(reader.offset()..).unwrap_or_default();
    skip_key(&mut reader, algorithm)?;
    reader.finish()?;
    Ok((algorithm, fields))
}

fn strings(texts: &[&str]) -> Vec<u8> {
    let mut writer = Writer::new();
    texts.iter().for_each(|text| {
        writer.string(text.as_bytes());
    });
    writer.into_bytes()
}
