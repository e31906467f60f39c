//! Authentication with peers that say what no program says: odd rounds, expired passwords, attacks.

#![expect(clippy::wildcard_enum_match_arm, reason = "a script names what it answers, no more")]

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use e2e::peer::ssh::Client;
use e2e::peer::sshd;
use e2e::proxyd::{Proxyd, Settings};
use e2e::wait::Stopwatch;
use e2e::world::{Family, Host, World};
use proxyd_ssh::auth::acceptor::{Acceptor, Attempt, Incoming};
use proxyd_ssh::auth::connector::{Connector, Outcome};
use proxyd_ssh::cursor::Writer;
use proxyd_ssh::limits::{ANSWER_BYTES_MAX, PROMPTS_MAX};
use proxyd_ssh::message::number;
use proxyd_ssh::message::userauth::{self, CONNECTION_SERVICE, InfoRequest, Prompt};
use proxyd_ssh::transport::HostKey;

use crate::raw::Peer;
use crate::stage::{
    Auditor, GATEWAY_PASSWORD, LIMIT, OPEN, Records, STAFF, connection_on, library,
};

/// Where the server of this file listens.
const RAW_PORT: u16 = 2501;

/// The ports of the policies that lead there.
const OPEN_PORT: u16 = 2502;
const STAFF_PORT: u16 = 2503;
const ONCE_PORT: u16 = 2504;
const BOTH_PORT: u16 = 2505;

/// Serves one connection at the server's host, and gives what `script` makes of it.
fn serve<T: Send + 'static>(
    world: &World,
    key: &Arc<HostKey>,
    script: impl FnOnce(Peer, Acceptor) -> T + Send + 'static,
) -> Receiver<T> {
    let at = SocketAddr::new(world.address(Host::Server, Family::V4), RAW_PORT);
    let listener = world.server.inside(|| TcpListener::bind(at)).unwrap().unwrap();
    let (key, (done, result)) = (Arc::clone(key), channel());
    thread::spawn(move || {
        let (stream, _client) = listener.accept().unwrap();
        drop(listener);
        let peer = Peer::server(stream, key);
        let acceptor = Acceptor::new(&peer.session_id(), 100);
        done.send(script(peer, acceptor)).unwrap();
    });
    result
}

/// The next attempt or answer; none once the client is gone.
fn incoming(peer: &mut Peer, acceptor: &mut Acceptor) -> Option<Incoming> {
    loop {
        match acceptor.receive(&peer.next()?).unwrap() {
            Incoming::Reply(reply) => peer.send(&reply),
            other => return Some(other),
        }
    }
}

fn dial(world: &World, port: u16) -> Peer {
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), port);
    Peer::client(world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap())
}

fn start(world: &World) -> Proxyd<'_> {
    let auditor = Auditor::new(world, "auditor");
    let policy = |name: &str, port, lines: &str| {
        let lines = lines.replace("\"staff\"", &format!("\"{name}\""));
        connection_on(world, name, port, &lines)
            .replace("port = 22 }", &format!("port = {RAW_PORT} }}"))
    };
    let policies = [
        policy("open", OPEN_PORT, OPEN),
        policy("staff", STAFF_PORT, STAFF),
        policy("once", ONCE_PORT, STAFF),
        policy("both", BOTH_PORT, STAFF),
        library(&auditor, &[]),
        POLICIES.to_owned(),
    ]
    .concat();
    // Every host key of this file is another one.
    let policies = policies.replace("channels =", "settings = \"unchecked\"\nchannels =");
    let settings = Settings { policies: &policies, ..Settings::default() };
    Proxyd::start(world, settings).unwrap()
}

/// What a server sees that has every password changed, to one of eight letters or more.
fn change_passwords(mut peer: Peer, mut acceptor: Acceptor) -> Vec<String> {
    let mut seen = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    while let Some(Incoming::Attempt(attempt)) = incoming(&mut peer, &mut acceptor) {
        let reply = match attempt {
            Attempt::Password(password) => {
                seen.push(text(&password));
                acceptor.ask_change("It has expired.")
            }
            Attempt::PasswordChange { old, new } => {
                seen.push(format!("{} -> {}", text(&old), text(&new)));
                match new.len() {
                    8.. => vec![number::USERAUTH_SUCCESS],
                    _ => acceptor.ask_change("Too short."),
                }
            }
            _ => acceptor.reject(&["password"]).unwrap(),
        };
        peer.send(&reply);
        if reply == [number::USERAUTH_SUCCESS] {
            break;
        }
    }
    seen
}

