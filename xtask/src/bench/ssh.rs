//! SSH through the gateway: memory of idle sessions, bulk data, time to run a command.
//!
//! What is compared goes through the same router: directly to a port that no policy names, or
//! through the proxy, with and without a recording.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Finished;
use e2e::proxyd::{Proxyd, Settings, make_identity};
use e2e::terminal::{Size, Terminal};
use e2e::wait::{Stopwatch, wait_for};
use e2e::world::{Family, Host, World};

use super::report::{Report, median};
use super::usage::{Memory, cpu_s};

/// Idle sessions at one time.
const SESSIONS: u16 = 200;

/// Logins at one time: more would only wait for each other.
const LOGINS_AT_ONCE: usize = 4;

/// For one login of several at a time, on a busy machine.
const LOGIN_LIMIT: Duration = Duration::from_secs(60);

/// For one bulk transfer or one round of commands.
const RUN_LIMIT: Duration = Duration::from_secs(300);

/// From the last login to the measurement; a session that is quiet for seconds gives memory back.
const SETTLE: Duration = Duration::from_secs(6);

/// Rounds of each comparison; its median counts. Subjects take turns within a round.
const ROUNDS: u32 = 3;

/// GiB of one bulk transfer.
const BULK_GIB: u32 = 1;

/// Bytes of a GiB.
const GIB: u32 = 1 << 30;

/// Commands of one round, one connection each.
const COMMANDS: u32 = 10;

/// The cipher of both sides of the gateway.
const CIPHER: &str = "aes128-gcm@openssh.com";

/// The key exchange of both sides. OpenSSH's own choice takes it tens of milliseconds, and the
/// gateway would look fast for choosing another.
const KEX: &str = "curve25519-sha256";

/// The user, on the server.
const USER: &str = "alice";

/// Sends the bulk and says how long that took, from the first byte to the last: logging in is not
/// counted.
const SEND: &str = "begin=$(date +%s%N); head -c $BYTES /dev/zero; end=$(date +%s%N); \
                    echo $((end - begin)) >&2";

/// How a connection gets to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Subject {
    /// Not through the proxy.
    Direct,
    /// Through the proxy, not recorded.
    Proxyd,
    /// Through the proxy, recorded.
    Recorded,
}

impl Subject {
    const ALL: [Self; 3] = [Self::Direct, Self::Proxyd, Self::Recorded];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Proxyd => "proxyd",
            Self::Recorded => "recorded",
        }
    }

    const fn address(self, world: &World) -> IpAddr {
        let host = match self {
            Self::Direct | Self::Proxyd => Host::Server,
            Self::Recorded => Host::OtherServer,
        };
        world.address(host, Family::V4)
    }

    const fn port(self) -> u16 {
        match self {
            Self::Direct => sshd::UNMATCHED_PORT,
            Self::Proxyd | Self::Recorded => sshd::PORT,
        }
    }

    /// The arguments of `ssh` that choose it, and what all have in common.
    fn arguments(self, world: &World) -> String {
        let (port, address) = (self.port(), self.address(world));
        format!("-c {CIPHER} -o KexAlgorithms={KEX} -p {port} {USER}@{address}")
    }
}

/// Measures everything.
pub(super) fn measure() -> Result<Report> {
    let mut report = Report::new()?;
    for (subject, summary) in
        [(Subject::Proxyd, "rss_idle_kb"), (Subject::Recorded, "rss_idle_recorded_kb")]
    {
        let per_session_kb = idle(subject, &mut report)?;
        report.summarize(summary, per_session_kb);
    }
    let world = World::router()?;
    let _server = Sshd::start(&world)?;
    let mut proxyd = start(&world)?;
    let client = Client::new(&world, USER)?;
    let pid = proxyd.process()?.pid()?.as_raw();
    let runs = Runs { world: &world, client: &client, pid };
    runs.commands(&mut report)?;
    runs.bulk(&mut report)?;
    proxyd.stop()?;
    Ok(report)
}

