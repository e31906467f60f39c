//! A `PostgreSQL` server of Debian, with a cluster of its own, reached by a Unix socket.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use nix::sys::signal::Signal;
use nix::unistd::User;
use tempfile::TempDir;

use crate::process::{Process, output};
use crate::wait::{wait_for, wait_until};

/// Where Debian puts the programs of each version.
const VERSIONS: &str = "/usr/lib/postgresql";

/// Who the server runs as: it does not run as root.
const SYSTEM_USER: &str = "postgres";

/// The password of the database user.
pub const PASSWORD: &str = "Data:base/pass 1%";

/// How long the server may take to start or to stop.
const LIMIT: Duration = Duration::from_secs(30);

/// A server that runs, with the database `proxyd` of the user `proxyd`.
#[derive(Debug)]
pub struct Postgres {
    programs: PathBuf,
    directory: TempDir,
    process: Option<Process>,
}

impl Postgres {
    /// Makes a cluster and starts its server.
    pub fn start() -> anyhow::Result<Self> {
        let programs = programs()?;
        let directory = tempfile::Builder::new().prefix("pxpg").tempdir_in("/tmp")?;
        let owner = User::from_name(SYSTEM_USER)?.context("there is no user postgres")?;
        let (uid, gid) = (owner.uid.as_raw(), owner.gid.as_raw());
        chown(directory.path(), Some(uid), Some(gid))?;
        let password = directory.path().join("password");
        fs::write(&password, PASSWORD)?;
        fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
        let mut server = Self { programs, directory, process: None };
        // The server reads it as another user; proxyd wants it for nobody else.
        let made = server.directory.path().join("made-with");
        fs::copy(&password, &made)?;
        chown(&made, Some(uid), Some(gid))?;
        let mut make = server.program("initdb");
        make.args(["--auth=scram-sha-256", "--username=proxyd", "--encoding=UTF8"]);
        make.args(["--locale=C.UTF-8", "--no-sync", "--pwfile"]).arg(&made);
        make.arg("--pgdata").arg(server.data());
        output(&mut make)?;
        server.resume()?;
        let mut create = server.client("createdb");
        output(create.arg("proxyd"))?;
        Ok(server)
    }

    /// The database's URL, without its password.
    #[must_use]
    pub fn url(&self) -> String {
        let socket = self.directory.path().to_string_lossy().replace('/', "%2F");
        format!("postgres://proxyd@localhost/proxyd?host={socket}")
    }

    /// The file with [`PASSWORD`].
    #[must_use]
    pub fn password_file(&self) -> PathBuf {
        self.directory.path().join("password")
    }

    /// Starts the server again.
    pub fn resume(&mut self) -> anyhow::Result<()> {
        let mut command = self.program("postgres");
        command.arg("-D").arg(self.data()).arg("-k").arg(self.directory.path());
        command.args(["-c", "listen_addresses=", "-c", "fsync=off"]);
        self.process = Some(Process::start(&mut command, "postgres", self.directory.path())?);
        wait_until("the database server to answer", LIMIT, || {
            self.client("pg_isready").output().is_ok_and(|answer| answer.status.success())
        })
    }

    /// Stops the server at once, as a power cut would.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut process = self.process.take().context("the database server is not running")?;
        process.signal(Signal::SIGQUIT)?;
        wait_for("the database server to stop", LIMIT, || process.status()).map(drop)
    }

    /// Runs a statement; gives its rows, one a line.
    pub fn query(&self, statement: &str) -> anyhow::Result<String> {
        let mut client = self.client("psql");
        output(client.args([
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "-c",
            statement,
            "proxyd",
        ]))
    }

    fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A program of the server's, as its user.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("setpriv");
        let user = ["--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--clear-groups"];
        command.args(user).arg(self.programs.join(name)).current_dir(self.directory.path());
        command
    }

    fn client(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.arg("-h").arg(self.directory.path()).args(["-U", "proxyd"]);
        command.env("PGPASSWORD", PASSWORD);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It ends by itself when it notices that its directory is gone, but not at once.
        drop(self.process.is_some().then(|| self.stop()));
    }
}

/// The programs of the newest version that is installed.
fn programs() -> anyhow::Result<PathBuf> {
    let entries = fs::read_dir(VERSIONS)
        .with_context(|| format!("{VERSIONS} is missing: install postgresql"))?;
    let mut versions: Vec<u32> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|version: &u32| has_server(*version))
        .collect();
    versions.sort_unstable();
    let newest = versions.pop().with_context(|| format!("no version is in {VERSIONS}"))?;
    ensure!(newest >= 14, "PostgreSQL {newest} is too old");
    Ok(Path::new(VERSIONS).join(newest.to_string()).join("bin"))
}

fn has_server(version: u32) -> bool {
    Path::new(VERSIONS).join(version.to_string()).join("bin/postgres").exists()
}
