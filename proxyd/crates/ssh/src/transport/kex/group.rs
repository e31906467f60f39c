//! Diffie-Hellman over a prime field (RFC 4253 section 8, RFC 8268): fixed groups, and those that a
//! server chooses.

use std::borrow::Cow;

use aws_lc_rs::error::Unspecified;
use aws_lc_rs::rand;
use crypto_bigint::modular::{BoxedMontyForm, BoxedMontyParams};
use crypto_bigint::{BoxedUint, Odd};
use zeroize::Zeroizing;

use crate::cursor::{Writer, unsigned};
use crate::error::Error;
use crate::limits::{GROUP_BITS_MAX, GROUP_BITS_MIN};
use crate::transport::kex::SharedSecret;

/// A prime field and a generator; both most significant byte first, without leading zeros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::transport) struct Group {
    prime: Cow<'static, [u8]>,
    generator: Cow<'static, [u8]>,
}

/// The secret exponent of a share, and its group.
pub(in crate::transport) struct Private {
    group: Group,
    exponent: Exponent,
}

impl Group {
    /// One of the groups that RFC 2409 and RFC 3526 print.
    pub(super) const fn fixed(prime: &'static [u8]) -> Self {
        Self { prime: Cow::Borrowed(prime), generator: Cow::Borrowed(&[2]) }
    }

    /// A group that a server sent.
    ///
    /// Fails unless the modulus is odd and has 2048 to 8192 bits, and the generator is from 2 to
    /// p - 2. Whether the modulus is prime is for the server to know: its signature covers it.
    pub(in crate::transport) fn received(prime: &[u8], generator: &[u8]) -> Result<Self, Error> {
        let bits = bits(prime);
        if !(GROUP_BITS_MIN..=GROUP_BITS_MAX).contains(&bits) {
            return Err(Error::GroupSize { bits, min: GROUP_BITS_MIN, max: GROUP_BITS_MAX });
        }
        let odd = prime.last().is_some_and(|last| last % 2 == 1);
        let group = Self { prime: prime.to_vec().into(), generator: generator.to_vec().into() };
        if odd && group.is_inner(generator) { Ok(group) } else { Err(Error::GroupValues { bits }) }
    }

    /// The modulus.
    pub(in crate::transport) fn prime(&self) -> &[u8] {
        &self.prime
    }

    /// The generator.
    pub(in crate::transport) fn generator(&self) -> &[u8] {
        &self.generator
    }

    /// Bits of the modulus.
    pub(super) fn bits(&self) -> usize {
        bits(&self.prime)
    }

    /// Makes a share, the body of an mpint.
    pub(super) fn start(&self) -> Result<(Vec<u8>, Box<Private>), Error> {
        let mut exponent = Exponent::new([0; EXPONENT_BYTES]);
        rand::fill(exponent.as_mut_slice())
            .map_err(|source| Error::Crypto { operation: "drawing an exponent", source })?;
        let share = self.power(&self.generator, &exponent).ok_or(Error::Crypto {
            operation: "making a diffie-hellman key",
            source: Unspecified,
        })?;
        let mut writer = Writer::new();
        writer.mpint(&share.to_be_bytes());
        let body = writer.as_bytes().get(LENGTH_BYTES..).unwrap_or_default().to_vec();
        Ok((body, Box::new(Private { group: self.clone(), exponent })))
    }

    /// Makes a share and the secret from the client's share; none if that is out of range.
    pub(super) fn answer(
        &self,
        client_share: &[u8],
    ) -> Result<Option<(Vec<u8>, SharedSecret)>, Error> {
        // What costs nothing comes first.
        if self.public(client_share).is_none() {
            return Ok(None);
        }
        let (share, private) = self.start()?;
        Ok(finish(&private, client_share).map(|secret| (share, secret)))
    }

    /// The number in a peer's share, if 1 < number < p - 1 (RFC 8268 section 4).
    fn public<'a>(&self, share: &'a [u8]) -> Option<&'a [u8]> {
        let number = unsigned(share).ok()?;
        self.is_inner(number).then_some(number)
    }

    /// Whether 1 < number < p - 1, the numbers whose powers do not tell the exponent.
    fn is_inner(&self, number: &[u8]) -> bool {
        let Some((last, head)) = self.prime.split_last() else { return false };
        let minus_one = [head, &[last & !1]].concat();
        // Without leading zeros the longer one is the larger one.
        let below = (number.len(), number) < (minus_one.len(), minus_one.as_slice());
        !matches!(number, [] | [0, ..] | [1]) && below
    }

    /// base ^ exponent modulo the prime, in a time that depends on their lengths alone; none if
    /// one of them is no number of the group.
    fn power(&self, base: &[u8], exponent: &Exponent) -> Option<Zeroizing<BoxedUint>> {
        let precision = u32::try_from(self.prime.len() * 8).ok()?;
        let modulus = BoxedUint::from_be_slice(&self.prime, precision).ok()?;
        let parameters =
            BoxedMontyParams::new_vartime(Option::<Odd<BoxedUint>>::from(modulus.into_odd())?);
        let base = BoxedUint::from_be_slice(base, precision).ok()?;
        let exponent = BoxedUint::from_be_slice(exponent.as_slice(), EXPONENT_BITS).ok()?;
        let exponent = Zeroizing::new(exponent);
        let base = BoxedMontyForm::new(base, &parameters);
        let power = Zeroizing::new(base.pow_bounded_exp(&exponent, EXPONENT_BITS));
        Some(Zeroizing::new(power.retrieve()))
    }
}

