//! Connections per second to a server that accepts and closes: directly, steered to a transparent
//! listener of the gateway, and given to the same kind of listener by a TPROXY rule.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use aya::maps::{Array, Map, MapData, SockMap};
use e2e::wait::Stopwatch;
use nix::libc::linger;
use nix::sys::socket::{setsockopt, sockopt};
use steering_common::limits::{LISTENER_V4, SOCKET_MARK};

use super::frames::PORT;
use super::gateway::{Gateway, Table};
use super::rulesets::{nft, tproxy};
use super::topology::{Lab, ROUTE_TABLE, SERVER_V4, Scratch, pin, working_cpu};
use crate::bench::report::{Report, median};

/// Connections of one measurement, one after the other; fewer than there are local ports.
const CONNECTIONS: u32 = 3000;

/// Measurements of each subject, in turns.
const ROUNDS: usize = 5;

/// A heartbeat that never grows old.
const ALIVE_FOR_EVER: u64 = u64::MAX;

/// A lab and its listener.
struct Subject<'l> {
    name: &'static str,
    lab: &'l Lab,
    listener: TcpListener,
}

/// Measures all three, in turns.
pub(super) fn measure(scratch: &Scratch, report: &mut Report) -> Result<()> {
    let labs = [Lab::new()?, Lab::new()?, Lab::new()?];
    let [direct, ruled, steered] = &labs;
    let at_server = direct.server.inside(|| Ok(TcpListener::bind((SERVER_V4, PORT))?))?;
    let at_gateway = transparent(ruled)?;
    let rules = tproxy(&SERVER_V4.to_string(), at_gateway.local_addr()?.port());
    nft(ruled, scratch, &rules)?;
    ruled.gateway.ip(&format!("route add local default dev lo table {ROUTE_TABLE}"))?;
    let at_proxy = transparent(steered)?;
    let mut gateway = Gateway::new(steered, scratch, "connections", Table::Server(0), "")?;
    gateway.start()?;
    gateway.kill()?;
    register(&gateway, &at_proxy)?;
    let subjects = [
        Subject { name: "direct", lab: direct, listener: at_server },
        Subject { name: "nft tproxy", lab: ruled, listener: at_gateway },
        Subject { name: "proxyd's steering", lab: steered, listener: at_proxy },
    ];
    let mut rates = [const { Vec::new() }; 3];
    for _ in 0..ROUNDS {
        for (subject, rates) in subjects.iter().zip(&mut rates) {
            rates.push(subject.rate().with_context(|| format!("connections, {}", subject.name))?);
        }
    }
    let baseline = median(&rates[0])?;
    let mut case = report.case("connections");
    for (subject, rates) in subjects.iter().zip(&rates) {
        let rate = median(rates)?;
        println!("connections: {}: {rate:.0} a second", subject.name);
        case.compared(subject.name, ("rate", "1/s"), rate, baseline);
    }
    Ok(())
}

/// A listener of the gateway's that takes connections to any address.
fn transparent(lab: &Lab) -> Result<TcpListener> {
    lab.gateway.inside(|| {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        setsockopt(&listener, sockopt::IpTransparent, &true)?;
        setsockopt(&listener, sockopt::Mark, &SOCKET_MARK)?;
        Ok(listener)
    })
}

/// Puts a listener in the place of the daemon's, which is gone.
fn register(gateway: &Gateway<'_>, listener: &TcpListener) -> Result<()> {
    let open =
        |name| -> Result<Map> { Ok(Map::from_map_data(MapData::from_pin(gateway.map(name)?)?)?) };
    let mut listeners = SockMap::try_from(open("LISTENERS")?)?;
    listeners.set(LISTENER_V4, listener, 0)?;
    let mut heartbeat: Array<_, u64> = open("HEARTBEAT")?.try_into()?;
    heartbeat.set(0, ALIVE_FOR_EVER, 0)?;
    Ok(())
}

impl Subject<'_> {
    /// Connections per second, one after the other.
    fn rate(&self) -> Result<f64> {
        thread::scope(|scope| {
            let server = scope.spawn(|| accept(&self.listener));
            let connected = self.lab.client.inside(connect)?;
            server.join().map_err(|_panic| anyhow!("the server panicked"))??;
            Ok(connected)
        })
    }
}

/// Accepts and closes, with a reset: no port stays in use afterwards.
fn accept(listener: &TcpListener) -> Result<()> {
    pin(0)?;
    for _ in 0..CONNECTIONS {
        let (stream, _peer) = listener.accept()?;
        setsockopt(&stream, sockopt::Linger, &linger { l_onoff: 1, l_linger: 0 })?;
    }
    Ok(())
}

fn connect() -> Result<f64> {
    pin(working_cpu())?;
    let clock = Stopwatch::start();
    for _ in 0..CONNECTIONS {
        let mut stream = TcpStream::connect(SocketAddr::from((SERVER_V4, PORT)))?;
        // The end, or the reset that is one.
        let _closed = stream.read(&mut [0]);
    }
    Ok(f64::from(CONNECTIONS) / clock.elapsed().as_secs_f64())
}
