//! The manifest's tables, key by key.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};

use super::Preprocessing;
use crate::{DataType, Digest};

/// Everything evserve needs to serve a model version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "RawManifest", into = "RawManifest")]
pub struct Manifest {
    /// Name, task, backend, licence.
    pub model: ModelTable,
    /// What a request may hold, in signature order.
    pub inputs: Vec<Input>,
    /// Columns computed from inputs.
    pub derived: Vec<Derived>,
    /// Names of the heads' columns in order; empty means all inputs, then all derived columns.
    pub columns: Vec<String>,
    /// How a picture becomes the one input.
    pub preprocessing: Option<Preprocessing>,
    /// The body, unless the model has variants.
    pub body: Option<Body>,
    /// The text input that chooses the variant.
    pub variant_by: Option<String>,
    /// A body for each value of `variant_by`.
    pub variants: Vec<Variant>,
    /// The answers.
    pub outputs: Vec<Output>,
    /// Facts about classes, one a class at most.
    pub labels: Vec<Label>,
    /// Generated requests and their answers.
    pub golden: Option<Golden>,
    /// Where the model comes from.
    pub training: Option<Training>,
    /// What was measured.
    pub metrics: Vec<Metric>,
    /// What a request and an instance may take.
    pub limits: Limits,
    /// Every file with its digest.
    pub files: Vec<FileEntry>,
}

/// The TOML layout, in which a single body's tables stand at the top level.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawManifest {
    model: ModelTable,
    inputs: Vec<Input>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    derived: Vec<Derived>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    columns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    preprocessing: Option<Preprocessing>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    heads: Vec<Head>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linear: Option<Linear>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant_by: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    variants: Vec<Variant>,
    outputs: Vec<Output>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    labels: Vec<Label>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    golden: Option<Golden>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    training: Option<Training>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    metrics: Vec<Metric>,
    #[serde(default)]
    limits: Limits,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    files: Vec<FileEntry>,
}

/// `[model]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelTable {
    /// Registered name.
    pub name: String,
    /// What question it answers.
    pub task: Task,
    /// One sentence.
    pub description: String,
    /// The engine that runs its files.
    pub backend: String,
    /// SPDX expression.
    pub license: String,
    /// What the training labels are.
    #[serde(default)]
    pub nature: Nature,
}

/// The question a model answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Task {
    /// How far a car goes.
    Range,
    /// Charging sessions a day.
    Utilization,
    /// State of health.
    BatterySoh,
    /// Remaining useful life.
    BatteryRul,
    /// Cell temperature.
    BatteryTemperature,
    /// Failure within a horizon.
    BatteryFailure,
    /// Cycle life from early cycles.
    BatteryCycleLife,
    /// Thermal-risk class.
    ThermalRisk,
    /// What is on a picture.
    ImageClassification,
    /// Anything, served over the Open Inference Protocol only.
    Generic,
}

/// What the training labels are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Nature {
    /// Measured.
    #[default]
    Real,
    /// Made by a formula or a simulator.
    Synthetic,
}

/// `[[inputs]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Field name.
    pub name: String,
    /// `FP32`, `BYTES` or `BOOL`.
    pub dtype: DataType,
    /// Shape of one row's value; empty for a single one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shape: Vec<usize>,
    /// Unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Plausible values, inclusive; outside is refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// Values seen in training, inclusive; outside is flagged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trained_range: Option<[f64; 2]>,
    /// Known texts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vocabulary: Vec<String>,
    /// How a text is looked up in the vocabulary.
    #[serde(default, rename = "match", skip_serializing_if = "Match::is_exact")]
    pub matching: Match,
    /// The number for each text of the vocabulary; empty for its position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub encode: Vec<f64>,
    /// A request without it is refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub required: bool,
    /// Used when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<DefaultValue>,
    /// NaN means "not given" instead of being refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub nan_is_missing: bool,
    /// Oldest feature-store value that counts as fresh, such as `15m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<String>,
    /// What an older one means.
    #[serde(default, skip_serializing_if = "IfStale::is_missing")]
    pub if_stale: IfStale,
    /// COVESA VSS signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vss: Option<String>,
    /// How the signal is aggregated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<String>,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What a feature-store value means that is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfStale {
    /// It is used all the same.
    Use,
    /// It counts as not given: the default stands in, and of a required input the request is refused.
    #[default]
    Missing,
    /// The request is refused.
    Refuse,
}

