//! Kerberos: tickets at the gateway, delegated on to the server, and clients that cheat with them.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;

use e2e::peer::kerberos::{REALM, Realm};
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::Finished;
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};
use proxyd_ssh::cursor::Writer;
use proxyd_ssh::limits::GSSAPI_TOKEN_BYTES_MAX;
use proxyd_ssh::message::{gssapi, number, userauth};

use crate::raw::Peer;
use crate::stage::{Auditor, Closed, LIMIT, Records, STAFF, connection, connection_on, library};

/// The ports of the policies.
const BOTH_PORT: u16 = 2901;
const GATEWAY_PORT: u16 = 2902;
const ALIEN_PORT: u16 = 2903;

/// What makes OpenSSH's server take tickets, for the service that was asked for.
const TAKES_TICKETS: &str = "GSSAPIAuthentication yes\nGSSAPIStrictAcceptorCheck no\n";

/// A realm with two users, a server in it, and a gateway that has the server's key.
struct Stage<'w> {
    realm: Realm<'w>,
    server: Sshd<'w>,
    proxyd: Proxyd<'w>,
    host: String,
}

impl<'w> Stage<'w> {
    fn start(world: &'w World) -> Self {
        let realm = Realm::start(world).unwrap();
        let host = world.address(Host::Server, Family::V4).to_string();
        for user in ["alice", "bob"] {
            realm.add_user(user).unwrap();
        }
        let keytab = realm.add_service(&format!("host/{host}")).unwrap();
        let configuration = realm.configuration();
        let files = [("krb5.conf", configuration.as_path()), ("krb5.keytab", keytab.as_path())];
        let server = Sshd::start_among(world, TAKES_TICKETS, &files).unwrap();
        let auditor = Auditor::new(world, "auditor");
        let policy = |name: &str, port| {
            connection_on(world, name, port, &STAFF.replace("\"staff\"", &format!("\"{name}\"")))
        };
        let policies = [
            connection(world, "original", &STAFF.replace("\"staff\"", "\"both\"")),
            policy("both", BOTH_PORT),
            policy("gateway", GATEWAY_PORT),
            policy("alien", ALIEN_PORT),
            library(&auditor, &[]),
            POLICIES.replace("KEYTAB", &keytab.display().to_string()),
        ];
        let settings = Settings { policies: &policies.concat(), ..Settings::default() };
        let mut proxyd = Proxyd::new(world, settings).unwrap();
        proxyd.set_env("KRB5_CONFIG", &realm.configuration());
        proxyd.launch().unwrap();
        Self { realm, server, proxyd, host }
    }

