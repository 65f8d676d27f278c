//! From the tensors of a request to rows: names, types and shapes checked, values left where they lie.

use bytes::Bytes;
use ev_proto::inference::{InferTensorContents, ModelInferRequest, model_infer_request::InferInputTensor};

use super::contents::{self, Values};
use crate::pipeline::{Plan, PlannedInput, PredictError, RowBuilder, Violation};

/// Violations of one request that are told: they travel in headers, which have a bound.
pub(super) const VIOLATIONS_MAX: usize = 8;
/// Names of inputs that one violation lists.
const NAMES_MAX: usize = 12;

/// The inputs of a request, by their position in the model's signature.
#[derive(Debug)]
pub(super) struct Columns<'r> {
    rows: usize,
    columns: Vec<Option<Values<'r>>>,
}

/// Where one input stands in a request.
pub(super) struct Place<'r> {
    pub(super) tensor: &'r InferInputTensor,
    pub(super) entry: usize,
    pub(super) raw: Option<&'r [u8]>,
}

// === impl Columns ===

impl<'r> Columns<'r> {
    /// Checks everything but the values of single rows, which are checked when a row is assembled.
    ///
    /// # Errors
    ///
    /// [`PredictError::Invalid`] naming each field that is wrong, [`PredictError::TooManyRows`].
    pub(super) fn decode(
        plan: &Plan,
        request: &'r ModelInferRequest,
        rows_max: usize,
    ) -> Result<Columns<'r>, PredictError> {
        let inputs = &request.inputs;
        let rows = first_rows(plan, inputs, rows_max)?;
        let raw = raw(request)?;
        let mut columns: Vec<Option<Values<'r>>> = Vec::new();
        columns.resize_with(plan.inputs.len(), || None);
        let mut violations = Vec::new();
        let mut next = 0;
        for (entry, tensor) in inputs.iter().enumerate() {
            let place = Place { tensor, entry, raw: raw.get(entry).map(|bytes| &bytes[..]) };
            let decoded = position(plan, &tensor.name, next).and_then(|index| {
                next = index + 1;
                if columns[index].is_some() {
                    return Err(about(tensor, "", "DUPLICATE_INPUT", "is there twice, expected once".to_owned()));
                }
                columns[index] = Some(place.values(&plan.inputs[index], rows)?);
                Ok(())
            });
            if let Err(violation) = decoded {
                violations.push(violation);
                if violations.len() == VIOLATIONS_MAX {
                    break;
                }
            }
        }
        if violations.is_empty() {
            violations.extend(missing(plan, |index| columns[index].is_none()));
        }
        if violations.is_empty() { Ok(Columns { rows, columns }) } else { Err(PredictError::Invalid(violations)) }
    }

    /// Number of rows, at least 1.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The values of a model's only input.
    pub(super) fn only(&self) -> Option<&Values<'r>> {
        match self.columns.as_slice() {
            [values] => values.as_ref(),
            _ => None,
        }
    }

    /// Tells the values of a row.
    #[inline]
    pub(super) fn fill(&self, row: usize, builder: &mut RowBuilder<'_>) {
        for (input, values) in self.columns.iter().enumerate() {
            if let Some(values) = values {
                values.fill(input, row, builder);
            }
        }
    }
}

/// Values as bytes: none, or those of each input.
#[inline]
pub(super) fn raw(request: &ModelInferRequest) -> Result<&[Bytes], PredictError> {
    let (inputs, raw) = (&request.inputs, &request.raw_input_contents);
    if !raw.is_empty() && raw.len() != inputs.len() {
        let description = format!("has {} entries, expected {}: one for each input, in order", raw.len(), inputs.len());
        return Err(one("raw_input_contents", "WRONG_LENGTH", description));
    }
    Ok(raw)
}

/// The rows of the first input, with which all others must agree.
pub(super) fn first_rows(plan: &Plan, inputs: &[InferInputTensor], rows_max: usize) -> Result<usize, PredictError> {
    let Some(first) = inputs.first() else {
        let mut violations: Vec<_> = missing(plan, |_| true).collect();
        if violations.is_empty() {
            let names: Vec<&str> = plan.inputs.iter().take(NAMES_MAX).map(|input| input.name.as_str()).collect();
            let description = format!("is empty, expected at least one input, such as {}", names.join(", "));
            return Err(one("inputs", "MISSING_FIELD", description));
        }
        violations.truncate(VIOLATIONS_MAX);
        return Err(PredictError::Invalid(violations));
    };
    let rows = match first.shape.first() {
        Some(rows) if *rows >= 1 => usize::try_from(*rows).unwrap_or(usize::MAX),
        Some(0) => {
            let description = format!("is {}, expected at least one row", shown(&first.shape));
            return Err(PredictError::Invalid(vec![about(first, ".shape", "EMPTY_BATCH", description)]));
        }
        _ => {
            let description = format!("is {}, expected [n] or [n, 1] for n rows", shown(&first.shape));
            return Err(PredictError::Invalid(vec![about(first, ".shape", "WRONG_SHAPE", description)]));
        }
    };
    if rows > rows_max {
        return Err(PredictError::TooManyRows { rows, max: rows_max });
    }
    Ok(rows)
}

