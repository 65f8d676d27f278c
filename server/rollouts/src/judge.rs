//! What the guards say to what was seen.

use std::collections::BTreeMap;

use crate::{
    ALL, Guards, Moments, Observations, Outputs, Pairs, Side, Sketch, Truths,
    confidence::{self, excess, ratio, real, share},
};

/// Requests from which on a 99th percentile means something: five are beyond it.
const LATENCY_REQUESTS: u64 = 500;
/// Latencies up to here are nobody's trouble, whatever their ratio.
const LATENCY_FLOOR_SECONDS: f64 = 0.001;
/// Bins of the index of population stability: deciles of production's answers.
const SHIFT_BINS: u64 = 10;

/// A guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum GuardName {
    /// Share of failed requests, above production's.
    ErrorRate,
    /// 99th percentile of latency, over production's.
    Latency,
    /// Mean absolute difference from production's answers.
    DisagreementAbsolute,
    /// The same, relative.
    DisagreementRelative,
    /// Share of rows with another likeliest class.
    DisagreementClass,
    /// The same of the worst of production's classes.
    DisagreementPerClass,
    /// Shift of the distribution of answers.
    Shift,
    /// Share of answers out of distribution, above production's.
    OutOfDistribution,
    /// Share of outcomes within q10 to q90.
    Coverage,
    /// Mean absolute error against outcomes, over production's.
    Error,
}

/// What a guard says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GuardState {
    /// Too little was seen.
    Waiting,
    /// Within the limit.
    Passing,
    /// Beyond the limit, which may still be noise: the rollout goes neither on nor back.
    Uncertain,
    /// Beyond the limit for certain.
    Failing,
}

/// A guard, what it measured, and what it makes of it.
#[derive(Debug, Clone, PartialEq)]
pub struct GuardStatus {
    /// Which.
    pub name: GuardName,
    /// Of which cohort; [`ALL`] of all.
    pub cohort: String,
    /// The class it is about; empty of guards that are about none.
    pub class: String,
    /// What was measured; none before anything was.
    pub value: Option<f64>,
    /// What it may be: at least of [`GuardName::Coverage`], at most of all others.
    pub limit: f64,
    /// Requests, pairs or outcomes it counted.
    pub count: u64,
    /// How many it needs.
    pub needed: u64,
    /// What follows.
    pub state: GuardState,
}

/// What was measured: the value, and what it is at least (or, of a least limit, at most) for certain.
struct Measured {
    value: f64,
    certain: f64,
    count: u64,
}

/// What the guards that are on say, those of all rows first, then cohort by cohort.
#[must_use]
pub fn judge(guards: &Guards, seen: &Observations) -> Vec<GuardStatus> {
    let mut statuses = Vec::new();
    let Observations { epoch: _, baseline, candidate, pairs, dropped: _, hung: _ } = seen;
    let nothing = (Outputs::default(), Pairs::default(), Truths::default());
    let mut cohorts: Vec<&str> = vec![ALL];
    let known = pairs.keys().chain(candidate.outputs.keys()).chain(candidate.truths.keys());
    for cohort in known.map(String::as_str) {
        if !cohorts.contains(&cohort) {
            cohorts.push(cohort);
        }
    }
    add(
        &mut statuses,
        guards,
        GuardName::ErrorRate,
        guards.error_rate_increase_max,
        &[(ALL, "", Some(error_rate(baseline, candidate)))],
    );
    let latency = guards.latency_p99_ratio_max.map(|limit| (ALL, "", latency(baseline, candidate, limit)));
    add(&mut statuses, guards, GuardName::Latency, guards.latency_p99_ratio_max, latency.as_slice());
    for cohort in cohorts {
        let pairs = pairs.get(cohort).unwrap_or(&nothing.1);
        // Where rows are compared they are the same for both; elsewhere, as of pictures, those that each was asked.
        let of = |side: &'_ BTreeMap<String, Outputs>| side.get(cohort).cloned().unwrap_or_default();
        let (production, outputs) = if pairs.count > 0 {
            (pairs.production.clone(), pairs.candidate.clone())
        } else {
            (of(&baseline.outputs), of(&candidate.outputs))
        };
        let truths =
            (baseline.truths.get(cohort).unwrap_or(&nothing.2), candidate.truths.get(cohort).unwrap_or(&nothing.2));
        let mut guard = |name, limit, measured: Option<Measured>| {
            add(&mut statuses, guards, name, limit, &[(cohort, "", measured)]);
        };
        guard(GuardName::DisagreementAbsolute, guards.disagreement_absolute_max, of_mean(&pairs.absolute));
        guard(GuardName::DisagreementRelative, guards.disagreement_relative_max, of_mean(&pairs.relative));
        guard(GuardName::DisagreementClass, guards.disagreement_class_max, classes(pairs));
        guard(GuardName::Shift, guards.shift_max, shift(&production, &outputs));
        guard(GuardName::OutOfDistribution, guards.out_of_distribution_increase_max, outside(&production, &outputs));
        guard(GuardName::Coverage, guards.coverage_min, coverage(truths.1));
        guard(GuardName::Error, guards.error_ratio_max, error(truths.0, truths.1, guards));
        for (class, pairs) in &pairs.classes {
            let measured = of_share(pairs.differing, pairs.count);
            let limit = guards.disagreement_per_class_max;
            add(&mut statuses, guards, GuardName::DisagreementPerClass, limit, &[(cohort, class, measured)]);
        }
    }
    statuses
}

