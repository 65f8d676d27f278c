//! Opening a store, and making its memory again from the journal.

use std::{collections::HashMap, sync::Arc};

use ev_domain::{Catalogue, VehicleId};
use sqlx::{
    ConnectOptions as _, Row as _, SqlitePool,
    migrate::Migrator,
    sqlite::{
        SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteRow, SqliteSynchronous,
    },
};

use super::{
    SqliteOptions, SqliteTelemetryStore, Writer,
    checkpoint::Checkpointer,
    failed,
    state::{Pending, State, Stats, Vehicle, What},
};
use crate::{
    Sequence, TelemetryError,
    codec::{Dictionary, Entry, Packer, Payload, StoredReadings, take_entries, unpack},
    pieces::span_us,
};

static MIGRATOR: Migrator = sqlx::migrate!("migrations/sqlite");

/// Connections that read: queries beyond that wait for each other.
const READERS_MAX: u32 = 4;
/// Rows of the journal that are read at a time.
const JOURNAL_PAGE: i64 = 64;
/// SQLite's own page size.
const PAGE_BYTES: u64 = 4096;
/// SQLite's cache of a connection that writes, in KiB: negative, as SQLite wants it.
const WRITE_CACHE: &str = "-32768";

impl SqliteTelemetryStore {
    /// Opens a store, made where there is none, and brings it up to date. Only one process at a time may have it open.
    ///
    /// # Errors
    ///
    /// When the file cannot be opened or written, or holds what no evserve wrote.
    pub async fn open(options: SqliteOptions, catalogue: &Catalogue) -> Result<SqliteTelemetryStore, TelemetryError> {
        let connect = SqliteConnectOptions::new()
            .filename(&options.path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            // Checkpoints have a connection of their own: inside commits they made the slowest ten times as slow.
            .pragma("wal_autocheckpoint", "0")
            // Rows of many lengths are inserted at once, each a statement of its own.
            .statement_cache_capacity(512);
        let reads = readers(connect.clone()).await?;
        MIGRATOR.run(&reads).await.map_err(|error| failed("bring the telemetry database up to date")(error.into()))?;
        let writes =
            connect.clone().pragma("cache_size", WRITE_CACHE).thread_name(|id| format!("telemetry-write-{id}"));
        let pages_max = options.file_bytes_max.map(|bytes| (bytes / PAGE_BYTES).max(1).to_string());
        let writes = pages_max.into_iter().fold(writes, |writes, pages| writes.pragma("max_page_count", pages));
        let mut connection = writes.connect().await.map_err(failed("open the telemetry database"))?;
        let dictionary = dictionary(&mut connection, catalogue).await?;
        let checkpoints = connect.connect().await.map_err(failed("open the telemetry database"))?;
        let packer = || Packer::new().map_err(|error| TelemetryError::storage("start zstd", error));
        let store = SqliteTelemetryStore {
            options,
            dictionary,
            reads,
            writer: tokio::sync::Mutex::new(Writer {
                connection,
                packer: packer()?,
                unsettled: true,
                relaxed: false,
                rejects_untrimmed: usize::MAX / 2,
                closed: false,
            }),
            state: std::sync::Mutex::default(),
            packer: std::sync::Mutex::new(packer()?),
            background: tokio::sync::Mutex::new(Checkpointer::new(checkpoints)),
        };
        let mut writer = store.writer.lock().await;
        store.settle(&mut writer).await?;
        drop(writer);
        Ok(store)
    }

    /// Makes memory what the file is, when it may not be: at the start, and after a transaction whose end was not seen.
    pub(super) async fn settle(&self, writer: &mut Writer) -> Result<(), TelemetryError> {
        if writer.closed {
            return Err(TelemetryError::ShuttingDown);
        }
        if !writer.unsettled {
            return Ok(());
        }
        // It fails when SQLite has ended the transaction by itself, or none was open.
        let _ = sqlx::query("ROLLBACK").execute(&mut writer.connection).await;
        let state = load(&mut writer.connection, &self.dictionary, self.options.flush_readings).await?;
        *self.state() = state;
        writer.unsettled = false;
        Ok(())
    }
}

async fn readers(connect: SqliteConnectOptions) -> Result<SqlitePool, TelemetryError> {
    SqlitePoolOptions::new()
        .max_connections(READERS_MAX)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(connect)
        .await
        .map_err(failed("open the telemetry database"))
}

/// The store's numbers of signals, after giving one to every signal of the catalogue.
async fn dictionary(connection: &mut SqliteConnection, catalogue: &Catalogue) -> Result<Dictionary, TelemetryError> {
    let doing = "name signals";
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(failed(doing))?;
    for (_, signal) in catalogue.iter() {
        sqlx::query(
            "INSERT INTO signal (id, name) SELECT coalesce(max(id) + 1, 0), ?1 FROM signal \
             WHERE NOT EXISTS (SELECT 1 FROM signal WHERE name = ?1) HAVING count(*) >= 0 \
             ON CONFLICT (name) DO NOTHING",
        )
        .bind(signal.name.as_ref())
        .execute(&mut *connection)
        .await
        .map_err(failed(doing))?;
    }
    sqlx::query("COMMIT").execute(&mut *connection).await.map_err(failed(doing))?;
    let rows = sqlx::query("SELECT id, name FROM signal").fetch_all(connection).await.map_err(failed(doing))?;
    let name = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?));
    let names: Vec<(u16, String)> = rows.iter().map(name).collect::<Result<_, _>>().map_err(failed(doing))?;
    Ok(Dictionary::new(&names, catalogue))
}

