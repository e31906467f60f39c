//! What the driver sees of channels that carry files.

use proxyd_policy::files::{FileAccess, FileAction, FileRule};

use super::*;

/// SHA-256 of nothing and of "abc" (FIPS 180-2 appendix B.1).
const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

/// Lets files be written below `/in`.
fn policy() -> Option<Arc<FilePolicy>> {
    let rule = FileRule {
        operations: vec![FileAccess::Write, FileAccess::Mkdir],
        paths: vec!["/in/**".parse().unwrap()],
        bytes_max: Some(100),
        action: FileAction::Allow,
    };
    Some(Arc::new(FilePolicy { name: "in".into(), rules: vec![rule] }))
}

/// What goes on, and what was done, as "name path bytes hash: result".
fn pass(files: &mut Files, said: &[(Side, &[u8])]) -> (Vec<u8>, Vec<String>) {
    let (mut on, mut buffer) = (vec![], vec![]);
    for (from, bytes) in said {
        on.extend_from_slice(files.pass(*from, bytes, &mut buffer).unwrap());
    }
    files.finish();
    let line = |operation: Operation| {
        let fields = operation.fields();
        let values: Vec<&str> = fields.iter().map(|(_, value)| value.as_str()).collect();
        values.join(" ")
    };
    (on, files.operations().map(line).collect())
}

#[test]
fn content_is_hashed() {
    let said: &[(Side, &[u8])] = &[
        (Side::Server, b"\0"),
        (Side::Client, b"C0644 3 a\n"),
        (Side::Server, b"\0"),
        (Side::Client, b"ab"),
        (Side::Client, b"c\0"),
        (Side::Server, b"\0"),
        (Side::Client, b"C0644 0 b\n"),
        (Side::Server, b"\0"),
        (Side::Client, b"\0"),
        (Side::Server, b"\0"),
        (Side::Client, b"C0644 9 c\n"),
        (Side::Server, b"\0"),
        (Side::Client, b"abc"),
    ];
    let all: Vec<u8> = said.iter().flat_map(|(_, bytes)| bytes.to_vec()).collect();
    for policy in [None, policy()] {
        let mut files = Files::scp(b"scp -t /in/", policy).unwrap();
        let (on, done) = pass(&mut files, said);
        assert_eq!(on, all);
        let expected = [
            format!("write /in/a 3 {ABC} ok"),
            format!("write /in/b 0 {EMPTY} ok"),
            "write /in/c 3 unanswered, content not hashed: unfinished".to_owned(),
        ];
        assert_eq!(done, expected);
        assert_eq!(files.operations().count(), 0);
    }
}

#[test]
fn a_policy_refuses() {
    let said: &[(Side, &[u8])] = &[(Side::Server, b"\0"), (Side::Client, b"C0644 101 a\n")];
    let mut files = Files::scp(b"scp -t /in/", policy()).unwrap();
    let (on, done) = pass(&mut files, said);
    assert_eq!(on, b"\0\x020644 101 a\n");
    assert_eq!(done, ["write /in/a 101 refused by policy"]);
}

#[test]
fn what_cannot_be_followed_passes_or_ends() {
    let said: &[u8] = b"\0\0\0\x05\x01\0\0\0\x03\xff\xff\xff\xff";
    let mut buffer = vec![];
    let mut files = Files::sftp(None);
    for _ in 0..2 {
        assert_eq!(files.pass(Side::Client, said, &mut buffer).unwrap(), said);
    }
    assert!(!files.is_followed());
    let results: Vec<String> = files.operations().map(|operation| operation.result).collect();
    let expected = "sftp cannot be followed: packet of 4294967295 bytes is not in 1 to 263168";
    assert_eq!(results, [expected]);
    let mut files = Files::sftp(policy());
    assert!(matches!(files.pass(Side::Client, said, &mut buffer), Err(FilesError::Sftp(_))));
    let again = files.pass(Side::Client, b"x", &mut buffer);
    assert!(matches!(again, Err(FilesError::Unfollowed)));
    assert_eq!(files.operations().count(), 1);
}

#[test]
fn a_command_that_is_not_certain_is_not_started_under_a_policy() {
    for command in ["scp -t /in; id", "scp -t", "scp x"] {
        let refused = Files::scp(command.as_bytes(), policy());
        assert!(matches!(refused, Err(FilesError::Command(_))), "{command}");
        Files::scp(command.as_bytes(), None).unwrap();
    }
    let mut files = Files::scp(b"scp x", None).unwrap();
    assert_eq!(files.pass(Side::Client, b"anything", &mut vec![]).unwrap(), b"anything");
    assert_eq!(files.operations().count(), 1);
}

#[test]
fn what_is_held_back_goes_on_in_the_end() {
    let mut files = Files::scp(b"scp -t /in/", policy()).unwrap();
    let (on, _done) = pass(&mut files, &[(Side::Server, b"\0"), (Side::Client, b"C0644 3")]);
    assert_eq!((on.as_slice(), files.end(Side::Client)), (b"\0".as_slice(), b"C0644 3".to_vec()));
    assert_eq!(files.end(Side::Server), b"");
}

#[test]
fn a_path_that_is_too_long_is_cut() {
    let command = format!("scp -t {}/", "x".repeat(5_000));
    let mut files = Files::scp(command.as_bytes(), None).unwrap();
    let said: &[(Side, &[u8])] =
        &[(Side::Server, b"\0"), (Side::Client, b"C0644 3 a\n"), (Side::Server, b"\x01no\n")];
    let mut buffer = vec![];
    for (from, bytes) in said {
        files.pass(*from, bytes, &mut buffer).unwrap();
    }
    let operation = files.operations().next().unwrap();
    assert_eq!((operation.path.len(), operation.result.as_str()), (4_096, "no, path cut"));
}

#[test]
fn nothing_of_a_peer_drives_a_terminal() {
    let operation = Operation {
        name: "remove",
        path: b"/a\n\x1b[2J\xff".to_vec(),
        new_path: vec![b'x'; 5_000],
        bytes: 0,
        sha256: None,
        result: operation::result(
            proxyd_wire::files::Outcome::Failed(b"no\x1b]0;\x07\nway"),
            Ok(()),
            true,
        ),
    };
    let fields = operation.fields();
    assert!(fields.iter().all(|(_, value)| !value.chars().any(char::is_control)), "{fields:?}");
    assert!(fields.iter().all(|(_, value)| value.len() <= 1_024));
    let mut encoded = vec![];
    operation.record(3).encode(0, &mut encoded).unwrap();
    assert!(encoded.windows(operation.path.len()).any(|part| part == operation.path));
}
