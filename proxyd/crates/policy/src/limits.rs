//! Bounds on the size of a policy set; one place.

/// Connection policies in one set: what the compiled steering tables can index.
pub const CONNECTION_POLICIES_MAX: usize = 16_384;

/// Bytes in the name of a policy, user or group; long enough for a distinguished group name.
pub const NAME_BYTES_MAX: usize = 256;

/// Bytes in a pattern for user names or environment variables.
pub const PATTERN_BYTES_MAX: usize = 256;

/// Bytes in a pattern for paths: what a path has at most on Linux (`PATH_MAX`).
pub const PATH_PATTERN_BYTES_MAX: usize = 4_096;

/// Bytes in the name of a Kerberos realm, which is a DNS name as a rule.
pub const REALM_BYTES_MAX: usize = 255;

/// Bytes in a DNS name without its trailing dot (RFC 1035 section 2.3.4 and 3.1: 255 on the wire).
pub const HOST_NAME_BYTES_MAX: usize = 253;

/// Bytes in one label of a DNS name (RFC 1035 section 2.3.4).
pub const HOST_LABEL_BYTES_MAX: usize = 63;

/// Bytes of a banner text; fits one SSH packet with room to spare (RFC 4253 section 6.1).
pub const BANNER_BYTES_MAX: usize = 16_384;

/// Bytes of a version string without its line end (RFC 4253 section 4.2: 255 with CR LF).
pub const VERSION_BYTES_MAX: usize = 253;
