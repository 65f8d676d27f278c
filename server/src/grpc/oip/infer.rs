//! One request: route, decode, run, encode.

use std::{collections::HashMap, sync::Arc, time::Instant};

use ev_proto::inference::{InferParameter, ModelInferRequest, ModelInferResponse, infer_parameter::ParameterChoice};

use super::{
    super::{
        call::Call,
        predictor::{Predictor, Reply},
    },
    metadata,
    outputs::{self, Part},
    pictures,
    tensors::{Columns, VIOLATIONS_MAX},
};
use crate::{
    deploy::Deployment,
    pipeline::{
        BadRow, Batch, Draw, Outcome, Picture, PredictError, PredictionIds, RowBuilder, Violation, Want, predict_batch,
        predict_pictures, predict_row,
    },
};

/// Whether a request is of one row, which is answered without a pause, or refused, or queued.
#[inline]
pub(super) fn is_single(request: &ModelInferRequest) -> bool {
    request.inputs.first().is_none_or(|input| input.shape.first() == Some(&1))
}

/// Answers a request for which [`is_single`] holds.
pub(super) fn row(predictor: &Arc<Predictor>, request: &ModelInferRequest, call: Call) -> Reply<ModelInferResponse> {
    match try_row(predictor, request, call) {
        Ok(reply) => reply,
        Err(error) => Reply::Refused(error),
    }
}

#[inline]
fn try_row(
    predictor: &Arc<Predictor>,
    request: &ModelInferRequest,
    call: Call,
) -> Result<Reply<ModelInferResponse>, PredictError> {
    let started = Instant::now();
    let snapshot = predictor.routes.load();
    let deployment = metadata::deployment(&snapshot, &request.model_name, &request.model_version, call.asker(""))?;
    if deployment.pictures().is_some() {
        return picture(predictor, deployment, request, call, started);
    }
    let (columns, parts) = prepare(predictor, deployment, request, started)?;
    let fill = |row: &mut RowBuilder<'_>| columns.fill(0, row);
    if let Some(queue) = deployment.queue() {
        let want = want(&parts);
        // Not the whole request: its tensors are in the row.
        let (id, is_raw) = (request.id.clone(), !request.raw_input_contents.is_empty());
        let answer = move |predictor: &Predictor, deployment: &Deployment, outcome: Result<Outcome, PredictError>| {
            let outcome = outcome.map_err(|error| located(error, 0))?;
            Ok(respond(predictor, deployment, id, is_raw, &parts, std::slice::from_ref(&outcome)))
        };
        return Ok(predictor.queued_row(deployment, queue, want, call.deadline, fill, answer));
    }
    let outcome = predict_row(deployment, want(&parts), fill).map_err(|error| located(error, 0))?;
    let (id, is_raw) = (request.id.clone(), !request.raw_input_contents.is_empty());
    Ok(Reply::Answered(respond(predictor, deployment, id, is_raw, &parts, std::slice::from_ref(&outcome))))
}

/// Answers a request of any number of rows: through its model's queue, or inline with pauses between slices of them.
pub(super) async fn batch(
    predictor: &Predictor,
    request: &ModelInferRequest,
    call: Call,
) -> Result<ModelInferResponse, PredictError> {
    let started = Instant::now();
    let deployment = Arc::clone(metadata::deployment(
        &predictor.routes.load(),
        &request.model_name,
        &request.model_version,
        call.asker(""),
    )?);
    if let Some(queue) = deployment.picture_queue() {
        let (of_rows, parts) = prepare_pictures(predictor, &deployment, request, started)?;
        let batch = Batch {
            rows: of_rows.len(),
            deadline: call.deadline,
            want: want(&parts),
            bad_row: BadRow::FailsAll,
            draw: Some(Draw::of_request()),
        };
        let outcomes = together(predict_pictures(&deployment, queue, batch, &of_rows).await?)?;
        let (id, is_raw) = (request.id.clone(), !request.raw_input_contents.is_empty());
        return Ok(respond(predictor, &deployment, id, is_raw, &parts, &outcomes));
    }
    let (columns, parts) = prepare(predictor, &deployment, request, started)?;
    let batch = Batch {
        rows: columns.rows(),
        deadline: call.deadline,
        want: want(&parts),
        bad_row: BadRow::FailsAll,
        draw: Some(Draw::of_request()),
    };
    let results = predict_batch(&deployment, batch, |row, builder| columns.fill(row, builder)).await?;
    let outcomes = together(results)?;
    let (id, is_raw) = (request.id.clone(), !request.raw_input_contents.is_empty());
    Ok(respond(predictor, &deployment, id, is_raw, &parts, &outcomes))
}

