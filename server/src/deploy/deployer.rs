//! The control loop: makes what is loaded match what the registry's aliases ask for.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use ev_batching::Budget;
use ev_features::Views;
use ev_gates::{GateResult, Subject};
use ev_models_core::{
    ArtifactDir, Backend, LoadError, Manifest,
    manifest::{GoldenCase, Task},
};
use ev_registry::{Registry, RegistryError, VersionRecord};
use tokio::sync::{Mutex, watch};

use super::{
    Answer, Deployment, ModelRoutes, NotLoaded, Question, Questions, QueueConfig, Routes, Signatures, Snapshot,
    VersionPolicy, Wanted, check_vocabulary,
    loader::Loader,
    model_state::ModelState,
    not_loaded::chain,
    policy::{Allowance, PolicyLimits},
    questions,
    recent::Rehearsed,
    warmup,
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
    /// Versions that are loaded whatever aliases point at, as configured, and how many these may be.
    pub(crate) serve: (BTreeMap<String, VersionPolicy>, PolicyLimits),
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
    pub(super) registry: Arc<Registry>,
    routes: Arc<Routes>,
    pub(super) config: DeployerConfig,
    state: std::sync::Mutex<State>,
    /// Held while versions are loaded, which takes its time.
    loading: Mutex<()>,
    /// Held while a snapshot is made of what the registry says, so that none is overtaken by an older one. What it said is
    /// kept while something of it is being loaded.
    publishing: Mutex<Option<Registered>>,
    published: watch::Sender<u64>,
    /// The row of the audit log that the published snapshot knows of.
    revision: AtomicU64,
    /// The row of which everything is loaded that was to be loaded.
    reconciled: AtomicU64,
    /// Where versions are loaded that shall serve, and where they are freed.
    loader: Loader,
    /// Where versions are loaded that somebody wants to look at, which may take seconds.
    rehearsals: Loader,
    /// Set once everything has been loaded that a start waits for.
    serves: AtomicBool,
}

/// What the registry said.
struct Registered {
    /// The row of its audit log that is surely in it.
    revision: u64,
    policies: BTreeMap<String, VersionPolicy>,
    versions: Vec<VersionRecord>,
}

/// What the deployer remembers.
#[derive(Default)]
pub(super) struct State {
    /// Versions that failed, by model and number, so that a bad one is not read again at every change.
    pub(super) failed: HashMap<(String, u32), String>,
    /// Versions whose files could not be had because the artifact store was away: they are loading, and are tried again.
    pub(super) unfetched: HashSet<(String, u32)>,
    /// Versions that were loaded and are in no snapshot yet.
    pub(super) loaded: HashMap<(String, u32), Arc<Deployment>>,
    /// Candidates of rollouts that are under way.
    pub(super) wanted: Vec<Wanted>,
    /// Deployments that are in no snapshot any more, until their last request has ended.
    retiring: Vec<Arc<Deployment>>,
}

// === impl Deployer ===

impl Deployer {
    /// A deployer that publishes to `routes`.
    ///
    /// # Errors
    ///
    /// When the system gives no threads to load on.
    pub(crate) fn new(
        registry: Arc<Registry>,
        routes: Arc<Routes>,
        config: DeployerConfig,
    ) -> std::io::Result<Deployer> {
        let loader = |name| Loader::start(name, config.budget.clone(), config.backends.clone());
        let (loader, rehearsals) = (loader("load")?, loader("rehearse")?);
        Ok(Deployer {
            registry,
            routes,
            config,
            state: std::sync::Mutex::default(),
            loading: Mutex::default(),
            publishing: Mutex::default(),
            published: watch::Sender::new(0),
            revision: AtomicU64::new(0),
            reconciled: AtomicU64::new(0),
            loader,
            rehearsals,
            serves: AtomicBool::new(false),
        })
    }

