//! What a load test does.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use ev_client::proto::inference::{ModelInferRequest, model_infer_request::InferInputTensor};
use serde::Serialize;

/// What is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Scenario {
    /// `RangePrediction.Predict`.
    Unary,
    /// `RangePrediction.PredictStream`.
    Stream,
    /// `RangePrediction.PredictBatch`, with this many rows.
    Batch(usize),
    /// `VehicleVision.Classify` with an encoded picture.
    Photo,
    /// `ModelInfer` of the Open Inference Protocol with a picture's FP32 tensor.
    Tensor,
}

/// What requests for pictures hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Picture {
    /// The file's bytes, of [`Scenario::Photo`].
    pub photo: Bytes,
    /// Registered name of the model that shall answer; empty for the service's own.
    pub model: String,
    /// The whole request of [`Scenario::Tensor`].
    pub tensor: Arc<ModelInferRequest>,
}

/// When requests are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Pace {
    /// Open loop: so many a second, evenly spaced.
    Rate(f64),
    /// Closed loop: so many in flight on each stream, the next one when one is answered.
    /// It finds how much a server can do; its latencies say nothing about a server under load that does not wait.
    InFlight(usize),
}

/// One load test.
#[derive(Debug, Clone, PartialEq)]
pub struct Load {
    /// Where the server is.
    pub endpoint: String,
    /// What is called.
    pub scenario: Scenario,
    /// What it is called with, where it takes pictures.
    pub picture: Picture,
    /// When.
    pub pace: Pace,
    /// Connections; requests take turns.
    pub connections: usize,
    /// Streams a connection. In an open loop of single calls there are as many as the schedule needs.
    pub streams: usize,
    /// Time before anything is counted.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
    /// Most requests in flight; one that is due above it is dropped.
    pub in_flight_max: usize,
}

// === impl Load ===

impl Default for Load {
    fn default() -> Load {
        Load {
            endpoint: "127.0.0.1:50051".to_owned(),
            scenario: Scenario::Unary,
            picture: Picture::default(),
            pace: Pace::Rate(10_000.0),
            connections: 4,
            streams: 1,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            in_flight_max: 20_000,
        }
    }
}

// === impl Picture ===

impl Picture {
    /// A request for one picture of three colours with this side, named `image`: numbers between -1 and 1, always the same.
    #[must_use]
    pub fn tensor(model: &str, side: u16) -> Arc<ModelInferRequest> {
        let values = 3 * usize::from(side) * usize::from(side);
        // A step that is prime to the period: neighbours differ, as they do in a picture.
        let value = |index: usize| f32::from(u8::try_from(index * 37 % 251).unwrap_or(0)) / 125.5 - 1.0;
        let bytes: Vec<u8> = (0..values).flat_map(|index| value(index).to_le_bytes()).collect();
        let input = InferInputTensor {
            name: "image".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![1, 3, i64::from(side), i64::from(side)],
            ..InferInputTensor::default()
        };
        Arc::new(ModelInferRequest {
            model_name: model.to_owned(),
            inputs: vec![input],
            raw_input_contents: vec![bytes.into()],
            ..ModelInferRequest::default()
        })
    }
}

// === impl Scenario ===

impl Scenario {
    /// Predictions that one request asks for.
    #[must_use]
    pub fn rows(self) -> usize {
        match self {
            Scenario::Unary | Scenario::Stream | Scenario::Photo | Scenario::Tensor => 1,
            Scenario::Batch(rows) => rows,
        }
    }
}
