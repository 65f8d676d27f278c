//! Acknowledgements of a burst, one for each run of batches of a vehicle.

use std::collections::HashMap;

use ev_domain::VehicleId;
use ev_proto::ev::telemetry::v1::Durability;
use foldhash::fast::RandomState;

use super::answers::Answers;

/// What is to be acknowledged. It is as large as the batches of a burst.
#[derive(Debug, Default)]
pub(super) struct Acks {
    /// By where in memory the vehicle's id is. It is the same of all batches of a session; where it is not, a vehicle has
    /// more acknowledgements than it needs.
    vehicles: HashMap<usize, (VehicleId, [Runs; 3]), RandomState>,
    /// Batches that were there before, each on its own: a gateway that resends waits for each.
    duplicates: Vec<(VehicleId, u64)>,
}

/// Of one durability, the last of each run of sequences that followed each other.
///
/// An acknowledgement covers what is below it but for the gaps its gateway knows of: a batch that filled one needs its
/// own, however high the others of the burst are.
#[derive(Debug, Default)]
struct Runs {
    before: Vec<u64>,
    /// Of the run that goes on; none has a 0, which is no sequence.
    last: u64,
}

/// From the least to the most.
const DURABILITIES: [Durability; 3] = [Durability::Received, Durability::Durable, Durability::Applied];

// === impl Acks ===

impl Acks {
    pub(super) fn add(&mut self, vehicle: &VehicleId, sequence: u64, durability: Durability) {
        let address = vehicle.as_str().as_ptr().addr();
        let (_, runs) = self.vehicles.entry(address).or_insert_with(|| (vehicle.clone(), Default::default()));
        let place = match durability {
            Durability::Unspecified | Durability::Received => 0,
            Durability::Durable => 1,
            Durability::Applied => 2,
        };
        runs[place].add(sequence);
    }

    pub(super) fn add_duplicate(&mut self, vehicle: VehicleId, sequence: u64) {
        self.duplicates.push((vehicle, sequence));
    }

    /// Writes them; nothing is left.
    pub(super) fn tell(&mut self, answers: &mut Answers) {
        for (vehicle, sequence) in self.duplicates.drain(..) {
            answers.acknowledge(vehicle.as_str(), sequence, Durability::Durable, true);
        }
        for (_, (vehicle, runs)) in self.vehicles.drain() {
            for (runs, durability) in runs.into_iter().zip(DURABILITIES) {
                runs.all().for_each(|last| answers.acknowledge(vehicle.as_str(), last, durability, false));
            }
        }
    }
}

// === impl Runs ===

impl Runs {
    fn add(&mut self, sequence: u64) {
        if self.last != 0 && self.last.checked_add(1) != Some(sequence) {
            self.before.push(self.last);
        }
        self.last = sequence;
    }

    fn all(&self) -> impl Iterator<Item = u64> {
        self.before.iter().copied().chain((self.last != 0).then_some(self.last))
    }
}

#[cfg(test)]
mod tests {
    use ev_proto::ev::telemetry::v1::stream_response::Message;

    use super::*;
    use crate::grpc::telemetry::answers::answers;

    #[test]
    fn a_run_has_one_acknowledgement_and_a_filled_gap_its_own() {
        let (mut acks, (mut answers, _response)) = (Acks::default(), answers());
        let car = VehicleId::new("car-1").expect("an id");
        for sequence in [5, 6, 7, 3, 9] {
            acks.add(&car, sequence, Durability::Durable);
        }
        acks.add(&car, 9, Durability::Received);
        acks.add_duplicate(car, 2);
        let mut found = Vec::new();
        acks.tell(&mut answers);
        for message in answers.written() {
            let Some(Message::Ack(ack)) = message else { panic!("expected an acknowledgement, found {message:?}") };
            found.push((ack.durability(), ack.sequence, ack.is_duplicate));
        }
        let durable = Durability::Durable;
        assert_eq!(
            found,
            [
                (durable, 2, true),
                (Durability::Received, 9, false),
                (durable, 7, false),
                (durable, 3, false),
                (durable, 9, false)
            ]
        );
        acks.tell(&mut answers);
        assert!(answers.written().is_empty());
    }
}
