//! The login at the server by the keys of the client's own agent.
//!
//! An agent can be asked only through a channel, and channels come after the client is let in. So
//! it is let in first, by what it has shown at the gateway, and its session is confirmed by us,
//! with no credit, so that it can send no data. What it asks for is kept until the server is there.

use proxyd_policy::DenyReason;
use proxyd_ssh::agent::{AgentKey, Answer, Answers, RsaHash, keys_request, sign_request};
use proxyd_ssh::auth::connector::Outcome;
use proxyd_ssh::cursor::Reader;
use proxyd_ssh::limits::EARLY_PACKET_BYTES_MAX;
use proxyd_ssh::message::channel::{self, Confirmation, Open, Request};
use proxyd_ssh::message::number;
use thiserror::Error as ThisError;

use super::client::Client;
use super::login::{Login, has, lost};
use crate::session::Session;
use crate::session::stop::Stop;

/// Our number for the client's session, as long as the server has none. Peers count from 0.
const SESSION: u32 = 0x8000_0000;

/// Our number for the channel to the client's agent.
const AGENT: u32 = 0x8000_0001;

/// Credit on the channel to the agent, in bytes; what arrives is given back at once.
const AGENT_WINDOW_BYTES: u32 = 512 * 1024;

/// Largest packet on that channel.
const AGENT_PACKET_BYTES_MAX: u32 = 32 * 1024;

/// Messages that are kept until the server is there; a client sends a dozen.
const KEPT_MESSAGES_MAX: usize = 256;

/// Bytes of them; environment variables are the longest.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// What a client has sent since it was let in.
#[derive(Debug, Default)]
pub(super) struct Early {
    /// The opening of its session, and its number for it.
    session: Option<(Vec<u8>, u32)>,
    messages: Vec<Vec<u8>>,
    bytes: usize,
}

impl Early {
    /// What is to be received again: the opening of the session, the client's number for it and
    /// ours, and what came after it.
    pub(super) fn into_parts(self) -> Option<(Vec<u8>, u32, u32, Vec<Vec<u8>>)> {
        let (open, client) = self.session?;
        Some((open, client, SESSION, self.messages))
    }

    fn keep(&mut self, message: &[u8]) -> Result<(), TooMuch> {
        self.bytes = self.bytes.saturating_add(message.len());
        if self.messages.len() >= KEPT_MESSAGES_MAX || self.bytes > KEPT_BYTES_MAX {
            return Err(TooMuch { messages: KEPT_MESSAGES_MAX, bytes: KEPT_BYTES_MAX });
        }
        self.messages.push(message.to_vec());
        Ok(())
    }
}

/// A client that sends more than is kept for it.
#[derive(Debug, ThisError)]
#[error("more than {messages} messages or {bytes} bytes before the server is there")]
struct TooMuch {
    messages: usize,
    bytes: usize,
}

/// An agent that answers what it was not asked.
#[derive(Debug, ThisError)]
#[error("the agent answered what it was not asked")]
struct WrongAnswer;

/// An agent that takes no more.
#[derive(Debug, ThisError)]
#[error("the agent takes no request of {bytes} bytes")]
struct NoCredit {
    bytes: usize,
}

/// The channel to a client's agent.
struct Agent {
    /// The client's number for it.
    number: u32,
    /// Bytes that may be sent.
    credit_bytes: u32,
    answers: Answers,
}

impl Login {
    /// Tries the keys of the client's agent.
    pub(super) async fn by_agent(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        methods: Vec<String>,
    ) -> Result<(), Stop> {
        if !has(&methods, "publickey") {
            return Err(DenyReason::ServerAuthenticationFailed.into());
        }
        let mut agent = Agent::open(client).await?;
        for key in agent.keys(client).await? {
            let Some((algorithm, rsa)) = self.algorithm(&key) else { continue };
            let query = self.connector.key_query(&algorithm, &key.blob);
            self.link.send(&query, self.deadline).await.map_err(lost)?;
            let outcome = self.outcome(client).await?;
            if outcome != Outcome::KeyWanted {
                match self.verdict(session, "publickey-agent", outcome)? {
                    None => return agent.close(client).await,
                    Some(left) if has(&left, "publickey") => continue,
                    Some(_left) => break,
                }
            }
            let attempt = self.connector.key_attempt(&algorithm, &key.blob);
            let signature = agent.sign(client, &key, &attempt.covered, rsa).await?;
            // An agent may ask its user, who may say no.
            let Some(signature) = signature else { continue };
            let attempt = self.connector.signed(&attempt, &signature);
            match self.tried(session, client, "publickey-agent", &attempt).await? {
                None => return agent.close(client).await,
                Some(left) if has(&left, "publickey") => {}
                Some(_left) => break,
            }
        }
        Err(DenyReason::ServerAuthenticationFailed.into())
    }

    /// The algorithm to sign with by the type of a key, which only for RSA is another name.
    fn algorithm(&self, key: &AgentKey) -> Option<(Vec<u8>, Option<RsaHash>)> {
        let key_type = Reader::new(&key.blob).string("key type").ok()?;
        let (strong, weak) = match key_type {
            b"ssh-rsa" => ("rsa-sha2-512", "rsa-sha2-256"),
            b"ssh-rsa-cert-v01@openssh.com" => {
                ("rsa-sha2-512-cert-v01@openssh.com", "rsa-sha2-256-cert-v01@openssh.com")
            }
            other => return Some((other.to_vec(), None)),
        };
        let taken = self.link.leg.peer_sig_algs();
        let only_weak = taken.is_some_and(|taken| {
            taken.contains(b"rsa-sha2-256") && !taken.contains(b"rsa-sha2-512")
        });
        Some(match only_weak {
            true => (weak.as_bytes().to_vec(), Some(RsaHash::Sha256)),
            false => (strong.as_bytes().to_vec(), Some(RsaHash::Sha512)),
        })
    }
}

