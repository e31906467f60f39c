//! Whole copies in both directions: what is told of them, whatever pieces they arrive in; what
//! refusing changes; and programs that break the protocol.

use std::collections::BTreeMap;

use proptest::collection::vec;
use proptest::prelude::{any, prop_assert_eq, proptest};

use super::limits::{LINE_BYTES_MAX, STEPS_MAX};
use super::{Command, Scp, ScpError};
use crate::files::Peer::{Client, Server};
use crate::files::{Access, FileId, Mode, Operation, Outcome, Peer, Verdict, Watch};

/// Keeps what it is told, and refuses what a function says.
struct Notes {
    told: Vec<String>,
    contents: BTreeMap<FileId, Vec<u8>>,
    judge: fn(&Access<'_>) -> Verdict,
}

impl Watch for Notes {
    fn judge(&mut self, access: &Access<'_>) -> Verdict {
        (self.judge)(access)
    }

    fn home(&mut self, path: &[u8]) {
        panic!("nothing names {}", path.escape_ascii());
    }

    fn content(&mut self, file: FileId, bytes: &[u8]) {
        self.contents.entry(file).or_default().extend_from_slice(bytes);
    }

    fn operation(&mut self, operation: &Operation<'_>) {
        let mut line = format!("{} {}", operation.name, operation.path.escape_ascii());
        if !operation.new_path.is_empty() {
            line += &format!(" ({})", operation.new_path.escape_ascii());
        }
        if let Some(carried) = operation.carried {
            let content = self.contents.get(&carried.file).cloned().unwrap_or_default();
            line += &match carried.seen {
                Ok(()) => format!(" {} \"{}\"", carried.bytes, content.escape_ascii()),
                Err(why) => format!(" {} {}", carried.bytes, why.as_str()),
            };
        }
        let outcome = match operation.outcome {
            Outcome::Done => String::new(),
            Outcome::Failed(text) => format!(": {}", text.escape_ascii()),
            Outcome::Status(status) => format!(": {status}"),
            Outcome::Refused => ": refused".to_owned(),
            Outcome::Unanswered => ": unanswered".to_owned(),
        };
        self.told.push(line + &outcome);
    }
}

type Said<'a> = (Peer, &'a [u8]);

/// What reaches the other sides, and what is told.
struct Passed {
    on: Vec<u8>,
    notes: Notes,
    error: Option<ScpError>,
}

fn pass(mode: Mode, command: &str, judge: fn(&Access<'_>) -> Verdict, said: &[Said<'_>]) -> Passed {
    let (command, _certain) = Command::parse(command.as_bytes()).unwrap();
    let notes = Notes { told: vec![], contents: BTreeMap::new(), judge };
    let mut scp = Scp::new(mode, command);
    let mut passed = Passed { on: vec![], notes, error: None };
    let mut out = vec![];
    for (from, bytes) in said {
        match scp.pass(*from, bytes, &mut out, &mut passed.notes) {
            Ok(on) => passed.on.extend_from_slice(on),
            Err(error) => {
                passed.error = Some(error);
                return passed;
            }
        }
    }
    passed.on.extend(scp.end(Client));
    passed.on.extend(scp.end(Server));
    scp.finish(&mut passed.notes);
    passed
}

fn allow(_access: &Access<'_>) -> Verdict {
    Verdict::Allow { bytes_max: None }
}

/// A tree that goes to `receiver`, with whatever can go wrong on the way.
fn tree(sender: Peer, receiver: Peer) -> Vec<Said<'static>> {
    vec![
        (receiver, b"\0"),
        (sender, b"T1700000000 0 1700000000 0\n"),
        (receiver, b"\0"),
        (sender, b"D0755 0 d\n"),
        (receiver, b"\0"),
        (sender, b"C0644 8 a b\n"),
        (receiver, b"\0"),
        (sender, b"C0644 5\n\0"),
        (receiver, b"\0"),
        (sender, b"C0600 0 empty\n"),
        (receiver, b"\0"),
        (sender, b"\0"),
        (receiver, b"\0"),
        (sender, b"C0600 4 closed\n"),
        (receiver, b"\x01scp: closed: Permission denied\n"),
        (sender, b"D0700 0 locked\n"),
        (receiver, b"\x01scp: locked: no\n"),
        (sender, b"\x01scp: gone: No such file\n"),
        (sender, b"D0700 0 e\n"),
        (receiver, b"\0"),
        (sender, b"C0600 2 torn\n"),
        (receiver, b"\0"),
        (sender, b"xy\x01scp: torn: Input/output error\n"),
        (receiver, b"\0"),
        (sender, b"E\n"),
        (receiver, b"\0"),
        (sender, b"C0600 2 full\n"),
        (receiver, b"\0"),
        (sender, b"xy\0"),
        (receiver, b"\x01scp: full: No space left on device\n"),
        (sender, b"E\n"),
        (receiver, b"\0"),
    ]
}

