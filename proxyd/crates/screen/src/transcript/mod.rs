//! What could be read on a screen, with times.
//!
//! Text is told once it is certain: when it has gone from the screen, scrolled out of it, or the
//! session has ended. What stood for less than [`STAND_NS_MIN`] does not count, unless it scrolled
//! out or stood at the end: such a row was complete.
//!
//! A row is told whole, without what was on it for too short a time, and told again when it
//! changes after that. A line that the terminal wrapped is one text. Text that moves, by scrolling
//! or because all is drawn anew, stays the same text; so does what is erased and drawn again at
//! its place within [`STAND_NS_MIN`].

mod commands;
mod line;
mod reflow;
mod row;
mod tracker;

use crate::Screen;
use tracker::Tracker;

/// How long text has to stand on the screen to count as seen, in nanoseconds: 100 ms.
pub const STAND_NS_MIN: u64 = 100_000_000;

/// Text that could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When all of it was on the screen at first, in nanoseconds since the session began.
    pub t_ns: u64,
    /// One line, without blanks at its end.
    pub text: String,
}

/// A command that was typed at a prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// When it was entered, in nanoseconds since the session began.
    pub t_ns: u64,
    /// What stood behind the prompt, or what the shell says it was.
    pub text: String,
    /// The status that the shell told.
    pub exit_status: Option<i32>,
    /// How it was found.
    pub source: CommandSource,
}

/// How a command was found. None of it is proof: whatever writes to a terminal can write marks and
/// prompts too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommandSource {
    /// The shell marked it by OSC 133.
    Osc133,
    /// The shell marked it by OSC 633.
    Osc633,
    /// By what a prompt looks like: the cursor rested on a row behind `$`, `#`, `%` or `>` and a
    /// space, with nothing behind it, or the row begins with such a text that was seen before.
    /// Then it left the row downwards. So are answers to questions of programs, and lines that
    /// were left to show completions.
    Prompt,
}

/// What a transcript tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Text that was on the screen.
    Seen(Seen),
    /// A command.
    Command(Command),
}

/// Watches a screen and tells what could be read on it.
///
/// Beside the screen it takes 64 bytes of memory for each cell at most, 8 MB. What it tells of a
/// piece of output can be as long as a row for every 4 bytes of it.
#[derive(Debug)]
pub struct Transcript {
    screen: Screen,
    tracker: Tracker,
}

impl Transcript {
    /// Begins with a blank screen, whose size is taken as [`Screen::new`] does.
    #[must_use]
    pub fn new(columns: u32, rows: u32) -> Self {
        let screen = Screen::new(columns, rows);
        let tracker = Tracker::new(screen.terminal());
        Self { screen, tracker }
    }

    /// The screen as it is now.
    #[must_use]
    pub const fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Shows output that came at a time, in nanoseconds since the session began; gives what became
    /// certain by it, which is not in the order of time. A time before the last one counts as that.
    pub fn feed(&mut self, t_ns: u64, bytes: &[u8]) -> Vec<Entry> {
        self.tracker.advance(self.screen.terminal(), t_ns);
        self.screen.feed_with(bytes, &mut self.tracker);
        self.tracker.take()
    }

    /// Changes the size as [`Screen::resize`] does.
    pub fn resize(&mut self, t_ns: u64, columns: u32, rows: u32) -> Vec<Entry> {
        self.tracker.advance(self.screen.terminal(), t_ns);
        self.tracker.before_resize(self.screen.terminal());
        self.screen.resize(columns, rows);
        self.tracker.after_resize(self.screen.terminal());
        self.tracker.take()
    }

    /// Ends: gives the rest, with all that is on the screen.
    #[must_use]
    pub fn finish(mut self, t_ns: u64) -> Vec<Entry> {
        self.tracker.advance(self.screen.terminal(), t_ns);
        self.tracker.finish(self.screen.terminal());
        self.tracker.take()
    }
}

#[cfg(test)]
impl Transcript {
    /// Panics unless rows are what the terminal shows, but for those known to have changed.
    pub(crate) fn assert_follows(&self) {
        self.tracker.assert_follows(self.screen.terminal());
    }
}
