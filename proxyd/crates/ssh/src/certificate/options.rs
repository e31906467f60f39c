//! The options of a certificate: critical ones, which must be understood, and extensions, which may
//! be passed over.

use std::net::IpAddr;

use crate::certificate::{CertificateError, Kind};
use crate::cursor::Reader;
use crate::error::printable;
use crate::limits::{CERTIFICATE_OPTIONS_MAX, NAME_BYTES_MAX};

/// The name of the option with the only command that may be run.
pub(super) const FORCE_COMMAND: &str = "force-command";

/// The name of the option with the addresses of clients.
pub(super) const SOURCE_ADDRESS: &str = "source-address";

/// What a certificate demands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Critical {
    /// The only command that may be run.
    pub(super) force_command: Option<Vec<u8>>,
    /// Where clients may be; anywhere if there is no such option.
    source_addresses: Option<Vec<Prefix>>,
}

impl Critical {
    /// Reads critical options; fails on one that is not known, and on any of a host's, which have
    /// none.
    pub(super) fn parse(kind: Kind, packed: &[u8]) -> Result<Self, CertificateError> {
        let mut critical = Self::default();
        for (name, data) in options("critical options", packed)? {
            match (kind, std::str::from_utf8(name)) {
                (Kind::User, Ok(FORCE_COMMAND)) => {
                    critical.force_command = Some(argument(data)?.to_vec());
                }
                (Kind::User, Ok(SOURCE_ADDRESS)) => {
                    let list = argument(data)?.split(|&byte| byte == b',');
                    let prefixes = list.map(Prefix::parse).collect::<Result<_, _>>()?;
                    critical.source_addresses = Some(prefixes);
                }
                (Kind::User | Kind::Host, _) => {
                    let name = printable(name, NAME_BYTES_MAX);
                    return Err(CertificateError::UnknownOption { name });
                }
            }
        }
        Ok(critical)
    }

    /// Whether a client may be at this address.
    pub(super) fn allows(&self, client: IpAddr) -> bool {
        let within = |prefixes: &Vec<Prefix>| prefixes.iter().any(|prefix| prefix.holds(client));
        self.source_addresses.as_ref().is_none_or(within)
    }
}

/// The names of extensions.
pub(super) fn extensions(packed: &[u8]) -> Result<Vec<Vec<u8>>, CertificateError> {
    let options = options("extensions", packed)?;
    Ok(options.into_iter().map(|(name, _data)| name.to_vec()).collect())
}

/// Names and data, which come in ascending order of the names, each of them once.
fn options<'a>(
    what: &'static str,
    packed: &'a [u8],
) -> Result<Vec<(&'a [u8], &'a [u8])>, CertificateError> {
    let (mut reader, mut options) = (Reader::new(packed), Vec::<(&[u8], &[u8])>::new());
    while !reader.is_empty() {
        let option = (reader.string("option name")?, reader.string("option data")?);
        if options.last().is_some_and(|last| last.0 >= option.0) {
            return Err(CertificateError::Order { what });
        }
        if options.len() == CERTIFICATE_OPTIONS_MAX {
            return Err(CertificateError::TooMany { what, limit: CERTIFICATE_OPTIONS_MAX });
        }
        options.push(option);
    }
    Ok(options)
}

/// The one string within the data of an option.
fn argument(data: &[u8]) -> Result<&[u8], CertificateError> {
    let mut reader = Reader::new(data);
    let argument = reader.string("option argument")?;
    reader.finish()?;
    Ok(argument)
}

/// Addresses that start with the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Prefix {
    address: IpAddr,
    bits: u32,
}

impl Prefix {
    /// Reads an address, or a prefix whose other bits are zero, as OpenSSH demands it.
    fn parse(text: &[u8]) -> Result<Self, CertificateError> {
        let parsed = std::str::from_utf8(text).ok().and_then(|text| {
            let (address, bits) =
                text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
            let address: IpAddr = address.parse().ok()?;
            let most = width(address);
            let bits = bits.map_or(Some(most), |bits| bits.parse().ok())?;
            let prefix = Self { address, bits };
            let rest = high_bits(address).checked_shl(bits).unwrap_or_default();
            (bits <= most && rest == 0).then_some(prefix)
        });
        let refused = || CertificateError::SourceAddress { text: printable(text, NAME_BYTES_MAX) };
        parsed.ok_or_else(refused)
    }

    /// Whether an address is one of them; an IPv4 address within an IPv6 one is an IPv4 address.
    fn holds(self, address: IpAddr) -> bool {
        let (address, first) = (address.to_canonical(), self.address);
        let differing = high_bits(address) ^ high_bits(first);
        let same_start = differing.checked_shr(u128::BITS - self.bits).unwrap_or_default() == 0;
        width(address) == width(first) && same_start
    }
}

/// Bits of an address of its family.
const fn width(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

/// The bits of an address, first bit first.
fn high_bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << (u128::BITS - u32::BITS),
        IpAddr::V6(address) => address.to_bits(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes() {
        let cases = [
            ("192.0.2.0/24", "192.0.2.255", Some(true)),
            ("192.0.2.0/24", "192.0.3.0", Some(false)),
            ("192.0.2.0/24", "::ffff:192.0.2.7", Some(true)),
            ("192.0.2.7", "192.0.2.7", Some(true)),
            ("192.0.2.7", "192.0.2.8", Some(false)),
            ("0.0.0.0/0", "203.0.113.1", Some(true)),
            ("0.0.0.0/0", "2001:db8::1", Some(false)),
            ("::/0", "2001:db8::1", Some(true)),
            ("::/0", "192.0.2.1", Some(false)),
            ("2001:db8::/32", "2001:db8:ffff::", Some(true)),
            ("2001:db8::/32", "2001:db9::", Some(false)),
            ("2001:db8::1", "2001:db8::1", Some(true)),
            ("192.0.2.1/24", "192.0.2.1", None),
            ("192.0.2.0/33", "192.0.2.0", None),
            ("::/129", "::", None),
            ("192.0.2.0/", "192.0.2.0", None),
            ("192.0.2.0/-1", "192.0.2.0", None),
            ("", "192.0.2.0", None),
            ("*", "192.0.2.0", None),
            ("host", "192.0.2.0", None),
        ];
        for (prefix, address, expected) in cases {
            let holds = Prefix::parse(prefix.as_bytes());
            let holds = holds.ok().map(|prefix| prefix.holds(address.parse().unwrap()));
            assert_eq!(holds, expected, "{prefix} {address}");
        }
    }
}
