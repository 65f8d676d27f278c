//! Which vehicles are due, and since when. Pure: time comes in as an argument.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ev_domain::VehicleId;

/// Vehicles of which something new is known, each due at most once in an interval; the longest due come first.
#[derive(Debug)]
pub(super) struct Schedule {
    interval_us: u64,
    vehicles_max: usize,
    places: HashMap<VehicleId, Place>,
    /// By when they are due, and of those that are due at the same time by when they were marked.
    waiting: BTreeMap<(u64, u64), VehicleId>,
    /// In the order of their ends.
    resting: VecDeque<(u64, VehicleId)>,
    marked: u64,
    refused: u64,
}

/// Where a vehicle is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    Waiting,
    /// It was renewed, and is not due again before this time.
    RestsUntil(u64),
}

// === impl Schedule ===

impl Schedule {
    pub(super) fn new(interval_us: u64, vehicles_max: usize) -> Schedule {
        Schedule {
            interval_us,
            vehicles_max,
            places: HashMap::new(),
            waiting: BTreeMap::new(),
            resting: VecDeque::new(),
            marked: 0,
            refused: 0,
        }
    }

    /// Something new is known of a vehicle. Where there is no room for it, it is counted.
    pub(super) fn mark(&mut self, vehicle: &VehicleId, now_us: u64) {
        let due_us = match self.places.get_mut(vehicle) {
            Some(Place::Waiting) => return,
            Some(place @ Place::RestsUntil(_)) => match std::mem::replace(place, Place::Waiting) {
                Place::RestsUntil(until_us) => until_us.max(now_us),
                Place::Waiting => now_us,
            },
            None => {
                self.forget(now_us);
                if self.places.len() >= self.vehicles_max {
                    self.refused += 1;
                    return;
                }
                self.places.insert(vehicle.clone(), Place::Waiting);
                now_us
            }
        };
        self.marked += 1;
        self.waiting.insert((due_us, self.marked), vehicle.clone());
    }

    /// The vehicle that is due for the longest time.
    pub(super) fn pop(&mut self, now_us: u64) -> Option<VehicleId> {
        let first = self.waiting.first_entry().filter(|first| first.key().0 <= now_us)?;
        let vehicle = first.remove();
        let until_us = now_us.saturating_add(self.interval_us);
        self.places.insert(vehicle.clone(), Place::RestsUntil(until_us));
        self.resting.push_back((until_us, vehicle.clone()));
        self.forget(now_us);
        Some(vehicle)
    }

    /// When the next one is due.
    pub(super) fn next_us(&self) -> Option<u64> {
        self.waiting.first_key_value().map(|((due_us, _), _)| *due_us)
    }

    /// Vehicles that wait, due or not.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Times that a vehicle found no room.
    pub(super) fn refused(&self) -> u64 {
        self.refused
    }

    /// Forgets those whose rest has ended and of which nothing new is known.
    fn forget(&mut self, now_us: u64) {
        while let Some((until_us, vehicle)) = self.resting.pop_front_if(|(until_us, _)| *until_us <= now_us) {
            // It may have been renewed again meanwhile, and rest for longer.
            if self.places.get(&vehicle) == Some(&Place::RestsUntil(until_us)) {
                self.places.remove(&vehicle);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(number: u8) -> VehicleId {
        VehicleId::new(&format!("car-{number}")).expect("an id")
    }

    fn all(schedule: &mut Schedule, now_us: u64) -> Vec<VehicleId> {
        std::iter::from_fn(|| schedule.pop(now_us)).collect()
    }

    #[test]
    fn a_vehicle_is_renewed_once_in_an_interval_and_not_forgotten_meanwhile() {
        let mut schedule = Schedule::new(10, 4);
        schedule.mark(&id(1), 100);
        schedule.mark(&id(1), 101);
        assert_eq!((schedule.waiting(), schedule.next_us()), (1, Some(100)));
        assert_eq!(all(&mut schedule, 101), [id(1)]);
        schedule.mark(&id(1), 102);
        assert_eq!((schedule.next_us(), all(&mut schedule, 110)), (Some(111), vec![]));
        assert_eq!(all(&mut schedule, 111), [id(1)]);
        assert_eq!((schedule.waiting(), all(&mut schedule, 1_000)), (0, vec![]));
        schedule.mark(&id(1), 2_000);
        assert_eq!(all(&mut schedule, 2_000), [id(1)]);
    }

    #[test]
    fn the_longest_due_come_first_and_what_finds_no_room_is_counted() {
        let mut schedule = Schedule::new(10, 2);
        schedule.mark(&id(1), 100);
        schedule.mark(&id(2), 101);
        schedule.mark(&id(3), 102);
        assert_eq!(schedule.refused(), 1);
        assert_eq!(all(&mut schedule, 102), [id(1), id(2)]);
        schedule.mark(&id(3), 111);
        assert_eq!(schedule.refused(), 2, "both rest still");
        schedule.mark(&id(2), 111);
        schedule.mark(&id(3), 112);
        assert_eq!((all(&mut schedule, 112), schedule.refused()), (vec![id(2), id(3)], 2));
    }

    proptest! {
        #[test]
        fn no_vehicle_is_lost_doubled_or_hurried(steps in proptest::collection::vec((0u8..5, 0u64..30, any::<bool>()), 1..200)) {
            let mut schedule = Schedule::new(20, 5);
            let (mut now_us, mut marked, mut last) = (0, std::collections::HashSet::new(), HashMap::new());
            for (number, passed_us, is_mark) in steps {
                now_us += passed_us;
                if is_mark {
                    schedule.mark(&id(number), now_us);
                    marked.insert(id(number));
                } else {
                    for vehicle in all(&mut schedule, now_us) {
                        prop_assert!(marked.remove(&vehicle), "nothing new was known of it");
                        let before = last.insert(vehicle, now_us);
                        prop_assert!(before.is_none_or(|before| now_us - before >= 20));
                    }
                }
                prop_assert!(schedule.places.len() <= 5 && schedule.waiting() == marked.len());
            }
            all(&mut schedule, now_us + 20).iter().for_each(|vehicle| { marked.remove(vehicle); });
            prop_assert!(marked.is_empty() && schedule.refused() == 0);
        }
    }
}
