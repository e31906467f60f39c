//! The daemon with a table of a given size, in a lab's gateway.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::process::{Finished, Process};
use e2e::wait::{Stopwatch, wait_until};
use e2e::world::Family;

use super::frames::{PORT, Range, Side, range, ranges};
use super::topology::{
    CLIENT_INTERFACE, CLIENT_V4, Lab, ROUTE_MARK, ROUTE_TABLE, SERVER_INTERFACE, SERVER_V4, Scratch,
};
use crate::bench::BINARY_VARIABLE;

/// How long the daemon may take to read and compile the largest table and to serve.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long a command of it may take.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Different ranges of clients in a table of many policies.
const CLIENT_RANGES: u32 = 64;

/// The subcommand of `proxyd ctl` by which the daemon reads its configuration again.
pub(super) const RELOAD: &str = "reload";

/// What the daemon's connection policies are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    /// One policy that names this many ranges of one IP version: half of them of clients, half of
    /// servers.
    Ranges(Family, u32),
    /// This many policies of one range of clients and one of servers each, in both IP versions.
    Policies(u32),
    /// A policy from the client to the server of the lab, and this many others after it.
    Server(u32),
}

impl Table {
    /// How it is called in the report.
    pub(super) fn name(self) -> String {
        match self {
            Self::Ranges(Family::V4, count) => format!("{count} ranges"),
            Self::Ranges(Family::V6, count) => format!("{count} IPv6 ranges"),
            Self::Policies(count) => format!("{count} policies"),
            Self::Server(_) => "the server".to_owned(),
        }
    }

    /// The clients and servers of policy `index` of many.
    pub(super) fn policy(family: Family, index: u32) -> (Range, Range) {
        let clients = range(family, Side::Client, index % CLIENT_RANGES);
        (clients, range(family, Side::Server, index))
    }

    fn policies(self) -> String {
        let mut text = String::new();
        match self {
            Self::Ranges(family, count) => {
                let all = |side| list(ranges(family, side, count / 2));
                write_policy(&mut text, 0, &all(Side::Client), &all(Side::Server));
            }
            Self::Policies(count) => {
                for index in 0..count {
                    let pairs = Family::ALL.map(|family| Self::policy(family, index));
                    let clients = list(pairs.map(|(clients, _servers)| clients));
                    let servers = list(pairs.map(|(_clients, servers)| servers));
                    write_policy(&mut text, index, &clients, &servers);
                }
            }
            Self::Server(others) => {
                write_policy(&mut text, 0, &list([CLIENT_V4]), &list([SERVER_V4]));
                for index in 1..=others {
                    let (clients, servers) = Self::policy(Family::V4, index);
                    write_policy(&mut text, index, &list([clients]), &list([servers]));
                }
            }
        }
        text
    }
}

fn list<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    let quoted: Vec<_> = items.into_iter().map(|item| format!("\"{item}\"")).collect();
    quoted.join(", ")
}

fn write_policy(text: &mut String, index: u32, from: &str, to: &str) {
    // Writing to a string cannot fail.
    let _infallible = write!(
        text,
        "[[connection_policy]]\nname = \"policy-{index}\"\nprotocol = \"ssh\"\n\
         from = [{from}]\nto = [{to}]\nports = [\"{PORT}\"]\n\
         authentication = \"open\"\nchannels = \"all\"\non_proxy_down = \"forward\"\n\n"
    );
}

/// What all tables share: authentication and channels, which no packet ever gets to.
const COMMON: &str = r#"
[[authentication_policy]]
name = "open"
gateway = "none"

[[channel_policy]]
name = "all"
rule = [{ type = "session-shell", record = false }]

"#;

/// A daemon that was started or is about to be.
#[derive(Debug)]
pub(super) struct Gateway<'l> {
    lab: &'l Lab,
    directory: PathBuf,
    pins: PathBuf,
    process: Option<Process>,
    /// Those that others took over from.
    replaced: Vec<Process>,
}

impl<'l> Gateway<'l> {
    /// One with its files in the directory `name` of `scratch`, and this line in its section
    /// `[steering]`.
    pub(super) fn new(
        lab: &'l Lab,
        scratch: &Scratch,
        name: &str,
        table: Table,
        steering: &str,
    ) -> Result<Self> {
        let directory = scratch.path().join(name);
        fs::create_dir(&directory)?;
        let pins = scratch.bpf().join(name);
        let gateway = Self { lab, directory, pins, process: None, replaced: Vec::new() };
        gateway.configure(table, steering)?;
        Ok(gateway)
    }

