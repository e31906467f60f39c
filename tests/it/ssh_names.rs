//! What users may write in the user name field, and what they are asked where it says too little.

use std::process::Command;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::output;
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, GATEWAY_PASSWORD, LIMIT, OPEN, Records, STAFF, library};

/// The questions of the gateway.
const GATEWAY_ASKS: &str = "Gateway password for alice";
const SERVER: &str = ") Server: ";
const USER: &str = ") User name: ";
/// The question of the client itself, for a password attempt.
const CLIENT_ASKS: &str = "'s password:";

/// The ports of the two policies: nothing asked at the gateway, and a gateway password.
const OPEN_PORT: &str = "22";
const STAFF_PORT: &str = "2201";

/// One user name, and what becomes of it.
struct Case {
    name: &'static str,
    user: &'static str,
    port: &'static str,
    options: &'static str,
    replies: &'static [(&'static str, &'static [&'static str])],
    code: i32,
    said: &'static str,
    /// The reason in the record; empty where the session was completed.
    reason: &'static str,
    /// Gateway user and remote user in the record.
    users: (&'static str, &'static str),
    target: &'static str,
}

const PASSED: Case = Case {
    name: "",
    user: "",
    port: OPEN_PORT,
    options: "-o PreferredAuthentications=password",
    replies: &[(CLIENT_ASKS, &[sshd::PASSWORD])],
    code: 3,
    said: "",
    reason: "",
    users: ("", "alice"),
    target: "10.77.2.3:22",
};

const DENIED: Case = Case { code: 255, users: ("", ""), target: "", ..PASSED };

const CASES: &[Case] = &[
    Case { name: "at and colon", user: "alice@10.77.2.3:22", ..PASSED },
    Case { name: "percent and plus", user: "alice%10.77.2.3+22", ..PASSED },
    Case { name: "percent and slash", user: "alice%10.77.2.3/22", ..PASSED },
    Case { name: "pairs that nobody reads", user: "otp=1@ticket=a=b@alice@10.77.2.3", ..PASSED },
    Case { name: "IPv6", user: "alice@[fd77:2::3]:22", target: "[fd77:2::3]:22", ..PASSED },
    Case {
        name: "IPv6 on a link",
        user: "alice%[fe80::77%SERVER_LINK]",
        target: "[fe80::77%INDEX]:22",
        ..PASSED
    },
    Case {
        name: "a name of the hosts file",
        user: "alice@localhost",
        reason: "target-address-refused",
        ..DENIED
    },
    Case {
        name: "loopback in disguise",
        user: "alice@127.1",
        reason: "user-name-invalid",
        ..DENIED
    },
    Case {
        name: "loopback as a number",
        user: "alice@2130706433",
        reason: "user-name-invalid",
        ..DENIED
    },
    Case {
        name: "the gateway itself",
        user: "alice@10.77.1.1",
        reason: "target-address-refused",
        ..DENIED
    },
    Case {
        name: "its other side",
        user: "alice@10.77.2.1",
        reason: "target-address-refused",
        ..DENIED
    },
    Case {
        name: "mapped",
        user: "alice@[::ffff:10.77.2.3]",
        reason: "user-name-invalid",
        ..DENIED
    },
    Case {
        name: "loopback on a link",
        user: "alice@[::1%lo]",
        reason: "target-address-refused",
        ..DENIED
    },
    Case {
        name: "a link that is not there",
        user: "alice@[fe80::77%nolink]",
        reason: "target-not-resolved",
        ..DENIED
    },
    Case { name: "an exception", user: "alice@10.77.2.4", reason: "target-not-allowed", ..DENIED },
    Case {
        name: "a port that is not allowed",
        user: "alice@10.77.2.3:23",
        reason: "target-not-allowed",
        ..DENIED
    },
    Case { name: "port 0", user: "alice@10.77.2.3:0", reason: "user-name-invalid", ..DENIED },
    Case {
        name: "port 65536",
        user: "alice@10.77.2.3:65536",
        reason: "user-name-invalid",
        ..DENIED
    },
    Case { name: "two gateway users", user: "gu=a@gu=b@", reason: "user-name-invalid", ..DENIED },
    Case { name: "nothing but separators", user: "@@@", reason: "user-name-invalid", ..DENIED },
    Case {
        name: "a password in the name",
        user: "gu=alice@gp=hunter2@alice@10.77.2.3",
        said: "the user name cannot be understood",
        reason: "user-name-invalid",
        ..DENIED
    },
    Case {
        name: "the server is asked for",
        user: "alice",
        options: "",
        replies: &[(SERVER, &["10.77.2.3"]), (") Password:", &[sshd::PASSWORD])],
        ..PASSED
    },
    Case {
        name: "two wrong answers, then the right one",
        user: "alice",
        options: "",
        replies: &[
            (SERVER, &["10.77.2.4", "a b", "10.77.2.3:22"]),
            (") Password:", &[sshd::PASSWORD]),
        ],
        said: "the requested target server is not allowed",
        ..PASSED
    },
    Case {
        name: "three wrong answers",
        user: "alice",
        options: "",
        replies: &[(SERVER, &["", "10.77.2.4", "127.0.0.1", "10.77.2.3"])],
        said: "proxyd: the address of the target server cannot be used",
        reason: "target-address-refused",
        ..DENIED
    },
    Case { name: "a client that cannot be asked", user: "alice", reason: "no-target", ..DENIED },
    Case {
        name: "the user is asked for",
        user: "@10.77.2.3",
        options: "",
        replies: &[(USER, &["", "alice"]), (") Password:", &[sshd::PASSWORD])],
        ..PASSED
    },
    Case {
        name: "both are asked for, beside the gateway's own question",
        user: "gu=alice",
        port: STAFF_PORT,
        options: "",
        replies: &[
            (GATEWAY_ASKS, &[GATEWAY_PASSWORD]),
            (SERVER, &["10.77.2.3"]),
            (USER, &["app1"]),
            (") Password:", &[sshd::PASSWORD]),
        ],
        users: ("alice", "app1"),
        ..PASSED
    },
    Case {
        name: "the name that is asked for is the gateway's too",
        user: "@10.77.2.3",
        port: STAFF_PORT,
        options: "-o PreferredAuthentications=keyboard-interactive",
        replies: &[
            (USER, &["alice"]),
            (GATEWAY_ASKS, &[GATEWAY_PASSWORD]),
            (") Password:", &[sshd::PASSWORD]),
        ],
        users: ("alice", "alice"),
        ..PASSED
    },
    Case {
        name: "the server is asked for after a key",
        user: "alice",
        port: STAFF_PORT,
        options: "-i KEY",
        replies: &[(SERVER, &["10.77.2.3"]), (") Password:", &[sshd::PASSWORD])],
        users: ("alice", "alice"),
        ..PASSED
    },
    Case {
        name: "the server is asked for after a password",
        user: "alice",
        port: STAFF_PORT,
        options: "-o PreferredAuthentications=password,keyboard-interactive",
        replies: &[(CLIENT_ASKS, &[GATEWAY_PASSWORD, sshd::PASSWORD]), (SERVER, &["10.77.2.3"])],
        users: ("alice", "alice"),
        ..PASSED
    },
];

