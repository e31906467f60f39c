//! Servers behind the gateway: OpenSSH's with PAM, one with algorithms of old, and dropbear's; and
//! how programs end.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use e2e::netns::Namespace;
use e2e::peer::dropbear::Dropbear;
use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::Size;
use e2e::wait::wait_until;
use e2e::world::{Family, Host, World};
use nix::sys::signal::Signal;

use crate::stage::{
    Auditor, GATEWAY_PASSWORD, LIMIT, Records, connection, connection_on, library, pattern,
};

/// The port of the policy under which a stored key logs in.
const KEY_PORT: u16 = 2501;

/// Bytes that are copied, and that go there and back while keys are exchanged.
const BULK_BYTES: usize = 6 * 1024 * 1024;

/// Between two key exchanges of a side that is told to.
const REKEY: &str = "-o RekeyLimit=1M";

/// Where a program of the server's host answers what it is sent.
const ECHO: &str = "127.0.0.1:9001";

/// Lets old servers in, and everything through.
const POLICIES: &str = r#"
[[settings_policy]]
name = "old"
protocol = "ssh"
server_side = { legacy = true }

[[authentication_policy]]
name = "stored"
gateway = [{ method = "password", backend = "local" }]
server = ["publickey"]

[[credential_store]]
name = "vault"
kind = "local"
[[credential_store.entry]]
host = "10.77.2.3"
user = "alice"
key_file = "FILE"

[[channel_policy]]
name = "everything"
[[channel_policy.rule]]
type = "session-shell"
[[channel_policy.rule]]
type = "session-exec"
[[channel_policy.rule]]
type = "session-exec-scp"
[[channel_policy.rule]]
type = "session-sftp"
[[channel_policy.rule]]
type = "local-forward"
[[channel_policy.rule]]
type = "remote-forward"
"#;

const LINES: &str = "
channels = \"everything\"
audit = \"sealed\"
settings = \"old\"
";

/// A client and a gateway; each test brings its server.
struct Line<'w> {
    world: &'w World,
    client: Client<'w>,
    proxyd: Proxyd<'w>,
    /// What the server has to let in for [`KEY_PORT`].
    public_key: String,
}

impl<'w> Line<'w> {
    fn new(world: &'w World) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let client = Client::new(world, "alice").unwrap();
        let (stored, public_key) = client.make_key("stored", "ed25519").unwrap();
        let open = format!("authentication = \"open\"{LINES}");
        let by_key = format!("authentication = \"stored\"\ncredential_store = \"vault\"{LINES}");
        let policies = connection(world, "open", &open)
            + &connection_on(world, "by-key", KEY_PORT, &by_key)
            + &library(&auditor, &[])
            + &POLICIES.replace("FILE", &stored.display().to_string());
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        Self { world, client, proxyd, public_key }
    }

