//! The protocol of `scp` in its old form, as it passes: which files are copied where.
//!
//! One program sends, the other answers each step with a zero byte, or with what went wrong:
//!
//! ```text
//! C0644 12 name LF   content   0
//! D0755 0 name LF    …         E LF
//! ```
//!
//! The far end is started by a command, which has the paths: see [`Command`]. Under
//! [`Mode::Enforce`] a line is held back until it was judged; the first byte of one that is refused
//! becomes the sign of a fatal error, at which programs end, and nothing may follow it.

mod command;
mod error;
pub mod limits;
mod line;
mod place;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::VecDeque;

pub use command::{Command, Direction};
pub use error::{CommandError, ScpError};

use limits::{ENTERED_BYTES_MAX, LINE_BYTES_MAX, STEPS_MAX};
use line::{FATAL, Line, WARNING};
use place::Place;

use crate::files::{
    Access, AccessKind, FileId, Flow, Mode, Operation, Outcome, Peer, Unseen, Verdict, Watch,
};

/// One channel that carries a copy.
#[derive(Debug)]
pub struct Scp {
    mode: Mode,
    place: Place,
    sender: Sender,
    /// A line of the sender that has no end yet.
    line: Vec<u8>,
    /// An answer that has no end yet.
    answer: Vec<u8>,
    /// What waits for an answer, in order; the far end's being ready comes first.
    steps: VecDeque<Step>,
    /// Answers that came before their step: programs that do not wait send them at once. None
    /// under [`Mode::Enforce`], where they end the channel.
    early: usize,
    /// How many files were begun.
    begun: u64,
}

/// What the sender is at.
#[derive(Debug)]
enum Sender {
    /// A line comes.
    Line,
    /// Content comes, or the sender's word that it was all.
    Content { file: File, left_bytes: u64 },
    /// Nothing may come: a line was refused.
    Refused,
}

/// What kind of entry is copied.
#[derive(Clone, Copy, Debug)]
enum Kind {
    File,
    Directory,
}

/// A file that is copied.
#[derive(Debug)]
struct File {
    path: Vec<u8>,
    name: Vec<u8>,
    flow: Flow,
}

/// What waits for an answer.
#[derive(Debug)]
enum Step {
    /// The receiver's being ready, times, or the end of a directory.
    Other,
    /// A file, whose content is sent if the answer is good.
    File,
    /// A directory, which is entered if the answer is good.
    Directory { path: Vec<u8>, name: Vec<u8> },
    /// A file's content.
    Content(File),
}

impl Scp {
    /// A channel of which nothing has passed.
    #[must_use]
    pub fn new(mode: Mode, command: Command) -> Self {
        Self {
            mode,
            place: Place::new(command),
            sender: Sender::Line,
            line: Vec::new(),
            answer: Vec::new(),
            steps: VecDeque::from([Step::Other]),
            early: 0,
            begun: 0,
        }
    }

