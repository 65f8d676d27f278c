//! The floor: what a call costs before the server does anything for it.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use ev_proto::ev::{
    common::v1::{BatchCut, BatchInfo, ModelVersion, PredictionInfo, PredictionStatus, Timings},
    range::v1::{
        PredictBatchRequest, PredictBatchResponse, PredictBatchResult, PredictRequest, PredictResponse,
        PredictStreamRequest, PredictStreamResponse, predict_batch_result, predict_stream_response,
        range_prediction_server::{RangePrediction, RangePredictionServer},
    },
    telemetry::v1::{
        Ack, Credit, Durability, Opened, PublishRequest, PublishResponse, StreamRequest, StreamResponse,
        stream_request, stream_response,
        telemetry_ingest_server::{TelemetryIngest, TelemetryIngestServer},
    },
};
use futures_core::Stream;
use futures_util::StreamExt as _;
use hyper_util::service::TowerToHyperService;
use tokio_util::sync::CancellationToken;
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{BoxFuture, StdError},
};
use tower::Service;

use crate::{
    Config, StartError,
    cores::serving_cores,
    process::connection_config,
    serving::{Cores, accept, listen},
};

/// A server of `ev.range.v1.RangePrediction` and `ev.telemetry.v1.TelemetryIngest` on the real server's acceptor, threads
/// and HTTP/2 settings.
///
/// It decodes requests and encodes answers as large as real ones, and does nothing between: no layers, no routing, no model,
/// and batches are acknowledged and dropped.
pub struct Floor {
    address: SocketAddr,
    draining: CancellationToken,
    cores: Arc<Cores>,
    acceptor: tokio::task::JoinHandle<()>,
}

#[derive(Clone, Copy)]
struct Noop;

/// By the first letters of the path.
#[derive(Clone)]
struct NoopDispatch {
    range: RangePredictionServer<Noop>,
    ingest: TelemetryIngestServer<Noop>,
}

/// Batches that a gateway may have on their way, and that are acknowledged together.
const CREDIT: u32 = 256;
const ACKNOWLEDGED: u32 = 64;

// === impl Floor ===

impl Floor {
    /// Serves on `grpc.address`.
    ///
    /// # Errors
    ///
    /// [`StartError`] when the address is taken or there are no threads.
    pub async fn start(config: &Config) -> Result<Floor, StartError> {
        let listener = listen(config.grpc.address, "gRPC")?;
        let address = listener.local_addr().unwrap_or(config.grpc.address);
        let (draining, abort) = (CancellationToken::new(), CancellationToken::new());
        let ingest = TelemetryIngestServer::new(Noop);
        let service = TowerToHyperService::new(NoopDispatch { range: RangePredictionServer::new(Noop), ingest });
        let count = serving_cores(config.grpc.serving_cores);
        let cores = Cores::start("serve", count, move || service.clone(), connection_config(config), &draining, &abort);
        let cores = Arc::new(cores.map_err(StartError::Threads)?);
        let connections_max = config.grpc.connections_max;
        let acceptor = tokio::spawn(accept(listener, Arc::clone(&cores), connections_max, draining.clone()));
        Ok(Floor { address, draining, cores, acceptor })
    }

    /// Where it is served.
    #[must_use]
    pub fn grpc_address(&self) -> SocketAddr {
        self.address
    }

    /// Ends once the calls in flight have.
    pub async fn stop(self) {
        self.draining.cancel();
        let _ = self.acceptor.await;
        if let Some(cores) = Arc::into_inner(self.cores) {
            let _ = tokio::task::spawn_blocking(move || cores.join()).await;
        }
    }
}

// === impl Noop ===

#[tonic::async_trait]
impl RangePrediction for Noop {
    type PredictStreamStream = Pin<Box<dyn Stream<Item = Result<PredictStreamResponse, Status>> + Send>>;

    async fn predict(&self, _: Request<PredictRequest>) -> Result<Response<PredictResponse>, Status> {
        Ok(Response::new(answer(None)))
    }

    async fn predict_batch(
        &self,
        request: Request<PredictBatchRequest>,
    ) -> Result<Response<PredictBatchResponse>, Status> {
        let result = |_| PredictBatchResult { result: Some(predict_batch_result::Result::Response(answer(None))) };
        Ok(Response::new(PredictBatchResponse { results: request.get_ref().rows.iter().map(result).collect() }))
    }

    async fn predict_stream(
        &self,
        request: Request<Streaming<PredictStreamRequest>>,
    ) -> Result<Response<Self::PredictStreamStream>, Status> {
        let together = BatchInfo { rows: 16, cut: BatchCut::Idle.into() };
        let answers = request.into_inner().map(move |message| {
            let result = Some(predict_stream_response::Result::Response(answer(Some(together))));
            message.map(|message| PredictStreamResponse { id: message.id, result })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

#[tonic::async_trait]
impl TelemetryIngest for Noop {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<StreamResponse, Status>> + Send>>;

    async fn stream(&self, request: Request<Streaming<StreamRequest>>) -> Result<Response<Self::StreamStream>, Status> {
        let mut batches = 0;
        let answers = request.into_inner().flat_map(move |message| {
            let messages = match message.map(|request| request.message) {
                Ok(Some(stream_request::Message::Open(_))) => {
                    let opened = Opened { credit: CREDIT, batch_readings_max: 4_096, ..Opened::default() };
                    vec![stream_response::Message::Opened(opened)]
                }
                Ok(Some(stream_request::Message::Batch(batch))) => {
                    batches += 1;
                    let (vehicle_id, sequence) = (batch.vehicle_id, batch.sequence);
                    let durability = Durability::Durable.into();
                    let ack = Ack { vehicle_id, sequence, durability, is_duplicate: false };
                    let credit = Credit { batches: ACKNOWLEDGED };
                    let is_due = batches % ACKNOWLEDGED == 0;
                    let credit = is_due.then_some(stream_response::Message::Credit(credit));
                    [stream_response::Message::Ack(ack)].into_iter().chain(credit).collect()
                }
                Ok(_) => Vec::new(),
                Err(status) => return futures_util::stream::iter(vec![Err(status)]),
            };
            let responses = messages.into_iter().map(|message| Ok(StreamResponse { message: Some(message) }));
            futures_util::stream::iter(responses.collect::<Vec<_>>())
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn publish(&self, _: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        Ok(Response::new(PublishResponse::default()))
    }
}

// === impl NoopDispatch ===

impl<B> Service<http::Request<B>> for NoopDispatch
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Unpin + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        if request.uri().path().starts_with("/ev.telemetry") {
            self.ingest.call(request)
        } else {
            self.range.call(request)
        }
    }
}

/// An answer like a real one, to the byte but for how large the timings are.
fn answer(batch: Option<BatchInfo>) -> PredictResponse {
    PredictResponse {
        range_q10_km: 322.7,
        range_q50_km: 396.8,
        range_q90_km: 430.4,
        info: Some(PredictionInfo {
            model: Some(ModelVersion {
                name: "ev-range".to_owned(),
                version: 1,
                digest: "sha256:0000000000000000000000000000000000000000000000000000000000000000".to_owned(),
            }),
            prediction_id: "00000000-0000-7000-8000-000000000000".to_owned(),
            status: PredictionStatus::Ok.into(),
            out_of_distribution: Vec::new(),
            feature_coverage: 0.9,
            timings: Some(Timings { queue_ns: 0, features_ns: 500, inference_ns: 3_000, total_ns: 4_000 }),
            batch,
            features: Vec::new(),
            degraded: false,
        }),
    }
}
