//! Signature algorithms, and what verifies: public keys and signatures of any peer (RFC 4253
//! section 6.6).

use aws_lc_rs::rsa::PublicKeyComponents;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519,
    EcdsaVerificationAlgorithm, RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA512, RsaParameters, UnparsedPublicKey,
    VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use crate::cursor::Reader;
use crate::error::{Error, printable};
use crate::limits::{NAME_BYTES_MAX, RSA_BITS_MAX, RSA_BITS_MIN, RSA_BITS_MIN_LEGACY};
use crate::transport::hash::Hash;

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
    /// `ssh-rsa` as an algorithm: RSA with SHA-1 (RFC 4253 section 6.6), for host keys of old
    /// servers
    RsaSha1,
}

impl KeyAlgorithm {
    /// All that are safe, preferred first: every one but [`Self::RsaSha1`].
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
            Self::RsaSha1 => RSA_KEY,
        }
    }

    /// The type that a public key of this algorithm names itself by.
    #[must_use]
    pub const fn key_type(self) -> &'static str {
        match self {
            Self::RsaSha512 | Self::RsaSha256 | Self::RsaSha1 => RSA_KEY,
            Self::Ed25519 | Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => self.name(),
        }
    }

    /// The name on the wire where the key comes in a certificate (OpenSSH's PROTOCOL.certkeys).
    #[must_use]
    pub const fn certificate_name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519-cert-v01@openssh.com",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256-cert-v01@openssh.com",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384-cert-v01@openssh.com",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521-cert-v01@openssh.com",
            Self::RsaSha512 => "rsa-sha2-512-cert-v01@openssh.com",
            Self::RsaSha256 => "rsa-sha2-256-cert-v01@openssh.com",
            Self::RsaSha1 => RSA_CERTIFICATE,
        }
    }

    /// The type that a certificate for a key of this algorithm names itself by.
    #[must_use]
    pub const fn certificate_type(self) -> &'static str {
        match self {
            Self::RsaSha512 | Self::RsaSha256 | Self::RsaSha1 => RSA_CERTIFICATE,
            Self::Ed25519 | Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => {
                self.certificate_name()
            }
        }
    }

    /// The safe algorithm of that name; fails if there is none.
    pub fn from_name(name: &[u8]) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.name().as_bytes() == name)
            .ok_or_else(|| Error::UnknownAlgorithm { name: printable(name, NAME_BYTES_MAX) })
    }
}

/// Checks a signature that names its algorithm, by a public key that names its type, over `data`.
///
/// Fails unless the signature is by exactly `algorithm`, which must be a safe one, the key of the
/// type that it needs, RSA keys of 2048 to 8192 bits, and nothing follows either of them.
pub fn verify_signature(
    algorithm: &[u8],
    key_blob: &[u8],
    signature: &[u8],
    data: &[u8],
) -> Result<(), Error> {
    verify(KeyAlgorithm::from_name(algorithm)?, key_blob, signature, data)
}

/// The same for an algorithm that was agreed on, be it safe or not.
pub(super) fn verify(
    algorithm: KeyAlgorithm,
    key_blob: &[u8],
    signature: &[u8],
    data: &[u8],
) -> Result<(), Error> {
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
        KeyAlgorithm::RsaSha256 => {
            verify_rsa(&RSA_PKCS1_2048_8192_SHA256, RSA_BITS_MIN, key, data, signature)?
        }
        KeyAlgorithm::RsaSha512 => {
            verify_rsa(&RSA_PKCS1_2048_8192_SHA512, RSA_BITS_MIN, key, data, signature)?
        }
        KeyAlgorithm::RsaSha1 => {
            let parameters = &RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY;
            verify_rsa(parameters, RSA_BITS_MIN_LEGACY, key, data, signature)?
        }
    };
    if verified { Ok(()) } else { Err(Error::BadSignature { algorithm: algorithm.name() }) }
}

