//! Who the user is to the gateway, who to the server, and which of the two asks what.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};

use crate::stage::{
    Auditor, GATEWAY_PASSWORD, LIMIT, OPEN, Records, STAFF, connection, connection_on, library,
};

/// The question of the gateway, within a keyboard-interactive attempt.
const GATEWAY_ASKS: &str = "Gateway password for ";
/// The question of the server, within a keyboard-interactive attempt.
const SERVER_ASKS: &str = ") Password:";
/// The question of the client itself, for a password attempt.
const CLIENT_ASKS: &str = "'s password:";

/// The port of each policy.
const OPEN_PORT: u16 = 22;
const STAFF_PORT: u16 = 2201;
const STORED_PORT: u16 = 2202;
const ONE_PASSWORD_PORT: u16 = 2203;

/// One login, and everything that can be known about it afterwards.
struct Case {
    name: &'static str,
    user: &'static str,
    host: Host,
    port: u16,
    options: &'static str,
    replies: &'static [(&'static str, &'static [&'static str])],
    code: i32,
    /// Words that the user reads.
    said: &'static str,
    /// Outcome and reason in the record.
    record: (&'static str, &'static str),
    /// Gateway user and remote user in the record.
    users: (&'static str, &'static str),
    /// The record's events about authentication at the gateway, and at the server.
    gateway: &'static [&'static str],
    server: &'static [&'static str],
    /// Words in one line of the server's log.
    logged: &'static str,
}

const PASSED: Case = Case {
    name: "",
    user: "alice",
    host: Host::Server,
    port: OPEN_PORT,
    options: "",
    replies: &[],
    code: 3,
    said: "",
    record: ("completed", ""),
    users: ("", "alice"),
    gateway: &[],
    server: &["method=password verdict=accepted"],
    logged: "",
};

/// The failing code of OpenSSH's client itself.
const REFUSED: Case = Case { code: 255, server: &[], logged: "", ..PASSED };

