//! Questions, each answered from one snapshot of the database.

use std::{collections::HashMap, ops::Range};

use ev_domain::{Source, VehicleId};
use sqlx::{PgConnection, Postgres, Row as _, Transaction, postgres::PgRow};

use super::{PostgresTelemetryStore, failed};
use crate::{
    AggregateQuery, Latest, Page, Query, Resolution, Sequence, SourceSequence, SpanAggregate, TelemetryError,
    VehicleSummary,
    aggregates::{LatestCollector, SpanCollector},
    codec::decode_chunk,
    collect::Collector,
    rollup::{PageKey, RollupPage, Spans, add_stored},
};

/// Chunks, or pages of aggregates, that are read at a time.
const ROWS: i64 = 16;
/// Sources that are read at a time.
const SOURCES: i64 = 256;
const READ: &str = "read telemetry";

impl PostgresTelemetryStore {
    /// The vehicle's number, and a transaction in which the database stands still.
    async fn find(&self, vehicle: &VehicleId) -> Result<(i64, Transaction<'static, Postgres>), TelemetryError> {
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
        let mut transaction = self.pool.begin_with(begin).await.map_err(failed(READ))?;
        let number: Option<i64> = sqlx::query_scalar("SELECT id FROM vehicle WHERE name = $1")
            .bind(vehicle.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed(READ))?;
        Ok((number.ok_or_else(|| unknown(vehicle))?, transaction))
    }

    pub(super) async fn read_page(&self, query: &Query) -> Result<Page, TelemetryError> {
        query.check()?;
        let (vehicle, mut transaction) = self.find(&query.vehicle).await?;
        let mut collector = Collector::new(query);
        let mut after = (i64::MIN, i64::MIN);
        loop {
            let rows = chunks_after(&mut transaction, vehicle, query, after).await?;
            for row in &rows {
                after = (get(row, 0)?, get(row, 1)?);
                if collector.is_full(after.0) {
                    return Ok(collector.finish(Some(after.0)));
                }
                collector.add(decode_chunk(get(row, 2)?)?.known(&self.dictionary))?;
            }
            if (rows.len() as i64) < ROWS {
                return Ok(collector.finish(None));
            }
        }
    }

    pub(super) async fn read_aggregates(&self, query: &AggregateQuery) -> Result<Vec<SpanAggregate>, TelemetryError> {
        query.check()?;
        let (vehicle, mut transaction) = self.find(&query.vehicle).await?;
        if query.time_us.is_empty() {
            return Ok(Vec::new());
        }
        let minutes = pending_minutes(&mut transaction, vehicle).await?;
        let mut collector = SpanCollector::new(query, &self.dictionary, &minutes);
        let (mut from, to) = SpanCollector::pages_us(query);
        loop {
            let pages = pages(&mut transaction, vehicle, query.resolution, from..to).await?;
            for (key, page) in &pages {
                if collector.is_full(key.start_us) {
                    return Ok(collector.finish());
                }
                collector.add_page(page);
                from = key.start_us.saturating_add(1);
            }
            if (pages.len() as i64) < ROWS {
                return Ok(collector.finish());
            }
        }
    }

    pub(super) async fn read_latest(&self, vehicle: &VehicleId) -> Result<Vec<Latest>, TelemetryError> {
        let (vehicle, mut transaction) = self.find(vehicle).await?;
        let mut latest = LatestCollector::default();
        latest.add(&pending_minutes(&mut transaction, vehicle).await?);
        let mut from = i64::MIN;
        loop {
            let pages = pages(&mut transaction, vehicle, Resolution::Day, from..i64::MAX).await?;
            for (key, page) in &pages {
                latest.add(&page.0);
                from = key.start_us.saturating_add(1);
            }
            if (pages.len() as i64) < ROWS {
                return Ok(latest.finish(&self.dictionary));
            }
        }
    }

