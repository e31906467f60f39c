//! One SSH connection: version, packets, key exchange and rekey behind one state machine.

mod algorithms;
mod buffer;
mod config;
mod exchange;
mod hash;
mod hostkey;
mod kex;
mod kexinit;
mod keys;
pub mod number;
mod packet;
mod protect;
mod receive;
mod rekey;
mod signature;
#[cfg(test)]
mod tests;
mod version;

use std::fmt;
use std::time::Duration;

use crate::certificate::Certificate;
use crate::cursor::{NameList, Writer};
use crate::error::Error;
use crate::limits::BUFFER_IDLE;
use crate::transport::buffer::{Input, Output};
use crate::transport::config::Role;
use crate::transport::exchange::Exchange;
use crate::transport::kexinit::{Choice, Side};
use crate::transport::keys::ExchangeHash;
use crate::transport::number::{
    DISCONNECT, SERVICE_ACCEPT, SERVICE_REQUEST, UNIMPLEMENTED, UPPER_FIRST, UPPER_LAST,
    USERAUTH_SUCCESS,
};
use crate::transport::packet::{Opener, Sealer, Usage};
use crate::transport::receive::{Found, clean};
use crate::transport::rekey::Hold;

pub use algorithms::Algorithms;
pub use config::{ClientConfig, ServerConfig};
pub use hostkey::{HostKey, RsaParts};
pub use kex::KexMethod;
pub use kexinit::Negotiated;
pub use protect::{Cipher, Mac};
pub use rekey::RekeyLimits;
pub use signature::{KeyAlgorithm, fingerprint, verify_signature};
pub use version::Version;

/// What happened on a leg.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Client role, once: the server's host key. Nothing more comes before
    /// [`Leg::accept_host_key`].
    HostKey(HostKeyOffer<'a>),
    /// The first key exchange is done; messages can be sent.
    Established,
    /// A later key exchange is done.
    Rekeyed,
    /// A message of the layers above, its number first: 5, 6, or 50 to 127.
    Message(&'a [u8]),
    /// The peer ends the connection; nothing more comes.
    Disconnected {
        /// Reason code (RFC 4253 section 11.1).
        reason: u32,
        /// The peer's text, without control characters, at most 1 KiB.
        text: String,
    },
}

/// A host key that has signed this connection's key exchange; whether it may is for the driver to
/// say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HostKeyOffer<'a> {
    /// The algorithm it signed with.
    pub algorithm: KeyAlgorithm,
    /// The public key, type first; the certified one if there is a certificate.
    pub key_blob: &'a [u8],
    /// The certificate that came with it, which is signed by its CA and not checked otherwise.
    pub certificate: Option<&'a Certificate>,
}

/// One SSH connection as a state machine.
///
/// The driver reads into [`Self::read_space`], reports with [`Self::filled`], then takes events
/// with [`Self::next`] until there is none before it reads again. What is to be written is in
/// [`Self::out`]. After an error or the end nothing but what is still in `out` leaves, a
/// [`Self::disconnect`] included.
pub struct Leg {
    role: Role,
    input: Input,
    output: Output,
    opener: Opener,
    sealer: Sealer,
    peer_version: Option<Vec<u8>>,
    banner_lines: usize,
    exchange: Exchange,
    exchange_since: Option<Duration>,
    rekey_deferred: bool,
    hold: Hold,
    session_id: Option<ExchangeHash>,
    host_key_blob: Vec<u8>,
    host_certificate: Option<Box<Certificate>>,
    negotiated: Option<Established>,
    peer_sig_algs: Option<Vec<u8>>,
    extension_messages: u8,
    idle_messages: usize,
    exchanges_before_auth: usize,
    authenticated: bool,
    keys_since: Duration,
    traffic: Traffic,
    end: End,
}

impl fmt::Debug for Leg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys and buffers stay out of logs.
        f.debug_struct("Leg").field("negotiated", &self.negotiated()).finish_non_exhaustive()
    }
}

impl Leg {
    /// A leg towards a client: we play the server.
    #[must_use]
    pub fn server(config: ServerConfig, now: Duration) -> Self {
        Self::new(Role::Server(config), now)
    }

    /// A leg towards a server: we play the client.
    #[must_use]
    pub fn client(config: ClientConfig, now: Duration) -> Self {
        Self::new(Role::Client(config), now)
    }

    /// Where to read into: 4 KiB while idle, up to 128 KiB under load, more only for one large
    /// packet.
    ///
    /// Empty when [`Self::wants_read`] is false.
    pub fn read_space(&mut self) -> &mut [u8] {
        if self.wants_read() { self.input.space() } else { &mut [] }
    }