/// A request for one picture.
#[cold]
fn picture(
    predictor: &Arc<Predictor>,
    deployment: &Arc<Deployment>,
    request: &ModelInferRequest,
    call: Call,
    started: Instant,
) -> Result<Reply<ModelInferResponse>, PredictError> {
    let (mut of_rows, parts) = prepare_pictures(predictor, deployment, request, started)?;
    let picture = of_rows.pop().ok_or(PredictError::EmptyBatch)?;
    let want = want(&parts);
    let (id, is_raw) = (request.id.clone(), !request.raw_input_contents.is_empty());
    let answer = move |predictor: &Predictor, deployment: &Deployment, outcome: Result<Outcome, PredictError>| {
        let outcome = outcome.map_err(|error| located(error, 0))?;
        Ok(respond(predictor, deployment, id, is_raw, &parts, std::slice::from_ref(&outcome)))
    };
    Ok(predictor.queued_picture(deployment, want, call.deadline, picture, answer))
}

/// As [`prepare`], for a model that takes pictures.
fn prepare_pictures(
    predictor: &Predictor,
    deployment: &Deployment,
    request: &ModelInferRequest,
    started: Instant,
) -> Result<(Vec<Picture>, Vec<Part>), PredictError> {
    let rows_max = deployment.max_batch_rows().min(predictor.batch_rows_max);
    let prepared = pictures::decode(deployment.plan(), request, rows_max)
        .and_then(|of_rows| Ok((of_rows, outputs::select(&deployment.manifest.outputs[0], &request.outputs)?)));
    prepared.inspect_err(|_| deployment.core().stats.failed(started.elapsed()))
}

/// Decodes a request and resolves its outputs; what is refused here counts as failed for the model as well.
fn prepare<'r>(
    predictor: &Predictor,
    deployment: &Deployment,
    request: &'r ModelInferRequest,
    started: Instant,
) -> Result<(Columns<'r>, Vec<Part>), PredictError> {
    let rows_max = deployment.max_batch_rows().min(predictor.batch_rows_max);
    let prepared = Columns::decode(deployment.plan(), request, rows_max)
        .and_then(|columns| Ok((columns, outputs::select(&deployment.manifest.outputs[0], &request.outputs)?)));
    prepared.inspect_err(|_| deployment.core().stats.failed(started.elapsed()))
}

fn want(parts: &[Part]) -> Want {
    if parts.contains(&Part::Raw) { Want::EstimateAndRaw } else { Want::Estimate }
}

/// All outcomes, or why there are none.
fn together(results: Vec<Result<Outcome, PredictError>>) -> Result<Vec<Outcome>, PredictError> {
    let mut outcomes = Vec::with_capacity(results.len());
    let mut violations = Vec::new();
    for (row, result) in results.into_iter().enumerate() {
        match result {
            Ok(outcome) => outcomes.push(outcome),
            Err(PredictError::Abandoned) => {}
            Err(error) => match located(error, row) {
                PredictError::Invalid(found) => violations.extend(found),
                error => return Err(error),
            },
        }
    }
    if violations.is_empty() {
        return Ok(outcomes);
    }
    violations.truncate(VIOLATIONS_MAX);
    Err(PredictError::Invalid(violations))
}

/// Says which row of which input a violation is about.
#[cold]
fn located(error: PredictError, row: usize) -> PredictError {
    let PredictError::Invalid(violations) = error else { return error };
    let locate = |violation: Violation| Violation { field: format!("inputs.{}[{row}]", violation.field), ..violation };
    PredictError::Invalid(violations.into_iter().take(VIOLATIONS_MAX).map(locate).collect())
}

fn respond(
    predictor: &Predictor,
    deployment: &Deployment,
    id: String,
    is_raw: bool,
    parts: &[Part],
    outcomes: &[Outcome],
) -> ModelInferResponse {
    let id_of_first = match outcomes.first() {
        Some(first) => predictor.ids.of(first.taken, first.draw),
        None => predictor.ids.of(Instant::now(), Draw::of_request()),
    };
    for (row, outcome) in outcomes.iter().enumerate().filter(|(_, outcome)| outcome.inputs.is_some()) {
        predictor.show(deployment, PredictionIds::following(id_of_first, row), outcome);
    }
    let (outputs, raw_output_contents) = if is_raw {
        outputs::raw(deployment, parts, outcomes)
    } else {
        (outputs::typed(deployment, parts, outcomes), Vec::new())
    };
    let text = |text: String| InferParameter { parameter_choice: Some(ParameterChoice::StringParam(text)) };
    let mut parameters = HashMap::from([
        ("digest".to_owned(), text(deployment.digest.clone())),
        ("prediction_id".to_owned(), text(PredictionIds::text(id_of_first))),
    ]);
    // Rows of one request may be run in several batches.
    if let [Outcome { batch: Some(batch), timings, .. }] = outcomes {
        let number = |number: u128| ParameterChoice::Int64Param(i64::try_from(number).unwrap_or(i64::MAX));
        let number = |value| InferParameter { parameter_choice: Some(number(value)) };
        parameters.insert("batch_rows".to_owned(), number(batch.rows as u128));
        parameters.insert("batch_cut".to_owned(), text(batch.cut.name().to_owned()));
        parameters.insert("queue_ns".to_owned(), number(timings.queue.as_nanos()));
    }
    ModelInferResponse {
        model_name: deployment.model().to_owned(),
        model_version: deployment.version.to_string(),
        id,
        parameters,
        outputs,
        raw_output_contents,
    }
}
