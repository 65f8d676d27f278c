//! Stored telemetry taken into features again after a start, so that windows and running sessions go on, and what was
//! stored and not applied at a kill is not left out.
//!
//! A vehicle's readings are taken in by their times, so that those of the last hour must come before what it sends now:
//! new batches of a vehicle whose turn has not come are put aside, and bring its turn about.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem::take,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool, atomic::Ordering},
    time::{Duration, Instant},
};

use ev_domain::{ReadingBatch, VehicleId};
use ev_telemetry::{AppliedBatch, Cursor, Query, TelemetryError, TelemetryStore};
use tokio::sync::Notify;

use super::VehicleFeatures;
use crate::{config::FeaturesConfig, telemetry::now_us};

/// Vehicles that are listed, and readings that are asked for, at one time.
const VEHICLES_PAGE: u32 = 1_000;
const READINGS_PAGE: usize = 2_048;
/// Readings further ahead of the clock are in no feature anyway.
const AHEAD_US: i64 = 60_000_000;
/// Readings that are put aside; beyond, replaying ends early.
const ASIDE_READINGS_MAX: usize = 1 << 20;

/// Where stored readings come from, and who sees them beside features.
pub(crate) struct Past<'a> {
    pub(crate) store: &'a dyn TelemetryStore,
    pub(crate) beside: &'a dyn Beside,
}

/// Sees what is replayed.
pub(crate) trait Beside: Send + Sync {
    /// Readings of a vehicle, by time; its pages come one after the other.
    fn page(&self, batch: &ReadingBatch);

    /// That was all of it; it does not come for a vehicle whose replaying ended early.
    fn end(&self, vehicle: &VehicleId, now_us: i64);
}

/// How much is replayed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// How far back.
    since: Duration,
    readings_max: u64,
    vehicles_max: usize,
    time_max: Duration,
}

/// What waits for the past of its vehicle.
pub(super) struct Replay {
    limits: Limits,
    /// Whether a batch may have to wait at all.
    open: AtomicBool,
    aside: Mutex<Aside>,
    /// Something that was put aside was taken in.
    room: Notify,
}

#[derive(Default)]
struct Aside {
    /// Vehicles whose past has been taken in.
    done: HashSet<VehicleId>,
    /// New batches of others, in the order they came. A vehicle stays in it until all of its batches are taken in.
    batches: HashMap<VehicleId, Vec<Arc<AppliedBatch>>>,
    /// Vehicles in the order in which their first batches came.
    turns: VecDeque<VehicleId>,
    readings: usize,
    /// No other vehicle is waited for.
    closing: bool,
}

/// What has been replayed.
#[derive(Default)]
struct Progress {
    vehicles: usize,
    readings: u64,
    /// What ended it early.
    cut: Option<&'static str>,
}

/// Ends waiting, however replaying ends.
struct End<'a>(&'a Replay);

// === impl Limits ===

impl Limits {
    pub(super) fn of(config: &FeaturesConfig) -> Limits {
        Limits {
            since: config.replay,
            readings_max: config.replay_readings_max,
            vehicles_max: config.vehicles_max,
            time_max: config.replay_time_max,
        }
    }

    /// Why no more may be replayed.
    fn cut(&self, progress: &Progress, started: Instant) -> Option<&'static str> {
        if progress.readings >= self.readings_max {
            Some("features.replay_readings_max")
        } else if progress.vehicles >= self.vehicles_max {
            Some("features.vehicles_max")
        } else if started.elapsed() >= self.time_max {
            Some("features.replay_time_max")
        } else {
            None
        }
    }
}

// === impl Replay ===

impl Replay {
    pub(super) fn new(limits: Limits) -> Replay {
        let open = AtomicBool::new(!limits.since.is_zero());
        Replay { limits, open, aside: Mutex::default(), room: Notify::new() }
    }

