//! Passwords of local users, hashed with argon2id (RFC 9106).

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordVerifier as _};
use proxyd_policy::gateway::User;
use tokio::sync::Semaphore;

use crate::ask::SecretBytes;

/// Hashes computed at a time; each takes a core, and memory as its parameters say.
const CONCURRENT_MAX: usize = 2;

/// What a password of nobody is compared with, so that an unknown user takes as long as a known
/// one (parameters of RFC 9106 section 4 as OWASP rounds them: 19 MiB, 2 passes).
const NOBODY: &str = "$argon2id$v=19$m=19456,t=2,p=1$bm9ib2R5bm9ib2R5\
    $AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";

/// Compares passwords with hashes.
#[derive(Debug)]
pub(super) struct Passwords {
    permits: Semaphore,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { permits: Semaphore::new(CONCURRENT_MAX) }
    }
}

impl Passwords {
    /// The user, if there is one and the password is right.
    pub(super) async fn check(
        &self,
        user: Option<Arc<User>>,
        password: SecretBytes,
    ) -> Option<Arc<User>> {
        let _permit = self.permits.acquire().await.ok()?;
        let task = tokio::task::spawn_blocking(move || {
            let hash = user.as_ref().and_then(|user| user.password_hash.as_ref());
            let known = hash.is_some();
            let right = verify(hash.map_or(NOBODY, |hash| hash.phc()), &password);
            user.filter(|_user| known && right)
        });
        // A comparison that did not end well is a password that is not right.
        task.await.ok().flatten()
    }
}

fn verify(phc: &str, password: &[u8]) -> bool {
    PasswordHash::new(phc)
        .is_ok_and(|hash| Argon2::default().verify_password(password, &hash).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_of_nobody_can_be_computed_and_fits_no_password() {
        let hash = PasswordHash::new(NOBODY).unwrap();
        assert_eq!(hash.algorithm.as_str(), "argon2id");
        assert!(!verify(NOBODY, b""));
    }
}
