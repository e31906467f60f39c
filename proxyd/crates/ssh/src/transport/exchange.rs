//! The key exchange of a leg, in both roles: the first one and every later one (RFC 4253 sections 7
//! to 9).

use std::sync::Arc;
use std::time::Duration;

use crate::certificate::Certificate;
use crate::cursor::{Reader, Writer};
use crate::error::Error;
use crate::limits::EXCHANGES_BEFORE_AUTH_MAX;
use crate::transport::algorithms::Shown;
use crate::transport::kex::gex::{self, Request};
use crate::transport::kex::{Ephemeral, Scheme, SharedSecret};
use crate::transport::kexinit::{Choice, KexInit, Negotiated, Round, Side, compose, extensions};
use crate::transport::keys::{Derivation, Direction, ExchangeHash, Transcript};
use crate::transport::number::{
    GEX_GROUP, GEX_INIT, GEX_REPLY, GEX_REQUEST, KEX_INIT, KEX_REPLY, KEXINIT, NEWKEYS,
};
use crate::transport::packet::Sequence;
use crate::transport::protect::{Mac, OpenKey, SealKey};
use crate::transport::receive::{Found, Step};
use crate::transport::signature::{verify, wrong};
use crate::transport::{Established, Leg};

/// Where a leg is in a key exchange; named for what it waits for.
pub(super) enum Exchange {
    /// No exchange is going on.
    Idle,
    /// Ours is sent.
    ExpectKexInit {
        /// Our `SSH_MSG_KEXINIT`.
        ours: Vec<u8>,
    },
    /// Server role: how large a group the client wants.
    ExpectGroupRequest(Box<Agreed>),
    /// Client role: the server's group, after our request.
    ExpectGroup(Box<Agreed>, Request),
    /// Server role: the client's share.
    ExpectShare(Box<Agreed>, Box<Answering>),
    /// Client role: the server's share, host key and signature.
    ExpectReply(Box<Agreed>, Box<Offered>),
    /// Client role: whether the host key is trusted.
    ExpectVerdict {
        /// The keys to go on with.
        keys: Box<NextKeys>,
        /// Whether [`Leg::accept_host_key`] was called.
        accepted: bool,
    },
    /// Our NEWKEYS is sent and our keys are in use.
    ExpectNewKeys(Box<NextOpen>),
}

impl Exchange {
    /// Whether a new exchange can start.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self, Self::Idle)
    }

    /// Whether nothing but the exchange may be sent: after our KEXINIT, up to our NEWKEYS.
    pub(super) const fn holds_messages(&self) -> bool {
        !matches!(self, Self::Idle | Self::ExpectNewKeys(_))
    }

    /// Whether nothing but the exchange may be received: after the peer's KEXINIT, up to its
    /// NEWKEYS.
    pub(super) const fn peer_is_exchanging(&self) -> bool {
        !matches!(self, Self::Idle | Self::ExpectKexInit { .. })
    }

    /// Whether the driver has to decide on a host key.
    pub(super) const fn awaits_verdict(&self) -> bool {
        matches!(self, Self::ExpectVerdict { .. })
    }

    /// Whether the peer's KEXINIT has made this exchange a strict one.
    pub(super) const fn is_strict(&self) -> bool {
        match self {
            Self::Idle | Self::ExpectKexInit { .. } => false,
            Self::ExpectGroupRequest(agreed)
            | Self::ExpectGroup(agreed, _)
            | Self::ExpectShare(agreed, _)
            | Self::ExpectReply(agreed, _) => agreed.terms.strict,
            Self::ExpectVerdict { keys, .. } => keys.terms.strict,
            Self::ExpectNewKeys(next) => next.terms.strict,
        }
    }

    /// Whether the next message is a wrong guess, which is to be dropped and asked for once.
    const fn take_guess(&mut self) -> bool {
        match self {
            Self::ExpectGroupRequest(agreed)
            | Self::ExpectGroup(agreed, _)
            | Self::ExpectShare(agreed, _)
            | Self::ExpectReply(agreed, _) => std::mem::replace(&mut agreed.skip, false),
            Self::Idle
            | Self::ExpectKexInit { .. }
            | Self::ExpectVerdict { .. }
            | Self::ExpectNewKeys(_) => false,
        }
    }

    /// Notes that the host key is trusted, if that is being asked.
    pub(super) const fn accept(&mut self) {
        if let Self::ExpectVerdict { accepted, .. } = self {
            *accepted = true;
        }
    }
}

