//! A commit.

use std::{collections::HashMap, sync::Arc};

use ev_domain::{Readings, Source, VehicleId};
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteConnection};

use super::{
    SqliteTelemetryStore, Writer, failed,
    open::{sequence_of, vehicle_of},
    quarantine,
    state::{Pending, SourceState, State, Stats, Vehicle, What},
};
use crate::{
    Admission, Append, Appended, Quarantined, RefusedBatch, Sequence, TelemetryError,
    codec::{Entry, Payload, encode_chunk, put_entry},
    pieces::{by_day, span_us},
};

/// Chunks that are inserted by one statement.
pub(super) const CHUNKS_PER_STATEMENT: usize = 32;

/// A batch, ready to be written.
struct Prepared {
    chunks: Vec<Chunk>,
    span_us: Option<(i64, i64)>,
}

/// A chunk, ready to be written.
pub(super) struct Chunk {
    pub(super) id: i64,
    pub(super) vehicle: i64,
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    pub(super) day: i64,
    pub(super) data: Vec<u8>,
}

/// What a transaction writes, and what memory is told when it has.
#[derive(Default)]
struct Commit {
    journal: i64,
    outcomes: Vec<Appended>,
    vehicles: HashMap<VehicleId, i64>,
    sources: HashMap<Source, SourceState>,
    sequences: HashMap<(i64, i64), Sequence>,
    entries: Vec<Entry<Stored>>,
    chunks: Vec<Chunk>,
    data: Vec<u8>,
}

/// Readings of an entry: shared with the state, once they are written.
type Stored = Arc<Readings>;

impl SqliteTelemetryStore {
    pub(super) async fn append_group(
        &self,
        group: &[Append],
        rejects: &[Quarantined],
    ) -> Result<Vec<Appended>, TelemetryError> {
        if group.is_empty() && rejects.is_empty() {
            return Ok(Vec::new());
        }
        self.wait_for_room().await?;
        let prepared = self.prepare(group)?;
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        self.fetch(&mut writer.connection, group).await?;
        let mut commit = self.decide(group, prepared);
        if !commit.entries.is_empty() {
            commit.data = self.journal_row(&mut writer, &commit.entries)?;
        }
        if !commit.entries.is_empty() || !rejects.is_empty() {
            self.write(&mut writer, &commit, rejects).await?;
        }
        Ok(self.written(commit))
    }

    /// Packs what becomes chunks, before the writer is taken.
    fn prepare(&self, group: &[Append]) -> Result<Vec<Prepared>, TelemetryError> {
        let mut packer = self.packer.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut prepare = |append: &Append| {
            let readings = &append.batch.readings;
            let span_us = span_us(&readings.times_us);
            if readings.len() < self.options.chunk_readings_min {
                return Ok(Prepared { chunks: Vec::new(), span_us });
            }
            let mut chunk = |first_us, last_us, day, readings: &Readings| {
                let data = encode_chunk(&mut packer, readings, &self.dictionary)?;
                Ok(Chunk { id: 0, vehicle: 0, first_us, last_us, day, data })
            };
            let chunks = match span_us {
                Some((first, last)) if crate::pieces::day(first) == crate::pieces::day(last) => {
                    vec![chunk(first, last, crate::pieces::day(first), readings)?]
                }
                _ => {
                    let pieces = by_day(readings);
                    let chunks =
                        pieces.iter().map(|piece| chunk(piece.first_us, piece.last_us, piece.day, &piece.readings));
                    chunks.collect::<Result<_, TelemetryError>>()?
                }
            };
            Ok(Prepared { chunks, span_us })
        };
        group.iter().map(&mut prepare).collect()
    }

