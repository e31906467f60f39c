//! ECDH over the NIST curves (RFC 5656 section 4).

use aws_lc_rs::agreement::{
    Algorithm, ECDH_P256, ECDH_P384, ECDH_P521, EphemeralPrivateKey, UnparsedPublicKey,
    agree_ephemeral,
};
use aws_lc_rs::rand::SystemRandom;

use crate::error::Error;
use crate::transport::kex::SharedSecret;

/// A curve of NIST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) enum Curve {
    P256,
    P384,
    P521,
}

/// The private half of a share.
pub(in crate::transport) struct Private {
    curve: Curve,
    key: EphemeralPrivateKey,
}

/// Makes a share, an uncompressed point.
pub(super) fn start(curve: Curve) -> Result<(Vec<u8>, Private), Error> {
    let failed = |source| Error::Crypto { operation: "making an ecdh key", source };
    let key = EphemeralPrivateKey::generate(curve.algorithm(), &SystemRandom::new());
    let key = key.map_err(failed)?;
    let share = key.compute_public_key().map_err(failed)?.as_ref().to_vec();
    Ok((share, Private { curve, key }))
}

/// Makes a share and the secret from the client's share; none if that is no point of the curve.
pub(super) fn answer(
    curve: Curve,
    client_share: &[u8],
) -> Result<Option<(Vec<u8>, SharedSecret)>, Error> {
    let (share, private) = start(curve)?;
    Ok(finish(private, client_share).map(|secret| (share, secret)))
}

/// Makes the secret from the peer's share; none if that is no uncompressed point of the curve.
pub(super) fn finish(private: Private, peer_share: &[u8]) -> Option<SharedSecret> {
    // The library reads other encodings of a point too, which RFC 5656 section 4 leaves out.
    let uncompressed = peer_share.len() == private.curve.share_bytes()
        && peer_share.first() == Some(&UNCOMPRESSED);
    let peer = UnparsedPublicKey::new(private.curve.algorithm(), peer_share);
    agree_ephemeral(private.key, peer, (), |secret| Ok(SharedSecret::number(secret)))
        .ok()
        .filter(|_secret| uncompressed)
}

impl Curve {
    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::P256 => &ECDH_P256,
            Self::P384 => &ECDH_P384,
            Self::P521 => &ECDH_P521,
        }
    }

    /// The form of the point, and two coordinates.
    const fn share_bytes(self) -> usize {
        match self {
            Self::P256 => 1 + 2 * 32,
            Self::P384 => 1 + 2 * 48,
            Self::P521 => 1 + 2 * 66,
        }
    }
}

/// The first byte of an uncompressed point (SEC 1 section 2.3.3).
const UNCOMPRESSED: u8 = 4;
