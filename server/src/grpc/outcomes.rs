//! `ev.outcomes.v1.Outcomes`: what happened, and how right predictions were. Its work runs on the control runtime, so that
//! no disk wait is a serving thread's.

use std::{future::Future, sync::Arc};

use ev_outcomes::{
    Actual, Comparison, OutcomesError, Question, REPORTS_MAX, Report, Reported, SOURCE_BYTES_MAX, Score,
};
use ev_proto::ev::{
    common::v1::ModelVersion,
    outcomes::v1::{
        ClassScore, CompareRequest, CompareResponse, Comparison as ProtoComparison, NumberScore, Outcome,
        ReportRequest, ReportResponse, ReportResult, ReportStatus, comparison::Score as ProtoScore,
        outcome::Actual as ProtoActual, outcomes_server::Outcomes,
    },
};
use prost_types::Timestamp;
use tokio::runtime::Handle;
use tonic::{Code, Request, Response, Status};
use uuid::Uuid;

use super::{call::deadline, status, telemetry::time_us};
use crate::{
    fleet::Forwarded,
    pipeline::{PredictError, Violation},
    predictions::Predictions,
};

/// Longest name of a class.
const CLASS_BYTES_MAX: usize = 1_024;
/// Most versions of a question.
const VERSIONS_MAX: usize = 1_000;

/// Takes in outcomes, and compares.
pub(crate) struct OutcomesService {
    pub(crate) predictions: Arc<Predictions>,
    /// Where outcomes of other servers' predictions go; none where the registry is not shared.
    pub(crate) forwarded: Option<Arc<Forwarded>>,
    pub(crate) control: Handle,
}

// === impl OutcomesService ===

impl OutcomesService {
    /// Does something on the control runtime.
    async fn there<T, F>(&self, work: impl FnOnce(Arc<Predictions>) -> F) -> Result<T, Status>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, OutcomesError>> + Send + 'static,
    {
        let done = self.control.spawn(work(Arc::clone(&self.predictions))).await;
        // Work that panicked, or a control runtime that is gone.
        let done = done.map_err(|_| status::of_predict(PredictError::ShuttingDown))?;
        done.map_err(|error| status::of_outcomes(&error))
    }
}

#[tonic::async_trait]
impl Outcomes for OutcomesService {
    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        deadline(request.extensions())?;
        let ReportRequest { outcomes, source } = request.into_inner();
        if outcomes.is_empty() {
            return Err(status::invalid("outcomes", "MISSING_FIELD", "is empty, expected at least one outcome"));
        }
        if outcomes.len() > REPORTS_MAX {
            let description = format!("has {} outcomes, expected at most {REPORTS_MAX}", outcomes.len());
            return Err(status::invalid("outcomes", "TOO_MANY_OUTCOMES", description));
        }
        if source.len() > SOURCE_BYTES_MAX {
            let description = format!("has {} bytes, expected at most {SOURCE_BYTES_MAX}", source.len());
            return Err(status::invalid("source", "TOO_LONG", description));
        }
        let (mut results, mut reports, mut places) = (Vec::with_capacity(outcomes.len()), Vec::new(), Vec::new());
        for (place, outcome) in outcomes.into_iter().enumerate() {
            results.push(match decode(outcome) {
                Ok(report) => {
                    reports.push(report);
                    places.push(place);
                    ReportResult::default()
                }
                Err(violation) => refused(PredictError::Invalid(vec![violation])),
            });
        }
        let forwarded = self.forwarded.clone();
        let reported = self.there(|predictions| async move {
            let reported = predictions.report(&reports, &source).await?;
            Ok(forward(forwarded.as_deref(), &reports, reported, &source).await)
        });
        for (place, reported) in places.into_iter().zip(reported.await?) {
            results[place] = reported.map_or_else(kept_for_another, result);
        }
        Ok(Response::new(ReportResponse { results }))
    }

    async fn compare(&self, request: Request<CompareRequest>) -> Result<Response<CompareResponse>, Status> {
        deadline(request.extensions())?;
        let CompareRequest { model, versions, start_time, end_time, by_cohort } = request.into_inner();
        if model.is_empty() {
            return Err(status::invalid("model", "MISSING_FIELD", "is missing, expected the name of a model"));
        }
        if versions.len() > VERSIONS_MAX {
            let description = format!("has {} versions, expected at most {VERSIONS_MAX}", versions.len());
            return Err(status::invalid("versions", "TOO_MANY_VERSIONS", description));
        }
        let time = |field: &str, time: Option<Timestamp>| match time {
            None => Ok(None),
            Some(time) => match time_us(&time) {
                Some(time_us) => Ok(Some(time_us)),
                None => Err(status::invalid(field, "OUT_OF_RANGE", format!("is {} s, expected a time", time.seconds))),
            },
        };
        let from_us = time("start_time", start_time)?.unwrap_or(0);
        let to_us = time("end_time", end_time)?;
        if to_us.is_some_and(|to_us| to_us <= from_us) {
            let description = "is not after `start_time`, expected a later time";
            return Err(status::invalid("end_time", "OUT_OF_RANGE", description));
        }
        let question = Question { model, versions, from_us, to_us, by_cohort };
        let comparisons = self
            .there(|predictions| async move {
                predictions.flush().await;
                predictions.outcomes().compare(&question).await
            })
            .await?;
        let comparisons = comparisons.into_iter().map(encode).collect();
        Ok(Response::new(CompareResponse { comparisons }))
    }
}

