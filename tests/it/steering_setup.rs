//! Setting steering up and taking it down, on hosts that are not as they should be.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use e2e::wait::wait_until;
use e2e::world::{BRIDGE, CLIENT_INTERFACE, Family, Host, Mode, SERVER_INTERFACE, World};
use proxyd::net::socket::{AddressFamily as SocketFamily, transparent_listener};
use proxyd::steering::plan::PolicyRule;
use proxyd::steering::trace::Tracer;
use proxyd::steering::{
    FastPath, HeldPairs, Listeners, Mode as SteeringMode, Routing, Steering, SteeringError,
    SteeringSetup, status,
};
use steering_common::action::{Action, OnDown};
use steering_common::compile::Room;
use steering_common::limits::{CELLS_MAX, POLICY_NAME_BYTES};
use steering_common::rule::{PortRange, Prefix, Rule};
use steering_common::stats::Reason;
use tokio::runtime::Builder;

use crate::stage::LIMIT;

/// A connection that has not come about by then is taken for dropped.
const DROPPED_AFTER: Duration = Duration::from_millis(300);

/// No proxy listens.
pub(crate) const NOBODY: Listeners<'static> = Listeners { v4: None, v6: None };

/// The table, mark and priority of a test's steering.
const ROUTING: Routing = Routing { route_mark: 1, table: 4242, rule_priority: 90 };

/// A gateway as a world has it, without a fast path.
pub(crate) fn setup(world: &World) -> SteeringSetup {
    let mode = match world.mode() {
        Mode::Router => SteeringMode::Router {
            client_interfaces: vec![CLIENT_INTERFACE.to_owned()],
            server_interfaces: vec![SERVER_INTERFACE.to_owned()],
        },
        Mode::Bridge => SteeringMode::Bridge { bridge: BRIDGE.to_owned() },
    };
    let (pin_directory, room) = (world.pin_directory(), Room { bytes: 1 << 28, cells: CELLS_MAX });
    SteeringSetup {
        mode,
        routing: ROUTING,
        socket_mark: 2,
        pin_directory,
        room,
        fast_path: FastPath::Off,
        fast_path_unchecked: false,
        takes_over: false,
    }
}

/// A policy for port 22 of these subnets, whose connections are dropped while no proxy listens.
fn policy(to: &[&str]) -> PolicyRule {
    let prefix = |to: &&str| {
        let net: ipnet::IpNet = to.parse().unwrap();
        Prefix::new(net.addr(), net.prefix_len()).unwrap()
    };
    let rule = Rule {
        sources: vec![],
        destinations: to.iter().map(prefix).collect(),
        ports: vec![PortRange::new(22, 22).unwrap()],
        interfaces: vec![],
        vlans: vec![],
        action: Action::Redirect,
        on_down: OnDown::Drop,
        policy: 0,
        spares_host: true,
    };
    PolicyRule { name: to.concat(), rule, new_connections_per_s: 0 }
}

/// Runs `work` in the gateway's namespace.
pub(crate) fn on_gateway<T: Send>(world: &World, work: impl AsyncFnOnce() -> T + Send) -> T {
    let run = || Builder::new_current_thread().enable_all().build().unwrap().block_on(work());
    world.gateway.inside(run).unwrap()
}

/// The kernel takes a program off a moment after its pin is gone.
fn assert_programs(interface: &str, expected: &[&str]) {
    let what = format!("{expected:?} to be what runs on {interface}");
    wait_until(&what, LIMIT, || programs_on(interface) == expected).unwrap();
}

/// Names of the programs that the kernel runs on an interface of the calling thread's namespace.
fn programs_on(interface: &str) -> Vec<String> {
    let (_, programs) = SchedClassifier::query_tcx(interface, TcAttachType::Ingress).unwrap();
    programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect()
}

