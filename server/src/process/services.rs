//! The gRPC services of the process, and what they share.

use std::{net::SocketAddr, sync::Arc};

use tokio::{runtime::Handle, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use tonic_health::server::{HealthReporter, HealthService};

use super::{StartError, bytes, models::Models, vehicles::Vehicles};
use crate::{
    Config,
    comparison::Comparer,
    deploy::Routes,
    features::VehicleFeatures,
    fleet::{Fleet, Forwarded},
    gates::Gatekeeper,
    grpc::{
        Dispatch, EVENT_WATCHERS_MAX, GateService, IngestDispatch, IngestService, MessageMemory, OutcomesService,
        Predictor, QueryService, ROLLOUT_WATCHERS_MAX, RegistryService, Renewals, RolloutsService, ServiceLimits,
    },
    pipeline::PredictionIds,
    rollouts::Rollouts,
    telemetry::now_us,
};

/// What services are made of.
#[derive(Clone, Copy)]
pub(super) struct Parts<'a> {
    pub(super) config: &'a Config,
    pub(super) routes: &'a Arc<Routes>,
    pub(super) features: &'a Arc<VehicleFeatures>,
    pub(super) models: &'a Models,
    pub(super) vehicles: &'a Vehicles,
    pub(super) reporter: &'a HealthReporter,
    pub(super) draining: &'a CancellationToken,
}

/// What services share with each other and with what runs in the background.
pub(super) struct Shared {
    pub(super) predictor: Arc<Predictor>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) rollouts: Arc<Rollouts>,
    /// Of a registry that replicas share.
    pub(super) forwarded: Option<Arc<Forwarded>>,
}

// === impl Parts ===

impl Parts<'_> {
    pub(super) fn shared(&self, grpc_address: SocketAddr) -> Shared {
        let Parts { config, routes, models, vehicles, .. } = self;
        let Models { registry, deployer, predictions, .. } = models;
        let predictor = Predictor {
            routes: Arc::clone(routes),
            ids: PredictionIds::new(),
            draining: self.draining.clone(),
            batch_rows_max: config.grpc.batch_rows_max,
            alerts: Arc::clone(&vehicles.alerts),
            features: Arc::clone(self.features),
            renewals: Renewals::new(vehicles.telemetry.handle()),
        };
        let fleet = Fleet::new(
            Arc::clone(registry),
            Arc::clone(deployer),
            Arc::clone(routes),
            config.deploy.clone(),
            advertised_address(config, grpc_address),
        );
        let rollouts = Rollouts::new(Arc::clone(registry), Arc::clone(deployer), Arc::clone(routes));
        let is_shared = !config.registry.database_url.is_empty();
        let forwarded = is_shared.then(|| {
            let (registry, predictions) = (Arc::clone(registry), Arc::clone(predictions));
            Arc::new(Forwarded { registry, predictions, share_max: config.predictions.log.share_max() })
        });
        Shared { predictor: Arc::new(predictor), fleet: Arc::new(fleet), rollouts: Arc::new(rollouts), forwarded }
    }

    /// Everything but the ingest.
    pub(super) fn dispatch(&self, shared: &Shared, memory: &Arc<MessageMemory>) -> Result<Dispatch, StartError> {
        let Models { deployer, signatures, registry, .. } = self.models;
        let gates = GateService {
            gatekeeper: Arc::new(Gatekeeper::new(Arc::clone(registry), Arc::clone(deployer))),
            signatures: signatures.clone(),
        };
        let registry_and_rollouts = (self.registry(shared, gates.clone()), self.rollouts(shared, gates));
        let outcomes = OutcomesService {
            predictions: Arc::clone(&self.models.predictions),
            forwarded: shared.forwarded.clone(),
            control: Handle::current(),
        };
        let config = &self.config.grpc;
        let limits = ServiceLimits {
            message: bytes(config.message_size_max),
            image_message: bytes(config.image_message_size_max),
            upload: bytes(config.upload_message_size_max),
        };
        Dispatch::new(
            &shared.predictor,
            registry_and_rollouts,
            self.query(),
            outcomes,
            HealthService::from_health_reporter(self.reporter.clone()),
            limits,
            memory,
        )
        .map_err(StartError::Reflection)
    }

    /// What gateways stream to, on a listener of its own.
    pub(super) fn ingest(&self) -> Result<IngestDispatch, StartError> {
        let (config, telemetry) = (&self.config.telemetry, &self.vehicles.telemetry);
        let service = IngestService::new(
            Arc::clone(&telemetry.ingestor),
            Arc::clone(&telemetry.catalogue),
            self.draining.clone(),
            u32::try_from(config.batch_readings_max).unwrap_or(u32::MAX),
        );
        let health = HealthService::from_health_reporter(self.reporter.clone());
        IngestDispatch::new(service, health, bytes(config.message_size_max)).map_err(StartError::Reflection)
    }

    fn registry(&self, shared: &Shared, gates: GateService) -> RegistryService {
        let Models { deployer, registry, .. } = self.models;
        RegistryService {
            fleet: Arc::clone(&shared.fleet),
            registry: Arc::clone(registry),
            deployer: Arc::clone(deployer),
            routes: Arc::clone(self.routes),
            gates,
            comparer: Arc::new(Comparer::new(Arc::clone(deployer))),
            watchers: Arc::new(Semaphore::new(EVENT_WATCHERS_MAX)),
            control: Handle::current(),
            draining: self.draining.clone(),
        }
    }

    fn rollouts(&self, shared: &Shared, gates: GateService) -> RolloutsService {
        RolloutsService {
            rollouts: Arc::clone(&shared.rollouts),
            watchers: Arc::new(Semaphore::new(ROLLOUT_WATCHERS_MAX)),
            registry: Arc::clone(&self.models.registry),
            gates,
            control: Handle::current(),
            draining: self.draining.clone(),
        }
    }

    fn query(&self) -> QueryService {
        let telemetry = &self.vehicles.telemetry;
        QueryService {
            ingestor: Arc::clone(&telemetry.ingestor),
            catalogue: Arc::clone(&telemetry.catalogue),
            control: telemetry.handle(),
            draining: self.draining.clone(),
            since_us: now_us(),
        }
    }
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
