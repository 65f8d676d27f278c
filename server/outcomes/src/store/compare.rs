//! Comparing what was predicted with what happened.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sqlx::{Row as _, sqlite::SqliteRow};

use super::{Outcomes, first_id, version_of};
use crate::{
    codec,
    error::{OutcomesError, failed},
    prediction::{Status, Version},
    score::{Score, Tally},
};

/// Pairs that are read at a time: nobody else waits for more.
const PAGE: i64 = 10_000;
/// Most groups of an answer.
const GROUPS_MAX: usize = 4_096;

/// Which predictions are compared.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Question {
    /// The model.
    pub model: String,
    /// Its versions; none: all of which predictions were logged.
    pub versions: Vec<u32>,
    /// Predictions from this time on, in microseconds since 1970.
    pub from_us: i64,
    /// Predictions before this time; none: all after.
    pub to_us: Option<i64>,
    /// Each cohort for itself as well.
    pub by_cohort: bool,
}

/// How right one version was.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The version.
    pub version: Arc<Version>,
    /// The part of the fleet; none: all of it.
    pub cohort: Option<String>,
    /// Predictions that were logged.
    pub predictions: u64,
    /// Of these, what happened was reported.
    pub reported: u64,
    /// Of these, the pairs that are scored: what the model was trained for and answered.
    pub scored: u64,
    /// Reported, but outside what the model was trained on, which it said: not scored.
    pub out_of_distribution: u64,
    /// Reported, but the model had no answer.
    pub unanswered: u64,
    /// How right the scored ones were; none of no pairs.
    pub score: Option<Score>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Group {
    predictions: u64,
    reported: u64,
    out_of_distribution: u64,
    unanswered: u64,
    tally: Tally,
}

/// By version and cohort; the cohort that is none is all.
type Groups = BTreeMap<(i64, Option<i64>), Group>;

// === impl Outcomes ===

impl Outcomes {
    /// How right versions of a model were, by what was reported of their predictions: a group for each version, and with
    /// [`Question::by_cohort`] for each of its cohorts, in that order.
    ///
    /// # Errors
    ///
    /// [`OutcomesError::UnknownModel`] and [`OutcomesError::InvalidQuestion`], and when the database cannot be read.
    pub async fn compare(&self, question: &Question) -> Result<Vec<Comparison>, OutcomesError> {
        let versions = self.versions(question).await?;
        let mut groups = Groups::new();
        for number in versions.keys() {
            groups.insert((*number, None), Group::default());
            self.count(question, *number, &mut groups).await?;
            self.pair(question, *number, &versions, &mut groups).await?;
        }
        let cohorts = self.cohorts(&groups).await?;
        let mut comparisons: Vec<Comparison> = Vec::with_capacity(groups.len());
        for ((number, cohort), group) in groups {
            let Some(version) = versions.get(&number) else { continue };
            let cohort = cohort.map(|cohort| cohorts.get(&cohort).cloned().unwrap_or_default());
            comparisons.push(group.finish(version, cohort));
        }
        comparisons.sort_by(|a, b| {
            let key = |it: &Comparison| (it.version.version, it.version.digest.clone(), it.cohort.clone());
            key(a).cmp(&key(b))
        });
        Ok(comparisons)
    }

    /// The versions that are asked for, by their numbers in the database.
    async fn versions(&self, question: &Question) -> Result<BTreeMap<i64, Arc<Version>>, OutcomesError> {
        let doing = failed("read model versions");
        if question.to_us.is_some_and(|to_us| to_us <= question.from_us) {
            let problem = "is not after `from`, expected a later time".to_owned();
            return Err(OutcomesError::InvalidQuestion { field: "to", problem });
        }
        let rows = sqlx::query("SELECT id, model, version, digest, columns FROM version WHERE model = ?1")
            .bind(&question.model)
            .fetch_all(self.pool().await?)
            .await
            .map_err(&doing)?;
        let mut versions = BTreeMap::new();
        for row in &rows {
            versions.insert(row.try_get::<i64, _>("id").map_err(&doing)?, version_of(row)?);
        }
        if versions.is_empty() {
            return Err(OutcomesError::UnknownModel { model: question.model.clone() });
        }
        if !question.versions.is_empty() {
            for wanted in &question.versions {
                if !versions.values().any(|version| version.version == *wanted) {
                    let mut known: Vec<u32> = versions.values().map(|version| version.version).collect();
                    known.sort_unstable();
                    known.dedup();
                    let problem = format!("holds {wanted}, expected versions whose predictions were logged: {known:?}");
                    return Err(OutcomesError::InvalidQuestion { field: "versions", problem });
                }
            }
            versions.retain(|_, version| question.versions.contains(&version.version));
        }
        Ok(versions)
    }