/// Memory of the daemon before and with many idle shells; gives kB per session.
fn idle(subject: Subject, report: &mut Report) -> Result<f64> {
    println!("{SESSIONS} idle sessions, {}", subject.name());
    let world = World::router()?;
    let _server = Sshd::start(&world)?;
    let mut proxyd = start(&world)?;
    let pid = proxyd.process()?.pid()?.as_raw();
    let client = Client::new(&world, USER)?;
    let before = settled(pid)?;
    let shells = open_shells(&world, &client, subject)?;
    let live = proxyd.live_sessions()?.len();
    ensure!(live == usize::from(SESSIONS), "{live} sessions are live, not {SESSIONS}");
    let with = settled(pid)?;
    let still_live = proxyd.live_sessions()?.len();
    ensure!(still_live == live, "{} of {live} idle sessions ended", live - still_live);
    drop(shells);
    let per_session =
        |before: u32, with: u32| (f64::from(with) - f64::from(before)) / f64::from(SESSIONS);
    let resident_kb = per_session(before.resident_kb, with.resident_kb);
    let anonymous_kb = per_session(before.anonymous_kb, with.anonymous_kb);
    let mut case = report.case("idle sessions");
    case.row(subject.name(), ("rss without", "kB"), before.resident_kb.into());
    case.row(subject.name(), ("rss with", "kB"), with.resident_kb.into());
    case.row(subject.name(), ("rss per session", "kB"), resident_kb);
    case.row(subject.name(), ("anonymous per session", "kB"), anonymous_kb);
    Ok(resident_kb)
}

/// Opens [`SESSIONS`] shells, a few at a time, and waits for their prompts.
fn open_shells(world: &World, client: &Client<'_>, subject: Subject) -> Result<Vec<Terminal>> {
    let size = Size { rows: 24, columns: 80 };
    let mut shells = Vec::with_capacity(usize::from(SESSIONS));
    let mut left = usize::from(SESSIONS);
    while left > 0 {
        let count = left.min(LOGINS_AT_ONCE);
        let call = client.ssh().args(&subject.arguments(world)).reply("assword:", sshd::PASSWORD);
        let started = (0..count).map(|_| call.terminal(size)).collect::<Result<Vec<_>>>()?;
        for mut shell in started {
            shell.expect("$ ", LOGIN_LIMIT)?;
            shells.push(shell);
        }
        left -= count;
    }
    Ok(shells)
}

/// Memory of a process after a while without work.
fn settled(pid: i32) -> Result<Memory> {
    let clock = Stopwatch::start();
    let is_over = || Ok((clock.elapsed() >= SETTLE).then_some(()));
    wait_for("the sessions to be quiet", 2 * SETTLE, is_over)?;
    Memory::of(pid)
}

/// What comparisons need.
struct Runs<'w> {
    world: &'w World,
    client: &'w Client<'w>,
    /// The daemon.
    pid: i32,
}