#[test]
fn interfaces_come_and_go() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        let mut steering =
            Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.unwrap();
        assert_programs(CLIENT_INTERFACE, &["classify"]);
        assert_programs(SERVER_INTERFACE, &["return_path"]);
        // Another interface with the name and the number of one gone.
        let listed = world.gateway.ip(&format!("-o link show {CLIENT_INTERFACE}")).unwrap();
        let index = listed.split(':').next().unwrap();
        world.gateway.ip(&format!("link del {CLIENT_INTERFACE}")).unwrap();
        let again = format!("link add {CLIENT_INTERFACE} index {index} type veth peer name peer0");
        world.gateway.ip(&again).unwrap();
        assert_programs(CLIENT_INTERFACE, &[]);
        steering.reconcile(true).await.unwrap();
        assert_programs(CLIENT_INTERFACE, &["classify"]);
        // One that is missing does not keep another from being steered.
        world.gateway.ip(&format!("link del {CLIENT_INTERFACE}")).unwrap();
        world.gateway.ip(&format!("link del {SERVER_INTERFACE}")).unwrap();
        let again = format!("link add {SERVER_INTERFACE} type veth peer name peer0");
        world.gateway.ip(&again).unwrap();
        let error = steering.reconcile(true).await.unwrap_err();
        assert!(matches!(error, SteeringError::NoInterface { .. }), "{error}");
        assert_programs(SERVER_INTERFACE, &["return_path"]);
        steering.stop().await.unwrap();
        assert_programs(SERVER_INTERFACE, &[]);
    });
}

#[test]
fn a_start_that_fails_changes_nothing() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        let foreign = "blackhole 192.0.2.0/24 table 4242";
        world.gateway.ip(&format!("route add {foreign}")).unwrap();
        let failed =
            Steering::start(setup(&world), &[policy(&["0.0.0.0/0"])], NOBODY, HeldPairs::default())
                .await;
        let error = failed.err().expect("a table that is in use");
        assert!(matches!(error, SteeringError::TableInUse { table: 4242 }), "{error}");
        assert_eq!(world.pins().unwrap(), Vec::<PathBuf>::new());
        assert_programs(CLIENT_INTERFACE, &[]);
        assert!(!world.gateway.ip("rule list").unwrap().contains("4242"));
        // A second start does not take down what the first one made.
        world.gateway.ip(&format!("route del {foreign}")).unwrap();
        drop(Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.unwrap());
        world.gateway.ip(&format!("route add {foreign}")).unwrap();
        assert!(Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.is_err());
        assert_programs(CLIENT_INTERFACE, &["classify"]);
        assert!(world.gateway.ip("rule list").unwrap().contains("4242"));
    });
}

#[test]
fn another_mark_and_table_replace_the_old_ones() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        drop(Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.unwrap());
        let other = Routing { route_mark: 4, table: 4343, ..ROUTING };
        let setup = SteeringSetup { routing: other, ..setup(&world) };
        let steering = Steering::start(setup, &[], NOBODY, HeldPairs::default()).await.unwrap();
        for family in ["-4", "-6"] {
            let rules = world.gateway.ip(&format!("{family} rule list")).unwrap();
            assert!(rules.contains("fwmark 0x4/0x4 lookup 4343"), "{rules}");
            assert!(!rules.contains("4242"), "{rules}");
            let routes = world.gateway.ip(&format!("{family} route show table all")).unwrap();
            assert!(routes.contains("table 4343"), "{routes}");
            assert!(!routes.contains("table 4242"), "{routes}");
        }
        steering.stop().await.unwrap();
        for family in ["-4", "-6"] {
            let routes = world.gateway.ip(&format!("{family} route show table all")).unwrap();
            assert!(!routes.contains("table 4343"), "{routes}");
        }
    });
}

#[test]
fn a_stop_removes_what_it_can() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        let steering =
            Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.unwrap();
        let layouts = fs::read_dir(world.pin_directory()).unwrap();
        let layout = layouts.map(|entry| entry.unwrap().path()).next().unwrap();
        // What is no pin cannot be removed as one.
        fs::create_dir(layout.join("links").join("somebody-0")).unwrap();
        let error = steering.stop().await.unwrap_err();
        assert!(matches!(error, SteeringError::PinDirectory { .. }), "{error}");
        assert_eq!(world.pins().unwrap(), Vec::<PathBuf>::new());
        assert_programs(CLIENT_INTERFACE, &[]);
        assert!(!world.gateway.ip("rule list").unwrap().contains("4242"));
    });
}

