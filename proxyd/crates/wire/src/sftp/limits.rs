//! Bounds on what is followed; one place.

/// The version that is followed (draft-ietf-secsh-filexfer-02), which every client and server has.
pub const VERSION: u32 = 3;

/// Bytes of a packet behind its length field: 256 KiB of content, which is what OpenSSH takes in
/// all, and room for the fields before it.
pub const PACKET_BYTES_MAX: usize = 256 * 1024 + 1024;

/// Requests that wait for their answer; OpenSSH's client sends 64, the eagerest some hundreds.
pub const REQUESTS_MAX: usize = 4_096;

/// Bytes of paths that are kept for requests without an answer, and again for files that are open:
/// 256 of the longest, or thousands as people have them.
pub const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// Files that are open; the usual limit of descriptors of a server.
pub const HANDLES_MAX: usize = 1_024;

/// Bytes of a handle (draft-ietf-secsh-filexfer-02 section 6.2).
pub const HANDLE_BYTES_MAX: usize = 256;
