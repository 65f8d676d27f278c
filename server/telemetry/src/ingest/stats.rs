//! What was taken in and what was not, counted.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use ev_domain::{Source, VehicleId};

/// Rejects that are kept to be looked at.
pub(super) const RECENT_MAX: usize = 256;

/// Why readings were not taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RejectReason {
    /// A signal that was not declared, or is in no catalogue.
    UnknownSignal,
    /// A value outside its signal's plausible range, or infinite.
    ImplausibleValue,
    /// A time too far in the future or past.
    ImplausibleTime,
    /// The batch contradicts itself.
    MalformedBatch,
    /// More readings or values than a batch may have.
    TooLarge,
    /// A vehicle that this gateway, or this server, does not take readings of.
    VehicleNotAllowed,
    /// A sequence of 0, or one so far ahead that the hole cannot be kept in the ledger.
    ImplausibleSequence,
}

/// Readings of a batch that were not taken in, for one reason.
#[derive(Debug, Clone, PartialEq)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// The signal it is about: its VSS path, or what the sender called it where it is not known. None: the readings as
    /// such, or more than one signal.
    pub signal: Option<String>,
    /// The value of the first of them, where it was for its value.
    pub value: Option<f32>,
    /// The place of the first of them in the batch; none when the whole batch is meant.
    pub reading: Option<usize>,
    /// How many.
    pub readings: usize,
    /// What was found and what was expected.
    pub message: String,
}

/// A reject with where it came from: what an operator looks at.
#[derive(Debug, Clone, PartialEq)]
pub struct Quarantined {
    /// Who sent it.
    pub source: Source,
    /// The vehicle; none where the sender named none that can be.
    pub vehicle: Option<VehicleId>,
    /// The batch.
    pub sequence: u64,
    /// When it came, in microseconds since 1970-01-01 UTC by the server's clock.
    pub received_us: i64,
    /// What was wrong.
    pub reject: Reject,
}

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
    recent: Mutex<VecDeque<Quarantined>>,
}

// === impl RejectReason ===

impl RejectReason {
    /// All.
    pub const ALL: [RejectReason; 7] = [
        RejectReason::UnknownSignal,
        RejectReason::ImplausibleValue,
        RejectReason::ImplausibleTime,
        RejectReason::MalformedBatch,
        RejectReason::TooLarge,
        RejectReason::VehicleNotAllowed,
        RejectReason::ImplausibleSequence,
    ];

    /// Its name in labels of metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::UnknownSignal => "unknown_signal",
            RejectReason::ImplausibleValue => "implausible_value",
            RejectReason::ImplausibleTime => "implausible_time",
            RejectReason::MalformedBatch => "malformed_batch",
            RejectReason::TooLarge => "too_large",
            RejectReason::VehicleNotAllowed => "vehicle_not_allowed",
            RejectReason::ImplausibleSequence => "implausible_sequence",
        }
    }
}

// === impl Reject ===

impl Reject {
    /// A reject of readings as such, or of a whole batch.
    #[must_use]
    pub fn new(reason: RejectReason, readings: usize, message: impl Into<String>) -> Reject {
        Reject { reason, signal: None, value: None, reading: None, readings, message: message.into() }
    }
}

// === impl Counters ===

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Relaxed);
    }

    pub(super) fn reject(&self, quarantined: Quarantined) {
        let index = quarantined.reject.reason as usize;
        Counters::add(&self.rejected[index], quarantined.reject.readings.max(1) as u64);
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(quarantined);
    }

    pub(super) fn recent(&self) -> Vec<Quarantined> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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
        }
    }
}
