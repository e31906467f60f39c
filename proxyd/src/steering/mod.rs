//! The data plane, as the daemon sees it: programs on interfaces, rules in their table, routes for
//! what they steer, and counters.
//!
//! Everything is done in the network namespace of the calling thread. One pin directory belongs to
//! one namespace.

mod bpffs;
mod error;
mod fast;
mod hook;
mod interface;
mod load;
mod maps;
mod netlink;
mod pairs;
mod probe;
mod route;
mod slots;
mod stats;
mod sync;
pub mod table;
pub mod plan;
pub mod trace;
pub mod watch;

use std::collections::HashSet;
use std::fs::File;
use std::mem;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use aya::maps::MapData;

use nix::fcntl::Flock;
use rtnetlink::Handle;
use steering_common::compile::Room;
use steering_common::layout::{InForce, Port, Settings};
use steering_common::limits::HEARTBEAT_LIMIT_NS;
use steering_common::rule::{Prefix, Rule};

use self::hook::Links;
use self::interface::Interface;
use self::load::{Pins, Program};
use self::maps::{Maps, to_name};
use self::pairs::Past;
use self::plan::PolicyRule;
use self::sync::Generation;

pub use self::error::SteeringError;
pub use self::fast::Unfit;
pub use self::load::OBJECT;
pub use self::maps::Heartbeat;
pub use self::pairs::{HeldPair, HeldPairs};
pub use self::stats::{Hook, Status, status};
pub use crate::config::FastPath;

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
    /// What a table may take.
    pub room: Room,
    /// Where packets that are not steered are forwarded.
    pub fast_path: FastPath,
    /// Whether another daemon steers with these pins and hands over. Without that, one that does
    /// keeps this one from starting.
    pub takes_over: bool,
    /// Whether the fast path at the driver is put on interfaces that it does not fit.
    pub fast_path_unchecked: bool,
}

/// The sockets that redirected connections go to; either may be absent.
#[derive(Debug, Clone, Copy)]
pub struct Listeners<'fd> {
    /// Of IPv4.
    pub v4: Option<BorrowedFd<'fd>>,
    /// Of IPv6.
    pub v6: Option<BorrowedFd<'fd>>,
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

/// Time between two rotations of the filter of address pairs, ten minutes: much longer than
/// anything remains of a closed connection.
const ROTATION_NS: u64 = 600_000_000_000;

/// The running data plane.
///
/// Dropping it leaves everything in place: programs, table and routes go on without the daemon, and
/// new connections are treated as on a proxy that is down. [`Steering::stop`] removes all.
pub struct Steering {
    setup: SteeringSetup,
    pins: Pins,
    generation: Generation,
    maps: Maps,
    pairs: HeldPairs,
    policies: Vec<PolicyRule>,
    /// This host's addresses, as they are in the table.
    addresses: Vec<IpAddr>,
    /// Prefixes that were in a policy since the start: sessions go on when their policy is gone.
    served: Vec<Prefix>,
    /// Prefixes that are not reached over the bridge, as they were last told of.
    elsewhere: Vec<Prefix>,
    /// When the filter of address pairs was last rotated.
    rotated_ns: u64,
    /// Held while no other daemon may use the pins; not before one that hands over has let go.
    lock: Option<Flock<File>>,
    links: Links,
    /// Every map that is pinned, to be pinned again when the pins are lost.
    kept: Vec<(&'static str, MapData)>,
}

impl Steering {
    /// Starts steering by `policies` to `listeners`, or takes over from the daemon that did before.
    /// The daemon has to give its sign of life from now on, and to hold the pairs of hosts that it
    /// has connections between.
    ///
    /// # Errors
    /// When the setup does not fit the host, or the kernel refuses. The table that was in force
    /// stays; where none was, nothing is left behind.
    pub async fn start(
        setup: SteeringSetup,
        policies: &[PolicyRule],
        listeners: Listeners<'_>,
        pairs: HeldPairs,
    ) -> Result<Self, SteeringError> {
        check(&setup)?;
        // Before anything is loaded: a wrong name must leave nothing behind.
        route::with_netlink(async |handle| {
            let interfaces = interface::list(&handle).await?;
            let Hooks { wanted, outcome } = hooks(&setup, &interfaces);
            outcome?;
            wanted.iter().try_for_each(|(program, interface)| fits(&setup, *program, interface))
        })
        .await?;
        let pins = Pins::new(&setup.pin_directory);
        let is_first = !pins.exist();
        let started = Self::bring_up(setup.clone(), policies, listeners, pairs).await;
        if started.is_err() && is_first {
            undo(&pins).await;
        }
        started
    }