const CASES: &[Case] = &[
    Case {
        name: "nothing at the gateway, password relayed to the server",
        options: "-o PreferredAuthentications=password",
        replies: &[(CLIENT_ASKS, &[sshd::PASSWORD])],
        logged: "Accepted password for alice",
        ..PASSED
    },
    Case {
        name: "nothing at the gateway, the server's question relayed",
        options: "-o PreferredAuthentications=keyboard-interactive",
        replies: &[(SERVER_ASKS, &[sshd::PASSWORD])],
        server: &["method=keyboard-interactive verdict=accepted"],
        logged: "Accepted keyboard-interactive/pam for alice",
        ..PASSED
    },
    Case {
        name: "wrong password at the server, then the right one",
        options: "-o PreferredAuthentications=password",
        replies: &[(CLIENT_ASKS, &["wrong", sshd::PASSWORD])],
        server: &["method=password verdict=refused", "method=password verdict=accepted"],
        logged: "Accepted password for alice",
        ..PASSED
    },
    Case {
        name: "question of the gateway, then question of the server",
        port: STAFF_PORT,
        replies: &[(GATEWAY_ASKS, &[GATEWAY_PASSWORD]), (SERVER_ASKS, &[sshd::PASSWORD])],
        users: ("alice", "alice"),
        gateway: &["method=password user=alice verdict=accepted"],
        server: &["method=keyboard-interactive verdict=accepted"],
        logged: "Accepted keyboard-interactive/pam for alice",
        ..PASSED
    },
    Case {
        name: "password at the gateway, password at the server",
        port: STAFF_PORT,
        options: "-o PreferredAuthentications=password",
        replies: &[(CLIENT_ASKS, &[GATEWAY_PASSWORD, sshd::PASSWORD])],
        users: ("alice", "alice"),
        gateway: &["method=password user=alice verdict=accepted"],
        // The server is not shown the gateway's password.
        server: &["method=password verdict=accepted"],
        logged: "Accepted password for alice",
        ..PASSED
    },
    Case {
        name: "wrong password at the gateway, then the right one",
        port: STAFF_PORT,
        replies: &[(GATEWAY_ASKS, &["wrong", GATEWAY_PASSWORD]), (SERVER_ASKS, &[sshd::PASSWORD])],
        users: ("alice", "alice"),
        gateway: &[
            "method=password user=alice verdict=refused",
            "method=password user=alice verdict=accepted",
        ],
        server: &["method=keyboard-interactive verdict=accepted"],
        logged: "Accepted keyboard-interactive/pam for alice",
        ..PASSED
    },
    Case {
        name: "one password for both is asked for once, where the policy says so",
        user: "bob",
        port: ONE_PASSWORD_PORT,
        replies: &[("Gateway password for bob", &[sshd::PASSWORD])],
        users: ("bob", "bob"),
        gateway: &["method=password user=bob verdict=accepted"],
        logged: "Accepted password for bob",
        ..PASSED
    },
    Case {
        name: "key at the gateway, password at the server",
        port: STAFF_PORT,
        options: "-i KEY -o PreferredAuthentications=publickey,password",
        replies: &[(CLIENT_ASKS, &[sshd::PASSWORD])],
        users: ("alice", "alice"),
        gateway: &["method=publickey user=alice verdict=accepted"],
        logged: "Accepted password for alice",
        ..PASSED
    },
    Case {
        name: "one name at the gateway, another at the server, by a mapping",
        user: "gu=alice@app1",
        port: STAFF_PORT,
        replies: &[
            ("Gateway password for alice", &[GATEWAY_PASSWORD]),
            (SERVER_ASKS, &[sshd::PASSWORD]),
        ],
        users: ("alice", "app1"),
        gateway: &["method=password user=alice verdict=accepted"],
        server: &["method=keyboard-interactive verdict=accepted"],
        logged: "Accepted keyboard-interactive/pam for app1",
        ..PASSED
    },
    Case {
        name: "a stored key logs in where the user knows no password",
        user: "gu=alice%app1",
        port: STORED_PORT,
        replies: &[(GATEWAY_ASKS, &[GATEWAY_PASSWORD])],
        users: ("alice", "app1"),
        gateway: &["method=password user=alice verdict=accepted"],
        server: &["method=publickey verdict=accepted"],
        logged: "Accepted publickey for app1",
        ..PASSED
    },
    Case {
        name: "the user names the server",
        user: "alice@10.77.2.3",
        host: Host::GatewayForClient,
        options: "-o PreferredAuthentications=password",
        replies: &[(CLIENT_ASKS, &[sshd::PASSWORD])],
        logged: "Accepted password for alice",
        ..PASSED
    },
    Case {
        name: "a mapping that does not hold for this user's groups",
        user: "gu=bob@app1",
        port: STAFF_PORT,
        replies: &[(GATEWAY_ASKS, &[sshd::PASSWORD])],
        said: "you may not log in to the server as this user",
        record: ("denied", "user-not-mapped"),
        users: ("bob", ""),
        gateway: &["method=password user=bob verdict=accepted"],
        ..REFUSED
    },
    Case {
        name: "wrong password at the gateway",
        port: STAFF_PORT,
        options: "-o NumberOfPasswordPrompts=6",
        replies: &[(GATEWAY_ASKS, &["wrong"])],
        said: "too many failed authentication attempts",
        record: ("denied", "too-many-attempts"),
        users: ("", ""),
        gateway: &["method=password user=alice verdict=refused"; 6],
        ..REFUSED
    },
    Case {
        name: "a user whom the gateway does not know",
        user: "gu=mallory@alice",
        port: STAFF_PORT,
        options: "-o NumberOfPasswordPrompts=6",
        replies: &[(GATEWAY_ASKS, &[GATEWAY_PASSWORD])],
        said: "too many failed authentication attempts",
        record: ("denied", "too-many-attempts"),
        users: ("", ""),
        gateway: &["method=password user=mallory verdict=refused"; 6],
        ..REFUSED
    },
    Case {
        name: "a key that the gateway does not know",
        port: STAFF_PORT,
        options: "-i OTHER -o PreferredAuthentications=publickey",
        said: "Permission denied (publickey,keyboard-interactive,password)",
        record: ("denied", "gateway-authentication-failed"),
        users: ("", ""),
        ..REFUSED
    },
    Case {
        name: "wrong password at the server",
        options: "-o PreferredAuthentications=password -o NumberOfPasswordPrompts=1",
        replies: &[(CLIENT_ASKS, &["wrong"])],
        said: "Permission denied",
        record: ("denied", "server-authentication-failed"),
        server: &["method=password verdict=refused"],
        logged: "Failed password for alice",
        ..REFUSED
    },
    Case {
        name: "a user whom the server does not know",
        user: "nobody2",
        options: "-o PreferredAuthentications=password -o NumberOfPasswordPrompts=1",
        replies: &[(CLIENT_ASKS, &[sshd::PASSWORD])],
        said: "Permission denied",
        record: ("denied", "server-authentication-failed"),
        users: ("", "nobody2"),
        server: &["method=password verdict=refused"],
        logged: "Failed password for invalid user nobody2",
        ..REFUSED
    },
    Case {
        name: "a server that users may not name",
        user: "alice@10.77.2.4",
        host: Host::GatewayForClient,
        said: "the requested target server is not allowed",
        record: ("denied", "target-not-allowed"),
        users: ("", ""),
        ..REFUSED
    },
    Case {
        name: "no server named where users have to name one",
        user: "alice",
        host: Host::GatewayForClient,
        said: "no target server was named",
        record: ("denied", "no-target"),
        users: ("", ""),
        ..REFUSED
    },
    Case {
        name: "a user name that nobody can understand",
        user: "gu=@alice",
        port: STAFF_PORT,
        said: "the user name cannot be understood",
        record: ("denied", "user-name-invalid"),
        users: ("", ""),
        ..REFUSED
    },
];

