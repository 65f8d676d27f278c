//! What was taken in and what was not, counted.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{Reject, RejectReason};

/// Counts since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct IngestStats {
    /// Batches that were received.
    pub batches_received: u64,
    /// Batches that were stored, and their readings.
    pub batches_stored: u64,
    /// Readings that were stored.
    pub readings_stored: u64,
    /// Batches that were there before.
    pub batches_duplicate: u64,
    /// Commits.
    pub commits: u64,
    /// Commits that failed.
    pub commits_failed: u64,
    /// Rejected readings by reason, in the order of [`RejectReason::ALL`]; a batch without readings counts as one.
    pub rejected: [u64; RejectReason::ALL.len()],
    /// Rejects that were counted and told, and not kept: there were too many at once.
    pub rejects_not_kept: u64,
}

/// The counters.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) batches_received: AtomicU64,
    pub(super) batches_stored: AtomicU64,
    pub(super) readings_stored: AtomicU64,
    pub(super) batches_duplicate: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) commits_failed: AtomicU64,
    rejected: [AtomicU64; RejectReason::ALL.len()],
    pub(super) rejects_not_kept: AtomicU64,
}

// === impl Counters ===

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    pub(super) fn reject(&self, reject: &Reject) {
        Counters::add(&self.rejected[reject.reason as usize], reject.readings.max(1) as u64);
    }

    pub(super) fn snapshot(&self) -> IngestStats {
        let read = |counter: &AtomicU64| counter.load(Relaxed);
        IngestStats {
            batches_received: read(&self.batches_received),
            batches_stored: read(&self.batches_stored),
            readings_stored: read(&self.readings_stored),
            batches_duplicate: read(&self.batches_duplicate),
            commits: read(&self.commits),
            commits_failed: read(&self.commits_failed),
            rejected: std::array::from_fn(|index| read(&self.rejected[index])),
            rejects_not_kept: read(&self.rejects_not_kept),
        }
    }
}
