//! ML-KEM-768 and X25519 in one exchange: the secret holds while either of the two does.

use aws_lc_rs::kem::{AlgorithmId, DecapsulationKey, EncapsulationKey, ML_KEM_768};

use crate::error::Error;
use crate::transport::hash::Hash;
use crate::transport::kex::{SharedSecret, curve25519};

/// The private halves of a client's share.
pub(in crate::transport) struct Private {
    lattice: DecapsulationKey<AlgorithmId>,
    curve: curve25519::Private,
}

/// Makes a share: encapsulation key, then X25519 point.
pub(super) fn start() -> Result<(Vec<u8>, Box<Private>), Error> {
    let failed = |source| Error::Crypto { operation: "making an ml-kem key", source };
    let lattice = DecapsulationKey::generate(&ML_KEM_768).map_err(failed)?;
    let public = lattice.encapsulation_key().and_then(|key| key.key_bytes()).map_err(failed)?;
    let (point, curve) = curve25519::start()?;
    Ok(([public.as_ref(), &point].concat(), Box::new(Private { lattice, curve })))
}

/// Makes a share, ciphertext then X25519 point, and the secret; none if the client's share is
/// malformed or degenerate.
pub(super) fn answer(client_share: &[u8]) -> Result<Option<(Vec<u8>, SharedSecret)>, Error> {
    let (point, private) = curve25519::start()?;
    let Some((public, peer_point)) = split(client_share, PUBLIC_BYTES) else { return Ok(None) };
    let Some(curve) = curve25519::agree(private, peer_point) else { return Ok(None) };
    let Ok(public) = EncapsulationKey::new(&ML_KEM_768, public) else { return Ok(None) };
    let Ok((ciphertext, lattice)) = public.encapsulate() else { return Ok(None) };
    Ok(Some(([ciphertext.as_ref(), &point].concat(), combine(lattice.as_ref(), &curve))))
}

/// Makes the secret from the server's share; none if that is malformed or degenerate.
pub(super) fn finish(private: Private, server_share: &[u8]) -> Option<SharedSecret> {
    let (ciphertext, point) = split(server_share, CIPHERTEXT_BYTES)?;
    let curve = curve25519::agree(private.curve, point)?;
    let lattice = private.lattice.decapsulate(ciphertext.into()).ok()?;
    Some(combine(lattice.as_ref(), &curve))
}

/// Bytes of an encapsulation key of ML-KEM-768 (FIPS 203 table 3).
const PUBLIC_BYTES: usize = 1184;

/// Bytes of a ciphertext of ML-KEM-768.
const CIPHERTEXT_BYTES: usize = 1088;

fn split(share: &[u8], lattice_bytes: usize) -> Option<(&[u8], &[u8])> {
    let whole = share.len() == lattice_bytes + curve25519::SHARE_BYTES;
    share.split_at_checked(lattice_bytes).filter(|_parts| whole)
}

fn combine(lattice: &[u8], curve: &curve25519::RawSecret) -> SharedSecret {
    SharedSecret::string(Hash::Sha256.of(&[lattice, curve.as_slice()]).as_ref())
}