    /// Counts published snapshots; changes when the routes have.
    pub(crate) fn published(&self) -> watch::Receiver<u64> {
        self.published.subscribe()
    }

    /// The row of the registry's audit log up to which its changes are published, at least.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// Tries a failed version again at the next [`Deployer::reconcile`]; false where it has not failed.
    pub(crate) fn forgive(&self, model: &str, version: u32) -> bool {
        self.state().failed.remove(&(model.to_owned(), version)).is_some()
    }

    /// Tries all failed versions of a model again at the next [`Deployer::reconcile`]; false without any.
    pub(crate) fn forgive_all(&self, model: &str) -> bool {
        let mut state = self.state();
        let before = state.failed.len();
        state.failed.retain(|(of, _), _| of != model);
        state.failed.len() < before
    }

    /// Tries versions again at the next [`Deployer::reconcile`] whose files could not be had; false without any.
    pub(crate) fn fetch_again(&self) -> bool {
        !std::mem::take(&mut self.state().unfetched).is_empty()
    }

    /// What rollouts want from now on; true where that is something else than before. It is published with the next
    /// [`Deployer::announce`], and loaded with the next [`Deployer::reconcile`].
    pub(crate) fn want(&self, wanted: Vec<Wanted>) -> bool {
        let mut state = self.state();
        let is_other = state.wanted != wanted;
        state.wanted = wanted;
        is_other
    }

    /// Publishes what the registry holds and what of it is loaded, without loading anything and without waiting for what
    /// is being loaded: until [`Deployer::reconcile`] is done, callers of the rest are told that it is loading.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read; then nothing changes.
    pub(crate) async fn announce(&self) -> Result<(), RegistryError> {
        let mut registered = self.publishing.lock().await;
        let asked = self.ask().await?;
        self.publish_registry(&asked);
        // Somebody may be loading, and go on from here.
        if registered.is_some() {
            *registered = Some(asked);
        }
        Ok(())
    }

    /// Loads what aliases and rollouts point at and is not loaded yet, drops what nothing points at, and publishes the
    /// result.
    ///
    /// A version that cannot be loaded is logged, shows its reason as status, and leaves the others alone.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read; then what is loaded already is published with the next call.
    pub(crate) async fn reconcile(&self) -> Result<(), RegistryError> {
        self.reconcile_from(u64::MAX).await
    }

    /// The same, unless it has been done since the audit log had a row.
    ///
    /// # Errors
    ///
    /// As [`Deployer::reconcile`].
    pub(crate) async fn reconcile_from(&self, row: u64) -> Result<(), RegistryError> {
        let _loading = match self.loading.try_lock() {
            Ok(loading) => loading,
            Err(_) => {
                // An alias that moved to what is loaded does not wait for what another call is loading.
                if self.revision() < row {
                    self.announce().await?;
                }
                self.loading.lock().await
            }
        };
        if self.reconciled.load(Ordering::Relaxed) >= row {
            return Ok(());
        }
        *self.publishing.lock().await = None;
        loop {
            let mut registered = self.publishing.lock().await;
            let asked = match registered.take() {
                Some(asked) if asked.revision == *self.registry.changes().borrow() => asked,
                _ => self.ask().await?,
            };
            let loading = self.publish_registry(&asked);
            let revision = asked.revision;
            if !loading.is_empty() {
                *registered = Some(asked);
            }
            drop(registered);
            if loading.is_empty() {
                self.reconciled.store(revision, Ordering::Relaxed);
                // What was loaded and is wanted no more.
                let loaded = std::mem::take(&mut self.state().loaded);
                self.retire_all(loaded.into_values());
                self.free_retired();
                if !self.serves.swap(true, Ordering::Relaxed) {
                    self.loader.lower(self.config.batching.priority());
                    self.rehearsals.lower(self.config.batching.priority());
                }
                return Ok(());
            }
            for record in loading {
                // However quickly versions follow each other, no more than a few are held.
                self.free_retired();
                let of = (record.model.clone(), record.version);
                match self.load_version(&record).await {
                    Ok(deployment) => drop(self.state().loaded.insert(of, deployment)),
                    Err(NotLoaded::Refused(reason)) => drop(self.state().failed.insert(of, reason)),
                    // The others may be on the local disk.
                    Err(NotLoaded::Unread(error)) if error.is_of_store() => {
                        let (model, version, error) = (&of.0, of.1, &error as &dyn std::error::Error);
                        tracing::warn!(model, version, error, "the files of a model version cannot be had for now");
                        self.state().unfetched.insert(of);
                    }
                    Err(NotLoaded::Unread(error)) => return Err(error),
                }
            }
        }
    }

