//! Copies of model files that are kept in an object store, as metrics.

use std::{fmt, sync::Arc};

use ev_registry::CacheCounts;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

/// Tells what lies on the local disk, and how often that was enough.
#[derive(Debug)]
pub(super) struct Cache(pub(super) Arc<CacheCounts>);

impl Collector for Cache {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Cache(counts) = self;
        let bytes = ConstGauge::new(i64::try_from(counts.bytes()).unwrap_or(i64::MAX));
        let help = "Bytes of model files that are on the local disk and in the object store";
        let size = Some(&Unit::Bytes);
        bytes.encode(encoder.encode_descriptor("ev_registry_cache_size", help, size, MetricType::Gauge)?)?;
        for (name, help, count) in [
            ("ev_registry_cache_hits", "Files that were on the local disk when they were needed", counts.hits()),
            ("ev_registry_cache_misses", "Files that had to be fetched from the object store", counts.misses()),
            ("ev_registry_cache_evicted", "Files that the local disk gave up to make room", counts.evicted()),
        ] {
            let counter = ConstCounter::new(count);
            counter.encode(encoder.encode_descriptor(name, help, None, MetricType::Counter)?)?;
        }
        Ok(())
    }
}
