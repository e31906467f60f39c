//! The server leg's key exchange, and whether the server is who it should be.

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::gateway::PublicKey;
use proxyd_policy::settings::Rekey;
use proxyd_ssh::certificate::{CertificateError, Purpose};
use proxyd_ssh::transport::{
    Algorithms, ClientConfig, KeyAlgorithm, Leg, RekeyLimits, Version, fingerprint,
};

use tracing::warn;

use super::Ssh;
use super::greet::{VERSION, algorithms};
use super::link::{Arrived, HostKeyShown, Link, LinkError};
use super::login::lost;
use crate::dial::TargetLink;
use crate::hostkeys::Trust;
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::Stop;
use crate::store::host_keys::KnownKey;
use crate::usermapping::Authorized;

/// Key exchange with the server, and the verdict about its host key.
pub(super) async fn handshake(
    ssh: &Ssh,
    session: &mut Session,
    admitted: &Admitted,
    authorized: &Authorized,
    link: TargetLink,
) -> Result<Link, Stop> {
    let server = authorized.target().address();
    let settings = &admitted.policy().settings.server_side;
    let known = ssh.host_keys.known(server).await;
    let known = known.map_err(|error| Stop::gateway("host-key", error))?;
    let mut algorithms = algorithms(&settings.algorithms, Algorithms::for_servers());
    if settings.legacy {
        algorithms = algorithms.with_legacy();
    }
    if !settings.trusted_host_cas.is_empty() {
        algorithms.host_certificates = KeyAlgorithm::ALL.to_vec();
    }
    // A server with several keys must not look changed because it was asked for another one.
    let is_known =
        |algorithm: &KeyAlgorithm| known.iter().any(|key| key.algorithm == algorithm.key_type());
    algorithms.host_keys.sort_by_key(|algorithm| !is_known(algorithm));
    let version = Version::new(VERSION).map_err(|error| Stop::gateway("login", error))?;
    let rekey = match settings.rekey {
        Rekey::On => RekeyLimits::recommended(),
        Rekey::Off => RekeyLimits::unlimited(),
    };
    let config = ClientConfig { version, algorithms, rekey };
    let leg = Leg::client(config, ssh.clock.now());
    let mut link = Link::new(leg, link.into_stream(), ssh.clock);
    let deadline = ssh.clock.now().saturating_add(ssh.limits.handshake);
    loop {
        match link.next(deadline).await.map_err(lost)? {
            Arrived::Established => {
                link.warn_unless_strict("server");
                return Ok(link);
            }
            Arrived::Message(_) => return Err(Stop::server("login", LinkError::Closed)),
            Arrived::HostKey(offer) => {
                if let Err(stop) = judge(ssh, session, admitted, authorized, (&offer, &known)).await
                {
                    link.disconnect(HOST_KEY_NOT_VERIFIABLE, "host key not accepted").await;
                    return Err(stop);
                }
                link.leg.accept_host_key();
            }
        }
    }
}

/// RFC 4253 section 11.1.
const HOST_KEY_NOT_VERIFIABLE: u32 = 9;

async fn judge(
    ssh: &Ssh,
    session: &mut Session,
    admitted: &Admitted,
    authorized: &Authorized,
    (offer, known): (&HostKeyShown, &[KnownKey]),
) -> Result<(), Stop> {
    let settings = &admitted.policy().settings.server_side;
    let now_s = ssh.clock.wall_s();
    let verdict = match certified(&settings.trusted_host_cas, authorized, offer, now_s) {
        Some(verdict) => verdict,
        None => {
            let (server, check) = (authorized.target().address(), settings.host_key_check);
            let algorithm = offer.algorithm.key_type().to_owned();
            let key = KnownKey { algorithm, blob: offer.blob.clone() };
            let verdict = ssh.host_keys.judge(server, check, &key, known.to_vec());
            verdict.await.map_err(|error| Stop::gateway("host-key", error))?
        }
    };
    let trust = verdict.map_or_else(DenyReason::code, Trust::as_str);
    session.note(Event::ServerIdentity { fingerprint: fingerprint(&offer.blob), trust });
    verdict.map(|_trust| ()).map_err(Stop::from)
}

/// Judges the certificate of a trusted CA; none where there is no such one, and the key counts.
fn certified(
    trusted: &[PublicKey],
    authorized: &Authorized,
    offer: &HostKeyShown,
    now_s: u64,
) -> Option<Result<Trust, DenyReason>> {
    let certificate = offer.certificate.as_ref()?;
    let trusted: Vec<&[u8]> = trusted.iter().map(|ca| ca.blob.as_slice()).collect();
    let target = authorized.target();
    let address = target.address().ip().to_string();
    let names = target.name().map(|name| name.as_str().to_owned()).into_iter().chain([address]);
    let mut refused = None;
    for name in names {
        let purpose = Purpose::Host { name: name.as_bytes() };
        match certificate.check(purpose, now_s, &trusted) {
            Ok(_verified) => return Some(Ok(Trust::Certified)),
            Err(CertificateError::Untrusted) => return None,
            Err(error) => refused = Some(error),
        }
    }
    if let Some(error) = refused {
        warn!(server = %target.address(), %error, "Host certificate of a server is refused");
    }
    Some(Err(DenyReason::HostCertificateRefused))
}
