//! Rollouts under way, as metrics.

use std::{fmt, sync::Arc};

use ev_rollouts::GuardState;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::rollouts::{Counted, OfModel, Rollouts as Source};

/// Tells of the rollouts that this process takes part in.
pub(super) struct Rollouts(pub(super) Arc<Source>);

impl fmt::Debug for Rollouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Rollouts")
    }
}

impl Collector for Rollouts {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Rollouts(source) = self;
        let Counted { models, transitions, hung } = source.counted();
        let mut gauges = |name: &str, help: &str, of: &dyn Fn(&OfModel) -> Vec<(Labels, f64)>| {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for (model, rollout) in &models {
                for (own, value) in of(rollout) {
                    let mut labels = vec![("model", model.as_str())];
                    labels.extend(own);
                    ConstGauge::new(value).encode(family.encode_family(&labels.as_slice())?)?;
                }
            }
            Ok::<(), fmt::Error>(())
        };
        gauges("ev_rollouts_state", "Rollouts under way by state, each 1", &|rollout| {
            vec![(vec![("state", rollout.state)], 1.0)]
        })?;
        gauges("ev_rollouts_step", "Step of the canary", &|rollout| vec![(Vec::new(), f64::from(rollout.step))])?;
        gauges("ev_rollouts_percent", "Share of the requests that the candidate gets", &|rollout| {
            vec![(Vec::new(), rollout.percent)]
        })?;
        gauges("ev_rollouts_requests", "Requests of both versions, as all servers saw them", &|rollout| {
            let sides = rollout.sides.iter();
            let of_side = |(side, requests, errors): &(&'static str, u64, u64)| {
                let labels = |outcome| vec![("side", *side), ("outcome", outcome)];
                [(labels("ok"), real(requests.saturating_sub(*errors))), (labels("error"), real(*errors))]
            };
            sides.flat_map(of_side).collect()
        })?;
        gauges("ev_rollouts_guard_value", "What guards measured over all rows", &|rollout| {
            let measured = rollout.guards.iter().filter_map(|(guard, value, _, _)| Some((guard, (*value)?)));
            measured.map(|(guard, value)| (vec![("guard", *guard)], value)).collect()
        })?;
        gauges("ev_rollouts_guard_limit", "What guards allow", &|rollout| {
            rollout.guards.iter().map(|(guard, _, limit, _)| (vec![("guard", *guard)], *limit)).collect()
        })?;
        gauges(
            "ev_rollouts_guard_state",
            "What guards say: 0 waiting, 1 passing, 2 uncertain, 3 failing",
            &|rollout| {
                let state = |state: GuardState| match state {
                    GuardState::Waiting => 0.0,
                    GuardState::Passing => 1.0,
                    GuardState::Uncertain => 2.0,
                    GuardState::Failing => 3.0,
                };
                rollout.guards.iter().map(|(guard, _, _, said)| (vec![("guard", *guard)], state(*said))).collect()
            },
        )?;
        gauges("ev_rollouts_rows_dropped", "Rows that this server did not compare for want of time", &|rollout| {
            vec![(Vec::new(), real(rollout.dropped))]
        })?;
        let help = "Changes of rollouts that this server made, by the phase that followed";
        let mut family = encoder.encode_descriptor("ev_rollouts_transitions", help, None, MetricType::Counter)?;
        for (phase, count) in transitions {
            ConstCounter::new(count).encode(family.encode_family(&[("phase", phase)])?)?;
        }
        let help = "Threads that hang in rows run for comparison";
        let mut family = encoder.encode_descriptor("ev_rollouts_comparisons_hung", help, None, MetricType::Gauge)?;
        for (model, count) in hung {
            let count = ConstGauge::new(i64::try_from(count).unwrap_or(i64::MAX));
            count.encode(family.encode_family(&[("model", model.as_str())])?)?;
        }
        Ok(())
    }
}

/// Labels beside the model.
type Labels = Vec<(&'static str, &'static str)>;

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn real(count: u64) -> f64 {
    count as f64
}
