//! Kerberos tickets (RFC 4462): shown by the client, and passed on to the server where the client
//! delegated them.

use std::sync::Arc;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::gateway::{KerberosPolicy, ServerMethod};
use proxyd_policy::target::TargetPolicy;
use proxyd_ssh::auth::acceptor::{Exchange, Incoming};
use proxyd_ssh::auth::connector::Outcome;
use proxyd_ssh::message::gssapi;
use tracing::info;

use super::Ssh;
use super::client::Client;
use super::login::{Left, Login, lost};
use crate::kerberos::{Kerberos, KerberosError, Ticket};
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// The tickets of one client.
#[derive(Debug)]
pub(super) struct Tickets {
    kerberos: Kerberos,
    /// What they are judged by; none where they are not taken.
    policy: Option<Arc<KerberosPolicy>>,
    /// One that came with what was shown last.
    shown: Option<Ticket>,
    /// One that came with what was right at the gateway.
    given: Option<Ticket>,
}

impl Tickets {
    pub(super) fn new(ssh: &Ssh, admitted: &Admitted) -> Self {
        let policy = admitted.policy().authentication.kerberos.clone();
        Self { kerberos: ssh.kerberos.clone(), policy, shown: None, given: None }
    }

    /// What was shown last is right.
    pub(super) fn accept(&mut self) {
        if let Some(ticket) = self.shown.take() {
            self.given = Some(ticket);
        }
    }

    /// What was shown last is wrong.
    pub(super) fn reject(&mut self) {
        self.shown = None;
    }
}

impl Client {
    /// Has the client show the ticket that it could show; gives its principal, or what is wrong.
    pub(super) async fn show_ticket(&mut self) -> Result<Result<String, KerberosError>, Stop> {
        let Some(policy) = &self.tickets.policy else { return Ok(Err(KerberosError::Incomplete)) };
        let mut accepting = self.tickets.kerberos.accept(&policy.keytab_file);
        let message = self.acceptor.take_kerberos();
        self.send(&message).await?;
        loop {
            match self.incoming(self.deadline()).await? {
                Incoming::Kerberos(Exchange::Token(token)) => match accepting.step(token).await {
                    Ok(Some(reply)) => self.send(&gssapi::token(&reply)).await?,
                    Ok(None) => {}
                    Err(error) if error.is_ours() => {
                        return Err(Stop::gateway("gateway-authentication", error));
                    }
                    Err(error) => return Ok(Err(error)),
                },
                Incoming::Kerberos(Exchange::Proof { mic, covered }) => {
                    let shown = accepting.prove(&covered, &mic);
                    return Ok(shown.map(|shown| {
                        self.tickets.shown = shown.ticket;
                        shown.principal
                    }));
                }
                Incoming::Kerberos(Exchange::Abandoned) => {
                    self.drop_attempt();
                    return Ok(Err(KerberosError::Incomplete));
                }
                Incoming::Attempt(attempt) => {
                    self.put_back(attempt);
                    return Ok(Err(KerberosError::Incomplete));
                }
                Incoming::Kerberos(Exchange::Unproven)
                | Incoming::Answers(_)
                | Incoming::Reply(_) => return Ok(Err(KerberosError::Unprotected)),
            }
        }
    }
}

impl Login {
    /// Tries the ticket that the client delegated; it is wiped when this is over.
    pub(super) async fn by_ticket(
        &mut self,
        session: &mut Session,
        admitted: &Admitted,
        authorized: &Authorized,
        client: &mut Client,
        methods: &[String],
    ) -> Result<Left, Stop> {
        let Some(ticket) = client.tickets.given.take() else {
            if admitted.policy().authentication.server == [ServerMethod::Kerberos] {
                return Err(DenyReason::NoTicket.into());
            }
            return Ok(Some(methods.to_vec()));
        };
        // A client that connects to the server itself has named it when it got its ticket.
        let (target, policy) = (authorized.target(), &admitted.policy().target);
        let address = target.address().ip().to_canonical().to_string();
        let name = target.name().map_or(address.as_str(), |name| name.as_str());
        let name = (*policy != TargetPolicy::Original).then_some(name);
        let mut initiating = client.tickets.kerberos.initiate(ticket, name);
        let offer = self.connector.kerberos();
        self.link.send(&offer, self.deadline).await.map_err(lost)?;
        let mut outcome = self.outcome(client).await?;
        loop {
            let token = if let Outcome::Token(token) = outcome {
                Some(token)
            } else if outcome == Outcome::KerberosWanted {
                None
            } else {
                return self.verdict(session, gssapi::METHOD, outcome);
            };
            let covered = self.connector.kerberos_covered();
            let stepped = initiating.step(token).await;
            let stepped = stepped.and_then(|reply| Ok((reply, initiating.proof(&covered)?)));
            let (reply, proof) = match stepped {
                Ok(stepped) => stepped,
                Err(error) => {
                    info!(session_id = %session.id(), %error, "A ticket is no good at a server");
                    // The server forgets this attempt by itself.
                    session.note(Event::ServerLogin { method: gssapi::METHOD, accepted: false });
                    return Ok(Some(methods.to_vec()));
                }
            };
            let messages =
                [reply.map(|reply| gssapi::token(&reply)), proof.map(|mic| gssapi::mic(&mic))];
            for message in messages.into_iter().flatten() {
                self.link.send(&message, self.deadline).await.map_err(lost)?;
            }
            outcome = self.outcome(client).await?;
        }
    }
}
