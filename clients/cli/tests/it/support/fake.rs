//! A server with fixed answers, for what the program shows of them.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use ev_client::proto::ev::{
    common::v1::{ModelVersion, PredictionInfo, PredictionStatus, RowError, Timings},
    range::v1::{
        PredictBatchRequest, PredictBatchResponse, PredictRequest, PredictResponse, PredictStreamRequest,
        PredictStreamResponse,
        predict_stream_response::Result as StreamResult,
        range_prediction_server::{RangePrediction, RangePredictionServer},
    },
    vision::v1::vehicle_vision_server::VehicleVisionServer,
};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::fake_vision::FakeVision;

/// As the server's: a photo of 16 MiB and what is around it.
const MESSAGE_SIZE_MAX_BYTES: usize = (16 << 20) + (64 << 10);

/// Where it listens; it ends with the test's process.
pub(crate) struct FakeServer {
    pub(crate) url: String,
    /// Unary calls so far.
    pub(crate) calls: Arc<AtomicU32>,
}

/// Answers by the make that is asked for.
#[derive(Default)]
struct FakeRange {
    calls: Arc<AtomicU32>,
}

// === impl FakeServer ===

impl FakeServer {
    pub(crate) fn start() -> FakeServer {
        let service = FakeRange::default();
        let calls = Arc::clone(&service.calls);
        let (address, bound) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
                address.send(listener.local_addr().expect("bound")).expect("the test waits");
                let incoming = TcpListenerStream::new(listener);
                let vision = VehicleVisionServer::new(FakeVision).max_decoding_message_size(MESSAGE_SIZE_MAX_BYTES);
                let server = Server::builder().add_service(RangePredictionServer::new(service)).add_service(vision);
                server.serve_with_incoming(incoming).await
            })
        });
        FakeServer { url: format!("http://{}", bound.recv().expect("the server starts")), calls }
    }
}

// === impl FakeRange ===

#[tonic::async_trait]
impl RangePrediction for FakeRange {
    type PredictStreamStream = Pin<Box<dyn Stream<Item = Result<PredictStreamResponse, Status>> + Send>>;

    async fn predict(&self, request: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(request.metadata().contains_key("grpc-timeout"), "every call states its deadline");
        match request.get_ref().make.as_str() {
            "Overloaded" if call == 0 => Err(Status::with_error_details(
                Code::ResourceExhausted,
                "the queue is full",
                ErrorDetails::with_retry_info(Some(Duration::from_millis(10))),
            )),
            "Loading" => Err(Status::unavailable("still loading")),
            "Slow" => {
                tokio::time::sleep(Duration::from_secs(30)).await;
                Err(Status::internal("too late"))
            }
            _ => Ok(Response::new(answer(request.get_ref()))),
        }
    }

    async fn predict_batch(&self, _: Request<PredictBatchRequest>) -> Result<Response<PredictBatchResponse>, Status> {
        Err(Status::unimplemented("not asked for"))
    }

    async fn predict_stream(
        &self,
        request: Request<Streaming<PredictStreamRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        let replies = request.into_inner().map(|request| {
            let PredictStreamRequest { id, request } = request?;
            let request = request.unwrap_or_default();
            let result = if request.make.is_empty() {
                StreamResult::Error(RowError {
                    code: Code::InvalidArgument.into(),
                    message: "`make` is missing".to_owned(),
                    reason: "REQUIRED".to_owned(),
                    field_violations: Vec::new(),
                })
            } else {
                StreamResult::Response(answer(&request))
            };
            Ok(PredictStreamResponse { id, result: Some(result) })
        });
        Ok(Response::new(Box::pin(replies)))
    }
}

fn answer(request: &PredictRequest) -> PredictResponse {
    let version = match request.model_selector.as_ref().and_then(|selector| selector.version_choice.clone()) {
        Some(ev_client::proto::ev::common::v1::model_selector::VersionChoice::Version(version)) => version,
        _ => 1,
    };
    PredictResponse {
        range_q10_km: 250.0,
        range_q50_km: 314.2,
        range_q90_km: 371.0,
        info: Some(PredictionInfo {
            model: Some(ModelVersion {
                name: "ev-range".to_owned(),
                version,
                digest: format!("sha256:{}", "0123456789abcdef".repeat(4)),
            }),
            prediction_id: "p-1".to_owned(),
            status: PredictionStatus::Ok.into(),
            out_of_distribution: Vec::new(),
            feature_coverage: 0.25,
            timings: Some(Timings { queue_ns: 0, features_ns: 1000, inference_ns: 2000, total_ns: 3500 }),
            batch: None,
            features: Vec::new(),
            degraded: false,
        }),
    }
}
