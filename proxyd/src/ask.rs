//! What the authentication steps see of a client, whatever its protocol.

use proxyd_policy::DenyReason;
use zeroize::Zeroizing;

use crate::kerberos::KerberosError;
use crate::session::stop::Stop;

/// A question of the gateway's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Text to show, ending with what separates it from the answer.
    pub text: String,
    /// Whether the answer may be shown while it is typed.
    pub echo: bool,
    /// Why the session ends where the client leaves without an answer.
    pub unanswered: DenyReason,
}

/// A secret in bytes, wiped when it is dropped; its `Debug` form is never asked for.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// Asks the user.
pub trait Ask: Send {
    /// Shows the question and returns the answer; none where the client brings another credential
    /// instead. A client that cannot be asked yet is brought to where it can, or leaves. Waits at
    /// most the question's time limit.
    fn ask(
        &mut self,
        question: &Question,
    ) -> impl Future<Output = Result<Option<SecretBytes>, Stop>> + Send;

    /// Shows `text` without expecting an answer.
    fn tell(&mut self, text: &str) -> impl Future<Output = Result<(), Stop>> + Send;

    /// What the client brought or answered last is right. It is told so with whatever it is asked
    /// next.
    fn accept(&mut self);
}

/// What a client brings to authenticate at the gateway.
#[derive(Debug)]
pub enum Presented {
    /// Nothing, or nothing that can be judged.
    Nothing,
    /// A password.
    Password(SecretBytes),
    /// The question whether this key would do; nothing is proven.
    KeyOffer {
        /// The public key's blob.
        blob: Vec<u8>,
    },
    /// A key whose possession was proven in this very connection.
    Key {
        /// The public key's blob.
        blob: Vec<u8>,
    },
    /// A Kerberos ticket.
    Ticket {
        /// The principal, as RFC 1964 section 2.1.3 displays it, if the ticket was shown in this
        /// very connection; else what was wrong.
        principal: Result<String, KerberosError>,
    },
}

/// Which kinds of credentials are taken at the gateway.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Takes {
    /// Passwords.
    pub passwords: bool,
    /// Public keys.
    pub keys: bool,
    /// Kerberos tickets.
    pub tickets: bool,
}

/// Takes a client's credentials, one at a time.
pub trait Present: Ask {
    /// The gateway user the client wants to be.
    fn gateway_name(&self) -> &str;

    /// The next credential; every one is answered by one of the methods below, or by
    /// [`Ask::accept`].
    fn present(&mut self) -> impl Future<Output = Result<Presented, Stop>> + Send;

    /// What was presented is right, and one more that `takes` names is needed.
    fn go_on(&mut self, takes: Takes) -> impl Future<Output = Result<(), Stop>> + Send;

    /// The key that was offered would do.
    fn invite(&mut self) -> impl Future<Output = Result<(), Stop>> + Send;

    /// What was presented is not enough.
    fn reject(&mut self) -> impl Future<Output = Result<(), Stop>> + Send;
}