/// Makes the secret from the peer's share; none if that is out of range.
pub(super) fn finish(private: &Private, peer_share: &[u8]) -> Option<SharedSecret> {
    let number = private.group.public(peer_share)?;
    let secret = private.group.power(number, &private.exponent)?;
    Some(SharedSecret::number(&Zeroizing::new(secret.to_be_bytes())))
}

/// Bits of a secret exponent: twice the strength of the largest hash here (RFC 8268 section 4 asks
/// for twice the strength of the group, which is 200 bits for the largest).
const EXPONENT_BITS: u32 = 512;

/// The same in bytes.
const EXPONENT_BYTES: usize = 64;

type Exponent = Zeroizing<[u8; EXPONENT_BYTES]>;

/// Bytes of the length of an mpint.
const LENGTH_BYTES: usize = 4;

/// Bits of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    let unused = number.first().map_or(0, |byte| byte.leading_zeros());
    number.len() * 8 - usize::try_from(unused).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::kex::primes::{MODP_2048, MODP_3072, MODP_4096, MODP_8192, OAKLEY_2};

    const GROUPS: [(&str, &[u8], usize); 5] = [
        ("1", &OAKLEY_2, 1024),
        ("14", &MODP_2048, 2048),
        ("15", &MODP_3072, 3072),
        ("16", &MODP_4096, 4096),
        ("18", &MODP_8192, 8192),
    ];

    fn power(prime: &[u8], exponent: &[u8]) -> BoxedUint {
        let precision = u32::try_from(prime.len() * 8).unwrap();
        let number = |bytes: &[u8]| BoxedUint::from_be_slice(bytes, precision).unwrap();
        let parameters = BoxedMontyParams::new_vartime(number(prime).into_odd().unwrap());
        BoxedMontyForm::new(number(&[2]), &parameters).pow(&number(exponent)).retrieve()
    }

    /// All ones at both ends and two of them safe by Fermat's test: a wrong digit would show.
    #[test]
    fn the_fixed_primes_are_safe_primes() {
        for (group, prime, bits) in GROUPS {
            assert_eq!(Group::fixed(prime).bits(), bits, "group {group}");
            assert!(prime.starts_with(&[0xff; 8]) && prime.ends_with(&[0xff; 8]));
            let mut minus_one = prime.to_vec();
            *minus_one.last_mut().unwrap() -= 1;
            // 2 is a square modulo each of them, so that half the exponent does.
            let mut carry = 0;
            let half: Vec<u8> = minus_one
                .iter()
                .map(|byte| {
                    let shifted = carry | (byte >> 1);
                    carry = byte << 7;
                    shifted
                })
                .collect();
            assert!(bool::from(power(prime, &half).is_one()), "group {group}");
            assert!(bool::from(power(prime, &minus_one).is_one()), "group {group}");
        }
    }

    #[test]
    fn shares_out_of_range_are_refused() {
        let group = Group::fixed(&MODP_2048);
        let (mut minus_one, mut minus_two) = (MODP_2048.to_vec(), MODP_2048.to_vec());
        minus_one[255] -= 1;
        minus_two[255] -= 2;
        let signed = |number: &[u8]| [&[0], number].concat();
        let cases: [(&str, Vec<u8>, bool); 11] = [
            ("0", vec![], false),
            ("0 as a byte", vec![0], false),
            ("1", vec![1], false),
            ("2", vec![2], true),
            ("p - 2", signed(&minus_two), true),
            ("p - 1", signed(&minus_one), false),
            ("p", signed(&MODP_2048), false),
            ("negative", minus_two.clone(), false),
            ("padded", vec![0, 2], false),
            ("longer than p", [[1].as_slice(), &MODP_2048].concat(), false),
            ("longest", vec![0x7f; 2049], false),
        ];
        for (case, share, legal) in cases {
            assert_eq!(group.answer(&share).unwrap().is_some(), legal, "answer to {case}");
            let (_share, private) = group.start().unwrap();
            assert_eq!(finish(&private, &share).is_some(), legal, "finish with {case}");
        }
    }

    #[test]
    fn groups_of_a_server_are_checked() {
        let even = {
            let mut even = MODP_2048.to_vec();
            even[255] -= 1;
            even
        };
        let minus_one = even.clone();
        let minus_two = {
            let mut below = even.clone();
            below[255] -= 1;
            below
        };
        let short = {
            let mut short = MODP_2048.to_vec();
            short[0] = 0x7f;
            short
        };
        let long = [&[1], MODP_8192.as_slice()].concat();
        let cases: [(&str, &[u8], &[u8], bool); 11] = [
            ("group 14", &MODP_2048, &[2], true),
            ("group 18, generator 5", &MODP_8192, &[5], true),
            ("generator p - 2", &MODP_2048, &minus_two, true),
            ("generator 0", &MODP_2048, &[], false),
            ("generator 1", &MODP_2048, &[1], false),
            ("generator p - 1", &MODP_2048, &minus_one, false),
            ("generator p", &MODP_2048, &MODP_2048, false),
            ("even modulus", &even, &[2], false),
            ("1024 bits", &OAKLEY_2, &[2], false),
            ("2047 bits", &short, &[2], false),
            ("8193 bits", &long, &[2], false),
        ];
        for (case, prime, generator, legal) in cases {
            assert_eq!(Group::received(prime, generator).is_ok(), legal, "{case}");
        }
        assert!(Group::received(&[], &[]).is_err());
    }
}
