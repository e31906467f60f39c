//! What sessions showed and did is found again: on both kinds of database, with real sessions.

use e2e::peer::postgres::Postgres;
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::Size;
use e2e::wait::wait_for;
use e2e::world::{Family, Host, World};
use serde_json::Value;

use super::stage::{Auditor, LIMIT, OPEN, connection, library};

/// Typed where nothing is echoed.
const SECRET: &str = "neverechoed";

/// A gateway that may read its trails, and what a user does at it.
struct Searched<'w> {
    world: &'w World,
    proxyd: Proxyd<'w>,
}

impl<'w> Searched<'w> {
    fn start(world: &'w World, database: &str) -> Self {
        let (auditor, index) = (Auditor::new(world, "auditor"), Auditor::new(world, "index"));
        let storage = format!("{database}index_identity_file = \"{}\"\n", index.identity.display());
        let policies = Self::policies(world, &auditor, Some(&index));
        let settings = Settings { policies: &policies, storage: &storage, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let searched = Self { world, proxyd };
        searched.visit();
        // From now on trails are the auditor's alone.
        let policies = Self::policies(world, &auditor, None);
        let settings = Settings { policies: &policies, storage: &storage, ..Settings::default() };
        searched.proxyd.configure(settings).unwrap();
        searched.proxyd.reload().unwrap().ok().unwrap();
        searched.run("echo sealed-away");
        searched
    }

    fn policies(world: &World, auditor: &Auditor, index: Option<&Auditor>) -> String {
        let library = library(auditor, &[]);
        let one = format!("recipients = [[\"{}\"]]\n", auditor.recipient);
        assert!(library.contains(&one));
        let groups = index.map(|index| format!(", [\"{}\"]", index.recipient));
        let groups = groups.unwrap_or_default();
        let both = format!("recipients = [[\"{}\"]{groups}]\n", auditor.recipient);
        connection(world, "open", OPEN) + &library.replace(&one, &both)
    }

    /// A terminal session with line editing, a redrawn line and a hidden answer; and two commands.
    fn visit(&self) {
        let client = Client::new(self.world, "alice").unwrap();
        let to = format!("alice@{}", self.world.address(Host::Server, Family::V4));
        let call = client.ssh().arg(to).reply(sshd::ASKS, sshd::PASSWORD);
        let mut terminal = call.terminal(Size { rows: 24, columns: 80 }).unwrap();
        for (typed, shown) in [
            ("PS1='box$ '\r", "box$ "),
            ("echo visible-$((40+2))\r", "visible-42"),
            ("echo wrongname\x7f\x7f\x7f\x7frighthere-$((50+1))\r", "righthere-51"),
            ("printf 'half\\033[31mway\\033[0m-%s\\n' $((60+1))\r", "-61"),
            (
                "stty -echo; echo ask-$((70+1)); read -r x; stty echo; echo told-$((70+2))\r",
                "ask-71",
            ),
        ] {
            terminal.send(typed).unwrap();
            terminal.expect(shown, LIMIT).unwrap();
        }
        terminal.send(&format!("{SECRET}\r")).unwrap();
        terminal.expect("told-72", LIMIT).unwrap();
        terminal.send("exit\r").unwrap();
        terminal.finish(LIMIT).unwrap();
        self.run("echo printed-$((80+1)); exit 3");
    }

    fn run(&self, command: &str) {
        let client = Client::new(self.world, "bob").unwrap();
        let to = format!("bob@{}", self.world.address(Host::Server, Family::V4));
        let call = client.ssh().arg(to).arg(command).reply(sshd::ASKS, sshd::PASSWORD);
        call.run(LIMIT).unwrap();
    }

    fn json(&self, words: &str) -> Value {
        let config = self.proxyd.config();
        let said = self.proxyd.command(&format!("{words} --json --config"), &[&config]).unwrap();
        serde_json::from_slice(&said.stdout)
            .unwrap_or_else(|error| panic!("{words}: {error}: {said:?}"))
    }

    /// Waits until every session's trail was looked into; gives what became of each, newest first.
    fn indexed(&self) -> Vec<(String, String)> {
        wait_for("trails to be indexed", LIMIT, || {
            let sessions = self.json("session list");
            let ids = sessions.as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap());
            let states: Vec<(String, String)> = ids
                .map(|id| {
                    let state = self.json(&format!("session show {id}"))["index"].clone();
                    (id.to_owned(), state.as_str().unwrap_or_default().to_owned())
                })
                .collect();
            let is_over = |(_id, state): &(String, String)| !["", "waiting"].contains(&&**state);
            Ok(states.iter().all(is_over).then_some(states))
        })
        .unwrap()
    }

