//! What a load test does.

use std::time::Duration;

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
            pace: Pace::Rate(10_000.0),
            connections: 4,
            streams: 1,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
            in_flight_max: 20_000,
        }
    }
}

impl Scenario {
    /// Predictions that one request asks for.
    #[must_use]
    pub fn rows(self) -> usize {
        match self {
            Scenario::Unary | Scenario::Stream => 1,
            Scenario::Batch(rows) => rows,
        }
    }
}
