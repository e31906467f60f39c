//! Usermapping: who the user is on the server.

use proxyd_policy::admit::Admitted;
use proxyd_policy::usermapping;

use crate::gateway::GatewayUser;
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::Stop;
use crate::target::Target;

/// Proof that this user may reach this target as this account.
///
/// Carries all three, so that whoever dials cannot pick another; only [`authorize`] makes one.
#[derive(Debug, Clone)]
pub struct Authorized {
    user: GatewayUser,
    target: Target,
    remote_user: String,
}

impl Authorized {
    /// The gateway user.
    #[must_use]
    pub const fn user(&self) -> &GatewayUser {
        &self.user
    }

    /// The server.
    #[must_use]
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// The user on the server.
    #[must_use]
    pub fn remote_user(&self) -> &str {
        &self.remote_user
    }
}

/// Applies the usermapping policy to what the user asks for.
pub fn authorize(
    session: &mut Session,
    admitted: &Admitted,
    user: GatewayUser,
    target: Target,
    remote_user: &str,
) -> Result<Authorized, Stop> {
    let policy = admitted.policy().usermapping.as_deref();
    usermapping::map(policy, user.identity(), remote_user)?;
    let remote_user = remote_user.to_owned();
    session.note(Event::UserMapped { remote_user: remote_user.clone() });
    session.update(|live| live.remote_user.clone_from(&remote_user));
    Ok(Authorized { user, target, remote_user })
}