    /// Takes what a peer sent and gives what is to be sent on in its place: the same bytes, or
    /// under [`Mode::Enforce`] those of `out`.
    ///
    /// # Errors
    /// Fails when what passes can no longer be followed; `self` is of no use then.
    pub fn pass<'b>(
        &mut self,
        from: Peer,
        bytes: &'b [u8],
        out: &'b mut Vec<u8>,
        watch: &mut impl Watch,
    ) -> Result<&'b [u8], ScpError> {
        let mut rest = bytes;
        if from != self.sending() {
            while !rest.is_empty() {
                rest = self.take_answer(rest, watch)?;
            }
            return Ok(bytes);
        }
        out.clear();
        while !rest.is_empty() {
            rest = self.take_sent(rest, out, watch)?;
        }
        Ok(match self.mode {
            Mode::Observe => bytes,
            Mode::Enforce => out,
        })
    }

    /// What was held back and is not a whole line: it goes on before a peer's end of file.
    pub fn end(&mut self, from: Peer) -> Vec<u8> {
        let is_held = matches!(self.sender, Sender::Line) && from == self.sending();
        match self.mode {
            Mode::Enforce if is_held => std::mem::take(&mut self.line),
            Mode::Enforce | Mode::Observe => Vec::new(),
        }
    }

    /// Tells what the end of the channel leaves unfinished.
    pub fn finish(&mut self, watch: &mut impl Watch) {
        let waiting = std::mem::take(&mut self.steps).into_iter().filter_map(|step| match step {
            Step::Content(file) => Some(file),
            Step::Other | Step::File | Step::Directory { .. } => None,
        });
        let sent = match std::mem::replace(&mut self.sender, Sender::Line) {
            Sender::Content { mut file, .. } => {
                file.flow.lose(Unseen::Unfinished);
                Some(file)
            }
            Sender::Line | Sender::Refused => None,
        };
        for file in waiting.chain(sent) {
            self.tell_file(&file, Outcome::Unanswered, watch);
        }
    }

    const fn sending(&self) -> Peer {
        match self.place.direction() {
            Direction::ToServer => Peer::Client,
            Direction::ToClient => Peer::Server,
        }
    }

    /// Takes a line, a piece of content, or its end; gives the rest.
    fn take_sent<'b>(
        &mut self,
        bytes: &'b [u8],
        out: &mut Vec<u8>,
        watch: &mut impl Watch,
    ) -> Result<&'b [u8], ScpError> {
        // One that is refused by its receiver would have its content taken for lines.
        if self.mode == Mode::Enforce && !self.steps.is_empty() {
            return Err(ScpError::DidNotWait);
        }
        match &mut self.sender {
            Sender::Refused => Err(ScpError::AfterRefusal),
            Sender::Content { file, left_bytes } if *left_bytes > 0 => {
                let most = usize::try_from(*left_bytes).unwrap_or(usize::MAX);
                let (content, rest) = bytes.split_at_checked(most).unwrap_or((bytes, &[]));
                let length = u64::try_from(content.len()).unwrap_or(u64::MAX);
                *left_bytes -= length;
                file.flow.bytes += length;
                watch.content(file.flow.file, content);
                self.send(content, out);
                Ok(rest)
            }
            Sender::Content { .. } => {
                let (taken, rest) = take_reply(&mut self.line, bytes)?;
                self.send(taken, out);
                if is_whole_reply(&self.line) {
                    self.end_content(watch)?;
                }
                Ok(rest)
            }
            Sender::Line => {
                let (_taken, rest) = take_line(&mut self.line, bytes)?;
                if self.line.ends_with(b"\n") {
                    let mut line = std::mem::take(&mut self.line);
                    self.begin(&mut line, watch)?;
                    self.send(&line, out);
                }
                Ok(rest)
            }
        }
    }

    fn send(&self, bytes: &[u8], out: &mut Vec<u8>) {
        if self.mode == Mode::Enforce {
            out.extend_from_slice(bytes);
        }
    }

    /// The sender's word about content that is over.
    fn end_content(&mut self, watch: &mut impl Watch) -> Result<(), ScpError> {
        let word = std::mem::take(&mut self.line);
        match std::mem::replace(&mut self.sender, Sender::Line) {
            Sender::Content { mut file, .. } => {
                if word != [0] {
                    file.flow.lose(Unseen::Failed);
                }
                self.wait(Step::Content(file), watch)
            }
            Sender::Line | Sender::Refused => Ok(()),
        }
    }

    /// Begins what a whole line says; one that is refused is spoilt.
    fn begin(&mut self, line: &mut [u8], watch: &mut impl Watch) -> Result<(), ScpError> {
        // Whether a directory is entered is known only by the answer.
        if self.steps.iter().any(|step| matches!(step, Step::Directory { .. })) {
            return Err(ScpError::DidNotWait);
        }
        let (kind, bytes, name) = match line::parse(line.strip_suffix(b"\n").unwrap_or(line))? {
            Line::Times => return self.wait(Step::Other, watch),
            Line::Leave if self.place.leave() => return self.wait(Step::Other, watch),
            Line::Leave => return Err(ScpError::NotEntered),
            Line::Trouble(text) => {
                let path = self.place.root();
                tell(self.name(Kind::File), path, b"", 0, Outcome::Failed(text), watch);
                return Ok(());
            }
            Line::File { bytes, name } => (Kind::File, bytes, name),
            Line::Directory { name } => (Kind::Directory, 0, name),
        };
        let paths = self.place.candidates(name);
        let path = paths.first().map_or(name, Vec::as_slice).to_owned();
        if self.mode == Mode::Enforce && !self.may((kind, bytes), name, &paths, watch) {
            tell(self.name(kind), &path, name, bytes, Outcome::Refused, watch);
            self.sender = Sender::Refused;
            if let Some(first) = line.first_mut() {
                *first = FATAL;
            }
            return Ok(());
        }
        let name = name.to_owned();
        match kind {
            Kind::Directory => self.wait(Step::Directory { path, name }, watch),
            Kind::File => {
                self.begun += 1;
                let file = File { path, name, flow: Flow::new(FileId(self.begun)) };
                self.sender = Sender::Content { file, left_bytes: bytes };
                self.wait(Step::File, watch)
            }
        }
    }

    /// Whether an entry may be copied, wherever it ends up.
    fn may(
        &self,
        (kind, bytes): (Kind, u64),
        name: &[u8],
        paths: &[Vec<u8>],
        watch: &mut impl Watch,
    ) -> bool {
        let kind = match (kind, self.place.direction()) {
            (Kind::File, Direction::ToServer) => AccessKind::Write,
            (Kind::File, Direction::ToClient) => AccessKind::Read,
            (Kind::Directory, Direction::ToServer) => AccessKind::Mkdir,
            (Kind::Directory, Direction::ToClient) => AccessKind::List,
        };
        let mut may = |path: &Vec<u8>| {
            let access = Access { kind, path: Some(Cow::Borrowed(path)), bytes };
            match watch.judge(&access) {
                Verdict::Allow { bytes_max } => bytes_max.is_none_or(|most| bytes <= most),
                Verdict::Refuse => false,
            }
        };
        line::is_name(name) && !paths.is_empty() && paths.iter().all(&mut may)
    }

    /// A step waits for its answer, unless that came early.
    fn wait(&mut self, step: Step, watch: &mut impl Watch) -> Result<(), ScpError> {
        if self.early > 0 {
            self.early -= 1;
            return self.resolve(step, Outcome::Done, watch);
        }
        if self.steps.len() >= STEPS_MAX {
            return Err(ScpError::TooManySteps);
        }
        self.steps.push_back(step);
        Ok(())
    }

    /// Takes an answer; gives the rest.
    fn take_answer<'b>(
        &mut self,
        bytes: &'b [u8],
        watch: &mut impl Watch,
    ) -> Result<&'b [u8], ScpError> {
        // Its receiver would read it as the answer to a step that comes later.
        if self.mode == Mode::Enforce && self.steps.is_empty() {
            return Err(ScpError::Unasked);
        }
        let (_taken, rest) = take_reply(&mut self.answer, bytes)?;
        if !is_whole_reply(&self.answer) {
            return Ok(rest);
        }
        let answer = std::mem::take(&mut self.answer);
        let outcome = match answer.as_slice() {
            [0] => Outcome::Done,
            [_kind, text @ .., b'\n'] => Outcome::Failed(text),
            _ => Outcome::Failed(b""),
        };
        match self.steps.pop_front() {
            Some(step) => self.resolve(step, outcome, watch)?,
            None if outcome == Outcome::Done => self.early += 1,
            // A remark.
            None => {}
        }
        if self.early > STEPS_MAX { Err(ScpError::TooManySteps) } else { Ok(rest) }
    }

    /// A step has its answer.
    fn resolve(
        &mut self,
        step: Step,
        outcome: Outcome<'_>,
        watch: &mut impl Watch,
    ) -> Result<(), ScpError> {
        let is_good = outcome == Outcome::Done;
        match step {
            Step::Other | Step::File if is_good => {}
            Step::Other => {
                let path = self.place.root();
                tell(self.name(Kind::File), path, b"", 0, outcome, watch);
            }
            Step::File => self.not_wanted(outcome, watch)?,
            Step::Directory { path, name } => {
                tell(self.name(Kind::Directory), &path, &name, 0, outcome, watch);
                if is_good {
                    self.place.enter(&name);
                }
                if self.place.entered_bytes() > ENTERED_BYTES_MAX {
                    return Err(ScpError::TooDeep);
                }
            }
            Step::Content(file) => self.tell_file(&file, outcome, watch),
        }
        Ok(())
    }

    /// A file is not wanted, so that a line follows; content that is on its way would be taken for
    /// lines.
    fn not_wanted(&mut self, outcome: Outcome<'_>, watch: &mut impl Watch) -> Result<(), ScpError> {
        match std::mem::replace(&mut self.sender, Sender::Line) {
            Sender::Content { file, .. }
                if file.flow.bytes == 0 && self.steps.is_empty() && self.line.is_empty() =>
            {
                tell(self.name(Kind::File), &file.path, &file.name, 0, outcome, watch);
                Ok(())
            }
            Sender::Content { .. } | Sender::Line | Sender::Refused => Err(ScpError::DidNotWait),
        }
    }

    fn tell_file(&self, file: &File, outcome: Outcome<'_>, watch: &mut impl Watch) {
        watch.operation(&Operation {
            name: self.name(Kind::File),
            path: Cow::Borrowed(&file.path),
            new_path: Cow::Borrowed(other_name(&file.path, &file.name)),
            size_bytes: 0,
            carried: Some(file.flow.carried()),
            cut: false,
            outcome,
        });
    }

    /// What copying such an entry is called.
    const fn name(&self, kind: Kind) -> &'static str {
        match (kind, self.place.direction()) {
            (Kind::File, Direction::ToServer) => "write",
            (Kind::File, Direction::ToClient) => "read",
            (Kind::Directory, Direction::ToServer) => "mkdir",
            (Kind::Directory, Direction::ToClient) => "list",
        }
    }
}

