//! A version loaded and taking traffic.

use std::{
    cell::Cell,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicU64},
    time::Duration,
};

use ev_models_core::{ArtifactDir, Backend, InputColumns, LoadError, LoadOptions, Manifest, Model, manifest::HeadName};

use super::stats::Stats;
use crate::pipeline::{BodyInstances, CoreState, Plan};

thread_local! {
    /// Which serving core this thread is; threads that serve nothing share the last state.
    static CORE: Cell<usize> = const { Cell::new(usize::MAX) };
}

/// Says that this thread is serving core `core`.
pub(crate) fn enter_core(core: usize) {
    CORE.set(core);
}

/// A loaded version: immutable but for each core's own state.
pub(crate) struct Deployment {
    pub(crate) manifest: Manifest,
    pub(crate) version: u32,
    pub(crate) digest: String,
    plan: Plan,
    bodies: Vec<BodyModels>,
    /// One a serving core, and one for every other thread.
    cores: Box<[Mutex<CoreState>]>,
    /// Measured cost of a row in nanoseconds.
    row_cost_ns: AtomicU64,
}

struct BodyModels {
    point: Arc<dyn Model>,
    spread: Option<Arc<dyn Model>>,
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
        let cores = (0..=core_count)
            .map(|_| Ok(Mutex::new(CoreState::new(instances(&bodies)?))))
            .collect::<Result<_, LoadError>>()?;
        Ok(Deployment { manifest, version, digest, plan, bodies, cores, row_cost_ns: AtomicU64::new(1_000) })
    }

    /// Model name.
    pub(crate) fn model(&self) -> &str {
        &self.manifest.model.name
    }

    /// The compiled manifest.
    pub(crate) fn plan(&self) -> &Plan {
        &self.plan
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
        format!("{}; {:.1} us a row, inline", heads.join(" + "), self.row_cost().as_secs_f64() * 1e6)
    }

    /// Number of instances: one a core.
    pub(crate) fn instance_count(&self) -> usize {
        self.cores.len() - 1
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

    /// Counts of all cores.
    pub(crate) fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for core in &self.cores {
            sum.merge(&core.lock().unwrap_or_else(PoisonError::into_inner).stats);
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
    bodies
        .iter()
        .map(|body| {
            let spread = body.spread.as_ref().map(|model| model.instantiate()).transpose()?;
            Ok(BodyInstances { point: body.point.instantiate()?, spread })
        })
        .collect()
}
