//! What the prediction log counts, as metrics.

use std::{fmt, sync::Arc};

use ev_outcomes::{Counts, Dropped};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Tells what became of predictions that were to be logged.
#[derive(Debug)]
pub(super) struct Predictions(pub(super) Arc<Counts>);

impl Collector for Predictions {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Predictions(counts) = self;
        let logged = ConstCounter::new(counts.logged());
        let help = "Predictions that were written to the log";
        logged.encode(encoder.encode_descriptor("ev_predictions_logged", help, None, MetricType::Counter)?)?;
        let help = "Predictions that were to be logged and were not";
        let mut family = encoder.encode_descriptor("ev_predictions_dropped", help, None, MetricType::Counter)?;
        for why in Dropped::ALL {
            let labels = [("reason", why.name())];
            ConstCounter::new(counts.dropped(why)).encode(family.encode_family(&labels)?)?;
        }
        for (name, help, unit, value) in [
            ("ev_predictions_files", "Files of logged predictions that are kept", None, counts.files()),
            ("ev_predictions_files_size", "Bytes of these files", Some(&Unit::Bytes), counts.files_bytes()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)?;
        }
        Ok(())
    }
}
