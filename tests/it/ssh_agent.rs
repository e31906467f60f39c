//! The login at the server by the keys of the client's own agent, which it forwards.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::thread;

use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::Sshd;
use e2e::process::Process;
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::Size;
use e2e::wait::{wait_for, wait_until};
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, LIMIT, Records, connection, library, pattern};

/// Bytes that go both ways over a channel that was confirmed before the server was there.
const BULK_BYTES: usize = 8 * 1024 * 1024;

const POLICIES: &str = r#"
[[authentication_policy]]
name = "by-agent"
gateway = [{ method = "publickey", backend = "local" }]
server = ["publickey-agent"]
"#;

/// What all tests of this file stand on.
struct Line<'w> {
    world: &'w World,
    client: Client<'w>,
    proxyd: Proxyd<'w>,
    server: Sshd<'w>,
    /// The key that the gateway knows; the agent does not have it.
    gateway_key: PathBuf,
    socket: String,
    _agent: Process,
}

impl<'w> Line<'w> {
    fn new(world: &'w World, settings_of_server: &str) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let client = Client::new(world, "alice").unwrap();
        let (gateway_key, public) = client.make_key("gateway-key", "ed25519").unwrap();
        let lines = "authentication = \"by-agent\"\nchannels = \"all\"\naudit = \"sealed\"\n";
        let policies =
            connection(world, "by-agent", lines) + &library(&auditor, &[&public]) + POLICIES;
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let server = Sshd::start_with(world, settings_of_server).unwrap();
        let socket = client.directory().join("agent.sock");
        let agent = client.call("ssh-agent").args("-D -a").arg(&socket).start().unwrap();
        wait_until("the agent", LIMIT, || socket.exists()).unwrap();
        let socket = socket.to_string_lossy().into_owned();
        Self { world, client, proxyd, server, gateway_key, socket, _agent: agent }
    }

    /// Makes a key and gives it to the agent; gives its public half.
    fn add_key(&self, name: &str, kind: &str, options: &str) -> (PathBuf, String) {
        let (key, public) = self.client.make_key(name, kind).unwrap();
        let added = self.client.call("ssh-add").args(options).arg(&key);
        added.env("SSH_AUTH_SOCK", &self.socket).run(LIMIT).unwrap().ok().unwrap();
        (key, public)
    }

    fn ssh(&self, forwarding: &str) -> Call<'_> {
        let to = self.world.address(Host::Server, Family::V4);
        let own =
            if forwarding == "-a" { "-o IdentityAgent=none" } else { "-o IdentitiesOnly=yes" };
        let call = self.client.ssh().args(forwarding).args(own).arg("-i");
        let call = call.arg(&self.gateway_key).arg("-l").arg("alice").arg(to.to_string());
        call.env("SSH_AUTH_SOCK", &self.socket)
    }
}

#[test]
fn every_kind_of_key() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let mut records = Records::new(&line.proxyd);
    for kind in ["ed25519", "rsa", "ecdsa"] {
        // Of several keys, the server takes the one it knows; the others are only asked about.
        let (_key, public) = line.add_key(kind, kind, "");
        line.server.authorize("alice", &public).unwrap();
        let run = line.ssh("-A").arg("echo $USER; exit 7").run(LIMIT).unwrap();
        assert_eq!((run.code(), run.text().as_str()), (7, "alice\n"), "{kind}: {}", run.stderr);
        let closed = records.next();
        let login = "method=publickey-agent verdict=accepted";
        assert_eq!(closed.events("server-login").last().unwrap(), login, "{kind}");
        let channels = closed.events("channel");
        // The agent was used to log in, which the program's own use of it is not.
        assert_eq!(channels[0], "channel=0 denied=channel-type-not-allowed detail= kind=agent");
        assert!(channels[1].contains("kind=session-exec rule=1"), "{kind}: {channels:?}");
        let removed = line.client.call("ssh-add").arg("-D").env("SSH_AUTH_SOCK", &line.socket);
        removed.run(LIMIT).unwrap().ok().unwrap();
    }
    line.server.logged(&["Accepted publickey for alice", "RSA"]).unwrap();
}

#[test]
fn a_certificate_in_the_agent() {
    let world = World::router().unwrap();
    let ca = world.subdirectory("ca").unwrap().join("ca");
    let trusted = format!("TrustedUserCAKeys {}.pub", ca.display());
    let mut keygen = std::process::Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&ca);
    e2e::process::output(&mut keygen).unwrap();
    let line = Line::new(&world, &trusted);
    let (key, _public) = line.client.make_key("certified", "rsa").unwrap();
    let mut sign = std::process::Command::new("ssh-keygen");
    sign.args(["-q", "-I", "id", "-n", "alice", "-s"]).arg(&ca).arg(key.with_extension("pub"));
    e2e::process::output(&mut sign).unwrap();
    let added = line.client.call("ssh-add").arg(&key).env("SSH_AUTH_SOCK", &line.socket);
    added.run(LIMIT).unwrap().ok().unwrap();
    let run = line.ssh("-A").arg("echo in").run(LIMIT).unwrap();
    assert_eq!(run.text(), "in\n", "{}", run.stderr);
    line.server.logged(&["Accepted publickey for alice", "RSA-CERT"]).unwrap();
}

