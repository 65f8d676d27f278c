//! `ev.vision.v1.VehicleVision`.

use std::sync::Arc;

use ev_images::Format;
use ev_models_core::manifest::{Label, Task};
use ev_proto::ev::vision::v1::{
    Candidate, ClassifyBatchRequest, ClassifyBatchResponse, ClassifyBatchResult, ClassifyRequest, ClassifyResponse,
    ClassifyStreamRequest, ClassifyStreamResponse, ImageInfo, TypicalRange, classify_batch_result,
    classify_stream_response, vehicle_vision_server::VehicleVision,
};

use super::{
    call::Call,
    predictor::{Predictor, Reply, Results},
    service::single_model_service,
    status, stream,
};
use crate::{
    deploy::Deployment,
    pipeline::{Estimate, Outcome, Picture, PredictError, Violation},
};

/// Candidates of an answer, unless the request says how many.
const TOP_K: u32 = 5;
/// Most candidates a request may ask for: as many classes as a model may have, and no unit mistaken for another.
const TOP_K_MAX: u32 = 1_000;

single_model_service! {
    /// What is on a photo.
    VisionService: VehicleVision,
    unary: classify(ClassifyRequest) -> ClassifyResponse,
    batch: classify_batch(ClassifyBatchRequest) -> ClassifyBatchResponse of ClassifyBatchResult / classify_batch_result::Result,
    stream: classify_stream(ClassifyStreamRequest) -> ClassifyStreamResponse / classify_stream_response::Result as ClassifyStreamStream,
}

pub(super) fn one(predictor: &Arc<Predictor>, request: &ClassifyRequest, call: Call) -> Reply<ClassifyResponse> {
    let picture = match picture(request) {
        Ok(picture) => picture,
        Err(error) => return Reply::Refused(error),
    };
    let (selector, most) = (request.model_selector.as_ref(), most(request));
    predictor.picture(Task::ImageClassification, selector, picture, call, move |predictor, deployment, outcome| {
        answer(predictor, deployment, outcome, most)
    })
}

/// Photos are large, and have a queue: each is taken up before the next is read.
const RUN_MAX: usize = 1;

fn together<'r>(
    _: &Predictor,
    _: usize,
    _: impl Fn(usize) -> &'r ClassifyRequest,
    _: impl FnMut(Result<ClassifyResponse, PredictError>),
) -> bool {
    false
}

async fn many(predictor: &Predictor, rows: &[ClassifyRequest], call: Call) -> Results<ClassifyResponse> {
    let answer =
        |row: &ClassifyRequest, deployment: &Deployment, outcome| answer(predictor, deployment, outcome, most(row));
    predictor.pictures(Task::ImageClassification, rows, |row| row.model_selector.as_ref(), picture, call, answer).await
}

/// The file, if the request is sound.
fn picture(request: &ClassifyRequest) -> Result<Picture, PredictError> {
    let ClassifyRequest { image, top_k, model_selector: _ } = request;
    let mut violations = Vec::new();
    let mut violate = |field: &str, reason, description: String| {
        violations.push(Violation { field: field.to_owned(), reason, description });
    };
    if image.is_empty() {
        let description = "is empty, expected the bytes of a JPEG, PNG or WebP file";
        violate("image", "MISSING_FIELD", description.to_owned());
    }
    if let Some(top_k) = top_k.filter(|top_k| !(1..=TOP_K_MAX).contains(top_k)) {
        let description = format!("is {top_k}, expected 1 to {TOP_K_MAX}; leave it out for {TOP_K}");
        violate("top_k", "OUT_OF_RANGE", description);
    }
    // A reference to the message's bytes.
    if violations.is_empty() { Ok(Picture::File(image.clone())) } else { Err(PredictError::Invalid(violations)) }
}

/// Candidates the answer may have.
fn most(request: &ClassifyRequest) -> usize {
    request.top_k.unwrap_or(TOP_K).try_into().unwrap_or(usize::MAX)
}

fn answer(predictor: &Predictor, deployment: &Deployment, outcome: Outcome, most: usize) -> ClassifyResponse {
    let info = predictor.info(deployment, &outcome);
    let probabilities = match &outcome.estimate {
        Estimate::Classes(probabilities) => probabilities.as_slice(),
        _ => &[],
    };
    let mut order: Vec<usize> = (0..probabilities.len()).collect();
    // Of equal ones the model's own order.
    order.sort_by(|a, b| probabilities[*b].total_cmp(&probabilities[*a]));
    order.truncate(most);
    ClassifyResponse {
        candidates: order.into_iter().map(|class| candidate(deployment, class, probabilities[class])).collect(),
        unknown: outcome.is_unknown(),
        image: outcome.picture.map(|picture| ImageInfo {
            format: format(picture.format).to_owned(),
            width: picture.width,
            height: picture.height,
        }),
        info: Some(info),
    }
}

fn candidate(deployment: &Deployment, class: usize, probability: f32) -> Candidate {
    let manifest = &deployment.manifest;
    let facts = deployment.plan().label(class).and_then(|label| manifest.labels.get(label));
    let (make, model) = facts.map_or((String::new(), String::new()), |label| (label.make.clone(), label.model.clone()));
    Candidate {
        label: manifest.outputs[0].classes.get(class).cloned().unwrap_or_default(),
        probability,
        make,
        model,
        typical_range: facts.and_then(typical_range),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "kilometres, rounded to the wire's precision")]
fn typical_range(label: &Label) -> Option<TypicalRange> {
    let [low_km, median_km, high_km] = label.typical_range_km?.map(|km| km as f32);
    Some(TypicalRange { low_km, median_km, high_km, source: label.range_source.clone().unwrap_or_default() })
}

fn format(format: Format) -> &'static str {
    match format {
        Format::Jpeg => "jpeg",
        Format::Png => "png",
        Format::Webp => "webp",
    }
}
