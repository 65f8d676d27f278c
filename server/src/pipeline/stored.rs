//! Inputs that the feature store has of a vehicle: which a model takes, and what it makes of old and missing ones.

use std::time::Duration;

use ev_domain::{Feature, Value};
use ev_features::{FeatureRow, FeatureValue, Plan, Status, ViewId, Views};
use ev_models_core::{
    Manifest,
    manifest::{DefaultValue, IfStale, Input, Task},
};

use super::{assemble::RowBuilder, outcome::Violation, run::Features};

/// Reason of a refusal: what the store has is too old.
const FEATURE_STALE: &str = "FEATURE_STALE";
/// Reason of a refusal: the store has nothing.
const FEATURE_MISSING: &str = "FEATURE_MISSING";

/// Which of a model's inputs are read for a vehicle. Made when the model is loaded.
#[derive(Debug)]
pub(crate) struct StoredInputs {
    plan: Plan,
    inputs: Vec<StoredInput>,
}

/// One input, and what the manifest says of it.
#[derive(Debug)]
pub(crate) struct StoredInput {
    pub(crate) name: String,
    /// The view it is read from; empty where no view has it.
    pub(crate) view: String,
    feature: Feature,
    /// Its place in the plan; none where no view has it.
    place: Option<usize>,
    /// Written from outside: it holds until it is written again.
    written: bool,
    /// The view's.
    ttl: Duration,
    /// The model's own limit.
    max_age: Option<Duration>,
    if_stale: IfStale,
    required: bool,
    default: Option<FeatureValue>,
    range: Option<[f64; 2]>,
}

/// What the store has of the inputs that a request does not give.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct StoredRow {
    pub(crate) features: Vec<StoredFeature>,
    refused: Vec<Violation>,
    /// The request gives nothing, so that nothing of it can be wrong.
    is_all: bool,
}

/// An input as the store has it.
#[derive(Debug, PartialEq)]
pub(crate) struct StoredFeature {
    /// Its place in the model's [`StoredInputs::inputs`].
    pub(crate) input: usize,
    /// What the model is given; none when it goes without.
    pub(crate) value: Option<FeatureValue>,
    /// Of what the store has, used or not.
    pub(crate) age: Option<Duration>,
    pub(crate) status: Status,
    /// The value is the model's own default, which counts as not given.
    is_model_default: bool,
}

/// Features that a request gives.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Given(u128);

const _: () = assert!(Feature::COUNT <= 128, "a word has a bit for each feature");

/// The views that a task's features are looked for in first; none for tasks that are not about a vehicle's pack.
///
/// Several views have features of the same name: the ambient temperature of a moment is not that of a discharge.
fn views_first(task: Task) -> Option<&'static [&'static str]> {
    match task {
        Task::BatterySoh | Task::BatteryFailure => Some(&["last_discharge"]),
        Task::BatteryRul => Some(&["last_discharge", "condition"]),
        Task::BatteryTemperature => Some(&["discharge_now"]),
        Task::BatteryCycleLife => Some(&["cycle_life"]),
        Task::ThermalRisk => Some(&["pack_now"]),
        _ => None,
    }
}

// === impl StoredInputs ===