/// An expired password is changed on its way in: by the method's own messages, or, where the user
/// came by questions, by questions.
#[test]
fn expired_passwords() {
    let world = World::router().unwrap();
    let proxyd = start(&world);
    let mut records = Records::new(&proxyd);
    let key = Arc::new(HostKey::generate_ed25519().unwrap());
    let client = Client::new(&world, "alice").unwrap();
    let host = world.address(Host::Server, Family::V4).to_string();
    type Replies = &'static [(&'static str, &'static [&'static str])];
    let cases: [(&str, u16, &str, Replies); 3] = [
        (
            "by its own messages",
            OPEN_PORT,
            "password",
            &[
                ("old password:", &[sshd::PASSWORD]),
                ("Retype", &["short", "long enough"]),
                ("new password:", &["short", "long enough"]),
                ("'s password:", &[sshd::PASSWORD]),
            ],
        ),
        (
            "by questions",
            ONCE_PORT,
            "keyboard-interactive",
            &[
                ("Current password:", &[sshd::PASSWORD]),
                ("Retype", &["other", "short", "long enough"]),
                ("New password:", &["short", "short", "long enough"]),
                ("Gateway password", &[sshd::PASSWORD]),
            ],
        ),
        (
            "by its own messages, with the gateway's password",
            ONCE_PORT,
            "password",
            &[
                ("old password:", &[sshd::PASSWORD]),
                ("Retype", &["short", "long enough"]),
                ("new password:", &["short", "long enough"]),
                ("'s password:", &[sshd::PASSWORD]),
            ],
        ),
    ];
    for (name, port, method, replies) in cases {
        let served = serve(&world, &key, change_passwords);
        let options = format!("-p {port} -l bob -o PreferredAuthentications={method}");
        let call = client.ssh().args(&options).arg(&host).arg("exit 3");
        let call = replies.iter().fold(call, |call, (ask, answers)| call.replies(ask, answers));
        let run = call.run(LIMIT).unwrap();
        let seen = served.recv_timeout(LIMIT).unwrap();
        let change = |new: &str| format!("{} -> {new}", sshd::PASSWORD);
        let expected = [sshd::PASSWORD.to_owned(), change("short"), change("long enough")];
        assert_eq!(seen, expected, "{name}: {}", run.stderr);
        let events = records.next().events("server-login");
        assert_eq!(events, ["method=password-change verdict=accepted"], "{name}");
    }
}

/// Rounds of any size pass, and every byte of the answers.
#[test]
fn rounds_pass_as_they_are() {
    let world = World::router().unwrap();
    let _proxyd = start(&world);
    let key = Arc::new(HostKey::generate_ed25519().unwrap());
    let counts = [0, 1, 5, PROMPTS_MAX, 0];
    let served = serve(&world, &key, move |mut peer, mut acceptor| {
        let mut answers = Vec::new();
        let mut round = counts.into_iter();
        while let Some(incoming) = incoming(&mut peer, &mut acceptor) {
            match incoming {
                Incoming::Attempt(Attempt::Interactive) => {}
                Incoming::Answers(given) => answers.push(given),
                _ => {
                    peer.send(&acceptor.reject(&["keyboard-interactive"]).unwrap());
                    continue;
                }
            }
            let Some(count) = round.next() else { break };
            // The machine has to know that it asks; what goes out is not text, as it would write.
            let mut request = Writer::message(number::USERAUTH_60);
            request.string(b"\xff").string(b"\x1b[2Jnow").string(b"");
            request.u32(u32::try_from(count).unwrap());
            for _prompt in 0..count {
                request.string(b"\xfe\x07? ").bool(true);
            }
            acceptor.ask(&InfoRequest::default());
            peer.send(request.as_bytes());
        }
        peer.send(&[number::USERAUTH_SUCCESS]);
        answers
    });
    let mut peer = dial(&world, OPEN_PORT);
    let (mut connector, hello) = Connector::new(b"root", &peer.session_id());
    peer.send(&hello);
    connector.receive(&peer.next().unwrap()).unwrap();
    peer.send(&connector.interactive());
    let answer = |index: usize| match index {
        // Several of the longest fit into one message.
        0 => vec![0xff; ANSWER_BYTES_MAX],
        1 => Vec::new(),
        _ => vec![0xfe, 0, 10, u8::try_from(index).unwrap()],
    };
    let mut sent = Vec::new();
    loop {
        match connector.receive(&peer.next().unwrap()).unwrap() {
            Outcome::Questions(round) => {
                assert_eq!(
                    (round.name.as_str(), round.instruction.as_str()),
                    ("\u{fffd}", "\u{fffd}[2Jnow")
                );
                let asked = Prompt { text: "\u{fffd}\u{fffd}? ".to_owned(), echo: true };
                assert!(round.prompts.iter().all(|prompt| *prompt == asked), "{round:?}");
                let answers: Vec<_> = (0..round.prompts.len()).map(answer).collect();
                peer.send(&connector.answer(&answers));
                sent.push(answers);
            }
            Outcome::Success => break,
            other => panic!("{other:?}"),
        }
    }
    let received = served.recv_timeout(LIMIT).unwrap();
    let received: Vec<Vec<Vec<u8>>> =
        received.iter().map(|round| round.iter().map(|answer| answer.to_vec()).collect()).collect();
    assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), counts);
    assert!(received == sent, "the answers changed on their way");
}

