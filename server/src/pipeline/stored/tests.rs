//! What old, missing and given values become.

use std::{sync::Arc, time::Duration};

use ev_domain::{Catalogue, Feature, Value};
use ev_features::{FeatureRow, FeatureValue, RowBuilder as FeatureRowBuilder, Status, Version, Views};
use ev_models_core::{Manifest, manifest::Task};

use super::{Given, StoredFeature, StoredInputs};
use crate::pipeline::run::Features;

const NOW_US: i64 = 1_700_000_000_000_000;

/// A thermal model of a cell's temperature (at most 10 s old), the weakest cell's voltage, and the cells in series.
fn manifest(temperature: &str, voltage: &str) -> Manifest {
    let text = format!(
        r#"
[model]
name = "risk"
task = "thermal_risk"
description = "Risk."
backend = "forest"
license = "Apache-2.0"
[[inputs]]
name = "cell_temperature_max_celsius"
dtype = "FP32"
unit = "Cel"
range = [-40.0, 200.0]
max_age = "5s"
{temperature}
[[inputs]]
name = "cell_voltage_min_v"
dtype = "FP32"
unit = "V"
range = [0.0, 6.0]
{voltage}
[[inputs]]
name = "cells_in_series"
dtype = "FP32"
unit = "1"
range = [1.0, 1000.0]
max_age = "1s"
[[heads]]
name = "point"
file = "model.ubj"
[calibration]
method = "none"
[[calibration.tiers]]
min_coverage = 0.0
temperature = 1.0
[[outputs]]
name = "risk"
kind = "classes"
classes = ["Normal", "Alarm"]
"#
    );
    Manifest::parse(&text).expect("a manifest")
}

fn views() -> Arc<Views> {
    Arc::new(Views::bundled(&Catalogue::standard()).expect("the bundled views"))
}

/// Rows in which features have been known for some seconds.
fn rows(views: &Views, values: &[(&str, &str, f32, i64)]) -> Vec<Option<FeatureRow>> {
    let row = |view: &ev_features::View| {
        let of_view: Vec<_> = values.iter().filter(|(of, ..)| *of == view.name).collect();
        let version = Version { event_time_us: NOW_US, sequence: 1 };
        let mut builder = FeatureRowBuilder::new(view.schema, version, NOW_US);
        for feature in &view.features {
            let value = of_view.iter().find(|(_, name, ..)| *name == feature.name);
            builder.push(value.map(|(_, _, value, age_s)| ev_features::Cell {
                value: Value::Number(*value),
                time_us: NOW_US - age_s * 1_000_000,
            }));
        }
        (!of_view.is_empty()).then(|| builder.finish())
    };
    views.iter().map(|(_, view)| row(view)).collect()
}

/// What is given to the model, or refused, for the temperature at an age in seconds.
fn judged(policy: &str, age_s: Option<i64>) -> (Option<f32>, Status, Option<String>) {
    let views = views();
    let stored = StoredInputs::resolve(&manifest(policy, ""), &views).expect("a thermal model");
    let values: Vec<_> =
        age_s.map(|age_s| ("pack_now", "cell_temperature_max_celsius", 41.5, age_s)).into_iter().collect();
    let row = stored.read(&rows(&views, &values), Given::default(), NOW_US);
    let refused = row.refused.first().map(|violation| format!("{} {}", violation.reason, violation.description));
    let feature = row.features.iter().find(|feature| feature.input == 0);
    let number = |feature: &StoredFeature| match feature.value {
        Some(FeatureValue::Number(number)) if !feature.is_model_default => Some(number),
        _ => None,
    };
    (feature.and_then(number), feature.map_or(Status::Missing, |feature| feature.status), refused)
}

#[test]
fn the_manifest_decides_about_old_and_missing_values() {
    let check = |policy: &str, age_s: Option<i64>, expected: (Option<f32>, Status)| {
        assert_eq!(judged(policy, age_s), (expected.0, expected.1, None), "{policy} {age_s:?}");
    };
    check("", Some(5), (Some(41.5), Status::Fresh));
    check("", Some(6), (None, Status::Stale));
    check("", None, (None, Status::Missing));
    check("if_stale = \"use\"", Some(3_600), (Some(41.5), Status::Stale));
    check("if_stale = \"refuse\"", Some(5), (Some(41.5), Status::Fresh));
    check("if_stale = \"refuse\"", None, (None, Status::Missing));
    check("required = true", Some(5), (Some(41.5), Status::Fresh));
    check("default = 20.0", Some(6), (None, Status::Defaulted));
    check("default = 20.0", None, (None, Status::Defaulted));
}

