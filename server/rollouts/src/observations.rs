//! What was seen of production and candidate, as counts and sums that add up over replicas.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Sketch;

/// The cohort that everything is in.
pub const ALL: &str = "";
/// Most cohorts that are told apart, [`ALL`] not counted; what else comes is in [`ALL`] alone.
pub const COHORTS_MAX: usize = 32;
/// Most classes that are told apart; of others nothing is kept by class.
pub const CLASSES_MAX: usize = 64;

/// What was seen of a rollout.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Observations {
    /// The phase that `candidate` and `pairs` are of: [`crate::Rollout::epoch`].
    pub epoch: u32,
    /// Production, since the rollout began.
    pub baseline: Side,
    /// The candidate, in this phase; what happened, since the rollout began.
    pub candidate: Side,
    /// Rows that both ran, in this phase, by cohort.
    pub pairs: BTreeMap<String, Pairs>,
    /// Rows that were not compared for want of time.
    pub dropped: u64,
    /// Threads of replicas that hang in rows of the model, which were run for comparison.
    pub hung: u64,
}

/// What was seen of one version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Side {
    /// Requests, failed ones included.
    pub requests: u64,
    /// Requests that failed by no fault of the caller's.
    pub errors: u64,
    /// Rows that were run for comparison only, which production had answered.
    pub runs: u64,
    /// Those that failed.
    pub run_errors: u64,
    /// How long answers took on the server, of a sample, in seconds.
    pub latency_seconds: Sketch,
    /// What was answered, of a sample, by cohort.
    pub outputs: BTreeMap<String, Outputs>,
    /// How answers compare with reported outcomes, by cohort.
    pub truths: BTreeMap<String, Truths>,
}

/// Answers of one version.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outputs {
    /// Answers looked at.
    pub count: u64,
    /// Those whose input was outside what the version was trained on.
    pub out_of_distribution: u64,
    /// Values, of outputs that are values.
    pub values: Sketch,
    /// Likeliest classes, of outputs that are classes.
    pub classes: BTreeMap<String, u64>,
}

/// Rows that both versions ran.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pairs {
    /// Rows.
    pub count: u64,
    /// Rows that the candidate failed and production did not.
    pub failed: u64,
    /// Absolute differences of values, in the output's unit.
    pub absolute: Moments,
    /// The same as share of the larger of the two, 0 to 1 where they have one sign, at most 2.
    pub relative: Moments,
    /// By production's likeliest class.
    pub classes: BTreeMap<String, ClassPairs>,
    /// What production said to the rows that both answered, and the candidate. Of the same rows: who asks which version
    /// is decided by few keys, whose rows are not those of the others.
    pub production: Outputs,
    /// See `production`.
    pub candidate: Outputs,
}

/// Rows of one class of production's.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClassPairs {
    /// Rows.
    pub count: u64,
    /// Those for which the candidate's likeliest class is another.
    pub differing: u64,
}

/// Answers against what was reported later.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Truths {
    /// Outcomes of answers that had an interval.
    pub intervals: u64,
    /// Those within q10 to q90.
    pub covered: u64,
    /// Absolute errors; of probabilities their Brier scores.
    pub absolute: Moments,
}

/// Count, sum and sum of squares.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moments {
    /// Values.
    pub count: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

/// What a version says to a row, and whether the row was inside what it was trained on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said<'a> {
    /// The answer.
    pub answer: Answer<'a>,
    /// Whether an input was outside.
    pub is_outside: bool,
}

/// An answer, as far as it is compared.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer<'a> {
    /// A value: the middle of an interval, a probability.
    Value(f64),
    /// The likeliest class.
    Class(&'a str),
    /// It has no answer for such rows.
    Unknown,
}

// === impl Observations ===

impl Observations {
    /// Adds what another replica saw. Of another phase than this one's, only what is said of production counts, and what
    /// happened: that is reported long after the phase of the prediction is over.
    pub fn merge(&mut self, other: &Observations) {
        self.baseline.merge(&other.baseline);
        self.dropped = self.dropped.saturating_add(other.dropped);
        self.hung = self.hung.saturating_add(other.hung);
        if other.epoch != self.epoch {
            merge_cohorts(&mut self.candidate.truths, &other.candidate.truths, Truths::merge);
            return;
        }
        self.candidate.merge(&other.candidate);
        merge_cohorts(&mut self.pairs, &other.pairs, Pairs::merge);
    }

    /// A new phase has begun.
    pub fn begin(&mut self, epoch: u32) {
        let Observations { epoch: known, baseline: _, candidate, pairs, dropped: _, hung: _ } = self;
        *known = epoch;
        *candidate = Side { truths: std::mem::take(&mut candidate.truths), ..Side::default() };
        pairs.clear();
    }

