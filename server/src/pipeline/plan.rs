//! A manifest, compiled: every name resolved to a position, every text to a table.

use std::collections::HashMap;

use ev_domain::{Feature, FeatureKind};
use ev_models_core::{
    DataType, Manifest,
    manifest::{Body, Calibration, DefaultValue, IfMissing, Input, Link, Operation, OutputKind, Task},
};

use super::{assemble::ABSENT, vocabulary::Vocabulary};

/// How requests become rows and margins become answers for one model version.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Inputs in signature order.
    pub(crate) inputs: Vec<PlannedInput>,
    by_name: HashMap<String, usize>,
    features: [PlannedFeature; Feature::COUNT],
    /// What the slots hold before anything is given: defaults, and NaN where there are none.
    /// Inputs come first (vectors take several slots), then derived columns.
    pub(super) defaults: Vec<f32>,
    /// What comes of each input before anything is given.
    pub(super) unmarked: Vec<u32>,
    /// Positions of the inputs a row must have.
    pub(super) required: Vec<usize>,
    pub(super) derived: Vec<PlannedDerived>,
    /// The slot of each head column.
    pub(super) columns: Vec<u32>,
    pub(super) variants: Option<Variants>,
    pub(super) bodies: Vec<PlannedBody>,
    pub(super) output: PlannedOutput,
}

/// One input.
#[derive(Debug)]
pub(crate) struct PlannedInput {
    pub(crate) name: String,
    pub(crate) dtype: DataType,
    /// Values a row, 1 unless it is a vector.
    pub(crate) width: usize,
    pub(crate) is_vector: bool,
    /// Shape of a row's value; empty for a single one.
    pub(crate) shape: Vec<usize>,
    /// Longest text that is looked up.
    pub(super) text_bytes_max: usize,
    pub(crate) required: bool,
    pub(crate) unit: Option<String>,
    pub(crate) nan_is_missing: bool,
    pub(super) slot: usize,
    pub(super) range: Option<[f32; 2]>,
    pub(super) trained_range: Option<[f32; 2]>,
    pub(super) vocabulary: Option<Vocabulary>,
    pub(super) encode: Vec<f32>,
    /// Encoded default; NaN where there is none.
    pub(super) default: f32,
    /// What the model knows, for a person.
    pub(crate) trained_on: String,
}

/// What a feature of the typed API is to the model.
#[derive(Debug, Clone, Copy)]
pub(super) struct PlannedFeature {
    /// A number from here..
    low: f32,
    /// ..to here is plausible, within the signature's range, and within what the model was trained on: it needs no further
    /// look. Holds no number at all for inputs of another kind.
    high: f32,
    input: u32,
    slot: u32,
    is_text: bool,
}

#[derive(Debug)]
pub(super) struct PlannedDerived {
    pub(super) op: Operation,
    pub(super) left: usize,
    pub(super) right: usize,
}

/// Which body a text chooses.
#[derive(Debug)]
pub(super) struct Variants {
    pub(super) input: usize,
    pub(super) values: Vocabulary,
}

#[derive(Debug)]
pub(super) struct PlannedBody {
    pub(super) linear: Option<PlannedLinear>,
    pub(super) calibration: Option<Calibration>,
}

#[derive(Debug)]
pub(super) struct PlannedLinear {
    pub(super) intercept: f64,
    /// Slot, weight, center.
    pub(super) terms: Vec<(usize, f64, f64)>,
}

#[derive(Debug)]
pub(super) struct PlannedOutput {
    pub(super) kind: OutputKind,
    pub(super) link: Link,
    pub(super) range: Option<[f64; 2]>,
    pub(super) class_count: usize,
    /// Position in the reply of each learned class.
    pub(super) learned: Vec<usize>,
    pub(super) rules: Vec<PlannedRule>,
    /// Of classes: what the likeliest must reach.
    pub(super) unknown_below: Option<f64>,
    /// Position in the manifest's labels of each class that has one.
    labels: Vec<Option<usize>>,
    /// Values a row of the point head.
    pub(super) head_width: usize,
}

#[derive(Debug)]
pub(super) struct PlannedRule {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) when: Vec<PlannedCondition>,
}

#[derive(Debug)]
pub(super) struct PlannedCondition {
    pub(super) slot: usize,
    pub(super) below: f64,
    pub(super) at_least: f64,
    pub(super) if_missing: IfMissing,
}

const NO_INPUT: u32 = u32::MAX;

/// Longest text of a generic model's input, unless its vocabulary has longer ones: finding a prefix costs its square.
const TEXT_BYTES_MAX: usize = 256;

// === impl Plan ===

