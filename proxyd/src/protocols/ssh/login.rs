//! The server leg's login: which methods are tried, in which order.

use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::gateway::ServerMethod;
use proxyd_ssh::auth::connector::{Connector, Outcome};
use proxyd_ssh::message::gssapi;
use proxyd_ssh::transport::{HostKey, KeyAlgorithm, Leg};
use tracing::info;

use super::Ssh;
use super::client::Client;
use super::identify;
use super::link::{Link, LinkError};
use crate::ask::Ask as _;
use crate::credential;
use crate::dial::TargetLink;
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// The server-facing half, logged in.
#[derive(Debug)]
pub struct Server {
    pub(super) link: Link,
}

pub(super) async fn log_in(
    ssh: &Ssh,
    session: &mut Session,
    admitted: &Admitted,
    authorized: &Authorized,
    link: TargetLink,
    client: &mut Client,
) -> Result<Server, Stop> {
    let link = identify::handshake(ssh, session, admitted, authorized, link).await?;
    let session_id = link.leg.session_id().unwrap_or_default().to_vec();
    let user = authorized.remote_user().as_bytes();
    let (connector, hello) = Connector::new(user, &session_id);
    let deadline = client.deadline();
    let mut login = Login { link, connector, deadline, partial: false, one_answer: true };
    login.link.send(&hello, deadline).await.map_err(lost)?;
    // The connector takes nothing but the service's acceptance at this point.
    login.outcome(client).await?;
    login.authenticate(session, admitted, authorized, client).await?;
    Ok(Server { link: login.link })
}

/// The authentication towards the server.
pub(super) struct Login {
    pub(super) link: Link,
    pub(super) connector: Connector,
    pub(super) deadline: Duration,
    /// Whether the server took the last attempt, and wants another.
    pub(super) partial: bool,
    /// Whether the server's questions may still come down to one password.
    pub(super) one_answer: bool,
}

/// What the server has said to an attempt: the methods that are left, none when in.
pub(super) type Left = Option<Vec<String>>;

impl Login {
    /// Tries what the gateway can do by itself, then what takes the user.
    async fn authenticate(
        &mut self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        client: &mut Client,
    ) -> Result<(), Stop> {
        let allowed = &admitted.policy().authentication.server;
        let ask = self.connector.ask_methods();
        let Some(mut methods) = self.tried(session, client, "none", &ask).await? else {
            return Ok(());
        };
        if allowed.contains(&ServerMethod::Certificate) && has(&methods, "publickey") {
            match self.certificate(session, admitted, authorized, client).await? {
                None => return Ok(()),
                Some(left) => methods = left,
            }
        }
        if allowed.contains(&ServerMethod::PublicKey) && has(&methods, "publickey") {
            match self.stored_keys(session, admitted, authorized, client, &methods).await? {
                None => return Ok(()),
                Some(left) => methods = left,
            }
        }
        if allowed.contains(&ServerMethod::Kerberos) && has(&methods, gssapi::METHOD) {
            match self.by_ticket(session, admitted, authorized, client, &methods).await? {
                None => return Ok(()),
                Some(left) => methods = left,
            }
        }
        if allowed.last() == Some(&ServerMethod::PublicKeyAgent) {
            return self.by_agent(session, client, methods).await;
        }
        // Only where the policy puts passwords first: the server sees the gateway's password.
        if allowed.first() == Some(&ServerMethod::Password)
            && let Some(password) = client.given_password()
        {
            match self.password(session, client, allowed, &password, &methods).await? {
                None => return Ok(()),
                Some(left) => methods = left,
            }
        }
        self.relayed(session, client, allowed, methods).await
    }

    /// Tries a certificate that is made for this login.
    async fn certificate(
        &mut self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        client: &mut Client,
    ) -> Result<Left, Stop> {
        let seen = self.link.stream.local_addr();
        let seen = seen.map_err(|error| Stop::server("login", error))?;
        let key = credential::certificate(session, admitted, authorized, seen.ip()).await?;
        let algorithm = KeyAlgorithm::Ed25519;
        let sign = |data: &[u8]| key.sign(algorithm, data);
        let name = algorithm.certificate_name().as_bytes();
        let blob = key.certificate().unwrap_or_default();
        let attempt = self.connector.key(name, blob, sign);
        let attempt = attempt.map_err(|error| Stop::gateway("credential", error))?;
        self.tried(session, client, "certificate", &attempt).await
    }

