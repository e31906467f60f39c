//! Usermapping: which users of the server a gateway user may log in as.

use crate::pattern::Pattern;
use crate::reason::DenyReason;

/// Stands for any group, also for a user without groups.
pub const ANY_GROUP: &str = "*";

/// Lets members of some gateway groups log in as some users of the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsermappingRule {
    /// The users on the server.
    pub remote_user: Pattern,
    /// Gateway groups, any one of which suffices; [`ANY_GROUP`] is every gateway user.
    pub groups: Vec<String>,
}

/// The rules of one mapping; any rule that fits allows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsermappingPolicy {
    /// The policy's name.
    pub name: String,
    /// The rules.
    pub rules: Vec<UsermappingRule>,
    /// Without a fitting rule, allow a user whose name is the same at the gateway and the server.
    pub allow_unmapped: bool,
}

/// An authenticated gateway user.
#[derive(Clone, Copy, Debug)]
pub struct GatewayIdentity<'a> {
    /// The name the user authenticated with.
    pub name: &'a str,
    /// The user's gateway groups.
    pub groups: &'a [String],
}

/// Decides whether the gateway user may log in to the server as `remote_user`.
///
/// `user` is absent only where the policy asks for no gateway authentication; then the server alone
/// decides. Without a usermapping policy both names have to be the same.
///
/// # Errors
/// [`DenyReason::UserNotMapped`] when nothing allows it.
pub fn map(
    policy: Option<&UsermappingPolicy>,
    user: Option<GatewayIdentity<'_>>,
    remote_user: &str,
) -> Result<(), DenyReason> {
    let Some(user) = user else {
        // INVARIANT: a mapping without gateway authentication is refused when the file is read;
        // should one get here, it must not be skipped.
        return if policy.is_none() { Ok(()) } else { Err(DenyReason::UserNotMapped) };
    };
    let allowed = match policy {
        None => user.name == remote_user,
        Some(policy) => {
            policy.rules.iter().any(|rule| rule.allows(user, remote_user))
                || (policy.allow_unmapped && user.name == remote_user)
        }
    };
    if allowed { Ok(()) } else { Err(DenyReason::UserNotMapped) }
}

impl UsermappingRule {
    /// Says whether the rule lets `user` log in as `remote_user`.
    fn allows(&self, user: GatewayIdentity<'_>, remote_user: &str) -> bool {
        self.remote_user.matches(remote_user)
            && self.groups.iter().any(|group| group == ANY_GROUP || user.groups.contains(group))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(allow_unmapped: bool) -> UsermappingPolicy {
        let rule = |remote_user: &str, groups: &[&str]| UsermappingRule {
            remote_user: remote_user.parse().unwrap(),
            groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        };
        UsermappingPolicy {
            name: "admins".into(),
            rules: vec![rule("root", &["admins", "dba"]), rule("app*", &["*"])],
            allow_unmapped,
        }
    }

    #[test]
    fn table() {
        let closed = policy(false);
        let open = policy(true);
        let admins = ["admins".to_owned()];
        let cases: [(&str, Option<&UsermappingPolicy>, &[String], &str, bool); 12] = [
            ("no policy, same name", None, &[], "alice", true),
            ("no policy, other name", None, &admins, "root", false),
            ("no policy, case differs", None, &[], "Alice", false),
            ("group fits", Some(&closed), &admins, "root", true),
            ("group does not fit", Some(&closed), &[], "root", false),
            ("wildcard user, any group", Some(&closed), &[], "app7", true),
            ("wildcard user, empty rest", Some(&closed), &[], "app", true),
            ("wildcard is anchored", Some(&closed), &admins, "myapp", false),
            ("same name needs a rule", Some(&closed), &admins, "alice", false),
            ("unmapped, same name", Some(&open), &[], "alice", true),
            ("unmapped, other name", Some(&open), &admins, "bob", false),
            ("empty name", Some(&open), &admins, "", false),
        ];
        for (case, policy, groups, remote_user, expected) in cases {
            let user = Some(GatewayIdentity { name: "alice", groups });
            assert_eq!(map(policy, user, remote_user).is_ok(), expected, "{case}");
        }
    }

    #[test]
    fn without_gateway_authentication() {
        assert_eq!(map(None, None, "root"), Ok(()));
        assert_eq!(map(Some(&policy(true)), None, "root"), Err(DenyReason::UserNotMapped));
    }
}
