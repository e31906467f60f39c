//! The server leg up to the server's acceptance: key exchange, host key, authentication.

use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::gateway::{GatewayAuthentication, ServerMethod};
use proxyd_policy::settings::Rekey;
use proxyd_ssh::auth::acceptor::Attempt;
use proxyd_ssh::auth::connector::{Connector, Outcome};
use proxyd_ssh::transport::{
    Algorithms, ClientConfig, HostKey, KeyAlgorithm, Leg, RekeyLimits, Version, fingerprint,
};

use super::Ssh;
use super::client::Client;
use super::greet::{VERSION, algorithms};
use super::link::{Arrived, HostKeyShown, Link, LinkError};
use crate::ask::{Ask as _, Present as _, SecretBytes};
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
    let link = handshake(ssh, session, admitted, authorized, link).await?;
    let session_id = link.leg.session_id().unwrap_or_default().to_vec();
    let user = authorized.remote_user().as_bytes();
    let (connector, hello) = Connector::new(user, &session_id);
    let deadline = client.deadline();
    let mut login = Login { link, connector, deadline, partial: false };
    login.link.send(&hello, deadline).await.map_err(stop)?;
    // The connector takes nothing but the service's acceptance at this point.
    login.outcome(client).await?;
    login.authenticate(session, admitted, authorized, client).await?;
    Ok(Server { link: login.link })
}

/// Key exchange with the server, and the verdict about its host key.
async fn handshake(
    ssh: &Ssh,
    session: &mut Session,
    admitted: &Admitted,
    authorized: &Authorized,
    link: TargetLink,
) -> Result<Link, Stop> {
    let server = authorized.target().address();
    let settings = &admitted.policy().settings.server_side;
    let known = ssh.host_keys.known_types(server).await;
    let known = known.map_err(|error| Stop::gateway("host-key", error))?;
    let mut algorithms = algorithms(&settings.algorithms, Algorithms::for_servers());
    if settings.legacy {
        algorithms = algorithms.with_legacy();
    }
    // A server with several keys must not look changed because it was asked for another one.
    let is_known = |algorithm: &KeyAlgorithm| known.iter().any(|k| k == algorithm.key_type());
    algorithms.host_keys.sort_by_key(|algorithm| !is_known(algorithm));
    let version = Version::new(VERSION).map_err(|error| Stop::gateway("login", error))?;
    let rekey = match settings.rekey {
        Rekey::On => RekeyLimits::recommended(),
        Rekey::Off => RekeyLimits::unlimited(),
    };
    let config = ClientConfig { version, algorithms, rekey };
    let leg = Leg::client(config, ssh.clock.now());
    let mut link = Link::new(leg, link.into_stream(), ssh.clock);
    let deadline = ssh.clock.now().saturating_add(ssh.limits.handshake);
    loop {
        match link.next(deadline).await.map_err(stop)? {
            Arrived::Established => {
                link.warn_unless_strict("server");
                return Ok(link);
            }
            Arrived::Message(_) => return Err(Stop::server("login", LinkError::Closed)),
            Arrived::HostKey(offer) => {
                if let Err(stop) = judge(ssh, session, admitted, authorized, &offer).await {
                    link.disconnect(HOST_KEY_NOT_VERIFIABLE, "host key not accepted").await;
                    return Err(stop);
                }
                link.leg.accept_host_key();
            }
        }
    }
}

/// RFC 4253 section 11.1.
const HOST_KEY_NOT_VERIFIABLE: u32 = 9;

async fn judge(
    ssh: &Ssh,
    session: &mut Session,
    admitted: &Admitted,
    authorized: &Authorized,
    offer: &HostKeyShown,
) -> Result<(), Stop> {
    let check = admitted.policy().settings.server_side.host_key_check;
    let server = authorized.target().address();
    let key_type = offer.algorithm.key_type();
    let verdict = ssh.host_keys.judge(server, check, key_type, &offer.blob).await;
    let verdict = verdict.map_err(|error| Stop::gateway("host-key", error))?;
    let trust = verdict.map_or_else(DenyReason::code, crate::hostkeys::Trust::as_str);
    session.note(Event::ServerIdentity { fingerprint: fingerprint(&offer.blob), trust });
    verdict.map(|_trust| ()).map_err(Stop::from)
}

/// The authentication towards the server.
struct Login {
    link: Link,
    connector: Connector,
    deadline: Duration,
    /// Whether the server took the last attempt, and wants another.
    partial: bool,
}

impl Login {
    async fn authenticate(
        &mut self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        client: &mut Client,
    ) -> Result<(), Stop> {
        let policy = &admitted.policy().authentication;
        let ask = self.connector.ask_methods();
        let Some(mut methods) = self.tried(session, client, "none", &ask).await? else {
            return Ok(());
        };
        let takes_keys = methods.iter().any(|method| method == "publickey");
        if policy.server.contains(&ServerMethod::PublicKey) && takes_keys {
            match self.stored_keys(session, admitted, authorized, client, &methods).await? {
                None => return Ok(()),
                Some(left) => methods = left,
            }
        }
        let gateway_done = policy.gateway != GatewayAuthentication::None;
        // Only where the policy puts passwords first: the server sees the gateway's password.
        if policy.server.first() == Some(&ServerMethod::Password)
            && methods.iter().any(|method| method == "password")
            && let Some(password) = client.given_password()
        {
            let attempt = self.connector.password(&password);
            match self.tried(session, client, "password", &attempt).await? {
                None => return Ok(()),
                Some(left) => methods = left,
            }
        }
        self.relayed(session, &policy.server, methods, client, gateway_done).await
    }

