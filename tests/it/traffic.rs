//! Traffic beside what is tested: flows that no policy names, and matched connections that are
//! opened all the time.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use e2e::process::Process;
use e2e::wait::Stopwatch;
use e2e::world::{Family, Host, World};

use crate::stage::LIMIT;

/// No policy names this port.
const OTHER_PORT: u16 = 7000;

/// How long a round trip of unmatched traffic may take on a busy machine.
const ROUND_TRIP_MAX: Duration = Duration::from_secs(1);

/// Threads that open connections, of each IP version.
const OPENERS: usize = 2;

/// What the client says before its key exchange.
const CLIENT_VERSION: &[u8] = b"SSH-2.0-test\r\n";

/// Does `work` while a TCP flow and pings pass that no policy names; none of them may notice.
pub(crate) fn beside_unmatched_traffic(world: &World, work: impl FnOnce()) {
    let to = SocketAddr::new(world.address(Host::Server, Family::V4), OTHER_PORT);
    let mut ping = world.client.command("ping");
    ping.args(["-i", "0.05", &to.ip().to_string()]);
    let ping = Process::start(&mut ping, "ping", world.directory()).unwrap();
    let listener = world.server.inside(|| TcpListener::bind(to)).unwrap().unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let (stream, _peer) = listener.accept().unwrap();
            let (mut reader, mut writer) = (&stream, &stream);
            std::io::copy(&mut reader, &mut writer).unwrap();
        });
        let flow = scope.spawn(|| round_trips(world, to, &done));
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Release);
        let (count, slowest) = flow.join().unwrap();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        assert!(count > 100, "{count} round trips");
        assert!(slowest < ROUND_TRIP_MAX, "a round trip took {slowest:?}");
    });
    ping.signal(nix::sys::signal::Signal::SIGINT).unwrap();
    let pinged = ping.finish(LIMIT).unwrap().text();
    assert!(pinged.contains(" 0% packet loss"), "{pinged}");
}

/// Sends numbers over one TCP connection and gets each back, until `done`: how many, and the
/// longest time one took.
fn round_trips(world: &World, to: SocketAddr, done: &AtomicBool) -> (u64, Duration) {
    let mut stream = world.client.inside(|| TcpStream::connect(to)).unwrap().unwrap();
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut count, mut slowest) = (0_u64, Duration::ZERO);
    while !done.load(Ordering::Acquire) {
        let clock = Stopwatch::start();
        stream.write_all(&count.to_be_bytes()).unwrap();
        let mut back = [0; 8];
        stream.read_exact(&mut back).unwrap();
        assert_eq!(u64::from_be_bytes(back), count);
        slowest = slowest.max(clock.elapsed());
        count += 1;
        thread::park_timeout(Duration::from_millis(2));
    }
    (count, slowest)
}

/// Opens connections to the server's `port` while `work` is done, each up to the gateway's key
/// exchange; gives how many there were. None may fail.
pub(crate) fn while_connections_are_opened(world: &World, port: u16, work: impl FnOnce()) -> usize {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let openers: Vec<_> = Family::ALL
            .into_iter()
            .flat_map(|family| [family; OPENERS])
            .map(|family| {
                let (to, done) =
                    (SocketAddr::new(world.address(Host::Server, family), port), &done);
                scope.spawn(move || world.client.inside(|| open_until(to, done)).unwrap())
            })
            .collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        done.store(true, Ordering::Release);
        let opened: Vec<_> = openers.into_iter().map(|opener| opener.join().unwrap()).collect();
        if let Err(panic) = outcome {
            std::panic::resume_unwind(panic);
        }
        let failed: Vec<_> = opened.iter().flat_map(|(_count, failed)| failed).collect();
        assert!(failed.is_empty(), "{} connections failed: {failed:#?}", failed.len());
        opened.iter().map(|(count, _failed)| count).sum()
    })
}

/// How many connections were opened, and why some were not.
fn open_until(to: SocketAddr, done: &AtomicBool) -> (usize, Vec<String>) {
    let (mut count, mut failed) = (0, Vec::new());
    while !done.load(Ordering::Acquire) {
        count += 1;
        if let Err(error) = open_one(to) {
            failed.push(format!("{to}: {error:#}"));
        }
    }
    (count, failed)
}

fn open_one(to: SocketAddr) -> anyhow::Result<()> {
    let stream = TcpStream::connect_timeout(&to, LIMIT).context("no connection")?;
    stream.set_read_timeout(Some(LIMIT))?;
    (&stream).write_all(CLIENT_VERSION).context("nothing can be sent")?;
    let mut reader = BufReader::new(&stream);
    let mut said = String::new();
    reader.read_line(&mut said).context("no version")?;
    ensure!(said.starts_with("SSH-2.0-") && said.contains("proxyd"), "the gateway said {said:?}");
    // Length, padding length and the number of SSH_MSG_KEXINIT (RFC 4253 sections 6 and 7.1).
    let mut packet = [0; 6];
    reader.read_exact(&mut packet).context("no key exchange")?;
    ensure!(packet[5] == 20, "message {} is no key exchange", packet[5]);
    Ok(())
}
