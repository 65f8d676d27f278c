//! The signal catalogue: every quantity telemetry may carry, named after COVESA VSS.
//!
//! A signal has one unit and one plausible range. As with features, the range says what is physically possible, and a
//! value outside it is a mistake of the sender.

use std::{borrow::Cow, collections::HashMap};

use crate::{
    Naming, SignalError,
    overlay::{self, OverlayError},
    units,
};

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
    /// A fleet's own short names, with the unit they come in.
    aliases: HashMap<String, (SignalId, String)>,
}

/// How a sender's values become a signal's: `value * factor + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Binding {
    /// The signal.
    pub signal: SignalId,
    factor: f64,
    offset: f64,
}

/// A signal from outside, to be added to a catalogue or to narrow one of its signals.
pub(crate) struct Addition {
    pub(crate) name: String,
    pub(crate) unit: Option<String>,
    pub(crate) kind: Option<SignalKind>,
    pub(crate) min: Option<f32>,
    pub(crate) max: Option<f32>,
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
    /// State of charge as the driver sees it.
    STATE_OF_CHARGE_DISPLAYED = "Vehicle.Powertrain.TractionBattery.StateOfCharge.Displayed", number "percent" 0.0 100.0;
    /// Energy in the battery.
    STORED_ENERGY = "Vehicle.Powertrain.TractionBattery.StateOfCharge.CurrentEnergy", number "kWh" 0.0 5000.0;
    /// State of health.
    STATE_OF_HEALTH = "Vehicle.Powertrain.TractionBattery.StateOfHealth", number "percent" 0.0 120.0;
    /// Net capacity, considering ageing.
    NET_CAPACITY = "Vehicle.Powertrain.TractionBattery.NetCapacity", number "kWh" 0.0 5000.0;
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
    /// Energy charged over the battery's life.
    CHARGED_ENERGY = "Vehicle.Powertrain.TractionBattery.AccumulatedChargedEnergy", number "kWh" 0.0 10000000.0;
    /// Energy taken out over the battery's life.
    CONSUMED_ENERGY = "Vehicle.Powertrain.TractionBattery.AccumulatedConsumedEnergy", number "kWh" 0.0 10000000.0;
    /// Charge put in over the battery's life.
    CHARGED_THROUGHPUT = "Vehicle.Powertrain.TractionBattery.AccumulatedChargedThroughput", number "Ah" 0.0 100000000.0;
    /// Remaining range as the vehicle shows it.
    RANGE = "Vehicle.Powertrain.TractionBattery.Range", number "m" 0.0 3000000.0;

    // --- charging ---
    /// Whether energy flows from a charger to the vehicle.
    IS_CHARGING = "Vehicle.Powertrain.TractionBattery.Charging.IsCharging", flag "1" 0.0 1.0;
    /// Whether energy flows from the vehicle to a charger.
    IS_DISCHARGING = "Vehicle.Powertrain.TractionBattery.Charging.IsDischarging", flag "1" 0.0 1.0;
    /// State of charge at which charging ends.
    CHARGE_LIMIT = "Vehicle.Powertrain.TractionBattery.Charging.ChargeLimit", number "percent" 0.0 100.0;
    /// DC current at the inlet, negative when energy is returned.
    CHARGE_CURRENT_DC = "Vehicle.Powertrain.TractionBattery.Charging.ChargeCurrent.DC", number "A" -5000.0 5000.0;
    /// DC voltage at the inlet.
    CHARGE_VOLTAGE_DC = "Vehicle.Powertrain.TractionBattery.Charging.ChargeVoltage.DC", number "V" 0.0 2000.0;
    /// Time until charging is complete.
    CHARGE_TIME_REMAINING = "Vehicle.Powertrain.TractionBattery.Charging.TimeToComplete", number "s" 0.0 1000000.0;

