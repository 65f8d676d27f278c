//! One battery pack: circuit, heat, ageing, and what its sensors say.

use fastrand::Rng;

use crate::{
    chemistry::{Chemistry, Constants},
    kinetics::{HEAT_CAPACITY, Reactants, SEPARATOR_CELSIUS},
};

/// Modules with a temperature, and a sensor, of their own.
pub const MODULES: usize = 8;

/// The RC pair's share of the ohmic resistance, and its time in seconds: the order of fits to pulse tests (Hu, Li and Peng,
/// J. Power Sources 198 (2012) 359).
const RC_SHARE: f64 = 0.5;
const RC_SECONDS: f64 = 30.0;

/// Activation energy of the resistance over the gas constant, in K: 20 kJ/mol, as measured on NMC cells between -10 and 40
/// degrees (Waag, Kaebitz and Sauer, Applied Energy 102 (2013) 885).
const RESISTANCE_K: f64 = 20_000.0 / 8.314;

/// Ageing: calendar loss of 2 % a year at 25 degrees with 50 kJ/mol, and 10 % in a thousand full cycles: the order of
/// Schmalstieg et al., J. Power Sources 257 (2014) 325.
const CALENDAR_PER_S: f64 = 0.02 / (365.0 * 86_400.0);
const CALENDAR_K: f64 = 50_000.0 / 8.314;
const CYCLE_PER_FULL: f64 = 0.1 / 1000.0;

/// Resistance of the hard short that a molten separator leaves, in ohm Ah: about the cell's own.
const MOLTEN_SHORT_OHM_AH: f64 = 0.1;

/// A hot cell's loss to everything around it beyond its module, in 1/s over 200 degrees.
const HOT_LOSS_PER_S: f64 = 0.0002;

/// How a pack is built.
#[derive(Debug, Clone)]
pub struct PackSpec {
    /// Chemistry.
    pub chemistry: Chemistry,
    /// Cells in series.
    pub series: u32,
    /// Capacity in Ah when new.
    pub capacity_ah: f64,
    /// State of health when the simulation begins, 0 to 1.
    pub health: f64,
    /// Heat a module gives to its coolant while that flows, 1/s.
    pub cooling_per_s: f64,
    /// Heat one cell gives to its module, 1/s.
    pub contact_per_s: f64,
    /// Share of one cell's difference to its module that the module's sensor sees: 1 when it sits on the cell.
    pub sensor_share: f64,
    /// Time constant of a temperature sensor in seconds.
    pub sensor_lag_s: f64,
    /// Resolution of temperatures in degrees.
    pub temperature_step: f64,
}

/// A pack's state. Currents are positive into the battery.
#[derive(Debug, Clone)]
pub struct Pack {
    spec: PackSpec,
    constants: Constants,
    /// A common, a strong and a weak cell, which share the pack's temperature, and the one that a short may befall.
    common: Cell,
    strong: Cell,
    weak: Cell,
    victim: Cell,
    victim_celsius: f64,
    reactants: Reactants,
    self_heating: f64,
    molten: bool,
    modules: [f64; MODULES],
    /// How well each module is cooled, relative.
    cooled: [f64; MODULES],
    sensors: [f64; MODULES],
    health: f64,
}

/// One cell's electrical state.
#[derive(Debug, Clone, Copy)]
struct Cell {
    charge: f64,
    capacity: f64,
    resistance: f64,
    polarisation_v: f64,
    terminal_v: f64,
}

/// What surrounds a pack.
#[derive(Debug, Clone, Copy)]
pub struct Surroundings {
    /// Coolant in degrees Celsius, while it flows.
    pub coolant_celsius: Option<f64>,
    /// Air in degrees Celsius.
    pub ambient_celsius: f64,
    /// Resistance of an internal short of one cell in ohm.
    pub short_ohm: Option<f64>,
}

/// What a pack's sensors say.
#[derive(Debug, Clone, Copy)]
pub struct PackReading {
    /// State of charge in percent.
    pub charge_percent: f64,
    /// State of health in percent.
    pub health_percent: f64,
    /// Pack voltage in V.
    pub voltage_v: f64,
    /// Hottest sensor in degrees Celsius.
    pub hottest_celsius: f64,
    /// Coldest sensor.
    pub coldest_celsius: f64,
    /// Mean of the sensors.
    pub mean_celsius: f64,
    /// Strongest cell in V.
    pub cell_max_v: f64,
    /// Weakest cell in V.
    pub cell_min_v: f64,
}

// === impl PackSpec ===

