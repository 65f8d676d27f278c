//! Flushing vehicles: small batches become chunks, aggregates take in what is new, all of it in one transaction with
//! the journal row up to which it is so.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use ev_domain::Readings;
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteConnection};

use super::{
    SqliteTelemetryStore,
    append::{CHUNKS_PER_STATEMENT, Chunk, push_chunks},
    failed,
    open::json,
    state::{Pending, State, Stats, What},
};
use crate::{
    TelemetryError,
    codec::{Dictionary, Packer, decode_chunk, encode_chunk},
    pieces::{Piece, merge},
    rollup::{PageKey, RollupPage, Spans, add_readings, add_stored, paged},
};

/// Vehicles and readings of one transaction: a few milliseconds for which a commit may have to wait.
const VEHICLES_MAX: usize = 16;
const READINGS_MAX: usize = 8_192;
/// In times of what should be in memory or in the journal: from where on commits are slowed down, by up to so much, and
/// from where on they stop.
const SLOW_FILL: f64 = 1.5;
const STOP_FILL: f64 = 2.0;
const PAUSE_MAX: Duration = Duration::from_millis(10);
/// Pages that are written by one statement.
const PAGES_PER_STATEMENT: usize = 32;
/// Rows of the journal that are deleted by one transaction.
const JOURNAL_ROWS: usize = 256;

/// A vehicle at a moment.
struct Snapshot {
    number: i64,
    stats: Stats,
    through: i64,
    sequences: Vec<(i64, Vec<u8>)>,
    pending: Vec<Pending>,
}

/// What a transaction writes.
#[derive(Default)]
struct Flush {
    snapshots: Vec<Snapshot>,
    chunks: Vec<Chunk>,
    pages: Vec<(i64, PageKey, Vec<u8>)>,
    seen: Vec<(i64, i64)>,
}

impl SqliteTelemetryStore {
    /// Flushes everything and empties the journal.
    pub(super) async fn flush_all(&self) -> Result<(), TelemetryError> {
        let through = self.state().last_journal;
        loop {
            let mut background = self.background.lock().await;
            let flushed = self.flush_slice(|_, _| true).await?;
            self.delete_journal().await?;
            let done = self.state().journal.front().is_none_or(|(first, _)| *first > through);
            if done || !flushed {
                return background.run(self).await;
            }
        }
    }

    /// From one and a half times as much in memory or in the journal as should be, a commit waits a little, and more the
    /// more it is: commits come as fast as vehicles are flushed, instead of stopping for each. From twice as much on,
    /// it makes room itself.
    pub(super) async fn wait_for_room(&self) -> Result<(), TelemetryError> {
        let excess = (self.fill() - SLOW_FILL) / (STOP_FILL - SLOW_FILL);
        if excess > 0.0 {
            tokio::time::sleep(PAUSE_MAX.mul_f64(excess.min(1.0))).await;
        }
        while self.fill() > STOP_FILL {
            let _one_at_a_time = self.background.lock().await;
            if self.fill() <= STOP_FILL {
                break;
            }
            let flushed = self.flush_slice(|_, _| true).await?;
            let deleted = self.delete_journal().await?;
            if !flushed && !deleted {
                break;
            }
        }
        Ok(())
    }

    /// How much is in memory or in the journal, in times of what should be.
    fn fill(&self) -> f64 {
        self.fill_of(&self.state())
    }

    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    fn fill_of(&self, state: &State) -> f64 {
        let readings = state.waiting_readings as f64 / self.options.waiting_readings_max.max(1) as f64;
        readings.max(state.journal_bytes as f64 / self.options.journal_bytes_max.max(1) as f64)
    }

    /// Flushes what is due; whether there was anything.
    pub(super) async fn flush_due(&self) -> Result<bool, TelemetryError> {
        let now = Instant::now();
        let flush_after = self.options.flush_after;
        self.flush_slice(|state, since| {
            now.saturating_duration_since(since) >= flush_after || self.fill_of(state) > 1.0
        })
        .await
    }

