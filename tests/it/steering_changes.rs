//! What others do to the host under a running daemon: each has its outcome for connections of a
//! policy, and what no policy names loses nothing over any of them.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use e2e::bystander::{self, Bystander};
use e2e::capture::Capture;
use e2e::netns::Namespace;
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::seen::Seen;
use e2e::terminal::{Size, Terminal};
use e2e::wait::{wait_for, wait_until};
use e2e::world::{Family, GUEST_INTERFACE, Host, Mode, World};
use nix::sys::signal::Signal;
use proxyd::steering::status;

use crate::stage::{Auditor, LIMIT, OPEN, connection, connection_on, library};

/// The port of each policy: what becomes of a new connection while no proxy listens.
const DROP_PORT: u16 = sshd::PORT;
const RESET_PORT: u16 = 2401;
/// The server itself listens here too.
const FORWARD_PORT: u16 = sshd::UNMATCHED_PORT;

/// How long a connection that nobody answers is tried.
const UNANSWERED: Duration = Duration::from_millis(500);

/// Who answers a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Proxy,
    Server,
    Reset,
    Nobody,
}

/// How a reset shows, before the connection is open and after.
const RESETS: [ErrorKind; 2] = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];

/// Connects and reads who greets.
fn answer(from: &Namespace, to: SocketAddr) -> Answer {
    let greeting = from.inside(|| {
        let mut stream = TcpStream::connect_timeout(&to, UNANSWERED)?;
        stream.set_read_timeout(Some(LIMIT))?;
        let mut said = [0; 64];
        let read = stream.read(&mut said)?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&said[..read]).into_owned())
    });
    match greeting.unwrap() {
        Ok(said) if said.contains("proxyd") => Answer::Proxy,
        Ok(said) if said.starts_with("SSH-2.0-OpenSSH_") => Answer::Server,
        Ok(said) => panic!("{to} says {said:?}"),
        Err(error) if RESETS.contains(&error.kind()) => Answer::Reset,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{to}: {error}");
            Answer::Nobody
        }
    }
}

/// The world with its server, daemon and user, and traffic that no policy names.
struct Stage<'w> {
    world: &'w World,
    proxyd: Proxyd<'w>,
    user: Client<'w>,
    bystander: Bystander,
    _server: Sshd<'w>,
}

impl<'w> Stage<'w> {
    /// The bystander is `beside`.
    fn new(world: &'w World, beside: &Namespace) -> Self {
        let server = Sshd::start(world).unwrap();
        let auditor = Auditor::new(world, "auditor");
        let policies = policies(world, &auditor);
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let user = Client::new(world, "alice").unwrap();
        let to = world.address(Host::OtherServer, Family::V4);
        let bystander = Bystander::start(world, beside, to).unwrap();
        Self { world, proxyd, user, bystander, _server: server }
    }

    /// A session of the user's, in which each line typed comes back with a word before it.
    fn session(&self) -> Terminal {
        let to = self.world.address(Host::Server, Family::V4);
        let call = self.user.ssh().args("-o StrictHostKeyChecking=no").arg(format!("alice@{to}"));
        let call =
            call.arg("echo ready; exec sed -u s/^/back-/").env("SSH_ASKPASS_REQUIRE", "never");
        let mut terminal = call.terminal(Size { rows: 24, columns: 80 }).unwrap();
        terminal.expect("assword:", LIMIT).unwrap();
        terminal.send(&format!("{}\r", sshd::PASSWORD)).unwrap();
        terminal.expect("ready", LIMIT).unwrap();
        round_trip(&mut terminal, "begin");
        terminal
    }