    /// One connection with the tickets of `cache`, and what is on record of it.
    fn log_in(
        &self,
        client: &Client<'_>,
        records: &mut Records,
        cache: &Path,
        options: &str,
    ) -> (Finished, Closed) {
        let call = client.ssh().args("-o GSSAPIAuthentication=yes -l alice").args(options);
        let call = call.env("KRB5_CONFIG", &self.realm.configuration().to_string_lossy());
        let call = call.env("KRB5CCNAME", &cache.to_string_lossy());
        let call = call.arg(&self.host).arg(r#"klist -s && echo "has a ticket"; exit 3"#);
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        (run, records.next())
    }
}

/// Three policies: tickets all the way, tickets at the gateway only, and a realm that is not ours.
const POLICIES: &str = r#"
[[authentication_policy]]
name = "both"
gateway = [{ method = "gssapi-with-mic", backend = "local" }]
keytab_file = "KEYTAB"
realms = ["EXAMPLE.COM"]
server = ["gssapi-with-mic"]

[[authentication_policy]]
name = "gateway"
gateway = [{ method = "gssapi-with-mic", backend = "local" }]
keytab_file = "KEYTAB"
realms = ["EXAMPLE.COM"]
server = ["gssapi-with-mic", "keyboard-interactive"]

[[authentication_policy]]
name = "alien"
gateway = [{ method = "gssapi-with-mic", backend = "local" }]
keytab_file = "KEYTAB"
realms = ["ELSEWHERE.EXAMPLE.COM", "example.com"]
"#;

/// A ticket is enough at both; the server has one too; without delegation it asks.
#[test]
fn a_ticket_goes_all_the_way() {
    let world = World::router().unwrap();
    let stage = Stage::start(&world);
    let mut records = Records::new(&stage.proxyd);
    let client = Client::new(&world, "alice").unwrap();
    let alice = stage.realm.ticket("alice").unwrap();
    let right = "method=gssapi-with-mic user=alice verdict=accepted";
    let logged_in = "method=gssapi-with-mic verdict=accepted";
    // The server's own address, and a target that the policy names.
    for port in [sshd::PORT, BOTH_PORT, GATEWAY_PORT] {
        let (run, closed) = stage.log_in(&client, &mut records, &alice, &format!("-K -p {port}"));
        assert_eq!(run.code(), 3, "{}", run.stderr);
        assert_eq!(run.text(), "has a ticket\n", "the server has the client's ticket");
        assert_eq!(closed.events("gateway-authentication"), [right]);
        assert_eq!(closed.events("server-login"), [logged_in]);
        assert_eq!(closed.row.gateway_user, "alice");
    }
    stage.server.logged(&["Accepted gssapi-with-mic for alice"]).unwrap();
    assert_eq!(
        client.prompts().unwrap().iter().filter(|asked| asked.contains("assword")).count(),
        0
    );

    // Without delegation there is nothing to show to the server.
    let (run, closed) =
        stage.log_in(&client, &mut records, &alice, &format!("-k -p {GATEWAY_PORT}"));
    assert_eq!((run.code(), run.text().as_str()), (3, ""), "{}", run.stderr);
    assert_eq!(closed.events("server-login"), ["method=keyboard-interactive verdict=accepted"]);
    let (run, closed) = stage.log_in(&client, &mut records, &alice, &format!("-k -p {BOTH_PORT}"));
    assert_eq!((run.code(), closed.row.reason.as_str()), (255, "no-ticket"), "{}", run.stderr);
    assert!(run.stderr.contains("does not delegate a kerberos ticket"), "{}", run.stderr);
}

/// Whose ticket is good for nothing is not let in, and hears nothing of why.
#[test]
fn tickets_of_others() {
    let world = World::router().unwrap();
    let stage = Stage::start(&world);
    let mut records = Records::new(&stage.proxyd);
    let client = Client::new(&world, "alice").unwrap();
    let alice = stage.realm.ticket("alice").unwrap();
    let bob = stage.realm.ticket("bob").unwrap();
    let nobody = stage.realm.configuration();
    let cases = [
        ("another user's", &bob, BOTH_PORT, "denied"),
        ("of a realm that is not trusted", &alice, ALIEN_PORT, "denied"),
        ("none", &nobody, BOTH_PORT, "client-gone"),
    ];
    for (case, cache, port, outcome) in cases {
        let (run, closed) = stage.log_in(&client, &mut records, cache, &format!("-K -p {port}"));
        assert_eq!(run.code(), 255, "{case}: {}", run.stderr);
        assert_eq!(closed.row.outcome, outcome, "{case}: {}", closed.row.reason);
        let events = closed.events("gateway-authentication");
        let refused = ["method=gssapi-with-mic user=alice verdict=refused"];
        assert_eq!(events, if outcome == "denied" { &refused[..] } else { &[] }, "{case}");
        assert!(closed.events("server-login").is_empty(), "{case}");
    }
    // The realm knows the service, but the gateway has not its key.
    stage.realm.add_service("host/other.example.com").unwrap();
    let (run, closed) = stage.log_in(
        &client,
        &mut records,
        &alice,
        &format!("-o GSSAPIServerIdentity=other.example.com -p {BOTH_PORT}"),
    );
    assert_eq!(run.code(), 255, "{}", run.stderr);
    assert_eq!(closed.row.outcome, "denied", "{}", closed.row.reason);
    let log = stage.proxyd.log().unwrap();
    assert!(log.contains(&format!("bob@{REALM}")), "who tried is in the log");
}

/// A client that has greeted and been given the service.
fn dial(world: &World, port: u16) -> Peer {
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), port);
    let stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
    let mut peer = Peer::client(stream);
    let mut hello = Writer::message(number::SERVICE_REQUEST);
    hello.string(b"ssh-userauth");
    peer.send(hello.as_bytes());
    assert_eq!(peer.next().unwrap().first(), Some(&number::SERVICE_ACCEPT));
    peer
}

/// Offers a ticket, and waits for the word to show it.
fn offer(peer: &mut Peer) {
    peer.send(&gssapi::request(b"alice"));
    let answer = peer.next().expect("an answer to the offer");
    assert_eq!(gssapi::parse(&answer).unwrap(), gssapi::KERBEROS);
}

/// Whether the answer is that the attempt failed; none where the connection ends, which the user is
/// told.
fn failed(peer: &mut Peer) -> Option<bool> {
    let answer = peer.next()?;
    if answer.first() == Some(&number::USERAUTH_BANNER) {
        assert_eq!(peer.next(), None);
        // The gateway waits for a while for the client to go.
        drop(peer.stream.shutdown(Shutdown::Both));
        return None;
    }
    Some(answer == userauth::failure(&[gssapi::METHOD], false))
}

