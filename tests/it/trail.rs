//! The recording of a real session: proven, read, replayed, exported; and whatever is done to it
//! afterwards is noticed and named.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use e2e::peer::programs::python;
use e2e::peer::ssh::Client;
use e2e::peer::sshd::{self, Sshd};
use e2e::process::{Finished, output};
use e2e::proxyd::{Proxyd, Settings};
use e2e::terminal::Size;
use e2e::wait::wait_until;
use e2e::world::{Family, Host, World};

use crate::stage::{Auditor, LIMIT, OPEN, Records, connection, library};

/// What the user types while the server does not echo it.
const TYPED_SECRET: &str = "typed-but-never-shown";

/// Bytes of a trail's fixed start: magic, version, body length, check (see docs/trail-format.md).
const PREAMBLE_BYTES: usize = 8 + 2 + 4 + 4;
/// Bytes of a signature.
const SIGNATURE_BYTES: usize = 64;
/// Bytes of a frame's head: kind, trail tag, sequence, body length, check.
const HEAD_BYTES: usize = 1 + 4 + 8 + 4 + 4;
/// Bytes of a frame's hash.
const HASH_BYTES: usize = 32;

/// Every so many bytes one is changed: each changed file is verified by a process of its own.
const FLIP_STEP: usize = 211;

/// One recorded session, and who can open what of it.
struct Recorded<'w> {
    proxyd: Proxyd<'w>,
    trail: PathBuf,
    key: String,
    session: String,
    auditor: Auditor,
    head_of_audit: Auditor,
    other: Auditor,
}

impl<'w> Recorded<'w> {
    fn new(world: &'w World) -> Self {
        let auditor = Auditor::new(world, "auditor");
        let head_of_audit = Auditor::new(world, "head-of-audit");
        let other = Auditor::new(world, "other");
        let upstream = format!(
            "recipients = [[\"{}\"]]\nupstream_recipients = [[\"{}\"]]\n",
            auditor.recipient, head_of_audit.recipient
        );
        let library = library(&auditor, &[]);
        let one_group = format!("recipients = [[\"{}\"]]\n", auditor.recipient);
        assert!(library.contains(&one_group));
        let policies = connection(world, "open", OPEN) + &library.replace(&one_group, &upstream);
        let settings = Settings { policies: &policies, ..Settings::default() };
        let proxyd = Proxyd::start(world, settings).unwrap();
        let _server = Sshd::start(world).unwrap();
        let client = Client::new(world, "alice").unwrap();
        let mut records = Records::new(&proxyd);
        let to = format!("alice@{}", world.address(Host::Server, Family::V4));
        let call = client.ssh().arg(to).reply(sshd::ASKS, sshd::PASSWORD);
        let mut terminal = call.terminal(Size { rows: 24, columns: 80 }).unwrap();
        terminal.send("echo first-$((40+1))\r").unwrap();
        terminal.expect("first-41", LIMIT).unwrap();
        let live = records.all();
        let spooled = proxyd.spooled(&live[0].trail);
        let bytes = |path: &Path| fs::metadata(path).map_or(0, |meta| meta.len());
        // The session is longer than one flush, so that its trail has several seals.
        for round in 1..=3 {
            let before = bytes(&spooled);
            let ask = "stty -echo; echo ask-$((30+N)); read -r x; stty echo; echo shown-$((40+N))";
            terminal.send(&format!("{}\r", ask.replace('N', &round.to_string()))).unwrap();
            terminal.expect(&format!("ask-{}", 30 + round), LIMIT).unwrap();
            terminal.send(&format!("{TYPED_SECRET}\r")).unwrap();
            terminal.expect(&format!("shown-{}", 40 + round), LIMIT).unwrap();
            wait_until("the trail to grow", LIMIT, || bytes(&spooled) > before).unwrap();
        }
        terminal.resize(Size { rows: 30, columns: 90 }).unwrap();
        terminal.send("exit\r").unwrap();
        terminal.finish(LIMIT).unwrap();
        let row = records.next().row;
        let (trail, key) = (proxyd.trail(&row.trail), proxyd.public_key().unwrap());
        let session = row.id.to_string();
        Self { proxyd, trail, key, session, auditor, head_of_audit, other }
    }