/// Keeps what this server cannot take for others; none is what was kept.
async fn forward(
    forwarded: Option<&Forwarded>,
    reports: &[Report],
    reported: Vec<Reported>,
    source: &str,
) -> Vec<Option<Reported>> {
    let missing: Vec<usize> = (0..reported.len()).filter(|place| reported[*place] == Reported::NotLogged).collect();
    let mut reported: Vec<Option<Reported>> = reported.into_iter().map(Some).collect();
    let Some(forwarded) = forwarded.filter(|_| !missing.is_empty()) else { return reported };
    let of_others: Vec<&Report> = missing.iter().map(|place| &reports[*place]).collect();
    match forwarded.keep(&of_others, source).await {
        Ok(kept) => {
            for (place, _) in missing.into_iter().zip(kept).filter(|(_, kept)| *kept) {
                reported[place] = None;
            }
        }
        // They are refused as not logged here, and can be reported again.
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "outcomes cannot be kept for other servers");
        }
    }
    reported
}

fn decode(outcome: Outcome) -> Result<Report, Violation> {
    let Outcome { prediction_id, actual, observed_time, supersede } = outcome;
    let violation =
        |field: &str, reason, description: String| Violation { field: field.to_owned(), reason, description };
    let prediction = Uuid::try_parse(&prediction_id).map_err(|_| {
        let found: String = prediction_id.chars().take(64).collect();
        let description = format!("is `{found}`, expected an id as `PredictionInfo.prediction_id` names it");
        violation("prediction_id", "INVALID_ID", description)
    })?;
    let actual = match actual {
        Some(ProtoActual::Number(number)) => Actual::Number(number),
        Some(ProtoActual::Class(class)) if class.len() <= CLASS_BYTES_MAX => Actual::Class(class),
        Some(ProtoActual::Class(class)) => {
            let description = format!("has {} bytes, expected at most {CLASS_BYTES_MAX}", class.len());
            return Err(violation("class", "TOO_LONG", description));
        }
        None => {
            let description = "is missing, expected what happened: `number` or `class`".to_owned();
            return Err(violation("actual", "MISSING_FIELD", description));
        }
    };
    let observed_us = match observed_time {
        None => None,
        Some(time) => Some(time_us(&time).ok_or_else(|| {
            violation("observed_time", "OUT_OF_RANGE", format!("is {} s, expected a time", time.seconds))
        })?),
    };
    Ok(Report { prediction, actual, observed_us, supersedes: supersede })
}

fn result(reported: Reported) -> ReportResult {
    let status = match reported {
        Reported::Stored => ReportStatus::Stored,
        Reported::Known => ReportStatus::AlreadyReported,
        Reported::Superseded { .. } => ReportStatus::Superseded,
        Reported::NotLogged => {
            let message = "this prediction is not in the log of this server: it was not sampled (`predictions.log.share`), \
                           is too old, or was made elsewhere";
            return refusal(Code::NotFound, "NOT_LOGGED", message.to_owned());
        }
        Reported::Conflict { before } => {
            let before = match before {
                Actual::Number(number) => number.to_string(),
                Actual::Class(class) => format!("`{class}`"),
            };
            let message = format!("{before} was reported before; set `supersede` to correct it");
            return refusal(Code::AlreadyExists, "CONFLICT", message);
        }
        Reported::Invalid { problem } => {
            let (field, reason) = ("actual".to_owned(), "INVALID_OUTCOME");
            return refused(PredictError::Invalid(vec![Violation { field, reason, description: problem }]));
        }
        _ => return refused(PredictError::Panicked),
    };
    ReportResult { status: status.into(), error: None }
}

fn kept_for_another() -> ReportResult {
    ReportResult { status: ReportStatus::Forwarded.into(), error: None }
}

fn refused(error: PredictError) -> ReportResult {
    ReportResult { status: ReportStatus::Refused.into(), error: Some(status::of_row(error)) }
}

fn refusal(code: Code, reason: &str, message: String) -> ReportResult {
    ReportResult { status: ReportStatus::Refused.into(), error: Some(status::row_error(code, reason, message)) }
}

fn encode(comparison: Comparison) -> ProtoComparison {
    let Comparison { version, cohort, predictions, reported, scored, out_of_distribution, unanswered, score } =
        comparison;
    let score = score.and_then(|score| match score {
        Score::Numbers(score) => {
            let ev_outcomes::NumberScore {
                mean_absolute_error,
                absolute_error_deviation,
                root_mean_squared_error,
                bias,
                interval_coverage,
                interval_width,
            } = score;
            Some(ProtoScore::Numbers(NumberScore {
                mean_absolute_error,
                absolute_error_deviation,
                root_mean_squared_error,
                bias,
                interval_coverage,
                interval_width,
            }))
        }
        Score::Classes(score) => {
            let ev_outcomes::ClassScore { accuracy, brier_score, calibration_error } = score;
            Some(ProtoScore::Classes(ClassScore { accuracy, brier_score, calibration_error }))
        }
        _ => None,
    });
    let model = ModelVersion { name: version.model.clone(), version: version.version, digest: version.digest.clone() };
    let model = Some(model);
    ProtoComparison { model, cohort, predictions, reported, scored, out_of_distribution, unanswered, score }
}
