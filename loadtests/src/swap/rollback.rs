//! How soon is a bad version gone, under load?

use std::{
    fmt,
    time::{Duration, Instant},
};

use ev_client::proto::ev::registry::v1::{Rollout, RolloutGuards, RolloutPlan, RolloutState, RolloutStep};
use serde::Serialize;

use super::{
    Bench, SwapError, median,
    probe::{Stage, WARM_UP},
    refused,
};

/// The load goes on for so long before the call and after it.
const AROUND: Duration = Duration::from_secs(2);
/// Longest wait for a rollout to get where it should.
const PATIENCE: Duration = Duration::from_secs(60);
/// What nobody is to be stopped by while something else is measured.
pub(super) const GUARDS: [&str; 10] = [
    "error_rate_increase_max",
    "latency_p99_ratio_max",
    "disagreement_absolute_max",
    "disagreement_relative_max",
    "disagreement_class_max",
    "disagreement_per_class_max",
    "shift_max",
    "out_of_distribution_increase_max",
    "coverage_min",
    "error_ratio_max",
];

/// What a test of rollbacks found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RollbackReport {
    /// The model.
    pub model: String,
    /// Requests a second.
    pub rate: f64,
    /// One a rollback.
    pub rounds: Vec<RollbackRound>,
}

/// One rollback.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RollbackRound {
    /// Whether the bad version was in production; otherwise it had half of the requests.
    pub promoted: bool,
    /// From the call to the last answer of the bad version, as the caller got it.
    pub last_bad_ms: f64,
    /// From the call to its answer.
    pub call_ms: f64,
    /// Answers of the bad version before the call.
    pub bad_before: u64,
    /// Requests that failed, were dropped or not answered.
    pub failed: u64,
    /// The first error.
    pub error: Option<String>,
}

/// Rolls a version back under load, in turns from half of the requests and from production.
///
/// # Errors
///
/// [`SwapError`]; requests that fail are part of the report.
pub async fn run_rollbacks(
    bench: &Bench,
    mut progress: impl FnMut(&RollbackRound),
) -> Result<RollbackReport, SwapError> {
    let stage = Stage::set(bench).await?;
    let rate = stage.rate(&stage.capacity().await?);
    let mut rounds = Vec::new();
    for turn in 0..bench.rounds {
        let round = rolled_back(&stage, rate, turn % 2 == 1).await?;
        progress(&round);
        rounds.push(round);
    }
    Ok(RollbackReport { model: bench.subject.model.clone(), rate, rounds })
}

async fn rolled_back(stage: &Stage<'_>, rate: f64, promoted: bool) -> Result<RollbackRound, SwapError> {
    let (rollouts, [_, bad]) = (stage.client.rollouts(), stage.versions);
    let hour = prost_types::Duration { seconds: 3_600, nanos: 0 };
    let plan = RolloutPlan {
        steps: vec![RolloutStep { percent: 50.0, duration: Some(hour), minimum_requests: 1 }],
        guards: Some(RolloutGuards { off: GUARDS.map(str::to_owned).to_vec(), ..RolloutGuards::default() }),
        ..RolloutPlan::default()
    };
    let started = rollouts.start(&stage.bench.subject.model, bad, Some(plan)).await;
    let id = started.map_err(refused("start a rollout"))?.id;
    until(stage, &id, RolloutState::Canary).await?;
    if promoted {
        rollouts.promote(&id, "the load test says so").await.map_err(refused("promote"))?;
        until(stage, &id, RolloutState::Promoted).await?;
    }
    let call = async {
        tokio::time::sleep(WARM_UP + AROUND).await;
        let called = Instant::now();
        let back = rollouts.rollback(&id, "the load test says so").await.map_err(refused("roll back"));
        back.map(|_| (called, called.elapsed()))
    };
    let (loaded, back) = tokio::join!(stage.load(rate, AROUND * 2), call);
    let ((report, samples, _), (called, call)) = (loaded?, back?);
    let of_bad = || samples.iter().filter(|sample| sample.version == bad);
    let last = of_bad().map(|sample| sample.answered()).max();
    Ok(RollbackRound {
        promoted,
        last_bad_ms: last.map_or(f64::NAN, |last| last.saturating_duration_since(called).as_secs_f64() * 1e3),
        call_ms: call.as_secs_f64() * 1e3,
        bad_before: of_bad().filter(|sample| sample.answered() < called).count() as u64,
        failed: report.failed + report.dropped + report.unanswered,
        error: report.error,
    })
}

/// Waits until a rollout is in a state.
pub(super) async fn until(stage: &Stage<'_>, id: &str, state: RolloutState) -> Result<Rollout, SwapError> {
    let began = Instant::now();
    loop {
        let rollout = stage.client.rollouts().get(id).await.map_err(refused("show the rollout"))?;
        if rollout.state() == state {
            return Ok(rollout);
        }
        let is_over = matches!(rollout.state(), RolloutState::Aborted | RolloutState::RolledBack);
        if is_over || began.elapsed() > PATIENCE {
            let state = format!("{:?}", rollout.state());
            return Err(SwapError::Rollout { state, waited: began.elapsed(), reason: rollout.reason });
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

// === impl RollbackReport ===

impl RollbackReport {
    /// One sentence for each promise that was not kept.
    #[must_use]
    pub fn broken(&self, last_max: Duration) -> Vec<String> {
        let mut broken = Vec::new();
        for (round, number) in self.rounds.iter().zip(1..) {
            let max = last_max.as_secs_f64() * 1e3;
            let last = round.last_bad_ms;
            if last.is_nan() || last >= max {
                broken.push(format!("rollback {number}: the last bad answer came {last:.0} ms after the call, expected below {max:.0} ms"));
            }
            if round.bad_before == 0 {
                broken.push(format!("rollback {number}: the bad version had answered nothing before"));
            }
            if round.failed > 0 {
                let error = round.error.as_deref().unwrap_or("none was told");
                broken.push(format!("rollback {number}: {} requests failed, expected none: {error}", round.failed));
            }
        }
        broken
    }
}

impl fmt::Display for RollbackRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from = if self.promoted { "production" } else { "half of the requests" };
        let RollbackRound { last_bad_ms, call_ms, bad_before, failed, .. } = self;
        write!(
            f,
            "from {from:<20}: last answer after {last_bad_ms:>7.1} ms, call {call_ms:>7.1} ms, {bad_before} bad answers before, failed {failed}"
        )
    }
}

impl fmt::Display for RollbackReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let longest = self.rounds.iter().map(|round| round.last_bad_ms).fold(0.0, f64::max);
        let middle = median(self.rounds.iter().map(|round| round.last_bad_ms).collect());
        let failed: u64 = self.rounds.iter().map(|round| round.failed).sum();
        let (model, rate, count) = (&self.model, self.rate, self.rounds.len());
        writeln!(
            f,
            "{model}: {count} rollbacks at {rate:.0} requests/s: last bad answer {middle:.1} ms after the call, at most {longest:.1} ms; {failed} requests failed"
        )
    }
}
