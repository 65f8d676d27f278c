//! The prediction services: one request, many, or a stream.

use ev_proto::ev::{battery, charging, range, thermal, vision};
use futures_core::Stream;
use tonic::Request;

use crate::{Client, Config, Error, Replies, client::Repeat};

/// A prediction service whose three methods differ from its siblings' only in names and messages.
macro_rules! prediction_service {
    (
        $(#[$documentation:meta])*
        $service:ident in $package:ident::v1 over $module:ident::$client:ident,
        messages of $size:path,
        $single:ident($single_request:ident) -> $single_response:ident,
        $batch:ident($batch_request:ident) -> $batch_response:ident,
        $stream:ident($stream_request:ident) -> $stream_response:ident
    ) => {
        $(#[$documentation])*
        #[derive(Debug, Clone)]
        pub struct $service {
            pub(crate) client: Client,
            pub(crate) inner: $package::v1::$module::$client<tonic::transport::Channel>,
        }

        impl $service {
            pub(crate) fn new(client: Client) -> $service {
                let size = $size(client.config());
                let inner = $package::v1::$module::$client::new(client.channel())
                    .max_decoding_message_size(size)
                    .max_encoding_message_size(size);
                $service { client, inner }
            }

            /// Answers one request; repeated as the retry policy says.
            ///
            /// # Errors
            ///
            /// [`Error::Call`] when the request is refused or the deadline passes, [`Error::Unreachable`].
            pub async fn $single(
                &self,
                request: $package::v1::$single_request,
            ) -> Result<$package::v1::$single_response, Error> {
                self.client
                    .unary(Repeat::Idempotent, request, |request| {
                        let mut inner = self.inner.clone();
                        async move { inner.$single(request).await }
                    })
                    .await
            }

            /// Answers many requests, each with its own result; repeated as the retry policy says.
            ///
            /// # Errors
            ///
            /// [`Error::Call`] when the batch as a whole is refused or the deadline passes, [`Error::Unreachable`].
            pub async fn $batch(
                &self,
                rows: Vec<$package::v1::$single_request>,
            ) -> Result<$package::v1::$batch_response, Error> {
                self.client
                    .unary(Repeat::Idempotent, $package::v1::$batch_request { rows }, |request| {
                        let mut inner = self.inner.clone();
                        async move { inner.$batch(request).await }
                    })
                    .await
            }

            /// Answers requests as they come, for as long as they come: no deadline, no retries.
            ///
            /// # Errors
            ///
            /// [`Error::Call`] when the stream is refused, [`Error::Unreachable`]; later errors come from the replies.
            pub async fn $stream(
                &self,
                requests: impl Stream<Item = $package::v1::$stream_request> + Send + 'static,
            ) -> Result<Replies<$package::v1::$stream_response>, Error> {
                let mut inner = self.inner.clone();
                let response =
                    inner.$stream(Request::new(requests)).await.map_err(|status| self.client.error(status))?;
                Ok(Replies::new(self.client.clone(), response.into_inner()))
            }
        }
    };
}

prediction_service! {
    /// How far does this car go?
    RangePrediction in range::v1 over range_prediction_client::RangePredictionClient,
    messages of Config::message_size,
    predict(PredictRequest) -> PredictResponse,
    predict_batch(PredictBatchRequest) -> PredictBatchResponse,
    predict_stream(PredictStreamRequest) -> PredictStreamResponse
}

prediction_service! {
    /// How many charging sessions a day will this station see?
    ChargingUtilization in charging::v1 over charging_utilization_client::ChargingUtilizationClient,
    messages of Config::message_size,
    predict(PredictRequest) -> PredictResponse,
    predict_batch(PredictBatchRequest) -> PredictBatchResponse,
    predict_stream(PredictStreamRequest) -> PredictStreamResponse
}

prediction_service! {
    /// How healthy is this battery, and how long does it last?
    BatteryHealth in battery::v1 over battery_health_client::BatteryHealthClient,
    messages of Config::message_size,
    predict(PredictRequest) -> PredictResponse,
    predict_batch(PredictBatchRequest) -> PredictBatchResponse,
    predict_stream(PredictStreamRequest) -> PredictStreamResponse
}

prediction_service! {
    /// Is this pack heading for thermal runaway, and what must be done now?
    ThermalRisk in thermal::v1 over thermal_risk_client::ThermalRiskClient,
    messages of Config::message_size,
    assess(AssessRequest) -> AssessResponse,
    assess_batch(AssessBatchRequest) -> AssessBatchResponse,
    assess_stream(AssessStreamRequest) -> AssessStreamResponse
}

prediction_service! {
    /// Which vehicle is on this photo? A photo of [`Config::message_size_max_bytes`] fits in a message.
    VehicleVision in vision::v1 over vehicle_vision_client::VehicleVisionClient,
    messages of Config::photo_message_size,
    classify(ClassifyRequest) -> ClassifyResponse,
    classify_batch(ClassifyBatchRequest) -> ClassifyBatchResponse,
    classify_stream(ClassifyStreamRequest) -> ClassifyStreamResponse
}
