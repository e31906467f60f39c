//! Every key exchange, cipher, MAC and type of host key with OpenSSH on both sides, old servers,
//! and what an auditor makes of our offer.

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};
use serde_json::Value;

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library, pattern};

/// Bytes that go there and back in every case, through a pipe at the server.
const ECHO_BYTES: usize = 2 * 1024 * 1024;

/// The port of the first case.
const FIRST_PORT: u16 = 3000;

/// Of what OpenSSH 9.2 has; it cannot do ML-KEM.
const KEXES: [&str; 12] = [
    "curve25519-sha256",
    "curve25519-sha256@libssh.org",
    "ecdh-sha2-nistp256",
    "ecdh-sha2-nistp384",
    "ecdh-sha2-nistp521",
    "diffie-hellman-group16-sha512",
    "diffie-hellman-group18-sha512",
    "diffie-hellman-group-exchange-sha256",
    "diffie-hellman-group14-sha256",
    "diffie-hellman-group14-sha1",
    "diffie-hellman-group-exchange-sha1",
    "diffie-hellman-group1-sha1",
];

const CIPHERS: [&str; 10] = [
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes128-ctr",
    "aes192-ctr",
    "aes256-ctr",
    "aes128-cbc",
    "aes192-cbc",
    "aes256-cbc",
    "3des-cbc",
];

const MACS: [&str; 6] = [
    "hmac-sha2-256-etm@openssh.com",
    "hmac-sha2-512-etm@openssh.com",
    "hmac-sha2-256",
    "hmac-sha2-512",
    "hmac-sha1-etm@openssh.com",
    "hmac-sha1",
];

/// A type of host key shown to clients, and the algorithm that they ask for.
const HOST_KEYS: [(&str, &str); 4] = [
    ("ed25519", "ssh-ed25519"),
    ("ecdsa", "ecdsa-sha2-nistp256"),
    ("rsa", "rsa-sha2-512"),
    ("rsa", "rsa-sha2-256"),
];

/// What both legs are held to, and what the client is.
struct Case {
    name: String,
    /// Keys of both sides of the settings policy.
    both: String,
    /// Keys of the clients' side alone.
    client: String,
    options: String,
}

fn exchanges() -> Vec<Case> {
    let kex = KEXES.iter().map(|name| Case {
        name: (*name).to_owned(),
        both: format!("kex = [\"{name}\"]"),
        client: String::new(),
        options: format!("-o KexAlgorithms={name}"),
    });
    let host_keys = HOST_KEYS.iter().map(|(kind, name)| Case {
        name: (*name).to_owned(),
        both: String::new(),
        client: format!("host_keys = [\"{kind}\"]"),
        options: format!("-o HostKeyAlgorithms={name}"),
    });
    kex.chain(host_keys).collect()
}

fn packets() -> Vec<Case> {
    let ciphers = CIPHERS.iter().map(|name| Case {
        name: (*name).to_owned(),
        both: format!("ciphers = [\"{name}\"]"),
        client: String::new(),
        options: format!("-o Ciphers={name}"),
    });
    let macs = MACS.iter().flat_map(|mac| {
        ["aes128-ctr", "aes256-cbc"].map(|cipher| Case {
            name: format!("{cipher} with {mac}"),
            both: format!("ciphers = [\"{cipher}\"], macs = [\"{mac}\"]"),
            client: String::new(),
            options: format!("-o Ciphers={cipher} -o MACs={mac}"),
        })
    });
    ciphers.chain(macs).collect()
}

#[test]
fn every_key_exchange_and_host_key() {
    both_legs_do(&exchanges());
}

#[test]
fn every_cipher_and_mac() {
    both_legs_do(&packets());
}

/// One connection policy for each case holds both legs to its algorithms, and each carries some
/// megabytes both ways, once with a key exchange in between.
fn both_legs_do(cases: &[Case]) {
    let world = World::router().unwrap();
    let offer = format!(
        "KexAlgorithms {}\nCiphers {}\nMACs {}\n",
        KEXES.join(","),
        CIPHERS.join(","),
        MACS.join(",")
    );
    let _server = Sshd::start_with(&world, &offer).unwrap();
    let user = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let mut policies = library(&auditor, &[]);
    for (port, case) in (FIRST_PORT..).zip(cases) {
        let lines = format!("{OPEN}settings = \"s{port}\"\n");
        policies.push_str(&connection_on(&world, &format!("p{port}"), port, &lines));
        policies.push_str(&format!(
            "[[settings_policy]]\nname = \"s{port}\"\nprotocol = \"ssh\"\n\
             client_side = {{ {} }}\nserver_side = {{ {} }}\n",
            [case.both.as_str(), &case.client].concat(),
            case.both
        ));
    }
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let to = world.address(Host::Server, Family::V4);
    let sent = pattern(ECHO_BYTES);
    for (port, case) in (FIRST_PORT..).zip(cases) {
        let name = &case.name;
        let call = user.ssh().args(&case.options).args(&format!("-o RekeyLimit=1M -p {port}"));
        let call = call.arg(format!("alice@{to}")).arg("cat").input(&sent).unwrap();
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!(run.code(), 0, "{name}: {}", run.stderr);
        assert!(run.stdout == sent, "{name}: {} bytes came back", run.stdout.len());
        let row = records.next().row;
        assert_eq!(row.outcome, "completed", "{name}: {}", row.reason);
    }
}

