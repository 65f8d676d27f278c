//! The control loop: makes what is loaded match what the registry's aliases ask for.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use ev_batching::Budget;
use ev_features::Views;
use ev_gates::{GateResult, Subject};
use ev_models_core::{
    ArtifactDir, Backend, LoadError,
    manifest::{GoldenCase, Task},
};
use ev_registry::{Page, Registry, RegistryError, VersionRecord};
use tokio::sync::{Mutex, watch};

use super::{
    Deployment, ModelRoutes, QueueConfig, Routes, Signatures, Snapshot, VersionStatus, check_vocabulary, warmup,
};
use crate::{
    config::BatchingConfig,
    pipeline::{PictureLimits, Pictures, StoredInputs},
    predictions::Predictions,
};

/// What the deployer needs to know.
pub(crate) struct DeployerConfig {
    /// Serving cores; each gets an instance of every version that runs inline.
    pub(crate) core_count: usize,
    /// Where models run, and what queued ones are run with.
    pub(crate) batching: BatchingConfig,
    /// CPUs of the quota.
    pub(crate) quota: usize,
    /// Batches that run at one time, over all models.
    pub(crate) budget: Budget,
    /// What pictures may take.
    pub(crate) pictures: PictureLimits,
    /// Where features of vehicles are.
    pub(crate) views: Arc<Views>,
    /// Which versions count as signed, and what becomes of the others.
    pub(crate) signatures: Signatures,
    /// The model that answers each task.
    pub(crate) tasks: HashMap<Task, String>,
    /// Where predictions are logged.
    pub(crate) predictions: Arc<Predictions>,
    /// Engines of this build.
    pub(crate) backends: Vec<Arc<dyn Backend>>,
}

/// What gates say of a version.
pub(crate) struct Examined {
    /// One result a gate.
    pub(crate) results: Vec<GateResult>,
    /// Why it does not load; none when it does.
    pub(crate) refusal: Option<String>,
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

/// One model while a snapshot is being made.
struct ModelState {
    name: String,
    aliases: BTreeMap<String, u32>,
    versions: BTreeMap<u32, VersionStatus>,
    deployments: BTreeMap<u32, Arc<Deployment>>,
    /// Versions an alias points at that are not loaded and have not failed.
    loading: Vec<VersionRecord>,
    /// What is published now.
    before: Option<Arc<ModelRoutes>>,
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

    /// Publishes what the registry holds and what of it is loaded, without loading anything:
    /// until [`Deployer::reconcile`] is done, callers of the rest are told that it is loading.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read; then nothing changes.
    pub(crate) async fn announce(&self) -> Result<(), RegistryError> {
        let failed = self.failed.lock().await;
        self.publish(&self.survey(&failed).await?);
        Ok(())
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
        let mut models = self.survey(&failed).await?;
        let loading: Vec<VersionRecord> = models.iter().flat_map(|model| model.loading.iter().cloned()).collect();
        if !loading.is_empty() {
            self.publish(&models);
        }
        for record in loading {
            let status = self.load_version(&record, &mut failed).await;
            if let Some(model) = models.iter_mut().find(|model| model.name == record.model) {
                model.settle(record.version, status);
            }
        }
        self.publish(&models);
        Ok(())
    }

    /// Ends: nothing serves any more, and queues finish what they hold within `grace`. For when no request is left.
    pub(crate) async fn retire(&self, grace: Duration) {
        let until = Instant::now() + grace;
        let snapshot = self.routes.load().models.clone();
        self.routes.publish(Snapshot::default());
        for deployment in snapshot.values().flat_map(|model| model.deployments.values()) {
            let Some(queue) = deployment.queue() else { continue };
            let unfinished = queue.drain(until.saturating_duration_since(Instant::now())).await;
            if unfinished > 0 {
                let (model, version) = (deployment.model(), deployment.version);
                tracing::warn!(model, version, unfinished, "queued rows were not finished within the grace");
            }
        }
    }

    /// What the registry holds, with what is loaded of it.
    async fn survey(&self, failed: &HashMap<(String, u32), String>) -> Result<Vec<ModelState>, RegistryError> {
        let current = self.routes.load().models.clone();
        let mut models = Vec::new();
        for name in self.model_names().await? {
            let versions = self.versions(&name).await?;
            models.push(ModelState::new(&name, versions, current.get(&name), failed));
        }
        Ok(models)
    }

