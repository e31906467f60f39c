//! Files copied by OpenSSH's own programs through what follows them: what is told of it, and what
//! reaches the server of what a file policy refuses.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use proxyd::protocols::ssh::files::{FilePolicy, Files, Operation, Side};
use tempfile::TempDir;

/// The program that OpenSSH and dropbear start for the subsystem sftp.
const SFTP_SERVER: &str = "/usr/lib/openssh/sftp-server";

/// SHA-256 of "abc" (FIPS 180-2 appendix B.1).
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Stands for ssh: keeps the command, and moves what it is given through two pipes until the server
/// ends; all of it ends then, as the client waits for its end to be closed.
const SSH: &str = "#!/bin/sh
for last; do :; done
printf %s \"$last\" > DIR/command
exec 3<&0
cat <&3 > DIR/sent &
cat DIR/received
kill $! 2>/dev/null
exit 0
";

/// A client's directory and a server's, and what joins them.
struct Place {
    directory: TempDir,
    client: PathBuf,
    server: PathBuf,
}

/// How a copy went.
struct Copied {
    output: Output,
    operations: Vec<Operation>,
    said: Vec<(Side, Vec<u8>)>,
    error: Option<String>,
}

impl Place {
    fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let (client, server) = (directory.path().join("client"), directory.path().join("server"));
        fs::create_dir(&client).unwrap();
        fs::create_dir(&server).unwrap();
        let ssh = directory.path().join("ssh");
        fs::write(&ssh, SSH.replace("DIR", directory.path().to_str().unwrap())).unwrap();
        fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
        Self { directory, client, server }
    }

    /// Runs sftp with these lines, through `files`.
    fn sftp(&self, lines: &[&str], policy: Option<&str>) -> Copied {
        let batch = self.directory.path().join("batch");
        fs::write(&batch, lines.join("\n") + "\n").unwrap();
        let mut command = Command::new("sftp");
        command.arg("-b").arg(&batch).arg("-S").arg(self.directory.path().join("ssh")).arg("host");
        self.copy(command, |_command| (Files::sftp(policy.map(named)), Command::new(SFTP_SERVER)))
    }

    /// Runs scp in its old form, through `files`.
    fn scp(&self, words: &[&str], policy: Option<&str>) -> Copied {
        let mut command = Command::new("scp");
        command.arg("-O").arg("-S").arg(self.directory.path().join("ssh")).args(words);
        self.copy(command, |command| {
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(command);
            (Files::scp(command.as_bytes(), policy.map(named)).unwrap(), shell)
        })
    }

    fn copy(&self, mut client: Command, start: impl FnOnce(&str) -> (Files, Command)) -> Copied {
        let pipes = ["sent", "received"].map(|name| self.directory.path().join(name));
        for pipe in &pipes {
            drop(fs::remove_file(pipe));
            mkfifo(pipe, Mode::S_IRWXU).unwrap();
        }
        let client = client.current_dir(&self.client).stdin(Stdio::null());
        let client = client.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Opened once the client has started what stands for ssh, after it has kept its command.
        let sent = File::open(&pipes[0]).unwrap();
        let received = File::options().write(true).open(&pipes[1]).unwrap();
        let command = fs::read_to_string(self.directory.path().join("command")).unwrap();
        let (files, mut server) = start(&command);
        let server = server.current_dir(&self.server).stdin(Stdio::piped()).stderr(Stdio::null());
        let mut server = server.stdout(Stdio::piped()).spawn().unwrap();
        let between = Arc::new(Mutex::new(Between { files, said: vec![], error: None }));
        let (input, output) = (server.stdin.take().unwrap(), server.stdout.take().unwrap());
        let ways = [
            thread::spawn({
                let between = Arc::clone(&between);
                move || carry(&between, Side::Client, sent, input)
            }),
            thread::spawn({
                let between = Arc::clone(&between);
                move || carry(&between, Side::Server, output, received)
            }),
        ];
        let output = client.wait_with_output().unwrap();
        for way in ways {
            way.join().unwrap();
        }
        server.wait().unwrap();
        let mut between = between.lock().unwrap();
        between.files.finish();
        let operations = between.files.operations().collect();
        let said = std::mem::take(&mut between.said);
        Copied { output, operations, said, error: between.error.take() }
    }
}

