//! Ways from the client to the server that are compared.

use std::net::IpAddr;

use e2e::peer::sshd;
use e2e::world::{Family, Host, World};

use super::ssh_j;
use super::ssh_mitm;

/// A cipher that is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cipher {
    /// What proxyd and most clients with AES instructions choose.
    Gcm,
    /// What OpenSSH's client chooses by itself.
    ChaCha20,
}

impl Cipher {
    /// All that are measured.
    pub(super) const ALL: [Self; 2] = [Self::Gcm, Self::ChaCha20];

    /// Its name on the wire.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Gcm => "aes128-gcm@openssh.com",
            Self::ChaCha20 => "chacha20-poly1305@openssh.com",
        }
    }

    /// Its name in the report.
    pub(super) const fn short(self) -> &'static str {
        match self {
            Self::Gcm => "aes128-gcm",
            Self::ChaCha20 => "chacha20",
        }
    }
}

/// How a connection gets to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Subject {
    /// Not through the proxy: what all others are compared with.
    Direct,
    /// Through the proxy, not recorded.
    Proxyd,
    /// Through the proxy, recorded.
    Recorded,
    /// By `ssh -J` through an OpenSSH server on the gateway, which sees ciphertext only.
    SshJ,
    /// Through ssh-mitm on the gateway.
    SshMitm,
}

impl Subject {
    /// All, in the order in which they take turns.
    pub(super) const ALL: [Self; 5] =
        [Self::Direct, Self::Proxyd, Self::Recorded, Self::SshJ, Self::SshMitm];

    /// Those that are the gateway's.
    pub(super) const OURS: [Self; 2] = [Self::Proxyd, Self::Recorded];

    /// Its name, in the report and for `ssh`.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Proxyd => "proxyd",
            Self::Recorded => "recorded",
            Self::SshJ => "ssh-J",
            Self::SshMitm => "ssh-mitm",
        }
    }

    /// Whether it is somebody else's program, which need not be able to do everything.
    pub(super) const fn is_peer(self) -> bool {
        matches!(self, Self::SshJ | Self::SshMitm)
    }

    /// The address and port that the client connects to in the end.
    pub(super) const fn destination(self, world: &World) -> (IpAddr, u16) {
        let (host, port) = match self {
            Self::Direct | Self::SshJ => (Host::Server, sshd::UNMATCHED_PORT),
            Self::Proxyd => (Host::Server, sshd::PORT),
            Self::Recorded => (Host::OtherServer, sshd::PORT),
            Self::SshMitm => (Host::GatewayForClient, ssh_mitm::PORT),
        };
        (world.address(host, Family::V4), port)
    }
}

/// What `ssh` reads in place of a configuration file: one host for each subject.
///
/// All use the same key exchange and cipher, on every connection of the way.
pub(super) fn configuration(world: &World, cipher: Cipher, key: &str) -> String {
    let mut text = String::new();
    for subject in Subject::ALL {
        let (name, (address, port)) = (subject.name(), subject.destination(world));
        text.push_str(&format!("Host {name}\n  HostName {address}\n  Port {port}\n"));
        if subject == Subject::SshJ {
            text.push_str(&format!("  ProxyJump {}\n", ssh_j::NAME));
        }
    }
    let gateway = world.address(Host::GatewayForClient, Family::V4);
    let (jump, port) = (ssh_j::NAME, ssh_j::PORT);
    text.push_str(&format!(
        "Host {jump}\n  HostName {gateway}\n  Port {port}\n  User root\n  IdentityFile {key}\n  \
         PreferredAuthentications publickey\n"
    ));
    let (user, cipher) = (super::USER, cipher.name());
    text.push_str(&format!(
        "Host *\n  User {user}\n  Ciphers {cipher}\n  KexAlgorithms {}\n  \
         PreferredAuthentications password\n  NumberOfPasswordPrompts 1\n  \
         StrictHostKeyChecking accept-new\n  LogLevel INFO\n",
        [super::KEX, super::KEX_OTHER_NAME].join(",")
    ));
    text
}
