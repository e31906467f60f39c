//! Requests that wait for their answers, and files that are open.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::answer::{Answer, END_OF_FILE, OK};
use super::error::SftpError;
use super::limits::{HANDLES_MAX, KEPT_BYTES_MAX, REQUESTS_MAX};
use super::op::Op;
use super::request::{OpenFlags, Request, Subject};
use crate::files::{Carried, FileId, Flow, Operation, Outcome, Unseen, Watch};

/// Everything that later packets refer to.
#[derive(Debug, Default)]
pub(super) struct Table {
    pending: BTreeMap<u32, Pending>,
    /// Which file a handle stands for; files that are being closed have none any more.
    handles: BTreeMap<Vec<u8>, u64>,
    files: BTreeMap<u64, OpenFile>,
    /// How many files were opened so far.
    opened: u64,
    /// Bytes of the paths of requests, and of files.
    pending_bytes: usize,
    open_bytes: usize,
}

/// A request that waits for its answer.
#[derive(Debug)]
struct Pending {
    op: Op,
    path: Vec<u8>,
    new_path: Vec<u8>,
    file: Option<u64>,
    offset: u64,
    length: u64,
    size_bytes: u64,
    flags: OpenFlags,
    cut: bool,
    refused: bool,
}

/// A file or directory that is open.
#[derive(Debug)]
pub(super) struct OpenFile {
    pub(super) path: Vec<u8>,
    cut: bool,
    op: Op,
    flags: OpenFlags,
    read: Flow,
    written: Flow,
    /// Whether a refused request for it was told of; what a client repeats is told of once.
    refusal_told: bool,
}

/// What an answer means for the packet that carries it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It passes.
    Passes,
    /// It answers a request that was refused.
    Refused,
    /// Its content belongs to a file.
    Content(FileId),
}

impl Table {
    /// The file that a handle stands for.
    pub(super) fn file(&self, handle: &[u8]) -> Option<&OpenFile> {
        self.files.get(self.handles.get(handle)?)
    }

    /// Notes a request; gives the file whose content follows, where it is to be handed out.
    pub(super) fn begin(
        &mut self,
        request: &Request<'_>,
        refused: bool,
        watch: &mut impl Watch,
    ) -> Result<Option<FileId>, SftpError> {
        if self.pending.len() >= REQUESTS_MAX {
            return Err(SftpError::TooManyRequests);
        }
        let (path, new_path, handle): (&[u8], &[u8], &[u8]) = match request.subject {
            Subject::Nothing => (b"", b"", b""),
            Subject::Path(path) | Subject::Extension(path) => (path, b"", b""),
            Subject::Paths(path, new_path) => (path, new_path, b""),
            Subject::Handle(handle) | Subject::Handles(handle, _) => (b"", b"", handle),
        };
        let new_path = if let Subject::Handles(_, into) = request.subject {
            self.file(into).map_or_else(Vec::new, |file| file.path.clone())
        } else {
            new_path.to_owned()
        };
        let file = self.handles.get(handle).copied().filter(|_| !request.cut);
        let copied = if request.op == Op::CopyData { request.length } else { 0 };
        let pending = Pending {
            op: request.op,
            path: path.to_owned(),
            new_path,
            file,
            offset: request.offset,
            length: request.length,
            size_bytes: request.size.unwrap_or(copied),
            flags: request.flags,
            cut: request.cut,
            refused,
        };
        let content = if refused {
            self.tell_refusal(&pending, watch);
            None
        } else {
            self.start(&pending, handle)
        };
        self.pending_bytes += pending.path_bytes();
        if self.pending_bytes > KEPT_BYTES_MAX {
            return Err(SftpError::TooManyPaths);
        }
        match self.pending.insert(request.id, pending) {
            None => Ok(content),
            Some(_) => Err(SftpError::Repeated { id: request.id }),
        }
    }

