//! The data plane, as the daemon sees it: programs on interfaces, rules in their table, routes for
//! what they steer, and counters.
//!
//! Everything is done in the network namespace of the calling thread. One pin directory belongs to
//! one namespace.

mod bpffs;
mod error;
mod interface;
mod load;
mod maps;
mod route;
mod stats;
mod sync;
pub mod plan;

use std::mem;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use aya::Ebpf;
use rtnetlink::Handle;
use steering_common::layout::{Port, Settings};
use steering_common::limits::HEARTBEAT_LIMIT_NS;
use steering_common::rule::{Prefix, compile};
use steering_common::table::Entry;

use self::interface::Interface;
use self::load::{Pins, Program};
use self::maps::Maps;
use self::plan::PolicyRule;

pub use self::error::SteeringError;
pub use self::load::OBJECT;
pub use self::maps::Heartbeat;
pub use self::stats::{Hook, Status, status};

/// Priority of the policy routing rule: before the main table (32766), after the local one (0).
pub const RULE_PRIORITY: u32 = 90;

/// How the gateway stands in the network, and the numbers it may use there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SteeringSetup {
    /// Router or bridge, and its interfaces.
    pub mode: Mode,
    /// Policy routing of steered packets.
    pub routing: Routing,
    /// `SO_MARK` of the proxy's own sockets, one bit: how programs know them.
    pub socket_mark: u32,
    /// Directory of the pins, on a bpffs; bpffs is mounted there if none is.
    pub pin_directory: PathBuf,
}

/// How the gateway stands between clients and servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// It routes between them.
    Router {
        /// Interfaces on which clients' packets arrive.
        client_interfaces: Vec<String>,
        /// Interfaces on which servers' packets arrive.
        server_interfaces: Vec<String>,
    },
    /// It bridges them.
    Bridge {
        /// The bridge; every port of it is steered.
        bridge: String,
    },
}

/// How marked packets are routed into this host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routing {
    /// Packet mark, one bit, that nothing else on the host uses.
    pub route_mark: u32,
    /// Routing table that only the daemon uses.
    pub table: u32,
    /// Priority of the policy routing rule.
    pub rule_priority: u32,
}

/// The running data plane.
///
/// Dropping it leaves everything in place: programs, table and routes go on without the daemon, and
/// new connections are treated as on a proxy that is down. [`Steering::stop`] removes all.
pub struct Steering {
    setup: SteeringSetup,
    pins: Pins,
    ebpf: Ebpf,
    maps: Maps,
    rules: Vec<PolicyRule>,
    /// This host's addresses, as they are in the table.
    addresses: Vec<IpAddr>,
    /// Prefixes that are not reached over the bridge, as they were last told of.
    elsewhere: Vec<Prefix>,
}

impl Steering {
    /// Starts steering by `rules`, or takes over from the daemon that did before. Redirecting rules
    /// take effect with the first listener and heartbeat.
    ///
    /// # Errors
    /// When the setup does not fit the host, or the kernel refuses. The table that was in force
    /// stays; where none was, nothing is left behind.
    pub async fn start(setup: SteeringSetup, rules: &[PolicyRule]) -> Result<Self, SteeringError> {
        check(&setup)?;
        // Before anything is loaded: a wrong name must leave nothing behind.
        route::with_netlink(async |handle| {
            hooks(&setup.mode, &interface::list(&handle).await?).outcome
        })
        .await?;
        let pins = Pins::new(&setup.pin_directory);
        let is_first = !pins.exist();
        let started = Self::bring_up(setup.clone(), rules).await;
        if started.is_err() && is_first {
            undo(&pins).await;
        }
        started
    }

    /// Hooks and routes first, the table last: packets are given away only when all can take them.
    async fn bring_up(setup: SteeringSetup, rules: &[PolicyRule]) -> Result<Self, SteeringError> {
        let pins = Pins::new(&setup.pin_directory);
        let mut ebpf = load::load(&pins)?;
        let mut maps = Maps::take(&mut ebpf)?;
        // Before the programs use another mark than the daemon before.
        route::with_netlink(async |handle| route::add(&handle, &setup.routing).await).await?;
        maps.set_settings(Settings {
            socket_mark: setup.socket_mark,
            route_mark: setup.routing.route_mark,
            heartbeat_limit_ns: HEARTBEAT_LIMIT_NS,
        })?;
        let (addresses, elsewhere) = (Vec::new(), Vec::new());
        let mut steering =
            Self { setup, pins, ebpf, maps, rules: Vec::new(), addresses, elsewhere };
        steering.publish(rules).await?;
        steering.pins.remove_other_layouts()?;
        Ok(steering)
    }

