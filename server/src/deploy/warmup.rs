//! Before a version takes a request: its golden requests are reproduced, and a row's cost is measured.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use ev_models_core::{
    ArtifactDir, DataType,
    manifest::{GoldenAnswer, GoldenCase, GoldenFile, Manifest},
};

use super::{
    Deployment,
    recent::{self, Rehearsed},
};
use crate::{
    cpu_time::cpu_time,
    pipeline::{
        Estimate, InputValue, Outcome, Picture, Pictures, RowBuilder, Seen, Want, predict_row, rehearse_picture,
    },
};

/// Largest golden file that is read.
const GOLDEN_MAX_BYTES: u64 = 16 * 1024 * 1024;
/// Largest picture of a golden request that is read; `images` of the configuration bounds it further.
const PICTURE_MAX_BYTES: u64 = 64 * 1024 * 1024;
/// Most rows run to measure the cost of one.
const MEASURED_ROWS: usize = 256;
/// Rows in a row of which none was cheaper than one before, after which nothing more is learnt.
const SETTLED_ROWS: usize = 24;
/// Most CPU time spent on measuring. Time that passes would be over after the first rows where others keep the processors
/// busy, and what is cheap would be taken for dear.
const MEASURED_TIME: Duration = Duration::from_millis(20);

/// Reproduces the golden requests, which it returns, answers logged ones, and measures a row. Blocking.
///
/// # Errors
///
/// What was not reproduced: case, value expected, value found; or which logged request was failed.
pub(super) fn warm_up(
    deployment: &Deployment,
    artifact: &ArtifactDir,
    logged: &[Arc<Seen>],
) -> Result<(Vec<GoldenCase>, Rehearsed), String> {
    let golden = read_golden(&deployment.manifest, artifact)?;
    let cases = golden.map(|golden| golden.cases).unwrap_or_default();
    let tolerance = deployment.manifest.golden.as_ref().map_or(1e-5, |golden| golden.tolerance);
    let mut pictures_took = Vec::new();
    for (index, case) in cases.iter().enumerate() {
        let reproduced = match &case.image_file {
            None => reproduce(deployment, case, tolerance),
            Some(file) => {
                let reproduced = reproduce_picture(deployment, artifact, file, case, tolerance);
                reproduced.map(|inference| pictures_took.push(inference))
            }
        };
        reproduced.map_err(|problem| format!("golden request {index}: {problem}"))?;
    }
    let rehearsed = recent::rehearse(deployment, logged)?;
    if let Some(pictures) = deployment.pictures() {
        // Any values will do: a network takes as long for one picture as for another.
        let black = Picture::Tensor(vec![0.0; deployment.plan().width()].into());
        let row = || Some(rehearse_picture(deployment, pictures, &black).ok()?.0.timings.inference);
        // The first run allocates what all others reuse.
        let took = pictures_took.get(1..).unwrap_or_default();
        measure(deployment, took, row);
    } else {
        let usual = usual_values(&deployment.manifest);
        let inputs = cases.first().map_or(&usual, |case| &case.inputs);
        let row = || predict_row(deployment, Want::Estimate, |row| fill(deployment, inputs, row)).ok();
        measure(deployment, &[], || Some(row()?.timings.total));
    }
    deployment.reset_stats();
    Ok((cases, rehearsed))
}

pub(super) fn read_golden(manifest: &Manifest, artifact: &ArtifactDir) -> Result<Option<GoldenFile>, String> {
    let Some(golden) = &manifest.golden else { return Ok(None) };
    let path = artifact.path(&golden.file).map_err(|error| error.to_string())?;
    let size = fs_err::metadata(path).map_err(|error| error.to_string())?.len();
    if size > GOLDEN_MAX_BYTES {
        return Err(format!("`{}` has {size} bytes, expected at most {GOLDEN_MAX_BYTES}", golden.file));
    }
    let bytes = fs_err::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("`{}` cannot be read: {error}", golden.file))
}

fn reproduce(deployment: &Deployment, case: &GoldenCase, tolerance: f64) -> Result<(), String> {
    let outcome = predict(deployment, &case.inputs)?;
    reproduces(deployment, &outcome, case, tolerance)
}