impl StoredInputs {
    /// Finds the views of a model's inputs; none for models that are not asked by vehicle.
    pub(crate) fn resolve(manifest: &Manifest, views: &Views) -> Option<StoredInputs> {
        let first: Vec<ViewId> =
            views_first(manifest.model.task)?.iter().filter_map(|name| views.by_name(name)).collect();
        let is_known = |name: &str| views.iter().any(|(_, view)| view.position(name).is_some());
        let names: Vec<&str> =
            manifest.inputs.iter().map(|input| input.name.as_str()).filter(|name| is_known(name)).collect();
        // Every name that is left has a view.
        let plan = Plan::new(views, &names, &first).ok()?;
        let input = |input: &Input| {
            let place = plan.wanted().iter().position(|wanted| wanted.name == input.name);
            let wanted = place.and_then(|place| plan.wanted().get(place));
            let view = wanted.and_then(|wanted| views.view(wanted.view));
            Some(StoredInput {
                name: input.name.clone(),
                view: view.map(|view| view.name.clone()).unwrap_or_default(),
                feature: Feature::by_name(&input.name)?,
                place,
                written: view.is_some_and(|view| view.written),
                ttl: view.map_or(Duration::ZERO, |view| view.ttl),
                max_age: input.max_age(),
                if_stale: input.if_stale,
                required: input.required,
                default: input.default.as_ref().map(default),
                range: input.range,
            })
        };
        let inputs = manifest.inputs.iter().filter_map(input).collect();
        Some(StoredInputs { plan, inputs })
    }

    /// The inputs, in the model's order.
    pub(crate) fn inputs(&self) -> &[StoredInput] {
        &self.inputs
    }

    /// Names of inputs that no view has: a request has to give them.
    pub(crate) fn without_view(&self) -> Vec<&str> {
        self.inputs.iter().filter(|input| input.place.is_none()).map(|input| input.name.as_str()).collect()
    }

    /// What the store has of the inputs that were not given. `rows` are those of all views, by their places.
    pub(crate) fn read(&self, rows: &[Option<FeatureRow>], given: Given, now_us: i64) -> StoredRow {
        let rows: Vec<Option<FeatureRow>> =
            self.plan.views().iter().map(|view| rows.get(view.index()).cloned().flatten()).collect();
        let mut reads: Vec<_> = self.plan.evaluate(&rows, now_us).into_iter().map(Some).collect();
        let features = Vec::with_capacity(self.inputs.len());
        let mut row = StoredRow { features, refused: Vec::new(), is_all: given.0 == 0 };
        for (index, input) in self.inputs.iter().enumerate() {
            if given.has(input.feature) {
                continue;
            }
            let read = input.place.and_then(|place| reads.get_mut(place)?.take());
            let (value, age, status) =
                read.map_or((None, None, Status::Missing), |read| (read.value, read.age, read.status));
            match input.judge(value.filter(|value| input.fits(value)), age, status) {
                Ok(feature) => row.features.push(StoredFeature { input: index, ..feature }),
                Err(violation) => row.refused.push(violation),
            }
        }
        row
    }
}

fn default(value: &DefaultValue) -> FeatureValue {
    match value {
        DefaultValue::Flag(flag) => FeatureValue::Flag(*flag),
        DefaultValue::Number(number) => FeatureValue::Number(super::plan::narrow(*number)),
        DefaultValue::Text(text) => FeatureValue::Text(text.clone()),
    }
}

// === impl StoredInput ===

impl StoredInput {
    /// Whether a value may be the model's: its range may be narrower than what is plausible.
    fn fits(&self, value: &FeatureValue) -> bool {
        let within = |number: f32| self.range.is_none_or(|[min, max]| (min..=max).contains(&f64::from(number)));
        self.feature.check(value.as_value()).is_ok()
            && !matches!(value, FeatureValue::Number(number) if !within(*number))
    }

    /// Applies the manifest's policy to what was read.
    fn judge(
        &self,
        value: Option<FeatureValue>,
        age: Option<Duration>,
        status: Status,
    ) -> Result<StoredFeature, Violation> {
        let read = |value, age, status| StoredFeature { input: 0, value, age, status, is_model_default: false };
        let Some(value) = value else {
            return self.without(FEATURE_MISSING, None).unwrap_or_else(|| Ok(read(None, None, Status::Missing)));
        };
        if !self.is_too_old(age, status) {
            return Ok(read(Some(value), age, status));
        }
        match self.if_stale {
            IfStale::Use => Ok(read(Some(value), age, Status::Stale)),
            IfStale::Refuse => Err(self.violation(FEATURE_STALE, age)),
            IfStale::Missing => self.without(FEATURE_STALE, age).unwrap_or_else(|| Ok(read(None, age, Status::Stale))),
        }
    }