    /// Reads what the registry holds, and what of it somebody wants served.
    async fn ask(&self) -> Result<Registered, RegistryError> {
        let revision = *self.registry.changes().borrow();
        let (policies, versions) = (self.set_policies().await?, self.registry.all_versions().await?);
        Ok(Registered { revision, policies, versions })
    }

    /// Makes a snapshot of what the registry says; gives what is to be loaded.
    fn publish_registry(&self, registered: &Registered) -> Vec<VersionRecord> {
        let models = self.survey(registered);
        self.revision.store(registered.revision, Ordering::Relaxed);
        self.publish(&models);
        models.into_iter().flat_map(|model| model.loading).collect()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
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

    /// What the registry said, with what is loaded of it.
    fn survey(&self, registered: &Registered) -> Vec<ModelState> {
        let current = self.routes.load().models.clone();
        let (configured, limits) = &self.config.serve;
        let (set, mut allowance) = (&registered.policies, Allowance::new(*limits));
        let mut versions: BTreeMap<&str, Vec<VersionRecord>> = BTreeMap::new();
        for version in &registered.versions {
            versions.entry(&version.model).or_default().push(version.clone());
        }
        let state = self.state();
        let model = |(name, versions): (&str, Vec<VersionRecord>)| {
            let policy = set.get(name).or_else(|| configured.get(name)).unwrap_or(&VersionPolicy::Aliases);
            ModelState::new(name, versions, current.get(name), &state, (policy, &mut allowance))
        };
        versions.into_iter().map(model).collect()
    }

    fn publish(&self, models: &[ModelState]) {
        let routes: BTreeMap<String, Arc<ModelRoutes>> =
            models.iter().map(|model| (model.name.clone(), Arc::new(model.routes()))).collect();
        let is_served = |deployment: &Arc<Deployment>| {
            let model = routes.get(deployment.model());
            model.and_then(|model| model.deployments.get(&deployment.version)).is_some()
        };
        self.state().loaded.retain(|_, deployment| !is_served(deployment));
        let before = self.routes.load().models.clone();
        let deployments = before.values().flat_map(|model| model.deployments.values());
        let left: Vec<_> = deployments.filter(|deployment| !is_served(deployment)).cloned().collect();
        drop(before);
        drop(self.routes.publish(Snapshot::new(routes, &self.config.tasks)));
        self.retire_all(left.into_iter());
        self.published.send_modify(|count| *count += 1);
    }

    /// Holds deployments until their last request has ended, so that none is freed on a serving thread.
    fn retire_all(&self, left: impl Iterator<Item = Arc<Deployment>>) {
        self.state().retiring.extend(left);
    }

    /// Has deployments freed whose last request has ended; true where none is left to be.
    pub(crate) fn free_retired(&self) -> bool {
        let mut ended = Vec::new();
        let is_done = {
            let mut state = self.state();
            state.retiring.retain(|deployment| {
                let is_held = Arc::strong_count(deployment) > 1;
                if !is_held {
                    ended.push(Arc::clone(deployment));
                }
                is_held
            });
            state.retiring.is_empty()
        };
        for deployment in ended {
            tracing::info!(model = deployment.model(), version = deployment.version, "model version freed");
            self.loader.free(deployment);
        }
        is_done
    }

    async fn load_version(&self, record: &VersionRecord) -> Result<Arc<Deployment>, NotLoaded> {
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
            Err(NotLoaded::Refused(reason)) => {
                tracing::error!(model = record.model, version = record.version, reason, "model version refused");
                Err(NotLoaded::Refused(reason))
            }
            Err(unread) => Err(unread),
        }
    }

