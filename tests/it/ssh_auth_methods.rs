//! Several proofs at the gateway, several at the server, and clients that know one method only.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::Stopwatch;
use e2e::world::{Family, Host, World};

use crate::stage::{
    Auditor, GATEWAY_PASSWORD, LIMIT, OPEN, Records, STAFF, connection_on, library,
};

/// The questions of the gateway, of the server, and of the client itself for a password attempt.
const GATEWAY_ASKS: &str = "Gateway password for ";
const SERVER_ASKS: &str = ") Password:";
const CLIENT_ASKS: &str = "'s password:";

/// The ports of the server: it takes anything, or asks only, or wants a key and then a password.
const SERVER_PORTS: [u16; 3] = [22, 2222, 2223];

/// What the server says to each of them.
const SERVER: &str = "\
Port 2223
Match LocalPort 2222
    PasswordAuthentication no
Match LocalPort 2223
    AuthenticationMethods publickey,keyboard-interactive publickey,password
";

/// The ports of the policies: each asks something at the gateway and leads to a server's port.
const BOTH_PORT: u16 = 2401;
const ASKING_PORT: u16 = 2402;
const TWICE_PORT: u16 = 2403;
const ONCE_PORT: u16 = 2404;

/// The password that replaces the one that has expired.
const NEW_PASSWORD: &str = "Other-Pass-22";

/// One login, and what is known about it afterwards.
struct Case {
    name: &'static str,
    program: &'static str,
    user: &'static str,
    port: u16,
    options: &'static str,
    replies: &'static [(&'static str, &'static [&'static str])],
    code: i32,
    reason: &'static str,
    gateway: &'static [&'static str],
    server: &'static [&'static str],
}

const BOTH: Case = Case {
    name: "",
    program: "ssh",
    user: "alice",
    port: BOTH_PORT,
    options: "",
    replies: &[],
    code: 3,
    reason: "",
    gateway: &[KEY_RIGHT, PASSWORD_RIGHT],
    server: &["method=keyboard-interactive verdict=accepted"],
};

const ASKING: Case = Case { port: ASKING_PORT, gateway: &[], ..BOTH };

const KEY_RIGHT: &str = "method=publickey user=alice verdict=accepted";
const PASSWORD_RIGHT: &str = "method=password user=alice verdict=accepted";
const PASSWORD_WRONG: &str = "method=password user=alice verdict=refused";

