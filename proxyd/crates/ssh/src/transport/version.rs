//! The version exchange (RFC 4253 section 4.2): one line from each side, before any packet.

use crate::error::{Error, printable};
use crate::limits::{BANNER_LINE_BYTES_MAX, VERSION_LINE_BYTES_MAX};

/// Our version line without its line end: `SSH-2.0-software comment`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

impl Version {
    /// Checks a version line; fails unless it is that of SSH 2.0, printable ASCII and at most 253
    /// bytes.
    pub fn new(text: &str) -> Result<Self, Error> {
        check(text.as_bytes(), &[PREFIX])?;
        if text.len() + LINE_END.len() > VERSION_LINE_BYTES_MAX {
            return Err(Error::LineTooLong { limit: VERSION_LINE_BYTES_MAX });
        }
        Ok(Self(text.to_owned()))
    }

    /// The line without its line end, as it enters the exchange hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The line as it is sent.
    pub(super) fn line(&self) -> Vec<u8> {
        [self.as_bytes(), LINE_END].concat()
    }
}

/// One line of what a peer sends first.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// The line is not complete yet.
    Incomplete,
    /// A line before the version line; `bytes` with its line end.
    Banner {
        /// Bytes of the line with its line end.
        bytes: usize,
    },
    /// The version line.
    Version {
        /// The line without its line end.
        text: &'a [u8],
        /// Bytes of the line with its line end.
        bytes: usize,
    },
}

/// The first line of a client, which must be its version line; fails as soon as it cannot be.
pub(super) fn from_client(input: &[u8]) -> Result<Line<'_>, Error> {
    if !input.iter().zip(PREFIX).all(|(found, expected)| found == expected) {
        return Err(not_ssh(input));
    }
    match line(input, VERSION_LINE_BYTES_MAX)? {
        Some((text, bytes)) => version(text, bytes, &[PREFIX]),
        None => Ok(Line::Incomplete),
    }
}

/// The next line of a server, which may greet before its version line.
pub(super) fn from_server(input: &[u8]) -> Result<Line<'_>, Error> {
    if input.starts_with(ANY_VERSION) {
        return match line(input, VERSION_LINE_BYTES_MAX)? {
            Some((text, bytes)) => version(text, bytes, &[PREFIX, PREFIX_COMPATIBLE]),
            None => Ok(Line::Incomplete),
        };
    }
    Ok(line(input, BANNER_LINE_BYTES_MAX)?
        .map_or(Line::Incomplete, |(_text, bytes)| Line::Banner { bytes }))
}

/// How a version line of SSH 2.0 starts.
const PREFIX: &[u8] = b"SSH-2.0-";

/// How that of a server starts which speaks SSH 1 too (RFC 4253 section 5.1).
const PREFIX_COMPATIBLE: &[u8] = b"SSH-1.99-";

/// How every version line starts, and no line before it.
const ANY_VERSION: &[u8] = b"SSH-";

const LINE_END: &[u8] = b"\r\n";

/// Bytes of a peer's line that are shown in an error.
const SHOWN_BYTES: usize = 32;

/// The first line and its length with the line end, if it is complete; a lone LF ends it too.
fn line(input: &[u8], limit: usize) -> Result<Option<(&[u8], usize)>, Error> {
    let within = input.get(..limit).unwrap_or(input);
    let Some(end) = within.iter().position(|&byte| byte == b'\n') else {
        return if input.len() < limit { Ok(None) } else { Err(Error::LineTooLong { limit }) };
    };
    let text = within.get(..end).unwrap_or_default();
    Ok(Some((text.strip_suffix(b"\r").unwrap_or(text), end + 1)))
}

fn version<'a>(text: &'a [u8], bytes: usize, prefixes: &[&[u8]]) -> Result<Line<'a>, Error> {
    check(text, prefixes)?;
    Ok(Line::Version { text, bytes })
}

fn check(text: &[u8], prefixes: &[&[u8]]) -> Result<(), Error> {
    if !prefixes.iter().any(|prefix| text.starts_with(prefix)) {
        return Err(not_ssh(text));
    }
    match text.iter().find(|&&byte| !matches!(byte, b' '..=b'~')) {
        Some(&byte) => Err(Error::VersionByte { byte }),
        None => Ok(()),
    }
}

