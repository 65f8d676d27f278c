//! What was rejected.

use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteConnection};

use super::{SqliteTelemetryStore, failed};
use crate::{QuarantinePage, QuarantineQuery, Quarantined, TelemetryError, quarantine::Row};

/// Rejects that are inserted by one statement.
const REJECTS_PER_STATEMENT: usize = 32;

impl SqliteTelemetryStore {
    pub(super) async fn read_quarantined(&self, query: &QuarantineQuery) -> Result<QuarantinePage, TelemetryError> {
        let limit = query.limit.min(QuarantineQuery::LIMIT_MAX);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, gateway, boot, vehicle, sequence, received_us, reason, signal, value, reading, readings, message \
             FROM quarantine WHERE (?1 IS NULL OR vehicle = ?1) AND (?2 IS NULL OR gateway = ?2) AND id < ?3 \
             ORDER BY id DESC LIMIT ?4",
        )
        .bind(query.vehicle.as_ref().map(ev_domain::VehicleId::as_str))
        .bind(query.gateway.as_ref().map(ev_domain::VehicleId::as_str))
        .bind(query.before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&self.reads)
        .await
        .map_err(failed("read what was rejected"))?;
        QuarantinePage::from_rows(rows, limit)
    }

    /// Deletes the oldest, where so many came that there may be too many.
    pub(super) async fn trim_rejects(&self) -> Result<(), TelemetryError> {
        let mut writer = self.writer.lock().await;
        if writer.rejects_untrimmed <= self.options.rejects_max / 8 {
            return Ok(());
        }
        self.settle(&mut writer).await?;
        writer.relax().await.map_err(failed("delete old rejects"))?;
        sqlx::query(
            "DELETE FROM quarantine WHERE id <= (SELECT id FROM quarantine ORDER BY id DESC LIMIT 1 OFFSET ?1)",
        )
        .bind(i64::try_from(self.options.rejects_max).unwrap_or(i64::MAX))
        .execute(&mut writer.connection)
        .await
        .map_err(failed("delete old rejects"))?;
        writer.rejects_untrimmed = 0;
        Ok(())
    }
}

/// Many in a statement: each statement is a hop to SQLite's thread and back.
pub(super) async fn insert(connection: &mut SqliteConnection, rejects: &[Quarantined]) -> Result<(), sqlx::Error> {
    for rejects in rejects.chunks(REJECTS_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO quarantine (gateway, boot, vehicle, sequence, received_us, reason, signal, value, reading, \
             readings, message) ",
        );
        query.push_values(rejects, |mut row, one| {
            row.push_bind(one.source.gateway.as_str())
                .push_bind(one.source.boot.as_str())
                .push_bind(one.vehicle())
                .push_bind(one.sequence.cast_signed())
                .push_bind(one.received_us)
                .push_bind(one.reject.reason.as_str())
                .push_bind(one.signal())
                .push_bind(one.value())
                .push_bind(one.reading())
                .push_bind(one.readings())
                .push_bind(&one.reject.message[..]);
        });
        query.push(" ON CONFLICT DO NOTHING");
        query.build().execute(&mut *connection).await?;
    }
    Ok(())
}
