//! Every number has a unit and a plausible range, every text a vocabulary, every output a unit.

use ev_models_core::{
    DataType, Manifest,
    manifest::{Input, OutputKind},
};

use crate::{gate::Verdict, must_state};

const REQUIRED: &str =
    "`unit` and `range` of every number, `vocabulary` of every text, `unit` of every output that is one";
/// Gaps that a report names.
const NAMED_MAX: usize = 8;

pub(crate) fn judge(manifest: &Manifest) -> Verdict {
    let gaps: Vec<String> = manifest.inputs.iter().flat_map(|input| gaps_of(manifest, input)).collect();
    let gaps: Vec<String> = gaps.into_iter().chain(output_gaps(manifest)).collect();
    if gaps.is_empty() {
        return Verdict::passed(format!("{} inputs, all described", manifest.inputs.len()), REQUIRED);
    }
    // What states nothing of the kind can be wrong about nothing; what states some of it has forgotten the rest.
    let stated = manifest.inputs.iter().any(|input| input.unit.is_some() || input.range.is_some());
    if !stated && !must_state(manifest) {
        return Verdict::not_applicable("no input states a unit or a range", REQUIRED);
    }
    let more = gaps.len().saturating_sub(NAMED_MAX);
    let mut measured = gaps.iter().take(NAMED_MAX).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        measured.push_str(&format!("; and {more} more"));
    }
    Verdict::failed(
        measured,
        REQUIRED,
        "state them in the manifest, \"1\" as the unit of counts and ratios, and register it as a new version",
    )
}

fn gaps_of(manifest: &Manifest, input: &Input) -> Vec<String> {
    // A picture's values are what `[preprocessing]` makes of it.
    let picture = manifest.preprocessing.is_some();
    let selects = manifest.variant_by.as_ref() == Some(&input.name);
    let mut missing = Vec::new();
    match input.dtype {
        DataType::Bytes if input.vocabulary.is_empty() && !selects => missing.push("vocabulary"),
        DataType::Fp32 if !picture => {
            if input.unit.as_deref().is_none_or(|unit| unit.trim().is_empty()) {
                missing.push("unit");
            }
            if input.range.is_none() {
                missing.push("range");
            }
        }
        _ => {}
    }
    missing.into_iter().map(|key| format!("input `{}` has no `{key}`", input.name)).collect()
}

fn output_gaps(manifest: &Manifest) -> Vec<String> {
    let lacks = |unit: &Option<String>| unit.as_deref().is_none_or(|unit| unit.trim().is_empty());
    let is_number = |kind| matches!(kind, OutputKind::Quantiles | OutputKind::Prediction);
    let outputs = manifest.outputs.iter().filter(|output| is_number(output.kind) && lacks(&output.unit));
    outputs.map(|output| format!("output `{}` has no `unit`", output.name)).collect()
}
