//! Requests, read as far as it takes to know what they are about.

use super::cursor::{Cursor, Stop};
use super::error::SftpError;
use super::limits::HANDLE_BYTES_MAX;
use super::op::Op;
use crate::files::PATH_BYTES_MAX;

/// Type of the packet that begins a channel (draft-ietf-secsh-filexfer-02 section 4).
pub(super) const INIT: u8 = 1;

/// Type of a request of an extension (draft-ietf-secsh-filexfer-02 section 8).
pub(super) const EXTENDED: u8 = 200;

/// Opens for reading (draft-ietf-secsh-filexfer-02 section 6.3).
const FLAG_READ: u32 = 0x01;
/// Opens for writing.
const FLAG_WRITE: u32 = 0x02;
/// Every write goes to the end.
const FLAG_APPEND: u32 = 0x04;
/// Makes the file if there is none.
const FLAG_CREATE: u32 = 0x08;
/// Cuts the file to nothing.
const FLAG_TRUNCATE: u32 = 0x10;

/// The size is among the attributes (draft-ietf-secsh-filexfer-02 section 5).
const ATTRIBUTE_SIZE: u32 = 0x01;

/// The first packet of the client, or a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromClient<'a> {
    Init { version: u32 },
    Request(Request<'a>),
}

/// What a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Subject<'a> {
    Nothing,
    Path(&'a [u8]),
    Paths(&'a [u8], &'a [u8]),
    Handle(&'a [u8]),
    /// From one file to another.
    Handles(&'a [u8], &'a [u8]),
    /// The name of an extension that is not known.
    Extension(&'a [u8]),
}

/// What a file is opened for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct OpenFlags(u32);

impl OpenFlags {
    /// Without leave to write, servers open for reading, whatever else is set.
    pub(super) const fn reads(self) -> bool {
        self.0 & FLAG_READ != 0 || self.0 & FLAG_WRITE == 0
    }

    /// Whether the file can change by it.
    pub(super) const fn writes(self) -> bool {
        self.0 & (FLAG_WRITE | FLAG_APPEND | FLAG_CREATE | FLAG_TRUNCATE) != 0
    }

    pub(super) const fn appends(self) -> bool {
        self.0 & FLAG_APPEND != 0
    }

    /// The name of such an opening in records.
    pub(super) const fn name(self) -> &'static str {
        match (self.reads(), self.writes()) {
            (true, true) => "open-read-write",
            (false, true) => "open-write",
            (_, false) => "open-read",
        }
    }
}

/// A request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request<'a> {
    pub(super) id: u32,
    pub(super) op: Op,
    pub(super) subject: Subject<'a>,
    /// Where it begins in the file: reading, writing, and writing of a copy.
    pub(super) offset: u64,
    /// Bytes to read, write or copy.
    pub(super) length: u64,
    /// The size to set.
    pub(super) size: Option<u64>,
    pub(super) flags: OpenFlags,
    /// Whether a string was longer than what is kept; the fields behind it are as if empty.
    pub(super) cut: bool,
    /// Whether the name of an extension has a zero byte. OpenSSH takes one at its end as no part of
    /// it.
    pub(super) zero_in_name: bool,
}

/// Reads the start of a packet of the client.
pub(super) fn decode(head: &[u8]) -> Result<FromClient<'_>, Stop> {
    let mut cursor = Cursor::new(head)?;
    let kind = cursor.u8()?;
    if kind == INIT {
        return Ok(FromClient::Init { version: cursor.u32()? });
    }
    let id = cursor.u32()?;
    let mut request = Request {
        id,
        op: Op::Other,
        subject: Subject::Nothing,
        offset: 0,
        length: 0,
        size: None,
        flags: OpenFlags::default(),
        cut: false,
        zero_in_name: false,
    };
    if kind == EXTENDED {
        let name = cursor.string(PATH_BYTES_MAX)?;
        request.zero_in_name = name.contains(&0);
        request.op = Op::of_extension(name.strip_suffix(b"\0").unwrap_or(name));
        request.subject = Subject::Extension(name);
    } else {
        request.op = Op::of_type(kind).ok_or(Stop::Bad(SftpError::UnknownRequest(kind)))?;
    }
    request.read_fields(&mut cursor)?;
    request.cut = cursor.is_cut();
    Ok(FromClient::Request(request))
}

