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
