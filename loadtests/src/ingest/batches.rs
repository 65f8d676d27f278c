//! What is sent: readings as a battery's sensors give them.

use std::time::{SystemTime, UNIX_EPOCH};

use ev_client::proto::ev::telemetry::v1::{Batch, Column, SignalDeclaration};
use prost_types::Timestamp;

/// Name, unit, middle and step of each signal: values wander by steps, as quantised sensors do.
const SIGNALS: [(&str, &str, f32, f32); 8] = [
    ("Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", "percent", 60.0, 0.1),
    ("Vehicle.Powertrain.TractionBattery.CurrentVoltage", "V", 380.0, 0.1),
    ("Vehicle.Powertrain.TractionBattery.CurrentCurrent", "A", -40.0, 0.5),
    ("Vehicle.Powertrain.TractionBattery.Temperature.Max", "celsius", 31.0, 0.5),
    ("Vehicle.Powertrain.TractionBattery.Temperature.Min", "celsius", 27.0, 0.5),
    ("Vehicle.Powertrain.TractionBattery.CellVoltage.Max", "V", 3.9, 0.001),
    ("Vehicle.Powertrain.TractionBattery.CellVoltage.Min", "V", 3.85, 0.001),
    ("Vehicle.Speed", "km/h", 80.0, 0.25),
];
/// Different columns that take turns: what is made before is not made while time counts.
const VARIANTS: usize = 16;
/// Time between two readings.
const STEP_US: i64 = 1_000;
/// How far back a vehicle's readings begin: 3.6 million of them before they reach the present.
const BACK_US: i64 = 3_600_000_000;

/// Batches of one gateway's vehicles.
pub(super) struct Batches {
    vehicles: Vec<Vehicle>,
    columns: Vec<Vec<Column>>,
    time_deltas_us: Vec<i64>,
    turn: usize,
}

struct Vehicle {
    id: String,
    sequence: u64,
    next_us: i64,
}

pub(super) fn signals() -> Vec<SignalDeclaration> {
    let declaration = |(id, (name, unit, _, _)): (u32, &(&str, &str, f32, f32))| SignalDeclaration {
        id,
        name: (*name).to_owned(),
        unit: (*unit).to_owned(),
    };
    (0u32..).zip(&SIGNALS).map(declaration).collect()
}

// === impl Batches ===

impl Batches {
    pub(super) fn new(gateway: usize, vehicles: usize, readings: usize) -> Batches {
        let begin_us = now_us() - BACK_US;
        let vehicle = |index| Vehicle { id: format!("load-{gateway}-{index}"), sequence: 0, next_us: begin_us };
        let columns = (0..VARIANTS).map(|variant| columns(gateway * VARIANTS + variant, readings));
        let mut time_deltas_us = vec![STEP_US; readings];
        time_deltas_us[0] = 0;
        Batches { vehicles: (0..vehicles).map(vehicle).collect(), columns: columns.collect(), time_deltas_us, turn: 0 }
    }

    /// The vehicle's place, and its next batch.
    pub(super) fn next(&mut self) -> (usize, Batch) {
        let place = self.turn % self.vehicles.len();
        let columns = &self.columns[self.turn % VARIANTS];
        self.turn += 1;
        let vehicle = &mut self.vehicles[place];
        vehicle.sequence += 1;
        let span_us = STEP_US * i64::try_from(self.time_deltas_us.len()).unwrap_or(i64::MAX / STEP_US);
        let first_us = vehicle.next_us.min(now_us() - span_us);
        vehicle.next_us = first_us + span_us;
        let nanos = i32::try_from(first_us.rem_euclid(1_000_000) * 1_000).unwrap_or_default();
        let batch = Batch {
            vehicle_id: vehicle.id.clone(),
            sequence: vehicle.sequence,
            is_resend: false,
            first_time: Some(Timestamp { seconds: first_us.div_euclid(1_000_000), nanos }),
            time_deltas_us: self.time_deltas_us.clone(),
            columns: columns.clone(),
        };
        (place, batch)
    }

    pub(super) fn place_of(&self, vehicle: &str) -> Option<usize> {
        let (_, index) = vehicle.rsplit_once('-')?;
        index.parse::<usize>().ok().filter(|place| self.vehicles.get(*place).is_some_and(|known| known.id == vehicle))
    }
}

fn columns(seed: usize, readings: usize) -> Vec<Column> {
    let mut random = u32::try_from(seed).unwrap_or(u32::MAX).wrapping_mul(2_654_435_761) | 1;
    let column = |(signal_id, (_, _, middle, step)): (u32, &(&str, &str, f32, f32))| {
        let mut steps = 0i8;
        let values = (0..readings).map(|_| {
            // Xorshift: enough for a walk.
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            steps = match random % 8 {
                0 => steps.saturating_add(1).min(20),
                1 => steps.saturating_sub(1).max(-20),
                _ => steps,
            };
            middle + f32::from(steps) * step
        });
        Column { signal_id, values: values.collect() }
    };
    (0u32..).zip(&SIGNALS).map(column).collect()
}

fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vehicles_take_turns_and_their_times_go_on() {
        let mut batches = Batches::new(3, 2, 4);
        let (first, second, third) = (batches.next(), batches.next(), batches.next());
        assert_eq!((first.0, second.0, third.0), (0, 1, 0));
        assert_eq!((first.1.sequence, second.1.sequence, third.1.sequence), (1, 1, 2));
        let us = |batch: &Batch| {
            let time = batch.first_time.expect("a time");
            time.seconds * 1_000_000 + i64::from(time.nanos) / 1_000
        };
        assert_eq!(us(&third.1) - us(&first.1), 4 * STEP_US);
        assert_eq!(batches.place_of(&second.1.vehicle_id), Some(1));
        assert_eq!(batches.place_of("load-4-1"), None);
        let columns = &first.1.columns;
        assert!(columns.len() == 8 && columns.iter().all(|column| column.values.len() == 4));
        assert_ne!(batches.columns[0], batches.columns[1]);
    }
}
