//! What can go wrong: in a pack, in a sensor, and on the way.

use std::{fmt, str::FromStr};

use fastrand::Rng;

use crate::{Signal, SimError, pack::between_log};

/// A fault of one vehicle, from a time on.
#[derive(Debug, Clone, PartialEq)]
pub struct Fault {
    /// Which vehicle, from 0.
    pub vehicle: usize,
    /// When it begins, in seconds of the simulation.
    pub at_s: f64,
    /// What.
    pub kind: FaultKind,
}

/// What goes wrong.
#[derive(Debug, Clone, PartialEq)]
pub enum FaultKind {
    /// A cell shorts inside; none: drawn from the ranges of [`Short::draw`].
    InternalShort(Option<Short>),
    /// A sensor stays at the value it had.
    StuckSensor(Signal),
    /// The vehicle's clock is off by so many seconds.
    ClockSkew(f64),
    /// Batches are lost for so many seconds.
    Gap(f64),
    /// Every batch is sent twice.
    Duplicate,
    /// Values that cannot be.
    Garbage,
}

/// How an internal short develops: its resistance falls evenly in the logarithm.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Short {
    /// Resistance in ohm times the capacity in Ah, in the end.
    pub final_ohm_ah: f64,
    /// Seconds from 1,000 times that until it is reached.
    pub develops_s: f64,
}

// === impl Short ===

impl Short {
    /// A short as one might happen. Feng et al., Energy Storage Materials 10 (2018) 246, tell shorts that only discharge a
    /// cell from those that heat it within hours or minutes; a 50 Ah cell's of 2 to 40 mOhm are the second kind, hard to
    /// soft, and take from seconds (a nail, a dendrite that breaks through) to an hour to develop.
    pub fn draw(random: &mut Rng) -> Short {
        Short { final_ohm_ah: between_log(random, 0.1, 2.0), develops_s: between_log(random, 5.0, 3600.0) }
    }

    /// Its resistance in ohm so many seconds after it began.
    #[must_use]
    pub fn resistance_ohm(&self, capacity_ah: f64, since_s: f64) -> f64 {
        let undeveloped = 1.0 - (since_s / self.develops_s).clamp(0.0, 1.0);
        self.final_ohm_ah / capacity_ah * 1000.0_f64.powf(undeveloped)
    }
}

// === impl FaultKind ===

impl FaultKind {
    const NAMES: [&'static str; 6] = ["short", "stuck", "skew", "gap", "duplicate", "garbage"];

    /// Stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            FaultKind::InternalShort(_) => "short",
            FaultKind::StuckSensor(_) => "stuck",
            FaultKind::ClockSkew(_) => "skew",
            FaultKind::Gap(_) => "gap",
            FaultKind::Duplicate => "duplicate",
            FaultKind::Garbage => "garbage",
        }
    }
}

// === impl Fault ===

impl FromStr for Fault {
    type Err = SimError;

    /// `VEHICLE:KIND@SECOND`, such as `0:short@600`; a sensor that sticks is the hottest cell's, a clock is an hour ahead, a
    /// gap lasts a minute.
    fn from_str(text: &str) -> Result<Fault, SimError> {
        let refused = || SimError::Fault { text: text.chars().take(60).collect(), kinds: FaultKind::NAMES.join(", ") };
        let (vehicle, rest) = text.split_once(':').ok_or_else(refused)?;
        let (kind, at_s) = rest.split_once('@').ok_or_else(refused)?;
        let kind = match kind {
            "short" => FaultKind::InternalShort(None),
            "stuck" => FaultKind::StuckSensor(Signal::CellTemperatureMax),
            "skew" => FaultKind::ClockSkew(3600.0),
            "gap" => FaultKind::Gap(60.0),
            "duplicate" => FaultKind::Duplicate,
            "garbage" => FaultKind::Garbage,
            _ => return Err(refused()),
        };
        let at_s: f64 = at_s.parse().map_err(|_| refused())?;
        if !(0.0..1e9).contains(&at_s) {
            return Err(refused());
        }
        Ok(Fault { vehicle: vehicle.parse().map_err(|_| refused())?, at_s, kind })
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}@{}", self.vehicle, self.kind.name(), self.at_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_written_and_read() {
        for name in FaultKind::NAMES {
            let text = format!("3:{name}@600");
            let fault: Fault = text.parse().expect("a fault");
            assert_eq!(fault.to_string(), text);
        }
        for refused in ["", "short", "0:short", "x:short@1", "0:fire@1", "0:short@-1", "0:short@NaN"] {
            assert!(refused.parse::<Fault>().is_err(), "{refused}");
        }
    }

    #[test]
    fn a_short_develops() {
        let short = Short { final_ohm_ah: 1.0, develops_s: 100.0 };
        let ohm = |since| (short.resistance_ohm(50.0, since) * 1000.0).round();
        assert_eq!((ohm(0.0), ohm(50.0), ohm(100.0), ohm(1e6)), (20_000.0, 632.0, 20.0, 20.0));
    }
}
