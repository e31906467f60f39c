//! The login at the server by what the user brings: passwords, answers, a changed password.

use proxyd_policy::DenyReason;
use proxyd_policy::gateway::ServerMethod;
use proxyd_ssh::auth::acceptor::Attempt;
use proxyd_ssh::auth::connector::Outcome;
use proxyd_ssh::message::userauth::{InfoRequest, Prompt};

use super::client::{Client, INTERACTIVE};
use super::login::{Left, Login, has, lost};
use crate::ask::{Ask as _, SecretBytes};
use crate::session::Session;
use crate::session::stop::Stop;

/// Times that a user may type a new password differently the second time.
const MISTYPED_MAX: usize = 3;

impl Login {
    /// Passes the client's attempts on to the server until one is right.
    pub(super) async fn relayed(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        allowed: &[ServerMethod],
        methods: Vec<String>,
    ) -> Result<(), Stop> {
        let mut methods = methods;
        let mut offered = self.relayable(allowed, &methods)?;
        client.offer(offered.clone());
        client.answer().await?;
        loop {
            let left = match client.attempt().await? {
                Attempt::Password(password) if offered.contains(&"password") => {
                    self.password(session, client, allowed, &password, &methods).await?
                }
                Attempt::Interactive if offered.contains(&INTERACTIVE) => {
                    self.interactive(session, client, &methods).await?
                }
                Attempt::Nothing
                | Attempt::Password(_)
                | Attempt::PasswordChange { .. }
                | Attempt::KeyOffer(_)
                | Attempt::Key(_)
                | Attempt::Kerberos
                | Attempt::Interactive
                | Attempt::Unusable => Some(methods.clone()),
            };
            let Some(left) = left else { return Ok(()) };
            methods = left;
            offered = self.relayable(allowed, &methods)?;
            client.offer(offered.clone());
            if std::mem::take(&mut self.partial) {
                client.accept();
            }
            // Of a client that has turned to another attempt, the one it left needs no answer.
            client.answer().await?;
        }
    }

    /// Tries a password: as such, or as the answer to the one question of a server that only asks.
    pub(super) async fn password(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        allowed: &[ServerMethod],
        password: &[u8],
        methods: &[String],
    ) -> Result<Left, Stop> {
        if has(methods, "password") {
            let attempt = self.connector.password(password);
            self.link.send(&attempt, self.deadline).await.map_err(lost)?;
            let outcome = self.outcome(client).await?;
            let Outcome::PasswordExpired(text) = outcome else {
                return self.verdict(session, "password", outcome);
            };
            return self.change_password(session, client, text, methods).await;
        }
        if self.relayable(allowed, methods)?.contains(&"password") {
            return self.answer_once(session, client, password, methods).await;
        }
        Ok(Some(methods.to_vec()))
    }

    /// Answers the first hidden question of a server, where it stands alone, with a password.
    async fn answer_once(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        password: &[u8],
        methods: &[String],
    ) -> Result<Left, Stop> {
        let mut unused = Some(password);
        let mut message = SecretBytes::new(self.connector.interactive());
        loop {
            self.link.send(&message, self.deadline).await.map_err(lost)?;
            let outcome = self.outcome(client).await?;
            let Outcome::Questions(round) = outcome else {
                return self.verdict(session, INTERACTIVE, outcome);
            };
            let answers = match round.prompts.as_slice() {
                [] => {
                    if !round.instruction.is_empty() {
                        client.tell(&round.instruction).await?;
                    }
                    Vec::new()
                }
                [Prompt { echo: false, .. }] if unused.is_some() => Vec::from_iter(unused.take()),
                // It takes the user after all; the server forgets this attempt by itself.
                _ => {
                    self.one_answer = false;
                    return Ok(Some(methods.to_vec()));
                }
            };
            message = self.connector.answer(&answers);
        }
    }

    /// Relays one keyboard-interactive attempt.
    async fn interactive(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        methods: &[String],
    ) -> Result<Left, Stop> {
        let mut message = SecretBytes::new(self.connector.interactive());
        loop {
            self.link.send(&message, self.deadline).await.map_err(lost)?;
            let outcome = self.outcome(client).await?;
            let Outcome::Questions(round) = outcome else {
                return self.verdict(session, INTERACTIVE, outcome);
            };
            match client.round(&round).await? {
                Some(answers) => message = self.connector.answer(&answers),
                // The client turned to another attempt; the server forgets this one by itself.
                None => return Ok(Some(methods.to_vec())),
            }
        }
    }

    /// Has the user change a password that has expired, as long as the server asks for it.
    async fn change_password(
        &mut self,
        session: &mut Session,
        client: &mut Client,
        text: String,
        methods: &[String],
    ) -> Result<Left, Stop> {
        let mut text = text;
        loop {
            let changed = if client.can_change_password() {
                client.change_password(&text).await?
            } else if client.can_be_asked() {
                ask_change(client, &text).await?
            } else {
                None
            };
            let Some((old, new)) = changed else { return Ok(Some(methods.to_vec())) };
            let attempt = self.connector.change_password(&old, &new);
            self.link.send(&attempt, self.deadline).await.map_err(lost)?;
            let outcome = self.outcome(client).await?;
            let Outcome::PasswordExpired(again) = outcome else {
                return self.verdict(session, "password-change", outcome);
            };
            text = again;
        }
    }

    /// What both the server and the policy take, of what can be relayed.
    fn relayable(
        &self,
        allowed: &[ServerMethod],
        methods: &[String],
    ) -> Result<Vec<&'static str>, Stop> {
        let asks = has(methods, INTERACTIVE);
        let answers_by_password =
            asks && self.one_answer && allowed.contains(&ServerMethod::KeyboardInteractive);
        let names = allowed.iter().filter_map(|method| match method {
            ServerMethod::Password => {
                (has(methods, "password") || answers_by_password).then_some("password")
            }
            ServerMethod::KeyboardInteractive => asks.then_some(INTERACTIVE),
            ServerMethod::PublicKey
            | ServerMethod::PublicKeyAgent
            | ServerMethod::Certificate
            | ServerMethod::Kerberos => None,
        });
        let names: Vec<_> = names.collect();
        if names.is_empty() {
            return Err(DenyReason::ServerAuthenticationFailed.into());
        }
        Ok(names)
    }
}

/// Asks for the old and the new password in questions; none where the client turns away, or types
/// the new one differently each time.
async fn ask_change(
    client: &mut Client,
    text: &str,
) -> Result<Option<(SecretBytes, SecretBytes)>, Stop> {
    let prompts = ["Current password: ", "New password: ", "Retype new password: "];
    let prompt = |text: &str| Prompt { text: text.to_owned(), echo: false };
    let mut said = text;
    for _time in 0..MISTYPED_MAX {
        let prompts = prompts.map(prompt).to_vec();
        let (name, instruction) = (String::new(), said.to_owned());
        let round = InfoRequest { name, instruction, prompts };
        let Some(answers) = client.round(&round).await? else { return Ok(None) };
        if let Ok([old, new, again]) = <[SecretBytes; 3]>::try_from(answers)
            && new == again
        {
            return Ok(Some((old, new)));
        }
        said = "The new passwords are not the same.";
    }
    Ok(None)
}
