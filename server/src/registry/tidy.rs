//! Old versions, files that no version names, and files of uploads that were given up are deleted in the background.

use std::{sync::Arc, time::Duration};

use ev_registry::{Registry, RegistryError};
use tokio_util::sync::CancellationToken;

use crate::{config::RegistryConfig, deploy::Deployer, grpc::now_ms};

/// Between two looks: a look lists the store's files and reads the manifests of all versions.
const INTERVAL: Duration = Duration::from_secs(3_600);

/// Deletes what is not kept, until the server drains. Replicas may do so at the same time.
pub(crate) async fn keep_tidy(
    deployer: Arc<Deployer>,
    registry: Arc<Registry>,
    config: RegistryConfig,
    draining: CancellationToken,
) {
    loop {
        // Replicas that start together look at different times.
        let pause = INTERVAL.mul_f64(0.5 + fastrand::f64());
        tokio::select! {
            () = draining.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
        if let Err(error) = tidy(&deployer, &registry, &config).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "cannot tidy the registry up; trying again later");
        }
    }
}

async fn tidy(deployer: &Deployer, registry: &Registry, config: &RegistryConfig) -> Result<(), RegistryError> {
    let ago_ms = |age: Duration| now_ms().saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX));
    registry.sweep_uploads(ago_ms(config.keep_staged)).await?;
    if config.keep_versions > 0 {
        let mut references = crate::rollouts::references(registry).await?;
        deployer.references().await?.into_iter().for_each(|(of, by)| references.entry(of).or_default().extend(by));
        registry.retain(config.keep_versions, &references, now_ms()).await?;
    }
    registry.collect_garbage(ago_ms(config.keep_unnamed_files), now_ms()).await?;
    Ok(())
}
