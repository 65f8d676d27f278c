//! `ev.registry.v1.ModelRegistry.CompareVersions`.

use std::sync::Arc;

use ev_models_core::manifest::OutputKind;
use ev_proto::ev::{
    common::v1::{ModelSelector, model_selector},
    registry::v1::{
        CompareVersionsRequest, CompareVersionsResponse, ComparedAnswer, ComparedKind, ComparedRow, ComparedVersion,
    },
};
use ev_registry::{PRODUCTION, Registry, VersionChoice, VersionRecord};
use serde_json::json;
use tonic::Status;

use super::status;
use crate::{
    comparison::{Compared, Comparer, REQUESTS, REQUESTS_MAX, Row, Summary, likeliest},
    deploy::{Answer, Question},
    pipeline::Estimate,
};

pub(super) async fn compare(
    registry: &Registry,
    comparer: &Arc<Comparer>,
    request: CompareVersionsRequest,
) -> Result<CompareVersionsResponse, Status> {
    let CompareVersionsRequest { left, right, requests_max } = request;
    let requests_max = match usize::try_from(requests_max).unwrap_or(usize::MAX) {
        0 => REQUESTS,
        max if max <= REQUESTS_MAX => max,
        max => {
            let description = format!("is {max}, expected 1 to {REQUESTS_MAX}, or 0 for {REQUESTS}");
            return Err(status::invalid("requests_max", "OUT_OF_RANGE", description));
        }
    };
    let (left, right) = (chosen(registry, "left", left).await?, chosen(registry, "right", right).await?);
    let compared = comparer.compare(left.clone(), right.clone(), requests_max).await;
    Ok(to_proto(&left, &right, &compared.map_err(status::of_comparison)?))
}

async fn chosen(registry: &Registry, field: &str, selector: Option<ModelSelector>) -> Result<VersionRecord, Status> {
    let ModelSelector { name, version_choice } = selector.unwrap_or_default();
    if name.is_empty() {
        return Err(status::invalid(&format!("{field}.name"), "MISSING_FIELD", "is empty, expected a model's name"));
    }
    let choice = match version_choice {
        None => VersionChoice::Alias(PRODUCTION.to_owned()),
        Some(model_selector::VersionChoice::Version(version)) => VersionChoice::Number(version),
        Some(model_selector::VersionChoice::Alias(alias)) => VersionChoice::Alias(alias),
    };
    registry.get(&name, &choice).await.map_err(|error| status::of_registry(&error))
}

fn to_proto(left: &VersionRecord, right: &VersionRecord, compared: &Compared) -> CompareVersionsResponse {
    let version = |record: &VersionRecord| {
        let (model, version, digest) = (record.model.clone(), record.version, record.digest.to_string());
        Some(ComparedVersion { model, version, digest })
    };
    let Summary { compared: count, median, max, class_changes } = compared.summary();
    let Compared { kind, unit, classes, rows, left_out } = compared;
    let kind = match kind {
        OutputKind::Quantiles => ComparedKind::Quantiles,
        OutputKind::Probability => ComparedKind::Probability,
        OutputKind::Classes => ComparedKind::Classes,
        OutputKind::Prediction => ComparedKind::Prediction,
    };
    CompareVersionsResponse {
        left: version(left),
        right: version(right),
        kind: kind.into(),
        unit: unit.clone(),
        classes: classes.clone(),
        rows: rows.iter().map(|row| row_to_proto(row, classes)).collect(),
        left_out: number(*left_out),
        compared: number(count),
        difference_median: median,
        difference_max: max,
        class_changes: number(class_changes),
    }
}

fn row_to_proto(row: &Row, classes: &[String]) -> ComparedRow {
    let Row { numbers: [left_number, right_number], question, answers: [left, right], difference } = row;
    let request_json = match question {
        Question::Row(inputs) => json!(inputs),
        Question::Picture { file, bytes: _ } => json!({ "image_file": file }),
    };
    ComparedRow {
        left_number: left_number.map(number),
        right_number: right_number.map(number),
        request_json: request_json.to_string(),
        left: Some(answer(left, classes)),
        right: Some(answer(right, classes)),
        difference: *difference,
    }
}

fn answer(answer: &Result<Answer, String>, classes: &[String]) -> ComparedAnswer {
    let Answer { estimate, out_of_distribution } = match answer {
        Ok(answer) => answer,
        Err(problem) => return ComparedAnswer { problem: problem.clone(), ..ComparedAnswer::default() },
    };
    let (values, problem): (&[f32], &str) = match estimate {
        Estimate::Quantiles(values) => (values, ""),
        Estimate::Probability(value) => (std::slice::from_ref(value), ""),
        Estimate::Classes(values) | Estimate::Prediction(values) => (values, ""),
        Estimate::Unknown => (&[], "it does not know"),
    };
    ComparedAnswer {
        values: values.iter().copied().map(f64::from).collect(),
        likeliest_class: likeliest(estimate).and_then(|index| classes.get(index)).cloned().unwrap_or_default(),
        out_of_distribution: out_of_distribution.clone(),
        problem: problem.to_owned(),
    }
}

fn number(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
