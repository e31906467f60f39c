//! Algorithm lists and their negotiation (RFC 4253 section 7.1), strict key exchange, and
//! extensions (RFC 8308).

use aws_lc_rs::rand;

use crate::cursor::{NameList, Reader, Writer};
use crate::error::{DecodeError, Error, printable};
use crate::limits::EXTENSIONS_MAX;
use crate::transport::algorithms::{Algorithms, Shown};
use crate::transport::kex::KexMethod;
use crate::transport::number::{EXT_INFO, KEXINIT};
use crate::transport::protect::{Cipher, Mac, Suite};
use crate::transport::signature::KeyAlgorithm;

/// What two sides agreed on, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// Key exchange method.
    pub kex: &'static str,
    /// Host key algorithm.
    pub host_key: &'static str,
    /// Cipher from client to server.
    pub cipher_to_server: &'static str,
    /// Cipher from server to client.
    pub cipher_to_client: &'static str,
    /// MAC from client to server; none where the cipher authenticates by itself.
    pub mac_to_server: Option<&'static str>,
    /// MAC from server to client.
    pub mac_to_client: Option<&'static str>,
    /// Whether strict key exchange protects against prefix truncation; `false` deserves a warning.
    pub strict: bool,
}

/// Which side we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Server,
}

/// What two sides agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) kex: KexMethod,
    pub(super) host_key: Shown,
    pub(super) to_server: Suite,
    pub(super) to_client: Suite,
    /// The peer sent a share along with its lists, for other algorithms: that message is to be
    /// dropped.
    pub(super) wrong_guess: bool,
}

/// A peer's `SSH_MSG_KEXINIT`.
#[derive(Debug, Clone, Copy)]
pub(super) struct KexInit<'a> {
    kex: NameList<'a>,
    host_keys: NameList<'a>,
    ciphers_to_server: NameList<'a>,
    ciphers_to_client: NameList<'a>,
    macs_to_server: NameList<'a>,
    macs_to_client: NameList<'a>,
    compression_to_server: NameList<'a>,
    compression_to_client: NameList<'a>,
    guess_follows: bool,
}

impl<'a> KexInit<'a> {
    /// Reads the whole message, its number included.
    pub(super) fn parse(payload: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(payload);
        reader.u8("message number")?;
        reader.array::<COOKIE_BYTES>("cookie")?;
        let kex = reader.name_list("kex_algorithms")?;
        let host_keys = reader.name_list("server_host_key_algorithms")?;
        let ciphers_to_server = reader.name_list("encryption_algorithms_client_to_server")?;
        let ciphers_to_client = reader.name_list("encryption_algorithms_server_to_client")?;
        let macs_to_server = reader.name_list("mac_algorithms_client_to_server")?;
        let macs_to_client = reader.name_list("mac_algorithms_server_to_client")?;
        let compression_to_server = reader.name_list("compression_algorithms_client_to_server")?;
        let compression_to_client = reader.name_list("compression_algorithms_server_to_client")?;
        reader.string("languages_client_to_server")?;
        reader.string("languages_server_to_client")?;
        let guess_follows = reader.bool("first_kex_packet_follows")?;
        reader.u32("reserved")?;
        reader.finish()?;
        Ok(Self {
            kex,
            host_keys,
            ciphers_to_server,
            ciphers_to_client,
            macs_to_server,
            macs_to_client,
            compression_to_server,
            compression_to_client,
            guess_follows,
        })
    }

    /// Whether the peer, on the side opposite to ours, offers strict key exchange (OpenSSH's
    /// PROTOCOL, section 1.10).
    pub(super) fn is_strict(&self, ours: Side) -> bool {
        let marker = match ours {
            Side::Client => STRICT_SERVER,
            Side::Server => STRICT_CLIENT,
        };
        self.kex.contains(marker.as_bytes())
    }

    /// Whether the peer reads extensions.
    pub(super) fn wants_extensions(&self, ours: Side) -> bool {
        let marker = match ours {
            Side::Client => EXTENSIONS_SERVER,
            Side::Server => EXTENSIONS_CLIENT,
        };
        self.kex.contains(marker.as_bytes())
    }