impl Runs<'_> {
    /// Time to log in, run a command and leave.
    fn commands(&self, report: &mut Report) -> Result<()> {
        println!("commands");
        let script =
            format!("for i in $(seq {COMMANDS}); do ssh \"$@\" true </dev/null || exit 1; done");
        let mut ms = Subject::ALL.map(|_| Vec::new());
        for round in 0..=ROUNDS {
            for (subject, ms) in Subject::ALL.into_iter().zip(&mut ms) {
                let took = self.run(&script, subject, &[])?.took;
                // In round 0 host keys are learned.
                if round > 0 {
                    ms.push(took.as_secs_f64() * 1000.0 / f64::from(COMMANDS));
                }
            }
        }
        let [direct, proxyd, recorded] = medians(&ms)?;
        let mut case = report.case("command");
        let metric = ("log in, run, leave", "ms");
        case.row(Subject::Direct.name(), metric, direct);
        case.compared(Subject::Proxyd.name(), metric, proxyd, direct);
        case.compared(Subject::Recorded.name(), metric, recorded, direct);
        Ok(())
    }

    /// Bulk data from the server, and what the daemon computes for it.
    fn bulk(&self, report: &mut Report) -> Result<()> {
        println!("bulk data");
        let bulk_mb = f64::from(BULK_GIB) * f64::from(GIB) / 1e6;
        let script = "exec ssh \"$@\" >/dev/null";
        let send = SEND.replace("$BYTES", &(u64::from(BULK_GIB) * u64::from(GIB)).to_string());
        let mut mb_per_s = Subject::ALL.map(|_| Vec::new());
        let mut cpu_s_per_gib = Subject::ALL.map(|_| Vec::new());
        for _round in 0..ROUNDS {
            for (index, subject) in Subject::ALL.into_iter().enumerate() {
                let before_s = cpu_s(self.pid)?;
                let run = self.run(script, subject, &[&send])?;
                let after_s = cpu_s(self.pid)?;
                if let Some(values) = mb_per_s.get_mut(index) {
                    values.push(bulk_mb / sent_s(&run)?);
                }
                if let Some(values) = cpu_s_per_gib.get_mut(index) {
                    values.push((after_s - before_s) / f64::from(BULK_GIB));
                }
            }
        }
        let [direct, proxyd, recorded] = medians(&mb_per_s)?;
        let metric = ("speed", "MB/s");
        let mut case = report.case("download aes128-gcm");
        case.row(Subject::Direct.name(), metric, direct);
        let ratio = case.compared(Subject::Proxyd.name(), metric, proxyd, direct);
        let recorded_ratio = case.compared(Subject::Recorded.name(), metric, recorded, direct);
        let [_none, cpu, recorded_cpu] = medians(&cpu_s_per_gib)?;
        let metric = ("processor time", "s/GiB");
        case.row(Subject::Proxyd.name(), metric, cpu);
        case.row(Subject::Recorded.name(), metric, recorded_cpu);
        report.summarize("gcm_down_ratio", ratio);
        report.summarize("recorded_gcm_down_ratio", recorded_ratio);
        report.summarize("cpu_s_per_gib_gcm", cpu);
        report.summarize("cpu_s_per_gib_gcm_recorded", recorded_cpu);
        Ok(())
    }

    /// Runs a script of the client's, whose arguments are those of `ssh`.
    fn run(&self, script: &str, subject: Subject, command: &[&str]) -> Result<Finished> {
        let call = self.client.call("sh").arg("-c").arg(script).arg("sh");
        let call = call.args(&subject.arguments(self.world));
        let call = command.iter().fold(call, |call, word| call.arg(word));
        call.reply("assword:", sshd::PASSWORD).run(RUN_LIMIT)?.ok()
    }
}

/// How long the server took to send the bulk, which is the last thing it said.
fn sent_s(run: &Finished) -> Result<f64> {
    let last = run.stderr.lines().last().and_then(|line| line.trim().parse::<f64>().ok());
    let nanoseconds = last.with_context(|| format!("no time in {:?}", run.stderr))?;
    Ok(nanoseconds / 1e9)
}

/// The median of each subject.
fn medians<const N: usize>(values: &[Vec<f64>; N]) -> Result<[f64; N]> {
    let mut medians = [0.0; N];
    for (to, values) in medians.iter_mut().zip(values) {
        *to = median(values)?;
    }
    Ok(medians)
}

/// Starts the daemon with a policy that records and one that does not.
fn start(world: &World) -> Result<Proxyd<'_>> {
    let (_identity, recipient) = make_identity(world, "auditor")?;
    let policies = policies(world, &recipient);
    // All sessions are of one client.
    let limits = format!("sessions_per_client = {}", SESSIONS * 2);
    Proxyd::start(world, Settings { limits: &limits, policies: &policies, ..Settings::default() })
}

fn policies(world: &World, recipient: &str) -> String {
    let mut policies = format!(
        r#"
[[settings_policy]]
name = "fixed"
protocol = "ssh"
server_side = {{ kex = ["{KEX}"], ciphers = ["{CIPHER}"] }}

[[authentication_policy]]
name = "open"
gateway = "none"

[[audit_policy]]
name = "sealed"
recipients = [["{recipient}"]]
"#
    );
    for (subject, records) in [(Subject::Proxyd, false), (Subject::Recorded, true)] {
        let (name, port) = (subject.name(), subject.port());
        let (client, server) = (world.address(Host::Client, Family::V4), subject.address(world));
        policies.push_str(&format!(
            r#"
[[connection_policy]]
name = "{name}"
protocol = "ssh"
from = ["{client}"]
to = ["{server}"]
ports = ["{port}"]
settings = "fixed"
authentication = "open"
channels = "{name}"
audit = "sealed"

[[channel_policy]]
name = "{name}"
rule = [
  {{ type = "session-shell", record = {records} }},
  {{ type = "session-exec", record = {records} }},
]
"#
        ));
    }
    policies
}
