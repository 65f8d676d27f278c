//! Whether a model of an EV task speaks the product's vocabulary.

use ev_domain::{Feature, FeatureKind, RiskClass};
use ev_models_core::{
    DataType, Manifest, ManifestError,
    manifest::{Input, OutputKind, Task},
};

/// Checks an EV task's inputs and output against the feature vocabulary. Generic models are free.
///
/// # Errors
///
/// [`ManifestError::Invalid`] naming the input whose name, type or range is not the vocabulary's, or the output.
pub(crate) fn check_vocabulary(manifest: &Manifest) -> Result<(), ManifestError> {
    let kind = match manifest.model.task {
        // What a model of pictures must be, the manifest itself checks.
        Task::Generic | Task::ImageClassification => return Ok(()),
        Task::BatteryFailure => OutputKind::Probability,
        Task::ThermalRisk => OutputKind::Classes,
        _ => OutputKind::Quantiles,
    };
    let invalid = |place: String, problem: String| Err(ManifestError::Invalid { place, problem });
    let task = manifest.model.task.name();
    let output = &manifest.outputs[0];
    if output.kind != kind {
        return invalid("outputs[0].kind".into(), format!("is {:?}, expected {kind:?} for task `{task}`", output.kind));
    }
    if let Some(class) = output.classes.iter().find(|class| RiskClass::by_name(class).is_none()) {
        let known = RiskClass::ALL.map(RiskClass::name).join(", ");
        return invalid("outputs[0].classes".into(), format!("name `{class}`, expected of: {known}"));
    }
    for (index, input) in manifest.inputs.iter().enumerate() {
        let Some(feature) = Feature::by_name(&input.name) else {
            return invalid(
                format!("inputs[{index}].name"),
                format!("is `{}`, which is not in the vocabulary of task `{task}`; use task `generic`", input.name),
            );
        };
        check_input(input, feature).or_else(|problem| invalid(format!("inputs[{index}]"), problem))?;
    }
    Ok(())
}

fn check_input(input: &Input, feature: Feature) -> Result<(), String> {
    match (feature.spec().kind, input.dtype) {
        (FeatureKind::Number { min, max, .. }, DataType::Fp32) if input.shape.is_empty() => {
            let [low, high] = input.range.ok_or("has no `range`, which every number of an EV task needs")?;
            if low < f64::from(min) || high > f64::from(max) {
                return Err(format!("has the range {low} to {high}, expected within {min} to {max}"));
            }
            input.unit.as_ref().map(|_| ()).ok_or_else(|| "has no `unit`".to_owned())
        }
        (FeatureKind::Text { .. }, DataType::Bytes) | (FeatureKind::Flag, DataType::Bool) => Ok(()),
        (kind, dtype) => Err(format!("is {} of shape {:?}, the vocabulary has {kind:?}", dtype.name(), input.shape)),
    }
}
