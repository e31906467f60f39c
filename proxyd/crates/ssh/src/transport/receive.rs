//! What a leg does with its input: version lines, packets, and the messages of the transport layer.

use std::ops::Range;
use std::time::Duration;

use crate::cursor::{Reader, Writer};
use crate::error::Error;
use crate::limits::{BANNER_LINES_MAX, DISCONNECT_TEXT_BYTES_MAX, IDLE_MESSAGES_BEFORE_AUTH_MAX};
use crate::transport::kexinit::{Side, sig_algs_of};
use crate::transport::number::{
    DEBUG, DISCONNECT, EXT_INFO, IGNORE, KEXINIT, PING, PONG, SERVICE_ACCEPT, SERVICE_REQUEST,
    TRANSPORT_LAST, UNIMPLEMENTED, UPPER_FIRST, UPPER_LAST, USERAUTH_SUCCESS,
};
use crate::transport::signature::KeyAlgorithm;
use crate::transport::version::{self, Line};
use crate::transport::{End, Leg};

/// What one step through the input led to.
pub(super) enum Step {
    /// Nothing to tell; there may be more.
    Again,
    /// More input is needed, or a decision.
    Starved,
    /// Something to tell.
    Found(Found),
}

/// An [`crate::transport::Event`] that does not borrow yet.
pub(super) enum Found {
    HostKey(KeyAlgorithm),
    Established,
    Rekeyed,
    Message(Range<usize>),
    Disconnected { reason: u32, text: String },
}

impl Leg {
    /// Works through the input up to something that the driver should know.
    pub(super) fn advance(&mut self, now: Duration) -> Result<Option<Found>, Error> {
        self.tick(now)?;
        loop {
            let step = if self.peer_version.is_none() {
                self.read_version(now)?
            } else if self.exchange.awaits_verdict() {
                self.resume_exchange()?
            } else {
                self.read_packet(now)?
            };
            match step {
                Step::Again => {}
                Step::Starved => return Ok(None),
                Step::Found(found) => return Ok(Some(found)),
            }
        }
    }

    fn read_version(&mut self, now: Duration) -> Result<Step, Error> {
        let line = match self.role.side() {
            Side::Server => version::from_client(self.input.unread())?,
            Side::Client => version::from_server(self.input.unread())?,
        };
        match line {
            Line::Incomplete => Ok(Step::Starved),
            Line::Banner { bytes } => {
                self.banner_lines += 1;
                if self.banner_lines > BANNER_LINES_MAX {
                    return Err(Error::BannerTooLong { limit: BANNER_LINES_MAX });
                }
                self.input.take(bytes);
                Ok(Step::Again)
            }
            Line::Version { text, bytes } => {
                self.peer_version = Some(text.to_vec());
                self.input.take(bytes);
                let since = self.exchange_since;
                self.start_exchange(now)?;
                // The time limit of the first exchange covers the version exchange too.
                self.exchange_since = since;
                Ok(Step::Again)
            }
        }
    }

    fn read_packet(&mut self, now: Duration) -> Result<Step, Error> {
        let unread = self.input.unread();
        let Some(wire_bytes) = self.opener.wire_bytes(unread)? else { return Ok(Step::Starved) };
        if unread.len() < wire_bytes {
            self.input.need(wire_bytes);
            return Ok(Step::Starved);
        }
        let packet = self.input.take(wire_bytes);
        let Some(within) = self.opener.open(self.input.part_mut(packet.clone()))? else {
            return Ok(Step::Again);
        };
        let payload = packet.start + within.start..packet.start + within.end;
        let number = self.input.part(payload.clone()).first().copied().unwrap_or_default();
        self.check_legal(number)?;
        match number {
            SERVICE_REQUEST | SERVICE_ACCEPT | UPPER_FIRST..=UPPER_LAST => {
                self.authenticated |=
                    number == USERAUTH_SUCCESS && self.role.side() == Side::Client;
                Ok(Step::Found(Found::Message(payload)))
            }
            KEXINIT..=TRANSPORT_LAST => {
                let payload = self.input.part(payload).to_vec();
                self.on_exchange_message(number, payload, now)
            }
            _ => self.on_transport_message(number, payload),
        }
    }

