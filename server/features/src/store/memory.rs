//! The store of a server that has no other.

use async_trait::async_trait;
use ev_domain::VehicleId;

use super::{Fetched, OnlineStore, Put, Write, level::Level};
use crate::{SettingsError, StoreError, ViewId};

/// What a store in memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemorySettings {
    /// Bytes of rows and of what finds them, at least 1 MiB. Beyond, the vehicles that were not read or written for
    /// longest are forgotten, in each of 64 equal parts for itself.
    pub bytes_max: usize,
}

/// Keeps rows in this process's memory. They are gone with it.
#[derive(Debug)]
pub struct MemoryOnlineStore {
    level: Level,
}

/// How full a store in memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryUsage {
    /// Vehicles that rows are held of.
    pub vehicles: usize,
    /// Bytes, by the same count as [`MemorySettings::bytes_max`].
    pub bytes: usize,
    /// Vehicles that were forgotten to make room.
    pub evicted: u64,
}

// === impl MemorySettings ===

impl MemorySettings {
    pub(super) fn check(self) -> Result<(), SettingsError> {
        if self.bytes_max < 1 << 20 {
            let problem = format!("is {}, expected at least 1 MiB", self.bytes_max);
            return Err(SettingsError { setting: "bytes_max", problem });
        }
        Ok(())
    }
}

impl Default for MemorySettings {
    /// 256 MiB: nearly 300,000 vehicles with the bundled views (`examples/measure.rs`).
    fn default() -> MemorySettings {
        MemorySettings { bytes_max: 256 << 20 }
    }
}

// === impl MemoryOnlineStore ===

impl MemoryOnlineStore {
    /// An empty store.
    ///
    /// # Errors
    ///
    /// [`SettingsError`] when a setting is out of its range.
    pub fn new(settings: MemorySettings) -> Result<MemoryOnlineStore, SettingsError> {
        settings.check()?;
        Ok(MemoryOnlineStore { level: Level::new(settings.bytes_max) })
    }

    /// How full it is.
    #[must_use]
    pub fn usage(&self) -> MemoryUsage {
        let (vehicles, bytes, evicted) = self.level.usage();
        MemoryUsage { vehicles, bytes, evicted }
    }
}

#[async_trait]
impl OnlineStore for MemoryOnlineStore {
    async fn get(&self, vehicle: &VehicleId, views: &[ViewId]) -> Result<Fetched, StoreError> {
        let rows = self.level.get(vehicle, views).map_or_else(|| vec![None; views.len()], |held| held.rows);
        Ok(Fetched { rows, degraded: false, damaged: 0 })
    }

    async fn put(&self, vehicle: &VehicleId, writes: &[Write]) -> Result<Vec<Put>, StoreError> {
        Ok(self.level.put(vehicle, writes))
    }
}