    /// Agrees on algorithms: of the client's list the first that the server has too.
    pub(super) fn negotiate(&self, ours: &Algorithms, side: Side) -> Result<Choice, Error> {
        for list in [self.compression_to_server, self.compression_to_client] {
            agree("compression", &[NO_COMPRESSION], |name| name, list, side)?;
        }
        let kex = agree("key exchange method", &ours.kex, KexMethod::name, self.kex, side)?;
        let shows = ours.shows();
        let host_key = agree("host key algorithm", &shows, Shown::name, self.host_keys, side)?;
        let suite = |[cipher_what, mac_what]: [&'static str; 2], [ciphers, macs]: [_; 2]| {
            let cipher = agree(cipher_what, &ours.ciphers, Cipher::name, ciphers, side)?;
            // A cipher that authenticates by itself leaves the MAC lists without meaning, and they
            // may have nothing in common then.
            Suite::new(cipher, || agree(mac_what, &ours.macs, Mac::name, macs, side))
        };
        let guessed_right =
            ours.kex.first().is_some_and(|first| self.kex.first() == Some(first.name().as_bytes()))
                && shows
                    .first()
                    .is_some_and(|first| self.host_keys.first() == Some(first.name().as_bytes()));
        Ok(Choice {
            kex,
            host_key,
            to_server: suite(
                ["cipher to the server", "mac to the server"],
                [self.ciphers_to_server, self.macs_to_server],
            )?,
            to_client: suite(
                ["cipher to the client", "mac to the client"],
                [self.ciphers_to_client, self.macs_to_client],
            )?,
            wrong_guess: self.guess_follows && !guessed_right,
        })
    }
}

/// Whether an `SSH_MSG_KEXINIT` is the first of its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Round {
    /// The first one, which also says what extensions of the protocol we speak.
    First,
    /// A later one.
    Later,
}

/// Our `SSH_MSG_KEXINIT`, with its number.
pub(super) fn compose(ours: &Algorithms, side: Side, round: Round) -> Result<Vec<u8>, Error> {
    let mut cookie = [0; COOKIE_BYTES];
    rand::fill(&mut cookie)
        .map_err(|source| Error::Crypto { operation: "drawing a cookie", source })?;
    let mut kex: Vec<&str> = ours.kex.iter().map(|method| method.name()).collect();
    match (round, side) {
        (Round::First, Side::Client) => kex.extend([EXTENSIONS_CLIENT, STRICT_CLIENT]),
        (Round::First, Side::Server) => kex.extend([EXTENSIONS_SERVER, STRICT_SERVER]),
        (Round::Later, Side::Client | Side::Server) => {}
    }
    let host_keys: Vec<&str> = ours.shows().into_iter().map(Shown::name).collect();
    let ciphers: Vec<&str> = ours.ciphers.iter().map(|cipher| cipher.name()).collect();
    let macs: Vec<&str> = ours.macs.iter().map(|mac| mac.name()).collect();
    let none: [&str; 0] = [];
    let mut writer = Writer::message(KEXINIT);
    writer
        .raw(&cookie)
        .name_list(&kex)
        .name_list(&host_keys)
        .name_list(&ciphers)
        .name_list(&ciphers)
        .name_list(&macs)
        .name_list(&macs)
        .name_list(&[NO_COMPRESSION])
        .name_list(&[NO_COMPRESSION])
        .name_list(&none)
        .name_list(&none)
        .bool(false)
        .u32(0);
    Ok(writer.into_bytes())
}

/// Our `SSH_MSG_EXT_INFO`: that we answer pings and, as a server, what signatures client keys may
/// make.
pub(super) fn extensions(side: Side, sig_algs: &[KeyAlgorithm]) -> Vec<u8> {
    let mut writer = Writer::message(EXT_INFO);
    match side {
        Side::Server => {
            let names: Vec<&str> = sig_algs.iter().map(|algorithm| algorithm.name()).collect();
            writer.u32(2).string(SIG_ALGS).name_list(&names);
        }
        Side::Client => {
            writer.u32(1);
        }
    }
    writer.string(PING).string(b"0");
    writer.into_bytes()
}

/// The value of `server-sig-algs` in a peer's `SSH_MSG_EXT_INFO`, if it is there.
pub(super) fn sig_algs_of(payload: &[u8]) -> Result<Option<NameList<'_>>, Error> {
    let mut reader = Reader::new(payload);
    reader.u8("message number")?;
    let count = reader.u32("nr-extensions")?;
    if usize::try_from(count).unwrap_or(usize::MAX) > EXTENSIONS_MAX {
        return Err(Error::TooManyExtensions { count, limit: EXTENSIONS_MAX });
    }
    let mut found = None;
    for _ in 0..count {
        if reader.string("extension-name")? == SIG_ALGS {
            found = Some(reader.name_list("server-sig-algs")?);
        } else {
            reader.string("extension-value")?;
        }
    }
    reader.finish()?;
    Ok(found)
}

/// Bytes of the cookie.
const COOKIE_BYTES: usize = 16;

const STRICT_CLIENT: &str = "kex-strict-c-v00@openssh.com";
const STRICT_SERVER: &str = "kex-strict-s-v00@openssh.com";
const EXTENSIONS_CLIENT: &str = "ext-info-c";
const EXTENSIONS_SERVER: &str = "ext-info-s";