    async fn flush_slice(&self, due: impl Fn(&State, Instant) -> bool) -> Result<bool, TelemetryError> {
        let snapshots = self.snapshots(due);
        if snapshots.is_empty() {
            return Ok(false);
        }
        let mut flush = self.build(snapshots).await?;
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        self.number(&mut flush);
        writer.relax().await.map_err(failed("flush vehicles"))?;
        writer.unsettled = true;
        // What fails leaves the writer unsettled: memory is made again from the file, and nothing is lost.
        write(&mut writer.connection, &flush).await.map_err(failed("flush vehicles"))?;
        {
            let mut state = self.state();
            for Snapshot { number, through, .. } in &flush.snapshots {
                state.flushed(*number, *through);
            }
            state.shrink(self.options.vehicles_cached_max);
        }
        writer.unsettled = false;
        Ok(true)
    }

    fn snapshots(&self, due: impl Fn(&State, Instant) -> bool) -> Vec<Snapshot> {
        let mut state = self.state();
        let mut snapshots: Vec<Snapshot> = Vec::new();
        let mut readings = 0;
        while snapshots.len() < VEHICLES_MAX && readings < READINGS_MAX {
            let taken = |number| snapshots.iter().any(|snapshot| snapshot.number == number);
            let Some(number) = state.pop_due(&due, taken) else { break };
            let through = state.last_journal;
            let Some(vehicle) = state.vehicles.get(&number) else { break };
            readings += vehicle.pending_readings;
            snapshots.push(Snapshot {
                number,
                stats: vehicle.stats,
                through,
                sequences: vehicle.sequences.iter().map(|(source, sequence)| (*source, sequence.to_bytes())).collect(),
                pending: vehicle.pending.clone(),
            });
        }
        snapshots
    }

    /// Reads what is there already, and computes what is to be written on a thread that may be busy.
    async fn build(&self, snapshots: Vec<Snapshot>) -> Result<Flush, TelemetryError> {
        let mut stored = HashMap::new();
        for snapshot in &snapshots {
            for (id, data) in self.pending_chunks(snapshot).await? {
                stored.insert(id, data);
            }
        }
        let dictionary = self.dictionary.clone();
        let work = move || {
            let spans = snapshots.iter().map(|snapshot| spans_of(snapshot, &stored, &dictionary)).collect();
            (snapshots, spans)
        };
        let (snapshots, spans): (Vec<Snapshot>, Result<Vec<Spans>, TelemetryError>) = busy(work).await?;
        let spans = spans?;
        let wanted: Vec<(i64, PageKey)> = snapshots
            .iter()
            .zip(&spans)
            .flat_map(|(snapshot, spans)| paged(spans).into_keys().map(|key| (snapshot.number, key)))
            .collect();
        let pages = self.pages(wanted).await?;
        let dictionary = self.dictionary.clone();
        busy(move || finish(snapshots, &spans, &pages, &dictionary)).await?
    }

    /// Gives chunks their numbers, which only the holder of the writer may.
    fn number(&self, flush: &mut Flush) {
        let mut state = self.state();
        for chunk in &mut flush.chunks {
            chunk.id = state.next_chunk;
            state.next_chunk += 1;
        }
        for source in state.sources.values_mut().filter(|source| source.dirty).take(JOURNAL_ROWS) {
            source.dirty = false;
            flush.seen.push((source.number, source.seen_us));
        }
    }

    async fn pending_chunks(&self, snapshot: &Snapshot) -> Result<Vec<(i64, Vec<u8>)>, TelemetryError> {
        let ids = chunk_ids(&snapshot.pending);
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let doing = "read chunks";
        let rows = sqlx::query("SELECT id, data FROM chunk WHERE id IN (SELECT value FROM json_each(?1))")
            .bind(json(&ids))
            .fetch_all(&self.reads)
            .await
            .map_err(failed(doing))?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect::<Result<_, _>>().map_err(failed(doing))
    }

