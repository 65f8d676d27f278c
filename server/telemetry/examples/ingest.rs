//! How many readings a second become durable, and how long a commit takes: `cargo run --profile dist -p ev-telemetry
//! --example ingest [DIRECTORY] [SECONDS]`; where `EVSERVE_TEST_POSTGRES` names an empty database, of that too.
//!
//! Readings are of eight signals, of a thousand vehicles. The floor writes as many bytes as a commit of the same run
//! added to the file to another file in the same directory, and syncs it.
//!
//! Gateways with poor connections send every twentieth batch twice, every twentieth later than those after it, and lose
//! one in a thousand; at the end the gap ledger must hold exactly what did not come. Only what was new is counted.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    error::Error,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use ev_domain::{Catalogue, Column, ReadingBatch, Readings, Source, VehicleId};
use ev_telemetry::{
    Admission, Append, Event, IngestConfig, IngestLimits, Ingestor, PostgresOptions, PostgresTelemetryStore,
    SequenceRange, SqliteOptions, SqliteTelemetryStore, TelemetryStore,
};

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const VEHICLES: usize = 1000;
const SIGNALS: usize = 8;
const NOW_US: i64 = 1_767_225_600_000_000;
const GATEWAYS: usize = 8;
/// Batches that overtake one that is held up: five of each vehicle.
const HELD_FOR: usize = 5 * VEHICLES / GATEWAYS;

type Failure = Box<dyn Error + Send + Sync>;

/// How gateways deliver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Connection {
    Good,
    Poor,
}

/// Vehicles that drive on, a batch at a time.
struct Fleet {
    rows: usize,
    patterns: Vec<Readings>,
    sequences: Vec<u64>,
    next: usize,
    prefix: usize,
    connection: Connection,
    random: fastrand::Rng,
    /// Batches that others overtake, with when they come.
    held: VecDeque<(usize, ReadingBatch)>,
    /// The batch before, where it comes again.
    again: Option<ReadingBatch>,
}

impl Fleet {
    fn new(rows: usize, prefix: usize) -> Fleet {
        let patterns = (0..64).map(|seed| pattern(rows, seed)).collect();
        Fleet {
            rows,
            patterns,
            sequences: vec![0; VEHICLES / GATEWAYS],
            next: 0,
            prefix,
            connection: Connection::Good,
            random: fastrand::Rng::with_seed(7),
            held: VecDeque::new(),
            again: None,
        }
    }

    /// What is sent next.
    fn batch(&mut self) -> Result<ReadingBatch, Failure> {
        if self.connection == Connection::Good {
            return self.measured();
        }
        if let Some(batch) = self.again.take() {
            return Ok(batch);
        }
        if self.held.front().is_some_and(|(due, _)| *due <= self.next)
            && let Some((_, batch)) = self.held.pop_front()
        {
            return Ok(batch);
        }
        loop {
            let batch = self.measured()?;
            match self.random.u32(..1_000) {
                0 => {}
                1..51 => self.held.push_back((self.next + HELD_FOR, batch)),
                51..101 => {
                    self.again = Some(batch.clone());
                    return Ok(batch);
                }
                _ => return Ok(batch),
            }
        }
    }

    fn measured(&mut self) -> Result<ReadingBatch, Failure> {
        let place = self.next % self.sequences.len();
        self.sequences[place] += 1;
        let sequence = self.sequences[place];
        let mut readings = self.patterns[self.next % self.patterns.len()].clone();
        let since = i64::try_from(sequence)? * i64::try_from(self.rows)? * 1_000_000;
        readings.times_us.iter_mut().for_each(|time| *time += since);
        self.next += 1;
        let vehicle = VehicleId::new(&format!("car-{}-{place}", self.prefix))?;
        Ok(ReadingBatch { vehicle, sequence, readings })
    }
}

/// Slow signals in steps of their sensors' resolution, one reading a second with some jitter.
fn pattern(rows: usize, seed: u64) -> Readings {
    let mut random = fastrand::Rng::with_seed(seed);
    let times_us =
        (0i64..).take(rows).map(|row| NOW_US - 86_400_000_000 + row * 1_000_000 + random.i64(0..8_000)).collect();
    let steps = [0.1f32, 0.1, 1.0, 0.01, 0.1, 0.001, 0.5, 1.0];
    let drifts = [0.02f32, 0.05, 3.0, 0.01, 0.3, 0.002, 0.0, 0.5];
    let catalogue = Catalogue::standard();
    let signals = catalogue.iter().map(|(id, _)| id).take(SIGNALS);
    let mut column = |(signal, (step, drift)): (_, (&f32, &f32))| {
        let mut value = 20.0 + 40.0 * random.f32();
        let mut next = || {
            value += (random.f32() - 0.5) * drift;
            (value / step).round() * step
        };
        Column { signal, values: (0..rows).map(|_| next()).collect() }
    };
    Readings { times_us, columns: signals.zip(steps.iter().zip(&drifts)).map(&mut column).collect() }
}