/// What both directions share.
struct Between {
    files: Files,
    said: Vec<(Side, Vec<u8>)>,
    error: Option<String>,
}

/// Moves one direction until its end, or until it must not go on.
fn carry(between: &Mutex<Between>, from: Side, mut reader: impl Read, mut writer: impl Write) {
    let (mut bytes, mut buffer) = (vec![0; 40_000], vec![]);
    loop {
        let length = reader.read(&mut bytes).unwrap();
        let mut between = between.lock().unwrap();
        let on = if length == 0 {
            between.files.end(from)
        } else {
            between.said.push((from, bytes[..length].to_vec()));
            match between.files.pass(from, &bytes[..length], &mut buffer) {
                Ok(on) => on.to_vec(),
                Err(error) => {
                    between.error = Some(error.to_string());
                    return;
                }
            }
        };
        drop(between);
        // Who is gone reads nothing.
        if writer.write_all(&on).and_then(|()| writer.flush()).is_err() || length == 0 {
            return;
        }
    }
}

/// The file policy with these rules, as a configuration file has it.
fn named(rules: &str) -> Arc<FilePolicy> {
    let text = format!(
        "[steering]\nclient_interfaces = [\"lan0\"]\nserver_interfaces = [\"wan0\"]\n\
         [[connection_policy]]\nname = \"c\"\nprotocol = \"ssh\"\nfrom = [\"10.1.0.0/16\"]\n\
         to = [\"10.2.0.0/16\"]\nports = [\"22\"]\nauthentication = \"a\"\nchannels = \"f\"\n\
         [[authentication_policy]]\nname = \"a\"\ngateway = \"none\"\n\
         [[channel_policy]]\nname = \"f\"\n\
         rule = [{{ type = \"session-sftp\", files = \"p\", record = false }}]\n\
         [[file_policy]]\nname = \"p\"\nrule = [{rules}]\n"
    );
    let config = proxyd::config::check(Path::new("proxyd.toml"), text);
    let config = config.unwrap_or_else(|report| panic!("{report}"));
    let policy = config.policy.connection_policies.first().unwrap();
    let rule = policy.channels.rules.first().unwrap();
    Arc::clone(rule.files.as_ref().unwrap())
}

/// "name path [new path] bytes [hash] result", with the server's directory as "@".
fn lines(copied: &Copied, place: &Place) -> Vec<String> {
    let line = |operation: &Operation| {
        let fields = operation.fields();
        let values: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
        values.join(" ").replace(place.server.to_str().unwrap(), "@")
    };
    copied.operations.iter().map(line).collect()
}

fn errors(copied: &Copied) -> String {
    String::from_utf8_lossy(&copied.output.stderr).into_owned()
}

/// What `sha256sum` says of a file.
fn hash(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
}