impl PackSpec {
    /// A pack as one might meet it; the ranges are of cars and vans of the last years.
    pub fn draw(random: &mut Rng) -> PackSpec {
        let chemistry = Chemistry::ALL[[0, 0, 0, 1, 2, 2][random.usize(0..6)]];
        let on_cell = random.f64() < 0.25;
        PackSpec {
            chemistry,
            series: [96, 96, 108, 192][random.usize(0..4)],
            capacity_ah: between(random, 50.0, 160.0),
            health: between(random, 0.75, 1.0),
            // Five to fifteen minutes to the coolant, and one to four from a cell to its neighbours.
            cooling_per_s: 1.0 / between(random, 300.0, 900.0),
            contact_per_s: 1.0 / between(random, 60.0, 240.0),
            // A pack has a sensor for every six to twelve cells: usually it sits on a neighbour or a busbar.
            sensor_share: if on_cell { 1.0 } else { between(random, 0.15, 0.7) },
            sensor_lag_s: between(random, 3.0, 12.0),
            temperature_step: [0.1, 0.5, 1.0, 1.0][random.usize(0..4)],
        }
    }

    /// Energy in kWh when new.
    #[must_use]
    pub fn energy_kwh(&self) -> f64 {
        self.capacity_ah * self.chemistry.constants().nominal_v * f64::from(self.series) / 1000.0
    }
}

// === impl Pack ===

impl Pack {
    /// A rested pack at a temperature and a state of charge of 0 to 1.
    pub fn new(spec: PackSpec, celsius: f64, charge: f64, random: &mut Rng) -> Pack {
        let constants = spec.chemistry.constants();
        // Spread of production: capacities within a few percent, resistances within a fifth.
        let mut cell = |capacity: f64, resistance: f64| Cell {
            charge: charge + between(random, -0.004, 0.004),
            capacity,
            resistance,
            polarisation_v: 0.0,
            terminal_v: spec.chemistry.open_circuit_v(charge),
        };
        let (common, strong, weak, victim) = (cell(1.0, 1.0), cell(1.015, 0.92), cell(0.98, 1.15), cell(1.0, 1.0));
        let cooled = [(); MODULES].map(|()| between(random, 0.75, 1.25));
        Pack {
            constants,
            common,
            strong,
            weak,
            victim,
            victim_celsius: celsius,
            reactants: Reactants::default(),
            self_heating: 0.0,
            molten: false,
            modules: [celsius; MODULES],
            cooled,
            sensors: [celsius; MODULES],
            health: spec.health,
            spec,
        }
    }

    /// How it is built.
    #[must_use]
    pub fn spec(&self) -> &PackSpec {
        &self.spec
    }

    /// State of charge, 0 to 1.
    #[must_use]
    pub fn charge(&self) -> f64 {
        self.common.charge
    }

    /// State of health, 0 to 1.
    #[must_use]
    pub fn health(&self) -> f64 {
        self.health
    }

    /// The hottest cell inside.
    #[must_use]
    pub fn hottest_cell_celsius(&self) -> f64 {
        self.modules.iter().copied().fold(self.victim_celsius, f64::max)
    }

    /// The mean of the modules.
    #[must_use]
    pub fn mean_celsius(&self) -> f64 {
        self.modules.iter().sum::<f64>() / MODULES as f64
    }

    /// Heat of decomposition as degrees Celsius a second.
    #[must_use]
    pub fn self_heating_celsius_per_s(&self) -> f64 {
        self.self_heating
    }

    /// Open-circuit voltage of the pack in V, as power is turned into current by.
    #[must_use]
    pub fn voltage_v(&self) -> f64 {
        self.common.terminal_v * f64::from(self.spec.series)
    }

    /// Ampere for a whole charge in an hour.
    #[must_use]
    pub fn capacity_ah(&self) -> f64 {
        self.spec.capacity_ah * self.health
    }