/// Tells of what carried no content.
fn tell(
    operation: &'static str,
    path: &[u8],
    name: &[u8],
    size_bytes: u64,
    outcome: Outcome<'_>,
    watch: &mut impl Watch,
) {
    watch.operation(&Operation {
        name: operation,
        path: Cow::Borrowed(path),
        new_path: Cow::Borrowed(other_name(path, name)),
        size_bytes,
        carried: None,
        cut: false,
        outcome,
    });
}

/// The sender's name of an entry, where the path does not end with it.
fn other_name<'a>(path: &[u8], name: &'a [u8]) -> &'a [u8] {
    if path.ends_with(name) { b"" } else { name }
}

/// Takes bytes up to the end of a line, which may not be here yet; gives them and the rest.
fn take_line<'b>(line: &mut Vec<u8>, bytes: &'b [u8]) -> Result<(&'b [u8], &'b [u8]), ScpError> {
    let end = bytes.iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |at| at + 1);
    let (taken, rest) = bytes.split_at_checked(end).unwrap_or((bytes, &[]));
    line.extend_from_slice(taken);
    if line.len() > LINE_BYTES_MAX { Err(ScpError::LineLength) } else { Ok((taken, rest)) }
}

/// Takes bytes of an answer: a zero byte, or a line of what went wrong.
fn take_reply<'b>(reply: &mut Vec<u8>, bytes: &'b [u8]) -> Result<(&'b [u8], &'b [u8]), ScpError> {
    match (reply.as_slice(), bytes) {
        ([], [0, rest @ ..]) => {
            reply.push(0);
            Ok((&[0], rest))
        }
        ([], [first, ..]) if !matches!(*first, WARNING | FATAL) => Err(ScpError::Answer(*first)),
        _ => take_line(reply, bytes),
    }
}

/// Whether an answer has its end.
fn is_whole_reply(reply: &[u8]) -> bool {
    reply == [0] || reply.ends_with(b"\n")
}
