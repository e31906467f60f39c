//! Connections that fail while the daemon reads its configuration again, and while another takes
//! over from it.

use std::io::Read as _;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use e2e::wait::wait_until;

use super::frames::PORT;
use super::gateway::{Gateway, RELOAD, Table};
use super::topology::{Lab, SERVER_V4, Scratch};
use crate::bench::report::Report;

/// The option of `proxyd run` that takes over from the daemon that runs.
const TAKE_OVER: &str = "--take-over";

/// How often the configuration is read again, and how often another daemon takes over.
const RELOADS: u32 = 20;
const TAKE_OVERS: u32 = 3;

/// Connections that are made between two changes.
const BETWEEN: u32 = 20;

/// After that a connection, or the proxy's first words on it, have failed to come. A SYN that was
/// lost is sent again after a second, so that it counts.
const ANSWER_LIMIT: Duration = Duration::from_millis(900);

/// For [`BETWEEN`] connections.
const BETWEEN_LIMIT: Duration = Duration::from_secs(60);

/// How the proxy's identification starts (RFC 4253 section 4.2).
const IDENTIFICATION: &[u8; 4] = b"SSH-";

/// Measures both.
pub(super) fn measure(scratch: &Scratch, report: &mut Report) -> Result<()> {
    let lab = Lab::new()?;
    let mut gateway = Gateway::new(&lab, scratch, "changes", Table::Server(0), "")?;
    gateway.start()?;
    let reload = if gateway.knows("ctl", RELOAD)? {
        Some(failures(&lab, "reload", RELOADS, report, |number| {
            // Another table each time.
            gateway.configure(Table::Server(number % 2 * 100), "")?;
            gateway.reload()
        })?)
    } else {
        report.case("reload").missing("proxyd", "not supported by this build");
        None
    };
    report.summarize("reload_failed_connections", reload);
    let upgrade = if gateway.knows("run", TAKE_OVER)? {
        Some(failures(&lab, "upgrade", TAKE_OVERS, report, |_number| gateway.replace(TAKE_OVER))?)
    } else {
        report.case("upgrade").missing("proxyd", "not supported by this build");
        None
    };
    report.summarize("upgrade_failed_connections", upgrade);
    Ok(())
}

/// Connections so far.
#[derive(Debug, Default)]
struct Counts {
    made: AtomicU32,
    failed: AtomicU32,
    stop: AtomicBool,
}

/// Makes connections all the time while `change` is done again and again; gives how many failed.
fn failures(
    lab: &Lab,
    case: &str,
    changes: u32,
    report: &mut Report,
    mut change: impl FnMut(u32) -> Result<()>,
) -> Result<f64> {
    let counts = Counts::default();
    let outcome = thread::scope(|scope| {
        let client = scope.spawn(|| {
            lab.client.inside(|| {
                connect(&counts);
                Ok(())
            })
        });
        let outcome = (0..changes).try_for_each(|number| {
            more(&counts)?;
            change(number).with_context(|| format!("{case} {number}"))
        });
        let outcome = outcome.and_then(|()| more(&counts));
        counts.stop.store(true, Ordering::Relaxed);
        client.join().map_err(|_panic| anyhow!("the client panicked"))??;
        outcome
    });
    outcome?;
    let (made, failed) = (counts.made.into_inner(), counts.failed.into_inner());
    println!("{case}: {failed} of {made} connections failed");
    let mut rows = report.case(case);
    rows.row("proxyd", ("changes", ""), changes.into());
    rows.row("proxyd", ("connections", ""), made.into());
    rows.row("proxyd", ("failed connections", ""), failed.into());
    Ok(failed.into())
}

/// Waits for [`BETWEEN`] more connections.
fn more(counts: &Counts) -> Result<()> {
    let before = counts.made.load(Ordering::Relaxed);
    wait_until("more connections", BETWEEN_LIMIT, || {
        counts.made.load(Ordering::Relaxed) - before >= BETWEEN
    })
}

fn connect(counts: &Counts) {
    while !counts.stop.load(Ordering::Relaxed) {
        if is_answered().is_err() {
            counts.failed.fetch_add(1, Ordering::Relaxed);
        }
        counts.made.fetch_add(1, Ordering::Relaxed);
    }
}

/// Connects and reads the proxy's first words.
fn is_answered() -> Result<()> {
    let address = SocketAddr::from((SERVER_V4, PORT));
    let mut stream = TcpStream::connect_timeout(&address, ANSWER_LIMIT)?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    let mut first = [0; IDENTIFICATION.len()];
    stream.read_exact(&mut first)?;
    anyhow::ensure!(first == *IDENTIFICATION, "{first:?} is no identification");
    Ok(())
}
