//! The configuration changes while the gateway serves: nobody is turned away by the change itself.

use std::fs;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Process;
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::wait_until;
use e2e::world::{Family, Host, World};
use nix::sys::signal::Signal;

use crate::stage::{
    Auditor, GATEWAY_PASSWORD, LIMIT, OPEN, Records, STAFF, connection, connection_on, library,
};
use crate::traffic::{beside_unmatched_traffic, while_connections_are_opened};

/// Reloads while connections are opened.
const RELOADS: usize = 24;

/// More than the openers of connections have at a time.
const LIMITS: &str = "sessions_per_client = 10000\nhandshakes = 10000\n";

/// A port that only some of the configurations name.
const EXTRA_PORT: u16 = 2401;

fn settings(policies: &str) -> Settings<'_> {
    Settings { limits: LIMITS, policies, ..Settings::default() }
}

/// Two configurations in turns, both with a policy for the connections that are opened: none fails,
/// and what no policy names loses nothing.
#[test]
fn while_connections_are_opened_in_a_loop() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let library = library(&auditor, &[]);
    let one = connection(&world, "open", OPEN) + &library;
    let extra = connection_on(&world, "extra", EXTRA_PORT, OPEN);
    let other = [extra, connection(&world, "other", STAFF), library].concat();
    let proxyd = Proxyd::start(&world, settings(&one)).unwrap();
    beside_unmatched_traffic(&world, || {
        let opened = while_connections_are_opened(&world, 22, || {
            for policies in [&other, &one].into_iter().cycle().take(RELOADS) {
                proxyd.configure(settings(policies)).unwrap();
                let said = proxyd.reload().unwrap().ok().unwrap().text();
                assert!(said.contains(" added"), "{said}");
            }
        });
        assert!(opened > RELOADS, "{opened} connections");
    });
    let log = proxyd.log().unwrap();
    assert_eq!(log.matches("Reloaded the configuration").count(), RELOADS, "{log}");
    assert!(!log.contains("Refused a connection"), "{log}");
}

/// What changed is said in one line, by the command as by the signal; new sessions meet it.
#[test]
fn new_policies_meet_new_sessions() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let library = library(&auditor, &[]);
    let one = connection(&world, "open", OPEN) + &library;
    let other = connection_on(&world, "extra", EXTRA_PORT, OPEN) + &library;
    let proxyd = Proxyd::start(&world, settings(&one)).unwrap();
    let to = world.address(Host::Server, Family::V4);
    let log_in = |port: u16| {
        let call = client.ssh().args(&format!("-p {port}")).arg(format!("alice@{to}"));
        call.arg("exit 3").reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap()
    };
    assert_eq!(log_in(22).code(), 3);
    assert_eq!(log_in(EXTRA_PORT).code(), 255, "no policy, and no server either");

    proxyd.configure(settings(&other)).unwrap();
    let said = proxyd.reload().unwrap().ok().unwrap().text();
    let expected = "connection policies: 1 added, 1 removed, 0 changed; users: 0 changed; \
                    sessions ended: 0\n";
    assert_eq!(said, expected);
    let run = log_in(EXTRA_PORT);
    assert_eq!(run.code(), 3, "{}", run.stderr);
    let mut records = Records::new(&proxyd);
    assert_eq!(records.next().row.policy, "open");
    assert_eq!(records.next().row.policy, "extra");
    // What is no longer named passes.
    client.forget_host_keys().unwrap();
    assert_eq!(log_in(22).code(), 3);
    assert_eq!(records.all().len(), 2, "the gateway still takes it");

    let staff = connection(&world, "open", STAFF) + &library;
    proxyd.configure(settings(&staff)).unwrap();
    signal_reload(&proxyd, 2);
    client.forget_host_keys().unwrap();
    let call = client.ssh().arg(format!("alice@{to}")).arg("exit 4");
    let call = call.replies(sshd::ASKS, &[GATEWAY_PASSWORD, sshd::PASSWORD]);
    let run = call.run(LIMIT).unwrap();
    assert_eq!(run.code(), 4, "{}", run.stderr);
    assert_eq!(records.next().row.gateway_user, "alice");
}

