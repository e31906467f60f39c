//! Floods of SYNs from invented addresses: users still log in, and what no policy names loses
//! nothing.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use e2e::bystander::Bystander;
use e2e::capture::Capture;
use e2e::frame::{SYN, Segment, ethernet};
use e2e::inject::{Injector, hardware_address};
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::wait_until;
use e2e::world::{CLIENT_INTERFACE, Family, Host, Mode, PEER_INTERFACE, World};
use proxyd::steering::status;
use proxyd::steering::trace::Tracer;
use steering_common::stats::Reason;

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, library};

/// SYNs that make a flood: five times what the kernel keeps for a listener (4096).
const SYNS_MIN: u64 = 20_000;

/// SYNs that are sent at once, and the pause after them: tens of thousands in a second.
const BURST: u32 = 200;
const PAUSE: Duration = Duration::from_millis(5);

/// Users who log in during a flood, one after the other.
const USERS: i32 = 5;

/// The port of the first SYN from an invented address.
const FIRST_PORT: u16 = 40_000;

/// What the invented addresses begin with; the gateway finds a way to all of them.
const INVENTED: &str = "10.88.0.0/16";

#[test]
fn through_a_router() {
    floods(Mode::Router);
}

#[test]
fn through_a_bridge() {
    floods(Mode::Bridge);
}

fn floods(mode: Mode) {
    let world = World::new(mode).unwrap();
    let (near, far) =
        (world.address(Host::Client, Family::V4), world.address(Host::OtherServer, Family::V4));
    // Beyond the client's host, as the rest of the world is: answers get there and are lost.
    world.gateway.ip(&format!("route add {INVENTED} via {near}")).unwrap();
    world.client.ip(&format!("route add blackhole {INVENTED}")).unwrap();
    if mode == Mode::Bridge {
        world.server.ip(&format!("route add {INVENTED} via {near}")).unwrap();
    }
    let _server = Sshd::start(&world).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policy = connection(&world, "open", OPEN);
    let anybody = policy.replace("from = [", &format!("from = [\"{INVENTED}\", "));
    let policies = anybody + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let client = Client::new(&world, "alice").unwrap();

    let server = SocketAddr::new(world.address(Host::Server, Family::V4), sshd::PORT);
    let bystander = Bystander::start(&world, &world.client, far).unwrap();
    let at_server = Capture::start(&world.server).unwrap();
    let sent = during_a_flood(&world, server, || {
        for code in 1..=USERS {
            let call =
                client.ssh().arg(format!("alice@{}", server.ip())).arg(format!("exit {code}"));
            let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
            assert_eq!(run.code(), code, "{mode:?}: {}", run.stderr);
        }
    });
    bystander.finish().unwrap();
    let leaked = at_server.stop().unwrap().iter().filter(|frame| is_invented(frame)).count();
    assert_eq!(leaked, 0, "{mode:?}: of {sent} SYNs of a policy");
    let redirected = status(&world.pin_directory()).unwrap().count(Reason::Redirected);
    assert!(redirected >= SYNS_MIN, "{mode:?}: {redirected} of {sent} SYNs were steered");
    assert!(cookies(&world) > 0, "{mode:?}: the kernel kept all of them: the flood is no flood");
    let rows = Records::new(&proxyd).all();
    assert_eq!(rows.len(), usize::try_from(USERS).unwrap(), "{mode:?}: half open became sessions");

    // A server that no policy names has its flood to itself.
    let bystander = Bystander::start(&world, &world.client, far).unwrap();
    let passed = || status(&world.pin_directory()).unwrap().count(Reason::NoRule);
    let passed_before = passed();
    // Somebody looks and does not read: verdicts are lost, and nothing else.
    let tracer = Tracer::start(&world.pin_directory()).unwrap();
    let sent = during_a_flood(&world, SocketAddr::new(far, sshd::PORT), || {
        bystander.await_answers().unwrap();
        let call = client.ssh().arg(format!("alice@{}", server.ip())).arg("exit 7");
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!(run.code(), 7, "{mode:?}: {}", run.stderr);
    });
    bystander.finish().unwrap();
    assert!(tracer.lost().unwrap() > 0, "{mode:?}: the ring took everything");
    let passed = passed() - passed_before;
    assert!(passed >= SYNS_MIN, "{mode:?}: {passed} of {sent} SYNs passed");
}

/// Floods `to` while `work` is done, and until there are enough: how many SYNs were sent.
fn during_a_flood(world: &World, to: SocketAddr, work: impl FnOnce()) -> u64 {
    let (done, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    thread::scope(|scope| {
        let flood = scope.spawn(|| flood(world, to, &done, &sent));
        wait_until("the flood to rise", LIMIT, || sent.load(Ordering::Acquire) >= SYNS_MIN / 4)
            .unwrap();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        let risen =
            wait_until("the flood to be one", LIMIT, || sent.load(Ordering::Acquire) >= SYNS_MIN);
        done.store(true, Ordering::Release);
        flood.join().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        risen.unwrap();
    });
    sent.load(Ordering::Acquire)
}

/// Sends SYNs, each from another address and port, until `done`.
fn flood(world: &World, to: SocketAddr, done: &AtomicBool, sent: &AtomicU64) {
    let wire = Injector::new(&world.client, PEER_INTERFACE).unwrap();
    let own = hardware_address(&world.client, PEER_INTERFACE).unwrap();
    let next = match world.mode() {
        Mode::Router => hardware_address(&world.gateway, CLIENT_INTERFACE),
        Mode::Bridge => hardware_address(&world.server, PEER_INTERFACE),
    };
    let next = next.unwrap();
    let mut number: u32 = 0;
    while !done.load(Ordering::Acquire) {
        for _ in 0..BURST {
            number += 1;
            let [_, turn, high, low] = number.to_be_bytes();
            // Another port when all addresses had their turn, or it would be the same SYN again.
            let port = FIRST_PORT + u16::from(turn);
            let source = SocketAddr::from((Ipv4Addr::new(10, 88, high, low), port));
            let segment = Segment {
                source,
                destination: to,
                sequence: number,
                acknowledgement: 0,
                flags: SYN,
                payload: &[],
            };
            wire.send(&ethernet(next, own, &[], &segment.packet())).unwrap();
        }
        sent.fetch_add(u64::from(BURST), Ordering::AcqRel);
        thread::park_timeout(PAUSE);
    }
}

/// Whether a frame has an invented source address.
fn is_invented(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&[8, 0]) && frame.get(26..28) == Some(&[10, 88])
}

/// SYN cookies that the gateway has sent.
fn cookies(world: &World) -> u64 {
    // What is below /proc/net belongs to the process, not to the thread that is inside.
    let read = || fs::read_to_string("/proc/thread-self/net/netstat");
    let text = world.gateway.inside(read).unwrap().unwrap();
    let lines: Vec<&str> = text.lines().collect();
    // A line of names, then a line of numbers.
    let pair = lines.chunks(2).find(|pair| pair[0].contains("SyncookiesSent")).unwrap();
    let at = pair[0].split_whitespace().position(|word| word == "SyncookiesSent").unwrap();
    pair[1].split_whitespace().nth(at).unwrap().parse().unwrap()
}
