//! From a request's path to the service that answers it.

use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
};

use ev_proto::{
    ev::{
        battery::v1::battery_health_server::BatteryHealthServer,
        charging::v1::charging_utilization_server::ChargingUtilizationServer,
        features::v1::feature_store_server::FeatureStoreServer,
        outcomes::v1::outcomes_server::OutcomesServer,
        range::v1::range_prediction_server::RangePredictionServer,
        registry::v1::{model_registry_server::ModelRegistryServer, rollouts_server::RolloutsServer},
        telemetry::v1::telemetry_query_server::TelemetryQueryServer,
        thermal::v1::thermal_risk_server::ThermalRiskServer,
        vision::v1::vehicle_vision_server::VehicleVisionServer,
    },
    inference::grpc_inference_service_server::GrpcInferenceServiceServer,
};
use http::{Request, Response};
use tonic::{
    body::Body,
    codegen::{BoxFuture, StdError},
    server::NamedService,
};
use tonic_health::pb::health_server::HealthServer;
use tower::Service;

use super::{
    battery::{self, BatteryService},
    charging::{self, ChargingService},
    features::FeatureService,
    health::HealthService,
    held::{MessageMemory, Until},
    let_go::until_drain,
    oip::{self, OipService},
    outcomes::OutcomesService,
    predictor::Predictor,
    range::{self, RangeService},
    registry::RegistryService,
    rollouts::RolloutsService,
    telemetry::QueryService,
    thermal::{self, ThermalService},
    unary::{self, Replayed},
    vision::{self, VisionService},
};

/// Bounds of the services' messages.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceLimits {
    /// Largest request of predictions, in bytes.
    pub(crate) message: usize,
    /// The same of services that take pictures.
    pub(crate) image_message: usize,
    /// Largest request of uploads, in bytes.
    pub(crate) upload: usize,
}

/// Calls the service a path names. One `Arc`: cheap to clone for every call.
#[derive(Clone)]
pub(crate) struct Dispatch(Arc<Services>);

struct Services {
    range: RangePredictionServer<RangeService>,
    charging: ChargingUtilizationServer<ChargingService>,
    battery: BatteryHealthServer<BatteryService>,
    thermal: ThermalRiskServer<ThermalService>,
    vision: VehicleVisionServer<VisionService>,
    features: FeatureStoreServer<FeatureService>,
    outcomes: OutcomesServer<OutcomesService>,
    registry: ModelRegistryServer<RegistryService>,
    rollouts: RolloutsServer<RolloutsService>,
    telemetry: TelemetryQueryServer<QueryService>,
    oip: GrpcInferenceServiceServer<OipService>,
    health: HealthServer<HealthService>,
    /// Reflection, and the answer to paths that nobody serves.
    rest: tonic::service::Routes,
    predictor: Arc<Predictor>,
    limits: ServiceLimits,
    /// What requests with pictures hold.
    memory: Arc<MessageMemory>,
}

/// Services whose health is that of their models.
pub(super) const PREDICTION_SERVICES: [&str; 5] = [
    <RangePredictionServer<RangeService> as NamedService>::NAME,
    <ChargingUtilizationServer<ChargingService> as NamedService>::NAME,
    <BatteryHealthServer<BatteryService> as NamedService>::NAME,
    <ThermalRiskServer<ThermalService> as NamedService>::NAME,
    <VehicleVisionServer<VisionService> as NamedService>::NAME,
];

/// Services whose health is that of the process: which model they are asked about is the caller's choice, if any.
pub(super) const OTHER_SERVICES: [&str; 6] = [
    <FeatureStoreServer<FeatureService> as NamedService>::NAME,
    <OutcomesServer<OutcomesService> as NamedService>::NAME,
    <ModelRegistryServer<RegistryService> as NamedService>::NAME,
    <RolloutsServer<RolloutsService> as NamedService>::NAME,
    <TelemetryQueryServer<QueryService> as NamedService>::NAME,
    <GrpcInferenceServiceServer<OipService> as NamedService>::NAME,
];

/// What a call ends with. The layers around give it on as it is: a future of theirs around it would be moved with every
/// call, again and again until the call has its task.
pub(super) type AnswerFuture = BoxFuture<Response<Body>, Infallible>;

/// Reflection of these services, of health, and of itself: of what is served here, and nothing else.
pub(super) fn reflection<'a>(services: impl Iterator<Item = &'a str>) -> tonic_reflection::server::Builder<'static> {
    let builder = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(ev_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(<HealthServer<HealthService> as NamedService>::NAME)
        .with_service_name("grpc.reflection.v1.ServerReflection")
        .with_service_name("grpc.reflection.v1alpha.ServerReflection");
    services.fold(builder, |builder, service| builder.with_service_name(service))
}

// === impl Dispatch ===

