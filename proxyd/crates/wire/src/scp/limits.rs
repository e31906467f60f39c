//! Bounds on what is followed; one place.

/// Bytes of a line or an answer, with its first byte and its end. OpenSSH reads either into a
/// buffer of 2048 bytes, of which it leaves one free for a line, and takes the rest of a longer one
/// for what comes next. The longest name that file systems have takes 255.
pub const LINE_BYTES_MAX: usize = 2_047;

/// Steps without an answer, or with one early. Programs that do not wait send one file.
pub const STEPS_MAX: usize = 64;

/// Bytes of the names of directories that are entered: no path of more can be opened.
pub const ENTERED_BYTES_MAX: usize = crate::files::PATH_BYTES_MAX;

/// Paths of a command; clients write one, and their users some more behind a colon.
pub const PATHS_MAX: usize = 16;
