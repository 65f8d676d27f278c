//! A commit.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::atomic::Ordering::Relaxed,
    time::Duration,
};

use ev_domain::{Source, VehicleId};
use sqlx::PgConnection;
use tokio::time::{Instant, sleep};

use super::{PostgresTelemetryStore, failed, is_away, quarantine};
use crate::{
    Admission, Append, Appended, Quarantined, RefusedBatch, Sequence, TelemetryError,
    codec::{Packer, encode_chunk},
    pieces::by_day,
};

const STORE: &str = "store readings";
/// How long, and how often, the database is asked what became of a commit that it did not answer: longer than a restart.
const DOUBT_MAX: Duration = Duration::from_secs(20);
const DOUBT_PAUSE: Duration = Duration::from_millis(200);

/// A chunk, ready to be written.
pub(super) struct Chunk {
    pub(super) day: i64,
    pub(super) vehicle: i64,
    pub(super) first_us: i64,
    pub(super) last_us: i64,
    pub(super) readings: i32,
    pub(super) data: Vec<u8>,
}

/// Numbers of what a group is about.
struct Known {
    vehicles: HashMap<VehicleId, i64>,
    sources: HashMap<Source, i64>,
    sequences: BTreeMap<(i64, i64), Sequence>,
}

impl PostgresTelemetryStore {
    pub(super) async fn append_group(
        &self,
        group: &[Append],
        rejects: &[Quarantined],
    ) -> Result<Vec<Appended>, TelemetryError> {
        if group.is_empty() && rejects.is_empty() {
            return Ok(Vec::new());
        }
        let packed = self.pack(group)?;
        let mut transaction = self.pool.begin().await.map_err(failed(STORE))?;
        let mut known = self.know(&mut transaction, group).await?;
        let mut outcomes = Vec::with_capacity(group.len());
        let mut chunks = Vec::new();
        for (append, pieces) in group.iter().zip(packed) {
            let outcome = self.admit(&mut known, append);
            if let (Ok(Admission::New | Admission::FillsGap), Some(vehicle)) =
                (&outcome, known.vehicles.get(&append.batch.vehicle))
            {
                chunks.extend(pieces.into_iter().map(|chunk| Chunk { vehicle: *vehicle, ..chunk }));
            }
            outcomes.push(outcome);
        }
        let days: BTreeSet<i64> = chunks.iter().map(|chunk| chunk.day).collect();
        self.make_partitions(&mut transaction, &days).await?;
        insert_chunks(&mut transaction, &chunks, true).await?;
        count(&mut transaction, &chunks).await?;
        let number = write_sequences(&mut transaction, &known.sequences).await?;
        quarantine::insert(&mut transaction, rejects).await?;
        if let Err(error) = transaction.commit().await
            && !self.is_committed(number).await
        {
            return Err(failed(STORE)(error));
        }
        self.note_partitions(days);
        self.rejects_untrimmed.fetch_add(rejects.len(), Relaxed);
        Ok(outcomes)
    }

    /// What became of a transaction whose commit was sent and not answered, because the database or the way to it broke
    /// down. It is asked for a while: what is stored and not known to be is acknowledged late and never applied.
    async fn is_committed(&self, transaction: i64) -> bool {
        let end = Instant::now() + DOUBT_MAX;
        loop {
            let status = sqlx::query_scalar("SELECT txid_status($1)").bind(transaction).fetch_one(&self.pool).await;
            let status: Result<Option<String>, _> = status;
            let is_over = match &status {
                Ok(status) => status.as_deref() != Some("in progress"),
                Err(error) => !is_away(error),
            };
            if is_over || Instant::now() > end {
                let is_committed = matches!(status.as_ref().map(Option::as_deref), Ok(Some("committed")));
                tracing::warn!(is_committed, "a commit was not answered; the database was asked what became of it");
                return is_committed;
            }
            sleep(DOUBT_PAUSE).await;
        }
    }

    fn pack(&self, group: &[Append]) -> Result<Vec<Vec<Chunk>>, TelemetryError> {
        let mut packer = Packer::new().map_err(|error| TelemetryError::storage("start zstd", error))?;
        let mut pack = |append: &Append| {
            let pieces = by_day(&append.batch.readings).into_iter().map(|piece| {
                let data = encode_chunk(&mut packer, &piece.readings, &self.dictionary)?;
                let readings = i32::try_from(piece.readings.len()).unwrap_or(i32::MAX);
                let (day, first_us, last_us) = (piece.day, piece.first_us, piece.last_us);
                Ok(Chunk { day, vehicle: 0, first_us, last_us, readings, data })
            });
            pieces.collect::<Result<Vec<_>, TelemetryError>>()
        };
        group.iter().map(&mut pack).collect()
    }