/// Bytes that differ from place to place.
fn noise(bytes: u32) -> Vec<u8> {
    (0..bytes).map(|at| at.wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect()
}

/// What a session of sftp does that has something of everything.
const SESSION: &[&str] = &[
    "put small",
    "get small back",
    "mkdir d",
    "rename small d/moved",
    "ln d/moved hard",
    "symlink /moved d/link",
    "chmod 600 hard",
    "rm hard",
    "-get gone",
    "ls d",
];

#[test]
fn sftp_of_openssh_is_told_of() {
    let place = Place::new();
    fs::write(place.client.join("small"), "abc").unwrap();
    let copied = place.sftp(SESSION, None);
    assert!(copied.output.status.success(), "{}", errors(&copied));
    let told = lines(&copied, &place);
    let expected = [
        "realpath . 0 ok".to_owned(),
        "open-write @/small 0 ok".to_owned(),
        format!("write @/small 3 {ABC} ok"),
        format!("read @/small 3 {ABC} ok"),
        "mkdir @/d 0 ok".to_owned(),
        "posix-rename @/small @/d/moved 0 ok".to_owned(),
        "hardlink @/d/moved @/hard 0 ok".to_owned(),
        "symlink /moved @/d/link 0 ok".to_owned(),
        "setstat @/hard 0 ok".to_owned(),
        "remove @/hard 0 ok".to_owned(),
        "lstat @/gone 0 no such file".to_owned(),
        "opendir @/d/ 0 ok".to_owned(),
    ];
    let mut rest = told.iter();
    for line in &expected {
        assert!(rest.any(|told| told == line), "no {line:?} in its place in {told:#?}");
    }
    assert_eq!(fs::read(place.client.join("back")).unwrap(), b"abc");
}

#[test]
fn a_real_conversation_is_followed_in_any_pieces() {
    let place = Place::new();
    fs::write(place.client.join("small"), "abc").unwrap();
    let copied = place.sftp(SESSION, None);
    let everything = r#"{ operations = ["read", "write", "list", "stat", "setstat", "remove",
        "rename", "mkdir", "rmdir", "link", "other"], action = "allow" }"#
        .replace('\n', " ");
    let policy = named(&everything);
    for (index, (_, whole)) in copied.said.iter().enumerate() {
        for at in (1..whole.len()).take(400) {
            let mut files = Files::sftp(Some(Arc::clone(&policy)));
            let (mut buffer, mut on) = (vec![], BTreeMap::new());
            for (other, (from, bytes)) in copied.said.iter().enumerate() {
                let at = if other == index { at } else { 0 };
                for piece in [&bytes[..at], &bytes[at..]] {
                    let passed = files.pass(*from, piece, &mut buffer).unwrap();
                    let way: &mut Vec<u8> = on.entry(*from == Side::Client).or_default();
                    way.extend_from_slice(passed);
                }
            }
            files.finish();
            assert_eq!(files.operations().collect::<Vec<_>>(), copied.operations);
            for (is_client, on) in on {
                let said = copied.said.iter();
                let said = said.filter(|(from, _)| (*from == Side::Client) == is_client);
                assert!(said.flat_map(|(_, bytes)| bytes).eq(&on), "{index} at {at}");
            }
        }
    }
}

#[test]
fn large_files_are_hashed_in_both_directions() {
    let place = Place::new();
    fs::write(place.client.join("large"), noise(3_000_000)).unwrap();
    let copied = place.sftp(&["put large", "get large back"], None);
    assert!(copied.output.status.success(), "{}", errors(&copied));
    let hash = hash(&place.client.join("large"));
    let told = lines(&copied, &place);
    for name in ["write", "read"] {
        let line = format!("{name} @/large 3000000 {hash} ok");
        assert!(told.contains(&line), "no {line:?} in {told:#?}");
    }
}

#[test]
fn what_a_policy_refuses_reaches_no_file() {
    let place = Place::new();
    let root = place.server.to_str().unwrap();
    for name in ["secret", "posix-rename@openssh.com", "kept"] {
        fs::write(place.server.join(name), "old").unwrap();
    }
    fs::create_dir(place.server.join("in")).unwrap();
    fs::write(place.client.join("small"), "abc").unwrap();
    fs::write(place.client.join("large"), noise(200_000)).unwrap();
    let rules = format!(
        r#"{{ operations = ["read", "write"], paths = ["{root}/in/**"], max_bytes = 100_000,
            action = "allow" }}, {{ operations = ["list", "stat"], action = "allow" }}"#
    )
    .replace('\n', " ");
    let session = [
        "-get secret",
        "-put small kept",
        "-rm posix-rename@openssh.com",
        "-rename kept in/kept",
        "-mkdir in/d",
        "-ln -s secret in/link",
        "-ln secret in/hard",
        "-chmod 777 kept",
        "put small in/small",
        "-put large in/large",
        "get in/small back",
        "ls in",
    ];
    let copied = place.sftp(&session, Some(&rules));
    assert_eq!(copied.error, None);
    assert!(copied.output.status.success(), "{}", errors(&copied));
    assert!(errors(&copied).matches("ermission denied").count() >= 8, "{}", errors(&copied));
    let told = lines(&copied, &place);
    let expected = [
        "open-read @/secret 0 refused by policy".to_owned(),
        "open-write @/kept 0 refused by policy".to_owned(),
        "remove @/posix-rename@openssh.com 0 refused by policy".to_owned(),
        "posix-rename @/kept @/in/kept 0 refused by policy".to_owned(),
        "mkdir @/in/d 0 refused by policy".to_owned(),
        "symlink secret @/in/link 0 refused by policy".to_owned(),
        "hardlink @/secret @/in/hard 0 refused by policy".to_owned(),
        "setstat @/kept 0 refused by policy".to_owned(),
        format!("write @/in/small 3 {ABC} ok"),
        "write @/in/large 0 refused by policy".to_owned(),
        format!("read @/in/small 3 {ABC} ok"),
        "opendir @/in/ 0 ok".to_owned(),
    ];
    let mut rest = told.iter();
    for line in &expected {
        assert!(rest.any(|told| told == line), "no {line:?} in its place in {told:#?}");
    }
    for name in ["secret", "posix-rename@openssh.com", "kept"] {
        assert_eq!(fs::read(place.server.join(name)).unwrap(), b"old", "{name}");
    }
    let mut inside: Vec<_> =
        fs::read_dir(place.server.join("in")).unwrap().map(|entry| entry.unwrap().path()).collect();
    inside.sort();
    assert_eq!(inside, ["large", "small"].map(|name| place.server.join("in").join(name)));
    assert!(fs::metadata(place.server.join("in/large")).unwrap().len() <= 100_000);
    let mode = fs::metadata(place.server.join("kept")).unwrap().permissions().mode();
    assert_ne!(mode & 0o777, 0o777);
}

