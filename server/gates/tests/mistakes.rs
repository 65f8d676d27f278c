//! An honest model passes every gate, and each mistake that models are made with is stopped by the gate that is there
//! for it, and by no other.

use ev_gates::{Gate, GateResult, Measured, Probe, Row, State, Subject, Value, judge};
use ev_models_core::Manifest;
use std::time::Duration;

const HONEST: &str = r#"
[model]
name = "soh"
task = "battery_soh"
description = "State of health of a cell."
backend = "forest"
license = "Apache-2.0"
nature = "real"

[[inputs]]
name = "cycle_count"
dtype = "FP32"
unit = "1"
range = [0.0, 100000.0]
trained_range = [1.0, 1000.0]
required = true

[[inputs]]
name = "ambient_temperature_celsius"
dtype = "FP32"
unit = "Cel"
range = [-60.0, 70.0]
trained_range = [4.0, 44.0]

[[inputs]]
name = "cell_family"
dtype = "BYTES"
vocabulary = ["lfp", "nmc"]

[[heads]]
name = "point"
file = "point.ubj"

[calibration]
method = "residual quantiles"
[[calibration.tiers]]
min_coverage = 0.0
z = [-1.0, 0.0, 1.0]

[[outputs]]
name = "soh"
kind = "quantiles"
unit = "percent"
range = [0.0, 120.0]

[training]
datasets = ["cells"]
data_digest = "sha256:2b8661a46126851c98951a3c85f3265eb9efc29357d8cbe3c8b796c649222348"
rows = 2163
groups = 29
split = "GroupKFold(10) by cell"
target = "discharge capacity over rated capacity, percent"
command = "make train"

[[metrics]]
name = "mae"
split = "GroupKFold(10) by cell"
value = 5.3
naive = 13.9
unit = "percent"

[[metrics]]
name = "r2"
split = "GroupKFold(10) by cell"
value = 0.78
unit = "1"

[limits]
memory = "16MiB"
latency = "50us"
"#;

/// A function of a row, as a version that answers with it.
struct Function<F>(F);

impl<F: Fn(&[f64]) -> Vec<f64>> Probe for Function<F> {
    fn predict(&self, row: &Row) -> Option<Vec<f64>> {
        let number = |value: &Option<Value>| match value {
            Some(Value::Text(text)) => f64::from(u8::from(text == "nmc")),
            Some(value) => value.as_number().unwrap_or(f64::NAN),
            None => f64::NAN,
        };
        Some((self.0)(&row.iter().map(number).collect::<Vec<_>>()))
    }
}

/// Ages with cycles, faster when warm, and not as one chemistry does.
fn ages(row: &[f64]) -> Vec<f64> {
    let (cycles, celsius, nmc) = (row[0], if row[1].is_nan() { 20.0 } else { row[1] }, row[2]);
    vec![100.0 - cycles * 0.03 * (1.0 + celsius / 40.0) * if nmc > 0.5 { 1.0 } else { 0.6 }]
}

fn measured() -> Measured {
    Measured {
        golden: Vec::new(),
        golden_count: 3,
        row: Some(Duration::from_micros(8)),
        row_counts: true,
        instance_bytes: Some(400_000),
    }
}