#[test]
fn a_file_system_of_its_own_is_unmounted() {
    let world = World::router().unwrap();
    let pin_directory = world.subdirectory("no bpf here").unwrap();
    let listed = pin_directory.to_str().unwrap().replace(' ', "\\040");
    let is_mounted =
        || fs::read_to_string("/proc/self/mountinfo").unwrap().contains(&format!(" {listed} "));
    on_gateway(&world, async || {
        let setup = SteeringSetup { pin_directory, ..setup(&world) };
        let steering =
            Steering::start(setup.clone(), &[], NOBODY, HeldPairs::default()).await.unwrap();
        assert!(is_mounted());
        drop(steering);
        Steering::start(setup, &[], NOBODY, HeldPairs::default())
            .await
            .unwrap()
            .stop()
            .await
            .unwrap();
        assert!(!is_mounted());
    });
}

#[test]
fn another_version_is_replaced() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        drop(Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.unwrap());
        let layouts = fs::read_dir(world.pin_directory()).unwrap();
        let layout = layouts.map(|entry| entry.unwrap().path()).next().unwrap();
        let other = layout.with_file_name("v999");
        fs::rename(&layout, &other).unwrap();
        // A start that fails leaves it, and the routes that it needs.
        let foreign = "blackhole 192.0.2.0/24 table 4242";
        world.gateway.ip(&format!("route add {foreign}")).unwrap();
        assert!(Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.is_err());
        assert!(other.exists() && !layout.exists());
        assert!(world.gateway.ip("rule list").unwrap().contains("4242"));
        world.gateway.ip(&format!("route del {foreign}")).unwrap();
        let steering =
            Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.unwrap();
        // The other goes on behind it until it is known to be replaced.
        assert!(other.exists() && layout.exists());
        steering.replace_other_versions().unwrap();
        assert!(!other.exists());
        assert_programs(CLIENT_INTERFACE, &["classify"]);
        steering.stop().await.unwrap();
    });
}

#[test]
fn routes_through_a_bridge() {
    let world = World::bridge().unwrap();
    let routes = || world.gateway.ip("route show").unwrap();
    let is_there = |to: &str| routes().lines().any(|line| line.starts_with(to));
    on_gateway(&world, async || {
        let mut steering =
            Steering::start(setup(&world), &[], NOBODY, HeldPairs::default()).await.unwrap();
        world.gateway.ip("link add mgmt0 type veth peer name peer0").unwrap();
        world.gateway.ip("link set mgmt0 up").unwrap();
        world.gateway.ip("route add 198.51.100.0/24 dev mgmt0").unwrap();
        let served = policy(&["192.0.2.0/24", "198.51.100.0/24", "10.77.1.0/24"]);
        steering.publish(&[served]).await.unwrap();
        assert!(is_there("192.0.2.0/24 dev br0 proto 113"), "{}", routes());
        assert!(is_there("198.51.100.0/24 dev mgmt0"), "{}", routes());
        assert_eq!(routes().matches("proto 113").count(), 1, "{}", routes());
        // A route of the administrator's takes over.
        world.gateway.ip("addr add 192.0.2.1/25 dev br0").unwrap();
        world.gateway.ip("route add 192.0.0.0/16 via 10.77.1.3").unwrap();
        steering.reconcile(true).await.unwrap();
        assert!(!routes().contains("proto 113"), "{}", routes());
        world.gateway.ip("route del 192.0.0.0/16").unwrap();
        steering.reconcile(true).await.unwrap();
        assert!(is_there("192.0.2.0/24 dev br0 proto 113"), "{}", routes());
        // Sessions may go on when their policy is gone; a new daemon has none.
        steering.publish(&[policy(&["10.77.1.0/24"])]).await.unwrap();
        assert!(is_there("192.0.2.0/24 dev br0 proto 113"), "{}", routes());
        drop(steering);
        let left = [policy(&["10.77.1.0/24"])];
        let steering =
            Steering::start(setup(&world), &left, NOBODY, HeldPairs::default()).await.unwrap();
        assert!(!routes().contains("proto 113"), "{}", routes());
        steering.stop().await.unwrap();
    });
}

