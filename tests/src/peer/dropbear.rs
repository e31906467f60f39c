//! Dropbear's server, with the accounts of the tests and a host key of its own.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use nix::unistd::{Gid, Uid, chown};

use crate::peer::accounts;
use crate::peer::sshd::PORT;
use crate::process::{Process, output};
use crate::wait::wait_until;
use crate::world::{Family, Host, World};

/// How long the server may take to listen, on a busy machine.
const START_LIMIT: Duration = Duration::from_secs(10);

/// A running server; it listens on all addresses of the server's namespace.
#[derive(Debug)]
pub struct Dropbear {
    directory: PathBuf,
    process: Process,
}

impl Dropbear {
    /// Starts it, with a new host key.
    pub fn start(world: &World) -> anyhow::Result<Self> {
        let directory = world.subdirectory("dropbear")?;
        accounts::make(&directory)?;
        let host_key = directory.join("host_key");
        let mut keygen = Command::new("dropbearkey");
        output(keygen.args(["-t", "ed25519", "-f"]).arg(&host_key))?;
        let mut command = accounts::command(world, &directory, "/usr/sbin/dropbear");
        command.args(["-F", "-E", "-p", &PORT.to_string(), "-r"]).arg(&host_key);
        command.arg("-P").arg(directory.join("pid"));
        let process = Process::start(&mut command, "dropbear", &directory)?;
        let at = (world.address(Host::Server, Family::V4), PORT);
        wait_until("dropbear to listen", START_LIMIT, || {
            let reached = world.server.inside(|| std::net::TcpStream::connect(at).is_ok());
            reached.unwrap_or(false)
        })?;
        Ok(Self { directory, process })
    }

    /// Lets `user` log in with this public key, a line of an `authorized_keys` file.
    pub fn authorize(&self, user: &str, public_key: &str) -> anyhow::Result<()> {
        let directory = self.home(user).join(".ssh");
        fs::create_dir_all(&directory)?;
        let path = directory.join("authorized_keys");
        fs::write(&path, format!("{}\n", public_key.trim()))?;
        let owner = fs::metadata(self.home(user))?;
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        for (path, mode) in [(&directory, 0o700), (&path, 0o600)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
            chown(path, Some(uid), Some(gid))?;
        }
        Ok(())
    }

    /// The home directory of a user.
    #[must_use]
    pub fn home(&self, user: &str) -> PathBuf {
        self.directory.join("home").join(user)
    }

    /// What it has logged so far.
    pub fn log(&self) -> anyhow::Result<String> {
        self.process.stderr()
    }
}

impl Drop for Dropbear {
    fn drop(&mut self) {
        self.process.tell_if_failing();
    }
}