    pub(super) async fn read_sequences(
        &self,
        source: &Source,
        vehicles: &[VehicleId],
    ) -> Result<Vec<Sequence>, TelemetryError> {
        let names: Vec<&str> = vehicles.iter().map(VehicleId::as_str).collect();
        let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(
            "SELECT v.name, q.data FROM source s JOIN sequence q ON q.source = s.id JOIN vehicle v ON v.id = q.vehicle \
             WHERE s.gateway = $1 AND s.boot = $2 AND v.name = ANY($3)",
        )
        .bind(source.gateway.as_str())
        .bind(source.boot.as_str())
        .bind(&names)
        .fetch_all(&self.pool)
        .await
        .map_err(failed(READ))?;
        let mut known = HashMap::new();
        for (name, data) in rows {
            known.insert(name, sequence_of(&data)?);
        }
        Ok(names.iter().map(|name| known.get(*name).cloned().unwrap_or_default()).collect())
    }

    pub(super) async fn read_vehicles(
        &self,
        after: Option<&VehicleId>,
        limit: u32,
    ) -> Result<Vec<VehicleSummary>, TelemetryError> {
        let rows = sqlx::query(
            "SELECT id, name, readings, first_us, last_us FROM vehicle WHERE name > $1 ORDER BY name LIMIT $2",
        )
        .bind(after.map_or("", VehicleId::as_str))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(failed(READ))?;
        self.summaries(&rows).await
    }

    pub(super) async fn read_vehicle(&self, vehicle: &VehicleId) -> Result<VehicleSummary, TelemetryError> {
        let rows = sqlx::query("SELECT id, name, readings, first_us, last_us FROM vehicle WHERE name = $1")
            .bind(vehicle.as_str())
            .fetch_all(&self.pool)
            .await
            .map_err(failed(READ))?;
        self.summaries(&rows).await?.pop().ok_or_else(|| unknown(vehicle))
    }

    async fn summaries(&self, rows: &[PgRow]) -> Result<Vec<VehicleSummary>, TelemetryError> {
        let numbers: Vec<i64> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
        let sequences: Vec<(i64, Vec<u8>)> =
            sqlx::query_as("SELECT vehicle, data FROM sequence WHERE vehicle = ANY($1)")
                .bind(&numbers)
                .fetch_all(&self.pool)
                .await
                .map_err(failed(READ))?;
        let mut batches: HashMap<i64, (u64, u64)> = HashMap::new();
        for (vehicle, data) in sequences {
            let sequence = sequence_of(&data)?;
            let of = batches.entry(vehicle).or_default();
            *of = (of.0 + sequence.highest() - sequence.missing(), of.1 + sequence.highest());
        }
        let summary = |row: &PgRow| {
            let vehicle = VehicleId::new(get(row, 1)?).map_err(|e| TelemetryError::malformed("a vehicle", e))?;
            let (readings, first_us, last_us): (i64, i64, i64) = (get(row, 2)?, get(row, 3)?, get(row, 4)?);
            let (batches_received, batches_expected) = batches.get(&get(row, 0)?).copied().unwrap_or_default();
            let span_us = (readings > 0).then_some((first_us, last_us));
            let readings = readings.unsigned_abs();
            Ok(VehicleSummary { vehicle, readings, span_us, batches_received, batches_expected })
        };
        rows.iter().map(summary).collect()
    }

