//! Prometheus metrics, collected when somebody scrapes: serving threads only count in memory of their own.

use std::{fmt, sync::Arc};

use ev_alerts::Alerts;
use ev_registry::{CacheCounts, StagedCounts};
use ev_telemetry::Ingestor;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::{Registry, Unit},
};

use super::{cache, features, predictions, queues, renewals, rollouts, uploads, vehicles};
use crate::{
    deploy::{Deployment, HISTOGRAM_BUCKETS, Histogram, Routes, Stats, VersionStatus},
    features::VehicleFeatures,
    grpc::MessageMemory,
    renewal::Renewal,
    rollouts::Rollouts,
};

/// Every metric as a scrape names it. `docs/metrics.md` explains them, and a test compares the three.
pub const METRIC_NAMES: &[&str] = &[
    "ev_serving_connections",
    "ev_serving_image_messages_size_bytes",
    "ev_deploy_versions",
    "ev_pipeline_requests",
    "ev_pipeline_rows",
    "ev_pipeline_executions",
    "ev_pipeline_request_duration_seconds",
    "ev_pipeline_inference_duration_seconds",
    "ev_batching_rows_entered",
    "ev_batching_rows_left",
    "ev_batching_queue_rows",
    "ev_batching_queue_size_bytes",
    "ev_batching_rows_refused",
    "ev_batching_rows_dropped",
    "ev_batching_rows_failed",
    "ev_batching_batches",
    "ev_batching_batch_rows",
    "ev_batching_queue_duration_seconds",
    "ev_batching_inference_duration_seconds",
    "ev_batching_instances_replaced",
    "ev_batching_saturation",
    "ev_telemetry_batches_received",
    "ev_telemetry_batches_stored",
    "ev_telemetry_batches_duplicate",
    "ev_telemetry_readings_stored",
    "ev_telemetry_commits",
    "ev_telemetry_commits_failed",
    "ev_telemetry_rejects_not_kept",
    "ev_telemetry_readings_rejected",
    "ev_telemetry_saturation",
    "ev_alerts_open",
    "ev_alerts_raised",
    "ev_alerts_displaced",
    "ev_alerts_refused",
    "ev_predictions_logged",
    "ev_predictions_dropped",
    "ev_predictions_files",
    "ev_predictions_files_size_bytes",
    "ev_predictions_renewed",
    "ev_predictions_refused",
    "ev_predictions_waiting",
    "ev_features_readings",
    "ev_features_readings_replayed",
    "ev_features_vehicles",
    "ev_features_memory_size_bytes",
    "ev_features_vehicles_evicted",
    "ev_features_redis_available",
    "ev_features_redis_behind",
    "ev_features_redis_lost",
    "ev_features_redis_hits",
    "ev_features_redis_fetches",
    "ev_features_redis_failures",
    "ev_features_redis_damaged",
    "ev_features_redis_heard",
    "ev_rollouts_state",
    "ev_rollouts_step",
    "ev_rollouts_percent",
    "ev_rollouts_requests",
    "ev_rollouts_guard_value",
    "ev_rollouts_guard_limit",
    "ev_rollouts_guard_state",
    "ev_rollouts_rows_dropped",
    "ev_rollouts_transitions",
    "ev_rollouts_comparisons_hung",
    "ev_registry_staged_files",
    "ev_registry_staged_size_bytes",
    "ev_registry_staged_swept",
    "ev_registry_uploads_resumed",
    "ev_registry_cache_size_bytes",
    "ev_registry_cache_hits",
    "ev_registry_cache_misses",
    "ev_registry_cache_evicted",
];

/// Renders `/metrics`.
pub(crate) struct Metrics(Registry);

pub(super) type Labels<'a> = [(&'static str, &'a str); 3];

struct Source {
    routes: Arc<Routes>,
    connections: Arc<dyn Fn() -> usize + Send + Sync>,
    memory: Arc<MessageMemory>,
    ingestor: Arc<Ingestor>,
    alerts: Arc<Alerts>,
    features: Arc<VehicleFeatures>,
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

// === impl Metrics ===

impl Metrics {
    pub(crate) fn new(
        routes: Arc<Routes>,
        connections: Arc<dyn Fn() -> usize + Send + Sync>,
        memory: Arc<MessageMemory>,
        ingestor: Arc<Ingestor>,
        alerts: Arc<Alerts>,
        features: Arc<VehicleFeatures>,
    ) -> Metrics {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Source { routes, connections, memory, ingestor, alerts, features }));
        Metrics(registry)
    }

    /// The same, telling of what is kept current.
    pub(crate) fn with_renewal(mut self, renewal: Arc<Renewal>) -> Metrics {
        self.0.register_collector(Box::new(renewals::Renewals(renewal)));
        self
    }

    /// The same, telling of the prediction log.
    pub(crate) fn with_predictions(mut self, counts: Arc<ev_outcomes::Counts>) -> Metrics {
        self.0.register_collector(Box::new(predictions::Predictions(counts)));
        self
    }

    /// The same, telling of rollouts.
    pub(crate) fn with_rollouts(mut self, rollouts: Arc<Rollouts>) -> Metrics {
        self.0.register_collector(Box::new(rollouts::Rollouts(rollouts)));
        self
    }

    /// The same, telling of uploads that were cut off.
    pub(crate) fn with_uploads(mut self, counts: Arc<StagedCounts>) -> Metrics {
        self.0.register_collector(Box::new(uploads::Uploads(counts)));
        self
    }

    /// The same, telling of copies of files in an object store.
    pub(crate) fn with_cache(mut self, counts: Arc<CacheCounts>) -> Metrics {
        self.0.register_collector(Box::new(cache::Cache(counts)));
        self
    }

    /// The OpenMetrics text.
    pub(crate) fn render(&self) -> String {
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.0);
        text
    }
}

