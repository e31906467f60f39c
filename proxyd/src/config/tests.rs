//! Whole files: what is accepted, and that every problem of a file is reported with its place.

use std::path::Path;

use proxyd_policy::connection::{OnProxyDown, OnReload};
use proxyd_policy::gateway::GatewayAuthentication;
use proxyd_policy::settings::{HostKeyCheck, Rekey};
use proxyd_policy::time::Weekday;

use super::report::{Problem, Report};
use super::{Config, Database, SteeringMode, check, control_socket, load, local_time};

/// A file that uses every kind of section, without problems.
const GOOD: &str = r#"
[steering]
mode = "router"
client_interfaces = ["lan0"]
server_interfaces = ["wan0"]
on_proxy_down = "reset"

[limits]
idle_timeout_s = 600
takeover_drain_timeout_s = 86400

[storage]
spool = "spool"

[[connection_policy]]
name = "linux-admins"
protocol = "ssh"
from = ["10.1.0.0/16", "fd00:1::/48"]
to = ["10.2.0.0/16"]
ports = ["22", "2200-2299"]
target = { mode = "original" }
source = { mode = "client" }
settings = "ssh-modern"
authentication = "staff"
usermapping = "admins"
channels = "shell-and-files"
audit = "sealed"

[[connection_policy]]
name = "by-name"
protocol = "ssh"
from = ["0.0.0.0/0"]
to = ["10.1.0.1"]
ports = ["22"]
target = { mode = "inband", allowed = ["*.example.com:22"], dns_suffixes = ["example.com"] }
source = "gateway"
authentication = "staff"
channels = "shell-and-files"
audit = "sealed"
on_proxy_down = "forward"
on_reload = "terminate"

[[settings_policy]]
name = "ssh-modern"
protocol = "ssh"
banner = "Authorised \"users\" only.\nSecond line."
version = "SSH-2.0-gateway"
client_side = { kex = ["curve25519-sha256"], host_keys = ["ed25519"] }
server_side = { host_key_check = "known" }

[[authentication_policy]]
name = "staff"
gateway = [{ method = "publickey", backend = "local" }, { method = "password", backend = "local" }]
server = ["keyboard-interactive", "password"]

[[user]]
name = "alice"
password_hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA"
groups = ["admins"]

[[usermapping_policy]]
name = "admins"
rules = [{ remote_user = "root", groups = ["admins"] }, { remote_user = "app*", groups = ["*"] }]

[[channel_policy]]
name = "shell-and-files"
[[channel_policy.rule]]
type = "session-shell"
gateway_groups = ["admins"]
time = "office-hours"
[[channel_policy.rule]]
type = "session-sftp"
files = "drop-box"
targets = ["10.2.0.0/16"]

[[file_policy]]
name = "drop-box"
[[file_policy.rule]]
operations = ["read", "write"]
paths = ["**/.ssh/**"]
action = "refuse"
[[file_policy.rule]]
operations = ["write", "mkdir"]
paths = ["/srv/in/**", "incoming/*"]
max_bytes = 8_000_000_000
action = "allow"
[[file_policy.rule]]
operations = ["list", "stat"]
action = "allow"

[[time_policy]]
name = "office-hours"
zone = "Europe/Budapest"
monday = ["08:00-18:00"]
friday = ["08:00-12:00", "20:00-24:00"]

[[audit_policy]]
name = "sealed"
recipients = [["RECIPIENT"]]
"#;

/// The good file with a fresh recipient.
fn good() -> String {
    let recipient = age::x25519::Identity::generate().to_public().to_string();
    GOOD.replace("RECIPIENT", &recipient)
}

fn accepted(source: &str) -> Config {
    match check(Path::new("/etc/proxyd/proxyd.toml"), source.to_owned()) {
        Ok(config) => config,
        Err(report) => panic!("refused:\n{report}"),
    }
}

fn refused(source: &str) -> Report {
    match check(Path::new("proxyd.toml"), source.to_owned()) {
        Ok(config) => panic!("accepted:\n{}", config.effective),
        Err(report) => report,
    }
}

/// "line:column key: message" of each problem.
fn lines(report: &Report) -> Vec<String> {
    let line = |problem: &Problem| {
        let (line, column) = report.position(problem).unwrap_or_default();
        format!("{line}:{column} {}: {}", problem.key, problem.message)
    };
    report.problems().iter().map(line).collect()
}

