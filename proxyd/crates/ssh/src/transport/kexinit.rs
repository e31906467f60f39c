//! Algorithm lists and their negotiation (RFC 4253 section 7.1), strict key exchange, and extensions (RFC 8308).

use aws_lc_rs::rand;

use crate::cursor::{NameList, Reader, Writer};
use crate::error::{DecodeError, Error, printable};
use crate::limits::EXTENSIONS_MAX;
use crate::transport::hostkey::KeyAlgorithm;
use crate::transport::kex::KexMethod;
use crate::transport::number::{EXT_INFO, KEXINIT};
use crate::transport::protect::Cipher;

/// The algorithms one side allows, each list in order of preference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Algorithms {
    /// Key exchange methods.
    pub kex: Vec<KexMethod>,
    /// Host key algorithms: what a server may sign with, or a client accepts.
    pub host_keys: Vec<KeyAlgorithm>,
    /// Ciphers, for both directions.
    pub ciphers: Vec<Cipher>,
}

impl Algorithms {
    /// Everything there is, in the order recommended.
    #[must_use]
    pub fn recommended() -> Self {
        Self {
            kex: KexMethod::ALL.to_vec(),
            host_keys: KeyAlgorithm::ALL.to_vec(),
            ciphers: Cipher::ALL.to_vec(),
        }
    }
}

/// What two sides agreed on, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiated {
    /// Key exchange method.
    pub kex: &'static str,
    /// Host key algorithm.
    pub host_key: &'static str,
    /// Cipher from client to server; it authenticates too, so there is no MAC.
    pub cipher_to_server: &'static str,
    /// Cipher from server to client.
    pub cipher_to_client: &'static str,
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
    pub(super) host_key: KeyAlgorithm,
    pub(super) to_server: Cipher,
    pub(super) to_client: Cipher,
    /// The peer sent a share along with its lists, for other algorithms: that message is to be dropped.
    pub(super) wrong_guess: bool,
}

/// A peer's `SSH_MSG_KEXINIT`.
#[derive(Debug, Clone, Copy)]
pub(super) struct KexInit<'a> {
    kex: NameList<'a>,
    host_keys: NameList<'a>,
    ciphers_to_server: NameList<'a>,
    ciphers_to_client: NameList<'a>,
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
        // The ciphers here authenticate by themselves, so the MAC lists do not count.
        reader.name_list("mac_algorithms_client_to_server")?;
        reader.name_list("mac_algorithms_server_to_client")?;
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
            compression_to_server,
            compression_to_client,
            guess_follows,
        })
    }

    /// Whether the peer, on the side opposite to ours, offers strict key exchange (OpenSSH's PROTOCOL, section 1.10).
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
        let host_key =
            agree("host key algorithm", &ours.host_keys, KeyAlgorithm::name, self.host_keys, side)?;
        let cipher = |what, list| agree(what, &ours.ciphers, Cipher::name, list, side);
        let guessed_right =
            ours.kex.first().is_some_and(|first| self.kex.first() == Some(first.name().as_bytes()))
                && ours
                    .host_keys
                    .first()
                    .is_some_and(|first| self.host_keys.first() == Some(first.name().as_bytes()));
        Ok(Choice {
            kex,
            host_key,
            to_server: cipher("cipher to the server", self.ciphers_to_server)?,
            to_client: cipher("cipher to the client", self.ciphers_to_client)?,
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
    let host_keys: Vec<&str> = ours.host_keys.iter().map(|algorithm| algorithm.name()).collect();
    let ciphers: Vec<&str> = ours.ciphers.iter().map(|cipher| cipher.name()).collect();
    let none: [&str; 0] = [];
    let mut writer = Writer::message(KEXINIT);
    writer
        .raw(&cookie)
        .name_list(&kex)
        .name_list(&host_keys)
        .name_list(&ciphers)
        .name_list(&ciphers)
        .name_list(&MACS)
        .name_list(&MACS)
        .name_list(&[NO_COMPRESSION])
        .name_list(&[NO_COMPRESSION])
        .name_list(&none)
        .name_list(&none)
        .bool(false)
        .u32(0);
    Ok(writer.into_bytes())
}

/// Our `SSH_MSG_EXT_INFO`: that we answer pings and, as a server, what signatures client keys may make.
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

/// Nothing is compressed: it would cost memory before authentication and tell lengths of secrets after it.
const NO_COMPRESSION: &str = "none";

/// Offered because some peers refuse an empty list; never used, as every cipher here authenticates by itself.
const MACS: [&str; 2] = ["hmac-sha2-256-etm@openssh.com", "hmac-sha2-256"];

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
