//! How far off the predictions of one version were, as sums that add up over logs.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sqlx::Row as _;

use super::{Outcomes, compare::Pair, first_id, version_of};
use crate::{
    error::{OutcomesError, failed},
    prediction::{Status, Version},
    score::{Errors, Tally},
};

/// Most pairs that are looked at, the newest: what a judgement needs, and some seconds of one thread.
pub const PAIRS_MAX: usize = 200_000;
/// Pairs that are read at a time.
const PAGE: usize = 10_000;

/// Which predictions are looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ErrorsQuestion {
    /// The model.
    pub model: String,
    /// Its version.
    pub version: u32,
    /// Predictions from this time on, in microseconds since 1970.
    pub from_us: i64,
    /// Most cohorts that are told apart, those with the most pairs; 0: none.
    pub cohorts_max: usize,
}

/// Sums by cohort; the one with no name is all.
type Tallies = HashMap<Option<i64>, (Tally, Arc<Version>)>;

// === impl Outcomes ===

impl Outcomes {
    /// How far off a version's predictions were, of the newest [`PAIRS_MAX`] of which somebody reported what happened; by
    /// cohort, where the empty name is all of them. Answers that said that they do not know are left out. Nothing of a
    /// version that was never logged.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn errors(&self, question: &ErrorsQuestion) -> Result<BTreeMap<String, Errors>, OutcomesError> {
        let doing = failed("join predictions with outcomes");
        let mut tallies = Tallies::new();
        let rows =
            sqlx::query("SELECT id, model, version, digest, columns FROM version WHERE model = ?1 AND version = ?2")
                .bind(&question.model)
                .bind(question.version)
                .fetch_all(self.pool().await?)
                .await
                .map_err(&doing)?;
        for row in &rows {
            // One, unless a model was registered anew under its old name and number.
            let number: i64 = row.try_get("id").map_err(&doing)?;
            self.tally(question, number, &version_of(row)?, &mut tallies).await?;
        }
        self.named(tallies, question.cohorts_max).await
    }

    async fn tally(
        &self,
        question: &ErrorsQuestion,
        number: i64,
        version: &Arc<Version>,
        tallies: &mut Tallies,
    ) -> Result<(), OutcomesError> {
        let doing = failed("join predictions with outcomes");
        let from = first_id(question.from_us);
        let mut before: Option<Vec<u8>> = None;
        for _ in 0..PAIRS_MAX / PAGE {
            let rows = sqlx::query(
                "SELECT o.prediction, o.actual, p.cohort, p.status, p.answer FROM outcome o \
                 JOIN prediction p ON p.id = o.prediction WHERE o.prediction >= ?1 \
                 AND (?2 IS NULL OR o.prediction < ?2) AND p.version = ?3 ORDER BY o.prediction DESC LIMIT ?4",
            )
            .bind(&from[..])
            .bind(&before)
            .bind(number)
            .bind(i64::try_from(PAGE).unwrap_or(i64::MAX))
            .fetch_all(self.pool().await?)
            .await
            .map_err(&doing)?;
            for row in &rows {
                let pair = Pair::of(row)?;
                if pair.status != Status::Ok {
                    continue;
                }
                let of_cohort = (question.cohorts_max > 0).then_some(Some(pair.cohort));
                for cohort in std::iter::once(None).chain(of_cohort) {
                    let (tally, _) = tallies.entry(cohort).or_insert_with(|| (Tally::default(), Arc::clone(version)));
                    tally.add(&version.output, &pair.answer, pair.actual);
                }
            }
            let last = rows.last().filter(|_| rows.len() == PAGE);
            let Some(last) = last else { return Ok(()) };
            before = Some(last.try_get(0).map_err(&doing)?);
        }
        Ok(())
    }

    /// The sums by the cohorts' names: of all, and of the largest.
    async fn named(&self, tallies: Tallies, cohorts_max: usize) -> Result<BTreeMap<String, Errors>, OutcomesError> {
        let mut errors = BTreeMap::new();
        let mut cohorts = Vec::new();
        for (cohort, (tally, version)) in tallies {
            let sums = tally.errors(&version.output);
            match cohort {
                None => drop(errors.insert(String::new(), sums)),
                Some(cohort) => cohorts.push((cohort, sums)),
            }
        }
        cohorts.sort_by_key(|(cohort, sums)| (std::cmp::Reverse(sums.count), *cohort));
        for (cohort, sums) in cohorts.into_iter().take(cohorts_max) {
            let name: Option<String> = sqlx::query_scalar("SELECT name FROM cohort WHERE id = ?1")
                .bind(cohort)
                .fetch_optional(self.pool().await?)
                .await
                .map_err(failed("read cohorts"))?;
            // What has no cohort is in all of them alone.
            if let Some(name) = name.filter(|name| !name.is_empty()) {
                errors.insert(name, sums);
            }
        }
        Ok(errors)
    }
}
