//! Channel policies: which channels a user may open, where, and when.

mod detail;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

pub use self::detail::{CommandPattern, Conditions, Detail, EndpointPattern};
use crate::net::any_contains;
use crate::pattern::Pattern;
use crate::reason::DenyReason;
use crate::time::{LocalTime, TimePolicy};

/// What a channel is used for; for SSH the first request on a session channel decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChannelKind {
    /// An interactive shell (RFC 4254 section 6.5 "shell").
    SessionShell,
    /// One command (RFC 4254 section 6.5 "exec").
    SessionExec,
    /// A command that is the far end of a file copy by `scp`.
    SessionExecScp,
    /// File transfer by the "sftp" subsystem (RFC 4254 section 6.5 "subsystem").
    SessionSftp,
    /// Any other subsystem.
    SessionSubsystem,
    /// The client's agent for the server's programs (OpenSSH's PROTOCOL.agent).
    Agent,
    /// The client's display for the server's programs (RFC 4254 section 6.3).
    X11,
    /// A connection through the server (RFC 4254 section 7.2).
    LocalForward,
    /// Connections that the server takes for the client (RFC 4254 section 7.1).
    RemoteForward,
}

impl ChannelKind {
    /// Every kind.
    pub const ALL: &[Self] = &[
        Self::SessionShell,
        Self::SessionExec,
        Self::SessionExecScp,
        Self::SessionSftp,
        Self::SessionSubsystem,
        Self::Agent,
        Self::X11,
        Self::LocalForward,
        Self::RemoteForward,
    ];

    /// The name in policies and records.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SessionShell => "session-shell",
            Self::SessionExec => "session-exec",
            Self::SessionExecScp => "session-exec-scp",
            Self::SessionSftp => "session-sftp",
            Self::SessionSubsystem => "session-subsystem",
            Self::Agent => "agent",
            Self::X11 => "x11",
            Self::LocalForward => "local-forward",
            Self::RemoteForward => "remote-forward",
        }
    }
}

impl fmt::Display for ChannelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Allows one kind of channel under conditions; an empty list sets no condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelRule {
    /// The kind of channel.
    pub kind: ChannelKind,
    /// Addresses of clients.
    pub from: Vec<IpNet>,
    /// Gateway groups, any one of which suffices.
    pub gateway_groups: Vec<String>,
    /// Users on the server.
    pub remote_users: Vec<Pattern>,
    /// Addresses of servers.
    pub targets: Vec<IpNet>,
    /// When; absent: always.
    pub time: Option<Arc<TimePolicy>>,
    /// Conditions on what the channel is opened for.
    pub conditions: Conditions,
    /// Whether somebody else has to approve of it first.
    pub four_eyes: bool,
    /// Whether the channel is recorded.
    pub record: bool,
}

/// Rules in order; a channel that none allows is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelPolicy {
    /// The policy's name.
    pub name: String,
    /// The rules, the first that allows decides.
    pub rules: Vec<ChannelRule>,
}

impl ChannelPolicy {
    /// Says whether any rule records, so that a session needs a trail.
    #[must_use]
    pub fn records(&self) -> bool {
        self.rules.iter().any(|rule| rule.record)
    }
}

/// A channel the client wants to open.
#[derive(Clone, Copy, Debug)]
pub struct ChannelRequest<'a> {
    /// What for.
    pub kind: ChannelKind,
    /// Address of the client.
    pub client: IpAddr,
    /// Groups of the gateway user; empty without gateway authentication.
    pub gateway_groups: &'a [String],
    /// The user on the server.
    pub remote_user: &'a str,
    /// Address of the server.
    pub target: IpAddr,
    /// What it is opened for in detail.
    pub detail: Detail<'a>,
}

/// An allowed channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChannelGrant {
    /// Index of the rule that allowed it.
    pub rule: usize,
    /// Whether somebody else has to approve of it first.
    pub four_eyes: bool,
    /// Whether the channel is recorded.
    pub record: bool,
}

/// Judges one channel; the first rule that allows it decides how it is opened.
///
/// `local_time` tells the wall-clock time of a zone; `None` closes every window of that zone.
///
/// # Errors
/// The reason of the rule that came nearest to allowing the channel.
pub fn judge(
    policy: &ChannelPolicy,
    request: &ChannelRequest<'_>,
    local_time: impl Fn(&str) -> Option<LocalTime>,
) -> Result<ChannelGrant, DenyReason> {
    let mut nearest = Refusal::Kind;
    for (index, rule) in policy.rules.iter().enumerate() {
        match rule.judge(request, &local_time) {
            Ok(()) => {
                let ChannelRule { four_eyes, record, .. } = *rule;
                return Ok(ChannelGrant { rule: index, four_eyes, record });
            }
            Err(refusal) => nearest = nearest.max(refusal),
        }
    }
    Err(nearest.reason())
}

