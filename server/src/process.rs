//! The process: what starts in which order, and how it ends.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use ev_alerts::{
    Alerts,
    webhook::{Roots, Webhook, WebhookConfig},
};
use ev_batching::Budget;
use ev_registry::Registry;
use ev_telemetry::Apply;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tonic_health::server::{HealthReporter, HealthService};
use tower::{Layer as _, ServiceBuilder};

use crate::{
    Config, ListenError,
    comparison::Comparer,
    cores::serving_cores,
    deploy::{Deployer, DeployerConfig, Routes, Signatures, TrustedKeyError},
    features::{FeaturesStartError, Past, VehicleFeatures},
    fleet::{Fleet, Forwarded},
    gates::Gatekeeper,
    grpc::{
        DeadlineLayer, Dispatch, EVENT_WATCHERS_MAX, GateService, Health, INGEST_SIZE_KEY, IngestDispatch,
        IngestService, MessageMemory, Origins, OutcomesService, Predictor, QueryService, ROLLOUT_WATCHERS_MAX,
        ReasonLayer, RegistryService, Renewals, RolloutsService, ServiceLimits, TraceLayer, WebConfig, WebService,
        keep_health_current, keep_predictions_current, now_ms,
    },
    http::{self, HttpState},
    journal::{self, AlertJournal, AlertJournalError},
    lane::{Lane, Predicted, Remembering},
    libraries,
    observability::{Metrics, Traces},
    pipeline::PredictionIds,
    predictions::Predictions,
    registry::{self, RegistryStartError},
    renewal::Renewal,
    rollouts::{OutcomesTeller, Rollouts},
    serving::{ConnectionConfig, Cores, accept, listen},
    telemetry::{self, Telemetry, TelemetryStartError, now_us},
};

/// How often the thermal risk of a pack is assessed anew at most.
const ASSESS_EVERY: Duration = Duration::from_secs(1);

/// A running server.
pub struct Server {
    grpc_address: SocketAddr,
    telemetry_address: SocketAddr,
    http_address: SocketAddr,
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
        let grpc_listener = listen(config.grpc.address, "gRPC")?;
        let telemetry_listener = listen(config.telemetry.address, "telemetry")?;
        let http_listener = listen(config.http.address, "HTTP")?;
        let (grpc_address, http_address) =
            (local(&grpc_listener, config.grpc.address), local(&http_listener, config.http.address));
        let telemetry_address = local(&telemetry_listener, config.telemetry.address);
        let traces = Traces::start(&config.observability)
            .map_err(|source| StartError::Traces { endpoint: config.observability.otlp_endpoint.clone(), source })?;

        let routes = Arc::new(Routes::default());
        let (core_count, quota) = (serving_cores(config.grpc.serving_cores), serving_cores(0));
        let (health, health_seen) = watch::channel(Health::Starting);
        let (draining, abort, stop_http) =
            (CancellationToken::new(), CancellationToken::new(), CancellationToken::new());

        let catalogue = Arc::new(telemetry::catalogue(&config.telemetry)?);
        let features = VehicleFeatures::start(&config.features, &catalogue, &tokio::runtime::Handle::current())?;
        let features = Arc::new(features);
        let (registry, bundled) = registry::open(&config).await.map_err(Box::new)?;
        let registry = Arc::new(registry);
        let signatures = Signatures::load(&config.registry)
            .map_err(|(key, source)| StartError::TrustedKey { key, source })?
            .with_bundled(bundled.into_iter().map(|version| (version.model, version.digest)));
        let predictions = Predictions::start(&config.predictions.log, &config.data.directory.join("predictions"))?;
        let predictions = Arc::new(predictions);
        let deployer = Deployer::new(
            Arc::clone(&registry),
            Arc::clone(&routes),
            DeployerConfig {
                core_count,
                batching: config.batching.clone(),
                quota,
                budget: Budget::new(config.batching.workers(quota)),
                pictures: config.images.limits(),
                views: Arc::clone(features.views()),
                signatures: signatures.clone(),
                tasks: config.routes.clone(),
                backends: ev_models::backends(&libraries::of(&config.backends)),
                predictions: Arc::clone(&predictions),
                serve: (config.deploy.serve.clone(), config.deploy.limits()),
            },
        );
        let deployer = Arc::new(deployer.map_err(StartError::Threads)?);

