//! A second implementation of SSH on either side of the gateway, with the key exchanges that the
//! installed OpenSSH may lack.

use std::borrow::Cow;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};
use russh::keys::{PrivateKey, PublicKeyOrCertificate, load_secret_key};
use russh::server::{Auth, ChannelOpenHandle, Msg, Session};
use russh::{Channel, ChannelId, ChannelMsg, Preferred, Sig, client, kex, server};
use tokio::runtime::{Builder, Runtime};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library, pattern};

/// Where the server of this file listens, and what the policy sends there.
const RUSSH_PORT: u16 = 2501;

/// Bytes that go there and back.
const ECHO_BYTES: usize = 3 * 1024 * 1024;

/// The key exchanges that are tried, one at a time.
const KEXES: [kex::Name; 3] =
    [kex::MLKEM768X25519_SHA256, kex::CURVE25519, kex::CURVE25519_PRE_RFC_8731];

#[test]
fn russh_on_either_side() {
    let world = World::router().unwrap();
    let opensshd = Sshd::start(&world).unwrap();
    let user = Client::new(&world, "alice").unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let to_russh = connection_on(&world, "russh", RUSSH_PORT, OPEN)
        .replace("port = 22 }", &format!("port = {RUSSH_PORT} }}"));
    let policies = connection(&world, "openssh", OPEN) + &to_russh + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let mut records = Records::new(&proxyd);
    let address = world.address(Host::Server, Family::V4);
    let (host_key, _public) = user.make_key("host", "ed25519").unwrap();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    for name in KEXES {
        let seen = serve(&runtime, &world, &host_key, name);
        for port in [22, RUSSH_PORT] {
            let to = SocketAddr::new(address, port);
            let stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
            let case = format!("{name:?} to port {port}");
            runtime.block_on(async {
                let talked = tokio::time::timeout(LIMIT, talk(stream, name)).await;
                talked.unwrap_or_else(|_elapsed| panic!("{case} took too long")).expect(&case);
            });
            let closed = records.next();
            assert_eq!(closed.row.outcome, "completed", "{case}: {}", closed.row.reason);
            assert!(closed.events("client-hello")[0].contains("russh"), "{case}");
        }
        assert_eq!(*seen.lock().unwrap(), ["alice cat"], "{name:?}");

        // And OpenSSH's client to this server.
        let call = user.ssh().args(&format!("-p {RUSSH_PORT}")).arg(format!("alice@{address}"));
        let call = call.arg("cat").input("typed").unwrap();
        let run = call.reply(sshd::ASKS, sshd::PASSWORD).run(LIMIT).unwrap();
        assert_eq!((run.code(), run.text()), (6, "typed".to_owned()), "{}", run.stderr);
        assert_eq!(records.next().row.outcome, "completed");
    }
    opensshd.logged(&["Accepted", "for alice"]).unwrap();
}

/// Logs in by password, sends a lot to `cat` and gets it back; the exit status is its.
async fn talk(stream: TcpStream, name: kex::Name) -> Result<(), russh::Error> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let config = Arc::new(client::Config { preferred: only(name), ..client::Config::default() });
    let mut session = client::connect_stream(config, stream, AnyKey).await?;
    assert!(session.authenticate_password("alice", sshd::PASSWORD).await?.success());
    let mut channel = session.channel_open_session().await?;
    channel.exec(true, "cat").await?;
    let sent = pattern(ECHO_BYTES);
    let mut writer = channel.make_writer();
    let sending = {
        let sent = sent.clone();
        async move {
            use tokio::io::AsyncWriteExt as _;
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        }
    };
    let receiving = async {
        let (mut received, mut status) = (Vec::new(), None);
        while let Some(message) = channel.wait().await {
            if let ChannelMsg::Data { data } = message {
                received.extend_from_slice(&data);
            } else if let ChannelMsg::ExitStatus { exit_status } = message {
                status = Some(exit_status);
            }
        }
        (received, status)
    };
    let ((), (received, status)) = tokio::join!(sending, receiving);
    assert!(received == sent, "{} bytes came back", received.len());
    assert!(matches!(status, Some(0 | 6)), "{status:?}");
    session.disconnect(russh::Disconnect::ByApplication, "done", "").await
}

