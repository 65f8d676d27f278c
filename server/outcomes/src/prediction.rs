//! What is logged of a prediction.

use std::{sync::Arc, time::Duration};

use uuid::Uuid;

/// A model version, and what the columns of its rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Model name.
    pub model: String,
    /// Its number.
    pub version: u32,
    /// `sha256:...` of its manifest.
    pub digest: String,
    /// The inputs, in the signature's order; none of a model of pictures.
    pub inputs: Vec<Input>,
    /// What it answers.
    pub output: Output,
}

/// An input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Its name in the signature.
    pub name: String,
    /// What its values are.
    pub kind: InputKind,
}

/// What values are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputKind {
    /// One float32.
    Number,
    /// Several.
    Vector,
    /// A text.
    Text,
    /// True or false.
    Flag,
}

/// What a version answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// q10, q50 and q90.
    Quantiles,
    /// The probability that something happens.
    Probability,
    /// A probability for each class.
    Classes(Vec<String>),
    /// Numbers without an interval, so many.
    Numbers(usize),
}

/// The value of an input, as it was sent.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of a number.
    Number(f32),
    /// Of a vector.
    Vector(Vec<f32>),
    /// Of a text, as the model's vocabulary has it; otherwise the beginning of what was sent.
    Text(String),
    /// Of a flag.
    Flag(bool),
}

/// How far an answer can be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It is one.
    Ok,
    /// The input is outside what the model was trained on.
    OutOfDistribution,
    /// The model has no answer.
    Unknown,
}

/// A prediction that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// As the reply names it.
    pub id: Uuid,
    /// When the request was taken up, in microseconds since 1970.
    pub time_us: i64,
    /// Who answered.
    pub version: Arc<Version>,
    /// Which part of the fleet it is about; empty for none.
    pub cohort: String,
    /// The vehicle, or another key that the caller gave.
    pub key: Option<String>,
    /// In the order of the version's inputs; none where nothing was given.
    pub inputs: Vec<Option<Value>>,
    /// How far the answer can be relied on.
    pub status: Status,
    /// As many as [`Output::width`]; empty where there is no answer.
    pub answer: Vec<f32>,
    /// Share of the inputs that were given and known, 0 to 1.
    pub coverage: f32,
    /// How long it took.
    pub total: Duration,
}

// === impl Output ===

impl Output {
    /// Numbers of an answer.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Output::Quantiles => 3,
            Output::Probability => 1,
            Output::Classes(classes) => classes.len(),
            Output::Numbers(width) => *width,
        }
    }
}

// === impl Status ===

impl Status {
    /// As a file says it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Status::Ok => "OK",
            Status::OutOfDistribution => "OUT_OF_DISTRIBUTION",
            Status::Unknown => "UNKNOWN",
        }
    }

    pub(crate) fn code(self) -> u8 {
        match self {
            Status::Ok => 0,
            Status::OutOfDistribution => 1,
            Status::Unknown => 2,
        }
    }

    pub(crate) fn of_code(code: i64) -> Option<Status> {
        [Status::Ok, Status::OutOfDistribution, Status::Unknown].into_iter().find(|it| i64::from(it.code()) == code)
    }
}
