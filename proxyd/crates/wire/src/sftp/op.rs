//! The requests of SFTP version 3 and of its extensions.

use crate::files::AccessKind;

/// What a request asks for (draft-ietf-secsh-filexfer-02 section 6, OpenSSH `PROTOCOL` section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Open,
    Close,
    Read,
    Write,
    Lstat,
    Fstat,
    Setstat,
    Fsetstat,
    Opendir,
    Readdir,
    Remove,
    Mkdir,
    Rmdir,
    Realpath,
    Stat,
    Rename,
    Readlink,
    Symlink,
    PosixRename,
    Hardlink,
    Statvfs,
    Fstatvfs,
    Fsync,
    Lsetstat,
    Limits,
    ExpandPath,
    CopyData,
    HomeDirectory,
    UsersGroups,
    /// An extension that is not known.
    Other,
}

/// Every request that has a type of its own.
const TYPES: &[(u8, Op)] = &[
    (3, Op::Open),
    (4, Op::Close),
    (5, Op::Read),
    (6, Op::Write),
    (7, Op::Lstat),
    (8, Op::Fstat),
    (9, Op::Setstat),
    (10, Op::Fsetstat),
    (11, Op::Opendir),
    (12, Op::Readdir),
    (13, Op::Remove),
    (14, Op::Mkdir),
    (15, Op::Rmdir),
    (16, Op::Realpath),
    (17, Op::Stat),
    (18, Op::Rename),
    (19, Op::Readlink),
    (20, Op::Symlink),
];

/// Every extension that is known, by its name.
const EXTENSIONS: &[(&[u8], Op)] = &[
    (b"posix-rename@openssh.com", Op::PosixRename),
    (b"hardlink@openssh.com", Op::Hardlink),
    (b"statvfs@openssh.com", Op::Statvfs),
    (b"fstatvfs@openssh.com", Op::Fstatvfs),
    (b"fsync@openssh.com", Op::Fsync),
    (b"lsetstat@openssh.com", Op::Lsetstat),
    (b"limits@openssh.com", Op::Limits),
    (b"expand-path@openssh.com", Op::ExpandPath),
    (b"copy-data", Op::CopyData),
    (b"home-directory", Op::HomeDirectory),
    (b"users-groups-by-id@openssh.com", Op::UsersGroups),
];

/// The kind of an answer (draft-ietf-secsh-filexfer-02 section 7); a status fits every request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AnswerKind {
    Status,
    Handle,
    Data,
    Name,
    Attributes,
    Extended,
}

impl Op {
    /// The request with this type; `SSH_FXP_EXTENDED` is told apart by its name.
    pub(super) fn of_type(kind: u8) -> Option<Self> {
        TYPES.iter().find(|(own, _)| *own == kind).map(|(_, op)| *op)
    }

    /// The extension with this name.
    pub(super) fn of_extension(name: &[u8]) -> Self {
        EXTENSIONS.iter().find(|(own, _)| *own == name).map_or(Self::Other, |(_, op)| *op)
    }

    /// The name in records; an open file is named by what it was opened for.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Close => "close",
            Self::Read => "read",
            Self::Write => "write",
            Self::Lstat => "lstat",
            Self::Fstat => "fstat",
            Self::Setstat => "setstat",
            Self::Fsetstat => "fsetstat",
            Self::Opendir => "opendir",
            Self::Readdir => "readdir",
            Self::Remove => "remove",
            Self::Mkdir => "mkdir",
            Self::Rmdir => "rmdir",
            Self::Realpath => "realpath",
            Self::Stat => "stat",
            Self::Rename => "rename",
            Self::Readlink => "readlink",
            Self::Symlink => "symlink",
            Self::PosixRename => "posix-rename",
            Self::Hardlink => "hardlink",
            Self::Statvfs => "statvfs",
            Self::Fstatvfs => "fstatvfs",
            Self::Fsync => "fsync",
            Self::Lsetstat => "lsetstat",
            Self::Limits => "limits",
            Self::ExpandPath => "expand-path",
            Self::CopyData => "copy-data",
            Self::HomeDirectory => "home-directory",
            Self::UsersGroups => "users-groups-by-id",
            Self::Other => "extended",
        }
    }

    /// What it does to what it names; none where it needs no leave.
    ///
    /// No client can do without closing, and without asking for limits or for the full form of a
    /// path.
    pub(super) const fn access(self) -> Option<AccessKind> {
        Some(match self {
            Self::Open | Self::Read | Self::CopyData => AccessKind::Read,
            Self::Write | Self::Fsync => AccessKind::Write,
            Self::Opendir | Self::Readdir => AccessKind::List,
            Self::Lstat | Self::Fstat | Self::Stat | Self::Readlink => AccessKind::Stat,
            Self::Statvfs | Self::Fstatvfs => AccessKind::Stat,
            Self::Setstat | Self::Fsetstat | Self::Lsetstat => AccessKind::Setstat,
            Self::Remove => AccessKind::Remove,
            Self::Mkdir => AccessKind::Mkdir,
            Self::Rmdir => AccessKind::Rmdir,
            Self::Rename | Self::PosixRename => AccessKind::Rename,
            Self::Symlink | Self::Hardlink => AccessKind::Link,
            Self::Other => AccessKind::Other,
            Self::Close | Self::Realpath | Self::ExpandPath => return None,
            Self::Limits | Self::HomeDirectory | Self::UsersGroups => return None,
        })
    }

    /// Whether a request can have this answer.
    pub(super) const fn fits(self, answer: AnswerKind) -> bool {
        match answer {
            AnswerKind::Status => true,
            AnswerKind::Handle => matches!(self, Self::Open | Self::Opendir),
            AnswerKind::Data => matches!(self, Self::Read),
            AnswerKind::Name => matches!(
                self,
                Self::Readdir
                    | Self::Realpath
                    | Self::Readlink
                    | Self::ExpandPath
                    | Self::HomeDirectory
                    | Self::Other
            ),
            AnswerKind::Attributes => {
                matches!(self, Self::Stat | Self::Lstat | Self::Fstat | Self::Other)
            }
            AnswerKind::Extended => matches!(
                self,
                Self::Statvfs | Self::Fstatvfs | Self::Limits | Self::UsersGroups | Self::Other
            ),
        }
    }
}
