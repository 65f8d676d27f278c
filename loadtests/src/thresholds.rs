//! What a load test must keep.

use std::time::Duration;

use crate::{Pace, Report, report::Share};

/// What a load test must keep; what is not set is not checked.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Longest median latency.
    pub p50_max: Option<Duration>,
    /// Longest 99th percentile.
    pub p99_max: Option<Duration>,
    /// Longest 99.9th percentile.
    pub p999_max: Option<Duration>,
    /// Largest share of requests that failed, were dropped or not answered, 0 to 1.
    pub failed_share_max: f64,
    /// Smallest number of requests answered a second.
    pub per_second_min: Option<f64>,
}

// === impl Thresholds ===

impl Thresholds {
    /// One sentence for each threshold that was not kept.
    #[must_use]
    pub fn broken(&self, report: &Report) -> Vec<String> {
        let mut broken = Vec::new();
        for (name, found, max) in [
            ("p50", report.latency_us.p50, self.p50_max),
            ("p99", report.latency_us.p99, self.p99_max),
            ("p99.9", report.latency_us.p999, self.p999_max),
        ] {
            if let Some(max) = max.map(|max| max.as_secs_f64() * 1e6)
                && found > max
            {
                broken.push(format!("{name} is {found:.0} us, expected at most {max:.0} us"));
            }
        }
        let due = report.sent + report.dropped;
        let share = Share(report.failed + report.dropped + report.unanswered).of(Share(due.max(1)).of(1.0));
        if share > self.failed_share_max || due == 0 {
            let max = self.failed_share_max;
            broken.push(format!(
                "{:.4} % of {due} requests failed, expected at most {:.4} %",
                share * 100.0,
                max * 100.0
            ));
        }
        if let Some(min) = self.per_second_min
            && report.per_second < min
        {
            broken.push(format!("{:.0} requests/s were answered, expected at least {min:.0}", report.per_second));
        }
        if let Pace::Rate(rate) = report.pace
            && report.sent_per_second < 0.95 * rate
        {
            let sent = report.sent_per_second;
            broken.push(format!(
                "only {sent:.0} of {rate:.0} requests/s were sent: the client is too slow for this rate"
            ));
        }
        broken
    }
}

impl Default for Thresholds {
    fn default() -> Thresholds {
        Thresholds { p50_max: None, p99_max: None, p999_max: None, failed_share_max: 0.0, per_second_min: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Percentiles, Scenario};

    fn report() -> Report {
        let percentiles = Percentiles { p50: 100.0, p90: 200.0, p99: 300.0, p999: 400.0, max: 500.0 };
        Report {
            scenario: Scenario::Unary,
            pace: Pace::Rate(100.0),
            connections: 1,
            streams: 1,
            seconds: 10.0,
            sent: 1_000,
            answered: 1_000,
            failed: 0,
            dropped: 0,
            unanswered: 0,
            sent_per_second: 100.0,
            per_second: 100.0,
            predictions_per_second: 100.0,
            latency_us: percentiles,
            lag_us: percentiles,
            inference_us: percentiles,
            server_us: percentiles,
            error: None,
        }
    }

    #[test]
    fn what_is_kept_is_not_mentioned() {
        let thresholds = Thresholds { p99_max: Some(Duration::from_micros(300)), ..Thresholds::default() };
        assert_eq!(thresholds.broken(&report()), [""; 0]);
    }

    #[test]
    fn what_is_broken_is_named() {
        let check = |change: &dyn Fn(&mut Report), thresholds: Thresholds, expected: &str| {
            let mut report = report();
            change(&mut report);
            let broken = thresholds.broken(&report);
            assert!(broken.len() == 1 && broken[0].contains(expected), "{broken:?}");
        };
        let default = Thresholds::default();
        let p99 = Thresholds { p99_max: Some(Duration::from_micros(299)), ..default };
        check(&|_| {}, p99, "p99 is 300 us, expected at most 299 us");
        check(&|_| {}, Thresholds { per_second_min: Some(101.0), ..default }, "expected at least 101");
        check(&|report| report.failed = 1, default, "0.1000 % of 1000 requests failed");
        check(&|report| report.unanswered = 1, default, "0.1000 % of 1000 requests failed");
        check(&|report| (report.sent, report.dropped) = (999, 1), default, "0.1000 % of 1000 requests failed");
        check(&|report| report.sent_per_second = 90.0, default, "the client is too slow");
    }
}
