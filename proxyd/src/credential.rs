//! Secrets that log in to servers, from the local credential store.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use proxyd_policy::admit::Admitted;
use proxyd_ssh::transport::HostKey;
use ssh_key::private::KeypairData;
use thiserror::Error as ThisError;
use zeroize::Zeroizing;

use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// Why a stored key cannot be used.
#[derive(Debug, ThisError)]
pub enum CredentialError {
    /// Its file cannot be read.
    #[error("cannot read the key file {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Its file does not hold a private key in OpenSSH form.
    #[error("{path} is not a private key in OpenSSH or PKCS #8 form")]
    Parse {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: ssh_key::Error,
    },
    /// Its kind cannot be used, or it is locked by a passphrase.
    #[error("the key in {path} is {what}, which cannot be used")]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// The crypto library refuses it.
    #[error("the key in {path} is refused")]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: proxyd_ssh::Error,
    },
}

/// The stored keys for this user on this server, in the order of the store; perhaps none.
pub async fn keys(admitted: &Admitted, authorized: &Authorized) -> Result<Vec<HostKey>, Stop> {
    let Some(store) = admitted.policy().credential_store.as_ref() else { return Ok(Vec::new()) };
    let name = authorized.target().name();
    let address = authorized.target().address().ip();
    let entries = store.find(name, address, authorized.remote_user());
    let files: Vec<PathBuf> = entries.map(|entry| entry.key_file.clone()).collect();
    key_files("credential", files).await
}

/// The private keys in these files, in their order, for `step`.
pub async fn key_files(step: &'static str, files: Vec<PathBuf>) -> Result<Vec<HostKey>, Stop> {
    let read = tokio::task::spawn_blocking(move || {
        files.iter().map(|file| read_key(file)).collect::<Result<Vec<_>, _>>()
    });
    match read.await {
        Ok(keys) => keys.map_err(|error| Stop::gateway(step, error)),
        Err(interrupted) => Err(Stop::gateway(step, interrupted)),
    }
}

fn read_key(path: &Path) -> Result<HostKey, CredentialError> {
    let path = path.to_owned();
    let text = match std::fs::read(&path) {
        Ok(text) => Zeroizing::new(text),
        Err(source) => return Err(CredentialError::Read { path, source }),
    };
    let made = match pkcs8(&text) {
        Some(der) => HostKey::from_pkcs8(&der),
        None => match ssh_key::PrivateKey::from_openssh(&text) {
            Ok(key) => match key.key_data() {
                KeypairData::Ed25519(pair) => HostKey::from_ed25519_seed(&pair.private.to_bytes()),
                KeypairData::Encrypted(_) => {
                    let what = "locked by a passphrase";
                    return Err(CredentialError::Unsupported { path, what });
                }
                KeypairData::Rsa(_) | KeypairData::Other(_) | _ => {
                    let what = "not Ed25519; convert an RSA key with ssh-keygen -p -m PKCS8";
                    return Err(CredentialError::Unsupported { path, what });
                }
            },
            Err(source) => return Err(CredentialError::Parse { path, source }),
        },
    };
    made.map_err(|source| CredentialError::Refused { path, source })
}

/// The DER of a PKCS #8 key in PEM (RFC 7468 section 10); none for any other form.
fn pkcs8(text: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let text = std::str::from_utf8(text).ok()?;
    let body = text.trim().strip_prefix("-----BEGIN PRIVATE KEY-----")?;
    let body = body.strip_suffix("-----END PRIVATE KEY-----")?;
    let base64: Zeroizing<String> =
        Zeroizing::new(body.chars().filter(|character| !character.is_whitespace()).collect());
    base64::engine::general_purpose::STANDARD.decode(base64.as_bytes()).ok().map(Zeroizing::new)
}