#[test]
fn who_administers_the_gateway_is_not_locked_out() {
    for mode in [Mode::Router, Mode::Bridge] {
        let world = World::new(mode).unwrap();
        let own = world.gateway.inside(|| TcpListener::bind("[::]:22")).unwrap().unwrap();
        let interface = if mode == Mode::Router { CLIENT_INTERFACE } else { BRIDGE };
        on_gateway(&world, async || {
            let everything = policy(&["0.0.0.0/0", "::/0"]);
            let mut steering =
                Steering::start(setup(&world), &[everything], NOBODY, HeldPairs::default())
                    .await
                    .unwrap();
            for family in Family::ALL {
                let to = world.address(Host::GatewayForClient, family);
                assert!(reaches(&world, to), "{mode:?} {to}");
                assert!(!reaches(&world, world.address(Host::Server, family)), "{mode:?} {to}");
            }
            let later = "10.77.1.77".parse().unwrap();
            world.gateway.ip(&format!("addr add {later}/24 dev {interface}")).unwrap();
            assert!(!reaches(&world, later), "{mode:?}");
            steering.reconcile(true).await.unwrap();
            assert!(reaches(&world, later), "{mode:?}");
            steering.stop().await.unwrap();
        });
        drop(own);
    }
}

/// Counters belong to a policy and not to its place: they go on under its name, also while it is
/// gone, and those of another policy start from nothing.
#[test]
fn counters_follow_the_name() {
    let world = World::router().unwrap();
    let to = world.address(Host::Server, Family::V4);
    let named = |name: &str| PolicyRule { name: name.to_owned(), ..policy(&["10.77.2.0/24"]) };
    let long = "ä".repeat(POLICY_NAME_BYTES);
    on_gateway(&world, async || {
        let mut steering =
            Steering::start(setup(&world), &[named("a")], NOBODY, HeldPairs::default())
                .await
                .unwrap();
        let counted = |steering: &Steering| {
            let policies = steering.status().unwrap().policies;
            policies.into_iter().map(|(name, counts)| (name, counts.down > 0)).collect::<Vec<_>>()
        };
        assert!(!reaches(&world, to));
        assert_eq!(counted(&steering), [("a".to_owned(), true)]);
        steering.publish(&[named("a")]).await.unwrap();
        assert_eq!(counted(&steering), [("a".to_owned(), true)]);
        steering.publish(&[named(&long)]).await.unwrap();
        assert_eq!(counted(&steering), [("a".to_owned(), true)]);
        assert!(!reaches(&world, to));
        let cut = "ä".repeat(POLICY_NAME_BYTES / 2);
        assert_eq!(counted(&steering), [("a".to_owned(), true), (cut, true)]);
        steering.stop().await.unwrap();
    });
}

/// A listener that is withdrawn gets nothing more.
#[test]
fn listeners_come_and_go() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        let v4 = transparent_listener(SocketFamily::V4, 0, 2, 16).unwrap();
        let v6 = transparent_listener(SocketFamily::V6, 0, 2, 16).unwrap();
        let everything = [policy(&["0.0.0.0/0", "::/0"])];
        let to = Family::ALL.map(|family| world.address(Host::Server, family));
        for (name, listens_v4, listens_v6) in [
            ("none", false, false),
            ("both", true, true),
            ("IPv4", true, false),
            ("IPv6", false, true),
            ("none again", false, false),
        ] {
            let (v4, v6) = (listens_v4.then(|| v4.as_fd()), listens_v6.then(|| v6.as_fd()));
            // Each takes over from the one before.
            let listeners = Listeners { v4, v6 };
            drop(
                Steering::start(setup(&world), &everything, listeners, HeldPairs::default())
                    .await
                    .unwrap(),
            );
            assert_eq!(to.map(|to| reaches(&world, to)), [listens_v4, listens_v6], "{name}");
        }
        Steering::start(setup(&world), &[], NOBODY, HeldPairs::default())
            .await
            .unwrap()
            .stop()
            .await
            .unwrap();
    });
}

