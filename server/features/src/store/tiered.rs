//! Memory before Redis: fast and independent of it, shared and lasting by it.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use ev_domain::VehicleId;
use futures_util::StreamExt;
use tokio::{
    runtime::Handle,
    sync::{OnceCell, Semaphore},
    task::AbortHandle,
    time::{sleep, timeout},
};

use super::{
    Condition, Fetched, MemorySettings, OnlineStore, Put, RedisOnlineStore, Write, behind::Behind, breaker::Breaker,
    level::Level,
};
use crate::{SettingsError, StoreError, ViewId};

/// Reads of Redis at one time: what else is asked when it comes back waits its turn.
const READS_MAX: usize = 64;
/// Vehicles that are written in one go, and of those, at one time.
const FLUSH_MAX: usize = 256;
const FLUSHING_MAX: usize = 32;
/// How often a breaker that is open is looked at.
const PROBE_INTERVAL: Duration = Duration::from_millis(50);
/// Time until a subscription that ended is made again.
const SUBSCRIBE_INTERVAL: Duration = Duration::from_millis(200);
/// Vehicles that may wait to be written before it is checked that memory still has them.
const BEHIND_UNCHECKED: usize = 4096;

/// Answers from memory, and from Redis what memory does not have; writes to memory, and to Redis behind.
///
/// - What others write is heard of, and asked for when it is next read. While nobody can be heard, every read asks.
/// - One read of a vehicle asks for all that want it. After failures none asks, until a probe has got through; answers
///   are from memory then, and say that they are [`Fetched::degraded`].
/// - What waits to be written is a mark on what memory holds, so that a dead Redis loses nothing that memory holds.
///   It is written as soon as Redis is back.
/// - A write on a condition other than being newer ([`Condition::Is`]) goes to Redis at once, and fails without it.
pub struct TieredOnlineStore {
    shared: Arc<Shared>,
    tasks: [AbortHandle; 2],
}

/// Counts of a tiered store since it was made, and what it is like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TieredStats {
    /// Whether Redis is given up on for now.
    pub is_open: bool,
    /// Whether it is heard what others write.
    pub is_listening: bool,
    /// Vehicles in memory.
    pub vehicles: usize,
    /// Bytes in memory.
    pub bytes: usize,
    /// Vehicles that memory forgot to make room.
    pub evicted: u64,
    /// Vehicles that wait to be written.
    pub behind: usize,
    /// Vehicles that memory forgot before they were written.
    pub lost: u64,
    /// Reads that memory answered.
    pub hits: u64,
    /// Times Redis was read.
    pub fetches: u64,
    /// Times Redis could not be read or written.
    pub failures: u64,
    /// Values in Redis that were no rows.
    pub damaged: u64,
    /// Vehicles of which it was heard that others had written them.
    pub heard: u64,
}

/// What a read of Redis came to: the values that were damaged, if it came to anything.
type Outcome = Result<u32, ()>;

struct Shared {
    level: Level,
    redis: RedisOnlineStore,
    views: Vec<ViewId>,
    breaker: Breaker,
    behind: Behind,
    flushing: AtomicUsize,
    /// Counts up whenever something may have been missed: what was checked before is not relied on.
    era: AtomicU32,
    listening: AtomicBool,
    flights: Mutex<HashMap<VehicleId, Arc<OnceCell<Outcome>>>>,
    reads: Semaphore,
    lost: AtomicU64,
    hits: AtomicU64,
    fetches: AtomicU64,
    failures: AtomicU64,
    damaged: AtomicU64,
    heard: AtomicU64,
}

// === impl TieredOnlineStore ===

impl std::fmt::Debug for TieredOnlineStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TieredOnlineStore").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Drop for TieredOnlineStore {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
    }
}

impl TieredOnlineStore {
    /// Puts memory before Redis. Its tasks run on `runtime` until it is dropped.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when a setting is out of its range. A Redis that cannot be reached is none.
    pub fn start(
        memory: MemorySettings,
        redis: RedisOnlineStore,
        runtime: &Handle,
    ) -> Result<TieredOnlineStore, SettingsError> {
        memory.check()?;
        let shared = Arc::new(Shared {
            level: Level::new(memory.bytes_max),
            views: redis.views().iter().map(|(id, _)| id).collect(),
            redis,
            breaker: Breaker::default(),
            behind: Behind::default(),
            flushing: AtomicUsize::new(0),
            era: AtomicU32::new(1),
            listening: AtomicBool::new(false),
            flights: Mutex::default(),
            reads: Semaphore::new(READS_MAX),
            lost: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            fetches: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            damaged: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        });
        let writer = runtime.spawn(Arc::clone(&shared).write_behind()).abort_handle();
        let listener = runtime.spawn(Arc::clone(&shared).listen()).abort_handle();
        Ok(TieredOnlineStore { shared, tasks: [writer, listener] })
    }

