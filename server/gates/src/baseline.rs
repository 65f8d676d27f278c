//! Better than answering without looking.

use ev_models_core::{Manifest, manifest::Metric};

use crate::{
    gate::Verdict,
    metric::{Better, better},
    must_state,
};

const REQUIRED: &str = "the first metric that has one is better than its `naive` value (or `baseline`, where there is \
                        no other) on every split";

pub(crate) fn judge(manifest: &Manifest) -> Verdict {
    let comparable = |metric: &&Metric| better(&metric.name).is_some() && reference(metric).is_some();
    let Some(first) = manifest.metrics.iter().find(comparable) else {
        let measured = "no metric stands beside a naive baseline";
        return if must_state(manifest) || !manifest.metrics.is_empty() {
            Verdict::failed(
                measured,
                REQUIRED,
                "measure what always answering the mean, or the most frequent class, gives on the same split, and state \
                 it as `naive`",
            )
        } else {
            Verdict::not_applicable(measured, REQUIRED)
        };
    };
    let compared = manifest.metrics.iter().filter(|metric| metric.name == first.name);
    let compared: Vec<&Metric> = compared.filter(|metric| reference(metric).is_some()).collect();
    let lost: Vec<String> = compared.iter().filter_map(|metric| lost(metric)).collect();
    if lost.is_empty() {
        return Verdict::passed(format!("{} beats it on {} splits", first.name, compared.len()), REQUIRED);
    }
    Verdict::failed(
        lost.join("; "),
        REQUIRED,
        "train a model that is worth asking, or waive this with the reason why it serves all the same",
    )
}

/// What the metric must beat, and what that is called.
fn reference(metric: &Metric) -> Option<(f64, &'static str)> {
    metric.naive.map(|naive| (naive, "naive")).or_else(|| metric.baseline.map(|baseline| (baseline, "the baseline")))
}

/// How a metric loses.
fn lost(metric: &Metric) -> Option<String> {
    let (reference, called) = reference(metric)?;
    let wins = match better(&metric.name)? {
        Better::Higher => metric.value > reference,
        Better::Lower => metric.value < reference,
    };
    (!wins).then(|| format!("{} is {} where {called} is {reference} on `{}`", metric.name, metric.value, metric.split))
}