#[test]
fn a_file_as_long_as_the_limit_is_read_and_a_longer_one_is_not() {
    let place = Place::new();
    fs::write(place.server.join("exact"), noise(100_000)).unwrap();
    fs::write(place.server.join("longer"), noise(100_001)).unwrap();
    let rules = r#"{ operations = ["read"], max_bytes = 100_000, action = "allow" },
        { operations = ["list", "stat"], action = "allow" }"#
        .replace('\n', " ");
    let copied = place.sftp(&["get exact", "-get longer"], Some(&rules));
    assert!(copied.output.status.success(), "{}", errors(&copied));
    assert!(errors(&copied).contains("ermission denied"), "{}", errors(&copied));
    assert_eq!(fs::read(place.client.join("exact")).unwrap(), noise(100_000));
    let line = "read @/longer 0 refused by policy";
    assert!(lines(&copied, &place).iter().any(|told| told == line));
}

#[test]
fn old_scp_is_told_of_and_refused() {
    let place = Place::new();
    fs::create_dir_all(place.client.join("tree/sub dir")).unwrap();
    fs::write(place.client.join("small"), "abc").unwrap();
    fs::write(place.client.join("tree/sub dir/a b"), "abc").unwrap();
    fs::write(place.client.join("tree/large"), noise(300_000)).unwrap();
    let copied = place.scp(&["-rp", "tree", "small", "host:."], None);
    assert!(copied.output.status.success(), "{}", errors(&copied));
    let large = hash(&place.client.join("tree/large"));
    let mut told = lines(&copied, &place);
    told.sort();
    let mut expected = vec![
        "mkdir ./tree 0 ok".to_owned(),
        "mkdir ./tree/sub dir 0 ok".to_owned(),
        format!("write ./small 3 {ABC} ok"),
        format!("write ./tree/large 300000 {large} ok"),
        format!("write ./tree/sub dir/a b 3 {ABC} ok"),
    ];
    expected.sort();
    assert_eq!(told, expected);
    let copied = place.scp(&["-r", "host:tree", "back"], None);
    let line = format!("read tree/sub dir/a b 3 {ABC} ok");
    assert!(lines(&copied, &place).contains(&line), "{:#?}", lines(&copied, &place));
    assert_eq!(fs::read(place.client.join("back/large")).unwrap(), noise(300_000));

    let rules = r#"{ operations = ["write", "mkdir"], paths = ["in/**"], action = "allow" }"#;
    fs::create_dir(place.server.join("in")).unwrap();
    let copied = place.scp(&["-r", "tree", "host:in/"], Some(rules));
    assert!(copied.output.status.success(), "{}", errors(&copied));
    assert_eq!(fs::read(place.server.join("in/tree/large")).unwrap(), noise(300_000));
    let copied = place.scp(&["small", "host:out"], Some(rules));
    assert!(!copied.output.status.success());
    assert_eq!(lines(&copied, &place), ["write out small 3 refused by policy"]);
    assert!(!place.server.join("out").exists());
    let copied = place.scp(&["host:small", "stolen"], Some(rules));
    assert!(!copied.output.status.success());
    assert_eq!(lines(&copied, &place), ["read small 3 refused by policy"]);
    assert!(!place.client.join("stolen").exists());
}
