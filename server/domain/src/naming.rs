//! Other people's names for signals.

use crate::signals::{self, SignalId};

/// Whose names a sender uses for its signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Naming {
    /// COVESA VSS paths.
    #[default]
    Vss,
    /// Field names of Tesla's fleet-telemetry.
    TeslaFleetTelemetry,
    /// Short names, as home-made dashboards and battery twins use them.
    Short,
}

/// A name, the signal it means, and the unit it usually comes in.
pub(crate) struct Alias {
    pub(crate) name: &'static str,
    pub(crate) signal: SignalId,
    /// Empty: the sender must say it, because it cannot be known.
    pub(crate) unit: &'static str,
}

const fn alias(name: &'static str, signal: SignalId, unit: &'static str) -> Alias {
    Alias { name, signal, unit }
}

/// Fields of `vehicle_data.proto` in github.com/teslamotors/fleet-telemetry, with the units of the maker's list of
/// available data. The list does not say which way `PackCurrent` counts: the sender says `A` where it is positive into
/// the battery, and `-A` where it is positive out of it.
const TESLA: &[Alias] = &[
    alias("BatteryLevel", signals::STATE_OF_CHARGE_DISPLAYED, "percent"),
    alias("Soc", signals::STATE_OF_CHARGE, "percent"),
    alias("EnergyRemaining", signals::STORED_ENERGY, "kWh"),
    alias("PackVoltage", signals::PACK_VOLTAGE, "V"),
    alias("PackCurrent", signals::PACK_CURRENT, ""),
    alias("ModuleTempMax", signals::CELL_TEMPERATURE_MAX, "celsius"),
    alias("ModuleTempMin", signals::CELL_TEMPERATURE_MIN, "celsius"),
    alias("BrickVoltageMax", signals::CELL_VOLTAGE_MAX, "V"),
    alias("BrickVoltageMin", signals::CELL_VOLTAGE_MIN, "V"),
    alias("RatedRange", signals::RANGE, "mi"),
    alias("ChargeLimitSoc", signals::CHARGE_LIMIT, "percent"),
    alias("TimeToFullCharge", signals::CHARGE_TIME_REMAINING, "h"),
    alias("VehicleSpeed", signals::SPEED, "mph"),
    alias("Odometer", signals::TRAVELED_DISTANCE, "mi"),
    alias("OutsideTemp", signals::AIR_TEMPERATURE, "celsius"),
    alias("InsideTemp", signals::CABIN_TEMPERATURE, "celsius"),
    alias("LongitudinalAcceleration", signals::ACCELERATION_LONGITUDINAL, "m/s^2"),
];

/// Names met in charging-utilization services, thermal monitors and battery twins. Which way a current or power counts
/// differs between them: the sender says it.
const SHORT: &[Alias] = &[
    alias("soc", signals::STATE_OF_CHARGE, "percent"),
    alias("soh", signals::STATE_OF_HEALTH, "percent"),
    alias("battery_voltage", signals::PACK_VOLTAGE, "V"),
    alias("voltage", signals::PACK_VOLTAGE, "V"),
    alias("battery_current", signals::PACK_CURRENT, ""),
    alias("current", signals::PACK_CURRENT, ""),
    alias("battery_temperature", signals::CELL_TEMPERATURE_MAX, "celsius"),
    alias("temperature", signals::CELL_TEMPERATURE_MAX, "celsius"),
    alias("max_temp", signals::CELL_TEMPERATURE_MAX, "celsius"),
    alias("min_temp", signals::CELL_TEMPERATURE_MIN, "celsius"),
    alias("avg_temp", signals::CELL_TEMPERATURE_MEAN, "celsius"),
    alias("cell_voltage_min", signals::CELL_VOLTAGE_MIN, "V"),
    alias("cell_voltage_max", signals::CELL_VOLTAGE_MAX, "V"),
    alias("charge_cycles", signals::CYCLE_COUNT, "1"),
    alias("power_consumption", signals::PACK_POWER, ""),
    alias("internal_resistance", signals::CELL_RESISTANCE, "mOhm"),
    alias("humidity", signals::PACK_HUMIDITY, "percent"),
    alias("moisture_detected", signals::PACK_MOISTURE, "1"),
    alias("vibration", signals::PACK_VIBRATION, "mg"),
    alias("pressure", signals::PACK_PRESSURE, "kPa"),
    alias("is_charging", signals::IS_CHARGING, "1"),
    alias("speed", signals::SPEED, "km/h"),
    alias("odometer", signals::TRAVELED_DISTANCE, "km"),
    alias("ambient_temperature", signals::AIR_TEMPERATURE, "celsius"),
    alias("motor_temperature", signals::MOTOR_TEMPERATURE, "celsius"),
    alias("motor_torque", signals::MOTOR_TORQUE, "Nm"),
    alias("motor_rpm", signals::MOTOR_SPEED, "rpm"),
    alias("latitude", signals::LATITUDE, "degrees"),
    alias("longitude", signals::LONGITUDE, "degrees"),
    alias("altitude", signals::ALTITUDE, "m"),
];

// === impl Naming ===

impl Naming {
    /// In words, for messages.
    pub(crate) fn described(self) -> &'static str {
        match self {
            Naming::Vss => "a VSS path of the catalogue",
            Naming::TeslaFleetTelemetry => "a field of Tesla's fleet-telemetry that the catalogue knows",
            Naming::Short => "a short name the catalogue knows",
        }
    }

    pub(crate) fn aliases(self) -> &'static [Alias] {
        match self {
            Naming::Vss => &[],
            Naming::TeslaFleetTelemetry => TESLA,
            Naming::Short => SHORT,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, units};

    #[test]
    fn names_are_unique_and_units_fit() {
        let catalogue = Catalogue::standard();
        for naming in [Naming::TeslaFleetTelemetry, Naming::Short] {
            for (index, alias) in naming.aliases().iter().enumerate() {
                let unit = &catalogue.signal(alias.signal).expect("of this catalogue").unit;
                let fits = alias.unit.is_empty() || units::conversion(alias.unit, unit).is_some();
                assert!(fits, "{}: {} is no {unit}", alias.name, alias.unit);
                assert!(naming.aliases()[..index].iter().all(|before| before.name != alias.name), "{}", alias.name);
            }
        }
    }
}