/// Adds a guard's status. A guard that measured nothing of a cohort says nothing of it.
fn add(
    statuses: &mut Vec<GuardStatus>,
    guards: &Guards,
    name: GuardName,
    limit: Option<f64>,
    measured: &[(&str, &str, Option<Measured>)],
) {
    let (Some(limit), [(cohort, class, measured)]) = (limit, measured) else { return };
    if measured.is_none() && *cohort != ALL {
        return;
    }
    let needed = if name == GuardName::Latency { guards.minimum.max(LATENCY_REQUESTS) } else { guards.minimum };
    let is_least = name == GuardName::Coverage;
    let beyond = |value: f64| if is_least { value < limit } else { value > limit };
    let state = match measured {
        None => GuardState::Waiting,
        Some(measured) if measured.count < needed => GuardState::Waiting,
        Some(measured) if beyond(measured.certain) => GuardState::Failing,
        Some(measured) if beyond(measured.value) => GuardState::Uncertain,
        Some(_) => GuardState::Passing,
    };
    statuses.push(GuardStatus {
        name,
        cohort: (*cohort).to_owned(),
        class: (*class).to_owned(),
        value: measured.as_ref().map(|measured| measured.value),
        limit,
        count: measured.as_ref().map_or(0, |measured| measured.count),
        needed,
        state,
    });
}

fn error_rate(baseline: &Side, candidate: &Side) -> Measured {
    let mine =
        (candidate.errors.saturating_add(candidate.run_errors), candidate.requests.saturating_add(candidate.runs));
    let theirs = (baseline.errors, baseline.requests);
    Measured {
        value: ratio(mine.0, mine.1) - ratio(theirs.0, theirs.1),
        certain: excess(mine, theirs),
        count: mine.1.min(theirs.1),
    }
}

/// The candidate's 99th percentile is above a limit exactly when more than 1 % of its requests are: a share, which has a
/// bound. Production's percentile is taken as high as its own noise allows, by the ranks that a binomial count may have
/// (Hahn and Meeker, "Statistical Intervals", 1991, section 5.2).
fn latency(baseline: &Side, candidate: &Side, limit: f64) -> Option<Measured> {
    let (production, mine) = (&baseline.latency_seconds, &candidate.latency_seconds);
    let count = production.count().min(mine.count());
    let (theirs, own) = (p99(production, 0.0)?, p99(mine, 0.0)?);
    let value = own / theirs.max(LATENCY_FLOOR_SECONDS);
    let highest = p99(production, confidence::errors(production.count()))?.max(LATENCY_FLOOR_SECONDS);
    let slow = mine.above(highest * limit);
    let is_certain = share(slow, mine.count()).0 > 0.01;
    Some(Measured { value, certain: if is_certain { value.max(limit * (1.0 + f64::EPSILON)) } else { 0.0 }, count })
}

