//! Where SSH is measured: client, gateway and server, and what else stands at the gateway.

use std::fs;
use std::path::PathBuf;

use anyhow::{Result, anyhow, ensure};
use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Process;
use e2e::proxyd::{Proxyd, Settings, make_identity};
use e2e::world::{Family, Host, World};

use super::subject::{Cipher, Subject, configuration};
use super::{KEX, USER, ssh_j, ssh_mitm};
use crate::bench::usage::{self, Memory};

/// A world with everything that is compared running in it.
pub(super) struct Stage<'w> {
    pub(super) world: &'w World,
    pub(super) client: Client<'w>,
    pub(super) server: Sshd<'w>,
    pub(super) proxyd: Proxyd<'w>,
    pid: i32,
    recipient: String,
    sessions: u16,
    key: PathBuf,
    ssh_j: Option<Process>,
    ssh_mitm: Result<Process, String>,
}

impl<'w> Stage<'w> {
    /// Client, gateway and server, for up to this many sessions.
    pub(super) fn start(world: &'w World, sessions: u16) -> Result<Self> {
        let server = Sshd::start(world)?;
        let (_identity, recipient) = make_identity(world, "auditor")?;
        let mut proxyd = Proxyd::new(world, Settings::default())?;
        let client = Client::new(world, USER)?;
        let (key, _public) = client.make_key("jump", "ed25519")?;
        configure(world, &proxyd, &recipient, (Cipher::Gcm, sessions))?;
        proxyd.launch()?;
        let pid = proxyd.process()?.pid()?.as_raw();
        let ssh_mitm = Err("it was not started".to_owned());
        let stage = Self {
            world,
            client,
            server,
            proxyd,
            pid,
            recipient,
            sessions,
            key,
            ssh_j: None,
            ssh_mitm,
        };
        stage.write_configuration(Cipher::Gcm)?;
        Ok(stage)
    }

    /// Starts what the gateway is compared with; ssh-mitm may be missing.
    pub(super) fn add_peers(&mut self) -> Result<()> {
        let public = fs::read_to_string(self.key.with_extension("pub"))?;
        self.ssh_j = Some(ssh_j::start(self.world, public.trim())?);
        let started = ssh_mitm::install().and_then(|path| ssh_mitm::start(self.world, &path));
        self.ssh_mitm = started.map_err(|error| format!("it cannot be started: {error:#}"));
        Ok(())
    }

    /// Has every connection use this cipher from now on, those of the gateway to the server too.
    pub(super) fn use_cipher(&self, cipher: Cipher) -> Result<()> {
        configure(self.world, &self.proxyd, &self.recipient, (cipher, self.sessions))?;
        self.proxyd.reload()?.ok()?;
        self.write_configuration(cipher)
    }

    /// A script of the client's host, in which `ssh -F "$C" "$H"` leads to the server.
    pub(super) fn script(&self, subject: Subject, script: &str) -> Result<Call<'_>> {
        if subject == Subject::SshMitm {
            self.ssh_mitm.as_ref().map_err(|reason| anyhow!("{reason}"))?;
        }
        let config = self.configuration_file();
        let call = self.client.call("sh").arg("-c").arg(script);
        let call = call.env("C", &config.to_string_lossy()).env("H", subject.name());
        Ok(call.reply(sshd::ASKS, sshd::PASSWORD))
    }

    /// Seconds that what stands at the gateway has computed for a subject so far; not a number for
    /// a direct connection.
    pub(super) fn cpu_s(&self, subject: Subject) -> Result<f64> {
        match subject {
            Subject::Direct => Ok(f64::NAN),
            Subject::Proxyd | Subject::Recorded => usage::cpu_s(self.pid),
            Subject::SshJ => self.ssh_j.as_ref().map_or(Ok(f64::NAN), |process| {
                let pid = process.pid()?.as_raw();
                usage::await_children(pid)?;
                usage::cpu_s(pid)
            }),
            Subject::SshMitm => match &self.ssh_mitm {
                Ok(process) => usage::cpu_s(process.pid()?.as_raw()),
                Err(_reason) => Ok(f64::NAN),
            },
        }
    }

    /// Memory of the daemon.
    pub(super) fn memory(&self) -> Result<Memory> {
        Memory::of(self.pid)
    }

    /// Threads and open descriptors of the daemon.
    pub(super) fn counts(&self) -> Result<(u32, u32)> {
        Ok((usage::threads(self.pid)?, usage::descriptors(self.pid)?))
    }

    /// The daemon's threads.
    pub(super) fn threads(&self) -> Result<Vec<u32>> {
        usage::thread_ids(self.pid)
    }

    /// Fails unless as many sessions are live.
    pub(super) fn expect_live(&self, expected: u16) -> Result<()> {
        let live = self.proxyd.live_sessions()?.len();
        ensure!(live == usize::from(expected), "{live} sessions are live, not {expected}");
        Ok(())
    }

    fn configuration_file(&self) -> PathBuf {
        self.client.directory().join("ssh_config")
    }

    fn write_configuration(&self, cipher: Cipher) -> Result<()> {
        let text = configuration(self.world, cipher, &self.key.to_string_lossy());
        Ok(fs::write(self.configuration_file(), text)?)
    }
}

fn configure(
    world: &World,
    proxyd: &Proxyd<'_>,
    recipient: &str,
    (cipher, sessions): (Cipher, u16),
) -> Result<()> {
    // All sessions are of one client.
    let limits = format!("sessions_per_client = {sessions}");
    let policies = policies(world, recipient, cipher);
    proxyd.configure(Settings { limits: &limits, policies: &policies, ..Settings::default() })
}

/// A policy that records and one that does not.
fn policies(world: &World, recipient: &str, cipher: Cipher) -> String {
    let cipher = cipher.name();
    let mut policies = format!(
        r#"
[[settings_policy]]
name = "fixed"
protocol = "ssh"
server_side = {{ kex = ["{KEX}"], ciphers = ["{cipher}"] }}

[[authentication_policy]]
name = "open"
gateway = "none"

[[audit_policy]]
name = "sealed"
recipients = [["{recipient}"]]
"#
    );
    for (subject, records) in Subject::OURS.into_iter().zip([false, true]) {
        let (name, (server, port)) = (subject.name(), subject.destination(world));
        let client = world.address(Host::Client, Family::V4);
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
  {{ type = "session-sftp", record = {records} }},
  {{ type = "local-forward", record = {records} }},
]
"#
        ));
    }
    policies
}
