//! The first part of a session: we are the server, up to the first authentication attempt.

use std::sync::Arc;
use std::time::Duration;

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::settings::HostKeyType;
use proxyd_ssh::message::text::clean;
use proxyd_ssh::transport::{
    Algorithms, Cipher, HostKey, KexMethod, KeyAlgorithm, Leg, Mac, RekeyLimits, ServerConfig,
    Version,
};
use tracing::debug;

use super::Ssh;
use super::client::Client;
use super::link::{Arrived, Link, LinkError};
use crate::credential;
use crate::net::accept::Accepted;
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::Stop;

/// OpenSSH's clients tell a server about a reader that went away (`eow@openssh.com`) only where
/// its version starts like this; without it `ssh host command | head -1` runs on.
pub(super) const VERSION: &str = "SSH-2.0-OpenSSH_9.2 proxyd";

pub(super) async fn greet(
    ssh: &Ssh,
    session: &mut Session,
    admitted: &Admitted,
    accepted: Accepted,
) -> Result<Client, Stop> {
    // From the moment of the connection, the making of keys included.
    let deadline = session.started().saturating_add(ssh.limits.handshake);
    let settings = &admitted.policy().settings;
    let host_keys = host_keys(ssh, admitted).await?;
    let version = Version::new(settings.version.as_deref().unwrap_or(VERSION));
    let config = ServerConfig {
        version: version.map_err(|error| Stop::gateway("handshake", error))?,
        host_keys,
        algorithms: algorithms(&settings.client_side.algorithms, Algorithms::recommended()),
        sig_algs: KeyAlgorithm::ALL.to_vec(),
        rekey: RekeyLimits::recommended(),
    };
    let leg = Leg::server(config, ssh.clock.now());
    let mut link = Link::new(leg, accepted.stream, ssh.clock);
    if let Err(stop) = shake_hands(&mut link, deadline).await {
        // A client that has said what it is can be told why it goes no further.
        if link.leg.peer_version().is_some() && !matches!(stop, Stop::ClientGone) {
            link.disconnect(KEY_EXCHANGE_FAILED, &stop.text()).await;
        }
        return Err(stop);
    }
    let version = clean(link.leg.peer_version().unwrap_or_default(), VERSION_BYTES_MAX);
    let mut client = Client::new(ssh, admitted, link, accepted.handshake);
    client.first_attempt().await?;
    let understood = client.read_user_name(admitted).await;
    // A name that is refused may hold a password; it is kept nowhere.
    let user_name = client.user_name().to_owned();
    session.note(Event::ClientHello { version, user_name });
    understood?;
    client.show_banner(settings.banner.as_deref()).await?;
    Ok(client)
}

/// The keys that the client is shown: those of the policy, or made for the server it connects to.
async fn host_keys(ssh: &Ssh, admitted: &Admitted) -> Result<Vec<Arc<HostKey>>, Stop> {
    let side = &admitted.policy().settings.client_side;
    if !side.host_key_files.is_empty() {
        let keys = credential::key_files("handshake", side.host_key_files.clone()).await?;
        return Ok(keys.into_iter().map(Arc::new).collect());
    }
    let types = match side.host_keys.as_slice() {
        [] => HostKeyType::DEFAULT,
        some => some,
    };
    let server = admitted.flow().original_destination;
    let keys = ssh.host_keys.shown(server, types).await;
    keys.map_err(|error| Stop::gateway("handshake", error))
}

/// Waits for the end of the key exchange.
async fn shake_hands(link: &mut Link, deadline: Duration) -> Result<(), Stop> {
    match link.next(deadline).await {
        Ok(Arrived::Established) => {
            link.warn_unless_strict("client");
            Ok(())
        }
        Ok(Arrived::HostKey(_) | Arrived::Message(_)) => {
            Err(Stop::client("handshake", LinkError::Closed))
        }
        Err(LinkError::Timeout) => Err(DenyReason::HandshakeTimeout.into()),
        Err(LinkError::Closed | LinkError::Disconnected { .. } | LinkError::Socket(_)) => {
            Err(Stop::ClientGone)
        }
        Err(error) if link.leg.peer_version().is_none() => {
            debug!(%error, "Not an SSH client");
            Err(DenyReason::NotThisProtocol.into())
        }
        Err(error) => Err(Stop::client("handshake", error)),
    }
}

/// RFC 4253 section 11.1.
const KEY_EXCHANGE_FAILED: u32 = 3;

/// Bytes of the client's version that are kept; RFC 4253 section 4.2 allows 255.
const VERSION_BYTES_MAX: usize = 255;

/// The policy's lists; an empty one is that of `default`.
pub(super) fn algorithms(
    policy: &proxyd_policy::settings::Algorithms,
    default: Algorithms,
) -> Algorithms {
    let mut algorithms = default;
    if !policy.kex.is_empty() {
        algorithms.kex = listed(&policy.kex, &KexMethod::ALL, KexMethod::name);
    }
    if !policy.ciphers.is_empty() {
        algorithms.ciphers = listed(&policy.ciphers, &Cipher::ALL, Cipher::name);
    }
    if !policy.macs.is_empty() {
        algorithms.macs = listed(&policy.macs, &Mac::ALL, Mac::name);
    }
    algorithms
}

/// What `names` name, in their order.
fn listed<T: Copy>(names: &[String], all: &[T], name: impl Fn(T) -> &'static str) -> Vec<T> {
    names.iter().filter_map(|wanted| all.iter().copied().find(|&one| name(one) == wanted)).collect()
}
