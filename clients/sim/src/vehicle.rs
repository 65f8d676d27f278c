//! One vehicle: pack, road, day and sensors together.

use fastrand::Rng;

use crate::{
    Fault, FaultKind, Short, Signal, Start,
    day::{Activity, Day},
    pack::{Pack, PackSpec, Surroundings, between},
    road::{Body, Drive},
};

/// Steps while a cell is shorted, in seconds: the reactions need them.
const FINE_STEP_S: f64 = 0.25;

/// What is set for a vehicle.
#[derive(Debug, Clone, Default)]
pub struct VehicleConfig {
    /// Its seed.
    pub seed: u64,
    /// What it is doing at first.
    pub start: Start,
    /// What goes wrong.
    pub faults: Vec<Fault>,
}

/// One simulated vehicle.
#[derive(Debug, Clone)]
pub struct Vehicle {
    random: Rng,
    sensing: Rng,
    pack: Pack,
    body: Body,
    drive: Drive,
    day: Day,
    climate_celsius: f64,
    swing_celsius: f64,
    phase_s: f64,
    odometer_km: f64,
    current_a: f64,
    time_s: f64,
    short: Option<(f64, Short)>,
    faults: Vec<Fault>,
    stuck: Vec<(Signal, f64, Option<f32>)>,
}

/// Values of all signals, in the order of [`Signal::ALL`].
pub(crate) type Values = [f32; Signal::ALL.len()];

// === impl Vehicle ===

impl Vehicle {
    /// A vehicle that follows from its seed.
    #[must_use]
    pub fn new(config: &VehicleConfig) -> Vehicle {
        let mut random = Rng::with_seed(config.seed);
        let spec = PackSpec::draw(&mut random);
        let energy_kwh = spec.energy_kwh();
        let body = Body::draw(energy_kwh, &mut random);
        let (climate_celsius, swing_celsius) = (between(&mut random, -10.0, 36.0), between(&mut random, 2.0, 7.0));
        let charge = match config.start {
            Start::Charging => between(&mut random, 0.1, 0.4),
            Start::Night | Start::Driving => between(&mut random, 0.5, 0.95),
        };
        let pack = Pack::new(spec, climate_celsius.max(0.0) + between(&mut random, 0.0, 6.0), charge, &mut random);
        let day = Day::start(config.start, energy_kwh, &mut random);
        let drive = Drive::start(&mut random);
        let stuck = config.faults.iter().filter_map(|fault| match fault.kind {
            FaultKind::StuckSensor(signal) => Some((signal, fault.at_s, None)),
            _ => None,
        });
        let stuck = stuck.collect();
        // Drawn for every vehicle, so that the same one without a fault is the same one.
        let drawn = Short::draw(&mut random);
        let short = config.faults.iter().find_map(|fault| match fault.kind {
            FaultKind::InternalShort(short) => Some((fault.at_s, short.unwrap_or(drawn))),
            _ => None,
        });
        Vehicle {
            sensing: random.fork(),
            odometer_km: between(&mut random, 0.0, 200_000.0).round(),
            phase_s: between(&mut random, 0.0, 86_400.0),
            random,
            pack,
            body,
            drive,
            day,
            climate_celsius,
            swing_celsius,
            current_a: 0.0,
            time_s: 0.0,
            short,
            faults: config.faults.clone(),
            stuck,
        }
    }

    /// Its pack.
    #[must_use]
    pub fn pack(&self) -> &Pack {
        &self.pack
    }

    /// Seconds since the simulation began.
    #[must_use]
    pub fn time_s(&self) -> f64 {
        self.time_s
    }

    /// The short it has or will have.
    #[must_use]
    pub fn short(&self) -> Option<Short> {
        self.short.map(|(_, short)| short)
    }

    /// Resistance of the short that it has now, in ohm.
    #[must_use]
    pub fn short_ohm(&self) -> Option<f64> {
        let (at_s, short) = self.short.filter(|(at_s, _)| self.time_s >= *at_s)?;
        Some(short.resistance_ohm(self.pack.spec().capacity_ah, self.time_s - at_s))
    }