    /// Lets a current flow for `dt_s`, at most 10 s when nothing is wrong and 0.25 s with a short.
    pub fn step(&mut self, current_a: f64, around: &Surroundings, dt_s: f64) {
        let mean = self.mean_celsius();
        let ohm = self.resistance_ohm(mean);
        let capacity_as = self.capacity_ah() * 3600.0;
        let chemistry = self.spec.chemistry;
        for cell in [&mut self.common, &mut self.strong, &mut self.weak] {
            cell.step(chemistry, current_a, current_a, ohm, capacity_as, dt_s);
        }
        let polarisation = self.common.polarisation_v.powi(2) / (ohm * RC_SHARE);
        let ohmic = (current_a * current_a * ohm + polarisation) / self.heat_capacity();
        self.step_victim(current_a, around.short_ohm, dt_s);
        for (celsius, cooled) in self.modules.iter_mut().zip(self.cooled) {
            let loss = match around.coolant_celsius {
                Some(coolant) => self.spec.cooling_per_s * cooled * (*celsius - coolant),
                None => 0.0,
            };
            // A parked pack takes hours to follow the air.
            let air = (*celsius - around.ambient_celsius) / (5.0 * 3600.0);
            *celsius += (ohmic - loss - air) * dt_s;
        }
        // One cell of a dozen warms its module a little.
        self.modules[0] += self.spec.contact_per_s * (self.victim_celsius - self.modules[0]) / 12.0 * dt_s;
        let follow = 1.0 - (-dt_s / self.spec.sensor_lag_s).exp();
        for (index, (sensor, module)) in self.sensors.iter_mut().zip(self.modules).enumerate() {
            let share = if index == 0 { self.spec.sensor_share } else { 0.0 };
            *sensor += (module + share * (self.victim_celsius - module) - *sensor) * follow;
        }
        let calendar = CALENDAR_PER_S * (CALENDAR_K * (1.0 / 298.15 - 1.0 / (mean + 273.15))).exp();
        let cycling = CYCLE_PER_FULL * current_a.abs() / (2.0 * capacity_as);
        self.health = (self.health - (calendar + cycling) * dt_s).max(0.3);
    }

    /// What the sensors say, with their noise and resolution.
    pub fn read(&self, random: &mut Rng) -> PackReading {
        let step = self.spec.temperature_step;
        let sensors = self.sensors.map(|celsius| ((celsius + normal(random) * 0.1) / step).round() * step);
        let cells = [&self.common, &self.strong, &self.weak, &self.victim];
        let volts = cells.map(|cell| ((cell.terminal_v + normal(random) * 0.001) * 1000.0).round() / 1000.0);
        let pack = self.common.terminal_v * f64::from(self.spec.series - 1) + self.victim.terminal_v;
        PackReading {
            charge_percent: (self.common.charge * 1000.0).round() / 10.0,
            health_percent: (self.health * 1000.0).round() / 10.0,
            voltage_v: ((pack + normal(random) * 0.1) * 10.0).round() / 10.0,
            hottest_celsius: sensors.into_iter().fold(f64::MIN, f64::max),
            coldest_celsius: sensors.into_iter().fold(f64::MAX, f64::min),
            mean_celsius: sensors.iter().sum::<f64>() / MODULES as f64,
            cell_max_v: volts.into_iter().fold(f64::MIN, f64::max).max(0.0),
            cell_min_v: volts.into_iter().fold(f64::MAX, f64::min).max(0.0),
        }
    }

    /// Ohmic resistance of a cell at a temperature.
    fn resistance_ohm(&self, celsius: f64) -> f64 {
        let kelvin = celsius.clamp(-40.0, 120.0) + 273.15;
        let cold = (RESISTANCE_K * (1.0 / kelvin - 1.0 / 298.15)).exp();
        // Half again as much by the end of the first fifth of its capacity, about as Schmalstieg et al. find.
        let aged = 1.0 + 2.5 * (1.0 - self.health);
        self.constants.resistance_ohm_ah / self.spec.capacity_ah * cold * aged
    }

    /// J/K of a cell.
    fn heat_capacity(&self) -> f64 {
        let litres = self.spec.capacity_ah * self.constants.nominal_v / self.constants.energy_wh_l;
        litres / 1000.0 * HEAT_CAPACITY
    }

    fn step_victim(&mut self, current_a: f64, short_ohm: Option<f64>, dt_s: f64) {
        self.molten |= self.victim_celsius >= SEPARATOR_CELSIUS;
        let molten_ohm = self.molten.then_some(MOLTEN_SHORT_OHM_AH / self.spec.capacity_ah);
        let short_ohm = [short_ohm, molten_ohm].into_iter().flatten().reduce(f64::min);
        let ohm = self.resistance_ohm(self.victim_celsius);
        let open_v = self.spec.chemistry.open_circuit_v(self.victim.charge);
        // All the heat of a short stays in the cell.
        let short_a = match short_ohm {
            Some(short) if self.victim.charge > 0.0 => {
                (open_v + self.victim.polarisation_v + current_a * ohm).max(0.0) / (short + ohm)
            }
            _ => 0.0,
        };
        let through = current_a - short_a;
        let capacity_as = self.capacity_ah() * 3600.0;
        // The RC pair's slow resistance counts for the load only: what a short draws is over too soon, or is hotter.
        self.victim.step(self.spec.chemistry, through, current_a, ohm, capacity_as, dt_s);
        if short_a > 0.0 {
            self.victim.terminal_v = short_ohm.map_or(self.victim.terminal_v, |short| short * short_a);
        } else if short_ohm.is_some() {
            self.victim.terminal_v = 0.0;
        }
        let joule = open_v * short_a + current_a * current_a * ohm;
        let polarisation = self.victim.polarisation_v.powi(2) / (ohm * RC_SHARE);
        self.self_heating = self.reactants.step(self.victim_celsius, dt_s, self.constants.cathode_heats);
        let above = self.victim_celsius - self.modules[0];
        let loss = self.spec.contact_per_s * above + HOT_LOSS_PER_S * (self.victim_celsius - 200.0).max(0.0);
        let rate = (joule + polarisation) / self.heat_capacity() + self.self_heating - loss;
        self.victim_celsius = (self.victim_celsius + rate * dt_s).min(1100.0);
    }
}

