//! `cargo xtask demo`: one SSH session through the gateway, told step by step, each step checked.

mod counters;
mod passing;
mod transcript;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings, make_identity};
use e2e::terminal::{Size, Terminal};
use e2e::wait::wait_for;
use e2e::world::{Family, Host, World};
use serde_json::Value;
use xshell::{Shell, cmd};

use self::counters::Counters;
use crate::{ebpf, setup};

/// For anything that answers at once, on a busy machine.
const LIMIT: Duration = Duration::from_secs(20);

/// The user, at the gateway and on the server.
const USER: &str = "alice";

/// The password of [`USER`] at the gateway.
const GATEWAY_PASSWORD: &str = "Gateway-pass-1";

/// [`GATEWAY_PASSWORD`], hashed with the least cost there is: the demo keeps no secret.
const GATEWAY_PASSWORD_HASH: &str = "\
    $argon2id$v=19$m=8,t=1,p=1$cHJveHlkLXRlc3Rz$aRjPYsmnsQKzea0o9lqe1XxaCC+U7vEg00kb7tfnFgg";

/// The connection policy, as `proxyd steering status` lists it.
const POLICY: &str = "office-to-servers";

/// Wide enough that no line of the session is wrapped.
const SIZE: Size = Size { rows: 24, columns: 120 };

/// Lines of each log that are shown when a step fails.
const LOG_LINES: usize = 20;

/// Builds the gateway, shows what it does in network namespaces, and checks all that it shows.
pub(crate) fn run(shell: &Shell) -> Result<()> {
    setup::require_root(shell, "the demo loads eBPF programs and makes network namespaces")?;
    setup::install_to_run(shell)?;
    ebpf::build(shell)?;
    cmd!(shell, "cargo build --locked --package proxyd --bin proxyd").run()?;
    tour()?;
    println!("\ndemo: ok");
    Ok(())
}

fn tour() -> Result<()> {
    let world = World::router()?;
    let server = Sshd::start(&world)?;
    let (identity, recipient) = make_identity(&world, "auditor")?;
    let policies = policies(&world, &recipient);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings)?;
    let mut tour = Tour { world: &world, server, proxyd, identity };
    let told = tour.tell();
    if told.is_err() {
        tour.show_logs()?;
    }
    told
}

/// Everything that takes part.
struct Tour<'w> {
    world: &'w World,
    server: Sshd<'w>,
    proxyd: Proxyd<'w>,
    /// The file with which an auditor opens recordings.
    identity: PathBuf,
}

