//! The vehicles that a session has met, and what has come of each.

use std::collections::HashMap;

use ev_domain::VehicleId;
use foldhash::fast::RandomState;

use crate::Sequence;

/// Vehicles by their ids. The one that was asked for last is found again without a search: of a small batch, each search
/// is a part of its cost that counts.
#[derive(Debug, Default)]
pub(super) struct Vehicles {
    places: HashMap<VehicleId, usize, RandomState>,
    met: Vec<Met>,
    /// The place that was asked for last.
    last: usize,
}

#[derive(Debug)]
struct Met {
    vehicle: VehicleId,
    sequence: Sequence,
}

// === impl Vehicles ===

impl Vehicles {
    pub(super) fn len(&self) -> usize {
        self.met.len()
    }

    /// The session's own id of a vehicle that it has met.
    pub(super) fn known(&mut self, vehicle: &str) -> Option<VehicleId> {
        self.last = *self.places.get(vehicle)?;
        Some(self.met[self.last].vehicle.clone())
    }

    /// Where a vehicle is that was met.
    pub(super) fn place(&self, vehicle: &VehicleId) -> Option<usize> {
        let is_last = self.met.get(self.last).is_some_and(|met| met.vehicle.is_same(vehicle));
        if is_last { Some(self.last) } else { self.places.get(vehicle).copied() }
    }

    pub(super) fn sequence(&self, vehicle: &VehicleId) -> Option<&Sequence> {
        self.place(vehicle).map(|place| &self.met[place].sequence)
    }

    /// What has come of the vehicle at a place.
    pub(super) fn sequence_at(&mut self, place: usize) -> &mut Sequence {
        &mut self.met[place].sequence
    }

    /// Meets a vehicle of which this has come; where it is from now on.
    pub(super) fn meet(&mut self, vehicle: VehicleId, sequence: Sequence) -> usize {
        let place = *self.places.entry(vehicle.clone()).or_insert(self.met.len());
        let met = Met { vehicle, sequence };
        match self.met.get_mut(place) {
            Some(before) => *before = met,
            None => self.met.push(met),
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vehicles_are_found_by_their_ids_whatever_was_asked_for_before() {
        let id = |id: &str| VehicleId::new(id).expect("an id");
        let mut vehicles = Vehicles::default();
        assert_eq!((vehicles.known("a"), vehicles.place(&id("a"))), (None, None));
        let [a, b] = ["a", "b"].map(|name| vehicles.meet(id(name), Sequence::default()));
        assert_eq!((a, b, vehicles.len()), (0, 1, 2));
        let known = vehicles.known("b").expect("met");
        for (vehicle, place) in [(known, Some(b)), (id("b"), Some(b)), (id("a"), Some(a)), (id("c"), None)] {
            assert_eq!(vehicles.place(&vehicle), place, "{vehicle}");
            assert_eq!(vehicles.sequence(&vehicle).is_some(), place.is_some(), "{vehicle}");
        }
        let _ = vehicles.sequence_at(b).admit(1, &crate::SequenceLimits::default());
        assert_eq!(vehicles.sequence(&id("b")).map(Sequence::highest), Some(1));
        // Again, as a list may name one twice.
        assert_eq!((vehicles.meet(id("b"), Sequence::default()), vehicles.len()), (b, 2));
        assert_eq!(vehicles.sequence(&id("b")).map(Sequence::highest), Some(0));
    }
}