/// The fingerprint of a public key as OpenSSH prints it: `SHA256:` and base64 without padding.
#[must_use]
pub fn fingerprint(key_blob: &[u8]) -> String {
    format!("SHA256:{}", STANDARD_NO_PAD.encode(Hash::Sha256.of(&[key_blob])))
}

/// A curve of NIST as keys and signatures use it.
pub(super) struct Curve {
    algorithm: &'static EcdsaVerificationAlgorithm,
    /// The name within a key.
    pub(super) name: &'static str,
    /// Bytes of each of the two numbers of a signature.
    pub(super) number_bytes: usize,
}

pub(super) const P256: Curve =
    Curve { algorithm: &ECDSA_P256_SHA256_FIXED, name: "nistp256", number_bytes: 32 };
pub(super) const P384: Curve =
    Curve { algorithm: &ECDSA_P384_SHA384_FIXED, name: "nistp384", number_bytes: 48 };
pub(super) const P521: Curve =
    Curve { algorithm: &ECDSA_P521_SHA512_FIXED, name: "nistp521", number_bytes: 66 };

/// The type of certificates for RSA keys.
const RSA_CERTIFICATE: &str = "ssh-rsa-cert-v01@openssh.com";

/// The type of RSA keys, and the name of their oldest algorithm.
const RSA_KEY: &str = "ssh-rsa";

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
    min: usize,
    mut key: Reader<'_>,
    data: &[u8],
    signature: &[u8],
) -> Result<bool, Error> {
    let exponent = key.mpint("exponent")?;
    let modulus = key.mpint("modulus")?;
    key.finish()?;
    let unused = modulus.first().map_or(0, |byte| byte.leading_zeros());
    let bits = modulus.len() * 8 - usize::try_from(unused).unwrap_or_default();
    if !(min..=RSA_BITS_MAX).contains(&bits) {
        return Err(Error::RsaSize { bits, min, max: RSA_BITS_MAX });
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

/// That a key or signature is of another algorithm than was agreed.
pub(super) fn wrong(part: &'static str, found: &[u8], algorithm: KeyAlgorithm) -> Error {
    let found = printable(found, NAME_BYTES_MAX);
    Error::WrongAlgorithm { part, found, algorithm: algorithm.name() }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA512, digest};
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::cursor::Writer;

    /// A key and a signature made by OpenSSH 9.2 (`ssh-keygen -Y sign -n test` over "hello").
    struct Vector {
        algorithm: &'static str,
        key: &'static str,
        signature: &'static str,
        fingerprint: &'static str,
    }

    impl Vector {
        fn key(&self) -> Vec<u8> {
            STANDARD.decode(self.key).unwrap()
        }

        fn signature(&self) -> Vec<u8> {
            STANDARD.decode(self.signature).unwrap()
        }

        fn verify(&self, key: &[u8], signature: &[u8]) -> Result<(), Error> {
            verify_signature(self.algorithm.as_bytes(), key, signature, &signed())
        }
    }

    /// What such a signature covers (OpenSSH's PROTOCOL.sshsig, section 3).
    fn signed() -> Vec<u8> {
        let mut writer = Writer::new();
        let hash = digest(&SHA512, b"hello");
        writer.raw(b"SSHSIG").string(b"test").string(b"").string(b"sha512").string(hash.as_ref());
        writer.into_bytes()
    }

    #[test]
    fn keys_and_signatures_of_openssh_verify() {
        for vector in VECTORS {
            vector.verify(&vector.key(), &vector.signature()).expect(vector.algorithm);
            assert_eq!(fingerprint(&vector.key()), vector.fingerprint);
        }
    }

    #[test]
    fn a_signature_over_other_data_or_by_another_key_does_not_verify() {
        for vector in VECTORS {
            let (key, signature) = (vector.key(), vector.signature());
            let name = vector.algorithm.as_bytes();
            let failure = verify_signature(name, &key, &signature, b"other").unwrap_err();
            assert!(matches!(failure, Error::BadSignature { .. }), "{}", vector.algorithm);
            for other in VECTORS.iter().filter(|other| other.algorithm != vector.algorithm) {
                assert!(vector.verify(&other.key(), &signature).is_err());
                assert!(vector.verify(&key, &other.signature()).is_err());
            }
        }
    }

    #[test]
    fn keys_and_signatures_cut_or_changed_anywhere_are_refused() {
        for vector in VECTORS {
            let (key, signature) = (vector.key(), vector.signature());
            for index in 0..key.len() {
                assert!(vector.verify(&key[..index], &signature).is_err(), "key cut at {index}");
                let mut changed = key.clone();
                changed[index] ^= 1;
                assert!(vector.verify(&changed, &signature).is_err(), "key changed at {index}");
            }
            for index in 0..signature.len() {
                assert!(vector.verify(&key, &signature[..index]).is_err(), "cut at {index}");
                let mut changed = signature.clone();
                changed[index] ^= 1;
                assert!(vector.verify(&key, &changed).is_err(), "changed at {index}");
            }
            let longer = |bytes: &[u8]| [bytes, &[0]].concat();
            assert!(vector.verify(&longer(&key), &signature).is_err());
            assert!(vector.verify(&key, &longer(&signature)).is_err());
        }
    }

    /// A signature with SHA-1 by OpenSSL 3.0 (`openssl dgst -sha1 -sign`) over "hello": taken where
    /// it was agreed on, and never by name, as in an attempt of a client.
    #[test]
    fn signatures_with_sha1_are_for_old_servers_alone() {
        let [key, signature] = OLD_RSA.map(|text| STANDARD.decode(text).unwrap());
        verify(KeyAlgorithm::RsaSha1, &key, &signature, b"hello").unwrap();
        let other = verify(KeyAlgorithm::RsaSha1, &key, &signature, b"Hello").unwrap_err();
        assert!(matches!(other, Error::BadSignature { .. }), "{other}");
        for algorithm in [KeyAlgorithm::RsaSha256, KeyAlgorithm::RsaSha512] {
            let refused = verify(algorithm, &key, &signature, b"hello").unwrap_err();
            assert!(matches!(refused, Error::WrongAlgorithm { .. }), "{refused}");
        }
        let refused = verify_signature(b"ssh-rsa", &key, &signature, b"hello").unwrap_err();
        assert!(matches!(refused, Error::UnknownAlgorithm { .. }), "{refused}");
    }

    #[test]
    fn rsa_keys_have_a_size_range() {
        for (bits, legal) in
            [(1016, false), (1024, false), (2047, false), (2048, true), (8192, true), (8200, false)]
        {
            let mut modulus = vec![0xff; bits / 8 + usize::from(bits % 8 > 0)];
            modulus[0] = u8::try_from(0xff >> (modulus.len() * 8 - bits)).unwrap();
            let (mut key, mut signature) = (Writer::new(), Writer::new());
            key.string(b"ssh-rsa").mpint(&[1, 0, 1]).mpint(&modulus);
            signature.string(b"rsa-sha2-256").string(&vec![1; bits / 8]);
            let failure =
                verify_signature(b"rsa-sha2-256", key.as_bytes(), signature.as_bytes(), b"")
                    .unwrap_err();
            assert_eq!(!matches!(failure, Error::RsaSize { .. }), legal, "{bits}: {failure}");
            let mut old = Writer::new();
            old.string(b"ssh-rsa").string(&vec![1; bits / 8]);
            let old = verify(KeyAlgorithm::RsaSha1, key.as_bytes(), old.as_bytes(), b"");
            let legal = (1024..=8192).contains(&bits);
            assert_eq!(!matches!(old, Err(Error::RsaSize { .. })), legal, "{bits}: {old:?}");
        }
    }

    #[test]
    fn old_and_unknown_algorithms_are_refused() {
        for name in ["ssh-rsa", "ssh-dss", "", "ssh-ed25519\n"] {
            let failure = verify_signature(name.as_bytes(), &[], &[], &[]).unwrap_err();
            assert!(matches!(failure, Error::UnknownAlgorithm { .. }), "{name}");
        }
    }

    const OLD_RSA: [&str; 2] = [
        "AAAAB3NzaC1yc2EAAAADAQABAAABAQC3MuZArxABo/1x1ch8mOY1ta0xSLjsdtLNUBhtf488mrivUAcGDJltb9/XWTpyrow81drvZwuDqohm8r19AP9LoR2NE1oNkPV3uN5+djUOAahtfhLCbWtXkQwKA2xVAHEjLkbd7Q02QtP3IiNKZe1YtccL98Fi5dnYVdZNXjM91aj5jR6sRBbZDbWmzLdqDwROYnBpLgNlVvecFwtZ3B2sB/bBdFHAqPDnMrRIvOH1vxH5ZdmL+EoxztQW4eDQLhZTSGRAhA4NstDnVCxnqZS1J4TF2SUhWUEfw/q/HOdEiSR4KI4om11sAfOdsoCeb5vmuPg2aufZu+294a+rsC2f",
        "AAAAB3NzaC1yc2EAAAEAQUnjq9Y1vGKysiprja9cR7KZdEXB6YMOyEREIsLXHFesc8awHJqkVmFAO2IysK3tHbo1G3XhkeLg0RUx4Y+Xboupa3/kjpspVo935ggvnWtVi50tybZYPeqL3sUzibeqbSJ/PG3W/AbkQrDAG0Y4sd+WotqZkuS1Y77WLDKEFXsdUXM0P/syu1MkDIDAQCoWHjIV++mmWJE3751+8M5hvtkbYo42kprvRc5t9lXo0+SLzTXGVkuUASZW/crla8gx3raE2hqaXU/gMNdGJxRJiKd4nOTKZk1G0aeXmlrRRgSxSmu0jXDS6+wG9QGLQ8hBLBMgJGmCxO2CR3JRwOggdQ==",
    ];

    const VECTORS: [Vector; 5] = [
        Vector {
            algorithm: "ssh-ed25519",
            key: "AAAAC3NzaC1lZDI1NTE5AAAAIAlNHwglXBWE4bvG56+syDWYXKxS9SElosiGwJ5N8pgx",
            signature: "AAAAC3NzaC1lZDI1NTE5AAAAQPBS1M7sMiY3CTSbqf2LuANe0X0PdyZ/iZH3gu74CsD7nyo1eGIjacugKXKuJCGTEcNlvGWH+JtU0iRcrLj6nQI=",
            fingerprint: "SHA256:KcPIspS2youeam0tE/QUjoaQX4vYYxvJku6DMTHGt0Q",
        },
        Vector {
            algorithm: "rsa-sha2-512",
            key: "AAAAB3NzaC1yc2EAAAADAQABAAABAQCvmPHMTpANhV6av2pcWPfv8lOYy7WsKi76blaKE4uSzRrZDGDhbND0ZW4zLjVSBwCfa+EvmjNnUlbtzvoXgO6O3yZWU2iOcMLAOdj8t/lvP8hV0dv5SewTEmfhT7m59Ldo0OcL/XiacgtPhDbRq+Q5Kk5f4kJdvE1lImSEhClGPdIlmSLcOidY7myU9IDS5Oze8mFJViUhxM9wnKYCv0BQo07omfwq4GWP+xoKNGXmhKsce0vlEkVsM99qdgHdODij+RzmJ6D4qHoL+mVqMfksKd1OBUHm251mlZrsr6mUmKhMc+dGJoXVQDXBYTPo400ikiGPSLWdtwRWAOa7JXb1",
            signature: "AAAADHJzYS1zaGEyLTUxMgAAAQAN1NwYzxjb5j/L3rDk8l1XHlrlO1arVoOXw/MhHWMIcQZ4zCuDC0QgETgeASaC211h78qn4/M1JSXK5YJZT4zOmfor97k4X90gI32hbKLwhPM8AubL/UGoe5HSYABz2qy0YUvPiPSpQ0OFX1KQ2W2EG3egKJGWoqxNWxDHVbrxxaM2WiPQ1CQbjkc2zvNFDjyP9bqzY7w8Qyfy0FvCGZ7eHBbgaZwchPsopcyjEbqRcZVFurpOfJpVW1UvMHmFuQETK0YwVVOkwIpmiu7yty6MWXfj5/eYDu076iguXuXoZqWbrYtZy1ybbb+LTSctV/ujmSQVknccva90P/j/wreb",
            fingerprint: "SHA256:WR0t39rf7TtHUZpp5TTdw3lTcRbAwIIsM5+VqmvjPD0",
        },
        Vector {
            algorithm: "ecdsa-sha2-nistp256",
            key: "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBN+2AbVF0Zs0UkW/9RqZxeWU86Wk/ih/F7jzhY88yOXMX25Ol0FMA2J5uVOzikfwb9QNaKbJay3BoRKSdI1cBXc=",
            signature: "AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAABJAAAAIF4sRDG5RJjhKsXmixwg1jdK/3zzLuOQJZVPpcHbyJ5hAAAAIQCmA1BN109myykVBdT607S3Lc25yftrvKRlZGJpx+k/KQ==",
            fingerprint: "SHA256:pqKtq0BjPQLa9u0clhn0hPVomm+ULjgYzZVUcZCnFHs",
        },
        Vector {
            algorithm: "ecdsa-sha2-nistp384",
            key: "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBJVUBZLmcYD/gvfUSBELnYUHZ3vKgRlZGfqTdSWjuUWOyo48n6r4IOulEsZF/umSFNPATixNr4aH8u06CUIWVSAMCOuvyXw6zwJE/PIH8VHILwm7xXWANgbjScMlCDdSMQ==",
            signature: "AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAABpAAAAMBKRxwg5oIXO/ce4MknmxoDPzQkczdwndUaR+rzFvRcnykqlpZI1+WeP0uQZRhTgvAAAADEA+XvmTEYztJqKbCriMWhtqZxBtYR72bOFIYxCrlRHie271OKn72y6EhfUyrhxzFk3",
            fingerprint: "SHA256:3wUuRHjxa3Bj6V21Yi1ByIK11AxJMpmAgsQsQicJmcA",
        },
        Vector {
            algorithm: "ecdsa-sha2-nistp521",
            key: "AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBAG3vTLY1DLNZCw5IgXtjh7pscgH8r4x6v4LGBkX/s9upKKagiaSzeh0I+n7xQiu/6ApNaSvKtULHr/CouiFaalQ6wFaOyK1gycPuiJM1xDU7ZIpWp+xT2Acdhe7UHPaDBwCsdVEGhQ3juldXAxrqhoRVUEuYXVjqw5LI3RTPxKhjubN8w==",
            signature: "AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAACLAAAAQRaxd92gL9iIJzFEkvUw9TIkSEVMNYLVdttT4Apj9gWG/nhdCvfi8sQpcmuTUy6hyEg8Ldvn8KXkId07/x7b1r6IAAAAQgF0aOb5jO5t1qjBg9iFGBW2+MzUYHJ9VPuaxHIe8aa5xoW1fxMgN0cTkFEwI/ZQSWghp+2f5JN8jLvNr2DcqGgU4w==",
            fingerprint: "SHA256:6q46O4Z7eZu9/iTE+9zNZojfIHYeYOyhi3jz8H5t6UU",
        },
    ];
}
