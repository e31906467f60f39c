//! A peer that says what no program says: our own transport, message by message, and what is below.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use e2e::peer::sshd;
use e2e::wait::Stopwatch;
use proxyd_ssh::auth::connector::{Connector, Outcome};
use proxyd_ssh::transport::{
    Algorithms, ClientConfig, Event, HostKey, KeyAlgorithm, Leg, RekeyLimits, ServerConfig, Version,
};

use crate::stage::LIMIT;

/// Either side of an SSH connection, message by message.
pub(crate) struct Peer {
    leg: Leg,
    pub(crate) stream: TcpStream,
    clock: Stopwatch,
    farewell: Option<String>,
}

impl Peer {
    /// A client, once keys are exchanged.
    pub(crate) fn client(stream: TcpStream) -> Self {
        Self::client_that(stream, RekeyLimits::recommended())
    }

    /// The same, which asks for new keys that often.
    pub(crate) fn client_that(stream: TcpStream, rekey: RekeyLimits) -> Self {
        let version = Version::new("SSH-2.0-raw").unwrap();
        let config = ClientConfig { version, algorithms: Algorithms::recommended(), rekey };
        let clock = Stopwatch::start();
        Self::established(Leg::client(config, clock.elapsed()), stream, clock)
    }

    /// A server, once keys are exchanged.
    pub(crate) fn server(stream: TcpStream, key: Arc<HostKey>) -> Self {
        Self::server_that(stream, key, RekeyLimits::recommended())
    }

    /// The same, which asks for new keys that often.
    pub(crate) fn server_that(stream: TcpStream, key: Arc<HostKey>, rekey: RekeyLimits) -> Self {
        let config = ServerConfig {
            version: Version::new("SSH-2.0-raw").unwrap(),
            host_keys: vec![key],
            algorithms: Algorithms::recommended(),
            sig_algs: KeyAlgorithm::ALL.to_vec(),
            rekey,
        };
        let clock = Stopwatch::start();
        Self::established(Leg::server(config, clock.elapsed()), stream, clock)
    }

    fn established(leg: Leg, stream: TcpStream, clock: Stopwatch) -> Self {
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let mut peer = Self { leg, stream, clock, farewell: None };
        assert_eq!(peer.next(), Some(Vec::new()), "the key exchange");
        peer
    }

    /// Logs in as a client, by the password of the server's users.
    pub(crate) fn log_in(&mut self, user: &str) {
        let (mut connector, hello) = Connector::new(user.as_bytes(), &self.session_id());
        self.send(&hello);
        connector.receive(&self.next().unwrap()).unwrap();
        self.send(&connector.password(sshd::PASSWORD.as_bytes()));
        let answer = connector.receive(&self.next().unwrap()).unwrap();
        assert!(matches!(answer, Outcome::Success), "{answer:?}");
    }

    /// The next message; empty for the end of the key exchange, none once the other side is gone.
    pub(crate) fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            let mut is_key = false;
            let message = match self.leg.next(self.clock.elapsed()) {
                Ok(Some(Event::Message(message))) => Some(message.to_vec()),
                Ok(Some(Event::Established)) => Some(Vec::new()),
                Ok(Some(Event::HostKey(_))) => {
                    is_key = true;
                    None
                }
                Ok(Some(Event::Disconnected { text, .. })) => {
                    self.farewell = Some(text);
                    return None;
                }
                Err(_) => return None,
                Ok(Some(Event::Rekeyed) | None) => None,
            };
            self.flush();
            if is_key {
                self.leg.accept_host_key();
                continue;
            }
            if message.is_some() {
                return message;
            }
            match self.stream.read(self.leg.read_space()) {
                Ok(0) => return None,
                Ok(bytes) => self.leg.filled(bytes),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("nothing more came: {error}"),
            }
        }
    }

    /// Sends a message of the layers above the transport.
    pub(crate) fn send(&mut self, message: &[u8]) {
        self.leg.send(&[message]).unwrap();
        self.flush();
    }

    /// Sends it again and again without reading, until nothing more is taken or the connection is
    /// closed; gives how often.
    pub(crate) fn send_until_stuck(&mut self, message: &[u8], times_max: usize) -> usize {
        self.stream.set_write_timeout(Some(STUCK)).unwrap();
        for times in 0..times_max {
            self.leg.send(&[message]).unwrap();
            let bytes = self.leg.out().len();
            if self.stream.write_all(self.leg.out()).is_err() {
                return times;
            }
            self.leg.sent(bytes);
        }
        times_max
    }

    /// Sends a message of which one bit was changed after it was sealed.
    pub(crate) fn send_changed(&mut self, message: &[u8]) {
        self.leg.send(&[message]).unwrap();
        let mut bytes = self.leg.out().to_vec();
        *bytes.last_mut().unwrap() ^= 1;
        drop(self.stream.write_all(&bytes));
        self.leg.sent(bytes.len());
    }

    /// Starts an exchange of keys, which is due, and never goes on with it; waits for the end, and
    /// gives how long that took.
    pub(crate) fn never_finish_exchange(&mut self) -> Duration {
        self.leg.tick(self.clock.elapsed()).unwrap();
        assert!(self.leg.exchange_since().is_some(), "no exchange was due");
        self.flush();
        let started = Stopwatch::start();
        read_to_end(&mut self.stream);
        started.elapsed()
    }

    /// Sends a message that means nothing (RFC 4253 section 11.2).
    pub(crate) fn send_nothing(&mut self) {
        self.leg.sign_of_life().unwrap();
        self.flush();
    }

    /// Ends the connection with this text, and waits until the other side has, too.
    pub(crate) fn disconnect(&mut self, text: &str) {
        self.leg.disconnect(BY_APPLICATION, text);
        self.flush();
        drop(self.stream.shutdown(Shutdown::Write));
        read_to_end(&mut self.stream);
    }

    /// What cannot be written any more is lost: the other side is gone.
    fn flush(&mut self) {
        let bytes = self.leg.out().len();
        drop(self.stream.write_all(self.leg.out()));
        self.leg.sent(bytes);
    }

    pub(crate) fn session_id(&self) -> Vec<u8> {
        self.leg.session_id().unwrap().to_vec()
    }

    /// With what text the other side has disconnected, if it has.
    pub(crate) fn farewell(&self) -> Option<&str> {
        self.farewell.as_deref()
    }

    /// The address of this side.
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().unwrap()
    }
}

/// A write that takes longer than this goes nowhere.
const STUCK: Duration = Duration::from_secs(1);

/// Reason code of a disconnect (RFC 4253 section 11.1).
const BY_APPLICATION: u32 = 11;

/// Reads and forgets, until the other side is gone.
pub(crate) fn read_to_end(stream: &mut TcpStream) {
    let mut bytes = [0; 16 * 1024];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
            Err(error) => panic!("the connection stays open: {error}"),
        }
    }
}
