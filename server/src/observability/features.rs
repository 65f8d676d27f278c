//! What features count, as metrics.

use std::fmt;

use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::vehicles::one;
use crate::features::{FeatureStats, VehicleFeatures};

/// Writes the metrics of features in memory, and of Redis behind them.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, features: &VehicleFeatures) -> fmt::Result {
    let FeatureStats { counts, replayed, memory, redis } = features.stats();
    let help = "Readings by what became of them in features";
    let mut family = encoder.encode_descriptor("ev_features_readings", help, None, MetricType::Counter)?;
    let ev_features::Counts { applied, duplicates, late, future, contradictions, unused } = counts;
    for (outcome, count) in [
        ("applied", applied),
        ("duplicate", duplicates),
        ("late", late),
        ("future", future),
        ("contradiction", contradictions),
        ("unused", unused),
    ] {
        ConstCounter::new(count).encode(family.encode_family(&[("outcome", outcome)])?)?;
    }
    let help = "Stored readings taken in again at the start";
    one(encoder, "ev_features_readings_replayed", help, ConstCounter::new(replayed))?;
    one(encoder, "ev_features_vehicles", "Vehicles with features in memory", gauge(memory.vehicles))?;
    let help = "Bytes of features in memory";
    let size = encoder.encode_descriptor("ev_features_memory_size", help, Some(&Unit::Bytes), MetricType::Gauge)?;
    gauge(memory.bytes).encode(size)?;
    let help = "Vehicles that memory forgot to make room";
    one(encoder, "ev_features_vehicles_evicted", help, ConstCounter::new(memory.evicted))?;

    let help = "Whether Redis answers: 1, or 0 while features are from memory alone";
    let available = encoder.encode_descriptor("ev_features_redis_available", help, None, MetricType::Gauge)?;
    if let Some(redis) = &redis {
        gauge(usize::from(!redis.is_open)).encode(available)?;
    }
    let redis = redis.unwrap_or_default();
    let help = "Vehicles whose newest features Redis does not have yet";
    one(encoder, "ev_features_redis_behind", help, gauge(redis.behind))?;
    for (name, help, count) in [
        ("ev_features_redis_lost", "Vehicles that memory forgot before Redis had them", redis.lost),
        ("ev_features_redis_hits", "Reads that were answered without asking Redis", redis.hits),
        ("ev_features_redis_fetches", "Reads of Redis", redis.fetches),
        ("ev_features_redis_failures", "Reads and writes that Redis did not answer", redis.failures),
        ("ev_features_redis_damaged", "Values in Redis that were no features", redis.damaged),
        ("ev_features_redis_heard", "Changes by other replicas that were heard of", redis.heard),
    ] {
        one(encoder, name, help, ConstCounter::new(count))?;
    }
    Ok(())
}

fn gauge(value: usize) -> ConstGauge<i64> {
    ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX))
}
