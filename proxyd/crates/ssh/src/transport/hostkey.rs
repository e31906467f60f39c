//! Private keys of our own: made, read, stored, and signed with.

use std::fmt;
use std::sync::Arc;

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING,
    ECDSA_P521_SHA512_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair,
    KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding,
};
use crypto_bigint::{BoxedUint, NonZero};
use zeroize::Zeroizing;

use crate::certificate::{Certificate, CertificateError};
use crate::cursor::Writer;
use crate::error::Error;
use crate::transport::signature::{Curve, KeyAlgorithm, P256, P384, P521, wrong};

/// A private key with which we sign, as a server or as a user; a clone is the same key.
#[derive(Clone)]
pub struct HostKey {
    pair: Arc<Pair>,
    public_blob: Vec<u8>,
    certificate: Option<Vec<u8>>,
}

impl fmt::Debug for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostKey").finish_non_exhaustive()
    }
}

/// The numbers of an RSA key, most significant byte first (RFC 8017 section 3.2).
#[derive(Clone, Copy)]
pub struct RsaParts<'a> {
    /// Modulus.
    pub n: &'a [u8],
    /// Public exponent.
    pub e: &'a [u8],
    /// Private exponent.
    pub d: &'a [u8],
    /// The primes.
    pub primes: [&'a [u8]; 2],
    /// The inverse of the second prime modulo the first.
    pub coefficient: &'a [u8],
}

impl HostKey {
    /// A new Ed25519 key.
    pub fn generate_ed25519() -> Result<Self, Error> {
        let pair = Ed25519KeyPair::generate()
            .map_err(|source| Error::Crypto { operation: "making an ed25519 key", source })?;
        Ok(Self::of(Pair::Ed25519(pair)))
    }