    /// Runs `proxyd trail VERB` on the recording.
    fn trail(&self, verb: &str, identities: &[&Auditor]) -> Finished {
        let identities =
            identities.iter().map(|who| format!("--identity {}", who.identity.display()));
        let identities = identities.collect::<Vec<_>>().join(" ");
        let words = format!("trail {verb} --key {} {identities}", self.key);
        self.proxyd.command(&words, &[&self.trail]).unwrap()
    }

    /// Fails unless the session can be had in the other formats.
    fn is_exported(&self, identities: &[&Auditor]) {
        let cast = self.trail("export --format asciicast-v3", identities).ok().unwrap().text();
        assert!(cast.starts_with("{\"version\":3,\"term\":{\"cols\":80,\"rows\":24"), "{cast}");
        assert!(cast.trim_end().ends_with("\"x\", \"0\"]"), "{cast}");

        let text = self.trail("export --format text", identities).ok().unwrap().text();
        assert!(text.starts_with("== channel 0, session-shell ==\n"), "{text}");
        assert!(text.contains("shown-42\n") && !text.contains(TYPED_SECRET), "{text}");
        assert!(text.chars().all(|c| !c.is_control() || "\n\t".contains(c)), "{text:?}");

        let json = self.trail("export --format json", identities).ok().unwrap().text();
        let records: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for kind in ["event", "pty", "data", "resize", "exit-status", "channel-close"] {
            assert!(records.iter().any(|record| record["kind"] == kind), "no {kind} in {json}");
        }

        let words = "export --format pcapng --client 10.77.1.2:50000";
        let packets = self.trail(words, identities).ok().unwrap().stdout;
        assert!(packets.starts_with(&[0x0a, 0x0d, 0x0d, 0x0a]));
        let has = |text: &str| packets.windows(text.len()).any(|part| part == text.as_bytes());
        for part in ["shown-42", "channel 0, session-shell", "channel 0, stdin"] {
            assert!(has(part), "no {part}");
        }
    }

    /// Runs `proxyd trail verify` on these bytes.
    fn verify(&self, bytes: &[u8]) -> Finished {
        let path = self.proxyd.directory().join("changed.trail");
        fs::write(&path, bytes).unwrap();
        self.proxyd.command(&format!("trail verify --key {}", self.key), &[&path]).unwrap()
    }
}

