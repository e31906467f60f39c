//! The client-facing half during authentication: what the client brings, what it is asked.

use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::target::{RequestedTarget, TargetPolicy};
use proxyd_ssh::auth::AuthError;
use proxyd_ssh::auth::acceptor::{Acceptor, Attempt, Incoming, Key};
use proxyd_ssh::message::gssapi;
use proxyd_ssh::message::userauth::{self, InfoRequest, Prompt};
use proxyd_wire::user_name::InbandMode;
use tokio::sync::OwnedSemaphorePermit;

use super::Ssh;
use super::agent::Early;
use super::link::{Link, LinkError};
use super::names::Names;
use super::ticket::Tickets;
use crate::ask::{Ask, Present, Presented, Question, SecretBytes, Takes};
use crate::clock::Clock;
use crate::gateway;
use crate::line::protocol::ClientHalf;
use crate::session::stop::Stop;

/// RFC 4253 section 11.1: the server cannot be told from an impostor.
const HOST_KEY_NOT_VERIFIABLE: u32 = 9;

/// RFC 4253 section 11.1: the reason for ending a connection whose user was not let in.
const NO_MORE_METHODS: u32 = 14;

/// The method that questions are asked by (RFC 4256).
pub(super) const INTERACTIVE: &str = "keyboard-interactive";

/// The client-facing half.
#[derive(Debug)]
pub struct Client {
    pub(super) link: Link,
    pub(super) acceptor: Acceptor,
    clock: Clock,
    deadline: Duration,
    question_limit: Duration,
    waiting: Waiting,
    /// Whether what the client brought last was right.
    right: bool,
    pending: Option<Attempt>,
    offered_key: Option<Key>,
    methods: Vec<&'static str>,
    names: Names,
    /// The password that was presented last.
    typed: Option<SecretBytes>,
    /// The password that was right at the gateway.
    given: Option<SecretBytes>,
    /// The client's tickets.
    pub(super) tickets: Tickets,
    /// What the client's failure in this phase is called.
    failure: DenyReason,
    /// Whether the client's last attempt brought anything.
    brought: bool,
    /// Whether it did, and was refused.
    refused: bool,
    /// What a client has sent that was let in before the server was there.
    early: Option<Early>,
    /// Given back once the client is authenticated, or gone.
    handshake: OwnedSemaphorePermit,
}

/// The attempt that a client waits for the answer to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waiting {
    /// None.
    Nothing,
    /// One within which questions can be asked.
    Interactive,
    /// A password, which may be asked to be changed.
    Password,
    /// Any other.
    Other,
}

impl Client {
    /// A client whose key exchange is complete.
    pub(super) fn new(
        ssh: &Ssh,
        admitted: &Admitted,
        link: Link,
        handshake: OwnedSemaphorePermit,
    ) -> Self {
        let session_id = link.leg.session_id().unwrap_or_default();
        Self {
            acceptor: Acceptor::new(session_id, ssh.limits.attempts),
            clock: ssh.clock,
            deadline: ssh.clock.now().saturating_add(ssh.limits.authentication),
            question_limit: ssh.limits.question,
            waiting: Waiting::Nothing,
            right: false,
            pending: None,
            offered_key: None,
            methods: names(gateway::takes(admitted)),
            names: Names::default(),
            typed: None,
            given: None,
            tickets: Tickets::new(ssh, admitted),
            failure: DenyReason::GatewayAuthenticationFailed,
            brought: false,
            refused: false,
            early: None,
            handshake,
            link,
        }
    }

    /// When authentication has to be complete, on both legs.
    pub(super) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The password that was right at the gateway, if one was and it could be the server's too.
    pub(super) fn given_password(&mut self) -> Option<SecretBytes> {
        let same_name = self.names.gateway == self.names.remote;
        self.given.take().filter(|_password| same_name)
    }

    /// Waits for the client's first attempt, which brings its user name.
    pub(super) async fn first_attempt(&mut self) -> Result<(), Stop> {
        let attempt = self.attempt().await?;
        self.put_back(attempt);
        Ok(())
    }

    /// What the user name says, fit for a record; empty until it is understood.
    pub(super) fn user_name(&self) -> &str {
        &self.names.shown
    }

    /// Reads the fields of the user name; tells the user where it cannot be understood.
    pub(super) async fn read_user_name(&mut self, admitted: &Admitted) -> Result<(), Stop> {
        let inband = matches!(admitted.policy().target, TargetPolicy::Inband(_));
        let mode = if inband { InbandMode::On } else { InbandMode::Off };
        match Names::read(self.acceptor.user().unwrap_or_default(), mode) {
            Some(names) => {
                self.names = names;
                Ok(())
            }
            None => {
                let stop = Stop::from(DenyReason::UserNameInvalid);
                self.dismiss(&stop).await;
                Err(stop)
            }
        }
    }

