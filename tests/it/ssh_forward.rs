//! Forwarded connections, agents and displays: what the policy allows works, the rest is refused
//! in the protocol's way, and each leaves its event.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;

use e2e::netns::Namespace;
use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Process;
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::wait_until;
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library};

/// The port of the policy that lets nothing be forwarded.
const CLOSED_PORT: u16 = 2301;

/// Where programs of the server's host answer what they are sent.
const ECHO: &str = "127.0.0.1:9001";

/// Another of them, that the policy does not name.
const OTHER_ECHO: &str = "127.0.0.1:9002";

const POLICIES: &str = r#"
[[channel_policy]]
name = "forwards"
[[channel_policy.rule]]
type = "session-exec"
[[channel_policy.rule]]
type = "session-shell"
[[channel_policy.rule]]
type = "local-forward"
endpoints = ["127.0.0.0/8:9001", "*.invalid:80", "127.0.0.1:22"]
originators = ["127.0.0.0/8"]
[[channel_policy.rule]]
type = "local-forward"
sockets = ["*/allowed.sock"]
[[channel_policy.rule]]
type = "remote-forward"
endpoints = ["127.0.0.1:8000-8009", "localhost:8000-8009"]
[[channel_policy.rule]]
type = "remote-forward"
sockets = ["*/listening.sock"]
[[channel_policy.rule]]
type = "agent"
[[channel_policy.rule]]
type = "x11"
"#;

/// What all tests of this file stand on.
struct Line<'w> {
    world: &'w World,
    client: Client<'w>,
    proxyd: Proxyd<'w>,
    server: Sshd<'w>,
}

impl<'w> Line<'w> {
    fn new(world: &'w World) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let lines = OPEN.replace("\"all\"", "\"forwards\"");
        let policies = connection(world, "open", &lines)
            + &connection_on(world, "closed", CLOSED_PORT, OPEN)
            + &library(&auditor, &[])
            + POLICIES;
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let server = Sshd::start_with(world, "X11Forwarding yes\nMaxSessions 60").unwrap();
        let client = Client::new(world, "alice").unwrap();
        Self { world, client, proxyd, server }
    }

    fn ssh(&self) -> Call<'_> {
        let to = self.world.address(Host::Server, Family::V4);
        let call = self.client.ssh().reply(sshd::ASKS, sshd::PASSWORD);
        call.args("-o ExitOnForwardFailure=yes").arg("-l").arg("alice").arg(to.to_string())
    }
}

/// Answers one connection after the other with what it is sent, until the test is over.
fn echo(namespace: &Namespace, at: &str) -> SocketAddr {
    let listener = namespace.inside(|| TcpListener::bind(at)).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            thread::spawn(move || {
                let mut reader = stream.try_clone().unwrap();
                // A peer that breaks off has had enough.
                drop(std::io::copy(&mut reader, &mut stream));
                drop(stream.shutdown(Shutdown::Write));
            });
        }
    });
    address
}