#[test]
fn a_whole_file() {
    let config = accepted(&good());
    assert_eq!(lines(&config.warnings), Vec::<String>::new());
    let SteeringMode::Router { client_interfaces, .. } = &config.steering.mode else {
        panic!("{:?}", config.steering.mode);
    };
    assert_eq!(client_interfaces, &["lan0"]);
    assert_eq!(config.limits.idle_timeout.map(|limit| limit.as_secs()), Some(600));
    let takeover = config.limits.takeover_drain_timeout;
    assert_eq!(takeover.map(|limit| limit.as_secs()), Some(86_400));
    assert_eq!(
        accepted("[steering]\nclient_interfaces = [\"x\"]").limits.takeover_drain_timeout,
        None
    );
    assert_eq!(config.limits.sessions, 20_000);
    assert_eq!(config.storage.spool, Path::new("/etc/proxyd/spool"));
    assert_eq!(config.storage.database, Database::Sqlite("/var/lib/proxyd/proxyd.db".into()));
    let [admins, by_name] = config.policy.connection_policies.as_slice() else {
        panic!("{:?}", config.policy);
    };
    assert_eq!(admins.on_proxy_down, OnProxyDown::Reset);
    assert_eq!(admins.settings.server_side.host_key_check, HostKeyCheck::Known);
    assert_eq!(by_name.on_proxy_down, OnProxyDown::Forward);
    assert_eq!((admins.on_reload, by_name.on_reload), (OnReload::Keep, OnReload::Terminate));
    assert_eq!(by_name.settings.name, "default");
    assert_eq!(by_name.settings.server_side.host_key_check, HostKeyCheck::AcceptFirst);
    let time = admins.channels.rules.first().and_then(|rule| rule.time.as_ref());
    assert_eq!(time.map(|time| time.name.as_str()), Some("office-hours"));
    let files = admins.channels.rules.iter().find_map(|rule| rule.files.as_ref()).unwrap();
    assert_eq!(files.name, "drop-box");
    assert_eq!(files.rules.len(), 3);
    let limits: Vec<Option<u64>> = files.rules.iter().map(|rule| rule.bytes_max).collect();
    assert_eq!(limits, [None, Some(8_000_000_000), None]);
    assert!(config.policy.user("alice").is_some_and(|user| user.groups == ["admins"]));
}

#[test]
fn the_effective_file_says_the_same_without_secrets() {
    let config = accepted(&good());
    assert!(!config.effective.contains("argon2id"), "{}", config.effective);
    assert!(config.effective.contains("password_hash = \"[hidden]\""), "{}", config.effective);
    let hash = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";
    let again = accepted(&config.effective.replace("[hidden]", hash));
    assert_eq!(again.policy, config.policy);
    assert_eq!(again.steering, config.steering);
    assert_eq!(again.limits, config.limits);
    assert_eq!(again.storage, config.storage);
    assert_eq!(again.effective, config.effective);
}

