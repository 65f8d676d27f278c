//! Acknowledgements of a burst, one for each vehicle and durability.

use std::collections::HashMap;

use ev_domain::VehicleId;
use ev_proto::ev::telemetry::v1::{Ack, Durability, StreamResponse, stream_response::Message};

/// What is to be acknowledged. It is as large as the batches of a burst.
#[derive(Debug, Default)]
pub(super) struct Acks {
    vehicles: HashMap<VehicleId, Highest>,
    /// Batches that were there before, each on its own: a gateway that resends waits for each.
    duplicates: Vec<(VehicleId, u64)>,
}

/// The highest sequence of each durability, in its order; 0 for none.
#[derive(Debug, Default, Clone, Copy)]
struct Highest([u64; 3]);

// === impl Acks ===

impl Acks {
    pub(super) fn add(&mut self, vehicle: &VehicleId, sequence: u64, durability: Durability) {
        let highest = match self.vehicles.get_mut(vehicle) {
            Some(highest) => highest,
            None => self.vehicles.entry(vehicle.clone()).or_default(),
        };
        let place = match durability {
            Durability::Unspecified | Durability::Received => 0,
            Durability::Durable => 1,
            Durability::Applied => 2,
        };
        highest.0[place] = highest.0[place].max(sequence);
    }

    pub(super) fn add_duplicate(&mut self, vehicle: VehicleId, sequence: u64) {
        self.duplicates.push((vehicle, sequence));
    }

    /// The messages; nothing is left.
    pub(super) fn take(&mut self) -> Vec<StreamResponse> {
        let ack = |vehicle: &VehicleId, sequence: u64, durability: Durability, is_duplicate: bool| StreamResponse {
            message: Some(Message::Ack(Ack {
                vehicle_id: vehicle.as_str().to_owned(),
                sequence,
                durability: durability.into(),
                is_duplicate,
            })),
        };
        let mut messages = Vec::with_capacity(3 * self.vehicles.len() + self.duplicates.len());
        let duplicates = self.duplicates.drain(..);
        messages.extend(duplicates.map(|(vehicle, sequence)| ack(&vehicle, sequence, Durability::Durable, true)));
        for (vehicle, Highest(highest)) in self.vehicles.drain() {
            for (sequence, durability) in
                highest.into_iter().zip([Durability::Received, Durability::Durable, Durability::Applied])
            {
                if sequence > 0 {
                    messages.push(ack(&vehicle, sequence, durability, false));
                }
            }
        }
        messages
    }
}
