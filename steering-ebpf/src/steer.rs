//! The path of a packet: known connections first, then the table for what opens one.

use aya_ebpf::helpers::bpf_ktime_get_ns;
use steering_common::action::{Action, OnDown, Verdict};
use steering_common::flow::Flow;
use steering_common::layout::Settings;
use steering_common::lookup::Ports;
use steering_common::pace::Pace;
use steering_common::parse::{Segment, too_big};
use steering_common::stats::Reason;
use steering_common::trace::NO_POLICY;

use crate::account::{count, count_policy, discard, pass};
use crate::classify::classify;
use crate::deliver;
use crate::forward::{Fate, forward};
use crate::maps::{HEARTBEAT, PACES, SETTINGS};
use crate::packet::Frame;
use crate::pairs;
use crate::sock::{self, Assigned, Held};
use crate::trace::trace;

/// How steered packets reach the proxy from this hook.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Straight into this host's stack.
    Host,
    /// Up through the bridge, which assigns the listener.
    Bridge,
}

/// Steers what arrives from clients.
#[inline(always)]
pub(crate) fn client_side(frame: &Frame<'_>) -> i32 {
    if frame.is_for_another() {
        return pass(Reason::OtherHost);
    }
    steer(frame, Way::Host)
}

/// Steers what arrives at a port of the bridge, from either side.
#[inline(always)]
pub(crate) fn bridge_port(frame: &Frame<'_>) -> i32 {
    steer(frame, Way::Bridge)
}

/// Steers what arrives from servers: only connections of the proxy, never new ones.
#[inline(always)]
pub(crate) fn server_side(frame: &Frame<'_>) -> i32 {
    if frame.is_for_another() {
        return pass(Reason::OtherHost);
    }
    let Some(settings) = SETTINGS.get(0) else {
        return pass(Reason::NotConfigured);
    };
    let mut segment = Segment::EMPTY;
    match frame.headers(&mut segment) {
        Ok(()) => match held(frame, settings, &segment.flow) {
            Held::Connection | Held::Remains if !segment.opens() => {
                established(frame, settings, &segment, Way::Host)
            }
            Held::Handshake | Held::Connection | Held::Remains | Held::Nothing => {
                pass_on(frame, settings, &segment, Reason::NotOurs)
            }
        },
        Err(Reason::NotTcp) => not_tcp(frame, settings, &mut segment, Way::Host),
        Err(reason) if reason.is_unsure() => pass(Reason::UnsurePassed),
        Err(reason) => pass(reason),
    }
}

/// The verdict of the table, packed; nothing is counted or changed.
#[inline(always)]
pub(crate) fn judge(frame: &Frame<'_>) -> i32 {
    let mut segment = Segment::EMPTY;
    let ports = match frame.headers(&mut segment) {
        Ok(()) => Ports::Known,
        Err(reason) if reason.is_unsure() => Ports::Hidden,
        Err(_reason) => return 0,
    };
    Verdict::pack(classify(&segment.flow, ports)).cast_signed()
}

#[inline(always)]
fn steer(frame: &Frame<'_>, way: Way) -> i32 {
    let Some(settings) = SETTINGS.get(0) else {
        return pass(Reason::NotConfigured);
    };
    let mut segment = Segment::EMPTY;
    match frame.headers(&mut segment) {
        Ok(()) => {}
        Err(Reason::NotTcp) => return not_tcp(frame, settings, &mut segment, way),
        Err(reason) if reason.is_unsure() => return unsure(frame, &mut segment, reason),
        Err(reason) => return pass(reason),
    }
    // Before the table, for SYNs too: one sent again belongs to the handshake it began.
    let held = held(frame, settings, &segment.flow);
    if held == Held::Handshake || held != Held::Nothing && !segment.opens() {
        return established(frame, settings, &segment, way);
    }
    // The connection can be gone before the kernel looks for it again.
    if held == Held::Connection {
        return reopen(frame, settings, &segment, way);
    }
    if segment.opens() {
        return open(frame, settings, &segment, way, held);
    }
    if segment.may_end_handshake()
        && pairs::may_connect(&segment.flow)
        && sock::ends_cookie_handshake(frame, &segment)
    {
        return to_listener(frame, settings, &segment, way, Reason::CookieAck);
    }
    pass_on(frame, settings, &segment, Reason::NotOurs)
}

