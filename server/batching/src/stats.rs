//! What a scheduler counted.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{
    SubmitError,
    former::{Cut, DropReason},
};

/// Saturation is the share of busy workers, smoothed over this long.
const SATURATION_WINDOW: Duration = Duration::from_secs(5);

/// Counts since the scheduler was started, and how it stands now.
///
/// Every row that entered is in exactly one place:
/// `rows_entered == queue_rows + running_rows + rows_answered + failed.total() + dropped.total()`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Stats {
    /// Rows admitted to the queue.
    pub rows_entered: u64,
    /// Rows that left the queue, for whatever reason.
    pub rows_left: u64,
    /// Rows answered with what the model gave.
    pub rows_answered: u64,
    /// Rows of submissions that were refused.
    pub refused: Refusals,
    /// Rows that were admitted and not run.
    pub dropped: Drops,
    /// Rows that were run, or were to be, and failed.
    pub failed: Failures,
    /// Runs of the model.
    pub batches: u64,
    /// Rows of these runs.
    pub batch_rows: u64,
    /// The same by their size: at most as many entries as a batch may have rows.
    pub sizes: BTreeMap<usize, SizeStats>,
    /// Batches by the reason why they were cut.
    pub cuts: Cuts,
    /// Instances replaced after a panic.
    pub instances_replaced: u64,
    /// Time rows waited until their batch was begun, in sum over rows.
    pub queue_total: Duration,
    /// Time spent on preparing, in sum over batches.
    pub prepare_total: Duration,
    /// Time spent in the model, in sum over batches.
    pub inference_total: Duration,
    /// Rows waiting now.
    pub queue_rows: usize,
    /// Bytes waiting now.
    pub queue_bytes: usize,
    /// Rows on the workers now.
    pub running_rows: usize,
    /// The larger of the share of busy workers in the last seconds and the share of the queue in use, 0..=1.
    pub saturation: f64,
}

/// Runs of one batch size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SizeStats {
    /// How many.
    pub batches: u64,
    /// Time spent on preparing.
    pub prepare: Duration,
    /// Time spent in the model.
    pub inference: Duration,
}

/// Rows refused, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Refusals {
    /// The queue was full.
    pub queue_full: u64,
    /// More than the queue can ever hold.
    pub too_large: u64,
    /// The deadline had passed, or would have.
    pub deadline: u64,
    /// The scheduler took no more work.
    pub shutting_down: u64,
}

/// Rows dropped, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// The deadline passed.
    pub expired: u64,
    /// The answer would have been too late.
    pub late: u64,
    /// More urgent rows needed the place.
    pub displaced: u64,
    /// The caller had gone.
    pub cancelled: u64,
    /// The scheduler stopped.
    pub shutting_down: u64,
}

/// Rows failed, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Failures {
    /// The row could not be prepared.
    pub prepare: u64,
    /// The engine refused the batch.
    pub run: u64,
    /// The engine panicked.
    pub panicked: u64,
}

/// Batches, by why they were cut.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cuts {
    /// [`Cut::Full`].
    pub full: u64,
    /// [`Cut::Preferred`].
    pub preferred: u64,
    /// [`Cut::Delay`].
    pub delay: u64,
    /// [`Cut::Deadline`].
    pub deadline: u64,
    /// [`Cut::Idle`].
    pub idle: u64,
}

/// The share of busy workers, smoothed.
#[derive(Debug, Clone)]
pub(crate) struct Busy {
    workers: usize,
    busy: usize,
    smoothed: f64,
    at: Instant,
}

// === impl Stats ===

impl Stats {
    pub(crate) fn refuse(&mut self, error: &SubmitError, rows: usize) {
        let count = match error {
            SubmitError::QueueFull { .. } => &mut self.refused.queue_full,
            SubmitError::NoRows | SubmitError::TooManyRows { .. } | SubmitError::TooLarge { .. } => {
                &mut self.refused.too_large
            }
            SubmitError::DeadlineExceeded | SubmitError::WouldMissDeadline { .. } => &mut self.refused.deadline,
            SubmitError::ShuttingDown => &mut self.refused.shutting_down,
        };
        *count += rows as u64;
    }

    /// A batch of so many rows was run.
    pub(crate) fn ran(&mut self, rows: usize, prepare: Duration, inference: Duration) {
        self.batches += 1;
        self.batch_rows += rows as u64;
        let size = self.sizes.entry(rows).or_default();
        size.batches += 1;
        size.prepare += prepare;
        size.inference += inference;
    }

    pub(crate) fn cut(&mut self, cut: Cut) {
        *match cut {
            Cut::Full => &mut self.cuts.full,
            Cut::Preferred => &mut self.cuts.preferred,
            Cut::Delay => &mut self.cuts.delay,
            Cut::Deadline => &mut self.cuts.deadline,
            Cut::Idle => &mut self.cuts.idle,
        } += 1;
    }
}

// === impl Drops ===

impl Drops {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Drops { expired, late, displaced, cancelled, shutting_down } = *self;
        expired + late + displaced + cancelled + shutting_down
    }

    pub(crate) fn count(&mut self, reason: DropReason) {
        *match reason {
            DropReason::Expired => &mut self.expired,
            DropReason::Late => &mut self.late,
            DropReason::Displaced => &mut self.displaced,
        } += 1;
    }

    pub(crate) fn add(&mut self, other: Drops) {
        let Drops { expired, late, displaced, cancelled, shutting_down } = other;
        self.expired += expired;
        self.late += late;
        self.displaced += displaced;
        self.cancelled += cancelled;
        self.shutting_down += shutting_down;
    }
}

// === impl Failures ===

impl Failures {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let Failures { prepare, run, panicked } = *self;
        prepare + run + panicked
    }

    pub(crate) fn add(&mut self, other: Failures) {
        let Failures { prepare, run, panicked } = other;
        self.prepare += prepare;
        self.run += run;
        self.panicked += panicked;
    }
}

// === impl Busy ===

impl Busy {
    pub(crate) fn new(workers: usize, now: Instant) -> Busy {
        Busy { workers, busy: 0, smoothed: 0.0, at: now }
    }

    /// A worker took or finished a batch.
    pub(crate) fn set(&mut self, busy: usize, now: Instant) {
        self.smoothed = self.share(now);
        self.at = now;
        self.busy = busy;
    }

    /// Share of busy workers, 0..=1.
    pub(crate) fn share(&self, now: Instant) -> f64 {
        let level = self.busy as f64 / self.workers.max(1) as f64;
        let past = now.saturating_duration_since(self.at).as_secs_f64() / SATURATION_WINDOW.as_secs_f64();
        (level + (self.smoothed - level) * (-past).exp()).clamp(0.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn saturation_follows_the_workers_slowly() {
        let start = Instant::now();
        let mut busy = Busy::new(2, start);
        let check = |busy: &Busy, second: u64, expected: f64| {
            let found = busy.share(start + Duration::from_secs(second));
            assert!((found - expected).abs() < 0.01, "{found} after {second} s, expected {expected}");
        };
        busy.set(2, start);
        check(&busy, 0, 0.0);
        check(&busy, 5, 0.63);
        check(&busy, 60, 1.0);
        busy.set(1, start + Duration::from_secs(60));
        check(&busy, 60, 1.0);
        check(&busy, 65, 0.68);
        check(&busy, 120, 0.5);
    }
}