    fn program(&self, program: &str) -> Call<'_> {
        self.client.call(program).reply(sshd::ASKS, sshd::PASSWORD)
    }

    fn ssh(&self, options: &str) -> Call<'_> {
        self.program("ssh").args(options).arg(self.destination())
    }

    fn destination(&self) -> String {
        format!("alice@{}", self.world.address(Host::Server, Family::V4))
    }

    /// Everything that is asked of a server; `home` is that of `alice`.
    fn does_everything(&self, home: &Path) {
        let mut records = Records::new(&self.proxyd);
        self.runs_programs();
        self.has_terminals();
        self.takes_files(home);
        self.forwards();
        self.exchanges_keys();
        let call = self.client.ssh().args(&format!("-p {KEY_PORT}")).arg(self.destination());
        let call = call.reply(sshd::ASKS, GATEWAY_PASSWORD).reply("password for", GATEWAY_PASSWORD);
        let run = call.arg("exit 6").run(LIMIT).unwrap();
        assert_eq!(run.code(), 6, "by key: {}", run.stderr);
        for row in records.all() {
            let closed = records.next();
            assert_eq!(closed.row.outcome, "completed", "{}", closed.row.reason);
            assert_eq!(closed.events("refused"), [""; 0], "{row:?}");
        }
    }

    fn runs_programs(&self) {
        let run = self.ssh("").arg("echo out; echo err >&2; exit 7").run(LIMIT).unwrap();
        assert_eq!((run.code(), run.text().as_str()), (7, "out\n"), "{}", run.stderr);
        assert!(run.stderr.ends_with("err\n"), "{}", run.stderr);
        let call = self.ssh("").arg("cat; echo behind; exit 3").input("abc\n").unwrap();
        let run = call.run(LIMIT).unwrap();
        assert_eq!((run.code(), run.text().as_str()), (3, "abc\nbehind\n"), "{}", run.stderr);
    }

    fn has_terminals(&self) {
        let mut terminal = self.ssh("-tt").terminal(Size { rows: 30, columns: 90 }).unwrap();
        terminal.send("stty size\r").unwrap();
        terminal.expect("30 90", LIMIT).unwrap();
        terminal.resize(Size { rows: 41, columns: 121 }).unwrap();
        terminal.send("until stty size | grep '41 121'; do sleep 0.1; done\r").unwrap();
        terminal.expect("41 121\r\n", LIMIT).unwrap();
        // A key stroke becomes a signal: the shell goes on.
        terminal.send("echo ready; cat\r").unwrap();
        terminal.expect("ready\r\n", LIMIT).unwrap();
        terminal.send("into cat\r").unwrap();
        terminal.expect("into cat\r\ninto cat\r\n", LIMIT).unwrap();
        terminal.send("\x03").unwrap();
        terminal.expect("^C", LIMIT).unwrap();
        terminal.expect("$ ", LIMIT).unwrap();
        terminal.send("echo $((40 + 2)); exit 5\r").unwrap();
        terminal.expect("42\r\n", LIMIT).unwrap();
        assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(5));
    }

    fn takes_files(&self, home: &Path) {
        let (here, there) = (self.client.directory().join("here"), home.join("there"));
        let back = self.client.directory().join("back");
        fs::write(&here, pattern(BULK_BYTES)).unwrap();
        let lines =
            format!("put {0} {1}\nget {1} {2}\n", here.display(), there.display(), back.display());
        let sftp = self.program("sftp").arg("-q").arg(self.destination());
        sftp.input(lines).unwrap().run(LIMIT).unwrap().ok().unwrap();
        self.came_back(&[&there, &back]);
        let remote = format!("{}:{}", self.destination(), there.display());
        let scp = || self.program("scp").args("-q -O");
        scp().arg(&here).arg(&remote).run(LIMIT).unwrap().ok().unwrap();
        scp().arg(&remote).arg(&back).run(LIMIT).unwrap().ok().unwrap();
        self.came_back(&[&there, &back]);
    }

    fn came_back(&self, paths: &[&PathBuf]) {
        for path in paths {
            assert!(fs::read(path).unwrap() == pattern(BULK_BYTES), "{}", path.display());
            fs::remove_file(path).unwrap();
        }
    }

    fn forwards(&self) {
        echo(&self.world.server, ECHO);
        let behind = echo(&self.world.client, "127.0.0.1:9002");
        let options = format!("-N -L 127.0.0.1:8101:{ECHO} -R 127.0.0.1:8001:{behind}");
        let session = self.ssh(&options).start().unwrap();
        let text = "forwarded ".repeat(20_000);
        for (namespace, at) in
            [(&self.world.client, "127.0.0.1:8101"), (&self.world.server, "127.0.0.1:8001")]
        {
            let answers = || exchange(namespace, at, "up?").is_ok_and(|answer| answer == "up?");
            wait_until(at, LIMIT, answers).unwrap();
            assert!(exchange(namespace, at, &text).unwrap() == text, "{at}");
        }
        session.signal(Signal::SIGTERM).unwrap();
        session.finish(LIMIT).unwrap();
    }

    /// The client asks for new keys all the time, while data goes both ways.
    fn exchanges_keys(&self) {
        let call = self.ssh(&format!("-v {REKEY}")).arg("cat").input(pattern(BULK_BYTES)).unwrap();
        let run = call.run(LIMIT).unwrap();
        assert_eq!(run.code(), 0, "{}", run.stderr);
        assert!(run.stdout == pattern(BULK_BYTES), "{} bytes came back", run.stdout.len());
        let exchanges = run.stderr.matches("SSH2_MSG_NEWKEYS received").count();
        assert!(exchanges > 3, "{exchanges} key exchanges");
    }
}

/// Answers one connection after the other with what it is sent, until the test is over.
fn echo(namespace: &Namespace, at: &'static str) -> &'static str {
    let listener = namespace.inside(|| TcpListener::bind(at)).unwrap().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut reader = stream.try_clone().unwrap();
            // A peer that breaks off has had enough.
            drop(std::io::copy(&mut reader, &mut stream));
            drop(stream.shutdown(Shutdown::Write));
        }
    });
    at
}

/// Sends a text from within a namespace and gives what comes back.
fn exchange(namespace: &Namespace, at: &str, text: &str) -> std::io::Result<String> {
    namespace
        .inside(|| {
            let mut stream = TcpStream::connect(at)?;
            stream.set_read_timeout(Some(LIMIT))?;
            let mut reader = stream.try_clone()?;
            thread::scope(|scope| {
                let received = scope.spawn(move || {
                    let mut answer = String::new();
                    reader.read_to_string(&mut answer).map(|_bytes| answer)
                });
                stream.write_all(text.as_bytes())?;
                stream.shutdown(Shutdown::Write)?;
                received.join().unwrap()
            })
        })
        .unwrap()
}

