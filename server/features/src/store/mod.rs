//! Where rows are kept for reading.

mod behind;
mod breaker;
mod level;
mod memory;
mod redis;
mod tiered;

use async_trait::async_trait;
use ev_domain::VehicleId;

pub use memory::{MemoryOnlineStore, MemorySettings, MemoryUsage};
pub use redis::{RedisOnlineStore, RedisSettings};
pub use tiered::{TieredOnlineStore, TieredStats};

use crate::{FeatureRow, StoreError, Version, ViewId};

/// Keeps the newest row of each view of each vehicle.
///
/// A row is replaced in one step, by a newer one only, whoever else writes at the same time.
#[async_trait]
pub trait OnlineStore: Send + Sync + std::fmt::Debug {
    /// The rows of some views of a vehicle, in the order of `views`; none where there is none. A vehicle that nothing
    /// is known of is no error.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when nothing can be said at all.
    ///
    /// # Cancel safety
    ///
    /// Dropping it changes nothing.
    async fn get(&self, vehicle: &VehicleId, views: &[ViewId]) -> Result<Fetched, StoreError>;

    /// Writes rows of a vehicle, each on its condition, and says for each in their order what became of it.
    ///
    /// # Errors
    ///
    /// [`StoreError`] when it is not known which were written.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves open which rows are written; each is whole or not there.
    async fn put(&self, vehicle: &VehicleId, writes: &[Write]) -> Result<Vec<Put>, StoreError>;
}

/// What a store knew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fetched {
    /// A row for each view that was asked for.
    pub rows: Vec<Option<FeatureRow>>,
    /// A shared store could not be reached: these are of this process's memory, and others may have newer ones.
    pub degraded: bool,
    /// Values that were no rows, and are treated as missing.
    pub damaged: u32,
}

/// A row to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// Of which view.
    pub view: ViewId,
    /// The row.
    pub row: FeatureRow,
    /// When it is written.
    pub condition: Condition,
}

/// When a row is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// When there is none, or an older one.
    Newer,
    /// When what is there is still this, for whoever changes a part of a row.
    Is(Option<Version>),
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is there now.
    Written,
    /// What is there has this version, and stays.
    Refused(Option<Version>),
}

// === impl Condition ===

impl Condition {
    /// Whether a row may take the place of what is there.
    fn allows(self, row: &FeatureRow, found: Option<Version>) -> bool {
        match self {
            Condition::Newer => found.is_none_or(|found| found < row.version()),
            Condition::Is(expected) => found == expected,
        }
    }
}
