//! Rows in this process's memory: sharded, bounded by bytes, forgetting the vehicles that were not used for longest.

use std::{
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use ev_domain::VehicleId;

use super::{Put, Write};
use crate::{FeatureRow, ViewId, lru::Lru};

/// Locks that share the vehicles: enough that two of a machine's cores seldom want the same.
const SHARDS: usize = 64;
/// What the allocator and the counters take of a shared row besides its bytes.
const ROW_BYTES: usize = 32;

/// All shards.
#[derive(Debug)]
pub(super) struct Level {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    shard_bytes_max: usize,
}

#[derive(Debug)]
struct Shard {
    vehicles: Lru<Rows>,
    bytes: usize,
    evicted: u64,
}

/// What is known of a vehicle.
#[derive(Debug, Default)]
struct Rows {
    rows: Vec<(ViewId, FeatureRow)>,
    /// The era in which the shared store was last asked for all of it; 0 for never.
    checked: u32,
    /// Counts up whenever others changed it.
    changes: u32,
}

/// What is held of a vehicle, and whether it can be relied on.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) rows: Vec<Option<FeatureRow>>,
    /// See [`Level::confirm`].
    pub(super) checked: u32,
}

// === impl Level ===

impl Level {
    pub(super) fn new(bytes_max: usize) -> Level {
        let shard = || Mutex::new(Shard { vehicles: Lru::new(), bytes: 0, evicted: 0 });
        Level {
            shards: (0..SHARDS).map(|_| shard()).collect(),
            hasher: RandomState::new(),
            shard_bytes_max: bytes_max / SHARDS,
        }
    }

    /// The rows of a vehicle, if it is known.
    pub(super) fn get(&self, vehicle: &VehicleId, views: &[ViewId]) -> Option<Held> {
        let mut shard = self.shard(vehicle);
        let rows = shard.vehicles.get(vehicle)?;
        let checked = rows.checked;
        Some(Held { rows: views.iter().map(|view| rows.get(*view).cloned()).collect(), checked })
    }

    /// The same, without counting as a use.
    pub(super) fn peek(&self, vehicle: &VehicleId, views: &[ViewId]) -> Option<Vec<Option<FeatureRow>>> {
        let shard = self.shard(vehicle);
        let rows = shard.vehicles.peek(vehicle)?;
        Some(views.iter().map(|view| rows.get(*view).cloned()).collect())
    }

    /// How often others have changed a vehicle, for [`Level::confirm`]. It is held from here on, if only as a vehicle
    /// that nothing is known of.
    pub(super) fn changes(&self, vehicle: &VehicleId) -> u32 {
        self.shard(vehicle).change(vehicle, self.shard_bytes_max, |rows| rows.changes)
    }

    /// Takes in all that the shared store has of a vehicle, as it was asked in this era. When others have changed the
    /// vehicle since `changes` was asked for, it must be asked again.
    pub(super) fn confirm(&self, vehicle: &VehicleId, writes: &[Write], era: u32, changes: u32) {
        self.shard(vehicle).change(vehicle, self.shard_bytes_max, |rows| {
            for write in writes {
                rows.put(write);
            }
            rows.checked = if rows.changes == changes { era } else { 0 };
        });
    }

    /// Others have changed a vehicle.
    pub(super) fn changed(&self, vehicle: &VehicleId) {
        let mut shard = self.shard(vehicle);
        if let Some(rows) = shard.vehicles.peek_mut(vehicle) {
            rows.changes = rows.changes.wrapping_add(1);
            rows.checked = 0;
        }
    }

    /// Writes rows, each on its condition.
    pub(super) fn put(&self, vehicle: &VehicleId, writes: &[Write]) -> Vec<Put> {
        let mut shard = self.shard(vehicle);
        shard.change(vehicle, self.shard_bytes_max, |rows| writes.iter().map(|write| rows.put(write)).collect())
    }

    /// Vehicles and bytes that are held, and vehicles that were forgotten to make room.
    pub(super) fn usage(&self) -> (usize, usize, u64) {
        self.shards.iter().fold((0, 0, 0), |(vehicles, bytes, evicted), shard| {
            let shard = lock(shard);
            (vehicles + shard.vehicles.len(), bytes + shard.bytes, evicted + shard.evicted)
        })
    }

    fn shard(&self, vehicle: &VehicleId) -> MutexGuard<'_, Shard> {
        let hash = self.hasher.hash_one(vehicle);
        let index = usize::try_from(hash % SHARDS as u64).unwrap_or_default();
        lock(&self.shards[index])
    }
}

/// No code that may panic runs under the lock, and a state that is half changed would only be miscounted.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Shard ===

impl Shard {
    fn change<T: Default>(&mut self, vehicle: &VehicleId, bytes_max: usize, change: impl FnOnce(&mut Rows) -> T) -> T {
        let mut is_new = false;
        let entry = self.vehicles.get_or_insert(vehicle, || {
            is_new = true;
            Rows::default()
        });
        let Some(rows) = entry else { return T::default() };
        let before = if is_new { 0 } else { rows.bytes(vehicle) };
        let done = change(rows);
        self.bytes = self.bytes + rows.bytes(vehicle) - before;
        // The last one used stays, however large it is: it would never be written otherwise.
        while self.bytes > bytes_max && self.vehicles.len() > 1 {
            let Some((vehicle, rows)) = self.vehicles.pop_oldest() else { break };
            self.bytes -= rows.bytes(&vehicle);
            self.evicted += 1;
        }
        done
    }
}

// === impl Rows ===

impl Rows {
    fn get(&self, view: ViewId) -> Option<&FeatureRow> {
        self.rows.iter().find(|(found, _)| *found == view).map(|(_, row)| row)
    }

    fn put(&mut self, write: &Write) -> Put {
        let found = self.rows.iter_mut().find(|(found, _)| *found == write.view);
        let version = found.as_ref().map(|(_, row)| row.version());
        if !write.condition.allows(&write.row, version) {
            return Put::Refused(version);
        }
        match found {
            Some((_, row)) => *row = write.row.clone(),
            None => {
                self.rows.reserve_exact(1);
                self.rows.push((write.view, write.row.clone()));
            }
        }
        Put::Written
    }

    fn bytes(&self, vehicle: &VehicleId) -> usize {
        let rows: usize = self.rows.iter().map(|(_, row)| row.as_bytes().len() + ROW_BYTES).sum();
        let list = self.rows.capacity() * size_of::<(ViewId, FeatureRow)>();
        Lru::<Rows>::SLOT_BYTES + vehicle.as_str().len() + list + rows
    }
}
