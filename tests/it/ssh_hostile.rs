//! Hostile peers before there are keys, on both legs: each is gone soon, the record says why, and
//! nobody else notices. Rows are those of the table of attacks in `docs/ssh.md`.

use std::io::Write as _;
use std::net::{Shutdown, TcpStream};
use std::thread;

use e2e::wait::Stopwatch;
use e2e::world::World;
use proxyd_ssh::cursor::Writer;

use crate::raw::read_to_end;
use crate::siege::{HANDSHAKE_LIMIT, SOON, Siege};

/// Message numbers of the transport (RFC 4253 section 12, RFC 8308 section 2.3).
const IGNORE: u8 = 2;
const SERVICE_REQUEST: u8 = 5;
const EXT_INFO: u8 = 7;
const KEXINIT: u8 = 20;
const NEWKEYS: u8 = 21;
/// What a client sends first in a key exchange, and what the server answers.
const KEX_INIT: u8 = 30;
const KEX_REPLY: u8 = 31;
/// Of the layers above.
const USERAUTH_REQUEST: u8 = 50;
const CHANNEL_OPEN: u8 = 90;

const VERSION: &[u8] = b"SSH-2.0-raw\r\n";

const CURVE25519: &str = "curve25519-sha256";
const MLKEM: &str = "mlkem768x25519-sha256";
const GROUP14: &str = "diffie-hellman-group14-sha256";

/// Group 14 without its last byte, 0xff (RFC 3526 section 3): p - 1 ends with 0xfe.
const GROUP14_BYTES: &str = "\
    ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404\
    ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a637ed6b0bff5cb6f406\
    b7edee386bfb5a899fa5ae9f24117c4b1fe649286651ece45b3dc2007cb8a163bf0598da48361c55d39a69163fa8fd\
    24cf5f83655d23dca3ad961c62f356208552bb9ed529077096966d670c354e4abc9804f1746c08ca18217c32905e46\
    2e36ce3be39e772c180e86039b2783a2ec07a28fb5c55df06f4c52c9de2bcbf6955817183995497cea956ae515d226\
    1898fa051015728e5a8aacaa68ffffffffffffff";

/// Which leg is attacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hostile {
    Client,
    Server,
}

