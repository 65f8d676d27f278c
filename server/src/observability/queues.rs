//! What the queues of deployments count, as metrics.

use std::fmt;

use ev_batching::Stats;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};

use super::metrics::labels;
use crate::deploy::{Deployment, Snapshot};

/// Largest batches that have a bucket of their own: each is twice as large as the one before.
const BATCH_BUCKETS: u32 = 12;

/// A queued deployment and its counts.
type Queued<'a> = (&'a Deployment, Stats);

/// Counts by reason.
type Reasons = Vec<(&'static str, u64)>;

/// Writes the metrics of all queued deployments.
pub(super) fn encode(encoder: &mut DescriptorEncoder<'_>, snapshot: &Snapshot) -> fmt::Result {
    let deployments = snapshot.models.values().flat_map(|model| model.deployments.values());
    let queued: Vec<Queued<'_>> =
        deployments.filter_map(|deployment| Some((&**deployment, deployment.queue()?.stats()))).collect();
    let queued = &queued[..];
    count(encoder, queued, "ev_batching_rows_entered", "Rows admitted to the queue", |stats| stats.rows_entered)?;
    count(encoder, queued, "ev_batching_rows_left", "Rows that left the queue", |stats| stats.rows_left)?;
    gauge(encoder, queued, "ev_batching_queue_rows", "Rows waiting", |stats| stats.queue_rows as f64)?;
    let bytes = |stats: &Stats| stats.queue_bytes as f64;
    gauge(encoder, queued, "ev_batching_queue_size_bytes", "Bytes waiting", bytes)?;
    reasons(encoder, queued, "ev_batching_rows_refused", "Rows that were not admitted", refused)?;
    reasons(encoder, queued, "ev_batching_rows_dropped", "Rows that were admitted and not run", dropped)?;
    reasons(encoder, queued, "ev_batching_rows_failed", "Rows that failed in preparing or in a run", failed)?;
    reasons(encoder, queued, "ev_batching_batches", "Batches by why they were cut", cuts)?;
    sizes(encoder, queued)?;
    let seconds = |time: std::time::Duration| time.as_secs_f64();
    let (name, help) = ("ev_batching_queue_duration", "Time rows waited for their batch, in sum");
    time(encoder, queued, name, help, |stats| seconds(stats.queue_total))?;
    let (name, help) = ("ev_batching_inference_duration", "Time worker threads spent in the model, in sum");
    time(encoder, queued, name, help, |stats| seconds(stats.inference_total))?;
    let (name, help) = ("ev_batching_instances_replaced", "Instances replaced after a panic");
    count(encoder, queued, name, help, |stats| stats.instances_replaced)?;
    let help = "The larger of the share of busy instances and the share of the queue in use, 0 to 1";
    gauge(encoder, queued, "ev_batching_saturation", help, |stats| stats.saturation)
}

fn refused(stats: &Stats) -> Reasons {
    let ev_batching::Refusals { queue_full, too_large, deadline, shutting_down } = stats.refused;
    vec![("queue_full", queue_full), ("too_large", too_large), ("deadline", deadline), ("shutting_down", shutting_down)]
}

fn dropped(stats: &Stats) -> Reasons {
    let ev_batching::Drops { expired, late, displaced, cancelled, shutting_down } = stats.dropped;
    vec![
        ("expired", expired),
        ("late", late),
        ("displaced", displaced),
        ("cancelled", cancelled),
        ("shutting_down", shutting_down),
    ]
}

fn failed(stats: &Stats) -> Reasons {
    let ev_batching::Failures { prepare, run, panicked } = stats.failed;
    vec![("prepare", prepare), ("run", run), ("panicked", panicked)]
}

fn cuts(stats: &Stats) -> Reasons {
    let ev_batching::Cuts { full, preferred, delay, deadline, idle } = stats.cuts;
    vec![("full", full), ("preferred", preferred), ("delay", delay), ("deadline", deadline), ("idle", idle)]
}

fn each(
    family: &mut MetricEncoder<'_>,
    queued: &[Queued<'_>],
    mut write: impl FnMut(MetricEncoder<'_>, &Stats) -> fmt::Result,
) -> fmt::Result {
    for (deployment, stats) in queued {
        let version = deployment.version.to_string();
        write(family.encode_family(&labels(deployment, &version))?, stats)?;
    }
    Ok(())
}

fn count(
    encoder: &mut DescriptorEncoder<'_>,
    queued: &[Queued<'_>],
    name: &str,
    help: &str,
    value: impl Fn(&Stats) -> u64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    each(&mut family, queued, |encoder, stats| ConstCounter::new(value(stats)).encode(encoder))
}

fn time(
    encoder: &mut DescriptorEncoder<'_>,
    queued: &[Queued<'_>],
    name: &str,
    help: &str,
    value: impl Fn(&Stats) -> f64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
    each(&mut family, queued, |encoder, stats| ConstCounter::new(value(stats)).encode(encoder))
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    queued: &[Queued<'_>],
    name: &str,
    help: &str,
    value: impl Fn(&Stats) -> f64,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
    each(&mut family, queued, |encoder, stats| ConstGauge::new(value(stats)).encode(encoder))
}

fn reasons(
    encoder: &mut DescriptorEncoder<'_>,
    queued: &[Queued<'_>],
    name: &str,
    help: &str,
    value: impl Fn(&Stats) -> Reasons,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
    for (deployment, stats) in queued {
        let version = deployment.version.to_string();
        for (reason, count) in value(stats) {
            let [model, version, backend] = labels(deployment, &version);
            let labels = [model, version, backend, ("reason", reason)];
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

/// Rows of batches, in buckets of powers of two.
fn sizes(encoder: &mut DescriptorEncoder<'_>, queued: &[Queued<'_>]) -> fmt::Result {
    let help = "Rows of the batches that were run";
    let mut family = encoder.encode_descriptor("ev_batching_batch_rows", help, None, MetricType::Histogram)?;
    each(&mut family, queued, |mut encoder, stats| {
        let bound = |bucket: u32| if bucket == BATCH_BUCKETS { f64::INFINITY } else { f64::from(1_u32 << bucket) };
        let mut buckets: Vec<(f64, u64)> = (0..=BATCH_BUCKETS).map(|bucket| (bound(bucket), 0)).collect();
        for (rows, size) in &stats.sizes {
            let bucket = buckets.iter_mut().find(|(bound, _)| *rows as f64 <= *bound);
            if let Some((_, count)) = bucket {
                *count += size.batches;
            }
        }
        encoder.encode_histogram::<[(&str, &str); 0]>(stats.batch_rows as f64, stats.batches, &buckets, None)
    })
}
