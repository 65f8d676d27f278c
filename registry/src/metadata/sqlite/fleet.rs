//! What is wanted of servers and what they say, in SQLite.

use async_trait::async_trait;
use sqlx::Row as _;

use super::{
    super::rows::{malformed, read},
    SqliteMetadataStore, audit, failed, model_exists,
};
use crate::{
    FleetStore, KeptOutcome, OUTCOMES_MAX, PolicyChange, PolicyRecord, REPLICAS_MAX, RegistryError, ReplicaRecord,
    record::no_model,
};

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
        rows.iter().map(read).collect()
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
        rows.iter().map(read).collect()
    }

    async fn keep_outcomes(
        &self,
        documents: &[String],
        at_ms: i64,
        forget_before_ms: i64,
    ) -> Result<usize, RegistryError> {
        let doing = "keep what was reported";
        let mut transaction = self.write().await?;
        let forget = sqlx::query("DELETE FROM kept_outcomes WHERE created_at_ms < ?1").bind(forget_before_ms);
        forget.execute(&mut *transaction).await.map_err(failed(doing))?;
        let count = sqlx::query("SELECT count(*) FROM kept_outcomes").fetch_one(&mut *transaction).await;
        let count: i64 = count.map_err(failed(doing))?.try_get(0).map_err(|error| malformed(&error))?;
        let room = usize::try_from(i64::from(OUTCOMES_MAX).saturating_sub(count)).unwrap_or(0);
        let kept = documents.len().min(room);
        for document in &documents[..kept] {
            sqlx::query("INSERT INTO kept_outcomes (created_at_ms, document) VALUES (?1, ?2)")
                .bind(at_ms)
                .bind(document)
                .execute(&mut *transaction)
                .await
                .map_err(failed(doing))?;
        }
        transaction.commit().await.map_err(failed(doing))?;
        Ok(kept)
    }

    async fn kept_outcomes(&self, after: u64, limit: u32) -> Result<Vec<KeptOutcome>, RegistryError> {
        let rows = sqlx::query("SELECT seq, document FROM kept_outcomes WHERE seq > ?1 ORDER BY seq LIMIT ?2")
            .bind(i64::try_from(after).unwrap_or(i64::MAX))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed("read what was reported"))?;
        rows.iter().map(read).collect()
    }

    async fn remove_outcomes(&self, sequences: &[u64]) -> Result<(), RegistryError> {
        let doing = "remove what was taken";
        let mut transaction = self.write().await?;
        for sequence in sequences {
            sqlx::query("DELETE FROM kept_outcomes WHERE seq = ?1")
                .bind(i64::try_from(*sequence).unwrap_or(i64::MAX))
                .execute(&mut *transaction)
                .await
                .map_err(failed(doing))?;
        }
        transaction.commit().await.map_err(failed(doing))
    }

    async fn forget_replica(&self, replica: &str) -> Result<(), RegistryError> {
        let forget = sqlx::query("DELETE FROM replicas WHERE replica = ?1").bind(replica);
        let forgotten = forget.execute(&self.pool).await;
        forgotten.map(|_| ()).map_err(failed("forget a server"))
    }
}
