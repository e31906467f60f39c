//! Key exchange methods: each turns two shares into one secret.

mod curve25519;
mod mlkem;

use zeroize::Zeroizing;

use crate::cursor::Writer;
use crate::error::Error;

/// A key exchange method that can be negotiated; all of them hash with SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KexMethod {
    /// `mlkem768x25519-sha256`: ML-KEM-768 and X25519 together (draft-ietf-sshm-mlkem-hybrid-kex)
    MlKem768X25519,
    /// `curve25519-sha256` (RFC 8731)
    Curve25519,
    /// `curve25519-sha256@libssh.org`, the same under its first name, which some peers know alone
    Curve25519LibSsh,
}

impl KexMethod {
    /// All, strongest first.
    pub const ALL: [Self; 3] = [Self::MlKem768X25519, Self::Curve25519, Self::Curve25519LibSsh];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlKem768X25519 => "mlkem768x25519-sha256",
            Self::Curve25519 => "curve25519-sha256",
            Self::Curve25519LibSsh => "curve25519-sha256@libssh.org",
        }
    }

    /// Client side: makes the share to send, and what is needed to read the answer.
    pub(super) fn start(self) -> Result<(Vec<u8>, Ephemeral), Error> {
        match self {
            Self::MlKem768X25519 => {
                let (share, private) = mlkem::start()?;
                Ok((share, Ephemeral::MlKem(private)))
            }
            Self::Curve25519 | Self::Curve25519LibSsh => {
                let (share, private) = curve25519::start()?;
                Ok((share, Ephemeral::Curve25519(private)))
            }
        }
    }

    /// Server side: makes the share to send, and the secret, from the client's share.
    pub(super) fn answer(self, client_share: &[u8]) -> Result<(Vec<u8>, SharedSecret), Error> {
        let answer = match self {
            Self::MlKem768X25519 => mlkem::answer(client_share)?,
            Self::Curve25519 | Self::Curve25519LibSsh => curve25519::answer(client_share)?,
        };
        answer.ok_or_else(|| self.bad_share(client_share))
    }

    /// Client side: makes the secret from the server's share.
    pub(super) fn finish(
        self,
        ephemeral: Ephemeral,
        server_share: &[u8],
    ) -> Result<SharedSecret, Error> {
        let secret = match ephemeral {
            Ephemeral::Curve25519(private) => curve25519::finish(private, server_share),
            Ephemeral::MlKem(private) => mlkem::finish(*private, server_share),
        };
        secret.ok_or_else(|| self.bad_share(server_share))
    }

    const fn bad_share(self, share: &[u8]) -> Error {
        Error::BadShare { method: self.name(), bytes: share.len() }
    }
}

/// What the client keeps between its share and the server's.
pub(super) enum Ephemeral {
    Curve25519(curve25519::Private),
    MlKem(Box<mlkem::Private>),
}

/// The shared secret as it is hashed; wiped when dropped.
pub(super) struct SharedSecret(Zeroizing<Vec<u8>>);

impl SharedSecret {
    /// A secret that is hashed as an mpint (RFC 8731 section 3.1).
    pub(super) fn number(bytes: &[u8]) -> Self {
        let mut writer = Writer::new();
        writer.mpint(bytes);
        Self(Zeroizing::new(writer.into_bytes()))
    }

    /// A secret that is hashed as a string, as in the hybrid methods.
    pub(super) fn string(bytes: &[u8]) -> Self {
        let mut writer = Writer::new();
        writer.string(bytes);
        Self(Zeroizing::new(writer.into_bytes()))
    }

    /// The encoded form, with its length.
    pub(super) fn encoded(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_get_the_same_secret_and_every_time_another() {
        for method in KexMethod::ALL {
            let exchange = || {
                let (client_share, ephemeral) = method.start().unwrap();
                let (server_share, at_server) = method.answer(&client_share).unwrap();
                let at_client = method.finish(ephemeral, &server_share).unwrap();
                assert_eq!(at_client.encoded(), at_server.encoded(), "{}", method.name());
                at_client.encoded().to_vec()
            };
            assert_ne!(exchange(), exchange(), "{}", method.name());
        }
    }

    #[test]
    fn shares_of_wrong_length_are_refused() {
        for method in KexMethod::ALL {
            let (client_share, _ephemeral) = method.start().unwrap();
            let (server_share, _secret) = method.answer(&client_share).unwrap();
            for share in cuts(&client_share) {
                let error = method.answer(&share).err().unwrap();
                assert!(matches!(error, Error::BadShare { bytes, .. } if bytes == share.len()));
            }
            for share in cuts(&server_share) {
                let (_share, ephemeral) = method.start().unwrap();
                let error = method.finish(ephemeral, &share).err().unwrap();
                assert!(matches!(error, Error::BadShare { bytes, .. } if bytes == share.len()));
            }
        }
    }

    fn cuts(share: &[u8]) -> [Vec<u8>; 4] {
        let longer = [share, &[0]].concat();
        [Vec::new(), share[1..].to_vec(), longer, vec![7; 200_000]]
    }

    /// Points of small order make a secret that an observer knows (RFC 7748 section 6.1).
    #[test]
    fn degenerate_x25519_shares_are_refused() {
        let order_8 = [
            0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f,
            0xc4, 0x6a, 0xda, 0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16,
            0x5f, 0x49, 0xb8, 0x00,
        ];
        let mut one = [0; 32];
        one[0] = 1;
        let mut prime_minus_one = [0xff; 32];
        (prime_minus_one[0], prime_minus_one[31]) = (0xec, 0x7f);
        let points =
            [("zero", [0; 32]), ("one", one), ("p - 1", prime_minus_one), ("order 8", order_8)];
        for (case, point) in points {
            for method in KexMethod::ALL {
                let (client_share, _ephemeral) = method.start().unwrap();
                let (server_share, _secret) = method.answer(&client_share).unwrap();
                let bad = |share: &[u8]| [&share[..share.len() - 32], &point].concat();
                assert!(method.answer(&bad(&client_share)).is_err(), "{case}");
                let (_share, ephemeral) = method.start().unwrap();
                assert!(method.finish(ephemeral, &bad(&server_share)).is_err(), "{case}");
            }
        }
    }

    /// An encapsulation key whose coefficients exceed the modulus (FIPS 203 section 7.2).
    #[test]
    fn an_ml_kem_key_out_of_range_is_refused() {
        let (client_share, _ephemeral) = KexMethod::MlKem768X25519.start().unwrap();
        let bad = [&[0xff; 1152], &client_share[1152..]].concat();
        assert!(KexMethod::MlKem768X25519.answer(&bad).is_err());
    }
}