/// Sends a text from within a namespace and gives what comes back.
fn exchange(namespace: &Namespace, at: &str, text: &str) -> std::io::Result<String> {
    namespace
        .inside(|| {
            let mut stream = TcpStream::connect(at)?;
            stream.set_read_timeout(Some(LIMIT))?;
            stream.write_all(text.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        })
        .unwrap()
}

fn exchange_by_socket(path: &Path, text: &str) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(text.as_bytes())?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until something answers there.
fn await_answer(namespace: &Namespace, at: &str) {
    wait_until(at, LIMIT, || exchange(namespace, at, "up?").is_ok_and(|answer| answer == "up?"))
        .unwrap();
}

/// Ends a client that runs until then, and waits for its record.
fn end(mut session: Process) {
    session.kill().unwrap();
}

#[test]
fn connections_through_the_server() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    echo(&world.server, ECHO);
    echo(&world.server, OTHER_ECHO);
    let mut records = Records::new(&line.proxyd);
    // One connection in the place of a session (`-W`).
    let call = line.ssh().args("-W").arg(ECHO).input("ping").unwrap();
    let run = call.run(LIMIT).unwrap();
    assert_eq!((run.code(), run.text().as_str()), (0, "ping"), "{}", run.stderr);
    let events = records.next().events("channel");
    let detail = "channel=0 detail=127.0.0.1:9001 from 127.0.0.1 kind=local-forward rule=2";
    assert_eq!(events, [detail]);
    // A port of the client's host (`-L`), and SOCKS (`-D`), with several connections at a time.
    let forwards = format!("-N -L 127.0.0.1:8101:{ECHO} -L 127.0.0.1:8102:{OTHER_ECHO} -D 8103");
    let session = line.ssh().args(&forwards).start().unwrap();
    await_answer(&world.client, "127.0.0.1:8101");
    thread::scope(|scope| {
        for turn in 0..8 {
            let world = &world;
            scope.spawn(move || {
                let text = format!("{turn}").repeat(100_000);
                let answer = exchange(&world.client, "127.0.0.1:8101", &text).unwrap();
                assert!(answer == text, "{turn}: {} bytes", answer.len());
            });
        }
    });
    let socks = line.client.call("nc").args("-N -X 5 -x 127.0.0.1:8103 127.0.0.1 9001");
    let run = socks.input("through socks").unwrap().run(LIMIT).unwrap();
    assert_eq!(run.text(), "through socks", "{}", run.stderr);
    let answer = exchange(&world.client, "127.0.0.1:8102", "ping");
    assert!(answer.as_ref().is_ok_and(String::is_empty) || answer.is_err(), "{answer:?}");
    end(session);
    let events = records.next().events("channel");
    assert!(events.iter().any(|event| event.contains("denied=endpoint-not-allowed")), "{events:?}");
    assert!(events.len() >= 10, "{events:?}");
}

#[test]
fn a_connection_that_the_policy_does_not_name() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    echo(&world.server, OTHER_ECHO);
    let mut records = Records::new(&line.proxyd);
    let closed = format!("-p {CLOSED_PORT}");
    let cases = [
        ("another port", "", OTHER_ECHO, "endpoint-not-allowed"),
        ("a name for an address", "", "localhost:9001", "endpoint-not-allowed"),
        ("nothing at all", &closed, ECHO, "channel-type-not-allowed"),
    ];
    for (case, options, to, reason) in cases {
        let call = line.ssh().args(options).args("-W").arg(to).input("ping").unwrap();
        let run = call.run(LIMIT).unwrap();
        assert_eq!((run.code(), run.text().as_str()), (255, ""), "{case}");
        assert!(run.stderr.contains("proxyd: "), "{case}: {}", run.stderr);
        let events = records.next().events("channel");
        assert!(events[0].contains(&format!("denied={reason}")), "{case}: {events:?}");
    }
    // The server itself may refuse, and says so by itself.
    let call = line.ssh().args("-W no-such-host.invalid:80").input("").unwrap();
    let run = call.run(LIMIT).unwrap();
    assert!(run.stderr.contains("open failed"), "{}", run.stderr);
    assert!(!run.stderr.contains("proxyd: "), "{}", run.stderr);
    assert!(records.next().events("channel")[0].contains("rule=2"));
}