    /// A row that both versions ran.
    pub fn compare(&mut self, cohort: &str, production: Said<'_>, candidate: Option<Said<'_>>) {
        for cohort in cohorts_of(&self.pairs, cohort) {
            self.pairs.entry(cohort).or_default().add(production, candidate);
        }
    }

    /// Rows compared in this phase.
    #[must_use]
    pub fn pair_count(&self) -> u64 {
        self.pairs.get(ALL).map_or(0, |pairs| pairs.count)
    }
}

// === impl Side ===

impl Side {
    /// A sampled answer.
    pub fn answered(&mut self, cohort: &str, answer: Answer<'_>, out_of_distribution: bool) {
        for cohort in cohorts_of(&self.outputs, cohort) {
            self.outputs.entry(cohort).or_default().add(answer, out_of_distribution);
        }
    }

    fn merge(&mut self, other: &Side) {
        let Side { requests, errors, runs, run_errors, latency_seconds, outputs, truths } = self;
        *requests = requests.saturating_add(other.requests);
        *errors = errors.saturating_add(other.errors);
        *runs = runs.saturating_add(other.runs);
        *run_errors = run_errors.saturating_add(other.run_errors);
        latency_seconds.merge(&other.latency_seconds);
        merge_cohorts(outputs, &other.outputs, Outputs::merge);
        merge_cohorts(truths, &other.truths, Truths::merge);
    }
}

// === impl Outputs ===

impl Outputs {
    fn add(&mut self, answer: Answer<'_>, out_of_distribution: bool) {
        self.count += 1;
        self.out_of_distribution += u64::from(out_of_distribution);
        match answer {
            Answer::Value(value) => self.values.add(value),
            Answer::Class(class) => {
                if self.classes.len() < CLASSES_MAX || self.classes.contains_key(class) {
                    *self.classes.entry(class.to_owned()).or_default() += 1;
                }
            }
            Answer::Unknown => {}
        }
    }

    fn merge(&mut self, other: &Outputs) {
        self.count = self.count.saturating_add(other.count);
        self.out_of_distribution = self.out_of_distribution.saturating_add(other.out_of_distribution);
        self.values.merge(&other.values);
        for (class, count) in &other.classes {
            if self.classes.len() < CLASSES_MAX || self.classes.contains_key(class) {
                let mine = self.classes.entry(class.clone()).or_default();
                *mine = mine.saturating_add(*count);
            }
        }
    }
}

// === impl Pairs ===

impl Pairs {
    fn add(&mut self, production: Said<'_>, candidate: Option<Said<'_>>) {
        self.count += 1;
        let Some(candidate) = candidate else {
            self.failed += 1;
            return;
        };
        self.production.add(production.answer, production.is_outside);
        self.candidate.add(candidate.answer, candidate.is_outside);
        match (production.answer, candidate.answer) {
            (Answer::Value(production), Answer::Value(candidate)) => {
                let difference = (candidate - production).abs();
                let larger = candidate.abs().max(production.abs());
                self.absolute.add(difference);
                self.relative.add(if larger > 0.0 { difference / larger } else { 0.0 });
            }
            (Answer::Class(production), candidate) => {
                let differs = candidate != Answer::Class(production);
                self.class(production, ClassPairs { count: 1, differing: u64::from(differs) });
            }
            // Who knows and who does not differ as far as answers can.
            (Answer::Value(_), _) | (Answer::Unknown, Answer::Value(_)) => self.relative.add(1.0),
            (Answer::Unknown, _) => {}
        }
    }

    fn merge(&mut self, other: &Pairs) {
        self.count = self.count.saturating_add(other.count);
        self.failed = self.failed.saturating_add(other.failed);
        self.absolute.merge(&other.absolute);
        self.relative.merge(&other.relative);
        other.classes.iter().for_each(|(class, pairs)| self.class(class, *pairs));
        self.production.merge(&other.production);
        self.candidate.merge(&other.candidate);
    }

    fn class(&mut self, class: &str, pairs: ClassPairs) {
        if self.classes.len() < CLASSES_MAX || self.classes.contains_key(class) {
            let mine = self.classes.entry(class.to_owned()).or_default();
            mine.count = mine.count.saturating_add(pairs.count);
            mine.differing = mine.differing.saturating_add(pairs.differing);
        }
    }
}

// === impl Answer ===

impl<'a> From<Answer<'a>> for Said<'a> {
    /// To a row inside.
    fn from(answer: Answer<'a>) -> Said<'a> {
        Said { answer, is_outside: false }
    }
}

// === impl Truths ===

impl Truths {
    fn merge(&mut self, other: &Truths) {
        self.intervals = self.intervals.saturating_add(other.intervals);
        self.covered = self.covered.saturating_add(other.covered);
        self.absolute.merge(&other.absolute);
    }
}

// === impl Moments ===

impl Moments {
    /// Adds a value; one that is not finite is ignored.
    pub fn add(&mut self, value: f64) {
        if value.is_finite() {
            self.count += 1;
            self.sum += value;
            self.squares += value * value;
        }
    }

