//! Files of known host keys as OpenSSH has them, and as `ssh-keyscan` prints them (sshd(8), "SSH
//! `KNOWN_HOSTS` FILE FORMAT").

use std::net::{IpAddr, SocketAddr};

use thiserror::Error as ThisError;

use crate::config;
use crate::store::host_keys::KnownKey;

/// The port of a server that is named without one (RFC 4253 section 4.1).
const DEFAULT_PORT: u16 = 22;

/// Why a line of the file cannot be used.
#[derive(Debug, PartialEq, Eq, ThisError)]
pub(super) enum LineError {
    /// It is not three words or more.
    #[error("a line is \"SERVERS TYPE KEY\"")]
    Form,
    /// It names a CA.
    #[error("keys of CAs are not kept here: name them in server_side.trusted_host_cas")]
    Ca,
    /// It revokes a key.
    #[error("revoked keys are not kept: use `proxyd hostkeys forget`")]
    Revoked,
    /// It begins with a marker that is not known.
    #[error("unknown marker")]
    Marker,
    /// It hides the server's name.
    #[error("the server's name is hashed, so nobody can tell which one it is")]
    Hashed,
    /// No address is among its servers.
    #[error("no address is named; keys are kept by the address and port that is dialled")]
    NoAddress,
    /// Its key is none.
    #[error("{0}")]
    Key(String),
}

/// Reads a whole file: every server with its keys, or every line that cannot be used, by its number
/// from 1 on.
pub(super) fn parse(text: &str) -> Result<Vec<(SocketAddr, KnownKey)>, Vec<(usize, LineError)>> {
    let (mut keys, mut errors) = (Vec::new(), Vec::new());
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        match parse_line(line) {
            Ok((servers, key)) => {
                keys.extend(servers.into_iter().map(|server| (server, key.clone())));
            }
            Err(error) => errors.push((number, error)),
        }
    }
    if errors.is_empty() { Ok(keys) } else { Err(errors) }
}

/// A server as users name it: an address, with or without a port.
pub(super) fn server(text: &str) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(SocketAddr::new(address, DEFAULT_PORT));
    }
    if let Ok(server) = text.parse() {
        return Some(server);
    }
    // OpenSSH puts IPv4 addresses with a port into brackets too.
    let (address, port) = text.strip_prefix('[')?.split_once(']')?;
    let port = if port.is_empty() { DEFAULT_PORT } else { port.strip_prefix(':')?.parse().ok()? };
    Some(SocketAddr::new(address.parse().ok()?, port))
}

fn parse_line(line: &str) -> Result<(Vec<SocketAddr>, KnownKey), LineError> {
    match line.split_whitespace().next() {
        Some("@cert-authority") => return Err(LineError::Ca),
        Some("@revoked") => return Err(LineError::Revoked),
        Some(word) if word.starts_with('@') => return Err(LineError::Marker),
        Some(_) | None => {}
    }
    let (servers, key) = line.split_once(char::is_whitespace).ok_or(LineError::Form)?;
    if servers.starts_with('|') {
        return Err(LineError::Hashed);
    }
    // Names stand beside the addresses that they resolve to.
    let addresses: Vec<SocketAddr> = servers.split(',').filter_map(server).collect();
    if addresses.is_empty() {
        return Err(LineError::NoAddress);
    }
    let key = key.split_whitespace().collect::<Vec<_>>().join(" ");
    let key = config::public_key(&key).map_err(LineError::Key)?;
    Ok((addresses, KnownKey { algorithm: key.algorithm, blob: key.blob }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcH";

    fn servers(line: &str) -> Result<String, LineError> {
        let (servers, key) = parse_line(&line.replace("KEY", KEY))?;
        assert_eq!((key.algorithm.as_str(), key.blob.len()), ("ssh-ed25519", 51));
        Ok(servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn lines_that_name_servers() {
        for (line, expected) in [
            ("10.2.0.9 KEY", "10.2.0.9:22"),
            ("10.2.0.9\tKEY root@db1 of the office", "10.2.0.9:22"),
            ("[10.2.0.9]:2222 KEY", "10.2.0.9:2222"),
            ("db1.example.com,10.2.0.9,fd00::9 KEY", "10.2.0.9:22 [fd00::9]:22"),
            ("[fd00::9]:2222,[fd00::9] KEY", "[fd00::9]:2222 [fd00::9]:22"),
        ] {
            assert_eq!(servers(line).as_deref(), Ok(expected), "{line}");
        }
    }

    #[test]
    fn lines_that_cannot_be_used() {
        for (line, expected) in [
            ("10.2.0.9", LineError::Form),
            ("@cert-authority *.example.com KEY", LineError::Ca),
            ("@revoked 10.2.0.9 KEY", LineError::Revoked),
            ("@other 10.2.0.9 KEY", LineError::Marker),
            ("|1|c2FsdA==|aGFzaA== KEY", LineError::Hashed),
            ("db1.example.com KEY", LineError::NoAddress),
            ("*.example.com KEY", LineError::NoAddress),
            ("[10.2.0.9]:65536 KEY", LineError::NoAddress),
        ] {
            assert_eq!(servers(line), Err(expected), "{line}");
        }
        for line in ["10.2.0.9 ssh-ed25519", "10.2.0.9 ssh-ed25519 A*A", "10.2.0.9 ssh-dss AAAA"] {
            assert!(matches!(servers(line), Err(LineError::Key(_))), "{line}");
        }
        for end in 0..KEY.len() {
            let cut = format!("10.2.0.9 {}", KEY.get(..end).unwrap());
            assert!(servers(&cut).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_file_is_used_as_a_whole() {
        let text = format!("# 10.2.0.9:22 SSH-2.0-x\n\n10.2.0.9 {KEY}\n10.2.0.8 {KEY}\n");
        assert_eq!(parse(&text).unwrap().len(), 2);
        let errors = parse(&format!("{text}db1 {KEY}\n|1|a|b {KEY}\n")).unwrap_err();
        assert_eq!(errors, [(5, LineError::NoAddress), (6, LineError::Hashed)]);
    }
}