/// A server that nobody has updated for fifteen years is reached where the policy says so, and
/// named in the reason where it does not.
#[test]
fn old_servers_are_served_where_the_policy_says_so() {
    let world = World::router().unwrap();
    let user = Client::new(&world, "alice").unwrap();
    let (host_key, _public) = user.make_key("old-host", "rsa").unwrap();
    let old = format!(
        "HostKey {}\nHostKeyAlgorithms ssh-rsa\nKexAlgorithms diffie-hellman-group14-sha1\n\
         Ciphers aes128-cbc,3des-cbc\nMACs hmac-sha1\n",
        host_key.display()
    );
    let _server = Sshd::start_with(&world, &old).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let legacy = "[[settings_policy]]\nname = \"old\"\nprotocol = \"ssh\"\n\
                  server_side = { legacy = true, rekey = \"off\" }\n";
    let policies = connection(&world, "modern", OPEN)
        + &connection_on(&world, "old", FIRST_PORT, &format!("{OPEN}settings = \"old\"\n"))
        + legacy
        + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let to = world.address(Host::Server, Family::V4);
    let sent = pattern(ECHO_BYTES);
    let call = |port: u16| {
        let call = user.ssh().args(&format!("-p {port}")).arg(format!("alice@{to}")).arg("cat");
        let call = call.input(&sent).unwrap().reply(sshd::ASKS, sshd::PASSWORD);
        call.run(LIMIT).unwrap()
    };

    let run = call(22);
    assert_eq!(run.code(), 255, "{}", run.stderr);
    let row = records.next().row;
    assert_eq!(row.outcome, "failed");
    assert!(row.reason.contains("no common key exchange method"), "{}", row.reason);

    let run = call(FIRST_PORT);
    assert_eq!(run.code(), 0, "{}", run.stderr);
    assert!(run.stdout == sent, "{} bytes came back", run.stdout.len());
    assert_eq!(records.next().row.outcome, "completed");
}

/// `ssh-audit` finds nothing that it calls a failure in what clients are offered by default.
#[test]
fn an_auditor_finds_nothing_to_fail_on() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let user = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let _proxyd = Proxyd::start(&world, settings).unwrap();
    let to = world.address(Host::Server, Family::V4);
    let audit = |options: &str| {
        user.call("ssh-audit").args(options).arg(to.to_string()).run(LIMIT).unwrap()
    };

    let run = audit("-n -l fail -p 22");
    assert!([GOOD, WARNINGS].contains(&run.code()), "{}\n{}", run.text(), run.stderr);
    assert!(!run.text().contains("[fail]"), "{}", run.text());

    let run = audit("-j -p 22");
    let report: Value = serde_json::from_slice(&run.stdout).unwrap();
    let names = |kind: &str| -> Vec<String> {
        let entries = report[kind].as_array().unwrap().iter();
        entries.map(|entry| entry["algorithm"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(
        names("kex"),
        [
            "mlkem768x25519-sha256",
            "curve25519-sha256",
            "curve25519-sha256@libssh.org",
            "diffie-hellman-group16-sha512",
            "diffie-hellman-group-exchange-sha256",
            "diffie-hellman-group14-sha256",
            "ext-info-s",
            "kex-strict-s-v00@openssh.com",
        ]
    );
    assert_eq!(names("key"), ["ssh-ed25519", "rsa-sha2-512", "rsa-sha2-256"]);
    let strings = |kind: &str| -> Vec<String> {
        let entries = report[kind].as_array().unwrap().iter();
        entries.map(|entry| entry.as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(strings("enc"), CIPHERS[..6]);
    assert_eq!(strings("mac"), MACS[..4]);
}

/// Exit statuses of ssh-audit: nothing found, and warnings alone.
const GOOD: i32 = 0;
const WARNINGS: i32 = 2;
