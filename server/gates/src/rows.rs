//! Rows that are generated: inside what the model says it was trained on, the same for the same manifest.

use ev_models_core::{
    DataType, Manifest,
    manifest::{Input, OutputKind},
};
use fastrand::Rng;

use crate::{Measured, Probe, ROWS_MAX, Row, Subject, Value};

/// Any will do, as long as it stays.
const SEED: u64 = 0x6576_7365_7276_6531;
/// Share of rows in which an input that may be absent is.
const ABSENT: f64 = 0.25;
/// Values tried for one input in a search.
const CANDIDATES: usize = 12;

/// Random rows and what the version answers.
pub(crate) struct Sample {
    /// Rows in which everything is given.
    pub(crate) full: Vec<(Row, Vec<f64>)>,
    /// Rows in which not everything is.
    pub(crate) partial: Vec<(Row, Vec<f64>)>,
}

// === impl Sample ===

impl Sample {
    /// Runs random rows through the version; none of one that is not loaded, takes pictures, or is too dear.
    pub(crate) fn of(manifest: &Manifest, subject: Subject<'_>) -> Sample {
        let mut sample = Sample { full: Vec::new(), partial: Vec::new() };
        let Subject::Loaded { probe, measured } = subject else { return sample };
        if manifest.preprocessing.is_some() {
            return sample;
        }
        let mut rng = Rng::with_seed(SEED);
        let rows = measured.rows(ROWS_MAX);
        let domains = domains(manifest, measured);
        sample.full = answered(probe, (0..rows).map(|_| random_row(manifest, &domains, 0.0, &mut rng)));
        // Of interest to classes only: their rules see what is absent.
        if manifest.outputs.iter().any(|output| output.kind == OutputKind::Classes) {
            sample.partial = answered(probe, (0..rows / 4).map(|_| random_row(manifest, &domains, ABSENT, &mut rng)));
        }
        sample
    }
}

fn answered(probe: &dyn Probe, rows: impl Iterator<Item = Row>) -> Vec<(Row, Vec<f64>)> {
    let finite = |answer: &Vec<f64>| answer.iter().all(|value| value.is_finite());
    rows.filter_map(|row| probe.predict(&row).filter(finite).map(|answer| (row, answer))).collect()
}

/// Where the numbers of each input come from.
pub(crate) fn domains(manifest: &Manifest, measured: &Measured) -> Vec<Option<[f64; 2]>> {
    let of = |(index, input): (usize, &Input)| {
        let stated = input.trained_range.or(input.range);
        stated.or_else(|| {
            let numbers = measured.golden.iter().filter_map(|row| row.get(index)?.as_ref()?.as_number());
            let (low, high) =
                numbers.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), x| (low.min(x), high.max(x)));
            (low < high).then_some([low, high])
        })
    };
    manifest.inputs.iter().enumerate().map(of).collect()
}

fn random_row(manifest: &Manifest, domains: &[Option<[f64; 2]>], absent: f64, rng: &mut Rng) -> Row {
    let value = |(input, domain): (&Input, &Option<[f64; 2]>), rng: &mut Rng| {
        let given = input.required || rng.f64() >= absent;
        given.then(|| random_value(manifest, input, *domain, rng)).flatten()
    };
    manifest.inputs.iter().zip(domains).map(|pair| value(pair, rng)).collect()
}

fn random_value(manifest: &Manifest, input: &Input, domain: Option<[f64; 2]>, rng: &mut Rng) -> Option<Value> {
    Some(match input.dtype {
        DataType::Bool => Value::Flag(rng.bool()),
        DataType::Bytes => Value::Text(rng.choice(texts(manifest, input))?.to_owned()),
        _ if input.shape.is_empty() => Value::Number(random_number(domain, rng)),
        _ => Value::Vector((0..input.width()).map(|_| random_number(domain, rng)).collect()),
    })
}

/// Even over what is stated; over all sizes where nothing is.
fn random_number(domain: Option<[f64; 2]>, rng: &mut Rng) -> f32 {
    match domain {
        Some([low, high]) => narrow(low + (high - low) * rng.f64()),
        None if rng.bool() => narrow(2.0 * rng.f64() - 1.0),
        None => {
            let size = 10f64.powf(6.0 * rng.f64() - 2.0);
            narrow(if rng.bool() { size } else { -size })
        }
    }
}

/// Texts that mean something to the model.
fn texts<'m>(manifest: &'m Manifest, input: &'m Input) -> Vec<&'m str> {
    let variants = manifest.variants.iter().filter(|_| manifest.variant_by.as_ref() == Some(&input.name));
    let variants: Vec<&str> = variants.map(|variant| variant.value.as_str()).collect();
    if variants.is_empty() { input.vocabulary.iter().map(String::as_str).collect() } else { variants }
}

/// Values worth trying for an input, absence among them where it is allowed.
pub(crate) fn candidates(
    manifest: &Manifest,
    input: &Input,
    domain: Option<[f64; 2]>,
    rng: &mut Rng,
) -> Vec<Option<Value>> {
    let mut values: Vec<Option<Value>> = match input.dtype {
        DataType::Bool => vec![Some(Value::Flag(false)), Some(Value::Flag(true))],
        DataType::Bytes => {
            let mut texts = texts(manifest, input);
            rng.shuffle(&mut texts);
            texts.into_iter().take(CANDIDATES).map(|text| Some(Value::Text(text.to_owned()))).collect()
        }
        _ if input.shape.is_empty() => {
            // The ends, and one from every part between.
            let [low, high] = domain.unwrap_or([-1e3, 1e3]);
            let parts = CANDIDATES - 2;
            let within = |part: usize| low + (high - low) * (as_f64(part) + rng.f64()) / as_f64(parts);
            let between: Vec<f64> = (0..parts).map(within).collect();
            [low, high].into_iter().chain(between).map(|number| Some(Value::Number(narrow(number)))).collect()
        }
        _ => (0..CANDIDATES).map(|_| random_value(manifest, input, domain, rng)).collect(),
    };
    if !input.required {
        values.push(None);
    }
    values
}

#[expect(clippy::cast_possible_truncation, reason = "rounding to float32 is what is wanted")]
pub(crate) fn narrow(number: f64) -> f32 {
    number as f32
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows and classes are far below 2^52")]
pub(crate) fn as_f64(count: usize) -> f64 {
    count as f64
}