#[test]
fn a_recording_is_read() {
    let world = World::router().unwrap();
    let recorded = Recorded::new(&world);
    let (auditor, both) = (&recorded.auditor, [&recorded.auditor, &recorded.head_of_audit]);

    let verified = recorded.trail("verify", &[]);
    assert_eq!(verified.code(), 0, "{}", verified.stderr);
    assert!(verified.text().contains("complete"), "{}", verified.text());

    let info = recorded.trail("info", &[]).ok().unwrap().text();
    for part in [&recorded.session, "policy      open", "ended       ", &auditor.recipient] {
        assert!(info.contains(part), "no {part:?} in {info}");
    }

    let replayed = recorded.trail("replay --speed 0", &[auditor]).ok().unwrap();
    let shown = String::from_utf8_lossy(&replayed.stdout).into_owned();
    for part in ["first-41", "shown-41", "shown-42", "shown-43"] {
        assert!(shown.contains(part), "no {part:?} in {shown}");
    }

    // What the server showed opens with one identity, what the user typed with the other.
    let cast = recorded.trail("export --format asciicast", &[auditor]).ok().unwrap().text();
    assert!(cast.starts_with("{\"version\": 2") || cast.starts_with("{\"version\":2"), "{cast}");
    assert!(cast.contains("shown-42"), "{cast}");
    assert!(cast.contains("90x30"), "{cast}");
    assert!(!cast.contains(TYPED_SECRET), "what was typed is there: {cast}");
    assert!(events(&cast, "i").is_empty(), "{cast}");
    let cast = recorded.trail("export --format asciicast", &both).ok().unwrap().text();
    let typed = events(&cast, "i").concat();
    assert!(typed.contains(TYPED_SECRET), "{typed}");

    recorded.is_exported(&both);
    let found = recorded.trail("replay --speed 0 --search SHOWN-42", &[auditor]).ok().unwrap();
    assert!(String::from_utf8_lossy(&found.stdout).contains("shown-43"));
    let found = recorded.trail("replay --speed 0 --search no-such-text", &[auditor]);
    assert_eq!(found.code(), 1);
    assert!(found.stderr.contains("the output has no \"no-such-text\""), "{}", found.stderr);

    for (name, identities) in [("nobody's", vec![&recorded.other]), ("no", vec![])] {
        let refused = recorded.trail("replay --speed 0", &identities);
        assert_ne!(refused.code(), 0, "{name} identity opens it");
        assert!(!refused.text().contains("shown-42"), "{name}");
        assert!(!refused.stderr.is_empty(), "{name}");
    }

    // Nothing of it can be read from the file itself.
    let bytes = fs::read(&recorded.trail).unwrap();
    for secret in [TYPED_SECRET, "shown-42", sshd::PASSWORD] {
        let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
        assert!(!found, "{secret} is in the file");
    }
    let other_key = "ed25519:".to_owned() + &"00".repeat(32);
    let words = format!("trail verify --key {other_key}");
    let verified = recorded.proxyd.command(&words, &[&recorded.trail]).unwrap();
    assert_ne!(verified.code(), 0, "another key's signature is taken: {}", verified.text());
}

/// A session of which no channel is recorded has a record, but no trail.
#[test]
fn what_is_not_recorded_leaves_no_trail() {
    let world = World::router().unwrap();
    let lines = OPEN.replace("\"all\"", "\"unrecorded\"").replace("audit = \"sealed\"\n", "");
    let unrecorded = "
[[channel_policy]]
name = \"unrecorded\"
[[channel_policy.rule]]
type = \"session-exec\"
record = false
";
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", &lines) + &library(&auditor, &[]) + unrecorded;
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let to = format!("alice@{}", world.address(Host::Server, Family::V4));
    let call = client.ssh().arg(to).arg("exit 3").reply(sshd::ASKS, sshd::PASSWORD);
    assert_eq!(call.run(LIMIT).unwrap().code(), 3);
    let closed = Records::new(&proxyd).next();
    assert_eq!((closed.row.outcome.as_str(), closed.row.trail.as_str()), ("completed", ""));
    assert_eq!(closed.events("channel"), ["channel=0 detail=exit 3 kind=session-exec rule=0"]);
    for directory in [proxyd.spooled(""), proxyd.trail("")] {
        let names = fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name());
        let trails: Vec<_> =
            names.filter(|name| name.to_string_lossy().ends_with(".trail")).collect();
        assert!(trails.is_empty(), "{trails:?} in {}", directory.display());
    }
}

/// The texts of a cast's events of one kind.
fn events(cast: &str, kind: &str) -> Vec<String> {
    let lines = cast.lines().skip(1).map(|line| serde_json::from_str::<Vec<_>>(line).unwrap());
    let of_kind = lines.filter(|event: &Vec<serde_json::Value>| event[1] == kind);
    of_kind.map(|event| event[2].as_str().unwrap().to_owned()).collect()
}

