//! What the parsers of file transfers share: whom they ask, and what they tell.

use std::borrow::Cow;

/// Bytes of a path that are kept; the longest that Linux takes (`PATH_MAX`).
pub const PATH_BYTES_MAX: usize = 4_096;

/// Who sent bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// The one that asks for files to be read or written.
    Client,
    /// The one that has them.
    Server,
}

/// What a parser may do to what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing: every byte passes as it is.
    Observe,
    /// It holds each request back until it was judged, and spoils those that are refused.
    Enforce,
}

/// What a request does to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessKind {
    /// Reads a file's content, or opens it for that.
    Read,
    /// Changes a file's content or size, creates it, or opens it for that.
    Write,
    /// Lists a directory.
    List,
    /// Asks for attributes, or for the target of a symbolic link.
    Stat,
    /// Changes attributes.
    Setstat,
    /// Removes a file.
    Remove,
    /// Renames a file or directory; asked about both names.
    Rename,
    /// Makes a directory.
    Mkdir,
    /// Removes a directory.
    Rmdir,
    /// Makes a link; asked about the link and about what it leads to.
    Link,
    /// Something else, whose paths are not known.
    Other,
}

/// One thing that a request needs leave for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access<'a> {
    /// What is done.
    pub kind: AccessKind,
    /// To which path, as the client wrote it; none where it is not known.
    pub path: Option<Cow<'a, [u8]>>,
    /// How far into the file it reaches; for reading from a handle, where it begins. `u64::MAX`
    /// where that is not known.
    pub bytes: u64,
}

/// What is said to an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be.
    Allow {
        /// How far into the file it may reach.
        bytes_max: Option<u64>,
    },
    /// It may not be.
    Refuse,
}

/// The content of one file in one direction, while it passes; never used twice by one parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId(pub u64);

/// Why content was not seen whole and in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unseen {
    /// It began after the start of the file.
    NotFromStart,
    /// A piece was left out, came twice or came early.
    OutOfOrder,
    /// It was appended to what was there.
    Appended,
    /// The file was not opened for it.
    NotOpened,
    /// A piece was not taken, or the sender could not read it.
    Failed,
    /// It ended early.
    Unfinished,
}

impl Unseen {
    /// The reason in words.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotFromStart => "not from the start",
            Self::OutOfOrder => "not in order",
            Self::Appended => "appended",
            Self::NotOpened => "file not opened for it",
            Self::Failed => "a piece failed",
            Self::Unfinished => "unfinished",
        }
    }
}

/// Content that passed, at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Under which name it was handed out.
    pub file: FileId,
    /// How many bytes the other side took.
    pub bytes: u64,
    /// Whether all of them were handed out in order, from the first byte of the file.
    pub seen: Result<(), Unseen>,
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// Well.
    Done,
    /// The peer said why not, in words.
    Failed(&'a [u8]),
    /// The server said why not, by a status of its protocol.
    Status(&'static str),
    /// By a verdict.
    Refused,
    /// The channel ended first.
    Unanswered,
}

/// Something that was done, or tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operation<'a> {
    /// Its name, such as `rename`.
    pub name: &'static str,
    /// The path, as the peer wrote it, cut at [`PATH_BYTES_MAX`]; empty where there is none.
    pub path: Cow<'a, [u8]>,
    /// The second path of a rename or link, or the name that a copied file has at its sender.
    pub new_path: Cow<'a, [u8]>,
    /// The size that was set or copied; 0 elsewhere.
    pub size_bytes: u64,
    /// The content, where the operation ends some.
    pub carried: Option<Carried>,
    /// Whether a path was longer than what is kept of it.
    pub cut: bool,
    /// How it ended.
    pub outcome: Outcome<'a>,
}

/// What a parser needs from whoever drives it.
pub trait Watch {
    /// Says whether a request may reach its end; asked only under [`Mode::Enforce`].
    fn judge(&mut self, access: &Access<'_>) -> Verdict;

    /// Takes the directory at which the server starts relative paths.
    fn home(&mut self, path: &[u8]);

    /// Takes the next bytes of a file's content.
    fn content(&mut self, file: FileId, bytes: &[u8]);

    /// Takes what was done.
    fn operation(&mut self, operation: &Operation<'_>);
}

/// Content of one file in one direction.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// Under which name it is handed out.
    pub(crate) file: FileId,
    /// Bytes that the other side took.
    pub(crate) bytes: u64,
    /// Where the next piece has to begin.
    next: u64,
    /// Why it can no longer be handed out.
    unseen: Option<Unseen>,
}

impl Flow {
    pub(crate) const fn new(file: FileId) -> Self {
        Self { file, bytes: 0, next: 0, unseen: None }
    }

    /// Whether a piece follows what was handed out, which it then counts as.
    pub(crate) const fn follows(&mut self, offset: u64, length: u64) -> bool {
        if offset != self.next {
            self.lose(if self.next == 0 { Unseen::NotFromStart } else { Unseen::OutOfOrder });
        }
        self.next = self.next.saturating_add(length);
        self.unseen.is_none()
    }

    /// Gives up handing out; the first reason stays.
    pub(crate) const fn lose(&mut self, why: Unseen) {
        if self.unseen.is_none() {
            self.unseen = Some(why);
        }
    }

    /// What became of it.
    pub(crate) fn carried(&self) -> Carried {
        Carried { file: self.file, bytes: self.bytes, seen: self.unseen.map_or(Ok(()), Err) }
    }
}

/// A directory and a path in it; the path alone where it is absolute or there is no directory.
pub(crate) fn join<'a>(directory: &[u8], path: &'a [u8]) -> Cow<'a, [u8]> {
    if directory.is_empty() || path.starts_with(b"/") {
        return Cow::Borrowed(path);
    }
    let slash: &[u8] = if directory.ends_with(b"/") { b"" } else { b"/" };
    Cow::Owned([directory, slash, path].concat())
}

/// The directory that a path is in, with its slash; empty for a name alone.
pub(crate) fn parent(path: &[u8]) -> &[u8] {
    let end = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at + 1);
    path.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_seen_only_in_order_from_the_start() {
        let cases: [(&str, &[(u64, u64)], Option<Unseen>); 6] = [
            ("nothing", &[], None),
            ("in order", &[(0, 5), (5, 5), (10, 1)], None),
            ("from later", &[(5, 5), (10, 5)], Some(Unseen::NotFromStart)),
            ("hole", &[(0, 5), (6, 5)], Some(Unseen::OutOfOrder)),
            ("twice", &[(0, 5), (0, 5)], Some(Unseen::OutOfOrder)),
            ("at the very end", &[(0, u64::MAX), (u64::MAX, 9)], None),
        ];
        for (name, pieces, unseen) in cases {
            let mut flow = Flow::new(FileId(1));
            let all = pieces.iter().map(|&(offset, length)| flow.follows(offset, length)).last();
            assert_eq!(all.unwrap_or(true), unseen.is_none(), "{name}");
            assert_eq!(flow.carried().seen, unseen.map_or(Ok(()), Err), "{name}");
        }
    }

    #[test]
    fn paths_are_joined() {
        let cases: [(&[u8], &[u8], &[u8]); 5] = [
            (b"/a", b"b", b"/a/b"),
            (b"/a/", b"b", b"/a/b"),
            (b"", b"b", b"b"),
            (b"/a", b"/b", b"/b"),
            (b"a", b"../b", b"a/../b"),
        ];
        for (directory, path, joined) in cases {
            assert_eq!(join(directory, path), joined);
        }
        assert_eq!(parent(b"/a/b"), b"/a/");
        assert_eq!(parent(b"b"), b"");
    }
}
