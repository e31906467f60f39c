//! The user name of an SSH login: leading key-value fields, the server's user, the target.
//!
//! ```text
//! name    = *( key "=" value sep ) [ user [ sep target ] ]
//! sep     = "@" / "%"
//! target  = host [ ( ":" / "+" / "/" ) port ]     ; only where users name the target
//! host    = name / IPv4 / "[" IPv6 [ "%" zone ] "]"
//! ```
//!
//! Separators inside brackets do not count. Where users name the target, the last field is the
//! target, so that the user may hold separators itself (`alice@corp.example@db1`); elsewhere all
//! that follows the key-value fields is the user.

use std::fmt;
use std::net::Ipv6Addr;

/// Bytes of a whole user name.
pub const NAME_BYTES_MAX: usize = 1024;

/// Fields of a user name.
pub const FIELDS_MAX: usize = 32;

/// The key of the gateway user.
const GATEWAY_USER_KEY: &str = "gu";

/// The key of the gateway password, refused because user names are logged.
const GATEWAY_PASSWORD_KEY: &str = "gp";

/// Why a user name was refused; names no content, because a field may hold a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserNameError {
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("user name of {bytes} bytes exceeds {NAME_BYTES_MAX}")]
    TooLong {
        /// Length of the refused name.
        bytes: usize,
    },
    /// Not UTF-8 (RFC 4252 section 5).
    #[error("user name is not UTF-8")]
    NotUtf8(#[source] std::str::Utf8Error),
    /// Holds a control character.
    #[error("user name has a control character at byte {offset}")]
    ControlCharacter {
        /// Where the character begins.
        offset: usize,
    },
    /// More than [`FIELDS_MAX`] fields.
    #[error("user name of {fields} fields exceeds {FIELDS_MAX}")]
    TooManyFields {
        /// Count of fields in the refused name.
        fields: usize,
    },
    /// Brackets that do not form one pair.
    #[error("user name has unpaired or repeated brackets")]
    Brackets,
    /// A key that is empty or holds other than ASCII letters, digits, `_`, `-` and `.`.
    #[error("key-value field {index} of the user name has no proper key")]
    Key {
        /// Index of the field.
        index: usize,
    },
    /// A key that occurs twice.
    #[error("key-value field {index} of the user name repeats a key")]
    DuplicateKey {
        /// Index of the second of the two.
        index: usize,
    },
    /// An empty gateway user.
    #[error("user name has an empty gateway user")]
    EmptyGatewayUser,
    /// A gateway password, which must not travel in a user name.
    #[error("user name carries a gateway password, which is asked for separately")]
    GatewayPassword,
    /// A separator without a target after it.
    #[error("user name has an empty target")]
    EmptyTarget,
    /// Brackets around something else than an IPv6 address.
    #[error("target in brackets is not an IPv6 address")]
    BracketedHost,
    /// A port outside 1 to 65535, or something else in its place.
    #[error("target port is not a number from 1 to 65535; an IPv6 address needs brackets")]
    Port,
}

/// Whether users name the target in the user name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InbandMode {
    /// They do not.
    Off,
    /// They do.
    On,
}

/// A user name taken apart; `Debug` hides the values of key-value fields, which may be secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct UserName {
    /// The key-value fields in order, `gu` included; keys are unique.
    pub fields: Vec<(String, String)>,
    /// The value of `gu`.
    pub gateway_user: Option<String>,
    /// The user on the server; absent when left empty.
    pub remote_user: Option<String>,
    /// The target; only with [`InbandMode::On`].
    pub target: Option<HostPort>,
}

/// A host and perhaps a port, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// A name or address, never empty, without brackets.
    pub host: String,
    /// The zone of an IPv6 address, never empty (RFC 4007 section 11).
    pub zone: Option<String>,
    /// The port, never 0.
    pub port: Option<u16>,
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.fields.iter().map(|(key, _)| key.as_str()).collect();
        f.debug_struct("UserName")
            .field("keys", &keys)
            .field("gateway_user", &self.gateway_user)
            .field("remote_user", &self.remote_user)
            .field("target", &self.target)
            .finish()
    }
}

