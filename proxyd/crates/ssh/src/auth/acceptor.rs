//! Authentication towards the client, where we are the server (RFC 4252, RFC 4256).

use zeroize::Zeroizing;

use super::AuthError;
use crate::certificate::Certificate;
use crate::cursor::{Reader, Writer};
use crate::limits::{AUTH_MESSAGES_MAX, GSSAPI_TOKENS_MAX, KEY_OFFERS_MAX, USER_NAME_BYTES_MAX};
use crate::message::text::clean;
use crate::message::userauth::{
    self, CONNECTION_SERVICE, InfoRequest, Method, PublicKey, Request, USERAUTH_SERVICE,
};
use crate::message::{gssapi, number};
use crate::transport::{KeyAlgorithm, verify_signature};

/// A public key that a client brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Signature algorithm, such as `rsa-sha2-256`.
    pub algorithm: Vec<u8>,
    /// The public key's blob (RFC 4253 section 6.6).
    pub blob: Vec<u8>,
}

/// What one attempt brings; whoever judges it answers it.
#[derive(Debug)]
pub enum Attempt {
    /// Nothing: the client asks which methods there are.
    Nothing,
    /// A password.
    Password(Zeroizing<Vec<u8>>),
    /// A password that has expired, and the one to replace it.
    PasswordChange {
        /// The password so far.
        old: Zeroizing<Vec<u8>>,
        /// The new one.
        new: Zeroizing<Vec<u8>>,
    },
    /// A question whether this key would do; nothing is proven yet.
    KeyOffer(Key),
    /// A key, with a signature over this very session that was found right.
    Key(Key),
    /// The client wants to be asked.
    Interactive,
    /// The client could show a Kerberos ticket.
    Kerberos,
    /// A wrong signature, or a method that is not known here.
    Unusable,
}

/// What a message of the client means.
#[derive(Debug)]
pub enum Incoming {
    /// The transport-level answer to send at once.
    Reply(Vec<u8>),
    /// An attempt to judge.
    Attempt(Attempt),
    /// The answers to the questions of [`Acceptor::ask`].
    Answers(Vec<Zeroizing<Vec<u8>>>),
    /// What follows on [`Acceptor::take_kerberos`].
    Kerberos(Exchange),
}

/// One message of an attempt with Kerberos (RFC 4462 section 3).
#[derive(Debug)]
pub enum Exchange {
    /// A token for our end of the context.
    Token(Vec<u8>),
    /// The end: a proof that the client set up the context for this very connection.
    Proof {
        /// The proof, a checksum that the context can check.
        mic: Vec<u8>,
        /// What it has to be of.
        covered: Vec<u8>,
    },
    /// The end: the client takes its context as complete, but does not prove that it is its own.
    Unproven,
    /// The end: the client has given up. It expects no answer.
    Abandoned,
}

/// What was asked of the client within its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Answers,
    Tokens(u32),
}

/// The client's side of authentication: which messages are legal, and how often.
#[derive(Debug)]
pub struct Acceptor {
    session_id: Vec<u8>,
    attempts_max: u32,
    user: Option<Vec<u8>>,
    service_granted: bool,
    asked: Asked,
    counts: bool,
    failures: u32,
    key_offers: u32,
    messages: u32,
}

impl Acceptor {
    /// Expects the service request of a connection with `session_id` (RFC 4253 section 7.2).
    #[must_use]
    pub fn new(session_id: &[u8], attempts_max: u32) -> Self {
        Self {
            session_id: session_id.to_vec(),
            attempts_max,
            user: None,
            service_granted: false,
            asked: Asked::Nothing,
            counts: false,
            failures: 0,
            key_offers: 0,
            messages: 0,
        }
    }

    /// The user name of the attempts; none before the first.
    #[must_use]
    pub fn user(&self) -> Option<&[u8]> {
        self.user.as_deref()
    }

