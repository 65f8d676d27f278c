//! What a load test found.

use std::fmt;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::{Pace, Scenario};

/// What a load test found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// What was called.
    pub scenario: Scenario,
    /// When.
    pub pace: Pace,
    /// Connections.
    pub connections: usize,
    /// Streams a connection.
    pub streams: usize,
    /// From the end of the warm-up to the last answer.
    pub seconds: f64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered.
    pub answered: u64,
    /// Requests answered with an error.
    pub failed: u64,
    /// Requests that were due while too many were in flight, and not sent.
    pub dropped: u64,
    /// Requests without an answer when the test gave up waiting.
    pub unanswered: u64,
    /// Requests sent a second, those dropped included: below the rate where the client is too slow for it.
    pub sent_per_second: f64,
    /// Requests answered a second in that time, whenever they were sent.
    pub per_second: f64,
    /// Predictions a second, counted in the same way.
    pub predictions_per_second: f64,
    /// From when a request was due to when it was answered.
    pub latency_us: Percentiles,
    /// From when a request was due to when it was sent: the client's own lateness, part of the latency.
    pub lag_us: Percentiles,
    /// Running the model, as the server's answers say; of rows that ran together, each one's part.
    pub inference_us: Percentiles,
    /// From the decoded request to the finished answer, as the server's answers say.
    pub server_us: Percentiles,
    /// The first error.
    pub error: Option<String>,
}

/// Percentiles in microseconds; all 0 where nothing was measured.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Percentiles {
    /// Median.
    pub p50: f64,
    /// One in ten is above.
    pub p90: f64,
    /// One in a hundred is above.
    pub p99: f64,
    /// One in a thousand is above.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// A count to be divided.
pub(crate) struct Share(pub(crate) u64);

// === impl Share ===

impl Share {
    #[expect(clippy::cast_precision_loss, reason = "counts of a test are far below 2^52")]
    pub(crate) fn of(&self, whole: f64) -> f64 {
        self.0 as f64 / whole
    }
}

// === impl Percentiles ===

impl Percentiles {
    pub(crate) fn of(histogram: &Histogram<u64>) -> Percentiles {
        let at = |quantile| Share(histogram.value_at_quantile(quantile)).of(1_000.0);
        Percentiles {
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: Share(histogram.max()).of(1_000.0),
        }
    }
}

// === impl Report ===

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Report { sent, answered, failed, dropped, unanswered, .. } = self;
        writeln!(
            f,
            "{:?}, {:?}, {} connections, {} streams each, {:.1} s",
            self.scenario, self.pace, self.connections, self.streams, self.seconds
        )?;
        writeln!(f, "sent {sent}, answered {answered}, failed {failed}, dropped {dropped}, unanswered {unanswered}")?;
        writeln!(f, "{:.0} requests/s, {:.0} predictions/s", self.per_second, self.predictions_per_second)?;
        writeln!(f, "{:<22} {:>10} {:>10} {:>10} {:>10} {:>10}", "us", "p50", "p90", "p99", "p99.9", "max")?;
        for (name, percentiles) in [
            ("latency from due", &self.latency_us),
            ("client late by", &self.lag_us),
            ("model, in the server", &self.inference_us),
            ("pipeline, in the server", &self.server_us),
        ] {
            let Percentiles { p50, p90, p99, p999, max } = percentiles;
            writeln!(f, "{name:<22} {p50:>10.1} {p90:>10.1} {p99:>10.1} {p999:>10.1} {max:>10.1}")?;
        }
        match &self.error {
            Some(error) => writeln!(f, "first error: {error}"),
            None => Ok(()),
        }
    }
}
