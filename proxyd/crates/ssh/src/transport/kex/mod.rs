//! Key exchange methods: each turns two shares into one secret.

mod curve25519;
mod ecdh;
pub(super) mod gex;
mod group;
mod mlkem;
mod primes;

use zeroize::Zeroizing;

use crate::cursor::Writer;
use crate::error::Error;
use crate::transport::hash::Hash;
use crate::transport::kex::ecdh::Curve;
use crate::transport::kex::primes::{MODP_2048, MODP_4096, MODP_8192, OAKLEY_2};

pub(super) use group::Group;

/// A key exchange method that can be negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KexMethod {
    /// `mlkem768x25519-sha256`: ML-KEM-768 and X25519 together (draft-ietf-sshm-mlkem-hybrid-kex)
    MlKem768X25519,
    /// `curve25519-sha256` (RFC 8731)
    Curve25519,
    /// `curve25519-sha256@libssh.org`, the same under its first name, which some peers know alone
    Curve25519LibSsh,
    /// `ecdh-sha2-nistp256` (RFC 5656)
    EcdhP256,
    /// `ecdh-sha2-nistp384`
    EcdhP384,
    /// `ecdh-sha2-nistp521`
    EcdhP521,
    /// `diffie-hellman-group16-sha512`, 4096 bits (RFC 8268)
    Group16Sha512,
    /// `diffie-hellman-group18-sha512`, 8192 bits
    Group18Sha512,
    /// `diffie-hellman-group-exchange-sha256`: the server chooses the group (RFC 4419)
    GroupExchangeSha256,
    /// `diffie-hellman-group14-sha256`, 2048 bits (RFC 8268)
    Group14Sha256,
    /// `diffie-hellman-group14-sha1` (RFC 4253 section 8.2), for old servers
    Group14Sha1,
    /// `diffie-hellman-group-exchange-sha1`, for old servers
    GroupExchangeSha1,
    /// `diffie-hellman-group1-sha1`, 1024 bits, for the oldest servers
    Group1Sha1,
}

impl KexMethod {
    /// All, preferred first; those with SHA-1 are at the end.
    pub const ALL: [Self; 13] = [
        Self::MlKem768X25519,
        Self::Curve25519,
        Self::Curve25519LibSsh,
        Self::EcdhP256,
        Self::EcdhP384,
        Self::EcdhP521,
        Self::Group16Sha512,
        Self::Group18Sha512,
        Self::GroupExchangeSha256,
        Self::Group14Sha256,
        Self::Group14Sha1,
        Self::GroupExchangeSha1,
        Self::Group1Sha1,
    ];

