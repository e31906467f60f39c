//! Copies through the gateway, by sftp and by scp: what is on record of them, what a file policy
//! refuses, and whose content a trail has.

use std::fs::{self, File};
use std::io::BufReader;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::path::{Path, PathBuf};

use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Finished;
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};
use proxyd_trail::{Identities, Reader, Record};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library, pattern};

/// The port of the policy that lets everything be copied, and records it.
const OPEN_PORT: u16 = 2301;

/// SHA-256 of "abc" (FIPS 180-2 appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// What no trail without content may hold.
const SECRET: &str = "content-that-is-not-recorded";

const POLICIES: &str = r#"
[[channel_policy]]
name = "drop-box"
[[channel_policy.rule]]
type = "session-sftp"
files = "drop-box"
file_content = false
[[channel_policy.rule]]
type = "session-exec-scp"
files = "drop-box"
file_content = false

[[channel_policy]]
name = "copies"
[[channel_policy.rule]]
type = "session-sftp"
[[channel_policy.rule]]
type = "session-exec-scp"

[[file_policy]]
name = "drop-box"
[[file_policy.rule]]
operations = ["read", "write", "list", "stat", "setstat", "mkdir"]
paths = ["**/in/**"]
max_bytes = 1_000_000
action = "allow"
[[file_policy.rule]]
operations = ["list", "stat"]
action = "allow"
"#;

/// What all tests of this file stand on.
struct Line<'w> {
    world: &'w World,
    client: Client<'w>,
    proxyd: Proxyd<'w>,
    auditor: Auditor,
    home: PathBuf,
    _server: Sshd<'w>,
}

impl<'w> Line<'w> {
    fn new(world: &'w World) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let with = |channels: &str| OPEN.replace("\"all\"", &format!("\"{channels}\""));
        let policies = connection(world, "drop-box", &with("drop-box"))
            + &connection_on(world, "copies", OPEN_PORT, &with("copies"))
            + &library(&auditor, &[])
            + POLICIES;
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let server = Sshd::start(world).unwrap();
        let client = Client::new(world, "alice").unwrap();
        let home = server.home("alice");
        let owner = fs::metadata(&home).unwrap();
        for name in ["in", "out"] {
            fs::create_dir(home.join(name)).unwrap();
            chown(home.join(name), Some(owner.uid()), Some(owner.gid())).unwrap();
        }
        fs::write(home.join("out/held"), "held").unwrap();
        Self { world, client, proxyd, auditor, home, _server: server }
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.client.directory().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn host(&self) -> String {
        self.world.address(Host::Server, Family::V4).to_string()
    }

    fn call(&self, program: &str, port: u16) -> Call<'_> {
        let call = self.client.call(program).reply(sshd::ASKS, sshd::PASSWORD);
        call.args(&format!("-P {port}"))
    }

    fn sftp(&self, port: u16, commands: &str) -> Finished {
        let call = self.call("sftp", port).arg(format!("alice@{}", self.host()));
        call.input(commands).unwrap().run(LIMIT).unwrap()
    }

    fn scp(&self, port: u16, from: &str, to: &str) -> Finished {
        self.call("scp", port).args("-O").arg(from).arg(to).run(LIMIT).unwrap()
    }

    fn at_server(&self, path: &str) -> String {
        format!("alice@{}:{path}", self.host())
    }

    /// All records of a session's trail, as text: data by itself, the rest as it is written for
    /// debugging.
    fn opened(&self, name: &str) -> String {
        let mut identities = Identities::new();
        identities.add_file(&fs::read_to_string(&self.auditor.identity).unwrap()).unwrap();
        let file = File::open(self.proxyd.trail(name)).unwrap();
        let mut reader = Reader::open(BufReader::new(file), &identities, None).unwrap();
        let mut text = String::new();
        while let Some(entry) = reader.next_record().unwrap() {
            if let Record::Data { bytes, .. } = entry.record {
                text.push_str(&String::from_utf8_lossy(bytes));
            } else if let Record::FileOperation { path, .. } = entry.record {
                text.push_str(&format!("file {}\n", String::from_utf8_lossy(path)));
            } else {
                text.push_str(&format!("{:?}\n", entry.record));
            }
        }
        text
    }
}

#[test]
fn sftp_is_on_record_and_held_to_its_policy() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let small = line.file("small", b"abc");
    let secret = line.file("secret", SECRET.as_bytes());
    let large = line.file("large", &pattern(1_500_000));
    let [small, secret, large] = [small, secret, large].map(|path| path.display().to_string());
    let back = line.client.directory().join("back");
    let commands = format!(
        "put {small} in/small\nget in/small {}\nput {secret} in/secret\nput {small} out/small\n\
         get out/held {}\nrename in/small in/other\nrm in/small\nput {large} in/large\n\
         put {small} in/../out/sly\nls out\n",
        back.display(),
        line.client.directory().join("held").display()
    );
    let run = line.sftp(22, &commands);
    assert!(run.stderr.contains("ermission denied"), "{}", run.stderr);
    assert_eq!(fs::read(&back).unwrap(), b"abc", "{}", run.stderr);
    assert_eq!(fs::read(line.home.join("in/small")).unwrap(), b"abc");
    assert_eq!(fs::read(line.home.join("in/secret")).unwrap(), SECRET.as_bytes());
    for held in ["out/small", "out/sly", "in/other"] {
        assert!(!line.home.join(held).exists(), "{held}");
    }
    assert!(fs::metadata(line.home.join("in/large")).unwrap().len() <= 1_000_000);
    assert!(!fs::read(line.client.directory().join("held")).is_ok_and(|held| held == b"held"));
    let closed = records.next();
    let events = closed.events("file");
    let home = line.home.display();
    let write =
        format!("bytes=3 channel=0 operation=write path={home}/in/small result=ok sha256={ABC}");
    assert!(events.contains(&write), "{events:#?}");
    for refused in ["operation=posix-rename", "operation=remove", "operation=open-write"] {
        let is_refused =
            |event: &&String| event.contains(refused) && event.contains("result=refused by policy");
        assert!(events.iter().any(|event| is_refused(&event)), "{refused}: {events:#?}");
    }
    let trail = line.opened(&closed.row.trail);
    assert!(trail.contains(&format!("file {home}/in/secret\n")), "{trail}");
    assert!(!trail.contains(SECRET), "the content is in the trail");
}