    /// What a request that passes changes at once.
    fn start(&mut self, pending: &Pending, handle: &[u8]) -> Option<FileId> {
        if pending.op == Op::Close {
            // Its handle may stand for another file before the answer is here.
            self.handles.remove(handle);
        }
        let file = self.files.get_mut(&pending.file?)?;
        if pending.op != Op::Write {
            return None;
        }
        if !file.is_opened_for(Op::Write) {
            file.written.lose(Unseen::NotOpened);
        } else if file.flags.appends() {
            file.written.lose(Unseen::Appended);
        }
        file.written.follows(pending.offset, pending.length).then_some(file.written.file)
    }

    fn tell_refusal(&mut self, pending: &Pending, watch: &mut impl Watch) {
        let carries = matches!(pending.op, Op::Read | Op::Write | Op::Readdir);
        if let Some(file) = pending.file.and_then(|file| self.files.get_mut(&file))
            && carries
        {
            if file.refusal_told {
                return;
            }
            file.refusal_told = true;
        }
        self.tell(pending, Outcome::Refused, watch);
    }

    /// Matches an answer to its request.
    pub(super) fn end(
        &mut self,
        id: u32,
        kind: u8,
        answer: &Answer<'_>,
        watch: &mut impl Watch,
    ) -> Result<Effect, SftpError> {
        let pending = self.pending.remove(&id).ok_or(SftpError::Unasked { id })?;
        self.pending_bytes = self.pending_bytes.saturating_sub(pending.path_bytes());
        if pending.refused {
            let is_refused = matches!(answer, Answer::Status(status) if *status != OK);
            return if is_refused {
                Ok(Effect::Refused)
            } else {
                Err(SftpError::CarriedOut { id })
            };
        }
        if !pending.op.fits(answer.kind()) {
            return Err(SftpError::Unfit { kind, id });
        }
        let outcome = answer.outcome();
        match (pending.op, answer) {
            (Op::Open | Op::Opendir, Answer::Handle(handle)) => self.open(&pending, handle)?,
            (Op::Read, Answer::Data(length)) => return Ok(self.data(&pending, *length)),
            (Op::Realpath, Answer::Name(Some(name))) if is_start(&pending.path) => {
                watch.home(name);
            }
            (Op::Close, _) => self.close(&pending, outcome, watch),
            (Op::Read, Answer::Status(END_OF_FILE)) => return Ok(Effect::Passes),
            (Op::Read, _) => self.lose(&pending, |file| &mut file.read),
            (Op::Write, Answer::Status(OK)) => self.wrote(&pending),
            (Op::Write, _) => self.lose(&pending, |file| &mut file.written),
            _ => {}
        }
        if !matches!(pending.op, Op::Read | Op::Write | Op::Readdir) || pending.file.is_none() {
            self.tell(&pending, outcome, watch);
        }
        Ok(Effect::Passes)
    }

    fn open(&mut self, pending: &Pending, handle: &[u8]) -> Result<(), SftpError> {
        if self.files.len() >= HANDLES_MAX {
            return Err(SftpError::TooManyHandles);
        }
        self.open_bytes += pending.path.len();
        if self.open_bytes > KEPT_BYTES_MAX {
            return Err(SftpError::TooManyPaths);
        }
        self.opened += 1;
        let key = self.opened;
        if self.handles.insert(handle.to_owned(), key).is_some() {
            return Err(SftpError::HandleInUse);
        }
        let file = OpenFile {
            path: pending.path.clone(),
            cut: pending.cut,
            op: pending.op,
            flags: pending.flags,
            // Two names for each file, one for each direction.
            read: Flow::new(FileId(key * 2)),
            written: Flow::new(FileId(key * 2 + 1)),
            refusal_told: false,
        };
        self.files.insert(key, file);
        Ok(())
    }

    fn data(&mut self, pending: &Pending, length: u64) -> Effect {
        let Some(file) = pending.file.and_then(|file| self.files.get_mut(&file)) else {
            return Effect::Passes;
        };
        file.read.bytes += length;
        if !file.is_opened_for(Op::Read) {
            file.read.lose(Unseen::NotOpened);
        }
        match file.read.follows(pending.offset, length) {
            true => Effect::Content(file.read.file),
            false => Effect::Passes,
        }
    }

    fn wrote(&mut self, pending: &Pending) {
        if let Some(file) = pending.file.and_then(|file| self.files.get_mut(&file)) {
            file.written.bytes = file.written.bytes.saturating_add(pending.length);
        }
    }