    /// Counts what was logged.
    async fn count(&self, question: &Question, number: i64, groups: &mut Groups) -> Result<(), OutcomesError> {
        let doing = failed("count predictions");
        let (from, to) = question.ids();
        let rows = sqlx::query(
            "SELECT cohort, count(*) FROM prediction WHERE id >= ?1 AND id < ?2 AND version = ?3 GROUP BY cohort",
        )
        .bind(&from[..])
        .bind(&to[..])
        .bind(number)
        .fetch_all(self.pool().await?)
        .await
        .map_err(&doing)?;
        for row in &rows {
            let (cohort, count): (i64, i64) = (row.try_get(0).map_err(&doing)?, row.try_get(1).map_err(&doing)?);
            groups.entry((number, None)).or_default().predictions += count.unsigned_abs();
            if question.by_cohort && groups.len() < GROUPS_MAX {
                groups.entry((number, Some(cohort))).or_default().predictions += count.unsigned_abs();
            }
        }
        Ok(())
    }

    /// Joins what was predicted with what happened.
    async fn pair(
        &self,
        question: &Question,
        number: i64,
        versions: &BTreeMap<i64, Arc<Version>>,
        groups: &mut Groups,
    ) -> Result<(), OutcomesError> {
        let doing = failed("join predictions with outcomes");
        let Some(version) = versions.get(&number) else { return Ok(()) };
        let (from, to) = question.ids();
        let mut from = from.to_vec();
        let mut is_first = true;
        loop {
            // Of what was reported, which is less than what was predicted.
            let rows = sqlx::query(
                "SELECT o.prediction, o.actual, p.version, p.cohort, p.status, p.answer FROM outcome o \
                 JOIN prediction p ON p.id = o.prediction WHERE (o.prediction > ?1 OR ?5 AND o.prediction = ?1) \
                 AND o.prediction < ?2 AND p.version = ?3 ORDER BY o.prediction LIMIT ?4",
            )
            .bind(&from)
            .bind(&to[..])
            .bind(number)
            .bind(PAGE)
            .bind(is_first)
            .fetch_all(self.pool().await?)
            .await
            .map_err(&doing)?;
            let Some(last) = rows.last() else { return Ok(()) };
            from = last.try_get::<Vec<u8>, _>(0).map_err(&doing)?;
            is_first = false;
            for row in &rows {
                let pair = Pair::of(row)?;
                groups.entry((number, None)).or_default().add(version, &pair);
                // A cohort that was not counted is one too many.
                if let Some(group) = groups.get_mut(&(number, Some(pair.cohort))) {
                    group.add(version, &pair);
                }
            }
            if rows.len() < usize::try_from(PAGE).unwrap_or(usize::MAX) {
                return Ok(());
            }
        }
    }

    async fn cohorts(&self, groups: &Groups) -> Result<HashMap<i64, String>, OutcomesError> {
        let doing = failed("read cohorts");
        let mut names = HashMap::new();
        for number in groups.keys().filter_map(|(_, cohort)| *cohort) {
            if names.contains_key(&number) {
                continue;
            }
            let name: Option<String> = sqlx::query_scalar("SELECT name FROM cohort WHERE id = ?1")
                .bind(number)
                .fetch_optional(self.pool().await?)
                .await
                .map_err(&doing)?;
            names.insert(number, name.unwrap_or_default());
        }
        Ok(names)
    }
}

/// A prediction with what happened.
pub(super) struct Pair {
    pub(super) actual: f64,
    pub(super) cohort: i64,
    pub(super) status: Status,
    pub(super) answer: Vec<f32>,
}

// === impl Pair ===

impl Pair {
    /// Of the columns `actual, cohort, status, answer`.
    pub(super) fn of(row: &SqliteRow) -> Result<Pair, OutcomesError> {
        let read =
            || Ok((row.try_get("actual")?, row.try_get("cohort")?, row.try_get("status")?, row.try_get("answer")?));
        let (actual, cohort, status, answer): (f64, i64, i64, &[u8]) =
            read().map_err(failed("join predictions with outcomes"))?;
        let malformed = OutcomesError::Malformed { what: "an answer" };
        match (Status::of_code(status), codec::take_numbers(answer)) {
            (Some(status), Some(answer)) => Ok(Pair { actual, cohort, status, answer }),
            _ => Err(malformed),
        }
    }
}

// === impl Group ===

impl Group {
    fn add(&mut self, version: &Version, pair: &Pair) {
        self.reported += 1;
        match pair.status {
            Status::OutOfDistribution => self.out_of_distribution += 1,
            Status::Unknown => self.unanswered += 1,
            Status::Ok => {
                self.tally.add(&version.output, &pair.answer, pair.actual);
            }
        }
    }

    fn finish(self, version: &Arc<Version>, cohort: Option<String>) -> Comparison {
        let Group { predictions, reported, out_of_distribution, unanswered, tally } = self;
        let (scored, score) = (tally.count, tally.score(&version.output));
        let version = Arc::clone(version);
        Comparison { version, cohort, predictions, reported, scored, out_of_distribution, unanswered, score }
    }
}

// === impl Question ===

impl Question {
    /// The ids of its predictions, from the first to before the last.
    fn ids(&self) -> ([u8; 16], [u8; 16]) {
        (first_id(self.from_us), self.to_us.map_or([0xff; 16], first_id))
    }
}