#[test]
fn programs_notice_nothing_of_it() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let (_key, public) = line.add_key("own", "ed25519", "");
    line.server.authorize("alice", &public).unwrap();
    let sent = pattern(BULK_BYTES);
    let run = line.ssh("-A").arg("cat; exit 3").input(&sent).unwrap().run(2 * LIMIT).unwrap();
    assert_eq!(run.code(), 3, "{}", run.stderr);
    assert!(run.stdout == sent, "{} bytes came back", run.stdout.len());
    let mut terminal = line.ssh("-A").terminal(Size { rows: 31, columns: 101 }).unwrap();
    terminal.send("stty size; echo size-$((1+1))\r").unwrap();
    assert!(terminal.expect("size-2", LIMIT).unwrap().contains("31 101"));
    terminal.resize(Size { rows: 41, columns: 121 }).unwrap();
    wait_until("the new size", LIMIT, || {
        terminal.send("stty size\r").unwrap();
        terminal.expect("41 121", std::time::Duration::from_millis(500)).is_ok()
    })
    .unwrap();
    terminal.send("exit 5\r").unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(5));
}

/// `SSH_AGENTC_REQUEST_IDENTITIES` (draft-ietf-sshm-ssh-agent, section 3.5).
const REQUEST_IDENTITIES: u8 = 11;

/// Reads a request to an agent; gives its number.
fn read_request(stream: &mut UnixStream) -> Option<u8> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut request = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut request).unwrap();
    request.first().copied()
}

/// What is forwarded as an agent need not be one.
#[test]
fn an_agent_that_is_none() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let mut records = Records::new(&line.proxyd);
    let cases: [(&str, &[u8], &str); 6] = [
        ("2^32-1 keys", &[0, 0, 0, 5, 12, 0xff, 0xff, 0xff, 0xff], "client-agent"),
        ("4 GiB", &[0xff, 0xff, 0xff, 0xff, 12], "client-agent"),
        ("a signature", &[0, 0, 0, 6, 14, 0, 0, 0, 1, b's'], "client-agent"),
        ("more than it was asked for", &[0, 0, 0, 1, 5, 0], "client-agent"),
        ("no", &[0, 0, 0, 1, 5], "server-authentication-failed"),
        ("nothing", &[], "no-agent"),
    ];
    for (number, (case, answer, reason)) in cases.into_iter().enumerate() {
        let path = line.client.directory().join(format!("no-agent-{number}.sock"));
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let agent = thread::spawn(move || {
            let accept = || Ok(listener.accept().ok());
            let (mut stream, _address) = wait_for("the agent to be asked", LIMIT, accept).unwrap();
            stream.set_nonblocking(false).unwrap();
            stream.set_read_timeout(Some(LIMIT)).unwrap();
            // The client itself binds the agent to its connection first.
            while read_request(&mut stream) != Some(REQUEST_IDENTITIES) {
                stream.write_all(&[0, 0, 0, 1, 5]).unwrap();
            }
            stream.write_all(answer).unwrap();
        });
        let forward = format!("-o ForwardAgent={}", path.display());
        let run = line.ssh(&forward).arg("echo in").run(LIMIT).unwrap();
        agent.join().unwrap();
        assert_eq!((run.code(), run.text().as_str()), (255, ""), "{case}: {}", run.stderr);
        let row = records.next().row;
        assert!(row.reason.starts_with(reason), "{case}: {}", row.reason);
    }
    assert!(!line.server.log().unwrap().contains("Accepted publickey"));
}

#[test]
fn who_has_no_fitting_agent_is_told() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let mut records = Records::new(&line.proxyd);
    let no_agent = "the client does not forward an agent";
    let refused = "the server refused the authentication";
    let attempt =
        |records: &mut Records, case: &str, forwarding: &str, text: &str, reason: &str| {
            let run = line.ssh(forwarding).arg("echo in").run(LIMIT).unwrap();
            assert_eq!((run.code(), run.text().as_str()), (255, ""), "{case}");
            assert!(run.stderr.contains(text), "{case}: {}", run.stderr);
            let row = records.next().row;
            assert_eq!((row.outcome.as_str(), row.reason.as_str()), ("denied", reason), "{case}");
        };
    attempt(&mut records, "forwards none", "-a", no_agent, "no-agent");
    attempt(&mut records, "an empty one", "-A", refused, "server-authentication-failed");
    line.add_key("stranger", "ed25519", "");
    attempt(&mut records, "unknown keys", "-A", refused, "server-authentication-failed");
    // An agent that asks its user, who is not there to say yes.
    let (_key, public) = line.add_key("asks", "ed25519", "-c");
    line.server.authorize("alice", &public).unwrap();
    attempt(&mut records, "an agent that refuses", "-A", refused, "server-authentication-failed");
    assert!(!line.server.log().unwrap().contains("Accepted publickey"));
    let (_key, public) = line.add_key("right", "ed25519", "");
    line.server.authorize("alice", &public).unwrap();
    let run = line.ssh("-A").arg("echo in").run(LIMIT).unwrap();
    assert_eq!(run.text(), "in\n", "the last of several keys: {}", run.stderr);
}
