//! Host keys: private keys of our own, and public keys and signatures of any peer (RFC 4253 section 6.6).

use aws_lc_rs::encoding::AsDer as _;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKeyComponents};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512, RsaEncoding, RsaParameters,
    UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use crate::cursor::{Reader, Writer};
use crate::error::{Error, printable};
use crate::limits::{NAME_BYTES_MAX, RSA_BITS_MAX, RSA_BITS_MIN};
use crate::transport::keys::sha256;

/// A signature algorithm, of host keys and of client keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// `ssh-ed25519` (RFC 8709)
    Ed25519,
    /// `ecdsa-sha2-nistp256` (RFC 5656)
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`
    EcdsaP384,
    /// `ecdsa-sha2-nistp521`
    EcdsaP521,
    /// `rsa-sha2-512` (RFC 8332), whose keys are of type `ssh-rsa`
    RsaSha512,
    /// `rsa-sha2-256`
    RsaSha256,
}

impl KeyAlgorithm {
    /// All, preferred first.
    pub const ALL: [Self; 6] = [
        Self::Ed25519,
        Self::EcdsaP256,
        Self::EcdsaP384,
        Self::EcdsaP521,
        Self::RsaSha512,
        Self::RsaSha256,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::RsaSha512 => "rsa-sha2-512",
            Self::RsaSha256 => "rsa-sha2-256",
        }
    }

    /// The type that a public key of this algorithm names itself by.
    #[must_use]
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha512 | Self::RsaSha256 => "ssh-rsa",
            Self::Ed25519 | Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => self.name(),
        }
    }

    /// The algorithm of that name; fails if there is none.
    pub fn from_name(name: &[u8]) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().as_bytes() == name)
            .ok_or_else(|| Error::UnknownAlgorithm { name: printable(name, NAME_BYTES_MAX) })
    }
}

/// A private key with which we sign.
pub struct HostKey {
    pair: Pair,
    public_blob: Vec<u8>,
}

impl HostKey {
    /// A new Ed25519 key.
    pub fn generate_ed25519() -> Result<Self, Error> {
        let pair = Ed25519KeyPair::generate()
            .map_err(|source| Error::Crypto { operation: "making an ed25519 key", source })?;
        Ok(Self::of(Pair::Ed25519(pair)))
    }

    /// A new RSA key of 3072 bits; takes a good part of a second.
    pub fn generate_rsa() -> Result<Self, Error> {
        let pair = RsaKeyPair::generate(KeySize::Rsa3072)
            .map_err(|source| Error::Crypto { operation: "making an rsa key", source })?;
        Ok(Self::of(Pair::Rsa(pair)))
    }

    /// A stored key, from PKCS#8 in DER: Ed25519, or RSA of 2048 to 8192 bits.
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        if let Ok(pair) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::of(Pair::Ed25519(pair)));
        }
        let pair = RsaKeyPair::from_pkcs8(der).map_err(Error::PrivateKey)?;
        Ok(Self::of(Pair::Rsa(pair)))
    }

    /// An Ed25519 key from its private half of 32 bytes (RFC 8032 section 5.1.5).
    pub fn from_ed25519_seed(seed: &[u8]) -> Result<Self, Error> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(Error::PrivateKey)?;
        Ok(Self::of(Pair::Ed25519(pair)))
    }

    /// The key as PKCS#8 in DER, to be stored.
    pub fn to_pkcs8(&self) -> Result<Zeroizing<Vec<u8>>, Error> {
        let der = match &self.pair {
            Pair::Ed25519(pair) => pair.to_pkcs8().map(|der| der.as_ref().to_vec()),
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

    /// The algorithms that the key can sign with, preferred first.
    #[must_use]
    pub const fn algorithms(&self) -> &'static [KeyAlgorithm] {
        match self.pair {
            Pair::Ed25519(_) => &[KeyAlgorithm::Ed25519],
            Pair::Rsa(_) => &[KeyAlgorithm::RsaSha512, KeyAlgorithm::RsaSha256],
        }
    }

    /// Signs `data`; gives the signature as it is sent, algorithm first. Fails unless the key has that algorithm.
    pub fn sign(&self, algorithm: KeyAlgorithm, data: &[u8]) -> Result<Vec<u8>, Error> {
        let failed = |source| Error::Crypto { operation: "signing", source };
        let signature = match (&self.pair, algorithm) {
            (Pair::Ed25519(pair), KeyAlgorithm::Ed25519) => {
                pair.try_sign(data).map_err(failed)?.as_ref().to_vec()
            }
            (Pair::Rsa(pair), KeyAlgorithm::RsaSha512) => {
                sign_rsa(pair, &RSA_PKCS1_SHA512, data).map_err(failed)?
            }
            (Pair::Rsa(pair), KeyAlgorithm::RsaSha256) => {
                sign_rsa(pair, &RSA_PKCS1_SHA256, data).map_err(failed)?
            }
            (Pair::Ed25519(_) | Pair::Rsa(_), _) => {
                return Err(wrong("private key", &self.key_type(), algorithm));
            }
        };
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
            Pair::Rsa(pair) => {
                let public = pair.public_key();
                writer
                    .string(KeyAlgorithm::RsaSha512.key_type().as_bytes())
                    .mpint(public.exponent().big_endian_without_leading_zero())
                    .mpint(public.modulus().big_endian_without_leading_zero());
            }
        }
        Self { pair, public_blob: writer.into_bytes() }
    }

    fn key_type(&self) -> Vec<u8> {
        self.algorithms().first().map_or_else(Vec::new, |first| first.key_type().into())
    }
}

/// Checks a signature that names its algorithm, by a public key that names its type, over `data`.
///
/// Fails unless the signature is by exactly `algorithm`, the key of the type that it needs, RSA keys of 2048 to
/// 8192 bits, and nothing follows either of them.
pub fn verify_signature(
    algorithm: &[u8],
    key_blob: &[u8],
    signature: &[u8],
    data: &[u8],
) -> Result<(), Error> {
    let algorithm = KeyAlgorithm::from_name(algorithm)?;
    let mut key = Reader::new(key_blob);
    expect_name("key", key.string("key type")?, algorithm.key_type(), algorithm)?;
    let mut reader = Reader::new(signature);
    expect_name("signature", reader.string("signature type")?, algorithm.name(), algorithm)?;
    let signature = reader.string("signature")?;
    reader.finish()?;
    let verified = match algorithm {
        KeyAlgorithm::Ed25519 => {
            let public = key.string("public key")?;
            key.finish()?;
            verifies(&ED25519, public, data, signature)
        }
        KeyAlgorithm::EcdsaP256 => verify_ecdsa(&P256, key, data, signature)?,
        KeyAlgorithm::EcdsaP384 => verify_ecdsa(&P384, key, data, signature)?,
        KeyAlgorithm::EcdsaP521 => verify_ecdsa(&P521, key, data, signature)?,
        KeyAlgorithm::RsaSha256 => verify_rsa(&RSA_PKCS1_2048_8192_SHA256, key, data, signature)?,
        KeyAlgorithm::RsaSha512 => verify_rsa(&RSA_PKCS1_2048_8192_SHA512, key, data, signature)?,
    };
    if verified { Ok(()) } else { Err(Error::BadSignature { algorithm: algorithm.name() }) }
}

/// The fingerprint of a public key as OpenSSH prints it: `SHA256:` and base64 without padding.
#[must_use]
pub fn fingerprint(key_blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(sha256(&[key_blob])))
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Rsa(RsaKeyPair),
}

struct Curve {
    algorithm: &'static EcdsaVerificationAlgorithm,
    name: &'static str,
    /// Bytes of each of the two numbers of a signature.
    number_bytes: usize,
}

const P256: Curve =
    Curve { algorithm: &ECDSA_P256_SHA256_FIXED, name: "nistp256", number_bytes: 32 };
const P384: Curve =
    Curve { algorithm: &ECDSA_P384_SHA384_FIXED, name: "nistp384", number_bytes: 48 };
const P521: Curve =
    Curve { algorithm: &ECDSA_P521_SHA512_FIXED, name: "nistp521", number_bytes: 66 };

fn sign_rsa(
    pair: &RsaKeyPair,
    encoding: &'static dyn RsaEncoding,
    data: &[u8],
) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(encoding, &SystemRandom::new(), data, &mut signature)?;
    Ok(signature)
}

fn verify_ecdsa(
    curve: &Curve,
    mut key: Reader<'_>,
    data: &[u8],
    signature: &[u8],
) -> Result<bool, Error> {
    let named = key.string("curve")? == curve.name.as_bytes();
    let point = key.string("public key")?;
    key.finish()?;
    let mut reader = Reader::new(signature);
    let numbers = [reader.mpint("r")?, reader.mpint("s")?];
    reader.finish()?;
    let mut fixed = Vec::with_capacity(numbers.len() * curve.number_bytes);
    for number in numbers {
        let Some(zeros) = curve.number_bytes.checked_sub(number.len()) else { return Ok(false) };
        fixed.resize(fixed.len() + zeros, 0);
        fixed.extend_from_slice(number);
    }
    Ok(named && verifies(curve.algorithm, point, data, &fixed))
}

fn verify_rsa(
    parameters: &RsaParameters,
    mut key: Reader<'_>,
    data: &[u8],
    signature: &[u8],
) -> Result<bool, Error> {
    let exponent = key.mpint("exponent")?;
    let modulus = key.mpint("modulus")?;
    key.finish()?;
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = modulus.len() * 8 - usize::try_from(unused).unwrap_or_default();
    if !(RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) {
        return Err(Error::RsaSize { bits, min: RSA_BITS_MIN, max: RSA_BITS_MAX });
    }
    // Some peers send the signature as a number, without its leading zeros.
    let Some(zeros) = modulus.len().checked_sub(signature.len()) else { return Ok(false) };
    let mut padded = vec![0; zeros];
    padded.extend_from_slice(signature);
    let public = PublicKeyComponents { n: modulus, e: exponent };
    Ok(public.verify(parameters, data, &padded).is_ok())
}

fn verifies(
    algorithm: &'static dyn VerificationAlgorithm,
    public: &[u8],
    data: &[u8],
    signature: &[u8],
) -> bool {
    UnparsedPublicKey::new(algorithm, public).verify(data, signature).is_ok()
}

fn expect_name(
    part: &'static str,
    found: &[u8],
    expected: &str,
    algorithm: KeyAlgorithm,
) -> Result<(), Error> {
    if found == expected.as_bytes() { Ok(()) } else { Err(wrong(part, found, algorithm)) }
}

fn wrong(part: &'static str, found: &[u8], algorithm: KeyAlgorithm) -> Error {
    let found = printable(found, NAME_BYTES_MAX);
    Error::WrongAlgorithm { part, found, algorithm: algorithm.name() }
}