/// The 99th percentile, so many standard errors of its rank up.
fn p99(latency: &Sketch, errors: f64) -> Option<f64> {
    let n = real(latency.count());
    let rank = (0.99 * n + errors * (0.99 * 0.01 * n).sqrt()).ceil().clamp(1.0, n.max(1.0));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, at most the count")]
    let rank = rank as u64;
    latency.at_rank(rank)
}

fn of_mean(moments: &Moments) -> Option<Measured> {
    let value = moments.mean()?;
    Some(Measured { value, certain: confidence::mean(moments).0, count: moments.count })
}

fn of_share(hits: u64, count: u64) -> Option<Measured> {
    (count > 0).then(|| Measured { value: ratio(hits, count), certain: share(hits, count).0, count })
}

fn classes(pairs: &Pairs) -> Option<Measured> {
    let sum = |part: fn(&crate::ClassPairs) -> u64| pairs.classes.values().map(part).sum::<u64>();
    of_share(sum(|class| class.differing), sum(|class| class.count))
}

/// The index of population stability, over deciles of production's values or over classes.
fn shift(production: &Outputs, candidate: &Outputs) -> Option<Measured> {
    let bins = if production.classes.is_empty() {
        production.values.binned(&candidate.values, SHIFT_BINS)
    } else {
        let other = |class: &String| candidate.classes.get(class).copied().unwrap_or(0);
        let known = production.classes.iter().map(|(class, count)| (*count, other(class)));
        let new = candidate.classes.iter().filter(|(class, _)| !production.classes.contains_key(*class));
        known.chain(new.map(|(_, count)| (0, *count))).collect()
    };
    let first: u64 = bins.iter().map(|bin| bin.0).sum();
    let second: u64 = bins.iter().map(|bin| bin.1).sum();
    if first == 0 || second == 0 {
        return None;
    }
    // Half a value in every bin, so that an empty one is a number.
    let of = |count: u64, whole: u64| (real(count) + 0.5) / (real(whole) + 0.5 * real(bins.len() as u64));
    let value: f64 = bins
        .iter()
        .map(|(theirs, mine)| (of(*theirs, first), of(*mine, second)))
        .map(|(theirs, mine)| (mine - theirs) * (mine / theirs).ln())
        .sum();
    let noise = if bins.len() < 2 { 0.0 } else { confidence::shift_noise(bins.len(), first, second) };
    Some(Measured { value, certain: value - noise, count: first.min(second) })
}

fn outside(production: &Outputs, candidate: &Outputs) -> Option<Measured> {
    let (mine, theirs) =
        ((candidate.out_of_distribution, candidate.count), (production.out_of_distribution, production.count));
    let count = mine.1.min(theirs.1);
    (count > 0).then(|| Measured {
        value: ratio(mine.0, mine.1) - ratio(theirs.0, theirs.1),
        certain: excess(mine, theirs),
        count,
    })
}

fn coverage(truths: &Truths) -> Option<Measured> {
    let Truths { intervals, covered, absolute: _ } = truths;
    (*intervals > 0).then(|| Measured {
        value: ratio(*covered, *intervals),
        certain: share(*covered, *intervals).1,
        count: *intervals,
    })
}

fn error(production: &Truths, candidate: &Truths, guards: &Guards) -> Option<Measured> {
    let (theirs, mine) = (production.absolute.mean()?, candidate.absolute.mean()?);
    let (_, highest) = confidence::mean(&production.absolute);
    let (lowest, _) = confidence::mean(&candidate.absolute);
    let over = |part: f64, whole: f64| {
        if whole > 0.0 {
            part / whole
        } else if part > 0.0 {
            f64::MAX
        } else {
            1.0
        }
    };
    let certain = if lowest > 0.0 { over(lowest, highest) } else { 0.0 };
    let count = production.absolute.count.min(candidate.absolute.count);
    debug_assert!(guards.minimum > 0);
    Some(Measured { value: over(mine, theirs), certain, count })
}

