//! Reads certificates.

use crate::certificate::options::{Critical, extensions};
use crate::certificate::{Certificate, CertificateError, Kind};
use crate::cursor::{Reader, Writer};
use crate::error::{DecodeError, printable};
use crate::limits::{CERTIFICATE_BYTES_MAX, CERTIFICATE_PRINCIPALS_MAX, NAME_BYTES_MAX};
use crate::transport::{KeyAlgorithm, verify_signature};

impl Certificate {
    /// Reads a certificate, type first, and checks the signature of the CA.
    ///
    /// Fails on one that is larger than 16 KiB, has a critical option that is not known here, or
    /// anything after its end.
    pub fn parse(blob: &[u8]) -> Result<Self, CertificateError> {
        if blob.len() > CERTIFICATE_BYTES_MAX {
            let (bytes, limit) = (blob.len(), CERTIFICATE_BYTES_MAX);
            return Err(CertificateError::TooLong { bytes, limit });
        }
        let mut reader = Reader::new(blob);
        let name = reader.string("certificate type")?;
        let algorithm = KeyAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.certificate_type().as_bytes() == name)
            .ok_or_else(|| CertificateError::Type { name: printable(name, NAME_BYTES_MAX) })?;
        reader.string("nonce")?;
        let key_blob = read_key(blob, &mut reader, algorithm)?;
        let serial = reader.u64("serial")?;
        let kind = match reader.u32("type")? {
            USER => Kind::User,
            HOST => Kind::Host,
            kind => return Err(CertificateError::Kind { kind }),
        };
        let key_id = reader.string("key id")?.to_vec();
        let principals = principals(reader.string("valid principals")?)?;
        let (valid_after_s, valid_before_s) =
            (reader.u64("valid after")?, reader.u64("valid before")?);
        let critical = Critical::parse(kind, reader.string("critical options")?)?;
        let extensions = extensions(reader.string("extensions")?)?;
        reader.string("reserved")?;
        let ca_blob = reader.string("signature key")?;
        let signed = blob.get(..reader.offset()).unwrap_or_default();
        let signature = reader.string("signature")?;
        reader.finish()?;
        // The signature names its algorithm; any safe one of the CA's key will do.
        let algorithm = Reader::new(signature).string("signature type")?;
        verify_signature(algorithm, ca_blob, signature, signed)
            .map_err(|error| CertificateError::Signature(Box::new(error)))?;
        Ok(Self {
            blob: blob.to_vec(),
            key_blob,
            serial,
            kind,
            key_id,
            principals,
            valid_after_s,
            valid_before_s,
            critical,
            extensions,
            ca_blob: ca_blob.to_vec(),
        })
    }
}

/// What a certificate for users has as its type.
pub(super) const USER: u32 = 1;

/// What a certificate for hosts has as its type.
pub(super) const HOST: u32 = 2;

/// The key within a certificate, which has the fields of a plain key without its type.
fn read_key(
    blob: &[u8],
    reader: &mut Reader<'_>,
    algorithm: KeyAlgorithm,
) -> Result<Vec<u8>, DecodeError> {
    let start = reader.offset();
    skip_key(reader, algorithm)?;
    let fields = blob.get(start..reader.offset()).unwrap_or_default();
    let mut writer = Writer::new();
    writer.string(algorithm.key_type().as_bytes()).raw(fields);
    Ok(writer.into_bytes())
}

/// Reads over the fields of a key after its type.
pub(super) fn skip_key(
    reader: &mut Reader<'_>,
    algorithm: KeyAlgorithm,
) -> Result<(), DecodeError> {
    match algorithm {
        KeyAlgorithm::Ed25519 => {
            reader.string("public key")?;
        }
        KeyAlgorithm::EcdsaP256 | KeyAlgorithm::EcdsaP384 | KeyAlgorithm::EcdsaP521 => {
            reader.string("curve")?;
            reader.string("public key")?;
        }
        KeyAlgorithm::RsaSha512 | KeyAlgorithm::RsaSha256 | KeyAlgorithm::RsaSha1 => {
            reader.mpint("exponent")?;
            reader.mpint("modulus")?;
        }
    }
    Ok(())
}

fn principals(packed: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    let (mut reader, mut principals) = (Reader::new(packed), Vec::new());
    while !reader.is_empty() {
        if principals.len() == CERTIFICATE_PRINCIPALS_MAX {
            let limit = CERTIFICATE_PRINCIPALS_MAX;
            return Err(CertificateError::TooMany { what: "principals", limit });
        }
        principals.push(reader.string("principal")?.to_vec());
    }
    Ok(principals)
}