fn percentiles(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    let longest = times.last().map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!("p50 {:6.2} p99 {:6.2} max {longest:6.1} ms", at(50), at(99))
}

#[expect(clippy::cast_precision_loss, reason = "a figure that is shown")]
fn rate(readings: usize, time: Duration) -> String {
    format!("{:6.2} M readings/s", readings as f64 / time.as_secs_f64() / 1e6)
}

async fn open(directory: &Path) -> Result<Arc<SqliteTelemetryStore>, Failure> {
    for end in ["", "-wal", "-shm"] {
        let path = directory.join(format!("ingest.db{end}"));
        if path.exists() {
            fs_err::remove_file(path)?;
        }
    }
    let options = SqliteOptions::new(directory.join("ingest.db"));
    Ok(Arc::new(SqliteTelemetryStore::open(options, &Catalogue::standard()).await?))
}

/// Groups straight into the store, with what is due in the background beside them.
async fn commits(
    directory: &Path,
    rows: usize,
    group: usize,
    connection: Connection,
    length: Duration,
) -> Result<(), Failure> {
    let store = open(directory).await?;
    let count = commits_to(store, "sqlite", rows, group, connection, length).await?;
    let bytes = fs_err::metadata(directory.join("ingest.db"))?.len();
    floor(directory, usize::try_from(bytes)? / count.max(1), count.min(500), rows * group)
}