    /// The hooks last: packets are given away only when all can take them.
    async fn bring_up(
        setup: SteeringSetup,
        policies: &[PolicyRule],
        listeners: Listeners<'_>,
        pairs: HeldPairs,
    ) -> Result<Self, SteeringError> {
        let began_ns = maps::monotonic_ns()?;
        let pins = Pins::new(&setup.pin_directory);
        let addresses = own_addresses().await?;
        pins.prepare()?;
        let lock = pins.lock()?;
        if lock.is_none() && !setup.takes_over {
            return Err(SteeringError::InUse { directory: setup.pin_directory });
        }
        load::make_maps(&pins)?;
        let kept = maps::keep(pins.maps())?;
        let mut maps = Maps::open(pins.maps())?;
        let is_first = maps.in_force()?.generation == 0;
        let past = match (is_first, pins.other_layouts()?.is_empty()) {
            (false, _) => Past::Kept,
            (true, true) => Past::Ended,
            (true, false) => Past::Elsewhere,
        };
        pairs.attach(pins.maps(), past)?;
        let rules = with_slots(&mut maps, policies)?;
        let generation = sync::build(&pins, &rules, &addresses, setup.room)?;
        // Before the programs use another mark than the daemon before.
        route::with_netlink(async |handle| route::add(&handle, &setup.routing).await).await?;
        maps.set_settings(Settings {
            socket_mark: setup.socket_mark,
            route_mark: setup.routing.route_mark,
            heartbeat_limit_ns: HEARTBEAT_LIMIT_NS,
            fast_path: u32::from(setup.fast_path == FastPath::Tc),
            reserved: 0,
        })?;
        maps.set_listeners(listeners)?;
        let mut steering = Self {
            setup,
            pins,
            generation,
            maps,
            pairs,
            policies: policies.to_vec(),
            addresses,
            served: Vec::new(),
            elsewhere: Vec::new(),
            rotated_ns: began_ns,
            lock,
            links: Links::default(),
            kept,
        };
        steering.heartbeat()?.beat()?;
        steering.serve(policies);
        steering.arrange().await?;
        steering.tell_in_force(began_ns)?;
        Ok(steering)
    }

    /// Removes what a daemon of another version left, whose maps have another layout. Until then
    /// its programs run behind ours, so that it could go on if it is not to be replaced after all.
    ///
    /// # Errors
    /// With the first thing that could not be removed; all else is gone.
    pub fn replace_other_versions(&self) -> Result<(), SteeringError> {
        self.pins.remove_other_layouts()
    }

    /// Puts `policies` in force for new connections.
    ///
    /// # Errors
    /// When they do not fit the table, or hooks and routes are not as they should be; the old
    /// policies stay.
    pub async fn publish(&mut self, policies: &[PolicyRule]) -> Result<(), SteeringError> {
        self.serve(policies);
        self.arrange().await?;
        let addresses = own_addresses().await?;
        self.replace(policies.to_vec(), addresses).await
    }

    /// Replaces the table: all hooks change to the new one, or stay with the old.
    async fn replace(
        &mut self,
        policies: Vec<PolicyRule>,
        addresses: Vec<IpAddr>,
    ) -> Result<(), SteeringError> {
        let began_ns = maps::monotonic_ns()?;
        let rules = with_slots(&mut self.maps, &policies)?;
        let generation = sync::build(&self.pins, &rules, &addresses, self.setup.room)?;
        let before = mem::replace(&mut self.generation, generation);
        if let Err(error) = self.exchange().await {
            self.generation = before;
            if let Err(error) = self.exchange().await {
                tracing::error!(%error, "A hook keeps steering by a table that was given up");
            }
            return Err(error);
        }
        (self.policies, self.addresses) = (policies, addresses);
        self.tell_in_force(began_ns)
    }