#[test]
fn user_names() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let (key, public) = client.make_key("known", "ed25519").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let (link, index) = link_to_server(&world);
    let policies = [
        INBAND.replace("PORT", OPEN_PORT).replace("LINES", OPEN),
        INBAND.replace("PORT", STAFF_PORT).replace("LINES", STAFF).replace("by-name", "staff"),
        library(&auditor, &[&public]),
    ];
    let settings = Settings { policies: &policies.concat(), ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let host = world.address(Host::GatewayForClient, Family::V4);
    for case in CASES {
        let name = case.name;
        let options = case.options.replace("KEY", &key.display().to_string());
        let mut call = client.ssh().args("-p").arg(case.port).args(&options);
        call = call.arg("-l").arg(case.user.replace("SERVER_LINK", &link));
        call = call.arg(host.to_string()).arg("exit 3");
        for (prompt, answers) in case.replies {
            call = call.replies(prompt, answers);
        }
        let run = call.run(LIMIT).unwrap();
        assert_eq!(run.code(), case.code, "{name}: {}", run.stderr);
        assert!(run.stderr.contains(case.said), "{name}: {}", run.stderr);
        let row = records.next().row;
        assert_eq!(row.reason, case.reason, "{name}");
        assert_eq!((row.gateway_user.as_str(), row.remote_user.as_str()), case.users, "{name}");
        assert_eq!(row.target, case.target.replace("INDEX", &index), "{name}");
    }
    let log = proxyd.log().unwrap();
    assert!(!log.contains("hunter2"), "a password from a user name was logged");
}

/// Gives the server a link-local address of its own; the gateway's interface towards it, and its
/// number.
fn link_to_server(world: &World) -> (String, String) {
    let run = |command: &mut Command| output(command).unwrap();
    let address = world.address(Host::Server, Family::V4).to_string();
    let there = run(world.server.command("ip").args(["-o", "-4", "addr", "show", "to", &address]));
    let there = there.split_whitespace().nth(1).unwrap().to_owned();
    run(world.server.command("ip").args(["addr", "add", "fe80::77/64", "dev", &there, "nodad"]));
    let route = run(world.gateway.command("ip").args(["-o", "route", "get", &address]));
    let link = route.split(" dev ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
    let shown = run(world.gateway.command("ip").args(["-o", "link", "show", &link]));
    (link, shown.split(':').next().unwrap().to_owned())
}

/// Users connect to the gateway and name the server; its own addresses and loopback are in the
/// list of what is allowed, and refused all the same.
const INBAND: &str = r#"
[[connection_policy]]
name = "by-name"
protocol = "ssh"
from = ["10.77.1.2/32"]
to = ["10.77.1.1/32"]
ports = ["PORT"]
source = "gateway"
LINES
[connection_policy.target]
mode = "inband"
allowed = ["10.77.0.0/16", "127.0.0.0/8", "::1", "fd77:2::/64", "fe80::/10", "localhost"]
exceptions = ["10.77.2.4"]
reserved_addresses = ["fe80::77/128"]
"#;
