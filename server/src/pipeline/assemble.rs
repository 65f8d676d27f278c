//! From a caller's values to the row the heads see.

use std::sync::Arc;

use ev_domain::{Feature, Value};
use ev_models_core::{
    DataType,
    manifest::{IfMissing, Operation},
};

use super::{
    outcome::{OutOfDistribution, OutOfDistributionReason, Violation},
    plan::{Plan, PlannedInput, narrow},
    tap::{Draw, Inputs},
    vocabulary::trimmed,
};

/// A value for one input, as a caller sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InputValue<'a> {
    /// FP32, one value.
    Number(f32),
    /// FP32, as many values as the input is wide.
    Vector(&'a [f32]),
    /// The same, each value as four little-endian bytes.
    RawVector(&'a [u8]),
    /// BYTES.
    Text(&'a str),
    /// BOOL.
    Flag(bool),
}

/// Mark of an input that was not given.
pub(super) const ABSENT: u32 = 0;
/// Of one that was given, and is no text of a vocabulary.
const GIVEN: u32 = 1;
/// Of a text that is not in its vocabulary.
pub(super) const UNKNOWN: u32 = 2;
/// Of the first text of a vocabulary; those of the others follow.
pub(super) const CODE: u32 = 3;

/// Scratch of one core, reused from row to row.
#[derive(Debug, Default)]
pub(super) struct RowScratch {
    slots: Vec<f32>,
    /// What came of each input.
    marks: Vec<u32>,
}

/// What is known of an assembled row beside its columns.
#[derive(Debug)]
pub(super) struct RowMeta {
    /// The body to run; none when the model has no variant for the row.
    pub(super) body: Option<usize>,
    pub(super) coverage: f64,
    pub(super) linear: f64,
    /// Bit i: all conditions of rule i hold.
    pub(super) rules: u64,
    pub(super) out_of_distribution: Vec<OutOfDistribution>,
    pub(super) draw: Draw,
    /// What was assembled, where somebody wants to see it.
    pub(super) inputs: Option<Arc<Inputs>>,
}

/// Collects the values of one row.
pub(crate) struct RowBuilder<'p> {
    plan: &'p Plan,
    scratch: &'p mut RowScratch,
    known: usize,
    body: Option<usize>,
    out_of_distribution: Vec<OutOfDistribution>,
    violations: Vec<Violation>,
}

// === impl RowScratch ===

impl RowScratch {
    /// Slots and marks of the row that was assembled last.
    pub(super) fn row(&self) -> (&[f32], &[u32]) {
        (&self.slots, &self.marks)
    }
}

// === impl RowMeta ===

impl RowMeta {
    /// Of a picture, which is all there is to a row.
    pub(super) fn picture() -> RowMeta {
        RowMeta { body: Some(0), coverage: 1.0, ..RowMeta::spent() }
    }

    /// What is left when an outcome has been made of it.
    pub(super) fn spent() -> RowMeta {
        RowMeta {
            body: None,
            coverage: 0.0,
            linear: 0.0,
            rules: 0,
            out_of_distribution: Vec::new(),
            draw: Draw::default(),
            inputs: None,
        }
    }
}

// === impl RowBuilder ===

impl<'p> RowBuilder<'p> {
    pub(super) fn new(plan: &'p Plan, scratch: &'p mut RowScratch) -> RowBuilder<'p> {
        scratch.slots.clear();
        scratch.slots.extend_from_slice(&plan.defaults);
        scratch.marks.clear();
        scratch.marks.extend_from_slice(&plan.unmarked);
        let body = plan.variants.is_none().then_some(0);
        RowBuilder { plan, scratch, known: 0, body, out_of_distribution: Vec::new(), violations: Vec::new() }
    }

    /// Takes a feature of the typed API. A feature the model does not use is checked all the same.
    #[inline]
    pub(crate) fn feature(&mut self, feature: Feature, value: Value<'_>) {
        match value {
            Value::Number(number) => {
                if let Some(place) = self.plan.accepted(feature, number) {
                    if let Some((input, slot)) = place {
                        self.take(input, slot, number, GIVEN);
                    }
                    return;
                }
            }
            Value::Text(text) => {
                if let Some(index) = self.plan.text_input_of(feature) {
                    return self.text(index, &self.plan.inputs[index], text);
                }
            }
            Value::Flag(_) => {}
        }
        self.checked_feature(feature, value);
    }

    /// As [`RowBuilder::feature`], for what its short ways do not take.
    fn checked_feature(&mut self, feature: Feature, value: Value<'_>) {
        if let Err(error) = feature.check(value) {
            let reason = match error.problem {
                ev_domain::Problem::OutOfRange { .. } => "OUT_OF_RANGE",
                ev_domain::Problem::NotFinite { .. } => "NOT_FINITE",
                ev_domain::Problem::TooLong { .. } => "TOO_LONG",
                _ => "WRONG_KIND",
            };
            self.violate(error.field, reason, error.problem.to_string());
            return;
        }
        let Some(input) = self.plan.input_of(feature) else { return };
        let value = match value {
            Value::Number(number) => InputValue::Number(number),
            Value::Text(text) => InputValue::Text(text),
            Value::Flag(flag) => InputValue::Flag(flag),
        };
        self.input(input, value);
    }

    /// Takes the value of an input by its position.
    #[inline]
    pub(crate) fn input(&mut self, index: usize, value: InputValue<'_>) {
        let plan = self.plan;
        let Some(input) = plan.inputs.get(index) else { return };
        match value {
            InputValue::Number(number) if input.dtype == DataType::Fp32 && !input.is_vector => {
                self.number(index, input, number);
            }
            InputValue::Vector(numbers) if input.dtype == DataType::Fp32 && numbers.len() == input.width => {
                self.vector(index, input, numbers.iter().copied());
            }
            InputValue::RawVector(bytes) if input.dtype == DataType::Fp32 && bytes.len() == input.width * 4 => {
                let (numbers, _) = bytes.as_chunks::<4>();
                self.vector(index, input, numbers.iter().map(|number| f32::from_le_bytes(*number)));
            }
            InputValue::Text(text) if input.dtype == DataType::Bytes => self.text(index, input, text),
            InputValue::Flag(flag) if input.dtype == DataType::Bool => {
                self.take(index, input.slot, f32::from(u8::from(flag)), GIVEN);
            }
            _ => {
                let description =
                    format!("has the wrong type, expected {} values a row of {}", input.width, input.dtype.name());
                self.violate(&input.name, "WRONG_KIND", description);
            }
        }
    }

    /// Notes a violation the caller found itself.
    #[cold]
    pub(crate) fn violate(&mut self, field: &str, reason: &'static str, description: String) {
        self.violations.push(Violation { field: field.to_owned(), reason, description });
    }

    #[inline]
    fn take(&mut self, index: usize, slot: usize, value: f32, mark: u32) {
        self.scratch.slots[slot] = value;
        self.scratch.marks[index] = mark;
        self.known += 1;
    }

    #[inline]
    fn number(&mut self, index: usize, input: &PlannedInput, number: f32) {
        if !number.is_finite() {
            if !(number.is_nan() && input.nan_is_missing) {
                self.violate(&input.name, "NOT_FINITE", format!("is {number}, expected a finite number"));
            }
            return;
        }
        if let Some([min, max]) = input.range
            && !(min..=max).contains(&number)
        {
            let unit = input.unit.as_deref().filter(|unit| *unit != "1").unwrap_or("");
            let description = format!("is {number}, expected {min} to {max} {unit}").trim_end().to_owned();
            self.violate(&input.name, "OUT_OF_RANGE", description);
            return;
        }
        if let Some([min, max]) = input.trained_range
            && !(min..=max).contains(&number)
        {
            self.outside(index, OutOfDistributionReason::OutsideTrainedRange, number.to_string());
        }
        self.take(index, input.slot, number, GIVEN);
    }

    fn vector(&mut self, index: usize, input: &PlannedInput, numbers: impl Iterator<Item = f32> + Clone) {
        let allowed = |number: f32| number.is_finite() || (number.is_nan() && input.nan_is_missing);
        if let Some((position, number)) = numbers.clone().enumerate().find(|(_, number)| !allowed(*number)) {
            let description = format!("holds {number} at position {position}, expected a finite number");
            self.violate(&input.name, "NOT_FINITE", description);
            return;
        }
        let out = |[min, max]: [f32; 2]| {
            numbers.clone().enumerate().find(|(_, number)| *number < min || *number > max).map(|out| (out, [min, max]))
        };
        if let Some(((position, number), [min, max])) = input.range.and_then(out) {
            let description = format!("holds {number} at position {position}, expected {min} to {max}");
            self.violate(&input.name, "OUT_OF_RANGE", description);
            return;
        }
        if let Some(((_, number), _)) = input.trained_range.and_then(out) {
            self.outside(index, OutOfDistributionReason::OutsideTrainedRange, number.to_string());
        }
        for (slot, number) in self.scratch.slots[input.slot..input.slot + input.width].iter_mut().zip(numbers) {
            *slot = number;
        }
        self.scratch.marks[index] = GIVEN;
        self.known += 1;
    }

    #[inline]
    fn text(&mut self, index: usize, input: &PlannedInput, text: &str) {
        if text.len() > input.text_bytes_max {
            let description = format!("has {} bytes, expected at most {}", text.len(), input.text_bytes_max);
            self.violate(&input.name, "TOO_LONG", description);
            return;
        }
        let text = trimmed(text);
        if text.is_empty() {
            return;
        }
        if let Some(variants) = &self.plan.variants
            && variants.input == index
        {
            match variants.values.find(text) {
                Some(variant) => {
                    self.scratch.marks[index] = CODE + variant;
                    self.body = Some(variant as usize);
                    self.known += 1;
                }
                None => {
                    self.scratch.marks[index] = UNKNOWN;
                    self.outside(index, OutOfDistributionReason::NoVariant, clipped(text));
                }
            }
            let code = input.vocabulary.as_ref().and_then(|known| known.find(text));
            self.scratch.slots[input.slot] = code.map_or(f32::NAN, |code| input.encoded(code));
            return;
        }
        let Some(vocabulary) = &input.vocabulary else {
            self.take(index, input.slot, f32::NAN, GIVEN);
            return;
        };
        match vocabulary.find(text) {
            Some(code) => self.take(index, input.slot, input.encoded(code), CODE + code),
            None => {
                // Given, so that it is not "missing"; unknown, so that it is no value, and not the default either.
                self.scratch.marks[index] = UNKNOWN;
                self.scratch.slots[input.slot] = f32::NAN;
                self.outside(index, OutOfDistributionReason::UnknownCategory, clipped(text));
            }
        }
    }

    #[cold]
    fn outside(&mut self, input: usize, reason: OutOfDistributionReason, value: String) {
        self.out_of_distribution.push(OutOfDistribution { input, reason, value });
    }

    /// Fills in defaults and derived columns, and appends the row to `matrix`.
    pub(super) fn finish(mut self, matrix: &mut Vec<f32>) -> Result<RowMeta, Vec<Violation>> {
        let plan = self.plan;
        for index in &plan.required {
            let input = &plan.inputs[*index];
            if self.scratch.marks[*index] == ABSENT
                && !self.violations.iter().any(|violation| violation.field == input.name)
            {
                let description = "is missing, expected a value: the model requires it".to_owned();
                self.violate(&input.name, "MISSING_FIELD", description);
            }
        }
        if !self.violations.is_empty() {
            return Err(self.violations);
        }
        derive(plan, &mut self.scratch.slots);
        let slots = &self.scratch.slots;
        matrix.extend(plan.columns.iter().map(|slot| slots[*slot as usize]));
        Ok(RowMeta {
            body: self.body,
            coverage: coverage(self.known, plan.inputs.len()),
            linear: self.body.map_or(0.0, |body| linear(plan, body, slots)),
            rules: rules(plan, slots),
            out_of_distribution: self.out_of_distribution,
            draw: Draw::default(),
            inputs: None,
        })
    }
}

