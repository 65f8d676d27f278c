//! Plans as the wire has them.

use ev_proto::ev::registry::v1::{RolloutGuards, RolloutPlan, RolloutShadow, RolloutStep, StickyKey as ProtoStickyKey};
use ev_rollouts::{Guards, Plan, ShadowPlan, Step, StickyKey};
use prost_types::Duration as ProtoDuration;
use tonic::Status;

use super::super::{duration, status};

/// A plan with its defaults; the whole default where there is none.
///
/// # Errors
///
/// `INVALID_ARGUMENT` naming a duration or a name that is none. Everything else is checked where the rollout is made.
pub(super) fn of_proto(plan: Option<RolloutPlan>) -> Result<Plan, Status> {
    let Some(plan) = plan else { return Ok(Plan::default()) };
    let sticky_key = match ProtoStickyKey::try_from(plan.sticky_key) {
        Ok(ProtoStickyKey::Unspecified | ProtoStickyKey::Vehicle) => StickyKey::Vehicle,
        Ok(ProtoStickyKey::Call) => StickyKey::Call,
        Ok(ProtoStickyKey::None) => StickyKey::None,
        Err(_) => {
            let description = format!("is {}, expected 0 to 3: vehicle, call or none", plan.sticky_key);
            return Err(status::invalid("plan.sticky_key", "UNKNOWN_VALUE", description));
        }
    };
    let RolloutPlan { shadow, steps, bake, sticky_key: _, compare_percent, cohort_by, guards } = plan;
    let shadow = match shadow {
        None => None,
        Some(RolloutShadow { duration, minimum_pairs }) => {
            Some(ShadowPlan { duration_ms: milliseconds("plan.shadow.duration", duration)?, minimum_pairs })
        }
    };
    let step = |(index, step): (usize, RolloutStep)| {
        let RolloutStep { percent, duration, minimum_requests } = step;
        let duration_ms = milliseconds(&format!("plan.steps[{index}].duration"), duration)?;
        Ok::<_, Status>(Step { percent, duration_ms, minimum_requests })
    };
    Ok(Plan {
        shadow,
        steps: steps.into_iter().enumerate().map(step).collect::<Result<_, _>>()?,
        bake_ms: milliseconds("plan.bake", bake)?,
        sticky_key,
        compare_percent: compare_percent.unwrap_or(Plan::default().compare_percent),
        cohort_by,
        guards: guards_of(guards.unwrap_or_default())?,
    })
}

fn guards_of(guards: RolloutGuards) -> Result<Guards, Status> {
    let RolloutGuards {
        minimum,
        error_rate_increase_max,
        latency_p99_ratio_max,
        disagreement_absolute_max,
        disagreement_relative_max,
        disagreement_class_max,
        disagreement_per_class_max,
        shift_max,
        out_of_distribution_increase_max,
        coverage_min,
        error_ratio_max,
        off,
    } = guards;
    let usual = Guards::default();
    let mut guards = Guards {
        minimum: minimum.unwrap_or(usual.minimum),
        error_rate_increase_max: error_rate_increase_max.or(usual.error_rate_increase_max),
        latency_p99_ratio_max: latency_p99_ratio_max.or(usual.latency_p99_ratio_max),
        disagreement_absolute_max: disagreement_absolute_max.or(usual.disagreement_absolute_max),
        disagreement_relative_max: disagreement_relative_max.or(usual.disagreement_relative_max),
        disagreement_class_max: disagreement_class_max.or(usual.disagreement_class_max),
        disagreement_per_class_max: disagreement_per_class_max.or(usual.disagreement_per_class_max),
        shift_max: shift_max.or(usual.shift_max),
        out_of_distribution_increase_max: out_of_distribution_increase_max.or(usual.out_of_distribution_increase_max),
        coverage_min: coverage_min.or(usual.coverage_min),
        error_ratio_max: error_ratio_max.or(usual.error_ratio_max),
    };
    for name in &off {
        let known = by_name(&mut guards).map(|(known, limit)| {
            if known == name {
                *limit = None;
            }
            known
        });
        if !known.contains(&name.as_str()) {
            let name: String = name.chars().take(64).collect();
            let description = format!("holds `{name}`, expected of: {}", known.join(", "));
            return Err(status::invalid("plan.guards.off", "UNKNOWN_GUARD", description));
        }
    }
    Ok(guards)
}

