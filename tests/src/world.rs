//! A client and a server with a gateway between them, as a router or as a bridge.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context as _, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::unistd::Uid;
use tempfile::TempDir;

use crate::netns::{self, Namespace};
use crate::process::output;

/// Interface of the client, and of the server.
pub const PEER_INTERFACE: &str = "eth0";
/// Interface of the gateway towards the client.
pub const CLIENT_INTERFACE: &str = "lan0";
/// Interface of the gateway towards the server.
pub const SERVER_INTERFACE: &str = "wan0";
/// Interface of the gateway towards a host that joins later.
pub const GUEST_INTERFACE: &str = "lan1";
/// The bridge of a gateway that bridges.
pub const BRIDGE: &str = "br0";

/// How the gateway stands in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It routes between two subnets.
    Router,
    /// It bridges one subnet.
    Bridge,
}

/// An IP version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both versions.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];
}

/// A host of the world, or an address of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    /// The client.
    Client,
    /// The server that connection policies name.
    Server,
    /// A second address of the server's host, which no policy needs to name.
    OtherServer,
    /// The gateway as the client knows it.
    GatewayForClient,
    /// The gateway as the server knows it.
    GatewayForServer,
    /// A host that joins later.
    Guest,
    /// The gateway as that host knows it.
    GatewayForGuest,
}

/// Three namespaces joined by veth pairs, and a directory; gone when dropped.
#[derive(Debug)]
pub struct World {
    mode: Mode,
    /// Where the client's programs run.
    pub client: Namespace,
    /// Where the daemon runs.
    pub gateway: Namespace,
    /// Where the servers run.
    pub server: Namespace,
    bpffs: Bpffs,
    directory: TempDir,
}