/// What both KEXINITs together say.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    choice: Choice,
    strict: bool,
    /// The peer reads extensions, and this is the first exchange.
    send_extensions: bool,
}

/// The state between the KEXINITs and the shares.
pub(super) struct Agreed {
    terms: Terms,
    ours: Vec<u8>,
    theirs: Vec<u8>,
    /// The next exchange message is a wrong guess.
    skip: bool,
}

/// How a server answers the client's share.
pub(super) struct Answering {
    scheme: Scheme,
    /// What the exchange hash covers of a group exchange; empty in other methods.
    group: Vec<u8>,
}

/// What a client has sent.
pub(super) struct Offered {
    share: Vec<u8>,
    ephemeral: Ephemeral,
    /// What the exchange hash covers of a group exchange; empty in other methods.
    group: Vec<u8>,
}

/// Keys that are agreed and not in use.
pub(super) struct NextKeys {
    terms: Terms,
    seal: SealKey,
    open: OpenKey,
}

/// The key for what comes after the peer's NEWKEYS.
pub(super) struct NextOpen {
    terms: Terms,
    open: OpenKey,
}

impl Leg {
    /// Sends our KEXINIT; the caller has made sure that no exchange is going on.
    pub(super) fn start_exchange(&mut self, now: Duration) -> Result<(), Error> {
        let round = if self.session_id.is_none() { Round::First } else { Round::Later };
        let ours = compose(&self.role.algorithms(), self.role.side(), round)?;
        self.sealer.seal(&[&ours], self.output.tail())?;
        self.exchange = Exchange::ExpectKexInit { ours };
        self.exchange_since = Some(now);
        Ok(())
    }

    /// Takes a message with a number from KEXINIT to 49, which must be the one that is waited for.
    pub(super) fn on_exchange_message(
        &mut self,
        number: u8,
        payload: Vec<u8>,
        now: Duration,
    ) -> Result<Step, Error> {
        if number == KEXINIT && self.exchange.is_idle() {
            self.start_exchange(now)?;
        }
        if number >= KEX_INIT && self.exchange.take_guess() {
            return Ok(Step::Again);
        }
        match (number, std::mem::replace(&mut self.exchange, Exchange::Idle)) {
            (KEXINIT, Exchange::ExpectKexInit { ours }) => self.on_kexinit(ours, payload),
            (GEX_REQUEST, Exchange::ExpectGroupRequest(agreed)) => {
                self.on_group_request(agreed, &payload)
            }
            (GEX_GROUP, Exchange::ExpectGroup(agreed, request)) => {
                let group = gex::parse_group(&payload)?;
                let hashed = request.hashed(&group);
                self.send_share(agreed, &Scheme::Group(group), hashed)
            }
            (_, Exchange::ExpectShare(agreed, answering)) if number == agreed.numbers().0 => {
                self.on_share(&agreed, &answering, &payload)
            }
            (_, Exchange::ExpectReply(agreed, offered)) if number == agreed.numbers().1 => {
                self.on_reply(&agreed, *offered, &payload)
            }
            (NEWKEYS, Exchange::ExpectNewKeys(next)) => self.on_newkeys(*next, &payload, now),
            (_, exchange) => Err(Error::Unexpected { number, state: exchange.awaited() }),
        }
    }

