//! What was reported of both versions' predictions, for the guards that judge it.
//!
//! Outcomes are joined in the log of the server that made the prediction, and a log outlives the process that writes it.
//! So the sums are told to the registry in the log's name: a server that is started again takes the place of what it told
//! before, instead of adding to it.

use std::{collections::HashMap, sync::Arc, time::Duration};

use ev_outcomes::{Errors, ErrorsQuestion, OutcomesError};
use ev_registry::{Registry, RegistryError, ReplicaObservations};
use ev_rollouts::{ALL, COHORTS_MAX, Moments, Observations, Rollout, Side, Truths};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{document, readable};
use crate::predictions::Predictions;

/// Before the name of a log, among those who tell what they saw.
const LOG: &str = "log-";
/// Shortest time between two looks: outcomes come late, and many at a time.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Of ten seconds, one at most is spent looking.
const REST: u32 = 9;

/// Tells what was reported, for rollouts that are under way.
pub(crate) struct OutcomesTeller {
    pub(crate) registry: Arc<Registry>,
    pub(crate) predictions: Arc<Predictions>,
    /// Changes when rollouts do.
    pub(crate) changes: watch::Receiver<u64>,
}

/// It cannot be told now.
#[derive(Debug, thiserror::Error)]
enum TellError {
    #[error(transparent)]
    Outcomes(#[from] OutcomesError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

/// Whether it was a log that told something, not a process.
pub(super) fn is_log(replica: &str) -> bool {
    replica.starts_with(LOG)
}

// === impl OutcomesTeller ===

impl OutcomesTeller {
    /// Tells until the server drains.
    pub(crate) async fn run(mut self, draining: CancellationToken, now_ms: impl Fn() -> i64) {
        let mut reports = self.predictions.outcomes().reports();
        let mut told = HashMap::new();
        let mut is_failing = false;
        loop {
            reports.mark_unchanged();
            self.changes.mark_unchanged();
            let began = Instant::now();
            match self.tell(&mut told, now_ms()).await {
                Ok(()) => is_failing = false,
                Err(error) => {
                    if !is_failing {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(error, "reported outcomes cannot be told to rollouts; trying again");
                    }
                    is_failing = true;
                }
            }
            let rest = began.elapsed().saturating_mul(REST).max(LOOK_EVERY);
            tokio::select! {
                () = draining.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
            if is_failing {
                continue;
            }
            let is_open = tokio::select! {
                () = draining.cancelled() => return,
                changed = reports.changed() => changed.is_ok(),
                changed = self.changes.changed() => changed.is_ok(),
            };
            if !is_open {
                return;
            }
        }
    }

    async fn tell(&self, told: &mut HashMap<String, String>, now_ms: i64) -> Result<(), TellError> {
        let store = self.registry.rollouts();
        let active: Vec<_> = store.active_rollouts().await?.iter().filter_map(readable).collect();
        told.retain(|id, _| active.iter().any(|stored| stored.rollout.id == *id));
        for stored in active {
            let rollout = stored.rollout;
            let side = |truths| Side { truths, ..Side::default() };
            let seen = Observations {
                epoch: rollout.epoch,
                baseline: side(self.truths(&rollout, rollout.baseline).await?),
                candidate: side(self.truths(&rollout, rollout.candidate).await?),
                ..Observations::default()
            };
            if seen.baseline.truths.is_empty() && seen.candidate.truths.is_empty() && !told.contains_key(&rollout.id) {
                continue;
            }
            let document = document::text(&seen)?;
            if told.get(&rollout.id) == Some(&document) {
                continue;
            }
            let replica = format!("{LOG}{}", self.predictions.outcomes().log_id().await?);
            let seen = ReplicaObservations { replica, updated_at_ms: now_ms, document };
            store.observe_rollout(&rollout.id, &seen).await?;
            told.insert(rollout.id, seen.document);
        }
        Ok(())
    }

    /// What was reported of a version's predictions since the rollout began.
    async fn truths(
        &self,
        rollout: &Rollout,
        version: u32,
    ) -> Result<std::collections::BTreeMap<String, Truths>, OutcomesError> {
        let cohorts = self.predictions.cohort_input(&rollout.model);
        let is_same = !rollout.plan.cohort_by.is_empty() && cohorts == Some(rollout.plan.cohort_by.as_str());
        let question = ErrorsQuestion {
            model: rollout.model.clone(),
            version,
            from_us: rollout.created_at_ms.saturating_mul(1_000),
            cohorts_max: if is_same { COHORTS_MAX } else { 0 },
        };
        let errors = self.predictions.outcomes().errors(&question).await?;
        Ok(errors.into_iter().map(|(cohort, errors)| (named(cohort), truths(errors))).collect())
    }
}

/// A cohort as guards name it.
fn named(cohort: String) -> String {
    if cohort.is_empty() { ALL.to_owned() } else { cohort }
}

fn truths(errors: Errors) -> Truths {
    let Errors { count, sum, squares, intervals, covered } = errors;
    Truths { intervals, covered, absolute: Moments { count, sum, squares } }
}
