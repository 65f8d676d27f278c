//! `evctl rollout start`.

use std::{str::FromStr, time::Duration};

use clap::{Args, ValueEnum};
use ev_client::{
    Client,
    proto::ev::registry::v1::{RolloutGuards, RolloutPlan, RolloutShadow, RolloutStep, StickyKey},
};

use super::text;
use crate::{exit::Exit, failure::Failure, json::Json, output::Output};

/// Rows and requests that a phase needs, unless it says otherwise.
const MINIMUM: u64 = 1_000;

/// Start to bring a version to production.
#[derive(Debug, Args)]
#[command(after_help = "\
Without --shadow, --step and --bake: 10 minutes in shadow, 5, 25 and 50 % for 10 minutes each, 10
minutes with all requests. With any of them, only what is named. A phase ends when its time is over,
it has had its requests (1000, or what stands behind a second colon), and all guards pass.

Examples:
  evctl rollout start ev-range 4
  evctl rollout start ev-range 4 --shadow 30m --step 1:1h:5000 --step 10:1h --step 50:1h --bake 1d
  evctl rollout start ev-range 4 --shadow 1m:200                           straight from shadow to production
  evctl rollout start ev-range 4 --disagreement-max 0.02 --cohort-by make  must hardly differ, for no make
  evctl rollout start ev-range 4 --guard-off shift_max")]
pub(crate) struct StartCommand {
    /// Model name.
    model: String,
    /// The version that shall be production.
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    version: u32,
    /// Time in shadow, and rows that must have been compared.
    #[arg(long, value_name = "TIME[:ROWS]")]
    shadow: Option<Phase>,
    /// Share of the requests in percent, for how long, and requests it must have had; again for each step.
    #[arg(long = "step", value_name = "PERCENT:TIME[:REQUESTS]")]
    steps: Vec<Step>,
    /// Time with all requests before it is production.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    bake: Option<Duration>,
    /// What keeps a caller on one side.
    #[arg(long, value_enum, value_name = "KEY", default_value_t)]
    sticky_key: Sticky,
    /// Share of the rows that both versions run, in percent.
    #[arg(long, value_name = "PERCENT")]
    compare: Option<f64>,
    /// A text input whose values are judged one by one.
    #[arg(long, value_name = "INPUT", default_value = "", hide_default_value = true)]
    cohort_by: String,
    /// Requests, pairs or outcomes from which on a guard judges.
    #[arg(long, value_name = "N")]
    guard_minimum: Option<u64>,
    /// Most that the share of failed requests may be above production's, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    error_increase_max: Option<f64>,
    /// Most that the 99th percentile of latency may be of production's.
    #[arg(long, value_name = "RATIO")]
    latency_ratio_max: Option<f64>,
    /// Most that answers may differ from production's on average, as a share, or of classes how often, 0 to 1.
    #[arg(long, value_name = "SHARE")]
    disagreement_max: Option<f64>,
    /// The same in the output's unit.
    #[arg(long, value_name = "VALUE")]
    disagreement_absolute_max: Option<f64>,
    /// Do not judge this guard, such as shift_max; again for each.
    #[arg(long = "guard-off", value_name = "NAME")]
    guards_off: Vec<String>,
}

/// A time, and how much must have been seen in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Phase {
    duration: Duration,
    minimum: u64,
}

/// A share for a time.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Step {
    percent: f64,
    phase: Phase,
}

/// What keeps a caller on one side.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Sticky {
    /// The request's vehicle, else the call's metadata x-evserve-sticky-key, else nothing.
    #[default]
    Vehicle,
    /// The call's metadata x-evserve-sticky-key, else nothing.
    Call,
    /// Nothing: each request is on its own.
    None,
}

// === impl StartCommand ===

impl StartCommand {
    pub(super) async fn run(self, client: &Client, output: &Output) -> Result<Exit, Failure> {
        let plan = self.plan();
        let rollout = client.rollouts().start(&self.model, self.version, Some(plan)).await?;
        output.answer(&Json::new(text::MESSAGE, &rollout), || text::line(&rollout))?;
        output.advise(&format!("watch it with: evctl rollout watch {}", rollout.model));
        Ok(Exit::Ok)
    }