/// How a text is looked up; both ways ignore case and outer blanks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Match {
    /// The whole text.
    #[default]
    Exact,
    /// The longest known text it begins with, ending at a word boundary.
    Prefix,
}

/// An input's value when it is absent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum DefaultValue {
    /// Of a flag.
    Flag(bool),
    /// Of a number.
    Number(f64),
    /// Of a text.
    Text(String),
}

/// `[[derived]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derived {
    /// Column name.
    pub name: String,
    /// What is computed.
    pub op: Operation,
    /// One or two names of inputs or earlier derived columns.
    pub of: Vec<String>,
}

/// What a derived column computes, in float32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Operation {
    /// a / b.
    Ratio,
    /// a * b.
    Product,
    /// a + b.
    Sum,
    /// a - b.
    Difference,
    /// Natural logarithm.
    Ln,
    /// Decimal logarithm.
    Log10,
}

/// Heads, linear term and calibration.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Body {
    /// Files the backend runs.
    pub heads: Vec<Head>,
    /// Added to the point head's margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub linear: Option<Linear>,
    /// From margin to answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration: Option<Calibration>,
}

/// `[[variants]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "RawVariant", into = "RawVariant")]
pub struct Variant {
    /// The text that chooses it.
    pub value: String,
    /// Its body.
    pub body: Body,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVariant {
    value: String,
    heads: Vec<Head>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    linear: Option<Linear>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    calibration: Option<Calibration>,
}

/// `[[heads]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Its part in the answer.
    pub name: HeadName,
    /// Path of its file.
    pub file: String,
}

/// A head's part in the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadName {
    /// The margin of the answer.
    Point,
    /// The logarithm of the expected absolute error.
    Spread,
}

/// `[linear]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Added always.
    pub intercept: f64,
    /// Added where the column is present.
    #[serde(default)]
    pub terms: Vec<LinearTerm>,
}

/// `[[linear.terms]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearTerm {
    /// Column name.
    pub column: String,
    /// Factor.
    pub weight: f64,
    /// Subtracted from the column first.
    #[serde(default)]
    pub center: f64,
}

/// `[calibration]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// How it was fitted.
    pub method: String,
    /// Smallest spread.
    #[serde(default)]
    pub spread_floor: f64,
    /// By feature coverage, from high to low.
    pub tiers: Vec<Tier>,
}

/// `[[calibration.tiers]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Applies from this share of given inputs on.
    pub min_coverage: f64,
    /// Multiples of the spread for q10, q50 and q90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub z: Option<[f64; 3]>,
    /// Of a probability's margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slope: Option<f64>,
    /// Of a probability's margin.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intercept: Option<f64>,
    /// Of a softmax.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Of a softmax, one a learned class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bias: Vec<f64>,
    /// Measured share of answers inside q10 to q90.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<f64>,
    /// Measured mean of q90 - q10.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_width: Option<f64>,
    /// Measured expected calibration error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calibration_error: Option<f64>,
}

/// `[[outputs]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Name.
    pub name: String,
    /// What it is.
    pub kind: OutputKind,
    /// Unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Of quantiles.
    #[serde(default, skip_serializing_if = "Link::is_identity")]
    pub link: Link,
    /// Clamp of quantiles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<[f64; 2]>,
    /// All classes, in reply order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Classes of the head's columns; empty for all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub learned: Vec<String>,
    /// Classes given by a rule.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
    /// Values a row, of a prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<usize>,
    /// Of classes: an answer whose likeliest class is less probable than this is flagged as unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unknown_below: Option<f64>,
}

/// `[[labels]]`: facts about a class.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Label {
    /// One of the output's classes.
    pub class: String,
    /// Manufacturer.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub make: String,
    /// Model line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub model: String,
    /// Lowest, median and highest range of the model line's variants, in km.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub typical_range_km: Option<[f64; 3]>,
    /// The list those are from, and its years.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range_source: Option<String>,
}

/// What an output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// q10, q50 and q90 of a number.
    Quantiles,
    /// A calibrated probability.
    Probability,
    /// Calibrated probabilities of classes.
    Classes,
    /// The point head's own prediction.
    Prediction,
}

