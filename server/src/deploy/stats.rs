//! What one core counted for one deployment. Summed over cores when somebody asks.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::pipeline::{PredictError, Timings};

/// Counts and total times since the deployment was loaded.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stats {
    /// Requests answered.
    pub(crate) success: Total,
    /// Requests that failed after they were routed.
    pub(crate) fail: Total,
    /// Rows and requests that failed by no fault of the caller's.
    pub(crate) faults: u64,
    /// Rows answered.
    pub(crate) rows: u64,
    /// Runs of the model, also for requests that failed in the end.
    pub(crate) executions: u64,
    /// Checking and assembling.
    pub(crate) features: Total,
    /// Waiting for a place in a batch.
    pub(crate) queue: Total,
    /// Running the heads and calibrating.
    pub(crate) inference: Total,
    /// By rows of a run; bounded by the rows of a slice, or of a batch.
    pub(crate) batches: BTreeMap<usize, BatchStats>,
    /// Runs of one row, which are nearly all of them, outside the map.
    pub(crate) single: BatchStats,
    /// Total time of single-row requests.
    pub(crate) total_seconds: Histogram,
    /// Time in the heads of single-row requests.
    pub(crate) inference_seconds: Histogram,
    /// When the last answered request began.
    pub(crate) last_request: Option<Instant>,
}

/// How often, and how long in total.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Total {
    pub(crate) count: u64,
    pub(crate) ns: u64,
}

/// Runs of one batch size.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct BatchStats {
    pub(crate) features: Total,
    pub(crate) inference: Total,
}

/// Buckets of [`Histogram`]: the first holds everything up to 1.024 us, each further one twice as much.
pub(crate) const HISTOGRAM_BUCKETS: usize = 24;

/// Durations in buckets that double.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Histogram {
    /// Observations of each bucket, not cumulative; the last also holds everything above it.
    pub(crate) buckets: [u64; HISTOGRAM_BUCKETS],
    pub(crate) sum_ns: u64,
}

fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

// === impl Stats ===

impl Stats {
    /// A request of one row was answered; without having run the model when it has no variant for the row.
    #[inline]
    pub(crate) fn row(&mut self, timings: &Timings, started: Instant, executed: bool) {
        self.success.add(timings.total);
        self.rows += 1;
        self.last_request = Some(started);
        if executed {
            self.executions += 1;
            self.features.add(timings.features);
            self.inference.add(timings.inference);
            self.single.add(timings.features, timings.inference);
        }
        self.total_seconds.observe(timings.total);
        self.inference_seconds.observe(timings.inference);
    }

    /// A request of one row was answered, whose row ran with those of others; the run itself was counted.
    #[inline]
    pub(crate) fn row_of_several(&mut self, timings: &Timings, started: Instant) {
        self.success.add(timings.total);
        self.rows += 1;
        self.last_request = Some(started);
        self.total_seconds.observe(timings.total);
        self.inference_seconds.observe(timings.inference);
    }

    /// A request of one row was answered through the queue; the run itself is counted by whoever ran it.
    pub(crate) fn queued_row(&mut self, timings: &Timings, started: Instant) {
        self.queued(1, timings, started);
        self.total_seconds.observe(timings.total);
        self.inference_seconds.observe(timings.inference);
    }

    /// A batch was answered through the queue, so many of its rows with a prediction.
    pub(crate) fn queued_batch(&mut self, rows: usize, timings: &Timings, started: Instant) {
        self.queued(rows, timings, started);
    }

    fn queued(&mut self, rows: usize, timings: &Timings, started: Instant) {
        self.success.add(started.elapsed());
        self.rows += rows as u64;
        self.last_request = Some(started);
        self.queue.add(timings.queue);
        self.features.add(timings.features);
        self.inference.add(timings.inference);
    }

    /// What a queue's workers counted.
    pub(crate) fn runs(&mut self, queue: &ev_batching::Stats) {
        self.executions += queue.batches;
        for (rows, size) in &queue.sizes {
            let total = |time: Duration| Total { count: size.batches, ns: ns(time) };
            let runs = BatchStats { features: total(size.prepare), inference: total(size.inference) };
            self.batches.entry(*rows).or_default().merge(&runs);
        }
    }

