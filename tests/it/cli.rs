//! The command line, as an operator meets it: checks, explanations, help, and errors that say
//! what is wrong.

use std::fs;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::World;

use crate::stage::{Auditor, OPEN, Records, connection, library};

/// Five mistakes of five kinds, each on its own line.
const FIVE_ERRORS: &str = r#"[steering]
mode = "router"
client_interfaces = ["lan0"]

[limits]
sessions = 0

[[connection_policy]]
name = "one"
protocol = "ssh"
from = ["10.77.1.0/24"]
to = ["10.77.2.0/33"]
ports = ["22"]
source = "gateway"
authentication = "missing"
channels = "all"
colour = "green"

[[channel_policy]]
name = "all"
[[channel_policy.rule]]
type = "session-shel"
record = false
"#;

/// Where each mistake stands, and a word of what is said about it.
const FIVE_PLACES: [(&str, &str); 5] = [
    (":6:12", "limits.sessions"),
    (":12:7", "10.77.2.0/33"),
    (":15:18", "missing"),
    (":17:1", "colour"),
    (":22:8", "session-shel"),
];

#[test]
fn check_reports_every_error_at_once() {
    let world = World::router().unwrap();
    let proxyd = Proxyd::new(&world, Settings::default()).unwrap();
    let file = proxyd.directory().join("five.toml");
    fs::write(&file, FIVE_ERRORS).unwrap();
    let checked = proxyd.command("check", &[&file]).unwrap();
    assert_eq!(checked.code(), 1);
    assert_eq!(checked.text(), "");
    let said = &checked.stderr;
    for (place, word) in FIVE_PLACES {
        assert!(said.contains(&format!("five.toml{place}")), "no {place} in {said}");
        assert!(said.contains(word), "no {word} in {said}");
    }
    let errors = said.lines().filter(|line| line.starts_with("error")).count();
    assert_eq!(errors, FIVE_PLACES.len(), "{said}");
    // The daemon does not start with it, and says the same.
    let run = proxyd.command("run --config", &[&file]).unwrap();
    assert_eq!(run.code(), 1);
    for (_place, word) in FIVE_PLACES {
        assert!(run.stderr.contains(word), "no {word} in {}", run.stderr);
    }
    assert!(world.pins().unwrap().is_empty());
}

#[test]
fn check_and_explain_a_good_file() {
    let world = World::router().unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let narrow = connection(&world, "narrow", OPEN);
    let wide = connection(&world, "wide", OPEN).replace("10.77.2.3/32", "10.77.2.0/24");
    let policies = [narrow, wide, library(&auditor, &[])].concat();
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::new(&world, settings).unwrap();
    let config = proxyd.config();
    let checked = proxyd.command("check", &[&config]).unwrap().ok().unwrap();
    assert!(checked.text().contains("ok, 2 connection policies"), "{}", checked.text());
    let effective = proxyd.command("check --effective", &[&config]).unwrap().ok().unwrap().text();
    assert!(effective.contains("handshake_timeout_s = 30"), "{effective}");
    assert!(effective.contains("[hidden]") && !effective.contains("$argon2id$"), "{effective}");

    let cases = [
        ("10.77.1.2", "10.77.2.3:22", 0, "narrow"),
        ("10.77.1.2", "10.77.2.4:22", 0, "wide"),
        ("fd77:1::2", "[fd77:2::3]:22", 0, "narrow"),
        ("10.77.1.2", "10.77.2.3:23", 2, "no connection policy matches"),
        ("10.77.9.9", "10.77.2.3:22", 2, "no connection policy matches"),
    ];
    for (from, to, code, said) in cases {
        let words = format!("explain --from {from} --to {to} --config");
        let explained = proxyd.command(&words, &[&config]).unwrap();
        assert_eq!(explained.code(), code, "{from} {to}: {}", explained.stderr);
        assert!(explained.text().contains(said), "{from} {to}: {}", explained.text());
    }
    let words = "explain --from 10.77.1.2 --to 10.77.2.4:22 --config";
    let explained = proxyd.command(words, &[&config]).unwrap().text();
    assert!(explained.contains("narrow"), "why the first does not match: {explained}");
}