    /// Exchanges the programs of all hooks that are there for those of the present generation.
    async fn exchange(&mut self) -> Result<(), SteeringError> {
        let interfaces = route::with_netlink(async |handle| interface::list(&handle).await).await?;
        let Hooks { wanted, .. } = hooks(&self.setup, &interfaces);
        wanted.iter().try_for_each(|(program, interface)| self.attach(*program, interface))
    }

    fn tell_in_force(&mut self, began_ns: u64) -> Result<(), SteeringError> {
        let generation = self.maps.in_force()?.generation + 1;
        let took_ns = maps::monotonic_ns()?.saturating_sub(began_ns);
        self.maps.set_in_force(InForce { generation, took_ns, ..self.generation.sizes })
    }

    /// Brings hooks, routes and table to what they should be: call it every five seconds, so that
    /// an interface or bridge port that comes later is steered, a route that somebody removed comes
    /// back, and this host's own addresses are those it has now.
    ///
    /// `is_alone` while no earlier daemon has sessions left: one of another version holds its pairs
    /// of hosts in a filter of its own, so that ours must not forget any.
    ///
    /// # Errors
    /// With the first thing that failed: an interface is missing, or the kernel refuses. All else
    /// is as it should be.
    pub async fn reconcile(&mut self, is_alone: bool) -> Result<(), SteeringError> {
        let now_ns = maps::monotonic_ns()?;
        if !is_alone {
            self.rotated_ns = now_ns;
        } else if now_ns.saturating_sub(self.rotated_ns) >= ROTATION_NS {
            self.pairs.rotate();
            self.rotated_ns = now_ns;
        }
        self.pairs.refresh();
        if self.lock.is_none() {
            self.lock = self.pins.lock()?;
        }
        let arranged = self.arrange().await;
        arranged.and(self.follow_addresses().await)
    }

    async fn follow_addresses(&mut self) -> Result<(), SteeringError> {
        let addresses = own_addresses().await?;
        if addresses != self.addresses {
            self.replace(self.policies.clone(), addresses).await?;
        }
        Ok(())
    }

    /// Remembers the subnets of clients and servers that the proxy must reach.
    fn serve(&mut self, policies: &[PolicyRule]) {
        let mut known: HashSet<_> = self.served.iter().copied().collect();
        for PolicyRule { rule, .. } in policies {
            for prefix in rule.sources.iter().chain(&rule.destinations) {
                if known.insert(*prefix) {
                    self.served.push(*prefix);
                }
            }
        }
    }

