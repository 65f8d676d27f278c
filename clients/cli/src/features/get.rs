//! `evctl features get`.

use std::time::Duration;

use anstyle::Style;
use clap::Args;
use ev_client::{
    Client,
    proto::ev::features::v1::{Feature, FeatureStatus, GetFeaturesResponse, feature::Value},
};

use crate::{
    exit::Exit,
    failure::Failure,
    json::Json,
    output::Output,
    style::{BOLD, DIM, GOOD, WARN, harmless},
    table::{Cell, Table},
    telemetry::cells,
};

/// How names of features end, and the unit that says; the first that fits counts.
const UNITS: [(&str, &str); 16] = [
    ("_celsius_per_s", "°C/s"),
    ("_celsius", "celsius"),
    ("_percent", "percent"),
    ("_mohm", "mOhm"),
    ("_kwh", "kWh"),
    ("_kpa", "kPa"),
    ("_km", "km"),
    ("_kw", "kW"),
    ("_ah", "Ah"),
    ("_kg", "kg"),
    ("_mg", "mg"),
    ("_wh", "Wh"),
    ("_v", "V"),
    ("_a", "A"),
    ("_w", "W"),
    ("_s", "s"),
];

/// Show what is known of a vehicle now, with age and status.
#[derive(Debug, Args)]
#[command(after_help = "\
FRESH     younger than its view's time to live
STALE     older: the vehicle has not said it of late
DEFAULTED never said; the view's default stands in
MISSING   never said (--missing shows them)

Examples:
  evctl features get car-1
  evctl features get car-1 --view pack_now --view battery
  evctl -o json features get car-1 | jq '.features[] | select(.status == \"FEATURE_STATUS_STALE\").name'")]
pub(crate) struct GetCommand {
    /// The vehicle.
    #[arg(value_name = "VEHICLE")]
    vehicle: String,
    /// Only this view; may be given several times.
    #[arg(long = "view", value_name = "VIEW")]
    views: Vec<String>,
    /// Features of which nothing is known, too.
    #[arg(long)]
    missing: bool,
}

// === impl GetCommand ===

impl GetCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let response = client.features().get(&self.vehicle, &self.views).await?;
        output
            .answer(&Json::new("ev.features.v1.GetFeaturesResponse", &response), || render(&response, self.missing))?;
        let missing = response.features.iter().filter(|feature| is_missing(feature)).count();
        if missing > 0 && !self.missing {
            output.advise(&format!("{missing} other features are missing; see which with --missing"));
        }
        if response.degraded {
            output.advise("the shared store could not be reached: this is what the server remembers itself");
        }
        Ok(Exit::Ok)
    }
}

fn is_missing(feature: &Feature) -> bool {
    feature.status() == FeatureStatus::Missing
}

fn render(response: &GetFeaturesResponse, missing: bool) -> String {
    let shown: Vec<&Feature> = response.features.iter().filter(|feature| missing || !is_missing(feature)).collect();
    if shown.is_empty() {
        return "Nothing is known of this vehicle. See those that send with: evctl telemetry vehicles".to_owned();
    }
    let mut table = Table::new(["feature", "value", "age", "status", "view"]);
    for feature in shown {
        let (status, style) = status(feature.status());
        table.row([
            Cell::styled(&feature.name, BOLD),
            value(feature).into(),
            feature.age.and_then(|age| Duration::try_from(age).ok()).map(age).unwrap_or_default().into(),
            Cell::styled(status, style),
            Cell::styled(&feature.view, DIM),
        ]);
    }
    table.render()
}

fn value(feature: &Feature) -> String {
    match &feature.value {
        Some(Value::Number(number)) => cells::value(rounded(*number), unit(&feature.name)),
        Some(Value::Text(text)) => harmless(text),
        Some(Value::Flag(flag)) => if *flag { "yes" } else { "no" }.to_owned(),
        None => String::new(),
    }
}

/// With six digits: means and rates have rounding errors beyond them.
fn rounded(number: f32) -> f32 {
    format!("{number:.5e}").parse().unwrap_or(number)
}

fn unit(name: &str) -> &'static str {
    UNITS.iter().find(|(ending, _)| name.ends_with(ending)).map(|(_, unit)| *unit).unwrap_or_default()
}

fn status(status: FeatureStatus) -> (&'static str, Style) {
    match status {
        FeatureStatus::Fresh => ("FRESH", GOOD),
        FeatureStatus::Stale => ("STALE", WARN),
        FeatureStatus::Defaulted => ("DEFAULTED", DIM),
        FeatureStatus::Missing => ("MISSING", DIM),
        FeatureStatus::Unspecified => ("", DIM),
    }
}

/// As long as it matters: tenths of seconds at first, whole seconds, then minutes.
fn age(age: Duration) -> String {
    match age.as_secs() {
        0..10 => format!("{:.1}s", age.as_secs_f64()),
        seconds @ 10..3600 => humantime::format_duration(Duration::from_secs(seconds)).to_string(),
        seconds => humantime::format_duration(Duration::from_secs(seconds - seconds % 60)).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    fn feature(name: &str, value: Option<Value>, seconds: i64, status: FeatureStatus) -> Feature {
        let age = value.is_some().then_some(prost_types::Duration { seconds, nanos: 250_000_000 });
        Feature { name: name.to_owned(), view: "pack_now".to_owned(), value, age, status: status.into() }
    }

    #[test]
    fn features_are_rows() {
        let features = vec![
            feature("cell_temperature_max_celsius", Some(Value::Number(31.5)), 2, FeatureStatus::Fresh),
            feature("chemistry", Some(Value::Text("nm\u{1b}c".to_owned())), 7_265, FeatureStatus::Stale),
            feature("moisture_detected", Some(Value::Flag(false)), 61, FeatureStatus::Stale),
            feature("pressure_kpa", None, 0, FeatureStatus::Missing),
        ];
        let response = GetFeaturesResponse { features, degraded: false };
        let text = |missing| strip_str(&render(&response, missing)).to_string();
        assert_eq!(
            text(false),
            "\
FEATURE                        VALUE     AGE     STATUS   VIEW
cell_temperature_max_celsius   31.5 °C   2.2s    FRESH    pack_now
chemistry                      nm c      2h 1m   STALE    pack_now
moisture_detected              no        1m 1s   STALE    pack_now
"
        );
        assert!(text(true).contains("pressure_kpa") && text(true).contains("MISSING"));
        let empty = GetFeaturesResponse::default();
        assert!(render(&empty, true).contains("evctl telemetry vehicles"));
    }

    #[test]
    fn rounding_errors_are_not_shown() {
        for (number, expected) in [(0.010_000_017, 0.01), (343.999_97, 344.0), (79.0, 79.0), (-0.0, 0.0), (1e30, 1e30)]
        {
            assert_eq!(rounded(number), expected);
        }
        assert!(rounded(f32::NAN).is_nan());
    }

    #[test]
    fn units_are_those_of_the_names() {
        for (name, expected) in [
            ("cell_temperature_rate_celsius_per_s", "°C/s"),
            ("pack_current_a", "A"),
            ("rated_capacity_ah", "Ah"),
            ("cell_voltage_min_v", "V"),
            ("discharge_duration_3v6_to_3v4_s", "s"),
            ("cycle_count", ""),
            ("c_rate", ""),
        ] {
            assert_eq!(unit(name), expected, "{name}");
        }
    }
}
