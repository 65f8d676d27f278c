//! A distribution in buckets that grow by a fixed factor.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Each bucket is so much wider than the one before: a value is known to 2.5 %.
const GROWTH: f64 = 1.05;
/// Buckets reach from 1.05^-500 (2.5e-11) to 1.05^500 (3.9e10), of either sign; what is smaller counts as zero, what is
/// larger falls into the last. So a sketch has at most 2,001 buckets.
const INDEX_MAX: i32 = 500;

/// Counts of values in buckets that grow by 5 %, as in DDSketch (Masson, Rim and Lee, 2019): sketches add up exactly,
/// and every quantile is within 2.5 %.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Sketch {
    /// By signed bucket: that of a value `v > 0` is `offset + ceil(log_growth(v))`, negative ones mirrored, zero at 0.
    buckets: BTreeMap<i32, u64>,
    count: u64,
}

// === impl Sketch ===

impl Sketch {
    /// Adds a value; one that is no number is ignored.
    pub fn add(&mut self, value: f64) {
        let Some(bucket) = bucket(value) else { return };
        *self.buckets.entry(bucket).or_default() += 1;
        self.count += 1;
    }

    /// Adds another sketch's values.
    pub fn merge(&mut self, other: &Sketch) {
        for (bucket, count) in &other.buckets {
            let mine = self.buckets.entry(*bucket).or_default();
            *mine = mine.saturating_add(*count);
        }
        self.count = self.count.saturating_add(other.count);
    }

    /// Values so far.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that so many values do not exceed, from 1; none where there are fewer.
    #[must_use]
    pub fn at_rank(&self, rank: u64) -> Option<f64> {
        let mut seen = 0u64;
        self.buckets.iter().find_map(|(bucket, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank.max(1)).then(|| value(*bucket))
        })
    }

    /// Values above `limit`, as far as buckets tell.
    #[must_use]
    pub fn above(&self, limit: f64) -> u64 {
        let Some(limit) = bucket(limit) else { return 0 };
        self.buckets.range(limit.saturating_add(1)..).map(|(_, count)| *count).sum()
    }

    /// The counts of this sketch and of another in bins that hold about equally many of this one's values.
    #[must_use]
    pub(crate) fn binned(&self, other: &Sketch, bins: u64) -> Vec<(u64, u64)> {
        let mut edges: Vec<i32> = Vec::new();
        let (mut seen, mut next) = (0u64, 1u64);
        for (bucket, count) in &self.buckets {
            seen = seen.saturating_add(*count);
            if next < bins && u128::from(seen) * u128::from(bins) >= u128::from(self.count) * u128::from(next) {
                edges.push(*bucket);
                while next < bins && u128::from(seen) * u128::from(bins) >= u128::from(self.count) * u128::from(next) {
                    next += 1;
                }
            }
        }
        let bin_of = |bucket: &i32| edges.partition_point(|edge| edge < bucket);
        let mut counts = vec![(0, 0); edges.len() + 1];
        for (bucket, count) in &self.buckets {
            counts[bin_of(bucket)].0 += count;
        }
        for (bucket, count) in &other.buckets {
            counts[bin_of(bucket)].1 += count;
        }
        // The last edge may be the largest value there is.
        counts.retain(|counts| *counts != (0, 0));
        counts
    }
}

fn bucket(value: f64) -> Option<i32> {
    if value.is_nan() {
        return None;
    }
    let (bound, magnitude) = (f64::from(INDEX_MAX), value.abs());
    let log = (magnitude.ln() / GROWTH.ln()).ceil();
    if log < -bound {
        return Some(0);
    }
    #[expect(clippy::cast_possible_truncation, reason = "between -500 and 500")]
    let index = log.min(bound) as i32;
    let bucket = index + INDEX_MAX + 1;
    Some(if value < 0.0 { -bucket } else { bucket })
}

/// The middle of a bucket.
fn value(bucket: i32) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    let magnitude = GROWTH.powi(bucket.abs() - INDEX_MAX - 1) * 2.0 / (1.0 + GROWTH);
    if bucket < 0 { -magnitude } else { magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_the_buckets_width() {
        let mut sketch = Sketch::default();
        (1..=1_000u32).for_each(|value| sketch.add(f64::from(value) / 1e6));
        let check = |rank: u64, expected: f64| {
            let found = sketch.at_rank(rank).expect("a value");
            assert!((found / expected - 1.0).abs() < 0.026, "{rank}: {found}, expected {expected}");
        };
        check(1, 1e-6);
        check(500, 5e-4);
        check(990, 9.9e-4);
        assert_eq!(sketch.at_rank(1_001), None);
    }

    #[test]
    fn any_number_has_a_bucket() {
        let check = |value: f64, expected: Option<i32>| assert_eq!(bucket(value), expected, "{value}");
        check(0.0, Some(0));
        check(-0.0, Some(0));
        check(f64::MIN_POSITIVE, Some(0));
        check(1.0, Some(501));
        check(-1.0, Some(-501));
        check(f64::MAX, Some(1_001));
        check(f64::INFINITY, Some(1_001));
        check(f64::NEG_INFINITY, Some(-1_001));
        check(f64::NAN, None);
    }

    #[test]
    fn bins_hold_equally_many_of_the_first() {
        let (mut first, mut second) = (Sketch::default(), Sketch::default());
        (1..=10_000u32).for_each(|value| first.add(f64::from(value)));
        (1..=100u32).for_each(|_| second.add(1e9));
        let bins = first.binned(&second, 10);
        assert_eq!(bins.len(), 10);
        assert!(bins.iter().all(|(count, _)| (600..=1_400).contains(count)), "{bins:?}");
        assert_eq!(bins.last().map(|bin| bin.1), Some(100));
        assert_eq!(bins.iter().map(|bin| bin.0).sum::<u64>(), 10_000);
    }

    #[test]
    fn one_value_is_one_bin() {
        let (mut first, mut second) = (Sketch::default(), Sketch::default());
        (0..100).for_each(|_| first.add(3.0));
        (0..50).for_each(|_| second.add(3.0));
        assert_eq!(first.binned(&second, 10), [(100, 50)]);
    }
}