/// Position of an input by name; `next` is a guess that is right when inputs come in the model's order.
#[inline]
fn position(plan: &Plan, name: &str, next: usize) -> Result<usize, Violation> {
    if plan.inputs.get(next).is_some_and(|input| input.name == name) {
        return Ok(next);
    }
    plan.input(name).ok_or_else(|| {
        let known: Vec<&str> = plan.inputs.iter().take(NAMES_MAX).map(|input| input.name.as_str()).collect();
        let more = plan.inputs.len().saturating_sub(known.len());
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        Violation {
            field: format!("inputs.{}", clipped(name)),
            reason: "UNKNOWN_INPUT",
            description: format!("is not an input of the model, expected of: {}{more}", known.join(", ")),
        }
    })
}

fn missing<'p>(plan: &'p Plan, absent: impl Fn(usize) -> bool + 'p) -> impl Iterator<Item = Violation> + 'p {
    let required = plan.inputs.iter().enumerate().filter(move |(index, input)| input.required && absent(*index));
    required.map(|(_, input)| Violation {
        field: format!("inputs.{}", input.name),
        reason: "MISSING_FIELD",
        description: format!("is missing, expected {} values: the model requires it", input.dtype.name()),
    })
}

// === impl Place ===

impl<'r> Place<'r> {
    fn values(&self, input: &PlannedInput, rows: usize) -> Result<Values<'r>, Violation> {
        let tensor = self.tensor;
        if tensor.datatype != input.dtype.name() {
            let description = format!("is `{}`, expected {}", clipped(&tensor.datatype), input.dtype.name());
            return Err(about(tensor, ".datatype", "WRONG_KIND", description));
        }
        if !has_shape(input, rows, &tensor.shape) {
            let description = format!("is {}, expected {}", shown(&tensor.shape), expected_shape(input, rows));
            return Err(about(tensor, ".shape", "WRONG_SHAPE", description));
        }
        match (self.raw, self.contents()?) {
            (_, Some(contents)) => Values::typed(input, contents, rows),
            (Some(bytes), None) => Values::raw(input, bytes, rows, self.entry),
            // One of the two is there.
            (None, None) => Err(self.without_contents()),
        }
    }

    /// The values in the fields of their types; none where they are in `raw_input_contents`.
    pub(super) fn contents(&self) -> Result<Option<&'r InferTensorContents>, Violation> {
        let tensor = self.tensor;
        if !tensor.parameters.is_empty() && tensor.parameters.contains_key("shared_memory_region") {
            let description = "asks for shared memory, which is not supported; send the values in raw_input_contents";
            return Err(about(tensor, ".parameters", "NOT_SUPPORTED", description.to_owned()));
        }
        let contents =
            tensor.contents.as_ref().filter(|contents| contents::given(contents).any(|(_, count)| count > 0));
        match (self.raw, contents) {
            (Some(_), Some(_)) => {
                let description = "stands beside raw_input_contents, expected one of the two";
                Err(about(tensor, ".contents", "AMBIGUOUS", description.to_owned()))
            }
            (None, None) => Err(self.without_contents()),
            (_, contents) => Ok(contents),
        }
    }

    #[cold]
    fn without_contents(&self) -> Violation {
        let description = "is missing, expected the values here or in raw_input_contents";
        about(self.tensor, ".contents", "MISSING_FIELD", description.to_owned())
    }
}

/// Whether a shape is `[n]` or `[n, 1]`, or for a vector `[n, k]` or `[n, ...]` as the manifest has it.
#[inline]
fn has_shape(input: &PlannedInput, rows: usize, shape: &[i64]) -> bool {
    let is = |dimension: i64, expected: usize| usize::try_from(dimension) == Ok(expected);
    match shape {
        [] => false,
        [count, rest @ ..] => {
            let flat = matches!(rest, [width] if is(*width, input.width)) || (rest.is_empty() && !input.is_vector);
            let shaped = rest.len() == input.shape.len() && rest.iter().zip(&input.shape).all(|(a, b)| is(*a, *b));
            is(*count, rows) && (flat || shaped)
        }
    }
}

fn expected_shape(input: &PlannedInput, rows: usize) -> String {
    let rows_hint = "as many rows as the first input";
    if input.is_vector {
        format!("[{rows}, {}], {rows_hint}", input.width)
    } else {
        format!("[{rows}] or [{rows}, 1], {rows_hint}")
    }
}

pub(super) fn about(tensor: &InferInputTensor, part: &str, reason: &'static str, description: String) -> Violation {
    Violation { field: format!("inputs.{}{part}", clipped(&tensor.name)), reason, description }
}

fn one(field: &str, reason: &'static str, description: String) -> PredictError {
    PredictError::Invalid(vec![Violation { field: field.to_owned(), reason, description }])
}

/// The beginning of a text that may be anything.
pub(super) fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}

/// The beginning of a shape that may be anything.
pub(super) fn shown(shape: &[i64]) -> String {
    match shape.get(..8) {
        Some(first) if shape.len() > 8 => format!("{first:?} and {} more dimensions", shape.len() - 8),
        _ => format!("{shape:?}"),
    }
}