impl<'a> Request<'a> {
    /// Reads what follows the number, or the name of an extension.
    fn read_fields(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Stop> {
        match self.op {
            Op::Open => {
                self.subject = path(cursor)?;
                self.flags = OpenFlags(cursor.u32()?);
            }
            Op::Read => {
                self.subject = handle(cursor)?;
                self.offset = cursor.u64()?;
                self.length = u64::from(cursor.u32()?);
            }
            Op::Write => {
                self.subject = handle(cursor)?;
                self.offset = cursor.u64()?;
                self.length = u64::from(cursor.u32()?);
                // The content, which is not part of what is read here, fits into the packet.
                let (offset, bytes) = (cursor.packet_bytes(), cursor.left_bytes());
                if !cursor.is_cut() && u64::try_from(bytes).is_ok_and(|left| self.length > left) {
                    return Err(Stop::Bad(SftpError::Truncated { offset, bytes }));
                }
            }
            Op::Setstat | Op::Lsetstat => {
                self.subject = path(cursor)?;
                self.size = size(cursor)?;
            }
            Op::Fsetstat => {
                self.subject = handle(cursor)?;
                self.size = size(cursor)?;
            }
            Op::Rename | Op::Symlink | Op::PosixRename | Op::Hardlink => {
                let first = cursor.string(PATH_BYTES_MAX)?;
                self.subject = Subject::Paths(first, cursor.string(PATH_BYTES_MAX)?);
            }
            Op::CopyData => self.read_copy(cursor)?,
            Op::Close | Op::Fstat | Op::Readdir | Op::Fstatvfs | Op::Fsync => {
                self.subject = handle(cursor)?;
            }
            Op::Lstat
            | Op::Opendir
            | Op::Remove
            | Op::Mkdir
            | Op::Rmdir
            | Op::Realpath
            | Op::Stat
            | Op::Readlink
            | Op::Statvfs
            | Op::ExpandPath => self.subject = path(cursor)?,
            Op::Limits | Op::HomeDirectory | Op::UsersGroups => self.subject = Subject::Nothing,
            Op::Other => {}
        }
        Ok(())
    }

    /// Reads a copy between two handles; a length of 0 means up to the end of the file.
    fn read_copy(&mut self, cursor: &mut Cursor<'a>) -> Result<(), Stop> {
        let from = cursor.string(HANDLE_BYTES_MAX)?;
        let begins = cursor.u64()?;
        self.length = match cursor.u64()? {
            0 => u64::MAX,
            length => length,
        };
        self.subject = Subject::Handles(from, cursor.string(HANDLE_BYTES_MAX)?);
        // Of the two places the one that reaches further is what a limit is about.
        self.offset = cursor.u64()?.max(begins);
        Ok(())
    }
}

fn path<'a>(cursor: &mut Cursor<'a>) -> Result<Subject<'a>, Stop> {
    cursor.string(PATH_BYTES_MAX).map(Subject::Path)
}

fn handle<'a>(cursor: &mut Cursor<'a>) -> Result<Subject<'a>, Stop> {
    cursor.string(HANDLE_BYTES_MAX).map(Subject::Handle)
}

/// The size among attributes, which comes first.
fn size(cursor: &mut Cursor<'_>) -> Result<Option<u64>, Stop> {
    let flags = cursor.u32()?;
    if flags & ATTRIBUTE_SIZE == 0 { Ok(None) } else { cursor.u64().map(Some) }
}
