//! What is refused: the user is told why, the record says why, and nothing hangs.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::Stopwatch;
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, Closed, LIMIT, OPEN, Records, connection, connection_on, library};

/// The port of each policy.
const OPEN_PORT: u16 = 22;
const EXEC_ONLY_PORT: u16 = 2301;
const NEVER_PORT: u16 = 2302;
const NO_SHELL_NOW_PORT: u16 = 2303;
const REFUSED_PORT: u16 = 2304;
const NOBODY_PORT: u16 = 2305;
const KNOWN_PORT: u16 = 2306;

/// Limits that a test can wait for.
const LIMITS: &str = "handshake_timeout_s = 2\nconnect_timeout_s = 2";

/// A refusal must come well before the client's own patience ends.
const PROMPT: Duration = Duration::from_secs(10);

const POLICIES: &str = r#"
[[channel_policy]]
name = "exec-only"
[[channel_policy.rule]]
type = "session-exec"

[[channel_policy]]
name = "never"
[[channel_policy.rule]]
type = "session-shell"
time = "closed"
[[channel_policy.rule]]
type = "session-exec"
time = "closed"

[[channel_policy]]
name = "no-shell-now"
[[channel_policy.rule]]
type = "session-shell"
time = "closed"
[[channel_policy.rule]]
type = "session-exec"

[[time_policy]]
name = "closed"
zone = "UTC"

[[settings_policy]]
name = "known-only"
protocol = "ssh"
server_side = { host_key_check = "known" }
"#;

/// One attempt and what becomes of it.
struct Case {
    name: &'static str,
    port: u16,
    options: &'static str,
    command: &'static str,
    code: i32,
    said: &'static str,
    outcome: &'static str,
    /// The start of the reason in the record.
    reason: &'static str,
    /// One event of the record: its name, and its fields.
    event: (&'static str, &'static str),
}

const CASES: &[Case] = &[
    Case {
        name: "a shell where only commands are allowed",
        port: EXEC_ONLY_PORT,
        options: "",
        command: "",
        code: 255,
        said: "proxyd: this type of channel is not allowed",
        outcome: "completed",
        reason: "",
        event: ("channel", "channel=0 denied=channel-type-not-allowed detail= kind=session-shell"),
    },
    Case {
        name: "a subsystem where only commands are allowed",
        port: EXEC_ONLY_PORT,
        options: "-s",
        command: "sftp",
        code: 255,
        said: "proxyd: this type of channel is not allowed",
        outcome: "completed",
        reason: "",
        event: (
            "channel",
            "channel=0 denied=channel-type-not-allowed detail=sftp kind=session-sftp",
        ),
    },
    Case {
        name: "nothing at this time",
        port: NEVER_PORT,
        options: "",
        command: "exit 3",
        code: 255,
        said: "proxyd: access is not allowed at this time",
        outcome: "denied",
        reason: "outside-time",
        event: ("ended", "outcome=denied reason=outside-time"),
    },
    Case {
        name: "no shell at this time",
        port: NO_SHELL_NOW_PORT,
        options: "",
        command: "",
        code: 255,
        said: "proxyd: access is not allowed at this time",
        outcome: "completed",
        reason: "",
        event: ("channel", "channel=0 denied=outside-time detail= kind=session-shell"),
    },
    Case {
        name: "but a command",
        port: NO_SHELL_NOW_PORT,
        options: "",
        command: "exit 3",
        code: 3,
        said: "",
        outcome: "completed",
        reason: "",
        event: ("channel", "channel=0 detail=exit 3 kind=session-exec rule=1"),
    },
    Case {
        name: "a server that does not listen",
        port: REFUSED_PORT,
        options: "",
        command: "exit 3",
        code: 255,
        said: "proxyd: cannot connect to the server 10.77.2.3",
        outcome: "failed",
        reason: "server-connect: cannot connect to the server 10.77.2.3",
        event: ("target", "address=10.77.2.3:23"),
    },
    Case {
        name: "a server that is not there",
        port: NOBODY_PORT,
        options: "",
        command: "exit 3",
        code: 255,
        said: "proxyd: the server 10.77.2.99 did not answer within 2 s",
        outcome: "failed",
        reason: "server-connect: the server 10.77.2.99 did not answer within 2 s",
        event: ("target", "address=10.77.2.99:22"),
    },
    Case {
        name: "a server whose host key nobody has confirmed",
        port: KNOWN_PORT,
        options: "",
        command: "exit 3",
        code: 255,
        said: "proxyd: the host key of the server is not known",
        outcome: "denied",
        reason: "host-key-unknown",
        event: ("ended", "outcome=denied reason=host-key-unknown"),
    },
    Case {
        name: "a file copy where commands are allowed",
        port: OPEN_PORT,
        options: "",
        command: "scp -t /tmp",
        code: 255,
        said: "proxyd: this type of channel is not allowed",
        outcome: "completed",
        reason: "",
        event: (
            "channel",
            "channel=0 denied=channel-type-not-allowed detail=scp -t /tmp kind=session-exec-scp",
        ),
    },
    Case {
        name: "a forwarded connection from the client's side",
        port: OPEN_PORT,
        options: "-W 10.77.2.4:2222",
        command: "",
        code: 255,
        said: "administratively prohibited",
        outcome: "completed",
        reason: "",
        event: (
            "channel",
            "channel=0 denied=channel-type-not-allowed detail=10.77.2.4:2222 from 127.0.0.1 \
             kind=local-forward",
        ),
    },
    Case {
        name: "a forwarded port at the server's side",
        port: OPEN_PORT,
        options: "-o ExitOnForwardFailure=yes -R 8000:10.77.1.2:80",
        command: "exit 3",
        code: 255,
        said: "remote port forwarding failed for listen port 8000",
        outcome: "completed",
        reason: "",
        event: (
            "channel",
            "denied=channel-type-not-allowed detail=localhost:8000 kind=remote-forward",
        ),
    },
];