/// The state that a file stands for.
async fn load(
    connection: &mut SqliteConnection,
    dictionary: &Dictionary,
    full: usize,
) -> Result<State, TelemetryError> {
    let doing = "read the telemetry journal";
    let row = sqlx::query(
        "SELECT (SELECT coalesce(max(id), 0) FROM vehicle), (SELECT coalesce(max(id), 0) FROM source), \
         (SELECT coalesce(max(id), 0) FROM chunk), (SELECT count(*) FROM vehicle), \
         max((SELECT coalesce(max(id), 0) FROM journal), (SELECT coalesce(max(journal), 0) FROM vehicle))",
    )
    .fetch_one(&mut *connection)
    .await
    .map_err(failed(doing))?;
    let number = |index: usize| row.try_get::<i64, _>(index).map_err(failed(doing));
    let mut state = State {
        next_vehicle: number(0)? + 1,
        next_source: number(1)? + 1,
        next_chunk: number(2)? + 1,
        vehicle_count: number(3)?.unsigned_abs(),
        ..State::default()
    };
    let last = number(4)?;
    let mut flushed = HashMap::new();
    let mut after = i64::MIN;
    loop {
        let rows = sqlx::query("SELECT id, data FROM journal WHERE id > ?1 ORDER BY id LIMIT ?2")
            .bind(after)
            .bind(JOURNAL_PAGE)
            .fetch_all(&mut *connection)
            .await
            .map_err(failed(doing))?;
        if rows.is_empty() {
            break;
        }
        for row in &rows {
            let (id, data): (i64, &[u8]) =
                (row.try_get(0).map_err(failed(doing))?, row.try_get(1).map_err(failed(doing))?);
            let malformed = |problem| TelemetryError::malformed("the journal", problem);
            let entries = unpack(data).and_then(|raw| take_entries(&raw)).map_err(malformed)?;
            fetch_vehicles(connection, &mut state, &mut flushed, &entries).await?;
            state.push_journal(id, data.len());
            entries.into_iter().for_each(|entry| replay(&mut state, &flushed, id, entry, dictionary, full));
            after = id;
        }
    }
    state.last_journal = state.last_journal.max(last);
    Ok(state)
}

