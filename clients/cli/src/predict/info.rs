//! What every answer carries beside its value, for a person.

use std::time::Duration;

use ev_client::proto::ev::{
    common::v1::{
        BatchCut, BatchInfo, ModelVersion, OutOfDistributionField, OutOfDistributionReason, PredictionInfo,
        PredictionStatus, Timings,
    },
    features::v1::{Feature, FeatureStatus, feature::Value},
};

use crate::{
    failure::option_of,
    interval::{Interval, number},
    style::{BOLD, DIM, GOOD, WARN},
    table::{Cell, Listing, Table},
};

/// Hexadecimal digits of a digest that are shown.
const DIGEST_DIGITS: usize = 12;

/// Shows an interval: its middle, and its bar between its ends.
pub(crate) fn show_interval(listing: &mut Listing, name: &str, unit: &str, interval: Interval) {
    let Interval { q10, q50, q90 } = interval;
    listing.line(name, format!("{BOLD}{} {unit}{BOLD:#}", number(q50)));
    listing.line("8 in 10 lie between", format!("{}  {}  {} {unit}", number(q10), interval.bar(), number(q90)));
}

/// Shows model version, status, coverage and timings.
pub(crate) fn show_info(listing: &mut Listing, info: Option<&PredictionInfo>) {
    let Some(info) = info else { return };
    show_status(listing, info);
    let PredictionInfo { out_of_distribution, feature_coverage, timings, .. } = info;
    for field in out_of_distribution {
        listing.line(format!("  {}", option_of(&field.field).unwrap_or(field.field.clone())), unlike_training(field));
    }
    listing.line("feature coverage", format!("{:.0} % of the model's inputs were given", feature_coverage * 100.0));
    show_model(listing, info);
    if let Some(timings) = timings {
        listing.line("time in the server", show_timings(*timings));
    }
    show_batch(listing, info);
    if info.degraded {
        let text = "the shared feature store could not be reached; this server's memory answered";
        listing.line("degraded", format!("{WARN}{text}{WARN:#}"));
    }
}

/// Features of the vehicle that the model was given, with their age, and what was left out; empty where none were read.
pub(crate) fn show_features(info: Option<&PredictionInfo>) -> String {
    let features = info.map_or(&[][..], |info| info.features.as_slice());
    if features.is_empty() {
        return String::new();
    }
    let mut table = Table::new(["feature", "value", "age", "status", "view"]);
    for found in features {
        let Feature { name, view, value, age, status: _ } = found;
        let value = match value {
            Some(Value::Number(number)) => crate::interval::number(*number),
            Some(Value::Text(text)) => text.clone(),
            Some(Value::Flag(flag)) => flag.to_string(),
            None => "-".to_owned(),
        };
        let (style, status) = match found.status() {
            FeatureStatus::Fresh => (GOOD, "fresh"),
            FeatureStatus::Defaulted => (WARN, "default"),
            FeatureStatus::Stale if found.value.is_none() => (WARN, "stale, not used"),
            FeatureStatus::Stale => (WARN, "stale"),
            FeatureStatus::Missing => (DIM, "missing"),
            FeatureStatus::Unspecified => (DIM, "unknown"),
        };
        table.row([
            name.as_str().into(),
            value.into(),
            age.map_or_else(|| "-".to_owned(), age_text).into(),
            Cell::styled(status, style),
            view.as_str().into(),
        ]);
    }
    format!("\n{}", table.render())
}

/// To the second, or better where it is below one.
fn age_text(age: prost_types::Duration) -> String {
    let age = Duration::try_from(age).unwrap_or_default();
    let shown = if age < Duration::from_secs(1) {
        Duration::from_millis(age.subsec_millis().into())
    } else {
        Duration::from_secs(age.as_secs())
    };
    humantime::format_duration(shown).to_string()
}

/// As [`show_info`], for a photo: it is all of the input, decoding it is most of the assembling, and all of it takes
/// milliseconds.
pub(crate) fn show_photo_info(listing: &mut Listing, info: Option<&PredictionInfo>) {
    let Some(info) = info else { return };
    show_status(listing, info);
    show_model(listing, info);
    if let Some(Timings { queue_ns, features_ns, inference_ns, total_ns }) = info.timings {
        let [queue, decode, inference, total] = [queue_ns, features_ns, inference_ns, total_ns].map(milliseconds);
        let parts = format!("{DIM}(queue {queue}, decode {decode}, inference {inference}){DIM:#}");
        listing.line("time in the server", format!("{total} ms {parts}"));
    }
    show_batch(listing, info);
}

fn show_status(listing: &mut Listing, info: &PredictionInfo) {
    match info.status() {
        PredictionStatus::Ok => listing.line("status", format!("{GOOD}OK{GOOD:#}")),
        PredictionStatus::OutOfDistribution => listing
            .line("status", format!("{WARN}OUT_OF_DISTRIBUTION{WARN:#}: the model was not trained on such an input")),
        PredictionStatus::Unspecified => listing.line("status", "unknown"),
    }
}

fn show_model(listing: &mut Listing, info: &PredictionInfo) {
    if let Some(model) = &info.model {
        listing.line("model", model_text(model));
    }
    listing.line("prediction id", &info.prediction_id);
}

fn show_batch(listing: &mut Listing, info: &PredictionInfo) {
    if let Some(batch @ BatchInfo { rows, cut: _ }) = &info.batch {
        listing.line("ran in a batch of", format!("{rows} {DIM}({}){DIM:#}", reason(batch.cut())));
    }
}