    /// Registers the listeners that redirected connections go to; either may be absent.
    ///
    /// # Errors
    /// When a descriptor is not a listening TCP socket.
    pub fn register_listeners(
        &mut self,
        v4: Option<BorrowedFd<'_>>,
        v6: Option<BorrowedFd<'_>>,
    ) -> Result<(), SteeringError> {
        self.maps.set_listeners(v4, v6)
    }

    /// Puts `rules` in force for new connections.
    ///
    /// # Errors
    /// When they do not fit the table, or hooks and routes are not as they should be; the old
    /// rules stay.
    pub async fn publish(&mut self, rules: &[PolicyRule]) -> Result<(), SteeringError> {
        let addresses = own_addresses().await?;
        let table = compiled(rules, &addresses)?;
        let before = mem::replace(&mut self.rules, rules.to_vec());
        let arranged = self.arrange().await;
        let published = arranged.and_then(|()| sync::publish(&mut self.maps, &table));
        if published.is_err() {
            self.rules = before;
            return published;
        }
        self.addresses = addresses;
        self.name_policies()
    }

    /// Names the policies beside their counters.
    fn name_policies(&mut self) -> Result<(), SteeringError> {
        for PolicyRule { name, rule, .. } in &self.rules {
            self.maps.set_name(u32::from(rule.policy), name)?;
        }
        Ok(())
    }

    /// Brings hooks, routes and table to what they should be: call it now and then, so that an
    /// interface or bridge port that comes later is steered, a route that somebody removed comes
    /// back, and this host's own addresses are those it has now.
    ///
    /// # Errors
    /// With the first thing that failed: an interface is missing, or the kernel refuses. All else
    /// is as it should be.
    pub async fn reconcile(&mut self) -> Result<(), SteeringError> {
        let arranged = self.arrange().await;
        arranged.and(self.follow_addresses().await)
    }

    async fn follow_addresses(&mut self) -> Result<(), SteeringError> {
        let addresses = own_addresses().await?;
        if addresses != self.addresses {
            sync::publish(&mut self.maps, &compiled(&self.rules, &addresses)?)?;
            self.addresses = addresses;
        }
        Ok(())
    }

    /// Brings hooks and routes to what they should be.
    async fn arrange(&mut self) -> Result<(), SteeringError> {
        route::with_netlink(async |handle| {
            // Each is tried whatever became of the others: a port that is missing must not leave
            // another unsteered.
            let routing = self.setup.routing;
            let routed = route::add(&handle, &routing).await;
            let interfaces = interface::list(&handle).await?;
            let attached = self.attach_all(&interfaces);
            let reached = self.reach_servers(&handle, &interfaces).await;
            let tidied = route::remove_outdated(&handle, &routing).await;
            routed.and(attached).and(reached).and(tidied)
        })
        .await
    }

    /// The daemon's sign of life, to be sent by a task of its own.
    ///
    /// # Errors
    /// When the map cannot be opened.
    pub fn heartbeat(&self) -> Result<Heartbeat, SteeringError> {
        Heartbeat::open(self.pins.maps())
    }

    /// State and counters.
    ///
    /// # Errors
    /// When the maps cannot be read.
    pub fn status(&self) -> Result<Status, SteeringError> {
        status(&self.setup.pin_directory)
    }

    /// Stops steering: removes hooks, maps, rules and routes, and unmounts the BPF file system that
    /// was mounted for the pins. Packets pass as if no gateway were there.
    ///
    /// # Errors
    /// With the first thing that could not be removed; all else is gone.
    pub async fn stop(self) -> Result<(), SteeringError> {
        remove(&self.pins).await
    }

    fn attach_all(&mut self, interfaces: &[Interface]) -> Result<(), SteeringError> {
        let Hooks { wanted, outcome } = hooks(&self.setup.mode, interfaces);
        let mut outcome = outcome;
        for (program, interface) in &wanted {
            outcome = outcome.and(self.attach(*program, interface));
        }
        let keep: Vec<_> =
            wanted.iter().map(|(program, interface)| (*program, interface.index)).collect();
        outcome.and(self.pins.detach_others(&keep))
    }

    fn attach(&mut self, program: Program, interface: &Interface) -> Result<(), SteeringError> {
        if program == Program::ClassifyPort {
            let address = interface
                .address
                .ok_or_else(|| SteeringError::NoPortAddress { name: interface.name.clone() })?;
            self.maps.set_port(interface.index, Port { address, reserved: [0; 2] })?;
        }
        load::attach(&mut self.ebpf, &self.pins, program, interface)
    }

