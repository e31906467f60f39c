//! Channels: whether one may be opened, and whether any could be.

use jiff::tz::TimeZone;
use proxyd_policy::DenyReason;
use proxyd_policy::admit::Admitted;
use proxyd_policy::channel::{self, ChannelGrant, ChannelKind, ChannelRequest};
use proxyd_policy::time::{LocalTime, Weekday};

use crate::clock::Clock;
use crate::session::stop::Stop;
use crate::usermapping::Authorized;

/// Judges one channel that the client wants to open.
pub fn admit(
    clock: &Clock,
    admitted: &Admitted,
    authorized: &Authorized,
    kind: ChannelKind,
) -> Result<ChannelGrant, DenyReason> {
    let request = ChannelRequest {
        kind,
        client: admitted.flow().client.ip().to_canonical(),
        gateway_groups: authorized.user().groups(),
        remote_user: authorized.remote_user(),
        target: authorized.target().address().ip().to_canonical(),
    };
    channel::judge(&admitted.policy().channels, &request, |zone| local_time(clock, zone))
}

/// Refuses, before the server is contacted, a session that could open no channel at all.
pub fn pre_check(
    clock: &Clock,
    admitted: &Admitted,
    authorized: &Authorized,
) -> Result<(), Stop> {
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
    let zone = TimeZone::get(zone).ok()?;
    let wall_ns = i128::from(clock.wall_ns());
    let local = jiff::Timestamp::from_nanosecond(wall_ns).ok()?.to_zoned(zone);
    let weekday = match local.weekday() {
        jiff::civil::Weekday::Monday => Weekday::Monday,
        jiff::civil::Weekday::Tuesday => Weekday::Tuesday,
        jiff::civil::Weekday::Wednesday => Weekday::Wednesday,
        jiff::civil::Weekday::Thursday => Weekday::Thursday,
        jiff::civil::Weekday::Friday => Weekday::Friday,
        jiff::civil::Weekday::Saturday => Weekday::Saturday,
        jiff::civil::Weekday::Sunday => Weekday::Sunday,
    };
    LocalTime::new(weekday, local.hour().unsigned_abs(), local.minute().unsigned_abs())
}
