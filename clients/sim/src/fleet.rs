//! A fleet, as an endless iterator of batches and truth.

use std::collections::VecDeque;

use fastrand::Rng;

use crate::{
    Batch, Column, Fault, Signal, Start, Truth, Vehicle, VehicleConfig, transport::Transport, vehicle::Values,
};

/// Lower quartile of the temperature at trigger in the Battery Failure Databank, revision 2 (NREL and NASA).
pub const ONSET_CELSIUS: f64 = 129.0;

/// What is set for a fleet.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// How many.
    pub vehicles: usize,
    /// Its seed.
    pub seed: u64,
    /// What they are doing at first.
    pub start: Start,
    /// Seconds from one batch of a vehicle to the next, at least 1.
    pub batch_s: u32,
    /// Seconds from one reading to the next while parked, 1 to 10; otherwise it is one second.
    pub parked_interval_s: u32,
    /// When the simulation begins, in seconds since 1970-01-01 UTC.
    pub start_unix_s: i64,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// What a vehicle sent, and what was true.
#[derive(Debug, Clone, PartialEq)]
pub struct Emission {
    /// The batch.
    pub batch: Batch,
    /// What was true at its end.
    pub truth: Truth,
}

/// Vehicles that send in turn, all at the same time of the simulation.
#[derive(Debug)]
pub struct Fleet {
    config: FleetConfig,
    members: Vec<Member>,
    next: usize,
    ready: VecDeque<Emission>,
}

#[derive(Debug)]
struct Member {
    id: String,
    vehicle: Vehicle,
    transport: Transport,
    sequence: u64,
}

// === impl FleetConfig ===

impl Default for FleetConfig {
    fn default() -> FleetConfig {
        FleetConfig {
            vehicles: 10,
            seed: 1,
            start: Start::Night,
            batch_s: 10,
            parked_interval_s: 10,
            // 2026-01-01.
            start_unix_s: 1_767_225_600,
            faults: Vec::new(),
        }
    }
}

// === impl Fleet ===

impl Fleet {
    /// Gets the vehicles ready.
    #[must_use]
    pub fn new(mut config: FleetConfig) -> Fleet {
        (config.batch_s, config.parked_interval_s) = (config.batch_s.max(1), config.parked_interval_s.clamp(1, 10));
        let members = (0..config.vehicles).map(|index| Member::new(index, &config)).collect();
        Fleet { config, members, next: 0, ready: VecDeque::new() }
    }

    /// The vehicles.
    pub fn vehicles(&self) -> impl Iterator<Item = &Vehicle> {
        self.members.iter().map(|member| &member.vehicle)
    }
}

impl Iterator for Fleet {
    type Item = Emission;

    fn next(&mut self) -> Option<Emission> {
        while self.ready.is_empty() {
            let at = self.next;
            self.next = (at + 1) % self.members.len().max(1);
            self.ready = self.members.get_mut(at)?.emit(&self.config);
        }
        self.ready.pop_front()
    }
}

// === impl Member ===

impl Member {
    fn new(index: usize, config: &FleetConfig) -> Member {
        let faults: Vec<Fault> = config.faults.iter().filter(|fault| fault.vehicle == index).cloned().collect();
        let seed = Rng::with_seed(config.seed).u64(..).wrapping_add((index as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        let vehicle = Vehicle::new(&VehicleConfig { seed, start: config.start, faults: faults.clone() });
        Member { id: format!("sim-{index}"), vehicle, transport: Transport::new(faults, !seed), sequence: 0 }
    }

    /// Lives for the time of a batch, and sends it.
    fn emit(&mut self, config: &FleetConfig) -> VecDeque<Emission> {
        let (mut passed_s, mut times_us, mut rows) = (0, Vec::new(), Vec::new());
        while passed_s < config.batch_s {
            let interval_s = if self.vehicle.is_parked() { config.parked_interval_s } else { 1 };
            let step_s = interval_s.min(config.batch_s - passed_s);
            self.vehicle.step(step_s);
            passed_s += step_s;
            times_us.push(self.time_us(config));
            rows.push(self.vehicle.read());
        }
        self.sequence += 1;
        let batch = Batch {
            vehicle_id: self.id.clone(),
            boot_id: format!("boot-{}", config.seed),
            sequence: self.sequence,
            is_resend: false,
            times_us,
            columns: columns(&rows),
        };
        let truth = self.truth(config);
        let arriving = self.transport.carry(batch, self.vehicle.time_s());
        arriving.into_iter().map(|batch| Emission { batch, truth: truth.clone() }).collect()
    }

    fn truth(&self, config: &FleetConfig) -> Truth {
        let pack = self.vehicle.pack();
        Truth {
            vehicle_id: self.id.clone(),
            time_us: self.time_us(config),
            sequence: self.sequence,
            hottest_cell_celsius: pack.hottest_cell_celsius(),
            state_of_charge_percent: 100.0 * pack.charge(),
            state_of_health_percent: 100.0 * pack.health(),
            short_ohm: self.vehicle.short_ohm(),
            self_heating_celsius_per_s: pack.self_heating_celsius_per_s(),
            passed_onset: pack.hottest_cell_celsius() >= ONSET_CELSIUS,
            faults: self.vehicle.faults(),
        }
    }

    fn time_us(&self, config: &FleetConfig) -> i64 {
        #[expect(clippy::cast_possible_truncation, reason = "a simulation ends long before i64 does")]
        let since_start = (self.vehicle.time_s() * 1e6) as i64;
        config.start_unix_s.saturating_mul(1_000_000).saturating_add(since_start)
    }
}

fn columns(rows: &[Values]) -> Vec<Column> {
    let of = |signal: Signal| rows.iter().map(|row| row[signal.index()]).collect();
    Signal::ALL.into_iter().map(|signal| Column { signal, values: of(signal) }).collect()
}