    /// Goes on after the host key, if it was accepted.
    pub(super) fn resume_exchange(&mut self) -> Result<Step, Error> {
        if !matches!(self.exchange, Exchange::ExpectVerdict { accepted: true, .. }) {
            return Ok(Step::Starved);
        }
        let exchange = std::mem::replace(&mut self.exchange, Exchange::Idle);
        if let Exchange::ExpectVerdict { keys, .. } = exchange {
            self.send_newkeys(*keys)?;
        }
        Ok(Step::Again)
    }

    fn on_kexinit(&mut self, ours: Vec<u8>, theirs: Vec<u8>) -> Result<Step, Error> {
        self.count_exchange()?;
        let side = self.role.side();
        let init = KexInit::parse(&theirs)?;
        let first = self.session_id.is_none();
        // Strictness is agreed once; later lists do not change it.
        let strict = match &self.negotiated {
            Some(established) => established.names.strict,
            None => init.is_strict(side),
        };
        if first && strict && self.opener.last_sequence() != 0 {
            return Err(Error::NotFirst { packets: self.opener.last_sequence() });
        }
        let choice = init.negotiate(&self.role.algorithms(), side)?;
        let send_extensions = first && init.wants_extensions(side);
        let terms = Terms { choice, strict, send_extensions };
        let agreed = Box::new(Agreed { terms, ours, skip: choice.wrong_guess, theirs });
        match (choice.kex.scheme(), side) {
            (Some(scheme), Side::Client) => return self.send_share(agreed, &scheme, Vec::new()),
            (Some(scheme), Side::Server) => {
                let answering = Box::new(Answering { scheme, group: Vec::new() });
                self.exchange = Exchange::ExpectShare(agreed, answering);
            }
            (None, Side::Client) => {
                let request = Request::OURS;
                self.sealer.seal(&[&request.encode()], self.output.tail())?;
                self.exchange = Exchange::ExpectGroup(agreed, request);
            }
            (None, Side::Server) => self.exchange = Exchange::ExpectGroupRequest(agreed),
        }
        Ok(Step::Again)
    }

    /// Server role: chooses a group.
    fn on_group_request(&mut self, agreed: Box<Agreed>, payload: &[u8]) -> Result<Step, Error> {
        let request = Request::parse(payload)?;
        let group = request.choose()?;
        self.sealer.seal(&[&gex::encode_group(&group)], self.output.tail())?;
        let hashed = request.hashed(&group);
        let answering = Box::new(Answering { scheme: Scheme::Group(group), group: hashed });
        self.exchange = Exchange::ExpectShare(agreed, answering);
        Ok(Step::Again)
    }

    /// Client role: makes our share.
    fn send_share(
        &mut self,
        agreed: Box<Agreed>,
        scheme: &Scheme,
        group: Vec<u8>,
    ) -> Result<Step, Error> {
        let (share, ephemeral) = scheme.start()?;
        let mut writer = Writer::message(agreed.numbers().0);
        writer.string(&share);
        self.sealer.seal(&[writer.as_bytes()], self.output.tail())?;
        let offered = Box::new(Offered { share, ephemeral, group });
        self.exchange = Exchange::ExpectReply(agreed, offered);
        Ok(Step::Again)
    }

    const fn count_exchange(&mut self) -> Result<(), Error> {
        if !self.authenticated {
            self.exchanges_before_auth += 1;
            if self.exchanges_before_auth > EXCHANGES_BEFORE_AUTH_MAX {
                return Err(Error::TooManyExchanges { limit: EXCHANGES_BEFORE_AUTH_MAX });
            }
        }
        Ok(())
    }

