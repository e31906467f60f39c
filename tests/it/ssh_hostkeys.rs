//! By which keys servers are known, which keys clients are shown, and how operators see to both.

use std::collections::BTreeSet;
use std::path::Path;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};
use serde_json::Value;

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library};

/// First connections at a time.
const RACERS: usize = 20;

/// A policy that learns no keys, and one that shows the keys of files.
const KNOWN_PORT: u16 = 2601;
const OWN_PORT: u16 = 2602;

/// What an operator reads in the list.
fn listed(proxyd: &Proxyd<'_>) -> Vec<(String, String)> {
    let config = proxyd.config();
    let run = proxyd.command("hostkeys list --json --config", &[&config]).unwrap().ok().unwrap();
    let keys: Vec<Value> = serde_json::from_slice(&run.stdout).unwrap();
    let text = |key: &Value, name: &str| key[name].as_str().unwrap().to_owned();
    assert!(keys.iter().all(|key| text(key, "fingerprint").starts_with("SHA256:")), "{keys:?}");
    keys.iter().map(|key| (text(key, "server"), text(key, "type"))).collect()
}

/// Runs `proxyd hostkeys` with these words and this file: its exit code, and all that it says.
fn operate(proxyd: &Proxyd<'_>, words: &str, file: Option<&Path>) -> (i32, String) {
    let words = format!("hostkeys --config {} {words}", proxyd.config().display());
    let paths: Vec<&Path> = file.into_iter().collect();
    let run = proxyd.command(&words, &paths).unwrap();
    (run.code(), run.text() + &run.stderr)
}

/// How the server's key was judged in the next session.
fn trust(records: &mut Records) -> String {
    let events = records.next().events("server-identity");
    events[0].rsplit_once("trust=").unwrap().1.to_owned()
}

/// Twenty connections at once to a server that nobody knows: one key is learned, all get in.
#[test]
fn twenty_first_connections() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let host = world.address(Host::Server, Family::V4).to_string();
    let options = "-l alice -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null";
    let racers: Vec<_> = (0..RACERS)
        .map(|_racer| {
            let call = client.ssh().args(options).arg(&host).arg("exit 3");
            call.reply(sshd::ASKS, sshd::PASSWORD).start().unwrap()
        })
        .collect();
    for racer in racers {
        let run = racer.finish(LIMIT).unwrap();
        assert_eq!(run.code(), 3, "{}", run.stderr);
    }
    let (mut learned, mut fingerprints) = (0, BTreeSet::new());
    for _racer in 0..RACERS {
        let events = records.next().events("server-identity");
        let [event] = events.as_slice() else { panic!("{events:?}") };
        let (fingerprint, trust) = event.rsplit_once(" trust=").unwrap();
        fingerprints.insert(fingerprint.to_owned());
        match trust {
            "learned" => learned += 1,
            other => assert_eq!(other, "known"),
        }
    }
    assert_eq!((learned, fingerprints.len()), (1, 1));
    assert_eq!(listed(&proxyd), [("10.77.2.3:22".to_owned(), "ssh-ed25519".to_owned())]);
}