    /// The pages of these that are there, read at once.
    async fn pages(&self, wanted: Vec<(i64, PageKey)>) -> Result<HashMap<(i64, PageKey), Vec<u8>>, TelemetryError> {
        let doing = "read aggregates";
        let place = |index: usize, (vehicle, key): &(i64, PageKey)| {
            format!("[{index},{vehicle},{},{}]", key.resolution.number(), key.start_us)
        };
        let places: Vec<String> = wanted.iter().enumerate().map(|(index, one)| place(index, one)).collect();
        let rows = sqlx::query(
            "SELECT place.value ->> 0, rollup.data FROM json_each(?1) AS place CROSS JOIN rollup \
             ON rollup.vehicle = place.value ->> 1 AND rollup.resolution = place.value ->> 2 \
             AND rollup.start_us = place.value ->> 3",
        )
        .bind(format!("[{}]", places.join(",")))
        .fetch_all(&self.reads)
        .await
        .map_err(failed(doing))?;
        let mut pages = HashMap::with_capacity(rows.len());
        for row in &rows {
            let (index, data): (i64, Vec<u8>) =
                (row.try_get(0).map_err(failed(doing))?, row.try_get(1).map_err(failed(doing))?);
            if let Some(one) = usize::try_from(index).ok().and_then(|index| wanted.get(index)) {
                pages.insert(*one, data);
            }
        }
        Ok(pages)
    }

    /// Deletes rows of the journal that all vehicles are past; whether there were any.
    pub(super) async fn delete_journal(&self) -> Result<bool, TelemetryError> {
        let through = {
            let state = self.state();
            let done = state.journal_done();
            let rows = state.journal.iter().take(JOURNAL_ROWS).map(|(id, _)| *id);
            rows.take_while(|id| done.is_some_and(|done| *id <= done)).last()
        };
        let Some(through) = through else { return Ok(false) };
        let mut writer = self.writer.lock().await;
        self.settle(&mut writer).await?;
        writer.relax().await.map_err(failed("shorten the telemetry journal"))?;
        sqlx::query("DELETE FROM journal WHERE id <= ?1")
            .bind(through)
            .execute(&mut writer.connection)
            .await
            .map_err(failed("shorten the telemetry journal"))?;
        self.state().journal_deleted(through);
        Ok(true)
    }
}

/// Runs work that keeps a thread busy.
pub(super) async fn busy<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, TelemetryError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(TelemetryError::ShuttingDown),
        },
    }
}

/// Chunks that are not in the aggregates yet.
pub(super) fn chunk_ids(pending: &[Pending]) -> Vec<i64> {
    let ids = |pending: &Pending| if let What::Chunks(ids, _) = &pending.what { ids.clone() } else { Vec::new() };
    pending.iter().flat_map(ids).collect()
}

/// Small batches that are not in chunks yet.
pub(super) fn small_batches(pending: &[Pending]) -> Vec<&Readings> {
    pending
        .iter()
        .filter_map(|pending| match &pending.what {
            What::Readings(readings) => Some(&**readings),
            What::Number | What::Chunks(..) => None,
        })
        .collect()
}

fn spans_of(
    snapshot: &Snapshot,
    stored: &HashMap<i64, Vec<u8>>,
    dictionary: &Dictionary,
) -> Result<Spans, TelemetryError> {
    let mut spans = Spans::new();
    for id in chunk_ids(&snapshot.pending) {
        let data =
            stored.get(&id).ok_or_else(|| TelemetryError::malformed("the journal", "a chunk that is not there"))?;
        add_stored(&mut spans, &decode_chunk(data)?);
    }
    for readings in small_batches(&snapshot.pending) {
        add_readings(&mut spans, readings, dictionary);
    }
    Ok(spans)
}

