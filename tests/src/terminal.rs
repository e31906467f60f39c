//! A program in a terminal: typed at, waited for, resized.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::Context as _;
use nix::pty::{Winsize, openpty};

use crate::process::{Process, output};
use crate::wait::wait_for;

/// The size of a terminal, in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

/// A terminal with a program in it.
#[derive(Debug)]
pub struct Terminal {
    process: Process,
    typing: File,
    device: PathBuf,
    /// Keeps the terminal's end of the program, so that its last output stays readable.
    _program_end: OwnedFd,
    shown: Arc<Mutex<Vec<u8>>>,
    seen: usize,
}

impl Terminal {
    /// Starts `command` with a new terminal as its standard input, output and error.
    ///
    /// The command has to make the terminal its controlling one, as `setsid --ctty` does: only
    /// then do key strokes and size changes become signals.
    pub fn start(command: &mut Command, name: &str, size: Size) -> anyhow::Result<Self> {
        let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(&size, None).context("cannot open a pseudo-terminal")?;
        let device = nix::unistd::ttyname(&pty.slave).context("the terminal has no name")?;
        let end = || pty.slave.try_clone().map(Stdio::from);
        command.stdin(end()?).stdout(end()?).stderr(end()?);
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let process = Process::adopt(child, name);
        let typing = File::from(pty.master);
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (mut screen, kept) = (typing.try_clone()?, Arc::clone(&shown));
        // Ends when the terminal is closed: by then the program is gone.
        drop(thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(bytes @ 1..) = screen.read(&mut buffer) {
                let shown = buffer.get(..bytes).unwrap_or_default();
                kept.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(shown);
            }
        }));
        Ok(Self { process, typing, device, _program_end: pty.slave, shown, seen: 0 })
    }

    /// Types `text`; a line ends with `\r`, as on a keyboard.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.typing.write_all(text.as_bytes()).context("cannot type into the terminal")
    }

    /// Waits until the program shows `text`, and gives what it showed up to there; what came
    /// before an earlier `expect` is not looked at again.
    pub fn expect(&mut self, text: &str, limit: Duration) -> anyhow::Result<String> {
        let from = self.seen;
        let found = wait_for(&format!("{text:?} in the terminal"), limit, || {
            let shown = self.screen();
            Ok(shown.get(from..).and_then(|new| {
                let at = new.windows(text.len()).position(|window| window == text.as_bytes())?;
                Some(from + at + text.len())
            }))
        });
        let shown = self.screen();
        let new =
            |to| String::from_utf8_lossy(shown.get(from..to).unwrap_or_default()).into_owned();
        match found {
            Ok(to) => {
                self.seen = to;
                Ok(new(to))
            }
            Err(error) => Err(error.context(format!("the terminal shows {:?}", new(shown.len())))),
        }
    }

    /// Everything the program has shown.
    #[must_use]
    pub fn screen(&self) -> Vec<u8> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes the size; the program is told by SIGWINCH.
    pub fn resize(&self, size: Size) -> anyhow::Result<()> {
        let (rows, columns) = (size.rows.to_string(), size.columns.to_string());
        let mut stty = Command::new("stty");
        stty.arg("-F").arg(&self.device).args(["rows", &rows, "columns", &columns]);
        output(&mut stty).map(drop)
    }

    /// Waits for the program's end.
    pub fn finish(&mut self, limit: Duration) -> anyhow::Result<ExitStatus> {
        let ended =
            wait_for("the end of the program in the terminal", limit, || self.process.status());
        ended.with_context(|| {
            format!("the terminal shows {:?}", String::from_utf8_lossy(&self.screen()))
        })
    }

    /// The program.
    pub const fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}
