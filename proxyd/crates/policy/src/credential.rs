//! Credential stores: which stored secret logs in to which server as which user.

use std::net::IpAddr;
use std::path::PathBuf;

use crate::net::{HostName, HostPattern};

/// A private key for some servers and one user on them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialEntry {
    /// The servers it is for.
    pub host: HostPattern,
    /// The user on the server, case-sensitive.
    pub user: String,
    /// The file that holds the private key in OpenSSH form.
    pub key_file: PathBuf,
}

/// Credentials kept on the gateway itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialStore {
    /// The store's name.
    pub name: String,
    /// The entries, in the order in which they are offered to a server.
    pub entries: Vec<CredentialEntry>,
}

impl CredentialStore {
    /// The entries for `user` on the server at `address`, in order.
    ///
    /// `name` is the name the target was chosen by, if it was chosen by name.
    pub fn find(
        &self,
        name: Option<&HostName>,
        address: IpAddr,
        user: &str,
    ) -> impl Iterator<Item = &CredentialEntry> {
        self.entries.iter().filter(move |entry| {
            let by_name = name.is_some_and(|name| entry.host.matches_name(name));
            entry.user == user && (by_name || entry.host.matches_address(address))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{CredentialEntry, CredentialStore};

    #[test]
    fn found_by_host_and_user() {
        let entry = |host: &str, user: &str| CredentialEntry {
            host: host.parse().unwrap(),
            user: user.into(),
            key_file: format!("{host}-{user}").into(),
        };
        let store = CredentialStore {
            name: "vault".into(),
            entries: vec![
                entry("10.2.0.0/16", "root"),
                entry("*.example.com", "root"),
                entry("10.2.0.9", "app"),
                entry("10.2.0.9", "root"),
            ],
        };
        let cases: [(&str, Option<&str>, &str, &str, &[&str]); 4] = [
            ("by address", None, "10.2.0.9", "root", &["10.2.0.0/16-root", "10.2.0.9-root"]),
            ("by name", Some("db.example.com"), "10.9.0.1", "root", &["*.example.com-root"]),
            ("other user", None, "10.2.0.9", "Root", &[]),
            ("other server", Some("db.example.org"), "10.9.0.1", "root", &[]),
        ];
        for (case, name, address, user, expected) in cases {
            let name = name.map(|name| name.parse().unwrap());
            let found: Vec<_> = store
                .find(name.as_ref(), address.parse().unwrap(), user)
                .map(|entry| entry.key_file.to_str().unwrap())
                .collect();
            assert_eq!(found, expected, "{case}");
        }
    }
}
