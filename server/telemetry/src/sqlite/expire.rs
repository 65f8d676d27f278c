//! Deleting what is older than it is to be kept.

use super::{SqliteTelemetryStore, failed};
use crate::{Expired, Horizon, Resolution, TelemetryError, pieces::day};

/// Rows that are deleted by one transaction: a few milliseconds for which a commit may have to wait.
const ROWS: i64 = 256;

impl SqliteTelemetryStore {
    pub(super) async fn delete_expired(&self, horizon: &Horizon) -> Result<Expired, TelemetryError> {
        // Chunks that are not in the aggregates yet must be there first.
        self.flush_all().await?;
        let _one_at_a_time = self.background.lock().await;
        let last_chunk = self.state().next_chunk - 1;
        let chunks = "DELETE FROM chunk WHERE id IN (SELECT id FROM chunk WHERE day < ?1 AND id <= ?2 LIMIT ?3)";
        let pages = "DELETE FROM rollup WHERE (vehicle, resolution, start_us) IN \
                     (SELECT vehicle, resolution, start_us FROM rollup WHERE resolution = ?2 AND start_us < ?1 LIMIT ?3)";
        let mut expired =
            Expired { chunks: self.delete(chunks, day(horizon.readings_us), last_chunk).await?, ..Expired::default() };
        for (resolution, from_us) in [(Resolution::Minute, horizon.minutes_us), (Resolution::Hour, horizon.hours_us)] {
            let from_us = Resolution::Day.start_us(from_us);
            expired.pages += self.delete(pages, from_us, i64::from(resolution.number())).await?;
        }
        let rejects = "DELETE FROM quarantine WHERE id IN \
                       (SELECT id FROM quarantine WHERE received_us < ?1 AND id > ?2 LIMIT ?3)";
        expired.rejects = self.delete(rejects, horizon.readings_us, i64::MIN).await?;
        expired.sources = self.delete_sources(horizon.sources_us).await?;
        Ok(expired)
    }

    /// Deletes in slices, between which commits go on.
    async fn delete(&self, sql: &'static str, before: i64, second: i64) -> Result<u64, TelemetryError> {
        let mut deleted = 0;
        loop {
            let mut writer = self.writer.lock().await;
            self.settle(&mut writer).await?;
            let done = sqlx::query(sql)
                .bind(before)
                .bind(second)
                .bind(ROWS)
                .execute(&mut writer.connection)
                .await
                .map_err(failed("delete what is old"))?;
            deleted += done.rows_affected();
            if done.rows_affected() < ROWS.unsigned_abs() {
                return Ok(deleted);
            }
        }
    }

    /// Deletes sources that have sent nothing for long, and their sequences.
    async fn delete_sources(&self, before_us: i64) -> Result<u64, TelemetryError> {
        let old = {
            let state = self.state();
            let recent =
                state.sources.values().filter(|source| source.seen_us >= before_us).map(|source| source.number);
            super::open::json(&recent.collect::<Vec<_>>())
        };
        let mut deleted = 0;
        loop {
            let mut writer = self.writer.lock().await;
            self.settle(&mut writer).await?;
            // What a commit since then brought from such a source is in memory, and says so.
            let found: Vec<i64> = sqlx::query_scalar(
                "SELECT id FROM source WHERE seen_us < ?1 AND id NOT IN (SELECT value FROM json_each(?2)) LIMIT ?3",
            )
            .bind(before_us)
            .bind(&old)
            .bind(ROWS)
            .fetch_all(&mut writer.connection)
            .await
            .map_err(failed("delete what is old"))?;
            let gone: Vec<i64> = self.forget_sources(found, before_us);
            if gone.is_empty() {
                return Ok(deleted);
            }
            let list = super::open::json(&gone);
            writer.unsettled = true;
            for sql in [
                "BEGIN IMMEDIATE",
                "DELETE FROM sequence WHERE source IN (SELECT value FROM json_each(?1))",
                "DELETE FROM source WHERE id IN (SELECT value FROM json_each(?1))",
                "COMMIT",
            ] {
                let query = sqlx::query(sql);
                let query = if sql.starts_with("DELETE") { query.bind(&list) } else { query };
                query.execute(&mut writer.connection).await.map_err(failed("delete what is old"))?;
            }
            writer.unsettled = false;
            deleted += gone.len() as u64;
        }
    }

    /// Of these sources, those that nothing came from meanwhile; memory knows them no more.
    fn forget_sources(&self, numbers: Vec<i64>, before_us: i64) -> Vec<i64> {
        let mut state = self.state();
        let recent: Vec<i64> =
            state.sources.values().filter(|source| source.seen_us >= before_us).map(|source| source.number).collect();
        let gone: Vec<i64> = numbers.into_iter().filter(|number| !recent.contains(number)).collect();
        state.sources.retain(|_, source| !gone.contains(&source.number));
        for vehicle in state.vehicles.values_mut() {
            vehicle.sequences.retain(|(source, _)| !gone.contains(source));
        }
        gone
    }
}