#[test]
fn refusals_are_told_and_recorded() {
    let world = World::router().unwrap();
    let mut server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = policies(&world, &auditor);
    let settings = Settings { limits: LIMITS, policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    for case in CASES {
        let closed = attempt(&world, &client, &mut records, case);
        if case.outcome == "denied" {
            assert_eq!(closed.events("channel"), Vec::<String>::new(), "{}", case.name);
        }
    }
    // The server was met above, and comes back as somebody else.
    server.change_host_key().unwrap();
    let changed = Case {
        name: "a server with another host key than before",
        said: "proxyd: the host key of the server has changed",
        outcome: "denied",
        reason: "host-key-changed",
        event: ("ended", "outcome=denied reason=host-key-changed"),
        port: OPEN_PORT,
        options: "",
        command: "exit 3",
        code: 255,
    };
    attempt(&world, &client, &mut records, &changed);
    assert!(!server.log().unwrap().contains("Accepted"), "the password went to the stranger");
}

/// All policies of this file.
fn policies(world: &World, auditor: &Auditor) -> String {
    let lines = |channels: &str| OPEN.replace("\"all\"", &format!("\"{channels}\""));
    let known = format!("settings = \"known-only\"\n{OPEN}");
    let elsewhere = |name: &str, port: u16, address: &str, to: u16| {
        connection_on(world, name, port, OPEN).replace(
            "address = \"10.77.2.3\", port = 22",
            &format!("address = \"{address}\", port = {to}"),
        )
    };
    [
        connection(world, "open", OPEN),
        connection_on(world, "exec-only", EXEC_ONLY_PORT, &lines("exec-only")),
        connection_on(world, "never", NEVER_PORT, &lines("never")),
        connection_on(world, "no-shell-now", NO_SHELL_NOW_PORT, &lines("no-shell-now")),
        elsewhere("refused", REFUSED_PORT, "10.77.2.3", 23),
        elsewhere("nobody", NOBODY_PORT, "10.77.2.99", 22),
        // The same server by its other address is another server.
        connection_on(world, "known", KNOWN_PORT, &known)
            .replace("address = \"10.77.2.3\"", "address = \"10.77.2.4\""),
        library(auditor, &[]),
        POLICIES.to_owned(),
    ]
    .concat()
}

fn attempt(world: &World, client: &Client<'_>, records: &mut Records, case: &Case) -> Closed {
    let name = case.name;
    let to = world.address(Host::Server, Family::V4);
    let mut call = client.ssh().args(&format!("-p {} {}", case.port, case.options));
    call = call.arg(format!("alice@{to}"));
    if !case.command.is_empty() {
        call = call.arg(case.command);
    }
    let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
    assert_eq!(run.code(), case.code, "{name}: {}", run.stderr);
    assert!(run.stderr.contains(case.said), "{name}: {}", run.stderr);
    assert!(run.took < PROMPT, "{name}: {:?}", run.took);
    let closed = records.next();
    assert_eq!(closed.row.outcome, case.outcome, "{name}");
    assert!(closed.row.reason.starts_with(case.reason), "{name}: {}", closed.row.reason);
    let (event, fields) = case.event;
    let events = closed.events(event);
    assert!(events.iter().any(|found| found == fields), "{name}: {events:?}");
    closed
}

/// What does not speak SSH is gone within the handshake limit.
#[test]
fn strangers_are_shown_out() {
    let world = World::router().unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { limits: LIMITS, policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), OPEN_PORT);
    let handshake_limit = Duration::from_secs(2);
    let cases: [(&str, &[u8], &str, Duration); 5] = [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n", "not-this-protocol", Duration::ZERO),
        ("SSH 1", b"SSH-1.5-old\r\n", "not-this-protocol", Duration::ZERO),
        ("no end of line", &[b'A'; 40_000], "not-this-protocol", Duration::ZERO),
        ("silence", b"", "handshake-timeout", handshake_limit),
        ("a name, then silence", b"SSH-2.0-x\r\n", "handshake-timeout", handshake_limit),
    ];
    for (name, sent, reason, at_least) in cases {
        let clock = Stopwatch::start();
        let mut stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
        let client = stream.local_addr().unwrap().to_string();
        stream.set_read_timeout(Some(PROMPT)).unwrap();
        stream.write_all(sent).unwrap();
        let mut answer = Vec::new();
        // A reset is an end too: the gateway closes with bytes unread.
        let end = stream.read_to_end(&mut answer);
        let reset = end.as_ref().is_err_and(|e| e.kind() == std::io::ErrorKind::ConnectionReset);
        assert!(end.is_ok() || reset, "{name}: {end:?}");
        assert!(answer.starts_with(b"SSH-2.0-") || reset, "{name}: {answer:?}");
        let took = clock.elapsed();
        assert!(took >= at_least && took < handshake_limit + PROMPT / 2, "{name}: {took:?}");
        let closed = records.next();
        let found = (closed.row.outcome.as_str(), closed.row.reason.as_str());
        assert_eq!(found, ("denied", reason), "{name}");
        assert_eq!(closed.row.client, client, "{name}");
    }
}
