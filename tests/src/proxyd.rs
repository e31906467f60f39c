//! The daemon: the real binary with a configuration of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::process::{Finished, Process};
use crate::wait::{wait_for, wait_until};
use crate::world::{BRIDGE, CLIENT_INTERFACE, Mode, SERVER_INTERFACE, World};

/// How long the daemon may take to serve: it verifies and loads eBPF programs.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a stop may take; sessions that run are ended after a second.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// How long a command line may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(20);

/// Names the binary to be run.
const BINARY_VARIABLE: &str = "PROXYD_BIN";

/// What a test's configuration says beyond where things are.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings<'s> {
    /// Lines of `[steering]`.
    pub steering: &'s str,
    /// Lines of `[limits]`.
    pub limits: &'s str,
    /// Lines of `[storage]`; the database is a file unless they name one.
    pub storage: &'s str,
    /// The policies: all other sections.
    pub policies: &'s str,
}

/// The daemon of one world; killed when dropped.
#[derive(Debug)]
pub struct Proxyd<'w> {
    world: &'w World,
    binary: PathBuf,
    directory: PathBuf,
    process: Option<Process>,
    environment: Vec<(&'static str, PathBuf)>,
}

impl<'w> Proxyd<'w> {
    /// Writes its configuration, does not start it.
    pub fn new(world: &'w World, settings: Settings<'_>) -> anyhow::Result<Self> {
        let directory = world.subdirectory("proxyd")?;
        let environment = Vec::new();
        let proxyd = Self { world, binary: binary()?, directory, process: None, environment };
        proxyd.configure(settings)?;
        Ok(proxyd)
    }

    /// Writes its configuration, and starts it.
    pub fn start(world: &'w World, settings: Settings<'_>) -> anyhow::Result<Self> {
        let mut proxyd = Self::new(world, settings)?;
        proxyd.launch()?;
        Ok(proxyd)
    }

    /// Sets an environment variable of every daemon that is started from now on.
    pub fn set_env(&mut self, name: &'static str, value: &Path) {
        self.environment.push((name, value.to_owned()));
    }

    /// Writes another configuration, for the next start or reload.
    pub fn configure(&self, settings: Settings<'_>) -> anyhow::Result<()> {
        let text = configuration(self.world, &self.directory, settings);
        fs::write(self.config(), text).context("cannot write the configuration")
    }

    /// Starts it and waits until it serves.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        let mut process = self.spawn("")?;
        await_ready(&mut process)?;
        self.process = Some(process);
        Ok(())
    }

    /// Starts another daemon that takes over from this one, and waits until it serves; gives the
    /// one before, which still has its sessions.
    pub fn take_over(&mut self) -> anyhow::Result<Process> {
        let mut new = self.spawn("--take-over")?;
        await_ready(&mut new)?;
        self.process.replace(new).context("proxyd is not running")
    }

    /// Starts another daemon with this option; does not wait for it.
    pub fn spawn(&self, option: &str) -> anyhow::Result<Process> {
        let mut command = self.world.gateway.command(&self.binary);
        command.args(["run", "--log", "info,proxyd=debug"]).args(option.split_whitespace());
        command.arg("--config").arg(self.config()).env("RUST_BACKTRACE", "1");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Process::start(&mut command, "proxyd", &self.directory)
    }

    /// Its configuration file.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.directory.join("proxyd.toml")
    }

    /// Its database.
    #[must_use]
    pub fn database(&self) -> PathBuf {
        self.directory.join("proxyd.db")
    }

    /// A finished trail, by its file name.
    #[must_use]
    pub fn trail(&self, name: &str) -> PathBuf {
        self.directory.join("trails").join(name)
    }

    /// A trail that is still being written, by its file name.
    #[must_use]
    pub fn spooled(&self, name: &str) -> PathBuf {
        self.directory.join("spool").join(name)
    }

    /// Its control socket.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.directory.join("control.sock")
    }

    /// A directory for files that belong to it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// What it has logged since its last start; empty where it does not run.
    pub fn log(&self) -> anyhow::Result<String> {
        self.process.as_ref().map_or_else(|| Ok(String::new()), Process::stderr)
    }

    /// The process.
    pub fn process(&mut self) -> anyhow::Result<&mut Process> {
        self.process.as_mut().context("proxyd is not running")
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        self.process.as_ref().context("proxyd is not running")?.signal(signal)
    }

    /// Asks it to stop and waits for its end, which has to be a success.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("proxyd is not running")?;
        process.signal(Signal::SIGTERM)?;
        let status = wait_for("proxyd to stop", STOP_LIMIT, || process.status())
            .with_context(|| process.stderr().unwrap_or_default())?;
        if !status.success() {
            bail!("proxyd stopped with {status}: {}", process.stderr()?);
        }
        Ok(())
    }

    /// Kills it, as a crash would.
    pub fn kill(&mut self) -> anyhow::Result<()> {
        self.process.take().context("proxyd is not running")?.kill()
    }

    /// Runs `proxyd` with these words and then these paths, in the gateway's namespace.
    pub fn command(&self, words: &str, paths: &[&Path]) -> anyhow::Result<Finished> {
        self.start_command(words, paths)?.finish(COMMAND_LIMIT)
    }

    /// Starts `proxyd` so.
    pub fn start_command(&self, words: &str, paths: &[&Path]) -> anyhow::Result<Process> {
        let mut command = self.world.gateway.command(&self.binary);
        command.args(words.split_whitespace()).args(paths);
        Process::start(&mut command, "command", &self.directory)
    }

    /// The live sessions, as `proxyd ctl sessions --json` lists them.
    pub fn live_sessions(&self) -> anyhow::Result<Vec<Value>> {
        let config = self.config();
        let listed = self.command("ctl sessions --json --config", &[&config])?.ok()?;
        serde_json::from_slice(&listed.stdout).context("the list of sessions is not JSON")
    }

    /// Reads its configuration file again; gives how `proxyd ctl reload` ended.
    pub fn reload(&self) -> anyhow::Result<Finished> {
        let config = self.config();
        self.command("ctl reload --config", &[&config])
    }

    /// Ends a live session.
    pub fn terminate(&self, id: &str) -> anyhow::Result<()> {
        let config = self.config();
        self.command(&format!("ctl terminate {id} --config"), &[&config])?.ok().map(drop)
    }

    /// The key by which its trails are verified.
    pub fn public_key(&self) -> anyhow::Result<String> {
        let config = self.config();
        let printed = self.command("trail public-key --config", &[&config])?.ok()?;
        Ok(printed.text().trim().to_owned())
    }
}

