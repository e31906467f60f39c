//! Gateway authentication: who the user is to us, before any server is involved.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

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
    /// A Kerberos ticket (RFC 4462 section 3).
    Kerberos(Backend),
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

impl GatewayAuthentication {
    /// The ways there are; none where nobody is asked.
    #[must_use]
    pub fn methods(&self) -> &[GatewayMethod] {
        match self {
            Self::None => &[],
            Self::AnyOf(methods) | Self::AllOf(methods) => methods,
        }
    }
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
    /// A certificate that the gateway's own CA makes for this login.
    Certificate,
    /// The Kerberos ticket that the client delegated to us.
    Kerberos,
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
    /// CAs whose certificates count as public keys of the users that they name.
    pub trusted_user_cas: Vec<PublicKey>,
    /// What tickets are judged by; present whenever `gateway` takes them.
    pub kerberos: Option<Arc<KerberosPolicy>>,
    /// At the server, in the order in which they are tried; never empty.
    pub server: Vec<ServerMethod>,
    /// The file with the CA's private key; present whenever `server` has a certificate.
    pub user_ca_key_file: Option<PathBuf>,
}

/// What Kerberos tickets at the gateway are judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KerberosPolicy {
    /// The file with the keys of the services whose tickets count.
    pub keytab_file: PathBuf,
    /// Realms whose principals are the local users of the same name; never empty.
    pub realms: Vec<String>,
}

impl KerberosPolicy {
    /// Whether `principal`, as RFC 1964 section 2.1.3 displays it, is this user of a trusted realm.
    #[must_use]
    pub fn is_user(&self, principal: &str, user: &str) -> bool {
        // In front of `@`, `/` and `\` that are not what they look like, there is a backslash.
        let Some((name, realm)) = principal.split_once('@') else { return false };
        let is_plain = !name.is_empty() && !name.contains('\\');
        is_plain && name == user && self.realms.iter().any(|trusted| trusted == realm)
    }
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
    use super::{KerberosPolicy, PasswordHash};

    #[test]
    fn principals() {
        let policy = KerberosPolicy {
            keytab_file: "keytab".into(),
            realms: vec!["EXAMPLE.COM".to_owned(), "SUB.EXAMPLE.COM".to_owned()],
        };
        let cases = [
            ("alice@EXAMPLE.COM", "alice", true),
            ("alice@SUB.EXAMPLE.COM", "alice", true),
            ("alice/admin@EXAMPLE.COM", "alice/admin", true),
            ("alice@EXAMPLE.COM", "Alice", false),
            ("alice@EXAMPLE.COM", "bob", false),
            ("alice@EXAMPLE.COM", "alice@EXAMPLE.COM", false),
            ("alice@EXAMPLE.COM", "", false),
            ("@EXAMPLE.COM", "", false),
            ("alice/admin@EXAMPLE.COM", "alice", false),
            ("alice@example.com", "alice", false),
            ("alice@EVIL.EXAMPLE.COM", "alice", false),
            ("alice@EXAMPLE.COM@EVIL", "alice", false),
            (r"alice\@EXAMPLE.COM@EVIL", r"alice\", false),
            (r"alice\@EXAMPLE.COM", r"alice\", false),
            (r"alice\/admin@EXAMPLE.COM", "alice/admin", false),
            ("alice", "alice", false),
            ("", "", false),
        ];
        for (principal, user, expected) in cases {
            assert_eq!(policy.is_user(principal, user), expected, "{principal} as {user}");
        }
    }

    #[test]
    fn debug_hides_the_hash() {
        let hash = PasswordHash::new("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHQ$aGFzaA".into());
        assert_eq!(format!("{hash:?}"), "[hash]");
    }
}
