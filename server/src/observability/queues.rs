//! What the queues of deployments count, as metrics.

use std::fmt;

use ev_batching::Stats;
use prometheus_client::{
    encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::ConstCounter, gauge::ConstGauge},
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
    let family = ("ev_batching_rows_entered", "Rows admitted to the queue", None);
    one(encoder, queued, family, |stats| ConstCounter::new(stats.rows_entered))?;
    let family = ("ev_batching_rows_left", "Rows that left the queue", None);
    one(encoder, queued, family, |stats| ConstCounter::new(stats.rows_left))?;
    let family = ("ev_batching_queue_rows", "Rows waiting", None);
    one(encoder, queued, family, |stats| ConstGauge::new(stats.queue_rows as f64))?;
    let family = ("ev_batching_queue_size_bytes", "Bytes waiting", None);
    one(encoder, queued, family, |stats| ConstGauge::new(stats.queue_bytes as f64))?;
    reasons(encoder, queued, "ev_batching_rows_refused", "Rows that were not admitted", refused)?;
    reasons(encoder, queued, "ev_batching_rows_dropped", "Rows that were admitted and not run", dropped)?;
    reasons(encoder, queued, "ev_batching_rows_failed", "Rows that failed in preparing or in a run", failed)?;
    reasons(encoder, queued, "ev_batching_batches", "Batches by why they were cut", cuts)?;
    sizes(encoder, queued)?;
    let help = "Time rows waited for their batch, in sum";
    let family = ("ev_batching_queue_duration", help, Some(&Unit::Seconds));
    one(encoder, queued, family, |stats| ConstCounter::new(stats.queue_total.as_secs_f64()))?;
    let help = "Time worker threads spent in the model, in sum";
    let family = ("ev_batching_inference_duration", help, Some(&Unit::Seconds));
    one(encoder, queued, family, |stats| ConstCounter::new(stats.inference_total.as_secs_f64()))?;
    let family = ("ev_batching_instances_replaced", "Instances replaced after a panic", None);
    one(encoder, queued, family, |stats| ConstCounter::new(stats.instances_replaced))?;
    let help = "The larger of the share of busy instances and the share of the queue in use, 0 to 1";
    one(encoder, queued, ("ev_batching_saturation", help, None), |stats| ConstGauge::new(stats.saturation))
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

/// One value a deployment; what `value` makes decides the kind.
fn one<M: EncodeMetric + TypedMetric>(
    encoder: &mut DescriptorEncoder<'_>,
    queued: &[Queued<'_>],
    (name, help, unit): (&str, &str, Option<&Unit>),
    value: impl Fn(&Stats) -> M,
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, M::TYPE)?;
    each(&mut family, queued, |encoder, stats| value(stats).encode(encoder))
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
