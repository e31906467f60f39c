//! Shows the output of one channel in a terminal, with its pauses.

use std::io::{self, Write};
use std::ops::ControlFlow;
use std::time::Duration;

use proxyd_trail::{Record, ScreenFilter, Source};

use super::Pace;

/// What was played, and what is to come.
pub(super) struct Player<'p, W> {
    pace: &'p Pace,
    out: W,
    /// The channel; none until the first that shows something.
    channel: Option<u32>,
    /// Up to here everything is on the screen; what is earlier is drawn at once.
    shown_ns: u64,
    filter: ScreenFilter,
    has_shown: bool,
}

impl<'p, W: Write> Player<'p, W> {
    /// Plays a channel, from `start_ns` on with its pauses.
    pub(super) fn new(pace: &'p Pace, channel: Option<u32>, start_ns: u64, out: W) -> Self {
        let filter = ScreenFilter::drawing();
        Self { pace, out, channel, shown_ns: start_ns, filter, has_shown: false }
    }

    /// Shows what a record is about; breaks once it is later than what is to be played.
    pub(super) fn take(&mut self, t_ns: u64, record: &Record<'_>) -> io::Result<ControlFlow<()>> {
        let Record::Data { channel, source: Source::Stdout | Source::Stderr, bytes } = record
        else {
            return Ok(ControlFlow::Continue(()));
        };
        if *self.channel.get_or_insert(*channel) != *channel {
            return Ok(ControlFlow::Continue(()));
        }
        if self.pace.until.is_some_and(|until_ns| t_ns > until_ns) {
            return Ok(ControlFlow::Break(()));
        }
        let pause_ns = t_ns.saturating_sub(self.shown_ns);
        if pause_ns > 0 {
            self.out.flush()?;
            wait(Duration::from_nanos(pause_ns), self.pace);
            self.shown_ns = t_ns;
        }
        self.has_shown = true;
        self.out.write_all(self.filter.pass(bytes).as_bytes())?;
        Ok(ControlFlow::Continue(()))
    }

    /// Lets be seen what was shown so far.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Draws a keyframe on a cleared screen. It is as little to be trusted as the output it is of,
    /// and may end in a sequence that goes on in what follows.
    pub(super) fn draw(&mut self, screen: &str) -> io::Result<()> {
        self.out.write_all(CLEARED)?;
        self.out.write_all(self.filter.pass(screen.as_bytes()).as_bytes())
    }

    /// Sets the terminal back; whether there was any output.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        // The recorded program may have left colours or another screen behind.
        self.out.write_all(b"\x1b[0m\r\n")?;
        self.out.flush()?;
        Ok(self.has_shown)
    }
}

/// No colours, no margins, and nothing on the screen (ECMA-48, DEC VT100).
const CLEARED: &[u8] = b"\x1b[0m\x1b[r\x1b[H\x1b[2J";

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