    /// Server role: makes the secret, signs, and puts our keys into use.
    fn on_share(
        &mut self,
        agreed: &Agreed,
        answering: &Answering,
        payload: &[u8],
    ) -> Result<Step, Error> {
        let mut reader = Reader::new(payload);
        reader.u8("message number")?;
        let client_share = reader.string("client share")?;
        reader.finish()?;
        let choice = agreed.terms.choice;
        let Some(host_key) = self.role.host_key(choice.host_key) else {
            return Err(Error::UnknownAlgorithm { name: choice.host_key.name().to_owned() });
        };
        let host_key = Arc::clone(host_key);
        let shown = match choice.host_key {
            Shown::Key(_) => host_key.public_blob(),
            Shown::Certificate(_) => host_key.certificate().unwrap_or_default(),
        };
        let answer = answering.scheme.answer(client_share)?;
        let (server_share, secret) = answer.ok_or_else(|| choice.kex.bad_share(client_share))?;
        let hash = Transcript {
            client_version: self.peer_version.as_deref().unwrap_or_default(),
            server_version: self.role.version().as_bytes(),
            client_init: &agreed.theirs,
            server_init: &agreed.ours,
            host_key: shown,
            group: &answering.group,
            client_share,
            server_share: &server_share,
        }
        .hash(choice.kex.hash(), &secret);
        let signature = host_key.sign(choice.host_key.algorithm(), hash.as_ref())?;
        let mut writer = Writer::message(agreed.numbers().1);
        writer.string(shown).string(&server_share).string(&signature);
        self.sealer.seal(&[writer.as_bytes()], self.output.tail())?;
        let keys = self.next_keys(agreed.terms, &secret, &hash)?;
        self.send_newkeys(keys)?;
        Ok(Step::Again)
    }

    /// Client role: makes the secret and verifies the signature; the first time, asks whether the
    /// host key is trusted.
    fn on_reply(
        &mut self,
        agreed: &Agreed,
        offered: Offered,
        payload: &[u8],
    ) -> Result<Step, Error> {
        let mut reader = Reader::new(payload);
        reader.u8("message number")?;
        let host_key = reader.string("server public host key")?;
        let server_share = reader.string("server share")?;
        let signature = reader.string("signature of the exchange hash")?;
        reader.finish()?;
        let choice = agreed.terms.choice;
        let secret = offered.ephemeral.finish(server_share);
        let secret = secret.ok_or_else(|| choice.kex.bad_share(server_share))?;
        let hash = Transcript {
            client_version: self.role.version().as_bytes(),
            server_version: self.peer_version.as_deref().unwrap_or_default(),
            client_init: &agreed.ours,
            server_init: &agreed.theirs,
            host_key,
            group: &offered.group,
            client_share: &offered.share,
            server_share,
        }
        .hash(choice.kex.hash(), &secret);
        let certificate = certificate(choice.host_key, host_key)?;
        let host_key = certificate.as_ref().map_or(host_key, |certified| certified.key_blob());
        verify(choice.host_key.algorithm(), host_key, signature, hash.as_ref())?;
        let first = self.session_id.is_none();
        if !first && self.host_key_blob != host_key {
            return Err(Error::HostKeyChanged);
        }
        let keys = self.next_keys(agreed.terms, &secret, &hash)?;
        if !first {
            self.send_newkeys(keys)?;
            return Ok(Step::Again);
        }
        self.host_key_blob = host_key.to_vec();
        self.host_certificate = certificate;
        self.exchange = Exchange::ExpectVerdict { keys: Box::new(keys), accepted: false };
        Ok(Step::Found(Found::HostKey(choice.host_key.algorithm())))
    }

    /// Derives the keys of an exchange; its hash identifies the session if it is the first.
    fn next_keys(
        &mut self,
        terms: Terms,
        secret: &SharedSecret,
        hash: &ExchangeHash,
    ) -> Result<NextKeys, Error> {
        let session_id = self.session_id.get_or_insert(*hash);
        let function = terms.choice.kex.hash();
        let derivation = Derivation { function, secret, hash, session_id };
        let (to_server, to_client) = (terms.choice.to_server, terms.choice.to_client);
        let server_keys = derivation.material(to_server, Direction::ToServer);
        let client_keys = derivation.material(to_client, Direction::ToClient);
        let (seal, open) = match self.role.side() {
            Side::Server => {
                (SealKey::new(to_client, &client_keys)?, OpenKey::new(to_server, &server_keys)?)
            }
            Side::Client => {
                (SealKey::new(to_server, &server_keys)?, OpenKey::new(to_client, &client_keys)?)
            }
        };
        Ok(NextKeys { terms, seal, open })
    }

