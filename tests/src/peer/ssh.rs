//! OpenSSH's client: a user at the client's host, who answers what is asked.
//!
//! The programs run as a user without any configuration of SSH: an empty home directory, no
//! options but those that a test adds.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::{Uid, User};

use crate::process::{Finished, Process, output};
use crate::terminal::{Size, Terminal};
use crate::world::World;

/// Puts an empty directory where the home directory is, then becomes the program.
const AT_HOME: &str = r#"mount --bind "$1" "$2" || exit 97; shift 2; exec "$@""#;

/// What `ssh` asks when it does not know the host key, and what the user answers.
const NEW_HOST: (&str, &str) = ("continue connecting", "yes");

/// A user at the client's host.
#[derive(Debug)]
pub struct Client<'w> {
    world: &'w World,
    directory: PathBuf,
    home: PathBuf,
    calls: AtomicU32,
}

impl<'w> Client<'w> {
    /// A user whom nobody has met before; `name` tells the users of one world apart.
    pub fn new(world: &'w World, name: &str) -> anyhow::Result<Self> {
        let directory = world.subdirectory(&format!("client-{name}"))?;
        let home = directory.join("home");
        fs::create_dir_all(home.join(".ssh"))?;
        fs::set_permissions(&home, Permissions::from_mode(0o700))?;
        Ok(Self { world, directory, home, calls: AtomicU32::new(0) })
    }

    /// Runs `ssh`.
    #[must_use]
    pub fn ssh(&self) -> Call<'_> {
        self.call("ssh")
    }

    /// Runs `sftp`.
    #[must_use]
    pub fn sftp(&self) -> Call<'_> {
        self.call("sftp")
    }

    /// Runs a program of the client's host.
    #[must_use]
    pub fn call(&self, program: &str) -> Call<'_> {
        Call {
            client: self,
            program: program.to_owned(),
            arguments: Vec::new(),
            replies: Vec::new(),
            input: None,
            environment: Vec::new(),
        }
    }

    /// Makes a key pair and gives its public half; the private half is at the returned path, as
    /// the client's programs see it only by `-i` with this path.
    pub fn make_key(&self, name: &str, kind: &str) -> anyhow::Result<(PathBuf, String)> {
        let path = self.directory.join(name);
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", kind, "-N", "", "-C", name, "-f"]).arg(&path);
        output(&mut keygen)?;
        let public = fs::read_to_string(path.with_extension("pub"))?;
        Ok((path, public.trim().to_owned()))
    }

    /// The questions the user was asked so far, in order.
    pub fn prompts(&self) -> anyhow::Result<Vec<String>> {
        match fs::read_to_string(self.directory.join("prompts")) {
            Ok(text) => Ok(text.lines().map(str::to_owned).collect()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error).context("cannot read what was asked"),
        }
    }

    /// The host keys that the user has accepted; empty where there are none.
    pub fn known_hosts(&self) -> anyhow::Result<String> {
        match fs::read_to_string(self.home.join(".ssh/known_hosts")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            read => Ok(read.unwrap_or_default()),
        }
    }

    /// Forgets the host keys that the user has accepted.
    pub fn forget_host_keys(&self) -> anyhow::Result<()> {
        match fs::remove_file(self.home.join(".ssh/known_hosts")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// A directory of the user's, for files to send and receive.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes the program that answers questions, and gives its path.
    fn answering(&self, replies: &[(String, Vec<String>)], call: u32) -> anyhow::Result<PathBuf> {
        let prompts = quoted(&self.directory.join("prompts").to_string_lossy());
        let mut script = format!("#!/bin/sh\nprintf '%s\\n' \"$1\" >>{prompts}\n");
        script.push_str("count() { n=$(cat \"$0.$1\" 2>/dev/null || echo 0); ");
        script.push_str("n=$((n + 1)); echo $n >\"$0.$1\"; }\ncase \"$1\" in\n");
        for (index, (prompt, answers)) in replies.iter().enumerate() {
            script.push_str(&format!("*{}*)\n  count {index}\n  case $n in\n", quoted(prompt)));
            for (turn, answer) in (1..).zip(answers) {
                // The last answer is given as often as it is asked for.
                let turn = if turn == answers.len() { "*".to_owned() } else { turn.to_string() };
                script.push_str(&format!("  {turn}) printf '%s\\n' {} ;;\n", quoted(answer)));
            }
            script.push_str("  esac ;;\n");
        }
        script.push_str("*) exit 1 ;;\nesac\n");
        let path = self.directory.join(format!("answer-{call}"));
        fs::write(&path, script)?;
        fs::set_permissions(&path, Permissions::from_mode(0o755))?;
        Ok(path)
    }
}

/// A program of the client's host, about to be run.
#[derive(Debug)]
pub struct Call<'c> {
    client: &'c Client<'c>,
    program: String,
    arguments: Vec<OsString>,
    replies: Vec<(String, Vec<String>)>,
    input: Option<PathBuf>,
    environment: Vec<(String, String)>,
}

