//! What telemetry and alerts count, as metrics.

use std::fmt;

use ev_alerts::Alerts;
use ev_telemetry::{Ingestor, RejectReason};
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, TypedMetric, counter::ConstCounter, gauge::ConstGauge},
};

/// Writes the metrics of what gateways send, and of what it led to.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, ingestor: &Ingestor, alerts: &Alerts) -> fmt::Result {
    let stats = ingestor.stats();
    for (name, help, count) in [
        ("ev_telemetry_batches_received", "Batches taken in", stats.batches_received),
        ("ev_telemetry_batches_stored", "Batches stored", stats.batches_stored),
        ("ev_telemetry_batches_duplicate", "Batches that were there before", stats.batches_duplicate),
        ("ev_telemetry_readings_stored", "Readings stored", stats.readings_stored),
        ("ev_telemetry_commits", "Commits, each of a group of batches", stats.commits),
        ("ev_telemetry_commits_failed", "Commits that failed; their gateways send again", stats.commits_failed),
        ("ev_telemetry_rejects_not_kept", "Rejects told and counted, and too many to be kept", stats.rejects_not_kept),
    ] {
        one(encoder, name, help, ConstCounter::new(count))?;
    }
    let help = "Readings that were not taken in";
    let mut family = encoder.encode_descriptor("ev_telemetry_readings_rejected", help, None, MetricType::Counter)?;
    for (reason, count) in RejectReason::ALL.into_iter().zip(stats.rejected) {
        let labels = [("reason", reason.as_str())];
        ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
    }
    let help = "Share of the queue of readings in use, 0 to 1";
    one(encoder, "ev_telemetry_saturation", help, ConstGauge::new(ingestor.saturation()))?;
    let counts = alerts.counts();
    let open = i64::try_from(counts.open).unwrap_or(i64::MAX);
    one(encoder, "ev_alerts_open", "Alerts that go on", ConstGauge::new(open))?;
    one(encoder, "ev_alerts_raised", "Alerts raised", ConstCounter::new(counts.raised))?;
    let help = "Alerts that ended because more severe ones needed their place";
    one(encoder, "ev_alerts_displaced", help, ConstCounter::new(counts.displaced))?;
    let help = "Alerts that were not raised because there was no place";
    one(encoder, "ev_alerts_refused", help, ConstCounter::new(counts.refused))
}

pub(super) fn one<M>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, metric: M) -> fmt::Result
where
    M: EncodeMetric + TypedMetric,
{
    metric.encode(encoder.encode_descriptor(name, help, None, M::TYPE)?)
}
