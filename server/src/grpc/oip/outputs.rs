//! A model's outputs as tensors: which there are, which are wanted, and their values.

use std::iter;

use bytes::Bytes;
use ev_models_core::{
    DataType,
    manifest::{Output, OutputKind},
};
use ev_proto::inference::{
    InferTensorContents, model_infer_request::InferRequestedOutputTensor, model_infer_response::InferOutputTensor,
};

use super::tensors::clipped;
use crate::{
    deploy::Deployment,
    pipeline::{Estimate, Outcome, PredictError, Violation},
};

/// One output tensor of a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    Q10,
    Q50,
    Q90,
    Probability,
    /// The likeliest class.
    Class,
    Probabilities,
    Prediction,
    /// The point head's own prediction.
    Raw,
    OutOfDistribution,
    /// Whether the likeliest class is too unlikely.
    Unknown,
}

// === impl Part ===

impl Part {
    fn all(output: &Output) -> &'static [Part] {
        match output.kind {
            OutputKind::Quantiles => &[Part::Q10, Part::Q50, Part::Q90, Part::Raw, Part::OutOfDistribution],
            OutputKind::Probability => &[Part::Probability, Part::Raw, Part::OutOfDistribution],
            OutputKind::Classes if output.unknown_below.is_some() => {
                &[Part::Class, Part::Probabilities, Part::Raw, Part::OutOfDistribution, Part::Unknown]
            }
            OutputKind::Classes => &[Part::Class, Part::Probabilities, Part::Raw, Part::OutOfDistribution],
            OutputKind::Prediction => &[Part::Prediction, Part::Raw, Part::OutOfDistribution],
        }
    }

    /// What a tensor's name is made of: the output's name and a suffix, or a name of its own.
    fn name_of(self, output: &Output) -> [&str; 2] {
        let name = output.name.as_str();
        match self {
            Part::Q10 => [name, "_q10"],
            Part::Q50 => [name, "_q50"],
            Part::Q90 => [name, "_q90"],
            Part::Probability | Part::Class | Part::Prediction => [name, ""],
            Part::Probabilities => [name, "_probabilities"],
            Part::Raw => ["raw", ""],
            Part::OutOfDistribution => ["out_of_distribution", ""],
            Part::Unknown => ["unknown", ""],
        }
    }

    pub(super) fn name(self, output: &Output) -> String {
        self.name_of(output).concat()
    }

    fn is_named(self, output: &Output, name: &str) -> bool {
        let [base, suffix] = self.name_of(output);
        name.strip_prefix(base) == Some(suffix)
    }

    pub(super) fn datatype(self) -> DataType {
        match self {
            Part::Class => DataType::Bytes,
            Part::OutOfDistribution | Part::Unknown => DataType::Bool,
            _ => DataType::Fp32,
        }
    }

    /// Values a row.
    pub(super) fn width(self, deployment: &Deployment) -> usize {
        match self {
            Part::Probabilities => deployment.manifest.outputs[0].classes.len(),
            Part::Prediction | Part::Raw => deployment.plan().head_width(),
            _ => 1,
        }
    }

    /// The values of a float tensor; none where there is no estimate.
    #[inline]
    fn numbers(self, outcome: &Outcome) -> &[f32] {
        match (self, &outcome.estimate) {
            (Part::Raw, _) => &outcome.raw,
            (Part::Q10, Estimate::Quantiles(quantiles)) => &quantiles[..1],
            (Part::Q50, Estimate::Quantiles(quantiles)) => &quantiles[1..2],
            (Part::Q90, Estimate::Quantiles(quantiles)) => &quantiles[2..],
            (Part::Probability, Estimate::Probability(probability)) => std::slice::from_ref(probability),
            (Part::Probabilities, Estimate::Classes(probabilities)) => probabilities,
            (Part::Prediction, Estimate::Prediction(prediction)) => prediction,
            _ => &[],
        }
    }
}

/// Every tensor a model offers. An output that is itself called `raw` hides the tensor of that name.
pub(super) fn offered(output: &Output) -> impl Iterator<Item = Part> {
    let parts = Part::all(output);
    let first_of_name = |index: usize| {
        let name = parts[index].name_of(output);
        !parts[..index].iter().any(|earlier| earlier.name_of(output) == name)
    };
    (0..parts.len()).filter(move |index| first_of_name(*index)).map(|index| parts[index])
}