/// What a peer sends, from its first byte on.
struct Case {
    name: &'static str,
    bytes: fn(Hostile) -> Vec<u8>,
    /// Words of the reason in the record, where a client and where a server sends it.
    reasons: [&'static str; 2],
}

const CASES: &[Case] = &[
    // Versions and greetings (row 4).
    Case {
        name: "a version without an end",
        bytes: |_| vec![b'A'; 2_000_000],
        reasons: ["not-this-protocol", "line of the version exchange exceeds 1024 bytes"],
    },
    Case {
        name: "ten thousand lines before the version",
        bytes: |_| b"a line\r\n".repeat(10_000),
        reasons: ["not-this-protocol", "more than 20 lines"],
    },
    Case {
        name: "a version with a NUL",
        bytes: |_| b"SSH-2.0-a\0b\r\n".to_vec(),
        reasons: ["not-this-protocol", "byte 0x00"],
    },
    Case {
        name: "version 1.5",
        bytes: |_| b"SSH-1.5-old\r\n".to_vec(),
        reasons: ["not-this-protocol", "does not speak ssh 2"],
    },
    // Lengths (row 2).
    Case {
        name: "length 0",
        bytes: |_| length(0),
        reasons: ["packet length 0 is not", "packet length 0 is not"],
    },
    Case {
        name: "length 1",
        bytes: |_| length(1),
        reasons: ["packet length 1 is not", "packet length 1 is not"],
    },
    Case {
        name: "length 5",
        bytes: |_| length(5),
        reasons: ["packet length 5 is not", "packet length 5 is not"],
    },
    Case {
        name: "length 2^31-1",
        bytes: |_| length(0x7fff_ffff),
        reasons: ["packet length 2147483647 is not", "packet length 2147483647 is not"],
    },
    Case {
        name: "a length that is no multiple of the block",
        bytes: |_| length(17),
        reasons: ["packet length 17 is not", "packet length 17 is not"],
    },
    Case {
        name: "more padding than packet",
        bytes: |_| [VERSION, &[0, 0, 0, 12, 200], &[0; 11]].concat(),
        reasons: ["padding of 200 bytes", "padding of 200 bytes"],
    },
    Case {
        name: "padding of three bytes",
        bytes: |_| [VERSION, &[0, 0, 0, 12, 3], &[IGNORE; 11]].concat(),
        reasons: ["padding of 3 bytes", "padding of 3 bytes"],
    },
    // Messages out of their turn (rows 1, 10, 12, 15, 17).
    Case {
        name: "ignored messages before the key exchange",
        bytes: |_| messages(&vec![vec![IGNORE, 0, 0, 0, 0]; 20_000]),
        reasons: ["more than 64 ignorable messages", "more than 64 ignorable messages"],
    },
    Case {
        name: "new keys first",
        bytes: |_| messages(&[vec![NEWKEYS]]),
        reasons: ["message 21 is not legal", "message 21 is not legal"],
    },
    Case {
        name: "a service before the keys",
        bytes: |from| {
            let mut request = Writer::message(SERVICE_REQUEST);
            request.string(b"ssh-userauth");
            messages(&[offer(from, CURVE25519), request.as_bytes().to_vec()])
        },
        reasons: ["message 5 is not legal", "message 5 is not legal"],
    },
    Case {
        name: "an attempt to log in before the keys",
        bytes: |from| messages(&[offer(from, CURVE25519), vec![USERAUTH_REQUEST]]),
        reasons: ["message 50 is not legal", "message 50 is not legal"],
    },
    Case {
        name: "a channel before the key exchange",
        bytes: |_| messages(&[vec![CHANNEL_OPEN, 0, 0, 0, 0]]),
        reasons: ["message 90 is not legal", "message 90 is not legal"],
    },
    Case {
        name: "extensions before the keys",
        bytes: |from| messages(&[offer(from, CURVE25519), vec![EXT_INFO, 0, 0, 0, 0]]),
        reasons: ["message 7 is not legal", "message 7 is not legal"],
    },
    Case {
        name: "two offers",
        bytes: |from| messages(&[offer(from, CURVE25519), offer(from, CURVE25519)]),
        reasons: ["message 20 is not legal", "message 20 is not legal"],
    },
    // Offers (rows 3, 5, 11).
    Case {
        name: "ten thousand names in an offer",
        bytes: |from| messages(&[offer(from, &"a,".repeat(10_000))]),
        reasons: ["exceed the limit of 8192", "exceed the limit of 8192"],
    },
    Case {
        name: "an offer of nothing",
        bytes: |from| messages(&[offer(from, "")]),
        reasons: ["no common key exchange method", "no common key exchange method"],
    },
    Case {
        name: "an offer of a cipher without a MAC",
        bytes: |from| messages(&[offer_of(from, [CURVE25519, "aes128-ctr", "none", "none"])]),
        reasons: ["no common mac", "no common mac"],
    },
    Case {
        name: "an offer of no cipher at all",
        bytes: |from| messages(&[offer_of(from, [CURVE25519, "none", "hmac-sha2-256", "none"])]),
        reasons: ["no common cipher", "no common cipher"],
    },
    Case {
        name: "an offer of nothing uncompressed",
        bytes: |from| {
            let names = [CURVE25519, "aes128-gcm@openssh.com", "hmac-sha2-256", "zlib"];
            messages(&[offer_of(from, names)])
        },
        reasons: ["no common compression", "no common compression"],
    },
    Case {
        name: "a list that claims to be longer than its packet",
        bytes: |_| {
            let mut message = vec![KEXINIT; 17];
            message.extend([0x7f, 0xff, 0xff, 0xff, b'a']);
            messages(&[message])
        },
        reasons: ["needs 2147483647 bytes, 1 are left", "needs 2147483647 bytes, 1 are left"],
    },
    // Shares (rows 7, 8).
    Case {
        name: "a share of X25519 that is zero",
        bytes: |from| exchange(from, CURVE25519, &[0; 32]),
        reasons: ["invalid share of 32 bytes", "invalid share of 32 bytes"],
    },
    Case {
        name: "a share of X25519 of low order",
        bytes: |from| {
            let mut one = [0; 32];
            one[0] = 1;
            exchange(from, CURVE25519, &one)
        },
        reasons: ["invalid share of 32 bytes", "invalid share of 32 bytes"],
    },
    Case {
        name: "a share of X25519 of 31 bytes",
        bytes: |from| exchange(from, CURVE25519, &[9; 31]),
        reasons: ["invalid share of 31 bytes", "invalid share of 31 bytes"],
    },
    Case {
        name: "a share of X25519 of 30,000 bytes",
        bytes: |from| exchange(from, CURVE25519, &[9; 30_000]),
        reasons: ["invalid share of 30000 bytes", "invalid share of 30000 bytes"],
    },
    Case {
        name: "a share of ML-KEM that is none",
        bytes: |from| exchange(from, MLKEM, &[0xff; 1216]),
        reasons: ["invalid share of 1216 bytes", "invalid share of 1216 bytes"],
    },
    Case {
        name: "a group element of 0",
        bytes: |from| exchange(from, GROUP14, &[]),
        reasons: ["invalid share of 0 bytes", "invalid share of 0 bytes"],
    },
    Case {
        name: "a group element of 1",
        bytes: |from| exchange(from, GROUP14, &[1]),
        reasons: ["invalid share of 1 bytes", "invalid share of 1 bytes"],
    },
    Case {
        name: "a group element of p - 1",
        bytes: |from| exchange(from, GROUP14, &group14_less_one()),
        reasons: ["invalid share of 257 bytes", "invalid share of 257 bytes"],
    },
    Case {
        name: "a negative group element",
        bytes: |from| exchange(from, GROUP14, &[0xff; 256]),
        reasons: ["invalid share of 256 bytes", "invalid share of 256 bytes"],
    },
];

/// A header for a proxy, which names another client (row 30); from a server it would be a greeting.
const PROXY_HEADER: Case = Case {
    name: "a header for a proxy",
    bytes: |_| [b"PROXY TCP4 192.0.2.1 192.0.2.2 1 22\r\n", VERSION].concat(),
    reasons: ["not-this-protocol", ""],
};

/// A version and then a packet that claims this length, as far as 64 KiB of it.
fn length(bytes: u32) -> Vec<u8> {
    let mut sent = [VERSION, &bytes.to_be_bytes(), &[4]].concat();
    sent.resize(sent.len() + usize::try_from(bytes.min(64 * 1024)).unwrap(), 0);
    sent
}

/// A version, and these messages as packets without keys.
fn messages(payloads: &[Vec<u8>]) -> Vec<u8> {
    let mut sent = VERSION.to_vec();
    for payload in payloads {
        // Length, padding length, and at least four bytes of it, to a multiple of eight.
        let padding = 8 + 4 - (payload.len() + 5 + 4) % 8;
        sent.extend(u32::try_from(payload.len() + 1 + padding).unwrap().to_be_bytes());
        sent.push(u8::try_from(padding).unwrap());
        sent.extend(payload);
        sent.resize(sent.len() + padding, 0);
    }
    sent
}

/// The message that opens a key exchange, with one method.
fn offer(from: Hostile, method: &str) -> Vec<u8> {
    offer_of(from, [method, "aes128-gcm@openssh.com", "hmac-sha2-256", "none"])
}

fn offer_of(from: Hostile, [method, cipher, mac, compression]: [&str; 4]) -> Vec<u8> {
    let strict = match from {
        Hostile::Client => "kex-strict-c-v00@openssh.com",
        Hostile::Server => "kex-strict-s-v00@openssh.com",
    };
    let methods = if method.is_empty() { String::new() } else { format!("{method},{strict}") };
    let mut message = Writer::message(KEXINIT);
    message.raw(&[7; 16]).string(methods.as_bytes()).string(b"ssh-ed25519");
    for list in [cipher, cipher, mac, mac, compression, compression, "", ""] {
        message.string(list.as_bytes());
    }
    message.bool(false).u32(0);
    message.as_bytes().to_vec()
}

/// An exchange up to this share, of a client or of a server.
fn exchange(from: Hostile, method: &str, share: &[u8]) -> Vec<u8> {
    let mut message = Writer::new();
    match from {
        Hostile::Client => message.u8(KEX_INIT).string(share),
        Hostile::Server => {
            let mut key = Writer::new();
            key.string(b"ssh-ed25519").string(&[5; 32]);
            let mut signature = Writer::new();
            signature.string(b"ssh-ed25519").string(&[5; 64]);
            message.u8(KEX_REPLY).string(key.as_bytes()).string(share).string(signature.as_bytes())
        }
    };
    messages(&[offer(from, method), message.as_bytes().to_vec()])
}

/// p - 1 of group 14, as an mpint: with a zero before it, or it would be negative.
fn group14_less_one() -> Vec<u8> {
    let digits = GROUP14_BYTES.as_bytes().chunks_exact(2);
    let bytes = digits.map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap());
    [0].into_iter().chain(bytes).chain([0xfe]).collect()
}

