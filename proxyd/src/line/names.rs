//! What the user name leaves out is asked for: the user on the server, and the server.

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::net::Host;
use proxyd_policy::target::{RequestedTarget, TargetPolicy};
use proxyd_wire::user_name::{self, HostPort, InbandMode};

use super::protocol::ClientHalf;
use crate::ask::Question;
use crate::ctx::Ctx;
use crate::session::Session;
use crate::session::stop::Stop;
use crate::target::{self, Target};

/// Answers to one question that may be wrong before the session ends.
const WRONG_ANSWERS_MAX: usize = 3;

/// A server as a user typed it; none where it is neither an address nor a name.
#[must_use]
pub fn requested(typed: HostPort) -> Option<RequestedTarget> {
    let host: Host = typed.host.parse().ok()?;
    Some(RequestedTarget { host, zone: typed.zone, port: typed.port })
}

/// Asks for the user on the server, where the client has named none.
pub(super) async fn complete_user(client: &mut impl ClientHalf) -> Result<(), Stop> {
    if !client.remote_user().is_empty() {
        return Ok(());
    }
    let unanswered = DenyReason::UserNameInvalid;
    let question = Question { text: "User name: ".to_owned(), echo: true, unanswered };
    for _answer in 0..WRONG_ANSWERS_MAX {
        let Some(answer) = client.ask(&question).await? else { continue };
        if let Some(user) = plain_user(&answer) {
            client.accept();
            client.set_remote_user(user);
            return Ok(());
        }
    }
    Err(unanswered.into())
}

/// Chooses the server; asks for it where users have to name one and the client has not.
pub(super) async fn target(
    ctx: &Ctx,
    session: &mut Session,
    admitted: &Admitted,
    client: &mut impl ClientHalf,
) -> Result<Target, Stop> {
    let limit = ctx.resolve_limit;
    let named = client.requested_target().cloned();
    if named.is_some() || !matches!(admitted.policy().target, TargetPolicy::Inband(_)) {
        return target::select(session, admitted, named.as_ref(), limit).await;
    }
    let mut denied = DenyReason::NoTarget;
    for _answer in 0..WRONG_ANSWERS_MAX {
        let question = Question { text: "Server: ".to_owned(), echo: true, unanswered: denied };
        let Some(answer) = client.ask(&question).await? else { continue };
        let typed = user_name::parse_target(&answer).ok();
        let Some(named) = typed.and_then(requested) else { continue };
        match target::select(session, admitted, Some(&named), limit).await {
            Err(Stop::Denied(reason)) => {
                denied = reason;
                client.tell(reason.text()).await?;
            }
            chosen => {
                client.accept();
                return chosen;
            }
        }
    }
    Err(denied.into())
}

/// A user name alone, without the fields that a whole one may have.
fn plain_user(answer: &[u8]) -> Option<String> {
    let parsed = user_name::parse(answer, InbandMode::Off).ok()?;
    parsed.remote_user.filter(|_user| parsed.fields.is_empty())
}

#[cfg(test)]
mod tests {
    use super::plain_user;

    #[test]
    fn answers_that_are_users() {
        let cases: [(&[u8], Option<&str>); 6] = [
            (b"root", Some("root")),
            (b"alice@corp.example", Some("alice@corp.example")),
            (b"", None),
            (b"gu=mallory@root", None),
            (b"ro\x1bot", None),
            (b"\xff", None),
        ];
        for (answer, expected) in cases {
            assert_eq!(plain_user(answer).as_deref(), expected, "{answer:?}");
        }
    }
}
