//! The golden requests of the bundled models, as typed requests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use prost_reflect::{DescriptorPool, DynamicMessage, Kind, ReflectMessage as _, Value};
use serde_json::Value as Json;

/// One golden request.
#[derive(Debug, Clone, serde::Deserialize)]
pub(crate) struct Case {
    pub(crate) inputs: BTreeMap<String, Json>,
    pub(crate) coverage: f64,
    pub(crate) out_of_distribution: Vec<String>,
    pub(crate) expected: Option<BTreeMap<String, Json>>,
}

#[derive(serde::Deserialize)]
struct File {
    cases: Vec<Case>,
}

/// Folder of a bundled model's sources.
pub(crate) fn folder(model: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/zoo").join(model)
}

/// The sources that the program under test was built from: those on disk may be newer.
macro_rules! sources {
    ($($model:literal),+) => {
        /// Manifest and golden requests of a bundled model.
        fn sources(model: &str) -> (&'static str, &'static str) {
            match model {
                $($model => (
                    include_str!(concat!("../../../models/zoo/", $model, "/manifest.toml")),
                    include_str!(concat!("../../../models/zoo/", $model, "/golden.json")),
                ),)+
                _ => panic!("no bundled model `{model}`"),
            }
        }
    };
}

sources!(
    "battery-cycle-life",
    "battery-failure",
    "battery-rul",
    "battery-soh",
    "battery-temperature",
    "charging-utilization",
    "ev-range",
    "thermal-risk"
);

/// A model's golden requests.
pub(crate) fn cases(model: &str) -> Vec<Case> {
    serde_json::from_str::<File>(sources(model).1).expect("golden.json").cases
}

/// Names of the inputs that a model cannot do without, in its order.
pub(crate) fn required(model: &str) -> Vec<String> {
    let manifest: toml::Table = sources(model).0.parse().expect("manifest.toml");
    let inputs = manifest["inputs"].as_array().expect("inputs").iter();
    let required = inputs.filter(|input| input.get("required").and_then(toml::Value::as_bool) == Some(true));
    required.map(|input| input["name"].as_str().expect("a name").to_owned()).collect()
}

/// The golden request that knows most, and what is left of it when only what is required is sent.
pub(crate) fn full_and_least(model: &str) -> [BTreeMap<String, Json>; 2] {
    let full = cases(model).into_iter().max_by(|a, b| a.coverage.total_cmp(&b.coverage)).expect("a case").inputs;
    let least = required(model).into_iter().map(|name| (name.clone(), full[&name].clone())).collect();
    [full, least]
}

/// A typed request with these inputs as its fields; they have the same names.
pub(crate) fn request<M: prost::Message + Default>(message: &str, inputs: &BTreeMap<String, Json>) -> M {
    let pool = DescriptorPool::decode(ev_proto::FILE_DESCRIPTOR_SET).expect("descriptors");
    let mut request = DynamicMessage::new(pool.get_message_by_name(message).expect(message));
    for (name, value) in inputs {
        let descriptor = request.descriptor();
        let field = descriptor.get_field_by_name(name).unwrap_or_else(|| panic!("{message} has no field `{name}`"));
        request.set_field(&field, typed(&field.kind(), value));
    }
    request.transcode_to().expect("the same message")
}

#[expect(clippy::cast_possible_truncation, reason = "float32 on the wire, and counts that are whole and small")]
fn typed(kind: &Kind, value: &Json) -> Value {
    match (kind, value) {
        (Kind::String, Json::String(text)) => Value::String(text.clone()),
        (Kind::Bool, Json::Bool(flag)) => Value::Bool(*flag),
        (Kind::Float, Json::Number(number)) => Value::F32(number.as_f64().expect("a number") as f32),
        (Kind::Uint32, Json::Number(number)) => Value::U32(number.as_f64().expect("a number") as u32),
        (kind, value) => panic!("{value} as {kind:?}"),
    }
}

/// Asserts that an answer is a golden one, to the tolerance of the manifest.
#[track_caller]
pub(crate) fn assert_close(found: f32, expected: &Json, what: &str) {
    let expected = expected.as_f64().expect("a number");
    assert!((f64::from(found) - expected).abs() <= 1e-5 * expected.abs().max(1.0), "{what} is {found}, not {expected}");
}
