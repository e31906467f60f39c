//! Bulk data, one way and both ways, and what is computed at the gateway for it.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use e2e::process::Finished;
use e2e::wait::Stopwatch;

use super::piped::{self, Piped};
use super::stage::Stage;
use super::subject::{Cipher, Subject};
use super::turns::{self, Turns};
use crate::bench::report::Report;

/// Rounds of each comparison.
const ROUNDS: u32 = 5;

/// MiB of one transfer, which takes about half a second.
const BULK_MIB: u32 = 256;

/// MiB of one transfer through ssh-mitm, which takes as long for fewer.
const BULK_MIB_SSH_MITM: u32 = 8;

/// Bytes of a MiB.
const MIB: u32 = 1 << 20;

/// MiB of a GiB.
const MIB_PER_GIB: u32 = 1024;

/// For one transfer.
const RUN_LIMIT: Duration = Duration::from_secs(120);

/// Bytes written or read at a time where the benchmark itself is at the pipe.
const PIPE_BYTES: usize = 64 * 1024;

/// Which way data goes, and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Zeros from the server.
    Down,
    /// Zeros from the client.
    Up,
    /// Bytes from the server that cannot be compressed.
    DownRandom,
}

impl Way {
    /// The client's script. What is timed, by the server, begins with the first byte and ends with
    /// the last: logging in is not counted.
    const fn script(self) -> &'static str {
        match self {
            Self::Down => {
                r#"exec ssh -F "$C" "$H" 'begin=$(date +%s%N); head -c '"$BYTES"' /dev/zero
                end=$(date +%s%N); echo $((end - begin)) >&2' >/dev/null"#
            }
            Self::Up => {
                r#"head -c "$BYTES" /dev/zero | ssh -F "$C" "$H" 'head -c 1 >/dev/null
                begin=$(date +%s%N); cat >/dev/null; end=$(date +%s%N)
                echo $((end - begin)) >&2'"#
            }
            Self::DownRandom => {
                r#"exec ssh -F "$C" "$H" 'test -s random || head -c 32M /dev/urandom >random
                begin=$(date +%s%N)
                left='"$BYTES"'
                while [ $left -gt 0 ]; do head -c $left random; left=$((left - 33554432)); done
                end=$(date +%s%N); echo $((end - begin)) >&2' >/dev/null"#
            }
        }
    }

    fn case(self, cipher: Cipher) -> String {
        match self {
            Self::Down => format!("download {}", cipher.short()),
            Self::Up => format!("upload {}", cipher.short()),
            Self::DownRandom => format!("download {}, random", cipher.short()),
        }
    }
}

/// Both ciphers, all ways.
pub(super) fn measure(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    for cipher in Cipher::ALL {
        stage.use_cipher(cipher)?;
        let down = one_way(stage, cipher, Way::Down, report)?;
        let up = one_way(stage, cipher, Way::Up, report)?;
        let over_direct = |turns: &Turns<2>, subject| turns.ratio(subject, Subject::Direct, 0);
        if cipher == Cipher::ChaCha20 {
            report.summarize("chacha_down_ratio", over_direct(&down, Subject::Proxyd));
            report.summarize("chacha_up_ratio", over_direct(&up, Subject::Proxyd));
            continue;
        }
        report.summarize("gcm_down_ratio", over_direct(&down, Subject::Proxyd));
        report.summarize("gcm_up_ratio", over_direct(&up, Subject::Proxyd));
        report.summarize("recorded_gcm_down_ratio", over_direct(&down, Subject::Recorded));
        report.summarize("cpu_s_per_gib_gcm", down.of(Subject::Proxyd, 1));
        report.summarize("cpu_s_per_gib_gcm_recorded", down.of(Subject::Recorded, 1));
        report.summarize("gcm_down_over_ssh_j", down.ratio(Subject::Proxyd, Subject::SshJ, 0));
        one_way(stage, cipher, Way::DownRandom, report)?;
    }
    stage.use_cipher(Cipher::Gcm)?;
    both_ways(stage, report)
}

const fn mib(subject: Subject) -> u32 {
    if matches!(subject, Subject::SshMitm) { BULK_MIB_SSH_MITM } else { BULK_MIB }
}

