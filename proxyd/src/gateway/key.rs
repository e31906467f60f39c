//! Public keys of local users, and certificates that a trusted CA made for them.

use std::net::IpAddr;
use std::sync::Arc;

use proxyd_policy::gateway::{PublicKey, User};
use proxyd_ssh::certificate::{Certificate, CertificateError, Purpose};
use tracing::debug;

/// What keys are judged by.
#[derive(Debug)]
pub(super) struct Keys<'a> {
    /// CAs whose certificates count.
    pub(super) trusted: &'a [PublicKey],
    /// Where the client is.
    pub(super) client: IpAddr,
    /// The time, in seconds since 1970.
    pub(super) now_s: u64,
}

impl Keys<'_> {
    /// The user, if there is one and this key or certificate is the user's; and which of the two it
    /// is, as records name it.
    pub(super) fn judge(
        &self,
        user: Option<Arc<User>>,
        blob: &[u8],
    ) -> (&'static str, Option<Arc<User>>) {
        if self.trusted.is_empty() {
            return ("publickey", user.filter(|user| owns(user, blob)));
        }
        match Certificate::parse(blob) {
            Ok(certificate) => {
                let is_good = |user: &Arc<User>| match self.check(&certificate, user) {
                    Ok(()) => true,
                    Err(error) => {
                        debug!(%error, user = user.name, "A user's certificate does not count");
                        false
                    }
                };
                ("certificate", user.filter(is_good))
            }
            Err(_plain) => ("publickey", user.filter(|user| owns(user, blob))),
        }
    }

    fn check(&self, certificate: &Certificate, user: &User) -> Result<(), CertificateError> {
        let trusted: Vec<&[u8]> = self.trusted.iter().map(|ca| ca.blob.as_slice()).collect();
        let purpose = Purpose::User { principal: user.name.as_bytes(), client: self.client };
        let verified = certificate.check(purpose, self.now_s, &trusted)?;
        // Channels are judged by policies, which do not know of a single command.
        if verified.force_command().is_some() {
            let name = "force-command".to_owned();
            return Err(CertificateError::UnknownOption { name });
        }
        Ok(())
    }
}

fn owns(user: &User, blob: &[u8]) -> bool {
    user.public_keys.iter().any(|key| key.blob == blob)
}

#[cfg(test)]
mod tests {
    use proxyd_ssh::certificate::{Kind, Request};
    use proxyd_ssh::transport::HostKey;

    use super::*;

    #[test]
    fn certificates() {
        let [ca, other, key] = [(); 3].map(|()| HostKey::generate_ed25519().unwrap());
        let plain = |key: &HostKey| PublicKey {
            algorithm: "ssh-ed25519".to_owned(),
            blob: key.public_blob().to_vec(),
        };
        let user = Arc::new(User {
            name: "alice".to_owned(),
            password_hash: None,
            public_keys: Vec::new(),
            groups: Vec::new(),
        });
        let good = Request {
            key_blob: key.public_blob(),
            kind: Kind::User,
            serial: 7,
            key_id: "alice@office",
            principals: &["bob", "alice"],
            valid_after_s: 1_000,
            valid_before_s: 2_000,
            force_command: None,
            source_address: Some("10.1.0.0/16"),
            extensions: &["permit-pty"],
        };
        let cases = [
            ("good", good, &ca, true),
            ("another CA", good, &other, false),
            ("for a host", Request { kind: Kind::Host, source_address: None, ..good }, &ca, false),
            ("for others", Request { principals: &["bob", "Alice"], ..good }, &ca, false),
            ("for nobody", Request { principals: &[], ..good }, &ca, false),
            ("not yet", Request { valid_after_s: 1_501, ..good }, &ca, false),
            ("no longer", Request { valid_before_s: 1_500, ..good }, &ca, false),
            ("elsewhere", Request { source_address: Some("10.2.0.0/16"), ..good }, &ca, false),
            ("one command", Request { force_command: Some("ls"), ..good }, &ca, false),
        ];
        let trusted = [plain(&ca)];
        let client = "10.1.0.5".parse().unwrap();
        let keys = Keys { trusted: &trusted, client, now_s: 1_500 };
        for (case, request, ca, expected) in cases {
            let certificate = Certificate::issue(&request, ca).unwrap();
            let (method, found) = keys.judge(Some(Arc::clone(&user)), certificate.blob());
            assert_eq!((method, found.is_some()), ("certificate", expected), "{case}");
            assert!(keys.judge(None, certificate.blob()).1.is_none(), "{case}, unknown user");
        }
        let certificate = Certificate::issue(&good, &ca).unwrap();
        let untrusting = Keys { trusted: &[], ..keys };
        assert!(untrusting.judge(Some(user), certificate.blob()).1.is_none());
    }
}
