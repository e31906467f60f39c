//! The world itself, without a gateway's daemon: what the other tests stand on.

use std::fs;
use std::process::Command;
use std::time::Duration;

use e2e::capture::Capture;
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::output;
use e2e::terminal::Size;
use e2e::wait::{Stopwatch, wait_until};
use e2e::world::{Family, Host, Mode, World};

const LIMIT: Duration = Duration::from_secs(15);

/// Without the daemon, everything passes in both modes and both IP versions.
#[test]
fn peers_reach_each_other_directly() {
    for mode in [Mode::Router, Mode::Bridge] {
        let world = World::new(mode).unwrap();
        let server = Sshd::start(&world).unwrap();
        let client = Client::new(&world, "alice").unwrap();
        for family in Family::ALL {
            let to = world.address(Host::Server, family);
            let call = client
                .ssh()
                .arg(format!("alice@{to}"))
                .arg("echo out; echo err >&2; exit 7")
                .reply(sshd::ASKS, sshd::PASSWORD);
            let run = call.run(LIMIT).unwrap();
            assert_eq!(run.code(), 7, "{mode:?} {family:?} {}", run.stderr);
            assert_eq!(run.text(), "out\n", "{mode:?} {family:?}");
            let from = world.address(Host::Client, family).to_string();
            server.logged(&["Accepted", "for alice", &from]).unwrap();
        }
    }
}

/// A dialogue in a terminal: size, change of size, and the key that interrupts.
#[test]
fn a_terminal_is_one() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let to = world.address(Host::Server, Family::V4);
    let call = client.ssh().arg(format!("alice@{to}")).reply(sshd::ASKS, sshd::PASSWORD);
    let mut terminal = call.terminal(Size { rows: 31, columns: 101 }).unwrap();
    terminal.send("stty size; echo size-$((1+1))\r").unwrap();
    assert!(terminal.expect("size-2", LIMIT).unwrap().contains("31 101"));
    terminal.resize(Size { rows: 41, columns: 121 }).unwrap();
    wait_until("the new size", LIMIT, || {
        terminal.send("stty size\r").unwrap();
        terminal.expect("41 121", Duration::from_millis(500)).is_ok()
    })
    .unwrap();
    terminal.send("echo started-$((1+1)); cat\r").unwrap();
    terminal.expect("started-2", LIMIT).unwrap();
    terminal.send("\u{3}").unwrap();
    // The interrupt throws away what was typed before the prompt is back.
    terminal.expect("$ ", LIMIT).unwrap();
    terminal.send("echo $((100+30))\r").unwrap();
    terminal.expect("130", LIMIT).unwrap();
    terminal.send("exit 5\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(5));
}

/// What a client sends is in the capture of both ends, and only once in each.
#[test]
fn a_capture_has_every_frame() {
    let world = World::router().unwrap();
    let at_client = Capture::start(&world.client).unwrap();
    let at_server = Capture::start(&world.server).unwrap();
    let to = world.address(Host::Server, Family::V4);
    let pings = ["-c", "5", "-i", "0.01", "-p", "e2e0e2e0", &to.to_string()];
    output(world.client.command("ping").args(pings)).unwrap();
    for capture in [at_client, at_server] {
        let frames = capture.stop().unwrap();
        let marked = |frame: &&Vec<u8>| frame.windows(4).any(|w| w == [0xe2, 0xe0, 0xe2, 0xe0]);
        assert_eq!(frames.iter().filter(marked).count(), 10, "requests and replies");
    }
}

/// A condition that never holds ends the wait at its limit.
#[test]
fn waiting_has_a_limit() {
    let clock = Stopwatch::start();
    let limit = Duration::from_millis(50);
    let error = wait_until("nothing", limit, || false).unwrap_err().to_string();
    assert_eq!(error, "waited 50 ms in vain: nothing");
    assert!(clock.elapsed() >= limit && clock.elapsed() < LIMIT);
}

/// A program that does not end is killed, and its test hears of it.
#[test]
fn programs_have_a_limit() {
    let world = World::router().unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let call = client.call("cat").arg("/dev/zero");
    let error = call.run(Duration::from_millis(50)).unwrap_err().to_string();
    assert!(error.contains("the end of cat"), "{error}");
}

/// Neither namespaces nor processes nor files nor mounts outlive a world.
#[test]
fn nothing_is_left_behind() {
    let world = World::bridge().unwrap();
    let server = Sshd::start(&world).unwrap();
    let names = [&world.client, &world.gateway, &world.server].map(|ns| ns.name().to_owned());
    let directory = world.directory().to_owned();
    let left = |what: &str| names.iter().any(|name| what.contains(name));
    assert!(left(&output(Command::new("ip").args(["netns", "list"])).unwrap()));
    drop(server);
    drop(world);
    assert!(!left(&output(Command::new("ip").args(["netns", "list"])).unwrap()));
    assert!(!directory.exists());
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(&*directory.to_string_lossy()), "{mounts}");
    let commands = fs::read_dir("/proc").unwrap().flatten();
    for process in commands {
        let command = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let command = String::from_utf8_lossy(&command).into_owned();
        assert!(!command.contains(&*directory.to_string_lossy()), "{command}");
    }
}