    fn server(&self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.world.address(Host::Server, family), port)
    }

    /// The client gets this answer, as soon as anybody answers at all.
    fn assert_answers(&self, family: Family, port: u16, expected: Answer) {
        let to = self.server(family, port);
        let found = wait_for(&format!("an answer at {to}"), LIMIT, || {
            Ok(Some(answer(&self.world.client, to)).filter(|found| *found != Answer::Nobody))
        });
        assert_eq!(found.unwrap(), expected, "{to}");
    }

    /// Waits until the proxy answers `from` on the port of the policy; the server never does.
    fn await_proxy(&self, name: &str, from: &Namespace) {
        for family in Family::ALL {
            let to = self.server(family, DROP_PORT);
            wait_for(&format!("{name}: the proxy to answer at {to}"), LIMIT, || {
                let answer = answer(from, to);
                assert_ne!(answer, Answer::Server, "{name}: around the proxy to {to}");
                Ok((answer == Answer::Proxy).then_some(()))
            })
            .unwrap();
        }
    }
}

/// Types a line and waits for what the program on the server makes of it.
fn round_trip(terminal: &mut Terminal, line: &str) {
    terminal.send(&format!("{line}\r")).unwrap();
    terminal.expect(&format!("back-{line}"), LIMIT).unwrap();
}

/// Policies for the client's whole subnet.
fn policies(world: &World, auditor: &Auditor) -> String {
    let lines = |down: &str| format!("on_proxy_down = \"{down}\"\n{OPEN}");
    let text = [
        connection(world, "drop", &lines("drop")),
        connection_on(world, "reset", RESET_PORT, &lines("reset")),
        connection_on(world, "forward", FORWARD_PORT, &lines("forward")),
        library(auditor, &[]),
    ]
    .concat();
    text.replace("10.77.1.2/32", "10.77.1.0/24").replace("fd77:1::2/128", "fd77:1::/64")
}

/// A daemon that hangs holds its sockets, and still counts as down: new connections meet what
/// their policy says. When it goes on, so does everything.
#[test]
fn a_daemon_that_hangs() {
    let world = World::router().unwrap();
    let mut stage = Stage::new(&world, &world.client);
    let mut session = stage.session();
    let is_alive = || status(&world.pin_directory()).unwrap().is_alive();
    stage.proxyd.process().unwrap().signal(Signal::SIGSTOP).unwrap();
    wait_until("the daemon to count as down", LIMIT, || !is_alive()).unwrap();
    for family in Family::ALL {
        let dropped = answer(&world.client, stage.server(family, DROP_PORT));
        assert_eq!(dropped, Answer::Nobody, "{family:?}");
        stage.assert_answers(family, RESET_PORT, Answer::Reset);
        stage.assert_answers(family, FORWARD_PORT, Answer::Server);
    }
    stage.bystander.await_answers().unwrap();
    stage.proxyd.process().unwrap().signal(Signal::SIGCONT).unwrap();
    wait_until("the daemon to be alive", LIMIT, is_alive).unwrap();
    for family in Family::ALL {
        for port in [DROP_PORT, RESET_PORT, FORWARD_PORT] {
            stage.assert_answers(family, port, Answer::Proxy);
        }
    }
    round_trip(&mut session, "after the hang");
    stage.bystander.finish().unwrap();
}

#[test]
fn routing_that_somebody_removes_from_a_router() {
    routing_that_somebody_removes(Mode::Router);
}

#[test]
fn routing_that_somebody_removes_from_a_bridge() {
    routing_that_somebody_removes(Mode::Bridge);
}

/// Without the rule or its routes steered packets are not this host's. The kernel does not forward
/// what has a socket, so new connections get no answer and sessions wait, until both are back.
fn routing_that_somebody_removes(mode: Mode) {
    let world = World::new(mode).unwrap();
    let stage = Stage::new(&world, &world.client);
    let mut session = stage.session();
    let client = Family::ALL.map(|family| world.address(Host::Client, family));
    let at_server = Capture::start(&world.server).unwrap();
    for (name, what) in [("rule", "rule del lookup 7022"), ("routes", "route flush table 7022")] {
        for version in ["-4", "-6"] {
            world.gateway.ip(&format!("{version} {what}")).unwrap();
        }
        session.send(&format!("{name}\r")).unwrap();
        stage.await_proxy(name, &world.client);
        session.expect(&format!("back-{name}"), LIMIT).unwrap();
    }
    stage.bystander.finish().unwrap();
    for frame in at_server.stop().unwrap() {
        let opens = client.iter().any(|client| Seen::may_open(&frame, *client));
        let is_bystander =
            Seen::read(&frame).is_some_and(|seen| seen.destination_port() == Some(bystander::PORT));
        assert!(!opens || is_bystander, "{mode:?}: the server got {frame:02x?}");
    }
}

