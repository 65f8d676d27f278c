//! What requests read: one immutable table of routes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use ev_models_core::manifest::Task;

use super::{Asker, Deployment, split::Canary};
use crate::pipeline::PredictError;

/// Which version a caller asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum VersionChoice<'a> {
    /// By number.
    Number(u32),
    /// By alias.
    Alias(&'a str),
}

/// Whether a registered version serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum VersionStatus {
    /// Stored; nothing points at it or asks for it.
    Registered,
    /// A version policy asks for it, and there is no room; why, and what to do.
    LeftOut(String),
    /// Being loaded.
    Loading,
    /// Taking requests.
    Ready,
    /// Could not be loaded; the reason.
    Failed(String),
}

/// All routes at one moment.
#[derive(Default)]
pub(crate) struct Snapshot {
    pub(crate) models: BTreeMap<String, Arc<ModelRoutes>>,
    /// A handful, searched in order: less work than hashing.
    by_task: Vec<(Task, Arc<ModelRoutes>)>,
}

/// One model's versions.
pub(crate) struct ModelRoutes {
    pub(crate) name: String,
    pub(crate) aliases: BTreeMap<String, u32>,
    pub(crate) versions: BTreeMap<u32, VersionStatus>,
    pub(crate) deployments: BTreeMap<u32, Arc<Deployment>>,
    pub(crate) production: Option<Arc<Deployment>>,
    /// A candidate that gets some of its requests; none but while a rollout is under way.
    pub(super) canary: Option<Canary>,
}

/// The place a snapshot is published to and read from.
#[derive(Default)]
pub(crate) struct Routes {
    snapshot: ArcSwap<Snapshot>,
    /// Whether any model has a canary: who calls matters only then.
    is_split: AtomicBool,
}

/// Alias that requests without a choice go to.
pub(crate) const PRODUCTION: &str = "production";

// === impl Routes ===

impl Routes {
    pub(crate) fn load(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    /// Whether it matters who calls.
    #[inline]
    pub(crate) fn is_split(&self) -> bool {
        self.is_split.load(Ordering::Relaxed)
    }

    /// Publishes, and gives what was published before.
    pub(super) fn publish(&self, snapshot: Snapshot) -> Arc<Snapshot> {
        let is_split = snapshot.models.values().any(|model| model.canary.is_some());
        if is_split {
            self.is_split.store(true, Ordering::Relaxed);
        }
        let before = self.snapshot.swap(Arc::new(snapshot));
        if !is_split {
            self.is_split.store(false, Ordering::Relaxed);
        }
        before
    }
}

// === impl Snapshot ===

impl Snapshot {
    pub(super) fn new(models: BTreeMap<String, Arc<ModelRoutes>>, tasks: &HashMap<Task, String>) -> Snapshot {
        let by_task =
            tasks.iter().filter_map(|(task, name)| models.get(name).map(|model| (*task, Arc::clone(model)))).collect();
        Snapshot { models, by_task }
    }

    /// The model that answers a task.
    pub(crate) fn task(&self, task: Task) -> Option<&Arc<ModelRoutes>> {
        self.by_task.iter().find(|(known, _)| *known == task).map(|(_, model)| model)
    }

    /// The deployment for a typed request: the task's own model unless another is named.
    ///
    /// # Errors
    ///
    /// Unknown model, version or alias; a version that does not serve; a model of another task.
    #[inline]
    pub(crate) fn route(
        &self,
        task: Task,
        name: &str,
        choice: Option<VersionChoice<'_>>,
        asker: Asker<'_>,
    ) -> Result<&Arc<Deployment>, PredictError> {
        self.find(task, name)?.answering(task, choice, asker)
    }

    /// The model for a typed request: the task's own unless another is named.
    ///
    /// # Errors
    ///
    /// [`PredictError::UnknownModel`].
    #[inline]
    pub(crate) fn find(&self, task: Task, name: &str) -> Result<&Arc<ModelRoutes>, PredictError> {
        let model = if name.is_empty() { self.task(task) } else { self.models.get(name) };
        model.ok_or_else(|| self.unknown_model(task, name))
    }

    /// A model by name.
    ///
    /// # Errors
    ///
    /// [`PredictError::UnknownModel`].
    pub(crate) fn model(&self, name: &str) -> Result<&Arc<ModelRoutes>, PredictError> {
        self.models.get(name).ok_or_else(|| self.unknown_model(Task::Generic, name))
    }

    #[cold]
    fn unknown_model(&self, task: Task, name: &str) -> PredictError {
        let name =
            if name.is_empty() { format!("(for task {})", task.name()) } else { name.chars().take(64).collect() };
        PredictError::UnknownModel { name, known: listed(self.models.keys()) }
    }
}

// === impl ModelRoutes ===

impl ModelRoutes {
    /// Whether rows that came together may have to be answered by different versions.
    #[inline]
    pub(crate) fn is_split(&self) -> bool {
        self.canary.is_some()
    }