/// Worlds of this process so far.
static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    /// A gateway that routes.
    pub fn router() -> anyhow::Result<Self> {
        Self::new(Mode::Router)
    }

    /// A gateway that bridges.
    pub fn bridge() -> anyhow::Result<Self> {
        Self::new(Mode::Bridge)
    }

    /// A gateway of this mode, IPv4 and IPv6 both.
    pub fn new(mode: Mode) -> anyhow::Result<Self> {
        ensure!(Uid::effective().is_root(), "network namespaces and eBPF need root");
        require_programs()?;
        remove_abandoned();
        let name = netns::world_name(WORLDS.fetch_add(1, Ordering::Relaxed));
        let directory = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir()?;
        // Users of the server have their homes below.
        fs::set_permissions(directory.path(), Permissions::from_mode(0o755))?;
        let bpffs = Bpffs::mount(directory.path().join("bpf"))?;
        let client = Namespace::new(&name, "client")?;
        let gateway = Namespace::new(&name, "gateway")?;
        let server = Namespace::new(&name, "server")?;
        let world = Self { mode, client, gateway, server, bpffs, directory };
        world.join(CLIENT_INTERFACE, &world.client)?;
        world.join(SERVER_INTERFACE, &world.server)?;
        world.set_addresses()?;
        Ok(world)
    }

    /// How its gateway stands.
    #[must_use]
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The address of a host.
    #[must_use]
    pub const fn address(&self, host: Host, family: Family) -> IpAddr {
        let (subnet, last) = match (self.mode, host) {
            (_, Host::GatewayForClient) => (1, 1),
            (_, Host::Client) => (1, 2),
            (Mode::Router, Host::GatewayForGuest) => (3, 1),
            (Mode::Router, Host::Guest) => (3, 2),
            (Mode::Router, Host::GatewayForServer) => (2, 1),
            (Mode::Router, Host::Server) => (2, 3),
            (Mode::Router, Host::OtherServer) => (2, 4),
            (Mode::Bridge, Host::GatewayForServer | Host::GatewayForGuest) => (1, 1),
            (Mode::Bridge, Host::Guest) => (1, 9),
            (Mode::Bridge, Host::Server) => (1, 3),
            (Mode::Bridge, Host::OtherServer) => (1, 4),
        };
        match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 77, subnet, last)),
            Family::V6 => {
                // fd77:SUBNET::LAST; both numbers are below 256.
                let [subnet, last] = [[0, subnet], [0, last]];
                let (subnet, last) = (u16::from_be_bytes(subnet), u16::from_be_bytes(last));
                IpAddr::V6(Ipv6Addr::new(0xfd77, subnet, 0, 0, 0, 0, 0, last))
            }
        }
    }

    /// A directory for whatever belongs to this world.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A directory of this name in it, made where there is none.
    pub fn subdirectory(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.directory().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    /// A directory on a BPF file system that outlives the daemon.
    #[must_use]
    pub fn pin_directory(&self) -> PathBuf {
        self.bpffs.path.join("proxyd")
    }

    /// The programs, links and maps that are pinned by the daemon.
    pub fn pins(&self) -> anyhow::Result<Vec<PathBuf>> {
        let mut found = Vec::new();
        let mut unread = vec![self.pin_directory()];
        while let Some(directory) = unread.pop() {
            if !directory.exists() {
                continue;
            }
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let to = if entry.file_type()?.is_dir() { &mut unread } else { &mut found };
                to.push(entry.path());
            }
        }
        Ok(found)
    }

    /// Unmounts the BPF file system of the pins wherever processes of this world see it: its pins
    /// are gone then.
    pub fn unmount_pins(&self) -> anyhow::Result<()> {
        // Each process that `ip netns exec` has started sees mounts of its own.
        for namespace in [&self.client, &self.gateway, &self.server] {
            for pid in namespace.pids()? {
                let mut command = Command::new("nsenter");
                command.args(["--mount", "--target", &pid, "umount", "--lazy"]);
                output(command.arg(&self.bpffs.path))?;
            }
        }
        self.hide_pins()
    }

    /// Unmounts it where this process sees it, and those that are started from now on.
    pub fn hide_pins(&self) -> anyhow::Result<()> {
        umount2(&self.bpffs.path, MntFlags::MNT_DETACH).context("cannot unmount the pins")
    }

    /// Mounts another one in its place, for processes that are started from now on.
    pub fn remount_pins(&self) -> anyhow::Result<()> {
        mount_bpffs(&self.bpffs.path)
    }

    /// Joins a further host to the gateway, by [`GUEST_INTERFACE`]: a port of the bridge, or a
    /// subnet of its own behind the router.
    pub fn add_guest(&self) -> anyhow::Result<Namespace> {
        let guest = Namespace::new(self.client.name(), "guest")?;
        self.join(GUEST_INTERFACE, &guest)?;
        match self.mode {
            Mode::Router => self.give(&self.gateway, GUEST_INTERFACE, Host::GatewayForGuest)?,
            Mode::Bridge => {
                drop(self.gateway.ip(&format!("link set {GUEST_INTERFACE} master {BRIDGE}"))?);
            }
        }
        self.give(&guest, PEER_INTERFACE, Host::Guest)?;
        self.route_by(&guest, Host::GatewayForGuest)?;
        Ok(guest)
    }

    /// Removes the gateway's interface towards the client, and the client's with it.
    pub fn unplug_client(&self) -> anyhow::Result<()> {
        self.gateway.ip(&format!("link del {CLIENT_INTERFACE}")).map(drop)
    }

    /// Makes another interface of that name, and joins the client of a router to it again.
    pub fn replug_client(&self) -> anyhow::Result<()> {
        self.join(CLIENT_INTERFACE, &self.client)?;
        self.give(&self.gateway, CLIENT_INTERFACE, Host::GatewayForClient)?;
        self.give(&self.client, PEER_INTERFACE, Host::Client)?;
        self.route_by(&self.client, Host::GatewayForClient)
    }

    /// Joins the gateway's `interface` to `peer`.
    fn join(&self, interface: &str, peer: &Namespace) -> anyhow::Result<()> {
        let gateway = self.gateway.name();
        peer.ip(&format!(
            "link add {PEER_INTERFACE} type veth peer name {interface} netns {gateway}"
        ))?;
        // An address that is being probed for duplicates cannot be used for a second or two.
        for (namespace, own) in [(peer, PEER_INTERFACE), (&self.gateway, interface)] {
            namespace.set(&format!("ipv6/conf/{own}/accept_dad"), "0")?;
            namespace.ip(&format!("link set {own} up"))?;
        }
        Ok(())
    }

    fn set_addresses(&self) -> anyhow::Result<()> {
        match self.mode {
            Mode::Router => {
                self.give(&self.gateway, CLIENT_INTERFACE, Host::GatewayForClient)?;
                self.give(&self.gateway, SERVER_INTERFACE, Host::GatewayForServer)?;
                self.gateway.set("ipv4/ip_forward", "1")?;
                self.gateway.set("ipv6/conf/all/forwarding", "1")?;
            }
            Mode::Bridge => {
                let gateway = &self.gateway;
                gateway.ip(&format!("link add {BRIDGE} type bridge mcast_snooping 0"))?;
                gateway.set(&format!("ipv6/conf/{BRIDGE}/accept_dad"), "0")?;
                for port in [CLIENT_INTERFACE, SERVER_INTERFACE] {
                    gateway.ip(&format!("link set {port} master {BRIDGE}"))?;
                }
                gateway.ip(&format!("link set {BRIDGE} up"))?;
                self.give(gateway, BRIDGE, Host::GatewayForClient)?;
            }
        }
        self.give(&self.client, PEER_INTERFACE, Host::Client)?;
        self.give(&self.server, PEER_INTERFACE, Host::Server)?;
        self.give(&self.server, PEER_INTERFACE, Host::OtherServer)?;
        self.route_by(&self.client, Host::GatewayForClient)?;
        self.route_by(&self.server, Host::GatewayForServer)
    }

    /// Has a namespace send to the gateway what is for other subnets.
    fn route_by(&self, namespace: &Namespace, gateway: Host) -> anyhow::Result<()> {
        for family in Family::ALL {
            let router = self.address(gateway, family);
            namespace.ip(&format!("route add default via {router}"))?;
        }
        Ok(())
    }

    /// Gives the addresses of `host` to an interface.
    fn give(&self, namespace: &Namespace, interface: &str, host: Host) -> anyhow::Result<()> {
        let (v4, v6) = (self.address(host, Family::V4), self.address(host, Family::V6));
        namespace.ip(&format!("addr add {v4}/24 dev {interface}"))?;
        namespace.ip(&format!("addr add {v6}/64 dev {interface} nodad"))?;
        Ok(())
    }
}

