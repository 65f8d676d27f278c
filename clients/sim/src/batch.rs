//! What a vehicle sends, and what was true meanwhile.

use serde::Serialize;

/// The signals that vehicles send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Signal {
    /// State of charge in percent.
    StateOfCharge,
    /// State of health in percent.
    StateOfHealth,
    /// Pack voltage in V.
    PackVoltage,
    /// Pack current in A, positive into the battery.
    PackCurrent,
    /// Hottest temperature sensor in degrees Celsius.
    CellTemperatureMax,
    /// Coldest temperature sensor in degrees Celsius.
    CellTemperatureMin,
    /// Mean of the temperature sensors in degrees Celsius.
    CellTemperatureMean,
    /// Strongest cell in V.
    CellVoltageMax,
    /// Weakest cell in V.
    CellVoltageMin,
    /// Whether it is charging.
    IsCharging,
    /// Speed in km/h.
    Speed,
    /// Odometer in km.
    TraveledDistance,
    /// Outside air in degrees Celsius.
    AirTemperature,
}

/// Readings of one vehicle, as a gateway numbers and sends them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Batch {
    /// The vehicle.
    pub vehicle_id: String,
    /// The gateway's start that counts the sequence.
    pub boot_id: String,
    /// Counted for each vehicle, from 1.
    pub sequence: u64,
    /// Sent before.
    pub is_resend: bool,
    /// Microseconds since 1970-01-01 UTC by the vehicle's clock.
    pub times_us: Vec<i64>,
    /// One for each signal, as long as `times_us`.
    pub columns: Vec<Column>,
}

/// Values of one signal; NaN where a reading has none.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Column {
    /// COVESA VSS path.
    #[serde(rename = "signal", serialize_with = "name")]
    pub signal: Signal,
    /// Values in the signal's unit.
    pub values: Vec<f32>,
}

/// What was true at the end of a batch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Truth {
    /// The vehicle.
    pub vehicle_id: String,
    /// Microseconds since 1970-01-01 UTC by a right clock.
    pub time_us: i64,
    /// The batch it stands beside.
    pub sequence: u64,
    /// The hottest cell inside, which may have no sensor.
    pub hottest_cell_celsius: f64,
    /// State of charge in percent.
    pub state_of_charge_percent: f64,
    /// State of health in percent.
    pub state_of_health_percent: f64,
    /// Resistance of an internal short in ohm.
    pub short_ohm: Option<f64>,
    /// Heat of decomposition as degrees Celsius a second.
    pub self_heating_celsius_per_s: f64,
    /// Whether the hottest cell has passed the temperature at which a quarter of tested cells had run away.
    pub passed_onset: bool,
    /// Names of the faults that had begun.
    pub faults: Vec<&'static str>,
}

fn name<S: serde::Serializer>(signal: &Signal, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(signal.name())
}

// === impl Signal ===

impl Signal {
    /// All of them, in the order of columns.
    pub const ALL: [Signal; 13] = [
        Signal::StateOfCharge,
        Signal::StateOfHealth,
        Signal::PackVoltage,
        Signal::PackCurrent,
        Signal::CellTemperatureMax,
        Signal::CellTemperatureMin,
        Signal::CellTemperatureMean,
        Signal::CellVoltageMax,
        Signal::CellVoltageMin,
        Signal::IsCharging,
        Signal::Speed,
        Signal::TraveledDistance,
        Signal::AirTemperature,
    ];

    /// COVESA VSS path.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Signal::StateOfCharge => "Vehicle.Powertrain.TractionBattery.StateOfCharge.Current",
            Signal::StateOfHealth => "Vehicle.Powertrain.TractionBattery.StateOfHealth",
            Signal::PackVoltage => "Vehicle.Powertrain.TractionBattery.CurrentVoltage",
            Signal::PackCurrent => "Vehicle.Powertrain.TractionBattery.CurrentCurrent",
            Signal::CellTemperatureMax => "Vehicle.Powertrain.TractionBattery.Temperature.Max",
            Signal::CellTemperatureMin => "Vehicle.Powertrain.TractionBattery.Temperature.Min",
            Signal::CellTemperatureMean => "Vehicle.Powertrain.TractionBattery.Temperature.Average",
            Signal::CellVoltageMax => "Vehicle.Powertrain.TractionBattery.CellVoltage.Max",
            Signal::CellVoltageMin => "Vehicle.Powertrain.TractionBattery.CellVoltage.Min",
            Signal::IsCharging => "Vehicle.Powertrain.TractionBattery.Charging.IsCharging",
            Signal::Speed => "Vehicle.Speed",
            Signal::TraveledDistance => "Vehicle.TraveledDistance",
            Signal::AirTemperature => "Vehicle.Exterior.AirTemperature",
        }
    }

    /// The signal of this path.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Signal> {
        Signal::ALL.into_iter().find(|signal| signal.name() == name)
    }

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

// === impl Batch ===

impl Batch {
    /// How many readings there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.times_us.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.times_us.is_empty()
    }

    /// The values of a signal.
    #[must_use]
    pub fn column(&self, signal: Signal) -> Option<&[f32]> {
        self.columns.iter().find(|column| column.signal == signal).map(|column| &*column.values)
    }
}
