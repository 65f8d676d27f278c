//! The feature vocabulary: every quantity a typed request may carry.
//!
//! A name here is a field name in `ev.*.v1` and an input name in a model's manifest, with one unit and one plausible range.
//! The range says what is physically possible for any electric vehicle, cell or station, not what a model was trained on;
//! a value outside it is a mistake of the sender (a wrong unit, a stuck sensor) and is refused.

use crate::{FeatureError, Problem};

/// What a feature's values look like.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FeatureKind {
    /// A number with unit, plausible from `min` to `max`, both inclusive.
    Number {
        /// Unit, in the spelling of the field name's suffix; `1` for counts and ratios.
        unit: &'static str,
        /// Smallest plausible value.
        min: f32,
        /// Largest plausible value.
        max: f32,
    },
    /// UTF-8 text of at most this many bytes.
    Text {
        /// Longest accepted value in bytes.
        max_bytes: usize,
    },
    /// True or false.
    Flag,
}

/// One entry of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FeatureSpec {
    /// Field name on the wire and input name in a manifest.
    pub name: &'static str,
    /// Kind, unit and plausible range.
    pub kind: FeatureKind,
}

/// A feature's value as it came from a caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// A number in the feature's unit.
    Number(f32),
    /// A text, not yet looked up in any vocabulary.
    Text(&'a str),
    /// A flag.
    Flag(bool),
}

