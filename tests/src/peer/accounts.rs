//! Accounts that only one server sees: the machine's own are not touched.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Gid, Uid, chown};

use crate::peer::sshd::{EXPIRED_USER, USERS};
use crate::world::World;

/// `sshd::PASSWORD` as `openssl passwd -6` hashes it.
const PASSWORD_HASH: &str = "$6$proxydtests$Kx2nUvgqBX7NIoK688QMjK5Cd.3LQvn0D3rN1JN9iESNO\
    4MdyHdTPe9zYoWCPwoMxNoqvLofjTiAy0y2yz63X/";

/// The first user's number; numbers of this size belong to nobody on a plain system.
const FIRST_UID: u32 = 61_001;

/// Gives a server its own accounts and rules for questions, then becomes it.
const START: &str = r#"
set -e
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/sshd
mkdir /run/etc /run/work
mount -t overlay -o "lowerdir=$1/etc:/etc,upperdir=/run/etc,workdir=/run/work" overlay /etc
shift
exec "$@"
"#;

/// Asks for the password in one question, and says no without delay.
const PAM: &str = "\
auth    required pam_unix.so nodelay
account required pam_unix.so
session required pam_unix.so
password required pam_unix.so
";

/// Where the shell finds `mount` and `mkdir`.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";

/// A server of the server's host, about to be started with the accounts of this directory.
pub(super) fn command(world: &World, directory: &Path, program: &str) -> Command {
    let mut command = world.server.command("/bin/sh");
    command.args(["-c", START, "sh"]).arg(directory).arg(program);
    command.env_clear().env("PATH", PATH);
    command
}

/// Writes the account files, and makes homes.
pub(super) fn make(directory: &Path) -> anyhow::Result<()> {
    let mut passwd = "root:x:0:0:root:/root:/bin/bash\n\
                      sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n"
        .to_owned();
    let mut shadow = "root:*:19000::::::\nsshd:!:19000::::::\n".to_owned();
    let mut group = "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n".to_owned();
    for (uid, user) in (FIRST_UID..).zip(USERS.into_iter().chain([EXPIRED_USER])) {
        let home = directory.join("home").join(user);
        fs::create_dir_all(&home)?;
        chown(&home, Some(Uid::from_raw(uid)), Some(Gid::from_raw(uid)))?;
        passwd.push_str(&format!("{user}:x:{uid}:{uid}::{}:/bin/bash\n", home.display()));
        // Day 0 of the last change: it is to be changed now.
        let changed = if user == EXPIRED_USER { 0 } else { 19_000 };
        shadow.push_str(&format!("{user}:{PASSWORD_HASH}:{changed}::::::\n"));
        group.push_str(&format!("{user}:x:{uid}:\n"));
    }
    let etc = directory.join("etc");
    fs::create_dir_all(etc.join("pam.d"))?;
    fs::create_dir_all(directory.join("keys"))?;
    let files = [("passwd", &passwd), ("shadow", &shadow), ("group", &group)];
    for (name, text) in files {
        fs::write(etc.join(name), text)?;
    }
    fs::write(etc.join("pam.d/sshd"), PAM)?;
    Ok(())
}
