//! A process that is killed at any moment loses nothing that it called durable, and stores nothing twice.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use ev_domain::VehicleId;
use ev_telemetry::{
    AggregateQuery, Event, IngestConfig, Ingestor, Query, Resolution, SqliteOptions, SqliteTelemetryStore,
    TelemetryStore,
};
use tokio::runtime::Handle;

use crate::support::{NOW, batch, id, source};

const CHILD_DIRECTORY: &str = "EV_TELEMETRY_TEST_CRASH_DIRECTORY";
const ROUNDS: u64 = 10;
const VEHICLES: u64 = 5;

async fn open(directory: &Path) -> Arc<SqliteTelemetryStore> {
    let options = SqliteOptions {
        chunk_readings_min: 20,
        flush_readings: 300,
        waiting_readings_max: 500,
        ..SqliteOptions::new(directory.join("telemetry.db"))
    };
    Arc::new(SqliteTelemetryStore::open(options, &ev_domain::Catalogue::standard()).await.unwrap())
}

/// Small and large batches in turn.
fn count(sequence: u64) -> u16 {
    if sequence.is_multiple_of(4) { 40 } else { u16::try_from(sequence % 7).unwrap() }
}

fn vehicle(number: u64) -> VehicleId {
    id(&format!("car-{number}"))
}

/// Streams for ever as a gateway that resumes, and prints what is durable.
async fn stream(directory: &Path) {
    let store = open(directory).await;
    let config = IngestConfig { maintain_every: Duration::from_millis(1), ..IngestConfig::default() };
    let ingestor = Ingestor::start(store, config, Vec::new(), &Handle::current());
    let vehicles: Vec<VehicleId> = (0..VEHICLES).map(vehicle).collect();
    let mut session = ingestor.open(source("gateway"), &vehicles).await.unwrap();
    let mut next: Vec<u64> =
        vehicles.iter().map(|vehicle| session.sequence(vehicle).unwrap().next_expected()).collect();
    // What was sent last may have been stored: it comes again.
    next.iter_mut().for_each(|next| *next = next.saturating_sub(3).max(1));
    loop {
        for (vehicle, next) in vehicles.iter().zip(&mut next) {
            if session.credit() > 0 {
                session.submit(batch(vehicle.as_str(), *next, count(*next)), NOW).await.unwrap();
                *next += 1;
            }
        }
        session.announce();
        while let Some(event) = session.try_next() {
            if let Event::Durable { vehicle, sequence, .. } = event {
                println!("durable {vehicle} {sequence}");
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_durable_is_lost_and_nothing_doubled_by_kills() {
    if let Some(directory) = std::env::var_os(CHILD_DIRECTORY) {
        stream(Path::new(&directory)).await;
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut durable: BTreeMap<String, u64> = BTreeMap::new();
    let mut random = fastrand::Rng::with_seed(7);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["crash::nothing_durable_is_lost_and_nothing_doubled_by_kills", "--exact", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.filter(|line| line.starts_with("durable ")).collect::<Vec<_>>()
        });
        tokio::time::sleep(Duration::from_millis(random.u64(150..600))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        let lines = reader.join().unwrap();
        // The last line may be cut off.
        for line in lines.iter().rev().skip(1) {
            let mut words = line.split(' ').skip(1);
            let (vehicle, sequence) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
            let highest = durable.entry(vehicle.to_owned()).or_default();
            *highest = (*highest).max(sequence);
        }
        assert!(round > 0 || !durable.is_empty(), "the child stored nothing");
        check(directory.path(), &durable).await;
    }
    assert!(durable.values().all(|highest| *highest > 20), "{durable:?}");
}

async fn check(directory: &Path, durable: &BTreeMap<String, u64>) {
    let store = open(directory).await;
    for (vehicle, durable) in durable {
        let vehicle = id(vehicle);
        let sequences = store.sequences(&source("gateway"), std::slice::from_ref(&vehicle)).await.unwrap();
        let highest = sequences[0].highest();
        assert!(highest >= *durable, "{vehicle}: {durable} was durable, {highest} is there");
        assert_eq!(sequences[0].gaps(), []);
        let expected: u64 = (1..=highest).map(|sequence| u64::from(count(sequence))).sum();
        assert_eq!(store.vehicle(&vehicle).await.unwrap().readings, expected);
        assert_eq!(readings(&*store, &vehicle).await, expected);
        let query = AggregateQuery {
            vehicle,
            signals: Vec::new(),
            resolution: Resolution::Day,
            time_us: i64::MIN..i64::MAX,
            after: None,
            limit: 1000,
        };
        let counted: u64 = store.aggregate(&query).await.unwrap().iter().map(|span| span.aggregate.count).sum();
        assert_eq!(counted, expected);
    }
}

async fn readings(store: &dyn TelemetryStore, vehicle: &VehicleId) -> u64 {
    let mut count = 0;
    let mut after = None;
    loop {
        let vehicle = vehicle.clone();
        let query = Query { vehicle, signals: Vec::new(), time_us: i64::MIN..i64::MAX, after, limit: 50_000 };
        let page = store.query(&query).await.unwrap();
        count += page.readings.len() as u64;
        after = page.next;
        if after.is_none() {
            return count;
        }
    }
}
