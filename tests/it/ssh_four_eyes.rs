//! Four eyes: a channel waits until somebody else has approved, and nothing else does.

use std::io::{Read as _, Write as _};
use std::path::Path;

use e2e::peer::ssh::{Call, Client};
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Finished;
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::{wait_for, wait_until};
use e2e::world::{Family, Host, World};
use serde_json::Value;

use crate::stage::{
    Auditor, GATEWAY_PASSWORD, LIMIT, Records, STAFF, connection, connection_on, library,
};

/// The port of the policy whose session ends at the gateway's own limit.
const PLAIN_PORT: u16 = 2301;

const POLICIES: &str = r#"
[[channel_policy]]
name = "watched"
[[channel_policy.rule]]
type = "session-exec"
commands = ["echo plain*"]
[[channel_policy.rule]]
type = "session-exec"
four_eyes = true
[[channel_policy.rule]]
type = "local-forward"
four_eyes = true
[[channel_policy.rule]]
type = "remote-forward"
four_eyes = true
"#;

/// What all tests of this file stand on.
struct Line<'w> {
    world: &'w World,
    client: Client<'w>,
    proxyd: Proxyd<'w>,
    _server: Sshd<'w>,
}

impl<'w> Line<'w> {
    fn new(world: &'w World, limits: &str) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let lines = STAFF.replace("\"all\"", "\"watched\"");
        let policies = connection(world, "staff", &lines)
            + &connection_on(world, "plain", PLAIN_PORT, STAFF)
            + &library(&auditor, &[])
            + POLICIES;
        let settings = Settings { limits, policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let server = Sshd::start(world).unwrap();
        let client = Client::new(world, "alice").unwrap();
        Self { world, client, proxyd, _server: server }
    }

    fn ssh(&self) -> Call<'_> {
        let to = self.world.address(Host::Server, Family::V4);
        // The gateway's password first, the server's after it.
        let call = self.client.ssh().replies(sshd::ASKS, &[GATEWAY_PASSWORD, sshd::PASSWORD]);
        call.arg("-l").arg("alice").arg(to.to_string())
    }

    /// The requests that wait.
    fn requests(&self) -> Vec<Value> {
        let config = self.proxyd.config();
        let listed = self.proxyd.command("ctl requests --json --config", &[&config]).unwrap();
        serde_json::from_str(&listed.ok().unwrap().text()).unwrap()
    }

    /// Waits until this many requests wait, and gives them.
    fn await_requests(&self, count: usize) -> Vec<Value> {
        wait_for("requests", LIMIT, || Ok(Some(self.requests()).filter(|list| list.len() == count)))
            .unwrap()
    }

    fn decide(&self, verb: &str, request: &Value, by: &str) -> Finished {
        let id = request["id"].as_str().unwrap();
        let config = self.proxyd.config();
        let words = format!("ctl {verb} {id} --by {by} --reason seen --config");
        self.proxyd.command(&words, &[Path::new(&config)]).unwrap()
    }
}

#[test]
fn a_program_waits_for_somebody_else() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let mut records = Records::new(&line.proxyd);
    let call = line.ssh().arg("cat; exit 4").input("typed ahead\n").unwrap();
    let session = call.start().unwrap();
    let request = line.await_requests(1).remove(0);
    assert_eq!(request["wish"]["kind"], "session-exec");
    assert_eq!(request["wish"]["detail"], "cat; exit 4");
    assert_eq!(
        (&request["gateway_user"], &request["remote_user"]),
        (&"alice".into(), &"alice".into())
    );
    let own = line.decide("approve", &request, "alice");
    assert_eq!(own.code(), 1);
    assert!(own.stderr.contains("users cannot decide about their own requests"), "{}", own.stderr);
    assert!(session.stdout().unwrap().is_empty(), "nothing runs yet");
    assert_eq!(line.decide("approve", &request, "carol").code(), 0);
    let run = session.finish(LIMIT).unwrap();
    assert_eq!((run.code(), run.text().as_str()), (4, "typed ahead\n"), "{}", run.stderr);
    let id = request["id"].as_str().unwrap();
    assert!(run.stderr.contains(&format!("request {id} waits for approval")), "{}", run.stderr);
    let again = line.decide("approve", &request, "carol");
    assert!(again.stderr.contains("no such request waits"), "{}", again.stderr);
    let closed = records.next();
    let asked = format!("detail=cat; exit 4 kind=session-exec request={id}");
    assert_eq!(closed.events("approval-asked"), [asked]);
    let decided = format!("by=carol reason=seen request={id} verdict=accepted");
    assert_eq!(closed.events("approval-decided"), [decided]);
    assert_eq!(closed.events("channel"), ["channel=0 detail=cat; exit 4 kind=session-exec rule=1"]);
}