/// Sends SIGHUP and waits until the daemon has reloaded `count` times in all.
fn signal_reload(proxyd: &Proxyd<'_>, count: usize) {
    proxyd.signal(Signal::SIGHUP).unwrap();
    wait_until("the reload", LIMIT, || {
        proxyd.log().unwrap().matches("Reloaded the configuration").count() == count
    })
    .unwrap();
}

/// A file with errors, or with a change that takes a restart, changes nothing at all.
#[test]
fn a_file_that_cannot_be_used() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let library = library(&auditor, &[]);
    let good = connection(&world, "open", OPEN) + &library;
    let mut proxyd = Proxyd::start(&world, settings(&good)).unwrap();
    let text = fs::read_to_string(proxyd.config()).unwrap();
    let cases: [(&str, String, &[&str]); 4] = [
        ("syntax", text.replace("[limits]", "[limits"), &["error"]),
        (
            "two errors",
            text.replace("channels = \"all\"", "channels = \"some\"").replace("\"22\"", "\"0\""),
            &["\"some\"", "ports[0]"],
        ),
        (
            "a fixed key",
            text.replace("proxyd.db", "other.db").replace("lan0", "lan1"),
            &["takes a restart", "storage.database", "steering.client_interfaces"],
        ),
        ("nothing", String::new(), &["error"]),
    ];
    for (name, broken, words) in cases {
        assert_ne!(broken, text, "{name}");
        fs::write(proxyd.config(), broken).unwrap();
        let reloaded = proxyd.reload().unwrap();
        assert_eq!(reloaded.code(), 1, "{name}: {}", reloaded.text());
        for word in words {
            assert!(reloaded.stderr.contains(word), "{name}: no {word} in {}", reloaded.stderr);
        }
        let to = world.address(Host::Server, Family::V4);
        let call = client.ssh().arg(format!("alice@{to}")).arg("exit 3");
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!(run.code(), 3, "{name}: {}", run.stderr);
    }
    let log = proxyd.log().unwrap();
    assert!(log.contains("nothing changes"), "{log}");
    assert!(!log.contains("Reloaded the configuration"), "{log}");
    proxyd.stop().unwrap();
}

/// What becomes of running sessions is their own policy's to say.
#[test]
fn sessions_that_are_no_longer_allowed() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let library = library(&auditor, &[]);
    let kept = connection_on(&world, "kept", EXTRA_PORT, &format!("{OPEN}on_reload = \"keep\"\n"));
    let ended = connection(&world, "ended", &format!("{STAFF}on_reload = \"terminate\"\n"));
    let proxyd = Proxyd::start(&world, settings(&[&kept, &ended, &*library].concat())).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let to = world.address(Host::Server, Family::V4);
    let open = |port: u16, answers: &[&str]| {
        let call = client.ssh().args(&format!("-p {port}")).arg(format!("alice@{to}"));
        call.arg("echo up; sleep 1000").replies(sshd::ASKS, answers).start().unwrap()
    };
    let mut stays = open(EXTRA_PORT, &[sshd::PASSWORD]);
    let mut goes = open(22, &[GATEWAY_PASSWORD, sshd::PASSWORD]);
    let is_up = |session: &Process| session.stdout().unwrap() == b"up\n";
    wait_until("both sessions", LIMIT, || is_up(&stays) && is_up(&goes)).unwrap();

    // A change that still allows both ends neither.
    let more = library.replace(
        "rules = [{ remote_user",
        "rules = [{ remote_user = \"x\", groups = [\"admins\"] }, { remote_user",
    );
    assert_ne!(more, library);
    proxyd.configure(settings(&[&kept, &ended, &*more].concat())).unwrap();
    let said = proxyd.reload().unwrap().ok().unwrap().text();
    assert!(said.contains("1 changed") && said.contains("sessions ended: 0"), "{said}");

    // Neither policy is there any more.
    proxyd.configure(settings(&library)).unwrap();
    let said = proxyd.reload().unwrap().ok().unwrap().text();
    assert!(said.contains("2 removed") && said.contains("sessions ended: 1"), "{said}");
    wait_until("the end of one session", LIMIT, || goes.status().unwrap().is_some()).unwrap();
    let goes = goes.finish(LIMIT).unwrap();
    assert_eq!(goes.code(), 255);
    let told = "the session was ended by a change of the configuration, which no longer allows it";
    assert!(goes.stderr.contains(told), "{}", goes.stderr);
    let rows = || Records::new(&proxyd).all();
    let row = |policy: &str| rows().into_iter().find(|row| row.policy == policy).unwrap();
    wait_until("its row", LIMIT, || row("ended").outcome == "terminated").unwrap();
    assert!(row("ended").reason.contains("change of the configuration"));
    let key = proxyd.public_key().unwrap();
    let trail = proxyd.trail(&row("ended").trail);
    let verified = proxyd.command(&format!("trail verify --key {key}"), &[&trail]).unwrap();
    assert_eq!(verified.code(), 0, "{}", verified.text());
    assert!(stays.status().unwrap().is_none(), "{}", stays.stderr().unwrap());
    let live = proxyd.live_sessions().unwrap();
    assert_eq!((live.len(), live[0]["policy"].as_str()), (1, Some("kept")));
}

