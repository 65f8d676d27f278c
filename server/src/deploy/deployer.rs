//! The control loop: makes what is loaded match what the registry's aliases ask for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use ev_models_core::{Backend, manifest::Task};
use ev_registry::{Page, Registry, RegistryError, VersionRecord};
use tokio::sync::{Mutex, watch};

use super::{Deployment, ModelRoutes, Routes, Snapshot, VersionStatus, check_vocabulary, warmup};

/// What the deployer needs to know.
pub(crate) struct DeployerConfig {
    /// Serving cores; each gets an instance of every loaded version.
    pub(crate) core_count: usize,
    /// The model that answers each task.
    pub(crate) tasks: HashMap<Task, String>,
    /// Engines of this build.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
}

/// Loads, warms and publishes. The only writer of the route table.
pub(crate) struct Deployer {
    registry: Arc<Registry>,
    routes: Arc<Routes>,
    config: DeployerConfig,
    /// Versions that failed, by model and number, so that a bad one is not read again at every change.
    failed: Mutex<HashMap<(String, u32), String>>,
    published: watch::Sender<u64>,
}

// === impl Deployer ===

impl Deployer {
    /// A deployer that publishes to `routes`.
    pub(crate) fn new(registry: Arc<Registry>, routes: Arc<Routes>, config: DeployerConfig) -> Deployer {
        Deployer { registry, routes, config, failed: Mutex::default(), published: watch::Sender::new(0) }
    }

    /// Counts published snapshots; changes when the routes have.
    pub(crate) fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// Tries a failed version again at the next [`Deployer::reconcile`].
    pub(crate) async fn forgive(&self, model: &str, version: u32) {
        self.failed.lock().await.remove(&(model.to_owned(), version));
    }

    /// Loads what aliases point at and is not loaded yet, drops what nothing points at, and publishes the result.
    ///
    /// A version that cannot be loaded is logged, shows its reason as status, and leaves the others alone.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read; then nothing changes.
    pub(crate) async fn reconcile(&self) -> Result<(), RegistryError> {
        let mut failed = self.failed.lock().await;
        let current = self.routes.load().models.clone();
        let mut models = BTreeMap::new();
        for name in self.model_names().await? {
            let versions = self.versions(&name).await?;
            let routes = self.model_routes(&name, &versions, current.get(&name), &mut failed).await;
            models.insert(name, Arc::new(routes));
        }
        self.routes.publish(Snapshot::new(models, &self.config.tasks));
        self.published.send_modify(|count| *count += 1);
        Ok(())
    }

    async fn model_routes(
        &self,
        name: &str,
        versions: &[VersionRecord],
        current: Option<&Arc<ModelRoutes>>,
        failed: &mut HashMap<(String, u32), String>,
    ) -> ModelRoutes {
        let mut routes = ModelRoutes {
            name: name.to_owned(),
            aliases: BTreeMap::new(),
            versions: BTreeMap::new(),
            deployments: BTreeMap::new(),
            production: None,
        };
        for record in versions {
            for alias in &record.aliases {
                routes.aliases.insert(alias.clone(), record.version);
            }
            let status = if record.aliases.is_empty() {
                VersionStatus::Registered
            } else if let Some(loaded) = current.and_then(|current| current.deployments.get(&record.version)) {
                routes.deployments.insert(record.version, Arc::clone(loaded));
                VersionStatus::Ready
            } else {
                self.load_version(record, failed, &mut routes).await
            };
            routes.versions.insert(record.version, status);
        }
        let production = routes.aliases.get(super::snapshot::PRODUCTION);
        routes.production = production.and_then(|version| routes.deployments.get(version)).cloned();
        routes
    }

