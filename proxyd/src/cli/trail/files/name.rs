//! Names of files that a peer chose, as names that are safe in any directory.

/// The longest part of a name that comes from a peer; file systems take 255 bytes in all.
const NAME_BYTES_MAX: usize = 100;

/// A file's name: its number, and as much of the last name in its path as is harmless. No two files
/// of one export have the same number.
pub(super) fn file_name(number: u64, path: &[u8]) -> String {
    let last = path.rsplit(|&byte| byte == b'/').find(|name| !name.is_empty()).unwrap_or_default();
    let harmless = |byte: &u8| match byte {
        b'.' | b'_' | b'-' => char::from(*byte),
        byte if byte.is_ascii_alphanumeric() => char::from(*byte),
        _ => '_',
    };
    let name: String = last.iter().take(NAME_BYTES_MAX).map(harmless).collect();
    format!("{number:06}-{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_elsewhere() {
        let long = [b'x'; 300];
        let cases: [(&[u8], &str); 12] = [
            (b"/etc/passwd", "000007-passwd"),
            (b"report-1_a.txt", "000007-report-1_a.txt"),
            (b"../../.ssh/authorized_keys", "000007-authorized_keys"),
            (b"/a/..", "000007-.."),
            (b"a/", "000007-a"),
            (b"/", "000007-"),
            (b"", "000007-"),
            (b"..\\..\\x", "000007-.._.._x"),
            (b"a\0b\n\x1b[m", "000007-a_b___m"),
            ("\u{e9}".as_bytes(), "000007-__"),
            (b"-rf", "000007--rf"),
            (&long, &format!("000007-{}", "x".repeat(100))),
        ];
        for (path, expected) in cases {
            assert_eq!(file_name(7, path), expected);
        }
        assert_eq!(file_name(12_345_678, b"a"), "12345678-a");
    }
}