impl Agent {
    /// Lets the client in, waits until it forwards its agent, and opens a channel to that.
    async fn open(client: &mut Client) -> Result<Self, Stop> {
        client.let_in_early()?;
        await_agent(client).await?;
        let open = Open {
            kind: b"auth-agent@openssh.com",
            sender: AGENT,
            window_bytes: AGENT_WINDOW_BYTES,
            packet_bytes_max: AGENT_PACKET_BYTES_MAX,
            details: b"",
        };
        client.send_early(&open.encode()).await?;
        let answer = next_of_agent(client).await?;
        if answer.first() != Some(&number::CHANNEL_OPEN_CONFIRMATION) {
            return Err(DenyReason::NoAgent.into());
        }
        let confirmation = Confirmation::parse(&answer).map_err(broken)?;
        let (number, credit_bytes) = (confirmation.sender, confirmation.window_bytes);
        Ok(Self { number, credit_bytes, answers: Answers::default() })
    }

    async fn keys(&mut self, client: &mut Client) -> Result<Vec<AgentKey>, Stop> {
        match self.ask(client, &keys_request()).await? {
            Answer::Keys(keys) => Ok(keys),
            Answer::Refused => Ok(Vec::new()),
            Answer::Signature(_) => Err(broken(WrongAnswer)),
        }
    }

    /// A signature over `data`; none where the agent refuses.
    async fn sign(
        &mut self,
        client: &mut Client,
        key: &AgentKey,
        data: &[u8],
        rsa: Option<RsaHash>,
    ) -> Result<Option<Vec<u8>>, Stop> {
        match self.ask(client, &sign_request(&key.blob, data, rsa)).await? {
            Answer::Signature(signature) => Ok(Some(signature)),
            Answer::Refused => Ok(None),
            Answer::Keys(_) => Err(broken(WrongAnswer)),
        }
    }

    async fn ask(&mut self, client: &mut Client, request: &[u8]) -> Result<Answer, Stop> {
        let bytes = request.len();
        let needed = u32::try_from(bytes).unwrap_or(u32::MAX);
        let left = self.credit_bytes.checked_sub(needed);
        self.credit_bytes = left.ok_or_else(|| broken(NoCredit { bytes }))?;
        client.send_early(&channel::data(self.number, request)).await?;
        loop {
            let message = next_of_agent(client).await?;
            match message.first().copied().unwrap_or_default() {
                number::CHANNEL_DATA => {
                    let (_extended, bytes) = channel::parse_data(&message).map_err(broken)?;
                    let count = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                    let answer = self.answers.push(bytes).map_err(broken)?;
                    client.send_early(&channel::adjust(self.number, count)).await?;
                    if let Some(answer) = answer {
                        return Ok(answer);
                    }
                }
                number::CHANNEL_WINDOW_ADJUST => {
                    let bytes = channel::parse_adjust(&message).map_err(broken)?;
                    self.credit_bytes = self.credit_bytes.saturating_add(bytes);
                }
                // An agent that is gone answers nothing.
                _ => return Err(DenyReason::NoAgent.into()),
            }
        }
    }

    /// Closes the channel and waits until the client has.
    async fn close(self, client: &mut Client) -> Result<(), Stop> {
        client.send_early(&channel::close(self.number)).await?;
        while next_of_agent(client).await?.first() != Some(&number::CHANNEL_CLOSE) {}
        Ok(())
    }
}

/// Confirms the client's session, and waits until it forwards its agent there.
async fn await_agent(client: &mut Client) -> Result<(), Stop> {
    loop {
        let message = client.message_early().await?;
        let early = client.let_in_early()?;
        match message.first().copied().unwrap_or_default() {
            number::CHANNEL_OPEN if early.session.is_none() => {
                let open = Open::parse(&message).map_err(broken)?;
                if open.kind != b"session" {
                    return Err(DenyReason::NoAgent.into());
                }
                early.session = Some((message.to_vec(), open.sender));
                let confirmation = Confirmation {
                    recipient: open.sender,
                    sender: SESSION,
                    window_bytes: 0,
                    packet_bytes_max: EARLY_PACKET_BYTES_MAX,
                    details: b"",
                };
                client.send_early(&confirmation.encode()).await?;
            }
            number::CHANNEL_REQUEST => {
                let kind = Request::parse(&message).map_err(broken)?.kind;
                let forwards = kind == b"auth-agent-req@openssh.com";
                if [b"shell".as_slice(), b"exec", b"subsystem"].contains(&kind) {
                    return Err(DenyReason::NoAgent.into());
                }
                early.keep(&message).map_err(broken)?;
                if forwards {
                    return Ok(());
                }
            }
            _ => early.keep(&message).map_err(broken)?,
        }
    }
}

/// The next message on the channel to the agent; all others are kept.
async fn next_of_agent(client: &mut Client) -> Result<Vec<u8>, Stop> {
    loop {
        let message = client.message_early().await?;
        let number = message.first().copied().unwrap_or_default();
        let on_channel =
            (number::CHANNEL_OPEN_CONFIRMATION..=number::CHANNEL_FAILURE).contains(&number);
        if on_channel && channel::recipient(&message).map_err(broken)? == AGENT {
            return Ok(message.to_vec());
        }
        client.let_in_early()?.keep(&message).map_err(broken)?;
    }
}

/// The client broke the protocol.
fn broken(error: impl std::error::Error + Send + Sync + 'static) -> Stop {
    Stop::client("agent", error)
}
