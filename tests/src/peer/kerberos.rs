//! A Kerberos realm: the KDC of Debian at the server's host, its principals and keytabs.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};

use crate::process::{Process, output};
use crate::wait::wait_until;
use crate::world::{Family, Host, World};

/// The realm's name.
pub const REALM: &str = "EXAMPLE.COM";

/// The password of every user of the realm.
pub const PASSWORD: &str = "Realm-pass-1";

/// Where the KDC listens, at the server's host.
const PORT: u16 = 88;

/// How long the KDC may take to listen.
const START_LIMIT: Duration = Duration::from_secs(10);

/// How long a ticket may take to be given.
const TICKET_LIMIT: Duration = Duration::from_secs(20);

/// A realm whose KDC runs.
#[derive(Debug)]
pub struct Realm<'w> {
    world: &'w World,
    directory: PathBuf,
    _kdc: Process,
}

impl<'w> Realm<'w> {
    /// Makes the realm and starts its KDC.
    pub fn start(world: &'w World) -> anyhow::Result<Self> {
        let directory = world.subdirectory("realm")?;
        let at = SocketAddr::new(world.address(Host::Server, Family::V4), PORT);
        fs::write(directory.join("krb5.conf"), client_configuration(at))?;
        fs::write(directory.join("kdc.conf"), kdc_configuration(&directory, at))?;
        let mut make = administer(&directory, "kdb5_util");
        output(make.args(["create", "-s", "-P", PASSWORD]))?;
        let mut command = world.server.command("/usr/sbin/krb5kdc");
        command.arg("-n");
        set_environment(&mut command, &directory);
        let kdc = Process::start(&mut command, "krb5kdc", &directory)?;
        let log = directory.join("kdc.log");
        wait_until("the KDC to listen", START_LIMIT, || {
            fs::read_to_string(&log).is_ok_and(|log| log.contains("commencing operation"))
        })?;
        Ok(Self { world, directory, _kdc: kdc })
    }

    /// The configuration file of everybody who takes part in the realm.
    #[must_use]
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("krb5.conf")
    }

    /// Adds a user, with [`PASSWORD`].
    pub fn add_user(&self, name: &str) -> anyhow::Result<()> {
        self.ask(&format!("addprinc -pw {PASSWORD} {name}"))
    }

    /// Adds a service and gives a new keytab with its key.
    pub fn add_service(&self, principal: &str) -> anyhow::Result<PathBuf> {
        let keytab = self.directory.join(principal.replace('/', "-"));
        self.ask(&format!("addprinc -randkey {principal}"))?;
        self.ask(&format!("ktadd -norandkey -k {} {principal}", keytab.display()))?;
        fs::set_permissions(&keytab, Permissions::from_mode(0o600))?;
        Ok(keytab)
    }

    /// Gets a ticket of a user at the client's host, in a file that is its cache from now on. It
    /// can be delegated.
    pub fn ticket(&self, user: &str) -> anyhow::Result<PathBuf> {
        let cache = self.directory.join(format!("cache-{user}"));
        let input = self.directory.join("password");
        fs::write(&input, format!("{PASSWORD}\n"))?;
        let mut command = self.world.client.command("kinit");
        command.args(["-f", "-c"]).arg(&cache).arg(user).stdin(fs::File::open(input)?);
        set_environment(&mut command, &self.directory);
        Process::start(&mut command, "kinit", &self.directory)?.finish(TICKET_LIMIT)?.ok()?;
        Ok(cache)
    }

    /// One end of a context with `service`, such as `host@10.77.2.3`, by the ticket in `cache`.
    pub fn context(&self, cache: &Path, service: &str) -> anyhow::Result<Context> {
        let mut command = self.world.client.command("/usr/bin/python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/src/peer/kerberos_context.py"));
        set_environment(&mut command, &self.directory);
        command.arg(service).env("KRB5CCNAME", cache);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let answers = BufReader::new(child.stdout.take().context("no output")?);
        let questions = child.stdin.take().context("no input")?;
        Ok(Context { questions, answers, _process: Process::adopt(child, "context") })
    }

    fn ask(&self, query: &str) -> anyhow::Result<()> {
        let mut command = administer(&self.directory, "kadmin.local");
        output(command.args(["-q", query])).map(drop)
    }
}

/// One end of a context, to be used step by step.
#[derive(Debug)]
pub struct Context {
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    _process: Process,
}

impl Context {
    /// Takes a token, empty at first; gives the next, which is empty where there is none.
    pub fn token(&mut self, token: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.answer("token", token)
    }

    /// The proof over these bytes.
    pub fn mic(&mut self, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        self.answer("mic", bytes)
    }

    fn answer(&mut self, word: &str, bytes: &[u8]) -> anyhow::Result<Vec<u8>> {
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        writeln!(self.questions, "{word} {hex}")?;
        let mut line = String::new();
        ensure!(self.answers.read_line(&mut line)? > 0, "the context has ended: {word}");
        let digits = line.trim_end().as_bytes().chunks(2);
        let byte = |two: &[u8]| Ok(u8::from_str_radix(std::str::from_utf8(two)?, 16)?);
        digits.map(byte).collect()
    }
}

/// A program that works on the realm's database.
fn administer(directory: &Path, program: &str) -> Command {
    let mut command = Command::new(format!("/usr/sbin/{program}"));
    set_environment(&mut command, directory);
    command
}

fn set_environment(command: &mut Command, directory: &Path) {
    command.env("KRB5_CONFIG", directory.join("krb5.conf"));
    command.env("KRB5_KDC_PROFILE", directory.join("kdc.conf"));
}

/// Names are what they are: nobody is asked what they are short for. Servers leave no cache of
/// replays behind.
fn client_configuration(kdc: SocketAddr) -> String {
    format!(
        "[libdefaults]\n\
         default_realm = {REALM}\n\
         dns_lookup_kdc = false\n\
         dns_lookup_realm = false\n\
         dns_canonicalize_hostname = false\n\
         rdns = false\n\
         default_rcache_name = none:\n\
         [realms]\n\
         {REALM} = {{\n\
         kdc = {kdc}\n\
         }}\n"
    )
}

fn kdc_configuration(directory: &Path, at: SocketAddr) -> String {
    let directory = directory.display();
    format!(
        "[kdcdefaults]\n\
         kdc_listen = {at}\n\
         kdc_tcp_listen = {at}\n\
         [realms]\n\
         {REALM} = {{\n\
         database_name = {directory}/principal\n\
         key_stash_file = {directory}/stash\n\
         acl_file = {directory}/acl\n\
         }}\n\
         [logging]\n\
         kdc = FILE:{directory}/kdc.log\n"
    )
}