    /// Tries the keys of the credential store; gives the methods that are left, none when in.
    async fn stored_keys(
        &mut self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        client: &mut Client,
        methods: &[String],
    ) -> Result<Option<Vec<String>>, Stop> {
        let keys = credential::keys(admitted, authorized).await?;
        if keys.is_empty() && admitted.policy().authentication.server == [ServerMethod::PublicKey] {
            return Err(DenyReason::NoCredential.into());
        }
        let mut methods = methods.to_vec();
        for key in keys {
            if !methods.iter().any(|method| method == "publickey") {
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

    /// Passes the client's attempts on to the server until one is right.
    async fn relayed(
        &mut self,
        session: &mut Session,
        allowed: &[ServerMethod],
        methods: Vec<String>,
        client: &mut Client,
        gateway_done: bool,
    ) -> Result<(), Stop> {
        let mut methods = methods;
        let mut offered = relayable(allowed, &methods)?;
        client.offer(offered.clone(), gateway_done).await?;
        loop {
            let left = match client.attempt().await? {
                Attempt::Password(password) if offered.contains(&"password") => {
                    let attempt = self.connector.password(&password);
                    self.tried(session, client, "password", &attempt).await?
                }
                Attempt::Interactive if offered.contains(&"keyboard-interactive") => {
                    self.interactive(session, client, &methods).await?
                }
                Attempt::Nothing
                | Attempt::Password(_)
                | Attempt::KeyOffer(_)
                | Attempt::Key(_)
                | Attempt::Interactive
                | Attempt::Unusable => Some(methods.clone()),
            };
            let Some(left) = left else { return Ok(()) };
            methods = left;
            offered = relayable(allowed, &methods)?;
            client.offer(offered.clone(), false).await?;
            if client.has_turned() {
                // What it turned to is answered as itself; what it left needs no answer.
                continue;
            }
            match std::mem::take(&mut self.partial) {
                true => client.go_on().await?,
                false => client.reject().await?,
            }
        }
    }

    /// Relays one keyboard-interactive attempt; gives the methods that are left, none when in.
    async fn interactive(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        methods: &[String],
    ) -> Result<Option<Vec<String>>, Stop> {
        let mut message = SecretBytes::new(self.connector.interactive());
        loop {
            self.link.send(&message, self.deadline).await.map_err(stop)?;
            let outcome = self.outcome(client).await?;
            let Outcome::Questions(round) = outcome else {
                return self.verdict(session, "keyboard-interactive", outcome);
            };
            match client.round(&round).await? {
                Some(answers) => message = self.connector.answer(&answers),
                // The client turned to another attempt; the server forgets this one by itself.
                None => return Ok(Some(methods.to_vec())),
            }
        }
    }

    /// Makes one attempt; gives the methods that are left, none when in.
    async fn tried(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        method: &'static str,
        attempt: &[u8],
    ) -> Result<Option<Vec<String>>, Stop> {
        self.link.send(attempt, self.deadline).await.map_err(stop)?;
        let outcome = self.outcome(client).await?;
        if let Outcome::PasswordExpired(text) = &outcome {
            client.tell(text).await?;
        }
        self.verdict(session, method, outcome)
    }

    /// Notes what the server says to an attempt; gives the methods that are left, none when in.
    fn verdict(
        &mut self,
        session: &mut Session,
        method: &'static str,
        outcome: Outcome,
    ) -> Result<Option<Vec<String>>, Stop> {
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
            | Outcome::Questions(_)
            | Outcome::PasswordExpired(_)
            | Outcome::Banner(_) => Err(DenyReason::ServerAuthenticationFailed.into()),
        }
    }

    /// The server's next word that is not a banner; banners go on to the client.
    async fn outcome(&mut self, client: &mut Client) -> Result<Outcome, Stop> {
        loop {
            let message = self.link.message(self.deadline).await.map_err(stop)?;
            let outcome = self.connector.receive(&message);
            let outcome = outcome.map_err(|error| Stop::server("login", error))?;
            let Outcome::Banner(text) = outcome else { return Ok(outcome) };
            client.tell(&text).await?;
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

/// What both the server and the policy take, of what can be relayed.
fn relayable(allowed: &[ServerMethod], methods: &[String]) -> Result<Vec<&'static str>, Stop> {
    let names = allowed.iter().filter_map(|method| match method {
        ServerMethod::Password => Some("password"),
        ServerMethod::KeyboardInteractive => Some("keyboard-interactive"),
        ServerMethod::PublicKey => None,
    });
    let names: Vec<_> = names.filter(|name| methods.iter().any(|method| method == name)).collect();
    if names.is_empty() {
        return Err(DenyReason::ServerAuthenticationFailed.into());
    }
    Ok(names)
}

/// A failure of the server's link.
fn stop(error: LinkError) -> Stop {
    Stop::server("login", error)
}