    fn plan(&self) -> RolloutPlan {
        let usual = self.shadow.is_none() && self.steps.is_empty() && self.bake.is_none();
        let minutes = |minutes: u64| Phase { duration: Duration::from_secs(60 * minutes), minimum: MINIMUM };
        let shadow = if usual { Some(minutes(10)) } else { self.shadow };
        let steps = match usual {
            true => [5.0, 25.0, 50.0].map(|percent| Step { percent, phase: minutes(10) }).to_vec(),
            false => self.steps.clone(),
        };
        let bake = if usual { minutes(10).duration } else { self.bake.unwrap_or_default() };
        let sticky_key = match self.sticky_key {
            Sticky::Vehicle => StickyKey::Vehicle,
            Sticky::Call => StickyKey::Call,
            Sticky::None => StickyKey::None,
        };
        let guards = RolloutGuards {
            minimum: self.guard_minimum,
            error_rate_increase_max: self.error_increase_max,
            latency_p99_ratio_max: self.latency_ratio_max,
            disagreement_relative_max: self.disagreement_max,
            disagreement_class_max: self.disagreement_max,
            disagreement_absolute_max: self.disagreement_absolute_max,
            off: self.guards_off.clone(),
            ..RolloutGuards::default()
        };
        RolloutPlan {
            shadow: shadow
                .map(|Phase { duration, minimum }| RolloutShadow { duration: proto(duration), minimum_pairs: minimum }),
            steps: steps
                .iter()
                .map(|Step { percent, phase }| RolloutStep {
                    percent: *percent,
                    duration: proto(phase.duration),
                    minimum_requests: phase.minimum,
                })
                .collect(),
            bake: proto(bake),
            sticky_key: sticky_key.into(),
            compare_percent: self.compare,
            cohort_by: self.cohort_by.clone(),
            guards: Some(guards),
        }
    }
}

fn proto(duration: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(duration).ok()
}

// === impl Phase ===

impl FromStr for Phase {
    type Err = String;

    fn from_str(text: &str) -> Result<Phase, String> {
        let (duration, minimum) = match text.split_once(':') {
            Some((duration, minimum)) => {
                let minimum = minimum.parse().map_err(|_| format!("`{minimum}` is no count, expected TIME:COUNT"))?;
                (duration, minimum)
            }
            None => (text, MINIMUM),
        };
        let duration = humantime::parse_duration(duration)
            .map_err(|_| format!("`{duration}` is no time, expected one such as 90s, 10m or 1h"))?;
        Ok(Phase { duration, minimum })
    }
}

// === impl Step ===

impl FromStr for Step {
    type Err = String;

    fn from_str(text: &str) -> Result<Step, String> {
        let (percent, phase) =
            text.split_once(':').ok_or_else(|| "expected PERCENT:TIME, such as 5:10m or 5:10m:2000".to_owned())?;
        let number = percent.trim_end_matches('%');
        let percent =
            number.parse().map_err(|_| format!("`{percent}` is no share, expected percent such as 5 or 0.5"))?;
        Ok(Step { percent, phase: phase.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        start: StartCommand,
    }

    fn plan(arguments: &[&str]) -> RolloutPlan {
        let line = ["start", "ev-range", "4"].iter().chain(arguments);
        Line::try_parse_from(line).expect("a line").start.plan()
    }

    #[test]
    fn steps_are_read() {
        let check = |text: &str, expected: Result<(f64, u64, u64), &str>| {
            let found =
                text.parse::<Step>().map(|step| (step.percent, step.phase.duration.as_secs(), step.phase.minimum));
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        };
        check("5:10m", Ok((5.0, 600, 1_000)));
        check("0.5%:1h:20", Ok((0.5, 3_600, 20)));
        check("5", Err("expected PERCENT:TIME, such as 5:10m or 5:10m:2000"));
        check("x:10m", Err("`x` is no share, expected percent such as 5 or 0.5"));
        check("5:x", Err("`x` is no time, expected one such as 90s, 10m or 1h"));
        check("5:1h:x", Err("`x` is no count, expected TIME:COUNT"));
    }

    #[test]
    fn a_plan_is_the_usual_one_or_what_is_named() {
        let usual = plan(&[]);
        assert_eq!(usual.steps.iter().map(|step| step.percent).collect::<Vec<_>>(), [5.0, 25.0, 50.0]);
        assert!(usual.shadow.is_some() && usual.bake.is_some_and(|bake| bake.seconds == 600));
        let named = plan(&["--step", "10:1m", "--disagreement-max", "0.02", "--guard-off", "shift_max"]);
        assert!(named.shadow.is_none() && named.steps.len() == 1);
        let guards = named.guards.expect("guards");
        assert_eq!((guards.disagreement_relative_max, guards.off), (Some(0.02), vec!["shift_max".to_owned()]));
    }
}
