//! The models of the process: where they are kept, who may be loaded, who loads, and what is logged of their answers.

use std::sync::Arc;

use ev_batching::Budget;
use ev_registry::Registry;

use super::StartError;
use crate::{
    Config,
    cores::serving_cores,
    deploy::{Deployer, DeployerConfig, Routes, Signatures},
    features::VehicleFeatures,
    libraries,
    predictions::Predictions,
    registry,
};

/// What is opened; of a start that fails later the last goes first.
pub(super) struct Models {
    pub(super) deployer: Arc<Deployer>,
    pub(super) predictions: Arc<Predictions>,
    pub(super) signatures: Signatures,
    pub(super) registry: Arc<Registry>,
}

// === impl Models ===

impl Models {
    /// Opens the registry with the bundled models in it. Nothing is loaded yet.
    pub(super) async fn open(
        config: &Config,
        routes: &Arc<Routes>,
        features: &VehicleFeatures,
    ) -> Result<Models, StartError> {
        let (core_count, quota) = (serving_cores(config.grpc.serving_cores), serving_cores(0));
        let (registry, bundled) = registry::open(config).await.map_err(Box::new)?;
        let registry = Arc::new(registry);
        let signatures = Signatures::load(&config.registry)
            .map_err(|(key, source)| StartError::TrustedKey { key, source })?
            .with_bundled(bundled.into_iter().map(|version| (version.model, version.digest)));
        let predictions = Predictions::start(&config.predictions.log, &config.data.directory.join("predictions"))?;
        let predictions = Arc::new(predictions);
        let deployer = Deployer::new(
            Arc::clone(&registry),
            Arc::clone(routes),
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
        Ok(Models { deployer, predictions, signatures, registry })
    }
}