    /// Puts batches aside that have to wait, and gives those that have not.
    pub(super) async fn put_aside(&self, batches: &[Arc<AppliedBatch>]) -> Option<Vec<Arc<AppliedBatch>>> {
        if !self.open.load(Ordering::Acquire) {
            return None;
        }
        let mut ready = Vec::new();
        {
            let mut aside = self.aside();
            for batch in batches {
                if !aside.put(batch) {
                    ready.push(Arc::clone(batch));
                }
            }
            aside.closing |= aside.readings > ASIDE_READINGS_MAX;
        }
        loop {
            let room = self.room.notified();
            if self.aside().readings <= ASIDE_READINGS_MAX || !self.open.load(Ordering::Acquire) {
                return Some(ready);
            }
            room.await;
        }
    }

    /// Takes the stored past of vehicles in, within the limits, and what was put aside meanwhile.
    pub(super) async fn run(&self, features: &VehicleFeatures, past: &Past<'_>) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        let end = End(self);
        let started = Instant::now();
        let mut progress = Progress::default();
        if let Err(error) = self.replay_all(features, past, started, &mut progress).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "telemetry cannot be replayed; windows and running sessions begin anew");
        }
        self.aside().closing = true;
        while let Some(vehicle) = self.waiting() {
            self.hand_over(features, vehicle).await;
        }
        drop(end);
        let Progress { vehicles, readings, cut } = progress;
        let took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        match cut {
            None => tracing::info!(vehicles, readings, took_ms, "telemetry replayed into features"),
            Some(limit) => tracing::warn!(
                vehicles,
                readings,
                took_ms,
                limit,
                "not all telemetry was replayed; windows and running sessions of the other vehicles begin anew"
            ),
        }
    }

    async fn replay_all(
        &self,
        features: &VehicleFeatures,
        past: &Past<'_>,
        started: Instant,
        progress: &mut Progress,
    ) -> Result<(), TelemetryError> {
        let since_us = now_us().saturating_sub(i64::try_from(self.limits.since.as_micros()).unwrap_or(i64::MAX));
        let mut after: Option<VehicleId> = None;
        loop {
            let page = past.store.vehicles(after.as_ref(), VEHICLES_PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.vehicle.clone());
            let recent = page.into_iter().filter(|found| found.span_us.is_some_and(|(_, latest)| latest >= since_us));
            for listed in recent.map(|found| found.vehicle) {
                // Those that send are asked about.
                while let Some(urgent) = self.turn() {
                    self.replay_one(features, past, urgent, since_us, progress).await?;
                    if self.is_cut(progress, started) {
                        return Ok(());
                    }
                }
                self.replay_one(features, past, listed, since_us, progress).await?;
                if self.is_cut(progress, started) {
                    return Ok(());
                }
            }
        }
    }

    fn is_cut(&self, progress: &mut Progress, started: Instant) -> bool {
        progress.cut = if self.aside().closing {
            Some("readings that came meanwhile")
        } else {
            self.limits.cut(progress, started)
        };
        progress.cut.is_some()
    }

    async fn replay_one(
        &self,
        features: &VehicleFeatures,
        past: &Past<'_>,
        vehicle: VehicleId,
        since_us: i64,
        progress: &mut Progress,
    ) -> Result<(), TelemetryError> {
        if self.aside().done.contains(&vehicle) {
            return Ok(());
        }
        let mut after: Option<Cursor> = None;
        loop {
            let now_us = now_us();
            let query = Query {
                vehicle: vehicle.clone(),
                signals: Vec::new(),
                time_us: since_us..now_us.saturating_add(AHEAD_US),
                after,
                limit: READINGS_PAGE,
            };
            let page = match past.store.query(&query).await {
                Ok(page) => page,
                // It was deleted since.
                Err(TelemetryError::UnknownVehicle { .. }) => break,
                Err(error) => return Err(error),
            };
            let readings = page.readings.len() as u64;
            if readings > 0 {
                let batch = ReadingBatch { vehicle: vehicle.clone(), sequence: 0, readings: page.readings };
                past.beside.page(&batch);
                features.replayed(&batch, now_us).await;
                progress.readings += readings;
            }
            after = page.next;
            if after.is_none() {
                past.beside.end(&vehicle, now_us);
                break;
            }
            // One vehicle alone can have more than may be replayed.
            if progress.readings >= self.limits.readings_max {
                break;
            }
            tokio::task::yield_now().await;
        }
        progress.vehicles += 1;
        self.hand_over(features, vehicle).await;
        Ok(())
    }

    /// Takes in what was put aside of a vehicle, until nothing is: from then on it does not wait.
    async fn hand_over(&self, features: &VehicleFeatures, vehicle: VehicleId) {
        loop {
            let batches = self.aside().take(&vehicle);
            if batches.is_empty() {
                return;
            }
            features.ingest_counted(batches).await;
            self.room.notify_waiters();
        }
    }

    /// The next vehicle of which something was put aside.
    fn turn(&self) -> Option<VehicleId> {
        self.aside().turns.pop_front()
    }

    /// Any vehicle of which something is put aside.
    fn waiting(&self) -> Option<VehicleId> {
        self.aside().batches.keys().next().cloned()
    }

    fn aside(&self) -> MutexGuard<'_, Aside> {
        self.aside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl End ===

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.open.store(false, Ordering::Release);
        *self.0.aside() = Aside { closing: true, ..Aside::default() };
        self.0.room.notify_waiters();
    }
}

