//! What a batch takes, as measured.

use std::time::{Duration, Instant};

/// Batch sizes are told apart by their power of two, up to 65536.
const CLASSES: usize = 17;
/// A measurement moves the estimate by this part of the difference: half-way after three runs.
const SMOOTHING: u32 = 4;
/// A run is in time for sure when there is time for this many mean deviations more than it usually takes.
const SURE_DEVIATIONS: u32 = 2;
/// Without a new measurement for this long, or eight times the longest run, the estimate refuses nobody.
/// Else one slow run could have every row refused, and no row be run that shows that it is over.
const FRESH_MIN: Duration = Duration::from_secs(1);

/// Smoothed run times by size of batch.
#[derive(Debug, Clone, Default)]
pub(super) struct RunTime {
    classes: [Option<Estimate>; CLASSES],
    measured_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Estimate {
    mean: Duration,
    /// Mean absolute deviation from the mean.
    deviation: Duration,
}

// === impl RunTime ===

impl RunTime {
    /// A batch of so many rows took so long.
    pub(super) fn measure(&mut self, rows: usize, took: Duration, now: Instant) {
        let fresh = self.is_fresh(now);
        let class = class(rows);
        let measured = match self.classes[class] {
            Some(Estimate { mean, deviation }) if fresh => {
                Estimate { mean: smooth(mean, took), deviation: smooth(deviation, mean.abs_diff(took)) }
            }
            _ => Estimate { mean: took, deviation: Duration::ZERO },
        };
        self.classes[class] = Some(measured);
        // A smaller batch takes no longer than a larger one: what says otherwise is out of date.
        for smaller in self.classes[..class].iter_mut().flatten() {
            smaller.mean = smaller.mean.min(measured.mean);
        }
        for larger in self.classes[class..].iter_mut().flatten() {
            larger.mean = larger.mean.max(measured.mean);
        }
        self.measured_at = Some(now);
    }

    /// Least time a batch of so many rows usually takes: the run time of the largest measured size up to it.
    /// None without a measurement, or when the last one is too long ago to refuse anybody for it.
    pub(super) fn at_least(&self, rows: usize, now: Instant) -> Option<Duration> {
        self.measured(rows, now).map(|estimate| estimate.mean)
    }

    /// The same with the time that a run sometimes takes longer.
    pub(super) fn surely(&self, rows: usize, now: Instant) -> Option<Duration> {
        self.measured(rows, now).map(|estimate| estimate.mean + estimate.deviation * SURE_DEVIATIONS)
    }

    /// Likely time of a batch of so many rows, in proportion where only smaller ones were measured.
    pub(super) fn likely(&self, rows: usize) -> Option<Duration> {
        let class = class(rows);
        let smaller = (0..=class).rev().find_map(|size| self.classes[size].map(|estimate| (size, estimate.mean)));
        match smaller {
            Some((size, mean)) => Some(mean.saturating_mul(1 << (class - size))),
            None => self.classes[class..].iter().flatten().map(|estimate| estimate.mean).next(),
        }
    }

    fn measured(&self, rows: usize, now: Instant) -> Option<Estimate> {
        if !self.is_fresh(now) {
            return None;
        }
        self.classes[..=class(rows)].iter().rev().find_map(|estimate| *estimate)
    }

    fn is_fresh(&self, now: Instant) -> bool {
        let longest = self.classes.iter().flatten().map(|estimate| estimate.mean).max().unwrap_or_default();
        self.measured_at.is_some_and(|at| now.saturating_duration_since(at) <= FRESH_MIN.max(longest.saturating_mul(8)))
    }
}

fn smooth(estimate: Duration, found: Duration) -> Duration {
    estimate.saturating_mul(SMOOTHING - 1).saturating_add(found) / SMOOTHING
}

fn class(rows: usize) -> usize {
    (rows.max(1).next_power_of_two().trailing_zeros() as usize).min(CLASSES - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn sizes_that_were_not_measured_follow_from_those_that_were() {
        let now = Instant::now();
        let mut run_time = RunTime::default();
        assert_eq!((run_time.at_least(8, now), run_time.likely(8)), (None, None));
        run_time.measure(2, ms(10), now);
        let check = |rows: usize, at_least: Option<u64>, likely: u64| {
            assert_eq!(run_time.at_least(rows, now), at_least.map(ms), "{rows}");
            assert_eq!(run_time.likely(rows), Some(ms(likely)), "{rows}");
        };
        check(1, None, 10);
        check(2, Some(10), 10);
        check(3, Some(10), 20);
        check(8, Some(10), 40);
    }

    #[test]
    fn what_varies_leaves_more_time() {
        let now = Instant::now();
        let mut run_time = RunTime::default();
        run_time.measure(1, ms(20), now);
        assert_eq!(run_time.surely(1, now), Some(ms(20)));
        run_time.measure(1, ms(60), now);
        assert_eq!((run_time.at_least(1, now), run_time.surely(1, now)), (Some(ms(30)), Some(ms(50))));
    }

    #[test]
    fn the_latest_measurement_corrects_those_that_contradict_it() {
        let now = Instant::now();
        let mut run_time = RunTime::default();
        run_time.measure(1, ms(300), now);
        run_time.measure(8, ms(20), now);
        assert_eq!(run_time.at_least(1, now), Some(ms(20)));
        run_time.measure(1, ms(60), now);
        assert_eq!((run_time.at_least(1, now), run_time.at_least(8, now)), (Some(ms(30)), Some(ms(30))));
    }

    #[test]
    fn what_was_measured_long_ago_refuses_nobody_and_is_replaced() {
        let start = Instant::now();
        let mut run_time = RunTime::default();
        run_time.measure(1, ms(400), start);
        assert_eq!(run_time.at_least(1, start + ms(3_200)), Some(ms(400)));
        assert_eq!(run_time.at_least(1, start + ms(3_201)), None);
        assert_eq!(run_time.likely(1), Some(ms(400)));
        run_time.measure(1, ms(10), start + ms(4_000));
        assert_eq!(run_time.likely(1), Some(ms(10)));
    }
}
