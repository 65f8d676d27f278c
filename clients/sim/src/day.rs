//! What a vehicle does all day.

use fastrand::Rng;

use crate::pack::{between, between_log};

/// What a vehicle is doing when the simulation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// It is night, and it is parked.
    #[default]
    Night,
    /// It drives.
    Driving,
    /// It charges fast.
    Charging,
}

/// One thing a vehicle does.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Activity {
    Parked,
    Driving,
    /// At most this power in W.
    Charging {
        power_w: f64,
        until: f64,
    },
}

/// Activities one after the other, for ever.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    pub(crate) activity: Activity,
    pub(crate) left_s: f64,
    next: usize,
}

// === impl Day ===

impl Day {
    pub(crate) fn start(start: Start, energy_kwh: f64, random: &mut Rng) -> Day {
        let (activity, left_s, next) = match start {
            Start::Night => (Activity::Parked, between(random, 5.0, 8.0) * 3600.0, 1),
            Start::Driving => (Activity::Driving, between(random, 2400.0, 4800.0), 2),
            Start::Charging => (fast_charge(energy_kwh, random), 7200.0, 4),
        };
        Day { activity, left_s, next }
    }

    /// Moves on when an activity is over.
    pub(crate) fn advance(&mut self, charge: f64, energy_kwh: f64, random: &mut Rng) {
        let full = matches!(self.activity, Activity::Charging { until, .. } if charge >= until);
        let empty = self.activity == Activity::Driving && charge < 0.08;
        if empty {
            (self.activity, self.left_s) = (fast_charge(energy_kwh, random), 7200.0);
            return;
        }
        if self.left_s > 0.0 && !full {
            return;
        }
        let drive = |random: &mut Rng| (Activity::Driving, between_log(random, 900.0, 5400.0));
        (self.activity, self.left_s) = match self.next % 6 {
            0 => (Activity::Parked, between(random, 5.0, 8.0) * 3600.0),
            1 => drive(random),
            2 => (Activity::Parked, between(random, 1.0, 5.0) * 3600.0),
            3 if charge < 0.6 => (fast_charge(energy_kwh, random), 7200.0),
            3 => (Activity::Parked, 600.0),
            4 => drive(random),
            _ => (
                Activity::Charging { power_w: between(random, 7_000.0, 11_000.0), until: between(random, 0.8, 1.0) },
                8.0 * 3600.0,
            ),
        };
        self.next += 1;
    }
}

/// One to two and a half times the capacity in an hour.
fn fast_charge(energy_kwh: f64, random: &mut Rng) -> Activity {
    Activity::Charging { power_w: 1000.0 * energy_kwh * between(random, 1.0, 2.5), until: between(random, 0.7, 0.85) }
}