impl Plan {
    /// Compiles a checked manifest.
    pub(crate) fn new(manifest: &Manifest) -> Plan {
        let mut slots: HashMap<&str, usize> = HashMap::new();
        let mut slot = 0;
        let mut inputs = Vec::with_capacity(manifest.inputs.len());
        for input in &manifest.inputs {
            slots.insert(&input.name, slot);
            let feature = Feature::by_name(&input.name).filter(|_| manifest.model.task != Task::Generic);
            inputs.push(PlannedInput::new(input, slot, feature));
            slot += input.width();
        }
        let mut derived = Vec::with_capacity(manifest.derived.len());
        for column in &manifest.derived {
            let operand = |index: usize| column.of.get(index).and_then(|name| slots.get(name.as_str())).copied();
            let left = operand(0).unwrap_or(0);
            derived.push(PlannedDerived { op: column.op, left, right: operand(1).unwrap_or(left) });
            slots.insert(&column.name, slot);
            slot += 1;
        }
        let columns = manifest
            .column_names()
            .into_iter()
            .flat_map(|name| {
                let first = slots.get(name).copied().unwrap_or(0);
                let width = manifest.inputs.iter().find(|input| input.name == name).map_or(1, Input::width);
                first..first + width
            })
            .filter_map(|slot| u32::try_from(slot).ok())
            .collect();
        let by_name: HashMap<String, usize> =
            inputs.iter().enumerate().map(|(index, input)| (input.name.clone(), index)).collect();
        let features = std::array::from_fn(|index| PlannedFeature::new(Feature::ALL[index], &by_name, &inputs));
        let mut defaults = vec![f32::NAN; slot];
        for input in &inputs {
            defaults[input.slot] = input.default;
        }
        let unmarked = vec![ABSENT; inputs.len()];
        let required = (0..inputs.len()).filter(|index| inputs[*index].required).collect();
        let variants = manifest.variant_by.as_ref().and_then(|name| by_name.get(name)).map(|input| Variants {
            input: *input,
            values: Vocabulary::new(
                manifest.variants.iter().map(|variant| variant.value.as_str()),
                manifest.inputs[*input].matching,
            ),
        });
        let bodies = manifest.bodies().map(|body| PlannedBody::new(body, &slots)).collect();
        let output = PlannedOutput::new(manifest, &slots);
        if let ([input], Some(_)) = (inputs.as_mut_slice(), output.unknown_below) {
            input.trained_on = listed(&manifest.outputs[0].classes, "classes");
        }
        Plan { inputs, by_name, features, defaults, unmarked, required, derived, columns, variants, bodies, output }
    }

    /// Columns of a row.
    pub(crate) fn width(&self) -> usize {
        self.columns.len()
    }

    /// Position of the input of this name.
    pub(crate) fn input(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// Position of the input this feature feeds, if the model takes it.
    pub(super) fn input_of(&self, feature: Feature) -> Option<usize> {
        let PlannedFeature { input, .. } = self.features[feature as usize];
        (input != NO_INPUT).then_some(input as usize)
    }

    /// Position of the input this feature feeds with texts as long as the feature allows.
    #[inline]
    pub(super) fn text_input_of(&self, feature: Feature) -> Option<usize> {
        let PlannedFeature { input, is_text, .. } = self.features[feature as usize];
        is_text.then_some(input as usize)
    }

    /// Whether a number needs no further look, and if so the input and slot it goes to, if any.
    #[inline]
    pub(super) fn accepted(&self, feature: Feature, number: f32) -> Option<Option<(usize, usize)>> {
        let PlannedFeature { low, high, input, slot, .. } = self.features[feature as usize];
        // False for NaN.
        let accepted = number >= low && number <= high;
        accepted.then(|| (input != NO_INPUT).then_some((input as usize, slot as usize)))
    }

    /// Position in the manifest's labels of a class's facts.
    pub(crate) fn label(&self, class: usize) -> Option<usize> {
        self.output.labels.get(class).copied().flatten()
    }

    /// Values a row of the point head.
    pub(crate) fn head_width(&self) -> usize {
        self.output.head_width
    }
}

// === impl PlannedFeature ===

impl PlannedFeature {
    fn new(feature: Feature, by_name: &HashMap<String, usize>, inputs: &[PlannedInput]) -> PlannedFeature {
        let index = by_name.get(feature.name()).copied();
        let input = index.map(|index| &inputs[index]);
        let is_number = input.is_none_or(|input| input.dtype == DataType::Fp32 && !input.is_vector);
        let [low, high] = match feature.spec().kind {
            FeatureKind::Number { min, max, .. } if is_number => {
                let narrower = input.into_iter().flat_map(|input| [input.range, input.trained_range]).flatten();
                narrower.fold([min, max], |[low, high], [min, max]| [low.max(min), high.min(max)])
            }
            _ => [f32::INFINITY, f32::NEG_INFINITY],
        };
        let position = |position: Option<usize>| position.and_then(|it| u32::try_from(it).ok()).unwrap_or(NO_INPUT);
        PlannedFeature {
            low,
            high,
            input: position(index),
            slot: position(input.map(|input| input.slot)),
            is_text: match (feature.spec().kind, input) {
                (FeatureKind::Text { max_bytes }, Some(input)) => {
                    input.dtype == DataType::Bytes && input.text_bytes_max == max_bytes
                }
                _ => false,
            },
        }
    }
}

// === impl PlannedInput ===

impl PlannedInput {
    fn new(input: &Input, slot: usize, feature: Option<Feature>) -> PlannedInput {
        let vocabulary = (!input.vocabulary.is_empty())
            .then(|| Vocabulary::new(input.vocabulary.iter().map(String::as_str), input.matching));
        let encode: Vec<f32> = input.encode.iter().map(|code| narrow(*code)).collect();
        let default = match &input.default {
            None => f32::NAN,
            Some(DefaultValue::Number(number)) => narrow(*number),
            Some(DefaultValue::Flag(flag)) => f32::from(u8::from(*flag)),
            Some(DefaultValue::Text(text)) => vocabulary
                .as_ref()
                .and_then(|known| known.find(text.trim()))
                .map_or(f32::NAN, |code| code_value(&encode, code)),
        };
        PlannedInput {
            name: input.name.clone(),
            dtype: input.dtype,
            width: input.width(),
            is_vector: !input.shape.is_empty(),
            shape: input.shape.clone(),
            text_bytes_max: match feature.map(|feature| feature.spec().kind) {
                Some(FeatureKind::Text { max_bytes }) => max_bytes,
                _ => input.vocabulary.iter().map(String::len).max().unwrap_or(0).max(TEXT_BYTES_MAX),
            },
            required: input.required,
            unit: input.unit.clone(),
            nan_is_missing: input.nan_is_missing,
            slot,
            range: input.range.map(|range| range.map(narrow)),
            trained_range: input.trained_range.map(|range| range.map(narrow)),
            trained_on: trained_on(input),
            vocabulary,
            encode,
            default,
        }
    }

