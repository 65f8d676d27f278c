//! `inference.GRPCInferenceService`: any registered model by name, over named tensors, as KServe and Triton clients speak.

use std::sync::Arc;

use ev_proto::inference::{
    ModelConfigRequest, ModelConfigResponse, ModelInferRequest, ModelInferResponse, ModelMetadataRequest,
    ModelMetadataResponse, ModelReadyRequest, ModelReadyResponse, ModelStatisticsRequest, ModelStatisticsResponse,
    ModelStreamInferResponse, RepositoryIndexRequest, RepositoryIndexResponse, RepositoryModelLoadRequest,
    RepositoryModelLoadResponse, RepositoryModelUnloadRequest, RepositoryModelUnloadResponse, ServerLiveRequest,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest, ServerReadyResponse,
    grpc_inference_service_server::GrpcInferenceService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{
    call::Call,
    predictor::{Predictor, Reply},
    registry::RegistryService,
    status,
    stream::{self, Answer},
};
use crate::{deploy::Asker, pipeline::PredictError};

mod config;
mod contents;
mod infer;
mod metadata;
mod outputs;
mod pictures;
mod repository;
mod statistics;
mod tensors;
#[cfg(test)]
mod tests;

/// The Open Inference Protocol v2, with Triton's additions.
pub(super) struct OipService(Arc<Predictor>, Arc<RegistryService>);

// === impl OipService ===

impl OipService {
    pub(super) fn new(predictor: Arc<Predictor>, registry: Arc<RegistryService>) -> OipService {
        OipService(predictor, registry)
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for OipService {
    type ModelStreamInferStream = stream::Answers<ModelStreamInferResponse>;

    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        let ready = !self.0.draining.is_cancelled() && metadata::all_ready(&self.0.routes.load());
        Ok(Response::new(ServerReadyResponse { ready }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let ModelReadyRequest { name, version } = request.get_ref();
        let ready = metadata::deployment(&self.0.routes.load(), name, version, Asker::Server).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        Ok(Response::new(metadata::server()))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let ModelMetadataRequest { name, version } = request.get_ref();
        let snapshot = self.0.routes.load();
        metadata::model(&snapshot, name, version).map(Response::new).map_err(status::of_predict)
    }

    async fn model_config(
        &self,
        request: Request<ModelConfigRequest>,
    ) -> Result<Response<ModelConfigResponse>, Status> {
        let ModelConfigRequest { name, version } = request.get_ref();
        let snapshot = self.0.routes.load();
        let config = config::model(&snapshot, name, version, self.0.batch_rows_max).map_err(status::of_predict)?;
        Ok(Response::new(ModelConfigResponse { config: Some(config) }))
    }

    async fn model_statistics(
        &self,
        request: Request<ModelStatisticsRequest>,
    ) -> Result<Response<ModelStatisticsResponse>, Status> {
        let ModelStatisticsRequest { name, version } = request.get_ref();
        let statistics = statistics::models(&self.0, name, version);
        statistics.map(|model_stats| Response::new(ModelStatisticsResponse { model_stats })).map_err(status::of_predict)
    }

    async fn repository_index(
        &self,
        request: Request<RepositoryIndexRequest>,
    ) -> Result<Response<RepositoryIndexResponse>, Status> {
        let models = metadata::index(&self.0.routes.load(), request.get_ref().ready);
        Ok(Response::new(RepositoryIndexResponse { models }))
    }

    async fn repository_model_load(
        &self,
        request: Request<RepositoryModelLoadRequest>,
    ) -> Result<Response<RepositoryModelLoadResponse>, Status> {
        repository::load(&self.1, request).await.map(|()| Response::new(RepositoryModelLoadResponse {}))
    }

    async fn repository_model_unload(
        &self,
        request: Request<RepositoryModelUnloadRequest>,
    ) -> Result<Response<RepositoryModelUnloadResponse>, Status> {
        repository::unload(&self.1, request).await.map(|()| Response::new(RepositoryModelUnloadResponse {}))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let call = self.0.call(&request)?;
        let answered = one(&self.0, &mut request.into_inner(), call).done().await;
        answered.map(Response::new).map_err(status::of_predict)
    }

    async fn model_stream_infer(
        &self,
        request: Request<Streaming<ModelInferRequest>>,
    ) -> Result<Response<Self::ModelStreamInferStream>, Status> {
        let call = self.0.call_of_stream(&request)?;
        let predictor = Arc::clone(&self.0);
        let draining = predictor.draining.clone();
        let answers = stream::answers(request.into_inner(), &draining, call.deadline, move |request| {
            if infer::is_single(&request) {
                let reply = infer::row(&predictor, &request, call);
                let asked = Asked::of(request);
                return reply.in_stream(|answered| asked.in_place(answered));
            }
            let predictor = Arc::clone(&predictor);
            Answer::Later(Box::pin(async move {
                let answered = infer::batch(&predictor, &request, call).await;
                Asked::of(request).in_place(answered)
            }))
        });
        Ok(Response::new(answers))
    }
}

/// Answers a request, of which it may take what it needs.
pub(super) fn one(
    predictor: &Arc<Predictor>,
    request: &mut ModelInferRequest,
    call: Call,
) -> Reply<ModelInferResponse> {
    if infer::is_single(request) {
        return infer::row(predictor, request, call);
    }
    let (predictor, request) = (Arc::clone(predictor), std::mem::take(request));
    Reply::Queued(Box::pin(async move { infer::batch(&predictor, &request, call).await }))
}

/// What a failed request of a stream is told by, without its tensors.
struct Asked {
    model_name: String,
    model_version: String,
    id: String,
}

// === impl Asked ===

impl Asked {
    fn of(request: ModelInferRequest) -> Asked {
        let ModelInferRequest { model_name, model_version, id, .. } = request;
        Asked { model_name, model_version, id }
    }

    /// An answer of a stream; a failed request is told by its id and model, and the stream goes on.
    fn in_place(self, answered: Result<ModelInferResponse, PredictError>) -> ModelStreamInferResponse {
        let Asked { model_name, model_version, id } = self;
        match answered {
            Ok(response) => ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) },
            Err(error) => ModelStreamInferResponse {
                error_message: status::of_row(error).message,
                infer_response: Some(ModelInferResponse {
                    model_name,
                    model_version,
                    id,
                    ..ModelInferResponse::default()
                }),
            },
        }
    }
}
