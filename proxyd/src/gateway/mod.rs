//! Gateway authentication: who the user is to us.

mod key;
mod pace;
mod password;

use std::sync::Arc;

use proxyd_policy::admit::Admitted;
use proxyd_policy::gateway::{GatewayAuthentication, GatewayMethod, KerberosPolicy, User};
use proxyd_policy::usermapping::GatewayIdentity;
use tracing::info;

use self::key::Keys;
use self::pace::Pace;
use self::password::Passwords;
use crate::ask::{Present, Presented, Takes};
use crate::clock::Clock;
use crate::kerberos::KerberosError;
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
#[derive(Debug)]
pub struct Gateways {
    passwords: Passwords,
    pace: Pace,
    clock: Clock,
}

impl Gateways {
    /// Nobody has tried anything yet.
    #[must_use]
    pub fn new(clock: Clock) -> Self {
        Self { passwords: Passwords::default(), pace: Pace::new(clock), clock }
    }

    /// Takes credentials from the client until the policy is content; how many may be wrong is
    /// known to the client's side, which ends the session when it has to reject too many.
    pub async fn authenticate(
        &self,
        session: &mut Session,
        admitted: &Admitted,
        client: &mut impl Present,
    ) -> Result<GatewayUser, Stop> {
        let policy = &admitted.policy().authentication;
        let Some(mut needed) = Needed::by(&policy.gateway) else { return Ok(GatewayUser(None)) };
        let policies = Arc::clone(session.policies());
        let address = session.flow().client.ip();
        loop {
            let user = policies.user(client.gateway_name()).cloned();
            let now_s = self.clock.wall_s();
            let keys = Keys { trusted: &policy.trusted_user_cas, client: address, now_s };
            let (kind, method, found) = match client.present().await? {
                Presented::Nothing => {
                    client.reject().await?;
                    continue;
                }
                Presented::KeyOffer { blob } => {
                    match keys.judge(user.filter(|_user| needed.takes.keys), &blob) {
                        (_, Some(_)) => client.invite().await?,
                        (_, None) => client.reject().await?,
                    }
                    continue;
                }
                Presented::Key { blob } => {
                    let user = user.filter(|_user| needed.takes.keys);
                    let (method, found) = keys.judge(user, &blob);
                    (Kind::Key, method, found)
                }
                Presented::Password(password) => {
                    let user = user.filter(|_user| needed.takes.passwords);
                    let tried = self.pace.wait(client.gateway_name(), address).await;
                    let found = self.passwords.check(user, password).await;
                    self.pace.judged(&tried, found.is_some());
                    (Kind::Password, "password", found)
                }
                Presented::Ticket { principal } => {
                    let user = user.filter(|_user| needed.takes.tickets);
                    let found = holder(session, policy.kerberos.as_deref(), user, principal);
                    (Kind::Ticket, "gssapi-with-mic", found)
                }
            };
            let (name, accepted) = (client.gateway_name().to_owned(), found.is_some());
            session.note(Event::GatewayAuthentication { user: name, method, accepted });
            match found {
                None => client.reject().await?,
                Some(user) if needed.is_met_by(kind) => {
                    client.accept();
                    return Ok(GatewayUser(Some(user)));
                }
                Some(_) => client.go_on(needed.takes).await?,
            }
        }
    }
}

/// The user, if there is one and the ticket that was shown is the user's.
fn holder(
    session: &Session,
    policy: Option<&KerberosPolicy>,
    user: Option<Arc<User>>,
    principal: Result<String, KerberosError>,
) -> Option<Arc<User>> {
    let session_id = session.id();
    match principal {
        Ok(principal) => {
            info!(%session_id, principal, "Client shows a Kerberos ticket");
            user.filter(|user| policy.is_some_and(|policy| policy.is_user(&principal, &user.name)))
        }
        Err(error) => {
            info!(%session_id, %error, "A client's Kerberos ticket does not count");
            None
        }
    }
}

/// What a client has proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Password,
    Key,
    Ticket,
}

/// What the policy still wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Needed {
    takes: Takes,
    /// Whether it wants everything that it takes.
    all: bool,
}

impl Needed {
    /// What the policy wants; none where it does not ask.
    fn by(policy: &GatewayAuthentication) -> Option<Self> {
        let (methods, all) = match policy {
            GatewayAuthentication::None => return None,
            GatewayAuthentication::AnyOf(methods) => (methods, false),
            GatewayAuthentication::AllOf(methods) => (methods, true),
        };
        let has = |wanted: fn(&GatewayMethod) -> bool| methods.iter().any(wanted);
        let takes = Takes {
            passwords: has(|method| matches!(method, GatewayMethod::Password(_))),
            keys: has(|method| matches!(method, GatewayMethod::PublicKey(_))),
            tickets: has(|method| matches!(method, GatewayMethod::Kerberos(_))),
        };
        Some(Self { takes, all })
    }

    /// Whether nothing is left to be wanted after this proof.
    const fn is_met_by(&mut self, kind: Kind) -> bool {
        match kind {
            Kind::Password => self.takes.passwords = false,
            Kind::Key => self.takes.keys = false,
            Kind::Ticket => self.takes.tickets = false,
        }
        let Takes { passwords, keys, tickets } = self.takes;
        !self.all || !(passwords || keys || tickets)
    }
}

/// Which kinds of credentials the policy takes at the gateway, for clients that ask.
#[must_use]
pub fn takes(admitted: &Admitted) -> Takes {
    let needed = Needed::by(&admitted.policy().authentication.gateway);
    needed.map(|needed| needed.takes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use proxyd_policy::gateway::Backend;

    use super::*;

    #[test]
    fn what_is_needed_until_it_is_enough() {
        let (password, key) =
            (GatewayMethod::Password(Backend::Local), GatewayMethod::PublicKey(Backend::Local));
        let any = GatewayAuthentication::AnyOf;
        let all = GatewayAuthentication::AllOf;
        let ticket = GatewayMethod::Kerberos(Backend::Local);
        let cases: [(&str, GatewayAuthentication, &[(Kind, bool)]); 8] = [
            ("any, by ticket", any(vec![ticket, key]), &[(Kind::Ticket, true)]),
            (
                "all of three",
                all(vec![ticket, password, key]),
                &[(Kind::Key, false), (Kind::Ticket, false), (Kind::Password, true)],
            ),
            ("any, by password", any(vec![password, key]), &[(Kind::Password, true)]),
            ("any, by key", any(vec![password, key]), &[(Kind::Key, true)]),
            (
                "all, key first",
                all(vec![password, key]),
                &[(Kind::Key, false), (Kind::Password, true)],
            ),
            (
                "all, key last",
                all(vec![key, password]),
                &[(Kind::Password, false), (Kind::Key, true)],
            ),
            ("all, one twice", all(vec![key, password]), &[(Kind::Key, false), (Kind::Key, false)]),
            ("all of one", all(vec![key, key]), &[(Kind::Key, true)]),
        ];
        for (case, policy, proofs) in cases {
            let mut needed = Needed::by(&policy).unwrap();
            for (proof, enough) in proofs {
                assert_eq!(needed.is_met_by(*proof), *enough, "{case}");
            }
        }
        assert_eq!(Needed::by(&GatewayAuthentication::None), None);
    }
}