    /// Reads, loads and warms one version.
    async fn load(&self, record: &VersionRecord) -> Result<Deployment, NotLoaded> {
        let (deployment, rehearsed, ()) = self.load_and_warm(&self.loader, record, |_, _, _| ()).await?;
        if rehearsed.refused > 0 {
            tracing::warn!(
                model = record.model,
                version = record.version,
                answered = rehearsed.answered,
                refused = rehearsed.refused,
                refusal = rehearsed.refusal,
                "logged requests that other versions answered are refused by this one"
            );
        }
        Ok(deployment)
    }

    /// Loads and warms a version without letting it serve, and says what was found.
    ///
    /// # Errors
    ///
    /// [`NotLoaded`].
    pub(crate) async fn rehearse(&self, record: &VersionRecord) -> Result<String, NotLoaded> {
        let (deployment, rehearsed, golden) =
            self.load_and_warm(&self.rehearsals, record, |_, _, golden| golden.len()).await?;
        let Rehearsed { answered, refused, refusal } = rehearsed;
        let logged = match (answered, refused) {
            (0, 0) => String::new(),
            (answered, 0) => format!("; {answered} logged requests"),
            (answered, refused) => format!("; {answered} logged requests, and {refused} that it refuses: {refusal}"),
        };
        let found = format!("{golden} golden requests{logged}; {}", deployment.runtime_description());
        self.rehearsals.free(deployment);
        Ok(found)
    }

    /// The golden requests of a version, at most `max` of them.
    ///
    /// # Errors
    ///
    /// [`NotLoaded`].
    pub(crate) async fn questions(&self, record: &VersionRecord, max: usize) -> Result<Questions, NotLoaded> {
        let manifest = self.registry.manifest(record).await?;
        let artifact = self.fetch(&self.rehearsals, record, &manifest).await?;
        let reading = tokio::task::spawn_blocking(move || Questions::read(manifest, &artifact, max));
        let questions = reading.await.unwrap_or_else(|_| Err("reading its golden requests panicked".to_owned()));
        questions.map_err(|problem| NotLoaded::Refused(format!("FAILED_PRECONDITION: {problem}")))
    }

    /// What a version answers to each of the questions, as far as it comes in `time`. Loads it for them alone: whether it
    /// serves or not, its requests and its counts notice nothing.
    ///
    /// # Errors
    ///
    /// [`NotLoaded`].
    pub(crate) async fn answers(
        &self,
        record: &VersionRecord,
        questions: Arc<[Question]>,
        time: Duration,
    ) -> Result<Vec<Result<Answer, String>>, NotLoaded> {
        let ask = move |deployment: &Deployment, _: &ArtifactDir, _: &[GoldenCase]| {
            questions::put(deployment, &questions, Instant::now() + time)
        };
        let (deployment, _, answers) = self.load_and_warm(&self.rehearsals, record, ask).await?;
        self.rehearsals.free(deployment);
        Ok(answers)
    }

    /// Loads and warms a version without letting it serve, and holds it against the gates.
    ///
    /// # Errors
    ///
    /// [`RegistryError`] when the registry cannot be read. A version that does not load is judged as such.
    pub(crate) async fn judge(&self, record: &VersionRecord) -> Result<Examined, RegistryError> {
        let (results, refusal) = match self.load_and_warm(&self.rehearsals, record, crate::gates::judge).await {
            Ok((deployment, _, results)) => {
                self.rehearsals.free(deployment);
                (results, None)
            }
            Err(NotLoaded::Unread(error)) => return Err(error),
            Err(NotLoaded::Refused(reason)) => {
                let manifest = self.registry.manifest(record).await?;
                (ev_gates::judge(&manifest, Subject::Refused { reason: &reason }), Some(reason))
            }
        };
        Ok(Examined { results, refusal })
    }