#[test]
fn help_reads_well() {
    let world = World::router().unwrap();
    let proxyd = Proxyd::new(&world, Settings::default()).unwrap();
    let commands = [
        "",
        "run",
        "check",
        "explain",
        "steering",
        "steering status",
        "ctl",
        "ctl sessions",
        "ctl terminate",
        "trail",
        "trail verify",
        "trail info",
        "trail replay",
        "trail export",
        "trail keygen",
        "trail public-key",
    ];
    for command in commands {
        let help = proxyd.command(&format!("{command} --help"), &[]).unwrap().ok().unwrap();
        let text = help.text();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.len() > 20 && !first.starts_with("Usage"), "{command}: {first:?}");
        assert!(text.contains("Usage: proxyd"), "{command}: {text}");
        for line in text.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
    }
    let whole = proxyd.command("--help", &[]).unwrap().text();
    for word in ["run", "check", "explain", "steering", "ctl", "trail", "Examples:"] {
        assert!(whole.contains(word), "no {word} in {whole}");
    }
}

#[test]
fn errors_name_what_is_wrong() {
    let world = World::router().unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::new(&world, settings).unwrap();
    let config = proxyd.config();
    let missing = proxyd.directory().join("missing");
    let no_interface = proxyd.directory().join("no-interface.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&no_interface, text.replace("\"lan0\"", "\"lan7\"")).unwrap();
    let text_file = proxyd.directory().join("text.trail");
    fs::write(&text_file, "not a trail at all, only some text that is long enough").unwrap();
    let cases = [
        ("nonsense", None, 2, "unrecognized subcommand 'nonsense'"),
        ("check", None, 2, "<FILE>"),
        ("check", Some(&missing), 1, "cannot read"),
        ("trail public-key --config", Some(&config), 1, "is made when the gateway first runs"),
        ("run --config", Some(&missing), 1, "cannot read"),
        ("run --config", Some(&no_interface), 1, "no network interface is called lan7"),
        ("run --log blue=green --config", Some(&config), 1, "--log blue=green"),
        ("ctl sessions --config", Some(&config), 1, "is it running?"),
        ("steering status --config", Some(&config), 1, "nothing is"),
        ("trail verify", Some(&missing), 1, "missing"),
        ("trail verify", Some(&text_file), 1, "text.trail"),
        ("trail replay", Some(&text_file), 2, "--identity"),
        ("trail replay --at 1:60 --identity x", Some(&text_file), 2, "not a time"),
        ("trail export --format files --identity x", Some(&text_file), 2, "--output"),
    ];
    for (words, path, code, said) in cases {
        let paths: Vec<_> = path.into_iter().map(std::path::PathBuf::as_path).collect();
        let run = proxyd.command(words, &paths).unwrap();
        assert_eq!(run.code(), code, "{words}: {}", run.stderr);
        assert!(run.stderr.contains(said), "{words}: {}", run.stderr);
        assert_eq!(run.text(), "", "{words}");
    }
}

/// The commands that ask a running gateway.
#[test]
fn a_running_gateway_is_asked() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let mut proxyd = Proxyd::start(&world, settings).unwrap();
    let config = proxyd.config();
    let call = client.ssh().arg("alice@10.77.2.3").arg("true");
    call.reply(sshd::ASKS, sshd::PASSWORD).run(crate::stage::LIMIT).unwrap().ok().unwrap();
    let row = Records::new(&proxyd).next().row;
    assert_eq!(row.outcome, "completed");
    let status = proxyd.command("steering status --config", &[&config]).unwrap().ok().unwrap();
    for part in ["alive", "classify", "return", "open"] {
        assert!(status.text().contains(part), "no {part} in {}", status.text());
    }
    let listed = proxyd.command("ctl sessions --config", &[&config]).unwrap().ok().unwrap();
    assert!(listed.text().starts_with("SESSION"), "{}", listed.text());
    let second = proxyd.command("run --config", &[&config]).unwrap();
    assert_eq!(second.code(), 1, "a second gateway starts: {}", second.stderr);
    // The first one is not harmed by the attempt.
    let call = client.ssh().arg("alice@10.77.2.3").arg("exit 8");
    let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(crate::stage::LIMIT).unwrap();
    assert_eq!(run.code(), 8, "{}", run.stderr);
    proxyd.live_sessions().unwrap();
    proxyd.stop().unwrap();
}