/// From the margin's space to the answer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Link {
    /// As it is.
    #[default]
    Identity,
    /// e^x.
    Exp,
    /// e^x - 1.
    Expm1,
    /// 10^x.
    Pow10,
}

/// `[[outputs.rules]]`: when all conditions hold, the probability of `from` is given to `to`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A learned class.
    pub from: String,
    /// Any class.
    pub to: String,
    /// All must hold.
    pub when: Vec<Condition>,
}

/// A condition on one numeric input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// Input name.
    pub input: String,
    /// Holds when the value is below this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
    /// Holds when the value is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// What a missing value means.
    #[serde(default)]
    pub if_missing: IfMissing,
}

/// What a missing value means to a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IfMissing {
    /// The condition does not hold.
    #[default]
    Fails,
    /// The condition holds.
    Holds,
}

/// `[golden]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// Path of the cases.
    pub file: String,
    /// Relative tolerance of `expected`.
    #[serde(default = "default_tolerance")]
    pub tolerance: f64,
}

/// `[training]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// Names of the data sets.
    pub datasets: Vec<String>,
    /// SHA-256 over the files read.
    pub data_digest: Digest,
    /// Rows learned from.
    pub rows: u64,
    /// Groups (vehicles, stations, cells, model lines) among them.
    pub groups: u64,
    /// How rows were split for the metrics.
    pub split: String,
    /// What stays together in that split, such as `cell`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split_by: Option<String>,
    /// The column learned.
    pub target: String,
    /// The command that trains it again.
    pub command: String,
}

/// `[[metrics]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Metric {
    /// Such as `mae`.
    pub name: String,
    /// The split it was measured on.
    pub split: String,
    /// What was measured.
    pub value: f64,
    /// The baseline on the same split.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub baseline: Option<f64>,
    /// Always predicting the mean, or the majority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub naive: Option<f64>,
    /// Unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
}

/// `[limits]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Rows of one request.
    pub max_batch_rows: usize,
    /// Memory of one instance, such as `16MiB`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Time of one row, such as `1ms`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<String>,
}

/// `[[files]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Path inside the version's directory.
    pub path: String,
    /// Digest of its bytes.
    pub sha256: Digest,
    /// Its size in bytes.
    pub size: u64,
}

/// The golden file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenFile {
    /// Library and version that made the answers.
    pub library: String,
    /// Requests and answers.
    pub cases: Vec<GoldenCase>,
}

/// One generated request and its answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GoldenCase {
    /// Values by input name; of a picture none.
    #[serde(default)]
    pub inputs: BTreeMap<String, serde_json::Value>,
    /// A picture among the version's files, which is the request instead of `inputs`.
    #[serde(default)]
    pub image_file: Option<String>,
    /// The row, `null` for a missing value; of a picture none.
    #[serde(default)]
    pub columns: Vec<Option<f32>>,
    /// The point head's margin.
    #[serde(default)]
    pub margin: Option<Vec<f32>>,
    /// The point head's prediction.
    #[serde(default)]
    pub prediction: Option<Vec<f32>>,
    /// The spread head's margin.
    #[serde(default)]
    pub spread_margin: Option<f32>,
    /// Share of inputs given.
    #[serde(default)]
    pub coverage: Option<f64>,
    /// Inputs that are flagged.
    #[serde(default)]
    pub out_of_distribution: Vec<String>,
    /// The answer, `null` where there is no estimate.
    #[serde(default)]
    pub expected: Option<GoldenAnswer>,
}

/// A golden case's answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum GoldenAnswer {
    /// Of `quantiles`.
    Quantiles {
        /// 10 %.
        q10: f64,
        /// 50 %.
        q50: f64,
        /// 90 %.
        q90: f64,
    },
    /// Of `probability`.
    Probability {
        /// 0 to 1.
        probability: f64,
    },
    /// Of `classes`.
    Classes {
        /// By class name.
        probabilities: BTreeMap<String, f64>,
    },
    /// Of `prediction`.
    Prediction {
        /// As the library gives it.
        prediction: Vec<f64>,
    },
}

