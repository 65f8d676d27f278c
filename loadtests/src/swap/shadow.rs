//! What does a shadow cost the callers of production?

use std::{fmt, time::Duration};

use ev_client::proto::ev::registry::v1::{RolloutGuards, RolloutPlan, RolloutShadow, RolloutState};
use serde::Serialize;

use super::{
    Bench, SwapError, median,
    probe::Stage,
    refused,
    rollback::{GUARDS, until},
};
use crate::Scenario;

/// What a test of shadows found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowReport {
    /// The model.
    pub model: String,
    /// Requests a second.
    pub rate: f64,
    /// How many times slower the slow shadow was made; 0 where there was none.
    pub slower: usize,
    /// One a turn.
    pub rounds: Vec<ShadowRound>,
}

/// Median latencies of production in one turn, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShadowRound {
    /// Without a rollout.
    pub without_us: f64,
    /// The same again: the run's noise.
    pub without_again_us: f64,
    /// Beside a shadow.
    pub beside_us: f64,
    /// Beside a slow one.
    pub beside_slow_us: Option<f64>,
    /// Rows the shadows had run by the end.
    pub compared: u64,
    /// Requests that failed, were dropped or not answered.
    pub failed: u64,
    /// The first error.
    pub error: Option<String>,
}

/// Loads production in turns: alone, beside a shadow, beside a slow one where the model is a forest, and alone again.
///
/// # Errors
///
/// [`SwapError`]; requests that fail are part of the report.
pub async fn run_shadow(
    bench: &Bench,
    time: Duration,
    slower: usize,
    mut progress: impl FnMut(&ShadowRound),
) -> Result<ShadowReport, SwapError> {
    let stage = Stage::set(bench).await?;
    // Pictures are not kept, so that no shadow runs them.
    let slow = match bench.subject.scenario {
        Scenario::Photo => None,
        _ => Some(bench.subject.register_slower(&stage.client.registry(), slower).await?),
    };
    let rate = stage.rate(&stage.capacity().await?);
    let mut rounds = Vec::new();
    for turn in 0..bench.rounds {
        let mut round = ShadowRound {
            without_us: 0.0,
            without_again_us: 0.0,
            beside_us: 0.0,
            beside_slow_us: None,
            compared: 0,
            failed: 0,
            error: None,
        };
        round.without_us = alone(&stage, rate, time, &mut round).await?;
        // Neither is always the one that comes later.
        let candidates = [Some(stage.versions[1]), slow];
        let order = if turn % 2 == 0 { [0, 1] } else { [1, 0] };
        for index in order {
            let Some(candidate) = candidates[index] else { continue };
            let found = beside(&stage, candidate, rate, time, &mut round).await?;
            if index == 0 { round.beside_us = found } else { round.beside_slow_us = Some(found) }
        }
        round.without_again_us = alone(&stage, rate, time, &mut round).await?;
        progress(&round);
        rounds.push(round);
    }
    let slower = slow.map_or(0, |_| slower);
    Ok(ShadowReport { model: bench.subject.model.clone(), rate, slower, rounds })
}

async fn alone(stage: &Stage<'_>, rate: f64, time: Duration, round: &mut ShadowRound) -> Result<f64, SwapError> {
    let (report, _, _) = stage.load(rate, time).await?;
    round.failed += report.failed + report.dropped + report.unanswered;
    round.error = round.error.take().or(report.error);
    Ok(report.latency_us.p50)
}

async fn beside(
    stage: &Stage<'_>,
    candidate: u32,
    rate: f64,
    time: Duration,
    round: &mut ShadowRound,
) -> Result<f64, SwapError> {
    let rollouts = stage.client.rollouts();
    let duration = Some(prost_types::Duration { seconds: 3_600, nanos: 0 });
    let plan = RolloutPlan {
        shadow: Some(RolloutShadow { duration, minimum_pairs: 1 }),
        guards: Some(RolloutGuards { off: GUARDS.map(str::to_owned).to_vec(), ..RolloutGuards::default() }),
        ..RolloutPlan::default()
    };
    let started = rollouts.start(&stage.bench.subject.model, candidate, Some(plan)).await;
    let id = started.map_err(refused("start a rollout"))?.id;
    until(stage, &id, RolloutState::Shadowing).await?;
    let found = alone(stage, rate, time, round).await?;
    let rollout = rollouts.get(&id).await.map_err(refused("show the rollout"))?;
    round.compared += rollout.candidate.map_or(0, |candidate| candidate.runs);
    rollouts.abort(&id, "the load test has seen enough").await.map_err(refused("abort a rollout"))?;
    Ok(found)
}