#[test]
fn openssh_with_pam() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let server = Sshd::start_with(&world, "RekeyLimit 1M").unwrap();
    server.authorize("alice", &line.public_key).unwrap();
    line.does_everything(&server.home("alice"));
    server.logged(&["Accepted keyboard-interactive/pam for alice"]).unwrap();
    server.logged(&["Accepted publickey for alice"]).unwrap();
}

/// A server that knows nothing newer than SHA-1 and CBC.
#[test]
fn openssh_of_old() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let (host_key, _public) = line.client.make_key("old-host", "rsa").unwrap();
    let old = format!(
        "HostKey {}\nHostKeyAlgorithms ssh-rsa\nKexAlgorithms diffie-hellman-group14-sha1\n\
         Ciphers aes128-cbc,3des-cbc\nMACs hmac-sha1\n",
        host_key.display()
    );
    let server = Sshd::start_with(&world, &old).unwrap();
    server.authorize("alice", &line.public_key).unwrap();
    line.does_everything(&server.home("alice"));
}

#[test]
fn dropbear() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let server = Dropbear::start(&world).unwrap();
    server.authorize("alice", &line.public_key).unwrap();
    line.does_everything(&server.home("alice"));
    let log = server.log().unwrap();
    assert!(log.contains("Password auth succeeded for 'alice'"), "{log}");
    assert!(log.contains("Pubkey auth succeeded for 'alice'"), "{log}");
}

/// Every way in which a program ends reaches the client as it is.
#[test]
fn how_programs_end() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let _server = Sshd::start(&world).unwrap();
    let mut records = Records::new(&line.proxyd);
    for code in [0, 1, 2, 126, 127, 128, 254, 255] {
        let run = line.ssh("").arg(format!("exit {code}")).run(LIMIT).unwrap();
        assert_eq!((run.code(), run.stdout.as_slice()), (code, [].as_slice()), "{}", run.stderr);
        assert_eq!(records.next().row.outcome, "completed");
    }
    for signal in ["TERM", "KILL", "SEGV", "HUP"] {
        let run = line.ssh("-v").arg(format!("kill -{signal} $$; cat")).run(LIMIT).unwrap();
        assert_eq!(run.code(), 255, "{signal}: {}", run.stderr);
        assert!(run.stderr.contains("rtype exit-signal"), "{signal}: {}", run.stderr);
        assert_eq!(records.next().row.outcome, "completed", "{signal}");
    }
    // `head` ends long before the writer does, which is told by a signal.
    let run = line.ssh("").arg("yes | head -1; echo ${PIPESTATUS[0]}").run(LIMIT).unwrap();
    assert_eq!((run.code(), run.text().as_str()), (0, "y\n141\n"), "{}", run.stderr);
    assert!(run.took < Duration::from_secs(3), "{:?}", run.took);
    assert_eq!(records.next().row.outcome, "completed");
    // A break is no byte, and ends nothing.
    let mut terminal = line.ssh("-tt").terminal(Size { rows: 30, columns: 90 }).unwrap();
    terminal.send("echo $((40 + 2))\r").unwrap();
    terminal.expect("42\r\n", LIMIT).unwrap();
    terminal.send("~B").unwrap();
    terminal.send("echo $((50 + 3)); exit 4\r").unwrap();
    terminal.expect("53\r\n", LIMIT).unwrap();
    assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(4));
    let closed = records.next();
    assert_eq!((closed.row.outcome.as_str(), closed.events("refused").len()), ("completed", 0));
}

/// How long a reader stands still: time enough for every buffer on the way to fill.
const STALL: Duration = Duration::from_secs(3);

/// A reader that stands still and then goes away takes the session with it at once.
#[test]
fn a_reader_that_stalls_and_leaves() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let _server = Sshd::start(&world).unwrap();
    let mut child = line.ssh("").arg("yes").start_piped().unwrap();
    let mut first = [0; 2];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    thread::park_timeout(STALL);
    assert!(child.try_wait().unwrap().is_none(), "the session did not last");
    drop(child.stdout.take());
    let left = e2e::wait::Stopwatch::start();
    wait_until("the end of ssh", LIMIT, || child.try_wait().is_ok_and(|end| end.is_some()))
        .unwrap();
    assert!(left.elapsed() < Duration::from_secs(1), "{:?}", left.elapsed());
    assert_eq!(Records::new(&line.proxyd).next().row.outcome, "completed");
}