/// Takes a user name apart.
///
/// # Errors
/// One [`UserNameError`] per form that is refused.
pub fn parse(name: &[u8], mode: InbandMode) -> Result<UserName, UserNameError> {
    let text = check_text(name)?;
    let mut fields = Vec::new();
    let mut rest = Some(text);
    while let Some((field, after)) = rest.map(split_first) {
        let Some((key, value)) = field.split_once('=') else {
            break;
        };
        check_key(key, &fields)?;
        fields.push((key.to_owned(), value.to_owned()));
        rest = after;
    }
    let gateway_user = gateway_user(&fields)?;
    let (user, target) = match mode {
        InbandMode::Off => (rest.unwrap_or_default(), None),
        InbandMode::On => split_last(rest.unwrap_or_default()),
    };
    Ok(UserName {
        fields,
        gateway_user,
        remote_user: (!user.is_empty()).then(|| user.to_owned()),
        target: target.map(host_and_port).transpose()?,
    })
}

/// Checks what holds for the whole name: length, characters, brackets, count of fields.
fn check_text(name: &[u8]) -> Result<&str, UserNameError> {
    if name.len() > NAME_BYTES_MAX {
        return Err(UserNameError::TooLong { bytes: name.len() });
    }
    let text = std::str::from_utf8(name).map_err(UserNameError::NotUtf8)?;
    if let Some(offset) = text.find(char::is_control) {
        return Err(UserNameError::ControlCharacter { offset });
    }
    let brackets: String = text.chars().filter(|c| matches!(c, '[' | ']')).collect();
    if !matches!(brackets.as_str(), "" | "[]") {
        return Err(UserNameError::Brackets);
    }
    let mut fields = 1;
    let mut rest = text;
    while let (_, Some(after)) = split_first(rest) {
        fields += 1;
        rest = after;
    }
    if fields > FIELDS_MAX {
        return Err(UserNameError::TooManyFields { fields });
    }
    Ok(text)
}

/// Checks the key of the field that follows `fields`.
fn check_key(key: &str, fields: &[(String, String)]) -> Result<(), UserNameError> {
    let index = fields.len();
    let proper = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if key.is_empty() || !key.bytes().all(proper) {
        return Err(UserNameError::Key { index });
    }
    if key == GATEWAY_PASSWORD_KEY {
        return Err(UserNameError::GatewayPassword);
    }
    if fields.iter().any(|(earlier, _)| earlier == key) {
        return Err(UserNameError::DuplicateKey { index });
    }
    Ok(())
}

/// The gateway user among the fields.
fn gateway_user(fields: &[(String, String)]) -> Result<Option<String>, UserNameError> {
    match fields.iter().find(|(key, _)| key == GATEWAY_USER_KEY) {
        Some((_, user)) if user.is_empty() => Err(UserNameError::EmptyGatewayUser),
        Some((_, user)) => Ok(Some(user.clone())),
        None => Ok(None),
    }
}

/// Splits at the first separator outside brackets.
fn split_first(text: &str) -> (&str, Option<&str>) {
    let mut bracketed = false;
    let at = text.find(|c: char| {
        match c {
            '[' => bracketed = true,
            ']' => bracketed = false,
            _ => {}
        }
        !bracketed && is_separator(c)
    });
    split_around(text, at)
}

/// Splits at the last separator outside brackets.
fn split_last(text: &str) -> (&str, Option<&str>) {
    let mut bracketed = false;
    let at = text.rfind(|c: char| {
        match c {
            ']' => bracketed = true,
            '[' => bracketed = false,
            _ => {}
        }
        !bracketed && is_separator(c)
    });
    split_around(text, at)
}

/// The text before and after the separator at byte `at`, or the whole text.
fn split_around(text: &str, at: Option<usize>) -> (&str, Option<&str>) {
    let Some((before, from_separator)) = at.and_then(|at| text.split_at_checked(at)) else {
        return (text, None);
    };
    (before, from_separator.strip_prefix(is_separator))
}

const fn is_separator(c: char) -> bool {
    matches!(c, '@' | '%')
}

/// Reads a target that stands alone, such as the answer to a question.
///
/// # Errors
/// As for [`parse`].
pub fn parse_target(text: &[u8]) -> Result<HostPort, UserNameError> {
    host_and_port(check_text(text)?)
}

/// Reads a host and perhaps a port.
fn host_and_port(text: &str) -> Result<HostPort, UserNameError> {
    let (host, zone, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((inside, port)) => {
            let (address, zone) = match inside.split_once('%') {
                Some((address, zone)) => (address, Some(zone)),
                None => (inside, None),
            };
            if address.parse::<Ipv6Addr>().is_err() || zone == Some("") {
                return Err(UserNameError::BracketedHost);
            }
            (address, zone, port)
        }
        None => {
            let end = text.find(is_port_mark).unwrap_or(text.len());
            let (host, port) = text.split_at_checked(end).unwrap_or((text, ""));
            (host, None, port)
        }
    };
    if host.is_empty() {
        return Err(UserNameError::EmptyTarget);
    }
    let port = if port.is_empty() { None } else { Some(parse_port(port)?) };
    Ok(HostPort { host: host.to_owned(), zone: zone.map(str::to_owned), port })
}