/// Counts why a packet passes, and forwards it where that is asked for.
#[inline(always)]
fn pass_on(frame: &Frame<'_>, settings: &Settings, segment: &Segment, reason: Reason) -> i32 {
    let next = pass(reason);
    if settings.fast_path == 0 { next } else { send_on(frame, segment, next) }
}

/// Forwards a packet, or does what is `next` for it.
///
/// A function of its own, so that what it looks up takes no place on the stack of the others.
#[inline(never)]
fn send_on(frame: &Frame<'_>, segment: &Segment, next: i32) -> i32 {
    match forward(frame, segment) {
        Fate::Kernel => next,
        Fate::Leaves(ifindex) => {
            count(Reason::FastPath);
            frame.send_by(ifindex)
        }
        Fate::Broken => discard(Reason::FastPathFailed),
    }
}

/// What the kernel holds for a segment; it is asked only about pairs of hosts that the proxy may
/// have a connection between.
#[inline(always)]
fn held(frame: &Frame<'_>, settings: &Settings, flow: &Flow) -> Held {
    if pairs::may_connect(flow) {
        return sock::held(frame, flow, settings.socket_mark);
    }
    Held::Nothing
}

/// A packet that is not TCP: only what a router says of the proxy's connections is not passed on.
/// It is addressed to the host whose address the connection keeps, which has no use for it.
#[inline(always)]
fn not_tcp(frame: &Frame<'_>, settings: &Settings, segment: &mut Segment, way: Way) -> i32 {
    if too_big(frame, segment).is_none() {
        return pass_on(frame, settings, segment, Reason::NotTcp);
    }
    if held(frame, settings, &segment.flow) != Held::Connection {
        return pass(Reason::NotTcp);
    }
    count(Reason::TooBig);
    send(frame, settings, way)
}

/// A packet that might hide the start of a connection: dropped when a rule could concern it, or it
/// would be a way around the proxy.
#[inline(always)]
fn unsure(frame: &Frame<'_>, segment: &mut Segment, reason: Reason) -> i32 {
    let [first, last] = segment.route;
    // The destination in the header, then those that the packet may go to after it.
    for route in [0, first, last] {
        if route != 0 && frame.read_destination(segment, route).is_none() {
            continue;
        }
        let verdict = classify(&segment.flow, Ports::Hidden);
        if let Some(Verdict { action: Action::Redirect | Action::Drop, policy, .. }) = verdict {
            trace(&segment.flow, reason, policy.into());
            return discard(reason);
        }
    }
    trace(&segment.flow, Reason::UnsurePassed, NO_POLICY);
    pass(Reason::UnsurePassed)
}

/// A segment of a connection that the proxy holds. The kernel finds the socket again by itself.
#[inline(always)]
fn established(frame: &Frame<'_>, settings: &Settings, segment: &Segment, way: Way) -> i32 {
    if segment.fragment {
        // The other fragments have no ports to be found by, and would go on to the server.
        return discard(Reason::FragmentOfOurs);
    }
    count(Reason::Established);
    send(frame, settings, way)
}

#[inline(always)]
fn send(frame: &Frame<'_>, settings: &Settings, way: Way) -> i32 {
    match way {
        Way::Host => deliver::to_host(frame, settings),
        Way::Bridge => deliver::to_bridge(frame, settings),
    }
}

