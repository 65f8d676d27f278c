//! Values by vehicle, in the order they were last used in.

use std::hash::{BuildHasher, RandomState};

use ev_domain::VehicleId;
use hashbrown::HashTable;

/// No slot.
const NONE: u32 = u32::MAX;

/// Values by vehicle. Every operation takes constant time; the caller decides what is too much.
#[derive(Debug)]
pub(crate) struct Lru<V> {
    index: HashTable<u32>,
    hasher: RandomState,
    slots: Vec<Slot<V>>,
    free: Vec<u32>,
    newest: u32,
    oldest: u32,
}

#[derive(Debug)]
struct Slot<V> {
    /// None while the slot is free.
    entry: Option<(VehicleId, V)>,
    newer: u32,
    older: u32,
}

// === impl Lru ===

impl<V> Lru<V> {
    pub(crate) fn new() -> Lru<V> {
        Lru {
            index: HashTable::new(),
            hasher: RandomState::new(),
            slots: Vec::new(),
            free: Vec::new(),
            newest: NONE,
            oldest: NONE,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    /// Bytes of the table itself for each vehicle, besides what its id and value have on the heap: a slot, and with the
    /// room that growing by doubling leaves on average, an entry of the index.
    pub(crate) const SLOT_BYTES: usize = size_of::<Slot<V>>() * 3 / 2 + 12;

    /// The value of a vehicle, which is now the last used.
    pub(crate) fn get(&mut self, vehicle: &VehicleId) -> Option<&mut V> {
        let slot = self.find(vehicle)?;
        self.unlink(slot);
        self.link(slot);
        self.slots[slot as usize].entry.as_mut().map(|(_, value)| value)
    }

    /// The value of a vehicle, used or not.
    pub(crate) fn peek(&self, vehicle: &VehicleId) -> Option<&V> {
        let slot = self.find(vehicle)?;
        self.slots[slot as usize].entry.as_ref().map(|(_, value)| value)
    }

    /// The same, to be changed.
    pub(crate) fn peek_mut(&mut self, vehicle: &VehicleId) -> Option<&mut V> {
        let slot = self.find(vehicle)?;
        self.slots[slot as usize].entry.as_mut().map(|(_, value)| value)
    }

    /// The value of a vehicle, made if there is none; it is now the last used. None only beyond four billion.
    pub(crate) fn get_or_insert(&mut self, vehicle: &VehicleId, make: impl FnOnce() -> V) -> Option<&mut V> {
        let slot = match self.find(vehicle) {
            Some(slot) => {
                self.unlink(slot);
                slot
            }
            None => self.insert(vehicle, make())?,
        };
        self.link(slot);
        self.slots[slot as usize].entry.as_mut().map(|(_, value)| value)
    }

    /// Takes out what was not used for longest.
    pub(crate) fn pop_oldest(&mut self) -> Option<(VehicleId, V)> {
        let slot = self.oldest;
        if slot == NONE {
            return None;
        }
        let hash = self.hash(&self.slots[slot as usize].entry.as_ref()?.0);
        if let Ok(found) = self.index.find_entry(hash, |found| *found == slot) {
            found.remove();
        }
        self.unlink(slot);
        self.free.push(slot);
        self.slots[slot as usize].entry.take()
    }

    fn hash(&self, vehicle: &VehicleId) -> u64 {
        self.hasher.hash_one(vehicle)
    }

    fn find(&self, vehicle: &VehicleId) -> Option<u32> {
        let is_it = |slot: &u32| self.slots[*slot as usize].entry.as_ref().is_some_and(|(found, _)| found == vehicle);
        self.index.find(self.hash(vehicle), is_it).copied()
    }

    fn insert(&mut self, vehicle: &VehicleId, value: V) -> Option<u32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).ok().filter(|slot| *slot != NONE)?;
                self.slots.push(Slot { entry: None, newer: NONE, older: NONE });
                slot
            }
        };
        self.slots[slot as usize].entry = Some((vehicle.clone(), value));
        let Lru { index, hasher, slots, .. } = self;
        let hash_of =
            |slot: &u32| slots[*slot as usize].entry.as_ref().map_or(0, |(vehicle, _)| hasher.hash_one(vehicle));
        index.insert_unique(hasher.hash_one(vehicle), slot, hash_of);
        Some(slot)
    }

    fn link(&mut self, slot: u32) {
        let older = self.newest;
        self.slots[slot as usize].newer = NONE;
        self.slots[slot as usize].older = older;
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = slot,
            None => self.oldest = slot,
        }
        self.newest = slot;
    }

    fn unlink(&mut self, slot: u32) {
        let Slot { newer, older, .. } = self.slots[slot as usize];
        match self.slots.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => self.newest = older,
        }
        match self.slots.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => self.oldest = newer,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_does_what_a_list_does(steps in prop::collection::vec((0u8..4, 0u8..12), 0..200)) {
            let vehicle = |id: u8| VehicleId::new(&format!("v{id}")).unwrap();
            let mut lru = Lru::new();
            // Oldest first.
            let mut list: VecDeque<(u8, usize)> = VecDeque::new();
            for (step, (action, id)) in steps.into_iter().enumerate() {
                let found = list.iter().position(|(listed, _)| *listed == id);
                match action {
                    0 => {
                        let value = found.and_then(|at| list.remove(at));
                        prop_assert_eq!(lru.get(&vehicle(id)).copied(), value.map(|(_, value)| value));
                        list.extend(value);
                    }
                    1 => {
                        let value = found.and_then(|at| list.remove(at)).unwrap_or((id, step));
                        prop_assert_eq!(lru.get_or_insert(&vehicle(id), || step).copied(), Some(value.1));
                        list.push_back(value);
                    }
                    2 => {
                        prop_assert_eq!(lru.pop_oldest(), list.pop_front().map(|(id, value)| (vehicle(id), value)));
                    }
                    _ => prop_assert_eq!(lru.peek(&vehicle(id)).copied(), found.map(|at| list[at].1)),
                }
                prop_assert_eq!(lru.len(), list.len());
            }
        }
    }
}
