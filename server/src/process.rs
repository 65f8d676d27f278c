//! The process: what starts in which order, and how it ends.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ev_registry::Registry;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic_health::server::HealthReporter;
use tower::{Layer as _, ServiceBuilder};

mod models;
mod ports;
mod services;
mod vehicles;

use models::Models;
use ports::{Addresses, Ports};
use services::{Parts, Shared};
use vehicles::Vehicles;

use crate::{
    Config, ListenError,
    cores::serving_cores,
    deploy::{Deployer, Routes, TrustedKeyError},
    features::{FeaturesStartError, VehicleFeatures},
    grpc::{
        DeadlineLayer, Health, INGEST_SIZE_KEY, MessageMemory, Origins, ReasonLayer, TraceLayer, WebConfig, WebService,
        keep_health_current, keep_predictions_current, now_ms,
    },
    http::{self, HttpState},
    journal::{self, AlertJournalError},
    lane::Predicted,
    observability::{Metrics, Traces},
    predictions::Predictions,
    registry::{self, RegistryStartError},
    rollouts::OutcomesTeller,
    serving::{ConnectionConfig, Cores, accept},
    telemetry::{self, Telemetry, TelemetryStartError},
};

/// A running server.
pub struct Server {
    addresses: Addresses,
    config: Config,
    health: watch::Sender<Health>,
    draining: CancellationToken,
    abort: CancellationToken,
    stop_http: CancellationToken,
    acceptors: [JoinHandle<()>; 2],
    cores: Arc<Cores>,
    ingest: Arc<Cores>,
    telemetry: Telemetry,
    journal: journal::Running,
    features: Arc<VehicleFeatures>,
    predictions: Arc<Predictions>,
    background: Vec<JoinHandle<()>>,
    registry: Arc<Registry>,
    deployer: Arc<Deployer>,
    traces: Traces,
    #[cfg(feature = "bench")]
    pub(crate) in_process: Box<dyn Fn() -> crate::bench::InProcess + Send + Sync>,
}