/// Nothing is compressed: it would cost memory before authentication and tell lengths of secrets
/// after it.
const NO_COMPRESSION: &str = "none";

const SIG_ALGS: &[u8] = b"server-sig-algs";
const PING: &[u8] = b"ping@openssh.com";

/// Bytes of a peer's list that are shown in an error.
const SHOWN_BYTES: usize = 256;

/// Of the client's list the first that the server has too; `name` gives our names.
fn agree<T: Copy>(
    what: &'static str,
    ours: &[T],
    name: fn(T) -> &'static str,
    theirs: NameList<'_>,
    side: Side,
) -> Result<T, Error> {
    let named = |wanted: &[u8]| ours.iter().find(|&&item| name(item).as_bytes() == wanted);
    let found = match side {
        Side::Client => ours.iter().find(|&&item| theirs.contains(name(item).as_bytes())),
        Side::Server => theirs.iter().find_map(named),
    };
    let offered = || printable(theirs.as_bytes(), SHOWN_BYTES);
    found.copied().ok_or_else(|| Error::NoCommon { what, offered: offered() })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A KEXINIT with these lists: key exchange, host keys, ciphers both ways, compression both
    /// ways, and MACs both ways.
    fn init(lists: [&str; 8], guess: bool) -> Vec<u8> {
        let [kex, host_keys, to_server, to_client, zip_to_server, zip_to_client, macs @ ..] = lists;
        let [mac_to_server, mac_to_client] = macs;
        let mut writer = Writer::message(KEXINIT);
        writer.raw(&[0; COOKIE_BYTES]);
        let ciphers = [kex, host_keys, to_server, to_client];
        let others = [mac_to_server, mac_to_client, zip_to_server, zip_to_client, "", ""];
        for list in ciphers.into_iter().chain(others) {
            writer.string(list.as_bytes());
        }
        writer.bool(guess).u32(0);
        writer.into_bytes()
    }

    const CURVE: &str = "curve25519-sha256";
    const GCM: &str = "aes128-gcm@openssh.com";
    const GOOD: [&str; 8] = [CURVE, "ssh-ed25519", GCM, GCM, "none", "none", "", ""];

    fn with(index: usize, list: &str) -> Vec<u8> {
        let mut lists = GOOD;
        lists[index] = list;
        init(lists, false)
    }

    fn choose(payload: &[u8], side: Side) -> Result<Choice, Error> {
        KexInit::parse(payload)?.negotiate(&Algorithms::recommended(), side)
    }

    #[test]
    fn ours_is_read_back_and_agrees_with_itself() {
        for side in [Side::Client, Side::Server] {
            let other = if side == Side::Client { Side::Server } else { Side::Client };
            let payload = compose(&Algorithms::recommended(), side, Round::First).unwrap();
            let first = KexInit::parse(&payload).unwrap();
            assert!(first.is_strict(other) && first.wants_extensions(other));
            assert!(!first.is_strict(side) && !first.wants_extensions(side));
            let choice = first.negotiate(&Algorithms::recommended(), other).unwrap();
            assert_eq!(
                (choice.kex, choice.to_client.cipher()),
                (KexMethod::ALL[0], Cipher::ALL[0])
            );
            assert!(!choice.wrong_guess);
            let payload = compose(&Algorithms::recommended(), side, Round::Later).unwrap();
            let later = KexInit::parse(&payload).unwrap();
            assert!(!later.is_strict(other) && !later.wants_extensions(other));
        }
    }

    #[test]
    fn cookies_differ() {
        let cookie = || compose(&Algorithms::recommended(), Side::Client, Round::First).unwrap();
        assert_ne!(cookie(), cookie());
    }

    #[test]
    fn the_first_of_the_client_that_the_server_has_is_chosen() {
        let payload = init(
            [
                "x,curve25519-sha256,mlkem768x25519-sha256",
                "rsa-sha2-256,ssh-ed25519",
                "aes256-gcm@openssh.com,aes128-gcm@openssh.com",
                "aes128-gcm@openssh.com,x,chacha20-poly1305@openssh.com",
                "zlib,none",
                "none",
                "",
                "",
            ],
            false,
        );
        let choice = choose(&payload, Side::Server).unwrap();
        assert_eq!(choice.kex, KexMethod::Curve25519);
        assert_eq!(choice.host_key, Shown::Key(KeyAlgorithm::RsaSha256));
        assert_eq!(choice.to_server.cipher(), Cipher::Aes256Gcm);
        assert_eq!(choice.to_client.cipher(), Cipher::Aes128Gcm);
        let choice = choose(&payload, Side::Client).unwrap();
        assert_eq!(choice.kex, KexMethod::MlKem768X25519);
        assert_eq!(choice.host_key, Shown::Key(KeyAlgorithm::Ed25519));
        assert_eq!(choice.to_server.cipher(), Cipher::Aes128Gcm);
        assert_eq!(choice.to_client.cipher(), Cipher::Aes128Gcm);
    }

    #[test]
    fn macs_count_only_with_a_cipher_that_needs_one() {
        let sha1 = "hmac-sha1";
        let with = |ciphers, macs| {
            init([CURVE, "ssh-ed25519", ciphers, GCM, "none", "none", macs, ""], false)
        };
        let cases = [
            ("authenticates by itself", GCM, "", Some(None)),
            ("and has a list without meaning", GCM, sha1, Some(None)),
            ("needs one", "aes128-ctr", "x,hmac-sha2-256", Some(Some(Mac::HmacSha256))),
            ("has none", "aes128-ctr", "", None),
            ("has a weak one", "aes256-ctr", sha1, None),
        ];
        for (case, ciphers, macs, expected) in cases {
            for side in [Side::Client, Side::Server] {
                let choice = choose(&with(ciphers, macs), side);
                assert_eq!(choice.as_ref().ok().map(|c| c.to_server.mac()), expected, "{case}");
                if let Err(error) = choice {
                    let named = matches!(error, Error::NoCommon { what: "mac to the server", .. });
                    assert!(named, "{case}: {error}");
                }
            }
        }
    }

    #[test]
    fn lists_without_a_common_algorithm_are_refused() {
        let cases = [
            ("no method", 0, "diffie-hellman-group1-sha1", "key exchange method"),
            ("markers only", 0, "ext-info-c,kex-strict-c-v00@openssh.com", "key exchange method"),
            ("empty methods", 0, "", "key exchange method"),
            ("no host key", 1, "ssh-dss", "host key algorithm"),
            ("no cipher", 2, "aes128-cbc,none", "cipher to the server"),
            ("no cipher back", 3, "3des-cbc", "cipher to the client"),
            ("compressed only", 4, "zlib@openssh.com", "compression"),
            ("compressed only back", 5, "zlib", "compression"),
        ];
        for (case, index, list, expected) in cases {
            for side in [Side::Client, Side::Server] {
                let failure = choose(&with(index, list), side).unwrap_err();
                let Error::NoCommon { what, .. } = &failure else { panic!("{case}: {failure}") };
                assert_eq!(*what, expected, "{case}");
            }
        }
    }

    #[test]
    fn a_guess_is_wrong_unless_both_first_names_are_ours() {
        let cases = [
            ("no guess", false, CURVE, "ssh-ed25519", false),
            ("other method first", true, CURVE, "ssh-ed25519", true),
            ("other host key first", true, "mlkem768x25519-sha256", "rsa-sha2-512", true),
            ("right", true, "mlkem768x25519-sha256", "ssh-ed25519,rsa-sha2-512", false),
        ];
        for (case, guess, kex, host_keys, wrong) in cases {
            let payload = init([kex, host_keys, GCM, GCM, "none", "none", "", ""], guess);
            assert_eq!(choose(&payload, Side::Server).unwrap().wrong_guess, wrong, "{case}");
        }
    }

    #[test]
    fn malformed_lists_are_refused() {
        let huge = "a".repeat(35_000);
        let many = vec!["abc"; 10_000].join(",");
        for (case, list) in [("35 kB", huge.as_str()), ("10,000 names", &many), ("nul", "a\0b")] {
            for index in 0..GOOD.len() {
                assert!(KexInit::parse(&with(index, list)).is_err(), "{case} in list {index}");
            }
        }
        let good = init(GOOD, false);
        for length in 0..good.len() {
            assert!(KexInit::parse(&good[..length]).is_err(), "cut at {length}");
        }
        assert!(KexInit::parse(&[good.as_slice(), &[0]].concat()).is_err());
    }

    #[test]
    fn extensions_are_read_back() {
        let payload = extensions(Side::Server, &[KeyAlgorithm::Ed25519, KeyAlgorithm::RsaSha256]);
        let names = sig_algs_of(&payload).unwrap().unwrap();
        assert_eq!(names.as_bytes(), b"ssh-ed25519,rsa-sha2-256");
        assert_eq!(sig_algs_of(&extensions(Side::Client, &[])).unwrap(), None);
        for length in 0..payload.len() {
            assert!(sig_algs_of(&payload[..length]).is_err(), "cut at {length}");
        }
        assert!(sig_algs_of(&[payload.as_slice(), &[0]].concat()).is_err());
        let many = [EXT_INFO, 0xff, 0xff, 0xff, 0xff];
        assert!(matches!(sig_algs_of(&many), Err(Error::TooManyExtensions { .. })));
    }
}