/// Another interface with the name of one gone is steered as that was, from when the daemon next
/// looks; until then connections pass there as if there were no gateway.
#[test]
fn an_interface_that_comes_back() {
    let world = World::router().unwrap();
    let guest = world.add_guest().unwrap();
    let stage = Stage::new(&world, &guest);
    stage.assert_answers(Family::V4, DROP_PORT, Answer::Proxy);
    world.unplug_client().unwrap();
    world.replug_client().unwrap();
    await_hooks(&world, &["classify", "return_path"]);
    stage.await_proxy("interface again", &world.client);
    stage.bystander.finish().unwrap();
}

/// A port that joins the bridge is steered like the others, from when the daemon is told of it, and
/// is forgotten when it goes.
#[test]
fn a_port_that_joins_the_bridge() {
    let world = World::bridge().unwrap();
    let stage = Stage::new(&world, &world.client);
    let guest = world.add_guest().unwrap();
    await_hooks(&world, &["classify_port", "classify_port", "classify_port", "deliver"]);
    stage.await_proxy("guest", &guest);
    world.gateway.ip(&format!("link del {GUEST_INTERFACE}")).unwrap();
    await_hooks(&world, &["classify_port", "classify_port", "deliver"]);
    stage.await_proxy("client", &world.client);
    stage.bystander.finish().unwrap();
}

/// Waits until the daemon has pinned hooks of these programs, and each is on an interface.
fn await_hooks(world: &World, expected: &[&str]) {
    wait_until(&format!("{expected:?} to be the hooks"), LIMIT, || {
        let hooks = status(&world.pin_directory()).unwrap().hooks;
        let there = hooks.iter().filter(|hook| {
            let listed = world.gateway.ip("-o link show").unwrap();
            listed.lines().any(|line| line.starts_with(&format!("{}: ", hook.ifindex)))
        });
        there.map(|hook| hook.program.as_str()).eq(expected.iter().copied())
    })
    .unwrap();
}

/// A hook goes with its pin, and connections pass as if there were no gateway; when the daemon next
/// looks it attaches another.
#[test]
fn pins_that_somebody_removes() {
    let world = World::router().unwrap();
    let stage = Stage::new(&world, &world.client);
    for pin in world.pins().unwrap() {
        if pin.parent().unwrap().ends_with("links") {
            fs::remove_file(pin).unwrap();
        }
    }
    await_hooks(&world, &["classify", "return_path"]);
    stage.await_proxy("pins again", &world.client);
    stage.bystander.finish().unwrap();
}

/// The pins are out of sight for whoever looks, but others still see them: nothing changes.
#[test]
fn a_file_system_that_is_hidden() {
    let world = World::router().unwrap();
    let stage = Stage::new(&world, &world.client);
    let mut session = stage.session();
    world.hide_pins().unwrap();
    for family in Family::ALL {
        stage.assert_answers(family, DROP_PORT, Answer::Proxy);
    }
    round_trip(&mut session, "hidden");
    stage.bystander.finish().unwrap();
}

/// The pins are gone with their file system, and the hooks with the pins: a daemon that is started
/// on another one attaches its own.
#[test]
fn a_file_system_that_is_another() {
    let world = World::router().unwrap();
    let mut stage = Stage::new(&world, &world.client);
    world.unmount_pins().unwrap();
    stage.proxyd.kill().unwrap();
    world.remount_pins().unwrap();
    stage.proxyd.launch().unwrap();
    await_hooks(&world, &["classify", "return_path"]);
    stage.await_proxy("another file system", &world.client);
    stage.bystander.finish().unwrap();
    stage.proxyd.stop().unwrap();
    assert_eq!(world.pins().unwrap(), Vec::<PathBuf>::new());
}

