//! An OpenSSH server on the gateway that `ssh -J` jumps through.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use e2e::process::{Process, output};
use e2e::wait::wait_until;
use e2e::world::World;

/// The name that the client's configuration knows it by.
pub(super) const NAME: &str = "jump";

/// Where it listens.
pub(super) const PORT: u16 = 2200;

/// How long it may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// Gives the server a directory of its own for privilege separation, then becomes it.
const START: &str = "mount -t tmpfs -o mode=755 tmpfs /run && mkdir /run/sshd && \
                     exec /usr/sbin/sshd -D -e -f \"$1\"";

/// Starts it; whoever has the private half of `key` may jump.
pub(super) fn start(world: &World, key: &str) -> Result<Process> {
    let directory = world.subdirectory("jump")?;
    let host_key = directory.join("host_key");
    let mut keygen = Command::new("ssh-keygen");
    output(keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&host_key))?;
    fs::write(directory.join("authorized_keys"), format!("{key}\n"))?;
    let config = directory.join("sshd_config");
    fs::write(&config, configuration(&directory))?;
    let mut command = world.gateway.command("/bin/sh");
    command
        .args(["-c", START, "sh"])
        .arg(&config)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/bin");
    let process = Process::start(&mut command, "jump", &directory)?;
    let listens = || process.stderr().is_ok_and(|log| log.contains("Server listening"));
    wait_until("the jump host to listen", START_LIMIT, listens)?;
    Ok(process)
}

fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "Port {PORT}\n\
         ListenAddress 0.0.0.0\n\
         HostKey {directory}/host_key\n\
         PidFile none\n\
         AuthorizedKeysFile {directory}/authorized_keys\n\
         StrictModes no\n\
         UsePAM no\n\
         PermitRootLogin prohibit-password\n\
         UseDNS no\n\
         MaxStartups 300:30:600\n"
    )
}
