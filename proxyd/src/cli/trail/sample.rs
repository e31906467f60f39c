//! Small trails in files, for the tests of the commands that read them.

use std::fs::{self, File};
use std::path::PathBuf;

use proxyd_trail::{
    Batch, Header, Push, Record, Sealing, SigningKey, Stream, Taken, Writer, keygen,
};
use tempfile::TempDir;

use super::{Key, Source};

/// A directory with the identity of an auditor, who opens everything, and of another, who opens
/// what the server sent.
pub(super) struct Site {
    directory: TempDir,
    signing_key: SigningKey,
    recipients: [String; 2],
}

/// Records of one stream that are written together.
pub(super) type Part<'a> = (Stream, Vec<(u64, Record<'a>)>);

impl Site {
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let recipients = ["auditor", "half"].map(|name| {
            let (identity, recipient) = keygen();
            fs::write(directory.path().join(name), identity.as_str()).unwrap();
            recipient
        });
        Self { directory, signing_key: SigningKey::generate().unwrap(), recipients }
    }

    /// A place in the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Writes a trail, one seal behind each part.
    pub(super) fn write(&self, parts: &[Part<'_>]) -> Source {
        let [auditor, half] = self.recipients.clone();
        let recipients = [vec![auditor.clone()], vec![half]];
        let key = self.signing_key.clone();
        let sealing = Sealing::new(&recipients, &[vec![auditor]], key).unwrap();
        let header = Header {
            session_id: *b"0123456789abcdef",
            created_ns: 1_700_000_000_000_000_000,
            protocol: "ssh\x1b]0;\x07".to_owned(),
            connection_policy: "admins\n".to_owned(),
        };
        let mut file = File::create(self.path("trail")).unwrap();
        let mut writer = Writer::create(&mut file, &header, &sealing).unwrap();
        for (stream, records) in parts {
            let mut batch = Batch::new();
            for (t_ns, record) in records {
                assert_eq!(batch.push(*t_ns, record).unwrap(), Push::Added);
            }
            let Taken { records, first_t_ns } = batch.take().unwrap();
            writer.chunk(*stream, &records, first_t_ns).unwrap();
            writer.seal(1).unwrap();
        }
        writer.end("done\x1b[6n", 2).unwrap();
        self.source("auditor")
    }

    /// The trail, as somebody reads it.
    pub(super) fn source(&self, identity: &str) -> Source {
        let (file, identity) = (self.path("trail"), vec![self.path(identity)]);
        Source { place: super::Place::of(&file), identity, key: Key { key: None } }
    }
}
