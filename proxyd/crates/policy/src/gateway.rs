//! Gateway authentication: who the user is to us, before any server is involved.

use std::fmt;

/// Where gateway credentials are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The users of the configuration file.
    Local,
}

/// One way to authenticate at the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GatewayMethod {
    /// A password, by "password" or "keyboard-interactive" (RFC 4252 section 8, RFC 4256).
    Password(Backend),
    /// A public key (RFC 4252 section 7).
    PublicKey(Backend),
}

/// Whether, and how, a user authenticates at the gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GatewayAuthentication {
    /// Not at all: the server alone decides. Has to be written out in the file.
    None,
    /// By any one of these; never empty.
    AnyOf(Vec<GatewayMethod>),
    /// By every one of these, in any order; never empty.
    AllOf(Vec<GatewayMethod>),
}

/// One way to log in to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerMethod {
    /// The client's password, passed on.
    Password,
    /// The server's questions and the client's answers, passed on.
    KeyboardInteractive,
    /// A private key from the credential store.
    PublicKey,
    /// A key of the client's agent, which it forwards to us.
    PublicKeyAgent,
}

/// How users authenticate, at the gateway and then at the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthenticationPolicy {
    /// The policy's name.
    pub name: String,
    /// At the gateway.
    pub gateway: GatewayAuthentication,
    /// At the server, in the order in which they are tried; never empty.
    pub server: Vec<ServerMethod>,
}

/// A user of the local database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The gateway user name, case-sensitive.
    pub name: String,
    /// Absent: this user cannot use a password.
    pub password_hash: Option<PasswordHash>,
    /// Any one of these authenticates the user.
    pub public_keys: Vec<PublicKey>,
    /// The gateway groups of the user.
    pub groups: Vec<String>,
}

/// An argon2id hash in PHC string form; `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(String);

impl PasswordHash {
    /// Wraps a PHC string whose form has been checked.
    #[must_use]
    pub const fn new(phc: String) -> Self {
        Self(phc)
    }

    /// The PHC string, to verify a password against.
    #[must_use]
    pub fn phc(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hash]")
    }
}

/// A public key as SSH carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The key's type ("ssh-ed25519"), also the first string in `blob`.
    pub algorithm: String,
    /// The key in wire form (RFC 4253 section 6.6).
    pub blob: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::PasswordHash;

    #[test]
    fn debug_hides_the_hash() {
        let hash = PasswordHash::new("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into());
        assert_eq!(format!("{hash:?}"), "[hash]");
    }
}
