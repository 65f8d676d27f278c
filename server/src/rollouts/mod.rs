//! Rollouts under way: what this process sees of them, how they go on, and what that means for its routes.
//!
//! Every process does the same: it tells the registry what it saw, reads what all saw, and decides. Whoever is first
//! changes the rollout, by compare-and-set; the others find it changed. None keeps anything that it could not lose.

mod compare;
mod document;
mod gauges;
#[cfg(test)]
mod tests;
mod truths;

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ev_registry::{
    AliasChange, AuditEntry, ExpectedVersion, NewRollout, Origin, PRODUCTION, ROLLOUT, References, Registry,
    RegistryError, ReplicaObservations, RolloutChange, RolloutRecord, VersionChoice, actor_name,
};
use ev_rollouts::{Action, Observations, Plan, Readiness, Rollout, RolloutError, Split, Transition, View};
use tokio::sync::{Mutex, Notify, watch};
use tokio_util::sync::CancellationToken;

use self::{
    compare::{Comparison, StartError, Threads},
    gauges::Gauges,
};
pub(crate) use self::{
    document::Stored,
    gauges::{Counted, OfModel},
    truths::OutcomesTeller,
};
use crate::deploy::{Deployer, Deployment, Routes, VersionStatus, Wanted};

/// How often rollouts under way are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often it is looked all the same while there are none and nothing changes.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(10);
/// Tries of a change that others are quicker with.
const TRIES: usize = 8;
/// Longest name that is looked for: models' are shorter, and ids have 36 letters.
const NAME_BYTES_MAX: usize = 64;
/// The alias of the version that was production before.
const FALLBACK: &str = "fallback";

/// Rollouts, as this process takes part in them.
pub(crate) struct Rollouts {
    registry: Arc<Registry>,
    deployer: Arc<Deployer>,
    routes: Arc<Routes>,
    /// This process, in what it tells of what it saw.
    replica: String,
    running: Mutex<HashMap<String, Running>>,
    /// Held while routes are made of what the registry says, so that none are made of what it said before.
    published: Mutex<Published>,
    /// Versions are to be loaded, and nobody is at it.
    unloaded: Arc<AtomicBool>,
    threads: Threads,
    gauges: Gauges,
    wake: Notify,
    changed: watch::Sender<u64>,
}

/// What routes were last made of.
#[derive(Default)]
struct Published {
    /// The registry's mark.
    mark: Option<u64>,
    /// Rollouts under way when it had that mark, or after.
    active: Vec<Stored>,
    /// Whether that came to nothing, since the registry went away meanwhile.
    is_stale: bool,
}

/// What this process knows of a rollout that is under way.
#[derive(Default)]
struct Running {
    comparison: Option<Comparison>,
    /// Why there is none and will be none.
    refused: Option<String>,
    epoch: Option<u32>,
    /// Requests and failures that each version had counted before.
    baseline_before: Option<(u64, u64)>,
    candidate_before: (u64, u64),
    runs_before: (u64, u64),
    /// What was told last.
    told: String,
}

/// A rollout was refused, or the registry failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RolloutsError {
    /// The plan or the action is refused.
    #[error(transparent)]
    Refused(#[from] RolloutError),
    /// The registry refused or failed.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// Others changed it again and again.
    #[error("rollout `{id}` is being changed by others; try again")]
    Contended {
        /// The rollout.
        id: String,
    },
}

/// Production, and the candidate.
type Versions = (Arc<Deployment>, Arc<Deployment>);

/// A rollout with what all processes saw of it.
pub(crate) struct Status {
    pub(crate) stored: Stored,
    pub(crate) seen: Observations,
    /// Processes that told what they saw, and when, in milliseconds since 1970.
    pub(crate) replicas: Vec<(String, i64)>,
    /// When that was so, by the clock that all processes share.
    pub(crate) now_ms: i64,
}

// === impl Rollouts ===

impl Rollouts {
    pub(crate) fn new(registry: Arc<Registry>, deployer: Arc<Deployer>, routes: Arc<Routes>) -> Rollouts {
        Rollouts {
            registry,
            deployer,
            routes,
            replica: uuid::Uuid::now_v7().to_string(),
            running: Mutex::default(),
            published: Mutex::default(),
            unloaded: Arc::default(),
            threads: Threads::default(),
            gauges: Gauges::default(),
            wake: Notify::new(),
            changed: watch::Sender::new(0),
        }
    }