#[test]
fn a_refusal_is_told_and_ends_nothing_else() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let mut records = Records::new(&line.proxyd);
    let socket = line.client.directory().join("master");
    let share = format!("-o ControlPath={}", socket.display());
    let mut master = line.ssh().args(&share).args("-M -N").start().unwrap();
    wait_until("the shared connection", LIMIT, || socket.exists()).unwrap();
    let watched = line.ssh().args(&share).arg("id").start().unwrap();
    let request = line.await_requests(1).remove(0);
    // Beside what waits, other channels of the same connection go on.
    let run = line.ssh().args(&share).arg("echo plain").run(LIMIT).unwrap();
    assert_eq!(run.text(), "plain\n", "{}", run.stderr);
    assert_eq!(line.decide("refuse", &request, "carol").code(), 0);
    let run = watched.finish(LIMIT).unwrap();
    assert_eq!(run.code(), 255);
    assert!(run.stderr.contains("proxyd: the authorizer has refused"), "{}", run.stderr);
    let run = line.ssh().args(&share).arg("echo plain").run(LIMIT).unwrap();
    assert_eq!(run.text(), "plain\n", "{}", run.stderr);
    master.kill().unwrap();
    let events = records.next().events("channel").join("\n");
    assert!(events.contains("denied=four-eyes-refused detail=id"), "{events}");
}

#[test]
fn nobody_decides_in_time() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "four_eyes_timeout_s = 2\nidle_timeout_s = 1");
    let mut records = Records::new(&line.proxyd);
    let run = line.ssh().arg("id").run(LIMIT).unwrap();
    assert_eq!(run.code(), 255);
    assert!(run.stderr.contains("proxyd: nobody has approved of it in time"), "{}", run.stderr);
    let events = records.next().events("channel");
    assert!(events[0].contains("denied=four-eyes-timeout"), "{events:?}");
    assert!(line.requests().is_empty());
}

#[test]
fn who_gives_up_need_not_be_decided_about() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let mut records = Records::new(&line.proxyd);
    let mut session = line.ssh().arg("id").start().unwrap();
    line.await_requests(1);
    session.kill().unwrap();
    line.await_requests(0);
    let closed = records.next();
    assert_eq!(closed.events("approval-asked").len(), 1);
    assert!(closed.events("channel").is_empty(), "nothing was opened or refused");
}

#[test]
fn forwarded_connections_wait_too() {
    let world = World::router().unwrap();
    let line = Line::new(&world, "");
    let mut records = Records::new(&line.proxyd);
    // The server's own SSH port answers at once.
    let mut child = line.ssh().args("-W 127.0.0.1:22").start_piped().unwrap();
    let request = line.await_requests(1).remove(0);
    assert_eq!(request["wish"]["detail"], "127.0.0.1:22 from 127.0.0.1");
    line.decide("approve", &request, "carol").ok().unwrap();
    let mut first = [0; 8];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"SSH-2.0-");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(records.next().events("channel")[0].contains("rule=2"));
    // A request to listen holds back the requests behind it, whose replies must not overtake.
    let call = line.ssh().args("-o ExitOnForwardFailure=yes -o ServerAliveInterval=1 -N");
    let session = call.args("-R 127.0.0.1:8001:127.0.0.1:9").start().unwrap();
    let request = line.await_requests(1).remove(0);
    assert_eq!(request["wish"]["kind"], "remote-forward");
    line.decide("refuse", &request, "carol").ok().unwrap();
    let run = session.finish(LIMIT).unwrap();
    assert!(run.stderr.contains("remote port forwarding failed"), "{}", run.stderr);
    assert!(records.next().events("channel")[0].contains("denied=four-eyes-refused"));
}

/// A daemon that has taken over decides for the sessions of the one before.
#[test]
fn requests_outlive_a_take_over() {
    let world = World::router().unwrap();
    let mut line = Line::new(&world, "");
    let mut child = line.ssh().arg("cat").start_piped().unwrap();
    child.stdin.as_mut().unwrap().write_all(b"typed ahead\n").unwrap();
    let request = line.await_requests(1).remove(0);
    let old = line.proxyd.take_over().unwrap();
    assert_eq!(line.await_requests(1)[0]["id"], request["id"]);
    line.decide("approve", &request, "carol").ok().unwrap();
    let mut echoed = [0; 12];
    child.stdout.as_mut().unwrap().read_exact(&mut echoed).unwrap();
    assert_eq!(&echoed, b"typed ahead\n");
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    assert_eq!(old.finish(LIMIT).unwrap().code(), 0);
}