#[test]
fn without_a_policy_everything_is_copied_and_recorded() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let content = [pattern(3_000_000), SECRET.into()].concat();
    let file = line.file("file", &content).display().to_string();
    let back = line.client.directory().join("back");
    let run =
        line.sftp(OPEN_PORT, &format!("put {file} out/file\nget out/file {}\n", back.display()));
    assert!(fs::read(&back).is_ok_and(|read| read == content), "{}", run.stderr);
    let closed = records.next();
    let carried =
        |event: &&String| event.starts_with("bytes=3000028 ") && event.contains("sha256=");
    assert_eq!(
        closed.events("file").iter().filter(carried).count(),
        2,
        "{:?}",
        closed.events("file")
    );
    assert!(line.opened(&closed.row.trail).contains(SECRET));

    // An auditor gets the same content out of the trail, up and down.
    let files = line.proxyd.directory().join("files");
    let words = format!("trail export --format files --output {}", files.display());
    let identity = format!("{words} --identity {}", line.auditor.identity.display());
    let trail = line.proxyd.trail(&closed.row.trail);
    line.proxyd.command(&identity, &[&trail]).unwrap().ok().unwrap();
    let index = fs::read_to_string(files.join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_str(&index).unwrap();
    assert_eq!(index["lost"], serde_json::json!([]));
    for (entry, operation) in index["files"].as_array().unwrap().iter().zip(["write", "read"]) {
        assert_eq!((&entry["operation"], &entry["complete"]), (&operation.into(), &true.into()));
        let name = entry["file"].as_str().unwrap();
        assert!(name.ends_with("-file"), "{name}");
        assert!(fs::read(files.join(name)).is_ok_and(|read| read == content), "{operation}");
    }
    assert_eq!(index["files"].as_array().unwrap().len(), 2);
}

#[test]
fn scp_is_on_record_and_held_to_its_policy() {
    let world = World::router().unwrap();
    let line = Line::new(&world);
    let mut records = Records::new(&line.proxyd);
    let small = line.file("small", b"abc").display().to_string();
    let back = line.client.directory().join("back").display().to_string();
    let home = line.home.display();
    let inside = line.at_server(&format!("{home}/in/small"));
    let outside = line.at_server(&format!("{home}/out/small"));
    let held = line.at_server(&format!("{home}/out/held"));
    assert_eq!(line.scp(22, &small, &inside).code(), 0);
    assert_eq!(fs::read(line.home.join("in/small")).unwrap(), b"abc");
    let events = records.next().events("file");
    let sent = format!("operation=write path={home}/in/small");
    assert!(events.iter().any(|event| event.contains(&sent) && event.contains(ABC)), "{events:#?}");
    assert_eq!(line.scp(22, &inside, &back).code(), 0);
    assert_eq!(fs::read(&back).unwrap(), b"abc");
    assert!(records.next().events("file").iter().any(|event| event.contains("operation=read")));
    for (from, to) in [(&small, &outside), (&held, &back)] {
        let run = line.scp(22, from, to);
        assert_ne!(run.code(), 0, "{from} {to}");
        let events = records.next().events("file");
        let refused = |event: &String| event.contains("result=refused by policy");
        assert!(events.iter().any(refused), "{events:#?}");
    }
    assert!(!line.home.join("out/small").exists());
    assert_eq!(fs::read(Path::new(&back)).unwrap(), b"abc", "nothing came after it");
    // A command that may do something else never starts.
    let sly = line.client.ssh().reply(sshd::ASKS, sshd::PASSWORD).args("-l alice");
    let run =
        sly.arg(line.host()).arg(format!("scp -t {home}/in; touch {home}/out/sly")).run(LIMIT);
    let run = run.unwrap();
    assert!(run.stderr.contains("this type of channel is not allowed"), "{}", run.stderr);
    assert!(!line.home.join("out/sly").exists());
    let events = records.next().events("channel");
    assert!(events[0].contains("denied=channel-type-not-allowed"), "{events:?}");
    assert!(events[0].contains("kind=session-exec"), "it is no copy: {events:?}");
    assert_eq!(line.scp(OPEN_PORT, &small, &outside).code(), 0);
    assert_eq!(fs::read(line.home.join("out/small")).unwrap(), b"abc");
}