// === impl ShadowReport ===

impl ShadowReport {
    /// The noise of the run: nine in ten turns differ by less between two loads without a shadow, as share.
    #[must_use]
    pub fn noise(&self) -> f64 {
        let mut found: Vec<f64> =
            self.rounds.iter().map(|round| (round.without_again_us / round.without_us - 1.0).abs()).collect();
        found.sort_unstable_by(f64::total_cmp);
        found.get((found.len() * 9).div_ceil(10).saturating_sub(1)).copied().unwrap_or(f64::NAN)
    }

    /// How much longer the median request took beside a shadow, as share: the middle of the turns.
    #[must_use]
    pub fn cost(&self) -> f64 {
        self.cost_of(|round| Some(round.beside_us))
    }

    /// The same beside a slow one; NaN where there was none.
    #[must_use]
    pub fn slow_cost(&self) -> f64 {
        self.cost_of(|round| round.beside_slow_us)
    }

    fn cost_of(&self, beside: impl Fn(&ShadowRound) -> Option<f64>) -> f64 {
        let cost = |round: &ShadowRound| {
            let without = (round.without_us + round.without_again_us) / 2.0;
            beside(round).map(|beside| beside / without - 1.0)
        };
        median(self.rounds.iter().filter_map(cost).collect())
    }

    /// One sentence for each promise that was not kept.
    #[must_use]
    pub fn broken(&self) -> Vec<String> {
        let mut broken = Vec::new();
        let noise = self.noise();
        let slow = (self.slower > 0).then(|| ("a slow shadow", self.slow_cost()));
        for (name, cost) in [("a shadow", self.cost())].into_iter().chain(slow) {
            if cost.is_nan() || cost > noise {
                let (cost, noise) = (cost * 100.0, noise * 100.0);
                broken.push(format!(
                    "{name} costs {cost:.1} % of the median latency, expected within the noise, {noise:.1} %"
                ));
            }
        }
        let failed: u64 = self.rounds.iter().map(|round| round.failed).sum();
        if failed > 0 {
            let error = self.rounds.iter().find_map(|round| round.error.as_deref()).unwrap_or("none was told");
            broken.push(format!("{failed} requests failed, expected none: {error}"));
        }
        broken
    }
}

impl fmt::Display for ShadowRound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ShadowRound { without_us, without_again_us, beside_us, compared, failed, .. } = self;
        write!(f, "p50 without {without_us:.1} us, again {without_again_us:.1} us, beside a shadow {beside_us:.1} us")?;
        if let Some(slow) = self.beside_slow_us {
            write!(f, ", a slow one {slow:.1} us")?;
        }
        write!(f, "; {compared} rows compared, failed {failed}")
    }
}

impl fmt::Display for ShadowReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (model, rate, count) = (&self.model, self.rate, self.rounds.len());
        write!(
            f,
            "{model}: {count} turns at {rate:.0} requests/s: a shadow costs {:+.2} % of the median",
            self.cost() * 100.0
        )?;
        if self.slower > 0 {
            write!(f, ", one {} times slower {:+.2} %", self.slower, self.slow_cost() * 100.0)?;
        }
        writeln!(f, "; the run's noise is {:.2} %", self.noise() * 100.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(rounds: &[[f64; 4]]) -> ShadowReport {
        let round = |[without_us, without_again_us, beside_us, slow]: &[f64; 4]| ShadowRound {
            without_us: *without_us,
            without_again_us: *without_again_us,
            beside_us: *beside_us,
            beside_slow_us: Some(*slow),
            compared: 1,
            failed: 0,
            error: None,
        };
        ShadowReport { model: "m".to_owned(), rate: 1.0, slower: 10, rounds: rounds.iter().map(round).collect() }
    }

    #[test]
    fn a_cost_within_the_noise_is_none() {
        let check = |rounds: &[[f64; 4]], expected: &[&str]| {
            let broken = report(rounds).broken();
            let is_as_expected = broken.len() == expected.len()
                && broken.iter().zip(expected).all(|(broken, expected)| broken.contains(expected));
            assert!(is_as_expected, "{broken:?}, expected {expected:?}");
        };
        check(&[[100.0, 104.0, 102.0, 103.0]], &[]);
        check(&[[100.0, 104.0, 112.0, 103.0]], &["a shadow costs 9.8 %"]);
        check(&[[100.0, 104.0, 101.0, 120.0]], &["a slow shadow costs 17.6 %"]);
        check(&[], &["a shadow costs NaN", "a slow shadow costs NaN"]);
    }
}