impl Collector for Source {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let snapshot = self.routes.load();
        let bytes = "Bytes of requests with pictures that are being received or answered";
        for (name, help, unit, value) in [
            ("ev_serving_connections", "Open gRPC connections", None, (self.connections)()),
            ("ev_serving_image_messages_size", bytes, Some(&Unit::Bytes), self.memory.held()),
        ] {
            let gauge = ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX));
            let metric = encoder.encode_descriptor(name, help, unit, gauge.metric_type())?;
            gauge.encode(metric)?;
        }
        self.versions(&mut encoder)?;
        let loaded: Vec<(Arc<Deployment>, Stats)> = snapshot
            .models
            .values()
            .flat_map(|model| model.deployments.values())
            .map(|deployment| (Arc::clone(deployment), deployment.stats()))
            .collect();
        requests(&mut encoder, &loaded)?;
        counter(&mut encoder, &loaded, "ev_pipeline_rows", "Rows answered", |stats| stats.rows)?;
        counter(&mut encoder, &loaded, "ev_pipeline_executions", "Runs of the model", |stats| stats.executions)?;
        histogram(
            &mut encoder,
            &loaded,
            "ev_pipeline_request_duration",
            "Single-row requests, from decoded request to finished answer",
            |stats| &stats.total_seconds,
        )?;
        histogram(
            &mut encoder,
            &loaded,
            "ev_pipeline_inference_duration",
            "Running the model for single-row requests",
            |stats| &stats.inference_seconds,
        )?;
        queues::encode(&mut encoder, &snapshot)?;
        vehicles::encode(&mut encoder, &self.ingestor, &self.alerts)?;
        features::encode(&mut encoder, &self.features)
    }
}

// === impl Source ===

impl Source {
    fn versions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let snapshot = self.routes.load();
        let mut counts = [("registered", 0i64), ("loading", 0), ("ready", 0), ("failed", 0)];
        for status in snapshot.models.values().flat_map(|model| model.versions.values()) {
            let index = match status {
                VersionStatus::Registered | VersionStatus::LeftOut(_) => 0,
                VersionStatus::Loading => 1,
                VersionStatus::Ready => 2,
                VersionStatus::Failed(_) => 3,
            };
            counts[index].1 += 1;
        }
        let mut family = encoder.encode_descriptor(
            "ev_deploy_versions",
            "Registered model versions by state",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in counts {
            let labels = [("state", state)];
            ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

pub(super) fn labels<'a>(deployment: &'a Deployment, version: &'a str) -> Labels<'a> {
    [("model", deployment.model()), ("version", version), ("backend", &deployment.manifest.model.backend)]
}

fn requests(encoder: &mut DescriptorEncoder<'_>, loaded: &[(Arc<Deployment>, Stats)]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(
        "ev_pipeline_requests",
        "Requests that reached a model",
        None,
        MetricType::Counter,
    )?;
    for (deployment, stats) in loaded {
        let version = deployment.version.to_string();
        for (outcome, count) in [("ok", stats.success.count), ("error", stats.fail.count)] {
            let [model, version, backend] = labels(deployment, &version);
            let labels = [model, version, backend, ("outcome", outcome)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn counter(
    encoder: &mut DescriptorEncoder<'_>,
    loaded: &[(Arc<Deployment>, Stats)],
    name: &str,
    help: &str,
    value: impl Fn(&Stats) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (deployment, stats) in loaded {
        let version = deployment.version.to_string();
        let labels = labels(deployment, &version);
        ConstCounter::new(value(stats)).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

fn histogram(
    encoder: &mut DescriptorEncoder<'_>,
    loaded: &[(Arc<Deployment>, Stats)],
    name: &str,
    help: &str,
    value: impl Fn(&Stats) -> &Histogram,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
    for (deployment, stats) in loaded {
        let version = deployment.version.to_string();
        let labels = labels(deployment, &version);
        encode_histogram(family.encode_family(&labels)?, value(stats))?;
    }
    Ok(())
}

fn encode_histogram(mut encoder: MetricEncoder<'_>, histogram: &Histogram) -> fmt::Result {
    let buckets: Vec<(f64, u64)> = (0..HISTOGRAM_BUCKETS)
        .map(|bucket| (Histogram::upper_bound_seconds(bucket), histogram.buckets[bucket]))
        .collect();
    let count = histogram.buckets.iter().sum();
    encoder.encode_histogram::<[(&str, &str); 0]>(histogram.sum_ns as f64 * 1e-9, count, &buckets, None)
}