impl Drop for Proxyd<'_> {
    fn drop(&mut self) {
        if let Some(process) = &self.process {
            process.tell_if_failing();
        }
    }
}

/// Waits until a daemon serves.
fn await_ready(process: &mut Process) -> anyhow::Result<()> {
    let mut ended = false;
    wait_until("proxyd to be ready", START_LIMIT, || {
        ended = process.status().is_ok_and(|status| status.is_some());
        ended || process.stderr().is_ok_and(|log| log.contains("Ready"))
    })
    .with_context(|| process.stderr().unwrap_or_default())?;
    if ended {
        bail!("proxyd ended at once: {}", process.stderr()?);
    }
    Ok(())
}

/// Makes an identity of an auditor: the file that holds it, and its recipient.
pub fn make_identity(world: &World, name: &str) -> anyhow::Result<(PathBuf, String)> {
    let directory = world.subdirectory("auditors")?;
    let mut command = world.gateway.command(binary()?);
    command.args(["trail", "keygen"]);
    let made = Process::start(&mut command, "keygen", &directory)?.finish(COMMAND_LIMIT)?.ok()?;
    let text = made.text();
    let recipient = text.lines().find_map(|line| line.strip_prefix("# recipient: "));
    let recipient = recipient.with_context(|| format!("no recipient in {text:?}"))?.to_owned();
    let path = directory.join(name);
    fs::write(&path, text)?;
    Ok((path, recipient))
}

/// The binary: named by the environment, or beside the running program's directory.
fn binary() -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(BINARY_VARIABLE) {
        return Ok(PathBuf::from(path));
    }
    let own = std::env::current_exe().context("this program has no path")?;
    let built = own.ancestors().skip(1).take(2).map(|directory| directory.join("proxyd"));
    built.into_iter().find(|path| path.is_file()).with_context(|| {
        format!(
            "no proxyd beside {}: build it with `cargo build --package proxyd`, or name it in \
             {BINARY_VARIABLE}",
            own.display()
        )
    })
}

/// The whole configuration file.
fn configuration(world: &World, directory: &Path, settings: Settings<'_>) -> String {
    let mode = match world.mode() {
        Mode::Router => format!(
            "mode = \"router\"\n\
             client_interfaces = [\"{CLIENT_INTERFACE}\"]\n\
             server_interfaces = [\"{SERVER_INTERFACE}\"]\n"
        ),
        Mode::Bridge => format!("mode = \"bridge\"\nbridge = \"{BRIDGE}\"\n"),
    };
    let (pins, at) = (world.pin_directory(), directory.display());
    let Settings { steering, limits, storage, policies } = settings;
    let database = if storage.contains("database = ") {
        String::new()
    } else {
        format!("database = \"sqlite://{at}/proxyd.db\"\n")
    };
    format!(
        "[steering]\n{mode}pin_directory = \"{}\"\n{steering}\n\n\
         [limits]\ndrain_timeout_s = 1\n{limits}\n\n\
         [storage]\n{database}{storage}\n\
         trails = \"file://{at}/trails\"\n\
         spool = \"{at}/spool\"\n\
         control_socket = \"{at}/control.sock\"\n\
         signing_key_file = \"{at}/signing.key\"\n\n\
         {policies}\n",
        pins.display()
    )
}