impl Dispatch {
    /// All services of the process.
    ///
    /// # Errors
    ///
    /// When the descriptors that reflection serves cannot be read, which is a bug of the build.
    pub(crate) fn new(
        predictor: &Arc<Predictor>,
        (registry, rollouts): (RegistryService, RolloutsService),
        telemetry: QueryService,
        outcomes: OutcomesService,
        health: HealthService,
        limits: ServiceLimits,
        memory: &Arc<MessageMemory>,
    ) -> Result<Dispatch, tonic_reflection::server::Error> {
        let served = || PREDICTION_SERVICES.into_iter().chain(OTHER_SERVICES);
        let builder = || reflection(served());
        let oip = OipService::new(Arc::clone(predictor), Arc::new(registry.clone()));
        Ok(Dispatch(Arc::new(Services {
            range: RangePredictionServer::new(RangeService(Arc::clone(predictor)))
                .max_decoding_message_size(limits.message),
            charging: ChargingUtilizationServer::new(ChargingService(Arc::clone(predictor)))
                .max_decoding_message_size(limits.message),
            battery: BatteryHealthServer::new(BatteryService(Arc::clone(predictor)))
                .max_decoding_message_size(limits.message),
            thermal: ThermalRiskServer::new(ThermalService(Arc::clone(predictor)))
                .max_decoding_message_size(limits.message),
            vision: VehicleVisionServer::new(VisionService(Arc::clone(predictor)))
                .max_decoding_message_size(limits.image_message),
            telemetry: TelemetryQueryServer::new(telemetry).max_decoding_message_size(limits.message),
            features: FeatureStoreServer::new(FeatureService::new(Arc::clone(&predictor.features)))
                .max_decoding_message_size(limits.message),
            outcomes: OutcomesServer::new(outcomes).max_decoding_message_size(limits.message),
            registry: ModelRegistryServer::new(registry).max_decoding_message_size(limits.upload),
            rollouts: RolloutsServer::new(rollouts).max_decoding_message_size(limits.message),
            oip: GrpcInferenceServiceServer::new(oip).max_decoding_message_size(limits.image_message),
            health: HealthServer::new(health).max_decoding_message_size(64 * 1024),
            rest: tonic::service::Routes::new(builder().build_v1()?.max_decoding_message_size(64 * 1024))
                .add_service(builder().build_v1alpha()?.max_decoding_message_size(64 * 1024))
                .prepare(),
            predictor: Arc::clone(predictor),
            limits,
            memory: Arc::clone(memory),
        })))
    }
}

impl<B> Service<Request<B>> for Dispatch
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = AnswerFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    #[inline]
    fn call(&mut self, request: Request<B>) -> AnswerFuture {
        macro_rules! call {
            (
                $($service:ident / $method:literal),+;
                counted: $($counted:ident / $counted_method:literal),+
            ) => {
                match named(request.uri().path()) {
                    $(Some((name, $method)) if name == name_of(&self.0.$service) => {
                        let (services, predictor) = (Arc::clone(&self.0), Arc::clone(&self.0.predictor));
                        let one = |predictor: &_, request: &mut _, call| $service::one(predictor, request, call);
                        let tonic = move |request| services.call(request);
                        unary::answer(predictor, self.0.limits.message, request, one, tonic)
                    })+
                    $(Some((name, $counted_method)) if name == name_of(&self.0.$counted) => {
                        let (services, predictor) = (Arc::clone(&self.0), Arc::clone(&self.0.predictor));
                        let one = |predictor: &_, request: &mut _, call| $counted::one(predictor, request, call);
                        let tonic = move |request| services.$counted.clone().call(request);
                        self.0.memory.count(request, Until::Answered, |request| {
                            unary::answer(predictor, self.0.limits.image_message, request, one, tonic)
                        })
                    })+
                    _ => self.0.call(request.map(Replayed::untouched)),
                }
            };
        }
        call!(
            range / "Predict", charging / "Predict", battery / "Predict", thermal / "Assess";
            counted: oip / "ModelInfer", vision / "Classify"
        )
    }
}

impl Services {
    /// Calls the service a path names, by way of tonic.
    fn call<B>(&self, request: Request<B>) -> AnswerFuture
    where
        B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError> + Send + 'static,
    {
        let name = named(request.uri().path()).map(|(name, _)| name);
        // Cloning a generated server clones one `Arc` and its limits.
        macro_rules! call {
            ($($service:ident),+; counted: $($counted:ident),+) => {
                match name {
                    $(Some(name) if name == name_of(&self.$service) => self.$service.clone().call(request),)+
                    $(Some(name) if name == name_of(&self.$counted) => {
                        let until = until(request.uri().path());
                        self.memory.count(request, until, |request| self.$counted.clone().call(request))
                    })+
                    Some(name) if name == name_of(&self.health) => {
                        until_drain(request, &self.predictor.draining, |request| self.health.clone().call(request))
                    }
                    _ => until_drain(request, &self.predictor.draining, |request| self.rest.clone().call(request)),
                }
            };
        }
        call!(range, charging, battery, thermal, features, outcomes, registry, rollouts, telemetry; counted: oip, vision)
    }
}

/// The service and the method of a path.
#[inline]
fn named(path: &str) -> Option<(&str, &str)> {
    path.strip_prefix('/')?.split_once('/')
}

/// When a call of this path gives back what its messages hold.
#[inline]
fn until(path: &str) -> Until {
    if path.ends_with("/ClassifyStream") || path.ends_with("/ModelStreamInfer") {
        Until::NextMessage
    } else {
        Until::Answered
    }
}

#[inline]
fn name_of<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}