/// A server with three keys is known by the one that is kept, whichever it would show first; its
/// keys are listed, forgotten and imported while the gateway serves; a changed one is refused.
#[test]
fn keys_of_a_server() {
    let world = World::router().unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let (rsa, rsa_public) = client.make_key("host-rsa", "rsa").unwrap();
    let (ecdsa, _public) = client.make_key("host-ecdsa", "ecdsa").unwrap();
    let more = format!("HostKey {}\nHostKey {}\n", rsa.display(), ecdsa.display());
    let mut server = Sshd::start_with(&world, &more).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let known = format!("settings = \"known-only\"\n{OPEN}");
    let policies = [
        connection(&world, "open", OPEN),
        connection_on(&world, "known", KNOWN_PORT, &known),
        library(&auditor, &[]),
        KNOWN_ONLY.to_owned(),
    ];
    let settings = Settings { policies: &policies.concat(), ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let host = world.address(Host::Server, Family::V4).to_string();
    let log_in = |port: u16, expected: &str| {
        let call = client.ssh().args(&format!("-p {port} -l alice")).arg(&host).arg("exit 3");
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        let said = run.code() == 3 || run.stderr.contains(expected);
        assert!(said && (run.code() == 3) == expected.is_empty(), "{expected}: {}", run.stderr);
    };
    let hostkeys = |words: &str, file: Option<&Path>| operate(&proxyd, words, file);

    // Nobody knows it yet.
    log_in(KNOWN_PORT, ":9: the host key of the server is not known");
    assert_eq!(trust(&mut records), "host-key-unknown");
    log_in(22, "");
    assert_eq!(trust(&mut records), "learned");
    assert_eq!(listed(&proxyd), [("10.77.2.3:22".to_owned(), "ssh-ed25519".to_owned())]);

    // It is known by its RSA key alone, which it would not show by itself.
    let (code, said) = hostkeys("forget 10.77.2.3", None);
    assert_eq!((code, said.as_str()), (0, "forgot 1 keys of 10.77.2.3:22\n"));
    assert_eq!(hostkeys("forget 10.77.2.3:22", None).0, 1);
    let file = client.directory().join("scanned");
    std::fs::write(&file, format!("# 10.77.2.3:22 SSH-2.0-x\n10.77.2.3 {rsa_public}\n")).unwrap();
    let (code, said) = hostkeys("import", Some(&file));
    assert_eq!((code, said.as_str()), (0, "imported 1 keys; 0 were known\n"));
    log_in(KNOWN_PORT, "");
    assert_eq!(trust(&mut records), "known");

    // What ssh-keyscan prints of all its keys fits beside that one.
    let mut scan = world.server.command("ssh-keyscan");
    let scanned = output(scan.args(["-t", "rsa,ecdsa,ed25519", &host])).unwrap();
    std::fs::write(&file, &scanned).unwrap();
    let (code, said) = hostkeys("import", Some(&file));
    assert_eq!((code, said.as_str()), (0, "imported 2 keys; 1 were known\n"));
    assert_eq!(listed(&proxyd).len(), 3);
    log_in(22, "");
    assert_eq!(trust(&mut records), "known");

    // Another key of the same type is not taken from a file, nor from the server.
    let (_other, other) = client.make_key("other", "ed25519").unwrap();
    std::fs::write(&file, format!("10.77.2.9 {other}\n10.77.2.3 {other}\n")).unwrap();
    let (code, said) = hostkeys("import", Some(&file));
    assert!(code == 1 && said.contains("another ssh-ed25519 key of 10.77.2.3:22"), "{said}");
    std::fs::write(&file, format!("@cert-authority *.example.com {other}\n")).unwrap();
    let (code, said) = hostkeys("import", Some(&file));
    assert!(code == 1 && said.contains("line 1: keys of CAs are not kept here"), "{said}");
    assert_eq!(listed(&proxyd).len(), 3);
    server.change_host_key().unwrap();
    log_in(22, ":9: the host key of the server has changed");
    assert_eq!(trust(&mut records), "host-key-changed");
    let log = proxyd.log().unwrap();
    let warned = |line: &str| line.contains("WARN") && line.contains("has changed");
    assert!(log.lines().any(warned), "{log}");
    let table = hostkeys("list", None).1;
    assert!(table.lines().count() == 4 && table.contains("ecdsa-sha2-nistp256"), "{table}");
}

/// Clients are shown the keys of files where a policy names them, and made ones elsewhere.
#[test]
fn keys_that_clients_see() {
    let world = World::router().unwrap();
    let server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let own = format!("settings = \"own-keys\"\n{OPEN}");
    // A copy: the server still needs its own.
    let file = client.directory().join("uploaded");
    std::fs::copy(world.directory().join("sshd/host_key"), &file).unwrap();
    let policies = [
        connection(&world, "open", OPEN),
        connection_on(&world, "own", OWN_PORT, &own),
        library(&auditor, &[]),
        OWN_KEYS.replace("FILE", &file.display().to_string()),
    ];
    let settings = Settings { policies: &policies.concat(), ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let host = world.address(Host::Server, Family::V4).to_string();
    let shown = |port: u16| {
        client.forget_host_keys().unwrap();
        let call = client.ssh().args(&format!("-p {port} -l alice")).arg(&host).arg("exit 3");
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!(run.code(), 3, "{}", run.stderr);
        client.known_hosts().unwrap()
    };
    let key = server.host_key().unwrap();
    let key = key.split(' ').nth(1).unwrap();
    assert!(shown(OWN_PORT).contains(key));
    let made = shown(22);
    assert!(!made.contains(key));
    let keys = |text: &str| -> BTreeSet<String> {
        text.lines().filter_map(|line| line.split(' ').nth(2)).map(str::to_owned).collect()
    };
    assert_eq!(keys(&shown(22)), keys(&made), "a made key stays");
    // A key that is not there any more keeps its clients out, not the others.
    std::fs::remove_file(&file).unwrap();
    let call = client.ssh().args(&format!("-p {OWN_PORT} -l alice")).arg(&host).arg("exit 3");
    assert_eq!(call.run(LIMIT).unwrap().code(), 255);
    shown(22);
    assert!(proxyd.log().unwrap().contains("cannot read the key file"));
}

const KNOWN_ONLY: &str = r#"
[[settings_policy]]
name = "known-only"
protocol = "ssh"
server_side = { host_key_check = "known" }
"#;

const OWN_KEYS: &str = r#"
[[settings_policy]]
name = "own-keys"
protocol = "ssh"
client_side = { host_key_files = ["FILE"] }
"#;
