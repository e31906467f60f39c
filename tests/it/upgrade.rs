//! One daemon takes over from another: no connection is lost, sessions go on where they are, and
//! whatever goes wrong leaves a gateway that serves.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Process;
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::{Size, Terminal};
use e2e::wait::wait_until;
use e2e::world::{Family, Host, Mode, World};
use nix::sys::signal::Signal;
use nix::sys::stat;
use nix::unistd::mkfifo;
use proxyd::control::Request;
use proxyd::handover::{HandoverError, Link, Reply, Step, VERSION};
use proxyd::session::row::ACTIVE;
use proxyd::steering::status;
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, library};
use crate::traffic::{beside_unmatched_traffic, while_connections_are_opened};

/// Daemons that take over one after the other.
const UPGRADES: usize = 3;

/// More than the openers of connections have at a time.
const LIMITS: &str = "sessions_per_client = 10000\nhandshakes = 10000\n";

/// Exit code of `trail verify` for a trail that another daemon has closed.
const RECOVERED: i32 = 3;

const SIZE: Size = Size { rows: 24, columns: 80 };

/// A gateway whose policy is open.
fn start<'w>(world: &'w World, lines: &str) -> Proxyd<'w> {
    let auditor = Auditor::new(world, "auditor");
    let policies = connection(world, "open", &format!("{OPEN}{lines}")) + &library(&auditor, &[]);
    let settings = Settings { limits: LIMITS, policies: &policies, ..Settings::default() };
    Proxyd::start(world, settings).unwrap()
}

fn log_in<'c>(world: &World, client: &'c Client<'_>) -> Call<'c> {
    let to = world.address(Host::Server, Family::V4);
    client.ssh().arg(format!("alice@{to}")).reply(sshd::ASKS, sshd::PASSWORD)
}

/// A shell that has answered once.
fn shell(world: &World, client: &Client<'_>) -> Terminal {
    let mut terminal = log_in(world, client).terminal(SIZE).unwrap();
    answers(&mut terminal);
    terminal
}

/// Whoever is at the other end answers what is typed.
fn answers(terminal: &mut Terminal) {
    terminal.send("echo $((40000+1))$((50000+2))\r").unwrap();
    terminal.expect("4000150002", LIMIT).unwrap();
}

fn ended(process: &mut Process) {
    wait_until("the end of a daemon", LIMIT, || process.status().unwrap().is_some()).unwrap();
    let status = process.status().unwrap().unwrap();
    assert!(status.success(), "{status}: {}", process.stderr().unwrap());
}

/// The trail of a session is what `trail verify` says it is.
fn verify(proxyd: &Proxyd<'_>, trail: &str, code: i32, word: &str) {
    let key = proxyd.public_key().unwrap();
    let stored = proxyd.trail(trail);
    let verified = proxyd.command(&format!("trail verify --key {key}"), &[&stored]).unwrap();
    assert_eq!(verified.code(), code, "{}{}", verified.text(), verified.stderr);
    assert!(verified.text().contains(word), "{}", verified.text());
}

#[test]
fn through_a_router() {
    three_times_while_connections_are_opened(Mode::Router);
}

#[test]
fn through_a_bridge() {
    three_times_while_connections_are_opened(Mode::Bridge);
}

