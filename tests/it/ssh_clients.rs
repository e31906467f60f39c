//! Clients of others through the gateway: programs, libraries, and what is built on OpenSSH's.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use e2e::peer::programs::{Action, Copying, Login, Program, Programs, python};
use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::Size;
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, Closed, LIMIT, Records, connection_on, library, pattern};

/// The port of the policy under which each way to log in is the only one at the server.
const LOGINS: [(Login, u16); 3] =
    [(Login::Password, 2401), (Login::Interactive, 2402), (Login::Key, 2403)];

/// The port under which most is tried.
const PORT: u16 = LOGINS[0].1;

/// Bytes that go there and back.
const BULK_BYTES: usize = 4 * 1024 * 1024;

/// A program in a terminal that is made larger and typed at.
const IN_TERMINAL: &str = "stty size; until stty size | grep -q '41 121'; do sleep 0.1; done; \
    echo larger; read line; echo \"<$line>\"; exit 9";

const POLICIES: &str = r#"
[[authentication_policy]]
name = "password"
gateway = "none"
server = ["password"]

[[authentication_policy]]
name = "keyboard-interactive"
gateway = "none"
server = ["keyboard-interactive"]

[[authentication_policy]]
name = "publickey"
gateway = [{ method = "publickey", backend = "local" }]
server = ["publickey"]

[[credential_store]]
name = "vault"
kind = "local"
[[credential_store.entry]]
host = "10.77.2.3"
user = "alice"
key_file = "FILE"

[[channel_policy]]
name = "programs"
[[channel_policy.rule]]
type = "session-exec"
[[channel_policy.rule]]
type = "session-exec-scp"
[[channel_policy.rule]]
type = "session-sftp"
"#;

/// One command, what it reads, and how it ends.
struct Case {
    name: &'static str,
    command: &'static str,
    input: fn() -> Vec<u8>,
    code: i32,
    stdout: fn() -> Vec<u8>,
    stderr: &'static str,
}

/// Every program runs these.
const CASES: &[Case] = &[
    Case {
        name: "a code, and output apart from errors",
        command: "echo out; echo err >&2; exit 7",
        input: Vec::new,
        code: 7,
        stdout: || b"out\n".to_vec(),
        stderr: "err\n",
    },
    Case {
        name: "the end of input goes one way, output comes back after it",
        command: "cat; echo behind; exit 3",
        input: || b"abc\n".to_vec(),
        code: 3,
        stdout: || b"abc\nbehind\n".to_vec(),
        stderr: "",
    },
    Case {
        name: "nothing at all",
        command: "true",
        input: Vec::new,
        code: 0,
        stdout: Vec::new,
        stderr: "",
    },
    Case {
        name: "megabytes there and back",
        command: "cat",
        input: || pattern(BULK_BYTES),
        code: 0,
        stdout: || pattern(BULK_BYTES),
        stderr: "",
    },
];

/// What all tests of this file stand on.
struct Line<'w> {
    world: &'w World,
    client: Client<'w>,
    key: PathBuf,
    proxyd: Proxyd<'w>,
    server: Sshd<'w>,
}

impl<'w> Line<'w> {
    fn new(world: &'w World) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let client = Client::new(world, "alice").unwrap();
        let (key, public) = client.make_key("known", "ed25519").unwrap();
        let (stored, stored_public) = client.make_key("stored", "ed25519").unwrap();
        let mut policies = library(&auditor, &[&public]);
        policies.push_str(&POLICIES.replace("FILE", &stored.display().to_string()));
        for (login, port) in LOGINS {
            let method = login.method();
            let store = if login == Login::Key { "credential_store = \"vault\"\n" } else { "" };
            let lines = format!(
                "authentication = \"{method}\"\nchannels = \"programs\"\n\
                 audit = \"sealed\"\n{store}"
            );
            policies.push_str(&connection_on(world, method, port, &lines));
        }
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let server = Sshd::start(world).unwrap();
        server.authorize("alice", &stored_public).unwrap();
        Self { world, client, key, proxyd, server }
    }

    fn programs(&self) -> Programs<'_> {
        let server = self.world.address(Host::Server, Family::V4);
        Programs::new(&self.client, server, &self.key, &LOGINS.map(|(_, port)| port)).unwrap()
    }

    /// A program that starts OpenSSH's, which answers with the password.
    fn around_ssh(&self, program: &str) -> Call<'_> {
        self.client.call(program).reply(sshd::ASKS, sshd::PASSWORD)
    }

    fn host(&self) -> String {
        self.world.address(Host::Server, Family::V4).to_string()
    }
}

#[test]
fn plink() {
    runs_everything(Program::Plink);
}

#[test]
fn dropbear() {
    runs_everything(Program::Dropbear);
}

#[test]
fn paramiko() {
    runs_everything(Program::Paramiko);
}

#[test]
fn asyncssh() {
    runs_everything(Program::Asyncssh);
}

#[test]
fn libssh() {
    runs_everything(Program::Libssh);
}