    /// Takes one message of the client.
    pub fn receive(&mut self, message: &[u8]) -> Result<Incoming, AuthError> {
        self.messages += 1;
        if self.messages > AUTH_MESSAGES_MAX {
            return Err(AuthError::TooManyMessages { limit: AUTH_MESSAGES_MAX });
        }
        match (message.first().copied().unwrap_or_default(), self.service_granted) {
            (number::SERVICE_REQUEST, _) => self.service(message),
            (number::USERAUTH_REQUEST, true) => self.attempt(message).map(Incoming::Attempt),
            (number::USERAUTH_INFO_RESPONSE, true) if self.asked == Asked::Answers => {
                self.asked = Asked::Nothing;
                Ok(Incoming::Answers(userauth::parse_info_response(message)?))
            }
            (number, true) if let Asked::Tokens(before) = self.asked => {
                self.exchange(number, message, before).map(Incoming::Kerberos)
            }
            (number, true) => {
                Err(AuthError::Unexpected { number, expected: "an authentication request" })
            }
            (number, false) => Err(AuthError::Unexpected { number, expected: "a service request" }),
        }
    }

    /// The questions of a keyboard-interactive attempt; answers are legal from now on.
    pub fn ask(&mut self, round: &InfoRequest) -> Vec<u8> {
        self.asked = Asked::Answers;
        round.encode()
    }

    /// Takes the ticket that a client could show; tokens are legal from now on.
    pub fn take_kerberos(&mut self) -> Vec<u8> {
        self.asked = Asked::Tokens(0);
        gssapi::response()
    }

    /// The attempt's password has to be changed, as `text` says (RFC 4252 section 8).
    #[must_use]
    pub fn ask_change(&self, text: &str) -> Vec<u8> {
        userauth::password_expired(text)
    }

    /// Refuses the attempt; fails when one too many brought something that was wrong.
    ///
    /// The question for methods and the question whether a key would do are bounded apart.
    pub fn reject(&mut self, methods: &[&str]) -> Result<Vec<u8>, AuthError> {
        self.asked = Asked::Nothing;
        self.count()?;
        Ok(userauth::failure(methods, false))
    }

    fn count(&mut self) -> Result<(), AuthError> {
        if self.counts {
            self.failures += 1;
        }
        if self.failures >= self.attempts_max {
            return Err(AuthError::TooManyFailures { limit: self.attempts_max });
        }
        Ok(())
    }

    /// Takes the attempt as right and asks for one more by `methods` (RFC 4252 section 5.1).
    #[must_use]
    pub fn go_on(&self, methods: &[&str]) -> Vec<u8> {
        userauth::failure(methods, true)
    }

    fn service(&mut self, message: &[u8]) -> Result<Incoming, AuthError> {
        let mut reader = Reader::new(message);
        reader.u8("message number")?;
        let name = reader.string("service name")?;
        reader.finish()?;
        if name != USERAUTH_SERVICE {
            return Err(AuthError::Service { name: clean(name, USER_NAME_BYTES_MAX) });
        }
        self.service_granted = true;
        let mut accept = Writer::message(number::SERVICE_ACCEPT);
        accept.string(USERAUTH_SERVICE);
        Ok(Incoming::Reply(accept.into_bytes()))
    }

    fn attempt(&mut self, message: &[u8]) -> Result<Attempt, AuthError> {
        let request = Request::parse(message)?;
        self.check_user(&request)?;
        if let Asked::Tokens(1..) = self.asked {
            // A ticket was looked at, and its attempt is not answered any more.
            self.count()?;
        }
        self.asked = Asked::Nothing;
        self.counts = match &request.method {
            Method::None => false,
            Method::PublicKey(key) => key.signature.is_some(),
            Method::Password(_)
            | Method::PasswordChange { .. }
            | Method::KeyboardInteractive
            | Method::Gssapi { .. }
            | Method::Other(_) => true,
        };
        Ok(match request.method {
            Method::None => Attempt::Nothing,
            Method::Password(password) => Attempt::Password(Zeroizing::new(password.to_vec())),
            Method::PasswordChange { old, new } => Attempt::PasswordChange {
                old: Zeroizing::new(old.to_vec()),
                new: Zeroizing::new(new.to_vec()),
            },
            Method::KeyboardInteractive => Attempt::Interactive,
            Method::PublicKey(key) => self.key(&key)?,
            Method::Gssapi { kerberos: true } => Attempt::Kerberos,
            Method::Gssapi { kerberos: false } | Method::Other(_) => Attempt::Unusable,
        })
    }