/// A session lives on through a chain of upgrades, in the daemon that it began in; connections that
/// are opened in a loop do not fail, and what no policy names loses nothing.
fn three_times_while_connections_are_opened(mode: Mode) {
    let world = World::new(mode).unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut proxyd = start(&world, "");
    let mut terminal = shell(&world, &client);
    let session = Records::new(&proxyd).all().remove(0);
    let mut earlier = Vec::new();
    beside_unmatched_traffic(&world, || {
        let opened = while_connections_are_opened(&world, 22, || {
            for _ in 0..UPGRADES {
                earlier.push(proxyd.take_over().unwrap());
                answers(&mut terminal);
            }
        });
        assert!(opened > UPGRADES, "{opened} connections");
    });
    // Those without a session of the user end by themselves.
    let mut first = earlier.remove(0);
    for process in &mut earlier {
        ended(process);
    }
    assert!(first.status().unwrap().is_none(), "{}", first.stderr().unwrap());
    // The one that serves knows the session, and has not taken it for a dead one.
    let id = session.id.to_string();
    let is_listed = |proxyd: &Proxyd<'_>| {
        proxyd.live_sessions().unwrap().iter().any(|live| live["id"].as_str() == Some(&id))
    };
    assert!(is_listed(&proxyd));
    let row = |proxyd: &Proxyd<'_>| {
        Records::new(proxyd).all().into_iter().find(|row| row.id == session.id).unwrap()
    };
    assert_eq!(row(&proxyd).outcome, ACTIVE);

    answers(&mut terminal);
    terminal.send("exit 5\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(5));
    ended(&mut first);
    assert!(first.stderr().unwrap().contains("Another daemon has taken over"));
    let closed = row(&proxyd);
    assert_eq!(closed.outcome, "completed", "{}", closed.reason);
    verify(&proxyd, &closed.trail, 0, "complete");
    assert!(!is_listed(&proxyd));

    // The last one serves, and stops as if it had been the only one.
    let run = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
    proxyd.stop().unwrap();
    assert_eq!(world.pins().unwrap(), Vec::<std::path::PathBuf>::new());
    let left = fs::read_dir(proxyd.directory()).unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name().into_string().unwrap()).collect();
    assert!(!left.iter().any(|name| name.starts_with("control.sock")), "{left:?}");
}

/// Operators reach a session of the daemon before through the one that serves.
#[test]
fn an_operator_ends_a_session_of_the_daemon_before() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut proxyd = start(&world, "");
    let session = log_in(&world, &client).arg("echo up; sleep 1000").start().unwrap();
    wait_until("the session", LIMIT, || session.stdout().unwrap() == b"up\n").unwrap();
    let mut before = proxyd.take_over().unwrap();
    let live = proxyd.live_sessions().unwrap();
    assert_eq!(live.len(), 1, "{live:?}");
    proxyd.terminate(live[0]["id"].as_str().unwrap()).unwrap();
    let over = session.finish(LIMIT).unwrap();
    assert!(over.stderr.contains("ended by an operator"), "{}", over.stderr);
    ended(&mut before);
    let row = Records::new(&proxyd).next().row;
    assert_eq!((row.outcome.as_str(), row.reason.as_str()), ("terminated", "an operator"));
    verify(&proxyd, &row.trail, 0, "complete");
}

/// A reload reaches the sessions of the daemon before, a stop ends them too.
#[test]
fn reload_and_stop_reach_the_daemon_before() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "other");
    for (lines, is_reload) in [("on_reload = \"terminate\"\n", true), ("", false)] {
        let mut proxyd = start(&world, lines);
        let session = log_in(&world, &client).arg("echo up; sleep 1000").start().unwrap();
        wait_until("the session", LIMIT, || session.stdout().unwrap() == b"up\n").unwrap();
        let mut before = proxyd.take_over().unwrap();
        let expected = if is_reload {
            let library = library(&auditor, &[]);
            let settings = Settings { limits: LIMITS, policies: &library, ..Settings::default() };
            proxyd.configure(settings).unwrap();
            let said = proxyd.reload().unwrap().ok().unwrap().text();
            assert!(said.contains("an earlier daemon: sessions ended: 1"), "{said}");
            "which no longer allows it"
        } else {
            proxyd.signal(Signal::SIGTERM).unwrap();
            "ended by the gateway's stop"
        };
        let over = session.finish(LIMIT).unwrap();
        assert!(over.stderr.contains(expected), "{}", over.stderr);
        ended(&mut before);
        let row = Records::new(&proxyd).all().remove(0);
        assert_eq!(row.outcome, "terminated", "{}", row.reason);
        verify(&proxyd, &row.trail, 0, "complete");
        if is_reload {
            proxyd.stop().unwrap();
        } else {
            ended(proxyd.process().unwrap());
        }
        assert_eq!(world.pins().unwrap(), Vec::<std::path::PathBuf>::new());
    }
}

