//! Rows of host keys: those we show to clients, and those by which we know servers.

use std::net::SocketAddr;

use sqlx::Row as _;

use super::{Store, StoreError, failed};

/// A host key of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The key's type, such as `ssh-ed25519`.
    pub algorithm: String,
    /// The public key's blob (RFC 4253 section 6.6).
    pub blob: Vec<u8>,
}

impl Store {
    /// The private key (PKCS #8) that clients of `server` are shown, if one was ever made.
    pub async fn shown_key(
        &self,
        server: SocketAddr,
        algorithm: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let doing = "read the host key for clients";
        sqlx::query("SELECT pkcs8 FROM shown_host_key WHERE server = ? AND algorithm = ?")
            .bind(server.to_string())
            .bind(algorithm)
            .fetch_optional(&self.readers)
            .await
            .map_err(failed(doing))?
            .map(|row| row.try_get("pkcs8").map_err(failed(doing)))
            .transpose()
    }

    /// Keeps a key for the clients of `server`; where two connections make one at the same time,
    /// the first stays. Gives the key that stays.
    pub async fn keep_shown_key(
        &self,
        server: SocketAddr,
        algorithm: &str,
        pkcs8: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let doing = "write the host key for clients";
        let statement = "INSERT INTO shown_host_key (server, algorithm, pkcs8) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET pkcs8 = pkcs8 RETURNING pkcs8";
        sqlx::query(statement)
            .bind(server.to_string())
            .bind(algorithm)
            .bind(pkcs8)
            .fetch_one(&self.writer)
            .await
            .and_then(|row| row.try_get("pkcs8"))
            .map_err(failed(doing))
    }

    /// The keys by which `server` is known.
    pub async fn known_keys(&self, server: SocketAddr) -> Result<Vec<KnownKey>, StoreError> {
        let doing = "read the known host keys";
        sqlx::query("SELECT algorithm, blob FROM known_host_key WHERE server = ?")
            .bind(server.to_string())
            .fetch_all(&self.readers)
            .await
            .map_err(failed(doing))?
            .iter()
            .map(|row| {
                Ok(KnownKey {
                    algorithm: row.try_get("algorithm").map_err(failed(doing))?,
                    blob: row.try_get("blob").map_err(failed(doing))?,
                })
            })
            .collect()
    }

    /// Learns the first key of `server`; false where another first key was faster.
    ///
    /// A server that is known by any key does not get a second one here.
    pub async fn learn_key(
        &self,
        server: SocketAddr,
        key: &KnownKey,
        learned_ns: u64,
    ) -> Result<bool, StoreError> {
        let statement = "INSERT INTO known_host_key (server, algorithm, blob, learned_ns) \
             SELECT ?1, ?2, ?3, ?4 WHERE NOT EXISTS \
             (SELECT 1 FROM known_host_key WHERE server = ?1)";
        let result = sqlx::query(statement)
            .bind(server.to_string())
            .bind(&key.algorithm)
            .bind(&key.blob)
            .bind(i64::try_from(learned_ns).unwrap_or(i64::MAX))
            .execute(&self.writer)
            .await
            .map_err(failed("learn the host key"))?;
        Ok(result.rows_affected() == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::Group;

    async fn store(directory: &tempfile::TempDir) -> Store {
        Store::open(&directory.path().join("test.db")).await.unwrap()
    }

    fn key(number: u8) -> KnownKey {
        KnownKey { algorithm: "ssh-ed25519".to_owned(), blob: vec![number] }
    }

    /// Two first connections race: one key is learned, the others find it there.
    #[tokio::test(flavor = "multi_thread")]
    async fn of_twenty_first_keys_one_is_learned() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        let server: SocketAddr = "10.2.0.9:22".parse().unwrap();
        let (group, (learned, mut results)) = (Group::new(), tokio::sync::mpsc::channel(RACERS));
        for number in 0..20 {
            let (store, learned) = (store.clone(), learned.clone());
            group.start("racer", async move {
                let won = store.learn_key(server, &key(number), 1).await.unwrap();
                learned.send((number, won)).await.unwrap();
            });
        }
        drop(learned);
        group.join().await;
        let mut winners = Vec::new();
        while let Some((number, won)) = results.recv().await {
            if won {
                winners.push(key(number));
            }
        }
        assert_eq!(winners.len(), 1);
        assert_eq!(store.known_keys(server).await.unwrap(), winners);
    }

    /// The longest queue of results in these tests.
    const RACERS: usize = 20;

    #[tokio::test]
    async fn a_second_kind_of_key_is_not_learned_by_itself() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        let server: SocketAddr = "10.2.0.9:22".parse().unwrap();
        assert!(store.learn_key(server, &key(1), 1).await.unwrap());
        let other = KnownKey { algorithm: "ssh-rsa".to_owned(), blob: vec![2] };
        assert!(!store.learn_key(server, &other, 1).await.unwrap());
        let elsewhere: SocketAddr = "10.2.0.9:2222".parse().unwrap();
        assert!(store.learn_key(elsewhere, &other, 1).await.unwrap());
    }

    #[tokio::test]
    async fn the_first_shown_key_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = store(&directory).await;
        let server: SocketAddr = "[fd00::9]:22".parse().unwrap();
        assert_eq!(store.shown_key(server, "ssh-rsa").await.unwrap(), None);
        assert_eq!(store.keep_shown_key(server, "ssh-rsa", b"one").await.unwrap(), b"one");
        assert_eq!(store.keep_shown_key(server, "ssh-rsa", b"two").await.unwrap(), b"one");
        assert_eq!(store.shown_key(server, "ssh-rsa").await.unwrap(), Some(b"one".to_vec()));
    }
}
