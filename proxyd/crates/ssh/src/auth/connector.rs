//! Authentication towards the server, where we are the client (RFC 4252, RFC 4256).

use zeroize::Zeroizing;

use super::AuthError;
use crate::cursor::{Reader, Writer};
use crate::limits::{AUTH_MESSAGES_MAX, BANNER_BYTES_MAX, GSSAPI_TOKENS_MAX, PROMPT_BYTES_MAX};
use crate::message::text::{clean, one_line};
use crate::message::userauth::{self, InfoRequest, USERAUTH_SERVICE};
use crate::message::{gssapi, number};

/// What a message of the server means.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Attempts may be made.
    Ready,
    /// We are logged in.
    Success,
    /// The attempt failed, or was right but not enough.
    Failure {
        /// Methods that may go on.
        methods: Vec<String>,
        /// Whether the attempt was right.
        partial_success: bool,
    },
    /// A round of questions.
    Questions(InfoRequest),
    /// The key that was asked about would do.
    KeyWanted,
    /// The password is right but has to be changed first; its text, cleaned.
    PasswordExpired(String),
    /// The server takes a Kerberos ticket; its first token may be sent.
    KerberosWanted,
    /// A token for our end of the Kerberos context.
    Token(Vec<u8>),
    /// What the server says about a failure of Kerberos, on one line; the failure itself follows.
    KerberosProblem(String),
    /// Text for the user, cleaned.
    Banner(String),
}

/// The method that was tried last; it says what message 60 means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InFlight {
    Service,
    Nothing,
    Password,
    KeyQuery,
    Key,
    Interactive,
    KerberosOffer,
    Tokens(u32),
}

/// An attempt with a key that lacks its signature.
#[derive(Debug)]
pub struct KeyAttempt {
    request: Vec<u8>,
    /// What the signature covers (RFC 4252 section 7).
    pub covered: Vec<u8>,
}

/// Our side of authentication at a server.
#[derive(Debug)]
pub struct Connector {
    user: Vec<u8>,
    session_id: Vec<u8>,
    in_flight: InFlight,
    messages: u32,
}

impl Connector {
    /// The machine, and the service request with which it starts.
    #[must_use]
    pub fn new(user: &[u8], session_id: &[u8]) -> (Self, Vec<u8>) {
        let mut request = Writer::message(number::SERVICE_REQUEST);
        request.string(USERAUTH_SERVICE);
        let connector = Self {
            user: user.to_vec(),
            session_id: session_id.to_vec(),
            in_flight: InFlight::Service,
            messages: 0,
        };
        (connector, request.into_bytes())
    }

    /// Asks which methods there are.
    pub fn ask_methods(&mut self) -> Vec<u8> {
        self.in_flight = InFlight::Nothing;
        userauth::none_request(&self.user)
    }

    /// Tries a password.
    pub fn password(&mut self, password: &[u8]) -> Zeroizing<Vec<u8>> {
        self.in_flight = InFlight::Password;
        userauth::password_request(&self.user, password)
    }

    /// Changes a password that has expired.
    pub fn change_password(&mut self, old: &[u8], new: &[u8]) -> Zeroizing<Vec<u8>> {
        self.in_flight = InFlight::Password;
        userauth::password_change_request(&self.user, old, new)
    }

    /// Starts keyboard-interactive.
    pub fn interactive(&mut self) -> Vec<u8> {
        self.in_flight = InFlight::Interactive;
        userauth::interactive_request(&self.user)
    }

    /// Answers a round of questions.
    #[must_use]
    pub fn answer<A: AsRef<[u8]>>(&self, answers: &[A]) -> Zeroizing<Vec<u8>> {
        userauth::info_response(answers)
    }

    /// Offers a Kerberos ticket.
    pub fn kerberos(&mut self) -> Vec<u8> {
        self.in_flight = InFlight::KerberosOffer;
        gssapi::request(&self.user)
    }

    /// What has to be proven once the context is complete.
    #[must_use]
    pub fn kerberos_covered(&self) -> Vec<u8> {
        gssapi::covered(&self.session_id, &self.user)
    }

    /// Tries a key; `sign` makes the signature's blob over the bytes it is given.
    pub fn key<E>(
        &mut self,
        algorithm: &[u8],
        blob: &[u8],
        sign: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let attempt = self.key_attempt(algorithm, blob);
        let signature = sign(&attempt.covered)?;
        Ok(self.signed(&attempt, &signature))
    }

    /// Asks whether a key would do.
    pub fn key_query(&mut self, algorithm: &[u8], blob: &[u8]) -> Vec<u8> {
        self.in_flight = InFlight::KeyQuery;
        userauth::key_query(&self.user, algorithm, blob)
    }

    /// An attempt with a key that lacks its signature.
    #[must_use]
    pub fn key_attempt(&self, algorithm: &[u8], blob: &[u8]) -> KeyAttempt {
        let request = userauth::key_request(&self.user, algorithm, blob);
        let mut covered = Writer::new();
        covered.string(&self.session_id).raw(&request);
        KeyAttempt { request, covered: covered.into_bytes() }
    }

