//! Taking chunks into the aggregates, and deleting what is old.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row as _};

use super::{
    PostgresTelemetryStore,
    append::{Chunk, insert_chunks},
    failed,
    open::{PARTITIONS, partition},
};
use crate::{
    Expired, Horizon, Resolution, TelemetryError,
    codec::{Packer, decode_chunk, encode_chunk},
    pieces::{day, merge},
    rollup::{PageKey, RollupPage, Spans, add_stored, paged},
};

const TAKE_IN: &str = "take readings into aggregates";
/// Chunks of a vehicle that one transaction takes in.
const CHUNKS_MAX: i64 = 256;
/// Chunks with fewer readings become larger ones.
const CHUNK_READINGS_MIN: usize = 64;
/// Rows that are deleted by one transaction.
const ROWS: i64 = 1_024;

impl PostgresTelemetryStore {
    /// Takes in a vehicle that is due; whether there was one.
    pub(super) async fn take_in_due(&self) -> Result<bool, TelemetryError> {
        let due: Option<i64> = sqlx::query_scalar(
            "(SELECT vehicle FROM pending WHERE since < now() - make_interval(secs => $1) ORDER BY since LIMIT 1) \
             UNION ALL \
             (SELECT vehicle FROM pending GROUP BY vehicle HAVING sum(readings) >= $2 LIMIT 1) LIMIT 1",
        )
        .bind(self.options.flush_after.as_secs_f64())
        .bind(i64::from(self.options.flush_readings))
        .fetch_optional(&self.pool)
        .await
        .map_err(failed(TAKE_IN))?;
        match due {
            Some(vehicle) => self.take_in(vehicle).await,
            None => Ok(false),
        }
    }

    pub(super) async fn take_in_all(&self) -> Result<(), TelemetryError> {
        loop {
            let vehicle: Option<i64> = sqlx::query_scalar("SELECT vehicle FROM pending LIMIT 1")
                .fetch_optional(&self.pool)
                .await
                .map_err(failed(TAKE_IN))?;
            let Some(vehicle) = vehicle else { return Ok(()) };
            self.take_in(vehicle).await?;
        }
    }