    /// Writes its configuration anew.
    pub(super) fn configure(&self, table: Table, steering: &str) -> Result<()> {
        let (at, pins) = (self.directory.display(), self.pins.display());
        let text = format!(
            "[steering]\nclient_interfaces = [\"{CLIENT_INTERFACE}\"]\n\
             server_interfaces = [\"{SERVER_INTERFACE}\"]\npin_directory = \"{pins}\"\n\
             mark = {ROUTE_MARK}\ntable = {ROUTE_TABLE}\n{steering}\n\n\
             [limits]\nsessions_per_client = 1000000\nhandshakes = 1000000\n\n\
             [storage]\ndatabase = \"sqlite://{at}/proxyd.db\"\ntrails = \"file://{at}/trails\"\n\
             spool = \"{at}/spool\"\ncontrol_socket = \"{at}/control.sock\"\n\
             signing_key_file = \"{at}/signing.key\"\n{COMMON}{}",
            table.policies()
        );
        fs::write(self.config(), text).context("cannot write the configuration")
    }

    /// Why the daemon refuses its configuration; none where it does not.
    pub(super) fn refusal(&self) -> Result<Option<String>> {
        let config = self.config();
        let checked = self.command(&["check".as_ref(), config.as_os_str()])?;
        if checked.status.success() {
            return Ok(None);
        }
        let error = checked.stderr.lines().find(|line| line.starts_with("error"));
        let why = error.unwrap_or("no reason given");
        Ok(Some(why.trim_start_matches("error: ").to_owned()))
    }

    /// Starts it; gives the time until it serves.
    pub(super) fn start(&mut self) -> Result<Duration> {
        let (process, took) = self.launch(&[])?;
        self.process = Some(process);
        Ok(took)
    }

    /// Starts another one with an option by which it replaces the one that runs. That one is left
    /// to end by itself.
    pub(super) fn replace(&mut self, option: &str) -> Result<()> {
        let (process, _took) = self.launch(&[option])?;
        self.replaced.extend(self.process.replace(process));
        Ok(())
    }

    fn launch(&self, arguments: &[&str]) -> Result<(Process, Duration)> {
        let clock = Stopwatch::start();
        let mut command = self.lab.gateway.command(binary()?);
        command.args(["run", "--config"]).arg(self.config()).args(arguments);
        let mut process = Process::start(&mut command, "proxyd", &self.directory)?;
        let mut ended = false;
        wait_until("proxyd to be ready", START_LIMIT, || {
            ended = process.status().is_ok_and(|status| status.is_some());
            ended || process.stderr().is_ok_and(|log| log.contains("Ready"))
        })?;
        if ended {
            bail!("proxyd ended at once: {}", process.stderr()?);
        }
        Ok((process, clock.elapsed()))
    }

    /// Kills it. Its programs stay and steer on, as for a proxy that is down.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.process()?.kill()?;
        self.process = None;
        Ok(())
    }

    /// The process that runs.
    pub(super) fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("proxyd is not running")
    }

    /// A pinned map.
    pub(super) fn map(&self, name: &str) -> Result<PathBuf> {
        let layouts = fs::read_dir(&self.pins)?.flatten();
        let mut maps = layouts.map(|layout| layout.path().join("maps").join(name));
        maps.find(|path| path.exists()).with_context(|| format!("no map {name} is pinned"))
    }

    /// Whether the help of one of its commands names this option or subcommand.
    pub(super) fn knows(&self, command: &str, name: &str) -> Result<bool> {
        let help = self.command(&[command.as_ref(), "--help".as_ref()])?;
        ensure!(help.status.success(), "proxyd {command} --help fails: {}", help.stderr);
        Ok(help.text().split_whitespace().any(|word| word == name))
    }

    /// Lets it read its configuration again; gives when the new one is in force.
    pub(super) fn reload(&self) -> Result<()> {
        let config = self.config();
        let words = ["ctl", RELOAD, "--config"].map(AsRef::as_ref);
        self.command(&[&words, [config.as_os_str()].as_slice()].concat())?.ok().map(drop)
    }

    fn config(&self) -> PathBuf {
        self.directory.join("proxyd.toml")
    }

    fn command(&self, arguments: &[&std::ffi::OsStr]) -> Result<Finished> {
        let mut command = self.lab.gateway.command(binary()?);
        command.args(arguments);
        Process::start(&mut command, "command", &self.directory)?.finish(COMMAND_LIMIT)
    }
}

impl Drop for Gateway<'_> {
    fn drop(&mut self) {
        // The pins hold the programs and their tables. There is nobody to tell of a failure.
        let _gone = fs::remove_dir_all(&self.pins);
    }
}

fn binary() -> Result<PathBuf> {
    let path = env::var_os(BINARY_VARIABLE).map(PathBuf::from);
    path.with_context(|| format!("{BINARY_VARIABLE} names no daemon"))
}
