//! Uploads of model versions that were cut off, as metrics.

use std::{fmt, sync::Arc};

use ev_registry::{StagedCounts, Swept};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Tells what lies of uploads that have not ended, and what became of others.
#[derive(Debug)]
pub(super) struct Uploads(pub(super) Arc<StagedCounts>);

impl Collector for Uploads {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Uploads(counts) = self;
        for (name, help, unit, value) in [
            ("ev_registry_staged_files", "Files of uploads that have not ended", None, counts.files()),
            ("ev_registry_staged_size", "Bytes that these files shall have", Some(&Unit::Bytes), counts.bytes()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            gauge.encode(encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?)?;
        }
        let help = "Files of uploads that had not ended and were removed";
        let mut family = encoder.encode_descriptor("ev_registry_staged_swept", help, None, MetricType::Counter)?;
        for why in Swept::ALL {
            let labels = [("reason", why.name())];
            ConstCounter::new(counts.swept(why)).encode(family.encode_family(&labels)?)?;
        }
        let resumed = ConstCounter::new(counts.resumed());
        let help = "Uploads that went on with what had come before";
        resumed.encode(encoder.encode_descriptor("ev_registry_uploads_resumed", help, None, MetricType::Counter)?)
    }
}