    fn is_too_old(&self, age: Option<Duration>, status: Status) -> bool {
        match (self.max_age, age) {
            (Some(max_age), Some(age)) if !self.written => age > max_age,
            _ => status == Status::Stale,
        }
    }

    /// What stands in for a value that there is none of; none when the model goes without.
    fn without(&self, reason: &'static str, age: Option<Duration>) -> Option<Result<StoredFeature, Violation>> {
        if self.required {
            return Some(Err(self.violation(reason, age)));
        }
        let value = self.default.clone()?;
        let status = Status::Defaulted;
        Some(Ok(StoredFeature { input: 0, value: Some(value), age: None, status, is_model_default: true }))
    }

    #[cold]
    fn violation(&self, reason: &'static str, age: Option<Duration>) -> Violation {
        let limit = self.max_age.filter(|_| !self.written).unwrap_or(self.ttl);
        let description = match age {
            Some(age) => {
                format!(
                    "is {} old, expected at most {}: send newer readings of the vehicle, or give the field",
                    seconds(age),
                    seconds(limit)
                )
            }
            None if self.view.is_empty() => {
                "is in no feature view, expected the field: the model requires it".to_owned()
            }
            None if self.written => format!(
                "is not known of the vehicle, expected it to be written to the feature view `{}`, or the field: the \
                 model requires it",
                self.view
            ),
            None => format!(
                "is not known of the vehicle, expected readings that the feature view `{}` is made from, or the field: \
                 the model requires it",
                self.view
            ),
        };
        Violation { field: self.name.clone(), reason, description }
    }
}

/// Up to what was said last, a fraction of a second too old is no longer said to be as old as the limit.
fn seconds(duration: Duration) -> humantime::FormattedDuration {
    let rounded = if duration.subsec_nanos() > 0 { duration.as_secs() + 1 } else { duration.as_secs() };
    humantime::format_duration(Duration::from_secs(rounded))
}

// === impl StoredRow ===

impl StoredRow {
    /// What the store lacks, where that is all that there is to be told.
    pub(crate) fn take_refusal(&mut self) -> Option<Vec<Violation>> {
        (self.is_all && !self.refused.is_empty()).then(|| std::mem::take(&mut self.refused))
    }

    /// Gives the model what the store has, and refuses the row for what it lacks.
    pub(crate) fn fill(&self, inputs: &StoredInputs, builder: &mut RowBuilder<'_>) {
        for stored in self.features.iter().filter(|stored| !stored.is_model_default) {
            if let (Some(value), Some(input)) = (&stored.value, inputs.inputs.get(stored.input)) {
                builder.feature(input.feature, value.as_value());
            }
        }
        for Violation { field, reason, description } in &self.refused {
            builder.violate(field, reason, description.clone());
        }
    }
}

// === impl Given ===

impl Given {
    /// Those of a request. A blank text is none.
    pub(crate) fn of(request: &impl Features) -> Given {
        let mut given = Given::default();
        request.visit(|feature, value| {
            let is_blank = matches!(value, Value::Text(text) if text.trim().is_empty());
            given.0 |= u128::from(!is_blank) << (feature as u8);
        });
        given
    }

    fn has(self, feature: Feature) -> bool {
        self.0 >> (feature as u8) & 1 == 1
    }
}

// === impl Violation ===

impl Violation {
    /// Whether the feature store lacks something, rather than the request being wrong.
    pub(crate) fn is_of_store(&self) -> bool {
        self.reason == FEATURE_STALE || self.reason == FEATURE_MISSING
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ev_domain::Catalogue;
    use ev_features::{RowBuilder as FeatureRowBuilder, Version};

    use super::*;

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
            assert_eq!(
                voltage.age,
                Some(Duration::from_secs(age_s.unsigned_abs())),
                "known, and told even if not used"
            );
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
}
