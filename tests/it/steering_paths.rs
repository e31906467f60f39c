//! The main road: OpenSSH's client, without any configuration, through the gateway to `sshd`, in
//! router and bridge mode and in both IP versions.

use std::fs::{self, File};
use std::io::{Read as _, copy};

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::Size;
use e2e::wait::wait_until;
use e2e::world::{Family, Host, Mode, World};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, library};

/// Bytes of the file that goes each way.
const FILE_BYTES: u64 = 100 * 1024 * 1024;

#[test]
fn router_ipv4() {
    all_of_a_path(Mode::Router, Family::V4);
}

#[test]
fn router_ipv6() {
    all_of_a_path(Mode::Router, Family::V6);
}

#[test]
fn bridge_ipv4() {
    all_of_a_path(Mode::Bridge, Family::V4);
}

#[test]
fn bridge_ipv6() {
    all_of_a_path(Mode::Bridge, Family::V6);
}

/// What one path is tried with.
struct Path<'w> {
    world: &'w World,
    client: Client<'w>,
    server: Sshd<'w>,
    proxyd: Proxyd<'w>,
    records: Records,
    family: Family,
}

fn all_of_a_path(mode: Mode, family: Family) {
    let world = World::new(mode).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "keeps-address", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let records = Records::new(&proxyd);
    let server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut path = Path { world: &world, client, server, proxyd, records, family };
    path.commands();
    path.shell();
    path.files();
    path.stops_without_a_trace();
    path.source_is_the_gateway(&auditor);
}