fn finish(
    snapshots: Vec<Snapshot>,
    spans: &[Spans],
    pages: &HashMap<(i64, PageKey), Vec<u8>>,
    dictionary: &Dictionary,
) -> Result<Flush, TelemetryError> {
    let mut packer = Packer::new().map_err(|error| TelemetryError::storage("start zstd", error))?;
    let mut flush = Flush::default();
    for (snapshot, spans) in snapshots.iter().zip(spans) {
        for Piece { first_us, last_us, day, readings } in merge(&small_batches(&snapshot.pending)) {
            let data = encode_chunk(&mut packer, &readings, dictionary)?;
            flush.chunks.push(Chunk { id: 0, vehicle: snapshot.number, first_us, last_us, day, data });
        }
        for (key, spans) in paged(spans) {
            let mut page = match pages.get(&(snapshot.number, key)) {
                Some(data) => RollupPage::from_bytes(data, key)?,
                None => RollupPage::default(),
            };
            page.merge(&spans);
            flush.pages.push((snapshot.number, key, page.to_bytes(&mut packer, key)?));
        }
    }
    flush.snapshots = snapshots;
    Ok(flush)
}

async fn write(connection: &mut SqliteConnection, flush: &Flush) -> Result<(), sqlx::Error> {
    // Begun with the first statement and committed with the last: each way to SQLite's thread costs a wait.
    let mut begin = "BEGIN IMMEDIATE; ";
    for chunks in flush.chunks.chunks(CHUNKS_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(std::mem::take(&mut begin));
        push_chunks(&mut query, chunks);
        query.build().execute(&mut *connection).await?;
    }
    for pages in flush.pages.chunks(PAGES_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(std::mem::take(&mut begin));
        query.push("INSERT OR REPLACE INTO rollup (vehicle, resolution, start_us, data) ");
        query.push_values(pages, |mut row, (vehicle, key, data)| {
            row.push_bind(vehicle).push_bind(key.resolution.number()).push_bind(key.start_us).push_bind(&data[..]);
        });
        query.build().execute(&mut *connection).await?;
    }
    let sequences: Vec<_> = flush
        .snapshots
        .iter()
        .flat_map(|snapshot| snapshot.sequences.iter().map(|(source, data)| (snapshot.number, *source, data)))
        .collect();
    for sequences in sequences.chunks(PAGES_PER_STATEMENT) {
        let mut query = QueryBuilder::<Sqlite>::new(std::mem::take(&mut begin));
        query.push("INSERT OR REPLACE INTO sequence (vehicle, source, data) ");
        query.push_values(sequences, |mut row, (vehicle, source, data)| {
            row.push_bind(vehicle).push_bind(source).push_bind(&data[..]);
        });
        query.build().execute(&mut *connection).await?;
    }
    if !flush.seen.is_empty() {
        sqlx::raw_sql(std::mem::take(&mut begin)).execute(&mut *connection).await?;
    }
    for (source, seen_us) in &flush.seen {
        sqlx::query("UPDATE source SET seen_us = ?2 WHERE id = ?1 AND seen_us < ?2")
            .bind(source)
            .bind(seen_us)
            .execute(&mut *connection)
            .await?;
    }
    let mut query = QueryBuilder::<Sqlite>::new(begin);
    query.push("WITH new (id, readings, first_us, last_us, journal) AS (");
    query.push_values(&flush.snapshots, |mut row, Snapshot { number, stats, through, .. }| {
        let (first_us, last_us) = stats.span_us.unwrap_or_default();
        row.push_bind(number).push_bind(stats.readings).push_bind(first_us).push_bind(last_us).push_bind(through);
    });
    query.push(
        ") UPDATE vehicle SET readings = new.readings, first_us = new.first_us, last_us = new.last_us, \
         journal = new.journal FROM new WHERE vehicle.id = new.id; COMMIT",
    );
    query.build().execute(connection).await.map(drop)
}