    /// Shows the policy's banner.
    pub(super) async fn show_banner(&mut self, banner: Option<&str>) -> Result<(), Stop> {
        match banner {
            Some(text) => self.tell(text).await,
            None => Ok(()),
        }
    }

    /// From now on these methods may go on, for the server's login.
    pub(super) fn offer(&mut self, methods: Vec<&'static str>) {
        self.methods = methods;
        self.failure = DenyReason::ServerAuthenticationFailed;
    }

    /// Answers the attempt that the client waits for, if it does: it was right but not enough, or
    /// wrong.
    pub(super) async fn answer(&mut self) -> Result<(), Stop> {
        if self.waiting == Waiting::Nothing {
            return Ok(());
        }
        self.waiting = Waiting::Nothing;
        let message = if std::mem::take(&mut self.right) {
            self.refused = false;
            self.acceptor.go_on(&self.methods)
        } else {
            self.refused = self.brought;
            self.acceptor.reject(&self.methods).map_err(judge)?
        };
        self.send(&message).await
    }

    /// Whether the client has brought a password and can be asked to change it.
    pub(super) fn can_change_password(&self) -> bool {
        self.waiting == Waiting::Password
    }

    /// Whether the client can be asked questions.
    pub(super) fn can_be_asked(&self) -> bool {
        self.waiting == Waiting::Interactive
    }

    /// Asks for a change of the password that the client has brought: gives the old and the new
    /// one; none where the client starts another attempt instead, which is then the next.
    pub(super) async fn change_password(
        &mut self,
        text: &str,
    ) -> Result<Option<(SecretBytes, SecretBytes)>, Stop> {
        let message = self.acceptor.ask_change(text);
        self.send(&message).await?;
        let attempt = self.attempt().await?;
        let Attempt::PasswordChange { old, new } = attempt else {
            self.put_back(attempt);
            return Ok(None);
        };
        Ok(Some((old, new)))
    }

    /// The next attempt, which waits for its answer from now on.
    pub(super) async fn attempt(&mut self) -> Result<Attempt, Stop> {
        let attempt = match self.pending.take() {
            Some(attempt) => attempt,
            None => match self.incoming(self.deadline).await? {
                Incoming::Attempt(attempt) => attempt,
                // The acceptor lets answers through only where it asked.
                Incoming::Answers(_) | Incoming::Kerberos(_) | Incoming::Reply(_) => {
                    Attempt::Unusable
                }
            },
        };
        self.right = false;
        self.waiting = match &attempt {
            Attempt::Interactive => Waiting::Interactive,
            Attempt::Password(_) | Attempt::PasswordChange { .. } => Waiting::Password,
            Attempt::Nothing
            | Attempt::KeyOffer(_)
            | Attempt::Key(_)
            | Attempt::Kerberos
            | Attempt::Unusable => Waiting::Other,
        };
        Ok(attempt)
    }

    /// Asks one round of questions within a keyboard-interactive attempt.
    ///
    /// None where the client starts another attempt instead of answering, which is then the next.
    pub(super) async fn round(
        &mut self,
        round: &InfoRequest,
    ) -> Result<Option<Vec<SecretBytes>>, Stop> {
        let message = self.acceptor.ask(round);
        self.send(&message).await?;
        let limit = self.clock.now().saturating_add(self.question_limit);
        match self.incoming(limit.min(self.deadline)).await? {
            Incoming::Answers(answers) if answers.len() == round.prompts.len() => Ok(Some(answers)),
            Incoming::Attempt(attempt) => {
                self.put_back(attempt);
                Ok(None)
            }
            Incoming::Answers(_) | Incoming::Kerberos(_) | Incoming::Reply(_) => {
                Err(Stop::client("authentication", WrongAnswers))
            }
        }
    }

    /// The client is in: its authentication is over, and what it took with it. Gives what it has
    /// sent since, if it was let in before.
    pub(super) fn admit(mut self) -> Result<(Link, Option<Early>), Stop> {
        self.let_in()?;
        let Self { link, early, handshake, .. } = self;
        drop(handshake);
        Ok((link, early))
    }

    /// Lets the client in, unless it is.
    fn let_in(&mut self) -> Result<(), Stop> {
        if self.early.is_some() {
            return Ok(());
        }
        let success = [proxyd_ssh::message::number::USERAUTH_SUCCESS];
        self.link.leg.send(&[&success]).map_err(|error| Stop::client("authentication", error))
    }