impl Tour<'_> {
    fn tell(&mut self) -> Result<()> {
        self.introduce()?;
        let screen = self.log_in()?;
        let trail = self.finished_trail()?;
        self.pass_the_rest()?;
        let key = self.proxyd.public_key()?;
        self.replay(&trail, &key, &screen)?;
        self.verify(&trail, &key)?;
        self.stop()
    }

    fn introduce(&self) -> Result<()> {
        step(1, "A gateway between a client and a server, each in a network namespace of its own");
        let [client, near, far, server] =
            [Host::Client, Host::GatewayForClient, Host::GatewayForServer, Host::Server]
                .map(|host| self.world.address(host, Family::V4));
        shown(&format!("client {client}  --  {near} gateway {far}  --  {server} server"));
        let counters = self.counters()?;
        let redirected = counters.redirected(POLICY)?;
        ensure!(redirected == 0, "the policy {POLICY} redirected {redirected} connections already");
        checked(&format!("proxyd steers SSH to port {}, by the policy {POLICY}", sshd::PORT));
        Ok(())
    }

    /// Logs in, runs a command and logs out; gives all that the terminal showed.
    fn log_in(&self) -> Result<Vec<u8>> {
        let server = self.world.address(Host::Server, Family::V4);
        step(2, "A user logs in to the server's own address, without any configuration");
        let client = Client::new(self.world, USER)?;
        let call = client.ssh().arg(format!("{USER}@{server}")).env("TERM", "dumb");
        let call = call.reply("Gateway password", GATEWAY_PASSWORD);
        let call = call.reply("Password: ", sshd::PASSWORD);
        let mut terminal = call.terminal(SIZE)?;
        terminal.expect("$ ", LIMIT)?;
        let port = self.live_client_port()?;
        terminal.send("echo \"$USER on $(tty), from ${SSH_CLIENT%% *}\"\r")?;
        let from = format!(", from {}", self.world.address(Host::Client, Family::V4));
        terminal.expect(&format!("{USER} on /dev/pts/"), LIMIT)?;
        terminal.expect(&from, LIMIT)?;
        let screen = log_out(terminal)?;
        shown(&format!("$ ssh {USER}@{server}"));
        for prompt in client.prompts()?.iter().filter(|prompt| prompt.contains("assword")) {
            shown(&format!("{} ********", prompt.trim()));
        }
        shown(&transcript::text(&screen));
        checked("the command ran in a terminal of the server, and ssh ended with exit status 0");
        self.show_server_log(&port)?;
        Ok(screen)
    }

    /// The client's port of the one live session.
    fn live_client_port(&self) -> Result<String> {
        let live = self.proxyd.live_sessions()?;
        let [session] = live.as_slice() else {
            bail!("{} sessions are live, not the one that was begun", live.len());
        };
        let client = session.get("client").and_then(Value::as_str);
        let port = client.and_then(|client| client.rsplit_once(':')).map(|(_, port)| port);
        Ok(port.context("a live session has no client address")?.to_owned())
    }

    fn show_server_log(&self, port: &str) -> Result<()> {
        step(3, "What the server saw");
        let client = self.world.address(Host::Client, Family::V4);
        let from = format!("from {client} port {port} ");
        let line = self.server.logged(&["Accepted", &format!("for {USER}"), &from])?;
        shown(&format!("sshd: {line}"));
        checked("the address and the port are the client's own; the gateway is not to be seen");
        Ok(())
    }

    /// The recording of the session that ended.
    fn finished_trail(&self) -> Result<PathBuf> {
        let directory = self.proxyd.trail("");
        wait_for("the recording to be finished", LIMIT, || {
            let entries = fs::read_dir(&directory)?.collect::<std::io::Result<Vec<_>>>()?;
            Ok(entries.first().map(fs::DirEntry::path))
        })
    }

    fn pass_the_rest(&self) -> Result<()> {
        step(4, "What no policy names is not touched");
        let before = self.counters()?;
        let echo = passing::tcp(self.world)?;
        shown(&format!("TCP to {}: the server saw {}, the echo came back", echo.to, echo.seen));
        shown(&passing::ping(self.world)?);
        let after = self.counters()?;
        let seen = |reason| after.first(reason) - before.first(reason);
        let (no_rule, not_tcp) = (seen("no_rule"), seen("not_tcp"));
        ensure!(no_rule > 0, "the steering program did not see the start of the connection");
        // Each is seen on its way there and on its way back.
        ensure!(not_tcp >= 2 * passing::PINGS, "the steering program saw {not_tcp} other packets");
        let (first, last) = (before.redirected(POLICY)?, after.redirected(POLICY)?);
        ensure!(
            (first, last) == (1, 1),
            "{first} connections were redirected before, {last} after"
        );
        shown(&format!("redirected to the proxy: {first} connection before, {last} after"));
        checked("the client's own address and port reached the server, at packet level");
        Ok(())
    }

    fn replay(&self, trail: &Path, key: &str, screen: &[u8]) -> Result<()> {
        step(5, "The recording, as an auditor replays it");
        let words = format!("trail replay --speed 0 --key {key} --identity");
        let replayed = self.proxyd.command(&words, &[&self.identity, trail])?.ok()?.stdout;
        let sent = replayed.strip_suffix(transcript::REPLAY_END).unwrap_or(&replayed);
        ensure!(!sent.is_empty(), "the replay shows nothing");
        let is_whole = screen.windows(sent.len()).any(|window| window == sent);
        ensure!(is_whole, "the replay is not what the user saw: {}", transcript::text(sent));
        shown("$ proxyd trail replay --speed 0 --identity auditor TRAIL");
        shown(&transcript::text(sent));
        checked("it is, byte for byte, what the server sent to the user's terminal");
        Ok(())
    }

    fn verify(&self, trail: &Path, key: &str) -> Result<()> {
        step(6, "The recording, proven with the gateway's public key alone");
        let verify = format!("trail verify --key {key}");
        let said = self.proxyd.command(&verify, &[trail])?.ok()?.text();
        ensure!(said.contains("complete"), "the recording is not complete: {said}");
        shown(&format!("$ proxyd trail verify --key {key} TRAIL"));
        shown(&said.replace(&trail.display().to_string(), "TRAIL"));
        checked("nothing was altered, removed or cut");
        Ok(())
    }

    fn stop(&mut self) -> Result<()> {
        step(7, "The gateway stops");
        self.proxyd.stop()?;
        let (pins, rules) = (self.world.pins()?, self.world.gateway.ip("rule list")?);
        ensure!(pins.is_empty(), "the stopped gateway left {pins:?}");
        ensure!(!rules.contains("fwmark"), "the stopped gateway left routing rules: {rules}");
        checked("its programs, maps and routing rules are gone");
        Ok(())
    }

    fn counters(&self) -> Result<Counters> {
        let config = self.proxyd.config();
        let status = self.proxyd.command("steering status --config", &[&config])?.ok()?;
        Ok(Counters::parse(&status.text()))
    }

    /// The last lines of the logs.
    fn show_logs(&self) -> Result<()> {
        for (who, log) in [("gateway", self.proxyd.log()?), ("server", self.server.log()?)] {
            let lines: Vec<_> = log.lines().collect();
            let last = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default();
            println!("\nthe log of the {who} ends with:\n{}", last.join("\n"));
        }
        Ok(())
    }
}

