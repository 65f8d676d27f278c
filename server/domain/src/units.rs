//! Units that senders use, and how their values become a signal's.

/// A unit of a quantity, with its way to the quantity's base unit: `base = value * factor + offset`.
struct Unit {
    spellings: &'static [&'static str],
    quantity: Quantity,
    factor: f64,
    offset: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantity {
    Ratio,
    Temperature,
    Voltage,
    Current,
    Power,
    Energy,
    Charge,
    Resistance,
    Length,
    Speed,
    Acceleration,
    Time,
    Pressure,
    Torque,
    Rotation,
    Angle,
}

/// `to = from * factor + offset`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Conversion {
    pub(crate) factor: f64,
    pub(crate) offset: f64,
}

const fn unit(quantity: Quantity, factor: f64, spellings: &'static [&'static str]) -> Unit {
    Unit { spellings, quantity, factor, offset: 0.0 }
}

/// The first spelling of each is VSS's where VSS has the unit. Factors are exact by definition (SI brochure, NIST SP 811).
const UNITS: &[Unit] = &[
    unit(Quantity::Ratio, 1.0, &["1", "ratio"]),
    unit(Quantity::Ratio, 0.01, &["percent", "%"]),
    Unit {
        spellings: &["celsius", "Celsius", "Cel", "degC", "°C"],
        quantity: Quantity::Temperature,
        factor: 1.0,
        offset: 273.15,
    },
    unit(Quantity::Temperature, 1.0, &["kelvin", "K"]),
    Unit {
        spellings: &["fahrenheit", "degF", "°F"],
        quantity: Quantity::Temperature,
        factor: 5.0 / 9.0,
        offset: 459.67 * 5.0 / 9.0,
    },
    unit(Quantity::Voltage, 1.0, &["V"]),
    unit(Quantity::Voltage, 1e-3, &["mV"]),
    unit(Quantity::Voltage, 1e3, &["kV"]),
    unit(Quantity::Current, 1.0, &["A"]),
    unit(Quantity::Current, 1e-3, &["mA"]),
    unit(Quantity::Power, 1.0, &["W"]),
    unit(Quantity::Power, 1e3, &["kW"]),
    unit(Quantity::Energy, 1.0, &["Wh"]),
    unit(Quantity::Energy, 1e3, &["kWh"]),
    unit(Quantity::Energy, 1.0 / 3600.0, &["J"]),
    unit(Quantity::Charge, 1.0, &["Ah"]),
    unit(Quantity::Charge, 1e-3, &["mAh"]),
    unit(Quantity::Resistance, 1.0, &["Ohm", "ohm"]),
    unit(Quantity::Resistance, 1e-3, &["mOhm", "mohm"]),
    unit(Quantity::Length, 1.0, &["m"]),
    unit(Quantity::Length, 1e3, &["km"]),
    unit(Quantity::Length, 1609.344, &["mi", "miles"]),
    unit(Quantity::Length, 0.3048, &["ft"]),
    unit(Quantity::Speed, 1.0, &["m/s"]),
    unit(Quantity::Speed, 1.0 / 3.6, &["km/h", "kph"]),
    unit(Quantity::Speed, 0.44704, &["mph", "mi/h"]),
    unit(Quantity::Acceleration, 1.0, &["m/s^2"]),
    unit(Quantity::Acceleration, 9.80665, &["g"]),
    unit(Quantity::Acceleration, 9.80665e-3, &["mg"]),
    unit(Quantity::Time, 1.0, &["s"]),
    unit(Quantity::Time, 1e-3, &["ms"]),
    unit(Quantity::Time, 60.0, &["min"]),
    unit(Quantity::Time, 3600.0, &["h"]),
    unit(Quantity::Pressure, 1.0, &["Pa"]),
    unit(Quantity::Pressure, 100.0, &["mbar", "hPa"]),
    unit(Quantity::Pressure, 1e3, &["kPa"]),
    unit(Quantity::Pressure, 1e5, &["bar"]),
    unit(Quantity::Pressure, 6_894.757_293_168_361, &["psi"]),
    unit(Quantity::Torque, 1.0, &["Nm", "N.m"]),
    unit(Quantity::Rotation, 1.0, &["rpm"]),
    unit(Quantity::Angle, 1.0, &["degrees", "deg"]),
    unit(Quantity::Angle, 180.0 / std::f64::consts::PI, &["rad"]),
];

/// How a value in one unit becomes one in another; none where they are not of the same quantity, or unknown.
///
/// A minus before a unit turns the sign: `-A` is a current counted the other way.
pub(crate) fn conversion(from: &str, to: &str) -> Option<Conversion> {
    let (sign, from) = from.strip_prefix('-').map_or((1.0, from), |from| (-1.0, from));
    if from == to {
        return Some(Conversion { factor: sign, offset: 0.0 });
    }
    let (from, to) = (find(from)?, find(to)?);
    // A temperature counted backwards is no temperature.
    if from.quantity != to.quantity || (sign < 0.0 && from.quantity == Quantity::Temperature) {
        return None;
    }
    Some(Conversion { factor: sign * from.factor / to.factor, offset: (from.offset - to.offset) / to.factor })
}

/// What `to` can be sent in, for messages.
pub(crate) fn alternatives(to: &str) -> String {
    let Some(unit) = find(to) else { return to.to_owned() };
    let same = UNITS.iter().filter(|other| other.quantity == unit.quantity);
    same.map(|other| other.spellings[0]).collect::<Vec<_>>().join(", ")
}

fn find(spelling: &str) -> Option<&'static Unit> {
    UNITS.iter().find(|unit| unit.spellings.contains(&spelling))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_converted() {
        let check = |value: f64, from: &str, to: &str, expected: Option<f64>| {
            let found = conversion(from, to).map(|Conversion { factor, offset }| value * factor + offset);
            match (found, expected) {
                (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-9, "{from} {to}: {found}"),
                (found, expected) => assert_eq!(found, expected, "{from} {to}"),
            }
        };
        check(1.0, "mi", "km", Some(1.609_344));
        check(60.0, "mph", "km/h", Some(96.560_64));
        check(212.0, "fahrenheit", "celsius", Some(100.0));
        check(-40.0, "°F", "celsius", Some(-40.0));
        check(0.0, "K", "celsius", Some(-273.15));
        check(0.81, "ratio", "percent", Some(81.0));
        check(350.0, "mV", "V", Some(0.35));
        check(12.5, "A", "A", Some(12.5));
        check(12.5, "-A", "A", Some(-12.5));
        check(-1500.0, "-kW", "W", Some(1_500_000.0));
        check(32.0, "psi", "kPa", Some(220.632_233_381_387_5));
        check(5.0, "V", "A", None);
        check(5.0, "parsec", "km", None);
        check(5.0, "-K", "celsius", None);
        check(5.0, "bananas", "bananas", Some(5.0));
    }

    #[test]
    fn spellings_are_unique() {
        let all: Vec<_> = UNITS.iter().flat_map(|unit| unit.spellings).collect();
        let unique: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(all.len(), unique.len());
        assert_eq!(alternatives("km/h"), "m/s, km/h, mph");
    }
}