/// A golden picture is decoded and resized as a caller's is, so that a recipe that is not the one the model was trained
/// with is refused here.
fn reproduce_picture(
    deployment: &Deployment,
    artifact: &ArtifactDir,
    file: &str,
    case: &GoldenCase,
    tolerance: f64,
) -> Result<Duration, String> {
    let Some(pictures) = deployment.pictures() else {
        return Err(format!("names the picture `{file}`, but the manifest has no `preprocessing`"));
    };
    if !case.inputs.is_empty() || !case.columns.is_empty() {
        return Err(format!("names the picture `{file}` beside `inputs` or `columns`, expected one of the two"));
    }
    let picture = Picture::File(read_picture(artifact, file)?);
    let (outcome, margin) =
        rehearse_picture(deployment, pictures, &picture).map_err(|error| format!("the picture `{file}`: {error}"))?;
    if let Some(expected) = &case.margin {
        let expected: Vec<f64> = expected.iter().copied().map(f64::from).collect();
        if !all_close(&margin, &expected, tolerance) {
            return Err(wrong_recipe(
                file,
                pictures,
                &format!("the head gives {margin:?}, expected {expected:?} within {tolerance}"),
            ));
        }
    }
    reproduces(deployment, &outcome, case, tolerance).map_err(|problem| wrong_recipe(file, pictures, &problem))?;
    Ok(outcome.timings.inference)
}

fn wrong_recipe(file: &str, pictures: &Pictures, problem: &str) -> String {
    format!(
        "of the picture `{file}` {problem}; is `preprocessing` what the model was trained with? It says {:?}",
        pictures.recipe()
    )
}

pub(super) fn read_picture(artifact: &ArtifactDir, file: &str) -> Result<Bytes, String> {
    let path =
        artifact.path(file).map_err(|_| format!("names the picture `{file}`, which is not among `[[files]]`"))?;
    let size = fs_err::metadata(path).map_err(|error| error.to_string())?.len();
    if size > PICTURE_MAX_BYTES {
        return Err(format!("`{file}` has {size} bytes, expected at most {PICTURE_MAX_BYTES}"));
    }
    Ok(fs_err::read(path).map_err(|error| error.to_string())?.into())
}

/// Whether an answer is the golden one.
fn reproduces(deployment: &Deployment, outcome: &Outcome, case: &GoldenCase, tolerance: f64) -> Result<(), String> {
    if let Some(expected) = &case.prediction {
        let same = outcome.raw.len() == expected.len()
            && outcome.raw.iter().zip(expected).all(|(found, expected)| found.to_bits() == expected.to_bits());
        if !same && !matches!(outcome.estimate, Estimate::Unknown) {
            return Err(format!("the head predicts {:?}, expected {expected:?} bit for bit", outcome.raw));
        }
    }
    if let Some(coverage) = case.coverage
        && (f64::from(outcome.coverage) - coverage).abs() > 1e-6
    {
        return Err(format!("feature coverage is {}, expected {coverage}", outcome.coverage));
    }
    let mut flagged: Vec<&str> = outcome
        .out_of_distribution
        .iter()
        .filter_map(|field| deployment.plan().inputs.get(field.input).map(|input| input.name.as_str()))
        .collect();
    flagged.sort_unstable();
    let mut expected: Vec<&str> = case.out_of_distribution.iter().map(String::as_str).collect();
    expected.sort_unstable();
    if flagged != expected {
        return Err(format!("out of distribution are {flagged:?}, expected {expected:?}"));
    }
    compare(deployment, outcome, case.expected.as_ref(), tolerance)
}

fn compare(
    deployment: &Deployment,
    outcome: &Outcome,
    expected: Option<&GoldenAnswer>,
    tolerance: f64,
) -> Result<(), String> {
    let classes = &deployment.manifest.outputs[0].classes;
    let (found, expected): (Vec<f32>, Vec<f64>) = match (&outcome.estimate, expected) {
        (Estimate::Unknown, None) => return Ok(()),
        (Estimate::Quantiles(found), Some(GoldenAnswer::Quantiles { q10, q50, q90 })) => {
            (found.to_vec(), vec![*q10, *q50, *q90])
        }
        (Estimate::Probability(found), Some(GoldenAnswer::Probability { probability })) => {
            (vec![*found], vec![*probability])
        }
        (Estimate::Classes(found), Some(GoldenAnswer::Classes { probabilities })) => {
            let expected = classes.iter().map(|class| probabilities.get(class).copied().unwrap_or(f64::NAN));
            (found.clone(), expected.collect())
        }
        (Estimate::Prediction(found), Some(GoldenAnswer::Prediction { prediction })) => {
            (found.clone(), prediction.clone())
        }
        (found, expected) => return Err(format!("the answer is {found:?}, expected {expected:?}")),
    };
    let same = all_close(&found, &expected, tolerance);
    if same { Ok(()) } else { Err(format!("the answer is {found:?}, expected {expected:?} within {tolerance}")) }
}

/// Within `tolerance`, which is relative above 1.
fn all_close(found: &[f32], expected: &[f64], tolerance: f64) -> bool {
    let close = |found: f32, expected: f64| (f64::from(found) - expected).abs() <= tolerance * expected.abs().max(1.0);
    found.len() == expected.len() && found.iter().zip(expected).all(|(found, expected)| close(*found, *expected))
}