/// A user who is taken out of the file loses the session, though the connection still matches.
#[test]
fn a_user_who_is_gone() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let library = library(&auditor, &[]);
    let staff = connection(&world, "staff", &format!("{STAFF}on_reload = \"terminate\"\n"));
    let proxyd = Proxyd::start(&world, settings(&[&staff, &*library].concat())).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let to = world.address(Host::Server, Family::V4);
    let call = client.ssh().arg(format!("alice@{to}")).arg("echo up; sleep 1000");
    let call = call.replies(sshd::ASKS, &[GATEWAY_PASSWORD, sshd::PASSWORD]);
    let session = call.start().unwrap();
    wait_until("the session", LIMIT, || session.stdout().unwrap() == b"up\n").unwrap();
    let without = library.replace("name = \"alice\"", "name = \"carol\"");
    proxyd.configure(settings(&[&staff, &*without].concat())).unwrap();
    let said = proxyd.reload().unwrap().ok().unwrap().text();
    assert!(said.contains("users: 2 changed; sessions ended: 1"), "{said}");
    let ended = session.finish(LIMIT).unwrap();
    assert!(ended.stderr.contains("no longer allows it"), "{}", ended.stderr);
}

/// Limits follow too, for sessions to come.
#[test]
fn limits_change() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let with = |limits| Settings { limits, policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, with("")).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let to = world.address(Host::Server, Family::V4);
    let log_in = |command: &str| {
        let call = client.ssh().arg(format!("alice@{to}")).arg(command);
        call.reply(sshd::ASKS, sshd::PASSWORD)
    };
    let mut session = log_in("echo up; sleep 1000").start().unwrap();
    wait_until("the session", LIMIT, || session.stdout().unwrap() == b"up\n").unwrap();
    proxyd.configure(with("sessions_per_client = 1\n")).unwrap();
    let said = proxyd.reload().unwrap().ok().unwrap().text();
    assert!(said.contains("limits changed; sessions ended: 0"), "{said}");
    let refused = log_in("exit 3").run(LIMIT).unwrap();
    assert_eq!(refused.code(), 255, "{}", refused.stderr);
    assert!(proxyd.log().unwrap().contains("too-many-sessions-from-client"));
    // One more, but it must do something now and then: the one from before need not.
    proxyd.configure(with("sessions_per_client = 2\nidle_timeout_s = 1\n")).unwrap();
    proxyd.reload().unwrap().ok().unwrap();
    let idle = log_in("sleep 1000").run(LIMIT).unwrap();
    assert!(idle.stderr.contains("idle"), "{}", idle.stderr);
    wait_until("the end of the idle one", LIMIT, || proxyd.live_sessions().unwrap().len() == 1)
        .unwrap();
    assert!(session.status().unwrap().is_none(), "{}", session.stderr().unwrap());
}