    /// Names of the faults that have begun.
    #[must_use]
    pub fn faults(&self) -> Vec<&'static str> {
        self.faults.iter().filter(|fault| self.time_s >= fault.at_s).map(|fault| fault.kind.name()).collect()
    }

    /// Whether it is parked.
    #[must_use]
    pub fn is_parked(&self) -> bool {
        self.day.activity == Activity::Parked
    }

    /// Lets whole seconds pass, up to 10 while it is parked and 1 otherwise.
    pub fn step(&mut self, seconds: u32) {
        let dt_s = f64::from(seconds);
        self.day.left_s -= dt_s;
        let energy_kwh = self.pack.spec().energy_kwh();
        self.day.advance(self.pack.charge(), energy_kwh, &mut self.random);
        let power_w = match self.day.activity {
            Activity::Parked => 0.0,
            Activity::Driving => -self.drive.step(&self.body, &mut self.random) * self.derated(),
            Activity::Charging { power_w, .. } => power_w * self.derated() * self.taper(),
        };
        self.odometer_km += self.speed_mps() * dt_s / 1000.0;
        self.current_a = self.limited(power_w / self.pack.voltage_v().max(1.0));
        let mut around = Surroundings {
            coolant_celsius: self.coolant(),
            ambient_celsius: self.ambient_celsius(),
            short_ohm: self.short_ohm(),
        };
        if around.short_ohm.is_none() {
            self.pack.step(self.current_a, &around, dt_s);
            self.time_s += dt_s;
            return;
        }
        for _ in 0..seconds * 4 {
            around.short_ohm = self.short_ohm();
            self.pack.step(self.current_a, &around, FINE_STEP_S);
            self.time_s += FINE_STEP_S;
        }
    }

    /// What its sensors say now.
    #[expect(clippy::cast_possible_truncation, reason = "sensors have fewer digits than either")]
    pub(crate) fn read(&mut self) -> Values {
        let reading = self.pack.read(&mut self.sensing);
        let charging = matches!(self.day.activity, Activity::Charging { .. });
        let mut values = Signal::ALL.map(|signal| match signal {
            Signal::StateOfCharge => reading.charge_percent,
            Signal::StateOfHealth => reading.health_percent,
            Signal::PackVoltage => reading.voltage_v,
            Signal::PackCurrent => (self.current_a * 10.0).round() / 10.0,
            Signal::CellTemperatureMax => reading.hottest_celsius,
            Signal::CellTemperatureMin => reading.coldest_celsius,
            Signal::CellTemperatureMean => reading.mean_celsius,
            Signal::CellVoltageMax => reading.cell_max_v,
            Signal::CellVoltageMin => reading.cell_min_v,
            Signal::IsCharging => f64::from(u8::from(charging)),
            Signal::Speed => (self.speed_mps() * 36.0).round() / 10.0,
            Signal::TraveledDistance => (self.odometer_km * 10.0).round() / 10.0,
            Signal::AirTemperature => (self.ambient_celsius() * 2.0).round() / 2.0,
        } as f32);
        for (signal, at_s, kept) in &mut self.stuck {
            if self.time_s >= *at_s {
                values[signal.index()] = *kept.get_or_insert(values[signal.index()]);
            }
        }
        values
    }

    fn speed_mps(&self) -> f64 {
        if self.day.activity == Activity::Driving { self.drive.speed_mps() } else { 0.0 }
    }

    fn ambient_celsius(&self) -> f64 {
        let turn = (self.time_s + self.phase_s) / 86_400.0 * std::f64::consts::TAU;
        self.climate_celsius + self.swing_celsius * turn.sin()
    }

    /// While it is used, coolant near the air's temperature, chilled when the pack is warm and heated when it is cold.
    fn coolant(&self) -> Option<f64> {
        if self.is_parked() {
            return None;
        }
        let (mean, air) = (self.pack.mean_celsius(), self.ambient_celsius());
        Some(match mean {
            mean if mean > 32.0 => air.min(20.0),
            mean if mean < 10.0 => 25.0,
            _ => air.clamp(15.0, 30.0),
        })
    }

    /// A battery management gives less power to a hot, a cold and an empty pack.
    fn derated(&self) -> f64 {
        let mean = self.pack.mean_celsius();
        let hot = ((56.0 - mean) / 8.0).clamp(0.0, 1.0);
        let cold = ((mean + 25.0) / 30.0).clamp(0.1, 1.0);
        let empty = ((self.pack.charge() - 0.02) / 0.08).clamp(0.0, 1.0);
        let charging = matches!(self.day.activity, Activity::Charging { .. });
        hot * cold * if charging { 1.0 } else { empty }
    }

    /// Charging slows from three quarters on.
    fn taper(&self) -> f64 {
        ((1.02 - self.pack.charge()) / 0.27).clamp(0.05, 1.0)
    }

    /// No pack is asked for more than four times its capacity in an hour.
    fn limited(&self, current_a: f64) -> f64 {
        let most = 4.0 * self.pack.capacity_ah();
        current_a.clamp(-most, most)
    }
}
