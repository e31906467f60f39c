//! Rows of host keys: those we show to clients, and those by which we know servers.

use std::net::SocketAddr;

use sqlx::{AnyConnection, Row as _};
use thiserror::Error as ThisError;

use super::connect::Kind;
use super::{Store, StoreError, failed, to_i64, to_u64};

/// A host key of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownKey {
    /// The key's type, such as `ssh-ed25519`.
    pub algorithm: String,
    /// The public key's blob (RFC 4253 section 6.6).
    pub blob: Vec<u8>,
}

/// A host key as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The server as it is dialled, address and port.
    pub server: String,
    /// Its key.
    pub key: KnownKey,
    /// Wall clock of when it was learned or imported, in nanoseconds since 1970.
    pub learned_ns: u64,
}

/// Why keys were not imported.
#[derive(Debug, ThisError)]
pub enum ImportError {
    /// Another key of the same type is known, and stays.
    #[error("another {algorithm} key of {server} is known")]
    Differs {
        /// The server.
        server: SocketAddr,
        /// The key's type.
        algorithm: String,
    },
    /// The database failed.
    #[error("known host keys are not available")]
    Store(#[from] StoreError),
}

impl Store {
    /// The private key (PKCS #8) that clients of `server` are shown, if one was ever made.
    pub async fn shown_key(
        &self,
        server: SocketAddr,
        algorithm: &str,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let doing = "read the host key for clients";
        sqlx::query("SELECT pkcs8 FROM shown_host_key WHERE server = $1 AND algorithm = $2")
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
        let statement = "INSERT INTO shown_host_key (server, algorithm, pkcs8) VALUES ($1, $2, $3) \
             ON CONFLICT (server, algorithm) DO UPDATE SET pkcs8 = shown_host_key.pkcs8 \
             RETURNING pkcs8";
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
        sqlx::query("SELECT algorithm, blob FROM known_host_key WHERE server = $1")
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
             SELECT $1, $2, $3, $4 WHERE NOT EXISTS \
             (SELECT 1 FROM known_host_key WHERE server = $1)";
        let doing = "learn the host key";
        let mut transaction = self.writer.begin().await.map_err(failed(doing))?;
        self.lock_known_keys(&mut transaction).await.map_err(failed(doing))?;
        let result = sqlx::query(statement)
            .bind(server.to_string())
            .bind(&key.algorithm)
            .bind(&key.blob)
            .bind(to_i64(learned_ns))
            .execute(&mut *transaction)
            .await
            .map_err(failed(doing))?;
        transaction.commit().await.map_err(failed(doing))?;
        Ok(result.rows_affected() == 1)
    }

    /// Every key by which a server is known, by server and type.
    pub async fn kept_keys(&self) -> Result<Vec<Kept>, StoreError> {
        let doing = "read the known host keys";
        let statement = "SELECT server, algorithm, blob, learned_ns FROM known_host_key \
             ORDER BY server, algorithm";
        sqlx::query(statement)
            .fetch_all(&self.readers)
            .await
            .map_err(failed(doing))?
            .iter()
            .map(|row| {
                let learned_ns: i64 = row.try_get("learned_ns").map_err(failed(doing))?;
                Ok(Kept {
                    server: row.try_get("server").map_err(failed(doing))?,
                    key: KnownKey {
                        algorithm: row.try_get("algorithm").map_err(failed(doing))?,
                        blob: row.try_get("blob").map_err(failed(doing))?,
                    },
                    learned_ns: to_u64(learned_ns),
                })
            })
            .collect()
    }

    /// Forgets every key of `server`; gives how many there were.
    pub async fn forget_keys(&self, server: SocketAddr) -> Result<u64, StoreError> {
        let result = sqlx::query("DELETE FROM known_host_key WHERE server = $1")
            .bind(server.to_string())
            .execute(&self.writer)
            .await
            .map_err(failed("forget the known host keys"))?;
        Ok(result.rows_affected())
    }

