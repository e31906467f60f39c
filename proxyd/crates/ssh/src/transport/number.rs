//! Message numbers of the transport layer, and the ranges of the layers above (RFC 4250 section
//! 4.1).

/// `SSH_MSG_DISCONNECT`
pub const DISCONNECT: u8 = 1;
/// `SSH_MSG_IGNORE`
pub const IGNORE: u8 = 2;
/// `SSH_MSG_UNIMPLEMENTED`
pub const UNIMPLEMENTED: u8 = 3;
/// `SSH_MSG_DEBUG`
pub const DEBUG: u8 = 4;
/// `SSH_MSG_SERVICE_REQUEST`
pub const SERVICE_REQUEST: u8 = 5;
/// `SSH_MSG_SERVICE_ACCEPT`
pub const SERVICE_ACCEPT: u8 = 6;
/// `SSH_MSG_EXT_INFO` (RFC 8308)
pub const EXT_INFO: u8 = 7;
/// `SSH_MSG_KEXINIT`
pub const KEXINIT: u8 = 20;
/// `SSH_MSG_NEWKEYS`
pub const NEWKEYS: u8 = 21;
/// `SSH_MSG_KEX_ECDH_INIT` (RFC 5656 section 4), the client's share in every method here
pub const KEX_INIT: u8 = 30;
/// `SSH_MSG_KEX_ECDH_REPLY`, the server's share, host key and signature
pub const KEX_REPLY: u8 = 31;
/// `SSH_MSG_KEX_DH_GEX_GROUP` (RFC 4419 section 5), the server's group; the number of
/// [`KEX_REPLY`] in other methods
pub const GEX_GROUP: u8 = 31;
/// `SSH_MSG_KEX_DH_GEX_INIT`, the client's share
pub const GEX_INIT: u8 = 32;
/// `SSH_MSG_KEX_DH_GEX_REPLY`, the server's share, host key and signature
pub const GEX_REPLY: u8 = 33;
/// `SSH_MSG_KEX_DH_GEX_REQUEST`, the sizes a client takes; the older form with number 30 is not
/// served
pub const GEX_REQUEST: u8 = 34;
/// The last number of the transport layer.
pub const TRANSPORT_LAST: u8 = 49;
/// The first number of the authentication layer; all from here on belong to the layers above.
pub const UPPER_FIRST: u8 = 50;
/// `SSH_MSG_USERAUTH_SUCCESS`
pub const USERAUTH_SUCCESS: u8 = 52;
/// The last number of the connection layer; those that follow are reserved or local extensions.
pub const UPPER_LAST: u8 = 127;
/// `SSH2_MSG_PING` (OpenSSH's PROTOCOL, section 1.9)
pub const PING: u8 = 192;
/// `SSH2_MSG_PONG`
pub const PONG: u8 = 193;

/// `SSH_DISCONNECT_PROTOCOL_ERROR`
pub const REASON_PROTOCOL_ERROR: u32 = 2;
/// `SSH_DISCONNECT_KEY_EXCHANGE_FAILED`
pub const REASON_KEY_EXCHANGE_FAILED: u32 = 3;
/// `SSH_DISCONNECT_HOST_KEY_NOT_VERIFIABLE`
pub const REASON_HOST_KEY_NOT_VERIFIABLE: u32 = 9;