    pub(super) fn encoded(&self, code: u32) -> f32 {
        code_value(&self.encode, code)
    }
}

#[expect(clippy::cast_precision_loss, reason = "a vocabulary is far smaller than 2^24")]
fn code_value(encode: &[f32], code: u32) -> f32 {
    encode.get(code as usize).copied().unwrap_or(code as f32)
}

fn trained_on(input: &Input) -> String {
    let unit = input.unit.as_deref().filter(|unit| *unit != "1").map_or(String::new(), |unit| format!(" {unit}"));
    match (&input.trained_range, input.vocabulary.as_slice()) {
        (Some([min, max]), _) => format!("{} to {}{unit}", narrow(*min), narrow(*max)),
        (None, known) => listed(known, "values"),
    }
}

/// All of a few texts, the first of many.
fn listed(known: &[String], what: &str) -> String {
    match known {
        known if known.len() <= 8 => known.join(", "),
        known => format!("{} {what} such as {}", known.len(), known[..5].join(", ")),
    }
}

/// To the model's own precision.
#[expect(clippy::cast_possible_truncation, reason = "rounding to float32 is what is wanted")]
pub(super) fn narrow(value: f64) -> f32 {
    value as f32
}

// === impl PlannedBody ===

impl PlannedBody {
    fn new(body: &Body, slots: &HashMap<&str, usize>) -> PlannedBody {
        let linear = body.linear.as_ref().map(|linear| PlannedLinear {
            intercept: linear.intercept,
            terms: linear
                .terms
                .iter()
                .filter_map(|term| slots.get(term.column.as_str()).map(|slot| (*slot, term.weight, term.center)))
                .collect(),
        });
        PlannedBody { linear, calibration: body.calibration.clone() }
    }
}

// === impl PlannedOutput ===

impl PlannedOutput {
    fn new(manifest: &Manifest, slots: &HashMap<&str, usize>) -> PlannedOutput {
        let output = &manifest.outputs[0];
        let position = |class: &str| output.classes.iter().position(|known| known == class).unwrap_or(0);
        let rules = output
            .rules
            .iter()
            .map(|rule| PlannedRule {
                from: position(&rule.from),
                to: position(&rule.to),
                when: rule
                    .when
                    .iter()
                    .map(|condition| PlannedCondition {
                        slot: slots.get(condition.input.as_str()).copied().unwrap_or(0),
                        below: condition.below.unwrap_or(f64::INFINITY),
                        at_least: condition.at_least.unwrap_or(f64::NEG_INFINITY),
                        if_missing: condition.if_missing,
                    })
                    .collect(),
            })
            .collect();
        PlannedOutput {
            kind: output.kind,
            link: output.link,
            range: output.range,
            class_count: output.classes.len(),
            learned: output.learned_classes().into_iter().map(position).collect(),
            rules,
            unknown_below: output.unknown_below,
            labels: output
                .classes
                .iter()
                .map(|class| manifest.labels.iter().position(|label| label.class == *class))
                .collect(),
            head_width: output.head_width(),
        }
    }
}
