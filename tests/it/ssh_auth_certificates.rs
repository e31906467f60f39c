//! Certificates in all four places: users at the gateway, the gateway at servers, servers at the
//! gateway, and the gateway at clients.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::{Finished, output};
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, Closed, LIMIT, OPEN, Records, STAFF, connection_on, library};

/// The ports of the policies.
const USERS_PORT: u16 = 2701;
const ISSUE_PORT: u16 = 2702;
const HOSTS_PORT: u16 = 2703;

/// A CA, or a key to be certified: the file of its private half, and its public line.
type Key = (PathBuf, String);

/// Has `ca` certify a key, by ssh-keygen with these options.
fn certify(ca: &Key, key: &Key, options: &str) {
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-s"]).arg(&ca.0).args(options.split_whitespace());
    output(keygen.arg(key.0.with_extension("pub"))).unwrap();
}

/// The certificate beside a key.
fn certificate(key: &Path) -> String {
    format!("{}-cert.pub", key.display())
}

/// One connection as alice, and what is on record of it.
fn log_in(
    client: &Client<'_>,
    records: &mut Records,
    host: &str,
    options: &str,
) -> (Finished, Closed) {
    let call = client.ssh().args(options).args("-l alice").arg(host).arg("exit 3");
    let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
    (run, records.next())
}