    /// Lets the client in before the server is there; what it sends from now on is kept.
    pub(super) fn let_in_early(&mut self) -> Result<&mut Early, Stop> {
        self.let_in()?;
        self.waiting = Waiting::Nothing;
        Ok(self.early.get_or_insert_default())
    }

    /// The next message of a client that was let in early.
    pub(super) async fn message_early(&mut self) -> Result<SecretBytes, Stop> {
        let message = self.link.message(self.deadline).await;
        message.map_err(|error| self.stop(error))
    }

    /// Sends a message to such a client.
    pub(super) async fn send_early(&mut self, message: &[u8]) -> Result<(), Stop> {
        self.send(message).await
    }

    /// The client's attempt needs no answer any more: it has given it up.
    pub(super) const fn drop_attempt(&mut self) {
        self.waiting = Waiting::Nothing;
    }

    /// Keeps an attempt for later; the one before it needs no answer any more (RFC 4252 section
    /// 5.1).
    pub(super) fn put_back(&mut self, attempt: Attempt) {
        self.pending = Some(attempt);
        self.waiting = Waiting::Nothing;
    }

    /// Brings the client to where it can be asked; one that is not willing leaves, or runs out of
    /// attempts.
    async fn converse(&mut self) -> Result<(), Stop> {
        if self.waiting == Waiting::Interactive {
            return Ok(());
        }
        let methods = std::mem::replace(&mut self.methods, vec![INTERACTIVE]);
        while self.waiting != Waiting::Interactive {
            if self.waiting != Waiting::Nothing {
                self.answer().await?;
                // Also a client that has brought nothing knows now what it would take.
                self.refused = true;
            }
            let _attempt = self.attempt().await?;
        }
        self.methods = methods;
        self.refused = false;
        Ok(())
    }

    /// The next thing of the client that is not answered by the machine itself.
    pub(super) async fn incoming(&mut self, deadline: Duration) -> Result<Incoming, Stop> {
        loop {
            let message = self.link.message(deadline).await;
            let message = message.map_err(|error| self.stop(error))?;
            match self.acceptor.receive(&message).map_err(judge)? {
                Incoming::Reply(reply) => self.send(&reply).await?,
                Incoming::Attempt(attempt) => {
                    self.brought = !matches!(attempt, Attempt::Nothing);
                    return Ok(Incoming::Attempt(attempt));
                }
                asked @ (Incoming::Answers(_) | Incoming::Kerberos(_)) => return Ok(asked),
            }
        }
    }

    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), Stop> {
        let sent = self.link.send(message, self.deadline).await;
        sent.map_err(|error| self.stop(error))
    }

    /// A failure of the client's link during authentication; a client that goes after it was
    /// refused was denied.
    fn stop(&self, error: LinkError) -> Stop {
        match error {
            LinkError::Closed | LinkError::Disconnected { .. } | LinkError::Socket(_) => {
                if self.refused { self.failure.into() } else { Stop::ClientGone }
            }
            LinkError::Timeout => DenyReason::AuthenticationTimeout.into(),
            LinkError::Protocol(_) => Stop::client("authentication", error),
        }
    }
}

impl Ask for Client {
    async fn ask(&mut self, question: &Question) -> Result<Option<SecretBytes>, Stop> {
        self.failure = question.unanswered;
        self.converse().await?;
        let prompt = Prompt { text: question.text.clone(), echo: question.echo };
        let round = InfoRequest { prompts: vec![prompt], ..InfoRequest::default() };
        Ok(self.round(&round).await?.and_then(|mut answers| answers.pop()))
    }

    async fn tell(&mut self, text: &str) -> Result<(), Stop> {
        if self.early.is_some() {
            return Ok(());
        }
        let message = userauth::banner(&with_line_end(text));
        self.send(&message).await
    }

    fn accept(&mut self) {
        self.right = true;
        self.tickets.accept();
        if let Some(password) = self.typed.take() {
            self.given = Some(password);
        }
    }
}

impl Present for Client {
    fn gateway_name(&self) -> &str {
        &self.names.gateway
    }