/// The daemon before is killed with a session: the one that serves closes its row and trail.
#[test]
fn the_daemon_before_is_killed() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut proxyd = start(&world, "");
    let session = log_in(&world, &client).arg("echo up; sleep 1000").start().unwrap();
    wait_until("the session", LIMIT, || session.stdout().unwrap() == b"up\n").unwrap();
    let mut before = proxyd.take_over().unwrap();
    // A session of the one that serves is not touched by what is done for the dead one.
    let mut terminal = shell(&world, &client);
    before.kill().unwrap();
    let records = Records::new(&proxyd);
    let oldest = || records.all().pop().unwrap();
    wait_until("the dead daemon's row to be closed", LIMIT, || oldest().outcome == "cut").unwrap();
    wait_until("its trail to be stored", LIMIT, || !oldest().trail_hash.is_empty()).unwrap();
    assert_eq!(oldest().reason, "the daemon ended without closing the session");
    verify(&proxyd, &oldest().trail, RECOVERED, "closed after a crash");
    assert_eq!(session.finish(LIMIT).unwrap().code(), 255);
    assert_eq!(records.all()[0].outcome, ACTIVE);
    answers(&mut terminal);
    terminal.send("exit 6\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(6));
    wait_until("its row", LIMIT, || records.all()[0].outcome == "completed").unwrap();
    verify(&proxyd, &records.all()[0].trail, 0, "complete");
}

/// The daemon that serves dies while the one before still has a session: another start takes
/// neither its row nor its trail for those of a dead daemon.
#[test]
fn the_daemon_that_took_over_is_killed() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut proxyd = start(&world, "");
    let mut terminal = shell(&world, &client);
    let mut before = proxyd.take_over().unwrap();
    proxyd.kill().unwrap();
    answers(&mut terminal);
    proxyd.launch().unwrap();
    answers(&mut terminal);
    let records = Records::new(&proxyd);
    assert_eq!(records.all()[0].outcome, ACTIVE);
    assert_eq!(proxyd.live_sessions().unwrap().len(), 1);
    let run = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
    terminal.send("exit 6\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(6));
    ended(&mut before);
    let row = records.all().pop().unwrap();
    assert_eq!(row.outcome, "completed", "{}", row.reason);
    verify(&proxyd, &row.trail, 0, "complete");
}

/// A daemon that cannot take over, or dies before it does, changes nothing.
#[test]
fn a_daemon_that_does_not_get_there() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut proxyd = start(&world, "");
    let mut terminal = shell(&world, &client);
    let config = fs::read_to_string(proxyd.config()).unwrap();
    let key = proxyd.directory().join("signing.key");
    let serves = |terminal: &mut Terminal, name: &str| {
        answers(terminal);
        let run = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
        assert_eq!(run.code(), 3, "{name}: {}", run.stderr);
    };
    let refused = |name: &str, words: &[&str]| {
        let run = proxyd.spawn("--take-over").unwrap().finish(LIMIT).unwrap();
        assert_eq!(run.code(), 1, "{name}: {}", run.stderr);
        for word in words {
            assert!(run.stderr.contains(word), "{name}: no {word} in {}", run.stderr);
        }
    };
    let opened = while_connections_are_opened(&world, 22, || {
        fs::write(proxyd.config(), config.replace("\"22\"", "\"0\"")).unwrap();
        refused("a bad file", &["ports[0]"]);
        serves(&mut terminal, "a bad file");

        fs::write(proxyd.config(), config.replace("\"22\"", "\"22\", \"23\"")).unwrap();
        refused("policies not in force", &["cannot take over", "ctl reload"]);
        serves(&mut terminal, "policies not in force");

        fs::write(proxyd.config(), config.replace("/trails\"", "/other\"")).unwrap();
        refused("another store", &["takes a restart", "storage.trails"]);
        serves(&mut terminal, "another store");

        fs::write(proxyd.config(), &config).unwrap();
        // It has been offered everything when it finds that it cannot use the key.
        fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
        refused("a key for all to read", &["hands over", "can be read by others"]);
        serves(&mut terminal, "a key for all to read");

        // Without the option it is a second daemon.
        let second = proxyd.spawn("").unwrap().finish(LIMIT).unwrap();
        assert_eq!(second.code(), 1);
        assert!(second.stderr.contains("7022"), "{}", second.stderr);
        serves(&mut terminal, "a second daemon");

        // It waits for a key that nobody writes, and is killed.
        let aside = key.with_extension("aside");
        fs::rename(&key, &aside).unwrap();
        mkfifo(&key, stat::Mode::S_IRUSR).unwrap();
        let mut killed = proxyd.spawn("--take-over").unwrap();
        wait_until("the offer", LIMIT, || killed.stderr().unwrap().contains("hands over")).unwrap();
        killed.kill().unwrap();
        wait_until("the daemon to notice", LIMIT, || {
            proxyd.log().unwrap().matches("Not taken over, this daemon goes on").count() == 4
        })
        .unwrap();
        fs::remove_file(&key).unwrap();
        fs::rename(&aside, &key).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        serves(&mut terminal, "a killed daemon");
    });
    assert!(opened > 1, "{opened} connections");

    // The one that goes on can be taken over from.
    let mut before = proxyd.take_over().unwrap();
    serves(&mut terminal, "at last");
    terminal.send("exit 6\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(6));
    ended(&mut before);
}

