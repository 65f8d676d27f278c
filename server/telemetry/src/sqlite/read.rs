//! Questions.
//!
//! What is not flushed is in memory, the rest in the file. Memory is copied first; then the vehicle's row says up to
//! which row of the journal the file is ahead of that copy.

use std::{collections::HashMap, ops::Range};

use ev_domain::{Readings, Source, VehicleId};
use sqlx::{Row as _, SqliteConnection, sqlite::SqliteRow};

use super::{
    SqliteTelemetryStore, failed,
    flush::{busy, chunk_ids, small_batches},
    open::{json, sequence_of, vehicle_of},
    state::{Pending, Stats},
};
use crate::{
    AggregateQuery, Latest, Page, Query, Resolution, Sequence, SourceSequence, SpanAggregate, TelemetryError,
    VehicleSummary,
    aggregates::{LatestCollector, SpanCollector},
    codec::decode_chunk,
    collect::Collector,
    pieces::span_us,
    rollup::{PageKey, RollupPage, Spans, add_readings, add_stored},
};

/// Chunks, or pages of aggregates, that are read at a time.
const ROWS: i64 = 16;
const READ: &str = "read telemetry";

/// A vehicle as a question finds it.
struct Found {
    number: i64,
    /// What is not in its final place in the file.
    pending: Vec<Pending>,
}

impl SqliteTelemetryStore {
    /// The vehicle, and a transaction in which the file stands still.
    async fn find(
        &self,
        vehicle: &VehicleId,
    ) -> Result<(Found, sqlx::Transaction<'static, sqlx::Sqlite>), TelemetryError> {
        let known = self.state().vehicle(vehicle).map(|(number, vehicle)| (number, vehicle.pending.clone()));
        let mut transaction = self.reads.begin().await.map_err(failed(READ))?;
        let row = sqlx::query("SELECT id, journal FROM vehicle WHERE name = ?1")
            .bind(vehicle.as_str())
            .fetch_optional(&mut *transaction)
            .await
            .map_err(failed(READ))?
            .ok_or_else(|| unknown(vehicle))?;
        let (number, through): (i64, i64) = (get(&row, 0)?, get(&row, 1)?);
        let mut pending = known.map(|(_, pending)| pending).unwrap_or_default();
        pending.retain(|pending| pending.journal > through);
        Ok((Found { number, pending }, transaction))
    }

    pub(super) async fn read_page(&self, query: &Query) -> Result<Page, TelemetryError> {
        query.check()?;
        let (found, mut transaction) = self.find(&query.vehicle).await?;
        let mut small: Vec<(i64, &Readings)> =
            small_batches(&found.pending).into_iter().filter_map(|r| Some((span_us(&r.times_us)?.0, r))).collect();
        small.sort_by_key(|(first, _)| std::cmp::Reverse(*first));
        let mut collector = Collector::new(query);
        let mut after = (i64::MIN, i64::MIN);
        loop {
            let rows = chunks_after(&mut transaction, found.number, query, after).await?;
            for row in &rows {
                after = (get(row, "first_us")?, get(row, "id")?);
                while let Some((first, batch)) = small.pop_if(|(first, _)| *first <= after.0) {
                    if collector.is_full(first) {
                        return Ok(collector.finish(Some(first)));
                    }
                    collector.add(batch.clone())?;
                }
                if collector.is_full(after.0) {
                    return Ok(collector.finish(Some(after.0)));
                }
                collector.add(decode_chunk(get(row, "data")?)?.known(&self.dictionary))?;
            }
            if (rows.len() as i64) < ROWS {
                break;
            }
        }
        while let Some((first, batch)) = small.pop() {
            if collector.is_full(first) {
                return Ok(collector.finish(Some(first)));
            }
            collector.add(batch.clone())?;
        }
        Ok(collector.finish(None))
    }

