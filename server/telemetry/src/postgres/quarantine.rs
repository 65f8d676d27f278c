//! What was rejected.

use std::sync::atomic::Ordering::Relaxed;

use sqlx::PgConnection;

use super::{PostgresTelemetryStore, failed};
use crate::{QuarantinePage, QuarantineQuery, Quarantined, TelemetryError, quarantine::Row};

impl PostgresTelemetryStore {
    pub(super) async fn read_quarantined(&self, query: &QuarantineQuery) -> Result<QuarantinePage, TelemetryError> {
        let limit = query.limit.min(QuarantineQuery::LIMIT_MAX);
        let rows: Vec<Row> = sqlx::query_as(
            "SELECT id, gateway, boot, vehicle, sequence, received_us, reason, signal, value, reading, readings, message \
             FROM quarantine WHERE ($1 IS NULL OR vehicle = $1) AND ($2 IS NULL OR gateway = $2) AND id < $3 \
             ORDER BY id DESC LIMIT $4",
        )
        .bind(query.vehicle.as_ref().map(ev_domain::VehicleId::as_str))
        .bind(query.gateway.as_ref().map(ev_domain::VehicleId::as_str))
        .bind(query.before.unwrap_or(i64::MAX))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed("read what was rejected"))?;
        QuarantinePage::from_rows(rows, limit)
    }

    /// Deletes the oldest, where so many came that there may be too many.
    pub(super) async fn trim_rejects(&self) -> Result<(), TelemetryError> {
        let came = self.rejects_untrimmed.load(Relaxed);
        if came <= self.options.rejects_max / 8 {
            return Ok(());
        }
        sqlx::query(
            "DELETE FROM quarantine WHERE id <= (SELECT id FROM quarantine ORDER BY id DESC LIMIT 1 OFFSET $1)",
        )
        .bind(i64::try_from(self.options.rejects_max).unwrap_or(i64::MAX))
        .execute(&self.pool)
        .await
        .map_err(failed("delete old rejects"))?;
        self.rejects_untrimmed.fetch_sub(came, Relaxed);
        Ok(())
    }
}

/// Inserts rejects in one statement: numbered as they came, and locked in one order for all replicas.
pub(super) async fn insert(connection: &mut PgConnection, rejects: &[Quarantined]) -> Result<(), TelemetryError> {
    if rejects.is_empty() {
        return Ok(());
    }
    sqlx::query(
        "WITH new AS (SELECT nextval('quarantine_id') AS id, u.* FROM \
         unnest($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::text[], $7::text[], $8::text[], \
         $9::bigint[], $10::bigint[], $11::text[]) \
         u(gateway, boot, vehicle, sequence, received_us, reason, signal, value, reading, readings, message)) \
         INSERT INTO quarantine (id, gateway, boot, vehicle, sequence, received_us, reason, signal, value, reading, \
         readings, message) SELECT * FROM new ORDER BY gateway, boot, vehicle, sequence, reason, signal, reading \
         ON CONFLICT DO NOTHING",
    )
    .bind(rejects.iter().map(|one| one.source.gateway.as_str()).collect::<Vec<_>>())
    .bind(rejects.iter().map(|one| one.source.boot.as_str()).collect::<Vec<_>>())
    .bind(rejects.iter().map(Quarantined::vehicle).collect::<Vec<_>>())
    .bind(rejects.iter().map(|one| one.sequence.cast_signed()).collect::<Vec<_>>())
    .bind(rejects.iter().map(|one| one.received_us).collect::<Vec<_>>())
    .bind(rejects.iter().map(|one| one.reject.reason.as_str()).collect::<Vec<_>>())
    .bind(rejects.iter().map(Quarantined::signal).collect::<Vec<_>>())
    .bind(rejects.iter().map(Quarantined::value).collect::<Vec<_>>())
    .bind(rejects.iter().map(Quarantined::reading).collect::<Vec<_>>())
    .bind(rejects.iter().map(Quarantined::readings).collect::<Vec<_>>())
    .bind(rejects.iter().map(|one| &one.reject.message[..]).collect::<Vec<_>>())
    .execute(connection)
    .await
    .map_err(failed("store what was rejected"))?;
    Ok(())
}
