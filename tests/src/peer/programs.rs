//! Clients that are not OpenSSH's, each called like `ssh`: `plink`, dropbear's and three libraries.

use std::collections::BTreeMap;
use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::peer::ssh::{Call, Client};
use crate::peer::sshd;
use crate::process::output;

/// How long keys may take to be read from the gateway, or converted.
const PREPARE_LIMIT: Duration = Duration::from_secs(20);

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Program {
    /// `plink` of the `PuTTY` tools.
    Plink,
    /// Dropbear's `dbclient`.
    Dropbear,
    /// The library paramiko.
    Paramiko,
    /// The library asyncssh.
    Asyncssh,
    /// The library libssh.
    Libssh,
}

impl Program {
    /// Words that its version string holds.
    #[must_use]
    pub const fn version(self) -> &'static str {
        match self {
            Self::Plink => "PuTTY_",
            Self::Dropbear => "dropbear_",
            Self::Paramiko => "paramiko_",
            Self::Asyncssh => "AsyncSSH_",
            Self::Libssh => "libssh_",
        }
    }

    /// Whether it takes its terminal from its own standard input.
    #[must_use]
    pub const fn has_terminal(self) -> bool {
        matches!(self, Self::Plink | Self::Dropbear)
    }
}

/// How a user logs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Login {
    /// By the method password (RFC 4252 section 8).
    Password,
    /// By keyboard-interactive (RFC 4256).
    Interactive,
    /// By public key.
    Key,
}

impl Login {
    /// The method's name.
    #[must_use]
    pub const fn method(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Interactive => "keyboard-interactive",
            Self::Key => "publickey",
        }
    }
}

/// What a program is asked to do.
#[derive(Debug, Clone, Copy)]
pub enum Action<'a> {
    /// Run a command.
    Exec(&'a str),
    /// Run a command in a terminal, which becomes larger and is typed at if the program has none
    /// of its own.
    Pty(&'a str),
    /// Copy a file of the client's to the server's.
    Put(Copying, &'a Path, &'a Path),
    /// Copy a file of the server's to the client's.
    Get(Copying, &'a Path, &'a Path),
}

/// A protocol by which files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Copying {
    /// The subsystem.
    Sftp,
    /// The old program at both ends.
    Scp,
}

impl Copying {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sftp => "sftp",
            Self::Scp => "scp",
        }
    }
}

/// The programs of one user, with a key in the form of each.
#[derive(Debug)]
pub struct Programs<'c> {
    client: &'c Client<'c>,
    server: IpAddr,
    key: PathBuf,
    /// The gateway's host keys, as `ssh-keygen -l` says them, by port.
    host_keys: BTreeMap<u16, String>,
}

impl<'c> Programs<'c> {
    /// Converts `key`, of Ed25519, and reads the host keys of these ports.
    pub fn new(
        client: &'c Client<'c>,
        server: IpAddr,
        key: &Path,
        ports: &[u16],
    ) -> anyhow::Result<Self> {
        let puttygen = client.call("puttygen").arg(key).args("-O private -o");
        puttygen.arg(key.with_extension("ppk")).run(PREPARE_LIMIT)?.ok()?;
        let convert = client.call("dropbearconvert").args("openssh dropbear").arg(key);
        convert.arg(key.with_extension("dropbear")).run(PREPARE_LIMIT)?.ok()?;
        let mut host_keys = BTreeMap::new();
        for &port in ports {
            let scan = client.call("ssh-keyscan").args(&format!("-t ed25519 -p {port} {server}"));
            let scanned = scan.run(PREPARE_LIMIT)?.ok()?;
            let shown = client.call("ssh-keygen").args("-l -f -").input(&scanned.stdout)?;
            let shown = shown.run(PREPARE_LIMIT)?.ok()?.text();
            let fingerprint = shown.split_whitespace().nth(1).context("no host key")?;
            host_keys.insert(port, fingerprint.to_owned());
        }
        Ok(Self { client, server, key: key.to_owned(), host_keys })
    }

