//! What happens inside channels: ends in one direction, signals, environment, and one channel
//! that waits beside one that does not.

use std::io::{Read as _, Write as _};
use std::thread;
use std::time::Duration;

use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::{Stopwatch, wait_until};
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, library, pattern};

/// Bytes that go both ways at the same time.
const BULK_BYTES: usize = 24 * 1024 * 1024;

/// Lets one more environment variable through than the default.
const ENVIRONMENT: &str = r#"
[[settings_policy]]
name = "environment"
protocol = "ssh"
environment = ["LANG", "PX_GIVEN"]
"#;

/// One command, what it reads, and how it ends.
struct Case {
    name: &'static str,
    command: &'static str,
    options: &'static str,
    input: &'static [u8],
    code: i32,
    stdout: &'static [u8],
    within: Duration,
}

const SOON: Duration = Duration::from_secs(3);

const CASES: &[Case] = &[
    Case {
        name: "the end of input goes one way, output comes back after it",
        command: "cat; echo behind; exit 3",
        options: "",
        input: b"abc\n",
        code: 3,
        stdout: b"abc\nbehind\n",
        within: SOON,
    },
    Case {
        name: "no output at all",
        command: "true",
        options: "",
        input: b"",
        code: 0,
        stdout: b"",
        within: SOON,
    },
    Case {
        name: "output that is no text",
        command: r"printf '\000\377\r\n\033[0m'",
        options: "",
        input: b"",
        code: 0,
        stdout: b"\x00\xff\r\n\x1b[0m",
        within: SOON,
    },
    Case {
        name: "the program is ended by a signal",
        command: "kill -TERM $$; cat",
        options: "",
        input: b"",
        code: 255,
        stdout: b"",
        within: SOON,
    },
    Case {
        name: "variables that the policy and the server let through",
        command: "echo $PX_GIVEN,$PX_HELD,$LANG",
        options: "-o SendEnv=PX_GIVEN -o SendEnv=PX_HELD",
        input: b"",
        code: 0,
        stdout: b"given,,C.UTF-8\n",
        within: SOON,
    },
    Case {
        name: "the program closes its input early",
        command: "head -c 3",
        options: "",
        input: &[b'x'; 300_000],
        code: 0,
        stdout: b"xxx",
        within: SOON,
    },
    Case {
        name: "a command of many words",
        command: "for i in 1 2 3; do echo \"$i $((i * i))\"; done | tail -1",
        options: "",
        input: b"",
        code: 0,
        stdout: b"3 9\n",
        within: SOON,
    },
];

/// What all tests of this file stand on.
struct Line<'w> {
    world: &'w World,
    client: Client<'w>,
    proxyd: Proxyd<'w>,
    _server: Sshd<'w>,
}

impl<'w> Line<'w> {
    fn new(world: &'w World) -> Self {
        Self::with_server(world, "")
    }

    /// With more settings of the server.
    fn with_server(world: &'w World, settings_of_server: &str) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let lines = format!("settings = \"environment\"\n{OPEN}");
        let policies = connection(world, "open", &lines) + &library(&auditor, &[]) + ENVIRONMENT;
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let server = Sshd::start_with(world, settings_of_server).unwrap();
        let client = Client::new(world, "alice").unwrap();
        Self { world, client, proxyd, _server: server }
    }

    fn destination(&self) -> String {
        format!("alice@{}", self.world.address(Host::Server, Family::V4))
    }

    fn ssh(&self) -> Call<'_> {
        let call = self.client.ssh().reply(sshd::ASKS, sshd::PASSWORD);
        call.env("LANG", "C.UTF-8").env("PX_GIVEN", "given").env("PX_HELD", "held")
    }
}

#[test]
fn commands() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    for case in CASES {
        let name = case.name;
        let call = line.ssh().args(case.options).arg(line.destination()).arg(case.command);
        let run = call.input(case.input).unwrap().run(LIMIT).unwrap();
        assert_eq!(run.code(), case.code, "{name}: {}", run.stderr);
        assert_eq!(run.stdout, case.stdout, "{name}");
        assert!(run.took < case.within, "{name}: {:?}", run.took);
        let closed = records.next();
        assert_eq!(closed.row.outcome, "completed", "{name}: {}", closed.row.reason);
        let channel = format!("channel=0 detail={} kind=session-exec rule=1", case.command);
        // What cannot be shown in a record is replaced there, and no case has it.
        assert_eq!(closed.events("channel"), [channel], "{name}");
    }
}

