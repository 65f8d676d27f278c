//! Fixed answers about photos, which are short texts here.

use std::pin::Pin;

use ev_client::proto::ev::{
    common::v1::{ModelVersion, PredictionInfo, PredictionStatus, Timings, model_selector::VersionChoice},
    vision::v1::{
        Candidate, ClassifyBatchRequest, ClassifyBatchResponse, ClassifyRequest, ClassifyResponse,
        ClassifyStreamRequest, ClassifyStreamResponse, ImageInfo, TypicalRange, vehicle_vision_server::VehicleVision,
    },
};
use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Answers by the photo's first letters.
#[derive(Default)]
pub(super) struct FakeVision;

// === impl FakeVision ===

#[tonic::async_trait]
impl VehicleVision for FakeVision {
    type ClassifyStreamStream = Pin<Box<dyn Stream<Item = Result<ClassifyStreamResponse, Status>> + Send>>;

    async fn classify(&self, request: Request<ClassifyRequest>) -> Result<Response<ClassifyResponse>, Status> {
        assert!(request.metadata().contains_key("grpc-timeout"), "every call states its deadline");
        let request = request.into_inner();
        if request.image.starts_with(b"GIF") {
            let mut details =
                ErrorDetails::with_error_info("INVALID_IMAGE", "evserve", std::collections::HashMap::new());
            details.add_bad_request_violation("image", "found GIF, expected JPEG, PNG or WebP");
            return Err(Status::with_error_details(Code::InvalidArgument, "the picture cannot be read", details));
        }
        if request.model_selector.as_ref().is_some_and(|selector| selector.name == "nobody") {
            return Err(Status::not_found("no model `nobody` is registered"));
        }
        Ok(Response::new(answer(&request)))
    }

    async fn classify_batch(
        &self,
        _: Request<ClassifyBatchRequest>,
    ) -> Result<Response<ClassifyBatchResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn classify_stream(
        &self,
        _: Request<Streaming<ClassifyStreamRequest>>,
    ) -> Result<Response<Self::ClassifyStreamStream>, Status> {
        Err(Status::unimplemented("not asked for"))
    }
}

fn answer(request: &ClassifyRequest) -> ClassifyResponse {
    let unknown = request.image.starts_with(b"tractor");
    let mut candidates = if request.image.starts_with(b"fish") {
        vec![candidate("tench, Tinca tinca", 0.75, "", ""), candidate("goldfish, \u{1b}[31mCarassius", 0.25, "", "")]
    } else {
        let likely = if unknown { 0.31 } else { 0.873 };
        vec![
            candidate("TESLA_3", likely, "Tesla", "Model 3"),
            candidate("KIA_NIRO", 0.1, "Kia", "Niro"),
            candidate("OTHER", 0.027, "", ""),
        ]
    };
    candidates.truncate(request.top_k.unwrap_or(5) as usize);
    let selector = request.model_selector.clone().unwrap_or_default();
    let version = match selector.version_choice {
        None => 1,
        Some(VersionChoice::Version(version)) => version,
        Some(VersionChoice::Alias(_)) => 9,
    };
    let name = if selector.name.is_empty() { "vehicle-classifier".to_owned() } else { selector.name };
    let status = if unknown { PredictionStatus::OutOfDistribution } else { PredictionStatus::Ok };
    ClassifyResponse {
        candidates,
        unknown,
        image: Some(ImageInfo { format: "jpeg".to_owned(), width: 1600, height: 1067 }),
        info: Some(PredictionInfo {
            model: Some(ModelVersion { name, version, digest: format!("sha256:{}", "0123456789abcdef".repeat(4)) }),
            prediction_id: "p-1".to_owned(),
            status: status.into(),
            out_of_distribution: Vec::new(),
            feature_coverage: 1.0,
            timings: Some(Timings {
                queue_ns: 20_000,
                features_ns: 4_100_000,
                inference_ns: 8_000_000,
                total_ns: 12_150_000,
            }),
            batch: None,
            features: Vec::new(),
            degraded: false,
        }),
    }
}

fn candidate(label: &str, probability: f32, make: &str, model: &str) -> Candidate {
    let range = |low_km, median_km, high_km| TypicalRange {
        low_km,
        median_km,
        high_km,
        source: "EV Database, 2025".to_owned(),
    };
    let typical_range = match label {
        "TESLA_3" => Some(range(350.0, 510.0, 629.0)),
        "KIA_NIRO" => Some(range(385.0, 385.0, 385.0)),
        _ => None,
    };
    Candidate { label: label.to_owned(), probability, make: make.to_owned(), model: model.to_owned(), typical_range }
}
