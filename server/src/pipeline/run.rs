//! Running rows through a deployment: one row inline, or a batch in slices.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use ev_batching::Cut;
use ev_domain::{Feature, Value};
use ev_models_core::{LoadError, Tensor, Tensors};

use super::{
    BodyInstances,
    assemble::{RowBuilder, RowMeta, RowScratch},
    outcome::{BatchInfo, Estimate, Outcome, PredictError, Timings},
    pictures::{Picture, Pictures},
    postprocess, queued,
    tap::{Draw, Seen},
};
use crate::deploy::{Deployment, Stats};

/// Inline work between two pauses: long enough that the pause costs nothing, short enough that no neighbour waits.
const SLICE: Duration = Duration::from_micros(200);

/// The values of a typed request, told one by one.
pub(crate) trait Features {
    /// Calls `visitor` with every feature that was given.
    fn visit<'a>(&'a self, visitor: impl FnMut(Feature, Value<'a>));
}

/// What a caller wants beside the estimate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Want {
    /// Nothing.
    Estimate,
    /// The point head's own prediction as well.
    EstimateAndRaw,
}

/// What becomes of a batch when one of its rows is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BadRow {
    /// The others are answered.
    FailsAlone,
    /// Nothing is answered: the results end with the slice that holds it.
    FailsAll,
}

/// A batch to be predicted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) rows: usize,
    pub(crate) deadline: Option<Instant>,
    pub(crate) want: Want,
    pub(crate) bad_row: BadRow,
    /// Of a request whose rows share an id; otherwise each has its own.
    pub(crate) draw: Option<Draw>,
}

/// One core's copy of a deployment: instances, scratch and counts. Only that core's thread locks it while serving.
pub(crate) struct CoreState {
    heads: Vec<BodyInstances>,
    scratch: RowScratch,
    batch: Tensors,
    pub(crate) stats: Stats,
}

/// Borrowed results of one run.
struct HeadOutputs<'a> {
    margin: &'a [f32],
    prediction: &'a [f32],
    spread: Option<&'a [f32]>,
}