#[test]
fn whatever_is_done_to_a_trail_is_named() {
    let world = World::router().unwrap();
    let recorded = Recorded::new(&world);
    let whole = fs::read(&recorded.trail).unwrap();
    let trail = Frames::of(&whole);
    assert!(trail.frames.len() >= 7, "{} frames", trail.frames.len());
    assert_eq!(join(trail.header, &trail.frames), whole);
    for (name, bytes, said) in attacks(&whole, &trail) {
        let verified = recorded.verify(&bytes);
        let text = verified.text() + &verified.stderr;
        assert_eq!(verified.code(), 1, "{name}: {text}");
        assert!(text.contains(&said), "{name}: {text} does not say {said}");
    }
    // Wherever a byte is flipped, the header included, it shows.
    for position in (0..whole.len()).step_by(FLIP_STEP) {
        let verified = recorded.verify(&flipped(&whole, position));
        assert_eq!(verified.code(), 1, "byte {position} of {}: {}", whole.len(), verified.text());
    }
    assert_eq!(recorded.verify(&whole).code(), 0, "the whole one is still whole");
}

/// A reader that knows nothing but the format's documentation finds the same in a trail, and the
/// same whatever is done to it.
#[test]
fn a_second_reader_agrees() {
    let world = World::router().unwrap();
    let recorded = Recorded::new(&world);
    let read = |identities: &[&Auditor]| -> Vec<String> {
        let files: Vec<_> =
            identities.iter().map(|who| who.identity.display().to_string()).collect();
        let trail = recorded.trail.display().to_string();
        let run = second_reader(&["print", &recorded.key, &files.join(","), &trail]);
        run.lines().map(str::to_owned).collect()
    };
    let (auditor, both) = (&recorded.auditor, [&recorded.auditor, &recorded.head_of_audit]);
    let of = |lines: &[String], kind: &str| -> Vec<serde_json::Value> {
        let records = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
        records.filter(|record: &serde_json::Value| record["kind"] == kind).collect()
    };
    let bytes_of = |lines: &[String], source: &str| -> String {
        let data = of(lines, "data").into_iter().filter(|data| data["source"] == source);
        data.map(|data| data["bytes"].as_str().unwrap().to_owned()).collect()
    };
    let lines = read(&both);
    assert_eq!(lines.last().unwrap(), "complete");
    let cast = recorded.trail("export --format asciicast", &both).ok().unwrap().text();
    assert_eq!(bytes_of(&lines, "stdout"), events(&cast, "o").concat(), "what was shown");
    assert_eq!(bytes_of(&lines, "stdin"), events(&cast, "i").concat(), "what was typed");
    // A terminal may tell its program of rows and columns one after the other.
    let sizes = of(&lines, "resize");
    assert_eq!(sizes.last().unwrap()["size"], serde_json::json!([90, 30]));
    assert_eq!(of(&lines, "exit status")[0]["status"], 0);
    let named = |name: &str| of(&lines, "event").iter().any(|event| event["event"] == name);
    assert!(named("client-hello") && named("server-login") && named("ended"), "{lines:?}");
    let times = lines.iter().filter_map(|line| serde_json::from_str(line).ok());
    let times = times.map(|record: serde_json::Value| record["time_ns"].as_u64().unwrap());
    assert!(times.is_sorted(), "the records are in order");
    // With one identity the other's stream stays closed; with neither, everything.
    let lines = read(&[auditor]);
    assert!(bytes_of(&lines, "stdout").contains("shown-42"));
    assert_eq!(bytes_of(&lines, "stdin"), "");
    assert_eq!(read(&[&recorded.other]), ["complete"]);

    let whole = fs::read(&recorded.trail).unwrap();
    let attacks = attacks(&whole, &Frames::of(&whole)).into_iter();
    let mut changed: Vec<(String, Vec<u8>)> =
        attacks.map(|(name, bytes, _said)| (name.to_owned(), bytes)).collect();
    let positions = (0..whole.len()).step_by(FLIP_STEP);
    changed.extend(positions.map(|at| (format!("byte {at} flipped"), flipped(&whole, at))));
    let lengths = (0..whole.len()).step_by(FLIP_STEP);
    changed.extend(lengths.map(|at| (format!("cut at byte {at}"), whole[..at].to_vec())));
    changed.push(("zeros behind".to_owned(), [&whole[..], &[0; 4096]].concat()));
    let directory = world.subdirectory("changed").unwrap();
    let paths: Vec<_> = (0..changed.len()).map(|index| directory.join(index.to_string())).collect();
    let mut words = vec!["verify".to_owned(), recorded.key.clone()];
    for ((_name, bytes), path) in changed.iter().zip(&paths) {
        fs::write(path, bytes).unwrap();
        words.push(path.display().to_string());
    }
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let said = second_reader(&words);
    assert_eq!(said.lines().count(), changed.len());
    for ((name, bytes), said) in changed.iter().zip(said.lines()) {
        let ours = recorded.verify(bytes).text();
        let [ours, theirs] = [ours.as_str(), said].map(class);
        assert_eq!(theirs, ours, "{name}: {said}");
    }
}