// === impl Aside ===

impl Aside {
    /// Whether a batch has to wait, and does.
    fn put(&mut self, batch: &Arc<AppliedBatch>) -> bool {
        let vehicle = &batch.batch.vehicle;
        if self.done.contains(vehicle) {
            return false;
        }
        match self.batches.get_mut(vehicle) {
            Some(batches) => batches.push(Arc::clone(batch)),
            None if self.closing => return false,
            None => {
                self.turns.push_back(vehicle.clone());
                self.batches.insert(vehicle.clone(), vec![Arc::clone(batch)]);
            }
        }
        self.readings += batch.batch.readings.len();
        true
    }

    /// What waits of a vehicle; when nothing does, it is done.
    fn take(&mut self, vehicle: &VehicleId) -> Vec<Arc<AppliedBatch>> {
        let batches = self.batches.get_mut(vehicle).map(take).unwrap_or_default();
        self.readings -= batches.iter().map(|batch| batch.batch.readings.len()).sum::<usize>();
        if batches.is_empty() {
            self.batches.remove(vehicle);
            self.done.insert(vehicle.clone());
        }
        batches
    }
}

#[cfg(test)]
mod tests {
    use ev_domain::{Catalogue, Column, Readings, Source, signals};
    use ev_features::{FeatureValue, Plan};
    use ev_telemetry::{Append, Apply as _, SqliteOptions, SqliteTelemetryStore};

    use super::*;
    use crate::Config;

    fn started(overrides: &[(&str, &str)]) -> VehicleFeatures {
        let overrides = overrides.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let config = Config::load(None, [], overrides).expect("valid");
        let runtime = tokio::runtime::Handle::current();
        VehicleFeatures::start(&config.features, &Catalogue::standard(), &runtime).expect("started")
    }

    /// A discharge with a reading a second.
    fn discharge(vehicle: &str, sequence: u64, times_us: Vec<i64>) -> Append {
        let values = vec![-20.0; times_us.len()];
        let readings =
            Readings { times_us, columns: vec![Column { signal: signals::PACK_CURRENT, values: values.into() }] };
        let id = |id| VehicleId::new(id).expect("an id");
        Append {
            source: Source { gateway: id("depot"), boot: id("1") },
            batch: ReadingBatch { vehicle: id(vehicle), sequence, readings },
            received_us: now_us(),
        }
    }

    fn applied(append: Append) -> Arc<AppliedBatch> {
        let Append { source, batch, received_us } = append;
        Arc::new(AppliedBatch { source, batch, received_us })
    }

    async fn elapsed_s(features: &VehicleFeatures, vehicle: &str) -> Option<f32> {
        let views = features.views();
        let first = [views.by_name("discharge_now").expect("a view")];
        let plan = Plan::new(views, &["discharge_elapsed_s"], &first).expect("known");
        let vehicle = VehicleId::new(vehicle).expect("an id");
        match features.read(&vehicle, &plan).await.expect("read").features.remove(0).value {
            Some(FeatureValue::Number(number)) => Some(number),
            _ => None,
        }
    }

    struct Nobody;

    impl Beside for Nobody {
        fn page(&self, _: &ReadingBatch) {}
        fn end(&self, _: &VehicleId, _: i64) {}
    }