    async fn present(&mut self) -> Result<Presented, Stop> {
        self.failure = DenyReason::GatewayAuthenticationFailed;
        // Here the client has answered for its name: what follows can be asked at once, unless it
        // has a key to show.
        if self.waiting == Waiting::Interactive && !self.methods.contains(&"publickey") {
            if let Some(presented) = self.ask_password().await? {
                return Ok(presented);
            }
        } else {
            self.answer().await?;
        }
        loop {
            match self.attempt().await? {
                Attempt::Nothing | Attempt::PasswordChange { .. } | Attempt::Unusable => {
                    return Ok(Presented::Nothing);
                }
                Attempt::Password(password) => {
                    self.typed = Some(password.clone());
                    return Ok(Presented::Password(password));
                }
                Attempt::KeyOffer(key) => {
                    let blob = key.blob.clone();
                    self.offered_key = Some(key);
                    return Ok(Presented::KeyOffer { blob });
                }
                Attempt::Key(key) => return Ok(Presented::Key { blob: key.blob }),
                Attempt::Kerberos if !self.methods.contains(&gssapi::METHOD) => {
                    return Ok(Presented::Nothing);
                }
                Attempt::Kerberos => {
                    let principal = self.show_ticket().await?;
                    return Ok(Presented::Ticket { principal });
                }
                Attempt::Interactive if !self.methods.contains(&INTERACTIVE) => {
                    return Ok(Presented::Nothing);
                }
                Attempt::Interactive => {
                    // A client that brings something else instead is judged by that.
                    if let Some(presented) = self.ask_password().await? {
                        return Ok(presented);
                    }
                }
            }
        }
    }

    async fn go_on(&mut self, takes: Takes) -> Result<(), Stop> {
        self.accept();
        self.methods = names(takes);
        self.answer().await?;
        // Who leaves now has not shown what the policy wants.
        self.refused = true;
        Ok(())
    }

    async fn invite(&mut self) -> Result<(), Stop> {
        match self.offered_key.take() {
            Some(key) => {
                self.waiting = Waiting::Nothing;
                let message = userauth::key_ok(&key.algorithm, &key.blob);
                self.send(&message).await
            }
            None => self.reject().await,
        }
    }

    async fn reject(&mut self) -> Result<(), Stop> {
        self.typed = None;
        self.tickets.reject();
        self.right = false;
        self.answer().await
    }
}

impl Client {
    /// Asks for the gateway's password; none where the client starts another attempt instead.
    async fn ask_password(&mut self) -> Result<Option<Presented>, Stop> {
        let text = format!("Gateway password for {}: ", self.names.gateway);
        let unanswered = DenyReason::GatewayAuthenticationFailed;
        let answer = self.ask(&Question { text, echo: false, unanswered }).await?;
        self.typed.clone_from(&answer);
        Ok(answer.map(Presented::Password))
    }
}

impl ClientHalf for Client {
    fn requested_target(&self) -> Option<&RequestedTarget> {
        self.names.target.as_ref()
    }

    fn remote_user(&self) -> &str {
        &self.names.remote
    }

    fn set_remote_user(&mut self, user: String) {
        self.names.set_user(user);
    }

    async fn dismiss(&mut self, stop: &Stop) {
        let text = stop.text();
        let reason = match stop {
            Stop::Denied(
                DenyReason::HostKeyUnknown
                | DenyReason::HostKeyChanged
                | DenyReason::HostCertificateRefused,
            ) => HOST_KEY_NOT_VERIFIABLE,
            Stop::Denied(_) | Stop::Failed(_) | Stop::Terminated(_) | Stop::ClientGone => {
                NO_MORE_METHODS
            }
        };
        // A banner is what every client shows; the text of the goodbye, only some.
        let message = userauth::banner(&with_line_end(&format!("proxyd: {text}")));
        let limit = self.clock.now().saturating_add(DISMISS_LIMIT);
        // There are no banners once the client is in.
        if self.early.is_some() || self.link.send(&message, limit).await.is_ok() {
            self.link.disconnect(reason, &text).await;
        }
    }
}

/// The methods by which these credentials are shown.
fn names(takes: Takes) -> Vec<&'static str> {
    let mut methods = Vec::new();
    if takes.tickets {
        methods.push(gssapi::METHOD);
    }
    if takes.keys {
        methods.push("publickey");
    }
    if takes.passwords {
        methods.extend([INTERACTIVE, "password"]);
    }
    methods
}

/// How long it may take to tell a client why it is not let in.
const DISMISS_LIMIT: Duration = Duration::from_secs(2);

/// A client that answers another number of questions than it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the number of answers is not the number of questions")]
struct WrongAnswers;

/// What the client did wrong, as a verdict where it is one.
fn judge(error: AuthError) -> Stop {
    match error {
        AuthError::TooManyFailures { .. }
        | AuthError::TooManyKeys { .. }
        | AuthError::TooManyMessages { .. } => DenyReason::TooManyAttempts.into(),
        AuthError::UserTooLong { .. } => DenyReason::UserNameInvalid.into(),
        AuthError::Decode(_)
        | AuthError::Unexpected { .. }
        | AuthError::Service { .. }
        | AuthError::TooManyTokens { .. }
        | AuthError::Mechanism
        | AuthError::UserChanged => Stop::client("authentication", error),
    }
}

fn with_line_end(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\r\n") }
}