fn by_name(guards: &mut Guards) -> [(&'static str, &mut Option<f64>); 10] {
    let Guards {
        minimum: _,
        error_rate_increase_max,
        latency_p99_ratio_max,
        disagreement_absolute_max,
        disagreement_relative_max,
        disagreement_class_max,
        disagreement_per_class_max,
        shift_max,
        out_of_distribution_increase_max,
        coverage_min,
        error_ratio_max,
    } = guards;
    [
        ("error_rate_increase_max", error_rate_increase_max),
        ("latency_p99_ratio_max", latency_p99_ratio_max),
        ("disagreement_absolute_max", disagreement_absolute_max),
        ("disagreement_relative_max", disagreement_relative_max),
        ("disagreement_class_max", disagreement_class_max),
        ("disagreement_per_class_max", disagreement_per_class_max),
        ("shift_max", shift_max),
        ("out_of_distribution_increase_max", out_of_distribution_increase_max),
        ("coverage_min", coverage_min),
        ("error_ratio_max", error_ratio_max),
    ]
}

fn milliseconds(field: &str, duration: Option<ProtoDuration>) -> Result<u64, Status> {
    let Some(found) = duration else { return Ok(0) };
    let duration = duration::of_proto(found)
        .ok_or_else(|| status::invalid(field, "OUT_OF_RANGE", "is negative, expected a duration of at least 0"))?;
    Ok(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// A plan as it is, for whoever asks.
pub(super) fn to_proto(plan: &Plan) -> RolloutPlan {
    let Plan { shadow, steps, bake_ms, sticky_key, compare_percent, cohort_by, guards } = plan;
    let sticky_key = match sticky_key {
        StickyKey::Vehicle => ProtoStickyKey::Vehicle,
        StickyKey::Call => ProtoStickyKey::Call,
        StickyKey::None => ProtoStickyKey::None,
    };
    let step = |step: &Step| RolloutStep {
        percent: step.percent,
        duration: Some(duration(step.duration_ms)),
        minimum_requests: step.minimum_requests,
    };
    RolloutPlan {
        shadow: shadow.map(|shadow| RolloutShadow {
            duration: Some(duration(shadow.duration_ms)),
            minimum_pairs: shadow.minimum_pairs,
        }),
        steps: steps.iter().map(step).collect(),
        bake: Some(duration(*bake_ms)),
        sticky_key: sticky_key.into(),
        compare_percent: Some(*compare_percent),
        cohort_by: cohort_by.clone(),
        guards: Some(guards_to_proto(guards)),
    }
}

fn guards_to_proto(guards: &Guards) -> RolloutGuards {
    let mut limits = guards.clone();
    let off = by_name(&mut limits).into_iter().filter(|(_, limit)| limit.is_none());
    let off = off.map(|(name, _)| name.to_owned()).collect();
    RolloutGuards {
        minimum: Some(guards.minimum),
        error_rate_increase_max: guards.error_rate_increase_max,
        latency_p99_ratio_max: guards.latency_p99_ratio_max,
        disagreement_absolute_max: guards.disagreement_absolute_max,
        disagreement_relative_max: guards.disagreement_relative_max,
        disagreement_class_max: guards.disagreement_class_max,
        disagreement_per_class_max: guards.disagreement_per_class_max,
        shift_max: guards.shift_max,
        out_of_distribution_increase_max: guards.out_of_distribution_increase_max,
        coverage_min: guards.coverage_min,
        error_ratio_max: guards.error_ratio_max,
        off,
    }
}

/// Of milliseconds.
pub(super) fn duration(milliseconds: u64) -> ProtoDuration {
    let nanos = i32::try_from(milliseconds % 1_000 * 1_000_000).unwrap_or(0);
    ProtoDuration { seconds: i64::try_from(milliseconds / 1_000).unwrap_or(i64::MAX), nanos }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_the_same_there_and_back() {
        let check = |plan: Plan| assert_eq!(of_proto(Some(to_proto(&plan))).expect("a plan"), plan);
        check(Plan::default());
        check(Plan { shadow: None, sticky_key: StickyKey::Call, cohort_by: "make".to_owned(), ..Plan::default() });
        let guards = Guards { shift_max: None, disagreement_absolute_max: Some(20.0), ..Guards::default() };
        check(Plan { guards, compare_percent: 0.0, shadow: None, ..Plan::default() });
        assert_eq!(of_proto(None).expect("a plan"), Plan::default());
    }

    #[test]
    fn what_is_no_plan_is_named() {
        let check = |plan: RolloutPlan, expected: &str| {
            let error = of_proto(Some(plan)).expect_err("no plan");
            assert!(error.message().contains(expected), "{error:?}");
        };
        let bake = Some(ProtoDuration { seconds: -1, nanos: 0 });
        check(RolloutPlan { bake, ..RolloutPlan::default() }, "`plan.bake` is negative");
        let guards = Some(RolloutGuards { off: vec!["shift".to_owned()], ..RolloutGuards::default() });
        check(RolloutPlan { guards, ..RolloutPlan::default() }, "holds `shift`, expected of: error_rate_increase_max,");
    }
}
