//! A loaded version, as gates ask it.

use std::collections::BTreeMap;

use ev_gates::{GateResult, Measured, Probe, Row, Subject, Value};
use ev_models_core::{
    ArtifactDir, DataType,
    manifest::{GoldenCase, Input},
};

use crate::{
    deploy::Deployment,
    pipeline::{Estimate, InputValue, Want, predict_row},
};

/// Holds a version that was loaded and warmed, and does not serve yet, against the gates. Blocking, for seconds.
pub(crate) fn judge(deployment: &Deployment, artifact: &ArtifactDir, golden: &[GoldenCase]) -> Vec<GateResult> {
    let inputs = &deployment.manifest.inputs;
    let rows = golden.iter().filter(|case| case.image_file.is_none());
    let measured = Measured {
        golden: rows.map(|case| row_of(inputs, &case.inputs)).collect(),
        golden_count: golden.len(),
        row: Some(deployment.row_cost()),
        // What an unoptimised build takes says nothing of what is shipped.
        row_counts: !cfg!(debug_assertions),
        instance_bytes: instance_bytes(deployment, artifact),
    };
    ev_gates::judge(&deployment.manifest, Subject::Loaded { probe: &Loaded(deployment), measured: &measured })
}

struct Loaded<'a>(&'a Deployment);

impl Probe for Loaded<'_> {
    fn predict(&self, row: &Row) -> Option<Vec<f64>> {
        let outcome = predict_row(self.0, Want::Estimate, |builder| {
            for (index, value) in row.iter().enumerate() {
                match value {
                    None => {}
                    Some(Value::Number(number)) => builder.input(index, InputValue::Number(*number)),
                    Some(Value::Vector(numbers)) => builder.input(index, InputValue::Vector(numbers)),
                    Some(Value::Text(text)) => builder.input(index, InputValue::Text(text)),
                    Some(Value::Flag(flag)) => builder.input(index, InputValue::Flag(*flag)),
                }
            }
        });
        match outcome.ok()?.estimate {
            Estimate::Quantiles([_, q50, _]) => Some(vec![f64::from(q50)]),
            Estimate::Probability(probability) => Some(vec![f64::from(probability)]),
            Estimate::Classes(values) | Estimate::Prediction(values) => {
                Some(values.into_iter().map(f64::from).collect())
            }
            Estimate::Unknown => None,
        }
    }
}

/// A golden request as a row.
fn row_of(inputs: &[Input], request: &BTreeMap<String, serde_json::Value>) -> Row {
    let value = |input: &Input| match (request.get(&input.name)?, input.dtype) {
        (serde_json::Value::Bool(flag), _) => Some(Value::Flag(*flag)),
        (serde_json::Value::String(text), DataType::Bytes) => Some(Value::Text(text.clone())),
        (serde_json::Value::Number(number), _) => Some(Value::Number(narrow(number.as_f64()?))),
        (serde_json::Value::Array(values), _) => {
            values.iter().map(|value| value.as_f64().map(narrow)).collect::<Option<_>>().map(Value::Vector)
        }
        _ => None,
    };
    inputs.iter().map(value).collect()
}

/// What an instance takes at least: every engine holds what is in its heads' files.
fn instance_bytes(deployment: &Deployment, artifact: &ArtifactDir) -> Option<u64> {
    let heads = deployment.manifest.bodies().flat_map(|body| &body.heads);
    let sizes = heads.map(|head| Some(fs_err::metadata(artifact.path(&head.file).ok()?).ok()?.len()));
    sizes.sum()
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to float32 is what is wanted")]
fn narrow(number: f64) -> f32 {
    number as f32
}