/// MB/s, and seconds of processor time per GiB.
fn one_way(stage: &Stage<'_>, cipher: Cipher, way: Way, report: &mut Report) -> Result<Turns<2>> {
    let case = way.case(cipher);
    println!("{case}");
    let turns = turns::take(&Subject::ALL, ROUNDS, |subject, round| {
        let bytes = f64::from(mib(subject)) * f64::from(MIB);
        if round == 0 && way != Way::Up {
            check_arrival(stage, subject, bytes)?;
        }
        let call = stage.script(subject, way.script())?.env("BYTES", &bytes.to_string());
        let before_s = stage.cpu_s(subject)?;
        let run = call.run(RUN_LIMIT)?.ok()?;
        let computed_s = stage.cpu_s(subject)? - before_s;
        let gib = f64::from(mib(subject)) / f64::from(MIB_PER_GIB);
        Ok([bytes / 1e6 / timed_s(&run)?, computed_s / gib])
    })?;
    turns.tell(report, &case, ("speed", "MB/s"), 0);
    turns.tell(report, &case, ("processor time at the gateway", "s/GiB"), 1);
    Ok(turns)
}

/// Fails where not everything arrives: whoever drops data is fast.
fn check_arrival(stage: &Stage<'_>, subject: Subject, bytes: f64) -> Result<()> {
    let script = r#"ssh -F "$C" "$H" "head -c $BYTES /dev/zero" | wc -c"#;
    let call = stage.script(subject, script)?.env("BYTES", &bytes.to_string());
    let arrived: f64 = call.run(RUN_LIMIT)?.ok()?.text().trim().parse()?;
    let missing = bytes - arrived;
    ensure!(missing == 0.0, "of a download of {bytes} bytes, {missing} did not arrive");
    Ok(())
}

/// What the server has measured, which is the last thing it said.
fn timed_s(run: &Finished) -> Result<f64> {
    let last = run.stderr.lines().last().and_then(|line| line.trim().parse::<f64>().ok());
    let nanoseconds = last.with_context(|| {
        format!("what the server writes to standard error does not arrive: {:?}", run.stderr)
    })?;
    Ok(nanoseconds / 1e9)
}

/// What is sent comes back: MB/s of each direction.
fn both_ways(stage: &Stage<'_>, report: &mut Report) -> Result<()> {
    println!("two-way bulk data");
    let turns = turns::take(&Subject::ALL, ROUNDS, |subject, _round| {
        let bytes = u64::from(mib(subject)) * u64::from(MIB) / 2;
        let took = there_and_back(stage, subject, bytes)?;
        Ok([f64::from(mib(subject)) * f64::from(MIB) / 2.0 / 1e6 / took.as_secs_f64()])
    })?;
    turns.tell(report, "two-way aes128-gcm", ("speed", "MB/s"), 0);
    report.summarize("two_way_bulk_ratio", turns.ratio(Subject::Proxyd, Subject::Direct, 0));
    Ok(())
}

fn there_and_back(stage: &Stage<'_>, subject: Subject, bytes: u64) -> Result<Duration> {
    let mut piped = Piped::start(stage, subject, r#"exec ssh -F "$C" "$H" cat"#)?;
    // Once a byte has come back, logging in is over.
    piped.echo()?;
    let (mut input, mut output) = piped.take_ends()?;
    let clock = Stopwatch::start();
    let sender = thread::spawn(move || {
        let zeros = [0; PIPE_BYTES];
        let mut left = bytes;
        while left > 0 {
            let size = usize::try_from(left).unwrap_or(PIPE_BYTES).min(PIPE_BYTES);
            input.write_all(zeros.get(..size).unwrap_or_default())?;
            left -= u64::try_from(size).unwrap_or(left);
        }
        input.flush()
    });
    let mut buffer = vec![0; PIPE_BYTES];
    let mut came = 0;
    while came < bytes {
        piped::await_bytes(&output)?;
        let count = output.read(&mut buffer)?;
        ensure!(count > 0, "it ended after {came} of {bytes} bytes");
        came += u64::try_from(count)?;
    }
    let took = clock.elapsed();
    sender.join().map_err(|_panic| anyhow!("the sender panicked"))??;
    Ok(took)
}
