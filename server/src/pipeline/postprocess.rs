//! From margins to calibrated answers.

use ev_models_core::manifest::{Calibration, OutputKind, Tier};

use super::{
    assemble::RowMeta,
    outcome::{Estimate, OutOfDistribution, OutOfDistributionReason},
    plan::{Plan, PlannedBody, narrow},
};

/// The answer for one row, from the point head's margin and prediction and the spread head's margin.
///
/// An answer that cannot be relied on is flagged in `meta`.
pub(super) fn estimate(
    plan: &Plan,
    meta: &mut RowMeta,
    margin: &[f32],
    prediction: &[f32],
    spread: Option<f32>,
) -> Estimate {
    let Some(body) = meta.body.and_then(|body| plan.bodies.get(body)) else { return Estimate::Unknown };
    let score = f64::from(margin.first().copied().unwrap_or(f32::NAN)) + meta.linear;
    match (plan.output.kind, tier(body, meta.coverage)) {
        (OutputKind::Quantiles, Some((calibration, tier))) => {
            Estimate::Quantiles(quantiles(plan, calibration, tier, score, spread))
        }
        (OutputKind::Probability, Some((_, tier))) => {
            let logit = tier.slope.unwrap_or(1.0) * score + tier.intercept.unwrap_or(0.0);
            Estimate::Probability(narrow(1.0 / (1.0 + (-logit).exp())))
        }
        (OutputKind::Classes, Some((_, tier))) => {
            let probabilities = classes(plan, meta, tier, margin);
            if let Some(least) = plan.output.unknown_below {
                flag_unknown(meta, &probabilities, least);
            }
            Estimate::Classes(probabilities)
        }
        // A checked manifest has tiers for every other kind.
        (OutputKind::Prediction, _) | (_, None) => Estimate::Prediction(prediction.to_vec()),
    }
}

/// Flags a row whose likeliest class is less probable than `least`. Only models of one input have that bound.
#[cold]
fn flag_unknown(meta: &mut RowMeta, probabilities: &[f32], least: f64) {
    let likeliest = probabilities.iter().copied().fold(0.0, f32::max);
    if f64::from(likeliest) < least {
        meta.out_of_distribution.push(OutOfDistribution {
            input: 0,
            reason: OutOfDistributionReason::NoLikelyClass,
            value: format!("the likeliest class has a probability of {likeliest:.3}, expected at least {least}"),
        });
    }
}

/// The first tier the row's coverage reaches.
fn tier(body: &PlannedBody, coverage: f64) -> Option<(&Calibration, &Tier)> {
    let calibration = body.calibration.as_ref()?;
    calibration.tiers.iter().find(|tier| coverage >= tier.min_coverage).map(|tier| (calibration, tier))
}

fn quantiles(plan: &Plan, calibration: &Calibration, tier: &Tier, score: f64, spread: Option<f32>) -> [f32; 3] {
    let spread = spread.map_or(1.0, |margin| f64::from(margin).exp().max(calibration.spread_floor));
    let [low, high] = plan.output.range.unwrap_or([f64::NEG_INFINITY, f64::INFINITY]);
    let mut quantiles = tier.z.unwrap_or_default().map(|z| plan.output.link.apply(score + spread * z).clamp(low, high));
    quantiles.sort_by(f64::total_cmp);
    quantiles.map(narrow)
}

/// Softmax of the calibrated margins, then the declared rules.
fn classes(plan: &Plan, meta: &RowMeta, tier: &Tier, margin: &[f32]) -> Vec<f32> {
    let temperature = tier.temperature.unwrap_or(1.0);
    let score = |index: usize| {
        let bias = tier.bias.get(index).copied().unwrap_or(0.0);
        margin.get(index).map_or(f64::NEG_INFINITY, |margin| f64::from(*margin) / temperature + bias)
    };
    let highest = (0..plan.output.learned.len()).map(score).fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = (0..plan.output.learned.len()).map(|index| (score(index) - highest).exp()).sum();
    let mut probabilities = vec![0.0f32; plan.output.class_count];
    for (index, class) in plan.output.learned.iter().enumerate() {
        probabilities[*class] = narrow((score(index) - highest).exp() / sum);
    }
    for (index, rule) in plan.output.rules.iter().take(64).enumerate() {
        if meta.rules >> index & 1 == 1 {
            probabilities[rule.to] += std::mem::take(&mut probabilities[rule.from]);
        }
    }
    probabilities
}
