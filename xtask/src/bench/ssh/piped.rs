//! `ssh` with the benchmark itself at its standard input and output.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::stage::Stage;
use super::subject::Subject;

/// For logging in and for the first byte to come back; then a run that hangs is ended.
const ECHO_LIMIT: Duration = Duration::from_secs(60);

/// For more to come of what was sent; a busy machine takes no tenth of it.
const SILENCE_LIMIT: Duration = Duration::from_secs(10);

/// A running script; killed and reaped when dropped.
pub(super) struct Piped {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
}

impl Piped {
    /// Starts a script as [`Stage::script`] makes it.
    pub(super) fn start(stage: &Stage<'_>, subject: Subject, script: &str) -> Result<Self> {
        let mut child = stage.script(subject, script)?.start_piped()?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self { child, input, output })
    }

    /// Sends a byte and waits for it to come back the first time; fails where that takes long.
    pub(super) fn echo(&mut self) -> Result<()> {
        let mut output = self.output.take().context("the output is in use")?;
        self.input.as_mut().context("the input is in use")?.write_all(b"x")?;
        let (came, awaited) = mpsc::sync_channel(1);
        // Ends with the program.
        let reader = thread::spawn(move || {
            let read = output.read_exact(&mut [0]);
            // Whoever waited may have given up.
            let _nobody_waits = came.send(());
            read.map(|()| output)
        });
        if awaited.recv_timeout(ECHO_LIMIT).is_err() {
            bail!("no byte came back within {} s", ECHO_LIMIT.as_secs());
        }
        let Ok(read) = reader.join() else { bail!("the reader panicked") };
        self.output = Some(read.context("nothing came back")?);
        Ok(())
    }

    /// The two ends, to be used by two threads.
    pub(super) fn take_ends(&mut self) -> Result<(ChildStdin, ChildStdout)> {
        let ends = self.input.take().zip(self.output.take());
        ends.context("the ends are in use")
    }

    /// Sends a byte and reads it back; [`Self::echo`] has succeeded.
    pub(super) fn round_trip(&mut self) -> Result<()> {
        let (Some(input), Some(output)) = (&mut self.input, &mut self.output) else {
            bail!("the ends are in use");
        };
        input.write_all(b"x")?;
        await_bytes(output)?;
        Ok(output.read_exact(&mut [0])?)
    }
}

/// Waits until there is something to read; fails where nothing comes, as with a peer that loses
/// data.
pub(super) fn await_bytes(output: &ChildStdout) -> Result<()> {
    let mut polled = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(SILENCE_LIMIT)?;
    let ready = poll(&mut polled, timeout).context("cannot wait for output")?;
    ensure!(ready > 0, "nothing came back for {} s", SILENCE_LIMIT.as_secs());
    Ok(())
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