/// The first word of a verdict that says what became of the trail.
fn class(verdict: &str) -> &'static str {
    let classes = ["altered", "cut", "complete"];
    classes.into_iter().find(|class| verdict.contains(class)).unwrap_or("nothing")
}

/// What the second reader prints.
fn second_reader(words: &[&str]) -> String {
    let mut command = Command::new(python("python3").unwrap());
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/reader/trail.py");
    output(command.arg(reader).args(words)).unwrap()
}

/// What can be done to a trail, and what its verifier says to it.
fn attacks(whole: &[u8], trail: &Frames<'_>) -> [(&'static str, Vec<u8>, String); 12] {
    let last = trail.frames.len() - 1;
    let altered = |what: &str| format!("altered at frame 2, byte {}: {what}", trail.offset(2));
    let cut =
        |index: usize| format!("cut at byte {}: {index} frames are intact", trail.offset(index));
    let in_body = trail.offset(2) + HEAD_BYTES + 3;
    let in_head = trail.offset(2) + 7;
    let removed = "frame 3 stands here: the frames before it were removed";
    let swapped = "frame 3 stands here, the expected frame comes later: frames were swapped";
    [
        ("a frame removed", trail.without(2), altered(removed)),
        ("the first frame removed", trail.without(0), "altered at frame 0".into()),
        ("neighbours swapped", trail.swapped(2, 3), altered(swapped)),
        ("distant frames swapped", trail.swapped(1, 4), "altered at frame 1".into()),
        ("a frame repeated", trail.repeated(3), "frame 3 is repeated".into()),
        ("the end cut off", trail.first(last), cut(last)),
        ("the tail cut off", trail.first(3), cut(3)),
        ("cut within a frame", whole[..trail.offset(4) + 30].to_vec(), cut(4)),
        ("the last byte cut off", whole[..whole.len() - 1].to_vec(), cut(last)),
        ("a body changed", flipped(whole, in_body), altered("bytes of the frame were changed")),
        ("a head changed", flipped(whole, in_head), altered("bytes of the frame's head")),
        ("bytes behind the end", [whole, b"x"].concat(), "bytes follow the end".into()),
    ]
}

/// A trail with one bit of one byte changed.
fn flipped(trail: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = trail.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

fn join(header: &[u8], frames: &[&[u8]]) -> Vec<u8> {
    [header, &frames.concat()].concat()
}

/// A trail, taken apart as its format's documentation says.
struct Frames<'t> {
    header: &'t [u8],
    frames: Vec<&'t [u8]>,
}

impl<'t> Frames<'t> {
    fn of(trail: &'t [u8]) -> Self {
        assert!(trail.starts_with(b"\x89proxyd\n"));
        let body = u32::from_be_bytes(trail[10..14].try_into().unwrap());
        let (header, mut rest) = trail.split_at(PREAMBLE_BYTES + body as usize + SIGNATURE_BYTES);
        let mut frames = Vec::new();
        while !rest.is_empty() {
            let body = u32::from_be_bytes(rest[13..17].try_into().unwrap());
            let (frame, after) = rest.split_at(HEAD_BYTES + body as usize + HASH_BYTES);
            frames.push(frame);
            rest = after;
        }
        Self { header, frames }
    }