    /// What is not in the stored aggregates, by minute.
    async fn pending_minutes(
        &self,
        connection: &mut SqliteConnection,
        pending: Vec<Pending>,
    ) -> Result<Spans, TelemetryError> {
        let rows = sqlx::query("SELECT data FROM chunk WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(json(&chunk_ids(&pending)))
            .fetch_all(connection)
            .await
            .map_err(failed(READ))?;
        let chunks: Vec<Vec<u8>> = rows.iter().map(|row| get(row, 0)).collect::<Result<_, _>>()?;
        let dictionary = self.dictionary.clone();
        let sum = move || {
            let mut minutes = Spans::new();
            for chunk in &chunks {
                add_stored(&mut minutes, &decode_chunk(chunk)?);
            }
            small_batches(&pending).iter().for_each(|batch| add_readings(&mut minutes, batch, &dictionary));
            Ok(minutes)
        };
        busy(sum).await?
    }

    pub(super) async fn read_aggregates(&self, query: &AggregateQuery) -> Result<Vec<SpanAggregate>, TelemetryError> {
        query.check()?;
        let (Found { number, pending }, mut transaction) = self.find(&query.vehicle).await?;
        if query.time_us.is_empty() {
            return Ok(Vec::new());
        }
        let minutes = self.pending_minutes(&mut transaction, pending).await?;
        let mut collector = SpanCollector::new(query, &self.dictionary, &minutes);
        let (mut from, to) = SpanCollector::pages_us(query);
        loop {
            let pages = pages(&mut transaction, number, query.resolution, from..to).await?;
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
        let (Found { number, pending }, mut transaction) = self.find(vehicle).await?;
        let mut latest = LatestCollector::default();
        latest.add(&self.pending_minutes(&mut transaction, pending).await?);
        let mut from = i64::MIN;
        loop {
            let pages = pages(&mut transaction, number, Resolution::Day, from..i64::MAX).await?;
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
        let Some(number) = self.source_number(source).await? else {
            return Ok(vec![Sequence::default(); vehicles.len()]);
        };
        let mut known: HashMap<&VehicleId, Sequence> = HashMap::new();
        {
            let state = self.state();
            for id in vehicles {
                if let Some(sequence) = state.vehicle(id).and_then(|(_, vehicle)| vehicle.sequence(number)) {
                    known.insert(id, sequence.clone());
                }
            }
        }
        let missing: Vec<&str> = vehicles.iter().filter(|id| !known.contains_key(id)).map(VehicleId::as_str).collect();
        let mut stored: HashMap<String, Sequence> = HashMap::new();
        if !missing.is_empty() {
            let rows = sqlx::query(
                "SELECT v.name, q.data FROM vehicle v JOIN sequence q ON q.vehicle = v.id AND q.source = ?1 \
                 WHERE v.name IN (SELECT value FROM json_each(?2))",
            )
            .bind(number)
            .bind(json_texts(&missing))
            .fetch_all(&self.reads)
            .await
            .map_err(failed(READ))?;
            for row in &rows {
                stored.insert(get(row, 0)?, sequence_of(get(row, 1)?)?);
            }
        }
        let sequence = |id: &VehicleId| known.get(id).or_else(|| stored.get(id.as_str())).cloned().unwrap_or_default();
        Ok(vehicles.iter().map(sequence).collect())
    }

    /// A source's number; memory may have forgotten it though it has sequences of it.
    async fn source_number(&self, source: &Source) -> Result<Option<i64>, TelemetryError> {
        let known = self.state().sources.get(source).map(|source| source.number);
        if known.is_some() {
            return Ok(known);
        }
        sqlx::query_scalar("SELECT id FROM source WHERE gateway = ?1 AND boot = ?2")
            .bind(source.gateway.as_str())
            .bind(source.boot.as_str())
            .fetch_optional(&self.reads)
            .await
            .map_err(failed(READ))
    }

    pub(super) async fn read_vehicles(
        &self,
        after: Option<&VehicleId>,
        limit: u32,
    ) -> Result<Vec<VehicleSummary>, TelemetryError> {
        let rows = sqlx::query(
            "SELECT id, name, readings, first_us, last_us FROM vehicle WHERE name > ?1 ORDER BY name LIMIT ?2",
        )
        .bind(after.map_or("", VehicleId::as_str))
        .bind(limit)
        .fetch_all(&self.reads)
        .await
        .map_err(failed(READ))?;
        let rows: Vec<_> = rows.iter().map(vehicle_of).collect::<Result<_, _>>()?;
        self.summaries(rows).await
    }

    pub(super) async fn read_vehicle(&self, vehicle: &VehicleId) -> Result<VehicleSummary, TelemetryError> {
        let row = sqlx::query("SELECT id, name, readings, first_us, last_us FROM vehicle WHERE name = ?1")
            .bind(vehicle.as_str())
            .fetch_optional(&self.reads)
            .await
            .map_err(failed(READ))?
            .ok_or_else(|| unknown(vehicle))?;
        self.summaries(vec![vehicle_of(&row)?]).await?.pop().ok_or_else(|| unknown(vehicle))
    }

    async fn summaries(&self, rows: Vec<(i64, VehicleId, Stats)>) -> Result<Vec<VehicleSummary>, TelemetryError> {
        let sequences = self.all_sequences(&rows.iter().map(|(number, ..)| *number).collect::<Vec<_>>()).await?;
        let state = self.state();
        let summary = |(number, vehicle, stored): (i64, VehicleId, Stats)| {
            // What is counted only grows: of two moments, the later one has more.
            let known = state.vehicles.get(&number).map(|vehicle| vehicle.stats);
            let stats = known.filter(|known| known.readings > stored.readings).unwrap_or(stored);
            let of_vehicle = || sequences.iter().filter(|((of, _), _)| *of == number).map(|(_, sequence)| sequence);
            let expected: u64 = of_vehicle().map(Sequence::highest).sum();
            let missing: u64 = of_vehicle().map(Sequence::missing).sum();
            VehicleSummary {
                vehicle,
                readings: stats.readings.unsigned_abs(),
                span_us: stats.span_us,
                batches_received: expected - missing,
                batches_expected: expected,
            }
        };
        Ok(rows.into_iter().map(summary).collect())
    }

    pub(super) async fn read_gaps(
        &self,
        vehicle: &VehicleId,
        after: Option<&Source>,
        limit: u32,
    ) -> Result<Vec<SourceSequence>, TelemetryError> {
        let (Found { number, .. }, transaction) = self.find(vehicle).await?;
        drop(transaction);
        let mut sequences = self.all_sequences(&[number]).await?;
        sequences.retain(|_, sequence| !sequence.gaps().is_empty());
        let sources: Vec<i64> = sequences.keys().map(|(_, source)| *source).collect();
        let rows = sqlx::query(
            "SELECT id, gateway, boot FROM source WHERE id IN (SELECT value FROM json_each(?1)) \
             AND (gateway, boot) > (?2, ?3) ORDER BY gateway, boot LIMIT ?4",
        )
        .bind(json(&sources))
        // An id is never empty.
        .bind(after.map_or("", |source| source.gateway.as_str()))
        .bind(after.map_or("", |source| source.boot.as_str()))
        .bind(limit)
        .fetch_all(&self.reads)
        .await
        .map_err(failed(READ))?;
        let mut gaps = Vec::with_capacity(rows.len());
        for row in &rows {
            let name =
                |index| VehicleId::new(get::<&str>(row, index)?).map_err(|e| TelemetryError::malformed("a source", e));
            let source = Source { gateway: name(1)?, boot: name(2)? };
            gaps.extend(sequences.remove(&(number, get(row, 0)?)).map(|sequence| SourceSequence { source, sequence }));
        }
        Ok(gaps)
    }

    /// The sequences of vehicles, by vehicle and source.
    async fn all_sequences(&self, vehicles: &[i64]) -> Result<HashMap<(i64, i64), Sequence>, TelemetryError> {
        let mut sequences: HashMap<(i64, i64), Sequence> = HashMap::new();
        {
            let state = self.state();
            for number in vehicles {
                let known = state.vehicles.get(number).map(|vehicle| &vehicle.sequences);
                // An empty one only says that there is none in the file.
                let known = known.into_iter().flatten().filter(|(_, sequence)| sequence.highest() > 0);
                sequences.extend(known.map(|(source, sequence)| ((*number, *source), sequence.clone())));
            }
        }
        let rows = sqlx::query(
            "SELECT vehicle, source, data FROM sequence WHERE vehicle IN (SELECT value FROM json_each(?1))",
        )
        .bind(json(vehicles))
        .fetch_all(&self.reads)
        .await
        .map_err(failed(READ))?;
        for row in &rows {
            let stored = sequence_of(get(row, 2)?)?;
            let received = |sequence: &Sequence| sequence.highest() - sequence.missing();
            let known = sequences.entry((get(row, 0)?, get(row, 1)?)).or_default();
            if received(&stored) > received(known) {
                *known = stored;
            }
        }
        Ok(sequences)
    }
}

async fn chunks_after(
    connection: &mut SqliteConnection,
    vehicle: i64,
    query: &Query,
    after: (i64, i64),
) -> Result<Vec<SqliteRow>, TelemetryError> {
    let start = Collector::start_us(query);
    sqlx::query(
        "SELECT id, first_us, data FROM chunk WHERE vehicle = ?1 AND first_us >= ?2 AND first_us < ?3 \
         AND last_us >= ?4 AND (first_us, id) > (?5, ?6) ORDER BY first_us, id LIMIT ?7",
    )
    .bind(vehicle)
    // A chunk is of one day.
    .bind(Resolution::Day.start_us(start).max(after.0))
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
    connection: &mut SqliteConnection,
    vehicle: i64,
    resolution: Resolution,
    starts_us: Range<i64>,
) -> Result<Vec<(PageKey, RollupPage)>, TelemetryError> {
    let rows = sqlx::query(
        "SELECT start_us, data FROM rollup WHERE vehicle = ?1 AND resolution = ?2 AND start_us >= ?3 AND start_us < ?4 \
         ORDER BY start_us LIMIT ?5",
    )
    .bind(vehicle)
    .bind(resolution.number())
    .bind(starts_us.start)
    .bind(starts_us.end)
    .bind(ROWS)
    .fetch_all(connection)
    .await
    .map_err(failed(READ))?;
    let page = |row: &SqliteRow| {
        let key = PageKey { resolution, start_us: get(row, 0)? };
        Ok((key, RollupPage::from_bytes(get(row, 1)?, key)?))
    };
    rows.iter().map(page).collect()
}

fn get<'r, T>(row: &'r SqliteRow, column: impl sqlx::ColumnIndex<SqliteRow>) -> Result<T, TelemetryError>
where
    T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
{
    row.try_get(column).map_err(failed(READ))
}

fn unknown(vehicle: &VehicleId) -> TelemetryError {
    TelemetryError::UnknownVehicle { vehicle: vehicle.to_string() }
}

/// A list that SQLite's `json_each` takes apart; ids are printable ASCII.
fn json_texts(texts: &[&str]) -> String {
    let quoted: Vec<String> =
        texts.iter().map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))).collect();
    format!("[{}]", quoted.join(","))
}