    /// Sends NEWKEYS, puts our key into use and sends what has waited.
    fn send_newkeys(&mut self, keys: NextKeys) -> Result<(), Error> {
        let NextKeys { terms, seal, open } = keys;
        self.sealer.seal(&[&[NEWKEYS]], self.output.tail())?;
        self.sealer.switch(seal, terms.sequence());
        if terms.send_extensions {
            let message = extensions(self.role.side(), self.role.sig_algs());
            self.sealer.seal(&[&message], self.output.tail())?;
        }
        while let Some(message) = self.hold.pop() {
            self.sealer.seal(&[&message], self.output.tail())?;
        }
        self.exchange = Exchange::ExpectNewKeys(Box::new(NextOpen { terms, open }));
        Ok(())
    }

    fn on_newkeys(&mut self, next: NextOpen, payload: &[u8], now: Duration) -> Result<Step, Error> {
        let mut reader = Reader::new(payload);
        reader.u8("message number")?;
        reader.finish()?;
        let NextOpen { terms, open } = next;
        self.opener.switch(open, terms.sequence());
        let first = self.negotiated.is_none();
        self.negotiated = Some(Established { names: terms.names(), choice: terms.choice });
        self.exchange_since = None;
        self.keys_since = now;
        Ok(Step::Found(if first { Found::Established } else { Found::Rekeyed }))
    }
}

/// The certificate that a server showed, if one was agreed on.
fn certificate(agreed: Shown, blob: &[u8]) -> Result<Option<Box<Certificate>>, Error> {
    let Shown::Certificate(algorithm) = agreed else { return Ok(None) };
    let found = Reader::new(blob).string("certificate type")?;
    if found != algorithm.certificate_type().as_bytes() {
        return Err(wrong("certificate", found, algorithm));
    }
    let certificate = Certificate::parse(blob);
    let certificate = certificate.map_err(|error| Error::Certificate(Box::new(error)))?;
    Ok(Some(Box::new(certificate)))
}

impl Exchange {
    const fn awaited(&self) -> &'static str {
        match self {
            Self::Idle => "no key exchange goes on",
            Self::ExpectKexInit { .. } => "waiting for the algorithm lists",
            Self::ExpectGroupRequest(_) => "waiting for the sizes of a group",
            Self::ExpectGroup(..) => "waiting for the server's group",
            Self::ExpectShare(..) => "waiting for the client's share",
            Self::ExpectReply(..) => "waiting for the server's share",
            Self::ExpectVerdict { .. } => "waiting for the host key to be accepted",
            Self::ExpectNewKeys(_) => "waiting for new keys",
        }
    }
}

impl Agreed {
    /// The numbers of the messages with the client's share and with the server's.
    fn numbers(&self) -> (u8, u8) {
        match self.terms.choice.kex.scheme() {
            Some(_) => (KEX_INIT, KEX_REPLY),
            None => (GEX_INIT, GEX_REPLY),
        }
    }
}

impl Terms {
    const fn sequence(&self) -> Sequence {
        if self.strict { Sequence::Reset } else { Sequence::Continue }
    }

    fn names(&self) -> Negotiated {
        Negotiated {
            kex: self.choice.kex.name(),
            host_key: self.choice.host_key.name(),
            cipher_to_server: self.choice.to_server.cipher().name(),
            cipher_to_client: self.choice.to_client.cipher().name(),
            mac_to_server: self.choice.to_server.mac().map(Mac::name),
            mac_to_client: self.choice.to_client.mac().map(Mac::name),
            strict: self.strict,
        }
    }
}
