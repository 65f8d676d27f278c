//! Running rows through a deployment's queue: assembled here, run with rows of other callers, finished here.
//!
//! Pictures take the same way, but for being assembled by the worker that runs them.

use std::{
    ops::Range,
    sync::Arc,
    time::{Duration, Instant},
};

use ev_batching::{Answer, Answers, Priority, Row, RowError, RowResult, SubmitError, Urgency};
use ev_models_core::{RunError, Tensor};

use super::{
    assemble::{RowBuilder, RowMeta},
    heads::HeadsModel,
    outcome::{BatchInfo, Estimate, Outcome, PredictError, Timings},
    pictures::{Picture, Pictures, Told},
    postprocess,
    run::{BadRow, Batch, Want, outcome},
    tap::Draw,
};
use crate::deploy::{Deployment, Queue};

/// Waves a large batch is submitted in hold this many runs of every instance: they stay busy, and the queue has room.
const RUNS_PER_WAVE: usize = 2;

/// Rows that were submitted together.
struct Wave {
    features: Duration,
    /// Of each row, in order.
    rows: Vec<Result<RowMeta, PredictError>>,
    /// Of those rows that have a body to run.
    answers: Option<Answers>,
    /// What the worker tells of each of them that is a picture; empty where none is.
    told: Vec<Told>,
}

/// Where the time of rows that ran side by side went, and how many were answered.
#[derive(Debug, Default)]
struct Spent {
    timings: Timings,
    answered: usize,
}

/// A row that the queue took.
pub(crate) struct QueuedRow {
    deployment: Arc<Deployment>,
    want: Want,
    started: Instant,
    deadline: Option<Instant>,
    wave: Wave,
}

/// Assembles and submits one row.
///
/// # Errors
///
/// What is wrong with the row, or why the queue did not take it.
pub(crate) fn submit_row(
    deployment: &Arc<Deployment>,
    queue: &Queue,
    want: Want,
    deadline: Option<Instant>,
    fill: impl FnOnce(&mut RowBuilder<'_>),
) -> Result<QueuedRow, PredictError> {
    let mut fill = Some(fill);
    let once = |_, builder: &mut RowBuilder<'_>| {
        if let Some(fill) = fill.take() {
            fill(builder);
        }
    };
    let urgency = Urgency { priority: Priority::Interactive, deadline };
    QueuedRow::of(deployment, want, deadline, || {
        Wave::submit(deployment, queue, 0..1, (urgency, BadRow::FailsAll), None, once)
    })
}

/// Submits one picture.
///
/// # Errors
///
/// What is wrong with the picture, as far as its length says, or why the queue did not take it.
pub(crate) fn submit_picture(
    deployment: &Arc<Deployment>,
    (pictures, queue): (&Arc<Pictures>, &Queue),
    want: Want,
    deadline: Option<Instant>,
    picture: Picture,
) -> Result<QueuedRow, PredictError> {
    let urgency = Urgency { priority: Priority::Interactive, deadline };
    QueuedRow::of(deployment, want, deadline, || {
        let picture = std::slice::from_ref(&picture);
        Wave::of_pictures(deployment, (pictures, queue), picture, (urgency, BadRow::FailsAll), None)
    })
}

/// Predicts a batch of pictures, wave by wave.
///
/// # Errors
///
/// As [`super::predict_batch`].
pub(crate) async fn predict_pictures(
    deployment: &Deployment,
    (pictures, queue): (&Arc<Pictures>, &Queue),
    batch: Batch,
    of_rows: &[Picture],
) -> Result<Vec<Result<Outcome, PredictError>>, PredictError> {
    if of_rows.is_empty() {
        return Err(PredictError::EmptyBatch);
    }
    let (rows, max) = (of_rows.len(), deployment.max_batch_rows());
    if rows > max {
        return Err(PredictError::TooManyRows { rows, max });
    }
    predict_waves(deployment, batch, |first, urgency| {
        let rows = queue.wave(RUNS_PER_WAVE, of_rows[first..].iter().map(Picture::size));
        let wave = first..first + rows;
        let draw = batch.draw.map(|draw| draw.following(first));
        let of_wave = &of_rows[wave.clone()];
        (wave, Wave::of_pictures(deployment, (pictures, queue), of_wave, (urgency, batch.bad_row), draw))
    })
    .await
}