    /// `examine` is shown the version before it is settled where it will run, with its golden requests.
    async fn load_and_warm<T: Send + 'static>(
        &self,
        loader: &Loader,
        record: &VersionRecord,
        examine: impl FnOnce(&Deployment, &ArtifactDir, &[GoldenCase]) -> T + Send + 'static,
    ) -> Result<(Deployment, Rehearsed, T), NotLoaded> {
        self.config.signatures.check(&self.registry, record).await?;
        let manifest = self.registry.manifest(record).await?;
        check_vocabulary(&manifest).map_err(|error| NotLoaded::Refused(format!("FAILED_PRECONDITION: {error}")))?;
        let backends = &self.config.backends;
        let wanted = &manifest.model.backend;
        let backend = backends.iter().find(|backend| backend.name() == wanted).cloned().ok_or_else(|| {
            let available: Vec<&str> = backends.iter().map(|backend| backend.name()).collect();
            let missing = LoadError::BackendMissing { backend: wanted.clone(), available: available.join(", ") };
            NotLoaded::Refused(format!("FAILED_PRECONDITION: {missing}"))
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
        let artifact = self.fetch(loader, record, &manifest).await?;
        let mut pictures = self.config.pictures.clone();
        // What no queue could hold need not be received.
        pictures.limits.bytes_max = pictures.limits.bytes_max.min(queue.settings.max_queue_bytes);
        let logged = self.config.predictions.recent(&manifest.model.name);
        let queue_of = queue.clone();
        let loading = loader.run(move || {
            let refused = |error: LoadError| NotLoaded::Refused(format!("FAILED_PRECONDITION: {error}"));
            let pictures = Pictures::load(&manifest, &artifact, pictures).map_err(refused)?;
            let deployment = Deployment::load(&*backend, manifest, version, digest, &artifact, core_count);
            let mut deployment = deployment.map_err(refused)?.with_pictures(pictures).with_stored(stored);
            let warmed = warmup::warm_up(&deployment, &artifact, &logged);
            let failed = |problem: String| NotLoaded::Refused(format!("FAILED_PRECONDITION: {problem}"));
            let (golden, rehearsed) = warmed.map_err(failed)?;
            let examined = examine(&deployment, &artifact, &golden);
            let settled = deployment.settle(execution, &queue);
            settled.map_err(|error| failed(chain(&error)))?;
            Ok((deployment, rehearsed, examined))
        });
        let (mut deployment, rehearsed, examined) = loading.await.unwrap_or_else(|| Err(panicked()))?;
        // Not there: threads inherit the priority of those that start them.
        let started = deployment.start_queue(&queue_of);
        started.map_err(|error| NotLoaded::Refused(format!("FAILED_PRECONDITION: {}", chain(&error))))?;
        Ok((deployment, rehearsed, examined))
    }

    /// A version's files, their digests taken on the thread that loads.
    async fn fetch(
        &self,
        loader: &Loader,
        record: &VersionRecord,
        manifest: &Manifest,
    ) -> Result<ArtifactDir, NotLoaded> {
        let files = self.registry.locate(record, manifest).await?;
        match loader.run(move || files.verify()).await.ok_or_else(panicked)? {
            // Of a copy that was damaged there may be the original.
            Err(RegistryError::Corrupt { .. } | RegistryError::Lost { .. }) => Ok(self.registry.fetch(record).await?),
            verified => Ok(verified?),
        }
    }
}

fn panicked() -> NotLoaded {
    NotLoaded::Refused("INTERNAL: loading it panicked".to_owned())
}