/// A good ticket is worth nothing without the proof over this connection and this name.
#[test]
fn proofs_of_another_connection() {
    let world = World::router().unwrap();
    let stage = Stage::start(&world);
    let mut records = Records::new(&stage.proxyd);
    let cache = stage.realm.ticket("alice").unwrap();
    let service = format!("host@{}", stage.host);
    let proofs: [(&str, fn(&[u8]) -> Vec<u8>); 4] = [
        ("another session", |_id| gssapi::covered(b"another", b"alice")),
        ("another name", |id| gssapi::covered(id, b"bob")),
        ("nothing", |_id| Vec::new()),
        ("more", |id| [gssapi::covered(id, b"alice"), b"x".to_vec()].concat()),
    ];
    for (case, covered) in proofs {
        let mut peer = dial(&world, GATEWAY_PORT);
        offer(&mut peer);
        let mut context = stage.realm.context(&cache, &service).unwrap();
        peer.send(&gssapi::token(&context.token(b"").unwrap()));
        let reply = gssapi::parse(&peer.next().unwrap()).unwrap().to_vec();
        assert!(context.token(&reply).unwrap().is_empty(), "{case}: the context is complete");
        peer.send(&gssapi::mic(&context.mic(&covered(&peer.session_id())).unwrap()));
        assert_eq!(failed(&mut peer), Some(true), "{case}");
        // The context of before serves no other attempt.
        offer(&mut peer);
        let right = gssapi::covered(&peer.session_id(), b"alice");
        peer.send(&gssapi::mic(&context.mic(&right).unwrap()));
        assert_eq!(failed(&mut peer), Some(true), "{case}, after another offer");
        peer.disconnect("that was it");
        let closed = records.next();
        assert_eq!(closed.row.outcome, "denied", "{case}");
        let events = closed.events("gateway-authentication");
        assert!(!events.iter().any(|event| event.contains("accepted")), "{case}: {events:?}");
    }
    // Attempts that are given up for another count, once a ticket was looked at.
    let mut peer = dial(&world, BOTH_PORT);
    for _time in 0..6 {
        offer(&mut peer);
        let mut context = stage.realm.context(&cache, &service).unwrap();
        peer.send(&gssapi::token(&context.token(b"").unwrap()));
        gssapi::parse(&peer.next().unwrap()).unwrap();
    }
    peer.send(&gssapi::request(b"alice"));
    assert_eq!(failed(&mut peer), None);
    assert_eq!(records.next().row.reason, "too-many-attempts");
    // The same steps with the right proof are let in, so the cases fail for what they are.
    let mut peer = dial(&world, GATEWAY_PORT);
    offer(&mut peer);
    let mut context = stage.realm.context(&cache, &service).unwrap();
    peer.send(&gssapi::token(&context.token(b"").unwrap()));
    let reply = gssapi::parse(&peer.next().unwrap()).unwrap().to_vec();
    context.token(&reply).unwrap();
    let right = gssapi::covered(&peer.session_id(), b"alice");
    peer.send(&gssapi::mic(&context.mic(&right).unwrap()));
    let further = userauth::failure(&["keyboard-interactive"], true);
    assert_eq!(peer.next(), Some(further), "the server's own login is next");
}

/// Every way to fail counts, whatever is sent for a ticket, and so do attempts given up.
#[test]
fn cheats_are_counted() {
    let world = World::router().unwrap();
    let stage = Stage::start(&world);
    let mut records = Records::new(&stage.proxyd);
    let complete = [number::USERAUTH_GSSAPI_EXCHANGE_COMPLETE];
    let junk: [(&str, Vec<u8>); 5] = [
        ("no token", gssapi::token(b"")),
        ("a token of nothing", gssapi::token(&[0xff; 4_096])),
        ("a long token", gssapi::token(&vec![0x60; GSSAPI_TOKEN_BYTES_MAX])),
        ("a proof without a context", gssapi::mic(b"proof")),
        ("complete without a proof", complete.to_vec()),
    ];
    for (case, message) in &junk {
        let mut peer = dial(&world, BOTH_PORT);
        let mut failures = 0;
        loop {
            offer(&mut peer);
            peer.send(message);
            match failed(&mut peer) {
                Some(is_failure) => assert!(is_failure, "{case}"),
                None => break,
            }
            failures += 1;
        }
        assert_eq!(failures, 5, "{case}: the sixth is the last");
        let closed = records.next();
        assert_eq!(closed.row.reason, "too-many-attempts", "{case}");
        let refused = ["method=gssapi-with-mic user=alice verdict=refused"; 6];
        assert_eq!(closed.events("gateway-authentication"), refused, "{case}");
    }
    // An attempt that is given up is not answered, and counts.
    let mut peer = dial(&world, BOTH_PORT);
    let mut error = Writer::message(number::USERAUTH_GSSAPI_ERRTOK);
    error.string(b"error");
    for _time in 0..6 {
        offer(&mut peer);
        peer.send(error.as_bytes());
    }
    assert_eq!(failed(&mut peer), None);
    assert_eq!(records.next().row.reason, "too-many-attempts");
    // What is legal only after an offer, and more than an offer is good for.
    for message in junk.iter().map(|(_case, message)| message.as_slice()).chain([error.as_bytes()])
    {
        let mut peer = dial(&world, BOTH_PORT);
        peer.send(&userauth::none_request(b"alice"));
        assert_eq!(failed(&mut peer), Some(true));
        peer.send(message);
        assert_eq!(failed(&mut peer), None);
        assert_eq!(records.next().row.outcome, "failed");
    }
    let mut peer = dial(&world, BOTH_PORT);
    offer(&mut peer);
    peer.send(&gssapi::token(&vec![0x60; GSSAPI_TOKEN_BYTES_MAX + 1]));
    assert_eq!(failed(&mut peer), None);
    assert_eq!(records.next().row.outcome, "failed");
}