    /// Takes part until the server drains.
    pub(crate) async fn run(self: Arc<Self>, draining: CancellationToken, now_ms: impl Fn() -> i64) {
        let (mut changes, mut published) = (self.registry.changes(), self.deployer.published());
        let mut is_failing = false;
        while !draining.is_cancelled() {
            changes.mark_unchanged();
            published.mark_unchanged();
            let is_under_way = match self.step(now_ms()).await {
                Ok(is_under_way) => {
                    is_failing = false;
                    is_under_way
                }
                Err(error) => {
                    if !is_failing {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "rollouts cannot be looked at, and stay where they are until they can");
                    }
                    is_failing = true;
                    true
                }
            };
            let is_all_freed = self.deployer.free_retired();
            let is_idle = !is_under_way && is_all_freed && !self.unloaded.load(Ordering::Relaxed);
            let look = tokio::time::sleep(if is_idle { IDLE_LOOK_EVERY } else { LOOK_EVERY });
            tokio::select! {
                () = draining.cancelled() => {}
                () = self.wake.notified() => {}
                // What another process began, promoted or rolled back.
                Ok(()) = changes.changed(), if is_idle => {}
                // What was served before may be freed now.
                Ok(()) = published.changed(), if is_idle => {}
                () = look => {}
            }
        }
        self.running.lock().await.clear();
    }

    /// What is to be told of rollouts under way, and of their changes.
    pub(crate) fn counted(&self) -> Counted {
        self.gauges.counted(self.threads.all_hung())
    }

    /// Counts changes that this process made or saw.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Starts a rollout of a version over the one that is `production`.
    ///
    /// # Errors
    ///
    /// [`RolloutsError`].
    pub(crate) async fn start(
        &self,
        model: &str,
        version: u32,
        plan: Plan,
        by: &str,
        now_ms: i64,
    ) -> Result<Stored, RolloutsError> {
        let production = self.registry.get(model, &VersionChoice::Alias(PRODUCTION.to_owned())).await?;
        let candidate = self.registry.get(model, &VersionChoice::Number(version)).await?;
        let id = uuid::Uuid::now_v7().to_string();
        let shared_ms = self.time_ms(now_ms).await?;
        let rollout = Rollout::start(&id, model, production.version, version, plan, by, shared_ms)?;
        let entry = entry(&rollout, "start").version(candidate.version, &candidate.digest);
        let origin = Origin { actor: actor_name(by), at_ms: now_ms };
        let new = NewRollout { id, model: model.to_owned(), document: document::text(&rollout)?, entry, origin };
        let record = self.registry.rollouts().start_rollout(&new).await?;
        // It may have been repaired since it was refused.
        self.deployer.forgive(model, version);
        tracing::info!(rollout = record.id, model, version, baseline = production.version, "rollout started");
        self.refresh().await?;
        Ok(Stored::of(&record)?)
    }

    /// Does what somebody asks of a rollout. When it returns, this process routes accordingly.
    ///
    /// # Errors
    ///
    /// [`RolloutsError`].
    pub(crate) async fn act(
        &self,
        name: &str,
        action: Action,
        reason: &str,
        by: &str,
        now_ms: i64,
    ) -> Result<Stored, RolloutsError> {
        for _ in 0..TRIES {
            let stored = Stored::of(&self.record(name).await?)?;
            let transition = stored.rollout.act(action, reason, by, self.time_ms(now_ms).await?)?;
            match self.change(&stored, transition, action.name(), by, now_ms).await {
                Ok(changed) => {
                    self.refresh().await?;
                    return Ok(changed);
                }
                Err(RegistryError::RolloutMoved { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(RolloutsError::Contended { id: name.to_owned() })
    }

    /// A rollout by its id or its model, and what was seen of it.
    ///
    /// # Errors
    ///
    /// [`RegistryError`].
    pub(crate) async fn status(&self, name: &str, now_ms: i64) -> Result<Status, RegistryError> {
        let record = self.record(name).await?;
        let stored = Stored::of(&record)?;
        let told = self.registry.rollouts().rollout_observations(&record.id).await?;
        let processes = told.iter().filter(|told| !truths::is_log(&told.replica));
        let replicas = processes.map(|told| (told.replica.clone(), told.updated_at_ms)).collect();
        let now_ms = self.time_ms(now_ms).await?;
        Ok(Status { seen: merged(&stored.rollout, &told), stored, replicas, now_ms })
    }

    /// The time by the clock that all processes share: a phase lasts as long as planned, whoever looks at it.
    ///
    /// # Errors
    ///
    /// [`RegistryError`].
    pub(crate) async fn time_ms(&self, own_ms: i64) -> Result<i64, RegistryError> {
        self.registry.rollouts().time_ms(own_ms).await
    }

    /// Rollouts, newest first.
    ///
    /// # Errors
    ///
    /// [`RegistryError`].
    pub(crate) async fn list(
        &self,
        model: Option<&str>,
        before: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Stored>, RegistryError> {
        let records = self.registry.rollouts().list_rollouts(model, before, limit).await?;
        records.iter().map(Stored::of).collect()
    }

    async fn record(&self, name: &str) -> Result<RolloutRecord, RegistryError> {
        if !is_name(name) {
            // Not one that a database need be asked for, or takes.
            let name: String = name.chars().filter(|char| !char.is_control()).take(NAME_BYTES_MAX).collect();
            return Err(RegistryError::NotFound { what: format!("rollout `{name}`") });
        }
        let rollouts = self.registry.rollouts();
        match rollouts.rollout(name).await {
            Err(RegistryError::NotFound { what }) => {
                let newest = rollouts.list_rollouts(Some(name), None, 1).await?;
                newest.into_iter().next().ok_or(RegistryError::NotFound { what })
            }
            found => found,
        }
    }

    /// Stores a transition, with the alias that moves.
    async fn change(
        &self,
        stored: &Stored,
        transition: Transition,
        action: &str,
        by: &str,
        now_ms: i64,
    ) -> Result<Stored, RegistryError> {
        let Transition { rollout, production } = transition;
        let aliases = production.map_or_else(Vec::new, |to| {
            let production = ExpectedVersion::Is(to.from);
            let mut aliases = vec![AliasChange::set(&rollout.model, PRODUCTION, to.to, production)];
            if to.to == rollout.candidate {
                // Loaded as long as an alias points at it: it can be had back at once.
                aliases.push(AliasChange::set(&rollout.model, FALLBACK, to.from, ExpectedVersion::Any));
            }
            aliases
        });
        let actor = if by.is_empty() { "rollout" } else { by };
        let change = RolloutChange {
            id: rollout.id.clone(),
            expected_revision: stored.revision,
            is_active: rollout.phase.is_active(),
            document: document::text(&rollout)?,
            aliases,
            entry: entry(&rollout, action),
            origin: Origin { actor: actor_name(actor), at_ms: now_ms },
        };
        let record = self.registry.rollouts().change_rollout(&change).await?;
        self.gauges.changed(rollout.phase);
        let reason = rollout.history.last().map_or("", |event| event.reason.as_str());
        let (phase, percent) = (rollout.phase.name(), rollout.share().as_percent());
        tracing::info!(rollout = rollout.id, model = rollout.model, phase, percent, reason, "rollout changed");
        Ok(Stored { revision: record.revision, rollout })
    }

    /// Makes routes of what the registry says of rollouts now, without waiting for what has to be loaded.
    async fn refresh(&self) -> Result<Vec<Stored>, RegistryError> {
        let mut published = self.published.lock().await;
        let mark = self.registry.rollouts().rollouts_mark().await?;
        // Most looks are at what another alias or version changed.
        if published.mark != Some(mark) {
            let active = self.registry.rollouts().active_rollouts().await?;
            published.active = active.iter().filter_map(readable).collect();
        }
        let active = published.active.clone();
        let is_other = self.deployer.want(active.iter().map(|stored| wanted(&stored.rollout)).collect());
        let known = published.mark.replace(mark);
        published.is_stale |= is_other || known.is_some_and(|known| known != mark);
        if published.is_stale {
            self.deployer.announce().await?;
            published.is_stale = false;
            self.unloaded.store(true, Ordering::Relaxed);
            self.load();
            self.changed.send_modify(|count| *count += 1);
            self.wake.notify_one();
        }
        Ok(active)
    }

    /// Loads what is to be loaded, without waiting for it. What cannot be read now is tried again at the next look.
    fn load(&self) {
        if !self.unloaded.swap(false, Ordering::Relaxed) {
            return;
        }
        let (deployer, unloaded) = (Arc::clone(&self.deployer), Arc::clone(&self.unloaded));
        tokio::spawn(async move {
            if let Err(error) = deployer.reconcile().await {
                unloaded.store(true, Ordering::Relaxed);
                tracing::warn!(error = &error as &dyn std::error::Error, "a rollout's versions cannot be loaded yet");
            }
        });
    }

    /// Lets rollouts go on; false where there are none.
    async fn step(&self, now_ms: i64) -> Result<bool, RegistryError> {
        let active = self.refresh().await?;
        self.load();
        if active.is_empty() {
            self.running.lock().await.clear();
            return Ok(false);
        }
        let shared_ms = self.time_ms(now_ms).await?;
        let mut running = self.running.lock().await;
        running.retain(|id, _| active.iter().any(|stored| stored.rollout.id == *id));
        self.gauges.keep(|model| active.iter().any(|stored| stored.rollout.model == model));
        for stored in &active {
            let known = running.entry(stored.rollout.id.clone()).or_default();
            self.drive(stored, known, (now_ms, shared_ms)).await?;
        }
        Ok(true)
    }

    /// Tells what this process saw of a rollout, reads what all saw, and lets it go on. It is told the time by its own
    /// clock, and by the one that all share.
    async fn drive(
        &self,
        stored: &Stored,
        running: &mut Running,
        (own_ms, now_ms): (i64, i64),
    ) -> Result<(), RegistryError> {
        let rollout = &stored.rollout;
        let (versions, readiness) = self.loaded(rollout);
        let readiness = match readiness {
            // Deleted between being asked for and being loaded, it never will be.
            Readiness::Loading => self.deleted(rollout).await?.unwrap_or(Readiness::Loading),
            known => known,
        };
        if let Some((baseline, candidate)) = &versions {
            running.observe(rollout, baseline, candidate, &self.threads);
        }
        let readiness = running.hung().map_or(readiness, Readiness::Failed);
        let store = self.registry.rollouts();
        if let Some(document) = running.untold()? {
            let told = ReplicaObservations { replica: self.replica.clone(), updated_at_ms: now_ms, document };
            store.observe_rollout(&rollout.id, &told).await?;
            running.told = told.document;
        }
        let seen = merged(rollout, &store.rollout_observations(&rollout.id).await?);
        let dropped = running.comparison.as_ref().map_or(0, Comparison::dropped);
        self.gauges.set(rollout, &seen, dropped);
        let production = match self.registry.get(&rollout.model, &VersionChoice::Alias(PRODUCTION.to_owned())).await {
            Ok(version) => Some(version.version),
            Err(RegistryError::NotFound { .. }) => None,
            Err(error) => return Err(error),
        };
        let view = View { now_ms, observations: &seen, candidate: &readiness, production };
        let Some(transition) = rollout.tick(&view) else { return Ok(()) };
        match self.change(stored, transition, "advance", "", own_ms).await {
            Ok(_) => self.refresh().await.map(|_| ()),
            // Another process was first, or somebody moved the alias just now: it is looked at again.
            Err(RegistryError::RolloutMoved { .. } | RegistryError::Conflict { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What becomes of a candidate that the registry does not know any more.
    async fn deleted(&self, rollout: &Rollout) -> Result<Option<Readiness>, RegistryError> {
        match self.registry.get(&rollout.model, &VersionChoice::Number(rollout.candidate)).await {
            Ok(_) => Ok(None),
            Err(RegistryError::NotFound { .. }) => Ok(Some(Readiness::Failed("it was deleted".to_owned()))),
            Err(error) => Err(error),
        }
    }

    /// Both versions where they are loaded here, and whether the candidate can answer.
    fn loaded(&self, rollout: &Rollout) -> (Option<Versions>, Readiness) {
        let snapshot = self.routes.load();
        let Some(model) = snapshot.models.get(&rollout.model) else { return (None, Readiness::Loading) };
        let deployment = |version: u32| model.deployments.get(&version).cloned();
        let versions = deployment(rollout.baseline).zip(deployment(rollout.candidate));
        let readiness = match model.versions.get(&rollout.candidate) {
            Some(VersionStatus::Ready) => Readiness::Ready,
            Some(VersionStatus::Failed(reason)) => Readiness::Failed(reason.clone()),
            Some(VersionStatus::Registered | VersionStatus::LeftOut(_) | VersionStatus::Loading) | None => {
                Readiness::Loading
            }
        };
        (versions, readiness)
    }
}

// === impl Running ===

impl Running {
    /// Why the candidate cannot serve though it was loaded.
    fn hung(&self) -> Option<String> {
        if let Some(refused) = &self.refused {
            return Some(refused.clone());
        }
        let hangs = self.comparison.as_ref()?.hangs()?;
        Some(format!("a row that was run for comparison has not come back for {} s", hangs.as_secs()))
    }

    /// Counts what was seen since it was looked last.
    fn observe(
        &mut self,
        rollout: &Rollout,
        baseline: &Arc<Deployment>,
        candidate: &Arc<Deployment>,
        threads: &Threads,
    ) {
        if !self.comparison.as_ref().is_some_and(|comparison| comparison.is_of(baseline, candidate)) {
            match Comparison::start(baseline, candidate, &rollout.plan.cohort_by, threads) {
                Ok(comparison) => *self = Running { comparison: Some(comparison), ..Running::default() },
                Err(error @ StartError::Hung { .. }) => self.refused = Some(error.to_string()),
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "rows cannot be compared"),
            }
        }
        let Some(comparison) = &self.comparison else { return };
        let (production, own) = (requests(baseline), requests(candidate));
        let before = *self.baseline_before.get_or_insert(production);
        let runs = comparison.runs();
        if self.epoch != Some(rollout.epoch) {
            comparison.listen(rollout.compared());
            comparison.seen().begin(rollout.epoch);
            (self.epoch, self.candidate_before, self.runs_before) = (Some(rollout.epoch), own, runs);
        }
        let mut seen = comparison.seen();
        (seen.baseline.requests, seen.baseline.errors) = since(production, before);
        (seen.candidate.requests, seen.candidate.errors) = since(own, self.candidate_before);
        (seen.candidate.runs, seen.candidate.run_errors) = since(runs, self.runs_before);
        seen.dropped = comparison.dropped();
        seen.hung = u64::try_from(threads.hung(&rollout.model)).unwrap_or(u64::MAX);
    }

    /// What is to be told, where it is not what was told last.
    fn untold(&self) -> Result<Option<String>, RegistryError> {
        let Some(comparison) = &self.comparison else { return Ok(None) };
        let document = document::text(&*comparison.seen())?;
        Ok(Some(document).filter(|document| *document != self.told))
    }
}

/// Whether a text may be the id of a rollout, or the name of its model.
fn is_name(text: &str) -> bool {
    text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control)
}

/// Versions that rollouts under way need, and which rollouts.
///
/// # Errors
///
/// [`RegistryError`], also for a rollout that cannot be read: what it needs is not known.
pub(crate) async fn references(registry: &Registry) -> Result<References, RegistryError> {
    let mut references = References::new();
    for record in registry.rollouts().active_rollouts().await? {
        let Rollout { id, model, baseline, candidate, .. } = Stored::of(&record)?.rollout;
        for version in [baseline, candidate] {
            references.entry((model.clone(), version)).or_default().push(format!("rollout `{id}`"));
        }
    }
    Ok(references)
}

/// Requests of a deployment since it was loaded, and those that failed by no fault of the caller's.
fn requests(deployment: &Deployment) -> (u64, u64) {
    let stats = deployment.stats();
    // What callers did wrong falls on both sides, but not evenly: keys are few, and callers stay with theirs.
    (stats.success.count.saturating_add(stats.fail.count), stats.faults)
}

fn since(now: (u64, u64), before: (u64, u64)) -> (u64, u64) {
    (now.0.saturating_sub(before.0), now.1.saturating_sub(before.1))
}

/// What all processes saw of a rollout in its phase.
fn merged(rollout: &Rollout, told: &[ReplicaObservations]) -> Observations {
    let mut seen = Observations { epoch: rollout.epoch, ..Observations::default() };
    told.iter().for_each(|told| seen.merge(&document::observations(&told.document)));
    seen
}

/// A rollout that this release can read; of another it keeps its hands off.
fn readable(record: &RolloutRecord) -> Option<Stored> {
    match Stored::of(record) {
        Ok(stored) => Some(stored),
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "a rollout cannot be read");
            None
        }
    }
}

fn wanted(rollout: &Rollout) -> Wanted {
    Wanted {
        model: rollout.model.clone(),
        baseline: rollout.baseline,
        candidate: rollout.candidate,
        share: rollout.share(),
        split: Split::new(&rollout.id),
        sticky_key: rollout.plan.sticky_key,
    }
}

/// What the audit log tells of a rollout's change.
fn entry(rollout: &Rollout, action: &str) -> AuditEntry {
    let reason = rollout.history.last().map_or("", |event| event.reason.as_str());
    let detail = [
        ("rollout", rollout.id.clone().into()),
        ("action", action.into()),
        ("phase", rollout.phase.name().into()),
        ("percent", rollout.share().as_percent().into()),
        ("baseline_version", rollout.baseline.into()),
        ("candidate_version", rollout.candidate.into()),
        ("reason", reason.into()),
    ];
    let detail = detail.into_iter().map(|(name, value): (&str, serde_json::Value)| (name.to_owned(), value));
    AuditEntry::new(ROLLOUT, rollout.model.as_str()).detail(detail.collect())
}
