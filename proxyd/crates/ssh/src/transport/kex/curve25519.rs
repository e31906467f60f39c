//! X25519 (RFC 8731); also one half of the hybrid method.

use aws_lc_rs::agreement::{EphemeralPrivateKey, UnparsedPublicKey, X25519, agree_ephemeral};
use aws_lc_rs::rand::SystemRandom;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::transport::kex::SharedSecret;

/// Bytes of a share.
pub(super) const SHARE_BYTES: usize = 32;

/// The private half of a share.
pub(in crate::transport) type Private = EphemeralPrivateKey;

/// The raw secret, before it is encoded or combined.
pub(super) type RawSecret = Zeroizing<[u8; 32]>;

/// Makes a share.
pub(super) fn start() -> Result<(Vec<u8>, Private), Error> {
    let failed = |source| Error::Crypto { operation: "making an x25519 key", source };
    let private = Private::generate(&X25519, &SystemRandom::new()).map_err(failed)?;
    let share = private.compute_public_key().map_err(failed)?.as_ref().to_vec();
    Ok((share, private))
}

/// Makes a share and the secret from the client's share; none if that is malformed or degenerate.
pub(super) fn answer(client_share: &[u8]) -> Result<Option<(Vec<u8>, SharedSecret)>, Error> {
    let (share, private) = start()?;
    Ok(finish(private, client_share).map(|secret| (share, secret)))
}

/// Makes the secret from the server's share; none if that is malformed or degenerate.
pub(super) fn finish(private: Private, peer_share: &[u8]) -> Option<SharedSecret> {
    agree(private, peer_share).map(|secret| SharedSecret::number(secret.as_slice()))
}

/// The raw secret; none if the share has the wrong length or leads to an all-zero secret.
pub(super) fn agree(private: Private, peer_share: &[u8]) -> Option<RawSecret> {
    // The library reads other encodings of a point too.
    if peer_share.len() != SHARE_BYTES {
        return None;
    }
    let peer = UnparsedPublicKey::new(&X25519, peer_share);
    let secret = agree_ephemeral(private, peer, (), |bytes| {
        bytes.first_chunk().copied().map(Zeroizing::new).ok_or(())
    });
    // The library refuses such shares too; RFC 8731 section 3 makes it our duty.
    secret.ok().filter(|secret| !bool::from(secret.ct_eq(&[0; SHARE_BYTES])))
}