    fn exchange(&mut self, number: u8, message: &[u8], before: u32) -> Result<Exchange, AuthError> {
        if number == number::USERAUTH_GSSAPI_TOKEN {
            if before >= GSSAPI_TOKENS_MAX {
                return Err(AuthError::TooManyTokens { limit: GSSAPI_TOKENS_MAX });
            }
            self.asked = Asked::Tokens(before + 1);
            return Ok(Exchange::Token(gssapi::parse(message)?.to_vec()));
        }
        self.asked = Asked::Nothing;
        match number {
            number::USERAUTH_GSSAPI_MIC => {
                let mic = gssapi::parse(message)?.to_vec();
                let user = self.user.as_deref().unwrap_or_default();
                Ok(Exchange::Proof { mic, covered: gssapi::covered(&self.session_id, user) })
            }
            number::USERAUTH_GSSAPI_EXCHANGE_COMPLETE => Ok(Exchange::Unproven),
            number::USERAUTH_GSSAPI_ERRTOK => {
                // It is not answered, so it counts here.
                self.count()?;
                Ok(Exchange::Abandoned)
            }
            _ => Err(AuthError::Unexpected { number, expected: "a gss-api token" }),
        }
    }

    fn check_user(&mut self, request: &Request<'_>) -> Result<(), AuthError> {
        if request.service != CONNECTION_SERVICE {
            return Err(AuthError::Service { name: clean(request.service, USER_NAME_BYTES_MAX) });
        }
        let length = request.user.len();
        if length > USER_NAME_BYTES_MAX {
            return Err(AuthError::UserTooLong { length, limit: USER_NAME_BYTES_MAX });
        }
        let user = self.user.get_or_insert_with(|| request.user.to_vec());
        // RFC 4252 section 5 lets a server disconnect instead of starting over; nothing that one
        // user name has earned may serve another.
        if user != request.user { Err(AuthError::UserChanged) } else { Ok(()) }
    }

    fn key(&mut self, key: &PublicKey<'_>) -> Result<Attempt, AuthError> {
        let owned = Key { algorithm: key.algorithm.to_vec(), blob: key.blob.to_vec() };
        let Some(signature) = key.signature else {
            self.key_offers += 1;
            if self.key_offers > KEY_OFFERS_MAX {
                return Err(AuthError::TooManyKeys { limit: KEY_OFFERS_MAX });
            }
            return Ok(Attempt::KeyOffer(owned));
        };
        // The signature covers the session identifier, so it cannot be one made for another
        // connection (RFC 4252 section 7).
        let mut covered = Writer::new();
        covered.string(&self.session_id).raw(key.signed);
        let is_right = is_signed(key.algorithm, key.blob, signature, covered.as_bytes());
        Ok(if is_right { Attempt::Key(owned) } else { Attempt::Unusable })
    }
}