/// A BPF file system of its own, unmounted when dropped; what is pinned in it goes with it.
#[derive(Debug)]
struct Bpffs {
    path: PathBuf,
}

impl Bpffs {
    fn mount(path: PathBuf) -> anyhow::Result<Self> {
        fs::create_dir(&path)?;
        mount_bpffs(&path)?;
        Ok(Self { path })
    }
}

fn mount_bpffs(path: &Path) -> anyhow::Result<()> {
    mount(Some("bpf"), path, Some("bpf"), MsFlags::empty(), None::<&str>)
        .context("cannot mount a BPF file system: does the kernel have CONFIG_BPF_SYSCALL?")
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        // There is nobody to tell of a failure.
        let _gone = umount2(&self.path, MntFlags::MNT_DETACH);
    }
}

/// Programs that a world is made of, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 7] = [
    ("/usr/sbin/sshd", "openssh-server"),
    ("/usr/bin/ssh", "openssh-client"),
    ("/usr/bin/sftp", "openssh-client"),
    ("/usr/bin/ping", "iputils-ping"),
    ("/usr/bin/nsenter", "util-linux"),
    ("/usr/bin/setsid", "util-linux"),
    ("/bin/bash", "bash"),
];

fn require_programs() -> anyhow::Result<()> {
    for (program, package) in PROGRAMS {
        let exists = Path::new(program).exists();
        ensure!(exists, "{program} is missing: install the package {package}");
    }
    let ip = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip"].iter().any(|ip| Path::new(ip).exists());
    ensure!(ip, "the program ip is missing: install the package iproute2");
    Ok(())
}

/// Removes what worlds left behind whose processes were killed.
fn remove_abandoned() {
    netns::remove_abandoned();
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if netns::owner(&name).is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _gone = umount2(&entry.path().join("bpf"), MntFlags::MNT_DETACH);
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