    // --- what VSS has no name for, of the battery ---
    /// Relative humidity in the pack.
    PACK_HUMIDITY = "Vehicle.Private.TractionBattery.Humidity", number "percent" 0.0 100.0;
    /// A moisture sensor in the pack has tripped.
    PACK_MOISTURE = "Vehicle.Private.TractionBattery.IsMoistureDetected", flag "1" 0.0 1.0;
    /// Vibration of the pack, root mean square.
    PACK_VIBRATION = "Vehicle.Private.TractionBattery.Vibration", number "mg" 0.0 100000.0;
    /// Absolute pressure in the pack.
    PACK_PRESSURE = "Vehicle.Private.TractionBattery.Pressure", number "kPa" 0.0 2000.0;
    /// Internal resistance of a cell.
    CELL_RESISTANCE = "Vehicle.Private.TractionBattery.InternalResistance", number "mOhm" 0.0 10000.0;
    /// Full charge and discharge cycles so far.
    CYCLE_COUNT = "Vehicle.Private.TractionBattery.CycleCount", number "1" 0.0 100000.0;

    // --- drive ---
    /// Power of the electric motor.
    MOTOR_POWER = "Vehicle.Powertrain.ElectricMotor.Power", number "kW" -2500.0 2500.0;
    /// Torque of the electric motor.
    MOTOR_TORQUE = "Vehicle.Powertrain.ElectricMotor.Torque", number "Nm" -20000.0 20000.0;
    /// Speed of the electric motor.
    MOTOR_SPEED = "Vehicle.Powertrain.ElectricMotor.Speed", number "rpm" -50000.0 50000.0;
    /// Temperature of the electric motor.
    MOTOR_TEMPERATURE = "Vehicle.Powertrain.ElectricMotor.Temperature", number "celsius" -60.0 400.0;

    // --- vehicle ---
    /// Speed.
    SPEED = "Vehicle.Speed", number "km/h" -250.0 500.0;
    /// Odometer.
    TRAVELED_DISTANCE = "Vehicle.TraveledDistance", number "km" 0.0 10000000.0;
    /// Longitudinal acceleration.
    ACCELERATION_LONGITUDINAL = "Vehicle.Acceleration.Longitudinal", number "m/s^2" -200.0 200.0;
    /// Latitude in WGS 84; as a 32-bit float it is good to half a metre.
    LATITUDE = "Vehicle.CurrentLocation.Latitude", number "degrees" -90.0 90.0;
    /// Longitude in WGS 84; as a 32-bit float it is good to a metre.
    LONGITUDE = "Vehicle.CurrentLocation.Longitude", number "degrees" -180.0 180.0;
    /// Altitude above the WGS 84 ellipsoid.
    ALTITUDE = "Vehicle.CurrentLocation.Altitude", number "m" -1000.0 10000.0;
    /// Outside air temperature.
    AIR_TEMPERATURE = "Vehicle.Exterior.AirTemperature", number "celsius" -60.0 70.0;
    /// Outside relative humidity.
    AIR_HUMIDITY = "Vehicle.Exterior.Humidity", number "percent" 0.0 100.0;
    /// Air temperature in the cabin.
    CABIN_TEMPERATURE = "Vehicle.Cabin.HVAC.AmbientAirTemperature", number "celsius" -60.0 120.0;
    /// Voltage of the low-voltage battery.
    LOW_VOLTAGE = "Vehicle.LowVoltageBattery.CurrentVoltage", number "V" 0.0 60.0;
}

/// Most signals of a catalogue.
const SIGNALS_MAX: usize = 4096;
/// Longest name of a signal in bytes.
const NAME_MAX_BYTES: usize = 128;

fn is_path(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    name.len() <= NAME_MAX_BYTES && name.starts_with("Vehicle.") && name.split('.').all(part)
}

fn range(min: f32, max: f32) -> Result<(f32, f32), String> {
    if min.is_finite() && max.is_finite() && min < max {
        Ok((min, max))
    } else {
        Err(format!("has the range {min} to {max}, expected two finite numbers, the smaller one first"))
    }
}

