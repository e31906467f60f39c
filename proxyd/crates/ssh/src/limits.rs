//! Every bound of the SSH layer in one place, each with its reason.

/// Bytes of one name-list: four times the longest that a current peer sends (about 2 kB with every legacy algorithm).
pub const NAME_LIST_BYTES_MAX: usize = 8 * 1024;

/// Names in one name-list: OpenSSH with everything enabled sends fewer than 40.
pub const NAME_LIST_NAMES_MAX: usize = 256;

/// Bytes of one name (RFC 4251 section 6).
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes of one mpint: 16384 bits and a sign byte, the largest RSA modulus that OpenSSH accepts.
pub const MPINT_BYTES_MAX: usize = 2049;
