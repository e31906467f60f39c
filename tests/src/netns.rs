//! A network namespace: programs and closures run inside it, removed when dropped.

use std::fs::{self, File};
use std::panic;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::Context as _;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::output;

/// Where `ip netns` keeps the namespaces that have names.
const NAMED: &str = "/run/netns";

/// What the names of all our namespaces begin with; the id of the owning process follows.
const PREFIX: &str = "px";

/// A network namespace of our own.
#[derive(Debug)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// Makes one with the loopback interface up; its name ends with `role`.
    pub(crate) fn new(world: &str, role: &str) -> anyhow::Result<Self> {
        let name = format!("{world}-{role}");
        output(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// Its name, as `ip netns list` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A command that runs `program` in it.
    ///
    /// The child's process id is the program's own: nothing stands between.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Runs `ip` with these words in it, and gives what it says.
    pub fn ip(&self, words: &str) -> anyhow::Result<String> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name]).args(words.split_whitespace());
        output(&mut command)
    }

    /// The processes in it, by their ids.
    pub fn pids(&self) -> anyhow::Result<Vec<String>> {
        let listed = output(Command::new("ip").args(["netns", "pids", &self.name]))?;
        Ok(listed.split_whitespace().map(str::to_owned).collect())
    }

    /// Sets a kernel setting of this namespace, named as below `/proc/sys/net`.
    pub fn set(&self, setting: &str, value: &str) -> anyhow::Result<()> {
        let path = Path::new("/proc/sys/net").join(setting);
        self.inside(|| fs::write(&path, value))?
            .with_context(|| format!("cannot set {}", path.display()))
    }

    /// Runs `work` on a thread inside the namespace; sockets made there stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> anyhow::Result<T> {
        let path = Path::new(NAMED).join(&self.name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
                Ok(work())
            });
            inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// A name for a world of this process that no other process uses.
pub(crate) fn world_name(number: u32) -> String {
    format!("{PREFIX}{}-{number}", std::process::id())
}

/// Removes what worlds left behind whose processes were killed.
pub(crate) fn remove_abandoned() {
    let Ok(entries) = fs::read_dir(NAMED) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove(&name);
        }
    }
}

/// The process that made what has this name; none where it was not one of us.
pub(crate) fn owner(name: &str) -> Option<&str> {
    let (pid, _rest) = name.strip_prefix(PREFIX)?.split_once('-')?;
    pid.bytes().all(|byte| byte.is_ascii_digit()).then_some(pid)
}

/// Ends the processes in a namespace and removes it. Failures have nobody to be told to.
fn remove(name: &str) {
    if let Ok(pids) = output(Command::new("ip").args(["netns", "pids", name])) {
        for pid in pids.split_whitespace().filter_map(|pid| pid.parse().ok()) {
            let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    drop(output(Command::new("ip").args(["netns", "del", name])));
}
