//! Files out of trails.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::{Value, json};

use super::super::sample::{Part, Site};
use super::*;

/// SHA-256 of nothing and of "abc" (FIPS 180-2 appendix B.1).
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn opened(channel: &'static str, kind: &'static str) -> Record<'static> {
    let fields = vec![("kind", kind), ("detail", ""), ("rule", "0"), ("channel", channel)];
    Record::Event { kind: "channel", fields }
}

/// What the gateway saw of a copy.
fn operation(channel: u32) -> Record<'static> {
    let (path, new_path): (&[u8], &[u8]) = (b"/a", b"");
    let (operation, result) = ("write", "ok");
    Record::FileOperation { channel, operation, path, new_path, size: 3, sha256: None, result }
}

/// What peers said on a channel, each thing 1 ns later than the one before.
fn said(channel: u32, first_ns: u64, said: &'static [(Source, Vec<u8>)]) -> [Part<'static>; 2] {
    let of = |client: bool| {
        let times = (first_ns..).zip(said);
        let own = times.filter(|(_, (source, _))| (*source == Source::Stdin) == client);
        let records = own.map(|(t_ns, (source, bytes))| {
            (t_ns, Record::Data { channel, source: *source, bytes })
        });
        records.collect::<Vec<_>>()
    };
    [(Stream::Downstream, of(false)), (Stream::Upstream, of(true))]
}

/// Leaked, as records borrow it.
fn leak(said: Vec<(Source, Vec<u8>)>) -> &'static [(Source, Vec<u8>)] {
    Vec::leak(said)
}

/// Seals stand between streams, so everything in one order is a trail of its own parts.
fn in_order(meta: Vec<(u64, Record<'static>)>, said: &[[Part<'static>; 2]]) -> Vec<Part<'static>> {
    let mut all: Vec<(u64, Stream, Record<'static>)> =
        meta.into_iter().map(|(t_ns, record)| (t_ns, Stream::Meta, record)).collect();
    for (stream, records) in said.iter().flatten() {
        all.extend(records.iter().map(|(t_ns, record)| (*t_ns, *stream, record.clone())));
    }
    all.sort_by_key(|(t_ns, _, _)| *t_ns);
    all.into_iter().map(|(t_ns, stream, record)| (stream, vec![(t_ns, record)])).collect()
}

fn client(bytes: &[u8]) -> (Source, Vec<u8>) {
    (Source::Stdin, bytes.to_vec())
}

fn server(bytes: &[u8]) -> (Source, Vec<u8>) {
    (Source::Stdout, bytes.to_vec())
}

/// A packet of sftp: its type, and its fields.
fn packet(kind: u8, fields: &[&[u8]]) -> Vec<u8> {
    let body = fields.concat();
    let length = u32::try_from(body.len() + 1).unwrap().to_be_bytes();
    [length.as_slice(), &[kind], &body].concat()
}

fn string(bytes: &[u8]) -> Vec<u8> {
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    [length.as_slice(), bytes].concat()
}

fn open(id: u32, path: &[u8], flags: u32) -> (Source, Vec<u8>) {
    let (id, flags) = (id.to_be_bytes(), flags.to_be_bytes());
    client(&packet(3, &[&id, &string(path), &flags, &[0; 4]]))
}

fn handle(id: u32, handle: &[u8]) -> (Source, Vec<u8>) {
    server(&packet(102, &[&id.to_be_bytes(), &string(handle)]))
}

fn write(id: u32, handle: &[u8], offset: u64, bytes: &[u8]) -> (Source, Vec<u8>) {
    let (id, offset) = (id.to_be_bytes(), offset.to_be_bytes());
    client(&packet(6, &[&id, &string(handle), &offset, &string(bytes)]))
}

fn read(id: u32, handle: &[u8], offset: u64) -> (Source, Vec<u8>) {
    let (id, offset) = (id.to_be_bytes(), offset.to_be_bytes());
    client(&packet(5, &[&id, &string(handle), &offset, &32_768_u32.to_be_bytes()]))
}

fn content(id: u32, bytes: &[u8]) -> (Source, Vec<u8>) {
    server(&packet(103, &[&id.to_be_bytes(), &string(bytes)]))
}

fn close(id: u32, handle: &[u8]) -> (Source, Vec<u8>) {
    client(&packet(4, &[&id.to_be_bytes(), &string(handle)]))
}

fn status(id: u32, status: u32) -> (Source, Vec<u8>) {
    let (id, status) = (id.to_be_bytes(), status.to_be_bytes());
    server(&packet(101, &[&id, &status, &string(b""), &string(b"")]))
}

/// Both sides begin.
fn begin() -> [(Source, Vec<u8>); 2] {
    let version = 3_u32.to_be_bytes();
    [client(&packet(1, &[&version])), server(&packet(2, &[&version]))]
}