// === impl GuardName ===

impl GuardName {
    /// As plans, logs and the API write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            GuardName::ErrorRate => "error_rate_increase",
            GuardName::Latency => "latency_p99_ratio",
            GuardName::DisagreementAbsolute => "disagreement_absolute",
            GuardName::DisagreementRelative => "disagreement_relative",
            GuardName::DisagreementClass => "disagreement_class",
            GuardName::DisagreementPerClass => "disagreement_per_class",
            GuardName::Shift => "shift",
            GuardName::OutOfDistribution => "out_of_distribution_increase",
            GuardName::Coverage => "coverage",
            GuardName::Error => "error_ratio",
        }
    }
}

// === impl GuardStatus ===

impl GuardStatus {
    /// In a sentence: what failed, what it is, and what it may be.
    #[must_use]
    pub fn reason(&self) -> String {
        let GuardStatus { name, cohort, class, value, limit, count, needed: _, state: _ } = self;
        let bound = if *name == GuardName::Coverage { "at least" } else { "at most" };
        let value = value.map_or("unknown".to_owned(), |value| format!("{value:.4}"));
        let of_class = if class.is_empty() { String::new() } else { format!(" of class `{class}`") };
        let of_cohort = if cohort.is_empty() { String::new() } else { format!(" in cohort `{cohort}`") };
        format!("guard {}{of_class}{of_cohort} is {value} over {count}, expected {bound} {limit}", name.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Answer;

    fn state_of(statuses: &[GuardStatus], name: GuardName, cohort: &str) -> Option<GuardState> {
        statuses.iter().find(|status| status.name == name && status.cohort == cohort).map(|status| status.state)
    }

    /// Rows of two cohorts, of which the candidate gives `factors` of what production gives.
    fn compared(rows: u32, factors: [f64; 2]) -> Observations {
        let mut seen = Observations::default();
        for row in 0..rows {
            let cohort = if row % 2 == 0 { "a" } else { "b" };
            let production = 300.0 + f64::from(row % 97);
            let candidate = production * factors[(row % 2) as usize];
            seen.baseline.answered(cohort, Answer::Value(production), false);
            seen.candidate.answered(cohort, Answer::Value(candidate), false);
            seen.compare(cohort, Answer::Value(production).into(), Some(Answer::Value(candidate).into()));
        }
        seen
    }

    #[test]
    fn miles_for_kilometres_are_seen_and_small_differences_pass() {
        let check = |rows: u32, factors: [f64; 2], expected: (GuardState, GuardState)| {
            let statuses = judge(&Guards::default(), &compared(rows, factors));
            let of = |cohort| state_of(&statuses, GuardName::DisagreementRelative, cohort).expect("a status");
            assert_eq!((of(ALL), of("b")), expected, "{rows} {factors:?}");
        };
        check(60, [0.621, 0.621], (GuardState::Waiting, GuardState::Waiting));
        check(400, [0.621, 0.621], (GuardState::Failing, GuardState::Failing));
        check(400, [1.02, 0.98], (GuardState::Passing, GuardState::Passing));
        // One cohort is wrong, and all together are not.
        check(2_000, [1.0, 0.85], (GuardState::Passing, GuardState::Failing));
    }

    #[test]
    fn answers_that_shift_are_seen() {
        let check = |factors: [f64; 2], expected: GuardState| {
            let statuses = judge(&Guards::default(), &compared(4_000, factors));
            assert_eq!(state_of(&statuses, GuardName::Shift, ALL), Some(expected), "{factors:?}");
        };
        check([1.0, 1.0], GuardState::Passing);
        check([0.621, 0.621], GuardState::Failing);
    }

    #[test]
    fn failed_requests_are_seen_with_counts_only() {
        let check = |candidate: (u64, u64), baseline: (u64, u64), expected: GuardState| {
            let side = |(errors, requests)| Side { requests, errors, ..Side::default() };
            let seen = Observations { baseline: side(baseline), candidate: side(candidate), ..Observations::default() };
            let statuses = judge(&Guards::default(), &seen);
            assert_eq!(state_of(&statuses, GuardName::ErrorRate, ALL), Some(expected), "{candidate:?} {baseline:?}");
        };
        check((50, 99), (0, 10_000), GuardState::Waiting);
        check((3, 100), (0, 10_000), GuardState::Uncertain);
        check((60, 100), (0, 10_000), GuardState::Failing);
        check((0, 1_000), (0, 10_000), GuardState::Passing);
        // Production fails as often.
        check((600, 1_000), (6_000, 10_000), GuardState::Passing);
    }

    #[test]
    fn slower_candidates_are_seen_above_the_floor() {
        let check = |production: f64, candidate: f64, expected: GuardState| {
            let mut seen = Observations::default();
            for row in 0..4_000u32 {
                let jitter = 1.0 + f64::from(row % 100) / 1_000.0;
                seen.baseline.latency_seconds.add(production * jitter);
                seen.candidate.latency_seconds.add(candidate * jitter);
            }
            let statuses = judge(&Guards::default(), &seen);
            assert_eq!(state_of(&statuses, GuardName::Latency, ALL), Some(expected), "{production} {candidate}");
        };
        check(0.010, 0.011, GuardState::Passing);
        check(0.010, 0.100, GuardState::Failing);
        check(0.000_01, 0.000_2, GuardState::Passing);
    }

    #[test]
    fn classes_are_judged_one_by_one() {
        let mut seen = Observations::default();
        for row in 0..10_000u32 {
            let class = if row % 20 == 0 { "rare" } else { "common" };
            seen.compare("", Answer::Class(class).into(), Some(Answer::Class("common").into()));
        }
        let statuses = judge(&Guards::default(), &seen);
        assert_eq!(state_of(&statuses, GuardName::DisagreementClass, ALL), Some(GuardState::Passing));
        let rare = statuses.iter().find(|status| status.class == "rare").expect("the class");
        assert_eq!((rare.name, rare.state), (GuardName::DisagreementPerClass, GuardState::Failing));
        assert_eq!(
            rare.reason(),
            "guard disagreement_per_class of class `rare` is 1.0000 over 500, expected at most 0.25"
        );
    }

    #[test]
    fn outcomes_are_judged_where_there_are_any() {
        let check = |covered: u64, mean: f64, coverage: GuardState, error: GuardState| {
            let truths = |covered: u64, mean: f64| {
                let mut truths = Truths { intervals: 1_000, covered, ..Truths::default() };
                (0..1_000u32).for_each(|row| truths.absolute.add(mean * (0.5 + f64::from(row % 100) / 100.0)));
                BTreeMap::from([(ALL.to_owned(), truths)])
            };
            let mut seen = Observations::default();
            seen.baseline.truths = truths(800, 10.0);
            seen.candidate.truths = truths(covered, mean);
            let statuses = judge(&Guards::default(), &seen);
            assert_eq!(state_of(&statuses, GuardName::Coverage, ALL), Some(coverage), "{covered}");
            assert_eq!(state_of(&statuses, GuardName::Error, ALL), Some(error), "{mean}");
        };
        check(790, 10.5, GuardState::Passing, GuardState::Passing);
        check(400, 10.5, GuardState::Failing, GuardState::Passing);
        check(640, 20.0, GuardState::Uncertain, GuardState::Failing);
        let statuses = judge(&Guards::default(), &Observations::default());
        assert!(statuses.iter().all(|status| status.state == GuardState::Waiting), "{statuses:?}");
    }

    #[test]
    fn a_guard_that_is_off_says_nothing() {
        let off = Guards { shift_max: None, error_rate_increase_max: None, ..Guards::default() };
        let statuses = judge(&off, &compared(1_000, [0.5, 0.5]));
        assert_eq!(state_of(&statuses, GuardName::Shift, ALL), None);
        assert_eq!(state_of(&statuses, GuardName::ErrorRate, ALL), None);
    }
}