/// Sends, and waits for the end; how long that took.
fn attack(stream: &mut TcpStream, bytes: &[u8]) -> std::time::Duration {
    let started = Stopwatch::start();
    // The gateway may have had enough long before the end.
    drop(stream.write_all(bytes));
    read_to_end(stream);
    started.elapsed()
}

#[test]
fn clients() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    for case in CASES.iter().chain([&PROXY_HEADER]) {
        let mut stream = siege.connect();
        let took = attack(&mut stream, &(case.bytes)(Hostile::Client));
        let name = case.name;
        let client = stream.local_addr().unwrap();
        // The gateway waits a little for the other side to close, too.
        drop(stream);
        let row = siege.row(client, name);
        assert!(took < SOON, "{name}: {took:?}");
        assert!(row.reason.contains(case.reasons[0]), "{name}: {}", row.reason);
        siege.holds(name);
    }
}

#[test]
fn servers() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    for case in CASES {
        let (mut client, mut stream) = siege.connect_through();
        let took = attack(&mut stream, &(case.bytes)(Hostile::Server));
        let name = case.name;
        while client.next().is_some() {}
        let address = client.address();
        drop(client);
        let row = siege.row(address, name);
        assert!(took < SOON, "{name}: {took:?}");
        assert_eq!(row.outcome, "failed", "{name}");
        assert!(row.reason.contains(case.reasons[1]), "{name}: {}", row.reason);
        siege.holds(name);
    }
}