/// Reads the vehicles and sequences that entries are about, where they are not there yet.
async fn fetch_vehicles(
    connection: &mut SqliteConnection,
    state: &mut State,
    flushed: &mut HashMap<i64, i64>,
    entries: &[Entry<StoredReadings>],
) -> Result<(), TelemetryError> {
    let doing = "read the vehicles in the telemetry journal";
    let mut missing: Vec<i64> = entries.iter().map(|entry| entry.vehicle).collect();
    missing.sort_unstable();
    missing.dedup();
    missing.retain(|number| !state.vehicles.contains_key(number));
    if missing.is_empty() {
        return Ok(());
    }
    let list = json(&missing);
    let rows = sqlx::query(
        "SELECT id, name, readings, first_us, last_us, journal FROM vehicle \
         WHERE id IN (SELECT value FROM json_each(?1))",
    )
    .bind(&list)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed(doing))?;
    for row in &rows {
        let (number, id, stats) = vehicle_of(row)?;
        flushed.insert(number, row.try_get("journal").map_err(failed(doing))?);
        state.insert(number, Vehicle::new(id, stats));
    }
    let rows = sqlx::query(
        "SELECT vehicle, source, data FROM sequence WHERE vehicle IN (SELECT value FROM json_each(?1)) \
         ORDER BY vehicle, source",
    )
    .bind(&list)
    .fetch_all(&mut *connection)
    .await
    .map_err(failed(doing))?;
    for row in &rows {
        let (vehicle, source): (i64, i64) =
            (row.try_get(0).map_err(failed(doing))?, row.try_get(1).map_err(failed(doing))?);
        let sequence = sequence_of(row.try_get(2).map_err(failed(doing))?)?;
        if let Some(vehicle) = state.vehicles.get_mut(&vehicle) {
            vehicle.set_sequence(source, sequence);
        }
    }
    Ok(())
}

fn replay(
    state: &mut State,
    flushed: &HashMap<i64, i64>,
    journal: i64,
    entry: Entry<StoredReadings>,
    dictionary: &Dictionary,
    full: usize,
) {
    let Some(vehicle) = state.vehicles.get_mut(&entry.vehicle) else { return };
    if flushed.get(&entry.vehicle).is_some_and(|through| journal <= *through) {
        return;
    }
    let mut sequence = vehicle.sequence(entry.source).cloned().unwrap_or_default();
    // It was admitted when it was written. The limits may be others today, and what is written counts.
    let _ = sequence.admit(entry.sequence, &crate::SequenceLimits { gaps_max: usize::MAX, jump_max: u64::MAX });
    vehicle.set_sequence(entry.source, sequence);
    let what = match entry.payload {
        Payload::Inline(readings) => {
            let readings = readings.known(dictionary);
            vehicle.stats.add(readings.len() as u64, span_us(&readings.times_us));
            if readings.is_empty() { What::Number } else { What::Readings(Arc::new(readings)) }
        }
        Payload::Chunks { ids, readings, first_us, last_us } => {
            vehicle.stats.add(readings, Some((first_us, last_us)));
            What::Chunks(ids, readings)
        }
    };
    state.push(entry.vehicle, Pending { journal, what }, full);
}

/// A list that SQLite's `json_each` takes apart.
pub(super) fn json(numbers: &[i64]) -> String {
    let numbers: Vec<String> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}

/// A vehicle of the columns `id, name, readings, first_us, last_us`.
pub(super) fn vehicle_of(row: &SqliteRow) -> Result<(i64, VehicleId, Stats), TelemetryError> {
    let read = || {
        Ok((
            row.try_get("id")?,
            row.try_get("name")?,
            row.try_get("readings")?,
            row.try_get("first_us")?,
            row.try_get("last_us")?,
        ))
    };
    let (number, name, readings, first_us, last_us): (i64, &str, i64, i64, i64) =
        read().map_err(failed("read a vehicle"))?;
    let id = VehicleId::new(name).map_err(|error| TelemetryError::malformed("a vehicle", error))?;
    Ok((number, id, Stats { readings, span_us: (readings > 0).then_some((first_us, last_us)) }))
}

pub(super) fn sequence_of(data: &[u8]) -> Result<Sequence, TelemetryError> {
    Sequence::from_bytes(data).map_err(|problem| TelemetryError::malformed("a sequence", problem))
}
