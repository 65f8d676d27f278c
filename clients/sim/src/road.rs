//! How a vehicle drives: speeds, and the power they take.

use fastrand::Rng;

use crate::pack::{between, normal};

/// kg/m3.
const AIR_DENSITY: f64 = 1.2;
const GRAVITY: f64 = 9.81;

/// What a vehicle's motion takes.
#[derive(Debug, Clone)]
pub(crate) struct Body {
    mass_kg: f64,
    drag_m2: f64,
    rolling: f64,
    auxiliary_w: f64,
    power_max_w: f64,
    regeneration_max_w: f64,
}

/// A drive as it goes: accelerate to a speed, keep it, brake, stand.
#[derive(Debug, Clone)]
pub(crate) struct Drive {
    speed_mps: f64,
    target_mps: f64,
    hold_s: f64,
    fast: f64,
    grade: f64,
}

// === impl Body ===

impl Body {
    pub(crate) fn draw(energy_kwh: f64, random: &mut Rng) -> Body {
        Body {
            mass_kg: 1100.0 + 8.0 * energy_kwh + between(random, -150.0, 400.0),
            drag_m2: between(random, 0.5, 0.9),
            rolling: between(random, 0.008, 0.012),
            auxiliary_w: between(random, 400.0, 2500.0),
            power_max_w: 1000.0 * energy_kwh * between(random, 1.5, 3.5),
            regeneration_max_w: 1000.0 * energy_kwh * between(random, 0.5, 1.2),
        }
    }

    /// Power out of the battery in W; negative when braking.
    fn power_w(&self, speed_mps: f64, acceleration: f64, grade: f64) -> f64 {
        let force = self.mass_kg * (acceleration + GRAVITY * grade)
            + 0.5 * AIR_DENSITY * self.drag_m2 * speed_mps * speed_mps
            + if speed_mps > 0.1 { self.mass_kg * GRAVITY * self.rolling } else { 0.0 };
        let wheel = force * speed_mps;
        let battery = if wheel > 0.0 { wheel / 0.88 } else { wheel * 0.65 };
        (battery + self.auxiliary_w).clamp(-self.regeneration_max_w, self.power_max_w)
    }
}

// === impl Drive ===

impl Drive {
    pub(crate) fn start(random: &mut Rng) -> Drive {
        Drive { speed_mps: 0.0, target_mps: 0.0, hold_s: 5.0, fast: random.f64(), grade: 0.0 }
    }

    pub(crate) fn speed_mps(&self) -> f64 {
        self.speed_mps
    }

    /// Drives for a second; what comes back is the power out of the battery in W.
    pub(crate) fn step(&mut self, body: &Body, random: &mut Rng) -> f64 {
        self.hold_s -= 1.0;
        if self.hold_s <= 0.0 {
            let stops = random.f64() < 0.3 - 0.2 * self.fast;
            self.target_mps = if stops { 0.0 } else { between(random, 8.0, 14.0 + 24.0 * self.fast) };
            self.hold_s =
                if stops { between(random, 5.0, 40.0) } else { between(random, 20.0, 60.0 + 300.0 * self.fast) };
            self.grade = normal(random) * 0.015;
        }
        let difference = self.target_mps + normal(random) * 0.2 - self.speed_mps;
        let acceleration = difference.clamp(-2.5, 2.2).max(-self.speed_mps);
        self.speed_mps = (self.speed_mps + acceleration).max(0.0);
        if self.target_mps == 0.0 && self.speed_mps < 0.3 {
            self.speed_mps = 0.0;
        }
        body.power_w(self.speed_mps, acceleration, if self.speed_mps > 0.0 { self.grade } else { 0.0 })
    }
}