/// Tables of 100,000 address ranges and 16,000 policies replace one another while connections are
/// opened: each of the policy's reaches the proxy, and each of the others the server.
#[test]
fn large_tables_are_replaced_under_way() {
    let world = World::router().unwrap();
    let server = world.server.inside(|| TcpListener::bind("[::]:80")).unwrap().unwrap();
    let to = world.address(Host::Server, Family::V4);
    let v4 = || transparent_listener(SocketFamily::V4, 0, 2, 512).unwrap();
    let v4 = world.gateway.inside(v4).unwrap();
    let [begun, stop, stopped] = [const { AtomicBool::new(false) }; 3];
    let connect = |port| {
        let connect = || TcpStream::connect_timeout(&(to, port).into(), LIMIT);
        world.client.inside(connect).unwrap()
    };
    thread::scope(|scope| {
        // Or threads would wait for ever when something fails.
        let _ended = SetOnDrop([&stop, &stopped]);
        let opened = scope.spawn(|| {
            let (mut count, mut failed) = (0, Vec::new());
            while !stop.load(Ordering::Relaxed) {
                if begun.load(Ordering::Relaxed) {
                    failed.extend([22, 80].map(connect).into_iter().filter_map(Result::err));
                    count += 1;
                }
            }
            (count, failed)
        });
        let taken = scope.spawn(|| drain(&v4, &stopped));
        let given = scope.spawn(|| drain(&server, &stopped));
        on_gateway(&world, async || {
            let listeners = Listeners { v4: Some(v4.as_fd()), v6: None };
            let [one, other] = [0, 1].map(many_policies);
            let pairs = HeldPairs::default();
            let mut steering =
                Steering::start(setup(&world), &one, listeners, pairs).await.unwrap();
            let table = steering.status().unwrap().table;
            assert!(table.rules == 16_001 && table.prefixes > 100_000, "{table:?}");
            let mut heartbeat = steering.heartbeat().unwrap();
            let stopped = &stopped;
            scope.spawn(move || {
                while !stopped.load(Ordering::Relaxed) {
                    heartbeat.beat().unwrap();
                    thread::yield_now();
                }
            });
            begun.store(true, Ordering::Relaxed);
            for policies in [&other, &one, &other] {
                steering.publish(policies).await.unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            let (count, failed) = opened.join().unwrap();
            stopped.store(true, Ordering::Relaxed);
            assert!(failed.is_empty(), "{failed:?}");
            assert!(count > 10, "{count} connections");
            assert_eq!((taken.join().unwrap(), given.join().unwrap()), (count, count));
            steering.stop().await.unwrap();
        });
    });
}

/// Sets flags when it is dropped.
struct SetOnDrop<'a>([&'a AtomicBool; 2]);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.iter().for_each(|flag| flag.store(true, Ordering::Relaxed));
    }
}

/// 16,000 policies over 100,000 ranges, that of the server's subnet last; `turn` makes them others.
fn many_policies(turn: u32) -> Vec<PolicyRule> {
    let prefix = |number: u32| {
        // 28 bits, scattered over a part of the address space that no host of the test is in.
        let address = 0x2000_0000 | (number.wrapping_mul(2_654_435_761) >> 4 & !15) >> 2;
        Prefix::new(Ipv4Addr::from(address).into(), 28).unwrap()
    };
    let many = (0..16_000).map(|index| {
        let first = (turn * 16_000 + index) * 7;
        let rule =
            Rule { destinations: (first..first + 7).map(prefix).collect(), ..policy(&[]).rule };
        PolicyRule { name: format!("{turn} {index}"), ..PolicyRule { rule, ..policy(&[]) } }
    });
    many.chain([policy(&["10.77.2.0/24"])]).collect()
}

/// Accepts until told to stop and nothing waits; how many there were.
fn drain(listener: &TcpListener, stop: &AtomicBool) -> usize {
    listener.set_nonblocking(true).unwrap();
    let mut count = 0;
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        match listener.accept() {
            Ok(_) => count += 1,
            Err(_) if stopped => return count,
            Err(_) => thread::yield_now(),
        }
    }
}

