//! Channels: whether one may be opened, and whether any could be.

use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::channel::{self, ChannelGrant, ChannelKind, ChannelRequest, Detail};
use proxyd_policy::time::LocalTime;

use crate::clock::Clock;
use crate::config;
use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// Judges one channel that a peer wants to open.
pub fn admit(
    clock: &Clock,
    admitted: &Admitted,
    authorized: &Authorized,
    kind: ChannelKind,
    detail: Detail<'_>,
) -> Result<ChannelGrant, DenyReason> {
    let request = ChannelRequest {
        kind,
        client: admitted.flow().client.ip().to_canonical(),
        gateway_groups: authorized.user().groups(),
        remote_user: authorized.remote_user(),
        target: authorized.target().address().ip().to_canonical(),
        detail,
    };
    channel::judge(&admitted.policy().channels, &request, |zone| local_time(clock, zone))
}

/// Refuses, before the server is contacted, a session that could open no channel at all.
pub fn pre_check(clock: &Clock, admitted: &Admitted, authorized: &Authorized) -> Result<(), Stop> {
    if !admitted.policy().settings.pre_channel_check {
        return Ok(());
    }
    let client = admitted.flow().client.ip().to_canonical();
    let groups = authorized.user().groups();
    channel::pre_check(&admitted.policy().channels, client, groups, |zone| local_time(clock, zone))
        .map_err(Stop::from)
}

/// What a clock on the wall shows in `zone`; none for a zone that nobody knows.
fn local_time(clock: &Clock, zone: &str) -> Option<LocalTime> {
    let now = jiff::Timestamp::from_nanosecond(i128::from(clock.wall_ns())).ok()?;
    config::local_time(zone, now)
}