/// Checks before the server is contacted that some rule could allow some channel.
///
/// Looks at the client's address, the gateway groups and the time only, because the rest may not be
/// known yet. `local_time` is as for [`judge`].
///
/// # Errors
/// The reason of the rule that came nearest.
pub fn pre_check(
    policy: &ChannelPolicy,
    client: IpAddr,
    gateway_groups: &[String],
    local_time: impl Fn(&str) -> Option<LocalTime>,
) -> Result<(), DenyReason> {
    let mut nearest = Refusal::Kind;
    for rule in &policy.rules {
        let verdict = rule
            .check_client(client)
            .and_then(|()| rule.check_groups(gateway_groups))
            .and_then(|()| rule.check_time(&local_time));
        match verdict {
            Ok(()) => return Ok(()),
            Err(refusal) => nearest = nearest.max(refusal),
        }
    }
    Err(nearest.reason())
}

/// The condition at which a rule refused; later ones are nearer to allowing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Refusal {
    Kind,
    Client,
    Groups,
    RemoteUser,
    Target,
    Detail(DenyReason),
    Time,
}

impl Refusal {
    /// The verdict when no rule got further than this.
    const fn reason(self) -> DenyReason {
        match self {
            Self::Kind => DenyReason::ChannelTypeNotAllowed,
            Self::Client => DenyReason::ClientNotAllowed,
            Self::Groups => DenyReason::GroupNotAllowed,
            Self::RemoteUser => DenyReason::RemoteUserNotAllowed,
            Self::Target => DenyReason::ServerNotAllowed,
            Self::Detail(reason) => reason,
            Self::Time => DenyReason::OutsideTime,
        }
    }
}

impl ChannelRule {
    /// Checks every condition, in the order of [`Refusal`].
    fn judge(
        &self,
        request: &ChannelRequest<'_>,
        local_time: &impl Fn(&str) -> Option<LocalTime>,
    ) -> Result<(), Refusal> {
        pass(self.kind == request.kind, Refusal::Kind)?;
        self.check_client(request.client)?;
        self.check_groups(request.gateway_groups)?;
        let user = request.remote_user;
        let user_fits = self.remote_users.iter().any(|pattern| pattern.matches(user));
        pass(self.remote_users.is_empty() || user_fits, Refusal::RemoteUser)?;
        let target_fits = any_contains(&self.targets, request.target);
        pass(self.targets.is_empty() || target_fits, Refusal::Target)?;
        self.conditions.check(&request.detail).map_err(Refusal::Detail)?;
        self.check_time(local_time)
    }

    fn check_client(&self, client: IpAddr) -> Result<(), Refusal> {
        pass(self.from.is_empty() || any_contains(&self.from, client), Refusal::Client)
    }

    fn check_groups(&self, groups: &[String]) -> Result<(), Refusal> {
        let fits = self.gateway_groups.iter().any(|group| groups.contains(group));
        pass(self.gateway_groups.is_empty() || fits, Refusal::Groups)
    }

    fn check_time(&self, local_time: &impl Fn(&str) -> Option<LocalTime>) -> Result<(), Refusal> {
        let Some(policy) = &self.time else {
            return Ok(());
        };
        let open = local_time(&policy.zone).is_some_and(|at| policy.is_open(at));
        pass(open, Refusal::Time)
    }
}