/// A reader that goes away ends an endless writer.
#[test]
fn a_reader_that_has_enough() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let clock = Stopwatch::start();
    let mut child = line.ssh().arg(line.destination()).arg("yes").start_piped().unwrap();
    let mut first = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"y\n");
    drop(child.stdout.take());
    let status = e2e::wait::wait_for("the end of ssh", LIMIT, || Ok(child.try_wait()?)).unwrap();
    assert!(clock.elapsed() < SOON, "{status} after {:?}", clock.elapsed());
    assert_eq!(records.next().row.outcome, "completed");
}

/// Data goes both ways at the same time, all of it, in order.
#[test]
fn both_ways_at_once() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut child = line.ssh().arg(line.destination()).arg("cat").start_piped().unwrap();
    let (mut input, mut output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let sent = pattern(BULK_BYTES);
    let received = thread::scope(|scope| {
        scope.spawn(|| {
            input.write_all(&sent).unwrap();
            drop(input);
        });
        let mut received = Vec::new();
        output.read_to_end(&mut received).unwrap();
        received
    });
    assert_eq!(received.len(), sent.len());
    assert!(received == sent, "the bytes are others");
    assert!(child.wait().unwrap().success());
}

/// Both legs change their keys while data goes both ways.
#[test]
fn keys_are_changed_under_load() {
    let world = World::router().unwrap();
    let line = Line::with_server(&world, "RekeyLimit 1M");
    let sent = pattern(BULK_BYTES);
    let call = line.ssh().args("-v -o RekeyLimit=2M").arg(line.destination()).arg("cat");
    let run = call.input(&sent).unwrap().run(2 * LIMIT).unwrap();
    assert_eq!(run.code(), 0, "{}", run.stderr);
    assert!(run.stdout == sent, "{} bytes came back", run.stdout.len());
    let exchanges = run.stderr.matches("SSH2_MSG_NEWKEYS received").count();
    assert!(exchanges > 10, "{exchanges} key exchanges");
    assert_eq!(Records::new(&line.proxyd).next().row.outcome, "completed");
}

/// A channel whose reader stands still holds back no other channel of its connection.
#[test]
fn a_stalled_channel_beside_a_live_one() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let records = Records::new(&line.proxyd);
    let socket = line.client.directory().join("master");
    let share = format!("-o ControlPath={}", socket.display());
    let master = line.ssh().args(&share).args("-M -N").arg(line.destination());
    let mut master = master.start().unwrap();
    wait_until("the shared connection", LIMIT, || socket.exists()).unwrap();
    let endless = line.client.ssh().args(&share).arg(line.destination()).arg("yes");
    let mut stalled = endless.start_piped().unwrap();
    let mut first = [0; 2];
    stalled.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    for turn in 0..5 {
        let call = line.client.ssh().args(&share).arg(line.destination());
        let run = call.arg(format!("echo {turn}")).run(LIMIT).unwrap();
        assert_eq!(run.text(), format!("{turn}\n"), "{}", run.stderr);
        assert!(run.took < Duration::from_secs(1), "turn {turn}: {:?}", run.took);
    }
    assert_eq!(records.all().len(), 1, "the channels share one session");
    assert_eq!(line.proxyd.live_sessions().unwrap().len(), 1);
    assert!(stalled.try_wait().unwrap().is_none(), "the stalled channel lives");
    stalled.kill().unwrap();
    stalled.wait().unwrap();
    master.kill().unwrap();
    let mut records = records;
    let closed = records.next();
    assert_eq!(closed.events("channel").len(), 6, "{:?}", closed.events("channel"));
}

/// An operator ends a session; its user is told, and the record says so.
#[test]
fn an_operator_ends_a_session() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let call = line.ssh().arg(line.destination()).arg("echo up; cat").input("").unwrap();
    let session = call.arg("/dev/zero").start().unwrap();
    wait_until("the session to run", LIMIT, || {
        session.stdout().is_ok_and(|shown| shown.starts_with(b"up"))
    })
    .unwrap();
    let live = line.proxyd.live_sessions().unwrap();
    assert_eq!(live.len(), 1, "{live:?}");
    let text = |field: &str| live[0][field].as_str().unwrap().to_owned();
    assert_eq!((text("policy"), text("remote_user")), ("open".into(), "alice".into()));
    assert_eq!((text("target"), text("step")), ("10.77.2.3:22".into(), "relay".into()));
    line.proxyd.terminate(&text("id")).unwrap();
    let run = session.finish(LIMIT).unwrap();
    assert_eq!(run.code(), 255);
    assert!(run.stderr.contains("the session was ended by an operator"), "{}", run.stderr);
    let row = records.next().row;
    assert_eq!((row.outcome.as_str(), row.reason.as_str()), ("terminated", "an operator"));
    let again = line.proxyd.terminate(&text("id")).unwrap_err().to_string();
    assert!(again.contains("there is no live session with this id"), "{again}");
}