const TO_SERVER: &[&str] = &[
    "mkdir /t/d",
    "write /t/d/a b 8 \"C0644 5\\n\"",
    "write /t/d/empty 0 \"\"",
    "write /t/d/closed: scp: closed: Permission denied",
    "mkdir /t/d/locked: scp: locked: no",
    "write /t: scp: gone: No such file",
    "mkdir /t/d/e",
    "write /t/d/e/torn 2 a piece failed",
    "write /t/d/full 2 \"xy\": scp: full: No space left on device",
];

#[test]
fn a_tree_is_told_of_in_any_pieces() {
    let to_client: Vec<String> = TO_SERVER
        .iter()
        .map(|line| line.replace("mkdir", "list").replace("write", "read"))
        .map(|line| line.replace("read /t:", "read /t/d:"))
        .collect();
    let cases = [
        (
            "scp -r -p -d -t /t",
            tree(Client, Server),
            TO_SERVER.iter().map(|l| (*l).to_owned()).collect(),
        ),
        ("scp -r -p -f /t/d", tree(Server, Client), to_client),
    ];
    for (command, said, told) in cases {
        let all: Vec<u8> = said.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
        for mode in [Mode::Observe, Mode::Enforce] {
            for piece in [1, 2, 3, 5, 7, usize::MAX] {
                let pieces: Vec<Said<'_>> = said
                    .iter()
                    .flat_map(|(from, bytes)| bytes.chunks(piece).map(|chunk| (*from, chunk)))
                    .collect();
                let passed = pass(mode, command, allow, &pieces);
                assert_eq!(passed.error, None, "{command} {mode:?} {piece}");
                assert_eq!(passed.notes.told, told, "{command} {mode:?} {piece}");
                assert!(passed.on == all, "{command} {mode:?} {piece}");
            }
        }
    }
}

#[test]
fn a_copy_that_is_cut_tells_what_was_whole() {
    let said = tree(Client, Server);
    for (index, (from, bytes)) in said.iter().enumerate() {
        for end in 0..bytes.len() {
            let cut = [&said[..index], &[(*from, &bytes[..end])]].concat();
            let passed = pass(Mode::Enforce, "scp -rdt /t", allow, &cut);
            assert_eq!(passed.error, None, "{index} at {end}");
            let whole = passed.notes.told.iter().filter(|line| !line.ends_with("unanswered"));
            assert!(whole.zip(TO_SERVER).all(|(got, line)| got == line), "{index} at {end}");
            let all: Vec<u8> = cut.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
            assert!(passed.on == all, "{index} at {end}");
        }
    }
}