    /// A slice of a batch ran.
    pub(crate) fn execution(&mut self, rows: usize, features: Duration, inference: Duration) {
        self.executions += 1;
        self.features.add(features);
        self.inference.add(inference);
        self.batches.entry(rows).or_default().add(features, inference);
    }

    /// A batch was answered, so many of its rows with a prediction.
    pub(crate) fn batch(&mut self, rows: usize, started: Instant) {
        self.success.add(started.elapsed());
        self.rows += rows as u64;
        self.last_request = Some(started);
    }

    /// A request failed.
    pub(crate) fn failed(&mut self, total: Duration) {
        self.fail.add(total);
    }

    /// A request failed for this reason.
    pub(crate) fn failed_by(&mut self, error: &PredictError, total: Duration) {
        self.failed(total);
        self.fault(error);
    }

    /// A row failed for this reason.
    pub(crate) fn fault(&mut self, error: &PredictError) {
        self.faults += u64::from(!error.is_of_caller());
    }

    /// Adds another core's counts.
    pub(crate) fn merge(&mut self, other: &Stats) {
        self.success.merge(other.success);
        self.fail.merge(other.fail);
        self.faults += other.faults;
        self.rows += other.rows;
        self.executions += other.executions;
        self.queue.merge(other.queue);
        self.features.merge(other.features);
        self.inference.merge(other.inference);
        for (rows, batch) in &other.batches {
            self.batches.entry(*rows).or_default().merge(batch);
        }
        self.single.merge(&other.single);
        self.total_seconds.merge(&other.total_seconds);
        self.inference_seconds.merge(&other.inference_seconds);
        self.last_request = self.last_request.max(other.last_request);
    }
}

// === impl Total ===

impl Total {
    #[inline]
    fn add(&mut self, duration: Duration) {
        self.count += 1;
        self.ns = self.ns.saturating_add(ns(duration));
    }

    fn merge(&mut self, other: Total) {
        self.count += other.count;
        self.ns = self.ns.saturating_add(other.ns);
    }
}

// === impl BatchStats ===

impl BatchStats {
    #[inline]
    fn add(&mut self, features: Duration, inference: Duration) {
        self.features.add(features);
        self.inference.add(inference);
    }

    pub(crate) fn merge(&mut self, other: &BatchStats) {
        self.features.merge(other.features);
        self.inference.merge(other.inference);
    }
}

// === impl Histogram ===

impl Histogram {
    #[inline]
    fn observe(&mut self, duration: Duration) {
        let ns = ns(duration);
        let bucket = (64 - (ns.saturating_sub(1) >> 10).leading_zeros()) as usize;
        self.buckets[bucket.min(HISTOGRAM_BUCKETS - 1)] += 1;
        self.sum_ns = self.sum_ns.saturating_add(ns);
    }

    fn merge(&mut self, other: &Histogram) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine += theirs;
        }
        self.sum_ns = self.sum_ns.saturating_add(other.sum_ns);
    }

    /// Upper bound of a bucket in seconds; the last has none.
    pub(crate) fn upper_bound_seconds(bucket: usize) -> f64 {
        if bucket + 1 >= HISTOGRAM_BUCKETS { f64::INFINITY } else { (1024u64 << bucket) as f64 * 1e-9 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_double_from_one_microsecond() {
        let check = |ns: u64, bucket: usize| {
            let mut histogram = Histogram::default();
            histogram.observe(Duration::from_nanos(ns));
            assert_eq!(histogram.buckets[bucket], 1, "{ns} ns");
        };
        check(0, 0);
        check(1024, 0);
        check(1025, 1);
        check(2048, 1);
        check(2049, 2);
        check(u64::MAX, HISTOGRAM_BUCKETS - 1);
    }

    #[test]
    fn counts_of_cores_add_up() {
        let mut sum = Stats::default();
        let timings = Timings {
            total: Duration::from_micros(3),
            features: Duration::from_micros(1),
            inference: Duration::from_micros(2),
            ..Timings::default()
        };
        for _ in 0..2 {
            let mut core = Stats::default();
            core.row(&timings, Instant::now(), true);
            core.execution(64, timings.features, timings.inference);
            core.batch(64, Instant::now());
            sum.merge(&core);
        }
        assert_eq!((sum.rows, sum.executions, sum.success.count), (130, 4, 4));
        assert_eq!(sum.batches[&64].inference.ns, 4_000);
    }
}
