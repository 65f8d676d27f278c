//! What keeping predictions current counts, as metrics.

use std::{fmt, sync::Arc};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::renewal::{Renewal, TrackStats};

/// Tells of the two kinds of predictions that are renewed.
pub(super) struct Renewals(pub(super) Arc<Renewal>);

/// One of the counts of a kind.
type Count = fn(&TrackStats) -> u64;

impl fmt::Debug for Renewals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Renewals")
    }
}

impl Collector for Renewals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let stats = [("thermal", self.0.assessments.stats()), ("battery", self.0.batteries.stats())];
        let counters: [(&str, &str, Count); 2] = [
            ("ev_predictions_renewed", "Predictions of vehicles that send, made anew", |stats| stats.renewed),
            ("ev_predictions_refused", "Times that a vehicle found no room to wait for it", |stats| stats.refused),
        ];
        for (name, help, count) in counters {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for (kind, stats) in &stats {
                ConstCounter::new(count(stats)).encode(family.encode_family(&[("kind", *kind)])?)?;
            }
        }
        let help = "Vehicles that wait for their prediction to be made anew";
        let mut family = encoder.encode_descriptor("ev_predictions_waiting", help, None, MetricType::Gauge)?;
        for (kind, stats) in &stats {
            let waiting = i64::try_from(stats.waiting).unwrap_or(i64::MAX);
            ConstGauge::new(waiting).encode(family.encode_family(&[("kind", *kind)])?)?;
        }
        Ok(())
    }
}
