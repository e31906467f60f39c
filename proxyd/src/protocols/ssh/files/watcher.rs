//! What the parsers ask and tell: the policy's verdicts, the hashes, the operations.

use std::collections::HashMap;
use std::sync::Arc;

use aws_lc_rs::digest::{Context, SHA256, digest};
use proxyd_policy::files::{FileAccess, FilePolicy, FileRequest, FileVerdict};
use proxyd_wire::files::{
    self as wire, Access, AccessKind, Carried, FileId, PATH_BYTES_MAX, Unseen, Verdict, Watch,
};

use super::FilesError;
use super::operation::{Operation, result};
use crate::session::stop::chain;

/// The daemon's part in following a channel.
pub(super) struct Watcher {
    /// Judges requests; absent: they are not judged.
    pub(super) policy: Option<Arc<FilePolicy>>,
    /// Where the server begins relative paths, once it said so.
    home: Option<Vec<u8>>,
    /// Hashes of content that is being carried: at most two for each file that is open, as the
    /// parsers bound them, hand out only what the file was opened for, and tell of its end.
    hashes: HashMap<FileId, Context>,
    /// What was not drained yet.
    pub(super) operations: Vec<Operation>,
}

impl std::fmt::Debug for Watcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watcher")
            .field("policy", &self.policy)
            .field("home", &self.home)
            .field("hashes", &self.hashes.len())
            .field("operations", &self.operations)
            .finish()
    }
}

impl Watcher {
    pub(super) fn new(policy: Option<Arc<FilePolicy>>) -> Self {
        Self { policy, home: None, hashes: HashMap::new(), operations: Vec::new() }
    }

    /// The channel is followed no more.
    pub(super) fn lost(&mut self, error: &FilesError) {
        self.hashes.clear();
        self.operations.push(Operation {
            name: "not-followed",
            path: Vec::new(),
            new_path: Vec::new(),
            bytes: 0,
            sha256: None,
            result: chain(error),
        });
    }

    /// The hash of content at its end.
    fn hash(&mut self, carried: Carried) -> Option<[u8; 32]> {
        let context = self.hashes.remove(&carried.file);
        carried.seen.ok()?;
        // Of an empty file there was nothing to take.
        let digest = context.map_or_else(|| digest(&SHA256, b""), Context::finish);
        digest.as_ref().try_into().ok()
    }
}

impl Watch for Watcher {
    fn judge(&mut self, access: &Access<'_>) -> Verdict {
        let request = FileRequest {
            access: file_access(access.kind),
            path: access.path.as_deref(),
            home: self.home.as_deref(),
        };
        match self.policy.as_ref().map(|policy| policy.judge(&request)) {
            Some(FileVerdict::Allow { bytes_max }) => Verdict::Allow { bytes_max },
            // INVARIANT: without a policy nothing is asked.
            Some(FileVerdict::Refuse) | None => Verdict::Refuse,
        }
    }

    fn home(&mut self, path: &[u8]) {
        self.home = Some(path.to_owned());
    }

    fn content(&mut self, file: FileId, bytes: &[u8]) {
        self.hashes.entry(file).or_insert_with(|| Context::new(&SHA256)).update(bytes);
    }

    fn operation(&mut self, operation: &wire::Operation<'_>) {
        let carried = operation.carried;
        let seen: Result<(), Unseen> = carried.map_or(Ok(()), |carried| carried.seen);
        let long = [&operation.path, &operation.new_path].map(|path| path.len() > PATH_BYTES_MAX);
        let cut = operation.cut || long.contains(&true);
        let sha256 = carried.and_then(|carried| self.hash(carried));
        self.operations.push(Operation {
            name: operation.name,
            path: kept(&operation.path).to_vec(),
            new_path: kept(&operation.new_path).to_vec(),
            bytes: carried.map_or(operation.size_bytes, |carried| carried.bytes),
            sha256,
            result: result(operation.outcome, seen, cut),
        });
    }
}

/// As much of a path as operations have.
fn kept(path: &[u8]) -> &[u8] {
    path.get(..PATH_BYTES_MAX).unwrap_or(path)
}

const fn file_access(kind: AccessKind) -> FileAccess {
    match kind {
        AccessKind::Read => FileAccess::Read,
        AccessKind::Write => FileAccess::Write,
        AccessKind::List => FileAccess::List,
        AccessKind::Stat => FileAccess::Stat,
        AccessKind::Setstat => FileAccess::Setstat,
        AccessKind::Remove => FileAccess::Remove,
        AccessKind::Rename => FileAccess::Rename,
        AccessKind::Mkdir => FileAccess::Mkdir,
        AccessKind::Rmdir => FileAccess::Rmdir,
        AccessKind::Link => FileAccess::Link,
        AccessKind::Other => FileAccess::Other,
    }
}
