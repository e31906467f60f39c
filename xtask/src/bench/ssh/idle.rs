//! Memory of idle sessions.

use std::time::Duration;

use anyhow::Result;
use e2e::terminal::{Size, Terminal};
use e2e::wait::{Stopwatch, wait_for};
use e2e::world::World;

use super::stage::Stage;
use super::subject::Subject;
use crate::bench::report::Report;
use crate::bench::usage::Memory;

/// Idle sessions at one time.
const SESSIONS: u16 = 1000;

/// Logins at one time: more would only wait for each other.
const LOGINS_AT_ONCE: usize = 8;

/// For one login of several at a time, on a busy machine.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// From the last login to the measurement; a session that is quiet for seconds gives memory back.
const SETTLE: Duration = Duration::from_secs(6);

/// Of sessions that are not recorded, and of such that are.
pub(super) fn measure(report: &mut Report) -> Result<()> {
    for (subject, summary) in
        [(Subject::Proxyd, "rss_idle_kb"), (Subject::Recorded, "rss_idle_recorded_kb")]
    {
        let per_session_kb = of(subject, report)?;
        report.summarize(summary, per_session_kb);
    }
    Ok(())
}

/// Memory of the daemon before and with many idle shells; gives kB per session.
fn of(subject: Subject, report: &mut Report) -> Result<f64> {
    println!("{SESSIONS} idle sessions, {}", subject.name());
    let world = World::router()?;
    let stage = Stage::start(&world, 2 * SESSIONS)?;
    let before = settled(&stage)?;
    let shells = open_shells(&stage, subject)?;
    stage.expect_live(SESSIONS)?;
    let with = settled(&stage)?;
    stage.expect_live(SESSIONS)?;
    drop(shells);
    let per_session =
        |before: u32, with: u32| (f64::from(with) - f64::from(before)) / f64::from(SESSIONS);
    let resident_kb = per_session(before.resident_kb, with.resident_kb);
    let anonymous_kb = per_session(before.anonymous_kb, with.anonymous_kb);
    let mut case = report.case("idle sessions");
    case.row(subject.name(), ("rss without", "kB"), before.resident_kb.into());
    case.row(subject.name(), ("rss with", "kB"), with.resident_kb.into());
    case.row(subject.name(), ("rss per session", "kB"), resident_kb);
    case.row(subject.name(), ("anonymous per session", "kB"), anonymous_kb);
    Ok(resident_kb)
}

/// Opens [`SESSIONS`] shells, a few at a time, and waits for their prompts.
fn open_shells(stage: &Stage<'_>, subject: Subject) -> Result<Vec<Terminal>> {
    let size = Size { rows: 24, columns: 80 };
    let mut shells = Vec::with_capacity(usize::from(SESSIONS));
    let call = stage.script(subject, r#"exec ssh -F "$C" "$H""#)?;
    while shells.len() < usize::from(SESSIONS) {
        let count = LOGINS_AT_ONCE.min(usize::from(SESSIONS) - shells.len());
        let started = (0..count).map(|_| call.terminal(size)).collect::<Result<Vec<_>>>()?;
        for mut shell in started {
            shell.expect("$ ", LOGIN_LIMIT)?;
            shells.push(shell);
        }
    }
    Ok(shells)
}

/// Memory after a while without work.
fn settled(stage: &Stage<'_>) -> Result<Memory> {
    let clock = Stopwatch::start();
    let is_over = || Ok((clock.elapsed() >= SETTLE).then_some(()));
    wait_for("the sessions to be quiet", 2 * SETTLE, is_over)?;
    stage.memory()
}
