//! The Open Inference Protocol v2: any model by tensors.

use ev_proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, RepositoryIndexRequest,
    ServerLiveRequest, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
    grpc_inference_service_client::GrpcInferenceServiceClient, repository_index_response::ModelIndex,
};
use tonic::transport::Channel;

use crate::{Client, Error, client::Repeat};

/// Any model by tensors, as KServe and Triton clients see it.
#[derive(Debug, Clone)]
pub struct OpenInference {
    client: Client,
    inner: GrpcInferenceServiceClient<Channel>,
}

// === impl OpenInference ===

impl OpenInference {
    pub(crate) fn new(client: Client) -> OpenInference {
        let size = client.config().photo_message_size();
        let inner = GrpcInferenceServiceClient::new(client.channel())
            .max_decoding_message_size(size)
            .max_encoding_message_size(size);
        OpenInference { client, inner }
    }

    /// Whether the process answers.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`] when it does not, [`Error::Call`].
    pub async fn server_live(&self) -> Result<bool, Error> {
        let answer = self
            .client
            .unary(Repeat::Idempotent, ServerLiveRequest {}, |request| {
                let mut inner = self.inner.clone();
                async move { inner.server_live(request).await }
            })
            .await?;
        Ok(answer.live)
    }

    /// Whether every production model is loaded, or was refused.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Call`].
    pub async fn server_ready(&self) -> Result<bool, Error> {
        let answer = self
            .client
            .unary(Repeat::Idempotent, ServerReadyRequest {}, |request| {
                let mut inner = self.inner.clone();
                async move { inner.server_ready(request).await }
            })
            .await?;
        Ok(answer.ready)
    }

    /// Name, version and extensions of the server.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Call`].
    pub async fn server_metadata(&self) -> Result<ServerMetadataResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, ServerMetadataRequest {}, |request| {
                let mut inner = self.inner.clone();
                async move { inner.server_metadata(request).await }
            })
            .await
    }

    /// Inputs and outputs of a model. The version is a number or an alias; empty for `production`.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] with `NOT_FOUND` for an unknown model, [`Error::Unreachable`].
    pub async fn model_metadata(&self, name: &str, version: &str) -> Result<ModelMetadataResponse, Error> {
        let request = ModelMetadataRequest { name: name.to_owned(), version: version.to_owned() };
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.model_metadata(request).await }
            })
            .await
    }

    /// Runs a model.
    ///
    /// # Errors
    ///
    /// [`Error::Call`] when the request is refused, [`Error::Unreachable`].
    pub async fn model_infer(&self, request: ModelInferRequest) -> Result<ModelInferResponse, Error> {
        self.client
            .unary(Repeat::Idempotent, request, |request| {
                let mut inner = self.inner.clone();
                async move { inner.model_infer(request).await }
            })
            .await
    }

    /// Every registered version and whether it is ready.
    ///
    /// # Errors
    ///
    /// [`Error::Unreachable`], [`Error::Call`].
    pub async fn repository_index(&self) -> Result<Vec<ModelIndex>, Error> {
        let answer = self
            .client
            .unary(Repeat::Idempotent, RepositoryIndexRequest::default(), |request| {
                let mut inner = self.inner.clone();
                async move { inner.repository_index(request).await }
            })
            .await?;
        Ok(answer.models)
    }
}