/// The tensors a request wants: those it names, or all.
///
/// # Errors
///
/// [`PredictError::Invalid`] for an output that is unknown, named twice, or asked for in a way that is not supported.
pub(super) fn select(output: &Output, requested: &[InferRequestedOutputTensor]) -> Result<Vec<Part>, PredictError> {
    if requested.is_empty() {
        return Ok(offered(output).collect());
    }
    let mut parts = Vec::with_capacity(requested.len().min(Part::all(output).len()));
    for tensor in requested {
        let refused = |reason, description| {
            let field = format!("outputs.{}", clipped(&tensor.name));
            Err(PredictError::Invalid(vec![Violation { field, reason, description }]))
        };
        let Some(part) = offered(output).find(|part| part.is_named(output, &tensor.name)) else {
            let known: Vec<String> = offered(output).map(|part| part.name(output)).collect();
            return refused(
                "UNKNOWN_OUTPUT",
                format!("is not an output of the model, expected of: {}", known.join(", ")),
            );
        };
        if parts.contains(&part) {
            return refused("DUPLICATE_OUTPUT", "is requested twice, expected once".to_owned());
        }
        for (parameter, instead) in [
            ("shared_memory_region", "values come in the answer"),
            ("classification", "ask for the probabilities, one for each class in the model's order"),
        ] {
            if !tensor.parameters.is_empty() && tensor.parameters.contains_key(parameter) {
                return refused(
                    "NOT_SUPPORTED",
                    format!("has the parameter {parameter}, which is not supported; {instead}"),
                );
            }
        }
        parts.push(part);
    }
    Ok(parts)
}

/// Outputs with their values in the fields of their types.
pub(super) fn typed(deployment: &Deployment, parts: &[Part], outcomes: &[Outcome]) -> Vec<InferOutputTensor> {
    let output = &deployment.manifest.outputs[0];
    let contents = |part: Part| match part {
        Part::Class => InferTensorContents {
            bytes_contents: outcomes
                .iter()
                .map(|outcome| Bytes::copy_from_slice(likeliest(output, outcome).as_bytes()))
                .collect(),
            ..InferTensorContents::default()
        },
        Part::Unknown => InferTensorContents {
            bool_contents: outcomes.iter().map(Outcome::is_unknown).collect(),
            ..Default::default()
        },
        Part::OutOfDistribution => {
            InferTensorContents { bool_contents: outcomes.iter().map(is_outside).collect(), ..Default::default() }
        }
        part => {
            let width = part.width(deployment);
            let mut numbers = Vec::with_capacity(outcomes.len() * width);
            for outcome in outcomes {
                numbers.extend(padded(part.numbers(outcome), width));
            }
            InferTensorContents { fp32_contents: numbers, ..Default::default() }
        }
    };
    parts.iter().map(|part| tensor(deployment, *part, outcomes.len(), Some(contents(*part)))).collect()
}

/// Outputs, and their values as little-endian bytes in the same order.
pub(super) fn raw(
    deployment: &Deployment,
    parts: &[Part],
    outcomes: &[Outcome],
) -> (Vec<InferOutputTensor>, Vec<Bytes>) {
    let output = &deployment.manifest.outputs[0];
    // One buffer for all: each output's bytes are a view into it.
    let mut buffer =
        Vec::with_capacity(outcomes.len() * parts.iter().map(|part| part.width(deployment) * 4).sum::<usize>());
    let mut ends = Vec::with_capacity(parts.len());
    for part in parts {
        for outcome in outcomes {
            match part {
                Part::Class => {
                    let class = likeliest(output, outcome);
                    // A class name is at most as long as a manifest.
                    buffer.extend_from_slice(&u32::try_from(class.len()).unwrap_or(u32::MAX).to_le_bytes());
                    buffer.extend_from_slice(class.as_bytes());
                }
                Part::OutOfDistribution => buffer.push(u8::from(is_outside(outcome))),
                Part::Unknown => buffer.push(u8::from(outcome.is_unknown())),
                part => {
                    for number in padded(part.numbers(outcome), part.width(deployment)) {
                        buffer.extend_from_slice(&number.to_le_bytes());
                    }
                }
            }
        }
        ends.push(buffer.len());
    }
    let buffer = Bytes::from(buffer);
    let starts = iter::once(0).chain(ends.iter().copied());
    let contents = starts.zip(&ends).map(|(start, end)| buffer.slice(start..*end)).collect();
    (parts.iter().map(|part| tensor(deployment, *part, outcomes.len(), None)).collect(), contents)
}

fn tensor(
    deployment: &Deployment,
    part: Part,
    rows: usize,
    contents: Option<InferTensorContents>,
) -> InferOutputTensor {
    InferOutputTensor {
        name: part.name(&deployment.manifest.outputs[0]),
        datatype: part.datatype().name().to_owned(),
        shape: [rows, part.width(deployment)].into_iter().map(dimension).collect(),
        parameters: std::collections::HashMap::new(),
        contents,
    }
}

pub(super) fn dimension(size: usize) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

/// NaN where there is no estimate.
#[inline]
fn padded(numbers: &[f32], width: usize) -> impl Iterator<Item = f32> {
    numbers.iter().copied().chain(iter::repeat_n(f32::NAN, width.saturating_sub(numbers.len())))
}

fn is_outside(outcome: &Outcome) -> bool {
    !outcome.out_of_distribution.is_empty() || outcome.estimate == Estimate::Unknown
}

/// The likeliest class; of equal ones the later, which is the graver. Empty where there is no estimate.
fn likeliest<'o>(output: &'o Output, outcome: &Outcome) -> &'o str {
    let Estimate::Classes(probabilities) = &outcome.estimate else { return "" };
    let classes = output.classes.iter().zip(probabilities);
    let best = classes.fold(
        ("", f32::NEG_INFINITY),
        |best, (class, probability)| {
            if *probability >= best.1 { (class, *probability) } else { best }
        },
    );
    best.0
}
