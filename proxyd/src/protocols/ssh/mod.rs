//! SSH: two legs of our own, one towards the client and one towards the server.
//!
//! In reading order: [`greet`] plays server until the first authentication attempt, [`client`]
//! answers and asks from then on, [`identify`] and [`login`] play client to the server, [`relayed`]
//! with what the user brings; [`relay`] passes messages between the two until one of them ends.

mod agent;
mod channels;
mod client;
pub mod files;
mod greet;
mod identify;
mod link;
mod login;
mod names;
mod passing;
mod record;
mod relay;
mod relayed;
mod ticket;
mod waiting;

use std::time::Duration;

use proxyd_policy::admit::Admitted;

use self::client::Client;
use self::login::Server;
use crate::clock::Clock;
use crate::dial::TargetLink;
use crate::hostkeys::HostKeys;
use crate::kerberos::Kerberos;
use crate::line::protocol::Protocol;
use crate::net::accept::Accepted;
use crate::recording::Recorder;
use crate::session::Session;
use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// Time limits of a connection's phases.
#[derive(Debug, Clone, Copy)]
pub struct SshLimits {
    /// From the first byte to the end of the key exchange, on each leg.
    pub handshake: Duration,
    /// From there to the server's acceptance.
    pub authentication: Duration,
    /// One question to the user.
    pub question: Duration,
    /// Somebody's approval of a channel.
    pub four_eyes: Duration,
    /// Without a message in either direction; none: for ever.
    pub idle: Option<Duration>,
    /// The whole session; none: for ever.
    pub session: Option<Duration>,
    /// Failed attempts on one connection.
    pub attempts: u32,
}

/// The protocol, with what its sessions share.
#[derive(Debug, Clone)]
pub struct Ssh {
    /// The clock.
    pub clock: Clock,
    /// Host keys of both directions.
    pub host_keys: HostKeys,
    /// Time limits.
    pub limits: SshLimits,
    /// Kerberos contexts.
    pub kerberos: Kerberos,
}

impl Protocol for Ssh {
    const NAME: &'static str = "ssh";
    type Client = Client;
    type Server = Server;

    async fn greet(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        accepted: Accepted,
    ) -> Result<Client, Stop> {
        greet::greet(self, session, admitted, accepted).await
    }

    async fn log_in(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        link: TargetLink,
        client: &mut Client,
    ) -> Result<Server, Stop> {
        login::log_in(self, session, admitted, authorized, link, client).await
    }

    async fn relay(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        halves: (Client, Server),
        recorder: &mut Option<Recorder>,
    ) -> Result<(), Stop> {
        relay::relay(self, session, admitted, authorized, halves, recorder).await
    }
}
