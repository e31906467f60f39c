//! The private keys of those who read trails.
use std::fmt;
use std::io::Read as _;

use age::secrecy::ExposeSecret as _;
use age::x25519;
use zeroize::Zeroizing;

use crate::crypt::{ContentKey, KEY_BYTES, Share};
use crate::error::TrailError;
use crate::header::WrappedShare;

/// A new age X25519 key pair: the identity (`AGE-SECRET-KEY-1…`, for the reader alone) and the
/// recipient (`age1…`, for the configuration).
#[must_use]
pub fn keygen() -> (Zeroizing<String>, String) {
    let identity = x25519::Identity::generate();
    let text = Zeroizing::new(identity.to_string().expose_secret().to_owned());
    (text, identity.to_public().to_string())
}

/// The identities of one or several people who open a trail together.
#[derive(Clone, Default)]
pub struct Identities(Vec<x25519::Identity>);

impl Identities {
    /// No identity yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds the identities of one file: one a line; empty lines and lines that start with `#` are
    /// passed over. Fails at the first other line and then adds nothing of the file.
    pub fn add_file(&mut self, text: &str) -> Result<(), TrailError> {
        let mut added = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let identity = line
                .parse::<x25519::Identity>()
                .map_err(|reason| TrailError::Identity { line: index + 1, reason })?;
            added.push(identity);
        }
        self.0.append(&mut added);
        Ok(())
    }

    /// Whether there is no identity.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The content key, if these identities complete one of the groups.
    pub(crate) fn open(
        &self,
        groups: &[Vec<WrappedShare>],
    ) -> Result<Option<ContentKey>, TrailError> {
        for group in groups {
            let key = self.open_group(group)?;
            if key.is_some() {
                return Ok(key);
            }
        }
        Ok(None)
    }

    /// The content key, if these identities hold all shares of the group.
    fn open_group(&self, group: &[WrappedShare]) -> Result<Option<ContentKey>, TrailError> {
        // The capacity is exact: growing would leave copies of shares behind.
        let mut shares = Vec::with_capacity(group.len());
        for member in group {
            let Some(share) = self.open_share(member)? else {
                return Ok(None);
            };
            shares.push(share);
        }
        Ok(Some(ContentKey::join(&shares)))
    }

    /// One member's share, if one of these identities is that member's.
    fn open_share(&self, member: &WrappedShare) -> Result<Option<Share>, TrailError> {
        let recipient = &member.recipient;
        let broken =
            |source| TrailError::Unwrap { recipient: recipient.clone(), source: Box::new(source) };
        let decryptor = age::Decryptor::new_buffered(member.wrapped.as_slice()).map_err(broken)?;
        let identities = self.0.iter().map(|identity| identity as &dyn age::Identity);
        let mut plain = match decryptor.decrypt(identities) {
            Ok(plain) => plain,
            Err(age::DecryptError::NoMatchingKeys) => return Ok(None),
            Err(source) => return Err(broken(source)),
        };
        let mut share = Zeroizing::new([0_u8; KEY_BYTES]);
        plain.read_exact(share.as_mut_slice()).map_err(|source| broken(source.into()))?;
        if plain.read(&mut [0]).map_err(|source| broken(source.into()))? != 0 {
            let recipient = recipient.clone();
            return Err(TrailError::ShareLength { recipient, limit: KEY_BYTES });
        }
        Ok(Some(share))
    }
}

impl fmt::Debug for Identities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identities({})", self.0.len())
    }
}
