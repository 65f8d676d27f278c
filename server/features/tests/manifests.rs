//! The bundled views against the bundled models: every input of the battery and thermal models has a view.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on panics")]

use std::{collections::BTreeMap, path::Path};

use ev_domain::Catalogue;
use ev_features::{Plan, ViewId, Views};

/// The models that read the feature store, with the views they read first.
const MODELS: &[(&str, &[&str])] = &[
    ("battery-cycle-life", &["cycle_life"]),
    ("battery-failure", &["last_discharge"]),
    ("battery-rul", &["last_discharge", "condition"]),
    ("battery-soh", &["last_discharge"]),
    ("battery-temperature", &["discharge_now"]),
    ("thermal-risk", &["pack_now"]),
];

/// Inputs of a model, with whether each is required.
fn inputs(model: &str) -> BTreeMap<String, bool> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/zoo").join(model).join("manifest.toml");
    let manifest: toml::Table = fs_err::read_to_string(path).unwrap().parse().unwrap();
    let inputs = manifest["inputs"].as_array().unwrap();
    let input = |input: &toml::Value| {
        let required = input.get("required").is_some_and(|required| required.as_bool() == Some(true));
        (input["name"].as_str().unwrap().to_owned(), required)
    };
    inputs.iter().map(input).collect()
}

#[test]
fn every_input_of_the_battery_and_thermal_models_has_a_view() {
    let views = Views::bundled(&Catalogue::standard()).unwrap();
    for (model, first) in MODELS {
        let inputs = inputs(model);
        assert!(inputs.values().any(|required| *required), "{model} requires nothing: was the manifest read?");
        let names: Vec<&str> = inputs.keys().map(String::as_str).collect();
        let first: Vec<ViewId> = first.iter().map(|view| views.by_name(view).unwrap()).collect();
        Plan::new(&views, &names, &first).unwrap_or_else(|error| panic!("{model}: {error}"));
    }
}

#[test]
fn every_zoo_model_of_packs_is_in_the_list() {
    let zoo = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/zoo");
    for entry in fs_err::read_dir(zoo).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("battery-") || name.starts_with("thermal-") {
            assert!(MODELS.iter().any(|(model, _)| *model == name), "{name} is not in the list of this test");
        }
    }
}
