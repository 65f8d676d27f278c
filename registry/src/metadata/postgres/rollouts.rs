//! Rollouts in PostgreSQL.

use async_trait::async_trait;
use sqlx::{PgConnection, Row as _};

use super::{
    super::rows::{malformed, read},
    PostgresMetadataStore, audit, failed, model_exists, move_alias,
};
use crate::{
    NewRollout, REPLICAS_KEPT, ROLLOUTS_KEPT, RegistryError, ReplicaObservations, RolloutChange, RolloutRecord,
    RolloutStore, record::no_model, rollout::no_rollout,
};

#[async_trait]
impl RolloutStore for PostgresMetadataStore {
    async fn start_rollout(&self, rollout: &NewRollout) -> Result<RolloutRecord, RegistryError> {
        let NewRollout { id, model, document, entry, origin } = rollout;
        let mut transaction = self.write().await?;
        if !model_exists(&mut *transaction, model).await? {
            return Err(no_model(model));
        }
        let active = sqlx::query("SELECT id FROM rollouts WHERE model = $1 AND active")
            .bind(model)
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed("read rollouts"))?;
        if let Some(row) = active {
            let id = row.try_get(0).map_err(|error| malformed(&error))?;
            return Err(RegistryError::RolloutUnderWay { model: model.clone(), id });
        }
        sqlx::query(
            "DELETE FROM rollouts WHERE id IN \
             (SELECT id FROM rollouts WHERE model = $1 AND NOT active ORDER BY id DESC OFFSET $2)",
        )
        .bind(model)
        .bind(i64::from(ROLLOUTS_KEPT - 1))
        .execute(&mut *transaction)
        .await
        .map_err(failed("forget old rollouts"))?;
        sqlx::query(
            "INSERT INTO rollouts (id, model, active, revision, created_at_ms, updated_at_ms, document) \
             VALUES ($1, $2, true, 1, $3, $3, $4)",
        )
        .bind(id)
        .bind(model)
        .bind(origin.at_ms)
        .bind(document)
        .execute(&mut *transaction)
        .await
        .map_err(failed("start a rollout"))?;
        let row = audit::append(&mut transaction, entry, origin).await?;
        let record = find(&mut transaction, id).await?;
        self.commit(transaction, row.sequence, "start a rollout").await?;
        Ok(record)
    }

    async fn rollout(&self, id: &str) -> Result<RolloutRecord, RegistryError> {
        let mut connection = self.read().await?;
        find(&mut connection, id).await
    }

    async fn list_rollouts(
        &self,
        model: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<RolloutRecord>, RegistryError> {
        let rows = sqlx::query(
            "SELECT * FROM rollouts WHERE ($1::text IS NULL OR model = $1) AND ($2::text IS NULL OR id < $2) \
             ORDER BY id DESC LIMIT $3",
        )
        .bind(model)
        .bind(before)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("list rollouts"))?;
        rows.iter().map(read).collect()
    }

    async fn active_rollouts(&self) -> Result<Vec<RolloutRecord>, RegistryError> {
        let rows = sqlx::query("SELECT * FROM rollouts WHERE active ORDER BY id")
            .fetch_all(&self.pool)
            .await
            .map_err(failed("list rollouts"))?;
        rows.iter().map(read).collect()
    }

    async fn rollouts_mark(&self) -> Result<u64, RegistryError> {
        let row = sqlx::query("SELECT (coalesce(sum(revision), 0) + count(*))::bigint FROM rollouts")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read rollouts"))?;
        let mark: i64 = row.try_get(0).map_err(|error| malformed(&error))?;
        u64::try_from(mark).map_err(|error| malformed(&sqlx::Error::Decode(Box::new(error))))
    }

    async fn time_ms(&self, _: i64) -> Result<i64, RegistryError> {
        let row = sqlx::query("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")
            .fetch_one(&self.pool)
            .await
            .map_err(failed("read the database's clock"))?;
        row.try_get(0).map_err(|error| malformed(&error))
    }

    async fn change_rollout(&self, change: &RolloutChange) -> Result<RolloutRecord, RegistryError> {
        let RolloutChange { id, expected_revision, is_active, document, aliases, entry, origin } = change;
        let mut transaction = self.write().await?;
        let known = find(&mut transaction, id).await?;
        if known.revision != *expected_revision {
            return Err(RegistryError::RolloutMoved { id: id.clone(), revision: known.revision });
        }
        for alias in aliases {
            move_alias(&mut transaction, alias, origin).await?;
        }
        sqlx::query(
            "UPDATE rollouts SET active = $2, revision = revision + 1, updated_at_ms = $3, document = $4 WHERE id = $1",
        )
        .bind(id)
        .bind(is_active)
        .bind(origin.at_ms)
        .bind(document)
        .execute(&mut *transaction)
        .await
        .map_err(failed("change a rollout"))?;
        let row = audit::append(&mut transaction, entry, origin).await?;
        let record = find(&mut transaction, id).await?;
        self.commit(transaction, row.sequence, "change a rollout").await?;
        Ok(record)
    }

    async fn observe_rollout(&self, id: &str, seen: &ReplicaObservations) -> Result<(), RegistryError> {
        let ReplicaObservations { replica, updated_at_ms, document } = seen;
        let mut transaction = self.write().await?;
        find(&mut transaction, id).await?;
        sqlx::query(
            "INSERT INTO rollout_observations (rollout, replica, updated_at_ms, document) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (rollout, replica) DO UPDATE \
             SET updated_at_ms = excluded.updated_at_ms, document = excluded.document",
        )
        .bind(id)
        .bind(replica)
        .bind(updated_at_ms)
        .bind(document)
        .execute(&mut *transaction)
        .await
        .map_err(failed("store what was seen of a rollout"))?;
        sqlx::query(
            "DELETE FROM rollout_observations WHERE rollout = $1 AND replica IN \
             (SELECT replica FROM rollout_observations WHERE rollout = $1 \
              ORDER BY updated_at_ms DESC, replica OFFSET $2)",
        )
        .bind(id)
        .bind(i64::from(REPLICAS_KEPT))
        .execute(&mut *transaction)
        .await
        .map_err(failed("store what was seen of a rollout"))?;
        transaction.commit().await.map_err(failed("store what was seen of a rollout"))
    }

    async fn rollout_observations(&self, id: &str) -> Result<Vec<ReplicaObservations>, RegistryError> {
        let rows = sqlx::query(
            "SELECT replica, updated_at_ms, document FROM rollout_observations WHERE rollout = $1 ORDER BY replica",
        )
        .bind(id)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read what was seen of a rollout"))?;
        rows.iter().map(read).collect()
    }
}

async fn find(connection: &mut PgConnection, id: &str) -> Result<RolloutRecord, RegistryError> {
    let row = sqlx::query("SELECT * FROM rollouts WHERE id = $1")
        .bind(id)
        .fetch_optional(connection)
        .await
        .map_err(failed("read a rollout"))?;
    row.as_ref().map_or_else(|| Err(no_rollout(id)), read)
}
