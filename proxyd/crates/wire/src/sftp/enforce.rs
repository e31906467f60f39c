//! What a request needs leave for, and how one that gets none is spoilt.

use std::borrow::Cow;

use super::answer::PERMISSION_DENIED;
use super::op::Op;
use super::request::{EXTENDED, Request, Subject};
use super::table::Table;
use crate::files::{Access, AccessKind, Verdict, Watch};

/// Where the type of a packet is: behind its length.
const KIND_AT: usize = 4;
/// Where the version is in the first packet, and the number in every other.
const VERSION_AT: usize = KIND_AT + 1;
/// Where the status is in an answer: behind the number of its request.
const STATUS_AT: usize = VERSION_AT + 4;
/// Where the first string of a request is: behind its number and the string's own length.
const STRING_AT: usize = STATUS_AT + 4;

/// What the first string of a refused request is filled with. No extension has such a name, and
/// servers read the name as text: one with a zero byte, as handles have them, ends OpenSSH's.
pub(super) const FILL: u8 = b'?';

/// The verdict about a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Judged {
    /// It passes.
    Passes,
    /// It passes, and may read this many bytes.
    Shortened(u32),
    /// It is refused.
    Refused,
}

/// Asks for everything that a request needs.
pub(super) fn judge(request: &Request<'_>, table: &Table, watch: &mut impl Watch) -> Judged {
    // What is behind a string that was cut is not known, and servers do not agree what a zero byte
    // makes of a name.
    if request.cut || request.zero_in_name {
        return Judged::Refused;
    }
    let Some(accesses) = accesses(request, table) else {
        return Judged::Refused;
    };
    let mut judged = Judged::Passes;
    for access in &accesses {
        match watch.judge(access) {
            Verdict::Refuse => return Judged::Refused,
            Verdict::Allow { bytes_max: Some(bytes_max) } if request.op == Op::Read => {
                // One byte more than allowed shows whether the file ends there.
                let left = bytes_max.saturating_add(1).saturating_sub(request.offset);
                match u32::try_from(left) {
                    Ok(0) => return Judged::Refused,
                    Ok(left) if u64::from(left) < request.length => {
                        judged = Judged::Shortened(left);
                    }
                    Ok(_) | Err(_) => {}
                }
            }
            Verdict::Allow { bytes_max: Some(bytes_max) } if access.bytes > bytes_max => {
                return Judged::Refused;
            }
            Verdict::Allow { .. } => {}
        }
    }
    judged
}

/// What a request does; nothing for one that names a file that is not open, and for one that makes
/// a link of which it is not certain where it leads.
fn accesses<'a>(request: &Request<'a>, table: &'a Table) -> Option<Vec<Access<'a>>> {
    let Some(kind) = request.op.access() else {
        return Some(Vec::new());
    };
    let reach = request.offset.saturating_add(request.length);
    Some(match request.subject {
        Subject::Nothing => Vec::new(),
        Subject::Path(path) if request.op == Op::Open => on_open(request, path),
        Subject::Path(path) => on_path(request, kind, path, 0),
        Subject::Paths(first, second) => on_paths(request.op, kind, first, second)?,
        Subject::Handle(handle) => {
            let bytes = if request.op == Op::Read { request.offset } else { reach };
            on_path(request, kind, &table.file(handle)?.path, bytes)
        }
        Subject::Handles(from, into) => vec![
            access(AccessKind::Read, &table.file(from)?.path, reach),
            access(AccessKind::Write, &table.file(into)?.path, reach),
        ],
        Subject::Extension(_) => vec![Access { kind, path: None, bytes: 0 }],
    })
}

fn on_open<'a>(request: &Request<'a>, path: &'a [u8]) -> Vec<Access<'a>> {
    let flags = request.flags;
    // How much is there already is not known.
    let bytes = if flags.appends() { u64::MAX } else { 0 };
    let read = flags.reads().then(|| access(AccessKind::Read, path, 0));
    let write = flags.writes().then(|| access(AccessKind::Write, path, bytes));
    read.into_iter().chain(write).collect()
}

/// Setting the size changes the content too.
fn on_path<'a>(
    request: &Request<'_>,
    kind: AccessKind,
    path: &'a [u8],
    bytes: u64,
) -> Vec<Access<'a>> {
    let size = request.size.map(|size| access(AccessKind::Write, path, size));
    std::iter::once(access(kind, path, bytes)).chain(size).collect()
}

/// OpenSSH takes the target of a symbolic link first, servers of the draft the link (OpenSSH
/// `PROTOCOL` section 4.1), so that either may be the target. A relative one would lead elsewhere
/// once its link is moved.
fn on_paths<'a>(
    op: Op,
    kind: AccessKind,
    first: &'a [u8],
    second: &'a [u8],
) -> Option<Vec<Access<'a>>> {
    let is_certain = op != Op::Symlink || (is_full(first) && is_full(second));
    is_certain.then(|| vec![access(kind, first, 0), access(kind, second, 0)])
}

/// Whether a path is absolute and never goes up.
fn is_full(path: &[u8]) -> bool {
    path.starts_with(b"/") && path.split(|&byte| byte == b'/').all(|name| name != b"..")
}

const fn access(kind: AccessKind, path: &[u8], bytes: u64) -> Access<'_> {
    Access { kind, path: Some(Cow::Borrowed(path)), bytes }
}

/// Makes the start of a request one of an extension that no server has; gives how many bytes of
/// its first string are still to be filled.
pub(super) fn spoil(head: &mut [u8]) -> usize {
    if let Some(kind) = head.get_mut(KIND_AT) {
        *kind = EXTENDED;
    }
    let length = head.get(STATUS_AT..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    let end =
        usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX).saturating_add(STRING_AT);
    let here = end.min(head.len());
    if let Some(string) = head.get_mut(STRING_AT..here) {
        string.fill(FILL);
    }
    end - here
}

/// Offers the server no later version than is followed.
pub(super) fn set_version(head: &mut [u8], version: u32) {
    set_u32(head, VERSION_AT, version);
}

/// Says that it may not be done.
pub(super) fn deny(head: &mut [u8]) {
    set_u32(head, STATUS_AT, PERMISSION_DENIED);
}

/// Asks for less; the length is the last field of what is read of a request to read.
pub(super) fn shorten(head: &mut [u8], length: u32) {
    let at = head.len().saturating_sub(size_of::<u32>());
    set_u32(head, at, length);
}

fn set_u32(head: &mut [u8], at: usize, value: u32) {
    if let Some(field) = head.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = value.to_be_bytes();
    }
}
