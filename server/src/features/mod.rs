//! Features of vehicles in the process: fed by telemetry, read by predictions, in memory and behind it in Redis.

mod replay;

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use ev_domain::{Catalogue, ReadingBatch, VehicleId};
use ev_features::{
    Counts, FeatureReads, FeatureValue, Features, Fetched, Ingested, MemoryOnlineStore, MemoryUsage, OnlineStore, Plan,
    RedisOnlineStore, SettingsError, StoreError, TieredOnlineStore, TieredStats, ViewId, Views, ViewsError, WriteError,
};
use ev_telemetry::{AppliedBatch, Apply};
use futures_util::StreamExt as _;
use tokio::runtime::Handle;

pub(crate) use replay::{Beside, Past};
use replay::{Limits, Replay};

use crate::{config::FeaturesConfig, telemetry::now_us};

/// Vehicles that Redis is asked about at one time, of a group of batches that brings new ones.
const VEHICLES_AT_ONCE: usize = 32;
/// Longest wait for Redis at the end, of the grace of the process. What it does not get, replaying telemetry brings back.
const FLUSH_WAIT_MAX: Duration = Duration::from_secs(5);

/// What is known of vehicles.
pub(crate) struct VehicleFeatures {
    features: Features,
    store: Store,
    /// Every view.
    all: Vec<ViewId>,
    /// Where the chemistry of a battery is; none where no view has it.
    chemistry: Option<Plan>,
    counts: Mutex<Counts>,
    replay: Replay,
    replayed: AtomicU64,
}

/// Where rows are kept.
enum Store {
    Memory(Arc<MemoryOnlineStore>),
    Tiered(Arc<TieredOnlineStore>),
}

/// What happened since the start, and how full memory is.
pub(crate) struct FeatureStats {
    /// Of readings.
    pub(crate) counts: Counts,
    /// Readings that were replayed.
    pub(crate) replayed: u64,
    pub(crate) memory: MemoryUsage,
    /// None without Redis.
    pub(crate) redis: Option<TieredStats>,
}

/// Features cannot be computed or shared as configured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FeaturesStartError {
    /// A file that the configuration names cannot be read.
    #[error("cannot read `features.{setting}`, {path}")]
    Unreadable {
        /// Which setting.
        setting: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The fleet's own views are wrong.
    #[error("`features.views`, {path}, is refused")]
    Views {
        /// The file; empty: those of the program, which is a bug.
        path: PathBuf,
        /// Why.
        #[source]
        source: ViewsError,
    },
    /// A setting is refused.
    #[error("`features` is refused")]
    Settings(#[source] SettingsError),
}

// === impl VehicleFeatures ===

impl VehicleFeatures {
    /// Reads the views and connects them to a store, whose connections live on `runtime`. A Redis that cannot be reached
    /// is no reason not to start.
    ///
    /// # Errors
    ///
    /// [`FeaturesStartError`].
    pub(crate) fn start(
        config: &FeaturesConfig,
        catalogue: &Catalogue,
        runtime: &Handle,
    ) -> Result<VehicleFeatures, FeaturesStartError> {
        let refuse = FeaturesStartError::Settings;
        let views = Arc::new(views(config, catalogue)?);
        let store = if config.redis.is_used() {
            let redis = RedisOnlineStore::new(Arc::clone(&views), config.redis.settings(pem(config)?), runtime.clone());
            let tiered = TieredOnlineStore::start(config.memory(), redis.map_err(refuse)?, runtime).map_err(refuse)?;
            Store::Tiered(Arc::new(tiered))
        } else {
            Store::Memory(Arc::new(MemoryOnlineStore::new(config.memory()).map_err(refuse)?))
        };
        let all = views.iter().map(|(id, _)| id).collect();
        let chemistry = Plan::new(&views, &["chemistry"], &[]).ok();
        let features = Features::new(views, config.aggregator(), store.shared()).map_err(refuse)?;
        Ok(VehicleFeatures {
            features,
            store,
            all,
            chemistry,
            counts: Mutex::default(),
            replay: Replay::new(Limits::of(config)),
            replayed: AtomicU64::new(0),
        })
    }

    /// What is known of a vehicle now.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when nothing can be said at all.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub(crate) async fn read(&self, vehicle: &VehicleId, plan: &Plan) -> Result<FeatureReads, StoreError> {
        self.features.read(vehicle, plan, now_us()).await
    }

    /// All rows of a vehicle, by the places of the views: for whoever evaluates several plans over them.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when nothing can be said at all.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub(crate) async fn known(&self, vehicle: &VehicleId) -> Result<Fetched, StoreError> {
        self.features.fetch(vehicle, &self.all).await
    }

    /// Writes features of a view that is written from outside; they hold from `event_time_us`, or from now. Says whether
    /// they were written: they are not when a newer value of one of them is there.
    ///
    /// # Errors
    ///
    /// [`WriteError`] names what is wrong.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves open whether they are written, all or none.
    pub(crate) async fn put(
        &self,
        vehicle: &VehicleId,
        view: &str,
        values: &[(&str, FeatureValue)],
        event_time_us: Option<i64>,
    ) -> Result<bool, WriteError> {
        let now_us = now_us();
        self.features.put(vehicle, view, values, event_time_us.unwrap_or(now_us), now_us).await
    }

    /// Chemistry of a vehicle's battery, as it was written; none where it was not.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when nothing can be said at all.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    pub(crate) async fn chemistry(&self, vehicle: &VehicleId) -> Result<Option<String>, StoreError> {
        let Some(plan) = &self.chemistry else { return Ok(None) };
        let reads = self.read(vehicle, plan).await?;
        Ok(reads.features.into_iter().find_map(|read| match read.value {
            Some(FeatureValue::Text(text)) => Some(text),
            _ => None,
        }))
    }

    /// The views that features are declared in.
    pub(crate) fn views(&self) -> &Arc<Views> {
        self.features.views()
    }

    /// Takes in what was stored of late, once; readings that come meanwhile wait for those before them.
    pub(crate) async fn replay(&self, past: &Past<'_>) {
        self.replay.run(self, past).await;
    }

    /// Waits until Redis has what memory has, for at most `grace`.
    pub(crate) async fn flush(&self, grace: Duration) {
        let Store::Tiered(tiered) = &self.store else { return };
        // Of one that does not answer nothing is expected.
        let grace = if tiered.stats().is_open { Duration::ZERO } else { grace.min(FLUSH_WAIT_MAX) };
        let vehicles = tiered.flush(grace).await;
        if vehicles > 0 {
            tracing::warn!(vehicles, "the shared feature store did not get the newest features of some vehicles");
        }
    }

    /// What happened since the start.
    pub(crate) fn stats(&self) -> FeatureStats {
        let (memory, redis) = match &self.store {
            Store::Memory(memory) => (memory.usage(), None),
            Store::Tiered(tiered) => {
                let stats = tiered.stats();
                let TieredStats { vehicles, bytes, evicted, .. } = stats;
                (MemoryUsage { vehicles, bytes, evicted }, Some(stats))
            }
        };
        let counts = *self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        FeatureStats { counts, replayed: self.replayed.load(Ordering::Relaxed), memory, redis }
    }

    async fn ingest(&self, batches: Vec<Arc<AppliedBatch>>) -> Counts {
        let mut counts = Counts::default();
        for applied in batches {
            let Ingested { applied, store } = self.features.ingest(&applied.batch, applied.received_us).await;
            counts += applied.counts;
            log(store);
        }
        counts
    }
}