    /// Reads what memory does not have of the group's vehicles, sources and sequences.
    async fn fetch(&self, connection: &mut SqliteConnection, group: &[Append]) -> Result<(), TelemetryError> {
        for Append { source, batch, .. } in group {
            if !self.state().sources.contains_key(source)
                && let Some(found) = find_source(connection, source).await?
            {
                self.state().sources.insert(source.clone(), found);
            }
            if !self.state().numbers.contains_key(&batch.vehicle)
                && let Some((number, stats)) = find_vehicle(connection, &batch.vehicle).await?
            {
                self.state().insert(number, Vehicle::new(batch.vehicle.clone(), stats));
            }
            if let Some((vehicle, source)) = self.unknown_sequence(source, &batch.vehicle) {
                let sequence = find_sequence(connection, vehicle, source).await?.unwrap_or_default();
                if let Some(vehicle) = self.state().vehicles.get_mut(&vehicle) {
                    vehicle.set_sequence(source, sequence);
                }
            }
        }
        Ok(())
    }

    /// A known vehicle and source of which memory does not know the sequence.
    fn unknown_sequence(&self, source: &Source, vehicle: &VehicleId) -> Option<(i64, i64)> {
        let state = self.state();
        let source = state.sources.get(source)?.number;
        let (number, vehicle) = state.vehicle(vehicle)?;
        vehicle.sequence(source).is_none().then_some((number, source))
    }

    /// Which batches are new, and what is to be written. Changes nothing but numbers that are given out.
    fn decide(&self, group: &[Append], prepared: Vec<Prepared>) -> Commit {
        let mut state = self.state();
        let mut commit = Commit { journal: state.last_journal + 1, ..Commit::default() };
        for (append, prepared) in group.iter().zip(prepared) {
            let outcome = self.decide_one(&mut state, &mut commit, append, prepared);
            commit.outcomes.push(outcome);
        }
        commit
    }

    fn decide_one(&self, state: &mut State, commit: &mut Commit, append: &Append, prepared: Prepared) -> Appended {
        let Append { source, batch, received_us } = append;
        let known = state.numbers.get(&batch.vehicle).or_else(|| commit.vehicles.get(&batch.vehicle)).copied();
        let is_new_vehicle = known.is_none();
        if is_new_vehicle && state.vehicle_count + commit.vehicles.len() as u64 >= self.options.vehicles_max {
            return Err(RefusedBatch::TooManyVehicles { max: self.options.vehicles_max });
        }
        let number = known.unwrap_or(state.next_vehicle);
        let known_source = state.sources.get(source).or_else(|| commit.sources.get(source)).map(|source| source.number);
        let source_number = known_source.unwrap_or(state.next_source);
        let stored = || state.vehicles.get(&number).and_then(|vehicle| vehicle.sequence(source_number)).cloned();
        let key = (number, source_number);
        let mut sequence = commit.sequences.get(&key).cloned().or_else(stored).unwrap_or_default();
        let admission =
            sequence.admit(batch.sequence, &self.options.sequence_limits).map_err(RefusedBatch::Sequence)?;
        if admission == Admission::Duplicate {
            return Ok(admission);
        }
        commit.sequences.insert(key, sequence);
        if is_new_vehicle {
            state.next_vehicle += 1;
            commit.vehicles.insert(batch.vehicle.clone(), number);
        }
        if known_source.is_none() {
            state.next_source += 1;
            let seen = SourceState { number: source_number, seen_us: *received_us, dirty: false };
            commit.sources.insert(source.clone(), seen);
        }
        let payload = payload(state, commit, number, &batch.readings, prepared);
        commit.entries.push(Entry { vehicle: number, source: source_number, sequence: batch.sequence, payload });
        if let Some(source) = state.sources.get_mut(source)
            && source.seen_us < *received_us
        {
            (source.seen_us, source.dirty) = (*received_us, true);
        }
        Ok(admission)
    }

