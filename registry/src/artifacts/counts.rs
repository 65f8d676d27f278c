//! What lies of uploads that have not ended and of files that are kept elsewhere, and what became of others.

use std::sync::atomic::{AtomicU64, Ordering};

/// Files of uploads that come over several connections, counted. All but what lies is of this process.
#[derive(Debug, Default)]
pub struct StagedCounts {
    files: AtomicU64,
    bytes: AtomicU64,
    resumed: AtomicU64,
    swept: [AtomicU64; Swept::ALL.len()],
}

/// Copies on the local disk of files that are kept elsewhere, counted by this process.
#[derive(Debug, Default)]
pub struct CacheCounts {
    bytes: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted: AtomicU64,
}

/// Why files of an upload that had not ended were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// Nobody went on with it for too long.
    GivenUp,
    /// It had stopped, and another needed its room.
    Displaced,
}

// === impl StagedCounts ===

impl StagedCounts {
    /// Files that lay there when they were last looked at.
    #[must_use]
    pub fn files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Bytes that these files have or shall have, as [`crate::StagedLimits`] counts them.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Uploads that went on with what had come before.
    #[must_use]
    pub fn resumed(&self) -> u64 {
        self.resumed.load(Ordering::Relaxed)
    }

    /// Files that were removed.
    #[must_use]
    pub fn swept(&self, why: Swept) -> u64 {
        self.swept[why as usize].load(Ordering::Relaxed)
    }

    pub(super) fn lie(&self, files: u64, bytes: u64) {
        self.files.store(files, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_resumed(&self) {
        self.resumed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_swept(&self, why: Swept) {
        self.swept[why as usize].fetch_add(1, Ordering::Relaxed);
    }
}

// === impl CacheCounts ===

impl CacheCounts {
    /// Bytes of all copies.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Times that a file was needed and there.
    #[must_use]
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Times that a file was needed and had to be asked for elsewhere, whether it came or not.
    #[must_use]
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }

    /// Copies that were deleted to make room.
    #[must_use]
    pub fn evicted(&self) -> u64 {
        self.evicted.load(Ordering::Relaxed)
    }

    pub(super) fn lie(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn count_hit(&self) {
        self.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_miss(&self) {
        self.misses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_evicted(&self) {
        self.evicted.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_deleted(&self, bytes: u64) {
        let left = |lie: u64| Some(lie.saturating_sub(bytes));
        let _ = self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }
}

// === impl Swept ===

impl Swept {
    /// Every reason.
    pub const ALL: [Swept; 2] = [Swept::GivenUp, Swept::Displaced];

    /// As metrics name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Swept::GivenUp => "given_up",
            Swept::Displaced => "displaced",
        }
    }
}
