//! Somebody on the wire who adds packets before there are keys, and takes away those after: a
//! prefix of the secure channel cannot be cut, on either leg. Row 1 of the table of attacks in
//! `docs/ssh.md`.

use std::io::{Read, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::proxyd::{Proxyd, Settings};
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, connection_on, library};

/// The port of the policy that leads to the one in the middle between gateway and server.
const TO_MIDDLE_PORT: u16 = 2601;
/// Where that one listens, and where the one between client and gateway does.
const MIDDLE_PORT: u16 = 2602;

/// Message numbers (RFC 4253 section 12).
const IGNORE: u8 = 2;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;

/// Bytes of the tag behind a packet under AES-GCM, whose length can be read (RFC 5647).
const TAG_BYTES: usize = 16;

/// What is done to what one side sends to the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// Nothing.
    Watch,
    /// An ignored message goes before the first packet.
    AddBeforeOffer,
    /// An ignored message goes before the new keys.
    AddBeforeKeys,
    /// An ignored message goes before the new keys, and the first packet under them is taken away:
    /// without strict key exchange, sequence numbers fit (CVE-2023-48795).
    CutPrefix,
    /// The first packet under the new keys is taken away.
    CutFirst,
    /// The first packet under the new keys goes twice.
    Double,
}

/// On which leg the one in the middle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Client,
    Server,
}

/// A deed on a leg, and words of the reason in the record; without them nothing happens.
///
/// A client says nothing after its first packet until it has an answer, so that a cut alone is not
/// tried there: it would be two sides that wait for each other.
const CASES: &[(Deed, Leg, Option<&str>)] = &[
    (Deed::Watch, Leg::Client, None),
    (Deed::Watch, Leg::Server, None),
    (Deed::AddBeforeOffer, Leg::Client, Some("1 packets before the first key exchange message")),
    (Deed::AddBeforeOffer, Leg::Server, Some("1 packets before the first key exchange message")),
    (Deed::AddBeforeKeys, Leg::Client, Some("message 2 is not legal")),
    (Deed::AddBeforeKeys, Leg::Server, Some("message 2 is not legal")),
    (Deed::CutPrefix, Leg::Client, Some("message 2 is not legal")),
    (Deed::CutPrefix, Leg::Server, Some("message 2 is not legal")),
    (Deed::CutFirst, Leg::Server, Some("fails its integrity check")),
    (Deed::Double, Leg::Client, Some("fails its integrity check")),
    (Deed::Double, Leg::Server, Some("fails its integrity check")),
];

#[test]
fn prefixes_cannot_be_cut() {
    let world = World::router().unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let lines = OPEN.replace("channels =", "settings = \"gcm\"\nchannels =");
    let to_middle = connection_on(&world, "middle", TO_MIDDLE_PORT, &lines)
        .replace("port = 22 }", &format!("port = {MIDDLE_PORT} }}"));
    let policies = connection(&world, "open", OPEN) + &to_middle + &library(&auditor, &[]) + GCM;
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let _server = Sshd::start(&world).unwrap();
    let mut records = Records::new(&proxyd);
    let user = Client::new(&world, "alice").unwrap();
    let host = world.address(Host::Server, Family::V4);
    for &(deed, leg, reason) in CASES {
        let case = format!("{deed:?} on the leg of the {leg:?}");
        let (at, port) = match leg {
            Leg::Client => ("127.0.0.1".to_owned(), MIDDLE_PORT),
            Leg::Server => (host.to_string(), TO_MIDDLE_PORT),
        };
        let middle = stand_between(&world, leg, deed);
        let options = "-c aes128-gcm@openssh.com -o NoHostAuthenticationForLocalhost=yes";
        let call = user.ssh().args(options).args(&format!("-p {port}")).arg("-l").arg("alice");
        let call = call.arg(at).arg("exit 3").reply(sshd::ASKS, sshd::PASSWORD);
        let run = call.run(LIMIT).unwrap();
        middle.join().unwrap();
        let row = records.next().row;
        let end = (run.code(), row.outcome.as_str());
        match reason {
            None => assert_eq!(end, (3, "completed"), "{case}: {}", row.reason),
            Some(words) => {
                assert_eq!(end, (255, "failed"), "{case}");
                assert!(row.reason.contains(words), "{case}: {}", row.reason);
            }
        }
    }
}

