//! The data plane, as the daemon sees it: programs on interfaces, rules in their table, routes for
//! what they steer, and counters.
//!
//! Everything is done in the network namespace of the calling thread. One pin directory belongs to
//! one namespace.

mod error;
mod interface;
mod load;
mod maps;
mod route;
mod stats;
mod sync;
pub mod plan;

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use aya::Ebpf;
use rtnetlink::Handle;
use steering_common::action::Action;
use steering_common::layout::{Port, Settings};
use steering_common::limits::HEARTBEAT_LIMIT_NS;
use steering_common::rule::{Prefix, Rule};

use self::interface::Interface;
use self::load::{Pins, Program};
use self::maps::Maps;

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
    attached: BTreeSet<(Program, u32)>,
    served: Vec<Prefix>,
}

impl Steering {
    /// Starts steering by `rules`, or takes over from the daemon that did before. Redirecting rules
    /// take effect with the first listener and heartbeat.
    ///
    /// # Errors
    /// When the setup does not fit the host, or the kernel refuses; what was in force stays.
    pub async fn start(setup: SteeringSetup, rules: &[Rule]) -> Result<Self, SteeringError> {
        check(&setup)?;
        // Before anything is loaded: a wrong name must leave nothing behind.
        route::with_netlink(async |handle| {
            hooks(&setup.mode, &interface::list(&handle).await?).map(|_hooks| ())
        })
        .await?;
        let pins = Pins::new(&setup.pin_directory);
        let mut ebpf = load::load(&pins)?;
        let mut maps = Maps::take(&mut ebpf)?;
        maps.set_settings(Settings {
            socket_mark: setup.socket_mark,
            route_mark: setup.routing.route_mark,
            heartbeat_limit_ns: HEARTBEAT_LIMIT_NS,
        })?;
        let attached = BTreeSet::new();
        let mut steering = Self { setup, pins, ebpf, maps, attached, served: Vec::new() };
        steering.publish(rules).await?;
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

    /// Puts `rules` in force for new connections and gives the table entries they take.
    ///
    /// # Errors
    /// When they do not fit the table; the old rules stay.
    pub async fn publish(&mut self, rules: &[Rule]) -> Result<usize, SteeringError> {
        let entries = sync::publish(&mut self.maps, rules)?;
        self.served = served_prefixes(rules);
        self.reconcile().await?;
        Ok(entries)
    }

    /// Brings hooks and routes to what they should be: call it now and then, so that an interface
    /// or bridge port that comes later is steered, and a route that somebody removed comes back.
    ///
    /// # Errors
    /// When an interface is missing, or the kernel refuses.
    pub async fn reconcile(&mut self) -> Result<(), SteeringError> {
        route::with_netlink(async |handle| {
            route::reconcile(&handle, &self.setup.routing).await?;
            let interfaces = interface::list(&handle).await?;
            self.attach_all(&interfaces)?;
            self.reach_servers(&handle, &interfaces).await
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

    /// Stops steering: removes hooks, maps, rule, routes. Packets pass as if no gateway were there.
    ///
    /// # Errors
    /// At the first thing that cannot be removed.
    pub async fn stop(self) -> Result<(), SteeringError> {
        self.pins.remove()?;
        route::with_netlink(async |handle| route::remove(&handle, &self.setup.routing).await).await
    }

    fn attach_all(&mut self, interfaces: &[Interface]) -> Result<(), SteeringError> {
        let wanted = hooks(&self.setup.mode, interfaces)?;
        for (program, interface) in &wanted {
            if *program == Program::ClassifyPort
                && let Some(address) = interface.address
            {
                self.maps.set_port(interface.index, Port { address, reserved: [0; 2] })?;
            }
            if self.attached.insert((*program, interface.index)) {
                load::attach(&mut self.ebpf, &self.pins, *program, interface)?;
            }
        }
        let keep: Vec<_> =
            wanted.iter().map(|(program, interface)| (*program, interface.index)).collect();
        self.attached.retain(|hook| keep.contains(hook));
        self.pins.detach_others(&keep)
    }

    async fn reach_servers(
        &self,
        handle: &Handle,
        interfaces: &[Interface],
    ) -> Result<(), SteeringError> {
        let Mode::Bridge { bridge } = &self.setup.mode else { return Ok(()) };
        let bridge = interface::find(interfaces, bridge)?;
        let unreachable = route::reach_through_bridge(handle, bridge.index, &self.served).await?;
        for prefix in unreachable {
            tracing::warn!(
                %prefix,
                bridge = bridge.name,
                "No route through the bridge; the proxy reaches only what other routes cover"
            );
        }
        Ok(())
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

/// Which program belongs on which interface.
fn hooks<'a>(
    mode: &Mode,
    interfaces: &'a [Interface],
) -> Result<Vec<(Program, &'a Interface)>, SteeringError> {
    let mut hooks = Vec::new();
    match mode {
        Mode::Router { client_interfaces, server_interfaces } => {
            for name in client_interfaces {
                hooks.push((Program::Classify, interface::find(interfaces, name)?));
            }
            // What classifies also brings back answers: one program is enough on an interface
            // that has both sides.
            for name in server_interfaces.iter().filter(|name| !client_interfaces.contains(name)) {
                hooks.push((Program::ReturnPath, interface::find(interfaces, name)?));
            }
        }
        Mode::Bridge { bridge } => {
            let bridge = interface::find(interfaces, bridge)?;
            let ports = interfaces.iter().filter(|one| one.controller == Some(bridge.index));
            hooks.extend(ports.map(|port| (Program::ClassifyPort, port)));
            if hooks.is_empty() {
                return Err(SteeringError::NoPorts { name: bridge.name.clone() });
            }
            // Before the ports, which hand frames up to it.
            hooks.insert(0, (Program::Deliver, bridge));
        }
    }
    Ok(hooks)
}

/// The subnets of clients and servers that the proxy must reach.
fn served_prefixes(rules: &[Rule]) -> Vec<Prefix> {
    let mut served: Vec<Prefix> = Vec::new();
    for rule in rules.iter().filter(|rule| rule.action == Action::Redirect) {
        for prefix in rule.sources.iter().chain(&rule.destinations) {
            if !served.contains(prefix) {
                served.push(*prefix);
            }
        }
    }
    served
}