/// Turns a condition into the refusal that stands for it.
const fn pass(condition: bool, refusal: Refusal) -> Result<(), Refusal> {
    if condition { Ok(()) } else { Err(refusal) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{Week, Weekday};

    /// A rule without conditions.
    fn open_rule(kind: ChannelKind) -> ChannelRule {
        ChannelRule {
            kind,
            from: vec![],
            gateway_groups: vec![],
            remote_users: vec![],
            targets: vec![],
            time: None,
            conditions: Conditions::default(),
            four_eyes: false,
            record: true,
        }
    }

    /// A shell rule with every condition set.
    fn full_rule() -> ChannelRule {
        ChannelRule {
            from: vec!["10.1.0.0/16".parse().unwrap()],
            gateway_groups: vec!["admins".into(), "dba".into()],
            remote_users: vec!["root".parse().unwrap(), "app*".parse().unwrap()],
            targets: vec!["10.2.0.0/16".parse().unwrap()],
            time: Some(Arc::new(TimePolicy {
                name: "office".into(),
                zone: "Europe/Budapest".into(),
                week: Week { monday: vec!["08:00-18:00".parse().unwrap()], ..Week::default() },
            })),
            ..open_rule(ChannelKind::SessionShell)
        }
    }

    fn noon(zone: &str) -> Option<LocalTime> {
        assert_eq!(zone, "Europe/Budapest");
        LocalTime::new(Weekday::Monday, 12, 0)
    }

    fn evening(_zone: &str) -> Option<LocalTime> {
        LocalTime::new(Weekday::Monday, 18, 0)
    }

    /// A request, the clock, and what [`full_rule`] says to it.
    #[derive(Clone, Copy)]
    struct Case {
        name: &'static str,
        kind: ChannelKind,
        client: &'static str,
        groups: &'static [&'static str],
        user: &'static str,
        target: &'static str,
        clock: fn(&str) -> Option<LocalTime>,
        expected: Result<(), DenyReason>,
    }

    const FITS: Case = Case {
        name: "everything fits",
        kind: ChannelKind::SessionShell,
        client: "10.1.0.5",
        groups: &["users", "dba"],
        user: "app1",
        target: "10.2.0.9",
        clock: noon,
        expected: Ok(()),
    };

    #[test]
    fn one_rule() {
        let cases = [
            Case {
                name: "kind",
                kind: ChannelKind::SessionSftp,
                expected: Err(DenyReason::ChannelTypeNotAllowed),
                ..FITS
            },
            Case {
                name: "client",
                client: "10.3.0.5",
                expected: Err(DenyReason::ClientNotAllowed),
                ..FITS
            },
            Case { name: "mapped client", client: "::ffff:10.1.0.5", ..FITS },
            Case {
                name: "group",
                groups: &["users"],
                expected: Err(DenyReason::GroupNotAllowed),
                ..FITS
            },
            Case {
                name: "no groups",
                groups: &[],
                expected: Err(DenyReason::GroupNotAllowed),
                ..FITS
            },
            Case {
                name: "user",
                user: "postgres",
                expected: Err(DenyReason::RemoteUserNotAllowed),
                ..FITS
            },
            Case {
                name: "target",
                target: "10.3.0.9",
                expected: Err(DenyReason::ServerNotAllowed),
                ..FITS
            },
            Case { name: "time", clock: evening, expected: Err(DenyReason::OutsideTime), ..FITS },
            Case {
                name: "unknown zone",
                clock: |_| None,
                expected: Err(DenyReason::OutsideTime),
                ..FITS
            },
            FITS,
        ];
        let policy = ChannelPolicy { name: "p".into(), rules: vec![full_rule()] };
        for case in cases {
            let groups: Vec<String> = case.groups.iter().map(|g| (*g).to_owned()).collect();
            let request = ChannelRequest {
                kind: case.kind,
                client: case.client.parse().unwrap(),
                gateway_groups: &groups,
                remote_user: case.user,
                target: case.target.parse().unwrap(),
                detail: Detail::Nothing,
            };
            let got = judge(&policy, &request, case.clock).map(|_| ());
            assert_eq!(got, case.expected, "{}", case.name);
        }
    }

    #[test]
    fn first_rule_that_allows_decides() {
        let unrecorded = ChannelRule { record: false, four_eyes: true, ..full_rule() };
        let rules = vec![
            open_rule(ChannelKind::SessionSftp),
            unrecorded,
            open_rule(ChannelKind::SessionShell),
        ];
        let policy = ChannelPolicy { name: "p".into(), rules };
        let groups = ["dba".to_owned()];
        let request = ChannelRequest {
            kind: ChannelKind::SessionShell,
            client: "10.1.0.5".parse().unwrap(),
            gateway_groups: &groups,
            remote_user: "root",
            target: "10.2.0.9".parse().unwrap(),
            detail: Detail::Nothing,
        };
        let grant = judge(&policy, &request, noon);
        assert_eq!(grant, Ok(ChannelGrant { rule: 1, four_eyes: true, record: false }));
        let grant = judge(&policy, &request, evening);
        assert_eq!(grant, Ok(ChannelGrant { rule: 2, four_eyes: false, record: true }));
        assert!(policy.records());
    }

    #[test]
    fn the_nearest_rule_gives_the_reason() {
        let by_group = ChannelRule {
            gateway_groups: vec!["ops".into()],
            ..open_rule(ChannelKind::SessionShell)
        };
        let policy = ChannelPolicy { name: "p".into(), rules: vec![full_rule(), by_group] };
        let groups = ["admins".to_owned()];
        let request = ChannelRequest {
            kind: ChannelKind::SessionShell,
            client: "10.1.0.5".parse().unwrap(),
            gateway_groups: &groups,
            remote_user: "root",
            target: "10.2.0.9".parse().unwrap(),
            detail: Detail::Nothing,
        };
        assert_eq!(judge(&policy, &request, evening), Err(DenyReason::OutsideTime));
    }

    #[test]
    fn no_rules_refuse_everything() {
        let policy = ChannelPolicy { name: "p".into(), rules: vec![] };
        let client = "10.1.0.5".parse().unwrap();
        let expected = Err(DenyReason::ChannelTypeNotAllowed);
        assert_eq!(pre_check(&policy, client, &[], noon), expected);
    }

    #[test]
    fn pre_check_looks_at_client_groups_and_time() {
        let policy = ChannelPolicy { name: "p".into(), rules: vec![full_rule()] };
        let admins = ["admins".to_owned()];
        let inside = "10.1.0.5".parse().unwrap();
        let outside = "10.3.0.5".parse().unwrap();
        assert_eq!(pre_check(&policy, inside, &admins, noon), Ok(()));
        let refused = pre_check(&policy, outside, &admins, noon);
        assert_eq!(refused, Err(DenyReason::ClientNotAllowed));
        assert_eq!(pre_check(&policy, inside, &[], noon), Err(DenyReason::GroupNotAllowed));
        assert_eq!(pre_check(&policy, inside, &admins, evening), Err(DenyReason::OutsideTime));
    }
}
