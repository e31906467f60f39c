//! Bounds on what is followed; one place.

/// Bytes of a line: the longest name that file systems have takes 255, a message quotes a path.
pub const LINE_BYTES_MAX: usize = 4_096;

/// Steps without an answer, or with one early. Programs that do not wait send one file.
pub const STEPS_MAX: usize = 64;

/// Directories in each other; paths of Linux have at most 2,048 names.
pub const DEPTH_MAX: usize = 2_048;