/// Exports to a new directory; gives what was exported and the index.
fn exported(
    site: &Site,
    parts: &[Part<'_>],
    only: Option<u32>,
) -> anyhow::Result<(Exported, Value)> {
    let mut reader = site.write(parts).open()?;
    let directory = site.path("files");
    let exported = export(&mut reader, only, &directory)?;
    let index = fs::read_to_string(directory.join("index.json"))?;
    Ok((exported, serde_json::from_str(&index)?))
}

/// Names in the directory, in order, with their contents; without the index.
fn contents(site: &Site) -> Vec<(String, String)> {
    let entries = fs::read_dir(site.path("files")).unwrap().map(Result::unwrap);
    let mut files: Vec<_> = entries
        .filter(|entry| entry.file_name() != "index.json")
        .map(|entry| {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600);
            let name = entry.file_name().into_string().unwrap();
            (name, fs::read_to_string(entry.path()).unwrap())
        })
        .collect();
    files.sort();
    files
}

fn owned(files: &[(&str, &str)]) -> Vec<(String, String)> {
    files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

#[test]
fn files_of_scp_are_written() {
    let site = Site::new();
    let up = leak(vec![
        server(b"\0"),
        client(b"C0644 3 ../../evil\xff\n"),
        server(b"\0"),
        client(b"ab"),
        (Source::Stderr, b"a remark".to_vec()),
        client(b"c\0"),
        server(b"\0"),
        client(b"C0644 0 empty\n"),
        server(b"\0"),
        client(b"\0"),
        server(b"\0"),
        client(b"C0644 9 c\n"),
        server(b"\0"),
        client(b"abc"),
    ]);
    let command = Record::Command { channel: 4, command: b"scp -d -t /in" };
    let mut parts = in_order(
        vec![(1, opened("4", "session-exec-scp")), (2, Record::Note { text: "x" })],
        &[said(4, 10, up)],
    );
    parts.insert(1, (Stream::Upstream, vec![(2, command)]));
    let (exported, index) = exported(&site, &parts, None).unwrap();
    assert_eq!(exported, Exported { complete: 2, partial: 1, lost: 0 });
    let files = [("000001-evil_", "abc"), ("000002-empty", ""), ("000003-c", "abc")];
    assert_eq!(contents(&site), owned(&files));
    let expected = json!({
        "files": [
            {
                "channel": 4, "t_ns": 16, "operation": "write",
                "path": "/in/../../evil\u{fffd}", "path_base64": "L2luLy4uLy4uL2V2aWz/",
                "file": "000001-evil_", "size": 3, "sha256": ABC, "carried": 3,
                "complete": true, "missing": null, "result": "ok",
            },
            {
                "channel": 4, "t_ns": 20, "operation": "write", "path": "/in/empty",
                "file": "000002-empty", "size": 0, "sha256": EMPTY, "carried": 0,
                "complete": true, "missing": null, "result": "ok",
            },
            {
                "channel": 4, "t_ns": 23, "operation": "write", "path": "/in/c",
                "file": "000003-c", "size": 3, "sha256": ABC, "carried": 3,
                "complete": false, "missing": "unfinished", "result": "unanswered",
            },
        ],
        "lost": [],
    });
    assert_eq!(index, expected);
    let mode = fs::metadata(site.path("files")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

/// Two files at once, one written in another order, one refused; and one of another channel.
fn sftp() -> Vec<(Source, Vec<u8>)> {
    const READ: u32 = 1;
    const CREATE: u32 = 0x1a;
    let mut said = begin().to_vec();
    said.extend([
        open(1, b"/etc/motd", READ),
        open(2, b"/tmp/new", CREATE),
        handle(1, b"h1"),
        handle(2, b"h2"),
        read(3, b"h1", 0),
        write(4, b"h2", 0, b"ab"),
        read(5, b"h1", 2),
        content(3, b"he"),
        content(5, b"llo"),
        status(4, 0),
        write(6, b"h2", 2, b"c"),
        status(6, 0),
        close(7, b"h2"),
        close(8, b"h1"),
        status(7, 0),
        status(8, 0),
        open(9, b"/tmp/holes", CREATE),
        handle(9, b"h1"),
        write(10, b"h1", 0, b"abc"),
        write(11, b"h1", 9, b"xyz"),
        status(10, 0),
        status(11, 0),
        close(12, b"h1"),
        status(12, 0),
        open(13, b"/tmp/late", CREATE),
        handle(13, b"h1"),
        write(14, b"h1", 5, b"abc"),
        status(14, 3),
        close(15, b"h1"),
        status(15, 0),
        open(16, b"/root", READ),
        status(16, 3),
    ]);
    said
}

#[test]
fn files_of_sftp_are_written() {
    let site = Site::new();
    let said = [said(0, 100, leak(sftp()))];
    let meta = vec![
        (1, opened("0", "session-sftp")),
        // Other records of the channel, while it carries content.
        (107, operation(0)),
        (108, Record::Eof { channel: 0, source: Source::Stdin }),
        (109, Record::ExitStatus { channel: 0, status: 0 }),
        (900, Record::ChannelClose { channel: 0 }),
    ];
    let parts = in_order(meta, &said);
    let (found, index) = exported(&site, &parts, None).unwrap();
    assert_eq!(found, Exported { complete: 2, partial: 2, lost: 0 });
    let files = [("000001-new", "abc"), ("000002-motd", "hello"), ("000003-holes", "abc")];
    assert_eq!(contents(&site), owned(&files));
    let shown: Vec<String> = index["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| {
            let fields = ["operation", "path", "file", "size", "carried", "complete", "missing"];
            fields.map(|field| file[field].to_string()).join(" ")
        })
        .collect();
    let expected = [
        r#""write" "/tmp/new" "000001-new" 3 3 true null"#,
        r#""read" "/etc/motd" "000002-motd" 5 5 true null"#,
        r#""write" "/tmp/holes" "000003-holes" 3 6 false "not in order""#,
        r#""write" "/tmp/late" null 0 0 false "not from the start""#,
    ];
    assert_eq!(shown, expected);

    // Nothing is written where something is.
    let mut reader = site.source("auditor").open().unwrap();
    let refused = export(&mut reader, None, &site.path("files")).unwrap_err();
    assert_eq!(format!("{refused:#}").split(": ").last(), Some("the directory is not empty"));
    // Another channel has nothing.
    fs::remove_dir_all(site.path("files")).unwrap();
    let (found, _) = exported(&site, &parts, Some(1)).unwrap();
    assert_eq!(found, Exported { complete: 0, partial: 0, lost: 0 });
}

#[test]
fn wherever_sftp_is_cut_what_was_carried_is_there() {
    let site = Site::new();
    let whole = sftp();
    for count in 1..whole.len() {
        let said = [said(0, 100, leak(whole[..count].to_vec()))];
        let parts = in_order(vec![(1, opened("0", "session-sftp"))], &said);
        let (found, _) = exported(&site, &parts, None).unwrap();
        assert_eq!(found.lost, 0, "{count}");
        for (name, text) in contents(&site) {
            let number = name.split_once('-').unwrap().0;
            let all = if name.ends_with("motd") { "hello" } else { "abc" };
            assert!(all.starts_with(&text) && number.len() == 6, "{count}: {name} {text}");
        }
        fs::remove_dir_all(site.path("files")).unwrap();
    }
}

#[test]
fn what_cannot_be_followed_is_said() {
    let site = Site::new();
    let mut garbled = begin().to_vec();
    garbled.extend([open(1, b"/a", 0x1a), handle(1, b"h"), write(2, b"h", 0, b"abc")]);
    let mut gap = garbled.clone();
    garbled.push(server(&[0xff; 9]));
    gap.push(status(2, 0));
    let scp = vec![server(b"\0")];
    let meta = vec![
        (1, opened("0", "session-sftp")),
        (1, opened("1", "session-sftp")),
        (1, opened("2", "session-exec-scp")),
        (1, opened("3", "session-sftp")),
        (1, opened("5", "session-shell")),
        (700, operation(3)),
        (800, Record::Gap { reason: "disk full", dropped_bytes: 9 }),
    ];
    let said = [
        said(0, 100, leak(garbled)),
        said(1, 200, leak(gap)),
        said(2, 300, leak(scp)),
        said(5, 400, leak(vec![server(b"text")])),
    ];
    let (found, index) = exported(&site, &in_order(meta, &said), None).unwrap();
    assert_eq!(found, Exported { complete: 0, partial: 2, lost: 4 });
    let expected = json!([
        {
            "channel": 0,
            "why": "sftp cannot be followed: packet of 4294967295 bytes is not in 1 to 263168",
        },
        { "channel": 1, "why": "the recording has a gap" },
        { "channel": 2, "why": "command of scp cannot be understood: neither -t nor -f, or both" },
        { "channel": 3, "why": "the recording does not have its content" },
    ]);
    assert_eq!(index["lost"], expected);
    assert_eq!(contents(&site), owned(&[("000001-a", "abc"), ("000002-a", "abc")]));
    assert!(index["files"].as_array().unwrap().iter().all(|file| file["complete"] == false));
}

#[test]
fn both_keys_are_needed() {
    let site = Site::new();
    site.write(&[(Stream::Meta, vec![(1, Record::Note { text: "x" })])]);
    let mut reader = site.source("half").open().unwrap();
    let refused = export(&mut reader, None, &site.path("files")).unwrap_err();
    assert!(
        refused.to_string().starts_with("files are found in what both sides sent"),
        "{refused}"
    );
    assert!(!site.path("files").exists());
}