    async fn reach_servers(
        &mut self,
        handle: &Handle,
        interfaces: &[Interface],
    ) -> Result<(), SteeringError> {
        let Mode::Bridge { bridge } = &self.setup.mode else { return Ok(()) };
        let bridge = interface::find(interfaces, bridge)?;
        let served = served_prefixes(&self.rules);
        let elsewhere = route::reach_through_bridge(handle, bridge.index, &served).await?;
        for prefix in elsewhere.iter().filter(|prefix| !self.elsewhere.contains(prefix)) {
            tracing::warn!(
                %prefix,
                bridge = bridge.name,
                "The proxy reaches this subnet only by routes that do not lead over the bridge; if \
                 it is behind the bridge, add a route to it"
            );
        }
        self.elsewhere = elsewhere;
        Ok(())
    }
}

async fn own_addresses() -> Result<Vec<IpAddr>, SteeringError> {
    route::with_netlink(async |handle| interface::addresses(&handle).await).await
}

fn compiled(rules: &[PolicyRule], addresses: &[IpAddr]) -> Result<Vec<Entry>, SteeringError> {
    compile(&plan::on_host(rules, addresses)).map_err(SteeringError::Compile)
}

/// Removes all there is in this namespace; the first failure is told.
async fn remove(pins: &Pins) -> Result<(), SteeringError> {
    // Hooks before routes, or what they mark would be routed on.
    let unpinned = pins.remove();
    let unrouted = route::with_netlink(async |handle| route::remove(&handle).await).await;
    unpinned.and(unrouted).and(pins.unmount())
}

/// Takes back a first start that failed, as far as that can be done.
async fn undo(pins: &Pins) {
    // The daemon of another version goes on, and shares the routes.
    let others = pins.other_layouts().is_ok_and(|layouts| !layouts.is_empty());
    let removed = if others { pins.remove() } else { remove(pins).await };
    if let Err(error) = removed {
        tracing::warn!(%error, "A start that failed left something behind");
    }
}

/// Checks what can be checked before anything is loaded.
fn check(setup: &SteeringSetup) -> Result<(), SteeringError> {
    let (route_mark, socket_mark) = (setup.routing.route_mark, setup.socket_mark);
    let single = route_mark.is_power_of_two() && socket_mark.is_power_of_two();
    if !single || route_mark == socket_mark {
        return Err(SteeringError::Marks { route_mark, socket_mark });
    }
    match &setup.mode {
        Mode::Router { client_interfaces, server_interfaces } => {
            route::check_forwarding()?;
            let names: Vec<_> =
                client_interfaces.iter().chain(server_interfaces).map(String::as_str).collect();
            route::check_source_validation(&names)
        }
        Mode::Bridge { bridge } => route::check_source_validation(&[bridge]),
    }
}

/// Which program belongs on which interface, as far as the interfaces are there.
struct Hooks<'a> {
    wanted: Vec<(Program, &'a Interface)>,
    /// The first interface that is missing or unfit.
    outcome: Result<(), SteeringError>,
}

impl<'a> Hooks<'a> {
    fn add(&mut self, program: Program, interface: Result<&'a Interface, SteeringError>) {
        match interface {
            Ok(interface) => self.wanted.push((program, interface)),
            Err(error) => self.fail(error),
        }
    }

    fn fail(&mut self, error: SteeringError) {
        if self.outcome.is_ok() {
            self.outcome = Err(error);
        }
    }
}

fn hooks<'a>(mode: &Mode, interfaces: &'a [Interface]) -> Hooks<'a> {
    let mut hooks = Hooks { wanted: Vec::new(), outcome: Ok(()) };
    match mode {
        Mode::Router { client_interfaces, server_interfaces } => {
            for name in client_interfaces {
                hooks.add(Program::Classify, interface::find(interfaces, name));
            }
            // What classifies also brings back answers: one program is enough on an interface
            // that has both sides.
            for name in server_interfaces.iter().filter(|name| !client_interfaces.contains(name)) {
                hooks.add(Program::ReturnPath, interface::find(interfaces, name));
            }
        }
        Mode::Bridge { bridge } => match interface::find(interfaces, bridge) {
            Err(error) => hooks.fail(error),
            Ok(bridge) => {
                // Before the ports, which hand frames up to it.
                hooks.add(Program::Deliver, Ok(bridge));
                let ports = interfaces.iter().filter(|one| one.controller == Some(bridge.index));
                hooks.wanted.extend(ports.map(|port| (Program::ClassifyPort, port)));
                if hooks.wanted.len() == 1 {
                    hooks.fail(SteeringError::NoPorts { name: bridge.name.clone() });
                }
            }
        },
    }
    hooks
}

/// The subnets of clients and servers that the proxy must reach.
fn served_prefixes(rules: &[PolicyRule]) -> Vec<Prefix> {
    let mut served: Vec<Prefix> = Vec::new();
    for PolicyRule { rule, .. } in rules {
        for prefix in rule.sources.iter().chain(&rule.destinations) {
            if !served.contains(prefix) {
                served.push(*prefix);
            }
        }
    }
    served
}