    /// A new ECDSA key of P-256.
    pub fn generate_ecdsa() -> Result<Self, Error> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)
            .map_err(|source| Error::Crypto { operation: "making an ecdsa key", source })?;
        Ok(Self::of(Pair::Ecdsa(Nist::P256, pair)))
    }

    /// A new RSA key of 3072 bits; takes a good part of a second.
    pub fn generate_rsa() -> Result<Self, Error> {
        let pair = RsaKeyPair::generate(KeySize::Rsa3072)
            .map_err(|source| Error::Crypto { operation: "making an rsa key", source })?;
        Ok(Self::of(Pair::Rsa(pair)))
    }

    /// A stored key, from PKCS#8 in DER: Ed25519, ECDSA, or RSA of 2048 to 8192 bits.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::of(Pair::Ed25519(pair)));
        }
        for nist in Nist::ALL {
            if let Ok(pair) = EcdsaKeyPair::from_pkcs8(nist.signing(), der) {
                return Ok(Self::of(Pair::Ecdsa(nist, pair)));
            }
        }
        let pair = RsaKeyPair::from_pkcs8(der).map_err(Error::PrivateKey)?;
        Ok(Self::of(Pair::Rsa(pair)))
    }

    /// An Ed25519 key from its private half of 32 bytes (RFC 8032 section 5.1.5).
    pub fn from_ed25519_seed(seed: &[u8]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(Error::PrivateKey)?;
        Ok(Self::of(Pair::Ed25519(pair)))
    }

    /// An ECDSA key from its number and its uncompressed point, whose length tells the curve.
    pub fn from_ecdsa(private: &[u8], public: &[u8]) -> Result<Self, Error> {
        let nist = Nist::ALL.into_iter().find(|nist| nist.point_bytes() == public.len());
        let nist = nist.unwrap_or(Nist::P256);
        let pair = EcdsaKeyPair::from_private_key_and_public_key(nist.signing(), private, public)
            .map_err(Error::PrivateKey)?;
        Ok(Self::of(Pair::Ecdsa(nist, pair)))
    }

    /// An RSA key of 2048 to 8192 bits from its numbers; fails if they do not fit together.
    pub fn from_rsa(parts: RsaParts<'_>) -> Result<Self, Error> {
        let RsaParts { n, e, d, primes: [p, q], coefficient } = parts;
        // Without them the numbers fit no key, and the library says so.
        let [by_p, by_q] = [p, q].map(|prime| residue(d, prime).unwrap_or_default());
        let components = KeyPairComponents {
            public_key: PublicKeyComponents { n, e },
            d,
            p,
            q,
            dP: by_p.as_slice(),
            dQ: by_q.as_slice(),
            qInv: coefficient,
        };
        let pair = RsaKeyPair::from_components(&components).map_err(Error::PrivateKey)?;
        Ok(Self::of(Pair::Rsa(pair)))
    }

    /// The key as PKCS#8 in DER, to be stored.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let der = match &*self.pair {
            Pair::Ed25519(pair) => pair.to_pkcs8().map(|der| der.as_ref().to_vec()),
            Pair::Ecdsa(_, pair) => pair.to_pkcs8v1().map(|der| der.as_ref().to_vec()),
            Pair::Rsa(pair) => pair.as_der().map(|der| der.as_ref().to_vec()),
        };
        der.map(Zeroizing::new)
            .map_err(|source| Error::Crypto { operation: "storing a private key", source })
    }

    /// The public key as it is sent, type first.
    #[must_use]
    pub fn public_blob(&self) -> &[u8] {
        &self.public_blob
    }

    /// The same key with a certificate to show beside it; fails if that is for another key.
    pub fn with_certificate(mut self, certificate: &Certificate) -> Result<Self, CertificateError> {
        if certificate.key_blob() != self.public_blob {
            return Err(CertificateError::OtherKey);
        }
        self.certificate = Some(certificate.blob().to_vec());
        Ok(self)
    }

    /// The certificate, as it is sent, if there is one.
    #[must_use]
    pub fn certificate(&self) -> Option<&[u8]> {
        self.certificate.as_deref()
    }

    /// The algorithms that the key can sign with, preferred first.
    #[must_use]
    pub fn algorithms(&self) -> &'static [KeyAlgorithm] {
        match &*self.pair {
            Pair::Ed25519(_) => &[KeyAlgorithm::Ed25519],
            Pair::Ecdsa(Nist::P256, _) => &[KeyAlgorithm::EcdsaP256],
            Pair::Ecdsa(Nist::P384, _) => &[KeyAlgorithm::EcdsaP384],
            Pair::Ecdsa(Nist::P521, _) => &[KeyAlgorithm::EcdsaP521],
            Pair::Rsa(_) => &[KeyAlgorithm::RsaSha512, KeyAlgorithm::RsaSha256],
        }
    }

    /// Signs `data`; gives the signature as it is sent, algorithm first. Fails unless the key has
    /// that algorithm.
    pub fn sign(&self, algorithm: KeyAlgorithm, data: &[u8]) -> Result<Vec<u8>, Error> {
        if !self.algorithms().contains(&algorithm) {
            return Err(wrong("private key", &self.key_type(), algorithm));
        }
        let signature = match &*self.pair {
            Pair::Ed25519(pair) => pair.try_sign(data).map(|signed| signed.as_ref().to_vec()),
            Pair::Ecdsa(nist, pair) => sign_ecdsa(*nist, pair, data),
            Pair::Rsa(pair) if algorithm == KeyAlgorithm::RsaSha512 => {
                sign_rsa(pair, &RSA_PKCS1_SHA512, data)
            }
            Pair::Rsa(pair) => sign_rsa(pair, &RSA_PKCS1_SHA256, data),
        };
        let signature =
            signature.map_err(|source| Error::Crypto { operation: "signing", source })?;
        let mut writer = Writer::new();
        writer.string(algorithm.name().as_bytes()).string(&signature);
        Ok(writer.into_bytes())
    }

    fn of(pair: Pair) -> Self {
        let mut writer = Writer::new();
        match &pair {
            Pair::Ed25519(pair) => {
                let key_type = KeyAlgorithm::Ed25519.key_type();
                writer.string(key_type.as_bytes()).string(pair.public_key().as_ref());
            }
            Pair::Ecdsa(nist, pair) => {
                let curve = nist.curve().name;
                writer
                    .string(nist.algorithm().key_type().as_bytes())
                    .string(curve.as_bytes())
                    .string(pair.public_key().as_ref());
            }
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                writer
                    .string(KeyAlgorithm::RsaSha512.key_type().as_bytes())
                    .mpint(public.exponent().big_endian_without_leading_zero())
                    .mpint(public.modulus().big_endian_without_leading_zero());
            }
        }
        Self { pair: Arc::new(pair), public_blob: writer.into_bytes(), certificate: None }
    }

    fn key_type(&self) -> Vec<u8> {
        self.algorithms().first().map_or_else(Vec::new, |first| first.key_type().into())
    }
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Nist, EcdsaKeyPair),
    Rsa(RsaKeyPair),
}