    /// Brings hooks and routes to what they should be.
    async fn arrange(&mut self) -> Result<(), SteeringError> {
        // Somebody may have removed or unmounted what the pins stand on.
        let prepared = self.pins.prepare();
        let pinned = prepared.and_then(|()| maps::pin_again(self.pins.maps(), &self.kept));
        route::with_netlink(async |handle| {
            // Each is tried whatever became of the others: a port that is missing must not leave
            // another unsteered.
            let routing = self.setup.routing;
            let routed = route::add(&handle, &routing).await;
            let interfaces = interface::list(&handle).await?;
            // A hook that cannot be pinned would be lost.
            let attached = pinned.and_then(|()| self.attach_all(&interfaces));
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
        let Self { pins, lock, mut maps, links, .. } = self;
        // First, or frames would be redirected to drivers that do not send them any more.
        let forgotten = maps.forget_devices(&[]);
        // Or hooks would stay, and the file system could not be unmounted.
        drop((links, lock));
        remove(&pins).await.and(forgotten)
    }

    fn attach_all(&mut self, interfaces: &[Interface]) -> Result<(), SteeringError> {
        let Hooks { wanted, outcome } = hooks(&self.setup, interfaces);
        let mut outcome = outcome;
        for (program, interface) in &wanted {
            outcome = outcome.and(self.attach(*program, interface));
        }
        let keep: Vec<_> =
            wanted.iter().map(|(program, interface)| (*program, interface.index)).collect();
        let ports: Vec<_> = keep.iter().map(|(_, ifindex)| *ifindex).collect();
        let fast = keep.iter().filter(|(program, _)| *program == Program::Fast);
        let devices: Vec<_> = fast.map(|(_, ifindex)| *ifindex).collect();
        self.links.keep_only(
            &keep
                .iter()
                .map(|(program, ifindex)| self.pins.link(*program, *ifindex))
                .collect::<Vec<_>>(),
        );
        // Before the programs: many drivers send what is redirected only while they have one.
        outcome
            .and(self.maps.forget_devices(&devices))
            .and(self.pins.detach_others(&keep))
            .and(self.maps.forget_ports(&ports))
    }

    fn attach(&mut self, program: Program, interface: &Interface) -> Result<(), SteeringError> {
        fits(&self.setup, program, interface)?;
        if program == Program::ClassifyPort {
            let address = interface
                .address
                .ok_or_else(|| SteeringError::NoPortAddress { name: interface.name.clone() })?;
            self.maps.set_port(interface.index, Port { address, reserved: [0; 2] })?;
        }
        if program == Program::Fast {
            let address = interface.address;
            let address = address.ok_or_else(|| fast::because(interface, Unfit::NoAddress))?;
            self.maps.set_port(interface.index, Port { address, reserved: [0; 2] })?;
        }
        let Self { generation, pins, links, .. } = self;
        load::attach(&mut generation.ebpf, pins, links, program, interface)?;
        if program == Program::Fast {
            fast::check_sending(interface)?;
            self.maps.set_device(interface.index)?;
        }
        Ok(())
    }

    async fn reach_servers(
        &mut self,
        handle: &Handle,
        interfaces: &[Interface],
    ) -> Result<(), SteeringError> {
        let Mode::Bridge { bridge } = &self.setup.mode else { return Ok(()) };
        let bridge = interface::find(interfaces, bridge)?;
        let elsewhere = route::reach_through_bridge(handle, bridge.index, &self.served).await?;
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

/// The rules of `policies`, each with the counter slot of its policy, which has its name from now.
fn with_slots(maps: &mut Maps, policies: &[PolicyRule]) -> Result<Vec<Rule>, SteeringError> {
    let names: Vec<_> = policies.iter().map(|policy| to_name(&policy.name)).collect();
    let slots = slots::assign(&maps.names()?, &names);
    let slots = slots.ok_or(SteeringError::TooManyPolicies { count: policies.len() })?;
    let mut rules = Vec::with_capacity(policies.len());
    for ((policy, name), slot) in policies.iter().zip(names).zip(slots) {
        if slot.is_new {
            maps.set_name(slot.number, name)?;
        }
        maps.set_pace(slot.number, policy.new_connections_per_s)?;
        rules.push(Rule { policy: slot.number, ..policy.rule.clone() });
    }
    Ok(rules)
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
            route::check_source_validation(&names)?;
            if setup.fast_path != FastPath::Off {
                fast::check_reverse_path(&names)?;
                fast::warn_of_netfilter();
            }
            Ok(())
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

/// Checks that a program may be put on an interface.
fn fits(
    setup: &SteeringSetup,
    program: Program,
    interface: &Interface,
) -> Result<(), SteeringError> {
    if program == Program::Fast && !setup.fast_path_unchecked {
        return fast::check(interface);
    }
    Ok(())
}

fn hooks<'a>(setup: &SteeringSetup, interfaces: &'a [Interface]) -> Hooks<'a> {
    let mut hooks = Hooks { wanted: Vec::new(), outcome: Ok(()) };
    match &setup.mode {
        Mode::Router { client_interfaces, server_interfaces } => {
            for name in client_interfaces {
                hooks.add(Program::Classify, interface::find(interfaces, name));
            }
            // What classifies also brings back answers: one program is enough on an interface
            // that has both sides.
            for name in server_interfaces.iter().filter(|name| !client_interfaces.contains(name)) {
                hooks.add(Program::ReturnPath, interface::find(interfaces, name));
            }
            if setup.fast_path == FastPath::Xdp {
                // After all that steer: what it leaves has to meet them.
                let steered: Vec<_> =
                    hooks.wanted.iter().map(|(_, interface)| *interface).collect();
                hooks.wanted.extend(steered.into_iter().map(|one| (Program::Fast, one)));
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
