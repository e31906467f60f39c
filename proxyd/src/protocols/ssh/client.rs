//! The client-facing half during authentication: what the client brings, what it is asked.

use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::net::Host;
use proxyd_policy::target::{RequestedTarget, TargetPolicy};
use proxyd_ssh::auth::AuthError;
use proxyd_ssh::auth::acceptor::{Acceptor, Attempt, Incoming, Key};
use proxyd_ssh::message::userauth::{self, InfoRequest, Prompt};
use proxyd_wire::user_name::{self, InbandMode};
use tokio::sync::OwnedSemaphorePermit;

use super::Ssh;
use super::link::{Link, LinkError};
use crate::ask::{Ask, Present, Presented, Question, SecretBytes};
use crate::clock::Clock;
use crate::gateway;
use crate::line::protocol::ClientHalf;
use crate::session::stop::Stop;

/// RFC 4253 section 11.1: the reason for ending a connection whose user was not let in.
const NO_MORE_METHODS: u32 = 14;

/// The client-facing half.
#[derive(Debug)]
pub struct Client {
    pub(super) link: Link,
    acceptor: Acceptor,
    clock: Clock,
    deadline: Duration,
    question_limit: Duration,
    /// Whether the client waits for the answer to an attempt.
    waiting: bool,
    pending: Option<Attempt>,
    offered_key: Option<Key>,
    methods: Vec<&'static str>,
    names: Names,
    given: Option<SecretBytes>,
    /// What the client's failure in this phase is called.
    failure: DenyReason,
    /// Whether the client's last attempt brought anything.
    brought: bool,
    /// Whether it did, and was refused.
    refused: bool,
    /// Given back once the client is authenticated, or gone.
    handshake: OwnedSemaphorePermit,
}

/// What the user name says.
#[derive(Debug, Default)]
struct Names {
    gateway: String,
    remote: String,
    target: Option<RequestedTarget>,
    /// All of it as a record keeps it.
    shown: String,
}

