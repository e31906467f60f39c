//! Bulk TCP of an unmatched flow through the gateway, on interfaces as the kernel sets them up:
//! segments of 64 KiB cross them whole.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use anyhow::{Result, anyhow};
use e2e::wait::Stopwatch;
use e2e::world::Family;

use super::gateway::{Gateway, Table};
use super::topology::{Lab, SERVER_V4, Scratch, pin, working_cpu};
use super::{RANGES_MAX, RANGES_MIN};
use crate::bench::report::{Report, median};

/// A port that no policy names.
const PORT: u16 = 5001;

/// How long one transfer lasts: long against the start of TCP.
const TRANSFER: Duration = Duration::from_millis(400);

/// Transfers of each subject, in turns. Many short ones: their median is steadier than a long one.
const ROUNDS: usize = 15;

/// Bytes of one call.
const BLOCK_BYTES: usize = 128 * 1024;

/// Measures the kernel alone and steering by the largest table that fits, in turns.
pub(super) fn measure(scratch: &Scratch, report: &mut Report) -> Result<()> {
    let (baseline, steered) = (Lab::new()?, Lab::new()?);
    let mut ratio_at_most = None;
    for count in [RANGES_MAX, RANGES_MIN] {
        let table = Table::Ranges(Family::V4, count);
        let subject = format!("proxyd, {}", table.name());
        let mut gateway = Gateway::new(&steered, scratch, &format!("bulk-{count}"), table, "")?;
        if let Some(why) = gateway.refusal()? {
            report.case("bulk TCP").missing(&subject, &format!("does not fit: {why}"));
            continue;
        }
        gateway.start()?;
        let ratio = compare(&baseline, &steered, &subject, report)?;
        if count == RANGES_MAX {
            ratio_at_most = Some(ratio);
        }
        break;
    }
    report.summarize("unmatched_bulk_tcp_ratio", ratio_at_most);
    Ok(())
}

/// The median ratio of a transfer to the mean of those before and after it.
fn compare(baseline: &Lab, steered: &Lab, subject: &str, report: &mut Report) -> Result<f64> {
    let mut before = transfer(baseline)?;
    let (mut baselines, mut subjects, mut ratios) = (vec![before], Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let own = transfer(steered)?;
        let after = transfer(baseline)?;
        ratios.push(own / f64::midpoint(before, after));
        subjects.push(own);
        baselines.push(after);
        before = after;
    }
    let ratio = median(&ratios)?;
    let (alone, own) = (median(&baselines)?, median(&subjects)?);
    println!("bulk TCP: {subject}: {own:.2} Gbit/s beside {alone:.2}, ratio {ratio:.3}");
    let mut case = report.case("bulk TCP");
    case.row("kernel", ("speed", "Gbit/s"), alone);
    case.compared(subject, ("speed", "Gbit/s"), own, alone);
    case.row(subject, ("median of the ratios of neighbours", ""), ratio);
    Ok(ratio)
}

/// Gbit/s of one transfer from the client to the server.
fn transfer(lab: &Lab) -> Result<f64> {
    let address = SocketAddr::from((SERVER_V4, PORT));
    let listener = lab.server.inside(|| Ok(TcpListener::bind(address)?))?;
    thread::scope(|scope| {
        let sender = scope.spawn(|| lab.client.inside(|| send(address)));
        let received = receive(&listener);
        sender.join().map_err(|_panic| anyhow!("the sender panicked"))??;
        received
    })
}

fn send(address: SocketAddr) -> Result<()> {
    pin(working_cpu())?;
    let mut stream = TcpStream::connect(address)?;
    let block = vec![0; BLOCK_BYTES];
    let clock = Stopwatch::start();
    while clock.elapsed() < TRANSFER {
        stream.write_all(&block)?;
    }
    Ok(())
}

/// Gbit/s from the first byte to the last.
fn receive(listener: &TcpListener) -> Result<f64> {
    // The sender does the forwarding; whoever receives stays out of its way, where it can.
    pin(0)?;
    let (mut stream, _peer) = listener.accept()?;
    let mut block = vec![0; BLOCK_BYTES];
    let mut bytes = stream.read(&mut block)?;
    let clock = Stopwatch::start();
    loop {
        let more = stream.read(&mut block)?;
        if more == 0 {
            break;
        }
        bytes += more;
    }
    #[expect(clippy::cast_precision_loss, reason = "far below 2 to the 52nd")]
    let bits = bytes as f64 * 8.0;
    Ok(bits / clock.elapsed().as_secs_f64() / 1e9)
}