    /// The name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MlKem768X25519 => "mlkem768x25519-sha256",
            Self::Curve25519 => "curve25519-sha256",
            Self::Curve25519LibSsh => "curve25519-sha256@libssh.org",
            Self::EcdhP256 => "ecdh-sha2-nistp256",
            Self::EcdhP384 => "ecdh-sha2-nistp384",
            Self::EcdhP521 => "ecdh-sha2-nistp521",
            Self::Group16Sha512 => "diffie-hellman-group16-sha512",
            Self::Group18Sha512 => "diffie-hellman-group18-sha512",
            Self::GroupExchangeSha256 => "diffie-hellman-group-exchange-sha256",
            Self::Group14Sha256 => "diffie-hellman-group14-sha256",
            Self::Group14Sha1 => "diffie-hellman-group14-sha1",
            Self::GroupExchangeSha1 => "diffie-hellman-group-exchange-sha1",
            Self::Group1Sha1 => "diffie-hellman-group1-sha1",
        }
    }

    /// Whether it is weak, and for servers that have nothing better.
    #[must_use]
    pub const fn is_legacy(self) -> bool {
        matches!(self.hash(), Hash::Sha1)
    }

    /// The hash of its exchanges.
    pub(super) const fn hash(self) -> Hash {
        match self {
            Self::MlKem768X25519
            | Self::Curve25519
            | Self::Curve25519LibSsh
            | Self::EcdhP256
            | Self::GroupExchangeSha256
            | Self::Group14Sha256 => Hash::Sha256,
            Self::EcdhP384 => Hash::Sha384,
            Self::EcdhP521 | Self::Group16Sha512 | Self::Group18Sha512 => Hash::Sha512,
            Self::Group14Sha1 | Self::GroupExchangeSha1 | Self::Group1Sha1 => Hash::Sha1,
        }
    }

    /// How shares are made; none where a group has to be agreed on first.
    pub(super) const fn scheme(self) -> Option<Scheme> {
        Some(match self {
            Self::MlKem768X25519 => Scheme::MlKem,
            Self::Curve25519 | Self::Curve25519LibSsh => Scheme::Curve25519,
            Self::EcdhP256 => Scheme::Ecdh(Curve::P256),
            Self::EcdhP384 => Scheme::Ecdh(Curve::P384),
            Self::EcdhP521 => Scheme::Ecdh(Curve::P521),
            Self::Group16Sha512 => Scheme::Group(Group::fixed(&MODP_4096)),
            Self::Group18Sha512 => Scheme::Group(Group::fixed(&MODP_8192)),
            Self::Group14Sha256 | Self::Group14Sha1 => Scheme::Group(Group::fixed(&MODP_2048)),
            Self::Group1Sha1 => Scheme::Group(Group::fixed(&OAKLEY_2)),
            Self::GroupExchangeSha256 | Self::GroupExchangeSha1 => return None,
        })
    }

    /// That a peer's share cannot be used.
    pub(super) const fn bad_share(self, share: &[u8]) -> Error {
        Error::BadShare { method: self.name(), bytes: share.len() }
    }
}

/// How shares are made and turned into a secret.
pub(super) enum Scheme {
    MlKem,
    Curve25519,
    Ecdh(Curve),
    Group(Group),
}

impl Scheme {
    /// Client side: makes the share to send, and what is needed to read the answer.
    pub(super) fn start(&self) -> Result<(Vec<u8>, Ephemeral), Error> {
        Ok(match self {
            Self::MlKem => {
                let (share, private) = mlkem::start()?;
                (share, Ephemeral::MlKem(private))
            }
            Self::Curve25519 => {
                let (share, private) = curve25519::start()?;
                (share, Ephemeral::Curve25519(private))
            }
            Self::Ecdh(curve) => {
                let (share, private) = ecdh::start(*curve)?;
                (share, Ephemeral::Ecdh(private))
            }
            Self::Group(group) => {
                let (share, private) = group.start()?;
                (share, Ephemeral::Group(private))
            }
        })
    }

    /// Server side: makes the share to send, and the secret; none if the client's share is
    /// malformed or degenerate.
    pub(super) fn answer(
        &self,
        client_share: &[u8],
    ) -> Result<Option<(Vec<u8>, SharedSecret)>, Error> {
        match self {
            Self::MlKem => mlkem::answer(client_share),
            Self::Curve25519 => curve25519::answer(client_share),
            Self::Ecdh(curve) => ecdh::answer(*curve, client_share),
            Self::Group(group) => group.answer(client_share),
        }
    }
}

/// What the client keeps between its share and the server's.
pub(super) enum Ephemeral {
    Curve25519(curve25519::Private),
    MlKem(Box<mlkem::Private>),
    Ecdh(ecdh::Private),
    Group(Box<group::Private>),
}

impl Ephemeral {
    /// Client side: makes the secret; none if the server's share is malformed or degenerate.
    pub(super) fn finish(self, server_share: &[u8]) -> Option<SharedSecret> {
        match self {
            Self::Curve25519(private) => curve25519::finish(private, server_share),
            Self::MlKem(private) => mlkem::finish(*private, server_share),
            Self::Ecdh(private) => ecdh::finish(private, server_share),
            Self::Group(private) => group::finish(&private, server_share),
        }
    }
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

    /// Every method with the scheme it has, or would have with the group we ask for.
    fn schemes() -> impl Iterator<Item = (&'static str, Scheme)> {
        KexMethod::ALL.into_iter().map(|method| {
            let ours = || Scheme::Group(gex::Request::OURS.choose().unwrap());
            (method.name(), method.scheme().unwrap_or_else(ours))
        })
    }