/// An attempt, or what else a client sends to be let in without a proof.
type Messages = Vec<Vec<u8>>;

/// Nothing that proves nothing is ever answered with success, and nothing of it goes on to the
/// server.
#[test]
fn no_proof_no_success() {
    let world = World::router().unwrap();
    let proxyd = start(&world);
    let mut records = Records::new(&proxyd);
    let at = SocketAddr::new(world.address(Host::Server, Family::V4), RAW_PORT);
    let listener = world.server.inside(|| TcpListener::bind(at)).unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    let mut endless = Writer::message(number::USERAUTH_INFO_RESPONSE);
    endless.u32(u32::MAX);
    let mut query = Writer::message(number::USERAUTH_REQUEST);
    query.string(b"alice").string(CONNECTION_SERVICE).string(b"publickey").bool(false);
    query.string(b"ssh-ed25519").string(b"blob");
    let none = || userauth::none_request(b"alice");
    let password = |user: &[u8], password: &str| {
        userauth::password_request(user, password.as_bytes()).to_vec()
    };
    let interactive = || userauth::interactive_request(b"alice");
    let answers = |answers: &[&str]| userauth::info_response(answers).to_vec();
    let long = vec![b'a'; 200_000];
    let mut session = Writer::message(number::CHANNEL_OPEN);
    session.string(b"session").u32(0).u32(65_536).u32(32_768);
    let mut forward = Writer::message(number::CHANNEL_OPEN);
    forward.string(b"direct-tcpip").u32(0).u32(65_536).u32(32_768);
    forward.string(b"10.77.2.3").u32(22).string(b"10.77.1.2").u32(4_711);
    let half = |message: &[u8]| vec![password(b"alice", GATEWAY_PASSWORD), message.to_vec()];
    let cases: [(&str, u16, Messages); 16] = [
        ("nothing, for ever", STAFF_PORT, vec![none(); 2_500]),
        ("wrong passwords", STAFF_PORT, vec![password(b"alice", "wrong"); 50]),
        ("questions about keys", STAFF_PORT, vec![query.as_bytes().to_vec(); 100]),
        ("no answers", STAFF_PORT, vec![interactive(), answers(&[])]),
        ("two answers", STAFF_PORT, vec![interactive(), answers(&[GATEWAY_PASSWORD; 2])]),
        ("answers to nothing", STAFF_PORT, vec![none(), answers(&[GATEWAY_PASSWORD])]),
        ("answers without end", STAFF_PORT, vec![interactive(), endless.as_bytes().to_vec()]),
        ("success from the client", STAFF_PORT, vec![none(), vec![number::USERAUTH_SUCCESS]]),
        ("message 60 from the client", STAFF_PORT, vec![none(), vec![number::USERAUTH_60]]),
        ("message 66 from the client", STAFF_PORT, vec![none(), vec![66]]),
        ("a channel", STAFF_PORT, vec![none(), vec![number::CHANNEL_OPEN]]),
        ("a name of 200 kB", STAFF_PORT, vec![userauth::none_request(&long)]),
        (
            "one user's password, another's name",
            BOTH_PORT,
            vec![password(b"alice", GATEWAY_PASSWORD), password(b"bob", sshd::PASSWORD)],
        ),
        ("one proof of two, and a session", BOTH_PORT, half(session.as_bytes())),
        ("one proof of two, and a forward", BOTH_PORT, half(forward.as_bytes())),
        ("one proof of two", BOTH_PORT, vec![password(b"alice", GATEWAY_PASSWORD), none()]),
    ];
    for (name, port, messages) in cases {
        let mut peer = dial(&world, port);
        let (_connector, hello) = Connector::new(b"alice", &peer.session_id());
        peer.send(&hello);
        for message in messages {
            peer.send(&message);
        }
        peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
        let clock = Stopwatch::start();
        while let Some(message) = peer.next() {
            assert_ne!(message.first(), Some(&number::USERAUTH_SUCCESS), "{name}");
        }
        assert!(clock.elapsed() < LIMIT, "{name}");
        let row = records.next().row;
        assert_ne!(row.outcome, "completed", "{name}");
        assert_eq!(row.target, "", "{name}");
        let connected = listener.accept().map(|_connection| ());
        let error = connected.expect_err(name);
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock, "{name}");
    }
}

const POLICIES: &str = r#"
[[settings_policy]]
name = "unchecked"
protocol = "ssh"
server_side = { host_key_check = "off" }

[[authentication_policy]]
name = "once"
gateway = [{ method = "password", backend = "local" }]
server = ["password", "keyboard-interactive"]

[[authentication_policy]]
name = "both"
gateway = [{ method = "password", backend = "local" }, { method = "publickey", backend = "local" }]
gateway_require = "all"
"#;
