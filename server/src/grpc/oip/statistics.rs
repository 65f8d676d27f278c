//! How often and how long: the counts of a deployment in the words of the statistics extension.

use ev_proto::inference::{InferBatchStatistics, InferStatistics, ModelStatistics, StatisticDuration};

use super::super::predictor::Predictor;
use crate::{
    deploy::{Asker, BatchStats, Deployment, Stats, Total},
    pipeline::{PredictError, PredictionIds},
};

/// Statistics of the versions that are loaded: of all models, of one model, or of one version.
pub(super) fn models(predictor: &Predictor, name: &str, version: &str) -> Result<Vec<ModelStatistics>, PredictError> {
    let snapshot = predictor.routes.load();
    let of = |deployment: &Deployment| statistics(deployment, &deployment.stats(), &predictor.ids);
    if name.is_empty() {
        let models = snapshot.models.values();
        return Ok(models.flat_map(|model| model.deployments.values()).map(|deployment| of(deployment)).collect());
    }
    let model = snapshot.model(name)?;
    if version.is_empty() {
        return Ok(model.deployments.values().map(|deployment| of(deployment)).collect());
    }
    Ok(vec![of(model.choose_text(version, Asker::Server)?)])
}

fn statistics(deployment: &Deployment, stats: &Stats, ids: &PredictionIds) -> ModelStatistics {
    // A request's share of each phase: every answered request went through all of them. Of the rows of a request that
    // ran side by side, the slowest counts.
    // Calibrating is part of inference: to tell it apart would cost as much as it does.
    let share = |total: Total| Some(StatisticDuration { count: stats.success.count, ns: total.ns });
    ModelStatistics {
        name: deployment.model().to_owned(),
        version: deployment.version.to_string(),
        last_inference: stats.last_request.map_or(0, |instant| ids.unix_ms(instant)),
        inference_count: stats.rows,
        execution_count: stats.executions,
        inference_stats: Some(InferStatistics {
            success: Some(duration(stats.success)),
            fail: Some(duration(stats.fail)),
            queue: share(stats.queue),
            compute_input: share(stats.features),
            compute_infer: share(stats.inference),
            compute_output: share(Total::default()),
            cache_hit: Some(StatisticDuration::default()),
            cache_miss: Some(StatisticDuration::default()),
        }),
        batch_stats: batches(stats),
    }
}

/// Runs by batch size. Requests of one row are counted apart from batches that happened to have one.
fn batches(stats: &Stats) -> Vec<InferBatchStatistics> {
    let mut batches = stats.batches.clone();
    if stats.single.inference.count > 0 {
        batches.entry(1).or_default().merge(&stats.single);
    }
    let statistics = batches.into_iter().map(|(rows, batch): (usize, BatchStats)| InferBatchStatistics {
        batch_size: rows as u64,
        compute_input: Some(duration(batch.features)),
        compute_infer: Some(duration(batch.inference)),
        compute_output: Some(duration(Total { ns: 0, ..batch.inference })),
    });
    statistics.collect()
}

fn duration(total: Total) -> StatisticDuration {
    StatisticDuration { count: total.count, ns: total.ns }
}