    pub(super) async fn read_gaps(
        &self,
        vehicle: &VehicleId,
        after: Option<&Source>,
        limit: u32,
    ) -> Result<Vec<SourceSequence>, TelemetryError> {
        let (number, mut transaction) = self.find(vehicle).await?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        // An id is never empty.
        let mut after = after.map_or_else(Default::default, |Source { gateway, boot }| {
            (gateway.as_str().to_owned(), boot.as_str().to_owned())
        });
        let mut gaps = Vec::new();
        loop {
            let rows: Vec<(String, String, Vec<u8>)> = sqlx::query_as(
                "SELECT s.gateway, s.boot, q.data FROM sequence q JOIN source s ON s.id = q.source \
                 WHERE q.vehicle = $1 AND (s.gateway, s.boot) > ($2, $3) ORDER BY s.gateway, s.boot LIMIT $4",
            )
            .bind(number)
            .bind(&after.0)
            .bind(&after.1)
            .bind(SOURCES)
            .fetch_all(&mut *transaction)
            .await
            .map_err(failed(READ))?;
            let is_last = (rows.len() as i64) < SOURCES;
            for (gateway, boot, data) in rows {
                let sequence = sequence_of(&data)?;
                let name = |text: &str| VehicleId::new(text).map_err(|e| TelemetryError::malformed("a source", e));
                if !sequence.gaps().is_empty() && gaps.len() < limit {
                    let source = Source { gateway: name(&gateway)?, boot: name(&boot)? };
                    gaps.push(SourceSequence { source, sequence });
                }
                after = (gateway, boot);
            }
            if is_last || gaps.len() >= limit {
                return Ok(gaps);
            }
        }
    }
}

async fn pending_minutes(connection: &mut PgConnection, vehicle: i64) -> Result<Spans, TelemetryError> {
    let rows: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT c.data FROM pending p JOIN chunk c ON c.id = p.chunk AND c.day = p.day AND c.vehicle = p.vehicle \
         WHERE p.vehicle = $1",
    )
    .bind(vehicle)
    .fetch_all(connection)
    .await
    .map_err(failed(READ))?;
    let mut minutes = Spans::new();
    for data in rows {
        add_stored(&mut minutes, &decode_chunk(&data)?);
    }
    Ok(minutes)
}

async fn chunks_after(
    connection: &mut PgConnection,
    vehicle: i64,
    query: &Query,
    after: (i64, i64),
) -> Result<Vec<PgRow>, TelemetryError> {
    let start = Collector::start_us(query);
    sqlx::query(
        "SELECT first_us, id, data FROM chunk WHERE vehicle = $1 AND day >= $2 AND day <= $3 AND first_us < $4 \
         AND last_us >= $5 AND (first_us, id) > ($6, $7) ORDER BY first_us, id LIMIT $8",
    )
    .bind(vehicle)
    // A chunk is of one day: other partitions are not looked at.
    .bind(crate::pieces::day(start))
    .bind(crate::pieces::day(query.time_us.end))
    .bind(query.time_us.end)
    .bind(start)
    .bind(after.0)
    .bind(after.1)
    .bind(ROWS)
    .fetch_all(connection)
    .await
    .map_err(failed(READ))
}

async fn pages(
    connection: &mut PgConnection,
    vehicle: i64,
    resolution: Resolution,
    starts_us: Range<i64>,
) -> Result<Vec<(PageKey, RollupPage)>, TelemetryError> {
    let rows = sqlx::query(
        "SELECT start_us, data FROM rollup WHERE vehicle = $1 AND resolution = $2 AND start_us >= $3 AND start_us < $4 \
         ORDER BY start_us LIMIT $5",
    )
    .bind(vehicle)
    .bind(resolution.number())
    .bind(starts_us.start)
    .bind(starts_us.end)
    .bind(ROWS)
    .fetch_all(connection)
    .await
    .map_err(failed(READ))?;
    let page = |row: &PgRow| {
        let key = PageKey { resolution, start_us: get(row, 0)? };
        Ok((key, RollupPage::from_bytes(get(row, 1)?, key)?))
    };
    rows.iter().map(page).collect()
}

fn get<'r, T>(row: &'r PgRow, column: usize) -> Result<T, TelemetryError>
where
    T: sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
{
    row.try_get(column).map_err(failed(READ))
}

fn sequence_of(data: &[u8]) -> Result<Sequence, TelemetryError> {
    Sequence::from_bytes(data).map_err(|problem| TelemetryError::malformed("a sequence", problem))
}

fn unknown(vehicle: &VehicleId) -> TelemetryError {
    TelemetryError::UnknownVehicle { vehicle: vehicle.to_string() }
}