#[test]
fn connections_that_the_server_takes() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let behind = echo(&world.client, "127.0.0.1:0");
    let session = line.ssh().args(&format!("-N -R 127.0.0.1:8001:{behind}")).start().unwrap();
    await_answer(&world.server, "127.0.0.1:8001");
    let text = "to the client ".repeat(50_000);
    assert!(exchange(&world.server, "127.0.0.1:8001", &text).unwrap() == text);
    end(session);
    let events = records.next().events("channel");
    assert_eq!(events[0], "detail=127.0.0.1:8001 kind=remote-forward rule=4");
    assert!(events[1].starts_with("channel=0 detail=127.0.0.1:8001 from 127.0.0.1"), "{events:?}");
    // Ports that the policy does not name, one that the server would choose among them.
    for listen in ["127.0.0.1:8010", "127.0.0.1:0", "*:8001"] {
        let run = line.ssh().args(&format!("-N -R {listen}:{behind}")).run(LIMIT).unwrap();
        assert_eq!(run.code(), 255, "{listen}");
        assert!(run.stderr.contains("remote port forwarding failed"), "{listen}: {}", run.stderr);
        let events = records.next().events("channel");
        assert!(events[0].contains("denied=endpoint-not-allowed"), "{listen}: {events:?}");
    }
}

#[test]
fn sockets() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let home = line.server.home("alice");
    let listener = UnixListener::bind(home.join("allowed.sock")).unwrap();
    fs::set_permissions(home.join("allowed.sock"), Permissions::from_mode(0o777)).unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = stream.try_clone().unwrap();
            drop(std::io::copy(&mut reader, &mut stream));
            drop(stream.shutdown(Shutdown::Write));
        }
    });
    let own = line.client.directory().join("own.sock");
    let behind = echo(&world.client, "127.0.0.1:0");
    let (at_server, taken) = (home.join("allowed.sock"), home.join("listening.sock"));
    let forwards = format!("-N -L {}:{}", own.display(), at_server.display());
    let forwards = format!("{forwards} -R {}:{behind}", taken.display());
    let session = line.ssh().args(&forwards).start().unwrap();
    for path in [&own, &taken] {
        let answers = || exchange_by_socket(path, "ping").is_ok_and(|answer| answer == "ping");
        wait_until("the socket", LIMIT, answers).unwrap();
    }
    end(session);
    let events = records.next().events("channel").join("\n");
    assert!(events.contains(&format!("detail={} kind=local-forward", at_server.display())));
    assert!(events.contains(&format!("detail={} kind=remote-forward", taken.display())));
    let refused = home.join("other.sock");
    let forwards = format!("-N -R {}:{behind}", refused.display());
    let run = line.ssh().args(&forwards).run(LIMIT).unwrap();
    assert!(run.stderr.contains("forwarding failed"), "{}", run.stderr);
    let events = records.next().events("channel");
    assert!(events[0].contains("denied=endpoint-not-allowed"), "{events:?}");
}

#[test]
fn the_agent_of_the_client() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let socket = line.client.directory().join("agent.sock");
    let agent = line.client.call("ssh-agent").args("-D -a").arg(&socket).start().unwrap();
    wait_until("the agent", LIMIT, || socket.exists()).unwrap();
    let (key, public) = line.client.make_key("agent-key", "ed25519").unwrap();
    let own = socket.to_string_lossy().into_owned();
    line.client.call("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &own).run(LIMIT).unwrap();
    let call = || line.ssh().env("SSH_AUTH_SOCK", &own);
    let run = call().args("-A").arg("ssh-add -L; ssh-add -L | wc -l").run(LIMIT).unwrap();
    let blob = public.split(' ').nth(1).unwrap();
    assert!(run.text().contains(blob) && run.text().ends_with("1\n"), "{run:?}");
    let events = records.next().events("channel");
    assert_eq!(events.len(), 4, "the request, the program, two uses: {events:?}");
    assert_eq!(events[0], "channel=0 detail= kind=agent rule=6");
    assert_eq!(events[2], "channel=1 detail= kind=agent rule=6");
    let closed = format!("-A -p {CLOSED_PORT}");
    let run = call().args(&closed).arg("ssh-add -L; echo $?").run(LIMIT).unwrap();
    assert_eq!(run.text(), "2\n", "no agent there: {}", run.stderr);
    let events = records.next().events("channel");
    assert!(events[0].contains("denied=channel-type-not-allowed"), "{events:?}");
    end(agent);
}