macro_rules! vocabulary {
    (@kind number $unit:literal $min:literal $max:literal) => { FeatureKind::Number { unit: $unit, min: $min, max: $max } };
    (@kind text $max:literal) => { FeatureKind::Text { max_bytes: $max } };
    (@kind flag) => { FeatureKind::Flag };
    ($($(#[$doc:meta])+ $variant:ident = $name:literal, $kind:ident $($arg:literal)*;)+) => {
        /// A quantity a typed request may carry.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Feature { $($(#[$doc])+ $variant,)+ }

        impl Feature {
            /// Every feature, in declaration order; `ALL[f as usize] == f`.
            pub const ALL: &'static [Feature] = &[$(Feature::$variant,)+];
            const SPECS: &'static [FeatureSpec] =
                &[$(FeatureSpec { name: $name, kind: vocabulary!(@kind $kind $($arg)*) },)+];
        }
    };
}

vocabulary! {
    // --- vehicle (ev.range.v1) ---
    /// Manufacturer, such as `Tesla`.
    Make = "make", text 64;
    /// Model line, optionally with its trim, such as `Model 3 Long Range`.
    Model = "model", text 128;
    /// Model year.
    ModelYear = "model_year", number "1" 1990.0 2040.0;
    /// Usable battery capacity.
    BatteryCapacityKwh = "battery_capacity_kwh", number "kWh" 1.0 1000.0;
    /// Peak motor power.
    MotorPowerKw = "motor_power_kw", number "kW" 1.0 2500.0;
    /// Peak motor torque.
    TorqueNm = "torque_nm", number "N.m" 10.0 20000.0;
    /// Driven axle: `FWD`, `RWD` or `AWD`.
    Drivetrain = "drivetrain", text 16;
    /// Market segment, such as `C` or `C - Medium`.
    Segment = "segment", text 64;
    /// Body type, such as `SUV`.
    BodyType = "body_type", text 64;
    /// Number of seats.
    Seats = "seats", number "1" 1.0 100.0;
    /// Overall length.
    LengthMm = "length_mm", number "mm" 1000.0 26000.0;
    /// Overall width without mirrors.
    WidthMm = "width_mm", number "mm" 500.0 3500.0;
    /// Overall height.
    HeightMm = "height_mm", number "mm" 500.0 5000.0;
    /// Top speed.
    TopSpeedKmh = "top_speed_kmh", number "km/h" 20.0 500.0;
    /// Time from standstill to 100 km/h.
    Acceleration0To100KmhS = "acceleration_0_100_kmh_s", number "s" 1.0 120.0;
    /// Peak DC charging power.
    FastChargingPowerKw = "fast_charging_power_kw", number "kW" 0.0 4000.0;
    /// Braked towing capacity.
    TowingCapacityKg = "towing_capacity_kg", number "kg" 0.0 60000.0;
    /// Cargo volume with all seats up.
    CargoVolumeL = "cargo_volume_l", number "L" 0.0 100000.0;
    /// Which range is meant: `real_world` or `epa` (the US type-approval label).
    RangeCycle = "range_cycle", text 16;

    // --- charging station (ev.charging.v1) ---
    /// City or area of the station.
    Region = "region", text 128;
    /// `urban`, `suburban` or `rural`.
    CityType = "city_type", text 16;
    /// `AC` or `DC`.
    ChargerType = "charger_type", text 16;
    /// Power of the station's strongest connector.
    StationPowerKw = "station_power_kw", number "kW" 1.0 4000.0;
    /// Connectors of the station.
    ConnectorCount = "connector_count", number "1" 1.0 500.0;
    /// Stations at the same site, this one included.
    StationsAtSite = "stations_at_site", number "1" 1.0 1000.0;
    /// Mean sessions a day over the last 28 days.
    RecentSessionsPerDay = "recent_sessions_per_day", number "1/d" 0.0 2000.0;

    // --- cell and pack, aggregates over a charge or discharge (ev.battery.v1) ---
    /// Cell family, such as `nmc_lco_18650_2800mah`.
    CellFamily = "cell_family", text 64;
    /// Rated capacity of a cell.
    RatedCapacityAh = "rated_capacity_ah", number "Ah" 0.1 1000.0;
    /// Charge and discharge cycles so far.
    CycleCount = "cycle_count", number "1" 0.0 100000.0;
    /// Ambient temperature.
    AmbientTemperatureCelsius = "ambient_temperature_celsius", number "Cel" -60.0 70.0;
    /// Mean discharge current over rated capacity, positive.
    DischargeCRate = "discharge_c_rate", number "1/h" 0.0 20.0;
    /// Lowest cell voltage of the discharge.
    DischargeVoltageMinV = "discharge_voltage_min_v", number "V" 0.0 6.0;
    /// Highest cell voltage of the discharge.
    DischargeVoltageMaxV = "discharge_voltage_max_v", number "V" 0.0 6.0;
    /// Mean cell voltage of the discharge.
    DischargeVoltageMeanV = "discharge_voltage_mean_v", number "V" 0.0 6.0;
    /// Cell voltage when the discharge ended and the load was gone.
    DischargeVoltageEndV = "discharge_voltage_end_v", number "V" 0.0 6.0;
    /// Highest cell temperature of the discharge.
    DischargeTemperatureMaxCelsius = "discharge_temperature_max_celsius", number "Cel" -60.0 300.0;
    /// Mean cell temperature of the discharge.
    DischargeTemperatureMeanCelsius = "discharge_temperature_mean_celsius", number "Cel" -60.0 300.0;
    /// Duration of the discharge.
    DischargeDurationS = "discharge_duration_s", number "s" 0.0 1000000.0;
    /// Time a discharging cell took from 3.6 V to 3.4 V.
    DischargeDuration3v6To3v4S = "discharge_duration_3v6_to_3v4_s", number "s" 0.0 1000000.0;
    /// Lowest cell voltage of the charge.
    ChargeVoltageMinV = "charge_voltage_min_v", number "V" 0.0 6.0;
    /// Duration of the charge.
    ChargeDurationS = "charge_duration_s", number "s" 0.0 1000000.0;
    /// Duration of the charge's constant-current part.
    ChargeDurationConstantCurrentS = "charge_duration_constant_current_s", number "s" 0.0 1000000.0;
    /// That duration over its median in the cell's cycles 6 to 45.
    ChargeDurationConstantCurrentRatio = "charge_duration_constant_current_ratio", number "1" 0.0 100.0;
    /// Time the charge spent at or above 4.15 V.
    ChargeDurationAbove4v15S = "charge_duration_above_4v15_s", number "s" 0.0 1000000.0;
    /// Duration of the full cycle, rests included.
    CycleDurationS = "cycle_duration_s", number "s" 0.0 10000000.0;
    /// Mean cell voltage now.
    CellVoltageV = "cell_voltage_v", number "V" 0.0 6.0;
    /// Current now over rated capacity, positive when discharging.
    CRate = "c_rate", number "1/h" -20.0 20.0;
    /// Time since the discharge began.
    DischargeElapsedS = "discharge_elapsed_s", number "s" 0.0 1000000.0;
    /// Cell temperature when the discharge began.
    DischargeTemperatureStartCelsius = "discharge_temperature_start_celsius", number "Cel" -60.0 300.0;
    /// Variance of the difference of the capacity-voltage curves of cycles 100 and 10, log10 of Ah squared.
    CapacityDifferenceLog10Variance = "capacity_difference_log10_variance", number "1" -20.0 5.0;
    /// Mean of that difference.
    CapacityDifferenceMeanAh = "capacity_difference_mean_ah", number "Ah" -1000.0 1000.0;
    /// Minimum of that difference.
    CapacityDifferenceMinAh = "capacity_difference_min_ah", number "Ah" -1000.0 1000.0;
    /// Skewness of that difference.
    CapacityDifferenceSkewness = "capacity_difference_skewness", number "1" -1000.0 1000.0;
    /// Excess kurtosis of that difference.
    CapacityDifferenceKurtosis = "capacity_difference_kurtosis", number "1" -1000.0 1000.0;
    /// Discharge capacity of cycle 2.
    CapacityCycle2Ah = "capacity_cycle_2_ah", number "Ah" 0.01 1000.0;
    /// Discharge capacity of cycle 10.
    CapacityCycle10Ah = "capacity_cycle_10_ah", number "Ah" 0.01 1000.0;
    /// Discharge capacity of cycle 50.
    CapacityCycle50Ah = "capacity_cycle_50_ah", number "Ah" 0.01 1000.0;
    /// Discharge capacity of cycle 100.
    CapacityCycle100Ah = "capacity_cycle_100_ah", number "Ah" 0.01 1000.0;
    /// Highest discharge capacity of the first 100 cycles less that of cycle 2.
    CapacityMaxMinusCycle2Ah = "capacity_max_minus_cycle_2_ah", number "Ah" -1000.0 1000.0;
    /// Slope of the discharge capacity over cycles 2 to 100.
    CapacitySlope2To100AhPerCycle = "capacity_slope_2_100_ah_per_cycle", number "Ah" -100.0 100.0;
    /// Slope of the discharge capacity over cycles 91 to 100.
    CapacitySlope91To100AhPerCycle = "capacity_slope_91_100_ah_per_cycle", number "Ah" -100.0 100.0;

    // --- pack now (ev.thermal.v1) ---
    /// Highest cell temperature now.
    CellTemperatureMaxCelsius = "cell_temperature_max_celsius", number "Cel" -60.0 1200.0;
    /// Lowest cell temperature now.
    CellTemperatureMinCelsius = "cell_temperature_min_celsius", number "Cel" -60.0 1200.0;
    /// Mean cell temperature now.
    CellTemperatureMeanCelsius = "cell_temperature_mean_celsius", number "Cel" -60.0 1200.0;
    /// Rate of the highest cell temperature over the last 10 s.
    CellTemperatureRateCelsiusPerS = "cell_temperature_rate_celsius_per_s", number "Cel/s" -100.0 1000.0;
    /// Pack voltage now.
    PackVoltageV = "pack_voltage_v", number "V" 0.0 2000.0;
    /// Pack current now, positive when charging.
    PackCurrentA = "pack_current_a", number "A" -5000.0 5000.0;
    /// Lowest cell voltage now.
    CellVoltageMinV = "cell_voltage_min_v", number "V" 0.0 6.0;
    /// Drop of the lowest cell voltage over the last 10 s, percent of its value before.
    CellVoltageDropPercent = "cell_voltage_drop_percent", number "%" -100.0 100.0;
    /// Cells in series.
    CellsInSeries = "cells_in_series", number "1" 1.0 1000.0;
    /// State of charge.
    StateOfChargePercent = "state_of_charge_percent", number "%" 0.0 100.0;
    /// State of health.
    StateOfHealthPercent = "state_of_health_percent", number "%" 0.0 120.0;
    /// Internal resistance of a cell.
    InternalResistanceMohm = "internal_resistance_mohm", number "mOhm" 0.0 10000.0;
    /// Relative humidity in the pack.
    HumidityPercent = "humidity_percent", number "%" 0.0 100.0;
    /// A moisture sensor has tripped.
    MoistureDetected = "moisture_detected", flag;
    /// Vibration, root mean square.
    VibrationMg = "vibration_mg", number "mg" 0.0 100000.0;
    /// Absolute pressure in the pack.
    PressureKpa = "pressure_kpa", number "kPa" 0.0 2000.0;
}

// === impl Feature ===

impl Feature {
    /// Number of features in the vocabulary.
    pub const COUNT: usize = Feature::ALL.len();

    /// Name, unit and plausible range.
    #[must_use]
    pub fn spec(self) -> &'static FeatureSpec {
        &Feature::SPECS[self as usize]
    }

    /// Field name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The feature of this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<Feature> {
        Feature::ALL.iter().copied().find(|feature| feature.name() == name)
    }

    /// Checks a value against the feature's kind and plausible range.
    ///
    /// # Errors
    ///
    /// When the kind differs, a number is not finite or outside its plausible range, or a text is too long.
    #[inline]
    pub fn check(self, value: Value<'_>) -> Result<(), FeatureError> {
        let problem = match (value, self.spec().kind) {
            (Value::Number(number), FeatureKind::Number { min, max, .. }) if number >= min && number <= max => {
                return Ok(());
            }
            (Value::Text(text), FeatureKind::Text { max_bytes }) if text.len() <= max_bytes => return Ok(()),
            (Value::Flag(_), FeatureKind::Flag) => return Ok(()),
            (Value::Number(number), FeatureKind::Number { unit, min, max }) => {
                if number.is_finite() {
                    Problem::OutOfRange { value: number, min, max, unit }
                } else {
                    Problem::NotFinite { value: number }
                }
            }
            (Value::Text(text), FeatureKind::Text { max_bytes }) => Problem::TooLong { bytes: text.len(), max_bytes },
            (_, FeatureKind::Number { .. }) => Problem::WrongKind { expected: "a number" },
            (_, FeatureKind::Text { .. }) => Problem::WrongKind { expected: "a text" },
            (_, FeatureKind::Flag) => Problem::WrongKind { expected: "true or false" },
        };
        Err(FeatureError { field: self.name(), problem })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_lead_back() {
        for (index, feature) in Feature::ALL.iter().enumerate() {
            assert_eq!(*feature as usize, index);
            assert_eq!(Feature::by_name(feature.name()), Some(*feature));
        }
    }

    #[test]
    fn a_number_is_checked_against_its_plausible_range() {
        let check = |value: f32, expected: Option<&str>| {
            let error = Feature::BatteryCapacityKwh.check(Value::Number(value)).err().map(|e| e.to_string());
            assert_eq!(error.as_deref(), expected);
        };
        check(60.0, None);
        check(1.0, None);
        check(1000.0, None);
        check(0.5, Some("`battery_capacity_kwh` is 0.5, expected 1 to 1000 kWh"));
        check(60000.0, Some("`battery_capacity_kwh` is 60000, expected 1 to 1000 kWh"));
        let error = Feature::Seats.check(Value::Number(0.0)).expect_err("no seats");
        assert_eq!(error.to_string(), "`seats` is 0, expected 1 to 100");
        check(f32::NAN, Some("`battery_capacity_kwh` is NaN, expected a finite number"));
        check(f32::NEG_INFINITY, Some("`battery_capacity_kwh` is -inf, expected a finite number"));
    }

    #[test]
    fn a_text_is_bounded() {
        assert!(Feature::Make.check(Value::Text("Tesla")).is_ok());
        let long = "x".repeat(65);
        assert!(Feature::Make.check(Value::Text(&long)).is_err());
    }

    #[test]
    fn a_value_of_another_kind_is_refused() {
        assert!(Feature::Make.check(Value::Number(1.0)).is_err());
        assert!(Feature::MoistureDetected.check(Value::Text("yes")).is_err());
    }
}