impl VehicleFeatures {
    /// Takes in what was stored before the start.
    async fn replayed(&self, batch: &ReadingBatch, now_us: i64) {
        // What it counts was counted when it came.
        let Ingested { store, .. } = self.features.ingest(batch, now_us).await;
        log(store);
        self.replayed.fetch_add(batch.readings.len() as u64, Ordering::Relaxed);
    }

    /// Takes in batches of one vehicle.
    async fn ingest_counted(&self, batches: Vec<Arc<AppliedBatch>>) {
        let counts = self.ingest(batches).await;
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) += counts;
    }
}

#[async_trait]
impl Apply for VehicleFeatures {
    async fn apply(&self, batches: &[Arc<AppliedBatch>]) {
        let ready = self.replay.put_aside(batches).await;
        let batches = ready.as_deref().unwrap_or(batches);
        let mut of_vehicles: HashMap<&VehicleId, Vec<Arc<AppliedBatch>>> = HashMap::new();
        for applied in batches {
            of_vehicles.entry(&applied.batch.vehicle).or_default().push(Arc::clone(applied));
        }
        // The first batch of a vehicle asks Redis what was known of it before: many of them are not one after the other.
        let groups = of_vehicles.into_values().map(|batches| self.ingest(batches));
        let mut ingested = futures_util::stream::iter(groups).buffer_unordered(VEHICLES_AT_ONCE);
        let mut sum = Counts::default();
        while let Some(counts) = ingested.next().await {
            sum += counts;
        }
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) += sum;
    }
}

// === impl Store ===

impl Store {
    fn shared(&self) -> Arc<dyn OnlineStore> {
        match self {
            Store::Memory(memory) => Arc::clone(memory) as _,
            Store::Tiered(tiered) => Arc::clone(tiered) as _,
        }
    }
}

fn log(store: Result<(), StoreError>) {
    if let Err(error) = store {
        // Neither memory nor what is before Redis refuses.
        tracing::error!(%error, "features could not be kept");
    }
}

fn views(config: &FeaturesConfig, catalogue: &Catalogue) -> Result<Views, FeaturesStartError> {
    let path = &config.views;
    let views = match read("views", path)? {
        None => Views::bundled(catalogue),
        Some(bytes) => Views::parse(&String::from_utf8_lossy(&bytes), catalogue),
    };
    views.map_err(|source| FeaturesStartError::Views { path: path.clone(), source })
}

fn pem(config: &FeaturesConfig) -> Result<Option<Vec<u8>>, FeaturesStartError> {
    read("redis.tls_root_certificates", &config.redis.tls_root_certificates)
}

/// What is in a file; none where none is named.
fn read(setting: &'static str, path: &PathBuf) -> Result<Option<Vec<u8>>, FeaturesStartError> {
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    let unreadable = |source| FeaturesStartError::Unreadable { setting, path: path.clone(), source };
    fs_err::read(path).map(Some).map_err(unreadable)
}
