//! Signals and values in a few characters.

/// The last two parts of a path: enough to tell a vehicle's signals apart.
pub(crate) fn short_name(path: &str) -> &str {
    let mut dots = path.rmatch_indices('.').map(|(place, _)| place);
    let _ = dots.next();
    dots.next().map_or(path, |place| &path[place + 1..])
}

/// A value with its unit; nothing where there is none.
pub(crate) fn value(value: f32, unit: &str) -> String {
    if value.is_nan() {
        return String::new();
    }
    match unit {
        "1" | "" => format!("{value}"),
        "percent" => format!("{value} %"),
        "celsius" => format!("{value} °C"),
        "degrees" => format!("{value}°"),
        unit => format!("{value} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_values_are_short() {
        for (path, short) in [
            ("Vehicle.Powertrain.TractionBattery.StateOfCharge.Current", "StateOfCharge.Current"),
            ("Vehicle.Speed", "Vehicle.Speed"),
            ("Speed", "Speed"),
            ("", ""),
        ] {
            assert_eq!(short_name(path), short);
        }
        for (number, unit, text) in [(50.5, "km/h", "50.5 km/h"), (80.0, "percent", "80 %"), (f32::NAN, "V", "")] {
            assert_eq!(value(number, unit), text);
        }
    }
}