/// A byte now and then keeps nobody waiting for longer than the limit, on either leg (row 17).
#[test]
fn a_slow_drip() {
    let world = World::router().unwrap();
    let mut siege = Siege::new(&world);
    let mut stream = siege.connect();
    let (mut client, mut server) = siege.connect_through();
    let waited = Stopwatch::start();
    thread::scope(|scope| {
        for stream in [stream.try_clone().unwrap(), server.try_clone().unwrap()] {
            scope.spawn(move || drip(stream));
        }
        for stream in [&mut stream, &mut server] {
            read_to_end(stream);
        }
    });
    let took = waited.elapsed();
    assert!(took > HANDSHAKE_LIMIT / 2 && took < HANDSHAKE_LIMIT + SOON, "{took:?}");
    while client.next().is_some() {}
    let row = siege.row(stream.local_addr().unwrap(), "a client that drips");
    assert_eq!((row.outcome.as_str(), row.reason.as_str()), ("denied", "handshake-timeout"));
    let row = siege.row(client.address(), "a server that drips");
    assert_eq!(row.outcome, "failed", "{}", row.reason);
    siege.holds("a slow drip");
}

/// Sends a byte of a version every tenth of a second, until the other side has had enough.
fn drip(mut stream: TcpStream) {
    for byte in VERSION.iter().take(VERSION.len() - 2).cycle() {
        if stream.write_all(&[*byte]).is_err() {
            break;
        }
        thread::park_timeout(HANDSHAKE_LIMIT / 40);
    }
    drop(stream.shutdown(Shutdown::Write));
}
