//! Message numbers (RFC 4250 section 4.1) above the transport layer.

/// Asks for a service by name (RFC 4253 section 10).
pub const SERVICE_REQUEST: u8 = 5;
/// Grants a service (RFC 4253 section 10).
pub const SERVICE_ACCEPT: u8 = 6;
/// One authentication attempt (RFC 4252 section 5).
pub const USERAUTH_REQUEST: u8 = 50;
/// The attempt failed, or more is needed (RFC 4252 section 5.1).
pub const USERAUTH_FAILURE: u8 = 51;
/// The user is authenticated (RFC 4252 section 5.1).
pub const USERAUTH_SUCCESS: u8 = 52;
/// Text to show before authentication (RFC 4252 section 5.4).
pub const USERAUTH_BANNER: u8 = 53;
/// Depends on the method: `PK_OK` (RFC 4252 section 7), `PASSWD_CHANGEREQ` (section 8),
/// `INFO_REQUEST` (RFC 4256 section 3.2), the mechanism of GSS-API (RFC 4462 section 3.3).
pub const USERAUTH_60: u8 = 60;
/// Answers of keyboard-interactive (RFC 4256 section 3.4).
pub const USERAUTH_INFO_RESPONSE: u8 = 61;
/// A token of GSS-API (RFC 4462 section 3.4); the number of the answers, in another method.
pub const USERAUTH_GSSAPI_TOKEN: u8 = 61;
/// The context is complete, without a proof that it belongs to this connection (RFC 4462 section
/// 3.4).
pub const USERAUTH_GSSAPI_EXCHANGE_COMPLETE: u8 = 63;
/// What a server says about a failure of GSS-API (RFC 4462 section 3.8).
pub const USERAUTH_GSSAPI_ERROR: u8 = 64;
/// A token about a failure of GSS-API (RFC 4462 section 3.9).
pub const USERAUTH_GSSAPI_ERRTOK: u8 = 65;
/// The proof that the context belongs to this connection (RFC 4462 section 3.5).
pub const USERAUTH_GSSAPI_MIC: u8 = 66;
/// Last number of the authentication protocol's range (RFC 4250 section 4.1.2).
pub const USERAUTH_LAST: u8 = 79;
/// A request that concerns no channel (RFC 4254 section 4).
pub const GLOBAL_REQUEST: u8 = 80;
/// A global request was granted.
pub const REQUEST_SUCCESS: u8 = 81;
/// A global request was refused.
pub const REQUEST_FAILURE: u8 = 82;
/// Opens a channel (RFC 4254 section 5.1).
pub const CHANNEL_OPEN: u8 = 90;
/// The channel is open.
pub const CHANNEL_OPEN_CONFIRMATION: u8 = 91;
/// The channel was refused.
pub const CHANNEL_OPEN_FAILURE: u8 = 92;
/// More data may be sent (RFC 4254 section 5.2).
pub const CHANNEL_WINDOW_ADJUST: u8 = 93;
/// Data.
pub const CHANNEL_DATA: u8 = 94;
/// Data of another kind, in practice standard error.
pub const CHANNEL_EXTENDED_DATA: u8 = 95;
/// No more data will come (RFC 4254 section 5.3).
pub const CHANNEL_EOF: u8 = 96;
/// No more messages will come.
pub const CHANNEL_CLOSE: u8 = 97;
/// A request on a channel (RFC 4254 section 5.4).
pub const CHANNEL_REQUEST: u8 = 98;
/// A channel request was granted.
pub const CHANNEL_SUCCESS: u8 = 99;
/// A channel request was refused.
pub const CHANNEL_FAILURE: u8 = 100;