/// A model version on one line.
pub(crate) fn model_text(ModelVersion { name, version, digest }: &ModelVersion) -> String {
    format!("{name} version {version} {DIM}{}{DIM:#}", short_digest(digest))
}

/// The beginning of a digest, enough to tell versions apart.
pub(crate) fn short_digest(digest: &str) -> String {
    let hexadecimal = digest.strip_prefix("sha256:").unwrap_or(digest);
    format!("sha256:{}", hexadecimal.chars().take(DIGEST_DIGITS).collect::<String>())
}

fn unlike_training(field: &OutOfDistributionField) -> String {
    let OutOfDistributionField { field: _, reason: _, value, trained_on } = field;
    let why = match field.reason() {
        OutOfDistributionReason::UnknownCategory => "unknown to the model, counted as not given",
        OutOfDistributionReason::OutsideTrainedRange => "outside everything seen in training",
        OutOfDistributionReason::NoVariant => "the model has no variant for it: no estimate",
        OutOfDistributionReason::NoLikelyClass => "perhaps something the model was never taught",
        OutOfDistributionReason::Unspecified => "unlike the training data",
    };
    if trained_on.is_empty() {
        format!("{WARN}{value}{WARN:#}: {why}")
    } else {
        format!("{WARN}{value}{WARN:#}: {why}; trained on {trained_on}")
    }
}

/// Why a batch was cut when it was.
fn reason(cut: BatchCut) -> &'static str {
    match cut {
        BatchCut::Full => "full",
        BatchCut::Preferred => "a preferred size",
        BatchCut::Delay => "waited as long as it may",
        BatchCut::Deadline => "a deadline came near",
        BatchCut::Idle => "nothing to wait for",
        BatchCut::Unspecified => "unknown",
    }
}

fn show_timings(Timings { queue_ns, features_ns, inference_ns, total_ns }: Timings) -> String {
    format!(
        "{} us {DIM}(queue {}, features {}, inference {}){DIM:#}",
        microseconds(total_ns),
        microseconds(queue_ns),
        microseconds(features_ns),
        microseconds(inference_ns)
    )
}

fn milliseconds(nanoseconds: u64) -> String {
    microseconds(nanoseconds / 1000)
}

/// With one decimal.
fn microseconds(nanoseconds: u64) -> String {
    let tenths = (nanoseconds + 50) / 100;
    format!("{}.{}", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use anstream::adapter::strip_str;

    use super::*;

    #[test]
    fn everything_is_shown() {
        let info = PredictionInfo {
            model: Some(ModelVersion {
                name: "ev-range".to_owned(),
                version: 3,
                digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            }),
            prediction_id: "p-1".to_owned(),
            status: PredictionStatus::OutOfDistribution.into(),
            out_of_distribution: vec![OutOfDistributionField {
                field: "battery_capacity_kwh".to_owned(),
                reason: OutOfDistributionReason::OutsideTrainedRange.into(),
                value: "900 kWh".to_owned(),
                trained_on: "22 to 123 kWh".to_owned(),
            }],
            feature_coverage: 0.1666,
            timings: Some(Timings { queue_ns: 0, features_ns: 1_250, inference_ns: 2_049, total_ns: 3_500_000 }),
            batch: Some(BatchInfo { rows: 4, cut: BatchCut::Preferred.into() }),
            features: Vec::new(),
            degraded: true,
        };
        let mut listing = Listing::default();
        show_interval(&mut listing, "range", "km", Interval { q10: 250.0, q50: 314.0, q90: 371.0 });
        show_info(&mut listing, Some(&info));
        assert_eq!(
            strip_str(&listing.render()).to_string(),
            "\
range                 314 km
8 in 10 lie between   250  ···················├────●────┤··  371 km
status                OUT_OF_DISTRIBUTION: the model was not trained on such an input
  --battery-kwh       900 kWh: outside everything seen in training; trained on 22 to 123 kWh
feature coverage      17 % of the model's inputs were given
model                 ev-range version 3 sha256:0123456789ab
prediction id         p-1
time in the server    3500.0 us (queue 0.0, features 1.3, inference 2.0)
ran in a batch of     4 (a preferred size)
degraded              the shared feature store could not be reached; this server's memory answered
"
        );
        assert_eq!(show_features(Some(&info)), "");
    }

    #[test]
    fn features_are_shown_with_age_and_status() {
        let feature = |name: &str, value, age_ms: Option<u64>, status: FeatureStatus| Feature {
            name: name.to_owned(),
            view: "pack_now".to_owned(),
            value,
            age: age_ms.and_then(|age| Duration::from_millis(age).try_into().ok()),
            status: status.into(),
        };
        let info = PredictionInfo {
            features: vec![
                feature("pack_voltage_v", Some(Value::Number(396.0)), Some(230), FeatureStatus::Fresh),
                feature("cell_family", Some(Value::Text("nmc".to_owned())), Some(90_500), FeatureStatus::Stale),
                feature("humidity_percent", None, Some(3_600_000), FeatureStatus::Stale),
                feature("moisture_detected", Some(Value::Flag(true)), None, FeatureStatus::Defaulted),
                feature("pressure_kpa", None, None, FeatureStatus::Missing),
            ],
            ..PredictionInfo::default()
        };
        assert_eq!(
            strip_str(&show_features(Some(&info))).to_string(),
            "
FEATURE             VALUE   AGE      STATUS            VIEW
pack_voltage_v      396     230ms    fresh             pack_now
cell_family         nmc     1m 30s   stale             pack_now
humidity_percent    -       1h       stale, not used   pack_now
moisture_detected   true    -        default           pack_now
pressure_kpa        -       -        missing           pack_now
"
        );
    }
}
