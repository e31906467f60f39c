//! SSH settings policies: algorithms, texts and checks of a connection.

use std::path::PathBuf;

use crate::gateway::PublicKey;
use crate::pattern::Pattern;

/// Settings of SSH connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshSettings {
    /// The policy's name.
    pub name: String,
    /// Refuse before connecting to the server when no channel rule could ever allow a channel.
    pub pre_channel_check: bool,
    /// Shown to the client before authentication (RFC 4252 section 5.4).
    pub banner: Option<String>,
    /// Our version string towards clients, "SSH-2.0-…" without line end; absent: proxyd's own.
    pub version: Option<String>,
    /// What we offer to clients.
    pub client_side: ClientSide,
    /// What we offer to servers.
    pub server_side: ServerSide,
    /// Names of environment variables let through to the server.
    pub environment: Vec<Pattern>,
}

/// Algorithm names in order of preference; an empty list is the library's safe list for its side.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// Key exchange methods (RFC 4253 section 7.1).
    pub kex: Vec<String>,
    /// Ciphers, for both directions.
    pub ciphers: Vec<String>,
    /// MACs, for both directions and the ciphers that do not authenticate by themselves.
    pub macs: Vec<String>,
}

/// The half of the gateway that clients see.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientSide {
    /// Offered algorithms.
    pub algorithms: Algorithms,
    /// Types of the host keys shown to clients; empty: [`HostKeyType::DEFAULT`].
    pub host_keys: Vec<HostKeyType>,
    /// Files with the private host keys shown to clients; empty: keys are made for each server.
    pub host_key_files: Vec<PathBuf>,
    /// The file with the private key of the CA that certifies them.
    pub host_ca_key_file: Option<PathBuf>,
    /// Names of servers that the certificates are for, beside the address.
    pub host_names: Vec<String>,
}

/// The half of the gateway that servers see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerSide {
    /// Offered algorithms.
    pub algorithms: Algorithms,
    /// Whether algorithms that only old servers need are offered too, after all others.
    pub legacy: bool,
    /// Whether we ever start a key exchange after the first one.
    pub rekey: Rekey,
    /// What is done with the server's host key.
    pub host_key_check: HostKeyCheck,
    /// CAs whose host certificates are accepted instead.
    pub trusted_host_cas: Vec<PublicKey>,
}

/// Whether we start a key exchange after the first one; that of a peer is served either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rekey {
    /// After some bytes or some time (RFC 4253 section 9).
    On,
    /// Never: for old servers that break.
    Off,
}

/// The type of a host key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HostKeyType {
    /// Ed25519 (RFC 8709).
    Ed25519,
    /// ECDSA over P-256 (RFC 5656).
    Ecdsa,
    /// RSA with SHA-2 signatures (RFC 8332).
    Rsa,
}

impl HostKeyType {
    /// What clients are shown unless a policy says otherwise, preferred first: every client knows
    /// one of the two. ECDSA is for those that must not use Ed25519.
    pub const DEFAULT: &[Self] = &[Self::Ed25519, Self::Rsa];
}

/// What is done with the host key a server shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostKeyCheck {
    /// The first key of a server is kept; any other later is refused.
    AcceptFirst,
    /// Only keys that are kept already are accepted.
    Known,
    /// Any key is accepted.
    Off,
}
