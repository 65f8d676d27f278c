//! The signal catalogue: every quantity telemetry may carry, named after COVESA VSS.
//!
//! A signal has one unit and one plausible range. As with features, the range says what is physically possible, and a
//! value outside it is a mistake of the sender.

use std::{borrow::Cow, collections::HashMap};

/// A signal's place in its [`Catalogue`]. The built-in ones are constants of this module; what is kept for longer than
/// the process lives names signals by their text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SignalId(u16);

/// What a signal's values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignalKind {
    /// A number in the signal's unit.
    Number,
    /// False or true, carried as 0 or 1.
    Flag,
}

/// One entry of a catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// Path in the Vehicle Signal Specification, or a fleet's own below `Vehicle.Private`.
    pub name: Cow<'static, str>,
    /// Unit, spelled as VSS spells it; `1` for counts, ratios and flags.
    pub unit: Cow<'static, str>,
    /// Number or flag.
    pub kind: SignalKind,
    /// Smallest plausible value.
    pub min: f32,
    /// Largest plausible value.
    pub max: f32,
}

/// All signals a server knows.
#[derive(Debug, Clone)]
pub struct Catalogue {
    signals: Vec<Signal>,
    by_name: HashMap<Cow<'static, str>, SignalId>,
}

macro_rules! catalogue {
    (@kind number) => { SignalKind::Number };
    (@kind flag) => { SignalKind::Flag };
    ($($(#[$doc:meta])+ $name:ident = $path:literal, $kind:ident $unit:literal $min:literal $max:literal;)+) => {
        catalogue!(@ids 0u16; $($(#[$doc])+ $name;)+);
        fn built_in() -> Vec<Signal> {
            vec![$(Signal {
                name: Cow::Borrowed($path),
                unit: Cow::Borrowed($unit),
                kind: catalogue!(@kind $kind),
                min: $min,
                max: $max,
            },)+]
        }
    };
    (@ids $index:expr; $(#[$doc:meta])+ $name:ident; $($rest:tt)*) => {
        $(#[$doc])+
        pub const $name: SignalId = SignalId($index);
        catalogue!(@ids $index + 1; $($rest)*);
    };
    (@ids $index:expr;) => {};
}

catalogue! {
    // --- traction battery ---
    /// State of charge as the battery management sees it.
    STATE_OF_CHARGE = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", number "percent" 0.0 100.0;
    /// State of health.
    STATE_OF_HEALTH = "Vehicle.Powertrain.TractionBattery.StateOfHealth", number "percent" 0.0 120.0;
    /// Pack voltage.
    PACK_VOLTAGE = "Vehicle.Powertrain.TractionBattery.CurrentVoltage", number "V" 0.0 2000.0;
    /// Pack current, positive into the battery.
    PACK_CURRENT = "Vehicle.Powertrain.TractionBattery.CurrentCurrent", number "A" -5000.0 5000.0;
    /// Electrical power, positive into the battery.
    PACK_POWER = "Vehicle.Powertrain.TractionBattery.CurrentPower", number "W" -5000000.0 5000000.0;
    /// Highest cell temperature.
    CELL_TEMPERATURE_MAX = "Vehicle.Powertrain.TractionBattery.Temperature.Max", number "celsius" -60.0 1200.0;
    /// Lowest cell temperature.
    CELL_TEMPERATURE_MIN = "Vehicle.Powertrain.TractionBattery.Temperature.Min", number "celsius" -60.0 1200.0;
    /// Mean cell temperature.
    CELL_TEMPERATURE_MEAN = "Vehicle.Powertrain.TractionBattery.Temperature.Average", number "celsius" -60.0 1200.0;
    /// Highest cell voltage.
    CELL_VOLTAGE_MAX = "Vehicle.Powertrain.TractionBattery.CellVoltage.Max", number "V" 0.0 6.0;
    /// Lowest cell voltage.
    CELL_VOLTAGE_MIN = "Vehicle.Powertrain.TractionBattery.CellVoltage.Min", number "V" 0.0 6.0;
    /// Whether the battery is being charged.
    IS_CHARGING = "Vehicle.Powertrain.TractionBattery.Charging.IsCharging", flag "1" 0.0 1.0;
    /// Remaining range as the vehicle shows it.
    RANGE = "Vehicle.Powertrain.TractionBattery.Range", number "m" 0.0 3000000.0;

    // --- vehicle ---
    /// Speed.
    SPEED = "Vehicle.Speed", number "km/h" -250.0 500.0;
    /// Odometer.
    TRAVELED_DISTANCE = "Vehicle.TraveledDistance", number "km" 0.0 10000000.0;
    /// Outside air temperature.
    AIR_TEMPERATURE = "Vehicle.Exterior.AirTemperature", number "celsius" -60.0 70.0;
}

// === impl SignalId ===

impl SignalId {
    /// Its index in the catalogue.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

// === impl Catalogue ===

impl Default for Catalogue {
    fn default() -> Catalogue {
        Catalogue::standard()
    }
}

impl Catalogue {
    /// The built-in signals.
    #[must_use]
    pub fn standard() -> Catalogue {
        let signals = built_in();
        let by_name = (0u16..).zip(&signals).map(|(id, signal)| (signal.name.clone(), SignalId(id))).collect();
        Catalogue { signals, by_name }
    }

    /// The signal of this VSS path.
    #[must_use]
    pub fn by_name(&self, name: &str) -> Option<SignalId> {
        self.by_name.get(name).copied()
    }

    /// What is known of a signal. `id` must come from this catalogue; of another's, the answer may be another signal.
    #[must_use]
    pub fn signal(&self, id: SignalId) -> Option<&Signal> {
        self.signals.get(id.index())
    }

    /// All, in order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = (SignalId, &Signal)> {
        (0u16..).map(SignalId).zip(&self.signals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        let catalogue = Catalogue::standard();
        for (id, signal) in catalogue.iter() {
            assert_eq!(catalogue.by_name(&signal.name), Some(id));
            assert!(signal.min < signal.max);
        }
        assert_eq!(catalogue.signal(SPEED).map(|signal| &*signal.unit), Some("km/h"));
    }
}
