//! Values that are checked against a published form: hashes, keys, recipients, texts on the wire.

use argon2::password_hash::PasswordHash as PhcHash;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proxyd_policy::gateway::PasswordHash;
use proxyd_policy::limits::{BANNER_BYTES_MAX, VERSION_BYTES_MAX};

use super::report::Problems;
use super::value::{Node, Value, quote};

/// KiB of memory that a password hash may ask for; more would let logins exhaust the gateway.
const ARGON2_MEMORY_KIB_MAX: u32 = 256 * 1024;

/// Passes over the memory that a password hash may ask for.
const ARGON2_PASSES_MAX: u32 = 16;

/// Bytes of a public key in wire form; an RSA key of 16384 bits has 2 KiB.
const PUBLIC_KEY_BYTES_MAX: usize = 8192;

/// Types of public keys that users may log in with.
const PUBLIC_KEY_TYPES: &[&str] = &[
    "ssh-ed25519",
    "ssh-rsa",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
];

/// The start of the types of ECDSA keys; the name of the curve follows (RFC 5656 section 6.2).
const ECDSA_PREFIX: &str = "ecdsa-sha2-";

/// The start of our version string (RFC 4253 section 4.2).
const VERSION_PREFIX: &str = "SSH-2.0-";

/// Shown in the place of a password hash.
const HIDDEN: &str = "[hidden]";

/// An argon2id hash of a password; written as `[hidden]`.
#[derive(Clone, Debug)]
pub(crate) struct Argon2idHash(pub(crate) PasswordHash);

impl Value for Argon2idHash {
    fn describe() -> String {
        "argon2id hash, \"$argon2id$v=19$…\"".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        problems.hide(&node.span);
        let text = node.text(problems, "an argon2id hash (string)")?;
        match check_argon2id(text) {
            Ok(()) => Some(Self(PasswordHash::new(text.to_owned()))),
            Err(message) => {
                node.error(problems, message);
                None
            }
        }
    }

    fn write(&self) -> Option<String> {
        Some(quote(HIDDEN))
    }
}

/// Checks the form, the algorithm and the cost of a hash.
fn check_argon2id(text: &str) -> Result<(), String> {
    let hash = PhcHash::new(text).map_err(|error| format!("not a password hash: {error}"))?;
    if hash.algorithm.as_str() != "argon2id" {
        return Err(format!("password hash is {}, not argon2id", hash.algorithm));
    }
    if hash.salt.is_none() || hash.hash.is_none() {
        return Err("password hash lacks its salt or its output".to_owned());
    }
    let params = argon2::Params::try_from(&hash)
        .map_err(|error| format!("password hash has bad parameters: {error}"))?;
    let (memory, passes) = (params.m_cost(), params.t_cost());
    if memory > ARGON2_MEMORY_KIB_MAX {
        return Err(format!("memory of {memory} KiB exceeds {ARGON2_MEMORY_KIB_MAX}"));
    }
    if passes > ARGON2_PASSES_MAX {
        return Err(format!("{passes} passes exceed {ARGON2_PASSES_MAX}"));
    }
    Ok(())
}

/// A public key as a line of an OpenSSH `authorized_keys` file without options.
#[derive(Clone, Debug)]
pub(crate) struct PublicKeyLine {
    /// The checked key.
    pub(crate) key: proxyd_policy::gateway::PublicKey,
    /// What follows the key.
    comment: String,
}

impl Value for PublicKeyLine {
    fn describe() -> String {
        "public key, \"ssh-ed25519 AAAA…\"".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a public key (string)")?;
        match parse_public_key(text) {
            Ok(line) => Some(line),
            Err(message) => {
                node.error(problems, message);
                None
            }
        }
    }

    fn write(&self) -> Option<String> {
        let blob = STANDARD.encode(&self.key.blob);
        let line = format!("{} {blob} {}", self.key.algorithm, self.comment);
        Some(quote(line.trim_end()))
    }
}

