//! Whether a certificate is good for what it is used for.

use std::net::IpAddr;

use crate::certificate::{Certificate, CertificateError, Kind};
use crate::error::printable;
use crate::limits::USER_NAME_BYTES_MAX;

/// What a certificate is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// A user logs in.
    User {
        /// The name the certificate has to be for.
        principal: &'a [u8],
        /// Where the client is.
        client: IpAddr,
    },
    /// A server shows it.
    Host {
        /// The name or address of the server.
        name: &'a [u8],
    },
}

/// A certificate that was found good for its purpose.
#[derive(Debug, Clone, Copy)]
pub struct Verified<'a> {
    certificate: &'a Certificate,
}

impl<'a> Verified<'a> {
    /// The certificate.
    #[must_use]
    pub const fn certificate(self) -> &'a Certificate {
        self.certificate
    }

    /// The only command that may be run; any if there is none.
    #[must_use]
    pub fn force_command(self) -> Option<&'a [u8]> {
        self.certificate.critical.force_command.as_deref()
    }

    /// Whether it has an extension, as `permit-pty` is one.
    #[must_use]
    pub fn has_extension(self, name: &str) -> bool {
        self.certificate.extensions.iter().any(|extension| extension == name.as_bytes())
    }
}

impl Certificate {
    /// Checks that the certificate is good for `purpose` at `now_s`, in seconds since 1970, and
    /// signed by one of the CAs whose public keys are `trusted`.
    ///
    /// A certificate without principals is for nobody, and names match byte for byte. That the
    /// peer has the private key, only a signature by [`Self::key_blob`] shows.
    pub fn check<K: AsRef<[u8]>>(
        &self,
        purpose: Purpose<'_>,
        now_s: u64,
        trusted: &[K],
    ) -> Result<Verified<'_>, CertificateError> {
        if !trusted.iter().any(|ca| ca.as_ref() == self.ca_blob) {
            return Err(CertificateError::Untrusted);
        }
        let (wanted, name) = match purpose {
            Purpose::User { principal, .. } => (Kind::User, principal),
            Purpose::Host { name } => (Kind::Host, name),
        };
        if self.kind != wanted {
            let (found, wanted) = (self.kind.name(), wanted.name());
            return Err(CertificateError::WrongKind { found, wanted });
        }
        if now_s < self.valid_after_s {
            return Err(CertificateError::NotYet { from_s: self.valid_after_s, now_s });
        }
        if now_s >= self.valid_before_s {
            return Err(CertificateError::Expired { until_s: self.valid_before_s, now_s });
        }
        if !self.principals.iter().any(|principal| principal == name) {
            return Err(CertificateError::Principal { name: printable(name, USER_NAME_BYTES_MAX) });
        }
        match purpose {
            Purpose::User { client, .. } if !self.critical.allows(client) => {
                Err(CertificateError::ClientAddress)
            }
            Purpose::User { .. } | Purpose::Host { .. } => Ok(Verified { certificate: self }),
        }
    }
}
