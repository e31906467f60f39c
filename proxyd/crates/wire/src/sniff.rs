//! The protocol of a connection, told from the first bytes the client sends.

/// How an SSH client begins (RFC 4253 section 4.2); only servers may send other lines before it.
const SSH_PREFIX: &[u8] = b"SSH-";

/// A protocol that the first bytes can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Secure Shell.
    Ssh,
}

/// What the first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sniffed {
    /// Undecided; at least this many more bytes are needed.
    Need(usize),
    /// This protocol.
    Is(Protocol),
    /// None of the protocols that can be told.
    Unknown,
}

/// Tells the protocol from everything the client has sent so far.
#[must_use]
pub fn sniff(sent: &[u8]) -> Sniffed {
    if sent.starts_with(SSH_PREFIX) {
        return Sniffed::Is(Protocol::Ssh);
    }
    if SSH_PREFIX.starts_with(sent) {
        return Sniffed::Need(SSH_PREFIX.len() - sent.len());
    }
    Sniffed::Unknown
}

#[cfg(test)]
mod tests {
    use super::{Protocol, Sniffed, sniff};

    #[test]
    fn table() {
        let cases: [(&str, &[u8], Sniffed); 8] = [
            ("nothing", b"", Sniffed::Need(4)),
            ("one byte", b"S", Sniffed::Need(3)),
            ("three bytes", b"SSH", Sniffed::Need(1)),
            ("prefix", b"SSH-", Sniffed::Is(Protocol::Ssh)),
            ("version line", b"SSH-2.0-OpenSSH_9.2\r\n", Sniffed::Is(Protocol::Ssh)),
            ("case matters", b"ssh-2.0", Sniffed::Unknown),
            ("HTTP", b"GET / HTTP/1.1\r\n", Sniffed::Unknown),
            ("TLS", &[0x16, 3, 1], Sniffed::Unknown),
        ];
        for (case, sent, expected) in cases {
            assert_eq!(sniff(sent), expected, "{case}");
        }
    }
}