    fn publish(&self, models: &[ModelState]) {
        let models = models.iter().map(|model| (model.name.clone(), Arc::new(model.routes()))).collect();
        self.routes.publish(Snapshot::new(models, &self.config.tasks));
        self.published.send_modify(|count| *count += 1);
    }

    async fn load_version(
        &self,
        record: &VersionRecord,
        failed: &mut HashMap<(String, u32), String>,
    ) -> Result<Arc<Deployment>, String> {
        match self.load(record).await {
            Ok(deployment) => {
                self.config.predictions.listen(&deployment);
                tracing::info!(
                    model = record.model,
                    version = record.version,
                    digest = %record.digest,
                    runtime = deployment.runtime_description(),
                    "model version ready"
                );
                Ok(Arc::new(deployment))
            }
            Err(reason) => {
                tracing::error!(model = record.model, version = record.version, reason, "model version refused");
                failed.insert((record.model.clone(), record.version), reason.clone());
                Err(reason)
            }
        }
    }

    /// Reads, loads and warms one version; the error is the reason it is refused, with its code first.
    async fn load(&self, record: &VersionRecord) -> Result<Deployment, String> {
        self.load_and_warm(record, |_, _, _| ()).await.map(|(deployment, ())| deployment)
    }

    /// Loads and warms a version without letting it serve, and says what was found.
    ///
    /// # Errors
    ///
    /// The reason it would be refused.
    pub(crate) async fn rehearse(&self, record: &VersionRecord) -> Result<String, String> {
        let (deployment, golden) = self.load_and_warm(record, |_, _, golden| golden.len()).await?;
        Ok(format!("{golden} golden requests; {}", deployment.runtime_description()))
    }

    /// Loads and warms a version without letting it serve, and holds it against the gates.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when its manifest cannot be read. A version that does not load is judged as such.
    pub(crate) async fn judge(&self, record: &VersionRecord) -> Result<Examined, RegistryError> {
        let manifest = self.registry.manifest(record).await?;
        let (results, refusal) = match self.load_and_warm(record, crate::gates::judge).await {
            Ok((_, results)) => (results, None),
            Err(reason) => (ev_gates::judge(&manifest, Subject::Refused { reason: &reason }), Some(reason)),
        };
        Ok(Examined { results, refusal })
    }