/// Reads a port behind its mark.
fn parse_port(marked: &str) -> Result<u16, UserNameError> {
    marked
        .strip_prefix(is_port_mark)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|digits| digits.parse().ok())
        .filter(|port| *port != 0)
        .ok_or(UserNameError::Port)
}

const fn is_port_mark(c: char) -> bool {
    matches!(c, ':' | '+' | '/')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    use InbandMode::{Off, On};

    /// A name in one line: "keys | gateway user | user | host port", with "-" for what is absent.
    fn line(name: &UserName) -> String {
        let fields: Vec<String> =
            name.fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let target = name.target.as_ref().map_or("-".to_owned(), |target| {
            let zone = target.zone.as_ref().map(|zone| format!("%{zone}")).unwrap_or_default();
            let port = target.port.map(|port| format!(" {port}")).unwrap_or_default();
            format!("{}{zone}{port}", target.host)
        });
        let gateway_user = name.gateway_user.as_deref().unwrap_or("-");
        let user = name.remote_user.as_deref().unwrap_or("-");
        format!("{} | {gateway_user} | {user} | {target}", fields.join(","))
    }

    #[test]
    fn accepted() {
        let cases = [
            ("root", Off, " | - | root | -"),
            ("root", On, " | - | root | -"),
            ("", Off, " | - | - | -"),
            ("", On, " | - | - | -"),
            ("alice@corp.example", Off, " | - | alice@corp.example | -"),
            ("root%host", Off, " | - | root%host | -"),
            ("gu=alice@root", Off, "gu=alice | alice | root | -"),
            ("gu=alice%root", Off, "gu=alice | alice | root | -"),
            ("gu=alice", Off, "gu=alice | alice | - | -"),
            ("ticket_id=12=3@gu=a@root", Off, "ticket_id=12=3,gu=a | a | root | -"),
            ("otp=@root", Off, "otp= | - | root | -"),
            ("root@db1", On, " | - | root | db1"),
            ("root%db1", On, " | - | root | db1"),
            ("root@db1:2222", On, " | - | root | db1 2222"),
            ("root@db1+2222", On, " | - | root | db1 2222"),
            ("root@db1/2222", On, " | - | root | db1 2222"),
            ("root@10.2.0.9:22", On, " | - | root | 10.2.0.9 22"),
            ("root@[fd00::9]", On, " | - | root | fd00::9"),
            ("root@[fd00::9]:22", On, " | - | root | fd00::9 22"),
            ("root@[fe80::9%eth0]/22", On, " | - | root | fe80::9%eth0 22"),
            ("root%[fe80::9%eth0]", On, " | - | root | fe80::9%eth0"),
            ("alice@corp.example@db1:65535", On, " | - | alice@corp.example | db1 65535"),
            ("alice%corp.example%db1/22", On, " | - | alice%corp.example | db1 22"),
            ("gu=a%otp=1%root%db1+22", On, "gu=a,otp=1 | a | root | db1 22"),
            ("gu=a%root@db1", On, "gu=a | a | root | db1"),
            ("gu=alice@db1", On, "gu=alice | alice | db1 | -"),
            ("@db1", On, " | - | - | db1"),
            ("gu=alice@@db1", On, "gu=alice | alice | - | db1"),
            ("gu=alice@root@db1", On, "gu=alice | alice | root | db1"),
            ("gu=álice@root", Off, "gu=álice | álice | root | -"),
            ("root@a=b", Off, " | - | root@a=b | -"),
        ];
        for (text, mode, expected) in cases {
            let name = parse(text.as_bytes(), mode).unwrap();
            assert_eq!(line(&name), expected, "{text} {mode:?}");
        }
    }

    #[test]
    fn refused() {
        let many = "a=b@".repeat(32);
        let long = "a".repeat(1025);
        let cases: [(&str, InbandMode, UserNameError); 26] = [
            (&long, Off, UserNameError::TooLong { bytes: 1025 }),
            (&many, Off, UserNameError::TooManyFields { fields: 33 }),
            ("ro\0ot", Off, UserNameError::ControlCharacter { offset: 2 }),
            ("ro\u{85}ot", Off, UserNameError::ControlCharacter { offset: 2 }),
            ("root\n", Off, UserNameError::ControlCharacter { offset: 4 }),
            ("=x@root", Off, UserNameError::Key { index: 0 }),
            ("a=1@b c=2@root", Off, UserNameError::Key { index: 1 }),
            ("a=1@b=2@a=3@root", Off, UserNameError::DuplicateKey { index: 2 }),
            ("gu=@root", Off, UserNameError::EmptyGatewayUser),
            ("gu=a@gp=secret@root", Off, UserNameError::GatewayPassword),
            ("root@", On, UserNameError::EmptyTarget),
            ("root@:22", On, UserNameError::EmptyTarget),
            ("root@[fd00::9", On, UserNameError::Brackets),
            ("root@fd00::9]", On, UserNameError::Brackets),
            ("ro[ot@[fd00::9]", On, UserNameError::Brackets),
            ("@@@", On, UserNameError::EmptyTarget),
            ("gu=a@gu=b@", On, UserNameError::DuplicateKey { index: 1 }),
            ("root@[]", On, UserNameError::BracketedHost),
            ("root@[fe80::9%]", On, UserNameError::BracketedHost),
            ("root@[fe80::9%eth0", On, UserNameError::Brackets),
            ("root@[db1]", On, UserNameError::BracketedHost),
            ("root@[10.2.0.9]:22", On, UserNameError::BracketedHost),
            ("root@db1:0", On, UserNameError::Port),
            ("root@db1:65536", On, UserNameError::Port),
            ("root@fd00::9", On, UserNameError::Port),
            ("root@[fd00::9]22", On, UserNameError::Port),
        ];
        for (text, mode, expected) in cases {
            assert_eq!(parse(text.as_bytes(), mode), Err(expected), "{text}");
        }
        for text in ["root@db1:", "root@db1:+22", "root@db1:2 2", "root@db1:22x"] {
            assert_eq!(parse(text.as_bytes(), On), Err(UserNameError::Port), "{text}");
        }
        assert!(matches!(parse(b"ro\xffot", Off), Err(UserNameError::NotUtf8(_))));
    }

    #[test]
    fn a_target_alone() {
        let port = |host: &str, port| HostPort { host: host.to_owned(), zone: None, port };
        assert_eq!(parse_target(b"db1"), Ok(port("db1", None)));
        assert_eq!(parse_target(b"[fd00::9]+2222"), Ok(port("fd00::9", Some(2222))));
        assert_eq!(parse_target(b""), Err(UserNameError::EmptyTarget));
        assert_eq!(parse_target(b"db1\x1b"), Err(UserNameError::ControlCharacter { offset: 3 }));
        assert_eq!(parse_target(b"db1:0"), Err(UserNameError::Port));
    }

    #[test]
    fn every_cut_is_judged() {
        let text = "gu=álice@ticket=7@alice@corp.example@[fd00::9%eth0]:2222".as_bytes();
        for end in 0..=text.len() {
            for mode in [Off, On] {
                if let Ok(name) = parse(&text[..end], mode) {
                    assert!(mode == On || name.target.is_none());
                }
            }
        }
    }

    #[test]
    fn debug_and_errors_hide_values() {
        let name = parse(b"otp=123456@root", Off).unwrap();
        assert!(!format!("{name:?}").contains("123456"));
        let error = parse(b"gp=hunter2@root", Off).unwrap_err();
        assert!(!format!("{error:?} {error}").contains("hunter2"));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            for mode in [Off, On] {
                if let Ok(name) = parse(&bytes, mode) {
                    prop_assert!(name.remote_user.as_deref() != Some(""));
                }
            }
        }

        #[test]
        fn parts_come_back(
            gateway_user in "[a-z]{1,8}",
            user in "[a-z]{1,8}(@[a-z]{1,8})?",
            host in "[a-z]{1,8}",
            port in 1_u16..,
            separator in "[@%]",
        ) {
            let s = separator;
            let text = format!("gu={gateway_user}{s}{user}{s}{host}:{port}");
            let name = parse(text.as_bytes(), On).unwrap();
            prop_assert_eq!(name.gateway_user, Some(gateway_user));
            prop_assert_eq!(name.remote_user, Some(user));
            prop_assert_eq!(name.target, Some(HostPort { host, zone: None, port: Some(port) }));
        }
    }
}
