//! What is wanted of servers and what they say, in SQLite.

use async_trait::async_trait;
use sqlx::{Row as _, sqlite::SqliteRow};

use super::{SqliteMetadataStore, audit, failed, malformed, model_exists};
use crate::{FleetStore, PolicyChange, PolicyRecord, REPLICAS_MAX, RegistryError, ReplicaRecord, record::no_model};

#[async_trait]
impl FleetStore for SqliteMetadataStore {
    async fn set_policy(&self, change: &PolicyChange) -> Result<Option<String>, RegistryError> {
        let PolicyChange { model, document, entry, origin } = change;
        let mut transaction = self.write().await?;
        if !model_exists(&mut *transaction, model).await? {
            return Err(no_model(model));
        }
        let before = sqlx::query("SELECT document FROM version_policies WHERE model = ?1")
            .bind(model)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed("read version policies"))?;
        let before = before.map(|row| row.try_get(0).map_err(|error| malformed(&error))).transpose()?;
        let changed = match document {
            Some(document) => {
                sqlx::query(
                    "INSERT INTO version_policies (model, document, updated_at_ms) VALUES (?1, ?2, ?3) \
                     ON CONFLICT (model) DO UPDATE \
                     SET document = excluded.document, updated_at_ms = excluded.updated_at_ms",
                )
                .bind(model)
                .bind(document)
                .bind(origin.at_ms)
                .execute(&mut *transaction)
                .await
            }
            None => {
                let delete = sqlx::query("DELETE FROM version_policies WHERE model = ?1");
                delete.bind(model).execute(&mut *transaction).await
            }
        };
        changed.map_err(failed("set a version policy"))?;
        let row = audit::append(&mut transaction, entry, origin).await?;
        self.commit(transaction, row.sequence, "set a version policy").await?;
        Ok(before)
    }

    async fn policies(&self) -> Result<Vec<PolicyRecord>, RegistryError> {
        let rows = sqlx::query("SELECT model, document, updated_at_ms FROM version_policies ORDER BY model")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read version policies"))?;
        let read = |row: &SqliteRow| {
            Ok(PolicyRecord {
                model: row.try_get("model")?,
                document: row.try_get("document")?,
                updated_at_ms: row.try_get("updated_at_ms")?,
            })
        };
        rows.iter().map(|row| read(row).map_err(|error: sqlx::Error| malformed(&error))).collect()
    }

    async fn tell_replica(&self, told: &ReplicaRecord, forget_before_ms: i64) -> Result<(), RegistryError> {
        let doing = "store what a server says of itself";
        let ReplicaRecord { replica, updated_at_ms, document } = told;
        let mut transaction = self.write().await?;
        sqlx::query(
            "INSERT INTO replicas (replica, updated_at_ms, document) VALUES (?1, ?2, ?3) \
             ON CONFLICT (replica) DO UPDATE \
             SET updated_at_ms = excluded.updated_at_ms, document = excluded.document",
        )
        .bind(replica)
        .bind(updated_at_ms)
        .bind(document)
        .execute(&mut *transaction)
        .await
        .map_err(failed(doing))?;
        sqlx::query(
            "DELETE FROM replicas WHERE replica <> ?1 AND (updated_at_ms < ?2 OR replica IN \
             (SELECT replica FROM replicas ORDER BY updated_at_ms DESC, replica LIMIT -1 OFFSET ?3))",
        )
        .bind(replica)
        .bind(forget_before_ms)
        .bind(REPLICAS_MAX)
        .execute(&mut *transaction)
        .await
        .map_err(failed(doing))?;
        transaction.commit().await.map_err(failed(doing))
    }

    async fn replicas(&self) -> Result<Vec<ReplicaRecord>, RegistryError> {
        let rows = sqlx::query("SELECT replica, updated_at_ms, document FROM replicas ORDER BY replica")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read what servers say of themselves"))?;
        let read = |row: &SqliteRow| {
            Ok(ReplicaRecord {
                replica: row.try_get("replica")?,
                updated_at_ms: row.try_get("updated_at_ms")?,
                document: row.try_get("document")?,
            })
        };
        rows.iter().map(|row| read(row).map_err(|error: sqlx::Error| malformed(&error))).collect()
    }

    async fn forget_replica(&self, replica: &str) -> Result<(), RegistryError> {
        let forget = sqlx::query("DELETE FROM replicas WHERE replica = ?1").bind(replica);
        let forgotten = forget.execute(&self.pool).await;
        forgotten.map(|_| ()).map_err(failed("forget a server"))
    }
}
