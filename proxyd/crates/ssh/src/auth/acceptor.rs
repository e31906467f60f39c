//! Authentication towards the client, where we are the server (RFC 4252, RFC 4256).

use zeroize::Zeroizing;

use super::AuthError;
use crate::cursor::{Reader, Writer};
use crate::limits::{AUTH_MESSAGES_MAX, KEY_OFFERS_MAX, USER_NAME_BYTES_MAX};
use crate::message::number;
use crate::message::text::clean;
use crate::message::userauth::{
    self, CONNECTION_SERVICE, InfoRequest, Method, PublicKey, Request, USERAUTH_SERVICE,
};
use crate::transport::verify_signature;

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
}

/// The client's side of authentication: which messages are legal, and how often.
#[derive(Debug)]
pub struct Acceptor {
    session_id: Vec<u8>,
    attempts_max: u32,
    user: Option<Vec<u8>>,
    service_granted: bool,
    asked: bool,
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
            asked: false,
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
            (number::USERAUTH_INFO_RESPONSE, true) if self.asked => {
                self.asked = false;
                Ok(Incoming::Answers(userauth::parse_info_response(message)?))
            }
            (number, true) => {
                Err(AuthError::Unexpected { number, expected: "an authentication request" })
            }
            (number, false) => Err(AuthError::Unexpected { number, expected: "a service request" }),
        }
    }

    /// The questions of a keyboard-interactive attempt; answers are legal from now on.
    pub fn ask(&mut self, round: &InfoRequest) -> Vec<u8> {
        self.asked = true;
        round.encode()
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
        if self.counts {
            self.failures += 1;
        }
        if self.failures >= self.attempts_max {
            return Err(AuthError::TooManyFailures { limit: self.attempts_max });
        }
        Ok(userauth::failure(methods, false))
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
        self.asked = false;
        self.counts = match &request.method {
            Method::None => false,
            Method::PublicKey(key) => key.signature.is_some(),
            Method::Password(_)
            | Method::PasswordChange { .. }
            | Method::KeyboardInteractive
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
            Method::Other(_) => Attempt::Unusable,
        })
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
        match verify_signature(key.algorithm, key.blob, signature, covered.as_bytes()) {
            Ok(()) => Ok(Attempt::Key(owned)),
            Err(_wrong) => Ok(Attempt::Unusable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        unknown.string(b"root").string(CONNECTION_SERVICE).string(b"gssapi-with-mic");
        let attempts: [(&str, &[u8]); 5] = [
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
    fn a_signature_counts_only_for_its_own_session() {
        use crate::transport::{HostKey, KeyAlgorithm};
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