    /// Whether there is room to read: not after the end, nor while the host key is undecided and
    /// the buffer full.
    #[must_use]
    pub const fn wants_read(&self) -> bool {
        matches!(self.end, End::Open) && self.input.has_space()
    }

    /// Counts `bytes` as read into [`Self::read_space`].
    pub fn filled(&mut self, bytes: usize) {
        self.input.filled(bytes);
        self.traffic.seen = true;
    }

    /// The next event of what was read; none when more input is needed, or after the end.
    ///
    /// Fails on anything that SSH does not allow; the leg has ended then, and [`Self::disconnect`]
    /// may say why.
    pub fn next(&mut self, now: Duration) -> Result<Option<Event<'_>>, Error> {
        if self.end != End::Open {
            return Ok(None);
        }
        match self.advance(now) {
            Ok(found) => Ok(found.map(|found| self.event(found))),
            Err(error) => {
                self.end = End::Failed;
                Err(error)
            }
        }
    }

    /// Sends one message of the layers above, the concatenation of `parts`.
    ///
    /// It goes to [`Self::out`], or waits while keys are exchanged. Fails on an empty or too long
    /// message, one of the transport layer, too many that wait, or after the end.
    pub fn send(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        let number = parts.iter().find_map(|part| part.first().copied());
        match number {
            Some(SERVICE_REQUEST | SERVICE_ACCEPT | UPPER_FIRST..=UPPER_LAST) => {}
            Some(_) | None => return Err(Error::NotSendable { number }),
        }
        self.post(parts)?;
        if number == Some(USERAUTH_SUCCESS) {
            self.authenticated = true;
        }
        Ok(())
    }

    /// Answers the message of the last event with `SSH_MSG_UNIMPLEMENTED` (RFC 4253 section 11.4).
    pub fn unimplemented(&mut self) -> Result<(), Error> {
        let mut writer = Writer::message(UNIMPLEMENTED);
        writer.u32(self.opener.last_sequence());
        self.post(&[writer.as_bytes()])
    }

    /// Sends something that means nothing (`SSH_MSG_IGNORE`), so that a peer that waits for us
    /// knows that we are there.
    pub fn sign_of_life(&mut self) -> Result<(), Error> {
        let mut writer = Writer::message(number::IGNORE);
        writer.string(b"");
        self.post(&[writer.as_bytes()])
    }

    /// What is to be written.
    #[must_use]
    pub fn out(&self) -> &[u8] {
        self.output.unsent()
    }

    /// Counts `bytes` of [`Self::out`] as written.
    pub fn sent(&mut self, bytes: usize) {
        self.output.sent(bytes);
        self.traffic.seen = true;
    }

    /// Bytes that were sent and not written: those in [`Self::out`] and those that wait for an
    /// exchange.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.output.unsent().len() + self.hold.bytes()
    }

    /// Client role: accepts the key of [`Event::HostKey`]; the connection goes on with the
    /// following [`Self::next`].
    pub fn accept_host_key(&mut self) {
        self.exchange.accept();
    }

    /// Identifies the connection in signatures, from the first exchange on (RFC 4253 section 7.2).
    #[must_use]
    pub fn session_id(&self) -> Option<&[u8]> {
        self.session_id.as_ref().map(AsRef::as_ref)
    }

    /// The peer's version line without its line end.
    #[must_use]
    pub fn peer_version(&self) -> Option<&[u8]> {
        self.peer_version.as_deref()
    }

    /// What the last exchange agreed on.
    #[must_use]
    pub fn negotiated(&self) -> Option<&Negotiated> {
        self.negotiated.as_ref().map(|established| &established.names)
    }

    /// The signature algorithms that the server takes from client keys, if it has said so.
    #[must_use]
    pub fn peer_sig_algs(&self) -> Option<NameList<'_>> {
        self.peer_sig_algs.as_deref().and_then(|text| NameList::parse(text).ok())
    }

    /// Since when a key exchange, or the version exchange before the first one, has not been
    /// finished.
    ///
    /// For the driver's time limits: a peer that never finishes is not ended by the leg.
    #[must_use]
    pub const fn exchange_since(&self) -> Option<Duration> {
        self.exchange_since
    }

    /// Ends the connection with a reason code and a text; does nothing after an earlier one.
    pub fn disconnect(&mut self, reason: u32, text: &str) {
        if self.end == End::Left {
            return;
        }
        self.end = End::Left;
        let mut writer = Writer::message(DISCONNECT);
        writer.u32(reason).string(clean(text.as_bytes()).as_bytes()).string(b"");
        // A packet that cannot be sealed is not sent: the connection ends either way.
        let before = self.output.tail().len();
        if self.sealer.seal(&[writer.as_bytes()], self.output.tail()).is_err() {
            self.output.tail().truncate(before);
        }
    }

    /// Whether an exchange that is due has to wait, until this is called again.
    ///
    /// For whoever joins two legs: with both in an exchange, what each holds back for the other
    /// could keep the other from ending.
    pub const fn defer_rekey(&mut self, defer: bool) {
        self.rekey_deferred = defer;
    }

    /// Starts an exchange when one is due, by bytes or time, and gives back buffers that idle.
    ///
    /// [`Self::next`] does the same; a driver calls this every few seconds while nothing comes.
    /// Fails only when the crypto library does.
    pub fn tick(&mut self, now: Duration) -> Result<(), Error> {
        if self.end != End::Open {
            return Ok(());
        }
        // A quiet leg needs no new keys; its peer may be asleep and could not answer.
        if self.traffic.seen && self.rekey_is_due(now) {
            self.start_exchange(now).inspect_err(|_error| self.end = End::Failed)?;
        }
        if std::mem::take(&mut self.traffic.seen) {
            self.traffic.last = now;
        } else if now.saturating_sub(self.traffic.last) >= BUFFER_IDLE {
            self.input.shrink();
            self.output.shrink();
        }
        Ok(())
    }

    fn new(role: Role, now: Duration) -> Self {
        let mut output = Output::new();
        output.tail().extend_from_slice(&role.version().line());
        Self {
            role,
            input: Input::new(),
            output,
            opener: Opener::default(),
            sealer: Sealer::default(),
            peer_version: None,
            banner_lines: 0,
            exchange: Exchange::Idle,
            exchange_since: Some(now),
            rekey_deferred: false,
            hold: Hold::default(),
            session_id: None,
            host_key_blob: Vec::new(),
            host_certificate: None,
            negotiated: None,
            peer_sig_algs: None,
            extension_messages: 0,
            idle_messages: 0,
            exchanges_before_auth: 0,
            authenticated: false,
            keys_since: now,
            traffic: Traffic { seen: false, last: now },
            end: End::Open,
        }
    }

    fn event(&mut self, found: Found) -> Event<'_> {
        match found {
            Found::HostKey(algorithm) => {
                let certificate = self.host_certificate.as_deref();
                let key_blob = &self.host_key_blob;
                Event::HostKey(HostKeyOffer { algorithm, key_blob, certificate })
            }
            Found::Established => Event::Established,
            Found::Rekeyed => Event::Rekeyed,
            Found::Message(range) => Event::Message(self.input.part(range)),
            Found::Disconnected { reason, text } => Event::Disconnected { reason, text },
        }
    }

    /// Sends a message that is not part of a key exchange: now, or when that is done.
    fn post(&mut self, parts: &[&[u8]]) -> Result<(), Error> {
        if self.end != End::Open {
            return Err(Error::Ended);
        }
        if self.sealer.is_plain() || self.exchange.holds_messages() {
            return self.hold.push(parts);
        }
        self.sealer.seal(parts, self.output.tail())
    }

    fn rekey_is_due(&self, now: Duration) -> bool {
        // Before authentication no peer expects it, and some servers cannot do it.
        let Some(Established { choice, .. }) = &self.negotiated else { return false };
        if !self.authenticated || !self.exchange.is_idle() || self.rekey_deferred {
            return false;
        }
        let limits = self.role.rekey();
        limits.reached(choice.to_server.cipher(), self.usage_to(Side::Server))
            || limits.reached(choice.to_client.cipher(), self.usage_to(Side::Client))
            || now.saturating_sub(self.keys_since) >= limits.interval
    }

    const fn usage_to(&self, receiver: Side) -> Usage {
        match (self.role.side(), receiver) {
            (Side::Server, Side::Server) | (Side::Client, Side::Client) => self.opener.usage(),
            (Side::Server, Side::Client) | (Side::Client, Side::Server) => self.sealer.usage(),
        }
    }
}

/// What the exchange in use agreed on.
struct Established {
    names: Negotiated,
    choice: Choice,
}

/// When bytes were last moved, as far as [`Leg::tick`] has seen.
struct Traffic {
    seen: bool,
    last: Duration,
}

/// How far a leg is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It goes on.
    Open,
    /// The peer has left, or broke a rule.
    Failed,
    /// We have left.
    Left,
}
