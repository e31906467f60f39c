//! Who and where the user name of a client says.

use proxyd_policy::target::RequestedTarget;
use proxyd_wire::user_name::{self, InbandMode};

use crate::line::names::requested;

/// What the user name says; what it leaves out is asked for later.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// The gateway user; empty where neither it nor the remote user is named.
    pub(super) gateway: String,
    /// The user on the server; empty where none is named.
    pub(super) remote: String,
    /// The server, where one is named.
    pub(super) target: Option<RequestedTarget>,
    /// All of it as a record keeps it.
    pub(super) shown: String,
}

impl Names {
    /// Reads what a client sent; none where it cannot be understood.
    pub(super) fn read(typed: &[u8], mode: InbandMode) -> Option<Self> {
        let parsed = user_name::parse(typed, mode).ok()?;
        let target = match parsed.target {
            Some(target) => Some(requested(target)?),
            None => None,
        };
        let fields = parsed.fields.iter().map(|(key, value)| match key.as_str() {
            "gu" => format!("gu={value}"),
            // What else there is may be a ticket, or a one-time password.
            key => format!("{key}=…"),
        });
        let remote = parsed.remote_user.unwrap_or_default();
        let destination = target.as_ref().map(|target| target.host.to_string());
        let shown: Vec<String> = fields.chain([remote.clone()]).chain(destination).collect();
        let gateway = parsed.gateway_user.unwrap_or_else(|| remote.clone());
        Some(Self { gateway, remote, target, shown: shown.join("@") })
    }

    /// Fills in the user on the server, who is the gateway user too where nobody else is named.
    pub(super) fn set_user(&mut self, user: String) {
        if self.gateway.is_empty() {
            self.gateway.clone_from(&user);
        }
        self.remote = user;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_record_keeps() {
        let cases = [
            ("root", "root | root | root"),
            ("gu=alice@root", "alice | root | gu=alice@root"),
            ("gu=alice@otp=123456@root@db1:22", "alice | root | gu=alice@otp=…@root@db1"),
            ("gu=alice@@db1", "alice |  | gu=alice@@db1"),
            ("@db1", " |  | @db1"),
            ("", " |  | "),
        ];
        for (typed, expected) in cases {
            let names = Names::read(typed.as_bytes(), InbandMode::On).unwrap();
            let line = format!("{} | {} | {}", names.gateway, names.remote, names.shown);
            assert_eq!(line, expected, "{typed}");
        }
        for typed in ["root@-db1", "root@::ffff:10.0.0.1", "gu=@root", "root@[::ffff:127.0.0.1]"] {
            assert!(Names::read(typed.as_bytes(), InbandMode::On).is_none(), "{typed}");
        }
    }

    #[test]
    fn an_answer_names_both_users_where_neither_is() {
        for (typed, expected) in [("@db1", ("eve", "eve")), ("gu=alice@@db1", ("alice", "eve"))] {
            let mut names = Names::read(typed.as_bytes(), InbandMode::On).unwrap();
            names.set_user("eve".to_owned());
            assert_eq!((names.gateway.as_str(), names.remote.as_str()), expected, "{typed}");
        }
    }
}
