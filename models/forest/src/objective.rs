//! Objectives: how base scores become base margins, and margins predictions, in XGBoost's own float operations.

/// What a forest was trained for, as far as prediction goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Objective {
    /// The margin itself.
    Identity,
    /// The margin itself, with a base score that is a probability: `binary:logitraw` of early versions.
    LogitRaw,
    /// The logistic function.
    Logistic(Tail),
    /// The exponential, with a base score on the scale of the prediction.
    Exponential,
    /// 1 above zero, else 0.
    Hinge,
    /// A probability for each class.
    Softprob,
    /// The likeliest class.
    Softmax,
}

/// What the logistic function does with margins below -88.7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tail {
    /// Nothing: the exponential overflows and the probability is 0.
    Overflow,
    /// The margin is cut off at -88.7, so that the probability stays above 0.
    Clip,
}

/// Objectives by the names files give them.
const NAMES: [(&str, Objective); 18] = [
    ("reg:squarederror", Objective::Identity),
    ("reg:linear", Objective::Identity),
    ("reg:squaredlogerror", Objective::Identity),
    ("reg:absoluteerror", Objective::Identity),
    ("reg:pseudohubererror", Objective::Identity),
    ("reg:quantileerror", Objective::Identity),
    ("rank:pairwise", Objective::Identity),
    ("rank:ndcg", Objective::Identity),
    ("rank:map", Objective::Identity),
    ("reg:logistic", Objective::Logistic(Tail::Clip)),
    ("binary:logistic", Objective::Logistic(Tail::Clip)),
    ("binary:logitraw", Objective::LogitRaw),
    ("binary:hinge", Objective::Hinge),
    ("count:poisson", Objective::Exponential),
    ("reg:gamma", Objective::Exponential),
    ("reg:tweedie", Objective::Exponential),
    ("multi:softprob", Objective::Softprob),
    ("multi:softmax", Objective::Softmax),
];

// === impl Objective ===

impl Objective {
    /// The objective of a name, as library version `version` computes it.
    pub(crate) fn new(name: &str, version: [u32; 3]) -> Option<Objective> {
        let &(_, objective) = NAMES.iter().find(|(known, _)| *known == name)?;
        Some(match objective {
            Objective::Logistic(_) if version < LOGISTIC_CLIPS_SINCE => Objective::Logistic(Tail::Overflow),
            Objective::LogitRaw if version >= LOGIT_RAW_IS_IDENTITY_SINCE => Objective::Identity,
            objective => objective,
        })
    }

    /// Names of all objectives, for errors.
    pub(crate) fn names() -> String {
        NAMES.map(|(name, _)| name).join(", ")
    }

    /// The base margin of a base score; none when the score is outside the objective's domain.
    pub(crate) fn base_margin(self, base_score: f32) -> Option<f32> {
        let margin = match self {
            Objective::Logistic(_) | Objective::LogitRaw => -(1.0 / base_score - 1.0).ln(),
            Objective::Exponential => base_score.ln(),
            Objective::Identity | Objective::Hinge | Objective::Softprob | Objective::Softmax => base_score,
        };
        margin.is_finite().then_some(margin)
    }

    /// Values of a prediction, of a margin of `groups` values.
    pub(crate) fn width(self, groups: usize) -> usize {
        if self == Objective::Softmax { 1 } else { groups }
    }

    /// Predictions `[rows, width]` of margins `[rows, groups]`.
    pub(crate) fn predict(self, margins: &[f32], groups: usize, predictions: &mut [f32]) {
        match self {
            Objective::Identity | Objective::LogitRaw => predictions.copy_from_slice(margins),
            Objective::Logistic(tail) => each(margins, predictions, |margin| logistic(margin, tail)),
            Objective::Exponential => each(margins, predictions, f32::exp),
            Objective::Hinge => each(margins, predictions, |margin| if margin > 0.0 { 1.0 } else { 0.0 }),
            Objective::Softprob => {
                let rows = margins.chunks_exact(groups).zip(predictions.chunks_exact_mut(groups));
                rows.for_each(|(margin, prediction)| softmax(margin, prediction));
            }
            Objective::Softmax => each_row(margins, groups, predictions, likeliest),
        }
    }
}

/// The version from which the logistic function cuts off its tail; 1.5.2 does not, 1.6.2 does (tried).
const LOGISTIC_CLIPS_SINCE: [u32; 3] = [1, 6, 0];

/// The version from which the base score of `binary:logitraw` is a margin; 1.2.1 has a probability, 1.3.3 a margin (tried).
const LOGIT_RAW_IS_IDENTITY_SINCE: [u32; 3] = [1, 3, 0];

fn each(margins: &[f32], predictions: &mut [f32], link: impl Fn(f32) -> f32) {
    for (prediction, margin) in predictions.iter_mut().zip(margins) {
        *prediction = link(*margin);
    }
}

fn each_row(margins: &[f32], groups: usize, predictions: &mut [f32], link: impl Fn(&[f32]) -> f32) {
    for (prediction, margin) in predictions.iter_mut().zip(margins.chunks_exact(groups)) {
        *prediction = link(margin);
    }
}

fn logistic(margin: f32, tail: Tail) -> f32 {
    let exponent = match tail {
        Tail::Overflow => -margin,
        Tail::Clip => (-margin).min(88.7),
    };
    1.0 / (exponent.exp() + 1.0)
}

/// The maximum is subtracted, exponentials are float32, their sum is float64, the division is float32 again.
fn softmax(margin: &[f32], prediction: &mut [f32]) {
    let highest = margin.iter().copied().fold(margin[0], f32::max);
    let mut sum = 0.0_f64;
    for (prediction, margin) in prediction.iter_mut().zip(margin) {
        *prediction = (margin - highest).exp();
        sum += f64::from(*prediction);
    }
    #[expect(clippy::cast_possible_truncation, reason = "XGBoost rounds the sum to float32 here")]
    let sum = sum as f32;
    prediction.iter_mut().for_each(|prediction| *prediction /= sum);
}

/// The first of the highest.
fn likeliest(margin: &[f32]) -> f32 {
    let mut best = 0;
    for (class, value) in margin.iter().enumerate() {
        if *value > margin[best] {
            best = class;
        }
    }
    // At most 1,024 classes: exact.
    #[expect(clippy::cast_precision_loss, reason = "classes are few")]
    let class = best as f32;
    class
}
