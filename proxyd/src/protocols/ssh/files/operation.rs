//! One thing that was done to files, as events and trails have it.

use proxyd_ssh::message::text::one_line;
use proxyd_trail::Record;
use proxyd_wire::files::{Outcome, Unseen};

/// Bytes of a path in an event; trails have all that was kept.
const SHOWN_PATH_BYTES_MAX: usize = 1_024;

/// How the result of a refused operation begins.
const REFUSED: &str = "refused by policy";

/// Operations that only look.
const LOOKS: [&str; 17] = [
    "close",
    "expand-path",
    "fstat",
    "fstatvfs",
    "fsync",
    "home-directory",
    "limits",
    "list",
    "lstat",
    "open-read",
    "opendir",
    "readdir",
    "readlink",
    "realpath",
    "stat",
    "statvfs",
    "users-groups-by-id",
];

/// Bytes of a peer's own words about why something failed.
const WORDS_BYTES_MAX: usize = 256;

/// Something that was done to files, or tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its name, such as `rename`; `not-followed` when the channel is followed no more.
    pub name: &'static str,
    /// The path as the peer wrote it, at most 4096 bytes; empty where there is none.
    pub path: Vec<u8>,
    /// The second path of a rename, link or copy, or the name that a file has at its sender.
    pub new_path: Vec<u8>,
    /// Bytes that were carried, set or copied.
    pub bytes: u64,
    /// SHA-256 of the bytes carried, where they were carried whole and in order.
    pub sha256: Option<[u8; 32]>,
    /// How it ended, without control characters: "ok", "refused by policy", or a failure.
    pub result: String,
}

impl Operation {
    /// Its fields in events, by name; without control characters, paths cut.
    #[must_use]
    pub fn fields(&self) -> Vec<(&'static str, String)> {
        let mut fields = vec![("operation", self.name.to_owned()), ("path", shown(&self.path))];
        if !self.new_path.is_empty() {
            fields.push(("new_path", shown(&self.new_path)));
        }
        fields.push(("bytes", self.bytes.to_string()));
        if let Some(sha256) = self.sha256 {
            let digits = sha256.iter().map(|byte| format!("{byte:02x}"));
            fields.push(("sha256", digits.collect()));
        }
        fields.push(("result", self.result.clone()));
        fields
    }

    /// Whether it changes a file, carries one or was refused; the rest is what programs do by the
    /// hundred to show a directory.
    #[must_use]
    pub fn matters(&self) -> bool {
        !LOOKS.contains(&self.name) || self.result.starts_with(REFUSED)
    }

    /// It as a record of the trail.
    #[must_use]
    pub fn record(&self, channel: u32) -> Record<'_> {
        Record::FileOperation {
            channel,
            operation: self.name,
            path: &self.path,
            new_path: &self.new_path,
            size: self.bytes,
            sha256: self.sha256,
            result: &self.result,
        }
    }
}

/// How an operation ended, in words; with it comes why its content was not hashed, and whether a
/// path was cut.
pub(super) fn result(outcome: Outcome<'_>, seen: Result<(), Unseen>, cut: bool) -> String {
    let mut text = match outcome {
        Outcome::Done => "ok".to_owned(),
        Outcome::Failed(words) => one_line(words, WORDS_BYTES_MAX),
        Outcome::Status(status) => status.to_owned(),
        Outcome::Refused => REFUSED.to_owned(),
        Outcome::Unanswered => "unanswered".to_owned(),
    };
    if let Err(why) = seen {
        text.push_str(", content not hashed: ");
        text.push_str(why.as_str());
    }
    if cut {
        text.push_str(", path cut");
    }
    text
}

fn shown(path: &[u8]) -> String {
    one_line(path, SHOWN_PATH_BYTES_MAX)
}