    fn admit(&self, known: &mut Known, append: &Append) -> Appended {
        let numbers = (known.vehicles.get(&append.batch.vehicle), known.sources.get(&append.source));
        let (Some(vehicle), Some(source)) = numbers else {
            // What was never sent anything of has no number, and its sequence is empty.
            let refused = Sequence::default().admit(append.batch.sequence, &self.options.sequence_limits);
            let too_many = RefusedBatch::TooManyVehicles { max: self.options.vehicles_max };
            return Err(refused.err().map_or(too_many, RefusedBatch::Sequence));
        };
        let sequence = known.sequences.entry((*vehicle, *source)).or_default();
        sequence.admit(append.batch.sequence, &self.options.sequence_limits).map_err(RefusedBatch::Sequence)
    }

    /// Numbers and sequences of the group, locked, in one order for all replicas.
    async fn know(&self, connection: &mut PgConnection, group: &[Append]) -> Result<Known, TelemetryError> {
        // Of a vehicle or source whose first batch cannot be taken, nothing is stored.
        let limits = &self.options.sequence_limits;
        let plausible = |append: &&Append| Sequence::default().admit(append.batch.sequence, limits).is_ok();
        let new: Vec<&Append> = group.iter().filter(plausible).collect();
        let sources = know_sources(connection, group, &new).await?;
        let vehicles = self.know_vehicles(connection, group, &new).await?;
        let pairs: BTreeSet<(i64, i64)> = group
            .iter()
            .filter_map(|append| Some((*vehicles.get(&append.batch.vehicle)?, *sources.get(&append.source)?)))
            .collect();
        let (of, from): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
        sqlx::query(
            "INSERT INTO sequence (vehicle, source, data) SELECT v, s, $3 FROM unnest($1::bigint[], $2::bigint[]) u(v, s) \
             ORDER BY v, s ON CONFLICT DO NOTHING",
        )
        .bind(&of)
        .bind(&from)
        .bind(Sequence::default().to_bytes())
        .execute(&mut *connection)
        .await
        .map_err(failed(STORE))?;
        let rows: Vec<(i64, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT vehicle, source, data FROM sequence \
             WHERE (vehicle, source) IN (SELECT * FROM unnest($1::bigint[], $2::bigint[])) \
             ORDER BY vehicle, source FOR UPDATE",
        )
        .bind(&of)
        .bind(&from)
        .fetch_all(connection)
        .await
        .map_err(failed(STORE))?;
        let mut sequences = BTreeMap::new();
        for (vehicle, source, data) in rows {
            let sequence = Sequence::from_bytes(&data).map_err(|p| TelemetryError::malformed("a sequence", p))?;
            sequences.insert((vehicle, source), sequence);
        }
        Ok(Known { vehicles, sources, sequences })
    }

    async fn know_vehicles(
        &self,
        connection: &mut PgConnection,
        group: &[Append],
        new: &[&Append],
    ) -> Result<HashMap<VehicleId, i64>, TelemetryError> {
        let names: BTreeSet<&str> = group.iter().map(|append| append.batch.vehicle.as_str()).collect();
        let mut known = vehicles(connection, &names.into_iter().collect::<Vec<_>>()).await?;
        let missing: BTreeSet<&str> = new
            .iter()
            .filter(|append| !known.contains_key(&append.batch.vehicle))
            .map(|append| append.batch.vehicle.as_str())
            .collect();
        if missing.is_empty() {
            return Ok(known);
        }
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM vehicle")
            .fetch_one(&mut *connection)
            .await
            .map_err(failed(STORE))?;
        let room =
            usize::try_from(self.options.vehicles_max.saturating_sub(count.unsigned_abs())).unwrap_or(usize::MAX);
        let missing: Vec<&str> = missing.into_iter().take(room).collect();
        sqlx::query("INSERT INTO vehicle (name) SELECT * FROM unnest($1::text[]) ON CONFLICT DO NOTHING")
            .bind(&missing)
            .execute(&mut *connection)
            .await
            .map_err(failed(STORE))?;
        known.extend(vehicles(connection, &missing).await?);
        Ok(known)
    }
}

async fn vehicles(connection: &mut PgConnection, names: &[&str]) -> Result<HashMap<VehicleId, i64>, TelemetryError> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, name FROM vehicle WHERE name = ANY($1)")
        .bind(names)
        .fetch_all(connection)
        .await
        .map_err(failed(STORE))?;
    let known = |(id, name): (i64, String)| {
        let name = VehicleId::new(&name).map_err(|error| TelemetryError::malformed("a vehicle", error))?;
        Ok((name, id))
    };
    rows.into_iter().map(known).collect()
}