/// The answer to a picture, of a version that takes some.
pub(super) fn predict_picture(deployment: &Deployment, picture: Picture) -> Result<Outcome, String> {
    let Some(pictures) = deployment.pictures() else { return Err("the version takes no pictures".to_owned()) };
    rehearse_picture(deployment, pictures, &picture).map(|(outcome, _)| outcome).map_err(|error| error.to_string())
}

pub(super) fn predict(
    deployment: &Deployment,
    inputs: &BTreeMap<String, serde_json::Value>,
) -> Result<Outcome, String> {
    predict_row(deployment, Want::EstimateAndRaw, |row| fill(deployment, inputs, row))
        .map_err(|error| error.to_string())
}

fn fill(deployment: &Deployment, inputs: &BTreeMap<String, serde_json::Value>, row: &mut RowBuilder<'_>) {
    for (name, value) in inputs {
        let Some(index) = deployment.plan().input(name) else {
            row.violate(name, "UNKNOWN_INPUT", "is not an input of the model".to_owned());
            continue;
        };
        match value {
            serde_json::Value::Null => {}
            serde_json::Value::Bool(flag) => row.input(index, InputValue::Flag(*flag)),
            serde_json::Value::String(text) => row.input(index, InputValue::Text(text)),
            serde_json::Value::Number(number) => row.input(index, InputValue::Number(to_f32(number))),
            serde_json::Value::Array(values) => {
                let numbers: Vec<f32> = values.iter().map(|value| value.as_number().map_or(f32::NAN, to_f32)).collect();
                row.input(index, InputValue::Vector(&numbers));
            }
            serde_json::Value::Object(_) => {
                row.violate(name, "WRONG_KIND", "is an object, expected a value".to_owned());
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to float32 is what is wanted")]
fn to_f32(number: &serde_json::Number) -> f32 {
    number.as_f64().unwrap_or(f64::NAN) as f32
}

/// A plausible value for every input, for models without golden requests.
fn usual_values(manifest: &Manifest) -> BTreeMap<String, serde_json::Value> {
    let value = |input: &ev_models_core::manifest::Input| match input.dtype {
        DataType::Bytes => {
            let variant = manifest.variants.first().filter(|_| manifest.variant_by.as_ref() == Some(&input.name));
            let text = variant.map(|variant| variant.value.clone()).or_else(|| input.vocabulary.first().cloned());
            serde_json::Value::from(text.unwrap_or_else(|| "warm-up".to_owned()))
        }
        DataType::Bool => serde_json::Value::from(false),
        _ => {
            let middle = input.trained_range.or(input.range).map_or(0.0, |[min, max]| min / 2.0 + max / 2.0);
            if input.shape.is_empty() {
                serde_json::Value::from(middle)
            } else {
                serde_json::Value::from(vec![middle; input.width()])
            }
        }
    };
    manifest.inputs.iter().map(|input| (input.name.clone(), value(input))).collect()
}

fn measure(deployment: &Deployment, took: &[Duration], row: impl FnMut() -> Option<Duration>) {
    if let Some(cheapest) = cheapest(took, row) {
        deployment.set_row_cost(cheapest);
    }
}

/// The cheapest of many rows, those that `took` their time before among them: what a row costs when nothing disturbs it.
fn cheapest(took: &[Duration], mut row: impl FnMut() -> Option<Duration>) -> Option<Duration> {
    let (begun, before) = (cpu_time(), took.iter().sum::<Duration>());
    let mut cheapest = took.iter().min().copied();
    let mut no_cheaper = 0;
    for _ in took.len()..MEASURED_ROWS {
        if no_cheaper == SETTLED_ROWS || before + cpu_time().saturating_sub(begun) > MEASURED_TIME {
            break;
        }
        let last = cheapest;
        cheapest = last.into_iter().chain(row()).min();
        no_cheaper = if cheapest == last { no_cheaper + 1 } else { 0 };
    }
    cheapest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_to_wait_for_a_processor_is_not_dear_for_that() {
        let (long, short) = (Duration::from_millis(5), Duration::from_micros(2));
        let mut rows = 0;
        let found = cheapest(&[], || {
            rows += 1;
            // Others have the processor, for longer than may be measured.
            if rows <= 8 {
                std::thread::sleep(long);
            }
            Some(if rows <= 8 { long } else { short })
        });
        assert_eq!((found, rows), (Some(short), 9 + SETTLED_ROWS));
        assert_eq!(cheapest(&[long; 5], || Some(short)), Some(long), "it had its time");
        assert_eq!(cheapest(&[], || None), None);
    }
}
