//! The messages before the shares of a group exchange (RFC 4419 section 3): how large a group the
//! client wants, and which one the server has.

use crate::cursor::{Reader, Writer};
use crate::error::{DecodeError, Error};
use crate::limits::{GROUP_BITS_MAX, GROUP_BITS_MIN};
use crate::transport::kex::group::Group;
use crate::transport::kex::primes::{MODP_2048, MODP_3072, MODP_4096};
use crate::transport::number::{GEX_GROUP, GEX_REQUEST};

/// The sizes a client takes, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::transport) struct Request {
    min: u32,
    preferred: u32,
    max: u32,
}

impl Request {
    /// What we ask for: 128 bits of strength, and whatever a server has from 2048 bits on.
    pub(in crate::transport) const OURS: Self =
        Self { min: bits(GROUP_BITS_MIN), preferred: 3072, max: bits(GROUP_BITS_MAX) };

    /// Reads `SSH_MSG_KEY_DH_GEX_REQUEST`.
    pub(in crate::transport) fn parse(payload: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        reader.u8("message number")?;
        let (min, preferred, max) = (reader.u32("min")?, reader.u32("n")?, reader.u32("max")?);
        reader.finish()?;
        Ok(Self { min, preferred, max })
    }

    /// The message with its number.
    pub(in crate::transport) fn encode(self) -> Vec<u8> {
        let mut writer = Writer::message(GEX_REQUEST);
        writer.raw(&self.fields());
        writer.into_bytes()
    }

    /// The server's choice: of the groups that the client takes the smallest that is as large as
    /// it prefers, else the largest.
    ///
    /// Fails where the client takes none of ours, or asks for a range that is none.
    pub(in crate::transport) fn choose(self) -> Result<Group, Error> {
        let Self { min, preferred, max } = self;
        let legal = min <= preferred && preferred <= max;
        let fits = |group: &&Group| {
            let bits = bits(group.bits());
            legal && (min..=max).contains(&bits)
        };
        let groups = OURS.map(Group::fixed);
        let fitting = || groups.iter().filter(fits);
        fitting()
            .find(|group| bits(group.bits()) >= preferred)
            .or_else(|| fitting().next_back())
            .cloned()
            .ok_or(Error::NoGroup { min, preferred, max })
    }

    /// What the exchange hash covers of request and group.
    pub(in crate::transport) fn hashed(self, group: &Group) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.raw(&self.fields()).mpint(group.prime()).mpint(group.generator());
        writer.into_bytes()
    }

    fn fields(self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u32(self.min).u32(self.preferred).u32(self.max);
        writer.into_bytes()
    }
}

/// `SSH_MSG_KEX_DH_GEX_GROUP` with its number.
pub(in crate::transport) fn encode_group(group: &Group) -> Vec<u8> {
    let mut writer = Writer::message(GEX_GROUP);
    writer.mpint(group.prime()).mpint(group.generator());
    writer.into_bytes()
}

/// Reads `SSH_MSG_KEX_DH_GEX_GROUP`; fails on a group that is not to be used.
pub(in crate::transport) fn parse_group(payload: &[u8]) -> Result<Group, Error> {
    let mut reader = Reader::new(payload);
    reader.u8("message number")?;
    let (prime, generator) = (reader.mpint("p")?, reader.mpint("g")?);
    reader.finish()?;
    Group::received(prime, generator)
}

/// What we have for clients, smallest first: a client can recognise these primes. Larger ones cost
/// four times as much, tens of milliseconds, before anybody has authenticated.
const OURS: [&[u8]; 3] = [&MODP_2048, &MODP_3072, &MODP_4096];

/// Bits of a group as the protocol writes them.
#[expect(clippy::cast_possible_truncation, reason = "thousands at most; try_from is not const")]
const fn bits(bits: usize) -> u32 {
    bits as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_group_that_is_preferred_is_chosen() {
        let cases = [
            ("what OpenSSH asks for with aes128", (2048, 3072, 8192), Some(3072)),
            ("and with chacha20", (2048, 8192, 8192), Some(4096)),
            ("between two", (1024, 2500, 8192), Some(3072)),
            ("smaller than ours", (1024, 1024, 8192), Some(2048)),
            ("exactly one", (4096, 4096, 4096), Some(4096)),
            ("prefers more than there is", (2048, 16_384, 16_384), Some(4096)),
            ("none within the range", (2100, 2200, 3000), None),
            ("all too small", (512, 1024, 1536), None),
            ("all too large", (9000, 9000, 9000), None),
            ("range upside down", (8192, 3072, 2048), None),
            ("preference out of range", (2048, 1024, 8192), None),
            ("zeros", (0, 0, 0), None),
            ("largest numbers", (u32::MAX, u32::MAX, u32::MAX), None),
        ];
        for (case, (min, preferred, max), expected) in cases {
            let chosen = Request { min, preferred, max }.choose();
            assert_eq!(chosen.ok().map(|group| group.bits()), expected, "{case}");
        }
    }

    #[test]
    fn messages_are_read_back_and_cut_anywhere_are_refused() {
        let request = Request::OURS.encode();
        assert_eq!(Request::parse(&request), Ok(Request::OURS));
        let group = Request::OURS.choose().unwrap();
        let sent = encode_group(&group);
        assert_eq!(parse_group(&sent).unwrap(), group);
        for length in 0..request.len() {
            assert!(Request::parse(&request[..length]).is_err(), "request cut at {length}");
        }
        for length in 0..sent.len() {
            assert!(parse_group(&sent[..length]).is_err(), "group cut at {length}");
        }
        assert!(Request::parse(&[request.as_slice(), &[0]].concat()).is_err());
        assert!(parse_group(&[sent.as_slice(), &[0]].concat()).is_err());
    }
}
