//! The line: every step of a session, in order.

use std::time::Duration;

use proxyd_policy::admit::Admitted;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info};

use super::names;
use super::protocol::{ClientHalf as _, Protocol};
use crate::ask::Present as _;
use crate::channel;
use crate::ctx::Ctx;
use crate::net::accept::Accepted;
use crate::recording::Recorder;
use crate::session::Session;
use crate::session::event::Event;
use crate::session::stop::{Blame, Failure, Stop};
use crate::steering::HeldPair;
use crate::usermapping::{self, Authorized};

/// Serves one accepted connection from its first byte to its sealed trail.
pub async fn serve<P: Protocol>(
    ctx: &Ctx,
    protocol: &P,
    mut session: Session,
    admitted: Admitted,
    accepted: Accepted,
) {
    P::NAME.clone_into(&mut session.row().protocol);
    let mut recorder = None;
    let result = run(ctx, protocol, &mut session, &admitted, accepted, &mut recorder).await;
    finish(ctx, session, recorder, result).await;
}

async fn run<P: Protocol>(
    ctx: &Ctx,
    protocol: &P,
    session: &mut Session,
    admitted: &Admitted,
    accepted: Accepted,
    recorder: &mut Option<Recorder>,
) -> Result<(), Stop> {
    let name = admitted.policy().name.clone();
    session.note(Event::Policy { name: name.clone() });
    session.update(|live| live.policy = name);
    let token = session.token().clone();
    // What these steps take is given back before the relay, which may last for days.
    let greet = Box::pin(protocol.greet(session, admitted, accepted));
    let greeted = unless(&token, greet).await;
    let mut client = greeted.unwrap_or_else(|| Err(session.terminated()))?;
    let log_in = Box::pin(log_in(ctx, protocol, session, admitted, &mut client));
    let logged_in = unless(&token, log_in).await;
    let logged_in = logged_in.unwrap_or_else(|| Err(session.terminated()));
    let ready = match logged_in {
        Ok(proven) => start_recording(ctx, session, admitted).await.map(|begun| (proven, begun)),
        Err(stop) => Err(stop),
    };
    match ready {
        Ok((LoggedIn { authorized, server, pair }, begun)) => {
            *recorder = begun;
            let halves = (client, server);
            let relayed = protocol.relay(session, admitted, &authorized, halves, recorder);
            let relayed = Box::pin(relayed).await;
            drop(pair);
            relayed
        }
        Err(stop) => {
            client.dismiss(&stop).await;
            Err(stop)
        }
    }
}

/// What `steps` come to; none where the session is ended before.
async fn unless<T>(token: &CancellationToken, steps: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        result = steps => Some(result),
        () = token.cancelled() => None,
    }
}

/// A session whose server let it in.
struct LoggedIn<S> {
    authorized: Authorized,
    server: S,
    /// As long as it is held, the server's answers find their way.
    pair: Option<HeldPair>,
}

/// The steps between the first authentication attempt and the server's acceptance.
async fn log_in<P: Protocol>(
    ctx: &Ctx,
    protocol: &P,
    session: &mut Session,
    admitted: &Admitted,
    client: &mut P::Client,
) -> Result<LoggedIn<P::Server>, Stop> {
    save(ctx, session).await.map_err(|error| Stop::gateway("open", error))?;
    step(session, "gateway-authentication");
    if client.gateway_name().is_empty() {
        names::complete_user(client).await?;
    }
    let user = ctx.gateways.authenticate(session, admitted, client).await?;
    session.update(|live| user.name().clone_into(&mut live.gateway_user));
    step(session, "target");
    let target = names::target(ctx, session, admitted, client).await?;
    step(session, "usermapping");
    names::complete_user(client).await?;
    let remote_user = client.remote_user().to_owned();
    let authorized = usermapping::authorize(session, admitted, user, target, &remote_user)?;
    step(session, "pre-channel-check");
    channel::pre_check(&ctx.clock, admitted, &authorized)?;
    step(session, "connect");
    let (link, pair) = ctx.dialer.connect(admitted, &authorized).await?;
    step(session, "server-authentication");
    let server = protocol.log_in(session, admitted, &authorized, link, client).await?;
    step(session, "relay");
    Ok(LoggedIn { authorized, server, pair })
}