    /// The hits of a search: kind, exit status, line, and when it was.
    fn hits(&self, words: &str) -> Vec<(String, Option<i64>, String, u64)> {
        let found = self.json(&format!("search {words}"));
        let hits = found["hits"].as_array().unwrap().iter();
        let text = |hit: &Value, key: &str| hit[key].as_str().unwrap().to_owned();
        hits.map(|hit| {
            let at_ns = hit["at_ns"].as_u64().unwrap();
            (text(hit, "kind"), hit["exit_status"].as_i64(), text(hit, "line"), at_ns)
        })
        .collect()
    }

    fn check(&self) {
        let states = self.indexed();
        let how: Vec<&str> = states.iter().map(|(_id, state)| state.as_str()).collect();
        assert_eq!(how, ["sealed", "done", "done"]);
        let lines = |words: &str| -> Vec<String> {
            self.hits(words)
                .into_iter()
                .map(|(kind, _, line, _)| format!("{kind}: {line}"))
                .collect()
        };
        assert!(
            lines("visible-42").contains(&"screen: visible-42".to_owned()),
            "{:?}",
            lines("visible-42")
        );
        for (text, expected) in [
            // Split by colours, and by where the server's writes ended.
            ("halfway-61", "screen: halfway-61"),
            // As it was when it was entered, not as it was typed.
            ("wrongrighthere-$((50", "command: echo wrongrighthere-$((50+1))"),
            ("printed-81", "screen: printed-81"),
            ("printed-$((80", "command: echo printed-$((80+1)); exit 3"),
        ] {
            let found = lines(text);
            assert!(found.iter().any(|line| line == expected), "{text}: {found:?}");
        }
        let exits = self.hits("printed-$((80");
        assert!(exits.iter().any(|(kind, status, ..)| kind == "command" && *status == Some(3)));
        for (words, count) in [
            ("visible-42 --user bob", 0),
            ("printed-81 --user bob", 1),
            ("printed-81 --policy other", 0),
            ("printed-81 --since 1h", 1),
            ("printed-81 --until 1h", 0),
            ("PRINTED-81", 1),
            ("rinted-81", 0),
            ("printed,81", 0),
            ("sealed-away --outcome active", 0),
            (SECRET, 0),
        ] {
            assert_eq!(self.hits(words).len(), count, "{words}: {:?}", self.hits(words));
        }
        let server = self.world.address(Host::Server, Family::V4);
        assert_eq!(self.hits(&format!("printed-81 --target {server}:22")).len(), 1);
        assert_eq!(self.hits(&format!("printed-81 --target {server}")).len(), 1);
        assert_eq!(self.hits("printed-81 --target 10.9.9.9").len(), 0);
        // What is on record of a session is found without its trail.
        let sealed = self.hits("sealed-away");
        assert!(!sealed.is_empty());
        assert!(sealed.iter().all(|(kind, ..)| kind == "channel"), "{sealed:?}");
        let times: Vec<u64> = self.hits("visible-42").iter().map(|(.., at_ns)| *at_ns).collect();
        assert!(times.iter().all(|at_ns| *at_ns > 0), "{times:?}");
    }
}

#[test]
fn sessions_in_a_file() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    Searched::start(&world, "").check();
}

#[test]
fn sessions_in_a_server() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let database = Postgres::start().unwrap();
    let lines = format!(
        "database = \"{}\"\ndatabase_password_file = \"{}\"\nnode = \"one\"\n",
        database.url(),
        database.password_file().display()
    );
    Searched::start(&world, &lines).check();
    let nodes = database.query("SELECT DISTINCT node FROM session").unwrap();
    assert_eq!(nodes.trim(), "one");
}
