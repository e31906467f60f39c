//! A client, a gateway and a server in network namespaces of their own, joined by veth pairs; and
//! a place for pins and files. All of it is gone when dropped.

use std::env;
use std::fs::{self, File};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::panic;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use anyhow::{Context as _, Result};
use e2e::process::output;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, CpuSet, sched_setaffinity, setns, unshare};
use nix::unistd::Pid;
use tempfile::TempDir;

/// What the names of the namespaces begin with; the id of this process follows.
const PREFIX: &str = "pbn-";

/// Where `ip netns` keeps the namespaces that have names.
const NAMED: &str = "/run/netns";

/// The interface of the client, and of the server.
pub(super) const PEER_INTERFACE: &str = "eth0";
/// The gateway's interface towards the client.
pub(super) const CLIENT_INTERFACE: &str = "lan0";
/// The gateway's interface towards the server.
pub(super) const SERVER_INTERFACE: &str = "wan0";

/// Link addresses, locally administered.
pub(super) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 1, 2];
/// The one of the gateway towards the client.
pub(super) const GATEWAY_MAC: [u8; 6] = [2, 0, 0, 0, 1, 1];
const GATEWAY_SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 1];
const SERVER_MAC: [u8; 6] = [2, 0, 0, 0, 2, 2];

/// The client's addresses.
pub(super) const CLIENT_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 1, 2);
/// See [`CLIENT_V4`].
pub(super) const CLIENT_V6: Ipv6Addr = Ipv6Addr::new(0xfd77, 1, 0, 0, 0, 0, 0, 2);
/// The server's address.
pub(super) const SERVER_V4: Ipv4Addr = Ipv4Addr::new(10, 77, 2, 2);

/// The packet mark and the routing table of steering, as the daemon chooses them by default.
pub(super) const ROUTE_MARK: u32 = 0x1000_0000;
/// See [`ROUTE_MARK`].
pub(super) const ROUTE_TABLE: u32 = 7022;
/// Where the daemon puts its policy routing rule.
const RULE_PRIORITY: u32 = 90;

/// Processor of whatever sends or is measured; the last one, which has the least to do.
pub(super) fn working_cpu() -> usize {
    thread::available_parallelism().map_or(0, |count| count.get() - 1)
}

/// Keeps the calling thread on one processor.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu).with_context(|| format!("there is no processor {cpu}"))?;
    sched_setaffinity(Pid::from_raw(0), &set).context("cannot stay on one processor")
}