    /// The attempt with its signature, algorithm first.
    pub fn signed(&mut self, attempt: &KeyAttempt, signature: &[u8]) -> Vec<u8> {
        self.in_flight = InFlight::Key;
        let mut message = Writer::new();
        message.raw(&attempt.request).string(signature);
        message.into_bytes()
    }

    /// Takes one message of the server.
    pub fn receive(&mut self, message: &[u8]) -> Result<Outcome, AuthError> {
        self.messages += 1;
        if self.messages > AUTH_MESSAGES_MAX {
            return Err(AuthError::TooManyMessages { limit: AUTH_MESSAGES_MAX });
        }
        let number = message.first().copied().unwrap_or_default();
        match (number, self.in_flight) {
            (number::SERVICE_ACCEPT, InFlight::Service) => Ok(Outcome::Ready),
            (_, InFlight::Service) => {
                Err(AuthError::Unexpected { number, expected: "a service accept" })
            }
            (number::USERAUTH_SUCCESS, _) => Ok(Outcome::Success),
            (number::USERAUTH_FAILURE, _) => failure(message),
            (number::USERAUTH_BANNER, _) => banner(message),
            (number::USERAUTH_60, InFlight::Interactive) => {
                Ok(Outcome::Questions(InfoRequest::parse(message)?))
            }
            (number::USERAUTH_60, InFlight::Password) => expired(message),
            (number::USERAUTH_60, InFlight::KeyQuery) => Ok(Outcome::KeyWanted),
            (number::USERAUTH_60, InFlight::KerberosOffer) => {
                if gssapi::parse(message)? != gssapi::KERBEROS {
                    return Err(AuthError::Mechanism);
                }
                self.in_flight = InFlight::Tokens(0);
                Ok(Outcome::KerberosWanted)
            }
            (number, InFlight::Tokens(before)) => self.exchange(number, message, before),
            _ => Err(AuthError::Unexpected { number, expected: "an authentication reply" }),
        }
    }

    fn exchange(&mut self, number: u8, message: &[u8], before: u32) -> Result<Outcome, AuthError> {
        match number {
            number::USERAUTH_GSSAPI_TOKEN if before < GSSAPI_TOKENS_MAX => {
                self.in_flight = InFlight::Tokens(before + 1);
                Ok(Outcome::Token(gssapi::parse(message)?.to_vec()))
            }
            number::USERAUTH_GSSAPI_TOKEN => {
                Err(AuthError::TooManyTokens { limit: GSSAPI_TOKENS_MAX })
            }
            number::USERAUTH_GSSAPI_ERROR => {
                let mut reader = Reader::new(message);
                reader.u8("message number")?;
                reader.u32("major status")?;
                reader.u32("minor status")?;
                let text = one_line(reader.string("message")?, PROMPT_BYTES_MAX);
                reader.string("language tag")?;
                reader.finish()?;
                Ok(Outcome::KerberosProblem(text))
            }
            number::USERAUTH_GSSAPI_ERRTOK => {
                gssapi::parse(message)?;
                Ok(Outcome::KerberosProblem("an error token".to_owned()))
            }
            _ => Err(AuthError::Unexpected { number, expected: "a gss-api token" }),
        }
    }
}

fn failure(message: &[u8]) -> Result<Outcome, AuthError> {
    let mut reader = Reader::new(message);
    reader.u8("message number")?;
    let methods = reader.name_list("authentications that can continue")?;
    let methods = methods.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let partial_success = reader.bool("partial success")?;
    reader.finish()?;
    Ok(Outcome::Failure { methods, partial_success })
}

fn banner(message: &[u8]) -> Result<Outcome, AuthError> {
    let mut reader = Reader::new(message);
    reader.u8("message number")?;
    Ok(Outcome::Banner(clean(reader.string("message")?, BANNER_BYTES_MAX)))
}

