//! What no hostile peer may touch: the daemon, its memory, and the session of another user.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdin, ChildStdout};
use std::sync::Arc;
use std::time::Duration;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::{Stopwatch, wait_for};
use e2e::world::{Family, Host, World};
use nix::unistd::Pid;
use proxyd::session::row::{ACTIVE, SessionRow};
use proxyd_ssh::auth::connector::Connector;
use proxyd_ssh::transport::HostKey;

use crate::raw::Peer;
use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library};

/// Where hostile servers listen, and the port of the policy that leads there.
pub(crate) const RAW_PORT: u16 = 2501;
const TO_RAW_PORT: u16 = 2502;

/// For the key exchange, and for each later one.
pub(crate) const HANDSHAKE_LIMIT: Duration = Duration::from_secs(4);

/// Within this a peer that broke the protocol is gone; it is below [`HANDSHAKE_LIMIT`], so it was
/// not the clock that ended it.
pub(crate) const SOON: Duration = Duration::from_secs(3);

/// How long the session beside it may take for an echo.
const ECHO_LIMIT: Duration = Duration::from_secs(2);

/// Memory that the daemon may come to occupy, above what it had before the first attack, in KiB.
/// The worst is a peer that reads no answers: 8 MiB of them wait, in a buffer that doubles, before
/// it is cut off.
const GROWTH_KIB_MAX: u64 = 24 * 1024;

/// Has the kernel forget the largest amount of memory that a process has had (`proc(5)`).
const RESET_PEAK: &str = "5";

const POLICIES: &str = r#"
[[settings_policy]]
name = "unchecked"
protocol = "ssh"
server_side = { host_key_check = "off" }
"#;

/// A gateway under attack, with a user who notices nothing of it.
pub(crate) struct Siege<'w> {
    world: &'w World,
    proxyd: Proxyd<'w>,
    records: Records,
    pid: Pid,
    memory_kib: u64,
    bystander: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _server: Sshd<'w>,
    key: Arc<HostKey>,
}

impl<'w> Siege<'w> {
    /// A gateway and its user's session.
    pub(crate) fn new(world: &'w World) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let lines = OPEN.replace("channels =", "settings = \"unchecked\"\nchannels =");
        let raw = connection_on(world, "raw", TO_RAW_PORT, &lines)
            .replace("port = 22 }", &format!("port = {RAW_PORT} }}"));
        let policies = connection(world, "open", OPEN) + &raw + &library(&auditor, &[]) + POLICIES;
        let limits = format!("handshake_timeout_s = {}\n", HANDSHAKE_LIMIT.as_secs());
        let settings = Settings { limits: &limits, policies: &policies, ..Settings::default() };
        let mut proxyd = Proxyd::start(world, settings).unwrap();
        let server = Sshd::start(world).unwrap();
        let client = Client::new(world, "bob").unwrap();
        let to = format!("bob@{}", world.address(Host::Server, Family::V4));
        let call = client.ssh().reply(sshd::ASKS, sshd::PASSWORD).arg(to).arg("cat");
        let mut bystander = call.start_piped().unwrap();
        let input = bystander.stdin.take().unwrap();
        let output = BufReader::new(bystander.stdout.take().unwrap());
        let pid = proxyd.process().unwrap().pid().unwrap();
        let records = Records::new(&proxyd);
        let key = Arc::new(HostKey::generate_ed25519().unwrap());
        let mut siege = Self {
            world,
            proxyd,
            records,
            pid,
            memory_kib: 0,
            bystander,
            input,
            output,
            _server: server,
            key,
        };
        siege.echo(LIMIT, "before");
        // What the start took, which is more, does not count.
        std::fs::write(format!("/proc/{pid}/clear_refs"), RESET_PEAK).unwrap();
        siege.memory_kib = siege.occupied_kib();
        siege
    }

    /// Everything is as before.
    pub(crate) fn holds(&mut self, case: &str) {
        let ended = self.proxyd.process().unwrap().status().unwrap();
        assert_eq!(ended, None, "{case}: the daemon ended");
        self.echo(ECHO_LIMIT, case);
        let grown_kib = self.occupied_kib().saturating_sub(self.memory_kib);
        assert!(grown_kib < GROWTH_KIB_MAX, "{case}: the daemon grew by {grown_kib} KiB");
        let log = self.proxyd.log().unwrap();
        assert!(!log.contains("panicked"), "{case}: {log}");
    }

    /// The other user's session answers.
    fn echo(&mut self, limit: Duration, case: &str) {
        let asked = Stopwatch::start();
        let line = format!("{case}\n");
        self.input.write_all(line.as_bytes()).unwrap();
        let mut back = String::new();
        self.output.read_line(&mut back).unwrap();
        assert_eq!(back, line);
        assert!(asked.elapsed() < limit, "{case}: an echo took {:?}", asked.elapsed());
    }

    /// The largest amount of memory that the daemon has had so far, in KiB.
    fn occupied_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// How the session of a client has ended.
    pub(crate) fn row(&self, client: SocketAddr, case: &str) -> SessionRow {
        let found = wait_for(&format!("the record of {case}"), LIMIT, || {
            let row = self.records.all().into_iter().find(|row| row.client == client.to_string());
            Ok(row.filter(|row| row.outcome != ACTIVE))
        });
        found.unwrap()
    }

    /// A connection to OpenSSH's server, as far as the gateway.
    pub(crate) fn connect(&self) -> TcpStream {
        self.connect_to(sshd::PORT)
    }

    fn connect_to(&self, port: u16) -> TcpStream {
        let to = SocketAddr::new(self.world.address(Host::Server, Family::V4), port);
        let stream = self.world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    /// A client that has sent a password for a server, and that server's end of the gateway's
    /// connection.
    pub(crate) fn connect_through(&self) -> (Peer, TcpStream) {
        self.connect_by(|connector| connector.password(sshd::PASSWORD.as_bytes()).to_vec())
    }

    /// The same with another attempt.
    pub(crate) fn connect_by(
        &self,
        attempt: impl FnOnce(&mut Connector) -> Vec<u8>,
    ) -> (Peer, TcpStream) {
        let at = SocketAddr::new(self.world.address(Host::Server, Family::V4), RAW_PORT);
        let listener = self.world.server.inside(|| TcpListener::bind(at)).unwrap().unwrap();
        let mut client = Peer::client(self.connect_to(TO_RAW_PORT));
        let (mut connector, hello) = Connector::new(b"alice", &client.session_id());
        client.send(&hello);
        connector.receive(&client.next().unwrap()).unwrap();
        client.send(&attempt(&mut connector));
        let (stream, _gateway) = listener.accept().unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        (client, stream)
    }

    /// The host key of the hostile servers.
    pub(crate) fn key(&self) -> Arc<HostKey> {
        Arc::clone(&self.key)
    }
}

impl Drop for Siege<'_> {
    fn drop(&mut self) {
        // It may have ended, where the test has failed.
        drop(self.bystander.kill());
        drop(self.bystander.wait());
    }
}
