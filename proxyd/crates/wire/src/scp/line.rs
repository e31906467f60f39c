//! The lines by which a sender says what comes.

use super::error::ScpError;

/// A line, without its end.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// A file, whose content follows once it is asked for: `C0644 12 name`.
    File { bytes: u64, name: &'a [u8] },
    /// A directory, whose entries follow: `D0755 0 name`.
    Directory { name: &'a [u8] },
    /// The end of a directory: `E`.
    Leave,
    /// The times of what comes next: `T1700000000 0 1700000000 0`.
    Times,
    /// What went wrong, in words.
    Trouble(&'a [u8]),
}

/// The first byte of what went wrong; the second one ends the program too.
pub(super) const WARNING: u8 = 1;
/// The first byte of what went wrong for good.
pub(super) const FATAL: u8 = 2;

/// Takes a line apart.
pub(super) fn parse(line: &[u8]) -> Result<Line<'_>, ScpError> {
    let (&kind, rest) = line.split_first().ok_or(ScpError::Line(b'\n'))?;
    let bad = ScpError::Line(kind);
    match kind {
        b'C' => entry(rest).map(|(bytes, name)| Line::File { bytes, name }).ok_or(bad),
        b'D' => entry(rest).map(|(_, name)| Line::Directory { name }).ok_or(bad),
        b'E' => Ok(Line::Leave),
        b'T' => Ok(Line::Times),
        WARNING | FATAL => Ok(Line::Trouble(rest)),
        _ => Err(bad),
    }
}

/// Reads `mode size name`; a name may have spaces.
fn entry(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut words = text.splitn(3, |&byte| byte == b' ');
    let (mode, size, name) = (words.next()?, words.next()?, words.next()?);
    let is_mode = !mode.is_empty() && mode.iter().all(|byte| matches!(byte, b'0'..=b'7'));
    let is_size = size.iter().all(u8::is_ascii_digit);
    if !is_mode || !is_size {
        return None;
    }
    Some((std::str::from_utf8(size).ok()?.parse().ok()?, name))
}

/// Whether a name stays in its directory.
pub(super) fn is_name(name: &[u8]) -> bool {
    !matches!(name, b"" | b"." | b"..") && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let file = |bytes, name| Ok(Line::File { bytes, name });
        let cases: [(&[u8], Result<Line<'_>, ScpError>); 16] = [
            (b"C0644 12 a", file(12, b"a")),
            (b"C0644 0 a b ", file(0, b"a b ")),
            (b"C0644 18446744073709551615 a", file(u64::MAX, b"a")),
            (b"C0644 18446744073709551616 a", Err(ScpError::Line(b'C'))),
            (b"C0644 -1 a", Err(ScpError::Line(b'C'))),
            (b"C0644 +1 a", Err(ScpError::Line(b'C'))),
            (b"C0844 1 a", Err(ScpError::Line(b'C'))),
            (b"C0644  a", Err(ScpError::Line(b'C'))),
            (b"C0644 12", Err(ScpError::Line(b'C'))),
            (b"C 12 a", Err(ScpError::Line(b'C'))),
            (b"D0755 0 d", Ok(Line::Directory { name: b"d" })),
            (b"E", Ok(Line::Leave)),
            (b"T1 0 1 0", Ok(Line::Times)),
            (b"\x01no", Ok(Line::Trouble(b"no"))),
            (b"\0", Err(ScpError::Line(0))),
            (b"", Err(ScpError::Line(b'\n'))),
        ];
        for (line, expected) in cases {
            assert_eq!(parse(line), expected, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn names_stay_in_their_directory() {
        for name in [b"a".as_slice(), b"...", b"a b", b"\xff"] {
            assert!(is_name(name));
        }
        for name in [b"".as_slice(), b".", b"..", b"a/b", b"/", b"a\0b"] {
            assert!(!is_name(name));
        }
    }
}
