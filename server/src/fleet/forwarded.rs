//! Outcomes of predictions that another server made: kept in the registry that all share, and taken by who has the
//! prediction in its log.
//!
//! Behind one address nobody can choose whom to report to. What was not sampled by anybody is not kept: the id tells.

use std::{sync::Arc, time::Duration};

use ev_outcomes::{Actual, OutcomesError, Report, Reported};
use ev_registry::{KeptOutcome, Registry, RegistryError};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    grpc::now_ms,
    pipeline::is_shown,
    predictions::{OUTCOMES_AT_ONCE, Predictions},
};

/// How often it is looked whether something is for this server.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long outcomes wait for their server, which may be away.
const KEPT_FOR: Duration = Duration::from_secs(7 * 86_400);

/// Outcomes on their way between servers.
pub(crate) struct Forwarded {
    pub(crate) registry: Arc<Registry>,
    pub(crate) predictions: Arc<Predictions>,
    /// Predictions that some server may have logged.
    pub(crate) share_max: f64,
}

/// An outcome as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Document {
    prediction: String,
    #[serde(default)]
    number: Option<f64>,
    #[serde(default)]
    class: Option<String>,
    #[serde(default)]
    observed_us: Option<i64>,
    #[serde(default)]
    supersedes: bool,
    #[serde(default)]
    source: String,
}

/// What is kept cannot be looked at now.
#[derive(Debug, thiserror::Error)]
enum TakeError {
    #[error(transparent)]
    Outcomes(#[from] OutcomesError),
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

// === impl Forwarded ===

impl Forwarded {
    /// Keeps what this server cannot take, where another one may; says of each whether it did.
    ///
    /// # Errors
    ///
    /// [`RegistryError`]; some may have been kept, and keeping them again is safe.
    pub(crate) async fn keep(&self, reports: &[&Report], source: &str) -> Result<Vec<bool>, RegistryError> {
        let mut kept = vec![false; reports.len()];
        let store = self.registry.fleet();
        let sampled = reports.iter().enumerate().filter(|(_, report)| is_shown(report.prediction, self.share_max));
        let documents: Vec<(usize, String)> =
            sampled.filter_map(|(place, report)| Some((place, Document::of(report, source)?))).collect();
        // Where there is no other server there is nobody to wait for.
        if documents.is_empty() || store.replicas().await?.len() < 2 {
            return Ok(kept);
        }
        for some in documents.chunks(OUTCOMES_AT_ONCE) {
            let (places, documents): (Vec<usize>, Vec<String>) = some.iter().cloned().unzip();
            let now = now_ms();
            let forget = now.saturating_sub(i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX));
            let count = store.keep_outcomes(&documents, now, forget).await?;
            places.iter().take(count).for_each(|place| kept[*place] = true);
            if count < documents.len() {
                tracing::warn!("no more outcomes are kept for other servers: too many wait already");
                break;
            }
        }
        Ok(kept)
    }

    /// Takes what is for this server until it drains.
    pub(crate) async fn run(self: Arc<Self>, draining: CancellationToken) {
        let (mut after, mut is_failing) = (0, false);
        loop {
            let taken = self.take(&mut after).await;
            if let Err(error) = &taken
                && !is_failing
            {
                let error = error as &dyn std::error::Error;
                tracing::warn!(error, "outcomes reported to other servers cannot be taken; trying again");
            }
            is_failing = taken.is_err();
            // Where there were as many as are looked at, there may be more.
            let wait = if taken.unwrap_or(false) { Duration::ZERO } else { LOOK_EVERY };
            tokio::select! {
                () = draining.cancelled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Looks at some of what was kept since; true when there were as many as are looked at.
    async fn take(&self, after: &mut u64) -> Result<bool, TakeError> {
        let limit = u32::try_from(OUTCOMES_AT_ONCE).unwrap_or(u32::MAX);
        let kept = self.registry.fleet().kept_outcomes(*after, limit).await?;
        let Some(last) = kept.last().map(|kept| kept.sequence) else { return Ok(false) };
        let is_full = kept.len() == OUTCOMES_AT_ONCE;
        let mut taken = Vec::new();
        for KeptOutcome { sequence, document } in kept {
            // What another release wrote in a way of its own is left to it.
            let Ok(document) = serde_json::from_str::<Document>(&document) else { continue };
            let source = document.source.clone();
            let Some(report) = document.report() else { continue };
            let prediction = report.prediction;
            match self.predictions.report(&[report], &source).await?.into_iter().next() {
                None | Some(Reported::NotLogged) => {}
                Some(Reported::Stored | Reported::Known | Reported::Superseded { .. }) => taken.push(sequence),
                Some(refused) => {
                    tracing::warn!(%prediction, ?refused, "an outcome reported to another server is refused");
                    taken.push(sequence);
                }
            }
        }
        if !taken.is_empty() {
            self.registry.fleet().remove_outcomes(&taken).await?;
        }
        *after = last;
        Ok(is_full)
    }
}

// === impl Document ===

impl Document {
    /// None of a number that no model predicts.
    fn of(report: &Report, source: &str) -> Option<String> {
        let Report { prediction, actual, observed_us, supersedes } = report;
        let (number, class) = match actual {
            Actual::Number(number) if !number.is_finite() => return None,
            Actual::Number(number) => (Some(*number), None),
            Actual::Class(class) => (None, Some(class.clone())),
        };
        let document = Document {
            prediction: prediction.to_string(),
            number,
            class,
            observed_us: *observed_us,
            supersedes: *supersedes,
            source: source.to_owned(),
        };
        serde_json::to_string(&document).ok()
    }

    fn report(self) -> Option<Report> {
        let Document { prediction, number, class, observed_us, supersedes, source: _ } = self;
        let actual = match (number, class) {
            (Some(number), None) => Actual::Number(number),
            (None, Some(class)) => Actual::Class(class),
            _ => return None,
        };
        Some(Report { prediction: Uuid::try_parse(&prediction).ok()?, actual, observed_us, supersedes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_is_taken_as_it_was_kept() {
        let report = |actual| Report { prediction: Uuid::nil(), actual, observed_us: Some(7), supersedes: true };
        for actual in [Actual::Number(-0.5), Actual::Class("it's \"é\"".to_owned())] {
            let report = report(actual);
            let kept = Document::of(&report, "trip computer").expect("kept");
            let document: Document = serde_json::from_str(&kept).expect("a document");
            assert_eq!(document.source, "trip computer");
            assert_eq!(document.report(), Some(report));
        }
        assert_eq!(Document::of(&report(Actual::Number(f64::NAN)), ""), None);
        let neither: Document = serde_json::from_str(&format!("{{\"prediction\": \"{}\"}}", Uuid::nil())).expect("one");
        assert_eq!(neither.report(), None);
    }
}