impl Client {
    /// A client whose key exchange is complete.
    pub(super) fn new(
        ssh: &Ssh,
        admitted: &Admitted,
        link: Link,
        handshake: OwnedSemaphorePermit,
    ) -> Self {
        let takes = gateway::takes(admitted);
        let mut methods = Vec::new();
        if takes.keys {
            methods.push("publickey");
        }
        if takes.passwords {
            methods.extend(["keyboard-interactive", "password"]);
        }
        let session_id = link.leg.session_id().unwrap_or_default();
        Self {
            acceptor: Acceptor::new(session_id, ssh.limits.attempts),
            clock: ssh.clock,
            deadline: ssh.clock.now().saturating_add(ssh.limits.authentication),
            question_limit: ssh.limits.question,
            waiting: false,
            pending: None,
            offered_key: None,
            methods,
            names: Names::default(),
            given: None,
            failure: DenyReason::GatewayAuthenticationFailed,
            brought: false,
            refused: false,
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
        self.pending = Some(attempt);
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
        match read_names(self.acceptor.user().unwrap_or_default(), mode) {
            Some(names) => {
                self.names = names;
                Ok(())
            }
            None => {
                let reason = DenyReason::UserNameInvalid;
                self.dismiss(reason.text()).await;
                Err(reason.into())
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
    ///
    /// A client that was authenticated at the gateway is told that this was right but not enough.
    pub(super) async fn offer(
        &mut self,
        methods: Vec<&'static str>,
        gateway_done: bool,
    ) -> Result<(), Stop> {
        self.methods = methods;
        self.failure = DenyReason::ServerAuthenticationFailed;
        if gateway_done && self.waiting {
            let message = self.acceptor.go_on(&self.methods);
            self.waiting = false;
            return self.send(&message).await;
        }
        Ok(())
    }

    /// The attempt was right at the server, which wants one more by the methods offered.
    pub(super) async fn go_on(&mut self) -> Result<(), Stop> {
        self.waiting = false;
        let message = self.acceptor.go_on(&self.methods);
        self.send(&message).await
    }

    /// Whether the client has started another attempt instead of answering.
    pub(super) const fn has_turned(&self) -> bool {
        self.pending.is_some()
    }

    /// The next attempt for the server's login.
    pub(super) async fn attempt(&mut self) -> Result<Attempt, Stop> {
        if let Some(attempt) = self.pending.take() {
            return Ok(attempt);
        }
        match self.incoming(self.deadline).await? {
            Incoming::Attempt(attempt) => Ok(attempt),
            // The acceptor lets answers through only where it asked.
            Incoming::Answers(_) | Incoming::Reply(_) => Ok(Attempt::Unusable),
        }
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
                self.pending = Some(attempt);
                Ok(None)
            }
            Incoming::Answers(_) | Incoming::Reply(_) => {
                Err(Stop::client("authentication", WrongAnswers))
            }
        }
    }

    /// The client is in: its authentication is over, and what it took with it.
    pub(super) fn admit(self) -> Result<Link, Stop> {
        let Self { mut link, handshake, .. } = self;
        let success = [proxyd_ssh::message::number::USERAUTH_SUCCESS];
        link.leg.send(&[&success]).map_err(|error| Stop::client("authentication", error))?;
        drop(handshake);
        Ok(link)
    }

    /// The next thing of the client that is not answered by the machine itself.
    async fn incoming(&mut self, deadline: Duration) -> Result<Incoming, Stop> {
        loop {
            let message = self.link.message(deadline).await;
            let message = message.map_err(|error| self.stop(error))?;
            match self.acceptor.receive(&message).map_err(judge)? {
                Incoming::Reply(reply) => self.send(&reply).await?,
                Incoming::Attempt(attempt) => {
                    self.brought = !matches!(attempt, Attempt::Nothing);
                    self.waiting = true;
                    return Ok(Incoming::Attempt(attempt));
                }
                answers @ Incoming::Answers(_) => return Ok(answers),
            }
        }
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Stop> {
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
        let prompt = Prompt { text: question.text.clone(), echo: question.echo };
        let round = InfoRequest { prompts: vec![prompt], ..InfoRequest::default() };
        Ok(self.round(&round).await?.and_then(|mut answers| answers.pop()))
    }

    async fn tell(&mut self, text: &str) -> Result<(), Stop> {
        let message = userauth::banner(&with_line_end(text));
        self.send(&message).await
    }
}

impl Present for Client {
    fn gateway_name(&self) -> &str {
        &self.names.gateway
    }

    async fn present(&mut self) -> Result<Presented, Stop> {
        loop {
            match self.attempt().await? {
                Attempt::Nothing | Attempt::Unusable => return Ok(Presented::Nothing),
                Attempt::Password(password) => {
                    self.given = Some(password.clone());
                    return Ok(Presented::Password(password));
                }
                Attempt::KeyOffer(key) => {
                    let blob = key.blob.clone();
                    self.offered_key = Some(key);
                    return Ok(Presented::KeyOffer { blob });
                }
                Attempt::Key(key) => return Ok(Presented::Key { blob: key.blob }),
                Attempt::Interactive if !self.methods.contains(&"keyboard-interactive") => {
                    return Ok(Presented::Nothing);
                }
                Attempt::Interactive => {
                    let text = format!("Gateway password for {}: ", self.names.gateway);
                    // A client that brings something else instead is judged by that.
                    if let Some(password) = self.ask(&Question { text, echo: false }).await? {
                        self.given = Some(password.clone());
                        return Ok(Presented::Password(password));
                    }
                }
            }
        }
    }

    async fn invite(&mut self) -> Result<(), Stop> {
        match self.offered_key.take() {
            Some(key) => {
                self.waiting = false;
                let message = userauth::key_ok(&key.algorithm, &key.blob);
                self.send(&message).await
            }
            None => self.reject().await,
        }
    }

    async fn reject(&mut self) -> Result<(), Stop> {
        self.given = None;
        self.waiting = false;
        self.refused = self.brought;
        let message = self.acceptor.reject(&self.methods).map_err(judge)?;
        self.send(&message).await
    }
}

impl ClientHalf for Client {
    fn requested_target(&self) -> Option<&RequestedTarget> {
        self.names.target.as_ref()
    }

    fn remote_user(&self) -> &str {
        &self.names.remote
    }

    async fn dismiss(&mut self, text: &str) {
        // A banner is what every client shows; the text of the goodbye, only some.
        let message = userauth::banner(&with_line_end(&format!("proxyd: {text}")));
        let limit = self.clock.now().saturating_add(DISMISS_LIMIT);
        if self.link.send(&message, limit).await.is_ok() {
            self.link.disconnect(NO_MORE_METHODS, text).await;
        }
    }
}

/// How long it may take to tell a client why it is not let in.
const DISMISS_LIMIT: Duration = Duration::from_secs(2);

/// A client that answers another number of questions than it was asked.
#[derive(Debug, thiserror::Error)]
#[error("the number of answers is not the number of questions")]
struct WrongAnswers;

/// What a user name says; none where it cannot be understood or names nobody.
fn read_names(typed: &[u8], mode: InbandMode) -> Option<Names> {
    let parsed = user_name::parse(typed, mode).ok()?;
    let remote = parsed.remote_user?;
    let gateway = parsed.gateway_user.unwrap_or_else(|| remote.clone());
    let target = match parsed.target {
        Some(target) => {
            let host: Host = target.host.parse().ok()?;
            Some(RequestedTarget { host, port: target.port })
        }
        None => None,
    };
    let destination = target.as_ref().map(|target| target.host.to_string());
    let fields = parsed.fields.iter().map(|(key, value)| match key.as_str() {
        "gu" => format!("gu={value}"),
        // What else there is may be a ticket, or a one-time password.
        key => format!("{key}=…"),
    });
    let shown: Vec<String> = fields.chain([remote.clone()]).chain(destination).collect();
    Some(Names { gateway, remote, target, shown: shown.join("@") })
}

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
        | AuthError::UserChanged => Stop::client("authentication", error),
    }
}

fn with_line_end(text: &str) -> String {
    if text.ends_with('\n') { text.to_owned() } else { format!("{text}\r\n") }
}