impl Path<'_> {
    fn address(&self, host: Host) -> String {
        self.world.address(host, self.family).to_string()
    }

    /// What a user types, no more: the server's own address.
    fn destination(&self) -> String {
        format!("alice@{}", self.address(Host::Server))
    }

    /// The exit status is the program's, its two outputs stay apart, and the server sees the
    /// client's own address.
    fn commands(&mut self) {
        for code in [0, 7, 255] {
            let call = self.client.ssh().arg(self.destination());
            let call = call.arg(format!("echo out; echo err >&2; exit {code}"));
            let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
            assert_eq!(run.code(), code, "{}", run.stderr);
            assert_eq!(run.text(), "out\n");
            assert!(run.stderr.ends_with("err\n"), "{}", run.stderr);
            let client = self.address(Host::Client);
            self.check_record("keeps-address", &client);
        }
    }

    /// The record of the session that just ended, and what the server says about it.
    fn check_record(&mut self, policy: &str, seen_by_server: &str) {
        let closed = self.records.next();
        let row = &closed.row;
        assert_eq!((row.outcome.as_str(), row.reason.as_str()), ("completed", ""), "{row:?}");
        assert_eq!((row.protocol.as_str(), row.policy.as_str()), ("ssh", policy));
        assert_eq!(row.remote_user, "alice");
        let server = std::net::SocketAddr::new(self.world.address(Host::Server, self.family), 22);
        assert_eq!(row.original_destination, server.to_string());
        assert_eq!(row.target, server.to_string());
        let client: std::net::SocketAddr = row.client.parse().unwrap();
        assert_eq!(client.ip().to_string(), self.address(Host::Client));
        let accepted = format!("from {seen_by_server} port");
        let line = self.server.logged(&["Accepted", "for alice", &accepted]).unwrap();
        if seen_by_server == client.ip().to_string() {
            // Not only the address is the client's own, the port is too.
            assert!(line.contains(&format!("port {}", client.port())), "{line} {client}");
        }
        let key = self.proxyd.public_key().unwrap();
        let trail = self.proxyd.trail(&row.trail);
        let verify = format!("trail verify --key {key}");
        let verified = self.proxyd.command(&verify, &[&trail]).unwrap();
        assert_eq!(verified.code(), 0, "{}", verified.text() + &verified.stderr);
        assert!(verified.text().contains("complete"), "{}", verified.text());
        let hash = &row.trail_hash;
        assert!(!hash.is_empty() && verified.text().contains(hash), "{hash}");
    }

    /// A shell in a terminal: its size, a change of size, and the key that interrupts.
    fn shell(&mut self) {
        let call = self.client.ssh().arg(self.destination());
        let call = call.reply(sshd::ASKS, sshd::PASSWORD);
        let mut terminal = call.terminal(Size { rows: 31, columns: 101 }).unwrap();
        terminal.send("stty size; echo size-$((1+1))\r").unwrap();
        assert!(terminal.expect("size-2", LIMIT).unwrap().contains("31 101"));
        terminal.resize(Size { rows: 41, columns: 121 }).unwrap();
        terminal.send("until stty size | grep '41 121'; do :; done; echo new-$((1+1))\r").unwrap();
        terminal.expect("new-2", LIMIT).unwrap();
        terminal.send("echo started-$((1+1)); cat\r").unwrap();
        terminal.expect("started-2", LIMIT).unwrap();
        terminal.send("\u{3}").unwrap();
        // The interrupt throws away what was typed before the prompt is back.
        terminal.expect("$ ", LIMIT).unwrap();
        terminal.send("echo interrupted-$?\r").unwrap();
        terminal.expect("interrupted-130", LIMIT).unwrap();
        terminal.send("exit 5\r").unwrap();
        assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(5));
        let client = self.address(Host::Client);
        self.check_record("keeps-address", &client);
    }

    /// A large file goes there and back and is the same.
    fn files(&mut self) {
        let sent = self.client.directory().join("sent");
        let received = self.client.directory().join("received");
        let mut random = File::open("/dev/urandom").unwrap().take(FILE_BYTES);
        copy(&mut random, &mut File::create(&sent).unwrap()).unwrap();
        let (from, to) = (sent.display(), received.display());
        let script = format!("put {from} stored\nget stored {to}\n");
        let host = match self.family {
            Family::V4 => self.destination(),
            Family::V6 => format!("alice@[{}]", self.address(Host::Server)),
        };
        let call = self.client.sftp().arg(host).input(script).unwrap();
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(4 * LIMIT).unwrap();
        assert_eq!(run.code(), 0, "{}", run.stderr);
        let stored = self.server.home("alice").join("stored");
        let original = fs::read(&sent).unwrap();
        assert_eq!(original.len() as u64, FILE_BYTES);
        assert!(original == fs::read(&stored).unwrap(), "the server has another file");
        assert!(original == fs::read(&received).unwrap(), "the client got another file back");
        for file in [sent, received, stored] {
            fs::remove_file(file).unwrap();
        }
        let client = self.address(Host::Client);
        self.check_record("keeps-address", &client);
    }

    /// A stop removes programs, maps and routes: the next flow goes straight to the server.
    fn stops_without_a_trace(&mut self) {
        let rules = || self.world.gateway.ip("rule list").unwrap();
        assert!(!self.world.pins().unwrap().is_empty());
        assert!(rules().contains("fwmark"), "{}", rules());
        self.proxyd.stop().unwrap();
        assert_eq!(self.world.pins().unwrap(), Vec::<std::path::PathBuf>::new());
        assert!(!rules().contains("fwmark"), "{}", rules());
        self.client.forget_host_keys().unwrap();
        let call = self.client.ssh().arg(self.destination()).arg("exit 9");
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!(run.code(), 9, "{}", run.stderr);
        let known = self.client.known_hosts().unwrap();
        let key = self.server.host_key().unwrap();
        let key = key.split_whitespace().nth(1).unwrap();
        assert!(known.contains(key), "the server's own key is not in {known}");
        self.client.forget_host_keys().unwrap();
    }

    /// With `source = "gateway"` the server sees the gateway.
    fn source_is_the_gateway(&mut self, auditor: &Auditor) {
        let lines = format!("source = \"gateway\"\n{OPEN}");
        let policies = connection(self.world, "hides-address", &lines) + &library(auditor, &[]);
        self.proxyd.configure(Settings { policies: &policies, ..Settings::default() }).unwrap();
        self.proxyd.launch().unwrap();
        let call = self.client.ssh().arg(self.destination()).arg("echo $SSH_CLIENT");
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        let gateway = self.address(Host::GatewayForServer);
        assert!(run.text().starts_with(&gateway), "{} is not {gateway}", run.text());
        self.check_record("hides-address", &gateway);
        wait_until("the session to be gone", LIMIT, || {
            self.proxyd.live_sessions().unwrap().is_empty()
        })
        .unwrap();
        self.proxyd.stop().unwrap();
    }
}