    /// Takes a vehicle's chunks into its aggregates; whether there were any.
    async fn take_in(&self, vehicle: i64) -> Result<bool, TelemetryError> {
        let mut transaction = self.pool.begin().await.map_err(failed(TAKE_IN))?;
        // One replica at a time works on a vehicle.
        sqlx::query("SELECT pg_advisory_xact_lock($1, hashint8($2))")
            .bind(1)
            .bind(vehicle)
            .execute(&mut *transaction)
            .await
            .map_err(failed(TAKE_IN))?;
        let rows = sqlx::query(
            "SELECT c.id, c.day, c.data FROM pending p JOIN chunk c ON c.id = p.chunk AND c.day = p.day \
             AND c.vehicle = p.vehicle WHERE p.vehicle = $1 ORDER BY c.id LIMIT $2",
        )
        .bind(vehicle)
        .bind(CHUNKS_MAX)
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(TAKE_IN))?;
        let (mut taken, mut small, mut readings) = (Vec::new(), Vec::new(), Vec::new());
        let mut minutes = Spans::new();
        for row in &rows {
            let (id, data): (i64, &[u8]) =
                (row.try_get(0).map_err(failed(TAKE_IN))?, row.try_get(2).map_err(failed(TAKE_IN))?);
            let stored = decode_chunk(data)?;
            add_stored(&mut minutes, &stored);
            taken.push(id);
            if stored.times_us.len() < CHUNK_READINGS_MIN && stored.is_known(&self.dictionary) {
                small.push((id, row.try_get::<i64, _>(1).map_err(failed(TAKE_IN))?));
                readings.push(stored.known(&self.dictionary));
            }
        }
        let mut packer = Packer::new().map_err(|error| TelemetryError::storage("start zstd", error))?;
        if small.len() > 1 {
            let pieces = merge(&readings.iter().collect::<Vec<_>>());
            let mut chunks = Vec::with_capacity(pieces.len());
            for piece in pieces {
                let data = encode_chunk(&mut packer, &piece.readings, &self.dictionary)?;
                let readings = i32::try_from(piece.readings.len()).unwrap_or(i32::MAX);
                let (day, first_us, last_us) = (piece.day, piece.first_us, piece.last_us);
                chunks.push(Chunk { day, vehicle, first_us, last_us, readings, data });
            }
            let (ids, days): (Vec<i64>, Vec<i64>) = small.into_iter().unzip();
            sqlx::query("DELETE FROM chunk WHERE id = ANY($1) AND day = ANY($2) AND vehicle = $3")
                .bind(&ids)
                .bind(&days)
                .bind(vehicle)
                .execute(&mut *transaction)
                .await
                .map_err(failed(TAKE_IN))?;
            insert_chunks(&mut transaction, &chunks, false).await?;
        }
        for (key, spans) in paged(&minutes) {
            merge_page(&mut transaction, &mut packer, vehicle, key, &spans).await?;
        }
        sqlx::query("DELETE FROM pending WHERE chunk = ANY($1)")
            .bind(&taken)
            .execute(&mut *transaction)
            .await
            .map_err(failed(TAKE_IN))?;
        transaction.commit().await.map_err(failed(TAKE_IN))?;
        Ok(!taken.is_empty())
    }

    pub(super) async fn delete_expired(&self, horizon: &Horizon) -> Result<Expired, TelemetryError> {
        self.take_in_all().await?;
        let mut expired =
            Expired { chunks: self.drop_partitions(day(horizon.readings_us)).await?, ..Expired::default() };
        for (resolution, from_us) in [(Resolution::Minute, horizon.minutes_us), (Resolution::Hour, horizon.hours_us)] {
            let from_us = Resolution::Day.start_us(from_us);
            loop {
                let deleted = sqlx::query(
                    "DELETE FROM rollup WHERE ctid = ANY(ARRAY(SELECT ctid FROM rollup \
                     WHERE resolution = $1 AND start_us < $2 LIMIT $3))",
                )
                .bind(resolution.number())
                .bind(from_us)
                .bind(ROWS)
                .execute(&self.pool)
                .await
                .map_err(failed("delete what is old"))?
                .rows_affected();
                expired.pages += deleted;
                if deleted < ROWS.unsigned_abs() {
                    break;
                }
            }
        }
        expired.rejects = sqlx::query("DELETE FROM quarantine WHERE received_us < $1")
            .bind(horizon.readings_us)
            .execute(&self.pool)
            .await
            .map_err(failed("delete what is old"))?
            .rows_affected();
        expired.sources = sqlx::query(
            "WITH gone AS (DELETE FROM source WHERE seen_us < $1 RETURNING id), \
             sequences AS (DELETE FROM sequence WHERE source IN (SELECT id FROM gone)) SELECT id FROM gone",
        )
        .bind(horizon.sources_us)
        .fetch_all(&self.pool)
        .await
        .map_err(failed("delete what is old"))?
        .len() as u64;
        Ok(expired)
    }

    /// Drops the partitions of days before this one.
    async fn drop_partitions(&self, before: i64) -> Result<u64, TelemetryError> {
        let doing = "drop a partition";
        let mut transaction = self.pool.begin().await.map_err(failed(doing))?;
        sqlx::query("SELECT pg_advisory_xact_lock($1)")
            .bind(PARTITIONS)
            .execute(&mut *transaction)
            .await
            .map_err(failed(doing))?;
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT c.relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
             WHERE i.inhparent = 'chunk'::regclass",
        )
        .fetch_all(&mut *transaction)
        .await
        .map_err(failed(doing))?;
        let days: BTreeSet<i64> = names.iter().filter_map(|name| day_of(name)).filter(|day| *day < before).collect();
        for day in &days {
            // What came since all was taken in is of such a day only if it was too old when it came.
            sqlx::query("DELETE FROM pending WHERE day = $1")
                .bind(day)
                .execute(&mut *transaction)
                .await
                .map_err(failed(doing))?;
            let sql = format!("DROP TABLE {}", partition(*day));
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut *transaction).await.map_err(failed(doing))?;
        }
        transaction.commit().await.map_err(failed(doing))?;
        self.forget_partitions();
        Ok(days.len() as u64)
    }
}

fn day_of(partition: &str) -> Option<i64> {
    let day = partition.strip_prefix("chunk_day_")?;
    match day.strip_prefix("before_") {
        Some(day) => day.parse::<i64>().ok().map(|day| -day),
        None => day.parse().ok(),
    }
}

async fn merge_page(
    connection: &mut PgConnection,
    packer: &mut Packer,
    vehicle: i64,
    key: PageKey,
    spans: &BTreeMap<(i64, u16), crate::Aggregate>,
) -> Result<(), TelemetryError> {
    let stored: Option<Vec<u8>> =
        sqlx::query_scalar("SELECT data FROM rollup WHERE vehicle = $1 AND resolution = $2 AND start_us = $3")
            .bind(vehicle)
            .bind(key.resolution.number())
            .bind(key.start_us)
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed(TAKE_IN))?;
    let mut page = match stored {
        Some(data) => RollupPage::from_bytes(&data, key)?,
        None => RollupPage::default(),
    };
    page.merge(spans);
    sqlx::query(
        "INSERT INTO rollup (vehicle, resolution, start_us, data) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (vehicle, resolution, start_us) DO UPDATE SET data = excluded.data",
    )
    .bind(vehicle)
    .bind(key.resolution.number())
    .bind(key.start_us)
    .bind(page.to_bytes(packer, key)?)
    .execute(connection)
    .await
    .map_err(failed(TAKE_IN))?;
    Ok(())
}