    #[test]
    fn both_sides_get_the_same_secret_and_every_time_another() {
        for (method, scheme) in schemes() {
            let exchange = || {
                let (client_share, ephemeral) = scheme.start().unwrap();
                let (server_share, at_server) = scheme.answer(&client_share).unwrap().unwrap();
                let at_client = ephemeral.finish(&server_share).unwrap();
                assert_eq!(at_client.encoded(), at_server.encoded(), "{method}");
                at_client.encoded().to_vec()
            };
            assert_ne!(exchange(), exchange(), "{method}");
        }
    }

    #[test]
    fn shares_of_wrong_length_are_refused() {
        for (method, scheme) in schemes() {
            // In a prime field a shorter number is as good as another.
            let fixed_length = !matches!(scheme, Scheme::Group(_));
            let (client_share, ephemeral) = scheme.start().unwrap();
            let (server_share, _secret) = scheme.answer(&client_share).unwrap().unwrap();
            drop(ephemeral);
            for share in cuts(&client_share, fixed_length) {
                let answer = scheme.answer(&share).unwrap();
                assert!(answer.is_none(), "{method}: {} bytes", share.len());
            }
            for share in cuts(&server_share, fixed_length) {
                let (_share, ephemeral) = scheme.start().unwrap();
                assert!(ephemeral.finish(&share).is_none(), "{method}: {} bytes", share.len());
            }
        }
    }

    fn cuts(share: &[u8], fixed_length: bool) -> Vec<Vec<u8>> {
        let mut cuts = vec![Vec::new(), vec![7; 200_000]];
        if fixed_length {
            cuts.extend([share[1..].to_vec(), [share, &[0]].concat()]);
        }
        cuts
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
            for scheme in [Scheme::MlKem, Scheme::Curve25519] {
                let (client_share, _ephemeral) = scheme.start().unwrap();
                let (server_share, _secret) = scheme.answer(&client_share).unwrap().unwrap();
                let bad = |share: &[u8]| [&share[..share.len() - 32], &point].concat();
                assert!(scheme.answer(&bad(&client_share)).unwrap().is_none(), "{case}");
                let (_share, ephemeral) = scheme.start().unwrap();
                assert!(ephemeral.finish(&bad(&server_share)).is_none(), "{case}");
            }
        }
    }

    /// An encapsulation key whose coefficients exceed the modulus (FIPS 203 section 7.2).
    #[test]
    fn an_ml_kem_key_out_of_range_is_refused() {
        let (client_share, _ephemeral) = Scheme::MlKem.start().unwrap();
        let bad = [&[0xff; 1152], &client_share[1152..]].concat();
        assert!(Scheme::MlKem.answer(&bad).unwrap().is_none());
    }

    /// Points beside the curve, at infinity, and in forms that RFC 5656 does not have.
    #[test]
    fn degenerate_ecdh_shares_are_refused() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            let scheme = Scheme::Ecdh(curve);
            let (good, _ephemeral) = scheme.start().unwrap();
            let coordinate = (good.len() - 1) / 2;
            let mut beside = good.clone();
            *beside.last_mut().unwrap() ^= 1;
            let mut hybrid = good.clone();
            hybrid[0] = 6 | (good[good.len() - 1] & 1);
            let compressed = [&[2 | (good[good.len() - 1] & 1)], &good[1..=coordinate]].concat();
            let origin = [&[4], vec![0; 2 * coordinate].as_slice()].concat();
            let cases = [
                ("beside the curve", beside),
                ("hybrid", hybrid),
                ("compressed", compressed),
                ("infinity", vec![0]),
                ("origin", origin),
            ];
            for (case, share) in cases {
                assert!(scheme.answer(&share).unwrap().is_none(), "{curve:?}: {case}");
                let (_share, ephemeral) = scheme.start().unwrap();
                assert!(ephemeral.finish(&share).is_none(), "{curve:?}: {case}");
            }
            assert!(scheme.answer(&good).unwrap().is_some());
        }
    }
}
