//! A channel whose reader has stopped, beside one that lives, on one connection.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use e2e::process::Process;
use e2e::wait::{Stopwatch, wait_for};

use super::piped::Piped;
use super::stage::Stage;
use super::subject::Subject;
use super::turns;
use crate::bench::report::Report;

/// Rounds of the comparison.
const ROUNDS: u32 = 5;

/// Time in which the stalled channel fills every buffer on its way.
const FILL: Duration = Duration::from_millis(1500);

/// For the master to log in.
const LOGIN_LIMIT: Duration = Duration::from_secs(20);

/// What a stalled channel costs another one of its connection.
pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    println!("a stalled channel");
    let mut connections = Subject::ALL.map(|subject| (subject, None));
    let turns = turns::take(&Subject::ALL, ROUNDS, |subject, _round| {
        let connection = connections.iter_mut().find(|(of, _)| *of == subject);
        let Some((_, connection)) = connection else { bail!("it has no connection") };
        if connection.is_none() {
            *connection = Some(Stalled::start(stage, subject)?);
        }
        Ok([command_ms(stage, subject)?])
    })?;
    turns.tell(report, "command beside a stalled channel", ("until its first byte", "ms"), 0);
    let delay = turns.of(Subject::Proxyd, 0).zip(turns.of(Subject::Direct, 0));
    report.summarize("stalled_channel_delay_ms", delay.map(|(proxyd, direct)| proxyd - direct));
    Ok(())
}

/// A connection that several sessions share, and one of them whose output nobody reads.
struct Stalled {
    _stalled: Piped,
    _master: Process,
}

impl Stalled {
    fn start(stage: &Stage<'_>, subject: Subject) -> Result<Self> {
        let socket = socket(stage, subject);
        let script = format!(r#"exec ssh -F "$C" -M -S "{}" -N "$H""#, socket.display());
        let mut master = stage.script(subject, &script)?.start()?;
        wait_for("the connection to be shared", LOGIN_LIMIT, || {
            if master.status()?.is_some() {
                bail!("no connection: {}", master.stderr()?);
            }
            Ok(socket.exists().then_some(()))
        })?;
        let stalled = shared(stage, subject, "head -c 1G /dev/zero")?;
        let clock = Stopwatch::start();
        wait_for("buffers to be full", 2 * FILL, || Ok((clock.elapsed() >= FILL).then_some(())))?;
        Ok(Self { _stalled: stalled, _master: master })
    }
}

/// Milliseconds until a program on the shared connection has sent a byte back.
fn command_ms(stage: &Stage<'_>, subject: Subject) -> Result<f64> {
    let clock = Stopwatch::start();
    shared(stage, subject, "cat")?.echo()?;
    Ok(clock.elapsed().as_secs_f64() * 1000.0)
}

/// Starts a command on the shared connection.
fn shared(stage: &Stage<'_>, subject: Subject, command: &str) -> Result<Piped> {
    let socket = socket(stage, subject);
    let script = format!(r#"exec ssh -F "$C" -S "{}" "$H" '{command}'"#, socket.display());
    Piped::start(stage, subject, &script)
}

/// By which `ssh` finds the shared connection.
fn socket(stage: &Stage<'_>, subject: Subject) -> PathBuf {
    stage.client.directory().join(format!("{}.control", subject.name()))
}
