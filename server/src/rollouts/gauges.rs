//! What metrics tell of rollouts: of each model's rollout under way, what was last made of it, and how many changes there
//! were.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use ev_rollouts::{ALL, GuardState, Observations, Phase, Rollout, judge};

/// Rollouts under way, as this process sees them.
#[derive(Default)]
pub(super) struct Gauges(Mutex<Counted>);

/// Numbers of rollouts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// Rollouts under way, by model.
    pub(crate) models: BTreeMap<String, OfModel>,
    /// Changes that this process made, by the phase that followed.
    pub(crate) transitions: BTreeMap<&'static str, u64>,
    /// Threads that hang in rows run for comparison, by model.
    pub(crate) hung: BTreeMap<String, usize>,
}

/// A rollout under way.
#[derive(Debug, Clone)]
pub(crate) struct OfModel {
    pub(crate) state: &'static str,
    /// Of the canary, from 1; 0 elsewhere.
    pub(crate) step: u32,
    pub(crate) percent: f64,
    /// Requests and failures of all servers: production's since the rollout began, the candidate's in this phase.
    pub(crate) sides: [(&'static str, u64, u64); 2],
    /// Guards over all rows; those of cohorts and classes are in the rollout's status.
    pub(crate) guards: Vec<(&'static str, Option<f64>, f64, GuardState)>,
    /// Rows that this process did not compare.
    pub(crate) dropped: u64,
}

// === impl Gauges ===

impl Gauges {
    fn all(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set(&self, rollout: &Rollout, seen: &Observations, dropped: u64) {
        let step = match rollout.phase {
            Phase::Canary(step) => step.saturating_add(1),
            _ => 0,
        };
        let statuses = judge(&rollout.plan.guards, seen);
        let overall = statuses.iter().filter(|status| status.cohort == ALL && status.class.is_empty());
        let of_model = OfModel {
            state: if rollout.paused_since_ms.is_some() { "paused" } else { rollout.phase.name() },
            step,
            percent: rollout.share().as_percent(),
            sides: [
                ("production", seen.baseline.requests, seen.baseline.errors),
                ("candidate", seen.candidate.requests, seen.candidate.errors),
            ],
            guards: overall.map(|status| (status.name.name(), status.value, status.limit, status.state)).collect(),
            dropped,
        };
        self.all().models.insert(rollout.model.clone(), of_model);
    }

    /// Forgets models that have no rollout under way any more.
    pub(super) fn keep(&self, is_active: impl Fn(&str) -> bool) {
        self.all().models.retain(|model, _| is_active(model));
    }

    pub(super) fn changed(&self, to: Phase) {
        *self.all().transitions.entry(to.name()).or_default() += 1;
    }

    pub(super) fn counted(&self, hung: BTreeMap<String, usize>) -> Counted {
        Counted { hung, ..self.all().clone() }
    }
}