    /// Whether a message may come now: what is left between a peer's KEXINIT and its NEWKEYS is
    /// little.
    fn check_legal(&self, number: u8) -> Result<(), Error> {
        let state = match (self.opener.is_plain(), self.exchange.peer_is_exchanging()) {
            (false, false) => return Ok(()),
            (false, true) => "keys are exchanged again",
            (true, _) => "keys are exchanged for the first time",
        };
        let strict = self.opener.is_plain() && self.exchange.is_strict();
        let legal = match number {
            DISCONNECT | KEXINIT..=TRANSPORT_LAST => true,
            IGNORE | UNIMPLEMENTED | DEBUG => !strict,
            _ => false,
        };
        if legal { Ok(()) } else { Err(Error::Unexpected { number, state }) }
    }

    fn on_transport_message(&mut self, number: u8, payload: Range<usize>) -> Result<Step, Error> {
        if number == DISCONNECT {
            return self.on_disconnect(payload);
        }
        if number == EXT_INFO {
            return self.on_extensions(payload);
        }
        if !self.authenticated {
            self.idle_messages += 1;
            if self.idle_messages > IDLE_MESSAGES_BEFORE_AUTH_MAX {
                return Err(Error::TooManyIdle { limit: IDLE_MESSAGES_BEFORE_AUTH_MAX });
            }
        }
        match number {
            IGNORE | UNIMPLEMENTED | DEBUG | PONG => {}
            PING => self.on_ping(payload)?,
            _ => self.unimplemented()?,
        }
        Ok(Step::Again)
    }

    fn on_disconnect(&mut self, payload: Range<usize>) -> Result<Step, Error> {
        let mut reader = Reader::new(self.input.part(payload));
        reader.u8("message number")?;
        let reason = reader.u32("reason code")?;
        // The language tag that follows means nothing, and some peers leave it out.
        let text = clean(reader.string("description")?);
        self.end = End::Failed;
        Ok(Step::Found(Found::Disconnected { reason, text }))
    }

    /// A client sends one right after its first NEWKEYS; a server may send another before SUCCESS
    /// (RFC 8308 section 2.4).
    fn on_extensions(&mut self, payload: Range<usize>) -> Result<Step, Error> {
        let (side, first) = (self.role.side(), self.opener.usage().packets == 1);
        let legal = match side {
            Side::Server => first && self.extension_messages == 0,
            Side::Client => self.extension_messages < EXTENSION_MESSAGES_OF_SERVER_MAX,
        };
        if !legal || self.authenticated {
            let state = "the time for extensions is over";
            return Err(Error::Unexpected { number: EXT_INFO, state });
        }
        self.extension_messages += 1;
        let sig_algs = sig_algs_of(self.input.part(payload))?;
        if let (Side::Client, Some(names)) = (side, sig_algs) {
            self.peer_sig_algs = Some(names.as_bytes().to_vec());
        }
        Ok(Step::Again)
    }

    fn on_ping(&mut self, payload: Range<usize>) -> Result<(), Error> {
        let mut reader = Reader::new(self.input.part(payload));
        reader.u8("message number")?;
        let data = reader.string("data")?;
        reader.finish()?;
        let mut writer = Writer::message(PONG);
        writer.string(data);
        self.post(&[writer.as_bytes()])
    }
}

/// Extension messages that a server may send: after its first NEWKEYS and before SUCCESS.
const EXTENSION_MESSAGES_OF_SERVER_MAX: u8 = 2;

/// Text from or for a peer: bounded, and without what a terminal would act on.
pub(super) fn clean(text: &[u8]) -> String {
    let bounded = text.get(..DISCONNECT_TEXT_BYTES_MAX).unwrap_or(text);
    String::from_utf8_lossy(bounded).chars().filter(|character| !character.is_control()).collect()
}
