//! Whole conversations: what is told of them, whatever pieces they arrive in; what refusing
//! changes; and peers that break the protocol.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, proptest};
use proptest::sample::select;

use super::limits::{HANDLES_MAX, PACKET_BYTES_MAX, REQUESTS_MAX};
use super::{Sftp, SftpError};
use crate::files::Peer::{Client, Server};
use crate::files::{Access, AccessKind, FileId, Mode, Operation, Outcome, Peer, Verdict, Watch};

/// Keeps what it is told, and refuses what a function says.
struct Notes {
    told: Vec<String>,
    contents: BTreeMap<FileId, Vec<u8>>,
    home: Vec<u8>,
    judge: fn(&Access<'_>) -> Verdict,
}

const ALLOW: Verdict = Verdict::Allow { bytes_max: None };

impl Notes {
    fn new(judge: fn(&Access<'_>) -> Verdict) -> Self {
        Self { told: vec![], contents: BTreeMap::new(), home: vec![], judge }
    }
}

impl Watch for Notes {
    fn judge(&mut self, access: &Access<'_>) -> Verdict {
        (self.judge)(access)
    }

    fn home(&mut self, path: &[u8]) {
        self.home = path.to_owned();
    }

    fn content(&mut self, file: FileId, bytes: &[u8]) {
        self.contents.entry(file).or_default().extend_from_slice(bytes);
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        let mut line = format!("{} {}", operation.name, operation.path.escape_ascii());
        if !operation.new_path.is_empty() {
            line += &format!(" -> {}", operation.new_path.escape_ascii());
        }
        if operation.size_bytes > 0 {
            line += &format!(" size {}", operation.size_bytes);
        }
        if let Some(carried) = operation.carried {
            let content = self.contents.get(&carried.file).cloned().unwrap_or_default();
            line += &match carried.seen {
                Ok(()) => format!(" {} \"{}\"", carried.bytes, content.escape_ascii()),
                Err(why) => format!(" {} {}", carried.bytes, why.as_str()),
            };
        }
        line += match operation.outcome {
            Outcome::Done => "",
            Outcome::Failed(_) => ": failed",
            Outcome::Status(status) => return self.told.push(format!("{line}: {status}")),
            Outcome::Refused => ": refused",
            Outcome::Unanswered => ": unanswered",
        };
        self.told.push(line);
    }
}

/// A string with its length.
fn s(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A packet of a type, whose fields are these.
fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    s(&[&[kind], fields.concat().as_slice()].concat())
}

fn u(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

fn status(id: u32, status: u32) -> Vec<u8> {
    packet(101, &[&u(id), &u(status), &s(b"text"), &s(b"")])
}

fn init() -> Vec<u8> {
    packet(1, &[&u(3)])
}

fn version() -> Vec<u8> {
    packet(2, &[&u(3), &s(b"posix-rename@openssh.com"), &s(b"1")])
}

fn open(id: u32, path: &[u8], flags: u32) -> Vec<u8> {
    packet(3, &[&u(id), &s(path), &u(flags), &u(0)])
}

fn handle(id: u32, handle: &[u8]) -> Vec<u8> {
    packet(102, &[&u(id), &s(handle)])
}

fn read(id: u32, handle: &[u8], offset: u64, length: u32) -> Vec<u8> {
    packet(5, &[&u(id), &s(handle), &offset.to_be_bytes(), &u(length)])
}

fn write(id: u32, handle: &[u8], offset: u64, data: &[u8]) -> Vec<u8> {
    packet(6, &[&u(id), &s(handle), &offset.to_be_bytes(), &s(data)])
}

fn data(id: u32, bytes: &[u8]) -> Vec<u8> {
    packet(103, &[&u(id), &s(bytes)])
}

fn on_path(kind: u8, id: u32, path: &[u8]) -> Vec<u8> {
    packet(kind, &[&u(id), &s(path)])
}

fn extended(id: u32, name: &[u8], fields: &[&[u8]]) -> Vec<u8> {
    packet(200, &[&u(id), &s(name), &fields.concat()])
}

/// Number 9, as all that is to be refused.
fn symlink(first: &[u8], second: &[u8]) -> Vec<u8> {
    packet(20, &[&u(9), &s(first), &s(second)])
}

type Said = (Peer, Vec<u8>);

/// What begins every conversation.
fn greeting() -> Vec<Said> {
    vec![(Client, init()), (Server, version())]
}

/// What is told of [`conversation`].
const TOLD: &[&str] = &[
    "realpath .",
    "open-write /h/up",
    "fsetstat /h/up size 12",
    "fsync /h/up",
    "open-read down",
    "copy-data down -> /h/up size 18446744073709551615: failure",
    "write /h/up 12 \"first,second\"",
    "close /h/up",
    "read down 8 \"content.\"",
    "close down",
    "opendir /h",
    "close /h",
    "stat /h/up",
    "lstat gone: no such file",
    "setstat /h/up",
    "rename a -> b: failure",
    "posix-rename a -> b",
    "hardlink b -> c",
    "symlink /b -> /h/d",
    "readlink /h/d",
    "mkdir new",
    "rmdir new",
    "remove b",
    "statvfs /",
    "limits ",
    "extended no-such@example.com: operation unsupported",
    "open-read late",
    "setstat z size 7: unanswered",
    "read late 0 unfinished: unanswered",
];

/// A conversation with every kind of request.
fn conversation() -> Vec<Said> {
    [greeting(), contents(), names()].concat()
}

/// Files that are written, read and copied.
fn contents() -> Vec<Said> {
    let (h, i): (&[u8], &[u8]) = (&[0, 0, 0, 0], &[0, 0, 0, 1]);
    vec![
        (Client, on_path(16, 1, b".")),
        (Server, packet(104, &[&u(1), &u(1), &s(b"/h"), &s(b"/h"), &u(0)])),
        // Up, in two pieces.
        (Client, open(2, b"/h/up", 0x1a)),
        (Server, handle(2, h)),
        (Client, [write(3, h, 0, b"first,"), write(4, h, 6, b"second")].concat()),
        (Server, [status(3, 0), status(4, 0)].concat()),
        (Client, packet(10, &[&u(5), &s(h), &u(1), &12_u64.to_be_bytes()])),
        (Server, status(5, 0)),
        (Client, extended(6, b"fsync@openssh.com", &[&s(h)])),
        (Server, status(6, 0)),
        // Down, with a request beyond the end, beside a file that is open.
        (Client, open(7, b"down", 1)),
        (Server, handle(7, i)),
        (Client, [read(8, i, 0, 5), read(9, i, 5, 5), read(10, i, 8, 5)].concat()),
        (Server, [data(8, b"conte"), data(9, b"nt."), status(10, 1)].concat()),
        (Client, extended(11, b"copy-data", &[&s(i), &[0; 16], &s(h), &[0; 8]])),
        (Server, status(11, 4)),
        (Client, [on_path(4, 12, i), on_path(4, 13, h)].concat()),
        (Server, [status(13, 0), status(12, 0)].concat()),
    ]
}

/// What is done to names, then what the end of the channel finds open.
fn names() -> Vec<Said> {
    let h: &[u8] = &[0, 0, 0, 0];
    let attributes = u(0);
    vec![
        (Client, on_path(11, 14, b"/h")),
        (Server, handle(14, h)),
        (Client, [on_path(12, 15, h), on_path(12, 16, h)].concat()),
        (Server, packet(104, &[&u(15), &u(1), &s(b"x"), &s(b"-rw x"), &attributes])),
        (Server, status(16, 1)),
        (Client, on_path(4, 17, h)),
        (Server, status(17, 0)),
        (Client, on_path(17, 18, b"/h/up")),
        (Server, packet(105, &[&u(18), &attributes])),
        (Client, on_path(7, 19, b"gone")),
        (Server, status(19, 2)),
        (Client, packet(9, &[&u(20), &s(b"/h/up"), &u(4), &u(0o600)])),
        (Server, status(20, 0)),
        (Client, packet(18, &[&u(21), &s(b"a"), &s(b"b")])),
        (Server, status(21, 4)),
        (Client, extended(22, b"posix-rename@openssh.com", &[&s(b"a"), &s(b"b")])),
        (Server, status(22, 0)),
        (Client, extended(23, b"hardlink@openssh.com", &[&s(b"b"), &s(b"c")])),
        (Server, status(23, 0)),
        (Client, packet(20, &[&u(24), &s(b"/b"), &s(b"/h/d")])),
        (Server, status(24, 0)),
        (Client, on_path(19, 25, b"/h/d")),
        (Server, packet(104, &[&u(25), &u(1), &s(b"/b"), &s(b""), &attributes])),
        (Client, packet(14, &[&u(26), &s(b"new"), &attributes])),
        (Server, status(26, 0)),
        (Client, on_path(15, 27, b"new")),
        (Server, status(27, 0)),
        (Client, on_path(13, 28, b"b")),
        (Server, status(28, 0)),
        (Client, extended(29, b"statvfs@openssh.com", &[&s(b"/")])),
        (Server, packet(201, &[&u(29), &[0; 88]])),
        (Client, extended(30, b"limits@openssh.com", &[])),
        (Server, packet(201, &[&u(30), &[0; 32]])),
        (Client, extended(31, b"no-such@example.com", &[b"anything"])),
        (Server, status(31, 8)),
        (Client, packet(9, &[&u(32), &s(b"z"), &u(1), &7_u64.to_be_bytes()])),
        (Client, open(33, b"late", 1)),
        (Server, handle(33, h)),
    ]
}

/// What reaches the other side of each peer, and what is told.
struct Passed {
    to_server: Vec<u8>,
    to_client: Vec<u8>,
    notes: Notes,
    error: Option<SftpError>,
}

fn pass(mode: Mode, judge: fn(&Access<'_>) -> Verdict, said: &[(Peer, &[u8])]) -> Passed {
    let (mut sftp, notes) = (Sftp::new(mode), Notes::new(judge));
    let mut passed = Passed { to_server: vec![], to_client: vec![], notes, error: None };
    let mut out = vec![];
    for (from, bytes) in said {
        match sftp.pass(*from, bytes, &mut out, &mut passed.notes) {
            Ok(on) if *from == Client => passed.to_server.extend_from_slice(on),
            Ok(on) => passed.to_client.extend_from_slice(on),
            Err(error) => {
                passed.error = Some(error);
                return passed;
            }
        }
    }
    passed.to_server.extend(sftp.end(Client));
    passed.to_client.extend(sftp.end(Server));
    sftp.finish(&mut passed.notes);
    passed
}

fn allow(_access: &Access<'_>) -> Verdict {
    ALLOW
}

fn sent(said: &[Said], peer: Peer) -> Vec<u8> {
    said.iter().filter(|(from, _)| *from == peer).flat_map(|(_, bytes)| bytes.clone()).collect()
}

fn borrowed(said: &[Said]) -> Vec<(Peer, &[u8])> {
    said.iter().map(|(from, bytes)| (*from, bytes.as_slice())).collect()
}

#[test]
fn content_is_told_of_where_only_the_close_has_no_answer() {
    let h: &[u8] = &[0, 0, 0, 0];
    let mut said = vec![
        (Client, packet(1, &[&u(3)])),
        (Server, packet(2, &[&u(3)])),
        (Client, open(2, b"up", 0x1a)),
        (Server, handle(2, h)),
        (Client, write(3, h, 0, b"first")),
        (Server, status(3, 0)),
        (Client, packet(4, &[&u(4), &s(h)])),
    ];
    let whole = "write up 5 \"first\": unanswered";
    let torn = "write up 0 unfinished: unanswered";
    for written in [whole, torn] {
        for mode in [Mode::Observe, Mode::Enforce] {
            let passed = pass(mode, allow, &borrowed(&said));
            let expected = ["open-write up", written, "close up: unanswered"];
            assert_eq!(passed.notes.told, expected, "{mode:?}");
        }
        // The second time what was written has no answer either.
        said.retain(|(_, bytes)| *bytes != status(3, 0));
    }
}

#[test]
fn every_kind_of_request_is_told_of() {
    let said = conversation();
    for mode in [Mode::Observe, Mode::Enforce] {
        let passed = pass(mode, allow, &borrowed(&said));
        assert_eq!(passed.error, None, "{mode:?}");
        assert_eq!(passed.notes.told, TOLD, "{mode:?}");
        assert_eq!(passed.to_server, sent(&said, Client), "{mode:?}");
        assert_eq!(passed.to_client, sent(&said, Server), "{mode:?}");
        assert_eq!(passed.notes.home, b"/h");
    }
}

#[test]
fn pieces_make_no_difference() {
    let said = conversation();
    let said = borrowed(&said);
    for (index, (from, bytes)) in said.iter().enumerate() {
        for first in 1..bytes.len() {
            for second in [first, (first + bytes.len()).div_ceil(2)] {
                let mut pieces = said[..index].to_vec();
                let parts = [&bytes[..first], &bytes[first..second], &bytes[second..]];
                pieces.extend(parts.map(|part| (*from, part)));
                pieces.extend_from_slice(&said[index + 1..]);
                let passed = pass(Mode::Enforce, allow, &pieces);
                assert_eq!(passed.error, None, "{index} at {first} and {second}");
                assert_eq!(passed.notes.told, TOLD, "{index} at {first} and {second}");
            }
        }
    }
}

#[test]
fn a_conversation_that_is_cut_tells_what_was_whole() {
    let said = conversation();
    let said = borrowed(&said);
    for (index, (from, bytes)) in said.iter().enumerate() {
        for end in 0..bytes.len() {
            let cut = [&said[..index], &[(*from, &bytes[..end])]].concat();
            let passed = pass(Mode::Enforce, allow, &cut);
            assert_eq!(passed.error, None, "{index} at {end}");
            let whole = passed.notes.told.iter().filter(|line| !line.ends_with("unanswered"));
            assert!(whole.zip(TOLD).all(|(got, line)| got == line), "{index} at {end}");
            let all: Vec<u8> = cut.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
            assert_eq!(passed.to_server.len() + passed.to_client.len(), all.len());
        }
    }
}

/// What a refused request becomes: its type, and its first string.
fn spoilt(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = 13 + usize::try_from(u32::from_be_bytes(bytes[9..13].try_into().unwrap())).unwrap();
    bytes[4] = 200;
    bytes[13..end].fill(b'?');
    bytes
}

#[test]
fn refused_requests_reach_no_file() {
    let h: &[u8] = &[0, 0, 0, 0];
    let long = vec![b'a'; 65_000];
    let opened = vec![(Client, open(1, b"/ok", 2)), (Server, handle(1, h))];
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("open to read", open(9, b"/no", 1), "open-read /no: refused"),
        ("open by no flag", open(9, b"/no", 0), "open-read /no: refused"),
        ("open to append", open(9, b"/no", 4), "open-read-write /no: refused"),
        ("named as an extension", on_path(13, 9, b"/no@openssh.com"), "remove /no@openssh.com"),
        ("empty", on_path(13, 9, b""), "remove : refused"),
        ("list", on_path(11, 9, b"/no"), "opendir /no: refused"),
        ("stat", on_path(17, 9, b"/no"), "stat /no: refused"),
        ("set size", packet(9, &[&u(9), &s(b"/w"), &u(1), &[9; 8]]), "setstat /w size"),
        ("rename from", packet(18, &[&u(9), &s(b"/no"), &s(b"/ok")]), "rename /no -> /ok"),
        ("rename to", packet(18, &[&u(9), &s(b"/ok"), &s(b"/no")]), "rename /ok -> /no"),
        ("link to", symlink(b"/no", b"/l"), "symlink /no -> /l"),
        ("link to, other order", symlink(b"/l", b"/no"), "symlink /l -> /no"),
        ("relative link", symlink(b"ok", b"/l"), "symlink ok -> /l"),
        ("relative link, other order", symlink(b"/l", b"ok"), "symlink /l -> ok"),
        ("link up", symlink(b"/ok/../x", b"/l"), "symlink /ok/../x -> /l"),
        ("link up, other order", symlink(b"/l", b"/ok/.."), "symlink /l -> /ok/.."),
        ("extension", extended(9, b"x@y", &[b"/no"]), "extended x@y: refused"),
        (
            "extension with a zero byte",
            extended(9, b"posix-rename@openssh.com\0", &[&s(b"/ok"), &s(b"/ok")]),
            "posix-rename /ok -> /ok",
        ),
        ("extension with a zero byte in it", extended(9, b"limits\0x", &[]), "extended limits"),
        ("unknown handle", write(9, &[7], 0, b"data"), "write : refused"),
        ("long path", on_path(13, 9, &long), "remove aaaa"),
        ("write far", write(9, h, 95, b"123456"), "write /ok: refused"),
        ("copy", extended(9, b"copy-data", &[&s(h), &[0; 16], &s(h), &[0; 8]]), "copy-data /ok"),
    ];
    fn judge(access: &Access<'_>) -> Verdict {
        let path = access.path.as_deref().unwrap_or(b"/no");
        let is_write = access.kind == AccessKind::Write;
        match path {
            b"/no" | b"/no@openssh.com" | b"" => Verdict::Refuse,
            b"/w" if is_write => Verdict::Refuse,
            _ => Verdict::Allow { bytes_max: Some(100) },
        }
    }
    for (name, request, told) in cases {
        let mut said = [greeting(), opened.clone()].concat();
        let before = sent(&said, Client).len();
        said.push((Client, request.clone()));
        let answer = packet(101, &[&u(9), &u(8), &s(b"text"), &s(b"")]);
        said.push((Server, answer.clone()));
        for piece in [1, 7, usize::MAX] {
            let pieces: Vec<(Peer, &[u8])> = said
                .iter()
                .flat_map(|(from, bytes)| bytes.chunks(piece).map(|chunk| (*from, chunk)))
                .collect();
            let passed = pass(Mode::Enforce, judge, &pieces);
            assert_eq!(passed.error, None, "{name}");
            assert!(passed.notes.told[1].starts_with(told), "{name}: {:?}", passed.notes.told);
            assert!(passed.notes.told[1].ends_with("refused"), "{name}");
            let on = &passed.to_server[before..];
            assert!(on == spoilt(request.clone()), "{name} in pieces of {piece}");
            assert!(passed.to_client.ends_with(&status(9, 3)), "{name}");
        }
        // What is watched only passes as it is.
        let passed = pass(Mode::Observe, judge, &borrowed(&said));
        assert!(passed.to_server.ends_with(&request), "{name}");
        assert!(passed.to_client.ends_with(&answer), "{name}");
    }
}

#[test]
fn reading_ends_one_byte_beyond_the_limit() {
    fn judge(_access: &Access<'_>) -> Verdict {
        Verdict::Allow { bytes_max: Some(100) }
    }
    let h: &[u8] = b"h";
    let before = [greeting(), vec![(Client, open(1, b"f", 1)), (Server, handle(1, h))]].concat();
    let cases = [
        ("inside", 0, 64, Some(64)),
        ("up to it", 36, 64, Some(64)),
        ("over it", 64, 64, Some(37)),
        ("at it", 100, 64, Some(1)),
        ("behind it", 101, 64, None),
        ("far behind it", u64::MAX, 64, None),
    ];
    for (name, offset, length, expected) in cases {
        let said = [before.clone(), vec![(Client, read(2, h, offset, length))]].concat();
        let passed = pass(Mode::Enforce, judge, &borrowed(&said));
        let on = expected.map_or_else(
            || spoilt(read(2, h, offset, length)),
            |length| read(2, h, offset, length),
        );
        assert!(passed.to_server.ends_with(&on), "{name}");
    }
}

#[test]
fn content_that_is_not_whole_is_not_taken_for_whole() {
    let h: &[u8] = b"h";
    let with = |flags, rest: Vec<Said>| {
        let opened = vec![(Client, open(1, b"f", flags)), (Server, handle(1, h))];
        let closed = vec![(Client, on_path(4, 90, h)), (Server, status(90, 0))];
        [greeting(), opened, rest, closed].concat()
    };
    let wrote = |id, offset, code| {
        vec![(Client, write(id, h, offset, b"abcd")), (Server, status(id, code))]
    };
    let cases = [
        ("empty", with(0x1a, vec![]), "write f 0 \"\""),
        ("from later", with(2, wrote(2, 4, 0)), "write f 4 not from the start"),
        ("hole", with(2, [wrote(2, 0, 0), wrote(3, 8, 0)].concat()), "write f 8 not in order"),
        ("failed", with(2, [wrote(2, 0, 0), wrote(3, 4, 4)].concat()), "write f 4 a piece failed"),
        ("appended", with(6, wrote(2, 0, 0)), "write f 4 appended"),
        (
            "read later",
            with(1, vec![(Client, read(2, h, 9, 4)), (Server, data(2, b"abcd"))]),
            "read f 4 not from the start",
        ),
    ];
    for (name, said, told) in cases {
        let passed = pass(Mode::Observe, allow, &borrowed(&said));
        assert!(
            passed.notes.told.iter().any(|line| line == told),
            "{name}: {:?}",
            passed.notes.told
        );
    }
}

#[test]
fn content_is_handed_out_only_of_files_that_are_opened_for_it() {
    let h: &[u8] = b"h";
    let opendir = on_path(11, 1, b"f");
    let wrote = |code| vec![(Client, write(2, h, 0, b"abcd")), (Server, status(2, code))];
    let got = vec![(Client, read(2, h, 0, 4)), (Server, data(2, b"abcd"))];
    let cases = [
        (
            "written, opened to read",
            open(1, b"f", 1),
            wrote(0),
            Some("write f 4 file not opened for it"),
        ),
        ("not written, opened to read", open(1, b"f", 1), wrote(4), None),
        (
            "written, a directory",
            opendir.clone(),
            wrote(0),
            Some("write f 4 file not opened for it"),
        ),
        (
            "read, opened to write",
            open(1, b"f", 2),
            got.clone(),
            Some("read f 4 file not opened for it"),
        ),
        ("read, a directory", opendir, got.clone(), Some("read f 4 file not opened for it")),
        ("read, opened to read", open(1, b"f", 1), got, Some("read f 4 \"abcd\"")),
    ];
    for (name, opened, rest, told) in cases {
        let closed = vec![(Client, on_path(4, 90, h)), (Server, status(90, 0))];
        let opened = vec![(Client, opened), (Server, handle(1, h))];
        let said = [greeting(), opened, rest, closed].concat();
        for mode in [Mode::Observe, Mode::Enforce] {
            let notes = pass(mode, allow, &borrowed(&said)).notes;
            let is_seen = told.is_some_and(|told| told.ends_with('"'));
            assert_eq!(notes.contents.len(), usize::from(is_seen), "{name}");
            let carried =
                |line: &&String| line.ends_with("opened for it") || line.ends_with("\"abcd\"");
            let lines = notes.told.iter().find(carried).map(String::as_str);
            assert_eq!(lines, told, "{name}: {:?}", notes.told);
        }
    }
}

type Broken = (&'static str, Vec<Said>, SftpError);

/// The greeting, then this.
fn after(rest: Vec<Said>) -> Vec<Said> {
    [greeting(), rest].concat()
}

fn remove() -> Said {
    (Client, on_path(13, 5, b"f"))
}

/// Packets that are none.
fn bad_packets() -> Vec<Broken> {
    let h: &[u8] = b"h";
    let huge = PACKET_BYTES_MAX + 1;
    let too_long = s(&vec![0; huge]);
    vec![
        (
            "huge",
            after(vec![(Client, vec![0xff; 9])]),
            SftpError::PacketLength { bytes: 0xffff_ffff },
        ),
        ("too long", after(vec![(Server, too_long)]), SftpError::PacketLength { bytes: huge }),
        ("no type", after(vec![(Client, vec![0; 4])]), SftpError::PacketLength { bytes: 0 }),
        (
            "no number",
            after(vec![(Client, packet(13, &[&[0; 3]]))]),
            SftpError::Truncated { offset: 5, bytes: 8 },
        ),
        (
            "path beyond",
            after(vec![(Client, packet(13, &[&u(1), &u(9), b"f"]))]),
            SftpError::Truncated { offset: 13, bytes: 14 },
        ),
        (
            "data beyond",
            after(vec![remove(), (Server, packet(103, &[&u(5), &u(2), b"a"]))]),
            SftpError::Truncated { offset: 14, bytes: 1 },
        ),
        (
            "write beyond",
            after(vec![(Client, packet(6, &[&u(5), &s(h), &[0; 8], &u(2), b"a"]))]),
            SftpError::Truncated { offset: 27, bytes: 1 },
        ),
        (
            "request type",
            after(vec![(Client, packet(21, &[&u(1), &s(b"f")]))]),
            SftpError::UnknownRequest(21),
        ),
        (
            "answer type",
            after(vec![remove(), (Server, packet(106, &[&u(5)]))]),
            SftpError::UnknownAnswer(106),
        ),
    ]
}

/// Packets at the wrong time, or too many of them.
fn bad_order() -> Vec<Broken> {
    let h: &[u8] = b"h";
    let flood = |count: usize, each: fn(u32) -> Vec<Said>| {
        after((0..u32::try_from(count).unwrap()).flat_map(each).collect())
    };
    let opened = |id: u32| vec![(Client, open(id, b"f", 1)), (Server, handle(id, &u(id)))];
    let asked = |id: u32| vec![(Client, on_path(17, id, b"f"))];
    let far = |id: u32| vec![(Client, on_path(17, id, &[b'f'; 4_096]))];
    let kept = |id: u32| {
        let opened = (Client, open(id, &[b'f'; 4_096], 1));
        vec![opened, (Server, handle(id, &u(id)))]
    };
    let open_5 = vec![(Client, open(5, b"f", 1)), (Server, handle(5, h))];
    vec![
        ("no first packet", vec![remove()], SftpError::OutOfTurn(13)),
        ("twice the first", after(vec![(Client, init())]), SftpError::OutOfTurn(1)),
        ("version unasked", vec![(Server, version())], SftpError::OutOfTurn(2)),
        ("twice the version", after(vec![(Server, version())]), SftpError::OutOfTurn(2)),
        (
            "answer before it",
            vec![(Client, init()), remove(), (Server, status(5, 0))],
            SftpError::OutOfTurn(101),
        ),
        (
            "other version",
            vec![(Client, packet(1, &[&u(6)])), (Server, packet(2, &[&u(6)]))],
            SftpError::Version(6),
        ),
        ("number in use", after(vec![remove(), remove()]), SftpError::Repeated { id: 5 }),
        ("unasked", after(vec![(Server, status(5, 0))]), SftpError::Unasked { id: 5 }),
        (
            "answered twice",
            after(vec![remove(), (Server, status(5, 0)), (Server, status(5, 0))]),
            SftpError::Unasked { id: 5 },
        ),
        (
            "unfit",
            after(vec![remove(), (Server, handle(5, h))]),
            SftpError::Unfit { kind: 102, id: 5 },
        ),
        (
            "handle in use",
            after([open_5, vec![(Client, open(6, b"f", 1)), (Server, handle(6, h))]].concat()),
            SftpError::HandleInUse,
        ),
        (
            "long handle",
            after(vec![(Client, open(5, b"f", 1)), (Server, handle(5, &[b'h'; 257]))]),
            SftpError::HandleLength,
        ),
        ("handle flood", flood(HANDLES_MAX + 1, opened), SftpError::TooManyHandles),
        ("path flood", flood(257, far), SftpError::TooManyPaths),
        ("path flood of files", flood(257, kept), SftpError::TooManyPaths),
        ("request flood", flood(REQUESTS_MAX + 1, asked), SftpError::TooManyRequests),
    ]
}

#[test]
fn who_breaks_the_protocol_is_followed_no_more() {
    for (name, said, error) in bad_packets().into_iter().chain(bad_order()) {
        for mode in [Mode::Observe, Mode::Enforce] {
            // A lower offer is made where that is allowed, but a server need not mind.
            let passed = pass(mode, allow, &borrowed(&said));
            assert_eq!(passed.error.as_ref(), Some(&error), "{name} {mode:?}");
        }
    }
    let refuse = |_access: &Access<'_>| Verdict::Refuse;
    let carried_out = after(vec![(Client, open(5, b"f", 1)), (Server, handle(5, b"h"))]);
    let passed = pass(Mode::Enforce, refuse, &borrowed(&carried_out));
    assert_eq!(passed.error, Some(SftpError::CarriedOut { id: 5 }));
}

#[test]
fn no_later_version_is_offered_where_it_matters() {
    let offer = packet(1, &[&u(6), &s(b"x"), &s(b"y")]);
    let said = [(Client, offer.as_slice())];
    assert_eq!(pass(Mode::Observe, allow, &said).to_server, offer);
    let lower = packet(1, &[&u(3), &s(b"x"), &s(b"y")]);
    assert_eq!(pass(Mode::Enforce, allow, &said).to_server, lower);
}

#[test]
fn a_long_path_is_told_in_part_and_costs_no_more() {
    let mut path = b"/a\n\x1b[2J/".to_vec();
    path.resize(65_536, b'x');
    let said = [greeting(), vec![(Client, on_path(13, 1, &path)), (Server, status(1, 0))]].concat();
    let passed = pass(Mode::Observe, allow, &borrowed(&said));
    let told = format!("remove {}", path[..4_096].escape_ascii());
    assert_eq!(passed.notes.told, [told]);
    assert_eq!(passed.to_server, sent(&said, Client));
}

#[test]
fn a_handle_is_not_used_for_another_file_of_the_same_number() {
    fn judge(access: &Access<'_>) -> Verdict {
        match access.path.as_deref() {
            Some(b"/small") if access.kind == AccessKind::Write => {
                Verdict::Allow { bytes_max: Some(4) }
            }
            _ => ALLOW,
        }
    }
    let h: &[u8] = b"h";
    // The last write is sent before the client can know which file has the handle.
    let said = [
        greeting(),
        vec![
            (Client, open(1, b"/big", 2)),
            (Server, handle(1, h)),
            (Client, [on_path(4, 2, h), open(3, b"/small", 2), write(4, h, 0, b"12345")].concat()),
        ],
    ]
    .concat();
    let passed = pass(Mode::Enforce, judge, &borrowed(&said));
    assert!(passed.to_server.ends_with(&spoilt(write(4, h, 0, b"12345"))));
}

/// Types of requests that begin with a path or a name.
const ON_PATHS: &[u8] = &[3, 7, 9, 11, 13, 14, 15, 16, 17, 19, 200];

proptest! {
    #[test]
    fn watching_never_changes_a_byte(
        chunks in vec((any::<bool>(), vec(any::<u8>(), 0..40)), 0..20),
    ) {
        let (mut sftp, mut notes, mut out) = (Sftp::new(Mode::Observe), Notes::new(allow), vec![]);
        for (is_client, chunk) in &chunks {
            let from = if *is_client { Client } else { Server };
            match sftp.pass(from, chunk, &mut out, &mut notes) {
                Ok(on) => prop_assert_eq!(on, chunk.as_slice()),
                Err(_followed_no_more) => break,
            }
        }
    }

    #[test]
    fn what_is_allowed_passes_as_it_is(
        packets in vec((select(ON_PATHS), vec(1_u8.., 0..40)), 0..20),
        piece in 1_usize..50,
    ) {
        let mut said = greeting();
        for (id, (kind, path)) in (1_u32..).zip(&packets) {
            said.push((Client, packet(*kind, &[&u(id), &s(path), &[0; 16]])));
        }
        let pieces: Vec<(Peer, &[u8])> = said
            .iter()
            .flat_map(|(from, bytes)| bytes.chunks(piece).map(|chunk| (*from, chunk)))
            .collect();
        let (whole, pieced) =
            (pass(Mode::Enforce, allow, &borrowed(&said)), pass(Mode::Enforce, allow, &pieces));
        prop_assert_eq!(whole.error, None);
        prop_assert_eq!(&whole.to_server, &sent(&said, Client));
        prop_assert_eq!(&pieced.to_server, &whole.to_server);
        prop_assert_eq!(&pieced.notes.told, &whole.notes.told);
        // And refusing adds and takes away nothing.
        let refused = pass(Mode::Enforce, |_access| Verdict::Refuse, &pieces);
        prop_assert_eq!(refused.to_server.len(), whole.to_server.len());
    }
}