/// A cipher on the servers' leg whose packets show their length.
const GCM: &str = r#"
[[settings_policy]]
name = "gcm"
protocol = "ssh"
server_side = { ciphers = ["aes128-gcm@openssh.com"], host_key_check = "off" }
"#;

/// Takes one connection and hands it on, to the gateway or to the server; the `deed` is done to
/// what the gateway reads from the peer.
fn stand_between(world: &World, leg: Leg, deed: Deed) -> thread::JoinHandle<()> {
    let host = world.address(Host::Server, Family::V4);
    let (namespace, at, to) = match leg {
        Leg::Client => (&world.client, ([127, 0, 0, 1], MIDDLE_PORT).into(), sshd::PORT),
        Leg::Server => (&world.server, SocketAddr::new(host, MIDDLE_PORT), sshd::UNMATCHED_PORT),
    };
    let to = SocketAddr::new(host, to);
    let listener = namespace.inside(|| TcpListener::bind(at)).unwrap().unwrap();
    let onward = namespace.inside(|| TcpStream::connect(to)).unwrap().unwrap();
    thread::spawn(move || {
        let (near, _from) = listener.accept().unwrap();
        let (peer, gateway) = match leg {
            Leg::Client => (near, onward),
            Leg::Server => (onward, near),
        };
        let (mut from_gateway, mut to_peer) =
            (gateway.try_clone().unwrap(), peer.try_clone().unwrap());
        thread::scope(|scope| {
            scope.spawn(move || {
                // Either side may break off.
                drop(std::io::copy(&mut from_gateway, &mut to_peer));
                drop(to_peer.shutdown(Shutdown::Both));
            });
            drop(tamper(&peer, &gateway, deed));
            drop(gateway.shutdown(Shutdown::Write));
        });
    })
}

/// Hands on what the peer sends, and does the deed.
fn tamper(mut from: &TcpStream, mut to: &TcpStream, deed: Deed) -> std::io::Result<()> {
    let mut line = Vec::new();
    while line.last() != Some(&b'\n') {
        line.push(read_bytes(from, 1)?[0]);
    }
    to.write_all(&line)?;
    loop {
        let packet = read_packet(from, 0)?;
        let add = match packet[5] {
            KEXINIT => deed == Deed::AddBeforeOffer,
            NEWKEYS => matches!(deed, Deed::AddBeforeKeys | Deed::CutPrefix),
            _ => false,
        };
        if add {
            // Length, padding length, an empty IGNORE, and padding to a multiple of eight.
            to.write_all(&[0, 0, 0, 12, 6, IGNORE, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])?;
        }
        to.write_all(&packet)?;
        if packet[5] == NEWKEYS {
            break;
        }
    }
    let first = read_packet(from, TAG_BYTES)?;
    if !matches!(deed, Deed::CutPrefix | Deed::CutFirst) {
        to.write_all(&first)?;
    }
    if deed == Deed::Double {
        to.write_all(&first)?;
    }
    std::io::copy(&mut from, &mut to).map(drop)
}

/// A packet with its length before it and so many bytes behind it.
fn read_packet(from: &TcpStream, behind: usize) -> std::io::Result<Vec<u8>> {
    let mut packet = read_bytes(from, 4)?;
    let length = u32::from_be_bytes(packet[..4].try_into().unwrap());
    packet.extend(read_bytes(from, usize::try_from(length).unwrap() + behind)?);
    Ok(packet)
}

fn read_bytes(mut from: impl Read, count: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; count];
    from.read_exact(&mut bytes)?;
    Ok(bytes)
}