/// The server cannot start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The registry cannot be opened.
    #[error(transparent)]
    Registry(#[from] Box<RegistryStartError>),
    /// The system gives no threads or descriptors.
    #[error("cannot start the serving threads and those that load models")]
    Threads(#[source] std::io::Error),
    /// The collector's address is not one.
    #[error("cannot export traces to `{endpoint}`")]
    Traces {
        /// `observability.otlp_endpoint`.
        endpoint: String,
        /// Why.
        #[source]
        source: opentelemetry_otlp::ExporterBuildError,
    },
    /// A bug of the build.
    #[error("cannot serve reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// Telemetry cannot start.
    #[error(transparent)]
    Telemetry(#[from] TelemetryStartError),
    /// The journal of alerts cannot be opened.
    #[error(transparent)]
    AlertJournal(#[from] AlertJournalError),
    /// Certificates for a webhook cannot be read.
    #[error("cannot read `alerts.webhooks.ca_certificates`, {path}")]
    WebhookCertificates {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key whose signatures shall count cannot be read.
    #[error("cannot read `{key}` of `registry.trusted_keys`")]
    TrustedKey {
        /// As it is configured.
        key: String,
        /// Why.
        #[source]
        source: TrustedKeyError,
    },
    /// Features cannot be computed or shared as configured.
    #[error(transparent)]
    Features(#[from] FeaturesStartError),
    /// The prediction log cannot be opened.
    #[error(transparent)]
    Predictions(#[from] ev_outcomes::OutcomesError),
    /// The alerts' configuration is refused.
    #[error(transparent)]
    Alerts(#[from] ev_alerts::ConfigError),
}

// === impl Server ===

impl Server {
    /// Opens the registry, registers bundled models, loads and warms what `production` asks for, and serves.
    ///
    /// Ports are bound first, so that a taken one is told before anything is written.
    /// A model version that cannot be loaded is logged and leaves the others alone.
    ///
    /// # Errors
    ///
    /// [`StartError`] naming what failed and what to do.
    pub async fn start(config: Config) -> Result<Server, StartError> {
        let started = Instant::now();
        let ports = Ports::bind(&config)?;
        let addresses = ports.addresses;
        let traces = Traces::start(&config.observability)
            .map_err(|source| StartError::Traces { endpoint: config.observability.otlp_endpoint.clone(), source })?;

        let routes = Arc::new(Routes::default());
        let (health, health_seen) = watch::channel(Health::Starting);
        let (draining, abort, stop_http) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());
        let catalogue = Arc::new(telemetry::catalogue(&config.telemetry)?);
        let features = VehicleFeatures::start(&config.features, &catalogue, &tokio::runtime::Handle::current())?;
        let features = Arc::new(features);
        // Models know the features that they may ask for.
        let models = Models::open(&config, &routes, &features).await?;
        // Readings have somewhere to go before anybody can send them.
        let vehicles = Vehicles::start(&config, catalogue, &features).await?;

        let reporter = HealthReporter::new();
        let parts = Parts {
            config: &config,
            routes: &routes,
            features: &features,
            models: &models,
            vehicles: &vehicles,
            reporter: &reporter,
            draining: &draining,
        };
        let shared = parts.shared(addresses.grpc);
        // Readings that come ask for predictions, which ask the services' models.
        let predicted = Predicted::new(&config.predictions, &config.alerts.fleet, Arc::clone(&vehicles.alerts));
        keep_predictions_current(&vehicles.renewal, &shared.predictor, &vehicles.lane, &Arc::new(predicted));
        let connection = connection_config(&config);
        let memory = MessageMemory::new(bytes(config.grpc.image_messages_memory_max), connection.silence_max());
        let ingest_dispatch = parts.ingest()?;
        let dispatch = parts.dispatch(&shared, &memory)?;
        let Models { registry, predictions, deployer, .. } = models;
        let Vehicles { alerts, renewal, telemetry, journal, .. } = vehicles;
        let Shared { fleet, rollouts, forwarded, .. } = shared;

        // Threads that serve; nobody is let in yet.
        let trace = TraceLayer { tracer: traces.tracer(), ratio: config.observability.trace_sample_ratio };
        let reason = ReasonLayer { size_key: "" };
        let service = ServiceBuilder::new().layer(reason).layer(trace).layer(DeadlineLayer).service(dispatch);
        #[cfg(feature = "bench")]
        let in_process = {
            let service = service.clone();
            Box::new(move || crate::bench::InProcess::new(service.clone()))
        };
        // The configuration was checked; of one that was not, nothing is allowed.
        let origins = Origins::parse(&config.grpc.web_allowed_origins).unwrap_or_default();
        let web = WebConfig { origins, silence_max: connection.silence_max(), http_address: addresses.http };
        let ingest_web = web.clone();
        let ingest = move || {
            let ingest = ReasonLayer { size_key: INGEST_SIZE_KEY }.layer(ingest_dispatch.of_connection());
            WebService::new(ingest, ingest_web.clone())
        };
        let ingest = Cores::start("ingest", 1, ingest, connection, &draining, &abort).map_err(StartError::Threads)?;
        let ingest = Arc::new(ingest);
        let service = WebService::new(service, web);
        let core_count = serving_cores(config.grpc.serving_cores);
        let cores = Cores::start("serve", core_count, move || service.clone(), connection, &draining, &abort);
        let cores = Arc::new(cores.map_err(StartError::Threads)?);

        let metrics = Metrics::new(
            Arc::clone(&routes),
            cores.connections(),
            memory,
            Arc::clone(&telemetry.ingestor),
            alerts,
            Arc::clone(&features),
        )
        .with_renewal(renewal)
        .with_predictions(Arc::clone(predictions.counts()))
        .with_rollouts(Arc::clone(&rollouts))
        .with_uploads(registry.staged_counts())
        .with_cache(registry.cache_counts().unwrap_or_default());
        let http_state = Arc::new(HttpState { health: health_seen.clone(), metrics });
        let http_task = tokio::spawn(http::serve(ports.http, http_state, stop_http.clone()));
        // Before the registry is read: what others change while this loads is not missed.
        let follow = registry::follow(Arc::clone(&registry), Arc::clone(&deployer), draining.clone());
        // From here on callers are answered, if only that their model is loading.
        deployer.announce().await.map_err(|source| Box::new(registry::start_error(&config, source)))?;
        let health_task = tokio::spawn(keep_health_current(reporter, Arc::clone(&deployer), routes, health_seen));
        let teller = OutcomesTeller {
            registry: Arc::clone(&registry),
            predictions: Arc::clone(&predictions),
            changes: rollouts.changes(),
        };
        let teller = tokio::spawn(teller.run(draining.clone(), now_ms));
        let rollouts_task = tokio::spawn(rollouts.run(draining.clone(), now_ms));
        let acceptors = [
            (ports.grpc, &cores, config.grpc.connections_max),
            (ports.telemetry, &ingest, config.telemetry.connections_max),
        ]
        .map(|(listener, cores, max)| tokio::spawn(accept(listener, Arc::clone(cores), max, draining.clone())));
        let loaded = registry::load(&deployer, config.registry.database_wait).await;
        loaded.map_err(|source| Box::new(registry::start_error(&config, source)))?;
        let follow = tokio::spawn(follow);
        let fleet = tokio::spawn(fleet.run(draining.clone()));
        let forwarded = forwarded.map(|forwarded| tokio::spawn(forwarded.run(draining.clone())));
        let tidy = registry::keep_tidy(
            Arc::clone(&deployer),
            Arc::clone(&registry),
            config.registry.clone(),
            draining.clone(),
        );
        let tidy = tokio::spawn(tidy);
        let uploads = tokio::spawn(registry::count_uploads(Arc::clone(&registry), draining.clone()));
        health.send_replace(Health::Serving);
        tracing::info!(
            grpc = %addresses.grpc,
            telemetry = %addresses.telemetry,
            http = %addresses.http,
            cores = core_count,
            started_in_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "evserve ready"
        );
        Ok(Server {
            addresses,
            config,
            health,
            draining,
            abort,
            stop_http,
            acceptors,
            cores,
            ingest,
            telemetry,
            journal,
            features,
            predictions,
            background: [http_task, health_task, rollouts_task, teller, follow, fleet, tidy, uploads]
                .into_iter()
                .chain(forwarded)
                .collect(),
            registry,
            deployer,
            traces,
            #[cfg(feature = "bench")]
            in_process,
        })
    }

    /// Where gRPC is served; of port 0 the one the system chose.
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// Where gateways stream to.
    #[must_use]
    pub fn telemetry_address(&self) -> SocketAddr {
        self.addresses.telemetry
    }

    /// Where probes and metrics are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.addresses.http
    }

    /// Ends: not ready, a pause for endpoints to converge, GOAWAY, calls in flight finish, and what is left after the grace is cut off.
    pub async fn stop(self) {
        let Server {
            config,
            health,
            draining,
            abort,
            stop_http,
            acceptors,
            cores,
            ingest,
            telemetry,
            journal,
            features,
            predictions,
            background,
            registry,
            deployer,
            traces,
            ..
        } = self;
        health.send_replace(Health::Draining);
        tracing::info!(pause = ?config.shutdown.pause, grace = ?config.shutdown.grace, "draining");
        tokio::time::sleep(config.shutdown.pause).await;
        draining.cancel();
        for acceptor in acceptors {
            let _ = acceptor.await;
        }
        let ends = Instant::now() + config.shutdown.grace;
        let (calls, streams) =
            tokio::join!(drain(cores, config.shutdown.grace, &abort), drain(ingest, config.shutdown.grace, &abort));
        let drained = calls && streams;
        telemetry.stop().await;
        // Now that nothing is judged any more.
        journal.stop().await;
        features.flush(ends.saturating_duration_since(Instant::now())).await;
        deployer.retire(ends.saturating_duration_since(Instant::now())).await;
        stop_http.cancel();
        for task in background {
            task.abort();
            let _ = task.await;
        }
        predictions.stop().await;
        registry.close().await;
        // The exporter waits for the collector: not on this thread, and not for ever.
        let flushed = tokio::task::spawn_blocking(move || traces.stop());
        let _ = tokio::time::timeout(Duration::from_secs(5), flushed).await;
        tracing::info!(drained, "evserve stopped");
    }
}

/// Waits for the serving threads; true when every call finished in time.
async fn drain(cores: Arc<Cores>, grace: Duration, abort: &CancellationToken) -> bool {
    let Some(cores) = Arc::into_inner(cores) else { return false };
    let mut joined = tokio::task::spawn_blocking(move || cores.join());
    if tokio::time::timeout(grace, &mut joined).await.is_ok() {
        return true;
    }
    tracing::warn!("calls were still in flight after the grace and are cut off");
    abort.cancel();
    let _ = joined.await;
    false
}

pub(crate) fn connection_config(config: &Config) -> ConnectionConfig {
    ConnectionConfig {
        streams_max: config.grpc.streams_per_connection_max,
        header_list_size_max: u32::try_from(config.grpc.header_list_size_max.as_u64()).unwrap_or(u32::MAX),
        age_max: config.grpc.connection_age_max,
        keepalive_interval: config.grpc.keepalive_interval,
        keepalive_timeout: config.grpc.keepalive_timeout,
    }
}

fn bytes(size: bytesize::ByteSize) -> usize {
    usize::try_from(size.as_u64()).unwrap_or(usize::MAX)
}