    /// `examine` is shown the version before it is settled where it will run, with its golden requests.
    async fn load_and_warm<T: Send + 'static>(
        &self,
        record: &VersionRecord,
        examine: impl FnOnce(&Deployment, &ArtifactDir, &[GoldenCase]) -> T + Send + 'static,
    ) -> Result<(Deployment, T), String> {
        self.config.signatures.check(&self.registry, record).await?;
        let manifest = self.registry.manifest(record).await.map_err(|error| reason(&error))?;
        check_vocabulary(&manifest).map_err(|error| format!("FAILED_PRECONDITION: {error}"))?;
        let artifact = self.registry.fetch(record).await.map_err(|error| reason(&error))?;
        let backends = &self.config.backends;
        let wanted = &manifest.model.backend;
        let backend = backends.iter().find(|backend| backend.name() == wanted).cloned().ok_or_else(|| {
            let available: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
            let missing = LoadError::BackendMissing { backend: wanted.clone(), available: available.join(", ") };
            format!("FAILED_PRECONDITION: {missing}")
        })?;
        let (version, digest, core_count) = (record.version, record.digest.to_string(), self.config.core_count);
        let batching = self.config.batching.of(&manifest.model.name, manifest.preprocessing.is_some());
        let execution = batching.policy();
        let queue = QueueConfig { settings: batching.settings(self.config.quota), budget: self.config.budget.clone() };
        let stored = StoredInputs::resolve(&manifest, &self.config.views);
        if let Some(missing) = stored.as_ref().map(StoredInputs::without_view).filter(|missing| !missing.is_empty()) {
            let (model, inputs) = (&manifest.model.name, missing.join(", "));
            tracing::warn!(model, version, inputs, "requests by vehicle id must give these: no feature view has them");
        }
        let mut pictures = self.config.pictures.clone();
        // What no queue could hold need not be received.
        pictures.limits.bytes_max = pictures.limits.bytes_max.min(queue.settings.max_queue_bytes);
        let loading = tokio::task::spawn_blocking(move || {
            let refused = |error: LoadError| format!("FAILED_PRECONDITION: {error}");
            let pictures = Pictures::load(&manifest, &artifact, pictures).map_err(refused)?;
            let deployment = Deployment::load(&*backend, manifest, version, digest, &artifact, core_count);
            let mut deployment = deployment.map_err(refused)?.with_pictures(pictures).with_stored(stored);
            let golden = warmup::warm_up(&deployment, &artifact);
            let golden = golden.map_err(|problem| format!("FAILED_PRECONDITION: {problem}"))?;
            let examined = examine(&deployment, &artifact, &golden);
            let settled = deployment.settle(execution, &queue);
            settled.map_err(|error| format!("FAILED_PRECONDITION: {}", chain(&error)))?;
            Ok((deployment, examined))
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

// === impl ModelState ===

impl ModelState {
    fn new(
        name: &str,
        versions: Vec<VersionRecord>,
        current: Option<&Arc<ModelRoutes>>,
        failed: &HashMap<(String, u32), String>,
    ) -> ModelState {
        let mut state = ModelState {
            name: name.to_owned(),
            aliases: BTreeMap::new(),
            versions: BTreeMap::new(),
            deployments: BTreeMap::new(),
            loading: Vec::new(),
            before: current.cloned(),
        };
        for record in versions {
            for alias in &record.aliases {
                state.aliases.insert(alias.clone(), record.version);
            }
            let loaded = current.and_then(|current| current.deployments.get(&record.version));
            let status = match (loaded, failed.get(&(name.to_owned(), record.version))) {
                _ if record.aliases.is_empty() => VersionStatus::Registered,
                (Some(deployment), _) => {
                    state.deployments.insert(record.version, Arc::clone(deployment));
                    VersionStatus::Ready
                }
                (None, Some(reason)) => VersionStatus::Failed(reason.clone()),
                (None, None) => VersionStatus::Loading,
            };
            let version = record.version;
            if status == VersionStatus::Loading {
                state.loading.push(record);
            }
            state.versions.insert(version, status);
        }
        state
    }

    /// A version's loading has ended.
    fn settle(&mut self, version: u32, loaded: Result<Arc<Deployment>, String>) {
        let status = match loaded {
            Ok(deployment) => {
                self.deployments.insert(version, deployment);
                VersionStatus::Ready
            }
            Err(reason) => VersionStatus::Failed(reason),
        };
        self.versions.insert(version, status);
    }

    fn routes(&self) -> ModelRoutes {
        let (mut aliases, mut versions, mut deployments) =
            (self.aliases.clone(), self.versions.clone(), self.deployments.clone());
        for (alias, version) in &mut aliases {
            if let Some(served) = self.served_until_loaded(alias, *version) {
                *version = served.version;
                versions.insert(served.version, VersionStatus::Ready);
                deployments.insert(served.version, Arc::clone(served));
            }
        }
        let production = aliases.get(super::snapshot::PRODUCTION);
        let production = production.and_then(|version| deployments.get(version)).cloned();
        ModelRoutes { name: self.name.clone(), aliases, versions, deployments, production }
    }

    /// What an alias's callers are answered by while the version it has moved to is loaded: what answered them before.
    fn served_until_loaded(&self, alias: &str, version: u32) -> Option<&Arc<Deployment>> {
        if self.versions.get(&version) != Some(&VersionStatus::Loading) {
            return None;
        }
        let before = self.before.as_ref()?;
        before.deployments.get(before.aliases.get(alias)?)
    }
}

/// A registry failure as status and log show it.
fn reason(error: &RegistryError) -> String {
    let code = match error {
        RegistryError::Corrupt { .. } | RegistryError::Lost { .. } | RegistryError::Tampered { .. } => "DATA_LOSS",
        _ => "FAILED_PRECONDITION",
    };
    format!("{code}: {}", chain(error))
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}