    fn journal_row(&self, writer: &mut Writer, entries: &[Entry<Stored>]) -> Result<Vec<u8>, TelemetryError> {
        let fill = |raw: &mut Vec<u8>| {
            entries.iter().try_for_each(|entry| {
                let Entry { vehicle, source, sequence, payload } = entry;
                let payload = match payload {
                    Payload::Inline(readings) => Payload::Inline(&**readings),
                    Payload::Chunks { ids, readings, first_us, last_us } => Payload::Chunks {
                        ids: ids.clone(),
                        readings: *readings,
                        first_us: *first_us,
                        last_us: *last_us,
                    },
                };
                let entry = Entry { vehicle: *vehicle, source: *source, sequence: *sequence, payload };
                put_entry(raw, &entry, &self.dictionary)
            })
        };
        writer.packer.pack(fill).map_err(TelemetryError::invalid_batch)
    }

    /// The transaction. When it returns, memory and file are told apart by nothing but `commit`, or the writer is left
    /// unsettled.
    async fn write(&self, writer: &mut Writer, commit: &Commit, rejects: &[Quarantined]) -> Result<(), TelemetryError> {
        writer.unsettled = true;
        let begin = writer.begin_synced();
        let written = transaction(&mut writer.connection, begin, commit, rejects).await;
        let Err(error) = written else {
            (writer.unsettled, writer.relaxed) = (false, false);
            writer.rejects_untrimmed += rejects.len();
            return Ok(());
        };
        // A commit that failed may have happened, and a transaction that failed may have ended by itself.
        let _ = sqlx::query("ROLLBACK").execute(&mut writer.connection).await;
        let found = sqlx::query("SELECT 1 FROM journal WHERE id = ?1")
            .bind(commit.journal)
            .fetch_optional(&mut writer.connection)
            .await
            .map_err(failed("see what was stored"))?;
        writer.unsettled = false;
        if found.is_some() { Ok(()) } else { Err(failed("store readings")(error)) }
    }

    /// Takes into memory what was written.
    fn written(&self, commit: Commit) -> Vec<Appended> {
        if commit.entries.is_empty() {
            return commit.outcomes;
        }
        let mut state = self.state();
        state.vehicle_count += commit.vehicles.len() as u64;
        for (id, number) in commit.vehicles {
            state.insert(number, Vehicle::new(id, Stats::default()));
        }
        state.sources.extend(commit.sources);
        for ((vehicle, source), sequence) in commit.sequences {
            if let Some(vehicle) = state.vehicles.get_mut(&vehicle) {
                vehicle.set_sequence(source, sequence);
            }
        }
        state.push_journal(commit.journal, commit.data.len());
        for Entry { vehicle: number, payload, .. } in commit.entries {
            let (readings, span_us, what) = match payload {
                Payload::Inline(readings) if readings.is_empty() => (0, None, What::Number),
                Payload::Inline(readings) => {
                    (readings.len() as u64, span_us(&readings.times_us), What::Readings(readings))
                }
                Payload::Chunks { ids, readings, first_us, last_us } => {
                    (readings, Some((first_us, last_us)), What::Chunks(ids, readings))
                }
            };
            if let Some(vehicle) = state.vehicles.get_mut(&number) {
                vehicle.stats.add(readings, span_us);
            }
            state.push(number, Pending { journal: commit.journal, what }, self.options.flush_readings);
        }
        commit.outcomes
    }
}

fn payload(
    state: &mut State,
    commit: &mut Commit,
    vehicle: i64,
    readings: &Readings,
    prepared: Prepared,
) -> Payload<Stored> {
    let Prepared { chunks, span_us } = prepared;
    match span_us {
        Some((first_us, last_us)) if !chunks.is_empty() => {
            let mut ids = Vec::with_capacity(chunks.len());
            for mut chunk in chunks {
                (chunk.id, chunk.vehicle) = (state.next_chunk, vehicle);
                state.next_chunk += 1;
                ids.push(chunk.id);
                commit.chunks.push(chunk);
            }
            Payload::Chunks { ids, readings: readings.len() as u64, first_us, last_us }
        }
        _ => Payload::Inline(Arc::new(readings.clone())),
    }
}