/// Predicts one row inline. For a deployment that is queued, see [`super::submit_row`].
pub(crate) fn predict_row(
    deployment: &Deployment,
    want: Want,
    fill: impl FnOnce(&mut RowBuilder<'_>),
) -> Result<Outcome, PredictError> {
    let started = Instant::now();
    let mut state = deployment.core();
    let result = state.predict_row(deployment, want, fill, started);
    match &result {
        Ok(outcome) => state.stats.row(&outcome.timings, started, outcome.estimate != Estimate::Unknown),
        Err(error) => state.stats.failed_by(error, started.elapsed()),
    }
    if matches!(result, Err(PredictError::Panicked)) {
        deployment.replace_instances(&mut state);
    }
    result
}

/// Predicts rows of requests of their own that came together, and gives their outcomes in order. Takes no pause: they are
/// few. For a deployment that runs inline.
pub(crate) fn predict_together(
    deployment: &Deployment,
    rows: usize,
    fill: impl Fn(usize, &mut RowBuilder<'_>),
    mut answered: impl FnMut(Result<Outcome, PredictError>),
) {
    let started = Instant::now();
    let mut results = Vec::with_capacity(rows);
    let mut state = deployment.core();
    let batch = Batch { rows, deadline: None, want: Want::Estimate, bad_row: BadRow::FailsAlone, draw: None };
    if state.predict_slice(deployment, batch, 0..rows, &fill, started, &mut results) {
        deployment.replace_instances(&mut state);
    }
    for result in results {
        match &result {
            Ok(outcome) => state.stats.row_of_several(&outcome.timings, started),
            Err(error) => state.stats.failed_by(error, started.elapsed()),
        }
        answered(result);
    }
}

/// Runs rows that were answered before, off the serving threads: on instances of its own, counted nowhere and shown to
/// nobody, so that whatever becomes of a run is no request's trouble.
pub(crate) struct Rerun {
    deployment: Arc<Deployment>,
    state: CoreState,
}

impl Rerun {
    /// Makes the instances. Slow.
    ///
    /// # Errors
    ///
    /// [`LoadError`] of the engine.
    pub(crate) fn new(deployment: &Arc<Deployment>) -> Result<Rerun, LoadError> {
        Ok(Rerun { deployment: Arc::clone(deployment), state: deployment.own_state()? })
    }

    /// Predicts a row that this or another version of the model answered.
    ///
    /// # Errors
    ///
    /// What is wrong with the row, or with the model.
    pub(crate) fn predict(&mut self, seen: &Seen) -> Result<Outcome, PredictError> {
        let Rerun { deployment, state } = self;
        let fill = |row: &mut RowBuilder<'_>| seen.fill(deployment.plan(), row);
        let result = state.predict_row(deployment, Want::Estimate, fill, Instant::now());
        if matches!(result, Err(PredictError::Panicked)) {
            deployment.replace_instances(state);
        }
        result
    }
}

/// Predicts one picture on this thread, as warming up does, and gives the margin beside the outcome. Slow.
///
/// # Errors
///
/// What is wrong with the picture, or with the model.
pub(crate) fn rehearse_picture(
    deployment: &Deployment,
    pictures: &Pictures,
    picture: &Picture,
) -> Result<(Outcome, Vec<f32>), PredictError> {
    let mut state = deployment.core();
    let result = state.rehearse_picture(deployment, pictures, picture);
    if matches!(result, Err(PredictError::Panicked)) {
        deployment.replace_instances(&mut state);
    }
    result
}

/// Predicts the rows of a batch: through the deployment's queue, or in slices with pauses between them, so that other
/// requests of this core are served.
///
/// # Errors
///
/// For the batch as a whole: no rows, too many, or its deadline has passed. A bad row does what [`BadRow`] says.
///
/// # Cancel safety
///
/// Dropping the future stops at the next pause; no row is half done.
pub(crate) async fn predict_batch(
    deployment: &Deployment,
    batch: Batch,
    fill: impl Fn(usize, &mut RowBuilder<'_>),
) -> Result<Vec<Result<Outcome, PredictError>>, PredictError> {
    let rows = batch.rows;
    if rows == 0 {
        return Err(PredictError::EmptyBatch);
    }
    let max = deployment.max_batch_rows();
    if rows > max {
        return Err(PredictError::TooManyRows { rows, max });
    }
    if let Some(queue) = deployment.queue() {
        return Box::pin(queued::predict_batch(deployment, queue, batch, fill)).await;
    }
    let started = Instant::now();
    let mut results = Vec::with_capacity(rows);
    let slice = deployment.rows_within(SLICE);
    while results.len() < rows {
        if !results.is_empty() {
            tokio::task::yield_now().await;
        }
        if batch.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            deployment.core().stats.failed_by(&PredictError::DeadlineExceeded, started.elapsed());
            return Err(PredictError::DeadlineExceeded);
        }
        let first = results.len();
        let end = rows.min(first + slice);
        let mut state = deployment.core();
        let panicked = state.predict_slice(deployment, batch, first..end, &fill, started, &mut results);
        if panicked {
            deployment.replace_instances(&mut state);
        }
        results[first..].iter().filter_map(|result| result.as_ref().err()).for_each(|error| state.stats.fault(error));
        if batch.bad_row == BadRow::FailsAll && results[first..].iter().any(Result::is_err) {
            state.stats.failed(started.elapsed());
            return Ok(results);
        }
    }
    let answered = results.iter().filter(|result| result.is_ok()).count();
    deployment.core().stats.batch(answered, started);
    Ok(results)
}

// === impl CoreState ===

impl CoreState {
    pub(crate) fn new(heads: Vec<BodyInstances>) -> CoreState {
        let batch = Tensors::from(vec![Tensor::f32([0, 0], Vec::new())]);
        CoreState { heads, scratch: RowScratch::default(), batch, stats: Stats::default() }
    }

    pub(crate) fn set_heads(&mut self, heads: Vec<BodyInstances>) {
        self.heads = heads;
    }

    /// Its instances, which it has no more.
    pub(crate) fn take_heads(&mut self) -> Vec<BodyInstances> {
        std::mem::take(&mut self.heads)
    }

    pub(super) fn scratch(&mut self) -> &mut RowScratch {
        &mut self.scratch
    }

    fn predict_row(
        &mut self,
        deployment: &Deployment,
        want: Want,
        fill: impl FnOnce(&mut RowBuilder<'_>),
        started: Instant,
    ) -> Result<Outcome, PredictError> {
        let plan = deployment.plan();
        let matrix = self.batch[0].reset_f32(0, plan.width());
        let mut builder = RowBuilder::new(plan, &mut self.scratch);
        fill(&mut builder);
        let mut meta = builder.finish(matrix).map_err(PredictError::Invalid)?;
        deployment.tap().draw(None, plan, &self.scratch, &mut meta);
        let assembled = Instant::now();
        let (estimate, raw) = match meta.body {
            None => (Estimate::Unknown, Vec::new()),
            Some(body) => {
                self.batch[0].shape[0] = 1;
                let outputs = self.run(body)?;
                let spread = outputs.spread.and_then(|spread| spread.first().copied());
                let estimate = postprocess::estimate(plan, &mut meta, outputs.margin, outputs.prediction, spread);
                let raw = if want == Want::EstimateAndRaw { outputs.prediction.to_vec() } else { Vec::new() };
                (estimate, raw)
            }
        };
        let (features, inference) = (assembled - started, assembled.elapsed());
        let timings = Timings { queue: Duration::ZERO, features, inference, total: features + inference };
        Ok(Outcome { timings, ..outcome(meta, estimate, raw, started) })
    }

    fn rehearse_picture(
        &mut self,
        deployment: &Deployment,
        pictures: &Pictures,
        picture: &Picture,
    ) -> Result<(Outcome, Vec<f32>), PredictError> {
        let (started, plan) = (Instant::now(), deployment.plan());
        let values = self.batch[0].reset_f32(1, pictures.values());
        let info = pictures.fill(picture, &mut ev_images::Scratch::default(), values)?;
        let prepared = Instant::now();
        let mut meta = RowMeta::picture();
        let outputs = self.run(0)?;
        let margin = outputs.margin.to_vec();
        let estimate = postprocess::estimate(plan, &mut meta, outputs.margin, outputs.prediction, None);
        let raw = outputs.prediction.to_vec();
        let (features, inference) = (prepared - started, prepared.elapsed());
        let timings = Timings { queue: Duration::ZERO, features, inference, total: features + inference };
        Ok((Outcome { timings, picture: info, ..outcome(meta, estimate, raw, started) }, margin))
    }

    /// Predicts some rows of a batch and appends their results; true when an instance panicked.
    fn predict_slice(
        &mut self,
        deployment: &Deployment,
        batch: Batch,
        rows: std::ops::Range<usize>,
        fill: &impl Fn(usize, &mut RowBuilder<'_>),
        batch_started: Instant,
        results: &mut Vec<Result<Outcome, PredictError>>,
    ) -> bool {
        let plan = deployment.plan();
        let started = Instant::now();
        let mut panicked = false;
        let assembled_rows = rows.len();
        let mut pending: Vec<(usize, RowMeta)> = Vec::with_capacity(rows.len());
        let mut matrix = Vec::with_capacity(rows.len() * plan.width());
        for row in rows {
            let mut builder = RowBuilder::new(plan, &mut self.scratch);
            fill(row, &mut builder);
            match builder.finish(&mut matrix) {
                Ok(mut meta) => {
                    let draw = batch.draw.map(|draw| (draw, row));
                    deployment.tap().draw(draw, plan, &self.scratch, &mut meta);
                    pending.push((row, meta));
                    results.push(Err(PredictError::Panicked));
                }
                Err(violations) => results.push(Err(PredictError::Invalid(violations))),
            }
        }
        if batch.bad_row == BadRow::FailsAll && pending.len() < assembled_rows {
            for (row, _) in pending {
                results[row] = Err(PredictError::Abandoned);
            }
            return false;
        }
        let features = started.elapsed();
        let mut uncounted = features;
        // Rows without a body first: a finished row looks like one of them.
        for body in std::iter::once(None).chain((0..self.heads.len()).map(Some)) {
            let members: Vec<usize> = (0..pending.len()).filter(|index| pending[*index].1.body == body).collect();
            if members.is_empty() {
                continue;
            }
            let run_started = Instant::now();
            let ran = body.map(|body| {
                let values = self.batch[0].reset_f32(0, plan.width());
                for index in &members {
                    values.extend_from_slice(&matrix[index * plan.width()..(index + 1) * plan.width()]);
                }
                self.batch[0].shape[0] = members.len();
                self.run(body)
            });
            let width = plan.head_width();
            for (position, index) in members.iter().enumerate() {
                let (row, meta) = &mut pending[*index];
                let result = match &ran {
                    None => Ok((Estimate::Unknown, Vec::new())),
                    Some(Ok(outputs)) => {
                        let margin = &outputs.margin[position * width..(position + 1) * width];
                        let prediction = &outputs.prediction[position * width..(position + 1) * width];
                        let spread = outputs.spread.and_then(|spread| spread.get(position).copied());
                        let estimate = postprocess::estimate(plan, meta, margin, prediction, spread);
                        let raw = if batch.want == Want::EstimateAndRaw { prediction.to_vec() } else { Vec::new() };
                        Ok((estimate, raw))
                    }
                    Some(Err(PredictError::Backend(error))) => {
                        Err(PredictError::Backend(ev_models_core::RunError::Engine {
                            backend: "batch",
                            reason: error.to_string(),
                        }))
                    }
                    Some(Err(_)) => {
                        panicked = true;
                        Err(PredictError::Panicked)
                    }
                };
                let meta = std::mem::replace(meta, RowMeta::spent());
                results[*row] = result.map(|(estimate, raw)| outcome(meta, estimate, raw, batch_started));
            }
            let (inference, total) = (run_started.elapsed(), batch_started.elapsed());
            // Nothing was waited for.
            let ran_together = body.is_some() && members.len() > 1;
            let together = ran_together.then_some(BatchInfo { rows: members.len(), cut: Cut::Idle });
            for index in &members {
                if let Ok(outcome) = &mut results[pending[*index].0] {
                    outcome.timings = Timings { queue: Duration::ZERO, features, inference, total };
                    outcome.batch = together;
                }
            }
            if body.is_some() {
                self.stats.execution(members.len(), std::mem::take(&mut uncounted), inference);
            }
        }
        panicked
    }

    /// Runs the heads of a body on the assembled batch. A panic is caught: it fails this batch only.
    fn run(&mut self, body: usize) -> Result<HeadOutputs<'_>, PredictError> {
        let CoreState { heads, batch, .. } = self;
        let Some(instances) = heads.get_mut(body) else { return Err(PredictError::Panicked) };
        let batch = &*batch;
        let BodyInstances { point, spread } = instances;
        let ran = caught(move || {
            let spread = spread.as_mut().map(|spread| spread.run(batch)).transpose()?;
            point.run(batch).map(|point| (point, spread))
        });
        let (point, spread) = ran?.map_err(PredictError::Backend)?;
        let margin = point.first().and_then(Tensor::as_f32).unwrap_or_default();
        let prediction = point.get(1).and_then(Tensor::as_f32).unwrap_or_default();
        let spread = spread.map(|spread| spread.first().and_then(Tensor::as_f32).unwrap_or_default());
        Ok(HeadOutputs { margin, prediction, spread })
    }
}

/// Runs an engine; a panic in it becomes an error of this batch alone.
fn caught<R>(run: impl FnOnce() -> R) -> Result<R, PredictError> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|_| PredictError::Panicked)
}

/// An outcome whose time is not known yet.
pub(super) fn outcome(meta: RowMeta, estimate: Estimate, raw: Vec<f32>, taken: Instant) -> Outcome {
    Outcome {
        taken,
        estimate,
        raw,
        coverage: super::plan::narrow(meta.coverage),
        out_of_distribution: meta.out_of_distribution,
        timings: Timings::default(),
        batch: None,
        picture: None,
        draw: meta.draw,
        inputs: meta.inputs,
    }
}
