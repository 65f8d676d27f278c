//! A version loaded and taking traffic.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use ev_batching::{Cost, Execution, ExecutionPolicy};
use ev_models_core::{ArtifactDir, Backend, InputColumns, LoadError, LoadOptions, Manifest, Model, manifest::HeadName};

use super::{
    queue::{Queue, QueueConfig, QueueError},
    stats::Stats,
};
use crate::pipeline::{BodyInstances, BodyModels, CoreState, HeadsModel, Pictures, Plan, Served, StoredInputs, Tap};

thread_local! {
    /// Which serving core this thread is; threads that serve nothing share the last state.
    static CORE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Says that this thread is serving core `core`.
pub(crate) fn enter_core(core: usize) {
    CORE.set(core);
}

/// A loaded version: immutable but for each core's own state.
///
/// It is loaded with one instance, which warming up runs on; [`Deployment::settle`] makes those that serve.
pub(crate) struct Deployment {
    pub(crate) manifest: Arc<Manifest>,
    pub(crate) version: u32,
    pub(crate) digest: String,
    plan: Arc<Plan>,
    /// What observers know it by.
    served: Arc<Served>,
    /// Who is shown its predictions.
    tap: Tap,
    /// How pictures become its rows; none of a model that takes none.
    pictures: Option<Arc<Pictures>>,
    /// What is read of its inputs for a vehicle; none of a model that is not asked by vehicle.
    stored: Option<StoredInputs>,
    bodies: Vec<BodyModels>,
    /// What runs it; none when it runs inline.
    queue: Option<Queue>,
    /// What its queue will run, until that is started.
    queued: Option<Arc<dyn Model>>,
    /// One a serving core, and one for every other thread.
    cores: Box<[Mutex<CoreState>]>,
    /// Measured cost of a row in nanoseconds.
    row_cost_ns: AtomicU64,
}

/// A version could not be made ready to serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum SettleError {
    /// The engine could not make another instance.
    #[error("an instance cannot be made")]
    Instance(#[source] LoadError),
    /// It is queued, and the queue could not be made.
    #[error("it cannot be queued")]
    Queue(#[source] QueueError),
}

// === impl Deployment ===

impl Deployment {
    /// Loads every head of a version. Slow and blocking: never on a serving thread.
    ///
    /// # Errors
    ///
    /// [`LoadError`] of the backend, or when a file does not fit the manifest.
    pub(crate) fn load(
        backend: &dyn Backend,
        manifest: Manifest,
        version: u32,
        digest: String,
        artifact: &ArtifactDir,
        core_count: usize,
    ) -> Result<Deployment, LoadError> {
        let plan = Plan::new(&manifest);
        let inputs = input_columns(&manifest);
        let load = |file: &str, outputs: usize| {
            let options = LoadOptions {
                inputs: inputs.clone(),
                output: manifest.outputs[0].name.clone(),
                ..LoadOptions::new(file, plan.width())
            };
            let model = backend.load(artifact, &options)?;
            let found = model.signature().outputs;
            if found != outputs {
                return Err(LoadError::Mismatch {
                    file: file.to_owned(),
                    problem: format!("it gives {found} values a row, the manifest expects {outputs}"),
                });
            }
            Ok(model)
        };
        let mut bodies = Vec::new();
        for body in manifest.bodies() {
            let point = body.head(HeadName::Point).map(|file| load(file, plan.head_width())).transpose()?;
            let spread = body.head(HeadName::Spread).map(|file| load(file, 1)).transpose()?;
            let point = point.ok_or_else(|| LoadError::Mismatch {
                file: "manifest.toml".to_owned(),
                problem: "a body has no point head".to_owned(),
            })?;
            bodies.push(BodyModels { point, spread });
        }
        let mut cores: Vec<_> = (0..core_count).map(|_| Mutex::new(CoreState::new(Vec::new()))).collect();
        cores.push(Mutex::new(CoreState::new(instances(&bodies)?)));
        let (cores, queue, queued, row_cost_ns) = (cores.into(), None, None, AtomicU64::new(1_000));
        let (pictures, stored) = (None, None);
        let (manifest, plan) = (Arc::new(manifest), Arc::new(plan));
        let (of, to, tap) = (Arc::clone(&manifest), Arc::clone(&plan), Tap::default());
        let served = Arc::new(Served { manifest: of, version, digest: digest.clone(), plan: to });
        Ok(Deployment {
            manifest,
            version,
            digest,
            plan,
            served,
            tap,
            pictures,
            stored,
            bodies,
            queue,
            queued,
            cores,
            row_cost_ns,
        })
    }

    /// The same, taking pictures.
    pub(crate) fn with_pictures(mut self, pictures: Option<Arc<Pictures>>) -> Deployment {
        self.pictures = pictures;
        self
    }

    /// The same, asked by vehicle.
    pub(crate) fn with_stored(mut self, stored: Option<StoredInputs>) -> Deployment {
        self.stored = stored;
        self
    }

    /// Chooses by the measured cost of a row where it runs, and makes the instances for that: one a core, or those of
    /// worker threads, which [`Deployment::start_queue`] starts. Slow and blocking.
    ///
    /// Rows that are cheap enough to run inline need no queue however many come together: a slice of them is no longer
    /// than a single row may be. A model that takes pictures is queued whatever its rows cost and `policy` says:
    /// decoding one takes milliseconds.
    ///
    /// # Errors
    ///
    /// [`SettleError`].
    pub(crate) fn settle(&mut self, policy: ExecutionPolicy, config: &QueueConfig) -> Result<(), SettleError> {
        let cost = self.row_cost();
        let (serving, other) = self.cores.split_at_mut(self.cores.len() - 1);
        let policy = if self.pictures.is_some() { ExecutionPolicy::Queued } else { policy };
        match policy.choose(Cost::measured(cost, 1, cost), 1) {
            Execution::Inline => {
                for core in serving {
                    let heads = instances(&self.bodies).map_err(SettleError::Instance)?;
                    core.get_mut().unwrap_or_else(PoisonError::into_inner).set_heads(heads);
                }
            }
            Execution::Queued => {
                // The first worker goes on with what warming up ran on.
                let last = other.last_mut();
                let warm = last.map(|core| core.get_mut().unwrap_or_else(PoisonError::into_inner).take_heads());
                let heads = HeadsModel::new(self.plan.width(), self.plan.head_width(), self.bodies.clone());
                heads
                    .prepare(warm.unwrap_or_default(), config.settings.instance_count)
                    .map_err(SettleError::Instance)?;
                self.queued = Some(Arc::new(heads));
            }
        }
        Ok(())
    }

    /// Starts the worker threads of a version that [`Deployment::settle`] found too dear to run inline. They begin with the
    /// priority of the thread that calls this, and can only go down from there.
    ///
    /// # Errors
    ///
    /// [`SettleError`].
    pub(crate) fn start_queue(&mut self, config: &QueueConfig) -> Result<(), SettleError> {
        let Some(model) = self.queued.take() else { return Ok(()) };
        let row_bytes = (self.plan.width() + 1) * size_of::<f32>();
        let queue = Queue::start(&self.manifest.model.name, &model, row_bytes, config).map_err(SettleError::Queue)?;
        queue.measured(1, self.row_cost());
        self.queue = Some(queue);
        Ok(())
    }

    /// What runs it; none when it runs inline.
    #[inline]
    pub(crate) fn queue(&self) -> Option<&Queue> {
        self.queue.as_ref()
    }

    /// How pictures become its rows; none of a model that takes none.
    #[inline]
    pub(crate) fn pictures(&self) -> Option<&Arc<Pictures>> {
        self.pictures.as_ref()
    }

    /// What is read of its inputs for a vehicle; none of a model that is not asked by vehicle.
    pub(crate) fn stored(&self) -> Option<&StoredInputs> {
        self.stored.as_ref()
    }

    /// What a picture goes through, once the deployment serves; none of a model that takes none.
    #[inline]
    pub(crate) fn picture_queue(&self) -> Option<(&Arc<Pictures>, &Queue)> {
        self.pictures.as_ref().zip(self.queue.as_ref())
    }

    /// Bodies of the model: one, or one a variant.
    pub(crate) fn body_count(&self) -> usize {
        self.bodies.len()
    }

    /// Whether a body has a spread head.
    pub(crate) fn has_spread(&self, body: usize) -> bool {
        self.bodies.get(body).is_some_and(|body| body.spread.is_some())
    }

    /// Where it runs, as configuration and logs say it.
    pub(crate) fn execution(&self) -> &'static str {
        if self.queue.is_some() { "queued" } else { "inline" }
    }

    /// Model name.
    pub(crate) fn model(&self) -> &str {
        &self.manifest.model.name
    }

    /// The compiled manifest.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// What observers know it by.
    pub(crate) fn served(&self) -> &Arc<Served> {
        &self.served
    }

    /// Who is shown its predictions. Nobody is while it is warmed up.
    #[inline]
    pub(crate) fn tap(&self) -> &Tap {
        &self.tap
    }

    /// This thread's state. Uncontended on a serving thread but for a reader of statistics.
    pub(crate) fn core(&self) -> MutexGuard<'_, CoreState> {
        let core = CORE.get().min(self.cores.len() - 1);
        // A panic while the lock was held left counts and scratch behind, both of which are overwritten or additive.
        self.cores[core].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most rows of one request.
    pub(crate) fn max_batch_rows(&self) -> usize {
        self.manifest.limits.max_batch_rows
    }

    /// Measured cost of a row.
    pub(crate) fn row_cost(&self) -> Duration {
        Duration::from_nanos(self.row_cost_ns.load(std::sync::atomic::Ordering::Relaxed))
    }

    pub(super) fn set_row_cost(&self, cost: Duration) {
        let ns = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX).max(1);
        self.row_cost_ns.store(ns, std::sync::atomic::Ordering::Relaxed);
    }

    /// Rows that fit into `budget`, at least one.
    pub(crate) fn rows_within(&self, budget: Duration) -> usize {
        let rows = budget.as_nanos() / self.row_cost().as_nanos().max(1);
        usize::try_from(rows).unwrap_or(usize::MAX).clamp(1, 4096)
    }

    /// One line for operators: how each head runs.
    pub(crate) fn runtime_description(&self) -> String {
        let heads = self.bodies.iter().flat_map(|body| std::iter::once(&body.point).chain(&body.spread));
        let heads: Vec<&str> = heads.map(|model| model.signature().description.as_str()).collect();
        let cost = self.row_cost().as_secs_f64() * 1e6;
        format!("{}; {cost:.1} us a row, {}", heads.join(" + "), self.execution())
    }

    /// Number of instances: one a core, or one a worker thread.
    pub(crate) fn instance_count(&self) -> usize {
        self.queue.as_ref().map_or(self.cores.len() - 1, |queue| queue.settings().instance_count)
    }

    /// Replaces a core's instances after one of them panicked.
    pub(crate) fn replace_instances(&self, state: &mut CoreState) {
        match instances(&self.bodies) {
            Ok(heads) => state.set_heads(heads),
            Err(error) => tracing::error!(
                model = self.model(),
                version = self.version,
                error = &error as &dyn std::error::Error,
                "cannot replace a panicked instance"
            ),
        }
        tracing::error!(model = self.model(), version = self.version, "a model instance panicked and was replaced");
    }

    /// Instances and scratch beside those that serve.
    ///
    /// # Errors
    ///
    /// [`LoadError`] of the engine.
    pub(crate) fn own_state(&self) -> Result<CoreState, LoadError> {
        Ok(CoreState::new(instances(&self.bodies)?))
    }

    /// Counts of all cores.
    pub(crate) fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for core in &self.cores {
            sum.merge(&core.lock().unwrap_or_else(PoisonError::into_inner).stats);
        }
        if let Some(queue) = &self.queue {
            sum.runs(&queue.stats());
        }
        sum
    }

    /// Forgets what warming up counted.
    pub(super) fn reset_stats(&self) {
        for core in &self.cores {
            core.lock().unwrap_or_else(PoisonError::into_inner).stats = Stats::default();
        }
    }
}

/// What the heads' columns are: inputs with their shapes, and derived columns.
fn input_columns(manifest: &Manifest) -> Vec<InputColumns> {
    let shape = |name: &str| manifest.inputs.iter().find(|input| input.name == name).map(|input| input.shape.clone());
    let names = manifest.column_names().into_iter();
    names.map(|name| InputColumns { name: name.to_owned(), shape: shape(name).unwrap_or_default() }).collect()
}

fn instances(bodies: &[BodyModels]) -> Result<Vec<BodyInstances>, LoadError> {
    bodies.iter().map(BodyModels::instantiate).collect()
}