/// Reads `type base64 [comment]` and checks that the wire form holds the same type.
pub(super) fn parse_public_key(text: &str) -> Result<PublicKeyLine, String> {
    let mut words = text.splitn(3, ' ').map(str::trim);
    let algorithm = words.next().unwrap_or_default();
    let encoded = words.next().unwrap_or_default();
    let comment = words.next().unwrap_or_default().to_owned();
    if !PUBLIC_KEY_TYPES.contains(&algorithm) {
        let types = PUBLIC_KEY_TYPES.join(", ");
        return Err(format!("{} is not a type of public key: {types}", quote(algorithm)));
    }
    let blob =
        STANDARD.decode(encoded).map_err(|error| format!("public key is not base64: {error}"))?;
    if blob.len() > PUBLIC_KEY_BYTES_MAX {
        let bytes = blob.len();
        return Err(format!("public key of {bytes} bytes exceeds {PUBLIC_KEY_BYTES_MAX}"));
    }
    let fields = wire_strings(&blob).ok_or("public key is cut or has bytes too many")?;
    // The fields after the type: curve and point for ECDSA, e and n for RSA, the key for Ed25519.
    let (first, rest) = fields.split_first().ok_or("public key is empty")?;
    if *first != algorithm.as_bytes() {
        let inner = String::from_utf8_lossy(first);
        return Err(format!("public key says it is {inner:?}, not {algorithm:?}"));
    }
    let shaped = match algorithm {
        "ssh-ed25519" => matches!(rest, [key] if key.len() == ED25519_KEY_BYTES),
        "ssh-rsa" => matches!(rest, [e, n] if !e.is_empty() && n.len() >= RSA_MODULUS_BYTES_MIN),
        _ => {
            let own_curve = algorithm.strip_prefix(ECDSA_PREFIX).map(str::as_bytes);
            matches!(rest, [curve, point] if own_curve == Some(*curve) && !point.is_empty())
        }
    };
    if !shaped {
        return Err(format!(
            "public key is not a whole {algorithm} key, or is too short to be safe"
        ));
    }
    let key = proxyd_policy::gateway::PublicKey { algorithm: algorithm.to_owned(), blob };
    Ok(PublicKeyLine { key, comment })
}

/// Bytes of an Ed25519 public key (RFC 8709 section 4).
const ED25519_KEY_BYTES: usize = 32;

/// Bytes of an RSA modulus of 2048 bits, the least that signatures are verified with.
const RSA_MODULUS_BYTES_MIN: usize = 256;

/// Splits a key into its strings (RFC 4251 section 5); `None` when the last one is cut.
fn wire_strings(mut blob: &[u8]) -> Option<Vec<&[u8]>> {
    let mut strings = Vec::new();
    while !blob.is_empty() {
        let (length, rest) = blob.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_be_bytes(*length)).ok()?;
        let (string, rest) = rest.split_at_checked(length)?;
        strings.push(string);
        blob = rest;
    }
    Some(strings)
}

/// An age recipient that trails are sealed to.
#[derive(Clone, Debug)]
pub(crate) struct Recipient(pub(crate) String);

impl Value for Recipient {
    fn describe() -> String {
        "age recipient, \"age1…\"".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "an age recipient (string)")?;
        match text.parse::<age::x25519::Recipient>() {
            Ok(_) => Some(Self(text.to_owned())),
            Err(error) => {
                // Naming the text could show a secret key that was pasted by mistake.
                node.error(problems, format!("not an age X25519 recipient: {error}"));
                None
            }
        }
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0))
    }
}

/// A text shown to clients before authentication.
#[derive(Clone, Debug)]
pub(crate) struct Banner(pub(crate) String);

impl Value for Banner {
    fn describe() -> String {
        "text".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a text (string)")?;
        if text.len() > BANNER_BYTES_MAX {
            let bytes = text.len();
            node.error(problems, format!("banner of {bytes} bytes exceeds {BANNER_BYTES_MAX}"));
            return None;
        }
        if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            node.error(problems, "a banner must not hold control characters but tab and line ends");
            return None;
        }
        Some(Self(text.to_owned()))
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0))
    }
}

/// Our SSH version string.
#[derive(Clone, Debug)]
pub(crate) struct Version(pub(crate) String);

impl Value for Version {
    fn describe() -> String {
        "version string, \"SSH-2.0-…\"".to_owned()
    }