    /// Adds keys to those by which their servers are known, all or none; gives how many were new.
    pub async fn import_keys(
        &self,
        keys: &[(SocketAddr, KnownKey)],
        learned_ns: u64,
    ) -> Result<usize, ImportError> {
        let doing = "import known host keys";
        let statement = "INSERT INTO known_host_key (server, algorithm, blob, learned_ns) \
             VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING";
        let same = "SELECT 1 FROM known_host_key \
             WHERE server = $1 AND algorithm = $2 AND blob = $3";
        let mut transaction = self.writer.begin().await.map_err(failed(doing))?;
        self.lock_known_keys(&mut transaction).await.map_err(failed(doing))?;
        let mut added = 0;
        for (server, key) in keys {
            let inserted = sqlx::query(statement)
                .bind(server.to_string())
                .bind(&key.algorithm)
                .bind(&key.blob)
                .bind(to_i64(learned_ns))
                .execute(&mut *transaction)
                .await
                .map_err(failed(doing))?;
            if inserted.rows_affected() == 1 {
                added += 1;
                continue;
            }
            let known = sqlx::query(same)
                .bind(server.to_string())
                .bind(&key.algorithm)
                .bind(&key.blob)
                .fetch_optional(&mut *transaction)
                .await
                .map_err(failed(doing))?;
            if known.is_none() {
                let algorithm = key.algorithm.clone();
                return Err(ImportError::Differs { server: *server, algorithm });
            }
        }
        transaction.commit().await.map_err(failed(doing))?;
        Ok(added)
    }

    /// Lets no other node learn a key until the transaction ends: two first connections to a server
    /// would each see that it has none. `SQLite` has one writer at a time anyway.
    async fn lock_known_keys(&self, transaction: &mut AnyConnection) -> Result<(), sqlx::Error> {
        match self.kind {
            Kind::Sqlite => Ok(()),
            Kind::Postgres => {
                let statement = "LOCK TABLE known_host_key IN SHARE ROW EXCLUSIVE MODE";
                sqlx::query(statement).execute(transaction).await.map(drop)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sessions::tests::open_in;
    use crate::task::Group;

    fn key(number: u8) -> KnownKey {
        KnownKey { algorithm: "ssh-ed25519".to_owned(), blob: vec![number] }
    }

    /// Two first connections race: one key is learned, the others find it there.
    #[tokio::test(flavor = "multi_thread")]
    async fn of_twenty_first_keys_one_is_learned() {
        let directory = tempfile::tempdir().unwrap();
        let store = open_in(&directory).await;
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
        let store = open_in(&directory).await;
        let server: SocketAddr = "10.2.0.9:22".parse().unwrap();
        assert!(store.learn_key(server, &key(1), 1).await.unwrap());
        let other = KnownKey { algorithm: "ssh-rsa".to_owned(), blob: vec![2] };
        assert!(!store.learn_key(server, &other, 1).await.unwrap());
        let elsewhere: SocketAddr = "10.2.0.9:2222".parse().unwrap();
        assert!(store.learn_key(elsewhere, &other, 1).await.unwrap());
    }

    #[tokio::test]
    async fn keys_are_imported_all_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = open_in(&directory).await;
        let servers = ["10.2.0.9:22", "[fd00::9]:22"].map(|text| text.parse().unwrap());
        let [one, two] = servers;
        let rsa = KnownKey { algorithm: "ssh-rsa".to_owned(), blob: vec![9] };
        assert!(store.learn_key(one, &key(1), 7).await.unwrap());
        let fits = [(one, key(1)), (one, rsa.clone()), (two, key(2)), (two, key(2))];
        assert_eq!(store.import_keys(&fits, 8).await.unwrap(), 2);
        let differs = [("10.2.0.7:22".parse().unwrap(), key(3)), (two, key(1))];
        let error = store.import_keys(&differs, 9).await.unwrap_err();
        assert!(matches!(error, ImportError::Differs { server, .. } if server == two), "{error}");
        let kept = |server: SocketAddr, key, learned_ns| Kept {
            server: server.to_string(),
            key,
            learned_ns,
        };
        let expected = [kept(one, key(1), 7), kept(one, rsa, 8), kept(two, key(2), 8)];
        assert_eq!(store.kept_keys().await.unwrap(), expected);
        assert_eq!(store.forget_keys(one).await.unwrap(), 2);
        assert_eq!(store.forget_keys(one).await.unwrap(), 0);
        assert_eq!(store.kept_keys().await.unwrap().len(), 1);
    }

    #[tokio::test]
    async fn the_first_shown_key_stays() {
        let directory = tempfile::tempdir().unwrap();
        let store = open_in(&directory).await;
        let server: SocketAddr = "[fd00::9]:22".parse().unwrap();
        assert_eq!(store.shown_key(server, "ssh-rsa").await.unwrap(), None);
        assert_eq!(store.keep_shown_key(server, "ssh-rsa", b"one").await.unwrap(), b"one");
        assert_eq!(store.keep_shown_key(server, "ssh-rsa", b"two").await.unwrap(), b"one");
        assert_eq!(store.shown_key(server, "ssh-rsa").await.unwrap(), Some(b"one".to_vec()));
    }
}
