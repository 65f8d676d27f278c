//! `grpc.health.v1`: one status for the process, one a service.

use std::sync::Arc;

use ev_models_core::manifest::Task;
use tokio::sync::watch;
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    dispatch::{OTHER_SERVICES, PREDICTION_SERVICES},
    telemetry::INGEST_SERVICE,
};
use crate::deploy::{Deployer, Routes};

/// The service side, as `tonic-health` has it.
pub(crate) type HealthService = tonic_health::server::HealthService;

/// Where the process stands; changes drive health, `/readyz` and `/startupz`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Health {
    /// Models are being loaded.
    Starting,
    /// Taking requests.
    Serving,
    /// On its way out.
    Draining,
}

/// Tasks behind each prediction service, in the order of [`PREDICTION_SERVICES`]; one that serves suffices.
const SERVICE_TASKS: [&[Task]; 5] = [
    &[Task::Range],
    &[Task::Utilization],
    &[Task::BatterySoh, Task::BatteryRul, Task::BatteryTemperature, Task::BatteryFailure, Task::BatteryCycleLife],
    &[Task::ThermalRisk],
    &[Task::ImageClassification],
];

/// Keeps the reported health equal to what is deployed, until the process ends.
pub(crate) async fn keep_health_current(
    reporter: HealthReporter,
    deployer: Arc<Deployer>,
    routes: Arc<Routes>,
    mut health: watch::Receiver<Health>,
) {
    let mut published = deployer.published();
    loop {
        let serving = *health.borrow_and_update() == Health::Serving;
        published.mark_unchanged();
        let ready: Vec<bool> = {
            let snapshot = routes.load();
            let loaded = |task: &Task| snapshot.task(*task).is_some_and(|model| model.production.is_some());
            SERVICE_TASKS.iter().map(|tasks| serving && tasks.iter().any(loaded)).collect()
        };
        for (service, ready) in PREDICTION_SERVICES.iter().zip(ready) {
            reporter.set_service_status(*service, status(ready)).await;
        }
        for service in OTHER_SERVICES.into_iter().chain([INGEST_SERVICE, ""]) {
            reporter.set_service_status(service, status(serving)).await;
        }
        tokio::select! {
            changed = health.changed() => if changed.is_err() { return },
            changed = published.changed() => if changed.is_err() { return },
        }
    }
}

fn status(ready: bool) -> ServingStatus {
    if ready { ServingStatus::Serving } else { ServingStatus::NotServing }
}