#[test]
fn the_display_of_the_client() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    // What a display does is not of interest here: that bytes reach it and come back is.
    echo(&world.client, "127.0.0.1:6099");
    let shows = "echo $DISPLAY; xauth list $DISPLAY; echo shown; cat";
    let call = line.ssh().args("-Y").arg(shows).env("DISPLAY", "127.0.0.1:99");
    let mut child = call.start_piped().unwrap();
    let mut output = child.stdout.take().unwrap();
    let mut shown = String::new();
    while !shown.contains("shown\n") {
        let mut bytes = [0; 256];
        let count = output.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "the session ended: {shown}");
        shown.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    let display = shown.lines().next().unwrap();
    let number: u16 =
        display.rsplit(':').next().unwrap().split('.').next().unwrap().parse().unwrap();
    let cookie = shown.lines().nth(1).unwrap().split_whitespace().last().unwrap();
    let digits = cookie.as_bytes().chunks_exact(2).map(|digits| str::from_utf8(digits).unwrap());
    let cookie: Vec<u8> = digits.map(|digits| u8::from_str_radix(digits, 16).unwrap()).collect();
    // The first message of an X client (X11R7.7 protocol, section 8): order, version, cookie.
    let mut hello = vec![b'l', 0, 11, 0, 0, 0, 18, 0, 16, 0, 0, 0];
    hello.extend(b"MIT-MAGIC-COOKIE-1\0\0");
    hello.extend(&cookie);
    let port = 6000 + number;
    let answer = world.server.inside(|| {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(&hello)?;
        let mut answer = vec![0; hello.len()];
        stream.read_exact(&mut answer).map(|()| answer)
    });
    assert_eq!(answer.unwrap().unwrap()[..12], hello[..12]);
    child.kill().unwrap();
    child.wait().unwrap();
    let events = records.next().events("channel");
    assert_eq!(events[0], "channel=0 detail= kind=x11 rule=7");
    assert_eq!(events[2], "channel=1 detail=127.0.0.1 kind=x11 rule=7", "{events:?}");
    let closed = format!("-Y -p {CLOSED_PORT}");
    let call = line.ssh().args(&closed).arg("echo \"<$DISPLAY>\"").env("DISPLAY", "127.0.0.1:99");
    assert_eq!(call.run(LIMIT).unwrap().text(), "<>\n");
    let events = records.next().events("channel");
    assert!(events[0].contains("denied=channel-type-not-allowed"), "{events:?}");
}

/// A session inside a forwarded connection is beyond the gateway's sight, so it is told of.
#[test]
fn ssh_within_a_forwarded_connection() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let run = line.ssh().args("-W 127.0.0.1:22").input("SSH-2.0-nested\r\n").unwrap().run(LIMIT);
    let run = run.unwrap();
    assert!(run.text().starts_with("SSH-2.0-OpenSSH"), "{}", run.stderr);
    assert_eq!(records.next().events("nested-ssh"), ["channel=0"]);
}

/// Fifty programs, ten at a time, on one connection.
#[test]
fn a_shared_connection_holds_many_channels() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let socket = line.client.directory().join("master");
    let share = format!("-o ControlPath={}", socket.display());
    let mut master = line.ssh().args(&share).args("-M -N").start().unwrap();
    wait_until("the shared connection", LIMIT, || socket.exists()).unwrap();
    thread::scope(|scope| {
        for turn in 0..10 {
            let (line, share) = (&line, &share);
            scope.spawn(move || {
                for round in 0..5 {
                    let to = line.world.address(Host::Server, Family::V4);
                    let call = line.client.ssh().args(share).arg(format!("alice@{to}"));
                    let run = call.arg(format!("echo {turn} {round}; exit 3")).run(LIMIT).unwrap();
                    assert_eq!(run.text(), format!("{turn} {round}\n"), "{}", run.stderr);
                    assert_eq!(run.code(), 3);
                }
            });
        }
    });
    master.kill().unwrap();
    assert_eq!(records.next().events("channel").len(), 50);
}
