//! What a load test of ingest must keep.

use std::time::Duration;

use super::{IngestPace, IngestReport};
use crate::{Percentiles, report::Share};

/// What a load test of ingest must keep; what is not set is not checked.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct IngestThresholds {
    /// Longest 99th percentile to the acknowledgement as received.
    pub received_p99_max: Option<Duration>,
    /// Longest median to the acknowledgement as durable.
    pub durable_p50_max: Option<Duration>,
    /// Longest 99th percentile to the acknowledgement as durable.
    pub durable_p99_max: Option<Duration>,
    /// Longest 99.9th percentile to the acknowledgement as durable.
    pub durable_p999_max: Option<Duration>,
    /// Largest share of readings that were refused or not acknowledged, 0 to 1.
    pub failed_share_max: f64,
    /// Smallest number of readings that became durable a second.
    pub per_second_min: Option<f64>,
}

// === impl IngestThresholds ===

impl IngestThresholds {
    /// One sentence for each threshold that was not kept.
    #[must_use]
    pub fn broken(&self, report: &IngestReport) -> Vec<String> {
        let mut broken = Vec::new();
        let at = |percentiles: &Percentiles| (percentiles.p50, percentiles.p99, percentiles.p999);
        let (p50, p99, p999) = at(&report.durable_us);
        for (name, found, max) in [
            ("p99 to received", report.received_us.p99, self.received_p99_max),
            ("p50 to durable", p50, self.durable_p50_max),
            ("p99 to durable", p99, self.durable_p99_max),
            ("p99.9 to durable", p999, self.durable_p999_max),
        ] {
            if let Some(max) = max.map(|max| max.as_secs_f64() * 1e6)
                && found > max
            {
                broken.push(format!("{name} is {found:.0} us, expected at most {max:.0} us"));
            }
        }
        let readings = report.batch_readings as u64;
        let sent = report.batches_sent.saturating_mul(readings);
        let failed = report.batches_unacknowledged.saturating_mul(readings).saturating_add(report.rejected_readings);
        let share = Share(failed).of(Share(sent.max(1)).of(1.0));
        if share > self.failed_share_max || sent == 0 {
            let (share, max) = (share * 100.0, self.failed_share_max * 100.0);
            broken.push(format!("{share:.4} % of {sent} readings were refused or lost, expected at most {max:.4} %"));
        }
        if let Some(min) = self.per_second_min
            && report.durable_per_second < min
        {
            let found = report.durable_per_second;
            broken.push(format!("{found:.0} readings/s became durable, expected at least {min:.0}"));
        }
        if let IngestPace::Rate(rate) = report.pace
            && report.sent_per_second < 0.95 * rate
        {
            let sent = report.sent_per_second;
            broken.push(format!("only {sent:.0} of {rate:.0} readings/s were sent: client or credit do not keep up"));
        }
        if report.wrong_ledgers > 0 {
            let vehicles = report.wrong_ledgers;
            broken.push(format!("the gap ledgers of {vehicles} vehicles are not what was left out"));
        }
        if let Some(error) = &report.error {
            broken.push(format!("a gateway failed: {error}"));
        }
        broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Connection;

    fn report() -> IngestReport {
        let percentiles = Percentiles { p50: 100.0, p90: 200.0, p99: 300.0, p999: 400.0, max: 500.0 };
        IngestReport {
            pace: IngestPace::Rate(1_000.0),
            connection: Connection::Good,
            gateways: 1,
            vehicles: 1,
            batch_readings: 10,
            seconds: 10.0,
            batches_sent: 1_000,
            batches_received: 1_000,
            batches_durable: 1_000,
            batches_unacknowledged: 0,
            sent_per_second: 1_000.0,
            received_per_second: 1_000.0,
            durable_per_second: 1_000.0,
            rejected_readings: 0,
            ledgers: 0,
            wrong_ledgers: 0,
            lag_us: percentiles,
            received_us: percentiles,
            durable_us: percentiles,
            error: None,
        }
    }

    #[test]
    fn what_is_broken_is_named() {
        let check = |change: &dyn Fn(&mut IngestReport), thresholds: IngestThresholds, expected: &[&str]| {
            let mut report = report();
            change(&mut report);
            let broken = thresholds.broken(&report);
            let named = broken.iter().zip(expected).all(|(broken, expected)| broken.contains(expected));
            assert!(broken.len() == expected.len() && named, "{broken:?}");
        };
        let default = IngestThresholds::default();
        let us = |us| Some(Duration::from_micros(us));
        check(&|_| {}, IngestThresholds { durable_p99_max: us(300), received_p99_max: us(300), ..default }, &[]);
        check(&|_| {}, IngestThresholds { durable_p99_max: us(299), ..default }, &["p99 to durable is 300 us"]);
        check(&|_| {}, IngestThresholds { received_p99_max: us(299), ..default }, &["p99 to received is 300 us"]);
        check(&|_| {}, IngestThresholds { durable_p50_max: us(99), ..default }, &["p50 to durable is 100 us"]);
        check(&|_| {}, IngestThresholds { per_second_min: Some(1_001.0), ..default }, &["expected at least 1001"]);
        check(&|report| report.rejected_readings = 1, default, &["0.0100 % of 10000 readings were refused or lost"]);
        check(&|report| report.batches_unacknowledged = 1, default, &["0.1000 % of 10000 readings"]);
        check(&|report| report.batches_sent = 0, default, &["0 readings were refused or lost"]);
        check(&|report| report.wrong_ledgers = 2, default, &["the gap ledgers of 2 vehicles"]);
        check(&|report| report.sent_per_second = 900.0, default, &["only 900 of 1000 readings/s"]);
        check(&|report| report.error = Some("gone".to_owned()), default, &["a gateway failed: gone"]);
    }
}