    /// Where a frame starts in the file.
    fn offset(&self, index: usize) -> usize {
        self.first(index).len()
    }

    /// Only the header and the first frames.
    fn first(&self, count: usize) -> Vec<u8> {
        join(self.header, &self.frames[..count])
    }

    fn without(&self, index: usize) -> Vec<u8> {
        let mut frames = self.frames.clone();
        frames.remove(index);
        join(self.header, &frames)
    }

    fn swapped(&self, a: usize, b: usize) -> Vec<u8> {
        let mut frames = self.frames.clone();
        frames.swap(a, b);
        join(self.header, &frames)
    }

    fn repeated(&self, index: usize) -> Vec<u8> {
        let mut frames = self.frames.clone();
        frames.insert(index, frames[index]);
        join(self.header, &frames)
    }
}

/// A live session is followed by whoever can open its trail, and found by its id ever after. A
/// replay that starts late starts at a keyframe.
#[test]
fn a_session_is_followed_and_found_by_its_id() {
    let world = World::router().unwrap();
    let auditor = Auditor::new(&world, "auditor");
    let policies = connection(&world, "open", OPEN) + &library(&auditor, &[]);
    let settings = Settings { policies: &policies, ..Settings::default() };
    let proxyd = Proxyd::start(&world, settings).unwrap();
    let _server = Sshd::start(&world).unwrap();
    let client = Client::new(&world, "alice").unwrap();
    let mut records = Records::new(&proxyd);
    let to = format!("alice@{}", world.address(Host::Server, Family::V4));
    let call = client.ssh().arg(to).reply(sshd::ASKS, sshd::PASSWORD);
    let mut terminal = call.terminal(Size { rows: 24, columns: 80 }).unwrap();
    terminal.send("echo before-$((40+1))\r").unwrap();
    terminal.expect("before-41", LIMIT).unwrap();
    let id = records.all()[0].id.to_string();
    let identity = auditor.identity.display();
    let words = format!("trail follow {id} --identity {identity} --config");
    let mut follow = proxyd.start_command(&words, &[&proxyd.config()]).unwrap();
    let seen = |text: &str| {
        let text = text.to_owned();
        wait_until("the follower to see it", LIMIT, || {
            follow.stdout().is_ok_and(|out| String::from_utf8_lossy(&out).contains(&text))
        })
        .unwrap();
    };
    seen("before-41");
    terminal.send("echo meanwhile-$((40+2))\r").unwrap();
    terminal.expect("meanwhile-42", LIMIT).unwrap();
    seen("meanwhile-42");
    assert_eq!(follow.status().unwrap(), None);
    // More than a keyframe is apart from the next.
    terminal.send("seq 1 120000; echo late-$((40+3))\r").unwrap();
    terminal.expect("late-43", LIMIT).unwrap();
    terminal.send("exit\r").unwrap();
    terminal.finish(LIMIT).unwrap();
    assert_eq!(records.next().row.id.to_string(), id);
    let followed = follow.finish(LIMIT).unwrap().ok().unwrap().text();
    assert!(followed.contains("late-43"));
    let run = |words: &str| {
        let words = format!("trail {words} --config");
        proxyd.command(&words, &[&proxyd.config()]).unwrap().ok().unwrap().text()
    };
    assert!(run(&format!("verify {id}")).contains("complete"));
    let late = run(&format!("replay {id} --identity {identity} --speed 0 --search late-43"));
    assert!(late.contains("late-43"), "{late}");
    assert!(late.contains("not verified before"), "it starts at a keyframe: {late}");
    assert!(!late.contains("before-41"), "{late}");
    let whole = run(&format!("replay {id} --identity {identity} --speed 0"));
    assert!(whole.contains("before-41") && !whole.contains("not verified"));
    let packets = proxyd.command(
        &format!("trail export {id} --identity {identity} --format pcapng --config"),
        &[&proxyd.config()],
    );
    let packets = packets.unwrap().ok().unwrap();
    assert!(packets.stdout.len() > 800_000, "the addresses are in the trail");
}