/// A network namespace with a name; removed when dropped.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    fn new(world: &str, role: &str) -> Result<Self> {
        let name = format!("{world}-{role}");
        output(Command::new("ip").args(["netns", "add", &name]))?;
        let namespace = Self { name };
        namespace.ip("link set lo up")?;
        Ok(namespace)
    }

    /// A command that runs `program` in it.
    pub(super) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program.as_ref());
        command
    }

    /// Runs a program with these words in it.
    pub(super) fn run(&self, program: &str, words: &str) -> Result<String> {
        output(self.command(program).args(words.split_whitespace()))
    }

    /// Runs `ip` with these words in it.
    pub(super) fn ip(&self, words: &str) -> Result<String> {
        output(Command::new("ip").args(["-n", &self.name]).args(words.split_whitespace()))
    }

    /// Sets a kernel setting, named as below `/proc/sys/net`.
    fn set(&self, setting: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys/net").join(setting);
        let written = self.inside(|| Ok(fs::write(&path, value)?));
        written.with_context(|| format!("cannot set {}", path.display()))
    }

    /// Runs `work` on a thread inside the namespace; sockets made there stay there.
    pub(super) fn inside<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let path = Path::new(NAMED).join(&self.name);
        let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        thread::scope(|scope| {
            let inside = scope.spawn(move || {
                setns(&file, CloneFlags::CLONE_NEWNET).context("cannot enter the namespace")?;
                work()
            });
            inside.join().unwrap_or_else(|panic| panic::resume_unwind(panic))
        })
    }

    /// Packets that an interface has received, those that a program on it dropped included.
    pub(super) fn received(&self, interface: &str) -> Result<u64> {
        // That of the thread: the process itself is in another namespace.
        let table = self.inside(|| Ok(fs::read_to_string("/proc/thread-self/net/dev")?))?;
        let prefix = format!("{interface}:");
        let line = table.lines().find_map(|line| line.trim_start().strip_prefix(&prefix));
        let packets = line.and_then(|line| line.split_whitespace().nth(1));
        let packets = packets.and_then(|packets| packets.parse().ok());
        packets.with_context(|| format!("no packets of {interface} in {table}"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        drop(output(Command::new("ip").args(["netns", "del", &self.name])));
    }
}

/// Three hosts in a row. The gateway routes, and has the policy routing rule that steering needs,
/// whether or not it steers: the rule alone makes the kernel's forwarding slower.
#[derive(Debug)]
pub(super) struct Lab {
    /// Where clients' packets come from.
    pub(super) client: Namespace,
    /// What is measured.
    pub(super) gateway: Namespace,
    /// Where packets end.
    pub(super) server: Namespace,
}

/// Labs of this process so far.
static LABS: AtomicU32 = AtomicU32::new(0);

impl Lab {
    /// One where neighbours are known, so that no packet waits for an answer.
    pub(super) fn new() -> Result<Self> {
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let client = Namespace::new(&name, "client")?;
        let gateway = Namespace::new(&name, "gateway")?;
        let server = Namespace::new(&name, "server")?;
        let lab = Self { client, gateway, server };
        for (peer, own, interface, other) in [
            (&lab.client, CLIENT_MAC, CLIENT_INTERFACE, GATEWAY_MAC),
            (&lab.server, SERVER_MAC, SERVER_INTERFACE, GATEWAY_SERVER_MAC),
        ] {
            let (own, other, gateway) = (mac(own), mac(other), &lab.gateway.name);
            peer.ip(&format!(
                "link add {PEER_INTERFACE} address {own} type veth \
                 peer name {interface} address {other} netns {gateway}"
            ))?;
            for (namespace, end) in [(peer, PEER_INTERFACE), (&lab.gateway, interface)] {
                namespace.set(&format!("ipv6/conf/{end}/accept_dad"), "0")?;
                namespace.ip(&format!("link set {end} up"))?;
            }
        }
        lab.set_addresses()?;
        lab.set_routes()?;
        Ok(lab)
    }

    fn set_addresses(&self) -> Result<()> {
        self.client.ip(&format!("addr add {CLIENT_V4}/24 dev {PEER_INTERFACE}"))?;
        self.client.ip(&format!("addr add {CLIENT_V6}/64 dev {PEER_INTERFACE} nodad"))?;
        self.server.ip(&format!("addr add {SERVER_V4}/24 dev {PEER_INTERFACE}"))?;
        self.server.ip(&format!("addr add fd77:2::2/64 dev {PEER_INTERFACE} nodad"))?;
        for (interface, subnet) in [(CLIENT_INTERFACE, 1), (SERVER_INTERFACE, 2)] {
            self.gateway.ip(&format!("addr add 10.77.{subnet}.1/24 dev {interface}"))?;
            self.gateway.ip(&format!("addr add fd77:{subnet}::1/64 dev {interface} nodad"))?;
        }
        self.gateway.set("ipv4/ip_forward", "1")?;
        self.gateway.set("ipv6/conf/all/forwarding", "1")
    }

    fn set_routes(&self) -> Result<()> {
        self.client.ip("route add default via 10.77.1.1")?;
        self.client.ip("route add default via fd77:1::1")?;
        self.server.ip("route add default via 10.77.2.1")?;
        self.server.ip("route add default via fd77:2::1")?;
        self.gateway.ip("route add default via 10.77.2.2")?;
        self.gateway.ip("route add default via fd77:2::2")?;
        for (address, link, interface) in [
            ("10.77.1.2", CLIENT_MAC, CLIENT_INTERFACE),
            ("fd77:1::2", CLIENT_MAC, CLIENT_INTERFACE),
            ("10.77.2.2", SERVER_MAC, SERVER_INTERFACE),
            ("fd77:2::2", SERVER_MAC, SERVER_INTERFACE),
        ] {
            let link = mac(link);
            self.gateway.ip(&format!("neigh replace {address} lladdr {link} dev {interface}"))?;
        }
        for family in ["-4", "-6"] {
            self.gateway.ip(&format!(
                "{family} rule add fwmark {ROUTE_MARK:#x}/{ROUTE_MARK:#x} lookup {ROUTE_TABLE} \
                 priority {RULE_PRIORITY}"
            ))?;
        }
        Ok(())
    }
}

fn mac(address: [u8; 6]) -> String {
    address.map(|byte| format!("{byte:02x}")).join(":")
}

/// A directory for files, and a BPF file system in it.
#[derive(Debug)]
pub(super) struct Scratch {
    directory: TempDir,
}

impl Scratch {
    /// Takes the process into a mount namespace of its own first, so that a mount cannot outlive
    /// it. Call it before there are threads: those that are there stay behind.
    pub(super) fn new() -> Result<Self> {
        remove_abandoned();
        unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)
            .context("cannot keep mounts to this process")?;
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let directory = tempfile::Builder::new().prefix(&prefix).tempdir()?;
        let scratch = Self { directory };
        let bpf = scratch.bpf();
        fs::create_dir(&bpf)?;
        mount(Some("bpf"), &bpf, Some("bpf"), MsFlags::empty(), none)
            .context("cannot mount a BPF file system")?;
        Ok(scratch)
    }

    /// The BPF file system.
    pub(super) fn bpf(&self) -> PathBuf {
        self.directory.path().join("bpf")
    }

    /// The directory.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        let _gone = umount2(&self.bpf(), MntFlags::MNT_DETACH);
    }
}

/// Removes what killed processes left behind. Their mounts went with them: what is left of a
/// namespace is an empty file.
fn remove_abandoned() {
    for path in entries(Path::new(NAMED)).filter(|path| is_abandoned(path)) {
        drop(fs::remove_file(path));
    }
    for path in entries(&env::temp_dir()).filter(|path| is_abandoned(path)) {
        drop(fs::remove_dir_all(path));
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

/// Whether the name is one of ours and says that it belonged to a process that is gone.
fn is_abandoned(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    let pid = name.and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
    let is_number = |pid: &&str| !pid.is_empty() && pid.bytes().all(|byte| byte.is_ascii_digit());
    pid.filter(is_number).is_some_and(|pid| !Path::new("/proc").join(pid).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_dead_processes_left_is_abandoned() {
        let own = std::process::id();
        // Larger than any process id (`proc_sys_kernel(5)`, `pid_max`).
        let dead = 5_000_000;
        for (name, expected) in [
            (format!("/run/netns/{PREFIX}{dead}-0-client"), true),
            (format!("/tmp/{PREFIX}{dead}-x1Y2"), true),
            (format!("/tmp/{PREFIX}{own}-x1Y2"), false),
            (format!("/tmp/{PREFIX}name"), false),
            (format!("/tmp/{PREFIX}"), false),
            (format!("/tmp/px{dead}-0"), false),
        ] {
            assert_eq!(is_abandoned(Path::new(&name)), expected, "{name}");
        }
    }
}