/// Leaves the shell; gives all that the terminal showed.
fn log_out(mut terminal: Terminal) -> Result<Vec<u8>> {
    terminal.send("exit\r")?;
    terminal.expect("closed.", LIMIT)?;
    let status = terminal.finish(LIMIT)?;
    ensure!(status.success(), "ssh ended with {status}");
    Ok(terminal.screen())
}

/// What the gateway's configuration says about people and sessions.
fn policies(world: &World, recipient: &str) -> String {
    let client = world.address(Host::Client, Family::V4);
    let server = world.address(Host::Server, Family::V4);
    let port = sshd::PORT;
    format!(
        r#"
[[connection_policy]]
name = "{POLICY}"
protocol = "ssh"
from = ["{client}"]
to = ["{server}"]
ports = ["{port}"]
source = "client"
authentication = "password"
usermapping = "own-name"
channels = "shell"
audit = "sealed"

[[authentication_policy]]
name = "password"
gateway = [{{ method = "password", backend = "local" }}]

[[user]]
name = "{USER}"
password_hash = "{GATEWAY_PASSWORD_HASH}"

[[usermapping_policy]]
name = "own-name"
allow_unmapped = true

[[channel_policy]]
name = "shell"
rule = [{{ type = "session-shell", record = true }}]

[[audit_policy]]
name = "sealed"
recipients = [["{recipient}"]]
"#
    )
}

fn step(number: u32, title: &str) {
    println!("\n{number}. {title}");
}

/// Prints lines that belong to a step.
fn shown(text: &str) {
    for line in text.lines() {
        println!("   | {line}");
    }
}

/// Prints what was found to be true.
fn checked(fact: &str) {
    println!("   ok: {fact}");
}
