//! Metrics: which way is better, and which values nothing honest has.

use ev_models_core::{Manifest, manifest::Metric};

use crate::{gate::Verdict, must_state};

/// An R2 above this is a formula's, not a measurement's; the same share of answers that are right.
const PERFECT: f64 = 0.999;
/// An error of this share of the naive one is an R2 of [`PERFECT`]: the root of what is left unexplained.
const PERFECT_ERROR: f64 = 0.031_6;

/// Which way a metric is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// Which way a metric of answers is better; none of one that says nothing about how right answers are, such as the width
/// of intervals: those that never look are the best calibrated of all.
pub(crate) fn better(name: &str) -> Option<Better> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let ends = |ends: &[&str]| {
        ends.iter().any(|end| name == *end || name.strip_suffix(end).is_some_and(|start| start.ends_with('_')))
    };
    if ends(&["r2", "auc", "accuracy", "f1", "precision", "recall", "mcc", "kappa", "spearman", "pearson"])
        || name == "average_precision"
    {
        return Some(Better::Higher);
    }
    ends(&["mae", "rmse", "mse", "mape", "smape", "medae", "log_loss", "logloss", "brier", "brier_score", "pinball"])
        .then_some(Better::Lower)
}

pub(crate) fn judge(manifest: &Manifest) -> Verdict {
    let required = format!(
        "R2, AUC, F1 and accuracy of at most {PERFECT}, errors of more than {PERFECT_ERROR} of answering without looking"
    );
    if manifest.metrics.is_empty() {
        return if must_state(manifest) {
            Verdict::failed(
                "no metrics",
                required,
                "measure the model on groups it has not seen, and state `[[metrics]]`",
            )
        } else {
            Verdict::not_applicable("no metrics", required)
        };
    }
    let mut perfect = manifest.metrics.iter().filter_map(impossible);
    match perfect.next() {
        None => Verdict::passed(format!("{} metrics, none of them impossibly good", manifest.metrics.len()), required),
        Some(first) => Verdict::failed(
            match perfect.count() {
                0 => first,
                more => format!("{first}; and {more} more"),
            },
            required,
            "look for the target among the inputs, a label that is a formula of them, or rows in both training and test; \
             waive this only if you know why it is so easy",
        ),
    }
}

/// What is impossible about a metric.
fn impossible(metric: &Metric) -> Option<String> {
    let Metric { name, split, value, naive, .. } = metric;
    match better(name)? {
        // Correlations and R2 of a formula; shares of right answers.
        Better::Higher => (*value > PERFECT).then(|| format!("{name} is {value} on `{split}`")),
        Better::Lower => {
            let naive = naive.filter(|naive| *naive > 0.0)?;
            // Squares: their share is that of the root, squared.
            let squared = matches!(name.as_str(), "mse" | "brier" | "brier_score");
            let limit = if squared { PERFECT_ERROR * PERFECT_ERROR } else { PERFECT_ERROR };
            (value / naive < limit).then(|| format!("{name} is {value} on `{split}`, where {naive} is without looking"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_better_way_follows_from_the_name() {
        let check = |name, expected| assert_eq!(better(name), expected, "{name}");
        for name in ["r2", "R2", "auc", "roc_auc", "macro_f1", "macro-f1", "accuracy", "top3_accuracy", "f1"] {
            check(name, Some(Better::Higher));
        }
        for name in ["mae", "rmse", "log_loss", "brier", "brier_score", "mape", "smape"] {
            check(name, Some(Better::Lower));
        }
        for name in ["calibration_error", "interval_coverage", "interval_width", "made", "xr2"] {
            check(name, None);
        }
    }

    #[test]
    fn what_is_too_good_is_named() {
        let metric = |name: &str, value, naive| Metric {
            name: name.to_owned(),
            split: "by cell".to_owned(),
            value,
            baseline: None,
            naive,
            unit: None,
        };
        let check = |name, value, naive, expected| {
            assert_eq!(impossible(&metric(name, value, naive)).is_some(), expected, "{name} {value}");
        };
        check("r2", 0.9995, None, true);
        check("r2", 0.999, None, false);
        check("accuracy", 1.0, Some(0.2), true);
        check("macro_f1", 0.99521, Some(0.26), false);
        check("auc", 1.0, None, true);
        check("mae", 0.01, Some(14.0), true);
        check("mae", 1.2218, Some(14.029), false);
        check("mse", 0.02, Some(14.0), false);
        check("mse", 0.01, Some(14.0), true);
        check("mae", 0.0, None, false);
        check("interval_coverage", 1.0, None, false);
    }
}
