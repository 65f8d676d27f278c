//! What a load test of ingest does.

use std::time::Duration;

use serde::Serialize;

/// When batches are sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum IngestPace {
    /// Open loop: so many readings a second of all gateways together, in evenly spaced batches. A batch that has to
    /// wait for credit is late, and its latency counts from when it was due.
    Rate(f64),
    /// Closed loop: as many as there is credit for. It finds how much a server can take.
    Credit,
}

/// How batches get to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Connection {
    /// All of them, in order.
    Good,
    /// Each twentieth of a vehicle's twice, each twentieth after five that follow it, and one of a thousand never, of which
    /// there are at most 32. At the end the server's gap ledgers are compared with what did not come.
    Poor,
}

/// One load test of ingest.
#[derive(Debug, Clone, PartialEq)]
pub struct IngestLoad {
    /// Where the server takes readings in.
    pub endpoint: String,
    /// Gateways, each with a connection and a stream of its own.
    pub gateways: usize,
    /// Vehicles of a gateway, which take turns.
    pub vehicles: usize,
    /// Readings of a batch, of eight signals each.
    pub batch_readings: usize,
    /// When batches are sent.
    pub pace: IngestPace,
    /// How they get there.
    pub connection: Connection,
    /// Time before anything is counted.
    pub warm_up: Duration,
    /// Time that is counted.
    pub duration: Duration,
}

// === impl IngestLoad ===

impl Default for IngestLoad {
    fn default() -> IngestLoad {
        IngestLoad {
            endpoint: "127.0.0.1:50052".to_owned(),
            gateways: 4,
            vehicles: 25,
            batch_readings: 32,
            pace: IngestPace::Credit,
            connection: Connection::Good,
            warm_up: Duration::from_secs(1),
            duration: Duration::from_secs(10),
        }
    }
}
