//! `evctl features put`.

use std::time::SystemTime;

use clap::Args;
use ev_client::{
    Client,
    proto::ev::features::v1::{FeatureValue, PutFeaturesRequest, feature_value::Value},
};

use crate::{exit::Exit, failure::Failure, json::Json, output::Output, style::BOLD, telemetry::time};

/// Tell what a vehicle's readings do not say, such as its cell family.
#[derive(Debug, Args)]
#[command(after_help = "\
Only views that are declared to be written from outside can be written. What is not given stays.
Values are numbers, true, false, or text; a text that looks like a number needs quotes of its own.

Examples:
  evctl features put car-1 --view battery chemistry=nmc rated_capacity_ah=2.8 cells_in_parallel=46
  evctl features put car-1 --view battery cell_family='\"4680\"'
  evctl features put car-1 --view battery rated_capacity_ah=2.6 --time 2026-01-31T12:00:00Z")]
pub(crate) struct PutCommand {
    /// The vehicle.
    #[arg(value_name = "VEHICLE")]
    vehicle: String,
    /// The view.
    #[arg(long, value_name = "VIEW")]
    view: String,
    /// Since when they hold: a time, or how long ago; what is there and newer stays [default: now].
    #[arg(long, value_name = "TIME", value_parser = time::parse)]
    time: Option<SystemTime>,
    /// Features and their values.
    #[arg(value_name = "NAME=VALUE", required = true, value_parser = parse)]
    values: Vec<FeatureValue>,
}

// === impl PutCommand ===

impl PutCommand {
    pub(crate) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let PutCommand { vehicle, view, time, values } = self;
        let (count, event_time) = (values.len(), time.map(time::timestamp));
        let request = PutFeaturesRequest { vehicle_id: vehicle.clone(), view: view.clone(), values, event_time };
        let response = client.features().put(request).await?;
        output.answer(&Json::new("ev.features.v1.PutFeaturesResponse", &response), || {
            let features = if count == 1 { "1 feature".to_owned() } else { format!("{count} features") };
            if response.written {
                format!("{features} of {BOLD}{vehicle}{BOLD:#} written to view {view}")
            } else {
                format!("nothing was written: what view {view} has of {BOLD}{vehicle}{BOLD:#} is newer")
            }
        })?;
        Ok(Exit::Ok)
    }
}

/// A name with a value, whose kind is what it looks like.
fn parse(text: &str) -> Result<FeatureValue, String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as rated_capacity_ah=2.8")?;
    let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    let value = match (quoted, value) {
        (Some(quoted), _) => Value::Text(quoted.to_owned()),
        (None, "true") => Value::Flag(true),
        (None, "false") => Value::Flag(false),
        (None, value) => value.parse().map_or_else(|_| Value::Text(value.to_owned()), Value::Number),
    };
    Ok(FeatureValue { name: name.to_owned(), value: Some(value) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_they_look_like() {
        let check = |text: &str, name: &str, value: Value| {
            assert_eq!(parse(text), Ok(FeatureValue { name: name.to_owned(), value: Some(value) }), "{text}");
        };
        check("rated_capacity_ah=2.8", "rated_capacity_ah", Value::Number(2.8));
        check("chemistry=nmc", "chemistry", Value::Text("nmc".to_owned()));
        check("is_leased=true", "is_leased", Value::Flag(true));
        check("cell_family=\"4680\"", "cell_family", Value::Text("4680".to_owned()));
        check("note=a=b", "note", Value::Text("a=b".to_owned()));
        assert!(parse("rated_capacity_ah").is_err());
    }
}
