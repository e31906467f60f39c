//! Child processes: output kept in files, an end within a limit, killed and reaped when dropped.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait::{Stopwatch, wait_for};

/// Lines of a log that a failing test shows.
const LINES_TOLD: usize = 60;

/// A running child process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
    clock: Stopwatch,
    stdout: PathBuf,
    stderr: PathBuf,
}

/// A child process that has ended.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to standard output.
    pub stdout: Vec<u8>,
    /// What it wrote to standard error.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Process {
    /// Starts `command`; its output goes to files in `directory` that begin with `name`.
    pub fn start(command: &mut Command, name: &str, directory: &Path) -> anyhow::Result<Self> {
        let (stdout, out) = new_file(directory, name, "out")?;
        let (stderr, err) = new_file(directory, name, "err")?;
        command.stdout(out).stderr(err);
        let clock = Stopwatch::start();
        let child = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, name: name.to_owned(), clock, stdout, stderr })
    }

    /// Takes over a child that was started elsewhere and whose output goes elsewhere.
    pub(crate) fn adopt(child: Child, name: &str) -> Self {
        let (stdout, stderr) = (PathBuf::from("/dev/null"), PathBuf::from("/dev/null"));
        Self { child, name: name.to_owned(), clock: Stopwatch::start(), stdout, stderr }
    }

    /// Its process id.
    pub fn pid(&self) -> anyhow::Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id())?))
    }

    /// What it has written to standard output so far.
    pub fn stdout(&self) -> anyhow::Result<Vec<u8>> {
        fs::read(&self.stdout).with_context(|| format!("cannot read {}", self.stdout.display()))
    }

    /// What it has written to standard error so far.
    pub fn stderr(&self) -> anyhow::Result<String> {
        let bytes = fs::read(&self.stderr)
            .with_context(|| format!("cannot read {}", self.stderr.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// How it ended, if it has.
    pub fn status(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot wait for {}", self.name))
    }

    /// Waits for its end; a process that takes longer than `limit` is killed, and that is an error.
    pub fn finish(mut self, limit: Duration) -> anyhow::Result<Finished> {
        let what = format!("the end of {}", self.name);
        let status = wait_for(&what, limit, || self.status());
        let status = match status {
            Ok(status) => status,
            Err(error) => bail!("{error:#}; it said: {}", self.stderr()?),
        };
        let (stdout, stderr) = (self.stdout()?, self.stderr()?);
        Ok(Finished { status, stdout, stderr, took: self.clock.elapsed() })
    }

    /// Writes the end of what it has logged to our standard error, if a test is failing.
    pub(crate) fn tell_if_failing(&self) {
        if !thread::panicking() {
            return;
        }
        let log = self.stderr().unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let last = lines.get(lines.len().saturating_sub(LINES_TOLD)..).unwrap_or_default();
        let text = format!("--- {} said last:\n{}\n", self.name, last.join("\n"));
        // Nobody is left to tell when standard error is closed.
        drop(io::stderr().write_all(text.as_bytes()));
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        signal::kill(self.pid()?, signal)
            .with_context(|| format!("cannot send {signal} to {}", self.name))
    }

    /// Kills and reaps it.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().with_context(|| format!("cannot kill {}", self.name))?;
        self.child.wait().with_context(|| format!("cannot reap {}", self.name))?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended and been reaped; there is nobody to tell of any other failure.
        drop(self.kill());
    }
}

impl Finished {
    /// Its exit code; 128 and the signal's number where a signal ended it, as shells say it.
    #[must_use]
    pub fn code(&self) -> i32 {
        let by_signal = || self.status.signal().map_or(-1, |signal| 128 + signal);
        self.status.code().unwrap_or_else(by_signal)
    }

    /// Standard output as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// Itself if it succeeded; an error with its output otherwise.
    pub fn ok(self) -> anyhow::Result<Self> {
        if self.status.success() {
            return Ok(self);
        }
        bail!("exit code {}: {}{}", self.code(), self.text(), self.stderr)
    }
}

/// Runs `command` to its end and gives its standard output; fails where it does.
pub fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?} failed ({}): {said}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A new file that begins with `name`; tests start programs at the same time.
fn new_file(directory: &Path, name: &str, ending: &str) -> anyhow::Result<(PathBuf, File)> {
    for number in 0_u32.. {
        let path = directory.join(format!("{name}-{number}.{ending}"));
        match File::create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => {
                let file = made.with_context(|| format!("cannot make {}", path.display()))?;
                return Ok((path, file));
            }
        }
    }
    bail!("no name is left for the output of {name}")
}