const CASES: &[Case] = &[
    Case {
        name: "key, then the gateway's question, then the server's",
        options: "-i KEY",
        replies: &[(GATEWAY_ASKS, &[GATEWAY_PASSWORD]), (SERVER_ASKS, &[sshd::PASSWORD])],
        ..BOTH
    },
    Case {
        name: "password, then key",
        options: "-i KEY -o PreferredAuthentications=password,publickey,keyboard-interactive",
        replies: &[(CLIENT_ASKS, &["wrong", GATEWAY_PASSWORD, sshd::PASSWORD])],
        gateway: &[PASSWORD_WRONG, PASSWORD_RIGHT, KEY_RIGHT],
        server: &["method=password verdict=accepted"],
        ..BOTH
    },
    Case {
        name: "a key alone is not enough",
        options: "-i KEY -o PreferredAuthentications=publickey",
        code: 255,
        reason: "gateway-authentication-failed",
        gateway: &[KEY_RIGHT],
        server: &[],
        ..BOTH
    },
    Case {
        name: "a password alone is not enough, however often it is right",
        options: "-o PreferredAuthentications=keyboard-interactive,password",
        replies: &[(GATEWAY_ASKS, &[GATEWAY_PASSWORD]), (CLIENT_ASKS, &[GATEWAY_PASSWORD])],
        code: 255,
        reason: "gateway-authentication-failed",
        gateway: &[PASSWORD_RIGHT],
        server: &[],
        ..BOTH
    },
    Case {
        name: "an unknown key, and the right password",
        options: "-i OTHER -o NumberOfPasswordPrompts=1",
        replies: &[(GATEWAY_ASKS, &[GATEWAY_PASSWORD])],
        code: 255,
        reason: "gateway-authentication-failed",
        gateway: &[PASSWORD_RIGHT],
        server: &[],
        ..BOTH
    },
    Case {
        name: "a password answers a server that only asks",
        options: "-o PreferredAuthentications=password",
        replies: &[(CLIENT_ASKS, &["wrong", sshd::PASSWORD])],
        server: &[
            "method=keyboard-interactive verdict=refused",
            "method=keyboard-interactive verdict=accepted",
        ],
        ..ASKING
    },
    Case { name: "and that of plink", program: "plink", options: "-batch -pw PASSWORD", ..ASKING },
    Case { name: "and that of dbclient", program: "dbclient", options: "-y -y", ..ASKING },
    Case {
        name: "the gateway's password, where it is the server's too and the server only asks",
        user: "bob",
        port: ONCE_PORT,
        replies: &[("Gateway password for bob", &[sshd::PASSWORD])],
        gateway: &["method=password user=bob verdict=accepted"],
        ..ASKING
    },
    Case {
        name: "a password that has expired is changed in the server's questions",
        user: sshd::EXPIRED_USER,
        replies: &[
            ("Current password:", &[sshd::PASSWORD]),
            ("New password:", &[NEW_PASSWORD]),
            ("Retype new password:", &[NEW_PASSWORD]),
            (SERVER_ASKS, &[sshd::PASSWORD]),
        ],
        ..ASKING
    },
    Case {
        name: "and is the password from then on",
        user: sshd::EXPIRED_USER,
        options: "-o PreferredAuthentications=password",
        replies: &[(CLIENT_ASKS, &[NEW_PASSWORD])],
        ..ASKING
    },
    Case {
        name: "a stored key, then what the user knows",
        port: TWICE_PORT,
        replies: &[(GATEWAY_ASKS, &[GATEWAY_PASSWORD]), (SERVER_ASKS, &[sshd::PASSWORD])],
        gateway: &[PASSWORD_RIGHT],
        server: &[
            "method=publickey verdict=accepted",
            "method=keyboard-interactive verdict=accepted",
        ],
        ..BOTH
    },
];