#[test]
fn logins() {
    let world = World::router().unwrap();
    let server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let (key, public) = client.make_key("known", "ed25519").unwrap();
    let (other, _unknown) = client.make_key("unknown", "ed25519").unwrap();
    let (stored, stored_public) = client.make_key("stored", "ed25519").unwrap();
    std::fs::set_permissions(&stored, Permissions::from_mode(0o600)).unwrap();
    server.authorize("app1", &stored_public).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let one_password = STAFF.replace("\"staff\"", "\"one-password\"");
    let policies = [
        connection(&world, "open", OPEN),
        connection_on(&world, "staff", STAFF_PORT, STAFF),
        connection_on(&world, "stored", STORED_PORT, STORED),
        connection_on(&world, "one-password", ONE_PASSWORD_PORT, &one_password),
        INBAND.replace("LINES", OPEN),
        library(&auditor, &[&public]),
        STORE.replace("FILE", &stored.display().to_string()),
    ];
    let settings = Settings { policies: &policies.concat(), ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    for case in CASES {
        let host = world.address(case.host, Family::V4);
        let options = case.options.replace("KEY", &key.display().to_string());
        let options = options.replace("OTHER", &other.display().to_string());
        let mut call = client.ssh().args(&options).args(&format!("-p {}", case.port));
        call = call.arg("-l").arg(case.user).arg(host.to_string()).arg("exit 3");
        for (prompt, answers) in case.replies {
            call = call.replies(prompt, answers);
        }
        let run = call.run(LIMIT).unwrap();
        let name = case.name;
        assert_eq!(run.code(), case.code, "{name}: {}", run.stderr);
        assert!(run.stderr.contains(case.said), "{name}: {}", run.stderr);
        let closed = records.next();
        let row = &closed.row;
        assert_eq!((row.outcome.as_str(), row.reason.as_str()), case.record, "{name}");
        assert_eq!((row.gateway_user.as_str(), row.remote_user.as_str()), case.users, "{name}");
        assert_eq!(closed.events("gateway-authentication"), case.gateway, "{name}");
        assert_eq!(closed.events("server-login"), case.server, "{name}");
        if !case.logged.is_empty() {
            let port = row.client.rsplit(':').next().unwrap();
            server.logged(&[case.logged, &format!("port {port} ")]).expect(name);
        }
    }
}

/// Gateway authentication, then the credential store alone.
const STORED: &str = "
authentication = \"stored\"
usermapping = \"admins\"
credential_store = \"vault\"
channels = \"all\"
audit = \"sealed\"
";

const STORE: &str = r#"
[[authentication_policy]]
name = "stored"
gateway = [{ method = "password", backend = "local" }]
server = ["publickey"]

[[authentication_policy]]
name = "one-password"
gateway = [{ method = "password", backend = "local" }]
server = ["password", "keyboard-interactive"]

[[credential_store]]
name = "vault"
kind = "local"
[[credential_store.entry]]
host = "10.77.2.3"
user = "app1"
key_file = "FILE"
"#;

/// Users connect to the gateway and name the server.
const INBAND: &str = r#"
[[connection_policy]]
name = "by-name"
protocol = "ssh"
from = ["10.77.1.2/32"]
to = ["10.77.1.1/32"]
ports = ["22"]
target = { mode = "inband", allowed = ["10.77.2.3:22"] }
LINES
"#;