/// Every command by password, one by each other way to log in, and one in a terminal.
fn runs_everything(program: Program) {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let programs = line.programs();
    let mut records = Records::new(&line.proxyd);
    for (login, port) in LOGINS {
        let cases = if login == Login::Password { CASES } else { &CASES[..1] };
        for case in cases {
            let name = format!("{} by {}", case.name, login.method());
            let call = programs.call(program, login, port, Action::Exec(case.command)).unwrap();
            let run = call.input((case.input)()).unwrap().run(LIMIT).unwrap();
            assert_eq!(run.code(), case.code, "{name}: {}", run.stderr);
            assert!(run.stdout == (case.stdout)(), "{name}: {} bytes", run.stdout.len());
            assert!(run.stderr.ends_with(case.stderr), "{name}: {}", run.stderr);
            let closed = records.next();
            assert_complete(&closed, &name);
            let hello = closed.events("client-hello");
            assert!(hello[0].contains(program.version()), "{name}: {hello:?}");
            let accepted = format!("method={} verdict=accepted", login.method());
            assert_eq!(closed.events("server-login").last(), Some(&accepted), "{name}");
        }
    }
    let call = programs.call(program, LOGINS[0].0, PORT, Action::Pty(IN_TERMINAL)).unwrap();
    if program.has_terminal() {
        let mut terminal = call.terminal(Size { rows: 30, columns: 90 }).unwrap();
        terminal.expect("30 90", LIMIT).unwrap();
        terminal.resize(Size { rows: 41, columns: 121 }).unwrap();
        terminal.expect("larger", LIMIT).unwrap();
        terminal.send("typed\r").unwrap();
        terminal.expect("<typed>", LIMIT).unwrap();
        assert_eq!(terminal.finish(LIMIT).unwrap().code(), Some(9));
    } else {
        let run = call.run(LIMIT).unwrap();
        assert_eq!(run.code(), 9, "{}", run.stderr);
        let shown = run.text();
        assert!(shown.starts_with("30 90\r\n") && shown.ends_with("<typed>\r\n"), "{shown}");
    }
    assert_complete(&records.next(), "in a terminal");
}

/// The session ended as its user wanted.
///
/// paramiko closes its socket with messages unread, which resets the connection.
fn assert_complete(closed: &Closed, name: &str) {
    let resets = closed.events("client-hello")[0].contains(Program::Paramiko.version());
    let outcome = closed.row.outcome.as_str();
    let complete = outcome == "completed" || (resets && outcome == "client-gone");
    assert!(complete, "{name}: {outcome}: {}", closed.row.reason);
}