/// A daemon as far as the hand-over goes, which can stop at any of its steps.
struct Stub {
    runtime: Runtime,
    link: Link,
}

impl Stub {
    fn ask(proxyd: &Proxyd<'_>, version: u32) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let link = runtime.block_on(async {
            let mut link = Link::new(UnixStream::connect(proxyd.control_socket()).await.unwrap());
            let config = proxyd.config();
            link.say(&Request::TakeOver { version, config }).await.unwrap();
            link
        });
        Self { runtime, link }
    }

    fn offered(&mut self) -> Result<proxyd::handover::Handed, HandoverError> {
        self.runtime.block_on(self.link.offered(LIMIT))
    }
}

/// Whichever step is the last of the new daemon before it serves, the old one goes on, also with
/// the connections that waited meanwhile.
#[test]
fn a_hand_over_that_ends_at_each_of_its_steps() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let proxyd = start(&world, "");
    let mut terminal = shell(&world, &client);
    let opened = while_connections_are_opened(&world, 22, || {
        let mut newer = Stub::ask(&proxyd, VERSION + 1);
        let error = newer.offered().unwrap_err().to_string();
        let said = format!("speaks version {} of the hand-over, this one {VERSION}", VERSION + 1);
        assert!(error.contains(&said), "{error}");
        drop(Stub::ask(&proxyd, VERSION));
        let mut offered = Stub::ask(&proxyd, VERSION);
        let handed = offered.offered().unwrap();
        let port = handed.listeners[0].local_addr().unwrap().port();
        assert_eq!(port, handed.listeners[1].local_addr().unwrap().port());
        drop((offered, handed));
        let mut confused = Stub::ask(&proxyd, VERSION);
        let handed = confused.offered().unwrap();
        let refused = confused.runtime.block_on(async {
            confused.link.say(&Reply::Yours).await.unwrap();
            confused.link.granted().await.unwrap_err().to_string()
        });
        assert!(refused.contains("has no place here"), "{refused}");
        drop((confused, handed));
        // It is ready, and dead when the old daemon hears of that: the listeners are between the
        // two at that moment.
        let mut ready = Stub::ask(&proxyd, VERSION);
        let handed = ready.offered().unwrap();
        proxyd.signal(Signal::SIGSTOP).unwrap();
        ready.runtime.block_on(ready.link.say(&Step::Ready)).unwrap();
        drop((ready, handed));
        proxyd.signal(Signal::SIGCONT).unwrap();
        answers(&mut terminal);
    });
    assert!(opened > 1, "{opened} connections");
    wait_until("all to be noticed", LIMIT, || {
        proxyd.log().unwrap().matches("Not taken over, this daemon goes on").count() == 5
    })
    .unwrap();
    let run = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
    // Nothing of it is in the way of a real one.
    let mut proxyd = proxyd;
    let mut before = proxyd.take_over().unwrap();
    terminal.send("exit 6\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(6));
    ended(&mut before);
}

