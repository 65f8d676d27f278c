//! What streaming needs to know of a prediction service.

use ev_client::{
    Client, Error, Replies,
    proto::ev::{battery, charging, common::v1::RowError, range, thermal},
};
use futures_util::Stream;
use prost::Message;

/// A prediction service with its messages.
pub(crate) trait Service {
    type Request: Message + Default + Send + 'static;
    type StreamRequest: Send + 'static;
    type StreamResponse: Message;

    /// Full name of the request.
    const REQUEST: &'static str;
    /// Full name of a stream's reply.
    const STREAM_RESPONSE: &'static str;

    fn stream_request(id: u64, request: Self::Request) -> Self::StreamRequest;

    fn refused(id: u64, error: RowError) -> Self::StreamResponse;

    fn is_refused(response: &Self::StreamResponse) -> bool;

    async fn open(
        client: &Client,
        requests: impl Stream<Item = Self::StreamRequest> + Send + 'static,
    ) -> Result<Replies<Self::StreamResponse>, Error>;
}

macro_rules! service {
    ($service:ident, $handle:ident.$open:ident, $package:ident, $name:literal, $request:ident, $stream_request:ident, $stream_response:ident, $result:ident) => {
        #[derive(Debug)]
        pub(crate) struct $service;

        impl Service for $service {
            type Request = $package::v1::$request;
            type StreamRequest = $package::v1::$stream_request;
            type StreamResponse = $package::v1::$stream_response;

            const REQUEST: &'static str = concat!($name, ".", stringify!($request));
            const STREAM_RESPONSE: &'static str = concat!($name, ".", stringify!($stream_response));

            fn stream_request(id: u64, request: Self::Request) -> Self::StreamRequest {
                $package::v1::$stream_request { id, request: Some(request) }
            }

            fn refused(id: u64, error: RowError) -> Self::StreamResponse {
                $package::v1::$stream_response { id, result: Some($package::v1::$result::Result::Error(error)) }
            }

            fn is_refused(response: &Self::StreamResponse) -> bool {
                !matches!(response.result, Some($package::v1::$result::Result::Response(_)))
            }

            async fn open(
                client: &Client,
                requests: impl Stream<Item = Self::StreamRequest> + Send + 'static,
            ) -> Result<Replies<Self::StreamResponse>, Error> {
                client.$handle().$open(requests).await
            }
        }
    };
}

service!(
    Range,
    range.predict_stream,
    range,
    "ev.range.v1",
    PredictRequest,
    PredictStreamRequest,
    PredictStreamResponse,
    predict_stream_response
);
service!(
    Utilization,
    utilization.predict_stream,
    charging,
    "ev.charging.v1",
    PredictRequest,
    PredictStreamRequest,
    PredictStreamResponse,
    predict_stream_response
);
service!(
    Battery,
    battery.predict_stream,
    battery,
    "ev.battery.v1",
    PredictRequest,
    PredictStreamRequest,
    PredictStreamResponse,
    predict_stream_response
);
service!(
    Thermal,
    thermal.assess_stream,
    thermal,
    "ev.thermal.v1",
    AssessRequest,
    AssessStreamRequest,
    AssessStreamResponse,
    assess_stream_response
);