/// A segment that opens a connection, where the kernel has none or only what remains of one.
#[inline(always)]
fn open(frame: &Frame<'_>, settings: &Settings, segment: &Segment, way: Way, held: Held) -> i32 {
    let Some(verdict) = classify(&segment.flow, Ports::Known) else {
        trace(&segment.flow, Reason::NoRule, NO_POLICY);
        return pass_on(frame, settings, segment, Reason::NoRule);
    };
    let tell = |reason| trace(&segment.flow, reason, verdict.policy.into());
    match verdict.action {
        Action::Forward => {
            tell(Reason::Forwarded);
            count_policy(verdict.policy, |counts| counts.forwarded += 1);
            pass_on(frame, settings, segment, Reason::Forwarded)
        }
        Action::Drop => {
            tell(Reason::Dropped);
            count_policy(verdict.policy, |counts| counts.dropped += 1);
            discard(Reason::Dropped)
        }
        Action::Redirect if is_alive(settings) && sock::listens(segment.flow.family) => {
            if held == Held::Remains {
                return reopen(frame, settings, segment, way);
            }
            if !is_in_pace(verdict.policy) {
                tell(Reason::Paced);
                count_policy(verdict.policy, |counts| counts.paced += 1);
                return discard(Reason::Paced);
            }
            tell(Reason::Redirected);
            count_policy(verdict.policy, |counts| counts.redirected += 1);
            pairs::set(&segment.flow);
            to_listener(frame, settings, segment, way, Reason::Redirected)
        }
        Action::Redirect => {
            tell(match verdict.on_down {
                OnDown::Forward => Reason::DownForwarded,
                OnDown::Drop => Reason::DownDropped,
                OnDown::Reset => Reason::DownReset,
            });
            count_policy(verdict.policy, |counts| counts.down += 1);
            proxy_down(frame, segment, verdict.on_down)
        }
    }
}

/// Whether a policy takes another connection now; it is taken then.
#[inline(always)]
fn is_in_pace(policy: u16) -> bool {
    let Some(pace) = PACES.get_ptr_mut(u32::from(policy)) else {
        return true;
    };
    // SAFETY: an element of the map; what other processors change meanwhile costs one connection.
    let Pace { interval_ns, next_ns } = unsafe { pace.read_volatile() };
    if interval_ns == 0 {
        return true;
    }
    // SAFETY: takes no pointers.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    let Some(next_ns) = (Pace { interval_ns, next_ns }).take(now_ns) else {
        return false;
    };
    // SAFETY: as above.
    unsafe { (&raw mut (*pace).next_ns).write_volatile(next_ns) };
    true
}

/// A SYN for the proxy that meets what remains of a closed connection: the kernel clears that away
/// first, and the client sends the SYN again.
#[inline(always)]
fn reopen(frame: &Frame<'_>, settings: &Settings, segment: &Segment, way: Way) -> i32 {
    if !deliver::close_to_listeners(frame, segment) {
        return discard(Reason::ReopenFailed);
    }
    count(Reason::Reopened);
    send(frame, settings, way)
}

#[inline(always)]
fn to_listener(
    frame: &Frame<'_>,
    settings: &Settings,
    segment: &Segment,
    way: Way,
    reason: Reason,
) -> i32 {
    if way == Way::Bridge {
        count(reason);
        return deliver::to_bridge(frame, settings);
    }
    if sock::assign_listener(frame, segment.flow.family) != Assigned::Yes {
        return discard(Reason::AssignFailed);
    }
    count(reason);
    deliver::to_host(frame, settings)
}

#[inline(always)]
fn proxy_down(frame: &Frame<'_>, segment: &Segment, on_down: OnDown) -> i32 {
    match on_down {
        OnDown::Forward => pass(Reason::DownForwarded),
        OnDown::Drop => discard(Reason::DownDropped),
        OnDown::Reset => deliver::reset(frame, segment),
    }
}

/// Whether the daemon reported within the limit. A daemon that hangs still holds its sockets.
#[inline(always)]
fn is_alive(settings: &Settings) -> bool {
    let Some(reported) = HEARTBEAT.get_ptr(0) else {
        return false;
    };
    // SAFETY: an aligned element of the map; volatile because the daemon writes it meanwhile.
    let reported_ns = unsafe { reported.read_volatile() };
    // SAFETY: takes no pointers.
    let now_ns = unsafe { bpf_ktime_get_ns() };
    now_ns.saturating_sub(reported_ns) <= settings.heartbeat_limit_ns
}
