//! Rollouts as the wire has them.

use ev_proto::ev::registry::v1::{
    Rollout as ProtoRollout, RolloutEvent, RolloutGuard, RolloutGuardState, RolloutReplica, RolloutSide, RolloutState,
};
use ev_rollouts::{ALL, Event, GuardState, GuardStatus, Phase, Rollout, Side, judge};
use prost_types::Timestamp;

use super::plan;
use crate::rollouts::{Status, Stored};

/// A rollout without what was seen of it.
pub(super) fn rollout(stored: &Stored, now_ms: i64) -> ProtoRollout {
    let Stored { rollout, revision } = stored;
    let Rollout {
        id,
        model,
        baseline,
        candidate,
        plan,
        phase,
        phase_since_ms,
        epoch: _,
        paused_since_ms,
        created_at_ms,
        history,
    } = rollout;
    let (state, paused_in) = match paused_since_ms {
        Some(_) => (RolloutState::Paused, state(*phase)),
        None => (state(*phase), RolloutState::Unspecified),
    };
    ProtoRollout {
        id: id.clone(),
        model: model.clone(),
        baseline_version: *baseline,
        candidate_version: *candidate,
        plan: Some(plan::to_proto(plan)),
        state: state.into(),
        paused_in: paused_in.into(),
        step: step(*phase),
        percent: rollout.share().as_percent(),
        created_at: Some(timestamp(*created_at_ms)),
        state_since: Some(timestamp(*phase_since_ms)),
        time_left: rollout.time_left_ms(now_ms).map(plan::duration),
        reason: history.last().map(|event| event.reason.clone()).unwrap_or_default(),
        events: history.iter().map(event).collect(),
        revision: *revision,
        ..ProtoRollout::default()
    }
}

/// A rollout with what was seen of it.
pub(super) fn status(status: &Status) -> ProtoRollout {
    let Status { stored, seen, replicas, now_ms } = status;
    let (had, needed) = stored.rollout.progress(seen);
    let statuses = judge(&stored.rollout.plan.guards, seen);
    let replica =
        |(name, at_ms): &(String, i64)| RolloutReplica { name: name.clone(), updated_at: Some(timestamp(*at_ms)) };
    ProtoRollout {
        had,
        needed,
        baseline: Some(side(&seen.baseline)),
        candidate: Some(side(&seen.candidate)),
        pairs: seen.pair_count(),
        dropped: seen.dropped,
        hung_comparisons: seen.hung,
        guards: statuses.iter().map(guard).collect(),
        replicas: replicas.iter().map(replica).collect(),
        ..rollout(stored, *now_ms)
    }
}

/// Whether nothing will change any more.
pub(super) fn is_over(rollout: &ProtoRollout) -> bool {
    matches!(rollout.state(), RolloutState::Promoted | RolloutState::Aborted | RolloutState::RolledBack)
}

fn state(phase: Phase) -> RolloutState {
    match phase {
        Phase::Pending => RolloutState::Pending,
        Phase::Shadowing => RolloutState::Shadowing,
        Phase::Canary(_) => RolloutState::Canary,
        Phase::Baking => RolloutState::Baking,
        Phase::Promoted => RolloutState::Promoted,
        Phase::Aborted => RolloutState::Aborted,
        Phase::RolledBack => RolloutState::RolledBack,
    }
}

fn step(phase: Phase) -> u32 {
    match phase {
        Phase::Canary(step) => step.saturating_add(1),
        _ => 0,
    }
}

fn event(event: &Event) -> RolloutEvent {
    let Event { at_ms, phase, paused, reason, by } = event;
    let state = if *paused { RolloutState::Paused } else { state(*phase) };
    RolloutEvent {
        at: Some(timestamp(*at_ms)),
        state: state.into(),
        step: step(*phase),
        reason: reason.clone(),
        by: by.clone(),
    }
}

fn side(side: &Side) -> RolloutSide {
    let Side { requests, errors, runs, run_errors, latency_seconds, outputs, truths: _ } = side;
    let rank = latency_seconds.count().saturating_mul(99).div_ceil(100);
    let outputs = outputs.get(ALL);
    RolloutSide {
        requests: *requests,
        errors: *errors,
        runs: *runs,
        run_errors: *run_errors,
        latency_p99_seconds: latency_seconds.at_rank(rank).unwrap_or(0.0),
        answers: outputs.map_or(0, |outputs| outputs.count),
        out_of_distribution: outputs.map_or(0, |outputs| outputs.out_of_distribution),
    }
}

fn guard(status: &GuardStatus) -> RolloutGuard {
    let GuardStatus { name, cohort, class, value, limit, count, needed, state } = status;
    let state = match state {
        GuardState::Waiting => RolloutGuardState::Waiting,
        GuardState::Passing => RolloutGuardState::Passing,
        GuardState::Uncertain => RolloutGuardState::Uncertain,
        GuardState::Failing => RolloutGuardState::Failing,
    };
    RolloutGuard {
        name: name.name().to_owned(),
        cohort: cohort.clone(),
        class: class.clone(),
        value: *value,
        limit: *limit,
        count: *count,
        needed: *needed,
        state: state.into(),
    }
}

fn timestamp(at_ms: i64) -> Timestamp {
    let nanos = i32::try_from(at_ms.rem_euclid(1_000) * 1_000_000).unwrap_or(0);
    Timestamp { seconds: at_ms.div_euclid(1_000), nanos }
}
