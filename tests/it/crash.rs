//! The daemon dies in the middle of a session: what is lost, what goes on, and what a restart
//! finds.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::{Stopwatch, wait_until};
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library};
use crate::traffic::beside_unmatched_traffic;

/// The port of each policy: what becomes of a new connection while no proxy listens.
const DROP_PORT: u16 = 22;
const RESET_PORT: u16 = 2401;
/// The server itself listens here too.
const FORWARD_PORT: u16 = sshd::UNMATCHED_PORT;
/// The most that may be lost of a session (promise 1 of the audit trail).
const LOSS_NS: u64 = 1_000_000_000;

/// Exit code of `trail verify` for a trail that a restart has closed.
const RECOVERED: i32 = 3;

/// How long a connection that nobody answers is tried.
const UNANSWERED: Duration = Duration::from_secs(2);

/// Prints the time (nanoseconds) about fifty times a second.
const TICKS: &str = "while date +%s%N; do sleep 0.02; done";

#[test]
fn killed_in_the_middle_of_a_session() {
    let world = World::router().unwrap();
    let server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let mut proxyd = Proxyd::start(&world, settings(&policies(&world, &auditor))).unwrap();
    let to = world.address(Host::Server, Family::V4);
    let call = client.ssh().arg(format!("alice@{to}")).arg(TICKS);
    let session = call.reply(sshd::ASKS, sshd::PASSWORD).start().unwrap();
    wait_until("three seconds of the session", LIMIT, || {
        let seen = ticks(&session.stdout().unwrap());
        seen.last().zip(seen.first()).is_some_and(|(last, first)| last - first > 3 * LOSS_NS)
    })
    .unwrap();
    let live = Records::new(&proxyd).all();
    assert_eq!((live.len(), live[0].outcome.as_str()), (1, "active"));
    let spooled = proxyd.spooled(&live[0].trail);
    let key = proxyd.public_key().unwrap();

    beside_unmatched_traffic(&world, || {
        let seen = *ticks(&session.stdout().unwrap()).last().unwrap();
        proxyd.kill().unwrap();
        let direct = while_no_proxy_listens(&world);

        // What was on the disk at that moment is proven and can be read.
        let verify = format!("trail verify --key {key}");
        let verified = proxyd.command(&verify, &[&spooled]).unwrap();
        assert_eq!(verified.code(), 1, "{}", verified.text());
        assert!(verified.text().contains("cut at byte"), "{}", verified.text());
        assert!(verified.text().contains("sealed up to frame"), "{}", verified.text());
        check_loss(&proxyd, &auditor, &spooled, seen);
        let ended = session.finish(LIMIT).unwrap();
        assert_eq!(ended.code(), 255, "{}", ended.stderr);

        // A restart takes over: the trail is closed and stored, the row says what happened.
        proxyd.launch().unwrap();
        let records = Records::new(&proxyd);
        let row = records.all().remove(0);
        assert_eq!(row.outcome, "cut");
        assert_eq!(row.reason, "the daemon ended without closing the session");
        assert!(row.ended_ns.is_some());
        assert!(!spooled.exists(), "the trail is still in the spool");
        let stored = proxyd.trail(&row.trail);
        let verified = proxyd.command(&verify, &[&stored]).unwrap();
        assert_eq!(verified.code(), RECOVERED, "{}", verified.text());
        assert!(verified.text().contains("closed after a crash"), "{}", verified.text());
        assert!(!row.trail_hash.is_empty() && verified.text().contains(&row.trail_hash));
        check_loss(&proxyd, &auditor, &stored, seen);

        // A connection that was let through stays with the server.
        for mut stream in direct {
            stream.write_all(b"SSH-2.0-test\r\n").unwrap();
            // The server's next word is its key exchange, whose packet is longer than this.
            stream.read_exact(&mut [0; 64]).unwrap();
        }
        assert_eq!(records.all().len(), 1, "it became a session");

        // New connections are the proxy's again, and show the user the same host key as before.
        for (port, policy) in
            [(DROP_PORT, "drop"), (RESET_PORT, "reset"), (FORWARD_PORT, "forward")]
        {
            let call = client.ssh().args(&format!("-o StrictHostKeyChecking=accept-new -p {port}"));
            let call = call.arg(format!("alice@{to}")).arg("exit 4");
            let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
            assert_eq!(run.code(), 4, "{policy}: {}", run.stderr);
            let new = || records.all().into_iter().find(|row| row.policy == policy);
            wait_until("the new session's record", LIMIT, || {
                new().is_some_and(|row| row.outcome == "completed")
            })
            .unwrap();
        }
    });
    server.logged(&["Accepted", "for alice"]).unwrap();
    proxyd.stop().unwrap();
    assert_eq!(world.pins().unwrap(), Vec::<std::path::PathBuf>::new());
}