    /// `program`, about to log in as `alice` and do this.
    pub fn call(
        &self,
        program: Program,
        login: Login,
        port: u16,
        action: Action<'_>,
    ) -> anyhow::Result<Call<'c>> {
        match program {
            Program::Plink => self.plink(login, port, action),
            Program::Dropbear => self.dropbear(login, port, action),
            Program::Paramiko => self.script("paramiko_client.py", login, port, action),
            Program::Asyncssh => self.script("asyncssh_client.py", login, port, action),
            Program::Libssh => {
                let program = self.client.directory().join("libssh-client");
                if !program.exists() {
                    compile(&source("libssh_client.c"), &program)?;
                }
                let call = self.client.call(&program.to_string_lossy());
                Ok(self.words(call, login, port, action))
            }
        }
    }

    fn plink(&self, login: Login, port: u16, action: Action<'_>) -> anyhow::Result<Call<'c>> {
        let host_key = self.host_keys.get(&port).context("the host key is not known")?;
        let (program, option) = match action {
            Action::Exec(_) => ("plink", "-ssh"),
            Action::Pty(_) => ("plink", "-t"),
            Action::Put(Copying::Sftp, ..) | Action::Get(Copying::Sftp, ..) => ("pscp", "-sftp"),
            Action::Put(Copying::Scp, ..) | Action::Get(Copying::Scp, ..) => ("pscp", "-scp"),
        };
        let call = self.client.call(program).arg(option).args(&format!("-batch -P {port}"));
        let call = call.arg("-hostkey");
        let call = call.arg(host_key);
        let call = match login {
            Login::Password | Login::Interactive => call.args("-pw").arg(sshd::PASSWORD),
            Login::Key => call.arg("-i").arg(self.key.with_extension("ppk")),
        };
        let to = format!("alice@{}", self.server);
        Ok(match action {
            Action::Exec(command) | Action::Pty(command) => call.arg(to).arg(command),
            Action::Put(_, from, there) => call.arg(from).arg(format!("{to}:{}", there.display())),
            Action::Get(_, there, into) => call.arg(format!("{to}:{}", there.display())).arg(into),
        })
    }

    fn dropbear(&self, login: Login, port: u16, action: Action<'_>) -> anyhow::Result<Call<'c>> {
        let call = self.client.call("dbclient").args(&format!("-y -y -p {port}"));
        let call = match login {
            Login::Password | Login::Interactive => call.env("DROPBEAR_PASSWORD", sshd::PASSWORD),
            Login::Key => call.arg("-i").arg(self.key.with_extension("dropbear")),
        };
        let (option, command) = match action {
            Action::Pty(command) => ("-t", command),
            Action::Exec(command) => ("-T", command),
            Action::Put(..) | Action::Get(..) => bail!("dropbear has no program that copies files"),
        };
        Ok(call.arg(option).arg(format!("alice@{}", self.server)).arg(command))
    }

    fn script(
        &self,
        name: &str,
        login: Login,
        port: u16,
        action: Action<'_>,
    ) -> anyhow::Result<Call<'c>> {
        let python = python("python3")?;
        let call = self.client.call(&python.to_string_lossy()).arg(source(name));
        Ok(self.words(call, login, port, action))
    }

    /// The words that all programs of ours take.
    fn words(&self, call: Call<'c>, login: Login, port: u16, action: Action<'_>) -> Call<'c> {
        let call = call.arg(login.method());
        let call = match login {
            Login::Password | Login::Interactive => call.arg(sshd::PASSWORD),
            Login::Key => call.arg(&self.key),
        };
        let call = call.arg(port.to_string()).arg(self.server.to_string());
        match action {
            Action::Exec(command) => call.arg("exec").arg(command),
            Action::Pty(command) => call.arg("pty").arg(command),
            Action::Put(by, from, to) => call.arg(by.name()).arg("put").arg(from).arg(to),
            Action::Get(by, from, to) => call.arg(by.name()).arg("get").arg(from).arg(to),
        }
    }
}

/// A program of the Python environment that `cargo xtask setup` makes.
pub fn python(program: &str) -> anyhow::Result<PathBuf> {
    let bin = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-venv/bin");
    let path = bin.join(program);
    ensure!(path.exists(), "{} is missing: run `cargo xtask setup`", path.display());
    Ok(path)
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/peer").join(name)
}

fn compile(source: &Path, program: &Path) -> anyhow::Result<()> {
    let mut compiler = Command::new("cc");
    compiler.args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(program).arg(source).arg("-lssh");
    output(&mut compiler)?;
    fs::set_permissions(program, fs::Permissions::from_mode(0o755))?;
    Ok(())
}