/// How many there were.
async fn commits_to(
    store: Arc<dyn TelemetryStore>,
    name: &str,
    rows: usize,
    group: usize,
    connection: Connection,
    length: Duration,
) -> Result<usize, Failure> {
    let ended = Arc::new(AtomicBool::new(false));
    let background = tokio::spawn({
        let (store, ended) = (Arc::clone(&store), Arc::clone(&ended));
        async move {
            while !ended.load(Relaxed) {
                if !store.maintain().await? {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            Ok::<(), Failure>(())
        }
    });
    // Vehicles of their own, so that the ledger is that of this run.
    let prefix = rows * 2 + usize::from(connection == Connection::Poor);
    let mut fleet = Fleet { connection, ..Fleet::new(rows, prefix) };
    let source = Source { gateway: VehicleId::new(&format!("gateway-{prefix}"))?, boot: VehicleId::new("boot")? };
    let (mut times, mut readings) = (Vec::new(), 0);
    let mut came = Ledger::new();
    let started = Instant::now();
    let mut busy = Duration::ZERO;
    while started.elapsed() < length {
        let append = |batch| Append { source: source.clone(), batch, received_us: NOW_US };
        let appends = (0..group).map(|_| fleet.batch().map(append)).collect::<Result<Vec<_>, _>>()?;
        let begun = Instant::now();
        let outcomes = store.append(&appends).await?;
        let time = begun.elapsed();
        times.push(time);
        busy += time;
        for (append, outcome) in appends.iter().zip(outcomes) {
            let is_new = came.add(&append.batch);
            if is_new == matches!(outcome?, Admission::Duplicate) {
                return Err(format!("{append:?} was taken for what it is not").into());
            }
            readings += if is_new { rows } else { 0 };
        }
    }
    ended.store(true, Relaxed);
    background.await??;
    store.flush().await?;
    came.check(&*store, &source).await?;
    let count = times.len();
    let untidy = if connection == Connection::Poor { "  late, twice, lost" } else { "" };
    let (rate, percentiles) = (rate(readings, busy), percentiles(times));
    println!("{name:8}  {rows:4} rows x {group:3}  {rate}  {percentiles}  {count} commits{untidy}");
    Ok(count)
}

/// What came of each vehicle.
struct Ledger(HashMap<VehicleId, HashSet<u64>>);

impl Ledger {
    fn new() -> Ledger {
        Ledger(HashMap::new())
    }

    /// Whether it had not come.
    fn add(&mut self, batch: &ReadingBatch) -> bool {
        match self.0.get_mut(&batch.vehicle) {
            Some(numbers) => numbers.insert(batch.sequence),
            None => self.0.entry(batch.vehicle.clone()).or_default().insert(batch.sequence),
        }
    }

    /// The store's ledger must be this one.
    async fn check(&self, store: &dyn TelemetryStore, source: &Source) -> Result<(), Failure> {
        for (vehicle, numbers) in &self.0 {
            let found = store.sequences(source, std::slice::from_ref(vehicle)).await?.remove(0);
            let highest = numbers.iter().copied().max().unwrap_or_default();
            let missing: u64 = found.gaps().iter().map(|range| range.last - range.first + 1).sum();
            let is_hole = |range: &SequenceRange| (range.first..=range.last).all(|number| !numbers.contains(&number));
            let came = u64::try_from(numbers.len())?;
            if (found.highest(), missing) != (highest, highest - came) || !found.gaps().iter().all(is_hole) {
                return Err(format!("the ledger of {vehicle} is {found:?}, expected {came} of {highest}").into());
            }
        }
        Ok(())
    }
}

/// Plain writes of the same bytes.
fn floor(directory: &Path, bytes: usize, commits: usize, readings: usize) -> Result<(), Failure> {
    let path = directory.join("ingest.floor");
    let mut file = fs_err::File::create(&path)?;
    let data: Vec<u8> = (0..bytes).map(|_| fastrand::u8(..)).collect();
    let mut times = Vec::new();
    let started = Instant::now();
    for _ in 0..commits {
        let begun = Instant::now();
        file.write_all(&data)?;
        file.sync_data()?;
        times.push(begun.elapsed());
    }
    println!("  floor   {bytes:7} bytes      {}  {}", rate(readings * commits, started.elapsed()), percentiles(times));
    fs_err::remove_file(path)?;
    Ok(())
}

/// Gateways that stream as fast as their credit lets them.
async fn gateways(directory: &Path, rows: usize, length: Duration) -> Result<(), Failure> {
    let store = open(directory).await?;
    let limits = IngestLimits { future_max: Duration::from_secs(u64::MAX / 1_000_000), ..IngestLimits::default() };
    let config = IngestConfig { limits, ..IngestConfig::default() };
    let ingestor = Arc::new(Ingestor::start(store.clone(), config, Vec::new(), &tokio::runtime::Handle::current()));
    let started = Instant::now();
    let tasks = (0..GATEWAYS).map(|number| {
        let ingestor = Arc::clone(&ingestor);
        tokio::spawn(async move { gateway(&ingestor, number, rows, length).await })
    });
    let mut times = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        times.extend(task.await??);
    }
    let took = started.elapsed();
    let stats = ingestor.stats();
    let shown = rate(usize::try_from(stats.readings_stored)?, took);
    println!(
        "ingestor  {rows:4} rows        {shown}  {}  received to durable, {} commits",
        percentiles(times),
        stats.commits
    );
    ingestor.drain().await;
    store.close().await;
    Ok(())
}

async fn gateway(ingestor: &Ingestor, number: usize, rows: usize, length: Duration) -> Result<Vec<Duration>, Failure> {
    let source = Source { gateway: VehicleId::new(&format!("gateway-{number}"))?, boot: VehicleId::new("boot")? };
    let mut session = ingestor.open(source, &[]).await?;
    let mut fleet = Fleet::new(rows, number);
    let started = Instant::now();
    let mut waiting = VecDeque::new();
    let mut times = Vec::new();
    loop {
        let more = started.elapsed() < length;
        if more && session.credit() > 0 {
            waiting.push_back(Instant::now());
            session.submit(fleet.batch()?, NOW_US).await?;
            while let Some(event) = session.try_next() {
                note(&event, &mut waiting, &mut times)?;
            }
        } else {
            let Some(event) = session.next().await else { return Ok(times) };
            note(&event, &mut waiting, &mut times)?;
        }
    }
}

/// Commits are in order, so that the first that waits is the first that is durable.
fn note(event: &Event, waiting: &mut VecDeque<Instant>, times: &mut Vec<Duration>) -> Result<(), Failure> {
    match event {
        Event::Durable { is_duplicate: false, .. } => times.extend(waiting.pop_front().map(|sent| sent.elapsed())),
        Event::Applied { .. } => {}
        event => return Err(format!("{event:?}").into()),
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let temporary = tempfile::tempdir()?;
    let directory = arguments.next().map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let length = Duration::from_secs(arguments.next().map_or(Ok(5), |seconds| seconds.parse())?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        for (rows, group) in [(256, 32), (10, 400)] {
            for connection in [Connection::Good, Connection::Poor] {
                commits(&directory, rows, group, connection, length).await?;
            }
        }
        gateways(&directory, 256, length).await?;
        gateways(&directory, 10, length).await?;
        let Ok(url) = std::env::var("EVSERVE_TEST_POSTGRES") else {
            println!("postgres  skipped: EVSERVE_TEST_POSTGRES names no database");
            return Ok(());
        };
        let store = PostgresTelemetryStore::open(PostgresOptions::new(url), &Catalogue::standard()).await?;
        let store: Arc<dyn TelemetryStore> = Arc::new(store);
        for (rows, group) in [(256, 32), (10, 400)] {
            for connection in [Connection::Good, Connection::Poor] {
                commits_to(Arc::clone(&store), "postgres", rows, group, connection, length).await?;
            }
        }
        Ok(())
    })
}