    /// Waits until everything is written, for at most `grace`. Says how many vehicles are not.
    pub async fn flush(&self, grace: Duration) -> usize {
        let open = || self.shared.behind.len() + self.shared.flushing.load(Ordering::SeqCst);
        let wait = async {
            while open() > 0 {
                sleep(Duration::from_millis(2)).await;
            }
        };
        let _ = timeout(grace, wait).await;
        open()
    }

    /// How it is doing.
    #[must_use]
    pub fn stats(&self) -> TieredStats {
        let shared = &self.shared;
        let (vehicles, bytes, evicted) = shared.level.usage();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        TieredStats {
            is_open: shared.breaker.is_open(),
            is_listening: shared.listening.load(Ordering::SeqCst),
            vehicles,
            bytes,
            evicted,
            behind: shared.behind.len() + shared.flushing.load(Ordering::SeqCst),
            lost: count(&shared.lost),
            hits: count(&shared.hits),
            fetches: count(&shared.fetches),
            failures: count(&shared.failures),
            damaged: count(&shared.damaged),
            heard: count(&shared.heard),
        }
    }
}

#[async_trait]
impl OnlineStore for TieredOnlineStore {
    async fn get(&self, vehicle: &VehicleId, views: &[ViewId]) -> Result<Fetched, StoreError> {
        let shared = &self.shared;
        let held = shared.level.get(vehicle, views);
        let is_open = shared.breaker.is_open();
        if let Some(held) = held.as_ref().filter(|held| is_open || shared.is_current(held.checked)) {
            shared.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(Fetched { rows: held.rows.clone(), degraded: is_open, damaged: 0 });
        }
        let fetched = if is_open { Err(()) } else { shared.fetch_once(vehicle).await };
        let rows = shared.level.get(vehicle, views).map(|held| held.rows);
        Ok(Fetched {
            rows: rows.unwrap_or_else(|| vec![None; views.len()]),
            degraded: fetched.is_err(),
            damaged: fetched.unwrap_or_default(),
        })
    }

    async fn put(&self, vehicle: &VehicleId, writes: &[Write]) -> Result<Vec<Put>, StoreError> {
        if writes.iter().any(|write| write.condition != Condition::Newer) {
            return self.shared.put_through(vehicle, writes).await;
        }
        let puts = self.shared.level.put(vehicle, writes);
        let written = writes.iter().zip(&puts).filter(|(_, put)| **put == Put::Written);
        self.shared.behind.add(vehicle, written.map(|(write, _)| write.view));
        Ok(puts)
    }
}

// === impl Shared ===

impl Shared {
    /// Whether nothing can have been missed since.
    fn is_current(&self, checked: u32) -> bool {
        checked == self.era.load(Ordering::SeqCst) && self.listening.load(Ordering::SeqCst)
    }

    /// Reads a vehicle from Redis, together with whoever wants it at the same time.
    async fn fetch_once(&self, vehicle: &VehicleId) -> Outcome {
        let flights = || self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let flight = Arc::clone(flights().entry(vehicle.clone()).or_default());
        let landing = Landing { shared: self, vehicle, flight: &flight };
        let outcome = *flight.get_or_init(|| self.fetch(vehicle)).await;
        drop(landing);
        outcome
    }

    async fn fetch(&self, vehicle: &VehicleId) -> Outcome {
        // A connection that takes longer is made by whoever writes.
        let limit = self.redis.deadline() * 2;
        let Ok(fetched) = timeout(limit, self.ask(vehicle)).await else {
            self.failed(&StoreError::Unavailable { problem: format!("no answer in {limit:?}") });
            return Err(());
        };
        let fetched = fetched?;
        self.succeeded();
        if fetched.damaged > 0 {
            self.damaged.fetch_add(u64::from(fetched.damaged), Ordering::Relaxed);
            tracing::warn!(values = fetched.damaged, "values in the shared feature store are no rows");
        }
        self.repair(vehicle, &fetched);
        Ok(fetched.damaged)
    }

    /// Reads a vehicle from Redis, and puts what it has into memory.
    async fn ask(&self, vehicle: &VehicleId) -> Result<Fetched, ()> {
        let _permit = self.reads.acquire().await.map_err(drop)?;
        if self.breaker.is_open() {
            return Err(());
        }
        self.fetches.fetch_add(1, Ordering::Relaxed);
        let era = self.era.load(Ordering::SeqCst);
        let changes = self.level.changes(vehicle);
        let fetched = self.redis.get(vehicle, &self.views).await.map_err(|error| self.failed(&error))?;
        let write = |(view, row): (&ViewId, &Option<_>)| {
            row.clone().map(|row| Write { view: *view, row, condition: Condition::Newer })
        };
        let writes: Vec<Write> = self.views.iter().zip(&fetched.rows).filter_map(write).collect();
        self.level.confirm(vehicle, &writes, era, changes);
        Ok(fetched)
    }

    /// What memory has newer than Redis is written there: Redis may have come back without it.
    fn repair(&self, vehicle: &VehicleId, fetched: &Fetched) {
        let Some(held) = self.level.peek(vehicle, &self.views) else { return };
        let rows = self.views.iter().zip(held.iter().zip(&fetched.rows));
        let newer = rows.filter(|(_, (held, found))| {
            held.as_ref().map(|row| row.version()) > found.as_ref().map(|row| row.version())
        });
        self.behind.add(vehicle, newer.map(|(view, _)| *view));
    }

