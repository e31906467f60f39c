//! Times: to run a command, of connections one beside the other, of a byte there and back.

use std::time::Duration;

use anyhow::Result;
use e2e::wait::Stopwatch;

use super::piped::Piped;
use super::stage::Stage;
use super::subject::Subject;
use super::turns;
use crate::bench::report::{Report, median};

/// Rounds of each comparison.
const ROUNDS: u32 = 5;

/// Commands of one round, one connection each, one after the other.
const COMMANDS: u32 = 6;

/// Connections of one round, [`CONNECTIONS_AT_ONCE`] at a time.
const CONNECTIONS: u32 = 24;

/// As many as keep both processors busy.
const CONNECTIONS_AT_ONCE: u32 = 4;

/// Bytes there and back in one turn; over all rounds some thousand.
const ECHOES: u32 = 500;

/// For one round of commands or connections.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// All of them.
pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    commands(stage, report)?;
    connections(stage, report)?;
    echoes(stage, report)
}

/// Time to log in, run a command and leave.
fn commands(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    println!("commands");
    let script = format!(
        r#"for i in $(seq {COMMANDS}); do ssh -F "$C" "$H" true </dev/null || exit 1; done"#
    );
    let turns = turns::take(&Subject::ALL, ROUNDS, |subject, _round| {
        let took = stage.script(subject, &script)?.run(RUN_LIMIT)?.ok()?.took;
        Ok([took.as_secs_f64() * 1000.0 / f64::from(COMMANDS)])
    })?;
    turns.tell(report, "command", ("log in, run, leave", "ms"), 0);
    Ok(())
}

/// Connections that log in, run a command and leave, in a second.
fn connections(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    println!("connections");
    let script = format!(
        r#"seq {CONNECTIONS} | xargs -P {CONNECTIONS_AT_ONCE} -n 1 \
           sh -c 'exec ssh -F "$C" "$H" true </dev/null'"#
    );
    let turns = turns::take(&Subject::ALL, ROUNDS, |subject, _round| {
        let took = stage.script(subject, &script)?.run(RUN_LIMIT)?.ok()?.took;
        Ok([f64::from(CONNECTIONS) / took.as_secs_f64()])
    })?;
    let case = format!("{CONNECTIONS_AT_ONCE} connections at a time");
    turns.tell(report, &case, ("connections", "1/s"), 0);
    report.summarize("connects_per_s", turns.of(Subject::Proxyd, 0));
    Ok(())
}

/// The median time of a byte to the server's `cat` and back.
fn echoes(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    println!("echoes");
    let mut sessions = Subject::ALL.map(|subject| (subject, None));
    let turns = turns::take(&Subject::ALL, ROUNDS, |subject, _round| {
        let session = sessions.iter_mut().find(|(of, _)| *of == subject);
        let Some((_, session)) = session else { anyhow::bail!("it has no session") };
        let piped = match session {
            Some(piped) => piped,
            None => {
                let mut piped = Piped::start(stage, subject, r#"exec ssh -F "$C" "$H" cat"#)?;
                piped.echo()?;
                session.insert(piped)
            }
        };
        let mut us = Vec::new();
        for _echo in 0..ECHOES {
            let clock = Stopwatch::start();
            piped.round_trip()?;
            us.push(clock.elapsed().as_secs_f64() * 1e6);
        }
        Ok([median(&us)?])
    })?;
    turns.tell(report, "one byte there and back", ("median time", "us"), 0);
    let extra = turns.of(Subject::Proxyd, 0).zip(turns.of(Subject::Direct, 0));
    report.summarize("echo_extra_us", extra.map(|(proxyd, direct)| proxyd - direct));
    Ok(())
}