/// All that is usual goes to SQLite's thread at once: each way there and back costs a wait for a processor.
async fn transaction(
    connection: &mut SqliteConnection,
    begin: &'static str,
    commit: &Commit,
    rejects: &[Quarantined],
) -> Result<(), sqlx::Error> {
    let mut script = QueryBuilder::<Sqlite>::new("");
    if commit.sources.is_empty() && commit.vehicles.is_empty() && rejects.is_empty() {
        script.push(begin);
    } else {
        sqlx::raw_sql(begin).execute(&mut *connection).await?;
        insert_new(connection, commit).await?;
        quarantine::insert(connection, rejects).await?;
    }
    for chunks in commit.chunks.chunks(CHUNKS_PER_STATEMENT) {
        push_chunks(&mut script, chunks);
    }
    if !commit.entries.is_empty() {
        script.push("INSERT INTO journal (id, data) VALUES (");
        script.push_bind(commit.journal).push(", ").push_bind(&commit.data[..]).push("); ");
    }
    script.push("COMMIT");
    script.build().execute(connection).await.map(drop)
}

async fn insert_new(connection: &mut SqliteConnection, commit: &Commit) -> Result<(), sqlx::Error> {
    for (source, SourceState { number, seen_us, .. }) in &commit.sources {
        sqlx::query("INSERT INTO source (id, gateway, boot, seen_us) VALUES (?1, ?2, ?3, ?4)")
            .bind(number)
            .bind(source.gateway.as_str())
            .bind(source.boot.as_str())
            .bind(seen_us)
            .execute(&mut *connection)
            .await?;
    }
    for (id, number) in &commit.vehicles {
        sqlx::query(
            "INSERT INTO vehicle (id, name, readings, first_us, last_us, journal) VALUES (?1, ?2, 0, 0, 0, ?3)",
        )
        .bind(number)
        .bind(id.as_str())
        .bind(commit.journal - 1)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Inserts chunks, many in a statement.
pub(super) fn push_chunks(script: &mut QueryBuilder<Sqlite>, chunks: &[Chunk]) {
    script.push("INSERT INTO chunk (id, vehicle, first_us, last_us, day, data) ");
    script.push_values(chunks, |mut row, chunk| {
        row.push_bind(chunk.id)
            .push_bind(chunk.vehicle)
            .push_bind(chunk.first_us)
            .push_bind(chunk.last_us)
            .push_bind(chunk.day)
            .push_bind(&chunk.data[..]);
    });
    script.push("; ");
}

async fn find_source(
    connection: &mut SqliteConnection,
    source: &Source,
) -> Result<Option<SourceState>, TelemetryError> {
    let doing = "read a source";
    let row = sqlx::query("SELECT id, seen_us FROM source WHERE gateway = ?1 AND boot = ?2")
        .bind(source.gateway.as_str())
        .bind(source.boot.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failed(doing))?;
    let found = |row: sqlx::sqlite::SqliteRow| {
        Ok(SourceState { number: row.try_get(0)?, seen_us: row.try_get(1)?, dirty: false })
    };
    row.map(found).transpose().map_err(failed(doing))
}

pub(super) async fn find_vehicle(
    connection: &mut SqliteConnection,
    vehicle: &VehicleId,
) -> Result<Option<(i64, Stats)>, TelemetryError> {
    let row = sqlx::query("SELECT id, name, readings, first_us, last_us FROM vehicle WHERE name = ?1")
        .bind(vehicle.as_str())
        .fetch_optional(connection)
        .await
        .map_err(failed("read a vehicle"))?;
    row.as_ref().map(|row| vehicle_of(row).map(|(number, _, stats)| (number, stats))).transpose()
}

pub(super) async fn find_sequence(
    connection: &mut SqliteConnection,
    vehicle: i64,
    source: i64,
) -> Result<Option<Sequence>, TelemetryError> {
    let doing = "read a sequence";
    let row = sqlx::query("SELECT data FROM sequence WHERE vehicle = ?1 AND source = ?2")
        .bind(vehicle)
        .bind(source)
        .fetch_optional(connection)
        .await
        .map_err(failed(doing))?;
    row.map(|row| sequence_of(row.try_get(0).map_err(failed(doing))?)).transpose()
}