/// A signal from the client reaches the program, and that it ended by it comes back.
#[test]
fn signals_both_ways() {
    let world = World::router().unwrap();
    let _server = Sshd::start(&world).unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "openssh", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), 22);
    let stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
    // The connection is driven, and taken down, beside the wait for its record.
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let ended = runtime.block_on(async { tokio::time::timeout(LIMIT, interrupt(stream)).await });
    let signal = ended.unwrap().unwrap();
    assert!(matches!(signal, Some(Sig::TERM)), "{signal:?}");
    assert_eq!(Records::new(&proxyd).next().row.outcome, "completed");
}

/// Starts a program that would run for long, and sends it SIGTERM: the signal it ended by.
async fn interrupt(stream: TcpStream) -> Result<Option<Sig>, russh::Error> {
    stream.set_nonblocking(true)?;
    let stream = tokio::net::TcpStream::from_std(stream)?;
    let mut session = client::connect_stream(Arc::default(), stream, AnyKey).await?;
    assert!(session.authenticate_password("alice", sshd::PASSWORD).await?.success());
    let mut channel = session.channel_open_session().await?;
    channel.exec(true, "echo up; exec sleep 60").await?;
    let mut signal = None;
    while let Some(message) = channel.wait().await {
        if let ChannelMsg::Data { .. } = message {
            channel.signal(Sig::TERM).await?;
        } else if let ChannelMsg::ExitSignal { signal_name, .. } = message {
            signal = Some(signal_name);
        }
    }
    session.disconnect(russh::Disconnect::ByApplication, "done", "").await?;
    Ok(signal)
}

/// Only this key exchange, and what else goes into that list.
fn only(name: kex::Name) -> Preferred {
    let names = vec![
        name,
        kex::EXTENSION_SUPPORT_AS_CLIENT,
        kex::EXTENSION_SUPPORT_AS_SERVER,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_CLIENT,
        kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER,
    ];
    Preferred { kex: Cow::Owned(names), ..Preferred::default() }
}

/// A client that takes whatever key it is shown.
struct AnyKey;

impl client::Handler for AnyKey {
    type Error = russh::Error;

    async fn check_server_key(&mut self, _: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        Ok(true)
    }
}

/// Who ran what.
type Seen = Arc<Mutex<Vec<String>>>;

/// Starts a server with one key exchange; it serves two connections and notes what they run.
fn serve(runtime: &Runtime, world: &World, host_key: &Path, name: kex::Name) -> Seen {
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), RUSSH_PORT);
    let listener = world.server.inside(|| TcpListener::bind(to)).unwrap().unwrap();
    listener.set_nonblocking(true).unwrap();
    let key: PrivateKey = load_secret_key(host_key, None).unwrap();
    let config = Arc::new(server::Config {
        keys: vec![key],
        preferred: only(name),
        auth_rejection_time: Duration::ZERO,
        ..server::Config::default()
    });
    let seen = Seen::default();
    let noted = Arc::clone(&seen);
    runtime.spawn(async move {
        let listener = tokio::net::TcpListener::from_std(listener).unwrap();
        for _connection in 0..2 {
            let (stream, _peer) = listener.accept().await.unwrap();
            let server = Echo { user: String::new(), seen: Arc::clone(&noted) };
            let config = Arc::clone(&config);
            // The port is free again for the next server once both are served.
            let session = server::run_stream(config, stream, server).await.unwrap();
            drop(session.await);
        }
    });
    seen
}

/// A server on which every program is `cat`, and ends with 6.
struct Echo {
    user: String,
    seen: Seen,
}

impl server::Handler for Echo {
    type Error = russh::Error;

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, Self::Error> {
        user.clone_into(&mut self.user);
        Ok(if password == sshd::PASSWORD { Auth::Accept } else { Auth::reject() })
    }

    async fn channel_open_session(
        &mut self,
        _channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        command: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        let line = format!("{} {}", self.user, String::from_utf8_lossy(command));
        self.seen.lock().unwrap().push(line);
        session.channel_success(channel)
    }

    async fn data(
        &mut self,
        channel: ChannelId,
        data: &[u8],
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.data(channel, data.to_vec())
    }

    async fn channel_eof(
        &mut self,
        channel: ChannelId,
        session: &mut Session,
    ) -> Result<(), Self::Error> {
        session.exit_status_request(channel, 6)?;
        session.eof(channel)?;
        session.close(channel)
    }
}
