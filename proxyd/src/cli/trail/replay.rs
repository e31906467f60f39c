//! Playing a recorded terminal, at the pace at which it happened or another.

use std::io::{Read, Write};
use std::time::Duration;

use anyhow::Context as _;
use proxyd_trail::{Reader, Record, ScreenFilter, Source};

/// How fast, from where, with what pauses.
#[derive(Debug, clap::Args)]
pub(super) struct Pace {
    /// How many times faster than it happened; 0 plays everything at once.
    #[arg(long, default_value_t = 1.0, value_parser = speed)]
    speed: f64,
    /// Where to start, in seconds since the session's start; what was before is drawn at once.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    at: u64,
    /// The longest pause, in seconds, before --speed.
    #[arg(long, value_name = "SECONDS", default_value_t = 3)]
    idle_limit: u64,
    /// The channel; without it, the first on which the server sent something.
    #[arg(long)]
    channel: Option<u32>,
}

fn speed(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(speed) if speed.is_finite() && speed >= 0.0 => Ok(speed),
        _ => Err("not a number of at least 0".to_owned()),
    }
}

/// Plays what the server sent on one channel.
pub(super) fn replay<R: Read>(
    reader: &mut Reader<R>,
    pace: &Pace,
    out: &mut impl Write,
) -> anyhow::Result<()> {
    let start_ns = pace.at.saturating_mul(1_000_000_000);
    let mut channel = pace.channel;
    let mut shown_ns = start_ns;
    let mut filter = ScreenFilter::drawing();
    while let Some(entry) = reader.next_record()? {
        let Record::Data { channel: from, source: Source::Stdout | Source::Stderr, bytes } =
            entry.record
        else {
            continue;
        };
        if *channel.get_or_insert(from) != from {
            continue;
        }
        let pause_ns = entry.t_ns.saturating_sub(shown_ns);
        if pause_ns > 0 {
            out.flush()?;
            wait(Duration::from_nanos(pause_ns), pace);
            shown_ns = entry.t_ns;
        }
        out.write_all(filter.pass(bytes).as_bytes())?;
    }
    // The recorded program may have left colours or another screen behind.
    out.write_all(b"\x1b[0m\r\n")?;
    out.flush()?;
    channel.context("nothing was shown in this session")?;
    Ok(())
}

/// Waits as the pace says.
#[expect(clippy::disallowed_methods, reason = "a command that plays in real time has to wait")]
fn wait(pause: Duration, pace: &Pace) {
    let limited = pause.min(Duration::from_secs(pace.idle_limit));
    if pace.speed > 0.0 {
        // A speed near 0 gives a pause that no duration can hold: the idle limit is the longest.
        let scaled = Duration::try_from_secs_f64(limited.as_secs_f64() / pace.speed);
        std::thread::sleep(scaled.unwrap_or(limited));
    }
}