        let directory = config.data.directory.join("telemetry");
        let alerts = Arc::new(Alerts::new(config.alerts.life.clone(), fastrand::u64(..)));
        let lane = Arc::new(Lane::new(&config.alerts, Arc::clone(&alerts))?);
        let renewal = Arc::new(Renewal::new(ASSESS_EVERY, config.predictions.renew_interval));
        // The rule waits for no store; what is predicted anew finds what its readings changed.
        let apply: Vec<Arc<dyn Apply>> =
            vec![Arc::clone(&lane) as _, Arc::clone(&features) as _, Arc::clone(&renewal) as _];
        let telemetry = Telemetry::start(&config.telemetry, directory, catalogue, apply).await?;
        let (replayed, stored) = (Arc::clone(&features), Arc::clone(telemetry.ingestor.store()));
        let remembering = Remembering::new(Arc::clone(&lane));
        telemetry.handle().spawn(async move {
            replayed.replay(&Past { store: &*stored, beside: &remembering }).await;
        });
        Lane::keep_current(Arc::clone(&alerts), &telemetry.handle());
        Lane::log(alerts.subscribe(), &telemetry.handle());
        let journal = AlertJournal::open(&config.data.directory.join("alerts"), &config.alerts.webhooks)?;
        for webhook in &config.alerts.webhooks {
            let (owed, settler) = (journal.owed(webhook), journal.settler(webhook));
            let roots = roots(webhook)?;
            let webhook = Webhook::new(webhook.clone(), roots, Arc::new(|| now_us() / 1_000_000), fastrand::u64(..))?;
            telemetry.handle().spawn(webhook.telling(settler).owing(owed).run(alerts.subscribe()));
        }
        let journal = journal.start(&alerts, now_us());

        let predictor = Arc::new(Predictor {
            routes: Arc::clone(&routes),
            ids: PredictionIds::new(),
            draining: draining.clone(),
            batch_rows_max: config.grpc.batch_rows_max,
            alerts,
            features: Arc::clone(&features),
            renewals: Renewals::new(telemetry.handle()),
        });
        let predicted = Predicted::new(&config.predictions, &config.alerts.fleet, Arc::clone(&predictor.alerts));
        keep_predictions_current(&renewal, &predictor, &lane, &Arc::new(predicted));
        let reporter = HealthReporter::new();
        let health_service = || HealthService::from_health_reporter(reporter.clone());
        let gates = GateService {
            gatekeeper: Arc::new(Gatekeeper::new(Arc::clone(&registry), Arc::clone(&deployer))),
            signatures,
        };
        let fleet = Arc::new(Fleet::new(
            Arc::clone(&registry),
            Arc::clone(&deployer),
            Arc::clone(&routes),
            config.deploy.clone(),
            advertised_address(&config, grpc_address),
        ));
        let registry_service = RegistryService {
            fleet: Arc::clone(&fleet),
            registry: Arc::clone(&registry),
            deployer: Arc::clone(&deployer),
            routes: Arc::clone(&routes),
            gates: gates.clone(),
            comparer: Arc::new(Comparer::new(Arc::clone(&deployer))),
            watchers: Arc::new(Semaphore::new(EVENT_WATCHERS_MAX)),
            control: tokio::runtime::Handle::current(),
            draining: draining.clone(),
        };
        let rollouts = Arc::new(Rollouts::new(Arc::clone(&registry), Arc::clone(&deployer), Arc::clone(&routes)));
        let rollouts_service = RolloutsService {
            rollouts: Arc::clone(&rollouts),
            watchers: Arc::new(Semaphore::new(ROLLOUT_WATCHERS_MAX)),
            registry: Arc::clone(&registry),
            gates,
            control: tokio::runtime::Handle::current(),
            draining: draining.clone(),
        };
        let limits = ServiceLimits {
            message: bytes(config.grpc.message_size_max),
            image_message: bytes(config.grpc.image_message_size_max),
            upload: bytes(config.grpc.upload_message_size_max),
        };
        let connection = connection_config(&config);
        let memory = MessageMemory::new(bytes(config.grpc.image_messages_memory_max), connection.silence_max());
        let query_service = QueryService {
            ingestor: Arc::clone(&telemetry.ingestor),
            catalogue: Arc::clone(&telemetry.catalogue),
            control: telemetry.handle(),
            draining: draining.clone(),
            since_us: now_us(),
        };
        let ingest_service = IngestService::new(
            Arc::clone(&telemetry.ingestor),
            Arc::clone(&telemetry.catalogue),
            draining.clone(),
            u32::try_from(config.telemetry.batch_readings_max).unwrap_or(u32::MAX),
        );
        let message_size_max = bytes(config.telemetry.message_size_max);
        let ingest_dispatch =
            IngestDispatch::new(ingest_service, health_service(), message_size_max).map_err(StartError::Reflection)?;
        let is_shared = !config.registry.database_url.is_empty();
        let forwarded = is_shared.then(|| {
            let (registry, predictions) = (Arc::clone(&registry), Arc::clone(&predictions));
            Arc::new(Forwarded { registry, predictions, share_max: config.predictions.log.share_max() })
        });
        let outcomes_service = OutcomesService {
            predictions: Arc::clone(&predictions),
            forwarded: forwarded.clone(),
            control: tokio::runtime::Handle::current(),
        };
        let dispatch = Dispatch::new(
            &predictor,
            (registry_service, rollouts_service),
            query_service,
            outcomes_service,
            health_service(),
            limits,
            &memory,
        )
        .map_err(StartError::Reflection)?;
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
        let web = WebConfig { origins, silence_max: connection.silence_max(), http_address };
        let ingest_web = web.clone();
        let ingest = move || {
            let ingest = ReasonLayer { size_key: INGEST_SIZE_KEY }.layer(ingest_dispatch.of_connection());
            WebService::new(ingest, ingest_web.clone())
        };
        let ingest = Cores::start("ingest", 1, ingest, connection, &draining, &abort).map_err(StartError::Threads)?;
        let ingest = Arc::new(ingest);
        let service = WebService::new(service, web);
        let cores = Cores::start("serve", core_count, move || service.clone(), connection, &draining, &abort);
        let cores = Arc::new(cores.map_err(StartError::Threads)?);