fn settings(policies: &str) -> Settings<'_> {
    Settings { policies, ..Settings::default() }
}

fn policies(world: &World, auditor: &Auditor) -> String {
    let lines = |down: &str| format!("on_proxy_down = \"{down}\"\n{OPEN}");
    [
        connection(world, "drop", &lines("drop")),
        connection_on(world, "reset", RESET_PORT, &lines("reset")),
        connection_on(world, "forward", FORWARD_PORT, &lines("forward")),
        library(auditor, &[]),
    ]
    .concat()
}

/// The times in a session's output; the last line may be cut.
fn ticks(output: &[u8]) -> Vec<u64> {
    let text = String::from_utf8_lossy(output);
    let whole =
        text.lines().map(str::trim).filter(|line| line.len() == "1795503041000000000".len());
    whole.filter_map(|line| line.parse().ok()).collect()
}

/// The recording reaches to less than a second before `seen`.
fn check_loss(proxyd: &Proxyd<'_>, auditor: &Auditor, trail: &std::path::Path, seen: u64) {
    let replay = format!("trail replay --speed 0 --identity {}", auditor.identity.display());
    let replayed = proxyd.command(&replay, &[trail]).unwrap();
    let recorded = ticks(&replayed.stdout);
    let last = *recorded.last().unwrap();
    assert!(last + LOSS_NS >= seen, "{} ns are lost", seen - last);
    assert!(recorded.len() > 50, "{} ticks", recorded.len());
}

/// New matched connections meet what their policy says; those that pass are given back.
fn while_no_proxy_listens(world: &World) -> Vec<TcpStream> {
    let try_all = |family: Family| {
        let server = world.address(Host::Server, family);
        let connect = |port: u16| {
            let to = SocketAddr::new(server, port);
            world.client.inside(|| TcpStream::connect_timeout(&to, UNANSWERED)).unwrap()
        };
        let dropped = connect(DROP_PORT).unwrap_err();
        assert_eq!(dropped.kind(), ErrorKind::TimedOut, "{family:?} {dropped}");
        let clock = Stopwatch::start();
        let reset = connect(RESET_PORT).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionRefused, "{family:?} {reset}");
        assert!(clock.elapsed() < UNANSWERED);
        let forwarded = connect(FORWARD_PORT).unwrap();
        forwarded.set_read_timeout(Some(LIMIT)).unwrap();
        let mut said = String::new();
        BufReader::with_capacity(1, &forwarded).read_line(&mut said).unwrap();
        assert!(said.starts_with("SSH-2.0-OpenSSH_") && !said.contains("proxyd"), "{said}");
        forwarded
    };
    Family::ALL.map(try_all).into()
}

/// A stop that is asked for gives sessions their time, then ends them; the user is told.
#[test]
fn stopped_in_the_middle_of_a_session() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let mut proxyd = Proxyd::start(&world, settings(&policies(&world, &auditor))).unwrap();
    let to = world.address(Host::Server, Family::V4);
    let call = client.ssh().arg(format!("alice@{to}")).arg(TICKS);
    let session = call.reply(sshd::ASKS, sshd::PASSWORD).start().unwrap();
    wait_until("the session to run", LIMIT, || !ticks(&session.stdout().unwrap()).is_empty())
        .unwrap();
    let mut records = Records::new(&proxyd);
    let key = proxyd.public_key().unwrap();
    proxyd.stop().unwrap();
    let ended = session.finish(LIMIT).unwrap();
    assert_eq!(ended.code(), 255, "{}", ended.stderr);
    assert!(ended.stderr.contains("the session was ended by"), "{}", ended.stderr);
    let row = records.next().row;
    assert_eq!(row.outcome, "terminated");
    let trail = proxyd.trail(&row.trail);
    let verified = proxyd.command(&format!("trail verify --key {key}"), &[&trail]).unwrap();
    assert_eq!(verified.code(), 0, "{}", verified.text());
    assert!(verified.text().contains("complete"), "{}", verified.text());
}