fn default_tolerance() -> f64 {
    1e-5
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

// === impl RawManifest ===

impl TryFrom<RawManifest> for Manifest {
    type Error = String;

    fn try_from(raw: RawManifest) -> Result<Manifest, String> {
        let RawManifest {
            model,
            inputs,
            derived,
            columns,
            preprocessing,
            heads,
            linear,
            calibration,
            variant_by,
            variants,
            outputs,
            labels,
            golden,
            training,
            metrics,
            limits,
            files,
        } = raw;
        let body = match (heads.is_empty(), variants.is_empty()) {
            (false, true) => Some(Body { heads, linear, calibration }),
            (true, false) if linear.is_none() && calibration.is_none() => None,
            (true, true) => return Err("missing field `heads` (or `variants`)".to_owned()),
            _ => return Err("`variants` exclude top-level `heads`, `linear` and `calibration`".to_owned()),
        };
        Ok(Manifest {
            model,
            inputs,
            derived,
            columns,
            preprocessing,
            body,
            variant_by,
            variants,
            outputs,
            labels,
            golden,
            training,
            metrics,
            limits,
            files,
        })
    }
}

impl From<Manifest> for RawManifest {
    fn from(manifest: Manifest) -> RawManifest {
        let Manifest {
            model,
            inputs,
            derived,
            columns,
            preprocessing,
            body,
            variant_by,
            variants,
            outputs,
            labels,
            golden,
            training,
            metrics,
            limits,
            files,
        } = manifest;
        let (heads, linear, calibration) =
            body.map_or((Vec::new(), None, None), |Body { heads, linear, calibration }| (heads, linear, calibration));
        RawManifest {
            model,
            inputs,
            derived,
            columns,
            preprocessing,
            heads,
            linear,
            calibration,
            variant_by,
            variants,
            outputs,
            labels,
            golden,
            training,
            metrics,
            limits,
            files,
        }
    }
}

// === impl RawVariant ===

impl From<RawVariant> for Variant {
    fn from(RawVariant { value, heads, linear, calibration }: RawVariant) -> Variant {
        Variant { value, body: Body { heads, linear, calibration } }
    }
}

impl From<Variant> for RawVariant {
    fn from(Variant { value, body: Body { heads, linear, calibration } }: Variant) -> RawVariant {
        RawVariant { value, heads, linear, calibration }
    }
}

// === impl Input ===

impl Input {
    /// Columns it takes: the product of its shape.
    #[must_use]
    pub fn width(&self) -> usize {
        self.shape.iter().product()
    }

    /// `max_age` as a duration.
    #[must_use]
    pub fn max_age(&self) -> Option<Duration> {
        // A checked manifest's is one.
        self.max_age.as_deref().and_then(|age| humantime::parse_duration(age).ok())
    }
}

// === impl IfStale ===

impl IfStale {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_missing(&self) -> bool {
        *self == IfStale::Missing
    }
}

// === impl Match ===

impl Match {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_exact(&self) -> bool {
        *self == Match::Exact
    }
}

// === impl Link ===

impl Link {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_identity(&self) -> bool {
        *self == Link::Identity
    }

    /// Applies it.
    #[must_use]
    pub fn apply(self, value: f64) -> f64 {
        match self {
            Link::Identity => value,
            Link::Exp => value.exp(),
            Link::Expm1 => value.exp_m1(),
            Link::Pow10 => 10f64.powf(value),
        }
    }
}

// === impl Body ===

impl Body {
    /// The file of a head.
    #[must_use]
    pub fn head(&self, name: HeadName) -> Option<&str> {
        self.heads.iter().find(|head| head.name == name).map(|head| head.file.as_str())
    }
}

// === impl Task ===

impl Task {
    /// Name as manifests write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Task::Range => "range",
            Task::Utilization => "utilization",
            Task::BatterySoh => "battery_soh",
            Task::BatteryRul => "battery_rul",
            Task::BatteryTemperature => "battery_temperature",
            Task::BatteryFailure => "battery_failure",
            Task::BatteryCycleLife => "battery_cycle_life",
            Task::ThermalRisk => "thermal_risk",
            Task::ImageClassification => "image_classification",
            Task::Generic => "generic",
        }
    }
}

// === impl Limits ===

impl Default for Limits {
    fn default() -> Limits {
        Limits { max_batch_rows: 8192, memory: None, latency: None }
    }
}