/// A user's certificate counts as ssh-keygen made it, for its name, time and place; the gateway's
/// own one is what the server sees.
#[test]
fn of_users() {
    let world = World::router().unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let [ca, other, issuing] =
        ["ca", "other-ca", "issuing-ca"].map(|name| client.make_key(name, "ed25519").unwrap());
    std::fs::set_permissions(&issuing.0, Permissions::from_mode(0o600)).unwrap();
    let trusted = client.directory().join("trusted");
    std::fs::write(&trusted, &issuing.1).unwrap();
    let server =
        Sshd::start_with(&world, &format!("TrustedUserCAKeys {}\n", trusted.display())).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let lines = |name: &str| STAFF.replace("\"staff\"", &format!("\"{name}\""));
    let policies = [
        connection_on(&world, "users", USERS_PORT, &lines("users")),
        connection_on(&world, "issue", ISSUE_PORT, &lines("issue")),
        library(&auditor, &[]),
        POLICIES.replace("CA_LINE", &ca.1).replace("CA_FILE", &issuing.0.display().to_string()),
    ];
    let settings = Settings { policies: &policies.concat(), ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let host = world.address(Host::Server, Family::V4).to_string();
    let cases = [
        ("ed25519", &ca, "-I id -n alice -V -5m:+5m", true),
        ("rsa", &ca, "-I id -n bob,alice", true),
        ("ecdsa", &ca, "-I id -n alice -O source-address=10.77.1.0/24", true),
        ("ed25519", &other, "-I id -n alice", false),
        ("ed25519", &ca, "-I id -n bob", false),
        ("ed25519", &ca, "-I id", false),
        ("ed25519", &ca, "-I id -n alice -V -2d:-1d", false),
        ("ed25519", &ca, "-I id -n alice -V +1d:+2d", false),
        ("ed25519", &ca, "-I id -n alice -O source-address=10.77.9.0/24", false),
        ("ed25519", &ca, "-I id -n alice -O force-command=true", false),
        ("ed25519", &ca, "-I id -n alice -O critical:unknown@example.com=x", false),
        ("ed25519", &ca, "-I id -h -n alice", false),
    ];
    for (index, (kind, ca, options, is_good)) in cases.into_iter().enumerate() {
        let key = client.make_key(&format!("user-{index}"), kind).unwrap();
        certify(ca, &key, options);
        let with = format!(
            "-p {USERS_PORT} -i {} -o CertificateFile={} \
             -o PreferredAuthentications=publickey,keyboard-interactive",
            key.0.display(),
            certificate(&key.0)
        );
        let (run, closed) = log_in(&client, &mut records, &host, &with);
        let name = format!("{kind} {options}");
        assert_eq!(run.code(), if is_good { 3 } else { 255 }, "{name}: {}", run.stderr);
        let events = closed.events("gateway-authentication");
        let accepted = ["method=certificate user=alice verdict=accepted"];
        assert_eq!(events, if is_good { &accepted[..] } else { &[] }, "{name}");
    }
    // The same user goes on to a server that trusts the gateway's CA and asks for nothing else.
    let key = client.make_key("good", "ed25519").unwrap();
    certify(&ca, &key, "-I id -n alice");
    let with = format!(
        "-p {ISSUE_PORT} -i {} -o CertificateFile={}",
        key.0.display(),
        certificate(&key.0)
    );
    let (run, closed) = log_in(&client, &mut records, &host, &with);
    assert_eq!(run.code(), 3, "{}", run.stderr);
    assert_eq!(closed.events("server-login"), ["method=certificate verdict=accepted"]);
    let id = format!("ID {}", closed.row.id);
    server.logged(&["Accepted publickey for alice", "ED25519-CERT", &id]).unwrap();
}

/// A server is known by its certificate, and clients know the gateway by one.
#[test]
fn of_hosts() {
    let world = World::router().unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let [ca, shown] = ["ca", "shown-ca"].map(|name| client.make_key(name, "ed25519").unwrap());
    std::fs::set_permissions(&shown.0, Permissions::from_mode(0o600)).unwrap();
    let key = client.make_key("host", "ecdsa").unwrap();
    certify(&ca, &key, "-I host -h -n 10.77.2.3,db1.example.com");
    let show = format!("HostKey {}\nHostCertificate {}\n", key.0.display(), certificate(&key.0));
    let mut server = Sshd::start_with(&world, &show).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let lines = format!("settings = \"certified\"\n{OPEN}");
    let policies = [
        connection_on(&world, "hosts", HOSTS_PORT, &lines),
        library(&auditor, &[]),
        SETTINGS.replace("CA_LINE", &ca.1).replace("CA_FILE", &shown.0.display().to_string()),
    ];
    let settings = Settings { policies: &policies.concat(), ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let host = world.address(Host::Server, Family::V4).to_string();
    // The client believes the gateway's CA and nothing else.
    let known = client.directory().join("known");
    std::fs::write(&known, format!("@cert-authority * {}\n", shown.1)).unwrap();
    let strict = format!(
        "-p {HOSTS_PORT} -o StrictHostKeyChecking=yes -o UserKnownHostsFile={}",
        known.display()
    );
    let trust = |closed: &Closed| {
        closed.events("server-identity")[0].rsplit_once("trust=").unwrap().1.to_owned()
    };
    for (name, options) in [
        ("by address", strict.clone()),
        ("by name", format!("{strict} -o HostKeyAlias=db1.example.com")),
    ] {
        let (run, closed) = log_in(&client, &mut records, &host, &options);
        assert_eq!(run.code(), 3, "{name}: {}", run.stderr);
        assert_eq!(trust(&closed), "certified", "{name}");
    }
    let elsewhere = format!("{strict} -o HostKeyAlias=db2.example.com");
    let call = client.ssh().args(&elsewhere).args("-l alice").arg(&host).arg("exit 3");
    assert_eq!(call.run(LIMIT).unwrap().code(), 255, "a name that is not in the certificate");
    // A certificate for another host is refused, whatever keys are known.
    certify(&ca, &key, "-I host -h -n 10.77.2.4");
    server.change_host_key().unwrap();
    let (run, closed) = log_in(&client, &mut records, &host, &strict);
    assert_eq!((run.code(), closed.row.reason.as_str()), (255, "host-certificate-refused"));
    assert!(run.stderr.contains(":9: the certificate of the server's host key"), "{}", run.stderr);
    // One of a CA that nobody trusts is a plain key, and unknown under "known".
    certify(&shown, &key, "-I host -h -n 10.77.2.3");
    server.change_host_key().unwrap();
    let (run, closed) = log_in(&client, &mut records, &host, &strict);
    assert_eq!((run.code(), closed.row.reason.as_str()), (255, "host-key-unknown"));
}

const POLICIES: &str = r#"
[[authentication_policy]]
name = "users"
gateway = [{ method = "publickey", backend = "local" }]
trusted_user_cas = ["CA_LINE"]

[[authentication_policy]]
name = "issue"
gateway = [{ method = "publickey", backend = "local" }]
trusted_user_cas = ["CA_LINE"]
server = ["certificate"]
user_ca_key_file = "CA_FILE"
"#;

const SETTINGS: &str = r#"
[[settings_policy]]
name = "certified"
protocol = "ssh"
client_side = { host_ca_key_file = "CA_FILE", host_names = ["db1.example.com"] }
server_side = { host_key_check = "known", trusted_host_cas = ["CA_LINE"] }
"#;