    fn merge(&mut self, other: &Moments) {
        self.count = self.count.saturating_add(other.count);
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// Their mean; none of no values.
    #[must_use]
    pub fn mean(&self) -> Option<f64> {
        (self.count > 0).then(|| self.sum / crate::confidence::real(self.count))
    }

    /// The standard error of the mean.
    pub(crate) fn standard_error(&self) -> f64 {
        let n = crate::confidence::real(self.count.max(2));
        let mean = self.sum / n;
        ((self.squares / n - mean * mean).max(0.0) / (n - 1.0)).sqrt()
    }
}

/// The cohorts that something of `cohort` is counted in: all, and its own where there is room for it.
fn cohorts_of<T>(known: &BTreeMap<String, T>, cohort: &str) -> impl Iterator<Item = String> + use<T> {
    let has_room = known.len() <= COHORTS_MAX || known.contains_key(cohort);
    let own = (cohort != ALL && has_room).then(|| cohort.to_owned());
    std::iter::once(ALL.to_owned()).chain(own)
}

fn merge_cohorts<T: Default>(mine: &mut BTreeMap<String, T>, theirs: &BTreeMap<String, T>, merge: impl Fn(&mut T, &T)) {
    for (cohort, theirs) in theirs {
        if cohort == ALL || mine.len() <= COHORTS_MAX || mine.contains_key(cohort) {
            merge(mine.entry(cohort.clone()).or_default(), theirs);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_counted_by_what_was_said() {
        let check = |production: Answer<'_>, candidate: Option<Answer<'_>>, expected: Pairs| {
            let mut seen = Observations::default();
            seen.compare("", production.into(), candidate.map(Said::from));
            let found =
                Pairs { production: Outputs::default(), candidate: Outputs::default(), ..seen.pairs[ALL].clone() };
            assert_eq!(found, expected, "{production:?} {candidate:?}");
        };
        let one = Pairs { count: 1, ..Pairs::default() };
        let of = |value: f64| Moments { count: 1, sum: value, squares: value * value };
        let classes = |differing| BTreeMap::from([("a".to_owned(), ClassPairs { count: 1, differing })]);
        let value = |value| Answer::Value(value);
        check(value(100.0), Some(value(50.0)), Pairs { absolute: of(50.0), relative: of(0.5), ..one.clone() });
        check(value(0.0), Some(value(0.0)), Pairs { absolute: of(0.0), relative: of(0.0), ..one.clone() });
        check(value(1.0), Some(Answer::Unknown), Pairs { relative: of(1.0), ..one.clone() });
        check(Answer::Unknown, Some(value(1.0)), Pairs { relative: of(1.0), ..one.clone() });
        check(Answer::Unknown, Some(Answer::Unknown), one.clone());
        check(Answer::Class("a"), Some(Answer::Class("a")), Pairs { classes: classes(0), ..one.clone() });
        check(Answer::Class("a"), Some(Answer::Class("b")), Pairs { classes: classes(1), ..one.clone() });
        check(Answer::Class("a"), None, Pairs { failed: 1, ..one.clone() });
    }

    #[test]
    fn cohorts_and_classes_are_bounded() {
        let mut seen = Observations::default();
        for index in 0..1_000 {
            let name = format!("n-{index}");
            seen.compare(&name, Answer::Class(&name).into(), Some(Answer::Unknown.into()));
            seen.candidate.answered(&name, Answer::Class(&name), false);
        }
        assert_eq!(seen.pairs.len(), COHORTS_MAX + 1);
        assert_eq!(seen.pair_count(), 1_000);
        assert_eq!(seen.pairs[ALL].classes.len(), CLASSES_MAX);
        assert_eq!(seen.candidate.outputs.len(), COHORTS_MAX + 1);
        assert_eq!(seen.candidate.outputs[ALL].count, 1_000);
        let other = seen.clone();
        seen.merge(&other);
        assert_eq!((seen.pairs.len(), seen.pair_count()), (COHORTS_MAX + 1, 2_000));
    }

    #[test]
    fn of_another_phase_only_production_counts_and_what_happened() {
        let truths = |intervals| BTreeMap::from([(ALL.to_owned(), Truths { intervals, ..Truths::default() })]);
        let side = |requests| Side { requests, truths: truths(requests), ..Side::default() };
        let mut seen = Observations { epoch: 2, baseline: side(10), candidate: side(1), ..Observations::default() };
        seen.merge(&Observations { epoch: 1, baseline: side(5), candidate: side(7), ..Observations::default() });
        assert_eq!((seen.baseline.requests, seen.candidate.requests), (15, 1));
        assert_eq!(seen.candidate.truths, truths(8));
        seen.begin(3);
        assert_eq!((seen.epoch, seen.baseline.requests, seen.candidate.requests), (3, 15, 0));
        assert_eq!(seen.candidate.truths, truths(8));
    }
}
