//! OpenSSH's server, with users, host keys and a log of its own.
//!
//! Its accounts exist only in its own view of the file system: the machine's are not touched.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;

use crate::peer::accounts;
use crate::process::{Process, output};
use crate::wait::{wait_for, wait_until};
use crate::world::World;

/// The port that the tests' connection policies name.
pub const PORT: u16 = 22;

/// A second port of the same server that no policy names.
pub const UNMATCHED_PORT: u16 = 2222;

/// The password of every user on the server.
pub const PASSWORD: &str = "Server-pass-1";

/// The end of the question for it, whether the server or the client itself words it.
pub const ASKS: &str = "assword:";

/// Users of the server; `alice` is a gateway user of the tests too.
pub const USERS: [&str; 3] = ["alice", "bob", "app1"];

/// A user whose password, [`PASSWORD`], has to be changed before anything else.
pub const EXPIRED_USER: &str = "carol";

/// How long the server may take to listen, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long what it logs may take to be in its file.
const LOG_LIMIT: Duration = Duration::from_secs(5);

/// A running server; it listens on all addresses of the server's namespace.
#[derive(Debug)]
pub struct Sshd<'w> {
    world: &'w World,
    directory: PathBuf,
    process: Process,
}

impl<'w> Sshd<'w> {
    /// Starts it, with a new host key.
    pub fn start(world: &'w World) -> anyhow::Result<Self> {
        Self::start_with(world, "")
    }

    /// Starts it, with more lines in its configuration.
    pub fn start_with(world: &'w World, settings: &str) -> anyhow::Result<Self> {
        Self::start_among(world, settings, &[])
    }

    /// Starts it, with more lines in its configuration and copies of these files in its `/etc`.
    pub fn start_among(
        world: &'w World,
        settings: &str,
        files: &[(&str, &Path)],
    ) -> anyhow::Result<Self> {
        let directory = world.subdirectory("sshd")?;
        accounts::make(&directory)?;
        for (name, from) in files {
            fs::copy(from, directory.join("etc").join(name))?;
        }
        make_host_key(&directory)?;
        fs::write(directory.join("sshd_config"), configuration(&directory, settings))?;
        let process = launch(world, &directory)?;
        Ok(Self { world, directory, process })
    }

    /// Stops it and starts it again with another host key.
    pub fn change_host_key(&mut self) -> anyhow::Result<()> {
        self.stop()?;
        make_host_key(&self.directory)?;
        self.process = launch(self.world, &self.directory)?;
        Ok(())
    }

    /// Stops listening; sessions go on.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.process.signal(Signal::SIGTERM)?;
        wait_for("the end of sshd", START_LIMIT, || self.process.status()).map(drop)
    }

    /// Lets `user` log in with this public key, a line of an `authorized_keys` file.
    pub fn authorize(&self, user: &str, public_key: &str) -> anyhow::Result<()> {
        let path = self.directory.join("keys").join(user);
        let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
        writeln!(file, "{}", public_key.trim())
            .with_context(|| format!("cannot write {}", path.display()))
    }

    /// The home directory of a user.
    #[must_use]
    pub fn home(&self, user: &str) -> PathBuf {
        self.directory.join("home").join(user)
    }

    /// Its host key's public half, a line of `known_hosts` without the host.
    pub fn host_key(&self) -> anyhow::Result<String> {
        let line = fs::read_to_string(self.directory.join("host_key.pub"))?;
        Ok(line.trim().to_owned())
    }

    /// What it has logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        self.process.stderr()
    }

    /// Waits until a line of its log holds all of `parts`, and gives the last such line.
    pub fn logged(&self, parts: &[&str]) -> anyhow::Result<String> {
        let what = format!("{parts:?} in the log of sshd");
        let found = wait_for(&what, LOG_LIMIT, || {
            let log = self.log()?;
            let has_all = |line: &&str| parts.iter().all(|part| line.contains(part));
            Ok(log.lines().rev().find(has_all).map(str::to_owned))
        });
        found.with_context(|| self.log().unwrap_or_default())
    }
}

impl Drop for Sshd<'_> {
    fn drop(&mut self) {
        self.process.tell_if_failing();
    }
}

fn launch(world: &World, directory: &Path) -> anyhow::Result<Process> {
    let mut command = accounts::command(world, directory, "/usr/sbin/sshd");
    command.args(["-D", "-e", "-f"]).arg(directory.join("sshd_config"));
    let mut process = Process::start(&mut command, "sshd", directory)?;
    let listening = format!("Server listening on :: port {UNMATCHED_PORT}");
    let mut ended = false;
    wait_until("sshd to listen", START_LIMIT, || {
        ended = process.status().is_ok_and(|status| status.is_some());
        ended || process.stderr().is_ok_and(|log| log.contains(&listening))
    })?;
    if ended {
        bail!("sshd ended at once: {}", process.stderr()?);
    }
    Ok(process)
}

fn configuration(directory: &Path, settings: &str) -> String {
    let directory = directory.display();
    format!(
        "Port {PORT}\n\
         Port {UNMATCHED_PORT}\n\
         ListenAddress 0.0.0.0\n\
         ListenAddress ::\n\
         HostKey {directory}/host_key\n\
         PidFile none\n\
         AuthorizedKeysFile {directory}/keys/%u\n\
         StrictModes no\n\
         LogLevel VERBOSE\n\
         UsePAM yes\n\
         PermitRootLogin no\n\
         PasswordAuthentication yes\n\
         KbdInteractiveAuthentication yes\n\
         PubkeyAuthentication yes\n\
         PrintMotd no\n\
         PrintLastLog no\n\
         UseDNS no\n\
         AcceptEnv LANG LC_* PX_*\n\
         MaxStartups 300:30:600\n\
         MaxSessions 100\n\
         Subsystem sftp internal-sftp\n\
         {settings}\n"
    )
}

fn make_host_key(directory: &Path) -> anyhow::Result<()> {
    let path = directory.join("host_key");
    for old in [path.clone(), directory.join("host_key.pub")] {
        if old.exists() {
            fs::remove_file(old)?;
        }
    }
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path);
    output(&mut keygen).map(drop)
}