    fn lose(&mut self, pending: &Pending, flow: impl Fn(&mut OpenFile) -> &mut Flow) {
        if let Some(file) = pending.file.and_then(|file| self.files.get_mut(&file)) {
            flow(file).lose(Unseen::Failed);
        }
    }

    /// Tells what a file that is closed has carried; the closing itself is told by the caller.
    fn close(&mut self, pending: &Pending, outcome: Outcome<'_>, watch: &mut impl Watch) {
        let key = pending.file.unwrap_or_default();
        if let Some(file) = self.files.get(&key) {
            file.tell_content(outcome, watch);
        }
    }

    /// Tells what the end of the channel leaves open.
    pub(super) fn finish(&mut self, watch: &mut impl Watch) {
        let waiting = std::mem::take(&mut self.pending);
        for pending in waiting.values() {
            let Some(file) = pending.file.and_then(|file| self.files.get_mut(&file)) else {
                continue;
            };
            if pending.op == Op::Read {
                file.read.lose(Unseen::Unfinished);
            }
            if pending.op == Op::Write {
                file.written.lose(Unseen::Unfinished);
            }
        }
        for pending in waiting.into_values() {
            let carries = matches!(pending.op, Op::Read | Op::Write | Op::Readdir);
            if !pending.refused && pending.op == Op::Close {
                self.close(&pending, Outcome::Unanswered, watch);
            }
            if !pending.refused && !carries {
                self.tell(&pending, Outcome::Unanswered, watch);
            }
        }
        for (_, mut file) in std::mem::take(&mut self.files) {
            file.read.lose(Unseen::Unfinished);
            file.written.lose(Unseen::Unfinished);
            file.tell_content(Outcome::Unanswered, watch);
        }
        self.handles.clear();
    }

    /// Tells of a request, and forgets the file that it closed.
    fn tell(&mut self, pending: &Pending, outcome: Outcome<'_>, watch: &mut impl Watch) {
        let file = pending.file.and_then(|file| self.files.get(&file));
        let path = file.map_or(pending.path.as_slice(), |file| file.path.as_slice());
        watch.operation(&Operation {
            name: if pending.op == Op::Open { pending.flags.name() } else { pending.op.name() },
            path: Cow::Borrowed(path),
            new_path: Cow::Borrowed(&pending.new_path),
            size_bytes: pending.size_bytes,
            carried: None,
            cut: pending.cut || file.is_some_and(|file| file.cut),
            outcome,
        });
        if let (Op::Close, Some(key)) = (pending.op, pending.file)
            && let Some(file) = self.files.remove(&key)
        {
            self.open_bytes = self.open_bytes.saturating_sub(file.path.len());
        }
    }
}

impl Pending {
    const fn path_bytes(&self) -> usize {
        self.path.len() + self.new_path.len()
    }
}

impl OpenFile {
    /// Whether it was opened for reading, or for writing. Only then content is handed out, and what
    /// is kept of it has an end, as its being carried is told in any case.
    fn is_opened_for(&self, op: Op) -> bool {
        let is_meant = if op == Op::Read { self.flags.reads() } else { self.flags.writes() };
        self.op == Op::Open && is_meant
    }

    /// Tells what was carried, in each direction that the file was opened for or that was used.
    fn tell_content(&self, outcome: Outcome<'_>, watch: &mut impl Watch) {
        for (op, flow) in [(Op::Read, &self.read), (Op::Write, &self.written)] {
            let carried = flow.carried();
            if self.is_opened_for(op) || carried.bytes > 0 {
                self.tell_flow(op, carried, outcome, watch);
            }
        }
    }

    fn tell_flow(&self, op: Op, carried: Carried, outcome: Outcome<'_>, watch: &mut impl Watch) {
        watch.operation(&Operation {
            name: op.name(),
            path: Cow::Borrowed(&self.path),
            new_path: Cow::Borrowed(b""),
            size_bytes: 0,
            carried: Some(carried),
            cut: self.cut,
            outcome,
        });
    }
}

/// Whether a path stands for the directory at which relative paths start.
const fn is_start(path: &[u8]) -> bool {
    matches!(path, b"" | b".")
}