    /// Writes that depend on what is there: Redis decides.
    async fn put_through(&self, vehicle: &VehicleId, writes: &[Write]) -> Result<Vec<Put>, StoreError> {
        if self.breaker.is_open() {
            return Err(StoreError::Unavailable { problem: "it failed before".to_owned() });
        }
        let puts = self.redis.put(vehicle, writes).await.inspect_err(|error| self.failed(error))?;
        self.succeeded();
        let written = writes.iter().zip(&puts).filter(|(_, put)| **put == Put::Written);
        let newer = |write: &Write| Write { condition: Condition::Newer, ..write.clone() };
        let written: Vec<Write> = written.map(|(write, _)| newer(write)).collect();
        self.level.put(vehicle, &written);
        if written.len() < puts.len() {
            self.level.changed(vehicle);
        }
        Ok(puts)
    }

    async fn write_behind(self: Arc<Shared>) {
        loop {
            if self.behind.len() > BEHIND_UNCHECKED.max(2 * self.level.usage().0) {
                let lost = self.behind.retain(|vehicle| self.level.peek(vehicle, &[]).is_some());
                self.lost.fetch_add(lost as u64, Ordering::Relaxed);
            }
            if self.breaker.is_open() {
                self.probe().await;
                continue;
            }
            let batch = self.behind.take(FLUSH_MAX);
            if batch.is_empty() {
                // The breaker may open without anything being added.
                let _ = timeout(PROBE_INTERVAL, self.behind.added()).await;
                continue;
            }
            self.flushing.store(batch.len(), Ordering::SeqCst);
            let writes = futures_util::stream::iter(batch).map(|(vehicle, views)| {
                let shared = Arc::clone(&self);
                async move { shared.write(&vehicle, &views).await }
            });
            writes.buffer_unordered(FLUSHING_MAX).for_each(|()| std::future::ready(())).await;
            self.flushing.store(0, Ordering::SeqCst);
        }
    }

    async fn write(&self, vehicle: &VehicleId, views: &[ViewId]) {
        let again = || self.behind.add(vehicle, views.iter().copied());
        if self.breaker.is_open() {
            return again();
        }
        let Some(held) = self.level.peek(vehicle, views) else {
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        };
        let write =
            |(view, row): (&ViewId, Option<_>)| row.map(|row| Write { view: *view, row, condition: Condition::Newer });
        let writes: Vec<Write> = views.iter().zip(held).filter_map(write).collect();
        match self.redis.put(vehicle, &writes).await {
            Ok(puts) => {
                self.succeeded();
                let newer = |(write, put): (&Write, &Put)| match put {
                    Put::Refused(found) => *found > Some(write.row.version()),
                    Put::Written => false,
                };
                if writes.iter().zip(&puts).any(newer) {
                    self.level.changed(vehicle);
                }
            }
            Err(error) => {
                self.failed(&error);
                again();
            }
        }
    }

    async fn probe(&self) {
        sleep(PROBE_INTERVAL).await;
        if self.breaker.may_probe(Instant::now()) {
            match self.redis.ping().await {
                Ok(()) => self.succeeded(),
                Err(error) => self.failed(&error),
            }
        }
    }

    async fn listen(self: Arc<Shared>) {
        loop {
            if let Ok(mut changes) = self.redis.subscribe().await {
                self.era.fetch_add(1, Ordering::SeqCst);
                self.listening.store(true, Ordering::SeqCst);
                while let Some(vehicle) = changes.next().await {
                    self.heard.fetch_add(1, Ordering::Relaxed);
                    self.level.changed(&vehicle);
                }
                self.listening.store(false, Ordering::SeqCst);
            }
            sleep(SUBSCRIBE_INTERVAL).await;
        }
    }

    fn failed(&self, error: &StoreError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        if self.breaker.failed(Instant::now()) {
            tracing::warn!(%error, "the shared feature store does not answer; features are served from memory");
        }
    }

    fn succeeded(&self) {
        if self.breaker.succeeded() {
            // It may be another one, or have been written to by others while it could not be heard.
            self.era.fetch_add(1, Ordering::SeqCst);
            tracing::info!("the shared feature store answers again");
        }
    }
}

/// Takes a read that is done, or that nobody waits for any more, out of the list.
struct Landing<'a> {
    shared: &'a Shared,
    vehicle: &'a VehicleId,
    flight: &'a Arc<OnceCell<Outcome>>,
}

// === impl Landing ===

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        let mut flights = self.shared.flights.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = flights.get(self.vehicle).is_some_and(|flight| Arc::ptr_eq(flight, self.flight));
        // The list and this call are two: whoever else holds it waits for it still.
        if is_it && (self.flight.initialized() || Arc::strong_count(self.flight) <= 2) {
            flights.remove(self.vehicle);
        }
    }
}