async fn know_sources(
    connection: &mut PgConnection,
    group: &[Append],
    new: &[&Append],
) -> Result<HashMap<Source, i64>, TelemetryError> {
    let mut seen: BTreeMap<&Source, i64> = BTreeMap::new();
    for append in new {
        let latest = seen.entry(&append.source).or_insert(append.received_us);
        *latest = append.received_us.max(*latest);
    }
    for (source, seen_us) in seen {
        sqlx::query(
            "INSERT INTO source (gateway, boot, seen_us) VALUES ($1, $2, $3) ON CONFLICT (gateway, boot) \
             DO UPDATE SET seen_us = excluded.seen_us WHERE source.seen_us < excluded.seen_us",
        )
        .bind(source.gateway.as_str())
        .bind(source.boot.as_str())
        .bind(seen_us)
        .execute(&mut *connection)
        .await
        .map_err(failed(STORE))?;
    }
    let sources: BTreeSet<&Source> = group.iter().map(|append| &append.source).collect();
    let mut known = HashMap::new();
    for source in sources {
        let id: Option<i64> = sqlx::query_scalar("SELECT id FROM source WHERE gateway = $1 AND boot = $2")
            .bind(source.gateway.as_str())
            .bind(source.boot.as_str())
            .fetch_optional(&mut *connection)
            .await
            .map_err(failed(STORE))?;
        known.extend(id.map(|id| (source.clone(), id)));
    }
    Ok(known)
}

/// Inserts chunks in one statement; `pending` ones are to be taken into the aggregates.
pub(super) async fn insert_chunks(
    connection: &mut PgConnection,
    chunks: &[Chunk],
    pending: bool,
) -> Result<(), TelemetryError> {
    if chunks.is_empty() {
        return Ok(());
    }
    let of = |number: fn(&Chunk) -> i64| chunks.iter().map(number).collect::<Vec<i64>>();
    sqlx::query(
        "WITH new AS (SELECT nextval('chunk_id') AS id, u.* FROM \
         unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bytea[], $6::integer[]) \
         u(day, vehicle, first_us, last_us, data, readings)), \
         stored AS (INSERT INTO chunk (id, day, vehicle, first_us, last_us, data) \
         SELECT id, day, vehicle, first_us, last_us, data FROM new) \
         INSERT INTO pending (chunk, day, vehicle, readings) SELECT id, day, vehicle, readings FROM new WHERE $7",
    )
    .bind(of(|chunk| chunk.day))
    .bind(of(|chunk| chunk.vehicle))
    .bind(of(|chunk| chunk.first_us))
    .bind(of(|chunk| chunk.last_us))
    .bind(chunks.iter().map(|chunk| &chunk.data[..]).collect::<Vec<&[u8]>>())
    .bind(chunks.iter().map(|chunk| chunk.readings).collect::<Vec<i32>>())
    .bind(pending)
    .execute(connection)
    .await
    .map_err(failed(STORE))?;
    Ok(())
}

async fn count(connection: &mut PgConnection, chunks: &[Chunk]) -> Result<(), TelemetryError> {
    let mut vehicles: BTreeMap<i64, (i64, i64, i64)> = BTreeMap::new();
    for chunk in chunks {
        let of = vehicles.entry(chunk.vehicle).or_insert((0, i64::MAX, i64::MIN));
        *of = (of.0 + i64::from(chunk.readings), of.1.min(chunk.first_us), of.2.max(chunk.last_us));
    }
    // In one order for all replicas: `UPDATE` alone locks rows in any.
    let of = |number: fn(&(i64, i64, i64)) -> i64| vehicles.values().map(number).collect::<Vec<i64>>();
    let numbers: Vec<i64> = vehicles.keys().copied().collect();
    sqlx::query("SELECT 1 FROM vehicle WHERE id = ANY($1) ORDER BY id FOR UPDATE")
        .bind(&numbers)
        .execute(&mut *connection)
        .await
        .map_err(failed(STORE))?;
    sqlx::query(
        "UPDATE vehicle SET readings = vehicle.readings + u.readings, first_us = least(vehicle.first_us, u.first_us), \
         last_us = greatest(vehicle.last_us, u.last_us) \
         FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[]) u(id, readings, first_us, last_us) \
         WHERE vehicle.id = u.id",
    )
    .bind(&numbers)
    .bind(of(|vehicle| vehicle.0))
    .bind(of(|vehicle| vehicle.1))
    .bind(of(|vehicle| vehicle.2))
    .execute(connection)
    .await
    .map_err(failed(STORE))?;
    Ok(())
}

/// Also the number of the transaction, by which the database tells later what became of it.
async fn write_sequences(
    connection: &mut PgConnection,
    sequences: &BTreeMap<(i64, i64), Sequence>,
) -> Result<i64, TelemetryError> {
    let (vehicles, sources): (Vec<i64>, Vec<i64>) = sequences.keys().copied().unzip();
    sqlx::query_scalar(
        "WITH written AS (UPDATE sequence SET data = u.data \
         FROM unnest($1::bigint[], $2::bigint[], $3::bytea[]) u(vehicle, source, data) \
         WHERE sequence.vehicle = u.vehicle AND sequence.source = u.source) SELECT txid_current()",
    )
    .bind(&vehicles)
    .bind(&sources)
    .bind(sequences.values().map(Sequence::to_bytes).collect::<Vec<_>>())
    .fetch_one(connection)
    .await
    .map_err(failed(STORE))
}