/// Predicts the rows of a batch, wave by wave.
///
/// # Errors
///
/// For the batch as a whole, when none of its rows was taken by the queue. A bad row does what [`BadRow`] says.
pub(super) async fn predict_batch(
    deployment: &Deployment,
    queue: &Queue,
    batch: Batch,
    fill: impl Fn(usize, &mut RowBuilder<'_>),
) -> Result<Vec<Result<Outcome, PredictError>>, PredictError> {
    let rows_a_wave = queue.rows_a_wave(RUNS_PER_WAVE);
    predict_waves(deployment, batch, |first, urgency| {
        let rows = first..batch.rows.min(first + rows_a_wave);
        (rows.clone(), Wave::submit(deployment, queue, rows, (urgency, batch.bad_row), batch.draw, &fill))
    })
    .await
}

/// Predicts the rows of a batch. `submit` is told the first row that was not submitted, and says which it submitted.
async fn predict_waves(
    deployment: &Deployment,
    batch: Batch,
    mut submit: impl FnMut(usize, Urgency) -> (Range<usize>, Result<Wave, PredictError>),
) -> Result<Vec<Result<Outcome, PredictError>>, PredictError> {
    let started = Instant::now();
    let mut results = Vec::with_capacity(batch.rows);
    let mut spent = Spent::default();
    // Who sends many rows has time; who sends one waits for it.
    let priority = if batch.rows == 1 { Priority::Interactive } else { Priority::Bulk };
    let urgency = Urgency { priority, deadline: batch.deadline };
    while results.len() < batch.rows {
        let first = results.len();
        let (rows, submitted) = submit(first, urgency);
        let wave = match submitted {
            Ok(wave) => wave,
            Err(error) if first == 0 || matches!(error, PredictError::DeadlineExceeded) => {
                deployment.core().stats.failed_by(&error, started.elapsed());
                return Err(error);
            }
            // The rows before it have their answers.
            Err(error) => {
                let refused = error.for_each_row();
                results.extend(rows.map(|_| Err(refused())));
                continue;
            }
        };
        let of_wave = wave.finish(deployment, batch.want, started, &mut results).await;
        spent.add(&of_wave);
        for error in results[first..].iter().filter_map(|result| result.as_ref().err()) {
            deployment.core().stats.fault(error);
        }
        if has_passed(batch.deadline) {
            deployment.core().stats.failed_by(&PredictError::DeadlineExceeded, started.elapsed());
            return Err(PredictError::DeadlineExceeded);
        }
        if batch.bad_row == BadRow::FailsAll && results[first..].iter().any(Result::is_err) {
            deployment.core().stats.failed(started.elapsed());
            return Ok(results);
        }
    }
    deployment.core().stats.queued_batch(spent.answered, &spent.timings, started);
    Ok(results)
}

/// What comes after its deadline is no answer, though it was run.
fn has_passed(deadline: Option<Instant>) -> bool {
    deadline.is_some_and(|deadline| deadline <= Instant::now())
}

// === impl QueuedRow ===

impl QueuedRow {
    /// The one row of a wave.
    fn of(
        deployment: &Arc<Deployment>,
        want: Want,
        deadline: Option<Instant>,
        submit: impl FnOnce() -> Result<Wave, PredictError>,
    ) -> Result<QueuedRow, PredictError> {
        let started = Instant::now();
        let wave = submit().and_then(Wave::sound);
        let wave = wave.inspect_err(|error| deployment.core().stats.failed_by(error, started.elapsed()))?;
        Ok(QueuedRow { deployment: Arc::clone(deployment), want, started, deadline, wave })
    }

    /// Waits for the answer.
    ///
    /// # Errors
    ///
    /// Why there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future, or the row before, gives up its place in the queue.
    pub(crate) async fn outcome(self) -> Result<Outcome, PredictError> {
        let QueuedRow { deployment, want, started, deadline, wave } = self;
        let mut results = Vec::with_capacity(1);
        let spent = wave.finish(&deployment, want, started, &mut results).await;
        let result = results.pop().unwrap_or(Err(PredictError::Panicked));
        let result = if has_passed(deadline) { Err(PredictError::DeadlineExceeded) } else { result };
        let stats = &mut deployment.core().stats;
        match &result {
            Ok(_) => stats.queued_row(&spent.timings, started),
            Err(error) => stats.failed_by(error, started.elapsed()),
        }
        result
    }
}

// === impl Wave ===

impl Wave {
    /// The wave, or the first error of its rows.
    fn sound(mut self) -> Result<Wave, PredictError> {
        match self.rows.iter().position(Result::is_err) {
            Some(bad) => Err(self.rows.swap_remove(bad).err().unwrap_or(PredictError::Panicked)),
            None => Ok(self),
        }
    }

    /// Assembles rows and submits those that can be run.
    fn submit(
        deployment: &Deployment,
        queue: &Queue,
        rows: Range<usize>,
        (urgency, bad_row): (Urgency, BadRow),
        draw: Option<Draw>,
        mut fill: impl FnMut(usize, &mut RowBuilder<'_>),
    ) -> Result<Wave, PredictError> {
        let started = Instant::now();
        let plan = deployment.plan();
        let mut matrix = Vec::with_capacity(rows.len() * plan.width());
        let mut body_of = Vec::with_capacity(rows.len());
        let mut assembled = Vec::with_capacity(rows.len());
        let mut core = deployment.core();
        for row in rows {
            let mut builder = RowBuilder::new(plan, core.scratch());
            fill(row, &mut builder);
            let whole = matrix.len();
            let meta = builder.finish(&mut matrix).map_err(PredictError::Invalid).map(|mut meta| {
                let draw = draw.map(|draw| (draw, row));
                deployment.tap().draw(draw, plan, core.scratch(), &mut meta);
                meta
            });
            match meta.as_ref().ok().and_then(|meta| meta.body) {
                Some(body) => body_of.push(body),
                None => matrix.truncate(whole),
            }
            assembled.push(meta);
        }
        drop(core);
        let is_bad = bad_row == BadRow::FailsAll && assembled.iter().any(Result::is_err);
        if is_bad {
            for row in assembled.iter_mut().filter(|row| row.is_ok()) {
                *row = Err(PredictError::Abandoned);
            }
        }
        let features = started.elapsed();
        let answers = if is_bad || body_of.is_empty() {
            None
        } else {
            let batch = HeadsModel::batch(deployment.body_count(), plan.width(), matrix, &body_of);
            let rows = Row::split(batch).ok_or(PredictError::Panicked)?;
            Some(queue.submit(rows, urgency)?)
        };
        Ok(Wave { features, rows: assembled, answers, told: Vec::new() })
    }

    /// Submits pictures, but for those whose length says enough.
    fn of_pictures(
        deployment: &Deployment,
        (pictures, queue): (&Arc<Pictures>, &Queue),
        of_rows: &[Picture],
        (urgency, bad_row): (Urgency, BadRow),
        draw: Option<Draw>,
    ) -> Result<Wave, PredictError> {
        let started = Instant::now();
        let admit = |(row, picture)| {
            pictures.admit(picture)?;
            let mut meta = RowMeta::picture();
            deployment.tap().draw_picture(draw.map(|draw| (draw, row)), &mut meta);
            Ok(meta)
        };
        let mut admitted: Vec<Result<RowMeta, PredictError>> = of_rows.iter().enumerate().map(admit).collect();
        if bad_row == BadRow::FailsAll && admitted.iter().any(Result::is_err) {
            for row in admitted.iter_mut().filter(|row| row.is_ok()) {
                *row = Err(PredictError::Abandoned);
            }
        }
        let sound = of_rows.iter().zip(&admitted).filter(|(_, row)| row.is_ok());
        // A clone is another reference to the same bytes.
        let (rows, told): (Vec<Row>, Vec<Told>) =
            sound.map(|(picture, _)| pictures.row(picture.clone(), urgency.deadline)).unzip();
        let features = started.elapsed();
        let answers = if rows.is_empty() { None } else { Some(queue.submit(rows, urgency)?) };
        Ok(Wave { features, rows: admitted, answers, told })
    }

    /// Waits for the answers and appends the rows' results.
    async fn finish(
        self,
        deployment: &Deployment,
        want: Want,
        started: Instant,
        results: &mut Vec<Result<Outcome, PredictError>>,
    ) -> Spent {
        let Wave { features, rows, answers, told } = self;
        let answers = match answers {
            Some(answers) => answers.await,
            None => Vec::new(),
        };
        let mut answers = answers.into_iter();
        let mut told = told.into_iter();
        let (mut spent, mut panicked) = (Spent::default(), false);
        for row in rows {
            let result = row.and_then(|meta| {
                let Some(body) = meta.body else {
                    let timings = Timings { features, total: started.elapsed(), ..Timings::default() };
                    return Ok(Outcome { timings, ..outcome(meta, Estimate::Unknown, Vec::new(), started) });
                };
                let answer = answers.next().unwrap_or(Err(RowError::Lost));
                panicked |= matches!(answer, Err(RowError::Panicked { .. }));
                let picture = told.next().and_then(|told| told.get().cloned());
                let outcome = finished(deployment, want, (meta, body), answer, features, started)?;
                Ok(Outcome { picture, ..outcome })
            });
            if let Ok(outcome) = &result {
                spent.beside(&outcome.timings);
            }
            results.push(result);
        }
        if panicked {
            tracing::error!(
                model = deployment.model(),
                version = deployment.version,
                "a model instance panicked and was replaced"
            );
        }
        spent
    }
}

/// What a row's answer means.
fn finished(
    deployment: &Deployment,
    want: Want,
    (mut meta, body): (RowMeta, usize),
    answer: RowResult,
    features: Duration,
    started: Instant,
) -> Result<Outcome, PredictError> {
    let Answer { outputs, timings, batch_rows, cut } = answer.map_err(PredictError::from)?;
    let values = |index: usize| outputs.get(index).and_then(Tensor::as_f32).unwrap_or_default();
    let (margin, prediction) = (values(0), values(1));
    let spread = if deployment.has_spread(body) { values(2).first().copied() } else { None };
    let estimate = postprocess::estimate(deployment.plan(), &mut meta, margin, prediction, spread);
    let raw = if want == Want::EstimateAndRaw { prediction.to_vec() } else { Vec::new() };
    let ev_batching::Timings { queue, prepare, inference } = timings;
    let timings = Timings { queue, features: features + prepare, inference, total: started.elapsed() };
    let batch = Some(BatchInfo { rows: batch_rows, cut });
    Ok(Outcome { timings, batch, ..outcome(meta, estimate, raw, started) })
}

// === impl Spent ===

impl Spent {
    /// A row that ran beside others of its wave: the slowest counts.
    fn beside(&mut self, timings: &Timings) {
        self.answered += 1;
        let Timings { queue, features, inference, total } = &mut self.timings;
        *queue = timings.queue.max(*queue);
        *features = timings.features.max(*features);
        *inference = timings.inference.max(*inference);
        *total = timings.total.max(*total);
    }

    /// A wave that ran after others.
    fn add(&mut self, wave: &Spent) {
        self.answered += wave.answered;
        self.timings.queue += wave.timings.queue;
        self.timings.features += wave.timings.features;
        self.timings.inference += wave.timings.inference;
        self.timings.total = wave.timings.total;
    }
}

// === errors of the queue ===

impl From<SubmitError> for PredictError {
    fn from(error: SubmitError) -> PredictError {
        match error {
            SubmitError::NoRows => PredictError::EmptyBatch,
            SubmitError::QueueFull { rows, bytes, retry_after, .. } => {
                PredictError::QueueFull { rows, bytes, retry_after }
            }
            SubmitError::DeadlineExceeded => PredictError::DeadlineExceeded,
            SubmitError::WouldMissDeadline { .. } => PredictError::WouldMissDeadline,
            SubmitError::ShuttingDown => PredictError::ShuttingDown,
            // Waves are no larger than the queue, which is checked when it is made.
            error => PredictError::Backend(engine(&error)),
        }
    }
}

impl From<RowError> for PredictError {
    fn from(error: RowError) -> PredictError {
        match error {
            RowError::DeadlineExceeded => PredictError::DeadlineExceeded,
            RowError::WouldMissDeadline => PredictError::WouldMissDeadline,
            RowError::Displaced { retry_after } => PredictError::Displaced { retry_after },
            RowError::ShuttingDown => PredictError::ShuttingDown,
            RowError::Run(error) => PredictError::Backend(engine(&*error)),
            RowError::Panicked { .. } | RowError::PreparePanicked { .. } => PredictError::Panicked,
            // What is wrong with a picture, as its preparation said it.
            RowError::Prepare(error) => match error.downcast() {
                Ok(error) => *error,
                Err(error) => PredictError::Backend(engine(&*error)),
            },
            error => PredictError::Backend(engine(&error)),
        }
    }
}

fn engine(error: &dyn std::error::Error) -> RunError {
    RunError::Engine { backend: "batch", reason: error.to_string() }
}