/// Whether a signature is by this key, or by the one that this certificate is for.
fn is_signed(algorithm: &[u8], blob: &[u8], signature: &[u8], data: &[u8]) -> bool {
    let is_named = |known: &KeyAlgorithm| known.certificate_name().as_bytes() == algorithm;
    let verified = match KeyAlgorithm::ALL.into_iter().find(is_named) {
        None => verify_signature(algorithm, blob, signature, data),
        Some(algorithm) => match Certificate::parse(blob) {
            Ok(certificate) => {
                let name = algorithm.name().as_bytes();
                verify_signature(name, certificate.key_blob(), signature, data)
            }
            Err(_unusable) => return false,
        },
    };
    verified.is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::connector::Connector;
    use crate::transport::HostKey;

    fn ready() -> Acceptor {
        let mut acceptor = Acceptor::new(b"session", 3);
        let mut request = Writer::message(number::SERVICE_REQUEST);
        request.string(USERAUTH_SERVICE);
        let reply = acceptor.receive(request.as_bytes()).unwrap();
        assert!(matches!(reply, Incoming::Reply(bytes) if bytes[0] == number::SERVICE_ACCEPT));
        acceptor
    }

    #[test]
    fn nothing_comes_before_the_service_request() {
        let mut acceptor = Acceptor::new(b"session", 3);
        let error = acceptor.receive(&userauth::none_request(b"root")).unwrap_err();
        assert!(matches!(error, AuthError::Unexpected { number: 50, .. }), "{error}");
    }

    #[test]
    fn a_second_user_name_ends_it() {
        let mut acceptor = ready();
        acceptor.receive(&userauth::none_request(b"root")).unwrap();
        let error = acceptor.receive(&userauth::none_request(b"toor")).unwrap_err();
        assert!(matches!(error, AuthError::UserChanged), "{error}");
    }

    #[test]
    fn answers_are_legal_only_after_a_question() {
        let mut acceptor = ready();
        let answer = userauth::info_response(&["x"]);
        assert!(acceptor.receive(&answer).is_err());
        acceptor.receive(&userauth::interactive_request(b"root")).unwrap();
        acceptor.ask(&InfoRequest::default());
        let incoming = acceptor.receive(&answer).unwrap();
        assert!(matches!(incoming, Incoming::Answers(answers) if answers.len() == 1));
        assert!(acceptor.receive(&answer).is_err(), "an answer counts once");
    }

    #[test]
    fn success_messages_from_a_client_are_refused() {
        for number in [51, 52, 53, 60, 62, 79, 90, 94] {
            let error = ready().receive(&[number]).unwrap_err();
            assert!(matches!(error, AuthError::Unexpected { .. }), "{number}: {error}");
        }
    }

    #[test]
    fn the_probe_is_free_and_the_third_failure_is_the_last() {
        let mut acceptor = ready();
        acceptor.receive(&userauth::none_request(b"root")).unwrap();
        acceptor.reject(&["password"]).unwrap();
        for _attempt in 0..2 {
            acceptor.receive(&userauth::password_request(b"root", b"x")).unwrap();
            acceptor.reject(&["password"]).unwrap();
        }
        acceptor.receive(&userauth::password_request(b"root", b"x")).unwrap();
        let error = acceptor.reject(&["password"]).unwrap_err();
        assert!(matches!(error, AuthError::TooManyFailures { limit: 3 }), "{error}");
    }

    /// Whatever the methods, they share one count.
    #[test]
    fn failures_of_all_methods_are_counted_together() {
        let mut unsigned = userauth::key_request(b"root", b"ssh-ed25519", b"blob");
        let mut signature = Writer::new();
        signature.string(b"nothing");
        unsigned.extend_from_slice(signature.as_bytes());
        let password = userauth::password_request(b"root", b"x");
        let change = userauth::password_change_request(b"root", b"x", b"y");
        let interactive = userauth::interactive_request(b"root");
        let mut unknown = Writer::message(number::USERAUTH_REQUEST);
        unknown.string(b"root").string(CONNECTION_SERVICE).string(b"hostbased");
        let kerberos = gssapi::request(b"root");
        let attempts: [(&str, &[u8]); 6] = [
            ("kerberos", &kerberos),
            ("password", &password),
            ("change", &change),
            ("interactive", &interactive),
            ("wrong signature", &unsigned),
            ("unknown", unknown.as_bytes()),
        ];
        for (first, one) in attempts {
            for (second, other) in attempts {
                let mut acceptor = ready();
                for message in [one, other] {
                    acceptor.receive(message).unwrap();
                    acceptor.reject(&["password"]).unwrap();
                }
                acceptor.receive(one).unwrap();
                let last = acceptor.reject(&["password"]);
                let is_over = matches!(last, Err(AuthError::TooManyFailures { limit: 3 }));
                assert!(is_over, "{first}, {second}");
            }
        }
    }

    #[test]
    fn tokens_are_legal_only_after_an_offer_and_not_for_ever() {
        let proof = |acceptor: &mut Acceptor| acceptor.receive(&gssapi::mic(b"proof"));
        let mut acceptor = ready();
        assert!(proof(&mut acceptor).is_err(), "nothing was offered");
        acceptor.receive(&gssapi::request(b"root")).unwrap();
        assert!(proof(&mut acceptor).is_err(), "nothing was taken");
        acceptor.take_kerberos();
        let incoming = proof(&mut acceptor).unwrap();
        let Incoming::Kerberos(Exchange::Proof { mic, covered }) = incoming else {
            panic!("{incoming:?}")
        };
        assert_eq!(
            (mic.as_slice(), covered),
            (&b"proof"[..], gssapi::covered(b"session", b"root"))
        );
        assert!(proof(&mut acceptor).is_err(), "a proof ends it");
        acceptor.take_kerberos();
        for _token in 0..GSSAPI_TOKENS_MAX {
            let incoming = acceptor.receive(&gssapi::token(b"token")).unwrap();
            assert!(matches!(incoming, Incoming::Kerberos(Exchange::Token(_))), "{incoming:?}");
        }
        let error = acceptor.receive(&gssapi::token(b"token")).unwrap_err();
        assert!(matches!(error, AuthError::TooManyTokens { .. }), "{error}");
        acceptor.reject(&["password"]).unwrap();
        assert!(proof(&mut acceptor).is_err(), "a refusal ends it");
        acceptor.take_kerberos();
        acceptor.receive(&userauth::none_request(b"root")).unwrap();
        assert!(proof(&mut acceptor).is_err(), "another attempt ends it");
    }

    #[test]
    fn key_queries_are_counted() {
        let mut query = Writer::message(number::USERAUTH_REQUEST);
        query.string(b"root").string(CONNECTION_SERVICE).string(b"publickey").bool(false);
        query.string(b"ssh-ed25519").string(b"blob");
        let mut acceptor = ready();
        for _offer in 0..KEY_OFFERS_MAX {
            acceptor.receive(query.as_bytes()).unwrap();
        }
        assert!(matches!(acceptor.receive(query.as_bytes()), Err(AuthError::TooManyKeys { .. })));
    }

    #[test]
    fn a_certificate_counts_with_a_signature_by_its_own_key() {
        use crate::certificate::{Kind, Request};
        let [ca, key, other] = [(); 3].map(|()| HostKey::generate_ed25519().unwrap());
        let request = Request {
            key_blob: key.public_blob(),
            kind: Kind::User,
            serial: 1,
            key_id: "root",
            principals: &["root"],
            valid_after_s: 0,
            valid_before_s: 1,
            force_command: None,
            source_address: None,
            extensions: &[],
        };
        let certificate = Certificate::issue(&request, &ca).unwrap();
        let algorithm = KeyAlgorithm::Ed25519.certificate_name().as_bytes();
        let (mut connector, _hello) = Connector::new(b"root", b"session");
        for (case, signer, expected) in
            [("own", &key, true), ("other", &other, false), ("ca", &ca, false)]
        {
            let sign = |data: &[u8]| signer.sign(KeyAlgorithm::Ed25519, data);
            let message = connector.key(algorithm, certificate.blob(), sign).unwrap();
            let incoming = ready().receive(&message).unwrap();
            let is_key = matches!(incoming, Incoming::Attempt(Attempt::Key(_)));
            assert_eq!(is_key, expected, "{case}");
            let cut = connector.key(algorithm, &certificate.blob()[1..], sign).unwrap();
            let incoming = ready().receive(&cut).unwrap();
            assert!(matches!(incoming, Incoming::Attempt(Attempt::Unusable)), "{case}, cut");
        }
    }

    #[test]
    fn a_signature_counts_only_for_its_own_session() {
        let key = HostKey::generate_ed25519().unwrap();
        let mut message = userauth::key_request(b"root", b"ssh-ed25519", key.public_blob());
        let mut covered = Writer::new();
        covered.string(b"session").raw(&message);
        let signature = key.sign(KeyAlgorithm::Ed25519, covered.as_bytes()).unwrap();
        let mut tail = Writer::new();
        tail.string(&signature);
        message.extend_from_slice(tail.as_bytes());
        let right = ready().receive(&message).unwrap();
        assert!(matches!(right, Incoming::Attempt(Attempt::Key(_))), "{right:?}");
        let mut other = ready();
        other.session_id = b"another".to_vec();
        let wrong = other.receive(&message).unwrap();
        assert!(matches!(wrong, Incoming::Attempt(Attempt::Unusable)), "{wrong:?}");
    }
}