/// Opens the trail where the policy records, and writes down what is known so far.
///
/// What the steps left behind is in the database before the user's first channel is.
async fn start_recording(
    ctx: &Ctx,
    session: &mut Session,
    admitted: &Admitted,
) -> Result<Option<Recorder>, Stop> {
    save(ctx, session).await.map_err(|error| Stop::gateway("open", error))?;
    let recorder = match (&admitted.policy().audit, admitted.policy().channels.records()) {
        (Some(audit), true) => Some(
            ctx.recordings
                .start(session, admitted.policy(), audit)
                .await
                .map_err(|error| Stop::gateway("recording", error))?,
        ),
        // INVARIANT: the configuration refuses a recording rule without an audit policy.
        (None, true) => return Err(Stop::gateway("recording", "no audit policy to record by")),
        (_, false) => None,
    };
    let Some(recorder) = recorder else { return Ok(None) };
    recorder.file_name().clone_into(&mut session.row().trail);
    if let Err(error) = save(ctx, session).await {
        let stop = Stop::gateway("open", error);
        seal(session, recorder, &stop.reason()).await;
        return Err(stop);
    }
    Ok(Some(recorder))
}

/// Seals the trail, writes the row, leaves the one line of the session in the log.
///
/// A client that leaves before it has tried to authenticate leaves a line alone: writing a row for
/// each would let anybody who can open connections keep the disk busy.
async fn finish(
    ctx: &Ctx,
    mut session: Session,
    recorder: Option<Recorder>,
    result: Result<(), Stop>,
) {
    if matches!(result, Err(Stop::ClientGone)) && !session.is_saved() {
        debug!(session_id = %session.id(), client = %session.flow().client, "Client left at once");
        return;
    }
    let (outcome, reason) = match &result {
        Ok(()) => ("completed", String::new()),
        Err(stop) => (stop.outcome(), stop.reason()),
    };
    if let Err(Stop::Failed(Failure { blame: Blame::Gateway, .. })) = &result {
        error!(session_id = %session.id(), reason, "The gateway could not serve a session");
    }
    let ended = session.note(Event::Ended { outcome, reason: reason.clone() });
    if let Some(mut recorder) = recorder {
        recorder.event(&ended);
        let end = if reason.is_empty() { outcome } else { &reason };
        seal(&mut session, recorder, end).await;
    }
    let row = session.row();
    row.ended_ns = Some(ctx.clock.wall_ns());
    outcome.clone_into(&mut row.outcome);
    row.reason = reason;
    if let Err(error) = save(ctx, &mut session).await {
        error!(session_id = %session.id(), %error, "A session's row could not be written");
    }
    tell(&mut session);
}

/// Ends the trail; what cannot be sealed now is closed when the daemon next starts.
async fn seal(session: &mut Session, recorder: Recorder, reason: &str) {
    match tokio::time::timeout(SEAL_LIMIT, recorder.finish(reason)).await {
        Ok(Ok(hash)) => session.row().trail_hash = hash,
        Ok(Err(error)) => {
            error!(session_id = %session.id(), %error, "A trail could not be sealed");
        }
        Err(_elapsed) => {
            error!(session_id = %session.id(), "A trail is not sealed yet; its writer goes on");
        }
    }
}

/// The one line of a session in the log.
fn tell(session: &mut Session) {
    let duration_ms = u64::try_from(session.age().as_millis()).unwrap_or(u64::MAX);
    let row = session.row();
    info!(
        session_id = %row.id,
        policy = row.policy,
        protocol = row.protocol,
        client_addr = row.client,
        original_dst = row.original_destination,
        target_addr = row.target,
        gateway_user = row.gateway_user,
        server_user = row.remote_user,
        outcome = row.outcome,
        reason = row.reason,
        trail = row.trail,
        duration_ms,
        "Session closed"
    );
}

/// How long a session waits for its trail to be sealed; on a slow disk the writer goes on alone.
const SEAL_LIMIT: Duration = Duration::from_secs(60);

/// Brings the row up to date and writes the events that wait.
async fn save(ctx: &Ctx, session: &mut Session) -> Result<(), crate::store::StoreError> {
    let (row, events) = session.hand_out();
    let count = events.len();
    if let Err(error) = ctx.saver.save(row, events).await {
        session.not_saved(count);
        return Err(error);
    }
    let lost = session.saved();
    if lost > 0 {
        error!(session_id = %session.id(), lost, "A session left more events than are kept");
    }
    Ok(())
}

fn step(session: &mut Session, name: &'static str) {
    session.update(|live| name.clone_into(&mut live.step));
}