impl Call<'_> {
    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    /// Arguments that hold no spaces.
    #[must_use]
    pub fn args(mut self, arguments: &str) -> Self {
        self.arguments.extend(arguments.split_whitespace().map(OsString::from));
        self
    }

    /// Answers a question that holds `prompt`.
    #[must_use]
    pub fn reply(self, prompt: &str, answer: &str) -> Self {
        self.replies(prompt, &[answer])
    }

    /// Answers a question that holds `prompt`, one answer each time, the last one for ever after.
    #[must_use]
    pub fn replies(mut self, prompt: &str, answers: &[&str]) -> Self {
        let answers = answers.iter().map(|&answer| answer.to_owned()).collect();
        self.replies.push((prompt.to_owned(), answers));
        self
    }

    /// Sets an environment variable of the program.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Gives the program this file as standard input; without one it has none.
    #[must_use]
    pub fn input_file(mut self, path: &Path) -> Self {
        self.input = Some(path.to_owned());
        self
    }

    /// Gives the program this text as standard input.
    pub fn input(self, text: impl AsRef<[u8]>) -> anyhow::Result<Self> {
        let number = self.client.calls.fetch_add(1, Ordering::Relaxed);
        let path = self.client.directory.join(format!("input-{number}"));
        File::create(&path)?.write_all(text.as_ref())?;
        Ok(self.input_file(&path))
    }

    /// Starts it.
    pub fn start(&self) -> anyhow::Result<Process> {
        let mut command = self.client.world.client.command("/bin/sh");
        self.complete(&mut command)?;
        command.stdin(match &self.input {
            Some(path) => Stdio::from(File::open(path)?),
            None => Stdio::null(),
        });
        Process::start(&mut command, &self.program, &self.client.directory)
    }

    /// Starts it with this process at its standard input and output.
    pub fn start_piped(&self) -> anyhow::Result<std::process::Child> {
        let mut command = self.client.world.client.command("/bin/sh");
        self.complete(&mut command)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.spawn().with_context(|| format!("cannot start {command:?}"))
    }

    /// Runs it to its end, which is an error where it takes longer than `limit`.
    pub fn run(&self, limit: Duration) -> anyhow::Result<Finished> {
        self.start()?.finish(limit)
    }

    /// Starts it in a terminal.
    pub fn terminal(&self, size: Size) -> anyhow::Result<Terminal> {
        let mut command = self.client.world.client.command("setsid");
        command.args(["--ctty", "/bin/sh"]).env("TERM", "xterm");
        self.complete(&mut command)?;
        Terminal::start(&mut command, &self.program, size)
    }

    /// What follows the shell.
    fn complete(&self, command: &mut Command) -> anyhow::Result<()> {
        let number = self.client.calls.fetch_add(1, Ordering::Relaxed);
        let mut replies = self.replies.clone();
        replies.push((NEW_HOST.0.to_owned(), vec![NEW_HOST.1.to_owned()]));
        let answering = self.client.answering(&replies, number)?;
        let own = User::from_uid(Uid::effective())?.context("this user has no account")?;
        command.args(["-c", AT_HOME, "sh"]).arg(&self.client.home).arg(&own.dir);
        command.arg(&self.program).args(&self.arguments);
        command.env("SSH_ASKPASS", answering).env("SSH_ASKPASS_REQUIRE", "force");
        command.env_remove("SSH_AUTH_SOCK");
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        Ok(())
    }
}

/// A text as one word of the shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