fn changed(changes: &[(&str, &str)]) -> Manifest {
    let text = changes.iter().fold(HONEST.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    Manifest::parse(&text).expect("a manifest")
}

fn judged(manifest: &Manifest, probe: &dyn Probe, measured: &Measured) -> Vec<GateResult> {
    judge(manifest, Subject::Loaded { probe, measured })
}

fn failed(results: &[GateResult]) -> Vec<Gate> {
    results.iter().filter(|result| result.state == State::Failed).map(|result| result.gate).collect()
}

/// The one gate that stops a model, with words its report must have.
fn check_by(manifest: &Manifest, probe: &dyn Probe, measured: &Measured, gate: Gate, words: &[&str]) {
    let results = judged(manifest, probe, measured);
    assert_eq!(failed(&results), [gate], "{results:#?}");
    let result = results.iter().find(|result| result.gate == gate).expect("its result");
    for word in words {
        assert!(result.measured.contains(word), "{word}: {result:?}");
    }
    assert!(!result.required.is_empty() && !result.remedy.is_empty(), "{result:?}");
}

fn check(changes: &[(&str, &str)], gate: Gate, words: &[&str]) {
    check_by(&changed(changes), &Function(ages), &measured(), gate, words);
}

#[test]
fn an_honest_model_passes() {
    let results = judged(&changed(&[]), &Function(ages), &measured());
    assert_eq!(failed(&results), [], "{results:#?}");
    let gates: Vec<Gate> = results.iter().map(|result| result.gate).collect();
    assert_eq!(gates, Gate::ALL);
    let open: Vec<Gate> =
        results.iter().filter(|result| result.state == State::NotApplicable).map(|result| result.gate).collect();
    assert_eq!(open, [Gate::Classes], "a number has no classes, everything else is judged");
}

#[test]
fn a_unit_is_missing() {
    check(&[("unit = \"Cel\"\n", "")], Gate::Signature, &["input `ambient_temperature_celsius` has no `unit`"]);
    check(&[("range = [-60.0, 70.0]\n", "")], Gate::Signature, &["input `ambient_temperature_celsius` has no `range`"]);
    check(
        &[
            ("vocabulary = [\"lfp\", \"nmc\"]\n", ""),
            ("[[heads]]", "[[heads]] # columns below"),
            ("[model]", "columns = [\"cycle_count\", \"ambient_temperature_celsius\"]\n[model]"),
        ],
        Gate::Signature,
        &["input `cell_family` has no `vocabulary`"],
    );
    check(
        &[("kind = \"quantiles\"\nunit = \"percent\"", "kind = \"quantiles\"")],
        Gate::Signature,
        &["output `soh` has no `unit`"],
    );
}

#[test]
fn the_target_is_among_the_inputs() {
    let renamed = |name: &str| changed(&[("ambient_temperature_celsius", name)]);
    for name in ["state_of_health_percent", "soh", "discharge_capacity_ah", "target", "actual_soh", "label", "SoH_%"] {
        let words = [name, "is the target"];
        check_by(&renamed(name), &Function(ages), &measured(), Gate::TargetLeak, &words);
    }
    for name in ["discharge_capacity_fade_rate", "rated_capacity_ah", "health_checks", "charge_capacity_ah"] {
        let results = judged(&renamed(name), &Function(ages), &measured());
        assert_eq!(failed(&results), [], "{name}: {results:#?}");
    }
}

#[test]
fn one_input_is_the_target_in_other_words() {
    let line = |row: &[f64]| vec![130.0 - row[0] / 10.0];
    check_by(
        &changed(&[]),
        &Function(line),
        &measured(),
        Gate::SingleInput,
        &["`cycle_count` alone explains R2 0.999"],
    );
    // Through a curve as well, and with a little of another input in it.
    let curve = |row: &[f64]| vec![(row[0] / 40.0).exp() + 1e-6 * row[1]];
    check_by(&changed(&[]), &Function(curve), &measured(), Gate::SingleInput, &["`cycle_count` alone"]);
    let text = |row: &[f64]| vec![40.0 + 30.0 * row[2]];
    check_by(&changed(&[]), &Function(text), &measured(), Gate::SingleInput, &["`cell_family` alone"]);
    // Much of it is not all of it.
    let mostly = |row: &[f64]| vec![130.0 - row[0] / 10.0 + row[1] / 4.0];
    assert_eq!(failed(&judged(&changed(&[]), &Function(mostly), &measured())), []);
}

#[test]
fn metrics_are_too_good_to_be_true() {
    check(&[("value = 0.78", "value = 0.9996")], Gate::TooGood, &["r2 is 0.9996"]);
    check(
        &[("name = \"r2\"", "name = \"accuracy\""), ("value = 0.78", "value = 1.0")],
        Gate::TooGood,
        &["accuracy is 1"],
    );
    check(&[("value = 5.3", "value = 0.2")], Gate::TooGood, &["mae is 0.2", "where 13.9 is without looking"]);
}

/// R2 of a label that is a formula of its inputs, measured as whoever trained it would: by the model against the label.
#[test]
fn a_label_by_formula_shows_in_its_r2() {
    let label = |cycles: f64, celsius: f64| 100.0 - 0.02 * cycles - 0.1 * (celsius - 20.0).abs();
    let learned = |cycles: f64, celsius: f64| label((cycles / 4.0).round() * 4.0, celsius.round());
    let rows = (0..1000).map(|row| (f64::from(row), f64::from(row % 40)));
    let truth: Vec<f64> = rows.clone().map(|(cycles, celsius)| label(cycles, celsius)).collect();
    let mean = truth.iter().sum::<f64>() / 1000.0;
    let wrong: f64 =
        rows.zip(&truth).map(|((cycles, celsius), truth)| (learned(cycles, celsius) - truth).powi(2)).sum();
    let r2 = 1.0 - wrong / truth.iter().map(|truth| (truth - mean).powi(2)).sum::<f64>();
    check(&[("value = 0.78", &format!("value = {r2}"))], Gate::TooGood, &["r2 is 0.999"]);
}

#[test]
fn labels_are_made() {
    check(&[("nature = \"real\"", "nature = \"synthetic\"")], Gate::Synthetic, &["synthetic"]);
}

#[test]
fn rows_are_split_at_random() {
    let random = "split = \"80/20, shuffled rows\"\ntarget";
    check(
        &[("split = \"GroupKFold(10) by cell\"\ntarget", random)],
        Gate::GroupSplit,
        &["shuffled", "29 groups of 2163 rows"],
    );
    check(&[("groups = 29", "groups = 2163")], Gate::GroupSplit, &["as many groups as rows"]);
    check(&[("groups = 29", "groups = 29\nsplit_by = \"row\"")], Gate::GroupSplit, &["`split_by` is `row`"]);
    let published =
        ("split = \"GroupKFold(10) by cell\"\ntarget", "split = \"published split\"\nsplit_by = \"cell\"\ntarget");
    assert_eq!(failed(&judged(&changed(&[published]), &Function(ages), &measured())), []);
}

#[test]
fn answering_without_looking_is_as_good() {
    check(&[("value = 5.3", "value = 13.9")], Gate::Baseline, &["mae is 13.9 where naive is 13.9"]);
    check(&[("naive = 13.9", "")], Gate::Baseline, &["no metric stands beside a naive baseline"]);
    check(&[("naive = 13.9", "baseline = 5.0")], Gate::Baseline, &["mae is 5.3 where the baseline is 5"]);
}

#[test]
fn a_row_or_an_instance_is_too_dear() {
    let slow = Measured { row: Some(Duration::from_micros(51)), ..measured() };
    check_by(&changed(&[]), &Function(ages), &slow, Gate::Latency, &["51µs"]);
    let large = Measured { instance_bytes: Some(16 * 1024 * 1024 + 1), ..measured() };
    check_by(&changed(&[]), &Function(ages), &large, Gate::Memory, &["at least"]);
    check(&[("latency = \"50us\"", "latency = \"fast\"")], Gate::Latency, &["`fast`, which is no duration"]);
    check(&[("memory = \"16MiB\"", "memory = \"little\"")], Gate::Memory, &["`little`, which is no size"]);
}

#[test]
fn the_licence_is_missing() {
    for license in ["none", "Apache", "MIT and also mine", "All rights reserved", "?"] {
        check(&[("Apache-2.0", license)], Gate::License, &[license]);
    }
    for license in ["MIT", "MIT OR Apache-2.0", "(CC-BY-4.0 AND MIT)", "LicenseRef-acme", "GPL-2.0-only"] {
        let results = judged(&changed(&[("Apache-2.0", license)]), &Function(ages), &measured());
        assert_eq!(failed(&results), [], "{license}: {results:#?}");
    }
}

#[test]
fn golden_requests_are_missing_or_not_reproduced() {
    let none = Measured { golden_count: 0, ..measured() };
    check_by(&changed(&[]), &Function(ages), &none, Gate::Golden, &["no golden requests"]);
    let results = judge(&changed(&[]), Subject::Refused { reason: "golden request 1: the answer is 3, expected 4" });
    assert_eq!(failed(&results), [Gate::Golden]);
    assert!(results[1].measured.contains("golden request 1"), "{results:?}");
}

/// Four classes of a temperature and its rise; `last` is how likely the last one is at most.
fn classes() -> Manifest {
    changed(&[
        ("task = \"battery_soh\"", "task = \"thermal_risk\""),
        ("name = \"cycle_count\"", "name = \"cell_temperature_rate_celsius_per_s\""),
        ("z = [-1.0, 0.0, 1.0]", "temperature = 1.0"),
        (
            "name = \"soh\"\nkind = \"quantiles\"\nunit = \"percent\"\nrange = [0.0, 120.0]",
            "name = \"risk\"\nkind = \"classes\"\nclasses = [\"Normal\", \"Warning\", \"Alarm\", \"Runaway\"]",
        ),
        ("target = \"discharge capacity over rated capacity, percent\"", "target = \"class\""),
        ("name = \"r2\"", "name = \"macro_f1\""),
    ])
}

#[test]
fn a_declared_class_never_occurs() {
    let likely = |scores: [f64; 4]| {
        let sum: f64 = scores.iter().map(|score| score.exp()).sum();
        scores.iter().map(|score| score.exp() / sum).collect::<Vec<f64>>()
    };
    let never = |row: &[f64]| {
        let celsius = if row[1].is_nan() { 20.0 } else { row[1] };
        let hot = (celsius - 24.0) / 5.0 + row[2];
        likely([-hot, 1.0 - hot * hot, hot, hot - 0.5])
    };
    check_by(&classes(), &Function(never), &measured(), Gate::Classes, &["1 of 4 classes", "Runaway"]);
    // In a corner of the trained ranges that random rows do not meet, but a search does.
    let rarely = |row: &[f64]| {
        let celsius = if row[1].is_nan() { 20.0 } else { row[1] };
        let hot = (celsius - 24.0) / 5.0 + row[2];
        let corner = (row[0] - 999.0) / 100.0 + (celsius - 43.99) - f64::from(u8::from(row[2] < 0.5));
        likely([-hot, 1.0 - hot * hot, hot, hot + corner + 0.01])
    };
    let results = judged(&classes(), &Function(rarely), &measured());
    assert_eq!(failed(&results), [], "{results:#?}");
}

/// What an engine may give when something is wrong with it.
#[test]
fn answers_of_any_kind_are_judged_without_a_panic() {
    type Answer = fn(&[f64]) -> Vec<f64>;
    let answers: [Answer; 5] = [
        |_| Vec::new(),
        |_| vec![f64::NAN; 4],
        |row| vec![f64::INFINITY, row[0]],
        |row| vec![0.0; if row[0] > 500.0 { 4 } else { 2 }],
        |_| vec![0.25; 4],
    ];
    for answer in answers {
        for manifest in [changed(&[]), classes()] {
            let results = judged(&manifest, &Function(answer), &measured());
            assert_eq!(results.len(), Gate::ALL.len());
        }
    }
    struct Silent;
    impl Probe for Silent {
        fn predict(&self, _: &Row) -> Option<Vec<f64>> {
            None
        }
    }
    check_by(&classes(), &Silent, &measured(), Gate::Classes, &["4 of 4 classes"]);
}

/// What need not be stated by a model that no typed service serves.
#[test]
fn a_generic_model_is_held_to_what_it_states() {
    let bare = r#"
[model]
name = "demand"
task = "generic"
description = "Demand."
backend = "forest"
license = "Apache-2.0"
[[inputs]]
name = "hour"
dtype = "FP32"
[[inputs]]
name = "temperature_celsius"
dtype = "FP32"
[[heads]]
name = "point"
file = "demand.ubj"
[[outputs]]
name = "demand"
kind = "prediction"
"#;
    let two = |row: &[f64]| vec![row[0].sin() + row[1].cos()];
    let measured = Measured::default();
    let check = |text: &str, expected: &[Gate]| {
        let manifest = Manifest::parse(text).expect("a manifest");
        assert_eq!(failed(&judged(&manifest, &Function(two), &measured)), expected, "{text}");
    };
    check(bare, &[]);
    check(&bare.replacen("dtype = \"FP32\"", "dtype = \"FP32\"\nunit = \"h\"", 1), &[Gate::Signature]);
    check(&bare.replace("\"hour\"", "\"demand\""), &[Gate::TargetLeak]);
    check(
        &format!("{bare}\n[[metrics]]\nname = \"r2\"\nsplit = \"by site\"\nvalue = 1.0\nnaive = 0.0\n"),
        &[Gate::TooGood],
    );
}