/// A policy takes as many new connections per second as it says, and leaves other policies alone.
#[test]
fn policies_have_a_pace() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        let v4 = transparent_listener(SocketFamily::V4, 0, 2, 64).unwrap();
        let v6 = transparent_listener(SocketFamily::V6, 0, 2, 64).unwrap();
        let listeners = Listeners { v4: Some(v4.as_fd()), v6: Some(v6.as_fd()) };
        let slow = PolicyRule { new_connections_per_s: 3, ..policy(&["10.77.2.0/24"]) };
        let policies = [slow.clone(), policy(&["::/0"])];
        let mut steering =
            Steering::start(setup(&world), &policies, listeners, HeldPairs::default())
                .await
                .unwrap();
        let [to_v4, to_v6] = Family::ALL.map(|family| world.address(Host::Server, family));
        let reached = |to| (0..8).filter(|_| reaches(&world, to)).count();
        // More than three only where the eight tries take a second or longer.
        let slowly = reached(to_v4);
        assert!((3..8).contains(&slowly), "{slowly}");
        assert_eq!(reached(to_v6), 8);
        let paced = |steering: &Steering| steering.status().unwrap().count(Reason::Paced);
        assert!(paced(&steering) > 0);
        // Without a limit all are taken again.
        let fast = PolicyRule { new_connections_per_s: 0, ..slow };
        steering.publish(&[fast]).await.unwrap();
        let before = paced(&steering);
        assert_eq!(reached(to_v4), 8);
        assert_eq!(paced(&steering), before);
        steering.stop().await.unwrap();
    });
}

/// Verdicts are told while somebody looks, and to one at a time.
#[test]
fn verdicts_are_traced() {
    let world = World::router().unwrap();
    on_gateway(&world, async || {
        let rules = [policy(&["10.77.2.0/24"])];
        let steering =
            Steering::start(setup(&world), &rules, NOBODY, HeldPairs::default()).await.unwrap();
        let [to, client] = [Host::Server, Host::Client].map(|host| world.address(host, Family::V4));
        let v6 = world.address(Host::Server, Family::V6);
        assert!(!reaches(&world, to));
        let mut tracer = Tracer::start(&world.pin_directory()).unwrap();
        let second = Tracer::start(&world.pin_directory()).err().unwrap();
        assert!(matches!(second, SteeringError::Tracing), "{second}");
        assert!(!reaches(&world, to));
        assert!(!reaches(&world, v6));
        let mut next = || loop {
            // The client's kernel sends a SYN again when it gets no answer.
            let verdict = tracer.wait_for_next().unwrap().expect("a verdict");
            if verdict.reason != Reason::DownDropped || verdict.destination.0 == to {
                return verdict;
            }
        };
        let first = next();
        assert_eq!(first.reason, Reason::DownDropped);
        assert_eq!(first.policy.as_deref(), Some("10.77.2.0/24"));
        assert_eq!((first.source.0, first.destination, first.vlan), (client, (to, 22), 0));
        let listed = world.gateway.ip(&format!("-o link show {CLIENT_INTERFACE}")).unwrap();
        assert_eq!(listed.split(':').next().unwrap(), first.ifindex.to_string());
        let mut other = next();
        while other.destination.0 == to {
            other = next();
        }
        assert_eq!((other.reason, other.policy), (Reason::NoRule, None));
        assert_eq!(other.destination, (v6, 22));
        assert_eq!(tracer.lost().unwrap(), 0);
        drop(tracer);
        assert!(!reaches(&world, to));
        let mut later = Tracer::start(&world.pin_directory()).unwrap();
        assert_eq!(later.wait_for_next().unwrap(), None, "what was before it looked");
        drop(later);
        steering.stop().await.unwrap();
    });
}

#[test]
fn state_that_is_not_there_is_told_as_such() {
    let world = World::router().unwrap();
    let error = status(&world.pin_directory()).unwrap_err();
    assert!(matches!(error, SteeringError::NotRunning { .. }), "{error}");
    let other = world.subdirectory("v3").unwrap();
    fs::write(other.join("maps"), "a file").unwrap();
    let error = status(world.directory()).unwrap_err();
    assert!(matches!(error, SteeringError::PinDirectory { .. }), "{error}");
}

/// Whether the client can connect to port 22 of an address.
fn reaches(world: &World, to: IpAddr) -> bool {
    let to = SocketAddr::new(to, 22);
    world.client.inside(|| TcpStream::connect_timeout(&to, DROPPED_AFTER).is_ok()).unwrap()
}