/// A second daemon ends before it touches what the first one does.
#[test]
fn a_second_daemon() {
    let world = World::router().unwrap();
    let stage = Stage::new(&world, &world.client);
    let mut session = stage.session();
    let before: Vec<PathBuf> = world.pins().unwrap();
    let first = stage.proxyd.config();
    let text = fs::read_to_string(&first).unwrap();
    let at = stage.proxyd.directory();
    let elsewhere = world.subdirectory("second").unwrap();
    let own_storage =
        text.replace(&format!("{}/", at.display()), &format!("{}/", elsewhere.display()));
    for (name, text) in [("the same configuration", &text), ("storage of its own", &own_storage)] {
        let config = elsewhere.join("proxyd.toml");
        fs::write(&config, text).unwrap();
        let ended = stage.proxyd.command("run --config", &[&config]).unwrap();
        assert_eq!(ended.code(), 1, "{name}: {}", ended.stderr);
        assert!(ended.stderr.contains("7022: Address already in use"), "{name}: {}", ended.stderr);
        assert_eq!(world.pins().unwrap(), before, "{name}");
        stage.await_proxy(name, &world.client);
        round_trip(&mut session, name);
    }
    stage.bystander.finish().unwrap();
}

/// Samples of who answers, over longer than one round of the daemon's is sure to take.
const SAMPLES: usize = 40;

impl Stage<'_> {
    /// However often it is tried, the server never answers `from` on the port of the policy.
    fn assert_never_around(&self, name: &str, from: &Namespace) {
        for sample in 0..SAMPLES {
            let answer = answer(from, self.server(Family::V4, DROP_PORT));
            assert_ne!(answer, Answer::Server, "{name}: around the proxy, sample {sample}");
            self.bystander.await_answers().unwrap();
        }
    }
}

/// Hooks stay while the daemon lives, whatever becomes of their pins.
#[test]
fn no_gap_when_pins_are_removed() {
    let world = World::router().unwrap();
    let stage = Stage::new(&world, &world.client);
    for pin in world.pins().unwrap() {
        if pin.parent().unwrap().ends_with("links") {
            fs::remove_file(pin).unwrap();
        }
    }
    stage.assert_never_around("no pins", &world.client);
    stage.bystander.finish().unwrap();
}

/// Hooks stay while the daemon lives, and it finds a place for new pins.
#[test]
fn no_gap_when_the_file_system_is_unmounted() {
    let world = World::router().unwrap();
    let stage = Stage::new(&world, &world.client);
    world.unmount_pins().unwrap();
    stage.assert_never_around("no file system", &world.client);
    stage.await_proxy("no file system", &world.client);
    stage.bystander.finish().unwrap();
}

/// A daemon that starts on another file system is not held up by the hooks of the one before,
/// whose pins some other process still sees.
#[test]
fn hooks_of_a_hidden_file_system() {
    let world = World::router().unwrap();
    let mut stage = Stage::new(&world, &world.client);
    world.hide_pins().unwrap();
    stage.proxyd.kill().unwrap();
    world.remount_pins().unwrap();
    stage.proxyd.launch().unwrap();
    stage.await_proxy("another file system", &world.client);
    stage.bystander.finish().unwrap();
}

/// Two daemons that share nothing but their pins: the second does not start.
#[test]
fn a_second_daemon_with_the_same_pins() {
    let world = World::router().unwrap();
    let stage = Stage::new(&world, &world.client);
    let text = fs::read_to_string(stage.proxyd.config()).unwrap();
    let elsewhere = world.subdirectory("second").unwrap();
    let own = format!("{}/", stage.proxyd.directory().display());
    let text = text.replace(&own, &format!("{}/", elsewhere.display()));
    let config = elsewhere.join("proxyd.toml");
    fs::write(&config, text.replace("[steering]\n", "[steering]\nlisten_port = 7023\n")).unwrap();
    let ended = stage.proxyd.command("run --config", &[&config]);
    // Whatever it did, the first one serves.
    stage.await_proxy("the first daemon", &world.client);
    assert_eq!(ended.unwrap().code(), 1);
    stage.bystander.finish().unwrap();
}