/// Files copied there and back by every program that copies, in both protocols.
#[test]
fn copies() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let programs = line.programs();
    let (here, back) = (line.client.directory().join("here"), line.client.directory().join("back"));
    let there = line.server.home("alice").join("there");
    fs::write(&here, pattern(BULK_BYTES)).unwrap();
    let at_server = |path: &Path| format!("alice@{}:{}", line.host(), path.display());
    let scp = |option: &str, from: String, to: String| {
        line.around_ssh("scp").args(&format!("-q {option} -P {PORT}")).arg(from).arg(to)
    };
    let scp_both = |option: &str| {
        let local = |path: &Path| path.display().to_string();
        [scp(option, local(&here), at_server(&there)), scp(option, at_server(&there), local(&back))]
    };
    let of = |program: Program, by: Copying| {
        let call = |action| programs.call(program, Login::Password, PORT, action).unwrap();
        [call(Action::Put(by, &here, &there)), call(Action::Get(by, &there, &back))]
    };
    let sftp = |verb: &str, from: &Path, to: &Path| {
        let call = line.around_ssh("sftp").args(&format!("-q -P {PORT}"));
        let call = call.arg(format!("alice@{}", line.host()));
        call.input(format!("{verb} {} {}\n", from.display(), to.display())).unwrap()
    };
    let cases: [(&str, [Call<'_>; 2], &str); 9] = [
        ("sftp", [sftp("put", &here, &there), sftp("get", &there, &back)], "session-sftp"),
        ("scp", scp_both("-s"), "session-sftp"),
        ("old scp", scp_both("-O"), "session-exec-scp"),
        ("pscp", of(Program::Plink, Copying::Sftp), "session-sftp"),
        ("old pscp", of(Program::Plink, Copying::Scp), "session-exec-scp"),
        ("paramiko", of(Program::Paramiko, Copying::Sftp), "session-sftp"),
        ("asyncssh", of(Program::Asyncssh, Copying::Sftp), "session-sftp"),
        ("asyncssh scp", of(Program::Asyncssh, Copying::Scp), "session-exec-scp"),
        ("libssh", of(Program::Libssh, Copying::Sftp), "session-sftp"),
    ];
    let mut records = Records::new(&line.proxyd);
    for (name, calls, kind) in cases {
        for call in calls {
            let run = call.run(LIMIT).unwrap();
            assert_eq!(run.code(), 0, "{name}: {}", run.stderr);
            let closed = records.next();
            assert_complete(&closed, name);
            let channels = closed.events("channel");
            assert!(channels[0].contains(&format!("kind={kind} ")), "{name}: {channels:?}");
        }
        for path in [&there, &back] {
            assert!(fs::read(path).unwrap() == pattern(BULK_BYTES), "{name}: {}", path.display());
            fs::remove_file(path).unwrap();
        }
    }
}

/// Programs that start `ssh` and speak through it: a tree is synchronised, changed, and
/// synchronised again; a repository is cloned and pushed to.
#[test]
fn rsync_and_git() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let (here, home) = (line.client.directory().join("tree"), line.server.home("alice"));
    fs::create_dir_all(here.join("below")).unwrap();
    fs::write(here.join("large"), pattern(BULK_BYTES)).unwrap();
    fs::write(here.join("below/small"), "small").unwrap();
    let rsync = || {
        let call = line.around_ssh("rsync").args("--archive --checksum --stats --delete --rsh");
        let call = call.arg(format!("ssh -p {PORT}")).arg(format!("{}/", here.display()));
        call.arg(format!("alice@{}:{}/tree", line.host(), home.display()))
    };
    rsync().run(LIMIT).unwrap().ok().unwrap();
    assert!(fs::read(home.join("tree/large")).unwrap() == pattern(BULK_BYTES));
    fs::write(here.join("large"), pattern(BULK_BYTES + 5)).unwrap();
    fs::remove_file(here.join("below/small")).unwrap();
    let stats = rsync().run(LIMIT).unwrap().ok().unwrap().text();
    assert!(stats.contains("Number of regular files transferred: 1\n"), "{stats}");
    assert!(fs::read(home.join("tree/large")).unwrap() == pattern(BULK_BYTES + 5));
    assert!(!home.join("tree/below/small").exists());

    let repository = format!("ssh://alice@{}:{PORT}{}/project.git", line.host(), home.display());
    let remote = line.around_ssh("ssh").args(&format!("-p {PORT} alice@{}", line.host()));
    remote.arg("git init --quiet --bare project.git").run(LIMIT).unwrap().ok().unwrap();
    let clone = line.client.directory().join("clone");
    let cloned = line.around_ssh("git").args("clone --quiet").arg(&repository).arg(&clone);
    cloned.run(LIMIT).unwrap().ok().unwrap();
    fs::write(clone.join("large"), pattern(BULK_BYTES)).unwrap();
    let git = |words: &str| {
        let call = line.around_ssh("git").arg("-C").arg(&clone);
        let call = call.args("-c user.name=alice -c user.email=alice@client");
        call.args(words).run(LIMIT).unwrap().ok().unwrap()
    };
    git("add large");
    git("commit --quiet --message=large");
    git("push --quiet origin HEAD:main");
    let again = line.client.directory().join("again");
    let cloned = line.around_ssh("git").args("clone --quiet --branch main").arg(&repository);
    cloned.arg(&again).run(LIMIT).unwrap().ok().unwrap();
    assert!(fs::read(again.join("large")).unwrap() == pattern(BULK_BYTES));
}

/// How long Ansible may take for one module; it starts several programs of Python on both sides.
const MODULE_LIMIT: Duration = Duration::from_secs(60);

/// Ansible's modules: it shares a connection, copies by sftp, and asks for terminals.
#[test]
fn ansible() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let (here, there) =
        (line.client.directory().join("here"), line.server.home("alice").join("there"));
    fs::write(&here, pattern(BULK_BYTES)).unwrap();
    let inventory = line.client.directory().join("inventory.ini");
    let host = format!(
        "gate ansible_host={} ansible_port={PORT} ansible_user=alice ansible_password={} \
         ansible_python_interpreter=/usr/bin/python3\n",
        line.host(),
        sshd::PASSWORD
    );
    fs::write(&inventory, host).unwrap();
    let copy = format!("src={} dest={} mode=0640", here.display(), there.display());
    let modules = [
        ("ping", String::new(), "\"ping\": \"pong\""),
        ("copy", copy, "\"changed\": true"),
        ("command", "cat /proc/self/loginuid /etc/passwd".to_owned(), "alice:x:61001:"),
        ("shell", "exit 4".to_owned(), "FAILED | rc=4"),
    ];
    for (module, words, says) in modules {
        let call = line.client.call(&python("ansible").unwrap().to_string_lossy());
        let call = call.arg("gate").arg("-i").arg(&inventory).arg("-m").arg(module);
        let call = call.arg("-a").arg(words).env("ANSIBLE_HOST_KEY_CHECKING", "False");
        let call = call.env("ANSIBLE_LOCAL_TEMP", &line.client.directory().to_string_lossy());
        let run = call.env("LC_ALL", "C.UTF-8").run(MODULE_LIMIT).unwrap();
        assert!(run.text().contains(says), "{module}: {}{}", run.text(), run.stderr);
    }
    assert!(fs::read(&there).unwrap() == pattern(BULK_BYTES));
}