// === impl Binding ===

impl Binding {
    /// A sender's value in the signal's unit.
    #[must_use]
    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "a number too large for float32 is infinite, and refused")]
    pub fn apply(&self, value: f32) -> f32 {
        (f64::from(value) * self.factor + self.offset) as f32
    }

    /// Whether values stay as they are.
    #[must_use]
    pub fn is_identity(&self) -> bool {
        self.factor == 1.0 && self.offset == 0.0
    }
}

// === impl Signal ===

impl Signal {
    /// Whether a value in the signal's unit is plausible.
    #[must_use]
    #[inline]
    pub fn accepts(&self, value: f32) -> bool {
        value >= self.min && value <= self.max
    }
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
        Catalogue { signals, by_name, aliases: HashMap::new() }
    }

    /// The catalogue with a fleet's own signals and short names, from a TOML file:
    ///
    /// ```
    /// # use ev_domain::{Catalogue, Naming};
    /// let overlay = r#"
    ///     [[signal]]                          # a new one: everything is needed
    ///     name = "Vehicle.Private.Doors.Cycles"
    ///     unit = "1"
    ///     min = 0
    ///     max = 10_000_000
    ///
    ///     [[signal]]                          # a known one: its range, narrower
    ///     name = "Vehicle.Speed"
    ///     max = 120
    ///
    ///     [[alias]]                           # a name in `SIGNAL_NAMING_SHORT`
    ///     name = "v_pack"
    ///     signal = "Vehicle.Powertrain.TractionBattery.CurrentVoltage"
    ///     unit = "mV"
    /// "#;
    /// let catalogue = Catalogue::standard().with_overlay(overlay)?;
    /// let binding = catalogue.bind(Naming::Short, "v_pack", "")?;
    /// assert_eq!(binding.apply(350_500.0), 350.5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// What is wrong with which entry.
    pub fn with_overlay(mut self, toml: &str) -> Result<Catalogue, OverlayError> {
        overlay::apply(&mut self, toml)?;
        Ok(self)
    }

    /// How values that a sender calls `name` and sends in `unit` become a signal's. An empty unit is the usual one.
    ///
    /// # Errors
    ///
    /// When the name is not known, the unit is one of another quantity, or the unit must be said and is not.
    pub fn bind(&self, naming: Naming, name: &str, unit: &str) -> Result<Binding, SignalError> {
        let unknown = || SignalError::Unknown { name: SignalError::excerpt(name), expected: naming.described() };
        let own = || self.aliases.get(name).map(|(signal, unit)| (*signal, unit.as_str()));
        let (signal, usual) = match naming {
            Naming::Vss => self.by_name(name).and_then(|id| Some((id, &*self.signal(id)?.unit))),
            Naming::TeslaFleetTelemetry | Naming::Short => {
                let known = naming.aliases().iter().find(|alias| alias.name == name);
                let own = if naming == Naming::Short { own() } else { None };
                own.or_else(|| known.map(|alias| (alias.signal, alias.unit)))
            }
        }
        .ok_or_else(unknown)?;
        let base = self.signal(signal).map(|signal| &*signal.unit).ok_or_else(unknown)?;
        let unit = if unit.is_empty() { usual } else { unit };
        if unit.is_empty() {
            return Err(SignalError::UnitNotSaid { name: SignalError::excerpt(name), unit: base.to_owned() });
        }
        let units::Conversion { factor, offset } =
            units::conversion(unit, base).ok_or_else(|| SignalError::WrongUnit {
                name: SignalError::excerpt(name),
                unit: SignalError::excerpt(unit),
                expected: units::alternatives(base),
            })?;
        Ok(Binding { signal, factor, offset })
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

    /// Adds a signal, or changes the range of one that is there.
    pub(crate) fn add(&mut self, addition: Addition) -> Result<(), String> {
        let Addition { name, unit, kind, min, max } = addition;
        if let Some(id) = self.by_name(&name) {
            if unit.is_some() || kind.is_some() {
                return Err("is a signal already; only its `min` and `max` may be changed".to_owned());
            }
            let signal = &mut self.signals[id.index()];
            (signal.min, signal.max) = range(min.unwrap_or(signal.min), max.unwrap_or(signal.max))?;
            return Ok(());
        }
        let (Some(unit), Some(min), Some(max)) = (unit, min, max) else {
            return Err("is a new signal, which needs `unit`, `min` and `max`".to_owned());
        };
        if !is_path(&name) {
            return Err("is not a VSS path, such as `Vehicle.Private.Doors.Cycles`".to_owned());
        }
        let id = u16::try_from(self.signals.len()).ok().filter(|id| usize::from(*id) < SIGNALS_MAX);
        let id = id.map(SignalId).ok_or_else(|| format!("is one too many: {SIGNALS_MAX} signals are the most"))?;
        let (min, max) = range(min, max)?;
        let name: Cow<'static, str> = Cow::Owned(name);
        self.by_name.insert(name.clone(), id);
        self.signals.push(Signal { name, unit: unit.into(), kind: kind.unwrap_or(SignalKind::Number), min, max });
        Ok(())
    }

    /// Adds a short name.
    pub(crate) fn alias(&mut self, name: String, signal: &str, unit: Option<String>) -> Result<(), String> {
        let id = self.by_name(signal).ok_or_else(|| format!("names `{signal}`, which is no signal"))?;
        let base = self.signals[id.index()].unit.to_string();
        let unit = unit.unwrap_or_else(|| base.clone());
        if units::conversion(&unit, &base).is_none() {
            return Err(format!("has the unit `{unit}`, expected one of {}", units::alternatives(&base)));
        }
        if name.is_empty() || name.len() > NAME_MAX_BYTES {
            return Err(format!("has a name of {} bytes, expected 1 to {NAME_MAX_BYTES}", name.len()));
        }
        self.aliases.insert(name, (id, unit));
        Ok(())
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

    #[test]
    fn names_and_units_of_senders_are_bound() {
        let catalogue = Catalogue::standard();
        let check = |naming: Naming, name: &str, unit: &str, value: f32, expected: Result<(SignalId, f32), &str>| {
            let found = catalogue.bind(naming, name, unit).map(|binding| (binding.signal, binding.apply(value)));
            assert_eq!(found.map_err(|error| error.to_string()), expected.map_err(str::to_owned), "{name} {unit}");
        };
        check(Naming::Vss, "Vehicle.Speed", "", 100.0, Ok((SPEED, 100.0)));
        check(Naming::Vss, "Vehicle.Speed", "mph", 100.0, Ok((SPEED, 160.9344)));
        check(Naming::TeslaFleetTelemetry, "VehicleSpeed", "", 100.0, Ok((SPEED, 160.9344)));
        check(Naming::TeslaFleetTelemetry, "PackCurrent", "-A", 12.0, Ok((PACK_CURRENT, -12.0)));
        check(Naming::Short, "soc", "", 81.0, Ok((STATE_OF_CHARGE, 81.0)));
        check(Naming::Short, "soc", "ratio", 0.5, Ok((STATE_OF_CHARGE, 50.0)));
        check(
            Naming::Short,
            "battery_current",
            "",
            1.0,
            Err("signal `battery_current` needs its unit: `A`, or `-A` where it counts the other way"),
        );
        check(
            Naming::Vss,
            "Vehicle.Speed",
            "V",
            1.0,
            Err("signal `Vehicle.Speed` is declared in `V`, expected one of m/s, km/h, mph"),
        );
        check(
            Naming::Vss,
            "VehicleSpeed",
            "",
            1.0,
            Err("signal `VehicleSpeed` is unknown, expected a VSS path of the catalogue"),
        );
    }
}