#[test]
fn a_refusal_names_age_and_limit() {
    let check = |policy: &str, age_s: Option<i64>, expected: &str| {
        let (value, _, refused) = judged(policy, age_s);
        assert_eq!((value, refused.as_deref()), (None, Some(expected)), "{policy} {age_s:?}");
    };
    let stale =
        "FEATURE_STALE is 1m 1s old, expected at most 5s: send newer readings of the vehicle, or give the field";
    check("required = true", Some(61), stale);
    check("if_stale = \"refuse\"", Some(61), stale);
    check(
        "required = true",
        None,
        "FEATURE_MISSING is not known of the vehicle, expected readings that the feature view `pack_now` is made \
         from, or the field: the model requires it",
    );
}

#[test]
fn without_a_limit_of_the_model_the_views_counts() {
    let views = views();
    let check = |age_s: i64, expected: (bool, Status)| {
        let stored = StoredInputs::resolve(&manifest("", ""), &views).expect("a thermal model");
        let rows = rows(&views, &[("pack_now", "cell_voltage_min_v", 3.7, age_s)]);
        let row = stored.read(&rows, Given::default(), NOW_US);
        let voltage = &row.features[1];
        assert_eq!((voltage.value.is_some(), voltage.status), expected, "{age_s} s");
        assert_eq!(voltage.age, Some(Duration::from_secs(age_s.unsigned_abs())), "known, and told even if not used");
    };
    check(10, (true, Status::Fresh));
    check(11, (false, Status::Stale));
}

#[test]
fn a_value_older_than_its_view_allows_is_not_fresh_even_where_the_model_takes_it() {
    let views = views();
    let manifest = manifest("", "max_age = \"1h\"");
    let stored = StoredInputs::resolve(&manifest, &views).expect("a thermal model");
    let rows = rows(&views, &[("pack_now", "cell_voltage_min_v", 3.7, 60)]);
    let row = stored.read(&rows, Given::default(), NOW_US);
    assert_eq!((row.features[1].value.is_some(), row.features[1].status), (true, Status::Stale));
}

#[test]
fn what_is_written_from_outside_holds_until_it_is_written_again() {
    let views = views();
    let stored = StoredInputs::resolve(&manifest("", ""), &views).expect("a thermal model");
    let year = 365 * 86_400;
    let rows = rows(&views, &[("battery", "cells_in_series", 96.0, year)]);
    let row = stored.read(&rows, Given::default(), NOW_US);
    assert_eq!(
        (row.features[2].value.clone(), row.features[2].status),
        (Some(FeatureValue::Number(96.0)), Status::Fresh)
    );
}

#[test]
fn what_is_given_is_not_read_and_what_is_no_value_of_the_model_is_missing() {
    struct Request(Option<f32>);
    impl Features for Request {
        fn visit<'a>(&'a self, mut visit: impl FnMut(Feature, Value<'a>)) {
            visit(Feature::CellFamily, Value::Text("  "));
            self.0.into_iter().for_each(|number| visit(Feature::CellTemperatureMaxCelsius, Value::Number(number)));
        }
    }
    let views = views();
    let stored = StoredInputs::resolve(&manifest("", ""), &views).expect("a thermal model");
    // Plausible for a cell, but beyond the model's own range.
    let rows = rows(&views, &[("pack_now", "cell_temperature_max_celsius", 300.0, 1)]);
    let of = |request: &Request| stored.read(&rows, Given::of(request), NOW_US).features;
    let given: Vec<usize> = of(&Request(Some(20.0))).iter().map(|feature| feature.input).collect();
    assert_eq!(given, [1, 2]);
    assert_eq!(of(&Request(None))[0].status, Status::Missing);
    assert!(!Given::of(&Request(None)).has(Feature::CellFamily), "a blank text is none");
}

#[test]
fn models_of_other_tasks_are_not_asked_by_vehicle_and_unknown_inputs_are_named() {
    // The first view, `battery`, alone.
    let end = Views::DEFAULT_TOML.find("[[views]]\nname = \"pack_now\"").expect("it comes second");
    let views = Views::parse(&Views::DEFAULT_TOML[..end], &Catalogue::standard()).expect("views");
    let stored = StoredInputs::resolve(&manifest("", ""), &views).expect("a thermal model");
    assert_eq!(stored.without_view(), ["cell_temperature_max_celsius", "cell_voltage_min_v"]);
    let mut range = manifest("", "");
    range.model.task = Task::Range;
    assert!(StoredInputs::resolve(&range, &views).is_none());
}