    async fn replay(features: &VehicleFeatures, store: &SqliteTelemetryStore) {
        features.replay(&Past { store, beside: &Nobody }).await;
    }

    async fn store(directory: &std::path::Path) -> SqliteTelemetryStore {
        let options = SqliteOptions::new(directory.join("telemetry.db"));
        SqliteTelemetryStore::open(options, &Catalogue::standard()).await.expect("opened")
    }

    fn seconds(now_us: i64, ago: std::ops::Range<i64>) -> Vec<i64> {
        ago.rev().map(|ago| now_us - ago * 1_000_000).collect()
    }

    #[tokio::test]
    async fn new_readings_wait_for_those_before_them() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (store, now_us) = (store(directory.path()).await, now_us());
        let past =
            [discharge("car-1", 1, seconds(now_us, 11..600)), discharge("car-2", 1, seconds(now_us, 7200..7800))];
        store.append(&past).await.expect("stored");
        let features = started(&[]);
        let new = discharge("car-1", 2, seconds(now_us, 1..11));
        store.append(std::slice::from_ref(&new)).await.expect("stored");
        features.apply(&[applied(new)]).await;
        assert_eq!(elapsed_s(&features, "car-1").await, None, "taken in, its past would be late");
        replay(&features, &store).await;
        assert_eq!(elapsed_s(&features, "car-1").await, Some(598.0));
        assert_eq!(elapsed_s(&features, "car-2").await, None, "too long ago");
        assert_eq!(features.replayed.load(Ordering::Relaxed), 599);
        let next = discharge("car-1", 3, vec![now_us]);
        features.apply(&[applied(next)]).await;
        assert_eq!(elapsed_s(&features, "car-1").await, Some(599.0), "nothing waits any more");
    }

    #[tokio::test]
    async fn what_was_put_aside_is_taken_in_wherever_replaying_ends() {
        let check = async |key: &str, value: &str, expected: Option<f32>| {
            let directory = tempfile::tempdir().expect("a temporary directory");
            let (store, now_us) = (store(directory.path()).await, now_us());
            let past = ["car-1", "car-2"].map(|vehicle| discharge(vehicle, 1, seconds(now_us, 101..600)));
            store.append(&past).await.expect("stored");
            let features = started(&[(key, value)]);
            features.apply(&[applied(discharge("car-2", 2, seconds(now_us, 0..101)))]).await;
            features.apply(&[applied(discharge("car-3", 1, seconds(now_us, 0..101)))]).await;
            replay(&features, &store).await;
            assert_eq!(elapsed_s(&features, "car-2").await, expected, "{key}");
            assert_eq!(elapsed_s(&features, "car-3").await, Some(100.0), "{key}");
        };
        check("features.replay", "0s", Some(100.0)).await;
        check("features.replay", "1h", Some(599.0)).await;
        check("features.replay_time_max", "0s", Some(599.0)).await;
        check("features.replay_readings_max", "1", Some(599.0)).await;
    }

    #[tokio::test]
    async fn too_much_put_aside_ends_it_and_a_closed_store_does() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (store, now_us) = (store(directory.path()).await, now_us());
        store.append(&[discharge("car-1", 1, seconds(now_us, 101..600))]).await.expect("stored");
        let features = started(&[]);
        let many: Vec<i64> = (0..=ASIDE_READINGS_MAX as i64).map(|place| now_us - 10_000_000 + place).collect();
        let many = [applied(discharge("car-9", 1, many))];
        let last = [applied(discharge("car-8", 1, seconds(now_us, 0..101)))];
        let apply = async {
            features.apply(&many).await;
            features.apply(&last).await;
        };
        tokio::time::timeout(Duration::from_secs(60), async { tokio::join!(apply, replay(&features, &store)) })
            .await
            .expect("nothing waits for ever");
        assert_eq!(elapsed_s(&features, "car-8").await, Some(100.0));

        store.close().await;
        let features = started(&[]);
        features.apply(&last).await;
        replay(&features, &store).await;
        assert_eq!(elapsed_s(&features, "car-8").await, Some(100.0));
    }
}
