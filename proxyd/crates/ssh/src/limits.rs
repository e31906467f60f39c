//! Every bound of the SSH layer in one place, each with its reason.

use std::time::Duration;

/// Bytes of one name-list: four times the longest that a current peer sends (about 2 kB with every
/// legacy algorithm).
pub const NAME_LIST_BYTES_MAX: usize = 8 * 1024;

/// Names in one name-list: OpenSSH with everything enabled sends fewer than 40.
pub const NAME_LIST_NAMES_MAX: usize = 256;

/// Bytes of one name (RFC 4251 section 6).
pub const NAME_BYTES_MAX: usize = 64;

/// Bytes of one mpint: 16384 bits and a sign byte, the largest RSA modulus that OpenSSH accepts.
pub const MPINT_BYTES_MAX: usize = 2049;

/// Bytes of a version line with its line end (RFC 4253 section 4.2).
pub const VERSION_LINE_BYTES_MAX: usize = 255;

/// Lines that a server may send before its version line; network gear greets with a dozen.
pub const BANNER_LINES_MAX: usize = 20;

/// Bytes of one such line with its line end: legal notices come as one line of a few hundred bytes.
pub const BANNER_LINE_BYTES_MAX: usize = 1024;

/// Largest `packet_length`: what OpenSSH accepts, 256 KiB, and room for headers, padding and tag.
pub const PACKET_LENGTH_MAX: usize = 256 * 1024 + 1024;

/// Largest `packet_length` before there are keys: what everyone must support (RFC 4253 section
/// 6.1).
pub const PACKET_LENGTH_PLAIN_MAX: usize = 35_000;

/// Bytes of the largest message that is sent: fits into [`PACKET_LENGTH_MAX`] with the longest
/// padding.
pub const MESSAGE_BYTES_MAX: usize = PACKET_LENGTH_MAX - 256;

/// Packets under one key: sequence numbers are nonces and must not repeat, so the connection ends
/// before they do.
pub const PACKETS_PER_KEY_MAX: u64 = u32::MAX as u64;

/// Packets under one key after which a new exchange starts (RFC 4344 section 3.1).
pub const PACKETS_PER_KEY_REKEY: u64 = 1 << 31;

/// Messages before authentication that mean nothing (ignore, debug, ping, unimplemented, unknown);
/// peers send a few at most.
pub const IDLE_MESSAGES_BEFORE_AUTH_MAX: usize = 64;

/// Key exchanges before authentication: one is needed, and each costs us more than it costs the
/// peer.
pub const EXCHANGES_BEFORE_AUTH_MAX: usize = 2;

/// Extensions in one `SSH_MSG_EXT_INFO`: fewer than ten exist.
pub const EXTENSIONS_MAX: usize = 64;

/// Bytes held back during a key exchange: above the 4 MiB at which a driver stops reading the other
/// leg while there is one, and a message.
pub const HOLD_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of the text of a disconnect, sent or received: a few lines.
pub const DISCONNECT_TEXT_BYTES_MAX: usize = 1024;

/// Bytes of the read buffer of an idle leg: keystrokes fit many times over, and 10,000 legs need 40
/// MB.
pub const READ_BYTES_IDLE: usize = 4 * 1024;

/// Bytes of the read buffer under load: four packets of 32 KiB per read.
pub const READ_BYTES_LOADED: usize = 128 * 1024;

/// Bytes of sent output kept before the rest is moved down: as much as one write takes.
pub const SENT_BYTES_KEPT: usize = 64 * 1024;

/// Time without traffic after which large buffers are given back; longer than a pause within a
/// transfer.
pub const BUFFER_IDLE: Duration = Duration::from_secs(2);

/// Bits of the smallest RSA key whose signature counts.
pub const RSA_BITS_MIN: usize = 2048;

/// The same for host keys that sign with SHA-1: gear of that age has such keys.
pub const RSA_BITS_MIN_LEGACY: usize = 1024;

/// Bits of the largest RSA key whose signature is checked; larger ones cost too much time.
pub const RSA_BITS_MAX: usize = 8192;

/// Bits of the smallest group that a server may choose (RFC 8270).
pub const GROUP_BITS_MIN: usize = 2048;

/// Bits of the largest group that a server may choose: larger ones cost too much time.
pub const GROUP_BITS_MAX: usize = 8192;

/// Bytes of a certificate: one of RSA with a hundred names takes 4 KiB.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// Users or hosts of one certificate, as in OpenSSH.
pub const CERTIFICATE_PRINCIPALS_MAX: usize = 256;

/// Critical options, and extensions, of one certificate: fewer than ten exist.
pub const CERTIFICATE_OPTIONS_MAX: usize = 32;

/// Messages of one peer during authentication; a login of many rounds takes a few dozen.
pub const AUTH_MESSAGES_MAX: u32 = 2_000;
/// Public keys a client may ask about; agents hold a handful.
pub const KEY_OFFERS_MAX: u32 = 20;
/// Mechanisms of one attempt by GSS-API; clients offer one or two.
pub const GSSAPI_MECHANISMS_MAX: usize = 16;
/// Bytes of one token of GSS-API: a ticket of Active Directory takes 48,000 at most, and is sent
/// along with the user's own where that is delegated.
pub const GSSAPI_TOKEN_BYTES_MAX: usize = 128 * 1024;
/// Tokens of one attempt; Kerberos takes one each way.
pub const GSSAPI_TOKENS_MAX: u32 = 8;
/// User name in bytes; it may carry a ticket and a destination.
pub const USER_NAME_BYTES_MAX: usize = 1_024;
/// Bytes of an agent's answer: what OpenSSH's agent sends at most.
pub const AGENT_ANSWER_BYTES_MAX: usize = 256 * 1024;
/// Keys of an agent that are looked at; servers end a login after a handful of wrong ones.
pub const AGENT_KEYS_MAX: usize = 16;
/// Data packet in bytes that a client is told to send at most on a channel that was confirmed
/// before the server was there: no server takes less (RFC 4253 section 6.1 asks for 32,768).
pub const EARLY_PACKET_BYTES_MAX: u32 = 16 * 1024;
/// Questions in one keyboard-interactive round.
pub const PROMPTS_MAX: usize = 32;
/// One question in bytes, after cleaning.
pub const PROMPT_BYTES_MAX: usize = 1_024;
/// One answer in bytes.
pub const ANSWER_BYTES_MAX: usize = 64 * 1_024;
/// Banner or instruction in bytes, after cleaning.
pub const BANNER_BYTES_MAX: usize = 16 * 1_024;
/// Text of a refused channel in bytes, after cleaning.
pub const OPEN_FAILURE_TEXT_BYTES_MAX: usize = 1_024;
/// Channels open at a time on one connection; OpenSSH's servers allow 10 sessions by default.
pub const CHANNELS_MAX: usize = 256;
/// Places where a server listens for one client; OpenSSH's clients ask for a handful.
pub const LISTENERS_MAX: usize = 128;
/// Requests of one direction that wait for their reply.
pub const REPLIES_MAX: usize = 1_024;
/// Data packet in bytes that we let peers announce; larger ones do not fit our packets.
pub const DATA_PACKET_BYTES_MAX: u32 = 256 * 1_024;