/// A new daemon whose maps have another layout has removed those of the old one when it dies: the
/// old one begins to steer again.
#[test]
fn a_hand_over_that_ends_after_the_old_maps_are_gone() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut proxyd = start(&world, "");
    let mut newer = Stub::ask(&proxyd, VERSION);
    let handed = newer.offered().unwrap();
    // A pin is gone with its file, and a hook with its pin.
    for pin in world.pins().unwrap() {
        fs::remove_file(pin).unwrap();
    }
    for layout in fs::read_dir(world.pin_directory()).unwrap().flatten() {
        for kind in fs::read_dir(layout.path()).unwrap().flatten() {
            fs::remove_dir(kind.path()).unwrap();
        }
        fs::remove_dir(layout.path()).unwrap();
    }
    drop((newer, handed));
    wait_until("the old daemon to go on", LIMIT, || {
        proxyd.log().unwrap().contains("Steering is in force again")
    })
    .unwrap();
    let run = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
    assert_eq!(Records::new(&proxyd).next().row.outcome, "completed");
    // The new maps hear its heartbeat: silence is shorter than it was only after another one.
    let mut longest = Duration::ZERO;
    wait_until("another heartbeat", LIMIT, || {
        let silence = status(&world.pin_directory()).unwrap().silence.unwrap();
        longest = longest.max(silence);
        silence < longest
    })
    .unwrap();
    proxyd.stop().unwrap();
    assert_eq!(world.pins().unwrap(), Vec::<std::path::PathBuf>::new());
}

/// Of two daemons that ask at the same time, one gets it, and the other is told.
#[test]
fn two_that_ask_at_once() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut proxyd = start(&world, "");
    let mut terminal = shell(&world, &client);
    let mut first = Stub::ask(&proxyd, VERSION);
    let handed = first.offered().unwrap();
    let mut second = Stub::ask(&proxyd, VERSION);
    first.runtime.block_on(async {
        first.link.say(&Step::Ready).await.unwrap();
        first.link.granted().await.unwrap();
    });
    let refused = second.offered().unwrap_err().to_string();
    assert!(refused.contains("another daemon has taken over already"), "{refused}");
    answers(&mut terminal);
    // The first dies after it was given everything: that is the crash of a daemon.
    drop((first, handed));
    terminal.send("exit 6\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(6));
    ended(proxyd.process().unwrap());
    proxyd.launch().unwrap();
    let run = log_in(&world, &client).arg("exit 3").run(LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
}

/// Sessions of the daemon before have the time that the configuration gives them.
#[test]
fn the_time_after_a_hand_over_has_an_end() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let limits = "takeover_drain_timeout_s = 1\n";
    let settings = Settings { limits, policies: &policies, ..Settings::default() };
    let mut proxyd = Proxyd::start(&world, settings).unwrap();
    let session = log_in(&world, &client).arg("echo up; sleep 1000").start().unwrap();
    wait_until("the session", LIMIT, || session.stdout().unwrap() == b"up\n").unwrap();
    let mut before = proxyd.take_over().unwrap();
    let over = session.finish(LIMIT).unwrap();
    assert!(over.stderr.contains("the session was ended by"), "{}", over.stderr);
    ended(&mut before);
    let row = Records::new(&proxyd).next().row;
    assert_eq!(row.outcome, "terminated");
    verify(&proxyd, &row.trail, 0, "complete");
}

/// Without a gateway that runs there is nothing to take over.
#[test]
fn nobody_to_take_over_from() {
    let world = World::router().unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::new(&world, settings).unwrap();
    let run = proxyd.spawn("--take-over").unwrap().finish(LIMIT).unwrap();
    assert_eq!(run.code(), 1);
    assert!(run.stderr.contains("no gateway to take over from"), "{}", run.stderr);
    assert_eq!(world.pins().unwrap(), Vec::<std::path::PathBuf>::new());
}