fn expired(message: &[u8]) -> Result<Outcome, AuthError> {
    let mut reader = Reader::new(message);
    reader.u8("message number")?;
    Ok(Outcome::PasswordExpired(clean(reader.string("prompt")?, BANNER_BYTES_MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::acceptor::{Acceptor, Attempt, Exchange, Incoming};
    use crate::transport::{HostKey, KeyAlgorithm};

    /// Both machines, joined: what one sends the other takes.
    #[test]
    fn acceptor_and_connector_understand_each_other() {
        let mut acceptor = Acceptor::new(b"id", 6);
        let (mut connector, hello) = Connector::new(b"root", b"id");
        let Incoming::Reply(reply) = acceptor.receive(&hello).unwrap() else { panic!("reply") };
        assert_eq!(connector.receive(&reply).unwrap(), Outcome::Ready);

        let attempt = acceptor.receive(&connector.ask_methods()).unwrap();
        assert!(matches!(attempt, Incoming::Attempt(Attempt::Nothing)));
        let failed = acceptor.reject(&["publickey", "password"]).unwrap();
        let methods = vec!["publickey".to_owned(), "password".to_owned()];
        let expected = Outcome::Failure { methods, partial_success: false };
        assert_eq!(connector.receive(&failed).unwrap(), expected);

        let key = HostKey::generate_ed25519().unwrap();
        let sign = |data: &[u8]| key.sign(KeyAlgorithm::Ed25519, data);
        let signed = connector.key(b"ssh-ed25519", key.public_blob(), sign).unwrap();
        let attempt = acceptor.receive(&signed).unwrap();
        assert!(matches!(attempt, Incoming::Attempt(Attempt::Key(_))), "{attempt:?}");

        acceptor.receive(&connector.password(b"old")).unwrap();
        let expired = connector.receive(&acceptor.ask_change("change it")).unwrap();
        assert_eq!(expired, Outcome::PasswordExpired("change it".to_owned()));
        let change = acceptor.receive(&connector.change_password(b"old", b"new")).unwrap();
        let Incoming::Attempt(Attempt::PasswordChange { old, new }) = change else {
            panic!("{change:?}")
        };
        assert_eq!((old.as_slice(), new.as_slice()), (b"old".as_slice(), b"new".as_slice()));

        acceptor.receive(&connector.kerberos()).unwrap();
        assert_eq!(connector.receive(&acceptor.take_kerberos()).unwrap(), Outcome::KerberosWanted);
        let token = connector.receive(&gssapi::token(b"reply")).unwrap();
        assert_eq!(token, Outcome::Token(b"reply".to_vec()));
        let proof = acceptor.receive(&gssapi::mic(b"proof")).unwrap();
        let Incoming::Kerberos(Exchange::Proof { covered, .. }) = proof else {
            panic!("{proof:?}")
        };
        assert_eq!(covered, connector.kerberos_covered());

        acceptor.receive(&connector.interactive()).unwrap();
        let asked = acceptor.ask(&InfoRequest::default());
        let round = connector.receive(&asked).unwrap();
        assert_eq!(round, Outcome::Questions(InfoRequest::default()));
        let none: [&str; 0] = [];
        let answers = acceptor.receive(&connector.answer(&none)).unwrap();
        assert!(matches!(answers, Incoming::Answers(answers) if answers.is_empty()));
        assert_eq!(connector.receive(&[number::USERAUTH_SUCCESS]).unwrap(), Outcome::Success);
    }

    #[test]
    fn message_60_means_what_the_method_says() {
        let (mut connector, _hello) = Connector::new(b"root", b"id");
        connector.receive(&[number::SERVICE_ACCEPT]).unwrap();
        connector.ask_methods();
        let question = InfoRequest::default().encode();
        assert!(connector.receive(&question).is_err(), "no method that asks is in flight");
        connector.interactive();
        assert!(matches!(connector.receive(&question), Ok(Outcome::Questions(_))));
        connector.key_query(b"ssh-ed25519", b"blob");
        assert_eq!(connector.receive(&question).unwrap(), Outcome::KeyWanted);
        connector.password(b"x");
        let mut expired = Writer::message(number::USERAUTH_60);
        expired.string(b"\x1bchange it").string(b"");
        let outcome = connector.receive(expired.as_bytes()).unwrap();
        assert_eq!(outcome, Outcome::PasswordExpired("\u{fffd}change it".to_owned()));
    }

    #[test]
    fn a_server_cannot_choose_a_mechanism_or_go_on_for_ever() {
        let (mut connector, _hello) = Connector::new(b"root", b"id");
        connector.receive(&[number::SERVICE_ACCEPT]).unwrap();
        let token = gssapi::token(b"token");
        connector.kerberos();
        assert!(connector.receive(&token).is_err(), "it comes before the mechanism");
        let mut other = Writer::message(number::USERAUTH_60);
        other.string(b"\x06\x06\x2b\x06\x01\x05\x05\x02");
        let error = connector.receive(other.as_bytes()).unwrap_err();
        assert!(matches!(error, AuthError::Mechanism), "{error}");
        connector.receive(&gssapi::response()).unwrap();
        for _token in 0..GSSAPI_TOKENS_MAX {
            connector.receive(&token).unwrap();
        }
        let error = connector.receive(&token).unwrap_err();
        assert!(matches!(error, AuthError::TooManyTokens { .. }), "{error}");
        let mut problem = Writer::message(number::USERAUTH_GSSAPI_ERROR);
        problem.u32(1).u32(2).string(b"\x1bno key").string(b"");
        let outcome = connector.receive(problem.as_bytes()).unwrap();
        assert_eq!(outcome, Outcome::KerberosProblem("\u{fffd}no key".to_owned()));
    }

    #[test]
    fn a_flood_of_banners_ends() {
        let (mut connector, _hello) = Connector::new(b"root", b"id");
        connector.receive(&[number::SERVICE_ACCEPT]).unwrap();
        connector.ask_methods();
        let banner = userauth::banner("hello");
        let ended = (0..=AUTH_MESSAGES_MAX).find_map(|_| connector.receive(&banner).err());
        assert!(matches!(ended, Some(AuthError::TooManyMessages { .. })));
    }
}