    /// Tries the keys of the credential store.
    async fn stored_keys(
        &mut self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        client: &mut Client,
        methods: &[String],
    ) -> Result<Left, Stop> {
        let keys = credential::keys(admitted, authorized).await?;
        if keys.is_empty() && admitted.policy().authentication.server == [ServerMethod::PublicKey] {
            return Err(DenyReason::NoCredential.into());
        }
        let mut methods = methods.to_vec();
        for key in keys {
            if !has(&methods, "publickey") {
                break;
            }
            let Some(algorithm) = signature_algorithm(&key, &self.link.leg) else { continue };
            let sign = |data: &[u8]| key.sign(algorithm, data);
            let attempt = self
                .connector
                .key(algorithm.name().as_bytes(), key.public_blob(), sign)
                .map_err(|error| Stop::gateway("credential", error))?;
            match self.tried(session, client, "publickey", &attempt).await? {
                None => return Ok(None),
                Some(left) => methods = left,
            }
        }
        Ok(Some(methods))
    }

    /// Makes one attempt that the server answers at once.
    pub(super) async fn tried(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        method: &'static str,
        attempt: &[u8],
    ) -> Result<Left, Stop> {
        self.link.send(attempt, self.deadline).await.map_err(lost)?;
        let outcome = self.outcome(client).await?;
        self.verdict(session, method, outcome)
    }

    /// Notes what the server says to an attempt.
    pub(super) fn verdict(
        &mut self,
        session: &mut Session,
        method: &'static str,
        outcome: Outcome,
    ) -> Result<Left, Stop> {
        let accepted =
            matches!(outcome, Outcome::Success | Outcome::Failure { partial_success: true, .. });
        self.partial = accepted;
        // The question for methods is no attempt, unless the server takes it as one.
        if method != "none" || accepted {
            session.note(Event::ServerLogin { method, accepted });
        }
        match outcome {
            Outcome::Success => Ok(None),
            Outcome::Failure { methods, .. } => Ok(Some(methods)),
            Outcome::Ready
            | Outcome::KeyWanted
            | Outcome::KerberosWanted
            | Outcome::Token(_)
            | Outcome::KerberosProblem(_)
            | Outcome::Questions(_)
            | Outcome::PasswordExpired(_)
            | Outcome::Banner(_) => Err(DenyReason::ServerAuthenticationFailed.into()),
        }
    }

    /// The server's next word that is not a banner; banners go on to the client.
    pub(super) async fn outcome(&mut self, client: &mut Client) -> Result<Outcome, Stop> {
        loop {
            let message = self.link.message(self.deadline).await.map_err(lost)?;
            let outcome = self.connector.receive(&message);
            let outcome = outcome.map_err(|error| Stop::server("login", error))?;
            if let Outcome::Banner(text) = outcome {
                client.tell(&text).await?;
            } else if let Outcome::KerberosProblem(problem) = outcome {
                info!(problem, "Server refuses a ticket");
            } else {
                return Ok(outcome);
            }
        }
    }
}

/// The algorithm to sign with: the first of the key's that the server has announced, or simply
/// the first where it has announced nothing (RFC 8308 section 3.1).
fn signature_algorithm(key: &HostKey, leg: &Leg) -> Option<KeyAlgorithm> {
    let mut algorithms = key.algorithms().iter().copied();
    match leg.peer_sig_algs() {
        Some(taken) => algorithms.find(|algorithm| taken.contains(algorithm.name().as_bytes())),
        None => algorithms.next(),
    }
}

/// Whether a method is among those that may go on.
pub(super) fn has(methods: &[String], wanted: &str) -> bool {
    methods.iter().any(|method| method == wanted)
}

/// A failure of the server's link.
pub(super) fn lost(error: LinkError) -> Stop {
    Stop::server("login", error)
}
