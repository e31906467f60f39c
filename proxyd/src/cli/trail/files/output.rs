//! The directory that files are written to, and its index.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use aws_lc_rs::digest::{Context, SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proxyd_trail::json_line;
use serde::Serialize;

use super::name::file_name;
use crate::recording::hexadecimal;

/// The name of the index; names of files begin with a number.
const INDEX: &str = "index.json";

/// Only who exports may read what was copied.
const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A directory that is being filled.
pub(super) struct Output {
    directory: PathBuf,
    index: BufWriter<File>,
    /// Files begun so far.
    begun: u64,
    /// The file that was written to last; one at a time is open, as there may be thousands.
    open: Option<(u64, File)>,
    complete: u64,
    partial: u64,
}

/// Content that is being written.
pub(super) struct Content {
    number: u64,
    bytes: u64,
    hash: Context,
}

/// What became of a file, as the index has it.
#[derive(Serialize)]
pub(super) struct Entry<'a> {
    /// The channel's number in the trail.
    pub(super) channel: u32,
    /// When it was closed, in nanoseconds since the session's start.
    pub(super) t_ns: u64,
    /// What was done: `read` or `write`.
    pub(super) operation: &'a str,
    /// The path, in which U+FFFD stands for what is not UTF-8.
    pub(super) path: String,
    /// The path in base64, if it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) path_base64: Option<String>,
    /// The file in this directory; none where there was no content to write.
    pub(super) file: Option<String>,
    /// Bytes of that file.
    pub(super) size: u64,
    /// SHA-256 of it.
    pub(super) sha256: Option<String>,
    /// Bytes that the other side took.
    pub(super) carried: u64,
    /// Whether the file has all that was carried, and the other side took it.
    pub(super) complete: bool,
    /// Why not all of the content is there.
    pub(super) missing: Option<&'a str>,
    /// How the operation ended.
    pub(super) result: String,
}

/// A channel that could not be followed, as the index has it.
#[derive(Serialize)]
struct Lost<'a> {
    channel: u32,
    why: &'a str,
}

impl Output {
    /// Makes the directory, or takes it if it is empty; nothing that is there is ever written to.
    pub(super) fn create(directory: &Path) -> anyhow::Result<Self> {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)?;
        let is_empty = fs::read_dir(directory)?.next().is_none();
        ensure!(is_empty, "the directory is not empty");
        let mut index = BufWriter::new(create(&directory.join(INDEX))?);
        index.write_all(b"{\"files\":[\n")?;
        Ok(Self {
            directory: directory.to_owned(),
            index,
            begun: 0,
            open: None,
            complete: 0,
            partial: 0,
        })
    }

    /// Begins a file, which is empty and has a number for a name as long as it is written.
    pub(super) fn begin(&mut self) -> anyhow::Result<Content> {
        self.begun += 1;
        let number = self.begun;
        self.open = Some((number, create(&place(&self.directory, number))?));
        Ok(Content { number, bytes: 0, hash: Context::new(&SHA256) })
    }

    /// Writes the next bytes of a file.
    pub(super) fn append(&mut self, content: &mut Content, bytes: &[u8]) -> anyhow::Result<()> {
        let file = match &mut self.open {
            Some((number, file)) if *number == content.number => file,
            open => {
                let place = place(&self.directory, content.number);
                let file = OpenOptions::new().append(true).open(place)?;
                &mut open.insert((content.number, file)).1
            }
        };
        file.write_all(bytes)?;
        content.hash.update(bytes);
        content.bytes = content.bytes.saturating_add(u64::try_from(bytes.len())?);
        Ok(())
    }

    /// Gives a file its name, and writes down what became of it.
    pub(super) fn close(
        &mut self,
        content: Option<Content>,
        path: &[u8],
        mut entry: Entry<'_>,
    ) -> anyhow::Result<()> {
        if let Some(Content { number, bytes, hash }) = content {
            let name = file_name(number, path);
            fs::rename(place(&self.directory, number), self.directory.join(&name))
                .with_context(|| format!("cannot name {name}"))?;
            entry.file = Some(name);
            entry.size = bytes;
            entry.sha256 = Some(hexadecimal(hash.finish().as_ref()));
        }
        let is_text = str::from_utf8(path).is_ok();
        entry.path = String::from_utf8_lossy(path).into_owned();
        entry.path_base64 = (!is_text).then(|| STANDARD.encode(path));
        if self.complete + self.partial > 0 {
            self.index.write_all(b",")?;
        }
        let count = if entry.complete { &mut self.complete } else { &mut self.partial };
        *count += 1;
        json_line(&mut self.index, &entry)?;
        Ok(())
    }

    /// Ends the index; gives how many files are complete, and how many are not.
    pub(super) fn finish(mut self, lost: &BTreeMap<u32, String>) -> anyhow::Result<(u64, u64)> {
        let lost: Vec<_> =
            lost.iter().map(|(channel, why)| Lost { channel: *channel, why }).collect();
        self.index.write_all(b"],\"lost\":")?;
        json_line(&mut self.index, &lost)?;
        self.index.write_all(b"}\n")?;
        self.index.flush()?;
        Ok((self.complete, self.partial))
    }
}

/// Where a file is while it is written.
fn place(directory: &Path, number: u64) -> PathBuf {
    directory.join(number.to_string())
}

/// Makes a file, which must not be there.
fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}