// === impl Cell ===

impl Cell {
    /// `through_a` changes the charge, `load_a` the voltage.
    fn step(&mut self, chemistry: Chemistry, through_a: f64, load_a: f64, ohm: f64, capacity_as: f64, dt_s: f64) {
        let ohm = ohm * self.resistance;
        self.charge = (self.charge + through_a * dt_s / (capacity_as * self.capacity)).clamp(0.0, 1.0);
        let settled = load_a * ohm * RC_SHARE;
        self.polarisation_v = settled + (self.polarisation_v - settled) * (-dt_s / RC_SECONDS).exp();
        self.terminal_v = chemistry.open_circuit_v(self.charge) + load_a * ohm + self.polarisation_v;
    }
}

pub(crate) fn between(random: &mut Rng, from: f64, to: f64) -> f64 {
    from + (to - from) * random.f64()
}

/// Uniform in the logarithm.
pub(crate) fn between_log(random: &mut Rng, from: f64, to: f64) -> f64 {
    (between(random, from.ln(), to.ln())).exp()
}

/// A normal deviate, from twelve uniform ones: no tails beyond six.
pub(crate) fn normal(random: &mut Rng) -> f64 {
    (0..12).map(|_| random.f64()).sum::<f64>() - 6.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> PackSpec {
        PackSpec {
            chemistry: Chemistry::Nmc,
            series: 96,
            capacity_ah: 100.0,
            health: 1.0,
            cooling_per_s: 1.0 / 600.0,
            contact_per_s: 1.0 / 120.0,
            sensor_share: 0.5,
            sensor_lag_s: 5.0,
            temperature_step: 0.1,
        }
    }

    fn around(short_ohm: Option<f64>) -> Surroundings {
        Surroundings { coolant_celsius: Some(25.0), ambient_celsius: 25.0, short_ohm }
    }

    #[test]
    fn charge_is_conserved() {
        let mut pack = Pack::new(spec(), 25.0, 0.5, &mut Rng::with_seed(1));
        let before = pack.charge();
        for _ in 0..3600 {
            pack.step(-30.0, &around(None), 1.0);
        }
        assert!((before - pack.charge() - 0.3).abs() < 0.001, "{} {}", before, pack.charge());
    }

    #[test]
    fn fast_charging_warms_it_by_some_degrees() {
        let mut pack = Pack::new(spec(), 25.0, 0.2, &mut Rng::with_seed(1));
        for _ in 0..900 {
            pack.step(200.0, &around(None), 1.0);
        }
        let warm = pack.mean_celsius();
        assert!((30.0..48.0).contains(&warm), "{warm}");
        let reading = pack.read(&mut Rng::with_seed(2));
        assert!(reading.cell_max_v - reading.cell_min_v < 0.1, "{reading:?}");
    }

    #[test]
    fn the_cold_raises_resistance() {
        let pack = Pack::new(spec(), 25.0, 0.5, &mut Rng::with_seed(1));
        let ratio = pack.resistance_ohm(-10.0) / pack.resistance_ohm(25.0);
        assert!((2.5..3.5).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_hard_short_runs_away_and_a_soft_one_does_not() {
        let after = |short_ohm: f64, seconds: u32| {
            let mut pack = Pack::new(spec(), 25.0, 0.8, &mut Rng::with_seed(1));
            let mut peak = 0.0_f64;
            for _ in 0..seconds * 4 {
                pack.step(0.0, &around(Some(short_ohm)), 0.25);
                peak = peak.max(pack.hottest_cell_celsius());
            }
            (peak, pack.read(&mut Rng::with_seed(2)))
        };
        assert!(after(10.0, 1800).0 < 27.0);
        let (celsius, reading) = after(0.002, 300);
        assert!(celsius > 400.0, "{celsius}");
        assert!(reading.cell_min_v < 2.0 && reading.hottest_celsius > 100.0, "{reading:?}");
    }
}