/// A text as error messages and replies carry it: the beginning of whatever was sent.
fn clipped(text: &str) -> String {
    text.chars().take(64).collect()
}

#[expect(clippy::cast_precision_loss, reason = "a model has far fewer than 2^52 inputs")]
fn coverage(known: usize, inputs: usize) -> f64 {
    known as f64 / inputs as f64
}

fn derive(plan: &Plan, slots: &mut [f32]) {
    let first = slots.len() - plan.derived.len();
    for (index, column) in plan.derived.iter().enumerate() {
        let (left, right) = (slots[column.left], slots[column.right]);
        let value = match column.op {
            Operation::Ratio => left / right,
            Operation::Product => left * right,
            Operation::Sum => left + right,
            Operation::Difference => left - right,
            // Through float64, so that every platform's and every language's logarithm gives the same float32.
            Operation::Ln => narrow(f64::from(left).ln()),
            Operation::Log10 => narrow(f64::from(left).log10()),
        };
        slots[first + index] = if value.is_finite() { value } else { f32::NAN };
    }
}

fn linear(plan: &Plan, body: usize, slots: &[f32]) -> f64 {
    let Some(linear) = plan.bodies.get(body).and_then(|body| body.linear.as_ref()) else { return 0.0 };
    linear.terms.iter().fold(linear.intercept, |sum, (slot, weight, center)| {
        let value = slots[*slot];
        if value.is_nan() { sum } else { sum + weight * (f64::from(value) - center) }
    })
}

fn rules(plan: &Plan, slots: &[f32]) -> u64 {
    plan.output.rules.iter().take(64).enumerate().fold(0, |bits, (index, rule)| {
        let holds = rule.when.iter().all(|condition| {
            let value = f64::from(slots[condition.slot]);
            if value.is_nan() {
                condition.if_missing == IfMissing::Holds
            } else {
                value < condition.below && value >= condition.at_least
            }
        });
        bits | (u64::from(holds) << index)
    })
}