#[test]
fn five_errors_are_five_reports() {
    let source = "\
[steering]
client_interfaces = [\"lan0\"]
fast_lane = \"xdp\"

[limits]
sessions = \"many\"

[[connection_policy]]
name = \"p\"
protocol = \"ssh\"
from = [\"10.1.2.3/16\"]
to = [\"10.2.0.0/16\"]
ports = [\"22\", \"0\"]
source = \"gateway\"
authentication = \"missing\"
channels = \"shell\"

[[channel_policy]]
name = \"shell\"
rule = [{ type = \"session-shell\", record = false }]
";
    let report = refused(source);
    let expected = [
        "3:1 steering.fast_lane: unknown key",
        "6:12 limits.sessions: expected integer from 1 to 1000000, found string",
        "11:9 connection_policy[0].from[0]: \"10.1.2.3/16\" has bits set after the prefix length; \
         the prefix is 10.1.0.0/16",
        "13:16 connection_policy[0].ports[1]: \"0\" is not a port or a range of ports (1-65535)",
        "15:18 connection_policy[0].authentication: there is no [[authentication_policy]] named \
         \"missing\"",
    ];
    assert_eq!(lines(&report), expected);
    let text = report.to_string();
    let parts = ["proxyd.toml:11:9", "from = [\"10.1.2.3/16\"]", "5 errors, 0 warnings"];
    for part in parts {
        assert!(text.contains(part), "{part} is missing in\n{text}");
    }
}

/// What is asked of gateway authentication and of certificates, and what of it has no effect.
#[test]
fn proofs_and_certificates() {
    let server = "server = [\"keyboard-interactive\", \"password\"]";
    let gateway = "gateway = [{ method = \"publickey\", backend = \"local\" }, ";
    let with = |line: &str| good().replace(server, &format!("{server}\n{line}"));
    let all = accepted(&with("gateway_require = \"all\""));
    let policies = all.policy.connection_policies.as_slice();
    let staff = &policies.first().unwrap().authentication;
    let is_all = matches!(&staff.gateway, GatewayAuthentication::AllOf(two) if two.len() == 2);
    assert!(is_all && lines(&all.warnings).is_empty(), "{:?}", staff.gateway);

    let ca = "trusted_user_cas = [\"ssh-ed25519 \
              AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH\"]";
    let no_keys = |text: String| text.replace(gateway, "gateway = [");
    let warned: [(&str, String, &str); 3] = [
        (
            "all of one",
            no_keys(with("gateway_require = \"all\"")),
            "gateway_require: has no effect",
        ),
        ("CAs without keys", no_keys(with(ca)), "trusted_user_cas: has no effect"),
        (
            "a CA for nothing",
            with("user_ca_key_file = \"/dev/null\""),
            "user_ca_key_file: has no effect",
        ),
    ];
    for (case, text, expected) in warned {
        let warnings = lines(&accepted(&text).warnings);
        assert!(warnings.iter().any(|warning| warning.contains(expected)), "{case}: {warnings:?}");
    }
    let certificate = "server = [\"certificate\"]";
    let errors = lines(&refused(&good().replace(server, certificate)));
    assert!(errors.iter().any(|error| error.contains("needs the key of a CA")), "{errors:?}");
    let made = format!("{certificate}\nuser_ca_key_file = \"ca\"");
    let both = "gateway = [{ method = \"publickey\", backend = \"local\" }, \
                { method = \"password\", backend = \"local\" }]";
    let ticket = "server = [\"gssapi-with-mic\"]";
    let takes = "gateway = [{ method = \"gssapi-with-mic\", backend = \"local\" }, ";
    let tickets = |lines: &str| with(lines).replace(gateway, takes);
    let unusable: [(&str, String, &str); 5] = [
        ("no keytab", tickets("realms = [\"A\"]"), "needs the keys of services"),
        ("no realm", tickets("keytab_file = \"/dev/null\""), "needs a realm to trust"),
        ("no realms", tickets("keytab_file = \"/dev/null\"\nrealms = []"), "needs a realm"),
        ("a user for a realm", tickets("realms = [\"a@B\"]"), "printable ASCII characters"),
        ("none is taken", good().replace(server, ticket), "gateway takes none"),
    ];
    for (case, text, expected) in unusable {
        let errors = lines(&refused(&text));
        assert!(errors.iter().any(|error| error.contains(expected)), "{case}: {errors:?}");
    }
    let idle = with("keytab_file = \"/dev/null\"\nrealms = [\"A\"]");
    let warnings = lines(&accepted(&idle).warnings);
    for key in ["keytab_file", "realms"] {
        let expected = format!("{key}: has no effect without \"gssapi-with-mic\"");
        assert!(warnings.iter().any(|warning| warning.contains(&expected)), "{warnings:?}");
    }
    let open = good().replace(server, &made).replace(both, "gateway = \"none\"");
    let errors = lines(&refused(&open));
    let nobody = "anybody who can connect would log in by \"certificate\"";
    assert!(errors.iter().any(|error| error.contains(nobody)), "{errors:?}");
}

/// A change to the good file (case, from, to), and the end of the line of the error it makes.
const CHANGES: &[(&str, &str, &str, &str)] = &[
    (
        "sections of later versions",
        "[limits]",
        "[[plugin]]\nname = \"x\"\n[limits]",
        "plugin: unknown key",
    ),
    (
        "bad word",
        "\"reset\"",
        "\"pass\"",
        "steering.on_proxy_down: \"pass\" is not one of: \"drop\", \"reset\", \
         \"forward\"",
    ),
    (
        "unknown cipher",
        "kex = [\"curve25519-sha256\"]",
        "macs = [\"hmac-md5\"]",
        "settings_policy[0].client_side.macs[0]: \"hmac-md5\" is not one of: \
         \"hmac-sha2-256-etm@openssh.com\", \"hmac-sha2-512-etm@openssh.com\", \
         \"hmac-sha2-256\", \"hmac-sha2-512\", \"hmac-sha1-etm@openssh.com\", \"hmac-sha1\"",
    ),
    (
        "condition of another type",
        "\"session-sftp\"",
        "\"session-sftp\"\ncommands = [\"id\"]",
        "channel_policy[0].rule[1].commands: channels of type \"session-sftp\" have none",
    ),
    (
        "later protocol",
        "\"ssh\"\nfrom = [\"0",
        "\"rdp\"\nfrom = [\"0",
        "connection_policy[1].protocol: \"rdp\" is not yet supported by this \
         version",
    ),
    (
        "missing key",
        "channels = \"shell-and-files\"\naudit = \"sealed\"\n\n",
        "audit = \"sealed\"\n\n",
        "connection_policy[0].channels: missing key",
    ),
    (
        "empty list",
        "[\"22\", \"2200-2299\"]",
        "[]",
        "connection_policy[0].ports: the list must not be empty",
    ),
    (
        "empty gateway list",
        "gateway = [{",
        "gateway = []\n# [{",
        "authentication_policy[0].gateway: an empty list does not say how users \
         authenticate at the gateway",
    ),
    (
        "time over midnight",
        "20:00-24:00",
        "20:00-06:00",
        "time_policy[0].friday[1]: time range \"20:00-06:00\" does not end after \
         it starts; split it at midnight",
    ),
    (
        "dangling time",
        "time = \"office-hours\"",
        "time = \"office\"",
        "channel_policy[0].rule[0].time: there is no [[time_policy]] named \
         \"office\"",
    ),
    (
        "duplicate name",
        "name = \"by-name\"",
        "name = \"linux-admins\"",
        "connection_policy[1].name: \"linux-admins\" is the name of an earlier \
         entry too",
    ),
    (
        "no audit",
        "audit = \"sealed\"\non_proxy_down",
        "on_proxy_down",
        "connection_policy[1].audit: missing key: channel policy \
         \"shell-and-files\" records channels",
    ),
    (
        "no server interface",
        "server_interfaces = [\"wan0\"]\n",
        "",
        "steering.server_interfaces: a connection policy keeps the client's \
         address, which needs the interfaces where packets from servers arrive",
    ),
    (
        "bridge mode without bridge",
        "mode = \"router\"",
        "mode = \"bridge\"",
        "steering.bridge: missing key",
    ),
    (
        "key without store",
        "\"keyboard-interactive\", \"password\"",
        "\"publickey\"",
        "connection_policy[0].authentication: authentication policy \"staff\" logs \
         in to servers by \"publickey\", which needs a credential_store here",
    ),
    (
        "target without keys",
        "{ mode = \"original\" }",
        "\"fixed\"",
        "connection_policy[0].target: this target has keys of its own",
    ),
    (
        "password of the database",
        "spool = \"spool\"",
        "database = \"postgres://u:p@h/d\"",
        "storage.database: a password does not belong into this file; put the password into a \
         file and name it in database_password_file",
    ),
    (
        "long interface",
        "[\"wan0\"]",
        "[\"a-very-long-interface\"]",
        "steering.server_interfaces[0]: interface name of 21 bytes exceeds 15",
    ),
    (
        "operation on files",
        "\"write\", \"mkdir\"",
        "\"write\", \"execute\"",
        "file_policy[0].rule[1].operations[1]: \"execute\" is not one of: \"read\", \"write\", \
         \"list\", \"stat\", \"setstat\", \"remove\", \"rename\", \"mkdir\", \"rmdir\", \"link\", \
         \"other\"",
    ),
    (
        "pattern that no path fits",
        "incoming/*",
        "incoming/../*",
        "file_policy[0].rule[1].paths[1]: \"incoming/../*\" has an empty name, \".\", \"..\" or \
         a zero byte, so that no path fits it",
    ),
    (
        "limit of a refusal",
        "8_000_000_000\naction = \"allow\"",
        "8_000_000_000\naction = \"refuse\"",
        "file_policy[0].rule[1].max_bytes: is a limit of what is allowed, and this rule refuses",
    ),
    (
        "limit of nothing",
        "\"write\", \"mkdir\"",
        "\"mkdir\"",
        "file_policy[0].rule[1].max_bytes: is a limit of reading and writing, and this rule \
         allows neither",
    ),
    (
        "negative limit",
        "8_000_000_000",
        "-1",
        "file_policy[0].rule[1].max_bytes: -1 is not an integer from 0 to 9223372036854775807",
    ),
    (
        "paths of other operations",
        "[\"list\", \"stat\"]",
        "[\"other\"]\npaths = [\"/srv\"]",
        "file_policy[0].rule[2].paths: no path of \"other\" operations is known, so that this \
         rule allows nothing",
    ),
    (
        "two file policies of one name",
        "[[file_policy]]",
        "[[file_policy]]\nname = \"drop-box\"\nrule = [{ operations = [\"read\"], action = \
         \"allow\" }]\n[[file_policy]]",
        "file_policy[1].name: \"drop-box\" is the name of an earlier entry too",
    ),
    ("syntax", "[limits]", "[limits", ""),
];

#[test]
fn one_error_each() {
    for (case, from, to, expected) in CHANGES {
        let source = good();
        assert!(source.contains(from), "{case}: nothing to change");
        let report = refused(&source.replacen(from, to, 1));
        let found = lines(&report).iter().any(|line| line.ends_with(expected));
        assert!(found, "{case}:\n{report}");
    }
}

#[test]
fn stored_credentials_need_gateway_authentication_or_a_word() {
    let directory = tempfile::tempdir().unwrap();
    let source = r#"
[steering]
client_interfaces = ["lan0"]
[[connection_policy]]
name = "p"
protocol = "ssh"
from = ["10.1.0.0/16"]
to = ["10.2.0.0/16"]
ports = ["22"]
source = "gateway"
authentication = "none"
credential_store = "vault"
channels = "shell"
[[authentication_policy]]
name = "none"
gateway = "none"
server = ["publickey"]
[[channel_policy]]
name = "shell"
rule = [{ type = "session-shell", record = false }]
[[credential_store]]
name = "vault"
kind = "local"
[[credential_store.entry]]
host = "*.example.com"
user = "root"
key_file = "keys/root"
"#;
    let key = "connection_policy[0].credential_store";
    assert!(refused(source).problems().iter().any(|problem| problem.key == key));
    let file = directory.path().join("proxyd.toml");
    let channels = "channels = \"shell\"";
    let word = format!("{channels}\nallow_unauthenticated_gateway = true");
    let permitted = source.replace(channels, &word);
    std::fs::write(&file, permitted).unwrap();
    let config = load(&file).unwrap();
    let warnings = lines(&config.warnings);
    assert!(matches!(warnings.as_slice(), [one] if one.contains("keys/root")), "{warnings:?}");
    let policy = config.policy.connection_policies.first().unwrap();
    let entry = policy.credential_store.as_ref().and_then(|store| store.entries.first()).unwrap();
    assert_eq!(entry.key_file, directory.path().join("keys/root"));
}

/// Every name is known on both sides; weak ones are worth a warning on the clients' alone.
#[test]
fn weak_algorithms_for_clients_are_warnings() {
    let lists = "kex = [\"diffie-hellman-group14-sha1\", \"ecdh-sha2-nistp256\"], \
                 ciphers = [\"3des-cbc\", \"aes128-ctr\", \"aes256-cbc\"], macs = [\"hmac-sha1\"]";
    let client = good().replace("kex = [\"curve25519-sha256\"]", lists);
    let config = accepted(&client);
    let warnings = lines(&config.warnings);
    let expected = [
        "kex: offers clients what is weak: diffie-hellman-group14-sha1",
        "ciphers: offers clients what is weak: 3des-cbc, aes256-cbc",
        "macs: offers clients what is weak: hmac-sha1",
    ];
    assert_eq!(warnings.len(), expected.len(), "{warnings:?}");
    for (warning, expected) in warnings.iter().zip(expected) {
        assert!(warning.ends_with(&format!("client_side.{expected}")), "{warning}");
    }
    let old = format!("server_side = {{ legacy = true, rekey = \"off\", {lists},");
    let config = accepted(&good().replace("server_side = {", &old));
    assert_eq!(lines(&config.warnings), Vec::<String>::new());
    let [admins, by_name] = config.policy.connection_policies.as_slice() else {
        panic!("{:?}", config.policy);
    };
    let side = &admins.settings.server_side;
    assert_eq!((side.legacy, side.rekey), (true, Rekey::Off));
    assert_eq!(side.algorithms.ciphers, ["3des-cbc", "aes128-ctr", "aes256-cbc"]);
    assert_eq!(side.algorithms.macs, ["hmac-sha1"]);
    let side = &by_name.settings.server_side;
    assert_eq!((side.legacy, side.rekey), (false, Rekey::On));
}

#[test]
fn a_policy_that_can_never_match_is_a_warning() {
    let shadowed = good().replace("0.0.0.0/0", "10.1.7.0/24").replace("10.1.0.1", "10.2.0.9");
    let config = accepted(&shadowed);
    let warnings = lines(&config.warnings);
    let expected = "connection_policy[1].name: can never match, because the earlier \
                    \"linux-admins\" matches everything it would";
    assert!(matches!(warnings.as_slice(), [one] if one.ends_with(expected)), "{warnings:?}");
}

#[test]
fn a_file_rule_that_never_decides_is_a_warning() {
    let source = good()
        .replace("\"read\", \"write\"]\npaths = [\"**/.ssh/**\"]", "\"stat\"]")
        .replace("[\"list\", \"stat\"]", "[\"stat\"]");
    let warnings = lines(&accepted(&source).warnings);
    let expected =
        "file_policy[0].rule[2].operations: earlier rules decide about all of these on every path";
    assert!(matches!(warnings.as_slice(), [one] if one.ends_with(expected)), "{warnings:?}");
}

#[test]
fn secrets_of_bad_files_are_not_shown() {
    for (from, to) in [
        ("$argon2id$v=19", "hunter2"),
        ("password_hash = \"$argon2id$v=19", "pasword_hash = \"hunter2"),
    ] {
        let report = refused(&good().replace(from, to));
        assert!(!format!("{report} {report:?}").contains("hunter2"), "{report}");
    }
}

#[test]
fn any_cut_of_a_file_is_judged() {
    let source = good();
    for end in (0..source.len()).step_by(7).filter(|end| source.is_char_boundary(*end)) {
        if let Err(report) =
            check(Path::new("proxyd.toml"), source.get(..end).unwrap_or_default().to_owned())
        {
            assert!(report.error_count() > 0, "cut at {end}");
            assert!(report.to_string().contains("error"), "cut at {end}");
        }
    }
}

#[test]
fn the_control_socket_is_found_in_a_file_with_errors() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxyd.toml");
    let own = directory.path().join("own.sock");
    let socket = "[storage]\ncontrol_socket = \"own.sock\"\n";
    let cases = [
        ("the default", good(), Some("/run/proxyd/control.sock".into())),
        ("named", socket.to_owned(), Some(own.clone())),
        ("errors elsewhere", format!("{socket}[limits]\nsessions = 0\n"), Some(own.clone())),
        ("broken elsewhere", format!("{socket}[limits\nsessions = 1\n"), Some(own)),
        ("errors and no name", "[limits]\nsessions = 0\n".to_owned(), None),
        ("not a text", "[storage]\ncontrol_socket = 7\n".to_owned(), None),
    ];
    for (name, text, expected) in cases {
        std::fs::write(&file, text).unwrap();
        assert_eq!(control_socket(&file).ok(), expected, "{name}");
    }
    std::fs::remove_file(&file).unwrap();
    control_socket(&file).unwrap_err();
}

#[test]
fn local_time_follows_the_zone() {
    let at = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let cases = [
        // Budapest is UTC+1 in winter and UTC+2 in summer.
        ("2026-01-05T07:00:00Z", Weekday::Monday, 8),
        ("2026-07-06T06:00:00Z", Weekday::Monday, 8),
        ("2026-01-04T23:30:00Z", Weekday::Monday, 0),
    ];
    for (text, weekday, hour) in cases {
        let minute = if hour == 0 { 30 } else { 0 };
        let expected = proxyd_policy::time::LocalTime::new(weekday, hour, minute);
        assert_eq!(local_time("Europe/Budapest", at(text)), expected, "{text}");
    }
    assert_eq!(local_time("Nowhere/Atlantis", at("2026-01-05T07:00:00Z")), None);
}