        let metrics = Metrics::new(
            Arc::clone(&routes),
            cores.connections(),
            memory,
            Arc::clone(&telemetry.ingestor),
            Arc::clone(&predictor.alerts),
            Arc::clone(&features),
        )
        .with_renewal(renewal)
        .with_predictions(Arc::clone(predictions.counts()))
        .with_rollouts(Arc::clone(&rollouts))
        .with_uploads(registry.staged_counts());
        let http_state = Arc::new(HttpState { health: health_seen.clone(), metrics });
        let http_task = tokio::spawn(http::serve(http_listener, http_state, stop_http.clone()));
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
            (grpc_listener, &cores, config.grpc.connections_max),
            (telemetry_listener, &ingest, config.telemetry.connections_max),
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
            grpc = %grpc_address,
            telemetry = %telemetry_address,
            http = %http_address,
            cores = core_count,
            started_in_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "evserve ready"
        );
        Ok(Server {
            grpc_address,
            telemetry_address,
            http_address,
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
        self.grpc_address
    }

    /// Where gateways stream to.
    #[must_use]
    pub fn telemetry_address(&self) -> SocketAddr {
        self.telemetry_address
    }

    /// Where probes and metrics are served.
    #[must_use]
    pub fn http_address(&self) -> SocketAddr {
        self.http_address
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

/// The authorities that a webhook's receiver is known by.
fn roots(webhook: &WebhookConfig) -> Result<Roots, StartError> {
    let path = &webhook.ca_certificates;
    if !webhook.is_https() {
        return Ok(Roots::none());
    }
    if path.as_os_str().is_empty() {
        let system = rustls_native_certs::load_native_certs();
        let roots = Roots::of(system.certs.into_iter().map(|certificate| certificate.to_vec()));
        if roots.is_empty() {
            tracing::warn!(
                "the system has no certificates of authorities: no webhook is reached over https unless `ca_certificates` says by whom it is known"
            );
        }
        return Ok(roots);
    }
    let pem = fs_err::read(path);
    let pem = pem.map_err(|source| StartError::WebhookCertificates { path: path.clone(), source })?;
    Ok(Roots::from_pem(&pem)?)
}

/// Where other machines reach this server, as far as it can tell.
fn advertised_address(config: &Config, grpc_address: SocketAddr) -> String {
    let configured = &config.deploy.advertised_address;
    if !configured.is_empty() {
        return configured.clone();
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host}:{}", grpc_address.port())
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

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}