/// The curve of an ECDSA key.
#[derive(Clone, Copy)]
enum Nist {
    P256,
    P384,
    P521,
}

impl Nist {
    const ALL: [Self; 3] = [Self::P256, Self::P384, Self::P521];

    const fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_FIXED_SIGNING,
        }
    }

    const fn algorithm(self) -> KeyAlgorithm {
        match self {
            Self::P256 => KeyAlgorithm::EcdsaP256,
            Self::P384 => KeyAlgorithm::EcdsaP384,
            Self::P521 => KeyAlgorithm::EcdsaP521,
        }
    }

    const fn curve(self) -> &'static Curve {
        match self {
            Self::P256 => &P256,
            Self::P384 => &P384,
            Self::P521 => &P521,
        }
    }

    /// The form of the point, and two coordinates.
    const fn point_bytes(self) -> usize {
        1 + 2 * self.curve().number_bytes
    }
}

/// Two numbers, each as an mpint (RFC 5656 section 3.1.2).
fn sign_ecdsa(
    nist: Nist,
    pair: &EcdsaKeyPair,
    data: &[u8],
) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    let fixed = pair.sign(&SystemRandom::new(), data)?;
    let numbers = fixed.as_ref().split_at_checked(nist.curve().number_bytes);
    let (r, s) = numbers.ok_or(aws_lc_rs::error::Unspecified)?;
    let mut writer = Writer::new();
    writer.mpint(r).mpint(s);
    Ok(writer.into_bytes())
}

/// The private exponent modulo a prime less one, which key files leave out, in a time that depends
/// on lengths alone; none where the prime cannot be one.
fn residue(exponent: &[u8], prime: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let number = |bytes: &[u8]| {
        let precision = u32::try_from(bytes.len() * 8).ok()?;
        BoxedUint::from_be_slice(bytes, precision).ok().map(Zeroizing::new)
    };
    let (last, head) = prime.split_last()?;
    let minus_one = number(&Zeroizing::new([head, &[last & !1]].concat()))?;
    let minus_one = Zeroizing::new(Option::<NonZero<BoxedUint>>::from(minus_one.to_nz())?);
    let residue = Zeroizing::new(number(exponent)?.rem(&*minus_one));
    Some(Zeroizing::new(residue.to_be_bytes().into_vec()))
}

fn sign_rsa(
    pair: &RsaKeyPair,
    encoding: &'static dyn RsaEncoding,
    data: &[u8],
) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), data, &mut signature)?;
    Ok(signature)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::signature::verify_signature;

    #[test]
    fn our_keys_sign_what_verifies_and_survive_storage() {
        let p384 = EcdsaKeyPair::generate(Nist::P384.signing()).unwrap();
        let p521 = EcdsaKeyPair::generate(Nist::P521.signing()).unwrap();
        let keys = [
            HostKey::generate_ed25519().unwrap(),
            HostKey::generate_ecdsa().unwrap(),
            HostKey::of(Pair::Ecdsa(Nist::P384, p384)),
            HostKey::of(Pair::Ecdsa(Nist::P521, p521)),
            HostKey::generate_rsa().unwrap(),
        ];
        for key in keys {
            let stored = HostKey::from_pkcs8(&key.to_pkcs8().unwrap()).unwrap();
            assert_eq!(stored.public_blob(), key.public_blob());
            for &algorithm in key.algorithms() {
                let signature = stored.sign(algorithm, b"data").unwrap();
                let name = algorithm.name().as_bytes();
                verify_signature(name, key.public_blob(), &signature, b"data").unwrap();
            }
            for wrong in KeyAlgorithm::ALL.into_iter().chain([KeyAlgorithm::RsaSha1]) {
                if !key.algorithms().contains(&wrong) {
                    let refused = key.sign(wrong, b"data");
                    assert!(matches!(refused, Err(Error::WrongAlgorithm { .. })));
                }
            }
        }
    }

    #[test]
    fn malformed_private_keys_are_refused() {
        let keys = [HostKey::generate_ed25519().unwrap(), HostKey::generate_ecdsa().unwrap()];
        for der in keys.map(|key| key.to_pkcs8().unwrap()) {
            refused_cut(&der);
        }
    }

    fn refused_cut(der: &[u8]) {
        for length in 0..der.len() {
            let failure = HostKey::from_pkcs8(&der[..length]).err().unwrap();
            assert!(matches!(failure, Error::PrivateKey(_)), "cut at {length}");
        }
    }
}