    /// As [`ModelRoutes::choose`], of a model that must answer a task.
    ///
    /// # Errors
    ///
    /// As [`ModelRoutes::choose`], and [`PredictError::WrongTask`].
    #[inline]
    pub(crate) fn answering(
        &self,
        task: Task,
        choice: Option<VersionChoice<'_>>,
        asker: Asker<'_>,
    ) -> Result<&Arc<Deployment>, PredictError> {
        let deployment = self.choose(choice, asker)?;
        let found = deployment.manifest.model.task;
        if found != task {
            return Err(PredictError::WrongTask {
                name: self.name.clone(),
                found: found.name(),
                expected: task.name(),
            });
        }
        Ok(deployment)
    }

    /// The deployment of a version; when none is chosen `production`, or for some who ask its canary.
    ///
    /// # Errors
    ///
    /// Unknown version or alias, or a version that does not serve.
    #[inline]
    pub(crate) fn choose(
        &self,
        choice: Option<VersionChoice<'_>>,
        asker: Asker<'_>,
    ) -> Result<&Arc<Deployment>, PredictError> {
        match (choice, &self.production) {
            (None | Some(VersionChoice::Alias(PRODUCTION)), Some(production)) => Ok(match &self.canary {
                Some(canary) if canary.takes(asker) => &canary.deployment,
                _ => production,
            }),
            (None, None) => self.by_alias(PRODUCTION),
            (Some(VersionChoice::Alias(alias)), _) => self.by_alias(alias),
            (Some(VersionChoice::Number(version)), _) => self.by_number(version),
        }
    }

    /// The deployment of a version written as text: a number, an alias, or nothing for `production`.
    ///
    /// # Errors
    ///
    /// As [`ModelRoutes::choose`].
    #[inline]
    pub(crate) fn choose_text(&self, version: &str, asker: Asker<'_>) -> Result<&Arc<Deployment>, PredictError> {
        if version.is_empty() {
            return self.choose(None, asker);
        }
        if !version.bytes().all(|byte| byte.is_ascii_digit()) {
            return self.choose(Some(VersionChoice::Alias(version)), asker);
        }
        match version.parse() {
            Ok(number) => self.by_number(number),
            Err(_) => Err(self.unknown_version(version.chars().take(64).collect())),
        }
    }

    #[cold]
    fn unknown_version(&self, version: String) -> PredictError {
        PredictError::UnknownVersion { name: self.name.clone(), version, known: listed(self.versions.keys()) }
    }

    fn by_alias(&self, alias: &str) -> Result<&Arc<Deployment>, PredictError> {
        match self.aliases.get(alias) {
            Some(version) => self.by_number(*version),
            None => Err(PredictError::UnknownAlias {
                name: self.name.clone(),
                alias: alias.chars().take(64).collect(),
                known: listed(self.aliases.keys()),
            }),
        }
    }

    fn by_number(&self, version: u32) -> Result<&Arc<Deployment>, PredictError> {
        if let Some(deployment) = self.deployments.get(&version) {
            return Ok(deployment);
        }
        let name = self.name.clone();
        Err(match self.versions.get(&version) {
            None => {
                PredictError::UnknownVersion { name, version: version.to_string(), known: listed(self.versions.keys()) }
            }
            Some(VersionStatus::Loading | VersionStatus::Ready) => PredictError::Loading { name, version },
            Some(VersionStatus::Registered) => PredictError::NotServed {
                served: listed(self.deployments.keys()),
                reason: format!(
                    "no alias points at it and no version policy asks for it; have it served with: evctl models alias \
                     {name} canary {version}, or: evctl models serve {name} versions:{version}"
                ),
                name,
                version,
            },
            Some(VersionStatus::LeftOut(reason)) => PredictError::NotServed {
                served: listed(self.deployments.keys()),
                reason: reason.clone(),
                name,
                version,
            },
            Some(VersionStatus::Failed(reason)) => PredictError::NotServable { name, version, reason: reason.clone() },
        })
    }
}

/// The first names of a list that may be long.
fn listed<T: ToString>(names: impl ExactSizeIterator<Item = T>) -> String {
    const SHOWN: usize = 12;
    let count = names.len();
    let mut text = names.take(SHOWN).map(|name| name.to_string()).collect::<Vec<_>>().join(", ");
    if count > SHOWN {
        text.push_str(&format!(" and {} more", count - SHOWN));
    } else if count == 0 {
        text.push_str("none");
    }
    text
}