#[test]
fn methods() {
    let world = World::router().unwrap();
    let server = Sshd::start_with(&world, SERVER).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let (key, public) = client.make_key("known", "ed25519").unwrap();
    let (other, _unknown) = client.make_key("unknown", "ed25519").unwrap();
    let (stored, stored_public) = client.make_key("stored", "ed25519").unwrap();
    std::fs::set_permissions(&stored, Permissions::from_mode(0o600)).unwrap();
    server.authorize("alice", &stored_public).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policy = |name: &str, port, to: u16, lines: &str| {
        let lines = lines.replace("\"staff\"", &format!("\"{name}\""));
        connection_on(&world, name, port, &lines).replace("port = 22 }", &format!("port = {to} }}"))
    };
    let with_store = format!("{STAFF}credential_store = \"vault\"\n");
    let [any, asking, twice] = SERVER_PORTS;
    let policies = [
        policy("both", BOTH_PORT, any, STAFF),
        policy("asking", ASKING_PORT, asking, OPEN),
        policy("once", ONCE_PORT, asking, STAFF),
        policy("twice", TWICE_PORT, twice, &with_store),
        library(&auditor, &[&public]),
        POLICIES.replace("FILE", &stored.display().to_string()),
    ];
    let settings = Settings { policies: &policies.concat(), ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let host = world.address(Host::Server, Family::V4).to_string();
    for case in CASES {
        let options = case.options.replace("KEY", &key.display().to_string());
        let options = options.replace("OTHER", &other.display().to_string());
        let options = options.replace("PASSWORD", sshd::PASSWORD);
        let call = client.call(case.program).args(&options);
        let run = reach(&client, call, case, &host).run(LIMIT).unwrap();
        let name = case.name;
        assert_eq!(run.code(), case.code, "{name}: {}", run.stderr);
        let closed = records.next();
        assert_eq!(closed.row.reason, case.reason, "{name}");
        assert_eq!(closed.events("gateway-authentication"), case.gateway, "{name}");
        assert_eq!(closed.events("server-login"), case.server, "{name}");
    }
}

/// The rest of a command line, which every program words in its own way.
fn reach<'c>(client: &Client<'_>, call: Call<'c>, case: &Case, host: &str) -> Call<'c> {
    let port = case.port.to_string();
    let call = match case.program {
        "plink" => {
            let known = fingerprint(client, &format!("[{host}]:{port}"));
            call.arg("-hostkey").arg(known).arg("-P").arg(port)
        }
        "dbclient" => call.arg("-p").arg(port).env("DROPBEAR_PASSWORD", sshd::PASSWORD),
        _ => call.arg("-p").arg(port),
    };
    let call = call.arg("-l").arg(case.user).arg(host).arg("exit 3");
    case.replies.iter().fold(call, |call, (prompt, answers)| call.replies(prompt, answers))
}

/// The fingerprint of a host key that OpenSSH has met before.
fn fingerprint(client: &Client<'_>, host: &str) -> String {
    let file = client.directory().join("met");
    std::fs::write(&file, client.known_hosts().unwrap()).unwrap();
    let mut keygen = Command::new("ssh-keygen");
    let found = output(keygen.args(["-l", "-F", host, "-f"]).arg(&file)).unwrap();
    found.split_whitespace().find(|word| word.starts_with("SHA256:")).unwrap().to_owned()
}

/// Who guesses gets slower answers, on every connection; the user at another place does not.
#[test]
fn guessing_is_slowed() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let lines = format!("source = \"gateway\"\n{STAFF}");
    let policies = connection_on(&world, "staff", BOTH_PORT, &lines) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let attempt = |family, password: &str| {
        let host = world.address(Host::Server, family).to_string();
        let options = format!("-p {BOTH_PORT} -o NumberOfPasswordPrompts=6 -l alice");
        let call = client.ssh().args(&options).arg(host).arg("exit 3");
        let call = call.reply(GATEWAY_ASKS, password).reply(SERVER_ASKS, sshd::PASSWORD);
        let clock = Stopwatch::start();
        let run = call.run(LIMIT).unwrap();
        (run.code(), clock.elapsed().as_millis())
    };
    let (code, _at_first) = attempt(Family::V4, "wrong");
    assert_eq!((code, records.next().row.reason.as_str()), (255, "too-many-attempts"));
    let (code, later) = attempt(Family::V4, "wrong");
    assert_eq!((code, records.next().row.reason.as_str()), (255, "too-many-attempts"));
    // The last three of these twelve attempts wait: 250 + 500 + 1000 ms.
    assert!(later >= 1_750, "{later} ms");
    // The right password goes in from the same place, after the wait.
    let (code, _waited) = attempt(Family::V4, GATEWAY_PASSWORD);
    assert_eq!(code, 3);
    assert_eq!(records.next().row.reason, "");
    // From another it does not wait.
    let (code, elsewhere) = attempt(Family::V6, GATEWAY_PASSWORD);
    assert_eq!(code, 3);
    assert!(elsewhere < 3_000, "{elsewhere} ms");
}

const POLICIES: &str = r#"
[[authentication_policy]]
name = "both"
gateway = [{ method = "password", backend = "local" }, { method = "publickey", backend = "local" }]
gateway_require = "all"

[[authentication_policy]]
name = "asking"
gateway = "none"

[[authentication_policy]]
name = "once"
gateway = [{ method = "password", backend = "local" }]
server = ["password", "keyboard-interactive"]

[[authentication_policy]]
name = "twice"
gateway = [{ method = "password", backend = "local" }]
server = ["publickey", "keyboard-interactive", "password"]

[[credential_store]]
name = "vault"
kind = "local"
[[credential_store.entry]]
host = "10.77.2.3"
user = "alice"
key_file = "FILE"
"#;
