//! Telemetry in the process: its store, its ingestor, and a runtime of their own.

mod store;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use ev_domain::{Catalogue, OverlayError};
use ev_telemetry::{Apply, Horizon, IngestConfig, IngestLimits, Ingestor, TelemetryError, TelemetryStore};
use tokio::runtime::{Handle, Runtime};

use crate::config::{DatabaseUrl, TelemetryConfig};
use store::Opened;

/// Threads that write, compact and apply.
const THREADS: usize = 2;
/// How often what is too old is deleted.
const EXPIRE_EVERY: Duration = Duration::from_secs(3_600);
/// Longest wait for the last readings to be stored, beyond the grace of the process.
const DRAIN_WAIT_MAX: Duration = Duration::from_secs(10);

/// Telemetry, started.
pub(crate) struct Telemetry {
    runtime: OwnRuntime,
    /// Locked as long as it is open, where what the store holds in memory is right for one process only.
    _lock: Option<fs_err::File>,
    pub(crate) ingestor: Arc<Ingestor>,
    pub(crate) catalogue: Arc<Catalogue>,
}

/// A runtime that may be dropped on another one, as by a start that is given up: its threads end by themselves.
struct OwnRuntime(Option<Runtime>);

/// Telemetry cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TelemetryStartError {
    /// The overlay file cannot be read.
    #[error("cannot read `telemetry.signal_overlay`, {path}")]
    OverlayUnreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The overlay file is wrong.
    #[error("`telemetry.signal_overlay`, {path}, is refused")]
    Overlay {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: OverlayError,
    },
    /// Another process takes telemetry into the same directory.
    #[error("{path} is in use: stop the other evserve, or give this one a data directory of its own")]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The store cannot be opened.
    #[error("cannot open the telemetry store {path}")]
    Store {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: TelemetryError,
    },
    /// The database did not answer in time.
    #[error(
        "the telemetry database {url} did not answer for {waited:?}: start it, correct `telemetry.database_url`, or \
         allow more time with `telemetry.database_wait`"
    )]
    DatabaseUnreachable {
        /// `telemetry.database_url`, without its password.
        url: DatabaseUrl,
        /// `telemetry.database_wait`.
        waited: Duration,
        /// Why.
        #[source]
        source: TelemetryError,
    },
    /// The database refused, or holds what no evserve wrote.
    #[error(
        "the telemetry database {url} cannot be used: check user, password and database in `telemetry.database_url`"
    )]
    Database {
        /// `telemetry.database_url`, without its password.
        url: DatabaseUrl,
        /// Why.
        #[source]
        source: TelemetryError,
    },
    /// The system gives no threads.
    #[error("cannot start the threads of telemetry")]
    Threads(#[source] std::io::Error),
    /// Opening the store ended before its time: a bug.
    #[error("opening the telemetry store ended before its time")]
    Ended,
}

/// Microseconds since 1970-01-01 UTC.
pub(crate) fn now_us() -> i64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX)
}

/// The catalogue with the fleet's own signals.
///
/// # Errors
///
/// When the overlay file cannot be read or is refused.
pub(crate) fn catalogue(config: &TelemetryConfig) -> Result<Catalogue, TelemetryStartError> {
    let path = &config.signal_overlay;
    if path.as_os_str().is_empty() {
        return Ok(Catalogue::standard());
    }
    let text = fs_err::read_to_string(path)
        .map_err(|source| TelemetryStartError::OverlayUnreadable { path: path.clone(), source })?;
    let overlaid = Catalogue::standard().with_overlay(&text);
    overlaid.map_err(|source| TelemetryStartError::Overlay { path: path.clone(), source })
}

// === impl Telemetry ===

impl Telemetry {
    /// Opens the store in `directory` and starts taking in. `apply` is shown every batch.
    ///
    /// # Errors
    ///
    /// [`TelemetryStartError`].
    pub(crate) async fn start(
        config: &TelemetryConfig,
        directory: PathBuf,
        catalogue: Arc<Catalogue>,
        apply: Vec<Arc<dyn Apply>>,
    ) -> Result<Telemetry, TelemetryStartError> {
        let runtime = OwnRuntime::start()?;
        let (opening, to_open) = (Arc::clone(&catalogue), config.clone());
        // On its own runtime, whose drivers its connections keep.
        let opened = runtime.handle().spawn(async move { store::open(&to_open, directory, &opening).await }).await;
        let Opened { store, lock } = opened.map_err(|_| TelemetryStartError::Ended)??;
        let handle = runtime.handle();
        let ingestor = Ingestor::start(Arc::clone(&store), config.ingest(), apply, &handle);
        handle.spawn(expire(store, config.clone()));
        Ok(Telemetry { runtime, _lock: lock, ingestor: Arc::new(ingestor), catalogue })
    }

    /// Its runtime.
    pub(crate) fn handle(&self) -> Handle {
        self.runtime.handle()
    }

    /// Stores what was received, and closes the store. What cannot be stored in time is not acknowledged.
    pub(crate) async fn stop(self) {
        let (ingestor, handle) = (Arc::clone(&self.ingestor), self.handle());
        let stopped = handle.spawn(async move {
            ingestor.drain().await;
            ingestor.store().close().await;
        });
        if tokio::time::timeout(DRAIN_WAIT_MAX, stopped).await.is_err() {
            tracing::error!("telemetry was not stored in time; gateways send again what was not acknowledged");
        }
    }
}

// === impl OwnRuntime ===

impl OwnRuntime {
    fn start() -> Result<OwnRuntime, TelemetryStartError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("telemetry")
            .enable_all()
            .build();
        Ok(OwnRuntime(Some(runtime.map_err(TelemetryStartError::Threads)?)))
    }

    fn handle(&self) -> Handle {
        self.0.as_ref().map_or_else(Handle::current, |runtime| runtime.handle().clone())
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// Deletes what is too old, now and every hour.
async fn expire(store: Arc<dyn TelemetryStore>, config: TelemetryConfig) {
    let mut every = tokio::time::interval(EXPIRE_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let now = now_us();
        let ago = |kept: Duration| now.saturating_sub(i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
        let horizon = Horizon {
            readings_us: ago(config.keep_readings),
            minutes_us: ago(config.keep_minutes),
            hours_us: ago(config.keep_hours),
            sources_us: ago(config.keep_minutes),
        };
        match store.expire(&horizon).await {
            Ok(expired) if expired != ev_telemetry::Expired::default() => {
                tracing::info!(
                    chunks = expired.chunks,
                    pages = expired.pages,
                    sources = expired.sources,
                    rejects = expired.rejects,
                    "old telemetry deleted"
                );
            }
            Ok(_) => {}
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "cannot delete old telemetry");
            }
        }
    }
}

// === impl TelemetryConfig ===

impl TelemetryConfig {
    fn ingest(&self) -> IngestConfig {
        IngestConfig {
            limits: IngestLimits {
                batch_readings_max: self.batch_readings_max,
                future_max: self.future_max,
                past_max: self.keep_readings,
                ..IngestLimits::default()
            },
            credit: self.credit,
            queue_readings_max: self.queue_readings_max,
            ..IngestConfig::default()
        }
    }
}
