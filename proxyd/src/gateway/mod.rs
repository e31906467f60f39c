//! Gateway authentication: who the user is to us.

mod password;

use std::sync::Arc;

use proxyd_policy::admit::Admitted;
use proxyd_policy::gateway::{GatewayAuthentication, GatewayMethod, User};
use proxyd_policy::usermapping::GatewayIdentity;

use self::password::Passwords;
use crate::ask::{Present, Presented};
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::Stop;

/// A user who authenticated at the gateway, or whom the policy does not ask.
///
/// Only [`Gateways::authenticate`] makes one.
#[derive(Debug, Clone)]
pub struct GatewayUser(Option<Arc<User>>);

impl GatewayUser {
    /// The user's name; empty where the policy does not ask.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.as_ref().map_or("", |user| &user.name)
    }

    /// The user's gateway groups.
    #[must_use]
    pub fn groups(&self) -> &[String] {
        self.0.as_ref().map_or(&[], |user| &user.groups)
    }

    /// The user as usermapping sees it; none where the policy does not ask.
    #[must_use]
    pub fn identity(&self) -> Option<GatewayIdentity<'_>> {
        self.0.as_ref().map(|user| GatewayIdentity { name: &user.name, groups: &user.groups })
    }
}

/// The methods of gateway authentication.
#[derive(Debug, Default)]
pub struct Gateways {
    passwords: Passwords,
}

impl Gateways {
    /// Takes credentials from the client until one is right; how many may be wrong is known to the
    /// client's side, which ends the session when it has to reject too many.
    pub async fn authenticate(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        client: &mut impl Present,
    ) -> Result<GatewayUser, Stop> {
        let methods = match &admitted.policy().authentication.gateway {
            GatewayAuthentication::None => return Ok(GatewayUser(None)),
            GatewayAuthentication::AnyOf(methods) => methods.clone(),
        };
        let policies = Arc::clone(session.policies());
        loop {
            let user = policies.user(client.gateway_name()).cloned();
            let presented = client.present().await?;
            match presented {
                Presented::Nothing => client.reject().await?,
                Presented::KeyOffer { blob } => match key_user(&methods, user, &blob) {
                    Some(_) => client.invite().await?,
                    None => client.reject().await?,
                },
                Presented::Key { blob } => {
                    let found = key_user(&methods, user, &blob);
                    let judged = judged(session, client, "publickey", found).await?;
                    if let Some(user) = judged {
                        return Ok(user);
                    }
                }
                Presented::Password(password) => {
                    let user = user.filter(|_user| takes_passwords(&methods));
                    let found = self.passwords.check(user, password).await;
                    let judged = judged(session, client, "password", found).await?;
                    if let Some(user) = judged {
                        return Ok(user);
                    }
                }
            }
        }
    }
}

/// Notes the verdict; the user if it was right, else the client is told.
async fn judged(
    session: &mut Session,
    client: &mut impl Present,
    method: &'static str,
    found: Option<Arc<User>>,
) -> Result<Option<GatewayUser>, Stop> {
    let accepted = found.is_some();
    let user = client.gateway_name().to_owned();
    session.note(Event::GatewayAuthentication { user, method, accepted });
    if let Some(user) = found {
        return Ok(Some(GatewayUser(Some(user))));
    }
    client.reject().await?;
    Ok(None)
}

/// The user, if public keys are taken and this one is the user's.
fn key_user(methods: &[GatewayMethod], user: Option<Arc<User>>, blob: &[u8]) -> Option<Arc<User>> {
    user.filter(|user| takes_keys(methods) && user.public_keys.iter().any(|key| key.blob == blob))
}

fn takes_keys(methods: &[GatewayMethod]) -> bool {
    methods.iter().any(|method| matches!(method, GatewayMethod::PublicKey(_)))
}

fn takes_passwords(methods: &[GatewayMethod]) -> bool {
    methods.iter().any(|method| matches!(method, GatewayMethod::Password(_)))
}

/// Which kinds of credentials the policy takes at the gateway, for clients that ask.
#[must_use]
pub fn takes(admitted: &Admitted) -> Takes {
    match &admitted.policy().authentication.gateway {
        GatewayAuthentication::None => Takes { passwords: false, keys: false },
        GatewayAuthentication::AnyOf(methods) => {
            Takes { passwords: takes_passwords(methods), keys: takes_keys(methods) }
        }
    }
}

/// Which kinds of credentials are taken at the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Takes {
    /// Passwords.
    pub passwords: bool,
    /// Public keys.
    pub keys: bool,
}