    async fn load_version(
        &self,
        record: &VersionRecord,
        failed: &mut HashMap<(String, u32), String>,
        routes: &mut ModelRoutes,
    ) -> VersionStatus {
        let key = (record.model.clone(), record.version);
        if let Some(reason) = failed.get(&key) {
            return VersionStatus::Failed(reason.clone());
        }
        match self.load(record).await {
            Ok(deployment) => {
                tracing::info!(
                    model = record.model,
                    version = record.version,
                    digest = %record.digest,
                    runtime = deployment.runtime_description(),
                    "model version ready"
                );
                routes.deployments.insert(record.version, Arc::new(deployment));
                VersionStatus::Ready
            }
            Err(reason) => {
                tracing::error!(model = record.model, version = record.version, reason, "model version refused");
                failed.insert(key, reason.clone());
                VersionStatus::Failed(reason)
            }
        }
    }

    /// Reads, loads and warms one version; the error is the reason it is refused, with its code first.
    async fn load(&self, record: &VersionRecord) -> Result<Deployment, String> {
        self.load_and_warm(record).await.map(|(deployment, _)| deployment)
    }

    /// Loads and warms a version without letting it serve, and says what was found.
    ///
    /// # Errors
    ///
    /// The reason it would be refused.
    pub(crate) async fn rehearse(&self, record: &VersionRecord) -> Result<String, String> {
        let (deployment, golden) = self.load_and_warm(record).await?;
        Ok(format!("{golden} golden requests; {}", deployment.runtime_description()))
    }

    async fn load_and_warm(&self, record: &VersionRecord) -> Result<(Deployment, usize), String> {
        let manifest = self.registry.manifest(record).await.map_err(|error| reason(&error))?;
        check_vocabulary(&manifest).map_err(|error| format!("FAILED_PRECONDITION: {error}"))?;
        let artifact = self.registry.fetch(record).await.map_err(|error| reason(&error))?;
        let backends = &self.config.backends;
        let wanted = &manifest.model.backend;
        let backend = backends.iter().find(|backend| backend.name() == wanted).cloned().ok_or_else(|| {
            let available: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
            let missing =
                ev_models_core::LoadError::BackendMissing { backend: wanted.clone(), available: available.join(", ") };
            format!("FAILED_PRECONDITION: {missing}")
        })?;
        let (version, digest, core_count) = (record.version, record.digest.to_string(), self.config.core_count);
        let loading = tokio::task::spawn_blocking(move || {
            let deployment = Deployment::load(&*backend, manifest, version, digest, &artifact, core_count)
                .map_err(|error| format!("FAILED_PRECONDITION: {error}"))?;
            let golden = warmup::warm_up(&deployment, &artifact);
            let golden = golden.map_err(|problem| format!("FAILED_PRECONDITION: {problem}"))?;
            Ok((deployment, golden))
        });
        loading.await.unwrap_or_else(|_| Err("INTERNAL: loading it panicked".to_owned()))
    }

    async fn model_names(&self) -> Result<BTreeSet<String>, RegistryError> {
        let mut names = BTreeSet::new();
        let mut page = Page { size: Page::MAX_SIZE, token: None };
        loop {
            let listing = self.registry.list_models(&page).await?;
            names.extend(listing.items.into_iter().map(|model| model.name));
            let Some(next) = listing.next else { return Ok(names) };
            page.token = Some(next);
        }
    }

    async fn versions(&self, model: &str) -> Result<Vec<VersionRecord>, RegistryError> {
        let mut versions = Vec::new();
        let mut page = Page { size: Page::MAX_SIZE, token: None };
        loop {
            let listing = self.registry.list_versions(model, &page).await?;
            versions.extend(listing.items);
            let Some(next) = listing.next else { return Ok(versions) };
            page.token = Some(next);
        }
    }
}

/// A registry failure as status and log show it.
fn reason(error: &RegistryError) -> String {
    let code = match error {
        RegistryError::Corrupt { .. } | RegistryError::Lost { .. } => "DATA_LOSS",
        _ => "FAILED_PRECONDITION",
    };
    let mut text = format!("{code}: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
