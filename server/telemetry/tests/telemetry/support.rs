//! Batches, and stores that misbehave.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use ev_domain::{Catalogue, Column, ReadingBatch, Readings, Source, VehicleId, signals::SPEED};
use ev_telemetry::{
    AggregateQuery, Append, Appended, Expired, Horizon, Latest, Page, QuarantinePage, QuarantineQuery, Quarantined,
    Query, Sequence, SequenceLimits, SourceSequence, SpanAggregate, SqliteOptions, SqliteTelemetryStore,
    TelemetryError, TelemetryStore, VehicleSummary,
};
use tokio::sync::Semaphore;

/// 2026-01-01.
pub(crate) const NOW: i64 = 1_767_225_600_000_000;

pub(crate) fn id(id: &str) -> VehicleId {
    VehicleId::new(id).unwrap()
}

pub(crate) fn source(gateway: &str) -> Source {
    Source { gateway: id(gateway), boot: id("boot") }
}

/// A batch of `count` speeds, a second apart, all before now.
pub(crate) fn batch(vehicle: &str, sequence: u64, count: u16) -> ReadingBatch {
    let times_us = (0..count).map(|index| NOW - 1_000_000 * i64::from(index)).collect();
    let values = (0..count).map(f32::from).collect();
    let readings = Readings { times_us, columns: vec![Column { signal: SPEED, values }] };
    ReadingBatch { vehicle: id(vehicle), sequence, readings }
}

pub(crate) async fn open(directory: &Path) -> SqliteTelemetryStore {
    let options = SqliteOptions { flush_readings: 200, ..SqliteOptions::new(directory.join("telemetry.db")) };
    SqliteTelemetryStore::open(options, &Catalogue::standard()).await.unwrap()
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    for _ in 0..1000 {
        if is_so().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{what} did not come");
}

/// A store whose commits wait for permits, and fail when it is told so.
pub(crate) struct Slow {
    pub(crate) store: SqliteTelemetryStore,
    pub(crate) permits: Semaphore,
    /// Commits that wait for a permit, or had one.
    pub(crate) waits: AtomicUsize,
    pub(crate) fails: AtomicBool,
}

impl Slow {
    pub(crate) async fn new(directory: &Path) -> Arc<Slow> {
        Arc::new(Slow {
            store: open(directory).await,
            permits: Semaphore::new(0),
            waits: AtomicUsize::new(0),
            fails: AtomicBool::new(false),
        })
    }
}

#[async_trait]
impl TelemetryStore for Slow {
    fn sequence_limits(&self) -> SequenceLimits {
        self.store.sequence_limits()
    }
    async fn commit(&self, group: &[Append], rejects: &[Quarantined]) -> Result<Vec<Appended>, TelemetryError> {
        self.waits.fetch_add(1, SeqCst);
        self.permits.acquire().await.unwrap().forget();
        if self.fails.load(SeqCst) {
            let source = Arc::from(Box::from("the test says so"));
            return Err(TelemetryError::Storage { doing: "store readings", source });
        }
        self.store.commit(group, rejects).await
    }
    async fn quarantined(&self, query: &QuarantineQuery) -> Result<QuarantinePage, TelemetryError> {
        self.store.quarantined(query).await
    }
    async fn sequences(&self, source: &Source, vehicles: &[VehicleId]) -> Result<Vec<Sequence>, TelemetryError> {
        self.store.sequences(source, vehicles).await
    }
    async fn query(&self, query: &Query) -> Result<Page, TelemetryError> {
        self.store.query(query).await
    }
    async fn aggregate(&self, query: &AggregateQuery) -> Result<Vec<SpanAggregate>, TelemetryError> {
        self.store.aggregate(query).await
    }
    async fn latest(&self, vehicle: &VehicleId) -> Result<Vec<Latest>, TelemetryError> {
        self.store.latest(vehicle).await
    }
    async fn vehicles(&self, after: Option<&VehicleId>, limit: u32) -> Result<Vec<VehicleSummary>, TelemetryError> {
        self.store.vehicles(after, limit).await
    }
    async fn vehicle(&self, vehicle: &VehicleId) -> Result<VehicleSummary, TelemetryError> {
        self.store.vehicle(vehicle).await
    }
    async fn gaps(
        &self,
        vehicle: &VehicleId,
        after: Option<&Source>,
        limit: u32,
    ) -> Result<Vec<SourceSequence>, TelemetryError> {
        self.store.gaps(vehicle, after, limit).await
    }
    async fn maintain(&self) -> Result<bool, TelemetryError> {
        self.store.maintain().await
    }
    async fn flush(&self) -> Result<(), TelemetryError> {
        self.store.flush().await
    }
    async fn expire(&self, horizon: &Horizon) -> Result<Expired, TelemetryError> {
        self.store.expire(horizon).await
    }
    async fn close(&self) {
        self.store.close().await;
    }
}