    fn read(node: &Node<'_>, problems: &mut Problems) -> Option<Self> {
        let text = node.text(problems, "a version string")?;
        let software = text.strip_prefix(VERSION_PREFIX).unwrap_or_default();
        let name = software.split(' ').next().unwrap_or_default();
        let printable = |byte: u8| (b' '..=b'~').contains(&byte);
        if name.is_empty() || name.contains('-') || !software.bytes().all(printable) {
            let form = "\"SSH-2.0-software comment\" in printable ASCII, no \"-\" in the software";
            node.error(problems, format!("a version string has the form {form}"));
            return None;
        }
        if text.len() > VERSION_BYTES_MAX {
            let bytes = text.len();
            node.error(problems, format!("version of {bytes} bytes exceeds {VERSION_BYTES_MAX}"));
            return None;
        }
        Some(Self(text.to_owned()))
    }

    fn write(&self) -> Option<String> {
        Some(quote(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The wire form of a key from its strings.
    fn blob(strings: &[&[u8]]) -> Vec<u8> {
        strings
            .iter()
            .flat_map(|string| {
                let length = u32::try_from(string.len()).unwrap().to_be_bytes();
                length.into_iter().chain(string.iter().copied())
            })
            .collect()
    }

    fn line(algorithm: &str, strings: &[&[u8]]) -> String {
        format!("{algorithm} {} alice@laptop", STANDARD.encode(blob(strings)))
    }

    #[test]
    fn public_keys() {
        let ed25519 = line("ssh-ed25519", &[b"ssh-ed25519", &[7; 32]]);
        let parsed = parse_public_key(&ed25519).unwrap();
        assert_eq!(parsed.key.algorithm, "ssh-ed25519");
        assert_eq!(parsed.comment, "alice@laptop");
        assert_eq!(parsed.write(), Some(quote(&ed25519)));
        let ecdsa: &[&[u8]] = &[b"ecdsa-sha2-nistp256", b"nistp256", &[4; 65]];
        assert!(parse_public_key(&line("ecdsa-sha2-nistp256", ecdsa)).is_ok());
        assert!(parse_public_key(&line("ssh-rsa", &[b"ssh-rsa", &[1, 0, 1], &[9; 257]])).is_ok());
        let cases = [
            ("type", "ssh-dss AAAA".to_owned(), "is not a type"),
            ("base64", "ssh-ed25519 A*A".to_owned(), "is not base64"),
            ("nothing", "ssh-ed25519".to_owned(), "is empty"),
            ("other inside", line("ssh-rsa", &[b"ssh-ed25519", &[7; 32]]), "says it is"),
            ("short", line("ssh-ed25519", &[b"ssh-ed25519", &[7; 31]]), "not a whole"),
            ("weak", line("ssh-rsa", &[b"ssh-rsa", &[3], &[9; 128]]), "not a whole"),
            ("one more", line("ssh-ed25519", &[b"ssh-ed25519", &[7; 32], b""]), "not a whole"),
        ];
        for (case, text, part) in cases {
            let error = parse_public_key(&text).unwrap_err();
            assert!(error.contains(part), "{case}: {error}");
        }
    }

    #[test]
    fn cut_keys_are_refused() {
        let whole = blob(&[b"ssh-ed25519", &[7; 32]]);
        for end in 0..whole.len() {
            let text = format!("ssh-ed25519 {}", STANDARD.encode(&whole[..end]));
            assert!(parse_public_key(&text).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn password_hashes() {
        let salt_and_hash = "c29tZXNhbHQ$AAAAAAAAAAAAAAAAAAAAAA";
        let good = format!("$argon2id$v=19$m=19456,t=2,p=1${salt_and_hash}");
        assert_eq!(check_argon2id(&good), Ok(()));
        let cases = [
            ("plain", "hunter2".to_owned(), "not a password hash"),
            ("other", format!("$argon2i$v=19$m=19456,t=2,p=1${salt_and_hash}"), "not argon2id"),
            ("no output", "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHQ".to_owned(), "lacks"),
            (
                "memory",
                format!("$argon2id$v=19$m=4000000,t=2,p=1${salt_and_hash}"),
                "exceeds 262144",
            ),
            ("passes", format!("$argon2id$v=19$m=19456,t=99,p=1${salt_and_hash}"), "exceed 16"),
        ];
        for (case, text, part) in cases {
            let error = check_argon2id(&text).unwrap_err();
            assert!(error.contains(part), "{case}: {error}");
            assert!(!error.contains("hunter2"), "{case}");
        }
    }
}