fn not_ssh(input: &[u8]) -> Error {
    Error::NotSsh { start: printable(input, SHOWN_BYTES) }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (&'static str, &'static [u8], Option<&'static [u8]>);

    #[test]
    fn lines_of_a_client() {
        let cases: [Case; 9] = [
            (
                "openssh",
                b"SSH-2.0-OpenSSH_9.2p1 Debian\r\nrest",
                Some(b"SSH-2.0-OpenSSH_9.2p1 Debian"),
            ),
            ("lone line feed", b"SSH-2.0-x\n", Some(b"SSH-2.0-x")),
            ("ssh 1", b"SSH-1.5-x\r\n", None),
            ("compatible version from a client", b"SSH-1.99-x\r\n", None),
            ("http", b"GET / HTTP/1.0\r\n", None),
            ("http before its line is complete", b"G", None),
            ("greeting before it", b"hello\r\nSSH-2.0-x\r\n", None),
            ("nul", b"SSH-2.0-x\0y\r\n", None),
            ("carriage return within", b"SSH-2.0-x\ry\r\n", None),
        ];
        for (case, input, expected) in cases {
            let found = from_client(input).ok().and_then(|line| match line {
                Line::Version { text, .. } => Some(text),
                Line::Incomplete | Line::Banner { .. } => None,
            });
            assert_eq!(found, expected, "{case}");
            assert_eq!(from_client(input).is_ok(), expected.is_some(), "{case}");
        }
    }

    #[test]
    fn a_line_cut_at_every_byte_is_incomplete() {
        let whole = b"SSH-2.0-OpenSSH_9.2p1\r\n";
        for length in 0..whole.len() {
            assert_eq!(from_client(&whole[..length]).unwrap(), Line::Incomplete, "{length}");
            assert_eq!(from_server(&whole[..length]).unwrap(), Line::Incomplete, "{length}");
        }
    }

    #[test]
    fn a_line_without_end_fails_at_its_limit() {
        let line = |bytes: usize| [b"SSH-2.0-".as_slice(), &vec![b'x'; bytes - 8]].concat();
        assert_eq!(from_client(&line(254)).unwrap(), Line::Incomplete);
        assert!(matches!(from_client(&line(255)), Err(Error::LineTooLong { limit: 255 })));
        assert!(matches!(from_client(&line(2_000_000)), Err(Error::LineTooLong { limit: 255 })));
        let banner = vec![b'x'; BANNER_LINE_BYTES_MAX];
        assert_eq!(from_server(&banner[1..]).unwrap(), Line::Incomplete);
        assert!(matches!(from_server(&banner), Err(Error::LineTooLong { .. })));
    }

    #[test]
    fn a_server_may_greet_first_and_may_speak_ssh_1_too() {
        assert_eq!(from_server(b"Welcome\r\nSSH-2.0-x\r\n").unwrap(), Line::Banner { bytes: 9 });
        let compatible = Line::Version { text: b"SSH-1.99-x".as_slice(), bytes: 12 };
        assert_eq!(from_server(b"SSH-1.99-x\r\n").unwrap(), compatible);
        assert!(matches!(from_server(b"SSH-1.5-x\r\n"), Err(Error::NotSsh { .. })));
    }

    #[test]
    fn our_own_line_is_checked() {
        assert_eq!(
            Version::new("SSH-2.0-OpenSSH_9.2p1 x").unwrap().line(),
            b"SSH-2.0-OpenSSH_9.2p1 x\r\n"
        );
        let longest = format!("SSH-2.0-{}", "x".repeat(245));
        assert!(Version::new(&longest).is_ok());
        assert!(Version::new(&format!("{longest}x")).is_err());
        for text in ["", "SSH-1.99-x", "SSH-2.0-a\r\nb", "SSH-2.0-é"] {
            assert!(Version::new(text).is_err(), "{text:?}");
        }
    }
}