#[test]
fn a_client_that_does_not_wait_is_watched_and_not_trusted() {
    let said: &[Said<'_>] = &[(Client, b"C0644 3 a\nabc\0"), (Server, b"\0\0\0")];
    let passed = pass(Mode::Observe, "scp -t /t/", allow, said);
    assert_eq!((passed.error, passed.notes.told), (None, vec!["write /t/a 3 \"abc\"".to_owned()]));
    assert_eq!(pass(Mode::Enforce, "scp -t /t/", allow, said).error, Some(ScpError::DidNotWait));
}

#[test]
fn an_answer_to_nothing_ends_a_copy_under_a_policy() {
    let line: Said<'_> = (Server, b"C0644 3 a\n");
    let cases: [(&str, Vec<Said<'_>>, Result<(), ScpError>); 7] = [
        ("good at once", vec![(Client, b"\0\0")], Err(ScpError::Unasked)),
        ("bad at once", vec![(Client, b"\0\x01x\n")], Err(ScpError::Unasked)),
        ("half at once", vec![(Client, b"\0\x01x")], Err(ScpError::Unasked)),
        ("all ahead", vec![(Client, b"\0\0\0"), line], Err(ScpError::Unasked)),
        ("good twice", vec![(Client, b"\0"), line, (Client, b"\0\0")], Err(ScpError::Unasked)),
        (
            "bad after good",
            vec![(Client, b"\0"), line, (Client, b"\0\x01x\n")],
            Err(ScpError::Unasked),
        ),
        ("in turn", vec![(Client, b"\0"), line, (Client, b"\x01x\n")], Ok(())),
    ];
    for (name, said, expected) in cases {
        let passed = pass(Mode::Enforce, "scp -f /t/a", allow, &said);
        assert_eq!(passed.error, expected.err(), "{name}");
        assert_eq!(pass(Mode::Observe, "scp -f /t/a", allow, &said).error, None, "{name}");
    }
    // A file passes as the other one where the server takes the second answer for that to the
    // directory, which it then leaves out.
    let said: &[Said<'_>] = &[
        (Client, b"\0\x01x\n"),
        (Server, b"D0755 0 tmp\n"),
        (Client, b"\0"),
        (Server, b"C0600 9 id\n"),
    ];
    let passed = pass(Mode::Enforce, "scp -r -f /srv/tmp /srv/key/id", allow, said);
    assert_eq!((passed.error, passed.on), (Some(ScpError::Unasked), vec![]));
}

#[test]
fn a_refused_line_ends_the_copy() {
    fn judge(access: &Access<'_>) -> Verdict {
        match access.path.as_deref() {
            Some(b"/t/small" | b"/t/small/a") => Verdict::Allow { bytes_max: Some(10) },
            Some(b"/t" | b"/t/a" | b"/t/..") => Verdict::Allow { bytes_max: None },
            _ => Verdict::Refuse,
        }
    }
    let cases = [
        ("path", "scp -t /no", "C0644 3 a\n", "write /no (a): refused"),
        ("inside", "scp -t /t", "C0644 3 b\n", "write /t (b): refused"),
        ("directory", "scp -rt /t", "D0755 0 no\n", "mkdir /t (no): refused"),
        ("size", "scp -t /t/small", "C0644 11 a\n", "write /t/small (a): refused"),
        ("up", "scp -t /t/", "C0644 3 ..\n", "write /t/..: refused"),
        ("no name", "scp -t /t", "C0644 3 \n", "write /t: refused"),
        ("path for a name", "scp -t /t", "C0644 3 ../no\n", "write /t (../no): refused"),
    ];
    for (name, command, line, told) in cases {
        let said: &[Said<'_>] = &[(Server, b"\0"), (Client, line.as_bytes())];
        let passed = pass(Mode::Enforce, command, judge, said);
        assert_eq!((passed.error, passed.notes.told), (None, vec![told.to_owned()]), "{name}");
        let spoilt = [b"\0\x02", &line.as_bytes()[1..]].concat();
        assert_eq!(passed.on, spoilt, "{name}");
        let more = [said, &[(Client, b"x")]].concat();
        assert_eq!(pass(Mode::Enforce, command, judge, &more).error, Some(ScpError::AfterRefusal));
        let passed = pass(Mode::Observe, command, judge, said);
        assert!(passed.on.ends_with(line.as_bytes()), "{name}");
    }
    let allowed: &[Said<'_>] = &[(Server, b"\0"), (Client, b"C0644 10 a\n")];
    assert_eq!(pass(Mode::Enforce, "scp -t /t/small", judge, allowed).on, b"\0C0644 10 a\n");
    let unasked: &[Said<'_>] = &[(Client, b"\0"), (Server, b"C0644 1 .bashrc\n")];
    let passed = pass(Mode::Enforce, "scp -f /t/a", allow, unasked);
    assert_eq!(passed.notes.told, ["read .bashrc: refused"]);
}

#[test]
fn who_breaks_the_protocol_is_followed_no_more() {
    let long = vec![b'C'; LINE_BYTES_MAX + 1];
    let acks = vec![0; STEPS_MAX + 2];
    let enter = b"D0700 0 d\n".as_slice();
    let cases: [(&str, Vec<Said<'_>>, ScpError); 9] = [
        ("long line", vec![(Server, b"\0"), (Client, &long)], ScpError::LineLength),
        ("long answer", vec![(Server, b"\x01"), (Server, &long)], ScpError::LineLength),
        ("no line", vec![(Server, b"\0"), (Client, b"X\n")], ScpError::Line(b'X')),
        ("empty line", vec![(Server, b"\0"), (Client, b"\n")], ScpError::Line(b'\n')),
        ("no answer", vec![(Server, b"Last login")], ScpError::Answer(b'L')),
        ("end of nothing", vec![(Server, b"\0"), (Client, b"E\n")], ScpError::NotEntered),
        ("many answers", vec![(Server, &acks)], ScpError::TooManySteps),
        (
            "content for lines",
            vec![(Server, b"\0"), (Client, b"C0644 9 a\nC06"), (Server, b"\x01no\n")],
            ScpError::DidNotWait,
        ),
        (
            "not known to be entered",
            vec![(Server, b"\0"), (Client, enter), (Client, enter)],
            ScpError::DidNotWait,
        ),
    ];
    let entered = format!("D0700 0 {}\n", "d".repeat(1_400));
    let deep: &[Said<'_>] = &[(Client, entered.as_bytes()), (Server, b"\0")];
    let deep = [&[(Server, b"\0".as_slice())], deep, deep, deep].concat();
    assert_eq!(pass(Mode::Observe, "scp -rt /t", allow, &deep).error, Some(ScpError::TooDeep));
    for (name, said, error) in cases {
        assert_eq!(pass(Mode::Observe, "scp -rt /t", allow, &said).error, Some(error), "{name}");
    }
}

#[test]
fn no_line_is_longer_than_its_reader_takes() {
    let line = |start: &str, bytes: usize| {
        let mut line = start.as_bytes().to_vec();
        line.resize(bytes - 1, b'x');
        [line.as_slice(), b"\n"].concat()
    };
    let cases = [
        ("longest line", "C0644 3 ", Client, 2_047, None),
        ("longer line", "C0644 3 ", Client, 2_048, Some(ScpError::LineLength)),
        ("longest trouble", "\x01", Client, 2_047, None),
        ("longer trouble", "\x01", Client, 2_048, Some(ScpError::LineLength)),
        ("longest answer", "\x01", Server, 2_047, None),
        ("longer answer", "\x01", Server, 2_048, Some(ScpError::LineLength)),
    ];
    for (name, start, from, bytes, error) in cases {
        let (ready, long): (Said<'_>, _) = ((Server, b"\0"), line(start, bytes));
        let mut said = vec![ready, (from, &long)];
        if from == Server {
            said.insert(1, (Client, b"C0644 3 a\n"));
        }
        for mode in [Mode::Observe, Mode::Enforce] {
            assert_eq!(pass(mode, "scp -t /t", allow, &said).error, error, "{name} {mode:?}");
        }
    }
}

proptest! {
    #[test]
    fn watching_never_changes_a_byte(
        chunks in vec((any::<bool>(), vec(any::<u8>(), 0..40)), 0..20),
        lines in vec((any::<bool>(), "[\u{0}\u{1}CDET0-9 \na]{0,12}"), 0..20),
    ) {
        let chunks = chunks.into_iter();
        let lines = lines.into_iter().map(|(who, line)| (who, line.into_bytes()));
        for said in [chunks.collect::<Vec<_>>(), lines.collect()] {
            let who = |is_client: bool| if is_client { Client } else { Server };
            let said: Vec<Said<'_>> =
                said.iter().map(|(is_client, bytes)| (who(*is_client), bytes.as_slice())).collect();
            let all: Vec<u8> = said.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
            for mode in [Mode::Observe, Mode::Enforce] {
                let passed = pass(mode, "scp -rt /t", allow, &said);
                let is_held = mode == Mode::Enforce && passed.error.is_none();
                if is_held {
                    // What is held back may go on after the other peer's bytes.
                    prop_assert_eq!(passed.on.len(), all.len());
                } else {
                    prop_assert_eq!(&passed.on, &all[..passed.on.len()]);
                }
            }
        }
    }
}
